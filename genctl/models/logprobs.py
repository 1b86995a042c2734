"""Logits and log-probabilities of many rows at once, nats. What is impossible is -inf, and a row may be that alone.

law = log_softmax(host_logits(logits))               # (N, V) float64
entropies(logits), log_sum(law + log_weights, axis=0)
"""

from __future__ import annotations

import numpy as np

from genctl.kernels.records import F32, F64

LEAST = np.float32(-200.0)  # nats: exp of less is 0 in single precision


def log_normalisers(scores: F32 | F64) -> F64:
    """(N, V) -> (N, 1) log of the sum of exp of each row, nats; 0 for a row of -inf."""
    top = _tops(scores)
    sums: F64 = np.exp(scores - top).sum(axis=1, dtype=np.float64, keepdims=True)
    return np.asarray(np.log(np.where(sums > 0, sums, 1.0)) + top)


def log_softmax(scores: F32 | F64) -> F64:
    """(N, V) logits -> log-probabilities, nats; a row of -inf stays one."""
    law: F64 = scores - log_normalisers(scores)
    return law


def entropies(scores: F32) -> F64:
    """(N, V) logits -> (N,) entropy of each row, nats; 0 for a row of -inf."""
    below = scores - _tops(scores)
    weights = np.exp(below)
    totals = np.maximum(weights.sum(axis=1, dtype=np.float64), 1.0)
    means = (weights * np.maximum(below, LEAST)).sum(axis=1, dtype=np.float64) / totals
    return np.asarray(np.maximum(np.log(totals) - means, 0.0))


def normalise(scores: F64) -> None:
    """Each row of (N, V) scores, in place, so that exp adds up to 1; rows of -inf stay as they are."""
    scores -= log_normalisers(scores)


def log_sum(scores: F64, axis: int) -> F64:
    """log of the sum of exp along an axis; -inf where all are."""
    top = scores.max(axis=axis, keepdims=True)
    top[top == -np.inf] = 0.0
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.exp(scores - top).sum(axis=axis)) + top.squeeze(axis))


def floored(law: F64) -> F64:
    """(N, V) log-probabilities with the smallest finite one of the row for -inf, or 0 if there is none."""
    possible = law > -np.inf
    least = np.where(possible, law, np.inf).min(axis=1, keepdims=True)
    return np.where(possible, law, np.where(least < np.inf, least, 0.0))


def _tops(scores: F32 | F64) -> F32 | F64:
    """(N, 1) the largest of each row, 0 for a row of -inf."""
    top: F32 | F64 = scores.max(axis=1, keepdims=True, initial=-np.inf)
    return np.where(top > -np.inf, top, top.dtype.type(0))
