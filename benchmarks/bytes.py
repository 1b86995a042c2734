"""Byte views: bytes per CPU second and forwards per byte, against genlm-bytes 0.2.0; memory; the cost of an ensemble.

    python benchmarks/bytes.py --peer-python ../genlm-env/bin/python --json results.json
    python benchmarks/bytes.py --only memory --count 2000           # does memory stay bounded?
    python benchmarks/bytes.py --only ensemble

The packaged model, one text, one thread. All settings of both libraries read the same bytes, which are genctl's
greedy ones, a few at a time in turn. A forward is one cached step of one token, timed in the same process: "forwards a
byte" is what a byte costs in units of it, and can be compared between libraries and machines.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from bytes_engines import BEAMS
from workers import Worker

PROMPTS = (
    "The capital of France is Par",
    "def fibonacci(n):\n    if n < 2:\n        ret",
    "Once upon a time there was a little g",
)
LONG = PROMPTS[2] + "irl who lived in a small harbour town, and every morning she walked down to the sea. " * 3
SETTINGS = ("eps 0", "eps 0.001", "all, eps 0.001")
CHUNK = 4  # bytes of one setting before it is the next one's turn
STAGES = 4  # of the memory's growth

Row = dict[str, Any]


def measure_speed(workers: list[Worker], count: int, prompts: list[str]) -> Iterator[Row]:
    """A row for each prompt and setting."""
    forwards = load(workers)
    settings = [(worker, name) for worker in workers for name in (BEAMS if worker.name == "genlm" else SETTINGS)]
    for worker, setting in settings:  # a warm-up
        worker.ask("begin", setting=setting, prompt="Hello, w")
        worker.ask("push", setting=setting, text="orld")
    for prompt in prompts:
        workers[0].ask("begin", setting="eps 0", prompt=prompt)
        text = workers[0].ask("greedy", setting="eps 0", count=count)["text"]
        begun = [worker.ask("begin", setting=setting, prompt=prompt) for worker, setting in settings]
        spent: list[list[Row]] = [[] for _ in settings]
        for turn, start in enumerate(range(0, count, CHUNK)):
            for place in np.roll(np.arange(len(settings)), -turn).tolist():
                worker, setting = settings[place]
                spent[place].append(worker.ask("push", setting=setting, text=text[start : start + CHUNK]))
        exact = np.exp(spent[0][-1]["law"])
        for (worker, setting), first, several in zip(settings, begun, spent, strict=True):
            law = np.exp(several[-1]["law"])
            yield {
                "prompt": prompt,
                "library": worker.name,
                "setting": setting,
                "text": text,
                **totals(several, count, forwards[worker.name]),
                "prefill_cpu_s": first["cpu"],
                "prefill_calls": first["calls"],
                "prefill_positions": first["positions"],
                "from_eps_0": float(np.abs(law[:256] - exact[:256]).sum() / 2),
            }


def table(columns: list[str], lines: dict[str, list[float]]) -> Iterator[str]:
    """Markdown."""
    yield f"| | {' | '.join(columns)} |"
    yield "|:--|" + "--:|" * len(columns)
    for name, values in lines.items():
        yield f"| {name} | {' | '.join(f'{value:.3g}' for value in values)} |"


def load(workers: list[Worker]) -> dict[str, float]:
    """Seconds of a forward, by library."""
    from genctl.models.gguf import converted
    from genctl.models.packaged import packaged_models

    model = str(converted(packaged_models()["SmolLM2-135M-Instruct"]))
    return {worker.name: worker.ask("load", model=model)["forward"] for worker in workers}


def totals(several: list[Row], count: int, forward: float) -> Row:
    cpu = sum(one["cpu"] for one in several)
    return {
        "bytes_per_cpu_s": count / cpu,
        "forwards_a_byte": cpu / count / forward,
        "calls_a_byte": sum(one["calls"] for one in several) / count,
        "positions_a_byte": sum(one["positions"] for one in several) / count,
        "forward_ms": 1000 * forward,
    }


def speed_table(rows: list[Row]) -> Iterator[str]:
    """Means over the prompts, each with the same number of bytes; of rates the harmonic one."""
    lines: dict[str, list[float]] = {}
    for library, setting in dict.fromkeys((row["library"], row["setting"]) for row in rows):
        mine = [row for row in rows if (row["library"], row["setting"]) == (library, setting)]
        means = [float(np.mean([row[name] for row in mine])) for name in AVERAGED]
        rate = 1 / float(np.mean([1 / row["bytes_per_cpu_s"] for row in mine]))
        lines[f"{library}, {setting}"] = [rate, *means]
    yield from table(["bytes per CPU s", *(name.replace("_", " ") for name in AVERAGED)], lines)


AVERAGED = ("forwards_a_byte", "calls_a_byte", "positions_a_byte", "prefill_cpu_s", "from_eps_0")


def measure_memory(workers: list[Worker], count: int, prompts: list[str]) -> Iterator[Row]:
    """A row for each quarter of a text."""
    load(workers[:1])
    workers[0].ask("begin", setting="eps 0.001", prompt=prompts[-1])
    for stage in range(1, STAGES + 1):
        found = workers[0].ask("greedy", setting="eps 0.001", count=count // STAGES)
        yield {"bytes": stage * (count // STAGES), **found}


def memory_table(rows: list[Row]) -> Iterator[str]:
    columns = ["resident_mb", "cache_mb", "longest_row_mb", "worst_bound", "cpu"]
    lines = {f"{row['bytes']} bytes": [row[name] for name in columns] for row in rows}
    yield from table(columns, lines)


def measure_ensemble(workers: list[Worker], count: int, prompts: list[str]) -> Iterator[Row]:
    """CPU seconds of an ensemble's bytes, and of the same bytes by each of its members alone."""
    load(workers[:1])
    workers[0].ask("add_member")
    views = ("first", "second", "both")
    for prompt in prompts:
        workers[0].ask("begin", setting="eps 0.001", prompt=prompt)
        text = workers[0].ask("greedy", setting="eps 0.001", count=count)["text"]
        spent = dict.fromkeys(views, 0.0)
        for view in views:
            workers[0].ask("begin_member", view=view, prompt=prompt)
        for turn, start in enumerate(range(0, count, CHUNK)):
            for view in np.roll(views, -turn).tolist():
                spent[view] += workers[0].ask("push", setting=view, text=text[start : start + CHUNK])["cpu"]
        yield {"prompt": prompt, **{view: seconds / count for view, seconds in spent.items()}}


