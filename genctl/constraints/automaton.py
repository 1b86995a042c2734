"""An automaton read by tokens: the constraint of every compiled language.

    constraint = AutomatonConstraint(compile_regex("[a-z]+"), vocabulary)
    constraint.mask(constraint.start(), out)

Its states are the automaton's states. Kernels build the automaton as they walk; what only Python can provide they
ask for. Masks are kept by state; inside a loop over characters they are put together from what all loops over these
characters share (loops.py) and the few tokens that leave the loop.
"""

from __future__ import annotations

from collections import deque
from functools import cached_property, lru_cache
from threading import RLock
from typing import NamedTuple
from weakref import WeakValueDictionary, ref

import numpy as np

from genctl.automata.base import DEAD, Automaton
from genctl.automata.pushdown import GrammarAutomaton
from genctl.constraints.base import words
from genctl.constraints.fewest import FewestTokens
from genctl.constraints.loops import LoopSummaries, LoopSummary
from genctl.constraints.staying import Stays
from genctl.kernels.addresses import reading_places, walking_places
from genctl.kernels.automaton import BYTE, mark_again, mark_from, run_known, run_one
from genctl.kernels.configurations import FULL
from genctl.kernels.loops import IN_LOOP, SETTLED, mark_leaving, mark_loop, mark_plain, next_loop
from genctl.kernels.masks import digest, equal
from genctl.kernels.records import I64, U32, Bool, Machine, TokenBytes, TokenTrie
from genctl.kernels.rejection import ALLOWED, check_tokens
from genctl.kernels.staying import clear_tokens
from genctl.trie import Tokens
from genctl.vocabulary import Vocabulary

MASK_CACHE_BYTES = 16 * 2**20  # masks that are kept for each vocabulary
ENTRY_BYTES = 256  # that one more state has a mask which another one has too
TARGETS = 4096  # transitions by tokens that each constraint keeps


