r"""Decimal numbers compared with a bound, digit by digit, as expressions.

    above(Decimal("2.5"), strict=False)     # 2.5, 2.50, 3, 17.1, 2.5e0, 1e+1, ...
    whole_range(1, 65535)                   # whole numbers without sign

Magnitudes (numbers without a sign) are spelled in plain decimal notation of any length, or in normalised scientific
notation: one digit but 0 before the point, and an exponent. A number in another scientific notation (`12e3`, `0.5e3`)
is not in a bounded language. Zero may have any exponent. Exponents have at most three digits, as far as floats reach.
"""

from __future__ import annotations

from decimal import Decimal

from genctl.automata.expressions import EMPTY, Bytes, Embedded, Expression, Literal, concat, optional, repeat, union
from genctl.automata.pushdown import GrammarAutomaton
from genctl.automata.tabulated import intersection

DIGIT = Bytes(((0x30, 0x39),))
NONZERO = Bytes(((0x31, 0x39),))
DIGITS = repeat(DIGIT, 1)
ZERO = Literal(b"0")
ZEROS = repeat(ZERO)
POINT = Literal(b".")
MINUS = Literal(b"-")
PLUS = optional(Literal(b"+"))
E = Bytes(((0x45, 0x45), (0x65, 0x65)))

WHOLE = union(ZERO, concat(NONZERO, repeat(DIGIT)))
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


def scientific(number: Decimal) -> tuple[str, str, int]:
    """A number above 0 as its first digit, the further ones without needless zeros, and the exponent."""
    digits = "".join(map(str, number.as_tuple().digits)).strip("0")
    return digits[0], digits[1:], number.adjusted()


# -- digits of equal length


def _larger_at(digits: str, position: int, floor: int = 0) -> Expression:
    """The same digits up to the position, there a larger one."""
    return _with_digit(digits[:position], max(int(digits[position]) + 1, floor), 9)


def _smaller_at(digits: str, position: int, floor: int = 0) -> Expression:
    return _with_digit(digits[:position], floor, int(digits[position]) - 1)


def _with_digit(prefix: str, low: int, high: int) -> Expression:
    return concat(text(prefix), Bytes(((0x30 + low, 0x30 + high),))) if low <= high else union()


def _same_length(digits: str, *, larger: bool) -> Expression:
    """Whole numbers with as many digits, larger (or smaller)."""
    parts = []
    for i in range(len(digits)):
        floor = 1 if i == 0 and len(digits) > 1 else 0
        head = _larger_at(digits, i, floor) if larger else _smaller_at(digits, i, floor)
        parts.append(concat(head, repeat(DIGIT, len(digits) - i - 1, len(digits) - i - 1)))
    return union(*parts)


# -- whole numbers and fractions


def whole_above(digits: str) -> Expression:
    """Whole numbers larger than that of the digits."""
    return union(_same_length(digits, larger=True), concat(NONZERO, repeat(DIGIT, len(digits))))


def whole_below(digits: str) -> Expression:
    """Whole numbers of at least 0 smaller than that of the digits."""
    shorter = [ZERO, concat(NONZERO, repeat(DIGIT, 0, len(digits) - 2))] if len(digits) > 1 else []
    return union(_same_length(digits, larger=False), *shorter)


def fraction_above(digits: str, *, strict: bool) -> Expression:
    """What may follow the whole part: fractions larger than (or equal to) that of the digits."""
    heads = union(*(_larger_at(digits, i) for i in range(len(digits))))
    longer = concat(text(digits), ZEROS, NONZERO)
    found = concat(POINT, union(heads, longer), repeat(DIGIT))
    return found if strict else union(found, _fraction_equal(digits))


def fraction_below(digits: str, *, strict: bool) -> Expression:
    """The same, smaller. The digits do not end with 0, so whatever ends before them is smaller."""
    heads = union(*(_smaller_at(digits, i) for i in range(len(digits))))
    ended = union(*(text(digits[:i]) for i in range(1, len(digits))))
    found = concat(POINT, union(concat(heads, repeat(DIGIT)), ended))
    if digits:
        found = union(EMPTY, found)
    return found if strict else union(found, _fraction_equal(digits))


