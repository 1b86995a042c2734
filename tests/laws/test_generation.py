"""The law of whole generations: SMC's particles follow the model conditioned on the rule, and the evidence is unbiased.

Exact answers come from enumerating all texts of a toy model. Dead ends are on purpose: predicates that judge only
finished texts or notice late, and a vocabulary whose tokens straddle the rule's boundaries.
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import genctl
from genctl.compilers.regex import compile_regex
from genctl.constraints.automaton import AutomatonConstraint
from genctl.constraints.both import Both
from genctl.constraints.budget import Budget
from genctl.constraints.predicate import PredicateConstraint
from genctl.errors import ArgumentError
from genctl.models.toy import ToyModel
from genctl.samplers import smc
from genctl.samplers.masked import masked
from genctl.samplers.rejection import AWRS, awrs
from genctl.samplers.resampling import SCHEMES
from genctl.samplers.streams import seeded
from genctl.steering.model import Steered
from genctl.vocabulary import Vocabulary
from tests import naive
from tests.statistics import assert_mean, assert_posterior, total_variation

VOCABULARY = Vocabulary((b"a", b"b", b"ab", b"ba", b"", b""), eos=frozenset({4}), unused=frozenset({5}))
MODEL = ToyModel.random(VOCABULARY, order=3, seed=4, spread=1.5)
LONGEST = 4
RUNS = 1200
PARTICLES = 4


def by_automaton(pattern: str) -> AutomatonConstraint:
    return AutomatonConstraint(compile_regex(pattern), VOCABULARY)


def palindrome(text: str, done: bool) -> bool:
    return not done or text == text[::-1]


def late(text: str, done: bool) -> bool:
    """Dead ends: what three b's rule out was allowed until then."""
    return text.count("b") < 3 and (not done or len(text) >= 3)


def soft(text: str, done: bool) -> float:
    """A potential whose value on prefixes differs from its value on the whole text."""
    return 0.7 * text.count("a") if done else 0.3 * text.count("a") - 0.2 * len(text)


CONSTRAINTS = {
    "automaton": lambda: by_automaton("a*(ba){0,2}b?"),
    "length cut": lambda: by_automaton("(ab|b){3,}"),
    "budget": lambda: Budget(by_automaton("(ab|b){3,}"), LONGEST),
    "predicate": lambda: PredicateConstraint(palindrome, VOCABULARY),
    "late predicate": lambda: PredicateConstraint(late, VOCABULARY),
    "automaton & predicate": lambda: Both([by_automaton("a*b*a*b?"), PredicateConstraint(palindrome, VOCABULARY)]),
    "budget & predicate": lambda: Both(
        [Budget(by_automaton("a*b*a*b?|(ab){5}"), LONGEST), PredicateConstraint(palindrome, VOCABULARY)]
    ),
    "potential": lambda: Both([by_automaton("[ab]{2,6}"), PredicateConstraint(soft, VOCABULARY)]),
}
WAYS = {
    "awrs": (awrs, "systematic", 0.5),
    "masked": (masked, "systematic", 0.5),
    "awrs, never resampled": (awrs, "systematic", 0.0),
    "masked, never resampled": (masked, "systematic", 0.0),
    "awrs, always resampled": (awrs, "multinomial", 1.0),
    "awrs, stratified": (awrs, "stratified", 0.9),
    "masked, residual": (masked, "residual", 0.9),
    "recursive": (AWRS(tail=1), "systematic", 0.5),
    "gives up": (AWRS(max_rejects=3), "systematic", 0.5),
    "geometric": (AWRS("geometric", max_accepts=3), "systematic", 0.5),
    "geometric, gives up": (AWRS("geometric", max_accepts=3, max_rejects=4), "residual", 0.9),
}
EVERYWHERE = list(WAYS)[:7]
SOME = ["automaton", "late predicate", "automaton & predicate"]


def begin(constraints, size, seed, critics=None, prompt=(0,), model=MODEL):
    streams = seeded(seed, [(g, i) for g in range(len(constraints)) for i in range(size)])
    return smc.start(streams, model, [list(prompt)] * len(constraints), constraints, size, critics)


def clouds(constraint, way, size=PARTICLES, runs=RUNS, seed=1, critic=None, model=MODEL):
    """Many independent runs at once: one group of particles each."""
    sampler, scheme, threshold = WAYS[way]
    settings = smc.Settings(sampler, SCHEMES[scheme], threshold, LONGEST)
    constraints, critics = [constraint] * runs, [critic] * runs
    return smc.run(begin(constraints, size, seed, critics, model=model), model, constraints, settings, critics)


