"""Regular expressions against Python's own `re`: equal on random patterns and texts, or refused with the span."""

from __future__ import annotations

import itertools
import json
import re
import string
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genctl.automata.base import DEAD, UNREACHABLE, accepts
from genctl.automata.pushdown import GrammarAutomaton
from genctl.compilers.characters import Characters, json_string
from genctl.compilers.regex import compile_regex, pattern_expression
from genctl.errors import ArgumentError, ConstraintError, UnsatisfiableError

EVERY_CHARACTER = "".join(map(chr, range(0x110000)))


# -- random patterns, each with a text that it may well match

Piece = tuple[str, str]

ATOMS: list[Piece] = [
    *((c, c) for c in "ab1_ -éK\u212aſßẞİıǅΣςσ😀"),
    (r"\n", "\n"),
    (".", "x"),
    (r"\w", "é"),
    (r"\W", " "),
    (r"\d", "٣"),
    (r"\D", "b"),
    (r"\s", "\n"),
    (r"\S", "_"),
    ("[ab]", "b"),
    ("[^a]", "b"),
    (r"[\W\d]", "1"),
    (r"[^\s_]", "a"),
    ("[k-s]", "\u212a"),
    ("[^ks]", "a"),
]
ANCHORS = ["^", "$", r"\A", r"\Z", r"\b", r"\B"]
QUANTIFIERS = [("*", 2), ("+", 2), ("?", 1), ("{2}", 2), ("{1,3}", 3), ("{,2}", 0), ("{0,}", 0), ("{3,}", 3)]
FLAGS = ["i", "-i", "s", "-s", "m", "a", "im", "x"]
ALL_FLAGS = [0, 0, 0, re.I, re.M, re.S, re.A, re.I | re.A, re.I | re.M, re.X]


def joined(parts: list[Piece]) -> Piece:
    return "".join(p for p, _ in parts), "".join(t for _, t in parts)


def atoms() -> st.SearchStrategy[Piece]:
    return st.sampled_from(ATOMS)


def anchors() -> st.SearchStrategy[Piece]:
    return st.sampled_from(ANCHORS).map(lambda anchor: (anchor, ""))


def look_arounds(inner: st.SearchStrategy[Piece]) -> st.SearchStrategy[Piece]:
    ahead = st.tuples(st.sampled_from(["(?=", "(?!"]), inner)
    fixed = st.lists(st.one_of(atoms(), atoms(), anchors()), max_size=2).map(joined)
    behind = st.tuples(st.sampled_from(["(?<=", "(?<!"]), fixed)
    return st.one_of(ahead, behind).map(lambda look: (f"{look[0]}{look[1][0]})", ""))


def groups(inner: st.SearchStrategy[Piece]) -> st.SearchStrategy[Piece]:
    openers = st.sampled_from(["(", "(?:", "(?>", *(f"(?{flags}:" for flags in FLAGS)])
    return st.tuples(openers, inner).map(lambda group: (f"{group[0]}{group[1][0]})", group[1][1]))


def alternations(inner: st.SearchStrategy[Piece]) -> st.SearchStrategy[Piece]:
    return st.tuples(inner, inner).map(lambda pair: (f"(?:{pair[0][0]}|{pair[1][0]})", pair[1][1]))


def quantified(inner: st.SearchStrategy[Piece]) -> st.SearchStrategy[Piece]:
    body = st.one_of(atoms(), groups(inner), alternations(inner))
    modes = st.sampled_from(["", "", "?", "+"])
    parts = st.tuples(body, st.sampled_from(QUANTIFIERS), modes)
    return parts.map(lambda p: (f"{p[0][0]}{p[1][0]}{p[2]}", p[0][1] * p[1][1]))


def sequences(inner: st.SearchStrategy[Piece]) -> st.SearchStrategy[Piece]:
    piece = st.one_of(
        atoms(), atoms(), anchors(), groups(inner), alternations(inner), quantified(inner), look_arounds(inner)
    )
    return st.lists(piece, min_size=1, max_size=3).map(joined)


