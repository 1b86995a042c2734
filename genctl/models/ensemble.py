"""Several language models as one: their laws of the next symbol are combined, each with a state of its own.

    both = Ensemble([base, expert], weights=[0.7, 0.3])                             # a mixture
    proxy = Ensemble([base, expert, novice], weights=[1, 1, -1], op="product")      # base + expert - novice
    logits, state = both.prefill([both.encode("Once upon")])                        # (1, V)

All members have the same vocabulary; byte views of any models have. `OPERATIONS` are the ways to combine n models,
docs/ensembles.md says how they differ. A call costs one call of each member.

Laws (tests/test_ensemble.py): those of a LanguageModel; a mixture of one model with itself is the model, and so is the
product with a uniform model; a Bayes mixture gives each text x the probability sum_i w_i P_i(x).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from genctl.errors import ArgumentError, ModelError, VocabularyError
from genctl.kernels.records import F32, F64, I64
from genctl.models.base import Laws, Logits, Prompt, Tokens, host_logits, refuse_weighted, unwrapped
from genctl.models.logprobs import floored, log_sum, normalise
from genctl.models.prompts import Template, given, read_by, templates, woven
from genctl.models.sets import SetPrompt, no_sets
from genctl.vocabulary import Vocabulary

Combine: TypeAlias = Callable[[F64], Any]  # (n, N, V) log-probabilities -> (N, V) scores, nats


class Beliefs(NamedTuple):
    """What a Bayes mixture knows of N texts."""

    log_weights: F64  # (n, N) log(w_i P_i(text)), nats
    laws: F64  # (n, N, V) the members' log-probabilities of the next symbol


class EnsembleState(NamedTuple):
    members: tuple[Any, ...]  # the state of each
    beliefs: Beliefs | None


class Operation(NamedTuple):
    """combine: (n, N, V) log-probabilities, (n, 1) or (n, N) weights -> (N, V) scores, nats, not normalised."""

    combine: Callable[[F64, F64], F64]
    weights: Callable[[Sequence[float] | None, int], F64]  # those given, or None, for n members -> (n, 1)
    learns: bool = False  # weights follow the text
    whole_texts: bool = False  # the law of texts is normalised, not that of symbols


class Ensemble:
    """n language models with the same vocabulary as one `LanguageModel`; logits are float32, on the host.

    models: LanguageModels, or what `genctl.load` gives.
    weights: of a mixture, numbers of at least 0 that add up to 1, by default 1 / n each. Of a product, any numbers, the
        exponents, by default 1 / n each (the geometric mean). What a member with a positive exponent finds impossible
        is impossible. To one with a negative exponent an impossible symbol counts as the least likely of those that it
        finds possible; if it finds none, and if its exponent is 0, it has no say.
    op: "mixture", "bayes", "product", "global_product", "min", "max", or a function of the members' (n, N, V)
        log-probabilities (float64, nats) that returns (N, V) scores (nats, up to a constant per row).
    prompts: for each member what becomes of a prompt before the member encodes it: a function, a text with {prompt} in
        it, or None.

    Unused ids are never possible. A row in which nothing is possible is a dead end. A member of a mixture that finds a
    whole text impossible leaves what follows to the others.

    Raises VocabularyError if the members' symbols differ, ArgumentError for other arguments that do not fit.
    """

    def __init__(
        self,
        models: Sequence[Any],
        weights: Sequence[float] | None = None,
        op: str | Combine = "mixture",
        prompts: Sequence[Template] | None = None,
    ) -> None:
        if not isinstance(models, Sequence):
            raise ArgumentError(f"models is {type(models).__name__}, expected a list of models")
        self.members = tuple(unwrapped(model, f"models[{m}]") for m, model in enumerate(models))
        if not self.members:
            raise ArgumentError("an ensemble needs at least one model")
        for model in self.members:
            refuse_weighted(model, "an ensemble", "combine models as they are, and steer or weight the ensemble")
        check_vocabularies([(f"models[{m}]", model.vocabulary) for m, model in enumerate(self.members)])
        self._templates = templates(prompts, len(self.members))
        self._operation = _operation(op)
        self._weights = self._operation.weights(weights, len(self.members))
        self._vocabulary = self.members[0].vocabulary
        self._unused = sorted(self._vocabulary.unused)

    @property
    def vocabulary(self) -> Vocabulary:
        return self._vocabulary

    @property
    def weighted(self) -> bool:
        """A global product answers Laws: its texts are weighted with what local normalisation would divide by."""
        return self._operation.whole_texts

    @property
    def needs_prompt(self) -> str | None:
        """Why a member has to know where prompts end, if one has."""
        return next((reason for model in self.members if (reason := getattr(model, "needs_prompt", None))), None)

    def encode(self, prompt: Prompt, /) -> list[int]:
        """The prompt as each member encodes it, begin-of-text and chat template included.

        An id below V is a symbol for all members; V + n t + m is token t for members[m] alone. Where members encode
        alike these are the ids themselves, but not in a Bayes mixture: there symbols are text, which moves the weights.
        """
        if isinstance(prompt, SetPrompt):
            raise no_sets(self)
        size = len(self._vocabulary)
        spelled = [
            model.encode(template(prompt)) for model, template in zip(self.members, self._templates, strict=True)
        ]
        alike = all(ids == spelled[0] for ids in spelled) and max(spelled[0], default=0) < size
        if alike and not self._operation.learns:
            return spelled[0]
        return woven(spelled, size)

    def prefill(self, prompts: Sequence[Sequence[int]], /) -> tuple[F32 | Laws, EnsembleState]:
        """N prompts of ids as `encode` gives them, symbols of the text behind them -> (N, V) logits, and the state."""
        laws, members = self._prefilled(prompts)
        if not self._operation.learns:
            return self._answer(laws, members, None)
        log_weights = np.repeat(self._weights, len(prompts), axis=1)
        counts = [given(row, len(self._vocabulary)) for row in prompts]
        texts = [row[count:] for row, count in zip(prompts, counts, strict=True)]
        if any(texts):
            first = self._prefilled([row[:count] for row, count in zip(prompts, counts, strict=True)])
            log_weights = self._judged(log_weights, *first, texts)
        return self._answer(laws, members, log_weights)

    def extend(self, state: EnsembleState, tokens: Tokens, /) -> tuple[F32 | Laws, EnsembleState]:
        """Symbols for all members. A Bayes mixture reads rows of several symbols one by one."""
        rows = [[int(token) for token in np.atleast_1d(row)] for row in tokens]
        self._check_symbols(rows)
        log_weights = None
        if state.beliefs is not None:
            log_weights = self._judged(state.beliefs.log_weights, state.beliefs.laws, state.members, rows)
        laws, members = self._extended(state.members, tokens)
        return self._answer(laws, members, log_weights)

    def select(self, state: EnsembleState, rows: I64, /) -> EnsembleState:
        beliefs = state.beliefs
        if beliefs is not None:
            beliefs = Beliefs(beliefs.log_weights[:, rows], beliefs.laws[:, rows])
        return EnsembleState(self._selected(state.members, rows), beliefs)

    def join(self, states: Sequence[EnsembleState], /) -> EnsembleState:
        parts = zip(self.members, zip(*(state.members for state in states), strict=True), strict=True)
        members = tuple(model.join(several) for model, several in parts)
        beliefs = [state.beliefs for state in states if state.beliefs is not None]
        if not beliefs:
            return EnsembleState(members, None)
        log_weights, laws = (np.concatenate(columns, axis=1) for columns in zip(*beliefs, strict=True))
        return EnsembleState(members, Beliefs(log_weights, laws))

    # -- the members

    def _prefilled(self, rows: Sequence[Sequence[int]]) -> tuple[F64, tuple[Any, ...]]:
        size, n = len(self._vocabulary), len(self.members)
        return self._laws(
            model.prefill([read_by(m, n, row, size) for row in rows]) for m, model in enumerate(self.members)
        )

    def _extended(self, states: Sequence[Any], tokens: Tokens) -> tuple[F64, tuple[Any, ...]]:
        return self._laws(model.extend(state, tokens) for model, state in zip(self.members, states, strict=True))

    def _selected(self, states: Sequence[Any], rows: I64) -> tuple[Any, ...]:
        return tuple(model.select(state, rows) for model, state in zip(self.members, states, strict=True))

    def _laws(self, answers: Iterable[tuple[Logits, Any]]) -> tuple[F64, tuple[Any, ...]]:
        """(n, N, V) log-probabilities, and the members' states."""
        laws, states = [], []
        for m, (logits, state) in enumerate(answers):
            laws.append(_log_probabilities(host_logits(logits), m))
            states.append(state)
        return np.stack(laws), tuple(states)

    def _check_symbols(self, rows: Sequence[Sequence[int]]) -> None:
        for row in rows:
            for token in row:
                if not 0 <= token < len(self._vocabulary):
                    raise ArgumentError(
                        f"id {token} is no symbol of the ensemble, which has {len(self._vocabulary)}"
                        "\nhint: prompts, as `encode` gives them, go to `prefill`"
                    )

    # -- the ensemble

    def _answer(self, laws: F64, members: tuple[Any, ...], log_weights: F64 | None) -> tuple[F32 | Laws, EnsembleState]:
        scores = self._operation.combine(laws, self._weights if log_weights is None else log_weights)
        scores[:, self._unused] = -np.inf
        if not self._operation.whole_texts:
            normalise(scores)
        with np.errstate(over="ignore"):  # less than float32 can say is impossible
            logits = scores.astype(np.float32)
        beliefs = None if log_weights is None else Beliefs(log_weights, laws)
        # Of a global product the scores of symbols multiply to those of whole texts.
        return Laws(logits, logits, logits) if self.weighted else logits, EnsembleState(members, beliefs)

    def _judged(self, log_weights: F64, laws: F64, members: tuple[Any, ...], texts: Sequence[Sequence[int]]) -> F64:
        """(n, N) log-weights before the texts, and the members there -> those behind the texts, by the chain rule."""
        log_weights = log_weights.copy()
        here = np.arange(len(texts))  # the rows that laws and members are of
        longest = max(map(len, texts), default=0)
        for step in range(longest):
            left = np.array([i for i, row in enumerate(here.tolist()) if len(texts[row]) > step], np.int64)
            here = here[left]
            symbols = np.array([texts[row][step] for row in here.tolist()], np.int64)
            log_weights[:, here] += laws[:, left, symbols]
            if step + 1 < longest:
                laws, members = self._extended(self._selected(members, left), symbols)
        return log_weights


