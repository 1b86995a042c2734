"""Laws of the Constraint protocol, for every implementation."""

from __future__ import annotations

import numpy as np
import pytest

from genctl.automata.product import Product
from genctl.compilers.json_schema import compile_json_schema
from genctl.compilers.json_schema.partial import WholeValues
from genctl.compilers.regex import compile_regex
from genctl.constraints.automaton import AutomatonConstraint
from genctl.constraints.base import unpack, words
from genctl.constraints.both import Both
from genctl.constraints.budget import Budget, within
from genctl.constraints.canonical import CanonicalConstraint
from genctl.constraints.checked import Checked, Checks
from genctl.constraints.predicate import Manner, PredicateConstraint
from genctl.vocabulary import Vocabulary
from tests import naive

# Duplicate spellings (a: 0 and 9), two end-of-text ids, a control token, an unused id, split UTF-8 (é = c3 a9), JSON.
VOCABULARY = Vocabulary(
    (
        b"a",
        b"b",
        b"ab",
        b"ba",
        b"aab",
        b"",
        b"",
        b"",
        b"\xc3",
        b"a",
        b"\xa9",
        b"abab",
        b"c",
        b'{"',
        b'":{',
        b'1,"',
        b'"a":1',
        b',"a"',
        b'"',
        b"}",
        b"[1",
        b",1",
        b",",
        b"]",
        b"\\",
        b"u0061",
        b" a",
        b"\n",
    ),
    eos=frozenset({5, 6}),
    unused=frozenset({7}),
)
SIZE = len(VOCABULARY)


def even(text: str, done: bool) -> bool:
    return not done or len(text) % 2 == 0


def few_bs(text: str, done: bool) -> float:
    return -0.5 * text.count("b") if text.count("b") < 3 else float("-inf")


def even_each(texts: list[str], done: list[bool]) -> list[bool]:
    return [even(text, end) for text, end in zip(texts, done, strict=True)]


def few_bs_each(texts: list[str], done: list[bool]) -> np.ndarray:
    return np.array([few_bs(text, end) for text, end in zip(texts, done, strict=True)])


def short_words(text: str, done: bool) -> bool:
    return all(len(word) < 3 for word in text.split())


def even_bytes(text: bytes, done: bool) -> bool:
    return not text.endswith(b"\xc3\xa9") and (not done or len(text) % 2 == 0)


def asked(function, *manner) -> PredicateConstraint:
    return PredicateConstraint(function, VOCABULARY, Manner(*manner))


def spaced(*predicates: PredicateConstraint) -> Both:
    return Both([by_automaton("[ab \\n]{0,6}|\\s?é"), *predicates])


def by_automaton(pattern: str) -> AutomatonConstraint:
    return AutomatonConstraint(compile_regex(pattern), VOCABULARY)


def by_checks(schema: object = None) -> Checked:
    judges = () if schema is None else (WholeValues(schema),)
    language = AutomatonConstraint(compile_json_schema(True, whitespace="compact"), VOCABULARY)
    return Checked(language, Checks(True, judges))


def canonical() -> CanonicalConstraint:
    """Byte-level BPE with some tokens of the vocabulary. Of two tokens with the same bytes it has the first."""
    tokenizers = pytest.importorskip("tokenizers")
    spelled = {"a": 0, "b": 1, "ab": 2, "ba": 3, "aab": 4, "Ã": 8, "©": 10, "abab": 11, "c": 12, "u0061": 25, "Ġa": 26}
    model = tokenizers.models.BPE(spelled, [("a", "b"), ("b", "a"), ("a", "ab"), ("ab", "ab")])
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    return CanonicalConstraint(VOCABULARY, tokenizer)


def canonical_with_byte_fallback() -> CanonicalConstraint:
    """BPE of characters, of which "é" and "\n" are spelled by bytes. Nothing else is: id 9 is never written."""
    tokenizers = pytest.importorskip("tokenizers")
    spelled = {"a": 0, "b": 1, "ab": 2, "ba": 3, "aab": 4, "<0xC3>": 8, "<0x61>": 9, "<0xA9>": 10, "abab": 11, "c": 12}
    spelled |= {"▁a": 26, "<0x0A>": 27}
    merges = [("a", "b"), ("b", "a"), ("a", "ab"), ("ab", "ab")]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(spelled, merges, byte_fallback=True))
    tokenizer.normalizer = tokenizers.normalizers.Replace(" ", "▁")
    tokenizer.decoder = tokenizers.decoders.Replace("▁", " ")
    return CanonicalConstraint(VOCABULARY, tokenizer)


