"""Models under hooks: bindings, orders, prompts, what is accepted and what is refused, and how they compose."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.testing import assert_allclose, assert_array_equal

import genctl
from genctl.errors import ArgumentError, ModelError, VocabularyError
from genctl.models.base import Laws, host_logits
from genctl.models.toy import ToyModel
from genctl.steering.base import Auxiliary, Hook, Slot, Stack, Step
from genctl.steering.basic import MinP, Temperature, TopK, TopP, TypicalP
from genctl.steering.bias import StringBias
from genctl.steering.combine import guidance, proxy
from genctl.steering.model import Steered
from genctl.steering.penalties import FrequencyPenalty
from genctl.vocabulary import Vocabulary
from tests import naive
from tests.answers import scores_of
from tests.statistics import assert_mean, total_variation
from tests.tiny_models import tiny_model

VOCABULARY = Vocabulary((b"a", b"b", b"ab", b"ba", b"", b""), eos=frozenset({4}), unused=frozenset({5}))
MODEL = ToyModel.random(VOCABULARY, order=3, seed=4, spread=1.5)
LM = genctl.load(MODEL)
RULE = genctl.regex("a*(ba){0,2}b?")


def falling(step, logits):
    """Longer texts end sooner."""
    return logits + step.positions[:, None] * np.array([0, 0, 0, 0, 1.0, 0], np.float32)


class Longest(Hook):
    """A memo: how many a's stand at the end; each makes one more less likely."""

    remembers = True

    def begin(self, prompt, /):
        memo = 0
        for token in prompt.tolist():
            memo = self.advance(memo, token)
        return memo

    def advance(self, memo, token, /):
        return memo + 1 if token == 0 else 0

    def __call__(self, step, scores, /):
        bias = np.zeros(scores.shape, np.float32)
        bias[:, 0] = np.array(step.memos, np.float32)
        return scores - bias


class Against(Hook):
    """Away from what the model says behind another prompt."""

    slot = Slot.COMBINATION

    def __init__(self, other, weight=0.5):
        self.other, self.weight = other, weight

    @property
    def auxiliaries(self):
        return (self.other,)

    def __call__(self, step, scores, /):
        with np.errstate(invalid="ignore"):
            moved = scores - self.weight * step.laws[self.other]
        return np.where(scores > -np.inf, moved, -np.inf).astype(np.float32)


# -- a steered model


def test_hooks_see_contexts_prompt_lengths_raw_logits_and_memos():
    seen: list[Step] = []

    def look(step, logits):
        seen.append(step)
        return logits

    steered = Steered(MODEL, [Longest(), look])
    _, state = steered.prefill([[0, 1], [0, 0, 0]])
    state = steered.select(state, np.array([1, 0, 1]))
    steered.extend(state, [[0], [3, 0], [1]])
    first, last = seen
    assert [c.tolist() for c in last.contexts] == [[0, 0, 0, 0], [0, 1, 3, 0], [0, 0, 0, 1]]
    assert last.prompt_lengths.tolist() == [3, 2, 3]
    assert last.positions.tolist() == [1, 2, 1]
    assert [t.tolist() for t in last.texts()] == [[0], [3, 0], [1]]
    assert_array_equal(last.raw, [MODEL.law(c) for c in last.contexts])
    assert [memos[0] for memos in first.memos] == [0, 3]
    assert [memos[0] for memos in last.memos] == [4, 1, 0]


