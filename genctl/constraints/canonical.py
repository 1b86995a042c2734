"""Token sequences that a tokenizer could have written: the beginnings of encodings.

    constraint = CanonicalConstraint(vocabulary, tokenizer)
    state = constraint.advance(constraint.start(), token)          # 0: no text's encoding begins like this
    constraint.complete(state)                                     # is it the whole encoding of its own text?

A sequence is *prefix-canonical* if the encoding of some text begins with it; of texts whose encoding has all their
bytes (a tokenizer may lack a token for some byte). That is decided by three things.

- Added tokens are found first (contents.py): other tokens may not spell them. Special tokens are never in a text.
- The text between them is cut into words (splits.py). Where is not always known yet, so a state keeps each guess that
  some text agrees with. A guess says whether the next token begins a word.
- Inside a word neighbours must be stable (kernels/merges.py). With `ignore_merges` a word that is a token is that
  token, whatever the merges say.

A guess whose word cannot end at once (inside a character, say) is kept only if some next token leads to one that can.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping, Sequence
from threading import RLock
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from genctl.constraints.base import pack
from genctl.constraints.contents import Contents
from genctl.constraints.merges import TokenPairs
from genctl.constraints.splits import Split, Unsupported, WordCuts, splits
from genctl.errors import VocabularyError
from genctl.kernels.records import I32, I64, U32, Bool
from genctl.vocabulary import BYTE_ALPHABET, Vocabulary, _steps

MASKS_BYTES = 32 * 2**20  # of masks by state
TARGETS = 2**18  # transitions that are kept

ANYWHERE, ALONE = 0, -1  # of a word's tokens so far: nothing to heed; a token that must be the whole word

Member: TypeAlias = tuple[int, int]  # spot, and a node of `WholeWords`, ANYWHERE or ALONE


class CanonicalConstraint:
    """Beginnings of encodings, in the tokens of the vocabulary. Threads may share it.

    tokenizer: a fast tokenizer of transformers, or a `tokenizers.Tokenizer`: byte-level BPE without a normalizer.

    Raises VocabularyError for a tokenizer that cannot be followed exactly, or that does not belong to the vocabulary.
    """

    def __init__(self, vocabulary: Vocabulary, tokenizer: Any) -> None:
        try:
            rules = _Rules.of(tokenizer)
        except Unsupported as reason:
            raise VocabularyError(
                f"which token sequences are encodings cannot be decided for this tokenizer: it has {reason}\n"
                "hint: supported is byte-level BPE without a normalizer, with the pre-tokenizers Split, Digits, ByteLevel"
            ) from None
        _check(vocabulary, rules)
        size = len(vocabulary)
        self._vocabulary = vocabulary
        self._tokens = vocabulary.tokens
        pieces = [rules.pieces.get(i, b"") if vocabulary.tokens[i] else b"" for i in range(size)]
        self._pairs = TokenPairs([rules.pieces.get(i, b"") for i in range(size)], rules.merges)
        self._reachable = self._pairs.reachable
        self._inserted = {i: content for i, content in rules.inserted.items() if i < size and vocabulary.tokens[i]}
        self._contents = Contents(rules.contents)
        self._read_first = np.array([self._contents.read(Contents.start, token) for token in vocabulary.tokens])
        usable = np.array([bool(piece) for piece in pieces]) & (self._read_first > 0)
        usable[list(self._inserted)] = False
        if not rules.ignore_merges:
            usable &= self._reachable
        self._usable = usable
        self._words = WholeWords(self._pairs, np.flatnonzero(usable & ~self._reachable).tolist())
        self._spots = _Spots(WordCuts(rules.splits), vocabulary.tokens, usable, self._reachable)
        self._ends = np.zeros(size, np.bool_)
        self._ends[list(vocabulary.eos)] = True
        self._states: list[_State] = [_State(-1, 0, frozenset())]
        self._ids: dict[_State, int] = {self._states[0]: 0}
        self._lives: dict[tuple[int, int, int, int], bool] = {}
        self._allowed: dict[tuple[int, bool], U32] = {}
        self._targets: dict[tuple[int, int], int] = {}
        self._masks: dict[int, U32] = {}
        self._begun: dict[int, list[int]] = {}
        self._lock = RLock()
        self._start = self._id(_State(-1, Contents.start, frozenset({(self._spots.start, ANYWHERE)})))

    @staticmethod
    def why_not(tokenizer: Any) -> str | None:
        """What a tokenizer has that cannot be followed exactly; None if it can be."""
        try:
            _Rules.of(tokenizer)
        except Unsupported as reason:
            return str(reason)
        return None

    def start(self) -> int:
        """Before a text."""
        return self._start

    def after_special(self) -> int:
        """After a special token, which ends all that came before: a text begins anew."""
        return self._start

    def allows(self, state: int, token: int, /) -> bool:
        if self._ends[token]:
            return self.complete(state)
        return self.advance(state, token) != 0

    def allows_each(self, states: I64, tokens: I64, /) -> Bool:
        """(K,) states, (K,) token ids -> (K,) `allows` of each pair."""
        return np.array(list(map(self.allows, states.tolist(), tokens.tolist())), np.bool_)

    def complete(self, state: int, /) -> bool:
        """Whether the tokens are the encoding of their own text, which may then end."""
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
            begun = self._contents.insert(begun, self._inserted[token])
            return _State(-1, begun, frozenset({(self._spots.start, ANYWHERE)} if begun else ()))
        begun = self._contents.read(begun, self._tokens[token])
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
        seen, waiting = {start}, [start]
        while waiting:
            token, spot, begun, node = waiting.pop()
            for cut in (False, True):
                if self._words.may_end(node) if cut else node != ALONE:
                    reach = self._spots.reach(spot, cut)
                    if self._can_end_after(token, begun, node, cut, reach.ending):
                        return True
                    new = set(self._open_after(token, begun, node, cut, reach.open)) - seen
                    seen |= new
                    waiting += new
        self._lives.update(dict.fromkeys(seen, False))
        return False

    def _can_end_after(self, token: int, begun: int, node: int, cut: bool, rights: I32) -> bool:
        """Whether one of the tokens, after which the text may end, may follow."""
        if not cut and node == ANYWHERE and begun == Contents.start:
            return self._pairs.any_stable(token, rights)
        for right in rights.tolist():
            after = self._words.first(right) if cut else self._words.next(node, right)
            if (
                self._words.may_end(after)
                and self._contents.read(begun, self._tokens[right])
                and (cut or self._pairs.stable(token, right))
            ):
                return True
        return False

    def _open_after(
        self, token: int, begun: int, node: int, cut: bool, groups: Sequence[tuple[int, I32]]
    ) -> Iterator[tuple[int, int, int, int]]:
        for spot, rights in groups:
            for right in rights.tolist():
                read = self._contents.read(begun, self._tokens[right])
                if read and (cut or self._pairs.stable(token, right)):
                    yield right, spot, read, self._words.first(right) if cut else self._words.next(node, right)

    # -- all tokens

    def _build_mask(self, state: int) -> U32:
        last, begun, members = self._states[state]
        out = pack(self._ends) if self.complete(state) else np.zeros_like(pack(self._ends))
        if not members:
            return out
        for spot, node in members:
            if self._words.may_end(node):
                out |= self._allowed_at(spot, True)
            if node != ALONE:
                on = self._allowed_at(spot, False)
                if on.any():
                    out |= on & ~self._pairs.unstable_after(last)
        for token in self._exceptions(begun, members):
            bit = np.uint32(1 << (token & 31))
            if self.allows(state, token):
                out[token >> 5] |= bit
            else:
                out[token >> 5] &= ~bit
        return out

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

    def _exceptions(self, begun: int, members: frozenset[Member]) -> Iterator[int]:
        """The tokens that are allowed or not by more than `_allowed_at`."""
        yield from self._inserted
        if begun != Contents.start:
            if begun not in self._begun:
                following = self._contents.following(begun)
                usable = np.flatnonzero(self._usable).tolist()
                self._begun[begun] = [token for token in usable if self._tokens[token][0] in following]
            yield from self._begun[begun]
        for _, node in members:
            yield from self._words.following(node)


class _State(NamedTuple):
    """The last token, what has begun of added tokens, and the guesses."""

    last: int  # -1 if the next token begins a word
    begun: int
    members: frozenset[Member]


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


# -- places in a text, and where tokens lead from there


class _Reach:
    """Where the tokens lead from a spot, if the text is cut there or not.

    ending: the tokens after which the text may end. open: the others, by the spot they lead to.
    """

    def __init__(self, ending: I32, open_: Sequence[tuple[int, I32]], targets: Mapping[int, int] | _Walk) -> None:
        self.ending, self.open, self._targets = ending, open_, targets

    def target(self, token: int) -> int:
        """The spot after a token, 0 if it cannot follow."""
        return self._targets.get(token, 0)


class _Walk:
    """The targets of a walk over all tokens, made into spots when asked for."""

    def __init__(self, spots: _Spots, after: I32, cut: bool) -> None:
        self._spots, self._after, self._cut = spots, after, cut

    def get(self, token: int, default: int) -> int:
        strings = self._spots.strings
        node = int(strings.node[token])
        state = int(self._after[node]) if node >= 0 else 0
        return self._spots.id(state, int(strings.tail[token]), self._cut and node == 0) if state else default


class _Spots:
    """Places in a text: a state of the cuts, the beginning of a character, and whether the text is cut before it."""

    def __init__(self, cuts: WordCuts, tokens: Sequence[bytes], usable: Bool, reachable: Bool) -> None:
        self._cuts = cuts
        self._tokens, self._usable, self._reachable = tokens, usable, reachable
        self.strings = _Strings(cuts, tokens, usable)
        self._spots: list[tuple[int, int, bool]] = [(0, 0, False)]
        self._ids: dict[tuple[int, int, bool], int] = {}
        self._reaches: dict[tuple[int, bool], _Reach] = {}
        self.start = self.id(cuts.start, 0, False)

    def id(self, state: int, tail: int, cut: bool) -> int:
        key = state, tail, cut and tail != 0
        known = self._ids.get(key)
        if known is None:
            known = self._ids[key] = len(self._spots)
            self._spots.append(key)
        return known

    def ends(self, spot: int) -> bool:
        """Whether the text may end here."""
        state, tail, _ = self._spots[spot]
        return tail == 0 and self._cuts.ends(state)

    def reach(self, spot: int, cut: bool) -> _Reach:
        """Where the tokens lead. A token that is not the encoding of its bytes leads nowhere unless the text is cut."""
        known = self._reaches.get((spot, cut))
        if known is None:
            state, tail, before = self._spots[spot]
            if tail == 0:
                known = self._walk(state, cut)
            elif cut:
                known = _Reach(np.empty(0, np.int32), (), {})
            else:
                known = self._finish(state, tail, before)
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
        open_ = [(self.id(a, b, bool(c)), group) for (a, b, c), group in zip(kinds.tolist(), groups, strict=False)]
        return _Reach(np.flatnonzero(ending).astype(np.int32), open_, _Walk(self, after, cut))

    def _finish(self, state: int, tail: int, cut: bool) -> _Reach:
        """From inside a character."""
        ending, open_, targets = [np.empty(0, np.int32)], [], {}
        for string, rest, tokens in self.strings.finishing(tail):
            after = state
            for i, class_ in enumerate(string):
                after = self._cuts.step(after, class_, cut and i == 0)
            tokens = tokens[self._reachable[tokens]]
            if after and len(tokens):
                spot = self.id(after, rest, cut and not string)
                targets.update(dict.fromkeys(tokens.tolist(), spot))
                if self.ends(spot):
                    ending.append(tokens)
                else:
                    open_.append((spot, tokens))
        return _Reach(np.concatenate(ending), open_, targets)


class _Strings:
    """The usable tokens as strings of classes of characters, in a tree; and their tails, which begin a character.

    node: (V,) where the string of a token ends; -1 if it begins inside a character, or is no text. 0 is the root.
    tail: (V,) number of the bytes of its unfinished character; 0 if it has none.
    """

    def __init__(self, cuts: WordCuts, tokens: Sequence[bytes], usable: Bool) -> None:
        self._cuts, self._tokens = cuts, tokens
        self._inside = [i for i in np.flatnonzero(usable).tolist() if 0x80 <= tokens[i][0] < 0xC0]
        self._tails = [b""]
        self._tail_ids = {b"": 0}
        self._finishing: dict[int, list[tuple[bytes, int, I32]]] = {}
        self.node, self.tail = np.full(len(tokens), -1, np.int32), np.zeros(len(tokens), np.int32)
        children: dict[tuple[int, int], int] = {}
        levels: list[list[tuple[int, int, int]]] = []
        for i in np.flatnonzero(usable).tolist():
            read = self._read(tokens[i])
            if read is not None:
                self.node[i] = _insert(read[0], children, levels)
                self.tail[i] = read[1]
        self._levels = [np.array(level, np.int32).T.copy() for level in levels]
        self._size = len(children) + 1

    def _read(self, data: bytes) -> tuple[bytes, int] | None:
        """The classes of the characters, and the number of the tail; None if it is no UTF-8."""
        try:
            text, size = codecs.utf_8_decode(data, "strict", False)
        except UnicodeDecodeError:
            return None
        tail = data[size:]
        if tail not in self._tail_ids:
            self._tail_ids[tail] = len(self._tails)
            self._tails.append(tail)
        points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        return self._cuts.classes[points].tobytes(), self._tail_ids[tail]

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
                read = self._read(self._tails[tail] + self._tokens[i])
                if read is not None:
                    groups.setdefault(read, []).append(i)
            known = [(string, rest, np.array(group, np.int32)) for (string, rest), group in groups.items()]
            self._finishing[tail] = known
        return known


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


# -- what a tokenizer says of itself


class _Rules(NamedTuple):
    """What decides over encodings."""

    pieces: dict[int, bytes]
    merges: list[tuple[int, int, int]]  # left, right, merged; by rank
    ignore_merges: bool
    splits: list[Split]
    contents: list[bytes]  # of all added tokens
    inserted: dict[int, bytes]  # of those that are not special

    @classmethod
    def of(cls, tokenizer: Any) -> _Rules:
        """Raises Unsupported."""
        backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
        if not hasattr(backend, "to_str"):
            raise Unsupported(f"no JSON of the library `tokenizers`: it is a {type(tokenizer).__qualname__}")
        spec = json.loads(backend.to_str())
        model = spec["model"]
        _check_model(model, [step["type"] for step in _steps(spec["decoder"])])
        if normalizers := [step["type"] for step in _steps(spec["normalizer"])]:
            raise Unsupported(f"the normalizer {', '.join(normalizers)}")
        added = [token for token in spec["added_tokens"] if token["content"]]
        _check_added(added)
        vocabulary: dict[str, int] = model["vocab"]
        alphabet = set(BYTE_ALPHABET)
        return cls(
            {i: bytes(map(BYTE_ALPHABET.__getitem__, s)) for s, i in vocabulary.items() if s and alphabet.issuperset(s)},
            _merges(model["merges"], vocabulary),
            bool(model.get("ignore_merges")),
            splits(_steps(spec["pre_tokenizer"])),
            [token["content"].encode() for token in added],
            {token["id"]: token["content"].encode() for token in added if not token["special"]},
        )


def _check_model(model: Mapping[str, Any], decoders: Sequence[str]) -> None:
    if model["type"] != "BPE":
        raise Unsupported(f"the model {model['type']}, not BPE")
    if decoders != ["ByteLevel"]:
        raise Unsupported(f"the decoder {', '.join(decoders) or 'None'}, not ByteLevel")
    for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if model.get(option):
            raise Unsupported(f"the option {option} = {model[option]!r}")


def _check_added(added: Sequence[Mapping[str, Any]]) -> None:
    """A special token may take in the blanks beside it, since it is never in a text."""
    for token in added:
        for option in ("single_word", *(() if token["special"] else ("lstrip", "rstrip"))):
            if token[option]:
                raise Unsupported(f"the added token {token['content']!r} with {option}")
    first = [token["content"] for token in added if not token["normalized"]]
    second = [token["content"] for token in added if token["normalized"]]
    for one in first:
        for other in second:
            if _overlap(one, other):
                raise Unsupported(f"the added tokens {one!r} and {other!r}, which overlap and are not found together")


def _overlap(one: str, other: str) -> bool:
    """Whether two texts can share a character in a third."""
    sizes = range(1, min(len(one), len(other)) + 1)
    ends = (one.endswith(other[:size]) or other.endswith(one[:size]) for size in sizes)
    return one in other or other in one or any(ends)


def _merges(listed: Sequence[Any], vocabulary: Mapping[str, int]) -> list[tuple[int, int, int]]:
    """Of a pair that is listed twice the last counts."""
    ranks: dict[tuple[str, str], int] = {}
    for rank, merge in enumerate(listed):
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        ranks[left, right] = rank
    pairs = sorted(ranks, key=ranks.__getitem__)
    return [(vocabulary[left], vocabulary[right], vocabulary[left + right]) for left, right in pairs]


def _check(vocabulary: Vocabulary, rules: _Rules) -> None:
    """The tokens must have the bytes that the tokenizer gives them; control tokens have none."""
    for i, piece in rules.pieces.items():
        found = vocabulary.tokens[i] if i < len(vocabulary) else None
        if found not in (piece, b""):
            raise VocabularyError(
                f"id {i} is {piece!r} in the tokenizer, but {found!r} in the vocabulary\n"
                "hint: give the tokenizer that the vocabulary was read from"
            )
