"""Microseconds to a mask, to a check and to a first mask under real JSON Schemas, against llguidance and xgrammar.

    python benchmarks/masks.py --vocabulary smollm2 --schemas 400 --json results.json

Each engine works in a process of its own with one thread; the processes are fed in turn, schema by schema, so that
noise hits all alike. A time is the lesser of elapsed and CPU time of one call. The engines get the same bytes, the
same ids and the same texts: compact JSON, keys in the schema's order, cut into tokens by the real tokenizer.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mask_engines import ENGINES, First, Instance, Look, Steps, Words, Worker, reach
from numpy.typing import NDArray

ROOT = Path(__file__).parents[1]
COMPILE_LIMIT, WALK_LIMIT = 60.0, 60.0  # seconds: for a schema, for the two walks over one instance
LOOKS = 2  # states of each instance at which the engines' masks are compared
ASKED = 200  # tokens asked about at each of them
LISTED = 12  # of the slowest masks

Encode = Callable[[str], list[int]]


class Case(NamedTuple):
    """A schema as text, its instances in tokens, and whether each is valid."""

    name: str
    schema: str
    instances: list[Instance]
    valid: list[bool]


class Result(NamedTuple):
    """What one engine did with one schema; no steps where it did not compile."""

    first: First
    steps: list[Steps]


WARM_SCHEMA = json.dumps({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "number"}}})
WARM_TEXT = '{"a":"text","b":-12.5}'


# -- vocabularies


def smollm2() -> tuple[Words, Encode]:
    from transformers import AutoTokenizer

    from genctl.models.gguf import converted
    from genctl.models.packaged import packaged_models
    from genctl.vocabulary import Vocabulary

    tokenizer = AutoTokenizer.from_pretrained(converted(packaged_models()["SmolLM2-135M-Instruct"]))
    vocabulary, backend = Vocabulary.from_tokenizer(tokenizer), tokenizer.backend_tokenizer
    words = Words(vocabulary.tokens, tuple(sorted(vocabulary.eos)), backend.to_str())
    return words, lambda text: list(backend.encode(text, add_special_tokens=False).ids)


def tekken() -> tuple[Words, Encode]:
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer

    from genctl.vocabulary import Vocabulary

    path = Path(str(files("mistral_common") / "data" / "tekken_240911.json"))
    tokenizer = Tekkenizer.from_file(path)
    vocabulary = Vocabulary.from_tokenizer(tokenizer)
    control = [i for i in range(len(vocabulary)) if tokenizer.is_special(i)]
    native = {
        "encoder": {text: i for i, text in enumerate(vocabulary.tokens) if i not in set(control)},
        "special_tokens": {f"<|{i}|>": i for i in control},
        "pattern": json.loads(path.read_text())["config"]["pattern"],
    }
    words = Words(vocabulary.tokens, tuple(sorted(vocabulary.eos)), native)
    return words, lambda text: list(tokenizer.encode(text, bos=False, eos=False))


VOCABULARIES = {"smollm2": smollm2, "tekken": tekken}


# -- cases


def read_rows(count: int) -> list[dict[str, Any]]:
    folder = Path(os.environ.get("GENCTL_DATA", ROOT.parent / "shared" / "data"))
    with gzip.open(folder / "json-schemas.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line, _ in zip(file, range(count), strict=False)]


def make_cases(rows: Iterable[Mapping[str, Any]], words: Words, encode: Encode, seed: int) -> list[Case]:
    """The probes are drawn from all tokens of all instances, so common tokens are probed often."""
    sys.path.append(str(ROOT))  # for the tests' own way to order keys
    from tests.schema_order import schema_order

    cut: list[list[list[int]]] = []
    rows = list(rows)
    for row in rows:
        values = (schema_order(row["schema"], test["data"]) for test in row["tests"])
        texts = (json.dumps(value, ensure_ascii=False, separators=(",", ":")) for value in values)
        cut.append([in_tokens(text, words, encode) for text in texts])
    rng = np.random.default_rng(seed)
    pool = np.array([token for lists in cut for tokens in lists for token in tokens])
    return [
        Case(
            row["name"],
            json.dumps(row["schema"], ensure_ascii=False),
            [Instance(tokens, rng.choice(pool, len(tokens)).tolist()) for tokens in lists],
            [test["valid"] for test in row["tests"]],
        )
        for row, lists in zip(rows, cut, strict=True)
    ]


def in_tokens(text: str, words: Words, encode: Encode) -> list[int]:
    """The tokens of the text and an end-of-text token."""
    tokens = encode(text)
    if b"".join(words.tokens[i] for i in tokens) != text.encode():
        raise ValueError(f"the tokens do not join to {text!r}")
    return [*tokens, words.eos[0]]


# -- the run


def warm_up(words: Words, encode: Encode, first: str) -> Callable[[Worker], None]:
    tokens = in_tokens(WARM_TEXT, words, encode)
    instance = Instance(tokens, tokens[::-1])

    def warm(worker: Worker) -> None:
        for _ in range(3):
            compiled = worker.ask("compile", WARM_SCHEMA)
            if compiled.error:
                raise ValueError(f"{worker.name} does not take {WARM_SCHEMA}: {compiled.error}")
            worker.ask("walk", [instance], first, WALK_LIMIT)
            worker.ask("look", [instance], [(0, 1)], tokens)

    return warm


def run_case(worker: Worker, case: Case, first: str) -> Result:
    try:
        compiled: First = worker.ask("compile", case.schema, limit=COMPILE_LIMIT)
    except (TimeoutError, EOFError) as error:
        return Result(First(error=f"{type(error).__name__} in compiling"), [])
    if compiled.error:
        return Result(compiled, [])
    steps: list[Steps] = []
    for instance in case.instances:
        try:
            steps += worker.ask("walk", [instance], first, WALK_LIMIT, limit=2 * WALK_LIMIT)
        except (TimeoutError, EOFError) as error:  # a single call that does not return
            steps.append(Steps([], [], [], [], [], False, 0, f"{type(error).__name__} in walking"))
            if worker.ask("compile", case.schema).error:
                raise
    worker.note_peak()
    return Result(compiled, steps)


def run(workers: list[Worker], cases: list[Case], first: str, seed: int) -> tuple[dict[str, list[Result]], Agreement]:
    """The engines in turn at each schema, a different one first each time."""
    results: dict[str, list[Result]] = {worker.name: [] for worker in workers}
    rng = np.random.default_rng(seed)
    agreement = Agreement(len(workers[0].words.tokens))
    for number, case in enumerate(cases):
        shift = number % len(workers)
        for worker in workers[shift:] + workers[:shift]:
            results[worker.name].append(run_case(worker, case, first))
        ready = [worker for worker in workers if not results[worker.name][-1].first.error]
        if ready:
            compare(ready, case, [results[worker.name][-1].steps for worker in ready], rng, agreement)
        print(f"\r{number + 1} of {len(cases)} schemas", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return results, agreement


# -- do the masks agree?


class Agreement:
    """Counts over the states looked at: a mask against its engine's checks, a peer's mask against genctl's."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.looked: Counter[str] = Counter()
        self.mask_not_check: Counter[str] = Counter()  # states where the two differ for a token asked about
        self.peers: dict[str, Counter[str]] = {}  # same, narrower, wider, neither
        self.kernel: list[float] = []  # nanoseconds a check in genctl's kernel, a state each

    def add(self, looks: Mapping[str, Look], tokens: list[int]) -> None:
        masks = {name: self._unpacked(look.mask) for name, look in looks.items()}
        for name, look in looks.items():
            self.looked[name] += 1
            self.mask_not_check[name] += bool((masks[name][tokens] != look.allowed).any())
        ours = masks.get("genctl")
        if ours is None:
            return
        self.kernel.append(looks["genctl"].kernel)
        for name, mask in masks.items():
            if name != "genctl":
                self.peers.setdefault(name, Counter())[relation(mask, ours)] += 1

    def _unpacked(self, mask: bytes) -> NDArray[np.bool_]:
        bits = np.unpackbits(np.frombuffer(mask, np.uint8), bitorder="little", count=self._size)
        return bits.astype(np.bool_)


