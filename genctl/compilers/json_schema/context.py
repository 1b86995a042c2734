"""The words that all keyword families share: places in a schema, conjunctions of them, and what a family gives.

    place = Place("/properties/a", {"type": "string", "minLength": 2}, DRAFTS[2020])
    place.count("minLength"), place.child("items")      # 2, ("/properties/a/items",)

A *node* is the conjunction of *parts*: the schema at a place, or (negated) that it does not hold. A *facet* is what a
schema says about the values of one JSON type; facets of two places meet (are intersected) exactly, so siblings of
`anyOf` and `$ref` need no special care.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, NamedTuple, NoReturn, Protocol, Self, TypeAlias, TypeVar

from genctl.automata.expressions import Call, Expression
from genctl.errors import ConstraintError

T = TypeVar("T")
Pointer: TypeAlias = str
PropertyOrder: TypeAlias = Literal["declared", "any"]


class Part(NamedTuple):
    """The schema at a place, negated: that it does not hold.

    scope: the schema resources that were entered on the way, outermost first, as far as `$dynamicRef` can tell them
    apart.
    """

    pointer: Pointer
    negated: bool = False
    scope: tuple[str, ...] = ()

    @property
    def positive(self) -> Part:
        return Part(self.pointer, False, self.scope) if self.negated else self

    @property
    def opposite(self) -> Part:
        return Part(self.pointer, not self.negated, self.scope)


Node: TypeAlias = tuple[Part, ...]  # () is the schema that every value obeys
ANYTHING: Node = ()
INSIDE = "~:"  # behind the name of another document than the schema itself, in pointers
FALSE: Pointer = "false"  # where the schema `false` stands, in every document
NEVER: Node = (Part(FALSE),)  # the schema that no value obeys

MAX_DIGITS = 4_000  # of a number in a schema, written without exponent


class Draft(NamedTuple):
    """What differs between the versions of JSON Schema. validates: has it the vocabulary "validation"?"""

    year: int  # 4, 6 and 7 are draft numbers, 2019 and 2020 years
    name: str
    identifier: str  # the keyword that names a schema
    validates: bool = True

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
    step = str(name)
    return step.replace("~", "~0").replace("/", "~1") if "~" in step or "/" in step else step


def refuse(pointer: Pointer, reason: str, hint: str | None = None) -> NoReturn:
    raise ConstraintError(reason, pointer=shown(pointer), hint=hint)


def shown(pointer: Pointer) -> str:
    """A pointer as a reader knows it: into the schema, or behind the name of another document."""
    return pointer.partition("~=")[0].replace(INSIDE, "#")


def meet_nodes(first: Node, second: Node) -> Node:
    """The conjunction of both, each place once, in order."""
    if not first or not second or first == second:
        return first or second
    return tuple(dict.fromkeys(first + second))


def negations(node: Node) -> tuple[Node, ...]:
    """The ways not to obey a node: a value obeys one or more of these exactly where it does not obey the node."""
    return tuple((part.opposite,) for part in node)


@dataclass(frozen=True, slots=True)
class Place:
    """A schema (an object, not a boolean) and where it stands. formats: is `format` enforced, or an annotation? equal:
    the places that stand for others.
    """

    pointer: Pointer
    schema: Mapping[str, Any]
    draft: Draft
    scope: tuple[str, ...] = ()
    formats: bool = True
    equal: Mapping[Pointer, Pointer] = field(default_factory=dict)

    def at(self, *steps: str | int) -> Pointer:
        return "/".join([self.pointer, *map(escaped, steps)])

    def child(self, *steps: str | int) -> Node:
        """The schema below this place, as a node."""
        pointer = self.at(*steps)
        return (Part(self.equal.get(pointer, pointer), scope=self.scope),)

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


class Context(Protocol):
    """What an expression of a facet may ask of the compiler."""

    draft: Draft
    space: Space
    property_order: PropertyOrder

    def check(self, pointer: Pointer, reason: str, /) -> None:
        """What is compiled admits more than the keyword at the pointer does: whole values are to be checked as well."""
        ...

    def repeating(self) -> None:
        """What is compiled admits a name twice in one object: the check layer sees to it that none comes twice."""
        ...

    def strings(self, node: Node, /) -> tuple[Facet, ...]:
        """What each case of a node says about strings (facets of strings.py), cases that admit no string left out."""
        ...

    def expression(self, node: Node, /) -> Expression:
        """The values of a node; the same rules whenever it is asked for."""
        ...

    def values(self, node: Node, /) -> Sequence[Any] | None:
        """Every value of a node, each once, if all are listed (or null, true, false)."""
        ...

    def spelled(self, node: Node, value: object, /) -> Expression:
        """One of the listed values of a node, as it is spelled there."""
        ...

    def admits(self, node: Node, value: object, /) -> bool: ...

    def rule(self, key: Hashable, make: Callable[[], Expression], /) -> Call:
        """A call of the rule with this key, made on first use."""
        ...

    def own_rule(self, expression: Expression, /) -> Call:
        """A call of a new rule: many places can go on with it, and it is written once."""
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

    def plainly_empty(self) -> bool:
        """Is nothing admitted, as is seen without building anything?"""
        return False

    def needs(self) -> Iterable[tuple[str, Node]]:
        """Parts that every value has, in words and as nodes: if one of them admits nothing, neither does this."""
        return ()
