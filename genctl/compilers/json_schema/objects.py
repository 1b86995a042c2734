"""properties, required, additionalProperties.

    read(Place("", {"properties": {"a": {}}, "required": ["a", "b"]}, DRAFTS[2020]))

Order: the declared properties as the schema lists them (optional ones may be left out), then required names that it
does not declare, then free ones. A declared name never comes twice. A *free* name may: the automaton does not remember
them. Each of its values obeys the schema for free properties, so whichever of them a parser keeps, the value is valid.
Declared names are spelled as `json.dumps` does, with or without `ensure_ascii`; free ones in every way.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any

from genctl.automata.expressions import NOTHING, Expression, Literal, concat, optional, repeat, union
from genctl.compilers.json_schema.context import ANYTHING, Context, Facet, Node, Place, meet_nodes, refuse
from genctl.compilers.json_schema.strings import strings_but

BLOCK = 16
MAX_SPLITS = 20  # expressions are nested no deeper than this by common beginnings

OPEN, CLOSE = Literal(b"{"), Literal(b"}")


@dataclass(frozen=True, slots=True)
class Objects(Facet):
    """Objects with declared properties (in order), required names, and free properties that obey `rest`."""

    properties: tuple[tuple[str, Node], ...] = ()
    rest: Node = ANYTHING
    required: tuple[str, ...] = ()

    def meet(self, other: Objects, /) -> Objects:
        mine, theirs = dict(self.properties), dict(other.properties)
        names = dict.fromkeys([*mine, *theirs])
        return Objects(
            tuple((n, meet_nodes(mine.get(n, self.rest), theirs.get(n, other.rest))) for n in names),
            meet_nodes(self.rest, other.rest),
            tuple(dict.fromkeys(self.required + other.required)),
        )

    def members(self) -> dict[str, Node]:
        """Every name that has a place of its own: the declared ones, then the required ones."""
        return dict.fromkeys([*dict(self.properties), *self.required], self.rest) | dict(self.properties)

    def admits(self, value: Any, context: Context, /) -> bool:
        declared = dict(self.properties)
        return all(name in value for name in self.required) and all(
            context.admits(declared.get(name, self.rest), item) for name, item in value.items()
        )

    def needs(self) -> Iterable[tuple[str, Node]]:
        members = self.members()
        return ((f"the required property {name!r}", members[name]) for name in self.required)

    def expression(self, context: Context, /) -> Expression:
        row = _Row(self, context)
        inside = concat(OPEN, context.space.opened, row.next(0), context.space.closing, CLOSE)
        return inside if self.required else union(concat(OPEN, CLOSE), inside)


class _Row:
    """The members of an object in their order, as rules: what may come next once the first i have been passed.

    Later members are offered in blocks of 1, 16, 256, ... with common beginnings read once, so thousands of optional
    properties cost a few items a position.
    """

    def __init__(self, facet: Objects, context: Context) -> None:
        self._context = context
        self._members = list(facet.members().items())
        required = set(facet.required)
        self._required = [name in required for name, _ in self._members]
        self._last_required = max((i for i, required in enumerate(self._required) if required), default=-1)
        self._stops = self._next_stops()
        rest = context.expression(facet.rest)
        names = frozenset(name for name, _ in self._members)
        self._free = NOTHING if rest == NOTHING else concat(strings_but(names), context.space.colon, rest)
        self._rests: dict[int, Expression] = {}

    def next(self, i: int) -> Expression:
        """Member i or a later one, and all that follows it; no required member is passed over."""
        if i == len(self._members) and self._free == NOTHING:
            return NOTHING
        return self._context.rule((self, "next", i), lambda: self._next(i))

    def _next(self, i: int) -> Expression:
        if i == len(self._members):
            return concat(self._free, repeat(concat(self._context.space.comma, self._free)))
        stop = self._stops[i]
        size = _block_size(i, stop)
        block = self._block(i, size)
        if i + size == stop and self._required[stop - 1]:
            return block
        return union(block, self.next(i + size))

    def _block(self, i: int, size: int) -> Expression:
        """One of the members from i on."""
        members = range(i, i + size)
        if size == 1:
            return self._entries(members)
        return self._context.rule((self, "block", i, size), lambda: self._entries(members))

    def _entries(self, members: range) -> Expression:
        return prefix_tree([(text, self._rest(i)) for i in members for text in key_texts(self._members[i][0])])

    def _rest(self, i: int) -> Expression:
        """What follows the name of member i: one object, since a member may stand in several blocks."""
        known = self._rests.get(i)
        if known is None:
            more = concat(self._context.space.comma, self.next(i + 1))
            if i >= self._last_required:
                more = optional(more)
            value = self._context.expression(self._members[i][1])
            known = self._rests[i] = concat(self._context.space.colon, value, more)
        return known

    def _next_stops(self) -> list[int]:
        """For each member the end of those that can come in its place: behind the next required one."""
        stops, stop = [], len(self._members)
        for i in range(len(self._members) - 1, -1, -1):
            stop = i + 1 if self._required[i] else stop
            stops.append(stop)
        return stops[::-1]


def _block_size(start: int, stop: int) -> int:
    size = 1
    while start % (size * BLOCK) == 0 and start + size * BLOCK <= stop:
        size *= BLOCK
    return size


def prefix_tree(entries: Iterable[tuple[bytes, Expression]], splits: int = 0) -> Expression:
    """Alternatives that each begin with a text (none the beginning of another), common beginnings read once."""
    entries = sorted(entries, key=lambda entry: entry[0])
    if len(entries) == 1 or splits == MAX_SPLITS:
        return union(*(concat(Literal(text), rest) for text, rest in entries))
    size = _common_length(entries[0][0], entries[-1][0])
    branches = groupby(entries, key=lambda entry: entry[0][size])
    inner = [prefix_tree([(text[size:], rest) for text, rest in branch], splits + 1) for _, branch in branches]
    return concat(Literal(entries[0][0][:size]), union(*inner))


def _common_length(first: bytes, second: bytes) -> int:
    return next(i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)


def key_texts(name: str) -> set[bytes]:
    """A property name with its quotes, as `json.dumps` spells it."""
    return {encode_basestring(name).encode(), encode_basestring_ascii(name).encode()}


def key(name: str) -> Expression:
    return union(*map(Literal, sorted(key_texts(name))))


def read(place: Place) -> Objects:
    """What the keywords for objects say at this place."""
    declared = place.get("properties", dict, "an object of schemas") or {}
    for name in declared:
        speakable(name, place.at("properties", name))
    required = place.names("required")
    for name in required:
        speakable(name, place.at("required"))
    properties = tuple((name, place.child("properties", name)) for name in declared)
    return Objects(properties, place.optional_child("additionalProperties"), required)


def speakable(text: str, pointer: str) -> None:
    """Refuse a text with a lone surrogate, which UTF-8 cannot write."""
    try:
        text.encode()
    except UnicodeEncodeError:
        refuse(pointer, f"{text!r} holds a lone surrogate, which UTF-8 text cannot have")
