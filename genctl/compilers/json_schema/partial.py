"""Is a JSON value that is still being written surely invalid? JSON Schema in three values, and a second opinion.

    whole = WholeValues({"type": "array", "uniqueItems": True})
    whole.refuses(OpenArray([1, 2, 1]))            # True: whatever comes, the 1 stays there twice
    whole.verdict(OpenArray([1, 2, UNKNOWN]))      # None: that depends on what comes
    whole.valid([1, 2, 3])                         # True: every keyword says so, and `jsonschema` does

Kleene's logic: a keyword is true, false, or not known yet (None), and what is known stays so whatever is written next.
Open containers may get more members, never other ones. Numbers are int or Decimal, so that nothing of them is lost.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeAlias

from genctl.compilers.json_schema.context import Draft, decimal, identity, is_whole, kind_of
from genctl.compilers.json_schema.document import DIALECTS, Documents
from genctl.compilers.json_schema.numbers import is_multiple
from genctl.compilers.json_schema.rules import RULES, says_nothing
from genctl.compilers.json_schema.strings import Pattern

if TYPE_CHECKING:
    from referencing import Registry

Verdict: TypeAlias = bool | None
Formats: TypeAlias = Mapping[str, Callable[[str], bool]]

MEMO = 20_000  # verdicts on closed values that are kept


class _Unknown:
    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN = _Unknown()  # a value of which nothing is known, but that there is one


class AskedError(Exception):
    """What a string says matters."""


class AnyText(str):
    """A string of which nothing is known but how many characters it has at least: whoever asks what it says gets an
    AskedError.
    """

    least: int

    def __new__(cls, least: int) -> AnyText:
        made = super().__new__(cls)
        made.least = least
        return made

    def _asked(self, *_: object) -> NoReturn:
        raise AskedError

    __eq__ = __ne__ = __hash__ = __len__ = _asked


class OpenArray:
    """An array that may go on behind these items; the last one may be open itself, or UNKNOWN."""

    def __init__(self, items: Iterable[Any]) -> None:
        self.items = list(items)


class OpenObject:
    """An object that may go on behind these members; pending: another one has begun, its name is not known."""

    def __init__(self, members: dict[str, Any], pending: bool = False) -> None:
        self.members, self.pending = members, pending


# -- three values


def both(verdicts: Iterable[Verdict]) -> Verdict:
    """Is every one true?"""
    result: Verdict = True
    for verdict in verdicts:
        if verdict is False:
            return False
        if verdict is None:
            result = None
    return result


def either(verdicts: Iterable[Verdict]) -> Verdict:
    return negated(both(map(negated, verdicts)))


def negated(verdict: Verdict) -> Verdict:
    return None if verdict is None else not verdict


def settled(verdict: Verdict, closed: bool) -> Verdict:
    """Of what more members can only make false: true is not sure before the end."""
    return verdict if closed or verdict is False else None


class Members(NamedTuple):
    """What is known of an array (by index) or object (by name)."""

    values: Mapping[Any, Any]
    closed: bool
    size: int  # begun members; of a container that is not closed, at least so many


def members_of(value: Any, kind: str) -> Members | None:
    """None where the value is of another kind."""
    match value:
        case OpenArray() if kind == "array":
            return Members(dict(enumerate(value.items)), False, len(value.items))
        case OpenObject() if kind == "object":
            return Members(value.members, False, len(value.members) + value.pending)
        case list() if kind == "array":
            return Members(dict(enumerate(value)), True, len(value))
        case dict() if kind == "object":
            return Members(value, True, len(value))
    return None


def is_closed(value: Any) -> bool:
    return not isinstance(value, OpenArray | OpenObject | _Unknown)


# -- schemas


class Scope(NamedTuple):
    """Where references of a schema lead to, and by which draft it is read."""

    resolver: Any
    draft: Draft
    inside: bool = False  # of the schema's own resource already, if it is one


@dataclass(frozen=True)
class Evaluated:
    """Members that other keywords surely have seen to, and those that they may have seen to."""

    sure: frozenset[Any] = frozenset()
    maybe: frozenset[Any] = frozenset()

    def __or__(self, other: Evaluated) -> Evaluated:
        return Evaluated(self.sure | other.sure, self.maybe | other.maybe)

    def under(self, verdict: Verdict) -> Evaluated:
        """What counts of this where the schema that says it is obeyed, or may be."""
        if verdict is None:
            return Evaluated(frozenset(), self.maybe)
        return self if verdict else Evaluated()


class WholeValues:
    """A judge of whole values, as constraints/checked.py asks them.

    registry: documents that references may name, by URI; nothing is ever fetched. formats: the verdict on a string for
    each format that is enforced; all others are annotations.
    """

    def __init__(
        self, schema: Any, *, registry: Mapping[str, Any] | None = None, formats: Formats | None = None
    ) -> None:
        self._draft = Documents(schema, registry=registry).draft
        self._schema = self._plain(schema)
        if isinstance(self._schema, dict):
            self._schema.pop("$schema", None)
        self._remote = {uri: self._plain(document) for uri, document in (registry or {}).items()}
        self.formats = formats or {}
        text = json.dumps([self._schema, *self._remote.values()], default=str)
        self._dynamic = "$dynamicRef" in text or "$recursiveRef" in text
        self._memo: dict[tuple[int, int], tuple[Any, Verdict]] = {}
        self._targets: dict[int, tuple[Any, Scope]] = {}
        self._handlers: dict[int, tuple[Draft, Mapping[str, Any], list[Handler]]] = {}
        self._identities: dict[int, tuple[Any, Hashable]] = {}
        self._active: set[tuple[int, int]] = set()

    def _plain(self, document: Any) -> Any:
        """The document without the name of the draft that it is read by anyway: at that name jsonschema would begin
        to read it with its own class.
        """
        plain = exact(document)
        if isinstance(plain, dict) and _draft(plain.get("$schema")) is self._draft:
            del plain["$schema"]
        return plain

    def refuses(self, partial: Any, /) -> bool:
        return self.verdict(partial) is False

    def verdict(self, value: Any) -> Verdict:
        """True, or False, for every value that begins like this; None where that is not known."""
        self._active.clear()
        try:
            return self.check(self._schema, value, self._root)
        except RecursionError:
            return None

    def valid(self, value: Any, /) -> bool:
        """Is a closed value valid? The trusted validator must agree, where it can read the schema."""
        verdict = self.verdict(value)
        if verdict is False:
            return False
        trusted = self._trusted_verdict(value)
        return bool(verdict) if trusted is None else trusted

    # -- evaluation

    def check(self, schema: Any, value: Any, scope: Scope) -> Verdict:
        if isinstance(schema, bool) or not isinstance(schema, dict):
            return bool(schema) if isinstance(schema, bool) else None
        key = id(schema), id(value)
        if key in self._active:
            return None
        keeps = not self._dynamic and is_closed(value)
        if keeps and key in self._memo:
            return self._memo[key][1]
        self._active.add(key)
        scope = self._entered(schema, scope)
        verdict = both(handler(self, schema, value, scope) for handler in self._handlers_of(schema, scope.draft))
        self._active.discard(key)
        if keeps:
            if len(self._memo) >= MEMO:
                self._memo.clear()
                self._identities.clear()
            self._memo[key] = value, verdict
        return verdict

    def _handlers_of(self, schema: Mapping[str, Any], draft: Draft) -> list[Handler]:
        known = self._handlers.get(id(schema))
        if known is None or known[0] is not draft:
            known = self._handlers[id(schema)] = draft, schema, handlers(schema, draft)
        return known[2]

    def _entered(self, schema: Mapping[str, Any], scope: Scope) -> Scope:
        """The scope inside a schema, which may be a resource of its own."""
        draft = (_draft(schema["$schema"]) if "$schema" in schema else None) or scope.draft
        name = schema.get(draft.identifier)
        if scope.inside or not isinstance(name, str) or ("$ref" in schema and draft.year <= 7):
            return Scope(scope.resolver, draft) if scope.inside or draft is not scope.draft else scope
        return Scope(scope.resolver.in_subresource(_resource(schema, draft)), draft)

    def target(self, schema: Mapping[str, Any], keyword: str, scope: Scope) -> tuple[Any, Scope]:
        """What a reference refers to."""
        known = None if self._dynamic else self._targets.get(id(schema))
        if known is None:
            if keyword == "$recursiveRef":
                from referencing.jsonschema import lookup_recursive_ref

                found = lookup_recursive_ref(scope.resolver)
            else:
                found = scope.resolver.lookup(schema[keyword])
            known = found.contents, Scope(found.resolver, scope.draft, inside=True)
            self._targets[id(schema)] = known
        return known

    def identity(self, value: Any) -> Hashable:
        if not isinstance(value, list | dict):
            return identity(value)
        known = self._identities.get(id(value))
        if known is None:
            known = self._identities[id(value)] = value, identity(value)
        return known[1]

    # -- what other keywords have seen to

    def evaluated(self, schema: Any, value: Any, scope: Scope, kind: str) -> Evaluated:
        """The members of an array or object that a schema sees to, `unevaluated...` of its own left out."""
        if not isinstance(schema, dict):
            return Evaluated()
        scope = self._entered(schema, scope)
        found = members_of(value, kind)
        assert found is not None
        sees = _items_seen if kind == "array" else _members_seen
        result = sees(self, schema, found, scope)
        for part, condition, inner in _in_place(self, schema, value, scope):
            seen = self.evaluated(part, value, inner, kind)
            keyword = "unevaluatedItems" if kind == "array" else "unevaluatedProperties"
            if isinstance(part, dict) and keyword in part:
                every = frozenset(found.values)
                seen = Evaluated(every, every)
            result |= seen.under(condition)
        return result

    # -- the trusted validator

    @cached_property
    def _registry(self) -> Registry[Any]:
        from jsonschema_specifications import REGISTRY

        resources = [(uri, _resource(document, self._draft)) for uri, document in self._remote.items()]
        registry: Registry[Any] = REGISTRY.with_resources(resources).crawl()
        return registry

    @cached_property
    def _root(self) -> Scope:
        resolver = self._registry.resolver_with_root(_resource(self._schema, self._draft))
        return Scope(resolver, self._draft, inside=True)

    @cached_property
    def _trusted(self) -> Any:
        from jsonschema.validators import extend, validator_for

        found = validator_for({"$schema": _SCHEMA_NAMES[self._draft.year]})
        checker = found.TYPE_CHECKER.redefine("integer", lambda _, value: is_integer(value, self._draft))
        checks = {word: check for word, check in _EXACT.items() if word in found.VALIDATORS}
        if not self._draft.validates:
            checks |= {word: _errors(lambda _, value: True) for word, rule in RULES.items() if rule.validates}
        trusted = extend(found, checks, type_checker=checker)
        return trusted(self._schema, registry=self._registry, format_checker=_FormatChecker(self.formats))

    def _trusted_verdict(self, value: Any) -> Verdict:
        """None where the validator cannot read the schema: Python's `re` does not know all patterns."""
        import re

        try:
            return bool(self._trusted.is_valid(value))
        except (RecursionError, re.error):
            return None


