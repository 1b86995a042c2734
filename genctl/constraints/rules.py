"""Rules as users write them, not yet tied to a vocabulary, and the operators that make rules of rules.

    rule = "day " + (number | word).repeat(1, 3) - "day one"
    constraint = (rule & (lambda text, done: len(text) < 9)).bind(vocabulary)

Languages under an operator become one automaton, which cannot run into a dead end. `&` means: obey both; it alone
takes functions too. In `|`, `+` and `-` a str stands for itself.

What stands beside an automaton, its checks (checked.py), is of the whole text: they go through `&` and the first place
of `-`. Under the other operators a rule with checks of values is refused, and a key that is free may come twice.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache
from typing import Any, TypeGuard

from genctl.automata.base import DEAD, Automaton, accepts
from genctl.automata.compose import alternatives, chain, rounds
from genctl.automata.expressions import ANY_BYTE, Literal, repeat
from genctl.automata.product import Product
from genctl.automata.pushdown import GrammarAutomaton
from genctl.compilers.characters import ALL, utf8
from genctl.compilers.regex.source import printable
from genctl.constraints.automaton import AutomatonConstraint
from genctl.constraints.base import Constraint
from genctl.constraints.both import Both
from genctl.constraints.checked import NO_CHECKS, Checked, Checks
from genctl.constraints.predicate import (
    ONE_BY_ONE,
    BatchFunction,
    Manner,
    PredicateConstraint,
    PredicateFunction,
    name_of,
)
from genctl.constraints.store import bound
from genctl.errors import ArgumentError, ConstraintError, UnsatisfiableError
from genctl.vocabulary import Vocabulary


class Rule(ABC):
    """What a text must obey, and how a text that obeys is turned into a value."""

    @abstractmethod
    def bind(self, vocabulary: Vocabulary) -> Constraint:
        """The rule in the tokens of a vocabulary."""

    @abstractmethod
    def accepts(self, text: str) -> bool:
        """Does the finished text obey?"""

    def value(self, text: str) -> Any:
        """What a text that obeys stands for: the text itself unless the rule knows better."""
        return text

    def __and__(self, other: Rule | PredicateFunction[str]) -> Rule:
        """Texts that obey both; the value is that of the first that has another value than the text."""
        return join(self, as_part(other))

    def __rand__(self, other: PredicateFunction[str]) -> Rule:
        return join(as_part(other), self)

    def __or__(self, other: Rule | str) -> Language:
        """Texts that obey one of the two; the value is that of the first one that the text obeys."""
        return either(as_language(self, "|"), as_language(other, "|"))

    def __ror__(self, other: Rule | str) -> Language:
        return either(as_language(other, "|"), as_language(self, "|"))

    def __add__(self, other: Rule | str) -> Language:
        """A text of the one with a text of the other behind it; the value is the text."""
        return sequence(as_language(self, "+"), as_language(other, "+"))

    def __radd__(self, other: Rule | str) -> Language:
        return sequence(as_language(other, "+"), as_language(self, "+"))

    def __sub__(self, other: Rule | str) -> Language:
        """Texts that obey the one and not the other; the value is that of the first."""
        return difference(as_language(self, "-"), as_language(other, "-"))

    def __invert__(self) -> Language:
        """Every text that does not obey; the value is the text."""
        return complement(as_language(self, "~"))

    def repeat(self, least: int = 0, most: int | None = None) -> Language:
        """`least` to `most` texts of the rule (None: any number), one behind the other; the value is the text."""
        return repeated(as_language(self, "repeat"), least, most)


class Language(Rule):
    """The texts of an automaton that pass the checks. source: what it was compiled from, for messages and `repr`."""

    def __init__(
        self,
        automaton: Automaton,
        source: str,
        parse: Callable[[str], Any] | None = None,
        checks: Checks = NO_CHECKS,
    ) -> None:
        self.automaton, self.source, self.parse, self.checks = automaton, source, parse, checks
        self._bound: tuple[Vocabulary, AutomatonConstraint] | None = None

    def bind(self, vocabulary: Vocabulary) -> Constraint:
        """States, masks and transitions are kept for the next call with the same vocabulary; what checks remember of
        the texts is not.
        """
        if self._bound is None or self._bound[0] is not vocabulary:
            self._bound = vocabulary, bound(self.automaton, vocabulary)
        return Checked(self._bound[1], self.checks) if self.checks else self._bound[1]

    def accepts(self, text: str) -> bool:
        # A lone surrogate becomes three bytes that are no UTF-8: no language has it.
        raw = text.encode(errors="surrogatepass")
        return accepts(self.automaton, raw) and (not self.checks or self.checks.accepts(raw))

    def value(self, text: str) -> Any:
        return text if self.parse is None else self.parse(text)

    def __repr__(self) -> str:
        return f"Language({self.source!r})"


class Predicate(Rule):
    """A function of (text, done), or of many, and how it is asked; see constraints/predicate.py."""

    def __init__(self, function: PredicateFunction[Any] | BatchFunction[Any], manner: Manner = ONE_BY_ONE) -> None:
        self.function, self.manner = function, manner

    def bind(self, vocabulary: Vocabulary) -> Constraint:
        return PredicateConstraint(self.function, vocabulary, self.manner)

    def accepts(self, text: str) -> bool:
        """Prefixes are asked about too, in turn: one that is ruled out rules out all that goes on from it."""
        for asked in self.manner.questions(text):
            weight = asked if isinstance(asked, float) else self.manner.ask(self.function, [asked])[0]
            if weight == -math.inf:
                return False
        return True

    def __repr__(self) -> str:
        manner = zip(Manner._fields, self.manner, ONE_BY_ONE, strict=True)
        said = [f"{name}={getattr(value, '__name__', repr(value))}" for name, value, plain in manner if value != plain]
        return f"Predicate({', '.join([name_of(self.function), *said])})"


class Conjunction(Rule):
    """All of the parts: at most one language, which comes first, and predicates."""

    def __init__(self, parts: tuple[Rule, ...]) -> None:
        self.parts = parts

    def bind(self, vocabulary: Vocabulary) -> Constraint:
        return Both([part.bind(vocabulary) for part in self.parts])

    def accepts(self, text: str) -> bool:
        return all(part.accepts(text) for part in self.parts)

    def value(self, text: str) -> Any:
        return self.parts[0].value(text)

    def __repr__(self) -> str:
        return " & ".join(map(repr, self.parts))


# -- conjunction


def as_part(other: object) -> Rule:
    """A rule, or a plain function as a predicate."""
    if isinstance(other, Rule):
        return other
    if _is_function(other):
        return Predicate(other)
    text = f"genctl.choice([{shown(other)!r}]) is the rule of one text; or " if isinstance(other, str) else ""
    raise ConstraintError(
        f"{other!r} cannot be joined to a rule with &",
        hint=f"{text}join rules (genctl.regex(...), genctl.json(...)) or functions (text, done) -> bool | float",
    )


def _is_function(operand: object) -> TypeGuard[PredicateFunction[str]]:
    """Something to call that is no type: generic aliases such as list[int] can be called too."""
    return callable(operand) and not isinstance(operand, type) and not hasattr(operand, "__origin__")


def join(*rules: Rule) -> Rule:
    """The conjunction, its languages intersected into one automaton.

    Raises UnsatisfiableError if the languages have no text in common.
    """
    parts = [part for rule in rules for part in (rule.parts if isinstance(rule, Conjunction) else (rule,))]
    languages = [part for part in parts if isinstance(part, Language)]
    others = [part for part in parts if not isinstance(part, Language)]
    if not languages:
        return Conjunction(tuple(others))
    language = languages[0]
    for more in languages[1:]:
        language = _intersect(language, more)
    return Conjunction((language, *others)) if others else language


def _intersect(first: Language, second: Language) -> Language:
    source = f"{first.source} & {second.source}"
    product = Product(first.automaton, second.automaton)
    if product.start == DEAD:
        raise UnsatisfiableError(f"no text obeys both {first.source!r} and {second.source!r}", source=source)
    return Language(product, source, first.parse or second.parse, first.checks & second.checks)


# -- the other operators, on languages only


def as_language(operand: object, operator: str) -> Language:
    """An operand of any operator but &: a language, or a str that stands for itself."""
    if isinstance(operand, Language):
        if operand.checks.judges:
            raise ConstraintError(
                f"a rule that is checked by whole values cannot take part in {operator}",
                source=operand.source,
                hint="join it to other rules with &, or leave out what needs the check: " + operand.checks.reasons,
            )
        return operand
    if isinstance(operand, str):
        return literal(operand)
    if isinstance(operand, Rule) or _is_function(operand):
        raise ConstraintError(
            f"a predicate judges a whole text, it cannot take part in {operator}",
            source=repr(operand),
            hint="join it to the finished rule, with &: (a | b + c) & predicate",
        )
    raise ConstraintError(
        f"{operand!r} cannot take part in {operator}",
        hint="give a rule or a str: genctl.json(type) for a type or a schema, genctl.regex(...) for a pattern",
    )


def literal(text: str) -> Language:
    """Exactly this text."""
    return Language(GrammarAutomaton(Literal(encoded(text))), shown(text))


def encoded(text: str) -> bytes:
    """The text as UTF-8. Raises ConstraintError with the span of a lone surrogate, which UTF-8 cannot write."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ConstraintError(
            "a lone surrogate is no character, no text can contain it",
            source=printable(text),
            span=(error.start, error.end),
        ) from None


