"""The table of rules: each keyword of JSON Schema, of any draft, and what is done with it.

    RULES["minLength"].handling, RULES["format"].handling       # "automaton", "refused"

A word that is in no draft is an annotation, as the specification says; if it looks like a misspelt keyword, a
`GenctlWarning` names the keyword that it resembles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import lru_cache
from typing import Literal, NamedTuple, TypeAlias

from genctl.compilers.json_schema import arrays, numbers, objects, strings
from genctl.compilers.json_schema.context import DRAFTS, Facet, Place, refuse
from genctl.compilers.json_schema.values import KINDS, read_types
from genctl.errors import warn

# automaton: enforced byte by byte. reference: brings in the schemas of other places. container: holds schemas
# for references. annotation: constrains nothing. refused: the schema is not compiled.
Handling: TypeAlias = Literal["automaton", "reference", "container", "annotation", "refused"]


class Rule(NamedTuple):
    """What is done with a keyword, and in which drafts it is one."""

    handling: Handling
    family: str
    since: int = 4
    until: int = 2020


RULES: Mapping[str, Rule] = {
    # values.py
    "type": Rule("automaton", "values"),
    "enum": Rule("automaton", "values"),
    "const": Rule("automaton", "values", since=6),
    # numbers.py
    "minimum": Rule("automaton", "numbers"),
    "maximum": Rule("automaton", "numbers"),
    "exclusiveMinimum": Rule("automaton", "numbers"),
    "exclusiveMaximum": Rule("automaton", "numbers"),
    # strings.py
    "minLength": Rule("automaton", "strings"),
    "maxLength": Rule("automaton", "strings"),
    "pattern": Rule("automaton", "strings"),
    # arrays.py
    "items": Rule("automaton", "arrays"),
    "prefixItems": Rule("automaton", "arrays", since=2020),
    "additionalItems": Rule("automaton", "arrays", until=2019),
    "minItems": Rule("automaton", "arrays"),
    "maxItems": Rule("automaton", "arrays"),
    # objects.py
    "properties": Rule("automaton", "objects"),
    "required": Rule("automaton", "objects"),
    "additionalProperties": Rule("automaton", "objects"),
    # cases.py
    "anyOf": Rule("reference", "combination"),
    "$ref": Rule("reference", "references"),
    "$defs": Rule("container", "references"),
    "definitions": Rule("container", "references"),
    # A name of the root or of a part: document.py refuses the references whose meaning a part's name would change.
    "$id": Rule("annotation", "references"),
    "id": Rule("annotation", "references"),
    "$schema": Rule("annotation", "references"),
} | {
    word: Rule("annotation", "annotations")
    for word in ("title", "description", "default", "examples", "$comment", "deprecated", "readOnly", "writeOnly")
} | {
    word: Rule("refused", family)
    for family, words in {
        "combination": "allOf oneOf not if then else extends disallow",
        "numbers": "multipleOf divisibleBy",
        "strings": "format contentEncoding contentMediaType contentSchema",
        "arrays": "uniqueItems contains minContains maxContains unevaluatedItems",
        "objects": "patternProperties propertyNames minProperties maxProperties dependencies dependentRequired "
        "dependentSchemas unevaluatedProperties",
        "references": "$anchor $dynamicRef $dynamicAnchor $recursiveRef $recursiveAnchor $vocabulary",
    }.items()
    for word in words.split()
}  # fmt: skip

# How the keywords of each kind of value are read.
READERS: Mapping[str, tuple[frozenset[str], Callable[[Place], Facet]]] = {
    kind: (frozenset(word for word, rule in RULES.items() if rule.family == f"{kind}s"), reader)
    for kind, reader in {
        "number": numbers.read,
        "string": strings.read,
        "array": arrays.read,
        "object": objects.read,
    }.items()
}


def hides_siblings(place: Place) -> bool:
    """Up to draft 7 whatever stands beside "$ref" says nothing."""
    return "$ref" in place.schema and place.draft.year <= 7


def says_something(place: Place) -> bool:
    """Is there a keyword that is enforced at this place itself?"""
    if hides_siblings(place):
        return False
    return any(word in RULES and RULES[word].handling == "automaton" for word in place.schema)


def check(place: Place) -> None:
    """Refuse keywords that cannot be enforced, warn of words that look like misspelt ones."""
    if hides_siblings(place):
        return
    for word in place.schema:
        rule = RULES.get(word)
        if rule is None:
            _warn_if_misspelt(word, place)
        elif rule.handling == "refused":
            refuse(place.at(word), f"the keyword `{word}` cannot be enforced", "not supported yet")
        elif not rule.since <= place.draft.year <= rule.until:
            drafts = f"it belongs to {DRAFTS[rule.since].name} to {DRAFTS[rule.until].name}"
            refuse(
                place.at(word), f"`{word}` is no keyword of {place.draft.name}", f'{drafts}; say which with "$schema"'
            )


def _warn_if_misspelt(word: str, place: Place) -> None:
    nearest = _nearest(word)
    if nearest:
        message = f"at {place.at(word)}: `{word}` is not a keyword and constrains nothing; is `{nearest}` meant?"
        warn(message)


@lru_cache(4096)
def _nearest(word: str) -> str | None:
    matches = get_close_matches(word, RULES, n=1, cutoff=0.8)
    return matches[0] if matches else None


def read(place: Place) -> Mapping[str, Facet]:
    """What the keywords of a place say, by kind of value; a kind that is absent is not allowed."""
    said = {kind: reader(place) for kind, (words, reader) in READERS.items() if not words.isdisjoint(place.schema)}
    types = read_types(place)
    return meet_kinds(types, {**types, **said}) if said else types


def meet_kinds(first: Mapping[str, Facet], second: Mapping[str, Facet]) -> Mapping[str, Facet]:
    """What both say of the kinds that both allow. Most often one of them says nothing."""
    return {kind: _meet(KINDS[kind], facet, second[kind]) for kind, facet in first.items() if kind in second}


def _meet(nothing: Facet, first: Facet, second: Facet) -> Facet:
    if first is nothing or first is second:
        return second
    return first if second is nothing else first.meet(second)
