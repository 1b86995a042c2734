"""`import genctl` is light."""

from __future__ import annotations

import json
import subprocess
import sys

import genctl

PROBE = """
import json, resource, sys
before = resource.getrusage(resource.RUSAGE_SELF)
import genctl
after = resource.getrusage(resource.RUSAGE_SELF)
cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
print(json.dumps({"cpu": cpu, "modules": sorted(sys.modules)}))
"""


def probe() -> dict:
    return json.loads(subprocess.run([sys.executable, "-c", PROBE], capture_output=True, check=True, text=True).stdout)


def test_importing_genctl_loads_neither_torch_nor_transformers_nor_numba():
    loaded = {name.partition(".")[0] for name in probe()["modules"]}
    assert not loaded & {"torch", "transformers", "numba", "numpy", "pydantic", "jsonschema"}


def test_importing_genctl_takes_at_most_0_3_cpu_seconds():
    assert min(probe()["cpu"] for _ in range(3)) <= 0.3


def test_every_public_name_can_be_loaded():
    assert {name for name in genctl.__all__ if getattr(genctl, name) is None} == set()
    assert set(genctl.__all__) <= set(dir(genctl))
