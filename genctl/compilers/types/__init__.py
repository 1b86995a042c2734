"""Python types as JSON Schemas, and back: the schema that a type's texts obey, and the parser into the type.

    schema, parse, checked = schema_of(list[Trip])         # Trip: pydantic model, dataclass, TypedDict, attrs ...
    parse('[{"city": "Lisbon"}]')                          # [Trip(city="Lisbon")]

Pydantic does the work (pydantic_schema.py), so every type that it understands will do; typing.TypedDict on old
Pythons and attrs classes are made readable for it (readable.py), msgspec's own library does msgspec's types
(structs.py), functions become calls (calls.py). Every text that the schema admits is read into the type, and what
the type's own serialiser writes is admitted; where no schema can say that, `checked` lists what only the parser knows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

from genctl.compilers.types.calls import ToolCall, call_types, is_function
from genctl.compilers.types.exact import apart
from genctl.errors import ConstraintError

__all__ = ["ToolCall", "TypedSchema", "schema_of", "schema_of_tools"]

Schema = dict[str, Any]


class TypedSchema(NamedTuple):
    """A JSON Schema, the function that makes a text that obeys it a value, and what only that function can tell.

    checked: where it is not empty, `parse` raises ValueError for some texts that obey the schema, and for these alone.
    """

    schema: Schema
    parse: Callable[[str | bytes], Any]
    checked: tuple[str, ...] = ()


def schema_of(type_: Any) -> TypedSchema:
    """The schema and the parser of a type, a pydantic TypeAdapter, or a function: the text of a call of it.

    Raises ConstraintError where no schema can be made of the type, with JSON pointer and the name of the field where
    that schema would admit other texts than the parser.
    """
    if is_function(type_):
        return schema_of_tools([type_])
    from genctl.compilers.types import structs

    if structs.mentions_struct(type_):
        try:
            schema, checked = structs.struct_schema(type_, _name(type_))
        except (TypeError, NameError) as error:
            _refuse(type_, error)
        return TypedSchema(schema, whole_numbers_too(structs.decoder(type_)), checked)
    from genctl.compilers.types.pydantic_schema import pydantic_schema

    adapter = _adapter(type_)
    try:
        schema, checked = pydantic_schema(adapter, _name(type_))
    except _schema_errors() as error:
        _refuse(type_, error)
    return TypedSchema(schema, whole_numbers_too(adapter.validate_json), checked)


def schema_of_tools(tools: Sequence[Any]) -> TypedSchema:
    """The schema of a call of one of the tools: functions, or types whose fields are the arguments.

    The text is {"name": ..., "arguments": {...}}, the value a ToolCall. Raises ConstraintError as schema_of does.
    """
    calls = {name: (tool, schema_of(type_)) for name, (tool, type_) in call_types(tools).items()}
    schemas = [apart(typed.schema, name) for name, (_, typed) in calls.items()]
    defs = {name: part for schema in schemas for name, part in schema.pop("$defs", {}).items()}

    def call(text: str | bytes) -> ToolCall:
        tool, typed = calls[json.loads(text)["name"]]
        return ToolCall(tool=tool, **typed.parse(text))

    whole = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
    checked = tuple(why for _, typed in calls.values() for why in typed.checked)
    return TypedSchema(whole | ({"$defs": defs} if defs else {}), call, checked)


# A string, or a number with nothing but zeros behind its point.
_STRING_OR_WHOLE = re.compile(r'("(?:[^"\\]|\\.)*")|(-?[0-9]+)\.0+(?![0-9eE])', re.DOTALL)


def whole_numbers_too(parse: Callable[[str | bytes], Any]) -> Callable[[str | bytes], Any]:
    """The parser, for texts with 1.0 too: to JSON Schema it is an integer, but not to every field that holds one."""

    def parse_whole(text: str | bytes) -> Any:
        try:
            return parse(text)
        except ValueError:
            plain = text.decode() if isinstance(text, bytes) else text
            whole = _STRING_OR_WHOLE.sub(lambda match: match[1] or match[2], plain)
            if whole == plain:
                raise
            return parse(whole)

    return parse_whole


def _adapter(type_: Any) -> Any:
    from pydantic import TypeAdapter

    from genctl.compilers.types.readable import readable

    if isinstance(type_, TypeAdapter):
        return type_
    try:
        return TypeAdapter(readable(type_))
    except _schema_errors() as error:
        _refuse(type_, error)


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
