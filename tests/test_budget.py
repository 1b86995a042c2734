"""The budget of tokens: every text ends complete when one can, and otherwise the law is left as it was."""

from __future__ import annotations

import math
import random
from functools import cache

import numpy as np
import pytest

import genctl
from genctl.automata.base import UNREACHABLE, run
from genctl.automata.expressions import EMPTY, Bytes, Call, Expression, Literal, concat, repeat, union
from genctl.automata.pushdown import GrammarAutomaton
from genctl.compilers.regex import compile_regex
from genctl.constraints import fewest
from genctl.constraints.automaton import AutomatonConstraint
from genctl.constraints.base import unpack
from genctl.constraints.budget import Budget, within
from genctl.constraints.predicate import PredicateConstraint
from genctl.constraints.rules import Language
from genctl.kernels.budget import heights
from genctl.models.toy import ToyModel
from genctl.results import FINISHED
from genctl.trie import Tokens
from genctl.vocabulary import Vocabulary
from tests import naive
from tests.statistics import assert_mean

LETTERS = Vocabulary((b"a", b"b", b"ab", b"ba", b"aab", b"abab", b""), eos=frozenset({6}))
MODEL = ToyModel.random(LETTERS, order=2, seed=0)
LONGEST = 4


def constraint_of(pattern: str, vocabulary: Vocabulary = LETTERS) -> AutomatonConstraint:
    return AutomatonConstraint(compile_regex(pattern), vocabulary)


# -- random grammars and vocabularies


def expression(rng: random.Random, leaves: list[Expression], depth: int) -> Expression:
    if depth == 0 or rng.random() < 0.2:
        return rng.choice(leaves)
    kind = rng.choice(["concat", "union", "repeat"])
    if kind == "repeat":
        least = rng.randint(0, 4)
        return repeat(expression(rng, leaves, depth - 1), least, rng.choice([None, least + rng.randint(0, 3)]))
    parts = [expression(rng, leaves, depth - 1) for _ in range(rng.randint(2, 3))]
    return concat(*parts) if kind == "concat" else union(*parts)


def grammar(rng: random.Random, words: tuple[bytes, ...]) -> GrammarAutomaton:
    """Recursive, each call behind a byte; nothing that is empty."""
    leaves = [EMPTY, *map(Literal, words), Bytes(((0x61, 0x62),)), Call("r"), Call("s")]
    while True:
        rules = {name: concat(Literal(rng.choice(words)), expression(rng, leaves, 2)) for name in ("r", "s")}
        automaton = GrammarAutomaton(expression(rng, leaves, 3), rules)
        if automaton.start:
            return automaton


def toy_vocabulary(rng: random.Random) -> Vocabulary:
    """Often without a token for some letter."""
    lengths = [rng.choice([1, 1, 2, 2, 3, 5]) for _ in range(rng.randint(2, 9))]
    tokens = sorted({bytes(rng.choices(b"abc", k=length)) for length in lengths})
    return Vocabulary((*tokens, b""), frozenset({len(tokens)}))


TOY_WORDS = (b"a", b"b", b"c", b"ab", b"bca")
REAL_WORDS = (b"a", b"b", b" the", b"{}", b"\n\n", b"caf\xc3\xa9", b"\x04", b'":"', b"\xf0\x9f\x99\x82")


def pair(seed: int) -> tuple[GrammarAutomaton, Vocabulary]:
    rng = random.Random(seed)
    return grammar(rng, TOY_WORDS), toy_vocabulary(rng)


# -- the number of tokens


def test_the_fewest_tokens_are_those_of_a_search_over_all_tokens():
    limit = 6
    for seed in range(250):
        automaton, vocabulary = pair(seed)
        constraint = AutomatonConstraint(automaton, vocabulary)
        tokens = range(len(vocabulary) - 1)
        states = {automaton.start} | {constraint.advance(automaton.start, t) for t in tokens} - {0}
        for state in states:
            exact = naive.fewest_tokens(constraint, vocabulary, state, limit)
            found = constraint.fewest(state)
            if exact <= limit or exact == UNREACHABLE:
                assert (found, constraint.fewest.is_exact(state)) == (exact, True)
            else:
                assert found > limit


