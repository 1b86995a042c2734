"""items, prefixItems (until 2019-09 a list as `items`, and additionalItems), contains, uniqueItems, min- and maxItems.

    read(Place("", {"prefixItems": [{"type": "string"}], "items": False}, DRAFTS[2020]))

Where items are only told apart by position, an array is a row and a loop. Otherwise it is read item by item: what the
rest of an array must be, once its first item is known, is again a facet (the Brzozowski derivative), and each facet is
one rule. An item that `contains` may count is read as one that obeys or as one that need not; where a count is bounded
from above, as one that does not obey. Items that must differ are remembered where they have few values in all; where
they have many, or there would be too many rules, whole arrays are checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import product
from math import comb, prod
from typing import Any, NamedTuple

from genctl.automata.expressions import EMPTY, NOTHING, Expression, Literal, concat, optional, repeat, union
from genctl.compilers.json_schema.context import (
    ANYTHING,
    Context,
    Facet,
    Node,
    Place,
    Pointer,
    identity,
    meet_nodes,
    negations,
)

OPEN, CLOSE = Literal(b"["), Literal(b"]")

MAX_ITEMS = 5_000  # in the rules of one facet, one for each state of the counts and way to read an item there
MAX_WAYS = 200  # to read one item

UNCOUNTED = "there are too many items to count one by one"
UNREMEMBERED = "items may have too many values to remember them"
UNLISTED = "the schemas that an item may obey combine in too many ways"


class Contains(NamedTuple):
    """At least `least` and at most `most` of the items from index `start` on obey the node."""

    node: Node
    least: int = 1
    most: int | None = None
    start: int = 0

    def options(self) -> list[tuple[Node, Contains]]:
        """Ways to read an item: what it obeys, and what is left to count. An item that obeys may stay uncounted if
        the count has no upper bound.
        """
        if self.start:
            return [(ANYTHING, self._replace(start=self.start - 1))]
        counted = self._replace(least=max(self.least - 1, 0), most=None if self.most is None else self.most - 1)
        if self.most is None:
            return [(self.node, counted), (ANYTHING, self)]
        return [(self.node, counted), *((way, self) for way in negations(self.node))]

    def admits(self, items: Sequence[Any], context: Context) -> bool:
        count = sum(context.admits(self.node, item) for item in items[self.start :])
        return self.least <= count and (self.most is None or count <= self.most)


class Either(NamedTuple):
    """Each item from index `start` on obeys one or more of the nodes."""

    nodes: tuple[Node, ...]
    start: int = 0


@dataclass(frozen=True, slots=True)
class Arrays(Facet):
    """Arrays of least to most items: the first ones by their own nodes, the rest by one.

    unique, repeated: where it is demanded that no two items are equal, or that two are.
    """

    prefix: tuple[Node, ...] = ()
    rest: Node = ANYTHING
    least: int = 0
    most: int | None = None
    contains: tuple[Contains, ...] = ()
    either: tuple[Either, ...] = ()
    unique: Pointer | None = None
    repeated: Pointer | None = None

    def meet(self, other: Arrays, /) -> Arrays:
        size = max(len(self.prefix), len(other.prefix))
        return Arrays(
            tuple(meet_nodes(self.item(i), other.item(i)) for i in range(size)),
            meet_nodes(self.rest, other.rest),
            max(self.least, other.least),
            _lesser(self.most, other.most),
            tuple(dict.fromkeys(self.contains + other.contains)),
            tuple(dict.fromkeys(self.either + other.either)),
            other.unique if self.unique is None else self.unique,
            other.repeated if self.repeated is None else self.repeated,
        )

    def item(self, index: int) -> Node:
        return self.prefix[index] if index < len(self.prefix) else self.rest

    @property
    def plain(self) -> bool:
        """Are items told apart by position alone?"""
        return not self.contains and self.unique is None and self.repeated is None

    def admits(self, value: Any, context: Context, /) -> bool:
        if len(value) < self.least or (self.most is not None and len(value) > self.most):
            return False
        return (
            all(context.admits(self.item(i), item) for i, item in enumerate(value))
            and all(
                any(context.admits(node, item) for node in either.nodes)
                for either in self.either
                for item in value[either.start :]
            )
            and all(contains.admits(value, context) for contains in self.contains)
            and ((self.unique is None and self.repeated is None) or self._admits_repetition(value))
        )

    def _admits_repetition(self, value: Sequence[Any]) -> bool:
        repeats = len(set(map(identity, value))) < len(value)
        return not (repeats and self.unique is not None) and (repeats or self.repeated is None)

    def conflict(self, context: Context, /) -> str | None:
        facet = self.bounded(context)
        if facet.unique is not None and facet.repeated is not None:
            return "no array has two equal items and none"
        if facet.most is not None and facet.least > facet.most:
            return f"no array has at least {facet.least} and at most {facet.most} items"
        for contains in facet.contains:
            if contains.most is not None and contains.least > contains.most:
                return f"no array contains at least {contains.least} and at most {contains.most} such items"
            if facet.most is not None and contains.start + contains.least > facet.most:
                return f"no array of at most {facet.most} items contains {contains.least} such items"
        return None

    def needs(self) -> Iterable[tuple[str, Node]]:
        facet = self.simple()
        for i in range(min(facet.least, len(facet.prefix) + 1)):
            yield f"item {i}", facet.item(i)
        for contains in facet.contains:
            if contains.least and contains.start >= len(facet.prefix):
                yield "an item that must be contained", meet_nodes(facet.rest, contains.node)

    def expression(self, context: Context, /) -> Expression:
        if self.conflict(context):
            return NOTHING
        facet = self.bounded(context)
        return (facet if facet.plain and not facet.either else _held(facet, context)).listed(context)

    def listed(self, context: Context) -> Expression:
        """The arrays as far as an automaton holds them."""
        items = self._items(context) if self.plain else _Reading(context).items(_State(self))
        empty = concat(OPEN, CLOSE) if self.ends else NOTHING
        return union(empty, concat(OPEN, context.space.opened, items, context.space.closing, CLOSE))

    @property
    def ends(self) -> bool:
        """Is the empty array admitted?"""
        return not self.least and not any(contains.least for contains in self.contains)

    # -- told apart by position

    def more(self, context: Context) -> Expression:
        """All that follows in an array where this is what its further items must be."""
        items = concat(context.space.comma, self._items(context))
        return optional(items) if self.least == 0 else items

    def _items(self, context: Context) -> Expression:
        """One item or more. The items that must be there stand in a row, each further one is a rule of its own."""
        if self.most == 0:
            return NOTHING
        comma = context.space.comma
        size = max([len(self.prefix), *(either.start for either in self.either)])
        prefix = range(size if self.most is None else min(size, self.most))
        fixed = min(max(self.least, 1), len(prefix))
        row: list[Expression] = []
        for i in prefix[:fixed]:
            row += [comma, self._item(i, context)]
        tail = self._rest(context, comma, size)
        for i in reversed(prefix[fixed:]):
            tail = optional(concat(comma, self._item(i, context), context.own_rule(tail)))
        return concat(*row[1:], tail)

    def _rest(self, context: Context, comma: Expression, size: int) -> Expression:
        """The items from index `size` on."""
        least, most = max(self.least - size, 0), None if self.most is None else self.most - size
        if most is not None and most <= 0:
            return EMPTY
        item = self._item(size, context)
        if size:
            return repeat(concat(comma, item), least, most)
        return concat(item, repeat(concat(comma, item), max(least - 1, 0), None if most is None else most - 1))

    def _item(self, index: int, context: Context) -> Expression:
        if not self.either:
            return context.expression(self.item(index))
        return union(*map(context.expression, self.alternatives(index)))

    def alternatives(self, index: int) -> Iterator[Node]:
        """Nodes of which the item at this index obeys one or more."""
        for nodes in product(*(either.nodes for either in self.either if either.start <= index)):
            yield meet_all((self.item(index), *nodes))

    # -- read item by item

    def readings(self) -> Iterator[tuple[Node, Arrays]]:
        """Ways to read the first item: what it obeys, and what must follow."""
        for node in dict.fromkeys(self.alternatives(0)):
            for options in product(*(contains.options() for contains in self.contains)):
                counted = meet_all((node, *(counted for counted, _ in options)))
                yield counted, self.after(contains for _, contains in options)

    def after(self, contains: Iterable[Contains]) -> Arrays:
        """What must follow the first item, with what is left to count."""
        return replace(
            self,
            prefix=self.prefix[1:],
            least=max(self.least - 1, 0),
            most=None if self.most is None else self.most - 1,
            contains=tuple(contains),
            either=tuple(either._replace(start=max(either.start - 1, 0)) for either in self.either),
        ).simple()

    def simple(self) -> Arrays:
        """The same arrays, with fewer words of those that make a facet more than plain."""
        if self.plain and not self.either:
            return self
        prefix, rest, least, most = list(self.prefix), self.rest, self.least, self.most
        counted: dict[tuple[Node, int], Contains] = {}
        either = dict.fromkeys(self.either)
        for one in self.contains:
            known = counted.get((one.node, one.start), one)
            one = one._replace(least=max(one.least, known.least), most=_lesser(one.most, known.most))
            counted[one.node, one.start] = one
        for key, one in list(counted.items()):
            if one.node == ANYTHING:
                least = max(least, one.start + one.least if one.least else 0)
                most = most if one.most is None else _lesser(most, one.start + one.most)
            elif one.most == 0 and one.least == 0:
                either[Either(negations(one.node), one.start)] = None
            elif one.least or one.most is not None:
                continue
            del counted[key]
        for nodes, start in list(either):
            if not nodes:
                most = _lesser(most, start)
            elif ANYTHING not in nodes and len(nodes) > 1:
                continue
            elif len(nodes) == 1:
                prefix += [rest] * (start - len(prefix))
                prefix[start:] = [meet_nodes(node, nodes[0]) for node in prefix[start:]]
                rest = meet_nodes(rest, nodes[0])
            del either[Either(nodes, start)]
        while prefix and prefix[-1] == rest:
            prefix.pop()
        return Arrays(
            tuple(prefix), rest, least, most, tuple(counted.values()), tuple(either), self.unique, self.repeated
        )

    def bounded(self, context: Context) -> Arrays:
        """The same arrays. Where items must differ, there are no more of them than values."""
        facet = self.simple()
        if facet.unique is None or facet.repeated is not None:
            return facet
        if facet.most is not None and facet.most <= 1:
            return replace(facet, unique=None)
        values = _domain(facet, context)
        return facet if values is None else replace(facet, most=_lesser(facet.most, len(values)))


def meet_all(nodes: Iterable[Node]) -> Node:
    return reduce(meet_nodes, nodes, ANYTHING)


def _lesser(first: int | None, second: int | None) -> int | None:
    return min((bound for bound in (first, second) if bound is not None), default=None)


# -- what an automaton holds


def _held(facet: Arrays, context: Context) -> Arrays:
    """The facet, or one that admits more and can be compiled; whole arrays are checked then."""
    facet = _few_ways(facet, context)
    if facet.repeated is not None:
        context.check(facet.repeated, UNREMEMBERED)
        facet = replace(facet, repeated=None, least=max(facet.least, 2))
    if facet.unique is not None:
        values = _domain(facet, context)
        shifted = (contains for contains in facet.contains if contains.start)  # the others are told by the values
        if values is not None and _sets(len(values), facet.most) * _states(shifted) <= MAX_ITEMS:
            return facet
        context.check(facet.unique, UNREMEMBERED)
        facet = replace(facet, unique=None)
    while facet.contains and _cost(facet) > MAX_ITEMS:
        worst = max(facet.contains, key=lambda contains: _states([contains]))
        context.check(_pointer(worst.node), UNCOUNTED)
        least = max(facet.least, worst.start + worst.least if worst.least else 0)
        facet = replace(facet, least=least, contains=tuple(one for one in facet.contains if one != worst))
    return facet


def _few_ways(facet: Arrays, context: Context) -> Arrays:
    while prod(len(either.nodes) for either in facet.either) > MAX_WAYS:
        worst = max(facet.either, key=lambda either: len(either.nodes))
        context.check(_pointer(worst.nodes[0]), UNLISTED)
        facet = replace(facet, either=tuple(either for either in facet.either if either != worst))
    return facet


def _pointer(node: Node) -> Pointer:
    return node[0].pointer


def _cost(facet: Arrays) -> int:
    """Items in the rules of a facet, at most, if they are read one by one."""
    starts = [one.start for one in facet.contains] + [either.start for either in facet.either]
    positions = 1 + max([len(facet.prefix), facet.least, facet.most or 0, *starts])
    ways = [1 + (1 if one.most is None else len(one.node)) for one in facet.contains]
    ways += [len(either.nodes) for either in facet.either]
    return positions * _states(facet.contains) * prod(ways)


def _states(contains: Iterable[Contains]) -> int:
    return prod(1 + (one.least if one.most is None else one.most) for one in contains)


def _sets(values: int, most: int | None) -> int:
    """Items in the rules that remember which of the values came."""
    most = values if most is None else min(values, most)
    return sum(comb(values, count) * (values - count) for count in range(most + 1))


def _domain(facet: Arrays, context: Context) -> set[object] | None:
    """All values that items may have, where they are listed."""
    found: set[object] = set()
    nodes = facet.prefix[: facet.most]
    for node in nodes if facet.most is not None and facet.most <= len(facet.prefix) else (*nodes, facet.rest):
        values = context.values(node)
        if values is None:
            return None
        found.update(map(identity, values))
    return found


class _State(NamedTuple):
    """What must follow, and the values that came before, if they are remembered."""

    facet: Arrays
    seen: frozenset[object] = frozenset()


class _Reading:
    """The rules of arrays that are read item by item."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._known: dict[Node, list[tuple[object, Any, Expression]]] = {}

    def items(self, state: _State) -> Expression:
        """One item or more, and nothing behind them."""
        return union(*(concat(item, self._more(then)) for item, then in self._choices(state)))

    def _more(self, state: _State) -> Expression:
        """Further items, or none, and nothing behind them."""
        if state.facet.most == 0:
            return EMPTY if state.facet.ends else NOTHING
        if state.facet.plain:
            return self._context.rule(("further items", state.facet), lambda: state.facet.more(self._context))
        return self._context.rule(("further items", state), lambda: self._further(state))

    def _further(self, state: _State) -> Expression:
        """Items that change nothing are a loop, so a long array costs no depth."""
        comma = self._context.space.comma
        loop: list[tuple[Expression, _State]] = []
        on: list[tuple[Expression, _State]] = []
        for item, then in self._choices(state):
            (loop if then == state else on).append((item, then))
        same = concat(comma, union(*(item for item, _ in loop)))
        others = concat(comma, union(*(concat(item, self._more(then)) for item, then in on)))
        return concat(repeat(same), union(*([EMPTY] if state.facet.ends else []), others))

    def _choices(self, state: _State) -> Iterator[tuple[Expression, _State]]:
        """Ways to read an item, and what is left then."""
        if state.facet.most == 0:
            return
        if state.facet.unique is not None:
            yield from self._unseen(state)
            return
        ways: dict[Arrays, dict[Node, None]] = {}
        for node, then in state.facet.readings():
            ways.setdefault(then, {})[node] = None
        for then, nodes in ways.items():
            item = union(*map(self._context.expression, nodes))
            if item != NOTHING:
                yield item, _State(then)

    def _unseen(self, state: _State) -> Iterator[tuple[Expression, _State]]:
        """Items of known values, so that it is known as well which schemas they obey."""
        facet, seen = state
        for name, value, spelled in self._values(facet.item(0)):
            ways = facet.alternatives(0) if facet.either else ()
            if name not in seen and (not ways or any(self._context.admits(way, value) for way in ways)):
                then = facet.after(self._counted(one, value) for one in facet.contains)
                yield spelled, _State(then, seen | {name})

    def _values(self, node: Node) -> list[tuple[object, Any, Expression]]:
        """The values of a node: what each is known by, itself, and its spelling."""
        known = self._known.get(node)
        if known is None:
            values = self._context.values(node) or ()
            rules = (self._context.own_rule(self._context.spelled(node, value)) for value in values)
            known = self._known[node] = list(zip(map(identity, values), values, rules, strict=True))
        return known

    def _counted(self, contains: Contains, value: Any) -> Contains:
        """What is left to count behind the value."""
        obeys = contains.start or self._context.admits(contains.node, value)
        return contains.options()[0][1] if obeys else contains


