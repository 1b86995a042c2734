"""Lark grammars against the lark package itself: the same texts, or refused with the place."""

from __future__ import annotations

import functools
import itertools
import json as json_module
import random
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import lark as lark_package
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lark import Lark, LarkError

import genctl
from genctl.automata.base import DEAD, Automaton, accepts, next_bytes, shortest_completion
from genctl.automata.expressions import Call, Repeat
from genctl.automata.pushdown import GrammarAutomaton
from genctl.compilers.grammar import compile_lark, files, parse_lark
from genctl.compilers.grammar.preferred import preferred
from genctl.errors import ArgumentError, ConstraintError, UnsatisfiableError

# Each with the characters of the texts that it is tried on. No ignored text begins a terminal: Lark skips the longest
# ignored text only, where here any may be skipped.
GRAMMARS: dict[str, tuple[str, str]] = {
    "sequence and alternatives": ('start: "a" ("b" | "c" "a" |) "b"', "abc"),
    "rules call rules": ('start: x y\nx: "a" | "(" x ")"\ny: "b" x | x', "ab()"),
    "right recursion": ('start: "a" start | "b"', "abc"),
    "center recursion": ('start: "a" start "b" |', "abc"),
    "repetition": ('start: "a"* ("b" "c"?)+', "abc"),
    "counts": ('start: "a"~2 ("b" "a"?)~0..2 "c"~0 "b"~1..3', "abc"),
    "counts of what may be empty": ('start: ("a"? "b"?)~2..3 "c"', "abc"),
    "optional brackets": ('start: ["a"] ["b" ["c"]] "a" | [] "c"', "abc"),
    "modifiers": ('?start: x _y?\n!x: "a"\n_y: "b" z\n?z.2: "c" -> cee | "a" "c" -> ace', "abc"),
    "templates": ('start: _list{item, ","} "." | _list{"c", "."}\n_list{x, sep}: x (sep x)*\nitem: "a"', "ac,."),
    "nested templates": (
        'start: twice{pair{A}}\ntwice{x}: x "," x\npair{x}: x "b" | apply{B, x}\napply{t, x}: t x t\nA: "a"\nB: "b"',
        "ab,",
    ),
    "a template as an argument": ('start: use{quoted}\nuse{t}: t{"a"} t{B}\nquoted{x}: "(" x ")"\nB: "b"', "ab()"),
    "recursive templates": ('start: tree{"a"}\ntree{x}: x | "(" tree{x} tree{x} ")"', "a()"),
    "terminals of terminals": ('start: A+\nA: B C? | "a" C~2\nB: "b" | "bb"\nC: "c" [B]', "abc"),
    "ranges": ('start: A B\nA: "b".."d"\nB: "0".."2" ".." "é".."ë"', "ad1.ê"),
    "flags of strings": ('start: "ab"i "c" | X\nX: "b"i "C"', "aAbBcC"),
    "flags of regexps": ("start: /a./s | /b c/ix | /[^a]d/i\n", "aAbBcCdD \n"),
    "flags in joined terminals": ('start: X\nX: "a"i /B/i ("c" | /D/)+', "aAbBcCdD"),
    "priorities": ('start: (A | B)+ c | d\nA.2: "a"\nB.-1: /[ab]/\nc.2: B\nd.-3: A A', "abc"),
    "ignored characters": ('start: "a" ("b" | "c")*\n%ignore " "', "abc "),
    "two ignored terminals": ('start: A "b"? A?\nA: /a+/\n%ignore /[ ]+/\n%ignore C\nC: "#" /[^\\n]/* "\\n"', "ab #\n"),
    "ignored in front of nothing": ('start: "a"?\n%ignore WS\n%import common.WS', "a \n"),
    "an ignored terminal in a rule": ('start: "a" S "b" | "ab"\nS: "_"\n%ignore S', "ab_"),
    "imports": ('start: WORD ("," n)* \n%import common (WORD, CR)\n%import common.INT -> I\nn: I', "aZ1,"),
    "override and extend": (
        'start: INT | DIGIT "+" x\nx: "a"\n%extend x: "b"\n%import common (INT, DIGIT)\n%override INT: "i"\n'
        '%extend DIGIT: "d"',
        "iabd+1",
    ),
    "a rule imported from Lark's Python": ('start: name "."\n%import python.name', "mé_1. "),
    "escaped strings": ("start: ESCAPED_STRING+\n%import common.ESCAPED_STRING", '"\\a\n'),
    "lazy comments": ('start: "a" "b"\n%import common.C_COMMENT\n%ignore C_COMMENT', "ab/*"),
    "the order of alternatives": ('start: /a|ab/ "c"? | /b??c/ /(?:|c)b/', "abc"),
    "a greedy part that hides another": ('start: /(?:ab?)(?:bc)?/ "c"', "abc"),
    "look-around inside a terminal": (r"start: /b(?!c)[abc]+?(?<!a)c/ /\/(?!\/)[^\/]*\//", "abc/"),
    "escapes": (r'start: "\\" "\"" "\x41" "\u00e9" /\\\// /\u0042/ | "\n\t"', '\\"AéB/'),
    "empty alternatives": ('start: x x "a"\nx: "b" |\n', "ab"),
    "empty": ("start:", "a"),
    "ambiguity": ('start: x+ y*\nx: "a" | "a" "a"\ny: "a" "b" | x "b"', "ab"),
    "left recursion": ('start: start "+" x | x\nx: x "*" "a" | "a"', "a+*"),
    "left recursion with ignored text": ('start: start "a" | "b"\n%ignore " "', "ab "),
    "hidden left recursion": ('start: y start "a" | "b"\ny: "c" |', "abc"),
    "indirect left recursion": ('start: x "a" | "b"\nx: start "c" | y\ny: x "b" |', "abc"),
}
SENTENCES = 60


