"""The covers of a text by plain search, weighed by a real model: what a byte view of it must be.

    covers = Covers(model.model, model.tokenizer, model.encode(""))
    covers.law(b"don't", canonical=True)                  # (257,) float64: the next byte, the end of text last

Nothing of genctl is used: tokens are looked up by their bytes, every sequence is read by the model from its first
token, and which sequences begin an encoding is asked of the tokenizer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import product
from typing import Any, TypeAlias

import numpy as np
import torch
from transformers.convert_slow_tokenizer import bytes_to_unicode

Node: TypeAlias = tuple[int, ...]  # tokens that spell a beginning of the text

SKIPPED = 2e-7  # share of the lightest covers, all together, that the tokenizer is not asked about
ROWS = 16  # sequences in one pass of the model
INSIDE = range(0x80, 0xC0)
FILLS = (  # what may finish a character that has begun
    [bytes([byte]) for byte in INSIDE],
    [bytes(pair) for pair in product(INSIDE, repeat=2)],
    [bytes(three) for three in product(INSIDE[::4], repeat=3)],
)
MORE = ("", "a", " a", "1", "!", "日", " ", "s", "\n", "'", "é", " 1", "  ", "\n\n", "re", "ll", "the", "\u0301")
MORE += ("🙂", "22", "x", "<", "\t", "\r\n", "_", "-", ">")
BEHIND = 2  # of these, behind what finishes a character: a blank of Unicode is cut otherwise where a letter follows
LIGHT = 1e-7  # share of a cover that gets the first few witnesses only
FEW = 3


class Covers:
    """model, tokenizer: of transformers, byte-level BPE. opening: the tokens before every text."""

    def __init__(self, model: Any, tokenizer: Any, opening: Sequence[int]) -> None:
        to_byte = {character: byte for byte, character in bytes_to_unicode().items()}
        added = tokenizer.added_tokens_decoder
        assert all(token.special for token in added.values())
        self._model, self._opening = model, list(opening)
        self._encoder = tokenizer.backend_tokenizer
        width = model.get_output_embeddings().out_features
        self._unused = sorted(set(range(width)) - set(tokenizer.get_vocab().values()))  # rows that no token has
        ordinary = {i: piece for piece, i in tokenizer.get_vocab().items() if i not in added}
        self.spelled = {i: bytes(to_byte[c] for c in piece) for i, piece in sorted(ordinary.items())}
        self._by_bytes: dict[bytes, list[int]] = {}
        for i, piece in self.spelled.items():
            self._by_bytes.setdefault(piece, []).append(i)
        self._ends = model.generation_config.eos_token_id
        self._longer = lru_cache(512)(self._find_longer)

    def text(self, node: Node) -> bytes:
        return b"".join(self.spelled[token] for token in node)

    def inner(self, text: bytes, canonical: bool, most: int | None = None) -> list[Node] | None:
        """All token sequences that spell a beginning of the text, parents first; None if they are more than `most`."""
        found: list[Node] = [()]
        for node in found:
            start = len(self.text(node))
            ends = range(start + 1, len(text) + 1)
            tokens = [token for end in ends for token in self._by_bytes.get(text[start:end], ())]
            found += [(*node, token) for token in (self.written(node, tokens) if canonical else tokens)]
            if most is not None and len(found) > most:
                return None
        return found

    def weighed(self, nodes: Sequence[Node]) -> dict[Node, tuple[float, np.ndarray]]:
        """The probability of each node, and of the tokens behind it."""
        rows = self._read(nodes)
        weights = {(): 1.0}
        for node in nodes[1:]:
            weights[node] = weights[node[:-1]] * float(rows[node[:-1]][node[-1]])
        return {node: (weights[node], rows[node]) for node in nodes}

    def law(self, text: bytes, canonical: bool) -> np.ndarray:
        nodes = self.inner(text, canonical)
        assert nodes is not None
        return self.law_of(text, self.weighed(nodes), canonical)

    def law_of(self, text: bytes, weighed: dict[Node, tuple[float, np.ndarray]], canonical: bool) -> np.ndarray:
        """(257,) probabilities of what comes behind the text. weighed: its inner nodes, and maybe more text's."""
        inside = [(node, *found) for node, found in weighed.items() if text.startswith(self.text(node))]
        leaves = [
            (node, token, following, weight * float(row[token]))
            for node, weight, row in inside
            for token, following in zip(*self._longer(text[len(self.text(node)) :]), strict=True)
        ]
        masses = np.zeros(257)
        for node, weight, row in inside:
            if self.text(node) == text and not (canonical and not self._is_whole(node)):
                masses[256] += weight * float(row[self._ends].sum())
        if canonical:
            leaves = self._written_leaves(leaves, masses[256])
        for _, _, following, mass in leaves:
            masses[following] += mass
        return masses / masses.sum()

    # -- which sequences the tokenizer writes

    def written(self, node: Node, tokens: Sequence[int], more: Sequence[str] = MORE) -> list[int]:
        """Those of the tokens with which some text's encoding goes on behind the node: a witness is looked for."""
        text, found = self.text(node), set[int]()
        whole = [(token, self._characters(text + self.spelled[token])) for token in tokens]
        for end in more:
            found |= self._begin(node, [(t, start + end) for t, start in whole if start is not None and t not in found])
        for token in (token for token, start in whole if start is None):
            data = text + self.spelled[token]
            if missing := self._missing(data):
                fills = FILLS[missing - 1] if more is MORE else FILLS[missing - 1][::17]
                ends = [end for fill in fills if (end := self._characters(data + fill)) is not None]
                found |= self._begin(node, [(token, end + then) for end in ends for then in more[:BEHIND]])
        return sorted(found)

    def _begin(self, node: Node, asked: Sequence[tuple[int, str]]) -> set[int]:
        """The tokens that stand behind the node in the encoding of the text beside them."""
        encodings = self._encoder.encode_batch_fast([text for _, text in asked], add_special_tokens=False)
        size = len(node) + 1
        pairs = zip(asked, encodings, strict=True)
        return {token for (token, _), encoding in pairs if encoding.ids[:size] == [*node, token]}

    def _is_whole(self, node: Node) -> bool:
        text = self._characters(self.text(node))
        return text is not None and tuple(self._encoder.encode(text, add_special_tokens=False).ids) == node

    @staticmethod
    def _characters(data: bytes) -> str | None:
        try:
            return data.decode()
        except UnicodeDecodeError:
            return None

    @staticmethod
    def _missing(data: bytes) -> int:
        """Bytes of a last character that has begun; 0 where the text is whole or has a mistake further in front."""
        try:
            data.decode()
        except UnicodeDecodeError as error:
            lead = data[error.start]
            size = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
            return size - (len(data) - error.start) if error.end == len(data) and lead >= 0xC2 else 0
        return 0

    def _written_leaves(self, leaves: Sequence[Any], ended: float) -> list[Any]:
        order = sorted(leaves, key=lambda leaf: -leaf[3])
        behind = np.cumsum([leaf[3] for leaf in reversed(order)])[::-1]
        for share in (SKIPPED, 0.0):
            kept = order[: int((behind > share * behind[0]).sum())]
            heavy = int(sum(leaf[3] > LIGHT * behind[0] for leaf in kept))
            accepted = {*self._accepted(kept[:heavy], MORE), *self._accepted(kept[heavy:], MORE[:FEW])}
            found = [leaf for leaf in kept if leaf[:2] in accepted]
            skipped = sum(leaf[3] for leaf in order[len(kept) :])
            if skipped <= 2 * SKIPPED * (ended + sum(leaf[3] for leaf in found)):
                break
        return found

    def _accepted(self, leaves: Iterable[Any], more: Sequence[str]) -> Iterator[tuple[Node, int]]:
        by_node: dict[Node, list[int]] = {}
        for node, token, *_ in leaves:
            by_node.setdefault(node, []).append(token)
        for node, tokens in by_node.items():
            yield from ((node, token) for token in self.written(node, tokens, more))

    # -- the model

    def _find_longer(self, rest: bytes) -> tuple[list[int], list[int]]:
        """The tokens that begin with the rest and go on, and the byte that each goes on with."""
        found = [i for i, piece in self.spelled.items() if len(piece) > len(rest) and piece.startswith(rest)]
        return found, [self.spelled[i][len(rest)] for i in found]

    def _read(self, nodes: Sequence[Node]) -> dict[Node, np.ndarray]:
        """(V,) probabilities behind each node, from passes over whole sequences, each node's once."""
        begun = {node[:-1] for node in nodes if node}
        paths = sorted((node for node in nodes if node not in begun), key=len)
        rows: dict[Node, np.ndarray] = {}
        for first in range(0, len(paths), ROWS):
            several = paths[first : first + ROWS]
            longest = max(map(len, several))
            ids = torch.tensor([[*self._opening, *path, *[0] * (longest - len(path))] for path in several])
            with torch.inference_mode():
                logits = self._model(input_ids=ids, use_cache=False).logits[:, len(self._opening) - 1 :]
                logits[..., self._unused] = -torch.inf
            for path, line in zip(several, logits, strict=True):
                for size in range(len(path) + 1):
                    if path[:size] not in rows:
                        rows[path[:size]] = line[size].double().softmax(0).numpy()
        return rows
