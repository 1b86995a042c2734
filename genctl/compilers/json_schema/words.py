r"""A finite set of strings in every way JSON can spell them: what a string must, or must not, be.

    Tracked(repeat(json_string(ALL)), Names(["red", "blue"]), inside=True)       # red, r\u0065d, blue ...

Ten thousand names cost their prefix tree; spellings with escapes are worked out where a text uses them.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property, lru_cache
from json.encoder import encode_basestring

import numpy as np

from genctl.automata.base import UNREACHABLE
from genctl.automata.expressions import Letters

SHORT_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}


class Names:
    """Words, in the sense of automata/expressions.py, inside a JSON string, without the quotes."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = sorted(set(names))
        self._edges: dict[int, dict[bytes, int | None]] = {}
        self._nearest: dict[tuple[int, bytes], int] = {}  # bytes from the beginning of a spelling to a name's end
        self._ends: dict[tuple[int, bytes], set[int]] = {}  # the children that one more byte completes

    @property
    def code_points(self) -> list[list[int]]:
        return [list(map(ord, name)) for name in self._names]

    @property
    def letters(self) -> Letters:
        code_points = np.frombuffer("".join(self._names).encode("utf-32-le"), np.int32)
        ascii_ = np.minimum(code_points, 0x80)
        sizes = np.where(code_points < 0x80, SIZES[ascii_], 2 + (code_points >= 0x800) + (code_points >= 0x10000))
        offset = np.cumsum([0, *map(len, self._names)])
        return Letters(code_points, sizes.astype(np.int32), PLAIN[ascii_], offset)

    @property
    def alphabet(self) -> list[int]:
        return [*{*"".join(self._names).encode(), *_ESCAPES}]

    def begin(self, inside: bool, /) -> tuple[bool, int]:
        if not inside:
            return "" not in self._names, 0
        return "" in self._names, min(map(_size, filter(None, self._names)), default=UNREACHABLE + 1) - 1

    def shortest(self, inside: bool, /) -> int:
        if not inside:
            return int("" in self._names)
        return min(map(_size, self._names), default=UNREACHABLE)

    def after(self, node: int, begun: bytes, byte: int, /) -> tuple[int, bytes] | None:
        if begun[:2] == b"\\u" and byte in b"ABCDEF":
            byte |= 0x20
        spelling = begun + bytes((byte,))
        found = self._from(node)
        if spelling not in found:
            return None
        child = found[spelling]
        return (node, spelling) if child is None else (child, b"")

    def continuations(self, node: int, begun: bytes, /) -> Iterable[int]:
        found = {text[len(begun)] for text in self._from(node) if text.startswith(begun) and len(text) > len(begun)}
        return found | {byte - 0x20 for byte in found if begun[:2] == b"\\u" and byte in b"abcdef"}

    def detour(self, node: int, begun: bytes, inside: bool, /) -> int:
        self._from(node)
        if inside:
            return self._nearest[node, begun] - _missing(begun)
        # One more character leads away from a name; it is needed where nothing but names can be completed.
        ends = self._ends.get((node, begun), set())
        return int(len(ends) == _choices(begun) and all(self._rest[child] == 0 for child in ends))

    @cached_property
    def _tree(self) -> list[dict[str, int]]:
        """The children of each node by character, numbered as the names are inserted."""
        tree: list[dict[str, int]] = [{}]
        for name in self._names:
            node = 0
            for character in name:
                child = tree[node].get(character)
                if child is None:
                    child = tree[node][character] = len(tree)
                    tree.append({})
                node = child
        return tree

    @cached_property
    def _rest(self) -> list[int]:
        """Fewest bytes from each node to the end of a name; children come after their parents."""
        rest = [UNREACHABLE] * len(self._tree)
        for name in self._names:
            node = 0
            for character in name:
                node = self._tree[node][character]
            rest[node] = 0
        for node in range(len(rest) - 1, -1, -1):
            for character, child in self._tree[node].items():
                rest[node] = min(rest[node], len(spellings(character)[0]) + rest[child])
        return rest

    def _from(self, node: int) -> dict[bytes, int | None]:
        """Beginnings of spellings of the next character, and the child if they are complete."""
        edges = self._edges.get(node)
        if edges is None:
            edges = self._edges[node] = {}
            for character, child in self._tree[node].items():
                for spelling in spellings(character):
                    edges[spelling] = child
                    self._ends.setdefault((node, spelling[:-1]), set()).add(child)
                    for end in range(1, len(spelling)):
                        begun = spelling[:end]
                        edges[begun] = None
                        known = self._nearest.get((node, begun), UNREACHABLE)
                        self._nearest[node, begun] = min(known, len(spelling) - end + self._rest[child])
        return edges


def _size(name: str) -> int:
    """Fewest bytes that spell a name."""
    return len(encode_basestring(name).encode()) - 2


def _choices(begun: bytes) -> int:
    """How many characters can be completed by one more byte."""
    if begun == b"\\":
        return len(SHORT_ESCAPES)
    return 16 if begun[:2] == b"\\u" else 64


def _missing(begun: bytes) -> int:
    """Fewest bytes that complete any character that begins like this."""
    if begun[0] != 0x5C:
        return (2 if begun[0] < 0xE0 else 3 if begun[0] < 0xF0 else 4) - len(begun)
    if len(begun) == 1:
        return 1
    paired = begun[2:3] == b"d" and begun[3:4] > b"7"  # a high surrogate needs a low one
    return (12 if paired else 6) - len(begun)


@lru_cache(4096)
def spellings(character: str) -> tuple[bytes, ...]:
    r"""How a character can stand in a JSON string, the shortest first, `\u` with lower-case digits."""
    found = [] if character in '"\\' or character < " " else [character.encode()]
    if character in SHORT_ESCAPES:
        found.append(b"\\" + SHORT_ESCAPES[character].encode())
    units = character.encode("utf-16-be").hex()
    found.append("".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4)).encode())
    return tuple(found)


_ESCAPES = rb"\"/bfnrtu0123456789abcdefABCDEF"
SIZES = np.array([len(spellings(chr(code))[0]) for code in range(0x81)], np.int32)
PLAIN = np.array([code >= 0x20 and code not in (0x22, 0x5C) for code in range(0x81)])