class AutomatonConstraint:
    """Texts that the automaton accepts, in the tokens of the vocabulary. Threads may share it.

    States that `start` and `advance` return are held for good; others may be forgotten when the automaton gets large.
    """

    def __init__(self, automaton: Automaton, vocabulary: Vocabulary) -> None:
        self.automaton = automaton
        self._shared = _Shared.of(vocabulary)
        self._bytes = self._shared.tokens.bytes
        self._silent = self._shared.silent
        self._engine = automaton.engine if isinstance(automaton, GrammarAutomaton) else None
        self._builder: Automaton = automaton if self._engine is None else self._engine
        self._masks: dict[int, U32] = {}
        self._left: dict[tuple[int, int], TokenTrie | None] = {}  # by operation of a loop and stack below
        self._targets: dict[int, int] = {}  # by the state times the size of the vocabulary plus the token
        self._size = len(vocabulary)
        self._held = set[int]() if self._engine is None else self._engine.held
        self._generation = self._builder.generation
        self._place()

    @property
    def token_bytes(self) -> TokenBytes:
        return self._bytes

    state_bits = 27  # states need no more: the heap of an engine has at most 2**27 words

    @property
    def tokens(self) -> Tokens:
        return self._shared.tokens

    @cached_property
    def fewest(self) -> FewestTokens:
        """How many tokens a state still needs."""
        return FewestTokens(self.automaton, self._shared.tokens, self._shared.lock)

    def start(self) -> int:
        return self.automaton.start

    def allows(self, state: int, token: int, /) -> bool:
        if token in self._silent:
            return bool(self._bytes.eos[token]) and self.complete(state)
        return self._target(state, token) != DEAD

    def allows_each(self, states: I64, tokens: I64, /) -> Bool:
        """(K,) states, (K,) token ids -> (K,) `allows` of each pair, in one kernel."""
        builder, verdicts, done = self._builder, np.zeros(len(tokens), np.int64), 0
        with self._shared.lock:
            self.make_room()
            while (done := check_tokens(builder.machine, self._bytes, states, tokens, verdicts, done)) < len(tokens):
                builder.extend(int(verdicts[done]))
        allowed: Bool = verdicts == ALLOWED
        return allowed

    def advance(self, state: int, token: int, /) -> int:
        if token in self._silent:
            return DEAD
        target = self._target(state, token)
        self._held.add(target)
        return target

    def _target(self, state: int, token: int) -> int:
        if self._generation != self._builder.generation:
            self._refresh()
        known = self._targets.get(state * self._size + token)
        if known is not None:
            return known
        machine, places = self._placed
        if machine is not self._builder.machine:
            machine, places = self._located()
        target: int = run_known(places, state, token)
        if target < 0:
            target = self._run(state, token)
        if len(self._targets) >= TARGETS:
            self._targets.clear()
        self._targets[state * self._size + token] = target
        return target

    def _located(self) -> tuple[Machine, I64]:
        """(the machine, the places of its arrays and those of the tokens). Who uses the places holds the machine."""
        if self._placed[0] is not self._builder.machine:
            self._place()
        return self._placed

    def _place(self) -> None:
        machine = self._builder.machine
        self._placed = machine, reading_places(machine, self._bytes)

    def _run(self, state: int, token: int) -> int:
        with self._shared.lock:
            self.make_room()
            while True:
                _machine, places = self._located()
                target: int = run_one(places, state, token)
                if target >= 0:
                    return target
                self._builder.extend(target)

    def make_room(self) -> None:
        """Before kernels build states: forget those that nobody holds if there is little room for more."""
        engine = self._engine
        if engine is not None and engine.large:
            engine.make_room()
            if self._generation != engine.generation:
                self._refresh()

    def _refresh(self) -> None:
        """States were forgotten, here or by another constraint with the same automaton."""
        self._generation = self._builder.generation
        self._targets.clear()
        self._left.clear()
        self._masks = {state: mask for state, mask in self._masks.items() if state in self._held}

    def complete(self, state: int, /) -> bool:
        return self.automaton.accepts(state)

    def mask(self, state: int, out: U32, /) -> None:
        out[:] = self._masks[state] if state in self._masks else self.candidates(state)

    def masks(self, states: I64, out: U32, /) -> None:
        """(N,) states -> out (N, ceil(V/32)); kernels work without the interpreter's lock."""
        for row, state in enumerate(states.tolist()):
            out[row] = self.candidates(state)

    def candidates(self, state: int, /) -> U32:
        """The mask itself, (ceil(V/32),), read-only; kept by state."""
        known = self._masks.get(state)
        if known is None:
            with self._shared.lock:
                self.make_room()
                known = self._mask_of(state)
        return known

    def _mask_of(self, state: int) -> U32:
        known = self._masks.get(state)
        if known is None:
            known = self._masks[state] = self._shared.keep(self, state, self._build_mask(state))
        return known

    def forget(self, state: int) -> None:
        """Drop the mask of a state."""
        self._masks.pop(state, None)

    def _build_mask(self, state: int) -> U32:
        out = np.zeros(self._shared.words, np.uint32)
        if state != DEAD:
            self._shared.count[0] = 0
            if not self._mark_plain(state, out):
                self._mark_loop(state, out)
        if self.complete(state):
            out |= self._shared.ends
        out.flags.writeable = False
        return out

    # -- by a walk over the trie

    def _mark_plain(self, state: int, out: U32) -> bool:
        """False, and nothing marked, if the state has an item in a loop."""
        shared = self._shared
        _machine, places = self._located()
        byte: int = mark_plain(shared.walk, places, state, out)
        if byte == SETTLED:
            self._mark_settled(state, out)
        elif 0 <= byte < 256:
            self._builder.extend(FULL)
            self._mark_from(shared.tokens.trie, state, byte, out)
        elif shared.count[0]:
            self._mark_missed(shared.tokens.trie, out)
        return byte != IN_LOOP

    def _mark_settled(self, state: int, out: U32) -> None:
        """The mask of a state behind which many texts are in one state, and stay there by many bytes."""
        shared, (enters, stays) = self._shared, self._shared.settled
        staying, trie, inside = shared.stays.of(stays), shared.tokens.trie, enters & stays
        out[:] = staying.inside
        clear_tokens(trie, stays & ~enters, out)
        self._mark_from(trie, state, 0, out, skipped=inside)
        self._mark_from(staying.others, state, 0, out, skipped=~inside)

    def _mark_from(self, trie: TokenTrie, state: int, byte: int, out: U32, skipped: Bool | None = None) -> None:
        """Mark the tokens of the trie that begin with a byte or a larger one that is not skipped."""
        scratch, plain = self._shared.scratch, tuple(trie)
        skipped = self._shared.nothing if skipped is None else skipped
        while True:
            _machine, places = self._located()
            byte = mark_from(plain, places, state, byte, skipped, out, *scratch)
            if byte == 256:
                break
            self._builder.extend(FULL)
        if scratch[2][0]:
            self._mark_missed(trie, out)

    def _mark_missed(self, trie: TokenTrie, out: U32) -> None:
        """What the kernel could not reach is built here, and walked afterwards."""
        _, missed, count = self._shared.scratch
        while count[0]:
            waiting = missed[: count[0]].copy()
            count[0], done = 0, 0
            bytes_ = trie.node[waiting[:, 0], BYTE]
            columns = self._builder.machine.classes[bytes_]
            lacking = {
                (state, column): byte for state, column, byte in zip(waiting[:, 1], columns, bytes_, strict=True)
            }
            for (state, _), byte in lacking.items():
                self._builder.step(int(state), int(byte))
            while (done := mark_again(trie, self._builder.machine, waiting, done, out, *self._shared.scratch)) < len(
                waiting
            ):
                self._builder.extend(FULL)

    # -- inside a loop

    def _mark_loop(self, state: int, out: U32) -> None:
        """The mask of a state with an item between the rounds of a loop: the tokens that stay in the loop, and others.

        What words that read along forbid is only spelled by tokens that leave the loop.
        """
        trie = self._shared.tokens.trie
        place = self._widest_loop(state)
        if place is None:
            self._mark_from(trie, state, 0, out)
        elif place.leaving is not None:
            self._mark_between_rounds(state, place.summary, place.left, place.leaving, out)
        elif place.left is None or place.left >= place.summary.most_rounds:
            out[:] = place.summary.inside(None)
            self._mark_from(place.summary.outside, state, 0, out)
        else:
            self._mark_from(trie, state, 0, out)

    def _widest_loop(self, state: int) -> _Place | None:
        """Of the loops between whose rounds the state is, the one inside which most tokens stay."""
        assert self._engine is not None
        found, best, more = self._shared.found, None, True
        while more:
            rounds, side, below, operation, number, apart = found.tolist()
            body, most = self._engine.loop(operation)
            summary = None if body is None else self._shared.summaries.of(body)
            free = side == 0 or self._engine.avoids(side)
            if summary is not None and free and (best is None or summary.size > best.summary.size):
                leaving = self._leaving(operation, below, summary) if apart and side == 0 else None
                best = _Place(summary, None if most is None else most - rounds, leaving)
            more = next_loop(*self._engine.machine[3:], state, number + 1, found)
        return best

    def _leaving(self, operation: int, below: int, summary: LoopSummary) -> TokenTrie | None:
        """The tokens that leave a loop after some rounds; None if what follows it can begin like a round."""
        assert self._engine is not None
        if (operation, below) not in self._left:
            behind = self._engine.behind_loop(operation, below)
            closed = not (behind & summary.begins).any()
            self._left[operation, below] = summary.leaving(behind) if closed else None
        return self._left[operation, below]

    def _mark_between_rounds(
        self, state: int, summary: LoopSummary, left: int | None, leaving: TokenTrie, out: U32
    ) -> None:
        shared, builder = self._shared, self._builder
        rest, inside = tuple(leaving), summary.inside(left)
        while True:
            _machine, places = self._located()
            status = mark_loop(shared.walk, rest, places, summary.round, summary.begins, inside, state, out)
            if status >= 0:
                break
            builder.extend(status)
            shared.count[0] = 0
        if status:
            self._mark_missed(shared.tokens.trie, out)
            while status := mark_leaving(leaving, builder.machine, summary.round, state, out, *shared.scratch):
                builder.extend(status)
                shared.count[0] = 0
        if shared.count[0]:
            self._mark_missed(leaving, out)

    def log_potential(self, state: int, /, *, done: bool) -> float:
        return 0.0


