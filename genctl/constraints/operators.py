"""Rules made of texts and of other rules: a choice, a quotation, what comes behind a trigger, free text up to a stop.

    choice(["yes", "no"]), choice(Color), choice({"one": 1, "two": 2})
    substring(article, unit="words", most=30)
    after("</think>", Answer), until(["\\n", "###"])

All of them are languages, so they go under every operator of constraints/rules.py.
"""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from itertools import accumulate
from typing import Any

from genctl.automata.expressions import EMPTY, NOTHING, Call, Expression, Literal, concat, union
from genctl.automata.pushdown import GrammarAutomaton
from genctl.automata.substring import Substrings, Unit
from genctl.compilers.characters import Characters, utf8
from genctl.constraints.notations import as_rule
from genctl.constraints.rules import (
    Language,
    as_language,
    check_bounds,
    either,
    encoded,
    literal,
    sequence,
    shown,
)
from genctl.errors import ArgumentError, ConstraintError, GenctlWarning, UnsatisfiableError


def language_of(given: Any, place: str) -> Language:
    """A rule, a type or anything else that `generate` takes, as a language; a str stands for itself.

    Raises ConstraintError for what has a predicate in it, and for None. place: where it was given, for the message.
    """
    if given is None:
        raise ConstraintError(f"{place} has no rule", hint="give a rule, a type or a text; type(None) is JSON's null")
    return literal(given) if isinstance(given, str) else as_language(as_rule(given), place)


# -- choice


def choice(options: Iterable[Any] | Mapping[str, Any]) -> Language:
    """One of the options; the value is the option itself.

    An option is written as `str(option)`, a member of an Enum as its value. A mapping gives the texts and what each
    of them stands for. Raises ConstraintError for options that are written alike, UnsatisfiableError for none.
    """
    if isinstance(options, str | bytes):
        raise ConstraintError(
            f"choice was given one text, {shown(repr(options))}", hint="give a list of options: choice(['yes', 'no'])"
        )
    pairs = options.items() if isinstance(options, Mapping) else ((_written(option), option) for option in options)
    values: dict[str, Any] = {}
    for text, option in pairs:
        if not isinstance(text, str):
            raise ConstraintError(f"{text!r} is a key of the options, but no text", hint="keys are what is written")
        if text in values:
            raise ConstraintError(
                f"two options are written {text!r}: {values[text]!r} and {option!r}",
                hint="leave one out (`dict.fromkeys(options)` has each once), or give a mapping from text to value",
            )
        values[text] = option
    if not values:
        raise UnsatisfiableError("there is no option to choose from")
    source = f"choice([{', '.join(repr(shown(text)) for text in list(values)[:5])}{', ...' * (len(values) > 5)}])"
    return Language(GrammarAutomaton(union(*(Literal(encoded(text)) for text in values))), source, values.__getitem__)


def _written(option: Any) -> str:
    if isinstance(option, Enum):
        return str(option.value)
    if isinstance(option, bytes) or str(option) == object.__repr__(option):
        raise ConstraintError(
            f"{option!r} cannot be written as a text", hint="give a mapping from the text to what it stands for"
        )
    return str(option)


# -- substring

_BRACKETS = "()[]{}<>«»‹›“”„‘’‚\"'`「」『』【】《》〈〉（）"
_STOPS = ".,;:!?…。、，；：！？।"


def _characters(text: str) -> Iterator[Unit]:
    return (((at,), (at + 1,)) for at in range(len(text)))


def _words(text: str) -> Iterator[Unit]:
    for found in re.finditer(r"\S+", text):
        word, (begin, end) = found[0], found.span()
        bare = end - len(word.lstrip(_BRACKETS)), begin + len(word.rstrip(_BRACKETS + _STOPS))
        yield ((begin, bare[0]), (bare[1], end)) if bare[0] < bare[1] else ((begin,), (end,))


def _lines(text: str) -> Iterator[Unit]:
    return (((line.start(),), (line.end(),)) for line in re.finditer(r"[^\r\n]+", text))


UNITS: dict[str, Callable[[str], Iterator[Unit]]] = {"characters": _characters, "words": _words, "lines": _lines}


