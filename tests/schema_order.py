"""A slow, plain second opinion on the order of properties: a value rearranged as its schema lists them.

schema_order({"properties": {"a": {}, "b": {}}}, {"b": 1, "a": 2})      # {"a": 2, "b": 1}
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import jsonschema
from jsonschema._utils import equal

OLD = ("draft-04", "draft-06", "draft-07")


def validator_of(schema: Any) -> Any:
    return jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)(schema)


def schema_order(schema: Any, value: Any) -> Any:
    """The value, its objects in the order that the first suitable branches of the schema ask for."""
    return _Order(schema).arranged([schema], value)


class _Order:
    def __init__(self, root: Any) -> None:
        self._root, self._validator = root, validator_of(root)
        self._old = isinstance(root, dict) and any(draft in str(root.get("$schema", "")) for draft in OLD)

    def arranged(self, schemas: list[Any], value: Any) -> Any:
        if not isinstance(value, dict | list):
            return value
        local = [part for schema in schemas for part in self._local(schema, value, 0)]
        for part in local:
            listed = part.get("enum", []) + ([part["const"]] if "const" in part else [])
            for item in listed:
                if equal(item, value):
                    return item
        if isinstance(value, list):
            return [self.arranged(self._item_schemas(local, i), item) for i, item in enumerate(value)]
        names = [n for part in local for n in part.get("properties", {})] + [
            n for part in local for n in part.get("required", [])
        ]
        order = [n for n in dict.fromkeys([*names, *value]) if n in value]
        return {n: self.arranged(self._member_schemas(local, n), value[n]) for n in order}

    def _local(self, schema: Any, value: Any, depth: int) -> list[dict[str, Any]]:
        """The schema, its suitable alternative, and what it refers to."""
        if not isinstance(schema, dict) or depth > 50:
            return []
        if "$ref" in schema and self._old:
            return self._local(self._target(schema["$ref"]), value, depth + 1)
        found = [schema]
        suitable = [b for b in schema.get("anyOf", []) if self._validator.evolve(schema=b).is_valid(value)]
        found += self._local(suitable[0], value, depth + 1) if suitable else []
        return found + (self._local(self._target(schema["$ref"]), value, depth + 1) if "$ref" in schema else [])

    def _target(self, reference: str) -> Any:
        target = self._root
        for step in unquote(reference.partition("#")[2]).split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            target = target[int(step)] if isinstance(target, list) else target[step]
        return target

    def _item_schemas(self, local: list[dict[str, Any]], index: int) -> list[Any]:
        found = []
        for part in local:
            items = part.get("items", True)
            prefix = items if isinstance(items, list) else part.get("prefixItems", [])
            rest = part.get("additionalItems", True) if isinstance(items, list) else items
            found.append(prefix[index] if index < len(prefix) else rest)
        return found

    def _member_schemas(self, local: list[dict[str, Any]], name: str) -> list[Any]:
        return [part.get("properties", {}).get(name, part.get("additionalProperties", True)) for part in local]
