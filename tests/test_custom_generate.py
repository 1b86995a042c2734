"""genctl's loop inside `model.generate` of transformers."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

import genctl
from genctl.errors import ArgumentError
from genctl.models.transformers import TransformersModel
from tests.test_generation_config import ASKS, LAWS
from tests.tiny_models import tiny_causal_lm, tiny_model, tiny_tokenizer

WORDS = genctl.regex("[a-z ]{2,9}")
PROMPTS = ["the", "an old oak tree", "the dog sat on the mat and", "a"]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_tokenizer(padding_side="left")


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_model("llama").model


def generated(model: Any, tokenizer: Any, loop: Any, prompts: Any = PROMPTS, **options: Any) -> Any:
    inputs = tokenizer(list(prompts), return_tensors="pt", padding=True, return_token_type_ids=False)
    options = {"do_sample": True, "max_new_tokens": 12, "top_k": 0, "pad_token_id": 2} | options
    return model.generate(**inputs, custom_generate=loop, **options), inputs["input_ids"].shape[1]


def texts(model: Any, tokenizer: Any, loop: Any, prompts: Any = PROMPTS, **options: Any) -> list[str]:
    ids, length = generated(model, tokenizer, loop, prompts, **options)
    return tokenizer.batch_decode(ids[:, length:], skip_special_tokens=True, clean_up_tokenization_spaces=False)


def test_texts_are_those_of_genctl_s_generate_row_by_row(model: Any, tokenizer: Any) -> None:
    lm = genctl.Model(TransformersModel(model, tokenizer))
    expected = lm.generate(PROMPTS, WORDS, num_particles=4, max_new_tokens=12, seed=3)
    loop = genctl.custom_generate(WORDS, tokenizer, num_particles=4, seed=3)
    assert texts(model, tokenizer, loop) == [g.text for g in expected]
    out, length = generated(model, tokenizer, loop, return_dict_in_generate=True)
    assert out.finish_reasons == [g.finish_reason for g in expected]
    for name in ("log_weights", "logprobs", "log_evidence"):
        told = [getattr(g, name.removesuffix("s") if name != "log_evidence" else name) for g in expected]
        assert getattr(out, name).tolist() == pytest.approx(told, abs=1e-5)
    for row, g in zip(out.sequences[:, length:].tolist(), expected, strict=True):
        assert row == [*g.tokens, 1, *[2] * 12][: len(row)]


def test_several_sequences_and_a_rule_for_each_prompt(model: Any, tokenizer: Any) -> None:
    loop = genctl.custom_generate([genctl.regex("[a-c]{3}"), bool], tokenizer, num_particles=2)
    found = texts(model, tokenizer, loop, ["one", "two"], num_return_sequences=3)
    assert all(len(text) == 3 and set(text) <= set("abc") for text in found[:3])
    assert all(isinstance(json.loads(text), bool) for text in found[3:])
    with pytest.raises(ArgumentError, match="2 rules for 3 rows"):
        texts(model, tokenizer, loop, ["one", "two", "three"])


def test_one_loop_serves_many_calls_and_models(tokenizer: Any, model: Any) -> None:
    loop = genctl.custom_generate(WORDS, tokenizer)
    for inner in (model, tiny_causal_lm("gpt2"), model):
        assert all(WORDS.accepts(text) for text in texts(inner, tokenizer, loop))


def test_torch_s_seed_holds(model: Any, tokenizer: Any) -> None:
    loop = genctl.custom_generate(WORDS, tokenizer, num_particles=2)
    runs = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        runs.append(texts(model, tokenizer, loop))
    assert runs[0] == runs[1] != runs[2]


def test_greedy_texts_without_a_rule_are_those_of_transformers(model: Any, tokenizer: Any) -> None:
    options = {
        "do_sample": False,
        "repetition_penalty": 1.4,
        "min_new_tokens": 5,
        "suppress_tokens": [300, 301, 302, 303],
    }
    loop = genctl.custom_generate(None, tokenizer)
    inputs = tokenizer(PROMPTS, return_tensors="pt", padding=True, return_token_type_ids=False)
    plain = model.generate(**inputs, max_new_tokens=12, pad_token_id=2, **options)
    assert generated(model, tokenizer, loop, **options)[0].tolist() == plain.tolist()


def test_a_length_in_all_counts_the_padded_prompt_as_transformers_does(model: Any, tokenizer: Any) -> None:
    loop = genctl.custom_generate(None, tokenizer)
    ids, length = generated(model, tokenizer, loop, max_new_tokens=None, max_length=15, min_length=15)
    assert ids.shape == (len(PROMPTS), 15)
    assert (ids[:, length:] != 1).all()


@pytest.mark.parametrize("name", LAWS)
def test_what_shapes_the_law_is_heard_and_draws_the_texts_of_generate(model: Any, tokenizer: Any, name: str) -> None:
    lm = genctl.Model(TransformersModel(model, tokenizer))
    loop = genctl.custom_generate(None, tokenizer, seed=3)
    fields = {"max_new_tokens": 9, "min_new_tokens": 9, name: ASKS[name]}
    found, _ = generated(model, tokenizer, loop, return_dict_in_generate=True, **fields)
    expected = lm.generate(PROMPTS, seed=3, generation_config=fields)
    assert found.logprobs.tolist() == pytest.approx([g.logprob for g in expected], abs=1e-4)
    plain = lm.generate(PROMPTS, seed=3, generation_config={"max_new_tokens": 9, "eos_token_id": 2})
    assert found.logprobs.tolist() != pytest.approx([g.logprob for g in plain], abs=1e-4)


def test_a_processor_of_the_user_is_a_hook(model: Any, tokenizer: Any) -> None:
    loop = genctl.custom_generate(genctl.regex("[a-z]{3}"), tokenizer)
    only = [i for i in range(304) if tiny_model("llama").vocabulary.tokens[i] not in (b"q", b"")]
    processors = LogitsProcessorList([transformers.SuppressTokensLogitsProcessor(only)])
    assert texts(model, tokenizer, loop, ["x"], logits_processor=processors) == ["qqq"]


def test_edits_hold_inside(model: Any, tokenizer: Any) -> None:
    loop = genctl.custom_generate(WORDS, tokenizer, num_particles=4, seed=1)
    lm = genctl.Model(TransformersModel(model, tokenizer))
    edits = [genctl.AddVector(0, np.ones(32)), genctl.FirstTokenScale(4.0)]
    with lm.edit(*edits):
        found, _ = generated(model, tokenizer, loop, return_dict_in_generate=True)
        expected = lm.generate(PROMPTS, WORDS, num_particles=4, max_new_tokens=12, seed=1)
    assert found.log_evidence.tolist() == pytest.approx([g.log_evidence for g in expected], abs=1e-5)


# -- refusals


class Streamer:
    def put(self, _ids: Any) -> None: ...
    def end(self) -> None: ...


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 2}, "num_beams is 2.*num_particles="),
        ({"output_scores": True, "return_dict_in_generate": True}, "output_scores"),
        ({"use_cache": False}, "use_cache"),
        ({"stopping_criteria": StoppingCriteriaList([lambda ids, scores: ids[:, 0] > 0])}, "cannot stop by function"),
        ({"logits_processor": LogitsProcessorList([transformers.InfNanRemoveLogitsProcessor()])}, "InfNanRemove"),
        ({"prefix_allowed_tokens_fn": lambda batch, ids: [5]}, "PrefixConstrained"),
        ({"streamer": Streamer()}, "streamer"),
        ({"exponential_decay_length_penalty": (2, 1.5)}, "exponential_decay_length_penalty"),
        ({"forced_eos_token_id": 1}, "forced_eos_token_id"),
        ({"guidance_scale": 2.0}, "guidance_scale"),
        ({"eos_token_id": 70}, "eos_token_id"),
        ({"do_sample": False}, "do_sample=False .* num_particles"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(model: Any, tokenizer: Any, options: Any, message: str) -> None:
    loop = genctl.custom_generate(WORDS, tokenizer, num_particles=2)
    with pytest.raises(ArgumentError, match=f"(?s){message}"):
        generated(model, tokenizer, loop, ["the"], **options)


def test_an_assistant_is_refused(model: Any, tokenizer: Any) -> None:
    with pytest.raises(ArgumentError, match="assistant_model"):
        generated(
            model, tokenizer, genctl.custom_generate(WORDS, tokenizer), ["the"], assistant_model=tiny_causal_lm("llama")
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda inputs: inputs["attention_mask"].__setitem__((2, -2), 0), "within a prompt"),
        (lambda inputs: inputs.update(position_ids=torch.zeros_like(inputs["input_ids"])), "position_ids"),
        (lambda inputs: inputs.update(past_key_values=_cache()), "past_key_values must be empty"),
    ],
)
def test_inputs_that_would_be_read_otherwise_are_refused(model: Any, tokenizer: Any, change: Any, message: str) -> None:
    inputs = tokenizer(PROMPTS, return_tensors="pt", padding=True, return_token_type_ids=False)
    change(inputs)
    loop = genctl.custom_generate(WORDS, tokenizer)
    with pytest.raises(ArgumentError, match=message):
        loop(model, **inputs, generation_config=GenerationConfig(max_length=20), stopping_criteria=[_length(20)])


def _cache() -> Any:
    cache = transformers.DynamicCache()
    cache.update(torch.zeros(1, 2, 3, 8), torch.zeros(1, 2, 3, 8), 0)
    return cache


def _length(most: int) -> Any:
    return transformers.MaxLengthCriteria(most)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steering": "TopK"}, "a list of hooks"),
        ({"steering": [3]}, "is no hook"),
        ({"binding": "twist"}, "binding is 'twist'"),
        ({"num_particles": 0}, "num_particles is 0"),
        ({"method": "awsr"}, "did you mean 'awrs'"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_options_that_mean_nothing_are_refused_where_the_loop_is_made(
    tokenizer: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ArgumentError, match=message):
        genctl.custom_generate(WORDS, tokenizer, **options)
    with pytest.raises(ArgumentError, match="a rule for each prompt, or one for all"):
        genctl.custom_generate([], tokenizer)


@pytest.mark.parametrize(
    "name",
    ["max_new_tokens", "temperature", "top_p", "generation_config", "resume", "particles", "select", "exact_boundary"],
)
def test_what_model_generate_says_is_refused_where_the_loop_is_made(tokenizer: Any, name: str) -> None:
    with pytest.raises(ArgumentError, match=f"no argument '{name}'"):
        genctl.custom_generate(WORDS, tokenizer, **{name: 1})


@pytest.mark.parametrize("constraint", ["[a-z]", [None, "[a-z]"]])
def test_a_rule_that_is_none_is_refused_when_the_loop_is_made(tokenizer: Any, constraint: Any) -> None:
    with pytest.raises(genctl.ConstraintError):
        genctl.custom_generate(constraint, tokenizer)
