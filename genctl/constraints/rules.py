"""Rules as users write them, not yet tied to a vocabulary.

    rule = Language(compile_regex("[a-z]+"), source="[a-z]+") & (lambda text, done: len(text) < 9)
    constraint = rule.bind(vocabulary)

`&` means: obey both. Languages that are joined become one automaton, which cannot run into a dead end.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from genctl.automata.base import DEAD, Automaton, accepts
from genctl.automata.product import Product
from genctl.constraints.automaton import AutomatonConstraint
from genctl.constraints.base import Constraint
from genctl.constraints.both import Both
from genctl.constraints.predicate import PredicateConstraint, PredicateFunction, log_weight
from genctl.errors import ConstraintError, UnsatisfiableError
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

    def __and__(self, other: Rule | PredicateFunction) -> Rule:
        return join(self, as_part(other))

    def __rand__(self, other: PredicateFunction) -> Rule:
        return join(as_part(other), self)


class Language(Rule):
    """The texts of an automaton. source: what it was compiled from, for messages and `repr`."""

    def __init__(self, automaton: Automaton, source: str, parse: Callable[[str], Any] | None = None) -> None:
        self.automaton, self.source, self.parse = automaton, source, parse
        self._bound: tuple[Vocabulary, AutomatonConstraint] | None = None

    def bind(self, vocabulary: Vocabulary) -> Constraint:
        """States, masks and transitions are kept for the next call with the same vocabulary."""
        if self._bound is None or self._bound[0] is not vocabulary:
            self._bound = vocabulary, AutomatonConstraint(self.automaton, vocabulary)
        return self._bound[1]

    def accepts(self, text: str) -> bool:
        return accepts(self.automaton, text.encode())

    def value(self, text: str) -> Any:
        return text if self.parse is None else self.parse(text)

    def __repr__(self) -> str:
        return f"Language({self.source!r})"


class Predicate(Rule):
    """A function of (text, done); see constraints/predicate.py."""

    def __init__(self, function: PredicateFunction) -> None:
        self.function = function

    def bind(self, vocabulary: Vocabulary) -> Constraint:
        return PredicateConstraint(self.function, vocabulary)

    def accepts(self, text: str) -> bool:
        """Every prefix is asked about too: one that is ruled out rules out all that goes on from it."""
        prefixes = all(log_weight(self.function, text[:end], False) > -math.inf for end in range(len(text) + 1))
        return prefixes and log_weight(self.function, text, True) > -math.inf

    def __repr__(self) -> str:
        return f"Predicate({getattr(self.function, '__name__', self.function)!s})"


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


def as_part(other: object) -> Rule:
    """A rule, or a plain function as a predicate."""
    if isinstance(other, Rule):
        return other
    if callable(other) and not isinstance(other, type):
        return Predicate(other)
    raise ConstraintError(
        f"{other!r} cannot be joined to a rule with &",
        hint="join rules (genctl.regex(...), genctl.json(...)) or functions (text, done) -> bool | float",
    )


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
    return Language(product, source, first.parse or second.parse)
