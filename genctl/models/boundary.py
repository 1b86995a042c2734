"""Prompts that end where tokens need not: the model goes on from the bytes, not from the tokens they were cut into.

    opening = Opening.of(covers, vocabulary, [], b"The capital of France is Par")
    model = Boundary(base, {(1, 314, 2860): opening})              # by the prompt's own tokens
    logits, state = model.prefill([[1, 314, 2860]])                # the law of what comes behind the bytes, exactly

Behind the token `" Par"` of that prompt a token `"is"` is unlikely: texts say `" Paris"`, in one token. So the first
draw is over pairs: a token sequence that spells a beginning of the prompt, and a token that begins with the rest and
passes the end. To the text a pair adds what lies behind the end. That is what the first symbol stands for: an id of the
model with the same bytes where there is one, else an id behind the model's. All later draws are the model's own.

With p the model's law, P(pair) = p(sequence) p(token | sequence) / P(prompt), the terms of the sum over covers of
models/bytes.py: the first piece of text has the law that the byte view gives it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Generic, NamedTuple, TypeAlias, TypeVar

import numpy as np

from genctl.constraints.base import unpack, words
from genctl.errors import ArgumentError
from genctl.kernels.records import F32, I64
from genctl.models.base import LanguageModel, Logits, Tokens, View, host_logits
from genctl.models.covers import Covers, Plan
from genctl.vocabulary import Vocabulary

M = TypeVar("M")
Ids: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Opening:
    """A prompt: the branches that its bytes may be read as, and K pairs that pass its end."""

    fixed: list[int]  # tokens that come before its bytes
    plan: Plan
    branches: I64  # (K,)
    tokens: I64  # (K,)
    remainders: tuple[bytes, ...]  # K
    ends: list[int]  # branches that spell the whole prompt, which may be the whole text

    @classmethod
    def of(cls, covers: Covers, vocabulary: Vocabulary, fixed: Sequence[int], text: bytes) -> Opening | None:
        """fixed: tokens before the text. None where no token sequence covers it, or too many do."""
        plan = covers.plan(text, trimmed=True)
        if plan is None:
            return None
        pairs: list[tuple[int, int, bytes]] = []
        ends = []
        for place, branch in enumerate(plan.branches):
            rest = text[branch.start :]
            if branch.alive:
                longer = _allowed(covers, branch.canonical, rest)
                pairs += [(place, token, vocabulary.tokens[token][len(rest) :]) for token in longer.tolist()]
            if not rest and (covers.canonical is None or covers.canonical.complete(branch.canonical)):
                ends.append(place)
        if not pairs and not ends:
            return None
        branches, tokens, remainders = zip(*pairs, strict=True) if pairs else ((), (), ())
        return cls(list(fixed), plan, np.array(branches, np.int64), np.array(tokens, np.int64), remainders, ends)

    def sequences(self) -> list[list[int]]:
        """What the model has to read: the tokens of each branch."""
        return [[*self.fixed, *tokens] for tokens in self.plan.sequences()]

    def spelled(self, pair: int) -> list[int]:
        """The tokens of a pair, behind those that all branches begin with."""
        return [*self.plan.behind(int(self.branches[pair])), int(self.tokens[pair])]

    def law(self, rows: F32, labels: I64, eos: Sequence[int], size: int) -> F32:
        """rows (B, V): logits at the branches; labels (K,) ids of the pairs -> (size,) log-probabilities, nats."""
        laws = rows.astype(np.float64)
        laws -= np.logaddexp.reduce(laws, axis=1, keepdims=True)
        weights = np.zeros(len(laws))
        for place, branch in enumerate(self.plan.branches[1:], start=1):
            weights[place] = weights[branch.parent] + laws[branch.parent, branch.token]
        scores = np.full(size, -np.inf)
        scores[labels] = weights[self.branches] + laws[self.branches, self.tokens]
        if self.ends:
            scores[list(eos)] = np.logaddexp.reduce(weights[self.ends, None] + laws[np.ix_(self.ends, eos)], axis=0)
        total = np.logaddexp.reduce(scores)
        if total > -np.inf:
            scores -= total
        return scores.astype(np.float32)


def _allowed(covers: Covers, canonical: int, rest: bytes) -> I64:
    """The tokens that begin with the rest and pass it, in byte order."""
    longer = covers.longer(rest)
    if covers.canonical is None:
        return longer
    packed = np.zeros(words(covers.size), np.uint32)
    covers.canonical.mask(canonical, packed)
    return longer[unpack(packed, covers.size)[longer]]


class _Row(NamedTuple):
    """opening: the prompt, if nothing was drawn yet; its branches are the model's rows first, first + 1, ..."""

    first: int
    opening: Ids | None


class BoundaryState(NamedTuple, Generic[M]):
    rows: tuple[_Row, ...]
    inner: M


class Read(NamedTuple, Generic[M]):
    """Prompts that the model has read already, and the row of each."""

    rows: Mapping[Ids, int]
    logits: Logits
    state: M


@dataclass(frozen=True, eq=False)
class _Labels:
    """The ids that stand for the pairs of each opening, and the vocabulary that has them all."""

    vocabulary: Vocabulary
    ids: dict[Ids, I64] = field(default_factory=dict)

    @classmethod
    def of(cls, vocabulary: Vocabulary, openings: Mapping[Ids, Opening]) -> _Labels:
        known = _by_bytes(vocabulary)
        new: dict[tuple[bytes, int], int] = {}  # (bytes, number of pairs with them before) -> id
        found = {}
        for prompt, opening in openings.items():
            seen: dict[bytes, int] = {}
            labels = []
            for text in opening.remainders:
                number = seen[text] = seen.get(text, -1) + 1
                mine = known.get(text, ())
                fresh = len(vocabulary) + len(new)
                labels.append(mine[number] if number < len(mine) else new.setdefault((text, number), fresh))
            found[prompt] = np.array(labels, np.int64)
        return cls(_longer(vocabulary, tuple(text for text, _ in new)), found)


