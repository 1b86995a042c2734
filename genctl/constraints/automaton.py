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
from weakref import ref

import numpy as np

from genctl.automata.base import DEAD, Automaton
from genctl.automata.engine import ClosedLoop
from genctl.automata.pushdown import GrammarAutomaton
from genctl.constraints.base import words
from genctl.constraints.fewest import FewestTokens
from genctl.constraints.loops import LoopSummaries, LoopSummary
from genctl.kernels.automaton import BYTE, mark_again, mark_tokens, run_known, run_token
from genctl.kernels.configurations import FULL
from genctl.kernels.loops import mark_leaving, mark_plain, next_loop
from genctl.kernels.records import I64, U32, Bool, TokenBytes
from genctl.kernels.rejection import ALLOWED, check_tokens
from genctl.trie import Tokens
from genctl.vocabulary import Vocabulary

MASK_CACHE_BYTES = 32 * 2**20  # masks that are kept for each vocabulary
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
        self._targets: dict[tuple[int, int], int] = {}
        self._held = set[int]() if self._engine is None else self._engine.held
        self._generation = self._builder.generation

    @property
    def token_bytes(self) -> TokenBytes:
        return self._bytes

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

    def allows_each(self, state: int, tokens: I64, /) -> Bool:
        """(K,) token ids -> (K,) `allows` of each, in one kernel."""
        verdicts = np.zeros(len(tokens), np.int64)
        done = 0
        with self._shared.lock:
            self.make_room()
            while (done := check_tokens(self._builder.machine, self._bytes, state, tokens, verdicts, done)) < len(
                tokens
            ):
                self._builder.extend(int(verdicts[done]))
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
        known = self._targets.get((state, token))
        if known is not None:
            return known
        machine, flat = self._builder.machine, self._bytes
        target: int = run_known(machine.next, machine.classes, flat.data, flat.offset, state, token)
        if target < 0:
            target = self._run(state, token)
        if len(self._targets) >= TARGETS:
            self._targets.clear()
        self._targets[state, token] = target
        return target

    def _run(self, state: int, token: int) -> int:
        with self._shared.lock:
            self.make_room()
            while (target := int(run_token(self._builder.machine, self._bytes, state, token))) < 0:
                self._builder.extend(target)
        return target

    def make_room(self) -> None:
        """Before kernels build states: forget those that nobody holds if there is little room for more."""
        if self._engine is not None:
            self._engine.make_room()
            if self._generation != self._engine.generation:
                self._refresh()

    def _refresh(self) -> None:
        """States were forgotten, here or by another constraint with the same automaton."""
        self._generation = self._builder.generation
        self._targets.clear()
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
            known = self._masks[state] = self._build_mask(state)
            self._shared.keep(self, state, known.nbytes)
        return known

    def forget(self, state: int) -> None:
        """Drop the mask of a state."""
        self._masks.pop(state, None)

    def _build_mask(self, state: int) -> U32:
        shared = self._shared
        out = np.zeros(shared.words, np.uint32)
        if state != DEAD and not self._mark_plain(state, out):
            out = self._loop_mask(state)
        if self.complete(state):
            for token in shared.eos:
                out[token >> 5] |= np.uint32(1 << (token & 31))
        out.flags.writeable = False
        return out

    # -- by a walk over the trie

    def _mark_plain(self, state: int, out: U32) -> bool:
        """False, and nothing marked, if the state has an item in a loop."""
        shared = self._shared
        shared.count[0] = 0
        byte: int = mark_plain(shared.tokens.trie, self._builder.machine, state, 0, out, *shared.scratch, shared.found)
        if byte < 0:
            return False
        if byte < 256:
            self._mark_from(state, byte, out)
        elif shared.count[0]:
            self._mark_missed(out)
        return True

    def _mark_from(self, state: int, byte: int, out: U32) -> None:
        """Mark the tokens that begin with a byte or a larger one."""
        shared = self._shared
        while (byte := mark_tokens(shared.tokens.trie, self._builder.machine, state, byte, out, *shared.scratch)) < 256:
            self._builder.extend(FULL)
        if shared.count[0]:
            self._mark_missed(out)

    def _mark_missed(self, out: U32) -> None:
        """What the kernel could not reach is built here, and walked afterwards."""
        trie, (_, missed, count) = self._shared.tokens.trie, self._shared.scratch
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

    def _loop_mask(self, state: int) -> U32:
        """The mask of a state with an item between the rounds of a loop.

        A token is allowed where any item of a state can read it, so the other items' mask is made by itself.
        """
        assert self._engine is not None
        found = self._shared.found
        item = self._engine.loop_item(state, found)
        while item is not None and (summary := self._shared.summaries.of(item.loop.body)) is None:
            more = next_loop(*self._engine.machine[3:], state, item.number + 1, found)
            item = self._engine.loop_item(state, found) if more else None
        if item is None or summary is None:
            out = np.zeros(self._shared.words, np.uint32)
            self._shared.count[0] = 0
            self._mark_from(state, 0, out)
        elif item.apart:
            out = summary.inside(item.left).copy()
            self._mark_leaving(state, item.loop, summary, out)
        else:
            alone = self._engine.part(state, item.number, alone=True)
            others = self._engine.part(state, item.number, alone=False)
            out = self._mask_of(alone) | self._mask_of(others)
        return out

    def _mark_leaving(self, state: int, loop: ClosedLoop, summary: LoopSummary, out: U32) -> None:
        """Tokens that leave the loop, at once or after some rounds."""
        shared = self._shared
        shared.count[0], done = 0, 0
        exits, spelled = summary.exits(loop.exits)
        about = shared.tokens.trie, self._builder.machine, self._bytes
        while (done := mark_leaving(*about, state, exits, spelled, loop.begins, done, out, *shared.scratch)) < len(
            exits
        ) + 256:
            self._builder.extend(int(shared.scratch[0][0]))
            about = shared.tokens.trie, self._builder.machine, self._bytes
        if shared.count[0]:
            self._mark_missed(out)

    def log_potential(self, state: int, /, *, done: bool) -> float:
        return 0.0


class _Shared:
    """What the constraints of one vocabulary have in common."""

    @staticmethod
    @lru_cache(maxsize=8)
    def of(vocabulary: Vocabulary) -> _Shared:
        return _Shared(vocabulary)

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.tokens = Tokens.of(vocabulary)
        self.summaries = LoopSummaries(self.tokens)
        self.eos = sorted(vocabulary.eos)
        lengths = np.diff(self.tokens.bytes.offset)
        self.silent = frozenset(np.flatnonzero((lengths == 0) | self.tokens.bytes.eos).tolist())
        self.found = np.empty(6, np.int64)
        self.words = words(len(vocabulary))
        self.lock = RLock()
        self.count = np.zeros(1, np.int64)
        path = np.zeros(self.tokens.depth + 1, np.int32)
        self.scratch = path, np.zeros((len(self.tokens.trie.node), 2), np.int32), self.count
        self._kept: deque[tuple[ref[AutomatonConstraint], int, int]] = deque()
        self._kept_bytes = 0

    def keep(self, constraint: AutomatonConstraint, state: int, nbytes: int) -> None:
        """Count a new mask, and drop the oldest ones of all constraints where there are too many."""
        self._kept.append((ref(constraint), state, nbytes))
        self._kept_bytes += nbytes
        while self._kept_bytes > MASK_CACHE_BYTES:
            owner, old, size = self._kept.popleft()
            self._kept_bytes -= size
            constraint_ = owner()
            if constraint_ is not None:
                constraint_.forget(old)
