"""The determinising engine: configurations of a program, built by kernels as texts ask for them.

    engine = Engine(Compiled.of(expression, rules))
    engine.step(engine.start, 0x61)                          # builds the transition on the first visit

The arrays start small and grow by doubling. What kernels cannot know - the next state of an embedded automaton, of a
look-around - they ask for row by row, and Python fills it in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import numpy as np

from genctl.automata.base import DEAD, UNKNOWN, UNREACHABLE, Automaton
from genctl.automata.expressions import Expression
from genctl.automata.nfa import Guard, Run, Track
from genctl.automata.program import Program, compile_program
from genctl.automata.tabulated import Tabulated
from genctl.errors import ConstraintError
from genctl.kernels import configurations as kernels
from genctl.kernels.loops import behind_loop
from genctl.kernels.records import I32, I64, Bool, Machine

# A demand on the rest of the text: (automaton, its state, negated).
Demands: TypeAlias = frozenset[tuple[Automaton, int, bool]]
NO_DEMANDS: Demands = frozenset()


MAX_HEAP = 2**27  # words of 4 bytes
_ROOMS = (256, 1024, 64, 128, 1024, 256, 64, 8, 8, 2, 256, 64, 64, 256, 64, 32, 128, 32, 256)
_ROOM_FOR_WORDS = 192  # rows of SIDE: most enums, and the spellings that reading one of their words needs
STATE_BYTES = 128 * 2**20  # beyond it, states that nobody holds are forgotten where that is possible


class Compiled(NamedTuple):
    """All that an engine has to know of an expression; stored.py keeps it in files.

    lengths: fewest bytes of a text of each rule; runs: by the number of the operation; loop_bodies: what the bodies
    of loops were built from.
    """

    program: Program
    lengths: dict[str, int]
    runs: list[Run | None]
    tracks: list[tuple[int, Track]]
    guards: list[Guard]
    behinds: list[Automaton]
    loop_bodies: dict[int, Expression]

    @classmethod
    def of(cls, start: Expression, rules: Mapping[str, Expression]) -> Compiled:
        """Raises ConstraintError for an undefined rule."""
        nfa, program = compile_program(start, rules)
        return cls(
            program,
            {name: program.length(nfa.bodies[body]) for name, body in nfa.rules.items()},
            [op if isinstance(op, Run) else None for op in nfa.operations],
            [(number, op) for number, op in enumerate(nfa.operations) if isinstance(op, Track)],
            [op for op in nfa.operations if isinstance(op, Guard)],
            nfa.behinds,
            nfa.loop_bodies,
        )


class Engine:
    """Configurations as int states. `exact`: without look-around every state but 0 can be completed, and distances
    are exact; with it they are lower bounds, and a state may be a dead end.
    """

    def __init__(self, compiled: Compiled) -> None:
        self.compiled = compiled
        self._program, self.lengths, self._runs, self._tracks, self._guards, self._behinds, self._loop_bodies = compiled
        self.exact = not self._guards
        self._byte_of = self._program.byte_of
        self.held: set[int] = {DEAD}
        self.large = False  # have the arrays grown beyond STATE_BYTES?
        self.generation = 0  # how often states were forgotten
        self._allocate()
        self.start = self.hold(self._start())

    def _allocate(self) -> None:
        columns, guards = len(self._byte_of), len(self._guards)
        self._widths = list(kernels.WIDTHS)
        self._widths[kernels.LEAF] = 3 + columns
        self._widths[kernels.SIDE] = kernels.SIDE_HEAD + guards + columns
        self._widths[kernels.BEHIND] = guards + columns
        next_ = np.full((_ROOMS[kernels.STATE], columns), UNKNOWN, np.int32)
        next_[DEAD] = DEAD
        head = np.zeros(kernels.HEAD, np.int64)
        head[kernels.ROOM : kernels.USED] = _ROOMS
        head[kernels.ROOM + kernels.LEAF] += sum(map(len, self._tables().values()))
        if self._tracks:
            head[kernels.ROOM + kernels.SIDE] = _ROOM_FOR_WORDS
        heap = np.zeros(self._lay_out(head), np.int32)
        self.machine = Machine(
            next_, self._program.classes, np.zeros(len(next_), np.bool_), self._program.code, heap, head
        )
        head[[kernels.USED + kernels.STATE, kernels.USED + kernels.STACK, kernels.USED + kernels.FRAME]] = 1
        heap[head[kernels.STATE] + kernels.DISTANCE] = UNREACHABLE
        heap[head[kernels.STACK] + 1] = 1
        heap[head[kernels.FRAME]] = kernels.BOTTOM
        kernels.rehash_stacks(heap, head)
        self._leaves: dict[int, tuple[int, int]] = {}  # by row: operation and state, where no table is planted
        self._leaf_ids: dict[tuple[int, int], int] = {}
        self._planted: dict[int, int] = {}  # by operation: the row of state 0 of its table
        self._sides: dict[int, Demands] = {}
        self._side_ids: dict[Demands, int] = {}
        self._roots: dict[int, Track] = {}  # not planted, by the row of a text in which nothing is spelled yet
        self._root_ids: dict[tuple[int, bool], int] = {}
        self._plants_ahead = True
        self._behind_rows: list[tuple[int, ...]] = []
        self._behind_ids: dict[tuple[int, ...], int] = {}
        self._side(NO_DEMANDS)
        self._behind(tuple(automaton.start for automaton in self._behinds))
        self._new_row(kernels.LEAF)
        for number, automaton in self._tables().items():
            self._plant_table(number, automaton)
        for number, run in enumerate(self._runs):
            if run is not None:
                self._program.operation(number)[3] = self._leaf(number, run.automaton.start)
        for number, track in self._tracks:
            self._program.operation(number)[1] = self._announce(track)
        self._plant_ahead()

    def _tables(self) -> dict[int, Tabulated]:
        """Embedded automata whose rows are all known, by operation."""
        runs = ((number, run.automaton) for number, run in enumerate(self._runs) if run is not None)
        return {number: automaton for number, automaton in runs if isinstance(automaton, Tabulated)}

    def _lay_out(self, head: I64) -> int:
        """Set the regions' offsets from their rooms; returns the size of the heap."""
        sizes = head[kernels.ROOM : kernels.USED] * np.array(self._widths)
        head[: kernels.REGIONS] = np.cumsum(sizes) - sizes
        return int(sizes.sum())

    def _start(self) -> int:
        """Body 0 over the empty stack."""
        code = self._program.code
        entry = int(code[code[kernels.BODY_AT]])
        while True:
            _, _, accepting, code, heap, head = self.machine
            state = kernels.begin(accepting, code, heap, head, entry, 0, 0)
            if state >= 0:
                return int(state)
            self.extend(state)

    # -- stepping

    def step(self, state: int, byte: int, /) -> int:
        """The state after byte; built on the first visit."""
        column = int(self.machine.classes[byte])
        known = int(self.machine.next[state, column])
        while known < 0:
            next_, _, accepting, code, heap, head = self.machine
            known = int(kernels.step(next_, accepting, code, heap, head, state, column))
            if known < 0:
                self.extend(known)
        self.held.add(known)
        return known

    def row(self, state: int, /) -> list[int]:
        while True:
            next_, _, accepting, code, heap, head = self.machine
            status = kernels.fill_row(next_, accepting, code, heap, head, state)
            row: list[int] = next_[state].tolist()
            if status:
                self.extend(status)
            elif UNKNOWN in row:  # Python has to provide something first
                self.step(state, self._byte_of[row.index(UNKNOWN)])
            else:
                self.held.update(row)
                return row

    def accepts(self, state: int, /) -> bool:
        return bool(self.machine.accepting[state])

    def distance(self, state: int, /) -> int:
        return int(self._row(kernels.STATE, state)[kernels.DISTANCE])

    def universal(self, state: int, /) -> bool:
        return bool(self._row(kernels.STATE, state)[kernels.STATE_FLAGS] & kernels.UNIVERSAL)

    def __len__(self) -> int:
        return int(self.machine.head[kernels.USED + kernels.STATE])

    # -- explaining

    def expected(self, state: int, names: Mapping[int, str]) -> tuple[list[str], bytes]:
        """Names of the bodies that may begin in a state (numbers are no names), and bytes that may come otherwise."""
        code, nodes = self.machine.code, int(self.machine.code[kernels.NODES])
        entries = {int(code[code[kernels.BODY_AT] + 2 * body]): name for body, name in names.items()}
        first, end = self._row(kernels.STATE, state)[:2].tolist()
        found: dict[str, None] = {}
        columns: set[int] = set()
        for number in range(first, end):
            node, side, _ = self._row(kernels.ITEM, number).tolist()
            name = entries.get(node, "")
            if name and not name.isdigit() and not name.startswith("%"):
                found[name] = None
            elif node >= nodes:
                columns.update(np.flatnonzero(self._row(kernels.LEAF, node - nodes)[3:] != DEAD).tolist())
            elif side == 0:
                columns |= self._columns(node)
            else:
                return [], bytes(byte for byte in range(256) if self.step(state, byte) != DEAD)
        return sorted(found), bytes(byte for byte in range(256) if int(self.machine.classes[byte]) in columns)

    def _columns(self, node: int) -> set[int]:
        """Byte classes that a node reads."""
        code, columns = self.machine.code, len(self._byte_of)
        at = int(code[kernels.NODE_AT]) + kernels.NODE_WIDTH * node + kernels.EDGES
        edges, members = int(code[kernels.EDGE_AT]), int(code[kernels.MEMBER_AT])
        sets = code[edges + 2 * code[at] : edges + 2 * code[at + kernels.NODE_WIDTH] : 2]
        rows = code[members + columns * sets[:, None] + np.arange(columns)]
        return set(np.flatnonzero(rows.any(axis=0)).tolist())

    # -- forgetting

    def hold(self, state: int) -> int:
        """Promise that the state stays what it is; others may be forgotten by `make_room`."""
        self.held.add(state)
        return state

    def make_room(self) -> bool:
        """If there is little left, forget the states that nobody holds; their numbers are used again. Did it?"""
        if not self.large or not self._crowded():
            return False
        next_, _, accepting, _, old, head = self.machine
        kept = np.zeros(head[kernels.USED + kernels.STATE], np.bool_)
        kept[list(self.held)] = True
        heap = np.zeros_like(old)
        for region in (kernels.LEAF, kernels.SIDE, kernels.BEHIND):
            at = int(head[region])
            end = at + self._widths[region] * int(head[kernels.ROOM + region])
            heap[at:end] = old[at:end]
        kernels.forget(old, heap, head, kept, np.zeros(head[kernels.USED + kernels.STACK], np.int32))
        next_[:] = UNKNOWN
        next_[DEAD] = DEAD
        accepting[: len(kept)] &= kept
        self.machine = self.machine._replace(heap=heap)
        kernels.rehash_states(heap, head)
        kernels.rehash_stacks(heap, head)
        self.generation += 1
        return True

    def _crowded(self) -> bool:
        """Are three quarters of some region in use?"""
        head = self.machine.head
        used = head[kernels.USED : kernels.USED + kernels.FRAME + 1].copy()
        used[kernels.STATE] -= head[kernels.USED + kernels.FREE]
        return bool((4 * used > 3 * head[kernels.ROOM : kernels.ROOM + kernels.FRAME + 1]).any())

    # -- loops, for masks that are shared

    def loop(self, operation: int) -> tuple[Expression | None, int | None]:
        """(what a loop repeats, if it is known; how often at most, None: without bound)."""
        _, body, _, most, _ = self._program.operation(operation).tolist()
        return self._loop_bodies.get(body), None if most < 0 else most

    def behind_loop(self, operation: int, below: int) -> Bool:
        """(256,) the bytes that may be read behind a loop, more than there are where automata are embedded."""
        found = np.zeros(256, np.bool_)
        while lacking := behind_loop(*self.machine[1:], operation, below, found):
            self.extend(lacking)
        return found

    def avoids(self, side: int) -> bool:
        """Do words read along that the text must not spell (and nothing else that binds it)?"""
        return bool(self._row(kernels.SIDE, side)[kernels.WORDS] == kernels.OUTSIDE)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(array.nbytes for array in self.machine)

    # -- what kernels ask for

    def extend(self, status: int) -> None:
        """Fill the row, or lengthen the region, without which a kernel stopped with this status."""
        head = self.machine.head
        if status == kernels.FULL:
            self._grow(int(head[kernels.FULL_REGION]))
        else:
            region, row = int(head[kernels.MISS_REGION]), int(head[kernels.MISS_ROW])
            if region == kernels.LEAF:
                self._fill_leaf(row)
            else:
                column = int(head[kernels.MISS_COLUMN])
                value = _FILL[region](self, row, column)
                self._row(region, row)[column] = value

    def _row(self, region: int, index: int) -> I32:
        at = self.machine.head[region] + self._widths[region] * index
        return self.machine.heap[at : at + self._widths[region]]

    def _new_row(self, region: int) -> I32:
        """A row of a region that Python fills."""
        head = self.machine.head
        used = int(head[kernels.USED + region])
        if used == head[kernels.ROOM + region]:
            self._grow(region)
            head = self.machine.head
        head[kernels.USED + region] = used + 1
        row = self._row(region, used)
        row[:] = UNKNOWN
        return row

    def _fill_leaf(self, row: int) -> None:
        """All that can follow a state of an embedded automaton: a walk over the vocabulary asks for most of it."""
        number, inner = self._leaves[row]
        run = self._runs[number]
        assert run is not None
        after = run.automaton.row(inner)
        rows = {target: self._leaf(number, target) for target in dict.fromkeys(after)}
        classes = run.automaton.machine.classes[self._byte_of].tolist()
        self._row(kernels.LEAF, row)[3:] = [rows[after[column]] for column in classes]

    def _leaf(self, number: int, inner: int) -> int:
        """The row of a state of an embedded automaton."""
        if inner == DEAD:
            return DEAD
        if number in self._planted:
            return self._planted[number] + inner
        known = self._leaf_ids.get((number, inner))
        if known is None:
            run = self._runs[number]
            assert run is not None
            known = self._leaf_ids[number, inner] = int(self.machine.head[kernels.USED + kernels.LEAF])
            self._leaves[known] = number, inner
            row = self._new_row(kernels.LEAF)
            row[:3] = run.automaton.accepts(inner), run.automaton.distance(inner), number
        return known

    def _plant_table(self, number: int, automaton: Tabulated) -> None:
        """The rows of all states of an embedded automaton; there is room for them."""
        size, columns = len(automaton), len(self._byte_of)
        head, inner = self.machine.head, automaton.machine
        first = int(head[kernels.USED + kernels.LEAF]) - 1  # state 1 comes first, the dead state is row 0
        head[kernels.USED + kernels.LEAF] += size - 1
        at = head[kernels.LEAF] + self._widths[kernels.LEAF] * (first + 1)
        rows = self.machine.heap[at : at + self._widths[kernels.LEAF] * (size - 1)].reshape(size - 1, 3 + columns)
        rows[:, 0], rows[:, 1], rows[:, 2] = inner.accepting[1:], automaton.distances[1:], number
        targets = inner.next[1:][:, inner.classes[self._byte_of]]
        rows[:, 3:] = np.where(targets == DEAD, DEAD, targets + first)
        self._planted[number] = first

    def _next_side(self, row: int, column: int) -> int:
        if row in self._roots:
            self._plant(row)
            return int(self._row(kernels.SIDE, row)[column])
        side, guards = self._sides[row], len(self._guards)
        byte_or_guard = column - kernels.SIDE_HEAD
        if byte_or_guard >= guards:
            after = _step_demands(side, self._byte_of[byte_or_guard - guards])
        else:
            guard = self._guards[byte_or_guard]
            after = _demand(side, guard.automaton, guard.automaton.start, guard.negated)
        return kernels.REFUSED if after is None else self._side(after)

    def _side(self, side: Demands) -> int:
        known = self._side_ids.get(side)
        if known is None:
            known = int(self.machine.head[kernels.USED + kernels.SIDE])
            self._sides[known] = side
            self._side_ids[side] = known
            row = self._new_row(kernels.SIDE)
            row[: kernels.SIDE_HEAD] = 0
            row[[kernels.MET, kernels.LEAVES]] = _satisfied_at_end(side), 1
        return known

    # -- words that read along

    def _announce(self, track: Track) -> int:
        """The row of a text in which nothing is spelled yet; the words' tree is planted later."""
        known = self._root_ids.get((id(track.words), track.inside))
        if known is None:
            known = int(self.machine.head[kernels.USED + kernels.SIDE])
            self._root_ids[id(track.words), track.inside] = known
            self._roots[known] = track
            row = self._new_row(kernels.SIDE)
            row[: kernels.SIDE_HEAD] = 0
            row[[kernels.LEAVES, kernels.DETOUR]] = track.words.begin(track.inside)
            row[kernels.WORDS] = _WORDS[track.inside]
        return known

    def _plant(self, root: int) -> None:
        """Write the words' prefix tree behind its root."""
        self._plant_one(root, may_grow=True)
        self._plant_ahead()

    def _plant_ahead(self) -> None:
        """Write trees while there is room: in the middle of a text, one by one, it takes several times as long."""
        while self._roots and self._plants_ahead:
            self._plants_ahead = self._plant_one(next(iter(self._roots)), may_grow=False)

    def _plant_one(self, root: int, may_grow: bool) -> bool:
        """Was there room?"""
        track = self._roots[root]
        letters, offset = track.words.letters
        head = self.machine.head
        if head[kernels.USED + kernels.SIDE] + len(letters) > head[kernels.ROOM + kernels.SIDE]:
            if not may_grow:
                return False
            self._grow(kernels.SIDE, len(letters))
            self._plants_ahead = True
        _, _, _, code, heap, head = self.machine
        kernels.plant_words(code, heap, head, letters, offset, root, _WORDS[track.inside])
        del self._roots[root]
        return True

    def _next_behind(self, row: int, column: int) -> int:
        guards, states = len(self._guards), self._behind_rows[row]
        if column >= guards:
            byte = self._byte_of[column - guards]
            return self._behind(tuple(a.step(s, byte) for a, s in zip(self._behinds, states, strict=True)))
        guard = self._guards[column]
        assert guard.behind is not None
        return guard.automaton.accepts(states[guard.behind]) != guard.negated

    def _behind(self, states: tuple[int, ...]) -> int:
        known = self._behind_ids.get(states)
        if known is None:
            known = self._behind_ids[states] = len(self._behind_rows)
            self._behind_rows.append(states)
            self._new_row(kernels.BEHIND)
        return known

    # -- growth

    def _grow(self, region: int, rows: int = 1) -> None:
        """Double the room of a region until so many rows are free, and that of all others that are half full, once."""
        old, old_head = self.machine.heap, self.machine.head
        head = old_head.copy()
        room, used = head[kernels.ROOM : kernels.USED], head[kernels.USED : kernels.USED + kernels.REGIONS]
        short = 2 * used > room
        short[list(_HASHES)] = 4 * used[list(_COUNTED)] > room[list(_HASHES)]
        short[region] = True
        short[kernels.FREE] = short[kernels.STATE]  # as many rows as states
        room[short] *= 2
        while used[region] + rows > room[region]:
            room[region] *= 2
        size = self._lay_out(head)
        if size >= MAX_HEAP:
            raise ConstraintError("the automaton needs more than 512 MiB of memory", hint="use a simpler rule")
        heap = np.zeros(size, np.int32)
        for kept in range(kernels.WORK):
            if not (short[kept] and kept in _HASHES):
                at, end = old_head[kept], old_head[kept] + self._widths[kept] * old_head[kernels.ROOM + kept]
                heap[head[kept] : head[kept] + end - at] = old[at:end]
        self.machine = self.machine._replace(heap=heap, head=head)
        if short[kernels.STATE]:
            rows = int(room[kernels.STATE]) // 2
            unknown = np.full((rows, len(self._byte_of)), UNKNOWN, np.int32)
            self.machine = self.machine._replace(
                next=np.concatenate([self.machine.next, unknown]),
                accepting=np.concatenate([self.machine.accepting, np.zeros(rows, np.bool_)]),
            )
        self.large = heap.nbytes + self.machine.next.nbytes > STATE_BYTES
        if short[kernels.STATE_HASH]:
            kernels.rehash_states(heap, head)
        if short[kernels.STACK_HASH]:
            kernels.rehash_stacks(heap, head)
        if short[kernels.JOIN]:
            at, end = old_head[kernels.JOIN], old_head[kernels.JOIN] + 3 * old_head[kernels.ROOM + kernels.JOIN]
            kernels.rehash_joins(old[at:end], heap, head)


_FILL: dict[int, Callable[[Engine, int, int], int]] = {
    kernels.SIDE: Engine._next_side,
    kernels.BEHIND: Engine._next_behind,
}
_WORDS = {True: kernels.INSIDE, False: kernels.OUTSIDE}
_HASHES = (kernels.STATE_HASH, kernels.STACK_HASH, kernels.JOIN)
_COUNTED = (kernels.STATE, kernels.STACK, kernels.JOIN)  # what is in them


# -- look-ahead


def _demand(demands: Demands, automaton: Automaton, state: int, negated: bool) -> Demands | None:
    """Add a demand; None if it can never be met, unchanged if it is met whatever follows."""
    if state == DEAD or automaton.universal(state):
        met = (state == DEAD) == negated
        return demands if met else None
    return demands | {(automaton, state, negated)}


def _step_demands(demands: Demands, byte: int) -> Demands | None:
    kept = NO_DEMANDS
    for automaton, state, negated in demands:
        stepped = _demand(kept, automaton, automaton.step(state, byte), negated)
        if stepped is None:
            return None
        kept = stepped
    return kept


def _satisfied_at_end(demands: Demands) -> bool:
    return all(automaton.accepts(state) != negated for automaton, state, negated in demands)
