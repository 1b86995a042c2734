"""Python types: every text that the schema of a type accepts parses to a value of the type."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import enum
import fractions
import functools
import ipaddress
import pathlib
import random
import re
import subprocess
import sys
import typing
import uuid
import zoneinfo
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

import annotated_types
import attrs
import msgspec
import numpy as np
import pydantic
import pytest
import typing_extensions
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import core_schema

import genctl
from genctl.automata.base import accepts
from genctl.compilers.json_schema import compile_json_schema
from genctl.compilers.types import schema_of, texts
from genctl.compilers.types.readable import readable
from genctl.compilers.types.structs import mentions_struct
from genctl.constraints.rules import Language
from genctl.constraints.sentences import sample
from genctl.errors import ConstraintError
from tests.test_json_schema import random_text


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class City(pydantic.BaseModel):
    name: str = pydantic.Field(max_length=5)
    people: int = pydantic.Field(ge=0, lt=100)


class Trip(pydantic.BaseModel):
    cities: Annotated[list[City], pydantic.Field(min_length=1, max_length=2)]
    color: Color | None = None


class Tree(pydantic.BaseModel):
    value: bool
    children: list[Tree] = []


class Open(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    a: Literal[1]


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    a: int


@dataclasses.dataclass
class Point:
    x: float
    y: float = 0.0


class Pair(NamedTuple):
    left: Literal["l"]
    right: bool


class OldDict(typing.TypedDict, total=False):
    n: typing.Required[Literal[3]]
    inner: InnerDict


class InnerDict(typing.TypedDict):
    flag: bool
    note: typing.NotRequired[None]


class NewDict(typing_extensions.TypedDict):
    a: Literal["x", 2]
    b: typing_extensions.NotRequired[bool]


T = TypeVar("T")


class Box(pydantic.BaseModel, Generic[T]):
    content: T


TYPES: list[Any] = [
    str, int, float, bool, type(None), None, Color, Level, City, Trip, Tree, Open, Strict, Point, Pair, OldDict,
    NewDict, Literal["a", 1, True, None], Point | None, typing.Union[int, str], list[Trip], dict[str, Point],  # noqa: UP007
    tuple[int, bool], tuple[Level, ...], Decimal, Annotated[Decimal, pydantic.Field(ge=0, lt=Decimal("0.3"))],
    list[OldDict], dict[str, list[InnerDict]], OldDict | None, Annotated[InnerDict, "note"], Box[Color], list[Box[int]],
    Annotated[int, pydantic.Field(ge=3, le=5)], pydantic.FiniteFloat, pydantic.TypeAdapter(list[City]), Any,
]  # fmt: skip


@pytest.mark.parametrize("type_", TYPES, ids=lambda type_: re.sub(r" object at 0x\w+", "", str(type_)))
def test_every_text_of_a_type_parses_to_a_value_that_is_written_back(type_: Any) -> None:
    schema, parse, _ = schema_of(type_)
    automaton = compile_json_schema(schema)
    adapter = type_ if isinstance(type_, pydantic.TypeAdapter) else None
    for seed in range(8):
        text = random_text(automaton, random.Random(seed), length=40)
        value = parse(text)
        if adapter is not None:
            assert adapter.validate_python(value) == value
        if type(type_) in (type, enum.EnumMeta, type(City)):
            assert isinstance(value, type_)


@pytest.mark.parametrize(
    ("type_", "text", "value"),
    [
        (Trip, '{"cities": [{"name": "Rome", "people": 3}], "color": "red"}',
         Trip(cities=[City(name="Rome", people=3)], color=Color.RED)),
        (Point, '{"x":1.5}', Point(1.5)),
        (list[Color], '["blue"]', [Color.BLUE]),
        (Level, "2", Level.HIGH),
        (Literal[1, "a"], "1.0", 1),
        (Strict, '{"a": 7.0}', Strict(a=7)),
        (tuple[int, bool], "[1, true]", (1, True)),
        (OldDict, '{"n": 3, "inner": {"flag": true}}', {"n": 3, "inner": {"flag": True}}),
        (int | None, "null", None),
        (Tree, '{"value": true, "children": [{"value": false}]}', Tree(value=True, children=[Tree(value=False)])),
        (dict[str, int], '{"k": 2}', {"k": 2}),
    ],
)  # fmt: skip
def test_a_text_becomes_the_value_it_spells(type_: Any, text: str, value: Any) -> None:
    schema, parse, _ = schema_of(type_)
    assert accepts(compile_json_schema(schema), text.encode())
    assert parse(text) == value
    assert type(parse(text.encode())) is type(value)


@pytest.mark.parametrize(
    ("type_", "text"),
    [
        (Trip, '{"cities": []}'),
        (City, '{"name": "Lisbon", "people": 3}'),
        (City, '{"name": "Rome", "people": 3, "more": 1}'),
        (InnerDict, "{}"),
        (OldDict, '{"inner": {"flag": true}}'),
        (NewDict, '{"a": "y"}'),
        (Color, '"green"'),
        (int, "true"),
    ],
)
def test_what_is_not_of_the_type_is_not_accepted(type_: Any, text: str) -> None:
    assert not accepts(compile_json_schema(schema_of(type_).schema), text.encode())


def test_a_model_that_allows_more_fields_keeps_them() -> None:
    schema, parse, _ = schema_of(Open)
    assert accepts(compile_json_schema(schema), b'{"a":1,"b":[2]}')
    assert parse('{"a":1,"b":[2]}').b == [2]


class Nothing:
    pass


@pytest.mark.parametrize("type_", [Nothing, list[Nothing], 3, typing.Callable[[int], int]], ids=str)
def test_a_type_without_a_schema_is_refused_by_its_name(type_: Any) -> None:
    with pytest.raises(ConstraintError, match=r"Nothing|3|Callable"):
        schema_of(type_)


def test_the_compiler_of_types_does_not_load_pydantic_by_itself() -> None:
    code = "import sys, genctl.compilers.types; print('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


# -- what a type's parser reads and its serialiser writes is what the schema admits


class Weekday(enum.Enum):
    MON = "mon"
    ONE = 1
    HALF = 0.5
    NOTHING = None


class Cat(pydantic.BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]
    friends: list[Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]] = []


class Renamed(pydantic.BaseModel):
    name: str = pydantic.Field(alias="full name", max_length=4)
    other: int = pydantic.Field(default=1, validation_alias="theOther", serialization_alias="theOther")


class Base64(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(val_json_bytes="base64", ser_json_bytes="base64")
    data: bytes


class Lower(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(str_to_lower=True, str_strip_whitespace=True)
    word: str = pydantic.Field(min_length=1)


class Root(pydantic.RootModel[dict[str, int]]):
    pass


class Empty(pydantic.BaseModel):
    pass


class Kept(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, int]
    a: int


@dataclasses.dataclass
class Node:
    value: int
    next: Node | None = None


@dataclasses.dataclass
class Counted:
    n: int
    twice: int = dataclasses.field(init=False, default=0)


@pydantic.dataclasses.dataclass
class Chosen(Generic[T]):
    item: T


class Recursive(typing.TypedDict):
    inner: list[Recursive]


class GenericDict(typing.TypedDict, Generic[T]):
    item: T
    more: typing.NotRequired[list[GenericDict[T]]]


class Row(NamedTuple):
    name: str
    size: int = 0


@attrs.define
class Leaf:
    _size: int
    color: Color = Color.RED
    below: list[Leaf] = attrs.field(factory=list)


@attrs.define
class Wrapped(Generic[T]):
    item: T


class Shape(msgspec.Struct, tag=True):
    """Has sides."""

    sides: Annotated[int, msgspec.Meta(ge=3, le=9)]
    name: Annotated[str, msgspec.Meta(pattern="^[a-z]+$", max_length=5)] = "a"


class Circle(msgspec.Struct, tag=True, rename="camel"):
    inner_shape: Shape | Circle | None = None
    when: datetime.datetime | None = None


class Line(msgspec.Struct, array_like=True):
    start: float
    stop: float = 1.0


class Everything(msgspec.Struct):
    day: datetime.date
    clock: datetime.time
    took: datetime.timedelta
    key: uuid.UUID
    price: Decimal
    data: bytes
    pair: tuple[int, bool]
    color: Color
    word: Literal["a", "b"]
    point: Point


class Keys(msgspec.Struct):
    numbers: dict[int, float]
    unique: set[str]


UTC = datetime.UTC
MOMENT = datetime.datetime(2024, 2, 29, 23, 59, 59, 5, tzinfo=UTC)
WEST = datetime.timezone(-datetime.timedelta(hours=5, minutes=30))
ID = uuid.UUID("12345678-1234-4234-9234-123456789abc")

# The type, and values of it.
VALUES: list[tuple[Any, list[Any]]] = [
    (Weekday, [*Weekday]),
    (Annotated[float, annotated_types.Gt(0), annotated_types.Lt(0.3)], [0.29999999999999993, 5e-324]),
    (Annotated[int, annotated_types.Interval(gt=-5, le=5)], [-4, 5]),
    (Annotated[int, pydantic.Field(multiple_of=7)], [0, 14, -7]),
    (pydantic.conint(ge=3, lt=5), [3, 4]),
    (pydantic.conlist(int, min_length=1, max_length=2), [[1], [1, 2]]),
    (Decimal, [Decimal("1.50"), Decimal("-1E+40"), Decimal("1E-7"), Decimal(0)]),
    (Annotated[Decimal, pydantic.Field(gt=0)], [Decimal("0.01"), Decimal(12)]),
    (Annotated[Decimal, pydantic.Field(ge=Decimal("-12.5"), lt=Decimal("10.25"))],
     [Decimal(s) for s in ("-12.5", "-12.500", "-9.99", "-0.1", "0", "9", "10.2499", "10", "10.0")]),
    (Annotated[Decimal, pydantic.Field(le=Decimal("0.12345678901234567890"))], [Decimal("0.12345678901234567890")]),
    (Annotated[Decimal, pydantic.Field(max_digits=4, decimal_places=2)],
     [Decimal("99.99"), Decimal("-1.5"), Decimal(7)]),
    (datetime.date, [datetime.date(2024, 2, 29), datetime.date.min, datetime.date.max]),
    (Annotated[datetime.date, pydantic.Field(gt=datetime.date(1999, 12, 31), le=datetime.date(2024, 3, 9))],
     [datetime.date(2000, 1, 1), datetime.date(2024, 3, 9), datetime.date(2010, 10, 31)]),
    (datetime.datetime, [MOMENT, datetime.datetime(1, 1, 1), MOMENT.astimezone(WEST)]),
    (pydantic.AwareDatetime, [MOMENT]),
    (pydantic.NaiveDatetime, [datetime.datetime(2024, 1, 2, 3, 4, 5)]),
    (datetime.time, [datetime.time(1, 2, 3, 4), datetime.time(23, 59, 59, tzinfo=UTC)]),
    (datetime.timedelta, [datetime.timedelta(days=400, hours=5), datetime.timedelta.max, datetime.timedelta.min,
                          datetime.timedelta(0), datetime.timedelta(microseconds=-1)]),
    (uuid.UUID, [ID, uuid.UUID(int=0)]),
    (pydantic.UUID4, [ID]),
    (ipaddress.IPv4Address, [ipaddress.IPv4Address("1.20.255.0")]),
    (ipaddress.IPv6Address,
     [ipaddress.IPv6Address(a) for a in ("::", "::1", "1::", "1:2:3:4:5:6:7:8", "2001:db8::ff", "::ffff:1.2.3.4")]),
    (ipaddress.IPv4Interface, [ipaddress.IPv4Interface("10.0.0.1/8")]),
    (pathlib.Path, [pathlib.Path("/tmp/x y.txt")]),
    (bytes, [b"abc", "é".encode()]),
    (Base64, [Base64(data=b"\xff\xfe"), Base64(data=b""), Base64(data=b"abc")]),
    (Lower, [Lower(word="ab c")]),
    (Annotated[str, pydantic.Field(pattern=r"^\d\w.$")], ["1a\r", "٣é "]),
    (Annotated[str, pydantic.Field(pattern=re.compile("a$"))], ["ba"]),
    (Annotated[str, pydantic.StringConstraints(strip_whitespace=True, max_length=3, pattern="b")], ["a b"]),
    (dict[str, int], [{"a": 1}, {}]),
    (dict[int, str], [{1: "a", -2: "b"}, {}]),
    (dict[Annotated[int, pydantic.Field(ge=-3, le=120)], str], [{-3: "a", 120: "b", 99: ""}]),
    (dict[bool, int], [{True: 1, False: 2}]),
    (dict[Color, int], [{Color.RED: 1}]),
    (dict[Level, int], [{Level.LOW: 1}]),
    (dict[datetime.date, int], [{datetime.date(2024, 1, 2): 1}]),
    (dict[Annotated[str, pydantic.Field(pattern="^[ab]+$", max_length=3)], int], [{"ab": 1, "b": 2}]),
    (Annotated[dict[str, bool], pydantic.Field(min_length=1, max_length=2)], [{"a": True}]),
    (set[int], [{1, 2}, set()]),
    (frozenset[Color], [frozenset([Color.RED])]),
    (typing.Sequence[int], [[1, 2]]),
    (collections.deque[int], [collections.deque([1])]),
    (Cat | Dog, [Cat(), Dog(kind="dog", friends=[Cat()])]),
    (Dog, [Dog(kind="dog", friends=[Cat(), Dog(kind="dog")])]),
    (Renamed, [Renamed(**{"full name": "Ada", "theOther": 2})]),
    (Root, [Root({"a": 1})]),
    (Empty, [Empty()]),
    (Kept, [Kept(a=1, b=2)]),
    (Node, [Node(1, Node(2))]),
    (Counted, []),
    (Chosen[Color], [Chosen[Color](item=Color.RED)]),
    (Box[Box[int]], [Box[Box[int]](content=Box[int](content=1))]),
    (Recursive, [{"inner": [{"inner": []}]}]),
    (GenericDict[int], [{"item": 1, "more": [{"item": 2}]}]),
    (Row, [Row("a", 1), Row("b")]),
    (typing.NewType("UserId", int), [3]),
    (typing_extensions.TypeAliasType("Ints", list[int]), [[1]]),
    (Leaf, []),
    (list[Wrapped[int]], []),
    (Shape | Circle, [Shape(3), Circle(Circle(Shape(9, "abc")), MOMENT)]),
    (Line, [Line(0.5), Line(1.0, 2.0)]),
    (Everything, [Everything(datetime.date.max, datetime.time(1, 2, 3), -datetime.timedelta(days=3, microseconds=1), ID,
                             Decimal("1.50"), b"\xff\xfe", (1, True), Color.RED, "b", Point(1.0))]),
    (list[Keys], [[Keys({1: 0.5}, {"a", "b"})]]),
    (dict[str, Line], [{"a": Line(1.0)}]),
]  # fmt: skip


def written(type_: Any, value: Any) -> bytes:
    """How the type's own serialiser writes the value."""
    if mentions_struct(type_):
        return msgspec.json.encode(value)
    return pydantic.TypeAdapter(readable(type_)).dump_json(value, by_alias=True)


