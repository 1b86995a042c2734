"""Exact samples: whole texts drawn from the model, of which those that obey are kept.

    cloud = sample_exactly(streams, model, [prompt], [constraint], settings, adaptive=True, max_tries=10**6)
    cloud.tokens                             # 100 independent texts of the model conditioned on the constraint
    cloud.log_weights                        # all equal: the estimated log-probability of the constraint

The target is that of smc.py: finished texts of at most T tokens that obey, times exp of their final potential.

Plain rejection learns nothing from what it rejects. Adaptive rejection (CARS, Parys et al. 2025, arXiv 2510.01902)
keeps a trie of the prefixes that were drawn. What a look at the constraint refutes there is left out of later draws,
so no refuted text is ever tried twice, and the samples stay exact:

- Let u(x) be the probability of text x under the model, or 0 where it is refuted, or its share of the target where x
  was drawn before. Nothing that obeys is refuted, so target(x) <= u(x). The alive mass M is the sum of u.
- A chain draws x with probability u(x) / M and is accepted with probability target(x) / u(x). So it is accepted with
  x with probability target(x) / M: whatever u is, accepted texts follow the target.
- Chains run in rounds, and u is frozen for a round: a chain's draws never see what another one shows meanwhile. What
  is known before a round determines M but not the round's texts, so each accepted text is independent of all before.
- A round is run to its end before any of its texts is taken, in random order: short texts get no advantage.
- Where tries run out, what was found is only nearly exact: its paths have a part in how soon others are found.

The evidence Z is the sum of the target. The i-th try succeeds with probability Z / M_i given the past. So with tries
as the arrivals of a Poisson process of rate M_i, successes are one of rate Z, and (N - 1) / (time of the N-th success)
is an unbiased estimate of Z for N > 1. Its mean over the times, given the tries, is the estimate used here: (N - 1)
times the integral over s > 0 of the product of 1 / (1 + s / M_i). It is (N - 1) M / (tries - 1) where M never changes
(Haldane 1945), and its variance dies out as M comes down to Z.
"""

from __future__ import annotations

import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.random import Generator

from genctl.constraints.base import Constraint, unpack
from genctl.errors import ArgumentError
from genctl.kernels.records import F32, F64, Bool
from genctl.kernels.rejection import draw
from genctl.models.base import LanguageModel, host_logits
from genctl.samplers.base import weigh
from genctl.samplers.smc import (
    COMPLETE,
    CUT,
    DEAD,
    GAVE_UP,
    STOPPED,
    Particles,
    Rules,
    Settings,
    Trace,
    preferred,
)
from genctl.samplers.streams import Streams

M = TypeVar("M")

ROW_CACHE_BYTES = 256 * 2**20  # logits that are kept, besides those of the prompts
CHAINS = 64  # a round has more only where more samples are missing and as many were tried before


# -- the trie


@dataclass(eq=False, slots=True)
class Leaf:
    """A text that obeys. Its alive share is exp of its potential."""

    tokens: tuple[int, ...]
    state: int
    status: int
    log_p: float  # of the last token (or the end) after the ones before it, nats
    logprob: float  # of the text and its end, nats
    log_alive: float


@dataclass(eq=False, slots=True)
class Node:
    """A prefix. Its texts are those of its children, and the rest: those whose next token was never drawn here."""

    trie: Trie
    parent: Node | None
    token: int
    depth: int
    state: int
    log_p: float = 0.0  # of its token after the parent, nats
    logprob: float = 0.0  # of the prefix, nats
    log_rest: float = 0.0  # of the rest that is not refuted, given the prefix, nats
    log_alive: float = 0.0  # of all that is not refuted, given the prefix, nats
    looked: bool = False  # was the constraint asked about all tokens?
    children: dict[int, Node | Leaf] = field(default_factory=dict)
    refuted: list[int] = field(default_factory=list)  # besides those that a look refutes

    def path(self) -> tuple[int, ...]:
        tokens, node = [], self
        while node.parent is not None:
            tokens.append(node.token)
            node = node.parent
        return tuple(reversed(tokens))

    def log_masses(self) -> F64:
        """(1 + children,) nats, of the rest and of each child, given the prefix."""
        return np.array([self.log_rest, *(child.log_p + child.log_alive for child in self.children.values())])

    def settle(self) -> None:
        """Add up what is left; a child of which nothing is left is refuted. Without a constraint all is left."""
        if self.trie.constraint is None:
            return
        for token in [token for token, child in self.children.items() if child.log_alive == -math.inf]:
            del self.children[token]
            self.refuted.append(token)
        self.log_alive = float(np.logaddexp.reduce(self.log_masses()))