SHORT = st.lists(atoms(), max_size=2).map(joined)
PATTERNS = sequences(st.one_of(SHORT, sequences(st.one_of(SHORT, sequences(SHORT)))))


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, int, list[str]]:
    """A pattern, flags, and texts: the sample, what is near to it, and unrelated ones."""
    pattern, sample = draw(PATTERNS)
    alphabet = st.sampled_from([*sample, *"ab1_ -\n", *"kKsS\u212aſßẞİıiIǅΣςé٣😀"])
    texts = ["", sample, sample + "\n", "a" + sample, sample + sample, sample.swapcase(), sample[1:], sample[:-1]]
    texts += draw(st.lists(st.text(alphabet, max_size=5), min_size=6, max_size=6))
    at = draw(st.integers(0, len(sample)))
    texts.append(sample[:at] + draw(alphabet) + sample[at:])
    return pattern, int(draw(st.sampled_from(ALL_FLAGS))), texts


def compiled(pattern: str, flags: int = 0, **options: Any) -> GrammarAutomaton | None:
    """The automaton; None where re has no such pattern or we refuse it (with a span inside the pattern)."""
    with suppress(re.error):
        re.compile(pattern, flags)
        try:
            return GrammarAutomaton(pattern_expression(pattern, flags, **options))
        except ConstraintError as refusal:
            error = refusal
        assert error.span is not None, error
        assert 0 <= error.span[0] < error.span[1] <= len(pattern)
    return None


RANDOM = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}


@settings(max_examples=150, **RANDOM)
@given(cases(), st.booleans())
def test_a_random_pattern_accepts_what_fullmatch_does(case: tuple[str, int, list[str]], alone: bool) -> None:
    pattern, flags, texts = case
    automaton = compiled(pattern, flags, alone=alone)
    for text in texts if automaton else []:
        assert accepts(automaton, text.encode()) == bool(re.fullmatch(pattern, text, flags)), (pattern, flags, text)


@settings(max_examples=75, **RANDOM)
@given(cases(), st.booleans())
def test_a_random_pattern_accepts_what_search_does(case: tuple[str, int, list[str]], alone: bool) -> None:
    pattern, flags, texts = case
    automaton = compiled(pattern, flags, search=True, alone=alone)
    for text in texts if automaton else []:
        assert accepts(automaton, text.encode()) == bool(re.search(pattern, text, flags)), (pattern, flags, text)


@settings(max_examples=50, **RANDOM)
@given(cases(), st.booleans())
def test_a_random_pattern_within_a_json_string_sees_the_value(
    case: tuple[str, int, list[str]], ascii_only: bool
) -> None:
    pattern, flags, texts = case
    automaton = compiled(pattern, flags, encode=json_string)
    for text in texts if automaton else []:
        written = json.dumps(text, ensure_ascii=ascii_only)[1:-1].encode()
        assert accepts(automaton, written) == bool(re.fullmatch(pattern, text, flags)), (pattern, flags, text)


# -- known hard cases: the pattern, and texts on both sides

