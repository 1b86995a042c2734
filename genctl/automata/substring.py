"""The parts of a text, as an automaton: a suffix automaton that is built where it is read.

    words = [((0,), (3,)), ((4,), (7,))]                   # where parts may begin and end, unit by unit
    accepts(Substrings(b"cat sat", words), b"sat")         # True

A state is the set of positions at which what was read so far ends (Blumer et al. 1985): there are at most two for
each byte. The set is an interval of the suffix array (Manber & Myers 1993), so a text of 100,000 characters costs
sorting its suffixes, and the states that are visited.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from genctl.automata.base import UNREACHABLE
from genctl.automata.lazy import LazyAutomaton
from genctl.kernels.records import I64, U8

Unit: TypeAlias = tuple[Sequence[int], Sequence[int]]  # positions where a part may begin, and where it may end


@dataclass(frozen=True, slots=True)
class Part:
    """All places at which the text has what was read.

    Sets of places are either nested or disjoint, so the first place and the number of places name a set. What was
    read is the first `depth` bytes of the suffixes low .. low + places - 1, in sorted order; equal sets may come from
    readings of different depth, and any of them will do. units: begun so far, counted up to the largest bound.
    missing: fewest bytes to the end of a part, UNREACHABLE if there is none.
    """

    end: int
    places: int
    units: int
    low: int = field(compare=False)
    depth: int = field(compare=False)
    missing: int = field(compare=False)


class Substrings(LazyAutomaton[Part]):
    """The contiguous parts of a text that hold `least` to `most` units (None: any number).

    A part begins at one of the beginnings of a unit and ends at one of the ends of a unit. The units come one behind
    the other, and whether a place is a beginning must follow from the text between it and any earlier beginning.
    """

    def __init__(self, text: bytes, units: Sequence[Unit], least: int = 1, most: int | None = None) -> None:
        self._text, self._least, self._most = text, least, most
        self._first_end = np.array([min(ends) for _, ends in units], np.int64)
        begins = np.zeros(len(text), np.bool_)
        self._unit = np.full(len(text), -1)  # the last unit that begins at or before a byte
        self._next_end = np.full(len(text) + 1, UNREACHABLE)  # the next end at or behind a position
        for number, (beginnings, ends) in enumerate(units):
            begins[list(beginnings)] = True
            self._unit[min(beginnings)] = number
            self._next_end[list(ends)] = list(ends)
        self._unit = np.maximum.accumulate(self._unit)
        self._next_end = np.minimum.accumulate(self._next_end[::-1])[::-1]
        order = suffix_array(text)
        self._order = order[begins[order]]
        super().__init__(_byte_classes(text), self._part(0, len(self._order), 0))

    def _part(self, low: int, places: int, depth: int) -> Part | None:
        if places == 0:
            return Part(0, 0, 0, 0, 0, 0) if depth == 0 and self._least == 0 else None
        begin = int(self._order[low])
        units = int(self._unit[begin + depth - 1] - self._unit[begin] + 1) if depth else 0
        counted = min(units, self._least if self._most is None else self._most + 1)
        missing = self._missing(low, places, depth)
        end = int(self._order[low : low + places].min()) + depth
        return Part(end, places, counted, low, depth, missing)

    def _missing(self, low: int, places: int, depth: int) -> int:
        if depth == 0 and self._least == 0:
            return 0
        begins = self._order[low : low + places]
        here, first = begins + depth, self._unit[begins]
        needed = first + max(self._least, 1) - 1
        enough = needed < len(self._first_end)
        needed_end = self._first_end[np.minimum(needed, len(self._first_end) - 1)]
        ends = self._next_end[np.maximum(here, needed_end)]
        within = enough & (ends != UNREACHABLE)
        if self._most is not None:
            within[within] &= self._unit[ends[within] - 1] - first[within] < self._most
        return int((ends - here)[within].min(initial=UNREACHABLE))

    def _successor(self, key: Part, byte: int) -> Part | None:
        """The suffixes of the interval are sorted, so those that go on with the byte lie together."""

        def next_byte(suffix: int) -> int:
            at = self._order[suffix] + key.depth
            return self._text[at] if at < len(self._text) else -1

        suffixes = range(key.low, key.low + key.places)
        low = bisect_left(suffixes, byte, key=next_byte)
        high = bisect_right(suffixes, byte, low, key=next_byte)
        return self._part(key.low + low, high - low, key.depth + 1) if high > low else None

    def _accepts(self, key: Part) -> bool:
        return key.missing == 0

    def _bound(self, key: Part) -> int:
        return key.missing


def suffix_array(text: bytes) -> I64:
    """(n,) beginnings of the suffixes of text in sorted order, by doubling the length that they are sorted by."""
    size = len(text)
    rank = np.frombuffer(text, np.uint8).astype(np.int64)
    length = 1
    while True:
        behind = np.zeros(size, np.int64)
        behind[: max(size - length, 0)] = rank[length:] + 1
        pairs = rank * (size + 257) + behind
        order = np.argsort(pairs, kind="stable")
        steps = np.diff(pairs[order], prepend=pairs[order[:1]]) != 0
        rank = np.empty(size, np.int64)
        rank[order] = np.cumsum(steps)
        if size == 0 or rank[order[-1]] == size - 1:
            return order
        length *= 2


def _byte_classes(text: bytes) -> U8:
    """Each byte of the text by itself, all others together."""
    used = sorted(set(text))
    classes = np.zeros(256, np.uint8)
    classes[used] = np.arange(len(used)) + (len(used) < 256)
    return classes