def _fraction_equal(digits: str) -> Expression:
    return concat(POINT, text(digits), ZEROS) if digits else optional(ZERO_FRACTION)


# -- exponents: a sign and zeros may stand before the digits


def _exponent_at_least(bound: int) -> Expression:
    if bound > 0:
        return concat(E, PLUS, _exponent_digits(str(bound), larger=True))
    return concat(E, union(concat(PLUS, EXPONENT_DIGITS), concat(MINUS, _exponent_digits(str(-bound), larger=False))))


def _exponent_at_most(bound: int) -> Expression:
    if bound < 0:
        return concat(E, MINUS, _exponent_digits(str(-bound), larger=True))
    return concat(E, union(concat(MINUS, EXPONENT_DIGITS), concat(PLUS, _exponent_digits(str(bound), larger=False))))


def _exponent_digits(digits: str, *, larger: bool) -> Expression:
    """Up to three digits that are at least (or at most) the given ones."""
    beyond = whole_above(digits) if larger else whole_below(digits)
    return both(EXPONENT_DIGITS, concat(ZEROS, union(text(digits), beyond)))


# -- magnitudes


def above(bound: Decimal, *, strict: bool) -> Expression:
    """Magnitudes larger than the bound (or equal to it)."""
    if not bound:
        return _above_zero(strict=strict)
    whole, fraction = plain(bound)
    first, further, exponent = scientific(bound)
    larger = concat(_same_length(first, larger=True), optional(FRACTION))
    return union(
        concat(whole_above(whole), optional(FRACTION)),
        concat(text(whole), fraction_above(fraction, strict=strict)),
        concat(MANTISSA, _exponent_at_least(exponent + 1)),
        concat(
            union(larger, concat(text(first), fraction_above(further, strict=strict))), _exponent_at_least(exponent)
        ),
    )


def below(bound: Decimal, *, strict: bool) -> Expression:
    """Magnitudes of at least 0 smaller than the bound (or equal to it)."""
    if not bound:
        return union() if strict else ZERO_MAGNITUDE
    whole, fraction = plain(bound)
    first, further, exponent = scientific(bound)
    smaller = concat(_with_digit("", 1, int(first) - 1), optional(FRACTION))
    return union(
        ZERO_MAGNITUDE,
        concat(whole_below(whole), optional(FRACTION)),
        concat(text(whole), fraction_below(fraction, strict=strict)),
        concat(MANTISSA, _exponent_at_most(exponent - 1)),
        concat(
            union(smaller, concat(text(first), fraction_below(further, strict=strict))), _exponent_at_most(exponent)
        ),
    )


def _above_zero(*, strict: bool) -> Expression:
    if not strict:
        return MAGNITUDE
    tiny = concat(Literal(b"0."), ZEROS, NONZERO, repeat(DIGIT))
    return union(concat(MANTISSA, optional(EXPONENT)), concat(NONZERO, repeat(DIGIT), optional(FRACTION)), tiny)


def equal(number: Decimal, *, fractions: bool = True) -> Expression:
    """The spellings of one magnitude."""
    if not number:
        return ZERO_MAGNITUDE if fractions else ZERO
    whole, fraction = plain(number)
    if not fractions:
        return text(whole)
    first, further, exponent = scientific(number)
    sign = MINUS if exponent < 0 else PLUS
    return union(
        concat(text(whole), _fraction_equal(fraction)),
        concat(text(first), _fraction_equal(further), E, sign, ZEROS, text(str(abs(exponent)))),
    )


def both(first: Expression, second: Expression) -> Expression:
    """The intersection of the languages."""
    return Embedded(intersection(GrammarAutomaton(first), GrammarAutomaton(second)))


def whole_range(low: int, high: int | None) -> Expression:
    """Whole numbers without sign, 0 <= low <= number <= high."""
    if high is not None and low == high:
        return text(str(low))
    least = union(text(str(low)), whole_above(str(low))) if low else WHOLE
    if high is None:
        return least
    most = union(text(str(high)), whole_below(str(high)))
    return both(least, most) if low else most
