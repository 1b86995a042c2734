"""Arrays of JSON Schema: facets, their meets and violations against the trusted validator.

Items are drawn from a pool of a few values, so that a fake context can say by enumeration which of them obey a node.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import product
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from genctl.automata.base import Automaton, accepts
from genctl.automata.expressions import Call, Expression, Literal, union
from genctl.automata.pushdown import GrammarAutomaton
from genctl.compilers.json_schema import compile_json_schema
from genctl.compilers.json_schema.arrays import Arrays, Contains, covering, read, uncovered, violations
from genctl.compilers.json_schema.context import ANYTHING, DRAFTS, Node, Part, Place, identity
from genctl.compilers.json_schema.whitespace import STYLES
from genctl.errors import ConstraintError

POOL: list[Any] = [None, True, 0, 1, 1.0, "a", [1], {"a": 1, "b": True}]
VALIDATORS: dict[int, Any] = {
    4: jsonschema.Draft4Validator,
    6: jsonschema.Draft6Validator,
    7: jsonschema.Draft7Validator,
    2019: jsonschema.Draft201909Validator,
    2020: jsonschema.Draft202012Validator,
}


def conforms(schema: Any, year: int) -> Callable[[Any], bool]:
    validator = VALIDATORS[year](schema)
    return lambda value: bool(validator.is_valid(value))


def texts(value: Any) -> list[str]:
    return [json.dumps(value, separators=(",", ":")), json.dumps(value)]


class PoolContext:
    """Nodes are parts of one list of schemas; an item obeys them as the validator says, and is one of the pool."""

    def __init__(self, schemas: list[Any], year: int) -> None:
        self.draft, self._schemas = DRAFTS[year], schemas
        self.space = STYLES["bounded"]
        self.checked: list[str] = []
        self._names: dict[Hashable, str] = {}
        self._waiting: list[tuple[str, Callable[[], Expression]]] = []
        self._verdicts: dict[tuple[str, str], bool] = {}

    def _obeys(self, part: Part, value: Any) -> bool:
        key = part.pointer, json.dumps(value)
        if key not in self._verdicts:
            schema: Any = self._schemas
            for step in part.pointer.split("/")[1:]:
                schema = schema[int(step)] if isinstance(schema, list) else schema[step]
            self._verdicts[key] = schema if isinstance(schema, bool) else conforms(schema, self.draft.year)(value)
        return self._verdicts[key] != part.negated

    def admits(self, node: Node, value: object) -> bool:
        return all(self._obeys(part, value) for part in node)

    def expression(self, node: Node) -> Expression:
        return union(*(self._spelled(value) for value in POOL if self.admits(node, value)))

    def values(self, node: Node) -> Sequence[Any] | None:
        if node == ANYTHING:
            return None
        return list({identity(value): value for value in POOL if self.admits(node, value)}.values())

    def spelled(self, node: Node, value: object) -> Expression:
        equal = (one for one in POOL if identity(one) == identity(value))
        return union(*(self._spelled(one) for one in equal if self.admits(node, one)))  # not 1.0 where draft 4 wants 1

    def _spelled(self, value: Any) -> Expression:
        return union(*(Literal(text.encode()) for text in texts(value)))

    def check(self, pointer: str, reason: str) -> None:
        assert pointer.startswith("/")
        self.checked.append(reason)

    def rule(self, key: Hashable, make: Callable[[], Expression]) -> Call:
        if key not in self._names:
            self._names[key] = str(len(self._names))
            self._waiting.append((self._names[key], make))
        return Call(self._names[key])

    def own_rule(self, expression: Expression) -> Call:
        return self.rule(object(), lambda: expression)

    def compiled(self, facets: Sequence[Arrays]) -> Automaton:
        context: Any = self
        start, rules = union(*(facet.expression(context) for facet in facets)), {}
        while self._waiting:
            name, make = self._waiting.pop()
            rules[name] = make()
        return GrammarAutomaton(start, rules)


ITEMS = st.sampled_from(
    [
        {},
        {"type": "integer"},
        {"type": ["string", "null"]},
        {"enum": [1, "a", True]},
        {"enum": [0, None]},
        {"minimum": 1},
        {"type": ["array", "object"]},
        {"type": "boolean"},
        {"not": {}},
    ]
)
COUNTS = st.integers(0, 3)


@st.composite
def schemas(draw: Any, year: int) -> dict[str, Any]:
    """The keywords for arrays, as they are in this draft."""
    item = ITEMS | st.booleans() if year >= 6 else ITEMS
    lists = st.lists(item, min_size=1, max_size=3)
    words: dict[str, Any] = {"minItems": COUNTS, "maxItems": COUNTS, "uniqueItems": st.booleans()}
    if year >= 2020:
        words |= {"prefixItems": lists, "items": item}
    else:
        words |= {"items": item | lists, "additionalItems": item | st.booleans()}
    if year >= 6:
        words["contains"] = item
    if year >= 2019:
        words |= {"minContains": COUNTS, "maxContains": COUNTS}
    chosen = draw(st.lists(st.sampled_from(sorted(words)), max_size=4, unique=True))
    if year >= 2019 and draw(st.booleans()):
        chosen = list({*chosen, "contains", "maxContains"})
    found = {word: draw(words[word]) for word in chosen}
    if isinstance(found.get("items"), bool):
        found.pop("additionalItems", None)  # it says nothing there, but the validator stumbles over it
    return found


SHORT = [list(items) for size in range(2) for items in product(POOL, repeat=size)]
ARRAYS = st.lists(st.lists(st.sampled_from(POOL), min_size=2, max_size=5), min_size=10, max_size=20)


@st.composite
def cases(draw: Any, count: int = 1) -> tuple[int, list[dict[str, Any]], list[Any]]:
    year = draw(st.sampled_from(sorted(VALIDATORS)))
    return year, [draw(schemas(year)) for _ in range(count)], SHORT + draw(ARRAYS)


def places(found: list[dict[str, Any]], year: int) -> tuple[Any, list[Place]]:
    return PoolContext(found, year), [Place(f"/{i}", schema, DRAFTS[year]) for i, schema in enumerate(found)]


def check(facets: Sequence[Arrays], context: Any, values: list[Any], valid: Callable[[Any], bool]) -> None:
    """The union of the facets is what is valid: values as `admits` says, texts as the automaton does."""
    automaton = context.compiled(facets)
    for value in values:
        expected = valid(value)
        assert any(facet.admits(value, context) for facet in facets) == expected, (value, expected)
        for text in texts(value):
            got = accepts(automaton, text.encode())
            assert got >= expected if context.checked else got == expected, (text, expected)


@given(cases())
@settings(max_examples=300, deadline=None)
@example((2020, [{"items": {"enum": [1, "a", True]}, "contains": {"type": "integer"}, "uniqueItems": True}], SHORT))
@example((2020, [{"items": {"enum": [1, "a", True]}, "maxContains": 0, "contains": True}], SHORT))
def test_what_a_place_says_of_arrays_is_what_the_validator_says(case: Any) -> None:
    year, found, values = case
    context, [place] = places(found, year)
    check([read(place)], context, values, conforms(found[0], year))


@given(cases())
@settings(max_examples=300, deadline=None)
def test_violations_are_the_arrays_that_do_not_obey_a_place(case: Any) -> None:
    year, found, values = case
    context, [place] = places(found, year)
    valid = conforms(found[0], year)
    check(violations(place), context, values, lambda value: not valid(value))


@given(cases(3), st.lists(st.booleans(), min_size=3, max_size=3))
@settings(max_examples=300, deadline=None)
def test_facets_of_places_that_hold_or_do_not_hold_meet_exactly(case: Any, signs: list[bool]) -> None:
    year, found, values = case
    context, three = places(found, year)
    facets = [Arrays()]
    for place, sign in zip(three, signs, strict=True):
        said = [read(place)] if sign else violations(place)
        facets = [facet.meet(other) for facet in facets for other in said]
    valid = [conforms(schema, year) for schema in found]
    check(facets, context, values, lambda value: [one(value) for one in valid] == signs)


@given(st.lists(ITEMS, min_size=1, max_size=3), st.integers(0, 2), ARRAYS)
@settings(max_examples=200, deadline=None)
def test_items_that_others_do_not_cover_obey_a_node_or_one_of_them_does_not(
    found: list[Any], count: int, values: list[Any]
) -> None:
    context: Any = PoolContext(found, 2020)
    *matched, rest = ((Part(f"/{i}"),) for i in range(len(found)))

    def covered(value: list[Any]) -> bool:
        return all(any(context.admits(node, item) for node in (*matched, rest)) for item in value[count:])

    check([covering(count, tuple(matched), rest)], context, SHORT + values, covered)
    check(uncovered(count, tuple(matched), rest), context, SHORT + values, lambda value: not covered(value))


@given(cases(2))
@settings(max_examples=200, deadline=None)
def test_a_conflict_is_seen_only_where_no_array_is_admitted(case: Any) -> None:
    year, found, values = case
    context, [first, second] = places(found, year)
    for facet in (read(first).meet(other) for other in (read(second), *violations(second))):
        if facet.conflict(context):
            assert not any(facet.admits(value, context) for value in values)


@pytest.mark.parametrize(
    "schema",
    [
        {"contains": {"type": "integer"}, "minContains": 50, "prefixItems": [{"minimum": 1}] * 20},
        {"contains": {"type": "integer"}, "minContains": 3, "maxContains": 30, "minItems": 40},
        {"items": {"enum": [1, "a", True, 0, None]}, "uniqueItems": True, "contains": {"type": "integer"}},
    ],
)
def test_what_a_few_thousand_rules_hold_needs_no_check(schema: Any) -> None:
    context, [place] = places([schema], 2020)
    context.compiled([read(place)])
    assert not context.checked


@pytest.mark.parametrize(
    ("schema", "checks"),
    [
        ({"contains": {"type": "integer"}, "minContains": 10_000}, 1),
        ({"uniqueItems": True}, 1),
        ({"uniqueItems": True, "contains": {"type": "integer"}, "maxContains": 9_999}, 2),
    ],
)
def test_what_needs_too_many_rules_is_checked(schema: Any, checks: int) -> None:
    context, [place] = places([schema], 2020)
    context.compiled([read(place)])
    assert len(context.checked) == checks


def test_what_must_be_contained_meets_the_bound_of_items() -> None:
    context, _ = places([{}], 2020)
    facet = Arrays(most=2).meet(Arrays(contains=(Contains((Part("/0"), Part("/1")), 3),)))
    assert facet.conflict(context) == "no array of at most 2 items contains 3 such items"


# -- through the compiler


def spelled(value: Any) -> Iterator[bytes]:
    yield json.dumps(value, separators=(",", ":")).encode()
    yield json.dumps(value).encode()
    yield json.dumps(value, indent=2).encode()


URIS = {
    4: "http://json-schema.org/draft-04/schema#",
    6: "http://json-schema.org/draft-06/schema#",
    7: "http://json-schema.org/draft-07/schema#",
    2019: "https://json-schema.org/draft/2019-09/schema",
    2020: "https://json-schema.org/draft/2020-12/schema",
}


@given(cases())
@settings(max_examples=150, deadline=None)
@pytest.mark.filterwarnings("ignore::genctl.errors.GenctlWarning")
def test_compiled_arrays_are_what_the_validator_says(case: Any) -> None:
    year, [schema], values = case
    try:
        automaton = compile_json_schema({"$schema": URIS[year], "type": "array", **schema})
    except ConstraintError:
        return
    valid = conforms(schema, year)
    for value in values:
        for text in spelled(value):
            assert accepts(automaton, text) == valid(value), (text, schema)


@pytest.mark.parametrize("year", [2019, 2020])
def test_items_of_long_arrays_are_counted(year: int) -> None:
    schema = {"type": "array", "contains": {"type": "string"}, "minContains": 50, "$schema": URIS[year]}
    automaton = compile_json_schema(schema)
    for strings in (0, 49, 50, 51):
        value = ["a", 1] * strings + [1] * 300
        assert accepts(automaton, json.dumps(value).encode()) == (strings >= 50)
