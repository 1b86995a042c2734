r"""A finite set of strings in every way JSON can spell them: what a string must, or must not, be.

    Tracked(repeat(json_string(ALL)), Names(["red", "blue"]), inside=True)       # red, r\u0065d, blue ...

Ten thousand names cost their prefix tree; spellings with escapes are worked out where a text uses them.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from json.encoder import encode_basestring

import numpy as np

from genctl.automata.base import UNREACHABLE
from genctl.automata.expressions import Letters


class Names:
    """Words, in the sense of automata/expressions.py, inside a JSON string, without the quotes."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = sorted(set(names))

    @property
    def letters(self) -> Letters:
        code_points = np.frombuffer("".join(self._names).encode("utf-32-le"), np.int32)
        return Letters(code_points, np.array([*accumulate(map(len, self._names), initial=0)], np.int64))

    @property
    def alphabet(self) -> list[int]:
        return [*{*"".join(self._names).encode(), *_ESCAPES}]

    def begin(self, inside: bool, /) -> tuple[bool, int]:
        if not inside:
            return "" not in self._names, 0
        return "" in self._names, min(map(_size, filter(None, self._names)), default=UNREACHABLE + 1) - 1

    def shortest(self, inside: bool, /) -> int:
        if not inside:
            return int("" in self._names)
        return min(map(_size, self._names), default=UNREACHABLE)


def _size(name: str) -> int:
    """Fewest bytes that spell a name."""
    return len(encode_basestring(name).encode()) - 2


_ESCAPES = rb"\"/bfnrtu0123456789abcdefABCDEF"
