"""Subset construction over graph-structured stacks, one transition at a time.

target = step(next_, accepting, code, heap, head, state, column)
if target == MISS: ...       # a row that only Python can fill: head[MISS_REGION], [MISS_ROW], [MISS_COLUMN]
if target == FULL: ...       # a region of the heap is too short: head[FULL_REGION]; lengthen it and ask again

A configuration is a sorted set of items (node, side row, stack); a stack is the sorted set of its possible top
frames, each over the stack below (Tomita 1985; Scott & Johnstone 2010). Both are hash-consed, so equal
configurations are one int. A body (a rule, or what a loop repeats) that is entered reads at least one byte before
it ends - operations that can read nothing are skipped in advance by the program - so frames are only ever popped
off finished stacks, and bodies entered at one position are completed in the order of their ranks.

`code` is a program (automata/program.py), `heap` holds all that grows, as regions of rows of int32 whose offset,
room and use stand in `head`: three arrays, so that calls between kernels cost little.
"""

from __future__ import annotations

import numpy as np

from genctl.kernels.compiled import inlined, kernel, wide
from genctl.kernels.records import DEAD, I32, I64, UNKNOWN, UNREACHABLE, Bool

MISS, FULL = -2, -3  # statuses of `step` besides a state

# Regions of the heap (their columns), and what head has on each: offset at [region], room at [REGIONS + region],
# rows in use at [2 * REGIONS + region].
STATE = 0  # first item, end of items, look-behind row, flags, fewest bytes to acceptance
ITEM = 1  # node (or N + leaf row), side row, stack
STACK = 2  # first frame, end of frames, fewest bytes to the end of the text
FRAME = 3  # node to go on at (or N + loop; BOTTOM), rounds done, stack below
STATE_HASH = 4  # open addressing, 0 is empty
STACK_HASH = 5  # stack + 1
JOIN = 6  # two stacks, 1 + the stack that is either of them
LEAF = 7  # accepting, fewest bytes, run; then the row after each byte class
SIDE = 8  # SIDE_HEAD columns; the row behind each guard; the row after each byte class
BEHIND = 9  # does each guard let pass; the row after each byte class
FREE = 10  # states that were forgotten and may be used again
WORK = 11  # scratch of one step from here on: what to visit (fresh, node, side, stack, -) or to call
FOUND = 12  # node, side, stack
SEEN = 13  # stamp, three keys, value
LINK = 14  # next link, node, rounds, below
CALL = 15  # body, side, first link, place in the heap of ranks
ROWS = 16  # node, rounds, stack
PAIR = 17  # two stacks
COLUMN = 18  # byte classes by which different things can be read
REGIONS = 19
WIDTHS = (5, 3, 3, 3, 1, 1, 3, 0, 0, 0, 1, 5, 3, 5, 4, 4, 3, 2, 1)

MISS_REGION, MISS_ROW, MISS_COLUMN, FULL_REGION, STAMP, ACCEPTS, HEAPED = range(3 * REGIONS, 3 * REGIONS + 7)
HEAD = 3 * REGIONS + 7
ROOM, USED = REGIONS, 2 * REGIONS

# Rows of code: sizes, and where its tables begin.
NODES, NODE_AT, EDGE_AT, USE_AT, OPERATION_AT, BODY_AT, MEMBER_AT, COLUMNS, GUARDS, BEHINDS, CLASS_AT = range(11)
CODE = 11

# Columns of nodes (NODE_WIDTH) and their flags; kinds of operations (OPERATION_WIDTH).
EDGES, OPERATIONS, FLAGS, LENGTH, ABSORBS = range(5)
NODE_WIDTH, OPERATION_WIDTH = 5, 5
FINAL, EVERYTHING = 1, 2
JUMP, LOOP, RUN, GUARD, TRACK, RELEASE = range(1, 7)

# Columns of SIDE before the guards. Words that read along have rows for the nodes of their prefix tree, with the code
# point that leads to each and the rows of a child and of the next sibling (0: none), and for begun characters.
MET, LEAVES, DETOUR, WORDS, LETTER, CHILD, SIBLING = range(7)
SIDE_HEAD = 7
INSIDE, OUTSIDE = 1, 2  # in WORDS: a text spells one of the words, or none of them

# Columns of STATE and its flags.
FIRST, END, BEHIND_ROW, STATE_FLAGS, DISTANCE = range(5)
ACCEPTING, UNIVERSAL = 1, 2

BOTTOM = -1  # the frame below every stack: the text itself ends here
WHOLE = -2  # in a link: all frames of the stack below it, instead of one frame
LEFT, ENTERED = -3, -4  # first keys of SEEN for stacks that were popped, and for calls
ENTER = 2  # in WORK, beside 0 and 1 (fresh): a call
REFUSED = -2  # a guard that does not let pass, a demand that cannot be met any more


@inlined
def mixed(value: int, more: int) -> int:
    """A hash of two numbers, 30 bits."""
    value = ((value ^ (more & 0x3FFFFFFF)) * 1000003) & 0x3FFFFFFF
    return value ^ (value >> 13)


@inlined
def row(head: I64, region: int, width: int, index: int) -> int:
    """Where a row begins in the heap."""
    return wide(head[region] + width * index)


@inlined
def side_at(code: I32, head: I64, side: int) -> int:
    """Where a row of SIDE begins in the heap."""
    return wide(head[SIDE] + (SIDE_HEAD + code[GUARDS] + code[COLUMNS]) * side)


@inlined
def full(head: I64, region: int) -> int:
    head[FULL_REGION] = region
    return FULL


@inlined
def missing(head: I64, region: int, index: int, column: int) -> int:
    head[MISS_REGION] = region
    head[MISS_ROW] = index
    head[MISS_COLUMN] = column
    return MISS


@inlined
def push(heap: I32, head: I64, kind: int, node: int, side: int, stack: int, rounds: int) -> bool:
    """Put something onto the work list; False if there is no room."""
    n = head[USED + WORK]
    if n >= head[ROOM + WORK]:
        head[FULL_REGION] = WORK
        return False
    at = head[WORK] + 5 * n
    heap[at] = kind
    heap[at + 1] = node
    heap[at + 2] = side
    heap[at + 3] = stack
    heap[at + 4] = rounds
    head[USED + WORK] = n + 1
    return True


