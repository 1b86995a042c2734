"""A LogitsProcessor of transformers as a hook.

    lm.steered([transformers.TypicalLogitsWarper(0.9)])
    lm.steered([transformers.RepetitionPenaltyLogitsProcessor(1.2)])

Processors that look at the logits alone see all rows at once. Any other sees each row by itself, with the ids of that
row and no padding: then it cannot tell one particle from another. Those that keep something from call to call are
refused; one that is not in the table is taken to be a function of its arguments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from genctl.errors import ArgumentError
from genctl.kernels.records import F32
from genctl.steering.base import Hook, Slot, Step, checked, like_the_model
from genctl.steering.checks import check_ids, check_number, ids_of
from genctl.vocabulary import Vocabulary


class Kind(NamedTuple):
    """restricts: may it make tokens impossible? batched: does it look at logits alone? why_not: it is refused."""

    slot: Slot | None = None
    restricts: bool = False
    batched: bool = False
    why_not: str = ""


_FILTER = Kind(Slot.TRUNCATION, restricts=True, batched=True)
_RULE = Kind(restricts=True)
_STATE = "it keeps a state from call to call, which does not follow a particle"
_CACHE = "it keeps one cache for all calls, which does not follow a particle: use genctl.steering.combine.guidance"
_BATCH = "it goes by the place of a row in the batch, which no row keeps here"

KINDS: dict[str, Kind] = {
    "TemperatureLogitsWarper": Kind(Slot.TEMPERATURE, batched=True),
    "TopKLogitsWarper": _FILTER,
    "TopPLogitsWarper": _FILTER,
    "MinPLogitsWarper": _FILTER,
    "TypicalLogitsWarper": _FILTER,
    "EpsilonLogitsWarper": _FILTER,
    "EtaLogitsWarper": Kind(Slot.TRUNCATION, restricts=True),  # raises for a row of -inf, so rows go alone
    "TopHLogitsWarper": Kind(Slot.TRUNCATION, restricts=True),
    "LogitNormalization": Kind(batched=True),
    "InfNanRemoveLogitsProcessor": Kind(why_not="it would make impossible tokens possible"),
    "RepetitionPenaltyLogitsProcessor": Kind(Slot.PENALTY),
    "NoRepeatNGramLogitsProcessor": _RULE,
    "NoBadWordsLogitsProcessor": _RULE,
    "SequenceBiasLogitsProcessor": Kind(Slot.BIAS),
    "SuppressTokensLogitsProcessor": Kind(restricts=True, batched=True),
    "SuppressTokensAtBeginLogitsProcessor": _RULE,
    "MinLengthLogitsProcessor": _RULE,
    "MinNewTokensLengthLogitsProcessor": _RULE,
    "ForcedBOSTokenLogitsProcessor": _RULE,
    "ForcedEOSTokenLogitsProcessor": _RULE,
    "ExponentialDecayLengthPenalty": Kind(Slot.BIAS),
    "WatermarkLogitsProcessor": Kind(Slot.BIAS),
    "PrefixConstrainedLogitsProcessor": Kind(why_not=_BATCH),
    "EncoderRepetitionPenaltyLogitsProcessor": Kind(why_not=_BATCH),
    "EncoderNoRepeatNGramLogitsProcessor": Kind(why_not=_BATCH),
    "SynthIDTextWatermarkLogitsProcessor": Kind(why_not=_STATE),
    "ClassifierFreeGuidanceLogitsProcessor": Kind(why_not=_BATCH),
    "UnbatchedClassifierFreeGuidanceLogitsProcessor": Kind(why_not=_CACHE),
}


def from_processor(processor: Any) -> Processor:
    """Raises ArgumentError for one that is no function of a row."""
    name = type(processor).__name__
    kind = KINDS.get(name, Kind())
    if kind.why_not:
        raise ArgumentError(f"{name} cannot be a hook: {kind.why_not}")
    return Processor(processor, kind)


@dataclass(frozen=True)
class Processor(Hook):
    processor: Any
    kind: Kind

    def __post_init__(self) -> None:
        object.__setattr__(self, "slot", self.kind.slot)

    @property
    def restricts_support(self) -> bool:
        return self.kind.restricts

    @property
    def needs_prompt(self) -> bool:
        """Many count from where the ids begin or where the prompt ended."""
        return not self.kind.batched

    def bind(self, vocabulary: Vocabulary, /) -> Processor:
        """Raises ArgumentError for ids that the model does not have: transformers would at the first token, if ever."""
        name = type(self.processor).__name__
        for ids, bias in (getattr(self.processor, "sequence_bias", None) or {}).items():
            if not len(ids):
                raise ArgumentError(f"{name} has an empty sequence of tokens, which ends everywhere")
            check_ids(name, ids, vocabulary)
            check_number(f"{name}: the bias of {ids}", bias)
        for attribute in ("suppress_tokens", "begin_suppress_tokens"):
            check_ids(name, ids_of(attribute, getattr(self.processor, attribute, ())), vocabulary)
        return self

    def __repr__(self) -> str:
        told = ", ".join(f"{name}={value!r}" for name, value in sorted(vars(self.processor).items()))
        return f"{type(self.processor).__name__}({told})"

    def __call__(self, step: Step, scores: F32, /) -> F32:
        if self.kind.batched:
            return self._asked(step, [], scores)
        rows = [self._asked(step, ids.tolist(), row[None]) for ids, row in zip(step.contexts, scores, strict=True)]
        return np.concatenate(rows) if rows else scores

    def _asked(self, step: Step, ids: list[int], scores: F32) -> F32:
        import torch

        given = like_the_model(step, scores.copy())
        if step.device is None:
            given = torch.from_numpy(given)
        rows = torch.tensor([ids] * len(scores), dtype=torch.long, device=given.device).reshape(len(scores), len(ids))
        return checked(type(self.processor).__name__, scores, self.processor(rows, given))
