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
from typing import Any, NamedTuple

from genctl.automata.base import DEAD, UNREACHABLE, Automaton, accepts
from genctl.automata.expressions import EMPTY, NOTHING, Call, Embedded, Expression, Literal, Union, union
from genctl.automata.nfa import Base, LayeredRules
from genctl.automata.pushdown import GrammarAutomaton
from genctl.automata.tabulated import tabulated
from genctl.compilers.json_schema.cases import Case, Cases, cases
from genctl.compilers.json_schema.context import ANYTHING, Draft, Facet, Node, Pointer, Space
from genctl.compilers.json_schema.document import MAX_DEPTH, Document, plain_json
from genctl.compilers.json_schema.numbers import Numbers
from genctl.compilers.json_schema.rules import meet_kinds, read
from genctl.compilers.json_schema.values import KINDS, TYPES, common, kind_of, read_values, spellings
from genctl.compilers.json_schema.whitespace import style
from genctl.errors import ConstraintError, UnsatisfiableError

ENDLESS = "the schema cannot end: every value would have to contain another one of the same kind"
MAX_RULES = 200_000


def compile_json_schema(
    schema: Mapping[str, Any] | bool | str, *, whitespace: str | int = "bounded"
) -> GrammarAutomaton:
    """The JSON texts (UTF-8) of the instances of a schema, given as an object or as JSON text.

    whitespace: "compact" has none, "spaced" one space behind `,` and `:` as `json.dumps` writes, "bounded" either, or
    lines indented by up to 20 spaces; a number makes every item a line, indented by that many spaces a level (up to 20
    levels; a text may skip some). Objects list their declared properties in the schema's order (see objects.py).

    Raises ConstraintError, with a JSON pointer, for what is no schema and for keywords that cannot be enforced;
    UnsatisfiableError for a schema that no finite value obeys; warns of words that look like misspelt keywords.
    """
    document, space = Document(_parsed(schema)), style(whitespace)
    shared = _shared(space, document.draft)
    compiler = Compiler(document, space, shared)
    start = compiler.expression(("",))
    try:
        automaton = GrammarAutomaton(start, LayeredRules(shared.base, compiler.rules()))
    except RecursionError as error:
        raise ConstraintError("a listed value is nested too deep", pointer="") from error
    if automaton.start == DEAD:
        pointer, reason = compiler.explain(("",), automaton.lengths)
        raise UnsatisfiableError(reason, pointer=pointer)
    return automaton


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


class Merged(NamedTuple):
    """What the places of a case say together: by kind of value, and the values listed (None: all)."""

    kinds: Mapping[str, Facet]
    values: list[Any] | None