@kernel
def seen_at(heap: I32, head: I64, first: int, second: int, third: int) -> int:
    """Where the row with these keys is in SEEN, or the free row where it belongs; FULL if too few are free."""
    room = head[ROOM + SEEN]
    if 2 * head[USED + SEEN] >= room:
        return full(head, SEEN)
    stamp = head[STAMP]
    base = head[SEEN]
    index = mixed(mixed(mixed(7, first), second), third) & (room - 1)
    while True:
        at = base + 5 * index
        if heap[at] != stamp:
            break
        if heap[at + 1] == first and heap[at + 2] == second and heap[at + 3] == third:
            break
        index = (index + 1) & (room - 1)
    return wide(at)


@kernel
def first_time(heap: I32, head: I64, first: int, second: int, third: int) -> int:
    """1 if these keys are new, 0 if not; FULL."""
    at = seen_at(heap, head, first, second, third)
    if at == FULL:
        return FULL
    if heap[at] == head[STAMP]:
        return 0
    heap[at] = head[STAMP]
    heap[at + 1] = first
    heap[at + 2] = second
    heap[at + 3] = third
    head[USED + SEEN] += 1
    return 1


# -- calls, taken in the order of their ranks: the last column of CALL is a binary heap of calls


@inlined
def rank_of(code: I32, heap: I32, head: I64, place: int) -> int:
    index = heap[head[CALL] + 4 * place + 3]
    return wide(code[code[BODY_AT] + 2 * heap[head[CALL] + 4 * index] + 1])


@inlined
def swap_places(heap: I32, head: I64, i: int, j: int) -> None:
    a, b = head[CALL] + 4 * i + 3, head[CALL] + 4 * j + 3
    heap[a], heap[b] = heap[b], heap[a]


@kernel
def enter(code: I32, heap: I32, head: I64, node: int, side: int, below: int, rounds: int, body: int) -> int:
    """Remember that a body is entered with a frame (node WHOLE: with the frames of below) on its stack. 0 or FULL."""
    at = seen_at(heap, head, wide(ENTERED), body, side)
    if at == FULL:
        return FULL
    if heap[at] == head[STAMP]:
        index = wide(heap[at + 4])
    else:
        index = wide(head[USED + CALL])
        if index >= head[ROOM + CALL]:
            return full(head, CALL)
        first_time(heap, head, wide(ENTERED), body, side)
        heap[at + 4] = index
        head[USED + CALL] = index + 1
        call = row(head, CALL, 4, index)
        heap[call] = body
        heap[call + 1] = side
        heap[call + 2] = -1
        place = wide(head[HEAPED])
        head[HEAPED] += 1
        heap[head[CALL] + 4 * place + 3] = index
        while place > 0:
            parent = (place - 1) >> 1
            if rank_of(code, heap, head, parent) <= rank_of(code, heap, head, place):
                break
            swap_places(heap, head, place, parent)
            place = parent
    n = head[USED + LINK]
    if n >= head[ROOM + LINK]:
        return full(head, LINK)
    call = row(head, CALL, 4, index)
    link = row(head, LINK, 4, n)
    heap[link] = heap[call + 2]
    heap[link + 1] = node
    heap[link + 2] = rounds
    heap[link + 3] = below
    heap[call + 2] = n
    head[USED + LINK] = n + 1
    return 0


@kernel
def lowest(code: I32, heap: I32, head: I64) -> int:
    """Take the call of the lowest rank out of the heap."""
    result = wide(heap[head[CALL] + 3])
    head[HEAPED] -= 1
    size = wide(head[HEAPED])
    heap[head[CALL] + 3] = heap[head[CALL] + 4 * size + 3]
    place = 0
    while 2 * place + 1 < size:
        child = 2 * place + 1
        if child + 1 < size and rank_of(code, heap, head, child + 1) < rank_of(code, heap, head, child):
            child += 1
        if rank_of(code, heap, head, place) <= rank_of(code, heap, head, child):
            break
        swap_places(heap, head, place, child)
        place = child
    return result


# -- stacks


@kernel
def frame_length(code: I32, heap: I32, head: I64, node: int, rounds: int, below: int) -> int:
    """Fewest bytes from a frame to the end of the text."""
    if node == BOTTOM:
        return 0
    nodes = code[NODE_AT]
    if node < code[NODES]:
        here = wide(code[nodes + NODE_WIDTH * node + LENGTH])
    else:
        operation = code[OPERATION_AT] + OPERATION_WIDTH * (node - code[NODES])
        missing_rounds = wide(code[operation + 2]) - rounds - 1
        here = wide(code[nodes + NODE_WIDTH * code[operation + 4] + LENGTH])
        if missing_rounds > 0:
            entry = code[code[BODY_AT] + 2 * code[operation + 1]]
            here += missing_rounds * wide(code[nodes + NODE_WIDTH * entry + LENGTH])
    here += wide(heap[head[STACK] + 3 * below + 2])
    return here if here < UNREACHABLE else UNREACHABLE


@kernel
def intern_stack(code: I32, heap: I32, head: I64, at: int, size: int) -> int:
    """The stack with the frames that stand at `at` in the heap (sorted, merged), or FULL."""
    value = 3
    for i in range(at, at + 3 * size):
        value = mixed(value, wide(heap[i]))
    room = wide(head[ROOM + STACK_HASH])
    slot = value & (room - 1)
    table, stacks, frames = wide(head[STACK_HASH]), wide(head[STACK]), wide(head[FRAME])
    while heap[table + slot] > 0:
        known = wide(heap[table + slot]) - 1
        first = wide(heap[stacks + 3 * known])
        if heap[stacks + 3 * known + 1] - first == size:
            same = True
            for i in range(3 * size):
                if heap[frames + 3 * first + i] != heap[at + i]:
                    same = False
                    break
            if same:
                return known
        slot = (slot + 1) & (room - 1)
    new, first = wide(head[USED + STACK]), wide(head[USED + FRAME])
    if 2 * new >= room:
        return full(head, STACK_HASH)
    if new >= head[ROOM + STACK]:
        return full(head, STACK)
    if first + size > head[ROOM + FRAME]:
        return full(head, FRAME)
    shortest = UNREACHABLE
    for i in range(size):
        length = frame_length(
            code, heap, head, wide(heap[at + 3 * i]), wide(heap[at + 3 * i + 1]), wide(heap[at + 3 * i + 2])
        )
        if length < shortest:
            shortest = length
    for i in range(3 * size):
        heap[frames + 3 * first + i] = heap[at + i]
    heap[stacks + 3 * new] = first
    heap[stacks + 3 * new + 1] = first + size
    heap[stacks + 3 * new + 2] = shortest
    heap[table + slot] = new + 1
    head[USED + STACK] = new + 1
    head[USED + FRAME] = first + size
    return new