@pytest.mark.parametrize("binding", ["target", "tilt", "proposal"])
def test_the_laws_of_a_binding_are_its_formulas(binding):
    bias = np.array([0.9, -0.4, 0.6, -1.0, 0.3, 0.0], np.float32)
    answer, _ = Steered(MODEL, [lambda z: 2 * z + bias], binding).prefill([[0], [1, 1]])
    z = np.array([MODEL.law([0]), MODEL.law([1, 1])], np.float64)
    p = z - np.logaddexp.reduce(z, axis=1, keepdims=True)
    s = np.where(z > -np.inf, 2 * z + bias, -np.inf)
    if binding == "target":
        assert_allclose(answer, s, rtol=1e-6)
        return
    assert isinstance(answer, Laws)
    assert len(answer) == 2
    added = np.where(z > -np.inf, s, 0) - np.where(z > -np.inf, z, 0)
    expected = p + added if binding == "tilt" else p
    assert_allclose(answer.scores, expected, atol=1e-6)
    assert_allclose(answer.drawn, expected if binding == "tilt" else s, atol=1e-6)
    assert_array_equal(answer.law, z.astype(np.float32))


def test_a_prompt_of_its_own_is_read_beside_the_prompt_in_one_forward():
    mark = Auxiliary(prompt="bb{prompt}")
    steered = Steered(MODEL, [Against(mark)])
    rows = [steered.encode("a"), steered.encode("ab")]
    assert all(i >= len(VOCABULARY) for row in rows for i in row)

    def law(context, own):
        z, other = np.float64(MODEL.law(context)), np.float64(MODEL.law(own))
        with np.errstate(invalid="ignore"):
            return np.where(z > -np.inf, z - 0.5 * (other - np.logaddexp.reduce(other)), -np.inf)

    first, state = steered.prefill(rows)
    assert_allclose(first, [law([0], [1, 3]), law([2], [1, 3, 1])], atol=1e-5)
    fork = steered.select(state, np.array([1, 1, 0]))
    second, longer = steered.extend(fork, [[0], [1, 3], [3]])
    expected = [law([2, 0], [3, 1, 0]), law([2, 1, 3], [3, 1, 1, 3]), law([0, 3], [1, 3, 3])]
    assert_allclose(second, expected, atol=1e-5)
    joined = steered.join([longer, state, steered.select(longer, np.array([2]))])
    third, _ = steered.extend(joined, np.array([0, 1, 2, 3, 0, 1]))
    contexts = [[2, 0, 0], [2, 1, 3, 1], [0, 3, 2], [0, 3], [2, 0], [0, 3, 1]]
    assert_allclose(third, [law(c, ([1, 3] if c[0] == 0 else [1, 3, 1]) + c[1:]) for c in contexts], atol=1e-5)
    again, _ = steered.prefill([[*rows[0], 3, 2]])
    assert_allclose(again, [law([0, 3, 2], [1, 3, 3, 2])], atol=1e-5)
    with pytest.raises(ArgumentError, match="token ids"):
        steered.prefill([[0, 1]])


def test_prompts_of_one_model_share_its_forward_and_one_law_is_asked_for_once():
    asked = []

    class Telling(ToyModel):
        def extend(self, state, tokens, /):
            asked.append(len(tokens))
            return super().extend(state, tokens)

    model, other = Telling(VOCABULARY, MODEL._laws), Telling(VOCABULARY, MODEL._laws)
    hooks = [guidance(1.5, "bb{prompt}"), Against(Auxiliary(prompt="bb{prompt}")), proxy(other, other)]
    steered = Steered(model, hooks)
    _, state = steered.prefill([steered.encode("a")] * 3)
    steered.extend(state, np.array([0, 1, 2]))
    assert asked == [6, 3]


def test_a_steered_transformers_model_is_the_formula_on_its_logits():
    model = tiny_model("llama")
    steered = Steered(model, [lambda z: z / 2, Temperature(0.5)])
    ids = model.encode("the cat")
    found, state = steered.prefill([ids, ids[:-1]])
    plain, _ = model.prefill([ids, ids[:-1]])
    assert_array_equal(host_logits(found), host_logits(plain))
    longer, _ = steered.extend(state, np.array([7, ids[-1]]))
    assert_allclose(host_logits(longer)[1], host_logits(plain)[0], atol=1e-4)


# -- bindings in generate


