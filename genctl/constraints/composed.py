"""Texts that are their own NFC: a tokenizer that normalizes its texts writes no others.

    composed = Composed()
    state = composed.read(composed.start, b"e")
    composed.read(state, "\\u0301".encode())            # 0: NFC has one character for both

Whether a character may follow depends on the last one that is no mark, and on the last mark. What the marks are, and
what is joined, is asked of the tokenizers' own normalizer. Int states, 0 is dead; bytes may end inside a character.
"""

from __future__ import annotations

import codecs
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from genctl.constraints.splits import asked, members

HANGUL_FIRSTS, HANGUL_SECONDS = range(0x1100, 0x1113), (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))
HANGUL_PAIRS = range(0xAC00, 0xD7A4, 28)  # syllables that a third part may be joined to


class _Characters(NamedTuple):
    changed: frozenset[str]  # NFC has another text for them
    marks: frozenset[str]  # of a combining class above 0: their order counts
    firsts: frozenset[str]  # what something may be joined to, or change places with a mark inside
    seconds: frozenset[str]  # what may be joined


@lru_cache(maxsize=1)
def _characters() -> _Characters:
    from tokenizers import normalizers

    nfc, nfd = normalizers.NFC().normalize_str, normalizers.NFD().normalize_str
    parted = {character: parts for character in map(chr, asked("")) if (parts := nfd(character)) != character}
    changed = {character for character in parted if nfc(character) != character}
    joined = {character: parts for character, parts in parted.items() if character not in changed}
    # U+0345 has nearly the highest class, U+0334 the lowest: one of them changes places with every mark.
    candidates = map(chr, np.flatnonzero(members(r"\p{M}")).tolist())
    marks = {c for c in candidates if nfd(f"\u0345{c}") != f"\u0345{nfd(c)}" or nfd(f"{c}\u0334") != f"{nfd(c)}\u0334"}
    return _Characters(
        frozenset(changed),
        frozenset(marks),
        frozenset(
            [*joined, *(nfc(parts[:-1]) for parts in joined.values()), *map(chr, (*HANGUL_FIRSTS, *HANGUL_PAIRS))]
        ),
        frozenset([*(parts[-1] for parts in joined.values()), *map(chr, HANGUL_SECONDS)]),
    )


class _Seen(NamedTuple):
    """What counts of a text."""

    first: str  # the last character that is no mark, if it counts
    mark: str  # the last mark after it
    begun: bytes  # of a character that may count


class Composed:
    """Texts that are their own NFC."""

    start = 1

    def __init__(self) -> None:
        from tokenizers import normalizers

        characters = _characters()
        self._nfc = lru_cache(maxsize=2**16)(normalizers.NFC().normalize_str)
        self._nfd = lru_cache(maxsize=2**16)(normalizers.NFD().normalize_str)
        self._changed, self._marks, self._firsts, self._seconds = characters
        self._begins = _beginnings(frozenset().union(*characters))
        self._begins_late = _beginnings(self._marks | self._seconds)
        self._states = [_Seen("", "", b"")] * 2
        self._ids = {self._states[self.start]: self.start}

    def read(self, state: int, data: bytes) -> int:
        """The state after some bytes; 0 if the text is not its own NFC, or no UTF-8."""
        if state == 0:
            return 0
        first, mark, begun = self._states[state]
        if not begun and (rest := data.lstrip(_INNER)) != data:  # they end a character that does not count
            first, mark, data = "", "", rest
        try:
            text, size = codecs.utf_8_decode(begun + data, "strict", False)
        except UnicodeDecodeError:
            return 0
        for character in text:
            if not self._may_follow(first, mark, character):
                return 0
            if character in self._marks:
                mark = character
            else:
                first, mark = character if character in self._firsts else "", ""
        tail = (begun + data)[size:]
        seen = _Seen(first, mark, tail) if not tail or tail in self._begins else _Seen("", "", b"")
        if seen not in self._ids:
            self._ids[seen] = len(self._states)
            self._states.append(seen)
        return self._ids[seen]

    def _may_follow(self, first: str, mark: str, character: str) -> bool:
        if character in self._changed:
            return False
        if mark and character in self._marks and self._nfd(mark + character) != mark + character:
            return False
        late = character in self._marks or character in self._seconds
        joins = bool(first) and late and self._nfc(first + character) != first + character
        # A mark stands between them, unless its class is lower: then the two would change places.
        apart = bool(mark) and (character not in self._marks or self._nfd(character + mark) == character + mark)
        return not joins or apart

    def may_count(self, token: bytes) -> bool:
        """Whether a token may be read in another way after a text than at its beginning."""
        text = token[:4].decode("utf-8", "ignore")
        late = text[:1] in self._marks or text[:1] in self._seconds
        return token[:1] in _INNERS or late or (not text and token in self._begins_late)


_INNER = bytes(range(0x80, 0xC0))  # bytes inside characters
_INNERS = frozenset(bytes([byte]) for byte in _INNER)


def _beginnings(characters: frozenset[str]) -> frozenset[bytes]:
    """What the bytes of the characters begin with."""
    encoded = [character.encode() for character in characters]
    return frozenset(data[:size] for data in encoded for size in range(1, len(data)))
