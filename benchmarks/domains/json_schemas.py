"""Instances of real JSON Schemas.

jsonschema, which the rule does not ask, is the judge. A valid instance has the score 1.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from typing import Any

import jsonschema
import numpy as np

import genctl
from benchmarks.domains import Domain, Example, chat, data_file

LONGEST = 500  # characters of a schema
LONGEST_INSTANCE = 120  # characters of its shortest valid instance
QUESTION = "Write a short JSON document for this JSON Schema: {}"
SHOTS = [
    ({"type": "object", "properties": {"city": {"type": "string"}, "year": {"type": "integer"}}}, {"city": "Porto"}),
    ({"type": "array", "items": {"type": "number"}, "minItems": 2}, [1.5, 20]),
]


def is_instance(schema: Any, text: str) -> bool:
    """Is it JSON that the schema allows?"""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return False
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    return bool(kind(schema).is_valid(value))


def examples(count: int, seed: int) -> Sequence[Example]:
    """Schemas of the data that have a short instance."""
    with gzip.open(data_file("json-schemas.jsonl.gz"), "rt", encoding="utf-8") as file:
        rows = [row for row in map(json.loads, file) if _is_short(row)]
    order = np.random.default_rng(seed).permutation(len(rows))
    return [_example(rows[i]) for i in order[:count]]


def _is_short(row: dict[str, Any]) -> bool:
    sizes = [len(json.dumps(test["data"])) for test in row["tests"] if test["valid"]]
    return len(json.dumps(row["schema"])) <= LONGEST and any(size <= LONGEST_INSTANCE for size in sizes)


def _example(row: dict[str, Any]) -> Example:
    schema = row["schema"]
    shots = [(QUESTION.format(json.dumps(shot)), json.dumps(answer)) for shot, answer in SHOTS]

    def valid(text: str) -> bool:
        return is_instance(schema, text)

    prompt = chat(shots, QUESTION.format(json.dumps(schema)))
    return Example(row["name"], prompt, genctl.json(schema), valid, lambda text: float(valid(text)))


DOMAIN = Domain("json", examples, 64, "valid")
