"""SQL over a schema: SQLite itself says which statements are right."""

from __future__ import annotations

import gzip
import json
import random
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import genctl
from genctl.automata.base import DEAD, accepts, run
from genctl.compilers.sql.automaton import SqlAutomaton
from genctl.compilers.sql.database import open_database
from genctl.compilers.sql.parser import Grammar
from genctl.compilers.sql.schema import ddl, of_sqlite
from genctl.compilers.sql.words import FUNCTIONS, KEYWORDS, RESERVED
from genctl.constraints.base import unpack, words
from genctl.constraints.budget import Budget, within
from genctl.constraints.sql import Query
from genctl.vocabulary import Vocabulary
from tests import naive
from tests.sql_statements import check_ways, content, next_tokens, random_statement, refused_at, why_not

TABLES = {
    "a": {"id": "INTEGER", "name": "TEXT", "x": "REAL"},
    "b": {"id": "INTEGER", "y": "INTEGER", "name": "TEXT"},
    "c": {"zed": "INTEGER", "my col": "TEXT", "x": "INTEGER"},
}
SHOP = """
CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT, city TEXT);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER, total REAL);
CREATE INDEX cities ON customers (city);
CREATE VIEW large AS SELECT id, total FROM orders WHERE total > 100;
"""


def empty(tables=TABLES) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.executescript(ddl(tables))
    return connection


ORACLE = empty()
RULE = genctl.sql(TABLES)
FORWARD = genctl.sql(TABLES, forward=True)


# -- statements, one by one

ACCEPTED = """
select * from a
SELECT a.*, b.y FROM a JOIN b ON a.id = b.id;
SELECT T1.name FROM a AS T1 LEFT OUTER JOIN b T2 USING (id, name)
SELECT name FROM a JOIN b USING (id, name) WHERE id = 1
SELECT name, id FROM a NATURAL JOIN b
SELECT count(*), count(DISTINCT name), max(x), max(x, 1), group_concat(name, ',') FROM a
SELECT name FROM a WHERE x BETWEEN 1 AND 2.5e3 AND name NOT LIKE '%o''k%' OR x IS NOT NULL AND NOT x ISNULL
SELECT name FROM a WHERE x IN (1, .5, -3) OR name IN (SELECT name FROM b WHERE b.id = a.id)
SELECT name FROM a WHERE EXISTS (SELECT 1 FROM b WHERE y = x) ORDER BY name COLLATE NOCASE DESC NULLS LAST, 1 LIMIT 3
SELECT (SELECT max(y) FROM b WHERE b.id = T9.id) FROM a AS T9
SELECT CASE x WHEN 1 THEN 'one' ELSE cast(x AS TEXT) || '!' END AS words FROM a GROUP BY words HAVING count(*) > 1
SELECT name, count(*) AS n FROM a GROUP BY 1 ORDER BY n DESC, count(*) LIMIT 10 OFFSET 5
SELECT name FROM a WHERE name = "Rome" AND "x" > 1 AND [id] = `id`
SELECT name FROM a UNION ALL SELECT name FROM b EXCEPT SELECT 'x' ORDER BY name, 1
WITH q AS (SELECT name, count(*) AS n FROM a GROUP BY name), r (one, two) AS (SELECT * FROM q) SELECT r.two, n FROM q, r
SELECT x FROM (SELECT x FROM a) WHERE x = 1
SELECT T1.name FROM (SELECT name, id FROM a UNION SELECT name, id FROM b) AS T1 JOIN c ON T1.id = zed
SELECT "my col" FROM c WHERE c."my col" = 'x'
SELECT DISTINCT a.name FROM a,b AS q WHERE 1=1
SELECT T1.name AS name FROM a AS T1 JOIN b AS T2 ORDER BY name
select(x)from(select x from a)where'a'<>x
SELECT x FROM a WHERE max(x, 1) > 2
SELECT 1
""".strip().splitlines()

# SQLite refuses these.
REFUSED = """
SELECT nmae FROM a
SELECT y FROM a
SELECT name FROM a JOIN b
SELECT T1.name FROM a
SELECT a.name FROM a AS T1
SELECT T1.y FROM a AS T1
SELECT name FROM nowhere
SELECT name FROM a WHERE y = 1
SELECT name FROM a ORDER BY y
SELECT T1.name FROM a AS T1 JOIN b AS T2 ORDER BY name
SELECT name FROM a WHERE count(*) > 1
SELECT sum(count(*)) FROM a
SELECT name FROM a ORDER BY count(*)
SELECT count(*) AS n FROM a WHERE n > 1
SELECT count(*) AS n FROM a GROUP BY n
SELECT abs(x, 1) FROM a
SELECT coalesce(x) FROM a
SELECT sum(DISTINCT x, 1) FROM a
SELECT nosuch(x) FROM a
SELECT name, x FROM a UNION SELECT name FROM b
SELECT * FROM a UNION SELECT name FROM b
SELECT name FROM a WHERE x IN (SELECT x, name FROM a)
SELECT name FROM a ORDER BY 2
SELECT name FROM a GROUP BY x ORDER BY -1
SELECT name FROM a UNION SELECT name FROM b ORDER BY y
SELECT name FROM a LIMIT 1 WHERE x = 1
SELECT name WHERE x = 1 FROM a
SELECT * FROM a NATURAL JOIN b ON a.id = b.id
SELECT x FROM a JOIN b USING (x)
SELECT EXISTS (SELECT 1 ORDER BY x) FROM a
SELECT x FROM a, (SELECT x)
SELECT *
SELECT 12abc FROM a
SELECT x -- FROM a
SELECT x FROM a; SELECT 1
WITH q (n, m) AS (SELECT 1) SELECT n FROM q
WITH q AS (SELECT x FROM q) SELECT x FROM q
""".strip().splitlines()

