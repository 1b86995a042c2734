"""AWRS and SMC against genlm-control 0.4.1: time of a draw, tokens a second, variance of the log evidence.

    python benchmarks/awrs.py --peer-python ../genlm-env/bin/python --only sampler,speed --json results.json

Each library works in a process of its own, in its own environment, with one thread; they are asked in turn, a different
one first each time, for the same tasks (awrs_tasks.py) from the same model: the packaged SmolLM2 as genctl converts it.
The seconds of the processes' own CPU time stand beside elapsed ones.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from awrs_tasks import MASSES, PLACES, TASKS
from masks import table
from workers import Worker

VOCABULARIES = {"49k": "SmolLM2 49k", "131k": "tekken 131k"}
CHUNK = 20  # draws of one library before it is the other one's turn

Row = dict[str, Any]


def in_turn(workers: list[Worker], turn: int) -> list[Worker]:
    shift = turn % len(workers)
    return workers[shift:] + workers[:shift]


# -- the draw alone


def measure_sampler(workers: list[Worker], vocabularies: Iterable[str], draws: int) -> Iterator[Row]:
    """A row for each vocabulary, place and mass: by library, means over the draws."""
    ours, peer = workers
    for name in vocabularies:
        ours.ask("write_vocabulary", name=VOCABULARIES[name])
        peer.ask("read_vocabulary")
        for place in PLACES:
            for mass in MASSES:
                found = draw_in_turn(workers, place, mass, draws)
                yield {"vocabulary": name, "place": place, "mass": mass, **found}


def draw_in_turn(workers: list[Worker], place: str, mass: float, draws: int) -> dict[str, dict[str, float]]:
    for worker in workers:
        worker.ask("begin_draws", place=place, mass=mass)
        worker.ask("draws", count=CHUNK // 2)  # a warm-up
    chunks: dict[str, list[dict[str, float]]] = {worker.name: [] for worker in workers}
    for turn in range(draws // CHUNK):
        for worker in in_turn(workers, turn):
            chunks[worker.name].append(worker.ask("draws", count=CHUNK))
    return {
        name: {key: float(np.mean([chunk[key] for chunk in several])) for key in several[0]}
        for name, several in chunks.items()
    }


def sampler_table(rows: list[Row]) -> Iterator[str]:
    columns = ["genctl, CPU us", "genlm, CPU us", "genlm / genctl", "genctl, checks", "genlm, checks"]
    lines = {}
    for row in rows:
        ours, peer = row["genctl"], row["genlm"]
        lines[f"{row['vocabulary']}, {row['place']}, {row['mass']}"] = [
            1e6 * ours["cpu"],
            1e6 * peer["cpu"],
            peer["cpu"] / ours["cpu"],
            ours["checks"],
            peer["checks"],
        ]
    yield from table("a draw: vocabulary, rule, mass", columns, lines)


# -- whole texts


def begin_texts(workers: list[Worker], tasks: list[str]) -> None:
    """Load the model, see that both libraries read the same prompt and end a text in the same way, and warm up."""
    from genctl.models.gguf import converted
    from genctl.models.packaged import packaged_models

    model = str(converted(packaged_models()["SmolLM2-135M-Instruct"]))
    ends = [worker.ask("load", model=model) for worker in workers]
    prompts = [[worker.ask("prompt", task=task) for task in tasks] for worker in workers]
    if ends[0] != ends[1] or prompts[0] != prompts[1]:
        raise ValueError(f"the libraries do not mean the same: {ends}, {prompts}")
    for task in tasks:
        for worker in workers:
            generate(worker, task, 1, 0, "", cold=True)


def generate(worker: Worker, task: str, particles: int, seed: int, resampling: str, cold: bool) -> Row:
    """One run; where the library failed it has an error, and no evidence."""
    options = {"task": task, "particles": particles, "seed": seed, "resampling": resampling, "cold": cold}
    try:
        return worker.ask("generate", **options)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return {"cpu": 0.0, "wall": 0.0, "tokens": 0, "log_evidence": math.nan, "error": str(error)}


def measure_texts(
    workers: list[Worker], tasks: Iterable[str], counts: list[int], seeds: int, resampling: str, cold: bool
) -> Iterator[Row]:
    """A row for each task and number of particles: the runs of each library, by seed."""
    for task in tasks:
        for particles in counts or TASKS[task].particles:
            runs: dict[str, list[Row]] = {worker.name: [] for worker in workers}
            for seed in range(seeds):
                for worker in in_turn(workers, seed):
                    runs[worker.name].append(generate(worker, task, particles, seed, resampling, cold))
            yield {"task": task, "particles": particles, **runs}


def speed_table(rows: list[Row]) -> Iterator[str]:
    """Tokens of all particles at their end, over the runs' seconds."""
    lines = {}
    for row in rows:
        line: list[float] = []
        for clock in ("wall", "cpu"):
            ours, peer = per_second(row["genctl"], clock), per_second(row["genlm"], clock)
            line += [ours, peer, ours / peer]
        lines[f"{row['task']}, N = {row['particles']}"] = line
    columns = ["genctl", "genlm", "ratio", "genctl, of CPU", "genlm, of CPU", "ratio, of CPU"]
    yield from table("tokens a second", columns, lines)


