"""Fill-in-the-middle prompts: the control tokens that a tokenizer has for it, and what stands between them.

    style = find_style(tokenizer)                         # None where there are no such tokens
    fixed, begun = style.prompt("def f(x):\\n    ret", "\\n", encode)

A prefix that ends inside a word is seldom cut into tokens as it was in training. So its last bytes do not stand before
the hole: they are what the middle begins with, and the byte view of the model (models/bytes.py) is conditioned on them
byte by byte. In the order suffix, prefix that is all of the prefix; in the order prefix, suffix it is what stands
behind the last blank, since the model has to read the rest where it read it in training.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypeAlias

from genctl.errors import ArgumentError
from genctl.models.base import LanguageModel, View
from genctl.vocabulary import Vocabulary

Order: TypeAlias = Literal["psm", "spm"]  # prefix, suffix, middle; suffix, prefix and middle
Encode: TypeAlias = Callable[[str], Sequence[int]]  # without special tokens

PREFIX, SUFFIX = "prefix", "suffix"
TAIL = re.compile(rb"[ \t]?[^ \t\r\n]{0,64}\Z")  # of a prefix: its last word, and the blank before it


class Names(NamedTuple):
    """The control tokens around prefix and suffix in both orders, None for an order the models were not trained on."""

    models: str
    psm: tuple[str, ...] | None
    spm: tuple[str, ...] | None
    ends: tuple[str, ...]  # of a middle, besides the end of text


def _names(models: str, begin: str, hole: str, end: str, *ends: str, spm: bool = True) -> Names:
    """As most models have it: begin prefix hole suffix end, or begin hole suffix end prefix."""
    return Names(
        models,
        (begin, PREFIX, hole, SUFFIX, end),
        (begin, hole, SUFFIX, end, PREFIX) if spm else None,
        ends,
    )


STYLES = (
    _names(
        "Qwen2.5-Coder, CodeGemma",
        "<|fim_prefix|>",
        "<|fim_suffix|>",
        "<|fim_middle|>",
        "<|fim_pad|>",
        "<|repo_name|>",
        "<|file_sep|>",
        "<|file_separator|>",
        "<|endoftext|>",
    ),
    _names("StarCoder, Granite", "<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<fim_pad>", "<file_sep>"),
    _names("SantaCoder", "<fim-prefix>", "<fim-suffix>", "<fim-middle>", "<fim-pad>"),
    _names("Code Llama", "▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"),
    _names("DeepSeek-Coder", "<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>", spm=False),
    Names("Codestral", None, ("[SUFFIX]", SUFFIX, "[PREFIX]", PREFIX), ()),
)


class Style(NamedTuple):
    """How one tokenizer writes it: ids of control tokens, PREFIX and SUFFIX between them."""

    models: str
    orders: dict[Order, tuple[int | str, ...]]
    ends: frozenset[int]

    def prompt(
        self, prefix: str | bytes, suffix: str | bytes, encode: Encode, order: Order | None = None
    ) -> tuple[list[int], bytes]:
        """(token ids, bytes that the middle goes on from). order: by default prefix first where it was trained.

        Raises ArgumentError for an order the models were not trained on, and for a suffix that begins inside a
        character: the hole cannot end there. A prefix may end anywhere.
        """
        order = next(iter(self.orders)) if order is None else order
        if order not in self.orders:
            known = " or ".join(map(repr, self.orders))
            raise ArgumentError(f"order is {order!r}; models such as {self.models} are prompted in the order {known}")
        data = prefix.encode() if isinstance(prefix, str) else prefix
        begun = data
        if order == "psm":
            begun = _whole_characters(TAIL.search(data), data)
        texts = {PREFIX: _text(data[: len(data) - len(begun)], PREFIX), SUFFIX: _text(suffix, SUFFIX)}
        ids: list[int] = []
        for part in self.orders[order]:
            ids += encode(texts[part]) if isinstance(part, str) else [part]
        return ids, begun


def _whole_characters(found: re.Match[bytes] | None, data: bytes) -> bytes:
    """The tail, which must not begin inside a character."""
    begin = len(data) if found is None else found.start()
    while begin > 0 and begin < len(data) and data[begin] & 0xC0 == 0x80:
        begin -= 1
    return data[begin:]


def _text(part: str | bytes, name: str) -> str:
    try:
        return part if isinstance(part, str) else part.decode()
    except UnicodeDecodeError as error:
        raise ArgumentError(
            f"the {name} is not UTF-8: {error.reason}, {error.object[error.start]:#04x} at byte {error.start}"
        ) from error


class Ending(View[Any]):
    """A language model for which other tokens end a text. Its answers and states are those of the model."""

    def __init__(self, model: LanguageModel[Any], eos: frozenset[int]) -> None:
        super().__init__(model)
        self.prefill, self.extend, self.select, self.join = model.prefill, model.extend, model.select, model.join
        self._vocabulary = _ended_by(model.vocabulary, eos)

    @property
    def vocabulary(self) -> Vocabulary:
        return self._vocabulary


@lru_cache(maxsize=8)
def _ended_by(vocabulary: Vocabulary, eos: frozenset[int]) -> Vocabulary:
    """The same one each time: what is built for a vocabulary is kept with it."""
    return replace(vocabulary, eos=eos)


def find_style(tokenizer: Any) -> Style | None:
    """The first style whose control tokens the tokenizer has."""
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    for names in STYLES:
        orders: dict[Order, tuple[int | str, ...]] = {}
        for order, parts in (("psm", names.psm), ("spm", names.spm)):
            control = [part for part in parts or () if part not in (PREFIX, SUFFIX)]
            if parts is not None and all(name in vocabulary for name in control):
                key: Order = "psm" if order == "psm" else "spm"
                orders[key] = tuple(part if part in (PREFIX, SUFFIX) else vocabulary[part] for part in parts)
        if orders:
            return Style(names.models, orders, frozenset(vocabulary[end] for end in names.ends if end in vocabulary))
    return None
