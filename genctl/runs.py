"""All that one call of `generate` runs: prompts times sequences, in batches, in rounds until they are worth enough.

    run = Run(model, plan)
    for cloud in run.steps():                           # the particles of a batch, after each of its steps
        ...
    run.parts[Group(prompt, sequence)]                  # one a round

A group is one sequence of one prompt: N particles, resampled among themselves. Its random numbers are known by its
prompt, sequence and round, so it does not matter how groups are batched.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from genctl.constraints.base import Constraint
from genctl.constraints.both import Both
from genctl.errors import ArgumentError, Interrupted
from genctl.kernels.records import F64
from genctl.models.base import LanguageModel
from genctl.samplers.checkpoint import restored, saved_cloud
from genctl.samplers.exact import sample_exactly
from genctl.samplers.smc import (
    COMPLETE,
    Particles,
    Rules,
    Settings,
    Trace,
    effective_sample_size,
    start,
    steps,
    stopped,
)
from genctl.samplers.streams import Streams, seeded

VERSION = 1


class Group(NamedTuple):
    prompt: int
    sequence: int


class Part(NamedTuple):
    """The particles of one group, among those of its batch."""

    cloud: Particles[None]
    rows: slice

    @property
    def log_weights(self) -> F64:
        return self.cloud.log_weights[self.rows]

    @property
    def trace(self) -> Trace:
        """Of this group; checks, masks and variances are those of the batch."""
        whole, begin, g = self.cloud.trace, self.rows.start, self.rows.start // self.cloud.size
        return replace(
            whole,
            ess=tuple((sizes[g],) for sizes in whole.ess),
            ancestors=tuple(tuple(a - begin for a in line[self.rows]) for line in whole.ancestors),
            tries=whole.tries[g : g + 1],
            log_bounds=whole.log_bounds[g : g + 1],
        )


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
    fingerprint: Mapping[str, Any] = field(default_factory=dict)


class Run:
    """checkpoint: JSON of an earlier run by the same plan, to go on from."""

    def __init__(self, model: LanguageModel[Any], plan: Plan, checkpoint: Mapping[str, Any] | None = None) -> None:
        self._model, self._plan = model, plan
        self._saved = [] if checkpoint is None else _checked(checkpoint, plan)
        self._clouds: list[Particles[None]] = []  # of batches that are done
        self._current: Particles[Any] | None = None
        self.parts: dict[Group, list[Part]] = {}

    def steps(self, on_step: Callable[[int, int], None] = lambda done, total: None) -> Iterator[Particles[Any]]:
        """Run to the end: afterwards `parts` are, for each group, its particles of each round.

        on_step: called with (tokens made, tokens there may be).
        """
        plan = self._plan
        groups = [Group(p, s) for p in range(len(plan.prompts)) for s in range(plan.sequences)]
        self.parts = {group: [] for group in groups}
        size, spent, number = plan.size, 0, 0
        while groups:
            batches = self._batches(groups, size)
            for batch in batches:
                cloud = yield from self._run(batch, size, number, len(batches), on_step)
                for group, rows in zip(batch, cloud.groups(), strict=True):
                    self.parts[group].append(Part(cloud, rows))
            spent += size
            size, number = spent, number + 1
            groups = [group for group in groups if self._needs_more(self.parts[group], spent)]

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Raises Interrupted at Ctrl-C, with the checkpoint of the last whole step."""
        try:
            yield
        except Interrupted:
            raise
        except KeyboardInterrupt:
            raise Interrupted(self._what_was_done(), self.checkpoint()) from None

    def checkpoint(self) -> dict[str, Any]:
        clouds = [saved_cloud(cloud) for cloud in self._begun]
        return {"genctl": VERSION, "plan": dict(self._plan.fingerprint), "clouds": clouds}

    @property
    def _begun(self) -> list[Particles[Any]]:
        return [*self._clouds, *([] if self._current is None else [self._current])]

    def _needs_more(self, parts: Sequence[Part], spent: int) -> bool:
        """Does the group need as many particles again?"""
        plan = self._plan
        if 2 * spent > plan.max_particles or time.monotonic() > plan.deadline:
            return False
        return effective_sample_size(np.concatenate([part.log_weights for part in parts])) < plan.min_ess

    def _batches(self, groups: Sequence[Group], size: int) -> list[Sequence[Group]]:
        count = max(self._plan.batch_size // size, 1) if self._plan.exact is None else len(groups)
        return [groups[i : i + count] for i in range(0, len(groups), count)]

    def _run(
        self, batch: Sequence[Group], size: int, number: int, batches: int, on_step: Callable[[int, int], None]
    ) -> Generator[Particles[Any], None, Particles[None]]:
        """A batch to its end, or as far as time allows. What the model holds for it is let go then."""
        plan = self._plan
        prompts = [plan.prompts[group.prompt] for group in batch]
        constraints = [plan.constraints[group.prompt] for group in batch]
        critics = [plan.critics[group.prompt] for group in batch]
        streams = _streams(plan.seed, batch, size, number)
        if plan.exact is not None:
            return self._run_exactly(streams, prompts, list(map(_joined, constraints, critics)), on_step)
        most, before = plan.settings.max_new_tokens, len(self._clouds)
        if before < len(self._saved):
            begun = restored(self._saved[before], streams, self._model, prompts, constraints, critics)
        else:
            begun = start(streams, self._model, prompts, constraints, size, critics)
        self._current = cloud = begun
        for cloud in steps(begun, self._model, constraints, plan.settings, critics, plan.deadline):
            self._current = cloud
            on_step(before % batches * most + min(cloud.steps, most), batches * most)
            yield cloud
        self._clouds.append(_let_go(cloud))
        self._current = None
        return stopped(self._clouds[-1], constraints)

    def _run_exactly(
        self,
        streams: Streams,
        prompts: Sequence[Sequence[int]],
        constraints: Rules,
        on_step: Callable[[int, int], None],
    ) -> Particles[None]:
        """All groups together: those of equal prompts and rules learn from one another."""
        plan, most = self._plan, self._plan.settings.max_new_tokens
        assert plan.exact is not None
        try:
            cloud = sample_exactly(
                streams,
                self._model,
                prompts,
                constraints,
                plan.settings,
                lambda steps: on_step(steps, most),
                plan.deadline,
                adaptive=plan.exact,
                max_tries=plan.max_tries,
            )
        except KeyboardInterrupt:
            raise Interrupted("interrupted; exact methods begin anew", self.checkpoint()) from None
        return _let_go(cloud)

    def _what_was_done(self) -> str:
        steps = self._begun[-1].steps if self._begun else 0
        statuses = [status for cloud in self._begun for status in cloud.status.tolist()]
        return (
            f"interrupted after {steps} of at most {self._plan.settings.max_new_tokens} tokens, "
            f"{statuses.count(COMPLETE)} of {len(statuses)} particles complete\n"
            "hint: generate(..., resume=error.checkpoint) goes on from here"
        )


def _joined(constraint: Constraint | None, critic: Constraint | None) -> Constraint | None:
    parts = [part for part in (constraint, critic) if part is not None]
    return Both(parts) if len(parts) > 1 else next(iter(parts), None)


def _streams(seed: int, batch: Sequence[Group], size: int, number: int) -> Streams:
    return seeded(seed, [(*group, number, particle) for group in batch for particle in range(size)])


def _let_go(cloud: Particles[Any]) -> Particles[None]:
    """Without what the model holds."""
    return replace(cloud, state=None, logits=None)


def fingerprint_of(checkpoint: object) -> Mapping[str, Any]:
    """What the call was that a checkpoint is of."""
    if not isinstance(checkpoint, Mapping) or checkpoint.get("genctl") != VERSION:
        raise ArgumentError("resume is no checkpoint of this version\nhint: give what `.checkpoint` of a run gave")
    told = checkpoint.get("plan")
    if not isinstance(told, Mapping) or not isinstance(checkpoint.get("clouds"), list):
        raise ArgumentError("resume is damaged: it has no plan or no clouds")
    return told


def _checked(checkpoint: Mapping[str, Any], plan: Plan) -> list[Mapping[str, Any]]:
    """The saved clouds; refused if they are of another call."""
    told = fingerprint_of(checkpoint)
    for name, now in plan.fingerprint.items():
        if told.get(name) != now:
            then = _short(told.get(name))
            raise ArgumentError(f"resume is of a run with another {name}: {then}, now {_short(now)}")
    clouds: list[Mapping[str, Any]] = checkpoint["clouds"]
    return clouds


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
