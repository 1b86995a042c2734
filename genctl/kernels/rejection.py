"""Drawing from unnormalised weights without replacement, and adaptive weighted rejection sampling (AWRS).

A row of V float32 weights (the exponentials of logits, the largest being 1) is drawn from by inverse CDF over
blocks of BLOCK weights whose sums are kept in float64: no sort, no Gumbel keys. Removing a token sets its weight
to 0 and adds its block up anew, so no mass is ever found by subtraction, and rare tokens keep their precision.

A row is a coroutine: the kernel returns where it needs what it cannot do, and is called again with the same arrays.
"""

from __future__ import annotations

import math

import numpy as np

from genctl.kernels.automaton import run_token
from genctl.kernels.compiled import contracting_kernel, inlined, kernel, summing_kernel, wide, wrapping
from genctl.kernels.records import DEAD, F32, F64, I64, U32, U64, Machine, TokenBytes

BLOCK = 256
WORDS = BLOCK // 32  # of a packed mask over a block

# exp(x) for x <= 0 in float32: x = k log 2 + r, exp(r) by the polynomial of Cephes' expf, relative error 1e-7.
LOG2_E, LOG2_HIGH, LOG2_LOW = np.float32(1.44269504), np.float32(0.693359375), np.float32(-2.12194440e-4)
C0, C1, C2 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
C3, C4, C5 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)
LEAST = np.float32(-88.0)  # k is -127 there, and 2**k written as 0
ZERO, HALF, ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)

# SplitMix64 (Steele, Lea & Flood 2014).
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
FIRST_FACTOR, SECOND_FACTOR = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)

# Status of a row: drawn (or dead), to be drawn further, asks for verdicts, has them, better drawn from its mask, has a
# token whose weight is better found from the mask.
DONE, WAITING, ASKS, ANSWERED, CUT, NO_MASS = range(6)
ALLOWED, REFUSED, UNKNOWN = 1, 0, -1
NEVER = 2**62

# Columns of a row's work. CUT_AT: refused tokens after which it is better drawn from its mask. USED: of the uniforms.
USED, CHOSEN, CHECKS, ACCEPTED, REFUSALS, BEHIND, PENDING, LACKING, CUT_AT = range(9)
# Columns of a row's mass. TOTAL: before the first draw; SEEN: of allowed tokens; ESTIMATE: of all that is allowed, and
# LOG_WEIGHT what it says of a row that is done.
TOTAL, SEEN, ESTIMATE, SHARE, SPREAD, REJECTIONS, LOG_WEIGHT = range(7)
# Fields of a plan. ASKING: 1 what the automaton allows is asked, 2 everything is; AHEAD: draws that are asked at once;
# MASKS: weights come from the mask, unless hardly anything is left behind the accepted token.
GEOMETRIC, TAIL, MAX_ACCEPTS, MAX_REJECTS, ASKING, AHEAD, MASKS = range(7)
# Columns of what is asked, in two tables (N, AHEAD, 2).
TOKEN, VERDICT = range(2)
WEIGHT, LEFT = range(2)

BY_KEY = -1.0  # in place of a row's first number: it is the one of the row's stream
NEAR = 0.05  # untested over allowed mass: one more draw is enough


@summing_kernel
def block_sum(weights: F32, block: int) -> float:
    """Sum of one block of the (V,) weights, in float64."""
    part, total = weights[block * BLOCK : (block + 1) * BLOCK], 0.0
    if part.shape[0] == BLOCK:
        for i in range(BLOCK):  # a number that the compiler knows: it takes an eighth of the time
            total += float(part[i])
    else:
        for i in range(part.shape[0]):
            total += float(part[i])
    return total


@summing_kernel
def total_mass(blocks: F64) -> float:
    total = 0.0
    for b in range(blocks.shape[0]):
        total += blocks[b]
    return total


@kernel
def block_sums(weights: F32, blocks: F64) -> None:
    """(N, V) weights -> blocks (N, ceil(V / BLOCK))."""
    for n in range(weights.shape[0]):
        for b in range(blocks.shape[1]):
            blocks[n, b] = block_sum(weights[n], b)


@contracting_kernel
def exponentials(logits: F32, top: float, values: F32) -> None:
    """values (V,) = exp(logits (V,) - top), 0 below exp(-88)."""
    for i in range(logits.shape[0]):
        x = max(logits[i] - top, LEAST)
        k = np.int32(x * LOG2_E - HALF)
        r = x - np.float32(k) * LOG2_HIGH - np.float32(k) * LOG2_LOW
        p = ((((C0 * r + C1) * r + C2) * r + C3) * r + C4) * r + C5
        values[i] = (p * r * r + r + ONE) * np.int32((k + 127) << 23).view(np.float32)