class _Place(NamedTuple):
    """Between two rounds of a loop: how many are left (None: any number), and the tokens that leave the loop after some
    rounds, if they do so by bytes that begin no round.
    """

    summary: LoopSummary
    left: int | None
    leaving: TokenTrie | None


class _Shared:
    """What the constraints of one vocabulary have in common."""

    @staticmethod
    @lru_cache(maxsize=8)
    def of(vocabulary: Vocabulary) -> _Shared:
        return _Shared(vocabulary)

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.tokens = Tokens.of(vocabulary)
        self.summaries = LoopSummaries(self.tokens)
        lengths = np.diff(self.tokens.bytes.offset)
        self.silent = frozenset(np.flatnonzero((lengths == 0) | self.tokens.bytes.eos).tolist())
        self.found = np.empty(6, np.int64)
        self.nothing = np.zeros(256, np.bool_)
        self.settled = np.zeros((2, 256), np.bool_)
        self.stays = Stays(self.tokens)
        self.words = words(len(vocabulary))
        self.ends = np.zeros(self.words, np.uint32)
        for token in vocabulary.eos:
            self.ends[token >> 5] |= np.uint32(1 << (token & 31))
        self.lock = RLock()
        self.count = np.zeros(1, np.int64)
        path = np.zeros(self.tokens.depth + 1, np.int32)
        self.scratch = path, np.zeros((len(self.tokens.trie.node), 2), np.int32), self.count
        self.walk = walking_places(self.tokens.trie, *self.scratch, self.nothing, self.found, *self.settled)
        self._kept: deque[tuple[ref[AutomatonConstraint], int]] = deque()
        self._distinct: WeakValueDictionary[int, U32] = WeakValueDictionary()

    def keep(self, constraint: AutomatonConstraint, state: int, mask: U32) -> U32:
        """The mask, or the same one that another state has. Drops the oldest ones of all constraints where there are
        too many.
        """
        number = digest(mask)
        known = self._distinct.get(number)
        if known is None or not equal(known, mask):
            known = self._distinct[number] = mask
        self._kept.append((ref(constraint), state))
        while self._kept and ((owner := self._kept[0][0]()) is None or self._too_many(mask.nbytes)):
            old = self._kept.popleft()[1]
            if owner is not None:
                owner.forget(old)
        return known

    def _too_many(self, nbytes: int) -> bool:
        """Are the masks, and the states that have them, more than are kept?"""
        return ENTRY_BYTES * len(self._kept) + nbytes * len(self._distinct) > MASK_CACHE_BYTES