def ensemble_table(rows: list[Row]) -> Iterator[str]:
    lines = {
        repr(row["prompt"][-20:]): [
            *(1000 * row[view] for view in ("first", "second", "both")),
            (row["first"] + row["second"]) / row["both"],
        ]
        for row in rows
    }
    columns = ["first, CPU ms a byte", "second", "ensemble", "sum / ensemble"]
    yield from table(columns, lines)


PARTS = {
    "speed": (measure_speed, speed_table),
    "memory": (measure_memory, memory_table),
    "ensemble": (measure_ensemble, ensemble_table),
}


def run(options: argparse.Namespace) -> dict[str, Any]:
    pythons = {"genctl": sys.executable} | ({"genlm": options.peer_python} if options.peer_python else {})
    script = str(Path(__file__).with_name("bytes_engines.py"))
    measure, shown = PARTS[options.only]
    with tempfile.TemporaryDirectory() as folder:
        workers = [Worker(name, python, script, Path(folder)) for name, python in pythons.items()]
        try:
            found: dict[str, Any] = {
                "versions": {worker.name: worker.ask("versions") for worker in workers},
                "rows": [],
            }
            for row in measure(workers, options.count, options.prompts):
                found["rows"].append(row)
                figures = (f"{name} {value:.4g}" for name, value in row.items() if isinstance(value, int | float))
                print(row.get("setting", ""), *figures, sep=", ", file=sys.stderr, flush=True)
            print("\n".join(shown(found["rows"])), flush=True)
        finally:
            for worker in workers:
                worker.stop()
    return {"options": vars(options), "load": os.getloadavg(), **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=PARTS, default="speed")
    parser.add_argument("--peer-python", help="of an environment with genlm-bytes==0.2.0; not given: genctl alone")
    parser.add_argument("--count", type=int, default=24, help="bytes of each text")
    parser.add_argument("--prompts", nargs="*", default=[*PROMPTS])
    parser.add_argument("--long", action="store_true", help="a prompt of 292 bytes as well")
    parser.add_argument("--json", help="file for the results")
    options = parser.parse_args()
    options.prompts += [LONG] if options.long else []
    found = run(options)
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
