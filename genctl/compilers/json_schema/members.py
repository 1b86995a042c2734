"""The members of objects in their order, as rules: what may come next, by how far a text has come.

    Members(facet, context).expression()

Order: the members of the row (optional ones may be left out), then the *crowd* in any order: free names, and names
that come once and somewhere, as a few required ones do that are not declared. How far a text has come is its place in
the row and a *state*: how many members there were, which of those that come once, which demands are met. Rules are made
for the states that can come up.

Where names may come in any order, they all belong to the crowd; too many for it are free to come as they like, and
whole values are checked. A *free* name may come twice in one object: the automaton does not remember them. Names of the
row and of the crowd are spelled as `json.dumps` does, with or without `ensure_ascii`; free ones in every way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from itertools import groupby
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import TYPE_CHECKING, NamedTuple

from genctl.automata.expressions import (
    NOTHING,
    Call,
    Expression,
    Item,
    Literal,
    Row,
    concat,
    optional,
    repeat,
    union,
)
from genctl.compilers.json_schema.context import ANYTHING, NEVER, Context, Node, meet_nodes
from genctl.compilers.json_schema.free_names import free_classes
from genctl.compilers.json_schema.strings import Strings

if TYPE_CHECKING:
    from genctl.compilers.json_schema.objects import Demand, Objects

MAX_RUN = 64  # optional members one behind the other, before they are offered in blocks
BLOCK = 16
MAX_SPLITS = 20  # expressions are nested no deeper than this by common beginnings
MAX_CROWD = 6  # names that come once, in any order
MAX_REQUIRED = 3  # required names that are not declared, before they are put in a row
MAX_DEMANDS = 3
MAX_STATES = 5_000  # of an object, where it counts its members

OPEN, CLOSE = Literal(b"{"), Literal(b"}")


class Member(NamedTuple):
    name: str
    node: Node
    required: bool


class State(NamedTuple):
    """How many members there were, as far as it matters; as bits: who of the crowd came, which demands are met."""

    size: int = 0
    seen: int = 0
    met: int = 0


class Members:
    """The expression of an object. Later members of the row are offered in blocks of 1, 16, 256, ... with common
    beginnings read once, so thousands of optional properties cost a few items a position.
    """

    def __init__(self, facet: Objects, context: Context) -> None:
        self._context, self._pointer = context, facet.pointer
        self._key = object()  # of this object's rules
        self._demands, members, once = _wishes(facet, context)
        if len(self._demands) > MAX_DEMANDS:
            self._check("too many demands for properties are made at once")
            self._demands = self._demands[:MAX_DEMANDS]
        self._row, self._crowd, self._loose = self._places(members, once)
        self._classes = free_classes(facet, frozenset(m.name for m in members + once), context)
        self._last_required = max((i for i, member in enumerate(self._row) if member.required), default=-1)
        self._required = sum(1 << i for i, member in enumerate(self._crowd) if member.required)
        self._all_met = (1 << len(self._demands)) - 1
        self._stops = self._next_stops()
        self._tails: dict[tuple[int, State], Expression] = {}
        self._frees: dict[int, Expression] = {}
        self._least, self._most = self._counts(facet.least, facet.most)

    def _places(self, members: list[Member], once: list[Member]) -> tuple[list[Member], list[Member], list[Member]]:
        """Row, crowd, and those that come as they like."""
        row = members if self._context.property_order == "declared" else []
        crowd = once if row else members + once
        if len(crowd) <= MAX_CROWD:
            return row, crowd, []
        self._check("too many properties may come in any order")
        return row, [], crowd

    def _check(self, reason: str) -> None:
        self._context.check(self._pointer, reason)

    def _counts(self, least: int, most: int | None) -> tuple[int, int | None]:
        """The bounds that say something; none of them where counting would take too many states."""
        if least <= sum(member.required for member in self._row + self._crowd):
            least = 0
        least = max(least, sum(member.required for member in self._loose))
        if most is not None and not self._open() and len(self._row + self._crowd) <= most:
            most = None
        if not least and most is None:
            return least, most
        bound = least if most is None else most
        states = len(self._row) * min(len(self._row), bound)
        if self._crowd or self._demands:
            states = (states + bound) << len(self._crowd) + len(self._demands)
        if states <= MAX_STATES:
            return least, most
        self._check("there are too many properties to count them")
        return 0, None

    def _open(self) -> bool:
        """May there be members of any number?"""
        return bool(self._loose or self._classes)

    def possible(self) -> int | None:
        """How many members there may be at most, None for any number."""
        if self._open():
            return None
        return sum(self._context.expression(member.node) != NOTHING for member in self._row + self._crowd)

    def hopeless(self) -> bool:
        """Is there a demand that no member can meet?"""
        places = self._row + self._crowd
        for i, demand in enumerate(self._demands):
            here = any(demand.suits(m.name, self._context) and self._value(m.node, 1 << i) != NOTHING for m in places)
            if not here and self._free(1 << i) == NOTHING:
                return True
        return False

    def expression(self) -> Expression:
        begun = State()
        empty = concat(OPEN, CLOSE) if self._may_end(0, begun) else NOTHING
        if self._full(begun):
            return empty
        members = self._whole_row() if self._is_plain() else self._next(0, begun)
        inside = concat(OPEN, self._context.space.opened, members, self._context.space.closing, CLOSE)
        return union(empty, inside)

    def _is_plain(self) -> bool:
        """Is all that matters which members may come behind which, and these are not many?"""
        counted = self._demands or self._least or self._most is not None
        longest = max((stop - i for i, stop in enumerate(self._stops)), default=0)
        return bool(self._row) and longest <= MAX_RUN and not counted

    def _whole_row(self) -> Expression:
        begun, items = State(), list[Item]()
        for i, member in enumerate(self._row, start=1):
            value = self._context.expression(member.node)
            if value != NOTHING or member.required:
                texts = tuple(sorted(key_texts(member.name)))
                items.append(Item(texts, value, self._may_end(i, begun), member.required))
        return Row(
            tuple(items), self._context.space.colon, self._context.space.comma, self._next(len(self._row), begun)
        )

    # -- states

    def _may_end(self, i: int, state: State) -> bool:
        """May the object end before member i of the row?"""
        enough = state.size >= self._least and not self._required & ~state.seen
        return i > self._last_required and enough and state.met == self._all_met

    def _full(self, state: State) -> bool:
        return self._most is not None and state.size == self._most

    def _after(self, state: State, seen: int = 0, met: int = 0) -> State:
        """The state after one more member."""
        counts = self._most is not None or state.size < self._least
        return State(state.size + counts, state.seen | seen, state.met | met)

    def _meetings(self, name: str, state: State) -> Iterator[int]:
        """The sets of further demands that the member with this name may meet; the automaton may pick any."""
        suitable = [
            1 << i
            for i, demand in enumerate(self._demands)
            if not state.met >> i & 1 and demand.suits(name, self._context)
        ]
        return _subsets(sum(suitable))

    def _value(self, node: Node, met: int) -> Expression:
        """The values of a member that meets these demands."""
        values = [demand.value for i, demand in enumerate(self._demands) if met >> i & 1]
        return self._context.expression(reduce(meet_nodes, values, node))

    # -- the row

    def _next(self, i: int, state: State) -> Expression:
        """Member i or a later one, and all that follows it; no required member is passed over."""
        if i == len(self._row) and not self._has_crowd(state):
            return NOTHING
        if i == len(self._row):
            return self._context.rule((self._key, "crowd", state), lambda: self._some_crowd(state))
        return self._context.rule((self._key, "next", i, state), lambda: self._some_row(i, state))

    def _some_row(self, i: int, state: State) -> Expression:
        stop = self._stops[i]
        size = _block_size(i, stop)
        block = self._block(i, size, state)
        if i + size == stop and self._row[stop - 1].required:
            return block
        rest = self._next(i + size, state)  # up to the next block of 16 all names are read at once
        if isinstance(rest, Call) and size == 1 and (i + 1) % BLOCK and i + 1 < len(self._row):
            rest = Call(rest.rule, here=True)
        return union(block, rest)

    def _block(self, i: int, size: int, state: State) -> Expression:
        """One of the members from i on."""
        members = range(i, i + size)
        if size == 1:
            return self._entries(members, state)
        return self._context.rule((self._key, "block", i, size, state), lambda: self._entries(members, state))

    def _entries(self, members: range, state: State) -> Expression:
        return prefix_tree([(text, self._of_row(i, state)) for i in members for text in key_texts(self._row[i].name)])

    def _of_row(self, i: int, state: State) -> Expression:
        """What follows the name of member i: one object, since a member may stand in several blocks."""
        known = self._tails.get((i, state))
        if known is None:
            known = self._tails[i, state] = self._pair(self._row[i], i + 1, state)
        return known

    def _pair(self, member: Member, i: int, state: State, seen: int = 0) -> Expression:
        """What follows the name of a member, which is followed by the row from i on."""
        ways = [
            concat(self._value(member.node, met), self._tail(i, self._after(state, seen, met)))
            for met in self._meetings(member.name, state)
        ]
        return concat(self._context.space.colon, union(*ways))

    def _tail(self, i: int, state: State) -> Expression:
        """What follows a value: the end of the members, if it may come, or a comma and the row from i on."""
        more = NOTHING if self._full(state) else concat(self._context.space.comma, self._next(i, state))
        return optional(more) if self._may_end(i, state) else more

    def _next_stops(self) -> list[int]:
        """For each member the end of those that can come in its place: behind the next required one."""
        stops, stop = [], len(self._row)
        for i in range(len(self._row) - 1, -1, -1):
            stop = i + 1 if self._row[i].required else stop
            stops.append(stop)
        return stops[::-1]

    # -- the crowd

    def _has_crowd(self, state: State) -> bool:
        unseen = len(self._crowd) > state.seen.bit_count()
        return unseen or self._open()

    def _some_crowd(self, state: State) -> Expression:
        """One member of the crowd or more."""
        free, comma, end = self._free(0), self._context.space.comma, len(self._row)
        if state.met == self._all_met and state.seen.bit_count() == len(self._crowd):
            least = max(self._least - state.size - 1, 0)
            most = None if self._most is None else self._most - state.size - 1
            return concat(free, repeat(concat(comma, free), least, most))
        entries = [
            (text, self._pair(member, end, state, seen=1 << j))
            for j, member in enumerate(self._crowd)
            if not state.seen >> j & 1
            for text in key_texts(member.name)
        ]
        ways = [prefix_tree(entries)] if entries else []
        for met in _subsets(self._all_met & ~state.met):
            if met:
                ways.append(concat(self._free(met), self._tail(end, self._after(state, met=met))))
        if self._after(state) != state:
            return union(*ways, concat(free, self._tail(end, self._after(state))))
        last = free if self._may_end(end, state) else NOTHING
        return concat(repeat(concat(free, comma)), union(*ways, last))

    def _free(self, met: int) -> Expression:
        """A free member that meets these demands."""
        known = self._frees.get(met)
        if known is None:
            found = union(*self._free_ways(met))
            if found != NOTHING:
                self._context.repeating()
            simple = found == NOTHING or (not self._loose and len(self._classes) == 1 and not self._demands)
            known = self._frees[met] = found if simple else self._context.own_rule(found)
        return known

    def _free_ways(self, met: int) -> Iterable[Expression]:
        colon = self._context.space.colon
        demands = [demand for i, demand in enumerate(self._demands) if met >> i & 1]
        entries = [
            (text, concat(colon, self._value(member.node, met)))
            for member in self._loose
            if all(demand.suits(member.name, self._context) for demand in demands)
            for text in key_texts(member.name)
        ]
        yield prefix_tree(entries) if entries else NOTHING
        for names, node in self._classes:
            value = self._value(node, met)
            if value != NOTHING:
                met_names = reduce(self._met_names, demands, names)
                keys = [facet.expression(self._context) for facet in dict.fromkeys(met_names)]
                yield concat(union(*keys), colon, value)

    def _met_names(self, names: Sequence[Strings], demand: Demand) -> tuple[Strings, ...]:
        naming = (Strings(),) if demand.naming == ANYTHING else self._context.strings(demand.naming)
        wanted = [demand.names.meet(facet) for facet in naming if isinstance(facet, Strings)]
        return tuple(name.meet(facet) for name in names for facet in wanted)


def _wishes(facet: Objects, context: Context) -> tuple[list[Demand], list[Member], list[Member]]:
    """Demands, members with a place in the row, and names that must come somewhere.

    A demand for a member with a given name is that this name is required, with a place in the row or without.
    """
    node_of, demands = facet.nodes(), []
    singles: dict[str, Node] = {}
    for demand in facet.some:
        name = demand.single
        if name is None:
            demands.append(demand)
        else:
            value = demand.value if demand.suits(name, context) else NEVER
            singles[name] = meet_nodes(singles.get(name, ANYTHING), value)
    required = {*facet.required, *singles}

    def member(name: str) -> Member:
        allowed = facet.names == ANYTHING or context.admits(facet.names, name)
        node = meet_nodes(node_of(name), singles.get(name, ANYTHING)) if allowed else NEVER
        return Member(name, node, name in required)

    declared = facet.declared()
    if len(required.difference(dict(facet.properties))) <= MAX_REQUIRED:
        declared = tuple(dict(facet.properties))
    names = dict.fromkeys([*facet.required, *singles])
    return demands, [member(n) for n in declared], [member(n) for n in names if n not in declared]


def _subsets(bits: int) -> Iterator[int]:
    """All subsets of a set of bits, the empty one first."""
    subset = 0
    while True:
        yield subset
        if subset == bits:
            return
        subset = (subset - bits) & bits


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
    if name.isascii() and name.isprintable():
        return {encode_basestring(name).encode()}
    return {encode_basestring(name).encode(), encode_basestring_ascii(name).encode()}


def key(name: str) -> Expression:
    return union(*map(Literal, sorted(key_texts(name))))
