"""A language model over tokens, seen as one over bytes: exact next-byte probabilities behind any bytes.

    view = ByteModel(model)
    logits, state = view.prefill([view.encode(b"The capital of France is Par")])      # (1, 257) log-probabilities
    logits, state = view.extend(state, np.array([ord("i")]))

A token sequence covers a text x if its last token is the first to reach or pass the end of x. Covers exclude one
another, so with p the probability of a token sequence behind the prompt's fixed tokens

    P(x)     = sum of p(t) over the covers t of x
    P(b | x) = P(xb) / sum over all outcomes,         P(end | x) = sum of p(t) P(end of text | t) over t that spell x

The outcomes are the 256 bytes and the end; tokens that add no bytes and do not end the text are none. With a canonical
constraint only the covers that it allows count: the law is then that of the next byte given that the tokens up to and
including the one that has it are canonical.

What is kept of x are the nodes: token sequences that spell a beginning of x and whose rest is still the beginning of a
token. One row of the token model gives the next bytes of a node until its rest is none any more. A node that only just
came up is pending: its weight is known, its row is not. With eps > 0 it stays so while all pending nodes of a text
together have at most the share eps of its mass, which is then a bound of the total variation of the law.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Generic, NamedTuple, TypeAlias, TypeVar

import numpy as np

from genctl.constraints.base import Constraint, unpack, words
from genctl.errors import ArgumentError
from genctl.kernels.automaton import END
from genctl.kernels.cover import child, next_masses
from genctl.kernels.records import F32, F64, I64
from genctl.models.base import LanguageModel, Prompt, Tokens, host_logits
from genctl.models.covers import NODES, Covers, Plan
from genctl.models.sets import SetPrompt, no_sets
from genctl.vocabulary import Vocabulary

M = TypeVar("M")

STOP = 256  # the end of text, behind the 256 bytes
FIXED = 257  # token t of the fixed tokens of a prompt is FIXED + t
VOCABULARY = Vocabulary((*(bytes([b]) for b in range(256)), b""), frozenset({STOP}))

SLACK = 0.5  # of eps: what a call leaves pending at most, so that the next bytes can do without one
FEW = 256  # of a prompt: all are asked about at once even where eps would leave most of them out
ROWS = 4  # that a call may as well have: it takes on a CPU what two or three do
FAR = 8  # bytes that guesses look ahead
SMALLEST = 1e-300  # share of a text's mass that is one


@dataclass(frozen=True, eq=False)
class _Home:
    """A token sequence that the model has read. canonical: the constraint's state behind it."""

    canonical: int


@dataclass(frozen=True, eq=False)
class _Pending:
    """A node whose row is not known: the token behind a home, None for the fixed tokens of a prompt."""

    home: _Home | None
    token: int
    start: int  # bytes of the text that it spells
    canonical: int
    log_weight: float


@dataclass(frozen=True, eq=False)
class _Node:
    """A node whose row is known. at: where its rest is in the trie."""

    home: _Home
    log_weight: float
    at: int
    probabilities: F64  # of the tokens strictly below `at`, in byte order
    shares: F64  # (257,) of the outcomes, summing to 1
    log_mass: float  # log of the node's share of P(x), nats


@dataclass(frozen=True, eq=False)
class _Row:
    """A text and its nodes."""

    text: bytes
    nodes: tuple[_Node, ...]
    pending: tuple[_Pending, ...]

    @cached_property
    def known(self) -> float:
        """log of the mass of the nodes whose rows are known, nats."""
        return _log_sum([node.log_mass for node in self.nodes])

    @cached_property
    def waiting(self) -> float:
        """log of the weight of the pending nodes, nats."""
        return _log_sum([node.log_weight for node in self.pending])

    @property
    def bound(self) -> float:
        """Of the total variation: the share of the pending nodes, were all their weight to go on like the text."""
        if not self.pending:
            return 0.0
        return math.exp(self.waiting - float(np.logaddexp(self.known, self.waiting)))

    @cached_property
    def law(self) -> F64:
        """(257,) log-probabilities, nats; -inf everywhere if nothing covers the text."""
        total = np.zeros(len(VOCABULARY))
        for node in self.nodes:
            total += math.exp(node.log_mass - self.known) * node.shares
        with np.errstate(divide="ignore"):
            law: F64 = np.log(total / (total.sum() or 1.0))
        return law


