r"""Times of day that are leap seconds, as JSON spells them: those that are 23:59:60 in UTC.

    is_leap_second("08:59:60.5+09:00")                     # True
    accepts(LeapSeconds(), rb"08:59:60.5\u002b09:00")      # True

The offset behind the time is the one that its hour and minute demand, so a state holds what has been read of them:
too many cases for an expression, few that a text ever meets.
"""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np

from genctl.automata.base import UNREACHABLE
from genctl.automata.lazy import LazyAutomaton

UTC = "23:59:60"
DIGITS = "0123456789"
LENGTH = len(UTC)
TEXT = re.compile(r"((?:[01][0-9]|2[0-3]):[0-5][0-9]):60(?:\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})")
ALPHABET = sorted({*(DIGITS + ":.+-Zz\\uabdefABDEF").encode()})


def is_leap_second(text: str) -> bool:
    found = TEXT.fullmatch(text)
    if found is None:
        return False
    local, offset = found.groups()
    return UTC.startswith(local) if offset in "Zz" else offset == _offset(local, offset[0])


class LeapSeconds(LazyAutomaton[tuple[str, bytes]]):
    """A state is what has been read, of a fraction one digit at most, and the bytes of an unfinished escape."""

    def __init__(self) -> None:
        classes = np.zeros(256, np.uint8)
        classes[ALPHABET] = range(1, 1 + len(ALPHABET))
        super().__init__(classes, ("", b""))

    def _successor(self, key: tuple[str, bytes], byte: int) -> tuple[str, bytes] | None:
        return self._following(key).get(byte)

    def _successors(self, key: tuple[str, bytes]) -> list[tuple[str, bytes] | None]:
        return [*map(self._following(key).get, self._byte_of)]

    def _following(self, key: tuple[str, bytes]) -> dict[int, tuple[str, bytes]]:
        """What follows by the next byte."""
        (text, begun), found = key, dict[int, tuple[str, bytes]]()
        for character in _next(text):
            for spelling in _spellings(character):
                if len(spelling) > len(begun) and spelling.startswith(begun):
                    read = spelling[: len(begun) + 1]
                    found[read[-1]] = (_shortened(text + character), b"") if read == spelling else (text, read)
        return found

    def _accepts(self, key: tuple[str, bytes]) -> bool:
        return not key[1] and _left(key[0]) == 0

    def _bound(self, key: tuple[str, bytes]) -> int:
        text, begun = key
        if not begun:
            return _left(text)
        ways = (
            len(spelling) - len(begun) + _left(_shortened(text + character))
            for character in _next(text)
            for spelling in _spellings(character)
            if spelling.startswith(begun)
        )
        return min(ways, default=UNREACHABLE)


def _left(text: str) -> int:
    """Fewest characters to the end."""
    sign = _sign(text)
    if sign < len(text):
        return len("+hh:mm") - (len(text) - sign)
    if text[-1:] in ("Z", "z"):
        return 0
    zone = "Z" if UTC.startswith(text[:LENGTH]) else "+hh:mm"
    return max(LENGTH - len(text), 0) + (text[-1:] == ".") + len(zone)


def _sign(text: str) -> int:
    """Where the offset begins, or the end."""
    return next((i for i, character in enumerate(text) if character in "+-"), len(text))


def _next(text: str) -> str:
    """The characters that may follow."""
    place, sign = len(text), _sign(text)
    if place < LENGTH:
        hours = "0123" if text[:1] == "2" else DIGITS
        return ["012", hours, ":", "012345", DIGITS, ":", "6", "0"][place]
    if sign < place:
        return _offset(text[:LENGTH], text[sign])[place - sign : place - sign + 1]
    if text[-1] == ".":
        return DIGITS
    if text[-1] in "Zz":
        return ""
    return ("." if place == LENGTH else DIGITS) + "+-" + ("Zz" if text.startswith(UTC) else "")


def _shortened(text: str) -> str:
    """Without the digits of a fraction but one: they mean nothing for what follows."""
    fraction = len(text) > LENGTH + 2 and text[LENGTH] == "." and text[-1] in DIGITS and _sign(text) == len(text)
    return text[:-1] if fraction else text


def _offset(local: str, sign: str) -> str:
    """What has to be added to UTC (23:59) for the local time."""
    minutes = int(local[:2]) * 60 + int(local[3:5]) + 1
    minutes = (minutes if sign == "+" else -minutes) % 1440
    return f"{sign}{minutes // 60:02}:{minutes % 60:02}"


@lru_cache(32)
def _spellings(character: str) -> frozenset[bytes]:
    """A character of a time as JSON writes it."""
    code = f"{ord(character):04x}"
    return frozenset({character.encode(), f"\\u{code}".encode(), f"\\u{code.upper()}".encode()})
