"""Adaptive weighted rejection sampling (Lipkin et al. 2025, arXiv 2504.05410): check only what the model would draw.

    draws = AWRS()(streams, logits, constraint, states)
    draws.checks                             # a handful, where a mask tests every token of the vocabulary

Tokens are drawn without replacement until one is allowed; a few more draws make the weight an unbiased estimate of
the allowed mass (kernels/rejection.py has the estimators). Masks of compiled rules cost little more than a few draws,
and say that mass exactly: a row asks for its mask where more than a twentieth of the mass would be guessed, and is
drawn from it where several tokens were refused (all of them are outside of the mask, so the law stays). What is cheaper
was measured once; to time it in each run would make the same seed give other texts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np

from genctl.automata.tabulated import Tabulated
from genctl.constraints.automaton import AutomatonConstraint
from genctl.constraints.base import Constraint, unpack
from genctl.constraints.both import Both
from genctl.constraints.budget import Budget
from genctl.constraints.checked import Checked
from genctl.errors import ArgumentError
from genctl.kernels import rejection
from genctl.kernels.records import F32, F64, I64, U32, Machine, TokenBytes
from genctl.samplers.base import Draws, Weights, token_logprobs, weigh
from genctl.samplers.masked import TAIL, allowed_mass, draw_allowed, packed_mask
from genctl.samplers.streams import OF_MASK, Streams

CUT, LATE_CUT = 4, 16  # refused tokens after which rows of a compiled rule are drawn from its mask
PATIENCE = 8  # refused tokens after which other rules are asked what all they refuse
COMPILED_TAIL, TAIL_IN_PYTHON = 8, 16  # draws behind the accepted one

Compiled = AutomatonConstraint | Budget | Checked  # whose masks are cheap


@dataclass(frozen=True)
class AWRS:
    """A TokenSampler. Automata are checked in the kernel, other rules asked about all rows at once.

    estimator: "recursive" draws without replacement until a token is allowed, then `tail` further ones, over which the
    weight is averaged (None: weights of compiled rules come from their masks, unless one more draw says nearly as much;
    8 where compiled rules are checked by Python as well; 16 where Python has to be asked). "geometric" draws with
    replacement until `max_accepts` draws were allowed, and weights with the share of allowed ones. max_rejects: refused
    tokens (recursive) or refused draws (geometric) after which a particle gives up with weight 0, which keeps the
    weights unbiased; None never gives up.
    """

    estimator: Literal["recursive", "geometric"] = "recursive"
    tail: int | None = None
    max_accepts: int = 2
    max_rejects: int | None = None

    def __post_init__(self) -> None:
        if self.estimator not in ("recursive", "geometric"):
            raise ArgumentError(f'estimator is {self.estimator!r}, it must be "recursive" or "geometric"')
        for name, least in (("tail", 1), ("max_accepts", 2), ("max_rejects", 1)):
            value = getattr(self, name)
            if value is None and name != "max_accepts":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ArgumentError(f"{name} is {value!r}, it must be an integer of at least {least}")

    def __call__(self, streams: Streams, logits: F32, constraint: Constraint, states: I64, /) -> Draws:
        weights = weigh(logits)
        run = _Run(self, streams, logits, weights, constraint, states)
        tokens, log_weights = run.finish()
        work = run.work
        return Draws(
            tokens,
            log_weights,
            token_logprobs(logits, weights, tokens),
            work[:, rejection.CHECKS],
            work[:, rejection.ACCEPTED],
            run.exact.astype(np.int64),
            self._variances(run),
        )

    def _variances(self, run: _Run) -> F64:
        """The relative variance of each weight, with the share of allowed tokens among those tested."""
        work, mass = run.work, run.mass
        if all(run.exact.tolist()):
            return np.zeros(len(work))
        share = (work[:, rejection.ACCEPTED] + 1) / (work[:, rejection.CHECKS] + 2)
        if self.estimator == "geometric":
            found = (1 - share) / max(self.max_accepts - 2, 1)
        else:
            estimate = np.where(mass[:, rejection.ESTIMATE] > 0, mass[:, rejection.ESTIMATE], 1.0)
            found = mass[:, rejection.SPREAD] / estimate**2 * share * (1 - share)
        return np.where(run.exact, 0.0, found)


awrs = AWRS()


class _Run:
    """The rows of one step, until each is drawn."""

    def __init__(
        self, sampler: AWRS, streams: Streams, logits: F32, weights: Weights, constraint: Constraint, states: I64
    ) -> None:
        self._streams, self._logits, self._constraint, self._states = streams, logits, constraint, states
        self._weights = weights
        n_rows = len(states)
        self._language = _language(constraint, states)
        self._plan, cut = _plan(sampler, constraint, self._language)
        ahead = int(self._plan[rejection.AHEAD])
        self._asked = np.zeros((n_rows, ahead, 2), np.int64)
        self._masses = np.zeros((n_rows, ahead, 2))
        self._status = np.full(n_rows, rejection.WAITING)
        self.work = np.zeros((n_rows, 9), np.int64)
        self.work[:, rejection.CHOSEN] = -1
        self.work[:, rejection.CUT_AT] = cut
        self.mass = np.zeros((n_rows, 7))
        self.mass[:, rejection.TOTAL], self.mass[:, rejection.LOG_WEIGHT] = weights.total, -np.inf
        self.exact = np.zeros(n_rows, np.bool_)  # is the weight from the mask?

    def finish(self) -> tuple[I64, F64]:
        """(tokens, log-weights)."""
        tokens, log_weights = self.work[:, rejection.CHOSEN], self.mass[:, rejection.LOG_WEIGHT]
        while any(self._status.tolist()):  # until all are DONE
            self._run_kernel()
            statuses = self._status.tolist()
            if rejection.ASKS in statuses:
                self._ask()
            for n, status in enumerate(statuses):
                if status == rejection.NO_MASS:
                    log_weights[n] = self._weight_by_mask(n)
                    self._status[n] = rejection.DONE
                elif status == rejection.CUT and not self._keep_candidates(n):
                    tokens[n], log_weights[n] = self._by_mask(n)
                    self._status[n] = rejection.DONE
        return tokens.copy(), log_weights.copy()

    def _run_kernel(self) -> None:
        """The kernel stops where the automaton is not built yet, and goes on after."""
        if self._language is None:
            self._call_kernel(_NO_MACHINE, _NO_TOKENS, self._states)
            return
        constraint, states = self._language
        constraint.make_room()
        while lacking := self._call_kernel(constraint.automaton.machine, constraint.token_bytes, states):
            constraint.automaton.extend(lacking)

    def _call_kernel(self, machine: Machine, tokens: TokenBytes, states: I64) -> int:
        return rejection.awrs(
            self._weights.values,
            self._weights.blocks,
            machine,
            tokens,
            states,
            self._streams.keys,
            self._streams.spread,
            self.work,
            self.mass,
            self._asked,
            self._masses,
            self._plan,
            self._status,
            TAIL,
        )

    def _ask(self) -> None:
        """All questions of all rows at once."""
        rows = np.flatnonzero(self._status == rejection.ASKS)
        pending = np.arange(self._asked.shape[1]) < self.work[rows, rejection.PENDING, None]
        unknown = pending & (self._asked[rows, :, rejection.VERDICT] == rejection.UNKNOWN)
        i, column = np.nonzero(unknown)
        states, tokens = self._states[rows[i]], self._asked[rows[i], column, rejection.TOKEN]
        verdicts = self._constraint.allows_each(states, tokens)
        self._asked[rows[i], column, rejection.VERDICT] = verdicts
        self._status[rows] = rejection.ANSWERED

    def _keep_candidates(self, row: int) -> bool:
        """Refuse at once all that a cheap mask refuses, and go on; that never changes the estimate's mean."""
        blocks = self._weights.blocks[row]
        if isinstance(self._constraint, Compiled) or blocks.sum() < TAIL:
            return False
        candidates = self._constraint.candidates(int(self._states[row]))
        if candidates is not None:
            values = self._weights.values[row]
            values[~unpack(candidates, len(values))] = 0.0
            rejection.block_sums(values[None], blocks[None])
        self.work[row, rejection.CUT_AT] = rejection.NEVER
        self._status[row] = rejection.WAITING
        return True

    def _weight_by_mask(self, row: int) -> float:
        """Behind the accepted token, which is not among the weights any more."""
        left, _ = allowed_mass(self._weights, row, self._mask(row))
        return math.log(float(self.mass[row, rejection.SEEN] + left) / float(self._weights.total[row]))

    def _by_mask(self, row: int) -> tuple[int, float]:
        """The exact tail: only tokens outside of the mask were taken out."""
        uniform = self._streams.uniform(row, OF_MASK)
        return draw_allowed(self._logits, self._weights, row, self._mask(row), uniform)

    def _mask(self, row: int) -> U32:
        self.exact[row] = True
        return packed_mask(self._constraint, int(self._states[row]), self._logits.shape[1])


