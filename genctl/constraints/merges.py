"""Byte-pair merges of a tokenizer, and which tokens may stand next to each other inside a word.

pairs = TokenPairs(pieces, merges)
pairs.stable(left, right)                      # are these two the encoding of their symbols together?
pairs.unstable_after(left)                     # the packed mask of all that are not
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property

import numpy as np

from genctl.constraints.base import pack
from genctl.constraints.splits import CODE_POINTS
from genctl.kernels.merges import (
    LEFT,
    NONE,
    RANK,
    Merges,
    MergeTree,
    encode,
    encode_each,
    fill_merges,
    first_stable,
    stable,
    unstable_after,
)
from genctl.kernels.records import I32, U32, Bool

MASKS_BYTES = 32 * 2**20  # of masks of tokens that may not follow


class TokenPairs:
    """V tokens of which some are pieces of the model: pieces[i] is how it spells them, "" for all others.

    Each character of a piece is a symbol, which is a token of its own or none. merges: (left, right, merged) ids, by
    rising rank. whole: pieces that are one symbol, whatever their characters.
    """

    def __init__(
        self, pieces: Sequence[str], merges: Sequence[tuple[int, int, int]], whole: Collection[int] = ()
    ) -> None:
        self.size = len(pieces)
        self._merges = _merges(pieces, merges, whole)
        longest = 2 * max(map(len, pieces), default=0) + 2
        self._scratch = np.zeros(longest, np.int32), np.zeros(longest, np.int64), np.zeros(4, np.int32)
        self._tree = self._grow(merges)
        self._unstable: dict[int, U32] = {}

    def _grow(self, merges: Sequence[tuple[int, int, int]]) -> MergeTree:
        tree = np.full((3, self.size), NONE, np.int32)
        highest = np.full(self.size, NONE, np.int32)
        reachable = np.zeros(self.size, np.bool_)
        encode_each(self._merges, tree, reachable, highest, *self._scratch)
        return _tree(self._merges, tree, reachable, highest, merges)

    @property
    def reachable(self) -> Bool:
        """(V,) whether a token is the encoding of its symbols."""
        return self._tree.reachable

    @cached_property
    def disorderly(self) -> int:
        """How many tokens are compared one by one."""
        return len(self._tree.disorderly)

    def encoding(self, token: int) -> tuple[int, ...]:
        """How the merges encode the symbols of a token; () if one has no token."""
        data = self._merges.data[self._merges.offset[token] : self._merges.offset[token + 1]]
        if NONE in data:
            return ()
        word, slots, last = self._scratch
        word[: len(data)] = data
        return tuple(word[: encode(self._merges, word, slots, len(data), last)].tolist())

    def stable(self, left: int, right: int) -> bool:
        """Whether two reachable tokens are the encoding of their symbols together."""
        return bool(stable(self._merges, left, right, *self._scratch))

    def any_stable(self, left: int, rights: I32) -> bool:
        """Whether any of these reachable tokens is stable after the left one."""
        return int(first_stable(self._merges, left, rights, *self._scratch)) != NONE

    def unstable_after(self, left: int) -> U32:
        """(ceil(V/32),) packed bits of the reachable tokens that are not stable after a reachable one; read-only."""
        known = self._unstable.get(left)
        if known is None:
            out = np.zeros(self.size, np.bool_)
            unstable_after(self._merges, self._tree, left, out, *self._scratch)
            known = pack(out)
            known.flags.writeable = False
            if len(self._unstable) * known.nbytes >= MASKS_BYTES:
                self._unstable.clear()
            self._unstable[left] = known
        return known


def _merges(pieces: Sequence[str], merges: Sequence[tuple[int, int, int]], whole: Collection[int]) -> Merges:
    spelled = ["\0" if i in whole else piece for i, piece in enumerate(pieces)]
    single = np.full(CODE_POINTS, NONE, np.int32)
    for i, piece in enumerate(spelled):
        if len(piece) == 1 and i not in whole:
            single[ord(piece)] = i
    size = 1 << (2 * len(merges) + 2).bit_length()
    offset = np.concatenate([[0], np.cumsum([len(piece) for piece in spelled])]).astype(np.int64)
    data = single[np.frombuffer("".join(spelled).encode("utf-32-le"), np.uint32)]
    data[offset[list(whole)]] = list(whole)
    record = Merges(np.full((size, 2), NONE, np.int64), np.full((size, 2), NONE, np.int32), data, offset)
    table = np.array(merges, np.int64).reshape(-1, 3)
    ranked = np.stack([np.arange(len(table)), table[:, 2]], axis=1).astype(np.int32)
    fill_merges(record, table[:, :2].copy(), ranked)
    return record


def _tree(
    record: Merges, tree: I32, reachable: Bool, highest: I32, merges: Sequence[tuple[int, int, int]]
) -> MergeTree:
    size = len(reachable)
    children: dict[int, list[int]] = {}
    orderly = np.ones((2, size), np.bool_)
    lengths = np.diff(record.offset)
    tokens = np.flatnonzero(reachable)
    for v in tokens[np.argsort(lengths[tokens], kind="stable")].tolist():
        left, right, rank = tree[:, v].tolist()
        if left != NONE:
            children.setdefault(left, []).append(v)
            late = rank >= max(highest[left], highest[right])
            orderly[0, v], orderly[1, v] = late and orderly[0, left], late and orderly[1, right]
    for group in children.values():
        group.sort(key=lambda v: int(tree[RANK, v]))
    roots = [v for v in tokens.tolist() if tree[LEFT, v] == NONE]
    order, place, end = _preorder(roots, children, size)
    flat: list[int] = []
    first = np.full(size, NONE, np.int32)
    for parent, group in children.items():
        first[parent] = len(flat)
        flat += [*group, NONE]
    table = np.array(merges, np.int64).reshape(-1, 3)
    by_left = np.argsort(table[:, 0], kind="stable")
    partner = np.stack([table[by_left, 1], by_left], axis=1).astype(np.int32)
    partner_offset = np.searchsorted(table[by_left, 0], np.arange(size + 1)).astype(np.int64)
    disorderly = np.flatnonzero(reachable & ~orderly[0]).astype(np.int32)
    return MergeTree(
        tree,
        reachable,
        orderly,
        order,
        place,
        end,
        first,
        np.array(flat, np.int32),
        partner_offset,
        partner,
        disorderly,
    )


def _preorder(roots: Sequence[int], children: Mapping[int, Sequence[int]], size: int) -> tuple[I32, I32, I32]:
    """The tokens of a forest, a parent before its children, and where each subtree begins and ends."""
    order: list[int] = []
    place, end = np.zeros(size, np.int32), np.zeros(size, np.int32)
    waiting = list(reversed(roots))
    while waiting:
        v = waiting.pop()
        if v < 0:
            end[~v] = len(order)
            continue
        place[v] = len(order)
        order.append(v)
        waiting.append(~v)
        waiting += reversed(children.get(v, ()))
    return np.array(order, np.int32), place, end
