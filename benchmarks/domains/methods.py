"""The methods that are compared: how each comes from a prompt and a rule to weighted texts, and what that took.

    row = run(lm, example, METHODS["awrs-smc"], sizes)      # plain JSON

What is counted: *tokens* of all texts that were drawn, their ends included. *tested*: tokens about which the rule was
asked, one by one or by masks, each of which decides all V of the vocabulary. *calls* of the prefix oracle, where
the rule has one: they are fewer, since a grammar answers first and answers are remembered.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from benchmarks.domains import Example
from genctl import AWRS, DeadEndError, Generation, Generations
from genctl.generate import Model
from genctl.results import FINISHED, Sample

Weighted = list[tuple[str, float]]  # finished texts; the weights sum to 1, or to 0 where there are none
Row = dict[str, Any]


class Sizes(NamedTuple):
    """max_tries: texts that exact rejection may try. max_time: seconds of one call."""

    particles: int = 10
    awrs_particles: int = 5
    max_new_tokens: int = 64
    max_tries: int = 100
    max_time: float = 600.0


class Method(NamedTuple):
    """options: of generate, by the sizes. ruled: does the rule lead the texts? choose: weighs what was drawn."""

    options: Callable[[Sizes], dict[str, Any]]
    ruled: bool
    choose: Callable[[Example, Sequence[Generation]], Weighted]


def _finished(samples: Sequence[Sample]) -> list[str]:
    return [sample.text for sample in samples if sample.finish_reason in FINISHED]


def as_it_is(example: Example, generations: Sequence[Generation]) -> Weighted:
    """The text, whatever its importance weight."""
    return [(text, 1.0) for text in _finished(generations)]


def best(example: Example, generations: Sequence[Generation]) -> Weighted:
    """Any of the valid texts; any text where none is."""
    texts = _finished(generations)
    chosen = [text for text in texts if example.valid(text)] or texts
    return [(text, 1 / len(chosen)) for text in chosen]


def by_weight(example: Example, generations: Sequence[Generation]) -> Weighted:
    """The particles, by importance weight: particles that were cut have none."""
    (generation,) = generations
    return list(generation.posterior().items())


METHODS = {
    "base": Method(lambda sizes: {}, False, as_it_is),
    "masked": Method(lambda sizes: {"method": "masked"}, True, as_it_is),
    "rerank": Method(lambda sizes: {"num_return_sequences": sizes.particles}, False, best),
    "smc-masked": Method(lambda sizes: {"method": "masked", "num_particles": sizes.particles}, True, by_weight),
    # The default would weigh by masks where the rule is compiled, since they cost little there: here all is by tests.
    "awrs-smc": Method(lambda sizes: {"method": AWRS(tail=3), "num_particles": sizes.awrs_particles}, True, by_weight),
    "exact": Method(lambda sizes: {"method": "exact", "max_tries": sizes.max_tries}, True, by_weight),
}


def run(model: Model, example: Example, method: Method, sizes: Sizes, seed: int) -> Row:
    """One example by one method. A dead end, or exact rejection that gave up, is a row without texts that says so."""
    example.rule.bind(model.language_model.vocabulary).start()  # what is compiled once is not counted
    calls = example.oracle.calls if example.oracle else 0
    begun, begun_cpu = time.perf_counter(), time.process_time()
    try:
        found = model.generate(
            example.prompt,
            example.rule if method.ruled else None,
            max_new_tokens=sizes.max_new_tokens,
            max_time=sizes.max_time,
            seed=seed,
            **method.options(sizes),
        )
        ended = ""
    except (DeadEndError, TimeoutError) as error:
        found, ended = None, f"{type(error).__name__}: {error}".split("\n")[0]
    seconds, cpu = time.perf_counter() - begun, time.process_time() - begun_cpu
    generations = [] if found is None else list(found) if isinstance(found, Generations) else [found]
    texts = method.choose(example, generations) if generations else []
    return {
        "valid": sum(weight for text, weight in texts if example.valid(text)),
        "score": sum(weight * example.score(text) for text, weight in texts if example.valid(text)),
        "ended": ended or generations[0].finish_reason,
        "seconds": seconds,
        "cpu": cpu,
        **_counts(generations, len(model.language_model.vocabulary)),
        "calls": example.oracle.calls - calls if example.oracle and generations else None,
        "log_weight": generations[0].log_weight if generations else None,
        "log_evidence": generations[0].log_evidence if generations else None,
        "texts": [list(pair) for pair in sorted(texts, key=lambda pair: -pair[1])[:3]],
    }


def _counts(generations: Sequence[Generation], size: int) -> Row:
    if not generations:
        return {"length": None, "tokens": None, "tested": None, "checks": None, "masks": None}
    checks, masks = (sum(getattr(g, name) for g in generations) for name in ("checks", "masks"))
    return {
        "length": len(generations[0].tokens),
        "tokens": sum(len(sample.tokens) + 1 for g in generations for sample in g.particles),
        "tested": checks + size * masks,
        "checks": checks,
        "masks": masks,
    }
