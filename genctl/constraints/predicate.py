"""A Python function of the text as a constraint and a potential.

    def palindrome(text: str, done: bool) -> bool | float:
        return not done or text == text[::-1]

    lm.generate(prompt, genctl.regex("[a-z]{3,9}") & palindrome, num_particles=32)

The function is asked about prefixes (done=False) and about whole texts (done=True). True lets pass, False rules
the text and all that goes on from it out; a float is a log-weight in nats (-inf: ruled out). A prefix that ends
inside a character is shown without that character's first bytes.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from genctl.errors import ConstraintError
from genctl.kernels.records import U32
from genctl.vocabulary import Vocabulary

PredicateFunction: TypeAlias = Callable[[str, bool], bool | float]


class PredicateConstraint:
    """One generation's view of a predicate: a state is a text, hash-consed; answers are remembered."""

    def __init__(self, function: PredicateFunction, vocabulary: Vocabulary) -> None:
        self._function = function
        self._vocabulary = vocabulary
        self._texts: list[bytes] = [b"", b""]  # state 0 is dead, state 1 the empty text
        self._states: dict[bytes, int] = {b"": 1}
        self._answers: dict[tuple[str, bool], float] = {}

    def start(self) -> int:
        return 1 if self._score(b"", done=False) > -math.inf else 0

    def allows(self, state: int, token: int, /) -> bool:
        if state == 0:
            return False
        if token in self._vocabulary.eos:
            return self.complete(state)
        more = self._vocabulary.tokens[token]
        return more != b"" and self._score(self._texts[state] + more, done=False) > -math.inf

    def advance(self, state: int, token: int, /) -> int:
        if token in self._vocabulary.eos or not self.allows(state, token):
            return 0
        text = self._texts[state] + self._vocabulary.tokens[token]
        known = self._states.get(text)
        if known is None:
            known = self._states[text] = len(self._texts)
            self._texts.append(text)
        return known

    def complete(self, state: int, /) -> bool:
        return state != 0 and self._score(self._texts[state], done=True) > -math.inf

    def mask(self, state: int, out: U32, /) -> None:
        """One call of the function for every token of the vocabulary: AWRS needs a handful instead."""
        out[:] = 0
        for token in range(len(self._vocabulary)):
            if self.allows(state, token):
                out[token >> 5] |= np.uint32(1 << (token & 31))

    def candidates(self, state: int, /) -> U32 | None:
        return None

    def log_potential(self, state: int, /, *, done: bool) -> float:
        return -math.inf if state == 0 else self._score(self._texts[state], done=done)

    def _score(self, text: bytes, *, done: bool) -> float:
        """The function's answer as a log-weight. A finished text must be whole characters."""
        readable = _readable(text, done=done)
        if readable is None:
            return -math.inf
        known = self._answers.get((readable, done))
        if known is None:
            known = self._answers[readable, done] = log_weight(self._function, readable, done)
        return known


def _readable(text: bytes, *, done: bool) -> str | None:
    """The text without the beginning of an unfinished character; None if it can be no text."""
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(text, done)
    except UnicodeDecodeError:
        return None


def log_weight(function: PredicateFunction, text: str, done: bool) -> float:
    """The function's answer in nats; ConstraintError where it is neither a truth value nor a log-weight."""
    answer = function(text, done)
    if isinstance(answer, bool | np.bool_):
        return 0.0 if answer else -math.inf
    if isinstance(answer, float | np.floating) and not math.isnan(answer) and answer != math.inf:
        return float(answer)
    name = getattr(function, "__name__", repr(function))
    raise ConstraintError(
        f"the predicate {name} returned {answer!r} for ({text!r}, done={done})",
        source=name,
        hint="return True, False, or a log-weight in nats (a float below +inf)",
    )
