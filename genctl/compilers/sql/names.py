"""What the names of a schema mean in a place.

    names.usable(place, expr)                        # columns that may be used there without a qualifier

A column may belong to a SELECT whose FROM is not read yet; then it is a need of this SELECT, which `resolve` enters.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TypeAlias

from genctl.compilers.sql.places import ALIAS, Expr, Place, Query, Token, can_nest, is_roomy, whole_term
from genctl.compilers.sql.schema import Schema
from genctl.compilers.sql.scope import Core, Need, Result, Source, alias_of, first_with, found, source_of
from genctl.compilers.sql.words import EITHER, KEYWORDS, Function

Values: TypeAlias = Mapping[tuple[str, str], tuple[str, ...]]
Step: TypeAlias = Callable[["Names", Query, Token], "Query | None"]


class Names(ABC):
    """The names of one schema. forward: a column may be used before the sub-select that makes its name.

    allow: kinds of statement, "select" or those of WRITES. typed: literals have the kind of the column that they are
    compared with. values: the strings that a column may be compared with for equality, by (table, column).
    """

    def __init__(
        self,
        schema: Schema,
        *,
        forward: bool = False,
        allow: frozenset[str] = frozenset({"select"}),
        typed: bool = False,
        values: Values | None = None,
    ) -> None:
        self.schema, self.forward, self.allow = schema, forward, allow
        self.typed, self.values = typed, values or {}
        self.columns = frozenset(name for table in schema.tables.values() for name in table.names)
        first: dict[tuple[Function, bool], str] = {}
        calls = {name: (function, name in EITHER) for name, function in schema.functions.items()}
        self.alike = {name: first.setdefault(call, name) for name, call in calls.items()}  # takes the same arguments
        self.names_of_schema = self.columns | {*schema.tables, *schema.functions} | schema.objects

    @abstractmethod
    def read(self, place: Place, token: Token) -> Place | None:
        """The place after a token; None where no statement goes on with it."""

    @abstractmethod
    def ended(self, place: Place, token: Token) -> Place | None:
        """The place after a token that may end the expression which is open."""

    @abstractmethod
    def returned(self, query: Query, names: tuple[str, ...]) -> Query | None:
        """The place behind a statement in brackets with these columns."""

    def suits(self, source: Source | None, need: Need) -> bool:
        """Does the column of a source go with the literal? What a sub-select makes goes with any."""
        kind = self.schema.tables[source.table].kind(need.name) if source and source.table else ""
        return need.literal in ("", kind) or not kind

    def choices(self, place: Place) -> tuple[str, ...] | None:
        """The strings that may come as a literal; None if any may."""
        want = None if place.expr is None else place.expr.want
        source = None if want is None or want.need is None or not want.equal else source_at(place, want.need)
        if source is None or want is None or want.need is None:
            return None
        return self.values.get((source.table, want.need.name))

    def targets(self, kind: str) -> frozenset[str]:
        """Tables that statements of a kind may write to."""
        return frozenset(name for name, table in self.schema.tables.items() if kind in table.writes)

    def columns_here(self, place: Place) -> frozenset[str]:
        """Columns that may be used without a qualifier where an expression is open."""
        return frozenset() if place.expr is None else self.usable(place, place.expr)

    def sources_here(self, place: Place) -> frozenset[str]:
        """Names that a dot may follow where an expression is open."""
        return frozenset() if place.expr is None else self.qualifiers(place, place.expr)

    def usable(self, query: Query, expr: Expr) -> frozenset[str]:
        """Columns that may be used here without a qualifier."""
        names: set[str] = set()
        hidden: set[str] = set()
        for scope in visible(query):
            core = scope.core
            if core.before_from:
                known = self.columns | query.made if is_roomy(scope) else frozenset()
                return frozenset(names | (known - hidden))
            for name in {name for source in core.sources for name in source.columns if name} - hidden:
                if found(core, name) == 1:
                    names.add(name)
                hidden.add(name)
            aliases = {c.name for c in core.columns if isinstance(c, Result) and c.alias}
            if scope is query and not expr.own and query.mode != "on":
                names |= {name for name in aliases - hidden if self._alias_fits(core, name, expr)}
                names |= {name for name in aliases if whole_term(expr)}
            hidden |= aliases
            if expr.own:
                break
        return frozenset(names)

    def _alias_fits(self, core: Core, name: str, expr: Expr) -> bool:
        alias = alias_of(core, name)
        return alias is not None and (expr.aggregates or not alias.aggregate)

    def qualifiers(self, query: Query, expr: Expr) -> frozenset[str]:
        """Names that a dot may follow, as far as they are known."""
        names: set[str] = set()
        hidden = {""}
        for scope in visible(query):
            if scope.core.before_from:
                return frozenset(names | (self.tables_in(query) - hidden if is_roomy(scope) else set()))
            names |= {source.name for source in scope.core.sources if any(source.columns)} - hidden
            hidden |= {source.name for source in scope.core.sources}
            if expr.own:
                break
        return frozenset(names)

    def columns_of(self, query: Query, expr: Expr, qualifier: str) -> frozenset[str]:
        for scope in visible(query):
            if scope.core.before_from:
                return self.columns | query.made
            source = source_of(scope.core, qualifier)
            if source is not None:
                return frozenset(source.columns) - {""}
            if expr.own:
                break
        return frozenset()

    def is_qualifier(self, query: Query, expr: Expr, name: str) -> bool:
        for scope in visible(query):
            if scope.core.before_from:
                free = name not in KEYWORDS and (self.forward or ALIAS.fullmatch(name) is not None)
                return is_roomy(scope) and (free or name in self.qualifiers(query, expr))
            source = source_of(scope.core, name)
            if source is not None:
                return any(source.columns)
            if expr.own:
                break
        return False

    def is_forward(self, query: Query, expr: Expr) -> bool:
        for scope in visible(query):
            if scope.core.before_from:
                return True
            if source_of(scope.core, expr.name) is not None or expr.own:
                return False
        return False

    def callable(self, expr: Expr, name: str) -> bool:
        function = self.schema.functions.get(name)
        if function is None or not can_nest(expr, "call"):
            return False
        return expr.aggregates or not function.aggregate or name in EITHER

    def tables_in(self, query: Query) -> frozenset[str]:
        return frozenset({*self.schema.tables, *(cte.name for cte in query.ctes)})

    def known(self, query: Query, name: str) -> bool:
        """May a source that is still to come have such a column? A keyword can be no new name."""
        return name in self.columns or name in query.made or (self.forward and name not in KEYWORDS)


# -- scopes


def visible(query: Query) -> list[Query]:
    """The SELECTs whose columns can be used, from the inside out."""
    out = [query]
    while query.role not in ("top", "cte") and query.mode not in _ALONE:
        assert query.up is not None
        up = query.up
        if query.role == "derived":
            while up.role == "derived":
                assert up.up is not None
                up = up.up
            if up.role in ("top", "cte"):
                break
            assert up.up is not None
            up = up.up
        out.append(up)
        query = up
    return out


_ALONE = frozenset({"group", "order"})  # SQLite does not look at enclosing SELECTs from these clauses


def awaits(query: Query, expr: Expr) -> bool:
    """Can a column belong to a source that is not known yet?"""
    scopes = visible(query)[:1] if expr.own else visible(query)
    return any(scope.core.before_from and is_roomy(scope) for scope in scopes)


def all_named(core: Core) -> bool:
    return all(name for source in core.sources for name in source.columns)


def outwards(grammar: Names, query: Query, need: Need) -> Query | None:
    """The query with the need handed to what it can see outside; None if nothing there has it."""
    if query.up is None or query.role == "cte" or query.mode in _ALONE:
        return None
    derived = query.role == "derived"
    up = outwards(grammar, query.up, need) if derived else resolve(grammar, query.up, need._replace(own=False))
    return None if up is None else query._replace(up=up)


def resolve(grammar: Names, query: Query, need: Need) -> Query | None:
    """The query with a column used in it; None if there is no such column."""
    core = query.core
    if core.before_from:
        return query._replace(core=core._replace(needs=core.needs | {need}))
    if need.qualifier:
        source = source_of(core, need.qualifier)
        if source is not None:
            return query if need.name in source.columns and grammar.suits(source, need) else None
        return None if need.own else outwards(grammar, query, need)
    count = found(core, need.name)
    if count > 1:
        return None
    if core.open:
        query = query._replace(core=core._replace(used=core.used | {need.name}))
    if count == 1:
        return query if grammar.suits(first_with(core, need.name), need) else None
    return None if need.own or alias_of(core, need.name) else outwards(grammar, query, need)


def source_at(query: Query, need: Need) -> Source | None:
    """The source that has the column; None as long as it is not known."""
    for scope in visible(query):
        core = scope.core
        if core.before_from:
            return None
        source = source_of(core, need.qualifier) if need.qualifier else first_with(core, need.name)
        if source is not None:
            return source
    return None
