"""Sequential Monte Carlo: N weighted prefixes a prompt, extended token by token, resampled when few carry weight.

    cloud = start(model, [model.encode(prompt)], [constraint], particles=16)
    while cloud.running.any():
        cloud = step(rng, cloud, model, [constraint], settings)
    log_mean_exp(cloud.log_weights)          # estimates log Z, the log-probability of the rule, at any time

G prompts run together, each with its own N particles and its own constraint; rows g N .. (g + 1) N - 1 belong to
prompt g. The target is the model's law of finished texts of at most T tokens, times the potentials of the
constraint, restricted to texts that obey. A particle whose text is complete after T tokens is closed by the
end-of-text token and weighted with its probability; any other is cut, with weight -inf. A constraint that is held
to its budget (constraints/budget.py) leaves none to be cut. Without a constraint a text is cut as it is, and keeps
its weight.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
from numpy.random import Generator

from genctl.constraints.base import Constraint
from genctl.kernels.records import F32, F64, I64, Bool
from genctl.models.base import LanguageModel, Logits, host_logits
from genctl.samplers.base import Draws, TokenSampler, unconstrained, weigh

M = TypeVar("M")

RUNNING, COMPLETE, CUT, DEAD = 0, 1, 2, 3  # status of a particle


@dataclass(frozen=True)
class Settings:
    """How particles are moved. hooks change the logits, and with them the target."""

    sampler: TokenSampler
    resample: Callable[[Generator, F64], I64]
    ess_threshold: float  # resample when the effective sample size falls below this share of N
    max_new_tokens: int
    hooks: Sequence[Callable[[F32], F32]] = ()


@dataclass(frozen=True)
class Particles(Generic[M]):
    """R = G N weighted prefixes. The model's state and logits have a row for each running particle, in order.

    Invariant: the mean of exp(log_weights) of a prompt estimates its evidence, before and after resampling.
    """

    tokens: tuple[tuple[int, ...], ...]  # R
    log_weights: F64  # (R,) nats
    logprobs: F64  # (R,) nats, of the tokens and the end under the model
    potentials: F64  # (R,) nats, the constraint's potential that log_weights already contain
    states: I64  # (R,) of the constraint
    status: I64  # (R,)
    size: int  # N
    state: M
    logits: Logits
    steps: int = 0
    checks: int = 0
    resamplings: int = 0
    wanted: tuple[tuple[int, float], ...] = ()  # (token, probability) that the model preferred at the last dead end

    @property
    def running(self) -> Bool:
        running: Bool = self.status == RUNNING
        return running

    def groups(self) -> list[slice]:
        return [slice(first, first + self.size) for first in range(0, len(self.status), self.size)]


def log_mean_exp(log_weights: F64) -> float:
    """log of the mean of exp; -inf if all are."""
    top = float(np.max(log_weights))
    return top if top == -math.inf else top + math.log(float(np.mean(np.exp(log_weights - top))))


def normalised(log_weights: F64) -> F64:
    """(N,) weights summing to 1; all 0 if every particle is dead."""
    top = np.max(log_weights)
    if top == -np.inf:
        return np.zeros(len(log_weights))
    weights: F64 = np.exp(log_weights - top)
    weights /= weights.sum()
    return weights


def effective_sample_size(log_weights: F64) -> float:
    """(sum w)^2 / sum w^2, between 1 and N; 0 if every particle is dead (Kong, Liu & Wong 1994)."""
    weights = normalised(log_weights)
    return 0.0 if not weights.any() else float(1.0 / np.sum(weights**2))


def start(
    model: LanguageModel[M], prompts: Sequence[Sequence[int]], constraints: Sequence[Constraint | None], size: int
) -> Particles[M]:
    """N particles at the end of each prompt; every prompt is read by the model once."""
    logits, state = model.prefill(prompts)
    rows = np.repeat(np.arange(len(prompts)), size)
    states = np.repeat([c.start() if c else 1 for c in constraints], size)
    potentials = np.repeat([c.log_potential(c.start(), done=False) if c else 0.0 for c in constraints], size)
    status = np.where(states == 0, DEAD, RUNNING)
    alive = rows[status == RUNNING]
    return Particles(
        tokens=((),) * len(rows),
        log_weights=potentials.copy(),
        logprobs=np.zeros(len(rows)),
        potentials=potentials,
        states=states,
        status=status,
        size=size,
        state=model.select(state, alive),
        logits=logits[alive.tolist()],
    )


def step(
    rng: Generator,
    cloud: Particles[M],
    model: LanguageModel[M],
    constraints: Sequence[Constraint | None],
    settings: Settings,
) -> Particles[M]:
    """One more token for every running particle, then resampling, then one forward of the model for all."""
    logits = steered(cloud.logits, settings)
    if cloud.steps == settings.max_new_tokens:
        return _close(cloud, model, constraints, logits)
    rows = np.flatnonzero(cloud.running)
    draws = _draw(rng, logits, cloud, constraints, settings, rows)
    moved = _move(cloud, model, constraints, logits, draws, rows)
    kept = np.arange(len(cloud.status))
    resamplings = cloud.resamplings
    log_weights = moved.log_weights.copy()
    for group in moved.groups():
        if _should_resample(moved, group, settings):
            ancestors = settings.resample(rng, normalised(log_weights[group]))
            kept[group] = group.start + ancestors
            log_weights[group] = log_mean_exp(log_weights[group])
            resamplings += 1
    moved = _inherit(moved, kept, log_weights)
    return _forward(
        replace(moved, resamplings=resamplings, steps=cloud.steps + 1), model, rows, kept, constraints, settings
    )


def steered(logits: Logits, settings: Settings) -> F32:
    """The logits of the target: the model's, changed by the hooks."""
    host = host_logits(logits)
    for hook in settings.hooks:
        host = hook(host)
    return host


