r"""The texts that parsers of dates, durations, addresses and numbers read, and their serialisers write, as patterns.

    re.search(DATE, "2024-02-29"), re.search(decimals(Decimal(0), Decimal("9.5")), "9.50")

ECMA-262 patterns with both anchors. Each holds every text that the serialiser writes, and only texts that the parser
reads: where a parser reads more (a date as a number of seconds, say), the canonical form is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import cache
from typing import NamedTuple

from genctl.compilers.characters import Characters

_YEAR = r"(?!0000)\d{4}"
_LEAP = r"(?:\d\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)"
_CALENDAR = (
    rf"(?:{_YEAR}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)"
    rf"|02-(?:0[1-9]|1\d|2[0-8]))|(?!0000){_LEAP}-02-29)"
)
_CLOCK = r"(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?"
_ZONE = r"(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)"
ZONES = {None: rf"{_ZONE}?", "aware": _ZONE, "naive": ""}

DATE = rf"^{_CALENDAR}$"
UUID = "^[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
BASE64 = "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$"
BASE64_URL = "^(?:[A-Za-z0-9_-]{4})*(?:[A-Za-z0-9_-][AQgw]==|[A-Za-z0-9_-]{2}[AEIMQUYcgkosw048]=)?$"

# Years of 365 days and days, then a time of day. The longest duration is 2739726 years and 9 days, less a microsecond.
_TIME = r"(?:T(?=\d)(?:\d{1,6}H)?(?:\d{1,6}M)?(?:\d{1,6}(?:\.\d{1,6})?S)?)?"
_TIME_OF_DAY = r"(?:T(?=\d)(?:1?\dH|2[0-3]H)?(?:[1-5]?\dM)?(?:[1-5]?\d(?:\.\d{1,6})?S)?)?"
_DAYS_OF_YEAR = r"(?:(?:[1-9]\d?|[12]\d\d|3[0-5]\d|36[0-4])D)?"
_LONG_YEARS = r"(?:1\d{6}|2[0-6]\d{5}|27[0-2]\d{4}|273[0-8]\d{3}|2739[0-6]\d\d|27397[01]\d|273972[0-5])Y"
DURATION = (
    rf"^(?:-?P(?=[\dT])(?:\d{{1,6}}Y)?(?:\d{{1,6}}D)?{_TIME}|-?P{_LONG_YEARS}{_DAYS_OF_YEAR}{_TIME_OF_DAY}"
    rf"|P2739726Y(?:[1-9]D)?{_TIME_OF_DAY}|-P2739726Y(?:[1-8]D{_TIME_OF_DAY}|9D|{_TIME_OF_DAY}))$"
)

# Days and seconds, as msgspec writes durations; the longest one has a billion days, less a microsecond.
_SECONDS_OF_DAY = r"(?:T(?:\d{1,4}|[1-7]\d{4}|8[0-5]\d{3}|86[0-3]\d\d)(?:\.\d{1,6})?S)?"
DAYS_AND_TIME = (
    rf"^(?:-?P(?=[\dT])(?:\d{{1,8}}D)?{_TIME}|P[1-9]\d{{8}}D{_SECONDS_OF_DAY}"
    rf"|-P(?:9{{9}}D|(?!9{{9}})[1-9]\d{{8}}D{_SECONDS_OF_DAY}))$"
)

_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4 = rf"{_OCTET}(?:\.{_OCTET}){{3}}"
_GROUP = "[0-9a-fA-F]{1,4}"


def _ipv6() -> str:
    """Eight groups, the last two perhaps as an IPv4 address, with at most one `::` for one group or more."""
    last = rf"(?:{_GROUP}:{_GROUP}|{_IPV4})"
    ways = [rf"(?:{_GROUP}:){{6}}{last}"]
    for after in range(8):  # so many groups behind the `::`
        head = rf"(?:(?:{_GROUP}:){{0,{6 - after}}}{_GROUP})?" if after < 7 else ""
        tail = {0: "", 1: _GROUP}.get(after) or (rf"(?:{_GROUP}:){{{after - 2}}}{last}" if after >= 2 else "")
        ways.append(f"{head}::{tail}")
    return f"(?:{'|'.join(ways)})"


_IPV6 = _ipv6()
_BITS4, _BITS6 = r"(?:[12]?\d|3[0-2])", r"(?:\d{1,2}|1[01]\d|12[0-8])"
IPV4, IPV6, IP = f"^{_IPV4}$", f"^{_IPV6}$", f"^(?:{_IPV4}|{_IPV6})$"
IPV4_INTERFACE, IPV6_INTERFACE = f"^{_IPV4}(?:/{_BITS4})?$", f"^{_IPV6}(?:/{_BITS6})?$"
IP_INTERFACE = f"^(?:{_IPV4}(?:/{_BITS4})?|{_IPV6}(?:/{_BITS6})?)$"

_PATH = r"[!#-;=?-~]*"
_LABEL = r"[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[{_IPV6}\])(?::\d{{1,5}})?"
_USER = r"(?:[A-Za-z0-9._~!$&'()*+,;=%-]+(?::[A-Za-z0-9._~!$&'()*+,;=%-]*)?@)?"


def urls(schemes: list[str] | None, *, several_hosts: bool = False) -> str:
    """URLs as their parsers write them: what is left open (numbers as hosts, punycode) is for the parser to see."""
    scheme = "|".join(map(re.escape, schemes)).replace(r"\-", "-") if schemes else "[a-z][a-z0-9+.-]*"
    hosts = rf"{_USER}{_HOST}(?:,{_USER}{_HOST})*" if several_hosts else f"{_USER}{_HOST}"
    return rf"^(?:{scheme}):(?://(?:{hosts})?(?:[/?#]{_PATH})?|(?!/)[ !#-;=?-~]*)$"


def uuids(version: int) -> str:
    return rf"^[0-9a-fA-F]{{8}}-[0-9a-fA-F]{{4}}-{version}[0-9a-fA-F]{{3}}-[89abAB][0-9a-fA-F]{{3}}-[0-9a-fA-F]{{12}}$"


def clock(zone: str) -> str:
    return rf"^{_CLOCK}{zone}$"


def moments(zone: str) -> str:
    """Dates with the time of day; zone: what follows."""
    return rf"^{_CALENDAR}T{_CLOCK}{zone}$"


def offset(seconds: int) -> str:
    """The zone that is so many seconds from UTC."""
    hours, minutes = divmod(abs(seconds) // 60, 60)
    plain = "[+-]00:00|Z" if seconds == 0 else rf"{'-' if seconds < 0 else '[+]'}{hours:02}:{minutes:02}"
    return f"(?:{plain})"


# -- numbers in strings


def decimals(
    ge: Decimal | None = None,
    gt: Decimal | None = None,
    le: Decimal | None = None,
    lt: Decimal | None = None,
    *,
    places: int | None = None,
) -> str:
    """Decimals between bounds, with at most `places` digits behind the point that are not zero.

    Those without any bound are written with an exponent too, as Decimal writes very large and small ones.
    """
    tail = r"(?:\.\d+)?" if places is None else rf"(?:\.\d{{1,{places}}}0*)?" if places else r"(?:\.0+)?"
    lows, highs = [b for b in (ge, gt) if b is not None], [b for b in (le, lt) if b is not None]
    exponent = "" if lows or highs or places is not None else r"(?:[eE][+-]?\d{1,6})?"
    ahead = "".join(_within(low, None) for low in lows) + "".join(_within(None, high) for high in highs)
    ahead += "".join(rf"(?!{_equal(bound)}$)" for bound in (gt, lt) if bound is not None)
    return rf"^{ahead}-?(?:0|[1-9]\d*){tail}{exponent}$"


def _equal(bound: Decimal) -> str:
    """The plain decimals of this value."""
    whole, _, fraction = f"{abs(bound):f}".partition(".")
    fraction = fraction.rstrip("0")
    sign = "-?" if bound == 0 else "-" if bound < 0 else ""
    return rf"{sign}{whole}\.{fraction}0*" if fraction else rf"{sign}{whole}(?:\.0+)?"


def integers(low: int | None = None, high: int | None = None) -> str:
    """Integers from low to high, each in one way."""
    bounds = (None if bound is None else Decimal(bound) for bound in (low, high))
    return rf"^{_within(*bounds)}(?:0|-?[1-9]\d*)$"


def dates(low: str | None, high: str | None) -> str:
    """Dates from low to high, which order as texts do."""
    return DATE.replace("^", f"^{_ahead(low, '>')}{_ahead(high, '<')}", 1)


def _ahead(bound: str | None, order: str) -> str:
    if bound is None:
        return ""
    ways = [f"{begun}.*" for _, begun in _compared(bound, order)]
    return f"(?=(?:{'|'.join([*ways, bound])})$)"


def _within(low: Decimal | None, high: Decimal | None) -> str:
    bounds = [_bounded(low, ">")] if low is not None else []
    bounds += [_bounded(high, "<")] if high is not None else []
    return "".join(f"(?={bound}$)" for bound in bounds)


def _bounded(bound: Decimal, order: str) -> str:
    """The plain decimals that are at least (order ">") or at most ("<") the bound."""
    zero = r"-?0(?:\.0+)?"
    if bound == 0:
        return rf"(?:{zero}|{'' if order == '>' else '-'}[\d.]+)"
    size = rf"(?:{'|'.join(_sizes(abs(bound), order if bound > 0 else {'<': '>', '>': '<'}[order]))})"
    if order == ">":
        return size if bound > 0 else rf"(?:-{size}|[\d.]+)"
    return rf"(?:{size}|-[\d.]+|{zero})" if bound > 0 else rf"-{size}"


def _sizes(bound: Decimal, order: str) -> Iterator[str]:
    """Plain decimals without a sign that are at least or at most the bound, which is positive."""
    whole, _, fraction = f"{bound:f}".partition(".")
    fraction = fraction.rstrip("0")
    if order == ">":
        yield rf"[1-9]\d{{{len(whole)},}}(?:\.\d+)?"
        yield rf"{whole}\.{fraction}\d*" if fraction else rf"{whole}(?:\.\d+)?"
    else:
        if len(whole) > 1:
            yield rf"\d{{1,{len(whole) - 1}}}(?:\.\d+)?"
        yield rf"{whole}\.{fraction}0*" if fraction else rf"{whole}(?:\.0+)?"
        yield from (rf"{whole}\.{fraction[:end]}0*" if end else whole for end in range(len(fraction)))
    yield from (rf"{begun}\d{{{len(whole) - i}}}(?:\.\d+)?" for i, begun in _compared(whole, order))
    yield from (rf"{whole}\.{begun}\d*" for _, begun in _compared(fraction, order))


def _compared(digits: str, order: str) -> Iterator[tuple[int, str]]:
    """Beginnings, and their lengths, that differ from the digits last, in a larger (">") or smaller ("<") digit."""
    for i, digit in enumerate(digits):
        others = "0123456789".partition(digit)[2 if order == ">" else 0] if digit.isdigit() else ""
        if others:
            yield i + 1, f"{digits[:i]}[{others}]"


_SPACE = r"\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"

# -- strings that their parser leaves as they are

STRIPPED = rf"(?:[^{_SPACE}](?:[^]*[^{_SPACE}])?)?$"
ASCII = r"[\0-\x7f]*$"


def _changed(by: Callable[[str], str]) -> str:
    """Characters that are not what the function makes of them, as a class."""
    changed = Characters.of("".join(c for c in map(chr, range(0x110000)) if by(c) != c))
    return "".join(rf"\u{{{low:x}}}-\u{{{high:x}}}" for low, high in changed.ranges)


@cache
def lower() -> str:
    return f"[^{_changed(str.lower)}]*$"


@cache
def upper() -> str:
    return f"[^{_changed(str.upper)}]*$"


# -- patterns of Rust and Python, whose classes are those of Unicode

_WORD = r"\p{L}\p{M}\p{Nl}\p{Nd}\p{Pc}"
_PYTHON_WORD = r"\p{L}\p{N}_"
_PIECE = re.compile(r"\\.|\[\^?\]?|\]|\(\?P<|\$|\.|.", re.DOTALL)


class Translated(NamedTuple):
    """A pattern in the words of ECMA-262; exact: whether it says the same."""

    pattern: str
    exact: bool


def ecma(pattern: str, *, python: bool) -> Translated:
    r"""A pattern of Rust's regex, or of Python's re, for ECMA-262: there, `\d` is not all digits of Unicode."""
    word = _PYTHON_WORD if python else _WORD
    space = _SPACE.replace(r"\t-\r ", r"\t-\r\u001c-\u001f ") if python else _SPACE
    inside = {r"\d": r"\p{Nd}", r"\D": r"\P{Nd}", r"\w": word, r"\s": space}
    outside = inside | {
        r"\w": f"[{word}]", r"\W": f"[^{word}]", r"\s": f"[{space}]", r"\S": f"[^{space}]", r"\A": "^", r"\z": "$",
        r"\Z": "$", ".": r"[^\n]", "$": r"(?:$|(?=\n$))" if python else "$", "(?P<": "(?<",
    }  # fmt: skip
    pieces, in_class, exact = [], False, True
    for match in _PIECE.finditer(pattern):
        piece = match[0]
        if in_class:
            pieces.append(inside.get(piece, piece))
            exact = exact and piece not in (r"\W", r"\S", "[")
            in_class = piece != "]"
        else:
            pieces.append(outside.get(piece, piece))
            exact = exact and piece not in (r"\b", r"\B")
            in_class = piece.startswith("[")
    return Translated("".join(pieces), exact)
