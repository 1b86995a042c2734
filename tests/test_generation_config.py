"""A GenerationConfig: every field of the installed version is honoured as transformers does, or refused by name."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from transformers import GenerationConfig

import genctl
from genctl.errors import ArgumentError, DeadEndError
from genctl.integrations.generation_config import (
    HOOKS,
    INSIDE,
    OPTIONS,
    OTHERS,
    REFUSED,
    Forbidden,
    arguments_of,
    asked_for,
    table,
)
from genctl.steering.base import Stack
from genctl.steering.model import Steered
from tests.laws.test_model import laws_of
from tests.tiny_models import DEVICE, batch, tiny_model

FIELDS = sorted(name for name in vars(GenerationConfig()) if not name.startswith("_"))
ASKS: dict[str, Any] = {  # a value that asks for something, for every field that is honoured
    "max_new_tokens": 5,
    "do_sample": False,
    "num_return_sequences": 2,
    "max_time": 9.0,
    "sequence_bias": {(9,): 2.0, (10, 11): -3.0},
    "repetition_penalty": 1.7,
    "no_repeat_ngram_size": 2,
    "bad_words_ids": [[9], [10, 11]],
    "min_new_tokens": 3,
    "suppress_tokens": [9, 10],
    "begin_suppress_tokens": [9, 10],
    "temperature": 0.6,
    "top_h": 0.6,
    "top_k": 7,
    "top_p": 0.6,
    "min_p": 0.1,
    "typical_p": 0.6,
    "epsilon_cutoff": 0.01,
    "eta_cutoff": 0.01,
    "eos_token_id": [1, 2],
    "pad_token_id": 2,
    "bos_token_id": 0,
    "renormalize_logits": True,
    "disable_compile": True,
    "transformers_version": "5.0",
}
LAWS = sorted(HOOKS)


@pytest.fixture(scope="module")
def lm() -> genctl.Model:
    return genctl.Model(tiny_model("llama"))


def by_transformers(fields: dict[str, Any], ids: list[int], length: int, logits: Any) -> Any:
    """(1, V) scores that `model.generate` would draw from, of the last of ids behind a prompt of a length."""
    inner = tiny_model("llama").model
    config = GenerationConfig(**{"do_sample": True, "eos_token_id": 1, **fields})
    inner._prepare_special_tokens(config, device=DEVICE)
    processors = inner._get_logits_processor(config, input_ids_seq_length=length, encoder_input_ids=None, device=DEVICE)
    return processors(batch(ids), logits.clone())


# -- the tables


def test_every_field_of_the_installed_version_is_in_a_table() -> None:
    assert set(FIELDS) <= {*OPTIONS, *HOOKS, *OTHERS, *REFUSED}
    assert set(INSIDE) <= set(REFUSED)
    assert not (set(OPTIONS) | set(HOOKS) | set(OTHERS)) & set(REFUSED)
    assert set(ASKS) == {*OPTIONS, *HOOKS, *OTHERS}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_refused_field_is_refused_by_name_and_only_where_it_asks_for_something(lm: genctl.Model, name: str) -> None:
    vocabulary = lm.language_model.vocabulary
    for value in (None, *REFUSED[name].neutral):
        assert arguments_of({name: value}, vocabulary).names == []
    for value in ({"a": 1}, "other", 7, True):
        if value in REFUSED[name].neutral:
            continue
        with pytest.raises(ArgumentError, match=rf"generation_config\.{name} is"):
            arguments_of({name: value}, vocabulary)
        config = GenerationConfig()
        setattr(config, name, value)
        with pytest.raises(ArgumentError, match=rf"generation_config\.{name} is"):
            lm.generate("the", generation_config=config)


@pytest.mark.parametrize("name", sorted(ASKS))
def test_a_field_that_is_honoured_is_taken_from_an_object_and_from_a_dict(lm: genctl.Model, name: str) -> None:
    config = GenerationConfig()
    setattr(config, name, ASKS[name])
    tokenizer, vocabulary = lm.language_model.tokenizer, lm.language_model.vocabulary
    one, other = (arguments_of(given, vocabulary, tokenizer) for given in (config, {name: ASKS[name]}))
    assert one.names == other.names == [name]
    assert repr(one.hooks) == repr(other.hooks)
    assert len(one.hooks) == (name in HOOKS)


def test_what_transformers_fills_in_by_default_asks_for_top_50_and_nothing_else() -> None:
    filled = GenerationConfig(**GenerationConfig._get_default_generation_params())
    assert set(asked_for(filled, inside=True)) <= {"top_k", "do_sample", "num_return_sequences", *INSIDE}


def test_the_table_of_the_docs_is_made_of_these_tables() -> None:
    page = Path(__file__).parents[1] / "docs" / "transformers.md"
    assert table() in page.read_text(encoding="utf-8"), table()


# -- the laws


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("generated", [0, 1, 4])
def test_a_law_is_that_of_transformers_own_processors(name: str, generated: int) -> None:
    _assert_same_law({name: ASKS[name]}, generated)


def test_all_fields_together_are_applied_in_the_order_of_transformers() -> None:
    fields = {name: ASKS[name] for name in LAWS} | {"top_k": 200, "top_p": 0.99, "min_p": 0.001, "typical_p": 0.98}
    for generated in (0, 2, 5):
        _assert_same_law(fields, generated)


def _assert_same_law(fields: dict[str, Any], generated: int) -> None:
    model = tiny_model("llama")
    prompt, text = model.encode("the cat sat on the mat"), [9, 10, 9, 10][:generated]
    told = arguments_of(fields, model.vocabulary, model.tokenizer)
    steered = Steered(model, Stack(told.hooks, any_order=True))
    logits, state = steered.prefill([prompt])
    raw, plain = model.prefill([prompt])
    if text:
        logits, _ = steered.extend(state, [text])
        raw, _ = model.extend(plain, [text])
    expected = by_transformers(fields, prompt + text, len(prompt), raw)
    assert_allclose(laws_of(logits), laws_of(expected), atol=1e-4)


# -- in generate


def test_greedy_texts_under_a_config_are_those_of_transformers(lm: genctl.Model) -> None:
    model = lm.language_model
    config = GenerationConfig(
        do_sample=False, max_new_tokens=12, repetition_penalty=1.5, no_repeat_ngram_size=2, min_new_tokens=12,
        suppress_tokens=[*range(300, 304), 7], pad_token_id=2, eos_token_id=1,
    )  # fmt: skip
    prompt = model.encode("the dog sat on")
    expected = model.model.generate(batch(prompt), generation_config=config)[0, len(prompt) :].tolist()
    assert list(lm.generate("the dog sat on", generation_config=config).tokens) == expected


def test_filters_of_sampling_do_not_act_on_greedy_texts(lm: genctl.Model) -> None:
    plain = lm.generate("the", do_sample=False, max_new_tokens=6)
    fields = {"do_sample": False, "max_new_tokens": 6, "temperature": 0.1, "top_k": 1, "top_h": 0.1}
    assert lm.generate("the", generation_config=fields).tokens == plain.tokens


def test_fields_that_are_arguments_are_those_arguments(lm: genctl.Model) -> None:
    fields = {"max_new_tokens": 9, "num_return_sequences": 3, "temperature": 0.5}
    config = GenerationConfig(**fields, do_sample=True, top_k=60)
    found = lm.generate("the", seed=4, generation_config=config)
    expected = lm.generate("the", seed=4, **fields, top_k=60)
    assert [g.tokens for g in found] == [g.tokens for g in expected]
    assert [g.logprob for g in found] == pytest.approx([g.logprob for g in expected])


@pytest.mark.parametrize("others", [{}, {"steering": [lambda z: z / 2]}])
def test_arguments_and_fields_together_stand_in_the_order_of_transformers(lm: genctl.Model, others: Any) -> None:
    """Heat before the filter, whichever is the argument: else other tokens are left."""
    both = {"temperature": 2.5, "top_p": 0.5, "min_p": 0.004}
    expected = lm.generate("the", seed=4, max_new_tokens=9, **both, **others)
    for name in both:
        fields = {other: value for other, value in both.items() if other != name}
        found = lm.generate("the", seed=4, max_new_tokens=9, generation_config=fields, **{name: both[name]}, **others)
        assert found.tokens == expected.tokens
        assert found.logprob == pytest.approx(expected.logprob)
    with pytest.raises(ArgumentError, match="top_p is given twice"):
        lm.generate("the", generation_config={"top_p": 0.5}, top_p=0.9)


def test_the_argument_do_sample_false_leaves_the_filters_of_a_config_out_too(lm: genctl.Model) -> None:
    rule = genctl.regex("[q-z]{3}")
    plain = lm.generate("the", rule, do_sample=False, max_new_tokens=6)
    found = lm.generate("the", rule, do_sample=False, max_new_tokens=6, generation_config={"top_k": 1, "top_h": 0.1})
    assert (found.tokens, found.logprob) == (plain.tokens, plain.logprob)


def test_a_filter_that_is_an_argument_holds_whatever_else_a_config_says(lm: genctl.Model) -> None:
    rule = genctl.regex("[q-z]{3}")
    for config in (None, {"max_new_tokens": 6}, {"do_sample": False}):
        sample = {} if config == {"do_sample": False} else {"do_sample": False}
        with pytest.raises(DeadEndError):
            lm.generate("the", rule, top_k=1, generation_config=config, **sample)


def test_a_config_goes_with_steering_under_every_binding(lm: genctl.Model) -> None:
    rule, bias = genctl.regex("[a-z ]{2,9}"), np.zeros(304, np.float32)
    bias[[70, 80, 90]] = 2.0

    def hook(logits: Any) -> Any:
        return logits + (torch.tensor(bias) if isinstance(logits, torch.Tensor) else bias)

    options: dict[str, Any] = {"seed": 4, "num_particles": 4, "max_new_tokens": 8, "steering": [hook]}
    for binding in ("target", "tilt", "proposal"):
        found = lm.generate("the", rule, binding=binding, generation_config={"temperature": 0.7}, **options)
        expected = lm.generate("the", rule, binding=binding, temperature=0.7, **options)
        assert found.text == expected.text
        assert found.log_evidence == pytest.approx(expected.log_evidence)
    with pytest.raises(ArgumentError, match="needs binding="):
        lm.generate("the", rule, generation_config={"temperature": 0.7}, **options)


def test_exactly_the_given_ids_end_a_text(lm: genctl.Model) -> None:
    assert lm.language_model.vocabulary.eos == {1}
    forbidden = [i for i in range(304) if i not in (1, 2)]
    for eos, last in ((1, 1), (2, 2), ([1, 2], None)):
        config = {"eos_token_id": eos, "suppress_tokens": forbidden, "max_new_tokens": 4}
        g = lm.generate("the", generation_config=config, seed=0)
        assert last not in g.tokens
        assert (g.finish_reason == "complete") or last is not None
    rule = genctl.regex("ab")
    assert lm.generate("the", rule, generation_config={"eos_token_id": 2}, seed=0).text == "ab"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"eos_token_id": 70}, "eos_token_id is 70.*is the text"),
        ({"eos_token_id": [1, 999]}, "outside the vocabulary"),
        ({"bos_token_id": 7}, "bos_token_id is 7.*own, 0"),
        ({"temprature": 0.5}, "temprature.*\nhint: did you mean temperature"),
        ({"zzz": 1}, "zzz.*does not know"),
        ({"top_p": 3.0}, "top_p is 3.0"),
        ({"typical_p": 3.0}, "typical_p"),
        ({"no_repeat_ngram_size": -2}, "no_repeat_ngram_size"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"suppress_tokens": [5, 999]}, "token 999 is outside the vocabulary of 304"),
        (7, "expected a transformers.GenerationConfig"),
        ({5: 1}, "the field 5, but fields have names"),
        *(({"eos_token_id": ids}, "eos_token_id is .*token id") for ids in ("x", {}, [1.9], True, [[1]], object())),
        ({"eos_token_id": []}, "eos_token_id is .*some id has to end a text"),
        *(({"suppress_tokens": ids}, "suppress_tokens is .*token id") for ids in (["a"], "12", {1: 2}, [True], [None])),
        ({"begin_suppress_tokens": [1.9]}, "begin_suppress_tokens is .*token id"),
        ({"begin_suppress_tokens": [-1]}, "begin_suppress_tokens is .*token -1 is outside"),
        *(({"min_new_tokens": n}, "min_new_tokens is .*at least 0") for n in ("x", -3, 1.5, True, [2])),
        *(({"do_sample": given}, "do_sample is .*True or False") for given in ("yes", 1, [], torch.ones(2))),
        ({"sequence_bias": {(999,): 1.0}}, "sequence_bias is .*token 999 is outside"),
        ({"sequence_bias": {(9,): math.nan}}, "sequence_bias is .*must be a number"),
        ({"sequence_bias": [[]]}, "sequence_bias"),
        ({"bad_words_ids": [[999]]}, "bad_words_ids is .*token 999 is outside"),
        ({"bad_words_ids": [[]]}, "bad_words_ids is .*empty sequence"),
        ({"epsilon_cutoff": math.nan}, "epsilon_cutoff is nan"),
        ({"top_h": torch.ones(2)}, "top_h"),
        ({"pad_token_id": "x"}, "pad_token_id"),
        ({"bos_token_id": np.array([1, 2])}, "bos_token_id"),
        ({"max_time": ""}, "max_time"),
    ],
)
def test_values_that_mean_nothing_are_refused_with_their_field(lm: genctl.Model, config: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=f"(?s){message}"):
        lm.generate("the", generation_config=config)


def test_ids_may_be_numbers_of_numpy_and_torch(lm: genctl.Model) -> None:
    for ids in (np.int64(2), np.array([2]), torch.tensor([2]), (2,), {2}):
        told = arguments_of({"eos_token_id": ids, "suppress_tokens": ids}, lm.language_model.vocabulary)
        assert told.eos == {2}
        assert told.hooks[0] == Forbidden((2,))


def test_what_is_said_twice_is_refused(lm: genctl.Model) -> None:
    for name, value in {"max_new_tokens": 7, "temperature": 0.4, "do_sample": False}.items():
        with pytest.raises(ArgumentError, match=f"{name} is given twice"):
            lm.generate("the", generation_config={name: ASKS[name]}, **{name: value})


def test_the_toy_model_and_views_take_a_config_too(lm: genctl.Model) -> None:
    for one in (genctl.load("toy"), lm.bytes()):
        rule = genctl.regex("[a-z]{3}")
        found = one.generate("the ", rule, seed=1, generation_config={"temperature": 0.5, "max_new_tokens": 5})
        assert found.text == one.generate("the ", rule, seed=1, temperature=0.5, max_new_tokens=5).text


def test_a_run_under_a_config_goes_on_under_the_same_config_only(lm: genctl.Model) -> None:
    config = {"repetition_penalty": 1.3, "max_new_tokens": 8}
    cut = lm.generate("the", seed=0, max_time=0.0, generation_config=config)
    whole = lm.generate("the", seed=0, generation_config=config)
    resumed = lm.generate("the", resume=cut.checkpoint, generation_config=config)
    assert resumed.tokens == whole.tokens
    with pytest.raises(ArgumentError, match="another options"):
        lm.generate("the", resume=cut.checkpoint, generation_config=config | {"repetition_penalty": 1.4})
