"""Prompts of several models at once: each member reads its own, all read the text behind them.

    ids = woven([a.encode("Hi"), b.encode("Say: Hi")], size)      # size: V, the number of symbols that all share
    read_by(1, 2, [*ids, 5], size)                                # what b reads: its prompt, and symbol 5

An id below V is a symbol for all of n members; V + n t + m is token t for member m alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from genctl.errors import ArgumentError
from genctl.models.base import Prompt
from genctl.models.sets import SetPrompt

Template: TypeAlias = str | Callable[[Prompt], Prompt] | None

PLACE = "{prompt}"  # where a template has the prompt


def woven(spelled: Sequence[Sequence[int]], size: int) -> list[int]:
    """The ids of each of n members, one behind the other."""
    return [size + len(spelled) * token + m for m, ids in enumerate(spelled) for token in ids]


def read_by(m: int, n: int, row: Sequence[int], size: int) -> list[int]:
    """What member m of n reads."""
    return [i if i < size else (i - size) // n for i in row if i < size or (i - size) % n == m]


def given(row: Sequence[int], size: int) -> int:
    """How many ids are a prompt: up to the last that is not for all members."""
    own = (len(row) - i for i, token in enumerate(reversed(row)) if token >= size)
    return next(own, 0)


def templates(prompts: Sequence[Template] | None, n: int) -> list[Callable[[Prompt], Prompt]]:
    """What becomes of a prompt, for each of n members."""
    if prompts is None:
        return [_as_it_is] * n
    if isinstance(prompts, str) or len(prompts) != n:
        told = f"one text {prompts!r}" if isinstance(prompts, str) else f"{len(prompts)}"
        raise ArgumentError(f"prompts has {told} for {n} models\nhint: give a function, a text or None for each model")
    return [template_of(prompt, f"prompts[{m}]") for m, prompt in enumerate(prompts)]


def template_of(template: Template, name: str) -> Callable[[Prompt], Prompt]:
    """name: of the argument, for errors."""
    if template is None:
        return _as_it_is
    if callable(template):
        return _checked(template, name)
    if not isinstance(template, str) or PLACE not in template:
        raise ArgumentError(
            f"{name} is {template!r}\nhint: give a function of the prompt, a text with {PLACE} in it, or None"
        )

    def filled(prompt: Prompt) -> Prompt:
        if isinstance(prompt, str):
            return template.replace(PLACE, prompt)
        if isinstance(prompt, bytes):
            return template.encode().replace(PLACE.encode(), prompt)
        raise ArgumentError(
            f"{name} is the text {template!r}, into which chat messages and sets do not fit\nhint: give a function"
        )

    return filled


def takes(function: Callable[..., Any], count: int) -> bool:
    """Can it be called with so many arguments? True where it does not say."""
    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:  # one that is not written in Python
        return True
    return True


def _checked(function: Callable[[Prompt], Prompt], name: str) -> Callable[[Prompt], Prompt]:
    if not takes(function, 1):
        raise ArgumentError(f"{name} is {function!r:.60}, it must be a function of the prompt alone")

    def made(prompt: Prompt) -> Prompt:
        after = function(prompt)
        if not isinstance(after, str | bytes | SetPrompt) and not _are_messages(after):
            raise ArgumentError(f"{name} made {after!r:.60} of the prompt, expected text, bytes or chat messages")
        return after

    return made


def _are_messages(given: object) -> bool:
    return isinstance(given, Sequence) and bool(given) and all(isinstance(one, Mapping) for one in given)


def _as_it_is(prompt: Prompt) -> Prompt:
    return prompt
