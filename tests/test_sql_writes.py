"""Statements that write: SQLite itself says which are right, and what they did."""

from __future__ import annotations

import re
import sqlite3
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import genctl
from genctl.automata.base import DEAD, accepts, run
from genctl.compilers.sql.automaton import SqlAutomaton
from genctl.compilers.sql.parser import Grammar
from genctl.compilers.sql.schema import WRITES, of_sqlite
from genctl.constraints.sql import Query
from tests.sql_statements import check_ways, content, random_statement, why_not

TABLES = """
CREATE TABLE p (id INTEGER PRIMARY KEY, n TEXT NOT NULL UNIQUE, d TEXT DEFAULT 'x', g AS (id + 1));
CREATE TABLE q (k TEXT PRIMARY KEY, v INT NOT NULL, w REAL NOT NULL DEFAULT 3) WITHOUT ROWID;
CREATE TABLE r (x, "two words" INT, y INT REFERENCES p (id) ON DELETE CASCADE);
CREATE VIEW s AS SELECT n FROM p;
CREATE INDEX i ON r (x);
"""
TRIGGER = "CREATE TRIGGER t AFTER INSERT ON r BEGIN DELETE FROM q WHERE v = new.x; END"
ALL = ("select", *WRITES)


def base() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.executescript(TABLES + TRIGGER)
    connection.execute("PRAGMA foreign_keys = 1")
    return connection


ORACLE = base()
RULE = genctl.sql(ORACLE, allow=ALL)

ACCEPTED = """
INSERT INTO p (n) VALUES ('a')
insert into p (id, n) values (1, 'a'), (2, lower('B'))
INSERT INTO p VALUES (1, 'a', NULL)
INSERT INTO r DEFAULT VALUES
INSERT INTO r ("two words") VALUES (1) RETURNING *
INSERT INTO r (x, y) VALUES ((SELECT max(v) FROM q), abs(-1)) RETURNING x, y + 1 AS more
INSERT INTO q (v, k) SELECT id, n FROM p WHERE id > 1
INSERT INTO q (v, k) SELECT id, n FROM p UNION SELECT 1, 'x'
INSERT INTO p (id, n) SELECT * FROM (SELECT 1, 'x')
WITH z AS (SELECT v FROM q) INSERT INTO r (x) SELECT v FROM z
UPDATE p SET n = n || '!', d = NULL WHERE id IN (SELECT y FROM r WHERE x = p.id)
UPDATE q SET v = v + 1;
UPDATE r SET "two words" = 1 RETURNING x
WITH z AS (SELECT v FROM q) UPDATE q SET v = 1 WHERE v IN (SELECT v FROM z)
DELETE FROM r
DELETE FROM r WHERE r.x = 1 AND NOT EXISTS (SELECT 1 FROM q WHERE k = x) RETURNING *
CREATE TABLE new (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE DEFAULT 'none', other)
CREATE TABLE IF NOT EXISTS new (a DEFAULT NULL)
DROP TABLE q
DROP TABLE IF EXISTS r;
""".strip().splitlines()

REFUSED = """
INSERT INTO p (id) VALUES (1)
INSERT INTO p (n, n) VALUES (1, 2)
INSERT INTO p (n, g) VALUES (1, 2)
INSERT INTO p VALUES (1, 2)
INSERT INTO p VALUES (1, 2, 3, 4)
INSERT INTO p (n) VALUES (n)
INSERT INTO p (n) VALUES (count(*))
INSERT INTO p (n) VALUES (1), (1, 2)
INSERT INTO q DEFAULT VALUES
INSERT INTO q (v, k) SELECT id FROM p
INSERT INTO q (v, k) SELECT * FROM r
INSERT INTO s VALUES (1)
INSERT INTO nowhere VALUES (1)
INSERT INTO sqlite_master VALUES (1)
UPDATE p SET g = 1
UPDATE p SET nn = 1
UPDATE p SET n = v
UPDATE p SET n = count(*)
UPDATE s SET n = 1
DELETE FROM s
DELETE FROM r WHERE v = 1
DELETE FROM r RETURNING r.*
DELETE FROM r RETURNING count(*)
DELETE r
CREATE TABLE p (a)
CREATE TABLE i (a)
CREATE TABLE sqlite_new (a)
CREATE TABLE new (a, a)
CREATE TABLE new (a PRIMARY KEY, b PRIMARY KEY)
CREATE TABLE new ()
DROP TABLE s
DROP TABLE nowhere
DROP VIEW s
REPLACE INTO r VALUES (1, 2, 3)
INSERT OR REPLACE INTO r VALUES (1, 2, 3)
PRAGMA user_version = 1
ATTACH 'x' AS y
""".strip().splitlines()