@pytest.mark.parametrize(
    ("way", "name"),
    [(way, name) for way in WAYS for name in CONSTRAINTS if way in EVERYWHERE or name in SOME],
)
def test_particles_follow_the_enumerated_posterior_and_the_evidence_is_unbiased(name, way):
    exact, log_evidence = naive.posterior(MODEL, CONSTRAINTS[name](), LONGEST, given=[0])
    assert_posterior(clouds(CONSTRAINTS[name](), way), exact, log_evidence)


@pytest.mark.parametrize("way", ["awrs", "masked, residual", "awrs, never resampled"])
@pytest.mark.parametrize("name", ["automaton", "budget", "late predicate"])
def test_a_critic_is_a_potential_of_whole_texts_however_it_judges_prefixes(name, way):
    critic = PredicateConstraint(soft, VOCABULARY)
    exact, log_evidence = naive.posterior(MODEL, Both([CONSTRAINTS[name](), critic]), LONGEST, given=[0])
    assert_posterior(clouds(CONSTRAINTS[name](), way, critic=critic), exact, log_evidence)


def test_what_a_critic_rules_out_has_no_weight():
    critic = PredicateConstraint(palindrome, VOCABULARY)
    exact, log_evidence = naive.posterior(MODEL, Both([CONSTRAINTS["automaton"](), critic]), LONGEST, given=[0])
    assert_posterior(clouds(CONSTRAINTS["automaton"](), "awrs", critic=critic), exact, log_evidence)


STEER = np.array([0.9, -0.4, 0.6, -1.0, 0.3, 0.0], np.float32)


def bias(logits):
    return logits + STEER


def filtered(logits):
    """Support is taken away: the third likeliest token and all below."""
    return np.where(logits >= np.partition(logits, -3, axis=1)[:, -3, None], logits, np.float32(-np.inf))


def half(logits):
    return logits / 2


def same(logits):
    return logits


class Twin(ToyModel):
    """The toy model under a target hook and a tilt, token by token; its laws need not add up to 1."""

    def __init__(self, hook, tilt, model=MODEL):
        super().__init__(model.vocabulary, model._laws)
        self._hook, self._tilt = hook, tilt

    def law(self, context):
        logits = self._hook(super().law(context)[None])[0].astype(np.float64)
        possible = logits > -np.inf
        logits -= np.logaddexp.reduce(logits)
        logits[possible] += self._tilt(logits[None])[0, possible] - logits[possible]
        return logits


BOUND = {
    "target": (Steered(MODEL, [bias]), Twin(bias, same)),
    "filtering target": (Steered(MODEL, [filtered]), Twin(filtered, same)),
    "tilt": (Steered(MODEL, [bias], "tilt"), Twin(same, bias)),
    "proposal": (Steered(MODEL, [bias], "proposal"), Twin(same, same)),
    "all three": (
        Steered(Steered(Steered(MODEL, [filtered]), [bias], "tilt"), [half], "proposal"),
        Twin(filtered, bias),
    ),
}


@pytest.mark.parametrize("way", ["awrs", "masked", "geometric"])
@pytest.mark.parametrize("name", ["automaton", "predicate"])
@pytest.mark.parametrize("binding", BOUND)
def test_hooks_have_their_binding_s_posterior(name, way, binding):
    model, twin = BOUND[binding]
    exact, log_evidence = naive.posterior(twin, CONSTRAINTS[name](), LONGEST, given=[0])
    assert_posterior(clouds(CONSTRAINTS[name](), way, model=model), exact, log_evidence)


def test_a_proposal_that_takes_tokens_away_is_refused():
    with pytest.raises(ArgumentError, match="takes away tokens"):
        clouds(CONSTRAINTS["automaton"](), "awrs", model=Steered(MODEL, [filtered], "proposal"), runs=1)


tokens = st.lists(st.sampled_from([b"a", b"b", b"ab", b"ba", b"aa", b"bb"]), min_size=2, max_size=4, unique=True)
patterns = st.recursive(
    st.sampled_from(["a", "b", "[ab]", "ab?"]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda pair: f"({pair[0]}|{pair[1]})"),
        inner.map("({})*".format),
        inner.map("({}){{1,3}}".format),
    ),
    max_leaves=5,
)
samplers = st.one_of(
    st.just(masked),
    st.builds(AWRS, st.just("recursive"), tail=st.integers(1, 5), max_rejects=st.none() | st.integers(1, 4)),
    st.builds(AWRS, st.just("geometric"), max_accepts=st.integers(2, 5), max_rejects=st.none() | st.integers(1, 6)),
)


