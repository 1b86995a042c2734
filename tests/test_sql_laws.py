"""All texts of a tiny schema up to some length: what SQLite takes, what the rule takes, and what they begin like."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator

import pytest

from genctl.automata.base import DEAD, run
from genctl.compilers.sql.automaton import SqlAutomaton
from genctl.compilers.sql.parser import Grammar
from genctl.compilers.sql.schema import of_sqlite
from tests.sql_statements import why_not

DATABASE = sqlite3.connect(":memory:")
DATABASE.executescript("CREATE TABLE t (a INTEGER, b TEXT); CREATE TABLE u (a TEXT NOT NULL)")
ALLOW = frozenset({"select", "insert", "update", "delete"})
PLAIN, TYPED = (SqlAutomaton(Grammar(of_sqlite(DATABASE), allow=ALLOW, typed=typed)) for typed in (False, True))

Tokens = tuple[str, ...]

ALPHABETS = {
    "columns": "select a b , from t u * 1",
    "aliases": "select t . a from u as * ,",
    "clauses": "select a from t where = 1 group by order",
    "sub-selects": "select ( ) a b from t in",
    "compounds": "select 1 a union from t order by",
    "insert values": "insert into u values ( 1 ) ,",
    "insert columns": "insert into t ( a ) b default",
    "insert select": "insert into u select a from t",
    "update": "update t set a = 1 b where returning",
    "delete": "delete from t where a = 1 in (",
}
# What SQLite takes and the rule leaves out (docs/sql.md), as far as these texts have it.
LEFT_OUT = [
    r"select (?:(?!from).)*(?:\b[1abtu]|\)|\*) (?:[abtu]|by)\b",  # an alias of a column without AS
    r"\b(?:from|,) \w+ by\b|\bby (?:by|t|u)\b",  # an alias that is a keyword
    r"^(?!.*from).*(?:where|group|\bin \( \))",  # clauses, and columns, without FROM
    r"from (\w) , \1$",  # two sources of one name
    r"from \( t \)",  # a table in brackets
]


def state_of(automaton: SqlAutomaton, text: str) -> int:
    return run(automaton, automaton.start, text.encode())


def all_texts(name: str, length: int) -> Iterator[str]:
    """All sequences of tokens that begin with the verb, up to a length."""
    verb, *_ = alphabet = tuple(ALPHABETS[name].split())
    level = [verb]
    for _ in range(length):
        yield from level
        level = [f"{text} {token}" for text in level for token in alphabet]


def law(name: str, length: int) -> int:
    """The number of texts that both take."""
    both = 0
    for text in all_texts(name, length):
        state = state_of(PLAIN, text)
        mine, theirs = PLAIN.accepts(state), why_not(DATABASE, text) is None
        assert theirs or not mine, f"SQLite refuses {text}"
        # What is taken is not refused at one of its beginnings either, since the dead state has no way out.
        assert mine or not theirs or any(re.search(pattern, text) for pattern in LEFT_OUT), f"{text} is refused"
        both += mine
    return both


@pytest.mark.parametrize("name", ALPHABETS)
def test_of_all_short_texts_those_are_accepted_that_sqlite_prepares_and_no_beginning_of_them_is_refused(name):
    law(name, 5)


@pytest.mark.nightly
@pytest.mark.parametrize("name", ALPHABETS)
def test_of_all_longer_texts_those_are_accepted_that_sqlite_prepares_and_no_beginning_of_them_is_refused(name):
    assert law(name, 7 if len(ALPHABETS[name].split()) < 9 else 6) > 0 or name == "insert columns"


@pytest.mark.parametrize("name", ALPHABETS)
def test_every_text_that_is_not_refused_begins_a_statement_that_sqlite_prepares(name):
    for text in all_texts(name, 5):
        for begun in (text, f"{text} "):
            state = state_of(PLAIN, begun)
            if state != DEAD:
                whole = begun + PLAIN.completion(state).decode()
                assert why_not(DATABASE, whole) is None, whole


# -- literals

COLUMNS = {"t": {"a": "1", "b": "'s'"}, "u": {"a": "'s'"}}


def fits(text: str) -> bool:
    """The naive twin: is every literal right behind `column =` of the kind of the column in the one table?"""
    source = re.search(r"from (\w)", text)
    for column, literal in re.findall(r"(?:select|,|where) ([ab]) = (1|'s')", text):
        if source is not None and COLUMNS[source[1]][column] != literal:
            return False
    return True


def live_texts(alphabet: Tokens, length: int) -> Iterator[str]:
    level = ["select"]
    for _ in range(length):
        yield from level
        texts = (f"{text} {token}" for text in level for token in alphabet)
        level = [text for text in texts if state_of(PLAIN, f"{text} ") != DEAD]


@pytest.mark.parametrize("alphabet", ["a = 1 's' from t u where", "a b = 1 's' from t ,"])
def test_typed_literals_refuse_what_their_naive_twin_refuses_and_at_no_beginning_of_what_it_accepts(alphabet):
    whole = [text for text in live_texts(tuple(alphabet.split()), 9) if PLAIN.accepts(state_of(PLAIN, text))]
    assert len(whole) > 500
    for text in whole:
        assert TYPED.accepts(state_of(TYPED, text)) == fits(text), text
    fitting = [text for text in whole if fits(text)]
    begins = {" ".join(text.split()[:count]) for text in fitting for count in range(1, len(text.split()))}
    for begun in {" ".join(text.split()[:count]) for text in whole for count in range(1, len(text.split()))}:
        state = state_of(TYPED, f"{begun} ")
        assert state != DEAD or begun not in begins, begun
        assert state == DEAD or why_not(DATABASE, f"{begun} {TYPED.completion(state).decode()}") is None, begun
