"""The formulas of the hooks, against closed forms, limit cases and transformers; what they multiply whole texts by."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import genctl
from genctl.compilers.regex import compile_regex
from genctl.constraints.automaton import AutomatonConstraint
from genctl.errors import ArgumentError, ModelError
from genctl.models.base import host_logits
from genctl.models.ensemble import Ensemble
from genctl.models.toy import ToyModel
from genctl.samplers import smc
from genctl.samplers.masked import masked
from genctl.samplers.rejection import awrs
from genctl.samplers.resampling import SCHEMES
from genctl.samplers.streams import seeded
from genctl.steering.base import Auxiliary, Step, entropies
from genctl.steering.basic import Temperature, TopP
from genctl.steering.bias import StringBias, TokenBias
from genctl.steering.combine import Forget, LogLinear, Term, context_aware, contrastive, dexperts, guidance, proxy
from genctl.steering.entropy import AdaptiveTemperature
from genctl.steering.forcing import BudgetForcing
from genctl.steering.layers import LayerMix
from genctl.steering.model import Steered
from genctl.steering.penalties import FrequencyPenalty, NoRepeat, PresencePenalty, RepetitionPenalty
from genctl.steering.schedules import ConstantBias, CyclicReflex, WindowBias
from genctl.vocabulary import Vocabulary
from tests import naive
from tests.statistics import assert_posterior
from tests.tiny_models import batch, tiny_causal_lm, tiny_model, tiny_tokenizer

VOCABULARY = Vocabulary((b"a", b"b", b"ab", b"ba", b"", b""), eos=frozenset({4}), unused=frozenset({5}))
FIRST, SECOND, THIRD = (ToyModel.random(VOCABULARY, order=3, seed=seed, spread=1.5) for seed in (4, 5, 6))
A, B, AB, BA, END, UNUSED = range(6)


def step_of(raw, contexts=None, prompt_lengths=None, **more) -> Step:
    raw = np.atleast_2d(np.asarray(raw, np.float32))
    contexts = [np.array(c, np.int64) for c in contexts or [[]] * len(raw)]
    lengths = [0] * len(raw) if prompt_lengths is None else prompt_lengths
    return Step(contexts, np.array(lengths, np.int64), raw, **more)


def normal(z):
    z = np.asarray(z, np.float64)
    return z - np.logaddexp.reduce(z, axis=-1, keepdims=True)


def laws(model, contexts):
    return normal([model.law(c) for c in contexts])


def answered(hook, contexts, binding="target", model=FIRST):
    """(N, V) of a model under one hook."""
    return Steered(model, [hook], binding).prefill(contexts)[0]


# -- filters


@given(st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=60), st.floats(0.001, 0.999))
def test_top_p_keeps_the_shortest_run_of_likeliest_tokens_that_has_the_probability(logits, p):
    found = TopP(p)(step_of(logits), np.array([logits], np.float32))[0] > -np.inf
    probabilities = np.exp(normal(np.float32(logits)))
    order = np.argsort(-np.float32(logits), kind="stable")
    masses = np.cumsum(probabilities[order])
    count = found.sum()
    assert set(order[:count]) == set(np.flatnonzero(found)) or len(set(logits)) < len(logits)
    assert masses[count - 1] >= p - 1e-5
    assert count == 1 or masses[count - 2] < p + 1e-5


# -- penalties


@given(st.lists(st.integers(0, 9), max_size=12), st.integers(1, 4), st.floats(0.5, 2.0, width=32))
def test_repetition_and_no_repeat_are_those_of_transformers(ids, n, penalty):
    raw = np.random.default_rng(len(ids)).normal(0, 2, (1, 10)).astype(np.float32)
    step, tensors = step_of(raw, [ids]), (torch.tensor([ids], dtype=torch.long), torch.from_numpy(raw))
    theirs = transformers.RepetitionPenaltyLogitsProcessor(penalty)(*tensors)
    assert_allclose(RepetitionPenalty(penalty)(step, raw), theirs, rtol=1e-6)
    theirs = transformers.NoRepeatNGramLogitsProcessor(n)(*tensors)
    assert_array_equal(NoRepeat(n)(step, raw), theirs)


def test_the_repetition_penalty_depends_on_where_zero_is_and_the_others_do_not():
    raw = np.array([[1.0, -1.0, 0.5]], np.float32)
    step = step_of(raw, [[0, 1]])
    moved = RepetitionPenalty(2.0)(step, raw + 5)
    assert not np.allclose(normal(moved), normal(RepetitionPenalty(2.0)(step, raw)))
    for hook in (FrequencyPenalty(0.7), PresencePenalty(0.7)):
        assert_allclose(hook(step, raw + 5), hook(step, raw) + 5, rtol=1e-6)


def test_frequency_and_presence_are_counted_in_the_text_or_in_the_prompt_too():
    raw = np.zeros((2, 4), np.float32)
    step = step_of(raw, [[0, 1, 1, 2, 1], [3, 3]], [2, 2])
    assert_allclose(FrequencyPenalty(0.5)(step, raw), [[0, -1.0, -0.5, 0], [0, 0, 0, 0]])
    assert_allclose(PresencePenalty(0.5)(step, raw), [[0, -0.5, -0.5, 0], [0, 0, 0, 0]])
    assert_allclose(FrequencyPenalty(0.5, prompt=True)(step, raw), [[-0.5, -1.5, -0.5, 0], [0, 0, 0, -1.0]])


# -- biases


@given(st.text("ab", min_size=1, max_size=3), st.lists(st.integers(0, 3), max_size=8), st.floats(-3, 3, width=16))
def test_a_string_counts_once_for_each_occurrence_however_it_is_spelled(text, tokens, bias):
    hook = StringBias({text: bias}).bind(VOCABULARY)
    total, raw = 0.0, np.zeros((1, 6), np.float32)
    for i, token in enumerate(tokens):
        total += hook(step_of(raw, [tokens[:i]]), raw)[0, token]
    whole = VOCABULARY.join(tokens).decode()
    count = len(re.findall(f"(?={text})", whole))
    assert total == pytest.approx(bias * count, abs=1e-4)


def test_as_a_tilt_a_string_bias_multiplies_texts_by_what_their_occurrences_are_worth():
    constraint = AutomatonConstraint(compile_regex("[ab]{1,4}"), VOCABULARY)
    plain, log_evidence = naive.posterior(FIRST, constraint, 4, given=[B])
    mass = {}
    for tokens, p in plain.items():
        text = "b" + VOCABULARY.join(tokens).decode()  # the prompt's b may begin an occurrence
        mass[tokens] = p * math.exp(0.8 * len(re.findall("(?=ba)", text)) - 1.1 * text[1:].count("b"))
    total = sum(mass.values())
    exact = {tokens: m / total for tokens, m in mass.items()}
    model = Steered(FIRST, [StringBias({"ba": 0.8, "b": -1.1})], "tilt")
    for sampler in (awrs, masked):
        cloud = clouds(model, constraint, sampler, prompt=[B])
        assert_posterior(cloud, exact, log_evidence + math.log(total))


def test_a_string_that_is_forbidden_is_never_written_and_others_may_be():
    lm = genctl.load("toy")
    texts = [
        g.text for g in lm.generate("the ", steering=[StringBias({"at": -math.inf})], num_return_sequences=40, seed=0)
    ]
    assert not any("at" in text for text in texts)
    assert any("at" in g.text for g in lm.generate("the ", num_return_sequences=40, seed=0))
    with pytest.raises(ArgumentError, match="takes tokens away"):
        lm.steered([StringBias({"at": -math.inf})], "proposal")


def test_a_string_bias_on_a_byte_view_is_the_one_on_the_tokens():
    """In a tilt of the tokens and of the bytes alike each text is multiplied by exp(bias * occurrences)."""
    rule, options = genctl.regex("[ab]{3}"), {"num_particles": 3000, "max_new_tokens": 4, "seed": 0, "batch_size": 3000}
    hooks = [StringBias({"ba": 1.5})]
    by_tokens = genctl.load(FIRST).steered(hooks, "tilt").generate("", rule, **options)
    by_bytes = genctl.load(FIRST).bytes(canonical=False).steered(hooks, "tilt").generate("", rule, **options)
    for text, p in by_tokens.posterior().items():
        assert by_bytes.posterior()[text] == pytest.approx(p, abs=0.04)
    assert by_bytes.log_evidence == pytest.approx(by_tokens.log_evidence, abs=0.1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TokenBias({9: 1.0}), "no token 9"),
        (lambda: TokenBias({5: 1.0}), "no token 5"),
        (lambda: TokenBias({0: math.inf}), "inf"),
        (lambda: TokenBias({0: math.nan}), "number"),
        (lambda: TokenBias({"a": 1.0}), "the key 'a'"),
        (lambda: StringBias({0: 1.0}), "the key 0"),
        (lambda: StringBias({"": 1.0}), "empty"),
        (lambda: StringBias({}), "biases is"),
        (lambda: ConstantBias(1.0, ["aba"]), "no token of the model is exactly 'aba'"),
        (lambda: ConstantBias(1.0, "ab"), "words is 'ab'"),
        (lambda: WindowBias(1.0, 3, ["wait"]), "'wait'"),
        (lambda: WindowBias(1.0, 3, ["a", True]), r"words\[1\] is True"),
        (lambda: WindowBias(1.0, 3, [b"a"]), r"words\[0\] is b'a'"),
        (lambda: WindowBias(1.0, 3, b"a"), "words is b'a'"),
        (lambda: WindowBias(1.0, 3, ["\ud800"]), r"words\[0\] is .*no bytes spell"),
        (lambda: StringBias({"a\udc00": 1.0}), "no bytes spell"),
        (lambda: TokenBias({True: 1.0}), "the key True"),
        (lambda: ConstantBias(1.0, ["a"], 3, 3), "stop is 3, but the bias starts at 3"),
        (lambda: CyclicReflex(words=["a"], until=""), "until is ''"),
        (lambda: CyclicReflex(words=["a"], until=b"b"), "until is b'b'"),
        (lambda: CyclicReflex(words=["a"], until=True), "until is True"),
        (lambda: BudgetForcing("a", "a"), "end and wait are both token 0"),
        (lambda: BudgetForcing("a", 0), "end and wait are both token 0"),
        (lambda: BudgetForcing(None, "a"), "end is None"),
        (lambda: BudgetForcing("a", b"b"), "wait is b'b'"),
        (lambda: BudgetForcing("a", "b", final="ab"), "final is 'ab'"),
        (lambda: BudgetForcing("a", "b", final=[1.5]), r"final\[0\] is 1.5"),
        (lambda: BudgetForcing("a", "b", meaning=[]), r"meaning is \[\]"),
        (lambda: CyclicReflex(), "'wait'"),
        (lambda: CyclicReflex(period=0), "period is 0"),
        (lambda: CyclicReflex(words=["a"], until=77), "no token 77"),
        (lambda: RepetitionPenalty(0), "above 0"),
        (lambda: FrequencyPenalty(math.inf), "finite"),
        (lambda: NoRepeat(0), "n is 0"),
        (lambda: AdaptiveTemperature(0, 0), "spread is 0"),
        (lambda: AdaptiveTemperature(0, 1, strength=1), "strength is 1"),
        (lambda: contrastive(SECOND, plausible=2), "plausible is 2"),
        (lambda: guidance(math.nan, "b{prompt}"), "scale"),
        (lambda: guidance(2, "no place"), "no place"),
        (lambda: guidance(2, None), "itself"),
        (lambda: LogLinear(1, [Term(SECOND, 1)]), r"terms\[0\]"),
        (lambda: Forget(SECOND, -1), "alpha is -1"),
        (lambda: Forget(None, 1), "reinforced is NoneType, expected a model"),
        (lambda: Forget(ToyModel, 1), "reinforced is .*expected a model"),
        (lambda: dexperts(None, SECOND, 1), "expert is NoneType"),
        (lambda: dexperts(SECOND, None, 1), "anti is NoneType"),
        (lambda: dexperts(SECOND, THIRD, "1"), "alpha is '1'"),
        (lambda: dexperts(SECOND, THIRD, 1, top_p="x"), "top_p is 'x'"),
        (lambda: proxy("small", SECOND), "tuned is str"),
        (lambda: proxy(SECOND, 7), "untuned is int"),
        (lambda: contrastive(None), "amateur is NoneType"),
        (lambda: contrastive(SECOND, weight=None), "weight is None"),
        (lambda: contrastive(SECOND, temperature="x"), "temperature of .* is 'x'"),
        (lambda: contrastive(SECOND, temperature=0), "temperature of .* above 0"),
        (lambda: Auxiliary(3), "model is int"),
        (lambda: Auxiliary(prompt=3), "prompt is 3"),
        (lambda: LogLinear(1, "ab"), r"terms\[0\] is 'a'"),
        (lambda: LogLinear(1, None), "terms is None"),
        (lambda: LogLinear(1, [SECOND]), r"terms\[0\]"),
        (lambda: LogLinear(1, [Term(Auxiliary(SECOND), math.nan)]), r"weight of terms\[0\]"),
        (lambda: LogLinear(1, [], keep=0.9), "keep is 0.9, it must be a filter"),
        (lambda: LayerMix([0]), "hidden states"),
        (lambda: LayerMix([]), "layers is"),
        (lambda: LayerMix([0], 2), "weight is 2"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(make, message):
    with pytest.raises(ArgumentError, match=message):
        Steered(FIRST, [make()])


def test_token_ids_may_be_numbers_of_numpy():
    for hook in (
        lambda i: TokenBias({i(A): 2.0}),
        lambda i: ConstantBias(2.0, [i(A)]),
        lambda i: CyclicReflex(3, 4, words=[i(A)], until=i(B)),
        lambda i: BudgetForcing(i(A), i(B), 1, 2),
    ):
        assert_array_equal(answered(hook(np.int64), [[B], [A, B]]), answered(hook(int), [[B], [A, B]]))


# -- schedules


@pytest.mark.parametrize(("amplitude", "period"), [(3, 100), (1, 600), (5, 1200), (2, 8)])
def test_the_wave_is_that_of_the_reference(amplitude, period):
    hook = CyclicReflex(amplitude, period, words=["a"])
    quarter = period // 4
    assert_allclose(
        hook.wave([0, quarter, 2 * quarter, 3 * quarter, period]), [0, amplitude, 0, -amplitude, 0], atol=1e-12
    )
    assert hook.wave(np.arange(period)).mean() == pytest.approx(0, abs=1e-12)
    t = np.arange(3 * period) % period  # piecewise: up to a quarter, down to three quarters, up
    rising, falling = 4 * amplitude * t / period, 2 * amplitude - 4 * amplitude * t / period
    pieces = np.where(t <= period / 4, rising, np.where(t <= 3 * period / 4, falling, rising - 4 * amplitude))
    assert_allclose(hook.wave(np.arange(3 * period)), pieces, atol=1e-12)
    ahead = CyclicReflex(amplitude, period, 0.25, words=["a"])
    assert_allclose(ahead.wave(np.arange(9)), hook.wave(np.arange(9) + period / 4), atol=1e-12)


def test_a_wave_goes_by_the_length_of_each_text_and_ends_behind_the_thought():
    words = Vocabulary((b"w", b"</th", b"ink>", b"x", b""), eos=frozenset({4}))
    model = ToyModel(words, {(): np.zeros(5, np.float32)})
    steered = Steered(model, [CyclicReflex(2, 8, words=["w"])])
    _, state = steered.prefill([[3, 3, 3], [3], [1, 2]])
    logits, state = steered.extend(state, [[0, 3], [3, 3, 3, 3], [3]])
    assert_allclose(logits[:, 0], [2, 0, 1])  # two, four and one token, whatever the prompts
    assert_allclose(logits[:, 1:], 0)
    logits, state = steered.extend(state, [[1, 3], [1], [1]])
    assert_allclose(logits[:, 0], [0, -1, 2])
    logits, _ = steered.extend(state, [[2, 1, 3, 1], [2], [3]])
    assert_allclose(logits[:, 0], [0, 0, 1])  # the thought of the second has ended; "</th" "x" ... "ink>" is none


def test_a_window_opens_with_the_text_and_again_with_each_of_its_words():
    flat = ToyModel(VOCABULARY, {(): np.zeros(6, np.float32)})
    steered = Steered(flat, [WindowBias(-3, 2, ["a"])])
    logits, state = steered.prefill([[A, B]])
    added = [logits[0, A]]
    for token in (B, B, A, B, B, A, A):
        logits, state = steered.extend(state, np.array([token]))
        added.append(logits[0, A])
        assert_array_equal(logits[0, 1:], 0)
    assert added == [-3, -3, 0, -3, 0, 0, -3, -3]


def test_a_constant_bias_holds_from_start_to_stop():
    flat = ToyModel(VOCABULARY, {(): np.zeros(6, np.float32)})
    steered = Steered(flat, [ConstantBias(1.5, ["a", AB], 1, 3)])
    logits, state = steered.prefill([[B]])
    seen = [logits[0, :4]]
    for _ in range(3):
        logits, state = steered.extend(state, np.array([B]))
        seen.append(logits[0, :4])
    assert_array_equal(seen, [[0, 0, 0, 0], [1.5, 0, 1.5, 0], [1.5, 0, 1.5, 0], [0, 0, 0, 0]])


# -- combinations

CONTEXTS = [[], [A], [B, AB], [BA, A]]


def test_a_weight_of_one_alone_is_that_model():
    found = answered(LogLinear(0, [Term(Auxiliary(SECOND), 1)]), CONTEXTS)
    assert_allclose(normal(found), laws(SECOND, CONTEXTS), atol=1e-6)
    assert_array_equal(answered(LogLinear(1, []), CONTEXTS), [FIRST.law(c) for c in CONTEXTS])


def test_named_combinations_are_their_formulas():
    p, q, r = (laws(model, CONTEXTS)[:, :UNUSED] for model in (FIRST, SECOND, THIRD))

    def close(hook, expected):
        assert_allclose(normal(answered(hook, CONTEXTS))[:, :UNUSED], normal(expected), atol=1e-6)

    close(proxy(SECOND, THIRD), p + q - r)
    close(proxy(SECOND, THIRD, 0.4), p + 0.4 * (q - r))
    close(LogLinear(1, [Term(Auxiliary(SECOND), 0.4), Term(Auxiliary(THIRD), -0.4)]), p + 0.4 * (q - r))
    close(dexperts(SECOND, THIRD, 2.0, top_p=None), p + 2 * q - 2 * r)
    kept = p >= p.max(axis=1, keepdims=True) + math.log(0.3)
    close(contrastive(SECOND, 0.7, 0.3, temperature=0.5), np.where(kept, p - 0.7 * normal(q / 0.5), -np.inf))
    close(contrastive(SECOND, plausible=0.0, temperature=1), p - q)
    likeliest = answered(contrastive(SECOND, plausible=1.0), CONTEXTS)
    assert ((likeliest > -np.inf).sum(axis=1) == 1).all()
    assert_array_equal(likeliest.argmax(axis=1), p.argmax(axis=1))


def test_guidance_is_that_of_transformers_and_context_aware_decoding_is_guidance():
    def other(prompt):
        return "b" + prompt

    def found(hook):
        steered = Steered(FIRST, [hook])
        return normal(steered.prefill([steered.encode(text) for text in ("a", "ab", "b")])[0])

    conditional, unconditional = (
        torch.tensor(np.array([FIRST.law(FIRST.encode(shape(text))) for text in ("a", "ab", "b")])[:, :UNUSED])
        for shape in (str, other)
    )
    for scale in (1.0, 1.5, 3.0):
        processor = transformers.ClassifierFreeGuidanceLogitsProcessor(scale) if scale > 1 else None
        theirs = processor(torch.zeros(3, 1), torch.cat([conditional, unconditional])) if processor else conditional
        assert_allclose(found(guidance(scale, other))[:, :UNUSED], normal(theirs.numpy()), atol=1e-5)
    assert_allclose(found(context_aware(0.5, other)), found(guidance(1.5, other)), atol=1e-6)
    assert_allclose(found(guidance(1.5, "b{prompt}")), found(guidance(1.5, other)))


class Shifted(ToyModel):
    """The same law, with a constant in its logits."""

    def law(self, context):
        return super().law(context) + np.float32(7)


@pytest.mark.parametrize("binding", ["target", "tilt"])
def test_a_constant_in_a_model_s_logits_changes_no_combination(binding):
    def shifted(model):
        return Shifted(VOCABULARY, model._laws)

    def made(change):
        hooks = [LogLinear(0.6, [Term(Auxiliary(change(SECOND)), 0.8), Term(Auxiliary(change(THIRD)), -0.5)])]
        hooks.append(Forget(change(SECOND), 2.0))
        answer, _ = Steered(change(FIRST), hooks, binding).prefill(CONTEXTS)
        return normal(answer) if binding == "target" else answer.scores

    assert_allclose(made(shifted), made(lambda model: model), atol=1e-5)


def test_as_target_it_is_the_local_product_and_as_tilt_the_global_one():
    hook = LogLinear(0.5, [Term(Auxiliary(SECOND), 1.2)])
    local, _ = Ensemble([FIRST, SECOND], [0.5, 1.2], "product").prefill(CONTEXTS)
    product, _ = Ensemble([FIRST, SECOND], [0.5, 1.2], "global_product").prefill(CONTEXTS)
    assert_allclose(normal(answered(hook, CONTEXTS)), local, atol=1e-5)
    assert_allclose(answered(hook, CONTEXTS, "tilt").scores, product.scores, atol=1e-5)


def test_what_is_impossible_to_the_laws_of_a_combination():
    """The reference's bug: -inf less -inf. The model itself and positive weights rule out, negative ones do not."""
    base, other = np.array([-np.inf, -1.0, -2.0, -0.5]), np.array([-np.inf, -np.inf, -1.0, -0.2])
    raw, one = np.float32([base]), Auxiliary(SECOND)
    step = step_of(raw, laws={one: normal(other)[None]})
    assert (LogLinear(2, [Term(one, -1)])(step, raw) > -np.inf).tolist() == [[False, True, True, True]]
    assert (LogLinear(1, [Term(one, 1)])(step, raw) > -np.inf).tolist() == [[False, False, True, True]]
    assert (LogLinear(0, [Term(one, 1)])(step, raw) > -np.inf).tolist() == [[False, False, True, True]]
    assert (LogLinear(-1, [Term(one, 1)])(step, raw) > -np.inf).tolist() == [[False, False, True, True]]
    floor = LogLinear(1, [Term(one, -1)])(step, raw)[0]
    law = normal(other)
    assert floor[1] - floor[3] == pytest.approx(-0.5 + law[3] - law[2], abs=1e-6)  # as unlikely as the least likely