HARD = [
    (r"a$", 0, ["a", "a\n", "a\n\n"]),
    (r"a$\n", 0, ["a", "a\n", "a\n\n"]),
    (r"(?m)^a$\n^b$", 0, ["a\nb", "a\nb\n", "ab"]),
    (r"(?m)(?:^a*$\n?)+", 0, ["a\naa\n", "a\n\na", "", "\n", "ab"]),
    (r"a\Z\n?", 0, ["a", "a\n"]),
    (r"\b", 0, ["", "a", " "]),
    (r"\B", 0, ["", "a", " "]),
    (r"\B.*\B", 0, ["", "a", " ", " a", "a ", " a "]),
    (r".*\b.*", re.S, ["", " ", "a", "é", "\n"]),
    (r"(?a:.*\b.*)", 0, ["é", "e"]),
    (r".*\bfoo\b.*", 0, ["foo", "a foo.", "afoo", "foo_", "foo bar", "éfoo"]),
    (r"(?=.*\d)(?=.*[a-z])(?!.*\s).{4,8}", 0, ["abc1", "abcd", "ab 1", "1234", "a1234567", "a12345678"]),
    (r"(?=a\b).*", 0, ["a", "ab", "a b", "b"]),
    (r"x?(?=\ba).*", 0, ["a", "xa", "x a", "ab"]),
    (r"[x ]?(?=\ba).*", 0, ["a", "xa", " a", "x"]),
    (r"[x ]?(?!\ba).*", 0, ["a", "xa", " a", "x", "b"]),
    (r"x?(?=a*\b-).*", 0, ["-", "x-", "a-", "xa-", "--", "x--"]),
    (r"x?(?=^a).*", 0, ["a", "xa"]),
    (r"x?(?!^a).*", 0, ["a", "xa", "b"]),
    (r".*(?=(?=\ba)..).*", 0, ["ab", "xab", " ab", "a"]),
    (r"..(?=(?<=ab)c).*", 0, ["abc", "bbc", "abd"]),
    (r".*(?=ax(?<!ax|bx)y|bx(?<=x)).*", 0, ["axy", "bxy", "xy"]),
    (r".*(?<=\bfoo)bar", 0, ["foobar", "xfoobar", " foobar"]),
    (r".*(?<=a\b).*", 0, ["a", "ab", "a b", "b"]),
    (r".*(?<=a\B).*", 0, ["a", "ab", "a b", "b"]),
    (r".*(?<=a$).*", re.S, ["a", "a\n", "a\nb", "ba\n"]),
    (r".*(?<=a$\n).*", re.S, ["a", "a\n", "a\nb", "ba\n"]),
    (r"(?m).*(?<=^a$).*", re.S, ["a", "a\n", "b\na\nb", "ba"]),
    (r".*(?<!^)a", 0, ["a", "ba"]),
    (r".*(?<=(?=ab)ab)b", 0, ["abb", "aab", "bb"]),
    (r".*(?<=(?<=a)b)c", 0, ["abc", "bbc", "bc"]),
    (r"(?!)|a", 0, ["a", ""]),
    (r"(?=)a(?<=)", 0, ["a", ""]),
    (r"(?!a|b$)[abc]*", 0, ["a", "b", "bc", "cab", ""]),
    (r"(?:(?!end).)*end", 0, ["end", "xend", "endend", "xenend"]),
    (r"a*+a", 0, ["a", "aa"]),
    (r"a*+b", 0, ["b", "aab"]),
    (r"a?+a", 0, ["a", "aa"]),
    (r"a{1,2}+a?", 0, ["a", "aa", "aaa"]),
    (r"(?:ab){1,3}+(?:ab)?", 0, ["ab", "ababab", "abababab"]),
    (r"(?>a+)b", 0, ["ab", "aab", "b"]),
    (r"(?>a+)a", 0, ["aa", "a"]),
    (r"(?>(a\d*))\d", 0, ["a1", "a"]),
    (r"(?>ab|cd)e", 0, ["abe", "cde"]),
    (r"(?:|a)*", 0, ["", "aaa"]),
    (r"(?:^|a){2}", 0, ["", "a", "aa", "aaa"]),
    (r"(?:\b|a)+", 0, ["", "a", "aa"]),
    (r"(?:(?:a|b??){2,})*", 0, ["", "ab", "abba"]),
    (r"(?i)straße", 0, ["STRAßE", "straẞe", "STRASSE", "ſtraße"]),
    (r"(?i)ß|a", 0, ["ß", "ẞ", "A"]),
    (r"(?i)[ß]", 0, ["ß", "ẞ"]),
    (r"(?i)[^ß]", 0, ["ß", "ẞ", "s"]),
    (r"(?i)k", 0, ["k", "K", "\u212a"]),
    (r"(?ia)k", 0, ["k", "K", "\u212a"]),
    (r"(?i)[i-k]", 0, ["I", "İ", "ı", "\u212a", "J"]),
    (r"(?i)\u0130", 0, ["i", "İ", "I", "i̇"]),
    (r"(?i)ǆ", 0, ["ǅ", "Ǆ", "ǆ"]),
    (r"(?i)σς", 0, ["ΣΣ", "ςσ", "σΣ"]),
    (r"(?i:a(?-i:b)c)", 0, ["ABC", "AbC", "aBc"]),
    (r"(?i)[^a]", 0, ["A", "b"]),
    (r"(?i)(?!A)[a-c]", 0, ["a", "A", "B"]),
    (r"(?x) a b # comment" + "\n c", 0, ["abc", "a b c"]),
    (r"[]a]", 0, ["]", "a"]),
    (r"[^]a]", 0, ["]", "b"]),
    (r"\N{BULLET}\x41\101\u00e9\U0001F600", 0, ["•AAé😀"]),
    (r"[\uD7FF-\uE000]", 0, ["\ud7ff", "\ue000", "a"]),
    (r"[^\n]", 0, ["\n", "\r", "\u2028", "\U0010ffff"]),
    (r"^a|b$|^c$", 0, ["a", "b", "c", "ab"]),
]


