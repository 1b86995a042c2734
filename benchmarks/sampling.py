"""Microseconds per drawn token: softmax + AWRS under a compiled rule, against softmax + torch.multinomial without one.

    python benchmarks/sampling.py --rounds 300 --json results.json

One process, one thread, the ways in turn on the same logits, so that their ratio means something on a shared machine;
each figure is the best and the median of the rounds. Two vocabularies are real: SmolLM2 (49,152 tokens, from the
packaged model) and tekken (131,072 tokens, from mistral-common). The third one has 262,144 tokens: those of tekken, and
the joined pairs of its tokens that would be most frequent if tokens came independently and the k-th merge of the
tokenizer had a frequency of 1/k.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mask_engines import timed
from masks import table

import genctl
from genctl.automata.base import run
from genctl.constraints.automaton import AutomatonConstraint
from genctl.constraints.base import unpack, words
from genctl.samplers.base import Draws, TokenSampler, weigh
from genctl.samplers.rejection import AWRS, awrs
from genctl.samplers.streams import of
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
MASSES = (0.99, 0.9, 0.5, 0.1, 0.01, 0.001)
WITHOUT_MASKS = AWRS(tail=1)
COUNTED = 200  # draws that the checks are averaged over
FREQUENT = 2_000  # tokens of tekken that are paired


def smollm2() -> Vocabulary:
    return genctl.load().language_model.vocabulary


@cache
def tekken() -> Vocabulary:
    from importlib.resources import files

    from mistral_common.tokens.tokenizers.tekken import Tekkenizer

    path = files("mistral_common") / "data" / "tekken_240911.json"
    return Vocabulary.from_tokenizer(Tekkenizer.from_file(str(path)))


def paired(size: int = 262_144) -> Vocabulary:
    """tekken and the likeliest pairs of its tokens that are no tokens yet."""
    base = tekken()
    merged = [token for token in base.tokens if len(token) > 1][:FREQUENT]  # ids are in the order of the merges
    ranks = np.arange(1, len(merged) + 1)
    pairs = np.argsort(np.outer(ranks, ranks), axis=None, kind="stable").tolist()
    joined = dict.fromkeys(merged[pair // len(merged)] + merged[pair % len(merged)] for pair in pairs)
    for token in base.tokens:
        joined.pop(token, None)
    more = islice(joined, size - len(base))
    return Vocabulary((*base.tokens, *more), base.eos, base.unused)


VOCABULARIES = {"SmolLM2 49k": smollm2, "tekken 131k": tekken, "paired 262k": paired}


def draw(
    rng: np.random.Generator,
    logits: np.ndarray,
    constraint: AutomatonConstraint,
    states: np.ndarray,
    sampler: TokenSampler = awrs,
) -> Draws:
    """genctl's constrained draw from logits: the one place of the benchmarks that knows how it is called."""
    return sampler(of(rng, len(states)), logits, constraint, states)


def logits_with_mass(rng: np.random.Generator, allowed: np.ndarray, mass: float) -> np.ndarray:
    """(1, V) float32: Zipf-shaped within and without the allowed tokens, which have this mass together."""
    row = np.empty(len(allowed))
    for part, share in ((allowed, mass), (~allowed, 1 - mass)):
        row[part] = -1.1 * np.log(rng.permutation(part.sum()) + 1.0)
        row[part] += np.log(share) - np.logaddexp.reduce(row[part])
    return row.astype(np.float32)[None]


