"""The table of rules: each keyword of JSON Schema, of any draft, and what is done with it.

    RULES["minLength"].handling, RULES["allOf"].handling       # "automaton", "cases"

A word that is in no draft is an annotation, as the specification says; if it looks like a misspelt keyword, a
`GenctlWarning` names the keyword that it resembles. So does a keyword that another draft has.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypeAlias

from genctl.compilers.json_schema import arrays, numbers, objects, strings
from genctl.compilers.json_schema.context import DRAFTS, Draft, Facet, Place, Pointer, escaped
from genctl.compilers.json_schema.values import KINDS, read_types
from genctl.errors import warn

# automaton: enforced byte by byte. checked: partly by a check of whole values (docs/json-schema.md says where). cases:
# resolved into cases of which each is enforced. reference: brings in the schemas of other places. container: holds
# schemas for references. annotation: constrains nothing. refused: the schema is not compiled.
Handling: TypeAlias = Literal["automaton", "checked", "cases", "reference", "container", "annotation", "refused"]
Holds: TypeAlias = Literal["", "schema", "list", "map", "schema or list", "map of schemas or names"]


class Rule(NamedTuple):
    """What is done with a keyword, in which drafts it is one, what schemas it holds, and is it of the vocabulary
    "validation"?
    """

    handling: Handling
    family: str
    since: int = 4
    until: int = 2020
    holds: Holds = ""
    validates: bool = False


def _validating(handling: Handling, family: str, since: int = 4, until: int = 2020) -> Rule:
    return Rule(handling, family, since, until, validates=True)


RULES: Mapping[str, Rule] = {
    # values.py
    "type": _validating("automaton", "values"),
    "enum": _validating("automaton", "values"),
    "const": _validating("automaton", "values", since=6),
    # numbers.py
    "minimum": _validating("automaton", "numbers"),
    "maximum": _validating("automaton", "numbers"),
    "exclusiveMinimum": _validating("automaton", "numbers"),
    "exclusiveMaximum": _validating("automaton", "numbers"),
    "multipleOf": _validating("automaton", "numbers"),
    # strings.py
    "minLength": _validating("automaton", "strings"),
    "maxLength": _validating("automaton", "strings"),
    "pattern": _validating("automaton", "strings"),
    "format": Rule("automaton", "strings"),
    # arrays.py
    "items": Rule("automaton", "arrays", holds="schema or list"),
    "prefixItems": Rule("automaton", "arrays", since=2020, holds="list"),
    "additionalItems": Rule("automaton", "arrays", until=2019, holds="schema"),
    "minItems": _validating("automaton", "arrays"),
    "maxItems": _validating("automaton", "arrays"),
    "uniqueItems": _validating("checked", "arrays"),
    "contains": Rule("automaton", "arrays", since=6, holds="schema"),
    "minContains": _validating("automaton", "arrays", since=2019),
    "maxContains": _validating("automaton", "arrays", since=2019),
    # objects.py
    "properties": Rule("automaton", "objects", holds="map"),
    "patternProperties": Rule("automaton", "objects", holds="map"),
    "additionalProperties": Rule("automaton", "objects", holds="schema"),
    "propertyNames": Rule("automaton", "objects", since=6, holds="schema"),
    "required": _validating("automaton", "objects"),
    "minProperties": _validating("automaton", "objects"),
    "maxProperties": _validating("automaton", "objects"),
    # cases.py
    "allOf": Rule("cases", "combination", holds="list"),
    "anyOf": Rule("cases", "combination", holds="list"),
    "oneOf": Rule("cases", "combination", holds="list"),
    "not": Rule("cases", "combination", holds="schema"),
    "if": Rule("cases", "combination", since=7, holds="schema"),
    "then": Rule("cases", "combination", since=7, holds="schema"),
    "else": Rule("cases", "combination", since=7, holds="schema"),
    "dependencies": Rule("cases", "combination", until=7, holds="map of schemas or names"),
    "dependentSchemas": Rule("cases", "combination", since=2019, holds="map"),
    "dependentRequired": _validating("cases", "combination", since=2019),
    "unevaluatedItems": Rule("cases", "combination", since=2019, holds="schema"),
    "unevaluatedProperties": Rule("cases", "combination", since=2019, holds="schema"),
    "$ref": Rule("reference", "references"),
    "$dynamicRef": Rule("reference", "references", since=2020),
    "$recursiveRef": Rule("reference", "references", since=2019, until=2019),
    "$defs": Rule("container", "references", holds="map"),
    "definitions": Rule("container", "references", holds="map"),
    # Names of the root or of a part: document.py finds what they change.
    "$id": Rule("annotation", "references"),
    "id": Rule("annotation", "references"),
    "$anchor": Rule("annotation", "references"),
    "$dynamicAnchor": Rule("annotation", "references"),
    "$recursiveAnchor": Rule("annotation", "references"),
    "$schema": Rule("annotation", "references"),
    "$vocabulary": Rule("annotation", "references"),
    "contentSchema": Rule("annotation", "annotations", holds="schema"),
} | {
    word: Rule("annotation", "annotations")
    for word in ("title", "description", "default", "examples", "$comment", "deprecated", "readOnly", "writeOnly",
                 "contentEncoding", "contentMediaType")
}  # fmt: skip

NAMES = frozenset(
    ("$id", "id", "$schema", "$anchor", "$dynamicAnchor", "$recursiveAnchor")
)  # of a schema or its version

# How the keywords of each kind of value are read, and in which ways they can be violated.
Reader: TypeAlias = Callable[[Place], Facet]
Violations: TypeAlias = Callable[[Place], Iterable[Facet]]
FAMILIES: Mapping[str, tuple[frozenset[str], Reader, Violations]] = {
    kind: (frozenset(word for word, rule in RULES.items() if rule.family == f"{kind}s"), family.read, family.violations)
    for kind, family in {"number": numbers, "string": strings, "array": arrays, "object": objects}.items()
}


def says_nothing(word: str, schema: Mapping[str, Any], draft: Draft) -> bool:
    """Is a word of a schema no keyword of its draft, or hidden: up to draft 7 by a "$ref" beside it?"""
    return word not in telling(schema, draft)


def telling(schema: Mapping[str, Any], draft: Draft) -> Collection[str]:
    """The words that say something where they stand in a schema: the others are hidden, or no keywords of its draft."""
    return ("$ref",) if "$ref" in schema and draft.year <= 7 else _telling(draft)


@lru_cache(32)
def _telling(draft: Draft) -> frozenset[str]:
    said = (word for word, rule in RULES.items() if rule.handling not in ("annotation", "container"))
    known = (word for word in said if RULES[word].since <= draft.year <= RULES[word].until)
    return frozenset(word for word in known if draft.validates or not RULES[word].validates)


@lru_cache(32)
def _known(draft: Draft) -> frozenset[str]:
    return frozenset(word for word, rule in RULES.items() if rule.since <= draft.year <= rule.until)


def subschemas(schema: Mapping[str, Any]) -> Iterator[tuple[Pointer, Any]]:
    """The schemas inside a schema, each with the steps that lead to it."""
    for word, value in schema.items():
        rule = RULES.get(word)
        if rule is None or not rule.holds:
            continue
        if isinstance(value, list) and "list" in rule.holds:
            yield from ((f"/{word}/{i}", part) for i, part in enumerate(value))
        elif isinstance(value, Mapping) and "map" in rule.holds:
            yield from ((f"/{word}/{escaped(name)}", part) for name, part in value.items())
        elif "map" not in rule.holds:
            yield f"/{word}", value


def check(pointer: Pointer, schema: Mapping[str, Any], draft: Draft) -> None:
    """Warn of words that look like misspelt keywords, and of keywords of other drafts."""
    if schema.keys() <= _known(draft) or ("$ref" in schema and draft.year <= 7):
        return
    for word in schema:
        rule = RULES.get(word)
        if rule is None:
            if nearest := _nearest(word):
                place = f"{pointer}/{escaped(word)}"
                warn(f"at {place}: `{word}` is not a keyword and constrains nothing; is `{nearest}` meant?")
        elif not rule.since <= draft.year <= rule.until:
            drafts = f"it belongs to {DRAFTS[rule.since].name} to {DRAFTS[rule.until].name}"
            place = f"{pointer}/{escaped(word)}"
            warn(f"at {place}: `{word}` is no keyword of {draft.name} and constrains nothing; {drafts}")


@lru_cache(4096)
def _nearest(word: str) -> str | None:
    matches = get_close_matches(word, RULES, n=1, cutoff=0.8)
    return matches[0] if matches else None


def read(place: Place) -> Mapping[str, Facet]:
    """What the keywords of a place say, by kind of value; a kind that is absent is not allowed."""
    said = {kind: reader(place) for kind, (words, reader, _) in FAMILIES.items() if not words.isdisjoint(place.schema)}
    types = read_types(place)
    return meet_kinds(types, {**types, **said}) if said else types


def violations(place: Place) -> Iterator[tuple[str, Facet]]:
    """The ways, each for one kind of value, not to obey what the families' keywords say; `type` is left out."""
    for kind, (words, _, ways) in FAMILIES.items():
        if not words.isdisjoint(place.schema):
            yield from ((kind, facet) for facet in ways(place))


def meet_kinds(first: Mapping[str, Facet], second: Mapping[str, Facet]) -> Mapping[str, Facet]:
    """What both say of the kinds that both allow. Most often one of them says nothing."""
    return {kind: _meet(KINDS[kind], facet, second[kind]) for kind, facet in first.items() if kind in second}


def _meet(nothing: Facet, first: Facet, second: Facet) -> Facet:
    if first is nothing or first is second:
        return second
    return first if second is nothing else first.meet(second)
