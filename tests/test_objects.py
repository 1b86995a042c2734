"""Objects: the facets agree with the trusted validator, alone, met, and negated, whatever the order of members."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable
from functools import partial, reduce
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genctl.automata.base import accepts
from genctl.automata.expressions import union
from genctl.automata.pushdown import GrammarAutomaton
from genctl.compilers.json_schema.compile import Compiler, compile_json_schema
from genctl.compilers.json_schema.context import DRAFTS, Facet, Part, Place, PropertyOrder
from genctl.compilers.json_schema.document import Documents
from genctl.compilers.json_schema.free_names import pattern_sets
from genctl.compilers.json_schema.objects import Objects, covering, read, uncovered, violations
from genctl.compilers.json_schema.strings import Pattern
from genctl.compilers.json_schema.whitespace import style
from genctl.errors import UnsatisfiableError
from tests.schema_order import validator_of
from tests.test_json_schema import exact, random_text

NAMES = ["a", "b", "ab", "x-1", 'é"', "", "ba1"]
PATTERNS = ["^a", "b", "^x-", "1$", ".", "^$", "^[ab]+$", "é"]

VALUE_SCHEMAS: list[Any] = [True, False, {}, {"type": "null"}, {"type": ["null", "string"]}, {"not": {"type": "array"}}]
NAME_SCHEMAS: list[Any] = [
    True,
    False,
    {"minLength": 1},
    {"maxLength": 1},
    {"pattern": "^a"},
    {"anyOf": [{"pattern": "b"}, {"enum": ["a", "x-1"]}]},
]
VALUES = st.sampled_from([None, True, "s", 1, []])


@st.composite
def object_schemas(draw: Any) -> dict[str, Any]:
    child = st.sampled_from(VALUE_SCHEMAS)
    count = st.integers(0, 3)
    keywords = {
        "properties": st.dictionaries(st.sampled_from(NAMES), child, max_size=4),
        "patternProperties": st.dictionaries(st.sampled_from(PATTERNS), child, min_size=1, max_size=3),
        "additionalProperties": child,
        "propertyNames": st.sampled_from(NAME_SCHEMAS),
        "required": st.lists(st.sampled_from(NAMES), max_size=2, unique=True),
        "minProperties": count,
        "maxProperties": count,
    }
    chosen = draw(st.lists(st.sampled_from([*keywords]), unique=True, max_size=4))
    return {word: draw(keywords[word]) for word in chosen}


OBJECTS = st.dictionaries(st.sampled_from([*NAMES, "a2", "other", "xb"]), VALUES, max_size=4)


def arranged(value: dict[str, Any], schemas: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Declared members first, then required ones, then the others as they come."""
    schemas = list(schemas)
    first = [n for schema in schemas for n in schema.get("properties", {})]
    first += [n for schema in schemas for n in schema.get("required", [])]
    return {name: value[name] for name in dict.fromkeys([*first, *value]) if name in value}


def texts(value: Any) -> list[bytes]:
    dumps = [json.dumps(value), json.dumps(value, separators=(",", ":"), ensure_ascii=False)]
    return [text.encode() for text in dumps]


@st.composite
def met_schemas(draw: Any) -> dict[str, Any]:
    """Keywords for objects at two places that meet, and in alternatives."""
    root = draw(object_schemas()) | {"$ref": "#/$defs/x", "$defs": {"x": draw(object_schemas())}}
    return root | {"anyOf": draw(st.lists(object_schemas(), min_size=1, max_size=2))} if draw(st.booleans()) else root


def orders(schema: dict[str, Any]) -> list[list[dict[str, Any]]]:
    return [[schema, schema["$defs"]["x"], branch] for branch in schema.get("anyOf", [{}])]


