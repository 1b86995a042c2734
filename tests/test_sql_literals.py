"""Literals by the type of what they are compared with, and values that a column has."""

from __future__ import annotations

import re
import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import genctl
from genctl.automata.base import DEAD, accepts, run
from genctl.compilers.sql.automaton import SqlAutomaton
from genctl.compilers.sql.parser import Grammar
from genctl.compilers.sql.schema import NUMBER, TEXT, literal_kind, of_sqlite
from tests.sql_statements import check_ways, random_statement, refused_at, why_not

TABLES = """
CREATE TABLE a (id INTEGER, name TEXT, born DATE, size REAL);
CREATE TABLE b (id TEXT, y INTEGER);
CREATE VIEW v AS SELECT name, size FROM a;
"""


def base() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.executescript(TABLES)
    connection.execute(
        "INSERT INTO a VALUES (1, 'Ann', '2001-01-01', 2), (2, 'it''s', '2002-02-02', 3), (3, 'it', NULL, 4)"
    )
    connection.execute("INSERT INTO b VALUES ('k', 1), ('é', 2)")
    return connection


ORACLE = base()
TYPED = genctl.sql(ORACLE, literals="typed", allow=("select", "insert", "update", "delete"))
VALUES = genctl.sql(ORACLE, values=True)
BOTH = genctl.sql(ORACLE, literals="typed", values={"a.name": ["Ann"], "B.id": True})

FITTING = """
SELECT name FROM a WHERE id = 5 AND name = 'x' AND born = 'x' AND born = 5 AND size < 2.5
SELECT name FROM a WHERE id IN (1, -2, NULL) OR name IN ('x', 'y') OR id BETWEEN 1 AND +2
SELECT name FROM a WHERE name LIKE '%x' OR id LIKE '1%' OR name BETWEEN 'a' AND 'b' AND id = 1
SELECT name FROM a WHERE name IS 'x' AND id IS NOT 5 AND id IS NOT NULL AND name NOT IN ('x')
SELECT name FROM a WHERE id + 1 = 'x' AND 'x' = id AND (id) = 'x' AND abs(id) = 'x' AND -id = 'x'
SELECT name = 'x' FROM a
SELECT id = 5 FROM a
SELECT id = 'x' FROM b
SELECT T1.id = 'x' FROM a AS T2, b AS T1
SELECT id = 'x' FROM (SELECT id FROM a)
SELECT sum(id = 5), sum(name = 'x') FROM a
SELECT CASE WHEN name = 'x' THEN 1 END FROM v
SELECT id AS n FROM a WHERE n = 'x'
SELECT y FROM b WHERE EXISTS (SELECT 1 FROM a WHERE y = 5 AND b.id = 'x')
SELECT y FROM b WHERE EXISTS (SELECT y = 5 FROM a)
SELECT name FROM a ORDER BY name = 'x'
SELECT name FROM a JOIN b ON a.id = b.y AND b.id = 'x'
INSERT INTO a (id, name) VALUES (1, 'x'), (NULL, NULL)
INSERT INTO a VALUES (-1, 'x', 1, 2.5)
UPDATE a SET id = 5, name = 'x' WHERE size > 3
""".strip().splitlines()

MISFIT = """
SELECT name FROM a WHERE id = 'x'
SELECT name FROM a WHERE name = 5
SELECT name FROM a WHERE size >= 'x'
SELECT name FROM a WHERE name <> +5
SELECT name FROM a WHERE id IN (1, 'x')
SELECT name FROM a WHERE id NOT IN ('x')
SELECT name FROM a WHERE id BETWEEN 'x' AND 2
SELECT name FROM a WHERE id BETWEEN 1 AND 'x'
SELECT name FROM a WHERE name LIKE 5
SELECT name FROM a WHERE name IS NOT 5
SELECT name FROM a WHERE name COLLATE nocase = 5
SELECT name FROM a WHERE a.id = 'x'
SELECT name FROM a WHERE id = "x"
SELECT id = 'x' FROM a
SELECT T1.id = 'x' FROM a AS T1
SELECT T1.id = 5 FROM a AS T2, b AS T1
SELECT name = 5 FROM v
SELECT sum(name = 5) FROM a
SELECT id = 5, id = 'x' FROM a
SELECT y FROM b WHERE EXISTS (SELECT 1 FROM a WHERE y = 'x')
SELECT y FROM b WHERE EXISTS (SELECT y = 'x' FROM a)
SELECT name FROM a JOIN b ON a.id = b.y AND b.id = 5
INSERT INTO a (id, name) VALUES ('x', 'x')
INSERT INTO a (id, name) VALUES (1, 5)
UPDATE a SET name = 5
UPDATE a SET id = 1 WHERE name = 5
DELETE FROM a WHERE name = 5
""".strip().splitlines()


