"""GBNF: every piece of the notation by examples, random grammars against re, and what is refused with its place."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import genctl
from genctl.automata.base import accepts
from genctl.automata.expressions import Call, Repeat
from genctl.compilers.grammar import compile_gbnf, parse_gbnf
from genctl.errors import ConstraintError, UnsatisfiableError
from tests.test_lark import sentence

# grammar, texts that it has, texts that it does not have
EXAMPLES: dict[str, tuple[str, list[str], list[str]]] = {
    "a literal": ('root ::= "ab"', ["ab"], ["", "a", "abb", '"ab"']),
    "an empty literal": ('root ::= "" "a" ""', ["a"], ["", "aa"]),
    "a sequence": ('root ::= "a" "b"\t"c"', ["abc"], ["ab", "a b c"]),
    "alternatives": ('root ::= "a" | "bc" | "b"', ["a", "b", "bc"], ["", "ab", "c"]),
    "an empty alternative": ('root ::= "a" ( | "b")', ["a", "ab"], ["", "b"]),
    "an empty alternative at the end": ('root ::= "a" |', ["a", ""], ["b"]),
    "alternatives bind less than sequences": ('root ::= "a" "b" | "c" "d"', ["ab", "cd"], ["acd", "abd", "ad"]),
    "a group": ('root ::= ("a" | "b") "c"', ["ac", "bc"], ["a", "bcc", "abc"]),
    "an empty group": ('root ::= () "a"', ["a"], [""]),
    "a rule": ('root ::= x x\nx ::= "a" | "b"', ["ab", "ba", "aa"], ["a", "aba"]),
    "a name with all signs": ('root ::= Up-1_x\nUp-1_x ::= "a"', ["a"], [""]),
    "a rule defined before it is used": ('x ::= "a"\nroot ::= x', ["a"], ["x"]),
    "recursion": ('root ::= "(" root ")" | "x"', ["x", "((x))"], ["(x", "x)", "()"]),
    "an asterisk": ('root ::= "ab"*', ["", "ab", "abab"], ["a", "aba", "abb"]),
    "a plus": ('root ::= [ab]+ "c"', ["ac", "abac"], ["c", "ab"]),
    "a question mark": ('root ::= "a" ("b" "c")?', ["a", "abc"], ["ab", "abcbc"]),
    "repetition of a rule": ('root ::= x* "."\nx ::= "a" "b"?', [".", "aab."], ["b."]),
    "a blank before the repetition": ('root ::= "a" * "b" {2}', ["bb", "aabb"], ["ab"]),
    "repetition of a repetition": ('root ::= "a"+? "b"{2}*', ["", "aa", "abbbb"], ["abbb"]),
    "an exact count": ('root ::= "ab"{2}', ["abab"], ["ab", "ababab", "abb"]),
    "a least count": ('root ::= "a"{2,}', ["aa", "aaaaa"], ["", "a"]),
    "a least and a most count": ('root ::= "a"{1,3}', ["a", "aaa"], ["", "aaaa"]),
    "blanks in counts": ('root ::= "a"{ 1 , 2 } "b"{ 2 }', ["abb", "aabb"], ["bb", "aaabb"]),
    "a count of zero": ('root ::= "a"{0} "b"{0,1}', ["", "b"], ["a", "bb"]),
    "a set": ("root ::= [abx-z]", ["a", "b", "y"], ["c", "-", "", "ab"]),
    "a set of other characters": (r"root ::= [^a-y\n]", ["z", "é", "😀", "A", "-"], ["a", "m", "\n", "", "zz"]),
    "a hyphen in a set": ("root ::= [a-] [-b] [+--]", ["---", "ab+", "a-,"], ["abc", "bb-"]),
    "a caret that does not stand first": ("root ::= [a^] [a^^]", ["^^", "aa"], ["ba"]),
    "brackets and quotes in a set": (r"""root ::= [\[\]"'\\]""", ["[", "]", '"', "'", "\\"], ["^", "a"]),
    "a set with a quote and a hash": ('root ::= ["#] # "', ["#", '"'], [" "]),
    "a set of code points": (
        r"root ::= [\x41-\x43é-ë\u4e00-\u9fff\U0001F600-\U0001F64F]",
        ["B", "ê", "中", "😀"],
        ["D", "ì", "😐😐"],
    ),
    "any character": ("root ::= .", ["a", "\n", "é", "😀", "\0"], ["", "ab"]),
    "any characters": ('root ::= .* "."', [".", "a.b."], ["a"]),
    "escapes": (r'root ::= "\n\r\t\\\"\[\]"', ['\n\r\t\\"[]'], ["nrt"]),
    "codes": (r'root ::= "\x41\u00e9\U0001F600\xe9"', ["Aé😀é"], ["A", "\x41é😀\xe9\xe9"]),
    "other characters in a literal": ('root ::= "é# | ( [\'中"', ["é# | ( ['中"], ["é"]),
    "comments": ('# root ::= "b"\nroot ::= "a" # "b"\n# end', ["a"], ["b", "ab"]),
    "a comment behind |": ('root ::= "a" | # first\n # second\n "b"', ["a", "b"], ["ab"]),
    "lines in a group": ('root ::= (\n  "a" # one\n\n  "b"\n  |\n  "c"\n) "d"', ["abd", "cd"], ["ad", "abcd"]),
    "repetition on the next line in a group": ('root ::= ("a"\n* "b")', ["b", "aab"], ["a"]),
    "a line break behind ::=": ('root ::=\n  "a"', ["a"], [""]),
    "a line break behind |": ('root ::= "a" |\n  "b" |\n\n  "c"', ["a", "b", "c"], ["ab"]),
    "a line that begins with |": ('root ::= "a"\n  | "b"\n\n  # more\n  | "c"\nx ::= "d"', ["a", "b", "c"], ["d"]),
    "other line ends": ('root ::= x\r\n\r\nx ::= "a" |\r\n "b"\rroo ::= x', ["a", "b"], ["ab"]),
    "blanks around": ('\n\n  root ::= "a"  \n\n  ', ["a"], [" a"]),
    "left recursion": ('root ::= root "+" x | x\nx ::= "a"', ["a", "a+a+a"], ["", "+a", "a+"]),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_grammar_has_the_texts_it_should(name: str) -> None:
    grammar, right, wrong = EXAMPLES[name]
    automaton = compile_gbnf(grammar)
    assert [text for text in right if not accepts(automaton, text.encode())] == []
    assert [text for text in wrong if accepts(automaton, text.encode())] == []


