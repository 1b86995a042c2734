"""Temperatures that follow the entropy of the model's own law, before any hook and any mask.

hook = AdaptiveTemperature.calibrated(entropies)       # of earlier steps, nats
lm.steered([hook])
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from genctl.errors import ArgumentError
from genctl.kernels.records import F32, F64
from genctl.models.logprobs import entropies
from genctl.steering.base import Hook, Slot, Step
from genctl.steering.checks import check_divisor, check_finite, check_within


@dataclass(frozen=True)
class AdaptiveTemperature(Hook):
    """Hotter where the model is undecided, cooler where it is sure: T (1 + strength * h) (HAPO).

    h is (log H - pivot) / spread, times `hot` where it is positive, `cold` where it is negative, clipped to [-1, 1]; H
    is the entropy, nats. A cold of less than 0 heats sure tokens too, as the paper's code does.
    """

    pivot: float
    spread: float
    hot: float = 1.0
    cold: float = 1.0
    temperature: float = 1.0
    strength: float = 0.05
    slot = Slot.TEMPERATURE

    def __post_init__(self) -> None:
        for name in ("pivot", "hot", "cold"):
            check_finite(name, getattr(self, name))
        check_divisor("spread", self.spread)
        check_divisor("temperature", self.temperature)
        check_within("strength", self.strength, 0, 1)
        if self.strength == 1:
            raise ArgumentError("strength is 1, with which a temperature may be 0")

    @classmethod
    def calibrated(
        cls, seen: ArrayLike, temperature: float = 1.0, strength: float = 0.05, quantile: float = 0.8
    ) -> AdaptiveTemperature:
        """The constants from entropies of earlier steps (nats): pivot is a quantile of their logarithms, spread their
        root mean square distance from it, hot and cold scale the largest and the least to 1 and -1.
        """
        values = np.asarray(seen, np.float64).ravel()
        logs = np.log(values[values > 0])
        if not len(logs) or not np.isfinite(logs).all():
            raise ArgumentError("calibration needs entropies above 0, finite")
        pivot = float(np.quantile(logs, quantile))
        spread = float(np.sqrt(np.mean((logs - pivot) ** 2)))
        if spread == 0:
            raise ArgumentError("calibration needs entropies that differ")
        most, least = (logs.max() - pivot) / spread, (logs.min() - pivot) / spread
        hot, cold = (1 / abs(float(h)) if h else 1.0 for h in (most, least))
        return cls(pivot, spread, hot, cold, temperature, strength)

    @property
    def reads_tokens(self) -> bool:
        return False

    def temperatures(self, entropy: F64) -> F64:
        """(N,) entropies, nats -> (N,) temperatures."""
        with np.errstate(divide="ignore"):
            h = (np.log(entropy) - self.pivot) / self.spread
        h = (
            np.where(h > 0, h * self.hot, np.where(h < 0, h * self.cold, 0.0))
            if self.cold
            else np.maximum(h, 0) * self.hot
        )
        return np.asarray(self.temperature * (1 + self.strength * np.clip(h, -1, 1)))

    def __call__(self, step: Step, scores: F32, /) -> F32:
        if self.strength == 0 and self.temperature == 1:
            return scores
        return scores / self.temperatures(entropies(step.raw)).astype(np.float32)[:, None]