# SQLite takes these; docs/sql.md lists them.
LEFT_OUT = """
VALUES (1)
SELECT rowid FROM a
SELECT main.a.x FROM a
SELECT x FROM main.a
SELECT x AS "two words" FROM a
SELECT x y FROM a
SELECT x FROM a AS T, b AS T
SELECT count(*) FROM a HAVING count(*) > 1
SELECT x FROM a WHERE name LIKE 'a' ESCAPE '!'
SELECT count(*) OVER () FROM a
SELECT sum(T1.x + (SELECT 1)) FROM a AS T1
SELECT x FROM a WHERE (x, 1) IN (SELECT 1, 2)
SELECT x FROM a ORDER BY +x
SELECT x FROM a LIMIT 1 + 1
SELECT x FROM a RIGHT JOIN b ON 1
SELECT x FROM a /* all */
SELECT 0x10
SELECT x IS DISTINCT FROM 1 FROM a
WITH RECURSIVE q AS (SELECT 1) SELECT * FROM q
SELECT n FROM (SELECT count(*) AS n FROM a)
SELECT customers.x FROM a AS customers
""".strip().splitlines()


@pytest.mark.parametrize("statement", ACCEPTED)
def test_a_statement_of_the_language_is_accepted_and_so_it_is_by_sqlite(statement):
    assert why_not(ORACLE, statement) is None
    assert RULE.accepts(statement), RULE.explain_text(statement)


@pytest.mark.parametrize("statement", REFUSED)
def test_what_sqlite_refuses_is_refused(statement):
    if ";" not in statement and "--" not in statement:
        assert why_not(ORACLE, statement) is not None
    assert not RULE.accepts(statement)
    assert not FORWARD.accepts(statement)


@pytest.mark.parametrize("statement", LEFT_OUT)
def test_statements_that_are_left_out_of_the_language_are_refused_though_sqlite_takes_them(statement):
    assert why_not(ORACLE, statement) is None
    assert not RULE.accepts(statement)


def test_a_name_may_be_used_before_the_sub_select_that_makes_it_where_that_is_allowed():
    assert FORWARD.accepts("SELECT n FROM (SELECT count(*) AS n FROM a)")
    assert FORWARD.accepts("SELECT customers.x FROM a AS customers")
    assert not FORWARD.accepts("SELECT m FROM (SELECT count(*) AS n FROM a)")


@pytest.mark.parametrize(("text", "refused"), [
    ("SELECT nmae FROM a", "SELECT nmae"),
    ("SELECT name FROM c WHERE 1", "SELECT name FROM c WHER"),
    ("SELECT T1.name FROM c AS T1", "SELECT T1.name FROM c AS T1 "),
    ("SELECT x FROM a, c", "SELECT x FROM a, c"),
    ("SELECT id FROM a WHERE y", "SELECT id FROM a WHERE y"),
    ("SELECT count(x,", "SELECT count(x,"),
    ("SELECT x FROM a UNION SELECT 1,", "SELECT x FROM a UNION SELECT 1,"),
])  # fmt: skip
def test_a_text_is_refused_where_no_statement_goes_on_like_it_and_not_before(text, refused):
    assert refused_at(RULE.automaton, text) == len(refused)


# -- random statements


SCHEMA = of_sqlite(ORACLE)
AUTOMATA = {forward: SqlAutomaton(Grammar(SCHEMA, forward=forward)) for forward in (False, True)}


def weight(text: str | None) -> float:
    if text in FUNCTIONS:
        return 0.1
    return 4 if text in ("from", "select", "where", "group", "order", "union") else 1


@settings(max_examples=15)
@given(st.integers(0, 10**9), st.booleans(), st.integers(3, 25))
def test_a_random_statement_of_the_language_is_accepted_by_sqlite_and_none_of_its_beginnings_is_refused(
    seed, forward, length
):
    automaton = AUTOMATA[forward]
    statement = random_statement(automaton, seed, length, weight)
    assert why_not(ORACLE, statement) is None, statement
    assert accepts(automaton, statement.encode()), statement


@pytest.mark.nightly
@settings(max_examples=4)
@given(st.integers(0, 10**9), st.booleans())
def test_from_every_beginning_the_way_to_the_end_is_as_long_as_said_and_leads_there(seed, forward):
    automaton = AUTOMATA[forward]
    assert check_ways(automaton, random_statement(automaton, seed, 12, weight)) != DEAD