@pytest.mark.parametrize(("pattern", "flags", "texts"), HARD, ids=[p for p, *_ in HARD])
@pytest.mark.parametrize("search", [False, True], ids=["fullmatch", "search"])
def test_hard_patterns_accept_what_re_does(pattern: str, flags: int, texts: list[str], search: bool) -> None:
    automaton = GrammarAutomaton(pattern_expression(pattern, flags, search=search))
    match = re.search if search else re.fullmatch
    for text in [*texts, *(f"\n{t}" for t in texts), *(f"{t}\n" for t in texts), *(f"b{t}1" for t in texts)]:
        assert accepts(automaton, text.encode()) == bool(match(pattern, text, flags)), text


CLASSES = [
    r"\w",
    r"\W",
    r"\d",
    r"\s",
    r"\S",
    ".",
    "[^a]",
    r"[\d_\W]",
    "[à-ʯ]",
    "[^K-Z]",
    "ſ",
    "[ßa]",
    "K",
    "[^\u212a]",
    "µ",
]


@pytest.mark.parametrize("flags", [0, re.A, re.I, re.I | re.A, re.S], ids=["none", "a", "i", "ia", "s"])
@pytest.mark.parametrize("pattern", CLASSES)
def test_a_class_holds_the_characters_that_re_finds(pattern: str, flags: int) -> None:
    written: list[Characters] = []

    def encode(characters: Characters) -> GrammarAutomaton:
        written.append(characters)
        return pattern_expression("x")

    pattern_expression(pattern, flags, encode=encode)
    found = re.compile(f"(?:{pattern})+", flags).finditer(EVERY_CHARACTER)
    assert written[-1] == Characters.of((m.start(), m.end() - 1) for m in found)


def test_a_compiled_pattern_brings_its_flags() -> None:
    automaton = compile_regex(re.compile("a.b", re.I | re.S))
    assert accepts(automaton, b"A\nb")
    with pytest.raises(ArgumentError):
        compile_regex(re.compile("a"), re.I)


# -- refusals; the span is marked

REFUSED = [
    r"(a)«\1»",
    r"(a)[\1]\\1«\1»",
    r"(?P<x>a)«(?P=x)»",
    r"(a)?«(?(1)b|c)»d",
    r"(?:ab|c)«*+»d",
    r"(?:a{1,2}){2}(?:a|bc)«{1,3}+»",
    r"a«(?>a|ab)»c",
    r"(?#(?>a|ab)\(?>[(?>a|ab)]«(?>a|ab(?>c))»",
    "(?x)a # (?>a|ab)\n«(?>a|ab)»",
    r"(?>ab+)«(?>a+b?)»",
    r"a++«(?<=a|bc)»",
    r"(?<=ab)(?=x)«(?<!a+)»b",
    r"«(?=b*(?<=ab)c)»",
    r".*«(?=x(?<!ax)y)».*",
    r"x«(?<=(?=.b).)»c",
    r"«[»a-z",
    r"«(»a",
    r"a«)»",
    r"«*»a",
    r"a*«*»",
    r"«\q»",
    r"[«z-a»]",
    r"a«(»?i)b",
    r"«a{99999999999}»",
    r"[a«\ud800»]",
    r"\\ud800«\udfff»",
]