_SCHEMA_NAMES = {
    4: "http://json-schema.org/draft-04/schema#",
    6: "http://json-schema.org/draft-06/schema#",
    7: "http://json-schema.org/draft-07/schema#",
    2019: "https://json-schema.org/draft/2019-09/schema",
    2020: "https://json-schema.org/draft/2020-12/schema",
}


def exact(schema: Any) -> Any:
    """A copy of plain JSON, every float as the decimal number that it is written as."""
    if isinstance(schema, Mapping):
        return {name: exact(part) for name, part in schema.items()}
    if isinstance(schema, list | tuple):
        return [exact(part) for part in schema]
    return decimal(schema) if isinstance(schema, float) else schema


def _draft(dialect: object) -> Draft | None:
    return DIALECTS.get(dialect.rstrip("#")) if isinstance(dialect, str) else None


def _resource(schema: Any, draft: Draft) -> Any:
    named = _draft(schema.get("$schema")) if isinstance(schema, dict) else None
    return _specification((named or draft).year).create_resource(schema)


def _specification(year: int) -> Any:
    """How documents of a draft refer to each other.

    Draft 4 has no boolean schemas, and `referencing` fails on them; a document of the registry that names no draft may
    have some.
    """
    from attrs import evolve
    from referencing.jsonschema import specification_with

    given: Any = specification_with(_SCHEMA_NAMES[year])
    if year != 4:
        return given
    return evolve(
        given,
        id_of=lambda schema: given.id_of(schema) if isinstance(schema, dict) else None,
        anchors_in=lambda _, schema: given.anchors_in(schema) if isinstance(schema, dict) else (),
        subresources_of=lambda schema: given.subresources_of(schema) if isinstance(schema, dict) else (),
    )


