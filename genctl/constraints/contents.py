"""Added tokens: texts that a tokenizer finds before all else, so that no other tokens may spell them.

    contents = Contents([b"<|im_end|>"], [])
    state = contents.read(contents.start, b"<|im")
    contents.read(state, b"_end|>")                    # 0: the text would be another token

A tokenizer has two sets of them. Those of the first are found in the text, those of the second in the pieces that
this leaves; each leftmost, and longest of those that begin at one place. Int states, 0 is dead.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

ROOT = 0

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


class Contents:
    """The contents of added tokens, as bytes: first those found in the text, then those found in what is left."""

    start = 1

    def __init__(self, first: Iterable[bytes], second: Iterable[bytes]) -> None:
        self._firsts = frozenset(first)
        self._first, self._second = _Tree(self._firsts), _Tree(second)
        self._states: list[tuple[Begun, Begun]] = []
        self._ids: dict[tuple[Begun, Begun], int] = {}
        for _ in range(2):
            self._states.append((frozenset(), frozenset()))
        self._ids[self._states[self.start]] = self.start
        opening = {*self._first.children[ROOT], *self._second.children[ROOT]}
        self._quiet = bytes(byte for byte in range(256) if byte not in opening)

    def _id(self, first: Begun | None, second: Begun | None) -> int:
        if first is None or second is None:
            return 0
        known = self._ids.get((first, second))
        if known is None:
            known = self._ids[first, second] = len(self._states)
            self._states.append((first, second))
        return known

    def is_first(self, content: bytes) -> bool:
        """Whether it is one of those that are found in the text."""
        return content in self._firsts

    def following(self, state: int) -> frozenset[int]:
        """The bytes that go on with a content that has begun."""
        trees = zip((self._first, self._second), self._states[state], strict=True)
        return frozenset(byte for tree, begun in trees for node in begun for byte in tree.children[node])

    def read(self, state: int, text: bytes) -> int:
        """The state after other tokens with this text; 0 if it completes a content."""
        if state == 0 or (state == self.start and not text.translate(None, self._quiet)):
            return state
        first, second = self._states[state]
        return self._id(self._first.read(first, text), self._second.read(second, text))

    def insert(self, state: int, content: bytes) -> int:
        """The state after the added token with this content; 0 if another would have been found instead."""
        if state == 0:
            return 0
        first, second = self._states[state]
        if content in self._firsts:
            return self._id(self._first.insert(first, content), frozenset())
        return self._id(self._first.read(first, content), self._second.insert(second, content))
