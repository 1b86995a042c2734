"""Random numbers by counter: each particle has a stream of its own, so no result depends on what runs beside it.

    streams = seeded(7, [(0, 0), (0, 1)])        # of two particles of prompt 0
    streams.at(step).uniforms(5)                 # (2, 5) in [0, 1)

SplitMix64 (Steele, Lea & Flood 2014), read at any place of its sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.random import Generator, Philox, SeedSequence

from genctl.kernels.records import F64, I64, U64
from genctl.kernels.rejection import FIRST_FACTOR, GOLDEN, SECOND_FACTOR, uniform_at

_ROUNDS = (np.uint64(30), FIRST_FACTOR), (np.uint64(27), SECOND_FACTOR)
_LAST = np.uint64(31)


class Streams(NamedTuple):
    """keys (N,): where each of N streams begins."""

    keys: U64

    def at(self, number: int) -> Streams:
        """The streams of a step, independent of those of any other step."""
        return Streams(_mixed(_mixed(self.keys) ^ _mixed(np.full_like(self.keys, number))))

    def rows(self, rows: I64) -> Streams:
        return Streams(self.keys[rows])

    def uniforms(self, count: int, begin: int = 0) -> F64:
        """(N, count) numbers from the begin-th on, uniform on the multiples of 2**-53 in [0, 1)."""
        places = np.arange(begin + 1, begin + count + 1, dtype=np.uint64) * GOLDEN
        bits = _mixed(self.keys[:, None] + places) >> np.uint64(11)
        return bits.astype(np.float64) * 2.0**-53

    def uniform(self, row: int, place: int) -> float:
        """Number `place` of one stream."""
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