class _Cache(NamedTuple, Generic[M]):
    """What the token model has read, and the row of its state that each home is."""

    state: M
    rows: dict[_Home, int]


class _Fetched(NamedTuple):
    home: _Home
    logits: F32  # (V,)


_Known: TypeAlias = dict[tuple[_Home | None, int], _Fetched]  # (home, token) -> the row behind it


@dataclass(frozen=True, eq=False)
class ByteState(Generic[M]):
    """N texts; rows of equal origin share their nodes, and all share the token model's state.

    ahead: what the model was asked about before it was due.
    """

    rows: tuple[_Row, ...]
    cache: _Cache[M]
    ahead: _Known


class ByteModel(Generic[M]):
    """The byte view of a model, a `LanguageModel` over 256 bytes and the end of text.

    canonical: a constraint over the tokens that allows exactly the beginnings of what the tokenizer makes of texts;
        None counts all token sequences. Their number grows exponentially with the text where eps is 0.
    eps: the total variation that a law may be off; `bounds` tells how much it is at most.

    Raises ArgumentError for an eps outside [0, 1).
    """

    vocabulary = VOCABULARY

    def __init__(self, model: LanguageModel[M], canonical: Constraint | None = None, *, eps: float = 0.0) -> None:
        if not 0 <= eps < 1:
            raise ArgumentError(f"eps is {eps}, expected a total variation of at least 0 and below 1")
        self.model, self.eps = model, eps
        self._canonical = canonical
        self._covers = Covers(model.vocabulary, canonical)
        self._order, self._trie, self._rank = self._covers.order, self._covers.trie, self._covers.rank
        self._place = np.zeros(len(model.vocabulary), np.int64)
        self._place[self._order] = np.arange(len(self._order))
        self._eos = np.array(sorted(model.vocabulary.eos))
        self._opening = _opening(model)
        self._lead = _lead(model)
        self._lead_is_text = bool(self._lead) and _lead_is_text(model, self._lead)

    # -- LanguageModel

    def encode(self, prompt: Prompt, /) -> list[int]:
        """The fixed tokens t of the prompt as 257 + t, and the bytes behind them, which any tokens may spell.

        Messages are fixed as the chat template has them. A text is bytes behind the special tokens that open a text;
        bytes need not be whole characters.
        """
        if isinstance(prompt, SetPrompt):
            raise no_sets(self)
        if not isinstance(prompt, str | bytes):
            return [FIXED + token for token in self.model.encode(prompt)]
        data = prompt.encode() if isinstance(prompt, str) else prompt
        begun = not data or (self._lead_is_text and data.startswith(self._lead))
        return [FIXED + token for token in self._opening] + list(data if begun else self._lead + data)

    def prefill(self, prompts: Sequence[Sequence[int]], /) -> tuple[F32, ByteState[M]]:
        """N prompts as `encode` gives them -> (N, 257) log-probabilities, nats, and the state.

        Raises ArgumentError for a text that no token sequence covers, or too many for the model to be asked about.
        """
        split = [_split(prompt) for prompt in prompts]
        state = self._read(split)
        for index, row in enumerate(state.rows):
            if not row.nodes:
                raise ArgumentError(self._uncovered(index, *split[index]))
        return self._answer(state)

    def extend(self, state: ByteState[M], tokens: Tokens, /) -> tuple[F32, ByteState[M]]:
        """(N,) bytes, or N rows of bytes -> (N, 257) log-probabilities, nats, and the new state.

        A row that nothing covers any more has -inf everywhere.
        """
        moved: dict[tuple[_Row, bytes], _Row] = {}
        rows = []
        for row, more in zip(state.rows, map(_text, tokens), strict=True):
            if (row, more) not in moved:
                moved[row, more] = self._pushed(row, more)
            rows.append(moved[row, more])
        return self._answer(self._settled(rows, state.cache, state.ahead))

    def select(self, state: ByteState[M], rows: I64, /) -> ByteState[M]:
        return replace(state, rows=tuple(state.rows[row] for row in rows.tolist()))

    def join(self, states: Sequence[ByteState[M]], /) -> ByteState[M]:
        cache, ahead = states[0].cache, states[0].ahead
        for other in states[1:]:
            cache, ahead = self._joined(cache, other.cache), ahead | other.ahead
        return ByteState(tuple(row for state in states for row in state.rows), cache, ahead)

    # -- what a byte view has besides

    def logprobs(self, state: ByteState[M]) -> F64:
        """(N, 257) log-probabilities, nats, which prefill and extend give in single precision."""
        return np.array([row.law for row in state.rows]).reshape(-1, len(VOCABULARY))

    def bounds(self, state: ByteState[M]) -> F64:
        """(N,) what the total variation between each row's law and the exact one is at most."""
        return np.array([row.bound for row in state.rows])

    def logprob(self, text: bytes, given: bytes = b"") -> float:
        """Log-probability (nats) of the bytes behind the given ones: the sum of the steps; -inf if they are impossible.

        The model is asked once about all token sequences, where there are not too many.
        """
        fixed, read = _split(self.encode(given))
        whole = read + text
        if not read:  # what comes before a text comes before this one
            fixed, whole = _split(self.encode(text))
            read = whole[: len(whole) - len(text)]
        return sum(self._steps(fixed, read, whole[len(read) :]))

    # -- reading

    def _read(self, prompts: Sequence[tuple[list[int], bytes]]) -> ByteState[M]:
        plans = [self._plan(text, trimmed=True) for _, text in prompts]
        begun, cache, known = self._planned(prompts, plans)
        rows = []
        for row, (_, text), plan in zip(begun, prompts, plans, strict=True):
            row = replace(row, text=text)
            while due := [node for node in row.pending if (node.home, node.token) in known]:
                row = self._opened(row, frozenset(due), known)
            rows.append(replace(row, pending=()) if plan.whole else row)
        return self._settled(rows, cache, {})

    def _steps(self, fixed: list[int], read: bytes, text: bytes) -> Iterator[float]:
        """The log-probability of each byte of the text behind what was read."""
        rows, cache, known = self._planned([(fixed, b"")], [self._plan(read + text, trimmed=False)])
        state = self._settled([self._pushed(rows[0], read)], cache, known, planned=True)
        for byte in text:
            yield float(state.rows[0].law[byte])
            state = self._settled([self._pushed(state.rows[0], bytes([byte]))], state.cache, known, planned=True)

    def _planned(
        self, prompts: Sequence[tuple[list[int], bytes]], plans: Sequence[Plan]
    ) -> tuple[list[_Row], _Cache[M], _Known]:
        """Ask the model about all planned token sequences at once -> a row each with its first node pending."""
        logits, state = self.model.prefill(
            [[*fixed, *tokens] for (fixed, _), plan in zip(prompts, plans, strict=True) for tokens in plan.sequences()]
        )
        lines = iter(host_logits(logits))
        known: _Known = {}
        rows: list[_Row] = []
        places: dict[_Home, int] = {}
        for index, plan in enumerate(plans):
            homes = [_Home(branch.canonical) for branch in plan.branches]
            places |= {home: len(places) + place for place, home in enumerate(homes)}
            for branch, home in zip(plan.branches, homes, strict=True):
                key = (None, index) if branch.parent < 0 else (homes[branch.parent], branch.token)
                known[key] = _Fetched(home, next(lines))
            first = plan.branches[0]
            rows.append(_Row(b"", (), (_Pending(None, index, first.start, first.canonical, 0.0),)))
        return rows, _Cache(state, places), known

    def _plan(self, text: bytes, *, trimmed: bool) -> Plan:
        """See `Covers.plan`. A text with too many token sequences is begun with none but the fixed tokens."""
        plan = self._covers.plan(text, trimmed=trimmed)
        if plan is None and self.eps == 0:
            raise ArgumentError(_too_many(len(text)))
        few = plan is not None and len(plan.branches) <= (FEW if self.eps else NODES)
        return plan if plan and few else Plan([], [self._covers.root], whole=False)

    def _uncovered(self, index: int, fixed: list[int], text: bytes) -> str:
        """Which byte it is that nothing can cover."""

        def dead(length: int) -> bool:
            return not self._read([(fixed, text[:length])]).rows[0].nodes

        offset = bisect_left(range(1, len(text)), True, key=dead)
        return (
            f"prompt {index} is impossible from byte {offset} on, {text[offset : offset + 1]!r}: "
            f"no token sequence of the model covers {text[max(offset - 10, 0) : offset + 1]!r}"
        )

    # -- moving

    def _pushed(self, row: _Row, more: bytes) -> _Row:
        """The text goes on, and nobody asks the model yet."""
        for byte in more:
            text = row.text + bytes([byte])
            nodes: list[_Node] = []
            pending = list(row.pending)
            for node in row.nodes:
                at = child(self._trie, node.at, byte)
                if at >= 0:
                    first = int(self._rank[node.at + 1])
                    pending += self._ending(node.home, node.log_weight, at, node.probabilities, first, len(text))
                    nodes += self._narrowed(node.home, node.log_weight, at, node.probabilities, first, 0.0)
            row = _Row(text, tuple(nodes), tuple(pending))
        return row

    def _ending(
        self, home: _Home, log_weight: float, at: int, probabilities: F64, first: int, start: int
    ) -> Iterator[_Pending]:
        """The children that a trie node's tokens are. probabilities: in byte order, of the tokens from the first on."""
        for place in range(int(self._rank[at]), int(self._rank[at + 1])):
            probability = float(probabilities[place - first])
            if probability > 0:
                token = int(self._order[place])
                after = self._covers.advance(home.canonical, token)
                yield _Pending(home, token, start, after, log_weight + math.log(probability))

    def _narrowed(
        self, home: _Home, log_weight: float, at: int, probabilities: F64, first: int, end: float
    ) -> Iterator[_Node]:
        """The node at a trie node, if there is mass below. end: the probability of the end of text."""
        behind = int(self._trie[at, END])
        inside = probabilities[self._rank[at + 1] - first : self._rank[behind] - first]
        if len(inside) < len(probabilities):
            inside = inside.copy()  # so that the rest of the row is freed
        shares = np.zeros(len(VOCABULARY))
        next_masses(self._trie, self._rank, at, inside, shares)
        shares[STOP] = end
        mass = float(shares.sum())
        if mass > 0:
            yield _Node(home, log_weight, at, inside, shares / mass, log_weight + math.log(mass))

    def _settled(self, rows: Sequence[_Row], cache: _Cache[M], known: _Known, *, planned: bool = False) -> ByteState[M]:
        """Ask the model about pending nodes until no row lacks more than eps; then let go what nobody needs.

        known: what it has been asked before. planned: all of that will be needed.
        """
        different, given = {row: row for row in rows}, known
        while wanted := {row: due for row, last in different.items() if (due := self._due(last, known))}:
            missing = {node: None for due in wanted.values() for node in due if (node.home, node.token) not in known}
            if missing:
                guesses = self._guessed([different[row] for row in wanted], known, ROWS - len(missing))
                cache, found = self._fetched([*missing, *guesses], cache)
                known = known | found
            for row, due in wanted.items():
                different[row] = self._opened(different[row], frozenset(due), known)
        last = tuple(different[row] for row in rows)
        ahead = given if planned else self._useful(known, different.values())
        return ByteState(last, self._needed(different.values(), ahead, cache), ahead)

    def _guessed(self, rows: Iterable[_Row], known: _Known, room: int) -> list[_Pending]:
        """At most `room` nodes that will be pending if texts go on as those that are known have it likeliest."""
        guesses: dict[tuple[_Home | None, int], _Pending] = {}
        for row in rows:
            for _ in range(FAR):
                if len(guesses) >= room or not row.nodes or (byte := int(row.law.argmax())) == STOP:
                    break
                longer = self._pushed(row, bytes([byte]))
                least = float(np.logaddexp(longer.known, longer.waiting)) + math.log(SLACK * self.eps or SMALLEST)
                for node in longer.pending[len(row.pending) :]:
                    if node.log_weight > least and (node.home, node.token) not in known:
                        guesses[node.home, node.token] = node
                row = longer
        return list(guesses.values())[: max(room, 0)]

    def _useful(self, known: _Known, rows: Iterable[_Row]) -> _Known:
        """What of it nodes may come to: tokens below them in the trie."""
        places: dict[_Home, list[int]] = {}
        for row in rows:
            for node in row.nodes:
                places.setdefault(node.home, []).append(node.at)
        return {
            (home, token): fetched
            for (home, token), fetched in known.items()
            if home is not None and any(self._is_below(token, at) for at in places.get(home, ()))
        }

    def _is_below(self, token: int, at: int) -> bool:
        return bool(self._rank[at + 1] <= self._place[token] < self._rank[self._trie[at, END]])

    def _due(self, row: _Row, known: _Known) -> list[_Pending]:
        """The pending nodes that are known by now; if there are none, the heaviest, until the others may wait."""
        free = [node for node in row.pending if (node.home, node.token) in known]
        if free or row.bound <= self.eps:
            return free
        top = float(np.logaddexp(row.known, row.waiting))
        heaviest = sorted(row.pending, key=lambda node: -node.log_weight)
        weights = np.exp([node.log_weight - top for node in heaviest])
        behind = np.cumsum(weights[::-1])[::-1]
        return heaviest[: max(1, int((behind > SLACK * self.eps).sum()))]

    def _fetched(self, nodes: Sequence[_Pending], cache: _Cache[M]) -> tuple[_Cache[M], _Known]:
        """One call of the token model for all."""
        if len(nodes) > NODES:
            raise ArgumentError(_too_many(max(node.start for node in nodes)))
        parents = np.array([cache.rows[node.home] for node in nodes if node.home], np.int64)
        chosen = self.model.select(cache.state, parents)
        logits, state = self.model.extend(chosen, np.array([node.token for node in nodes], np.int64))
        homes = [_Home(node.canonical) for node in nodes]
        known: _Known = {
            (node.home, node.token): _Fetched(home, line)
            for node, home, line in zip(nodes, homes, host_logits(logits), strict=True)
        }
        return self._joined(cache, _Cache(state, {home: row for row, home in enumerate(homes)})), known

    def _opened(self, row: _Row, due: frozenset[_Pending], known: _Known) -> _Row:
        """The row with nodes whose logits have come: they read the bytes that they missed."""
        nodes, pending = list(row.nodes), [node for node in row.pending if node not in due]
        for node in due:
            home, logits = known[node.home, node.token]
            probabilities, end = self._probabilities(home, logits)
            at = 0
            for offset in range(node.start, len(row.text)):
                at = child(self._trie, at, row.text[offset])
                if at < 0:
                    break
                pending += self._ending(home, node.log_weight, at, probabilities, 0, offset + 1)
            else:
                nodes += self._narrowed(home, node.log_weight, at, probabilities, 0, 0.0 if at else end)
        return _Row(row.text, tuple(nodes), tuple(pending))

    def _probabilities(self, home: _Home, logits: F32) -> tuple[F64, float]:
        """Of the tokens that count, in byte order; and of the end of text.

        A text ends where the canonical constraint says so, by any end that the model has.
        """
        weights = np.exp(logits.astype(np.float64) - float(logits.max()))
        weights /= weights.sum()
        end = float(weights[self._eos].sum())
        if self._canonical:
            end *= self._canonical.complete(home.canonical)
            packed = np.zeros(words(len(weights)), np.uint32)
            self._canonical.mask(home.canonical, packed)
            weights *= unpack(packed, len(weights))
        return weights[self._order], end

    def _joined(self, cache: _Cache[M], more: _Cache[M]) -> _Cache[M]:
        shift = 1 + max(cache.rows.values(), default=-1)
        rows = cache.rows | {home: shift + row for home, row in more.rows.items()}
        return _Cache(self.model.join([cache.state, more.state]), rows)

    def _needed(self, rows: Iterable[_Row], ahead: _Known, cache: _Cache[M]) -> _Cache[M]:
        """Only the homes that nodes are at, will go on from, or may come to."""
        homes = {fetched.home: None for fetched in ahead.values()}
        for row in rows:
            homes.update((node.home, None) for node in row.nodes)
            homes.update((node.home, None) for node in row.pending if node.home)
        if len(homes) == len(cache.rows):
            return cache
        kept = np.array([cache.rows[home] for home in homes], np.int64)
        return _Cache(self.model.select(cache.state, kept), {home: row for row, home in enumerate(homes)})

    def _answer(self, state: ByteState[M]) -> tuple[F32, ByteState[M]]:
        return self.logprobs(state).astype(np.float32), state


