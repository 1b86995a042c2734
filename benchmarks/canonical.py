"""What deciding over canonical token sequences costs: CPU seconds to build, microseconds a mask.

    python benchmarks/canonical.py tokenizer.json another/tokenizer.json --json results.json

A mask is built when its state is first met, and kept: "first" is over the states of one text, each met once; "kept" is
what a mask costs from then on.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from genctl.constraints.base import words
from genctl.constraints.canonical import CanonicalConstraint
from genctl.vocabulary import Vocabulary

TEXT = """The quick brown fox jumps over the lazy dog, it's 2026-11-22.

def f(x):
    return x ** 2  # 10%, <b>naïve</b> 日本語 🙂

{"key": [1, 2.5, null], "url": "http://www.example.com/?a=b"}
"""


def seconds(work: Callable[[], Any]) -> tuple[Any, float]:
    """What it returns, and the CPU seconds that it took."""
    begun = time.process_time()
    found = work()
    return found, time.process_time() - begun


def measure(file: Path) -> dict[str, float]:
    tokenizer = Tokenizer.from_file(str(file))
    vocabulary = Vocabulary.from_tokenizer(tokenizer, eos=[0])
    CanonicalConstraint(vocabulary, tokenizer)  # warm: kernels, classes of characters
    constraint, building = seconds(lambda: CanonicalConstraint(vocabulary, tokenizer))
    out, states = np.zeros(words(len(vocabulary)), np.uint32), [constraint.start()]
    for token in tokenizer.encode(TEXT, add_special_tokens=False).ids:
        states.append(constraint.advance(states[-1], token))
    states = list(dict.fromkeys(states))
    first = [seconds(lambda state=state: constraint.mask(state, out))[1] for state in states]
    _, kept = seconds(lambda: [constraint.mask(state, out) for _ in range(100) for state in states])
    return {
        "tokens": len(vocabulary),
        "build_s": building,
        "first_us_median": 1e6 * float(np.median(first)),
        "first_us_mean": 1e6 * float(np.mean(first)),
        "first_us_max": 1e6 * max(first),
        "kept_us": 1e6 * kept / 100 / len(states),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help="tokenizer.json")
    parser.add_argument("--json", type=Path, help="where to write the results")
    options = parser.parse_args()
    results = {str(file): measure(file) for file in options.files}
    for file, row in results.items():
        print(file, *(f"{name} {value:.4g}" for name, value in row.items()), sep="  ")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
