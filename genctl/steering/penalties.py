"""Penalties for what was said before, on raw logits.

    lm.steered([RepetitionPenalty(1.2), FrequencyPenalty(0.3), NoRepeat(4)])

They count ids of the row itself, never padding. `prompt` says whether the prompt's tokens count; where they do not, a
byte view of the steered model is refused, since it does not know where the prompt ends.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from genctl.kernels.records import F32, I64
from genctl.steering.base import Hook, Slot, Step
from genctl.steering.checks import check_count, check_divisor, check_finite, check_flag


@dataclass(frozen=True)
class RepetitionPenalty(Hook):
    """Logits of tokens that were there are divided by the penalty if they are positive, else multiplied (Keskar et al.
    2019, and as transformers has it). Depends on where 0 is: for the raw logits of a model.
    """

    penalty: float
    prompt: bool = True
    slot = Slot.PENALTY

    def __post_init__(self) -> None:
        check_divisor("penalty", self.penalty, "; 1 is none")
        check_flag("prompt", self.prompt)

    @property
    def needs_prompt(self) -> bool:
        return not self.prompt

    def __call__(self, step: Step, scores: F32, /) -> F32:
        if self.penalty == 1:
            return scores

        def changed(logits: F32, _counts: I64) -> F32:
            return np.where(logits > 0, logits / np.float32(self.penalty), logits * np.float32(self.penalty))

        return _where_said(step, scores, self.prompt, changed)


@dataclass(frozen=True)
class Subtracted(Hook):
    """Subtracts something from the logits of tokens that were there, 0 if the penalty is."""

    penalty: float
    prompt: bool = False
    slot = Slot.PENALTY

    def __post_init__(self) -> None:
        check_finite("penalty", self.penalty)
        check_flag("prompt", self.prompt)

    @property
    def needs_prompt(self) -> bool:
        return not self.prompt

    @abstractmethod
    def amounts(self, counts: I64, /) -> F32:
        """(K,) how often each token was there -> (K,) nats."""

    def __call__(self, step: Step, scores: F32, /) -> F32:
        if self.penalty == 0:
            return scores
        return _where_said(step, scores, self.prompt, lambda logits, counts: logits - self.amounts(counts))


class FrequencyPenalty(Subtracted):
    """Subtract the penalty (nats) once for each time that the token was there."""

    def amounts(self, counts: I64, /) -> F32:
        return np.float32(self.penalty) * counts.astype(np.float32)


class PresencePenalty(Subtracted):
    """Subtract the penalty (nats) if the token was there."""

    def amounts(self, counts: I64, /) -> F32:
        return np.full(len(counts), self.penalty, np.float32)


@dataclass(frozen=True)
class NoRepeat(Hook):
    """No run of n tokens twice: tokens that would end one are impossible. As a rule about tokens, not about text."""

    n: int
    prompt: bool = True
    slot = Slot.PENALTY

    def __post_init__(self) -> None:
        check_count("n", self.n)
        check_flag("prompt", self.prompt)

    @property
    def restricts_support(self) -> bool:
        return True

    @property
    def needs_prompt(self) -> bool:
        return not self.prompt

    def __call__(self, step: Step, scores: F32, /) -> F32:
        after = scores.copy()
        for row, ids in zip(after, step.contexts if self.prompt else step.texts(), strict=True):
            row[_would_repeat(ids, self.n)] = -np.inf
        return after


def _would_repeat(ids: I64, n: int) -> I64:
    """The tokens with which the last n - 1 ids would be a run of n that is among the ids."""
    if len(ids) < n:
        return ids[:0]
    runs = sliding_window_view(ids, n)
    return np.asarray(runs[(runs[:, :-1] == ids[len(ids) - n + 1 :]).all(axis=1), -1])


def _where_said(step: Step, scores: F32, prompt: bool, changed: Callable[[F32, I64], F32]) -> F32:
    """changed: (K,) logits of the K different tokens of a row, and how often each was there -> new logits."""
    after = scores.copy()
    for row, ids in zip(after, step.contexts if prompt else step.texts(), strict=True):
        said, counts = np.unique(ids, return_counts=True)
        row[said] = changed(row[said], counts)
    return after
