"""Random sentences of a language: what a grammar allows, seen by examples.

    sample(rule.automaton, np.random.default_rng(0))             # b'(7*41)-k'
    sample(automaton, rng, state=run(automaton, automaton.start, b'{"days": '))

A random walk over the automaton that ends for certain. It is no sample of any model: bytes that lead to the same state
share the square root of their number, so that a quotation mark that ends a string is as likely as one letter in ten.
"""

from __future__ import annotations

import math

from numpy.random import Generator

from genctl.automata.base import Automaton, next_bytes

PRINTABLE = frozenset(b"\n" + bytes(range(0x20, 0x7F)))
BLANKS = frozenset(b" \n")
BLANK = 1 / 16  # a blank counts for so many other bytes: most grammars allow it nearly everywhere
STOP = 0.25  # how often a walk ends where it may


def sample(automaton: Automaton, rng: Generator, *, size: int = 60, state: int | None = None) -> bytes:
    """A text that leads from state (by default the start) to acceptance, printable where that is possible.

    After `size` bytes it takes a shortest way to an end. b"" from the dead state.
    """
    here, text = automaton.start if state is None else state, bytearray()
    while True:
        options = _options(automaton, here, homeward=len(text) >= size)
        if not options or (automaton.accepts(here) and (len(text) >= size or rng.random() < STOP)):
            return bytes(text)
        targets = list(options)
        shares = [math.sqrt(sum(BLANK if byte in BLANKS else 1 for byte in options[target])) for target in targets]
        here = targets[rng.choice(len(targets), p=[share / sum(shares) for share in shares])]
        text.append(rng.choice(list(options[here])))


def _options(automaton: Automaton, state: int, *, homeward: bool) -> dict[int, bytes]:
    """State -> the bytes that lead there; unprintable ones only if there are no others."""
    possible = next_bytes(automaton, state)
    if homeward:
        near = automaton.distance(state)
        possible = bytes(b for b in possible if automaton.distance(automaton.step(state, b)) < near)
    printable = bytes(byte for byte in possible if byte in PRINTABLE)
    options: dict[int, bytes] = {}
    for byte in printable or possible:
        target = automaton.step(state, byte)
        options[target] = options.get(target, b"") + bytes((byte,))
    return options
