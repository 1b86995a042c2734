"""Formats and negated string keywords: the official suite, the RFCs' own examples, and laws of facets."""

from __future__ import annotations

import datetime
import gzip
import ipaddress
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genctl.automata.base import accepts
from genctl.automata.pushdown import GrammarAutomaton
from genctl.compilers.characters import json_string
from genctl.compilers.json_schema.context import DRAFTS, Place
from genctl.compilers.json_schema.formats import STANDARD
from genctl.compilers.json_schema.leap_seconds import LeapSeconds, is_leap_second
from genctl.compilers.json_schema.strings import Format, Pattern, Strings, read, violations
from genctl.errors import GenctlWarning

AUTOMATA = {name: GrammarAutomaton(standard.expression(json_string)) for name, standard in STANDARD.items()}


class Asked:
    """The part of the compiler's context that strings ask: what is only checked is noted."""

    def __init__(self) -> None:
        self.rules: dict[str, Any] = {}
        self.checked: list[str] = []

    def check(self, pointer: str, reason: str) -> None:
        self.checked.append(pointer)

    def rule(self, key: Any, make: Any) -> Any:
        return make()


def spelled(text: str) -> Iterator[bytes]:
    """A string as JSON may write it, without quotes."""
    yield json.dumps(text)[1:-1].encode()
    yield json.dumps(text, ensure_ascii=False)[1:-1].encode()
    yield "".join(f"\\u{unit:04x}" for unit in units(text)).encode()


def units(text: str) -> Iterator[int]:
    data = text.encode("utf-16-be")
    return (int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))


def agrees(name: str, text: str, valid: bool) -> bool:
    """Do the verdict and the automaton say so? An automaton that does not know all may admit more."""
    admitted = {accepts(AUTOMATA[name], spelling) for spelling in spelled(text)}
    known = admitted == {valid} if STANDARD[name].more is None or valid else len(admitted) == 1
    return STANDARD[name].holds(text) == valid and known


@pytest.mark.parametrize("draft", ["draft2020-12", "draft7"])
def test_formats_are_what_the_official_suite_says(data: Path, draft: str) -> None:
    wrong, count = [], 0
    with gzip.open(data / "json-schema-test-suite.jsonl.gz", "rt") as lines:
        for case in map(json.loads, lines):
            if case["draft"] != draft or not case["file"].startswith("optional/format/"):
                continue
            name = case["schema"].get("format")
            for test in case["tests"]:
                if name in STANDARD and isinstance(test["data"], str):
                    count += 1
                    if not agrees(name, test["data"], test["valid"]):
                        wrong.append((case["file"], test["description"], test["data"]))
    assert count > 500
    assert not wrong


EXAMPLES = [
    ("uri", "http://[v7.a:b]/", True),
    ("uri", "http://[::1]:80/%41?q#f", True),
    ("uri", "a:", True),
    ("uri", "a://b:c", False),
    ("iri", "http://\u0430/\ue000", False),
    ("iri", "http://\u0430/?\ue000", True),
    ("uri-reference", "a:b", True),
    ("uri-reference", "a%", False),
    ("email", "a@[IPv6:1:2:3:4:5:6::]", True),
    ("email", "a@[IPv6:1:2:3:4:5:6:7::]", False),  # there :: stands for two groups or more
    ("ipv6", "1:2:3:4:5:6:7::", True),
    ("ipv6", "1:2:3:4:5:6:7:8::", False),
    ("hostname", "a" * 63 + ".b", True),
    ("hostname", ".".join(["a" * 49] * 5) + ".bcd", True),  # 253
    ("hostname", ".".join(["a" * 49] * 5) + ".bcde", False),
    ("idn-hostname", "Example.com", True),
    ("idn-hostname", "ab--c", False),
    ("date", "0000-02-29", True),
    ("date", "1900-02-29", False),
    ("date-time", "2020-02-29t23:59:60z", True),
    ("duration", "P1Y2M3DT4H", True),
    ("uri-template", "{?a*,b:3}", True),
    ("regex", r"(a)\2", False),
    ("regex", r"(?=a)*", False),
    ("regex", r"\p{Script=Greek}\p{Alphabetic}[\ud800-\udfff]", True),
    ("regex", r"\p{Nonsense}", False),
    ("regex", r"a{2,1}", False),
    ("regex", r"(?<a>x)(?<a>y)", False),
]


@pytest.mark.parametrize(("name", "text", "valid"), EXAMPLES)
def test_what_the_grammars_of_the_rfcs_say(name: str, text: str, valid: bool) -> None:
    assert agrees(name, text, valid)


