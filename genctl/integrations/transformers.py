"""A rule inside `model.generate` of transformers.

    processor = genctl.processor(Trip, tokenizer)
    model.generate(**inputs, logits_processor=[processor], num_beams=4, max_new_tokens=80)

Masking and renormalising is what such a processor can do: the samples are not weighted. For samples of the model
conditioned on the rule use `genctl.load(model, tokenizer=tokenizer).generate(...)`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from genctl.constraints.base import Constraint, unpack, words
from genctl.constraints.notations import as_rule
from genctl.constraints.rules import Rule
from genctl.errors import ArgumentError, DeadEndError, VocabularyError
from genctl.kernels.records import DEAD, I64, Bool
from genctl.vocabulary import Vocabulary

if TYPE_CHECKING:
    import torch

FINISHED = -1  # a row that has ended; transformers pads it


class RuleProcessor:
    """A transformers LogitsProcessor: sets the logits of tokens that the rule forbids to -inf.

    The state of a row is looked up by its ids, so beams may be re-ordered, rows of a batch are independent, and
    the processor may be used again. A call whose rows do not all continue rows of the calls before begins a new
    generation, and its rows are taken to be prompts. (The one thing it cannot tell from going on is a new prompt
    that is the old prompt with an allowed text behind it: call `restart` before that.)
    """

    def __init__(self, rules: Sequence[Rule], vocabulary: Vocabulary) -> None:
        self._rules = rules
        self._bind(vocabulary)

    def restart(self) -> None:
        """Forget all rows, and what their constraints remember of them: the next call begins a new generation."""
        self._bind(self._vocabulary)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """input_ids (R, t), scores (R, V) -> new scores (R, V)."""
        self._fit(scores.shape[-1])
        rows = input_ids.detach().cpu().numpy().astype(np.int64)
        states = self._continued(rows) or self._begun(rows)
        allowed = np.stack([self._allowed(which, state) for which, state in states])
        keep = scores.new_tensor(allowed).bool()
        return scores.masked_fill(~keep, -float("inf"))

    def _bind(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._constraints: list[Constraint] = [rule.bind(vocabulary) for rule in self._rules]
        self._states: dict[bytes, tuple[int, int]] = {}  # key of a row's ids -> (which constraint, its state)

    def _fit(self, width: int) -> None:
        """The model's logits may be wider than the tokenizer; the width is known at the first call."""
        missing = width - len(self._vocabulary)
        if missing < 0:
            raise VocabularyError(f"the model has {width} logits, the tokenizer {len(self._vocabulary)} ids")
        if missing:
            self._bind(self._vocabulary.padded(width))

    def _continued(self, rows: I64) -> list[tuple[int, int]] | None:
        """States of rows that continue known ones, None if any does not."""
        states: list[tuple[int, int]] = []
        for row in rows:
            known = self._states.get(_key(row[:-1]))
            if known is None:
                return None
            which, state = known
            states.append((which, self._advance(which, state, int(row[-1]))))
        self._remember(rows, states)
        return states

    def _begun(self, rows: I64) -> list[tuple[int, int]]:
        if len(rows) % len(self._constraints):
            raise ArgumentError(f"{len(self._constraints)} rules for {len(rows)} rows of input_ids")
        each = len(rows) // len(self._constraints)  # beams and returned sequences of a prompt are neighbours
        self.restart()
        states = [(i // each, self._constraints[i // each].start()) for i in range(len(rows))]
        self._remember(rows, states)
        return states

    def _remember(self, rows: I64, states: list[tuple[int, int]]) -> None:
        for row, state in zip(rows, states, strict=True):
            self._states[_key(row)] = state

    def _advance(self, which: int, state: int, token: int) -> int:
        if state == FINISHED or token in self._vocabulary.eos:
            return FINISHED
        return self._constraints[which].advance(state, token)

    def _allowed(self, which: int, state: int) -> Bool:
        """(V,) bool. A finished row, or a beam that was carried on with a score of -inf, may only end."""
        size = len(self._vocabulary)
        if state <= DEAD:
            allowed = np.zeros(size, np.bool_)
            allowed[list(self._vocabulary.eos)] = True
            return allowed
        mask = np.zeros(words(size), np.uint32)
        self._constraints[which].mask(state, mask)
        if not mask.any():
            raise DeadEndError(
                "no token is allowed after what was generated\nhint: make the rule judge prefixes earlier"
            )
        return unpack(mask, size)


def _key(ids: I64) -> bytes:
    return hashlib.blake2b(ids.tobytes(), digest_size=16).digest()


def processor(constraint: Any, tokenizer: Any, *, eos_token_id: int | Sequence[int] | None = None) -> RuleProcessor:
    """A LogitsProcessor for `model.generate` that enforces a rule; see `RuleProcessor`.

    constraint: as in `generate`, or a list with one rule for each prompt of the batch.
    eos_token_id: the ids that end a text, where the model has others than the tokenizer says.
    Raises ConstraintError or VocabularyError when it is made, not in the middle of a generation.
    """
    rules = [as_rule(one) for one in (constraint if isinstance(constraint, list) else [constraint])]
    kept = [rule for rule in rules if rule is not None]
    if not kept or len(kept) < len(rules):
        raise ArgumentError("processor() needs a rule for every prompt, not None")
    eos = [eos_token_id] if isinstance(eos_token_id, int) else eos_token_id
    return RuleProcessor(kept, Vocabulary.from_tokenizer(tokenizer, eos=eos))