def _draw(
    rng: Generator,
    logits: F32,
    cloud: Particles[M],
    constraints: Sequence[Constraint | None],
    settings: Settings,
    rows: I64,
) -> Draws:
    """Tokens for the running rows; prompts with the same constraint are drawn for together."""
    together: dict[int, list[int]] = {}
    for i, row in enumerate(rows.tolist()):
        together.setdefault(id(constraints[row // cloud.size]), []).append(i)
    n = len(rows)
    result = Draws(np.zeros(n, np.int64), np.zeros(n), np.zeros(n), np.zeros(n, np.int64))
    for members in together.values():
        constraint = constraints[int(rows[members[0]]) // cloud.size]
        part = logits if len(members) == n else logits[members]
        if constraint is None:
            draws = unconstrained(rng, part)
        else:
            draws = settings.sampler(rng, part, constraint, cloud.states[rows[members]])
        for column, values in zip(result, draws, strict=True):
            column[members] = values
    return result


def _move(
    cloud: Particles[M],
    model: LanguageModel[M],
    constraints: Sequence[Constraint | None],
    logits: F32,
    draws: Draws,
    rows: I64,
) -> Particles[M]:
    """Append the drawn tokens: new states, statuses, weights and potentials."""
    tokens, states, status = list(cloud.tokens), cloud.states.copy(), cloud.status.copy()
    log_weights, logprobs, potentials = cloud.log_weights.copy(), cloud.logprobs.copy(), cloud.potentials.copy()
    log_weights[rows] += draws.log_weights
    logprobs[rows] += draws.logprobs
    wanted = cloud.wanted
    for i, (row, token) in enumerate(zip(rows.tolist(), draws.tokens.tolist(), strict=True)):
        constraint = constraints[row // cloud.size]
        if token < 0:
            status[row], wanted = DEAD, _preferred(logits[i])
        elif token in model.vocabulary.eos:
            status[row] = COMPLETE
        else:
            tokens[row] = (*tokens[row], token)
            states[row] = constraint.advance(int(states[row]), token) if constraint else 1
        if constraint is not None and status[row] != DEAD:
            now = constraint.log_potential(int(states[row]), done=bool(status[row] == COMPLETE))
            log_weights[row] += now - potentials[row]
            potentials[row] = now
    return replace(
        cloud,
        tokens=tuple(tokens),
        states=states,
        status=status,
        log_weights=log_weights,
        logprobs=logprobs,
        potentials=potentials,
        wanted=wanted,
        checks=cloud.checks + int(draws.checks.sum()),
    )


def _should_resample(cloud: Particles[M], group: slice, settings: Settings) -> bool:
    if cloud.size == 1 or not cloud.running[group].any():
        return False
    ess = effective_sample_size(cloud.log_weights[group])
    return 0 < ess < settings.ess_threshold * cloud.size


def _inherit(cloud: Particles[M], kept: I64, log_weights: F64) -> Particles[M]:
    """Row i takes the place of row kept[i]; the model's side follows in `_forward`."""
    return replace(
        cloud,
        tokens=tuple(cloud.tokens[row] for row in kept),
        states=cloud.states[kept],
        status=cloud.status[kept],
        logprobs=cloud.logprobs[kept],
        potentials=cloud.potentials[kept],
        log_weights=log_weights,
    )


def _forward(
    cloud: Particles[M],
    model: LanguageModel[M],
    rows: I64,
    kept: I64,
    constraints: Sequence[Constraint | None],
    settings: Settings,
) -> Particles[M]:
    """Bring the model's state to the running rows. rows: those it holds; kept: the ancestor of each particle."""
    if cloud.steps == settings.max_new_tokens:
        cloud = _cut(cloud, constraints)
    running = np.flatnonzero(cloud.running)
    if not len(running):
        return cloud
    held = np.searchsorted(rows, kept[running])
    state = cloud.state
    if len(held) != len(rows) or (held != np.arange(len(rows))).any():
        state = model.select(state, held)
    last = np.array([cloud.tokens[row][-1] for row in running], np.int64)
    logits, state = model.extend(state, last)
    return replace(cloud, logits=logits, state=state)


def _cut(cloud: Particles[M], constraints: Sequence[Constraint | None]) -> Particles[M]:
    """The budget is used up: only rows whose text may end here still need the model, for the end's probability."""
    status, log_weights = cloud.status.copy(), cloud.log_weights.copy()
    for row in np.flatnonzero(cloud.running).tolist():
        constraint = constraints[row // cloud.size]
        if constraint is None:
            status[row] = CUT
        elif not constraint.complete(int(cloud.states[row])):
            status[row], log_weights[row] = CUT, -np.inf
    return replace(cloud, status=status, log_weights=log_weights)


def _close(
    cloud: Particles[M], model: LanguageModel[M], constraints: Sequence[Constraint | None], logits: F32
) -> Particles[M]:
    """End the running texts, all of them complete, with the probability of an end-of-text token."""
    status, log_weights = cloud.status.copy(), cloud.log_weights.copy()
    logprobs, potentials = cloud.logprobs.copy(), cloud.potentials.copy()
    rows = np.flatnonzero(cloud.running)
    ends = log_end_mass(logits, sorted(model.vocabulary.eos))
    for row, end in zip(rows.tolist(), ends.tolist(), strict=True):
        constraint = constraints[row // cloud.size]
        now = constraint.log_potential(int(cloud.states[row]), done=True) if constraint else 0.0
        log_weights[row] += end + now - potentials[row]
        logprobs[row] += end
        potentials[row] = now
    status[rows] = COMPLETE
    return replace(cloud, status=status, log_weights=log_weights, logprobs=logprobs, potentials=potentials)


def log_end_mass(logits: F32, eos: Sequence[int]) -> F64:
    """(N, V) logits -> (N,) log-probability that the text ends, nats."""
    weights = weigh(logits)
    ends: F64 = np.logaddexp.reduce(logits[:, eos].astype(np.float64), axis=1)
    possible = ends > -np.inf  # elsewhere the normaliser may be -inf too
    ends[possible] -= np.array([weights.log_normaliser(n) for n in np.flatnonzero(possible)])
    return ends


def _preferred(logits: F32, count: int = 3) -> tuple[tuple[int, float], ...]:
    """The likeliest tokens of one row and their probabilities: what the model wanted at a dead end."""
    top = np.argsort(logits)[::-1][:count]
    normaliser = np.logaddexp.reduce(logits.astype(np.float64))
    return tuple((int(t), float(np.exp(logits[t] - normaliser))) for t in top)


def run(
    rng: Generator,
    model: LanguageModel[M],
    prompts: Sequence[Sequence[int]],
    constraints: Sequence[Constraint | None],
    size: int,
    settings: Settings,
    on_step: Callable[[int], None] = lambda steps: None,
) -> Particles[M]:
    """Start, and step until no particle is running. on_step is told the tokens made so far."""
    cloud = start(model, prompts, constraints, size)
    while cloud.running.any():
        cloud = step(rng, cloud, model, constraints, settings)
        on_step(cloud.steps)
    return cloud