# -- operations


def _mixture(laws: F64, log_weights: F64) -> F64:
    """log sum_i w_i P_i."""
    return log_sum(laws + log_weights[:, :, None], axis=0)


def _product(laws: F64, exponents: F64) -> F64:
    """sum_i a_i log P_i, impossible wherever a member with a_i > 0 says so."""
    scores = np.zeros(laws.shape[1:])
    for law, exponent in zip(laws, exponents[:, 0], strict=True):
        if exponent > 0:
            scores += exponent * law
        elif exponent < 0:
            scores += exponent * floored(law)
    return scores


def _min(laws: F64, _weights: F64) -> F64:
    return np.asarray(laws.min(axis=0))


def _max(laws: F64, _weights: F64) -> F64:
    return np.asarray(laws.max(axis=0))


def _log_shares(given: Sequence[float] | None, n: int) -> F64:
    if given is None:
        return np.full((n, 1), -math.log(n))
    shares = _numbers(given, n)
    if (shares < 0).any():
        raise ArgumentError(
            f"weights[{int(np.argmin(shares))}] is {shares.min():g}, but the weights of a mixture are at least 0"
            '\nhint: negative weights are exponents, of op="product"'
        )
    if abs(shares.sum() - 1) > 1e-6:
        rescaled = "" if shares.sum() == 0 else f": weights={[round(w, 6) for w in (shares / shares.sum()).tolist()]}"
        raise ArgumentError(
            f"the weights of a mixture add up to {shares.sum():g}, they must add up to 1"
            f"\nhint: divide them by their sum{rescaled}"
        )
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(shares / shares.sum())[:, None])