RELATIONS = {(False, False): "same", (True, False): "narrower", (False, True): "wider", (True, True): "neither"}


def relation(mask: NDArray[np.bool_], ours: NDArray[np.bool_]) -> str:
    less, more = bool((ours & ~mask).any()), bool((mask & ~ours).any())
    return RELATIONS[less, more]


def compare(
    workers: list[Worker], case: Case, steps: list[list[Steps]], rng: np.random.Generator, agreement: Agreement
) -> None:
    """Look at the same states with every engine that came to them."""
    places = [
        (number, int(position))
        for number, walks in enumerate(zip(*steps, strict=True))
        for position in rng.permutation(reach(walks))[:LOOKS]
    ]
    tokens = rng.integers(len(workers[0].words.tokens), size=ASKED).tolist()
    looks = [worker.ask("look", case.instances, places, tokens) for worker in workers]
    for at_place in zip(*looks, strict=True):
        agreement.add({worker.name: look for worker, look in zip(workers, at_place, strict=True)}, tokens)


# -- figures

FIRSTS: dict[str, Callable[[First], int]] = {
    "TTFM": lambda first: first.compile + first.session + first.mask,
    "compile": lambda first: first.compile,
}
STEPS: dict[str, tuple[str, ...]] = {
    "mask": ("mask",),
    "check": ("check",),
    "check of a probe": ("probe",),
    "commit": ("commit", "commit_checked"),
    "commit after a mask": ("commit",),
    "commit after a check": ("commit_checked",),
}
QUANTILES = {"p25": 25, "p50": 50, "p75": 75, "p90": 90, "p95": 95, "p99": 99, "p99.9": 99.9, "max": 100}