def marked(text: str) -> tuple[str, tuple[int, int]]:
    start, end = text.index("«"), text.index("»") - 1
    return text.replace("«", "").replace("»", ""), (start, end)


@pytest.mark.parametrize("text", REFUSED)
def test_what_cannot_be_honoured_is_refused_with_its_span(text: str) -> None:
    pattern, span = marked(text)
    with pytest.raises(ConstraintError) as caught:
        compile_regex(pattern)
    assert caught.value.span == span
    assert caught.value.hint


@pytest.mark.parametrize(("pattern", "flags"), [(b"a", 0), ("a", re.L), ("a", re.A | re.U), (re.compile(b"a"), 0)])
def test_bytes_and_locales_are_refused(pattern: str, flags: int) -> None:
    with pytest.raises(ConstraintError):
        compile_regex(pattern, flags)


def test_an_unpaired_surrogate_leaves_a_printable_error() -> None:
    with pytest.raises(ConstraintError) as caught:
        compile_regex("a\udc00")
    assert caught.value.span == (1, 2)
    str(caught.value).encode()


@pytest.mark.parametrize("pattern", [r"a$b", r"a^", r"[^\w\W]", r"(?!)", r"a\Bb$c", r"(?=a)b", r"\ba\b(?<=b)"])
def test_a_pattern_without_texts_is_unsatisfiable(pattern: str) -> None:
    with pytest.raises(UnsatisfiableError) as caught:
        compile_regex(pattern)
    assert caught.value.span == (0, len(pattern))


@pytest.mark.parametrize("pattern", ["(" * 2000 + ")" * 2000, "(?:a" * 400 + ")*" * 400])
def test_a_pattern_that_is_nested_too_deeply_is_refused(pattern: str) -> None:
    with pytest.raises(ConstraintError, match="nested too deeply"):
        compile_regex(pattern)


# -- ECMA-262: pattern, texts that contain a match, texts that do not

ECMA: list[tuple[str, list[str], list[str]]] = [
    (r"^\d+$", ["1", "42"], ["٣", "1\n", "a1"]),
    (r"^\w$", ["a", "_", "0"], ["é", "-"]),
    (r"^\W$", ["é", "-"], ["a"]),
    (r"^\s$", [" ", "\t", "\n", "\ufeff", "\u00a0", "\u2029", "\u3000"], ["\x1c", "\u180e", "\x85", "a"]),
    (r"^\S$", ["\x1c", "\x85"], ["\ufeff"]),
    (r"^.$", ["a", "\x85", "😀"], ["\n", "\r", "\u2028", "\u2029"]),
    (r"^[^]$", ["a", "\n"], ["", "ab"]),
    (r"[]", [], ["", "a", "[]"]),
    (r"a$", ["a", "ba"], ["a\n", "ab"]),
    (r"^$|^(?:a)$", ["", "a"], ["\n", "aa"]),
    (r"^(?<year>\d{4})\-\/$", ["2026-/"], ["2026"]),
    (r"^\u0041\x42\u{1F600}\ud83d\ude00\cA\0\v$", ["AB😀😀\x01\0\v"], ["AB"]),
    (r"^[\ud83d\ude00-\u{1F602}]$", ["😀", "😁", "😂"], ["😃", "\ufffd"]),
    (r"^[\b\-\]\^a-]+$", ["\b-]^a"], ["b", "\\"]),
    (r"^[\d\-x]+$", ["1-x"], ["٣"]),
    (r"^\p{Lu}\p{Ll}+$", ["Éa", "Àé"], ["ab", "A1"]),
    (r"^[\p{L}\p{gc=Nd}_]+$", ["é٣_"], ["-"]),
    (r"^[^\P{Letter}a]+$", ["bé"], ["a", "1"]),
    (r"^\P{General_Category=Uppercase_Letter}$", ["a"], ["A"]),
    (r"^\p{ASCII}\p{Any}$", ["a😀"], ["éa"]),
    (r"\bfoo\b", ["foo", "éfoo", "a foo!"], ["foo_", "afoo"]),
    (r"^\B$", [""], ["a"]),
    (r"(?<=a+)b", ["ab", "aaab"], ["b", "cb"]),
    (r"(?<!a)b", ["b", "cb"], ["ab"]),
    (r"^(?=.*[A-Z])(?!.* ).{2,}$", ["aA", "Ab"], ["ab", "A b"]),
    (r"^{.*}$", ["{}", "{a}"], ["a"]),
    (r"^\_\@\'\ $", ["_@' "], [""]),
    (r"^a+?b*?$", ["aab"], ["b"]),
    ("^\n[\n]$", ["\n\n"], ["n"]),
    (r"^#(a b)$", ["#a b"], ["ab"]),
]


