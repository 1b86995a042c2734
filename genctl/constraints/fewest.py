"""The fewest tokens from a state of an automaton to a complete text.

    fewest = FewestTokens(automaton, Tokens.of(vocabulary))
    fewest.fits(state, 5)                       # can 5 tokens more make a complete text?
    fewest(automaton.start)                     # of the shortest text, counted in tokens

Most questions are settled by bounds that cost next to nothing. It takes no fewer tokens than the bytes that are missing
over those of the longest token; and no more than those bytes, where each is a token. In between come searches:
*downhill*, over tokens that each bring the end nearer (in bytes), for an upper bound, and *breadth-first*, over the
states that 1, 2, 3 ... tokens lead to, for the number itself.

The breadth-first search asks about at most SEARCH states. A grammar that nests without end may have more of them within
a few tokens; then the downhill number stands, which only a detour over a longer text could beat. What is said of a
state never depends on what was asked before, and from a state that fits some token leads to one that fits with a
token less: a text that is held to a budget can always be finished. Tokens that stand only at the beginning of a text
(`Vocabulary.first`) may be what is asked about, but no way to the end is spelled with them.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import lru_cache
from threading import RLock
from typing import Any

import numpy as np

from genctl.automata.base import DEAD, UNKNOWN, UNREACHABLE, Automaton
from genctl.kernels.automaton import DEPTH
from genctl.kernels.budget import CLOSES, closes, heights, next_states, tokens_to
from genctl.kernels.records import I32, U32, TokenTrie
from genctl.trie import Tokens

SEARCH = 1024  # states that a breadth-first search asks about
FAR = 64  # tokens that are searched for a way to an end where none is known


class FewestTokens:
    """Answers are remembered by state. lock: what guards the building of the automaton."""

    def __init__(self, automaton: Automaton, tokens: Tokens, lock: AbstractContextManager[Any] | None = None) -> None:
        self._automaton, self._tokens, self._lock = automaton, tokens, lock or RLock()
        self._later = tokens.later
        self._longest = max(tokens.depth, 1)
        self._single = _single_bytes(self._later)
        self._path = np.zeros(tokens.depth + 1, np.int32)
        self._reset()

    def _reset(self) -> None:
        self._generation = self._automaton.generation
        self._most = {DEAD: UNREACHABLE}  # upper bounds by state
        self._least = {DEAD: UNREACHABLE}  # lower bounds
        self._bytewise: dict[int, bool] = {}
        self._steepest: dict[int, int] = {}
        self._downhill: dict[int, int] = {}
        self._next: dict[int, tuple[int, ...]] = {}
        self._closes: dict[int, bool] = {}
        self._given_up: set[int] = set()
        self._distance = np.full(16, UNKNOWN, np.int32)

    def _refresh(self) -> None:
        """Forget all where states were forgotten: their numbers may mean others now."""
        if self._generation != self._automaton.generation:
            self._reset()

    def fits(self, state: int, left: int) -> bool:
        """Do `left` tokens suffice to make the text complete?"""
        if self._generation == self._automaton.generation and self._most.get(state, UNREACHABLE) <= left:
            return True
        with self._lock:
            self._refresh()
            if self._bound(state) <= left:
                return True
            if self._least[state] > left:
                return False
            return self._go_steepest(state) <= left or self._go_downhill(state) <= left or self._search(state, left)

    def __call__(self, state: int) -> int:
        """The fewest tokens; UNREACHABLE (2**31 - 1) where the vocabulary cannot spell an end."""
        with self._lock:
            self._refresh()
            if self._bound(state) > self._least[state] and self._go_steepest(state) > self._least[state]:
                self._search(state, min(self._go_downhill(state) - 1, FAR))
            return self._most[state]

    def is_exact(self, state: int) -> bool:
        """After a call: False if the search was given up, so that the number may be too high."""
        return self._most[state] == self._least[state] and state not in self._given_up

    def next_states(self, state: int) -> tuple[int, ...]:
        """All states that one token leads to, wherever it stands."""
        with self._lock:
            self._refresh()
            known = self._next.get(state)
            if known is None:
                known = self._next[state] = self._targets(state, self._later.trie)
            return known

    def tokens_within(self, state: int, left: int, out: U32) -> bool:
        """Set the bits of the tokens after which `left` more suffice in out (ceil(V/32),), zeroed by the caller.

        False, and nothing set, if that is true of every token that the automaton can read.
        """
        with self._lock:
            first = self._later is not self._tokens
            targets = self._targets(state, self._tokens.trie) if first else self.next_states(state)
            fitting = [target for target in targets if self.fits(target, left)]
            if len(fitting) == len(targets):
                return False
            self._mark(state, self._tokens.trie, fitting, out)
        return True

    # -- bounds

    def _bound(self, state: int) -> int:
        """The upper bound that is known; of a new state the cheap bounds are entered first."""
        if state not in self._most:
            distance = self._automaton.distance(state)
            self._least[state] = -(-distance // self._longest)
            self._most[state] = distance if self._is_bytewise(state) else UNREACHABLE
        return self._most[state]

    def _is_bytewise(self, state: int) -> bool:
        """Is a shortest rest known whose bytes are tokens, every one?"""
        if len(self._single) == 256:
            return True
        chain = []
        while state not in self._bytewise:
            chain.append(state)
            if self._automaton.accepts(state):
                self._bytewise[state] = True
            elif (nearer := self._step_nearer(state)) is None:
                self._bytewise[state] = False
            else:
                state = nearer
        self._bytewise.update(dict.fromkeys(chain, self._bytewise[state]))
        return self._bytewise[state]

    def _step_nearer(self, state: int) -> int | None:
        """The state after a token of one byte that brings the end nearer. Bytes that did so before are tried first."""
        distance = self._automaton.distance(state)
        for i, byte in enumerate(self._single):
            target = self._automaton.step(state, byte)
            if self._automaton.distance(target) < distance:
                self._single.insert(0, self._single.pop(i))
                return target
        return None

    # -- searches

    def _go_steepest(self, state: int) -> int:
        """Tokens when each brings the end as near as any can. Enters the upper bound."""
        distance, chain, here = self._automaton.distance, list[int](), state
        while here not in self._steepest:
            nearest = min(self.next_states(here), key=distance, default=DEAD)
            if distance(here) > 0 and distance(nearest) < distance(here):
                chain.append(here)
                here = nearest
            else:
                self._steepest[here] = UNREACHABLE if distance(here) else 0
        count = self._steepest[here]
        for passed in reversed(chain):
            count = self._steepest[passed] = min(count + 1, UNREACHABLE)
        self._most[state] = min(self._most[state], count)
        return self._most[state]

    def _go_downhill(self, state: int) -> int:
        """Fewest tokens when each brings the end nearer: by the distances, without a cycle. Enters the upper bound."""
        distance = self._automaton.distance
        work = [state]
        while work:
            here = work[-1]
            if here not in self._downhill:
                nearer = [t for t in self.next_states(here) if distance(t) < distance(here)] if distance(here) else []
                if open_ := [target for target in nearer if target not in self._downhill]:
                    work += open_
                    continue
                best = min((self._downhill[target] for target in nearer), default=UNREACHABLE)
                self._downhill[here] = min(best + 1, UNREACHABLE) if distance(here) else 0
            work.pop()
        self._most[state] = min(self._most[state], self._downhill[state])
        return self._most[state]

    def _search(self, state: int, left: int) -> bool:
        """Breadth-first, a token a round, from a state with left < its upper bound. Enters the bounds this shows.

        What a number of tokens can reach from a state holds all that one token less can reach from the state after
        the first: where the search is not given up here, it is not given up there.
        """
        front, seen = [state], {state}
        for count in range(1, left + 1):
            if any(map(self._closed_by_one, front)):
                self._most[state] = self._least[state] = count
                return True
            if count == left:
                break
            front = self._grow(front, seen)
            if len(seen) > SEARCH:
                self._given_up.add(state)
            if not front or len(seen) > SEARCH:
                self._least[state] = self._most[state]
                return False
        self._least[state] = left + 1
        return False

    def _grow(self, front: list[int], seen: set[int]) -> list[int]:
        """The states one token behind the front that were not seen, and now are; of too many, only some."""
        new: list[int] = []
        for here in front:
            more = set(self.next_states(here)) - seen
            seen |= more
            new += more
            if len(seen) > SEARCH:
                break
        return new

    # -- walks over the trie

    def _closed_by_one(self, state: int) -> bool:
        """Does some token lead to acceptance?"""
        known = self._closes.get(state)
        if known is None:
            trie, height, node, status = self._later.trie, _heights(self._later), 1, UNKNOWN
            self._path[0] = state
            while status < 0:
                node, status = closes(trie, height, self._automaton.machine, self._distances(), node, self._path)
                if status == UNKNOWN:
                    self._enter_distance(int(self._path[trie.node[node, DEPTH]]))
                elif status < 0:
                    self._automaton.extend(status)
            known = self._closes[state] = status == CLOSES
        return known

    def _targets(self, state: int, trie: TokenTrie) -> tuple[int, ...]:
        """The states that one token of the trie leads to."""
        seen, node, status = np.zeros(0, np.bool_), 1, UNKNOWN
        self._path[0] = state
        while status < 0:
            machine = self._automaton.machine
            seen = np.concatenate([seen, np.zeros(len(machine.accepting) - len(seen), np.bool_)])
            node, status = next_states(trie, machine, node, self._path, seen)
            if status < 0:
                self._automaton.extend(status)
        return tuple(np.flatnonzero(seen).tolist())

    def _mark(self, state: int, trie: TokenTrie, targets: list[int], out: U32) -> None:
        """Set the bits of the tokens of the trie that lead to one of the targets; `_targets` was there before."""
        fits = np.zeros(len(self._automaton.machine.accepting), np.bool_)
        fits[targets] = True
        self._path[0] = state
        tokens_to(trie, self._automaton.machine, fits, self._path, out)

    def _distances(self) -> I32:
        """(S,) distances that are known, with room for every state."""
        more = len(self._automaton.machine.accepting) - len(self._distance)
        if more > 0:
            self._distance = np.concatenate([self._distance, np.full(more, UNKNOWN, np.int32)])
        return self._distance

    def _enter_distance(self, state: int) -> None:
        self._distances()[state] = self._automaton.distance(state)


def _single_bytes(tokens: Tokens) -> list[int]:
    """The bytes that are tokens by themselves."""
    flat = tokens.bytes
    lone = tokens.order[np.diff(flat.offset)[tokens.order] == 1]
    return sorted(set(flat.data[flat.offset[lone]].tolist()))


@lru_cache(maxsize=8)
def _heights(tokens: Tokens) -> I32:
    out = np.zeros(len(tokens.trie.node), np.int32)
    heights(tokens.trie, np.zeros(tokens.depth + 2, np.int32), out)
    return out