def figures(results: list[Result], upto: list[list[int]]) -> dict[str, dict[str, float]]:
    """Microseconds by measure and statistic. upto: the positions of each instance that count."""
    compiled = [(result, ends) for result, ends in zip(results, upto, strict=True) if not result.first.error]
    times = {name: [of(result.first) for result, _ in compiled] for name, of in FIRSTS.items()}
    for name, fields in STEPS.items():
        times[name] = [
            value
            for result, ends in compiled
            for steps, end in zip(result.steps, ends, strict=True)
            for field in fields
            for value in getattr(steps, field)[:end]
        ]
    return {name: statistics(np.array(values) / 1e3) for name, values in times.items()}


def statistics(values: NDArray[np.float64]) -> dict[str, float]:
    if not len(values):
        return {"n": 0}
    quantiles = {name: float(np.percentile(values, percent)) for name, percent in QUANTILES.items()}
    return {"avg": float(values.mean()), **quantiles, "n": len(values)}


def everything(results: list[Result]) -> list[list[int]]:
    return [[len(steps.mask) + len(steps.check) for steps in result.steps] for result in results]


def same_steps(results: dict[str, list[Result]], instances: int | None = None) -> dict[str, Any]:
    """Figures on the positions that all engines came to, of the schemas that all compiled.

    instances: how many of each schema count; the later ones profit from what the earlier ones built.
    """
    schemas = zip(*results.values(), strict=True)
    kept = [n for n, of_engines in enumerate(schemas) if not any(result.first.error for result in of_engines)]
    ends = []
    for n in kept:
        walks = zip(*(rows[n].steps for rows in results.values()), strict=True)
        reached = [reach(of_engines) for of_engines in walks]
        ends.append([end if i < (instances or len(reached)) else 0 for i, end in enumerate(reached)])
    return {name: figures([rows[n] for n in kept], ends) for name, rows in results.items()}


def counts(cases: list[Case], results: list[Result]) -> dict[str, int]:
    found: Counter[str] = Counter(schemas=len(cases))
    for case, result in zip(cases, results, strict=True):
        if result.first.error:
            limit = result.first.error.endswith("in compiling")
            found["compile timeout or crash" if limit else "compile refused"] += 1
            continue
        valid = [steps.accepted for steps, good in zip(result.steps, case.valid, strict=True) if good]
        invalid = [steps.accepted for steps, good in zip(result.steps, case.valid, strict=True) if not good]
        found["valid"] += len(valid)
        found["valid rejected"] += valid.count(False)
        found["invalid"] += len(invalid)
        found["invalid accepted"] += invalid.count(True)
        found["schemas passing"] += all(valid) and not any(invalid)
        found["walk errors"] += sum(bool(steps.error) for steps in result.steps)
        found["steps where mask and check differ"] += sum(steps.differing for steps in result.steps)
    return {name: found[name] for name in COUNTS}


COUNTS = (
    "schemas",
    "compile refused",
    "compile timeout or crash",
    "valid",
    "valid rejected",
    "invalid",
    "invalid accepted",
    "schemas passing",
    "walk errors",
    "steps where mask and check differ",
)


