"""Automata: deterministic readers of bytes with int states, in which state 0 is dead.

    state = run(automaton, automaton.start, b"2026-")
    automaton.accepts(state), automaton.distance(state)      # False, 5

A text is in the language when reading it ends in an accepting state. Automata are *trim*: from every state
but 0 some text leads to acceptance, so a state other than 0 is a promise that the text can be finished.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from genctl.kernels.records import DEAD, UNKNOWN, UNREACHABLE, Machine

__all__ = [
    "DEAD",
    "UNKNOWN",
    "UNREACHABLE",
    "Automaton",
    "Machine",
    "accepts",
    "next_bytes",
    "run",
    "shortest_completion",
]


class Automaton(Protocol):
    """Deterministic over bytes 0..255; state 0 is dead and steps to itself."""

    @property
    def start(self) -> int: ...
    @property
    def machine(self) -> Machine:
        """The part that is built, and what kernels build more with."""
        ...

    @property
    def generation(self) -> int:
        """How often states were forgotten that nobody holds; what is known of other states by number is void then."""
        ...

    def extend(self, status: int, /) -> None:
        """Provide what a kernel lacked that stopped with MISS or FULL; it is called again afterwards."""
        ...

    def step(self, state: int, byte: int, /) -> int: ...
    def row(self, state: int, /) -> list[int]:
        """The states after a byte of each class, built at once."""
        ...

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


def next_bytes(automaton: Automaton, state: int) -> bytes:
    """The bytes that may come next in a state."""
    return bytes(byte for byte in range(256) if automaton.step(state, byte) != DEAD)


def shortest_completion(automaton: Automaton, state: int) -> bytes:
    """A shortest text that leads from state to acceptance, the one with the smallest bytes; b"" from the dead state."""
    completion = bytearray()
    while state != DEAD and not automaton.accepts(state):
        nearest = min(next_bytes(automaton, state), key=lambda b: automaton.distance(automaton.step(state, b)))
        completion.append(nearest)
        state = automaton.step(state, nearest)
    return bytes(completion)