def _log_sum(logs: Sequence[float]) -> float:
    """log of the sum of exp; -inf of nothing."""
    top = max(logs, default=-math.inf)
    return top if top == -math.inf else top + math.log(math.fsum(math.exp(one - top) for one in logs))


def _opening(model: LanguageModel[M]) -> tuple[int, ...]:
    """The tokens without bytes that come before any text."""
    try:
        ids = model.encode("")
    except ArgumentError:  # nothing does, and an empty text cannot be begun
        return ()
    return tuple(token for token in ids if not model.vocabulary.tokens[token])


def _lead(model: LanguageModel[M]) -> bytes:
    """The space that the tokenizers of some models put before a text."""
    try:
        first = model.vocabulary.join(model.encode("a"))
    except ArgumentError:  # a vocabulary without it
        return b""
    return first.removesuffix(b"a")


def _lead_is_text(model: LanguageModel[M], lead: bytes) -> bool:
    """Whether a text that begins with the space is left as it is."""
    return model.vocabulary.join(model.encode(lead + b"a")) == lead + b"a"


def _split(prompt: Sequence[int]) -> tuple[list[int], bytes]:
    """A prompt of a byte view -> its fixed tokens, and the bytes behind them."""
    count = next((place for place, symbol in enumerate(prompt) if symbol < FIXED), len(prompt))
    return [int(symbol) - FIXED for symbol in prompt[:count]], _text(prompt[count:])


def _text(symbols: int | np.integer | Sequence[int]) -> bytes:
    listed = [int(symbols)] if isinstance(symbols, int | np.integer) else [int(symbol) for symbol in symbols]
    for place, symbol in enumerate(listed):
        if not 0 <= symbol < STOP:
            kind = "the end of text" if symbol == STOP else "a fixed token" if symbol > STOP else "no symbol"
            raise ArgumentError(
                f"symbol {symbol} at place {place} is {kind}, expected a byte, 0 to 255\n"
                "hint: fixed tokens come first in a prompt, and nothing comes after the end"
            )
    return bytes(listed)


def _too_many(length: int) -> str:
    return (
        f"more than {NODES} token sequences spell beginnings of a text of {length} bytes, too many to weigh them all\n"
        "hint: count the canonical ones only (canonical=), or allow a total variation (eps=1e-3)"
    )
