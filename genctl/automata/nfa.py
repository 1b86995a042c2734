"""Nondeterministic automata over bytes, built from expressions by Thompson's construction.

    nfa = NFA(Repeat(Bytes(((0x61, 0x7A),)), 1, 5), rules={})
    nfa.bodies[0]                          # the state where texts begin

A state has byte moves and empty moves, or one *operation*: enter a rule, enter a counted loop, run an embedded
automaton, check a look-around. Rules and loops are *bodies* that put a frame on a stack (pushdown.py), so
`.{0,10000}` is a handful of states, and the same states serve every caller of a rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias, cast

from genctl.automata.base import Automaton
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
    Tracked,
    Union,
    Words,
)
from genctl.errors import ConstraintError

INLINE_PARTS = 64  # a counted loop whose rounds have at most so many parts together is written out
GUARDED_COPIES = 2_000  # rounds of a body with look-around are always written out: empty ones are not all alike
MAX_STATES = 2_000_000
WIDE = 64  # different first bytes


class Jump(NamedTuple):
    """Read a text of the body (solid: not the empty one), then go on at target."""

    state: int
    body: int
    target: int
    solid: bool = False


class Loop(NamedTuple):
    """Read the body least to most times (None: without bound; solid: something), then go on at target."""

    state: int
    body: int
    least: int
    most: int | None
    target: int
    solid: bool = False


class Run(NamedTuple):
    """Read a text of the automaton (solid: not the empty one), then go on at target."""

    state: int
    automaton: Automaton
    target: int
    solid: bool = False


class Guard(NamedTuple):
    """Go on at target if the automaton (not, if negated) accepts the rest of the text, or the text so far."""

    state: int
    automaton: Automaton
    negated: bool
    behind: int | None  # number of the look-behind automaton; None for a look-ahead
    target: int


class Track(NamedTuple):
    """Go on at target, the words reading along from here."""

    state: int
    words: Words
    inside: bool
    target: int


class Release(NamedTuple):
    """Go on at target if a word (or, not inside, none) has just been spelled; the words read no further."""

    state: int
    target: int


Operation: TypeAlias = Jump | Loop | Run | Guard | Track | Release
ByteRanges: TypeAlias = tuple[tuple[int, int], ...]


class NFA:
    """States 0..size-1. A final state ends the body or text that it belongs to.

    moves: (state, byte set, target); empty: (state, target); sets: 256 bytes 0/1 each; everything: states from which
    all further text is accepted; behinds: the look-behind automata; bodies: where each body begins, the whole text
    being body 0; rules: the bodies of the named rules.
    """

    def __init__(self, start: Expression, rules: Mapping[str, Expression], *, spread: bool = False) -> None:
        """spread: write counted loops out, so that no body is called from inside a loop."""
        self.size = 0
        self.moves: list[tuple[int, int, int]] = []
        self.empty: list[tuple[int, int]] = []
        self.operations: list[Operation] = []
        self.finals: list[int] = []
        self.everything: list[int] = []
        self.behinds: list[Automaton] = []
        self.sets: list[bytes] = []
        self._spread = spread
        self._set_ids: dict[ByteRanges, int] = {}
        self._loops: dict[int, tuple[Expression, int]] = {}
        self.rules = {name: body for body, name in enumerate(rules, start=1)}
        self.bodies = [self.add_state() for _ in range(1 + len(rules))]
        for entry, expression in zip(self.bodies.copy(), [start, *rules.values()], strict=True):
            self._finish(expression, entry)

    @property
    def guarded(self) -> bool:
        """Does it use look-around? Then lengths are only lower bounds."""
        return any(isinstance(op, Guard) for op in self.operations)

    @property
    def loop_bodies(self) -> dict[int, Expression]:
        """What the bodies of loops were built from."""
        return {body: expression for expression, body in self._loops.values()}

    # -- construction: `_build(expression, q)` adds states that read it from q on and returns the last one;
    #    no move leads back to q

    def _finish(self, expression: Expression, entry: int) -> None:
        try:
            self.finals.append(self._build(expression, entry))
        except RecursionError:
            raise ConstraintError("the rule is nested too deeply", hint="use fewer groups inside groups") from None

    def add_state(self) -> int:
        return self._states(1)

    def _states(self, count: int) -> int:
        """Add states; returns the first of them."""
        first = self.size
        self.size += count
        if self.size > MAX_STATES:
            raise ConstraintError(f"the rule needs more than {MAX_STATES:,} states", hint="use a simpler rule")
        return first

    def _operate(self, make: Callable[[int, int], Operation], source: int) -> int:
        """An operation needs a state of its own; returns the state it goes on to."""
        holder = self._states(2)
        self.empty.append((source, holder))
        self.operations.append(make(holder, holder + 1))
        return holder + 1

    def _set(self, ranges: ByteRanges) -> int:
        known = self._set_ids.get(ranges)
        if known is None:
            row = bytearray(256)
            for low, high in ranges:
                row[low : high + 1] = b"\1" * (high + 1 - low)
            known = self._set_ids[ranges] = len(self.sets)
            self.sets.append(bytes(row))
        return known

    def _build(self, expression: Expression, source: int) -> int:
        build = _BUILD.get(type(expression))
        if build is None:
            raise TypeError(f"{expression!r} is not an expression")
        return build(self, expression, source)

    def _bytes(self, expression: Bytes, source: int) -> int:
        target = self.add_state()
        self.moves.append((source, self._set(expression.ranges), target))
        return target

    def _literal(self, expression: Literal, source: int) -> int:
        target = self._states(len(expression.text))
        for byte in expression.text:
            self.moves.append((source, self._set(((byte, byte),)), target))
            source, target = target, target + 1
        return source

    def _concat(self, expression: Concat, source: int) -> int:
        for part in expression.parts:
            source = self._build(part, source)
        return source

    def _union(self, expression: Union, source: int) -> int:
        target = self.add_state()
        self._literals([part.text for part in expression.parts if isinstance(part, Literal)], source, target)
        for part in expression.parts:
            if not isinstance(part, Literal):
                self.empty.append((self._build(part, source), target))
        return target

    def _literals(self, texts: list[bytes], source: int, target: int) -> None:
        """Alternatives that share their beginnings: 10,000 words cost one state a byte of their prefix tree."""
        children: dict[tuple[int, int], int] = {}
        for text in texts:
            node = source
            for byte in text:
                child = children.get((node, byte))
                if child is None:
                    child = children[node, byte] = self.add_state()
                    self.moves.append((node, self._set(((byte, byte),)), child))
                node = child
            self.empty.append((node, target))

    def _repeat(self, expression: Repeat, source: int) -> int:
        body, least, most = expression.body, expression.least, expression.most
        copies = least if most is None else most
        small = copies <= 1 or (copies <= INLINE_PARTS and _parts(body, INLINE_PARTS // copies))
        if self._spread or _looks_around(body) or (small and not (most != 1 and is_wide(body))):
            return self._rounds(body, least, most, source)
        known = self._loops.get(id(body))
        if known is None:
            number = len(self.bodies)
            known = self._loops[id(body)] = body, number
            self.bodies.append(self.add_state())
            self._finish(body, self.bodies[number])
        number = known[1]
        return self._operate(lambda holder, target: Loop(holder, number, least, most, target), source)

    def _rounds(self, body: Expression, least: int, most: int | None, source: int) -> int:
        """The loop written out; without an upper bound the last round leads back to its own beginning."""
        if max(least, most or 0) > GUARDED_COPIES:
            what = "that is left-recursive" if self._spread else "with look-around"
            raise ConstraintError(
                f"a part {what} is repeated more than {GUARDED_COPIES:,} times",
                hint="take it out of the repeated part, or lower the bound",
            )
        target = self.add_state()
        last = max(least, 1) if most is None else most
        for count in range(last):
            if count >= least:
                self.empty.append((source, target))
            entry = self.add_state()
            self.empty.append((source, entry))
            source = self._build(body, entry)
        if most is None:
            self.empty.append((source, entry))
        self.empty.append((source, target))
        return target

    def _call(self, expression: Call, source: int) -> int:
        if expression.rule not in self.rules:
            raise ConstraintError(f"rule {expression.rule!r} is used but not defined")
        body = self.rules[expression.rule]
        return self._operate(lambda holder, target: Jump(holder, body, target), source)

    def _embedded(self, expression: Embedded, source: int) -> int:
        return self._operate(lambda holder, target: Run(holder, expression.automaton, target), source)

    def _tracked(self, expression: Tracked, source: int) -> int:
        words, inside = expression.words, expression.inside
        source = self._operate(lambda holder, target: Track(holder, words, inside, target), source)
        return self._operate(Release, self._build(expression.body, source))

    def _ahead(self, expression: Ahead, source: int) -> int:
        guard = expression.automaton, expression.negated, None
        return self._operate(lambda holder, target: Guard(holder, *guard, target), source)

    def _behind(self, expression: Behind, source: int) -> int:
        if expression.automaton not in self.behinds:
            self.behinds.append(expression.automaton)
        guard = expression.automaton, expression.negated, self.behinds.index(expression.automaton)
        return self._operate(lambda holder, target: Guard(holder, *guard, target), source)

    def _all(self, expression: Everything, source: int) -> int:
        hub = self.add_state()
        self.empty.append((source, hub))
        self.moves.append((hub, self._set(ANY_BYTE.ranges), hub))
        self.everything.append(hub)
        return hub


_BUILD = cast(
    "dict[type, Callable[[NFA, Any, int], int]]",
    {
        Bytes: NFA._bytes,
        Literal: NFA._literal,
        Concat: NFA._concat,
        Union: NFA._union,
        Repeat: NFA._repeat,
        Call: NFA._call,
        Embedded: NFA._embedded,
        Tracked: NFA._tracked,
        Ahead: NFA._ahead,
        Behind: NFA._behind,
        Everything: NFA._all,
    },
)


@lru_cache(1024)
def is_wide(body: Expression) -> bool:
    """Can a text of the body begin with very many bytes? Then its loop has masks that are worth sharing."""
    return len(_first_bytes(body)) >= WIDE


def _first_bytes(expression: Expression) -> frozenset[int]:
    """Bytes that a text can begin with; none where that is not seen at once."""
    match expression:
        case Bytes(ranges):
            return frozenset(byte for low, high in ranges for byte in range(low, high + 1))
        case Literal(text):
            return frozenset(text[:1])
        case Concat(parts) if parts:
            return _first_bytes(parts[0])
        case Union(parts):
            return frozenset().union(*map(_first_bytes, parts))
    return frozenset()


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
