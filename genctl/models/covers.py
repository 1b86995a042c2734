"""Which token sequences spell a text, and beginnings of it that longer tokens may go on from.

    covers = Covers(vocabulary, canonical)
    plan = covers.plan(b"The capital of France is Par", trimmed=True)
    [tokens for tokens in plan.sequences()]              # what a model has to be asked about

With a canonical constraint only the sequences that it allows count; None counts all. Their number then grows
exponentially with the text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

import numpy as np

from genctl.constraints.base import Constraint
from genctl.kernels.automaton import END, TOKEN
from genctl.kernels.cover import child
from genctl.kernels.records import I64
from genctl.trie import Tokens
from genctl.vocabulary import Vocabulary

NODES = 2048  # token sequences that one call may ask a model about


class Branch(NamedTuple):
    """A token sequence that spells the first bytes of a text: one token behind its parent's."""

    token: int
    start: int  # bytes that it spells
    parent: int
    canonical: int  # the constraint's state behind it
    alive: bool  # do tokens go on from its rest?


class Plan(NamedTuple):
    """What a model is asked about at once, the first branch behind the tokens of the trunk.

    whole: nothing else can have a part in the text.
    """

    trunk: list[int]
    branches: list[Branch]
    whole: bool

    def sequences(self) -> Iterator[list[int]]:
        """The tokens of each branch."""
        for place in range(len(self.branches)):
            yield self.trunk + self.behind(place)

    def behind(self, place: int) -> list[int]:
        """The tokens of a branch behind the trunk."""
        tokens: list[int] = []
        while (branch := self.branches[place]).parent >= 0:
            tokens.append(branch.token)
            place = branch.parent
        return tokens[::-1]


class Covers:
    """The vocabulary's tokens in byte order. rank (M + 1,): how many of them the trie nodes before each have."""

    def __init__(self, vocabulary: Vocabulary, canonical: Constraint | None) -> None:
        readable = Tokens.of(vocabulary)
        self.canonical, self.size = canonical, len(vocabulary)
        self.order, self.trie = readable.order, readable.trie.node
        self.rank = _ranks(vocabulary)
        self.root = Branch(-1, 0, -1, canonical.start() if canonical else 0, alive=True)

    def plan(self, text: bytes, *, trimmed: bool) -> Plan | None:
        """The token sequences that spell beginnings of the text, each behind its parent; None if there are too many.

        trimmed: only those with a rest that tokens go on from, and what lies between these and their last common
        beginning, whose weight divides out.
        """
        branches = [self.root]
        for index, branch in enumerate(branches):
            if len(branches) > NODES + 8 * len(text):  # canonical ones are one or two a byte
                return None
            ends, alive = self._walk(text, branch.start)
            branches[index] = branch._replace(alive=alive)
            for token, end in ends:
                if self.canonical is None or self.canonical.allows(branch.canonical, token):
                    branches.append(Branch(token, end, index, self.advance(branch.canonical, token), alive=False))
        return _trimmed(branches) if trimmed else Plan([], branches, whole=True)

    def advance(self, canonical: int, token: int) -> int:
        """The canonical constraint's state behind one more token."""
        return self.canonical.advance(canonical, token) if self.canonical else 0

    def longer(self, rest: bytes) -> I64:
        """The tokens that begin with the bytes and have more, in byte order."""
        at = 0
        for byte in rest:
            at = child(self.trie, at, byte)
            if at < 0:
                return self.order[:0]
        return self.order[self.rank[at + 1] : self.rank[self.trie[at, END]]]

    def _walk(self, text: bytes, start: int) -> tuple[list[tuple[int, int]], bool]:
        """The tokens that the text has at an offset, each with its end; and whether longer ones begin with its rest."""
        at = 0
        found: list[tuple[int, int]] = []
        for end in range(start, len(text)):
            at = child(self.trie, at, text[end])
            if at < 0:
                return found, False
            found += [(token, end + 1) for token in self._spelled(at)]
        return found, bool(self.trie[at, END] > at + 1)

    def _spelled(self, at: int) -> list[int]:
        """The tokens whose bytes are the trie node's."""
        spelled: list[int] = self.order[self.rank[at] : self.rank[at + 1]].tolist()
        return spelled


@lru_cache(maxsize=8)
def _ranks(vocabulary: Vocabulary) -> I64:
    """(M + 1,) how many tokens, in byte order, the trie nodes before each have."""
    readable = Tokens.of(vocabulary)
    spelled = np.zeros(len(readable.trie.node) + 1, np.int64)
    texts = [vocabulary.tokens[token] for token in readable.order.tolist()]
    spelled[1 + np.flatnonzero(readable.trie.node[:, TOKEN] >= 0)] = [len(list(same)) for _, same in groupby(texts)]
    return np.cumsum(spelled)


def _trimmed(branches: Sequence[Branch]) -> Plan:
    """The branches that are alive or between these and their last common ancestor, which comes first."""
    needed, below = {index for index, branch in enumerate(branches) if branch.alive}, Counter[int]()
    for index in range(len(branches) - 1, 0, -1):
        if index in needed:
            needed.add(branches[index].parent)
            below[branches[index].parent] += 1
    trunk: list[int] = []
    kept = sorted(needed | {0})
    while not branches[kept[0]].alive and below[kept[0]] == 1:
        kept = kept[1:]  # the only one below comes next
        trunk.append(branches[kept[0]].token)
    places = {index: place for place, index in enumerate(kept)}
    return Plan(trunk, [branches[i]._replace(parent=places.get(branches[i].parent, -1)) for i in kept], whole=True)
