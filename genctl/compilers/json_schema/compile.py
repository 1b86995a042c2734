"""JSON Schema -> automaton: every text it accepts is a valid instance, in the schema's order of properties.

    automaton = compile_json_schema({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})
    accepts(automaton, b'{"n": 3}')                        # True

Each conjunction of places (context.Node) becomes one rule a case, written once however often it is used. Parts that
admit nothing are pruned by the automaton itself; a schema that admits nothing is refused with the place and reason.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from decimal import Decimal
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeVar, get_args

from genctl.automata.base import DEAD, UNREACHABLE
from genctl.automata.expressions import EMPTY, Call, Expression, Grammar, Literal, Union, union
from genctl.automata.nfa import Base, LayeredRules
from genctl.automata.pushdown import GrammarAutomaton
from genctl.collector import uncollected
from genctl.compilers.json_schema.cases import SCALARS, Case, Expander
from genctl.compilers.json_schema.context import (
    ANYTHING,
    Draft,
    Facet,
    Node,
    Part,
    Pointer,
    PropertyOrder,
    Space,
    identity,
    kind_of,
    shown,
)
from genctl.compilers.json_schema.document import MAX_DEPTH, Documents, plain_json
from genctl.compilers.json_schema.numbers import Numbers
from genctl.compilers.json_schema.strings import Strings
from genctl.compilers.json_schema.values import common, spellings
from genctl.compilers.json_schema.whitespace import style
from genctl.errors import ConstraintError, UnsatisfiableError, hearing

T = TypeVar("T")
ENDLESS = "the schema cannot end: every value would have to contain another one of the same kind"
TOGETHER = "no value obeys all of these keywords together"
TOO_DEEP = "a listed value is nested too deep"
MAX_RULES = 200_000
ROOT: Node = (Part(""),)


def compile_json_schema(schema: Mapping[str, Any] | bool | str, **options: Any) -> GrammarAutomaton:
    """The automaton alone (options: those of `compile_schema`); refused where whole values have to be checked too."""
    automaton = compile_schema(schema, **options)
    for pointer, reason in automaton.notes["checks"]:
        raise ConstraintError(reason, pointer=pointer, hint="use genctl.json, which checks whole values as well")
    return automaton


def compile_schema(
    schema: Mapping[str, Any] | bool | str,
    *,
    whitespace: str | int = "bounded",
    property_order: PropertyOrder = "declared",
    formats: bool = True,
    registry: Mapping[str, Any] | None = None,
) -> GrammarAutomaton:
    """The JSON texts (UTF-8) of the instances of a schema, given as an object or as JSON text.

    whitespace: "compact" has none, "spaced" one space behind `,` and `:` as `json.dumps` writes, "bounded" either, or
    lines indented by up to 20 spaces; a number makes every item a line, indented by that many spaces a level (up to 20
    levels; a text may skip some). property_order: "declared" lists the declared properties in the schema's order (see
    objects.py), "any" leaves the order open. formats: is `format` enforced, or an annotation? registry: documents that
    references may lead to, by absolute URI; nothing is ever fetched.

    The automaton's notes say what it leaves to constraints/checked.py: "repeats", may a name come twice in an object;
    "checks", the places (pointer, reason) of which it admits more than the schema does.

    Raises ConstraintError, with a JSON pointer, for what is no schema and for keywords that cannot be enforced;
    UnsatisfiableError for a schema that no finite value obeys; warns of words that look like misspelt keywords.
    """
    if property_order not in get_args(PropertyOrder):
        raise ConstraintError(f'property_order must be "declared" or "any", not {property_order!r}')
    space = style(whitespace)
    return _each_once(lambda documents: _compiled(documents, space, property_order), schema, formats, registry)


def schema_grammar(
    schema: Mapping[str, Any] | bool | str,
    whitespace: str | int = "bounded",
    property_order: PropertyOrder = "declared",
    formats: bool = True,
    registry: Mapping[str, Any] | None = None,
) -> Grammar:
    """What `compile_schema` makes the automaton of."""
    space = style(whitespace)
    return _each_once(lambda documents: _expanded(documents, space, property_order)[1], schema, formats, registry)


@uncollected
def _each_once(
    make: Callable[[Documents], T],
    schema: Mapping[str, Any] | bool | str,
    formats: bool,
    registry: Mapping[str, Any] | None,
) -> T:
    """What is made of a schema in which places that say the same stand for each other. Where that is refused, each
    stands for itself, so that the one that is named is the one that is meant.
    """
    plain = _parsed(schema)
    documents = Documents(plain, formats=formats, registry=registry)
    try:
        return make(documents)
    except ConstraintError:
        if not documents.merged:
            raise
    with hearing(told=False):
        return make(Documents(plain, formats=formats, registry=registry, merged=False))


def _compiled(documents: Documents, space: Space, property_order: PropertyOrder) -> GrammarAutomaton:
    compiler, grammar = _expanded(documents, space, property_order)
    try:
        automaton = GrammarAutomaton(grammar.start, grammar.rules)
    except RecursionError as error:
        raise ConstraintError(TOO_DEEP, pointer="") from error
    if automaton.start == DEAD:
        pointer, reason = compiler.explain(ROOT, automaton.lengths)
        raise UnsatisfiableError(reason, pointer=shown(pointer))
    automaton.notes = compiler.notes()
    return automaton


def _expanded(documents: Documents, space: Space, property_order: PropertyOrder) -> tuple[Compiler, Grammar]:
    shared = _shared(space, documents.draft, property_order)
    compiler = Compiler(documents, space, property_order, shared)
    start = compiler.expression(ROOT)
    try:
        return compiler, Grammar(start, LayeredRules(shared.base, compiler.rules()))
    except RecursionError as error:
        raise ConstraintError(TOO_DEEP, pointer="") from error


def _parsed(schema: object) -> object:
    """Plain JSON. What `json.loads` made is that, but for constants such as NaN, unless it is nested too deep."""
    if not isinstance(schema, str):
        return plain_json(schema)
    constants: list[float] = []

    def constant(name: str) -> float:
        constants.append(float(name))
        return constants[-1]

    try:
        value = json.loads(schema, parse_float=Decimal, parse_constant=constant)
        deep = schema.count("[") + schema.count("{") > MAX_DEPTH
        return plain_json(value) if constants or deep else value
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise ConstraintError(
            f"the schema is not JSON that can be read: {error or type(error).__name__}", source=schema
        ) from error


class Compiler:
    """Context of the facets: makes rules on demand, each once, and compiles them one after the other."""

    def __init__(
        self, documents: Documents, space: Space, property_order: PropertyOrder, shared: _Shared | None = None
    ) -> None:
        self.draft = documents.draft
        self.property_order = property_order
        self._checks: dict[Pointer, str] = {}
        self._expander = Expander(documents, partial(_note, self._checks))
        self._calls: dict[Hashable, Call] = {} if shared is None else shared.calls.copy()
        self._names: dict[Hashable, str] = {} if shared is None else shared.names.copy()
        self._rules: dict[str, Expression] = {}
        self._waiting: deque[tuple[str, Callable[[], Expression]]] = deque()
        self._repeats = False
        self._repeating = frozenset[str]() if shared is None else shared.repeating
        self.space = Space(*map(self._space_rule, space))._replace(colon=space.colon)

    # -- Context

    def expression(self, node: Node, /) -> Expression:
        """A call for each case of the node."""
        calls = tuple(dict.fromkeys(map(self._call, self.cases(node))))
        self._repeats = self._repeats or not self._repeating.isdisjoint(call.rule for call in calls)
        return calls[0] if len(calls) == 1 else Union(calls)

    def values(self, node: Node, /) -> list[Any] | None:
        found: dict[Hashable, Any] = {}
        for case in self.cases(node):
            values = self._listed(case)
            if values is None:
                return None
            for value in values:
                found.setdefault(identity(value), value)
        return list(found.values())

    def spelled(self, node: Node, value: object, /) -> Expression:
        cases = [case for case in self.cases(node) if self._admits_case(case, value)]
        return union(*(spellings([value], self, fractions=self._fractions(case.kinds)) for case in cases))

    def check(self, pointer: Pointer, reason: str, /) -> None:
        _note(self._checks, pointer, reason)

    def repeating(self) -> None:
        self._repeats = True

    def notes(self) -> dict[str, Any]:
        """What the automaton does not hold, for constraints/checked.py."""
        return {"repeats": self._repeats, "checks": [list(check) for check in self._checks.items()]}

    def strings(self, node: Node, /) -> tuple[Facet, ...]:
        return tuple(facet for case in self.cases(node) if (facet := self._strings(case)) is not None)

    def admits(self, node: Node, value: object, /) -> bool:
        return node == ANYTHING or any(self._admits_case(case, value) for case in self.cases(node))

    def rule(self, key: Hashable, make: Callable[[], Expression], /) -> Call:
        """A call of the rule with this key; its expression is made later, so depth costs no recursion."""
        name = self._names.get(key)
        if name is None:
            if len(self._names) >= MAX_RULES:
                raise ConstraintError(f"the schema needs more than {MAX_RULES:,} rules", pointer="")
            name = self._names[key] = f"{len(self._names)}"
            self._waiting.append((name, make))
        return Call(name)

    def own_rule(self, expression: Expression, /) -> Call:
        return self.rule(object(), lambda: expression)

    # -- rules

    def rules(self) -> dict[str, Expression]:
        """All rules that are needed, compiled."""
        while self._waiting:
            name, make = self._waiting.popleft()
            self._rules[name] = make()
        return self._rules

    def _space_rule(self, space: Expression) -> Expression:
        """White space that is more than a byte is a rule."""
        short = isinstance(space, Literal) or space == EMPTY
        return space if short else self.rule(("space", space), lambda: space)

    def _call(self, case: Case) -> Call:
        """Cases that say the same have one rule."""
        call = self._calls.get(case)
        if call is None:
            call = self._calls.get(case.key)
            if call is None:
                scalar = case.values is None and case.kinds.keys().isdisjoint(("array", "object"))
                key: Hashable = ("scalar", *case.kinds.values()) if scalar else ("case", case.key)
                call = self.rule(key, partial(self._case, case))
            self._calls[case] = self._calls[case.key] = call
        return call

    def shared(self) -> _Shared:
        """What all schemas have in common: scalar values and whatever comes where anything may come."""
        anything = self.expression(ANYTHING)
        assert isinstance(anything, Call)
        for found in SCALARS.values():
            self._call(*found.cases)
        return _Shared(Base(self.rules()), self._calls, self._names, frozenset((anything.rule,)))

    def cases(self, node: Node) -> tuple[Case, ...]:
        return self._expander.cases(node).cases

    def _case(self, case: Case) -> Expression:
        if case.values is None:
            return union(*(facet.expression(self) for facet in case.kinds.values()))
        return spellings(self._admitted(case.kinds, case.values), self, fractions=self._fractions(case.kinds))

    def _fractions(self, kinds: Mapping[str, Facet]) -> bool:
        numbers = kinds.get("number")
        return self.draft.whole_fractions or not (isinstance(numbers, Numbers) and numbers.integer)

    def _listed(self, case: Case) -> list[Any] | None:
        """The values of a case, if they are listed or of a type that has only a few."""
        values = case.values
        if values is None and case.kinds.keys() <= {"null", "boolean"}:
            values = [None, False, True]
        return None if values is None else list(self._admitted(case.kinds, values))

    def _strings(self, case: Case) -> Facet | None:
        facet = case.kinds.get("string")
        if facet is None or case.values is None:
            return facet
        listed = frozenset(value for value in self._admitted(case.kinds, case.values) if isinstance(value, str))
        return Strings(only=listed) if listed else None

    def _admitted(self, kinds: Mapping[str, Facet], values: Iterable[Any]) -> Iterator[Any]:
        for value in values:
            facet = kinds.get(kind_of(value))
            if facet is not None and facet.admits(value, self):
                yield value

    def _admits_case(self, case: Case, value: Any) -> bool:
        listed = case.values is None or common([value], case.values) != []
        return listed and any(True for _ in self._admitted(case.kinds, [value]))

    # -- why a schema admits nothing

    def explain(self, node: Node, lengths: Mapping[str, int]) -> tuple[Pointer, str]:
        """The place that leaves a node without any finite value, and the reason.

        Every way leads to such a place, or in a circle; the first one is followed.
        """
        seen: set[Hashable] = set()
        role = ""
        while True:
            found = self._expander.cases(node)
            if not found.cases:
                pointer, why = found.dropped or (node[-1].pointer, "no value is valid")
                return pointer, why + role
            case = found.cases[0]
            if case.key in seen:
                return case.pointer, ENDLESS
            seen.add(case.key)
            reason = self._conflict(case)
            if reason is not None:
                return case.pointer, reason + role
            needs = (need for facet in case.kinds.values() for need in facet.needs())
            missing = next(((what, node) for what, node in needs if not self._can_end(node, lengths)), None)
            if missing is None:
                return case.pointer, TOGETHER + role
            what, node = missing
            role = f" (needed for {what})"

    def _conflict(self, case: Case) -> str | None:
        if not case.kinds:
            return "no type is left: the types asked for exclude each other"
        if case.values is not None and not any(True for _ in self._admitted(case.kinds, case.values)):
            return "no value is listed" if not case.values else "none of the listed values obeys the other keywords"
        return next(filter(None, (facet.conflict(self) for facet in case.kinds.values())), None)

    def _can_end(self, node: Node, lengths: Mapping[str, int]) -> bool:
        calls = (self._calls.get(case.key) for case in self.cases(node))
        return any(call is not None and lengths.get(call.rule, 0) < UNREACHABLE for call in calls)


def _note(checks: dict[Pointer, str], pointer: Pointer, reason: str) -> None:
    checks.setdefault(shown(pointer), reason)


class _Shared(NamedTuple):
    """Rules that every schema begins with, and what they are known by."""

    base: Base
    calls: dict[Hashable, Call]
    names: dict[Hashable, str]
    repeating: frozenset[str]  # those of the rules in which a name may come twice that others call


@lru_cache(32)
def _shared(space: Space, draft: Draft, property_order: PropertyOrder) -> _Shared:
    return Compiler(Documents(True, draft), space, property_order).shared()