class Compiler:
    """Context of the facets: makes rules on demand, each once, and compiles them one after the other."""

    def __init__(self, document: Document, space: Space, shared: _Shared | None = None) -> None:
        self.draft = document.draft
        self._document = document
        self._cases: dict[Node, Cases] = {}
        self._merged: dict[Case, Merged] = {}
        self._calls: dict[Case, Call] = {} if shared is None else shared.calls.copy()
        self._names: dict[Hashable, str] = {} if shared is None else shared.names.copy()
        self._rules: dict[str, Expression] = {}
        self._waiting: deque[tuple[str, Callable[[], Expression]]] = deque()
        self._automata: dict[Hashable, Expression] = {}
        self._patterns: dict[str, Automaton] = {}
        self.space = Space(*map(self._space_rule, space))._replace(colon=space.colon)

    # -- Context

    def expression(self, node: Node, /) -> Expression:
        """A call for each case of the node."""
        calls = tuple(dict.fromkeys(map(self._call, self.cases(node))))
        return calls[0] if len(calls) == 1 else Union(calls)

    def admits(self, node: Node, value: object, /) -> bool:
        return node == ANYTHING or any(self._admits_case(case, value) for case in self.cases(node))

    def found(self, pattern: str, make: Callable[[], Automaton], text: str, /) -> bool:
        if pattern not in self._patterns:
            self._patterns[pattern] = make()
        return accepts(self._patterns[pattern], text.encode())

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

    def automaton(self, key: Hashable, make: Callable[[], Automaton], /) -> Expression:
        known = self._automata.get(key)
        if known is None:
            automaton = tabulated(make())
            known = self._automata[key] = NOTHING if automaton.start == DEAD else Embedded(automaton)
        return known

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
        """Cases that say the same of scalar values have one rule."""
        call = self._calls.get(case)
        if call is None:
            kinds, values = self.merged(case)
            scalar = values is None and kinds.keys().isdisjoint(("array", "object"))
            key: Hashable = ("scalar", *kinds.values()) if scalar else ("case", case)
            call = self._calls[case] = self.rule(key, partial(self._case, case))
        return call

    def shared(self) -> _Shared:
        """What all schemas have in common: scalar values and whatever comes where anything may come."""
        self.expression(ANYTHING)
        for kind, facet in TYPES.values():
            if kind not in ("array", "object"):
                self.rule(("scalar", facet), partial(facet.expression, self))
        return _Shared(Base(self.rules()), self._calls, self._names)

    def cases(self, node: Node) -> tuple[Case, ...]:
        if node not in self._cases:
            self._cases[node] = cases(node, self._document)
        return self._cases[node].cases

    def merged(self, case: Case) -> Merged:
        """The facets of all places of the case, met kind by kind."""
        if case not in self._merged:
            kinds: Mapping[str, Facet] = KINDS
            values: list[Any] | None = None
            for pointer in case:
                place = self._document.place(pointer)
                kinds = meet_kinds(kinds, read(place))
                values = common(values, read_values(place))
            self._merged[case] = Merged(kinds, values)
        return self._merged[case]

    def _case(self, case: Case) -> Expression:
        kinds, values = self.merged(case)
        if values is None:
            return union(*(facet.expression(self) for facet in kinds.values()))
        numbers = kinds.get("number")
        fractions = self.draft.whole_fractions or not (isinstance(numbers, Numbers) and numbers.integer)
        return spellings(self._admitted(kinds, values), self, fractions=fractions)

    def _admitted(self, kinds: Mapping[str, Facet], values: Iterable[Any]) -> Iterator[Any]:
        for value in values:
            facet = kinds.get(kind_of(value))
            if facet is not None and facet.admits(value, self):
                yield value

    def _admits_case(self, case: Case, value: Any) -> bool:
        kinds, values = self.merged(case)
        listed = values is None or common([value], values) != []
        return listed and any(True for _ in self._admitted(kinds, [value]))

    # -- why a schema admits nothing

    def explain(self, node: Node, lengths: Mapping[str, int]) -> tuple[Pointer, str]:
        """The place that leaves a node without any finite value, and the reason.

        Every way leads to such a place, or in a circle; the first one is followed.
        """
        seen: set[Case] = set()
        role = ""
        while True:
            if not self.cases(node):
                pointer, why = self._cases[node].dropped or (node[-1], "no value is valid")
                return pointer, why + role
            case = self.cases(node)[0]
            if case in seen:
                return case[-1], ENDLESS
            seen.add(case)
            reason = self._conflict(case)
            if reason is not None:
                return case[-1], reason + role
            needs = (need for facet in self.merged(case).kinds.values() for need in facet.needs())
            what, node = next((what, node) for what, node in needs if not self._can_end(node, lengths))
            role = f" (needed for {what})"

    def _conflict(self, case: Case) -> str | None:
        kinds, values = self.merged(case)
        if not kinds:
            return "no type is left: the types asked for exclude each other"
        if values is not None and not any(True for _ in self._admitted(kinds, values)):
            return "no value is listed" if not values else "none of the listed values obeys the other keywords"
        return next(filter(None, (facet.conflict(self) for facet in kinds.values())), None)

    def _can_end(self, node: Node, lengths: Mapping[str, int]) -> bool:
        return any(lengths[self._calls[case].rule] < UNREACHABLE for case in self.cases(node))


class _Shared(NamedTuple):
    """Rules that every schema begins with, and what they are known by."""

    base: Base
    calls: dict[Case, Call]
    names: dict[Hashable, str]


@lru_cache(32)
def _shared(space: Space, draft: Draft) -> _Shared:
    return Compiler(Document(True, draft), space).shared()
