"""Token samplers: draw one allowed token for each of N particles, and say what the draw is worth.

    draws = awrs(streams, logits, constraint, states)
    log_weights += draws.log_weights

A sampler is *properly weighted*: with p the softmax of a row of logits, E[exp(log_weight) f(token)] is the sum of
p(t) f(t) over the allowed tokens t. It changes how samples are found, never what they are samples of.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import numpy as np

from genctl.constraints.base import Constraint
from genctl.errors import ModelError
from genctl.kernels.records import F32, F64, I64
from genctl.kernels.rejection import BLOCK, draw, weigh_rows
from genctl.samplers.streams import Streams

DEAD_TOKEN = -1


class Draws(NamedTuple):
    """One token for each of N particles."""

    tokens: I64  # (N,), DEAD_TOKEN where no token is allowed
    log_weights: F64  # (N,) nats, -inf at a dead end
    logprobs: F64  # (N,) nats, of the token under the model
    checks: I64  # (N,) tokens that were tested one by one
    accepted: I64  # (N,) of them allowed
    masks: I64  # (N,) 1 where the whole mask was asked for
    variances: F64  # (N,) relative variance of exp(log_weight), estimated from what was tested


class TokenSampler(Protocol):
    """logits (N, V) float32, nats up to a constant per row; states (N,) of the constraint."""

    def __call__(self, streams: Streams, logits: F32, constraint: Constraint, states: I64, /) -> Draws: ...


class Weights(NamedTuple):
    """Rows of logits as unnormalised probabilities, the largest of a row being 1."""

    values: F32  # (N, V)
    blocks: F64  # (N, ceil(V / BLOCK)) sums of the values
    top: F64  # (N,) the largest logit
    total: F64  # (N,) sum of the values

    def log_normaliser(self, row: int) -> float:
        """log of the sum of exp(logits) of the row, nats; -inf if no logit is finite."""
        total = self.total[row]
        return float(self.top[row]) + math.log(total) if total > 0 else -math.inf


def weigh(logits: F32) -> Weights:
    """One pass for the largest logits, one for exponentials and sums. Raises ModelError for NaN or +inf."""
    top = logits.max(axis=1)
    if not all(map(math.isfinite, top.tolist())):
        if not (top < np.inf).all():
            raise ModelError("the model's logits contain NaN or +inf; load it in float32 or bfloat16")
        top[top == -np.inf] = 0.0
    values, total = np.empty_like(logits), np.empty(len(logits))
    blocks = np.empty((len(logits), -(-logits.shape[1] // BLOCK)))
    weigh_rows(logits, top, values, blocks, total)
    return Weights(values, blocks, top.astype(np.float64), total)


def unconstrained(streams: Streams, logits: F32) -> Draws:
    """Tokens of the model itself; every weight is 1."""
    weights = weigh(logits)
    uniforms = streams.uniforms(1)[:, 0].tolist()
    tokens = np.array(
        [draw(v, b, u) for v, b, u in zip(weights.values, weights.blocks, uniforms, strict=True)], np.int64
    )
    none = np.zeros(len(tokens), np.int64)
    log_weights = np.where(tokens < 0, -np.inf, 0.0)
    return Draws(tokens, log_weights, token_logprobs(logits, weights, tokens), none, none, none, np.zeros(len(tokens)))


def token_logprobs(logits: F32, weights: Weights, tokens: I64) -> F64:
    """(N,) log-probability of each row's token, nats; -inf for DEAD_TOKEN."""
    return np.array(
        [logits[n, t] - weights.log_normaliser(n) if t >= 0 else -math.inf for n, t in enumerate(tokens.tolist())],
        np.float64,
    )
