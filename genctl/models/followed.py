"""Middles by a model that was not trained to fill in: texts that end where what stands behind the hole would follow.

    model = Followed(ByteModel(lm), b" on the mat.")
    laws, state = model.prefill([model.encode("the cat s")])      # (1, 257), the end being that of the middle

With P(x) the probability that the bytes behind the prompt begin with x, and s the text that follows (its first
`HORIZON` bytes), a middle m has the weight

    gamma(m) = P(m s)

so m is sampled as likely as the model goes on from the prompt with m and then with s. All gamma add up to the expected
number of places where s follows. That may be tiny, and no law of the next byte alone knows how much of it lies ahead.
So symbols get scores that are not normalised (`Laws`, as those of a global product), whose products are gamma. Behind
x let q(x) = P(x s) / P(x), and worth(x) a guess of what all ends are worth that lie ahead, earlier(x) the guess before:

    score of the end = q(x) / earlier(x)        score of a byte b = P(b | x) worth(x) / earlier(x)

where earlier is 1 at the beginning of the hole. In the product over m and its end the guesses cancel: what is left is
P(m) q(m) = gamma(m). They only make what ends here comparable to what goes on. worth(x) is the largest q of x and its
prefixes, so that a place that is better than all before ends a text half of the time. While that is less than usual,
the probability of s without its first byte where the hole begins, better places are hoped for: worth(x) is then the
geometric mean of the two, but at most exp(`HOPE`) times the best.

q(x) takes a step of the model for each byte of s. With eps > 0 the look ahead is cut short, and the end left out, where
its share of the scores is below eps for certain; eps = 0 is exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from genctl.errors import ArgumentError
from genctl.kernels.records import F32, F64, I64
from genctl.models.base import LanguageModel, Laws, Logits, Prompt, Tokens, View, host_logits
from genctl.models.bytes import STOP, VOCABULARY
from genctl.models.logprobs import log_sum, normalise

HORIZON = 64  # bytes of the text that follows
HOPE = 4.0  # nats by which better places than the best so far are hoped for, at most
HOLE = -1  # behind the prompt, in front of the middle


class FollowedState(NamedTuple):
    """N texts. best: (N,) the largest log q of each text and its prefixes, usual: (N,) of its hole, nats."""

    view: Any
    best: F64
    usual: F64
    length: I64  # (N,) bytes of each middle

    @property
    def worth(self) -> F64:
        return self.best + np.clip((self.usual - self.best) / 2, 0, HOPE)


class Followed(View[Any]):
    """A model of bytes as a `LanguageModel` whose texts end where the given bytes follow.

    It is weighted: samplers make up for scores that are not normalised. Where neither a byte nor the end is possible a
    row is -inf.

    or_ended: the view's own end of text ends a middle too: gamma(m) is P(m s) + P(m, end). Otherwise it is impossible.
    longest: bytes of a middle at most. The look ahead is never cut short there, since nothing but the end can come.

    Raises ArgumentError if nothing follows, or for an eps outside [0, 1).
    """

    vocabulary = VOCABULARY
    tokenizer = None
    weighted = True

    def __init__(
        self,
        view: LanguageModel[Any],
        follows: bytes,
        *,
        eps: float = 0.0,
        or_ended: bool = False,
        longest: int | None = None,
    ) -> None:
        if not follows:
            raise ArgumentError("no bytes follow the hole: a text that ends there is what generate makes")
        if not 0 <= eps < 1:
            raise ArgumentError(f"eps is {eps}, expected a total variation of at least 0 and below 1")
        super().__init__(view)
        self.eps, self.or_ended, self.longest = eps, or_ended, longest
        self._follows = follows[:HORIZON]
        self._least = -len(self._follows) * math.log(256)  # of best, so that it is finite: q in random bytes

    def encode(self, prompt: Prompt, /) -> list[int]:
        return [*self.model.encode(prompt), HOLE]

    def prefill(self, prompts: Sequence[Sequence[int]], /) -> tuple[Laws, FollowedState]:
        """N prompts as `encode` gives them, bytes of the middle behind them -> (N, 257) laws, and the state."""
        cuts = [_place_of_hole(prompt) for prompt in prompts]
        law, view = self._asked(self.model.prefill([row[:cut] for row, cut in zip(prompts, cuts, strict=True)]))
        ahead = self._ahead(law, view, np.full(len(law), -np.inf))
        least, none = np.full(len(law), self._least), np.zeros(len(law), np.int64)
        begun = FollowedState(view, least, self._usual(law, ahead), none)
        scores, state = self._answer(law, begun, ahead, np.zeros(len(law)))
        middles = [row[cut + 1 :] for row, cut in zip(prompts, cuts, strict=True)]
        if any(middles):
            scores, state = self._extended(scores, state, middles)
        return Laws(scores, scores, scores), state

    def extend(self, state: FollowedState, tokens: Tokens, /) -> tuple[Laws, FollowedState]:
        """(N,) bytes, or N rows of bytes, which are read one by one: any place may be the best so far."""
        if isinstance(tokens, np.ndarray) and tokens.ndim == 1:
            scores, state = self._moved(state, tokens)
        else:
            rows = [[int(byte) for byte in row] for row in tokens]
            scores, state = self._extended(np.empty((len(rows), len(VOCABULARY)), np.float32), state, rows)
        return Laws(scores, scores, scores), state

    def select(self, state: FollowedState, rows: I64, /) -> FollowedState:
        view = self.model.select(state.view, rows)
        return FollowedState(view, state.best[rows], state.usual[rows], state.length[rows])

    def join(self, states: Sequence[FollowedState], /) -> FollowedState:
        return FollowedState(
            self.model.join([state.view for state in states]),
            np.concatenate([state.best for state in states]),
            np.concatenate([state.usual for state in states]),
            np.concatenate([state.length for state in states]),
        )

    def _moved(self, state: FollowedState, bytes_: I64) -> tuple[F32, FollowedState]:
        """(N,) bytes -> (N, 257) scores, nats, and the state."""
        law, view = self._asked(self.model.extend(state.view, bytes_))
        moved = state._replace(view=view, length=state.length + 1)
        return self._answer(law, moved, self._ahead(law, view, self._too_little(law, moved)), state.worth)

    def _extended(self, scores: F32, state: FollowedState, rows: Sequence[Sequence[int]]) -> tuple[F32, FollowedState]:
        """scores: of the rows that have no more bytes."""
        parts: list[FollowedState] = []
        done: list[int] = []
        here = np.arange(len(rows))
        for step in range(1 + max(map(len, rows))):
            lengths = np.array([len(rows[i]) for i in here.tolist()])
            parts.append(self.select(state, np.flatnonzero(lengths == step)))
            done += here[lengths == step].tolist()
            state, here = self.select(state, np.flatnonzero(lengths > step)), here[lengths > step]
            if len(here):
                scores[here], state = self._moved(state, np.array([rows[i][step] for i in here.tolist()]))
        return scores, self.select(self.join(parts), np.argsort(done))

    def _asked(self, answer: tuple[Logits, Any]) -> tuple[F64, Any]:
        """(N, 257) log-probabilities, and the view's state."""
        logits, view = answer
        law = host_logits(logits).astype(np.float64)
        normalise(law)
        return law, view

    def _answer(self, law: F64, state: FollowedState, ahead: F64, earlier: F64) -> tuple[F32, FollowedState]:
        """Scores at the places that the view has come to. state.best is of the places before; (N,) earlier, nats."""
        ends = np.logaddexp(ahead, law[:, STOP]) if self.or_ended else ahead
        state = state._replace(best=np.maximum(state.best, ends))
        scores = law + (state.worth - earlier)[:, None]
        scores[:, STOP] = ends - earlier
        return scores.astype(np.float32), state

    def _too_little(self, law: F64, state: FollowedState) -> F64:
        """(N,) what the end may have for its share of the scores to be below eps, nats."""
        if not self.eps:
            return np.full(len(law), -np.inf)
        shares = math.log(self.eps) + state.best + log_sum(law[:, :STOP], axis=1)
        return np.where(state.length == self.longest, -np.inf, shares)

    def _usual(self, law: F64, ahead: F64) -> F64:
        """(N,) log-probability of what follows, its first byte given; that of random bytes where it is impossible."""
        begun = law[:, self._follows[0]]
        return np.where(ahead > -np.inf, ahead - np.where(begun > -np.inf, begun, 0.0), self._least)

    def _ahead(self, law: F64, view: Any, least: F64) -> F64:
        """(N,) log-probability that the text follows, nats; -inf where it is not above `least` (N,)."""
        ahead = law[:, self._follows[0]].copy()
        rows = np.arange(len(law))
        for byte, after in pairwise(self._follows):
            going = np.flatnonzero(ahead[rows] > least[rows])
            rows = rows[going]
            if not len(rows):
                break
            more, view = self._asked(self.model.extend(self.model.select(view, going), np.full(len(rows), byte)))
            ahead[rows] += more[:, after]
        ahead[ahead <= least] = -np.inf
        return ahead


def _place_of_hole(prompt: Sequence[int]) -> int:
    if HOLE not in prompt:
        raise ArgumentError("a prompt has no hole\nhint: prompts are as `encode` gives them, with bytes behind")
    return list(prompt).index(HOLE)
