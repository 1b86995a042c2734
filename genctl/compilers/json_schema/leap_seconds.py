r"""Times of day that are leap seconds, as JSON spells them: those that are 23:59:60 in UTC.

    is_leap_second("08:59:60.5+09:00")                     # True
    accepts(LeapSeconds(), rb"08:59:60.5\u002b09:00")      # True

The offset behind the time is the one that its hour and minute demand, so a state holds what has been read of them:
too many cases for an expression, few that a text ever meets.
"""

from __future__ import annotations

import re

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
        text, begun = key[0], key[1] + bytes([byte])
        for character in _next(text):
            for spelling in _spellings(character):
                if spelling == begun:
                    return _shortened(text + character), b""
                if spelling.startswith(begun):
                    return text, begun
        return None

    def _accepts(self, key: tuple[str, bytes]) -> bool:
        text, begun = key
        return not begun and (text[-1:] in ("Z", "z") or len(text) - _sign(text) == len("+hh:mm"))

    def _bound(self, key: tuple[str, bytes]) -> int:
        text, begun = key
        if self._accepts(key):
            return 0
        if not begun:
            return min(1 + self._bound((_shortened(text + character), b"")) for character in _nearest(text))
        ways = (
            len(spelling) - len(begun) + self._bound((_shortened(text + character), b""))
            for character in _next(text)
            for spelling in _spellings(character)
            if spelling.startswith(begun)
        )
        return min(ways, default=UNREACHABLE)


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


def _nearest(text: str) -> str:
    """Some of the characters that may follow, a shortest way to the end among them."""
    if len(text) < LENGTH:
        following = _next(text)
        return UTC[len(text)] if UTC.startswith(text) else following[0]
    return _next(text).replace(".", "")[-1:]


def _shortened(text: str) -> str:
    """Without the digits of a fraction but one: they mean nothing for what follows."""
    fraction = len(text) > LENGTH + 2 and text[LENGTH] == "." and text[-1] in DIGITS and _sign(text) == len(text)
    return text[:-1] if fraction else text


def _offset(local: str, sign: str) -> str:
    """What has to be added to UTC (23:59) for the local time."""
    minutes = int(local[:2]) * 60 + int(local[3:5]) + 1
    minutes = (minutes if sign == "+" else -minutes) % 1440
    return f"{sign}{minutes // 60:02}:{minutes % 60:02}"


def _spellings(character: str) -> set[bytes]:
    """A character of a time as JSON writes it."""
    code = f"{ord(character):04x}"
    return {character.encode(), f"\\u{code}".encode(), f"\\u{code.upper()}".encode()}
