r"""Decimal numbers compared with a bound, digit by digit, as expressions.

    above(Decimal("2.5"), strict=False)     # 2.5, 2.50, 3, 17.1, 2.5e0, 1e+1, ...
    whole_range(1, 65535)                   # whole numbers without sign

Magnitudes (numbers without a sign) are spelled in plain decimal notation of any length, or in normalised scientific
notation: one digit but 0 before the point, and an exponent. A number in another scientific notation (`12e3`, `0.5e3`)
is not in a bounded language. Zero may have any exponent. Exponents have at most three digits, as far as floats reach.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TypeAlias

from genctl.automata.expressions import EMPTY, NOTHING, Bytes, Expression, Literal, concat, optional, repeat, union

DIGIT = Bytes(((0x30, 0x39),))
NONZERO = Bytes(((0x31, 0x39),))
DIGITS = repeat(DIGIT, 1)
ANY_DIGITS = repeat(DIGIT)
ZERO = Literal(b"0")
ZEROS = repeat(ZERO)
POINT = Literal(b".")
MINUS = Literal(b"-")
PLUS = optional(Literal(b"+"))
E = Bytes(((0x45, 0x45), (0x65, 0x65)))

WHOLE = union(ZERO, concat(NONZERO, ANY_DIGITS))
FRACTION = concat(POINT, DIGITS)
ZERO_FRACTION = concat(POINT, repeat(ZERO, 1))
EXPONENT_DIGITS = repeat(DIGIT, 1, 3)
EXPONENT = concat(E, optional(Bytes(((0x2B, 0x2B), (0x2D, 0x2D)))), EXPONENT_DIGITS)
MAGNITUDE = concat(WHOLE, optional(FRACTION), optional(EXPONENT))  # every JSON number without sign
ZERO_MAGNITUDE = concat(ZERO, optional(ZERO_FRACTION), optional(EXPONENT))
MANTISSA = concat(NONZERO, optional(FRACTION))


def text(digits: str) -> Expression:
    return Literal(digits.encode())


def plain(number: Decimal) -> tuple[str, str]:
    """A number of at least 0 as its digits before and behind the point, without needless zeros."""
    whole, _, fraction = f"{number:f}".partition(".")
    return whole.lstrip("0") or "0", fraction.rstrip("0")


def scientific(number: Decimal) -> tuple[tuple[str, str], int]:
    """A number above 0 as its mantissa - the first digit, further ones without needless zeros - and the exponent."""
    digits = "".join(map(str, number.as_tuple().digits)).strip("0")
    return (digits[0], digits[1:]), number.adjusted()


# -- digits of equal length

NESTED = 64  # so many of the last digits are compared each inside of the one before; those before them are written out


def _digits(count: int) -> Expression:
    return repeat(DIGIT, count, count)


def _span(low: int, high: int) -> Expression:
    """One digit from low to high."""
    return Bytes(((0x30 + low, 0x30 + high),)) if low <= high else NOTHING


def _larger(digit: str) -> Expression:
    return _span(int(digit) + 1, 9)


def _smaller(digit: str, floor: int = 0) -> Expression:
    return _span(floor, int(digit) - 1)


def _compared(digits: str, same: Expression, other: Callable[[int], Expression]) -> Expression:
    """All of the digits and then `same`; or `other(i)` in the place of digit i and all that follow it."""
    start = max(len(digits) - NESTED, 0)
    for i in range(len(digits) - 1, start - 1, -1):
        same = union(concat(text(digits[i]), same), other(i))
    heads = (concat(text(digits[:i]), other(i)) for i in range(start))
    return union(*heads, concat(text(digits[:start]), same))


def _from_same_length(digits: str, *, strict: bool = False) -> Expression:
    """As many digits, of a larger number or (not strict) the same."""
    same, rest = NOTHING if strict else EMPTY, len(digits) - 1
    return _compared(digits, same, lambda i: concat(_larger(digits[i]), _digits(rest - i)))


def _upto_same_length(digits: str, *, strict: bool = False, floor: int = 0) -> Expression:
    """As many digits, of a smaller number or (not strict) the same. floor: the least first digit."""
    same, rest = NOTHING if strict else EMPTY, len(digits) - 1
    return _compared(digits, same, lambda i: concat(_smaller(digits[i], 0 if i else floor), _digits(rest - i)))


def _between_same_length(low: str, high: str, *, above: bool = False, below: bool = False) -> Expression:
    """As many digits, of a number from low to high; above, below: without low itself, without high itself."""
    at = _common(low, high)
    if at == len(low):
        return NOTHING if above or below else text(low)
    inner = concat(_span(int(low[at]) + 1, int(high[at]) - 1), _digits(len(low) - at - 1))
    least = concat(text(low[at]), _from_same_length(low[at + 1 :], strict=above))
    most = concat(text(high[at]), _upto_same_length(high[at + 1 :], strict=below))
    return concat(text(low[:at]), union(least, inner, most))


def _common(first: str, second: str) -> int:
    """How many characters are the same before the first that differs."""
    return next(
        (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )


# -- whole numbers and fractions


def whole_range(low: int, high: int | None) -> Expression:
    """Whole numbers without sign, 0 <= low <= number <= high."""
    return _wholes(str(low), None if high is None else str(high))


def _wholes(low: str, high: str | None, *, above: bool = False, below: bool = False) -> Expression:
    """The same; above, below: without low itself, without high itself."""
    if high is None:
        return union(_from_same_length(low, strict=above), concat(NONZERO, repeat(DIGIT, len(low))))
    if len(low) == len(high):
        return _between_same_length(low, high, above=above, below=below)
    inner = concat(NONZERO, repeat(DIGIT, len(low), len(high) - 2))  # nothing if there are no lengths in between
    return union(_from_same_length(low, strict=above), inner, _upto_same_length(high, strict=below, floor=1))


def fraction_above(digits: str, *, strict: bool) -> Expression:
    """What may follow the whole part: fractions larger than (or equal to) that of the digits."""
    if not digits and not strict:
        return optional(FRACTION)
    return concat(POINT, _tail_above(digits, strict))


def _tail_above(digits: str, strict: bool) -> Expression:
    """Further digits of a larger fraction (or of the same)."""
    same = concat(ZEROS, NONZERO, ANY_DIGITS) if strict else ANY_DIGITS
    return _compared(digits, same, lambda i: concat(_larger(digits[i]), ANY_DIGITS))


def fraction_below(digits: str, *, strict: bool) -> Expression:
    """The same, smaller. The digits do not end with 0, so whatever ends before them is smaller."""
    if not digits:
        return NOTHING if strict else optional(ZERO_FRACTION)
    return optional(concat(POINT, _tail_below(digits, strict, first=True)))


def _tail_below(digits: str, strict: bool, *, first: bool = False) -> Expression:
    """Further digits of a smaller fraction (or of the same). first: at least one."""
    same = NOTHING if strict else ZEROS

    def other(i: int) -> Expression:
        ended = NOTHING if i == 0 and first else EMPTY
        return union(ended, concat(_smaller(digits[i]), ANY_DIGITS))

    return _compared(digits, same, other)


def fraction_between(low: str, high: str, *, above: bool, below: bool) -> Expression:
    """The fractions from low to high; above, below: without low itself, without high itself."""
    if not low and not above:
        return fraction_below(high, strict=below)
    at = _common(low.ljust(len(high), "0"), high)
    if at >= len(high):
        return NOTHING
    digit = int(low[at]) if at < len(low) else 0
    least = concat(text(str(digit)), _tail_above(low[at + 1 :], above))
    inner = concat(_span(digit + 1, int(high[at]) - 1), ANY_DIGITS)
    most = concat(text(high[at]), _tail_below(high[at + 1 :], below))
    found = concat(text(high[:at]), union(least, inner, most))
    if low and not above and at >= len(low):  # low itself ends before the digits differ
        found = union(found, concat(text(low), repeat(ZERO, 0, at - len(low))))
    return concat(POINT, found)


def _fraction_equal(digits: str) -> Expression:
    return concat(POINT, text(digits), ZEROS) if digits else optional(ZERO_FRACTION)


# -- a whole part and a fraction; the whole part may be the one digit of a mantissa

Parts: TypeAlias = tuple[str, str]


def _from(low: Parts, most: str | None, *, strict: bool) -> Expression:
    """Numbers larger than low (or equal to it), their whole part at most `most`."""
    whole, fraction = low
    return union(
        concat(text(whole), fraction_above(fraction, strict=strict)),
        concat(_wholes(whole, most, above=True), optional(FRACTION)),
    )


def _upto(high: Parts, least: str, *, strict: bool) -> Expression:
    """Numbers smaller than high (or equal to it), their whole part at least `least`."""
    whole, fraction = high
    return union(
        concat(_wholes(least, whole, below=True), optional(FRACTION)),
        concat(text(whole), fraction_below(fraction, strict=strict)),
    )


def _within(low: Parts, high: Parts, *, above: bool, below: bool) -> Expression:
    """From low to high, which is larger; above, below: without low itself, without high itself."""
    if low[0] == high[0]:
        return concat(text(low[0]), fraction_between(low[1], high[1], above=above, below=below))
    return union(
        concat(text(low[0]), fraction_above(low[1], strict=above)),
        concat(_wholes(low[0], high[0], above=True, below=True), optional(FRACTION)),
        concat(text(high[0]), fraction_below(high[1], strict=below)),
    )


# -- plain notation alone, and mantissas of few digits


def plain_between(low: Parts, high: Parts | None, *, above: bool = False, below: bool = False) -> Expression:
    """Numbers in plain notation from low to high; above, below: without low itself, without high itself."""
    if high is None:
        return _from(low, None, strict=above)
    if low == high:
        return NOTHING if above or below else concat(text(low[0]), _fraction_equal(low[1]))
    if low == ("0", "") and not above:
        return _upto(high, "0", strict=below)
    return _within(low, high, above=above, below=below)


def plain_range(low: int, high: int | None, places: int) -> Expression:
    """The same; low and high in units of 10**-places."""
    units = 10**places
    if high is not None and low % units == 0 and (high + 1) % units == 0:
        return concat(whole_range(low // units, high // units), optional(FRACTION))
    return plain_between(_parts(low, places), None if high is None else _parts(high, places))


def _parts(units: int, places: int) -> Parts:
    digits = f"{Decimal(units):f}".rjust(places + 1, "0")
    point = len(digits) - places
    return digits[:point], digits[point:].rstrip("0")


def _tail_upto(digits: str) -> Expression:
    """One digit or more, but no more than there are here, of a smaller fraction or the same."""

    def other(i: int) -> Expression:
        return union(EMPTY if i else NOTHING, concat(_smaller(digits[i]), repeat(DIGIT, 0, len(digits) - 1 - i)))

    return _compared(digits, EMPTY, other)


SHORT_MANTISSA = concat(NONZERO, optional(concat(POINT, repeat(DIGIT, 1, 16))))  # as many digits as a float needs
LARGEST_MANTISSA = concat(text("1"), optional(concat(POINT, _tail_upto("7976931348623157"))))  # those of e308


# -- exponents: a sign and zeros may stand before the digits


def exponents(low: int | None, high: int | None) -> Expression:
    """An exponent from low to high."""
    positive = _exponent_digits(max(low or 0, 0), high)
    negative = _exponent_digits(max(-(high or 0), 0), None if low is None else -low)
    return concat(E, union(concat(PLUS, positive), concat(MINUS, negative)))


def _exponent_digits(low: int, high: int | None) -> Expression:
    """Up to three digits of a number from low (at least 0) to high."""
    most = 999 if high is None else min(high, 999)
    if (low, most) == (0, 999):
        return EXPONENT_DIGITS
    bounds = ((size, min(most, 10**size - 1)) for size in (1, 2, 3))
    spelled = (_between_same_length(f"{low:0{size}}", f"{high:0{size}}") for size, high in bounds if low <= high)
    return union(*spelled)


# -- magnitudes


def above(bound: Decimal, *, strict: bool) -> Expression:
    """Magnitudes larger than the bound (or equal to it)."""
    if not bound:
        return _above_zero(strict=strict)
    mantissa, exponent = scientific(bound)
    return union(
        _from(plain(bound), None, strict=strict),
        concat(MANTISSA, exponents(exponent + 1, None)),
        concat(_from(mantissa, "9", strict=strict), exponents(exponent, exponent)),
    )


def below(bound: Decimal, *, strict: bool) -> Expression:
    """Magnitudes of at least 0 smaller than the bound (or equal to it)."""
    if not bound:
        return NOTHING if strict else ZERO_MAGNITUDE
    mantissa, exponent = scientific(bound)
    return union(
        ZERO_MAGNITUDE,
        _upto(plain(bound), "0", strict=strict),
        concat(MANTISSA, exponents(None, exponent - 1)),
        concat(_upto(mantissa, "1", strict=strict), exponents(exponent, exponent)),
    )


def between(low: Decimal, high: Decimal, *, above: bool, below: bool) -> Expression:
    """Magnitudes from low to high, which is larger; above, below: without low itself (if it is 0), without high."""
    numbers = _within(plain(low), plain(high), above=above, below=below)
    most, last = scientific(high)
    up = concat(_upto(most, "1", strict=below), exponents(last, last))
    if not low:
        return union(numbers, concat(MANTISSA, exponents(None, last - 1)), up)
    least, first = scientific(low)
    if first == last:
        return union(numbers, concat(_within(least, most, above=above, below=below), exponents(first, first)))
    down = concat(_from(least, "9", strict=above), exponents(first, first))
    return union(numbers, down, concat(MANTISSA, exponents(first + 1, last - 1)), up)


def _above_zero(*, strict: bool) -> Expression:
    if not strict:
        return MAGNITUDE
    tiny = concat(Literal(b"0."), ZEROS, NONZERO, ANY_DIGITS)
    return union(concat(MANTISSA, optional(EXPONENT)), concat(NONZERO, ANY_DIGITS, optional(FRACTION)), tiny)


def equal(number: Decimal, *, fractions: bool = True) -> Expression:
    """The spellings of one magnitude."""
    if not number:
        return ZERO_MAGNITUDE if fractions else ZERO
    whole, fraction = plain(number)
    if not fractions:
        return text(whole)
    (first, further), exponent = scientific(number)
    sign = MINUS if exponent < 0 else PLUS
    return union(
        concat(text(whole), _fraction_equal(fraction)),
        concat(text(first), _fraction_equal(further), E, sign, ZEROS, text(str(abs(exponent)))),
    )
