"""What the tokens of a vocabulary do inside a loop over characters: shared by all places and all schemas.

    summary = LoopSummaries(tokens).of(body)               # body: the expression that is repeated
    summary.inside(3)                                      # tokens that stay in the loop and begin 3 rounds at most

A string of at most 500 characters thus needs no walk over the vocabulary in each of its 501 states, and two strings
in different places need one walk together; see kernels/loops.py.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import cached_property

import numpy as np

from genctl.automata.base import DEAD, Automaton
from genctl.automata.expressions import Expression, is_plain
from genctl.automata.pushdown import GrammarAutomaton
from genctl.constraints.base import words
from genctl.kernels.automaton import BYTE, DEPTH, END, TOKEN, build_trie
from genctl.kernels.loops import set_bits, survey
from genctl.kernels.records import I32, U8, U32, Bool, TokenTrie
from genctl.trie import Tokens

SUMMARIES = 32  # kept for each vocabulary
MANY_ROUNDS = 255  # more of them in one token are not counted
WIDE = 16  # a loop is worth it where at least a 16th of the tokens can stay inside


class LoopSummary:
    """rounds (V,): how many rounds (below 2**15) a token begins, -1 where it does not stay inside; most_rounds: the
    largest of them; size: tokens that stay inside.

    begins (256,): can a round begin with the byte; round: the bytes of one.
    """

    def __init__(self, tokens: Tokens, automaton: Automaton, rounds: I32, exits: I32) -> None:
        self._tokens, self._rounds, self._exits = tokens, rounds.astype(np.int16), exits
        self._masks: dict[int, U32] = {}
        self._leaving: dict[bytes, TokenTrie] = {}
        self.size = np.count_nonzero(rounds > 0)
        self.most_rounds = int(rounds.max(initial=0))
        self.begins = _first_bytes(automaton)
        self.round = _shortest(automaton)

    def inside(self, rounds: int | None) -> U32:
        """(ceil(V/32),) packed: tokens that stay in the loop and begin at most so many rounds (None: any number)."""
        rounds = self.most_rounds if rounds is None else min(rounds, self.most_rounds)
        mask = self._masks.get(rounds)
        if mask is None:
            mask = self._masks[rounds] = np.zeros(words(len(self._rounds)), np.uint32)
            set_bits(mask, self._rounds, rounds)
        return mask

    @cached_property
    def outside(self) -> TokenTrie:
        """The tokens that do not stay in the loop."""
        order = self._tokens.order
        return self._tokens.part(order[self._rounds[order] <= 0])

    def leaving(self, through: Bool) -> TokenTrie:
        """The tokens that leave the loop after some rounds by one of the bytes (256,), as `mark_leaving` has it."""
        key = through.tobytes()
        trie = self._leaving.get(key)
        if trie is None:
            node = self._tokens.trie.node
            trie = self._leaving[key] = self._ends(self._exits[through[node[self._exits[:, 0], BYTE]]])
        return trie

    def _ends(self, exits: I32) -> TokenTrie:
        """A trie of rests of tokens, from the exits (nodes, rounds done) on; the rounds before as their first byte."""
        (node, same, _), (data, offset, _) = self._tokens.trie, self._tokens.bytes
        text = data.tobytes()
        rests: list[tuple[bytes, int]] = []
        for exit_, rounds in exits.tolist():
            before = int(node[exit_, DEPTH]) - 1
            for token in node[exit_ : node[exit_, END], TOKEN].tolist():
                while token >= 0:
                    rests.append((bytes((rounds,)) + text[offset[token] + before : offset[token + 1]], token))
                    token = int(same[token])
        rests.sort()
        return _trie_of_rests(rests, len(same))


def _trie_of_rests(rests: list[tuple[bytes, int]], size: int) -> TokenTrie:
    data = np.frombuffer(b"".join(text for text, _ in rests) + b"\0", np.uint8)
    offset = np.cumsum([0, *(len(text) for text, _ in rests)])
    node = np.zeros((len(data), 4), np.int32)
    numbered = np.full(len(rests), -1, np.int32)
    node = node[: build_trie(data, offset, np.arange(len(rests)), node, numbered)].copy()
    tokens = np.array([token for _, token in rests], np.int32)
    named = node[:, TOKEN] >= 0
    node[named, TOKEN] = tokens[node[named, TOKEN]]
    same = np.full(size, -1, np.int32)
    same[tokens] = np.where(numbered < 0, -1, tokens[numbered])
    return TokenTrie(node, same, np.full(256, -1, np.int32))


class LoopSummaries:
    """The summaries for one vocabulary, those of the bodies used last."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._known: OrderedDict[int, tuple[Expression, LoopSummary | None]] = OrderedDict()

    def of(self, body: Expression) -> LoopSummary | None:
        """None where few tokens can stay inside, and where rounds cannot be counted: a text of the body can begin
        another one, or is not made of bytes alone.
        """
        known = self._known.get(id(body))
        if known is None:
            known = self._known[id(body)] = body, self._summarise(body)
            if len(self._known) > SUMMARIES:
                self._known.popitem(last=False)
        self._known.move_to_end(id(body))
        return known[1]

    def _summarise(self, body: Expression) -> LoopSummary | None:
        if not is_plain(body) or self._tokens.depth > np.iinfo(np.int16).max:
            return None
        automaton, trie = GrammarAutomaton(body), self._tokens.trie
        rounds = np.full(len(trie.same), -1, np.int32)
        exits = np.zeros((len(trie.node), 2), np.int32)
        path, done = np.zeros((2, self._tokens.depth + 1), np.int32)
        path[0] = automaton.start
        at = np.array([1, 0])
        while lacking := survey(trie, automaton.machine, automaton.start, rounds, exits, path, done, at):
            automaton.extend(lacking)
        exits = exits[: at[1]].copy()
        narrow = WIDE * np.count_nonzero(rounds > 0) < len(rounds)
        if narrow or exits[:, 1].max(initial=0) > MANY_ROUNDS or not _is_prefix_code(automaton):
            return None
        return LoopSummary(self._tokens, automaton, rounds, exits)


def _is_prefix_code(automaton: GrammarAutomaton) -> bool:
    """Does no text go on behind its end, and none come back to its beginning?"""
    alphabet = _a_byte_of_each_class(automaton.machine.classes)
    for state in range(1, len(automaton)):
        targets = {automaton.step(state, byte) for byte in alphabet}
        if automaton.start in targets or (automaton.accepts(state) and targets != {DEAD}):
            return False
    return not automaton.accepts(automaton.start)


def _first_bytes(automaton: Automaton) -> Bool:
    """(256,) can a text begin with the byte."""
    classes = automaton.machine.classes
    alive = [automaton.step(automaton.start, byte) != DEAD for byte in _a_byte_of_each_class(classes)]
    return np.array(alive)[classes]


def _shortest(automaton: Automaton) -> U8:
    """The bytes of a shortest text."""
    state, text = automaton.start, bytearray()
    alphabet = _a_byte_of_each_class(automaton.machine.classes)
    while not automaton.accepts(state):
        byte = min(alphabet, key=lambda byte: automaton.distance(automaton.step(state, byte)))
        state = automaton.step(state, byte)
        text.append(byte)
    return np.frombuffer(bytes(text), np.uint8)


def _a_byte_of_each_class(classes: U8) -> list[int]:
    return list(dict(zip(classes.tolist(), range(256), strict=True)).values())
