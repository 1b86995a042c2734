"""items, prefixItems (before 2020-12: a list as `items`, and additionalItems), minItems, maxItems.

read(Place("", {"prefixItems": [{"type": "string"}], "items": False}, DRAFTS[2020]))
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from genctl.automata.expressions import EMPTY, NOTHING, Expression, Literal, concat, optional, repeat, union
from genctl.compilers.json_schema.context import ANYTHING, Context, Facet, Node, Place, meet_nodes

OPEN, CLOSE = Literal(b"["), Literal(b"]")


@dataclass(frozen=True, slots=True)
class Arrays(Facet):
    """Arrays of least to most items: the first ones by their own nodes, the rest by one."""

    prefix: tuple[Node, ...] = ()
    rest: Node = ANYTHING
    least: int = 0
    most: int | None = None

    def meet(self, other: Arrays, /) -> Arrays:
        size = max(len(self.prefix), len(other.prefix))
        most = [bound for bound in (self.most, other.most) if bound is not None]
        return Arrays(
            tuple(meet_nodes(self.item(i), other.item(i)) for i in range(size)),
            meet_nodes(self.rest, other.rest),
            max(self.least, other.least),
            min(most, default=None),
        )

    def item(self, index: int) -> Node:
        return self.prefix[index] if index < len(self.prefix) else self.rest

    def admits(self, value: Any, context: Context, /) -> bool:
        if len(value) < self.least or (self.most is not None and len(value) > self.most):
            return False
        return all(context.admits(self.item(i), item) for i, item in enumerate(value))

    def conflict(self, context: Context, /) -> str | None:
        if self.most is not None and self.least > self.most:
            return f"no array has at least {self.least} and at most {self.most} items"
        return None

    def needs(self) -> Iterable[tuple[str, Node]]:
        for i in range(min(self.least, len(self.prefix) + 1)):
            yield f"item {i}", self.item(i)

    def expression(self, context: Context, /) -> Expression:
        if self.most is not None and self.least > self.most:
            return NOTHING
        space = context.space
        items = concat(space.opened, self._items(context), space.closing)
        empty = concat(OPEN, CLOSE) if self.least == 0 else NOTHING
        return union(empty, concat(OPEN, items, CLOSE))

    def _items(self, context: Context) -> Expression:
        """One item or more. The items that must be there stand in a row, each further one is a rule of its own."""
        if self.most == 0:
            return NOTHING
        comma = context.space.comma
        prefix = self.prefix[: self.most]
        fixed = min(max(self.least, 1), len(prefix))
        row: list[Expression] = []
        for node in prefix[:fixed]:
            row += [comma, context.expression(node)]
        tail = self._rest(context, comma, max(self.least - len(prefix), 0), bool(prefix))
        for i in range(len(prefix) - 1, fixed - 1, -1):
            tail = optional(concat(comma, context.expression(prefix[i]), context.own_rule(tail)))
        return concat(*row[1:], tail)

    def _rest(self, context: Context, comma: Expression, least: int, continued: bool) -> Expression:
        most = None if self.most is None else self.most - len(self.prefix)
        if most is not None and most <= 0:
            return EMPTY
        item = context.expression(self.rest)
        if continued:
            return repeat(concat(comma, item), least, most)
        return concat(item, repeat(concat(comma, item), max(least - 1, 0), None if most is None else most - 1))


def read(place: Place) -> Arrays:
    """What the keywords for arrays say at this place."""
    prefix, rest = _modern(place) if place.draft.year >= 2020 else _classic(place)
    return Arrays(prefix, rest, place.count("minItems", 0), place.count("maxItems", None))


def _modern(place: Place) -> tuple[tuple[Node, ...], Node]:
    if isinstance(place.schema.get("items"), list):
        place.wrong(
            "items", "a schema", 'a list here is `prefixItems` since 2020-12; or name an older draft in "$schema"'
        )
    return _list(place, "prefixItems"), place.optional_child("items")


def _classic(place: Place) -> tuple[tuple[Node, ...], Node]:
    if isinstance(place.schema.get("items"), list):
        return _list(place, "items"), place.optional_child("additionalItems")
    return (), place.optional_child("items")


def _list(place: Place, keyword: str) -> tuple[Node, ...]:
    schemas = place.get(keyword, list, "a list of schemas") or []
    return tuple(place.child(keyword, i) for i in range(len(schemas)))
