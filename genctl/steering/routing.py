"""Two models of the same symbols, of which one answers at each token: a small one, and a large one where it matters.

    lm = genctl.load(Routed(small, large, ByEntropy(threshold=0.45)))

Which one answers is a function of the prompt and the text, so the law is a language model's like any other: a mixture
of experts, not the large model's law. The model that does not answer lags behind; when it is asked it reads what it
missed in one go. Both read the prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from genctl.errors import ArgumentError, ModelError
from genctl.kernels.records import F32, I64
from genctl.models.base import LanguageModel, Prompt, Tokens, host_logits, refuse_weighted, unwrapped
from genctl.models.ensemble import check_vocabularies
from genctl.models.logprobs import entropies
from genctl.models.prompts import read_by, takes, woven
from genctl.models.sets import SetPrompt
from genctl.steering.base import Memo
from genctl.steering.checks import check_count, check_number
from genctl.vocabulary import Vocabulary


class Router(Protocol):
    """Is told the logits of the model that is active, and says which one answers: 0 small, 1 large."""

    def begin(self) -> Memo: ...

    def __call__(self, memo: Memo, logits: F32, active: int, /) -> tuple[int, Memo]:
        """logits: (V,), before any rule."""
        ...


@dataclass(frozen=True)
class ByEntropy:
    """The large model while the mean entropy (nats) of the last `window` laws of the active one is above the threshold
    (arXiv 2502.06833). residence: so many tokens at least between two changes.
    """

    threshold: float
    window: int = 1
    residence: int = 0

    def __post_init__(self) -> None:
        check_number("threshold", self.threshold)
        check_count("window", self.window)
        check_count("residence", self.residence, least=0)

    def begin(self) -> Memo:
        """The last entropies, and tokens since the last change (None before the first)."""
        return ((), None)

    def __call__(self, memo: Memo, logits: F32, active: int, /) -> tuple[int, Memo]:
        seen, since = memo
        seen = (*seen, float(entropies(logits[None])[0]))[-self.window :]
        wanted = int(sum(seen) / len(seen) > self.threshold)
        if wanted != active and (since is None or since >= self.residence):
            return wanted, (seen, 1)
        return active, (seen, None if since is None else since + 1)


@dataclass(frozen=True)
class ByFunction:
    """function: (V,) logits of the active model, 0 or 1 for the active one -> which one answers."""

    function: Callable[[F32, int], int]

    def begin(self) -> Memo:
        return None

    def __call__(self, memo: Memo, logits: F32, active: int, /) -> tuple[int, Memo]:
        return self.function(logits, active), None


class Lagging(NamedTuple):
    """The state of a model, and for each row the tokens that it has not read."""

    state: Any
    missed: tuple[tuple[int, ...], ...]


class RoutedState(NamedTuple):
    members: tuple[Lagging, Lagging]
    active: tuple[int, ...]
    memos: tuple[Memo, ...]


class Routed:
    """A `LanguageModel`; logits are float32, on the host.

    Raises VocabularyError if the symbols of the two differ, ArgumentError for what are no models or is no router.
    """

    needs_prompt = "a router goes by what came since the prompt"

    def __init__(
        self, small: LanguageModel[Any], large: LanguageModel[Any], router: Router | Callable[[F32, int], int]
    ) -> None:
        self.members = (unwrapped(small, "small"), unwrapped(large, "large"))
        for model in self.members:
            refuse_weighted(model, "a router", "route between the models that it was made of")
        check_vocabularies(
            [(name, model.vocabulary) for name, model in zip(("small", "large"), self.members, strict=True)]
        )
        if not _routes(router):
            raise ArgumentError(f"the router is {router!r}, expected ByEntropy(...) or a function of (logits, active)")
        self.router: Any = router if hasattr(router, "begin") else ByFunction(router)

    @property
    def vocabulary(self) -> Vocabulary:
        vocabulary: Vocabulary = self.members[0].vocabulary
        return vocabulary

    @property
    def tokenizer(self) -> Any:
        return getattr(self.members[0], "tokenizer", None)

    def encode(self, prompt: Prompt, /) -> list[int]:
        """The prompt as both encode it; woven where they differ (models/prompts.py)."""
        first, second = (model.encode(prompt) for model in self.members)
        if first == second and max(first, default=0) < len(self.vocabulary):
            return list(first)
        if isinstance(prompt, SetPrompt):
            raise ModelError("a SetPrompt is read in one way, but the two models cut it into other tokens")
        return woven([first, second], len(self.vocabulary))

    def prefill(self, prompts: Sequence[Sequence[int]], /) -> tuple[F32, RoutedState]:
        answers = [
            model.prefill([read_by(m, 2, row, len(self.vocabulary)) for row in prompts])
            for m, model in enumerate(self.members)
        ]
        none = ((),) * len(prompts)
        small, large = (Lagging(state, none) for _, state in answers)
        state = RoutedState((small, large), (0,) * len(prompts), (self.router.begin(),) * len(prompts))
        laws = [host_logits(logits) for logits, _ in answers]
        return self._routed(state, lambda m, rows, held: (laws[m][rows], held))

    def extend(self, state: RoutedState, tokens: Tokens, /) -> tuple[F32, RoutedState]:
        """Rows of several tokens go token by token: the router is asked at each."""
        rows = [[int(token) for token in np.atleast_1d(row)] for row in tokens]
        logits = np.empty((len(rows), len(self.vocabulary)), np.float32)
        for place in range(max(map(len, rows), default=0)):
            going = np.array([i for i, row in enumerate(rows) if len(row) > place], np.int64)
            part = self._missing(self.select(state, going), [rows[i][place] for i in going.tolist()])
            logits[going], part = self._routed(part, self._asked)
            state = self._replaced(state, going, part)
        return logits, state

    def select(self, state: RoutedState, rows: I64, /) -> RoutedState:
        places = np.asarray(rows, np.int64)
        small, large = (
            Lagging(model.select(held.state, places), tuple(held.missed[i] for i in places.tolist()))
            for model, held in zip(self.members, state.members, strict=True)
        )
        return RoutedState(
            (small, large),
            tuple(state.active[i] for i in places.tolist()),
            tuple(state.memos[i] for i in places.tolist()),
        )

    def join(self, states: Sequence[RoutedState], /) -> RoutedState:
        small, large = (
            Lagging(
                model.join([state.members[m].state for state in states]),
                tuple(missed for state in states for missed in state.members[m].missed),
            )
            for m, model in enumerate(self.members)
        )
        return RoutedState(
            (small, large),
            tuple(active for state in states for active in state.active),
            tuple(memo for state in states for memo in state.memos),
        )

    # -- one token

    def _missing(self, state: RoutedState, tokens: Sequence[int]) -> RoutedState:
        """One token more that neither model has read."""
        small, large = (
            held._replace(missed=tuple((*old, new) for old, new in zip(held.missed, tokens, strict=True)))
            for held in state.members
        )
        return state._replace(members=(small, large))

    def _routed(
        self, state: RoutedState, ask: Callable[[int, I64, Lagging], tuple[F32, Lagging]]
    ) -> tuple[F32, RoutedState]:
        """ask: which model, which rows, its state -> (rows, V) logits and its state behind them."""
        count, members = len(state.active), list(state.members)
        logits = np.empty((count, len(self.vocabulary)), np.float32)
        active = np.array(state.active, np.int64)
        for m in (0, 1):
            mine = np.flatnonzero(active == m)
            logits[mine], members[m] = ask(m, mine, members[m])
        routes = [self.router(memo, row, a) for memo, row, a in zip(state.memos, logits, state.active, strict=True)]
        chosen = np.array([_which(route) for route in routes], np.int64)
        for m in (0, 1):
            mine = np.flatnonzero((chosen == m) & (active != m))
            logits[mine], members[m] = ask(m, mine, members[m])
        small, large = members
        return logits, RoutedState((small, large), tuple(chosen.tolist()), tuple(route[1] for route in routes))

    def _asked(self, m: int, rows: I64, held: Lagging) -> tuple[F32, Lagging]:
        """Let a model read what some rows have missed."""
        if not len(rows):
            return np.empty((0, len(self.vocabulary)), np.float32), held
        model, texts = self.members[m], [held.missed[i] for i in rows.tolist()]
        logits, longer = model.extend(model.select(held.state, rows), [list(text) for text in texts])
        others = np.setdiff1d(np.arange(len(held.missed)), rows)
        missed = tuple(() if i in set(rows.tolist()) else text for i, text in enumerate(held.missed))
        whole = model.join([model.select(held.state, others), longer])
        order = np.argsort(np.concatenate([others, rows]))
        return host_logits(logits), Lagging(model.select(whole, order), missed)

    def _replaced(self, state: RoutedState, rows: I64, part: RoutedState) -> RoutedState:
        """The state with these rows of another one."""
        others = np.setdiff1d(np.arange(len(state.active)), rows)
        if not len(others):
            return part
        whole = self.join([self.select(state, others), part])
        return self.select(whole, np.argsort(np.concatenate([others, rows])))


def _routes(router: Any) -> bool:
    if isinstance(router, type) or not callable(router):
        return False
    return takes(router.begin, 0) and takes(router, 3) if hasattr(router, "begin") else takes(router, 2)


def _which(route: Any) -> int:
    """The model that a router chose."""
    if not isinstance(route, tuple) or len(route) != 2:
        raise ArgumentError(f"the router answered {route!r}, expected 0 or 1 and a memo")
    chosen = route[0]
    if not isinstance(chosen, int | np.integer | np.bool_) or chosen not in (0, 1):
        raise ArgumentError(f"the router chose {chosen!r}, it must be 0 or 1")
    return int(chosen)
