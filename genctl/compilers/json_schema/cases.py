"""Nodes as the union of their cases: combinators and references are resolved, negations pushed down to the keywords.

    Expander(documents, check).cases(node)  # {"anyOf": [A, B], "type": "object"}: what A says of objects, what B does

A case says of each kind of value what it must be like (a facet), or lists the values. `not` becomes a union over the
ways to violate a schema, `oneOf` the union of "this one and none of the others", `if` that of both outcomes, and
`unevaluatedProperties` applies to what no schema that holds in the case has evaluated.

A value obeys a recursive schema if there is a finite proof of it (the least fixed point), so a way that comes back to
the place it started from, without having read anything, is left out. Where cases get too many, negated schemas are left
to the check of whole values.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, NamedTuple, TypeAlias, TypeVar

from genctl.compilers.json_schema import arrays, objects
from genctl.compilers.json_schema.context import Facet, Node, Part, Place, Pointer, identity, negations, refuse
from genctl.compilers.json_schema.document import Documents
from genctl.compilers.json_schema.rules import meet_kinds, read, violations
from genctl.compilers.json_schema.strings import Pattern
from genctl.compilers.json_schema.values import (
    KINDS,
    TYPES,
    all_but,
    common,
    other_types,
    plainly_excluded,
    read_values,
    same_as,
)

MAX_CASES = 2_000
MAX_STEPS = 20_000
MAX_EXACT_CASES = 128  # of a node, before negated schemas are left to the check of whole values
MAX_EXACT_STEPS, FEW_STEPS = 6_000, 200  # for all nodes together, and for each node behind these
MAX_SIGNS = 6  # alternatives of which every combination is looked at
MAX_LOOK, LOOK_STEPS = 3, 60  # levels of required properties that are searched for a contradiction, steps at each

T = TypeVar("T")
Path: TypeAlias = frozenset[Part]
Owners: TypeAlias = tuple[Part, ...]  # places whose unevaluated... asks what holds here
Kinds: TypeAlias = Mapping[str, Facet]
Report: TypeAlias = Callable[[Pointer, str], None]


@dataclass(frozen=True, eq=False)
class Case:
    """What is said of each kind of value, kinds that are left out not being allowed; or of listed values as well."""

    pointer: Pointer  # of the last place that it was read from
    kinds: Kinds
    values: list[Any] | None

    @cached_property
    def key(self) -> Hashable:
        """Equal for cases that say the same."""
        kinds = tuple((kind, self.kinds[kind]) for kind in KINDS if kind in self.kinds)
        return kinds, None if self.values is None else tuple(map(identity, self.values))


class Cases(NamedTuple):
    cases: tuple[Case, ...]
    dropped: tuple[Pointer, str] | None  # where and why a way led nowhere


# What a schema says that names one of these types and nothing else, as most of those that are in no other place do.
SCALARS = {
    name: Cases((Case("", {kind: facet}, None),), None)
    for name, (kind, facet) in TYPES.items()
    if kind not in ("array", "object")
}


class Said(NamedTuple):
    """What an alternative says of each kind of value."""

    kinds: Kinds


class Choice(NamedTuple):
    """One or more of the alternatives hold, each a conjunction."""

    alternatives: tuple[tuple[Task, ...], ...]


class Rest(NamedTuple):
    """What `unevaluatedProperties` or `unevaluatedItems` of a place says once all else there is known to hold."""

    part: Part
    word: str


class But(NamedTuple):
    """The schema at a place without its unevaluated... keywords."""

    part: Part


Task: TypeAlias = Part | Said | Choice | Rest | But


class _Way(NamedTuple):
    """One choice of alternatives so far."""

    pending: tuple[tuple[Task, Path, Owners], ...]
    kinds: Kinds
    values: list[Any] | None
    pointer: Pointer
    done: frozenset[tuple[Part, Owners]] = frozenset()
    seen: tuple[tuple[Part, Owners], ...] = ()  # places that hold, as far as owners ask

    def waiting(self, pending: tuple[tuple[Task, Path, Owners], ...]) -> _Way:
        return _Way(pending, self.kinds, self.values, self.pointer, self.done, self.seen)


class _TooManyError(Exception):
    pass


class Expander:
    """check: is told where a part is left to the check of whole values."""

    def __init__(self, documents: Documents, check: Report) -> None:
        self._documents, self.check = documents, check
        self.steps_left = MAX_EXACT_STEPS
        self._known: dict[Node, Cases] = {}
        self._said: dict[Part, tuple[Kinds, list[Any] | None]] = {}
        self._hopeless_nodes: dict[Node, bool] = {}
        self._disjoint: dict[tuple[Part, Part], bool | None] = {}  # None while it is being looked at
        self._unsure = 0  # how often that was asked for meanwhile
        self._kept: dict[Hashable, Any] = {}

    def cases(self, node: Node) -> Cases:
        """The cases of a node in order, each once."""
        known = self._known.get(node)
        if known is None:
            known = self._known[node] = self._single(node) or self._referred(node) or self._expanded(node)
        return known

    def _referred(self, node: Node) -> Cases | None:
        """The cases of what a lone reference leads to."""
        seen = {node}
        while len(node) == 1 and not node[0].negated and isinstance(self.schema(node[0]), dict):
            place = self.place(node[0])
            if place.schema.keys() != {"$ref"}:
                return self.cases(node) if len(seen) > 1 else None
            node = (self.reference(place, "$ref"),)
            if node in seen:
                return None
            seen.add(node)
        return None

    def _single(self, node: Node) -> Cases | None:
        """The only case of a schema without combinators and references, as most are."""
        if len(node) != 1 or node[0].negated or isinstance(self.schema(node[0]), bool):
            return None
        schema = self.place(node[0]).schema
        if len(schema) == 1 and isinstance(schema.get("type"), str) and schema["type"] in SCALARS:
            return SCALARS[schema["type"]]
        if not COMBINING.isdisjoint(schema):
            return None
        kinds, values = self.said(node[0])
        return Cases((Case(node[0].pointer, kinds, values),), None) if kinds else None

    def _expanded(self, node: Node) -> Cases:
        try:
            return _Expansion(self).run(node)
        except _TooManyError:
            return _Expansion(self, loose=True).run(node)

    def place(self, part: Part) -> Place:
        return self._documents.place(part.positive)

    def schema(self, part: Part) -> bool | dict[str, Any]:
        return self._documents.schema(part.pointer)

    def reference(self, place: Place, word: str) -> Part:
        return self._documents.target(place) if word == "$ref" else self._documents.dynamic_target(place)

    def synthetic(self, place: Place, word: str, schema: dict[str, Any]) -> Part:
        return Part(self._documents.synthetic(place.at(word), schema), scope=place.scope)

    def said(self, part: Part) -> tuple[Kinds, list[Any] | None]:
        """What the families' keywords of a place say, and the values that it lists."""
        if part not in self._said:
            place = self.place(part)
            self._said[part] = read(place), read_values(place)
        return self._said[part]

    def kept(self, key: Hashable, make: Callable[[], T]) -> T:
        """What was made before under this key, unless it was made while something that it asked for was not known."""
        known: T | None = self._kept.get(key)
        if known is None:
            before = self._unsure
            known = make()
            if self._unsure == before:
                self._kept[key] = known
        return known

    # -- contradictions that are seen without automata

    def hopeless(self, case: Case, depth: int = 0) -> bool:
        """Is it plain to see that no value is in the case?"""
        if case.values is not None and all(plainly_excluded(value, case.kinds) for value in case.values):
            return True
        return all(self._hopeless_facet(facet, depth) for facet in case.kinds.values())

    def _hopeless_facet(self, facet: Facet, depth: int) -> bool:
        if facet.plainly_empty():
            return True
        return depth < MAX_LOOK and any(self._hopeless_node(node, depth + 1) for _, node in facet.needs())

    def _hopeless_node(self, node: Node, depth: int) -> bool:
        if node not in self._hopeless_nodes:
            self._hopeless_nodes[node] = False  # while it is being looked at
            try:
                found = _Expansion(self, limit=LOOK_STEPS, depth=depth).run(node).cases
                self._hopeless_nodes[node] = all(self.hopeless(case, depth) for case in found)
            except _TooManyError:
                pass
        return self._hopeless_nodes[node]

    def disjoint(self, first: Part, second: Part) -> bool:
        """Is it plain to see that no value obeys both? Where neither needs a look at its alternatives."""
        key = (first, second)
        if key not in self._disjoint:
            self._disjoint[key] = None
            try:
                found = _Expansion(self, loose=True, limit=LOOK_STEPS, depth=1).run((first, second)).cases
                self._disjoint[key] = all(self.hopeless(case) for case in found)
            except _TooManyError:
                self._disjoint[key] = False
        disjoint = self._disjoint[key]
        self._unsure += disjoint is None
        return bool(disjoint)


