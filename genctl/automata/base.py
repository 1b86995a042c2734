"""Automata: deterministic readers of bytes with int states, in which state 0 is dead.

    state = run(automaton, automaton.start, b"2026-")
    automaton.accepts(state), automaton.distance(state)      # False, 5

A text is in the language when reading it ends in an accepting state. Automata are *trim*: from every state
but 0 some text leads to acceptance, so a state other than 0 is a promise that the text can be finished.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Bool: TypeAlias = NDArray[np.bool_]
U8: TypeAlias = NDArray[np.uint8]
I32: TypeAlias = NDArray[np.int32]

DEAD = 0
UNKNOWN = -1  # a transition that was never taken yet
UNREACHABLE = 2**31 - 1  # distance of a state from which nothing is accepted


class Table(NamedTuple):
    """The part of a lazy automaton that is built so far, as kernels read it. S states, C byte classes.

    Only the first rows are in use; a caller that meets UNKNOWN asks the automaton to `step` and comes back.
    """

    next: I32  # (S, C) next state, UNKNOWN where not built yet
    classes: U8  # (256,) class of each byte
    accepting: Bool  # (S,)


class Automaton(Protocol):
    """Deterministic over bytes 0..255; state 0 is dead and steps to itself."""

    @property
    def start(self) -> int: ...
    @property
    def table(self) -> Table: ...
    def step(self, state: int, byte: int, /) -> int: ...
    def accepts(self, state: int, /) -> bool: ...
    def distance(self, state: int, /) -> int:
        """Fewest bytes from state to acceptance, UNREACHABLE from the dead state."""
        ...

    def universal(self, state: int, /) -> bool:
        """True only if every text is accepted from state (never a wrong True; False may be unproven)."""
        ...


def run(automaton: Automaton, state: int, text: Iterable[int]) -> int:
    """The state after reading the bytes of text from state."""
    for byte in text:
        if state == DEAD:
            break
        state = automaton.step(state, byte)
    return state


def accepts(automaton: Automaton, text: bytes) -> bool:
    """Is text in the language?"""
    return automaton.accepts(run(automaton, automaton.start, text))
