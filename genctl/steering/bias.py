"""Biases: what a token or a string gets in addition, nats.

    lm.steered([StringBias({"however": -2.0, " very": -np.inf})])
    lm.steered([TokenBias({17: 1.5})])

A string is one of bytes, and it counts wherever it stands in prompt and text, however the tokens spell it: each token
gets the bias once for every occurrence that ends in it. So bound as "tilt" the probability of a text is multiplied by
exp(bias * number of occurrences that end in it). "wait" occurs in " wait" and in "awaiting" too; " wait", with a blank,
occurs only where the blank is. A bias of -inf forbids a string.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from genctl.errors import ArgumentError
from genctl.kernels.records import F32, I64
from genctl.steering.base import Hook, Slot, Step
from genctl.steering.checks import check_ids, check_number, data_of, is_id, tokens_of
from genctl.vocabulary import Vocabulary


@dataclass(frozen=True)
class TokenBias(Hook):
    """biases: token id -> nats; -inf makes it impossible."""

    biases: Mapping[int, float]
    slot = Slot.BIAS

    def __post_init__(self) -> None:
        _check_biases(self.biases, "token ids", is_id)

    @property
    def restricts_support(self) -> bool:
        return -np.inf in self.biases.values()

    def bind(self, vocabulary: Vocabulary, /) -> TokenBias:
        tokens_of(list(self.biases), vocabulary)
        return self

    def __call__(self, step: Step, scores: F32, /) -> F32:
        if not any(self.biases.values()):
            return scores
        after = scores.copy()
        after[:, list(self.biases)] += np.array(list(self.biases.values()), np.float32)
        return after


@dataclass(frozen=True)
class Forbidden(Hook):
    """Tokens that may not come, or not among the first `before` tokens of a text."""

    tokens: tuple[int, ...]
    before: int = sys.maxsize

    def bind(self, vocabulary: Vocabulary, /) -> Forbidden:
        check_ids("tokens that may not come", self.tokens, vocabulary)
        return self

    @property
    def restricts_support(self) -> bool:
        return True

    @property
    def needs_prompt(self) -> bool:
        return self.before < sys.maxsize

    def __call__(self, step: Step, scores: F32, /) -> F32:
        early = np.flatnonzero(step.positions < self.before)
        if not len(early):
            return scores
        after = scores.copy()
        after[np.ix_(early, np.array(self.tokens, np.int64))] = -np.inf
        return after


@dataclass(frozen=True, eq=False)
class _String:
    """A string in the tokens of a vocabulary."""

    data: bytes
    bias: np.float32
    inside: F32  # (V,) nats for the occurrences that lie in a token
    endings: Mapping[bytes, I64]  # beginning of the string -> the tokens that begin with the rest of it


@dataclass(frozen=True)
class StringBias(Hook):
    """biases: string -> nats."""

    biases: Mapping[str, float]
    slot = Slot.BIAS
    _vocabulary: Vocabulary | None = field(default=None, repr=False, compare=False)
    _strings: tuple[_String, ...] = field(default=(), repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_biases(self.biases, "strings", lambda key: isinstance(key, str))
        if "" in self.biases:
            raise ArgumentError("a bias on the empty string would be one on every token, which changes nothing")
        for text in self.biases:
            data_of("a string with a bias", text)

    @property
    def reads_tokens(self) -> bool:
        return False

    @property
    def restricts_support(self) -> bool:
        return -np.inf in self.biases.values()

    def bind(self, vocabulary: Vocabulary, /) -> StringBias:
        strings = [_string(text.encode(), bias, vocabulary) for text, bias in self.biases.items() if bias]
        return replace(self, _vocabulary=vocabulary, _strings=tuple(strings))

    def __call__(self, step: Step, scores: F32, /) -> F32:
        if not self._strings or self._vocabulary is None:
            return scores
        after = scores.copy()
        for string in self._strings:
            after += string.inside
        longest = max(len(string.data) for string in self._strings)
        for row, ids in zip(after, step.contexts, strict=True):
            tail = _tail(ids, longest - 1, self._vocabulary)
            for string in self._strings:
                for beginning, tokens in string.endings.items():
                    if tail.endswith(beginning):
                        row[tokens] += string.bias
        return after


def _string(data: bytes, bias: float, vocabulary: Vocabulary) -> _String:
    counts = np.array([_occurrences(data, token) for token in vocabulary.tokens], np.float32)
    inside = np.zeros(len(vocabulary), np.float32)
    inside[counts > 0] = np.float32(bias) * counts[counts > 0]
    splits = [(data[:at], data[at:]) for at in range(1, len(data))]
    endings = {
        beginning: np.array([i for i, token in enumerate(vocabulary.tokens) if token.startswith(rest)], np.int64)
        for beginning, rest in splits
    }
    return _String(data, np.float32(bias), inside, {b: tokens for b, tokens in endings.items() if len(tokens)})


def _occurrences(data: bytes, token: bytes) -> int:
    """Those that overlap count each."""
    if data not in token:
        return 0
    return sum(token.startswith(data, at) for at in range(len(token) - len(data) + 1))


def _tail(ids: I64, size: int, vocabulary: Vocabulary) -> bytes:
    """The last bytes of a text, so many or all."""
    tail = b""
    for token in reversed(ids.tolist()):
        if len(tail) >= size:
            break
        tail = vocabulary.tokens[token] + tail
    return tail


def _check_biases(biases: object, kind: str, fits: Callable[[object], bool]) -> None:
    if not isinstance(biases, Mapping) or not biases:
        raise ArgumentError(f"biases is {biases!r}, it must map {kind} to numbers")
    for key, bias in biases.items():
        if not fits(key):
            raise ArgumentError(f"biases has the key {key!r}, but they are of {kind}")
        check_number(f"the bias of {key!r}", bias)
        if bias == np.inf:
            raise ArgumentError(f"the bias of {key!r} is +inf\nhint: what must come is a rule, such as genctl.regex")