@settings(max_examples=15)
@given(st.integers(0, 10**9), st.data())
def test_what_a_changed_statement_is_refused_for_sqlite_refuses_or_the_language_leaves_out(seed, data):
    """Where a text is accepted, SQLite accepts it: also when it was not made by the grammar."""
    statement = random_statement(AUTOMATA[False], seed, 12, weight)
    parts = re.findall(r"\S+", statement)
    at = data.draw(st.integers(0, len(parts) - 1))
    other = data.draw(st.sampled_from([*parts, "x", "y", "name", "t1", ",", ")", "from", "max", "*", "1", ""]))
    changed = " ".join([*parts[:at], other, *parts[at + 1 :]])
    assert not RULE.accepts(changed) or why_not(ORACLE, changed) is None


@pytest.mark.parametrize("level", ["x = (SELECT max(x) FROM a WHERE ", "(", "abs("])
def test_statements_that_nest_as_deep_as_they_may_fit_on_the_stack_of_sqlites_parser(level):
    automaton, deep = AUTOMATA[False], "SELECT x FROM a WHERE "
    while run(automaton, automaton.start, (deep + level).encode()) != DEAD:
        deep += level
    way = automaton.completion(run(automaton, automaton.start, deep.encode()))
    assert why_not(ORACLE, deep + way.decode()) is None


OPENING = {
    **dict.fromkeys(("(", "select", "not", "+", "||", "<"), 8),
    **dict.fromkeys(("or", "and", "between", "*", "case", "exists", "in", "is", "where", "by"), 4),
    **dict.fromkeys(("cast", "max", "from", "order", "group", "having", "union", "&", "-", "=", "7", ","), 2),
    **dict.fromkeys((")", "a", "b", "x", "then", "when", "end", "as", "int"), 0.2),
}


def deep_statement(grammar: Grammar, seed: int) -> tuple[str, int]:
    """A statement that opens what it can, and the most symbols that were counted."""
    rng, place, texts, most = random.Random(seed), grammar.start, list[str](), 0
    for _ in range(70):
        may = [
            (text, after) for text, after in next_tokens(grammar, place, rng) if text in OPENING and after is not None
        ]
        if not may:
            break
        text, place = rng.choices(may, [OPENING[text] for text, _ in may])[0]
        texts.append(text)
        most = max(most, place.height if place.expr is None else place.expr.height)
    automaton, begun = AUTOMATA[grammar.forward], " ".join(texts)
    return begun + automaton.completion(run(automaton, automaton.start, begun.encode())).decode(), most


def test_the_deepest_statements_fit_on_the_stack_of_sqlites_parser():
    deepest = 0
    for seed in range(40):
        statement, height = deep_statement(AUTOMATA[False].grammar, seed)
        assert why_not(ORACLE, statement) is None, statement
        deepest = max(deepest, height)
    assert deepest > 80


def test_a_statement_that_would_overflow_the_stack_of_sqlites_parser_is_refused():
    for deep in (
        "SELECT " + "1 = NOT " * 60 + "1",
        "SELECT " + "1 OR 1 AND NOT 1 BETWEEN 1 AND 1 < 1 & 1 + 1 * 1 || - (" * 6 + "1" + ")" * 6,
    ):
        assert "stack overflow" in (why_not(ORACLE, deep) or "stack overflow")  # from 3.46 on the stack grows
        assert not RULE.accepts(deep)
    assert RULE.accepts(
        "SELECT x FROM a WHERE x IN (SELECT max(x) FROM a WHERE x IN (SELECT x FROM a WHERE x = (SELECT 1)))"
    )


@pytest.mark.parametrize(
    ("level", "deepest"), [("x = (SELECT x FROM a WHERE ", 4), ("x IN (SELECT x FROM a WHERE ", 5)]
)
def test_so_many_sub_selects_fit_in_each_other(level, deepest):
    for count in range(1, deepest + 2):
        assert RULE.accepts(f"SELECT x FROM a WHERE {level * count}1{')' * count}") == (count <= deepest)


def test_a_function_has_no_more_arguments_than_sqlite_takes():
    for count in (127, 128):
        statement = f"SELECT max({', '.join(['1'] * count)})"
        assert RULE.accepts(statement) == (why_not(ORACLE, statement) is None) == (count == 127)


def test_keywords_outside_of_the_list_are_names_of_columns_without_quotes():
    for word in sorted(KEYWORDS - RESERVED):
        connection = empty({"t": [word, "other"]})
        for text in (
            f"SELECT {word}, t.{word}, 1 + {word} FROM t WHERE {word} = 1 ORDER BY {word} DESC",
            f"SELECT CASE {word} WHEN {word} THEN {word} ELSE {word} END, count({word}) FROM t GROUP BY {word}",
            f"SELECT other FROM t WHERE NOT {word} BETWEEN {word} AND {word}",
        ):
            assert why_not(connection, text) is None
            assert genctl.sql(connection).accepts(text)


# -- Spider


