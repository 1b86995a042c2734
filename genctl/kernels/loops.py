"""Masks of the inside of a loop, worked out once for all places where the loop stands.

survey(trie, machine, start, rounds, exits, ...)       # of every token: how many rounds does it begin?
next_loop(code, heap, head, state, number, found)      # is a state inside a loop, and in which round?

A token that stays inside a loop over characters is allowed wherever enough rounds are left, whatever the loop is part
of. What is left to check at each place are the tokens that leave it: they pass an *exit*, the node behind the first
byte that no round can begin with.
"""

from __future__ import annotations

from genctl.kernels.addresses import machine_at, scratch_at, sought_at, trie_at
from genctl.kernels.automaton import BYTE, DEPTH, END, TOKEN, after, mark_subtree, mark_tokens
from genctl.kernels.compiled import kernel, wide
from genctl.kernels.configurations import (
    BODY_AT,
    COLUMNS,
    EDGE_AT,
    EDGES,
    FIRST,
    FRAME,
    FULL,
    ITEM,
    LOOP,
    MEMBER_AT,
    NODE_AT,
    NODE_WIDTH,
    NODES,
    OPERATION_AT,
    OPERATION_WIDTH,
    STACK,
    STATE,
    begin,
)
from genctl.kernels.configurations import END as STATE_END
from genctl.kernels.records import DEAD, I16, I32, I64, U8, U32, Bool, Machine, Plain, TokenTrie
from genctl.kernels.staying import settles

IN_LOOP, SETTLED = -1, -2  # in place of a byte


@kernel
def survey(
    trie: TokenTrie, machine: Machine, start: int, rounds: I32, exits: I32, path: I32, done: I32, at: I64
) -> int:
    """Walk over the trie through as many texts of the automaton as fit, one after the other.

    rounds (V,): how many texts each token begins, -1 where it does not stay inside. exits (nodes, rounds done): the
    nodes whose byte no text can begin with, where one has just ended. path, done: (deepest node + 1,) scratch. at: next
    node, number of exits. Returns 0, or what the automaton has to be extended with before going on.
    """
    while at[0] < trie.node.shape[0]:
        node = at[0]
        depth = trie.node[node, DEPTH]
        before = wide(path[depth - 1])
        column = wide(machine.classes[trie.node[node, BYTE]])
        state = after(machine, before, column)
        if state < 0:
            return state
        if state == DEAD:
            if before == start and depth > 1:
                exits[at[1], 0] = node
                exits[at[1], 1] = done[depth - 1]
                at[1] += 1
            at[0] = trie.node[node, END]
            continue
        begun = wide(done[depth - 1]) + (before == start)
        path[depth] = start if machine.accepting[state] else state
        done[depth] = begun
        token = trie.node[node, TOKEN]
        while token >= 0:
            rounds[token] = begun
            token = trie.same[token]
        at[0] += 1
    return 0


@kernel
def mark_leaving(
    trie: TokenTrie, machine: Machine, round_: U8, state: int, out: U32, path: I32, missed: I32, count: I64
) -> int:
    """Mark what can be read of the tokens that leave a loop after some rounds.

    Returns 0, or what the automaton has to be extended with before all is done again.

    trie: below the children of the root, one for each number of rounds, are the tokens' rest from the exit on; state:
    between two rounds; round_: bytes of a round, any other leads to the same state.
    """
    node, rounds = 1, 0
    while node < trie.node.shape[0]:
        while rounds < trie.node[node, BYTE]:
            for byte in round_:
                state = after(machine, state, wide(machine.classes[byte]))
                if state <= DEAD:
                    return state
            rounds += 1
        end = wide(trie.node[node, END])
        node += 1
        while node < end:
            if not mark_subtree(trie, machine, node, state, out, path, missed, count):
                return FULL
            node = wide(trie.node[node, END])
    return 0


@kernel
def loop_of(code: I32, heap: I32, head: I64, number: int, found: I64) -> int:
    """The loop operation between whose rounds item `number` stands, and (rounds done, side row, stack below) in found;
    -1 if there is none.
    """
    nodes = wide(code[NODES])
    item = head[ITEM] + 3 * number
    stack = head[STACK] + 3 * heap[item + 2]
    if heap[stack + 1] - heap[stack] != 1:
        return -1
    frame = head[FRAME] + 3 * heap[stack]
    operation = wide(heap[frame]) - nodes
    if operation < 0 or code[code[OPERATION_AT] + OPERATION_WIDTH * operation] != LOOP:
        return -1
    body = code[code[OPERATION_AT] + OPERATION_WIDTH * operation + 1]
    if heap[item] != code[code[BODY_AT] + 2 * body]:
        return -1
    found[0], found[1], found[2] = heap[frame + 1], heap[item + 1], heap[frame + 2]
    return operation


