"""Languages as expressions over bytes: what compilers write and automata are built from.

    digits = Repeat(Bytes(((0x30, 0x39),)), 1, None)
    pair = concat(Literal(b"("), digits, Literal(b")"))
    automaton = GrammarAutomaton(pair)                      # see pushdown.py

A *grammar* is an expression and named rules that `Call` refers to. `Embedded`, `Ahead` and `Behind` take
another automaton: as one symbol, as a demand on the rest of the text, as a demand on the text so far.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

from genctl.automata.base import Automaton
from genctl.kernels.records import I32, I64


@dataclass(frozen=True, slots=True)
class Bytes:
    """One byte out of sorted, disjoint, inclusive ranges."""

    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Literal:
    """Exactly these bytes."""

    text: bytes


@dataclass(frozen=True, slots=True)
class Concat:
    """The parts one after the other; no part is the empty text."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Union:
    """Any one of the parts; no part is the empty language (which has no text at all)."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """The body, `least` to `most` times (None: without bound)."""

    body: Expression
    least: int
    most: int | None


@dataclass(frozen=True, slots=True)
class Call:
    """A text of the rule with this name. here: is the rule rather a part of the one that calls it, where that is the
    last thing that it does? Then what both begin with is read once.
    """

    rule: str
    here: bool = False


@dataclass(frozen=True, slots=True)
class Embedded:
    """A text that the automaton accepts. Its look-around sees this text alone."""

    automaton: Automaton


class Item(NamedTuple):
    """One of the texts, and a value. ends: may the row end with it? required: may it not be left out?"""

    texts: tuple[bytes, ...]
    value: Expression
    ends: bool
    required: bool


@dataclass(frozen=True, slots=True)
class Row:
    """Some of the items in their order, `between` their text and their value, then the rest; `apart` before all but the
    first. What items begin with is read once, as if it were one word.
    """

    items: tuple[Item, ...]
    between: Expression
    apart: Expression
    rest: Expression


class Letters(NamedTuple):
    """The code points of words in sorted order, end to end; where each word begins, and where the last one ends."""

    code_points: I32
    offset: I64


class Words(Protocol):
    """A finite set of words, in every way a JSON string spells them."""

    @property
    def letters(self) -> Letters: ...
    @property
    def alphabet(self) -> Sequence[int]:
        """Bytes that have to be told apart from all others."""
        ...

    def begin(self, inside: bool, /) -> tuple[bool, int]:
        """(is the empty text a word, or none; further bytes to the end of the nearest word but that, or text that is
        none), where nothing is spelled yet.
        """
        ...

    def shortest(self, inside: bool, /) -> int:
        """Fewest bytes of a word (or of a text that is none); UNREACHABLE if there is no word."""
        ...


@dataclass(frozen=True, slots=True)
class Tracked:
    """A text of the body, any characters, that spells one of the words (or, not inside, none of them)."""

    body: Expression
    words: Words
    inside: bool


@dataclass(frozen=True, slots=True)
class Ahead:
    """The empty text, where the whole rest of the text is (negated: is not) accepted by the automaton."""

    automaton: Automaton
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Behind:
    """The empty text, where all of the text so far is (negated: is not) accepted by the automaton."""

    automaton: Automaton
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Everything:
    """Any bytes at all; only at the very end of an expression. Used for the rest behind a look-ahead."""


Expression: TypeAlias = (
    Bytes | Literal | Concat | Union | Repeat | Call | Row | Embedded | Tracked | Ahead | Behind | Everything
)


@dataclass(frozen=True, slots=True)
class Grammar:
    """An expression and the rules that its calls refer to."""

    start: Expression
    rules: Mapping[str, Expression]


EMPTY = Concat(())  # the language of the empty text
NOTHING = Union(())  # the language without texts
ANY_BYTE = Bytes(((0, 255),))


def concat(*parts: Expression) -> Expression:
    """The parts one after the other, flattened; NOTHING as soon as one part is."""
    flat: list[Expression] = []
    for part in parts:
        if type(part) is Concat:
            flat += part.parts
        elif type(part) is Union and not part.parts:
            return NOTHING
        elif type(part) is not Literal or part.text:
            flat.append(part)
    return flat[0] if len(flat) == 1 else Concat(tuple(flat))


def union(*parts: Expression) -> Expression:
    """Any of the parts, flattened and without repetition."""
    flat: list[Expression] = []
    for part in parts:
        if type(part) is Union:
            flat += part.parts
        else:
            flat.append(part)
    if len(flat) == 2:  # large parts differ early, but a hash reads them whole
        flat = flat[: 1 + (flat[0] != flat[1])]
    elif len(flat) > 2:
        flat = list(dict.fromkeys(flat))
    return flat[0] if len(flat) == 1 else Union(tuple(flat))


def optional(body: Expression) -> Expression:
    return union(EMPTY, body)


def repeat(body: Expression, least: int = 0, most: int | None = None) -> Expression:
    """`body{least,most}`; the trivial counts are folded away, and so are loops of loops that leave no gap."""
    if most is not None and least > most:
        return NOTHING
    if most == 0 or body == EMPTY:
        return EMPTY
    if body == NOTHING:
        return EMPTY if least == 0 else NOTHING
    if isinstance(body, Repeat) and body.least <= 1:  # k rounds of 1..m are any count of k..k * m
        most = None if most is None or body.most is None else most * body.most
        return repeat(body.body, least * body.least, most)
    return body if (least, most) == (1, 1) else Repeat(body, least, most)


def is_plain(expression: Expression) -> bool:
    """Is it made of bytes alone: no calls, other automata, words, look-around?"""
    work = [expression]
    while work:
        match work.pop():
            case Concat(parts) | Union(parts):
                work.extend(parts)
            case Repeat(body, _, _):
                work.append(body)
            case Bytes() | Literal():
                pass
            case _:
                return False
    return True
