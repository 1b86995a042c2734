"""What AWRS-SMC, masking, reranking and exact rejection make of five domains: scores, times, evaluations of the rule.

    python -m benchmarks.domains.compare --examples 50                   # make bench-domains
    python -m benchmarks.domains.compare --model toy --examples 2        # a try
    python -m benchmarks.domains.compare --report --write docs/domains.md

Each result is a line of --results. Examples that have one there are not run again, so a run that was stopped goes on;
examples come in turn, a round of all domains and methods each, so that what is there at any time is balanced.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import zip_longest
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import genctl
from benchmarks.domains import Domain, Example
from benchmarks.domains.methods import METHODS, Row, Sizes, run
from benchmarks.domains.report import SETTINGS, plot, tables

DOMAINS = {"molecules": "molecules", "goals": "goals", "patterns": "patterns", "json": "json_schemas", "sql": "sql"}
SEEDS = 1_000_000  # examples have seeds of their own, lest their random numbers be the same
BEGIN, END = "<!-- written by make bench-domains -->", "<!-- until here -->"


def domain_named(name: str) -> Domain:
    return importlib.import_module(f"benchmarks.domains.{DOMAINS[name]}").DOMAIN


@cache
def examples_of(domain: str, count: int, seed: int) -> Sequence[Example]:
    return domain_named(domain).examples(count, seed)


def read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def settings(options: argparse.Namespace) -> Row:
    return {name: getattr(options, name) for name in SETTINGS}


def found(options: argparse.Namespace) -> list[Row]:
    """The results that are there already."""
    return [
        row
        for row in read(options.results)
        if settings(options).items() <= row.items()
        and row["domain"] in options.domains
        and row["method"] in options.methods
    ]


class Work(NamedTuple):
    """The methods that have no result yet for an example, the i-th of its domain."""

    domain: str
    i: int
    methods: Sequence[str]


def missing(domains: Sequence[Domain], options: argparse.Namespace) -> Iterator[Work]:
    done = {(row["domain"], row["example"], row["method"]) for row in found(options)}
    examples = [domain.examples(options.examples, options.seed) for domain in domains]
    for i, row in enumerate(zip_longest(*examples)):
        for domain, example in zip(domains, row, strict=True):
            methods = [m for m in options.methods if example and (domain.name, example.name, m) not in done]
            if methods:
                yield Work(domain.name, i, methods)


class Worker:
    """A model and the examples, in a process of their own where there are several."""

    def __init__(self, options: argparse.Namespace) -> None:
        warnings.simplefilter("ignore", genctl.GenctlWarning)  # what is odd in the schemas of the data
        self.options = options
        self.model = genctl.load(None if options.model == "smollm2" else options.model)

    def results(self, work: Work) -> Iterator[Row]:
        options, domain = self.options, domain_named(work.domain)
        example = examples_of(work.domain, options.examples, options.seed)[work.i]
        sizes = Sizes(
            options.particles, options.awrs_particles, domain.max_new_tokens, options.max_tries, options.max_time
        )
        for method in work.methods:
            row = {"domain": domain.name, "example": example.name, "method": method, **settings(options)}
            yield row | run(self.model, example, METHODS[method], sizes, SEEDS * options.seed + work.i)


def fill(domains: Sequence[Domain], options: argparse.Namespace) -> None:
    options.results.parent.mkdir(parents=True, exist_ok=True)
    with options.results.open("a", encoding="utf-8") as file:
        for row in rows_of(list(missing(domains, options)), options):
            file.write(json.dumps(row) + "\n")
            file.flush()
            print(
                f"{row['example'][:30]:30} {row['method']:10} {row['seconds']:6.1f} s  valid {row['valid']:.2f}  "
                f"score {row['score']:.2f}  {row['ended'][:30]:30} {row['texts'][:1]}",
                flush=True,
            )


def rows_of(work: Sequence[Work], options: argparse.Namespace) -> Iterator[Row]:
    """As they come; an example's methods run in one process, one after the other."""
    if options.workers == 1:
        worker = Worker(options)
        for one in work:
            yield from worker.results(one)
        return
    with get_context("spawn").Pool(options.workers, _begin_worker, (options,)) as pool:
        for rows in pool.imap_unordered(_work, work):
            yield from rows


def _begin_worker(options: argparse.Namespace) -> None:
    global _worker
    _worker = Worker(options)


def _work(work: Work) -> list[Row]:
    return list(_worker.results(work))


_worker: Worker


def write(path: Path, lines: Sequence[str]) -> None:
    """The tables in place of those that stand between the marks."""
    text = path.read_text("utf-8")
    before, after = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    path.write_text(before + "\n" + "\n".join(lines) + "\n\n" + after, encoding="utf-8")


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2", help='"smollm2", "toy", or what genctl.load takes')
    parser.add_argument("--examples", type=int, default=50, help="of each domain")
    parser.add_argument("--domains", type=lambda text: text.split(","), default=list(DOMAINS))
    parser.add_argument("--methods", type=lambda text: text.split(","), default=list(METHODS))
    parser.add_argument("--particles", type=int, default=10, help="of smc-masked; texts that rerank chooses from")
    parser.add_argument("--awrs-particles", type=int, default=5)
    parser.add_argument("--max-tries", type=int, default=100, help="of exact")
    parser.add_argument("--max-time", type=float, default=600, help="seconds of one call")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="processes, each with a model and one thread of its own")
    parser.add_argument("--results", type=Path, default=Path("build/domains.jsonl"))
    parser.add_argument("--report", action="store_true", help="only report what is there")
    parser.add_argument("--write", type=Path, help="a file with marks, between which the tables are put")
    parser.add_argument("--plot", type=Path, help="an image (matplotlib)")
    return parser


def main() -> None:
    options = parser().parse_args()
    for kind, given, known in (("domain", options.domains, DOMAINS), ("method", options.methods, METHODS)):
        if unknown := set(given) - set(known):
            parser().error(f"no {kind} {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    domains = [domain_named(name) for name in options.domains]
    if not options.report:
        fill(domains, options)
    rows = found(options)
    lines = list(tables(rows, domains))
    print("\n".join(lines))
    if options.write:
        write(options.write, lines)
    if options.plot:
        plot(rows, options.plot)


if __name__ == "__main__":
    main()