@kernel
def reads(code: I32, node: int, column: int) -> bool:
    """Has the node a move by this byte class?"""
    at = code[NODE_AT] + NODE_WIDTH * node
    for e in range(code[at + EDGES], code[at + NODE_WIDTH + EDGES]):
        if code[code[MEMBER_AT] + code[COLUMNS] * code[code[EDGE_AT] + 2 * e] + column]:
            return True
    return False


@kernel
def apart(code: I32, heap: I32, head: I64, state: int, number: int) -> bool:
    """Can no other item of the state read a byte that item `number` can read?"""
    chosen = wide(heap[head[ITEM] + 3 * number])
    for i in range(heap[head[STATE] + 5 * state + FIRST], heap[head[STATE] + 5 * state + STATE_END]):
        node = wide(heap[head[ITEM] + 3 * i])
        if i == number:
            continue
        if node >= code[NODES]:
            return False
        for column in range(wide(code[COLUMNS])):
            if reads(code, node, column) and reads(code, chosen, column):
                return False
    return True


@kernel
def next_loop(code: I32, heap: I32, head: I64, state: int, number: int, found: I64) -> bool:
    """Has a state an item that stands between the rounds of a loop? found: `loop_of` the first one from item `number`
    on (-1: of all), the operation, the number of the item, and is it `apart` from the others.
    """
    if code[NODES] == 0:
        return False
    first, end = wide(heap[head[STATE] + 5 * state + FIRST]), wide(heap[head[STATE] + 5 * state + STATE_END])
    if number < first:
        number = first
    while number < end:
        found[3] = loop_of(code, heap, head, number, found)
        if found[3] >= 0:
            found[4] = number
            found[5] = apart(code, heap, head, state, number)
            return True
        number += 1
    return False


@kernel
def behind_loop(
    classes: U8, accepting: Bool, code: I32, heap: I32, head: I64, operation: int, below: int, found: Bool
) -> int:
    """Set the bytes (256,) that may be read behind the last round of a loop. 0, or MISS or FULL.

    Where automata are embedded, more are set than can be read.
    """
    target = code[code[OPERATION_AT] + OPERATION_WIDTH * operation + 4]
    state = begin(accepting, code, heap, head, wide(target), below, wide(0))
    if state < 0:
        return state
    for i in range(heap[head[STATE] + 5 * state + FIRST], heap[head[STATE] + 5 * state + STATE_END]):
        node = wide(heap[head[ITEM] + 3 * i])
        for byte in range(256):
            if not found[byte]:
                found[byte] = node >= code[NODES] or reads(code, node, wide(classes[byte]))
    return 0


@kernel
def mark_plain(walk: I64, places: I64, state: int, out: U32) -> int:
    """`mark_tokens` for Python, unless the state has a loop item (IN_LOOP; found as `next_loop` has it) or `settles`
    (SETTLED). walk, places: see addresses.py.
    """
    automaton = machine_at(places)
    path, missed, count = scratch_at(walk)
    skipped, found, enters, stays = sought_at(walk)
    if next_loop(automaton.code, automaton.heap, automaton.head, state, wide(-1), found):
        return IN_LOOP
    if settles(automaton, state, enters, stays):
        return SETTLED
    return mark_tokens(trie_at(walk), automaton, state, wide(0), skipped, out, path, missed, count)


@kernel
def mark_loop(
    walk: I64, leaving: Plain, places: I64, round_: U8, begins: Bool, inside: U32, state: int, out: U32
) -> int:
    """The mask between two rounds of a loop behind which only other bytes can be read than those that begin a round.

    inside: the tokens that stay in the loop; leaving, round_: see `mark_leaving`. Returns 0; 1 where nodes of the trie
    were missed, which comes before `mark_leaving`; or what the automaton has to be extended with before all is done
    again.
    """
    automaton = machine_at(places)
    path, missed, count = scratch_at(walk)
    for i in range(out.shape[0]):
        out[i] = inside[i]
    if mark_tokens(trie_at(walk), automaton, state, wide(0), begins, out, path, missed, count) < 256:
        return FULL
    if count[0] > 0:
        return 1
    return mark_leaving(TokenTrie(*leaving), automaton, round_, state, out, path, missed, count)


@kernel
def set_bits(out: U32, rounds: I16, most: int) -> None:
    """Set the bits of the tokens (V,) that begin at least one and at most so many rounds."""
    for token in range(rounds.shape[0]):
        if 0 < rounds[token] <= most:
            out[token >> 5] |= 1 << (token & 31)