# -- keywords

Handler: TypeAlias = Callable[[WholeValues, Mapping[str, Any], Any, Scope], Verdict]


def is_integer(value: Any, draft: Draft) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int) or (isinstance(value, Decimal) and draft.whole_fractions and is_whole(value))


def _kind(value: Any) -> str:
    if isinstance(value, OpenArray):
        return "array"
    return "object" if isinstance(value, OpenObject) else kind_of(value)


def _type(_: WholeValues, schema: Mapping[str, Any], value: Any, scope: Scope) -> Verdict:
    if value is UNKNOWN:
        return None
    names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return _kind(value) in names or ("integer" in names and is_integer(value, scope.draft))


def _listed(judge: WholeValues, values: Sequence[Any], value: Any) -> Verdict:
    if is_closed(value):
        return judge.identity(value) in {judge.identity(one) for one in values}
    return None if any(may_become(value, one) for one in values) else False


def may_become(partial: Any, value: Any) -> bool:
    """Can what has been written become this value?"""
    if partial is UNKNOWN:
        return True
    if isinstance(partial, OpenArray):
        fits = isinstance(value, list) and len(value) >= len(partial.items)
        return fits and all(map(may_become, partial.items, value))
    if isinstance(partial, OpenObject):
        fits = isinstance(value, dict) and len(value) >= len(partial.members) + partial.pending
        return fits and all(name in value and may_become(one, value[name]) for name, one in partial.members.items())
    return identity(partial) == identity(value)


