"""Drawing from unnormalised weights without replacement, and adaptive weighted rejection sampling (AWRS).

A row of V float32 weights (the exponentials of logits, the largest being 1) is drawn from by inverse CDF over
blocks of BLOCK weights whose sums are kept in float64: no sort, no Gumbel keys. Removing a token sets its weight
to 0 and adds its block up anew, so no mass is ever found by subtraction, and rare tokens keep their precision.

A row is a coroutine: the kernel returns where it needs what it cannot do, and is called again with the same arrays.
"""

from __future__ import annotations

import math

from genctl.kernels.automaton import run_token
from genctl.kernels.compiled import inlined, kernel, summing_kernel, wide
from genctl.kernels.records import DEAD, F32, F64, I64, Bool, Machine, TokenBytes

BLOCK = 256

# Status of a row: drawn (or dead), to be drawn further, asks for verdicts, has them, better drawn from its mask, needs
# uniforms.
DONE, WAITING, ASKS, ANSWERED, CUT, DRY = range(6)
ALLOWED, REFUSED, UNKNOWN = 1, 0, -1
NEVER = 2**62

# Columns of a row's work. CUT_AT: refused tokens after which it is better drawn from its mask. USED: of the uniforms.
USED, CHOSEN, CHECKS, ACCEPTED, REFUSALS, BEHIND, PENDING, LACKING, CUT_AT = range(9)
# Columns of a row's mass. TOTAL: before the first draw; SEEN: of allowed tokens; ESTIMATE: of all that is allowed.
TOTAL, SEEN, ESTIMATE, SHARE, SPREAD, REJECTIONS = range(6)
# Fields of a plan. ASKING: 1 what the automaton allows is asked, 2 everything is; AHEAD: draws that are asked at once.
GEOMETRIC, TAIL, MAX_ACCEPTS, MAX_REJECTS, ASKING, AHEAD = range(6)
# Columns of what is asked, in two tables (N, AHEAD, 2).
TOKEN, VERDICT = range(2)
WEIGHT, LEFT = range(2)

NEAR = 0.05  # untested over allowed mass: one more draw is enough


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


@kernel
def judge(work: I64, mass: F64, plan: I64, token: int, weight: float, left: float, allowed: bool) -> bool:
    """Take note of the next token of the drawing order; is the row's estimate finished?

    weight: the token's; left: of all that was not drawn before it. Until a token is allowed its predecessors only
    leave the sum. Behind the accepted one, with a the allowed mass seen so far, each further draw y gives the value
    a + left [y is allowed], whose mean is the whole allowed mass whatever was drawn before (Des Raj 1956). The
    estimate is a mean of such values, whose shares are settled before their draws; the first half of the TAIL draws
    only lessens what is left, unless hardly anything is. With TAIL = 1 this is the recursive estimator of AWRS (arXiv
    2504.05410). At MAX_REJECTS - 1 refusals one plain draw ends the row.
    """
    work[CHECKS] += 1
    if allowed:
        work[ACCEPTED] += 1
    if work[CHOSEN] < 0:
        if not allowed:
            work[REFUSALS] += 1
            return wide(work[REFUSALS]) == wide(plan[MAX_REJECTS])
        work[CHOSEN] = token
        mass[SEEN] = weight
        mass[SHARE] = 1.0
        if wide(work[REFUSALS]) == plan[MAX_REJECTS] - 1:
            mass[ESTIMATE] = left
            mass[SPREAD] = left * left
            return True
        return False
    work[BEHIND] += 1
    rest = plan[TAIL] - work[BEHIND]
    share = 0.0
    if rest <= 0 or left <= NEAR * mass[SEEN]:
        share = mass[SHARE]
    elif wide(work[BEHIND]) > plan[TAIL] // 2:
        share = mass[SHARE] / (rest + 1)
    mass[ESTIMATE] += share * (mass[SEEN] + (left if allowed else 0.0))
    mass[SPREAD] += (share * left) ** 2
    if allowed:
        mass[SEEN] += weight
    mass[SHARE] -= share
    return bool(rest <= 0 or mass[SHARE] <= 0.0)


@kernel
def judge_with_replacement(work: I64, mass: F64, plan: I64, token: int, allowed: bool) -> bool:
    """The same for draws with replacement, which stop at MAX_ACCEPTS allowed ones or MAX_REJECTS refused ones.

    The estimate is the chance of the first draw to be allowed, given how many were: (K - 1) / (n - 1) of n draws that
    stopped at the K-th allowed one (Haldane 1945), a / (n - 1) of those with a allowed ones that stopped otherwise.
    """
    work[CHECKS] += 1
    if allowed:
        work[ACCEPTED] += 1
        if work[CHOSEN] < 0:
            work[CHOSEN] = token
    else:
        work[REFUSALS] += 1
        mass[REJECTIONS] += 1.0
    return close_with_replacement(work, mass, plan)