class _Expansion:
    """The search for the cases of one node. loose: negated schemas say nothing. limit: only a look, of so many steps,
    at so many levels (depth) of required properties, which nobody is told of.
    """

    def __init__(self, expander: Expander, *, loose: bool = False, limit: int | None = None, depth: int = 0) -> None:
        self._expander, self._loose, self._looks, self._depth = expander, loose, limit is not None, depth
        self._steps = limit or (MAX_STEPS if loose else max(expander.steps_left, FEW_STEPS))
        self._most = MAX_CASES if loose else MAX_EXACT_CASES
        self._dropped: tuple[Pointer, str] | None = None

    def run(self, node: Node) -> Cases:
        found: dict[Hashable, Case] = {}
        work = [_Way(tuple((part, frozenset(), ()) for part in node), KINDS, None, node[-1].pointer if node else "")]
        steps, split = 0, False
        while work:
            way = work.pop()
            if not way.pending:
                case = Case(way.pointer, way.kinds, way.values)
                if not (split and self._expander.hopeless(case, self._depth)):
                    found[case.key] = case
                continue
            steps += 1
            self._expander.steps_left -= 1
            if len(found) > self._most or len(work) > MAX_CASES or steps > self._steps:
                self._give_up(way.pointer)
            ways = self._next(way)
            split = split or len(ways) > 1
            work += reversed(ways)
        return Cases(tuple(found.values()), self._dropped)

    def _give_up(self, pointer: Pointer) -> None:
        if not self._loose or self._looks:
            raise _TooManyError
        refuse(pointer, f"the alternatives here combine in more than {MAX_CASES:,} ways")

    def _leave(self, pointer: Pointer, reason: str) -> None:
        if not self._looks:
            self._expander.check(pointer, reason)

    def _drop(self, pointer: Pointer, reason: str) -> list[_Way]:
        self._dropped = self._dropped or (pointer, reason)
        return []

    def _next(self, way: _Way) -> list[_Way]:
        task, path, owners = way.pending[0]
        way = way.waiting(way.pending[1:])
        match task:
            case Said(kinds):
                return [met for met in self._meet(way, kinds, None) if not self._pointless(met)]
            case Choice(alternatives):
                return [self._after(way, tasks, path, owners) for tasks in alternatives]
            case Rest(part, word):
                return self._rest(way, part, word, owners)
            case But(part):
                return self._positive(way, part, path, (*owners, part), whole=False)
        return self._part(way, task, path, owners)

    def _after(self, way: _Way, tasks: Iterable[Task], path: Path, owners: Owners) -> _Way:
        """First these tasks, then what else there is to do."""
        return way.waiting((*((task, path, owners) for task in tasks), *way.pending))

    def _meet(self, way: _Way, kinds: Kinds, values: list[Any] | None) -> list[_Way]:
        met = meet_kinds(way.kinds, kinds)
        if not met:
            return self._drop(way.pointer, "no type is left: the types asked for exclude each other")
        return [_Way(way.pending, met, common(way.values, values), way.pointer, way.done, way.seen)]

    def _pointless(self, way: _Way) -> bool:
        """Is it plain already that the way leads nowhere?"""
        return self._expander.hopeless(Case(way.pointer, way.kinds, way.values), max(self._depth, MAX_LOOK - 1))

    # -- a schema, or its negation

    def _part(self, way: _Way, part: Part, path: Path, owners: Owners) -> list[_Way]:
        schema = self._expander.schema(part)
        if isinstance(schema, bool):
            if schema != part.negated:
                return [way]
            return self._drop(part.pointer, "no value is valid: the schema is false")
        if part in path:
            return self._drop(part.pointer, "the schema refers to itself endlessly and admits no value")
        opposite = part.opposite
        if opposite in path:
            refuse(part.pointer, "the schema holds where it does not hold")
        if (part, owners) in way.done:
            return [way]
        if any((opposite, other) in way.done for other in {owners, ()}):
            return self._drop(part.pointer, "the schema would have to hold and not to hold")
        way = _Way(way.pending, way.kinds, way.values, part.pointer, way.done | {(part, owners)}, way.seen)
        path = path | {part}
        return self._negative(way, part, path) if part.negated else self._positive(way, part, path, owners)

    def _positive(self, way: _Way, part: Part, path: Path, owners: Owners, whole: bool = True) -> list[_Way]:
        """whole: with the unevaluated... keywords."""
        place = self._expander.place(part)
        rests = [word for word in REST if word in place.schema] if whole else []
        inner = (*owners, part) if rests else owners
        key = part, bool(inner), self._loose, self._looks  # a look leaves things to nobody's check
        tasks = self._expander.kept(key, lambda: self._combined(place, owned=bool(inner)))
        pending = way.pending
        if tasks or rests:
            behind = ((Rest(part, word), path, owners) for word in rests)
            pending = (*((task, path, inner) for task in tasks), *behind, *pending)
        seen = (*way.seen, (part, inner)) if inner else way.seen
        way = _Way(pending, way.kinds, way.values, way.pointer, way.done, seen)
        return self._meet(way, *self._expander.said(part))

    def _combined(self, place: Place, *, owned: bool) -> list[Task]:
        """What the combinators and references of a place ask for."""
        return [task for word in POSITIVE if word in place.schema for task in POSITIVE[word](self, place, owned)]

    def _negative(self, way: _Way, part: Part, path: Path) -> list[_Way]:
        """One way of violating the schema each."""
        if self._loose:
            self._leave(part.pointer, "the cases of a schema that must not hold are too many")
            return [way]
        return [self._after(way, tasks, path, ()) for tasks in self._expander.kept(part, lambda: self._violated(part))]

    def _violated(self, part: Part) -> list[tuple[Task, ...]]:
        place, positive = self._expander.place(part), part.positive
        ways: list[tuple[Task, ...]] = [(Said({kind: facet}),) for kind, facet in violations(place)]
        ways += [(Said(other_types(place)),)] if "type" in place.schema else []
        if "enum" in place.schema or "const" in place.schema:
            values = self._expander.said(positive)[1] or []
            kinds, containers = all_but(values)
            word = "enum" if "enum" in place.schema else "const"
            parts = (self._expander.synthetic(place, word, same_as(value)) for value in containers)
            ways.append((Said(kinds), *(other.opposite for other in parts)))
        for word, expand in NEGATIVE.items():
            if word in place.schema:
                ways += expand(self, place)
        return ways + [(But(positive), Rest(part, word)) for word in REST if word in place.schema]

    # -- combinators: what must hold, and the ways in which it does not

    def parts(self, place: Place, word: str) -> list[Part]:
        schemas = place.get(word, list, "a list of schemas") or place.wrong(word, "a list with a schema or more")
        return [place.child(word, i)[0] for i in range(len(schemas))]

    def reference(self, place: Place, word: str) -> Part:
        return self._expander.reference(place, word)

    def any_of(self, place: Place, owned: bool) -> list[Task]:
        parts = self.parts(place, "anyOf")
        if not owned:
            return [Choice(tuple((part,) for part in parts))]
        if len(parts) > MAX_SIGNS:
            self._give_up(place.at("anyOf"))
        signs = (chosen for chosen in product((False, True), repeat=len(parts)) if not all(chosen))
        return [
            Choice(tuple(tuple(p.opposite if s else p for p, s in zip(parts, chosen, strict=True)) for chosen in signs))
        ]

    def one_of(self, place: Place, owned: bool) -> list[Task]:
        """One of the alternatives, and none of those that it might share a value with."""
        parts = self.parts(place, "oneOf")
        return [Choice(tuple((part, *self._none(part, parts, i)) for i, part in enumerate(parts)))]

    def _none(self, part: Part, parts: list[Part], index: int) -> Iterator[Part]:
        for i, other in enumerate(parts):
            if i != index and not self._expander.disjoint(*((part, other) if i > index else (other, part))):
                yield other.opposite

    def not_one_of(self, place: Place) -> list[tuple[Task, ...]]:
        parts = self.parts(place, "oneOf")
        pairs = [(a, b) for i, a in enumerate(parts) for b in parts[i + 1 :] if not self._expander.disjoint(a, b)]
        return [tuple(part.opposite for part in parts), *pairs]

    def conditional(self, place: Place, owned: bool) -> list[Task]:
        if self._loose:
            self._leave(place.at("if"), "there are too many cases to tell which conditions hold")
            return []
        if not owned and "then" not in place.schema and "else" not in place.schema:
            return []
        condition = place.child("if")[0]
        return [
            Choice(
                (
                    (condition, *place.optional_child("then")),
                    (condition.opposite, *place.optional_child("else")),
                )
            )
        ]

    def not_conditional(self, place: Place) -> list[tuple[Task, ...]]:
        condition = place.child("if")[0]
        return [
            (condition.opposite if negated else condition, *negations(place.child(word))[0])
            for word, negated in (("then", False), ("else", True))
            if word in place.schema
        ]

    def dependent(self, place: Place, word: str) -> Iterator[tuple[Part, Part]]:
        """For each name: the schema of the objects that have it, and what they have to obey."""
        for name, needed in (place.get(word, dict, "an object") or {}).items():
            having = self._expander.synthetic(place, word, {"type": "object", "required": [name]})
            if isinstance(needed, list) and word != "dependentSchemas":
                if not all(isinstance(item, str) for item in needed):
                    place.wrong(word, "names, each with a list of names")
                yield having, self._expander.synthetic(place, word, {"required": needed})
            else:
                yield having, place.child(word, name)[0]

    def dependents(self, place: Place, word: str) -> list[Task]:
        return [Choice(((a.opposite,), (a, b))) for a, b in self.dependent(place, word)]

    def not_dependents(self, place: Place, word: str) -> list[tuple[Task, ...]]:
        return [(a, b.opposite) for a, b in self.dependent(place, word)]

    # -- what is left unevaluated

    def _rest(self, way: _Way, part: Part, word: str, owners: Owners) -> list[_Way]:
        """part: negated, if there is something left that does not obey."""
        owner = part.positive
        place = self._expander.place(owner)
        inside = [self._expander.place(seen) for seen, above in way.seen if owner in above]
        kind, ways = REST[word](place, inside, place.child(word), part.negated)
        if not ways and not part.negated:  # all is evaluated
            return [way]
        others = {} if part.negated else KINDS
        return [met for facet in ways for met in self._meet(way, {**others, kind: facet}, None)]