def test_what_fits_does_not_depend_on_what_was_asked_before(monkeypatch):
    monkeypatch.setattr(fewest, "SEARCH", 4)
    for seed in range(60):
        automaton, vocabulary = pair(seed)
        used = AutomatonConstraint(automaton, vocabulary)
        states = sorted({used.advance(automaton.start, t) for t in range(len(vocabulary) - 1)} - {0})
        questions = [(state, left) for state in states for left in range(5)]
        random.Random(seed).shuffle(questions)
        for state, left in questions:
            fresh = AutomatonConstraint(automaton, vocabulary)
            assert used.fewest.fits(state, left) == fresh.fewest.fits(state, left)


def test_a_state_that_fits_ends_or_leads_to_one_that_fits_with_a_token_less_even_if_searches_end_early(monkeypatch):
    monkeypatch.setattr(fewest, "SEARCH", 3)
    for seed in range(150):
        automaton, vocabulary = pair(seed)
        constraint = AutomatonConstraint(automaton, vocabulary)
        fits, states = constraint.fewest.fits, {automaton.start}
        for _ in range(2):
            states |= {constraint.advance(s, t) for s in states for t in range(len(vocabulary) - 1)} - {0}
        for state in states:
            for left in range(6):
                next_fit = any(fits(constraint.advance(state, t), left - 1) for t in range(len(vocabulary) - 1))
                if fits(state, left):
                    assert constraint.complete(state) or next_fit
                assert not fits(state, left) or naive.fewest_tokens(constraint, vocabulary, state, left) <= left


def with_first(plain: Vocabulary, rng: random.Random) -> Vocabulary:
    """With tokens that only begin texts."""
    first = tuple(bytes(rng.choices(b"abc", k=rng.randint(1, 4))) for _ in range(4))
    ids = frozenset(range(len(plain), len(plain) + len(first)))
    return Vocabulary((*plain.tokens, *first), plain.eos, first=ids)


def test_no_way_to_the_end_is_spelled_with_tokens_that_only_begin_texts():
    found = 0
    for seed in range(150):
        automaton, plain = pair(seed)
        vocabulary = with_first(plain, random.Random(seed))
        constraint, twin = (AutomatonConstraint(automaton, known) for known in (vocabulary, plain))
        for left in range(1, 5):
            budget = Budget(constraint, left)
            state = budget.start()
            assert bool(state) == bool(Budget(twin, left).start())
            allowed = naive.mask(budget, state, len(vocabulary))
            np.testing.assert_array_equal(unpack(budget.candidates(state), len(vocabulary)), allowed)
            for token in set(np.flatnonzero(allowed).tolist()) - plain.eos:
                after = constraint.advance(automaton.start, token)
                assert naive.fewest_tokens(twin, plain, after, left) < left
                found += token in vocabulary.first
    assert found > 100


def test_a_character_without_a_token_of_its_own_may_still_have_a_way():
    vocabulary = Vocabulary((b"x", b"y", b"zy", b""), frozenset({3}))
    assert constraint_of("xz?y", vocabulary).fewest(1) == 2
    assert constraint_of("xzy", vocabulary).fewest(1) == 2
    assert constraint_of("xz", vocabulary).fewest(1) == UNREACHABLE
    assert constraint_of("(xz)*y{3}", vocabulary).fewest(1) == 3


# -- the kernels


@pytest.mark.parametrize("seed", range(20))
def test_the_states_after_a_token_and_what_one_token_closes_are_found_by_trying_all(seed):
    automaton, vocabulary = pair(seed)
    constraint = AutomatonConstraint(automaton, vocabulary)
    tokens = range(len(vocabulary) - 1)
    for state in {automaton.start} | {constraint.advance(automaton.start, t) for t in tokens} - {0}:
        targets = {constraint.advance(state, t) for t in tokens} - {0}
        assert set(constraint.fewest.next_states(state)) == targets
        assert (naive.fewest_tokens(constraint, vocabulary, state, 1) <= 1) == constraint.fewest.fits(state, 1)


def test_the_heights_of_the_trie_are_the_longest_rests_of_tokens():
    tokens = Tokens.of(LETTERS)
    prefixes = sorted({token[:end] for token in LETTERS.tokens for end in range(len(token) + 1)})
    longest = [max(len(t) for t in LETTERS.tokens if t.startswith(prefix)) - len(prefix) for prefix in prefixes]
    height = np.zeros(len(tokens.trie.node), np.int32)
    heights(tokens.trie, np.zeros(tokens.depth + 2, np.int32), height)
    assert height.tolist() == longest  # sorted prefixes are the nodes in preorder


# -- the law