@pytest.mark.parametrize(("pattern", "inside", "outside"), ECMA, ids=[p for p, *_ in ECMA])
def test_an_ecma_pattern_is_searched_as_ecma_262_says(pattern: str, inside: list[str], outside: list[str]) -> None:
    raw = GrammarAutomaton(pattern_expression(pattern, search=True, dialect="ecma"))
    quoted = GrammarAutomaton(pattern_expression(pattern, search=True, dialect="ecma", encode=json_string))
    for text in [*inside, *outside]:
        assert accepts(raw, text.encode()) == (text in inside), text
        assert accepts(quoted, json.dumps(text)[1:-1].encode()) == (text in inside), text


ECMA_REFUSED = [
    r"(a)«\1»",
    r"(?<n>a)«\k<n>»",
    r"a«\A»",
    r"a«\Z»",
    r"«(?P<»n>a)",
    r"«(?i)»a",
    r"«(?i:»a)",
    r"«(?>»a)",
    r"a«*+»",
    r"a«{2}{3}»",
    r"a«{,5}»",
    r"\d«(»a",
    r"\d\p{L}a«)»",
    r"a|«*»",
    r"\p{L}«{2,1}»",
    r"[a«\q»]",
    r"«\p{Script=Greek}»",
    r"«\u12»",
    r"«\u{110000}»",
    r"[«\ud800»]",
    r"[«\w-x»]",
    r"[«z-a»]",
    r"ab«[»ab",
    r"\p{L}(?:a*b)«(?<=a*(?=bc).)»",
]


@pytest.mark.parametrize("text", ECMA_REFUSED)
def test_what_ecma_262_lacks_is_refused_with_its_span(text: str) -> None:
    pattern, span = marked(text)
    with pytest.raises(ConstraintError) as caught:
        pattern_expression(pattern, search=True, dialect="ecma")
    assert caught.value.span == span
    assert caught.value.hint


def test_a_dialect_takes_its_own_flags_only() -> None:
    with pytest.raises(ArgumentError):
        pattern_expression("a", re.I, dialect="ecma")
    with pytest.raises(ArgumentError):
        pattern_expression("a", dialect="perl")


# -- laws of the automata

SMALL = [
    r"ab|c",
    r"a{2,3}b?",
    r"\d\b.?",
    r"(?=.*1)\w{2,3}",
    r"(?<!a)b|aé",
    r"(?i)k",
    r"x*+y",
    r"(?m)^a$\n?",
    r"(?!.*aa)[ab]{1,4}(?<!b)",
]


@pytest.mark.parametrize("pattern", SMALL)
def test_the_distance_is_one_more_than_the_nearest_successors(pattern: str) -> None:
    automaton = compile_regex(pattern)
    seen, work = {automaton.start}, [automaton.start]
    while work and len(seen) < 60:
        state = work.pop(0)
        after = {automaton.step(state, byte) for byte in range(256)} - {DEAD}
        nearest = min((automaton.distance(s) for s in after), default=UNREACHABLE)
        assert automaton.distance(state) == (0 if automaton.accepts(state) else 1 + nearest)
        work += after - seen
        seen |= after