@pytest.mark.parametrize("statement", FITTING)
def test_a_literal_of_the_kind_of_its_column_is_accepted(statement):
    assert why_not(ORACLE, statement) is None
    assert TYPED.accepts(statement), str(TYPED.explain_text(statement))


@pytest.mark.parametrize("statement", MISFIT)
def test_a_literal_of_another_kind_is_refused_though_sqlite_takes_it(statement):
    assert why_not(ORACLE, statement) is None
    assert genctl.sql(ORACLE, allow=("select", "insert", "update", "delete")).accepts(statement)
    assert not TYPED.accepts(statement)


@pytest.mark.parametrize(("text", "refused"), [
    ("SELECT name FROM a WHERE id = 'x'", "SELECT name FROM a WHERE id = '"),
    ("SELECT name FROM a WHERE name IN (5", "SELECT name FROM a WHERE name IN (5"),
    ("SELECT id = 'x' FROM a ", "SELECT id = 'x' FROM a"),  # before it, the table could have been b
    ("SELECT T1.id = 'x' FROM a T1 ", "SELECT T1.id = 'x' FROM a T1 "),
    ("SELECT id = 'x' FROM b AS T, a", "SELECT id = 'x' FROM b AS T, a"),
])  # fmt: skip
def test_it_is_refused_where_no_source_can_make_it_right_and_not_before(text, refused):
    assert refused_at(TYPED.automaton, text) == len(refused)


@pytest.mark.parametrize("declared", [
    "INTEGER", "int", "BIGINT", "varchar(20)", "TEXT", "clob", "CHARINT", "BLOB", "", "REAL", "double precision",
    "FLOAT", "NUMERIC", "decimal(10, 2)", "DATE", "BOOLEAN", "datetime",
])  # fmt: skip
def test_the_kind_of_a_column_follows_the_affinity_that_sqlite_gives_it(declared):
    connection = sqlite3.connect(":memory:")
    connection.execute(f"CREATE TABLE t (c {declared})")
    connection.execute("INSERT INTO t VALUES ('1'), (1)")
    stored = [kind for (kind,) in connection.execute("SELECT typeof(c) FROM t")]
    kind = literal_kind(declared)
    assert kind != TEXT or stored == ["text", "text"]
    assert kind != NUMBER or not set(stored) & {"text", "blob"}


@pytest.mark.parametrize(("rule", "text", "column", "nearest"), [
    (TYPED, "SELECT name FROM a WHERE id = 'x'", 31, None), (TYPED, "SELECT name FROM a WHERE name = 5", 33, None),
    (VALUES, "SELECT id FROM a WHERE name = 'Anna'", 31, "'Ann'"),
])  # fmt: skip
def test_a_fault_names_the_literal_and_the_nearest_value(rule, text, column, nearest):
    fault = rule.explain_text(text)
    assert (fault.column, fault.kind, fault.nearest) == (column, "literal", nearest), str(fault)


# -- values


@pytest.mark.parametrize("statement", [
    "SELECT id FROM a WHERE name = 'Ann'", "SELECT id FROM a WHERE name = 'it''s' OR name IN ('it', 'Ann')",
    "SELECT id FROM a WHERE name LIKE 'any%' OR name > 'any' OR id = 'any'", "SELECT y FROM b WHERE id <> 'é'",
    "SELECT size FROM v WHERE name IS 'it'", "SELECT id FROM a WHERE born = '2001-01-01'", "SELECT 'any' FROM a",
    "SELECT T2.y FROM a AS T1 JOIN b AS T2 ON T2.id = 'k' AND T1.name = lower('any')",
])  # fmt: skip
def test_a_value_that_the_column_has_is_accepted(statement):
    assert why_not(ORACLE, statement) is None
    assert VALUES.accepts(statement), str(VALUES.explain_text(statement))


