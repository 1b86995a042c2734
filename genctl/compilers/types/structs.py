"""msgspec's types: the JSON Schema that admits the texts that its decoder reads, from its own account of the type.

    if mentions_struct(list[Trip]):                        # class Trip(msgspec.Struct)
        schema, checked = struct_schema(list[Trip], "list[Trip]")

Nothing here imports msgspec unless there is a Struct.
"""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

import typing_extensions

from genctl.compilers.types import texts
from genctl.compilers.types.exact import (
    ExactSchema,
    Schema,
    checked,
    finished,
    finite,
    listed,
    refused,
    rounded,
    text,
    whole_bounds,
)

BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}


def mentions_struct(type_: Any) -> bool:
    """Is there a msgspec.Struct in the type, its arguments, or the fields of its classes?"""
    msgspec = sys.modules.get("msgspec")
    return msgspec is not None and _mentions(type_, msgspec.Struct, set())


def _mentions(type_: Any, struct: type, seen: set[int]) -> bool:
    if id(type_) in seen:
        return False
    seen.add(id(type_))
    inner = list(typing.get_args(type_))
    if isinstance(type_, type):
        if issubclass(type_, struct):
            return True
        if dataclasses.is_dataclass(type_) or typing_extensions.is_typeddict(type_) or hasattr(type_, "_fields"):
            try:
                inner += typing_extensions.get_type_hints(type_).values()
            except (NameError, TypeError):
                return False
    return any(_mentions(part, struct, seen) for part in inner)


def decoder(type_: Any) -> Callable[[str | bytes], Any]:
    """The text as a value; ValueError where it is none."""
    import msgspec

    decode = msgspec.json.Decoder(type_).decode

    def parse(text: str | bytes) -> Any:
        try:
            return decode(text)
        except msgspec.MsgspecError as error:
            raise ValueError(str(error)) from error

    return parse


def struct_schema(type_: Any, name: str) -> ExactSchema:
    """The schema. Raises ConstraintError with pointer and field for what no schema says, TypeError from msgspec."""
    from msgspec.inspect import type_info

    reader = _Reader()
    schema = reader(type_info(type_))
    return finished(schema | ({"$defs": reader.defs} if reader.defs else {}), name)


class _Reader:
    """Rules for msgspec.inspect's types, by the names of their classes; classes with fields become definitions."""

    def __init__(self) -> None:
        self.defs: dict[str, Schema] = {}
        self._names: dict[Any, str] = {}

    def __call__(self, type_: Any) -> Schema:
        rule = _RULES.get(type(type_).__name__)
        if rule is None:
            what = getattr(type_, "cls", type(type_).__name__.removesuffix("Type"))
            return refused(f"there is no JSON Schema for {what}", "use a Struct, or types made of str, int, float ...")
        return rule(self, type_)

    def definition(self, type_: Any, make: Callable[[_Reader, Any], Schema]) -> Schema:
        key = type_.cls, tuple(str(part.type) for part in type_.fields) if typing.get_origin(type_.cls) else ()
        if key not in self._names:
            plain = getattr(type_.cls, "__name__", str(type_.cls))
            taken = sum(name.split("__")[0] == plain for name in self._names.values())
            name = self._names[key] = f"{plain}__{taken + 1}" if taken else plain
            self.defs[name] = {}
            self.defs[name] |= make(self, type_)
        return {"$ref": f"#/$defs/{self._names[key]}"}


def _sized(type_: Any, words: tuple[str, str]) -> Schema:
    sizes = zip(words, (type_.min_length, type_.max_length), strict=True)
    return {word: size for word, size in sizes if size is not None}


def _bounds(type_: Any) -> Schema:
    return {word: getattr(type_, name) for name, word in BOUNDS.items() if getattr(type_, name) is not None}


def _integer(reader: _Reader, type_: Any) -> Schema:
    several = {} if type_.multiple_of is None else {"multipleOf": type_.multiple_of}
    return {"type": "integer", **_bounds(type_), **several}


def _float(reader: _Reader, type_: Any) -> Schema:
    several = {} if type_.multiple_of is None else {"multipleOf": type_.multiple_of}
    found = rounded(finite({"type": "number", **_bounds(type_), **several}))
    return checked(found, "multiple_of of floats, which are no decimals" if several else None)


def _string(reader: _Reader, type_: Any) -> Schema:
    found = {"type": "string", **_sized(type_, ("minLength", "maxLength"))}
    if type_.pattern is None:
        return found
    pattern, exact = texts.ecma(type_.pattern, python=True)
    return checked(found | {"pattern": pattern}, None if exact else f"the pattern {type_.pattern!r}")


def _bytes(reader: _Reader, type_: Any) -> Schema:
    return checked(text(texts.BASE64), "the number of bytes" if _sized(type_, ("least", "most")) else None)


def _zone(type_: Any) -> str:
    return texts.ZONES[{None: None, True: "aware", False: "naive"}[type_.tz]]


def _decimal(reader: _Reader, type_: Any) -> Schema:
    return {"anyOf": [{"type": "number"}, text(texts.decimals())]}


def _values(values: Iterable[Any]) -> Schema:
    values = list(values)
    return listed(values) or {"enum": values}


def _list(reader: _Reader, type_: Any) -> Schema:
    return {"type": "array", "items": reader(type_.item_type), **_sized(type_, ("minItems", "maxItems"))}


