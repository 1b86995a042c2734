"""What a generation returns: texts with their weights, and what can be estimated from them.

g = lm.generate(prompt, rule, num_particles=16)
g.value, g.text, g.finish_reason
g.posterior().most_common(3), g.ess, g.log_evidence
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, overload

import numpy as np

from genctl.constraints.rules import Rule
from genctl.errors import IncompleteError
from genctl.kernels.records import F64
from genctl.samplers.smc import Trace, effective_sample_size, log_mean_exp, normalised

FinishReason = Literal["complete", "wrapped_up", "length", "dead_end", "time", "gave_up"]
FINISHED = ("complete", "wrapped_up")


@dataclass(frozen=True)
class Sample:
    """One weighted text.

    text: decoded; bytes that are no character (possible without a constraint, or in a text that was cut) show as
    U+FFFD. tokens: ids, without the end-of-text token. logprob: of the tokens, and of the end where the text
    ended, under the model as steered (nats). log_weight: importance weight (nats); -inf for a text that does not
    count. finish_reason: "complete"; "wrapped_up" (complete, but on its way a token was refused that the rule alone
    allows, because the text could not have been complete after max_new_tokens with it: one that was tried, or any
    behind the last one); "length" (cut at max_new_tokens); "dead_end" (no token was allowed); "time" (max_time was up);
    "gave_up" (max_tries were used up).
    """

    text: str
    tokens: tuple[int, ...]
    logprob: float
    log_weight: float
    finish_reason: FinishReason


class WeightedSamples(ABC):
    """Estimates that properly weighted samples give. Mixed into everything that has several of them."""

    @property
    @abstractmethod
    def samples(self) -> Sequence[Sample]: ...

    @property
    def log_weights(self) -> F64:
        """(N,) nats."""
        return np.array([sample.log_weight for sample in self.samples])

    @property
    def log_evidence(self) -> float:
        """Estimate of the log-probability (nats) that the model obeys the rule; unbiased before the logarithm."""
        return log_mean_exp(self.log_weights)

    @property
    def ess(self) -> float:
        """Effective sample size: how many equally weighted samples these are worth; 0 if none counts."""
        return effective_sample_size(self.log_weights)

    def posterior(self) -> Counter[str]:
        """Text -> estimated probability under the model conditioned on the rule; equal texts are merged.

        Empty if no sample counts; `most_common(k)` gives the likeliest.
        """
        merged: Counter[str] = Counter()
        for sample, weight in zip(self.samples, normalised(self.log_weights).tolist(), strict=True):
            if weight > 0:
                merged[sample.text] += weight
        return merged

    def values(self) -> list[tuple[Any, float]]:
        """(value, estimated probability), the likeliest first: equal values are merged, however they are spelled."""
        found: list[tuple[Any, float]] = []
        for sample, weight in zip(self.samples, normalised(self.log_weights).tolist(), strict=True):
            if weight > 0:
                value = self.read(sample)
                i = next((i for i, (known, _) in enumerate(found) if same(known, value)), len(found))
                found[i : i + 1] = [(value, weight + (found[i][1] if i < len(found) else 0.0))]
        return sorted(found, key=lambda pair: -pair[1])

    def expectation(self, function: Callable[[Any], float]) -> float:
        """Estimate of the mean of a function of the value, under the model conditioned on the rule; nan if no sample
        counts.
        """
        weights = normalised(self.log_weights)
        if not weights.any():
            return math.nan
        pairs = zip(self.samples, weights.tolist(), strict=True)
        return math.fsum(weight * function(self.read(sample)) for sample, weight in pairs if weight > 0)

    @abstractmethod
    def read(self, sample: Sample) -> Any:
        """The value of a sample."""


@dataclass(frozen=True)
class Generation(WeightedSamples):
    """What `generate` returns for one prompt: a sample, and the particles it was drawn from (often itself alone).

    traces: what happened at each step, of each round of particles (a round, unless min_ess asked for more); checks are
    those of all groups that ran together. checkpoint: if the time was up, what `generate(..., resume=...)` of the same
    call goes on from; plain JSON.
    """

    text: str
    tokens: tuple[int, ...]
    logprob: float
    log_weight: float
    finish_reason: FinishReason
    particles: tuple[Sample, ...] = field(repr=False)
    rule: Rule | None = field(repr=False)
    traces: tuple[Trace, ...] = field(repr=False, default=())
    checkpoint: Mapping[str, Any] | None = field(repr=False, default=None)

    @property
    def samples(self) -> Sequence[Sample]:
        return self.particles

    @property
    def checks(self) -> int:
        """Tokens that were tested one by one, in the whole batch."""
        return sum(sum(trace.checks) for trace in self.traces)

    @property
    def masks(self) -> int:
        """Masks that were asked for, in the whole batch."""
        return sum(sum(trace.masks) for trace in self.traces)

    @property
    def resamplings(self) -> int:
        """How often these particles were resampled."""
        return sum(trace.resamplings for trace in self.traces)

    def read(self, sample: Sample) -> Any:
        """The value of one of the particles."""
        return sample.text if self.rule is None else self.rule.value(sample.text)

    @property
    def value(self) -> Any:
        """The text as what the rule stands for: an object of the given type, parsed JSON, or the text.

        Raises IncompleteError if a rule was given and the text was cut before it obeyed.
        """
        if self.rule is None:
            return self.text
        if self.finish_reason not in FINISHED:
            hints = {"time": "raise max_time, or go on with resume="}
            raise IncompleteError(
                f"the text is not complete ({self.finish_reason} after {len(self.tokens)} tokens): {self.text!r}"
                f"\nhint: {hints.get(self.finish_reason, 'raise max_new_tokens, or use more particles')}"
            )
        return self.rule.value(self.text)


class Generations(WeightedSamples, Sequence[Generation]):
    """Several generations for one prompt: a sequence of them, whose estimates pool all their particles.

    scores: those of `select`, for each, if they were ranked by it: the best comes first.
    """

    def __init__(self, items: Sequence[Generation], scores: Sequence[float] | None = None) -> None:
        self._items = tuple(items)
        self.scores = None if scores is None else tuple(scores)

    def ranked(self, scores: Sequence[float]) -> Generations:
        """The best first; texts that do not count (a log-weight of -inf) behind all others."""
        order = sorted(range(len(self)), key=lambda i: (self[i].log_weight > -math.inf, scores[i]), reverse=True)
        return Generations([self[i] for i in order], [scores[i] for i in order])

    @property
    def samples(self) -> Sequence[Sample]:
        return [sample for item in self._items for sample in item.particles]

    def read(self, sample: Sample) -> Any:
        return self._items[0].read(sample)

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> Generation: ...
    @overload
    def __getitem__(self, index: slice) -> Generations: ...
    def __getitem__(self, index: int | slice) -> Generation | Generations:
        if isinstance(index, slice):
            return Generations(self._items[index], None if self.scores is None else self.scores[index])
        return self._items[index]

    def __repr__(self) -> str:
        return f"Generations({list(self._items)!r})"


def choose(rng: np.random.Generator, samples: Sequence[Sample]) -> int:
    """Index of a sample drawn by weight; where no sample counts, of the one that came furthest."""
    weights = normalised(np.array([sample.log_weight for sample in samples]))
    if weights.any():
        return int(rng.choice(len(samples), p=weights))
    furthest = [(s.finish_reason in ("length", "time"), len(s.tokens)) for s in samples]
    return furthest.index(max(furthest))


def same(first: Any, second: Any) -> bool:
    """Equal and of one type: True is not 1."""
    return type(first) is type(second) and bool(first == second)


def is_hopeless(samples: Sequence[Sample]) -> bool:
    """Did every sample meet a dead end, or use up its tries?"""
    return all(s.finish_reason in ("dead_end", "gave_up") and s.log_weight == -math.inf for s in samples)