@pytest.mark.parametrize(
    "given", [{"constraint": RULE}, {"num_particles": 4}, {"critic": lambda t, d: 0.0}, {"min_ess": 2.0}]
)
def test_where_texts_are_weighted_the_binding_has_to_be_said(given):
    with pytest.raises(ArgumentError, match=r'(?s)binding.*"target".*"tilt".*"proposal"'):
        LM.generate("a", steering=[lambda z: z / 2], **given)
    assert LM.generate("a", steering=[lambda z: z / 2], binding="target", seed=0, max_new_tokens=4, **given).samples


@pytest.mark.parametrize("binding", [None, "target", "tilt", "proposal"])
def test_steering_without_hooks_is_the_model_however_it_is_bound(binding):
    options = {"num_particles": 4, "max_new_tokens": 4, "seed": 1}
    plain = LM.generate("a", RULE, **options)
    found = LM.generate("a", RULE, steering=[], binding=binding, **options)
    assert (found.tokens, found.log_evidence) == (plain.tokens, plain.log_evidence)
    with pytest.raises(ArgumentError, match=r"(?s)'twist'.*target, tilt, proposal"):
        LM.generate("a", RULE, steering=[], binding="twist")


def test_without_weights_steering_is_the_target():
    given = {"seed": 3, "max_new_tokens": 5, "num_return_sequences": 20}
    plain = LM.generate("a", temperature=0.5, top_k=3, **given)
    same = LM.generate("a", steering=[lambda z: z / 0.5, TopK(3)], **given)
    assert [g.tokens for g in plain] == [g.tokens for g in same]
    assert_allclose([g.logprob for g in plain], [g.logprob for g in same], atol=1e-5)


@pytest.mark.parametrize("binding", ["target", "tilt", "proposal"])
@pytest.mark.parametrize("method", ["awrs", "masked", "exact"])
def test_generate_reaches_the_posterior_of_a_hook_that_knows_the_position(binding, method):
    """By enumeration: the steered law is written out for each prefix."""

    class Twin(ToyModel):
        def law(self, context):
            z = np.float64(super().law(context))
            moved = z + (len(context) - 1) * np.array([0, 0, 0, 0, 1.0, 0])
            p = z - np.logaddexp.reduce(z)
            if binding == "proposal":
                return p
            with np.errstate(invalid="ignore"):
                return (
                    moved - np.logaddexp.reduce(moved)
                    if binding == "target"
                    else p + np.where(p > -np.inf, moved - z, 0)
                )

    exact: dict[str, float] = {}
    by_tokens, log_evidence = naive.posterior(Twin(VOCABULARY, MODEL._laws), RULE.bind(VOCABULARY), 4, given=[0])
    for tokens, probability in by_tokens.items():
        text = VOCABULARY.join(tokens).decode()
        exact[text] = exact.get(text, 0.0) + probability
    options = {"method": method, "num_particles": 3000, "max_new_tokens": 4, "seed": 1, "batch_size": 3000}
    if method == "exact" and binding != "target":
        with pytest.raises(ArgumentError, match="whole texts"):
            LM.generate("a", RULE, steering=[falling], binding=binding, **options)
        return
    g = LM.generate("a", RULE, steering=[falling], binding=binding, **options)
    assert total_variation(g.posterior(), exact) < math.sqrt(len(exact) / 3000)
    assert g.log_evidence == pytest.approx(log_evidence, abs=0.1)


