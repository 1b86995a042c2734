"""Why a text does or does not obey a language: the place, and what could have stood there.

verdict = explain(rule.automaton, '{"days": x}')
verdict.offset, verdict.expected          # 9, '"0-9 - and so on"'
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from genctl.automata.base import DEAD, Automaton, next_bytes, shortest_completion


@dataclass(frozen=True)
class Verdict:
    """status: "accepted", "rejected" (no text goes on from here) or "incomplete" (more must follow).

    offset: bytes that were read before the rejected one, or all. expected: the bytes that may stand there, as
    text. completion: a shortest rest that makes what was read complete.
    """

    status: Literal["accepted", "rejected", "incomplete"]
    offset: int
    expected: str
    completion: str


def explain(automaton: Automaton, text: str) -> Verdict:
    """Read the text as far as the language allows."""
    raw, state = text.encode(), automaton.start
    for offset, byte in enumerate(raw):
        target = automaton.step(state, byte)
        if target == DEAD:
            return _verdict("rejected", automaton, state, offset)
        state = target
    return _verdict("accepted" if automaton.accepts(state) else "incomplete", automaton, state, len(raw))


def _verdict(
    status: Literal["accepted", "rejected", "incomplete"], automaton: Automaton, state: int, offset: int
) -> Verdict:
    ends = ["the end of the text"] if automaton.accepts(state) else []
    expected = ", ".join(ends + byte_ranges(next_bytes(automaton, state))) or "nothing"
    completion = shortest_completion(automaton, state).decode(errors="replace")
    return Verdict(status, offset, expected, completion)


def byte_ranges(members: bytes) -> list[str]:
    """Sorted bytes as readable ranges: b"abcx" -> ["'a'-'c'", "'x'"]."""
    ranges: list[tuple[int, int]] = []
    for byte in members:
        if ranges and ranges[-1][1] == byte - 1:
            ranges[-1] = ranges[-1][0], byte
        else:
            ranges.append((byte, byte))
    return [_byte(low) if low == high else f"{_byte(low)}-{_byte(high)}" for low, high in ranges]


def _byte(byte: int) -> str:
    return repr(chr(byte)) if byte < 0x80 else f"\\x{byte:02x}"