@kernel
def join_at(heap: I32, head: I64, a: int, b: int) -> int:
    """Where the join of two stacks is in JOIN, or the free row where it belongs."""
    room = head[ROOM + JOIN]
    index = mixed(mixed(5, a), b) & (room - 1)
    while True:
        at = head[JOIN] + 3 * index
        if heap[at + 2] == 0 or (heap[at] == a and heap[at + 1] == b):
            break
        index = (index + 1) & (room - 1)
    return wide(at)


@kernel
def merged_frames(heap: I32, head: I64, x: int, y: int, out: int, room: int) -> int:
    """Write the frames of two stacks, as one sorted list, to `out` in the heap; how many.

    FULL: there is no room. -1: a join of what is below comes first; its stacks are appended to PAIR.
    """
    frames = wide(head[FRAME])
    i, end_i = wide(heap[head[STACK] + 3 * x]), wide(heap[head[STACK] + 3 * x + 1])
    j, end_j = wide(heap[head[STACK] + 3 * y]), wide(heap[head[STACK] + 3 * y + 1])
    if end_i - i + end_j - j > room:
        return full(head, ROWS)
    size = 0
    while i < end_i or j < end_j:
        p, q = frames + 3 * i, frames + 3 * j
        order = 0
        if j == end_j:
            order = -1
        elif i == end_i:
            order = 1
        elif heap[p] != heap[q]:
            order = -1 if heap[p] < heap[q] else 1
        elif heap[p + 1] != heap[q + 1]:
            order = -1 if heap[p + 1] < heap[q + 1] else 1
        source = p if order <= 0 else q
        below = wide(heap[source + 2])
        if order == 0 and heap[q + 2] != below:
            other = wide(heap[q + 2])
            low, high = (below, other) if below < other else (other, below)
            at = join_at(heap, head, low, high)
            if heap[at + 2] == 0:
                n = head[USED + PAIR]
                if n >= head[ROOM + PAIR]:
                    return full(head, PAIR)
                heap[head[PAIR] + 2 * n] = low
                heap[head[PAIR] + 2 * n + 1] = high
                head[USED + PAIR] = n + 1
                return -1
            below = wide(heap[at + 2]) - 1
        heap[out + 3 * size] = heap[source]
        heap[out + 3 * size + 1] = heap[source + 1]
        heap[out + 3 * size + 2] = below
        size += 1
        i += order <= 0
        j += order >= 0
    return size


@kernel
def join(code: I32, heap: I32, head: I64, a: int, b: int, out: int, room: int) -> int:
    """The stack that is either of two: frames with the same node and rounds share the join of what is below.

    out, room: rows of the heap to work in. FULL if something is too short.
    """
    if a == b:
        return a
    low, high = (a, b) if a < b else (b, a)
    at = join_at(heap, head, low, high)
    if heap[at + 2] > 0:
        return wide(heap[at + 2]) - 1
    head[USED + PAIR] = 1  # joins to be made, each before the ones that need it
    heap[head[PAIR]] = low
    heap[head[PAIR] + 1] = high
    while head[USED + PAIR] > 0:
        last = head[PAIR] + 2 * (head[USED + PAIR] - 1)
        x, y = wide(heap[last]), wide(heap[last + 1])
        size = merged_frames(heap, head, x, y, out, room)
        if size == FULL:
            return FULL
        if size < 0:
            continue
        result = intern_stack(code, heap, head, out, wide(size))
        if result == FULL:
            return FULL
        if 2 * head[USED + JOIN] >= head[ROOM + JOIN]:
            return full(head, JOIN)
        at = join_at(heap, head, x, y)
        if heap[at + 2] == 0:
            head[USED + JOIN] += 1
        heap[at] = x
        heap[at + 1] = y
        heap[at + 2] = result + 1
        head[USED + PAIR] -= 1
    return wide(heap[join_at(heap, head, low, high) + 2]) - 1


@kernel
def absorbed(code: I32, heap: I32, head: I64, node: int, below: int, out: int, room: int) -> int:
    """The stack below a frame that goes on at node, without frames that the node repeats itself; or FULL.

    A node that absorbs h reads a language L with L L(h) = L, so a frame (h, X) right below it is as good as X.
    """
    if node < 0 or node >= code[NODES]:
        return below
    h = code[code[NODE_AT] + NODE_WIDTH * node + ABSORBS]
    if h < 0:
        return below
    first, end = wide(heap[head[STACK] + 3 * below]), wide(heap[head[STACK] + 3 * below + 1])
    size = 0
    for i in range(first, end):
        frame = head[FRAME] + 3 * i
        if heap[frame] != h:
            if size >= room:
                return full(head, ROWS)
            for k in range(3):
                heap[out + 3 * size + k] = heap[frame + k]
            size += 1
    if size == end - first:
        return below
    result = -1
    if size > 0:
        result = intern_stack(code, heap, head, out, wide(size))
    for i in range(first, end):
        if result == FULL:
            break
        frame = head[FRAME] + 3 * i
        if heap[frame] == h:
            under = wide(heap[frame + 2])
            result = under if result < 0 else join(code, heap, head, result, under, out, room)
    return result


@inlined
def before(heap: I32, p: int, q: int) -> bool:
    """Lexical order of two rows by their first two columns."""
    return bool(heap[p] < heap[q] or (heap[p] == heap[q] and heap[p + 1] < heap[q + 1]))


@kernel
def merge_rows(code: I32, heap: I32, head: I64, at: int, size: int, out: int, room: int) -> int:
    """Sort rows; those that are equal but for their last column, a stack, become one with the join. How many, or FULL.

    Shell's sort with Knuth's gaps.
    """
    gap = 1
    while gap < size // 3:
        gap = 3 * gap + 1
    while gap > 0:
        for i in range(gap, size):
            j = i
            while j >= gap and before(heap, at + 3 * j, at + 3 * (j - gap)):
                p, q = at + 3 * j, at + 3 * (j - gap)
                for k in range(3):
                    heap[p + k], heap[q + k] = heap[q + k], heap[p + k]
                j -= gap
        gap //= 3
    kept = 0
    for i in range(size):
        p, q = at + 3 * i, at + 3 * (kept - 1)
        if kept > 0 and heap[q] == heap[p] and heap[q + 1] == heap[p + 1]:
            both = join(code, heap, head, wide(heap[q + 2]), wide(heap[p + 2]), out, room)
            if both == FULL:
                return FULL
            heap[q + 2] = both
        else:
            for k in range(3):
                heap[q + 3 + k] = heap[p + k]
            kept += 1
    return kept