def test_forgetting_lowers_what_the_other_model_likes_better_and_raises_nothing():
    p, q = laws(FIRST, CONTEXTS)[:, :UNUSED], laws(SECOND, CONTEXTS)[:, :UNUSED]
    for alpha in (0.5, 5.0):
        found = answered(Forget(SECOND, alpha), CONTEXTS)[:, :UNUSED]
        assert_allclose(found, p - alpha * np.maximum(q - p, 0), atol=1e-5)
        assert (found <= p + 1e-6).all()
    assert_array_equal(answered(Forget(FIRST, 5.0), CONTEXTS), [FIRST.law(c) for c in CONTEXTS])


# -- entropies


def test_the_entropy_of_k_equal_tokens_is_log_k():
    raw = np.full((3, 8), -np.inf, np.float32)
    for row, k in enumerate((1, 3, 8)):
        raw[row, :k] = 1.5
    assert_allclose(entropies(raw), np.log([1, 3, 8]), atol=1e-6)


def test_the_temperature_follows_the_entropy_with_its_sign():
    hook = AdaptiveTemperature(pivot=0.0, spread=2.0, hot=0.5, cold=0.25, temperature=0.8, strength=0.3)
    entropy = np.array([1.0, math.e, math.exp(-2), 0.0, math.exp(40)])
    expected = [0.8, 0.8 * (1 + 0.3 * 0.25), 0.8 * (1 - 0.3 * 0.25), 0.8 * 0.7, 0.8 * 1.3]
    assert_allclose(hook.temperatures(entropy), expected, rtol=1e-12)
    raw = np.random.default_rng(0).normal(0, 3, (5, 9)).astype(np.float32)
    found = hook(step_of(raw), raw)
    assert_allclose(found, raw / hook.temperatures(entropies(raw))[:, None], rtol=1e-6)
    assert_array_equal(
        AdaptiveTemperature(0, 1, temperature=0.8, strength=0)(step_of(raw), raw), Temperature(0.8)(step_of(raw), raw)
    )


