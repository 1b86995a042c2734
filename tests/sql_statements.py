"""Statements of SQL: what SQLite says of them, random ones, and what holds of each automaton over them."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator

from genctl.automata.base import DEAD, run
from genctl.compilers.sql.automaton import SqlAutomaton
from genctl.compilers.sql.expressions import positions
from genctl.compilers.sql.parser import Grammar
from genctl.compilers.sql.places import END, Place, Token


def why_not(connection: sqlite3.Connection, statement: str) -> str | None:
    """Why SQLite does not prepare the statement; None if it does."""
    try:
        connection.execute(f"EXPLAIN {statement}").close()
    except sqlite3.Error as error:
        return str(error)
    return None


def content(source: sqlite3.Connection) -> list[str]:
    return list(source.iterdump())


def next_tokens(grammar: Grammar, place: Place, rng: random.Random) -> Iterator[tuple[str | None, Place]]:
    """Texts of tokens that may come, and the places behind them; None for the end."""
    free = ["t1", "q", "n1", "name", f"n{rng.randrange(10**6)}"]
    for word in [*sorted(grammar.words(place)), *(name for name in free if grammar.free_word(place, name))]:
        yield word, grammar.read(place, Token("word", word))
    for name in sorted(grammar.names(place)):
        yield f'"{name}"', grammar.read(place, Token("quoted", name))
    if grammar.strings_in_double_quotes(place):
        yield '"text"', grammar.read(place, Token("string", ""))
    for mark in ["(", ")", ",", ";", ".", "*", "+", "-", "~", "=", "<", "<=", "<>", "||", "/"]:
        yield mark, grammar.read(place, Token("op", mark))
    for kind, text in ("string", "'s'"), ("number", "7"), ("integer", "5"):
        yield text, grammar.read(place, Token(kind, text))
    for number in sorted(positions(place)):
        yield str(number), grammar.read(place, Token("position", str(number)))
    yield None, grammar.read(place, END)


def random_statement(automaton: SqlAutomaton, seed: int, length: int, weight: Callable[[str | None], float]) -> str:
    """A statement by random tokens, drawn by weight; behind `length` of them the known way to the end is taken."""
    rng, grammar, texts = random.Random(seed), automaton.grammar, list[str]()
    place: Place = grammar.start
    while len(texts) < length:
        options = [(text, after) for text, after in next_tokens(grammar, place, rng) if after is not None]
        assert options, f"no way on from {' '.join(texts)}"
        text, place = rng.choices(options, [weight(text) for text, _ in options])[0]
        if text is None:
            return " ".join(texts)
        texts.append(text)
    begun = " ".join(texts)
    state = run(automaton, automaton.start, begun.encode())
    assert state != DEAD, begun
    return begun + automaton.completion(state).decode()


def refused_at(automaton: SqlAutomaton, text: str) -> int:
    """The length of the shortest beginning of the text, with a mark that nothing allows behind it, that is dead."""
    return min(i for i in range(len(text) + 2) if run(automaton, automaton.start, (text + " .")[:i].encode()) == DEAD)


def check_ways(automaton: SqlAutomaton, text: str) -> int:
    """From every beginning the way to the end is as long as said and leads there -> the state behind the text."""
    state = automaton.start
    for at, byte in enumerate(text.encode()):
        if state == DEAD:
            break
        way = automaton.completion(state)
        assert len(way) == automaton.distance(state)
        assert (not way) == automaton.accepts(state)
        assert automaton.accepts(run(automaton, state, way)), (text[:at], way)
        if way:
            assert automaton.distance(automaton.step(state, way[0])) <= len(way) - 1, (text[:at], way)
        state = automaton.step(state, byte)
    return state
