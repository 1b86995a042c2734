"""Drawing from unnormalised weights without replacement, and adaptive weighted rejection sampling (AWRS).

A row of V float32 weights (the exponentials of logits, the largest being 1) is drawn from by inverse CDF over
blocks of BLOCK weights whose sums are kept in float64: no sort, no Gumbel keys. Removing a token sets its weight
to 0 and adds its block up anew, so no mass is ever found by subtraction, and rare tokens keep their precision.
"""

from __future__ import annotations

import math

from genctl.kernels.automaton import run_token
from genctl.kernels.compiled import inlined, kernel, summing_kernel, wide
from genctl.kernels.records import DEAD, F32, F64, I64, Bool, Machine, TokenBytes

BLOCK = 256

DONE, WAITING, MORE = 0, 1, 2  # status of a row: drawn (or dead), to be (further) drawn, uniforms are used up
ALLOWED, REFUSED = 1, 0


@summing_kernel
def block_sum(weights: F32, block: int) -> float:
    """Sum of one block of the (V,) weights, in float64."""
    total = 0.0
    for i in range(block * BLOCK, min((block + 1) * BLOCK, weights.shape[0])):
        total += float(weights[i])
    return total


@kernel
def block_sums(weights: F32, blocks: F64) -> None:
    """(N, V) weights -> blocks (N, ceil(V / BLOCK))."""
    for n in range(weights.shape[0]):
        for b in range(blocks.shape[1]):
            blocks[n, b] = block_sum(weights[n], b)


@summing_kernel
def total_mass(blocks: F64) -> float:
    total = 0.0
    for b in range(blocks.shape[0]):
        total += blocks[b]
    return total


@kernel
def draw(weights: F32, blocks: F64, uniform: float) -> int:
    """A token with probability proportional to its weight, by inverse CDF; -1 if no weight is left."""
    rest = uniform * total_mass(blocks)
    chosen = -1
    for b in range(blocks.shape[0]):
        if blocks[b] > 0.0:
            chosen = b  # rounding may carry rest past the end: then the last positive one is meant
            if rest < blocks[b]:
                break
            rest -= blocks[b]
    token = -1
    if chosen >= 0:
        for i in range(chosen * BLOCK, min((chosen + 1) * BLOCK, weights.shape[0])):
            if weights[i] > 0.0:
                token = i
                if rest < weights[i]:
                    break
                rest -= float(weights[i])
    return token


@kernel
def remove(weights: F32, blocks: F64, token: int) -> None:
    """Take the token out of what can be drawn."""
    weights[token] = 0.0
    blocks[token // BLOCK] = block_sum(weights, token // BLOCK)


@inlined
def check_token(machine: Machine, tokens: TokenBytes, state: int, token: int) -> int:
    """ALLOWED or REFUSED; MISS or FULL where the automaton cannot be built further by itself."""
    if tokens.eos[token]:
        return ALLOWED if machine.accepting[state] else REFUSED
    if tokens.offset[token] == tokens.offset[token + 1]:
        return REFUSED
    target = run_token(machine, tokens, state, token)
    if target < 0:
        return target
    return REFUSED if target == DEAD else ALLOWED


@kernel
def check_tokens(machine: Machine, tokens: TokenBytes, states: I64, candidates: I64, verdicts: I64, done: int) -> int:
    """`check_token` of the (K,) pairs from number `done` on; K, or the number of the one that has to wait.

    A verdict below 0 is the status to extend the automaton with.
    """
    while done < candidates.shape[0]:
        verdicts[done] = check_token(machine, tokens, wide(states[done]), wide(candidates[done]))
        if verdicts[done] < 0:
            break
        done += 1
    return done


@inlined
def awrs_row(
    weights: F32,
    blocks: F64,
    machine: Machine,
    tokens: TokenBytes,
    state: int,
    uniforms: F64,
    work: I64,
    mass: F64,
    tail: float,
) -> int:
    """One token by the recursive estimator of AWRS (arXiv 2504.05410); returns a status.

    work: (draws made, accepted token or -1, tokens checked, what the automaton has to be extended with);
    mass: (weight of the accepted token, mass not refused when it was accepted, importance mass).
    Called again with the same work and mass when WAITING, it goes on where it stopped. At DONE the importance
    weight is mass[2] over the row's total mass before the first call. Unbiased: with R the mass not refused so
    far, accepting x is worth R if the next draw without replacement is allowed too, and w(x) if it is not, since
    E f = q f(x) + (1 - q) E[f | not x] with q = w(x) / R. MORE: the uniforms are used up, or less than tail is
    left, and nothing was accepted.
    """
    while work[0] < uniforms.shape[0]:
        if work[1] < 0 and (work[0] == uniforms.shape[0] - 1 or total_mass(blocks) < tail):
            return MORE  # the last uniform is kept for the draw after an acceptance
        token = draw(weights, blocks, uniforms[work[0]])
        if token < 0:
            mass[2] = mass[1]
            return DONE
        verdict = check_token(machine, tokens, state, token)
        if verdict < 0:
            work[3] = verdict
            return WAITING
        work[0] += 1
        work[2] += 1
        if work[1] >= 0:
            mass[2] = mass[1] if verdict == ALLOWED else mass[0]
            return DONE
        if verdict == ALLOWED:
            work[1] = token
            mass[0] = weights[token]
            mass[1] = total_mass(blocks)
        remove(weights, blocks, token)
    return MORE


@kernel
def awrs(
    weights: F32,
    blocks: F64,
    machine: Machine,
    tokens: TokenBytes,
    states: I64,
    uniforms: F64,
    work: I64,
    mass: F64,
    status: I64,
    tail: float,
) -> int:
    """`awrs_row` on each of the N rows whose status is WAITING. 0, or what the automaton has to be extended with."""
    for n in range(states.shape[0]):
        if status[n] == WAITING:
            status[n] = awrs_row(weights[n], blocks[n], machine, tokens, states[n], uniforms[n], work[n], mass[n], tail)
            if status[n] == WAITING:
                return wide(work[n, 3])
    return 0


@kernel
def masked_draw(logits: F32, mask: Bool, uniform: float) -> tuple[int, float]:
    """(token, log of the allowed mass) of one (V,) row; (-1, -inf) if no allowed token has a finite logit.

    mask: (V,) bool. In float64 relative to the largest allowed logit, so no mass is too small.
    """
    top = -math.inf
    for i in range(logits.shape[0]):
        if mask[i] and logits[i] > top:
            top = float(logits[i])
    if top == -math.inf:
        return -1, -math.inf
    total = 0.0
    for i in range(logits.shape[0]):
        if mask[i]:
            total += math.exp(float(logits[i]) - top)
    rest = uniform * total
    token = -1
    for i in range(logits.shape[0]):
        if mask[i] and logits[i] > -math.inf:
            token = i
            rest -= math.exp(float(logits[i]) - top)
            if rest < 0.0:
                break
    return token, top + math.log(total)
