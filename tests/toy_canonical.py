"""Canonical constraints of toy models, and toy vocabularies with everything that makes byte views hard."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np

from genctl.constraints.base import pack
from genctl.models.toy import ToyModel
from genctl.vocabulary import Vocabulary


class Paths:
    """A constraint whose states are token sequences, or the last so many tokens of them; `may` says which token may
    come behind one, `ends` where a text may end.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        may: Callable[[tuple[int, ...], int], bool],
        ends: Callable[[tuple[int, ...]], bool],
        memory: int | None = None,
    ) -> None:
        self._vocabulary, self._may, self._ends = vocabulary, may, ends
        self._paths: list[tuple[int, ...] | None] = [None, ()]
        self._numbers, self._memory = {(): 1}, memory
        self._masks: dict[int, np.ndarray] = {}

    def start(self) -> int:
        return 1

    def allows(self, state: int, token: int) -> bool:
        if state == 0:
            return False
        if token in self._vocabulary.eos:
            return self.complete(state)
        return self._vocabulary.tokens[token] != b"" and self._may(self._paths[state], token)

    def allows_each(self, states: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        return np.array([self.allows(int(s), int(t)) for s, t in zip(states, tokens, strict=True)], np.bool_)

    def mask(self, state: int, out: np.ndarray) -> None:
        if state not in self._masks:
            self._masks[state] = pack(np.array([self.allows(state, token) for token in range(len(self._vocabulary))]))
        out[:] = self._masks[state]

    def candidates(self, state: int) -> None:
        return None

    def advance(self, state: int, token: int) -> int:
        if not self.allows(state, token):
            return 0
        path = (*self._paths[state], token)
        path = path if self._memory is None else path[-self._memory :]
        if path not in self._numbers:
            self._numbers[path] = len(self._paths)
            self._paths.append(path)
        return self._numbers[path]

    def complete(self, state: int) -> bool:
        return state != 0 and self._ends(self._paths[state])

    def log_potential(self, state: int, *, done: bool) -> float:
        return 0.0 if state and (not done or self.complete(state)) else -math.inf


def random_canonical(vocabulary: Vocabulary, seed: int, share: float = 0.7) -> Paths:
    """Allows this share of all tokens, always the same ones behind a token sequence."""

    @cache
    def chance(*key: int) -> bool:
        return bool(np.random.default_rng((seed, *key)).random() < share)

    return Paths(vocabulary, lambda path, token: chance(1, *path, token), lambda path: chance(2, *path))


def longest_match(vocabulary: Vocabulary) -> Paths:
    """The beginnings of encodings by the longest token that fits, among equal ones the first."""
    longer: dict[int, list[bytes]] = {}
    first: dict[bytes, int] = {}
    for token, piece in enumerate(vocabulary.tokens):
        if piece:
            first.setdefault(piece, token)
            longer[token] = [p[len(piece) :] for p in vocabulary.tokens if p.startswith(piece) and p != piece]

    def may(path: tuple[int, ...], token: int) -> bool:
        text = vocabulary.tokens[token]
        if first[text] != token:
            return False
        for before in reversed(path):
            if any(text.startswith(rest) for rest in longer[before]):
                return False
            text = vocabulary.tokens[before] + text
        return True

    return Paths(vocabulary, may, lambda path: True, memory=max(map(len, vocabulary.tokens)))


def toy(seed: int, letters: bytes = b"ab", *, leaky: bool = False, order: int = 3, spread: float = 1.5) -> ToyModel:
    """Random merges over a few letters, one of them twice, a letter that only longer tokens have, two ends of text.

    leaky: with a special token that is neither text nor end, and an unused id.
    """
    rng = np.random.default_rng(seed)
    pieces = [bytes([b]) for b in letters]
    while len(pieces) < len(letters) + 4:
        piece = pieces[rng.integers(len(pieces))] + pieces[rng.integers(len(pieces))]
        if piece not in pieces and len(piece) < 5:
            pieces.append(piece)
    pieces += [pieces[rng.integers(len(pieces))], letters[:1] + b"z", b"", b""]
    ends = frozenset({len(pieces) - 1, len(pieces) - 2})
    if leaky:
        pieces += [b"", b""]
    vocabulary = Vocabulary(tuple(pieces), ends, frozenset({len(pieces) - 1} if leaky else ()))
    return ToyModel.random(vocabulary, order=order, seed=seed, spread=spread)
