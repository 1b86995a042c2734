"""Assertions about random estimates: fixed seeds, exact answers, a bound of four standard errors."""

from __future__ import annotations

from collections.abc import Mapping

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