def _exponents(given: Sequence[float] | None, n: int) -> F64:
    return np.full((n, 1), 1 / n) if given is None else _numbers(given, n)[:, None]


def _no_weights(given: Sequence[float] | None, n: int) -> F64:
    if given is not None:
        weighted = [name for name, operation in OPERATIONS.items() if operation.weights is not _no_weights]
        raise ArgumentError(f"min, max and functions take no weights\nhint: {', '.join(weighted)} do")
    return np.zeros((n, 1))


def _numbers(given: Sequence[float], n: int) -> F64:
    """(n,) finite numbers."""
    weights = list(given)
    if len(weights) != n:
        raise ArgumentError(f"{len(weights)} weights for {n} models\nhint: give one weight for each model")
    for i, weight in enumerate(weights):
        number = isinstance(weight, int | float | np.number) and not isinstance(weight, bool)
        if not number or not math.isfinite(weight):
            raise ArgumentError(f"weights[{i}] is {weight!r}, it must be a finite number")
    return np.array(weights, np.float64)


OPERATIONS: Mapping[str, Operation] = {
    "mixture": Operation(_mixture, _log_shares),
    "bayes": Operation(_mixture, _log_shares, learns=True),
    "product": Operation(_product, _exponents),
    "global_product": Operation(_product, _exponents, whole_texts=True),
    "min": Operation(_min, _no_weights),
    "max": Operation(_max, _no_weights),
}


