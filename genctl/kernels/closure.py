"""From the states of a nondeterministic automaton to the nodes of a program: lengths, and what empty moves reach.

A node stands for all that can be reached from a state without reading a byte inside its body: byte moves,
operations, and whether the body may end. Operations that can read nothing are also stepped over.
"""

from __future__ import annotations

import numpy as np

from genctl.kernels.compiled import kernel, making_kernel
from genctl.kernels.configurations import GUARD, JUMP, LOOP, RUN, TRACK
from genctl.kernels.records import I64, UNREACHABLE, Bool

# Columns of the operations given here: kind, body, least, most, target, fewest bytes of what is run or demanded (of a
# jump or a loop: is it solid, that is, does it read something).
KIND, BODY, LEAST, MOST, TARGET, OWN = range(6)


@making_kernel
def grouped(keys: I64, size: int) -> tuple[I64, I64]:
    """(first entry of each key (size + 1,), the entries by key): a counting sort."""
    first = np.zeros(size + 1, np.int64)
    for key in keys:
        first[key + 1] += 1
    for key in range(size):
        first[key + 1] += first[key]
    place = first[:-1].copy()
    order = np.empty(keys.shape[0], np.int64)
    for i in range(keys.shape[0]):
        order[place[keys[i]]] = i
        place[keys[i]] += 1
    return first, order


@making_kernel
def dependants(moves: I64, empty: I64, operations: I64, state_of: I64, entry: I64, size: int) -> tuple[I64, I64]:
    """(first (size + 1,), states whose length depends on each state)."""
    total = moves.shape[0] + empty.shape[0] + 2 * operations.shape[0]
    on, who = np.empty(total, np.int64), np.empty(total, np.int64)
    n = 0
    for i in range(moves.shape[0]):
        on[n], who[n] = moves[i, 2], moves[i, 0]
        n += 1
    for i in range(empty.shape[0]):
        on[n], who[n] = empty[i, 1], empty[i, 0]
        n += 1
    for i in range(operations.shape[0]):
        on[n], who[n] = operations[i, TARGET], state_of[i]
        n += 1
        if operations[i, KIND] <= LOOP:
            on[n], who[n] = entry[operations[i, BODY]], state_of[i]
            n += 1
    first, order = grouped(on[:n], size)
    return first, who[order]


@kernel
def operation_length(operation: I64, entry: I64, length: I64, guards: bool) -> int:
    """Fewest bytes from an operation to the end of its body, from what is known of the states around it."""
    here = int(length[operation[TARGET]])
    kind = operation[KIND]
    if kind == GUARD:
        return max(here, int(operation[OWN])) if guards else UNREACHABLE
    if kind == RUN or kind >= TRACK:
        return here + int(operation[OWN])
    inner = int(length[entry[operation[BODY]]])
    if kind == JUMP:
        return here + inner
    return here + (int(operation[LEAST]) * inner if operation[LEAST] > 0 else 0)


@making_kernel
def shortest_lengths(
    moves: I64, empty: I64, operations: I64, state_of: I64, entry: I64, finals: I64, size: int, guards: bool
) -> I64:
    """(size,) fewest bytes from each state to the end of its body, UNREACHABLE if there is no way.

    Knuth's generalisation of shortest paths (1977), by label correction. guards: look-around may let pass.
    """
    first, who = dependants(moves, empty, operations, state_of, entry, size)
    move_first, move_order = grouped(moves[:, 0], size)
    empty_first, empty_order = grouped(empty[:, 0], size)
    operation_of = np.full(size, -1, np.int64)
    for i in range(operations.shape[0]):
        operation_of[state_of[i]] = i
    length = np.full(size, UNREACHABLE, np.int64)
    queue = np.empty(size, np.int64)  # a ring; each state is in it at most once
    queued = np.zeros(size, np.bool_)
    head, waiting = 0, 0
    for q in finals:
        length[q] = 0
        if not queued[q]:
            queue[waiting] = q
            queued[q] = True
            waiting += 1
    while waiting > 0:
        changed = queue[head]
        head = (head + 1) % size
        waiting -= 1
        queued[changed] = False
        for i in range(first[changed], first[changed + 1]):
            q = who[i]
            best = int(length[q])
            for j in range(move_first[q], move_first[q + 1]):
                best = min(best, 1 + int(length[moves[move_order[j], 2]]))
            for j in range(empty_first[q], empty_first[q + 1]):
                best = min(best, int(length[empty[empty_order[j], 1]]))
            if operation_of[q] >= 0:
                best = min(best, operation_length(operations[operation_of[q]], entry, length, guards))
            if best < length[q]:
                length[q] = best
                if not queued[q]:
                    queue[(head + waiting) % size] = q
                    queued[q] = True
                    waiting += 1
    return length


