r"""Which characters a one-character node of re's syntax tree matches, as `re` itself has it.

    characters_of((c.IN, [(c.RANGE, (0x61, 0x7A))]), re.IGNORECASE)      # also the Kelvin sign and the long s

Classes are read off all code points, and a node that ignores case is compiled alone by re's own compiler, so the
Unicode tables and the case folding are those of the running Python.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from functools import cache, lru_cache
from re import _compiler, _parser  # type: ignore[attr-defined]
from re import _constants as c  # type: ignore[attr-defined]
from typing import Any, TypeAlias

import numpy as np

from genctl.compilers.characters import ALL, LAST, Characters
from genctl.compilers.regex.source import Refusal

Node: TypeAlias = "tuple[Any, Any]"  # an opcode of re._constants and its argument

_CHARACTER_FLAGS = int(re.IGNORECASE | re.ASCII | re.UNICODE | re.DOTALL)
NEWLINE = Characters.of("\n")


def characters_of(node: Node, flags: int) -> Characters:
    op, av = node
    key: Hashable = tuple(av) if op is c.IN else av
    return _characters(op, key, flags & _CHARACTER_FLAGS)


def is_character(node: Node) -> bool:
    return node[0] in _SETS


@lru_cache(65536)
def _characters(op: Any, av: Any, flags: int) -> Characters:
    """The characters that a one-character node matches, as re has it. av is hashable, flags are _CHARACTER_FLAGS."""
    members = _SETS[op](av, flags)
    if flags & re.IGNORECASE and op is not c.ANY:
        cased = Characters.of(_cased())
        return (members - cased) | _matching_cased(op, av, flags)
    return members


def _literal(code: int, flags: int) -> Characters:
    if 0xD800 <= code <= 0xDFFF:
        raise Refusal("surrogate", None, "a surrogate is not a character of a text", r"write \U0001F600, one character")
    return Characters.of([(code, code)])


def _range(bounds: tuple[int, int], flags: int) -> Characters:
    return Characters.of([(_literal(bounds[0], flags).ranges[0][0], _literal(bounds[1], flags).ranges[0][1])])


def _set(members: Sequence[Node], flags: int) -> Characters:
    negated = bool(members) and members[0][0] is c.NEGATE
    found = Characters.of([r for op, av in members[negated:] for r in _SETS[op](av, flags).ranges])
    return ~found if negated else found


def _category(code: Any, flags: int) -> Characters:
    escape = _CATEGORIES[code]
    found = _read_category(escape.lower(), bool(flags & re.ASCII))
    return ~found if escape.isupper() else found


_CATEGORIES = {
    c.CATEGORY_DIGIT: "d",
    c.CATEGORY_NOT_DIGIT: "D",
    c.CATEGORY_SPACE: "s",
    c.CATEGORY_NOT_SPACE: "S",
    c.CATEGORY_WORD: "w",
    c.CATEGORY_NOT_WORD: "W",
}
_SETS: dict[Any, Callable[[Any, int], Characters]] = {
    c.LITERAL: _literal,
    c.NOT_LITERAL: lambda code, flags: ~_literal(code, flags),
    c.RANGE: _range,
    c.CATEGORY: _category,
    c.IN: _set,
    c.ANY: lambda _, flags: ALL if flags & re.DOTALL else ~NEWLINE,
}
WORD_NODE = (c.IN, ((c.CATEGORY, c.CATEGORY_WORD),))


@cache
def _read_category(escape: str, ascii_only: bool) -> Characters:
    r"""What \d, \s or \w matches in the running Python, with or without re.ASCII."""
    everything = np.arange(LAST + 1, dtype="<u4").tobytes().decode("utf-32-le", "surrogatepass")
    runs = re.finditer(rf"\{escape}+", everything, re.ASCII if ascii_only else 0)
    return Characters.of((run.start(), run.end() - 1) for run in runs)


@cache
def _cased() -> str:
    """The only characters that re.IGNORECASE can make a class gain or lose."""
    upper = [code for code in range(LAST + 1) if _compiler._sre.unicode_iscased(code)]
    return "".join(map(chr, sorted({*upper, *map(_compiler._sre.unicode_tolower, upper)})))


def _matching_cased(op: Any, av: Any, flags: int) -> Characters:
    """The cased characters that the node matches, found by compiling it alone with re's own compiler."""
    state = _parser.State()
    state.flags = flags
    compiled = _compiler.compile(_parser.SubPattern(state, [(op, av)]), flags)
    return Characters.of("".join(compiled.findall(_cased())))
