r"""Character sets, and how one character of a set is written as bytes: UTF-8 or inside a JSON string.

    vowels = Characters.of("aeiou")
    utf8(~vowels), json_string(vowels)         # byte expressions; "a" may also be written \u0061

A set holds Unicode scalar values (U+0000..U+D7FF, U+E000..U+10FFFF). Lone surrogates are in no set, so no
encoder can produce them.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import groupby
from typing import Protocol, TypeAlias

from genctl.automata.expressions import NOTHING, Bytes, Concat, Expression, Literal, concat, union

Ranges: TypeAlias = tuple[tuple[int, int], ...]

LAST = 0x10FFFF
SCALARS: Ranges = ((0, 0xD7FF), (0xE000, LAST))


@dataclass(frozen=True, slots=True)
class Characters:
    """A set of Unicode scalar values as sorted, disjoint, inclusive code point ranges that do not touch."""

    ranges: Ranges

    @classmethod
    def of(cls, members: str | Iterable[tuple[int, int]]) -> Characters:
        """The characters of a string, or of code point ranges in any order; surrogates are left out."""
        ranges = ((ord(c), ord(c)) for c in members) if isinstance(members, str) else members
        return cls(_intersection(_merged(ranges), SCALARS))

    def __or__(self, other: Characters) -> Characters:
        return Characters(_intersection(_merged(self.ranges + other.ranges), SCALARS))

    def __and__(self, other: Characters) -> Characters:
        return Characters(_intersection(self.ranges, other.ranges))

    def __sub__(self, other: Characters) -> Characters:
        return self & ~other

    def __invert__(self) -> Characters:
        return Characters(_intersection(_gaps(self.ranges), SCALARS))

    def __contains__(self, character: str) -> bool:
        code = ord(character)
        after = bisect_right(self.ranges, (code, LAST))
        return after > 0 and code <= self.ranges[after - 1][1]

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def __len__(self) -> int:
        return sum(high - low + 1 for low, high in self.ranges)

    @property
    def only(self) -> str | None:
        """The character of a set with one member, else None."""
        low, high = self.ranges[0] if self.ranges else (0, LAST)
        return chr(low) if low == high and len(self.ranges) == 1 else None


class Encoder(Protocol):
    """How one character out of a set is written as bytes. No character's encoding begins another's."""

    def __call__(self, characters: Characters, /) -> Expression: ...


def _merged(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Sorted, with overlapping and touching ranges joined."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)


def _intersection(left: Ranges, right: Ranges) -> Ranges:
    found: list[tuple[int, int]] = []
    i = j = 0
    while i < len(left) and j < len(right):
        low, high = max(left[i][0], right[j][0]), min(left[i][1], right[j][1])
        if low <= high:
            found.append((low, high))
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    return tuple(found)


def _gaps(ranges: Ranges) -> Ranges:
    """The code points between the ranges, in ascending order."""
    starts = [0, *(high + 1 for _, high in ranges)]
    ends = [*(low - 1 for low, _ in ranges), LAST]
    return tuple((low, high) for low, high in zip(starts, ends, strict=True) if low <= high)


ALL = Characters(SCALARS)
NONE = Characters(())


@cache
def general_category(name: str) -> Characters:
    """All characters of a two-letter Unicode general category ("Lu"), by the running Python's unicodedata."""
    return _general_categories().get(name, NONE)


@cache
def _general_categories() -> dict[str, Characters]:
    members: dict[str, list[tuple[int, int]]] = {}
    first = 0
    for name, run in groupby(map(unicodedata.category, map(chr, range(LAST + 1)))):
        after = first + len(list(run))
        members.setdefault(name, []).append((first, after - 1))
        first = after
    return {name: Characters.of(ranges) for name, ranges in members.items()}


# Both encodings write a number digit by digit: a digit is a tuple of 2**k symbols, symbol v being the bytes that
# may stand for the value v. A digit with one symbol is a fixed byte.
_Digit: TypeAlias = tuple[bytes, ...]


