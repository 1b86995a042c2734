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
from genctl.constraints.checked import NO_CHECKS, Checks, Place, Scanner

PRINTABLE = frozenset(b"\n" + bytes(range(0x20, 0x7F)))
BLANKS = frozenset(b" \n")
BLANK = 1 / 16  # a blank counts for so many other bytes: most grammars allow it nearly everywhere
TRIES = 30  # walks of which one has to pass the checks
DETOUR = 40  # bytes too many after which a walk is given up that checks keep from its end
STOP = 0.25  # how often a walk ends where it may


def sample(
    automaton: Automaton,
    rng: Generator,
    *,
    size: int = 60,
    state: int | None = None,
    checks: Checks = NO_CHECKS,
    begun: bytes = b"",
) -> bytes | None:
    """A text that leads from state (by default the start) to acceptance, printable where that is possible.

    After `size` bytes it takes a shortest way to an end. b"" from the dead state. checks: what the text, with `begun`
    in front of it, must pass too; None if in TRIES walks none did, for a walk may lead to where all ways are refused.
    """
    here = automaton.start if state is None else state
    if not checks:
        return _walk(automaton, rng, size, here) or b""
    scanner = Scanner(checks)
    place = scanner.read(scanner.start, begun)
    if place is None:
        return None
    walks = (_walk(automaton, rng, size + extra, here, scanner, place) for extra in range(TRIES))
    return next((text for text in walks if text is not None and checks.accepts(begun + text)), None)


def _walk(
    automaton: Automaton,
    rng: Generator,
    size: int,
    here: int,
    scanner: Scanner | None = None,
    place: Place | None = None,
) -> bytes | None:
    """None where all ways on are refused before the text may end."""
    most, text = size + automaton.distance(here) + DETOUR, bytearray()
    while True:
        options = _options(automaton, here, homeward=len(text) >= size)
        if scanner is not None and place is not None:
            passing = _passing(options, scanner, place)
            options = passing or _passing(_options(automaton, here, homeward=False), scanner, place)
        if scanner is not None and len(text) > most:
            options = {}
        may_end = automaton.accepts(here)
        if not options or (may_end and (len(text) >= size or rng.random() < STOP)):
            return bytes(text) if may_end else None
        targets = list(options)
        shares = [math.sqrt(sum(BLANK if byte in BLANKS else 1 for byte in options[target])) for target in targets]
        here = targets[rng.choice(len(targets), p=[share / sum(shares) for share in shares])]
        text.append(rng.choice(list(options[here])))
        if scanner is not None and place is not None:
            place = scanner.read(place, bytes(text[-1:]))


def _passing(options: dict[int, bytes], scanner: Scanner, place: Place) -> dict[int, bytes]:
    """The options without the bytes that are refused."""
    passing = {
        target: bytes(byte for byte in members if scanner.read(place, bytes((byte,))) is not None)
        for target, members in options.items()
    }
    return {target: members for target, members in passing.items() if members}


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