def _enum(judge: WholeValues, schema: Mapping[str, Any], value: Any, _: Scope) -> Verdict:
    return _listed(judge, schema["enum"], value)


def _const(judge: WholeValues, schema: Mapping[str, Any], value: Any, _: Scope) -> Verdict:
    return _listed(judge, [schema["const"]], value)


# numbers


def _number(holds: Callable[[Any, Any, Mapping[str, Any]], bool], keyword: str) -> Handler:
    def handler(_: WholeValues, schema: Mapping[str, Any], value: Any, scope: Scope) -> Verdict:
        if value is UNKNOWN:
            return None
        if isinstance(value, bool) or not isinstance(value, int | Decimal) or isinstance(schema[keyword], bool):
            return True
        return holds(value, schema[keyword], schema if scope.draft.year == 4 else {})

    return handler


# strings


def found(pattern: str, text: str) -> bool:
    """Is an ECMA-262 pattern found in the text?"""
    return Pattern(pattern, "").holds(text)


def _string(holds: Callable[[WholeValues, str, Any], bool], keyword: str) -> Handler:
    def handler(judge: WholeValues, schema: Mapping[str, Any], value: Any, _: Scope) -> Verdict:
        if value is UNKNOWN:
            return None
        if isinstance(value, AnyText):
            if keyword == "minLength" and schema[keyword] <= value.least:
                return True
            raise AskedError
        return holds(judge, value, schema[keyword]) if isinstance(value, str) else True

    return handler


def _admitted(judge: WholeValues, text: str, name: Any) -> bool:
    admits = judge.formats.get(name)
    return admits is None or admits(text)


# arrays and objects


def _sized(kind: str, keyword: str, *, least: bool) -> Handler:
    def handler(_: WholeValues, schema: Mapping[str, Any], value: Any, __: Scope) -> Verdict:
        if value is UNKNOWN:
            return None
        members, bound = members_of(value, kind), schema[keyword]
        if members is None:
            return True
        if least:
            return True if members.size >= bound else (False if members.closed else None)
        return False if members.size > bound else (True if members.closed else None)

    return handler


def _of(kind: str) -> Callable[[Callable[..., Verdict]], Handler]:
    """A handler from what a keyword says of the members of one kind of container."""

    def decorate(rule: Callable[..., Verdict]) -> Handler:
        def handler(judge: WholeValues, schema: Mapping[str, Any], value: Any, scope: Scope) -> Verdict:
            if value is UNKNOWN:
                return None
            members = members_of(value, kind)
            return True if members is None else rule(judge, schema, members, scope, value)

        return handler

    return decorate


def _prefix(schema: Mapping[str, Any], draft: Draft) -> list[Any]:
    listed = schema.get("prefixItems", []) if draft.year >= 2020 else schema.get("items", [])
    return listed if isinstance(listed, list) else []


