"""The hooks every generation API has: temperature, top-k, top-p, min-p, typical.

    lm.generate(prompt, temperature=0.8, top_p=0.95)
    lm.steered([Temperature(0.8), TypicalP(0.9)])

With a constraint the samples follow the steered model conditioned on the rule; a token a filter removes (logit -inf)
cannot be drawn, and a particle whose rule allows none of those that are left has no weight. So filters are for open
text, or wide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from genctl.kernels.records import F32, I64
from genctl.models.logprobs import entropies, log_normalisers
from genctl.steering.base import Hook, Slot, Step
from genctl.steering.checks import check_count, check_divisor, check_share, check_within

IMPOSSIBLE = np.float32(-np.inf)


@dataclass(frozen=True)
class Temperature(Hook):
    """Divide the logits: below 1 sharper, above 1 flatter."""

    temperature: float
    slot = Slot.TEMPERATURE

    def __post_init__(self) -> None:
        check_divisor("temperature", self.temperature, "\nhint: for the likeliest token use do_sample=False")

    @property
    def reads_tokens(self) -> bool:
        return False

    def __call__(self, step: Step, scores: F32, /) -> F32:
        return scores if self.temperature == 1 else scores / np.float32(self.temperature)


class Filter(Hook):
    """A hook that keeps some tokens as they are and makes the others impossible."""

    slot = Slot.TRUNCATION

    @property
    def reads_tokens(self) -> bool:
        return False

    @property
    def restricts_support(self) -> bool:
        return True


@dataclass(frozen=True)
class TopK(Filter):
    """Keep the k likeliest tokens of each row, and all that are equal to the least of them."""

    k: int

    def __post_init__(self) -> None:
        check_count("top_k", self.k)

    def __call__(self, step: Step, scores: F32, /) -> F32:
        if self.k >= scores.shape[1]:
            return scores
        least = np.partition(scores, -self.k, axis=1)[:, -self.k, None]
        return np.where(scores >= least, scores, IMPOSSIBLE)


@dataclass(frozen=True)
class ShareFilter(Filter):
    """Keeps a share p of the probability, in an order of its own; 1 keeps all."""

    p: float
    name: ClassVar[str]

    def __post_init__(self) -> None:
        check_share(self.name, self.p)

    @property
    def restricts_support(self) -> bool:
        return self.p < 1


class TopP(ShareFilter):
    """Keep the smallest set of likeliest tokens with at least this probability (Holtzman et al. 2020)."""

    name: ClassVar[str] = "top_p"

    def __call__(self, step: Step, scores: F32, /) -> F32:
        if self.p == 1:
            return scores
        kept = np.zeros(scores.shape, np.bool_)
        laws = scores - log_normalisers(scores).astype(np.float32)
        for row, logits, probabilities in zip(kept, scores, np.exp(laws), strict=True):
            # The tokens below this bound have less than 1 - p together: the others need no more to have p.
            likely = np.flatnonzero(probabilities >= (1 - self.p) / (2 * len(row)))
            row[likely[_first(-logits[likely], probabilities[likely], self.p)]] = True
        return np.where(kept, scores, IMPOSSIBLE)


@dataclass(frozen=True)
class MinP(Filter):
    """Keep the tokens with at least this share of the likeliest one's probability (Nguyen et al. 2024)."""

    p: float

    def __post_init__(self) -> None:
        check_within("min_p", self.p, 0, 1)

    @property
    def restricts_support(self) -> bool:
        return self.p > 0

    def __call__(self, step: Step, scores: F32, /) -> F32:
        if self.p == 0:
            return scores
        least = scores.max(axis=1, keepdims=True) + np.float32(np.log(self.p))
        return np.where(scores >= least, scores, IMPOSSIBLE)


class TypicalP(ShareFilter):
    """Keep the tokens whose surprise is nearest to the entropy, until they have this probability (Meister et al. 2023).

    Of equally near ones the lower id comes first.
    """

    name: ClassVar[str] = "typical_p"

    def __call__(self, step: Step, scores: F32, /) -> F32:
        if self.p == 1:
            return scores
        surprises = log_normalisers(scores).astype(np.float32) - scores
        kept = np.zeros(scores.shape, np.bool_)
        for row, surprise, entropy in zip(kept, surprises, entropies(scores), strict=True):
            possible = np.flatnonzero(surprise < np.inf)
            distances = np.abs(surprise[possible] - np.float32(entropy))
            row[possible[_first(distances, np.exp(-surprise[possible]), self.p)]] = True
        return np.where(kept, scores, IMPOSSIBLE)


def _first(keys: F32, probabilities: F32, p: float) -> I64:
    """The places of the smallest keys, up to the one with which they have probability p; of equal keys the first."""
    if not len(keys):
        return np.zeros(0, np.int64)
    order = np.argsort(keys)  # equal ones in any order, which is much faster
    masses = np.cumsum(probabilities[order], dtype=np.float64)
    edge = keys[order[min(int(np.searchsorted(masses, p)), len(order) - 1)]]
    below = int(np.searchsorted(keys[order], edge))
    equal = np.flatnonzero(keys == edge)
    missing = p - (masses[below - 1] if below else 0.0)
    count = 1 + int(np.searchsorted(np.cumsum(probabilities[equal], dtype=np.float64), missing))
    return np.concatenate([order[:below], equal[:count]])
