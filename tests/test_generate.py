"""`load` and `generate` as users call them, on the toy model."""

from __future__ import annotations

import math
import re
import warnings
from typing import Literal

import numpy as np
import pytest
from pydantic import BaseModel, Field

import genctl
from genctl.models.toy import ToyModel
from genctl.vocabulary import Vocabulary

LETTERS = Vocabulary((b"a", b"b", b"ab", b""), eos=frozenset({3}))


@pytest.fixture(scope="module")
def lm() -> genctl.Model:
    return genctl.load("toy")


class Trip(BaseModel):
    city: Literal["Rome", "Oslo"]
    days: int = Field(ge=1, le=9)


def test_a_type_gives_a_value_of_that_type(lm):
    g = lm.generate("JSON: ", Trip, max_new_tokens=40, seed=1)
    assert isinstance(g.value, Trip)
    assert g.finish_reason == "complete"


@pytest.mark.parametrize(
    ("rule", "kind"),
    [
        (genctl.regex("yes|no"), str),
        (re.compile("yes|no"), str),
        (Literal["yes", "no"], str),
        ({"enum": ["yes", "no"]}, str),
        (bool, bool),
        (dict[str, bool] | None, dict | None),
        (lambda text, done: text == "yes"[: len(text)] and (not done or text == "yes"), str),
    ],
)
def test_every_kind_of_rule_is_accepted(lm, rule, kind):
    assert isinstance(lm.generate("the answer is ", rule, max_new_tokens=60, seed=5).value, kind)


def test_one_prompt_gives_one_generation_a_list_a_list_and_several_sequences_several(lm):
    rule = genctl.regex("yes|no")
    assert isinstance(lm.generate("the answer is ", rule, seed=0), genctl.Generation)
    several = lm.generate("the answer is ", rule, num_return_sequences=3, seed=0)
    assert isinstance(several, genctl.Generations)
    assert len(several) == 3
    batch = lm.generate(["the answer is "], rule, seed=0)
    assert isinstance(batch, list)
    assert [type(g) for g in batch] == [genctl.Generation]
    nested = lm.generate(["a", "b"], rule, num_return_sequences=2, seed=0)
    assert [len(g) for g in nested] == [2, 2]


def test_each_prompt_of_a_list_may_have_its_own_rule(lm):
    texts = [g.text for g in lm.generate(["a", "b", "c"], [genctl.regex("yes"), bool, None], max_new_tokens=9, seed=0)]
    assert texts[0] == "yes"
    assert texts[1] in ("true", "false")


def test_chat_messages_are_one_prompt(lm):
    messages = [{"role": "user", "content": "the answer is"}]
    assert isinstance(lm.generate(messages, genctl.regex("yes|no"), seed=0), genctl.Generation)
    assert len(lm.generate([messages, messages], genctl.regex("yes|no"), seed=0)) == 2


def test_token_ids_are_a_prompt_as_they_are(lm):
    ids = lm.language_model.encode("the answer is ")
    rule = genctl.regex("yes|no")
    assert lm.generate(ids, rule, seed=3).text == lm.generate("the answer is ", rule, seed=3).text
    assert [g.text for g in lm.generate([ids, tuple(ids)], rule, seed=3)] == [
        g.text for g in lm.generate(["the answer is "] * 2, rule, seed=3)
    ]


def test_the_same_seed_gives_the_same_texts(lm):
    rule = genctl.regex("[a-z]{3,8}")
    first = lm.generate("the ", rule, num_particles=8, num_return_sequences=3, seed=42)
    again = lm.generate("the ", rule, num_particles=8, num_return_sequences=3, seed=42)
    other = lm.generate("the ", rule, num_particles=8, num_return_sequences=3, seed=43)
    assert [g.text for g in first] == [g.text for g in again]
    np.testing.assert_array_equal(first.log_weights, again.log_weights)
    assert [s.text for s in first.samples] != [s.text for s in other.samples]


def test_generators_of_numpy_and_torch_are_seeds_too(lm):
    torch = pytest.importorskip("torch")
    rule = genctl.regex("[a-z]{8}")
    for make in (lambda: np.random.default_rng(3), lambda: torch.Generator().manual_seed(3)):
        assert lm.generate("the ", rule, generator=make()).text == lm.generate("the ", rule, generator=make()).text


def test_a_text_that_is_cut_says_so_and_has_no_value(lm):
    g = lm.generate("the ", genctl.regex("[a-z]{500}"), max_new_tokens=5, wrap_up=False, seed=0)
    assert g.finish_reason == "length"
    assert g.log_weight == -math.inf
    assert g.text
    with pytest.raises(genctl.IncompleteError, match="raise max_new_tokens"):
        _ = g.value


def test_a_text_that_is_complete_when_the_budget_ends_is_complete():
    model = ToyModel.random(LETTERS, order=2, seed=0)
    g = genctl.load(model).generate("a", genctl.regex("bb"), max_new_tokens=2, seed=0)
    exact = model.logprob([1, 1, 3], given=[0])
    assert (g.text, g.finish_reason) == ("bb", "complete")
    assert g.logprob == pytest.approx(exact, abs=1e-5)


