"""A number of tokens within which a text must be complete: tokens after which it could not be are refused.

    budget = Budget(AutomatonConstraint(compile_regex("(ab)+"), vocabulary), max_new_tokens=4)
    budget.start()                              # 0 if no text of the language has so few tokens

A text that is held to a budget always ends complete, and the target stays the same: the model conditioned on the
constraint and on at most `max_new_tokens` tokens, the end not counted. Without the budget the texts that are cut have
a weight of -inf; with it that weight goes to others, and the estimates vary less. (Where the number of tokens that a
text still needs is too hard to find, see fewest.py, a text that would just have fitted is refused.)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import numpy as np

from genctl.constraints.automaton import AutomatonConstraint
from genctl.constraints.base import Constraint, pack
from genctl.constraints.both import Both
from genctl.constraints.checked import Checked
from genctl.kernels.records import I64, U32, Bool, TokenBytes
from genctl.trie import Tokens

MASK_CACHE_BYTES = 16 * 2**20


class Budget:
    """Its state is the inner state times (max_new_tokens + 1), plus the number of tokens left; 0 is dead."""

    def __init__(self, constraint: AutomatonConstraint, max_new_tokens: int) -> None:
        self.constraint, self.max_new_tokens = constraint, max_new_tokens
        self._fewest = constraint.fewest
        self._masks: OrderedDict[int, U32] = OrderedDict()
        self._ends = pack(constraint.token_bytes.eos)
        self._refused: set[int] = set()  # states at which a token was refused for want of tokens

    @property
    def state_bits(self) -> int:
        return self.constraint.state_bits + self.max_new_tokens.bit_length()

    @property
    def tokens(self) -> Tokens:
        return self.constraint.tokens

    @property
    def token_bytes(self) -> TokenBytes:
        return self.constraint.token_bytes

    def start(self) -> int:
        inner = self.constraint.start()
        return self._state(inner, self.max_new_tokens) if self._fewest.fits(inner, self.max_new_tokens) else 0

    def inner_states(self, states: I64) -> I64:
        """(N,) states of the budget -> (N,) states of the constraint."""
        return states // (self.max_new_tokens + 1)

    def allows(self, state: int, token: int, /) -> bool:
        if self.constraint.token_bytes.eos[token]:
            return self.complete(state)
        inner, left = self._parts(state)
        target = self.constraint.advance(inner, token)
        if target == 0:
            return False
        if self._fewest.fits(target, left - 1):
            return True
        self._refused.add(state)
        return False

    def allows_each(self, states: I64, tokens: I64, /) -> Bool:
        """(K,) states, (K,) token ids -> (K,) `allows` of each pair, looked ahead at where the language allows it."""
        allowed = self.constraint.allows_each(self.inner_states(states), tokens)
        for at in np.flatnonzero(allowed).tolist():
            allowed[at] = self.allows(int(states[at]), int(tokens[at]))
        return allowed

    def advance(self, state: int, token: int, /) -> int:
        inner, left = self._parts(state)
        target = self.constraint.advance(inner, token)
        return self._state(target, left - 1) if self._fewest.fits(target, left - 1) else 0

    def complete(self, state: int, /) -> bool:
        return self.constraint.complete(self._parts(state)[0])

    def mask(self, state: int, out: U32, /) -> None:
        out[:] = self.candidates(state)

    def candidates(self, state: int, /) -> U32:
        """The mask itself, (ceil(V/32),), read-only; cached by state."""
        known = self._masks.get(state)
        if known is None:
            known = self._masks[state] = self._build_mask(state)
            if len(self._masks) * known.nbytes > MASK_CACHE_BYTES:
                self._masks.popitem(last=False)
        self._masks.move_to_end(state)
        return known

    def _build_mask(self, state: int) -> U32:
        inner, left = self._parts(state)
        allowed = self.constraint.candidates(inner)
        out = np.zeros_like(allowed)
        if not self._fewest.tokens_within(inner, left - 1, out):
            return allowed
        self._refused.add(state)
        out |= allowed & self._ends
        out.flags.writeable = False
        return out

    def log_potential(self, state: int, /, *, done: bool) -> float:
        return 0.0

    def fewest(self) -> tuple[int, bool]:
        """Tokens of the shortest text, UNREACHABLE (2**31 - 1) if the vocabulary cannot spell any; is that exact?"""
        start = self.constraint.start()
        return self._fewest(start), self._fewest.is_exact(start)

    def shortened(self, tokens: Iterable[int]) -> bool:
        """Did the budget refuse a token that the constraint allows, on the way of this text? Of the tokens that were
        tried; behind the last token that it had, of all.
        """
        state = self.start()
        for token in tokens:
            if state in self._refused:
                return True
            state = self.advance(state, token)
        if self._parts(state)[1] == 0:
            self.candidates(state)
        return state in self._refused

    def _state(self, inner: int, left: int) -> int:
        return inner * (self.max_new_tokens + 1) + left if inner else 0

    def _parts(self, state: int) -> tuple[int, int]:
        """(inner state, tokens left)."""
        return divmod(state, self.max_new_tokens + 1)


def within(constraint: Constraint, max_new_tokens: int) -> tuple[Constraint, Budget | None]:
    """The constraint with its compiled language held to the budget, and that budget; (itself, None) without a language.

    Its checks (checked.py) stand outside of the budget: where they refuse the last text that fits, it meets a dead end.
    Of a conjunction with predicates only the language is held: where a predicate refuses the last text that fits, the
    text meets a dead end or is cut.
    """
    if isinstance(constraint, AutomatonConstraint):
        budget = Budget(constraint, max_new_tokens)
        return budget, budget
    if isinstance(constraint, Checked) and isinstance(constraint.constraint, AutomatonConstraint):
        budget = Budget(constraint.constraint, max_new_tokens)
        return Checked(budget, constraint.checks, constraint.memory), budget
    if isinstance(constraint, Both):
        held = [within(part, max_new_tokens) for part in constraint.parts]
        budgets = [budget for _, budget in held if budget is not None]
        if budgets:
            return Both([part for part, _ in held]), budgets[0]
    return constraint, None
