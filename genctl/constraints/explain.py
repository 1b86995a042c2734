"""Why a text does or does not obey a language: the place, and what could have stood there.

verdict = explain(rule.automaton, '{"days": x}')
verdict.column, verdict.expected                  # 10, ("'\\"'", "'-'", "'0'-'9'", ...)
print(verdict)                                    # rejected at line 1, column 10 (byte 9): found 'x', expected ...
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from numpy.random import default_rng

from genctl.automata.base import DEAD, Automaton, next_bytes, run, shortest_completion
from genctl.automata.pushdown import GrammarAutomaton
from genctl.constraints.checked import NO_CHECKS, Checks
from genctl.constraints.sentences import sample

Status = Literal["accepted", "rejected", "incomplete"]


@dataclass(frozen=True)
class Verdict:
    """status: "accepted", "rejected" (no text goes on from here) or "incomplete" (more must follow).

    offset: bytes that were read before the rejected one, or all. line, column: the same place, both from 1, in lines
    that end with a line feed and in characters. found: the character there, "" at the end. expected: what may stand
    there: names of the grammar if it has some, else ranges of bytes; and the end of the text, if it may end there.
    completion: a shortest rest that makes what was read complete.
    """

    status: Status
    offset: int
    line: int
    column: int
    found: str
    expected: tuple[str, ...]
    completion: str

    def __str__(self) -> str:
        if self.status == "accepted":
            return "accepted"
        found = f"found {self.found!r}" if self.found else "found the end of the text"
        *others, last = self.expected
        expected = f"{', '.join(others)} or {last}" if others else last
        place = f"line {self.line}, column {self.column} (byte {self.offset})"
        return f"{self.status} at {place}: {found}, expected {expected}"


def explain(automaton: Automaton, text: str, checks: Checks = NO_CHECKS) -> Verdict:
    """Read the text as far as the language allows, and its checks."""
    raw, state = text.encode(errors="surrogatepass"), automaton.start
    for offset, byte in enumerate(raw):
        target = automaton.step(state, byte)
        if target == DEAD:
            raw = raw[:offset]
            break
        state = target
    read = checks.reads(raw) if checks else len(raw)
    if read < len(raw):
        state = run(automaton, automaton.start, raw[:read])
    if read < len(text.encode(errors="surrogatepass")):
        return _verdict("rejected", automaton, state, text, read, checks)
    ends = automaton.accepts(state)
    status: Status = "incomplete" if not ends else "accepted" if not checks or checks.accepts(raw) else "rejected"
    return _verdict(status, automaton, state, text, read, checks)


def _verdict(status: Status, automaton: Automaton, state: int, text: str, offset: int, checks: Checks) -> Verdict:
    raw = text.encode(errors="surrogatepass")
    begun = sum(byte & 0xC0 != 0x80 for byte in raw[: offset + 1])  # characters, the one of the byte included
    index = begun - (offset < len(raw))
    before = text[:index]
    return Verdict(
        status=status,
        offset=offset,
        line=before.count("\n") + 1,
        column=len(before) - before.rfind("\n"),
        found=text[index : index + 1],
        expected=_passing(automaton, state, raw[:offset], checks) if checks else expected(automaton, state),
        completion=_completion(automaton, state, raw[:offset], checks).decode(errors="replace"),
    )


def _passing(automaton: Automaton, state: int, read: bytes, checks: Checks) -> tuple[str, ...]:
    """What may come: what is expected of the language, unless checks refuse some of it."""
    possible = next_bytes(automaton, state)
    passing = bytes(byte for byte in possible if checks.reads(read + bytes((byte,))) > len(read))
    ends = automaton.accepts(state) and checks.accepts(read)
    if passing == possible and ends == automaton.accepts(state):
        return expected(automaton, state)
    return (*byte_ranges(passing), *["the end of the text"] * ends) or ("nothing",)


def _completion(automaton: Automaton, state: int, read: bytes, checks: Checks) -> bytes:
    """Short, and with checks not always the shortest; empty where none was found that passes them."""
    shortest = shortest_completion(automaton, state)
    if not checks or checks.accepts(read + shortest):
        return shortest
    found = sample(automaton, default_rng(0), size=0, state=state, checks=checks, begun=read)
    return b"" if found is None else found


def expected(automaton: Automaton, state: int) -> tuple[str, ...]:
    """What may come in a state: rules of a grammar that may begin, other bytes, the end; "nothing" where it is dead."""
    names, others = list[str](), next_bytes(automaton, state)
    if isinstance(automaton, GrammarAutomaton):
        names, others = automaton.expected(state)
    ends = ["the end of the text"] if automaton.accepts(state) else []
    return (*names, *byte_ranges(others), *ends) or ("nothing",)


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
