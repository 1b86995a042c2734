"""The text of a grammar, and errors that name the place in it by line, column and characters.

source = Source("root ::= item")
raise source.error("rule 'item' is not defined", (9, 13), "define it: item ::= ...")
# line 1, column 10: rule 'item' is not defined
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from genctl.automata.base import DEAD
from genctl.automata.expressions import Expression
from genctl.automata.pushdown import GrammarAutomaton
from genctl.errors import ConstraintError, UnsatisfiableError

Span = tuple[int, int]


@dataclass(frozen=True)
class Source:
    """A grammar as it was given."""

    text: str

    @property
    def whole(self) -> Span:
        return 0, len(self.text)

    def error(self, reason: str, span: Span, hint: str) -> ConstraintError:
        """span: (start, end) characters; an empty one is widened to one character where there is one."""
        return ConstraintError(self._placed(reason, span), source=self.text, span=self._visible(span), hint=hint)

    def unsatisfiable(self, reason: str, span: Span, hint: str) -> UnsatisfiableError:
        return UnsatisfiableError(self._placed(reason, span), source=self.text, span=self._visible(span), hint=hint)

    def too_deep(self) -> ConstraintError:
        return self.error("the grammar is nested too deeply", self.whole, "name inner groups as rules")

    def _placed(self, reason: str, span: Span) -> str:
        before = self.text[: span[0]]
        line, column = before.count("\n") + 1, span[0] - before.rfind("\n")
        return f"line {line}, column {column}: {reason}"

    def _visible(self, span: Span) -> Span:
        start, end = span
        return start, max(end, min(start + 1, len(self.text)))


def nearest(name: str, known: Iterable[str]) -> str:
    """The most similar known names, for a hint; "" if none is similar."""
    close = get_close_matches(name, list(known), 3, 0.6)
    return f"did you mean {' or '.join(close)}?" if close else ""


def build(source: Source, start: Expression, rules: Mapping[str, Expression], span: Span) -> GrammarAutomaton:
    """The automaton of a parsed grammar. span: where its start rule is defined, for what the automaton refuses."""
    try:
        automaton = GrammarAutomaton(start, rules)
    except RecursionError:
        raise source.too_deep() from None
    except ConstraintError as error:
        raise source.error(error.reason, span, error.hint or "use a simpler grammar") from None
    if automaton.start == DEAD:
        hint = "give every rule an alternative that comes to an end without it"
        raise source.unsatisfiable("no finite text obeys the start rule", span, hint)
    return automaton