@kernel
def skips(operation: I64, entry: I64, nullable: Bool) -> bool:
    """Can the operation read nothing? (Guards and the like are not skipped: they have to be asked.)"""
    kind = operation[KIND]
    if kind >= GUARD:
        return False
    if kind == RUN:
        return bool(operation[OWN] == 0)
    if operation[OWN]:
        return False  # it is solid
    return bool(nullable[entry[operation[BODY]]]) or (kind == LOOP and operation[LEAST] == 0)


@making_kernel
def closures(
    moves: I64,
    empty: I64,
    operations: I64,
    state_of: I64,
    entry: I64,
    length: I64,
    nullable: Bool,
    roots: I64,
) -> tuple[I64, I64, I64, I64]:
    """What each root reaches: (R, 3) ends of its rows in the lists, which are (E, 2) set and target of byte moves,
    (K,) operations, and (Q,) states. Ways to states that never end are left out.
    """
    size = length.shape[0]
    move_first, move_order = grouped(moves[:, 0], size)
    empty_first, empty_order = grouped(empty[:, 0], size)
    operation_of = np.full(size, -1, np.int64)
    for i in range(operations.shape[0]):
        operation_of[state_of[i]] = i
    ends = np.empty((roots.shape[0], 3), np.int64)
    edges = np.empty((moves.shape[0] + 16, 2), np.int64)
    uses = np.empty(operations.shape[0] + 16, np.int64)
    reached = np.empty(size + 16, np.int64)
    n_edges, n_uses, n_reached = 0, 0, 0
    seen = np.full(size, -1, np.int64)
    stack = np.empty(size + 1, np.int64)
    for r in range(roots.shape[0]):
        stack[0] = roots[r]
        depth = 1
        seen[roots[r]] = r
        while depth > 0:
            depth -= 1
            q = stack[depth]
            if n_reached == reached.shape[0]:
                reached = np.concatenate((reached, np.empty_like(reached)))
            reached[n_reached] = q
            n_reached += 1
            for j in range(move_first[q], move_first[q + 1]):
                move = moves[move_order[j]]
                if length[move[2]] < UNREACHABLE:
                    if n_edges == edges.shape[0]:
                        edges = np.concatenate((edges, np.empty_like(edges)))
                    edges[n_edges, 0] = move[1]
                    edges[n_edges, 1] = move[2]
                    n_edges += 1
            for j in range(empty_first[q], empty_first[q + 1]):
                target = empty[empty_order[j], 1]
                if seen[target] != r and length[target] < UNREACHABLE:
                    seen[target] = r
                    stack[depth] = target
                    depth += 1
            i = operation_of[q]
            if i >= 0 and length[q] < UNREACHABLE:
                if n_uses == uses.shape[0]:
                    uses = np.concatenate((uses, np.empty_like(uses)))
                uses[n_uses] = i
                n_uses += 1
                target = operations[i, TARGET]
                if skips(operations[i], entry, nullable) and seen[target] != r and length[target] < UNREACHABLE:
                    seen[target] = r
                    stack[depth] = target
                    depth += 1
        ends[r, 0], ends[r, 1], ends[r, 2] = n_edges, n_uses, n_reached
    return ends, edges[:n_edges], uses[:n_uses], reached[:n_reached]


@making_kernel
def same_closures(ends: I64, edges: I64, uses: I64, flags: I64) -> tuple[I64, I64]:
    """Roots with equal closures are one node: (the first root of each node (N,), node of each root (R,))."""
    count = ends.shape[0]
    size = 8
    while size < 2 * count + 2:
        size *= 2
    table = np.full(size, -1, np.int64)
    representatives = np.empty(count, np.int64)
    node = np.empty(count, np.int64)
    found = 0
    for r in range(count):
        e0, u0 = (int(ends[r - 1, 0]), int(ends[r - 1, 1])) if r > 0 else (0, 0)
        e1, u1 = int(ends[r, 0]), int(ends[r, 1])
        code = 17 + int(flags[r])
        for i in range(e0, e1):
            code = ((code ^ (int(edges[i, 0]) + 31 * int(edges[i, 1]))) * 1000003) & 0x3FFFFFFF
        for i in range(u0, u1):
            code = ((code ^ (int(uses[i]) + 7)) * 1000003) & 0x3FFFFFFF
        at = (code ^ (code >> 13)) & (size - 1)
        while table[at] >= 0:
            other = representatives[table[at]]
            f0, v0 = (int(ends[other - 1, 0]), int(ends[other - 1, 1])) if other > 0 else (0, 0)
            same = flags[r] == flags[other] and e1 - e0 == ends[other, 0] - f0 and u1 - u0 == ends[other, 1] - v0
            i = 0
            while same and i < e1 - e0:
                same = edges[e0 + i, 0] == edges[f0 + i, 0] and edges[e0 + i, 1] == edges[f0 + i, 1]
                i += 1
            i = 0
            while same and i < u1 - u0:
                same = uses[u0 + i] == uses[v0 + i]
                i += 1
            if same:
                break
            at = (at + 1) & (size - 1)
        if table[at] < 0:
            table[at] = found
            representatives[found] = r
            found += 1
        node[r] = table[at]
    return representatives[:found], node