def _rest(schema: Mapping[str, Any], draft: Draft) -> Any:
    """What obliges the items behind those with schemas of their own."""
    if draft.year >= 2020:
        return schema.get("items", True)
    items = schema.get("items", True)
    return schema.get("additionalItems", True) if isinstance(items, list) else items


@_of("array")
def _items(judge: WholeValues, schema: Mapping[str, Any], members: Members, scope: Scope, _: Any) -> Verdict:
    prefix, rest = _prefix(schema, scope.draft), _rest(schema, scope.draft)
    parts = ((prefix[i] if i < len(prefix) else rest, item) for i, item in members.values.items())
    closed = members.closed or (rest is True and members.size >= len(prefix))
    return settled(both(judge.check(part, item, scope) for part, item in parts), closed)


@_of("array")
def _contains(judge: WholeValues, schema: Mapping[str, Any], members: Members, scope: Scope, _: Any) -> Verdict:
    modern = scope.draft.year >= 2019
    least = schema.get("minContains", 1) if modern else 1
    most = schema.get("maxContains") if modern else None
    verdicts = [judge.check(schema["contains"], item, scope) for item in members.values.values()]
    sure, possible = verdicts.count(True), len(verdicts) - verdicts.count(False)
    if (most is not None and sure > most) or (members.closed and possible < least):
        return False
    return True if sure >= least and (most is None or (members.closed and possible <= most)) else None


@_of("array")
def _unique(judge: WholeValues, schema: Mapping[str, Any], members: Members, _: Scope, __: Any) -> Verdict:
    if schema["uniqueItems"] is not True:
        return True
    closed = [judge.identity(item) for item in members.values.values() if is_closed(item)]
    if len(set(closed)) < len(closed):
        return False
    return True if members.closed else None


@_of("object")
def _properties(judge: WholeValues, schema: Mapping[str, Any], members: Members, scope: Scope, _: Any) -> Verdict:
    """properties, patternProperties and additionalProperties."""
    declared, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    rest = schema.get("additionalProperties", True)

    def parts(name: str) -> list[Any]:
        own = [declared[name]] if name in declared else []
        own += [part for pattern, part in patterns.items() if found(pattern, name)]
        return own or [rest]

    verdicts = (judge.check(part, value, scope) for name, value in members.values.items() for part in parts(name))
    closed = members.closed or (rest is True and not patterns and all(name in members.values for name in declared))
    return settled(both(verdicts), closed)


@_of("object")
def _names(judge: WholeValues, schema: Mapping[str, Any], members: Members, scope: Scope, _: Any) -> Verdict:
    return settled(both(judge.check(schema["propertyNames"], name, scope) for name in members.values), members.closed)


def _all_in(members: Members, names: Iterable[str]) -> Verdict:
    if all(name in members.values for name in names):
        return True
    return False if members.closed else None


@_of("object")
def _required(_: WholeValues, schema: Mapping[str, Any], members: Members, __: Scope, ___: Any) -> Verdict:
    return _all_in(members, schema["required"] if isinstance(schema["required"], list) else ())


def _dependent(keyword: str) -> Handler:
    @_of("object")
    def handler(judge: WholeValues, schema: Mapping[str, Any], members: Members, scope: Scope, value: Any) -> Verdict:
        def one(name: str, need: Any) -> Verdict:
            if name not in members.values:
                return True if members.closed else either([None, need is True])
            needed = [need] if isinstance(need, str) else need
            return _all_in(members, needed) if isinstance(needed, list) else judge.check(need, value, scope)

        return both(one(name, need) for name, need in schema[keyword].items())

    return handler


@_of("array")
def _unevaluated_items(
    judge: WholeValues, schema: Mapping[str, Any], members: Members, scope: Scope, value: Any
) -> Verdict:
    seen = judge.evaluated(schema, value, scope, "array")
    return _unevaluated(judge, schema["unevaluatedItems"], members, seen, scope)


@_of("object")
def _unevaluated_properties(
    judge: WholeValues, schema: Mapping[str, Any], members: Members, scope: Scope, value: Any
) -> Verdict:
    seen = judge.evaluated(schema, value, scope, "object")
    return _unevaluated(judge, schema["unevaluatedProperties"], members, seen, scope)