NAMES = [re.sub(r" object at 0x\w+", "", str(type_)) for type_, _ in VALUES]


@pytest.mark.parametrize(("type_", "values"), VALUES, ids=NAMES)
def test_what_a_type_writes_is_admitted_and_read_back(type_: Any, values: list[Any]) -> None:
    rule = genctl.json(type_)
    assert isinstance(rule, Language)  # no parser has to be asked
    for value in values:
        text = written(type_, value).decode()
        assert rule.accepts(text), text
        assert rule.value(text) == value


@pytest.mark.parametrize("type_", [type_ for type_, _ in VALUES], ids=NAMES)
def test_what_is_admitted_is_read_into_the_type(type_: Any) -> None:
    rule, rng = genctl.json(type_), np.random.default_rng(1)
    texts = [sample(rule.automaton, rng, size=size, checks=rule.checks) for size in (5, 40) * 15]
    assert any(texts)  # a walk may end where a check leaves nothing
    for text in filter(None, texts):
        rule.value(text.decode())


@pytest.mark.parametrize(
    ("type_", "text"),
    [
        (datetime.date, '"2023-02-29"'),
        (datetime.date, '"1900-02-29"'),
        (datetime.date, "0"),
        (Annotated[datetime.date, pydantic.Field(lt=datetime.date(2024, 3, 1))], '"2024-03-01"'),
        (pydantic.AwareDatetime, '"2024-01-01T00:00:00"'),
        (datetime.datetime, '"2024-01-01T24:00:00"'),
        (datetime.timedelta, '"-P2739726Y9DT1S"'),
        (datetime.timedelta, '"P"'),
        (pydantic.UUID4, '"00000000-0000-4000-0000-000000000000"'),
        (Annotated[float, pydantic.Field(lt=0.3)], "0.29999999999999999999"),
        (Annotated[Decimal, pydantic.Field(lt=Decimal("0.3"))], '"0.300"'),
        (Annotated[Decimal, pydantic.Field(ge=Decimal("-12.5"))], '"-12.51"'),
        (ipaddress.IPv4Address, '"1.2.3.256"'),
        (ipaddress.IPv6Address, '"1:2:3:4:5:6:7:8:9"'),
        (ipaddress.IPv6Address, '"1::2::3"'),
        (Lower, '{"word": " a"}'),
        (Lower, '{"word": "A"}'),
        (Base64, '{"data": "_-9="}'),
        (Counted, '{"n": 1, "twice": 2}'),
        (Annotated[Cat | Dog, pydantic.Field(discriminator="kind")], '{"lives": 1}'),
        (Shape, '{"sides": 3}'),
        (Annotated[str, pydantic.Field(pattern=r"^\d$")], '"a"'),
    ],
)  # fmt: skip
def test_what_a_parser_refuses_is_not_admitted(type_: Any, text: str) -> None:
    rule = genctl.json(type_)
    assert isinstance(rule, Language)  # no parser has to be asked
    assert not rule.accepts(text)