@pytest.mark.parametrize("statement", ACCEPTED)
def test_a_statement_that_writes_is_accepted_and_so_it_is_by_sqlite(statement):
    assert why_not(ORACLE, statement) is None
    assert RULE.accepts(statement), str(RULE.explain_text(statement))


@pytest.mark.parametrize("statement", REFUSED)
def test_what_would_fail_or_is_left_out_is_refused(statement):
    assert not RULE.accepts(statement)


@pytest.mark.parametrize("kind", ALL)
def test_only_the_kinds_that_are_allowed_are_in_the_language(kind):
    rule = genctl.sql(ORACLE, allow=kind)
    assert not any(genctl.sql(ORACLE).accepts(statement) for statement in ACCEPTED)
    for statement in [*ACCEPTED, "SELECT n FROM p"]:
        verb = re.sub(r"WITH \w+ AS \(.*?\) ", "", statement).split()[0].lower()
        assert rule.accepts(statement) == (kind.split()[0] == verb), statement


@pytest.mark.parametrize(("text", "refused"), [
    ("INSERT INTO p (id) ", "INSERT INTO p (id)"),
    ("INSERT INTO p (n, g", "INSERT INTO p (n, g"),
    ("INSERT INTO p VALUES (1, 2)", "INSERT INTO p VALUES (1, 2)"),
    ("INSERT INTO q DEFAULT", "INSERT INTO q D"),
    ("UPDATE p SET n = 1, n", "UPDATE p SET n = 1, n"),
    ("DELETE FROM s", "DELETE FROM s"),
    ("CREATE TABLE sqlite_", "CREATE TABLE sqlite_"),
])  # fmt: skip
def test_it_is_refused_where_no_statement_goes_on_like_it_and_not_before(text, refused):
    automaton = RULE.automaton
    dead = [i for i in range(len(text) + 2) if run(automaton, automaton.start, (text + " .")[:i].encode()) == DEAD]
    assert min(dead) == len(refused)


GRAMMARS = {
    kinds: Grammar(of_sqlite(ORACLE), allow=frozenset(kinds))
    for kinds in (ALL, WRITES, ("insert",), ("select", "delete"))
}
AUTOMATA = {kinds: SqlAutomaton(grammar) for kinds, grammar in GRAMMARS.items()}


OFTEN = ("insert", "update", "delete", "values", "returning", "where")


def weight(text: str | None) -> float:
    return 5 if text in OFTEN else 0.05 if text in RULE.grammar.schema.functions else 1


@settings(max_examples=60)
@given(st.integers(0, 10**9), st.sampled_from(list(GRAMMARS)), st.integers(2, 16))
def test_a_random_statement_is_accepted_by_sqlite_and_none_of_its_beginnings_is_refused(seed, kinds, length):
    statement = random_statement(AUTOMATA[kinds], seed, length, weight)
    assert why_not(ORACLE, statement) is None, statement
    assert accepts(AUTOMATA[kinds], statement.encode()), statement


@settings(max_examples=10)
@given(st.integers(0, 10**9), st.sampled_from(list(GRAMMARS)))
def test_from_every_beginning_the_way_to_the_end_is_as_long_as_said_and_leads_there(seed, kinds):
    automaton = AUTOMATA[kinds]
    assert check_ways(automaton, random_statement(automaton, seed, 8, weight)) != DEAD


# -- arguments


