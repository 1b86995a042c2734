"""Resampling: N ancestors for N particles, each expected N times its weight.

    ancestors = systematic(rng, weights)

References: Douc, Cappé & Moulines (2005) for all four; systematic has the least variance in practice and is the
default, multinomial is the independent draw.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from genctl.kernels.records import F64, I64
from genctl.kernels.resampling import inverse_cdf


def systematic(rng: Generator, weights: F64) -> I64:
    """(N,) weights summing to 1 -> (N,) ancestor indices, from one uniform number."""
    n = len(weights)
    return _ancestors(weights, (rng.random() + np.arange(n)) / n)


def stratified(rng: Generator, weights: F64) -> I64:
    """(N,) weights summing to 1 -> (N,) ancestor indices, one uniform number for each of N equal strata."""
    n = len(weights)
    return _ancestors(weights, (rng.random(n) + np.arange(n)) / n)


def multinomial(rng: Generator, weights: F64) -> I64:
    """(N,) weights summing to 1 -> (N,) ancestor indices, independent draws."""
    return _ancestors(weights, np.sort(rng.random(len(weights))))


def residual(rng: Generator, weights: F64) -> I64:
    """(N,) weights summing to 1 -> (N,) ancestor indices: the whole part of N w for certain, the rest multinomial."""
    n = len(weights)
    copies = np.floor(n * weights).astype(np.int64)
    certain = np.repeat(np.arange(n), copies)
    rest = n * weights - copies
    if len(certain) >= n or rest.sum() <= 0:
        return np.resize(certain, n)
    drawn = _ancestors(rest / rest.sum(), np.sort(rng.random(n - len(certain))))
    return np.sort(np.concatenate([certain, drawn]))


def _ancestors(weights: F64, points: F64) -> I64:
    ancestors = np.empty(len(points), np.int64)
    inverse_cdf(weights, points, ancestors)
    return ancestors


SCHEMES: dict[str, Callable[[Generator, F64], I64]] = {
    "systematic": systematic,
    "stratified": stratified,
    "residual": residual,
    "multinomial": multinomial,
}
