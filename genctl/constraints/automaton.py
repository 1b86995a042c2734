"""An automaton read by tokens: the constraint of every compiled language.

    constraint = AutomatonConstraint(compile_regex("[a-z]+"), vocabulary)
    constraint.mask(constraint.start(), out)

Its states are the automaton's states. Kernels walk the part of the automaton that is built; where they meet a
missing transition, Python builds it and the kernel is called again.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from genctl.automata.base import DEAD, UNKNOWN, Automaton
from genctl.constraints.base import words
from genctl.kernels.automaton import allowed_tokens, run_token
from genctl.kernels.records import U32, TokenBytes
from genctl.trie import Tokens
from genctl.vocabulary import Vocabulary

MASK_CACHE_BYTES = 64 * 2**20
MISSES = 4096  # transitions that one walk over the trie may ask for


class AutomatonConstraint:
    """Texts that the automaton accepts, in the tokens of the vocabulary."""

    def __init__(self, automaton: Automaton, vocabulary: Vocabulary) -> None:
        self.automaton = automaton
        self._tokens = Tokens.of(vocabulary)
        self._eos = sorted(vocabulary.eos)
        self._words = words(len(vocabulary))
        self._masks: OrderedDict[int, U32] = OrderedDict()
        self._path = np.zeros(self._tokens.depth + 1, np.int32)
        self._misses = np.zeros((MISSES, 2), np.int32)

    @property
    def token_bytes(self) -> TokenBytes:
        return self._tokens.bytes

    def start(self) -> int:
        return self.automaton.start

    def allows(self, state: int, token: int, /) -> bool:
        if self._tokens.bytes.eos[token]:
            return self.complete(state)
        return self.advance(state, token) != DEAD

    def advance(self, state: int, token: int, /) -> int:
        flat = self._tokens.bytes
        if flat.eos[token] or flat.offset[token] == flat.offset[token + 1]:
            return DEAD
        while True:
            target, at, byte = run_token(self.automaton.table, flat, state, token)
            if target != UNKNOWN:
                return int(target)
            self.automaton.step(at, byte)

    def complete(self, state: int, /) -> bool:
        return self.automaton.accepts(state)

    def mask(self, state: int, out: U32, /) -> None:
        out[:] = self.candidates(state)

    def candidates(self, state: int, /) -> U32:
        """The mask itself, (ceil(V/32),), read-only; cached by state."""
        known = self._masks.get(state)
        if known is None:
            known = self._masks[state] = self._build_mask(state)
            if len(self._masks) * known.nbytes > MASK_CACHE_BYTES:
                self._masks.popitem(last=False)
        self._masks.move_to_end(state)
        return known

    def _build_mask(self, state: int) -> U32:
        """Each walk reads one byte further into the part that was missing: at most one walk a byte of a token."""
        out = np.zeros(self._words, np.uint32)
        if state != DEAD:
            while found := allowed_tokens(
                self._tokens.trie, self.automaton.table, state, out, self._path, self._misses
            ):
                for at, byte in self._misses[:found].tolist():
                    self.automaton.step(at, byte)
        if self.complete(state):
            for token in self._eos:
                out[token >> 5] |= np.uint32(1 << (token & 31))
        out.flags.writeable = False
        return out

    def log_potential(self, state: int, /, *, done: bool) -> float:
        return 0.0
