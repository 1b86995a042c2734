"""Ensembles of language models: the law of each operation, by formula and by enumeration of whole texts."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import genctl
from genctl.compilers.regex import compile_regex
from genctl.constraints.automaton import AutomatonConstraint
from genctl.constraints.budget import Budget
from genctl.errors import ArgumentError, DeadEndError, ModelError, VocabularyError
from genctl.models.ensemble import OPERATIONS, Ensemble
from genctl.models.toy import ToyModel
from genctl.samplers import smc
from genctl.samplers.base import DEAD_TOKEN
from genctl.samplers.masked import masked
from genctl.samplers.rejection import awrs
from genctl.samplers.resampling import SCHEMES
from genctl.samplers.streams import seeded
from genctl.steering.basic import Temperature
from genctl.steering.model import Steered
from genctl.vocabulary import Vocabulary
from tests import naive
from tests.answers import scores_of
from tests.statistics import assert_posterior, total_variation

VOCABULARY = Vocabulary((b"a", b"b", b"ab", b"ba", b"", b""), eos=frozenset({4}), unused=frozenset({5}))
A, B, END, UNUSED = 0, 1, 4, 5
FIRST, SECOND, THIRD = (ToyModel.random(VOCABULARY, order=3, seed=seed, spread=1.5) for seed in (4, 5, 6))
UNIFORM = ToyModel.random(VOCABULARY, order=1, seed=0, spread=0.0)
LONGEST = 4


def without(model: ToyModel, *symbols: int) -> ToyModel:
    """The model, to which some symbols are impossible."""
    laws = {}
    for context, law in model._laws.items():
        less = law.astype(np.float64)
        less[list(symbols)] = -np.inf
        laws[context] = (less - np.logaddexp.reduce(less)).astype(np.float32)
    return ToyModel(model.vocabulary, laws)


def never(model: ToyModel) -> ToyModel:
    """A model that finds everything impossible."""
    return ToyModel(model.vocabulary, {(): np.full(len(model.vocabulary), -np.inf, np.float32)})


def log_sum(values) -> float:
    finite = [value for value in values if value > -math.inf]
    return max(finite) + math.log(math.fsum(math.exp(v - max(finite)) for v in finite)) if finite else -math.inf


def normal(law) -> np.ndarray:
    total = log_sum(law)
    return np.array([value - total if value > -math.inf else value for value in law])


class Twin:
    """An ensemble of toy models by the formula of its operation, one symbol after the other."""

    def __init__(self, models, op, weights):
        self.models, self.op, self.weights, self.vocabulary = models, op, weights, models[0].vocabulary

    def law(self, context):
        laws = [normal(model.law(context).tolist()) for model in self.models]
        weights = self.weights
        if self.op == "bayes":
            joint = [math.log(w) + m.logprob(context) for w, m in zip(weights, self.models, strict=True)]
            weights = np.exp(normal(joint))
        scores = np.array([self.score([float(law[t]) for law in laws], weights) for t in range(len(self.vocabulary))])
        return scores if self.op == "global_product" else normal(scores)

    def score(self, logprobs, weights):
        if self.op in ("mixture", "bayes"):
            return log_sum([math.log(w) + logprob for w, logprob in zip(weights, logprobs, strict=True)])
        if self.op in ("product", "global_product"):
            return sum(w * logprob for w, logprob in zip(weights, logprobs, strict=True))
        return {"min": min, "max": max}[self.op](logprobs)

    def logprob(self, tokens, given=()):
        return sum(float(self.law([*given, *tokens[:i]])[token]) for i, token in enumerate(tokens))


WEIGHTS = {"mixture": [0.3, 0.7], "bayes": [0.6, 0.4], "product": [0.5, 1.2], "global_product": [0.5, 1.2]}


def pair(op, models=(FIRST, SECOND)) -> tuple[Ensemble, Twin]:
    return Ensemble(models, WEIGHTS.get(op), op), Twin(models, op, WEIGHTS.get(op))


def laws_of(logits) -> np.ndarray:
    return np.array([normal(row) for row in scores_of(logits).astype(np.float64).tolist()])


def contexts(longest):
    return [list(text) for length in range(longest + 1) for text in product(range(4), repeat=length)]


# -- the law of the next symbol


@pytest.mark.parametrize("op", OPERATIONS)
def test_the_law_of_the_next_symbol_is_the_formula_of_the_operation(op):
    ensemble, twin = pair(op)
    texts = contexts(3)
    found, _ = ensemble.prefill(texts)
    found = scores_of(found)
    expected = np.array([twin.law(text) for text in texts])
    assert_allclose(found, expected, atol=1e-5)
    if op != "global_product":
        assert_allclose(np.exp(found.astype(np.float64)).sum(axis=1), 1, atol=1e-6)


def test_a_function_of_the_log_probabilities_is_an_operation():
    def contrast(laws):
        return np.where(laws[0] > laws[0].max(axis=1, keepdims=True) - 2, laws[0] - laws[1], -np.inf)

    texts = contexts(2)
    found, _ = Ensemble([FIRST, SECOND], op=contrast).prefill(texts)
    for row, text in zip(found, texts, strict=True):
        laws = [normal(model.law(text).tolist()) for model in (FIRST, SECOND)]
        with np.errstate(invalid="ignore"):
            scores = np.where(laws[0] > laws[0].max() - 2, laws[0] - laws[1], -np.inf)
        assert_allclose(row, normal(scores.tolist()), atol=1e-5)


@pytest.mark.parametrize("op", OPERATIONS)
@pytest.mark.parametrize("copies", [1, 2, 3])
def test_a_model_with_itself_is_the_model(op, copies):
    texts = contexts(2)
    found, _ = Ensemble([FIRST] * copies, op=op).prefill(texts)
    assert_allclose(laws_of(found), laws_of(FIRST.prefill(texts)[0]), atol=1e-5)


def test_the_product_with_a_uniform_model_is_the_model():
    texts = contexts(2)
    found, _ = Ensemble([FIRST, UNIFORM], [1, 1], op="product").prefill(texts)
    assert_allclose(found, laws_of(FIRST.prefill(texts)[0]), atol=1e-5)


def test_a_member_of_weight_0_has_no_say():
    texts = contexts(2)
    for op in ("mixture", "bayes", "product"):
        found, _ = Ensemble([FIRST, without(SECOND, A)], [1, 0], op).prefill(texts)
        assert_allclose(found, laws_of(FIRST.prefill(texts)[0]), atol=1e-5)


@pytest.mark.parametrize("op", OPERATIONS)
def test_the_order_of_the_members_does_not_matter(op):
    weights = {"mixture": [0.2, 0.5, 0.3], "bayes": [0.2, 0.5, 0.3], "product": [2.0, -0.5, 0.3]}
    weights["global_product"] = weights["product"]
    models, given = [FIRST, SECOND, THIRD], weights.get(op)
    found, _ = Ensemble(models, given, op).prefill(contexts(2))
    for order in ([1, 2, 0], [2, 1, 0]):
        turned = Ensemble([models[i] for i in order], given and [given[i] for i in order], op)
        assert_allclose(scores_of(turned.prefill(contexts(2))[0]), scores_of(found), atol=1e-5)


@pytest.mark.parametrize("op", ["mixture", "bayes"])
def test_a_mixture_of_mixtures_is_a_mixture_of_all(op):
    inner = Ensemble([FIRST, SECOND], [0.25, 0.75], op)
    nested, flat = Ensemble([inner, THIRD], [0.6, 0.4], op), Ensemble([FIRST, SECOND, THIRD], [0.15, 0.45, 0.4], op)
    assert_allclose(nested.prefill(contexts(3))[0], flat.prefill(contexts(3))[0], atol=1e-5)


numbers = st.floats(-30, 0) | st.just(-math.inf)


@given(
    st.lists(st.lists(st.lists(numbers, min_size=3, max_size=3), min_size=2, max_size=2), min_size=1, max_size=4),
    st.sampled_from([op for op in OPERATIONS if op != "global_product"]),
    st.data(),
)
def test_every_law_is_normalised_or_a_dead_end_and_never_nan(rows, op, data):
    vocabulary = Vocabulary((b"a", b"b", b""), frozenset({2}))
    models = [ToyModel(vocabulary, {(): np.float32(law[0]), (0,): np.float32(law[1])}) for law in rows]
    weights = None
    if op == "product":
        weights = data.draw(st.lists(st.floats(-3, 3), min_size=len(rows), max_size=len(rows)))
    logits, state = Ensemble(models, weights, op).prefill([[], [0]])
    more, _ = Ensemble(models, weights, op).extend(state, np.array([0, 1]))
    for row in np.concatenate([logits, more]).astype(np.float64):
        assert not np.isnan(row).any()
        total = np.exp(row).sum()
        assert total == 0 or math.isclose(total, 1, rel_tol=1e-5)


# -- what is impossible


def test_what_one_member_finds_impossible_is_so_to_the_product_but_not_to_the_mixture():
    models = [without(FIRST, B), SECOND]
    for op, possible in {"mixture": True, "bayes": True, "max": True, "product": False, "min": False}.items():
        logits, _ = Ensemble(models, op=op).prefill([[], [A]])
        assert_array_equal(logits[:, B] > -np.inf, possible)
        assert np.isfinite(logits[:, [A, END]]).all()


def test_nothing_possible_is_a_dead_end():
    gone = never(FIRST)
    apart = [without(FIRST, B, 2, 3, END), without(SECOND, A)]
    for models, op in [([gone, gone], op) for op in OPERATIONS] + [(apart, "product"), (apart, "min")]:
        answer, state = Ensemble(models, op=op).prefill([[], [A]])
        logits = scores_of(answer)
        assert (logits == -np.inf).all()
        assert (scores_of(Ensemble(models, op=op).extend(state, np.array([A, B]))[0]) == -np.inf).all()
        for sampler in WAYS.values():
            draws = sampler(seeded(0, [(0,), (1,)]), logits, by_automaton("[ab]*"), np.array([1, 1]))
            assert (draws.tokens == DEAD_TOKEN).all()
            assert (draws.log_weights == -np.inf).all()


def test_every_text_of_the_rule_impossible_is_a_dead_end_of_generate():
    lm = genctl.load(Ensemble([without(FIRST, A, 2, 3), SECOND], op="product"))
    with pytest.raises(DeadEndError):
        lm.generate("b", genctl.regex("b*a"), max_new_tokens=4, num_particles=4)


def test_a_member_that_finds_the_text_impossible_leaves_it_to_the_others():
    for op in ("mixture", "bayes"):
        logits, _ = Ensemble([never(FIRST), SECOND], op=op).prefill(contexts(2))
        assert_allclose(logits, laws_of(SECOND.prefill(contexts(2))[0]), atol=1e-5)


def test_a_text_that_is_impossible_to_every_member_of_a_bayes_mixture_is_a_dead_end():
    ensemble = Ensemble([without(FIRST, A), without(SECOND, A)], op="bayes")
    _, state = ensemble.prefill([[], []])
    logits, _ = ensemble.extend(state, np.array([A, B]))
    assert (logits[0] == -np.inf).all()
    assert np.isfinite(logits[1, [B, END]]).all()


def test_a_negative_exponent_takes_the_impossible_for_the_least_likely():
    anti = without(SECOND, A)
    law = laws_of(anti.prefill([[]])[0])[0]
    law[[A, UNUSED]] = law[law > -np.inf].min()
    base = laws_of(FIRST.prefill([[]])[0])[0]
    found, _ = Ensemble([FIRST, anti], [1, -0.5], "product").prefill([[]])
    assert_allclose(found[0], normal((base - 0.5 * law).tolist()), atol=1e-5)


def test_a_negative_exponent_makes_nothing_possible_and_an_impossible_row_has_no_say():
    found, _ = Ensemble([without(FIRST, A), without(SECOND, A)], [1, -1], "product").prefill([[]])
    assert found[0, A] == -np.inf
    found, _ = Ensemble([FIRST, never(SECOND)], [1, -1], "product").prefill([[]])
    assert_allclose(found, laws_of(FIRST.prefill([[]])[0]), atol=1e-5)
    found, _ = Ensemble([FIRST], [-1], "product").prefill([[]])
    assert found[0, UNUSED] == -np.inf


def test_proxy_tuning_is_base_and_expert_less_anti_expert():
    found, _ = Ensemble([FIRST, SECOND, THIRD], [1, 1, -1], "product").prefill(contexts(2))
    base, expert, anti = (laws_of(model.prefill(contexts(2))[0])[:, :UNUSED] for model in (FIRST, SECOND, THIRD))
    assert_allclose(found[:, :UNUSED], [normal(row) for row in (base + expert - anti).tolist()], atol=1e-5)


# -- the law of whole texts


def test_the_chain_rule_of_a_bayes_mixture_gives_each_text_its_weighted_probability():
    ensemble, _ = pair("bayes")
    for text in contexts(LONGEST):
        logits, state = ensemble.prefill([[]])
        logprob = 0.0
        for token in [*text, END]:
            logprob += float(logits[0, token])
            if token != END:
                logits, state = ensemble.extend(state, np.array([token]))
        expected = 0.6 * math.exp(FIRST.logprob([*text, END])) + 0.4 * math.exp(SECOND.logprob([*text, END]))
        assert math.isclose(math.exp(logprob), expected, rel_tol=1e-4)


def test_the_prompt_of_a_bayes_mixture_does_not_move_its_weights_but_the_text_does():
    ensemble, _ = pair("bayes")
    prompt, read = ensemble.encode("abba"), FIRST.encode("abba")
    logits, state = ensemble.prefill([prompt])
    assert_allclose(logits[0], Twin([FIRST, SECOND], "mixture", [0.6, 0.4]).law(read), atol=1e-5)
    shares = [w * math.exp(model.logprob([B], read)) for w, model in ((0.6, FIRST), (0.4, SECOND))]
    expected = Twin([FIRST, SECOND], "mixture", np.array(shares) / sum(shares)).law([*read, B])
    for moved in (ensemble.extend(state, np.array([B]))[0], ensemble.prefill([[*prompt, B]])[0]):
        assert_allclose(moved[0], expected, atol=1e-5)


def by_automaton(pattern):
    return AutomatonConstraint(compile_regex(pattern), VOCABULARY)


RUNS, PARTICLES = 1200, 4
WAYS = {"awrs": awrs, "masked": masked}
CONSTRAINTS = {
    "automaton": lambda: by_automaton("a*(ba){0,2}b?"),
    "length cut": lambda: by_automaton("(ab|b){3,}"),
    "budget": lambda: Budget(by_automaton("(ab|b){3,}"), LONGEST),
}


def clouds(model, constraint, sampler, size=PARTICLES, runs=RUNS):
    """Many independent runs at once."""
    settings = smc.Settings(sampler, SCHEMES["systematic"], 0.5, LONGEST)
    streams = seeded(1, [(g, i) for g in range(runs) for i in range(size)])
    begun = smc.start(streams, model, [[]] * runs, [constraint] * runs, size)
    return smc.run(begun, model, [constraint] * runs, settings)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CONSTRAINTS)
@pytest.mark.parametrize("op", OPERATIONS)
def test_particles_follow_the_enumerated_posterior_of_the_ensemble(op, name, way):
    """Of a global product the posterior is prod_i P_i(text)^a_i over whole texts, and so is its evidence."""
    ensemble, twin = pair(op)
    exact, log_evidence = naive.posterior(twin, CONSTRAINTS[name](), LONGEST)
    assert_posterior(clouds(ensemble, CONSTRAINTS[name](), WAYS[way]), exact, log_evidence)


def test_a_global_product_gives_whole_texts_the_product_of_their_probabilities():
    """The twin's law is what the words say: the members' probabilities of text and end, with their exponents."""
    _, twin = pair("global_product")
    for text in contexts(2):
        expected = 0.5 * FIRST.logprob([*text, END]) + 1.2 * SECOND.logprob([*text, END])
        assert math.isclose(twin.logprob([*text, END]), expected, rel_tol=1e-5)


def test_local_and_global_products_differ_and_particles_find_the_global_one():
    constraint = CONSTRAINTS["automaton"]
    exact, _ = naive.posterior(pair("global_product")[1], constraint(), LONGEST)
    local, _ = naive.posterior(pair("product")[1], constraint(), LONGEST)
    cloud = clouds(pair("global_product")[0], constraint(), masked, size=4000, runs=1)
    found: dict[Any, float] = {}
    for tokens, weight in zip(cloud.tokens, smc.normalised(cloud.log_weights), strict=True):
        found[tokens] = found.get(tokens, 0.0) + weight
    assert total_variation(found, exact) < 0.05
    assert total_variation(local, exact) > 0.1


def test_a_temperature_raises_the_whole_of_a_global_product_to_its_inverse():
    ensemble, twin = pair("global_product")
    hot = Twin(twin.models, twin.op, [weight / 1.6 for weight in twin.weights])
    cloud = clouds(Steered(ensemble, [Temperature(1.6)]), CONSTRAINTS["automaton"](), awrs)
    assert_posterior(cloud, *naive.posterior(hot, CONSTRAINTS["automaton"](), LONGEST))


@pytest.mark.parametrize(
    ("op", "method"),
    [(op, method) for op in OPERATIONS for method in ("exact", "awrs") if (op, method) != ("global_product", "exact")],
)
def test_generate_samples_the_ensemble_conditioned_on_the_rule(op, method):
    rule = genctl.regex("a*(ba){0,2}b?")
    ensemble, twin = pair(op)
    by_tokens, _ = naive.posterior(twin, rule.bind(VOCABULARY), LONGEST)
    exact: dict[str, float] = {}
    for tokens, probability in by_tokens.items():
        text = VOCABULARY.join(tokens).decode()
        exact[text] = exact.get(text, 0.0) + probability
    g = genctl.load(ensemble).generate("", rule, method=method, num_particles=4000, max_new_tokens=LONGEST, seed=3)
    assert total_variation(g.posterior(), exact) < math.sqrt(len(exact) / 4000)


@pytest.mark.parametrize("method", ["exact", "rejection"])
def test_methods_that_draw_symbol_by_symbol_without_weights_refuse_a_global_product(method):
    lm = genctl.ensemble([FIRST, SECOND], op="global_product")
    with pytest.raises(ArgumentError, match=r'(?s)whole texts.*"smc"'):
        lm.generate("", genctl.regex("[ab]*"), method=method, max_new_tokens=LONGEST)


def test_an_ensemble_of_loaded_models_is_a_loaded_model():
    lm = genctl.ensemble([genctl.load(FIRST), SECOND], [0.5, 1.2], op="product", prompts=[None, "b{prompt}"])
    same = Ensemble([FIRST, SECOND], [0.5, 1.2], "product", [None, "b{prompt}"])
    found, _ = lm.language_model.prefill([lm.language_model.encode("a")])
    assert_array_equal(found, same.prefill([same.encode("a")])[0])


@pytest.mark.parametrize("op", ["bayes", "product", "global_product"])
def test_a_run_that_is_resumed_gives_what_it_would_have_given(op):
    lm, rule = genctl.load(pair(op)[0]), genctl.regex("[ab]{3,9}")
    options: dict[str, Any] = {"num_particles": 6, "max_new_tokens": 6, "seed": 3}
    whole = lm.generate("ab", rule, **options)
    with pytest.raises(genctl.Interrupted) as caught:
        lm.generate("ab", rule, progress=_interrupt_after(3), **options)
    resumed = lm.generate("ab", rule, resume=caught.value.checkpoint, **options)
    assert resumed.text == whole.text
    assert_allclose([p.log_weight for p in resumed.particles], [p.log_weight for p in whole.particles], atol=1e-5)


def _interrupt_after(steps):
    def progress(done, _total):
        if done == steps:
            raise KeyboardInterrupt

    return progress


# -- prompts


class Marked(ToyModel):
    """A toy model that begins prompts with its own mark, an id of its vocabulary."""

    def __init__(self, model, mark):
        super().__init__(model.vocabulary, model._laws)
        self.mark = mark

    def encode(self, prompt, /):
        return [self.mark, *super().encode(prompt)]


@pytest.mark.parametrize("op", OPERATIONS)
def test_each_member_reads_the_prompt_as_it_encodes_it(op):
    models = [Marked(FIRST, A), Marked(SECOND, B)]
    weights = WEIGHTS.get(op)
    ensemble = Ensemble(models, weights, op)
    ids = ensemble.encode("b")
    assert all(i >= len(VOCABULARY) for i in ids)
    found, state = ensemble.prefill([ids, ids])
    assert_allclose(scores_of(found), [_law_behind(op, [A, B], [B, B], weights)] * 2, atol=1e-5)
    more, _ = ensemble.extend(state, np.array([A, B]))
    again, _ = ensemble.prefill([[*ids, A], [*ids, B]])
    assert_allclose(scores_of(more), scores_of(again), atol=1e-5)


def _law_behind(op, first, second, weights):
    laws = [normal(FIRST.law(first).tolist()), normal(SECOND.law(second).tolist())]
    apart = [ToyModel(VOCABULARY, {(): law.astype(np.float32)}) for law in laws]
    return Twin(apart, op, weights).law([])


@pytest.mark.parametrize("op", ["product", "bayes"])
def test_prompts_of_different_shapes_and_texts_go_together(op):
    ensemble = Ensemble([Marked(FIRST, A), SECOND], op=op)
    rows = [[*ensemble.encode("ab"), B, A], ensemble.encode("b"), [*ensemble.encode(""), A]]
    together, _ = ensemble.prefill(rows)
    assert_allclose(together, np.concatenate([ensemble.prefill([row])[0] for row in rows]), atol=1e-5)


def test_members_that_encode_alike_have_the_ids_themselves_for_a_prompt():
    assert Ensemble([FIRST, SECOND]).encode("abab") == FIRST.encode("abab")
    assert Ensemble([Marked(FIRST, A), Marked(SECOND, A)]).encode("b") == [A, B]


def test_an_ensemble_in_an_ensemble_keeps_the_prompts_of_its_members():
    inner = Ensemble([Marked(FIRST, A), Marked(SECOND, B)])
    nested = Ensemble([inner, Marked(THIRD, 2)], [2 / 3, 1 / 3])
    flat = Ensemble([*inner.members, Marked(THIRD, 2)])
    assert_allclose(nested.prefill([nested.encode("ab")])[0], flat.prefill([flat.encode("ab")])[0], atol=1e-5)


def test_prompts_may_be_shaped_for_each_member():
    def twice(prompt):
        return prompt + prompt

    ensemble = Ensemble([FIRST, SECOND, THIRD], prompts=[None, "b{prompt}b", twice])
    for prompt, shaped in (("a", "aa"), (b"a", b"aa")):
        found, _ = ensemble.prefill([ensemble.encode(prompt)])
        laws = [FIRST.law(FIRST.encode("a")), SECOND.law(SECOND.encode("bab")), THIRD.law(THIRD.encode(shaped))]
        expected = [log_sum([float(law[t]) - math.log(3) for law in laws]) for t in range(len(VOCABULARY))]
        assert_allclose(found[0], expected, atol=1e-5)


def test_loaded_models_are_members_and_what_is_no_model_is_refused_by_its_place():
    both = Ensemble([genctl.load(FIRST), SECOND])
    assert both.members == (FIRST, SECOND)
    for models, message in (([FIRST, None], r"models\[1\] is NoneType"), (FIRST, "expected a list of models")):
        with pytest.raises(ArgumentError, match=message):
            genctl.ensemble(models)


def test_messages_reach_members_without_a_template_and_are_refused_by_a_text():
    messages = [{"role": "user", "content": "ab"}]
    seen = []

    def read(prompt):
        seen.append(prompt)
        return "ab"

    Ensemble([FIRST, SECOND], prompts=[read, read]).encode(messages)
    assert seen == [messages, messages]
    with pytest.raises(ArgumentError, match=r"prompts\[1\].*messages"):
        Ensemble([FIRST, SECOND], prompts=[read, "{prompt}"]).encode(messages)


# -- cost


class Counted(ToyModel):
    def __init__(self, model):
        super().__init__(model.vocabulary, model._laws)
        self.calls: list[int] = []

    def _answer(self, contexts):
        self.calls.append(len(contexts))
        return super()._answer(contexts)


@pytest.mark.parametrize("op", OPERATIONS)
def test_each_member_is_called_once_a_call(op):
    models = [Counted(FIRST), Counted(SECOND)]
    ensemble = Ensemble(models, op=op)
    _, state = ensemble.prefill([ensemble.encode("ab"), ensemble.encode("a")])
    _, state = ensemble.extend(ensemble.select(state, np.array([0, 0, 1])), np.array([A, B, A]))
    ensemble.extend(state, np.array([A, B, A]))
    assert [model.calls for model in models] == [[2, 3, 3]] * 2


def test_a_state_can_be_extended_by_a_bayes_mixture_after_rows_of_different_lengths():
    ensemble, twin = pair("bayes")
    _, state = ensemble.prefill([[], [A]])
    logits, state = ensemble.extend(state, [[B, A, B], [A]])
    assert_allclose(logits, [twin.law([B, A, B]), twin.law([A, A])], atol=1e-5)
    logits, _ = ensemble.extend(ensemble.select(state, np.array([1, 0])), [[B], [A, A]])
    assert_allclose(logits, [twin.law([A, A, B]), twin.law([B, A, B, A, A])], atol=1e-5)


# -- errors


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (Vocabulary((b"a", b""), frozenset({1})), "6 ids against 2"),
        (Vocabulary((b"a", b"c", b"ab", b"ba", b"", b""), frozenset({4}), frozenset({5})), "id 1 is b'b' against b'c'"),
        (Vocabulary(VOCABULARY.tokens, frozenset({4, 5}), frozenset()), r"end a text are \[4\] against \[4, 5\]"),
        (Vocabulary(VOCABULARY.tokens, frozenset({4})), "id 5 is unused in only one"),
    ],
)
def test_models_with_different_symbols_are_refused(other, said):
    stranger = ToyModel(other, {(): np.zeros(len(other), np.float32)})
    with pytest.raises(VocabularyError, match=rf"(?s)models\[0\] and models\[2\].*{said}.*lm\.bytes\(\)"):
        Ensemble([FIRST, SECOND, stranger])


def test_equal_vocabularies_may_be_different_objects():
    equal = Vocabulary(VOCABULARY.tokens, VOCABULARY.eos, VOCABULARY.unused)
    Ensemble([FIRST, ToyModel(equal, SECOND._laws)])


def not_a_number(laws):
    return laws[0] * np.nan


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"models": []}, "at least one model"),
        ({"weights": [1.0]}, "1 weights for 2 models"),
        ({"weights": [0.5, math.nan]}, r"weights\[1\] is nan"),
        ({"weights": [0.5, True]}, r"weights\[1\] is True"),
        ({"weights": ["1", 0.0]}, r"weights\[0\] is '1'"),
        ({"weights": [1.5, -0.5]}, r"(?s)weights\[1\] is -0\.5.*exponents"),
        ({"weights": [7, 3]}, r"(?s)add up to 10.*\[0\.7, 0\.3\]"),
        ({"weights": [0, 0]}, "add up to 0"),
        ({"weights": [1, math.inf], "op": "product"}, r"weights\[1\] is inf"),
        ({"weights": [1, 0], "op": "min"}, "(?s)take no weights.*mixture"),
        ({"weights": [1, 0], "op": not_a_number}, "take no weights"),
        ({"op": "produkt"}, "did you mean 'product'"),
        ({"op": 3}, "op is 3"),
        ({"prompts": ["{prompt}"]}, "prompts has 1 for 2 models"),
        ({"prompts": "{prompt}"}, "one text"),
        ({"prompts": [None, "Answer: "]}, r"(?s)prompts\[1\].*\{prompt\}"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_with_a_hint(arguments, said):
    with pytest.raises(ArgumentError, match=said):
        Ensemble(**{"models": [FIRST, SECOND], **arguments})


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (not_a_number, "not_a_number returned NaN"),
        (lambda laws: laws, r"shape \(2, 1, 6\).*expected \(1, 6\)"),
        (lambda laws: np.full(laws.shape[1:], np.inf), r"NaN or \+inf"),
    ],
)
def test_scores_of_a_function_are_checked(function, said):
    with pytest.raises(ArgumentError, match=f"(?s){said}.*hint"):
        Ensemble([without(FIRST), SECOND], op=function).prefill([[]])


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_broken_logits_name_the_member(broken):
    model = ToyModel(VOCABULARY, {(): np.full(6, broken, np.float32)})
    with pytest.raises(ModelError, match=r"models\[1\]"):
        Ensemble([FIRST, model]).prefill([[]])


def test_ids_of_a_prompt_are_refused_as_symbols_of_the_text():
    ensemble = Ensemble([Marked(FIRST, A), Marked(SECOND, B)])
    _, state = ensemble.prefill([ensemble.encode("a")])
    for token in (len(VOCABULARY), -1):
        with pytest.raises(ArgumentError, match="prefill"):
            ensemble.extend(state, np.array([token]))
