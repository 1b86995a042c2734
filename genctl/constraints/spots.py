"""Where tokens lead in a text that is cut into words: all tokens at once.

    spots = Spots(cuts, vocabulary.tokens, usable, reachable)
    spot = spots.reach(spots.start, True).target(token)            # the token begins a word; 0: it cannot
    spots.ends(spot)                                               # may the text end here?

A spot is a state of the cuts, or a place inside a character. The tokens are read as strings of classes of characters,
in a tree, so that one walk says where each leads.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from genctl.constraints.base import pack
from genctl.constraints.splits import WordCuts
from genctl.kernels.records import I32, U32, Bool


class _Reach:
    """Where the tokens lead from a spot, if the text is cut there or not.

    ending: the tokens after which the text may end. open: the others, by the spot they lead to.
    """

    def __init__(
        self, size: int, ending: I32, open_: Sequence[tuple[int, I32]], targets: Mapping[int, int] | _Walk
    ) -> None:
        self.ending, self.open, self._targets = ending, open_, targets
        self._size = size

    @cached_property
    def ending_bits(self) -> U32:
        """The same, (ceil(V/32),) packed bits."""
        bits = np.zeros(self._size, np.bool_)
        bits[self.ending] = True
        return pack(bits)

    def target(self, token: int) -> int:
        """The spot after a token, 0 if it cannot follow."""
        return self._targets.get(token, 0)


class _Walk:
    """The targets of a walk over all tokens, made into spots when asked for."""

    def __init__(self, spots: Spots, after: I32, cut: bool) -> None:
        self._spots, self._after, self._cut = spots, after, cut

    def get(self, token: int, default: int) -> int:
        strings = self._spots.strings
        node = int(strings.node[token])
        state = int(self._after[node]) if node >= 0 else 0
        return self._spots.id(state, int(strings.tail[token]), self._cut and node == 0) if state else default


class Spots:
    """Places in a text: a state of the cuts; or inside a character, the states it may lead to by its classes.

    spelled: (0x110000,) the characters whose bytes may come from several tokens. start: before a text. again: behind an
    added token.
    """

    def __init__(self, cuts: WordCuts, tokens: Sequence[bytes], usable: Bool, reachable: Bool, spelled: Bool) -> None:
        self._cuts = cuts
        self._tokens, self._usable, self._reachable = tokens, usable, reachable
        self.strings = _Strings(cuts, tokens, usable, spelled)
        self._spots: list[_Spot] = [_Spot(0, 0, ())]
        self._ids: dict[_Spot, int] = {self._spots[0]: 0}
        self._reaches: dict[tuple[int, bool], _Reach] = {}
        self._inside: dict[tuple[int, int, bool], int] = {}
        self.start = self.id(cuts.start, 0, False)
        self.again = self.id(cuts.again, 0, False)

    def id(self, state: int, tail: int, cut: bool) -> int:
        """The number of a spot: a state and the tail after it, before which the text is cut or not."""
        if tail == 0:
            return self._number(_Spot(state, 0, ()))
        known = self._inside.get((state, tail, cut))
        if known is None:
            leads = tuple(
                (class_, after)
                for class_ in self.strings.classes(tail)
                if (after := self._cuts.step(state, class_, cut))
            )
            known = self._inside[state, tail, cut] = self._number(_Spot(0, tail, leads)) if leads else 0
        return known

    def _number(self, spot: _Spot) -> int:
        known = self._ids.get(spot)
        if known is None:
            known = self._ids[spot] = len(self._spots)
            self._spots.append(spot)
        return known

    def ends(self, spot: int) -> bool:
        """Whether the text may end here."""
        state, tail, _ = self._spots[spot]
        return tail == 0 and self._cuts.ends(state)

    def reach(self, spot: int, cut: bool) -> _Reach:
        """Where the tokens lead. A token that is not the encoding of its bytes leads nowhere unless the text is cut."""
        known = self._reaches.get((spot, cut))
        if known is None:
            state, tail, leads = self._spots[spot]
            if tail == 0:
                known = self._walk(state, cut)
            elif cut:
                known = _Reach(len(self._tokens), np.empty(0, np.int32), (), {})
            else:
                known = self._finish(tail, dict(leads))
            self._reaches[spot, cut] = known
        return known

    def _walk(self, state: int, cut: bool) -> _Reach:
        after = self.strings.walk(state, cut)
        node, tail = self.strings.node, self.strings.tail
        targets = np.where(node >= 0, after[node], 0)
        possible = (targets > 0) & (self._usable if cut else self._reachable & self._usable)
        ending = possible & (tail == 0) & self._cuts.ending[targets]
        rest = np.flatnonzero(possible & ~ending)
        keys = np.stack([targets[rest], tail[rest], (node[rest] == 0) & cut], axis=1)
        kinds, inverse = np.unique(keys, axis=0, return_inverse=True)
        by_kind = np.argsort(inverse.ravel(), kind="stable")
        groups = np.split(rest[by_kind].astype(np.int32), np.cumsum(np.bincount(inverse.ravel()))[:-1])
        spots = [self.id(a, b, bool(c)) for a, b, c in kinds.tolist()]
        open_ = [(spot, group) for spot, group in zip(spots, groups, strict=False) if spot]
        return _Reach(len(self._tokens), np.flatnonzero(ending).astype(np.int32), open_, _Walk(self, after, cut))

    def _finish(self, tail: int, leads: Mapping[int, int]) -> _Reach:
        """From inside a character."""
        ending, open_, targets = [np.empty(0, np.int32)], [], {}
        for string, rest, tokens in self.strings.finishing(tail):
            tokens = tokens[self._reachable[tokens]]
            if len(tokens) == 0:
                continue
            spot = self._read(string, rest, leads)
            targets.update(dict.fromkeys(tokens.tolist(), spot))
            if self.ends(spot):
                ending.append(tokens)
            elif spot:
                open_.append((spot, tokens))
        return _Reach(len(self._tokens), np.concatenate(ending), open_, targets)

    def _read(self, string: bytes, tail: int, leads: Mapping[int, int]) -> int:
        """The spot after characters of these classes and a tail, the first of which leads to given states."""
        if not string:
            possible = self.strings.classes(tail)
            kept = tuple((class_, after) for class_, after in leads.items() if class_ in possible)
            return self._number(_Spot(0, tail, kept)) if kept else 0
        state = leads.get(string[0], 0)
        for class_ in string[1:]:
            state = self._cuts.step(state, class_, False)
        return self.id(state, tail, False) if state else 0


class _Spot(NamedTuple):
    state: int  # of the cuts; 0 inside a character
    tail: int  # the number of the bytes of a character that has begun, 0 if none has
    leads: tuple[tuple[int, int], ...]  # classes that the character may have, and the state after it


class _Strings:
    """The usable tokens as strings of classes of characters, in a tree; and their tails, which begin a character.

    node: (V,) where the string of a token ends; -1 if it begins inside a character, or is no text. 0 is the root.
    tail: (V,) number of the bytes of its unfinished character; 0 if it has none.
    """

    def __init__(self, cuts: WordCuts, tokens: Sequence[bytes], usable: Bool, spelled: Bool) -> None:
        self._cuts, self._tokens, self._spelled = cuts, tokens, spelled
        self._inside = [i for i in np.flatnonzero(usable).tolist() if 0x80 <= tokens[i][0] < 0xC0]
        self._tails = [b""]
        self._tail_ids = {b"": 0}
        self._finishing: dict[int, list[tuple[bytes, int, I32]]] = {}
        self._classes: dict[int, list[int]] = {}
        self.node, self.tail = np.full(len(tokens), -1, np.int32), np.zeros(len(tokens), np.int32)
        children: dict[tuple[int, int], int] = {}
        levels: list[list[tuple[int, int, int]]] = []
        for i in np.flatnonzero(usable).tolist():
            read = self._read(b"", tokens[i])
            if read is not None:
                self.node[i] = _insert(read[0], children, levels)
                self.tail[i] = read[1]
        self._levels = [np.array(level, np.int32).T.copy() for level in levels]
        self._size = len(children) + 1

    def _read(self, begun: bytes, data: bytes) -> tuple[bytes, int] | None:
        """The classes of the characters, and the number of the tail; None if it is no UTF-8.

        begun: the bytes before, of a character that has begun.
        """
        data = begun + data
        try:
            text, size = codecs.utf_8_decode(data, "strict", False)
        except UnicodeDecodeError:
            return None
        if begun and text and not self._spelled[ord(text[0])]:
            return None
        tail = data[size:]
        if tail not in self._tail_ids:
            self._tail_ids[tail] = len(self._tails)
            self._tails.append(tail)
        points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        return self._cuts.classes[points].tobytes(), self._tail_ids[tail]

    def classes(self, tail: int) -> Sequence[int]:
        """The classes of the characters that begin with a tail, and may come from several tokens."""
        known = self._classes.get(tail)
        if known is None:
            first, last = _characters(self._tails[tail])
            found = self._cuts.classes[first : last + 1][self._spelled[first : last + 1]]
            known = self._classes[tail] = np.unique(found).tolist()
        return known

    def walk(self, state: int, cut: bool) -> I32:
        """The state of the cuts at each node of the tree, 0 where none is; cut: before the first character."""
        after = np.zeros(self._size, np.int32)
        after[0] = state
        for depth, (nodes, parents, classes) in enumerate(self._levels):
            after[nodes] = self._cuts.step_each(after[parents], classes, cut and depth == 0)
        return after

    def finishing(self, tail: int) -> list[tuple[bytes, int, I32]]:
        """The tokens that go on with an unfinished character, by the classes of the characters that are then whole."""
        known = self._finishing.get(tail)
        if known is None:
            groups: dict[tuple[bytes, int], list[int]] = {}
            for i in self._inside:
                read = self._read(self._tails[tail], self._tokens[i])
                if read is not None:
                    groups.setdefault(read, []).append(i)
            known = [(string, rest, np.array(group, np.int32)) for (string, rest), group in groups.items()]
            self._finishing[tail] = known
        return known


def _characters(tail: bytes) -> tuple[int, int]:
    """The first and the last character that begins with these bytes."""
    size = 2 + (tail[0] >= 0xE0) + (tail[0] >= 0xF0)
    low, high = (int.from_bytes(tail + fill * (size - len(tail))) for fill in (b"\x80", b"\xbf"))
    bits = 7 - size

    def point(value: int) -> int:
        """Of the bytes of a character, whatever they are."""
        parts = [(value >> 8 * i) & 0x3F for i in range(size - 1)]
        lead = (value >> 8 * (size - 1)) & ((1 << bits) - 1)
        return sum(part << 6 * i for i, part in enumerate([*parts, lead]))

    least = (0, 0x80, 0x800, 0x10000)[size - 1]
    return max(point(low), least), min(point(high), 0x10FFFF)


def _insert(string: bytes, children: dict[tuple[int, int], int], levels: list[list[tuple[int, int, int]]]) -> int:
    """Put a string into the tree -> its node. levels: by depth, a node, its parent and its class."""
    node = 0
    for depth, class_ in enumerate(string):
        child = children.get((node, class_))
        if child is None:
            child = children[node, class_] = len(children) + 1
            if depth == len(levels):
                levels.append([])
            levels[depth].append((child, node, class_))
        node = child
    return node