def test_without_a_rule_a_cut_text_keeps_its_weight(lm):
    g = lm.generate("the ", max_new_tokens=3, seed=0)
    assert (g.log_weight, g.value) == (0.0, g.text)


def test_the_logprob_is_the_model_s(lm):
    g = lm.generate("the answer is ", genctl.regex("yes|no"), seed=2)
    model = lm.language_model
    eos = next(iter(model.vocabulary.eos))
    assert g.logprob == pytest.approx(model.logprob([*g.tokens, eos], model.encode("the answer is ")), abs=1e-4)


def test_a_dead_end_of_every_particle_raises_with_place_and_wish(lm):
    with pytest.raises(genctl.DeadEndError, match=r"no token is allowed after '.*the model wanted"):
        lm.generate("the ", lambda text, done: not done and len(text) < 3, num_particles=4, seed=0)


def test_one_dead_sequence_among_live_ones_is_marked(lm):
    def starts_with_t_or_dies(text: str, done: bool) -> bool:
        return len(text) < 2 or text.startswith("t")

    several = lm.generate("the ", starts_with_t_or_dies, num_return_sequences=30, max_new_tokens=6, seed=0)
    assert {"dead_end"} < {g.finish_reason for g in several}
    assert all(g.log_weight == -math.inf for g in several if g.finish_reason == "dead_end")


def test_greedy_takes_the_likeliest_allowed_token():
    model = ToyModel.random(LETTERS, order=1, seed=3)
    text = genctl.load(model).generate("a", genctl.regex("[ab]{3}"), do_sample=False).text
    best = "a" if model.law([])[0] > model.law([])[1] else "b"
    assert text.startswith(best) or text.startswith("ab")
    assert text == genctl.load(model).generate("a", genctl.regex("[ab]{3}"), do_sample=False).text


def test_greedy_takes_the_likeliest_token_without_a_rule_too(lm):
    model = lm.language_model
    tokens, prompt = [], model.encode("the ")
    while len(tokens) < 20 and (best := int(model.law([*prompt, *tokens]).argmax())) not in model.vocabulary.eos:
        tokens.append(best)
    for seed in range(3):
        g = lm.generate("the ", do_sample=False, max_new_tokens=20, seed=seed)
        assert g.tokens == tuple(tokens)
        assert g.log_weight == 0


def test_masked_and_awrs_estimate_the_same_evidence(lm):
    rule = genctl.regex("[a-z]{2,5}")
    estimates = [
        lm.generate("the ", rule, num_particles=400, max_new_tokens=5, method=method, seed=1).log_evidence
        for method in ("awrs", "masked")
    ]
    assert estimates[0] == pytest.approx(estimates[1], abs=0.2)


@pytest.mark.parametrize(
    ("hook", "expected"),
    [
        ({"top_k": 1}, {"a"}),
        ({"top_p": 0.5}, {"a"}),
        ({"min_p": 0.9}, {"a"}),
        ({"temperature": 0.01}, {"a"}),
        ({"top_k": 2}, {"a", "b"}),
        ({"temperature": 5.0}, {"a", "b", "ab"}),
    ],
)
def test_filters_and_temperature_change_what_is_drawn(hook, expected):
    law = np.log(np.array([0.6, 0.3, 0.05, 0.05], np.float32))
    model = genctl.load(ToyModel(LETTERS, {(): law}))
    drawn = model.generate("a", genctl.regex("a|b|ab"), num_return_sequences=200, max_new_tokens=1, seed=0, **hook)
    texts = {model.language_model.vocabulary.tokens[g.tokens[0]].decode() for g in drawn}
    assert texts == expected


def test_progress_is_told_of_every_token(lm):
    seen = []
    lm.generate(
        "the ", genctl.regex("[a-z]{6}"), max_new_tokens=9, seed=0, progress=lambda done, of: seen.append((done, of))
    )
    assert seen == sorted(seen)
    assert {of for _, of in seen} == {9}


