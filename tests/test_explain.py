"""Verdicts name the place and what could have stood there; random sentences obey; forced text and tokens are forced."""

from __future__ import annotations

import random
from itertools import product

import numpy as np
import pytest

import genctl
from genctl.automata.base import DEAD, accepts, next_bytes, run
from genctl.automata.expressions import Bytes, Call, Literal, concat, optional, repeat, union
from genctl.automata.product import Product
from genctl.automata.pushdown import GrammarAutomaton
from genctl.compilers.regex import compile_regex
from genctl.constraints.automaton import AutomatonConstraint
from genctl.constraints.budget import Budget
from genctl.constraints.explain import byte_ranges, explain
from genctl.constraints.forced import forced_bytes, forced_tokens
from genctl.constraints.predicate import PredicateConstraint
from genctl.constraints.sentences import PRINTABLE, sample
from genctl.vocabulary import Vocabulary

LISTS = {"list": concat(Literal(b"["), optional(concat(Call("item"), repeat(concat(Literal(b","), Call("item"))))))}
LISTS["list"] = concat(LISTS["list"], Literal(b"]"))
LISTS["item"] = union(Call("list"), Bytes(((0x30, 0x39),)))

AUTOMATA = {
    "date": lambda: compile_regex("[0-9]{4}-[0-9]{2}"),
    "lists": lambda: GrammarAutomaton(Call("list"), LISTS),
    "characters of all lengths": lambda: compile_regex("[α-ω🙂a]+é"),
    "lines": lambda: compile_regex("(one\n|two\n)+three"),
    "look-ahead": lambda: compile_regex("(?!aa)[ab]+b"),
    "product": lambda: Product(compile_regex("(ab|ba)+"), compile_regex(".{4,8}")),
    "control characters": lambda: compile_regex("\x00(\x01|\t)*\x02"),
    "json": lambda: genctl.json({"type": "object", "properties": {"a": {"type": "integer"}}}).automaton,
    "one text": lambda: compile_regex("abc"),
}


@pytest.fixture(params=AUTOMATA, ids=str)
def automaton(request):
    return AUTOMATA[request.param]()


# -- verdicts


@pytest.mark.parametrize(
    ("pattern", "text", "place", "found", "expected"),
    [
        ("[0-9]{4}", "20x6", (2, 1, 3), "x", ("'0'-'9'",)),
        ("[0-9]{4}", "20", (2, 1, 3), "", ("'0'-'9'",)),
        ("(a+\n)*b", "aa\na\nx", (5, 3, 1), "x", ("'a'-'b'",)),
        ("é+!", "ééx", (4, 1, 3), "x", ("'!'", "\\xc3")),
        ("é+!", "éè!", (3, 1, 2), "è", ("\\xa9",)),
        ("🙂b", "🙂🙂", (4, 1, 2), "🙂", ("'b'",)),
        ("a?", "ab", (1, 1, 2), "b", ("the end of the text",)),
        ("a*", "aab", (2, 1, 3), "b", ("'a'", "the end of the text")),
        ("a*", "a\ud800", (1, 1, 2), "\ud800", ("'a'", "the end of the text")),
    ],
)
def test_a_verdict_says_where_a_text_leaves_the_language_and_what_was_expected(pattern, text, place, found, expected):
    verdict = explain(compile_regex(pattern), text)
    assert (verdict.offset, verdict.line, verdict.column) == place
    assert (verdict.found, verdict.expected) == (found, expected)
    assert verdict.status == ("rejected" if found else "incomplete")
    assert f"line {place[1]}, column {place[2]}" in str(verdict)


def test_what_was_read_with_the_completion_behind_it_is_accepted(automaton):
    rng = np.random.default_rng(0)
    for _ in range(30):
        text = sample(automaton, rng).decode()
        cut = text[: rng.integers(len(text) + 1)]
        broken = cut + random.Random(cut).choice("x☃]a")
        for given in (text, cut, broken):
            verdict = explain(automaton, given)
            read = given.encode()[: verdict.offset] + verdict.completion.encode()
            assert "\ufffd" in verdict.completion or accepts(automaton, read)
            assert (verdict.status == "accepted") == accepts(automaton, given.encode())
            if verdict.status == "rejected":
                state = run(automaton, automaton.start, given.encode()[: verdict.offset])
                assert automaton.step(state, given.encode()[verdict.offset]) == DEAD


def test_the_rules_of_a_grammar_are_named_where_they_may_begin():
    automaton = GrammarAutomaton(Call("list"), LISTS)
    assert explain(automaton, "[1x").expected == ("','", "']'")
    assert set(explain(automaton, "[1,x").expected) >= {"item"}
    assert set(explain(automaton, "[x").expected) >= {"item", "']'"}
    assert "expected list" in str(explain(automaton, "x"))


@pytest.mark.parametrize(
    ("members", "ranges"), [(b"", []), (b"a", ["'a'"]), (b"abcx", ["'a'-'c'", "'x'"]), (b"\x7f\x80", ["'\\x7f'-\\x80"])]
)
def test_bytes_are_shown_as_ranges(members, ranges):
    assert byte_ranges(members) == ranges


