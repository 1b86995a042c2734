r"""minLength, maxLength (in Unicode code points), pattern (an ECMA-262 search) and format, all in one automaton.

    read(Place("", {"minLength": 2, "pattern": "^a", "format": "uri"}, DRAFTS[2020]))

A string is produced in every way JSON can spell it, raw UTF-8 or escapes; lone surrogates are not produced. What a
string must not be is said as exactly as what it must be, so that a schema can be negated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache, reduce
from typing import Any, TypeAlias, cast

from genctl.automata.base import DEAD, Automaton, accepts
from genctl.automata.expressions import NOTHING, Embedded, Expression, Literal, Tracked, concat, repeat
from genctl.automata.pushdown import GrammarAutomaton
from genctl.automata.tabulated import intersection
from genctl.compilers.characters import ALL, Encoder, json_string, utf8
from genctl.compilers.json_schema.context import Context, Facet, Place, Pointer
from genctl.compilers.json_schema.formats import STANDARD, nearest
from genctl.compilers.json_schema.words import Names
from genctl.compilers.regex import pattern_expression
from genctl.errors import ConstraintError, warn

QUOTE = Literal(b'"')
CONTENT = repeat(json_string(ALL))


@dataclass(frozen=True, slots=True)
class Pattern:
    """A regular expression and where it stands."""

    source: str
    pointer: Pointer = field(compare=False)

    more = None  # what the automaton does not know

    def __str__(self) -> str:
        return f"`{self.source}`"

    def automaton(self, encode: Encoder = json_string) -> GrammarAutomaton:
        """The strings in which it is found, without quotes; refused with its pointer where it cannot be honoured."""
        try:
            return _searching(self.source, cast(Any, encode))
        except ConstraintError as error:
            raise ConstraintError(
                error.reason, source=self.source, pointer=self.pointer, span=error.span, hint=error.hint
            ) from error

    def holds(self, text: str) -> bool:
        """Is it found in the text?"""
        return accepts(self.automaton(utf8), text.encode(errors="surrogatepass"))


@lru_cache(1024)
def _searching(pattern: str, encode: Any) -> GrammarAutomaton:
    return GrammarAutomaton(pattern_expression(pattern, encode=encode, search=True, dialect="ecma", alone=True))


@dataclass(frozen=True, slots=True)
class Format:
    """A standard format and where it is asked for."""

    name: str
    pointer: Pointer = field(compare=False)

    @property
    def more(self) -> str | None:
        """What the automaton does not know; None if it is exact."""
        return STANDARD[self.name].more

    def __str__(self) -> str:
        return f"the format `{self.name}`"

    def automaton(self, encode: Encoder = json_string) -> Automaton:
        expression = STANDARD[self.name].expression(encode)
        return expression.automaton if isinstance(expression, Embedded) else GrammarAutomaton(expression)

    def holds(self, text: str) -> bool:
        return STANDARD[self.name].holds(text)


Shape: TypeAlias = Pattern | Format


@dataclass(frozen=True, slots=True)
class Strings(Facet):
    """Strings of least to most code points that have each shape of `patterns` and none of `without`.

    excluded: strings that it must not be; only: those that it may be, None for all.
    """

    least: int = 0
    most: int | None = None
    patterns: tuple[Shape, ...] = ()
    without: tuple[Shape, ...] = ()
    excluded: frozenset[str] = frozenset()
    only: frozenset[str] | None = None

    def meet(self, other: Strings, /) -> Strings:
        most = [bound for bound in (self.most, other.most) if bound is not None]
        only = [names for names in (self.only, other.only) if names is not None]
        return Strings(
            max(self.least, other.least),
            min(most, default=None),
            tuple(dict.fromkeys(self.patterns + other.patterns)),
            tuple(dict.fromkeys(self.without + other.without)),
            self.excluded | other.excluded,
            frozenset.intersection(*only) if only else None,
        )

    def without_values(self, values: Iterable[str]) -> Strings:
        """The same without these strings."""
        return replace(self, excluded=self.excluded.union(values))

    def admits(self, value: Any, context: Context, /) -> bool:
        if len(value) < self.least or (self.most is not None and len(value) > self.most):
            return False
        if value in self.excluded or (self.only is not None and value not in self.only):
            return False
        return all(shape.holds(value) for shape in self.patterns) and not any(
            shape.holds(value) for shape in self.without
        )

    def conflict(self, context: Context, /) -> str | None:
        if self.most is not None and self.least > self.most:
            return f"no string has at least {self.least} and at most {self.most} characters"
        both = next((shape for shape in self.patterns if shape in self.without), None)
        if both is not None:
            return f"no string both matches and does not match {both}"
        if self.only is not None:
            return None if any(self._listed(context)) else "none of the listed strings obeys the other keywords"
        if (self.patterns or self.without or self.excluded) and self._product().start == DEAD:
            return self._nothing()
        return None

    def _nothing(self) -> str:
        size = f", {self.least} to {'any number of' if self.most is None else self.most} characters long,"
        words = [f"matches {' and '.join(map(str, self.patterns))}"] if self.patterns else []
        words += [f"does not match {' or '.join(map(str, self.without))}"] if self.without else []
        words += ["is none of those excluded"] if self.excluded else []
        return f"no string{size if self._sized else ''} {', '.join(words)}"

    @property
    def _sized(self) -> bool:
        return self.least > 0 or self.most is not None

    def expression(self, context: Context, /) -> Expression:
        if self.only is not None:
            names = tuple(self._listed(context))
            return strings_of(names) if names else NOTHING
        for shape in self.patterns + self.without:
            if shape.more is not None:
                context.check(shape.pointer, shape.more)
        return concat(QUOTE, self._content(context), QUOTE)

    def _listed(self, context: Context) -> Iterator[str]:
        return (name for name in sorted(self.only or ()) if self.admits(name, context))

    def _content(self, context: Context) -> Expression:
        """The strings without their quotes. A shape alone is a rule; with anything else it is one automaton."""
        bare = not (self.patterns or self.without)
        if bare and not self.excluded:
            return repeat(json_string(ALL), self.least, self.most)
        if bare and not self._sized:
            return Tracked(CONTENT, Names(self.excluded), inside=False)
        if len(self.patterns) == 1 and not (self._sized or self.without or self.excluded):
            shape = self.patterns[0]
            if isinstance(shape, Format):
                return context.rule(("format", shape.name), lambda: STANDARD[shape.name].expression(json_string))
            automaton = shape.automaton()
            if automaton.start != DEAD and automaton.engine is not None:
                return context.rule(("pattern", shape.source), lambda: automaton.grammar.start)
        return context.rule(self, self._embedded)

    def _embedded(self) -> Expression:
        """What intersections leave is a table already, or too large for one."""
        automaton = self._product()
        return NOTHING if automaton.start == DEAD else Embedded(automaton)

    def _product(self) -> Automaton:
        """All in one. Of a shape that is not known exactly the opposite says nothing.

        What is without a shape knows where it can no longer be completed, and what counts characters has by far the
        most states: it comes last.
        """
        parts: list[Automaton] = [shape.automaton() for shape in self.patterns]
        parts += [_without(shape) for shape in self.without if shape.more is None]
        if self.excluded:
            parts.append(GrammarAutomaton(Tracked(CONTENT, Names(self.excluded), inside=False)))
        if self._sized or not parts:
            parts.append(GrammarAutomaton(repeat(json_string(ALL), self.least, self.most)))
        return reduce(intersection, parts)


@lru_cache(1024)
def _without(shape: Shape) -> Automaton:
    """The strings that have not the shape."""
    return intersection(GrammarAutomaton(CONTENT), shape.automaton(), difference=True)


def strings_of(names: Iterable[str]) -> Expression:
    """Each of the names, however it is spelled, with its quotes."""
    return concat(QUOTE, Tracked(CONTENT, Names(names), inside=True), QUOTE)


def read(place: Place) -> Strings:
    """What the keywords for strings say at this place."""
    return Strings(place.count("minLength", 0), place.count("maxLength", None), tuple(_shapes(place)))


def violations(place: Place) -> list[Strings]:
    """Strings that do not obey a keyword at this place: one facet for each."""
    least, most = place.count("minLength", 0), place.count("maxLength", None)
    short = [Strings(most=least - 1)] if least else []
    long = [Strings(most + 1)] if most is not None else []
    return [*short, *long, *(Strings(without=(shape,)) for shape in _shapes(place))]


def _shapes(place: Place) -> Iterator[Shape]:
    pattern = place.get("pattern", str, "a string")
    if pattern is not None:
        yield Pattern(pattern, place.at("pattern"))
    name = place.get("format", str, "a string")
    if name is None or not place.formats:
        return
    if name in STANDARD:
        yield Format(name, place.at("format"))
    elif likely := nearest(name):
        warn(f"at {place.at('format')}: `{name}` is no known format and constrains nothing; is `{likely}` meant?")
