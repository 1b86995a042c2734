"""Python types as JSON Schemas, and back: the schema that a type's texts obey, and the parser into the type.

    schema, parse = schema_of(list[Trip])                  # Trip: pydantic model, dataclass, TypedDict, ...
    parse('[{"city": "Lisbon"}]')                          # [Trip(city="Lisbon")]

Pydantic does the work, so every type that it understands will do. Objects made from fields are closed: a parser
would drop what is no field, so nothing but the fields is produced (`extra="allow"` opens a model again).
"""

from __future__ import annotations

import json
import sys
import typing
from collections.abc import Callable, Iterator
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, NoReturn

import typing_extensions

from genctl.compilers.json_schema.context import escaped
from genctl.compilers.json_schema.rules import RULES
from genctl.errors import ConstraintError

Schema = dict[str, Any]


class TypedSchema(NamedTuple):
    """A JSON Schema, and the function that makes a text that obeys it a value of the type."""

    schema: Schema
    parse: Callable[[str | bytes], Any]


def schema_of(type_: Any) -> TypedSchema:
    """The schema and the parser of a type, or of a pydantic TypeAdapter.

    Raises ConstraintError where pydantic cannot make a schema of the type, and (with JSON pointer and the name of the
    field) where that schema needs a keyword that cannot be enforced.
    """
    adapter = _adapter(type_)
    try:
        schema: Schema = adapter.json_schema(schema_generator=_generator())
    except _schema_errors() as error:
        _refuse(type_, error)
    for pointer, part in _parts(schema):
        _refuse_keywords(part, pointer, type_)
        if "properties" in part:
            part.setdefault("additionalProperties", False)
    return TypedSchema(schema, _Parser(adapter))


class _Parser:
    """A text as a value of the type. 1.0 is an integer to JSON Schema, but not to every field that holds one."""

    def __init__(self, adapter: Any) -> None:
        self._adapter = adapter

    def __call__(self, text: str | bytes) -> Any:
        from pydantic import ValidationError

        try:
            return self._adapter.validate_json(text)
        except ValidationError:
            whole = json.dumps(json.loads(text, parse_float=_whole_or_float))
            if whole == json.dumps(json.loads(text)):
                raise
            return self._adapter.validate_json(whole)


def _whole_or_float(digits: str) -> int | float:
    whole, _, fraction = digits.partition(".")
    return int(whole) if fraction and not fraction.strip("0") else float(digits)


def _adapter(type_: Any) -> Any:
    from pydantic import TypeAdapter

    if isinstance(type_, TypeAdapter):
        return type_
    try:
        return TypeAdapter(_with_readable_typed_dicts(type_, {}))
    except _schema_errors() as error:
        _refuse(type_, error)


@cache
def _generator() -> Any:
    """Pydantic's generator, without the schemas that admit texts which its own parser rejects."""
    from pydantic.json_schema import GenerateJsonSchema

    class Exact(GenerateJsonSchema):
        def decimal_schema(self, schema: Any) -> Schema:
            for word in ("max_digits", "decimal_places"):
                if schema.get(word) is not None:
                    _refuse_part(f"a Decimal with {word}", "bound it with ge, gt, le and lt")
            return _finite(super().decimal_schema(schema)["anyOf"][0])

        def float_schema(self, schema: Any) -> Schema:
            found: Schema = super().float_schema(schema)
            return _finite(found) if schema.get("allow_inf_nan") is False else found

        def complex_schema(self, schema: Any) -> Schema:
            _refuse_part("complex", "use a tuple of two floats")

        def dict_schema(self, schema: Any) -> Schema:
            kind = schema.get("keys_schema", {}).get("type", "any")
            if kind in ("int", "float", "bool", "decimal", "none"):
                _refuse_part(f"a dict with keys of type {kind}", "names in JSON are strings: use dict[str, ...]")
            return super().dict_schema(schema)

    return Exact


def _finite(schema: Schema) -> Schema:
    """Without numbers that overflow: 1e999 is a number to JSON, and infinite to a parser."""
    largest = sys.float_info.max
    return {"minimum": -largest, "maximum": largest} | schema


def _refuse_part(what: str, hint: str) -> NoReturn:
    raise ConstraintError(f"no JSON Schema says exactly which texts are {what}", hint=hint)


def _schema_errors() -> tuple[type[Exception], ...]:
    from pydantic import PydanticSchemaGenerationError, PydanticUserError

    return PydanticSchemaGenerationError, PydanticUserError, TypeError, NameError