class Round(NamedTuple):
    """tries and found: up to the last text that was wanted."""

    log_mass: float  # alive when the round began, nats
    tries: int
    found: int


class Trie:
    """The texts of one prompt under one constraint, as far as they are known."""

    def __init__(self, prompt: int, constraint: Constraint | None, wanted: int, max_tries: int) -> None:
        """prompt: its row in the model's state."""
        self.prompt, self.constraint, self.wanted, self.max_tries = prompt, constraint, wanted, max_tries
        self.found: list[Leaf] = []
        self.rounds: list[Round] = []
        self.tries = self.fruitless = 0
        self.accepted: list[Leaf] = []  # in this round
        self.forget()
        if self.root.state == 0:
            self.root.log_alive = -math.inf
        self.furthest = self.root  # where a text was refused

    def forget(self) -> None:
        self.root = Node(self, None, -1, 0, self.constraint.start() if self.constraint else 1)

    @property
    def dead(self) -> bool:
        return self.root.log_alive == -math.inf

    def chains(self) -> int:
        """How many to run next: as many as are missing, and twice as many after each round without a success.

        Many are not begun at once, but learn from the ones before.
        """
        missing = self.wanted - len(self.found)
        if self.dead or not missing:
            return 0
        useful = max(missing, min(missing << self.fruitless, CHAINS))
        return min(useful, max(self.tries, CHAINS), self.max_tries - self.tries)

    def close_round(self, rng: Generator, log_mass: float, tries: int) -> None:
        """Take the round's successes in a random order of its tries, up to the last one that is wanted."""
        missing = self.wanted - len(self.found)
        order = rng.permutation(tries)
        successes = np.flatnonzero(order < len(self.accepted))[:missing]
        self.found += [self.accepted[order[at]] for at in successes.tolist()]
        counted = tries if len(successes) < missing else int(successes[-1]) + 1
        self.rounds.append(Round(log_mass, counted, len(successes)))
        self.tries += tries
        self.fruitless = 0 if self.accepted else min(self.fruitless + 1, CHAINS.bit_length())
        self.accepted = []

    def not_found(self) -> Leaf:
        """What stands for a text that is missing."""
        node, status = self.furthest, DEAD if self.dead else GAVE_UP if self.tries >= self.max_tries else STOPPED
        return Leaf(node.path(), node.state, status, node.log_p, node.logprob, -math.inf)

    def log_weight(self) -> float:
        """Of each text that was found, nats: their mean over all that were wanted is the evidence."""
        if not self.found:
            return -math.inf
        return self.log_evidence() + math.log(self.wanted) - math.log(len(self.found))

    def log_evidence(self) -> float:
        """The estimate of the module's docstring where N > 1 texts were wanted and found, unbiased before the log.

        For one text it is 1 over the sum of 1 / M_i, which is an unbiased estimate of 1 / Z. Where tries ran out it is
        the mean of M_i over the tries, 0 for those that failed.
        """
        log_masses, tries, found = (np.array(column, np.float64) for column in zip(*self.rounds, strict=True))
        if found.sum() < self.wanted:
            successes = found > 0
            return _log_sum(log_masses[successes] + np.log(found[successes])) - math.log(tries.sum())
        if self.wanted == 1:
            return -_log_sum(np.log(tries) - log_masses)
        return log_inverse_sampling(log_masses, tries, self.wanted)


def _log_sum(log_terms: F64) -> float:
    return float(np.logaddexp.reduce(log_terms))


STEP, TAIL = 0.25, 45.0  # of the sum below, in units of log s; its errors are below 1e-15


def log_inverse_sampling(log_masses: F64, tries: F64, found: int) -> float:
    """(R,) log M and numbers of tries of R rounds, in which found > 1 texts were -> the estimated log Z, nats.

    The integrand is a log-concave function of log s, analytic, and falls off exponentially on both sides: there sums
    over equal steps converge faster than any power of the step.
    """
    if (log_masses == log_masses[0]).all():
        return float(log_masses[0]) + math.log(found - 1) - math.log(tries.sum() - 1)
    points = np.arange(log_masses.min() - math.log(tries.sum()) - TAIL, log_masses.max() + TAIL, STEP)
    exponents = points.copy()
    for log_mass, count in zip(log_masses, tries, strict=True):
        exponents -= count * np.logaddexp(0.0, points - log_mass)
    return math.log(found - 1) + math.log(STEP) + _log_sum(exponents)