@kernel
def called_stack(code: I32, heap: I32, head: I64, index: int) -> int:
    """The stack of a call: the frames of all its callers, or FULL."""
    at = wide(heap[head[CALL] + 4 * index + 2])
    link = wide(head[LINK]) + 4 * at
    if heap[link] < 0 and heap[link + 1] == WHOLE:
        return wide(heap[link + 3])
    rows, room = wide(head[ROWS]), wide(head[ROOM + ROWS])
    size = 0
    while at >= 0:
        link = head[LINK] + 4 * at
        below = wide(heap[link + 3])
        if heap[link + 1] == WHOLE:
            for i in range(heap[head[STACK] + 3 * below], heap[head[STACK] + 3 * below + 1]):
                if size >= room:
                    return full(head, ROWS)
                for k in range(3):
                    heap[rows + 3 * size + k] = heap[head[FRAME] + 3 * i + k]
                size += 1
        else:
            if size >= room:
                return full(head, ROWS)
            node = wide(heap[link + 1])
            below = absorbed(code, heap, head, node, below, rows + 3 * size, room - size)
            if below == FULL:
                return FULL
            heap[rows + 3 * size] = node
            heap[rows + 3 * size + 1] = heap[link + 2]
            heap[rows + 3 * size + 2] = below
            size += 1
        at = wide(heap[link])
    size = merge_rows(code, heap, head, rows, size, rows + 3 * size, room - size)
    return FULL if size == FULL else intern_stack(code, heap, head, rows, wide(size))


# -- configurations


@kernel
def item_length(code: I32, heap: I32, head: I64, node: int, side: int, stack: int) -> int:
    """Fewest bytes from an item to the end of the text (a lower bound where look-around is used)."""
    nodes = code[NODE_AT]
    if node < code[NODES]:
        here = wide(code[nodes + NODE_WIDTH * node + LENGTH])
    else:
        leaf = head[LEAF] + (3 + code[COLUMNS]) * (node - code[NODES])
        target = code[code[OPERATION_AT] + OPERATION_WIDTH * heap[leaf + 2] + 2]
        here = wide(heap[leaf + 1]) + wide(code[nodes + NODE_WIDTH * target + LENGTH])
    here += wide(heap[head[STACK] + 3 * stack + 2])
    here += wide(heap[side_at(code, head, side) + DETOUR])
    return here if here < UNREACHABLE else UNREACHABLE


@kernel
def intern_state(accepting: Bool, code: I32, heap: I32, head: I64, behind: int) -> int:
    """The state of the items found, DEAD if there are none and the text cannot end here; or FULL."""
    found = wide(head[FOUND])
    size = wide(head[USED + FOUND])
    if size > 1:
        size = merge_rows(code, heap, head, found, size, wide(head[ROWS]), wide(head[ROOM + ROWS]))
        if size == FULL:
            return FULL
    flags = ACCEPTING if head[ACCEPTS] else 0
    if flags:
        for i in range(size):
            at = found + 3 * i
            free = heap[at + 1] == 0 and heap[at + 2] == 0 and heap[at] < code[NODES]
            if free and code[code[NODE_AT] + NODE_WIDTH * heap[at] + FLAGS] & EVERYTHING:
                for k in range(3):
                    heap[found + k] = heap[at + k]
                size = 1
                flags |= UNIVERSAL
                break
    if size == 0 and not flags:
        return DEAD
    value = mixed(mixed(1, flags), behind)
    for i in range(found, found + 3 * size):
        value = mixed(value, wide(heap[i]))
    room = wide(head[ROOM + STATE_HASH])
    slot = value & (room - 1)
    table, states, items = wide(head[STATE_HASH]), wide(head[STATE]), wide(head[ITEM])
    while heap[table + slot] > 0:
        known = wide(heap[table + slot])
        at = states + 5 * known
        first = wide(heap[at])
        if heap[at + END] - first == size and heap[at + BEHIND_ROW] == behind and heap[at + STATE_FLAGS] == flags:
            same = True
            for i in range(3 * size):
                if heap[items + 3 * first + i] != heap[found + i]:
                    same = False
                    break
            if same:
                return known
        slot = (slot + 1) & (room - 1)
    new, first = wide(head[USED + STATE]), wide(head[USED + ITEM])
    if 2 * new >= room:
        return full(head, STATE_HASH)
    if first + size > head[ROOM + ITEM]:
        return full(head, ITEM)
    if head[USED + FREE] > 0:
        head[USED + FREE] -= 1
        new = wide(heap[head[FREE] + head[USED + FREE]])
    elif new >= head[ROOM + STATE]:
        return full(head, STATE)
    else:
        head[USED + STATE] = new + 1
    distance = 0 if flags else UNREACHABLE
    for i in range(size):
        at = found + 3 * i
        for k in range(3):
            heap[items + 3 * (first + i) + k] = heap[at + k]
        if not flags:
            length = item_length(code, heap, head, wide(heap[at]), wide(heap[at + 1]), wide(heap[at + 2]))
            if length < distance:
                distance = length
    at = states + 5 * new
    heap[at + FIRST] = first
    heap[at + END] = first + size
    heap[at + BEHIND_ROW] = behind
    heap[at + STATE_FLAGS] = flags
    heap[at + DISTANCE] = distance
    accepting[new] = flags != 0
    heap[table + slot] = new
    head[USED + ITEM] = first + size
    return new


# -- one step


@inlined
def find(heap: I32, head: I64, node: int, side: int, stack: int) -> bool:
    """An item of the next configuration; False if there is no room."""
    n = head[USED + FOUND]
    if n >= head[ROOM + FOUND]:
        head[FULL_REGION] = FOUND
        return False
    at = head[FOUND] + 3 * n
    heap[at] = node
    heap[at + 1] = side
    heap[at + 2] = stack
    head[USED + FOUND] = n + 1
    return True


@inlined
def can_end(code: I32, heap: I32, head: I64, side: int) -> bool:
    """Is there a word to go on to?"""
    return side == 0 or heap[side_at(code, head, side) + DETOUR] < UNREACHABLE


@kernel
def leave(code: I32, heap: I32, head: I64, side: int, stack: int) -> bool:
    """A body, a rule or the text itself ends here: go on behind every top frame. False if there is no room."""
    nodes = wide(code[NODES])
    for i in range(heap[head[STACK] + 3 * stack], heap[head[STACK] + 3 * stack + 1]):
        frame = head[FRAME] + 3 * i
        node, rounds, below = wide(heap[frame]), wide(heap[frame + 1]), wide(heap[frame + 2])
        if node == BOTTOM:
            if heap[side_at(code, head, side) + MET]:
                head[ACCEPTS] = 1
        elif node < nodes:
            if not push(heap, head, 0, node, side, below, 0):
                return False
        else:
            operation = code[OPERATION_AT] + OPERATION_WIDTH * (node - nodes)
            least, most = wide(code[operation + 2]), wide(code[operation + 3])
            done = rounds + 1
            if done >= least and not push(heap, head, 0, wide(code[operation + 4]), side, below, 0):
                return False
            if most < 0 and done > least:
                done = least
            if (most < 0 or done < most) and not push(heap, head, ENTER, node, side, below, done):
                return False
    return True


