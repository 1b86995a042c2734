"""White space between the marks of arrays and objects: always bounded, never before or behind the whole text.

STYLES["bounded"].comma        # `,` and then nothing, one space, or a new line and up to 20 spaces
"""

from __future__ import annotations

from genctl.automata.expressions import EMPTY, Expression, Literal, concat, optional, repeat, union
from genctl.compilers.json_schema.context import Space
from genctl.errors import ConstraintError

MAX_INDENT = 20

_SPACE = Literal(b" ")
_LINE: Expression = concat(Literal(b"\n"), repeat(_SPACE, 0, MAX_INDENT))
_GAP = optional(_LINE)

STYLES = {
    "compact": Space(EMPTY, Literal(b","), Literal(b":"), EMPTY),
    "spaced": Space(EMPTY, Literal(b", "), Literal(b": "), EMPTY),
    "bounded": Space(
        opened=_GAP,
        comma=concat(Literal(b","), union(EMPTY, _SPACE, _LINE)),
        colon=concat(Literal(b":"), optional(_SPACE)),
        closing=_GAP,
    ),
}


def style(whitespace: str | int) -> Space:
    """The style of this name, or with every item on a line of its own, indented by that many spaces a level."""
    if isinstance(whitespace, int) and not isinstance(whitespace, bool) and 0 <= whitespace <= MAX_INDENT:
        return _indented(Literal(b" " * whitespace))
    if not isinstance(whitespace, str) or whitespace not in STYLES:
        known = ", ".join(map(repr, STYLES))
        raise ConstraintError(f"whitespace must be {known} or a number from 0 to {MAX_INDENT}, not {whitespace!r}")
    return STYLES[whitespace]


def _indented(step: Literal) -> Space:
    line = Literal(b"\n")
    inner = concat(line, repeat(step, 1, MAX_INDENT)) if step.text else line
    outer = concat(line, repeat(step, 0, MAX_INDENT)) if step.text else line
    return Space(inner, concat(Literal(b","), inner), Literal(b": "), outer)
