"""Exact samples: the law of the texts, their independence and the evidence, by enumeration on toy models."""

from __future__ import annotations

import math
import zlib
from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from genctl.compilers.regex import compile_regex
from genctl.constraints.automaton import AutomatonConstraint
from genctl.constraints.both import Both
from genctl.constraints.budget import Budget
from genctl.constraints.predicate import PredicateConstraint
from genctl.errors import ArgumentError
from genctl.models.toy import ToyModel
from genctl.samplers import smc
from genctl.samplers.exact import Leaf, Node, Search, Trie, log_inverse_sampling, sample_exactly
from genctl.samplers.rejection import awrs
from genctl.samplers.resampling import systematic
from genctl.samplers.streams import of
from genctl.steering.basic import Temperature
from genctl.steering.model import Steered
from genctl.vocabulary import Vocabulary
from tests import naive
from tests.statistics import assert_mean, total_variation

VOCABULARY = Vocabulary((b"a", b"b", b"ab", b"ba", b"", b""), eos=frozenset({4}), unused=frozenset({5}))
MODEL = ToyModel.random(VOCABULARY, order=3, seed=4, spread=1.5)
TWO_ENDS = Vocabulary((b"a", b"b", b"", b""), eos=frozenset({2, 3}))
LONGEST = 4
WAYS = pytest.mark.parametrize("adaptive", [True, False], ids=["adaptive", "plain"])


def by_automaton(pattern, vocabulary=VOCABULARY):
    return AutomatonConstraint(compile_regex(pattern), vocabulary)


def palindrome(text, done):
    return not done or text == text[::-1]


def late(text, done):
    """Dead ends: what three b's rule out was allowed until then."""
    return text.count("b") < 3 and (not done or len(text) >= 3)


def soft(text, done):
    """Prefixes are scored too, above 0 even; only the finished text's score counts."""
    return -0.7 * text.count("a") if done else 0.3 * len(text)


CONSTRAINTS = {
    "automaton": lambda: by_automaton("a*(ba){0,2}b?"),
    "length cut": lambda: by_automaton("(ab|b){3,}"),
    "budget": lambda: Budget(by_automaton("(ab|b){3,}"), LONGEST),
    "only the empty text": lambda: by_automaton(""),
    "predicate": lambda: PredicateConstraint(palindrome, VOCABULARY),
    "late predicate": lambda: PredicateConstraint(late, VOCABULARY),
    "automaton & predicate": lambda: Both([by_automaton("a*b*a*b?"), PredicateConstraint(palindrome, VOCABULARY)]),
    "potential": lambda: PredicateConstraint(soft, VOCABULARY),
    "automaton & potential": lambda: Both([by_automaton("[ab]{2,6}"), PredicateConstraint(soft, VOCABULARY)]),
}


def settings(longest=LONGEST):
    return smc.Settings(awrs, systematic, 0.5, longest)


def sample(constraint, size, seed=0, *, model=MODEL, longest=LONGEST, prompt=(0,), adaptive=True, **options):
    rng = np.random.default_rng(seed)
    options = {"max_tries": 10**6} | options
    return sample_exactly(of(rng, size), model, [prompt], [constraint], settings(longest), adaptive=adaptive, **options)


def many_runs(constraint, size, runs, **options):
    """Runs that learn nothing from each other."""
    rng = np.random.default_rng(3)
    return [sample(constraint, size, rng.integers(2**32), **options) for _ in range(runs)]


# -- the law


def assert_law(texts, exact):
    """Independent texts have these probabilities; those of which hardly any are expected count together."""
    often = {text for text, probability in exact.items() if probability * len(texts) >= 10}
    counted = Counter(text if text in often else None for text in texts)
    assert set(texts) <= exact.keys()
    for text in often:
        assert_count(counted[text], exact[text], len(texts))
    assert_count(counted[None], math.fsum(p for text, p in exact.items() if text not in often), len(texts))


def assert_count(count, probability, trials):
    hits = np.zeros(trials)
    hits[:count] = 1.0
    assert_mean(hits, probability, largest=1.0)


def relative_variance(log_evidence, size):
    """A bound of the variance of the estimate over Z^2 (of its second moment for two samples)."""
    return -log_evidence / -math.expm1(log_evidence) if size == 2 else 1 / (size - 2)


