"""What genctl raises: one class per kind of mistake, each with the place, the reason and a hint.

    try:
        genctl.regex("(abc")
    except genctl.ConstraintError as error:
        print(error.span, error.reason, error.hint)

Nothing is raised for a dead end inside a sampler (a log-weight of `-inf`); at the edge it is a `DeadEndError`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any


class GenctlError(Exception):
    """The base of everything genctl raises on purpose."""


class ConstraintError(GenctlError, ValueError):
    """A rule that cannot be enforced exactly, refused when it is compiled.

    source: what was given (pattern, schema, type), as text.
    pointer: JSON pointer into a schema ("" is its root), or None.
    span: (start, end) characters of a pattern, or None.
    """

    def __init__(
        self,
        reason: str,
        *,
        source: str | None = None,
        pointer: str | None = None,
        span: tuple[int, int] | None = None,
        hint: str | None = None,
    ) -> None:
        self.reason, self.source, self.pointer, self.span, self.hint = reason, source, pointer, span, hint
        super().__init__(self._message())

    def _message(self) -> str:
        places = [] if self.pointer is None else [self.pointer or "the root of the schema"]
        quote: list[str] = []
        if self.span is not None:
            start, end = self.span
            places.append(f"characters {start}-{end}")
            if self.source is not None and "\n" not in self.source and len(self.source) <= 120:
                quote = [f"    {self.source}", "    " + " " * start + "^" * max(1, end - start)]
        lines = [f"at {', '.join(places)}: {self.reason}" if places else self.reason, *quote]
        if self.hint:
            lines.append(f"hint: {self.hint}")
        return "\n".join(lines)


class UnsatisfiableError(ConstraintError):
    """A rule that no finite text obeys: empty, or endless recursion."""


class VocabularyError(GenctlError, ValueError):
    """A tokenizer whose bytes cannot be read exactly, or that does not belong to the model."""


class ModelError(GenctlError, ValueError):
    """A model that cannot be found, read or used."""


class ArgumentError(GenctlError, TypeError):
    """An argument with an unknown name, or a value outside its range."""


class DeadEndError(GenctlError, RuntimeError):
    """Every particle met a prefix that no token may continue, or was cut before its text was complete."""


class IncompleteError(GenctlError, ValueError):
    """The value of a text that was cut before it was complete was asked for."""


class QueryError(GenctlError, RuntimeError):
    """A statement that the database did not run to its end: refused, failed, or out of time."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a generation. checkpoint: plain JSON, from which `generate(..., resume=checkpoint)` goes on."""

    def __init__(self, message: str, checkpoint: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.checkpoint = checkpoint


class GenctlWarning(UserWarning):
    """Something in a rule that is legal but hardly meant, such as a misspelt keyword."""


_heard: ContextVar[list[str] | None] = ContextVar("_heard", default=None)
_told: ContextVar[bool] = ContextVar("_told", default=True)


def warn(message: str) -> None:
    """A GenctlWarning from a compiler; `hearing` learns of it whatever the filters of `warnings` say."""
    heard = _heard.get()
    if heard is not None:
        heard.append(message)
    if _told.get():
        warnings.warn(message, GenctlWarning, stacklevel=3)


@contextmanager
def hearing(*, told: bool = True) -> Iterator[list[str]]:
    """The messages that compilers warn of inside the block. told: is the user told of them too?"""
    heard: list[str] = []
    tokens = _heard.set(heard), _told.set(told)
    try:
        yield heard
    finally:
        _heard.reset(tokens[0])
        _told.reset(tokens[1])