@pytest.fixture(scope="module")
def spider(data):
    with gzip.open(data / "spider-dev.json.gz") as file:
        content = json.load(file)
    connections = {}
    for schema in content["schemas"]:
        columns = list(zip(schema["column_names_original"], schema["column_types"], strict=True))
        tables = {
            table: {name: kind for (owner, name), kind in columns if owner == i}
            for i, table in enumerate(schema["table_names_original"])
            if not table.startswith("sqlite_")  # the name of a table that SQLite keeps for itself
        }
        connections[schema["db_id"]] = empty(tables)
    rules = {name: genctl.sql(connection) for name, connection in connections.items()}
    return content["questions"], connections, rules


def test_every_gold_query_is_accepted_and_no_beginning_of_one_is_refused(spider):
    questions, connections, rules = spider
    assert len(questions) == 454
    for question in questions:
        query, name = question["query"], question["db_id"]
        assert why_not(connections[name], query) is None  # so none of them needs to be normalised
        assert rules[name].accepts(query), (query, str(rules[name].explain_text(query)))


def mutants(query: str, names: list[str], rng: random.Random) -> Iterator[str]:
    """The query with a wrong column, table, alias, order of clauses, number of arguments."""
    words_ = [found for found in re.finditer(r"[A-Za-z_][A-Za-z_0-9]*", query) if found[0].lower() not in KEYWORDS]
    for found in rng.sample(words_, min(4, len(words_))):
        yield query[: found.start()] + rng.choice([*names, found[0] + "s", found[0][::-1]]) + query[found.end() :]
    for found in re.finditer(r"\bT(\d)\b", query):
        yield query[: found.start()] + f"T{rng.randrange(1, 6)}" + query[found.end() :]
    clauses = re.split(r"(?i)\b(?=FROM|WHERE|GROUP BY|ORDER BY|LIMIT)", query)
    if len(clauses) > 2:
        at = rng.randrange(len(clauses) - 1)
        clauses[at : at + 2] = clauses[at + 1], " " + clauses[at] + " "
        yield "".join(clauses)
    yield re.sub(r"(?i)\b(count|avg|min|max|sum)\s*\(", lambda found: f"{found[0]}1, 2, ", query, count=1)


def test_mutants_that_sqlite_refuses_are_refused(spider):
    questions, connections, rules = spider
    rng, tested = random.Random(0), 0
    for question in rng.sample(questions, 150):
        connection, rule = connections[question["db_id"]], rules[question["db_id"]]
        names = sorted({name for table in rule.grammar.schema.tables.values() for name in (table.name, *table.names)})
        for mutant in mutants(question["query"], names, rng):
            if mutant != question["query"] and why_not(connection, mutant) is not None:
                assert not rule.accepts(mutant), mutant
                tested += 1
    assert tested >= 300


# -- in tokens


@pytest.fixture(scope="module")
def toy():
    return genctl.load("toy")


PIECES = (
    *(
        "sel",
        "SELECT",
        "select ",
        " from",
        "from a",
        "na",
        "name",
        " T",
        "1",
        "t1.",
        ".x",
        " as",
        " AS n",
        " wher",
        "e ",
    ),
    *("x", "y", "'", "it''s", "=", "'=", "count(", "*)", ")", ",", " a", "\n", "(select ", '"', '"name', " b"),
)


def vocabulary() -> Vocabulary:
    tokens = [bytes([i]) for i in range(256)] + [piece.encode() for piece in PIECES] + [b"<eos>", b""]
    return Vocabulary(tuple(tokens), eos=frozenset({len(tokens) - 2}))


@pytest.mark.nightly
@pytest.mark.parametrize("budget", [None, 12])
def test_the_laws_of_constraints_hold(budget):
    words_ = vocabulary()
    size = len(words_)
    constraint = RULE.bind(words_)
    if budget is not None:
        constraint, held = within(constraint, budget)
        assert held is constraint
    rng = np.random.default_rng(0)
    for _ in range(2):
        state = constraint.start()
        for _ in range(40):  # without a budget a text may go on for ever
            packed = np.full(words(size), 0xFFFFFFFF, np.uint32)
            constraint.mask(state, packed)
            mask = unpack(packed, 32 * words(size))
            assert not mask[size:].any()
            np.testing.assert_array_equal(mask[:size], naive.mask(constraint, state, size))
            each = constraint.allows_each(np.full(size, state), np.arange(size))
            np.testing.assert_array_equal(each, mask[:size])
            candidates = constraint.candidates(state)
            assert candidates is not None
            assert not (mask[:size] & ~unpack(candidates, size)).any()
            assert mask[list(words_.eos)].all() == constraint.complete(state)
            options = [t for t in np.flatnonzero(mask).tolist() if t not in words_.eos]
            weights = np.array([1.0 if t < 256 else 20.0 for t in options])
            if not options:
                break
            state = constraint.advance(state, int(rng.choice(options, p=weights / weights.sum())))
        assert state == 0 or constraint.complete(state) or budget is None


