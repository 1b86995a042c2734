"""The JSON Schema of a pydantic type that admits the texts that pydantic's parser reads: exactly these.

    schema, checked = pydantic_schema(TypeAdapter(Trip), "Trip")

Pydantic's own schemas only sketch what its parser reads (`format: date-time`, a number for a Decimal of any size).
Two things are left as they are: integers of more than 4300 digits, which Python does not read, and multiples of a
float, where pydantic forgives an error that the schema does not.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from enum import Enum
from re import Pattern
from typing import Any, cast

from pydantic.json_schema import GenerateJsonSchema

from genctl.compilers.types import texts
from genctl.compilers.types.exact import (
    ExactSchema,
    Schema,
    checked,
    finished,
    finite,
    listed,
    plain_number,
    refused,
    rounded,
    text,
    whole_bounds,
)


def pydantic_schema(adapter: Any, name: str) -> ExactSchema:
    """The schema of a TypeAdapter. Raises ConstraintError with pointer and field for what no schema says."""
    return finished(adapter.json_schema(schema_generator=_Exact), name)


class _Exact(GenerateJsonSchema):
    """Methods are named by pydantic, one for each kind of core schema."""

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> Schema:
        return refused(f"there is no JSON for {error_info.removeprefix('core_schema.')}", "leave the field out")

    def generate_inner(self, schema: Any) -> Schema:
        if schema["type"] == "function-plain" and schema["function"]["function"].__name__ == "import_string":
            return refused("reading a name would import it", "use a Literal of names")
        found: Schema = super().generate_inner(schema)
        return checked(found, _given(schema.get("metadata") or {}))

    # -- numbers

    def float_schema(self, schema: Any) -> Schema:
        found: Schema = super().float_schema(schema)
        return rounded(finite(found) if schema.get("allow_inf_nan") is False else found)

    def decimal_schema(self, schema: Any) -> Schema:
        return _decimal(schema)

    def complex_schema(self, schema: Any) -> Schema:
        return refused("no JSON Schema says exactly which texts are complex", "use a tuple of two floats")

    # -- texts

    def str_schema(self, schema: Any) -> Schema:
        config = self._config
        pattern = schema.get("pattern")
        found: Schema = super().str_schema(schema)
        if pattern is not None:
            engine = schema.get("regex_engine") or config.regex_engine
            python = isinstance(pattern, Pattern) or engine == "python-re"
            found["pattern"], exact = texts.ecma(found["pattern"], python=python)
            found = checked(found, None if exact else f"the pattern {pattern!r}")
        return _normalised(
            found,
            strip=schema.get("strip_whitespace", config.str_strip_whitespace),
            lower=schema.get("to_lower", config.str_to_lower),
            upper=schema.get("to_upper", config.str_to_upper),
            ascii_only=schema.get("ascii_only", False),
        )

    def bytes_schema(self, schema: Any) -> Schema:
        config = self._config
        if config.val_json_bytes != config.ser_json_bytes or config.val_json_bytes == "hex":
            return refused("bytes that are not read as they are written", "use str, or base64 both ways")
        sized = schema.get("min_length") or schema.get("max_length") is not None
        found = {"type": "string"} if config.val_json_bytes == "utf8" else text(texts.BASE64_URL)
        return checked(found, "the number of bytes" if sized else None)

    def date_schema(self, schema: Any) -> Schema:
        low = _days(schema, "ge", "gt", 1)
        high = _days(schema, "le", "lt", -1)
        return checked(text(texts.dates(low, high)), schema.get("now_op") and "what day it is")

    def datetime_schema(self, schema: Any) -> Schema:
        return checked(text(texts.moments(_zone(schema))), _limits(schema))

    def time_schema(self, schema: Any) -> Schema:
        return checked(text(texts.clock(_zone(schema))), _limits(schema))

    def timedelta_schema(self, schema: Any) -> Schema:
        return checked(text(texts.DURATION), _limits(schema))

    def uuid_schema(self, schema: Any) -> Schema:
        version = schema.get("version")
        return text(texts.UUID if version is None else texts.uuids(version))

    def url_schema(self, schema: Any) -> Schema:
        return checked(_url(super().url_schema(schema), schema), "what a URL is")

    def multi_host_url_schema(self, schema: Any) -> Schema:
        return checked(_url(super().multi_host_url_schema(schema), schema, several_hosts=True), "what a URL is")

    def json_schema(self, schema: Any) -> Schema:
        return checked({"type": "string"}, "JSON inside a string")

    # -- listed values

    def literal_schema(self, schema: Any) -> Schema:
        values = [value.value if isinstance(value, Enum) else value for value in schema["expected"]]
        return listed(values) or super().literal_schema(schema)

    def enum_schema(self, schema: Any) -> Schema:
        return listed([member.value for member in schema["members"]]) or super().enum_schema(schema)

    # -- containers

    def tuple_schema(self, schema: Any) -> Schema:
        if schema.get("variadic_item_index", len(schema["items_schema"]) - 1) != len(schema["items_schema"]) - 1:
            return refused("a tuple with any number of items before others", "put them at the end")
        return super().tuple_schema(schema)

    def set_schema(self, schema: Any) -> Schema:
        found = self.list_schema(schema) | {"uniqueItems": True}
        items = schema.get("items_schema", {"type": "any"})
        if items["type"] == "any":
            found["items"] = {"type": ["null", "boolean", "number", "string"]}
        elif items["type"] in ("list", "dict", "set", "typed-dict"):
            return refused("a set of what cannot be hashed", "use a list")
        plain = items["type"] in ("int", "bool", "none", "str", "enum", "literal", "date")
        return checked(found, None if plain and "min_length" not in schema else "which items are equal")

    frozenset_schema = set_schema

    def dict_schema(self, schema: Any) -> Schema:
        named = {word: value for word, value in schema.items() if word != "keys_schema"}
        found = super().dict_schema(cast(Any, named))
        names = self._names(schema["keys_schema"]) if "keys_schema" in schema else {}
        return found | ({"propertyNames": names} if names else {})

    frozendict_schema = ordered_dict_schema = counter_schema = dict_schema

    def _names(self, keys: Any) -> Schema:
        """What the names of an object must be, so that they are read as keys."""
        kind = keys["type"]
        if kind == "int":
            bounds = {word: keys[word] for word in ("ge", "gt", "le", "lt", "multiple_of") if word in keys}
            if "multiple_of" in bounds:
                return refused("a dict with keys that are multiples", "use a list of pairs")
            return {"pattern": texts.integers(*whole_bounds(**bounds))}
        if kind == "bool":
            return {"enum": ["false", "true"]}
        if kind in ("float", "decimal", "none", "tuple", "list", "fraction"):
            return refused(f"no JSON Schema says exactly which texts are dicts with keys of type {kind}",
                           "names in JSON are strings: use dict[str, ...]")  # fmt: skip
        if kind == "literal" and not all(isinstance(value, str) for value in keys["expected"]):
            return refused("a dict with keys that are not strings", "use dict[str, ...]")
        if kind == "enum":
            values = [member.value for member in keys["members"]]
            if not all(type(value) in (str, int) or isinstance(value, str) for value in values):
                return refused("a dict with keys that are not strings", "use an Enum of strings")
            return {"enum": [str(value.value) if isinstance(value, Enum) else str(value) for value in values]}
        found = self.generate_inner(keys)
        words = {word: value for word, value in found.items() if word not in ("title", "type")}
        return {} if found.get("type", "string") == "string" and not words else found

    # -- unions

    def tagged_union_schema(self, schema: Any) -> Schema:
        """The tag is asked for even where the model has a default for it; it keeps the choices apart."""
        found = super().tagged_union_schema(schema)
        tag = found.get("discriminator", {}).get("propertyName")
        choices = found.pop("oneOf")
        if tag is None:
            return checked({"anyOf": choices}, "the tag that a function finds")
        return {"anyOf": [{**choice, "required": [*choice.get("required", []), tag]} for choice in choices]}

    def chain_schema(self, schema: Any) -> Schema:
        found: Schema = super().chain_schema(schema)
        return checked(found, "what is done in more than one step" if len(schema["steps"]) > 1 else None)

    # -- fields

    def model_field_schema(self, schema: Any) -> Schema:
        return _named(super().model_field_schema(schema), schema)

    def typed_dict_field_schema(self, schema: Any) -> Schema:
        return _named(super().typed_dict_field_schema(schema), schema)

    def dataclass_field_schema(self, schema: Any) -> Schema:
        return _named(super().dataclass_field_schema(schema), schema)

    def field_is_present(self, field: Any) -> bool:
        return field.get("init", True) and super().field_is_present(field)

    # -- functions, which no schema can look into

    def function_before_schema(self, schema: Any) -> Schema:
        return checked(super().function_before_schema(schema), _function(schema))

    def function_after_schema(self, schema: Any) -> Schema:
        return checked(super().function_after_schema(schema), _function(schema))

    def function_wrap_schema(self, schema: Any) -> Schema:
        return checked(super().function_wrap_schema(schema), _function(schema))

    def function_plain_schema(self, schema: Any) -> Schema:
        return checked(super().function_plain_schema(schema), _function(schema))

    def model_schema(self, schema: Any) -> Schema:
        own = schema.get("custom_init") or schema.get("post_init") not in (None, "init_private_attributes")
        why = f"what {schema['cls'].__name__} does when it is made" if own else None
        return checked(super().model_schema(schema), why)

    def dataclass_schema(self, schema: Any) -> Schema:
        why = f"{schema['cls'].__name__}.__post_init__" if schema.get("post_init") else None
        return checked(super().dataclass_schema(schema), why)

    def is_instance_schema(self, schema: Any) -> Schema:
        return self.handle_invalid_for_json_schema(schema, f"an instance of {schema['cls']}")

    def is_subclass_schema(self, schema: Any) -> Schema:
        return self.handle_invalid_for_json_schema(schema, "a class")


# -- what the methods are made of


def _decimal(schema: Any) -> Schema:
    """A number, or a string, which is how Decimals are written."""
    bounds = {word: Decimal(str(schema[word])) for word in ("ge", "gt", "le", "lt") if schema.get(word) is not None}
    digits, places = schema.get("max_digits"), schema.get("decimal_places")
    if digits is not None and places is None:
        return refused("no JSON Schema says exactly which texts are a Decimal with max_digits alone",
                       "give decimal_places too")  # fmt: skip
    if digits is not None:
        largest = Decimal(10) ** (digits - places) - Decimal(1).scaleb(-places)
        bounds["le"] = min(largest, bounds.get("le", largest))
        bounds["ge"] = max(-largest, bounds.get("ge", -largest))
    words = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
    number = {"type": "number", **{words[word]: plain_number(bound) for word, bound in bounds.items()}}
    if places is not None:
        number["multipleOf"] = plain_number(Decimal(1).scaleb(-places))
    string = text(texts.decimals(**bounds, places=places))
    many = schema.get("multiple_of")
    if many is not None:
        number["multipleOf"] = plain_number(Decimal(str(many)))
        string = checked(string, "multiple_of of a Decimal in a string")
    return {"anyOf": [rounded(finite(number)), string]}


def _normalised(schema: Schema, *, strip: bool, lower: bool, upper: bool, ascii_only: bool) -> Schema:
    """Only texts that the parser leaves as they are: lengths and patterns are those of what it makes of them."""
    wanted = [texts.STRIPPED] * bool(strip) + [texts.ASCII] * bool(ascii_only)
    wanted += ([texts.lower()] if lower else []) + ([texts.upper()] if upper else [])
    if wanted:
        ahead = "".join(f"(?={pattern})" for pattern in wanted)
        schema["pattern"] = f"^{ahead}(?=[^]*?(?:{schema['pattern']}))" if "pattern" in schema else f"^{ahead}"
    return schema


def _days(schema: Any, inclusive: str, strict: str, step: int) -> str | None:
    """The first (step 1) or last (step -1) day that the bounds allow."""
    days = [schema[inclusive]] if schema.get(inclusive) else []
    days += [schema[strict] + timedelta(days=step)] if schema.get(strict) else []
    return (max if step > 0 else min)(days).isoformat() if days else None


def _limits(schema: Any) -> str | None:
    """Bounds on moments and durations, which do not order as their texts do."""
    found = [f"{word}={schema[word]}" for word in ("ge", "gt", "le", "lt", "now_op") if schema.get(word) is not None]
    return " and ".join(found) or None


def _zone(schema: Any) -> str:
    zone = schema.get("tz_constraint")
    return texts.offset(zone) if isinstance(zone, int) else texts.ZONES[zone]


def _url(found: Schema, schema: Any, *, several_hosts: bool = False) -> Schema:
    words = {word: value for word, value in found.items() if word not in ("format", "minLength")}
    return words | {"pattern": texts.urls(schema.get("allowed_schemes"), several_hosts=several_hosts)}


def _named(found: Schema, field: Any) -> Schema:
    """A field that is read from a path into the object has no name of its own."""
    alias = field.get("validation_alias")
    if isinstance(alias, list) and not any(isinstance(path, list) and len(path) == 1 for path in alias):
        return refused("a field that is read from a path", "give it a plain alias too, by AliasChoices")
    return found


def _given(metadata: Any) -> str | None:
    """A part of the schema that users wrote themselves, such as WithJsonSchema: the parser does not know it."""
    functions = [*metadata.get("pydantic_js_functions", ()), *metadata.get("pydantic_js_annotation_functions", ())]
    for function in functions:
        owner = getattr(function, "__self__", function)
        if not function.__module__.startswith("pydantic") or type(owner).__name__ == "WithJsonSchema":
            return f"the schema that {getattr(owner, '__name__', type(owner).__name__)} gives"
    extra = metadata.get("pydantic_js_extra")
    own = callable(extra) or not {"type", "enum", "const", "anyOf", "items", "properties"}.isdisjoint(extra or ())
    return "the schema in json_schema_extra" if own else None


# Functions of pydantic that build a value out of whatever they get.
_BUILDERS = ("path_validator", "SecretStr", "SecretBytes", "defaultdict_validator", "sequence_validator")


def _function(schema: Any) -> str | None:
    """The name of a validator that may say no; None for those that only build the value."""
    function = schema["function"]["function"]
    if getattr(function, "always_builds", False):
        return None
    plain = getattr(function, "func", function)
    name = getattr(plain, "__qualname__", repr(plain))
    own = plain.__module__.startswith("pydantic.") and name.rpartition(".")[2] in _BUILDERS
    return None if own else f"the validator {name}"