def test_target_and_tilt_are_different_posteriors_and_particles_find_each():
    """Four tokens, four steps, a rule about steps and one about the end: by enumeration their distance is 0.41."""
    vocabulary = Vocabulary((b"a", b"b", b"c", b"d", b""), frozenset({4}))
    model = ToyModel.random(vocabulary, order=2, seed=13, spread=2.0)
    bias = np.array([*np.random.default_rng(13).normal(0, 2, 5)[:4], 0.0], np.float32)
    rule = genctl.regex("([ab][cd]|[cd]{2}){2}|a[a-d]{3}") & (lambda text, done: not done or text[0] != text[-1])

    class Twin(ToyModel):
        normalised = True

        def law(self, context):
            z = np.float64(super().law(context)) + bias
            return z - np.logaddexp.reduce(z) if self.normalised else z

    twin = Twin(vocabulary, model._laws)
    exact = {}
    options = {"num_particles": 4, "num_return_sequences": 500, "max_new_tokens": 4, "seed": 0, "batch_size": 2000}
    for binding, twin.normalised in (("target", True), ("tilt", False)):
        exact[binding], log_evidence = naive.posterior(twin, rule.bind(vocabulary), 4, given=[0])
        runs = genctl.load(model).generate("a", rule, steering=[lambda z: z + bias], binding=binding, **options)
        weights = np.exp([[p.log_weight - log_evidence for p in g.particles] for g in runs])
        assert_mean(weights.mean(axis=1), 1.0)
        for tokens, probability in exact[binding].items():
            hits = np.array([[p.tokens == tokens for p in g.particles] for g in runs])
            assert_mean((weights * hits).mean(axis=1), probability, largest=weights.max() / 4)
    assert total_variation(exact["target"], exact["tilt"]) == pytest.approx(0.41, abs=0.01)


def test_a_temperature_goes_under_a_tilt_and_behind_a_target():
    bias = np.array([0.9, -0.4, 0.6, -1.0, 0.3, 0.0], np.float32)
    options = {"max_new_tokens": 4, "num_particles": 3000, "seed": 2}
    given = LM.generate("a", RULE, steering=[lambda z: z + bias], binding="tilt", temperature=0.7, **options)
    built = LM.steered([Temperature(0.7)]).steered([lambda z: z + bias], "tilt").generate("a", RULE, **options)
    assert given.posterior() == built.posterior()
    given = LM.generate("a", RULE, steering=[lambda z: z + bias], binding="target", temperature=0.7, **options)
    built = LM.steered([lambda z: z + bias, Temperature(0.7)]).generate("a", RULE, **options)
    assert given.posterior() == built.posterior()


def test_greedy_takes_the_likeliest_token_of_the_steered_law():
    bias = np.array([-9, 9, 0, 0, -9, 0], np.float32)
    g = LM.generate("a", steering=[lambda z: z + bias], do_sample=False, max_new_tokens=5)
    assert g.text == "bbbbb"
    for binding in ("tilt", "proposal"):
        with pytest.raises(ArgumentError, match=r"do_sample=False.*binding"):
            LM.generate("a", steering=[lambda z: z + bias], binding=binding, do_sample=False)
        with pytest.raises(ArgumentError, match=r"do_sample=False.*weighted texts"):
            LM.steered([lambda z: z + bias], binding).generate("a", do_sample=False)


def test_a_run_that_is_resumed_knows_where_its_prompt_ended():
    lm, rule = genctl.load("toy"), genctl.regex("[a-z ]{3,20}")

    def shorter(step, logits):
        return logits - step.positions[:, None] * (np.arange(logits.shape[1]) % 7 == 0)

    options: dict[str, Any] = {"num_particles": 6, "max_new_tokens": 8, "seed": 3, "binding": "target"}
    options["steering"] = [shorter]
    whole = lm.generate("the ", rule, **options)

    def interrupt(done, total):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(genctl.Interrupted) as caught:
        lm.generate("the ", rule, progress=interrupt, **options)
    resumed = lm.generate("the ", rule, resume=caught.value.checkpoint, **options)
    assert [p.text for p in resumed.particles] == [p.text for p in whole.particles]
    assert_allclose([p.log_weight for p in resumed.particles], [p.log_weight for p in whole.particles], atol=1e-5)
    with pytest.raises(ArgumentError, match="another options"):
        lm.generate("the ", rule, resume=caught.value.checkpoint, **options | {"steering": [TopK(5)]})


# -- what is a hook


