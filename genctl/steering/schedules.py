"""Biases that come and go with the length of the text.

    lm.steered([CyclicReflex(amplitude=3, period=100)])
    lm.steered([WindowBias(-3, 600, words=["alternatively", " alternatively"])])

t is the number of tokens generated, of the particle itself. words are tokens: ids, or strings that are exactly one
token (a blank before a word belongs to it); a string that no token is raises an error when the hook meets the model.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from genctl.errors import ArgumentError
from genctl.kernels.records import F32, F64, I64
from genctl.steering.base import Hook, Memo, Slot, Step
from genctl.steering.checks import check_count, check_finite, check_word, check_words, tokens_of
from genctl.vocabulary import Vocabulary

REFLECTION = ("wait", "Wait", "but", "But", "Alternatively")  # of the official code, which leaves " wait" alone


class Schedule(Hook):
    """Adds `bias_at(step)` to the logits of the words."""

    slot = Slot.BIAS
    _tokens: I64

    @property
    def needs_prompt(self) -> bool:
        return True

    @abstractmethod
    def bias_at(self, step: Step) -> F64:
        """(N,) nats."""

    def __call__(self, step: Step, scores: F32, /) -> F32:
        bias = self.bias_at(step).astype(np.float32)
        if not bias.any():
            return scores
        after = scores.copy()
        after[:, self._tokens] += bias[:, None]
        return after


@dataclass(frozen=True)
class CyclicReflex(Schedule):
    """A wave: 0 at t = 0, +amplitude at a quarter of the period, -amplitude at three quarters (Fan et al. 2025).

    A abs(4 ((t - C/4) mod C) / C - 2) - A, which has mean 0. shift: a share of the period that the wave is ahead.
    until: text or token id behind which nothing is changed any more.
    """

    amplitude: float = 3.0
    period: int = 100
    shift: float = 0.0
    words: Sequence[str | int] = REFLECTION
    until: str | int | None = "</think>"
    remembers: ClassVar[bool] = True
    _tokens: I64 = field(default_factory=lambda: np.zeros(0, np.int64), repr=False, compare=False)
    _vocabulary: Vocabulary | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_finite("amplitude", self.amplitude)
        check_finite("shift", self.shift)
        check_count("period", self.period)
        check_words("words", self.words)
        if self.until is not None:
            check_word("until", self.until)

    def bind(self, vocabulary: Vocabulary, /) -> CyclicReflex:
        if self.until is not None and not isinstance(self.until, str):
            tokens_of([self.until], vocabulary)
        return replace(self, _tokens=tokens_of(self.words, vocabulary), _vocabulary=vocabulary)

    def begin(self, prompt: I64, /) -> Memo:
        """The last bytes of the text, in which `until` may have begun; None behind it."""
        return b""

    def advance(self, memo: Memo, token: int, /) -> Memo:
        if memo is None or token == self.until or self._vocabulary is None:
            return None
        if not isinstance(self.until, str):
            return memo
        data = self.until.encode()
        seen = memo + self._vocabulary.tokens[token]
        return None if data in seen else seen[max(len(seen) - len(data) + 1, 0) :]

    def bias_at(self, step: Step) -> F64:
        on = np.array([memo is not None for memo in step.memos], np.bool_)
        return np.where(on, self.wave(step.positions), 0.0)

    def wave(self, positions: Any) -> F64:
        """Of numbers of tokens, nats."""
        phase = (np.asarray(positions) + (self.shift - 0.25) * self.period) % self.period / self.period
        return np.asarray(self.amplitude * (np.abs(4 * phase - 2) - 1))


@dataclass(frozen=True)
class WindowBias(Schedule):
    """A bias in the first `window` tokens of a thought, which begins with the text, or with each of the words.

    With a negative bias this is the thought switching penalty (TIP, Wang et al. 2025; they report -3 and 600).
    """

    bias: float = -3.0
    window: int = 600
    words: Sequence[str | int] = ("Alternatively",)
    remembers: ClassVar[bool] = True
    _tokens: I64 = field(default_factory=lambda: np.zeros(0, np.int64), repr=False, compare=False)

    def __post_init__(self) -> None:
        check_finite("bias", self.bias)
        check_count("window", self.window, least=0)
        check_words("words", self.words)

    def bind(self, vocabulary: Vocabulary, /) -> WindowBias:
        return replace(self, _tokens=tokens_of(self.words, vocabulary))

    def begin(self, prompt: I64, /) -> Memo:
        """How many tokens behind the one that the thought began with the next one is."""
        return 0

    def advance(self, memo: Memo, token: int, /) -> Memo:
        return 1 if token in self._tokens else memo + 1

    def bias_at(self, step: Step) -> F64:
        return np.where(np.array(step.memos, np.int64) < self.window, self.bias, 0.0)


@dataclass(frozen=True)
class ConstantBias(Schedule):
    """The same bias for all words while start <= t < stop."""

    bias: float
    words: Sequence[str | int]
    start: int = 0
    stop: int | None = None
    _tokens: I64 = field(default_factory=lambda: np.zeros(0, np.int64), repr=False, compare=False)

    def __post_init__(self) -> None:
        check_finite("bias", self.bias)
        check_count("start", self.start, least=0)
        if self.stop is not None:
            check_count("stop", self.stop, least=0)
            if self.stop <= self.start:
                raise ArgumentError(f"stop is {self.stop}, but the bias starts at {self.start}: it would never act")
        check_words("words", self.words)

    def bind(self, vocabulary: Vocabulary, /) -> ConstantBias:
        return replace(self, _tokens=tokens_of(self.words, vocabulary))

    def bias_at(self, step: Step) -> F64:
        within = (step.positions >= self.start) & (step.positions < (np.inf if self.stop is None else self.stop))
        return np.where(within, self.bias, 0.0)
