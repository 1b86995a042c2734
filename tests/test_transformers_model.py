"""The transformers backend: prompts, refusals, files. The laws of a model are in laws/test_model.py."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.testing import assert_allclose

import genctl
from genctl.errors import ArgumentError, ModelError, VocabularyError
from genctl.models.base import host_logits
from genctl.models.transformers import TransformersModel, load_transformers
from tests.tiny_models import CONFIGS, SIZES, WIDTH, batch, tiny_backend, tiny_causal_lm, tiny_model, tiny_tokenizer

MESSAGES = [{"role": "user", "content": "the cat"}]


@pytest.fixture(scope="module")
def model() -> TransformersModel:
    return tiny_model("llama")


@pytest.fixture(scope="module")
def folder(model: TransformersModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved")
    model.model.save_pretrained(path)
    model.tokenizer.save_pretrained(path)
    return path


# -- against transformers itself


@pytest.mark.parametrize("name", CONFIGS)
def test_greedy_steps_are_those_of_transformers_generate(name: str) -> None:
    model = tiny_model(name)
    prompt = model.encode("the dog sat on the mat and")
    inner = model.model
    forbidden = sorted(model.vocabulary.unused)
    expected = inner.generate(
        batch(prompt), max_new_tokens=12, min_new_tokens=12, do_sample=False, suppress_tokens=[*forbidden, 1]
    )
    logits, state = model.prefill([prompt])
    for token in expected[0, len(prompt) :].tolist():
        row = host_logits(logits)[0].copy()
        row[1] = -np.inf
        assert int(row.argmax()) == token
        logits, state = model.extend(state, np.array([token]))


def test_logits_are_those_of_a_forward_pass_without_a_cache(model: TransformersModel) -> None:
    ids = model.encode("the cat sat")
    with torch.no_grad():
        expected = model.model(batch(ids)).logits[0, -1].cpu().numpy()
    used = [i for i in range(WIDTH) if i not in model.vocabulary.unused]
    assert_allclose(host_logits(model.prefill([ids])[0])[0, used], expected[used], atol=1e-5)


@pytest.mark.parametrize("tied", [True, False])
def test_a_loaded_model_has_the_weights_of_its_folder_and_can_be_saved_again(tied: bool, tmp_path: Path) -> None:
    inner = tiny_causal_lm("llama", tie_word_embeddings=tied)
    TransformersModel(inner, tiny_tokenizer())
    inner.save_pretrained(tmp_path / "first")
    for source, target in (("first", "second"), ("second", "third")):
        loaded = load_transformers(tmp_path / source, tokenizer=tiny_tokenizer())
        assert loaded.model.model.layers[0].mlp.up_proj.weight.stride()[0] == 1  # laid out for steps of few rows
        for name, weight in inner.state_dict().items():
            torch.testing.assert_close(loaded.model.state_dict()[name], weight, rtol=0, atol=0)
        ids = loaded.encode("the cat sat")
        with torch.no_grad():
            expected = inner.eval()(batch(ids)).logits[0, -1].numpy()
        used = [i for i in range(WIDTH) if i not in loaded.vocabulary.unused]
        assert_allclose(
            host_logits(loaded.prefill([ids])[0])[0, used], expected[used], atol=1e-4
        )  # sums go another way
        loaded.model.save_pretrained(tmp_path / target)


def test_the_model_is_put_into_evaluation_mode() -> None:
    inner = tiny_causal_lm("llama", attention_dropout=0.5).train()
    assert not TransformersModel(inner, tiny_tokenizer()).model.training


def test_logits_may_be_changed_in_place(model: TransformersModel) -> None:
    logits, _ = model.prefill([model.encode("the")])
    logits[0, 5] += 1.0
    logits.mul_(2.0)


def test_an_extended_state_still_gives_what_it_gave_before(model: TransformersModel) -> None:
    _, state = model.prefill([model.encode("the cat")])
    first, _ = model.extend(state, np.array([10]))
    model.extend(state, [[11, 12, 13]])
    again, _ = model.extend(state, np.array([10]))
    assert_allclose(host_logits(first), host_logits(again), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_logits_have_the_dtype_of_the_model(dtype: torch.dtype) -> None:
    model = TransformersModel(tiny_causal_lm("llama").to(dtype), tiny_tokenizer())
    logits, _ = model.prefill([model.encode("the cat"), model.encode("a")])
    assert logits.dtype == dtype
    assert host_logits(logits).dtype == np.float32


# -- prompts


def test_messages_get_the_chat_template_and_the_mark_that_opens_the_answer(model: TransformersModel) -> None:
    ids = model.encode(MESSAGES)
    assert model.tokenizer.decode(ids) == "<s>user: the cat</s><s>assistant: "


def test_an_empty_prompt_begins_with_the_begin_of_text_token(model: TransformersModel) -> None:
    assert model.encode("") == [0]


def test_an_empty_prompt_begins_with_the_end_of_text_token_if_there_is_no_other() -> None:
    assert TransformersModel(tiny_causal_lm("llama"), tiny_tokenizer(bos_token=None)).encode("") == [1]


def test_an_empty_prompt_is_refused_if_nothing_can_begin_it() -> None:
    model = TransformersModel(tiny_causal_lm("llama"), tiny_tokenizer(bos_token=None, eos_token=None))
    with pytest.raises(ArgumentError, match="the prompt is empty"):
        model.encode("")


def test_bytes_that_are_no_utf8_are_refused_with_the_place(model: TransformersModel) -> None:
    with pytest.raises(ArgumentError, match="0xff at byte 3"):
        model.encode(b"the\xff")


@pytest.mark.parametrize(
    "messages",
    [[], [{"role": "user"}], [{"content": "x"}], ["x"], [{"role": "user", "content": 3}], 7, {"role": "user"}],
)
def test_malformed_messages_are_refused(model: TransformersModel, messages: Any) -> None:
    with pytest.raises(ArgumentError, match=r"message|prompt"):
        model.encode(messages)


def test_what_the_chat_template_refuses_is_refused_with_its_reason(model: TransformersModel) -> None:
    with pytest.raises(ArgumentError, match="no robots"):
        model.encode([{"role": "robot", "content": "x"}])


def test_messages_are_refused_without_a_chat_template() -> None:
    model = TransformersModel(tiny_causal_lm("llama"), tiny_tokenizer(chat_template=None))
    with pytest.raises(ModelError, match=r"hint: .*chat_template"):
        model.encode(MESSAGES)


def test_a_character_that_has_no_token_is_refused_in_a_prompt() -> None:
    without_f1 = tiny_tokenizer(without="ñ")  # byte-level BPE spells the byte 0xF1 so; SmolLM2 lacks it too
    model = TransformersModel(tiny_causal_lm("llama"), without_f1)
    assert model.vocabulary.join(model.encode("añ 🙂")) == "añ 🙂".encode()
    for prompt in ("a \U00040000", b"\xf1\x80\x80\x80", [{"role": "user", "content": "\U00040000"}]):
        with pytest.raises(ArgumentError, match=r"U\+40000"):
            model.encode(prompt)


@pytest.mark.parametrize("prompt", ["ab\ud83d", [{"role": "user", "content": "ab\ud83d"}]])
def test_half_a_surrogate_pair_is_refused_with_the_place(model: TransformersModel, prompt: Any) -> None:
    with pytest.raises(ArgumentError, match=r"U\+D83D at character 2"):
        model.encode(prompt)


# -- refusals of rows


def test_an_empty_row_is_refused(model: TransformersModel) -> None:
    with pytest.raises(ArgumentError, match="row 1 has no tokens"):
        model.prefill([[5], []])


def test_an_id_outside_the_vocabulary_is_refused_with_both_numbers(model: TransformersModel) -> None:
    with pytest.raises(ArgumentError, match=f"{WIDTH}.*{WIDTH} ids"):
        model.prefill([[WIDTH]])


def test_rows_that_are_not_as_many_as_the_state_has_are_refused(model: TransformersModel) -> None:
    _, state = model.prefill([[5], [6]])
    with pytest.raises(ArgumentError, match=r"3 rows .* 2 rows"):
        model.extend(state, np.array([5, 5, 5]))


@pytest.mark.parametrize("rows", [[2], [-1], [[0]]])
def test_rows_that_do_not_exist_cannot_be_selected(model: TransformersModel, rows: Any) -> None:
    _, state = model.prefill([[5], [6]])
    with pytest.raises(ArgumentError, match="2 rows"):
        model.select(state, np.array(rows))


def test_a_text_longer_than_the_context_is_refused_with_both_numbers(model: TransformersModel) -> None:
    with pytest.raises(ArgumentError, match=r"65 tokens .* 64"):
        model.prefill([[5] * 65])
    _, state = model.prefill([[5] * 64, [5]])
    with pytest.raises(ArgumentError, match=r"65 tokens .* 64"):
        model.extend(state, np.array([5, 5]))


# -- refusals of models and tokenizers


def test_the_vocabulary_has_the_width_of_the_logits_and_all_stated_ends() -> None:
    inner = tiny_causal_lm("llama")
    inner.generation_config.eos_token_id = [1, 2]
    vocabulary = TransformersModel(inner, tiny_tokenizer()).vocabulary
    assert len(vocabulary) == WIDTH
    assert vocabulary.eos == {1, 2}
    assert vocabulary.unused == set(range(300, WIDTH))


def test_a_tokenizer_with_more_ids_than_logits_is_refused_with_both_numbers() -> None:
    with pytest.raises(VocabularyError, match=r"ids up to 299.*logits for 280"):
        TransformersModel(tiny_causal_lm("llama", vocab_size=280), tiny_tokenizer())


def test_a_tokenizer_with_far_fewer_ids_than_logits_is_refused_with_both_numbers() -> None:
    with pytest.raises(VocabularyError, match="has 300 ids, the model logits for 1000"):
        TransformersModel(tiny_causal_lm("llama", vocab_size=1000), tiny_tokenizer())


@pytest.mark.parametrize("name", ["bos_token_id", "eos_token_id"])
def test_a_control_id_of_the_model_outside_its_logits_is_refused(name: str) -> None:
    inner = tiny_causal_lm("llama")
    setattr(inner.config, name, 5000)
    with pytest.raises(VocabularyError, match=f"{name} 5000.*{WIDTH}"):
        TransformersModel(inner, tiny_tokenizer())


@pytest.mark.parametrize("name", ["bos_token_id", "eos_token_id"])
def test_a_tokenizer_in_which_a_control_id_of_the_model_is_text_is_refused(name: str) -> None:
    inner = tiny_causal_lm("llama")
    setattr(inner.config, name, 70)
    with pytest.raises(VocabularyError, match=f"{name} 70, which is '.+' in this tokenizer"):
        TransformersModel(inner, tiny_tokenizer())


def test_a_control_token_beyond_the_logits_is_left_out_and_refused_in_prompts() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})  # as Gemma 3 has
    model = TransformersModel(tiny_causal_lm("llama", vocab_size=300), tokenizer)
    assert len(model.vocabulary) == 300
    with pytest.raises(ArgumentError, match="300 is outside"):
        model.encode("an <image>")


def test_a_tokenizer_of_another_library_is_refused() -> None:
    with pytest.raises(ArgumentError, match="PreTrainedTokenizerFast"):
        TransformersModel(tiny_causal_lm("llama"), tiny_backend())


def _mamba() -> Any:
    config = transformers.MambaConfig(vocab_size=WIDTH, hidden_size=16, num_hidden_layers=1, state_size=4)
    return transformers.MambaForCausalLM(config)


def _hybrid() -> Any:
    config = transformers.Lfm2Config(**(SIZES | {"layer_types": ["conv", "full_attention", "conv"]}))
    return transformers.Lfm2ForCausalLM(config)


def _encoder_decoder() -> Any:
    config = transformers.T5Config(vocab_size=WIDTH, d_model=16, d_ff=16, num_layers=1, num_heads=2, d_kv=8)
    return transformers.T5ForConditionalGeneration(config)


def _headless() -> Any:
    return transformers.LlamaModel(transformers.LlamaConfig(**SIZES))


@pytest.mark.parametrize("build", [_mamba, _hybrid, _encoder_decoder, _headless])
def test_a_model_whose_cache_has_no_rows_of_slots_is_refused(build: Callable[[], Any]) -> None:
    with pytest.raises(ModelError, match="cannot be used: it"):
        TransformersModel(build(), tiny_tokenizer())


# -- loading


def test_a_saved_folder_loads_and_gives_the_same_logits(model: TransformersModel, folder: Path) -> None:
    loaded = load_transformers(folder)
    ids = loaded.encode("the cat")
    assert ids == model.encode("the cat")
    assert_allclose(host_logits(loaded.prefill([ids])[0]), host_logits(model.prefill([ids])[0]), atol=5e-5)
    assert loaded.encode(MESSAGES) == model.encode(MESSAGES)


def test_options_of_load_that_would_have_no_effect_are_refused() -> None:
    toy = genctl.load("toy").language_model
    for source, options in (("toy", {"packed": True}), (toy, {"dtype": "float64"}), (toy, {"tokenizer": "gpt2"})):
        with pytest.raises(ArgumentError, match="would have no effect"):
            genctl.load(source, **options)
    with pytest.raises(ArgumentError, match="the packaged model has its own"):
        genctl.load(tokenizer="gpt2")


def test_loading_prints_nothing(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_transformers(str(folder))
    assert capfd.readouterr() == ("", "")


def test_options_reach_transformers(folder: Path) -> None:
    assert load_transformers(folder, dtype=torch.bfloat16).model.dtype == torch.bfloat16


def test_a_loaded_model_is_taken_with_its_tokenizer() -> None:
    inner, tokenizer = tiny_causal_lm("llama"), tiny_tokenizer()
    assert load_transformers(inner, tokenizer=tokenizer).model is inner


def test_a_loaded_model_without_a_tokenizer_is_refused() -> None:
    with pytest.raises(ArgumentError, match="tokenizer="):
        load_transformers(tiny_causal_lm("llama"))


def test_options_that_would_have_no_effect_are_refused() -> None:
    with pytest.raises(ArgumentError, match="dtype would have no effect"):
        load_transformers(tiny_causal_lm("llama"), tokenizer=tiny_tokenizer(), dtype=torch.bfloat16)


def test_an_unknown_option_is_refused(folder: Path) -> None:
    with pytest.raises(ArgumentError, match="no_such_option"):
        load_transformers(folder, no_such_option=1)


def test_a_gguf_file_inside_a_folder_is_refused_with_a_hint(folder: Path) -> None:
    with pytest.raises(ArgumentError, match=r"hint: .*path of the .gguf"):
        load_transformers(folder, gguf_file="model.gguf")


@pytest.mark.parametrize("source", ["./nowhere", "/no/such/folder", "nowhere/model.gguf", Path("nowhere")])
def test_a_path_that_does_not_exist_is_refused_with_a_hint(source: str | Path) -> None:
    with pytest.raises(ModelError, match=r"there is no file or folder.*\nhint"):
        load_transformers(source)


def test_a_folder_without_a_model_is_refused_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config.json\nhint"):
        load_transformers(tmp_path)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.txt").write_text("no model")
    with pytest.raises(ModelError, match="is no model"):
        load_transformers(tmp_path / "model.txt")
    (tmp_path / "model.gguf").write_text("no model")
    with pytest.raises(ModelError, match="no GGUF file"):
        load_transformers(tmp_path / "model.gguf")


def test_a_hub_id_that_cannot_be_reached_is_refused_with_a_hint() -> None:
    with pytest.raises(ModelError, match="no-such-organisation/no-such-model cannot be loaded"):
        load_transformers("no-such-organisation/no-such-model", local_files_only=True)


def test_a_folder_that_lacks_weights_is_refused_with_their_name(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"no weights for model\.norm\.weight"):
        load_transformers(tmp_path)


def test_something_that_is_no_model_at_all_is_refused() -> None:
    with pytest.raises(ArgumentError, match="hub id"):
        load_transformers(sys)
