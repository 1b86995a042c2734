"""Is what genctl accepts what JSON Schema says? The official suite and 2,000 real schemas, token by token.

    python benchmarks/conformance.py --real 2000 --json results.json

A text is accepted if SmolLM2's tokens of it are allowed one after the other and the state behind them is complete. A
schema that admits nothing accepts no text; one that is refused has no verdict, and none of its tests is right.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).parents[1]
DRAFTS = {
    "draft2020-12": "https://json-schema.org/draft/2020-12/schema",
    "draft7": "http://json-schema.org/draft-07/schema#",
}
REMOTES = "http://localhost:1234/"  # where the suite's remote documents stand
COMPACT, SPACED = (",", ":"), (", ", ": ")
LIMIT = 60  # seconds for a schema or a text
SLOWEST = 10
COLUMNS = ("tests", "right", "refused schemas", "wrongly rejected", "wrongly accepted")


class Verdicts(NamedTuple):
    """What became of a schema: seconds to compile it; of each text, is it accepted? Or why and where it is refused."""

    seconds: float
    accepted: list[bool]
    refusal: str = ""
    pointer: str | None = None


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """TimeoutError in the main thread after this many seconds."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"more than {seconds} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def reason(error: Exception) -> tuple[str, str | None]:
    """Why, and where if genctl says so."""
    said = getattr(error, "reason", None)
    return said or f"{type(error).__name__}: {error}", getattr(error, "pointer", None)


class Judge:
    """genctl with the vocabulary of SmolLM2."""

    def __init__(self) -> None:
        from transformers import AutoTokenizer

        import genctl
        from genctl.models.gguf import converted
        from genctl.models.packaged import packaged_models

        tokenizer = AutoTokenizer.from_pretrained(converted(packaged_models()["SmolLM2-135M-Instruct"]))
        self._genctl, self._tokenizer = genctl, tokenizer.backend_tokenizer
        self._vocabulary = genctl.Vocabulary.from_tokenizer(tokenizer)

    def judge(self, schema: Any, texts: Iterable[str], **options: Any) -> Verdicts:
        began = time.perf_counter()
        try:
            with limited(LIMIT):
                constraint = self._genctl.json(schema, **options).bind(self._vocabulary)
        except self._genctl.UnsatisfiableError:
            return Verdicts(time.perf_counter() - began, [False for _ in texts])
        except Exception as error:  # a bug is a refusal with an odd name
            return Verdicts(time.perf_counter() - began, [], *reason(error))
        seconds = time.perf_counter() - began
        try:
            return Verdicts(seconds, [self._accepts(constraint, text) for text in texts])
        except Exception as error:
            return Verdicts(seconds, [], *reason(error))

    def _accepts(self, constraint: Any, text: str) -> bool:
        tokens = self._tokenizer.encode(text, add_special_tokens=False).ids
        if b"".join(self._vocabulary.tokens[token] for token in tokens) != text.encode():
            raise ValueError(f"the tokens do not join to {text!r}")
        state = constraint.start()
        with limited(LIMIT):
            for token in tokens:
                if not constraint.allows(state, token):
                    return False
                state = constraint.advance(state, token)
            return bool(constraint.complete(state))


# -- the data


def folder() -> Path:
    return Path(os.environ.get("GENCTL_DATA", ROOT.parent / "shared" / "data"))