# -- reading


def read(place: Place) -> Arrays:
    """What the keywords for arrays say at this place."""
    prefix, rest = _items(place)
    least, most = place.count("minItems", 0), place.count("maxItems", None)
    unique = place.at("uniqueItems") if place.get("uniqueItems", bool, "true or false") else None
    return Arrays(prefix, rest, least, most, _contains(place), unique=unique)


def violations(place: Place) -> list[Arrays]:
    """Arrays that do not obey the keywords at this place, those of each word and member by themselves."""
    said = read(place)
    found = [Arrays(most=said.least - 1)] if said.least else []
    if said.most is not None:
        found.append(Arrays(least=said.most + 1))
    for i, node in enumerate(said.prefix):
        found += [Arrays((ANYTHING,) * i + (way,), least=i + 1) for way in negations(node)]
    found += [Arrays(contains=(Contains(way, start=len(said.prefix)),)) for way in negations(said.rest)]
    for one in said.contains:
        if one.least:
            found.append(Arrays(contains=(one._replace(least=0, most=one.least - 1),)))
        if one.most is not None:
            found.append(Arrays(contains=(one._replace(least=one.most + 1, most=None),)))
    if said.unique is not None:
        found.append(Arrays(repeated=said.unique))
    return found


def covering(count: int, matched: tuple[Node, ...], rest: Node) -> Arrays:
    """Arrays whose items from index `count` on obey one of `matched` or `rest`."""
    return Arrays(either=(Either((*matched, rest), count),))