def _name(type_: Any) -> str:
    return type_.__name__ if isinstance(type_, type) else str(type_)


def _refuse(type_: Any, error: Exception) -> NoReturn:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise ConstraintError(
        f"no JSON Schema can be made of the type {_name(type_)}: {reason}",
        source=_name(type_),
        hint="use a pydantic model, a dataclass, a TypedDict or types made of str, int, float, bool, None, list, dict",
    ) from error


# -- the schema that pydantic makes

_ONE = ("items", "additionalProperties")
_LISTS = ("prefixItems", "anyOf")
_MAPS = ("properties", "$defs")


def _parts(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """Every schema inside with its JSON pointer."""
    work: list[tuple[str, Any]] = [("", schema)]
    while work:
        pointer, part = work.pop()
        if not isinstance(part, dict):
            continue
        yield pointer, part
        work += [(f"{pointer}/{word}", part[word]) for word in _ONE if word in part]
        work += [(f"{pointer}/{word}/{i}", item) for word in _LISTS for i, item in enumerate(part.get(word, []))]
        work += [(f"{pointer}/{w}/{escaped(name)}", item) for w in _MAPS for name, item in part.get(w, {}).items()]


def _refuse_keywords(part: Schema, pointer: str, type_: Any) -> None:
    for word in part:
        if word in RULES and RULES[word].handling == "refused":
            raise ConstraintError(
                f"the keyword `{word}` cannot be enforced",
                source=_name(type_),
                pointer=f"{pointer}/{word}",
                hint=f"{_field(pointer, type_)} needs `{word}: {part[word]!r}`, which is not supported yet",
            )


def _field(pointer: str, type_: Any) -> str:
    """The field that a pointer into the schema lies in, as a reader of the type knows it."""
    steps = pointer.split("/")
    fields = [steps[i + 1] for i, step in enumerate(steps[:-1]) if step == "properties"]
    owner = steps[2] if steps[1:2] == ["$defs"] else _name(type_)
    return f"the field {'.'.join([owner, *fields])}" if fields else f"the type {owner}"


# -- typing.TypedDict, which pydantic refuses before Python 3.12


def _with_readable_typed_dicts(type_: Any, known: dict[Any, Any]) -> Any:
    """The type with each typing.TypedDict in it as one of typing_extensions, the same keys being required."""
    if sys.version_info >= (3, 12):
        return type_
    if typing.is_typeddict(type_):
        return _typed_dict(type_, known)
    origin, arguments = typing.get_origin(type_), typing.get_args(type_)
    if origin is None or origin is Literal:
        return type_
    if origin is Annotated:
        return Annotated[(_with_readable_typed_dicts(arguments[0], known), *arguments[1:])]
    inner = tuple(_with_readable_typed_dicts(argument, known) for argument in arguments)
    return type_ if inner == arguments else _rebuilt(type_, origin, inner)


def _rebuilt(type_: Any, origin: Any, arguments: tuple[Any, ...]) -> Any:
    if origin is typing.Union or not isinstance(type_, typing._GenericAlias | type(list[int])):  # type: ignore[attr-defined]
        return typing.Union[arguments]  # noqa: UP007
    return origin[arguments]


def _typed_dict(type_: Any, known: dict[Any, Any]) -> Any:
    if type_ in known:
        if known[type_] is None:
            raise ConstraintError(
                f"the type {_name(type_)} contains itself",
                source=_name(type_),
                hint="use typing_extensions.TypedDict for recursive types",
            )
        return known[type_]
    known[type_] = None
    fields = {}
    for name, hint in typing_extensions.get_type_hints(type_, include_extras=True).items():
        required, inner = _requirement(hint, name in type_.__required_keys__)
        field = _with_readable_typed_dicts(inner, known)
        fields[name] = typing_extensions.Required[field] if required else typing_extensions.NotRequired[field]
    known[type_] = typing_extensions.TypedDict(type_.__name__, fields)  # type: ignore[operator]
    known[type_].__doc__, known[type_].__module__ = type_.__doc__, type_.__module__
    return known[type_]


def _requirement(hint: Any, required: bool) -> tuple[bool, Any]:
    """Whether a key is required, and its type without the words that say so."""
    wrappers = {typing.Required: True, typing.NotRequired: False}
    origin = typing.get_origin(hint)
    if origin in wrappers:
        return wrappers[origin], typing.get_args(hint)[0]
    return required, hint
