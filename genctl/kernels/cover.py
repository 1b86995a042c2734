"""Covering a text with tokens: where in the trie a text goes on, and the mass of the tokens behind each next byte.

below = child(trie.node, at, byte)
next_masses(trie.node, rank, at, probabilities, out)
"""

from __future__ import annotations

from genctl.kernels.automaton import BYTE, END
from genctl.kernels.compiled import kernel, summing_kernel, wide
from genctl.kernels.records import F64, I32, I64


@kernel
def child(node: I32, at: int, byte: int) -> int:
    """The trie node one byte further, -1 where no token goes on like that."""
    below, end = wide(at + 1), wide(node[at, END])
    while below < end:
        if node[below, BYTE] == byte:
            return below
        below = wide(node[below, END])
    return wide(-1)


@summing_kernel
def next_masses(node: I32, rank: I64, at: int, probabilities: F64, out: F64) -> None:
    """out[b] = mass of the tokens below the child of `at` by byte b; other bytes are left as they are.

    probabilities: of the tokens strictly below `at` in byte order; rank (M + 1,): tokens at the nodes before each. Only
    terms of one sign are added, so a small mass is as exact as a large one.
    """
    first = rank[at + 1]
    below, end = wide(at + 1), wide(node[at, END])
    while below < end:
        behind = wide(node[below, END])
        mass = 0.0
        for i in range(rank[below] - first, rank[behind] - first):
            mass += probabilities[i]
        out[node[below, BYTE]] = mass
        below = behind