def _rest_of_object(place: Place, inside: list[Place], node: Node, negated: bool) -> tuple[str, tuple[Facet, ...]]:
    """The facets that say what members no schema inside has evaluated have to obey, or that one of them does not."""
    if any(
        "additionalProperties" in p.schema or (p is not place and "unevaluatedProperties" in p.schema) for p in inside
    ):
        return "object", ()
    names = tuple(dict.fromkeys(name for p in inside for name in p.schema.get("properties", {})))
    patterns = tuple(
        dict.fromkeys(
            Pattern(pattern, p.at("patternProperties", pattern))
            for p in inside
            for pattern in p.schema.get("patternProperties", {})
        )
    )
    if negated:
        return "object", tuple(objects.uncovered(names, patterns, node))
    return "object", (objects.covering(names, patterns, node),)


def _rest_of_array(place: Place, inside: list[Place], node: Node, negated: bool) -> tuple[str, tuple[Facet, ...]]:
    count, matched = 0, list[Node]()
    for p in inside:
        items = p.schema.get("items")
        first = p.schema.get("prefixItems") if p.draft.year >= 2020 else items
        every = (
            (items is not None and not (p.draft.year < 2020 and isinstance(items, list)))
            or (p.draft.year < 2020 and isinstance(items, list) and "additionalItems" in p.schema)
            or (p is not place and "unevaluatedItems" in p.schema)
        )
        if every:
            return "array", ()
        if isinstance(first, list):
            count = max(count, len(first))
        if "contains" in p.schema and p.draft.year >= 2020:
            matched.append(p.child("contains"))
    if negated:
        return "array", tuple(arrays.uncovered(count, tuple(matched), node))
    return "array", (arrays.covering(count, tuple(matched), node),)