def test_calibration_scales_what_was_seen_to_one_and_minus_one():
    seen = np.exp(np.random.default_rng(1).normal(0, 1, 200))
    hook = AdaptiveTemperature.calibrated(seen, strength=0.1)
    assert hook.pivot == pytest.approx(np.quantile(np.log(seen), 0.8))
    assert hook.temperatures(np.array([seen.max(), seen.min(), math.exp(hook.pivot)])) == pytest.approx([1.1, 0.9, 1.0])
    assert (np.diff(hook.temperatures(np.sort(seen))) >= 0).all()
    with pytest.raises(ArgumentError, match="differ"):
        AdaptiveTemperature.calibrated([1.0, 1.0])
    with pytest.raises(ArgumentError, match="above 0"):
        AdaptiveTemperature.calibrated([0.0])


def test_the_entropy_is_that_of_the_model_before_other_hooks():
    hook = AdaptiveTemperature(pivot=0.0, spread=1.0, strength=0.5)
    alone = Steered(FIRST, [hook]).prefill([[A]])[0]
    behind = Steered(FIRST, [TokenBias({A: 20.0}), hook]).prefill([[A]])[0]
    assert_allclose(behind[0, [B, AB]], alone[0, [B, AB]], rtol=1e-6)


# -- layers


@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral"])
def test_a_mix_of_layers_is_the_formula_on_transformers_own_states(name):
    model = tiny_model(name)
    prompts = [model.encode("the cat sat"), model.encode("a")]
    steered = Steered(model, [LayerMix([0, 1], 0.3, norm=False)])
    first, state = steered.prefill(prompts)
    rows = [[*prompts[1], 7, 9], [*prompts[0], 5]]
    second, _ = steered.extend(steered.select(state, np.array([1, 0])), [[7, 9], [5]])
    for found, contexts in ((first, prompts), (second, rows)):
        for row, ids in zip(found, contexts, strict=True):
            with torch.inference_mode():
                output = model.model(batch(ids), output_hidden_states=True)
                heads = [model.model.get_output_embeddings()(output.hidden_states[i + 1][0, -1]) for i in (0, 1)]
            expected = (0.7 * output.logits[0, -1] + 0.3 * (heads[0] + heads[1]) / 2).cpu().numpy()
            used = sorted(set(range(len(expected))) - model.vocabulary.unused)
            assert_allclose(row[used], expected[used], atol=1e-4)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_the_last_layer_has_its_norm_already_and_is_the_model(name):
    model = tiny_model(name)
    last = model.model.config.num_hidden_layers - 1
    found, _ = Steered(model, [LayerMix([last], 1.0)]).prefill([model.encode("the cat")])
    assert_allclose(found, host_logits(model.prefill([model.encode("the cat")])[0]), atol=1e-4)
    with_norm, _ = Steered(model, [LayerMix([0], 1.0)]).prefill([model.encode("the cat")])
    without, _ = Steered(model, [LayerMix([0], 1.0, norm=False)]).prefill([model.encode("the cat")])
    assert not np.allclose(with_norm[0, :100], without[0, :100], atol=1e-2)


