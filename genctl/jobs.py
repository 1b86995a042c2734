"""A call of `generate` that was looked at: what runs, and what becomes of it.

job = Job(model, call, plan, Run(model, plan), rules, budgets)
job.finish()                                        # what `generate` returns
for event in job.events():                          # what `stream` tells
    ...
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import numpy as np

from genctl.constraints.budget import Budget
from genctl.constraints.rules import Rule
from genctl.errors import ArgumentError, DeadEndError
from genctl.models.base import LanguageModel
from genctl.models.boundary import Boundary
from genctl.options import Call, Progress
from genctl.results import FinishReason, Generation, Generations, Sample, choose, is_hopeless
from genctl.runs import Group, Part, Plan, Run
from genctl.samplers.smc import COMPLETE, CUT, DEAD, GAVE_UP, STOPPED, Particles, Trace
from genctl.steering.observers import Confidence, Divergence
from genctl.streaming import Event, sure_texts

REASONS: dict[int, FinishReason] = {
    COMPLETE: "complete",
    CUT: "length",
    DEAD: "dead_end",
    STOPPED: "time",
    GAVE_UP: "gave_up",
}
CHOICE = 2**32  # the stream of the particle that is returned, among those of the particles


@dataclass(frozen=True, eq=False)
class Job:
    """model: with the law of prompts' ends, without hooks. rules, budgets: of each prompt, as rankings, if there are
    any. batched: was a list of prompts given?
    """

    model: LanguageModel[Any]
    call: Call
    plan: Plan
    run: Run
    rules: Sequence[Rule | None]
    budgets: Sequence[Budget | None]
    rankings: Sequence[Callable[[Generations], Generations]] | None
    batched: bool

    def finish(self) -> Generation | Generations | list[Generation] | list[Generations]:
        deque(self.steps(), maxlen=0)
        return self.results()

    def events(self) -> Iterator[Event]:
        """The text in pieces, the last of which comes with the result."""
        told = 0
        for text in sure_texts(self.steps(), self.model.vocabulary):
            told += len(text)
            yield Event(text)
        made = cast(Generation, self.results())
        yield Event(made.text[told:], made)

    def steps(self) -> Iterator[Particles[Any]]:
        """Raises Interrupted at Ctrl-C."""
        with _progress(self.call.progress, self.call.max_new_tokens) as on_step, self.run.interruptible():
            yield from self.run.steps(on_step)

    def results(self) -> Generation | Generations | list[Generation] | list[Generations]:
        """Behind the last step. Raises DeadEndError where all texts of a prompt end where no token is allowed."""
        results = list(self._results())
        if self.rankings is not None:
            results = [rank(several) for rank, several in zip(self.rankings, results, strict=True)]
        if self.plan.sequences == 1:
            singles = [several[0] for several in results]
            return singles if self.batched else singles[0]
        return results if self.batched else results[0]

    def _results(self) -> Iterator[Generations]:
        """Those of each prompt."""
        parts, plan, checkpoint = self.run.parts, self.plan, cache(self.run.checkpoint)
        for p, (rule, budget) in enumerate(zip(self.rules, self.budgets, strict=True)):
            mine = [parts[Group(p, s)] for s in range(plan.sequences)]
            items = [
                self._generation(one, plan.prompts[p], rule, budget, checkpoint, (plan.seed, p, s))
                for s, one in enumerate(mine)
            ]
            if all(is_hopeless(item.particles) for item in items):
                raise DeadEndError(self._dead_end([part for one in mine for part in one]))
            yield Generations(items)

    def _generation(
        self,
        parts: Sequence[Part],
        prompt: Sequence[int],
        rule: Rule | None,
        budget: Budget | None,
        checkpoint: Callable[[], dict[str, Any]],
        numbers: tuple[int, ...],
    ) -> Generation:
        samples = tuple(sample for part in parts for sample in self._samples(part, prompt, budget))
        chosen = samples[choose(np.random.default_rng((*numbers, CHOICE)), samples)]
        unfinished = any(sample.finish_reason == "time" for sample in samples)
        return Generation(
            **vars(chosen),
            particles=samples,
            rule=rule,
            traces=tuple(part.trace for part in parts),
            checkpoint=checkpoint() if unfinished else None,
        )

    def _samples(self, part: Part, prompt: Sequence[int], budget: Budget | None) -> Iterator[Sample]:
        cloud = part.cloud
        for i in range(part.rows.start, part.rows.stop):
            reason = REASONS[int(cloud.status[i])]
            if reason == "complete" and budget is not None and budget.shortened(cloud.tokens[i]):
                reason = "wrapped_up"
            yield Sample(
                text=self.model.vocabulary.join(cloud.tokens[i]).decode(errors="replace"),
                tokens=self._spelled(prompt, cloud.tokens[i]),
                logprob=float(cloud.logprobs[i]),
                log_weight=float(cloud.log_weights[i]),
                finish_reason=reason,
            )

    def _spelled(self, prompt: Sequence[int], symbols: tuple[int, ...]) -> tuple[int, ...]:
        """Tokens, which behind the bytes of a prompt are not what was drawn."""
        return self.model.spelled(prompt, symbols) if isinstance(self.model, Boundary) else symbols

    def _dead_end(self, parts: Sequence[Part]) -> str:
        if parts[0].trace.tries:
            return _no_text_found(parts[0].trace)
        vocabulary = self.model.vocabulary
        furthest = max((tokens for part in parts for tokens in part.cloud.tokens[part.rows]), key=len)
        preferred = parts[0].cloud.wanted
        wanted = ", ".join(f"{vocabulary.tokens[t].decode(errors='replace')!r} ({p:.2g})" for t, p in preferred)
        text = vocabulary.join(furthest).decode(errors="replace")
        return (
            f"no token is allowed after {text!r} ({len(furthest)} tokens), in every particle"
            + (f"; the model wanted {wanted}" if wanted else "")
            + "\nhint: use more particles, a rule that judges prefixes earlier, or a wider top_k, top_p, min_p"
        )


def ranked(several: Generations, model: LanguageModel[Any], ids: Sequence[int], selector: Any) -> Generations:
    """By the scores of a selector, which reads them behind a prompt of ids, or of a function of a Generation."""
    if isinstance(selector, Confidence | Divergence):
        scores = selector(model, ids, [g.tokens for g in several])
    else:
        scores = [_score(selector(g), g.text) for g in several]
    for g, score in zip(several, scores, strict=True):
        if not score < math.inf:  # NaN is not either
            hint = (
                "\nhint: the model cannot write behind the prompt what it can without it; take Divergence(uniform=True)"
            )
            raise ArgumentError(
                f"select scored {g.text!r} with {score}" + (hint if isinstance(selector, Divergence) else "")
            )
    return several.ranked(scores)


def _score(given: Any, text: str) -> float:
    number = given.item() if getattr(given, "ndim", None) == 0 else given
    if not isinstance(number, int | float):
        raise ArgumentError(f"select scored {text!r} with {given!r}, it must be a number")
    return float(number)


def _no_text_found(trace: Trace) -> str:
    tries, bound = trace.tries[0], trace.log_bounds[0]
    if bound == -math.inf:
        return "the model gives no text that obeys the rule any probability"
    return (
        f"none of {tries:,} texts obeyed the rule; the model gives it a log-probability of at most {bound:.2f}"
        '\nhint: raise max_tries, or use method="awrs", which is led by the rule'
    )


@contextmanager
def _progress(progress: Progress, total: int) -> Iterator[Callable[[int, int], None]]:
    if callable(progress):
        yield progress
    elif progress:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        with Bar(TextColumn("tokens"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), transient=True) as bar:
            task = bar.add_task("tokens", total=total)
            yield lambda done, of: bar.update(task, completed=done, total=of)
    else:
        yield lambda done, of: None
