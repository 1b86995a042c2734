"""The product of two automata as a whole table, for those that are small.

found = product_table(first, second, ..., table, pairs, slots, progress)
"""

from __future__ import annotations

from genctl.kernels.compiled import kernel, wide
from genctl.kernels.configurations import mixed, step
from genctl.kernels.records import DEAD, I32, I64, UNREACHABLE, Bool, Machine

FIRST_LACKS, SECOND_LACKS, TOO_LARGE = 1, 2, 3  # why the table is not finished


@kernel
def pair_state(pairs: I32, slots: I32, progress: I64, a: int, b: int) -> int:
    """The state of a pair, a new one if it is met for the first time; -1 if there are too many."""
    at = mixed(mixed(11, a), b) & (slots.shape[0] - 1)
    while slots[at] > 0:
        known = wide(slots[at])
        if pairs[known, 0] == a and pairs[known, 1] == b:
            return known
        at = (at + 1) & (slots.shape[0] - 1)
    new = wide(progress[0])
    if new >= pairs.shape[0]:
        return -1
    pairs[new, 0] = a
    pairs[new, 1] = b
    slots[at] = new
    progress[0] = new + 1
    return new


@kernel
def product_table(
    first: Machine,
    second: Machine,
    columns: I32,
    difference: bool,
    table: I32,
    pairs: I32,
    slots: I32,
    progress: I64,
) -> int:
    """Fill the rows of table (limit, C) for all pairs that can be reached; 0, or why not.

    columns (C, 2): the byte class of each automaton. pairs (limit, 2), slots: hash table of pairs. progress: states
    met (state 0 is dead, 1 the start, both given), states whose rows are filled.
    """
    while progress[1] < progress[0]:
        state = progress[1]
        a, b = wide(pairs[state, 0]), wide(pairs[state, 1])
        for column in range(columns.shape[0]):
            p = step(first.next, first.accepting, first.code, first.heap, first.head, a, wide(columns[column, 0]))
            if p < 0:
                return FIRST_LACKS
            q = step(second.next, second.accepting, second.code, second.heap, second.head, b, wide(columns[column, 1]))
            if q < 0:
                return SECOND_LACKS
            target = DEAD
            if p != DEAD and (q != DEAD or difference):
                target = pair_state(pairs, slots, progress, p, q)
                if target < 0:
                    return TOO_LARGE
            table[state, column] = target
        progress[1] += 1
    return 0


@kernel
def settle_distances(table: I32, accepting: Bool, distance: I64, queue: I64, first: I64, sources: I64) -> None:
    """Fewest bytes to acceptance of each of the S states, breadth first from the accepting ones.

    distance (S,); scratch: queue (S,), first (S + 1,) zeros, sources (S * C,).
    """
    states, columns = table.shape
    for q in range(states):
        for c in range(columns):
            first[table[q, c]] += 1
    total = 0
    for q in range(states + 1):
        total, first[q] = total + first[q], total
    for q in range(states):
        for c in range(columns):
            sources[first[table[q, c]]] = q
            first[table[q, c]] += 1
    waiting = 0
    for q in range(states):
        distance[q] = UNREACHABLE
        if accepting[q]:
            distance[q] = 0
            queue[waiting] = q
            waiting += 1
    done = 0
    while done < waiting:
        q = queue[done]
        done += 1
        for i in range(first[q - 1] if q > 0 else 0, first[q]):
            p = sources[i]
            if p != DEAD and distance[p] == UNREACHABLE:
                distance[p] = distance[q] + 1
                queue[waiting] = p
                waiting += 1
