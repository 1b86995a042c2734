"""What the tokens of a vocabulary do in a state that stays the same by some bytes: shared by all such states.

    inside, others = Stays(tokens).of(stays)              # stays: (256,) the bytes

A mask takes the tokens of nothing but these bytes as they are, and walks over the others; see kernels/staying.py.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import cached_property, reduce
from typing import NamedTuple

import numpy as np

from genctl.constraints.base import pack
from genctl.kernels.records import U8, U32, U64, Bool, TokenTrie
from genctl.kernels.staying import note_bytes
from genctl.trie import Tokens

KEPT_BYTES = 8 * 2**20  # for each vocabulary


class Staying(NamedTuple):
    """inside: the tokens all of whose bytes stay, (ceil(V/32),); others: those of which a byte does not, the first one
    aside.
    """

    inside: U32
    others: TokenTrie


class Stays:
    """What tokens do in a state that is the same again behind some bytes, by these bytes: kept for those used last."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._known: OrderedDict[bytes, Staying] = OrderedDict()

    def of(self, stays: Bool) -> Staying:
        """stays: (256,) the bytes."""
        key = stays.tobytes()
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._worked_out(stays)
            while len(self._known) > 1 and sum(kept.others.node.nbytes for kept in self._known.values()) > KEPT_BYTES:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return known

    @cached_property
    def _sets(self) -> tuple[U8, U64]:
        """Of the tokens in the trie, in its order: the first byte; the set of the others, a word for every 64 bytes."""
        (data, offset, _), order = self._tokens.bytes, self._tokens.order
        sets = np.zeros((4, len(order)), np.uint64)
        note_bytes(data, offset, order, sets)
        return data[offset[order]], sets

    def _worked_out(self, stays: Bool) -> Staying:
        (first, sets), order = self._sets, self._tokens.order
        outside = np.packbits(~stays, bitorder="little").view(np.uint64)
        leaving = reduce(np.bitwise_or, map(np.bitwise_and, sets, outside)) != 0
        allowed = np.zeros(len(self._tokens.trie.same), np.bool_)
        allowed[order] = stays[first] & ~leaving
        return Staying(pack(allowed), self._tokens.part(order[leaving]))
