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


WITHOUT_TORCH = """
import sys
for name in ("torch", "transformers", "tokenizers", "safetensors", "gguf", "jsonschema", "hypothesis"):
    sys.modules[name] = None
import genctl
assert genctl.load("toy").generate("x", bool | None, max_new_tokens=9, seed=0, temperature=0.5).text
for source in (None, "organisation/name"):
    try:
        genctl.load(source)
    except genctl.ModelError as error:
        print(error)
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


def test_without_torch_the_toy_model_generates_and_others_say_what_to_install():
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('pip install "genctl[hf]"') == 2