def short_texts(characters: str, limit: int) -> Iterator[str]:
    """All short texts over the characters, the shortest first, at most `limit`."""
    texts = ("".join(text) for length in itertools.count() for text in itertools.product(characters, repeat=length))
    return itertools.islice(texts, limit)


def sentence(automaton: Automaton, rng: random.Random) -> str:
    """A text of the language: random bytes for a while, then the shortest way to its end."""
    state, text = automaton.start, bytearray()
    for _ in range(rng.randrange(12)):
        following = next_bytes(automaton, state)
        if not following:
            break
        text.append(rng.choice(following))
        state = automaton.step(state, text[-1])
    return (bytes(text) + shortest_completion(automaton, state)).decode()


def mutated(text: str, characters: str, rng: random.Random) -> str:
    at = rng.randrange(len(text) + 1)
    return text[:at] + rng.choice(["", *characters]) + text[at + rng.randrange(2) :]


def parses(parser: Lark, text: str) -> bool:
    with suppress(LarkError):
        parser.parse(text)
        return True
    return False


@pytest.mark.parametrize("name", GRAMMARS)
def test_the_texts_are_those_that_lark_parses(name: str) -> None:
    grammar, characters = GRAMMARS[name]
    automaton = compile_lark(grammar)
    parser = Lark(grammar, parser="earley", lexer="dynamic_complete")
    rng = random.Random(0)
    right = [sentence(automaton, rng) for _ in range(SENTENCES)]
    wrong = [mutated(text, characters, rng) for text in right]
    for text in {*short_texts(characters, 400), *right, *wrong}:
        assert accepts(automaton, text.encode()) == parses(parser, text), repr(text)


# -- random grammars and patterns


def items(rules: list[str]) -> st.SearchStrategy[str]:
    """What may be repeated: characters of "ab", calls of the rules, groups."""
    leaves = st.sampled_from(
        ['"a"', '"b"', '"ab"', '"b"i', "/[ab]/", "/ba?/", "/a??b|ba/", '"a".."b"', "A", "B", *rules]
    )
    groups = st.sampled_from(["({})", "[{}]"])
    return st.recursive(
        leaves, lambda inner: st.tuples(groups, alternatives(inner)).map(lambda p: p[0].format(p[1])), max_leaves=4
    )