def noise(seed: int, hard: bool):
    """A function that judges prefixes and texts at random, always in the same way."""

    def judge(text: str, done: bool) -> bool | float:
        number = np.random.default_rng((seed, done, *text.encode())).random()
        return bool(number > 0.15) if hard else float(number - 0.5)

    return judge


@given(tokens, patterns, samplers, st.data())
@settings(max_examples=100, derandomize=True)
def test_random_rules_samplers_critics_and_hooks_have_the_enumerated_posterior(words, pattern, sampler, data):
    """Where particles die of a judge, or give up, and hardly any can live, 400 runs say nothing: they are left out."""
    vocabulary = Vocabulary((*words, b""), eos=frozenset({len(words)}))
    model = ToyModel.random(vocabulary, order=2, seed=data.draw(st.integers(0, 99)), spread=1.5)
    longest = data.draw(st.integers(1, 6 if len(words) < 4 else 5))

    def rule():
        return AutomatonConstraint(compile_regex(pattern), vocabulary)

    seed, judged = data.draw(st.integers(0, 99)), data.draw(st.sampled_from(["nothing", "rule", "critic"]))
    judge = PredicateConstraint(noise(seed, data.draw(st.booleans())), vocabulary)
    constraint, critic = (Both([rule(), judge]) if judged == "rule" else rule()), judge if judged == "critic" else None
    bias = np.random.default_rng(seed).normal(0, 1, len(vocabulary)).astype(np.float32)
    binding = data.draw(st.sampled_from(["none", "target", "tilt", "proposal"]))

    def hook(logits):
        return logits + bias

    twin = Twin(hook if binding == "target" else same, hook if binding == "tilt" else same, model)
    exact, log_evidence = naive.posterior(twin, constraint if critic is None else Both([constraint, critic]), longest)
    dying = judged != "nothing" or getattr(sampler, "max_rejects", None) is not None
    assume(not exact or not dying or log_evidence > math.log(0.05))
    runs, size = 400, data.draw(st.integers(1, 4))
    threshold = data.draw(st.sampled_from([0.0, 0.5, 1.0]))
    scheme = SCHEMES[data.draw(st.sampled_from(sorted(SCHEMES)))]
    streams = seeded(seed, [(g, i) for g in range(runs) for i in range(size)])
    constraints, critics = [constraint] * runs, [critic] * runs
    steered = model if binding == "none" else Steered(model, [hook], binding)
    begun = smc.start(streams, steered, [[]] * runs, constraints, size, critics)
    cloud = smc.run(begun, steered, constraints, smc.Settings(sampler, scheme, threshold, longest), critics)
    if not exact:
        assert (cloud.log_weights == -np.inf).all()
        return
    assert_posterior(cloud, exact, log_evidence, rare=True)


@pytest.mark.parametrize("way", WAYS)
def test_a_group_s_result_does_not_depend_on_the_groups_beside_it(way):
    names = ["automaton", "budget", "predicate", "automaton"]
    constraints = [CONSTRAINTS[name]() for name in names]
    sampler, scheme, threshold = WAYS[way]
    settings = smc.Settings(sampler, SCHEMES[scheme], threshold, LONGEST)
    streams = seeded(3, [(g, i) for g in range(4) for i in range(PARTICLES)])
    together = smc.run(smc.start(streams, MODEL, [[0]] * 4, constraints, PARTICLES), MODEL, constraints, settings)
    for g, group in enumerate(together.groups()):
        rows = streams.rows(np.arange(group.start, group.stop))
        fresh = [CONSTRAINTS[names[g]]()]
        alone = smc.run(smc.start(rows, MODEL, [[0]], fresh, PARTICLES), MODEL, fresh, settings)
        assert alone.tokens == together.tokens[group]
        np.testing.assert_array_equal(alone.log_weights, together.log_weights[group])


@pytest.mark.parametrize("way", ["awrs", "masked"])
def test_the_law_of_a_drawn_particle_converges_to_the_posterior(way):
    """The one text that generate returns is biased with few particles, and the bias dies out like 1 / N."""
    constraint = CONSTRAINTS["automaton & predicate"]()
    exact, _ = naive.posterior(MODEL, constraint, LONGEST, given=[0])
    distance = {}
    for size, runs in ((1, 4000), (4, 4000), (64, 1000)):
        cloud = clouds(constraint, way, size, runs, seed=size)
        law: dict = {}
        for group in cloud.groups():
            weights = smc.normalised(cloud.log_weights[group])
            for tokens, weight in zip(cloud.tokens[group], weights, strict=True):
                if weight:
                    law[tokens] = law.get(tokens, 0.0) + weight
        total = sum(law.values())
        distance[size] = total_variation({t: w / total for t, w in law.items()}, exact)
    noise = math.sqrt(len(exact) / (4 * 1000))
    assert distance[64] < noise
    assert distance[64] < distance[1]


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize(
    "weights", [[0.2, 0.3, 0.5], [1.0], [0.0, 1.0, 0.0], [0.25] * 4, [0.0, 0.999, 0.001, 0.0], [0.1] * 10]
)
def test_a_particle_has_n_times_its_weight_offspring_on_average(scheme, weights):
    weights = np.array(weights)
    rng = np.random.default_rng(2)
    counts = np.array([np.bincount(scheme(rng, weights), minlength=len(weights)) for _ in range(4000)])
    assert (counts.sum(axis=1) == len(weights)).all()
    for column, weight in zip(counts.T, weights, strict=True):
        assert_mean(column, len(weights) * weight, largest=len(weights))
        assert weight > 0 or not column.any()


