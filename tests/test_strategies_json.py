"""Random schemas are schemas, every keyword comes up, and random instances are valid about every second time."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.schema_order import validator_of
from tests.strategies_json import instances, schemas

COMMON = (
    "type enum const minimum maximum exclusiveMinimum exclusiveMaximum multipleOf minLength maxLength pattern items "
    "contains minItems maxItems uniqueItems properties patternProperties additionalProperties propertyNames required "
    "minProperties maxProperties allOf anyOf oneOf not if then else $ref"
)
OWN = {
    2020: "prefixItems minContains maxContains dependentRequired dependentSchemas unevaluatedItems "
    "unevaluatedProperties $defs",
    7: "additionalItems dependencies definitions",
}


def words(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from schema
        for item in schema.values():
            yield from words(item)
    elif isinstance(schema, list):
        for item in schema:
            yield from words(item)


@pytest.mark.parametrize("draft", [2020, 7])
def test_schemas_are_valid_and_instances_are_valid_about_every_second_time(draft: int) -> None:
    verdicts: Counter[bool] = Counter()
    seen: set[str] = set()
    sizes = []

    @settings(max_examples=200, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(st.data(), schemas(draft))
    def collect(data: Any, schema: dict[str, Any]) -> None:
        validator = validator_of(schema)
        type(validator).check_schema(schema)
        seen.update(words(schema))
        sizes.append(len(json.dumps(schema)))
        for _ in range(3):
            verdicts[validator.is_valid(data.draw(instances(schema)))] += 1

    collect()
    assert {*COMMON.split(), *OWN[draft].split()} <= seen
    assert 0.2 < verdicts[True] / verdicts.total() < 0.8
    assert max(sizes) < 8_000