def either(*languages: Language) -> Language:
    """The union."""

    def parse(text: str) -> Any:
        *others, last = languages
        return next((language for language in others if language.accepts(text)), last).value(text)

    automaton = alternatives([language.automaton for language in languages])
    plain = all(language.parse is None for language in languages)
    return Language(automaton, _source(" | ", languages), None if plain else parse)


def sequence(*languages: Language) -> Language:
    """A text of each, one behind the other."""
    return Language(chain([language.automaton for language in languages]), _source(" + ", languages))


def repeated(language: Language, least: int, most: int | None) -> Language:
    check_bounds(least, most)
    bounds = f"{least}" if most is None else f"{least}, {most}"
    return Language(rounds(language.automaton, least, most), f"({shown(language.source)}).repeat({bounds})")


def check_bounds(least: int, most: int | None) -> None:
    """Raises ArgumentError unless 0 <= least <= most (None: no bound)."""
    for name, value in ("least", least), ("most", 0 if most is None else most):
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise ArgumentError(f"{name} is {value!r}, it must be an integer of at least 0")
    if most is not None and least > most:
        raise ArgumentError(f"most is {most}, it must be at least {least}, which is `least`")


def difference(first: Language, second: Language) -> Language:
    """The texts of first that second does not have. Raises UnsatisfiableError if there is none."""
    source = _source(" - ", (first, second))
    product = Product(first.automaton, second.automaton, difference=True)
    if product.start == DEAD:
        raise UnsatisfiableError(
            f"every text that obeys {shown(first.source)!r} obeys {shown(second.source)!r} too", source=source
        )
    return Language(product, source, first.parse, first.checks)


def complement(language: Language) -> Language:
    """All texts but those of the language: of characters, so every one is valid UTF-8."""
    source = f"~({shown(language.source)})"
    product = Product(_any_text(), language.automaton, difference=True)
    if product.start == DEAD:
        raise UnsatisfiableError(f"every text obeys {shown(language.source)!r}", source=source)
    return Language(product, source)


@cache
def _any_text() -> GrammarAutomaton:
    return GrammarAutomaton(repeat(utf8(ALL)))


@cache
def any_bytes() -> Language:
    """Every text, and bytes that are none: the rule of what is free but has to end."""
    return Language(GrammarAutomaton(repeat(ANY_BYTE)), "any bytes")


def _source(operator: str, languages: tuple[Language, ...]) -> str:
    return f"({operator.join(shown(language.source) for language in languages)})"


def shown(text: str) -> str:
    """The beginning of a text that may be long, for a message."""
    return text if len(text) <= 60 else text[:57] + "..."
