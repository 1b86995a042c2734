"""Ancestors of a resampling step from sorted points on [0, 1)."""

from __future__ import annotations

from genctl.kernels.compiled import kernel
from genctl.kernels.records import F64, I64


@kernel
def inverse_cdf(weights: F64, points: F64, ancestors: I64) -> None:
    """ancestors[i] = the first j with points[i] < weights[0] + ... + weights[j]; points sorted, weights sum to 1.

    Rounding may leave the sum short of the last points: they go to the last positive weight.
    """
    last = 0
    for j in range(weights.shape[0]):
        if weights[j] > 0.0:
            last = j
    j = 0
    cumulated = weights[0]
    for i in range(points.shape[0]):
        while j < last and points[i] >= cumulated:
            j += 1
            cumulated += weights[j]
        ancestors[i] = j