def substring(text: str, *, unit: str = "characters", least: int = 1, most: int | None = None) -> Language:
    """A contiguous part of the text, `least` to `most` units long (None: up to all of it).

    unit: "characters"; "words", which blanks separate, brackets, quotation marks and `.,;:!?` at the outer ends of the
    part being free to go (`(Lisbon),` gives `Lisbon`, but `3.5` no `3`); "lines", blank ones not counted.
    Raises UnsatisfiableError if the text is shorter than `least` units.
    """
    if unit not in UNITS:
        raise ArgumentError(f"unit is {unit!r}, it must be one of {', '.join(UNITS)}")
    check_bounds(least, most)
    if not isinstance(text, str):
        raise ConstraintError(
            f"{shown(repr(text))} is no text to quote from", hint="give a str; join rules of several by |"
        )
    raw = encoded(text)
    units = list(UNITS[unit](text))
    if len(units) < least:
        raise UnsatisfiableError(
            f"the text has {len(units)} {unit}, a part needs at least {least}",
            source=shown(text),
            hint="give the text to quote from, or a smaller `least`",
        )
    offset = list(accumulate((len(character.encode()) for character in text), initial=0))
    in_bytes = [([offset[at] for at in begins], [offset[at] for at in ends]) for begins, ends in units]
    return Language(Substrings(raw, in_bytes, least, most), f"substring({shown(text)!r})")


# -- free text up to the first occurrence of a stop


def until(stop: str | Sequence[str], *, include: bool = True) -> Language:
    """Free text that ends with the first occurrence of the stop, or of any one of several; the value is without it.

    include=False: free text in which no stop occurs, for the place in front of one.
    """
    stops = _checked_stops([stop] if isinstance(stop, str) else stop)
    source = f"until({shown(', '.join(map(repr, stops)))}{'' if include else ', include=False'})"
    if not include:
        return Language(_free_text(stops, end=NOTHING, anywhere=EMPTY), source)

    def parse(text: str) -> str:
        return text[: -max(len(stop) for stop in stops if text.endswith(stop))]

    return Language(_free_text(stops, end=EMPTY, anywhere=NOTHING), source, parse)


def after(trigger: str, rule: Any, *, required: bool = True) -> Language:
    """Free text up to the first occurrence of the trigger, then the rule (or type, or text); the value is the rule's.

    required=False: a text without the trigger obeys too; its value is None.
    """
    (trigger,) = _checked_stops([trigger])
    behind = language_of(rule, "after")
    whole = sequence(until(trigger), behind)
    if not required:
        whole = either(whole, until(trigger, include=False))

    def parse(text: str) -> Any:
        _, found, rest = text.partition(trigger)
        return behind.value(rest) if found else None

    return Language(whole.automaton, f"after({shown(trigger)!r}, {shown(behind.source)})", parse)


def _checked_stops(stops: Sequence[str]) -> list[str]:
    for stop in stops:
        if not isinstance(stop, str) or not stop:
            raise ConstraintError(f"{stop!r} cannot end a free text", hint="give a text of one character or more")
        encoded(stop)
    if not stops:
        raise ConstraintError("there is no text to stop at", hint="give one: until('\\n')")
    for stop in stops:
        inside = next((other for other in stops if other in stop[:-1]), None)
        if inside is not None:
            message = f"{stop!r} never ends a text: {inside!r}, which is a part of it, ends the text before"
            warnings.warn(message, GenctlWarning, stacklevel=3)
    return list(stops)


def _free_text(stops: Sequence[str], *, end: Expression, anywhere: Expression) -> GrammarAutomaton:
    """Free text in which `end` follows the first stop, and `anywhere` may take the place of all that is to come.

    One rule for each state of Aho & Corasick's automaton (1975), which is the beginning of a stop that was just read.
    """
    rules: dict[str, Expression] = {}
    for begun, steps in _stop_automaton(stops).items():
        by_target: dict[str | None, str] = defaultdict(str)
        for character, target in steps.items():
            by_target[target] += character
        ways = [concat(utf8(~Characters.of("".join(steps))), Call(""))]
        for target, characters in by_target.items():
            ways.append(concat(utf8(Characters.of(characters)), end if target is None else Call(target)))
        rules[begun] = union(anywhere, *ways)
    return GrammarAutomaton(Call(""), rules)


def _stop_automaton(stops: Sequence[str]) -> dict[str, dict[str, str | None]]:
    """For each beginning of a stop: character -> the beginning read then, None where a stop ends, "" for all others."""
    goes_on: dict[str, set[str]] = defaultdict(set)
    for stop in stops:
        for at, character in enumerate(stop):
            goes_on[stop[:at]].add(character)
    failure = {"": ""}  # the longest other beginning that the text may end with instead
    steps: dict[str, dict[str, str | None]] = {"": {}}
    for begun in sorted(goes_on, key=len):
        if begun not in failure:
            continue  # a stop ends before this beginning is read
        otherwise = steps[failure[begun]] if begun else {}
        steps[begun] = dict(otherwise)
        for character in sorted(goes_on[begun]):
            longer, shorter = begun + character, otherwise.get(character, "")
            if longer in stops or shorter is None:
                steps[begun][character] = None
            else:
                steps[begun][character], failure[longer] = longer, shorter
    return steps