def test_the_order_of_a_stack_is_checked_and_may_be_kept():
    with pytest.raises(ArgumentError, match=r"TopP\(p=0.9\) \(truncation\) stands before Temperature"):
        LM.steered([TopP(0.9), lambda z: z, Temperature(0.5)])
    kept = LM.steered(Stack([TopP(0.9), Temperature(0.5)], any_order=True))
    assert kept.generate("a", max_new_tokens=2, seed=0).tokens is not None
    LM.steered([Temperature(0.5), MinP(0.1), TopK(3), TopP(0.5)])


@pytest.mark.parametrize(
    ("steering", "message"),
    [
        ("TopK", "a list of hooks"),
        (TopK(3), "a list of hooks"),
        ([TopK], "call the class"),
        ([3], "is no hook"),
        ([Stack([TopK(3)])], "give its hooks"),
        ([lambda: 0], "takes 0 arguments"),
        ([lambda a, b, c: a], "takes 3 arguments"),
        ([lambda z, *, scale: z], "takes 1 arguments and has to be given scale"),
        ([lambda z: z.astype(complex)], "complex"),
        ([lambda z: z > 0], "bool"),
        ([lambda z: z.astype(str)], "expected an array or tensor of floats"),
        ([lambda z: z.astype(object)], "object"),
        ([lambda z: z.astype(float) + 1e39], r"\+inf"),
        ([lambda z: z[:, :2]], r"\(1, 2\)"),
        ([lambda z: z * np.nan], "NaN"),
        ([lambda z: np.zeros_like(z)], "gives token 5 a logit"),
        ([lambda z: None], "NoneType"),
    ],
)
def test_what_is_no_hook_is_refused_with_the_reason(steering, message):
    with pytest.raises(ArgumentError, match=message):
        LM.generate("a", steering=steering, max_new_tokens=2)


def test_arguments_with_a_default_are_not_asked_for():
    def bent(logits, power=2.0, **options):
        return logits * power

    found, _ = Steered(MODEL, [bent, lambda *all: all[0] / 2]).prefill([[0]])
    assert_array_equal(found, [MODEL.law([0])])


def test_a_function_may_write_into_the_logits_it_gets():
    def write(logits):
        logits[:, 0] = -np.inf
        return logits

    before = MODEL.law([0]).copy()
    answer, _ = Steered(MODEL, [write]).prefill([[0]])
    assert answer[0, 0] == -np.inf
    assert_array_equal(MODEL.law([0]), before)
    tilted, _ = Steered(MODEL, [write], "tilt").prefill([[0]])
    assert tilted.law[0, 0] > -np.inf


class Answers(Hook):
    """A hook of the user's own that may be anything."""

    def __init__(self, answer, **told):
        self.answer = answer
        vars(self).update(told)

    def __repr__(self):
        return "Answers()"

    def __call__(self, step, scores, /):
        return self.answer(step, scores)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda step, z: None, "NoneType"),
        (lambda step, z: z.tolist(), "list"),
        (lambda step, z: z[0], r"returned \(6,\), expected logits of the shape \(1, 6\)"),
        (lambda step, z: np.where(z > -np.inf, np.nan, z), "NaN"),
        (lambda step, z: np.where(z > -np.inf, np.inf, z), r"\+inf"),
        (lambda step, z: np.zeros_like(z), "gives token 5 a logit"),
        (lambda step, z: z > 0, "bool"),
        (lambda step, z: z.astype(complex), "complex"),
    ],
)
@pytest.mark.parametrize("binding", ["target", "tilt", "proposal"])
def test_what_a_class_of_the_user_answers_is_checked_under_every_binding(answer, message, binding):
    with pytest.raises(ArgumentError, match=rf"(?s)the hook Answers\(\) .*{message}"):
        Steered(MODEL, [Answers(answer)], binding).prefill([[0]])
    with pytest.raises(ArgumentError, match=message):
        Steered(MODEL, [Temperature(2), Answers(answer), TopK(6)]).prefill([[0]])


