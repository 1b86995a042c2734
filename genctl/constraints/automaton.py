"""An automaton read by tokens: the constraint of every compiled language.

    constraint = AutomatonConstraint(compile_regex("[a-z]+"), vocabulary)
    constraint.mask(constraint.start(), out)

Its states are the automaton's states. Kernels walk the part of the automaton that is built; where they meet a
missing transition, Python builds it and the kernel is called again.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from genctl.automata.base import DEAD, Automaton
from genctl.constraints.base import words
from genctl.kernels.automaton import BYTE, mark_subtree, mark_tokens, run_known, run_token
from genctl.kernels.configurations import FULL
from genctl.kernels.records import U32, TokenBytes
from genctl.trie import Tokens
from genctl.vocabulary import Vocabulary

MASK_CACHE_BYTES = 64 * 2**20


class AutomatonConstraint:
    """Texts that the automaton accepts, in the tokens of the vocabulary."""

    def __init__(self, automaton: Automaton, vocabulary: Vocabulary) -> None:
        self.automaton = automaton
        self._tokens = Tokens.of(vocabulary)
        self._eos = sorted(vocabulary.eos)
        self._words = words(len(vocabulary))
        self._masks: OrderedDict[int, U32] = OrderedDict()
        self._path = np.zeros(self._tokens.depth + 1, np.int32)
        self._missed = np.zeros((len(self._tokens.trie.node), 2), np.int32)
        self._count = np.zeros(1, np.int64)

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
        machine = self.automaton.machine
        target = run_known(machine.next, machine.classes, flat.data, flat.offset, state, token)
        while target < 0:
            target = run_token(self.automaton.machine, flat, state, token)
            if target < 0:
                self.automaton.extend(target)
        return int(target)

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
        out = np.zeros(self._words, np.uint32)
        if state != DEAD:
            self._mark(state, out)
        if self.complete(state):
            for token in self._eos:
                out[token >> 5] |= np.uint32(1 << (token & 31))
        out.flags.writeable = False
        return out

    def _mark(self, state: int, out: U32) -> None:
        """Walk over the trie. What the kernel cannot build is built here, and its subtree walked afterwards."""
        trie, count = self._tokens.trie, self._count
        scratch = out, self._path, self._missed, count
        count[0], byte = 0, 0
        while (byte := mark_tokens(trie, self.automaton.machine, state, byte, *scratch)) < 256:
            self.automaton.extend(FULL)
        while count[0]:
            waiting = self._missed[: count[0]].tolist()
            count[0] = 0
            for node, before in waiting:
                self.automaton.step(before, int(trie.node[node, BYTE]))
                while not mark_subtree(trie, self.automaton.machine, node, before, *scratch):
                    self.automaton.extend(FULL)

    def log_potential(self, state: int, /, *, done: bool) -> float:
        return 0.0
