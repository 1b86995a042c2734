"""What the tokens of a vocabulary do inside a loop over characters: shared by all places and all schemas.

    summary = LoopSummaries(tokens).of(body)               # body: the expression that is repeated
    summary.inside(3)                                      # tokens that stay in the loop and begin 3 rounds at most

A string of at most 500 characters thus needs no walk over the vocabulary in each of its 501 states, and two strings
in different places need one walk together; see kernels/loops.py.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from genctl.automata.base import DEAD
from genctl.automata.expressions import Expression
from genctl.automata.pushdown import GrammarAutomaton
from genctl.constraints.base import words
from genctl.kernels.automaton import BYTE, TOKEN
from genctl.kernels.loops import set_bits, survey
from genctl.kernels.records import I32, U32
from genctl.trie import Tokens

SUMMARIES = 32  # kept for each vocabulary


class LoopSummary:
    """members: tokens inside the loop, those that begin fewer rounds first; by_rounds[k]: how many begin at most k.

    exits: trie nodes behind the first byte that no round can begin with; exit_bytes: those bytes; exit_tokens: a token
    below each of the nodes.
    """

    def __init__(self, tokens: Tokens, rounds: I32, exits: I32) -> None:
        inside = np.flatnonzero(rounds > 0)
        order = inside[np.argsort(rounds[inside], kind="stable")]
        self._size = len(rounds)
        self._members = order.astype(np.int32)
        self._by_rounds = np.searchsorted(rounds[order], np.arange(1, int(rounds.max(initial=0)) + 2))
        self._masks: dict[int, U32] = {}
        node = tokens.trie.node
        self._exits, self._exit_bytes = exits, node[exits, BYTE]
        self._exit_tokens = np.array([_token_below(node, int(exit_)) for exit_ in exits], np.int32)
        self._by_bytes: dict[frozenset[int], tuple[I32, I32]] = {}

    def inside(self, rounds: int | None) -> U32:
        """(ceil(V/32),) packed: tokens that stay in the loop and begin at most so many rounds (None: any number)."""
        most = len(self._by_rounds) - 1
        rounds = most if rounds is None else min(rounds, most)
        mask = self._masks.get(rounds)
        if mask is None:
            mask = self._masks[rounds] = np.zeros(words(self._size), np.uint32)
            set_bits(mask, self._members[: self._by_rounds[rounds]])
        return mask

    def exits(self, through: frozenset[int]) -> tuple[I32, I32]:
        """(nodes, a token below each) of the exits by these bytes."""
        known = self._by_bytes.get(through)
        if known is None:
            chosen = np.isin(self._exit_bytes, list(through))
            known = self._by_bytes[through] = self._exits[chosen], self._exit_tokens[chosen]
        return known


def _token_below(node: I32, start: int) -> int:
    """A token at a trie node or below it."""
    while node[start, TOKEN] < 0:
        start += 1
    return int(node[start, TOKEN])


class LoopSummaries:
    """The summaries for one vocabulary, those of the bodies used last."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._known: OrderedDict[int, tuple[Expression, LoopSummary | None]] = OrderedDict()

    def of(self, body: Expression) -> LoopSummary | None:
        """None where a text of the body can begin another one, so that rounds cannot be counted."""
        known = self._known.get(id(body))
        if known is None:
            known = self._known[id(body)] = body, self._summarise(body)
            if len(self._known) > SUMMARIES:
                self._known.popitem(last=False)
        self._known.move_to_end(id(body))
        return known[1]

    def _summarise(self, body: Expression) -> LoopSummary | None:
        automaton, trie = GrammarAutomaton(body), self._tokens.trie
        rounds = np.full(len(trie.same), -1, np.int32)
        exits = np.zeros(len(trie.node), np.int32)
        path, done = np.zeros((2, self._tokens.depth + 1), np.int32)
        path[0] = automaton.start
        at = np.array([1, 0])
        while lacking := survey(trie, automaton.machine, automaton.start, rounds, exits, path, done, at):
            automaton.extend(lacking)
        if not _is_prefix_code(automaton):
            return None
        return LoopSummary(self._tokens, rounds, exits[: at[1]].copy())


def _is_prefix_code(automaton: GrammarAutomaton) -> bool:
    """Does no text go on behind its end, and none come back to its beginning?"""
    for state in range(1, len(automaton)):
        targets = {automaton.step(state, byte) for byte in range(256)}
        if automaton.start in targets or (automaton.accepts(state) and targets != {DEAD}):
            return False
    return not automaton.accepts(automaton.start)
