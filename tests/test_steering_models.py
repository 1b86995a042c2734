"""Budget forcing, routing, and looking at texts again: limit cases, closed forms, enumeration."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import genctl
from genctl.compilers.regex import compile_regex
from genctl.constraints.automaton import AutomatonConstraint
from genctl.errors import ArgumentError, DeadEndError, VocabularyError
from genctl.models.base import host_logits
from genctl.models.logprobs import entropies
from genctl.models.toy import ToyModel
from genctl.samplers.masked import masked
from genctl.samplers.rejection import awrs
from genctl.steering.basic import Temperature
from genctl.steering.bias import TokenBias
from genctl.steering.combine import guidance
from genctl.steering.forcing import BudgetForcing
from genctl.steering.model import Steered
from genctl.steering.observers import (
    Confidence,
    Divergence,
    Seen,
    branching_factor,
    divergence,
    laws_along,
    observe,
    shift,
)
from genctl.steering.routing import ByEntropy, Routed
from genctl.vocabulary import Vocabulary
from tests import naive
from tests.statistics import assert_posterior, total_variation
from tests.test_steering_hooks import clouds
from tests.tiny_models import tiny_model

# A thought is a's and b's, "w" is the wait, "/" its end, "!" what may be forced behind it.
VOCABULARY = Vocabulary((b"a", b"b", b"w", b"/", b"!", b""), eos=frozenset({5}))
A, B, WAIT, END, FINAL, EOS = range(6)
MODEL = ToyModel.random(VOCABULARY, order=3, seed=3, spread=1.0)
OTHER = ToyModel.random(VOCABULARY, order=3, seed=8, spread=1.0)
FORCING = BudgetForcing(end="/", wait="w", ignore=1, budget=3, final=["!"])


def p_of(model, context):
    law = np.exp(np.float64(model.law(context)))
    return law / law.sum()


# -- budget forcing


class Written(ToyModel):
    """The two meanings by the words of the reference, at each prefix."""

    def __init__(self, meaning):
        super().__init__(VOCABULARY, MODEL._laws)
        self.meaning = meaning

    def law(self, context):
        text, p = list(context[1:]), p_of(MODEL, context)
        forced = None
        if 3 <= len(text) <= 4 and END not in text[:3]:
            forced = [END, FINAL][len(text) - 3]
        if forced is not None:
            only = np.zeros(6)
            only[forced] = 1.0 if self.meaning == "edit" else p[forced]
            p = only
        elif END not in text and WAIT not in text:
            if self.meaning == "edit":
                p[WAIT] += p[END]
            p[END] = 0.0
        with np.errstate(divide="ignore"):
            return np.log(p)


@pytest.mark.parametrize("sampler", [awrs, masked])
@pytest.mark.parametrize("meaning", ["edit", "condition"])
def test_forcing_has_the_law_of_its_meaning_and_particles_reach_its_posterior(meaning, sampler):
    hook = replace(FORCING, meaning=meaning)
    model = Steered(MODEL, [hook], hook.binding)
    constraint = AutomatonConstraint(compile_regex("[abw]*/!?[ab]{0,2}"), VOCABULARY)
    exact, log_evidence = naive.posterior(Written(meaning), constraint, 5, given=[A])
    assert_posterior(clouds(model, constraint, sampler, longest=5), exact, log_evidence)


def test_the_two_meanings_are_different_laws():
    constraint = AutomatonConstraint(compile_regex("[abw]*/!?[ab]{0,2}"), VOCABULARY)
    edited, conditioned = (naive.posterior(Written(m), constraint, 5, given=[A])[0] for m in ("edit", "condition"))
    assert total_variation(edited, conditioned) > 0.2


def test_forcing_nothing_is_the_model():
    steered = Steered(MODEL, [BudgetForcing("/", "w", ignore=0, budget=None)])
    found, state = steered.prefill([[A], [B, END]])
    assert_array_equal(found, [MODEL.law([A]), MODEL.law([B, END])])
    assert_array_equal(steered.extend(state, np.array([B, B]))[0], [MODEL.law([A, B]), MODEL.law([B, END, B])])


def test_an_edited_text_has_its_waits_and_its_end_in_time():
    lm, options = genctl.load(MODEL), {"num_return_sequences": 60, "max_new_tokens": 9, "seed": 0}
    texts = [g.text for g in lm.generate("a", steering=[FORCING], **options)]
    for text in texts:
        thought = text.partition("/")[0]
        assert len(thought) <= 3
        assert "w" in thought or len(thought) == 3 or "/" not in text
        assert len(thought) < 3 or "w" in thought[:2] or text[3:5] in ("/!", "/", "")
    assert len(set(texts)) > 10


def test_a_meaning_is_bound_as_it_says_and_a_rule_that_forbids_what_is_forced_is_a_dead_end():
    lm = genctl.load(MODEL)
    with pytest.raises(ArgumentError, match="bound as 'tilt', not as 'target'"):
        lm.steered([replace(FORCING, meaning="condition")])
    with pytest.raises(ArgumentError, match="bound as 'target', not as 'tilt'"):
        lm.steered([FORCING], "tilt")
    with pytest.raises(DeadEndError):
        lm.generate(
            "a", genctl.regex("[ab]{8}"), steering=[FORCING], binding="target", num_particles=4, max_new_tokens=9
        )
    with pytest.raises(ArgumentError, match="no token of the model is exactly '</think>'"):
        lm.steered([BudgetForcing()])
    with pytest.raises(ArgumentError, match="where the prompt ends"):
        lm.steered([FORCING]).bytes()


# -- routing


def route(router, text, prompt=(A,)):
    """Which model answers behind each beginning of a text: the words of the docstring, step by step."""
    active, seen, since, answers = 0, [], None, []
    for i in range(len(text) + 1):
        context = [*prompt, *text[:i]]
        law = (MODEL, OTHER)[active].law(context)
        seen = [*seen, float(entropies(law[None])[0])][-router.window :]
        wanted = int(np.mean(seen) > router.threshold)
        if wanted != active and (since is None or since >= router.residence):
            active, since = wanted, 1
        elif since is not None:
            since += 1
        answers.append((MODEL, OTHER)[active].law(context))
    return answers


ROUTERS = [ByEntropy(1.2), ByEntropy(1.3, window=3), ByEntropy(1.2, window=2, residence=3), ByEntropy(1.4, residence=2)]


@pytest.mark.parametrize("router", ROUTERS, ids=map(repr, ROUTERS))
def test_the_router_s_choice_is_a_function_of_the_prefix(router):
    routed, rng = Routed(MODEL, OTHER, router), np.random.default_rng(0)
    prompts, texts = [[A], [B, B], [WAIT]], [[], [], []]
    logits, state = routed.prefill(prompts)
    for _ in range(12):
        places = rng.integers(0, 3, 3)
        state = routed.join([routed.select(state, places[:1]), routed.select(state, places[1:])])
        prompts, texts = [prompts[p] for p in places], [texts[p] for p in places]
        more = [rng.integers(0, 5, rng.integers(1, 4)).tolist() for _ in range(3)]
        logits, state = routed.extend(state, more)
        texts = [text + new for text, new in zip(texts, more, strict=True)]
        assert_allclose(logits, [route(router, t, p)[-1] for t, p in zip(texts, prompts, strict=True)], atol=1e-6)


def test_the_choice_changes_in_a_text():
    answers = route(ROUTERS[0], [A, B, B, A, WAIT, B, A, A, B, END])
    assert len({law.tobytes() in [MODEL.law(c).tobytes() for c in MODEL._laws] for law in answers}) == 2


@pytest.mark.parametrize(("threshold", "only"), [(math.inf, 0), (-1.0, 1)])
def test_at_its_extremes_a_router_is_one_of_the_models(threshold, only):
    models = [tiny_model("llama"), tiny_model("mistral")]
    routed = Routed(*models, ByEntropy(threshold))
    prompts = [models[0].encode("the cat"), models[0].encode("a")]
    logits, state = routed.prefill(prompts)
    expected, plain = models[only].prefill(prompts)
    assert_allclose(logits, host_logits(expected), atol=1e-5)
    for tokens in ([[5], [9, 9, 30]], [[70, 7], [8]]):
        logits, state = routed.extend(state, tokens)
        expected, plain = models[only].extend(plain, tokens)
        assert_allclose(logits, host_logits(expected), atol=1e-4)


def test_the_model_that_lags_reads_what_it_missed_in_one_go():
    read: list[tuple[str, list[int]]] = []

    class Telling(ToyModel):
        def extend(self, state, tokens, /):
            read.append((self.name, [len(np.atleast_1d(row)) for row in tokens]))
            return super().extend(state, tokens)

    small, large = (Telling(VOCABULARY, model._laws) for model in (MODEL, OTHER))
    small.name, large.name = "small", "large"
    count = iter([0, 0, 0, 1, 1, 0])
    routed = Routed(small, large, lambda logits, active: next(count))
    _, state = routed.prefill([[A]])
    for token in (A, B, A, B, A):
        _, state = routed.extend(state, np.array([token]))
    # the active one is asked first; the large one catches up on three tokens, then the small one on two
    assert [(name, *n) for name, n in read] == [
        ("small", 1), ("small", 1), ("small", 1), ("large", 3), ("large", 1), ("large", 1), ("small", 2),
    ]  # fmt: skip


def test_particles_sample_a_routed_model_exactly():
    router = ByEntropy(1.2)

    class Twin(ToyModel):
        def law(self, context):
            return route(router, context[1:])[-1]

    constraint = AutomatonConstraint(compile_regex("[ab]*w?"), VOCABULARY)
    exact, log_evidence = naive.posterior(Twin(VOCABULARY, MODEL._laws), constraint, 4, given=[A])
    assert_posterior(clouds(Routed(MODEL, OTHER, router), constraint, awrs, runs=600), exact, log_evidence)


def test_what_cannot_be_routed_is_refused():
    with pytest.raises(VocabularyError, match="different symbols"):
        Routed(MODEL, genctl.load("toy").language_model, ByEntropy(1))
    with pytest.raises(ArgumentError, match="whole texts"):
        Routed(MODEL, Steered(MODEL, [lambda z: z / 2], "tilt"), ByEntropy(1))
    for chosen in (2, "1", None, 0.5, np.zeros(2)):
        with pytest.raises(ArgumentError, match="chose"):
            Routed(MODEL, OTHER, lambda logits, active, chosen=chosen: chosen).prefill([[A]])
    with pytest.raises(ArgumentError, match="large is NoneType"):
        Routed(MODEL, None, ByEntropy(1))
    for router in (None, 0.5, ByEntropy, len, lambda logits: 0, Temperature(1)):
        with pytest.raises(ArgumentError, match="the router is"):
            Routed(MODEL, OTHER, router)
    with pytest.raises(ArgumentError, match="window is 0"):
        ByEntropy(1, window=0)
    with pytest.raises(ArgumentError, match="since the prompt"):
        genctl.load(Routed(MODEL, OTHER, ByEntropy(1))).bytes()


# -- observers


@pytest.mark.parametrize(
    "texts",
    [
        None,
        "ab",
        3,
        [1, 2],
        ["ab"],
        [[0], [6]],
        [[-1]],
        [[0.5]],
        [[True]],
        [None],
        [[[0]]],
        [[[0], [1, 2]]],
        [{0, 1}],
        {0: [1]},
    ],
)
def test_texts_that_are_no_lists_of_token_ids_are_refused(texts):
    with pytest.raises(ArgumentError, match=r"texts.* token id"):
        observe(MODEL, [A], texts)


def test_what_is_looked_at_may_be_arrays_and_must_be_a_prompt_and_models_of_the_same_symbols():
    listed = observe(MODEL, [A], [[B, A], []])[0]
    assert_array_equal(observe(MODEL, np.array([A]), [np.array([B, A]), ()])[0].logprobs, listed.logprobs)
    for prompt in (None, 5, {A}, [0.5], ["a"], [-1], [[A], [A, B]]):
        with pytest.raises(ArgumentError, match=r"prompt is .*token id"):
            observe(MODEL, prompt, [[A]])
    for seen in (None, [1], "", observe(MODEL, [A], [[A]])[0]):
        with pytest.raises(ArgumentError, match="seen is"):
            branching_factor(seen)
    with pytest.raises(ArgumentError, match="model is NoneType"):
        observe(None, [A], [[A]])
    with pytest.raises(VocabularyError, match="raw and steered have different symbols"):
        shift(MODEL, genctl.load("toy"), [A], [A])


def test_an_answer_is_found_in_characters_and_not_in_their_bytes():
    letters = Vocabulary(("é".encode(), "à".encode(), "à".encode()[:1], b"x", b""), eos=frozenset({4}))
    model = ToyModel.random(letters, order=1, seed=0)
    p = np.exp(model.law([]))
    for answer, text, places in (
        ("é+", [3, 0, 0, 3], [1, 2]),
        ("[éà]", [3, 0, 1, 3], [2]),
        (r"\w+", [0, 1, 3], [0, 1, 2]),
        ("x", [2, 3], [1]),
    ):
        assert Confidence(answer)(model, [3], [text]) == [pytest.approx(p[[text[i] for i in places]].mean())]
    for answer in ("z*", "x(z)?", "zz"):  # empty, without its group, or not there
        assert Confidence(answer)(model, [3], [[0, 3, 0]]) == [0.0]


@pytest.mark.parametrize("answer", [5, "", b"a", "(", True])
def test_an_answer_must_be_a_regular_expression(answer):
    with pytest.raises(ArgumentError, match="answer is"):
        Confidence(answer)


def test_laws_along_texts_are_those_behind_their_beginnings():
    texts = [[A, B, END], [], [B], [WAIT, A]]
    found = {
        (i, place): law
        for place, (here, laws) in enumerate(laws_along(MODEL, [A], texts))
        for i, law in zip(here.tolist(), laws, strict=True)
    }
    assert set(found) == {(i, place) for i, text in enumerate(texts) for place in range(len(text))}
    for (i, place), law in found.items():
        assert_allclose(np.exp(law), p_of(MODEL, [A, *texts[i][:place]]), atol=1e-6)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_the_branching_factor_of_k_equal_tokens_is_k(k):
    law = np.full(6, -np.inf, np.float32)
    law[:k] = 0.0
    even = ToyModel(VOCABULARY, {(): law})
    for length in (4, 60):
        assert branching_factor(observe(even, [A], [[0] * length, [k - 1] * length])) == pytest.approx(k)
    assert math.isnan(branching_factor(observe(even, [A], [[]])))


def test_a_nucleus_keeps_the_token_that_came():
    law = np.log(np.array([0.6, 0.3, 0.05, 0.04, 0.005, 0.005], np.float32))
    model = ToyModel(VOCABULARY, {(): law})
    seen = observe(model, [A], [[0, 3]], top_p=0.9)[0]
    assert_allclose(np.exp(seen.logprobs), [0.6 / 0.9, 0.04 / 0.94], rtol=1e-4)
    assert branching_factor([Seen(np.log([0.5]), np.log([3.0]))]) == pytest.approx(3)
    assert branching_factor([Seen(np.log([0.5] * 51), np.log([3.0] * 51))]) == pytest.approx(2)


def test_a_model_is_not_shifted_from_itself_and_a_steered_one_is_by_its_divergence():
    tokens = [A, B, WAIT, A]
    still = shift(MODEL, MODEL, [A], tokens)
    assert still.table() == {"unshifted": 1.0, "marginal": 0.0, "shifted": 0.0}
    assert_allclose([*still.kl, *still.tv], 0, atol=1e-12)
    steered = Steered(MODEL, [TokenBias({FINAL: 9.0})])
    moved = shift(MODEL, steered, [A], tokens)
    for i, (rank, kl, tv) in enumerate(zip(moved.ranks, moved.kl, moved.tv, strict=True)):
        p = p_of(MODEL, [A, *tokens[:i]])
        q = p * np.exp(9.0 * (np.arange(6) == FINAL))
        q /= q.sum()
        assert rank == 1 + (p > p[q.argmax()]).sum()
        assert kl == pytest.approx((q * np.log(q / p)).sum(), rel=1e-4)
        assert tv == pytest.approx(np.abs(p - q).sum() / 2, rel=1e-4)
    with pytest.raises(ArgumentError, match="whole texts"):
        shift(MODEL, Steered(MODEL, [Temperature(2)], "tilt"), [A], tokens)


def test_each_model_encodes_a_prompt_of_text_itself():
    lm = genctl.load(MODEL)
    guided = lm.steered([guidance(1.5, "b{prompt}")])
    moved = shift(lm, guided, "a", [B, A])
    p, other = np.log(p_of(MODEL, [A])), np.log(p_of(MODEL, [B, A]))
    q = np.exp(1.5 * p - 0.5 * other)
    q /= q.sum()
    assert moved.kl[0] == pytest.approx((q * (np.log(q) - p)).sum(), rel=1e-4)
    assert_array_equal(observe(lm, "a", [[B]])[0].logprobs, observe(MODEL, [A], [[B]])[0].logprobs)


# -- the best of several


def test_confidence_is_the_mean_probability_of_the_answer():
    texts = [[A, WAIT, B, END], [A], []]
    p = [p_of(MODEL, [A, *texts[0][:i]])[t] for i, t in enumerate(texts[0])]
    assert_allclose(Confidence()(MODEL, [A], texts), [np.mean(p), p[0], 0], rtol=1e-5)
    assert_allclose(Confidence("w(.)")(MODEL, [A], texts), [p[2], 0, 0], rtol=1e-5)
    assert_allclose(Confidence("wb/")(MODEL, [A], texts), [np.mean(p[1:]), 0, 0], rtol=1e-5)
    law = np.full(6, -np.inf, np.float32)
    law[B] = 0
    assert Confidence()(ToyModel(VOCABULARY, {(): law}), [A], [[B, B]]) == [1.0]
    with pytest.raises(ArgumentError, match="no regular expression"):
        Confidence("(")


def test_the_divergence_from_a_reference_is_a_sum_of_its_formula_and_zero_from_itself():
    texts = [[A, B], [WAIT]]
    uniform = [sum((np.log(1 / 6 / p_of(MODEL, [B, *text[:i]])) / 6).sum() for i in range(len(text))) for text in texts]
    assert_allclose(Divergence(uniform=True)(MODEL, [B], texts), uniform, rtol=1e-5)
    without = [
        sum(
            (p_of(MODEL, text[:i]) * np.log(p_of(MODEL, text[:i]) / p_of(MODEL, [B, *text[:i]]))).sum()
            for i in range(len(text))
        )
        for text in texts
    ]
    assert_allclose(Divergence()(MODEL, [B], texts), without, rtol=1e-4)
    assert_allclose(Divergence()(MODEL, [], texts), 0, atol=1e-9)
    first = np.log(np.array([0.5, 0.5, 0.0]), where=[True, True, False], out=np.full(3, -np.inf))
    assert divergence(first, np.array([0.0, -np.inf, -np.inf])) == math.inf


def test_generate_ranks_its_texts():
    lm, options = genctl.load(MODEL), {"num_return_sequences": 8, "max_new_tokens": 5, "seed": 0}
    plain = lm.generate("a", **options)
    assert plain.scores is None
    by_length = lm.generate("a", select=lambda g: len(g.tokens), **options)
    assert [len(g.tokens) for g in by_length] == sorted((len(g.tokens) for g in plain), reverse=True)
    assert by_length.scores == tuple(len(g.tokens) for g in by_length)
    assert by_length[:2].scores == by_length.scores[:2]
    for select, scored in (
        ("confidence", Confidence()),
        ("kl", Divergence()),
        (Confidence("[ab]+"), Confidence("[ab]+")),
    ):
        ranked = lm.generate(["a", "b"], select=select, temperature=0.7, **options)
        for prompt, several in zip(([A], [B]), ranked, strict=True):
            assert_allclose(several.scores, scored(MODEL, prompt, [g.tokens for g in several]))
            assert list(several.scores) == sorted(several.scores, reverse=True)
    assert sorted(g.text for g in lm.generate("a", select="kl", **options)) == sorted(g.text for g in plain)


def test_texts_that_do_not_count_come_last():
    rule = genctl.regex("[ab]{1,9}") & (lambda text, done: not done or text.count("a") == 2)
    several = genctl.load(MODEL).generate(
        "a", rule, num_return_sequences=12, max_new_tokens=4, seed=1, select=lambda g: -len(g.tokens)
    )
    counts = [g.log_weight > -math.inf for g in several]
    assert 0 < sum(counts) < 12
    assert counts == sorted(counts, reverse=True)


def test_selectors_that_mean_nothing_are_refused():
    lm = genctl.load(MODEL)
    with pytest.raises(ArgumentError, match="num_return_sequences"):
        lm.generate("a", select="kl")
    with pytest.raises(ArgumentError, match="did you mean 'confidence'"):
        lm.generate("a", select="confident", num_return_sequences=2)
    product = genctl.ensemble([lm, genctl.load(OTHER)], op="global_product")
    with pytest.raises(ArgumentError, match="whole texts"):
        product.generate("a", select="kl", num_return_sequences=2)
    for select in (float, lambda: 0, lambda g, other: 0):
        with pytest.raises(ArgumentError, match="a function of one Generation"):
            lm.generate("a", select=select, num_return_sequences=2)
    for score in (math.nan, math.inf, None, "5", np.zeros(2)):
        with pytest.raises(ArgumentError, match=r"(?s)select scored '.*' with .*(nan|inf|number)"):
            lm.generate("a", select=lambda g, score=score: score, num_return_sequences=2, max_new_tokens=3)


def test_selectors_score_beneath_hooks_wherever_these_stand():
    lm = genctl.load(MODEL)
    hooks = [lambda z: np.where(z >= np.sort(z)[:, -2:-1], z, -np.inf)]  # leaves two tokens
    options = {"select": "kl", "num_return_sequences": 4, "max_new_tokens": 4, "seed": 3}
    own = lm.generate("a", steering=hooks, **options)
    assert all(math.isfinite(score) for score in own.scores)
    assert_allclose(own.scores, Divergence()(MODEL, [A], [g.tokens for g in own]))
    steered = lm.steered(hooks).generate("a", **options)
    assert steered.scores == own.scores
    assert [g.tokens for g in steered] == [g.tokens for g in own]
    tilted = lm.steered([Temperature(2)], "tilt").generate("a", **options)
    assert_allclose(tilted.scores, Divergence()(MODEL, [A], [g.tokens for g in tilted]))


def test_a_divergence_that_is_infinite_is_refused_with_the_reason():
    """Behind the prompt only a's can come, elsewhere any token."""
    only = np.where(np.arange(6) == A, 0, -np.inf).astype(np.float32)
    lm = genctl.load(ToyModel(VOCABULARY, {(): MODEL.law([]), (A,): only}))
    options = {"num_return_sequences": 3, "max_new_tokens": 3, "wrap_up": False, "seed": 0}
    with pytest.raises(ArgumentError, match=r"(?s)select scored 'aaa' with inf\nhint: .*uniform=True"):
        lm.generate("a", select="kl", **options)
    ranked = lm.generate("a", select=Divergence(uniform=True), **options)
    assert ranked.scores == (0, 0, 0)
