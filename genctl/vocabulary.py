"""Vocabularies: token ids and the exact bytes they stand for.

    vocabulary = Vocabulary((b"a", b"b", b"ab", b""), eos=frozenset({3}))
    b"".join(vocabulary.tokens[i] for i in (0, 1)) == vocabulary.tokens[2]
    vocabulary = Vocabulary.from_tokenizer(tokenizer, size=model.config.vocab_size)

Every tokenizer users have is read into this one record by `Vocabulary.from_tokenizer`. It is recognised by its
attributes (`READERS`), so no tokenizer library is imported here, and what was read is tried on `PROBES`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple

from genctl.errors import VocabularyError

SPACE = "\u2581"  # how SentencePiece writes a space

# Texts that a wrong reading gets wrong: spaces, control characters, every length of UTF-8, digits, code.
PROBES = (
    "Hello, world!",
    "  two spaces,  twice",
    " one space and\ta tab",
    "café naïve Å ß",
    '{"name": "Zoë", "sizes": [1, 2.5, true]}',
    "one line\r\nanother\n\n",
    "日本語のテキスト、한국어",
    "🙂 👩\u200d💻",
    "def f(x):\n    return x ** 2  # 10%\n",
    "2026-11-22 1234567890",
)


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """V tokens, V being the width of the model's logits.

    tokens[i]: the exact bytes that id i adds to the text; b"" for control tokens (begin, end, padding, chat marks)
        and for ids that no token has. Two ids may have the same bytes.
    eos: the ids that end a text; never empty.
    unused: ids that no token has (logits padded to a round width); they are never drawn.
    first: ids that only the first draw may give (models/boundary.py): what comes later is spelled without them.
    """

    tokens: tuple[bytes, ...]
    eos: frozenset[int]
    unused: frozenset[int] = field(default=frozenset())
    first: frozenset[int] = field(default=frozenset())

    def __len__(self) -> int:
        return len(self.tokens)

    def join(self, ids: Iterable[int]) -> bytes:
        """The bytes of the tokens, one after the other."""
        return b"".join(self.tokens[i] for i in ids)

    def padded(self, size: int) -> Vocabulary:
        """The same tokens for logits of this width: the ids that are missing become `unused`."""
        more = range(len(self), size)
        return Vocabulary(self.tokens + (b"",) * len(more), self.eos, self.unused | frozenset(more), self.first)

    @classmethod
    def from_tokenizer(cls, tokenizer: Any, size: int | None = None, eos: Iterable[int] | None = None) -> Vocabulary:
        """The vocabulary of a tokenizer of transformers, tokenizers, sentencepiece, tiktoken or mistral-common.

        size: V, the width of the model's logits; by default the tokenizer's own number of ids. Ids below V that the
            tokenizer does not know are `unused`. Control tokens at V and above are left out: no text needs them.
        eos: ids that end a text, besides the tokenizer's own. An id that ends a text adds no bytes to it.

        Raises VocabularyError when the bytes cannot be read exactly, a token with text does not fit into V ids, or no
        id ends a text.
        """
        reading = _read(tokenizer)
        width = 1 + max(reading.tokens) if size is None else size
        _check_width(reading, width)
        _check_bytes(reading)
        ends = _ends(reading, width, frozenset(eos or ()))
        return cls(
            tokens=tuple(b"" if i in ends else reading.tokens.get(i, b"") for i in range(width)),
            eos=ends,
            unused=frozenset(i for i in range(width) if i not in reading.tokens),
        )


class Reading(NamedTuple):
    """What a reader finds in a tokenizer."""

    tokens: dict[int, bytes]  # b"" for control tokens; ids that no token has are absent
    eos: frozenset[int]
    encode: Callable[[str], Sequence[int]]  # without special tokens
    normalize: Callable[[str], str]  # what the tokenizer declares to do to a text before it cuts it
    prefix: bool = False  # whether it declares to put a space before a text


class Reader(NamedTuple):
    """A kind of tokenizer: recognised by having all the attributes (paths with dots), read by a function."""

    kind: str
    attributes: tuple[str, ...]
    read: Callable[[Any], Reading]


def _read(tokenizer: Any) -> Reading:
    for reader in READERS:
        if all(_has(tokenizer, path) for path in reader.attributes):
            return reader.read(tokenizer)
    raise _unreadable(f"{type(tokenizer).__module__}.{type(tokenizer).__qualname__}")


def _has(tokenizer: Any, path: str) -> bool:
    """Has it such an attribute? Tokenizers of one kind raise NotImplementedError for what only others have."""
    try:
        attrgetter(path)(tokenizer)
    except (AttributeError, NotImplementedError):
        return False
    return True


def _unreadable(found: str) -> VocabularyError:
    kinds = ", ".join(reader.kind for reader in READERS)
    return VocabularyError(
        f"the exact bytes of the tokens of {found} cannot be read\n"
        f"hint: supported are {kinds}; of kind byte-level BPE, or SentencePiece-style with byte fallback"
    )


# What is believed only after a look.


def _check_width(reading: Reading, width: int) -> None:
    beyond = sorted(i for i, text in reading.tokens.items() if i >= width and text)
    if beyond:
        raise VocabularyError(
            f"the tokenizer has ids up to {beyond[-1]}, the model has logits for {width} ids only: "
            f"id {beyond[0]} is the text {reading.tokens[beyond[0]]!r}\n"
            "hint: give the tokenizer that the model was trained with"
        )


def _check_bytes(reading: Reading) -> None:
    for text in PROBES:
        joined = b"".join(reading.tokens.get(i, b"") for i in reading.encode(text))
        expected = reading.normalize(text)
        if joined != expected.encode() and not (reading.prefix and joined == f" {expected}".encode()):
            raise VocabularyError(
                f"the tokens of the text {text!r} do not join to it: their bytes are {joined!r}, "
                f"expected {expected.encode()!r}\n"
                "hint: the tokenizer loses or changes characters (no byte fallback?), so no text can be exact with it"
            )


def _ends(reading: Reading, width: int, given: frozenset[int]) -> frozenset[int]:
    ends = reading.eos | given
    if not ends:
        raise VocabularyError(
            "the tokenizer has no end-of-text token\nhint: name the ids that end a text: "
            "Vocabulary.from_tokenizer(tokenizer, eos=[2])"
        )
    for i in sorted(ends):
        if not (0 <= i < width and i in reading.tokens):
            raise VocabularyError(
                f"the end-of-text id {i} is no token: the tokenizer has {len(reading.tokens)} tokens, "
                f"the model logits for {width} ids\nhint: give the tokenizer that belongs to the model"
            )
    return ends


# Hugging Face `tokenizers`: everything is in its JSON, and its decoder says how pieces spell bytes.


def _byte_alphabet() -> dict[str, int]:
    """The character that stands for each byte in byte-level BPE (GPT-2): itself if printable, else from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(hidden)}


