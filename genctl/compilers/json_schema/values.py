"""type, enum and const; and the spellings of a given value.

    spellings([1, {"a": None}], context)       # an expression; white space as everywhere else

Listed strings are produced in every JSON spelling, listed numbers in plain decimal notation (1 as 1.0 too) and, where
`json.dumps` would write an exponent, in normalised scientific notation; a few members of a listed object in any order,
many in the given one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from genctl.automata.expressions import Expression, Literal, concat, optional, union
from genctl.compilers.json_schema.arrays import Arrays
from genctl.compilers.json_schema.context import (
    MAX_DIGITS,
    Context,
    Facet,
    Place,
    Pointer,
    decimal,
    identity,
    kind_of,
    refuse,
    too_long,
)
from genctl.compilers.json_schema.decimals import MINUS, ZERO_FRACTION, ZEROS, equal, plain
from genctl.compilers.json_schema.members import key
from genctl.compilers.json_schema.numbers import Numbers
from genctl.compilers.json_schema.objects import Objects, speakable
from genctl.compilers.json_schema.strings import Strings, strings_of

ANY_ORDER = 6  # members of a listed object that may stand in any order; those of larger ones stand in the given one


@dataclass(frozen=True, slots=True)
class Fixed(Facet):
    """The values of a type that has only a few: null and boolean."""

    texts: tuple[bytes, ...]

    def meet(self, other: Fixed, /) -> Fixed:
        return Fixed(tuple(text for text in self.texts if text in other.texts))

    def admits(self, value: Any, context: Context, /) -> bool:
        return LITERALS[value] in self.texts

    def plainly_empty(self) -> bool:
        return not self.texts

    def expression(self, context: Context, /) -> Expression:
        return union(*map(Literal, self.texts))


LITERALS: Mapping[object, bytes] = {None: b"null", True: b"true", False: b"false"}
NULL, BOOLEAN = Fixed((b"null",)), Fixed((b"true", b"false"))

# Every JSON type with the facet that says nothing about it. The names are those of `type`.
KINDS: dict[str, Facet] = {
    "null": NULL,
    "boolean": BOOLEAN,
    "number": Numbers(),
    "string": Strings(),
    "array": Arrays(),
    "object": Objects(),
}
TYPES: dict[str, tuple[str, Facet]] = {name: (name, facet) for name, facet in KINDS.items()} | {
    "integer": ("number", Numbers(integer=True))
}


# -- reading


def read_types(place: Place) -> Mapping[str, Facet]:
    """The kinds that `type` leaves, each with what it says about them."""
    if "type" not in place.schema:
        return KINDS
    value = place.schema["type"]
    if isinstance(value, str) and value in TYPES:
        return dict((TYPES[value],))
    names = value if isinstance(value, list) else [value]
    found: dict[str, Facet] = {}
    for name in names:
        if not isinstance(name, str) or name not in TYPES:
            place.wrong("type", "one of " + ", ".join(sorted(TYPES)) + ", or a list of these")
        kind, facet = TYPES[name]
        if found.get(kind) != KINDS[kind]:  # "number" beside "integer" says nothing more
            found[kind] = facet
    return found


def other_types(place: Place) -> Mapping[str, Facet]:
    """The kinds that `type` excludes."""
    types = read_types(place)
    found = {kind: facet for kind, facet in KINDS.items() if kind not in types}
    if types.get("number") == TYPES["integer"][1]:
        found["number"] = Numbers(fractional=True)
    return found


def all_but(values: Iterable[Any]) -> tuple[Mapping[str, Facet], list[Any]]:
    """(what every value that is none of the listed scalars is like, the listed arrays and objects)."""
    by_kind: dict[str, list[Any]] = {}
    for value in values:
        by_kind.setdefault(kind_of(value), []).append(value)
    found = dict(KINDS)
    found["string"] = Strings().without_values(by_kind.get("string", ()))
    found["number"] = Numbers().without_values(map(_exact, by_kind.get("number", ())))
    found["boolean"] = Fixed(
        tuple(
            text
            for value, text in LITERALS.items()
            if value in (True, False) and value not in by_kind.get("boolean", ())
        )
    )
    if "null" in by_kind:
        del found["null"]
    return found, [*by_kind.get("array", ()), *by_kind.get("object", ())]


def plainly_excluded(value: Any, kinds: Mapping[str, Facet]) -> bool:
    """Is a value excluded by its kind, or by name?"""
    match kinds.get(kind_of(value)):
        case None:
            return True
        case Strings(excluded=excluded):
            return value in excluded
        case Numbers(excluded=excluded):
            return bool(excluded) and _exact(value) in excluded
        case Fixed(texts):
            return LITERALS[value] not in texts
    return False


def same_as(value: Any) -> dict[str, Any]:
    """A schema (2020-12) that only this value obeys, by the schemas of its parts."""
    match value:
        case list():
            parts = [same_as(item) for item in value]
            return {"type": "array", "prefixItems": parts, "minItems": len(parts), "maxItems": len(parts)}
        case dict():
            members = {name: same_as(item) for name, item in value.items()}
            return {
                "type": "object",
                "properties": members,
                "required": list(members),
                "additionalProperties": False,
            }
    return {"const": value}


def read_values(place: Place) -> list[Any] | None:
    """The values that `enum` and `const` leave, None for all; where both stand, those in both."""
    listed: list[Any] | None = place.get("enum", list, "a list of values")
    if "const" in place.schema:
        const = place.schema["const"]
        both = listed is None or identity(const) in map(identity, listed)
        listed = [const] if both else []
    for value in listed or []:
        _check_writable(value, place.at("enum" if "enum" in place.schema else "const"))
    return listed


def _check_writable(value: Any, pointer: Pointer) -> None:
    work = [value]
    while work:
        item = work.pop()
        if isinstance(item, str):
            speakable(item, pointer)
        elif isinstance(item, list):
            work += item
        elif isinstance(item, dict):
            work += [*item, *item.values()]
        elif kind_of(item) == "number" and too_long(_exact(item)):
            refuse(pointer, f"a number has more than {MAX_DIGITS:,} digits")


def common(first: list[Any] | None, second: list[Any] | None) -> list[Any] | None:
    """The values that are in both lists."""
    if first is None or second is None:
        return second if first is None else first
    known = set(map(identity, second))
    return [value for value in first if identity(value) in known]


# -- spelling


def spellings(values: Iterable[Any], context: Context, *, fractions: bool = True) -> Expression:
    """Each of the values in its spellings; `fractions` False keeps 1 from being written as 1.0."""
    by_kind: dict[str, list[Any]] = {}
    for value in values:
        by_kind.setdefault(kind_of(value), []).append(value)
    parts = []
    if strings := by_kind.pop("string", None):
        parts.append(strings_of(strings))
    if numbers := by_kind.pop("number", None):
        parts.append(_numbers(list(map(_exact, numbers)), fractions))
    for kind, items in by_kind.items():
        parts += [SPELL[kind](item, context) for item in items]
    return union(*parts)


def _exact(value: object) -> Decimal:
    number = decimal(value)
    assert number is not None
    return number


def _numbers(numbers: Sequence[Decimal], fractions: bool) -> Expression:
    """Plain spellings in one prefix tree of digits; scientific ones where a float would be written so."""
    wholes: list[Expression] = []
    reals: list[Expression] = []
    extreme: list[Expression] = []
    for number in numbers:
        whole, fraction = plain(number.copy_abs())
        for sign in ["-"] if number < 0 else ["", "-"] if not number else [""]:
            text = Literal(f"{sign}{whole}{'.' if fraction else ''}{fraction}".encode())
            (reals if fraction else wholes).append(text)
        if fractions and number and not -5 < number.adjusted() < 16:
            extreme.append(concat(*([MINUS] if number < 0 else []), equal(number.copy_abs())))
    tail = optional(ZERO_FRACTION) if fractions else concat()
    return union(concat(union(*wholes), tail), concat(union(*reals), ZEROS), *extreme)


def _scalar(value: Any, context: Context) -> Expression:
    return Literal(LITERALS[value])


def _array(value: list[Any], context: Context) -> Expression:
    return _container(b"[", [_part(item, context) for item in value], b"]", context)


def _object(value: dict[str, Any], context: Context) -> Expression:
    pairs = {name: concat(key(name), context.space.colon, _part(item, context)) for name, item in value.items()}
    if not 1 < len(pairs) <= ANY_ORDER:
        return _container(b"{", list(pairs.values()), b"}", context)
    space = context.space

    def rest(left: frozenset[str]) -> Expression:
        """The members that are left, in any order."""
        ways = (concat(pairs[name], after(left - {name})) for name in pairs if name in left)
        return union(*ways)

    def after(left: frozenset[str]) -> Expression:
        if not left:
            return concat()
        return concat(space.comma, context.rule(("members", repr(value), left), lambda: rest(left)))

    return concat(Literal(b"{"), space.opened, rest(frozenset(pairs)), space.closing, Literal(b"}"))


def _part(value: Any, context: Context) -> Expression:
    """A value inside another; containers are rules, so depth costs no recursion later."""
    if isinstance(value, list | dict):
        return context.rule(("value", repr(value)), lambda: spellings([value], context))
    return spellings([value], context)


def _container(opening: bytes, parts: list[Expression], closing: bytes, context: Context) -> Expression:
    if not parts:
        return Literal(opening + closing)
    row = [part for item in parts for part in (context.space.comma, item)]
    return concat(Literal(opening), context.space.opened, *row[1:], context.space.closing, Literal(closing))


SPELL = {"null": _scalar, "boolean": _scalar, "array": _array, "object": _object}