def _symbols(*symbols: str) -> _Digit:
    return tuple(symbol.encode() for symbol in symbols)


def _offset(first: int, count: int) -> _Digit:
    return tuple(bytes([first + value]) for value in range(count))


_CONTINUATION = _offset(0x80, 64)
_HEX = _symbols(*"0123456789", "aA", "bB", "cC", "dD", "eE", "fF")
_U = (_symbols("\\"), _symbols("u"))
_HIGH = (*_U, _symbols("dD"), _symbols("8", "9", "aA", "bB"), _HEX, _HEX)
_LOW = (*_U, _symbols("dD"), _symbols("cC", "dD", "eE", "fF"), _HEX, _HEX)

# (first and last character, what is subtracted from the code point, the digits)
_UTF8 = (
    (0x0, 0x7F, 0, (_offset(0x00, 128),)),
    (0x80, 0x7FF, 0, (_offset(0xC0, 32), _CONTINUATION)),
    (0x800, 0xFFFF, 0, (_offset(0xE0, 16), _CONTINUATION, _CONTINUATION)),
    (0x10000, LAST, 0, (_offset(0xF0, 8), _CONTINUATION, _CONTINUATION, _CONTINUATION)),
)
_JSON_ESCAPES = (
    (0x0, 0xFFFF, 0, (*_U, _HEX, _HEX, _HEX, _HEX)),
    (0x10000, LAST, 0x10000, (*_HIGH, *_LOW)),
)
_SHORT_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}
_NOT_RAW = Characters.of([(0x00, 0x1F), (0x22, 0x22), (0x5C, 0x5C)])


@lru_cache(4096)
def utf8(characters: Characters) -> Expression:
    """One character of the set as 1 to 4 bytes of valid UTF-8."""
    if characters.only is not None:
        return Literal(characters.only.encode())
    return _numerals(characters, _UTF8)


@lru_cache(4096)
def json_string(characters: Characters) -> Expression:
    r"""One character of the set inside a JSON string, in every way JSON can write it: `\n`, `\u000a`."""
    short = bytes(ord(escape) for member, escape in _SHORT_ESCAPES.items() if member in characters)
    escaped = concat(Literal(b"\\"), _any_of(short)) if short else NOTHING
    return union(utf8(characters - _NOT_RAW), escaped, _numerals(characters, _JSON_ESCAPES))


def _numerals(characters: Characters, layout: Iterable[tuple[int, int, int, tuple[_Digit, ...]]]) -> Expression:
    parts = []
    for low, high, origin, digits in layout:
        ranges = _intersection(characters.ranges, ((low, high),))
        parts.append(_numeral(tuple((a - origin, b - origin) for a, b in ranges), digits))
    return union(*parts)


@lru_cache(65536)
def _numeral(ranges: Ranges, digits: tuple[_Digit, ...]) -> Expression:
    """The numbers of the ranges, written with these digits. Cached: equal tails are one object."""
    if not ranges:
        return NOTHING
    if not digits:
        return Concat(())
    leading, rest = digits[0], digits[1:]
    scale = 1
    for digit in rest:
        scale *= len(digit)
    leads: dict[Ranges, bytes] = {}
    for value, tail in _by_leading_digit(ranges, scale):
        leads[tail] = leads.get(tail, b"") + leading[value]
    return union(*(concat(_any_of(lead), _numeral(tail, rest)) for tail, lead in leads.items()))


def _by_leading_digit(ranges: Ranges, scale: int) -> Iterable[tuple[int, Ranges]]:
    """Each value of the leading digit with the ranges of what follows it, in 0..scale-1."""
    tails: dict[int, list[tuple[int, int]]] = {}
    for low, high in ranges:
        for value in range(low // scale, high // scale + 1):
            start = value * scale
            tails.setdefault(value, []).append((max(low - start, 0), min(high - start, scale - 1)))
    return ((value, tuple(tail)) for value, tail in tails.items())


def _any_of(choices: bytes) -> Expression:
    return Bytes(_merged((byte, byte) for byte in choices))