def test_layers_are_mixed_under_other_ends_of_text_too():
    lm = genctl.Model(tiny_model("llama"))
    options = {"steering": [LayerMix([0], 0.4)], "max_new_tokens": 5, "seed": 1}
    plain = lm.generate("the cat", **options)
    assert 2 not in plain.tokens
    ended = lm.generate("the cat", generation_config={"eos_token_id": [1, 2]}, **options)
    assert (ended.tokens, ended.logprob) == (plain.tokens, plain.logprob)


def test_layers_that_are_not_there_and_heads_that_do_more_are_refused():
    with pytest.raises(ArgumentError, match="layer 3 is none"):
        Steered(tiny_model("llama"), [LayerMix([3])])
    from genctl.models.transformers import TransformersModel

    capped = TransformersModel(tiny_causal_lm("gemma3", final_logit_softcapping=5.0), tiny_tokenizer())
    with pytest.raises(ModelError, match="final_logit_softcapping"):
        Steered(capped, [LayerMix([0])])


# -- posteriors

STACK = [
    FrequencyPenalty(0.6),
    LogLinear(0.8, [Term(Auxiliary(SECOND), 0.5), Term(Auxiliary(THIRD), -0.3)]),
    StringBias({"ba": 0.7}),
    WindowBias(-0.9, 2, ["a"]),
    Temperature(0.8),
]


