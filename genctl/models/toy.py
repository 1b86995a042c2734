"""A small n-gram model with exact answers: no torch, no weights to load. For tests, docs and first tries.

    model = ToyModel.trained("the cat sat on the mat. ", order=3)
    model.logprob(model.encode("the cat"))          # nats, exact

The next-token law depends on the longest known suffix of the context, so every probability of every text can be
computed by hand or by enumeration.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from typing import TypeAlias

import numpy as np

from genctl.errors import ArgumentError
from genctl.kernels.records import F32, F64, I64
from genctl.models.base import Prompt, Tokens
from genctl.models.sets import SetPrompt, no_sets
from genctl.vocabulary import Vocabulary

Context: TypeAlias = tuple[int, ...]
ToyState: TypeAlias = tuple[Context, ...]  # the last order - 1 tokens of each row


class ToyModel:
    """An n-gram model with back-off. laws: context -> (V,) log-probabilities in nats; () must be among them."""

    def __init__(self, vocabulary: Vocabulary, laws: Mapping[Context, F32]) -> None:
        if () not in laws:
            raise ArgumentError("a ToyModel needs a law for the empty context ()")
        self._vocabulary = vocabulary
        self._laws = dict(laws)
        self._memory = max(map(len, laws))

    @classmethod
    def random(cls, vocabulary: Vocabulary, order: int, seed: int, spread: float = 1.0) -> ToyModel:
        """A law drawn at random for every context shorter than order; log-odds with this standard deviation."""
        rng = np.random.default_rng(seed)
        usable = [t for t in range(len(vocabulary)) if t not in vocabulary.unused]
        laws = {}
        for length in range(order):
            for context in product(usable, repeat=length):
                logits = np.full(len(vocabulary), -np.inf)
                logits[usable] = rng.normal(0.0, spread, len(usable))
                laws[context] = (logits - np.logaddexp.reduce(logits)).astype(np.float32)
        return cls(vocabulary, laws)

    @classmethod
    def trained(cls, text: str, order: int = 4, pieces: int = 128) -> ToyModel:
        """Counts of text, one training text a line; tokens are all bytes, the commonest pieces and end-of-text.

        Each law is the counts of its context mixed with the law of the shorter context, as Witten & Bell (1991).
        """
        tokens = [bytes((b,)) for b in range(256)] + _common_pieces(text.encode(), pieces) + [b""]
        eos = len(tokens) - 1
        vocabulary = Vocabulary(tuple(tokens), frozenset({eos}))
        model = cls(vocabulary, {(): np.full(len(tokens), -np.log(len(tokens)), np.float32)})
        lines = [[*model.encode(line), eos] for line in text.splitlines() if line]
        return cls(vocabulary, _witten_bell(lines, order, len(tokens)))

    @property
    def vocabulary(self) -> Vocabulary:
        return self._vocabulary

    def law(self, context: Sequence[int]) -> F32:
        """(V,) log-probabilities of the next token, nats."""
        for start in range(max(len(context) - self._memory, 0), len(context)):
            known = self._laws.get(tuple(context[start:]))
            if known is not None:
                return known
        return self._laws[()]

    def logprob(self, tokens: Sequence[int], given: Sequence[int] = ()) -> float:
        """Log-probability (nats) of the tokens after the given ones."""
        context, total = list(given), 0.0
        for token in tokens:
            total += float(self.law(context)[token])
            context.append(token)
        return total

    # -- LanguageModel

    def encode(self, prompt: Prompt, /) -> list[int]:
        """The longest token first; messages are their contents, one a line."""
        if isinstance(prompt, SetPrompt):
            raise no_sets(self)
        if not isinstance(prompt, str | bytes):
            if not all(isinstance(message.get("content"), str) for message in prompt):
                raise ArgumentError("a message has no text as its content")
            prompt = "".join(f"{message['content']}\n" for message in prompt)
        try:
            rest = prompt.encode() if isinstance(prompt, str) else prompt
        except UnicodeEncodeError as error:
            raise ArgumentError(f"the prompt is {prompt!r:.60}, which no bytes spell: {error.reason}") from error
        ids: list[int] = []
        while rest:
            fitting = [t for t, b in enumerate(self._vocabulary.tokens) if b and rest.startswith(b)]
            if not fitting:
                raise ArgumentError(f"no token of the toy model begins {rest[:20]!r}")
            ids.append(max(fitting, key=lambda t: len(self._vocabulary.tokens[t])))
            rest = rest[len(self._vocabulary.tokens[ids[-1]]) :]
        return ids

    def prefill(self, prompts: Sequence[Sequence[int]], /) -> tuple[F32, ToyState]:
        return self._answer(tuple(map(tuple, prompts)))

    def extend(self, state: ToyState, tokens: Tokens, /) -> tuple[F32, ToyState]:
        more = [tuple(np.atleast_1d(row).tolist()) for row in tokens]
        return self._answer(tuple(old + new for old, new in zip(state, more, strict=True)))

    def select(self, state: ToyState, rows: I64, /) -> ToyState:
        return tuple(state[row] for row in rows.tolist())

    def join(self, states: Sequence[ToyState], /) -> ToyState:
        return tuple(row for state in states for row in state)

    def _answer(self, contexts: tuple[Context, ...]) -> tuple[F32, ToyState]:
        kept = tuple(context[max(len(context) - self._memory, 0) :] for context in contexts)
        logits = np.array([self.law(context) for context in kept], np.float32)
        return logits.reshape(len(kept), len(self._vocabulary)), kept


def _common_pieces(text: bytes, count: int) -> list[bytes]:
    """The substrings of 2 to 4 bytes that save the most, newlines left out."""
    seen: Counter[bytes] = Counter()
    for size in (2, 3, 4):
        seen.update(text[i : i + size] for i in range(len(text) - size + 1))
    saving = {piece: n * (len(piece) - 1) for piece, n in seen.items() if b"\n" not in piece and piece.isascii()}
    return sorted(saving, key=lambda piece: (-saving[piece], piece))[:count]


def _witten_bell(lines: Sequence[Sequence[int]], order: int, size: int) -> dict[Context, F32]:
    counts: dict[Context, Counter[int]] = {}
    for line in lines:
        for i, token in enumerate(line):
            for length in range(min(order, i + 1)):
                counts.setdefault(tuple(line[i - length : i]), Counter())[token] += 1
    laws: dict[Context, F64] = {(): np.full(size, 1 / size)}
    for context in sorted(counts, key=len):
        seen = counts[context]
        types, total = len(seen), seen.total()
        law = laws[context[1:]] * (types / (types + total))
        law[list(seen)] += np.array(list(seen.values())) / (types + total)
        laws[context] = law
    return {context: np.log(law).astype(np.float32) for context, law in laws.items()}


def packaged_toy() -> ToyModel:
    """The toy model that `genctl.load("toy")` gives: trained on a few lines that examples and docs need."""
    return ToyModel.trained(CORPUS)


_CITIES = ("Lisbon", "Oslo", "Rome", "Kyoto")
_DATES = product((1999, 2024, 2026), ("01-05", "07-14", "12-31"))
_TRIPS = product(_CITIES, (2, 3, 10), ("sun", "rain", "art"))

CORPUS = "\n".join(
    [f"The date is {year}-{day}." for year, day in _DATES]
    + [f"A short holiday in {city}: {days} days of {what}." for city, days, what in _TRIPS]
    + [f'{{"city": "{city}", "days": {days}}}' for city, days in product(_CITIES, (2, 3, 10))]
    + ["level noon radar civic kayak refer", "anna saw otto at noon", "the cat sat on the mat", "never odd or even"]
    + ["Name: Ada, age 36", "Name: Alan, age 41", "yes", "no", "maybe", "the answer is yes", "the answer is no"]
)
