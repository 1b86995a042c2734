"""Python types: every text that the schema of a type accepts parses to a value of the type."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import random
import re
import subprocess
import sys
import typing
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

import pydantic
import pytest
import typing_extensions

from genctl.automata.base import accepts
from genctl.compilers.json_schema import compile_json_schema
from genctl.compilers.types import schema_of
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
    schema, parse = schema_of(type_)
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
    schema, parse = schema_of(type_)
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
    schema, parse = schema_of(Open)
    assert accepts(compile_json_schema(schema), b'{"a":1,"b":[2]}')
    assert parse('{"a":1,"b":[2]}').b == [2]


class Diary(pydantic.BaseModel):
    entries: list[Entry]


class Entry(pydantic.BaseModel):
    day: datetime.date


@pytest.mark.parametrize(
    ("type_", "pointer", "hint"),
    [
        (datetime.date, "/format", "the type date"),
        (Diary, "/$defs/Entry/properties/day/format", "Entry.day"),
        (set[int], "/uniqueItems", "uniqueItems"),
        (dict[Literal["a"], int], "/propertyNames", "propertyNames"),
    ],
)
def test_a_field_that_needs_an_unsupported_keyword_is_named(type_: Any, pointer: str, hint: str) -> None:
    with pytest.raises(ConstraintError) as caught:
        schema_of(type_)
    assert caught.value.pointer == pointer
    assert hint in caught.value.hint


class Nothing:
    pass


class Endless(typing.TypedDict):
    inner: Endless | None


@pytest.mark.parametrize(
    "type_",
    [complex, dict[int, int], list[dict[float, str]], Annotated[Decimal, pydantic.Field(decimal_places=2)]],
    ids=str,
)
def test_a_type_whose_texts_no_schema_describes_exactly_is_refused(type_: Any) -> None:
    with pytest.raises(ConstraintError, match="no JSON Schema says exactly"):
        schema_of(type_)


@pytest.mark.parametrize("type_", [Nothing, list[Nothing], 3, Endless, typing.Callable[[int], int]], ids=str)
def test_a_type_without_a_schema_is_refused_by_its_name(type_: Any) -> None:
    with pytest.raises(ConstraintError, match=r"Nothing|3|Endless|Callable"):
        schema_of(type_)


def test_the_compiler_of_types_does_not_load_pydantic_by_itself() -> None:
    code = "import sys, genctl.compilers.types; print('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
