r"""Multiples of a decimal step, and what is a multiple of one and not of others, read digit by digit.

    grid = Grid.of(Fraction(1, 4), [Fraction(1)])       # quarters that are not whole
    grid.first(1, None)                                 # 25: in units of 10**-grid.places
    multiples(grid, 0, 10_00)                           # an automaton: 0.25, 0.5, 0.50, ..., 9.75

In plain notation the remainder of the digits so far is all that matters. In scientific notation it depends on the
exponent which mantissas are multiples: from some exponent on only the step's factors other than 2 and 5 count, so
exponents fall into a few classes, each with an automaton for its mantissas. Mantissas have 17 digits at most, as many
as any float needs, and exponents are those for which `json.dumps` writes one: up to -5 and from 16 on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from itertools import count
from math import ceil, floor, gcd, lcm
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from genctl.automata.base import DEAD, UNREACHABLE, Automaton
from genctl.automata.expressions import NOTHING, Embedded, Expression, concat, optional, union
from genctl.automata.lazy import LazyAutomaton
from genctl.automata.pushdown import GrammarAutomaton
from genctl.automata.tabulated import LIMIT, Tabulated, intersection
from genctl.compilers.json_schema.decimals import (
    EXPONENT,
    FRACTION,
    LARGEST_MANTISSA,
    SHORT_MANTISSA,
    WHOLE,
    exponents,
    plain,
    plain_between,
    plain_range,
)
from genctl.kernels.records import I32, I64, U8, Bool

MAX_TABLE = 8_192  # states of a table that is written out; larger automata are built as texts ask for them


class Bound(NamedTuple):
    value: Decimal
    strict: bool


# Must a number have a point or an exponent ("pointed"), may it have none ("whole") or but `.0` ("integer": a model that
# has begun with 1.5 should not find that only 1.5e16 and larger ones are left), or does either go ("any")?
Form: TypeAlias = Literal["any", "integer", "whole", "pointed"]


class Grid(NamedTuple):
    """Multiples of `step` that are no multiples of any of `without`, all in units of 10**-places."""

    step: int
    without: tuple[int, ...]
    places: int

    @classmethod
    def of(cls, step: Fraction, without: Iterable[Fraction] = ()) -> Grid | None:
        """None if every multiple of step is one of the others as well."""
        common = {_lcm(step, other) for other in without}
        if step in common:
            return None
        places = next(places for places in count() if 10**places % step.denominator == 0)
        units = 10**places
        return cls(int(step * units), tuple(int(one * units) for one in least_steps(common)), places)

    @property
    def period(self) -> int:
        return lcm(self.step, *self.without)

    def modulus(self, places: int) -> int:
        """Which remainder of the number read so far, with so many digits behind the point, matters."""
        return self.period // gcd(self.period, 10 ** (self.places - places))

    def has(self, units: int) -> bool:
        return units % self.step == 0 and all(units % other for other in self.without)

    def first(self, low: int, high: int | None, over: int = 1) -> int | None:
        """The first number from low to high (in units) that is a multiple of `over` as well."""
        step = lcm(self.step, over)
        if any(step % other == 0 for other in self.without):
            return None
        number = -(-low // step) * step
        while (high is None or number <= high) and not self.has(number):
            number += step
        return number if high is None or number <= high else None


def _lcm(a: Fraction, b: Fraction) -> Fraction:
    return Fraction(lcm(a.numerator, b.numerator), gcd(a.denominator, b.denominator))


def _divides(a: Fraction, b: Fraction) -> bool:
    return (b / a).denominator == 1


def least_steps(steps: Iterable[Fraction]) -> tuple[Fraction, ...]:
    """Steps, in order, without those whose multiples are all multiples of another."""
    kept: list[Fraction] = []
    for step in sorted(set(steps)):
        if not any(_divides(other, step) for other in kept):
            kept.append(step)
    return tuple(kept)


def common_step(steps: Iterable[Fraction]) -> Fraction | None:
    """The step whose multiples are those of all the steps; None for no steps."""
    found: Fraction | None = None
    for step in steps:
        found = step if found is None else _lcm(found, step)
    return found


# -- plain notation


@lru_cache(256)
def multiples(
    grid: Grid, low: int = 0, high: int | None = None, form: Form = "any", *, padded: bool = False
) -> Automaton:
    """Magnitudes of the grid from low to high (in units) in plain notation.

    They have as many digits behind the point as the grid needs, or fewer; one if it needs none, and any number of
    further zeros if padded.
    """
    units = 10**grid.places
    if grid.places and (low, high) == (units, 10 * units - 1) and _size(grid) <= MAX_TABLE:
        return _table(grid, form, padded, mantissas=True)
    if _size(grid) > MAX_TABLE or ((low > 0 or high is not None) and _bounded_size(grid, low, high) > LIMIT):
        return _Lazy(grid, low, high, form, padded)
    table = _table(grid, form, padded)
    if low <= 0 and high is None:
        return table
    return intersection(table, GrammarAutomaton(plain_range(low, high, grid.places)))


REAL_PLACES = 24  # digits behind the point, more than json.dumps writes without an exponent


def plain_others(without: tuple[Fraction, ...], low: Bound, high: Bound | None, form: Form) -> Automaton:
    """Magnitudes from low to high that are multiples of none of some steps, in plain notation.

    They have any number of digits; REAL_PLACES behind the point (or what the steps have) where steps or bounds are
    so long that the automaton is built as texts ask for it.
    """
    grids = [grid for grid in map(Grid.of, without) if grid is not None]
    sizes = [_bounded_size(g, 0, at_least(low if high is None else high, 10**g.places)) for g in grids]
    if max(*sizes, *map(_size, grids)) > LIMIT:
        grid = Grid.of(Fraction(1, 10 ** max(REAL_PLACES, *(grid.places for grid in grids))), without)
        assert grid is not None
        units = 10**grid.places
        return _Lazy(grid, at_least(low, units), None if high is None else at_most(high, units), form, False)
    parts = plain(low.value), None if high is None else plain(high.value)
    numbers = plain_between(*parts, above=low.strict, below=high is not None and high.strict)
    rest: Automaton = pointed(numbers) if form == "pointed" else GrammarAutomaton(numbers)
    for grid in grids:
        rest = intersection(rest, multiples(grid, padded=True), difference=True)
    return rest


def pointed(numbers: Expression) -> Automaton:
    """Those with a point or an exponent."""
    form = concat(WHOLE, union(concat(FRACTION, optional(EXPONENT)), EXPONENT))
    return intersection(GrammarAutomaton(numbers), GrammarAutomaton(form))


def _bounded_size(grid: Grid, low: int, high: int | None) -> int:
    """About the states of a table with bounds: by where the digits leave each bound, and how many are read."""
    largest = low if high is None else high
    digits = max(len(f"{Decimal(largest):f}") - grid.places, 1)
    return 3 * (digits * digits * grid.modulus(0) + sum(grid.modulus(k + 1) for k in range(grid.places)))


DIGIT_CLASSES = np.full(256, 11, np.uint8)
DIGIT_CLASSES[ord("0") : ord("9") + 1] = range(10)
DIGIT_CLASSES[ord(".")] = POINT = 10
DIGITS = np.arange(10)


def _size(grid: Grid) -> int:
    if grid.period > MAX_TABLE or grid.places > MAX_TABLE:
        return MAX_TABLE + 1
    return sum(map(grid.modulus, range(grid.places + 1))) + grid.modulus(0) + 5


def _table(grid: Grid, form: Form, padded: bool, *, mantissas: bool = False) -> Tabulated:
    """States: dead, the start, 0, the whole number so far (its remainder), behind the point, and so on by place.

    mantissas: only those with one digit but 0 before the point.
    """
    places, sizes = grid.places, [grid.modulus(k) for k in range(grid.places + 1)]
    whole = 3
    point = whole + sizes[0]
    blocks = np.cumsum([point, sizes[0], *sizes[1:]]).tolist()  # where the states with k digits behind the point begin
    table = np.zeros((_size(grid), 12), np.int32)
    accepting = np.zeros(len(table), np.bool_)
    table[1, 0] = 2
    table[1, 1:10] = whole + DIGITS[1:] % sizes[0]
    table[whole:point, :10] = whole + _appended(sizes[0], sizes[0])
    good = _good(grid, 0)
    accepting[2], accepting[whole:point] = good[0], good
    if form == "pointed":
        accepting[:] = False
    if places == 0:
        table[whole:point, POINT] = np.where(good, point, DEAD)
        table[point, 0] = point + 1
        accepting[point + 1] = True
        last, end = point + 1, point + 2
    else:
        table[whole:point, POINT] = point + np.arange(sizes[0])
        for k in range(places):
            table[blocks[k] : blocks[k] + sizes[k], :10] = blocks[k + 1] + _appended(sizes[k], sizes[k + 1])
            accepting[blocks[k + 1] : blocks[k + 1] + sizes[k + 1]] = _good(grid, k + 1)
        last, end = blocks[places], blocks[places] + sizes[places]
    table[2, POINT] = table[whole, POINT]
    if padded:
        table[last:end, 0] = np.arange(last, end)
    if form == "whole":
        table[:, POINT] = DEAD
    if mantissas:
        table[1, 0] = DEAD
        table[whole:point, :10] = DEAD
    return Tabulated(*_minimal(table, accepting))


def _appended(size: int, after: int) -> I64:
    """(size, 10) the remainder behind each digit."""
    return (10 * np.arange(size)[:, None] + DIGITS) % after


def _good(grid: Grid, places: int) -> Bool:
    """By remainder: is the number, with so many digits behind the point, in the grid?"""
    units = np.arange(grid.modulus(places)) * (10 ** (grid.places - places) % grid.period)
    good: Bool = units % grid.step == 0
    for other in grid.without:
        good &= units % other != 0
    return good


def _minimal(table: I32, accepting: Bool) -> tuple[I32, U8, Bool]:
    """States with the same future are one (Moore's algorithm); the dead state and the start keep their numbers."""
    block = accepting.astype(np.int32)
    while True:
        rows = np.column_stack([block, block[table]]).astype(np.int32)
        keys = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.itemsize * rows.shape[1]))).ravel()
        _, first, refined = np.unique(keys, return_index=True, return_inverse=True)
        known, block = block.max() + 1, refined.astype(np.int32)
        if len(first) == known:
            break
    order = np.full(len(first), -1)
    order[block[DEAD]], free = 0, 1
    if order[block[1]] < 0:
        order[block[1]], free = 1, 2
    rest = np.flatnonzero(order < 0)
    order[rest] = np.arange(free, free + len(rest))
    states = np.empty(len(first), np.int64)
    states[order] = first
    return order[block[table[states]]].astype(np.int32), DIGIT_CLASSES, accepting[states]


