"""Masks of states behind which most texts are in one state, and stay in it by most bytes.

if settles(machine, state, enters, stays): ...      # tokens of bytes that enter and stay need no walk

So it is behind a pattern that was found, or in a key that is none of those listed: wherever that is, the tokens of
nothing but such bytes are the same (constraints/staying.py).
"""

from __future__ import annotations

import numpy as np

from genctl.kernels.automaton import END, TOKEN
from genctl.kernels.compiled import kernel, wide
from genctl.kernels.configurations import fill_row
from genctl.kernels.records import DEAD, I64, U8, U32, U64, Bool, Machine, TokenTrie

MANY_BYTES = 24


@kernel
def settles(machine: Machine, state: int, enters: Bool, stays: Bool) -> bool:
    """Do many of the bytes up to 127 lead to one state in which many stay? enters, stays: all bytes that do (256,)."""
    if fill_row(machine.next, machine.accepting, machine.code, machine.heap, machine.head, state) != 0:
        return False
    settled, lead = wide(DEAD), 0
    for byte in range(128):  # the state that most lead to that are alive, if more than half of them do (Boyer & Moore)
        target = wide(machine.next[state, machine.classes[byte]])
        if target > DEAD:
            lead += 1 if target == settled else -1
        if lead < 0:
            settled, lead = target, 1
    many = 0
    for byte in range(128):
        many += machine.next[state, machine.classes[byte]] == settled
    if settled <= DEAD or many < MANY_BYTES:
        return False
    if fill_row(machine.next, machine.accepting, machine.code, machine.heap, machine.head, settled) != 0:
        return False
    many = 0
    for byte in range(256):
        enters[byte] = machine.next[state, machine.classes[byte]] == settled
        stays[byte] = machine.next[settled, machine.classes[byte]] == settled
        many += enters[byte] and stays[byte]
    return many >= MANY_BYTES


@kernel
def note_bytes(data: U8, offset: I64, order: I64, sets: U64) -> None:
    """The set of the bytes of each token of order (K,) but its first one: 4 words, each a row of sets (4, K)."""
    for at in range(order.shape[0]):
        for i in range(offset[order[at]] + 1, offset[order[at] + 1]):
            sets[data[i] >> 6, at] |= np.uint64(1) << np.uint64(data[i] & 63)


@kernel
def clear_tokens(trie: TokenTrie, begins: Bool, out: U32) -> None:
    """Clear the bits of the tokens that begin with one of the bytes (256,)."""
    for byte in range(256):
        node = trie.first[byte]
        if node >= 0 and begins[byte]:
            for inner in range(node, trie.node[node, END]):
                token = trie.node[inner, TOKEN]
                while token >= 0:
                    out[token >> 5] &= ~(1 << (token & 31))
                    token = trie.same[token]
