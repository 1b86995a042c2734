"""The records that kernels read: V tokens, M trie nodes, S automaton states, C byte classes."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Bool: TypeAlias = NDArray[np.bool_]
U8: TypeAlias = NDArray[np.uint8]
U32: TypeAlias = NDArray[np.uint32]
I32: TypeAlias = NDArray[np.int32]
I64: TypeAlias = NDArray[np.int64]
F32: TypeAlias = NDArray[np.float32]
F64: TypeAlias = NDArray[np.float64]

DEAD = 0  # the automaton state from which nothing is accepted
UNKNOWN = -1  # a transition that was never taken yet


class Table(NamedTuple):
    """The part of a lazy automaton that is built so far.

    Only the first rows are in use; a caller that meets UNKNOWN asks the automaton to `step` and comes back.
    """

    next: I32  # (S, C) next state, UNKNOWN where not built yet
    classes: U8  # (256,) class of each byte
    accepting: Bool  # (S,)


class TokenBytes(NamedTuple):
    """The bytes of every token, end to end; a token without bytes is never read by an automaton."""

    data: U8  # the bytes of token t are data[offset[t] : offset[t + 1]]
    offset: I64  # (V + 1,)
    eos: Bool  # (V,) ends the text


class TokenTrie(NamedTuple):
    """Prefix tree of a vocabulary in preorder, node 0 the root; a rejected node is skipped by going to `end`."""

    byte: U8  # (M,) label of the edge into the node
    depth: I32  # (M,) bytes from the root
    end: I32  # (M,) first node after the subtree
    token: I32  # (M,) a token spelled by the path, -1 if none
    same: I32  # (V,) next token with the same bytes, -1 if none