def alternatives(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    suffixes = st.sampled_from(["", "", "", "?", "*", "+", "~2", "~0..2"])
    sequences = st.lists(st.tuples(inner, suffixes).map("".join), min_size=0, max_size=3).map(" ".join)
    return st.lists(sequences, min_size=1, max_size=2).map(" | ".join)


def definitions(rules: list[str]) -> st.SearchStrategy[str]:
    recursive = st.sampled_from(["", "", ' | "a" start "b"', ' | "b" start'])
    return st.tuples(alternatives(items(rules)), recursive).map("".join)


RANDOM_GRAMMARS = st.tuples(
    st.builds("start: {}".format, definitions(["x", "y"])),
    st.builds("x: {}".format, definitions(["y"])),
    st.builds("y: {}".format, definitions([])),
    st.sampled_from(['A: "a" | "b" "a"', 'A.2: /a+/ "b"?']),
    st.sampled_from(['B: A? "b"', 'B.-1: "b"i~1..2']),
    st.sampled_from(["", '%ignore "_"', "%ignore /_+/"]),
).map("\n".join)
RANDOM: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}


@settings(max_examples=60, **RANDOM)
@given(RANDOM_GRAMMARS, st.lists(st.text("abB_", max_size=7), min_size=30, max_size=30))
def test_a_random_grammar_has_the_texts_that_lark_parses(grammar: str, texts: list[str]) -> None:
    try:
        parser = Lark(grammar, parser="earley", lexer="dynamic_complete")
    except LarkError:  # alternatives that Lark's trees cannot tell apart
        return
    automaton = compile_lark(grammar)
    right = [sentence(automaton, random.Random(seed)) for seed in range(10)]
    for text in {*texts, *right, *(text[1:] for text in right)}:
        assert accepts(automaton, text.encode()) == parses(parser, text), (grammar, text)


LEAF_PATTERNS = st.sampled_from(
    ["a", "b", "c", ".", "[ab]", "[^a]", "(?i:a)", "", r"(?<=a)", r"(?<!b)", "(?=b)", "(?!a)"]
)
PATTERNS = st.recursive(
    LEAF_PATTERNS,
    lambda inner: st.one_of(
        st.builds("{}{}".format, inner, inner),
        st.builds("(?:{}|{})".format, inner, inner),
        st.builds(
            "(?:{}){}{}".format, inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}"]), st.sampled_from(["", "?"])
        ),
    ),
    max_leaves=8,
)


@settings(max_examples=200, **RANDOM)
@given(PATTERNS, st.lists(st.text("abcA", max_size=6), min_size=20, max_size=20))
def test_a_terminal_has_the_texts_that_match_reads_to_the_end(pattern: str, texts: list[str]) -> None:
    try:
        automaton = GrammarAutomaton(preferred(pattern))
    except ConstraintError as error:
        refusal = error
    else:
        refusal = None
    if refusal is not None:
        assert "look-around" in refusal.reason
        return
    for text in texts:
        match = re.match(pattern, text)
        assert accepts(automaton, text.encode()) == (match is not None and match.end() == len(text)), (pattern, text)


# -- reserved keywords

RESERVED = {
    "a keyword is no name": ('start: NAME "=" NAME | "if" NAME\nNAME: /[a-z]+/', ["if", "a", "="]),
    "a keyword of higher priority is no name": ('start: NAME NAME | IF\nNAME: /[a-z]+/\nIF.2: "if"', ["if", "a"]),
    "an anonymous keyword has the priority of its name": (
        'start: NAME | "if" "="\nNAME.1: /[a-z]+/\nIF.2: "if"',
        ["if", "a", "="],
    ),
    "a keyword in any case": ('start: "if"i NAME\nNAME: /[a-zA-Z]+/', ["if", "IF", "iF", "a"]),
    "names are strings of alternatives": ('start: ("a" | X)+\nX: "a" | "if" | "b"', ["a", "if", "b"]),
    "a number is no keyword": ('start: "1" N | N N\nN: /[0-9]+/', ["1", "11", "2"]),
}