@pytest.mark.parametrize(("allow", "reason"), [
    ("inserts", "did you mean 'insert'"), (("select", "drop"), "'drop' is no kind"), ((), "allow is"), (5, "allow is"),
    ((1,), "1 is no kind"), (None, "allow is"),
])  # fmt: skip
def test_kinds_that_cannot_be_allowed_are_refused(allow, reason):
    with pytest.raises(genctl.ConstraintError, match=reason):
        genctl.sql(ORACLE, allow=allow)


def test_a_kind_that_no_table_can_have_is_refused():
    with pytest.raises(genctl.UnsatisfiableError, match="no table can be changed by 'insert'"):
        genctl.sql(ORACLE, tables=["s"], allow=("select", "insert"))


def test_the_database_is_asked_about_statements_that_write_too():
    rule = genctl.sql(ORACLE, allow=("insert",), explain=True)
    assert rule.accepts("INSERT INTO p (n) VALUES (1)")
    assert not rule.accepts("SELECT 1")


# -- running them


def filled() -> sqlite3.Connection:
    connection = base()
    connection.executescript("INSERT INTO p (n) VALUES ('a'), ('b'); INSERT INTO q VALUES ('k', 1, 2)")
    return connection


def run_one(connection, statement: str, allow):
    return genctl.sql(connection, allow=allow).value(statement).execute(timeout=5.0)


def test_a_statement_that_is_allowed_is_run():
    connection = filled()
    rows = run_one(connection, "INSERT INTO p (n) VALUES ('c'), ('d') RETURNING id, n", "insert")
    assert (rows, rows.columns, rows.changed) == ([(3, "c"), (4, "d")], ("id", "n"), 2)
    assert run_one(connection, "UPDATE p SET n = n || '!' WHERE id > 2", "update").changed == 2
    assert run_one(connection, "DELETE FROM p WHERE id = 1", ("select", "delete")).changed == 1
    behind_with = "WITH new(n) AS (SELECT 'e') INSERT INTO p (n) SELECT n FROM new"
    assert run_one(connection, behind_with, ("select", "insert")).changed == 1
    assert run_one(connection, "SELECT count(*) FROM p", ("select", "insert")).changed == 0
    assert connection.execute("SELECT n FROM p").fetchall() == [("b",), ("c!",), ("d!",), ("e",)]
    run_one(connection, "CREATE TABLE new (a INTEGER PRIMARY KEY, b UNIQUE)", "create table")
    run_one(connection, "DROP TABLE p", "drop table")
    assert {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")} == {
        "q",
        "r",
        "new",
    }


def test_rows_never_writes_though_the_rule_allows_it():
    connection = filled()
    before = content(connection)
    rule = genctl.sql(connection, allow=ALL)
    for statement in ACCEPTED:
        with pytest.raises(genctl.QueryError):
            rule.value(statement).rows()
    assert content(connection) == before


@pytest.mark.parametrize("kind", WRITES)
def test_what_is_not_allowed_is_not_run(kind):
    connection = filled()
    database = genctl.sql(connection).database
    before = content(connection)
    others = frozenset(ALL) - {kind}
    of_kind = [statement for statement in ACCEPTED if statement.lower().startswith(kind)]
    for statement in [*of_kind, "PRAGMA user_version = 1", "ATTACH ':memory:' AS x", "VACUUM", "COMMIT", "DROP VIEW s"]:
        with pytest.raises(genctl.QueryError):
            Query(statement, database, others).execute()
        assert content(connection) == before, statement


WORDS = [
    *(
        "DELETE FROM",
        "UPDATE",
        "INSERT INTO",
        "DROP TABLE",
        "PRAGMA",
        "ATTACH",
        "CREATE TABLE",
        "p",
        "q",
        "r",
        "SET",
        "x",
    ),
    *(
        "SET",
        "x",
        "n = 'x'",
        "VALUES",
        "(1, 'a', 'b')",
        ";",
        "SELECT",
        "1",
        "*",
        "FROM",
        "RETURNING",
        "WITH q AS",
        "BEGIN",
        "(a)",
    ),
]


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=7).map(" ".join), st.sets(st.sampled_from(ALL)))
def test_no_text_does_more_than_its_kinds(statement, kinds):
    connection = filled()
    before = content(connection)
    with suppress(genctl.QueryError):
        Query(statement, genctl.sql(connection).database, frozenset(kinds)).execute(timeout=1.0)
    if content(connection) != before:
        first = statement.lower().split()
        assert any(kind.split()[0] in first for kind in kinds), statement


