"""Where single tokens lead: the states after one token, whether one token can finish, the tokens that may still come.

    node, status = next_states(trie, machine, 1, path, seen)
    while status < 0: automaton.extend(status), and on from that node

path: (deepest node + 1,) with the state to begin with in path[0]; a walk that stops is taken up at its node. The
statuses are those of `step`, and UNKNOWN for a distance that was not asked for yet.
"""

from __future__ import annotations

from genctl.kernels.automaton import BYTE, DEPTH, END, TOKEN, after
from genctl.kernels.compiled import kernel, wide
from genctl.kernels.records import DEAD, I32, U32, UNKNOWN, Bool, Machine, TokenTrie

DONE, CLOSES = 0, 1


@kernel
def heights(trie: TokenTrie, best: I32, out: I32) -> None:
    """out[node] = bytes from the node to the deepest one below it; best: (deepest node + 2,) zeros."""
    for node in range(trie.node.shape[0] - 1, -1, -1):
        depth = trie.node[node, DEPTH]
        out[node] = best[depth + 1]
        best[depth + 1] = 0
        best[depth] = max(best[depth], out[node] + 1)


@kernel
def next_states(trie: TokenTrie, machine: Machine, node: int, path: I32, seen: Bool) -> tuple[int, int]:
    """Set seen[s], (S,), for each state s that some token leads to from path[0]; (node, status)."""
    while node < trie.node.shape[0]:
        depth = trie.node[node, DEPTH]
        column = wide(machine.classes[trie.node[node, BYTE]])
        before = wide(path[depth - 1])
        state = after(machine, before, column)
        if state < 0:
            return node, state
        if state == DEAD:
            node = wide(trie.node[node, END])
            continue
        path[depth] = state
        if trie.node[node, TOKEN] >= 0:
            seen[state] = True
        node += 1
    return node, DONE


@kernel
def closes(trie: TokenTrie, height: I32, machine: Machine, distance: I32, node: int, path: I32) -> tuple[int, int]:
    """(node, CLOSES) if some token leads from path[0] to acceptance, (-, DONE) if none does; or (node, status).

    distance: (S,) bytes to acceptance, UNKNOWN where not asked for yet: then the state is at path[depth of node]. A
    subtree that is not as high as the distance is skipped, since none of its tokens can reach acceptance.
    """
    while node < trie.node.shape[0]:
        depth = trie.node[node, DEPTH]
        column = wide(machine.classes[trie.node[node, BYTE]])
        before = wide(path[depth - 1])
        state = after(machine, before, column)
        if state < 0:
            return node, state
        path[depth] = state
        if distance[state] == UNKNOWN:
            return node, wide(UNKNOWN)
        if distance[state] > height[node]:
            node = wide(trie.node[node, END])
            continue
        if distance[state] == 0 and trie.node[node, TOKEN] >= 0:
            return node, CLOSES
        node += 1
    return node, DONE


@kernel
def tokens_to(trie: TokenTrie, machine: Machine, fits: Bool, path: I32, out: U32) -> None:
    """Set the bit of each token that leads from path[0] to a state s with fits[s]; (ceil(V/32),), zeroed before.

    The transitions that this needs have been built by `next_states`.
    """
    node = 1
    while node < trie.node.shape[0]:
        depth = trie.node[node, DEPTH]
        state = machine.next[path[depth - 1], machine.classes[trie.node[node, BYTE]]]
        if state <= DEAD:
            node = wide(trie.node[node, END])
            continue
        path[depth] = state
        token = trie.node[node, TOKEN] if fits[state] else -1
        while token >= 0:
            out[token >> 5] |= 1 << (token & 31)
            token = trie.same[token]
        node += 1