@kernel
def explore(code: I32, heap: I32, head: I64, behind: int) -> int:
    """All that can be reached from the work list without reading a byte. 0, MISS or FULL."""
    nodes = wide(code[NODES])
    while head[USED + WORK] > 0:
        head[USED + WORK] -= 1
        work = head[WORK] + 5 * head[USED + WORK]
        fresh, node, side, stack = wide(heap[work]), wide(heap[work + 1]), wide(heap[work + 2]), wide(heap[work + 3])
        if fresh == ENTER:  # another round of a loop
            body = wide(code[code[OPERATION_AT] + OPERATION_WIDTH * (node - nodes) + 1])
            if enter(code, heap, head, node, side, stack, wide(heap[work + 4]), body) == FULL:
                return FULL
            continue
        new = first_time(heap, head, 2 * node + fresh, side, stack)
        if new == FULL:
            return FULL
        if new == 0:
            continue
        at = code[NODE_AT] + NODE_WIDTH * node
        if code[at + FLAGS] & FINAL and fresh == 0:
            new = first_time(heap, head, wide(LEFT), side, stack)
            if new == FULL or (new == 1 and not leave(code, heap, head, side, stack)):
                return FULL
        reads = code[at + NODE_WIDTH + EDGES] > code[at + EDGES] and can_end(code, heap, head, side)
        if reads and not find(heap, head, node, side, stack):
            return FULL
        for use in range(code[at + OPERATIONS], code[at + NODE_WIDTH + OPERATIONS]):
            number = wide(code[code[USE_AT] + use])
            operation = code[OPERATION_AT] + OPERATION_WIDTH * number
            kind = code[operation]
            if kind <= LOOP:
                go_on = nodes + number
                if kind == JUMP:
                    go_on = wide(WHOLE) if code[operation + 3] else wide(code[operation + 2])
                if enter(code, heap, head, go_on, side, stack, wide(0), wide(code[operation + 1])) == FULL:
                    return FULL
            elif kind == RUN:
                if not find(heap, head, nodes + wide(code[operation + 3]), side, stack):
                    return FULL
            elif kind == TRACK:
                if not push(heap, head, fresh, wide(code[operation + 2]), wide(code[operation + 1]), stack, 0):
                    return FULL
            elif kind == RELEASE:
                may_leave = heap[side_at(code, head, side) + LEAVES]
                if may_leave and not push(heap, head, fresh, wide(code[operation + 2]), 0, stack, 0):
                    return FULL
            else:
                guard, after = wide(code[operation + 1]), side
                if code[operation + 2]:
                    verdict = wide(heap[head[BEHIND] + (code[GUARDS] + code[COLUMNS]) * behind + guard])
                    if verdict == UNKNOWN:
                        return missing(head, BEHIND, behind, guard)
                    if verdict == 0:
                        continue
                else:
                    at_guard = SIDE_HEAD + guard
                    after = wide(heap[side_at(code, head, side) + at_guard])
                    if after == UNKNOWN:
                        return missing(head, SIDE, side, at_guard)
                    if after == REFUSED:
                        continue
                if not push(heap, head, fresh, wide(code[operation + 3]), after, stack, 0):
                    return FULL
    return 0


@kernel
def close(accepting: Bool, code: I32, heap: I32, head: I64, behind: int) -> int:
    """The state of all that the work list and the calls lead to; or MISS or FULL."""
    while True:
        status = explore(code, heap, head, behind)
        if status != 0:
            return status
        if head[HEAPED] == 0:
            return intern_state(accepting, code, heap, head, behind)
        index = lowest(code, heap, head)
        stack = called_stack(code, heap, head, index)
        if stack == FULL:
            return FULL
        call = head[CALL] + 4 * index
        entry = wide(code[code[BODY_AT] + 2 * heap[call]])
        if not push(heap, head, 1, entry, wide(heap[call + 1]), stack, 0):
            return FULL


@inlined
def clear(head: I64) -> None:
    """Begin a new step."""
    head[STAMP] += 1
    head[ACCEPTS] = 0
    head[HEAPED] = 0
    for region in range(WORK, REGIONS):
        head[USED + region] = 0


@kernel
def begin(accepting: Bool, code: I32, heap: I32, head: I64, node: int, stack: int, behind: int) -> int:
    """The state of being at a node over a stack, having just read something; or MISS or FULL."""
    clear(head)
    if not push(heap, head, 0, node, 0, stack, 0):
        return FULL
    return close(accepting, code, heap, head, behind)


@kernel
def moves(code: I32, heap: I32, head: I64, state: int, column: int) -> int:
    """Put what the items of a state become by a byte onto the work list. 0, MISS or FULL."""
    nodes, columns, guards = wide(code[NODES]), wide(code[COLUMNS]), wide(code[GUARDS])
    for i in range(heap[head[STATE] + 5 * state + FIRST], heap[head[STATE] + 5 * state + END]):
        item = head[ITEM] + 3 * i
        node, side, stack = wide(heap[item]), wide(heap[item + 1]), wide(heap[item + 2])
        if side != 0:
            at = side_at(code, head, side)
            after = wide(heap[at + SIDE_HEAD + guards + column])
            if after == UNKNOWN:
                if heap[at + CHILD] <= 0:
                    return missing(head, SIDE, side, SIDE_HEAD + guards + column)
                if spell_children(code, heap, head, side) == FULL:
                    return FULL
                after = wide(heap[at + SIDE_HEAD + guards + column])
            if after == REFUSED:
                continue
            side = after
        if node >= nodes:
            leaf = head[LEAF] + (3 + columns) * (node - nodes)
            target = wide(heap[leaf + 3 + column])
            if target == UNKNOWN:
                return missing(head, LEAF, node - nodes, 3 + column)
            if target == DEAD:
                continue
            if not find(heap, head, nodes + target, side, stack):
                return FULL
            if heap[head[LEAF] + (3 + columns) * target]:
                go_on = wide(code[code[OPERATION_AT] + OPERATION_WIDTH * heap[leaf + 2] + 2])
                if not push(heap, head, 0, go_on, side, stack, 0):
                    return FULL
            continue
        at = code[NODE_AT] + NODE_WIDTH * node
        for e in range(code[at + EDGES], code[at + NODE_WIDTH + EDGES]):
            edge = code[EDGE_AT] + 2 * e
            if code[code[MEMBER_AT] + columns * code[edge] + column] and not push(
                heap, head, 0, wide(code[edge + 1]), side, stack, 0
            ):
                return FULL
    return 0


