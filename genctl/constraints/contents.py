"""Added tokens: texts that a tokenizer finds before all else, so that no other tokens may spell them.

    contents = Contents([b"<|im_end|>"])
    state = contents.read(contents.start, b"<|im")
    contents.read(state, b"_end|>")                    # 0: the text would be another token

They are found leftmost, and longest of those that begin at one place. A state is the set of contents that have begun
and must not be completed, as nodes of the tree of contents; int states, 0 is dead.
"""

from __future__ import annotations

from collections.abc import Iterable

ROOT = 0


class Contents:
    """The contents of added tokens, as bytes."""

    start = 1

    def __init__(self, contents: Iterable[bytes]) -> None:
        self._children: list[dict[int, int]] = [{}]
        self._whole: set[int] = set()
        for content in contents:
            self._add(content)
        self._sets: list[frozenset[int]] = [frozenset(), frozenset()]
        self._ids = {frozenset[int](): 1}
        self._first = frozenset(self._children[ROOT])
        self._quiet = bytes(byte for byte in range(256) if byte not in self._first)

    def _add(self, content: bytes) -> None:
        node = ROOT
        for byte in content:
            if byte not in self._children[node]:
                self._children[node][byte] = len(self._children)
                self._children.append({})
            node = self._children[node][byte]
        self._whole.add(node)

    def _id(self, nodes: frozenset[int]) -> int:
        known = self._ids.get(nodes)
        if known is None:
            known = self._ids[nodes] = len(self._sets)
            self._sets.append(nodes)
        return known

    def following(self, state: int) -> frozenset[int]:
        """The bytes that go on with a content that has begun."""
        return frozenset(byte for node in self._sets[state] for byte in self._children[node])

    def read(self, state: int, text: bytes) -> int:
        """The state after a text; 0 if it completes a content."""
        if state == self.start and not text.translate(None, self._quiet):
            return state
        nodes = self._sets[state]
        for byte in text:
            nodes = self._after(nodes | {ROOT}, byte)
            if nodes & self._whole:
                return 0
        return self._id(nodes) if state else 0

    def insert(self, state: int, content: bytes) -> int:
        """The state after an added token; 0 if one that begins earlier is completed by it."""
        nodes, own = self._sets[state], ROOT
        for byte in content:
            nodes, own = self._after(nodes, byte), self._children[own][byte]
            if nodes & self._whole:
                return 0
        return self._id(nodes | {own} if self._children[own] else nodes) if state else 0

    def _after(self, nodes: frozenset[int], byte: int) -> frozenset[int]:
        return frozenset(self._children[node][byte] for node in nodes if byte in self._children[node])
