"""Budget forcing: a thought is made longer by denying its end, and shorter by writing it (s1, Muennighoff et al. 2025).

    think = BudgetForcing(end="</think>", wait="Wait", ignore=1, budget=400)
    lm.generate(prompt, steering=[think])                                                     # an edit
    lm.generate(prompt, steering=[replace(think, meaning="condition")], binding="tilt", num_particles=8)

What is written over a model's text changes its law, and there are two laws to mean:

- "edit" (bound as target): the law of the text after the edit. Where the end is denied its probability goes to `wait`;
  what is forced has probability 1.
- "condition" (bound as tilt): the model's own law of texts that happen to be so. What is forced has its probability
  under the model as weight, and a text that ends its thought too early has none: runs that need unlikely edits lose.

Both are functions of the tokens alone, so a `wait` that the model wrote by itself counts as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from genctl.errors import ArgumentError
from genctl.kernels.records import F32, I64
from genctl.steering.base import Hook, Step
from genctl.steering.checks import check_count, check_word, check_words, tokens_of
from genctl.vocabulary import Vocabulary

MEANS = {"edit": "target", "condition": "tilt"}


@dataclass(frozen=True)
class BudgetForcing(Hook):
    """end, wait: tokens, ids or strings that are exactly one token. The end is denied while there are fewer than
    `ignore` waits. budget: the tokens of a thought at most, then the end and the tokens `final` are forced; None is no
    limit. A rule has to allow what is forced, or the particle is at a dead end.
    """

    end: str | int = "</think>"
    wait: str | int = "Wait"
    ignore: int = 1
    budget: int | None = None
    final: Sequence[str | int] = ()
    meaning: Literal["edit", "condition"] = "edit"
    _tokens: tuple[int, ...] = field(default=(), repr=False, compare=False)  # end, wait, final

    def __post_init__(self) -> None:
        check_count("ignore", self.ignore, least=0)
        if self.budget is not None:
            check_count("budget", self.budget, least=0)
        if not isinstance(self.meaning, str) or self.meaning not in MEANS:
            raise ArgumentError(f"meaning is {self.meaning!r}, it must be edit or condition")
        check_word("end", self.end)
        check_word("wait", self.wait)
        check_words("final", self.final, least=0)

    @property
    def restricts_support(self) -> bool:
        return self.ignore > 0 or self.budget is not None

    @property
    def needs_prompt(self) -> bool:
        return True

    @property
    def binding(self) -> str:
        return MEANS[self.meaning]

    def bind(self, vocabulary: Vocabulary, /) -> BudgetForcing:
        end, wait, *final = (_single(word, vocabulary) for word in (self.end, self.wait, *self.final))
        if end == wait:
            raise ArgumentError(f"end and wait are both token {end}: it cannot be denied and written in its own place")
        return replace(self, _tokens=(end, wait, *final))

    def __call__(self, step: Step, scores: F32, /) -> F32:
        if not self.restricts_support:
            return scores
        after = scores.copy()
        for row, text in zip(after, step.texts(), strict=True):
            self._write(row, text)
        return after

    def _write(self, row: F32, text: I64) -> None:
        """Change the logits of one row in place."""
        end, wait, *final = self._tokens
        forced = self._forced(text, (end, *final))
        if forced is not None:
            kept = row[forced]
            row[:] = -np.inf
            row[forced] = kept
        elif end not in text and np.count_nonzero(text == wait) < self.ignore:
            if self.meaning == "edit" and row[wait] > -np.inf:
                row[wait] = np.logaddexp(row[wait], row[end])
            row[end] = -np.inf

    def _forced(self, text: I64, tokens: Sequence[int]) -> int | None:
        """The token that has to come, if the thought came to its budget."""
        if self.budget is None or not self.budget <= len(text) < self.budget + len(tokens):
            return None
        return None if tokens[0] in text[: self.budget] else tokens[len(text) - self.budget]


def _single(word: str | int, vocabulary: Vocabulary) -> int:
    ids = tokens_of([word], vocabulary)
    if len(ids) > 1:
        raise ArgumentError(f"the tokens {ids.tolist()} are all {word!r}\nhint: give the id of the one that is meant")
    return int(ids[0])