@pytest.mark.parametrize(
    "begun", ["SELECT ", "SELECT t", "SELECT t1.id FROM a", "SELECT t1.id FROM a AS ", "SELECT 1 AS n"]
)
@pytest.mark.parametrize("rule", [RULE, FORWARD])
def test_where_a_name_is_free_the_mask_under_a_budget_is_what_is_allowed_token_by_token(rule, begun):
    words_ = vocabulary()
    inner = rule.bind(words_)
    for left in range(1, 16):
        constraint, _ = within(inner, len(begun) + left)
        state = constraint.start()
        for byte in begun.encode():
            state = constraint.advance(state, byte)
        if not state:
            continue
        packed = np.zeros(words(len(words_)), np.uint32)
        constraint.mask(state, packed)
        np.testing.assert_array_equal(unpack(packed, len(words_)), naive.mask(constraint, state, len(words_)))


def test_a_star_whose_columns_no_source_can_make_up_is_refused():
    automaton = RULE.automaton
    for depth in range(1, 9):
        text = "SELECT x FROM (" * depth + "SELECT 1 UNION SELECT *"
        state = run(automaton, automaton.start, text.encode())
        assert (state == DEAD) == (depth > 6)
        assert automaton.accepts(run(automaton, state, automaton.completion(state))) == (depth <= 6)


@pytest.mark.parametrize("begin", ["SELECT c.* FROM", "SELECT c.* FROM a, b,", "SELECT c.* FROM a, c AS d,"])
@pytest.mark.parametrize("before", ["SELECT x FROM a WHERE x IN (", "SELECT 1, 2 UNION "])
def test_a_sub_select_makes_up_the_columns_of_a_star(before, begin):
    automaton, text = RULE.automaton, before + begin
    state = run(automaton, automaton.start, text.encode())
    assert state != DEAD
    assert why_not(ORACLE, text + automaton.completion(state).decode()) is None


@pytest.mark.nightly
def test_a_budget_never_ends_in_a_dead_end():
    constraint, budget = within(RULE.bind(vocabulary()), 10)
    assert isinstance(budget, Budget)
    fewest, _ = budget.fewest()
    assert fewest <= 10
    rng = np.random.default_rng(1)
    for _ in range(3):
        state, count = constraint.start(), 0
        while not (constraint.complete(state) and (rng.random() < 0.1 or count == 10)):
            packed = np.zeros(words(len(vocabulary())), np.uint32)
            constraint.mask(state, packed)
            options = [t for t in np.flatnonzero(unpack(packed, len(vocabulary()))).tolist() if t != 256 + len(PIECES)]
            assert options, "something can go on"
            state, count = constraint.advance(state, int(rng.choice(options))), count + 1
        assert count <= 10


def test_what_is_generated_is_a_statement_that_sqlite_accepts(toy):
    texts = [toy.generate("SQL: ", RULE, max_new_tokens=30, seed=seed) for seed in range(8)]
    assert {g.finish_reason for g in texts} <= {"complete", "wrapped_up"}
    assert all(why_not(ORACLE, g.text) is None for g in texts)
    assert all(g.value == Query(g.text, RULE.database) for g in texts)


def test_a_statement_joins_other_rules(toy):
    assert ("SQL: " + RULE).accepts("SQL: SELECT x FROM a")
    assert (RULE | "none").accepts("none")
    short = RULE & (lambda text, done: len(text) < 60)
    assert len(toy.generate("SQL: ", short, max_new_tokens=20, num_particles=4, seed=0).text) < 60


def test_the_database_is_asked_about_finished_statements(toy):
    rule = genctl.sql(TABLES, explain=True)
    assert rule.accepts("SELECT x FROM a")
    assert not rule.accepts("SELECT y FROM a")
    g = toy.generate("SQL: ", rule, max_new_tokens=20, num_particles=2, seed=0)
    assert why_not(ORACLE, g.value.sql) is None


# -- sources


def shop() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    connection.executescript(SHOP)
    connection.executemany("INSERT INTO customers VALUES (?, ?, ?)", [(1, "Ann", "Rome"), (2, "Bob", "Oslo")])
    connection.executemany("INSERT INTO orders VALUES (?, ?, ?)", [(1, 1, 9.5), (2, 1, 120.0), (3, 2, 30.0)])
    connection.commit()
    return connection


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as copy:
        shop().backup(copy)
    copy.close()
    return path


def test_a_file_a_connection_an_engine_and_a_schema_are_read_alike(file):
    sqlalchemy = pytest.importorskip("sqlalchemy")
    engine = sqlalchemy.create_engine(f"sqlite:///{file}")
    columns = {"customers": ["id", "name", "city"], "orders": ["id", "customer_id", "total"], "large": ["id", "total"]}
    for source in (file, str(file), shop(), SHOP, engine, columns):
        rule = genctl.sql(source)
        assert {name: list(table.names) for name, table in rule.grammar.schema.tables.items()} == columns
        assert rule.accepts("SELECT city, total FROM customers JOIN orders ON customers.id = customer_id")
        assert rule.accepts("SELECT total FROM large")


