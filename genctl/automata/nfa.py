"""Nondeterministic automata over bytes, built from expressions by Thompson's construction.

    nfa = NFA(Repeat(Bytes(((0x61, 0x7A),)), 1, 5), rules={})
    nfa.length[nfa.entry]                  # 1: fewest bytes of a text

A state has byte moves and empty moves, or one *instruction*: call a rule, enter a counted loop, run an embedded
automaton, check a look-around. Calls and loops put a frame on a stack (pushdown.py), so `.{0,10000}` is a
handful of states, and the same states serve every caller of a rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import singledispatchmethod
from heapq import heappop, heappush
from typing import TypeAlias

import numpy as np

from genctl.automata.base import DEAD, UNREACHABLE, Automaton
from genctl.automata.expressions import (
    ANY_BYTE,
    Ahead,
    Behind,
    Bytes,
    Call,
    Concat,
    Embedded,
    Everything,
    Expression,
    Literal,
    Repeat,
    Union,
)
from genctl.errors import ConstraintError
from genctl.kernels.records import U8

INLINE_PARTS = 64  # a counted loop whose rounds have at most so many parts together is written out
GUARDED_COPIES = 2_000  # rounds of a body with look-around are always written out: empty ones are not all alike
MAX_STATES = 2_000_000


@dataclass(frozen=True, slots=True)
class Jump:
    """Read a text of the rule that starts at entry, then go on at target."""

    rule: str
    target: int


@dataclass(frozen=True, slots=True)
class Loop:
    """Read the body (from entry to a final state) least to most times, then go on at target."""

    entry: int
    least: int
    most: int | None
    target: int


@dataclass(frozen=True, slots=True)
class Run:
    """Read a text of the automaton, then go on at target."""

    automaton: Automaton
    target: int


@dataclass(frozen=True, slots=True)
class Guard:
    """Go on at target if the automaton (not, if negated) accepts the rest of the text, or the text so far."""

    automaton: Automaton
    negated: bool
    behind: int | None  # number of the look-behind automaton; None for a look-ahead
    target: int


Instruction: TypeAlias = Jump | Loop | Run | Guard
ByteRanges: TypeAlias = tuple[tuple[int, int], ...]


class NFA:
    """States 0..S-1. A final state ends the rule, loop body or text that it belongs to.

    moves[q]: (membership, target) pairs, membership being 256 bytes 0/1; empty[q]: targets of empty moves;
    instructions[q]; final[q]; everything[q]: all further text is accepted from here; behinds: the look-behind
    automata; length[q]: fewest bytes from q to its final state (a lower bound where look-around is used).
    """

    def __init__(self, start: Expression, rules: Mapping[str, Expression]) -> None:
        self.moves: list[list[tuple[bytes, int]]] = []
        self.empty: list[list[int]] = []
        self.instructions: list[Instruction | None] = []
        self.final: list[bool] = []
        self.everything: list[bool] = []
        self.behinds: list[Automaton] = []
        self._memberships: dict[ByteRanges, bytes] = {}
        self.rules: dict[str, int] = {}
        self.entry = self._closed(start)
        for name, expression in rules.items():
            self.rules[name] = self._closed(expression)
        self._check_calls()
        self.length = _shortest_lengths(self)
        self.nullable_loops = {
            q for q, op in enumerate(self.instructions) if isinstance(op, Loop) and self.length[op.entry] == 0
        }

    @property
    def guarded(self) -> bool:
        """Does it use look-around? Then lengths are only lower bounds."""
        return any(isinstance(op, Guard) for op in self.instructions)

    def byte_classes(self) -> U8:
        """(256,) coarsest partition of the bytes that no move or embedded automaton can tell apart."""
        rows = [np.frombuffer(m, np.uint8) for m in self._memberships.values()]
        rows += [op.automaton.table.classes for op in self.instructions if isinstance(op, Run | Guard)]
        if not rows:
            return np.zeros(256, np.uint8)
        return np.unique(np.stack(rows), axis=1, return_inverse=True)[1].reshape(256).astype(np.uint8)

    # -- construction: `_build(expression, q)` adds states that read it from q on and returns the last one

    def _closed(self, expression: Expression) -> int:
        entry = self._state()
        try:
            self.final[self._build(expression, entry)] = True
        except RecursionError:
            raise ConstraintError("the rule is nested too deeply", hint="use fewer groups inside groups") from None
        return entry

    def _state(self) -> int:
        if len(self.moves) >= MAX_STATES:
            raise ConstraintError(f"the rule needs more than {MAX_STATES:,} states", hint="use a simpler rule")
        self.moves.append([])
        self.empty.append([])
        self.instructions.append(None)
        self.final.append(False)
        self.everything.append(False)
        return len(self.moves) - 1

    def _instruct(self, make: Callable[[int], Instruction], source: int) -> int:
        """An instruction needs a state of its own; returns the state it goes on to."""
        holder, target = self._state(), self._state()
        self.empty[source].append(holder)
        self.instructions[holder] = make(target)
        return target

    def _membership(self, ranges: ByteRanges) -> bytes:
        if ranges not in self._memberships:
            row = bytearray(256)
            for low, high in ranges:
                row[low : high + 1] = b"\1" * (high + 1 - low)
            self._memberships[ranges] = bytes(row)
        return self._memberships[ranges]

    @singledispatchmethod
    def _build(self, expression: Expression, source: int) -> int:
        raise TypeError(f"{expression!r} is not an expression")

    @_build.register
    def _(self, expression: Bytes, source: int) -> int:
        target = self._state()
        self.moves[source].append((self._membership(expression.ranges), target))
        return target

    @_build.register
    def _(self, expression: Literal, source: int) -> int:
        for byte in expression.text:
            target = self._state()
            self.moves[source].append((self._membership(((byte, byte),)), target))
            source = target
        return source

    @_build.register
    def _(self, expression: Concat, source: int) -> int:
        for part in expression.parts:
            source = self._build(part, source)
        return source

    @_build.register
    def _(self, expression: Union, source: int) -> int:
        target = self._state()
        literals = [part.text for part in expression.parts if isinstance(part, Literal)]
        self._build_literals(literals, source, target)
        for part in expression.parts:
            if not isinstance(part, Literal):
                entry = self._state()
                self.empty[source].append(entry)
                self.empty[self._build(part, entry)].append(target)
        return target

    def _build_literals(self, texts: list[bytes], source: int, target: int) -> None:
        """Alternatives that share their beginnings: 10,000 words cost one state a byte of their prefix tree."""
        if not texts:
            return
        root = self._state()
        self.empty[source].append(root)
        children: dict[tuple[int, int], int] = {}
        for text in texts:
            node = root
            for byte in text:
                if (node, byte) not in children:
                    children[node, byte] = self._build(Literal(bytes((byte,))), node)
                node = children[node, byte]
            self.empty[node].append(target)

    @_build.register
    def _(self, expression: Repeat, source: int) -> int:
        body, least, most = expression.body, expression.least, expression.most
        copies = least if most is None else most
        if copies <= 1 or _looks_around(body) or (copies <= INLINE_PARTS and _parts(body, INLINE_PARTS // copies)):
            return self._build_rounds(body, least, most, source)
        entry = self._closed(body)
        return self._instruct(lambda target: Loop(entry, least, most, target), source)

    def _build_rounds(self, body: Expression, least: int, most: int | None, source: int) -> int:
        """The loop written out; without an upper bound the last round leads back to its own beginning."""
        if max(least, most or 0) > GUARDED_COPIES:
            raise ConstraintError(
                f"a part with look-around is repeated more than {GUARDED_COPIES:,} times",
                hint="take the look-around out of the repeated part, or lower the bound",
            )
        target = self._state()
        last = max(least, 1) if most is None else most
        for count in range(last):
            if count >= least:
                self.empty[source].append(target)
            entry = self._state()
            self.empty[source].append(entry)
            source = self._build(body, entry)
        if most is None:
            self.empty[source].append(entry)
        self.empty[source].append(target)
        return target

    @_build.register
    def _(self, expression: Call, source: int) -> int:
        return self._instruct(lambda target: Jump(expression.rule, target), source)

    @_build.register
    def _(self, expression: Embedded, source: int) -> int:
        return self._instruct(lambda target: Run(expression.automaton, target), source)

    @_build.register
    def _(self, expression: Ahead, source: int) -> int:
        guard = expression.automaton, expression.negated, None
        return self._instruct(lambda target: Guard(*guard, target), source)

    @_build.register
    def _(self, expression: Behind, source: int) -> int:
        if expression.automaton not in self.behinds:
            self.behinds.append(expression.automaton)
        guard = expression.automaton, expression.negated, self.behinds.index(expression.automaton)
        return self._instruct(lambda target: Guard(*guard, target), source)

    @_build.register
    def _(self, expression: Everything, source: int) -> int:
        hub = self._state()
        self.empty[source].append(hub)
        self.moves[hub].append((self._membership(ANY_BYTE.ranges), hub))
        self.everything[hub] = True
        return hub

    def _check_calls(self) -> None:
        for op in self.instructions:
            if isinstance(op, Jump) and op.rule not in self.rules:
                raise ConstraintError(f"rule {op.rule!r} is used but not defined")


def _looks_around(expression: Expression) -> bool:
    match expression:
        case Ahead() | Behind():
            return True
        case Concat(parts) | Union(parts):
            return any(map(_looks_around, parts))
        case Repeat(body, _, _):
            return _looks_around(body)
    return False


def _parts(expression: Expression, limit: int) -> bool:
    """Has the expression at most limit parts (bytes, calls, ...)? Looks at no more than that many."""
    work, seen = [expression], 0
    while work and seen <= limit:
        match work.pop():
            case Concat(parts) | Union(parts):
                seen += 1
                work.extend(parts)
            case Repeat(body, least, most):
                work.append(body)
                seen += max(least, most or 0)
            case Literal(text):
                seen += len(text)
            case _:
                seen += 1
    return seen <= limit


def _shortest_lengths(nfa: NFA) -> list[int]:
    """Fewest bytes from each state to its final state: Knuth's generalisation of Dijkstra's algorithm.

    A state is settled in the order of its length; a call or a loop becomes known once both the states it
    depends on (the entry of its body, and where it goes on) are settled.
    """
    lengths = [UNREACHABLE] * len(nfa.moves)
    waiting: list[list[int]] = [[] for _ in lengths]  # states whose length depends on this one
    for q, op in enumerate(nfa.instructions):
        for p in [t for _, t in nfa.moves[q]] + nfa.empty[q] + _needed(nfa, op):
            waiting[p].append(q)
    heap = [(0, q) for q, final in enumerate(nfa.final) if final]
    while heap:
        length, q = heappop(heap)
        if lengths[q] <= length:
            continue
        lengths[q] = length
        for p in waiting[q]:
            candidate = _length_by(nfa, p, lengths)
            if candidate < lengths[p]:
                heappush(heap, (candidate, p))
    return lengths


def _needed(nfa: NFA, op: Instruction | None) -> list[int]:
    match op:
        case Jump(rule, target):
            return [nfa.rules[rule], target]
        case Loop(entry=entry, target=target):
            return [entry, target]
        case Run(target=target) | Guard(target=target):
            return [target]
    return []


def _length_by(nfa: NFA, q: int, lengths: list[int]) -> int:
    """Length of q from the settled states around it; UNREACHABLE while none of its ways is settled."""
    ways = [1 + lengths[t] for _, t in nfa.moves[q]] + [lengths[t] for t in nfa.empty[q]]
    match nfa.instructions[q]:
        case Jump(rule, target):
            ways.append(lengths[nfa.rules[rule]] + lengths[target])
        case Loop(entry, least, _, target):
            ways.append((least * lengths[entry] if least else 0) + lengths[target])
        case Run(automaton, target):
            ways.append(automaton.distance(automaton.start) + lengths[target])
        case Guard(automaton, negated, None, target) if not negated:
            dead = automaton.start == DEAD
            ways.append(UNREACHABLE if dead else max(lengths[target], automaton.distance(automaton.start)))
        case Guard(target=target):
            ways.append(lengths[target])
    return min([*ways, UNREACHABLE])
