"""Automaton meets vocabulary: run a token, mark all tokens that can be read.

state = run_token(machine, tokens, state, token)
if state < 0: automaton.extend(state)               # something only Python can provide; then ask again
"""

from __future__ import annotations

from genctl.kernels.addresses import machine_at, tokens_at
from genctl.kernels.compiled import inlined, kernel, making_kernel, wide
from genctl.kernels.configurations import FULL, fill_row, step
from genctl.kernels.records import DEAD, I32, I64, U8, U32, UNKNOWN, Bool, Machine, Plain, TokenBytes, TokenTrie

# Columns of TokenTrie.node.
BYTE, DEPTH, END, TOKEN = range(4)


@kernel
def run_known(places: I64, state: int, token: int) -> int:
    """The state after the token, UNKNOWN where a transition is not built. places: see addresses.py."""
    machine, tokens = machine_at(places), tokens_at(places)
    for i in range(tokens.offset[token], tokens.offset[token + 1]):
        state = machine.next[state, machine.classes[tokens.data[i]]]
        if state <= DEAD:
            break
    return wide(state)


@inlined
def after(machine: Machine, state: int, column: int) -> int:
    """`step`, which is only called where the state is not known: that takes longer than to look it up."""
    target = wide(machine.next[state, column])
    if target == UNKNOWN:
        target = step(machine.next, machine.accepting, machine.code, machine.heap, machine.head, state, column)
    return target


@inlined
def run_token(machine: Machine, tokens: TokenBytes, state: int, token: int) -> int:
    """The state after the token; MISS or FULL where the automaton cannot be built further by itself."""
    for i in range(tokens.offset[token], tokens.offset[token + 1]):
        state = after(machine, state, wide(machine.classes[tokens.data[i]]))
        if state <= DEAD:
            break
    return state


@kernel
def run_one(places: I64, state: int, token: int) -> int:
    """`run_token` for Python."""
    return run_token(machine_at(places), tokens_at(places), state, token)


@inlined
def mark_subtree(
    trie: TokenTrie, machine: Machine, node: int, before: int, out: U32, path: I32, missed: I32, count: I64
) -> bool:
    """Set the bits in out (ceil(V/32),) of the tokens at a node and below it that can be read.

    before: the state at the parent; path: (deepest node + 1,) scratch. A node that only Python can reach is left
    out, and written to missed (M, 2) with the state before it; count[0] of them. False if the memory was full:
    with more of it, all is to be done again.
    """
    end, waiting = trie.node[node, END], count[0]
    path[trie.node[node, DEPTH] - 1] = before
    while node < end:
        depth = trie.node[node, DEPTH]
        column = wide(machine.classes[trie.node[node, BYTE]])
        before = wide(path[depth - 1])
        state = after(machine, before, column)
        if state == FULL:
            count[0] = waiting
            return False
        if state < 0:
            missed[count[0], 0] = node
            missed[count[0], 1] = before
            count[0] += 1
        if state <= DEAD:
            node = wide(trie.node[node, END])
            continue
        path[depth] = state
        token = trie.node[node, TOKEN]
        while token >= 0:
            out[token >> 5] |= 1 << (token & 31)
            token = trie.same[token]
        node += 1
    return True


@inlined
def mark_tokens(
    trie: TokenTrie,
    machine: Machine,
    state: int,
    byte: int,
    skipped: Bool,
    out: U32,
    path: I32,
    missed: I32,
    count: I64,
) -> int:
    """`mark_subtree` of all tokens that begin with `byte` or a larger one that is not skipped (256,); 256, or the byte
    at which to go on when there is more memory.
    """
    if fill_row(machine.next, machine.accepting, machine.code, machine.heap, machine.head, state) == FULL:
        return byte
    while byte < 256:
        node = wide(trie.first[byte])
        alive = node >= 0 and not skipped[byte] and machine.next[state, machine.classes[byte]] != DEAD
        if alive and not mark_subtree(trie, machine, node, state, out, path, missed, count):
            break
        byte += 1
    return byte


@kernel
def mark_from(
    trie: Plain,
    places: I64,
    state: int,
    byte: int,
    skipped: Bool,
    out: U32,
    path: I32,
    missed: I32,
    count: I64,
) -> int:
    """`mark_tokens` for Python."""
    return mark_tokens(TokenTrie(*trie), machine_at(places), state, byte, skipped, out, path, missed, count)


@kernel
def mark_again(
    trie: TokenTrie, machine: Machine, waiting: I32, done: int, out: U32, path: I32, missed: I32, count: I64
) -> int:
    """`mark_subtree` of nodes that were missed (rows of node, state before), from number `done` on.

    Returns how many are done: all, or those before the one at which the memory was full.
    """
    while done < waiting.shape[0] and mark_subtree(
        trie, machine, wide(waiting[done, 0]), wide(waiting[done, 1]), out, path, missed, count
    ):
        done += 1
    return done


@making_kernel
def build_trie(data: U8, offset: I64, order: I64, node: I32, same: I32) -> int:
    """Fill the rows of a trie from the tokens of order (sorted by their bytes, none empty); returns how many.

    node has room for one row a byte and the root; same is all -1.
    """
    path = node[:, DEPTH].copy()  # path[d]: the node at depth d of the last token
    path[0] = 0
    node[0, TOKEN] = -1
    nodes = 1
    reach = 0  # length of the last token
    last = -1
    for token in order:
        start, length = offset[token], offset[token + 1] - offset[token]
        shared = 0
        if last >= 0:
            while shared < min(length, reach) and data[offset[last] + shared] == data[start + shared]:
                shared += 1
        if shared == length and length == reach:
            same[last] = token
            last = token
            continue
        for depth in range(shared + 1, reach + 1):
            node[path[depth], END] = nodes
        for depth in range(shared + 1, length + 1):
            node[nodes, BYTE] = data[start + depth - 1]
            node[nodes, DEPTH] = depth
            node[nodes, TOKEN] = -1
            path[depth] = nodes
            nodes += 1
        node[path[length], TOKEN] = token
        last, reach = token, length
    for depth in range(reach + 1):
        node[path[depth], END] = nodes
    return nodes
