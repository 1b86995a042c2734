"""What was generated, looked at again: how sure a model was, and how far hooks moved its law. Nothing is changed.

    seen = observe(lm, prompt, [g.tokens for g in generations])           # one Seen for each text
    branching_factor(seen), shift(lm, lm.steered(hooks), prompt, tokens)

A prompt is text or messages, which each model encodes itself, or token ids. Models read the texts token by token, all
texts together: what generating them has cost.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from genctl.errors import ArgumentError
from genctl.kernels.records import F64, I64
from genctl.models.base import LanguageModel, Prompt, host_logits, refuse_weighted, unwrapped
from genctl.models.ensemble import check_vocabularies
from genctl.models.logprobs import log_softmax
from genctl.models.sets import MARKS, SetPrompt
from genctl.steering.checks import check_flag, check_share, ids_of
from genctl.vocabulary import Vocabulary

Texts = Sequence[Sequence[int]]
SHORT = 50  # tokens up to which a branching factor is that of entropies


def laws_along(model: Any, prompt: Prompt | Sequence[int], texts: Texts) -> Iterator[tuple[I64, F64]]:
    """For each place the texts that have a token there, and the (N, V) log-probabilities (nats) of that token.

    Raises ArgumentError for a model whose texts are weighted (it has no law of the next token), and for texts that are
    no lists of its token ids.
    """
    model = unwrapped(model)
    refuse_weighted(model, "a look at its tokens", "look at the model that was steered")
    texts = _texts(texts, len(model.vocabulary))
    ids = _ids(model, prompt)
    here = np.array([i for i, text in enumerate(texts) if len(text)], np.int64)
    logits, state = model.prefill([ids])
    state, place = model.select(state, np.zeros(len(here), np.int64)), 0
    laws = log_softmax(host_logits(logits))[np.zeros(len(here), np.int64)]
    while len(here):
        yield here, laws
        going = np.array([row for row, i in enumerate(here.tolist()) if len(texts[i]) > place + 1], np.int64)
        tokens = np.array([texts[i][place] for i in here[going].tolist()], np.int64)
        here, place = here[going], place + 1
        if len(here):
            logits, state = model.extend(model.select(state, going), tokens)
            laws = log_softmax(host_logits(logits))


def _ids(model: LanguageModel[Any], prompt: Any) -> Sequence[int]:
    if isinstance(prompt, str | bytes | SetPrompt):
        return model.encode(prompt)
    if isinstance(prompt, Sequence) and prompt and all(isinstance(one, Mapping) for one in prompt):
        return model.encode(prompt)
    ids = ids_of("prompt", prompt) if _is_list(prompt) else None
    if ids is None or any(i < 0 and i not in MARKS for i in ids):
        raise ArgumentError(f"prompt is {prompt!r:.60}, expected text, messages or a list of token ids")
    return ids


def _is_list(given: Any) -> bool:
    return isinstance(given, Sequence) or getattr(given, "ndim", 0) == 1


def _texts(texts: Any, size: int) -> Texts:
    if isinstance(texts, str | bytes) or not isinstance(texts, Sequence):
        raise ArgumentError(f"texts is {texts!r:.60}, expected a list of lists of token ids")
    read = [ids_of(f"texts[{i}]", text) if _is_list(text) else None for i, text in enumerate(texts)]
    for i, ids in enumerate(read):
        if ids is None or not all(0 <= token < size for token in ids):
            raise ArgumentError(f"texts[{i}] is {texts[i]!r:.60}, expected a list of token ids below {size}")
    return [ids for ids in read if ids is not None]


class Seen(NamedTuple):
    """A text of T tokens as a model sees it, nats."""

    logprobs: F64  # (T,) of its tokens
    entropies: F64  # (T,) of the laws they were drawn from


def observe(model: Any, prompt: Prompt | Sequence[int], texts: Texts, top_p: float = 1.0) -> list[Seen]:
    """Each text as the model sees it. top_p: laws are cut to their nucleus and the token that came, and normalised."""
    check_share("top_p", top_p)
    texts = _texts(texts, len(unwrapped(model).vocabulary))
    logprobs: list[list[float]] = [[] for _ in texts]
    entropies: list[list[float]] = [[] for _ in texts]
    for place, (here, laws) in enumerate(laws_along(model, prompt, texts)):
        for i, law in zip(here.tolist(), laws, strict=True):
            token = texts[i][place]
            cut = _cut(law, token, top_p)
            logprobs[i].append(float(cut[token]))
            entropies[i].append(_entropy(cut))
    return [Seen(np.array(p), np.array(h)) for p, h in zip(logprobs, entropies, strict=True)]


def _cut(law: F64, token: int, top_p: float) -> F64:
    """(V,) log-probabilities of the nucleus and the token, nats."""
    if top_p == 1:
        return law
    order = np.argsort(-law, kind="stable")
    count = 1 + int(np.searchsorted(np.cumsum(np.exp(law[order])), top_p))
    kept = np.full(len(law), -np.inf)
    kept[order[:count]], kept[token] = law[order[:count]], law[token]
    return np.asarray(kept - np.logaddexp.reduce(kept))


def _entropy(law: F64) -> float:
    finite = law[law > -np.inf]
    return max(float(-(np.exp(finite) * finite).sum()), 0.0)


def branching_factor(seen: Sequence[Seen]) -> float:
    """How many tokens there are to choose from, on average over texts (Yang et al. 2025); nan without any token.

    exp of the mean entropy of a text of up to 50 tokens, exp of minus the mean log-probability of a longer one, where
    the two agree (`SHORT`). The paper observes texts at temperature 1 with top_p=0.9.
    """
    if isinstance(seen, str) or not isinstance(seen, Sequence) or not all(isinstance(one, Seen) for one in seen):
        raise ArgumentError(f"seen is {seen!r:.60}, expected what observe gives")
    factors = [
        math.exp(one.entropies.mean() if len(one.entropies) <= SHORT else -one.logprobs.mean())
        for one in seen
        if len(one.entropies)
    ]
    return math.fsum(factors) / len(factors) if factors else math.nan


@dataclass(frozen=True)
class Shift:
    """How hooks moved the law along one text of T tokens, nats."""

    ranks: I64  # (T,) of the steered law's likeliest token under the raw law, 1 being the likeliest
    kl: F64  # (T,) of the steered law from the raw one
    tv: F64  # (T,) total variation between them

    def table(self) -> dict[str, float]:
        """The shares of places that are unshifted (rank 1), marginal (2 and 3) and shifted (Lin et al. 2023)."""
        count = max(len(self.ranks), 1)
        unshifted, marginal = (self.ranks == 1).sum(), ((self.ranks > 1) & (self.ranks <= 3)).sum()
        shares = {"unshifted": unshifted, "marginal": marginal, "shifted": len(self.ranks) - unshifted - marginal}
        return {name: float(share / count) for name, share in shares.items()}


def shift(raw: Any, steered: Any, prompt: Prompt | Sequence[int], tokens: Sequence[int]) -> Shift:
    """raw, steered: models with the same symbols, loaded ones or what models/base.py says.

    Raises VocabularyError for other symbols, ArgumentError as `observe`.
    """
    raw, steered = unwrapped(raw, "raw"), unwrapped(steered, "steered")
    check_vocabularies([("raw", raw.vocabulary), ("steered", steered.vocabulary)])
    ranks, kl, tv = [], [], []
    pairs = zip(laws_along(raw, prompt, [tokens]), laws_along(steered, prompt, [tokens]), strict=True)
    for (_, before), (_, after) in pairs:
        ranks.append(1 + int((before[0] > before[0, after[0].argmax()]).sum()))
        kl.append(divergence(after[0], before[0]))
        tv.append(float(np.abs(np.exp(after[0]) - np.exp(before[0])).sum() / 2))
    return Shift(np.array(ranks, np.int64), np.array(kl), np.array(tv))


def divergence(first: F64, second: F64) -> float:
    """KL(first, second) of two (V,) log-probabilities, nats; inf where the second cannot write what the first can."""
    possible = first > -np.inf
    return max(float((np.exp(first[possible]) * (first[possible] - second[possible])).sum()), 0.0)


# -- the best of several texts


class Selector(Protocol):
    """(N,) scores of N texts behind a prompt; the highest is the best."""

    def __call__(self, model: LanguageModel[Any], prompt: Sequence[int], texts: Texts, /) -> Sequence[float]: ...


@dataclass(frozen=True)
class Confidence:
    """The mean probability of the tokens of the answer, under the model itself: no hooks, no rule (CRew).

    answer: a regular expression whose last match in the text is the answer, its first group if it has one; None is the
    whole text. A text without an answer scores 0.
    """

    answer: str | None = None

    def __post_init__(self) -> None:
        if self.answer is None:
            return
        if not isinstance(self.answer, str) or not self.answer:
            raise ArgumentError(f"answer is {self.answer!r}, it must be a regular expression, not empty, or None")
        try:
            re.compile(self.answer)
        except re.error as error:
            raise ArgumentError(f"answer is {self.answer!r}, which is no regular expression: {error}") from error

    def __call__(self, model: LanguageModel[Any], prompt: Sequence[int], texts: Texts, /) -> list[float]:
        spans = [self._places(text, model.vocabulary) for text in texts]
        seen = observe(model, prompt, texts)
        return [
            float(np.exp(one.logprobs[places]).mean()) if len(places) else 0.0
            for one, places in zip(seen, spans, strict=True)
        ]

    def _places(self, text: Sequence[int], vocabulary: Vocabulary) -> I64:
        """The places of the tokens that have a byte of the answer."""
        ends = np.cumsum([0, *(len(vocabulary.tokens[token]) for token in text)])
        if self.answer is None:
            return np.arange(len(text))
        characters = vocabulary.join(text).decode(errors="surrogateescape")
        found = list(re.finditer(self.answer, characters))
        if not found:
            return np.zeros(0, np.int64)
        span = found[-1].span(1 if found[-1].re.groups else 0)
        if span[0] == span[1]:  # empty, or a group that is not in the match
            return np.zeros(0, np.int64)
        begin, end = (len(characters[:place].encode(errors="surrogateescape")) for place in span)
        return np.flatnonzero((ends[:-1] < end) & (ends[1:] > begin))


@dataclass(frozen=True)
class Divergence:
    """The sum over tokens of KL(Q, P): P the model behind the prompt, Q without it (MG-Select).

    Texts win whose every token the prompt says most about. uniform: Q is the uniform law instead.
    """

    uniform: bool = False

    def __post_init__(self) -> None:
        check_flag("uniform", self.uniform)

    def __call__(self, model: LanguageModel[Any], prompt: Sequence[int], texts: Texts, /) -> list[float]:
        scores = [0.0] * len(texts)
        reference = None if self.uniform else laws_along(model, _nothing(model), texts)
        for here, laws in laws_along(model, prompt, texts):
            others = self._uniform(laws) if reference is None else next(reference)[1]
            for i, law, other in zip(here.tolist(), laws, others, strict=True):
                scores[i] += divergence(other, law)
        return scores

    @staticmethod
    def _uniform(laws: F64) -> F64:
        """Over what the model can write."""
        possible = laws > -np.inf
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(possible / possible.sum(axis=1, keepdims=True)))


def _nothing(model: LanguageModel[Any]) -> list[int]:
    """The ids of no prompt."""
    return model.encode("")


SELECTORS: dict[str, Selector] = {"confidence": Confidence(), "kl": Divergence()}
