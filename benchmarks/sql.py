"""Microseconds of SQL over a schema: a check, a commit and a mask, in SmolLM2's tokens.

    python benchmarks/sql.py --json results.json

The gold queries of Spider's development set are read token by token, without a budget of tokens and with one of
`--budget`. Rules are made anew for the checks and for the masks of each; the second visit reads the same queries again.
A time is the lesser of elapsed and CPU time of one call.
"""

from __future__ import annotations

import argparse
import gc
import gzip
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from masks import Encode, smollm2

import genctl
from genctl.constraints.base import Constraint, words
from genctl.constraints.budget import within
from genctl.constraints.rules import Rule
from genctl.vocabulary import Vocabulary

DATA = Path(os.environ.get("GENCTL_DATA", Path(__file__).parents[2] / "shared" / "data"))
T = TypeVar("T")
Times = dict[str, list[float]]  # seconds of each call, by what was called


def rules_of(schemas: Iterable[Mapping[str, Any]]) -> dict[str, Rule]:
    """One by the name of each database; without the tables that SQLite keeps for itself."""
    found: dict[str, Rule] = {}
    for schema in schemas:
        tables: dict[str, dict[str, str]] = defaultdict(dict)
        for (owner, column), kind in zip(schema["column_names_original"], schema["column_types"], strict=True):
            name = schema["table_names_original"][owner]
            if owner >= 0 and not name.startswith("sqlite_"):
                tables[name][column] = kind
        found[schema["db_id"]] = genctl.sql(tables)
    return found


def timed(call: str, times: Times, work: Callable[..., T], *given: Any) -> T:
    """What it returns; the lesser of elapsed and CPU time is noted."""
    cpu, begun = time.process_time(), time.perf_counter()
    found = work(*given)
    elapsed = time.perf_counter() - begun
    times[call].append(min(elapsed, time.process_time() - cpu))
    return found


def walk(constraint: Constraint, tokens: Sequence[int], masks: bool, times: Times, out: np.ndarray) -> bool:
    """Is the text allowed to its end? A mask is asked for before the check, if at all."""
    state = constraint.start()
    for token in tokens:
        if masks:
            timed("mask", times, constraint.mask, state, out)
        allowed = timed("check", times, constraint.allows, state, token)
        state = timed("commit", times, constraint.advance, state, token)
        if not allowed:
            return False
    return constraint.complete(state)


def measure(
    content: Mapping[str, Any], encode: Encode, vocabulary: Vocabulary, budget: int | None, every: int
) -> dict[str, Times]:
    """Checks of all queries, and masks of each `every`th one by other rules, by visit."""
    out, found = np.zeros(words(len(vocabulary)), np.uint32), dict[str, Times]()
    for masks, questions in (False, content["questions"]), (True, content["questions"][::every]):
        rules = rules_of(content["schemas"])
        for visit in "first", "second":
            times: Times = defaultdict(list)
            for question in questions:
                constraint = rules[question["db_id"]].bind(vocabulary)
                held = constraint if budget is None else within(constraint, budget)[0]
                if not walk(held, encode(question["query"]), masks, times, out):
                    raise SystemExit(f"refused: {question['query']}")
            found.setdefault(visit, {}).update({"mask": times["mask"]} if masks else times)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=int, default=200, help="tokens; the longest query has 163 (default: 200)")
    parser.add_argument("--every", type=int, default=10, help="masks are built for each n-th query (default: 10)")
    parser.add_argument("--json", type=Path, help="where to write the results")
    options = parser.parse_args()
    with gzip.open(DATA / "spider-dev.json.gz") as file:
        content = json.load(file)
    known, encode = smollm2()
    vocabulary = Vocabulary(known.tokens, eos=frozenset(known.eos))
    measure({**content, "questions": content["questions"][:2]}, encode, vocabulary, options.budget, 1)  # warm: kernels
    gc.collect()
    gc.freeze()
    rows = []
    print("| budget | visit | call | p50 us | p99 us | mean us | calls |\n| --- | --- | --- | --- | --- | --- | --- |")
    for budget in None, options.budget:
        for visit, times in measure(content, encode, vocabulary, budget, options.every).items():
            for call, seconds in times.items():
                p50, p99, mean = 1e6 * np.array([*np.percentile(seconds, [50, 99]), np.mean(seconds)])
                rows.append({"budget": budget, "visit": visit, "call": call, "p50": p50, "p99": p99, "mean": mean})
                figures = f"{p50:.3g} | {p99:.3g} | {mean:.3g} | {len(seconds)}"
                print(f"| {budget} | {visit} | {call} | {figures} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
