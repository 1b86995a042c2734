"""A rule, and hooks, inside `model.generate` of transformers.

    processor = genctl.processor(Trip, tokenizer, steering=[FrequencyPenalty(0.5)])
    model.generate(**inputs, logits_processor=[processor], num_beams=4, max_new_tokens=80)

Masking and renormalising is what such a processor can do: the samples are not weighted. For samples of the model
conditioned on the rule use `genctl.load(model, tokenizer=tokenizer).generate(...)`, or `genctl.custom_generate`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from genctl.constraints.base import Constraint, unpack, words
from genctl.constraints.notations import as_rule
from genctl.constraints.rules import Rule
from genctl.errors import ArgumentError, DeadEndError, VocabularyError
from genctl.kernels.records import DEAD, I64, Bool
from genctl.models.base import host_logits
from genctl.steering.base import Stack, Step
from genctl.steering.checks import ids_of
from genctl.steering.model import check_meanings
from genctl.vocabulary import Vocabulary

if TYPE_CHECKING:
    import torch

FINISHED = -1  # a row that has ended; transformers pads it


class _Row(NamedTuple):
    """What is known of a row of ids."""

    which: int  # of the rules
    state: int  # of its constraint; FINISHED behind an end
    padding: int  # ids before the prompt
    prompt: int  # ids of the prompt
    memos: tuple[Any, ...]  # one for each hook


class RuleProcessor:
    """A transformers LogitsProcessor: steers logits, then sets those of tokens that the rule forbids to -inf.

    The state of a row is looked up by its ids, so beams may be re-ordered, rows of a batch are independent, and
    the processor may be used again. A call whose rows do not all continue rows of the calls before begins a new
    generation, and its rows are taken to be prompts. (The one thing it cannot tell from going on is a new prompt
    that is the old prompt with an allowed text behind it: call `restart` before that.)
    """

    def __init__(self, rules: Sequence[Rule | None], vocabulary: Vocabulary, stack: Stack, pad: int | None) -> None:
        self._rules, self._unbound, self._pad = rules, stack, pad
        self._bind(vocabulary)

    def restart(self) -> None:
        """Forget all rows, and what their constraints remember of them: the next call begins a new generation."""
        self._bind(self._vocabulary)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """input_ids (R, t), scores (R, V) -> new scores (R, V). Raises ArgumentError for other shapes, and arrays."""
        _check_call(input_ids, scores)
        self._fit(scores.shape[-1])
        rows = input_ids.detach().cpu().numpy().astype(np.int64)
        known = self._continued(rows) or self._begun(rows)
        if len(self._stack):
            scores = self._steered(rows, known, scores)
        keep = scores.new_tensor(np.stack([self._allowed(row.which, row.state) for row in known])).bool()
        return scores.masked_fill(~keep, -float("inf"))

    def _bind(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._constraints: list[Constraint | None] = [rule.bind(vocabulary) if rule else None for rule in self._rules]
        self._stack = self._unbound.bind(vocabulary)
        self._known: dict[tuple[int, bytes], _Row] = {}  # by the rule and the key of a row's ids

    def _fit(self, width: int) -> None:
        """The model's logits may be wider than the tokenizer; the width is known at the first call."""
        missing = width - len(self._vocabulary)
        if missing < 0:
            raise VocabularyError(f"the model has {width} logits, the tokenizer {len(self._vocabulary)} ids")
        if missing:
            self._bind(self._vocabulary.padded(width))

    def _which(self, count: int) -> list[int]:
        """The rule of each of so many rows: beams and returned sequences of a prompt are neighbours."""
        if count % len(self._constraints):
            raise ArgumentError(f"{len(self._constraints)} rules for {count} rows of input_ids")
        return [i * len(self._constraints) // count for i in range(count)]

    def _continued(self, rows: I64) -> list[_Row] | None:
        """What is known of rows that continue known ones, None if any does not."""
        before = [
            self._known.get((which, _key(row[:-1]))) for which, row in zip(self._which(len(rows)), rows, strict=True)
        ]
        if None in before:
            return None
        known = [self._advance(one, int(row[-1])) for one, row in zip(before, rows, strict=True) if one is not None]
        self._remember(rows, known)
        return known

    def _begun(self, rows: I64) -> list[_Row]:
        self.restart()
        known = []
        for which, row in zip(self._which(len(rows)), rows, strict=True):
            constraint = self._constraints[which]
            padding = 0 if self._pad is None else int(np.argmin(np.append(row, -1) == self._pad))
            memos = self._stack.begin(row[padding:])
            known.append(_Row(which, constraint.start() if constraint else 1, padding, len(row) - padding, memos))
        self._remember(rows, known)
        return known

    def _remember(self, rows: I64, known: Sequence[_Row]) -> None:
        self._known.update(((one.which, _key(row)), one) for row, one in zip(rows, known, strict=True))

    def _advance(self, row: _Row, token: int) -> _Row:
        if row.state == FINISHED or token in self._vocabulary.eos:
            return row._replace(state=FINISHED)
        constraint = self._constraints[row.which]
        state = constraint.advance(row.state, token) if constraint else row.state
        return row._replace(state=state, memos=self._stack.advance(row.memos, [token]))

    def _steered(self, rows: I64, known: Sequence[_Row], scores: torch.Tensor) -> torch.Tensor:
        """The stack's scores for the rows that go on."""
        going = [i for i, row in enumerate(known) if row.state != FINISHED]
        if not going:
            return scores
        step = Step(
            contexts=[rows[i, known[i].padding :] for i in going],
            prompt_lengths=np.array([known[i].prompt for i in going], np.int64),
            raw=host_logits(scores[going]),
            memos=[known[i].memos for i in going],
            device=scores.device,
        )
        steered = scores.clone()
        steered[going] = scores.new_tensor(self._stack(step))
        return steered

    def _allowed(self, which: int, state: int) -> Bool:
        """(V,) bool. A finished row, or a beam that was carried on with a score of -inf, may only end."""
        size = len(self._vocabulary)
        if state <= DEAD:
            allowed = np.zeros(size, np.bool_)
            allowed[list(self._vocabulary.eos)] = True
            return allowed
        constraint = self._constraints[which]
        if constraint is None:
            return np.ones(size, np.bool_)
        mask = np.zeros(words(size), np.uint32)
        constraint.mask(state, mask)
        if not mask.any():
            raise DeadEndError(
                "no token is allowed after what was generated\nhint: make the rule judge prefixes earlier"
            )
        return unpack(mask, size)


def _check_call(input_ids: Any, scores: Any) -> None:
    shapes = [tuple(getattr(one, "shape", ())) for one in (input_ids, scores)]
    tensors = all(hasattr(one, "masked_fill") for one in (input_ids, scores))
    if not tensors or [len(shape) for shape in shapes] != [2, 2] or shapes[0][0] != shapes[1][0]:
        raise ArgumentError(
            f"input_ids and scores are {type(input_ids).__name__} {shapes[0]} and {type(scores).__name__} {shapes[1]}, "
            "expected tensors of (R, t) and (R, V)"
        )


def _key(ids: I64) -> bytes:
    return hashlib.blake2b(ids.tobytes(), digest_size=16).digest()


def processor(
    constraint: Any,
    tokenizer: Any,
    *,
    steering: Sequence[Any] | None = None,
    eos_token_id: int | Sequence[int] | None = None,
) -> RuleProcessor:
    """A LogitsProcessor for `model.generate` that steers and enforces a rule; see `RuleProcessor`.

    constraint: as in `generate`, or a list with one rule for each prompt of the batch. None only with steering.
    steering: hooks (docs/steering.md), which see what transformers' own penalties left, and come before the rule. They
        see a row without the padding tokens it begins with. Under beams scores are log-probabilities.
    eos_token_id: the ids that end a text, where the model has others than the tokenizer says.

    Raises ConstraintError, ArgumentError or VocabularyError when it is made, not in the middle of a generation.
    """
    rules = [as_rule(one) for one in (constraint if isinstance(constraint, list) else [constraint])]
    stack = Stack([] if steering is None else steering)
    if not rules or (None in rules and not len(stack)):
        raise ArgumentError("processor() needs a rule for every prompt, not None, or steering")
    check_meanings(stack, "target")
    for hook in stack:
        if hook.auxiliaries or hook.layers:
            raise ArgumentError(
                f"{hook!r} reads another model, another prompt or hidden states, which a LogitsProcessor does not see"
                "\nhint: genctl.load(model, tokenizer=tokenizer).generate(..., steering=...)"
            )
    eos = None if eos_token_id is None else ids_of("eos_token_id", eos_token_id)
    pad = getattr(tokenizer, "pad_token_id", None)
    return RuleProcessor(rules, Vocabulary.from_tokenizer(tokenizer, eos=eos), stack, pad)