PATTERNS = ["(ab|b){3,}", "a*(ba){0,2}b?", "a{1,9}|b{6,9}", "(aab)*|b{4}", "[ab]{5}"]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("method", ["awrs", "masked"])
def test_a_text_is_wrapped_up_where_the_budget_changed_how_it_came_about(pattern, method):
    """Alone, a text that is not is the one that comes without a budget; with masks, one whose masks were all whole."""
    lm, rule = genctl.load(MODEL), genctl.regex(pattern)
    constraint, reasons = rule.bind(LETTERS), set()
    for seed in range(60):
        options = {"max_new_tokens": LONGEST, "seed": seed, "method": method}
        held, free = lm.generate("", rule, **options), lm.generate("", rule, wrap_up=False, **options)
        reasons.add(held.finish_reason)
        if held.finish_reason == "complete":
            assert (held.tokens, held.log_weight) == (free.tokens, free.log_weight)
        if method == "masked":
            assert (held.finish_reason == "wrapped_up") == refuses(constraint, held.tokens)
    assert reasons <= set(FINISHED)


def refuses(constraint: AutomatonConstraint, tokens: tuple[int, ...]) -> bool:
    """Does a budget of LONGEST tokens refuse something on the way of this text, its end included?"""
    budget = Budget(constraint, LONGEST)
    held, free = budget.start(), constraint.start()
    for token in (*tokens, None):
        if any(not budget.allows(held, other) for other in naive.allowed_tokens(constraint, LETTERS, free)):
            return True
        if token is not None:
            held, free = budget.advance(held, token), constraint.advance(free, token)
    return False


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_length_bounded_posterior_is_the_same_with_a_budget_and_without(pattern):
    constraint = constraint_of(pattern)
    exact, evidence = naive.posterior(MODEL, constraint, LONGEST)
    bounded, same = naive.posterior(MODEL, Budget(constraint, LONGEST), LONGEST)
    assert bounded == pytest.approx(exact)
    assert same == pytest.approx(evidence)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("method", ["awrs", "masked"])
def test_the_evidence_is_the_same_and_its_estimate_varies_less(pattern, method):
    lm, rule = genctl.load(MODEL), genctl.regex(pattern)
    _, evidence = naive.posterior(MODEL, rule.bind(LETTERS), LONGEST)
    spread = {}
    for wrap_up in (True, False):
        options = {"max_new_tokens": LONGEST, "num_return_sequences": 2000, "wrap_up": wrap_up, "method": method}
        weights = np.exp(lm.generate("", rule, seed=1, **options).log_weights - evidence)
        spread[wrap_up] = weights.std()
        assert_mean(weights, 1.0)
    assert spread[True] <= spread[False] * 1.1


def test_a_generation_far_from_its_end_is_the_same_with_a_budget_and_without():
    lm, rule = genctl.load("toy"), genctl.regex("(yes|no|maybe), [a-z]{3,9}!")
    options = {"max_new_tokens": 60, "num_particles": 4, "num_return_sequences": 10, "seed": 3}
    held, free = lm.generate("the ", rule, **options), lm.generate("the ", rule, wrap_up=False, **options)
    assert [s.text for s in held.samples] == [s.text for s in free.samples]
    np.testing.assert_array_equal(held.log_weights, free.log_weights)
    assert {s.finish_reason for s in held.samples} == {"complete"}


# -- what generate says


def test_too_few_tokens_for_any_text_are_refused_with_the_number_that_is_needed():
    lm = genctl.load(MODEL)
    with pytest.raises(genctl.ArgumentError, match=r"max_new_tokens is 2, but the shortest text .* has 3 tokens"):
        lm.generate("", genctl.regex("(abab){3}(ba)*"), max_new_tokens=2)
    assert lm.generate("", genctl.regex("(abab){3}(ba)*"), max_new_tokens=3, seed=0).finish_reason == "wrapped_up"
    cut = lm.generate("", genctl.regex("(abab){3}"), max_new_tokens=2, wrap_up=False, seed=0)
    assert cut.finish_reason == "length"


def test_a_language_that_the_vocabulary_cannot_spell_is_refused():
    with pytest.raises(genctl.ConstraintError, match="can be spelled in the model's tokens"):
        genctl.load(MODEL).generate("", genctl.regex("a+c"), max_new_tokens=9)


def test_a_search_that_was_given_up_is_not_taken_for_proof(monkeypatch):
    monkeypatch.setattr(fewest, "SEARCH", 1)
    vocabulary = Vocabulary((b"a", b"ab", b"bc", b"b", b"c", b"xyz", b""), frozenset({6}))
    lm = genctl.load(ToyModel.random(vocabulary, order=1, seed=0))
    with pytest.raises(genctl.ArgumentError, match="the shortest text found"):
        lm.generate("", genctl.regex("[abc]{8}"), max_new_tokens=3)


