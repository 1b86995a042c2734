"""Places of a schema that say the same stand for each other, and nobody notices but by the time that it takes.

equal_places({"items": S, "contains": {"title": "the same", **S}})     # {"/contains": "/items"}
"""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import genctl
from genctl.compilers.json_schema.equal import MET, equal_places
from genctl.compilers.json_schema.rules import NAMES, RULES
from genctl.errors import GenctlWarning

POINT = {"type": "object", "properties": {"x": {"type": "number"}, "y": {"type": "number", "title": "ordinate"}}}


def test_annotations_and_words_that_are_none_do_not_count():
    schema = {"items": {**POINT, "title": "one"}, "contains": {**POINT, "description": "another", "x-order": 3}}
    equal = equal_places(schema)
    assert equal["/contains"] == "/items"
    assert equal["/contains/properties/y"] == equal["/items/properties/y"] == "/items/properties/x"
    assert set(equal) == {
        "/contains",
        *(f"/{at}/properties/{name}" for at in ("items", "contains") for name in "xy"),
    } - {"/items/properties/x"}


DIFFERENT: dict[str, tuple[Any, Any]] = {
    "values": ({"const": 1}, {"const": 2}),
    "types of values": ({"const": 1}, {"const": "1"}),
    "spellings of a number": ({"const": 1}, {"const": 1.0}),
    "true and one": ({"const": 1}, {"const": True}),
    "keywords": ({"minimum": 1}, {"maximum": 1}),
    "the order of properties": ({"properties": {"a": {}, "b": {}}}, {"properties": {"b": {}, "a": {}}}),
    "names": ({"properties": {"a": {}}}, {"properties": {"b": {}}}),
    "schemas inside": ({"properties": {"a": {"minimum": 1}}}, {"properties": {"a": {"minimum": 2}}}),
    "a schema and a list of one": ({"items": {}}, {"items": [{}]}),
    "how many are listed": ({"anyOf": [{}]}, {"anyOf": [{}, {}]}),
    "true and the empty schema": (True, {}),
    "references": ({"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}),
    "names of their own": ({"$id": "a"}, {"$id": "a"}),
    "names inside": ({"items": {"$anchor": "a"}}, {"items": {"$anchor": "a"}}),
    "references to what is met on the way": ({"$dynamicRef": "#a"}, {"$dynamicRef": "#a"}),
    "numbers that python does not write": ({"const": 10**5_000}, {"const": 10**5_000}),
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_what_might_mean_something_else_is_not_equal(case):
    first, second = DIFFERENT[case]
    assert equal_places({"allOf": [first, second]}).get("/allOf/1") is None


def test_every_keyword_counts_that_is_no_annotation():
    for word, rule in RULES.items():
        plain = {"allOf": [{}, {word: rule.holds and {}}]}
        counts = rule.handling != "annotation" or word in NAMES | MET
        assert (equal_places(plain).get("/allOf/1") is None) == counts


@given(
    st.recursive(st.none() | st.integers() | st.text(max_size=2), lambda s: st.lists(s) | st.dictionaries(st.text(), s))
)
def test_what_is_no_schema_harms_nothing(value):
    for word in ("properties", "items", "allOf", "const", "dependencies"):
        equal_places({"allOf": [{word: value}, {word: value}]})


@pytest.mark.parametrize("word", ["$id", "$schema", "id"])
def test_places_in_parts_that_name_themselves_equal_only_those_in_the_same_part(word):
    inside = {"properties": {"a": {"$ref": "#/$defs/x"}, "b": {"$ref": "#/$defs/x"}}}
    equal = equal_places({"items": {word: "http://example.com/part", **inside}, "contains": inside})
    assert equal == {
        "/items/properties/b": "/items/properties/a",
        "/contains/properties/b": "/contains/properties/a",
    }


# -- what a user sees


def test_equal_references_of_other_resources_lead_elsewhere():
    part = {"properties": {"a": {"$ref": "#/$defs/x"}}}
    inner = {"$id": "http://example.com/part", **part, "$defs": {"x": {"type": "string"}}}
    rule = genctl.json({**part, "$defs": {"x": {"type": "null"}, "part": inner}, "required": ["a"]})
    assert rule.accepts('{"a":null}')
    assert not rule.accepts('{"a":""}')
    rule = genctl.json({"items": inner, "contains": part, "$defs": {"x": {"type": "null"}}})
    assert rule.accepts('[{"a":""},{}]')
    assert not rule.accepts('[{"a":null},{}]')


def test_equal_words_of_another_draft_say_something_else():
    listed = {"properties": {"a": {"prefixItems": [{"type": "null"}]}}}
    part = {"$schema": "http://json-schema.org/draft-07/schema#", **listed}
    with pytest.warns(GenctlWarning, match="at /properties/y/properties/a/prefixItems: .* constrains nothing"):
        rule = genctl.json({"properties": {"x": listed, "y": part}})
    assert rule.accepts('{"y":{"a":[1]}}')
    assert not rule.accepts('{"x":{"a":[1]}}')


def test_two_equal_alternatives_of_which_one_must_hold_admit_nothing():
    with pytest.raises(genctl.UnsatisfiableError):
        genctl.json({"oneOf": [{"type": "string"}, {"type": "string", "title": "again"}]})
    rule = genctl.json({"oneOf": [{"type": "string"}, {"type": "string", "title": "again"}, {"type": "null"}]})
    assert rule.accepts("null")
    assert not rule.accepts('"a"')


def test_equal_places_around_each_other_are_recursion_like_any_other():
    branch = {"anyOf": [{"$ref": "#/$defs/b"}, {"type": "string"}]}
    rule = genctl.json({"$ref": "#/$defs/a", "$defs": {"a": branch, "b": {**branch, "title": "again"}}})
    assert rule.accepts('"a"')
    assert not rule.accepts("1")


NEVER = {"type": "integer", "minimum": 2, "maximum": 1}
REFUSED: dict[str, tuple[Any, str]] = {
    "a property that must be there": ({"properties": {"a": NEVER, "b": NEVER}, "required": ["b"]}, "/properties/b"),
    "an item that must be there": ({"prefixItems": [True, NEVER, NEVER], "minItems": 3}, "/prefixItems/1"),
    "a pattern": (
        {"properties": {"a": {"not": {"pattern": "("}}, "b": {"not": {"pattern": "("}}}},
        "/properties/a/not/pattern",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_names_the_place_that_is_meant(case):
    schema, pointer = REFUSED[case]
    kind = {"prefixItems": "array", "properties": "object"}[next(iter(schema))]
    with pytest.raises(genctl.ConstraintError) as caught:
        genctl.json({"type": kind, **schema})
    assert caught.value.pointer == pointer


def test_what_is_warned_of_is_warned_of_at_each_place_and_once():
    misspelt = {"type": "string", "maxLenght": 3}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", GenctlWarning)
        genctl.json({"properties": {"a": misspelt, "b": {"type": "string"}, "c": misspelt}})
    places = [str(warning.message).split()[1] for warning in told]
    assert places == ["/properties/a/maxLenght:", "/properties/c/maxLenght:"]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", GenctlWarning)
        with pytest.raises(genctl.UnsatisfiableError):
            genctl.json({"allOf": [misspelt, misspelt, NEVER]})
    assert len(told) == 2
