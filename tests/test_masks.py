"""Masks that are put together, against the checks of their tokens one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import genctl
from genctl.automata.pushdown import GrammarAutomaton
from genctl.compilers.json_schema import compile_json_schema
from genctl.compilers.regex import compile_regex, pattern_expression
from genctl.constraints.automaton import AutomatonConstraint
from genctl.constraints.base import unpack
from genctl.kernels.configurations import fill_row
from genctl.kernels.records import UNKNOWN
from genctl.vocabulary import Vocabulary
from tests import naive

OBJECT = {"type": "object", "properties": {"ab": {"type": "string", "maxLength": 3}, "abc": {"enum": ["ab", "é\n"]}}}
LANGUAGES = {
    "closed": lambda: compile_regex('"[^"]*"'),
    "closed, at least two": lambda: compile_regex('"[^"]{2,}"b'),
    "closed, at most four": lambda: compile_regex('"[^"]{1,4}"'),
    "what follows begins like a round": lambda: compile_regex("[^b]*a+[^b]*"),
    "the same, at most three": lambda: compile_regex("(?:[^b]{0,3}ac){2}"),
    "other items begin like a round": lambda: compile_regex('"[^"]*"|"ab(?:b|")|"a[^b]{2}c'),
    "characters of several bytes": lambda: compile_regex('(?:"[^"]{0,70}"c?)*'),
    "loops in loops": lambda: compile_regex('(?:[^"b]{2,5}b?){1,3}"'),
    "names": lambda: compile_json_schema(OBJECT),
    "names alone": lambda: compile_json_schema(OBJECT | {"additionalProperties": False}),
    "names of a pattern": lambda: compile_json_schema(OBJECT | {"patternProperties": {"a.?b": {"type": "string"}}}),
    "an end somewhere": lambda: compile_regex('(?:[^"b]|b[^"a])*ba"?'),
    "a word that must not come": lambda: compile_json_schema({"type": "string", "not": {"enum": ["ab", "aé"]}}),
    "a pattern somewhere": lambda: compile_json_schema({"type": "string", "pattern": "ab|a.c"}),
}
PIECES = ["a", "b", "c", '"', "é", "漢", "\\", "\\u", "0061", "\\n", '":', '","', "{", "}", " ", "ab", "aaaa", "\n"]

texts = st.lists(st.sampled_from(PIECES), min_size=1, max_size=5).map(lambda pieces: "".join(pieces).encode())
cuts = st.tuples(texts, st.integers(0, 2)).map(lambda cut: cut[0][cut[1] :])
vocabularies = st.lists(cuts, min_size=20, max_size=60).map(
    lambda cut: Vocabulary((*(p.encode() for p in PIECES), *cut, b"", b"a"), frozenset({len(PIECES) + len(cut)}))
)


@pytest.mark.parametrize("language", LANGUAGES)
@given(vocabularies, st.lists(st.integers(0, 2**16), max_size=8))
def test_the_mask_is_the_check_of_every_token_along_random_texts(language, vocabulary, choices):
    constraint, checks = (AutomatonConstraint(LANGUAGES[language](), vocabulary) for _ in range(2))
    state, checked = constraint.start(), checks.start()
    for choice in [*choices, 0]:
        allowed = unpack(constraint.candidates(state), len(vocabulary))
        np.testing.assert_array_equal(allowed, naive.mask(checks, checked, len(vocabulary)))
        ways = [t for t in np.flatnonzero(allowed).tolist() if t not in vocabulary.eos]
        if not ways:
            break
        token = ways[choice % len(ways)]
        state, checked = constraint.advance(state, token), checks.advance(checked, token)


def test_masks_stay_right_where_the_arrays_of_the_engine_are_short(monkeypatch):
    monkeypatch.setattr("genctl.automata.engine._ROOMS", (8, 8, 8, 8, 32, 32, 8, 2, 8, 2, 8, *(8,) * 7, 256))
    vocabulary = Vocabulary((*(p.encode() for p in PIECES), b'aa"b', b'a":"b', b"<e>"), frozenset({len(PIECES) + 2}))
    for make in LANGUAGES.values():
        constraint = AutomatonConstraint(make(), vocabulary)
        states = {constraint.start()}
        for _ in range(3):
            states |= {constraint.advance(s, t) for s in states - {0} for t in range(len(vocabulary) - 1)}
        for state in states - {0}:
            np.testing.assert_array_equal(
                unpack(constraint.candidates(state), len(vocabulary)), naive.mask(constraint, state, len(vocabulary))
            )


@pytest.mark.parametrize("pattern", ["[^a]{2,4}b", "(a|b)*abb", "x(?:é|漢)+", '"[^"]*"|a*'])
def test_filling_a_row_is_stepping_through_all_bytes(pattern):
    filled, stepped = (GrammarAutomaton(pattern_expression(pattern)) for _ in range(2))
    states, others = [filled.start], [stepped.start]
    for state, other in zip(states, others, strict=True):  # they grow
        while fill_row(filled.machine.next, *filled.machine[2:], state):
            filled.extend(-3)
        row = filled.machine.next[state][filled.machine.classes]
        assert UNKNOWN not in row
        for byte, target in enumerate(row.tolist()):
            there = stepped.step(other, byte)
            assert (target == 0) == (there == 0)
            if target and target not in states:
                states.append(target)
                others.append(there)
    assert len(set(others)) == len(others)


def test_a_schema_with_a_large_product_compiles_without_building_it_in_python():
    pattern = "^(?!.*--)(?!-)[a-z0-9-]{1,300}(?<!-)$"
    rule = genctl.json({"type": "string", "pattern": pattern, "minLength": 5, "maxLength": 250})
    assert rule.accepts('"ab-cd"')
    assert not rule.accepts('"ab--d"')
    assert not rule.accepts('"ab-c"')


PLAIN = Vocabulary((b"a", b"b", b"ab", b""), frozenset({3}))


def test_states_with_equal_masks_share_one() -> None:
    constraint, other = (AutomatonConstraint(compile_regex(pattern), PLAIN) for pattern in ("a{5}b", "a{3}"))
    after = constraint.advance(constraint.start(), 0)
    assert after != constraint.start()
    assert constraint.candidates(after) is constraint.candidates(constraint.start())
    assert constraint.candidates(after) is other.candidates(other.start())


@pytest.mark.parametrize(("name", "value"), [("MASK_CACHE_BYTES", 1), ("digest", lambda mask: 0)])
def test_masks_are_right_where_none_are_kept_and_where_all_have_one_hash(monkeypatch, name, value):
    monkeypatch.setattr(f"genctl.constraints.automaton.{name}", value)
    constraint = AutomatonConstraint(compile_regex("(?:ab|ba{2}){2}"), PLAIN)
    states = [constraint.start()]
    for token in (0, 1, 1, 0, 0):
        states.append(constraint.advance(states[-1], token))
    for state in [*states, *states]:
        allowed = unpack(constraint.candidates(state), len(PLAIN))
        np.testing.assert_array_equal(allowed, naive.mask(constraint, state, len(PLAIN)))
