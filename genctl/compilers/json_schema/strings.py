r"""minLength, maxLength (in Unicode code points) and pattern (an ECMA-262 search), all in one automaton.

    read(Place("", {"minLength": 2, "pattern": "^a"}, DRAFTS[2020]))

A string is produced in every way JSON can spell it, raw UTF-8 or escapes; lone surrogates are not produced.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache, partial, reduce
from typing import Any, cast

from genctl.automata.base import DEAD, Automaton
from genctl.automata.expressions import NOTHING, Expression, Literal, Tracked, concat, repeat
from genctl.automata.pushdown import GrammarAutomaton
from genctl.automata.tabulated import intersection
from genctl.compilers.characters import ALL, Encoder, json_string, utf8
from genctl.compilers.json_schema.context import Context, Facet, Place, Pointer
from genctl.compilers.json_schema.words import Names
from genctl.compilers.regex import pattern_expression
from genctl.errors import ConstraintError

QUOTE = Literal(b'"')
CONTENT = repeat(json_string(ALL))


@dataclass(frozen=True, slots=True)
class Pattern:
    """A regular expression and where it stands."""

    source: str
    pointer: Pointer = field(compare=False)

    def automaton(self, encode: Encoder = json_string) -> GrammarAutomaton:
        """The strings in which it is found, without quotes; refused with its pointer where it cannot be honoured."""
        try:
            return _searching(self.source, cast(Any, encode))
        except ConstraintError as error:
            raise ConstraintError(
                error.reason, source=self.source, pointer=self.pointer, span=error.span, hint=error.hint
            ) from error


@lru_cache(256)
def _searching(pattern: str, encode: Any) -> GrammarAutomaton:
    return GrammarAutomaton(pattern_expression(pattern, encode=encode, search=True, dialect="ecma"))


@dataclass(frozen=True, slots=True)
class Strings(Facet):
    """Strings of least to most code points in which each of the patterns is found."""

    least: int = 0
    most: int | None = None
    patterns: tuple[Pattern, ...] = ()

    def meet(self, other: Strings, /) -> Strings:
        most = [bound for bound in (self.most, other.most) if bound is not None]
        patterns = dict.fromkeys(self.patterns + other.patterns)
        return Strings(max(self.least, other.least), min(most, default=None), tuple(patterns))

    def admits(self, value: Any, context: Context, /) -> bool:
        if len(value) < self.least or (self.most is not None and len(value) > self.most):
            return False
        return all(context.found(p.source, partial(p.automaton, utf8), value) for p in self.patterns)

    def conflict(self, context: Context, /) -> str | None:
        if self.most is not None and self.least > self.most:
            return f"no string has at least {self.least} and at most {self.most} characters"
        if self.patterns and self.expression(context) == NOTHING:
            patterns = " and ".join(f"`{pattern.source}`" for pattern in self.patterns)
            size = f", {self.least} to {'any number of' if self.most is None else self.most} characters long,"
            bounded = self.least or self.most is not None
            return f"no string{size if bounded else ''} matches {patterns}"
        return None

    def expression(self, context: Context, /) -> Expression:
        return concat(QUOTE, self._content(context), QUOTE)

    def _content(self, context: Context) -> Expression:
        """The strings without their quotes. A pattern alone is a rule; with anything else it is one automaton."""
        sized = repeat(json_string(ALL), self.least, self.most)
        if not self.patterns:
            return sized
        if len(self.patterns) == 1 and not self.least and self.most is None:
            automaton = self.patterns[0].automaton()
            if automaton.start != DEAD and automaton.engine is not None:
                return context.rule(("pattern", self.patterns[0].source), lambda: automaton.grammar.start)
        return context.automaton(self, partial(self._product, sized))

    def _product(self, sized: Expression) -> Automaton:
        parts: list[Automaton] = [pattern.automaton() for pattern in self.patterns]
        if self.least or self.most is not None:
            parts.append(GrammarAutomaton(sized))
        return reduce(intersection, parts)


def strings_but(names: frozenset[str]) -> Expression:
    """Every string that is not one of the names, however it is spelled, with its quotes."""
    return concat(QUOTE, Tracked(CONTENT, Names(names), inside=False) if names else CONTENT, QUOTE)


def strings_of(names: Iterable[str]) -> Expression:
    """Each of the names, however it is spelled, with its quotes."""
    return concat(QUOTE, Tracked(CONTENT, Names(names), inside=True), QUOTE)


def read(place: Place) -> Strings:
    """What the keywords for strings say at this place."""
    pattern = place.get("pattern", str, "a string")
    patterns = () if pattern is None else (Pattern(pattern, place.at("pattern")),)
    return Strings(place.count("minLength", 0), place.count("maxLength", None), patterns)