def _unevaluated(judge: WholeValues, part: Any, members: Members, seen: Evaluated, scope: Scope) -> Verdict:
    def one(key: Any, value: Any) -> Verdict:
        if key in seen.sure:
            return True
        verdict = judge.check(part, value, scope)
        return verdict if key not in seen.maybe else either([verdict, None])

    if part is True:
        return True
    return settled(both(one(key, value) for key, value in members.values.items()), members.closed)


def _items_seen(judge: WholeValues, schema: Mapping[str, Any], members: Members, scope: Scope) -> Evaluated:
    draft, indices = scope.draft, members.values
    if "items" in schema and (draft.year >= 2020 or not isinstance(schema["items"], list)):
        return Evaluated(frozenset(indices), frozenset(indices))
    if "additionalItems" in schema and isinstance(schema.get("items"), list) and draft.year < 2020:
        return Evaluated(frozenset(indices), frozenset(indices))
    prefix = frozenset(i for i in indices if i < len(_prefix(schema, draft)))
    result = Evaluated(prefix, prefix)
    if "contains" in schema and draft.year >= 2020:
        verdicts = {i: judge.check(schema["contains"], item, scope) for i, item in indices.items()}
        sure = frozenset(i for i, verdict in verdicts.items() if verdict)
        maybe = frozenset(i for i, verdict in verdicts.items() if verdict is not False)
        result |= Evaluated(sure, maybe)
    return result


def _members_seen(_: WholeValues, schema: Mapping[str, Any], members: Members, __: Scope) -> Evaluated:
    declared, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    names = frozenset(
        name
        for name in members.values
        if "additionalProperties" in schema or name in declared or any(found(pattern, name) for pattern in patterns)
    )
    return Evaluated(names, names)


def _in_place(
    judge: WholeValues, schema: Mapping[str, Any], value: Any, scope: Scope
) -> Iterator[tuple[Any, Verdict, Scope]]:
    """Schemas that a schema applies to the value itself: each with whether it is applied and obeyed."""
    for keyword in REFERENCES:
        if keyword in schema and not says_nothing(keyword, schema, scope.draft):
            part, inner = judge.target(schema, keyword, scope)
            yield part, judge.check(part, value, inner), inner
    parts = [part for keyword in ("allOf", "anyOf", "oneOf") for part in schema.get(keyword, [])]
    for part in parts:
        yield part, judge.check(part, value, scope), scope
    if "if" in schema:
        condition = judge.check(schema["if"], value, scope)
        yield schema["if"], condition, scope
        for keyword, applied in ("then", condition), ("else", negated(condition)):
            if keyword in schema:
                yield schema[keyword], both([applied, judge.check(schema[keyword], value, scope)]), scope
    members = members_of(value, "object")
    for name, part in schema.get("dependentSchemas", {}).items():
        if members is not None and name in members.values:
            yield part, judge.check(part, value, scope), scope


# in place


def _reference(keyword: str) -> Handler:
    def handler(judge: WholeValues, schema: Mapping[str, Any], value: Any, scope: Scope) -> Verdict:
        part, inner = judge.target(schema, keyword, scope)
        return judge.check(part, value, inner)

    return handler


def _all_of(judge: WholeValues, schema: Mapping[str, Any], value: Any, scope: Scope) -> Verdict:
    return both(judge.check(part, value, scope) for part in schema["allOf"])


def _any_of(judge: WholeValues, schema: Mapping[str, Any], value: Any, scope: Scope) -> Verdict:
    return either(judge.check(part, value, scope) for part in schema["anyOf"])


def _one_of(judge: WholeValues, schema: Mapping[str, Any], value: Any, scope: Scope) -> Verdict:
    verdicts = [judge.check(part, value, scope) for part in schema["oneOf"]]
    if verdicts.count(True) > 1 or verdicts.count(False) == len(verdicts):
        return False
    return True if verdicts.count(False) == len(verdicts) - 1 and True in verdicts else None


def _not(judge: WholeValues, schema: Mapping[str, Any], value: Any, scope: Scope) -> Verdict:
    return negated(judge.check(schema["not"], value, scope))


def _if(judge: WholeValues, schema: Mapping[str, Any], value: Any, scope: Scope) -> Verdict:
    condition = judge.check(schema["if"], value, scope)
    then = True if condition is False else judge.check(schema.get("then", True), value, scope)
    otherwise = True if condition is True else judge.check(schema.get("else", True), value, scope)
    if condition is not None:
        return then if condition else otherwise
    return then if then == otherwise else None