@WAYS
@pytest.mark.parametrize("name", CONSTRAINTS)
def test_samples_follow_the_posterior_and_the_evidence_is_unbiased(name, adaptive):
    """The first, the last and all of the samples: what was learned meanwhile changes nothing."""
    constraint, size = CONSTRAINTS[name](), 6
    exact, log_evidence = naive.posterior(MODEL, constraint, LONGEST, given=[0])
    runs = many_runs(constraint, size, 300, adaptive=adaptive)
    assert_law([cloud.tokens[0] for cloud in runs], exact)
    assert_law([cloud.tokens[-1] for cloud in runs], exact)
    assert_law([text for cloud in runs for text in cloud.tokens], exact)
    assert all(len(set(cloud.log_weights.tolist())) == 1 for cloud in runs)
    estimates = np.exp([cloud.log_weights[0] - log_evidence for cloud in runs])
    assert_mean(estimates, 1.0, largest=relative_variance(log_evidence, size))


@WAYS
def test_a_large_sample_of_one_trie_follows_the_posterior(adaptive):
    constraint = CONSTRAINTS["automaton & predicate"]()
    exact, _ = naive.posterior(MODEL, constraint, LONGEST, given=[0])
    tokens = sample(constraint, 20_000, adaptive=adaptive).tokens
    assert_law(tokens, exact)
    shares = {text: count / len(tokens) for text, count in Counter(tokens).items()}
    assert total_variation(shares, exact) < math.sqrt(len(exact) / (4 * len(tokens)))


@WAYS
@pytest.mark.parametrize("name", ["automaton", "late predicate"])
def test_samples_of_a_run_are_independent(name, adaptive):
    """Pairs have the product law: of neighbours, and of the first and the last, which other rounds found."""
    constraint = CONSTRAINTS[name]()
    exact, _ = naive.posterior(MODEL, constraint, LONGEST, given=[0])
    pairs = {(first, second): exact[first] * exact[second] for first, second in product(exact, repeat=2)}
    drawn = [cloud.tokens for cloud in many_runs(constraint, 4, 1000, adaptive=adaptive)]
    for i, j in ((0, 1), (2, 3), (0, 3)):
        assert_law([(texts[i], texts[j]) for texts in drawn], pairs)


PATTERNS = st.recursive(
    st.sampled_from(["a", "b", "ab", "[ab]", ""]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda pair: f"(?:{pair[0]})(?:{pair[1]})"),
        st.tuples(inner, inner).map(lambda pair: f"(?:{pair[0]}|{pair[1]})"),
        st.tuples(inner, st.sampled_from(["*", "?", "{2,3}", "+"])).map(lambda pair: f"(?:{pair[0]}){pair[1]}"),
    ),
    max_leaves=6,
)


def scattered(salt, share):
    """A predicate without rhyme or reason: refuses this share of the prefixes and half of the finished texts."""

    def judge(text, done):
        number = zlib.crc32(f"{salt} {text} {done}".encode()) / 2**32
        return number > (0.5 if done else share) or (not text and not done)

    return PredicateConstraint(judge, VOCABULARY)


RULES = st.one_of(
    PATTERNS.map(by_automaton),
    st.builds(scattered, st.integers(0, 10**6), st.sampled_from([0.0, 0.3, 0.6])),
    st.builds(
        lambda pattern, salt: Both([by_automaton(pattern), scattered(salt, 0.2)]), PATTERNS, st.integers(0, 10**6)
    ),
)


def alive_mass(node, model, prompt):
    """The share of a prefix's mass that is not refuted, by the definition of each token's fate."""
    law = np.exp(model.law([*prompt, *node.path()]).astype(np.float64))
    constraint, total = node.trie.constraint, 0.0
    for token, share in enumerate(law):
        if node.depth == LONGEST and token not in VOCABULARY.eos:
            continue
        child = node.children.get(token)
        if isinstance(child, Node):
            total += share * alive_mass(child, model, prompt)
        elif isinstance(child, Leaf):
            total += share * math.exp(child.log_alive)
        elif token not in node.refuted and (not node.looked or was_kept(constraint, node.state, token)):
            total += share
    return total


def was_kept(constraint, state, token):
    packed = constraint.candidates(state)
    return packed is None or bool(packed[token >> 5] >> (token & 31) & 1)