@given(st.sampled_from(["date", "ipv4", "ipv6"]), st.data())
def test_the_standard_library_reads_the_same(name: str, draw: st.DataObject) -> None:
    letters = {"date": "0129-3", "ipv4": "0125.", "ipv6": "1f:.0"}[name]
    shapes = {
        "date": r"[0-9]{4}-[01][0-9]-[0-3][0-9]",
        "ipv4": r"[0-2]?[0-9]{1,2}(\.[0-9]{1,3}){3}",
        "ipv6": r"[0-9a-f:]*",
    }
    text = draw.draw(st.one_of(st.text(letters, max_size=20), st.from_regex(shapes[name], fullmatch=True)))
    parse = {"date": datetime.date.fromisoformat, "ipv4": ipaddress.IPv4Address, "ipv6": ipaddress.IPv6Address}[name]
    try:
        parse(text)
        valid = name != "date" or re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text) is not None
    except ValueError:
        valid = False
    if name == "date" and text.startswith("0000"):  # RFC 3339 has a year 0
        return
    assert agrees(name, text, valid)


@given(st.integers(0, 1439), st.sampled_from(["", ".5", ".000"]), st.sampled_from(["+", "-"]), st.integers(0, 1439))
def test_a_leap_second_ends_a_day_in_utc(local: int, fraction: str, sign: str, offset: int) -> None:
    right = (local - 1439) % 1440 if sign == "+" else (1439 - local) % 1440
    for minutes in (right, offset):
        text = f"{local // 60:02}:{local % 60:02}:60{fraction}{sign}{minutes // 60:02}:{minutes % 60:02}"
        assert is_leap_second(text) == (minutes == right)
        assert {accepts(LEAP, spelling) for spelling in spelled(text)} == {minutes == right}


LEAP = LeapSeconds()


# -- facets

CHARACTERS = st.text("ab1é", max_size=4)
SHAPES = [Pattern("^a", "/p"), Pattern("b|1", "/q"), Pattern("(a)$", "/r"), Format("json-pointer", "/f")]
FACETS = st.builds(
    Strings,
    st.integers(0, 2),
    st.none() | st.integers(0, 4),
    st.lists(st.sampled_from(SHAPES), max_size=2, unique=True).map(tuple),
    st.lists(st.sampled_from(SHAPES), max_size=2, unique=True).map(tuple),
    st.frozensets(CHARACTERS, max_size=3),
    st.none() | st.frozensets(CHARACTERS, max_size=3),
)


@given(FACETS, FACETS, st.lists(CHARACTERS, min_size=1, max_size=8))
def test_facets_meet_and_their_expressions_are_what_they_admit(one: Strings, other: Strings, texts: list[str]) -> None:
    context: Any = Asked()
    both = one.meet(other)
    automaton = GrammarAutomaton(both.expression(context))
    for text in texts:
        admitted = both.admits(text, context)
        assert admitted == (one.admits(text, context) and other.admits(text, context))
        assert {accepts(automaton, b'"' + spelling + b'"') for spelling in spelled(text)} == {admitted}
    assert automaton.start == 0 or both.conflict(context) is None
    assert both.without_values(texts).admits(texts[0], context) is False


SCHEMAS = st.fixed_dictionaries(
    {},
    optional={
        "minLength": st.integers(0, 3),
        "maxLength": st.integers(0, 3),
        "pattern": st.sampled_from(["^a", "b|1", ""]),
        "format": st.sampled_from(["json-pointer", "date", "nothing known"]),
    },
)


@given(SCHEMAS, CHARACTERS, st.booleans())
def test_violations_are_all_that_does_not_obey(schema: dict[str, Any], text: str, formats: bool) -> None:
    place, context = Place("", schema, DRAFTS[2020], formats=formats), Asked()
    obeys = read(place).admits(text, context)
    broken = [facet.admits(text, context) for facet in violations(place)]
    assert obeys != any(broken)
    assert len(broken) <= len(schema)


def test_what_an_automaton_does_not_know_is_checked() -> None:
    context: Any = Asked()
    hosts = Strings(patterns=(Format("idn-hostname", "/a"),), without=(Format("regex", "/b"),), most=5)
    automaton = GrammarAutomaton(hosts.expression(context))
    assert context.checked == ["/a", "/b"]
    assert accepts(automaton, b'"a.b"')  # a regular expression too
    assert not hosts.admits("a.b", context)


def test_an_unknown_format_that_looks_misspelt_is_warned_of() -> None:
    with pytest.warns(GenctlWarning, match="is `date-time` meant"):
        assert read(Place("", {"format": "datetime"}, DRAFTS[2020])) == Strings()
    assert read(Place("", {"format": "int32"}, DRAFTS[2020])) == Strings()
