r"""A finite set of strings in every way JSON can spell them: a prefix tree of characters, read through the escapes.

    words = Words(["red", "blue"])
    accepts(words, b"red"), accepts(words, rb"\u0072ed")     # True, True: the quotes are not part of it

Ten thousand words cost their prefix tree; spellings are worked out where a text passes.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import numpy as np

from genctl.automata.base import UNREACHABLE
from genctl.automata.lazy import LazyAutomaton
from genctl.kernels.records import U8

SHORT_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}

# A node of the prefix tree and the beginning of a spelling, the digits behind `\u` in lower case.
Position = tuple[int, bytes]


class Words(LazyAutomaton[Position]):
    """The spellings of the words inside a JSON string, without the quotes."""

    def __init__(self, words: Iterable[str]) -> None:
        self._children: list[dict[str, int]] = [{}]
        self._terminal = [False]
        for word in words:
            self._insert(word)
        self._lengths = self._shortest()
        self._edges: dict[int, dict[bytes, tuple[int | None, int]]] = {}
        super().__init__(self._byte_classes(), (0, b"") if self._lengths[0] != UNREACHABLE else None)

    def _insert(self, word: str) -> None:
        node = 0
        for character in word:
            child = self._children[node].get(character)
            if child is None:
                child = self._children[node][character] = len(self._children)
                self._children.append({})
                self._terminal.append(False)
            node = child
        self._terminal[node] = True

    def _shortest(self) -> list[int]:
        """Fewest bytes from each node to the end of a word; children come after their parents."""
        lengths = [0 if terminal else UNREACHABLE for terminal in self._terminal]
        for node in range(len(lengths) - 1, -1, -1):
            for character, child in self._children[node].items():
                lengths[node] = min(lengths[node], len(spellings(character)[0]) + lengths[child])
        return lengths

    def _byte_classes(self) -> U8:
        """Each byte of a spelling by itself, all others together."""
        characters = {character for children in self._children for character in children}
        used = {byte for character in characters for spelling in spellings(character) for byte in spelling}
        used |= {ord(chr(byte).upper()) for byte in used if chr(byte) in "abcdef"}
        first = 0 if len(used) == 256 else 1
        classes = np.zeros(256, np.uint8)
        classes[sorted(used)] = np.arange(first, len(used) + first)
        return classes

    def _from(self, node: int) -> dict[bytes, tuple[int | None, int]]:
        """Beginnings of spellings of the next character: the child if complete, fewest bytes to the end of a word."""
        edges = self._edges.get(node)
        if edges is None:
            edges = self._edges[node] = {}
            for character, child in self._children[node].items():
                for spelling in spellings(character):
                    for end in range(1, len(spelling) + 1):
                        missing = len(spelling) - end + self._lengths[child]
                        known = edges.get(spelling[:end], (None, UNREACHABLE))[1]
                        edges[spelling[:end]] = (child if end == len(spelling) else None), min(known, missing)
        return edges

    def _successor(self, key: Position, byte: int) -> Position | None:
        node, begun = key
        if begun[:2] == b"\\u" and byte in b"ABCDEF":
            byte |= 0x20
        spelling = begun + bytes((byte,))
        found = self._from(node).get(spelling)
        if found is None:
            return None
        child, _ = found
        return (node, spelling) if child is None else (child, b"")

    def _accepts(self, key: Position) -> bool:
        return not key[1] and self._terminal[key[0]]

    def _bound(self, key: Position) -> int:
        node, begun = key
        return self._from(node)[begun][1] if begun else self._lengths[node]


@lru_cache(4096)
def spellings(character: str) -> tuple[bytes, ...]:
    r"""How a character can stand in a JSON string, the shortest first, `\u` with lower-case digits."""
    found = [] if character in '"\\' or character < " " else [character.encode()]
    if character in SHORT_ESCAPES:
        found.append(b"\\" + SHORT_ESCAPES[character].encode())
    units = character.encode("utf-16-be").hex()
    found.append("".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4)).encode())
    return tuple(found)