def _set(reader: _Reader, type_: Any) -> Schema:
    kind = type(type_.item_type).__name__
    if kind in ("ListType", "DictType", "SetType", "VarTupleType", "TupleType", "TypedDictType", "StructType"):
        return refused("a set of what may not be hashed", "use a list")
    found = _list(reader, type_) | {"uniqueItems": True}
    if kind == "AnyType":
        found["items"] = {"type": ["null", "boolean", "number", "string"]}
    plain = kind in ("IntType", "StrType", "BoolType", "NoneType", "DateType", "EnumType", "LiteralType")
    return checked(found, None if plain or not type_.min_length else "which items are equal")


def _tuple(reader: _Reader, type_: Any) -> Schema:
    items = [reader(item) for item in type_.item_types]
    return {"type": "array", "prefixItems": items, "minItems": len(items), "items": False} if items else _NO_ITEMS


_NO_ITEMS: Schema = {"type": "array", "maxItems": 0}


def _dict(reader: _Reader, type_: Any) -> Schema:
    sizes = _sized(type_, ("minProperties", "maxProperties"))
    found = {"type": "object", "additionalProperties": reader(type_.value_type), **sizes}
    names = _names(reader, type_.key_type)
    return found | ({"propertyNames": names} if names else {})


def _names(reader: _Reader, keys: Any) -> Schema:
    kind = type(keys).__name__
    if kind == "IntType" and keys.multiple_of is None:
        return {"pattern": texts.integers(*whole_bounds(keys.ge, keys.gt, keys.le, keys.lt))}
    if kind == "EnumType":
        return {"enum": [str(member.value) for member in keys.cls]}
    if kind == "LiteralType":
        return {"enum": [str(value) for value in keys.values]}
    if kind in ("StrType", "DateType", "DateTimeType", "TimeType", "UUIDType", "AnyType"):
        return {word: value for word, value in reader(keys).items() if word != "type"}
    return refused(f"a dict with keys of {kind.removesuffix('Type').lower()}", "use dict[str, ...]")


def _union(reader: _Reader, type_: Any) -> Schema:
    return {"anyOf": [reader(part) for part in type_.types]}


def _object(reader: _Reader, type_: Any) -> Schema:
    return reader.definition(type_, _array_like if getattr(type_, "array_like", False) else _fields)


def _fields(reader: _Reader, type_: Any) -> Schema:
    tag, fields = _tag(type_), type_.fields
    if typing_extensions.is_typeddict(type_.cls):  # msgspec sorts them by name
        order = list(type_.cls.__annotations__)
        fields = sorted(fields, key=lambda field: order.index(field.name) if field.name in order else -1)
    properties = {field.encode_name: reader(field.type) for field in fields}
    required = [field.encode_name for field in fields if field.required]
    found = {"type": "object", "properties": tag | properties, "required": [*tag, *required]}
    return checked(found, _own_checks(type_.cls))


def _array_like(reader: _Reader, type_: Any) -> Schema:
    """Fields in order; those behind the last required one may be left out."""
    tag = list(_tag(type_).values())
    items = [*tag, *(reader(field.type) for field in type_.fields)]
    needed = max((i + 1 for i, field in enumerate(type_.fields) if field.required), default=0)
    sized = {"type": "array", "prefixItems": items, "minItems": len(tag) + needed, "items": False}
    return checked(sized if items else _NO_ITEMS, _own_checks(type_.cls))


def _tag(type_: Any) -> Schema:
    tag = getattr(type_, "tag", None)
    return {} if tag is None else {type_.tag_field: {"enum": [tag]}}


def _own_checks(cls: Any) -> str | None:
    """What the class does beyond its fields, which may fail."""
    cls = typing.get_origin(cls) or cls
    if hasattr(cls, "__post_init__") or hasattr(cls, "__attrs_post_init__"):
        return f"{cls.__name__}.__post_init__"
    attributes = getattr(cls, "__attrs_attrs__", ())
    return f"the validators of {cls.__name__}" if any(a.validator or a.converter for a in attributes) else None


_RULES: dict[str, Callable[[_Reader, Any], Schema]] = {
    "AnyType": lambda reader, type_: {},
    "RawType": lambda reader, type_: {},
    "NoneType": lambda reader, type_: {"type": "null"},
    "BoolType": lambda reader, type_: {"type": "boolean"},
    "IntType": _integer,
    "FloatType": _float,
    "StrType": _string,
    "BytesType": _bytes,
    "ByteArrayType": _bytes,
    "DateTimeType": lambda reader, type_: text(texts.moments(_zone(type_))),
    "TimeType": lambda reader, type_: text(texts.clock(_zone(type_))),
    "DateType": lambda reader, type_: text(texts.DATE),
    "TimeDeltaType": lambda reader, type_: text(texts.DAYS_AND_TIME),
    "UUIDType": lambda reader, type_: text(texts.UUID),
    "DecimalType": _decimal,
    "EnumType": lambda reader, type_: _values(
        member.value if isinstance(member, Enum) else member for member in type_.cls
    ),
    "LiteralType": lambda reader, type_: _values(type_.values),
    "ListType": _list,
    "VarTupleType": _list,
    "CollectionType": _list,
    "SetType": _set,
    "FrozenSetType": _set,
    "TupleType": _tuple,
    "DictType": _dict,
    "UnionType": _union,
    "Metadata": lambda reader, type_: reader(type_.type),
    "StructType": _object,
    "DataclassType": _object,
    "TypedDictType": _object,
    "NamedTupleType": lambda reader, type_: reader.definition(type_, _array_like),
}