class _Key(NamedTuple):
    """What was read: the digits as one number, how many of them stand behind the point (None: no point was read)."""

    digits: int
    places: int | None
    inside: bool = False  # is whatever may follow between the bounds?


_START = _Key(-1, None)


class _Lazy(LazyAutomaton[_Key]):
    """Multiples of large steps: states are made as texts ask for them, and arithmetic says which can be completed."""

    def __init__(self, grid: Grid, low: int, high: int | None, form: Form, padded: bool) -> None:
        self._grid, self._low, self._high, self._form, self._padded = grid, max(low, 0), high, form, padded
        super().__init__(DIGIT_CLASSES, _START)

    def _successor(self, key: _Key, byte: int) -> _Key | None:
        digit = int(DIGIT_CLASSES[byte])
        if digit > POINT or (digit == POINT and (key.places is not None or key == _START or self._form == "whole")):
            return None
        digits, places, inside = key
        if digit == POINT:
            return self._merged(digits, 0)
        if key == _START:
            return self._merged(digit, None)
        if places is None:
            return self._merged(10 * digits + digit, None) if digits else None
        if places < self._grid.places:
            return self._merged(10 * digits + digit, places + 1, inside)
        return self._merged(digits, max(places, 1), inside) if digit == 0 and (places == 0 or self._padded) else None

    def _merged(self, digits: int, places: int | None, inside: bool = False) -> _Key:
        """Numbers with the same future are one: with the same remainder, where the bounds do not matter any more."""
        if places is None:
            units = 10**self._grid.places
            if digits and self._high is None and digits * units >= self._low:
                base = max(1, -(-self._low // units))
                digits = base + (digits - base) % self._grid.modulus(0)
            return _Key(digits, None)
        low, high = self._span(digits, places)
        if inside or (low >= self._low and (self._high is None or high <= self._high)):
            return _Key(digits % self._grid.modulus(min(places, self._grid.places)), places, True)
        return _Key(digits, places)

    def _span(self, digits: int, places: int) -> tuple[int, int]:
        """The least and the largest number, in units, that begins with these digits."""
        scale = 10 ** max(self._grid.places - places, 0)
        return digits * scale, (digits + 1) * scale - 1

    def _accepts(self, key: _Key) -> bool:
        if key == _START or key.places == 0 or (key.places is None and self._form == "pointed"):
            return False
        number, _ = self._span(key.digits, key.places or 0)
        return self._within(number, number, 1, key.inside)

    def _bound(self, key: _Key) -> int:
        if key == _START:
            return min(UNREACHABLE, 1 + min(self._whole(digit) for digit in range(10)))
        if key.places is None:
            return self._whole(key.digits)
        return self._fraction(key.digits, key.digits, key.places, key.inside)

    def _whole(self, digits: int) -> int:
        """Fewest bytes behind the digits of a whole number: further digits, and perhaps a fraction."""
        best = UNREACHABLE
        for more in count(self._fewest(digits)):
            low, high = digits * 10**more, (digits + 1) * 10**more - 1
            beyond = self._high is not None and low * 10**self._grid.places > self._high
            if more >= best or beyond or (digits == 0 and more):
                return best
            best = min(best, more + self._end(low, high))
        return best

    def _fewest(self, digits: int) -> int:
        """So many digits have to follow those of a whole number at least; the bounds may ask for more."""
        step, scale = self._grid.step, 10**self._grid.places
        low, high = 0, max(len(f"{Decimal(step):f}") - self._grid.places, 0) if digits else 0
        while low < high:
            middle = (low + high) // 2
            first, units = digits * 10**middle * scale, 10**middle * scale
            low, high = (low, middle) if -first % step < units else (middle + 1, high)
        return low

    def _end(self, low: int, high: int) -> int:
        """Fewest bytes behind some whole number from low to high."""
        units = 10**self._grid.places
        if self._form != "pointed" and self._within(low * units, high * units, units):
            return 0
        return UNREACHABLE if self._form == "whole" else min(UNREACHABLE, 1 + self._fraction(low, high, 0))

    def _fraction(self, first: int, last: int, places: int, inside: bool = False) -> int:
        """Fewest digits behind some number from first to last, of which so many places are read."""
        (low, _), (_, high) = self._span(first, places), self._span(last, places)
        for size in range(max(places, 1), max(self._grid.places, 1) + 1):
            if self._within(low, high, 10 ** max(self._grid.places - size, 0), inside):
                return size - places
        return UNREACHABLE

    def _within(self, low: int, high: int, over: int, inside: bool = False) -> bool:
        """Is a multiple of `over` from low to high among the numbers wanted?"""
        if not inside:
            low, high = max(low, self._low), high if self._high is None else min(high, self._high)
        return low <= high and self._grid.first(low, high, over) is not None


# -- scientific notation

LEAST_FLOAT, LARGEST_FLOAT = Decimal("5e-324"), Decimal("1.7976931348623157e308")
SMALL, LARGE = (-324, -5), (16, 308)  # exponents that json.dumps writes
PLACES = 16  # digits of a mantissa behind the point
UNIT = 10**PLACES


def scientific_multiples(
    step: Fraction | None, without: tuple[Fraction, ...], low: Bound, high: Bound | None
) -> Expression:
    """Magnitudes from low to high in scientific notation: multiples of step (None: any number), and of no other."""
    low = max(low, Bound(LEAST_FLOAT, False))
    largest = Bound(LARGEST_FLOAT, False)
    high = largest if high is None or high.value > LARGEST_FLOAT else high
    if low.value > high.value:
        return NOTHING
    steps = [*([] if step is None else [step]), *without]
    least = low.value.adjusted() if step is None else max(low.value.adjusted(), _exponent(step))
    single = {low.value.adjusted(), high.value.adjusted()}
    single.update(range(LARGE[0], LARGE[0] + max((_tens(one.numerator) for one in steps), default=0)))
    single.update(range(min(map(_exponent, steps), default=0), SMALL[1] + 1))
    parts = []
    for first, last in (SMALL, LARGE):
        for begin, end in _runs(max(first, least), min(last, high.value.adjusted()), single):
            parts.append(concat(_mantissas(step, without, begin, low, high), exponents(begin, end)))
    return union(*parts)


def _runs(first: int, last: int, single: set[int]) -> Iterator[tuple[int, int]]:
    """The numbers from first to last: single ones each alone, those between them together."""
    begin = first
    for one in sorted(one for one in single if first <= one <= last):
        if begin < one:
            yield begin, one - 1
        yield one, one
        begin = one + 1
    if begin <= last:
        yield begin, last


def _exponent(number: Fraction) -> int:
    """The exponent of the number in scientific notation, or one that is lower by up to three."""
    return number.numerator.bit_length() * 30103 // 100000 - number.denominator.bit_length() * 30103 // 100000 - 2


def _tens(number: int) -> int:
    """From this power of ten on, all have the same factors in common with the number."""
    return next(k for k in count() if gcd(number, 10**k) == gcd(number, 10 ** (k + 1)))


def _mantissas(
    step: Fraction | None, without: tuple[Fraction, ...], exponent: int, low: Bound, high: Bound
) -> Expression:
    """The mantissas that go with an exponent: numbers from 1 to 10 in units of 10**-PLACES."""
    scale, unit = Fraction(10) ** (PLACES - exponent), Fraction(1)
    grid = Grid.of(unit if step is None else _lcm(step * scale, unit), [other * scale for other in without])
    if grid is None:
        return NOTHING
    grid = Grid(grid.step, tuple(other for other in grid.without if other < 10 * UNIT), PLACES)
    least, most = max(at_least(low, scale), UNIT), min(at_most(high, scale), 10 * UNIT - 1)
    if grid.first(least, most) is None:
        return NOTHING
    if grid == (1, (), PLACES) and least == UNIT and most in PLAIN_MANTISSAS:
        return PLAIN_MANTISSAS[most]
    return embedded(multiples(grid, least, most))


PLAIN_MANTISSAS = {10 * UNIT - 1: SHORT_MANTISSA, 17976931348623157: LARGEST_MANTISSA}


def at_least(low: Bound, units: Fraction | int) -> int:
    """The least whole number of units that a lower bound leaves."""
    number = Fraction(low.value) * units
    return floor(number) + 1 if low.strict else ceil(number)


def at_most(high: Bound, units: Fraction | int) -> int:
    number = Fraction(high.value) * units
    return ceil(number) - 1 if high.strict else floor(number)


def embedded(automaton: Automaton) -> Expression:
    return NOTHING if automaton.start == DEAD else Embedded(automaton)