CONSTRAINTS = {
    "automaton": lambda: by_automaton("(a|bé?){1,6}"),
    "inside a loop": lambda: by_automaton("[^c]{2,4}c[^c]*"),
    "in a loop, or not": lambda: by_automaton("(a?b|[^c]{1,3}c|[^ab]{1,70})+"),
    "product": lambda: AutomatonConstraint(Product(compile_regex("(aa|b)*"), compile_regex(".{2,5}")), VOCABULARY),
    "predicate": lambda: PredicateConstraint(even, VOCABULARY),
    "both": lambda: Both([by_automaton("[ab]{0,5}"), PredicateConstraint(even, VOCABULARY)]),
    "two predicates": lambda: Both([PredicateConstraint(few_bs, VOCABULARY), PredicateConstraint(even, VOCABULARY)]),
    "budget": lambda: Budget(by_automaton("(a|bé?){1,6}"), 4),
    "tight budget": lambda: Budget(by_automaton("(ab){2,}c|(aab){5}|b"), 2),
    "budget & predicate": lambda: Both([Budget(by_automaton("[ab]{3,9}"), 3), PredicateConstraint(even, VOCABULARY)]),
    "budget too small for any text": lambda: Budget(by_automaton("c{5}"), 4),
    "no key twice": lambda: by_checks(),
    "no key twice in time": lambda: within(by_checks(), 5)[0],
    "checked values": lambda: by_checks({"uniqueItems": True, "maxProperties": 2, "properties": {"a": {"minimum": 2}}}),
    "checked values in time": lambda: within(by_checks({"uniqueItems": True, "required": ["a"]}), 4)[0],
    "checks & predicate": lambda: Both([by_checks({"uniqueItems": True}), PredicateConstraint(even, VOCABULARY)]),
    "predicate by batch": lambda: spaced(asked(even_each, "prefix", True)),
    "predicate of bytes": lambda: spaced(asked(even_bytes, "prefix", False, None, bytes)),
    "predicate by threads": lambda: spaced(asked(even, "prefix", False, 3)),
    "two predicates by batch": lambda: spaced(asked(few_bs_each, "prefix", True), asked(even_each, "text", True)),
    "predicate of words": lambda: spaced(asked(short_words, "words")),
    "predicate of lines": lambda: spaced(asked(short_words, "lines", False, 2)),
    "predicate of whole texts, and of words": lambda: spaced(asked(even, "text"), asked(few_bs_each, "words", True)),
    "canonical": canonical,
    "canonical, with byte fallback": canonical_with_byte_fallback,
    "dead from the start": lambda: PredicateConstraint(lambda text, done: False, VOCABULARY),
}


@pytest.fixture(params=CONSTRAINTS, ids=str)
def constraint(request):
    return CONSTRAINTS[request.param]()


def reachable(constraint, depth=3) -> set[int]:
    found = {constraint.start()}
    for _ in range(depth):
        found |= {constraint.advance(s, t) for s in found - {0} for t in range(SIZE) if t not in VOCABULARY.eos}
    return found


def test_the_mask_is_allows_of_every_token(constraint):
    for state in reachable(constraint):
        packed = np.full(words(SIZE), 0xFFFFFFFF, np.uint32)
        constraint.mask(state, packed)
        np.testing.assert_array_equal(unpack(packed, SIZE), naive.mask(constraint, state, SIZE))


def test_many_pairs_are_allowed_as_they_are_one_by_one(constraint):
    pairs = [(state, token) for state in reachable(constraint, 2) | {0} for token in range(SIZE)]
    np.random.default_rng(1).shuffle(pairs)
    states, tokens = np.array(pairs, np.int64).T.copy()
    expected = [constraint.allows(state, token) for state, token in pairs]
    np.testing.assert_array_equal(constraint.allows_each(states, tokens), expected)


def test_of_a_constraint_that_was_asked_nothing_before_the_verdicts_are_the_same(constraint, request):
    states = np.full(SIZE, constraint.start())
    fresh = CONSTRAINTS[request.node.callspec.params["constraint"]]()
    assert fresh.start() == constraint.start()
    np.testing.assert_array_equal(
        fresh.allows_each(states, np.arange(SIZE)), naive.mask(constraint, constraint.start(), SIZE)
    )


def test_of_no_pairs_there_are_no_verdicts(constraint):
    none = np.empty(0, np.int64)
    assert constraint.allows_each(none, none).tolist() == []


def test_the_mask_has_no_bit_beyond_the_vocabulary(constraint):
    for state in reachable(constraint):
        packed = np.full(words(SIZE), 0xFFFFFFFF, np.uint32)
        constraint.mask(state, packed)
        assert not unpack(packed, 32 * words(SIZE))[SIZE:].any()


def test_the_candidates_contain_every_allowed_token(constraint):
    for state in reachable(constraint):
        candidates = constraint.candidates(state)
        if candidates is not None:
            assert not (naive.mask(constraint, state, SIZE) & ~unpack(candidates, SIZE)).any()


def test_advance_is_dead_exactly_where_a_token_is_not_allowed(constraint):
    for state in reachable(constraint):
        for token in set(range(SIZE)) - VOCABULARY.eos:
            assert (constraint.advance(state, token) != 0) == constraint.allows(state, token)


def test_the_text_may_end_exactly_where_it_is_complete(constraint):
    for state in reachable(constraint):
        assert {constraint.allows(state, token) for token in VOCABULARY.eos} == {constraint.complete(state)}


def test_tokens_without_bytes_are_never_allowed(constraint):
    empty = [t for t in range(SIZE) if VOCABULARY.tokens[t] == b"" and t not in VOCABULARY.eos]
    assert not any(constraint.allows(state, token) for state in reachable(constraint) for token in empty)


# All but what is about which tokens spell a text.
@pytest.mark.parametrize("constraint", [name for name in CONSTRAINTS if "canonical" not in name], indirect=True)
def test_tokens_with_the_same_bytes_lead_to_the_same_state(constraint):
    for state in reachable(constraint):
        assert constraint.advance(state, 0) == constraint.advance(state, 9)


def test_nothing_is_allowed_in_the_dead_state(constraint):
    assert not naive.mask(constraint, 0, SIZE).any()
    assert not constraint.complete(0)


def test_an_allowed_text_has_a_potential_above_minus_infinity(constraint):
    for state in reachable(constraint) - {0}:
        assert constraint.log_potential(state, done=False) > -np.inf
        assert constraint.log_potential(state, done=True) > -np.inf or not constraint.complete(state)