REST: Mapping[str, Callable[[Place, list[Place], Node, bool], tuple[str, tuple[Facet, ...]]]] = {
    "unevaluatedProperties": _rest_of_object,
    "unevaluatedItems": _rest_of_array,
}

POSITIVE: Mapping[str, Callable[[_Expansion, Place, bool], Iterable[Task]]] = {
    "$ref": lambda e, place, owned: [e.reference(place, "$ref")],
    "$dynamicRef": lambda e, place, owned: [e.reference(place, "$dynamicRef")],
    "$recursiveRef": lambda e, place, owned: [e.reference(place, "$recursiveRef")],
    "allOf": lambda e, place, owned: e.parts(place, "allOf"),
    "anyOf": _Expansion.any_of,
    "oneOf": _Expansion.one_of,
    "not": lambda e, place, owned: negations(place.child("not"))[0],
    "if": _Expansion.conditional,
    "dependencies": lambda e, place, owned: e.dependents(place, "dependencies"),
    "dependentSchemas": lambda e, place, owned: e.dependents(place, "dependentSchemas"),
    "dependentRequired": lambda e, place, owned: e.dependents(place, "dependentRequired"),
}

NEGATIVE: Mapping[str, Callable[[_Expansion, Place], Iterable[tuple[Task, ...]]]] = {
    "$ref": lambda e, place: [negations((e.reference(place, "$ref"),))[0]],
    "$dynamicRef": lambda e, place: [negations((e.reference(place, "$dynamicRef"),))[0]],
    "$recursiveRef": lambda e, place: [negations((e.reference(place, "$recursiveRef"),))[0]],
    "allOf": lambda e, place: negations(tuple(e.parts(place, "allOf"))),
    "anyOf": lambda e, place: [tuple(part.opposite for part in e.parts(place, "anyOf"))],
    "oneOf": _Expansion.not_one_of,
    "not": lambda e, place: [place.child("not")],
    "if": _Expansion.not_conditional,
    "dependencies": lambda e, place: e.not_dependents(place, "dependencies"),
    "dependentSchemas": lambda e, place: e.not_dependents(place, "dependentSchemas"),
    "dependentRequired": lambda e, place: e.not_dependents(place, "dependentRequired"),
}

COMBINING = frozenset((*POSITIVE, *REST))
