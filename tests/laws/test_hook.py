"""The six laws of a hook (genctl/steering/base.py), for every hook at several strengths."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from genctl.models.base import Hidden
from genctl.models.toy import ToyModel
from genctl.steering.base import Hook, Stack, Step, as_hook
from genctl.steering.basic import MinP, Temperature, TopK, TopP, TypicalP
from genctl.steering.bias import StringBias, TokenBias
from genctl.steering.combine import (
    Auxiliary,
    Forget,
    LogLinear,
    Term,
    context_aware,
    contrastive,
    dexperts,
    guidance,
    proxy,
)
from genctl.steering.entropy import AdaptiveTemperature
from genctl.steering.layers import LayerMix
from genctl.steering.model import Steered
from genctl.steering.penalties import FrequencyPenalty, NoRepeat, PresencePenalty, RepetitionPenalty
from genctl.steering.schedules import ConstantBias, CyclicReflex, WindowBias
from genctl.vocabulary import Vocabulary

TOKENS = (b"a", b"b", b"ab", b"ba", b"wait", b" wait", b"</", b"think>", b"", b"")
VOCABULARY = Vocabulary(TOKENS, eos=frozenset({8}), unused=frozenset({9}))
V, D = len(VOCABULARY), 3
HEAD = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (D, V)).astype(np.float32))


class HiddenToy(ToyModel):
    """A toy model with two layers, whose states are made up from the context."""

    def with_hidden(self, layers):
        return HiddenReader(self, layers)


class HiddenReader:
    def __init__(self, model, layers):
        self.model, self.layers = model, layers

    def prefill(self, prompts):
        return self._with(self.model.prefill(prompts))

    def extend(self, state, tokens):
        return self._with(self.model.extend(state, tokens))

    def head(self, states, layer, *, norm):
        return (states / 2 if norm else states) @ HEAD

    def _with(self, answer):
        logits, state = answer
        states = {layer: torch.from_numpy(logits[:, layer : layer + D].copy()) for layer in self.layers}
        return Hidden(logits, states), state


MODEL = HiddenToy(VOCABULARY, ToyModel.random(VOCABULARY, order=2, seed=0, spread=2.0)._laws)
OTHER = ToyModel.random(VOCABULARY, order=2, seed=1, spread=2.0)
THIRD = ToyModel.random(VOCABULARY, order=2, seed=2, spread=2.0)
PROMPT = "b{prompt}"
WORDS = ("wait", " wait")


class Case(NamedTuple):
    """neutral: the same hook without effect."""

    strong: list[Any]
    neutral: list[Any]


# A new hook goes here.
HOOKS: dict[str, Case] = {
    "temperature": Case([Temperature(0.3), Temperature(2)], [Temperature(1)]),
    "top-k": Case([TopK(1), TopK(4)], [TopK(V)]),
    "top-p": Case([TopP(0.01), TopP(0.7)], [TopP(1)]),
    "min-p": Case([MinP(1), MinP(0.2)], [MinP(0)]),
    "typical": Case([TypicalP(0.01), TypicalP(0.7)], [TypicalP(1)]),
    "repetition penalty": Case([RepetitionPenalty(1.3), RepetitionPenalty(0.5, prompt=False)], [RepetitionPenalty(1)]),
    "frequency penalty": Case([FrequencyPenalty(0.5), FrequencyPenalty(-1, prompt=True)], [FrequencyPenalty(0)]),
    "presence penalty": Case([PresencePenalty(0.5), PresencePenalty(-1, prompt=True)], [PresencePenalty(0)]),
    "no repeat": Case([NoRepeat(1), NoRepeat(2), NoRepeat(3, prompt=False)], [NoRepeat(1000)]),
    "token bias": Case([TokenBias({0: 2.0, 4: -1.5}), TokenBias({2: -np.inf})], [TokenBias({0: 0.0})]),
    "string bias": Case(
        [StringBias({"ab": 1.0, "aba": -0.5}), StringBias({"wait": -np.inf}), StringBias({"a": 2.0})],
        [StringBias({"ab": 0.0})],
    ),
    "cyclic reflex": Case(
        [
            CyclicReflex(3, 8, words=WORDS),
            CyclicReflex(1, 5, 0.3, ["wait"], until=None),
            CyclicReflex(2, 4, words=[4], until=7),
        ],
        [CyclicReflex(0, words=WORDS)],
    ),
    "window bias": Case([WindowBias(-3, 4, WORDS)], [WindowBias(0, 4, WORDS), WindowBias(-3, 0, WORDS)]),
    "constant bias": Case([ConstantBias(1.5, WORDS), ConstantBias(-2, [0], 1, 3)], [ConstantBias(0, WORDS)]),
    "log-linear": Case(
        [
            LogLinear(0.5, [Term(Auxiliary(OTHER), 0.7), Term(Auxiliary(THIRD), -0.4, 0.5)]),
            LogLinear(0.0, [Term(Auxiliary(OTHER), 1.0)]),
            LogLinear(-1.0, [Term(Auxiliary(prompt=PROMPT), 2.0)], TopK(3)),
        ],
        [LogLinear(1, []), LogLinear(1, [Term(Auxiliary(OTHER), 0.0)], MinP(0))],
    ),
    "guidance": Case([guidance(1.5, PROMPT), guidance(-1, PROMPT)], [guidance(1, PROMPT)]),
    "context-aware": Case([context_aware(0.5, PROMPT)], [context_aware(0, PROMPT)]),
    "dexperts": Case([dexperts(OTHER, THIRD, 0.8)], [dexperts(OTHER, THIRD, 0, top_p=None)]),
    "proxy tuning": Case([proxy(OTHER, THIRD)], [proxy(OTHER, THIRD, 0)]),
    "contrastive": Case([contrastive(OTHER), contrastive(OTHER, 0.3, 0.9)], [contrastive(OTHER, 0, 0)]),
    "forget": Case([Forget(OTHER, 5.0), Forget(OTHER, 0.2)], [Forget(OTHER, 0)]),
    "adaptive temperature": Case(
        [AdaptiveTemperature(0.2, 0.5, strength=0.9), AdaptiveTemperature(1, 0.1, 2, -1, 0.7, 0.3)],
        [AdaptiveTemperature(0.2, 0.5, strength=0)],
    ),
    "layer mix": Case([LayerMix([0, 1], 0.4), LayerMix([1], 1.0, norm=False)], [LayerMix([0], 0)]),
    "function": Case([lambda z: z / 2, lambda step, z: z - step.positions[:, None]], [lambda z: z]),
    "processor, batched": Case(
        [transformers.TopKLogitsWarper(3), transformers.TypicalLogitsWarper(0.5)], [transformers.TopKLogitsWarper(V)]
    ),
    "processor, row by row": Case(
        [
            transformers.RepetitionPenaltyLogitsProcessor(1.4),
            transformers.NoRepeatNGramLogitsProcessor(2),
            transformers.NoBadWordsLogitsProcessor([[0], [1, 2]]),
            transformers.SequenceBiasLogitsProcessor([[[3], -1.0], [[1, 2], 2.0]]),
            transformers.MinNewTokensLengthLogitsProcessor(2, 3, 8),
        ],
        [transformers.RepetitionPenaltyLogitsProcessor(1.0)],
    ),
}
STRONG = [(name, i) for name, case in HOOKS.items() for i in range(len(case.strong))]
NEUTRAL = [(name, i) for name, case in HOOKS.items() for i in range(len(case.neutral))]


def bound(hook: Any) -> Hook:
    return as_hook(hook).bind(VOCABULARY)


ids = st.lists(st.integers(0, 7), max_size=9)
numbers = st.one_of(st.floats(-30, 30, width=32), st.just(-np.inf), st.sampled_from([0.0, 1.0]))
rows = st.lists(numbers, min_size=V, max_size=V)


@st.composite
def steps(draw, hook: Hook):
    """A step and its scores, whose arrays cannot be written to."""
    count = draw(st.integers(0, 4))
    prompts = [draw(ids) for _ in range(count)]
    texts = [draw(ids) for _ in range(count)]
    array = np.array([draw(rows) for _ in range(count)], np.float32).reshape(count, V)
    laws = {}
    for auxiliary in hook.auxiliaries:
        raw = np.array([draw(rows) for _ in range(count)], np.float64).reshape(count, V)
        totals = np.logaddexp.reduce(raw, axis=1, keepdims=True, initial=-np.inf)
        laws[auxiliary] = frozen(raw - np.where(totals > -np.inf, totals, 0))
    hidden = np.random.default_rng(count).normal(0, 1, (2, count, D)).astype(np.float32)
    stack = Stack([hook])
    return Step(
        contexts=[frozen(np.array(p + t, np.int64)) for p, t in zip(prompts, texts, strict=True)],
        prompt_lengths=frozen(np.array([len(p) for p in prompts], np.int64)),
        raw=frozen(array),
        laws=laws,
        hidden=dict(enumerate(torch.from_numpy(hidden))),
        head=lambda states, layer, norm: (states / 2 if norm else states) @ HEAD,
        memos=[stack.advance(stack.begin(np.array(p, np.int64)), t) for p, t in zip(prompts, texts, strict=True)],
    )


def frozen(array):
    array.flags.writeable = False
    return array


def picked(step: Step, places: list[int]) -> Step:
    return Step(
        contexts=[step.contexts[i] for i in places],
        prompt_lengths=step.prompt_lengths[places],
        raw=step.raw[places],
        laws={one: law[places] for one, law in step.laws.items()},
        hidden={layer: states[places] for layer, states in step.hidden.items()},
        head=step.head,
        memos=[step.memos[i] for i in places],
    )


@pytest.mark.parametrize(("name", "i"), STRONG)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_nothing_is_changed_nothing_new_is_possible_nothing_is_nan_and_rows_are_alone(name, i, data):
    """Laws 2, 4, 5 and 6. What is given cannot be written to: who tries raises."""
    hook = bound(HOOKS[name].strong[i])
    step = data.draw(steps(hook))
    before = step.raw.copy()
    found = Stack([hook], any_order=True)(step)
    assert found.shape == step.raw.shape
    assert found.dtype == np.float32
    assert not np.isnan(found).any()
    assert not (found == np.inf).any()
    assert (found[step.raw == -np.inf] == -np.inf).all()
    assert_array_equal(step.raw, before)
    if not hook.restricts_support and not hook.auxiliaries:
        assert (found[step.raw > -np.inf] > -np.inf).all()
    if len(found):
        places = data.draw(st.lists(st.integers(0, len(found) - 1), max_size=5))
        assert_array_equal(Stack([hook])(picked(step, places)), found[places])


@pytest.mark.parametrize(("name", "i"), NEUTRAL)
@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_a_neutral_hook_gives_the_scores_back_bit_by_bit(name, i, data):
    """Law 3."""
    hook = bound(HOOKS[name].neutral[i])
    step = data.draw(steps(hook))
    assert_array_equal(Stack([hook])(step), step.raw)


@pytest.mark.parametrize(("name", "i"), STRONG)
def test_a_text_read_token_by_token_has_the_laws_of_the_text_read_at_once(name, i):
    """Law 1, through the state of a steered model: extended, selected and joined, against read anew."""
    steered = Steered(MODEL, [HOOKS[name].strong[i]])
    rng = np.random.default_rng(i)
    prompts = [steered.encode("ab"), steered.encode("wait"), steered.encode("ba")]
    texts: list[list[int]] = [[], [], []]
    _, state = steered.prefill(prompts)
    for _ in range(8):
        places = rng.permutation(3)
        state = steered.join([steered.select(state, places[:1]), steered.select(state, places[1:])])
        prompts, texts = [prompts[p] for p in places], [texts[p] for p in places]
        tokens = rng.integers(0, 8, 3)
        found, state = steered.extend(state, tokens)
        texts = [[*text, token] for text, token in zip(texts, tokens.tolist(), strict=True)]
        _, anew = steered.prefill(prompts)
        assert_array_equal(found, steered.extend(anew, texts)[0])


@pytest.mark.parametrize(("name", "i"), STRONG)
def test_what_a_byte_view_may_see_does_not_depend_on_where_the_prompt_ends(name, i):
    steered = Steered(MODEL, [HOOKS[name].strong[i]])
    if steered.needs_prompt:
        assert name in steered.needs_prompt.lower() or steered.stack[0].needs_prompt
        return
    _, state = steered.prefill([[4]])
    found, _ = steered.extend(state, [[0, 3, 0, 5, 2, 7]])
    assert_array_equal(found, steered.prefill([[4, 0, 3, 0, 5, 2, 7]])[0])


@pytest.mark.parametrize("name", HOOKS)
def test_hooks_are_told_apart_by_their_text(name):
    """What a checkpoint compares."""
    told = [repr(as_hook(hook)) for hook in (*HOOKS[name].strong, *HOOKS[name].neutral)]
    assert len(set(told)) == len(told)
    again = [repr(bound(hook)) for hook in (*HOOKS[name].strong, *HOOKS[name].neutral)]
    assert again == told