def test_a_class_of_the_user_may_write_into_the_scores_and_into_nothing_else():
    def write(step, scores):
        scores[:, 0] = -np.inf
        return scores

    before = MODEL.law([0]).copy()
    tilted, _ = Steered(MODEL, [Answers(write)], "tilt").prefill([[0]])
    assert_array_equal(MODEL.law([0]), before)
    assert tilted.drawn[0, 0] == -np.inf < tilted.law[0, 0]
    with pytest.raises(ArgumentError, match="takes away"):
        Steered(MODEL, [Answers(write)], "proposal").prefill([[0]])

    def spoil(part):
        def hook(step, scores):
            part(step)[...] = 0
            return scores

        return hook

    for part in (lambda s: s.raw, lambda s: s.contexts[0], lambda s: s.prompt_lengths):
        for hook in (Answers(spoil(part)), spoil(part)):
            with pytest.raises(ValueError, match="read-only"):
                Steered(MODEL, [hook]).prefill([[0]])


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"slot": "bias"}, "the slot 'bias', expected a Slot"),
        ({"layers": 3}, "the layers 3"),
        ({"layers": "12"}, "the layers '12'"),
        ({"bind": lambda vocabulary: None}, "bound to a vocabulary as None"),
    ],
)
def test_what_a_class_of_the_user_says_of_itself_is_checked(told, message):
    with pytest.raises(ArgumentError, match=message):
        LM.steered([Answers(lambda step, z: z, **told)])
    with pytest.raises(ArgumentError, match="the auxiliaries"):
        LM.steered([Against(MODEL)])


class Forgetful(Hook):
    remembers = True

    def __call__(self, step, scores, /):
        return scores


def test_a_hook_that_remembers_has_to_say_what():
    with pytest.raises(ArgumentError, match="says that it remembers, but has no begin of its own"):
        LM.steered([Forgetful()])


def test_functions_see_tensors_of_models_that_answer_tensors():
    kinds = []

    def look(logits):
        kinds.append(type(logits))
        return logits

    Steered(tiny_model("llama"), [look]).prefill([[5]])
    Steered(MODEL, [look]).prefill([[0]])
    assert kinds == [torch.Tensor, np.ndarray]


@pytest.mark.parametrize("hook", [TopK(3), TopP(0.8), MinP(0.05), TypicalP(0.7)])
def test_hooks_that_take_tokens_away_are_refused_as_proposals(hook):
    with pytest.raises(ArgumentError, match="takes tokens away"):
        LM.steered([hook], binding="proposal")
    LM.steered([TopP(1.0), MinP(0)], binding="proposal")


def test_a_binding_without_steering_or_of_another_name_is_refused():
    with pytest.raises(ArgumentError, match="no steering is given"):
        LM.generate("a", binding="target")
    with pytest.raises(ArgumentError, match=r"(?s)'twist'.*target, tilt, proposal"):
        LM.generate("a", steering=[TopK(3)], binding="twist")
    with pytest.raises(ArgumentError, match=r"binding is \['target'\]"):
        LM.steered([TopK(3)], binding=["target"])
    with pytest.raises(ArgumentError, match="any_order is 'yes'"):
        Stack([TopK(3)], any_order="yes")
    with pytest.raises(ArgumentError, match="proposal already"):
        LM.steered([lambda z: z / 2], "proposal").steered([TopK(3)])
    with pytest.raises(VocabularyError, match=r"the steered model and the one that a hook reads, .*different symbols"):
        LM.steered([Against(Auxiliary(genctl.load("toy").language_model))])


