"""Constraints: which tokens may come next. Int states; state 0 is dead.

    constraint = AutomatonConstraint(automaton, vocabulary)
    state = constraint.advance(constraint.start(), token)      # 0 if the token is not allowed
    constraint.complete(state)                                 # may the text end here?

Laws (tests/laws/test_constraint.py): bit t of the mask is `allows(state, t)`; `allows_each` says the same of many
pairs; advance is dead exactly where a token is not allowed; end-of-text tokens are allowed exactly where the text is
complete; ids that add no bytes are never allowed; the candidates contain every allowed token.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from genctl.kernels.records import I64, U32, Bool


class Constraint(Protocol):
    """A set of texts, read token by token. V tokens; a packed mask has bit t % 32 of word t // 32 for token t."""

    def start(self) -> int: ...

    def allows(self, state: int, token: int, /) -> bool: ...

    def allows_each(self, states: I64, tokens: I64, /) -> Bool:
        """(K,) states, (K,) token ids -> (K,) `allows` of each pair. What is asked by batch is asked once for all."""
        ...

    def mask(self, state: int, out: U32, /) -> None:
        """Write the allowed tokens into out (ceil(V/32),), packed bits."""
        ...

    def candidates(self, state: int, /) -> U32 | None:
        """A packed mask that holds every allowed token and is cheap to have; None if there is none."""
        ...

    def advance(self, state: int, token: int, /) -> int:
        """The state after a token that does not end the text."""
        ...

    def complete(self, state: int, /) -> bool:
        """May the text end here?"""
        ...

    def log_potential(self, state: int, /, *, done: bool) -> float:
        """Log-weight (nats) of the text at state as a prefix, or (done) as a finished text; 0 for hard rules."""
        ...


def words(size: int) -> int:
    """Number of uint32 words of a packed mask over `size` tokens."""
    return (size + 31) // 32


def pack(allowed: Bool) -> U32:
    """(V,) bool -> (ceil(V/32),) packed bits."""
    out = np.zeros(4 * words(len(allowed)), np.uint8)
    packed = np.packbits(allowed, bitorder="little")
    out[: len(packed)] = packed
    return out.view(np.uint32)


def unpack(mask: U32, size: int) -> Bool:
    """(ceil(V/32),) packed bits -> (V,) bool."""
    return np.unpackbits(mask.view(np.uint8), bitorder="little", count=size).view(np.bool_)
