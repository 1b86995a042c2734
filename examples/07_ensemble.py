"""Two models as one: mixtures, products, and a rule that the ensemble obeys.

python examples/07_ensemble.py
"""

import genctl
from genctl.models.toy import ToyModel

# Models over the same symbols: here the 256 bytes and end-of-text. No pieces of several bytes, so both have the same.
cook = ToyModel.trained("soup soup soup\ntea or soup\nsoup and tea\n" * 3, order=6, pieces=0)
baker = ToyModel.trained("cake cake cake\ntea or cake\ncake and tea\n" * 3, order=6, pieces=0)
dish = genctl.regex("(soup|cake|tea)( (soup|cake|tea)){2}")


def shown(posterior) -> str:
    return ", ".join(f"{text} {p:.2f}" for text, p in posterior.most_common(4))


options = {"num_particles": 256, "max_new_tokens": 16, "seed": 0}
for op in ("mixture", "bayes", "product", "global_product", "min"):
    lm = genctl.ensemble([cook, baker], op=op)
    g = lm.generate("", dish, **options)
    print(f"{op:15}", shown(g.posterior()), f"  log evidence {g.log_evidence:.1f}")

# A mixture changes its mind at every symbol, a Bayes mixture learns who is writing. A product wants what suits both;
# its global law judges whole texts. Exponents may be negative: what the cook would write and the baker would not.
contrast = genctl.ensemble([cook, baker], weights=[1.0, -0.5], op="product")
print("cook - baker / 2", shown(contrast.generate("", dish, **options).posterior()))

# Each member may see a prompt of its own.
asked = genctl.ensemble([cook, baker], op="bayes", prompts=[None, "cake and {prompt}"])
print("own prompts     ", shown(asked.generate("", dish, **options).posterior()))
