"""Tables and a plot of what the methods did: means over examples, with intervals of 95 % by the bootstrap."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.domains import Domain
from benchmarks.domains.methods import METHODS, Row

RESAMPLES = 4000
SETTINGS = ("model", "seed", "particles", "awrs_particles", "max_tries")  # what all rows of a table have in common
Values = Sequence[float]


class Interval:
    """The mean of some values over examples, or the ratio of two means, and where it lies with 95 % confidence."""

    def __init__(self, values: Values, over: Values | None = None) -> None:
        self.count = len(values)
        top, bottom = np.array(values, float), np.ones(self.count) if over is None else np.array(over, float)
        drawn = np.random.default_rng(0).integers(0, max(self.count, 1), (RESAMPLES, self.count))
        with np.errstate(invalid="ignore", divide="ignore"):
            self.mean = float(top.sum() / bottom.sum()) if self.count else math.nan
            ratios = top[drawn].sum(axis=1) / bottom[drawn].sum(axis=1) if self.count else np.array([math.nan])
        self.low, self.high = np.percentile(ratios, [2.5, 97.5]).tolist()

    def __str__(self) -> str:
        if not self.count or math.isnan(self.mean):
            return ""
        return f"{_short(self.mean)} ({_short(self.low)} to {_short(self.high)})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{round(value, 6) + 0.0:.3g}"


def _mean(rows: Sequence[Row], key: str, over: str | None = None) -> Interval:
    rows = [row for row in rows if row[key] is not None]
    return Interval([row[key] for row in rows], over and [row[over] for row in rows])


COLUMNS: dict[str, Callable[[Sequence[Row]], object]] = {
    "examples": len,
    "valid": lambda rows: _mean(rows, "valid"),
    "score": lambda rows: _mean(rows, "score"),
    "seconds": lambda rows: _mean(rows, "seconds"),
    "CPU s": lambda rows: _mean(rows, "cpu"),
    "tokens": lambda rows: _mean(rows, "tokens"),
    "tested / token": lambda rows: _mean(rows, "tested", "tokens") if METHODS[rows[0]["method"]].ruled else "",
    "oracle calls / token": lambda rows: _mean(rows, "calls", "tokens") if METHODS[rows[0]["method"]].ruled else "",
    "no text": lambda rows: sum(not row["texts"] for row in rows),
}


def _table(head: Sequence[object], lines: Iterable[Sequence[object]]) -> Iterator[str]:
    for line in (head, ["---"] * len(head), *lines):
        yield "| " + " | ".join(map(str, line)) + " |"


def by_domain(rows: Sequence[Row]) -> dict[str, dict[str, list[Row]]]:
    """Domain -> method -> rows. Only examples that each method of the domain was run on, so that all have the same."""
    found: dict[str, dict[str, list[Row]]] = {}
    for domain in dict.fromkeys(row["domain"] for row in rows):
        mine = [row for row in rows if row["domain"] == domain]
        methods = [name for name in METHODS if any(row["method"] == name for row in mine)]
        have = [{row["example"] for row in mine if row["method"] == name} for name in methods]
        shared = set.intersection(*have)
        found[domain] = {
            name: sorted(
                (row for row in mine if row["method"] == name and row["example"] in shared), key=lambda r: r["example"]
            )
            for name in methods
        }
    return found


def _lines(methods: dict[str, list[Row]]) -> Iterator[list[object]]:
    for name, rows in methods.items():
        if rows:
            yield [name, *(column(rows) for column in COLUMNS.values())]


def local_law(methods: dict[str, list[Row]]) -> tuple[Interval, Interval]:
    """Divergences (nats) of local masking, from the texts that it finished.

    KL(next token's local law || the model's) = -log of the allowed mass, a token; and KL(local law of texts ||
    posterior) = E[-log_weight] + log evidence, a text, where the evidence is that of smc-masked (its logarithm is low
    on the mean, so this is, too).
    """
    masked = [row for row in methods.get("masked", []) if row["texts"]]
    evidence = {row["example"]: row["log_evidence"] for row in methods.get("smc-masked", []) if row["texts"]}
    pairs = [(row, evidence[row["example"]]) for row in masked if row["example"] in evidence]
    next_token = Interval([-row["log_weight"] for row in masked], [row["tokens"] for row in masked])
    return next_token, Interval([log_z - row["log_weight"] for row, log_z in pairs])


def against_masking(methods: dict[str, list[Row]]) -> tuple[Interval, Interval, Interval]:
    """AWRS-SMC and local masking, example by example: difference of scores, ratios of tested tokens and of calls."""
    pairs = list(zip(methods["awrs-smc"], methods["masked"], strict=True))
    both = [(a, m) for a, m in pairs if a["tokens"] and m["tokens"]]
    score = Interval([a["score"] - m["score"] for a, m in pairs])
    return score, *(
        Interval([m[key] / m["tokens"] for _, m in both], [a[key] / a["tokens"] for a, _ in both])
        if all(row[key] is not None for pair in both for row in pair)
        else Interval([])
        for key in ("tested", "calls")
    )


def tables(rows: Sequence[Row], domains: Sequence[Domain]) -> Iterator[str]:
    """Markdown. The rows are of one model, with the same settings."""
    yield "\n" + ", ".join(f"{name}: {rows[0][name]}" for name in SETTINGS if rows)
    found, scored = by_domain(rows), {domain.name: domain.scored for domain in domains}
    for domain, methods in found.items():
        yield f"\n**{domain}** (score: {scored[domain]})\n"
        yield from _table(["method", *COLUMNS], _lines(methods))
    whole = {domain: methods for domain, methods in found.items() if {"masked", "awrs-smc"} <= methods.keys()}
    yield "\n**AWRS-SMC against local masking**\n"
    head = ["domain", "score, difference", "tested / token, ratio", "oracle calls / token, ratio"]
    yield from _table(head, ([domain, *against_masking(methods)] for domain, methods in whole.items()))
    yield "\n**The local law** (nats)\n"
    head = ["domain", "KL from the model, a token", "KL from the posterior, a text"]
    yield from _table(head, ([domain, *local_law(methods)] for domain, methods in whole.items()))


def plot(rows: Sequence[Row], path: Path) -> None:
    """Scores, and tokens tested, by domain and method."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = by_domain(rows)
    figure, axes = pyplot.subplots(2, len(found), figsize=(2.4 * len(found), 5), squeeze=False, sharey="row")
    for column, (domain, methods) in zip(axes.T, found.items(), strict=True):
        column[0].set_title(domain)
        for axis, (key, over) in zip(column, (("score", None), ("tested", "tokens")), strict=True):
            shown = [n for n, mine in methods.items() if mine and (key == "score" or METHODS[n].ruled)]
            bars = [_mean(methods[name], key, over) for name in shown]
            errors = [[b.mean - b.low for b in bars], [b.high - b.mean for b in bars]]
            axis.bar(shown, [b.mean for b in bars], yerr=errors, capsize=2)
            axis.tick_params(axis="x", rotation=90)
        column[1].set_yscale("log")
    axes[0][0].set_ylabel("score")
    axes[1][0].set_ylabel("tested / token")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
