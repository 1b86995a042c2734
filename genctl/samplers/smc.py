"""Sequential Monte Carlo: N weighted prefixes a prompt, extended token by token, resampled when few carry weight.

    cloud = start(seeded(0, [(0, i) for i in range(16)]), model, [model.encode(prompt)], [constraint], size=16)
    while cloud.running.any():
        cloud = step(cloud, model, [constraint], settings)
    log_mean_exp(cloud.log_weights)          # estimates log Z, the log-probability of the rule, at any time

G prompts run together, each with its own N particles and its own constraint; rows g N .. (g + 1) N - 1 belong to
prompt g. The target is the model's law of finished texts of at most T tokens, times the potentials of constraint and
critic, restricted to texts that obey. Potentials of prefixes are twists: taken out again at the next step, so that only
those of finished texts remain. A particle whose text is complete after T tokens is closed by the end-of-text token and
weighted with its probability; any other is cut, with weight -inf. A constraint that is held to its budget
(constraints/budget.py) leaves none to be cut. Without a constraint a text is cut as it is, and keeps its weight.

Particles with the same tokens behind the same prompt share a row of the model: it computes each prefix once. Every
particle draws from a stream of its own, so that a prompt's result does not depend on what runs beside it; those of a
prompt that share a row draw with numbers that are spread, as in sequential quasi-Monte Carlo (Gerber & Chopin 2015).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.random import Generator

from genctl.constraints.base import Constraint
from genctl.kernels.records import F32, F64, I64, Bool
from genctl.models.base import LanguageModel, Laws, Logits, host_logits
from genctl.samplers.base import Draws, TokenSampler, unconstrained, weigh
from genctl.samplers.streams import Streams

M = TypeVar("M")
Rules: TypeAlias = Sequence[Constraint | None]  # one for each prompt

# Status of a particle. STOPPED: the time was up; GAVE_UP: texts ran out that exact samplers may try.
RUNNING, COMPLETE, CUT, DEAD, STOPPED, GAVE_UP = range(6)


@dataclass(frozen=True)
class Settings:
    """How particles are moved. free draws where there is no constraint."""

    sampler: TokenSampler
    resample: Callable[[Generator, F64], I64]
    ess_threshold: float  # resample when the effective sample size falls below this share of N
    max_new_tokens: int
    free: Callable[[Streams, F32], Draws] = unconstrained  # draws tokens for prompts without a constraint


@dataclass(frozen=True)
class Trace:
    """What happened at each of S steps."""

    ess: tuple[tuple[float, ...], ...] = ()  # (S, G) effective sample sizes before resampling
    ancestors: tuple[tuple[int, ...], ...] = ()  # (S, R) the particle that each one goes on from, after the step's draw
    checks: tuple[int, ...] = ()  # (S,) tokens tested one by one
    accepted: tuple[int, ...] = ()  # (S,) of them allowed
    masks: tuple[int, ...] = ()  # (S,) masks asked for
    variances: tuple[float, ...] = ()  # (S,) mean relative variance of the weights of the step's draws
    tries: tuple[int, ...] = ()  # (G,) texts that an exact sampler began
    log_bounds: tuple[float, ...] = ()  # (G,) nats, log of the mass that it did not refute: log Z is at most this

    @property
    def resamplings(self) -> int:
        return sum(line != tuple(range(len(line))) for line in self.ancestors)


@dataclass(frozen=True)
class Particles(Generic[M]):
    """R = G N weighted prefixes. The model's state and logits have a row for each different running prefix.

    Invariant: the mean of exp(log_weights) of a prompt estimates its evidence, before and after resampling.
    """

    streams: Streams
    tokens: tuple[tuple[int, ...], ...]  # R
    log_weights: F64  # (R,) nats
    logprobs: F64  # (R,) nats, of the tokens and the end under the model
    potentials: F64  # (R,) nats, of constraint and critic, which log_weights already contain
    states: I64  # (R,) of the constraint
    critic_states: I64  # (R,)
    status: I64  # (R,)
    size: int  # N
    state: M
    logits: Logits
    rows: I64  # the model's row of each running particle, in order
    steps: int = 0
    trace: Trace = Trace()
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


# -- the beginning


def start(
    streams: Streams,
    model: LanguageModel[M],
    prompts: Sequence[Sequence[int]],
    constraints: Rules,
    size: int,
    critics: Rules | None = None,
) -> Particles[M]:
    """N particles at the end of each prompt; every different prompt is read by the model once."""
    critics = critics or [None] * len(prompts)
    different, numbers = told_apart(prompts)
    logits, state = model.prefill(different)
    states, critic_states = (
        np.repeat([c.start() if c else 1 for c in rules], size).astype(np.int64) for rules in (constraints, critics)
    )
    pairs = list(zip(constraints, critics, strict=True))
    potentials = np.repeat([_begun(constraint) + _begun(critic) for constraint, critic in pairs], size)
    status = np.where((states == 0) | (critic_states == 0), DEAD, RUNNING)
    rows = np.repeat(numbers, size)[status == RUNNING]
    return Particles(
        streams=streams,
        tokens=((),) * (len(prompts) * size),
        log_weights=np.where(status == DEAD, -np.inf, potentials),
        logprobs=np.zeros(len(status)),
        potentials=potentials,
        states=states,
        critic_states=critic_states,
        status=status,
        size=size,
        state=state,
        logits=logits,
        rows=rows,
    )


def told_apart(texts: Sequence[Sequence[int]]) -> tuple[list[tuple[int, ...]], I64]:
    """The different ones, and (N,) which of them each text is."""
    numbers: dict[tuple[int, ...], int] = {}
    which = [numbers.setdefault(tuple(text), len(numbers)) for text in texts]
    return list(numbers), np.array(which, np.int64)


def _begun(constraint: Constraint | None) -> float:
    return constraint.log_potential(constraint.start(), done=False) if constraint else 0.0


# -- a step


def step(
    cloud: Particles[M], model: LanguageModel[M], constraints: Rules, settings: Settings, critics: Rules | None = None
) -> Particles[M]:
    """One more token for every running particle, then resampling, then one forward of the model for all."""
    critics = critics or [None] * len(constraints)
    laws = law(cloud.logits)
    if cloud.steps == settings.max_new_tokens:
        return _close(cloud, model, constraints, critics, laws)
    cloud, first = _foreseen(cloud, laws, settings)
    running = np.flatnonzero(cloud.running)
    if not len(running):
        return cloud
    draws = _draw(laws, cloud, constraints, settings, running)
    moved = _move(cloud, model, constraints, critics, laws, draws, running)
    streams = cloud.streams.at(2 * cloud.steps + 1)
    kept, log_weights, sizes = _resampled(moved, moved.log_weights, streams, settings)
    trace = _traced(cloud.trace, sizes, first[kept], draws)
    moved = replace(_inherit(moved, kept, log_weights), steps=cloud.steps + 1, trace=trace)
    if moved.steps == settings.max_new_tokens:
        moved = _cut(moved, constraints, min(model.vocabulary.eos))
    return _forward(moved, model, running, kept)


def _resampled(
    cloud: Particles[M], log_weights: F64, streams: Streams, settings: Settings
) -> tuple[I64, F64, tuple[float, ...]]:
    """(R,) ancestors by these weights, and theirs from now on; (G,) the effective sample sizes before."""
    kept, evened = np.arange(len(log_weights)), log_weights.copy()
    sizes = tuple(effective_sample_size(log_weights[group]) for group in cloud.groups())
    for group, ess in zip(cloud.groups(), sizes, strict=True):
        if cloud.size > 1 and cloud.running[group].any() and 0 < ess < settings.ess_threshold * cloud.size:
            rng = streams.generator(group.start)
            kept[group] = group.start + settings.resample(rng, normalised(log_weights[group]))
            evened[group] = log_mean_exp(log_weights[group])
    return kept, evened, sizes


def _foreseen(cloud: Particles[M], laws: _Law, settings: Settings) -> tuple[Particles[M], I64]:
    """Resampled by the weights to come, which scores tell before the draw (Pitt & Shephard 1999), and the ancestors.

    A particle that is about to gain much weight is so drawn for several times, instead of being copied after one draw.
    """
    kept = np.arange(len(cloud.status))
    if laws.weighted is None:
        return cloud, kept
    running = np.flatnonzero(cloud.running)
    coming = np.zeros(len(cloud.status))
    coming[running] = laws.weighted.totals[cloud.rows]
    streams = cloud.streams.at(2 * cloud.steps + 1).at(1)
    kept, log_weights, _ = _resampled(cloud, cloud.log_weights + coming, streams, settings)
    alive = log_weights > -np.inf
    log_weights[alive] -= coming[kept[alive]]
    moved = _inherit(cloud, kept, log_weights)
    parents = np.searchsorted(running, kept[moved.running])
    return replace(moved, rows=cloud.rows[parents]), kept


def law(logits: Logits) -> _Law:
    """The laws of the rows' next tokens: the target's, and the one that is drawn from."""
    if not isinstance(logits, Laws):
        target = host_logits(logits)
        return _Law(target, target, None)
    weights = weigh(logits.law)
    normalisers = np.array([weights.log_normaliser(n) for n in range(len(logits))])
    totals = np.logaddexp.reduce(logits.scores.astype(np.float64), axis=1)
    return _Law(logits.law, logits.drawn, _Weighted(logits.scores, normalisers, totals))


class _Weighted(NamedTuple):
    """scores (N, V): of the target, nats, not normalised; normalisers (N,): of the law that is reported.

    totals (N,): log of the sum of exp(scores).
    """

    scores: F32
    normalisers: F64
    totals: F64


class _Law(NamedTuple):
    """target, drawn (N, V): logits. weighted: None where the target is what is drawn from."""

    target: F32
    drawn: F32
    weighted: _Weighted | None


def _draw(laws: _Law, cloud: Particles[M], constraints: Rules, settings: Settings, running: I64) -> Draws:
    """Tokens for the running particles; prompts with the same constraint are drawn for together."""
    together: dict[int, list[int]] = {}
    for i, particle in enumerate(running.tolist()):
        together.setdefault(id(constraints[particle // cloud.size]), []).append(i)
    prefixes = running // cloud.size * len(cloud.logits) + cloud.rows
    streams = cloud.streams.rows(running).at(2 * cloud.steps).together(prefixes)
    parts = []
    for members in together.values():
        constraint = constraints[int(running[members[0]]) // cloud.size]
        logits = laws.drawn[cloud.rows[members]]
        mine = streams.rows(np.array(members))
        if constraint is None:
            parts.append(settings.free(mine, logits))
        else:
            parts.append(settings.sampler(mine, logits, constraint, cloud.states[running[members]]))
    order = np.argsort(np.concatenate([np.array(members) for members in together.values()]))
    draws = Draws(*(np.concatenate(column)[order] for column in zip(*parts, strict=True)))
    return draws if laws.weighted is None else _corrected(draws, laws.target, laws.weighted, cloud.rows)


def _corrected(draws: Draws, target: F32, weighted: _Weighted, rows: I64) -> Draws:
    """The weights for the weighted target: of the allowed mass of the drawn law, times its share of the target."""
    log_weights, logprobs = draws.log_weights.copy(), draws.logprobs.copy()
    for i, (token, row) in enumerate(zip(draws.tokens.tolist(), rows.tolist(), strict=True)):
        if token >= 0:
            log_weights[i] += float(weighted.scores[row, token]) - draws.logprobs[i]
            logprobs[i] = float(target[row, token] - weighted.normalisers[row])
    return draws._replace(log_weights=log_weights, logprobs=logprobs)


def _move(
    cloud: Particles[M],
    model: LanguageModel[M],
    constraints: Rules,
    critics: Rules,
    laws: _Law,
    draws: Draws,
    running: I64,
) -> Particles[M]:
    """Append the drawn tokens: new states, statuses, weights and potentials."""
    tokens, states, critic_states = list(cloud.tokens), cloud.states.copy(), cloud.critic_states.copy()
    log_weights, logprobs, potentials = cloud.log_weights.copy(), cloud.logprobs.copy(), cloud.potentials.copy()
    status, wanted = cloud.status.copy(), cloud.wanted
    log_weights[running] += draws.log_weights
    logprobs[running] += draws.logprobs
    _ask_critics(cloud, critics, running, draws.tokens)
    for i, (particle, token) in enumerate(zip(running.tolist(), draws.tokens.tolist(), strict=True)):
        constraint, critic = constraints[particle // cloud.size], critics[particle // cloud.size]
        if token < 0:
            status[particle], wanted = DEAD, preferred(laws.target[cloud.rows[i]])
            continue
        done = token in model.vocabulary.eos
        if not done:
            tokens[particle] = (*tokens[particle], token)
            states[particle] = constraint.advance(int(states[particle]), token) if constraint else 1
            critic_states[particle] = critic.advance(int(critic_states[particle]), token) if critic else 1
        now = _potential(constraint, states[particle], done) + _judged(critic, critic_states[particle], done)
        log_weights[particle] += now - potentials[particle]
        potentials[particle] = now
        status[particle] = DEAD if now == -math.inf else COMPLETE if done else RUNNING
    return replace(
        cloud,
        tokens=tuple(tokens),
        states=states,
        critic_states=critic_states,
        status=status,
        log_weights=log_weights,
        logprobs=logprobs,
        potentials=potentials,
        wanted=wanted,
    )


def _potential(constraint: Constraint | None, state: int, done: bool) -> float:
    return constraint.log_potential(int(state), done=done) if constraint else 0.0


def _judged(critic: Constraint | None, state: int, done: bool) -> float:
    """A critic's potential; unlike a constraint's, its states may be dead."""
    if critic is not None and (state == 0 or (done and not critic.complete(int(state)))):
        return -math.inf
    return _potential(critic, state, done)


def _ask_critics(cloud: Particles[M], critics: Rules, running: I64, tokens: I64) -> None:
    """Each critic about all its particles at once: it remembers the answers."""
    drawn = tokens >= 0
    for critic, mine in _parts(critics, running[drawn], cloud.size):
        critic.allows_each(cloud.critic_states[running[drawn][mine]], tokens[drawn][mine])


def _parts(rules: Rules, particles: I64, size: int) -> list[tuple[Constraint, I64]]:
    """The different rules, each with the places of its particles."""
    places: dict[int, tuple[Constraint, list[int]]] = {}
    for i, particle in enumerate(particles.tolist()):
        rule = rules[particle // size]
        if rule is not None:
            places.setdefault(id(rule), (rule, []))[1].append(i)
    return [(rule, np.array(mine, np.int64)) for rule, mine in places.values()]


def _traced(trace: Trace, sizes: tuple[float, ...], kept: I64, draws: Draws) -> Trace:
    return Trace(
        (*trace.ess, sizes),
        (*trace.ancestors, tuple(kept.tolist())),
        (*trace.checks, int(draws.checks.sum())),
        (*trace.accepted, int(draws.accepted.sum())),
        (*trace.masks, int(draws.masks.sum())),
        (*trace.variances, float(draws.variances.mean())),
    )


def _inherit(cloud: Particles[M], kept: I64, log_weights: F64) -> Particles[M]:
    """Particle i takes the place of particle kept[i]; the model's side follows in `_forward`."""
    return replace(
        cloud,
        tokens=tuple(cloud.tokens[particle] for particle in kept),
        states=cloud.states[kept],
        critic_states=cloud.critic_states[kept],
        status=cloud.status[kept],
        logprobs=cloud.logprobs[kept],
        potentials=cloud.potentials[kept],
        log_weights=log_weights,
    )