@given(met_schemas(), st.lists(OBJECTS, min_size=8, max_size=8))
def test_an_object_is_accepted_exactly_when_it_is_valid(schema: Any, values: list[Any]) -> None:
    validator = validator_of(schema)
    try:
        automaton = compile_json_schema(schema)
    except UnsatisfiableError:
        assert not any(map(validator.is_valid, values))
        return
    for value in values:
        for dumped in zip(*(texts(arranged(value, order)) for order in orders(schema)), strict=True):
            found = any(accepts(automaton, text) for text in dumped)
            assert found == validator.is_valid(value), (schema, value)


@given(met_schemas(), st.integers(0, 1000))
def test_every_object_that_a_random_walk_writes_is_valid(schema: Any, seed: int) -> None:
    schema = {"type": "object", **schema}
    try:
        automaton = compile_json_schema(schema)
    except UnsatisfiableError:
        return
    text = random_text(automaton, random.Random(seed))
    pairs = json.loads(text, parse_float=exact, object_pairs_hook=list)
    odd = any(
        set(name) & set("\n\r\u2028\u2029") for name, _ in pairs
    )  # where Python's `.` and `$` mean something else
    if len(dict(pairs)) == len(pairs) and not odd:  # no free name came twice
        assert validator_of(schema).is_valid(json.loads(text, parse_float=exact)), (schema, text)


def context_of(schemas: dict[str, Any], order: PropertyOrder = "declared") -> Compiler:
    return Compiler(Documents(schemas), style("bounded"), order)


def place_of(schemas: dict[str, Any], name: str) -> Place:
    return Place("/" + name, schemas[name], DRAFTS[2020])


def automaton_of(facets: Iterable[Facet], context: Compiler) -> GrammarAutomaton:
    start = union(*(facet.expression(context) for facet in facets))
    return GrammarAutomaton(start, context.rules())


SIMPLE = object_schemas()


@given(SIMPLE, SIMPLE, SIMPLE, st.lists(OBJECTS, min_size=8, max_size=8), st.sampled_from(["declared", "any"]))
def test_the_violations_of_a_schema_are_the_objects_that_are_not_valid(
    good: Any, bad: Any, worse: Any, values: list[Any], order: PropertyOrder
) -> None:
    schemas = {"good": good, "bad": bad, "worse": worse}
    context = context_of(schemas, order)
    obeyed = read(place_of(schemas, "good"))
    ways = [violations(place_of(schemas, name)) for name in ("bad", "worse")]
    facets = [reduce(Objects.meet, [first, second, obeyed]) for first in ways[0] for second in ways[1]]
    automaton = automaton_of(facets, context)
    for value in values:
        valid = {name: validator_of(schema).is_valid(value) for name, schema in schemas.items()}
        expected = valid["good"] and not valid["bad"] and not valid["worse"]
        assert any(facet.admits(value, context) for facet in facets) == expected, (schemas, value)
        given_order = value if order == "any" else arranged(value, [good])
        if not context.notes()["checks"] or expected:
            assert [accepts(automaton, text) for text in texts(given_order)] == [expected] * 2, (schemas, value)


@given(SIMPLE, SIMPLE)
def test_a_conflict_is_seen_only_where_no_object_is_left(good: Any, bad: Any) -> None:
    schemas = {"good": good, "bad": bad}
    context = context_of(schemas)
    for way in violations(place_of(schemas, "bad")):
        facet = way.meet(read(place_of(schemas, "good")))
        if facet.conflict(context) is not None:
            assert automaton_of([facet], context).start == 0, (good, bad)


@given(SIMPLE, st.permutations(NAMES), st.lists(VALUES, min_size=7, max_size=7), st.integers(0, 7))
def test_members_come_in_any_order_where_that_is_wanted(schema: Any, names: Any, values: Any, size: int) -> None:
    schemas = {"good": schema}
    context = context_of(schemas, "any")
    automaton = automaton_of([read(place_of(schemas, "good"))], context)
    value = dict(list(zip(names, values, strict=True))[:size])
    valid = validator_of(schema).is_valid(value)
    if not context.notes()["checks"] or valid:
        assert [accepts(automaton, text) for text in texts(value)] == [valid] * 2


