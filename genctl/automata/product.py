"""Products of automata: intersection and difference, built lazily as pairs of states.

    both = Product(words, at_most_ten)                       # in both languages
    rest = Product(keys, declared, difference=True)          # in the first and not in the second

Products are trim like all automata: a pair from which no common text can be finished is dead.
"""

from __future__ import annotations

import numpy as np

from genctl.automata.base import DEAD, UNREACHABLE, Automaton
from genctl.automata.lazy import LazyAutomaton
from genctl.kernels.records import I32, U8

MAX_SEARCH = 50_000  # states, of some ten microseconds; of products in a product all together

Pair = tuple[int, int]


def common_classes(first: Automaton, second: Automaton) -> tuple[I32, U8]:
    """The byte classes that neither tells apart: (C, 2) those of each automaton, (256,) the class of each byte."""
    pairs = 256 * first.machine.classes.astype(np.int32) + second.machine.classes
    found, classes = np.unique(pairs, return_inverse=True)
    return np.stack([found // 256, found % 256], axis=1), classes.astype(np.uint8)


class Product(LazyAutomaton[Pair]):
    """The intersection of two languages, or (difference=True) the first without the second."""

    exact_bound = False

    def __init__(self, first: Automaton, second: Automaton, *, difference: bool = False) -> None:
        self._first, self._second, self._difference = first, second, difference
        self.depth: int = 1 + max((part.depth for part in (first, second) if isinstance(part, Product)), default=0)
        self.max_search = MAX_SEARCH // self.depth
        columns, classes = common_classes(first, second)
        self._columns: list[tuple[int, int]] = [*map(tuple, columns.tolist())]
        super().__init__(classes, self._pair(first.start, second.start))

    def _pair(self, a: int, b: int) -> Pair | None:
        if a == DEAD or (b == DEAD and not self._difference):
            return None
        return a, b

    def _successor(self, key: Pair, byte: int) -> Pair | None:
        a, b = key
        return self._pair(self._first.step(a, byte), self._second.step(b, byte))

    def _successors(self, key: Pair) -> list[Pair | None]:
        firsts, seconds = self._first.row(key[0]), self._second.row(key[1])
        return [self._pair(firsts[a], seconds[b]) for a, b in self._columns]

    def _accepts(self, key: Pair) -> bool:
        return self._first.accepts(key[0]) and self._second.accepts(key[1]) != self._difference

    def _bound(self, key: Pair) -> int:
        first = self._first.distance(key[0])
        if self._difference:
            return UNREACHABLE if self._second.universal(key[1]) else first
        return max(first, self._second.distance(key[1]))

    def _universal(self, key: Pair) -> bool:
        if self._difference:
            return self._first.universal(key[0]) and key[1] == DEAD
        return self._first.universal(key[0]) and self._second.universal(key[1])
