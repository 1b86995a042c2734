"""type number and integer, minimum, maximum, exclusiveMinimum, exclusiveMaximum (draft 4: boolean), multipleOf.

    read(Place("", {"minimum": 0, "exclusiveMaximum": 1.5, "multipleOf": 0.25}, DRAFTS[2020]))

Numbers are exact decimals: 0.1 is one tenth. Which spellings of a number are produced is said in decimals.py; multiples
and numbers that must not be multiples have those of multiples.py. An integer is plain digits and, where the draft
counts 1.0 as an integer, perhaps `.0` behind them; it has no exponent, as `json.dumps` writes for large floats.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

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
from genctl.compilers.json_schema.multiples import (
    Bound,
    Form,
    Grid,
    at_least,
    at_most,
    common_step,
    embedded,
    least_steps,
    multiples,
    plain_others,
    pointed,
    scientific_multiples,
)

Interval: TypeAlias = tuple[Bound | None, Bound | None]
ZERO = Bound(Decimal(0), False)
ONE = Fraction(1)


@dataclass(frozen=True, slots=True)
class Numbers(Facet):
    """Numbers between two bounds, but the excluded ones: only whole ones (integer), only others (fractional), multiples
    of each of some numbers, multiples of none of some.
    """

    integer: bool = False
    low: Bound | None = None
    high: Bound | None = None
    fractional: bool = False
    multiples: tuple[Decimal, ...] = ()
    non_multiples: tuple[Decimal, ...] = ()
    excluded: frozenset[Decimal] = frozenset()

    def meet(self, other: Numbers, /) -> Numbers:
        return Numbers(
            self.integer or other.integer,
            max((b for b in (self.low, other.low) if b), key=lambda b: (b.value, b.strict), default=None),
            min((b for b in (self.high, other.high) if b), key=lambda b: (b.value, not b.strict), default=None),
            self.fractional or other.fractional,
            tuple(sorted({*self.multiples, *other.multiples})),
            tuple(sorted({*self.non_multiples, *other.non_multiples})),
            self.excluded | other.excluded,
        )

    def without_values(self, values: Iterable[Decimal], /) -> Numbers:
        return replace(self, excluded=self.excluded.union(values))

    def admits(self, value: Any, context: Context, /) -> bool:
        number = decimal(value)
        assert number is not None
        if self.integer or self.fractional:
            whole = is_whole(number) and (context.draft.whole_fractions or isinstance(value, int))
            if self.fractional if whole else self.integer:
                return False
        return self._bounded(number) and number not in self.excluded and self._in_step(number)

    def _bounded(self, number: Decimal) -> bool:
        low, high = self.low, self.high
        enough = low is None or (number > low.value if low.strict else number >= low.value)
        return enough and (high is None or (number < high.value if high.strict else number <= high.value))

    def _in_step(self, number: Decimal) -> bool:
        return all(is_multiple(number, step) for step in self.multiples) and not any(
            is_multiple(number, step) for step in self.non_multiples
        )

    def conflict(self, context: Context, /) -> str | None:
        wanted = self._wanted(context.draft.whole_fractions)
        if wanted is not None and any(wanted.any_between(low, high) for low, high in self._intervals()):
            return None
        return f"no {'integer' if self.integer else 'number'} is {' and '.join(self._described())}"

    def _described(self) -> Iterator[str]:
        if self.low is not None:
            yield f"{'above' if self.low.strict else 'at least'} {self.low.value}"
        if self.high is not None:
            yield f"{'below' if self.high.strict else 'at most'} {self.high.value}"
        if self.fractional:
            yield "fractional"
        yield from (f"a multiple of {step}" for step in self.multiples)
        yield from (f"no multiple of {step}" for step in self.non_multiples)
        if self.excluded:
            yield "none of those excluded"

    def expression(self, context: Context, /) -> Expression:
        return _expression(self, context.draft.whole_fractions)

    def spelled(self, whole_fractions: bool) -> Expression:
        wanted = self._wanted(whole_fractions)
        if wanted is None:
            return NOTHING
        intervals = [*self._intervals()]
        mirrored = [(_negative(high), _negative(low)) for low, high in intervals]
        return union(wanted.magnitudes(intervals), concat(MINUS, wanted.magnitudes(mirrored)))

    def _wanted(self, whole_fractions: bool) -> _Wanted | None:
        """None if it is visible without the bounds that no number is left."""
        if self.integer and self.fractional:
            return None
        form: Form = "any"
        steps, without = [*map(Fraction, self.multiples)], [*map(Fraction, self.non_multiples)]
        if self.integer:
            steps.append(ONE)
            form = "integer" if whole_fractions else "whole"
        elif self.fractional and whole_fractions:
            without.append(ONE)
        elif self.fractional:
            form = "pointed"
        step = common_step(steps)
        if step is None:
            return _Wanted(None, least_steps(without), form, None)
        grid = Grid.of(step, without)
        return None if grid is None else _Wanted(step, least_steps(without), form, grid)

    def _intervals(self) -> Iterator[Interval]:
        """What the excluded numbers leave of the numbers between the bounds, in order; none is visibly empty."""
        low = self.low
        for number in sorted(filter(self._bounded, self.excluded)):
            yield from _interval(low, Bound(number, True))
            low = Bound(number, True)
        yield from _interval(low, self.high)


def _interval(low: Bound | None, high: Bound | None) -> Iterator[Interval]:
    strict = low is not None and high is not None and (low.strict or high.strict)
    if low is None or high is None or low.value < high.value or (low.value == high.value and not strict):
        yield low, high


def is_multiple(number: int | Decimal, step: int | Decimal) -> bool:
    return (Fraction(number) / Fraction(step)).denominator == 1


class _Wanted(NamedTuple):
    """Multiples of step (None: any numbers) that are no multiples of any of `without`. grid: the same, if steps are."""

    step: Fraction | None
    without: tuple[Fraction, ...]
    form: Form
    grid: Grid | None

    def any_between(self, low: Bound | None, high: Bound | None) -> bool:
        if self.grid is None:
            single = low is not None and high is not None and low.value == high.value
            return not single or all((Fraction(low.value) / one).denominator > 1 for one in self.without if low)
        if low is None or high is None:
            return True
        units = 10**self.grid.places
        return self.grid.first(at_least(low, units), at_most(high, units)) is not None

    def magnitudes(self, intervals: Iterable[Interval]) -> Expression:
        """The numbers of at least 0 in the intervals, without a sign."""
        parts = []
        for first, last in intervals:
            low = ZERO if first is None or first.value < 0 else first
            if any(_interval(low, last)):
                parts.append(_between(self, _unsigned(low), None if last is None else _unsigned(last)))
        return union(*parts)

    def between(self, low: Bound, high: Bound | None) -> Expression:
        if self.grid is None:
            return self._reals(low, high)
        units = 10**self.grid.places
        least, most = at_least(low, units), None if high is None else at_most(high, units)
        if most is not None and least > most:
            return NOTHING
        plain = self.form in ("whole", "integer")
        large = NOTHING if plain else scientific_multiples(self.step, self.without, low, high)
        if self.grid == (1, (), 0) and self.form != "pointed":
            tail = EMPTY if self.form == "whole" else optional(Literal(b".0"))
            return union(concat(whole_range(least, most), tail), large)
        return union(embedded(multiples(self.grid, least, most, self.form)), large)

    def _reals(self, low: Bound, high: Bound | None) -> Expression:
        if not self.without:
            return _reals(low, high) if self.form == "any" else embedded(pointed(_reals(low, high)))
        numbers = plain_others(self.without, low, high, self.form)
        return union(embedded(numbers), scientific_multiples(None, self.without, low, high))


@lru_cache(1024)
def _between(wanted: _Wanted, low: Bound, high: Bound | None) -> Expression:
    """Often the same for both signs."""
    return wanted.between(low, high)


def _reals(low: Bound, high: Bound | None) -> Expression:
    if high is None:
        return above(low.value, strict=low.strict)
    if low.value == high.value:
        return equal(low.value)
    if low == ZERO:
        return below(high.value, strict=high.strict)
    return between(low.value, high.value, above=low.strict, below=high.strict)


@lru_cache(1024)
def _expression(numbers: Numbers, whole_fractions: bool) -> Expression:
    return numbers.spelled(whole_fractions)


def _negative(bound: Bound | None) -> Bound | None:
    return None if bound is None else bound._replace(value=bound.value.copy_negate())


def _unsigned(bound: Bound) -> Bound:
    """Zero may have a sign that says nothing."""
    return bound._replace(value=bound.value.copy_abs())


LIMITS = (("minimum", False), ("exclusiveMinimum", True), ("maximum", False), ("exclusiveMaximum", True))


def read(place: Place) -> Numbers:
    """What the keywords for numbers say at this place."""
    found = Numbers(multiples=_steps(place))
    for low, bound in _limits(place):
        found = found.meet(Numbers(low=bound) if low else Numbers(high=bound))
    return found


def violations(place: Place) -> list[Numbers]:
    """The numbers that one of the keywords does not allow, keyword by keyword."""
    found = [Numbers(non_multiples=(step,)) for step in _steps(place)]
    for low, (value, strict) in _limits(place):
        beyond = Bound(value, not strict)
        found.append(Numbers(high=beyond) if low else Numbers(low=beyond))
    return found


def _steps(place: Place) -> tuple[Decimal, ...]:
    step = place.number("multipleOf")
    if step is None:
        return ()
    if step <= 0:
        place.wrong("multipleOf", "a number above 0")
    return (step,)


def _limits(place: Place) -> Iterator[tuple[bool, Bound]]:
    """(is it a lower one?, bound) for each keyword."""
    for keyword, strict in LIMITS:
        plain_name = keyword.replace("exclusiveM", "m")
        if place.draft.year == 4:
            beside = place.get("exclusive" + plain_name.capitalize(), bool, f"true or false in {place.draft.name}")
            number = None if strict else place.number(keyword)
            strict = bool(beside)
        else:
            if strict and isinstance(place.schema.get(keyword), bool):
                place.wrong(keyword, "a finite number", 'true and false belong to draft 4: say so with "$schema"')
            number = place.number(keyword)
        if number is not None:
            yield plain_name == "minimum", Bound(number, strict)