# -- rows of logits


class Row(NamedTuple):
    """What can be drawn of a node's rest."""

    logits: F32  # (V,) -inf for what is refuted or a child
    log_normaliser: float  # of all tokens, nats


class Rows:
    """Rows that were used last; the others are computed again when they are needed."""

    def __init__(self, limit: int) -> None:
        self._limit, self._size = limit, 0
        self._rows: OrderedDict[Node, Row] = OrderedDict()

    def get(self, node: Node) -> Row | None:
        if node in self._rows:
            self._rows.move_to_end(node)
        return self._rows.get(node)

    def keep(self, node: Node, row: Row) -> None:
        self._rows[node] = row
        self._size += row.logits.nbytes
        while self._size > self._limit:
            _, oldest = self._rows.popitem(last=False)
            self._size -= oldest.logits.nbytes


def _drawn(rng: Generator, logits: F32, count: int) -> Counter[int]:
    """How often each token was drawn in `count` draws; there are none where no logit is finite."""
    weights = weigh(logits[None])
    tokens = (draw(weights.values[0], weights.blocks[0], rng.random()) for _ in range(count))
    return Counter(token for token in tokens if token >= 0)


Moves: TypeAlias = Iterable[tuple[Node, int]]  # nodes, and how many chains come to each of them


class Search(Generic[M]):
    """The model, its state and logits behind each prompt, and the rows that are kept."""

    def __init__(
        self,
        rng: Generator,
        model: LanguageModel[M],
        prompts: Sequence[Sequence[int]],
        settings: Settings,
        adaptive: bool,
        row_cache_bytes: int,
    ) -> None:
        self.rng, self.model, self.settings, self.adaptive = rng, model, settings, adaptive
        self.logits, self.state = model.prefill(prompts)
        self.first = host_logits(self.logits)  # (G, V)
        self.eos = sorted(model.vocabulary.eos)
        self.rows = Rows(row_cache_bytes)
        self.roots: dict[Node, Row] = {}
        self.visited: list[Node] = []
        self.checks = self.masks = 0

    def begin(self, trie: Trie) -> None:
        """Look at the first tokens before anything is drawn."""
        if self.adaptive and not trie.dead:
            row = self.roots[trie.root] = self._row(trie.root, self.first[trie.prompt])
            self._look(trie.root, row)
            trie.root.settle()

    def run_round(self, chains: dict[Trie, int]) -> None:
        """So many chains of each trie, from the prompt to their ends; then the trie learns what they showed."""
        log_masses = {trie: trie.root.log_alive for trie in chains}
        self._extend(self._descend([(trie.root, count) for trie, count in chains.items()]))
        if self.adaptive:
            for node in sorted(self.visited, key=lambda node: node.depth, reverse=True):
                node.settle()
        self.visited = []
        for trie, count in chains.items():
            trie.close_round(self.rng, log_masses[trie], count)
            if not self.adaptive:
                trie.forget()

    def _descend(self, moves: list[tuple[Node, int]]) -> dict[Node, int]:
        """Along what is known. Returns the nodes whose logits are needed, and how many chains wait there."""
        waiting: dict[Node, int] = {}
        while moves:
            node, count = moves.pop()
            log_masses = node.log_masses()
            shares = np.exp(log_masses - log_masses.max())
            rest, *counts = self.rng.multinomial(count, shares / shares.sum()).tolist()
            for child, arriving in zip(node.children.values(), counts, strict=True):
                if isinstance(child, Leaf):
                    node.trie.accepted += [child] * arriving
                elif arriving:
                    moves.append((child, arriving))
            self.visited.append(node)
            row = self._known_row(node) if rest else None
            if row is not None:
                waiting.update(self._draw_rest(node, rest, row))
            elif rest:
                waiting[node] = rest
        return waiting

    def _extend(self, waiting: dict[Node, int]) -> None:
        """One forward for all that wait: first from the prompts, then from the nodes before."""
        state, sources = self.state, [node.trie.prompt for node in waiting]
        texts = [node.path() for node in waiting]
        while waiting:
            logits, state = self.model.extend(self.model.select(state, np.array(sources, np.int64)), texts)
            onward: dict[Node, int] = {}
            sources, texts = [], []
            for source, (logits_row, (node, count)) in enumerate(
                zip(host_logits(logits), waiting.items(), strict=True)
            ):
                row = self._row(node, logits_row)
                self.visited.append(node)
                for child, arriving in self._draw_rest(node, count, row):
                    onward[child] = arriving
                    sources.append(source)
                    texts.append((child.token,))
                if self.adaptive:
                    self.rows.keep(node, row)
            waiting = onward

    def _known_row(self, node: Node) -> Row | None:
        if node.parent is not None:
            return self.rows.get(node)
        return self.roots[node] if self.adaptive else self._row(node, self.first[node.trie.prompt])

    def _row(self, node: Node, logits: F32) -> Row:
        """The row of a node from the model's (V,) logits: all that is known of the node is left out.

        How a text of T tokens ends is not told apart, as in smc.py: one token stands for all that end it.
        """
        row = Row(logits.copy(), weigh(logits[None]).log_normaliser(0))
        if node.depth == self.settings.max_new_tokens:
            row.logits[self.eos] = -np.inf
            row.logits[self.eos[0]] = np.logaddexp.reduce(logits[self.eos].astype(np.float64))
        if node.looked:
            row.logits[~self._candidates(node)] = -np.inf
        row.logits[[*node.refuted, *node.children]] = -np.inf
        return row

    def _draw_rest(self, node: Node, count: int, row: Row) -> Moves:
        """So many draws of a token that was never drawn here. Returns the new nodes, and refutes what can be."""
        onward: list[tuple[Node, int]] = []
        for token, arriving in _drawn(self.rng, row.logits, count).items():
            child = self._child(node, token, row)
            row.logits[token] = -np.inf
            if child is None:
                node.refuted.append(token)
                if node.depth >= node.trie.furthest.depth:
                    node.trie.furthest = node
                continue
            node.children[token] = child
            if isinstance(child, Node):
                onward.append((child, arriving))
            else:
                kept = arriving if child.log_alive == 0 else self.rng.binomial(arriving, math.exp(child.log_alive))
                node.trie.accepted += [child] * int(kept)
        if self.adaptive:
            self._look(node, row)
        return onward

    def _child(self, node: Node, token: int, row: Row) -> Node | Leaf | None:
        """What the prefix becomes by a token; None where that is refused."""
        constraint, last = node.trie.constraint, node.depth == self.settings.max_new_tokens
        log_p = float(row.logits[token]) - row.log_normaliser
        logprob = node.logprob + log_p
        ends = token in self.model.vocabulary.eos
        if constraint is None:
            if ends:
                return Leaf(node.path(), node.state, COMPLETE, log_p, logprob, 0.0)
            if node.depth + 1 == self.settings.max_new_tokens:
                return Leaf((*node.path(), token), node.state, CUT, log_p, logprob, 0.0)
            return Node(node.trie, node, token, node.depth + 1, node.state, log_p, logprob)
        self.checks += 1
        if not constraint.allows(node.state, token) or (last and not ends):
            return None
        if ends:
            potential = _final_potential(constraint, node.state)
            leaf = Leaf(node.path(), node.state, COMPLETE, log_p, logprob, potential)
            return leaf if potential > -math.inf else None
        state = constraint.advance(node.state, token)
        if node.depth + 1 == self.settings.max_new_tokens and not constraint.complete(state):
            return None
        return Node(node.trie, node, token, node.depth + 1, state, log_p, logprob) if state else None

    def _look(self, node: Node, row: Row) -> None:
        """Refute all that the constraint tells cheaply, once; then weigh what is left of the rest."""
        if not node.looked:
            row.logits[~self._candidates(node)] = -np.inf
            self.masks += 0 if node.trie.constraint is None else 1
            node.looked = True
        left = weigh(row.logits[None]).log_normaliser(0)
        node.log_rest = left - row.log_normaliser if left > -math.inf else left

    def _candidates(self, node: Node) -> Bool:
        """(V,) bool: the tokens that a cheap look does not refuse."""
        size, constraint = len(self.model.vocabulary), node.trie.constraint
        if constraint is None:
            return np.ones(size, np.bool_)
        packed = constraint.candidates(node.state)
        allowed = np.ones(size, np.bool_) if packed is None else unpack(packed, size)
        if node.depth == self.settings.max_new_tokens:
            ends = np.zeros(size, np.bool_)
            ends[self.eos] = True
            allowed &= ends
        return allowed


