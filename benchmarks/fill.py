"""The packaged model fills real JSON Schemas in as few tokens as it is given: are the values valid, and how fast is it?

    python benchmarks/fill.py --count 50 --tokens 96 --json results.json

Schemas are drawn from the data's 2,000 (seeded). Where no instance fits, the budget is doubled until one does; a text
that was cut, an invalid value and a timeout are counted. `jsonschema` is the judge.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import time
import warnings
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np

import genctl

ROOT = Path(__file__).parents[1]
LARGEST = 4096  # tokens
PROMPT = "Fill in this JSON Schema with a short, realistic example.\n\n{schema}\n\nJSON: "


def schemas(count: int, longest: int, seed: int) -> list[dict[str, Any]]:
    """Rows of the data, none with a schema that alone fills the prompt."""
    folder = Path(os.environ.get("GENCTL_DATA", ROOT.parent / "shared" / "data"))
    with gzip.open(folder / "json-schemas.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    rows = [row for row in rows if len(json.dumps(row["schema"])) <= longest]
    return [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))[:count]]


def fill(model: genctl.Model, schema: Any, tokens: int, seed: int) -> tuple[genctl.Generation, int, float]:
    """(what was generated, the budget that some instance fits in, seconds of the generation)."""
    rule = genctl.json(schema, whitespace="compact")
    prompt = PROMPT.format(schema=json.dumps(schema)[:2000])
    while True:
        begun = time.perf_counter()
        try:
            return model.generate(prompt, rule, max_new_tokens=tokens, seed=seed), tokens, time.perf_counter() - begun
        except genctl.ConstraintError:
            if tokens > LARGEST:
                raise
            tokens *= 2


def valid(schema: Any, text: str) -> bool:
    validator = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    return bool(validator(schema).is_valid(json.loads(text)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--tokens", type=int, default=96, help="max_new_tokens where an instance fits")
    parser.add_argument("--longest", type=int, default=4000, help="characters of a schema")
    parser.add_argument("--limit", type=float, default=60, help="seconds that count as a timeout")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", help="file for the results")
    options = parser.parse_args()
    warnings.simplefilter("ignore", genctl.GenctlWarning)
    model = genctl.load()
    found = []
    for row in schemas(options.count, options.longest, options.seed):
        generation, budget, seconds = fill(model, row["schema"], options.tokens, options.seed)
        ok = generation.finish_reason in ("complete", "wrapped_up") and valid(row["schema"], generation.text)
        result = {
            "name": row["name"],
            "valid": ok,
            "finish_reason": generation.finish_reason,
            "tokens": len(generation.tokens),
            "budget": budget,
            "seconds": seconds,
            "checks": generation.checks,
            "text": generation.text,
        }
        found.append(result)
        print(f"{row['name']:45} {result['finish_reason']:11} {result['tokens']:5} of {budget:5} {seconds:6.1f} s {ok}")
    tokens, seconds = sum(r["tokens"] for r in found), sum(r["seconds"] for r in found)
    late = sum(r["seconds"] > options.limit for r in found)
    print(f"{sum(r['valid'] for r in found)} of {len(found)} valid, {late} timeouts, {tokens / seconds:.1f} tokens/s")
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
