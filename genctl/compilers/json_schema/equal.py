"""Places of a schema that say the same, so that what is compiled for one of them serves them all.

    equal_places({"properties": {"a": {"type": "string"}, "b": {"type": "string", "title": "B"}}})
    # {"/properties/b": "/properties/a"}

Schemas are equal if their keywords are, in order, annotations aside. References are compared as they stand there, so
schemas are only compared inside the same part that names itself or a version, and a schema that does so, or that refers
to what is met on the way, has no equal.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from genctl.compilers.json_schema.context import Pointer
from genctl.compilers.json_schema.rules import NAMES, RULES, subschemas

MET = frozenset(("$dynamicRef", "$recursiveRef"))  # words that refer to what was named on the way

# How the words that count are compared: by their value, by the schemas inside them, or never equal.
VALUE, INSIDE, NEVER = range(3)
COMPARED = {word: INSIDE if rule.holds else VALUE for word, rule in RULES.items() if rule.handling != "annotation"}
COMPARED |= dict.fromkeys(NAMES | MET, NEVER)


def equal_places(schema: Any) -> dict[Pointer, Pointer]:
    """For each place that says what an earlier one says: the first such place."""
    places: list[tuple[Pointer, Any, int]] = [("", schema, 0)]  # and the part that it is in, by a number
    said: list[tuple[list[Hashable], int, int]] = []  # by each place itself; the numbers of the places inside
    for pointer, found, part in places:  # it grows
        says, begin = list[Hashable]((part,)), len(places)
        if isinstance(found, dict):
            holding = False
            if not NAMES.isdisjoint(found):
                part = len(said)
            for word, value in found.items():
                compared = COMPARED.get(word)
                if compared == VALUE:
                    says += word, value if type(value) is str else _content(value)
                elif compared == INSIDE:
                    holding = True
                    says += word, tuple(value) if isinstance(value, dict) else None, _length(value)
                elif compared == NEVER:
                    says.append(object())
            if holding:
                places += [(pointer + steps, inner, part) for steps, inner in subschemas(found)]
        else:
            says.append(_content(found))
        said.append((says, begin, len(places)))
    kinds, known = [0] * len(places), dict[Hashable, int]()
    for number in range(len(places) - 1, -1, -1):
        says, begin, end = said[number]
        kinds[number] = known.setdefault((*says, *kinds[begin:end]), len(known))
    if len(known) == len(places):
        return {}
    first: dict[int, Pointer] = {}
    equal = [first.setdefault(kind, pointer) for kind, (pointer, _, _) in zip(kinds, places, strict=True)]
    return {pointer: other for (pointer, _, _), other in zip(places, equal, strict=True) if pointer != other}


def _content(value: object) -> Hashable:
    """Equal for what is the same, number for number; what Python does not write has no equal."""
    try:
        return (repr(value),)
    except (ValueError, RecursionError):
        return object()


def _length(value: object) -> int | None:
    return len(value) if isinstance(value, list) else None