@kernel
def weigh_rows(logits: F32, top: F32, values: F32, blocks: F64, total: F64) -> None:
    """values (N, V) = exp(logits - top (N,)), blocks (N, ceil(V / BLOCK)) the sums of their blocks, total (N,)."""
    for n in range(logits.shape[0]):  # apart, since one loop would not be turned into vector instructions
        exponentials(logits[n], top[n], values[n])
        for b in range(blocks.shape[1]):
            blocks[n, b] = block_sum(values[n], b)
        total[n] = total_mass(blocks[n])


@inlined
def is_set(mask: U32, token: int) -> bool:
    return bool(wide(mask[token >> 5]) >> (token & 31) & 1)


@summing_kernel
def masked_sums(weights: F32, mask: U32, blocks: F64) -> float:
    """(V,) weights -> blocks (ceil(V / BLOCK),), the sums of those whose bit in the packed mask is set; their total."""
    whole = weights.shape[0] // BLOCK
    kept, words = np.empty(BLOCK, np.float32), mask.view(np.int32)
    for b in range(whole):
        found, total = np.uint32(0), 0.0
        for word in range(WORDS):
            found |= mask[b * WORDS + word]
        if found:  # of most blocks of a narrow mask nothing
            for word in range(WORDS):  # slices and two loops, so that vector instructions can be used
                bits, first = words[b * WORDS + word], b * BLOCK + 32 * word
                part, allowed = weights[first : first + 32], kept[32 * word : 32 * word + 32]
                for i in range(32):
                    weight = part[i]
                    allowed[i] = weight if bits >> np.int32(i) & np.int32(1) else ZERO
            for i in range(BLOCK):
                total += float(kept[np.uint64(i)])
        blocks[b] = total
    if whole < blocks.shape[0]:
        blocks[whole] = 0.0
    for i in range(whole * BLOCK, weights.shape[0]):
        if is_set(mask, i):
            blocks[whole] += float(weights[i])
    return total_mass(blocks)


@kernel
def chosen_block(blocks: F64, uniform: float) -> tuple[int, float]:
    """The block that a draw falls into, -1 if none has mass, and how far into it (by rounding, past its end)."""
    rest = uniform * total_mass(blocks)
    chosen = -1
    for b in range(blocks.shape[0]):
        if blocks[b] > 0.0:
            chosen = b
            if rest < blocks[b]:
                break
            rest -= blocks[b]
    return chosen, rest


@kernel
def draw_masked(weights: F32, mask: U32, blocks: F64, uniform: float) -> int:
    """`draw` among the tokens of a packed mask; blocks: their `masked_sums`."""
    chosen, rest = chosen_block(blocks, uniform)
    token = -1
    if chosen >= 0:
        for i in range(chosen * BLOCK, min((chosen + 1) * BLOCK, weights.shape[0])):
            if weights[i] > 0.0 and is_set(mask, i):
                token = i
                if rest < weights[i]:
                    break
                rest -= float(weights[i])
    return token


@wrapping(kernel)
def uniform_at(key: int, place: int) -> float:
    """Number `place` of a stream (samplers/streams.py) by its key, a uint64."""
    z = key + (np.uint64(place) + np.uint64(2)) * GOLDEN
    z = (z ^ (z >> np.uint64(30))) * FIRST_FACTOR
    z = (z ^ (z >> np.uint64(27))) * SECOND_FACTOR
    z = z ^ (z >> np.uint64(31))
    return float(z >> np.uint64(11)) * 2.0**-53


@kernel
def draw(weights: F32, blocks: F64, uniform: float) -> int:
    """A token with probability proportional to its weight, by inverse CDF; -1 if no weight is left."""
    chosen, rest = chosen_block(blocks, uniform)
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
    estimate is a mean of such values, whose shares are settled before their draws: they grow with the number of the
    draw, since less and less is left, and where hardly anything is, the next one has all that remains. With TAIL = 1
    this is the recursive estimator of AWRS (arXiv 2504.05410). At MAX_REJECTS - 1 refusals one plain draw ends the row.
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
    number, rest = wide(work[BEHIND]), plan[TAIL] - work[BEHIND]
    share = mass[SHARE]
    if rest > 0 and left > NEAR * mass[SEEN]:
        share *= 2.0 * number / ((number + plan[TAIL]) * (rest + 1))
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
def judged(
    weights: F32,
    blocks: F64,
    work: I64,
    mass: F64,
    plan: I64,
    token: int,
    weight: float,
    left: float,
    allowed: bool,
) -> bool:
    """`judge` by the plan's estimator. With replacement only refused tokens leave what can be drawn."""
    if not plan[GEOMETRIC]:
        return judge(work, mass, plan, token, weight, left, allowed)
    if not allowed:
        remove(weights, blocks, token)
    return judge_with_replacement(work, mass, plan, token, allowed)