def test_an_interrupted_run_leaves_everything_usable(lm):
    def interrupt(done: int, of: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    rule = genctl.regex("[a-z]{6,9}")
    with pytest.raises(KeyboardInterrupt):
        lm.generate("the ", rule, seed=0, progress=interrupt)
    assert (
        lm.generate("the ", rule, seed=0).text
        == genctl.load("toy").generate("the ", genctl.regex("[a-z]{6,9}"), seed=0).text
    )


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"max_tokens": 5}, genctl.ArgumentError, "did you mean max_new_tokens"),
        ({"num_beams": 5}, genctl.ArgumentError, "no argument 'num_beams'"),
        ({"max_new_tokens": 0}, genctl.ArgumentError, "max_new_tokens is 0"),
        ({"num_particles": 2.5}, genctl.ArgumentError, "num_particles is 2.5"),
        ({"num_return_sequences": 10**30}, genctl.ArgumentError, "more than 1,000,000 texts"),
        ({"num_return_sequences": 1_001, "num_particles": 1_000}, genctl.ArgumentError, "ask for less"),
        ({"num_return_sequences": True}, genctl.ArgumentError, "num_return_sequences is True"),
        ({"temperature": 0}, genctl.ArgumentError, "do_sample=False"),
        ({"temperature": float("nan")}, genctl.ArgumentError, "temperature is nan"),
        ({"top_p": 1.5}, genctl.ArgumentError, "top_p is 1.5"),
        ({"temperature": "hot"}, genctl.ArgumentError, "temperature is 'hot'"),
        ({"top_k": 2.5}, genctl.ArgumentError, "top_k is 2.5"),
        ({"top_k": 0}, genctl.ArgumentError, "top_k is 0"),
        ({"min_p": -1}, genctl.ArgumentError, "min_p is -1"),
        ({"ess_threshold": 2}, genctl.ArgumentError, "ess_threshold is 2"),
        ({"resampling": "sistematic"}, genctl.ArgumentError, "did you mean 'systematic'"),
        ({"method": "magic"}, genctl.ArgumentError, "one of awrs, smc, masked, exact, rejection"),
        ({"seed": -1}, genctl.ArgumentError, "seed is -1"),
        ({"seed": 1, "generator": np.random.default_rng()}, genctl.ArgumentError, "not both"),
        ({"generator": "x"}, genctl.ArgumentError, "generator is 'x'"),
        ({"do_sample": False, "num_particles": 2}, genctl.ArgumentError, "one particle"),
        ({"constraint": "[a-z]+"}, genctl.ConstraintError, "genctl.regex"),
        ({"constraint": 3}, genctl.ConstraintError, "3 is not a rule"),
        ({"constraint": [bool]}, genctl.ArgumentError, "a single prompt"),
        ({"do_sample": "no"}, genctl.ArgumentError, "do_sample is 'no', it must be True or False"),
        ({"wrap_up": None}, genctl.ArgumentError, "wrap_up is None, it must be True or False"),
        ({"exact_boundary": []}, genctl.ArgumentError, "exact_boundary is [], it must be True or False"),
        ({"temperature": True}, genctl.ArgumentError, "temperature is True"),
        ({"temperature": np.array([1, 2])}, genctl.ArgumentError, "temperature is array"),
        ({"max_time": 10**400}, genctl.ArgumentError, "max_time is 1000"),
        ({"max_time": ""}, genctl.ArgumentError, "max_time is ''"),
        ({"min_ess": False}, genctl.ArgumentError, "min_ess is False"),
        ({"progress": "yes"}, genctl.ArgumentError, "progress is 'yes', it must be True or False"),
        ({"method": np.array([1, 2])}, genctl.ArgumentError, "method is array"),
        ({"prompt": [1.5]}, genctl.ArgumentError, "prompt[0] is 1.5, expected text"),
        ({"prompt": ["a", []]}, genctl.ArgumentError, "prompt[1] is [], expected text"),
        ({"prompt": "\ud800"}, genctl.ArgumentError, "no bytes spell"),
        ({"prompt": [{"role": "user"}]}, genctl.ArgumentError, "no text as its content"),
        ({"prompt": 3}, genctl.ArgumentError, "prompt is int"),
        ({"prompt": []}, genctl.ArgumentError, "empty list"),
        ({"constraint": lambda text, done: 1}, genctl.ConstraintError, "returned 1"),
        ({"constraint": lambda text, done: float("nan")}, genctl.ConstraintError, "returned nan"),
    ],
)
def test_a_bad_argument_raises_the_right_error_with_a_hint(lm, arguments, error, message):
    prompt = arguments.pop("prompt", "the ")
    with pytest.raises(error, match=re.escape(message)):
        lm.generate(prompt, **arguments)


def test_rules_are_joined_and_refused_where_they_have_nothing_in_common(lm):
    rule = genctl.regex("[a-z]+") & genctl.regex(".{3}") & (lambda text, done: "q" not in text)
    assert re.fullmatch("[a-pr-z]{3}", lm.generate("the ", rule, seed=0, max_new_tokens=4).value)
    with pytest.raises(genctl.UnsatisfiableError, match="no text obeys both"):
        genctl.regex("a+") & genctl.regex("b+")
    with pytest.raises(genctl.ConstraintError, match="cannot be joined"):
        genctl.regex("a+") & "b"


def test_a_rule_tells_whether_a_text_obeys():
    rule = genctl.regex("[ab]+") & (lambda text, done: not text.startswith("b"))
    assert rule.accepts("ab")
    assert not rule.accepts("ba")
    assert not rule.accepts("ac")


def test_nan_logits_are_an_error_and_not_a_text():
    law = np.array([0.0, np.nan, 0.0, 0.0], np.float32)
    with pytest.raises(genctl.ModelError, match="NaN"):
        genctl.load(ToyModel(LETTERS, {(): law})).generate("a", genctl.regex("a"))


def test_generating_warns_of_nothing(lm):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lm.generate("the ", genctl.regex("[a-z]{3}") & (lambda text, done: True), num_particles=8, seed=0)
