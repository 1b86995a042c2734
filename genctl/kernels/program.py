"""What a program's tables say of each other: fewest bytes to the end of a body, and which bytes are alike.

settle_lengths(code, own, first, dependants, queue, queued)    # fills the column LENGTH of the nodes
columns = tell_apart(alone, sets, classes, ids)                # fills the class of each byte
"""

from __future__ import annotations

from genctl.kernels.compiled import inlined, kernel, wide
from genctl.kernels.configurations import (
    BODY_AT,
    EDGE_AT,
    EDGES,
    FINAL,
    FLAGS,
    GUARD,
    JUMP,
    LENGTH,
    LOOP,
    NODE_AT,
    NODE_WIDTH,
    NODES,
    OPERATION_AT,
    OPERATION_WIDTH,
    OPERATIONS,
    USE_AT,
)
from genctl.kernels.records import I32, I64, U8, UNREACHABLE


@inlined
def length_of(code: I32, node: int) -> int:
    return wide(code[code[NODE_AT] + NODE_WIDTH * node + LENGTH])


@inlined
def target_of(code: I32, operation: int) -> int:
    """Where an operation goes on. operation: where its row begins."""
    kind = code[operation]
    column = 4 if kind == LOOP else 3 if kind == GUARD else 2
    return wide(code[operation + column])


@kernel
def operation_length(code: I32, own: I64, number: int) -> int:
    """Fewest bytes from an operation to the end of its body, from what is known of the nodes around it.

    own: fewest bytes of each run, or that a guard demands. Look-around may let pass.
    """
    operation = code[OPERATION_AT] + OPERATION_WIDTH * number
    kind = code[operation]
    here = length_of(code, target_of(code, operation))
    if kind == GUARD:
        return max(here, wide(own[number]))
    if kind > LOOP:
        return here + wide(own[number])
    inner = length_of(code, wide(code[code[BODY_AT] + 2 * code[operation + 1]]))
    if kind == JUMP:
        return here + inner
    return here + (wide(code[operation + 2]) * inner if code[operation + 2] > 0 else 0)


@kernel
def node_length(code: I32, own: I64, node: int) -> int:
    """Fewest bytes from a node to the end of its body, UNREACHABLE if no way is known."""
    at = code[NODE_AT] + NODE_WIDTH * node
    if code[at + FLAGS] & FINAL:
        return 0
    best = UNREACHABLE
    for edge in range(code[at + EDGES], code[at + NODE_WIDTH + EDGES]):
        best = min(best, 1 + length_of(code, wide(code[code[EDGE_AT] + 2 * edge + 1])))
    for use in range(code[at + OPERATIONS], code[at + NODE_WIDTH + OPERATIONS]):
        best = min(best, operation_length(code, own, wide(code[code[USE_AT] + use])))
    return best


@inlined
def depend(first: I64, dependants: I64, on: int, node: int, listing: int) -> None:
    """Count a dependant, or (listing) put it into its place."""
    if listing:
        dependants[first[on]] = node
    first[on] += 1


@kernel
def settle_lengths(code: I32, own: I64, first: I64, dependants: I64, queue: I64, queued: U8) -> None:
    """Knuth's generalisation of shortest paths (1977), by label correction. Lengths are UNREACHABLE before.

    Scratch: first (N + 1,) zeros, dependants (E + 2 U,), queue (N,), queued (N,) zeros; E edges and U uses.
    """
    nodes = wide(code[NODES])
    for listing in range(2):
        for node in range(nodes):
            at = code[NODE_AT] + NODE_WIDTH * node
            for edge in range(code[at + EDGES], code[at + NODE_WIDTH + EDGES]):
                depend(first, dependants, wide(code[code[EDGE_AT] + 2 * edge + 1]), node, listing)
            for use in range(code[at + OPERATIONS], code[at + NODE_WIDTH + OPERATIONS]):
                operation = code[OPERATION_AT] + OPERATION_WIDTH * code[code[USE_AT] + use]
                depend(first, dependants, target_of(code, operation), node, listing)
                if code[operation] <= LOOP:
                    depend(first, dependants, wide(code[code[BODY_AT] + 2 * code[operation + 1]]), node, listing)
        if listing == 0:
            total = 0
            for node in range(nodes + 1):
                size = first[node]
                first[node] = total
                total += size
    # The dependants of a node now end at first[node], and begin where those of the node before it end.
    waiting = 0
    for node in range(nodes):
        if code[code[NODE_AT] + NODE_WIDTH * node + FLAGS] & FINAL:
            code[code[NODE_AT] + NODE_WIDTH * node + LENGTH] = 0
            queue[waiting] = node
            queued[node] = 1
            waiting += 1
    head = 0
    while waiting > 0:
        changed = queue[head]
        head = (head + 1) % nodes
        waiting -= 1
        queued[changed] = 0
        begin = first[changed - 1] if changed > 0 else 0
        for i in range(begin, first[changed]):
            node = dependants[i]
            length = node_length(code, own, node)
            if length < length_of(code, node):
                code[code[NODE_AT] + NODE_WIDTH * node + LENGTH] = length
                if queued[node] == 0:
                    queue[(head + waiting) % nodes] = node
                    queued[node] = 1
                    waiting += 1


@kernel
def tell_apart(alone: U8, sets: U8, classes: U8, ids: I64) -> int:
    """Fill in the class of each byte (256,), the coarsest partition that tells the sets' members from the others; how
    many classes there are.

    alone: (256,) bytes that are in a class of their own whatever the sets say. sets: (R, 32) bits. ids: (512,) scratch;
    then the lowest byte of each class.
    """
    count, shared = 0, -1
    for byte in range(256):
        if alone[byte]:
            classes[byte] = count
            count += 1
        else:
            if shared < 0:
                shared = count
                count += 1
            classes[byte] = shared
    for r in range(sets.shape[0]):
        for i in range(2 * count):
            ids[i] = -1
        count = 0
        for byte in range(256):
            key = 2 * wide(classes[byte]) + ((sets[r, byte >> 3] >> (byte & 7)) & 1)
            if ids[key] < 0:
                ids[key] = count
                count += 1
            classes[byte] = ids[key]
    for byte in range(255, -1, -1):
        ids[classes[byte]] = byte
    return count
