"""Random models of a few thousand weights with a tokenizer trained on the spot: every part real, nothing downloaded.

They are put on the device that GENCTL_TEST_DEVICE names ("cuda"), by default the CPU.
"""

from __future__ import annotations

import json
import os
from functools import cache
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from genctl.models.transformers import TransformersModel
from genctl.vocabulary import SPACE

DEVICE = os.environ.get("GENCTL_TEST_DEVICE", "cpu")
WIDTH = 304  # of the logits: a few more than the tokenizer has ids
TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'robot' %}{{ raise_exception('no robots') }}{% endif %}"
    "<s>{{ m.role }}: {{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}<s>assistant: {% endif %}"
)
CORPUS = "the cat sat on the mat and the dog sat on the log, then all sat on every mat and under an old oak tree by day"
SIZES = {
    "vocab_size": WIDTH,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "initializer_range": 0.5,  # far from uniform, so that a wrong position or mask shows
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
SLIDING = ["sliding_attention", "full_attention", "sliding_attention"]
GPT2 = {"vocab_size": WIDTH, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "initializer_range": 0.5}

GEMMA3 = SIZES | {"sliding_window": 5, "layer_types": SLIDING, "query_pre_attn_scalar": 8}
SHARED = SIZES | {
    "num_hidden_layers": 4,
    "num_kv_shared_layers": 2,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "sliding_window": 5,
    "vocab_size_per_layer_input": WIDTH,
    "hidden_size_per_layer_input": 8,
    "laurel_rank": 4,
    "activation_sparsity_pattern": [0.0] * 4,
}

# name: (class of the config, its arguments). Full attention, learned positions, a window everywhere, windows by turns,
# and layers that use the keys and values of others.
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", SIZES),
    "gpt2": ("GPT2Config", GPT2 | {"bos_token_id": 0, "eos_token_id": 1}),
    "mistral": ("MistralConfig", SIZES | {"sliding_window": 5}),
    "gemma3": ("Gemma3TextConfig", GEMMA3),
    "gemma3n": ("Gemma3nTextConfig", SHARED),
}


@cache
def tiny_backend(without: str = "") -> Tokenizer:
    """Byte-level BPE: <s> 0, </s> 1, <pad> 2, all bytes but those `without` spells, and merges up to 300 ids."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=sorted(set(pre_tokenizers.ByteLevel.alphabet()) - set(without)),
        special_tokens=["<s>", "</s>", "<pad>"],
        show_progress=False,
    )
    backend.train_from_iterator([CORPUS] * 9, trainer)
    return backend


def tiny_tokenizer(without: str = "", **options: Any) -> PreTrainedTokenizerFast:
    backend = Tokenizer.from_str(tiny_backend(without).to_str())
    options = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "chat_template": TEMPLATE} | options
    return PreTrainedTokenizerFast(tokenizer_object=backend, **options)


@cache
def tiny_fallback_tokenizer(scheme: str = "first") -> PreTrainedTokenizerFast:
    """BPE of characters: the special tokens, letters and merges up to 44 ids, and pieces for all bytes.

    scheme: how a blank is put before a text: as Metaspace names it, or "normalizer", which does so always.
    """
    backend = Tokenizer(models.BPE(byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    special = ["<s>", "</s>", "<pad>"]
    trainer = trainers.BpeTrainer(vocab_size=44, special_tokens=special, show_progress=False)
    backend.train_from_iterator([CORPUS] * 9, trainer)
    spec = json.loads(backend.to_str())
    spec["model"]["vocab"] |= {f"<0x{byte:02X}>": 44 + byte for byte in range(256)}
    backend = Tokenizer.from_str(json.dumps(spec))
    if scheme == "normalizer":
        backend.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
        backend.pre_tokenizer = None
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    backend.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


def tiny_causal_lm(name: str, **changes: Any) -> Any:
    kind, arguments = CONFIGS[name]
    torch.manual_seed(0)
    config = getattr(transformers, kind)(**(arguments | changes))
    return transformers.AutoModelForCausalLM.from_config(config).to(DEVICE)


def batch(*rows: list[int]) -> torch.Tensor:
    """(N, T) token ids where the models are."""
    return torch.tensor(rows, device=DEVICE)


@cache
def tiny_model(name: str) -> TransformersModel:
    return TransformersModel(tiny_causal_lm(name), tiny_tokenizer())
