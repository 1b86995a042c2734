"""Particles as JSON, so that a run that was stopped goes on in another process.

    saved = saved_cloud(cloud)                                   # plain JSON
    cloud = restored(saved, streams, model, prompts, constraints, critics)

What depends on the model and the rules is built anew from the tokens: the model reads each running prefix once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import numpy as np

from genctl.constraints.base import Constraint
from genctl.kernels.records import F64
from genctl.models.base import LanguageModel, Logits
from genctl.samplers.smc import RUNNING, Particles, Rules, Trace, told_apart
from genctl.samplers.streams import Streams

M = TypeVar("M")

NUMBERS = ("log_weights", "logprobs", "potentials")


def saved_cloud(cloud: Particles[Any]) -> dict[str, Any]:
    """Plain JSON; -inf, which JSON has no number for, is null."""
    numbers = {name: [None if x == -math.inf else x for x in getattr(cloud, name).tolist()] for name in NUMBERS}
    return {
        "steps": cloud.steps,
        "size": cloud.size,
        "tokens": [list(tokens) for tokens in cloud.tokens],
        "status": cloud.status.tolist(),
        "trace": asdict(cloud.trace),
        **numbers,
    }


def restored(
    saved: Mapping[str, Any],
    streams: Streams,
    model: LanguageModel[M],
    prompts: Sequence[Sequence[int]],
    constraints: Rules,
    critics: Rules,
) -> Particles[M]:
    """The cloud that was saved, of the same prompts and rules."""
    tokens = tuple(map(tuple, saved["tokens"]))
    size, status = saved["size"], np.array(saved["status"], np.int64)
    running = np.flatnonzero(status == RUNNING).tolist()
    different, rows = told_apart([(*prompts[particle // size], *tokens[particle]) for particle in running])
    read: tuple[Logits, Any] = model.prefill(different) if different else (None, None)
    log_weights, logprobs, potentials = (_numbers(saved[name]) for name in NUMBERS)
    trace: dict[str, Any] = {
        name: tuple(tuple(x) if isinstance(x, list | tuple) else x for x in line)
        for name, line in saved["trace"].items()
    }
    return Particles(
        streams=streams,
        tokens=tokens,
        log_weights=log_weights,
        logprobs=logprobs,
        potentials=potentials,
        states=_states(constraints, tokens, size),
        critic_states=_states(critics, tokens, size),
        status=status,
        size=size,
        state=read[1],
        logits=read[0],
        rows=rows,
        steps=saved["steps"],
        trace=Trace(**trace),
    )


def _numbers(values: Sequence[float | None]) -> F64:
    return np.array([-math.inf if x is None else x for x in values])


def _states(rules: Sequence[Constraint | None], tokens: Sequence[Sequence[int]], size: int) -> np.ndarray[Any, Any]:
    found = []
    for particle, line in enumerate(tokens):
        rule = rules[particle // size]
        state = rule.start() if rule else 1
        for token in line:
            state = rule.advance(state, token) if rule else 1
        found.append(state)
    return np.array(found, np.int64)