@pytest.mark.parametrize(("statement", "refused"), [
    ("SELECT id FROM a WHERE name = 'Anna'", "SELECT id FROM a WHERE name = 'Anna"),
    ("SELECT id FROM a WHERE name = 'ann'", "SELECT id FROM a WHERE name = 'a"),
    ("SELECT id FROM a WHERE name = 'it'''", "SELECT id FROM a WHERE name = 'it'''"),
    ("SELECT id FROM a WHERE name IN ('it', 'k')", "SELECT id FROM a WHERE name IN ('it', 'k"),
    ('SELECT id FROM a WHERE name = "it"', 'SELECT id FROM a WHERE name = "it'),
    ("SELECT y FROM b WHERE id = 'e'", "SELECT y FROM b WHERE id = 'e"),
])  # fmt: skip
def test_a_value_that_the_column_has_not_is_refused_at_once(statement, refused):
    automaton = VALUES.automaton
    dead = [i for i in range(len(statement) + 1) if run(automaton, automaton.start, statement[:i].encode()) == DEAD]
    assert min(dead) == len(refused)


def test_values_may_be_given_for_some_columns():
    assert BOTH.accepts("SELECT id FROM a WHERE name = 'Ann' AND born = 'any'")
    assert not BOTH.accepts("SELECT id FROM a WHERE name = 'it'")
    assert not BOTH.accepts("SELECT id FROM a WHERE name = 5")
    assert BOTH.accepts("SELECT y FROM b WHERE id = 'k'")


@pytest.mark.parametrize(("values", "reason"), [
    ({"a.nmae": True}, "did you mean 'a.name'"), ({"name": True}, "no column"), ({"a.name": []}, "values of 'a.name'"),
    ({"a.name": "Ann"}, "values of 'a.name'"), ({"a.name": [1]}, "values of 'a.name'"), (["a.name"], "values is"),
    ({"a.name": ["a\0"]}, "values of 'a.name'"), (None, "values is"), (1, "values is"), ({"a.name": 0}, "values of"),
])  # fmt: skip
def test_values_that_cannot_be_used_are_refused(values, reason):
    with pytest.raises(genctl.ConstraintError, match=reason):
        genctl.sql(ORACLE, values=values)


def test_too_many_values_and_values_of_a_schema_are_refused():
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t (c TEXT)")
    connection.executemany("INSERT INTO t VALUES (?)", [(f"value {i}",) for i in range(10_001)])
    with pytest.raises(genctl.ConstraintError, match=r"'t\.c' has more than 10,000 values"):
        genctl.sql(connection, values=True)
    with pytest.raises(genctl.ConstraintError, match="no rows"):
        genctl.sql(TABLES, values=True)
    with pytest.raises(genctl.ConstraintError, match="literals is"):
        genctl.sql(TABLES, literals="types")


# -- laws

ALLOW = frozenset({"select", "insert", "update", "delete"})
GRAMMAR = Grammar(of_sqlite(ORACLE), typed=True, allow=ALLOW)
AUTOMATON = SqlAutomaton(GRAMMAR)
OFTEN = {"where": 20, "=": 20, "'s'": 4, "7": 4, "in": 5, "between": 5, "(": 3, "from": 4, "like": 3}


def weight(text: str | None) -> float:
    return OFTEN.get(text or "", 0.05 if text in GRAMMAR.schema.functions else 1)


@settings(max_examples=60)
@given(st.integers(0, 10**9), st.integers(3, 20))
def test_a_random_statement_is_accepted_by_sqlite_and_none_of_its_beginnings_is_refused(seed, length):
    statement = random_statement(AUTOMATON, seed, length, weight)
    assert why_not(ORACLE, statement) is None, statement
    assert accepts(AUTOMATON, statement.encode()), statement


@settings(max_examples=10)
@given(st.integers(0, 10**9))
def test_from_every_beginning_the_way_to_the_end_is_as_long_as_said_and_leads_there(seed):
    statement = random_statement(AUTOMATON, seed, 10, weight)
    assert check_ways(AUTOMATON, statement) != DEAD
    check_ways(VALUES.automaton, statement)


@settings(max_examples=60)
@given(st.integers(0, 10**9), st.integers(3, 16))
def test_typed_literals_take_away_texts_and_add_none(seed, length):
    statement = random_statement(AUTOMATON, seed, length, weight)
    assert genctl.sql(ORACLE, allow=ALLOW).accepts(statement)
    swapped = re.sub(r"'s'|\b7\b", lambda found: "7" if found[0] == "'s'" else "'s'", statement)
    if TYPED.accepts(swapped):
        assert why_not(ORACLE, swapped) is None
