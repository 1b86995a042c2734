"""Byte-pair merges: encode a word, and find the tokens that may not follow a token inside a word.

    room = encode(merges, word, len(word))          # word (n,) token ids, merged in place
    unstable_after(merges, tree, token, out)

A word begins as one token for each of its symbols (bytes, or characters), and is merged by the lowest rank first,
leftmost first. Two tokens are *stable* if their symbols together are encoded as just these two; a word is encoded as a
sequence of tokens exactly if each is the encoding of its own symbols and all neighbours are stable, since what stands
at a boundary depends on the two neighbours only until a merge crosses it.
"""

from __future__ import annotations

from typing import NamedTuple

from genctl.kernels.compiled import inlined, kernel, wide
from genctl.kernels.records import I32, I64, Bool

NONE = -1  # no token, no rank
HIGHEST = 2**31 - 1  # above all ranks

# Rows of MergeTree.tree.
LEFT, RIGHT, RANK = range(3)


class Merges(NamedTuple):
    """A hash table with open addressing. V tokens."""

    pair: I64  # (size, 2) left token, right token; size a power of two; NONE where empty
    merged: I32  # (size, 2) rank, token
    data: I32  # the symbols of all tokens, each as the token it is by itself; NONE if it is none
    offset: I64  # (V + 1,) where each token begins in data


class MergeTree(NamedTuple):
    """How each token is merged from its symbols. The forest has the left part of a token as its parent."""

    tree: I32  # (3, V) last merge of a token that is the encoding of its symbols; NONE for single symbols
    reachable: Bool  # (V,) whether a token is the encoding of its symbols
    orderly: Bool  # (2, V) whether the merges along its left, its right edge have no rank below an earlier one
    order: I32  # reachable tokens, in preorder of the forest; children by rising rank
    place: I32  # (V,) where a token is in order
    end: I32  # (V,) where its subtree ends
    first: I32  # (V,) where its children begin in `children`, NONE if it has none
    children: I32  # tokens, by parent, by rising rank; each group ends with NONE
    partner_offset: I64  # (V + 1,) where the merges of each left token begin in partner
    partner: I32  # (merges, 2) right token, rank
    disorderly: I32  # the reachable tokens whose left edge is not orderly


@inlined
def find_merge(merges: Merges, left: int, right: int) -> int:
    """The slot of the pair, NONE if the tokens do not merge."""
    last = len(merges.pair) - 1
    slot = (left * 0x9E3779B1 + right * 0x85EBCA6B) & last
    while merges.pair[slot, 0] != left or merges.pair[slot, 1] != right:
        if merges.pair[slot, 0] == NONE:
            return NONE
        slot = (slot + 1) & last
    return slot


@kernel
def fill_merges(merges: Merges, pairs: I64, merged: I32) -> None:
    """(M, 2) pairs, (M, 2) rank and token -> the empty table. Of a pair that comes twice the last counts."""
    last = len(merges.pair) - 1
    for i in range(len(pairs)):
        left, right = pairs[i, 0], pairs[i, 1]
        slot = (left * 0x9E3779B1 + right * 0x85EBCA6B) & last
        while merges.pair[slot, 0] != NONE and (merges.pair[slot, 0] != left or merges.pair[slot, 1] != right):
            slot = (slot + 1) & last
        merges.pair[slot, 0], merges.pair[slot, 1] = left, right
        merges.merged[slot, 0], merges.merged[slot, 1] = merged[i, 0], merged[i, 1]