def nodes_below(node):
    yield node
    for child in node.children.values():
        if isinstance(child, Node):
            yield from nodes_below(child)


@hypothesis_settings(max_examples=60)
@given(RULES, st.integers(0, 2**32 - 1), st.lists(st.integers(1, 40), max_size=5), st.sampled_from([0, 2**20]))
def test_the_alive_mass_is_that_of_all_that_is_not_refuted(constraint, seed, rounds, cache):
    """And nothing that obeys is ever refuted: the two facts that the samples' exactness rests on."""
    exact, log_evidence = naive.posterior(MODEL, constraint, LONGEST, given=[0])
    search = Search(np.random.default_rng(seed), MODEL, [[0]], settings(), True, cache)
    trie = Trie(0, constraint, 10**6, 10**6)
    search.begin(trie)
    for count in rounds:
        if not trie.dead:
            search.run_round({trie: count})
    assert trie.root.log_alive >= log_evidence - 1e-6
    for node in nodes_below(trie.root):
        if not trie.dead:
            assert math.exp(node.log_alive) == pytest.approx(alive_mass(node, MODEL, [0]), rel=1e-5)
    for text in exact:
        node = trie.root
        for token in (*text, 4):
            assert token not in node.refuted
            if token not in node.children:
                break
            node = node.children[token]


@hypothesis_settings(max_examples=40)
@given(RULES, st.booleans())
def test_whatever_the_rule_the_law_and_the_evidence_are_right(constraint, adaptive):
    exact, log_evidence = naive.posterior(MODEL, constraint, LONGEST, given=[0])
    if log_evidence < math.log(1e-3):
        return
    runs = many_runs(constraint, 5, 60, adaptive=adaptive)
    assert_law([text for cloud in runs for text in cloud.tokens], exact)
    estimates = np.exp([cloud.log_weights[0] - log_evidence for cloud in runs])
    assert_mean(estimates, 1.0, largest=relative_variance(log_evidence, 5))


# -- the evidence


@WAYS
@pytest.mark.parametrize("name", ["automaton", "late predicate", "potential"])
def test_two_samples_are_enough_for_an_unbiased_evidence(name, adaptive):
    constraint = CONSTRAINTS[name]()
    _, log_evidence = naive.posterior(MODEL, constraint, LONGEST, given=[0])
    runs = many_runs(constraint, 2, 1000, adaptive=adaptive)
    estimates = np.exp([cloud.log_weights[0] - log_evidence for cloud in runs])
    assert_mean(estimates, 1.0, largest=relative_variance(log_evidence, 2))


@WAYS
@pytest.mark.parametrize("name", ["automaton", "late predicate", "potential"])
def test_the_reciprocal_of_one_sample_s_evidence_is_unbiased(name, adaptive):
    constraint = CONSTRAINTS[name]()
    _, log_evidence = naive.posterior(MODEL, constraint, LONGEST, given=[0])
    runs = many_runs(constraint, 1, 1000, adaptive=adaptive)
    assert_mean(np.exp([log_evidence - cloud.log_weights[0] for cloud in runs]), 1.0)


def test_a_trie_that_is_known_knows_the_evidence():
    constraint = CONSTRAINTS["automaton & predicate"]()
    _, log_evidence = naive.posterior(MODEL, constraint, LONGEST, given=[0])
    cloud = sample(constraint, 20_000)
    assert cloud.trace.log_bounds[0] == pytest.approx(log_evidence, abs=2e-3)
    assert cloud.log_weights[0] == pytest.approx(log_evidence, abs=2e-3)


def test_the_estimate_by_inverse_sampling_has_its_closed_forms():
    for log_mass, tries, found in ((0.0, 7, 2), (-3.0, 1000, 40), (-690.0, 2, 2)):
        split = np.array([log_mass, log_mass + 1e-12])  # not told to be equal
        counts = np.array([1.0, tries - 1.0])
        exact = log_mass + math.log(found - 1) - math.log(tries - 1)
        assert log_inverse_sampling(split, counts, found) == pytest.approx(exact, abs=1e-11)
        assert log_inverse_sampling(split[:1], counts.sum(keepdims=True), found) == pytest.approx(exact, abs=1e-12)
    for a, b in ((1.0, 0.5), (1.0, 1e-30), (1e-200, 1e-230)):
        exact = math.log(a) + math.log(b) + math.log(math.log(a) - math.log(b)) - math.log(a - b)
        logs = np.log([a, b])
        assert log_inverse_sampling(logs, np.ones(2), 2) == pytest.approx(exact, abs=1e-11)


