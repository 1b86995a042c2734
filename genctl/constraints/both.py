"""The conjunction of constraints: a token is allowed where every one of them allows it.

both = Both((AutomatonConstraint(words, vocabulary), PredicateConstraint(palindrome, vocabulary)))
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from genctl.constraints.base import Constraint, pack, unpack
from genctl.kernels.records import I64, U32, Bool


class Both:
    """Its states are tuples of the parts' states, hash-consed. The parts are asked in turn, the cheapest first."""

    def __init__(self, parts: Sequence[Constraint]) -> None:
        self.parts = tuple(parts)
        self._keys: list[tuple[int, ...]] = [(0,) * len(self.parts)]
        self._states = {self._keys[0]: 0}

    @property
    def constraint(self) -> Constraint:
        """The first part, which refuses nothing that is allowed."""
        return self.parts[0]

    def inner_states(self, states: I64) -> I64:
        """(N,) states -> (N,) states of the first part."""
        return np.array([self._keys[state][0] for state in states.tolist()], np.int64)

    def start(self) -> int:
        return self._intern(tuple(part.start() for part in self.parts))

    def allows(self, state: int, token: int, /) -> bool:
        return all(part.allows(s, token) for part, s in zip(self.parts, self._keys[state], strict=True))

    def allows_each(self, states: I64, tokens: I64, /) -> Bool:
        """(K,) states, (K,) token ids -> (K,) `allows` of each pair; a part is asked about what the others left."""
        keys = np.array([self._keys[state] for state in states.tolist()], np.int64)
        left = np.arange(len(tokens))
        for part, column in zip(self.parts, keys.reshape(len(tokens), len(self.parts)).T, strict=True):
            left = left[part.allows_each(column[left], tokens[left])]
        allowed = np.zeros(len(tokens), np.bool_)
        allowed[left] = True
        return allowed

    def advance(self, state: int, token: int, /) -> int:
        key = []
        for part, s in zip(self.parts, self._keys[state], strict=True):
            target = part.advance(s, token)
            if target == 0:
                return 0
            key.append(target)
        return self._intern(tuple(key))

    def complete(self, state: int, /) -> bool:
        return all(part.complete(s) for part, s in zip(self.parts, self._keys[state], strict=True))

    def mask(self, state: int, out: U32, /) -> None:
        """Tokens of the first part's mask that the others allow."""
        first, *rest = zip(self.parts, self._keys[state], strict=True)
        first[0].mask(first[1], out)
        left = np.flatnonzero(unpack(out, 32 * len(out)))
        for part, s in rest:
            left = left[part.allows_each(np.full(len(left), s), left)]
        allowed = np.zeros(32 * len(out), np.bool_)
        allowed[left] = True
        out[:] = pack(allowed)

    def candidates(self, state: int, /) -> U32 | None:
        known = [part.candidates(s) for part, s in zip(self.parts, self._keys[state], strict=True)]
        masks = [mask for mask in known if mask is not None]
        return np.bitwise_and.reduce(masks) if masks else None

    def log_potential(self, state: int, /, *, done: bool) -> float:
        parts = zip(self.parts, self._keys[state], strict=True)
        return sum(part.log_potential(s, done=done) for part, s in parts)

    def _intern(self, key: tuple[int, ...]) -> int:
        if 0 in key:
            return 0
        known = self._states.get(key)
        if known is None:
            known = self._states[key] = len(self._keys)
            self._keys.append(key)
        return known
