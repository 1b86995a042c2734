"""Prompts with a set in them, whose order the model cannot see (McIlroy-Young et al. 2024, "Order-independence").

    prompt = SetPrompt("Answer with one of", [" red", " green", " blue"], "\\nThe sky is")
    row = marked(prefix, members, suffix)                 # token ids, and marks around the members
    parts_of(row)                                         # SetParts(prefix, members, rest)

Each member starts at the position behind the prefix and sees the prefix and itself. What follows starts behind the
longest member and sees everything. Nothing tells the members apart but what they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from genctl.errors import ArgumentError, ModelError

Part: TypeAlias = str | bytes | Sequence[int]

OPEN, NEXT, CLOSE = -(2**40), -(2**40) - 1, -(2**40) - 2  # no token has such an id
MARKS = frozenset({OPEN, NEXT, CLOSE})


@dataclass(frozen=True)
class SetPrompt:
    """A prompt for `generate`: members in no order between a prefix and a suffix. Each part is text or token ids.

    Parts are cut into tokens one by one, the prefix with the special tokens that open a text. An empty prefix is what
    an empty prompt is. Raises ArgumentError for no members, an empty member or an empty suffix (the next token follows
    the last one of the suffix, since the set has no last member), and for parts that are no text and no ids.
    """

    prefix: Part
    members: Sequence[Part]
    suffix: Part

    def __post_init__(self) -> None:
        if isinstance(self.members, str | bytes) or not isinstance(self.members, Sequence) or not self.members:
            raise ArgumentError(f"the members of a SetPrompt are {self.members!r}, expected a list of at least one")
        object.__setattr__(self, "prefix", _part("prefix", self.prefix))
        members = [_filled(f"member {i}", member) for i, member in enumerate(self.members)]
        object.__setattr__(self, "members", tuple(members))
        object.__setattr__(self, "suffix", _filled("suffix", self.suffix))


def _filled(name: str, given: Any) -> Part:
    part = _part(name, given)
    if not part:
        raise ArgumentError(f"the {name} of a SetPrompt is empty")
    return part


def _part(name: str, given: Any) -> Part:
    """Text as it is, ids as a tuple of integers."""
    if isinstance(given, str | bytes):
        return given
    ids = given.tolist() if hasattr(given, "tolist") else given
    if not isinstance(ids, Sequence) or not all(
        isinstance(i, int | np.integer) and not isinstance(i, bool) for i in ids
    ):
        raise ArgumentError(f"the {name} of a SetPrompt is {given!r}, expected text, bytes or a list of token ids")
    return tuple(int(i) for i in ids)


class SetParts(NamedTuple):
    """rest: the suffix, and what was generated behind it."""

    prefix: tuple[int, ...]
    members: tuple[tuple[int, ...], ...]
    rest: tuple[int, ...]


def marked(prefix: Sequence[int], members: Sequence[Sequence[int]], suffix: Sequence[int]) -> list[int]:
    """One row of ids that says where the members are. One member alone is in order: that is a plain prompt."""
    if len(members) == 1:
        return [*prefix, *members[0], *suffix]
    inside = [i for member in members for i in (NEXT, *member)]
    return [*prefix, OPEN, *inside[1:], CLOSE, *suffix]


def no_sets(model: object) -> ModelError:
    """What `encode` raises for a SetPrompt where tokens have no positions of their own."""
    return ModelError(
        f"a {type(model).__name__} cannot read a SetPrompt: its tokens have no positions of their own\n"
        "hint: give it to a model of transformers, not to its view as bytes or to an ensemble"
    )


def parts_of(row: Sequence[int]) -> SetParts | None:
    """What `marked` wrote; None for a row without marks. Raises ArgumentError for marks in another order."""
    marks = [i for i in row if i in MARKS]
    if not marks:
        return None
    if marks != [OPEN, *[NEXT] * (len(marks) - 2), CLOSE]:
        raise ArgumentError("the marks of a set in a row of token ids are not in order\nhint: give a genctl.SetPrompt")
    first, last = row.index(OPEN), row.index(CLOSE)
    members: list[list[int]] = [[]]
    for i in row[first + 1 : last]:
        if i == NEXT:
            members.append([])
        else:
            members[-1].append(i)
    parts = SetParts(tuple(row[:first]), tuple(map(tuple, members)), tuple(row[last + 1 :]))
    if not parts.prefix or not all(parts.members) or not parts.rest:
        raise ArgumentError("a row with a set needs tokens before, in each member and behind")
    return parts
