"""Added tokens: texts that a tokenizer finds before all else, so that no other tokens may spell them.

    contents = Contents([b"<|im_end|>"], [])
    state = contents.read(contents.start, b"<|im")
    contents.read(state, b"_end|>")                    # 0: the text would be another token

A tokenizer has two sets of them. Those of the first are found in the text, those of the second in the pieces that
this leaves; each leftmost, and longest of those that begin at one place. Int states, 0 is dead.

Some normalizers put a blank before each piece that the first set leaves: the second set may have it, the first may not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

ROOT = 0
BLANK = ord(" ")

Begun: TypeAlias = frozenset[int]  # contents that have begun and must not be completed, as nodes of their tree


class _Tree:
    """The tree of some contents."""

    def __init__(self, contents: Iterable[bytes]) -> None:
        self.children: list[dict[int, int]] = [{}]
        self._whole: set[int] = set()
        for content in contents:
            self._add(content)

    def _add(self, content: bytes) -> None:
        node = ROOT
        for byte in content:
            if byte not in self.children[node]:
                self.children[node][byte] = len(self.children)
                self.children.append({})
            node = self.children[node][byte]
        self._whole.add(node)

    def _after(self, nodes: Begun, byte: int) -> Begun:
        return frozenset(self.children[node][byte] for node in nodes if byte in self.children[node])

    def read(self, begun: Begun, text: bytes) -> Begun | None:
        """What has begun after a text; None if it completes a content."""
        for byte in text:
            begun = self._after(begun | {ROOT}, byte)
            if begun & self._whole:
                return None
        return begun

    def insert(self, begun: Begun, content: bytes) -> Begun | None:
        """What has begun after a content was found; None if it completes one that begins earlier.

        Only a longer one that begins with it must not be completed: it would have been found instead.
        """
        own = ROOT
        for byte in content:
            begun, own = self._after(begun, byte), self.children[own][byte]
            if begun & self._whole:
                return None
        return begun | {own} if self.children[own] else begun


class _Seen(NamedTuple):
    """Where a text is in the two trees; blank: the next byte is one that is not in the text."""

    first: Begun
    second: Begun
    blank: bool


class Contents:
    """The contents of added tokens, as bytes: first those found in the text, then those found in what is left.

    blank: whether a piece that those of the first set leave has a blank before it that is not in the text.
    start: the state where nothing has begun. begin: the state before a text.
    """

    start = 1

    def __init__(self, first: Iterable[bytes], second: Iterable[bytes], blank: bool = False) -> None:
        self._firsts = frozenset(first)
        self._first, self._second = _Tree(self._firsts), _Tree(second)
        self._states = [_Seen(frozenset(), frozenset(), False)] * 2
        self._ids = {self._states[self.start]: self.start}
        opening = {*self._first.children[ROOT], *self._second.children[ROOT]}
        self._quiet = bytes(byte for byte in range(256) if byte not in opening)
        self._blank = blank
        self._counts = any(BLANK in content for content in self._firsts)
        self.begin = self._id(frozenset(), frozenset(), blank and self._counts)

    def _id(self, first: Begun | None, second: Begun | None, blank: bool = False) -> int:
        if first is None or second is None:
            return 0
        seen = _Seen(first, second, blank)
        known = self._ids.get(seen)
        if known is None:
            known = self._ids[seen] = len(self._states)
            self._states.append(seen)
        return known

    def is_first(self, content: bytes) -> bool:
        """Whether it is one of those that are found in the text."""
        return content in self._firsts

    def following(self, state: int) -> frozenset[int]:
        """The bytes that go on with a content that has begun, and a blank that is not in the text."""
        first, second, blank = self._states[state]
        if blank:
            return frozenset({BLANK})
        trees = (self._first, first), (self._second, second)
        return frozenset(byte for tree, begun in trees for node in begun for byte in tree.children[node])

    def read(self, state: int, text: bytes) -> int:
        """The state after other tokens with this text; 0 if it completes a content."""
        if state == 0 or (state == self.start and not text.translate(None, self._quiet)):
            return state
        first, second, blank = self._states[state]
        return self._id(self._first.read(first, text[1:] if blank else text), self._second.read(second, text))

    def insert(self, state: int, content: bytes) -> int:
        """The state after the added token with this content; 0 if another would have been found instead."""
        if state == 0:
            return 0
        first, second, _ = self._states[state]
        if content in self._firsts:
            begun = self._first.insert(first, content)
            return self._id(begun, frozenset(), self._blank and (self._counts or bool(begun)))
        return self._id(self._first.read(first, content), self._second.insert(second, content))
