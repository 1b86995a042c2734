"""Random numbers by counter: each particle has a stream of its own, so no result depends on what runs beside it.

    streams = seeded(7, [(0, 0), (0, 1)])        # of two particles of prompt 0
    streams.at(step).uniforms(5)                 # (2, 5) in [0, 1)

SplitMix64 (Steele, Lea & Flood 2014), read at any place of its sequence. Particles that draw from the same law may have
numbers that are spread over [0, 1) instead (`together`): what each of them draws has the same law as before, and all of
them together come closer to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.random import Generator, Philox, SeedSequence

from genctl.kernels.records import F64, I64, U64
from genctl.kernels.rejection import FIRST_FACTOR, GOLDEN, SECOND_FACTOR, uniform_at

# The places of a stream whose numbers may be spread: of its first draw, and of a draw from its mask.
FIRST, OF_MASK = SPREAD = 0, 2**40
GOLDEN_RATIO = (math.sqrt(5) - 1) / 2

_BY_KEY = np.empty((0, len(SPREAD)))
_ROUNDS = (np.uint64(30), FIRST_FACTOR), (np.uint64(27), SECOND_FACTOR)
_LAST = np.uint64(31)


class Streams(NamedTuple):
    """keys (N,): where each of N streams begins. spread (N, 2): the numbers at the places SPREAD, or (0, 2)."""

    keys: U64
    spread: F64 = _BY_KEY

    def at(self, number: int) -> Streams:
        """The streams of a step, independent of those of any other step."""
        return Streams(_mixed(_mixed(self.keys) ^ _mixed(np.full_like(self.keys, number))))

    def together(self, groups: I64) -> Streams:
        """(N,) numbers of groups: the i-th of the n streams of a group has (u + i / n) mod 1 as its first number.

        The shift u is the first stream's own number (Cranley & Patterson 1976), so that each is uniform and independent
        of the rest of its stream. For draws from masks, which some of a group may need whose first draws lie side by
        side, i / n is i times the golden ratio: any neighbours are far apart.
        """
        members: dict[int, list[int]] = {}
        for stream, group in enumerate(groups.tolist()):
            members.setdefault(group, []).append(stream)
        if len(members) == len(groups):
            return self
        spread = np.column_stack([self.uniforms(1, place)[:, 0] for place in SPREAD])
        for several in members.values():
            steps = np.arange(len(several))[:, None] * [1 / len(several), GOLDEN_RATIO]
            spread[several] = (spread[several[0]] + steps) % 1.0
        return Streams(self.keys, spread)

    def rows(self, rows: I64) -> Streams:
        return Streams(self.keys[rows], self.spread[rows] if len(self.spread) else self.spread)

    def uniforms(self, count: int, begin: int = 0) -> F64:
        """(N, count) numbers from the begin-th on, uniform on the multiples of 2**-53 in [0, 1)."""
        places = np.arange(begin + 1, begin + count + 1, dtype=np.uint64) * GOLDEN
        bits = _mixed(self.keys[:, None] + places) >> np.uint64(11)
        found = bits.astype(np.float64) * 2.0**-53
        if len(self.spread):
            for column, place in enumerate(SPREAD):
                if begin <= place < begin + count:
                    found[:, place - begin] = self.spread[:, column]
        return found

    def uniform(self, row: int, place: int) -> float:
        """Number `place` of one stream."""
        if len(self.spread) and place in SPREAD:
            return float(self.spread[row, SPREAD.index(place)])
        return float(uniform_at(self.keys[row], place))

    def generator(self, row: int) -> Generator:
        """numpy's generator for what needs many numbers of one stream."""
        return Generator(Philox(key=int(self.keys[row])))


def seeded(seed: int, rows: Sequence[tuple[int, ...]]) -> Streams:
    """A stream for each row, which is known by its numbers (prompt, sequence, particle)."""
    keys = np.full(len(rows), SeedSequence(seed).generate_state(1, np.uint64)[0])
    for numbers in np.array(rows, np.int64).reshape(len(rows), -1).T:
        keys = _mixed(_mixed(keys) ^ _mixed(numbers.astype(np.uint64)))
    return Streams(keys)


def of(rng: Generator, count: int) -> Streams:
    """Streams that a generator (of 64 bits a number, as numpy's default) begins; it moves on."""
    return Streams(rng.bit_generator.random_raw(count))


def _mixed(values: U64) -> U64:
    values = values + GOLDEN
    for shift, factor in _ROUNDS:
        values ^= values >> shift
        values *= factor
    values ^= values >> _LAST
    return values