@kernel
def judge_answers(weights: F32, blocks: F64, work: I64, mass: F64, asked: I64, masses: F64, plan: I64) -> bool:
    """`judged` of the tokens that were asked about, whose verdicts are there now; is the row's estimate finished?"""
    for i in range(work[PENDING]):
        token, allowed = wide(asked[i, TOKEN]), asked[i, VERDICT] == ALLOWED
        if judged(weights, blocks, work, mass, plan, token, masses[i, WEIGHT], masses[i, LEFT], allowed):
            return True
    work[PENDING] = 0
    return False


@kernel
def put_question(
    work: I64, mass: F64, asked: I64, masses: F64, plan: I64, token: int, weight: float, left: float, allowed: bool
) -> bool:
    """Ask about a token, unless the automaton has refused it; are there enough questions for one call?

    There are where the row cannot need more, or may need no more: if all of them are allowed, hardly anything is left.
    """
    i = wide(work[PENDING])
    asked[i, TOKEN] = token
    asked[i, VERDICT] = UNKNOWN if allowed else REFUSED
    masses[i, WEIGHT] = weight
    masses[i, LEFT] = left
    work[PENDING] += 1
    most = wide(plan[AHEAD]) if work[CHOSEN] < 0 else plan[TAIL] - work[BEHIND]
    return bool(i + 1 >= min(most, wide(plan[AHEAD])) or left <= NEAR * (mass[SEEN] + masses[0, LEFT] - left))


@kernel
def awrs_row(
    weights: F32,
    blocks: F64,
    machine: Machine,
    tokens: TokenBytes,
    state: int,
    key: int,
    first: float,
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
    mask: all that was refused is outside, so the law stays. NO_MASS: the token is drawn, and mass[SEEN] plus the masked
    weights that are left is the allowed mass. key: of the row's stream of uniforms; first: number 0 of it, or BY_KEY.
    """
    if status == ANSWERED and judge_answers(weights, blocks, work, mass, asked, masses, plan):
        return DONE
    while True:
        left = total_mass(blocks)
        if work[CHOSEN] < 0 and work[PENDING] == 0 and (work[REFUSALS] >= work[CUT_AT] or left < tail):
            return CUT
        if plan[MASKS] and work[CHOSEN] >= 0 and left > NEAR * mass[SEEN]:
            return NO_MASS
        uniform = first if work[USED] == 0 and first != BY_KEY else uniform_at(key, work[USED])
        token = draw(weights, blocks, uniform)
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
            repeat_rejections(mass, left, uniform_at(key, work[USED]))
            work[USED] += 1
            if close_with_replacement(work, mass, plan):
                return DONE
        weight = np.float64(weights[token])
        if not plan[GEOMETRIC]:
            remove(weights, blocks, token)
        if work[PENDING] > 0 or (verdict == ALLOWED and plan[ASKING]):
            if put_question(work, mass, asked, masses, plan, token, weight, left, verdict == ALLOWED):
                return ASKS
        elif judged(weights, blocks, work, mass, plan, token, weight, left, verdict == ALLOWED):
            return DONE


@kernel
def awrs(
    weights: F32,
    blocks: F64,
    machine: Machine,
    tokens: TokenBytes,
    states: I64,
    keys: U64,
    spread: F64,
    work: I64,
    mass: F64,
    asked: I64,
    masses: F64,
    plan: I64,
    status: I64,
    tail: float,
) -> int:
    """`awrs_row` on each of the N rows that can go on. 0, or what the automaton has to be extended with.

    mass[LOG_WEIGHT] is -inf until a row is DONE with a token. spread: (N, 2), first numbers in column 0, or (0, 2).
    """
    for n in range(states.shape[0]):
        if status[n] == WAITING or status[n] == ANSWERED:
            status[n] = awrs_row(
                weights[n],
                blocks[n],
                machine,
                tokens,
                states[n],
                keys[n],
                spread[n, 0] if spread.shape[0] > 0 else BY_KEY,
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
            if status[n] == DONE and work[n, CHOSEN] >= 0 and mass[n, ESTIMATE] > 0.0:
                mass[n, LOG_WEIGHT] = math.log(mass[n, ESTIMATE]) - math.log(mass[n, TOTAL])
    return 0


@kernel
def masked_draw(logits: F32, mask: U32, uniform: float) -> tuple[int, float]:
    """(token, log of the allowed mass) of one (V,) row; (-1, -inf) if no allowed token has a finite logit.

    mask: packed bits. In float64 relative to the largest allowed logit, so no mass is too small.
    """
    top = -math.inf
    for i in range(logits.shape[0]):
        if is_set(mask, i) and logits[i] > top:
            top = float(logits[i])
    if top == -math.inf:
        return -1, -math.inf
    total = 0.0
    for i in range(logits.shape[0]):
        if is_set(mask, i):
            total += math.exp(float(logits[i]) - top)
    rest = uniform * total
    token = -1
    for i in range(logits.shape[0]):
        if is_set(mask, i) and logits[i] > -math.inf:
            token = i
            rest -= math.exp(float(logits[i]) - top)
            if rest < 0.0:
                break
    return token, top + math.log(total)