def test_the_language_of_a_conjunction_is_held_to_the_budget_and_its_predicates_are_still_checked():
    rule = genctl.regex("(ab)*b?|(ab){9}") & (lambda text, done: not done or len(text) % 2 == 0)
    drawn = genctl.load(MODEL).generate("", rule, max_new_tokens=LONGEST, num_return_sequences=200, seed=0)
    counted = [g for g in drawn if g.log_weight > -math.inf]
    assert {g.finish_reason for g in counted} == {"complete", "wrapped_up"}
    assert all(rule.accepts(g.text) for g in counted)
    assert {g.finish_reason for g in drawn} <= {"complete", "wrapped_up", "length", "dead_end"}
    for wrap_up in (True, False):
        _, evidence = naive.posterior(MODEL, rule.bind(LETTERS), LONGEST)
        options = {"max_new_tokens": LONGEST, "num_return_sequences": 2000, "wrap_up": wrap_up, "seed": 1}
        weights = np.exp(genctl.load(MODEL).generate("", rule, **options).log_weights - evidence)
        assert_mean(weights, 1.0)


def test_a_predicate_alone_has_no_budget():
    constraint = PredicateConstraint(lambda text, done: True, LETTERS)
    assert within(constraint, 3) == (constraint, None)


def test_an_object_comes_out_of_a_tight_budget():
    rule = genctl.json({"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]})
    lm = genctl.load("toy")
    for tokens in range(9, 20):
        g = lm.generate("JSON: ", rule, max_new_tokens=tokens, seed=tokens)
        assert isinstance(g.value["name"], str)
        assert len(g.tokens) <= tokens


# -- every text ends


def outcome(automaton: GrammarAutomaton, vocabulary: Vocabulary, law: np.ndarray, budget: int, method: str) -> bool:
    """Whether texts came out; all of them complete and within the budget."""
    lm, rule = genctl.load(ToyModel(vocabulary, {(): law})), Language(automaton, "random")
    try:
        drawn = lm.generate("", rule, max_new_tokens=budget, num_return_sequences=3, method=method, seed=0)
    except (genctl.ArgumentError, genctl.ConstraintError):
        return False
    for g in drawn:
        assert g.finish_reason in FINISHED
        assert len(g.tokens) <= budget
        assert rule.automaton.accepts(run(automaton, automaton.start, vocabulary.join(g.tokens)))
        assert math.isfinite(g.log_weight)
    return True


def random_law(seed: int, vocabulary: Vocabulary) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(0, 2, len(vocabulary))
    return (logits - np.logaddexp.reduce(logits)).astype(np.float32)


def test_a_thousand_generations_end_complete_whenever_one_can():
    found = []
    for seed in range(1000):
        automaton, vocabulary = pair(seed)
        budget = random.Random(seed).randint(1, 6)
        constraint = AutomatonConstraint(automaton, vocabulary)
        possible = naive.fewest_tokens(constraint, vocabulary, automaton.start, budget) <= budget
        method = ("awrs", "masked")[seed % 2]
        assert outcome(automaton, vocabulary, random_law(seed, vocabulary), budget, method) == possible
        found.append(possible)
    assert 300 < sum(found) < 900


@cache
def smollm2() -> Vocabulary:
    return genctl.load().language_model.vocabulary


@cache
def tekken() -> Vocabulary:
    resources = pytest.importorskip("importlib.resources")
    tekkenizer = pytest.importorskip("mistral_common.tokens.tokenizers.tekken").Tekkenizer
    path = resources.files("mistral_common") / "data" / "tekken_240911.json"
    return Vocabulary.from_tokenizer(tekkenizer.from_file(str(path)))


@pytest.mark.slow
@pytest.mark.parametrize("load", [pytest.param(smollm2, marks=pytest.mark.real), tekken])
def test_a_thousand_generations_in_real_tokens_end_complete_whenever_one_can(load):
    vocabulary = load()
    law = random_law(0, vocabulary)
    found = []
    for seed in range(500):
        rng = random.Random(seed)
        automaton, budget = grammar(rng, REAL_WORDS), rng.randint(1, 8)
        constraint = AutomatonConstraint(automaton, vocabulary)
        possible = naive.fewest_tokens(constraint, vocabulary, automaton.start, budget) <= budget
        assert outcome(automaton, vocabulary, law, budget, "awrs") == possible
        found.append(possible)
    assert 100 < sum(found) < 490