def _forward(cloud: Particles[M], model: LanguageModel[M], before: I64, kept: I64) -> Particles[M]:
    """Bring the model to the running prefixes. before: the particles that cloud.rows is of; kept: the ancestors."""
    running = np.flatnonzero(cloud.running)
    if not len(running):
        return cloud
    parents = cloud.rows[np.searchsorted(before, kept[running])]
    different: dict[tuple[int, int], int] = {}  # (row so far, token): rows are different prefixes
    last = [cloud.tokens[particle][-1] for particle in running]
    rows = [different.setdefault(pair, len(different)) for pair in zip(parents.tolist(), last, strict=True)]
    held = np.array([parent for parent, _ in different], np.int64)
    state = cloud.state
    if len(held) != len(cloud.logits) or (held != np.arange(len(held))).any():
        state = model.select(state, held)
    logits, state = model.extend(state, np.array([token for _, token in different], np.int64))
    return replace(cloud, logits=logits, state=state, rows=np.array(rows, np.int64))


def _cut(cloud: Particles[M], constraints: Rules, eos: int) -> Particles[M]:
    """The budget is used up: only particles whose text may end here still need the model, for the end's probability."""
    status, log_weights = cloud.status.copy(), cloud.log_weights.copy()
    running = np.flatnonzero(cloud.running)
    status[running] = CUT
    for constraint, mine in _parts(constraints, running, cloud.size):
        particles = running[mine]
        complete = constraint.allows_each(cloud.states[particles], np.full(len(particles), eos))
        status[particles[complete]] = RUNNING
        log_weights[particles[~complete]] = -np.inf
    return replace(cloud, status=status, log_weights=log_weights)