# -- random sentences


def test_a_random_sentence_obeys_wherever_it_begins(automaton):
    rng = np.random.default_rng(1)
    for _ in range(40):
        text = sample(automaton, rng)
        assert accepts(automaton, text)
        assert text.decode()  # whole characters
        cut = text[: rng.integers(len(text) + 1)]
        rest = sample(automaton, rng, state=run(automaton, automaton.start, cut))
        assert accepts(automaton, cut + rest)


@pytest.mark.parametrize("size", [0, 5, 30])
def test_a_random_sentence_goes_home_by_a_shortest_way_after_its_size(automaton, size):
    rng = np.random.default_rng(2)
    for _ in range(20):
        text = sample(automaton, rng, size=size)
        state = run(automaton, automaton.start, text[:size])
        assert len(text) == len(text[:size]) + automaton.distance(state) or len(text) < size


def test_random_sentences_are_printable_and_different_where_that_is_possible():
    rng = np.random.default_rng(3)
    texts = {sample(compile_regex("(.|\n){3,40}"), rng) for _ in range(50)}
    assert len(texts) > 45
    assert all(set(text) <= PRINTABLE for text in texts)
    assert len({sample(GrammarAutomaton(Call("list"), LISTS), rng) for _ in range(50)}) > 15


def test_the_same_seed_gives_the_same_sentence(automaton):
    first, again = (sample(AUTOMATA["json"](), np.random.default_rng(4)) for _ in range(2))
    assert first == again


def test_the_dead_state_has_no_sentence():
    assert sample(compile_regex("a"), np.random.default_rng(0), state=DEAD) == b""


# -- what is forced


def test_forced_bytes_begin_every_rest_of_a_text_and_are_as_many_as_can_be(automaton):
    rng = np.random.default_rng(5)
    for _ in range(20):
        text = sample(automaton, rng)
        state = run(automaton, automaton.start, text[: rng.integers(len(text) + 1)])
        forced = forced_bytes(automaton, state)
        for end in range(len(forced)):
            assert not automaton.accepts(run(automaton, state, forced[:end]))
            assert next_bytes(automaton, run(automaton, state, forced[:end])) == forced[end : end + 1]
        behind = run(automaton, state, forced)
        assert automaton.accepts(behind) or len(next_bytes(automaton, behind)) > 1


def test_forced_bytes_end_at_the_limit_and_where_the_text_may_end():
    automaton = compile_regex("a{9}(bc)?")
    assert forced_bytes(automaton, automaton.start, limit=4) == b"aaaa"
    assert forced_bytes(automaton, automaton.start) == b"a" * 9
    assert forced_bytes(automaton, run(automaton, automaton.start, b"a" * 9 + b"b")) == b"c"
    assert forced_bytes(automaton, DEAD) == b""


def test_a_token_is_forced_where_it_alone_is_allowed():
    vocabulary = Vocabulary((b"a", b"b", b"c", b"ab", b"d", b"d", b""), frozenset({6}))
    size = len(vocabulary)

    def forced(pattern: str) -> list[int]:
        constraint = AutomatonConstraint(compile_regex(pattern), vocabulary)
        return forced_tokens(constraint, constraint.start(), size)

    assert forced("bcc") == [1, 2, 2]
    assert forced("abc") == []  # "a" and "ab"
    assert forced("bd") == [1]  # two tokens are "d"
    assert forced("b[cx]b?") == [1, 2]  # no token is "x"
    assert forced("bc*") == [1]  # the text may end
    constraint = Budget(AutomatonConstraint(compile_regex("a{3,9}|ab"), vocabulary), 2)
    assert forced_tokens(constraint, constraint.start(), size) == []
    constraint = Budget(AutomatonConstraint(compile_regex("a{3,9}|ab"), vocabulary), 1)
    assert forced_tokens(constraint, constraint.start(), size) == [3]
    endless = PredicateConstraint(lambda text, done: not done and set(text) <= {"b"}, vocabulary)
    assert forced_tokens(endless, endless.start(), size, limit=7) == [1] * 7


def test_tokens_that_are_forced_spell_forced_bytes_if_every_byte_is_a_token():
    singles = tuple(bytes((byte,)) for byte in range(256))
    vocabulary = Vocabulary((*singles, b"ab", b"bc", b"[[", b""), frozenset({259}))
    for pattern in ("abc[0-9]", "a{3}(bc|d)", "xy*z", "(cab|cad)e"):
        automaton = compile_regex(pattern)
        constraint = AutomatonConstraint(automaton, vocabulary)
        for text in map(bytes, product(b"abcx", repeat=2)):
            state = run(automaton, automaton.start, text)
            spelled = vocabulary.join(forced_tokens(constraint, state, len(vocabulary)))
            assert forced_bytes(automaton, state).startswith(spelled)
