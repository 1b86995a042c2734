"""What decides over the encodings of a tokenizer, read from the JSON of the library `tokenizers`.

    rules = EncodingRules.of(tokenizer)                            # raises Unsupported
    rules.texts[token]                                             # the bytes that a piece stands for

Two kinds of BPE are known, told apart by the decoder. That of GPT-2 writes each byte as a character. That of
SentencePiece (Llama 2, Mistral, Gemma) merges characters, writes a blank as U+2581, often puts one before the text, and
spells a character without a piece by pieces for its bytes, which are never merged.

A text with U+2581 itself is left out of account: its tokens are those of a text with a blank, and say so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from genctl.constraints.contents import Contents
from genctl.constraints.splits import (
    CODE_POINTS,
    METASPACE,
    Split,
    Unsupported,
    byte_level_splits,
    metaspace_splits,
    prepended,
)
from genctl.kernels.records import Bool
from genctl.vocabulary import BYTE_ALPHABET, SPACE, _is_byte_level, _is_metaspace, _spelling, _steps

Step = Mapping[str, Any]


class Added(NamedTuple):
    """An added token. content: as it stands where it is looked for, in bytes of a text."""

    id: int
    content: bytes
    special: bool
    normalized: bool  # looked for in what the normalizer makes of the text


class EncodingRules(NamedTuple):
    """What decides over encodings."""

    pieces: dict[int, str]  # of the model; before it merges, each of their characters is a token
    texts: dict[int, bytes]  # of the pieces that may be in an encoding
    byte_pieces: frozenset[int]  # those that stand for one byte of a character without a piece
    spelled: Bool  # (0x110000,) the characters whose bytes may come from several tokens
    merges: list[tuple[int, int, int]]  # left, right, merged; by rank
    ignore_merges: bool
    splits: list[Split]
    blank: str  # what the patterns of the splits see where a text has a blank
    added: list[Added]
    prepends: bool  # whether the normalizer puts a blank before a text, and behind the added tokens found in it
    composed: bool  # whether texts become NFC

    @classmethod
    def of(cls, tokenizer: Any) -> EncodingRules:
        """Raises Unsupported."""
        backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
        if not hasattr(backend, "to_str"):
            raise Unsupported(f"no JSON of the library `tokenizers`: it is a {type(tokenizer).__qualname__}")
        spec = json.loads(backend.to_str())
        _check_model(spec["model"])
        normalize = backend.normalizer.normalize_str if backend.normalizer else str
        decoders = _steps(spec["decoder"])
        for known, read in KINDS:
            if known(decoders):
                return read(spec, normalize)
        kinds = ", ".join(step["type"] for step in decoders) or "None"
        raise Unsupported(f"the decoder {kinds}, neither ByteLevel nor one that writes {SPACE} as a blank")

    def contents(self) -> Contents:
        """What is looked for in a text."""
        first, second = ([a.content for a in self.added if a.normalized == late] for late in (False, True))
        return Contents(first, second, blank=self.prepends)


# -- byte-level


def _byte_level(spec: Step, normalize: Callable[[str], str]) -> EncodingRules:
    model = spec["model"]
    _refuse_options(model, ("byte_fallback",))
    normalizers = {step["type"] for step in _steps(spec["normalizer"])}
    if normalizers - {"NFC"}:
        raise Unsupported(f"the normalizer {', '.join(sorted(normalizers))}")
    steps, vocabulary = _steps(spec["pre_tokenizer"]), model["vocab"]
    blank = next(character for character, byte in BYTE_ALPHABET.items() if byte == ord(" "))
    _check_lead(any(step.get("add_prefix_space") for step in steps), blank, vocabulary)
    pieces = {i: piece for piece, i in vocabulary.items() if piece and BYTE_ALPHABET.keys() >= set(piece)}
    return EncodingRules(
        pieces=pieces,
        texts={i: bytes(map(BYTE_ALPHABET.__getitem__, piece)) for i, piece in pieces.items()},
        byte_pieces=frozenset(),
        spelled=np.ones(CODE_POINTS, np.bool_),
        merges=_merges(model["merges"], vocabulary),
        ignore_merges=bool(model.get("ignore_merges")),
        splits=byte_level_splits(steps),
        blank=" ",
        added=_added(spec, normalize),
        prepends=False,
        composed=bool(normalizers),
    )


# -- SentencePiece


def _metaspace(spec: Step, normalize: Callable[[str], str]) -> EncodingRules:
    model = spec["model"]
    _refuse_options(model, ("ignore_merges",))
    replaces, prepends = _normalizers(_steps(spec["normalizer"]))
    steps, vocabulary = _steps(spec["pre_tokenizer"]), model["vocab"]
    if not replaces and METASPACE not in (step["type"] for step in steps):
        raise Unsupported(f"no step that writes a blank as {SPACE}")
    pieces = {i: piece for piece, i in vocabulary.items() if piece}
    of_bytes = {vocabulary[name]: byte for byte in range(256) if (name := f"<0x{byte:02X}>") in vocabulary}
    byte_pieces = of_bytes if model.get("byte_fallback") else {}
    spelled = _without_piece(pieces, bool(byte_pieces))
    merges = _merges(model["merges"], vocabulary)
    if np.isin(merges, list(byte_pieces)).any():
        raise Unsupported("a merge of or to a piece that stands for a byte")
    texts = _literal(pieces, _spelling(spec))
    texts |= {i: bytes([byte]) for i, byte in byte_pieces.items() if byte >= 0x80 or spelled[byte]}
    lead = [prepended()] if prepends else []
    added = _added(spec, lambda content: normalize(content).replace(SPACE, " " if replaces else SPACE))
    added = [token for token in added if SPACE.encode() not in token.content]
    begins = any(step.get("prepend_scheme", "never") != "never" for step in steps)
    _check_lead(prepends or begins, SPACE, vocabulary)
    if begins and not prepends:
        _check_blanks(added)
    return EncodingRules(
        pieces=pieces,
        texts=texts,
        byte_pieces=frozenset(byte_pieces),
        spelled=spelled,
        merges=merges,
        ignore_merges=False,
        splits=lead + metaspace_splits(steps),
        blank=SPACE,
        added=added,
        prepends=prepends,
        composed=False,
    )


def _normalizers(steps: Sequence[Step]) -> tuple[bool, bool]:
    """Whether a blank becomes U+2581, and whether one is put before the text."""
    known = {
        "Replace": {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
        "Prepend": {"type": "Prepend", "prepend": SPACE},
    }
    kinds = [step["type"] for step in steps]
    for step in steps:
        if step != known.get(step["type"]):
            raise Unsupported(f"the normalizer {json.dumps(step, ensure_ascii=False)}")
    if len(set(kinds)) < len(kinds) or kinds == ["Prepend"]:
        raise Unsupported(f"the normalizers {', '.join(kinds)}; known are Replace, alone or once with Prepend")
    return "Replace" in kinds, "Prepend" in kinds


def _without_piece(pieces: Mapping[int, str], fallback: bool) -> Bool:
    """(0x110000,) the characters that are spelled by pieces for their bytes."""
    found = np.full(CODE_POINTS, fallback)
    found[[ord(piece) for piece in pieces.values() if len(piece) == 1]] = False
    found[[ord(" "), ord(SPACE)]] = False
    return found


def _literal(pieces: Mapping[int, str], spell: Callable[[str], bytes]) -> dict[int, bytes]:
    """The bytes of the pieces that stand for their characters, and that a text may have."""
    texts = {i: piece.replace(SPACE, " ").encode() for i, piece in pieces.items() if " " not in piece}
    for i in [i for i, piece in pieces.items() if piece.startswith("<0x") and spell(piece) != texts.get(i)]:
        texts.pop(i, None)
    return texts


def _check_blanks(added: Iterable[Added]) -> None:
    for token in added:
        if b" " in token.content:
            raise Unsupported(f"the added token {token.content.decode()!r} with a blank, and a blank put before texts")


KINDS: tuple[tuple[Callable[[Sequence[Step]], bool], Callable[[Step, Callable[[str], str]], EncodingRules]], ...] = (
    (_is_byte_level, _byte_level),
    (_is_metaspace, _metaspace),
)


# -- what they have in common


def _check_model(model: Step) -> None:
    if model["type"] != "BPE":
        raise Unsupported(f"the model {model['type']}, not BPE")
    _refuse_options(model, ("dropout", "continuing_subword_prefix", "end_of_word_suffix"))


def _refuse_options(model: Step, options: Iterable[str]) -> None:
    for option in options:
        if model.get(option):
            raise Unsupported(f"the option {option} = {model[option]!r}")


def _check_lead(leads: bool, blank: str, vocabulary: Mapping[str, int]) -> None:
    if leads and blank not in vocabulary:
        raise Unsupported("a blank put before each text, but no token for it")


def _added(spec: Step, normalize: Callable[[str], str]) -> list[Added]:
    """A special token may take in the blanks beside it, since it is never in a text."""
    found = []
    for token in spec["added_tokens"]:
        content = token["content"]
        for option in ("single_word", *(() if token["special"] else ("lstrip", "rstrip"))):
            if token[option] and content:
                raise Unsupported(f"the added token {content!r} with {option}")
        text = normalize(content) if token["normalized"] else content
        if text:
            found.append(Added(token["id"], text.encode(), token["special"], token["normalized"]))
    return found


def _merges(listed: Sequence[Any], vocabulary: Mapping[str, int]) -> list[tuple[int, int, int]]:
    """Of a pair that is listed twice the last counts."""
    ranks: dict[tuple[str, str], int] = {}
    for rank, merge in enumerate(listed):
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        ranks[left, right] = rank
    pairs = sorted(ranks, key=ranks.__getitem__)
    return [(vocabulary[left], vocabulary[right], vocabulary[left + right]) for left, right in pairs]