def test_a_character_is_whole_utf_8() -> None:
    automaton = compile_gbnf("root ::= [^a]")
    assert not any(accepts(automaton, text) for text in (b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"))


def test_repetition_stays_repetition_and_a_rule_stays_a_rule() -> None:
    start, rules = parse_gbnf('root ::= x{2,5000} x*\nx ::= "a"')
    assert start == Call("root")
    assert set(rules) == {"root", "x"}
    assert rules["root"].parts == (Repeat(Call("x"), 2, 5000), Repeat(Call("x"), 0, None))


def test_another_rule_may_be_the_root() -> None:
    grammar = 'top ::= "a" root\nroot ::= "b"'
    assert accepts(compile_gbnf(grammar, root="top"), b"ab")
    assert genctl.gbnf(grammar, root="top").accepts("ab")
    assert genctl.gbnf(grammar).accepts("b")


def test_a_grammar_may_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.gbnf").write_text('root ::= "é"', "utf-8")
    rule = genctl.gbnf(tmp_path / "a.gbnf")
    assert rule.accepts("é")
    assert rule.value("é") == "é"
    with pytest.raises(ConstraintError, match="cannot read"):
        genctl.gbnf(tmp_path / "b.gbnf")
    with pytest.raises(ConstraintError, match="the name of a file"):
        genctl.gbnf("a.gbnf")


# -- random grammars, each with the regular expression that means the same

CHARACTERS = 'ab-^]\\"\n\té中😀'
Twin = tuple[str, str]  # GBNF, re
SHORT = {"\n": r"\n", "\t": r"\t", "\\": r"\\", '"': r"\"", "]": r"\]", "[": r"\["}


@st.composite
def written(draw: st.DrawFn, character: str, bare: str) -> str:
    """A character as it may be written between quotes or brackets; those of `bare` only by a code."""
    code = ord(character)
    ways = [rf"\U{code:08X}"]
    ways += [rf"\u{code:04x}"] if code < 0x10000 else []
    ways += [rf"\x{code:02x}"] if code < 0x100 else []
    ways += [SHORT[character]] if character in SHORT else [character] if character not in bare else []
    return draw(st.sampled_from(ways))


@st.composite
def literals(draw: st.DrawFn) -> Twin:
    text = draw(st.text(CHARACTERS, max_size=3))
    return f'"{"".join(draw(written(c, "")) for c in text)}"', f"(?:{re.escape(text)})"


@st.composite
def sets(draw: st.DrawFn) -> Twin:
    members, twin = "", ""
    for _ in range(draw(st.integers(1, 3))):
        low, high = sorted(draw(st.tuples(st.sampled_from(CHARACTERS), st.sampled_from(CHARACTERS))))
        members += draw(written(low, "-^"))
        if draw(st.booleans()):
            members += "-" + draw(written(high, "-^"))
            twin += rf"\U{ord(low):08x}-\U{ord(high):08x}"
        else:
            twin += rf"\U{ord(low):08x}"
    negated = draw(st.sampled_from(["", "^"]))
    return f"[{negated}{members}]", f"[{negated}{twin}]"


def joined(inner: st.SearchStrategy[Twin]) -> st.SearchStrategy[Twin]:
    sequences = st.lists(inner, max_size=3).map(lambda s: (" ".join(g for g, _ in s), "".join(r for _, r in s)))
    return st.lists(sequences, min_size=1, max_size=3).map(
        lambda s: (" | ".join(g for g, _ in s), "|".join(r for _, r in s))
    )


def repeated(inner: st.SearchStrategy[Twin]) -> st.SearchStrategy[Twin]:
    signs = st.sampled_from(["*", "+", "?", "{2}", "{1,}", "{0,2}", "{1,3}"])
    return st.tuples(inner, signs).map(lambda p: (p[0][0] + p[1], f"(?:{p[0][1]}){p[1]}"))


def groups(inner: st.SearchStrategy[Twin]) -> st.SearchStrategy[Twin]:
    blanks = st.sampled_from(["", " ", "\n", "\n# ) comment\n "])
    return st.tuples(joined(inner), blanks).map(lambda p: (f"({p[1]}{p[0][0]}{p[1]})", f"(?:{p[0][1]})"))


def bodies(*rules: Twin) -> st.SearchStrategy[Twin]:
    leaves = st.one_of(literals(), sets(), st.just((".", ".")), *map(st.just, rules))
    return joined(st.recursive(leaves, lambda inner: st.one_of(groups(inner), repeated(inner)), max_leaves=5))


@st.composite
def grammars(draw: st.DrawFn) -> Twin:
    inner, twin = draw(bodies())
    outer, whole = draw(bodies(("inner", f"(?:{twin})")))
    rules = draw(st.permutations([f"root ::= ({outer})", f"inner ::= ({inner})"]))
    return "\n".join(rules), whole


RANDOM: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}


@settings(max_examples=100, **RANDOM)
@given(grammars(), st.lists(st.text(CHARACTERS, max_size=5), max_size=20))
def test_a_random_grammar_has_the_texts_of_its_regular_expression(twin: Twin, texts: list[str]) -> None:
    grammar, pattern = twin
    automaton = compile_gbnf(grammar)
    right = [sentence(automaton, random.Random(seed)) for seed in range(5)]
    for text in {*texts, *right, *(text + "a" for text in right)}:
        if len(text) > 12:  # where re may backtrack for ever
            continue
        expected = re.fullmatch(pattern, text, re.DOTALL) is not None
        assert accepts(automaton, text.encode()) == expected, (grammar, pattern, text)


# -- what is refused, and where: the place is between « and »


@settings(max_examples=300, **RANDOM)
@given(
    st.sampled_from(sorted(EXAMPLES)), st.integers(0, 10**6), st.sampled_from([*'ab:|()[]{}"\\.?*+!<>-^# \n,1', "::="])
)
def test_a_mutated_grammar_is_a_grammar_or_refused_with_its_place(name: str, at: int, inserted: str) -> None:
    grammar = EXAMPLES[name][0]
    at %= len(grammar)
    grammar = grammar[:at] + inserted + grammar[at + at % 3 :]
    refusal = None
    try:
        parse_gbnf(grammar)
    except ConstraintError as error:
        refusal = error
    if refusal is not None:
        assert refusal.span is not None
        assert 0 <= refusal.span[0] <= refusal.span[1] <= len(grammar)
        assert refusal.hint


REFUSED: dict[str, tuple[str, str]] = {
    "an undefined rule": ('root ::= "a"\n  | «x»', "rule 'x' is used but not defined"),
    "an undefined rule that is not reached": ('root ::= "a"\ny ::= "b" «x» x', "rule 'x' is used but not defined"),
    "no root": ('«start ::= "a"»', "the grammar has no rule 'root'"),
    "nothing": ("«»", "the grammar has no rule 'root'"),
    "a rule defined twice": ('root ::= "a"\n«root» ::= "b"', "rule 'root' is defined twice"),
    "no name": ('root ::= "a"\n«"»b"', "expected a rule"),
    "no ::=": ('root «=» "a"', "expected ::= behind the name 'root'"),
    "no ::= at the end": ("root ::= x\nx«»", "expected ::= behind the name 'x'"),
    "two rules on a line": ('root ::= "a" x «:»:= "b"', "unexpected ':' in rule 'root'"),
    "an open literal": ('root ::= x\nx ::= «"a»\ny ::= "b"', "this literal is not closed on its line"),
    "an open literal at the end": ('root ::= «"a»', "this literal is not closed on its line"),
    "an open set": ("root ::= «[a-z»\nx ::= [a]", "this set is not closed on its line"),
    "an open range": ("root ::= «[a-»", "this set is not closed on its line"),
    "an open group": ('root ::= «(»"a" ("b")', "this group is not closed"),
    "a rule in a group": ('root ::= ("a"\nx «:»:= "b"', "unexpected ':' in a group"),
    "a closing parenthesis": ('root ::= "a"«)»', "unexpected ')' in rule 'root'"),
    "a closing bracket": ('root ::= "a"«]»', "unexpected ']' in rule 'root'"),
    "a foreign sign": ('root ::= "a" «&» "b"', "unexpected '&' in rule 'root'"),
    "an empty set": ("root ::= «[]»", "a set without characters"),
    "an empty negated set": ("root ::= «[^]»", "a set without characters"),
    "a range from high to low": ("root ::= [a«z-b»]", "the range 'z' to 'b' is empty"),
    "an unknown escape": (r'root ::= "«\q»"', r"the escape \q is not in GBNF"),
    "an unknown escape in a set": (r"root ::= [«\d»]", r"the escape \d is not in GBNF"),
    "a short code": (r'root ::= "«\u»12"', r"the escape \u is not in GBNF"),
    "a code beyond the last character": (r'root ::= "«\U00110000»"', "beyond the last character"),
    "a surrogate": (r'root ::= "«\ud83d»\ude00"', "a lone surrogate is not a character"),
    "a repetition of nothing": ('root ::= "a" | «*»', "nothing to repeat"),
    "a count of nothing": ("root ::= («{»2})", "nothing to repeat"),
    "a count without a least number": ('root ::= "a"«{,3}»', "this repetition has no counts"),
    "a count of words": ('root ::= "a"«{n}» "b"', "this repetition has no counts"),
    "an open count": ('root ::= "a"«{2»\nx ::= "b"', "this repetition has no counts"),
    "counts from high to low": ('root ::= "a"«{3,2}»', "at least 3 and at most 2 times"),
    "a token": ("root ::= «<think>» .*", "<think> names a token"),
    "a token by its number": ('root ::= ("a" | «<[1000]>»)', "<[1000]> names a token"),
    "any other token": ("root ::= «!</think>»*", "!</think> names a token"),
    "an exclamation mark": ('root ::= «!»"a"', "unexpected '!'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_grammar_is_refused_with_line_column_span_and_hint(case: str) -> None:
    marked, reason = REFUSED[case]
    grammar, start, end = marked.replace("«", "").replace("»", ""), marked.index("«"), marked.index("»") - 1
    with pytest.raises(ConstraintError) as refusal:
        compile_gbnf(grammar)
    error = refusal.value
    line, column = grammar[:start].count("\n") + 1, start - grammar.rfind("\n", 0, start)
    assert reason in error.reason
    assert error.reason.startswith(f"line {line}, column {column}: ")
    assert error.span == (start, end)
    assert error.hint
    assert error.source == grammar


@pytest.mark.parametrize("grammar", ['root ::= "a" root', 'x ::= "b"\nroot ::= x y\ny ::= "(" root ")"'])
def test_a_rule_that_can_never_end_is_unsatisfiable(grammar: str) -> None:
    with pytest.raises(UnsatisfiableError, match="no finite text") as refusal:
        compile_gbnf(grammar)
    assert refusal.value.span is not None
    assert grammar[slice(*refusal.value.span)] == "root"


def test_a_misspelt_name_is_told_the_nearest_one() -> None:
    with pytest.raises(ConstraintError, match="did you mean number") as refusal:
        compile_gbnf('root ::= numbr\nnumber ::= "1"')
    assert refusal.value.span == (9, 14)


def test_too_deep_nesting_is_refused() -> None:
    with pytest.raises(ConstraintError, match="nested too deeply"):
        compile_gbnf("root ::= " + "(" * 20_000 + '"a"' + ")" * 20_000)
