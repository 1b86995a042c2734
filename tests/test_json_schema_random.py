"""Random schemas with every keyword, and random instances: the rule and `jsonschema` agree both ways.

In the nightly profile (GENCTL_HYPOTHESIS=nightly) 40,000 pairs.
"""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

import genctl
from tests.strategies_json import instances, schemas

DIALECTS = {2020: "https://json-schema.org/draft/2020-12/schema", 7: "http://json-schema.org/draft-07/schema#"}
VALIDATORS = {2020: jsonschema.Draft202012Validator, 7: jsonschema.Draft7Validator}
PAIRS = 10  # instances of each schema


@pytest.mark.filterwarnings("ignore::genctl.errors.GenctlWarning")
@pytest.mark.parametrize("draft", [2020, 7])
@given(st.data())
def test_a_rule_accepts_exactly_the_valid_instances(draft: int, data: Any) -> None:
    schema = data.draw(schemas(draft))
    if isinstance(schema, dict):
        schema = {"$schema": DIALECTS[draft], **schema}
    agree(schema, draft, data)


@pytest.mark.filterwarnings("ignore::genctl.errors.GenctlWarning")
@pytest.mark.parametrize("draft", [2020, 7])
@given(st.data())
def test_so_it_does_where_a_schema_says_the_same_at_several_places(draft: int, data: Any) -> None:
    schema = data.draw(schemas(draft, size=2))
    document = {word: schema.pop(word) for word in ("$schema", "$defs", "definitions") if word in schema}
    again = {**schema, "title": "again"}
    other = data.draw(st.sampled_from([{"type": "string"}, {"minimum": 1}, {"required": ["a"]}, True]))
    words = {
        "listed": {data.draw(st.sampled_from(["anyOf", "oneOf", "allOf"])): [schema, other, again]},
        "properties": {"properties": {"a": schema, "b": again, "c": other}, "additionalProperties": again},
        "items": {"items": schema, "contains": {"title": "again", **schema}},
        "condition": {"if": schema, "then": other, "else": {"not": again}},
        "dependencies": {"dependencies": {"a": schema, "b": again}},
        "not": {"not": {"anyOf": [schema, {"allOf": [again, other]}]}},
    }
    agree({**document, **words[data.draw(st.sampled_from(sorted(words)))]}, draft, data)


def agree(schema: Any, draft: int, data: Any) -> None:
    """The rule and the validator about random instances."""
    try:
        rule = genctl.json(schema, property_order="any")
    except genctl.UnsatisfiableError:
        rule = None
    validator = VALIDATORS[draft](schema)
    for _ in range(PAIRS):
        value = data.draw(instances(schema))
        wanted = validator.is_valid(value)
        for marks in ((",", ":"), (", ", ": ")):
            texts = [json.dumps(v, ensure_ascii=False, separators=marks) for v in (value, without_exponents(value))]
            accepted = [rule is not None and rule.accepts(text) for text in texts]
            every = wanted and '"integer"' not in json.dumps(schema)  # integers have no exponent (docs/json-schema.md)
            assert (all if every else any)(accepted) == wanted, (schema, texts)


def without_exponents(value: Any) -> Any:
    """The value with whole numbers written as the rule writes integers, where `json.dumps` would write 1e+16."""
    if isinstance(value, dict):
        return {name: without_exponents(item) for name, item in value.items()}
    if isinstance(value, list):
        return [*map(without_exponents, value)]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) >= 1e16 else value
