"""Keys and values of many rows, stored once a token: rows that begin alike share what they begin with.

    state = empty_state(2)
    state, passes = extended(state, counts)                # new slots for the new tokens of both rows
    cache = passes[0].cache()                              # what transformers takes as past_key_values
    state = selected(state, np.array([0, 0, 1]))           # copies slot numbers, neither keys nor values

A slot holds the keys and values of one token in every layer. It is written once, and free again when no state names
it: a row is a list of slots, and a fork of a row is a copy of the list. The layers of a pass write the keys of its new
tokens and gather those of its rows, so a joined copy exists for one layer and one pass at a time.

What a pass gathers is padded on both sides so that the last old token of every row stands in the same place: distances
between places are distances between positions, which attention windows need. Padding on the left is hidden by the
mask, padding on the right by causality. (Behind a set, `merged`, a row has more places than positions; a model with
attention windows is then held to rows that fit into them.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from genctl.kernels.records import I64

# What one pass may hold at most, where it has more than one row: enough for the weights to be read seldom, little
# enough for the memory of a pass to be bounded however many rows there are.
TOKENS = 4096  # new ones, padding included: activations
GATHERED = 2**15  # slots: keys and values of one layer
SCORES = 2**22  # pairs of a new token and a slot: attention of one head
LOGITS = 256  # rows times places that logits are asked for


class Store:
    """The keys and values of all slots, (heads, slots, dim) a layer. Whoever extends holds the lock.

    edits: what was changed in the model that made them; they are of no use to the model without it.
    """

    def __init__(self, edits: str = "") -> None:
        self.lock = Lock()
        self.edits = edits
        self._layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._capacity = 0
        self._free = np.empty(0, np.int64)
        self._tables: WeakValueDictionary[int, I64] = WeakValueDictionary()

    @property
    def layers(self) -> int:
        """How many layers hold keys: 0 before the first pass."""
        return 1 + max(self._layers, default=-1)

    def hold(self, table: I64) -> I64:
        """The table itself; the slots that it names are not given away while it exists."""
        self._tables[id(table)] = table
        return table

    def take(self, count: int) -> I64:
        """(count,) slots that no table names, lowest first."""
        if len(self._free) < count:
            self._free = self._unnamed()
        if len(self._free) < count:
            capacity = max(self._capacity + count - len(self._free), self._capacity * 5 // 4)
            self._free = np.concatenate([self._free, np.arange(self._capacity, capacity)])
            self._capacity = capacity
        taken, self._free = self._free[:count], self._free[count:]
        return taken

    def _unnamed(self) -> I64:
        unnamed = np.ones(self._capacity, np.bool_)
        for table in list(self._tables.values()):
            unnamed[table] = False
        return np.flatnonzero(unnamed)

    def write(self, layer: int, slots: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> None:
        """(n,) slots, (heads, n, dim) keys and values."""
        held = self._layers.get(layer, (keys[:, :0], values[:, :0]))
        if held[0].shape[1] < self._capacity:  # one layer after the other, so that two copies of all never exist
            held = self._layers[layer] = (_grown(held[0], self._capacity), _grown(held[1], self._capacity))
        for tensor, new in zip(held, (keys, values), strict=True):
            tensor.index_copy_(1, slots, new)

    def read(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self._layers[layer]


def _grown(tensor: torch.Tensor, size: int) -> torch.Tensor:
    heads, slots, dim = tensor.shape
    grown = tensor.new_empty(heads, size, dim)
    grown[:, :slots] = tensor
    return grown


@dataclass(frozen=True, eq=False)
class CacheState:
    """Keys and values of N rows: those of row i are in slots[i, : lengths[i]] of the store."""

    store: Store
    slots: I64  # (N, longest)
    lengths: I64  # (N,)
    shifts: I64  # (N,) the next token of a row has the position length - shift: 0 but behind a set


def empty_state(count: int, edits: str = "") -> CacheState:
    return CacheState(Store(edits), np.empty((count, 0), np.int64), *np.zeros((2, count), np.int64))


def selected(state: CacheState, rows: I64) -> CacheState:
    """(M,) indices of rows -> their state."""
    lengths = state.lengths[rows]
    slots = state.slots[rows, : lengths.max(initial=0)]
    return CacheState(state.store, state.store.hold(slots), lengths, state.shifts[rows])


def joined(states: Sequence[CacheState]) -> CacheState:
    """The rows of all states, in order; they have one store."""
    lengths = np.concatenate([state.lengths for state in states])
    shifts = np.concatenate([state.shifts for state in states])
    slots = np.zeros((len(lengths), lengths.max(initial=0)), np.int64)
    row = 0
    for state in states:
        width = min(slots.shape[1], state.slots.shape[1])  # a state may keep room that none of its rows needs
        slots[row : row + len(state.lengths), :width] = state.slots[:, :width]
        row += len(state.lengths)
    return CacheState(states[0].store, states[0].store.hold(slots), lengths, shifts)


def merged(state: CacheState, sets: Sequence[tuple[int, I64]]) -> CacheState:
    """For each (shared, rows) one row: what the rows have in common, `shared` tokens, then the rest of each.

    The rows do not see each other, and each of them starts behind what they share; the next token stands behind the
    longest. So a row may end with members of a set, in an order that only sums of floats can tell.
    """
    lists = [
        [state.slots[rows[0], :shared], *(state.slots[row, shared : state.lengths[row]] for row in rows)]
        for shared, rows in sets
    ]
    lengths = np.array([sum(map(len, parts)) for parts in lists], np.int64)
    slots = np.zeros((len(lists), lengths.max(initial=0)), np.int64)
    for row, parts in zip(slots, lists, strict=True):
        whole = np.concatenate(parts)
        row[: len(whole)] = whole
    positions = np.array([state.lengths[rows].max() for _, rows in sets], np.int64)
    return CacheState(state.store, state.store.hold(slots), lengths, lengths - positions)


def extended(state: CacheState, counts: I64) -> tuple[CacheState, list[Pass]]:
    """The state with slots for counts[i] > 0 more tokens of row i, and the passes that write to them."""
    lengths = state.lengths + counts
    places = np.arange(lengths.max(initial=0))
    slots = np.zeros((len(lengths), len(places)), np.int64)
    slots[:, : state.slots.shape[1]] = state.slots
    new = (places >= state.lengths[:, None]) & (places < lengths[:, None])
    slots[new] = state.store.take(int(counts.sum()))
    passes = [_pass(state, slots, counts, rows) for rows in _together(state.lengths, counts)]
    return CacheState(state.store, state.store.hold(slots), lengths, state.shifts), passes


def _together(lengths: I64, counts: I64) -> Iterator[I64]:
    """The rows of each pass: rows with as many new tokens go together, so that little is padding."""
    order = np.lexsort((lengths, counts))
    while len(order):
        n = np.arange(1, len(order) + 1)
        width = counts[order]  # ascending, as the widest row of a pass is its last
        slots = np.maximum.accumulate(lengths[order]) + width
        kept = 1 + np.cumsum(np.diff(width, prepend=width[0]) > 0)
        fits = (n * width <= TOKENS) & (n * slots <= GATHERED) & (n * width * slots <= SCORES) & (n * kept <= LOGITS)
        size = max(1, int(np.logical_and.accumulate(fits).sum()))
        yield order[:size]
        order = order[size:]


@dataclass(frozen=True, eq=False)
class Pass:
    """One forward of the model: n rows, the k new tokens of the row that has most, p + k places for slots."""

    rows: I64  # (n,) of the state
    counts: I64  # (n,) new tokens
    positions: I64  # (n, k) of the new tokens in their rows
    mask: I64  # (n, p + k) 0 where a place is padding on the left
    store: Store
    slots: I64  # (n, p + k) what stands in each place; padding repeats a slot of its row
    _moved: dict[torch.device, tuple[torch.Tensor, ...]] = field(default_factory=dict)

    @property
    def past(self) -> int:
        return int(self.slots.shape[1] - self.positions.shape[1])

    def cache(self) -> DynamicCache:
        cache = DynamicCache()
        cache.layers = [_Layer(self, layer) for layer in range(self.store.layers)]
        cache.layer_class_to_replicate = lambda: _Layer(self, len(cache.layers))
        return cache

    def indices(self, device: torch.device) -> tuple[torch.Tensor, ...]:
        """On a device: row and place of each of the new tokens, their slots, and the slots to gather (n (p + k),)."""
        if device not in self._moved:
            row, place = np.nonzero(np.arange(self.positions.shape[1]) < self.counts[:, None])
            arrays = (row, place, self.slots[row, self.past + place], self.slots.ravel())
            self._moved[device] = tuple(torch.from_numpy(array).to(device) for array in arrays)
        return self._moved[device]

    def gathered(self, tensor: torch.Tensor) -> torch.Tensor:
        """(heads, slots, dim) -> (n, heads, p + k, dim); a view where the slots are in a row."""
        if self._whole:
            first = int(self.slots[0, 0])
            joined = tensor[:, first : first + self.slots.size]
        else:
            joined = tensor.index_select(1, self.indices(tensor.device)[-1])
        return joined.view(len(tensor), *self.slots.shape, tensor.shape[2]).transpose(0, 1)

    @cached_property
    def _whole(self) -> bool:
        return bool(np.all(np.diff(self.slots.ravel()) == 1))


def _pass(state: CacheState, slots: I64, counts: I64, rows: I64) -> Pass:
    lengths, counts = state.lengths[rows], counts[rows]
    past, width = int(lengths.max()), int(counts.max())
    positions = np.arange(past + width) - (past - lengths)[:, None]
    inside = np.clip(positions, 0, (lengths + counts - 1)[:, None])
    return Pass(
        rows=rows,
        counts=counts,
        positions=inside[:, past:] - state.shifts[rows, None],
        mask=(positions >= 0).astype(np.int64),
        store=state.store,
        slots=np.take_along_axis(slots[rows], inside, axis=1),
    )


class _Layer(DynamicLayer):  # type: ignore[misc]  # transformers is untyped
    """One layer in one pass: what the model's attention calls with new keys and values, to get those of all places."""

    def __init__(self, owner: Pass, layer: int) -> None:
        super().__init__()
        self._pass, self._layer = owner, layer
        self._length = owner.past

    def get_seq_length(self) -> int:
        return self._length

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, heads, k, dim) -> (n, heads, p + k, dim)."""
        owner = self._pass
        row, place, slots, _ = owner.indices(keys.device)
        where = (slice(None), 0) if keys.shape[2] == 1 else (row, place)  # all of them: a view, which takes less time
        new = (tensor.transpose(0, 1)[(slice(None), *where)] for tensor in (keys, values))
        owner.store.write(self._layer, slots, *new)
        self._length += keys.shape[-2]
        if owner.past == 0:
            return keys, values
        held_keys, held_values = owner.store.read(self._layer)
        return owner.gathered(held_keys), owner.gathered(held_values)
