"""All that one call of `generate` runs: prompts times sequences, in batches, in rounds until they are worth enough.

    groups = Run(model, plan).finish()           # groups[prompt][sequence]: clouds with this group alone, one a round

A group is one sequence of one prompt: N particles, resampled among themselves. Its random numbers are known by its
prompt, sequence and round, so it does not matter how groups are batched.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from genctl.constraints.base import Constraint
from genctl.constraints.both import Both
from genctl.errors import ArgumentError, Interrupted
from genctl.models.base import LanguageModel
from genctl.samplers.checkpoint import restored, saved_cloud
from genctl.samplers.exact import sample_exactly
from genctl.samplers.smc import (
    COMPLETE,
    InterruptedRun,
    Particles,
    Rules,
    Settings,
    Trace,
    effective_sample_size,
    run,
    start,
    stopped,
)
from genctl.samplers.streams import Streams, seeded

VERSION = 1


class Group(NamedTuple):
    prompt: int
    sequence: int


@dataclass(frozen=True)
class Plan:
    """prompts: token ids; constraints, critics: one for each. fingerprint: what has to be equal to go on later."""

    prompts: Sequence[Sequence[int]]
    constraints: Rules
    critics: Rules
    sequences: int
    size: int
    settings: Settings
    seed: int
    batch_size: int  # particles that run together
    min_ess: float = 0.0
    max_particles: int = 0
    deadline: float = math.inf
    exact: bool | None = None  # whole texts are sampled: True, learning from what was refuted, or False, without
    max_tries: int = 0
    on_step: Callable[[int, int], None] = lambda done, total: None
    fingerprint: Mapping[str, Any] = field(default_factory=dict)


class Run:
    """checkpoint: JSON of an earlier run by the same plan, to go on from."""

    def __init__(self, model: LanguageModel[Any], plan: Plan, checkpoint: Mapping[str, Any] | None = None) -> None:
        self._model, self._plan = model, plan
        self._saved = [] if checkpoint is None else _checked(checkpoint, plan)
        self._clouds: list[Particles[Any]] = []

    def finish(self) -> dict[Group, list[Particles[Any]]]:
        """For each group its clouds. Raises Interrupted at Ctrl-C, with the checkpoint."""
        plan = self._plan
        groups = [Group(p, s) for p in range(len(plan.prompts)) for s in range(plan.sequences)]
        found: dict[Group, list[Particles[Any]]] = {group: [] for group in groups}
        size, spent, number = plan.size, 0, 0
        while groups:
            for batch in self._batches(groups, size):
                cloud = self._run(batch, size, number, len(self._batches(groups, size)))
                for group, rows in zip(batch, cloud.groups(), strict=True):
                    found[group].append(_alone(cloud, rows))
            spent, size, number = spent + size, spent + size, number + 1
            groups = [group for group in groups if self._needs_more(found[group], spent)]
        return found

    def checkpoint(self) -> dict[str, Any]:
        clouds = [saved_cloud(cloud) for cloud in self._clouds]
        return {"genctl": VERSION, "plan": dict(self._plan.fingerprint), "clouds": clouds}

    def _needs_more(self, clouds: Sequence[Particles[Any]], spent: int) -> bool:
        """Does the group need as many particles again?"""
        plan = self._plan
        if 2 * spent > plan.max_particles or time.monotonic() > plan.deadline:
            return False
        return effective_sample_size(np.concatenate([cloud.log_weights for cloud in clouds])) < plan.min_ess

    def _batches(self, groups: Sequence[Group], size: int) -> list[Sequence[Group]]:
        count = max(self._plan.batch_size // size, 1) if self._plan.exact is None else len(groups)
        return [groups[i : i + count] for i in range(0, len(groups), count)]

    def _run(self, batch: Sequence[Group], size: int, number: int, batches: int) -> Particles[Any]:
        plan, index = self._plan, len(self._clouds)
        prompts = [plan.prompts[group.prompt] for group in batch]
        constraints = [plan.constraints[group.prompt] for group in batch]
        critics = [plan.critics[group.prompt] for group in batch]
        streams = _streams(plan.seed, batch, size, number)
        if plan.exact is not None:
            return self._run_exactly(streams, prompts, list(map(_joined, constraints, critics)))
        if index < len(self._saved):
            cloud = restored(self._saved[index], streams, self._model, prompts, constraints, critics)
        else:
            cloud = start(streams, self._model, prompts, constraints, size, critics)
        most = plan.settings.max_new_tokens

        def on_step(steps: int) -> None:
            plan.on_step(index % batches * most + min(steps, most), batches * most)

        try:
            cloud = run(cloud, self._model, constraints, plan.settings, critics, on_step, plan.deadline)
        except InterruptedRun as interrupt:
            self._clouds.append(interrupt.cloud)
            raise Interrupted(self._what_was_done(), self.checkpoint()) from None
        self._clouds.append(cloud)
        return stopped(cloud, constraints)

    def _run_exactly(self, streams: Streams, prompts: Sequence[Sequence[int]], constraints: Rules) -> Particles[Any]:
        """All groups together: those of equal prompts and rules learn from one another."""
        plan, most = self._plan, self._plan.settings.max_new_tokens
        assert plan.exact is not None
        try:
            return sample_exactly(
                streams,
                self._model,
                prompts,
                constraints,
                plan.settings,
                lambda steps: plan.on_step(steps, most),
                plan.deadline,
                adaptive=plan.exact,
                max_tries=plan.max_tries,
            )
        except KeyboardInterrupt:
            raise Interrupted("interrupted; exact methods begin anew", self.checkpoint()) from None

    def _what_was_done(self) -> str:
        cloud = self._clouds[-1]
        done = sum(int((cloud.status == COMPLETE).sum()) for cloud in self._clouds)
        return (
            f"interrupted after {cloud.steps} of at most {self._plan.settings.max_new_tokens} tokens, "
            f"{done} of {sum(len(cloud.status) for cloud in self._clouds)} particles complete\n"
            "hint: generate(..., resume=error.checkpoint) goes on from here"
        )


def _joined(constraint: Constraint | None, critic: Constraint | None) -> Constraint | None:
    return Both([constraint, critic]) if constraint and critic else constraint or critic


def _streams(seed: int, batch: Sequence[Group], size: int, number: int) -> Streams:
    return seeded(seed, [(*group, number, particle) for group in batch for particle in range(size)])


def _alone(cloud: Particles[Any], rows: slice) -> Particles[Any]:
    """One group of a cloud, for its results."""
    g, index = rows.start // cloud.size, np.arange(rows.start, rows.stop)
    trace = Trace(
        tuple((sizes[g],) for sizes in cloud.trace.ess),
        tuple(tuple(a - rows.start for a in line[rows]) for line in cloud.trace.ancestors),
        cloud.trace.checks,
        cloud.trace.accepted,
        cloud.trace.masks,
        cloud.trace.variances,
        cloud.trace.tries[g : g + 1],
        cloud.trace.log_bounds[g : g + 1],
    )
    return replace(
        cloud,
        streams=cloud.streams.rows(index),
        prompts=cloud.prompts[g : g + 1],
        tokens=cloud.tokens[rows],
        log_weights=cloud.log_weights[rows],
        logprobs=cloud.logprobs[rows],
        potentials=cloud.potentials[rows],
        states=cloud.states[rows],
        critic_states=cloud.critic_states[rows],
        status=cloud.status[rows],
        state=None,
        logits=None,
        rows=np.zeros(0, np.int64),
        trace=trace,
    )


def _checked(checkpoint: Mapping[str, Any], plan: Plan) -> list[Mapping[str, Any]]:
    """The saved clouds; refused if they are of another call."""
    if not isinstance(checkpoint, Mapping) or checkpoint.get("genctl") != VERSION:
        raise ArgumentError("resume is no checkpoint of this version\nhint: give what `.checkpoint` of a run gave")
    for name, now in plan.fingerprint.items():
        then = checkpoint["plan"].get(name)
        if then != now:
            raise ArgumentError(f"resume is of a run with another {name}: {_short(then)}, now {_short(now)}")
    clouds: list[Mapping[str, Any]] = checkpoint["clouds"]
    return clouds


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
