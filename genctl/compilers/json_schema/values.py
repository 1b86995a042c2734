"""type, enum and const; the kinds of values; and the spellings of a given value.

    kind_of(True), kind_of(1.5)                # "boolean", "number"
    spellings([1, {"a": None}], context)       # an expression; white space as everywhere else

Listed strings are produced in every JSON spelling, listed numbers in plain decimal notation (1 as 1.0 too) and, where
`json.dumps` would write an exponent, in normalised scientific notation; members of a listed object in the given order.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from genctl.automata.expressions import Expression, Literal, concat, optional, union
from genctl.compilers.json_schema.arrays import Arrays
from genctl.compilers.json_schema.context import MAX_DIGITS, Context, Facet, Place, Pointer, decimal, refuse, too_long
from genctl.compilers.json_schema.decimals import MINUS, ZERO_FRACTION, ZEROS, equal, plain
from genctl.compilers.json_schema.numbers import Numbers
from genctl.compilers.json_schema.objects import Objects, key, speakable
from genctl.compilers.json_schema.strings import Strings, strings_of


@dataclass(frozen=True, slots=True)
class Fixed(Facet):
    """The values of a type that has only a few: null and boolean."""

    texts: tuple[bytes, ...]

    def meet(self, other: Fixed, /) -> Fixed:
        return self

    def admits(self, value: Any, context: Context, /) -> bool:
        return True

    def expression(self, context: Context, /) -> Expression:
        return union(*map(Literal, self.texts))


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


def kind_of(value: object) -> str:
    """The JSON type of a value, integers being numbers."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case str():
            return "string"
        case list():
            return "array"
        case dict():
            return "object"
    return "number"


def identity(value: Any) -> Hashable:
    """Equal for equal JSON values (1 and 1.0, not 1 and true; members in any order), different for others."""
    match value:
        case list():
            return "array", tuple(map(identity, value))
        case dict():
            return "object", frozenset((name, identity(item)) for name, item in value.items())
        case None | bool() | str():
            return kind_of(value), value
    return "number", decimal(value)


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
    return Literal({None: b"null", True: b"true", False: b"false"}[value])


def _array(value: list[Any], context: Context) -> Expression:
    return _container(b"[", [_part(item, context) for item in value], b"]", context)


def _object(value: dict[str, Any], context: Context) -> Expression:
    pairs = [concat(key(name), context.space.colon, _part(item, context)) for name, item in value.items()]
    return _container(b"{", pairs, b"}", context)


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
