"""What must come next: bytes about which the language leaves no choice, tokens about which the constraint leaves none.

    forced_bytes(automaton, state)               # b'"days": ' behind '{"city": "Rome", '
    forced_tokens(constraint, state)             # tokens, each the only one that its mask allows

These differ. A forced text is often spelled by many token sequences, so its tokens are not forced; and a token may be
the only one because the vocabulary, a budget or a predicate has no other. A forced token needs no draw, and its weight
is the model's probability of it, as ever. To write a forced text in one spelling leaves the others out, and changes
what the samples are samples of.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from genctl.automata.base import DEAD, Automaton
from genctl.constraints.base import Constraint, words

LIMIT = 1024


def forced_bytes(automaton: Automaton, state: int, limit: int = LIMIT) -> bytes:
    """The longest text, at most `limit` bytes, that every text that goes on from the state begins with.

    It stops where the text may end, and is empty in the dead state.
    """
    forced = bytearray()
    _, first, sizes = np.unique(automaton.machine.classes, return_index=True, return_counts=True)
    alphabet = list(zip(first.tolist(), sizes.tolist(), strict=True))
    while len(forced) < limit and not automaton.accepts(state):
        possible = _possible(automaton, state, alphabet)
        byte, size = next(possible, (0, 0))
        if size != 1 or next(possible, None) is not None:
            break
        forced.append(byte)
        state = automaton.step(state, byte)
    return bytes(forced)


def _possible(automaton: Automaton, state: int, alphabet: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """(a byte, the number of bytes like it) of each class of bytes that may come."""
    return ((byte, size) for byte, size in alphabet if automaton.step(state, byte) != DEAD)


def forced_tokens(constraint: Constraint, state: int, size: int, limit: int = LIMIT) -> list[int]:
    """The tokens, at most `limit`, that come next for certain: each the only one of the `size` tokens that is allowed.

    It stops where the text may end. With two tokens of the same bytes neither is forced.
    """
    forced: list[int] = []
    mask = np.zeros(words(size), np.uint32)
    while len(forced) < limit and not constraint.complete(state):
        constraint.mask(state, mask)
        allowed = np.flatnonzero(mask)
        if len(allowed) != 1 or mask[allowed[0]].bit_count() != 1:
            break
        word = int(allowed[0])
        forced.append(32 * word + int(mask[word]).bit_length() - 1)
        state = constraint.advance(state, forced[-1])
    return forced