def _plan(sampler: AWRS, constraint: Constraint, language: _Language | None) -> tuple[I64, int]:
    """The kernel's plan, and after how many refused tokens it asks for something better than to go on."""
    asking = 2 if language is None else int(language.constraint is not constraint)
    return _planned(sampler, isinstance(constraint, Compiled), isinstance(constraint, Checked), asking)


@lru_cache(64)
def _planned(sampler: AWRS, compiled: bool, checked: bool, asking: int) -> tuple[I64, int]:
    """Of all steps of a kind, which only read it."""
    geometric, forever = sampler.estimator == "geometric", sampler.max_rejects is None
    masks = compiled and not checked and forever and not (sampler.tail or geometric)
    tail = sampler.tail or (COMPILED_TAIL if compiled else TAIL_IN_PYTHON)
    rejects = rejection.NEVER if sampler.max_rejects is None else sampler.max_rejects
    ahead = 1 if geometric or compiled else 1 + tail
    cut = CUT if masks else LATE_CUT if compiled else PATIENCE
    if geometric or rejects <= LATE_CUT:
        cut = rejection.NEVER
    return np.array([geometric, tail, sampler.max_accepts, rejects, asking, ahead, masks]), cut


class _Language(NamedTuple):
    """A compiled rule that refuses nothing that is allowed, and the rows' states in it."""

    constraint: AutomatonConstraint
    states: I64


def _language(constraint: Constraint, states: I64) -> _Language | None:
    """What a budget, checks and conjunctions are around."""
    while not isinstance(constraint, AutomatonConstraint):
        if not isinstance(constraint, Budget | Checked | Both):
            return None
        states, constraint = constraint.inner_states(states), constraint.constraint
    return _Language(constraint, states)


_NO_MACHINE: Machine = Tabulated(np.zeros((1, 1), np.int32), np.zeros(256, np.uint8), np.zeros(1, np.bool_)).machine
_NO_TOKENS = TokenBytes(np.zeros(0, np.uint8), np.zeros(1, np.int64), np.zeros(0, np.bool_))
