"""The words that all keyword families share: places in a schema, conjunctions of them, and what a family gives.

    place = Place("/properties/a", {"type": "string", "minLength": 2}, DRAFTS[2020])
    place.count("minLength"), place.child("items")      # 2, ("/properties/a/items",)

A *node* is the conjunction of the schemas at some places. A *facet* is what a schema says about the values of one
JSON type; facets of two places meet (are intersected) exactly, so siblings of `anyOf` and `$ref` need no special care.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple, NoReturn, Protocol, Self, TypeAlias, TypeVar

from genctl.automata.base import Automaton
from genctl.automata.expressions import Call, Expression
from genctl.errors import ConstraintError

T = TypeVar("T")
Pointer: TypeAlias = str
Node: TypeAlias = tuple[Pointer, ...]  # () is the schema that every value obeys
ANYTHING: Node = ()

MAX_DIGITS = 4_000  # of a number in a schema, written without exponent


class Draft(NamedTuple):
    """What differs between the versions of JSON Schema."""

    year: int  # 4, 6 and 7 are draft numbers, 2019 and 2020 years
    name: str
    identifier: str  # the keyword that names a schema

    @property
    def whole_fractions(self) -> bool:
        """Is 1.0 an integer?"""
        return self.year >= 6


DRAFTS = {
    4: Draft(4, "draft 4", "id"),
    6: Draft(6, "draft 6", "$id"),
    7: Draft(7, "draft 7", "$id"),
    2019: Draft(2019, "draft 2019-09", "$id"),
    2020: Draft(2020, "draft 2020-12", "$id"),
}


def escaped(name: str | int) -> str:
    """A member name as one step of a JSON pointer."""
    return str(name).replace("~", "~0").replace("/", "~1")


def refuse(pointer: Pointer, reason: str, hint: str | None = None) -> NoReturn:
    raise ConstraintError(reason, pointer=pointer, hint=hint)


def meet_nodes(first: Node, second: Node) -> Node:
    """The conjunction of both, each place once, in order."""
    return tuple(dict.fromkeys(first + second))


@dataclass(frozen=True, slots=True)
class Place:
    """A schema (an object, not a boolean) and where it stands."""

    pointer: Pointer
    schema: Mapping[str, Any]
    draft: Draft

    def at(self, *steps: str | int) -> Pointer:
        return "/".join([self.pointer, *map(escaped, steps)])

    def child(self, *steps: str | int) -> Node:
        """The schema below this place, as a node."""
        return (self.at(*steps),)

    def wrong(self, keyword: str, expected: str, hint: str | None = None) -> NoReturn:
        value = repr(self.schema[keyword])
        value = value if len(value) <= 60 else value[:57] + "..."
        refuse(self.at(keyword), f"`{keyword}` must be {expected}, not {value}", hint)

    def optional_child(self, keyword: str) -> Node:
        return self.child(keyword) if keyword in self.schema else ANYTHING

    def get(self, keyword: str, kind: type[T], expected: str) -> T | None:
        """The value of a keyword if it is there and of this Python type; refused if it is of another type."""
        if keyword not in self.schema:
            return None
        value = self.schema[keyword]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.wrong(keyword, expected)
        return value

    def count(self, keyword: str, default: T) -> int | T:
        """The value of a keyword that must be a whole number of at least 0."""
        if keyword not in self.schema:
            return default
        number = decimal(self.schema[keyword])
        if number is None or number < 0 or not is_whole(number) or number.adjusted() >= MAX_DIGITS:
            self.wrong(keyword, "a whole number, 0 or more")
        return int(number)

    def number(self, keyword: str) -> Decimal | None:
        """The exact decimal value of a keyword that must be a number."""
        if keyword not in self.schema:
            return None
        number = decimal(self.schema[keyword])
        if number is None:
            self.wrong(keyword, "a finite number")
        if too_long(number):
            refuse(self.at(keyword), f"`{keyword}` has more than {MAX_DIGITS:,} digits")
        return number

    def names(self, keyword: str) -> tuple[str, ...]:
        """The value of a keyword that must be a list of strings, each once."""
        value = self.get(keyword, list, "a list of strings") or []
        if not all(isinstance(name, str) for name in value):
            self.wrong(keyword, "a list of strings")
        return tuple(dict.fromkeys(value))


def decimal(value: object) -> Decimal | None:
    """The exact value of a finite JSON number, a float being what its shortest spelling says; None for all else."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    try:
        number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    except (InvalidOperation, ValueError):
        return None
    return number if number.is_finite() else None


def too_long(number: Decimal) -> bool:
    """Has it more than MAX_DIGITS digits in plain notation?"""
    return not -MAX_DIGITS < number.adjusted() < MAX_DIGITS or len(number.as_tuple().digits) > MAX_DIGITS


def is_whole(number: Decimal) -> bool:
    return number == number.to_integral_value()


class Context(Protocol):
    """What an expression of a facet may ask of the compiler."""

    draft: Draft
    space: Space

    def expression(self, node: Node, /) -> Expression:
        """The values of a node; the same rules whenever it is asked for."""
        ...

    def admits(self, node: Node, value: object, /) -> bool: ...

    def found(self, pattern: str, make: Callable[[], Automaton], text: str, /) -> bool:
        """Is the pattern found in the text? `make` gives its expression in UTF-8."""
        ...

    def rule(self, key: Hashable, make: Callable[[], Expression], /) -> Call:
        """A call of the rule with this key, made on first use."""
        ...

    def own_rule(self, expression: Expression, /) -> Call:
        """A call of a new rule: many places can go on with it, and it is written once."""
        ...

    def automaton(self, key: Hashable, make: Callable[[], Automaton], /) -> Expression:
        """The automaton with this key, embedded, made on first use; NOTHING if it accepts nothing."""
        ...


class Space(NamedTuple):
    """Where white space may stand in arrays and objects, with the marks around it."""

    opened: Expression  # behind [ and {, where items follow
    comma: Expression
    colon: Expression
    closing: Expression  # before ] and }, where items precede


class Facet(ABC):
    """What a schema says about the values of one JSON type."""

    @abstractmethod
    def meet(self, other: Self, /) -> Self:
        """What both say."""

    @abstractmethod
    def admits(self, value: Any, context: Context, /) -> bool:
        """Is this value of the type admitted?"""

    @abstractmethod
    def expression(self, context: Context, /) -> Expression: ...

    def conflict(self, context: Context, /) -> str | None:
        """Why no value is admitted, if that is visible here."""
        return None

    def needs(self) -> Iterable[tuple[str, Node]]:
        """Parts that every value has, in words and as nodes: if one of them admits nothing, neither does this."""
        return ()