def _most(value: Any, bound: Any, schema: Mapping[str, Any]) -> bool:
    return bool(value < bound if schema.get("exclusiveMaximum") is True else value <= bound)


def _least(value: Any, bound: Any, schema: Mapping[str, Any]) -> bool:
    return bool(value > bound if schema.get("exclusiveMinimum") is True else value >= bound)


REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")

# In which drafts a keyword is one, is said in rules.py. A handler of several keywords stands at each of them.
KEYWORDS: dict[str, Handler] = {
    "$ref": _reference("$ref"),
    "$dynamicRef": _reference("$dynamicRef"),
    "$recursiveRef": _reference("$recursiveRef"),
    "type": _type,
    "enum": _enum,
    "const": _const,
    "minimum": _number(_least, "minimum"),
    "maximum": _number(_most, "maximum"),
    "exclusiveMinimum": _number(lambda value, bound, _: bool(value > bound), "exclusiveMinimum"),
    "exclusiveMaximum": _number(lambda value, bound, _: bool(value < bound), "exclusiveMaximum"),
    "multipleOf": _number(lambda value, factor, _: is_multiple(value, factor), "multipleOf"),
    "minLength": _string(lambda _, text, bound: len(text) >= bound, "minLength"),
    "maxLength": _string(lambda _, text, bound: len(text) <= bound, "maxLength"),
    "pattern": _string(lambda _, text, pattern: found(pattern, text), "pattern"),
    "format": _string(_admitted, "format"),
    "minItems": _sized("array", "minItems", least=True),
    "maxItems": _sized("array", "maxItems", least=False),
    "prefixItems": _items,
    "items": _items,
    "contains": _contains,
    "uniqueItems": _unique,
    "unevaluatedItems": _unevaluated_items,
    "minProperties": _sized("object", "minProperties", least=True),
    "maxProperties": _sized("object", "maxProperties", least=False),
    "properties": _properties,
    "patternProperties": _properties,
    "additionalProperties": _properties,
    "propertyNames": _names,
    "required": _required,
    "dependencies": _dependent("dependencies"),
    "dependentRequired": _dependent("dependentRequired"),
    "dependentSchemas": _dependent("dependentSchemas"),
    "unevaluatedProperties": _unevaluated_properties,
    "allOf": _all_of,
    "anyOf": _any_of,
    "oneOf": _one_of,
    "not": _not,
    "if": _if,
}


def handlers(schema: Mapping[str, Any], draft: Draft) -> list[Handler]:
    """Each once."""
    known = (word for word in schema if word in KEYWORDS and not says_nothing(word, schema, draft))
    return list(dict.fromkeys(KEYWORDS[word] for word in known))


# -- what jsonschema leaves to floats and to Python's `re`, exactly


class _FormatChecker:
    def __init__(self, formats: Formats) -> None:
        self._formats = formats

    def check(self, value: Any, name: str) -> None:
        from jsonschema.exceptions import FormatError

        admits = self._formats.get(name)
        if admits is not None and isinstance(value, str) and not admits(value):
            raise FormatError(f"{value!r} is no {name!r}")


def _errors(holds: Callable[[Any, Any], bool]) -> Callable[..., Iterator[Any]]:
    def check(validator: Any, said: Any, value: Any, _: Any) -> Iterator[Any]:
        from jsonschema.exceptions import ValidationError

        if not holds(said, value):
            yield ValidationError("does not hold")

    return check


def _pattern_properties(validator: Any, patterns: Mapping[str, Any], value: Any, _: Any) -> Iterator[Any]:
    for name, member in value.items() if isinstance(value, dict) else ():
        for pattern, part in patterns.items():
            if found(pattern, name):
                yield from validator.descend(member, part)


def _additional_properties(validator: Any, part: Any, value: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
    declared, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for name, member in value.items() if isinstance(value, dict) else ():
        if name not in declared and not any(found(pattern, name) for pattern in patterns):
            yield from validator.descend(member, part)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


_EXACT: dict[str, Callable[..., Iterator[Any]]] = {
    "multipleOf": _errors(lambda factor, value: not _is_number(value) or is_multiple(value, factor)),
    "pattern": _errors(lambda pattern, value: not isinstance(value, str) or found(pattern, value)),
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _errors(
        lambda unique, value: (
            unique is not True or not isinstance(value, list) or len(set(map(identity, value))) == len(value)
        )
    ),
}
