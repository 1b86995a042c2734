"""Adaptive weighted rejection sampling (Lipkin et al. 2025, arXiv 2504.05410): check only what the model would draw.

    draws = awrs(rng, logits, constraint, states)
    draws.checks                             # a handful, where a mask tests every token of the vocabulary

Tokens are drawn without replacement until one is allowed; one more draw makes the weight an unbiased estimate of
the allowed mass (kernels/rejection.py has the estimator and its proof). Where very many tokens were refused, the
row is drawn from its mask instead: the recursion may be cut by any properly weighted draw of its tail, and all
that was refused is outside the mask, so the weight is the allowed mass itself.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from genctl.constraints.automaton import AutomatonConstraint
from genctl.constraints.base import Constraint, unpack
from genctl.constraints.budget import Budget
from genctl.constraints.checked import Checked
from genctl.kernels import rejection
from genctl.kernels.records import F32, F64, I64
from genctl.samplers.base import DEAD_TOKEN, Draws, Weights, token_logprobs, weigh
from genctl.samplers.masked import TAIL, allowed_row, draw_allowed

REJECTS = 128  # refused tokens after which a compiled constraint is asked for its mask
PATIENCE = 8  # refused tokens after which other constraints are asked for their candidates


def awrs(rng: Generator, logits: F32, constraint: Constraint, states: I64, /) -> Draws:
    """A TokenSampler; automata are checked inside the kernel, other constraints token by token."""
    weights = weigh(logits)
    if isinstance(constraint, AutomatonConstraint | Budget | Checked):
        tokens, log_weights, checks = _by_kernel(rng, logits, weights, constraint, states)
    else:
        rows = [_one_by_one(rng, logits, weights, n, constraint, s) for n, s in enumerate(states.tolist())]
        tokens = np.array([row[0] for row in rows], np.int64)
        log_weights = np.array([row[1] for row in rows], np.float64)
        checks = np.array([row[2] for row in rows], np.int64)
    return Draws(tokens, log_weights, token_logprobs(logits, weights, tokens), checks)


class Run(NamedTuple):
    """What the kernel did for N rows; see `awrs_row` for the columns of work and mass."""

    uniforms: F64
    work: I64
    mass: F64
    status: I64


def _by_kernel(
    rng: Generator, logits: F32, weights: Weights, constraint: AutomatonConstraint | Budget | Checked, states: I64
) -> tuple[I64, F64, I64]:
    """(tokens, log-weights, checks). A budget, and checks, are asked afterwards about what the kernel drew under their
    language.

    The language refuses nothing that they allow, so what was refused before the accepted token stays so.
    """
    run = _run_kernel(rng, weights, *_language(constraint, states))
    chosen, checks = run.work[:, 1].copy(), run.work[:, 2].copy()
    log_weights = np.full(len(states), -np.inf)
    drawn = run.status == rejection.DONE
    log_weights[drawn] = np.log(run.mass[drawn, 2]) - np.log(weights.total[drawn])
    for n in np.flatnonzero(run.status == rejection.MORE).tolist():
        chosen[n], log_weights[n] = _by_mask(rng, logits, weights, n, constraint, int(states[n]))
    if not isinstance(constraint, AutomatonConstraint):
        for n in np.flatnonzero(drawn).tolist():
            state = int(states[n])
            if not constraint.allows(state, int(chosen[n])):
                # The kernel has taken the token out already: the recursion goes on from there.
                chosen[n], log_weights[n], more = _one_by_one(rng, logits, weights, n, constraint, state)
                checks[n] += more
            elif not _allows_second(constraint, state, weights, run, n):
                log_weights[n] += np.log(run.mass[n, 0]) - np.log(run.mass[n, 2])
    return chosen, log_weights, checks


def _language(constraint: AutomatonConstraint | Budget | Checked, states: I64) -> tuple[AutomatonConstraint, I64]:
    """What a budget and checks are around, and its states."""
    while not isinstance(constraint, AutomatonConstraint):
        states, constraint = constraint.inner_states(states), constraint.constraint
    return constraint, states


def _run_kernel(rng: Generator, weights: Weights, constraint: AutomatonConstraint, states: I64) -> Run:
    """The kernel stops where the automaton is not built yet, and goes on after."""
    n_rows = len(states)
    uniforms = rng.random((n_rows, REJECTS + 2))
    work = np.zeros((n_rows, 4), np.int64)
    work[:, 1] = DEAD_TOKEN
    mass = np.zeros((n_rows, 3))
    status = np.full(n_rows, rejection.WAITING, np.int64)
    automaton, tokens = constraint.automaton, constraint.token_bytes
    constraint.make_room()
    while lacking := rejection.awrs(
        weights.values, weights.blocks, automaton.machine, tokens, states, uniforms, work, mass, status, TAIL
    ):
        automaton.extend(lacking)
    return Run(uniforms, work, mass, status)


def _allows_second(constraint: Budget | Checked, state: int, weights: Weights, run: Run, row: int) -> bool:
    """The kernel's draw after the one it accepted, once more: it stopped there, with the weights as they were."""
    second = rejection.draw(weights.values[row], weights.blocks[row], run.uniforms[row, run.work[row, 0] - 1])
    return second < 0 or constraint.allows(state, second)


def _by_mask(
    rng: Generator, logits: F32, weights: Weights, row: int, constraint: Constraint, state: int
) -> tuple[int, float]:
    """The exact tail. The row's weights were used up, but the mask and the logits are all that is needed."""
    allowed = allowed_row(constraint, state, logits.shape[1])
    fresh = weigh(logits[row : row + 1])
    return draw_allowed(logits[row : row + 1], fresh, 0, allowed, rng.random())


def _one_by_one(
    rng: Generator, logits: F32, weights: Weights, row: int, constraint: Constraint, state: int
) -> tuple[int, float, int]:
    """(token, log-weight, checks) of one row: the kernel's recursion with checks in Python."""
    values, blocks, total = weights.values[row], weights.blocks[row], weights.total[row]
    accepted, weight, left, checks = DEAD_TOKEN, 0.0, 0.0, 0
    while True:
        if accepted < 0 and blocks.sum() < TAIL:
            return *_by_mask(rng, logits, weights, row, constraint, state), checks
        token = rejection.draw(values, blocks, rng.random())
        if token < 0:
            return accepted, math.log(left / total), checks
        allowed = constraint.allows(state, token)
        checks += 1
        if accepted >= 0:
            return accepted, math.log((left if allowed else weight) / total), checks
        if allowed:
            accepted, weight, left = token, float(values[token]), float(blocks.sum())
        rejection.remove(values, blocks, token)
        if checks == PATIENCE and accepted < 0:
            _keep_candidates(constraint, state, values, weights.blocks[row : row + 1])


def _keep_candidates(constraint: Constraint, state: int, values: F32, blocks: F64) -> None:
    """Refuse at once all that a cheap mask refuses; taking out refused tokens never changes the estimate's mean."""
    candidates = constraint.candidates(state)
    if candidates is not None:
        values[~unpack(candidates, len(values))] = 0.0
        rejection.block_sums(values[None], blocks)