def test_an_anchor_at_the_edge_costs_no_look_around() -> None:
    for pattern in (r"^abc$", r"^(a|b)$", r"^a|b$"):
        assert "automaton=" not in repr(pattern_expression(pattern, search=True))


EDGES = [
    r"(?=.*[a-z])(?=.*\d)(?!.*--)[\w-]{3,6}",
    r"(?!ab|ba)[ab]{2,4}(?<!b)(?<=.a)",
    r"(?=a)a+|(?!a)[ab]+|b(?<=b)",
    r"^(?=[^@]{1,4}@)[a-z]+@[a-z]+$",
    r"(?s:(?!.*\n\n).*)(?<!\n)",
]


def assert_as_re(automaton: GrammarAutomaton, pattern: str, texts: Iterable[str]) -> None:
    for text in texts:
        assert accepts(automaton, text.encode()) == (re.fullmatch(pattern, text) is not None), text


@pytest.mark.parametrize("pattern", EDGES)
def test_look_around_at_the_edges_of_a_pattern_becomes_a_table(pattern: str) -> None:
    automaton = compile_regex(pattern)
    assert automaton.engine is not None, "states are searched for"
    letters = "ab1-@\n" if "@" in pattern or "s:" in pattern else "ab1-"
    for size in range(6):
        assert_as_re(automaton, pattern, map("".join, itertools.product(letters, repeat=size)))


def test_look_around_that_leaves_nothing_is_no_text() -> None:
    for pattern in (r"(?=a)(?!b)", r"(?!a)a", r"(?=.{5})a{2,4}", r"a+(?<!a)"):
        with pytest.raises(UnsatisfiableError):
            compile_regex(pattern)


def test_look_around_that_is_too_large_for_a_table_is_honoured_all_the_same() -> None:
    pattern = r"(?!^[\+\w-]{5,96}$)(?:\d+h)?(?:\d+m)?(?:\d+s)?(?:\d+ms)?"
    assert_as_re(compile_regex(pattern), pattern, ["1h", "1h2m3s", "1" * 97 + "h", "12345", "1" * 4, ""])


# -- size: what takes long, and the most it may take in seconds (generous: the machine may be busy)

WORDS = [f"{word}{i}" for i, word in enumerate(string.ascii_lowercase * 385)]
LARGE: list[tuple[str, Callable[[], str], str, float]] = [
    ("a bounded repeat", lambda: ".{0,10000}", "abc" * 100, 0.5),
    ("nested repeats", lambda: "(?:[a-z]{1,3000}x){2,500}", "abxcdx", 0.5),
    ("ten thousand alternatives", lambda: "|".join(WORDS), WORDS[-1], 5),
    ("a long literal", lambda: "ab" * 5000, "ab" * 5000, 2),
    ("a long pattern without case", lambda: "(?i)" + "ab" * 2000, "aB" * 2000, 3),
    ("many classes", lambda: r"(?:\w+@\w+\.\w+[,;]?\s*){1,200}", "a@b.c, é@ß.c", 2),
]


@pytest.mark.parametrize(("make", "text", "seconds"), [row[1:] for row in LARGE], ids=[row[0] for row in LARGE])
def test_a_large_pattern_compiles_quickly(make: Callable[[], str], text: str, seconds: float) -> None:
    start = time.process_time()
    automaton = compile_regex(make())
    assert time.process_time() - start < seconds
    assert accepts(automaton, text.encode())
    assert not accepts(automaton, b"\xff")


def test_a_pattern_that_is_too_large_for_the_automaton_is_refused_with_its_place() -> None:
    with pytest.raises(ConstraintError, match="repeated more than") as caught:
        compile_regex("(?:(?!ab)[ab]){1,9000}")
    assert caught.value.span == (0, 22)
    assert caught.value.hint
