"""Log-linear combinations of models and prompts: log p(x) = sum_i w_i log p_i(x) - log Z.

    lm.steered([guidance(1.5, prompt=lambda prompt: "")])
    lm.steered([contrastive(small)])
    lm.steered([LogLinear(1.0, [Term(Auxiliary(expert), 0.5), Term(Auxiliary(novice), -0.5)])])

Each law is normalised before it is weighted, so a constant in a model's logits changes nothing. A token that the model
itself, or a law of positive weight, finds impossible is impossible; to a law of negative weight an impossible token is
as unlikely as the least likely one that it finds possible. Bound as "target" the sum is normalised at each token (a
steered model); as "tilt" it is not (a product of whole texts): two different laws, docs/steering.md.

A law costs one forward: of its model, or a row more in the model's own forward where it is another prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from genctl.errors import ArgumentError
from genctl.kernels.records import F32, F64
from genctl.models.base import unwrapped
from genctl.models.logprobs import floored, log_normalisers, log_softmax
from genctl.models.prompts import Template
from genctl.steering.base import Auxiliary, Hook, Slot, Step
from genctl.steering.basic import Filter, MinP, TopP
from genctl.steering.checks import check_divisor, check_finite, check_within


class Term(NamedTuple):
    """weight: the exponent of the law; temperature: of the law, before it is normalised."""

    auxiliary: Auxiliary
    weight: float
    temperature: float = 1.0


@dataclass(frozen=True)
class LogLinear(Hook):
    """own: the weight of the model's own law, as the hooks before it left it. keep: a filter of that law; what it takes
    away is impossible to the combination.
    """

    own: float
    terms: Sequence[Term]
    keep: Filter | None = None
    slot = Slot.COMBINATION

    def __post_init__(self) -> None:
        check_finite("own", self.own)
        if self.keep is not None and not isinstance(self.keep, Filter):
            raise ArgumentError(f"keep is {self.keep!r}, it must be a filter such as TopP(0.9)")
        if isinstance(self.terms, str) or not isinstance(self.terms, Sequence):
            raise ArgumentError(f"terms is {self.terms!r}, it must be a list of Term(Auxiliary(...), weight)")
        object.__setattr__(self, "terms", tuple(_term(f"terms[{i}]", term) for i, term in enumerate(self.terms)))

    @property
    def restricts_support(self) -> bool:
        return self.keep is not None and self.keep.restricts_support

    @property
    def auxiliaries(self) -> tuple[Auxiliary, ...]:
        return tuple(term.auxiliary for term in self.terms if term.weight)

    def __call__(self, step: Step, scores: F32, /) -> F32:
        combined = scores if self.own == 1 and not self.auxiliaries else self._combined(step, scores)
        return combined if self.keep is None else _kept(self.keep(step, scores), combined)

    def _combined(self, step: Step, scores: F32) -> F32:
        """With the constant of the scores, so that adding one to them adds one to the answer."""
        totals = log_normalisers(scores)
        sums = _weighted(self.own, scores - totals)
        for term in self.terms:
            if term.weight:
                sums += _weighted(term.weight, _cooled(step.laws[term.auxiliary], term.temperature))
        answer = np.where(scores > -np.inf, sums + totals, -np.inf)
        with np.errstate(over="ignore"):  # less than float32 can say is impossible
            return answer.astype(np.float32)


def _term(name: str, given: Any) -> Term:
    if not isinstance(given, tuple | list) or len(given) not in (2, 3) or not isinstance(given[0], Auxiliary):
        raise ArgumentError(f"{name} is {given!r}, it must be Term(Auxiliary(...), weight, temperature)")
    term = Term(*given)
    check_finite(f"the weight of {name}", term.weight)
    check_divisor(f"the temperature of {name}", term.temperature)
    return term


def _weighted(weight: float, law: F64) -> F64:
    """weight * law, 0 for a weight of 0; finite for a negative one."""
    if weight == 0:
        return np.zeros(law.shape)
    return weight * (law if weight > 0 else floored(law))


def _cooled(law: F64, temperature: float) -> F64:
    if temperature == 1:
        return law
    logits = law / temperature
    return logits - log_normalisers(logits)


def _kept(filtered: F32, combined: F32) -> F32:
    return np.where(filtered > -np.inf, combined, np.float32(-np.inf))


def guidance(scale: float, prompt: Template) -> LogLinear:
    """Classifier-free guidance (Sanchez et al. 2023): scale * log p - (scale - 1) * log p behind the other prompt.

    1 is no guidance. prompt: what the prompt becomes without the condition, a function or a text with {prompt} in it.
    """
    check_finite("scale", scale)
    _check_prompt(prompt)
    return LogLinear(scale, [Term(Auxiliary(prompt=prompt), 1 - scale)])


def context_aware(alpha: float, prompt: Template) -> LogLinear:
    """Context-aware decoding (Shi et al. 2023): (1 + alpha) log p - alpha log p behind the prompt without context."""
    check_finite("alpha", alpha)
    return guidance(1 + alpha, prompt)


def dexperts(expert: Any, anti: Any, alpha: float, top_p: float | None = 0.9) -> LogLinear:
    """DExperts (Liu et al. 2021): log p + alpha (log p_expert - log p_anti), over the nucleus of p."""
    check_finite("alpha", alpha)
    terms = [Term(_law_of("expert", expert), alpha), Term(_law_of("anti", anti), -alpha)]
    return LogLinear(1.0, terms, None if top_p is None else TopP(top_p))


def proxy(tuned: Any, untuned: Any, alpha: float = 1.0) -> LogLinear:
    """Proxy tuning (Liu et al. 2024): what tuning did to a small model, done to this one."""
    return dexperts(_law_of("tuned", tuned), _law_of("untuned", untuned), alpha, top_p=None)


def contrastive(amateur: Any, weight: float = 1.0, plausible: float = 0.1, temperature: float = 0.5) -> LogLinear:
    """Contrastive decoding (Li et al. 2023): log p - weight * log p_amateur, over the tokens with at least the share
    `plausible` of the likeliest one's probability. temperature: of the amateur.
    """
    check_within("plausible", plausible, 0, 1)
    check_finite("weight", weight)
    return LogLinear(1.0, [Term(_law_of("amateur", amateur), -weight, temperature)], MinP(plausible))


def _law_of(name: str, given: Any) -> Auxiliary:
    """A model, or an Auxiliary as it is. Without one the hook would set the model against itself."""
    if isinstance(given, Auxiliary):
        return given
    return Auxiliary(unwrapped(given, name))


def _check_prompt(prompt: Template) -> None:
    if prompt is None:
        raise ArgumentError("the other prompt is None, which is the prompt itself\nhint: a function of the prompt")


@dataclass(frozen=True)
class Forget(Hook):
    """Away from a model that was trained further on what is to be forgotten (Eldan & Russinovich 2023).

    log p - alpha * max(0, log p_reinforced - log p): tokens that the reinforced model likes better become less likely,
    no logit is raised. Both laws are normalised first; the paper's formula is one of raw logits, and depends on a
    constant between the two models.
    """

    reinforced: Any
    alpha: float
    slot = Slot.COMBINATION

    def __post_init__(self) -> None:
        check_within("alpha", self.alpha, 0, np.inf)
        check_finite("alpha", self.alpha)
        object.__setattr__(self, "reinforced", _law_of("reinforced", self.reinforced))

    @property
    def auxiliaries(self) -> tuple[Auxiliary, ...]:
        return (self.reinforced,) if self.alpha else ()

    def __call__(self, step: Step, scores: F32, /) -> F32:
        if not self.alpha:
            return scores
        possible = scores > -np.inf
        law = np.where(possible, log_softmax(scores), 0.0)
        excess = np.maximum(step.laws[self.reinforced] - law, 0.0)
        return np.where(possible, scores - self.alpha * excess, -np.inf).astype(np.float32)
