"""The prefix tree of a vocabulary: all tokens at once, without reading a shared beginning twice.

tokens = Tokens.of(vocabulary)
tokens.trie.node.shape                   # (number of nodes, 4)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from genctl.kernels.automaton import BYTE, DEPTH, build_trie
from genctl.kernels.records import I64, TokenBytes, TokenTrie
from genctl.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class Tokens:
    """A vocabulary as kernels read it. Tokens without bytes and end-of-text tokens are not in the trie."""

    bytes: TokenBytes
    trie: TokenTrie
    order: I64  # the tokens in the trie, sorted by their bytes
    depth: int  # bytes of the longest token
    first: frozenset[int] = frozenset()  # of these, those that stand only at the beginning of a text

    @staticmethod
    @lru_cache(maxsize=8)
    def of(vocabulary: Vocabulary) -> Tokens:
        """Built once for each vocabulary."""
        flat = token_bytes(vocabulary)
        lengths = np.diff(flat.offset)
        readable = [i for i in np.flatnonzero(lengths).tolist() if not flat.eos[i]]
        order = np.array(sorted(readable, key=vocabulary.tokens.__getitem__), dtype=np.int64)
        return Tokens(flat, trie_of(flat, order), order, int(lengths.max(initial=0)), vocabulary.first)

    def part(self, order: I64) -> TokenTrie:
        """The trie of some of the tokens in it, in its order; of tokens with the same bytes all or none."""
        return trie_of(self.bytes, order)._replace(same=self.trie.same)

    @cached_property
    def later(self) -> Tokens:
        """Those that may come anywhere."""
        if not self.first:
            return self
        order = self.order[~np.isin(self.order, list(self.first))]
        return Tokens(self.bytes, trie_of(self.bytes, order), order, self.depth)


def token_bytes(vocabulary: Vocabulary) -> TokenBytes:
    """The vocabulary as flat arrays."""
    lengths = np.fromiter(map(len, vocabulary.tokens), np.int64, len(vocabulary))
    eos = np.zeros(len(vocabulary), np.bool_)
    eos[list(vocabulary.eos)] = True
    data = np.frombuffer(b"".join(vocabulary.tokens) + b"\0", np.uint8)
    return TokenBytes(data, np.concatenate([[0], np.cumsum(lengths)]), eos)


def trie_of(flat: TokenBytes, order: I64) -> TokenTrie:
    """The prefix tree of some tokens, sorted by their bytes."""
    room = int(np.diff(flat.offset)[order].sum()) + 1
    node = np.zeros((room, 4), np.int32)
    same = np.full(len(flat.eos), -1, np.int32)
    node = node[: build_trie(flat.data, flat.offset, order, node, same)].copy()
    first = np.full(256, -1, np.int32)
    children = np.flatnonzero(node[:, DEPTH] == 1)
    first[node[children, BYTE]] = children
    return TokenTrie(node, same, first)
