"""Assertions about random estimates: fixed seeds, exact answers, a bound of four standard errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

ERRORS = 4.0


def assert_mean(estimates: np.ndarray, exact: float, largest: float = 0.0) -> None:
    """The mean of independent estimates is within four standard errors of the exact value.

    largest: a bound of the estimates, which are not negative; their variance is then at most largest * exact, which
    matters where the event is so rare that the sample shows none of its variance.
    """
    estimates = np.asarray(estimates, np.float64)
    error = max(estimates.std(ddof=1), np.sqrt(largest * exact)) / np.sqrt(len(estimates))
    assert abs(estimates.mean() - exact) <= ERRORS * error + 1e-6 * abs(exact), (
        f"mean {estimates.mean():.6g}, exact {exact:.6g}, standard error {error:.2g}"
    )


def total_variation(first: Mapping, second: Mapping) -> float:
    keys = first.keys() | second.keys()
    return sum(abs(first.get(key, 0.0) - second.get(key, 0.0)) for key in keys) / 2


def assert_posterior(cloud: Any, exact: Mapping, log_evidence: float, *, rare: bool = False) -> None:
    """Particles of many independent runs follow the exact posterior, and their evidence is unbiased.

    rare: so few of them may carry the weight that the sample does not show the variance of the evidence.
    """
    weights = np.exp(cloud.log_weights - log_evidence)
    bound = weights.max() / cloud.size
    assert_mean(weights.reshape(-1, cloud.size).mean(axis=1), 1.0, largest=bound if rare else 0.0)
    for tokens, probability in exact.items():
        hits = np.array([t == tokens for t in cloud.tokens])
        estimates = np.where(hits, weights, 0.0).reshape(-1, cloud.size).mean(axis=1)
        assert_mean(estimates, probability, largest=bound)
    assert {t for t, w in zip(cloud.tokens, weights, strict=True) if w > 0} <= exact.keys()
