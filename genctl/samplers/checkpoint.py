"""Particles as JSON, so that a run that was stopped goes on in another process.

    saved = saved_cloud(cloud)                                   # plain JSON
    cloud = restored(saved, streams, model, prompts, constraints, critics)

What depends on the model and the rules is built anew from the tokens: the model reads each prompt once, and the tokens
of each running prefix behind it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple, TypeVar

import numpy as np

from genctl.errors import ArgumentError
from genctl.kernels.records import F64, I64
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
    """The cloud that was saved, of the same prompts and rules. Raises ArgumentError for what is no saved cloud."""
    try:
        told = _Told.of(saved, len(streams.keys))
    except (LookupError, TypeError, ValueError) as error:
        raise ArgumentError(f"resume is damaged: {error}") from error
    size = len(streams.keys) // len(prompts)
    running = np.flatnonzero(told.status == RUNNING).tolist()
    logits, state, rows = _read(
        model, [prompts[particle // size] for particle in running], [told.tokens[particle] for particle in running]
    )
    return Particles(
        streams=streams,
        **told._asdict(),
        states=_states(constraints, told.tokens, size),
        critic_states=_states(critics, told.tokens, size),
        size=size,
        state=state,
        logits=logits,
        rows=rows,
    )


def _read(
    model: LanguageModel[M], prompts: Sequence[Sequence[int]], texts: Sequence[Sequence[int]]
) -> tuple[Logits, Any, I64]:
    """The model behind N prompts and texts, all as long -> logits and state of the different ones, (N,) their rows."""
    if not prompts:
        return None, None, np.zeros(0, np.int64)
    begun, places = told_apart(prompts)
    logits, state = model.prefill(begun)
    if not texts[0]:
        return logits, state, places
    pairs: dict[tuple[int, tuple[int, ...]], int] = {}
    rows = [
        pairs.setdefault((place, tuple(text)), len(pairs)) for place, text in zip(places.tolist(), texts, strict=True)
    ]
    held = model.select(state, np.array([place for place, _ in pairs], np.int64))
    logits, state = model.extend(held, [list(text) for _, text in pairs])
    return logits, state, np.array(rows, np.int64)


class _Told(NamedTuple):
    """What is saved of N particles."""

    steps: int
    tokens: tuple[tuple[int, ...], ...]
    status: I64
    log_weights: F64
    logprobs: F64
    potentials: F64
    trace: Trace

    @classmethod
    def of(cls, saved: Mapping[str, Any], count: int) -> _Told:
        """Raises LookupError, TypeError or ValueError."""
        lengths = {len(saved[name]) for name in ("tokens", "status", *NUMBERS)}
        if lengths != {count}:
            raise ValueError(f"it has {sorted(lengths)} particles, not {count}")
        trace: dict[str, Any] = {
            name: tuple(tuple(x) if isinstance(x, list | tuple) else x for x in line)
            for name, line in saved["trace"].items()
        }
        return cls(
            int(saved["steps"]),
            tuple(tuple(map(int, tokens)) for tokens in saved["tokens"]),
            np.array(saved["status"], np.int64),
            _numbers(saved["log_weights"]),
            _numbers(saved["logprobs"]),
            _numbers(saved["potentials"]),
            Trace(**trace),
        )


def _numbers(values: Sequence[float | None]) -> F64:
    return np.array([-math.inf if x is None else x for x in values], np.float64)


def _states(rules: Rules, tokens: Sequence[Sequence[int]], size: int) -> I64:
    found = []
    for particle, line in enumerate(tokens):
        rule = rules[particle // size]
        state = rule.start() if rule else 1
        for token in line:
            state = rule.advance(state, token) if rule else 1
        found.append(state)
    return np.array(found, np.int64)
