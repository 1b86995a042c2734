"""Compiled automata as bytes, and back: what compiling made, without what reading texts has added since.

    data = pack(automaton)                                   # None if there is something in it that cannot be stored
    automaton = unpack(data, lambda: automaton.grammar)      # the same language, distances and masks

A header in JSON and the arrays behind it: nothing in it is code. Automata inside the automaton that are whole tables
or grammars again are stored with it; lazy products, look-around and words of an unknown kind are not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import accumulate, chain, pairwise
from typing import Any, TypeAlias

import numpy as np

from genctl.automata.base import Automaton
from genctl.automata.engine import Compiled
from genctl.automata.expressions import Bytes, Concat, Expression, Grammar, Literal, Repeat, Union, Words
from genctl.automata.nfa import Run, Track
from genctl.automata.program import Program
from genctl.automata.pushdown import GrammarAutomaton
from genctl.automata.tabulated import Tabulated
from genctl.kernels.records import I32, U8

FORMAT = 3  # goes up whenever bytes that were stored before would be read in another way

# Kinds of words, by the name of their class: how they are made from their texts. Compilers' kinds are entered from
# outside, since automata do not know compilers.
WORDS: dict[str, Callable[[Iterable[str]], Words]] = {}

Array: TypeAlias = np.ndarray[Any, Any]
_SIZE = 8  # bytes of the number in front of the header


class _Unstorable(Exception):
    """Something that has no bytes; `pack` then returns None."""


def pack(automaton: Automaton) -> bytes | None:
    """The automaton as bytes; None if a part of it cannot be stored."""
    packing = _Packing()
    try:
        packing.automaton(automaton)
    except _Unstorable:
        return None
    return packing.bytes()


def unpack(data: bytes, grammar: Callable[[], Grammar]) -> GrammarAutomaton | Tabulated:
    """What `pack` was given. grammar: makes the grammar anew, where the automaton becomes a part of a larger one.

    data is trusted to be what `pack` wrote, in this FORMAT.
    """
    size = int.from_bytes(data[:_SIZE], "little")
    header = json.loads(data[_SIZE : _SIZE + size])
    arrays = _arrays(data, _SIZE + size, header["arrays"])
    found: list[GrammarAutomaton | Tabulated] = []
    *inner, outer = header["automata"]
    for record in inner:
        found.append(_READ[record["kind"]](record, arrays, found, _no_grammar))
    return _READ[outer["kind"]](outer, arrays, found, grammar)


def _no_grammar() -> Grammar:
    raise AssertionError("an automaton inside another one becomes no part of a grammar")


# -- writing


class _Packing:
    """The automata, the inner ones first, and all their arrays."""

    def __init__(self) -> None:
        self._automata: list[dict[str, Any]] = []
        self._numbers: dict[int, int] = {}
        self._arrays: list[Array] = []

    def bytes(self) -> bytes:
        shapes = [[array.dtype.str, *array.shape] for array in self._arrays]
        header = json.dumps({"automata": self._automata, "arrays": shapes}).encode()
        return b"".join([len(header).to_bytes(_SIZE, "little"), header, *(array.tobytes() for array in self._arrays)])

    def automaton(self, automaton: Automaton) -> int:
        """The number of an automaton; one that comes twice is stored once."""
        if id(automaton) not in self._numbers:
            record = self._record(automaton)
            self._numbers[id(automaton)] = len(self._automata)
            self._automata.append(record)
        return self._numbers[id(automaton)]

    def _record(self, automaton: Automaton) -> dict[str, Any]:
        if isinstance(automaton, Tabulated):
            machine = automaton.machine
            return {"kind": "table", "arrays": self._all(machine.next, machine.classes, machine.accepting)}
        if not isinstance(automaton, GrammarAutomaton) or automaton.engine is None:
            raise _Unstorable
        compiled = automaton.engine.compiled
        program = compiled.program
        return {
            "kind": "grammar",
            "notes": automaton.notes,
            "arrays": self._all(program.code, program.classes),
            "lengths": compiled.lengths,
            "operations": len(compiled.runs),
            "runs": [(n, self.automaton(run.automaton), run.target) for n, run in enumerate(compiled.runs) if run],
            "tracks": [(n, *self._words(track.words), track.inside, track.target) for n, track in compiled.tracks],
            "loops": [(body, text) for body, loop in compiled.loop_bodies.items() if (text := written(loop))],
        }

    def _all(self, *arrays: Array) -> int:
        """The number of the first of the arrays; the others follow it."""
        self._arrays += arrays
        return len(self._arrays) - len(arrays)

    def _words(self, words: Words) -> tuple[str, int]:
        kind = type(words).__name__
        if kind not in WORDS:
            raise _Unstorable
        letters, offset = words.letters
        return kind, self._all(letters, np.diff(offset).astype(np.int32))


# -- reading


def _arrays(data: bytes, at: int, shapes: list[list[Any]]) -> list[Array]:
    """Copies, since engines write into their programs."""
    found = []
    for dtype, *shape in shapes:
        count = int(np.prod(shape, dtype=np.int64))
        array = np.frombuffer(data, dtype, count, at).reshape(shape).copy()
        at += array.nbytes
        found.append(array)
    return found


def _table(record: dict[str, Any], arrays: list[Array], *_: object) -> Tabulated:
    next_, classes, accepting = arrays[record["arrays"] :][:3]
    return Tabulated(next_, classes, accepting)


def _grammar(
    record: dict[str, Any],
    arrays: list[Array],
    automata: list[GrammarAutomaton | Tabulated],
    grammar: Callable[[], Grammar],
) -> GrammarAutomaton:
    code, classes = arrays[record["arrays"] :][:2]
    runs: list[Run | None] = [None] * record["operations"]
    for number, automaton, target in record["runs"]:
        runs[number] = Run(automata[automaton], target)
    tracks = [
        (number, Track(WORDS[kind](_texts(*arrays[at : at + 2])), inside, target))
        for number, kind, at, inside, target in record["tracks"]
    ]
    loops = {body: expression(text) for body, text in record["loops"]}
    compiled = Compiled(_program(code, classes), record["lengths"], runs, tracks, [], [], loops)
    automaton = GrammarAutomaton.of(compiled, grammar)
    automaton.notes = record["notes"]
    return automaton


_READ: dict[str, Callable[..., GrammarAutomaton | Tabulated]] = {"table": _table, "grammar": _grammar}


def _program(code: I32, classes: U8) -> Program:
    return Program(code, classes, np.unique(classes, return_index=True)[1].tolist())


def _texts(letters: I32, sizes: I32) -> list[str]:
    ends = list(accumulate(sizes.tolist(), initial=0))
    characters = "".join(map(chr, letters.tolist()))
    return [characters[begin:end] for begin, end in pairwise(ends)]


# -- the bodies of loops, which are compared by identity


def written(body: Expression) -> str | None:
    """An expression as text, equal parts written once; None if it is not only bytes, sequences, unions and loops.

    Without its text a loop is stored all the same, only its masks are not put together from shared ones then.
    """
    rows: dict[tuple[Any, ...], int] = {}
    known: dict[int, int] = {}

    def number(part: Expression) -> int:
        if id(part) not in known:
            known[id(part)] = rows.setdefault(row(part), len(rows))
        return known[id(part)]

    def row(part: Expression) -> tuple[Any, ...]:
        match part:
            case Bytes(ranges):
                return "bytes", *chain.from_iterable(ranges)
            case Literal(text):
                return "literal", *text
            case Concat(parts):
                return "concat", *map(number, parts)
            case Union(parts):
                return "union", *map(number, parts)
            case Repeat(inner, least, most):
                return "repeat", number(inner), least, most
        raise _Unstorable

    try:
        number(body)
    except (_Unstorable, RecursionError):
        return None
    return json.dumps(list(rows))


_ROWS: dict[str, Callable[[list[Any], list[Expression]], Expression]] = {
    "bytes": lambda row, _: Bytes(tuple(zip(row[::2], row[1::2], strict=True))),
    "literal": lambda row, _: Literal(bytes(row)),
    "concat": lambda row, parts: Concat(tuple(parts[part] for part in row)),
    "union": lambda row, parts: Union(tuple(parts[part] for part in row)),
    "repeat": lambda row, parts: Repeat(parts[row[0]], row[1], row[2]),
}
_SHARED: dict[str, Expression] = {}


def share(body: Expression) -> None:
    """From now on this very object is what is read where an equal body was stored."""
    text = written(body)
    if text is not None:
        _SHARED.setdefault(text, body)


def expression(text: str) -> Expression:
    """What was written. Equal texts give one object, so that automata share what is known of their loops."""
    return _SHARED[text] if text in _SHARED else _read(text)


@lru_cache(512)
def _read(text: str) -> Expression:
    parts: list[Expression] = []
    for kind, *row in json.loads(text):
        parts.append(_ROWS[kind](row, parts))
    return parts[-1]
