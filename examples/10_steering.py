"""Hooks, three ways to bind them, and (with the packaged model) edits and a prompt whose order does not show.

python examples/10_steering.py            # the toy model, in seconds
python examples/10_steering.py --real     # the packaged model
"""

import sys

import numpy as np

import genctl
from genctl.steering.basic import Temperature
from genctl.steering.bias import StringBias
from genctl.steering.penalties import FrequencyPenalty

REAL = "--real" in sys.argv
lm = genctl.load() if REAL else genctl.load("toy")
rule = genctl.regex("[a-z]{2,9}( [a-z]{2,9}){2,5}")
options = {"num_particles": 16, "max_new_tokens": 24, "seed": 1}

for name, hooks in {
    "plain": None,
    "no letter twice too often": [FrequencyPenalty(1.0)],
    "fond of 'an'": [StringBias({"an": 3.0})],
    "sure of itself": [Temperature(0.5)],
}.items():
    steering = {} if hooks is None else {"steering": hooks, "binding": "target"}
    g = lm.generate("A few words: ", rule, **steering, **options)
    print(f"{name:26} {g.text!r}, log-evidence {g.log_evidence:.2f}")

# The same hook as another law of each token, as a weight of whole texts, or only as a way to find texts.
for binding in ("target", "tilt", "proposal"):
    g = lm.generate("A few words: ", rule, steering=[StringBias({"an": 3.0})], binding=binding, **options)
    print(f"{binding:26} {g.text!r}, log-evidence {g.log_evidence:.2f}")

if REAL:
    sizes = lm.language_model.model.config
    rng = np.random.default_rng(0)
    edits = [
        genctl.AddVector(layer=12, vector=rng.normal(size=sizes.hidden_size), scale=3.0, keep_norm=True),
        genctl.FirstTokenScale(0.5),
    ]
    for edit in edits:
        with lm.edit(edit):
            print(f"{type(edit).__name__:26} {lm.generate('A few words: ', rule, **options).text!r}")
    colours = [" red", " green", " blue"]
    for order in (colours, colours[::-1]):
        prompt = genctl.SetPrompt("The colours", order, " are there. The sky is")
        print(order, lm.generate(prompt, genctl.choice(colours), **options).log_evidence)
