"""The records that kernels read: V tokens, M trie nodes, S automaton states, C byte classes."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Bool: TypeAlias = NDArray[np.bool_]
U8: TypeAlias = NDArray[np.uint8]
U32: TypeAlias = NDArray[np.uint32]
U64: TypeAlias = NDArray[np.uint64]
I16: TypeAlias = NDArray[np.int16]
I32: TypeAlias = NDArray[np.int32]
I64: TypeAlias = NDArray[np.int64]
F32: TypeAlias = NDArray[np.float32]
F64: TypeAlias = NDArray[np.float64]

DEAD = 0  # the automaton state from which nothing is accepted
UNKNOWN = -1  # a transition that was never taken yet
UNREACHABLE = 2**31 - 1  # length of what can never be finished


# A record as a plain tuple. Kernels that Python calls for every token take these: at each call Numba looks up the type
# of its arguments, which takes four times as long for a NamedTuple.
Plain: TypeAlias = tuple[NDArray[Any], ...]


class Machine(NamedTuple):
    """An automaton as kernels read it: a table, and what builds its rows; see kernels/configurations.py.

    An automaton that only Python can build has a program without nodes.
    """

    next: I32  # (S, C) next state, UNKNOWN where not built yet
    classes: U8  # (256,) class of each byte
    accepting: Bool  # (S,)
    code: I32  # the program
    heap: I32  # configurations and stacks
    head: I64  # where in the heap they are


class TokenBytes(NamedTuple):
    """The bytes of every token, end to end; a token without bytes is never read by an automaton."""

    data: U8  # the bytes of token t are data[offset[t] : offset[t + 1]]
    offset: I64  # (V + 1,)
    eos: Bool  # (V,) ends the text


class TokenTrie(NamedTuple):
    """Prefix tree of a vocabulary in preorder, node 0 the root; a rejected node is skipped by going to its end."""

    node: I32  # (M, 4) byte of the edge into the node, bytes from the root, end of the subtree, token or -1
    same: I32  # (V,) next token with the same bytes, -1 if none
    first: I32  # (256,) the root's child by byte, -1 if none