def _close(
    cloud: Particles[M], model: LanguageModel[M], constraints: Rules, critics: Rules, laws: _Law
) -> Particles[M]:
    """End the running texts, all of them complete, with the probability of an end-of-text token."""
    status, log_weights = cloud.status.copy(), cloud.log_weights.copy()
    logprobs, potentials = cloud.logprobs.copy(), cloud.potentials.copy()
    running = np.flatnonzero(cloud.running)
    eos = sorted(model.vocabulary.eos)
    ends = log_end_mass(laws.target, eos)
    scores = ends
    if laws.weighted is not None:
        scores = np.logaddexp.reduce(laws.weighted.scores[:, eos].astype(np.float64), axis=1)
    for particle, row in zip(running.tolist(), cloud.rows.tolist(), strict=True):
        constraint, critic = constraints[particle // cloud.size], critics[particle // cloud.size]
        now = _potential(constraint, cloud.states[particle], True)
        now += _judged(critic, cloud.critic_states[particle], True)
        log_weights[particle] += float(scores[row]) + now - potentials[particle]
        logprobs[particle] += float(ends[row])
        potentials[particle] = now
        status[particle] = DEAD if now == -math.inf else COMPLETE
    return replace(cloud, status=status, log_weights=log_weights, logprobs=logprobs, potentials=potentials)


def log_end_mass(logits: F32, eos: Sequence[int]) -> F64:
    """(N, V) logits -> (N,) log-probability that the text ends, nats."""
    weights = weigh(logits)
    ends: F64 = np.logaddexp.reduce(logits[:, eos].astype(np.float64), axis=1)
    possible = ends > -np.inf  # elsewhere the normaliser may be -inf too
    ends[possible] -= np.array([weights.log_normaliser(n) for n in np.flatnonzero(possible)])
    return ends


def preferred(logits: F32, count: int = 3) -> tuple[tuple[int, float], ...]:
    """The likeliest tokens of one row and their probabilities: what the model wanted at a dead end."""
    top = [t for t in np.argsort(logits)[::-1][:count].tolist() if logits[t] > -np.inf]
    normaliser = np.logaddexp.reduce(logits.astype(np.float64))
    return tuple((int(t), float(np.exp(logits[t] - normaliser))) for t in top)


# -- to the end


def steps(
    cloud: Particles[M],
    model: LanguageModel[M],
    constraints: Rules,
    settings: Settings,
    critics: Rules | None = None,
    deadline: float = math.inf,
) -> Iterator[Particles[M]]:
    """The particles after each step, until none is running, or the time is up (deadline, of `time.monotonic`)."""
    while cloud.running.any() and time.monotonic() <= deadline:
        cloud = step(cloud, model, constraints, settings, critics)
        yield cloud


def run(
    cloud: Particles[M], model: LanguageModel[M], constraints: Rules, settings: Settings, critics: Rules | None = None
) -> Particles[M]:
    """Step until no particle is running."""
    for moved in steps(cloud, model, constraints, settings, critics):
        cloud = moved
    return cloud


def stopped(cloud: Particles[M], constraints: Rules) -> Particles[M]:
    """Running texts as they are, without weight; without a rule they keep it."""
    log_weights = cloud.log_weights.copy()
    for particle in np.flatnonzero(cloud.running).tolist():
        if constraints[particle // cloud.size] is not None:
            log_weights[particle] = -np.inf
    return replace(cloud, status=np.where(cloud.running, STOPPED, cloud.status), log_weights=log_weights)
