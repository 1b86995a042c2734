"""What hooks and edits do to a quantity that can be measured, and what a stack of cheap hooks costs.

    python benchmarks/steering.py --sequences 8 --tokens 60 --json results.json
    python benchmarks/steering.py --only - --second qwen.gguf      # the row of two models alone

Every row has texts of its own, by the same prompts and seeds as the plain ones: prompts times sequences. Intervals are
bootstrapped over pairs of a plain and a steered text (95 %, 2,000 times). The cost of five cheap hooks is held against
the forward of the model in the same run, in turn.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

import genctl
from genctl.models.base import host_logits
from genctl.models.logprobs import entropies, log_softmax
from genctl.steering.base import Auxiliary, Stack, Step
from genctl.steering.basic import Temperature
from genctl.steering.bias import TokenBias
from genctl.steering.combine import LogLinear, Term
from genctl.steering.entropy import AdaptiveTemperature
from genctl.steering.model import Steered
from genctl.steering.penalties import FrequencyPenalty, RepetitionPenalty
from genctl.steering.schedules import ConstantBias

QUESTIONS = [
    "What did you do last summer?",
    "Tell me about your favourite city.",
    "How do I learn to cook?",
    "Describe an ordinary day in a small town.",
    "Why is the sky blue?",
    "What makes a good friend?",
]
OPENINGS = [
    "Once there was a town by the sea. ",
    "The train was late again, and ",
    "To make a good soup, first ",
    "My grandmother used to say that ",
    "The history of the bridge begins with ",
    "On Monday the council decided that ",
]
PIRATE = "Answer as a pirate would, arr, with ships and treasure. "
WITH_NUMBERS = ["In 1987, 3 of the 12 boats sank.", "It costs 45.90 for 2 nights.", "Call 555 0199 at 7:30."]
WITHOUT = ["Long ago, some of the boats sank.", "It costs a little for some nights.", "Call me early tomorrow."]


class Text(NamedTuple):
    prompt: Sequence[int]
    tokens: Sequence[int]


class Case(NamedTuple):
    name: str
    quantity: str
    measure: Callable[[genctl.Model, Sequence[Text]], np.ndarray]  # of each text
    hooks: Sequence[Any] = ()
    edits: Sequence[Any] = ()


# -- what is measured of a text


def share_of(tokens: frozenset[int]) -> Callable[[Any, Sequence[Text]], np.ndarray]:
    return lambda _, texts: np.array([np.mean([t in tokens for t in text.tokens]) for text in texts])


def length(_: Any, texts: Sequence[Text]) -> np.ndarray:
    return np.array([len(text.tokens) for text in texts], float)


def repetition(_: Any, texts: Sequence[Text]) -> np.ndarray:
    return np.array([1 - len(set(text.tokens)) / len(text.tokens) for text in texts])


def entropy(lm: genctl.Model, texts: Sequence[Text]) -> np.ndarray:
    """Of the law that a token was drawn from, nats, mean over the tokens."""
    return _followed(lm.language_model, texts, lambda scores, _: entropies(scores))


def agreement(second: Callable[[Sequence[int]], Sequence[int]]) -> Callable[[genctl.Model, Sequence[Text]], np.ndarray]:
    """The log-probability, nats a token, that the model gives the text behind another prompt."""

    def measured(lm: genctl.Model, texts: Sequence[Text]) -> np.ndarray:
        plain = lm.language_model.model if isinstance(lm.language_model, Steered) else lm.language_model
        others = [Text(second(text.prompt), text.tokens) for text in texts]
        return _followed(plain, others, lambda scores, tokens: log_softmax(scores)[np.arange(len(tokens)), tokens])

    return measured


def _followed(model: Any, texts: Sequence[Text], of: Callable[[Any, Any], np.ndarray]) -> np.ndarray:
    """(texts,) mean over the tokens of a text of what holds before each, given (N, V) scores and (N,) the tokens."""
    longest = max(len(text.tokens) for text in texts)
    tokens = np.array([[*text.tokens, *[0] * (longest - len(text.tokens))] for text in texts])
    logits, state = model.prefill([list(text.prompt) for text in texts])
    steps = []
    for t in range(longest):
        steps.append(of(host_logits(logits), tokens[:, t]))
        if t + 1 < longest:
            logits, state = model.extend(state, tokens[:, t])
    values = np.array(steps).T
    return np.array([values[i, : len(text.tokens)].mean() for i, text in enumerate(texts)])


# -- the cases


def cases(lm: genctl.Model, pirate: dict[tuple[int, ...], list[int]]) -> list[Case]:
    base, vocabulary = lm.language_model, lm.language_model.vocabulary
    digits = frozenset(i for i, token in enumerate(vocabulary.tokens) if any(48 <= byte <= 57 for byte in token))
    again: Any = Auxiliary(prompt=lambda messages: [{**messages[0], "content": PIRATE + messages[0]["content"]}])
    layer = len(base.layers) // 2
    numbers = genctl.AddVector(layer, difference(base, layer), 2.0, keep_norm=True)
    ends = dict.fromkeys(vocabulary.eos, 9.0)
    with_digits = "share of tokens with a digit"
    return [
        Case("TokenBias(+4 on digits)", with_digits, share_of(digits), [TokenBias(dict.fromkeys(digits, 4.0))]),
        Case(
            "AdaptiveTemperature(strength=0.5)", "entropy, nats", entropy, [AdaptiveTemperature(0.0, 1.0, strength=0.5)]
        ),
        Case("TokenBias(+9 on the end)", "tokens of a text", length, [TokenBias(ends)]),
        Case("FrequencyPenalty(1.0)", "share of tokens that came before", repetition, [FrequencyPenalty(1.0)]),
        Case(
            "LogLinear(1.0, other prompt 1.0)",
            "log-probability behind the other prompt, nats a token",
            agreement(lambda prompt: pirate[tuple(prompt)]),
            [LogLinear(1.0, [Term(again, 1.0)])],
        ),
        Case(f"edit: AddVector(layer={layer}, numbers)", with_digits, share_of(digits), edits=[numbers]),
        Case("edit: FirstTokenScale(0.1)", "entropy, nats", entropy, edits=[genctl.FirstTokenScale(0.1)]),
    ]


def difference(base: Any, layer: int) -> Any:
    """Mean hidden state of texts with numbers, less that of texts without."""
    import torch

    def mean(texts: Sequence[str]) -> Any:
        with torch.no_grad():
            passes = [base.model(torch.tensor([base.encode(text)]), output_hidden_states=True) for text in texts]
        return torch.stack([one.hidden_states[layer + 1][0].mean(dim=0) for one in passes]).mean(dim=0)

    return mean(WITH_NUMBERS) - mean(WITHOUT)


def generated(lm: genctl.Model, sequences: int, tokens: int, seed: int) -> list[Text]:
    prompts = [[{"role": "user", "content": question}] for question in QUESTIONS]
    found = lm.generate(prompts, num_return_sequences=sequences, max_new_tokens=tokens, seed=seed)
    plain = lm.language_model.model if isinstance(lm.language_model, Steered) else lm.language_model
    several = [[g] if isinstance(g, genctl.Generation) else g for g in found]
    return [Text(plain.encode(p), g.tokens or (0,)) for p, gs in zip(prompts, several, strict=True) for g in gs]


def compared(lm: genctl.Model, case: Case, plain: Sequence[Text], options: Any) -> dict[str, Any]:
    with ExitStack() as stack:
        if case.edits:
            stack.enter_context(lm.edit(*case.edits))
        steered = lm.steered(case.hooks) if case.hooks else lm
        texts = generated(steered, options.sequences, options.tokens, options.seed)
        after = case.measure(steered, texts)
    return row_of(case.name, case.quantity, case.measure(lm, plain), after, options.seed)


def with_second(lm: genctl.Model, path: str, options: Any) -> dict[str, Any]:
    """Two models of different tokens, as bytes: the geometric mean of their laws, and what the second says of texts.

    A pair with an empty text has no mean over bytes, and is left out.
    """
    view, second = lm.bytes(), genctl.load(path).bytes()
    both = view.steered([LogLinear(0.5, [Term(Auxiliary(second), 0.5)])])

    def told(model: genctl.Model) -> np.ndarray:
        found = model.generate(
            OPENINGS, num_return_sequences=options.sequences, max_new_tokens=options.tokens, seed=options.seed
        )
        several = [[g] if isinstance(g, genctl.Generation) else g for g in found]
        texts = [(p, bytes(g.tokens)) for p, gs in zip(OPENINGS, several, strict=True) for g in gs]  # tokens are bytes
        return np.array([second.logprob(text, prompt) / len(text) if text else np.nan for prompt, text in texts])

    before, after = told(view), told(both)
    whole = ~np.isnan(before + after)
    name = f"bytes: LogLinear(0.5, {Path(path).stem} 0.5)"
    return row_of(name, "log-probability by the second model, nats a byte", before[whole], after[whole], options.seed)


def row_of(name: str, quantity: str, before: np.ndarray, after: np.ndarray, seed: int) -> dict[str, Any]:
    changes = after - before
    picked = np.random.default_rng(seed).integers(0, len(changes), size=(2000, len(changes)))
    low, high = np.quantile(changes[picked].mean(axis=1), [0.025, 0.975])
    return {
        "hook": name,
        "quantity": quantity,
        "plain": float(before.mean()),
        "steered": float(after.mean()),
        "change": float(changes.mean()),
        "low": float(low),
        "high": float(high),
        "texts": len(changes),
    }


# -- what it costs


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """The lesser of elapsed and CPU seconds, which leaves out what other processes took; and the answer."""
    begun = time.perf_counter(), time.process_time()
    answer = call()
    return min(time.perf_counter() - begun[0], time.process_time() - begun[1]), answer


def overhead(lm: genctl.Model, rows: int, rounds: int = 15) -> dict[str, Any]:
    """Five cheap hooks for so many rows with 100 tokens each, as a share of the forward of one more token."""
    base = lm.language_model
    rng = np.random.default_rng(0)
    ids = [rng.integers(100, 10_000, size=100).tolist() for _ in range(rows)]
    stack = Stack(
        [
            RepetitionPenalty(1.1),
            FrequencyPenalty(0.5),
            TokenBias({100: 1.0, 200: -1.0}),
            ConstantBias(-1.0, words=[300, 301]),
            Temperature(0.8),
        ]
    ).bind(base.vocabulary)
    _, state = base.prefill(ids)
    forwards, stacks = [], []
    contexts = [np.array(row) for row in ids]
    memos = [stack.begin(context) for context in contexts]
    for _ in range(rounds):
        seconds, (logits, _) = timed(lambda: base.extend(state, np.full(rows, 100)))
        step = Step(contexts, np.full(rows, 60), host_logits(logits), {}, {}, memos, None)
        forwards.append(seconds)
        stacks.append(timed(lambda step=step: stack(step))[0])
    return {"rows": rows, "forward_ms": 1e3 * median(forwards), "hooks_ms": 1e3 * median(stacks)}


def line_of(row: dict[str, Any]) -> str:
    return (
        f"| `{row['hook']}` | {row['quantity']} | {row['plain']:.3f} | {row['steered']:.3f} "
        f"| {row['change']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}] |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sequences", type=int, default=8, help="texts of each prompt")
    parser.add_argument("--tokens", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[""], help="the cases with one of these texts in their names")
    parser.add_argument("--second", help="a model for a row of two models, as bytes; a file, a folder or a hub id")
    parser.add_argument("--json", help="file for the results")
    options = parser.parse_args()
    lm = genctl.load()
    costs = [overhead(lm, rows) for rows in (1, 8, 32)]
    print("| rows | forward, ms | five hooks, ms | share |\n| --- | --- | --- | --- |")
    for cost in costs:
        share = cost["hooks_ms"] / cost["forward_ms"]
        print(f"| {cost['rows']} | {cost['forward_ms']:.1f} | {cost['hooks_ms']:.2f} | {share:.1%} |", flush=True)
    encode = lm.language_model.encode
    pirate = {
        tuple(encode([{"role": "user", "content": q}])): encode([{"role": "user", "content": PIRATE + q}])
        for q in QUESTIONS
    }
    plain = generated(lm, options.sequences, options.tokens, options.seed)
    found = []
    print("\n| hook | quantity | plain | steered | change, 95 % |\n| --- | --- | --- | --- | --- |")
    for case in (case for case in cases(lm, pirate) if any(text in case.name for text in options.only)):
        found.append(compared(lm, case, plain, options))
        print(line_of(found[-1]), flush=True)
    if options.second:
        found.append(with_second(lm, options.second, options))
        print(line_of(found[-1]), flush=True)
    if options.json:
        Path(options.json).write_text(
            json.dumps({"options": vars(options), "costs": costs, "changes": found}, indent=1)
        )


if __name__ == "__main__":
    main()