def narrow(mass):
    """A model that gives b this probability everywhere, half of the rest to a, the other half to the end."""
    half = math.log((1 - mass) / 2)
    law = [half, math.log(mass), -math.inf, -math.inf, half, -math.inf]
    return ToyModel(VOCABULARY, {(): np.array(law, np.float32)})


@pytest.mark.parametrize("pattern", ["b", "bb", "bbb", "ab|b"])
def test_masses_of_1e_30_are_neither_lost_nor_distorted(pattern):
    """Three of them make 1e-90; with "ab|b" one text is 1e-30, its sibling half of that."""
    model = narrow(1e-30)
    constraint = by_automaton(pattern)
    exact, log_evidence = naive.posterior(model, constraint, LONGEST)
    cloud = sample(constraint, 400, model=model, prompt=())
    assert cloud.trace.tries[0] < 3000
    assert cloud.trace.log_bounds[0] == pytest.approx(log_evidence, abs=1e-4)
    assert_law(cloud.tokens, exact)
    for text, logprob in zip(cloud.tokens, cloud.logprobs, strict=True):
        assert logprob == pytest.approx(model.logprob([*text, 4]), abs=1e-4)


# -- what it costs


class Counting:
    """A model that counts the rows it computes."""

    def __init__(self, model):
        self.model, self.vocabulary, self.rows, self.calls = model, model.vocabulary, 0, 0

    def prefill(self, prompts):
        self.rows, self.calls = self.rows + len(prompts), self.calls + 1
        return self.model.prefill(prompts)

    def extend(self, state, tokens):
        self.rows, self.calls = self.rows + len(tokens), self.calls + 1
        return self.model.extend(state, tokens)

    def select(self, state, rows):
        return self.model.select(state, rows)


def rows_computed(size, name="length cut", **options):
    model = Counting(MODEL)
    sample(CONSTRAINTS[name](), size, model=model, **options)
    return model.rows