def _final_potential(constraint: Constraint, state: int) -> float:
    """Of a finished text, nats. ArgumentError where it is above 0: no probability of acceptance can be."""
    potential = constraint.log_potential(state, done=True)
    if potential > 0:
        raise ArgumentError(
            f"the log-potential of a finished text is {potential:.6g}, but exact samples need at most 0: a text is "
            "accepted with probability exp(log-potential)"
            "\nhint: subtract its largest possible value (the law of the texts stays the same), or use another method"
        )
    return potential


def sample_exactly(
    streams: Streams,
    model: LanguageModel[M],
    prompts: Sequence[Sequence[int]],
    constraints: Rules,
    settings: Settings,
    on_step: Callable[[int], None] = lambda steps: None,
    deadline: float = math.inf,
    *,
    adaptive: bool,
    max_tries: int,
    row_cache_bytes: int = ROW_CACHE_BYTES,
) -> Particles[M]:
    """N independent texts of the target for each of G prompts; (G N,) streams and rows as in smc.py, deadline too. Of
    the settings max_new_tokens is used, and all random numbers are those of the first stream.

    adaptive: learn from what was rejected. Prompts that are equal and have the same constraint (the same object) learn
    together, and share one estimate. max_tries: texts that are begun for each prompt. Without a constraint every try
    succeeds, and texts are cut as they are.
    row_cache_bytes: for logits, those of the prompts not counted. Each prefix keeps a few hundred bytes more.
    on_step is told the share of texts that were found, times max_new_tokens.

    The rows that were found have status COMPLETE (CUT without a constraint) and equal log-weights, whose mean over all
    rows is the estimated evidence (`Trie.log_evidence`). The others have a log-weight of -inf and the longest prefix
    that was refused; their status is DEAD if it is proven that no text obeys, GAVE_UP if tries ran out, STOPPED if the
    time did.
    Raises ArgumentError for a finished text with a log-potential above 0.
    """
    size = len(streams.keys) // len(prompts)
    texts = {text: row for row, text in enumerate(dict.fromkeys(map(tuple, prompts)))}
    keys = [(texts[tuple(prompt)], id(constraint)) for prompt, constraint in zip(prompts, constraints, strict=True)]
    groups = Counter(keys)
    tries: dict[tuple[int, int], Trie] = {}
    for key, constraint in zip(keys, constraints, strict=True):
        if key not in tries:
            tries[key] = Trie(key[0], constraint, groups[key] * size, groups[key] * max_tries)
    search = Search(streams.generator(0), model, list(texts), settings, adaptive, row_cache_bytes)
    for trie in tries.values():
        search.begin(trie)
    while chains := {trie: count for trie in tries.values() if (count := trie.chains())}:
        search.run_round(chains)
        found = sum(len(trie.found) for trie in tries.values())
        on_step(settings.max_new_tokens * found // (size * len(keys)))
        if time.monotonic() > deadline:
            break
    return _particles(search, [tries[key] for key in keys], streams, size)


def _particles(search: Search[M], tries: Sequence[Trie], streams: Streams, size: int) -> Particles[M]:
    """tries: (G,) one for each prompt."""
    given: Counter[Trie] = Counter()
    leaves: list[Leaf] = []
    for trie in tries:
        mine = trie.found[given[trie] : given[trie] + size]
        leaves += mine + [trie.not_found()] * (size - len(mine))
        given[trie] += size
    weights = {trie: trie.log_weight() for trie in tries}
    log_weights = np.repeat([weights[trie] for trie in tries], size)
    log_weights[[leaf.log_alive == -math.inf for leaf in leaves]] = -np.inf
    wanted = [preferred(search.first[trie.prompt]) for trie in tries if trie.dead]
    return Particles(
        streams=streams,
        tokens=tuple(leaf.tokens for leaf in leaves),
        log_weights=log_weights,
        logprobs=np.array([leaf.logprob for leaf in leaves]),
        potentials=np.array([leaf.log_alive for leaf in leaves]),
        states=np.array([leaf.state for leaf in leaves], np.int64),
        critic_states=np.ones(len(leaves), np.int64),
        status=np.array([leaf.status for leaf in leaves], np.int64),
        size=size,
        state=search.model.select(search.state, np.zeros(0, np.int64)),
        logits=search.logits[[]],
        rows=np.zeros(0, np.int64),
        steps=search.settings.max_new_tokens,
        trace=Trace(
            checks=(search.checks,),
            masks=(search.masks,),
            tries=tuple(trie.tries for trie in tries),
            log_bounds=tuple(trie.root.log_alive for trie in tries),
        ),
        wanted=wanted[0] if wanted else (),
    )
