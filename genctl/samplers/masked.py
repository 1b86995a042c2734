"""Samplers that look at the whole mask: exact local masking, and its greedy form.

    draws = masked(streams, logits, constraint, states)      # log_weights: log of the allowed mass

Drawing from the renormalised allowed tokens is properly weighted with the mass that was allowed. Left out, these
weights would make the samples follow "mask and renormalise" instead of the model conditioned on the rule.
"""

from __future__ import annotations

import math

import numpy as np

from genctl.constraints.automaton import AutomatonConstraint
from genctl.constraints.base import Constraint, unpack, words
from genctl.constraints.budget import Budget
from genctl.constraints.checked import Checked
from genctl.kernels.records import F32, F64, I64, U32
from genctl.kernels.rejection import draw_masked, masked_draw, masked_sums
from genctl.samplers.base import DEAD_TOKEN, Draws, Weights, token_logprobs, unconstrained, weigh
from genctl.samplers.streams import Streams

# Below this share of the largest weight float32 loses digits: such rows are drawn in float64 from their logits.
TAIL = 1e-24


def masked(streams: Streams, logits: F32, constraint: Constraint, states: I64, /) -> Draws:
    """A TokenSampler: one draw from the allowed tokens, weighted by their mass."""
    weights = weigh(logits)
    log_weights = np.full(len(states), -np.inf)
    tokens = np.full(len(states), DEAD_TOKEN, np.int64)
    uniforms = streams.uniforms(1)[:, 0].tolist()
    for n, state in enumerate(states.tolist()):
        mask = packed_mask(constraint, state, logits.shape[1])
        tokens[n], log_weights[n] = draw_allowed(logits, weights, n, mask, uniforms[n])
    none, one = np.zeros(len(states), np.int64), np.ones(len(states), np.int64)
    logprobs = token_logprobs(logits, weights, tokens)
    return Draws(tokens, log_weights, logprobs, none, none, one, np.zeros(len(states)))


def greedy(streams: Streams, logits: F32, constraint: Constraint, states: I64, /) -> Draws:
    """The likeliest allowed token, the first of equals. Not properly weighted: log_weights are the allowed masses."""
    weights = weigh(logits)
    draws = masked(streams, logits, constraint, states)
    tokens = draws.tokens.copy()
    for n in np.flatnonzero(tokens >= 0).tolist():
        allowed = unpack(packed_mask(constraint, int(states[n]), logits.shape[1]), logits.shape[1])
        tokens[n] = np.where(allowed, logits[n], -np.inf).argmax()
    return draws._replace(tokens=tokens, logprobs=token_logprobs(logits, weights, tokens))


def likeliest(streams: Streams, logits: F32, /) -> Draws:
    """The likeliest token, the first of equals: `greedy` without a rule, as `unconstrained` is a draw without one."""
    draws = unconstrained(streams, logits)
    tokens = np.where(draws.tokens >= 0, logits.argmax(axis=1), DEAD_TOKEN)
    return draws._replace(tokens=tokens, logprobs=token_logprobs(logits, weigh(logits), tokens))


def packed_mask(constraint: Constraint, state: int, size: int) -> U32:
    """(ceil(V/32),) packed bits: the allowed tokens of a state; read-only."""
    if isinstance(constraint, AutomatonConstraint | Budget | Checked):
        return constraint.candidates(state)  # the mask itself
    mask = np.zeros(words(size), np.uint32)
    constraint.mask(state, mask)
    mask.flags.writeable = False  # as all masks are: kernels are compiled for one type
    return mask


def allowed_mass(weights: Weights, row: int, mask: U32) -> tuple[float, F64]:
    """The weights of the allowed tokens of a row: their sum, and the sums of their blocks."""
    blocks = np.empty(weights.blocks.shape[1])
    return masked_sums(weights.values[row], mask, blocks), blocks


def draw_allowed(logits: F32, weights: Weights, row: int, mask: U32, uniform: float) -> tuple[int, float]:
    """(token, log of the allowed mass in nats) of one row; (DEAD_TOKEN, -inf) if nothing is allowed."""
    mass, blocks = allowed_mass(weights, row, mask)
    if mass > TAIL:
        return draw_masked(weights.values[row], mask, blocks, uniform), math.log(mass / weights.total[row])
    token, log_mass = masked_draw(logits[row], mask, uniform)
    return token, log_mass - weights.log_normaliser(row) if token >= 0 else -math.inf