def test_functions_of_a_connection_may_be_called_with_their_number_of_arguments():
    connection = shop()
    connection.create_function("distance", 2, lambda a, b: abs(a - b))
    rule = genctl.sql(connection)
    assert rule.accepts("SELECT distance(total, 3) FROM orders")
    assert not rule.accepts("SELECT distance(total) FROM orders")
    assert rule.value("SELECT distance(total, 10) FROM orders LIMIT 1").rows() == [(0.5,)]


def test_only_the_tables_that_are_given_may_be_used(file):
    rule = genctl.sql(file, tables=["orders"])
    assert rule.accepts("SELECT id FROM orders")
    assert not rule.accepts("SELECT id FROM customers")
    with pytest.raises(genctl.ConstraintError, match="no table 'custommers'"):
        genctl.sql(file, tables=["custommers"])


def test_sqlite_s_own_tables_are_left_out_wherever_they_come_from(tmp_path):
    path = tmp_path / "own.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT)")
        assert connection.execute("SELECT * FROM sqlite_sequence").fetchall() == []
    for source in (path, {"t": ["id"], "sqlite_sequence": ["name", "seq"]}):
        assert list(genctl.sql(source).grammar.schema.tables) == ["t"]


@pytest.mark.parametrize(("source", "reason"), [
    ("nowhere.db", "no file"), (17, "no database"), ({"t": "id"}, "columns of 't'"), ({"t": [1]}, "columns of 't'"),
    ("CREATE TABLE t (", "does not take this schema"), ("CREATE TABLE t (x); DELETE FROM t", "not authorized"),
    ({}, "no tables"), ("", "is a directory"), ("a\0b", "no file"), (None, "no database"), ({1: ["a"]}, "named 1"),
    ({"t": 5}, "columns of 't'"), ({"t": []}, "columns of 't'"), ({"t": {"a": None}}, "columns of 't'"),
    ({"t": ["a", "A"]}, "duplicate column"), ({"t": ["a"], "T": ["b"]}, "already exists"), ({"t\0": ["a"]}, "null"),
    ({"t\udc80": ["a"]}, "surrogates"), ("CREATE TABLE t (x); INSERT INTO t VALUES (1)", "not authorized"),
    ("CREATE TABLE t (x); ATTACH 'x' AS y", "not authorized"),
    ("CREATE TABLE t AS WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x FROM c) SELECT * FROM c", "interrupted"),
])  # fmt: skip
def test_a_source_that_cannot_be_used_is_refused_with_the_reason(source, reason):
    with pytest.raises(genctl.ConstraintError, match=reason):
        genctl.sql(source)


def test_a_closed_connection_is_refused():
    connection = empty()
    connection.close()
    with pytest.raises(genctl.ConstraintError, match="closed"):
        genctl.sql(connection)


def test_a_file_whose_path_reads_like_a_definition_is_read(tmp_path):
    path = tmp_path / "create table.db"
    sqlite3.connect(path).execute("CREATE TABLE t (a)").connection.close()
    assert genctl.sql(str(path)).accepts("SELECT a FROM t")


def test_a_view_that_cannot_be_read_is_left_out_with_a_warning():
    connection = empty({"t": ["a"], "u": ["b"]})
    connection.executescript("CREATE VIEW v AS SELECT b FROM u; DROP TABLE u")
    with pytest.warns(genctl.GenctlWarning, match="view 'v' is left out"):
        rule = genctl.sql(connection)
    assert set(rule.grammar.schema.tables) == {"t"}


def test_names_mean_what_the_connection_finds_under_them():
    connection = empty({"t": ["a"], "u": ["a"]})
    connection.executescript(
        "CREATE TEMP TABLE t (b); ATTACH ':memory:' AS o; CREATE TABLE o.u (c); CREATE TABLE o.w (d)"
    )
    columns = {name: table.names for name, table in genctl.sql(connection).grammar.schema.tables.items()}
    assert columns == {"t": ("b",), "u": ("a",), "w": ("d",)}
    for name, (column,) in columns.items():
        assert why_not(connection, f"SELECT {column} FROM {name}") is None


def test_a_full_text_table_is_one_table_that_can_be_read():
    connection = empty({"t": ["a"]})
    try:
        connection.executescript("CREATE VIRTUAL TABLE f USING fts5 (x); INSERT INTO f VALUES ('hello')")
    except sqlite3.OperationalError:
        pytest.skip("this SQLite has no fts5")
    rule = genctl.sql(connection)
    assert set(rule.grammar.schema.tables) == {"t", "f"}
    assert rule.value("SELECT x FROM f").rows() == [("hello",)]


@pytest.mark.parametrize("factory", [sqlite3.Row, lambda cursor, row: {"row": row}])
def test_a_connection_may_make_rows_and_texts_of_any_kind(factory):
    connection = shop()
    connection.row_factory, connection.text_factory = factory, bytes
    assert genctl.sql(connection).value("SELECT name FROM customers").rows(limit=1) == [("Ann",)]
    assert (connection.row_factory, connection.text_factory) == (factory, bytes)