def clouds(model, constraint, sampler, size=4, runs=1000, longest=4, prompt=(0,)):
    streams = seeded(1, [(g, i) for g in range(runs) for i in range(size)])
    begun = smc.start(streams, model, [list(prompt)] * runs, [constraint] * runs, size)
    chosen = smc.Settings(sampler, SCHEMES["systematic"], 0.5, longest)
    return smc.run(begun, model, [constraint] * runs, chosen)


class Written(ToyModel):
    """The law of a steered model, written out: the formula of each hook at each prefix, without any state."""

    def __init__(self, binding):
        super().__init__(VOCABULARY, FIRST._laws)
        self.binding = binding

    def law(self, context):
        z = np.float64(super().law(context))[:UNUSED]
        text = list(context[1:])
        s = z - 0.6 * np.array([text.count(t) for t in range(UNUSED)])
        total = np.logaddexp.reduce(s)
        s = 0.8 * (s - total) + 0.5 * normal(SECOND.law(context)[:UNUSED]) - 0.3 * normal(THIRD.law(context)[:UNUSED])
        s += total
        said = VOCABULARY.join(context)
        for t in range(UNUSED):
            whole = said + VOCABULARY.tokens[t]
            s[t] += 0.7 * (len(re.findall(b"(?=ba)", whole)) - len(re.findall(b"(?=ba)", said)))
        began = max([i for i, t in enumerate(text) if t == A], default=0)
        s[A] -= 0.9 * (len(text) - began < 2)
        s /= 0.8
        p = normal(z)
        law = {"target": normal(s), "tilt": p + s - z, "proposal": p}[self.binding]
        return np.append(law, -np.inf)