@pytest.mark.parametrize("name", RESERVED)
def test_reserved_keywords_are_those_of_larks_basic_lexer(name: str) -> None:
    """Words are kept apart by blanks here, so that the longest match does not matter."""
    grammar, words = RESERVED[name]
    grammar += '\n%ignore " "'
    automaton = compile_lark(grammar, keywords="reserved")
    parser = Lark(grammar, parser="earley", lexer="basic")
    for length in range(4):
        for text in map(" ".join, itertools.product(words, repeat=length)):
            assert accepts(automaton, text.encode()) == parses(parser, text), text


def test_without_reserved_keywords_a_keyword_may_be_a_name() -> None:
    grammar, _ = RESERVED["a keyword is no name"]
    assert accepts(compile_lark(grammar), b"if=if")
    assert not accepts(compile_lark(grammar, keywords="reserved"), b"if=if")
    assert accepts(compile_lark(grammar, keywords="reserved"), b"iff=ifi")


def test_a_regexp_of_higher_priority_keeps_the_keywords() -> None:
    grammar = 'start: NAME "=" NAME | IF\nNAME.2: /[a-z]+/\nIF: "if"'
    assert accepts(compile_lark(grammar, keywords="reserved"), b"if=a")


def test_a_regexp_without_any_text_but_keywords_leaves_nothing() -> None:
    grammar = 'start: NAME\nNAME: /if|do/\nother: "if" | "do"\n'
    assert accepts(compile_lark(grammar, keywords="reserved"), b"if")  # the keywords are not in use
    with pytest.raises(UnsatisfiableError):
        compile_lark(grammar + "%override start: NAME other", keywords="reserved")


# -- repetition, sharing, names


def test_repetition_stays_repetition_and_a_terminal_is_one_rule() -> None:
    start, rules = parse_lark('start: NAME~2..50 NAME* (NAME "x")+\nNAME: /[a-z]+/\nUNUSED: "u"\nunused: "u"')
    assert start == Call("start")
    assert set(rules) == {"start", "NAME"}
    assert Repeat(Call("NAME"), 2, 50) in rules["start"].parts
    assert Repeat(Call("NAME"), 0, None) in rules["start"].parts


def test_ignored_text_is_one_rule_that_follows_each_terminal() -> None:
    start, rules = parse_lark('start: NAME "x"\nNAME: /[a-z]+/\n%ignore " "')
    assert start.parts == (Call("%ignore"), Call("start"))
    assert rules["NAME"].parts[-1] == Call("%ignore")


def test_any_character_may_be_in_a_text() -> None:
    automaton = compile_lark('start: "é" /./ "\\U0001F600"')
    assert accepts(automaton, "éß😀".encode())
    assert not accepts(automaton, "é".encode() + b"\xff" + "😀".encode())


@pytest.mark.parametrize(("low", "high"), ["!~", "/:", "[^", "]a", "^z", "--", "\\\\", '"#', "'(", "éü"])
def test_a_range_has_the_characters_from_the_first_to_the_second(low: str, high: str) -> None:
    def quoted(character: str) -> str:
        return '"' + character.replace("\\", "\\\\").replace('"', '\\"') + '"'

    automaton = compile_lark(f"start: {quoted(low)}..{quoted(high)}")
    for code in range(256):
        assert accepts(automaton, chr(code).encode()) == (low <= chr(code) <= high), chr(code)


JSON = r"""
?start: value
?value: object | array | string | SIGNED_NUMBER -> number | "true" -> true | "false" -> false | "null" -> null
array : "[" [value ("," value)*] "]"
object: "{" [pair ("," pair)*] "}"
pair  : string ":" value
string: ESCAPED_STRING
%import common (ESCAPED_STRING, SIGNED_NUMBER, WS)
%ignore WS
"""
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(deadline=None)
@given(JSON_VALUES, st.sampled_from([None, 1]))
def test_larks_grammar_of_json_has_every_json_text(value: Any, indent: int | None) -> None:
    text = json_module.dumps(value, indent=indent)
    assert accepts(json_automaton(), text.encode())
    assert not accepts(json_automaton(), (text + '"').encode())