def rows(name: str) -> list[dict[str, Any]]:
    with gzip.open(folder() / name, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def remotes() -> dict[str, Any]:
    with gzip.open(folder() / "json-schema-remotes.json.gz", "rt", encoding="utf-8") as file:
        return {REMOTES + path: document for path, document in json.load(file).items()}


def arranged(schema: Any, value: Any) -> Any:
    """The value with its properties in the schema's order, as far as the tests' own reader understands the schema."""
    sys.path.append(str(ROOT))
    from tests.schema_order import schema_order

    try:
        return schema_order(schema, value)
    except Exception:  # references that it does not follow
        return value


def written(value: Any, separators: tuple[str, str]) -> str:
    return json.dumps(value, separators=separators)


# -- the official suite


def group_of(row: Mapping[str, Any]) -> str:
    return "optional/format" if row["file"].startswith("optional/format/") else row["kind"]


def suite(judge: Judge, drafts: Iterable[str]) -> dict[str, Any]:
    registry = remotes()
    files: dict[str, Counter[str]] = {}
    refused: list[dict[str, str | None]] = []
    wrong: list[dict[str, Any]] = []
    for row in rows("json-schema-test-suite.jsonl.gz"):
        if row["draft"] not in drafts:
            continue
        schema, tests = row["schema"], row["tests"]
        if isinstance(schema, dict):
            schema = {"$schema": DRAFTS[row["draft"]], **schema}
        options: dict[str, Any] = {"registry": registry, "property_order": "any"}
        if row["file"] == "format.json":  # its tests want an annotation
            options["formats"] = False
        found = judge.judge(schema, [written(test["data"], COMPACT) for test in tests], **options)
        where = {"draft": row["draft"], "file": row["file"], "schema": row["description"]}
        counts = files.setdefault(f"{row['draft']} {group_of(row)}: {Path(row['file']).name}", Counter())
        counts["tests"] += len(tests)
        if found.refusal:
            counts["refused schemas"] += 1
            refused.append({**where, "reason": found.refusal, "pointer": found.pointer})
            continue
        for test, accepted in zip(tests, found.accepted, strict=True):
            counts[outcome(accepted, test["valid"])] += 1
            if accepted != test["valid"]:
                wrong.append({**where, "test": test["description"], "valid": test["valid"]})
    return {"files": files, "refused": refused, "wrong": wrong}


def outcome(accepted: bool, valid: bool) -> str:
    return "right" if accepted == valid else "wrongly accepted" if accepted else "wrongly rejected"


def totals(files: Mapping[str, Counter[str]]) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    for name, counts in files.items():
        found.setdefault(name.partition(":")[0], Counter()).update(counts)
    return found


# -- real schemas


def real(judge: Judge, count: int) -> dict[str, Any]:
    """A text is accepted in the order of the schema, as far as `arranged` knows it, or as it is and in any order."""
    counts: Counter[str] = Counter()
    times: dict[str, float] = {}
    refused: list[dict[str, str | None]] = []
    wrong: list[dict[str, Any]] = []
    schemas = rows("json-schemas.jsonl.gz")[:count]
    for number, row in enumerate(schemas):
        schema, tests = row["schema"], row["tests"]
        values = [test["data"] for test in tests]
        texts, ordered = (
            [written(value, style) for value in given for style in (COMPACT, SPACED)]
            for given in (values, [arranged(schema, value) for value in values])
        )
        found, free = judge.judge(schema, ordered), judge.judge(schema, texts, property_order="any")
        times[row["name"]] = found.seconds
        counts["schemas"] += 1
        counts["tests"] += len(texts)
        print(f"\r{number + 1} of {len(schemas)} schemas", end="", file=sys.stderr, flush=True)
        refusal = next((verdicts for verdicts in (found, free) if verdicts.refusal), None)
        if refusal is not None:
            counts["refused schemas"] += 1
            refused.append({"schema": row["name"], "reason": refusal.refusal, "pointer": refusal.pointer})
            continue
        valid = [test["valid"] for test in tests for _ in (COMPACT, SPACED)]
        counts["valid in order"] += sum(map(all, zip(found.accepted, valid, strict=True)))
        accepted = [any(both) for both in zip(found.accepted, free.accepted, strict=True)]
        verdicts = list(map(outcome, accepted, valid))
        counts.update(verdicts)
        counts["passing schemas"] += set(verdicts) <= {"right"}
        wrong += [
            {"schema": row["name"], "test": i // 2, "text": "spaced" if i % 2 else "compact", "verdict": verdict}
            for i, verdict in enumerate(verdicts)
            if verdict != "right"
        ]
    print(file=sys.stderr)
    return {"counts": counts, "refused": refused, "wrong": wrong, "milliseconds to compile": compile_times(times)}


def compile_times(times: Mapping[str, float]) -> dict[str, Any]:
    milliseconds = np.array(list(times.values())) * 1e3
    slowest = sorted(times, key=lambda name: -times[name])[:SLOWEST]
    return {
        **{f"p{percent}": float(np.percentile(milliseconds, percent)) for percent in (50, 99)},
        "max": float(milliseconds.max()),
        "slowest": {name: times[name] * 1e3 for name in slowest},
    }


# -- the report


def table(title: str, files: Mapping[str, Mapping[str, int]], columns: Iterable[str]) -> Iterator[str]:
    """Markdown."""
    columns = list(columns)
    yield f"| {title} | {' | '.join(columns)} |"
    yield "|:--|" + "--:|" * len(columns)
    for name, counts in files.items():
        yield f"| {name} | {' | '.join(str(counts.get(column, 0)) for column in columns)} |"
    yield ""


def report(found: Mapping[str, Any]) -> Iterator[str]:
    if "suite" in found:
        files = found["suite"]["files"]
        yield from table("file", dict(sorted(files.items())), COLUMNS)
        yield from table("all files", totals(files), COLUMNS)
        yield from reasons(found["suite"]["refused"])
    if "real" in found:
        real = found["real"]
        columns = ("schemas", "passing schemas", *COLUMNS, "valid in order")
        yield from table("real schemas", {"compact and spaced": real["counts"]}, columns)
        yield from reasons(real["refused"])
        times = real["milliseconds to compile"]
        yield f"milliseconds to compile: p50 {times['p50']:.1f}, p99 {times['p99']:.0f}, max {times['max']:.0f}"
        yield from (f"  {ms:8.0f} {name}" for name, ms in times["slowest"].items())


def reasons(refused: Iterable[Mapping[str, str]]) -> Iterator[str]:
    """The most frequent reasons."""
    counts = Counter(row["reason"][:100] for row in refused)
    yield from (f"  refused {count:4}: {reason}" for reason, count in counts.most_common(SLOWEST))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--drafts", default=",".join(DRAFTS), help="of the official suite; a comma between them")
    parser.add_argument("--real", type=int, default=2000, help="how many of the real schemas; 0: none")
    parser.add_argument("--json", help="file for the results, with each refusal and each wrong verdict")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:  # nothing is read that another run has compiled
        judge = Judge()
        os.environ["GENCTL_CACHE"] = cache
        warnings.simplefilter("ignore")  # misspelt keywords in the data
        found: dict[str, Any] = {}
        drafts = [draft for draft in options.drafts.split(",") if draft]
        if drafts:
            found["suite"] = suite(judge, drafts)
        if options.real:
            found["real"] = real(judge, options.real)
    print("\n".join(report(found)))
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
