"""Token sequences that a tokenizer could have written: the beginnings of encodings.

    constraint = CanonicalConstraint(vocabulary, tokenizer)
    state = constraint.advance(constraint.start(), token)          # 0: no text's encoding begins like this
    constraint.complete(state)                                     # is it the whole encoding of some text?

A sequence is *prefix-canonical* if the encoding of some text begins with it; of texts whose encoding has all their
bytes (a tokenizer may lack a token for some byte). A blank that a tokenizer puts before a text is part of the
sequence: the start is before it. What decides is read from the tokenizer (encoding.py).

- Added tokens are found first (contents.py): other tokens may not spell them. Special tokens are never in a text.
- The text between them may be made NFC (composed.py): then it must be its own NFC.
- It is cut into words (splits.py). Where is not always known yet, so a state keeps each guess that
  some text agrees with. A guess says whether the next token begins a word.
- Inside a word neighbours must be stable (kernels/merges.py). With `ignore_merges` a word that is a token is that
  token, whatever the merges say. With byte fallback the bytes of a character that has a piece come from it alone.

A guess whose word cannot end at once (inside a character, say) is kept only if some next token leads to one that can.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from threading import RLock
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from genctl.constraints.base import pack, unpack
from genctl.constraints.composed import Composed
from genctl.constraints.contents import Contents
from genctl.constraints.encoding import EncodingRules
from genctl.constraints.merges import TokenPairs
from genctl.constraints.splits import Unsupported, WordCuts
from genctl.constraints.spots import Spots
from genctl.errors import VocabularyError
from genctl.kernels.records import I64, U32, Bool
from genctl.vocabulary import Vocabulary

MASKS_BYTES = 32 * 2**20  # of masks by state
TARGETS = 2**18  # transitions that are kept

ANYWHERE, ALONE = 0, -1  # of a word's tokens so far: nothing to heed; a token that must be the whole word

Member: TypeAlias = tuple[int, int]  # spot, and a node of `WholeWords`, ANYWHERE or ALONE


class CanonicalConstraint:
    """Beginnings of encodings, in the tokens of the vocabulary. Threads may share it.

    tokenizer: a fast tokenizer of transformers, or a `tokenizers.Tokenizer`; BPE, byte-level with no normalizer but
        NFC, or of characters as in SentencePiece.

    Raises VocabularyError for a tokenizer that cannot be followed exactly, or that does not belong to the vocabulary.
    """

    def __init__(self, vocabulary: Vocabulary, tokenizer: Any) -> None:
        try:
            rules = EncodingRules.of(tokenizer)
        except Unsupported as reason:
            raise VocabularyError(
                f"which token sequences are encodings cannot be decided for this tokenizer: it has {reason}\n"
                "hint: supported is BPE: byte-level, with no normalizer but NFC, cut by Split, Digits and ByteLevel; "
                "or as in SentencePiece, with a blank as U+2581, cut by Split, Digits, Metaspace or not at all"
            ) from None
        _check(vocabulary, rules)
        size = len(vocabulary)
        self._vocabulary = vocabulary
        self._tokens = vocabulary.tokens
        self._pairs = TokenPairs([rules.pieces.get(i, "") for i in range(size)], rules.merges, rules.byte_pieces)
        self._reachable = self._pairs.reachable
        self._inserted = {
            added.id: added.content
            for added in rules.added
            if not added.special and added.id < size and vocabulary.tokens[added.id] == added.content
        }
        self._text = _Text(rules.contents(), Composed() if rules.composed else None, vocabulary.tokens)
        self._read_first = np.array([self._text.read(_Text.start, token) for token in vocabulary.tokens])
        usable = np.array([i in rules.texts and bool(token) for i, token in enumerate(vocabulary.tokens)])
        usable &= self._read_first > 0
        usable[list(self._inserted)] = False
        if not rules.ignore_merges:
            usable &= self._reachable
        self._usable = usable
        self._words = WholeWords(self._pairs, np.flatnonzero(usable & ~self._reachable).tolist())
        cuts = WordCuts(rules.splits, rules.blank)
        self._spots = Spots(cuts, vocabulary.tokens, usable, self._reachable, rules.spelled)
        self._ends = np.zeros(size, np.bool_)
        self._ends[list(vocabulary.eos)] = True
        self._states: list[_State] = [_State(-1, 0, frozenset())]
        self._ids: dict[_State, int] = {self._states[0]: 0}
        self._lives: dict[tuple[int, int, int, int], bool] = {}
        self._allowed: dict[tuple[int, bool], U32] = {}
        self._targets: dict[tuple[int, int], int] = {}
        self._masks: dict[int, U32] = {}
        self._late: dict[int, tuple[U32, U32]] = {}
        self._insertables: dict[int, U32] = {}
        self._lock = RLock()
        self._start = self._id(_State(-1, self._text.begin, frozenset({(self._spots.start, ANYWHERE)})))

    @staticmethod
    def why_not(tokenizer: Any) -> str | None:
        """What a tokenizer has that cannot be followed exactly; None if it can be."""
        try:
            EncodingRules.of(tokenizer)
        except Unsupported as reason:
            return str(reason)
        return None

    def start(self) -> int:
        """Before a text."""
        return self._start

    def allows(self, state: int, token: int, /) -> bool:
        if self._ends[token]:
            return self.complete(state)
        return self.advance(state, token) != 0

    def allows_each(self, states: I64, tokens: I64, /) -> Bool:
        """(K,) states, (K,) token ids -> (K,) `allows` of each pair."""
        return np.array(list(map(self.allows, states.tolist(), tokens.tolist())), np.bool_)

    def complete(self, state: int, /) -> bool:
        """Whether the tokens are the encoding of a text, which may then end."""
        return any(self._spots.ends(spot) and self._words.may_end(node) for spot, node in self._states[state].members)

    def advance(self, state: int, token: int, /) -> int:
        known = self._targets.get((state, token))
        if known is None:
            with self._lock:
                if len(self._targets) >= TARGETS:
                    self._targets.clear()
                known = self._targets[state, token] = self._id(self._after(state, token))
        return known

    def mask(self, state: int, out: U32, /) -> None:
        out[:] = self.candidates(state)

    def candidates(self, state: int, /) -> U32:
        """The mask itself, (ceil(V/32),), read-only; kept by state."""
        known = self._masks.get(state)
        if known is None:
            with self._lock:
                known = self._build_mask(state)
                known.flags.writeable = False
                if len(self._masks) * known.nbytes >= MASKS_BYTES:
                    self._masks.clear()
                self._masks[state] = known
        return known

    def log_potential(self, state: int, /, *, done: bool) -> float:
        return 0.0

    # -- one token

    def _id(self, state: _State) -> int:
        if not state.members:
            return 0
        known = self._ids.get(state)
        if known is None:
            known = self._ids[state] = len(self._states)
            self._states.append(state)
        return known

    def _after(self, state: int, token: int) -> _State:
        last, begun, members = self._states[state]
        if token in self._inserted and self.complete(state):
            begun = self._text.insert(begun, self._inserted[token])
            return _State(-1, begun, frozenset({(self._spots.again, ANYWHERE)} if begun else ()))
        begun = self._text.read(begun, self._tokens[token])
        found: set[Member] = set()
        if self._usable[token] and begun:
            for spot, node in members:
                found |= self._members_after(last, begun, spot, node, token)
        return _State(token, begun, frozenset(found))

    def _members_after(self, last: int, begun: int, spot: int, node: int, token: int) -> set[Member]:
        found = set()
        if self._words.may_end(node):
            target, after = self._spots.reach(spot, True).target(token), self._words.first(token)
            if target and self._is_live(token, target, begun, after):
                found.add((target, after))
        if node != ALONE and self._reachable[token]:
            target, after = self._spots.reach(spot, False).target(token), self._words.next(node, token)
            if target and self._pairs.stable(last, token) and self._is_live(token, target, begun, after):
                found.add((target, after))
        return found

    def _is_live(self, token: int, spot: int, begun: int, node: int) -> bool:
        """Whether some text goes on from here: it may end here, or after some more tokens."""
        if self._spots.ends(spot) and self._words.may_end(node):
            return True
        key = token, spot, begun, node
        known = self._lives.get(key)
        if known is None:
            known = self._lives[key] = self._search(key)
        return known

    def _search(self, start: tuple[int, int, int, int]) -> bool:
        """Depth first; what leads to no end is remembered."""
        seen, path = {start}, [self._open_after(*start)]
        if self._can_end_after(*start):
            return True
        while path:
            following = next(path[-1], None)
            if following is None:
                path.pop()
            elif following not in seen and self._lives.get(following, True):
                if following in self._lives or self._can_end_after(*following):
                    return True
                seen.add(following)
                path.append(self._open_after(*following))
        self._lives.update(dict.fromkeys(seen, False))
        return False

    def _cuts_after(self, node: int) -> Iterator[bool]:
        """Whether the next token may go on with the word, and may begin one."""
        if node != ALONE:
            yield False
        if self._words.may_end(node):
            yield True

    def _can_end_after(self, token: int, spot: int, begun: int, node: int) -> bool:
        """Whether the text may end after one more token."""
        for cut in self._cuts_after(node):
            ending = self._spots.reach(spot, cut).ending
            if not cut and node == ANYWHERE and begun == _Text.start:
                if self._pairs.any_stable(token, ending):
                    return True
            elif any(
                self._words.may_end(after) for _, after in self._following(token, begun, node, cut, ending.tolist())
            ):
                return True
        return False

    def _open_after(self, token: int, spot: int, begun: int, node: int) -> Iterator[tuple[int, int, int, int]]:
        """One more token, after which the text may not end."""
        for cut in self._cuts_after(node):
            for target, rights in self._spots.reach(spot, cut).open:
                for right, after in self._following(token, begun, node, cut, rights.tolist()):
                    yield right, target, self._text.read(begun, self._tokens[right]), after
        if node != ALONE:
            reach = self._spots.reach(spot, False)
            for right, after in self._following(token, begun, node, False, self._words.following(node)):
                if reach.target(right) and not self._words.may_end(after):
                    yield right, reach.target(right), self._text.read(begun, self._tokens[right]), after

    def _following(
        self, token: int, begun: int, node: int, cut: bool, rights: Sequence[int]
    ) -> Iterator[tuple[int, int]]:
        """Those of the tokens that may follow, and the node after each."""
        for right in rights:
            if self._text.read(begun, self._tokens[right]) and (cut or self._pairs.stable(token, right)):
                yield right, self._words.first(right) if cut else self._words.next(node, right)

    # -- all tokens

    def _build_mask(self, state: int) -> U32:
        last, begun, members = self._states[state]
        out = pack(self._ends & self.complete(state))
        ending = np.zeros_like(out)  # tokens after which the text may end, whatever has begun
        for spot, node in members:
            if self._words.may_end(node):
                out |= self._allowed_at(spot, True)
                ending |= self._spots.reach(spot, True).ending_bits
            on = self._allowed_at(spot, False)
            if node != ALONE and on.any():
                stable = ~self._pairs.unstable_after(last)
                out |= on & stable
                ending |= self._spots.reach(spot, False).ending_bits & stable
        exceptions = {token for _, node in members for token in self._words.following(node)}
        if members and begun != _Text.start:
            late, dead = self._late_after(begun)
            out &= ~dead
            exceptions.update(np.flatnonzero(unpack(late & out & ~ending, len(self._tokens))).tolist())
        for token in exceptions:
            bit = np.uint32(1 << (token & 31))
            if self.allows(state, token):
                out[token >> 5] |= bit
            else:
                out[token >> 5] &= ~bit
        return out | self._insertable(begun) if self.complete(state) else out

    def _insertable(self, begun: int) -> U32:
        """The added tokens that may follow where a word may end."""
        known = self._insertables.get(begun)
        if known is None:
            allowed = np.zeros(len(self._tokens), np.bool_)
            allowed[[i for i, content in self._inserted.items() if self._text.insert(begun, content)]] = True
            known = self._insertables[begun] = pack(allowed)
        return known

    def _late_after(self, begun: int) -> tuple[U32, U32]:
        """The tokens that may be read in another way than at the beginning, and those that must not follow."""
        known = self._late.get(begun)
        if known is None:
            late, dead = np.zeros((2, len(self._tokens)), np.bool_)
            for token in self._text.late_tokens(begun):
                late[token] = True
                dead[token] = self._text.read(begun, self._tokens[token]) == 0
            if len(self._late) * 2 * late.nbytes // 8 >= MASKS_BYTES:
                self._late.clear()
                self._insertables.clear()
            known = self._late[begun] = pack(late), pack(dead)
        return known

    def _allowed_at(self, spot: int, cut: bool) -> U32:
        """The tokens that may follow as far as splits go, if no content has begun and the word needs no heed."""
        known = self._allowed.get((spot, cut))
        if known is None:
            reach = self._spots.reach(spot, cut)
            allowed = np.zeros(len(self._tokens), np.bool_)
            allowed[reach.ending] = True
            for target, tokens in reach.open:
                for token in tokens.tolist():
                    node = self._words.first(token) if cut else ANYWHERE
                    allowed[token] = self._is_live(token, target, int(self._read_first[token]), node)
            known = self._allowed[spot, cut] = pack(allowed)
        return known


class _State(NamedTuple):
    """The last token, what has begun of added tokens, and the guesses."""

    last: int  # -1 if the next token begins a word
    begun: int
    members: frozenset[Member]


class _Text:
    """What must not be completed: added tokens, and characters that NFC would join. Int states, 0 is dead.

    A text is normalized between the added tokens that are found first. start: where nothing has begun. begin: before
    a text.
    """

    start = 1

    def __init__(self, contents: Contents, composed: Composed | None, tokens: Sequence[bytes]) -> None:
        self._contents, self._composed = contents, composed
        self._states = [(0, 0), (Contents.start, Composed.start)]
        self._ids = {pair: i for i, pair in enumerate(self._states)}
        self.begin = self._id(contents.begin, Composed.start)
        self._late = [i for i, token in enumerate(tokens) if composed is not None and composed.may_count(token)]
        self._by_first: dict[int, list[int]] = {}
        for i, token in enumerate(tokens):
            if token:
                self._by_first.setdefault(token[0], []).append(i)

    def _id(self, contents: int, composed: int) -> int:
        pair = contents, composed
        if 0 in pair:
            return 0
        if pair not in self._ids:
            self._ids[pair] = len(self._states)
            self._states.append(pair)
        return self._ids[pair]

    def read(self, state: int, text: bytes) -> int:
        """The state after a token with this text."""
        contents, composed = self._states[state]
        if self._composed is not None:
            composed = self._composed.read(composed, text)
        return self._id(self._contents.read(contents, text), composed)

    def insert(self, state: int, content: bytes) -> int:
        """The state after the added token with this content."""
        contents, composed = self._states[state]
        if self._composed is not None:
            anew = self._contents.is_first(content)
            composed = Composed.start if anew else self._composed.read(composed, content)
        return self._id(self._contents.insert(contents, content), composed)

    def late_tokens(self, state: int) -> Iterator[int]:
        """The tokens that may be read in another way than at the beginning of a text."""
        contents, composed = self._states[state]
        for byte in self._contents.following(contents):
            yield from self._by_first.get(byte, ())
        if composed != Composed.start:
            yield from self._late


class WholeWords:
    """With `ignore_merges`: tokens that the merges do not give. Each is the encoding of the word with its bytes.

    A node says that the tokens of a word so far begin the sequence that the merges would give for such a token.
    """

    def __init__(self, pairs: TokenPairs, tokens: Sequence[int]) -> None:
        self._alone = frozenset(tokens)
        self._next: dict[tuple[int, int], int] = {}
        self._whole: set[int] = set()
        self._following: dict[int, list[int]] = {}
        root = self._count = 1
        for token in tokens:
            node = root
            for part in pairs.encoding(token):
                node = self._grow(node, part)
            if node != root:
                self._whole.add(node)

    def _grow(self, node: int, token: int) -> int:
        if (node, token) not in self._next:
            self._count += 1
            self._next[node, token] = self._count
            self._following.setdefault(node, []).append(token)
        return self._next[node, token]

    def may_end(self, node: int) -> bool:
        """Whether the word may end."""
        return node not in self._whole

    def first(self, token: int) -> int:
        """The node after the first token of a word."""
        return ALONE if token in self._alone else self._next.get((1, token), ANYWHERE)

    def next(self, node: int, token: int) -> int:
        """The node after one more token of a word."""
        return self._next.get((node, token), ANYWHERE)

    def following(self, node: int) -> Sequence[int]:
        """The tokens that lead on from a node."""
        return self._following.get(node, ())


def _check(vocabulary: Vocabulary, rules: EncodingRules) -> None:
    """The tokens must have the bytes that the tokenizer gives them; control tokens have none."""
    for i, piece in rules.pieces.items():
        found = vocabulary.tokens[i] if i < len(vocabulary) else None
        if found is None or found not in (rules.texts.get(i, found), b""):
            raise VocabularyError(
                f"id {i} is {rules.texts.get(i, piece)!r} in the tokenizer, but {found!r} in the vocabulary\n"
                "hint: give the tokenizer that the vocabulary was read from"
            )