def test_a_set_is_read_under_hooks_of_one_law_and_refused_with_the_reason_under_others():
    lm = genctl.Model(tiny_model("llama"))
    prompt = genctl.SetPrompt("the cat", [" sat", " ran"], " on")
    options = {"max_new_tokens": 3, "seed": 0}
    plain = lm.generate(prompt, **options)
    for hooks in ([lambda z: z], [FrequencyPenalty(0)], [proxy(tiny_model("mistral"), tiny_model("llama"), 0)]):
        assert lm.generate(prompt, steering=hooks, **options).tokens == plain.tokens
    for made in ("{prompt}!", lambda prompt: "a", lambda prompt: prompt):
        with pytest.raises(
            ModelError, match="one model in one way, but a hook reads the model behind a prompt of its own"
        ):
            lm.generate(prompt, steering=[guidance(2, made)], **options)
    with pytest.raises(ModelError, match="a hook makes one of the prompt"):
        lm.generate("the", steering=[guidance(2, lambda text: prompt)], **options)


@pytest.mark.parametrize("made", [None, 7, [], ["a"], [1, 2]])
def test_a_prompt_that_a_hook_makes_must_be_one(made):
    with pytest.raises(ArgumentError, match="of the prompt, expected text"):
        LM.steered([guidance(2, lambda prompt: made)]).generate("a", max_new_tokens=2)


# -- composition


def test_a_byte_view_keeps_hooks_that_are_functions_of_the_context_and_refuses_others():
    lm = genctl.load("toy")
    cold = lm.steered([Temperature(0.5)]).bytes()
    laws = {c: lm.language_model.law(c) / 0.5 for c in lm.language_model._laws}
    laws = {c: (z - np.logaddexp.reduce(z)).astype(np.float32) for c, z in laws.items()}
    twin = genctl.load(ToyModel(lm.language_model.vocabulary, laws)).bytes()
    assert cold.logprob("yes", "the answer is ") == pytest.approx(twin.logprob("yes", "the answer is "), abs=1e-5)
    for hooks in ([Longest()], [lambda step, z: z], [Against(Auxiliary(prompt="{prompt}!"))]):
        with pytest.raises(ArgumentError, match="where the prompt ends"):
            lm.steered(hooks).bytes()
    with pytest.raises(ArgumentError, match="whole texts"):
        lm.steered([lambda z: z / 2], "tilt").bytes()


def test_a_byte_view_is_refused_where_models_read_prompts_apart():
    class Marked(ToyModel):
        def encode(self, prompt, /):
            return [0, *super().encode(prompt)]

    lm = LM.steered([Against(Auxiliary(Marked(VOCABULARY, MODEL._laws)))])
    assert lm.generate("b", max_new_tokens=3, seed=0).samples
    for composed in (lm, genctl.ensemble([MODEL, Marked(VOCABULARY, MODEL._laws)])):
        with pytest.raises(ArgumentError, match="each in its own tokens"):
            composed.bytes()
    with pytest.raises(ArgumentError, match="where the prompt ends"):
        genctl.ensemble([LM, LM.steered([Longest()])]).bytes()


def test_everything_composes():
    """Models of different tokens, as bytes, contrasted and mixed, under a rule and with particles: by enumeration."""
    texts = ("the cat sat on the mat. the dog", "a cat and a dog, the mat", "mat the dog at a cat")
    a, b, c = (genctl.load(ToyModel.trained(text, order=3, pieces=6)).bytes(canonical=False) for text in texts)
    lm = genctl.ensemble([a.steered([proxy(b, c, 0.5), StringBias({"at": 0.8})]), b], weights=[0.7, 0.3])
    steering, rule = [FrequencyPenalty(0.4)], genctl.regex("[ac]at|[ad]o?t")
    g = lm.generate("the ", rule, steering=steering, binding="tilt", num_particles=3000, max_new_tokens=4, seed=0)
    exact = {}
    for text in ("aat", "cat", "at", "aot", "dt", "dot"):
        total = 0.0
        for i, byte in enumerate([*text.encode(), 256]):
            given, before = f"the {text[:i]}", text[:i].encode()
            p, q, r = (
                view.language_model.prefill([view.language_model.encode(given)])[0][0].astype(float)
                for view in (a, b, c)
            )
            with np.errstate(invalid="ignore"):
                s = np.where(p > -np.inf, p + 0.5 * (q - np.where(r > -np.inf, r, r[r > -np.inf].min())), -np.inf)
            s[ord("t")] += 0.8 * given.endswith("a")
            law = 0.7 * np.exp(s - np.logaddexp.reduce(s)) + 0.3 * np.exp(q)
            total += np.log(law[byte]) - 0.4 * before.count(byte if byte < 256 else b"never")
        exact[text] = math.exp(total)
    evidence = math.fsum(exact.values())
    assert g.log_evidence == pytest.approx(math.log(evidence), abs=0.15)
    assert total_variation(g.posterior(), {t: p / evidence for t, p in exact.items()}) < 0.05


