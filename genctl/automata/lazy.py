"""Lazy determinism: states are interned configurations, rows of the table are filled when they are visited.

    class Counter(LazyAutomaton[int]): ...      # a configuration is any hashable value
    automaton.step(automaton.start, 0x61)       # builds the successor on the first visit, looks it up afterwards

Equal configurations are one int, so particles share everything that is known about a state. The table is
bounded (`MAX_STATES`); an automaton that would grow past it is refused with a ConstraintError, never cut.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from heapq import heappop, heappush
from typing import Generic, TypeVar

import numpy as np

from genctl.automata.base import DEAD, UNKNOWN, UNREACHABLE
from genctl.errors import ConstraintError
from genctl.kernels.configurations import CODE, HEAD, MISS_COLUMN, MISS_ROW
from genctl.kernels.records import U8, Machine

K = TypeVar("K", bound=Hashable)

MAX_STATES = 1_000_000


class LazyAutomaton(ABC, Generic[K]):
    """An Automaton whose states are configurations of type K. C byte classes; the table grows by doubling.

    `exact_bound` says that `_bound` is the distance itself; otherwise distances are searched for (A*), at most
    `max_search` states far.
    """

    exact_bound = True
    max_search = 10_000
    generation = 0

    def __init__(self, classes: U8, start: K | None) -> None:
        self._classes = classes
        self._byte_of = [int(np.flatnonzero(classes == c)[0]) for c in range(int(classes.max()) + 1)]
        self._no_program = np.zeros(CODE, np.int32), np.zeros(1, np.int32), np.zeros(HEAD, np.int64)
        self._next = np.full((16, len(self._byte_of)), UNKNOWN, np.int32)
        self._accepting = np.zeros(16, np.bool_)
        self._next[DEAD] = DEAD
        self._machine = self._of_tables()
        self._keys: list[K | None] = [None]
        self._ids: dict[K, int] = {}
        self._distances: list[int | None] = [UNREACHABLE]
        self._reached: dict[int, list[int]] = {}  # rows of states not yet known to be completable
        self.start = DEAD if start is None else self._intern(start)
        if self.distance(self.start) == UNREACHABLE:
            self.start = DEAD

    # -- what a kind of automaton defines

    @abstractmethod
    def _successor(self, key: K, byte: int) -> K | None:
        """The configuration after byte, None if it is dead."""

    @abstractmethod
    def _accepts(self, key: K) -> bool: ...

    @abstractmethod
    def _bound(self, key: K) -> int:
        """At most the distance of key; UNREACHABLE only if nothing is accepted from it."""

    def _successors(self, key: K) -> list[K | None]:
        """By byte class."""
        return [self._successor(key, byte) for byte in self._byte_of]

    def _universal(self, key: K) -> bool:
        return False

    # -- the Automaton protocol

    @property
    def machine(self) -> Machine:
        return self._machine

    def extend(self, status: int) -> None:
        state, column = self._no_program[2][[MISS_ROW, MISS_COLUMN]].tolist()
        self.step(state, self._byte_of[column])

    def step(self, state: int, byte: int, /) -> int:
        """The state after byte; builds the transition where it was unknown."""
        column = int(self._classes[byte])
        known = int(self._next[state, column])
        if known != UNKNOWN:
            return known
        target = self._completable(self._successor_state(state, column))
        self._next[state, column] = target
        return target

    def row(self, state: int, /) -> list[int]:
        row: list[int] = self._next[state].tolist()
        if UNKNOWN in row:
            row = [
                self._completable(target) if known == UNKNOWN else known
                for known, target in zip(row, self._successor_states(state), strict=True)
            ]
            self._next[state] = row
        return row

    def accepts(self, state: int, /) -> bool:
        return bool(self._accepting[state])

    def distance(self, state: int, /) -> int:
        """Fewest bytes from state to acceptance; UNREACHABLE (2**31 - 1) if there are none."""
        known = self._distances[state]
        return self._search(state) if known is None else known

    def universal(self, state: int, /) -> bool:
        key = self._keys[state]
        return key is not None and self._universal(key)

    def __len__(self) -> int:
        """States built so far, the dead one included."""
        return len(self._keys)

    # -- growth

    def _intern(self, key: K) -> int:
        state = self._ids.get(key)
        if state is not None:
            return state
        state = len(self._keys)
        if state >= MAX_STATES:
            raise ConstraintError(f"the automaton needs more than {MAX_STATES:,} states", hint="use a simpler rule")
        if state == len(self._next):
            self._grow()
        self._ids[key] = state
        self._keys.append(key)
        accepting = self._accepts(key)
        self._accepting[state] = accepting
        bound = 0 if accepting else self._bound(key)
        settled = accepting or self.exact_bound or bound == UNREACHABLE
        self._distances.append(bound if settled else None)
        return state

    def _grow(self) -> None:
        rows = len(self._next)
        self._next = np.concatenate([self._next, np.full_like(self._next, UNKNOWN)])
        self._accepting = np.concatenate([self._accepting, np.zeros(rows, np.bool_)])
        self._machine = self._of_tables()

    def _of_tables(self) -> Machine:
        return Machine(self._next, self._classes, self._accepting, *self._no_program)

    def _completable(self, state: int) -> int:
        return DEAD if self.distance(state) == UNREACHABLE else state

    def _successor_state(self, state: int, column: int) -> int:
        """The successor, not yet known to be completable."""
        reached = self._reached.get(state)
        if reached is not None:
            return reached[column]
        key = self._keys[state]
        assert key is not None, "the dead state's row is always known"
        successor = self._successor(key, self._byte_of[column])
        return DEAD if successor is None else self._intern(successor)

    def _successor_states(self, state: int) -> list[int]:
        """By byte class, not yet known to be completable."""
        reached = self._reached.get(state)
        if reached is None:
            key = self._keys[state]
            assert key is not None, "the dead state's row is always known"
            found = self._successors(key)
            states = {successor: self._intern(successor) for successor in dict.fromkeys(found) if successor is not None}
            reached = self._reached[state] = [DEAD if k is None else states[k] for k in found]
        return reached

    def _search(self, origin: int) -> int:
        """A* from origin to the nearest accepting state; settles the distances along the way it finds.

        Where nothing is accepted, all that was visited is UNREACHABLE.
        """
        best = {origin: 0}
        parent: dict[int, int] = {}
        heap = [(self._estimate(origin), True, 0, origin)]  # of equal estimates the settled ones first, then far ones
        done: set[int] = set()
        while heap:
            _, _, cost, state = heappop(heap)
            cost = -cost
            if state in done:
                continue
            known = self._distances[state]
            if known is not None:
                if known == UNREACHABLE:
                    continue
                return self._settle(origin, state, parent, cost + known, best)
            done.add(state)
            if len(done) > self.max_search:
                raise ConstraintError(
                    f"after {self.max_search:,} states it is still unknown whether the rule can be completed",
                    hint="split the rule, or put a smaller bound on its repetitions",
                )
            for target in dict.fromkeys(self._successor_states(state)):
                if target != DEAD and cost + 1 < best.get(target, UNREACHABLE):
                    best[target] = cost + 1
                    parent[target] = state
                    open_ = self._distances[target] is None
                    heappush(heap, (cost + 1 + self._estimate(target), open_, -cost - 1, target))
        for state in done:
            self._distances[state] = UNREACHABLE
        return UNREACHABLE

    def _estimate(self, state: int) -> int:
        known = self._distances[state]
        if known is not None:
            return known
        key = self._keys[state]
        return UNREACHABLE if key is None else self._bound(key)

    def _settle(self, origin: int, end: int, parent: dict[int, int], total: int, cost: dict[int, int]) -> int:
        state = end
        while state != origin:
            self._distances[state] = total - cost[state]
            state = parent[state]
        self._distances[origin] = total
        return total
