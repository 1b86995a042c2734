"""type number and integer, minimum, maximum, exclusiveMinimum, exclusiveMaximum (draft 4: boolean).

    read(Place("", {"minimum": 0, "exclusiveMaximum": 1.5}, DRAFTS[2020]))

Bounds are exact decimals: 0.1 is one tenth. Which spellings of a number are produced is said in decimals.py; an integer
is plain digits and, where the draft counts 1.0 as an integer, perhaps `.0`.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from math import ceil, floor
from typing import Any, NamedTuple

from genctl.automata.expressions import EMPTY, NOTHING, Expression, Literal, concat, optional, union
from genctl.compilers.json_schema.context import Context, Facet, Place, decimal, is_whole
from genctl.compilers.json_schema.decimals import (
    MINUS,
    above,
    below,
    between,
    equal,
    whole_range,
)


class Bound(NamedTuple):
    value: Decimal
    strict: bool


@dataclass(frozen=True, slots=True)
class Numbers(Facet):
    """Numbers (integer: only whole ones) between two bounds."""

    integer: bool = False
    low: Bound | None = None
    high: Bound | None = None

    def meet(self, other: Numbers, /) -> Numbers:
        return Numbers(
            self.integer or other.integer,
            max((b for b in (self.low, other.low) if b), key=lambda b: (b.value, b.strict), default=None),
            min((b for b in (self.high, other.high) if b), key=lambda b: (b.value, not b.strict), default=None),
        )

    def admits(self, value: Any, context: Context, /) -> bool:
        number = decimal(value)
        assert number is not None
        if self.integer and not (is_whole(number) and (context.draft.whole_fractions or isinstance(value, int))):
            return False
        low, high = self.low, self.high
        enough = low is None or (number > low.value if low.strict else number >= low.value)
        return enough and (high is None or (number < high.value if high.strict else number <= high.value))

    def conflict(self, context: Context, /) -> str | None:
        if self.low is None or self.high is None or not self._empty():
            return None
        kind = "integer" if self.integer else "number"
        low, high = ("above" if self.low.strict else "at least"), ("below" if self.high.strict else "at most")
        return f"no {kind} is {low} {self.low.value} and {high} {self.high.value}"

    def expression(self, context: Context, /) -> Expression:
        return _expression(self, context.draft.whole_fractions)

    def _empty(self) -> bool:
        if self.integer:
            low, high = self._whole_bounds()
            return low is not None and high is not None and low > high
        if self.low is None or self.high is None:
            return False
        strict = self.low.strict or self.high.strict
        return self.low.value > self.high.value or (strict and self.low.value == self.high.value)

    def _whole_bounds(self) -> tuple[int | None, int | None]:
        """Smallest and largest integer."""
        low = high = None
        if self.low is not None:
            low = ceil(Fraction(self.low.value))
            low += self.low.strict and low == self.low.value
        if self.high is not None:
            high = floor(Fraction(self.high.value))
            high -= self.high.strict and high == self.high.value
        return low, high

    def spelled(self, whole_fractions: bool) -> Expression:
        if self._empty():
            return NOTHING
        return self._whole(whole_fractions) if self.integer else self._real()

    def _whole(self, whole_fractions: bool) -> Expression:
        low, high = self._whole_bounds()
        parts = []
        if high is None or high >= 0:
            parts.append(whole_range(max(low or 0, 0), high))
        if low is None or low <= 0:
            least = 0 if high is None else max(-high, 0)
            parts.append(concat(MINUS, whole_range(least, None if low is None else -low)))
        tail = optional(Literal(b".0")) if whole_fractions else EMPTY
        return concat(union(*parts), tail)

    def _real(self) -> Expression:
        mirrored = Numbers(False, _negative(self.high), _negative(self.low))
        return union(self._magnitudes(), concat(MINUS, mirrored._magnitudes()))

    def _magnitudes(self) -> Expression:
        """The numbers of at least 0, without a sign."""
        low, high = self.meet(Numbers(low=Bound(Decimal(0), False))).low, self.high
        assert low is not None
        if high is None:
            return above(low.value, strict=low.strict)
        if low.value > high.value:
            return NOTHING
        if low.value == high.value:
            return NOTHING if low.strict or high.strict else equal(low.value)
        if low == Bound(Decimal(0), False):
            return below(high.value, strict=high.strict)
        return between(low.value, high.value, above=low.strict, below=high.strict)


@lru_cache(1024)
def _expression(numbers: Numbers, whole_fractions: bool) -> Expression:
    return numbers.spelled(whole_fractions)


def _negative(bound: Bound | None) -> Bound | None:
    return None if bound is None else bound._replace(value=bound.value.copy_negate())


def read(place: Place) -> Numbers:
    """What the keywords for numbers say at this place."""
    found = Numbers()
    for keyword, strict in (("minimum", False), ("exclusiveMinimum", True)):
        for bound in _bounds(place, keyword, "minimum", strict):
            found = found.meet(Numbers(low=bound))
    for keyword, strict in (("maximum", False), ("exclusiveMaximum", True)):
        for bound in _bounds(place, keyword, "maximum", strict):
            found = found.meet(Numbers(high=bound))
    return found


def _bounds(place: Place, keyword: str, plain: str, strict: bool) -> list[Bound]:
    if strict and place.draft.year == 4:
        if not place.get(keyword, bool, f"true or false in {place.draft.name}"):
            return []
        keyword = plain
    elif strict and isinstance(place.schema.get(keyword), bool):
        place.wrong(keyword, "a finite number", 'true and false belong to draft 4: say so with "$schema"')
    number = place.number(keyword)
    return [] if number is None else [Bound(number, strict)]
