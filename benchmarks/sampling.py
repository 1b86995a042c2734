"""Microseconds per drawn token: softmax + AWRS under a compiled rule, against softmax + torch.multinomial without one.

    python benchmarks/sampling.py --rounds 300 --json results.json

One process, one thread, the two ways in turn on the same logits, so that their ratio means something on a shared
machine; each figure is the best and the median of the rounds. Vocabularies are real: SmolLM2 (49,152 tokens, from
the packaged model) and tekken (131,072 tokens, from mistral-common).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
import torch

import genctl
from genctl.automata.base import run
from genctl.constraints.automaton import AutomatonConstraint
from genctl.samplers.base import weigh
from genctl.samplers.rejection import awrs
from genctl.vocabulary import Vocabulary

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 40}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
# (name, rule, text that was generated so far)
RULES = [
    ("date, at a digit", genctl.regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}"), b"20"),
    ("JSON, in a string", genctl.json(SCHEMA), b'{"name": "Ad'),
    ("JSON, at a number", genctl.json(SCHEMA), b'{"name": "Ada", "age": 3'),
]
MASSES = (0.99, 0.9, 0.5, 0.1)


def smollm2() -> Vocabulary:
    return genctl.load().language_model.vocabulary


def tekken() -> Vocabulary:
    from importlib.resources import files

    from mistral_common.tokens.tokenizers.tekken import Tekkenizer

    path = files("mistral_common") / "data" / "tekken_240911.json"
    return Vocabulary.from_tokenizer(Tekkenizer.from_file(str(path)))


VOCABULARIES = {"SmolLM2 49k": smollm2, "tekken 131k": tekken}


def logits_with_mass(rng: np.random.Generator, allowed: np.ndarray, mass: float) -> np.ndarray:
    """(1, V) float32: Zipf-shaped within and without the allowed tokens, which have this mass together."""
    row = np.empty(len(allowed))
    for part, share in ((allowed, mass), (~allowed, 1 - mass)):
        row[part] = -1.1 * np.log(rng.permutation(part.sum()) + 1.0)
        row[part] += np.log(share) - np.logaddexp.reduce(row[part])
    return row.astype(np.float32)[None]


def time_in_turn(rounds: int, ways: dict[str, Callable[[], object]]) -> dict[str, np.ndarray]:
    """Microseconds of each round of each way."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            begun = time.perf_counter_ns()
            way()
            times[name].append((time.perf_counter_ns() - begun) / 1e3)
    return {name: np.array(values) for name, values in times.items()}


def measure(vocabulary: Vocabulary, language: genctl.Rule, prefix: bytes, mass: float, rounds: int) -> dict[str, float]:
    rng = np.random.default_rng(0)
    constraint = AutomatonConstraint(language.automaton, vocabulary)
    state = run(language.automaton, language.automaton.start, prefix)
    allowed = np.array([constraint.allows(state, token) for token in range(len(vocabulary))])
    logits = logits_with_mass(rng, allowed, mass)
    tensor, states = torch.from_numpy(logits), np.array([state])
    checks = [int(awrs(rng, logits, constraint, states).checks[0]) for _ in range(200)]  # warm, and counted
    times = time_in_turn(
        rounds,
        {
            "awrs": lambda: awrs(rng, logits, constraint, states),
            "multinomial": lambda: torch.multinomial(torch.softmax(tensor, -1), 1),
            "softmax": lambda: weigh(logits),
        },
    )
    return {
        **{f"{name}_best_us": float(values.min()) for name, values in times.items()},
        **{f"{name}_median_us": float(np.median(values)) for name, values in times.items()},
        "ratio_best": float(times["awrs"].min() / times["multinomial"].min()),
        "ratio_median": float(np.median(times["awrs"]) / np.median(times["multinomial"])),
        "checks": float(np.mean(checks)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--json", help="file for the results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    print(f"{'vocabulary':<12} {'rule':<18} {'mass':>5} {'AWRS us':>9} {'torch us':>9} {'ratio':>6} {'checks':>7}")
    for name, make in VOCABULARIES.items():
        vocabulary = make()
        for rule_name, language, prefix in RULES:
            for mass in MASSES:
                found = measure(vocabulary, language, prefix, mass, options.rounds)
                results.append({"vocabulary": name, "rule": rule_name, "mass": mass, **found})
                print(
                    f"{name:<12} {rule_name:<18} {mass:>5} {found['awrs_median_us']:>9.1f} "
                    f"{found['multinomial_median_us']:>9.1f} {found['ratio_median']:>6.3f} {found['checks']:>7.1f}"
                )
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
