"""A date by regex: samples, their log-probabilities, and what the rule cost.

python examples/01_regex.py            # the toy model, at once
python examples/01_regex.py --real     # the packaged model
"""

import sys

import genctl

lm = genctl.load() if "--real" in sys.argv else genctl.load("toy")
date = genctl.regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

samples = lm.generate("The date is ", date, num_return_sequences=4, max_new_tokens=12, seed=0)
for g in samples:
    print(f"{g.text}   log-probability {g.logprob:7.2f}   log-weight {g.log_weight:7.2f}")

# A log-weight is what the model gave the rule along the way. Weighted by it, the samples are samples of the model
# conditioned on the rule; their mean estimates the probability that the model writes a date by itself.
print(f"log evidence {samples.log_evidence:.2f} nats, worth {samples.ess:.1f} equally weighted samples")
print("posterior", dict(samples.posterior().most_common(3)))