BYTE_ALPHABET = _byte_alphabet()


def _byte_level_piece(piece: str) -> bytes:
    """Bytes of a byte-level piece; one with a character outside the alphabet is literal, as the decoder has it."""
    try:
        return bytes([BYTE_ALPHABET[character] for character in piece])
    except KeyError:
        return piece.encode()


def _metaspace_piece(piece: str) -> bytes:
    return piece.replace(SPACE, " ").encode()


_BYTE_PIECE = re.compile("<0x([0-9A-Fa-f]{2})>")


def _byte_fallback_piece(piece: str) -> bytes:
    found = _BYTE_PIECE.fullmatch(piece)
    return bytes.fromhex(found[1]) if found else _metaspace_piece(piece)


def _steps(part: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """The steps of a normalizer, pre-tokenizer or decoder; a sequence is flattened."""
    if part is None:
        return []
    inner = next((part[key] for key in ("normalizers", "pretokenizers", "decoders") if key in part), None)
    return [part] if inner is None else [step for each in inner for step in _steps(each)]


def _turns_space(step: Mapping[str, Any]) -> bool:
    """Whether a decoder step writes U+2581 as a space."""
    if step["type"] == "Metaspace":
        return bool(step["replacement"] == SPACE)
    return (step["type"], step.get("pattern"), step.get("content")) == ("Replace", {"String": SPACE}, " ")


def _is_byte_level(steps: Sequence[Mapping[str, Any]]) -> bool:
    return [step["type"] for step in steps if step["type"] != "Fuse"] == ["ByteLevel"]


def _is_metaspace(steps: Sequence[Mapping[str, Any]]) -> bool:
    rest = {step["type"] for step in steps if not _turns_space(step)}
    return any(map(_turns_space, steps)) and rest <= {"ByteFallback", "Fuse", "Strip"}


def _spelling(spec: Mapping[str, Any]) -> Callable[[str], bytes]:
    """How the pieces of a `tokenizers` JSON spell bytes."""
    model, steps = spec["model"], _steps(spec["decoder"])
    affixes = [model[key] for key in ("continuing_subword_prefix", "end_of_word_suffix") if model.get(key)]
    kind = f"a tokenizer of kind {model['type']}, decoder {[step['type'] for step in steps]}, word marks {affixes}"
    if model["type"] not in ("BPE", "Unigram") or affixes:
        raise _unreadable(kind)
    if _is_byte_level(steps):
        return _byte_level_piece
    if _is_metaspace(steps):
        fallback = model.get("byte_fallback") or "ByteFallback" in (step["type"] for step in steps)
        return _byte_fallback_piece if fallback else _metaspace_piece
    raise _unreadable(kind)


def _adds_space(step: Mapping[str, Any]) -> bool:
    """Whether a pre-tokenizer step puts a space before a text."""
    if step["type"] == "Metaspace":
        return bool(step.get("prepend_scheme", "always") != "never")
    return step["type"] == "ByteLevel" and bool(step["add_prefix_space"])


def _read_backend(backend: Any) -> Reading:
    spec = json.loads(backend.to_str())
    spell = _spelling(spec)
    tokens = {i: spell(piece) for piece, i in backend.get_vocab(with_added_tokens=False).items()}
    if (unknown := backend.token_to_id(spec["model"].get("unk_token") or "")) is not None:
        tokens[unknown] = b""
    for added in spec["added_tokens"]:
        if added["special"]:
            tokens[added["id"]] = b""
        else:  # Gemma lists runs of U+2581 that its model has too: there the model's spelling is the right one
            tokens.setdefault(added["id"], added["content"].encode())

    def normalize(text: str) -> str:
        normal = backend.normalizer.normalize_str(text) if backend.normalizer else text
        return normal if spell is _byte_level_piece else normal.replace(SPACE, " ")

    return Reading(
        tokens,
        eos=frozenset(),
        encode=lambda text: backend.encode(text, add_special_tokens=False).ids,
        normalize=normalize,
        prefix=any(map(_adds_space, _steps(spec["pre_tokenizer"]))),
    )


def _read_fast(tokenizer: Any) -> Reading:
    reading = _read_backend(tokenizer.backend_tokenizer)
    reading.tokens.update(dict.fromkeys(tokenizer.all_special_ids, b""))
    return reading._replace(eos=_own_eos(tokenizer))


def _own_eos(tokenizer: Any) -> frozenset[int]:
    eos = tokenizer.eos_token_id
    return frozenset() if eos is None else frozenset({eos})


# SentencePiece: the processor says what each piece is.


def _read_processor(processor: Any) -> Reading:
    def spell(i: int) -> bytes:
        if processor.is_control(i) or processor.is_unknown(i):
            return b""
        piece = processor.id_to_piece(i)
        return _byte_fallback_piece(piece) if processor.is_byte(i) else _metaspace_piece(piece)

    ids = (i for i in range(processor.get_piece_size()) if not processor.is_unused(i))
    return Reading(
        {i: spell(i) for i in ids},
        eos=frozenset(i for i in (processor.eos_id(),) if i >= 0),
        encode=processor.encode,
        normalize=lambda text: processor.normalize(text).replace(SPACE, " "),  # adds the leading space itself
    )


def _read_slow(tokenizer: Any) -> Reading:
    """A slow tokenizer of transformers: its ids may differ from those of the SentencePiece model inside."""
    processor = tokenizer.sp_model
    inner = _read_processor(processor)
    added = tokenizer.added_tokens_decoder
    tokens: dict[int, bytes] = {}
    for i in range(len(tokenizer)):
        piece = tokenizer.convert_ids_to_tokens(i)
        known = processor.piece_to_id(piece)
        if i in added and added[i].special:
            tokens[i] = b""
        elif processor.id_to_piece(known) == piece and known in inner.tokens:
            tokens[i] = inner.tokens[known]
        elif i in added:
            tokens[i] = piece.encode()
    return Reading(
        tokens,
        eos=_own_eos(tokenizer),
        encode=lambda text: tokenizer.encode(text, add_special_tokens=False),
        normalize=inner.normalize,
    )


# tiktoken and mistral-common: the bytes are stored as they are.


def _read_tiktoken(encoding: Any) -> Reading:
    tokens = {encoding.encode_single_token(text): b"" for text in encoding.special_tokens_set}
    for i in range(encoding.max_token_value + 1):
        try:
            tokens.setdefault(i, encoding.decode_single_token_bytes(i))
        except KeyError:  # a hole
            continue
    has_end = "<|endoftext|>" in encoding.special_tokens_set
    eos = frozenset({encoding.eot_token} if has_end else ())
    return Reading(tokens, eos, encode=encoding.encode_ordinary, normalize=str)


def _read_tekken(tekken: Any) -> Reading:
    tokens = {i: b"" if tekken.is_special(i) else tekken.id_to_byte_piece(i) for i in range(tekken.n_words)}
    return Reading(tokens, frozenset({tekken.eos_id}), _mistral_encode(tekken), normalize=str)


def _mistral_encode(tokenizer: Any) -> Callable[[str], Sequence[int]]:
    return lambda text: tokenizer.encode(text, bos=False, eos=False)


READERS: tuple[Reader, ...] = (
    Reader("tokenizers.Tokenizer", ("to_str", "token_to_id", "normalizer"), _read_backend),
    Reader("fast tokenizers of transformers", ("backend_tokenizer", "all_special_ids"), _read_fast),
    Reader("slow SentencePiece tokenizers of transformers", ("sp_model", "added_tokens_decoder"), _read_slow),
    Reader("sentencepiece.SentencePieceProcessor", ("id_to_piece", "is_byte", "normalize"), _read_processor),
    Reader("tiktoken.Encoding", ("decode_single_token_bytes", "special_tokens_set"), _read_tiktoken),
    Reader("mistral-common's Tekkenizer", ("id_to_byte_piece", "n_words"), _read_tekken),
    Reader("mistral-common's SentencePieceTokenizer", ("_model.is_byte", "n_words"), lambda t: _read(t._model)),
    Reader(
        "mistral-common's MistralTokenizer",
        ("instruct_tokenizer.tokenizer",),
        lambda t: _read(t.instruct_tokenizer.tokenizer),
    ),
    Reader("MistralCommonBackend of transformers", ("tokenizer.instruct_tokenizer",), lambda t: _read(t.tokenizer)),
)