def test_hooks_on_a_byte_view_see_bytes():
    view = genctl.load("toy").bytes()
    bias = np.zeros(257, np.float32)
    bias[ord("n")] = 50
    g = view.generate("the answer is ", steering=[lambda z: z + bias], seed=0, max_new_tokens=3)
    assert g.text.startswith("n")
    contexts = []
    view.steered([lambda step, z: (contexts.append(step.contexts[0].tolist()), z)[1]]).generate("ye", max_new_tokens=1)
    assert contexts[0] == list(b"ye")


def test_an_ensemble_of_steered_models_is_one_of_their_laws():
    cold = LM.steered([Temperature(0.5)])
    both = genctl.ensemble([cold, LM], weights=[0.4, 0.6])
    found = scores_of(both.language_model.prefill([[0]])[0])[0].astype(float)
    z = np.float64(MODEL.law([0]))
    p = [2 * z - np.logaddexp.reduce(2 * z), z - np.logaddexp.reduce(z)]
    assert_allclose(np.exp(found), 0.4 * np.exp(p[0]) + 0.6 * np.exp(p[1]), atol=1e-6)
    with pytest.raises(ArgumentError, match="whole texts"):
        genctl.ensemble([LM.steered([lambda z: z / 2], "tilt"), LM])


# -- processors of transformers


@pytest.mark.parametrize(
    ("processor", "hook"),
    [
        (transformers.TemperatureLogitsWarper(0.7), Temperature(0.7)),
        (transformers.TopKLogitsWarper(4), TopK(4)),
        (transformers.TopPLogitsWarper(0.8), TopP(0.8)),
        (transformers.MinPLogitsWarper(0.1), MinP(0.1)),
        (transformers.TypicalLogitsWarper(0.8), TypicalP(0.8)),
    ],
)
def test_the_hooks_of_the_same_name_do_what_transformers_processors_do(processor, hook):
    model = tiny_model("llama")
    ids = model.encode("the cat")
    (theirs, _), (ours, _) = (Steered(model, [one]).prefill([ids, ids[:-1], ids[:1]]) for one in (processor, hook))
    assert_allclose(ours, theirs, rtol=1e-6)


def test_a_processor_sees_each_row_s_own_ids_without_padding():
    model = tiny_model("llama")
    rows = [[5, 6, 7, 5], [8], [9, 9]]
    processor = transformers.RepetitionPenaltyLogitsProcessor(1.7)
    found, _ = Steered(model, [processor]).prefill(rows)
    raw = host_logits(model.prefill(rows)[0])
    for row, ids, z in zip(found, rows, raw, strict=True):
        expected = z.copy()
        for i in set(ids):
            expected[i] = z[i] / 1.7 if z[i] > 0 else z[i] * 1.7
        assert_allclose(row, expected, rtol=1e-6)


def test_processors_with_a_state_are_refused_with_the_reason():
    model = tiny_model("llama")
    guided = transformers.UnbatchedClassifierFreeGuidanceLogitsProcessor(1.5, model.model)
    with pytest.raises(ArgumentError, match="does not follow a particle"):
        genctl.Model(model).steered([guided])
    with pytest.raises(ArgumentError, match="would make impossible tokens possible"):
        genctl.Model(model).steered([transformers.InfNanRemoveLogitsProcessor()])
