"""Character sets, and the two ways of writing their members as bytes."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genctl.automata.base import UNREACHABLE, accepts, run
from genctl.automata.expressions import repeat
from genctl.automata.pushdown import GrammarAutomaton
from genctl.compilers.characters import ALL, NONE, Characters, general_category, json_string, utf8

CODES = st.one_of(st.integers(0, 0x10FFFF), st.sampled_from([0, 0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFF]))
RANGES = st.lists(st.tuples(CODES, st.integers(0, 5000)).map(lambda r: (r[0], min(sum(r), 0x10FFFF))), max_size=5)
SETS = RANGES.map(Characters.of)
CHARACTERS = st.one_of(
    st.characters(exclude_categories=["Cs"]), st.sampled_from('"\\/\b\f\n\r\t\x00\x1f\x7fa\ud7ff\ue000😀')
)
ODD = Characters.of('"\\/\b\f\n\r\tax\x00\x7fé€\ud7ff\ue000\uffff😀\U0010ffff')


@given(SETS, SETS, CHARACTERS)
def test_set_operations_are_those_of_logic(left: Characters, right: Characters, c: str) -> None:
    assert (c in (left | right)) == (c in left or c in right)
    assert (c in (left & right)) == (c in left and c in right)
    assert (c in (left - right)) == (c in left and c not in right)
    assert (c in ~left) == (c not in left)


@given(SETS)
def test_ranges_are_sorted_and_do_not_touch(characters: Characters) -> None:
    for low, high in characters.ranges:
        assert low <= high
    for (_, high), (low, _) in zip(characters.ranges, characters.ranges[1:], strict=False):
        assert high + 1 < low
    assert ~~characters == characters
    assert characters | ~characters == ALL
    assert characters & ~characters == NONE


def test_no_set_holds_a_surrogate() -> None:
    assert len(ALL) == 0x110000 - 0x800
    assert Characters.of([(0, 0x10FFFF)]) == ALL
    assert not Characters.of([(0xD800, 0xDFFF)])
    assert Characters.of("\ud800") == NONE


def test_the_only_member_is_named() -> None:
    assert Characters.of("é").only == "é"
    assert Characters.of("ab").only is None
    assert NONE.only is None


@pytest.mark.parametrize("name", ["Lu", "Nd", "Zs", "Co"])
def test_a_general_category_is_that_of_unicodedata(name: str) -> None:
    members = general_category(name)
    for code in range(0, 0x110000, 7):
        if not 0xD800 <= code <= 0xDFFF:
            assert (chr(code) in members) == (unicodedata.category(chr(code)) == name)


def test_the_general_category_of_surrogates_is_empty() -> None:
    assert general_category("Cs") == NONE


# -- UTF-8

ANY_TEXT = GrammarAutomaton(repeat(utf8(ALL)))


def is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


@pytest.mark.parametrize(
    "tail", [b"", b"\x80", b"\x9f\xbf", b"\xa0\x80", b"\x8f\xbf\xbf", b"\x90\x80\x80", b"\xbf\xbf\xbf"]
)
def test_any_text_accepts_what_decodes_for_every_first_byte(tail: bytes) -> None:
    for first in range(256):
        data = bytes([first]) + tail
        assert accepts(ANY_TEXT, data) == is_utf8(data), data


@given(
    st.one_of(
        st.binary(max_size=8), st.lists(st.sampled_from([0x41, 0x80, 0xBF, 0xC3, 0xE2, 0xED, 0xF0, 0x9F])).map(bytes)
    )
)
def test_any_text_accepts_what_decodes(data: bytes) -> None:
    assert accepts(ANY_TEXT, data) == is_utf8(data)


@given(SETS, CHARACTERS)
def test_utf8_accepts_the_members(characters: Characters, c: str) -> None:
    automaton = GrammarAutomaton(utf8(characters))
    assert accepts(automaton, c.encode()) == (c in characters)
    assert not accepts(automaton, c.encode() * 2)


@settings(max_examples=50)
@given(SETS)
def test_the_distance_is_the_shortest_encoding(characters: Characters) -> None:
    automaton = GrammarAutomaton(utf8(characters))
    shortest = min((len(chr(low).encode()) for low, _ in characters.ranges), default=UNREACHABLE)
    assert automaton.distance(automaton.start) == shortest


# -- JSON strings

ANY_STRING = GrammarAutomaton(repeat(json_string(ALL)))


def escapes(c: str) -> list[bytes]:
    """Every way to write a character in a JSON string, up to the case of each hexadecimal number."""
    units = c.encode("utf-16-be").hex()
    codes = [units[i : i + 4] for i in range(0, len(units), 4)]
    written = ["".join(rf"\u{code}" for code in codes), "".join(rf"\u{code.upper()}" for code in codes)]
    short = {'"': '"', "\\": "\\", "/": "/", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}.get(c)
    raw = [c] if ord(c) >= 0x20 and c not in '"\\' else []
    return [text.encode() for text in [*written, *raw, *(["\\" + short] if short else [])]]


@given(SETS | st.just(ODD), CHARACTERS)
def test_json_accepts_every_spelling_of_the_members(characters: Characters, c: str) -> None:
    automaton = GrammarAutomaton(json_string(characters))
    for spelling in escapes(c):
        assert json.loads(b'"' + spelling + b'"') == c
        assert accepts(automaton, spelling) == (c in characters), spelling


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), st.booleans())
def test_what_json_writes_is_a_string_of_any_characters(text: str, ascii_only: bool) -> None:
    assert accepts(ANY_STRING, json.dumps(text, ensure_ascii=ascii_only)[1:-1].encode())


HALVES = [r"\ud83d", r"\ude00", r"\uD800", r"\uDFFF", r"\u00", "u", "d8"]
PIECES = st.sampled_from(
    [*HALVES, r"\u0041", r"\x", r"\n", r"\"", r"\/", r"\\", "\\", '"', "a", "é", "😀", "\n", "\x1f", " "]
)


@settings(max_examples=400)
@given(st.lists(PIECES, max_size=4).map("".join))
def test_a_string_is_accepted_when_json_reads_it_and_it_has_no_lone_surrogate(text: str) -> None:
    try:
        value = json.loads('"' + text + '"')
        value.encode()
    except ValueError:
        value = None
    assert accepts(ANY_STRING, text.encode()) == (value is not None)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_every_accepted_encoding_decodes_to_a_member(data: st.DataObject) -> None:
    characters = data.draw(SETS.filter(bool) | st.just(ODD))
    automaton = GrammarAutomaton(json_string(characters))
    state, written = automaton.start, b""
    while not automaton.accepts(state):
        choices = [byte for byte in range(256) if automaton.step(state, byte)]
        written += bytes([data.draw(st.sampled_from(choices))])
        state = run(automaton, state, written[-1:])
    value = json.loads(b'"' + written + b'"')
    assert len(value) == 1
    assert value in characters


def test_equal_tails_are_one_object() -> None:
    assert json_string(Characters.of("ab")) is json_string(Characters.of("ba"))
    assert len(repr(utf8(ALL))) < 2000