@kernel
def encode(merges: Merges, word: I32, slots: I64, size: int, last: I32) -> int:
    """Merge the first tokens of word in place -> how many are left.

    slots: (n,) scratch. last: (4,) left, right and rank of the last merge, and the highest rank of all merges.
    """
    last[0], last[1], last[2], last[3] = NONE, NONE, NONE, NONE
    for i in range(size - 1):
        slots[i] = find_merge(merges, wide(word[i]), wide(word[i + 1]))
    while size > 1:
        best, where = HIGHEST, NONE
        for i in range(size - 1):
            if slots[i] != NONE and merges.merged[slots[i], 0] < best:
                best, where = merges.merged[slots[i], 0], i
        if where == NONE:
            break
        last[0], last[1], last[2], last[3] = word[where], word[where + 1], best, max(last[3], best)
        word[where] = merges.merged[slots[where], 1]
        size -= 1
        for i in range(where + 1, size):
            word[i] = word[i + 1]
            slots[i - 1] = slots[i]
        if where > 0:
            slots[where - 1] = find_merge(merges, wide(word[where - 1]), wide(word[where]))
        if where < size - 1:
            slots[where] = find_merge(merges, wide(word[where]), wide(word[where + 1]))
    return size


@inlined
def load(merges: Merges, token: int, word: I32, size: int) -> int:
    """Append the symbols of a token to the first tokens of word -> how many there are then."""
    for i in range(merges.offset[token], merges.offset[token + 1]):
        word[size] = merges.data[i]
        size += 1
    return size


@kernel
def encode_each(merges: Merges, tree: I32, reachable: Bool, highest: I32, word: I32, slots: I64, last: I32) -> None:
    """Encode the symbols of each token: write its last merge to tree (3, V), and its highest rank to highest (V,).

    A token with a symbol that is no token, or that no merge gives, is not reachable.
    """
    for token in range(len(reachable)):
        size = load(merges, token, word, 0)
        known = size > 0
        for i in range(size):
            known = known and word[i] != NONE
        reachable[token] = known and encode(merges, word, slots, wide(size), last) == 1 and word[0] == token
        if reachable[token]:
            for i in range(3):
                tree[i, token] = last[i]
            highest[token] = last[3]


@kernel
def stable(merges: Merges, left: int, right: int, word: I32, slots: I64, last: I32) -> bool:
    """Whether two tokens, each the encoding of its symbols, are the encoding of their symbols together."""
    size = load(merges, right, word, load(merges, left, word, 0))
    return encode(merges, word, slots, wide(size), last) == 2 and word[0] == left and word[1] == right


@kernel
def first_stable(merges: Merges, left: int, rights: I32, word: I32, slots: I64, last: I32) -> int:
    """Which of the tokens is the first that is stable after left; NONE if none is."""
    for i in range(len(rights)):
        if stable(merges, left, wide(rights[i]), word, slots, last):
            return i
    return NONE


@kernel
def unstable_after(merges: Merges, tree: MergeTree, token: int, out: Bool, word: I32, slots: I64, last: I32) -> None:
    """Set out[v] for each reachable v that is not stable after the token.

    While both sides are orderly, time is rank: the token's right edge is `left` from rank `since` until rank `until`.
    A merge of it with the left edge `right` of what follows happens if both stand there at some time, and its rank
    comes before the next change of either edge. Of equal ranks the leftmost merge is first: the token's own, then the
    one across the boundary, then that of what follows.
    """
    if not tree.orderly[1, token]:
        for v in tree.order:
            if not stable(merges, token, wide(v), word, slots, last):
                out[v] = True
        return
    left, until = token, wide(HIGHEST)
    while left != NONE:
        since = wide(tree.tree[RANK, left])
        for i in range(tree.partner_offset[left], tree.partner_offset[left + 1]):
            right, rank = tree.partner[i, 0], tree.partner[i, 1]
            if not tree.reachable[right] or rank >= until or tree.tree[RANK, right] >= until:
                continue
            out[right] = True
            child = wide(tree.first[right])
            while child != NONE and tree.children[child] != NONE:
                v = tree.children[child]
                child += 1
                if tree.tree[RANK, v] >= max(rank, since):
                    for k in range(tree.place[v], tree.end[v]):
                        out[tree.order[k]] = True
        left, until = wide(tree.tree[RIGHT, left]), since
    for v in tree.disorderly:
        out[v] = not stable(merges, token, wide(v), word, slots, last)