def uncovered(count: int, matched: tuple[Node, ...], node: Node) -> tuple[Arrays, ...]:
    """Arrays with an item from index `count` on that obeys none of `matched`, nor the node."""
    ways = product(*map(negations, (*matched, node)))
    return tuple(Arrays(contains=(Contains(meet_all(way), start=count),)) for way in ways)


def _items(place: Place) -> tuple[tuple[Node, ...], Node]:
    """The schemas of the first items, and that of the others."""
    listed = isinstance(place.schema.get("items"), list)
    if place.draft.year < 2020:
        if listed:
            return _list(place, "items"), place.optional_child("additionalItems")
        return (), place.optional_child("items")
    if listed:
        place.wrong(
            "items", "a schema", 'a list here is `prefixItems` since 2020-12; or name an older draft in "$schema"'
        )
    return _list(place, "prefixItems"), place.optional_child("items")


def _list(place: Place, keyword: str) -> tuple[Node, ...]:
    schemas = place.get(keyword, list, "a list of schemas") or []
    return tuple(place.child(keyword, i) for i in range(len(schemas)))


def _contains(place: Place) -> tuple[Contains, ...]:
    if "contains" not in place.schema or place.draft.year < 6:
        return ()
    if place.draft.year < 2019:
        return (Contains(place.child("contains")),)
    one = Contains(place.child("contains"), place.count("minContains", 1), place.count("maxContains", None))
    return (one,) if one.least or one.most is not None else ()