@pytest.mark.parametrize("sampler", [awrs, masked])
@pytest.mark.parametrize("binding", ["target", "tilt", "proposal"])
def test_particles_reach_the_posterior_of_a_stack_of_five_hooks(binding, sampler):
    """By enumeration, resampled and with shared prefixes: states are copied with the particles."""
    constraint = AutomatonConstraint(compile_regex("a*(ba){0,2}b?"), VOCABULARY)
    exact, log_evidence = naive.posterior(Written(binding), constraint, 4, given=[0])
    assert_posterior(clouds(Steered(FIRST, STACK, binding), constraint, sampler), exact, log_evidence)


def test_the_exact_method_samples_the_stack_as_target():
    rule = genctl.regex("a*(ba){0,2}b?")
    by_tokens, log_evidence = naive.posterior(Written("target"), rule.bind(VOCABULARY), 4, given=[0])
    options = {"method": "exact", "num_particles": 3000, "max_new_tokens": 4, "seed": 0}
    g = genctl.load(FIRST).generate("a", rule, steering=STACK, binding="target", **options)
    counts = {}
    for particle in g.particles:
        counts[particle.tokens] = counts.get(particle.tokens, 0) + 1 / 3000
    assert sum(abs(counts.get(t, 0) - p) for t, p in by_tokens.items()) / 2 < math.sqrt(len(by_tokens) / 3000)
    assert g.log_evidence == pytest.approx(log_evidence, abs=0.1)
