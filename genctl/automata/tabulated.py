"""Automata with all their states in a table, and products that are small enough for one.

    both = intersection(digits, at_most_ten)                 # a Tabulated where it is small, else a lazy Product

A whole table costs a few milliseconds, and spares the search for dead ends that a lazy product makes as it goes.
"""

from __future__ import annotations

import numpy as np

from genctl.automata.base import DEAD, UNREACHABLE, Automaton
from genctl.automata.product import Product, common_classes
from genctl.kernels.configurations import CODE, HEAD, NODES
from genctl.kernels.product import FIRST_LACKS, TOO_LARGE, product_table, settle_distances
from genctl.kernels.records import I32, U8, Bool, Machine

LIMIT = 2**18  # transitions
LAZY_LIMIT = 2**13  # where an automaton is built in Python


class Tabulated:
    """An automaton from a table (S, C): row 0 is the dead state's, row 1 the start's.

    States from which nothing is accepted are taken out of the table.
    """

    generation = 0

    def __init__(self, table: I32, classes: U8, accepting: Bool) -> None:
        states, columns = table.shape
        distances, queue = np.empty((2, states), np.int64)
        settle_distances(
            table, accepting, distances, queue, np.zeros(states + 1, np.int64), np.empty(states * columns, np.int64)
        )
        table[distances[table] == UNREACHABLE] = DEAD
        self._distances = distances
        self.machine = Machine(
            table, classes, accepting, np.zeros(CODE, np.int32), np.zeros(1, np.int32), np.zeros(HEAD, np.int64)
        )
        self.start = 1 if states > 1 and distances[1] < UNREACHABLE else DEAD

    def extend(self, status: int, /) -> None:
        raise AssertionError("a whole table lacks nothing")

    def step(self, state: int, byte: int, /) -> int:
        return int(self.machine.next[state, self.machine.classes[byte]])

    def row(self, state: int, /) -> list[int]:
        row: list[int] = self.machine.next[state].tolist()
        return row

    def accepts(self, state: int, /) -> bool:
        return bool(self.machine.accepting[state])

    def distance(self, state: int, /) -> int:
        return int(self._distances[state])

    @property
    def distances(self) -> I32:
        """(S,) of all states."""
        return self._distances.astype(np.int32)

    def universal(self, state: int, /) -> bool:
        return bool(self.machine.accepting[state]) and bool((self.machine.next[state] == state).all())

    def __len__(self) -> int:
        return len(self.machine.next)


def tabulated(automaton: Automaton) -> Automaton:
    """The automaton as a whole table where it is small."""
    return _tabulate(automaton, automaton, False, LIMIT) or automaton


def intersection(first: Automaton, second: Automaton, *, difference: bool = False, limit: int = LIMIT) -> Automaton:
    """The texts of both (difference: of the first and not of the second). limit: transitions of a table."""
    return _tabulate(first, second, difference, limit) or Product(first, second, difference=difference)


def _tabulate(first: Automaton, second: Automaton, difference: bool, limit: int) -> Tabulated | None:
    """The whole product, None if it is too large."""
    if first.start == DEAD or (second.start == DEAD and not difference):
        return Tabulated(np.zeros((1, 1), np.int32), np.zeros(256, np.uint8), np.zeros(1, np.bool_))
    columns, classes = common_classes(first, second)
    most = (LAZY_LIMIT if _is_lazy(first) or _is_lazy(second) else limit) // len(columns)
    table = np.zeros((most, len(columns)), np.int32)
    pairs = np.zeros((most, 2), np.int32)
    pairs[1] = first.start, second.start
    slots = np.zeros(2 << (2 * most).bit_length(), np.int32)  # a power of two, a quarter full at most
    progress = np.array([2, 1])
    while why := product_table(first.machine, second.machine, columns, difference, table, pairs, slots, progress):
        if why == TOO_LARGE:
            return None
        a, b = pairs[progress[1]].tolist()
        if why == FIRST_LACKS:
            first.row(a)
        else:
            second.row(b)
    pairs = pairs[: progress[0]]
    accepting = first.machine.accepting[pairs[:, 0]] & (second.machine.accepting[pairs[:, 1]] != difference)
    accepting[DEAD] = False
    return Tabulated(table[: progress[0]].copy(), classes, accepting)


def _is_lazy(automaton: Automaton) -> bool:
    """Can kernels not build its transitions?"""
    return automaton.machine.code[NODES] == 0 and not isinstance(automaton, Tabulated)
