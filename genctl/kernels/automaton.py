"""Automaton meets vocabulary: run a token, mark all tokens that can be read.

state, at, byte = run_token(table, tokens, state, token)
if state == UNKNOWN: automaton.step(at, byte)            # build the missing transition, then ask again
"""

from __future__ import annotations

from genctl.kernels.compiled import kernel
from genctl.kernels.records import DEAD, I32, I64, U8, U32, UNKNOWN, Table, TokenBytes, TokenTrie


@kernel
def run_token(table: Table, tokens: TokenBytes, state: int, token: int) -> tuple[int, int, int]:
    """(state after the token, 0, 0), or (UNKNOWN, state, byte) for the first transition that is not built."""
    for i in range(tokens.offset[token], tokens.offset[token + 1]):
        byte = tokens.data[i]
        target = table.next[state, table.classes[byte]]
        if target == UNKNOWN:
            return UNKNOWN, state, byte
        state = target
        if state == DEAD:
            break
    return state, 0, 0


@kernel
def allowed_tokens(trie: TokenTrie, table: Table, start: int, out: U32, path: I32, misses: I32) -> int:
    """Set the bit of each token that can be read from start in out (ceil(V/32),), zeroed by the caller.

    path: (deepest node + 1,) scratch. Transitions that are not built are written to misses (K, 2) as
    (state, byte); their number is returned (at most K), and with any the mask is not complete yet.
    """
    path[0] = start
    found = 0
    node = 1
    while node < trie.byte.shape[0]:
        depth = trie.depth[node]
        byte = trie.byte[node]
        state = table.next[path[depth - 1], table.classes[byte]]
        if state == UNKNOWN and found < misses.shape[0]:
            misses[found, 0] = path[depth - 1]
            misses[found, 1] = byte
            found += 1
        if state <= DEAD:
            node = trie.end[node]
            continue
        path[depth] = state
        token = trie.token[node]
        while token >= 0:
            out[token >> 5] |= 1 << (token & 31)
            token = trie.same[token]
        node += 1
    return found


@kernel
def build_trie(data: U8, offset: I64, order: I64, trie: TokenTrie) -> int:
    """Fill the trie from the tokens of order (sorted by their bytes, none empty); returns the number of nodes.

    The trie's arrays have room for one node a byte and the root.
    """
    path = trie.depth.copy()  # path[d]: the node at depth d of the last token; depths are written behind it
    path[0] = 0
    trie.token[0] = -1
    nodes = 1
    reach = 0  # length of the last token
    last = -1
    for token in order:
        first, length = offset[token], offset[token + 1] - offset[token]
        shared = 0
        if last >= 0:
            while shared < min(length, reach) and data[offset[last] + shared] == data[first + shared]:
                shared += 1
        if shared == length and length == reach:
            trie.same[last] = token
            last = token
            continue
        for depth in range(shared + 1, reach + 1):
            trie.end[path[depth]] = nodes
        for depth in range(shared + 1, length + 1):
            trie.byte[nodes] = data[first + depth - 1]
            trie.depth[nodes] = depth
            trie.token[nodes] = -1
            path[depth] = nodes
            nodes += 1
        trie.token[path[length]] = token
        last, reach = token, length
    for depth in range(reach + 1):
        trie.end[path[depth]] = nodes
    return nodes