def per_second(runs: list[Row], clock: str) -> float:
    seconds = sum(run[clock] for run in runs)
    return sum(run["tokens"] for run in runs) / seconds if seconds else math.nan


def variance_table(rows: list[Row]) -> Iterator[str]:
    """Of the log evidence. Of runs at -inf it has none: once they are left out, and once taken for the lowest run of
    both libraries that is above it.
    """
    lines = {}
    for row in rows:
        runs = {name: np.array([run["log_evidence"] for run in row[name]]) for name in ("genctl", "genlm")}
        both = np.concatenate(list(runs.values()))
        lowest = np.min(both[np.isfinite(both)], initial=math.inf)
        for name, values in runs.items():
            lines[f"{row['task']}, N = {row['particles']}, {name}"] = list(evidence_figures(values, lowest).values())
    yield from table("log evidence", evidence_figures(np.zeros(1), 0.0), lines)


def evidence_figures(values: np.ndarray, lowest: float) -> dict[str, float]:
    known = values[~np.isnan(values)]
    log_mean = np.logaddexp.reduce(known) - np.log(len(known)) if len(known) else math.nan
    finite = known[np.isfinite(known)]
    return {
        "mean": float(finite.mean()) if len(finite) else math.nan,
        "variance without -inf": variance(finite),
        "variance with the lowest for -inf": variance(np.maximum(known, lowest)),
        "log of the mean evidence": float(log_mean),
        "runs": len(values),
        "-inf": int(np.isneginf(values).sum()),
        "failed": int(np.isnan(values).sum()),
    }


def variance(values: np.ndarray) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else math.nan


# -- the report

TABLES = {"sampler": sampler_table, "speed": speed_table, "variance": variance_table}


def measure(part: str, workers: list[Worker], options: argparse.Namespace) -> Iterator[Row]:
    if part == "sampler":
        return measure_sampler(workers, options.vocabularies, options.draws)
    cold = part == "speed"
    seeds = options.speed_seeds if cold else options.seeds
    return measure_texts(workers, options.tasks, options.particles, seeds, options.resampling, cold)


def run(options: argparse.Namespace) -> Mapping[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        pythons = {"genctl": sys.executable, "genlm": options.peer_python}
        script = str(Path(__file__).with_name("awrs_engines.py"))
        workers = [Worker(name, python, script, Path(folder)) for name, python in pythons.items()]
        try:
            found: dict[str, Any] = {"versions": {worker.name: worker.ask("versions") for worker in workers}}
            workers[0].ask("choose", method=options.method, packed=options.packed)
            if {"speed", "variance"} & set(options.only):
                begin_texts(workers, options.tasks)
            for part in options.only:
                found[part] = []
                for row in measure(part, workers, options):
                    found[part].append(row)
                    done = [str(value) for value in row.values() if isinstance(value, str | float | int)]
                    print(f"{part}: {', '.join(done)}", file=sys.stderr, flush=True)
                print("\n".join(TABLES[part](found[part])), flush=True)
        finally:
            for worker in workers:
                worker.stop()
    return {"options": vars(options), "load": os.getloadavg(), **found}


def some_of(known: Iterable[str]) -> Any:
    """A comma between them."""

    def parse(text: str) -> list[str]:
        names = text.split(",")
        if not set(names) <= set(known):
            raise argparse.ArgumentTypeError(f"known are {', '.join(known)}")
        return names

    return parse


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python", required=True, help="of an environment with genlm-control==0.4.1")
    parser.add_argument("--only", type=some_of(TABLES), default=list(TABLES), help=", ".join(TABLES))
    parser.add_argument("--vocabularies", type=some_of(VOCABULARIES), default=list(VOCABULARIES))
    parser.add_argument("--draws", type=int, default=200, help="at each place and mass")
    parser.add_argument("--tasks", type=some_of(TASKS), default=list(TASKS))
    parser.add_argument("--particles", type=lambda text: [int(n) for n in text.split(",")], default=[])
    parser.add_argument("--seeds", type=int, default=20, help="runs of each kind for the variance")
    parser.add_argument("--speed-seeds", type=int, default=2, help="runs of each kind for the speed")
    parser.add_argument("--resampling", default="", help="of both; each library's own default where it is not given")
    parser.add_argument("--method", default="awrs", choices=("awrs", "masked"), help="genctl's, for whole texts")
    parser.add_argument("--packed", action="store_true", help="genctl's model with load(..., packed=True)")
    parser.add_argument("--json", help="file for the results")
    options = parser.parse_args()
    found = run(options)
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