# -- what no schema can say


class Even(pydantic.BaseModel):
    n: int

    @pydantic.field_validator("n")
    @classmethod
    def is_even(cls, n: int) -> int:
        if n % 2:
            raise ValueError("odd")
        return n


@dataclasses.dataclass
class Ordered:
    low: int
    high: int

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("in disorder")


@attrs.define
class Positive:
    n: int = attrs.field(validator=attrs.validators.gt(0))


def private(address: ipaddress.IPv4Address) -> ipaddress.IPv4Address:
    if not address.is_private:
        raise ValueError("public")
    return address


class Tidy(msgspec.Struct):
    n: int

    def __post_init__(self) -> None:
        if self.n == 7:
            raise ValueError("seven")


@pytest.mark.parametrize(
    ("type_", "why", "good", "bad"),
    [
        (Even, "the field Even.n: the validator Even.is_even", '{"n": 2}', '{"n": 3}'),
        (list[Ordered], "Ordered.__post_init__", '[{"low": 1, "high": 2}]', '[{"low": 3, "high": 2}]'),
        (Positive, "the validator Positive", '{"n": 1}', '{"n": 0}'),
        (Tidy, "Tidy.__post_init__", '{"n": 1}', '{"n": 7}'),
        (pydantic.HttpUrl, "what a URL is", '"https://a.org/b?c=d#e"', '"http://1.2.3.4.5/"'),
        (pydantic.PastDate, "what day it is", '"2020-01-01"', '"9020-01-01"'),
        (ipaddress.IPv4Network, "what ipv4network means", '"10.0.0.0/8"', '"10.0.0.1/8"'),
        (ipaddress.IPv6Network, "what ipv6network means", '"2001:db8::/32"', '"2001:db8::1/32"'),
        (pydantic.AnyUrl, "what a URL is", '"mailto:a@b.c"', '"http://[::1"'),
        (pydantic.PostgresDsn, "what a URL is", '"postgresql://u:p@h1:1,h2:2/db"', '"http://h/db"'),
        (pydantic.Json[int], "JSON inside a string", '"1"', '"a"'),
        (pydantic.Base64Bytes, "EncodedBytes.decode", '"aGk="', '"aGk"'),
        (pydantic.ByteSize, "ByteSize._validate", '"1 MB"', '"1 XB"'),
        (pydantic.FilePath, "PathType.validate_file", f'"{__file__}"', '"/no/such/file"'),
        (pydantic.NewPath, "PathType.validate_new", '"/new.txt"', f'"{__file__}"'),
        (fractions.Fraction, "what fraction means", '"1/3"', '"1/0"'),
        (re.Pattern, "what regex means", '"a+"', '"+"'),
        (zoneinfo.ZoneInfo, "what zoneinfo means", '"Europe/Rome"', '"Europe/Atlantis"'),
        (typing.Hashable, "more than one step", "1", "[1]"),
        (Annotated[bytes, pydantic.Field(max_length=2)], "the number of bytes", '"ab"', '"éé"'),
        (Annotated[int, pydantic.WithJsonSchema({"type": ["string", "integer"]})], "WithJsonSchema", "1", '"a"'),
        (
            Annotated[ipaddress.IPv4Address, pydantic.AfterValidator(private)],
            "private",
            '"10.0.0.1"',
            '"8.8.8.8"',
        ),
        (Annotated[str, pydantic.Field(pattern=r"^a\b")], "the pattern", '"a-"', '"aé"'),
        (Annotated[datetime.timedelta, pydantic.Field(gt=datetime.timedelta(0))], "gt=", '"PT1S"', '"PT0S"'),
    ],
)
def test_what_only_the_parser_knows_is_asked_of_it(type_: Any, why: str, good: str, bad: str) -> None:
    rule = genctl.json(type_)
    assert why in schema_of(type_).checked[-1]
    assert rule.accepts(good)
    assert not rule.accepts(bad)
    assert not isinstance(rule, Language)
    rule.value(good)


