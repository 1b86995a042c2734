"""Seconds from the start of a process to the first constrained token: kernels not compiled yet, and compiled before.

    python benchmarks/startup.py --rounds 3 --json results.json

"cold" starts with an empty folder for compiled kernels, "warm" is the next start with the same folder. The model is the
toy model, so that nothing but genctl is measured; stages are told by the process itself, on the clock of its parent.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

SCHEMA = '{"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}'
# Each line of its output is the end of a stage; time.monotonic has one origin for all processes (Linux).
PROGRAM = f"""
import time
def done(stage):
    print(stage, time.monotonic(), flush=True)
done("python")
import genctl
done("import genctl")
model = genctl.load("toy")
done("toy model")
rule = genctl.json('{SCHEMA}')
done("compile the schema")
first = lambda made, total: made == 1 and done("first token")
text = model.generate("JSON: ", rule, seed=0, max_new_tokens=20, progress=first).text
done("20 tokens")
"""


def stages(kernels: Path) -> dict[str, float]:
    """Seconds from the start of a process to the end of each stage. kernels: the folder of the compiled kernels."""
    begun = time.monotonic()
    environment = os.environ | {"NUMBA_CACHE_DIR": str(kernels)}
    command = [sys.executable, "-P", "-c", PROGRAM]
    output = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    parts = (line.rpartition(" ") for line in output.splitlines())
    return {stage: float(ended) - begun for stage, _, ended in parts}


def import_seconds() -> float:
    """CPU and waiting of `import genctl` alone, in a fresh process."""
    program = "import time; t = time.perf_counter(); import genctl; print(time.perf_counter() - t)"
    done = subprocess.run([sys.executable, "-P", "-c", program], stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def measure(rounds: int) -> dict[str, list[dict[str, float]]]:
    found: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            for runs in found.values():
                runs.append(stages(Path(folder)))
                while any(Path(folder).glob("*.lock")):  # the second process goes on compiling what was not needed yet
                    time.sleep(0.1)
    return found


def table(found: Mapping[str, list[dict[str, float]]]) -> Iterator[str]:
    """The best of the rounds."""
    yield f"| seconds to the end of | {' | '.join(found)} |"
    yield "|:--|" + "--:|" * len(found)
    for stage in found["cold"][0]:
        best = (min(run[stage] for run in runs) for runs in found.values())
        yield f"| {stage} | {' | '.join(f'{seconds:.3f}' for seconds in best)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", help="file for the results")
    options = parser.parse_args()
    imports = [import_seconds() for _ in range(5 * options.rounds)]
    found = measure(options.rounds)
    print("\n".join(table(found)))
    print(f"import genctl alone: {min(imports):.3f} s at best, {np.median(imports):.3f} s median")
    if options.json:
        Path(options.json).write_text(json.dumps({"import": imports, **found}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