@lru_cache(maxsize=8)
def _by_bytes(vocabulary: Vocabulary) -> dict[bytes, list[int]]:
    """The ids that have the same bytes."""
    found: dict[bytes, list[int]] = {}
    for i, text in enumerate(vocabulary.tokens):
        if text and i not in vocabulary.eos:
            found.setdefault(text, []).append(i)
    return found


@lru_cache(maxsize=8)
def _longer(vocabulary: Vocabulary, texts: tuple[bytes, ...]) -> Vocabulary:
    """With more ids; kept, since rules are bound to vocabularies."""
    if not texts:
        return vocabulary
    first = frozenset(range(len(vocabulary), len(vocabulary) + len(texts)))
    return Vocabulary((*vocabulary.tokens, *texts), vocabulary.eos, vocabulary.unused, first)


class Boundary(View[M]):
    """A `LanguageModel` that goes on from the bytes of some prompts. openings: by the prompts as they are given."""

    def __init__(self, model: LanguageModel[M], openings: Mapping[Ids, Opening], read: Read[M] | None = None) -> None:
        super().__init__(model)
        self._openings, self._read = openings, read
        self._labels = _Labels.of(model.vocabulary, openings)
        self._eos = sorted(model.vocabulary.eos)

    @property
    def vocabulary(self) -> Vocabulary:
        return self._labels.vocabulary

    def prefill(self, prompts: Sequence[Sequence[int]], /) -> tuple[Logits, BoundaryState[M]]:
        keys = [tuple(map(int, prompt)) for prompt in prompts]
        if self._read is not None and all(key in self._read.rows and key not in self._openings for key in keys):
            rows = tuple(_Row(self._read.rows[key], None) for key in keys)
            return self._answer(host_logits(self._read.logits), rows), BoundaryState(rows, self._read.state)
        sequences: list[list[int]] = []
        begun: list[_Row] = []
        for key in keys:
            opening = self._openings.get(key)
            begun.append(_Row(len(sequences), None if opening is None else key))
            sequences += [list(key)] if opening is None else opening.sequences()
        logits, inner = self.model.prefill(sequences)
        return self._answer(host_logits(logits), begun), BoundaryState(tuple(begun), inner)

    def extend(self, state: BoundaryState[M], tokens: Tokens, /) -> tuple[Logits, BoundaryState[M]]:
        lines = [[int(token) for token in np.atleast_1d(line)] for line in tokens]
        moved = [self._moved(row, line) for row, line in zip(state.rows, lines, strict=True)]
        inner = self.model.select(state.inner, np.array([place for place, _ in moved], np.int64))
        logits, inner = self.model.extend(inner, [line for _, line in moved])
        rows = [_Row(row, None) for row in range(len(moved))]
        return self._answer(host_logits(logits), rows), BoundaryState(tuple(rows), inner)

    def select(self, state: BoundaryState[M], rows: I64, /) -> BoundaryState[M]:
        return BoundaryState(tuple(state.rows[row] for row in rows.tolist()), state.inner)

    def join(self, states: Sequence[BoundaryState[M]], /) -> BoundaryState[M]:
        rows: list[_Row] = []
        inner: list[M] = []
        count = 0
        for state in states:
            kept: list[int] = []
            for row in state.rows:
                rows.append(row._replace(first=count + len(kept)))
                kept += range(row.first, row.first + self._width(row))
            inner.append(self.model.select(state.inner, np.array(kept, np.int64)))
            count += len(kept)
        return BoundaryState(tuple(rows), self.model.join(inner))

    def sure(self, prompt: Sequence[int]) -> list[int]:
        """The tokens of a prompt that are the same whatever follows."""
        opening = self._openings.get(tuple(prompt))
        return list(prompt) if opening is None else [*opening.fixed, *opening.plan.trunk]

    def spelled(self, prompt: Sequence[int], tokens: Sequence[int]) -> Ids:
        """The model's own tokens of what was generated, behind those that are sure of the prompt."""
        key = tuple(prompt)
        if key not in self._openings or not tokens:
            return tuple(tokens)
        return (*self._openings[key].spelled(self._pair(key, tokens[0])), *tokens[1:])

    def _width(self, row: _Row) -> int:
        """Rows of the model that a row stands for."""
        return 1 if row.opening is None else len(self._openings[row.opening].plan.branches)

    def _pair(self, key: Ids, label: int) -> int:
        found = np.flatnonzero(self._labels.ids[key] == label)
        if not len(found):
            raise ArgumentError(f"id {label} is none that the prompt may go on with")
        return int(found[0])

    def _moved(self, row: _Row, line: list[int]) -> tuple[int, list[int]]:
        """The model's row, and its tokens."""
        if row.opening is None:
            return row.first, line
        opening, pair = self._openings[row.opening], self._pair(row.opening, line[0])
        return row.first + int(opening.branches[pair]), [int(opening.tokens[pair]), *line[1:]]

    def _answer(self, logits: F32, rows: Sequence[_Row]) -> F32:
        """(N, V') of the rows."""
        size = len(self.vocabulary)
        answer = np.full((len(rows), size), -np.inf, np.float32)
        for line, row in zip(answer, rows, strict=True):
            mine = logits[row.first : row.first + self._width(row)]
            if row.opening is None:
                line[: mine.shape[1]] = mine[0]
            else:
                line[:] = self._openings[row.opening].law(mine, self._labels.ids[row.opening], self._eos, size)
        return answer