@kernel
def quick_moves(code: I32, heap: I32, head: I64, state: int, column: int) -> bool:
    """Find the items that a state becomes by a byte, if nothing but reading can happen to them; did it?"""
    nodes, columns = wide(code[NODES]), wide(code[COLUMNS])
    head[ACCEPTS] = 0
    head[USED + FOUND] = 0
    for i in range(heap[head[STATE] + 5 * state + FIRST], heap[head[STATE] + 5 * state + END]):
        item = head[ITEM] + 3 * i
        node, side, stack = wide(heap[item]), wide(heap[item + 1]), wide(heap[item + 2])
        if node >= nodes:
            return False
        if side != 0:
            side = wide(heap[side_at(code, head, side) + SIDE_HEAD + code[GUARDS] + column])
            if side == UNKNOWN:
                return False
            if side == REFUSED:
                continue
        at = code[NODE_AT] + NODE_WIDTH * node
        for e in range(code[at + EDGES], code[at + NODE_WIDTH + EDGES]):
            edge = code[EDGE_AT] + 2 * e
            if code[code[MEMBER_AT] + columns * code[edge] + column]:
                target = code[NODE_AT] + NODE_WIDTH * code[edge + 1]
                only_reads = (
                    code[target + FLAGS] == 0
                    and code[target + NODE_WIDTH + OPERATIONS] == code[target + OPERATIONS]
                    and code[target + NODE_WIDTH + EDGES] > code[target + EDGES]
                )
                if not only_reads or not can_end(code, heap, head, side):
                    return False
                if not find(heap, head, wide(code[edge + 1]), side, stack):
                    return False
    return True


@kernel
def step(next_: I32, accepting: Bool, code: I32, heap: I32, head: I64, state: int, column: int) -> int:
    """The state after a byte of class column; built, and kept, where it was unknown; or MISS or FULL."""
    known = wide(next_[state, column])
    if known != UNKNOWN:
        return known
    if code[NODES] == 0:
        return missing(head, STATE, state, column)  # not a grammar: Python knows what to do
    if code[BEHINDS] == 0 and quick_moves(code, heap, head, state, column):
        target = intern_state(accepting, code, heap, head, wide(0))
        if target >= 0:
            next_[state, column] = target
        return target
    clear(head)
    behind = wide(heap[head[STATE] + 5 * state + BEHIND_ROW])
    if code[BEHINDS]:
        at = code[GUARDS] + column
        after = wide(heap[head[BEHIND] + (code[GUARDS] + code[COLUMNS]) * behind + at])
        if after == UNKNOWN:
            return missing(head, BEHIND, behind, at)
        behind = after
    status = moves(code, heap, head, state, column)
    if status != 0:
        return status
    target = close(accepting, code, heap, head, behind)
    if target >= 0:
        next_[state, column] = target
    return target


@kernel
def same_moves(code: I32, heap: I32, head: I64, state: int, a: int, b: int) -> bool:
    """Do two byte classes make the same of every item of a state, as far as rows are filled?"""
    nodes, columns = wide(code[NODES]), wide(code[COLUMNS])
    for i in range(heap[head[STATE] + 5 * state + FIRST], heap[head[STATE] + 5 * state + END]):
        item = head[ITEM] + 3 * i
        node, side = wide(heap[item]), wide(heap[item + 1])
        if side != 0:
            at = side_at(code, head, side) + SIDE_HEAD + code[GUARDS]
            if heap[at + a] != heap[at + b] or heap[at + a] == UNKNOWN:
                return False
            if heap[at + a] == REFUSED:
                continue
        if node >= nodes:
            at = head[LEAF] + (3 + columns) * (node - nodes) + 3
            if heap[at + a] != heap[at + b] or heap[at + a] == UNKNOWN:
                return False
            continue
        at = code[NODE_AT] + NODE_WIDTH * node
        for e in range(code[at + EDGES], code[at + NODE_WIDTH + EDGES]):
            members = code[MEMBER_AT] + columns * code[code[EDGE_AT] + 2 * e]
            if code[members + a] != code[members + b]:
                return False
    return True


@kernel
def fill_row(next_: I32, accepting: Bool, code: I32, heap: I32, head: I64, state: int) -> int:
    """Build the transitions of a state by all byte classes, those that make the same of it once.

    Transitions that only Python can provide are left out. 0, or FULL.
    """
    if code[NODES] == 0 or code[BEHINDS]:
        return 0
    different = 0
    for column in range(wide(code[COLUMNS])):
        if next_[state, column] != UNKNOWN:
            continue
        known = wide(UNKNOWN)
        for i in range(different):
            other = wide(heap[head[COLUMN] + i])
            if same_moves(code, heap, head, state, column, other):
                known = wide(next_[state, other])
                break
        if known == UNKNOWN:
            known = step(next_, accepting, code, heap, head, state, column)
            if known == FULL:
                return FULL
            if known == MISS:
                continue
            heap[head[COLUMN] + different] = column
            different += 1
        next_[state, column] = known
    return 0


# -- longer hash tables


@kernel
def rehash_states(heap: I32, head: I64) -> None:
    """Fill an empty STATE_HASH."""
    mask = head[ROOM + STATE_HASH] - 1
    for known in range(1, head[USED + STATE]):
        at = head[STATE] + 5 * known
        if heap[at + FIRST] < 0:
            continue  # forgotten
        value = mixed(mixed(1, wide(heap[at + STATE_FLAGS])), wide(heap[at + BEHIND_ROW]))
        for i in range(head[ITEM] + 3 * heap[at + FIRST], head[ITEM] + 3 * heap[at + END]):
            value = mixed(value, wide(heap[i]))
        slot = value & mask
        while heap[head[STATE_HASH] + slot] > 0:
            slot = (slot + 1) & mask
        heap[head[STATE_HASH] + slot] = known


@kernel
def rehash_stacks(heap: I32, head: I64) -> None:
    """Fill an empty STACK_HASH."""
    mask = head[ROOM + STACK_HASH] - 1
    for known in range(head[USED + STACK]):
        at = head[STACK] + 3 * known
        value = 3
        for i in range(head[FRAME] + 3 * heap[at], head[FRAME] + 3 * heap[at + 1]):
            value = mixed(value, wide(heap[i]))
        slot = value & mask
        while heap[head[STACK_HASH] + slot] > 0:
            slot = (slot + 1) & mask
        heap[head[STACK_HASH] + slot] = known + 1


