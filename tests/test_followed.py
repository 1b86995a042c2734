"""Middles by models without control tokens: the weight of each is the probability that the suffix follows it."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import genctl
from genctl.constraints.base import Constraint
from genctl.constraints.rules import any_bytes
from genctl.errors import ArgumentError, DeadEndError
from genctl.models.bytes import STOP, VOCABULARY, ByteModel
from genctl.models.followed import HORIZON, Followed
from genctl.models.toy import ToyModel
from genctl.samplers import smc
from genctl.samplers.masked import masked
from genctl.samplers.rejection import awrs
from genctl.samplers.resampling import SCHEMES
from genctl.samplers.streams import seeded
from genctl.vocabulary import Vocabulary
from tests import naive
from tests.statistics import assert_posterior
from tests.toy_canonical import longest_match, toy

LONGEST = 4
MIDDLES = [bytes(middle) for n in range(LONGEST + 1) for middle in itertools.product(b"abz", repeat=n)]


class Exact:
    """Probabilities of texts behind a prefix, by enumeration of all covers."""

    def __init__(self, model: ToyModel, prefix: bytes, canonical: Constraint | None = None) -> None:
        self._model, self._prefix, self._canonical = model, prefix, canonical
        self._laws: dict[bytes, np.ndarray] = {}

    def law(self, text: bytes) -> np.ndarray:
        """(257,) of the next byte or the end."""
        if text not in self._laws:
            masses = naive.byte_law(self._model, self._prefix + text, self._canonical)
            self._laws[text] = masses / masses.sum() if masses.any() else masses
        return self._laws[text]

    def probability(self, text: bytes) -> float:
        return math.prod(float(self.law(text[:i])[byte]) for i, byte in enumerate(text))

    def gamma(self, middle: bytes, follows: bytes, or_ended: bool = False) -> float:
        ended = self.probability(middle) * float(self.law(middle)[STOP]) if or_ended else 0.0
        return self.probability(middle + follows) + ended


def scored(model: Followed, prompt: list[int], middle: bytes) -> tuple[list[np.ndarray], np.ndarray]:
    """The scores behind every beginning of the middle, and the last ones, by way of extending."""
    laws, state = model.prefill([prompt])
    rows = [laws.scores[0]]
    for byte in middle:
        laws, state = model.extend(state, np.array([byte]))
        rows.append(laws.scores[0])
    return rows


@pytest.mark.parametrize("or_ended", [False, True])
@pytest.mark.parametrize("follows", [b"b", b"ab", b"aab"])
@pytest.mark.parametrize("canonical", [False, True])
def test_the_scores_of_a_middle_and_its_end_multiply_to_its_weight(canonical, follows, or_ended):
    model = toy(3, leaky=True)
    constraint = longest_match(model.vocabulary) if canonical else None
    exact = Exact(model, b"ab", constraint)
    followed = Followed(ByteModel(model, constraint), follows, or_ended=or_ended)
    found = 0
    for middle in MIDDLES:
        weight = exact.gamma(middle, follows, or_ended)
        if exact.probability(middle) == 0:
            continue
        rows = scored(followed, followed.encode(b"ab"), middle)
        total = sum(float(row[symbol]) for row, symbol in zip(rows, [*middle, STOP], strict=True))
        assert_allclose(math.exp(total), weight, rtol=1e-4, atol=1e-12)
        found += weight > 0
    assert found > 5


def even(text: str, done: bool) -> bool:
    return not done or text.count("a") % 2 == 0


RULES = {
    "no rule": any_bytes,
    "a pattern": lambda: genctl.regex("a*b?a*"),
    "a predicate": lambda: genctl.regex("[ab]*") & even,
    "a potential": lambda: genctl.regex("[ab]*") & (lambda text, done: 0.4 * text.count("b")),
}
WAYS = {
    "awrs": (awrs, "systematic", 0.5),
    "awrs, never resampled": (awrs, "systematic", 0.0),
    "masked, always resampled": (masked, "multinomial", 1.0),
}


def posterior(exact: Exact, rule: genctl.Rule, follows: bytes, or_ended: bool = False) -> tuple[dict, float]:
    """(middle as ids -> probability, log of the sum of all weights)."""
    constraint = rule.bind(VOCABULARY)
    mass = {}
    for middle in MIDDLES:
        state = constraint.start()
        for byte in middle:
            state = constraint.advance(state, byte) if state else 0
        if state and constraint.complete(state):
            mass[tuple(middle)] = exact.gamma(middle, follows, or_ended) * math.exp(
                constraint.log_potential(state, done=True)
            )
    total = sum(mass.values())
    return {m: w / total for m, w in mass.items() if w}, math.log(total)


def clouds(model: Followed, rule: genctl.Rule, way: str, size: int = 4, runs: int = 1000, seed: int = 1):
    sampler, scheme, threshold = WAYS[way]
    options = smc.Settings(sampler, SCHEMES[scheme], threshold, LONGEST)
    streams = seeded(seed, [(g, i) for g in range(runs) for i in range(size)])
    rules = [rule.bind(VOCABULARY)] * runs
    begun = smc.start(streams, model, [model.encode(b"ab")] * runs, rules, size)
    return smc.run(begun, model, rules, options)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("follows", [b"b", b"aab"])
def test_particles_follow_the_enumerated_law_of_middles_and_the_evidence_is_unbiased(follows, name, way):
    model = toy(4, leaky=False)
    exact, log_evidence = posterior(Exact(model, b"ab"), RULES[name](), follows)
    assert_posterior(clouds(Followed(ByteModel(model), follows), RULES[name](), way), exact, log_evidence)


def test_a_middle_may_end_by_itself_too():
    model = toy(5)
    exact, log_evidence = posterior(Exact(model, b"ab"), any_bytes(), b"ba", or_ended=True)
    cloud = clouds(Followed(ByteModel(model), b"ba", or_ended=True), any_bytes(), "awrs")
    assert_posterior(cloud, exact, log_evidence)


@given(st.integers(0, 999), st.text("ab", min_size=1, max_size=4), st.sampled_from([0.5, 0.05, 1e-3]))
@settings(max_examples=25, derandomize=True, deadline=None)
def test_the_law_of_the_next_symbol_is_off_by_eps_at_most(seed, follows, eps):
    model = toy(seed, spread=2.0)
    exact, cut = (Followed(ByteModel(model), follows.encode(), eps=e) for e in (0.0, eps))
    exact_laws, exact_state = exact.prefill([exact.encode(b"ab")])
    cut_laws, cut_state = cut.prefill([cut.encode(b"ab")])
    for byte in b"abba":
        rows = [laws.scores[0].astype(float) for laws in (exact_laws, cut_laws)]
        if not np.isfinite(rows[0][byte]):
            return
        laws = [np.exp(row - np.logaddexp.reduce(row)) for row in rows]
        if (exact_state.best == cut_state.best).all():  # else what was left out before has set another scale
            assert np.abs(laws[0] - laws[1]).sum() / 2 <= eps + 1e-6
        exact_laws, exact_state = exact.extend(exact_state, np.array([byte]))
        cut_laws, cut_state = cut.extend(cut_state, np.array([byte]))


def test_the_look_ahead_is_cut_short_where_the_suffix_is_unlikely():
    class Counted(ByteModel):
        extended = 0

        def extend(self, state, tokens):
            type(self).extended += len(tokens)
            return super().extend(state, tokens)

    asked = {}
    for eps in (0.0, 1e-2):
        Counted.extended = 0
        model = genctl.load("toy").language_model
        followed = Followed(Counted(model, longest_match(model.vocabulary)), b" sat on the mat", eps=eps)
        scored(followed, followed.encode(b"the c"), b"at is a maybe")
        asked[eps] = Counted.extended
    assert asked[1e-2] < asked[0.0] / 2


@pytest.fixture(scope="module")
def letters() -> genctl.Model:
    """A model whose tokens are one or two letters long."""
    vocabulary = Vocabulary((b"a", b"b", b"c", b"ab", b"ca", b""), frozenset({5}))
    return genctl.Model(ToyModel.random(vocabulary, order=2, seed=3))


def test_infill_draws_middles_of_any_model_by_the_probability_of_what_follows(letters):
    exact = Exact(letters.language_model, b"c")
    weights = {m: exact.gamma(m, b"ab") for n in range(3) for m in map(bytes, itertools.product(b"abc", repeat=n))}
    total = sum(weights.values())
    drawn = letters.infill("c", "ab", max_new_tokens=2, num_particles=32, num_return_sequences=400, seed=0)
    for middle, weight in weights.items():
        share, p = np.mean([bytes(g.tokens) == middle for g in drawn]), weight / total
        assert abs(share - p) < 4 * math.sqrt(p * (1 - p) / 400) + 0.02  # a drawn particle has a bias of order 1 / N
    assert_allclose(np.mean(np.exp([g.log_evidence for g in drawn])), total, rtol=0.05)
    assert {g.finish_reason for g in drawn} == {"complete", "wrapped_up"}
    assert len(letters.infill("c", "ab", max_new_tokens=2, seed=0).particles) == 16


def test_a_middle_is_as_long_as_a_generation_config_lets_it_be(letters):
    options = {"num_particles": 8, "num_return_sequences": 20, "seed": 1}
    told = letters.infill("c", "ab", generation_config={"max_new_tokens": 3}, **options)
    given = letters.infill("c", "ab", max_new_tokens=3, **options)
    assert [g.tokens for g in told] == [g.tokens for g in given]
    assert max(len(g.tokens) for g in told) == 3
    with pytest.raises(ArgumentError, match="the likeliest byte"):
        letters.infill("c", "ab", generation_config={"do_sample": False})


@pytest.mark.parametrize("options", [{}, {"method": "masked"}, {"ess_threshold": 0.9}])
def test_a_middle_obeys_its_rule_and_stands_between_prefix_and_suffix(options):
    lm = genctl.load("toy")
    rule = genctl.regex("[a-z]{1,4}") & (lambda text, done: "x" not in text)
    g = lm.infill("the cat s", " on the mat", rule, max_new_tokens=6, eps=1e-2, seed=0, **options)
    assert rule.accepts(g.text)
    assert all(rule.accepts(particle.text) for particle in g.particles if particle.log_weight > -math.inf)
    assert g.value == g.text
    assert g.log_evidence < 0


def test_most_runs_find_the_middle_that_the_model_was_trained_on():
    lm = genctl.load("toy")
    found = lm.infill("the cat s", " on the mat", max_new_tokens=8, eps=1e-2, num_return_sequences=8, seed=0)
    assert [g.text for g in found].count("at") > 4


def test_the_same_seed_gives_the_same_middle_and_a_run_goes_on_where_it_stopped(letters):
    options = {"max_new_tokens": 6, "seed": 5}
    whole = letters.infill("ca", "bab", **options)
    stopped = letters.infill("ca", "bab", max_time=0.0, **options)
    assert stopped.finish_reason == "time"
    assert letters.infill("ca", "bab", resume=stopped.checkpoint, max_new_tokens=6).text == whole.text


def test_with_nothing_behind_it_the_middle_ends_where_the_text_does(letters):
    ended = letters.infill("ca", "", max_new_tokens=6, seed=2)
    assert ended.text == letters.bytes().generate("ca", max_new_tokens=6, seed=2).text


def test_only_the_first_bytes_of_a_long_suffix_count():
    lm = genctl.load("toy")
    suffix = ("ab" * HORIZON)[:HORIZON]
    short, long = (lm.infill("the cat", s, max_new_tokens=3, eps=1e-2, seed=0) for s in (suffix, suffix + "tail"))
    assert short.log_evidence == long.log_evidence


def test_what_would_be_ignored_is_refused(letters):
    with pytest.raises(ArgumentError, match="no order of parts"):
        letters.infill("a", "b", order="psm")
    with pytest.raises(ArgumentError, match="do_sample=False"):
        letters.infill("a", "b", do_sample=False)
    with pytest.raises(ArgumentError, match="one of whole texts"):
        letters.infill("a", "b", method="exact")
    with pytest.raises(ArgumentError, match="eps is 1"):
        letters.infill("a", "b", eps=1)
    with pytest.raises(ArgumentError, match="no bytes follow"):
        Followed(letters.bytes().language_model, b"")


def test_a_suffix_that_the_model_cannot_write_is_a_dead_end(letters):
    with pytest.raises(DeadEndError, match="the suffix follows none of the 16 middles"):
        letters.infill("a", "z", max_new_tokens=3, seed=0)


@pytest.mark.real
def test_a_real_model_without_control_tokens_fills_a_hole_within_a_word():
    lm = genctl.load()
    assert lm.infill("The capital of Fra", " is Paris.", max_new_tokens=16, eps=1e-2, seed=0).text == "nce"
    rule = genctl.regex("[A-Z][a-z]+")
    g = lm.infill("My name is ", " and I am 42.", rule, max_new_tokens=8, num_particles=8, eps=1e-2, seed=0)
    assert rule.accepts(g.text)
