"""Bytes per CPU second of a byte view, calls and positions of the model per byte, its bounds, and its memory.

    python benchmarks/bytes.py --count 24 --json results.json
    python benchmarks/bytes.py --count 2000 --eps 0.001          # does memory stay bounded?

Greedy, one text, one thread, the packaged model. A forward is one cached step of one token, timed in the same process:
"forwards a byte" is what a byte costs in units of it, and can be compared between machines.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from typing import Any

import numpy as np
import torch

import genctl
from genctl.constraints.canonical import CanonicalConstraint
from genctl.models.bytes import ByteModel

PROMPTS = (
    "The capital of France is Par",
    "def fibonacci(n):\n    if n < 2:\n        ret",
    "Once upon a time there was a little g",
)
LONG = PROMPTS[2] + "irl who lived in a small harbour town, and every morning she walked down to the sea. " * 3


class Counted:
    """Counts what the token model is asked."""

    def __init__(self, model: Any) -> None:
        self.model, self.calls, self.positions = model, 0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def prefill(self, prompts: Any) -> Any:
        self.calls += 1
        self.positions += sum(map(len, prompts))
        return self.model.prefill(prompts)

    def extend(self, state: Any, tokens: Any) -> Any:
        self.calls += 1
        self.positions += sum(np.size(row) for row in tokens)
        return self.model.extend(state, tokens)


def forward_seconds(model: Any) -> float:
    """CPU seconds of a cached step of one token, the median of ten."""
    logits, state = model.prefill([model.encode(PROMPTS[0])])
    times = []
    for _ in range(10):
        begun = time.process_time()
        logits, state = model.extend(state, np.array([int(logits[0].argmax())]))
        times.append(time.process_time() - begun)
    return float(np.median(times))


def measure(model: Any, canonical: Any, prompt: str, eps: float, count: int, forward: float) -> dict[str, float]:
    counted = Counted(model)
    view = ByteModel(counted, canonical, eps=eps)
    begun = time.process_time()
    logits, state = view.prefill([view.encode(prompt)])
    prefill = time.process_time() - begun
    read = counted.calls, counted.positions
    worst = float(view.bounds(state)[0])
    begun = time.process_time()
    for _ in range(count):
        logits, state = view.extend(state, np.array([int(logits[0, :256].argmax())]))
        worst = max(worst, float(view.bounds(state)[0]))
    spent = time.process_time() - begun
    return {
        "eps": eps,
        "bytes_per_cpu_s": count / spent,
        "forwards_a_byte": spent / count / forward,
        "calls_a_byte": (counted.calls - read[0]) / count,
        "positions_a_byte": (counted.positions - read[1]) / count,
        "worst_bound": worst,
        "prefill_s": prefill,
        "prefill_calls": read[0],
        "prefill_positions": read[1],
        "prompt_bytes": len(prompt.encode()),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=24, help="bytes of each text")
    parser.add_argument("--eps", type=float, nargs="*", default=[0.0, 1e-3, 1e-2])
    parser.add_argument("--all-sequences", action="store_true", help="not only the canonical ones")
    parser.add_argument("--json", help="file for the results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lm = genctl.load()
    model, forward = lm.language_model, forward_seconds(lm.language_model)
    canonical = None if options.all_sequences else CanonicalConstraint(model.vocabulary, model.tokenizer)
    measure(model, canonical, PROMPTS[0], 1e-3, 8, forward)  # warm
    print(f"a forward: {1000 * forward:.0f} ms of CPU")
    results = []
    for prompt in (*PROMPTS, LONG):
        for eps in options.eps:
            found = measure(model, canonical, prompt, eps, options.count, forward)
            results.append({"prompt": prompt, **found})
            print("  ".join(f"{name} {value:.3g}" for name, value in found.items()), flush=True)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
