"""Automata put together: one of several, one behind the other, one several times.

    number_or_word = alternatives([number, word])
    numbers = chain([number, rounds(chain([comma, number]), 0, None)])

The result is one grammar: the expression and the rules of a `GrammarAutomaton` become a part of it. Any other
automaton is embedded, and so is a grammar with look-around, which must go on seeing its own text alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import count

from genctl.automata.base import Automaton
from genctl.automata.expressions import (
    Ahead,
    Behind,
    Call,
    Concat,
    Embedded,
    Everything,
    Expression,
    Grammar,
    Repeat,
    Row,
    Union,
    concat,
    repeat,
    union,
)
from genctl.automata.pushdown import GrammarAutomaton
from genctl.errors import ConstraintError


def alternatives(automata: Sequence[Automaton]) -> GrammarAutomaton:
    """The texts of any one of the automata."""
    parts, rules = _merged(automata)
    return GrammarAutomaton(union(*parts), rules)


def chain(automata: Sequence[Automaton]) -> GrammarAutomaton:
    """A text of each automaton, one behind the other."""
    parts, rules = _merged(automata)
    return GrammarAutomaton(concat(*parts), rules)


def rounds(automaton: Automaton, least: int, most: int | None) -> GrammarAutomaton:
    """`least` to `most` texts of the automaton (None: any number), one behind the other."""
    (part,), rules = _merged([automaton])
    return GrammarAutomaton(repeat(part, least, most), rules)


def _merged(automata: Sequence[Automaton]) -> tuple[list[Expression], dict[str, Expression]]:
    """An expression for each automaton, over one set of rules; an automaton that comes twice is taken in once."""
    rules: dict[str, Expression] = {}
    try:
        parts = {automaton: _part(automaton, rules) for automaton in dict.fromkeys(automata)}
    except RecursionError:
        raise ConstraintError("the rule is nested too deeply", hint="use fewer groups inside groups") from None
    return [parts[automaton] for automaton in automata], rules


def _part(automaton: Automaton, rules: dict[str, Expression]) -> Expression:
    """The automaton as a part of a larger grammar, whose rules get those of the automaton added."""
    if not isinstance(automaton, GrammarAutomaton) or _looks_around(automaton.grammar):
        return Embedded(automaton)
    grammar = automaton.grammar
    names = _free_names(grammar.rules, rules)
    renaming = _Renaming({old: new for old, new in names.items() if old != new})
    rules.update({names[name]: renaming.of(rule) for name, rule in grammar.rules.items()})
    return renaming.of(grammar.start)


def _free_names(wanted: Iterable[str], taken: Mapping[str, Expression]) -> dict[str, str]:
    """Wanted name -> the name itself, or the name with a number where it is taken."""
    names = {name: name for name in wanted if name not in taken}
    used = {*taken, *names}
    numbers = count(2)
    for name in wanted:
        if name in taken:
            names[name] = next(new for n in numbers if (new := f"{name}~{n}") not in used)
            used.add(names[name])
    return names


def _looks_around(grammar: Grammar) -> bool:
    """Does anything in the grammar depend on the text outside of it?"""
    work: list[Expression] = [grammar.start, *grammar.rules.values()]
    seen: set[int] = set()
    while work:
        expression = work.pop()
        if id(expression) in seen:
            continue
        seen.add(id(expression))
        match expression:
            case Ahead() | Behind() | Everything():
                return True
            case Concat(parts) | Union(parts):
                work.extend(parts)
            case Repeat(body):
                work.append(body)
            case Row(items, between, apart, rest):
                work += [between, apart, rest, *(item.value for item in items)]
    return False


class _Renaming:
    """Expressions with other names in their calls. Parts that are one object stay one object."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names
        self._known: dict[int, Expression] = {}

    def of(self, expression: Expression) -> Expression:
        if not self._names:
            return expression
        known = self._known.get(id(expression))
        if known is None:
            known = self._known[id(expression)] = self._renamed(expression)
        return known

    def _renamed(self, expression: Expression) -> Expression:
        match expression:
            case Call(rule, here):
                return Call(self._names.get(rule, rule), here)
            case Concat(parts):
                return Concat(tuple(map(self.of, parts)))
            case Union(parts):
                return Union(tuple(map(self.of, parts)))
            case Repeat(body, least, most):
                return Repeat(self.of(body), least, most)
            case Row(items, between, apart, rest):
                items = tuple(item._replace(value=self.of(item.value)) for item in items)
                return Row(items, self.of(between), self.of(apart), self.of(rest))
        return expression
