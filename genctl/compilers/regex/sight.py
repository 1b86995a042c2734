"""What a look-around asks, and how much of the text it can see from where it stands.

A demand is `Near` (about one neighbouring character) or `Far` (about a pattern). Inside a look-ahead the text before
its start is out of sight, inside a look-behind the text after its end: `Side` keeps count of the characters up to
that edge, and `Facts` collects what has to be known beyond it. `Beside` tells what stands next to a place, so that
many boundaries are decided when the pattern is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf
from re import _constants as c  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple, TypeAlias

from genctl.compilers.characters import ALL, NONE, Characters
from genctl.compilers.regex.classes import NEWLINE, Node, characters_of, is_character

Items: TypeAlias = "Sequence[Node]"  # a re._parser.SubPattern, or a part of one


@dataclass(frozen=True)
class Near:
    """Is the character next to here (behind or ahead) one of `characters`? `edge`: the answer where there is none."""

    behind: bool
    characters: Characters
    edge: bool

    depth = 1.0

    def flip(self) -> Near:
        return Near(self.behind, ~self.characters, not self.edge)

    def plain(self) -> tuple[Near, bool]:
        """This or its opposite, whichever is simpler, and was it the opposite?"""
        other = self.flip()
        flipped = (len(other.characters.ranges), other.edge) < (len(self.characters.ranges), self.edge)
        return (other, True) if flipped else (self, False)


@dataclass(frozen=True)
class Far:
    """Does the text next to here (behind or ahead) match the body (negated: does it not)?"""

    behind: bool
    body: Any  # re._parser.SubPattern, compared by identity
    flags: int
    negated: bool

    @property
    def depth(self) -> float:
        return width(self.body)[1]

    def flip(self) -> Far:
        return replace(self, negated=not self.negated)

    def plain(self) -> tuple[Far, bool]:
        return replace(self, negated=False), self.negated


Look: TypeAlias = "Near | Far"


class Facts(dict[Look, bool]):
    """What holds at the edge of what a look-around can see. Asking for an unknown fact notes it (as False)."""

    def __missing__(self, look: Look) -> bool:
        self[look] = False
        return False

    def holds(self, look: Look) -> bool:
        plain, flipped = look.plain()
        return self[plain] != flipped


class Side(NamedTuple):
    """What can be seen on one side of here: at least and at most so many characters, then an edge.

    facts: what holds at the edge; None where all of the text can be seen.
    """

    least: float
    most: float
    facts: Facts | None

    def moved(self, least: float, most: float) -> Side:
        """Further from the edge by least to most characters."""
        return Side(self.least + least, self.most + most, self.facts)

    def shortened(self, least: float, most: float) -> Side:
        """Nearer to the edge by least to most characters."""
        return self if self.facts is None else Side(self.least - most, self.most - least, self.facts)


TEXT = Side(inf, inf, None)
START = Near(True, NONE, True)
END = Near(False, NONE, True)
LINE_START = Near(True, NEWLINE, True)
LINE_END = Near(False, NEWLINE, True)
LAST_LINE_END = Far(False, _parser.parse(r"\n?\Z"), 0, False)  # what $ means without MULTILINE


class Beside(NamedTuple):
    """What stands next to here on one side: the items of a sequence on that side of the place, then `beyond`."""

    items: Items
    place: int
    flags: int
    behind: bool
    beyond: Beside | None  # None: anything may stand there, the edge of the text too


EDGE = Beside((), 0, 0, True, None)  # the edge of the text


class Scope(NamedTuple):
    """The flags that hold, what look-around can see, and what is known to stand next to here."""

    flags: int
    left: Side
    right: Side
    before: Beside | None = None
    after: Beside | None = None


def flagged(scope: Scope, group: tuple[Any, int, int, Any]) -> Scope:
    """The scope within a group that switches flags on or off."""
    _, on, off, _ = group
    kept = scope.flags & ~_parser.TYPE_FLAGS if on & _parser.TYPE_FLAGS else scope.flags
    return scope._replace(flags=(kept | on) & ~off)


def in_loop(scope: Scope, body: Items) -> Scope:
    """The scope of a body that is read again and again: next to it may stand another round."""
    rounds = ((c.MAX_REPEAT, (0, c.MAXREPEAT, body)),)
    return scope._replace(
        left=scope.left.moved(0, inf),
        right=scope.right.moved(0, inf),
        before=Beside(rounds, 1, scope.flags, True, scope.before),
        after=Beside(rounds, 0, scope.flags, False, scope.after),
    )


def answer(look: Near, scope: Scope) -> bool | None:
    """The answer that the neighbouring items give, None where it depends on the text."""
    beside = scope.before if look.behind else scope.after
    if beside is None:
        return None
    characters, edge = _neighbours(beside)
    yes = bool(characters & look.characters) or (edge and look.edge)
    no = bool(characters - look.characters) or (edge and not look.edge)
    return None if yes and no else yes


def _neighbours(beside: Beside | None) -> tuple[Characters, bool]:
    """The characters that may stand there, and may it be the edge of the text?"""
    if beside is None or beside is EDGE:
        return ALL if beside is None else NONE, True
    items, place = beside.items, beside.place
    places = range(place - 1, -1, -1) if beside.behind else range(place, len(items))
    characters, empty = _outermost((items[i] for i in places), beside.flags, not beside.behind)
    if not empty:
        return characters, False
    further, edge = _neighbours(beside.beyond)
    return characters | further, edge


def _outermost(nodes: Iterable[Node], flags: int, first: bool) -> tuple[Characters, bool]:
    """At most these characters are the first (or the last) of a match; can it be empty? The outermost node first."""
    found = NONE
    for node in nodes:
        characters, empty = _OUTERMOST.get(node[0], _characters_at_edge)(node, flags, first)
        found |= characters
        if not empty:
            return found, False
    return found, True


def _edge_of(items: Items, flags: int, first: bool) -> tuple[Characters, bool]:
    return _outermost(iter(items) if first else reversed(list(items)), flags, first)


def _characters_at_edge(node: Node, flags: int, first: bool) -> tuple[Characters, bool]:
    return (characters_of(node, flags), False) if is_character(node) else (NONE, True)


def _group_at_edge(node: Node, flags: int, first: bool) -> tuple[Characters, bool]:
    return _edge_of(node[1][3], flagged(Scope(flags, TEXT, TEXT), node[1]).flags, first)


def _branches_at_edge(node: Node, flags: int, first: bool) -> tuple[Characters, bool]:
    parts = [_edge_of(part, flags, first) for part in node[1][1]]
    ranges = [r for characters, _ in parts for r in characters.ranges]
    return Characters.of(ranges), any(empty for _, empty in parts)


def _rounds_at_edge(node: Node, flags: int, first: bool) -> tuple[Characters, bool]:
    characters, empty = _edge_of(node[1][2], flags, first)
    return characters, empty or node[1][0] == 0


# Other nodes than these and characters are empty, and then nothing is known of what they ask for.
_OUTERMOST: dict[Any, Callable[[Node, int, bool], tuple[Characters, bool]]] = {
    c.SUBPATTERN: _group_at_edge,
    c.BRANCH: _branches_at_edge,
    c.ATOMIC_GROUP: lambda node, flags, first: _edge_of(node[1], flags, first),
    **dict.fromkeys((c.MAX_REPEAT, c.MIN_REPEAT, c.POSSESSIVE_REPEAT), _rounds_at_edge),
}


def width(body: Any) -> tuple[float, float]:
    """Fewest and most characters of a match."""
    low, high = body.getwidth()
    return low, inf if high >= c.MAXREPEAT else high


def ungrouped(items: list[Node]) -> list[Node]:
    """The items, with a last group that switches no flags opened up."""
    while items and items[-1][0] is c.SUBPATTERN and not any(items[-1][1][1:3]):
        items = [*items[:-1], *items[-1][1][3]]
    return items
