r"""Where the constructs of a Python regular expression are: the standard library's parser keeps no positions.

    constructs(r"(a)\1(?>b*)c++")
    # {"backreference": [(3, 5)], "atomic": [(5, 11)], "possessive": [(12, 14)]}

A span is (start, end) in characters. Groups are listed in the order in which they open, with their whole text.
"""

from __future__ import annotations

import re
from collections import defaultdict

Span = tuple[int, int]

_QUANTIFIER = r"(?:[*+?]|\{(?!\})[0-9]*(?:,[0-9]*)?\})"
_SURROGATE = r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}|\\U0000[dD][89a-fA-F][0-9a-fA-F]{2}|[\ud800-\udfff]"
_TOKEN = rf"""
    (?P<comment>\(\?\#[^)]*\)?)
  | (?P<conditional>\(\?\([^)]*\))
  | (?P<backreference>\(\?P=[^)]*\)|\\(?![0-7]{{3}})[1-9][0-9]?)
  | (?P<look>\(\?<?[=!])
  | (?P<atomic>\(\?>)
  | (?P<flags>\(\?(?P<on>[aiLmsux]*)-?(?P<off>[imsx]*)(?P<scope>[:)]))
  | (?P<group>\()
  | (?P<close>\))
  | (?P<possessive>{_QUANTIFIER}\+)
  | (?P<quantifier>{_QUANTIFIER}\??)
  | (?P<surrogate>{_SURROGATE})
  | (?P<escape>\\.)
  | (?P<set>\[\^?\]?(?:\\.|[^\]\\])*\])
  | (?P<other>.)
"""
_TOKENS = re.compile(_TOKEN, re.VERBOSE | re.DOTALL)
_VERBOSE_TOKENS = re.compile(r"(?P<remark>\#[^\n]*) |" + _TOKEN, re.VERBOSE | re.DOTALL)
_SET_SURROGATES = re.compile(rf"(?P<surrogate>{_SURROGATE})|\\.", re.DOTALL)
_LISTED = {"backreference", "conditional", "look", "atomic", "possessive", "surrogate"}
_GROUPS = {"conditional", "look", "atomic", "group"}


def constructs(pattern: str, verbose: bool = False) -> dict[str, list[Span]]:
    """Spans by kind (backreference, conditional, look, atomic, possessive, surrogate) of a pattern that `re` can parse.

    verbose: does re.VERBOSE hold for the whole pattern, by a flag or by `(?x)`?
    """
    found: dict[str, list[Span]] = defaultdict(list)
    opened: list[tuple[str, int, bool]] = []  # (kind, index among the spans of the kind, verbose outside)
    position = 0
    while position < len(pattern):
        token = (_VERBOSE_TOKENS if verbose else _TOKENS).match(pattern, position)
        assert token is not None, "the last alternative matches any character"
        kind, position = token.lastgroup or "", token.end()
        if kind in _GROUPS or token["scope"] == ":":
            opened.append((kind, len(found[kind]), verbose))
            verbose = (verbose or "x" in (token["on"] or "")) and "x" not in (token["off"] or "")
        elif kind == "close" and opened:
            group, index, verbose = opened.pop()
            found[group][index] = (found[group][index][0], position)
        elif kind == "set":
            found["surrogate"] += [m.span() for m in _SET_SURROGATES.finditer(pattern, *token.span()) if m["surrogate"]]
        found[kind].append(token.span())
    return {kind: spans for kind, spans in found.items() if kind in _LISTED}


def printable(pattern: str) -> str:
    """The pattern for an error message, a replacement character for each surrogate."""
    return re.sub("[\ud800-\udfff]", "\ufffd", pattern)


class Refusal(Exception):
    """A construct that no expression stands for exactly; `node` is the argument of its opcode."""

    def __init__(self, kind: str, node: object, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.kind, self.node, self.reason, self.hint = kind, node, reason, hint