@kernel
def rehash_joins(old: I32, heap: I32, head: I64) -> None:
    """Move the joins of a shorter table (rows end to end) into an empty JOIN."""
    for i in range(old.shape[0] // 3):
        if old[3 * i + 2] > 0:
            at = join_at(heap, head, wide(old[3 * i]), wide(old[3 * i + 1]))
            for k in range(3):
                heap[at + k] = old[3 * i + k]


# -- forgetting


@kernel
def forget(old: I32, heap: I32, head: I64, kept: Bool, number: I32) -> None:
    """Copy the kept states (S,), with their items and stacks, from one heap to another, of the same layout.

    States keep their numbers, the others become free; stacks are numbered anew. number (T,): zeros, scratch. The hash
    tables are to be filled again.
    """
    states, items = wide(head[STATE]), wide(head[ITEM])
    stacks, frames = wide(head[STACK]), wide(head[FRAME])
    number[0] = 1
    for state in range(1, head[USED + STATE]):
        if kept[state]:
            for i in range(old[states + 5 * state + FIRST], old[states + 5 * state + END]):
                number[old[items + 3 * i + 2]] = 1
    for stack in range(head[USED + STACK] - 1, -1, -1):  # what is below is older
        if number[stack]:
            for i in range(old[stacks + 3 * stack], old[stacks + 3 * stack + 1]):
                number[old[frames + 3 * i + 2]] = 1
    used, frame = 0, 0
    for stack in range(head[USED + STACK]):
        if number[stack]:
            first = frame
            for i in range(old[stacks + 3 * stack], old[stacks + 3 * stack + 1]):
                heap[frames + 3 * frame] = old[frames + 3 * i]
                heap[frames + 3 * frame + 1] = old[frames + 3 * i + 1]
                heap[frames + 3 * frame + 2] = number[old[frames + 3 * i + 2]]
                frame += 1
            heap[stacks + 3 * used] = first
            heap[stacks + 3 * used + 1] = frame
            heap[stacks + 3 * used + 2] = old[stacks + 3 * stack + 2]
            number[stack] = used
            used += 1
    item, free = 0, 0
    for state in range(head[USED + STATE]):
        at = states + 5 * state
        for k in range(5):
            heap[at + k] = old[at + k]
        if state != DEAD and not kept[state]:
            heap[at + FIRST] = -1
            heap[at + END] = -1
            heap[head[FREE] + free] = state
            free += 1
            continue
        heap[at + FIRST] = item
        for i in range(old[at + FIRST], old[at + END]):
            heap[items + 3 * item] = old[items + 3 * i]
            heap[items + 3 * item + 1] = old[items + 3 * i + 1]
            heap[items + 3 * item + 2] = number[old[items + 3 * i + 2]]
            item += 1
        heap[at + END] = item
    head[USED + ITEM] = item
    head[USED + FREE] = free
    head[USED + STACK] = used
    head[USED + FRAME] = frame
    head[USED + JOIN] = 0


# -- words that read along, in the spellings of JSON strings

SHORT_ESCAPE = np.zeros(0x80, np.int64)  # the byte behind a backslash that spells a letter, 0 for none
SHORT_ESCAPE[[0x22, 0x5C, 0x2F, 0x08, 0x0C, 0x0A, 0x0D, 0x09]] = 0x22, 0x5C, 0x2F, 0x62, 0x66, 0x6E, 0x72, 0x74

UTF_8, SHORT, UTF_16 = range(3)  # spellings: the letter itself, a short escape, one or two escapes of four hex digits


@inlined
def after_at(code: I32, head: I64, side: int, byte: int) -> int:
    """Where the row after a byte stands in the heap."""
    return wide(side_at(code, head, side) + SIDE_HEAD + code[GUARDS] + code[code[CLASS_AT] + byte])


@kernel
def has_spelling(letter: int, spelling: int) -> bool:
    if spelling == UTF_8:
        return letter >= 0x20 and letter != 0x22 and letter != 0x5C
    return spelling == UTF_16 or (letter < 0x80 and SHORT_ESCAPE[letter] != 0)


@kernel
def spelling_size(letter: int, spelling: int) -> int:
    """Bytes of a spelling of a letter."""
    if spelling == UTF_8:
        return 1 + (letter >= 0x80) + (letter >= 0x800) + (letter >= 0x10000)
    if spelling == SHORT:
        return 2
    return 12 if letter >= 0x10000 else 6


@kernel
def spelling_byte(letter: int, spelling: int, i: int) -> int:
    """Byte i of a spelling of a letter, hex digits in lower case."""
    if spelling == UTF_8:
        size = spelling_size(letter, spelling)
        bits = letter >> 6 * (size - 1 - i)
        if i > 0:
            return 0x80 | (bits & 0x3F)
        return bits if size == 1 else ((0xF00 >> size) & 0xFF) | bits
    if i % 6 == 0:
        return 0x5C
    if spelling == SHORT:
        return wide(SHORT_ESCAPE[letter])
    if i % 6 == 1:
        return 0x75
    unit = letter
    if letter >= 0x10000:
        unit = 0xD7C0 + (letter >> 10) if i < 6 else 0xDC00 | (letter & 0x3FF)
    digit = (unit >> 4 * (5 - i % 6)) & 0xF
    return digit + (0x30 if digit < 10 else 0x57)


@kernel
def fewest_bytes(letter: int) -> int:
    """Of any spelling of a letter."""
    for spelling in range(UTF_16):
        if has_spelling(letter, spelling):
            return spelling_size(letter, spelling)
    return spelling_size(letter, wide(UTF_16))


@kernel
def most_begun(letter: int) -> int:
    """How many proper beginnings the spellings of a letter have, at most."""
    count = 0
    for spelling in range(UTF_16 + 1):
        if has_spelling(letter, spelling):
            count += spelling_size(letter, spelling) - 1
    return count


@kernel
def clear_side(code: I32, heap: I32, head: I64, side: int, words: int) -> None:
    """Make a row of words (INSIDE or OUTSIDE) from which no byte leads on to a word."""
    at = side_at(code, head, side)
    for column in range(SIDE_HEAD):
        heap[at + column] = 0
    heap[at + WORDS] = words
    for i in range(at + SIDE_HEAD, side_at(code, head, side + 1)):
        heap[i] = REFUSED if words == INSIDE else 0


@kernel
def new_side(code: I32, heap: I32, head: I64, words: int) -> int:
    """A cleared row; there is room for it."""
    side = wide(head[USED + SIDE])
    head[USED + SIDE] = side + 1
    clear_side(code, heap, head, side, words)
    return side


@kernel
def plant_words(code: I32, heap: I32, head: I64, letters: I32, offset: I64, root: int, words: int) -> None:
    """Write the prefix tree of words, sorted code points end to end: the root into its row, the rest into free ones.

    There is room in SIDE for one a letter. Words (INSIDE or OUTSIDE) that go on with anything but an ASCII character
    as it is wait for `spell_children`: the row after its first byte is UNKNOWN.
    """
    clear_side(code, heap, head, root, words)
    heap[side_at(code, head, root) + LEAVES] = words == OUTSIDE
    first = wide(head[USED + SIDE])
    for word in range(offset.shape[0] - 1):
        node = root
        for i in range(offset[word], offset[word + 1]):
            letter = wide(letters[i])
            child = wide(heap[side_at(code, head, node) + CHILD])  # the last one, words are sorted
            if child == 0 or heap[side_at(code, head, child) + LETTER] != letter:
                child = plant_letter(code, heap, head, node, letter)
            node = child
        heap[side_at(code, head, node) + LEAVES] = words == INSIDE
    if words == INSIDE:
        for node in range(head[USED + SIDE] - 1, first - 1, -1):  # children come after their parents
            measure(code, heap, head, wide(node))
        measure(code, heap, head, root)


@kernel
def plant_letter(code: I32, heap: I32, head: I64, node: int, letter: int) -> int:
    """A child of a node of a prefix tree; there is room for it."""
    parent = side_at(code, head, node)
    words = wide(heap[parent + WORDS])
    child = new_side(code, heap, head, words)
    at = side_at(code, head, child)
    heap[at + LEAVES] = words == OUTSIDE
    heap[at + LETTER] = letter
    heap[at + SIBLING] = heap[parent + CHILD]
    heap[parent + CHILD] = child
    heap[after_at(code, head, node, 0x5C)] = UNKNOWN
    if has_spelling(letter, wide(UTF_8)):
        after = after_at(code, head, node, spelling_byte(letter, wide(UTF_8), wide(0)))
        heap[after] = child if letter < 0x80 else UNKNOWN
    return child


@kernel
def measure(code: I32, heap: I32, head: I64, node: int) -> None:
    """Set the DETOUR of a node of words INSIDE: bytes to the nearest word but its own, after any one byte."""
    nearest = wide(UNREACHABLE) + 1
    child = wide(heap[side_at(code, head, node) + CHILD])
    while child > 0:
        at = side_at(code, head, child)
        nearest = min(nearest, fewest_bytes(wide(heap[at + LETTER])) + to_word(heap, at))
        child = wide(heap[at + SIBLING])
    heap[side_at(code, head, node) + DETOUR] = nearest - 1


@inlined
def to_word(heap: I32, at: int) -> int:
    """Fewest bytes to the end of a word from a node of words INSIDE, whose row begins at a place of the heap."""
    return wide(0) if heap[at + LEAVES] else wide(heap[at + DETOUR]) + 1


@kernel
def spell_children(code: I32, heap: I32, head: I64, node: int) -> int:
    """Fill in where a node of a prefix tree is UNKNOWN: all spellings of the letters behind it. 0 or FULL."""
    first = wide(head[USED + SIDE])
    room = wide(head[ROOM + SIDE]) - first
    child = wide(heap[side_at(code, head, node) + CHILD])
    while child > 0:
        at = side_at(code, head, child)
        room -= most_begun(wide(heap[at + LETTER]))
        child = wide(heap[at + SIBLING])
    if room < 0:
        return full(head, SIDE)
    child = wide(heap[side_at(code, head, node) + CHILD])
    while child > 0:
        at = side_at(code, head, child)
        for spelling in range(UTF_16 + 1):
            if has_spelling(wide(heap[at + LETTER]), spelling):
                add_spelling(code, heap, head, node, child, spelling)
        child = wide(heap[at + SIBLING])
    for begun in range(first, head[USED + SIDE]):
        at = side_at(code, head, begun) + DETOUR
        heap[at] = max(wide(heap[at]), 0)
    return 0


@kernel
def add_spelling(code: I32, heap: I32, head: I64, node: int, child: int, spelling: int) -> None:
    """Lead from a node to its child by one spelling, sharing rows with spellings that begin alike."""
    letter = wide(heap[side_at(code, head, child) + LETTER])
    size = spelling_size(letter, spelling)
    side = node
    for i in range(size):
        byte = spelling_byte(letter, spelling, i)
        after = after_at(code, head, side, byte)
        if i == size - 1:
            heap[after] = child
        elif heap[after] <= 0:
            heap[after] = begin_letter(code, heap, head, node, spelling, i + 1)
        if spelling == UTF_16 and i % 6 > 1 and byte > 0x60:
            heap[after_at(code, head, side, byte - 0x20)] = heap[after]
        if i < size - 1:
            side = wide(heap[after])
            note_spelling(code, heap, head, side, child, spelling, size, i + 1)


@kernel
def begin_letter(code: I32, heap: I32, head: I64, node: int, spelling: int, begun: int) -> int:
    """A row in the middle of a letter, neither an end nor a word, with so many bytes of it begun."""
    words = wide(heap[side_at(code, head, node) + WORDS])
    side = new_side(code, heap, head, words)
    letters = 64 if spelling == UTF_8 else 8 if begun == 1 else 16  # that one more byte may complete
    heap[side_at(code, head, side) + DETOUR] = UNREACHABLE if words == INSIDE else 1 - letters
    return side


@kernel
def note_spelling(code: I32, heap: I32, head: I64, side: int, child: int, spelling: int, size: int, begun: int) -> None:
    """Correct the DETOUR in the middle of a letter, which leads to a child.

    INSIDE: bytes to the nearest word beyond those that complete any letter that begins so. OUTSIDE: one more letter is
    needed where all that one more byte completes are words; until all are known, how many lack is subtracted.
    """
    at = side_at(code, head, side)
    target = side_at(code, head, child)
    if heap[at + WORDS] == INSIDE:
        beyond = wide(0)
        if spelling == UTF_16 and begun < 4:  # four show whether there is a second escape
            beyond = size - (2 if begun == 1 else 6)
        heap[at + DETOUR] = min(wide(heap[at + DETOUR]), beyond + to_word(heap, target))
    elif begun == size - 1 and not heap[target + LEAVES]:
        heap[at + DETOUR] += 1