def time_in_turn(rounds: int, ways: dict[str, Callable[[], object]]) -> dict[str, np.ndarray]:
    """Microseconds of each round of each way, without the time that other processes took."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            times[name].append(timed(way)[1] / 1e3)
    return {name: np.array(values) for name, values in times.items()}


def measure(vocabulary: Vocabulary, language: genctl.Rule, prefix: bytes, rounds: int) -> Iterator[dict[str, float]]:
    """Figures for each mass."""
    rng = np.random.default_rng(0)
    constraint = AutomatonConstraint(language.automaton, vocabulary)
    state = run(language.automaton, language.automaton.start, prefix)
    mask = np.zeros(words(len(vocabulary)), np.uint32)
    constraint.mask(state, mask)
    for mass in MASSES:
        logits = logits_with_mass(rng, unpack(mask, len(vocabulary)), mass)
        yield {"mass": mass, **at_mass(rng, logits, constraint, np.array([state]), rounds)}


def at_mass(
    rng: np.random.Generator, logits: np.ndarray, constraint: AutomatonConstraint, states: np.ndarray, rounds: int
) -> dict[str, float]:
    tensor = torch.from_numpy(logits)
    draws = [draw(rng, logits, constraint, states) for _ in range(COUNTED)]  # a warm-up as well
    alone = [draw(rng, logits, constraint, states, WITHOUT_MASKS).checks[0] for _ in range(COUNTED)]
    times = time_in_turn(
        rounds,
        {
            "awrs": lambda: draw(rng, logits, constraint, states),
            "multinomial": lambda: torch.multinomial(torch.softmax(tensor, -1), 1),
            "softmax": lambda: weigh(logits),
        },
    )
    return {
        **{f"{name}_best_us": float(values.min()) for name, values in times.items()},
        **{f"{name}_median_us": float(np.median(values)) for name, values in times.items()},
        "ratio_best": float(times["awrs"].min() / times["multinomial"].min()),
        "ratio_median": float(np.median(times["awrs"]) / np.median(times["multinomial"])),
        "checks": float(np.mean([one.checks[0] for one in draws])),
        "masks": float(np.mean([one.masks[0] for one in draws])),
        "checks_without_masks": float(np.mean(alone)),
    }


# -- the report

Row = dict[str, Any]


def tightness(rows: list[Row]) -> Iterator[str]:
    """Tokens that were tried for a draw by the published estimator, by the mass that the rule allows."""
    lines: dict[str, list[float]] = {}
    for row in rows:
        lines.setdefault(f"{row['vocabulary']}, {row['rule']}", []).append(row["checks_without_masks"])
    yield from table("checks a token, by allowed mass", map(str, MASSES), lines)


def growth(rows: list[Row]) -> Iterator[str]:
    """Microseconds by the size of the vocabulary, and the slope of the line through them (least squares)."""
    sizes = sorted({row["size"] for row in rows})

    def line(way: str, masses: Sequence[float]) -> list[float]:
        times = [
            float(np.mean([row[f"{way}_median_us"] for row in rows if row["size"] == size and row["mass"] in masses]))
            for size in sizes
        ]
        return [*times, float(np.polyfit(np.array(sizes) / 1000, times, 1)[0])]

    lines = {f"AWRS, mass {mass}": line("awrs", [mass]) for mass in MASSES}
    lines |= {"softmax alone": line("softmax", MASSES), "softmax + torch.multinomial": line("multinomial", MASSES)}
    yield from table("us, mean of the rules", [*(f"{size:,}" for size in sizes), "per 1,000 tokens"], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--json", help="file for the results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    head = f"{'vocabulary':<12} {'rule':<18} {'mass':>5} {'AWRS us':>9} {'torch us':>9} {'ratio':>6}"
    print(f"{head} {'checks':>7} {'masks':>6}")
    for name, make in VOCABULARIES.items():
        vocabulary = make()
        for rule_name, language, prefix in RULES:
            for found in measure(vocabulary, language, prefix, options.rounds):
                rows.append({"vocabulary": name, "size": len(vocabulary), "rule": rule_name, **found})
                print(
                    f"{name:<12} {rule_name:<18} {found['mass']:>5} {found['awrs_median_us']:>9.1f} "
                    f"{found['multinomial_median_us']:>9.1f} {found['ratio_median']:>6.3f} "
                    f"{found['checks']:>7.1f} {found['masks']:>6.2f}",
                    flush=True,
                )
    print("\n".join(["", *tightness(rows), *growth(rows)]))
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