def test_arguments_of_the_wrong_kind_are_refused():
    for wrong in ({"tables": 5}, {"tables": []}, {"forward": "no"}, {"explain": 2}):
        with pytest.raises(genctl.ConstraintError, match=next(iter(wrong))):
            genctl.sql(TABLES, **wrong)


def test_a_file_that_is_no_database_is_refused(tmp_path):
    path = tmp_path / "text.db"
    path.write_text("this is no database, though it is long enough to be read as one" * 20)
    with pytest.raises(genctl.ConstraintError, match="cannot be read as a SQLite database"):
        genctl.sql(path)


def test_the_statement_is_written_in_other_dialects():
    pytest.importorskip("sqlglot")
    query = RULE.value("SELECT ifnull(x, 0) FROM a")
    assert query.to("postgres") == query.to("duckdb") == "SELECT COALESCE(x, 0) FROM a"
    with pytest.raises(genctl.ArgumentError, match="nodialect"):
        query.to("nodialect")


# -- rows


HOSTILE = [
    "DELETE FROM customers",
    "UPDATE customers SET name = 'x'",
    "INSERT INTO customers VALUES (9, 'x', 'y')",
    "DROP TABLE customers",
    "CREATE TABLE t (x)",
    "CREATE TEMP TABLE t (x)",
    "ALTER TABLE customers RENAME TO c",
    "PRAGMA writable_schema = 1",
    "PRAGMA query_only = 0",
    "ATTACH ':memory:' AS other",
    "VACUUM",
    "VACUUM INTO '/tmp/copy.db'",
    "REINDEX",
    "ANALYZE",
    "BEGIN",
    "COMMIT",
    "SAVEPOINT s",
    "SELECT load_extension('x')",
    "SELECT 1; DELETE FROM customers",
    "WITH q AS (SELECT 1) DELETE FROM customers",
    "REPLACE INTO customers VALUES (1, 'x', 'y')",
    "EXPLAIN DELETE FROM customers",
    "DELETE FROM customers RETURNING *",
]


@pytest.mark.parametrize("statement", HOSTILE)
def test_a_statement_never_writes(statement, file):
    connection = shop()
    for source in (connection, file):
        query = Query(statement, genctl.sql(source).database)
        before = content(sqlite3.connect(file) if source is file else connection)
        with pytest.raises(genctl.QueryError):
            query.rows()
        assert content(sqlite3.connect(file) if source is file else connection) == before
    connection.execute("DELETE FROM orders")  # what its owner does is as free as before


WRITES = [
    *("DELETE FROM", "UPDATE", "INSERT INTO", "DROP TABLE", "PRAGMA", "ATTACH", "CREATE", "customers", "orders", "SET"),
    *("name = 'x'", "VALUES", "(1, 'a', 'b')", ";", "SELECT", "1", "*", "FROM", "RETURNING", "WITH q AS", "BEGIN"),
]


@given(st.lists(st.sampled_from(WRITES), min_size=1, max_size=7).map(" ".join))
def test_no_text_writes(statement):
    connection = shop()
    before = content(connection)
    with suppress(genctl.QueryError):
        Query(statement, open_database(connection)).rows(limit=5, timeout=1.0)
    assert content(connection) == before
    assert not connection.in_transaction


def test_rows_have_names_of_columns_and_a_limit():
    query = genctl.sql(shop()).value("SELECT name, total FROM customers JOIN orders ON customer_id = customers.id")
    assert query.rows().columns == ("name", "total")
    assert query.rows() == [("Ann", 9.5), ("Ann", 120.0), ("Bob", 30.0)]
    assert query.rows(limit=1) == [("Ann", 9.5)]
    assert query.rows(limit=0) == []
    assert query.rows(limit=10**30) == query.rows()
    for wrong in (-1, "2", True, 1.5, float("inf")):
        with pytest.raises(genctl.ArgumentError, match="limit"):
            query.rows(limit=wrong)
    for wrong in (-1, "2", True, float("nan"), float("inf"), 10**400):
        with pytest.raises(genctl.ArgumentError, match="timeout"):
            query.rows(timeout=wrong)
    with pytest.raises(genctl.QueryError, match="not done within 0 seconds"):
        query.rows(timeout=0)


ENDLESS = "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"


def test_a_statement_that_takes_too_long_is_stopped(file):
    for source in (shop(), file):
        query = Query(ENDLESS, genctl.sql(source).database)
        with pytest.raises(genctl.QueryError, match=r"not done within 0\.05 seconds"):
            query.rows(timeout=0.05)


def test_a_function_makes_no_value_that_is_too_big_for_the_clock():
    with pytest.raises(genctl.QueryError, match="too big"):
        Query("SELECT zeroblob(1000000000)", genctl.sql(shop()).database).rows(timeout=1.0)


def test_a_schema_has_no_rows():
    with pytest.raises(genctl.QueryError, match="no rows"):
        RULE.value("SELECT 1").rows()


# -- faults