def test_in_a_file_it_is_committed_and_a_failure_leaves_nothing(tmp_path):
    path = tmp_path / "base.db"
    with sqlite3.connect(path) as copy:
        filled().backup(copy)
    copy.close()
    rule = genctl.sql(path, allow="insert")
    rule.value("INSERT INTO p (n) VALUES ('c')").execute()
    with pytest.raises(genctl.QueryError, match="UNIQUE"):
        rule.value("INSERT INTO p (n) VALUES ('d'), ('c')").execute()
    assert sqlite3.connect(path).execute("SELECT n FROM p").fetchall() == [("a",), ("b",), ("c",)]


def test_on_a_connection_the_commit_is_its_owners():
    connection = filled()
    connection.commit()
    run_one(connection, "INSERT INTO p (n) VALUES ('c')", "insert")
    assert connection.in_transaction
    with pytest.raises(genctl.QueryError):
        run_one(connection, "INSERT INTO p (n) VALUES ('a')", "insert")
    assert connection.execute("SELECT count(*) FROM p").fetchone() == (3,)
    connection.rollback()
    assert connection.execute("SELECT count(*) FROM p").fetchone() == (2,)


@pytest.mark.parametrize(("action", "kinds"), [("CASCADE", {"delete"}), ("SET NULL", {"delete", "update"})])
def test_what_a_foreign_key_does_to_other_tables_needs_its_kind(action, kinds):
    connection = sqlite3.connect(":memory:")
    connection.executescript(
        f"CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (p REFERENCES p ON DELETE {action})"
    )
    connection.executescript("PRAGMA foreign_keys = 1; INSERT INTO p VALUES (1); INSERT INTO c VALUES (1)")
    if kinds != {"delete"}:
        with pytest.raises(genctl.QueryError, match="not authorized"):
            run_one(connection, "DELETE FROM p", "delete")
    run_one(connection, "DELETE FROM p", kinds)
    assert connection.execute("SELECT count(p) FROM c").fetchone() == (0,)


def test_what_a_trigger_does_is_part_of_the_database():
    connection = filled()
    run_one(connection, "INSERT INTO r (x) VALUES (1)", "insert")
    assert connection.execute("SELECT count(*) FROM q").fetchone() == (0,)


def test_a_statement_that_takes_too_long_writes_nothing():
    connection = filled()
    before = content(connection)
    endless = "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) INSERT INTO r (x) SELECT x FROM c"
    with pytest.raises(genctl.QueryError, match=r"not done within 0\.05 seconds"):
        Query(endless, genctl.sql(connection).database, frozenset({"insert"})).execute(timeout=0.05)
    assert content(connection) == before


def test_a_schema_has_nothing_to_write_to():
    with pytest.raises(genctl.QueryError, match="no rows"):
        genctl.sql(TABLES, allow="delete").value("DELETE FROM r").execute()


# -- faults


@pytest.mark.parametrize(("text", "column", "kind", "nearest"), [
    ("INSERT INTO pp (n) VALUES (1)", 13, "table", "p"),
    ("INSERT INTO q (kk) VALUES (1)", 16, "column", "k"),
    ("INSERT INTO p (id) VALUES (1)", 18, "syntax", None),
    ("UPDATE p SET idd = 1", 14, "column", "id"),
    ("UPDATE p SET g = 1", 14, "column", None),
    ("DELETE FROM r WHERE xx = 1", 21, "column", "x"),
    ("DELETE FROM s", 13, "table", None),
    ("DELET FROM r", 1, "syntax", "delete"),
    ("DROP TABLE", 11, "end", None),
])  # fmt: skip
def test_a_fault_names_the_place_and_the_nearest_name(text, column, kind, nearest):
    fault = RULE.explain_text(text)
    assert (fault.column, fault.kind, fault.nearest) == (column, kind, nearest), str(fault)
