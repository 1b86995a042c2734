"""The hooks every generation API has: temperature, top-k, top-p, min-p. They change the target.

    hooks = [Temperature(0.8), TopP(0.95)]
    for hook in hooks: logits = hook(logits)

A hook is a pure function from (N, V) float32 logits to new ones, row by row. With a constraint the samples follow
the steered model conditioned on the rule; a token a filter removes (logit -inf) cannot be drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from genctl.errors import ArgumentError
from genctl.kernels.records import F32


@dataclass(frozen=True)
class Temperature:
    """Divide the logits: below 1 sharper, above 1 flatter."""

    temperature: float

    def __post_init__(self) -> None:
        _check_number("temperature", self.temperature)
        if not 0 < self.temperature < np.inf:
            hint = "; for the likeliest token use do_sample=False" if self.temperature == 0 else ""
            raise ArgumentError(f"temperature is {self.temperature}, it must be a finite number above 0{hint}")

    def __call__(self, logits: F32) -> F32:
        return logits / np.float32(self.temperature)


@dataclass(frozen=True)
class TopK:
    """Keep the k likeliest tokens of each row, and all that are equal to the least of them."""

    k: int

    def __post_init__(self) -> None:
        if isinstance(self.k, bool) or not isinstance(self.k, int | np.integer) or self.k < 1:
            raise ArgumentError(f"top_k is {self.k!r}, it must be an integer of at least 1")

    def __call__(self, logits: F32) -> F32:
        if self.k >= logits.shape[1]:
            return logits
        least = np.partition(logits, -self.k, axis=1)[:, -self.k, None]
        return np.where(logits >= least, logits, np.float32(-np.inf))


@dataclass(frozen=True)
class TopP:
    """Keep the smallest set of likeliest tokens with at least this probability (Holtzman et al. 2020)."""

    p: float

    def __post_init__(self) -> None:
        _check_number("top_p", self.p)
        if not 0 < self.p <= 1:
            raise ArgumentError(f"top_p is {self.p}, it must be in (0, 1]")

    def __call__(self, logits: F32) -> F32:
        if self.p == 1:
            return logits
        order = np.argsort(-logits, axis=1, kind="stable")
        probabilities = np.take_along_axis(_softmax(logits), order, axis=1)
        before = np.cumsum(probabilities, axis=1) - probabilities
        kept = np.empty(logits.shape, np.bool_)
        np.put_along_axis(kept, order, before < self.p, axis=1)
        return np.where(kept, logits, np.float32(-np.inf))


@dataclass(frozen=True)
class MinP:
    """Keep the tokens with at least this share of the likeliest one's probability (Nguyen et al. 2024)."""

    p: float

    def __post_init__(self) -> None:
        _check_number("min_p", self.p)
        if not 0 <= self.p <= 1:
            raise ArgumentError(f"min_p is {self.p}, it must be in [0, 1]")

    def __call__(self, logits: F32) -> F32:
        if self.p == 0:
            return logits
        least = logits.max(axis=1, keepdims=True) + np.float32(np.log(self.p))
        return np.where(logits >= least, logits, np.float32(-np.inf))


def _check_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, float | int | np.floating | np.integer):
        raise ArgumentError(f"{name} is {value!r}, it must be a number")


def _softmax(logits: F32) -> F32:
    weights: F32 = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    return weights