@pytest.mark.parametrize(("text", "column", "kind", "nearest"), [
    ("SELECT nmae FROM customers", 8, "column", "name"),
    ("SELECT nam FROM customers", 8, "column", "name"),
    ("SELECT name FROM custmers", 18, "table", "customers"),
    ("SELECT total FROM customers", 8, "column", None),
    ("SELECT T1.totl FROM orders AS T1", 11, "column", "total"),
    ("SELECT T1.total FROM customers AS T1 WHERE 1", 11, "column", None),
    ("SELECT name FROM customers WHERE ctiy = 'Rome'", 34, "column", "city"),
    ("SELECT id FROM customers JOIN orders", 8, "column", None),
    ("SELECT name FORM customers", 13, "syntax", "from"),
    ("SELECT name", 12, "end", None),
    ("SELECT name FROM customers\nGROUP BY citty", 10, "column", "city"),
    ("SELECT name FROM", 17, "end", None),
    ("SELECT name FROM customers WHERE name lik 'A%'", 39, "syntax", "like"),
    ("SELECT cnt(id) FROM customers", 8, "function", "count"),
    ("SELECT name FROM customers WHERE count(*) > 1", 34, "syntax", None),
    ("SELECT custmers.name FROM customers", 8, "table", "customers"),
    ("SELECT T2.name FROM customers AS T1", 8, "table", None),
    ("SELECT name FROM customers AS T1 WHERE T2.id = 1", 40, "table", None),
    ("SELECT name FROM customers WHERE name = 'Ann", 41, "end", None),
    ("SELECT CASE WHEN id THEN 1 FROM customers", 28, "syntax", None),
    ("SELECT DISTINCT DISTINCT id FROM customers", 17, "syntax", None),
    ("SELECT id id FROM customers", 11, "syntax", None),
    ("selec name FROM customers", 1, "syntax", "select"),
    ("", 1, "end", None),
])  # fmt: skip
def test_a_fault_names_the_place_and_the_nearest_name(text, column, kind, nearest):
    fault = genctl.sql(SHOP).explain_text(text)
    assert (fault.column, fault.kind, fault.nearest) == (column, kind, nearest), str(fault)
    assert fault.line == 1 + text[: fault.offset].count("\n")


def test_a_fault_is_told_in_words():
    fault = genctl.sql(SHOP).explain_text("SELECT nmae FROM customers")
    assert str(fault) == 'line 1, column 8: no column "nmae"; did you mean "name"?'


@pytest.mark.parametrize("rule", [RULE, FORWARD])
@pytest.mark.parametrize(("call", "rest", "reason"), [
    ("row_number()", "OVER (PARTITION BY x)", "window functions are"),
    ("count(*)", "OVER (PARTITION BY x)", "window functions are"),
    ("lag(x, abs((1)))", "over w", "window functions are"),
    ("sum(x)", "FILTER (WHERE x > 1)", "FILTER is"),
])  # fmt: skip
def test_what_is_left_out_behind_a_call_is_named(rule, call, rest, reason):
    for begun, end in ("SELECT name, ", " FROM a"), ("SELECT name FROM a ORDER BY ", ""):
        fault = rule.explain_text(f"{begun}{call} {rest}{end}")
        assert (fault.offset, fault.kind) == (len(begun) + len(call) + 1, "syntax")
        assert fault.reason == f"{reason} not in this language"
    fault = rule.explain_text("SELECT name, nothere(x) FROM a")
    assert (fault.column, fault.reason) == (14, 'no function "nothere"')


def test_a_name_that_needs_quotes_is_said_to_need_them():
    fault = genctl.sql({"t": ["order", "naïve"]}).explain_text("SELECT naïve FROM t")
    assert str(fault) == 'line 1, column 8: "naïve" has to be written in quotes'
    assert genctl.sql({"t": ["order"]}).accepts('SELECT "order" FROM t')


def test_only_a_text_can_be_explained():
    for wrong in (None, 5, b"SELECT 1"):
        with pytest.raises(genctl.ArgumentError, match="text is"):
            RULE.explain_text(wrong)


def test_a_statement_has_no_fault():
    assert genctl.sql(SHOP).explain_text("SELECT name FROM customers") is None


@pytest.mark.real
@pytest.mark.nightly
def test_every_text_of_the_real_model_is_prepared_by_sqlite(spider):
    """100 of them over 5 databases."""
    questions, connections, rules = spider
    lm, asked = genctl.load(), Counter(question["db_id"] for question in questions)
    names = [name for name in sorted(connections) if asked[name] >= 20][:5]
    shots = "Tables: city(ID, Name, Code)\nQuestion: How many cities are there?\nSQL: SELECT count(*) FROM city\n"
    for name in names:
        tables = "; ".join(f"{t.name}({', '.join(t.names)})" for t in rules[name].grammar.schema.tables.values())
        for seed, question in enumerate([q for q in questions if q["db_id"] == name][:20]):
            prompt = f"{shots}Tables: {tables}\nQuestion: {question['question']}\nSQL: "
            g = lm.generate(prompt, rules[name], max_new_tokens=60, seed=seed)
            assert why_not(connections[name], g.value.sql) is None
    assert len(names) == 5