def slowest(cases: list[Case], results: list[Result]) -> list[dict[str, Any]]:
    """Where the longest masks were."""
    places = [
        (ns, case.name, number, position)
        for case, result in zip(cases, results, strict=True)
        for number, steps in enumerate(result.steps)
        for position, ns in enumerate(steps.mask)
    ]
    top = sorted(places, reverse=True)[:LISTED]
    return [{"us": ns / 1e3, "schema": name, "instance": n, "position": at} for ns, name, n, at in top]


def memory(worker: Worker) -> dict[str, float]:
    before, ready = worker.memory
    return {"before the engine": before / 1024, "ready": ready / 1024, "of its own": worker.peak / 1024}


# -- the report

STATISTICS = ("avg", *QUANTILES, "n")


def table(title: str, columns: Iterable[str], rows: Mapping[str, Iterable[float]]) -> Iterator[str]:
    """Markdown."""
    columns = list(columns)
    yield f"| {title} | {' | '.join(columns)} |"
    yield "|:--|" + "--:|" * len(columns)
    for name, values in rows.items():
        yield f"| {name} | {' | '.join(map(shown, values))} |"
    yield ""


def shown(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}" if value < 10 else f"{value:,.0f}"


def by_measure(engines: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, list[float]]:
    """A row for each measure and engine."""
    measures = next(iter(engines.values()))
    return {
        f"{measure}, {name}": [of_engine[measure].get(statistic, 0) for statistic in STATISTICS]
        for measure in measures
        for name, of_engine in engines.items()
    }


def by_engine(found: Mapping[str, Mapping[str, float]]) -> dict[str, list[float]]:
    """A row for each name, a column for each engine."""
    return {row: [of_engine[row] for of_engine in found.values()] for row in next(iter(found.values()))}


def report(found: Mapping[str, Any]) -> Iterator[str]:
    engines, agreement = found["engines"], found["agreement"]
    yield from table(found["vocabulary"], engines, by_engine(found["counts"]))
    yield from table("resident MB", engines, by_engine(found["memory"]))
    yield from table("us, all steps of each", STATISTICS, by_measure(found["all"]))
    yield from table("us, the same steps", STATISTICS, by_measure(found["same"]))
    yield from table("us, the same steps, first instance", STATISTICS, by_measure(found["same, first instance"]))
    if agreement["kernel"]["n"]:
        yield from table("ns, by state", STATISTICS, {"check in genctl's kernel": agreement["kernel"].values()})
    for name, count in agreement["looked"].items():
        yield f"{name}: the mask differs from the checks in {agreement['mask not check'][name]} of {count} states"
    for name, relations in agreement["peers"].items():
        yield f"{name}: its mask against genctl's, states: {dict(relations)}"
    yield f"the clock adds, us: {found['clock']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vocabulary", choices=VOCABULARIES, default="smollm2")
    parser.add_argument("--engines", default=",".join(ENGINES), help="a comma between them")
    parser.add_argument("--schemas", type=int, default=400, help="the first of the data's 2,000")
    parser.add_argument("--first", choices=("check", "mask"), default="check", help="the walk that is made first")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", help="file for the results")
    options = parser.parse_args()
    words, encode = VOCABULARIES[options.vocabulary]()
    cases = make_cases(read_rows(options.schemas), words, encode, options.seed)
    engines = options.engines.split(",")
    workers = [Worker(name, words, warm_up(words, encode, options.first)) for name in engines]
    clock = {worker.name: worker.ask("clock") / 1e3 for worker in workers}
    results, agreement = run(workers, cases, options.first, options.seed)
    for worker in workers:
        worker.stop()
    found = {
        "vocabulary": options.vocabulary,
        "engines": engines,
        "options": vars(options),
        "versions": {name: version(name) for name in (*engines, "numpy", "numba")},
        "load": os.getloadavg(),
        "counts": {name: counts(cases, results[name]) for name in engines},
        "memory": {worker.name: memory(worker) for worker in workers},
        "all": {name: figures(results[name], everything(results[name])) for name in engines},
        "same": same_steps(results),
        "same, first instance": same_steps(results, 1),
        "agreement": {
            "looked": agreement.looked,
            "mask not check": agreement.mask_not_check,
            "peers": agreement.peers,
            "kernel": statistics(np.array(agreement.kernel)),
        },
        "slowest masks": {name: slowest(cases, results[name]) for name in engines},
        "refused": {
            name: {case.name: row.first.error for case, row in zip(cases, rows, strict=True) if row.first.error}
            for name, rows in results.items()
        },
        "clock": clock,
    }
    print("\n".join(report(found)))
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
