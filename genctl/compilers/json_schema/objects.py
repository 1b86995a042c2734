"""properties, patternProperties, additionalProperties, propertyNames, required, minProperties, maxProperties.

    read(Place("", {"properties": {"a": {}}, "required": ["a", "b"]}, DRAFTS[2020]))

What an object says to the automaton is in members.py. Order: the declared properties as the schema lists them
(optional ones may be left out), then free names, a few required ones that it does not declare among them; where those
are many, they come before the free ones as they are listed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from genctl.automata.expressions import Expression
from genctl.compilers.json_schema.context import (
    ANYTHING,
    NEVER,
    Context,
    Facet,
    Node,
    Place,
    Pointer,
    meet_nodes,
    negations,
    refuse,
)
from genctl.compilers.json_schema.free_names import NodeOf, Rest
from genctl.compilers.json_schema.members import Members
from genctl.compilers.json_schema.strings import Pattern, Strings


class Demand(NamedTuple):
    """There is a member whose name is one of `names` and obeys `naming`, and whose value obeys `value`."""

    names: Strings
    value: Node
    naming: Node = ANYTHING

    @property
    def single(self) -> str | None:
        """The only name that will do, if it is one."""
        only = self.names.only
        return next(iter(only)) if only is not None and len(only) == 1 else None

    def suits(self, name: str, context: Context) -> bool:
        return self.names.admits(name, context) and context.admits(self.naming, name)


@dataclass(frozen=True, slots=True)
class Objects(Facet):
    """Objects of least to most members that have the required ones, and some that meet each demand.

    The value of a member obeys the node of its property, the nodes of all patterns that its name matches, and the rest
    of each place that does not cover the name. All names obey `names`. pointer: a place that says so.
    """

    properties: tuple[tuple[str, Node], ...] = ()
    patterns: tuple[tuple[Pattern, Node], ...] = ()
    rests: tuple[Rest, ...] = ()
    names: Node = ANYTHING
    required: tuple[str, ...] = ()
    least: int = 0
    most: int | None = None
    some: tuple[Demand, ...] = ()
    pointer: Pointer = field(default="", compare=False)
    _hash: int | None = field(default=None, init=False, compare=False, repr=False)

    def __hash__(self) -> int:
        """Worked out once: there may be thousands of properties."""
        if self._hash is None:
            said = self.properties, self.patterns, self.rests, self.names, self.required
            object.__setattr__(self, "_hash", hash((said, self.least, self.most, self.some)))
        assert self._hash is not None
        return self._hash

    def meet(self, other: Objects, /) -> Objects:
        most = [bound for bound in (self.most, other.most) if bound is not None]
        return Objects(
            self._met_properties(other),
            tuple(dict.fromkeys(self.patterns + other.patterns)),
            tuple(dict.fromkeys(self.rests + other.rests)),
            meet_nodes(self.names, other.names),
            tuple(dict.fromkeys(self.required + other.required)),
            max(self.least, other.least),
            min(most, default=None),
            tuple(dict.fromkeys(self.some + other.some)),
            self.pointer or other.pointer,
        )

    def _met_properties(self, other: Objects) -> tuple[tuple[str, Node], ...]:
        if not self.properties or not other.properties:
            return self.properties or other.properties
        mine, theirs = dict(self.properties), dict(other.properties)
        met = mine | theirs
        for name in mine.keys() & theirs.keys():
            met[name] = meet_nodes(mine[name], theirs[name])
        return tuple(met.items())

    def nodes(self) -> NodeOf:
        """What the value of the member with a name obeys, by the name."""
        own = dict(self.properties)

        def node_of(name: str) -> Node:
            node = own.get(name, ANYTHING)
            for pattern, said in self.patterns:
                node = meet_nodes(node, said) if pattern.holds(name) else node
            for rest in self.rests:
                node = node if rest.covers(name) else meet_nodes(node, rest.node)
            return node

        return node_of

    def declared(self) -> tuple[str, ...]:
        """Every name that has a place of its own: the declared ones, then the required ones."""
        return tuple(dict.fromkeys([*dict(self.properties), *self.required]))

    def admits(self, value: Any, context: Context, /) -> bool:
        if len(value) < self.least or (self.most is not None and len(value) > self.most):
            return False
        if not all(name in value for name in self.required):
            return False
        if self.names != ANYTHING and not all(context.admits(self.names, name) for name in value):
            return False
        node_of = self.nodes()
        return all(context.admits(node_of(name), item) for name, item in value.items()) and all(
            any(context.admits(demand.value, item) and demand.suits(name, context) for name, item in value.items())
            for demand in self.some
        )

    def needs(self) -> Iterable[tuple[str, Node]]:
        node_of = self.nodes()
        for name, wanted in self._needed().items():
            yield f"the required property {name!r}", meet_nodes(node_of(name), wanted)

    def _needed(self) -> dict[str, Node]:
        """The names that must be there, with what demands say of their values."""
        needed: dict[str, Node] = dict.fromkeys(self.required, ANYTHING)
        for demand in self.some:
            if demand.single is not None:
                needed[demand.single] = meet_nodes(needed.get(demand.single, ANYTHING), demand.value)
        return needed

    def plainly_empty(self) -> bool:
        if not (self.required or self.some or self.most is not None):
            return False
        return self._bounds() is not None

    def _bounds(self) -> str | None:
        """Do the numbers of properties exclude each other, or a name that must be there and one that must not?"""
        if self.most is not None and self.least > self.most:
            return f"no object has at least {self.least} and at most {self.most} properties"
        needed = self._needed()
        if self.most is not None and len(needed) > self.most:
            return f"{len(needed)} properties must be there, and at most {self.most} may be"
        absent = {name for name, node in self.properties if NEVER[0] in node and name in needed}
        return f"the property {min(absent)!r} must be there and must not" if absent else None

    def conflict(self, context: Context, /) -> str | None:
        bounds = self._bounds()
        if bounds is not None:
            return bounds
        for name in self._needed() if self.names != ANYTHING else ():
            if not context.admits(self.names, name):
                return f"the property {name!r} must be there, and its name is not allowed"
        members = Members(self, context)
        possible = members.possible()
        if possible is not None and possible < self.least:
            return f"an object has at least {self.least} properties, and only {possible} may be there"
        return "no property can be what another keyword asks for" if members.hopeless() else None

    def expression(self, context: Context, /) -> Expression:
        return Members(self, context).expression()


def read(place: Place) -> Objects:
    """What the keywords for objects say at this place."""
    declared, patterns = _declared(place), _patterns(place)
    rests: tuple[Rest, ...] = ()
    if "additionalProperties" in place.schema:
        covered = tuple(pattern for pattern, _ in patterns)
        rests = (Rest(frozenset(declared), covered, place.child("additionalProperties")),)
    return Objects(
        tuple((name, place.child("properties", name)) for name in declared),
        patterns,
        rests,
        place.optional_child("propertyNames"),
        _required(place),
        place.count("minProperties", 0),
        place.count("maxProperties", None),
        pointer=place.pointer,
    )


def violations(place: Place) -> list[Objects]:
    """The ways not to obey the keywords for objects at this place; their union is all of these."""
    declared, patterns = _declared(place), _patterns(place)
    covered = tuple(pattern for pattern, _ in patterns)
    demands = [
        Demand(Strings(only=frozenset((name,))), node)
        for name, schema in declared.items()
        if schema is not True and schema != {}
        for node in negations(place.child("properties", name))
    ]
    demands += [Demand(Strings(patterns=(p,)), node) for p, child in patterns for node in negations(child)]
    for node in negations(place.optional_child("additionalProperties")):
        demands.append(Demand(Strings(without=covered, excluded=frozenset(declared)), node))
    demands += [Demand(Strings(), ANYTHING, node) for node in negations(place.optional_child("propertyNames"))]
    found = [Objects(some=(demand,), pointer=place.pointer) for demand in demands]
    found += [Objects(properties=((name, NEVER),), pointer=place.pointer) for name in _required(place)]
    least, most = place.count("minProperties", 0), place.count("maxProperties", None)
    found += [Objects(most=least - 1, pointer=place.pointer)] if least else []
    found += [] if most is None else [Objects(least=most + 1, pointer=place.pointer)]
    return found


def covering(names: tuple[str, ...], patterns: tuple[Pattern, ...], rest: Node) -> Objects:
    """Objects whose members with another name, that matches none of the patterns, have values that obey rest."""
    return Objects(rests=(Rest(frozenset(names), patterns, rest),))


def uncovered(names: tuple[str, ...], patterns: tuple[Pattern, ...], node: Node) -> tuple[Objects, ...]:
    """The ways not to be an object of covering(names, patterns, node)."""
    others = Strings(without=patterns, excluded=frozenset(names))
    return tuple(Objects(some=(Demand(others, negated),)) for negated in negations(node))


def _declared(place: Place) -> dict[str, Any]:
    declared = place.get("properties", dict, "an object of schemas") or {}
    for name in declared:
        speakable(name, place.at("properties", name))
    return declared


def _patterns(place: Place) -> tuple[tuple[Pattern, Node], ...]:
    sources = place.get("patternProperties", dict, "an object of schemas by patterns") or {}
    keyword = "patternProperties"
    return tuple((Pattern(s, place.at(keyword, s)), place.child(keyword, s)) for s in sources)


def _required(place: Place) -> tuple[str, ...]:
    required = place.names("required")
    for name in required:
        speakable(name, place.at("required"))
    return required


def speakable(text: str, pointer: str) -> None:
    """Refuse a text with a lone surrogate, which UTF-8 cannot write."""
    try:
        text.encode()
    except UnicodeEncodeError:
        refuse(pointer, f"{text!r} holds a lone surrogate, which UTF-8 text cannot have")