@functools.cache
def json_automaton() -> GrammarAutomaton:
    return compile_lark(JSON)


# -- what is refused, and where: the place is between « and »


@settings(max_examples=300, **RANDOM)
@given(
    st.sampled_from(sorted(GRAMMARS)),
    st.integers(0, 10**6),
    st.sampled_from([*'ab:|()[]{}"/\\~.?*+!%>-# \n', "%ignore "]),
)
def test_a_mutated_grammar_is_a_grammar_or_refused_with_its_place(name: str, at: int, inserted: str) -> None:
    grammar = GRAMMARS[name][0]
    at %= len(grammar)
    grammar = grammar[:at] + inserted + grammar[at + at % 3 :]
    refusal = None
    try:
        parse_lark(grammar)
    except ConstraintError as error:
        refusal = error
    if refusal is not None:
        assert refusal.span is not None
        assert 0 <= refusal.span[0] <= refusal.span[1] <= len(grammar)
        assert refusal.hint


LOOK = "look-around can see the text"
REFUSED: dict[str, tuple[str, str]] = {
    "an undefined rule": ('start: A x «y»\nx: A\nA: "a"', "y is used but not defined"),
    "an undefined terminal": ('start: "a" A\nA: "a" «B»', "B is used but not defined"),
    "an undefined terminal in a rule": ('start: "B" «B» // B', "B is used but not defined"),
    "an undefined ignored terminal": ('start: "a"\n%ignore «WS»', "WS is ignored but not defined"),
    "an ignored rule": ('start: "a"\n%ignore «start»', "start is a rule and cannot be ignored"),
    "a rule in a terminal": ('start: A\nA: "a" «start»', "start is a rule, so no part of terminal A"),
    "recursion in terminals": ('start: A\n«A»: B "a"\nB: A', "terminal A contains itself"),
    "a rule defined twice": ('start: "a"\n«start»: "b"', "start is defined twice"),
    "a terminal defined twice": ('start: A\nA: "a"\n«A»: "b"', "A is defined twice"),
    "an imported terminal defined twice": ('%import common.INT\nstart: INT\n«INT»: "b"', "INT is defined twice"),
    "overriding nothing": ('start: "a"\n%override «x»: "a"', "x is overridden but not defined"),
    "extending nothing": ('start: "a"\n%extend «x»: "a"', "can't extend rule x"),
    "extending with other parameters": ('start: "a"\n%extend «start»{x}: "a"', "different parameters"),
    "a reserved name": ('start: «_»_a\n__a: "a"', "unexpected '_'"),
    "an unknown template": ('start: «t»{"a"}', "t is used but not defined"),
    "too many arguments": ('start: «t»{"a", "b"}\nt{x}: x', "wrong number of template arguments"),
    "a template without arguments": ("start: «t»\nt{x}: x", "the template t{x} is used without arguments"),
    "a rule with arguments": ('start: u{"a"}\n«u»{x}: x{x}', "is no template for these arguments"),
    "a parameter given twice": ('start: t{"a", "b"}\nt{«x», x}: x', "duplicate Template Parameter x"),
    "a parameter that is a rule": ('start: t{"a"}\nt{«start»}: start', "template Parameter conflicts with rule start"),
    "a template that grows": ('start: t{"a"}\nt{x}: x «t»{p{x}}\np{x}: x "b"', "there is no end to the arguments"),
    "a template in a terminal": ('start: A\nA: «t»{"a"}\nt{x}: x', "the template t cannot be part of a terminal"),
    "an alias in a terminal": ('start: A\n«A»: "a" -> b', "-> in the terminal A"),
    "a declared terminal": ('start: "a" «A»\n%declare A', "terminal A is declared without a pattern"),
    "a declared terminal in a terminal": (
        'start: A\nA: "a" «B»\n%declare B',
        "terminal B is declared without a pattern",
    ),
    "a declared rule": ('start: "a" «x»\n%declare x', "rule x is declared without a definition"),
    "an import of nothing": ("«%import common»\nstart: INT", "nothing was imported"),
    "a missing file": ("start: A\n«%import nothing.A»", "cannot import nothing.lark: there is no such file"),
    "a relative import in a text": (
        "start: A\n«%import .common.A»",
        "cannot import common.lark: there is no such file",
    ),
    "an import with and without a dot": (
        "start: A\n%import common.INT\n«%import .common.A»",
        "imported both with and without a dot",
    ),
    "a missing name": ("start: A\n«%import common.A»", "common.lark has no A"),
    "a missing name that is not used": ('start: "a"\n«%import common (WORD, WORDS)»', "common.lark has no WORDS"),
    "an inlined rule with a ?": ('start: _a\n?«_a»: "a"', "_a cannot be inlined"),
    "a group that is not closed": ('start: «(»"a"\n', "( is not closed on its line"),
    "brackets that are not closed": ('start: ("b") «[»"a"', "[ is not closed on its line"),
    "a group that is not opened": ('start: "a"«)»', "unexpected ')'"),
    "a string that is not closed": ('start: «"a»\n', "this string is not closed"),
    "a regexp that is not closed": ("start: «/a»\n", "this regexp is not closed"),
    "a repetition of nothing": ("start: «*»", "misplaced operator"),
    "a repetition of a repetition": ('start: "a"*«*»', "misplaced operator"),
    "a missing colon": ('start «"a"»', "missing colon"),
    "a second colon": ('start:«:» "a"', "unexpected colon"),
    "an alias in upper case": ('start: "a" -> «B»', "alias expects lowercase name"),
    "an unknown statement": ('start: "a"\n«%»foo', "unexpected '%'"),
    "a foreign sign": ('start: "a" «&» "b"', "unexpected '&'"),
    "an unknown flag": ("start: /a/«q»", "q is used but not defined"),
    "the flag l": ("start: «/a/l»", "unknown extension"),
    "too few": ('start: "a"~«-1»', "repeated -1 to -1 times"),
    "fewer than at least": ('start: "a"~«3»..2', "repeated 3 to 2 times"),
    "fewer than at least in a terminal": ('start: A\nA: "a"~«3»..2', "repeated 3 to 2 times"),
    "an empty string": ('start: «""»', "Empty terminals are not allowed"),
    "an empty regexp": ('start: "a" A\nA: «/a?/»', "terminal A matches the empty text"),
    "an empty terminal": ('start: A\n«A»: "a"? "b"?', "terminal A matches the empty text"),
    "an ignored empty regexp": ('start: "a"\n%ignore «/ */»', "matches the empty text"),
    "a malformed escape": (r'start: «"\u00e"»', "malformed escape"),
    "a malformed escape in a regexp": ('start: A\nA: "a" «/\\x1/»', "malformed escape"),
    "a regexp that re cannot parse": ('start: "a" «/a(b/»', "unterminated subpattern"),
    "an alternative that re cannot parse": ('start: A\nA: "a" | «/[a/»', "unterminated character set"),
    "a part that re cannot parse": ('start: A\nA: "a" «/[a/» "b"', "unterminated character set"),
    "a terminal of nothing": ("start: A\n«A»:", "terminal A is empty"),
    "a range of strings": ('start: «"aa"».."z"', "a range needs one character"),
    "an empty range": ('start: A\nA: «"z"».."a"', "the range 'z' to 'a' is empty"),
    "a lone surrogate": (r'start: «"\ud800"»', "a surrogate is not a character"),
    "bare alternatives in a sequence": ('start: A\nA: «/a|b/» "c"', "Lark would take what stands next to"),
    "look-ahead beyond the terminal": ("start: «/a(?!b)/» /./", LOOK + " behind"),
    "look-behind beyond the terminal": ("start: /./ «/(?<!a)b/»", LOOK + " before"),
    "look-ahead in a part": ('start: A\nA: "a" «/b(?=c)/» "d"?', LOOK + " behind"),
    "a word boundary": (r"start: «/if\b/» NAME" + "\nNAME: /a/", "word boundary"),
    "an anchor": ("start: «/^a$/»", "an anchor"),
    "a back-reference": (r"start: «/(a|b)\1/»", "a back-reference is not a regular language"),
    "an atomic group": ("start: «/(?>ab?)c/»", "not supported in a terminal"),
    "no start": ('«begin: "a"»', "the grammar has no rule 'start'"),
    "nothing": ("«»", "the grammar has no rule 'start'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_grammar_is_refused_with_line_column_span_and_hint(case: str) -> None:
    marked, reason = REFUSED[case]
    grammar = marked.replace("«", "").replace("»", "")
    start = marked.index("«")
    end = marked.index("»") - 1
    with pytest.raises(ConstraintError) as refusal:
        compile_lark(grammar)
    error = refusal.value
    line, column = grammar[:start].count("\n") + 1, start - grammar.rfind("\n", 0, start)
    assert reason in error.reason
    assert error.reason.startswith(f"line {line}, column {column}: ")
    assert error.span == (start, end)
    assert error.hint
    assert error.source == grammar


def test_a_start_that_is_no_rule_is_refused() -> None:
    grammar = 'begin: "a"\nBEGIN: "b"'
    with pytest.raises(ConstraintError, match="did you mean begin"):
        compile_lark(grammar, start="begins")
    with pytest.raises(ConstraintError, match="the grammar has no rule 'BEGIN'"):
        compile_lark(grammar, start="BEGIN")
    assert accepts(compile_lark(grammar, start="begin"), b"a")


def test_an_unknown_value_of_keywords_is_refused() -> None:
    with pytest.raises(ArgumentError, match="must be 'free' or 'reserved'"):
        compile_lark('start: "a"', keywords="some")


@pytest.mark.parametrize("grammar", ['x: "a"\nstart: "b" start', 'start: "(" y\ny: "b" start "a" | start'])
def test_a_rule_that_can_never_end_is_unsatisfiable(grammar: str) -> None:
    with pytest.raises(UnsatisfiableError, match="no finite text") as refusal:
        compile_lark(grammar)
    assert refusal.value.span is not None
    assert grammar[slice(*refusal.value.span)] == "start"


def test_too_deep_nesting_is_refused() -> None:
    depth = 20_000
    with pytest.raises(ConstraintError, match="nested too deeply"):
        compile_lark(f'start: {"(" * depth}"a"{")" * depth}')


# -- files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "words.lark").write_text('WORD: LETTER+\nLETTER: "a".."c"\npair: WORD "-" WORD\n', "utf-8")
    (tmp_path / "main.lark").write_text('start: pair (":" pair)*\n%import .words (pair, WORD)\n', "utf-8")
    (tmp_path / "bad.lark").write_text("x: (\n", "utf-8")
    (tmp_path / "worse.lark").write_text("%import .nowhere.A\nx: A\n", "utf-8")
    return tmp_path


def test_a_file_may_import_from_its_own_folder(folder: Path) -> None:
    rule = genctl.lark(folder / "main.lark")
    assert rule.accepts("ab-c:a-a")
    assert not rule.accepts("ab-d")
    assert rule.value("ab-c") == "ab-c"
    assert repr(rule) == f"Language({(folder / 'main.lark').read_text()!r})"


def test_a_text_imports_from_the_import_paths_and_never_from_the_current_directory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    for dot in ".", "":
        grammar = f"start: WORD\n%import {dot}words.WORD"
        assert genctl.lark(grammar, import_paths=[str(folder)]).accepts("abc")
        with pytest.raises(ConstraintError, match="there is no such file"):
            genctl.lark(grammar)


def test_what_is_wrong_with_an_imported_file_is_said_at_the_import(folder: Path) -> None:
    for name, reason in ("bad", "unexpected input in its line 1, column 5"), ("worse", "cannot import nowhere.lark"):
        grammar = f"start: y\n%import .{name}.x -> y"
        with pytest.raises(ConstraintError, match=reason) as refusal:
            genctl.lark(grammar, import_paths=[folder])
        assert refusal.value.span == (9, len(grammar))


def test_what_cannot_be_honoured_in_an_imported_file_is_said_at_the_import(tmp_path: Path) -> None:
    (tmp_path / "look.lark").write_text("A: /a(?!b)/\nB: A\n", "utf-8")
    grammar = "start: B\n%import .look.B"
    with pytest.raises(ConstraintError, match="look-around can see the text behind") as refusal:
        genctl.lark(grammar, import_paths=[tmp_path])
    assert refusal.value.span == (9, len(grammar))


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConstraintError, match=r"cannot read .*none\.lark"):
        genctl.lark(tmp_path / "none.lark")
    (tmp_path / "latin.lark").write_bytes(b'start: "\xe9"')
    with pytest.raises(ConstraintError, match="no UTF-8 from byte 8 on"):
        genctl.lark(tmp_path / "latin.lark")
    with pytest.raises(ConstraintError, match="the name of a file, not a grammar"):
        genctl.lark(str(tmp_path / "none.lark"))
    with pytest.raises(ConstraintError, match=r"must be str or pathlib\.Path"):
        genctl.lark(b"start: A")


def test_a_name_is_that_of_a_grammar_that_ships_with_genctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, repository = tmp_path / "package", tmp_path / "repository"
    for place in package, repository:
        place.mkdir()
    (repository / "semver-2.lark").write_text('start: "a"', "utf-8")
    (repository / "sums.lark").write_text('start: "b"', "utf-8")
    (package / "sums.lark").write_text('start: "c"', "utf-8")
    monkeypatch.setattr(files, "_SHIPPED", (package, repository))
    assert genctl.lark("semver-2").accepts("a")
    assert genctl.lark("sums").accepts("c")
    with pytest.raises(ConstraintError, match="did you mean sums"):
        genctl.lark("sum")
    with pytest.raises(ConstraintError, match="there are semver-2, sums"):
        genctl.lark("nothing")


# -- grammars that come with packages

LARK_FOLDER = Path(lark_package.__file__).parent / "grammars"
PACKAGED = {
    ("python", "file_input"): "terminal _INDENT is declared without a pattern",
    ("python", "eval_input"): LOOK + " behind",
    ("python", "name"): None,
    ("python", "testlist"): LOOK + " behind",
    ("python", "async_stmt"): "terminal _INDENT is declared without a pattern",
    ("lark", "start"): LOOK + " behind",
    ("lark", "rule_params"): None,
    ("lark", "import_path"): None,
}


@pytest.mark.parametrize(("name", "start"), PACKAGED)
def test_a_grammar_of_lark_compiles_or_is_refused_for_the_right_reason(name: str, start: str) -> None:
    reason = PACKAGED[name, start]
    path = LARK_FOLDER / f"{name}.lark"
    if reason is None:
        assert genctl.lark(path, start=start).automaton.start != DEAD
        return
    with pytest.raises(ConstraintError, match=reason) as refusal:
        genctl.lark(path, start=start)
    assert refusal.value.span is not None


def test_sympys_grammar_of_latex_has_the_texts_that_lark_parses() -> None:
    path = Path(pytest.importorskip("sympy").__file__).parent / "parsing/latex/lark/grammar/latex.lark"
    grammar = path.read_text("utf-8")
    automaton = genctl.lark(path, start="latex_string").automaton
    parser = Lark(grammar, parser="earley", lexer="dynamic_complete", start="latex_string", import_paths=[path.parent])
    for text in LATEX:
        assert accepts(automaton, text.encode()) == parses(parser, text), text


LATEX = [
    r"\frac{a}{b}",
    r"x_{1} + \sqrt{2}",
    r"\int x^2 dx",
    r"\lim_{x \to 0} \sin x",
    r"a = = b",
    r"\frac{a}",
    r"\sum_{i=0}^{n} i",
    r"(a + b",
    r"2 \times (3 - \left( y \right) )",
]