@pytest.mark.parametrize("name", ["length cut", "late predicate", "automaton & predicate"])
def test_what_is_learned_saves_forwards(name):
    for size in (1, 10, 100):
        spent = [
            np.mean([rows_computed(size, name, seed=s, adaptive=a) for s in range(max(10, 100 // size))])
            for a in (True, False)
        ]
        assert spent[0] < spent[1]


def test_forwards_per_sample_fall_with_the_number_of_samples():
    spent = [rows_computed(size) / size for size in (1, 10, 100, 1000)]
    assert spent == sorted(spent, reverse=True)
    assert spent[-1] < 0.2  # all 31 prefixes that matter are known


def test_tries_per_sample_fall_to_one():
    tries = [sample(CONSTRAINTS["length cut"](), size).trace.tries[0] / size for size in (1, 30, 1000)]
    assert tries == sorted(tries, reverse=True)
    assert tries[-1] < 1.3


def test_rows_that_are_not_kept_are_computed_again_and_change_no_law():
    constraint = CONSTRAINTS["late predicate"]()
    exact, log_evidence = naive.posterior(MODEL, constraint, LONGEST, given=[0])
    row_bytes = 4 * len(VOCABULARY)
    assert rows_computed(300, row_cache_bytes=0) > rows_computed(300, row_cache_bytes=3 * row_bytes)
    assert rows_computed(300, row_cache_bytes=3 * row_bytes) > rows_computed(300)
    cloud = sample(constraint, 4000, row_cache_bytes=3 * row_bytes)
    assert_law(cloud.tokens, exact)
    assert cloud.trace.log_bounds[0] >= log_evidence


# -- ends


@WAYS
def test_a_rule_that_nothing_begins_is_dead_at_once(adaptive):
    never = PredicateConstraint(lambda text, done: False, VOCABULARY)
    cloud = sample(never, 3, adaptive=adaptive)
    assert (cloud.status == smc.DEAD).all()
    assert (cloud.log_weights == -np.inf).all()
    assert cloud.trace.tries == (0,)
    assert cloud.tokens == ((), (), ())


@pytest.mark.parametrize(
    "constraint",
    [
        by_automaton("[x-z]"),  # no token of the vocabulary begins it
        by_automaton("(ab){9,}"),  # none has so few tokens
        PredicateConstraint(lambda text, done: False if done else len(text) < 3, VOCABULARY),
    ],
    ids=["no token", "too long", "never finished"],
)
def test_a_rule_that_no_text_obeys_is_found_out(constraint):
    cloud = sample(constraint, 3)
    assert (cloud.status == smc.DEAD).all()
    assert (cloud.log_weights == -np.inf).all()
    assert smc.log_mean_exp(cloud.log_weights) == -math.inf
    assert cloud.trace.log_bounds == (-math.inf,)
    assert cloud.trace.tries[0] < 2000


def test_plain_rejection_learns_nothing_and_runs_out_of_tries():
    cloud = sample(by_automaton("[x-z]"), 3, adaptive=False, max_tries=50)
    assert (cloud.status == smc.GAVE_UP).all()
    assert (cloud.log_weights == -np.inf).all()
    assert cloud.trace.tries == (50,)
    assert cloud.trace.log_bounds == (0.0,)


@WAYS
def test_where_tries_run_out_what_was_found_is_kept(adaptive):
    constraint = CONSTRAINTS["automaton"]()
    exact, log_evidence = naive.posterior(MODEL, constraint, LONGEST, given=[0])
    runs = many_runs(constraint, 30, 500, adaptive=adaptive, max_tries=20)
    for cloud in runs:
        found = cloud.status == smc.COMPLETE
        assert not found.all()
        assert set(cloud.status[~found]) == {smc.GAVE_UP}
        assert (cloud.log_weights[~found] == -np.inf).all()
        assert len(set(cloud.log_weights[found].tolist())) <= 1
        assert {text for text, kept in zip(cloud.tokens, found, strict=True) if kept} <= exact.keys()
        assert cloud.trace.tries == (20,)
    assert_mean(np.exp([smc.log_mean_exp(cloud.log_weights) - log_evidence for cloud in runs]), 1.0)


@WAYS
def test_a_text_may_end_before_it_begins(adaptive):
    cloud = sample(by_automaton("()|bab"), 200, adaptive=adaptive)
    assert () in cloud.tokens
    ended = cloud.tokens.index(())
    assert cloud.logprobs[ended] == pytest.approx(MODEL.logprob([4], given=[0]), abs=1e-5)


@WAYS
def test_every_way_to_end_counts(adaptive):
    """Two end-of-text tokens: after T tokens they are one, before they are told apart in the logprob only."""
    model = ToyModel.random(TWO_ENDS, order=2, seed=1)
    constraint = by_automaton("a*b?", TWO_ENDS)
    exact, log_evidence = naive.posterior(model, constraint, 2)
    runs = many_runs(constraint, 5, 400, model=model, longest=2, prompt=(), adaptive=adaptive)
    assert_mean(np.exp([cloud.log_weights[0] - log_evidence for cloud in runs]), 1.0)
    assert_law([text for cloud in runs for text in cloud.tokens], exact)
    for cloud in runs[:20]:
        for text, logprob in zip(cloud.tokens, cloud.logprobs, strict=True):
            ends = [model.logprob([*text, end]) for end in (2, 3)]
            possible = [np.logaddexp(*ends)] if len(text) == 2 else ends
            assert min(abs(logprob - end) for end in possible) < 1e-5


# -- potentials, hooks, prompts


@WAYS
def test_a_potential_above_zero_is_refused_with_the_reason(adaptive):
    constraint = PredicateConstraint(lambda text, done: 0.25 if done else 0.0, VOCABULARY)
    with pytest.raises(ArgumentError, match=r"0\.25.*at most 0"):
        sample(constraint, 3, adaptive=adaptive)


@WAYS
def test_the_potential_of_each_sample_is_reported(adaptive):
    cloud = sample(CONSTRAINTS["potential"](), 50, adaptive=adaptive)
    expected = [-0.7 * VOCABULARY.join(text).count(b"a") for text in cloud.tokens]
    np.testing.assert_allclose(cloud.potentials, expected)


@WAYS
def test_without_a_rule_texts_have_the_model_s_own_law_and_every_try_succeeds(adaptive):
    cloud = sample(None, 4000, longest=2, adaptive=adaptive)
    assert cloud.trace.tries == (4000,)
    assert (cloud.log_weights == 0).all()
    assert {len(t) for t, status in zip(cloud.tokens, cloud.status, strict=True) if status == smc.CUT} == {2}
    for text in ((), (0,), (1, 2), (3, 3)):
        ended = MODEL.logprob([*text, 4] if len(text) < 2 else text, given=[0])
        assert_mean(np.array([t == text for t in cloud.tokens]), math.exp(ended))
        for other, logprob in zip(cloud.tokens, cloud.logprobs, strict=True):
            assert other != text or logprob == pytest.approx(ended, abs=1e-5)


@WAYS
def test_hooks_change_the_target(adaptive):
    constraint, size = by_automaton("a*b?"), 4000
    laws = {context: MODEL.law(context) / 2.0 for context in [(), *((t,) for t in range(4))]}
    laws |= {pair: MODEL.law(pair) / 2.0 for pair in product(range(4), repeat=2)}
    flat = {c: (law - np.logaddexp.reduce(law)).astype(np.float32) for c, law in laws.items()}
    exact, log_evidence = naive.posterior(ToyModel(VOCABULARY, flat), constraint, LONGEST, given=[0])
    hot = Steered(MODEL, [Temperature(2.0)])
    rng = np.random.default_rng(0)
    cloud = sample_exactly(of(rng, size), hot, [[0]], [constraint], settings(), adaptive=adaptive, max_tries=10**6)
    assert cloud.log_weights[0] == pytest.approx(log_evidence, abs=4 / math.sqrt(size))
    assert_law(cloud.tokens, exact)


@WAYS
def test_prompts_run_together_each_under_its_own_rule(adaptive):
    rules = [by_automaton("a*b?"), None, PredicateConstraint(palindrome, VOCABULARY), by_automaton("[x-z]")]
    prompts, size = [[0], [1, 1], [2], [0]], 1500
    rng = np.random.default_rng(0)
    cloud = sample_exactly(of(rng, 4 * size), MODEL, prompts, rules, settings(), adaptive=adaptive, max_tries=20_000)
    for prompt, rule, group in zip(prompts, rules, cloud.groups(), strict=True):
        if rule is None:
            assert (cloud.log_weights[group] == 0).all()
            continue
        exact, log_evidence = naive.posterior(MODEL, rule, LONGEST, given=prompt)
        if not exact:
            assert (cloud.status[group] == (smc.DEAD if adaptive else smc.GAVE_UP)).all()
            continue
        assert smc.log_mean_exp(cloud.log_weights[group]) == pytest.approx(log_evidence, abs=4 / math.sqrt(size))
        assert_law(cloud.tokens[group], exact)


def test_equal_prompts_with_the_same_rule_learn_together():
    constraint = CONSTRAINTS["length cut"]()
    together, apart = Counting(MODEL), Counting(MODEL)
    options = {"adaptive": True, "max_tries": 10**4}
    rng = np.random.default_rng(0)
    cloud = sample_exactly(of(rng, 60), together, [[0]] * 20, [constraint] * 20, settings(), **options)
    for _ in range(20):
        sample_exactly(of(rng, 3), apart, [[0]], [constraint], settings(), **options)
    assert together.rows < apart.rows / 3
    assert len(set(cloud.log_weights.tolist())) == 1
    assert (cloud.status == smc.COMPLETE).all()


@WAYS
def test_the_same_generator_gives_the_same_samples(adaptive):
    first, second = (sample(CONSTRAINTS["late predicate"](), 20, 7, adaptive=adaptive) for _ in range(2))
    assert first.tokens == second.tokens
    np.testing.assert_array_equal(first.log_weights, second.log_weights)
    assert first.tokens != sample(CONSTRAINTS["late predicate"](), 20, 8, adaptive=adaptive).tokens


def test_on_step_is_told_the_share_that_was_found():
    told: list[int] = []
    rng = np.random.default_rng(0)
    options = {"adaptive": True, "max_tries": 10**4}
    sample_exactly(of(rng, 50), MODEL, [[0]], [CONSTRAINTS["length cut"]()], settings(), told.append, **options)
    assert told == sorted(told)
    assert told[-1] == LONGEST