def test_a_model_is_sampled_until_its_validators_agree() -> None:
    g = genctl.load("toy").generate("", Even, num_particles=32, max_new_tokens=12, seed=0)
    assert g.value.n % 2 == 0


class Diary(pydantic.BaseModel):
    entries: list[Entry]


class Entry(pydantic.BaseModel):
    size: complex


class FromPath(pydantic.BaseModel):
    first: int = pydantic.Field(validation_alias=pydantic.AliasPath("all", 0))


class Strange(enum.Enum):
    PAIR = (1, 2)


class OpenTuple:
    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        return core_schema.tuple_schema([core_schema.int_schema(), core_schema.str_schema()], variadic_item_index=0)


class Inside(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    it: Nothing | None


@pytest.mark.parametrize(
    ("type_", "pointer", "hint"),
    [
        (complex, "", "the type complex"),
        (Diary, "/$defs/Entry/properties/size", "the field Entry.size"),
        (FromPath, "/properties/first", "the field FromPath.first"),
        (Inside, "/properties/it/anyOf/0", "the field Inside.it"),
        (Strange, "", "the type Strange"),
        (pydantic.ImportString, "", "use a Literal"),
        (list[Literal[b"a"]], "/items", "use str"),
        (dict[float, str], "/propertyNames", "use dict[str, ...]"),
        (dict[Literal[1], str], "/propertyNames", "use dict[str, ...]"),
        (set[list[int]], "", "use a list"),
        (OpenTuple, "", "at the end"),
        (Annotated[Decimal, pydantic.Field(max_digits=3)], "", "decimal_places"),
        (dict[str, msgspec.msgpack.Ext | Line], "/additionalProperties/anyOf/0", "use a Struct"),
    ],
    ids=str,
)
def test_a_field_whose_texts_no_schema_describes_is_named(type_: Any, pointer: str, hint: str) -> None:
    with pytest.raises(ConstraintError) as caught:
        schema_of(type_)
    assert caught.value.pointer == pointer
    assert hint in caught.value.hint


# -- calls of functions


def weather(
    city: Annotated[str, pydantic.Field(max_length=5)], day: datetime.date | None = None, /, *, days: int = 1
) -> str:
    """What the sky will do.

    Args:
        city: where to look
        days (int): how many
    """
    return f"{city} {day} {days}"


class Note:
    def add(self, text: str, *more: str, **options: Any) -> tuple[str, ...]:
        """:param text: what to remember"""
        return (text, *more)


@pytest.mark.parametrize(
    ("tools", "text", "result"),
    [
        ([weather], '{"name":"weather","arguments":{"city":"Rome","days":2.0}}', "Rome None 2"),
        ([weather], '{"name": "weather", "arguments": {"city": "Rome", "day": "2024-01-02"}}', "Rome 2024-01-02 1"),
        ([weather, Note().add], '{"name":"add","arguments":{"text":"a"}}', ("a",)),
        ([weather, City], '{"name":"City","arguments":{"name":"Rome","people":3}}', City(name="Rome", people=3)),
        ([functools.partial(weather, "Bern"), Line], '{"name":"Line","arguments":[1]}', Line(1.0)),
    ],
)
def test_a_call_of_a_tool_can_be_run(tools: list[Any], text: str, result: Any) -> None:
    rule = genctl.tools(tools)
    assert rule.accepts(text)
    call = rule.value(text)
    assert call.call() == result
    assert not rule.accepts(text.replace('"name"', '"nom"', 1))
    assert not rule.accepts('{"name": "unknown", "arguments": {}}')


def test_a_function_is_a_schema_of_its_calls() -> None:
    schema = schema_of(weather).schema
    arguments = schema["$defs"]["weather.weather_arguments"]
    assert schema["description"].startswith("What the sky will do.")
    assert arguments["properties"]["city"]["description"] == "where to look"
    assert arguments["properties"]["days"]["description"] == "how many"
    assert arguments["required"] == ["city"]
    rule = genctl.json(weather)
    assert not rule.accepts('{"name": "weather", "arguments": {"city": "Lisbon"}}')
    assert not rule.accepts('{"name": "weather", "arguments": {"days": 2}}')
    call = rule.value('{"name": "weather", "arguments": {"city": "Rome"}}')
    assert (call.name, call.arguments) == ("weather", {"city": "Rome"})


def unreadable(a: Missing) -> None: ...  # noqa: F821


@pytest.mark.parametrize(
    ("tools", "reason"),
    [
        ([], "no tool"),
        ([weather, functools.partial(weather, "a")], "two tools have the name weather"),
        ([lambda x: x], "has no name"),
        ([unreadable], "parameters of unreadable cannot be read"),
        ([3], "has no name"),
    ],
)
def test_tools_that_cannot_be_called_are_refused(tools: list[Any], reason: str) -> None:
    with pytest.raises(ConstraintError, match=reason):
        genctl.tools(tools)


# -- schemas in files


def test_a_schema_is_read_from_a_file_or_text(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "schema.json"
    path.write_text('{"const": "é"}', "utf-8")
    for schema in (path, path.read_text("utf-8"), {"const": "é"}):
        assert genctl.json(schema).accepts('"é"')
        assert not genctl.json(schema).accepts('"e"')


@given(st.decimals(-200, 200, places=3), st.decimals(-200, 200, places=3))
def test_decimals_between_bounds_are_found_as_they_compare(value: Decimal, bound: Decimal) -> None:
    for text in (f"{value:f}", f"{value.normalize():f}", f"{value:f}00"):
        number = Decimal(text)
        assert bool(re.search(texts.decimals(ge=bound), text)) == (number >= bound)
        assert bool(re.search(texts.decimals(gt=bound), text)) == (number > bound)
        assert bool(re.search(texts.decimals(le=bound), text)) == (number <= bound)
        assert bool(re.search(texts.decimals(lt=bound), text)) == (number < bound)


@given(st.integers(-2000, 2000), st.integers(-2000, 2000))
def test_integers_between_bounds_are_found_as_they_compare(value: int, bound: int) -> None:
    assert bool(re.search(texts.integers(low=bound), str(value))) == (value >= bound)
    assert bool(re.search(texts.integers(high=bound), str(value))) == (value <= bound)


@given(st.dates())
def test_each_date_is_found_and_its_neighbours_are_bounds(day: datetime.date) -> None:
    assert re.search(texts.DATE, day.isoformat())
    assert re.search(texts.dates(day.isoformat(), day.isoformat()), day.isoformat())
    if day > datetime.date.min:
        assert not re.search(texts.dates(day.isoformat(), None), (day - datetime.timedelta(days=1)).isoformat())