@pytest.mark.parametrize("count", [3, 30, 300])
def test_many_properties_in_any_order_are_accepted_and_checked(count: int) -> None:
    names = [f"p{i}" for i in range(count)]
    properties = {name: {"type": "null"} for name in names}
    schemas = {"good": {"properties": properties, "required": names, "additionalProperties": False}}
    context = context_of(schemas, "any")
    automaton = automaton_of([read(place_of(schemas, "good"))], context)
    random.Random(count).shuffle(names)
    assert bool(context.notes()["checks"]) == (count > 6)
    assert all(accepts(automaton, text) for text in texts(dict.fromkeys(names)))
    assert not accepts(automaton, texts(dict.fromkeys(names[1:]))[0])
    assert not accepts(automaton, texts(dict.fromkeys(names, 1))[0])


@given(st.sets(st.sampled_from(NAMES), max_size=3), st.sets(st.sampled_from(PATTERNS), max_size=2), SIMPLE, OBJECTS)
def test_uncovered_objects_are_those_that_are_not_covered(names: Any, sources: Any, good: Any, value: Any) -> None:
    schemas = {"good": good, "rest": {"type": ["null"]}}
    context = context_of(schemas)
    patterns = tuple(Pattern(source, "") for source in sorted(sources))
    arguments = (tuple(sorted(names)), patterns, (Part("/rest"),))
    closed = {"properties": dict.fromkeys(names, True), "patternProperties": dict.fromkeys(sources, True)}
    inside = validator_of({**closed, "additionalProperties": {"type": ["null"]}}).is_valid(value)
    valid = validator_of(good).is_valid(value)
    value = arranged(value, [good])
    for facets, expected in (((covering(*arguments),), inside), (uncovered(*arguments), not inside)):
        met = [read(place_of(schemas, "good")).meet(facet) for facet in facets]
        assert any(facet.admits(value, context) for facet in met) == (valid and expected)
        assert accepts(automaton_of(met, context), texts(value)[0]) == (valid and expected)


@given(st.lists(st.sampled_from([*PATTERNS, "^a.*b$", "c|d", r"^\d+$"]), min_size=1, max_size=6, unique=True))
def test_the_sets_of_patterns_that_names_match_are_all_found(sources: list[str]) -> None:

    found = pattern_sets(tuple(Pattern(source, "") for source in sources))
    assert found is not None
    for name in ["", "a", "b", "ab", "ba", "x-", "x-1", "1", "12", "é", "c", "ac1", "axb1", "aéb", "x-b1é"]:
        assert sum(1 << i for i, source in enumerate(sources) if re.search(source, name)) in found


def test_patterns_by_the_dozen_compile() -> None:
    patterns = {f"^group{i}[.][a-z]+$": {"const": i} for i in range(40)}
    automaton = compile_json_schema({"type": "object", "patternProperties": patterns, "additionalProperties": False})
    assert accepts(automaton, b'{"group7.ab": 7, "group11.x": 11}')
    assert not accepts(automaton, b'{"group7.ab": 8}')
    assert not accepts(automaton, b'{"group77.ab": 8}')


def test_members_are_counted_among_many_properties() -> None:
    names = [f"p{i}" for i in range(500)]
    schema = {"type": "object", "properties": dict.fromkeys(names, True), "minProperties": 2, "maxProperties": 3}
    automaton = compile_json_schema(schema)
    written = partial(json.dumps, separators=(", ", ": "))
    found = [accepts(automaton, written(dict.fromkeys(names[::100][:n], 1)).encode()) for n in range(5)]
    assert found == [False, False, True, True, False]


def test_any_number_of_free_members_is_counted() -> None:
    automaton = compile_json_schema({"type": "object", "minProperties": 1000, "maxProperties": 2000})
    sizes = [999, 1000, 2000, 2001]
    found = [accepts(automaton, json.dumps({str(i): i for i in range(n)}).encode()) for n in sizes]
    assert found == [False, True, True, False]