def test_all_particles_dead_is_a_defined_state():
    constraint = PredicateConstraint(lambda text, done: False if done else len(text) < 3, VOCABULARY)
    for way in WAYS:
        cloud = clouds(constraint, way, runs=3)
        assert (cloud.log_weights == -np.inf).all()
        assert smc.log_mean_exp(cloud.log_weights) == -np.inf
        assert smc.effective_sample_size(cloud.log_weights) == 0.0


def test_resampling_leaves_every_weight_at_the_mean():
    cloud = clouds(CONSTRAINTS["automaton"](), "awrs, always resampled", size=8, runs=1)
    settings = smc.Settings(awrs, SCHEMES["multinomial"], 1.0, LONGEST)
    begun = begin([CONSTRAINTS["automaton"]()], 8, seed=0)
    moved = smc.step(begun, MODEL, [CONSTRAINTS["automaton"]()], settings)
    assert cloud.size == 8
    assert len(set(moved.log_weights.tolist())) == 1


@pytest.mark.parametrize("constraint", [None, "automaton"])
def test_particles_behind_the_same_text_draw_each_token_in_proportion(constraint):
    constraints = [CONSTRAINTS[constraint]() if constraint else None] * 3
    settings = smc.Settings(masked, SCHEMES["systematic"], 0.0, LONGEST)
    moved = smc.step(begin(constraints, 40, seed=5), MODEL, constraints, settings)
    allowed = naive.mask(constraints[0], constraints[0].start(), 6) if constraint else np.ones(6, np.bool_)
    logits = np.where(allowed, smc.law(MODEL.prefill([[0]])[0]).target[0].astype(np.float64), -np.inf)
    law = np.exp(logits - np.logaddexp.reduce(logits))
    for group in moved.groups():
        drawn = np.bincount([tokens[0] if tokens else 4 for tokens in moved.tokens[group]], minlength=6)
        assert np.abs(drawn - 40 * law).max() < 1


def test_without_a_rule_texts_have_the_model_s_own_law():
    settings = smc.Settings(awrs, SCHEMES["systematic"], 0.5, 2)
    cloud = smc.run(begin([None] * 4000, 1, seed=3), MODEL, [None] * 4000, settings)
    assert (cloud.log_weights == 0).all()
    for text in {(): None, (0,): None, (1, 2): None}:
        ended = MODEL.logprob([*text, 4] if len(text) < 2 else text, given=[0])
        assert_mean(np.array([t == text for t in cloud.tokens]), math.exp(ended))


@pytest.mark.parametrize("method", ["awrs", "masked"])
def test_what_generate_returns_has_the_law_of_the_posterior_with_many_particles(method):
    """The law of the text itself, not of weighted particles: one particle is off, 48 are within the noise."""
    rule = genctl.regex("a*b*a*b?") & palindrome
    exact: dict[str, float] = {}
    by_tokens, log_evidence = naive.posterior(MODEL, rule.bind(VOCABULARY), LONGEST, given=[0])
    for tokens, probability in by_tokens.items():
        text = VOCABULARY.join(tokens).decode()
        exact[text] = exact.get(text, 0.0) + probability
    lm, runs = genctl.load(MODEL), 1500
    distance = {}
    for size in (1, 48):
        options = {"num_particles": size, "max_new_tokens": LONGEST, "method": method, "seed": 5}
        drawn = lm.generate("a", rule, num_return_sequences=runs, **options)
        counted = Counter(g.text for g in drawn if g.log_weight > -math.inf)
        distance[size] = total_variation({t: n / counted.total() for t, n in counted.items()}, exact)
        assert_mean(np.exp([g.log_evidence - log_evidence for g in drawn]), 1.0)
    assert distance[48] < math.sqrt(len(exact) / runs)
    assert distance[48] < distance[1]
