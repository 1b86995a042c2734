"""Schemas that admit exactly what a parser reads: what they share, whoever the parser is.

    finished({"properties": {"when": checked({"type": "string"}, "the day")}}, "Trip").checked
    # ("the field Trip.when: the day",)

What no schema can say is either refused, with the name of the field, or listed in `checked`: the parser is asked
about whole texts. Objects made from fields are closed, since a parser would drop what is no field.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any, NamedTuple

from genctl.compilers.json_schema.context import escaped
from genctl.compilers.types import texts
from genctl.errors import ConstraintError

Schema = dict[str, Any]

# Words that are left in schemas for `finished`, which takes them out.
REFUSED, CHECKED = "genctl:refused", "genctl:checked"
SCALARS = (str, int, float, bool, type(None))


class ExactSchema(NamedTuple):
    """A schema, and what it cannot say: where it is not empty, the parser must be asked about whole texts."""

    schema: Schema
    checked: tuple[str, ...]


def refused(what: str, hint: str) -> Schema:
    return {REFUSED: {"what": what, "hint": hint}}


def checked(schema: Schema, why: str | None) -> Schema:
    return {**schema, CHECKED: why} if why else schema


def text(pattern: str) -> Schema:
    return {"type": "string", "pattern": pattern}


def finite(schema: Schema) -> Schema:
    """Without numbers that overflow: 1e999 is a number to JSON, and infinite to a parser."""
    largest = sys.float_info.max
    return {"minimum": -largest, "maximum": largest} | schema


def rounded(schema: Schema) -> Schema:
    """Bounds that hold for the nearest float too: 0.29999999999999999999 is below 0.3, and is read as 0.3."""
    for strict, inclusive, inward, tighter in (
        ("exclusiveMinimum", "minimum", math.inf, max),
        ("exclusiveMaximum", "maximum", -math.inf, min),
    ):
        bounds = [schema[word] for word in (inclusive,) if word in schema]
        if bounds and isinstance(bounds[0], Decimal):  # more digits than a float has
            bounds = [_float_inside(bounds[0], inward, strict=False)]
        if strict in schema:
            bounds.append(_float_inside(schema.pop(strict), inward, strict=True))
        if bounds:
            schema[inclusive] = tighter(bounds)
    return schema


def _float_inside(bound: Any, inward: float, *, strict: bool) -> float:
    """The float next to a bound, on the way inward; the bound itself unless that is strict."""
    exact, nearest = Decimal(str(bound)), float(bound)
    written = Decimal(repr(nearest))
    outside = written < exact if inward > 0 else written > exact
    return math.nextafter(nearest, inward) if outside or (strict and written == exact) else nearest


def plain_number(value: Decimal) -> int | float | Decimal:
    """In the plainest type that holds it exactly."""
    if value == int(value):
        return int(value)
    return float(value) if Decimal(repr(float(value))) == value else value


def listed(values: Iterable[Any]) -> Schema | None:
    """A refusal, if there is a value that JSON cannot hold as it is."""
    strange = [value for value in values if not isinstance(value, SCALARS)]
    strange += [value for value in values if isinstance(value, float) and not math.isfinite(value)]
    return (
        refused(f"the value {strange[0]!r} is not written in JSON", "use str, int, float, bool or None")
        if strange
        else None
    )


def whole_bounds(ge: Any = None, gt: Any = None, le: Any = None, lt: Any = None) -> tuple[int | None, int | None]:
    low = [math.ceil(ge)] if ge is not None else []
    low += [math.floor(gt) + 1] if gt is not None else []
    high = [math.floor(le)] if le is not None else []
    high += [math.ceil(lt) - 1] if lt is not None else []
    return max(low, default=None), min(high, default=None)


# -- taking the marks out

# What pydantic's names of formats stand for; and those of which the parser has the last word.
_FORMATS: dict[str, str | None] = {
    "ipv4": texts.IPV4, "ipv6": texts.IPV6, "ipvanyaddress": texts.IP, "ipv4interface": texts.IPV4_INTERFACE,
    "ipv6interface": texts.IPV6_INTERFACE, "ipvanyinterface": texts.IP_INTERFACE, "path": None, "password": None,
    **{f"uuid{version}": texts.uuids(version) for version in range(1, 9)},
}  # fmt: skip
_CHECKED_FORMATS: dict[str, str | None] = {
    "ipv4network": texts.IPV4_INTERFACE, "ipv6network": texts.IPV6_INTERFACE, "ipvanynetwork": texts.IP_INTERFACE,
    "file-path": None, "directory-path": None, "base64": texts.BASE64, "base64url": texts.BASE64_URL,
    "zoneinfo": None, "regex": None, "fraction": None, "json-string": None, "color": None,
}  # fmt: skip

_ONE = ("items", "additionalProperties", "propertyNames")
_LISTS = ("prefixItems", "anyOf")
_MAPS = ("properties", "$defs")


def finished(schema: Schema, name: str) -> ExactSchema:
    """The schema with the marks taken out: it refuses, or tells what the parser must see to."""
    whys: dict[str, None] = {}
    for pointer, part in parts(schema):
        if REFUSED in part:
            reason = part[REFUSED]
            raise ConstraintError(
                reason["what"], source=name, pointer=pointer, hint=f"{field(pointer, name)}: {reason['hint']}"
            )
        word = part.get("format")
        if word in _FORMATS or word in _CHECKED_FORMATS:
            pattern = (_FORMATS | _CHECKED_FORMATS)[part.pop("format")]
            part |= {"type": "string"} | ({} if pattern is None else {"pattern": pattern})
        why = part.pop(CHECKED, f"what {word} means" if word in _CHECKED_FORMATS else None)
        if why is not None:
            whys[f"{field(pointer, name)}: {why}"] = None
        part.pop("discriminator", None)
        if "properties" in part:
            part.setdefault("additionalProperties", False)
    return ExactSchema(schema, tuple(whys))


def apart(schema: Schema, owner: str) -> Schema:
    """The schema with definitions whose names begin with the owner's; to stand beside others in one document."""
    for _, part in parts(schema):
        if "$ref" in part:
            part["$ref"] = part["$ref"].replace("#/$defs/", f"#/$defs/{owner}.", 1)
    if "$defs" in schema:
        schema["$defs"] = {f"{owner}.{name}": part for name, part in schema["$defs"].items()}
    return schema


def parts(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """Every schema inside with its JSON pointer."""
    work: list[tuple[str, Any]] = [("", schema)]
    while work:
        pointer, part = work.pop()
        if not isinstance(part, dict):
            continue
        yield pointer, part
        work += [(f"{pointer}/{word}", part[word]) for word in _ONE if word in part]
        work += [(f"{pointer}/{word}/{i}", item) for word in _LISTS for i, item in enumerate(part.get(word, []))]
        work += [(f"{pointer}/{w}/{escaped(key)}", item) for w in _MAPS for key, item in part.get(w, {}).items()]


def field(pointer: str, name: str) -> str:
    """The field that a pointer into the schema lies in, as a reader of the type knows it."""
    steps = pointer.split("/")
    fields = [steps[i + 1] for i, step in enumerate(steps[:-1]) if step == "properties"]
    owner = steps[2] if steps[1:2] == ["$defs"] else name
    return f"the field {'.'.join([owner, *fields])}" if fields else f"the type {owner}"