@kernel
def close_with_replacement(work: I64, mass: F64, plan: I64) -> bool:
    accepted, rejected = wide(work[ACCEPTED]), mass[REJECTIONS]
    if plan[MAX_REJECTS] < NEVER:
        rejected = min(rejected, float(plan[MAX_REJECTS]))
    if accepted < plan[MAX_ACCEPTS] and (rejected < plan[MAX_REJECTS] or plan[MAX_REJECTS] == NEVER):
        return False
    if accepted > 0:
        counted = min(plan[MAX_ACCEPTS] - 1, accepted)
        mass[ESTIMATE] = mass[TOTAL] * counted / (accepted + rejected - 1)
    return True


@kernel
def repeat_rejections(mass: F64, left: float, uniform: float) -> None:
    """With replacement, refused tokens come again: so often before the next token that was not refused yet."""
    chance = left / mass[TOTAL]
    if chance < 1.0:
        mass[REJECTIONS] += (math.log1p(-uniform) / math.log1p(-chance)) // 1.0  # it may not fit an integer


@kernel
def awrs_row(
    weights: F32,
    blocks: F64,
    machine: Machine,
    tokens: TokenBytes,
    state: int,
    uniforms: F64,
    work: I64,
    mass: F64,
    asked: I64,
    masses: F64,
    plan: I64,
    tail: float,
    status: int,
) -> int:
    """One token, and an estimate of the allowed mass; returns a status.

    WAITING: the automaton has to be extended with work[LACKING]. ASKS: asked[: work[PENDING]] has tokens whose verdict
    is UNKNOWN. CUT: so many tokens were refused, or so little is left (tail), that the row should be drawn from its
    mask: all that was refused is outside, so the law stays. DRY: all uniforms are used.
    """
    for i in range(work[PENDING] if status == ANSWERED else 0):
        token, allowed = wide(asked[i, TOKEN]), asked[i, VERDICT] == ALLOWED
        if plan[GEOMETRIC]:
            if not allowed:
                remove(weights, blocks, token)
            if judge_with_replacement(work, mass, plan, token, allowed):
                return DONE
        elif judge(work, mass, plan, token, masses[i, WEIGHT], masses[i, LEFT], allowed):
            return DONE
    if status == ANSWERED:
        work[PENDING] = 0
    while True:
        left = total_mass(blocks)
        if work[CHOSEN] < 0 and work[PENDING] == 0 and (work[REFUSALS] >= work[CUT_AT] or left < tail):
            return CUT
        if work[USED] + 2 > uniforms.shape[0]:
            return ASKS if work[PENDING] > 0 else DRY
        token = draw(weights, blocks, uniforms[work[USED]])
        if token < 0:
            if work[PENDING] > 0:
                return ASKS
            mass[ESTIMATE] += mass[SHARE] * mass[SEEN]
            return DONE
        verdict = ALLOWED if plan[ASKING] > 1 else check_token(machine, tokens, state, token)
        if verdict < 0:
            work[LACKING] = verdict
            return WAITING
        work[USED] += 1
        if plan[GEOMETRIC] and work[REFUSALS] > 0:
            repeat_rejections(mass, left, uniforms[work[USED]])
            work[USED] += 1
            if close_with_replacement(work, mass, plan):
                return DONE
        weight = float(weights[token])
        if not plan[GEOMETRIC] or verdict == REFUSED:
            remove(weights, blocks, token)
        if work[PENDING] > 0 or (verdict == ALLOWED and plan[ASKING]):
            i = wide(work[PENDING])
            asked[i, TOKEN] = token
            asked[i, VERDICT] = UNKNOWN if verdict == ALLOWED else REFUSED
            masses[i, WEIGHT] = weight
            masses[i, LEFT] = left
            work[PENDING] += 1
            if wide(work[PENDING]) == plan[AHEAD]:
                return ASKS
        elif plan[GEOMETRIC]:
            if judge_with_replacement(work, mass, plan, token, verdict == ALLOWED):
                return DONE
        elif judge(work, mass, plan, token, weight, left, verdict == ALLOWED):
            return DONE


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
    asked: I64,
    masses: F64,
    plan: I64,
    status: I64,
    tail: float,
) -> int:
    """`awrs_row` on each of the N rows that can go on. 0, or what the automaton has to be extended with."""
    for n in range(states.shape[0]):
        if status[n] == WAITING or status[n] == ANSWERED:
            status[n] = awrs_row(
                weights[n],
                blocks[n],
                machine,
                tokens,
                states[n],
                uniforms[n],
                work[n],
                mass[n],
                asked[n],
                masses[n],
                plan,
                tail,
                wide(status[n]),
            )
            if status[n] == WAITING:
                return wide(work[n, LACKING])
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