def _operation(op: str | Combine) -> Operation:
    if callable(op):
        return Operation(_checked(op), _no_weights)
    if not isinstance(op, str) or op not in OPERATIONS:
        near = difflib.get_close_matches(str(op), OPERATIONS, 1)
        raise ArgumentError(
            f"op is {op!r}, it must be one of {', '.join(OPERATIONS)}, or a function of (n, N, V) log-probabilities"
            + (f"\nhint: did you mean {near[0]!r}?" if near else "")
        )
    return OPERATIONS[op]


def _checked(function: Combine) -> Callable[[F64, F64], F64]:
    name = getattr(function, "__name__", repr(function))

    def combine(laws: F64, _weights: F64) -> F64:
        with np.errstate(invalid="ignore"):  # NaN is looked for below
            scores = np.array(function(laws), np.float64)
        if scores.shape != laws.shape[1:]:
            raise ArgumentError(
                f"{name} returned scores of shape {scores.shape} for log-probabilities of shape {laws.shape}, "
                f"expected {laws.shape[1:]}\nhint: combine the models, which are the first axis"
            )
        if np.isnan(scores).any() or (scores == np.inf).any():
            raise ArgumentError(
                f"{name} returned NaN or +inf"
                "\nhint: scores are log-weights; -inf, which says impossible, may not be subtracted from -inf"
            )
        return scores

    return combine


# -- log-probabilities


def _log_probabilities(logits: F32, m: int) -> F64:
    """(N, V) logits -> normalised ones; a row of -inf stays one. m: which member's they are."""
    law = logits.astype(np.float64)
    if np.isnan(law).any() or (law == np.inf).any():
        raise ModelError(f"the logits of models[{m}] contain NaN or +inf; load it in float32 or bfloat16")
    normalise(law)
    return law


# -- the members' symbols


def check_vocabularies(named: Sequence[tuple[str, Vocabulary]]) -> None:
    """Of models and what they are called. Raises VocabularyError if their symbols are not those of the first one."""
    for name, other in named:
        difference = _difference(named[0][1], other)
        if difference is not None:
            raise VocabularyError(
                f"{named[0][0]} and {name} have different symbols: {difference}"
                "\nhint: `lm.bytes()` gives all models the same 257 symbols, the bytes and end-of-text"
            )


def _difference(first: Vocabulary, other: Vocabulary) -> str | None:
    """The first difference of two vocabularies."""
    if first is other:
        return None
    if len(first) != len(other):
        return f"{len(first)} ids against {len(other)}"
    for i, (mine, theirs) in enumerate(zip(first.tokens, other.tokens, strict=True)):
        if mine != theirs:
            return f"id {i} is {mine!r} against {theirs!r}"
    if first.eos != other.eos:
        return f"the ids that end a text are {sorted(first.eos)} against {sorted(other.eos)}"
    if first.unused != other.unused:
        return f"id {min(first.unused ^ other.unused)} is unused in only one of them"
    return None
