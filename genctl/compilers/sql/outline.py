"""What of a place matters to its end: places of one outline are finished by the same tokens.

    outlines = Outlines(grammar)
    outlines.of(place)                               # a place too, with less in it

The columns that were selected, the names that were given, the sources of a FROM that is done: most of what a place
knows says what may come next, and nothing about what must. An outline leaves it out. The law: a token of closing.py
that is read behind the outline of a place is read behind the place, and the outlines of what comes then are the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeAlias

from genctl.compilers.sql.parser import Grammar
from genctl.compilers.sql.places import CLOSE, END, LOGIC, Expr, Place, Query, Token
from genctl.compilers.sql.scope import Core, Result, Star
from genctl.compilers.sql.writes import ENDS, WRITES

Steps: TypeAlias = list[tuple[Token, Place]]

_NAMELESS = Result("")
_NONE: frozenset[str] = frozenset()


class Outlines:
    """What is around an open SELECT is outlined once for all places in it. steps: see closing.py, by outline."""

    def __init__(self, grammar: Grammar) -> None:
        self._grammar = grammar
        self._around: dict[tuple[int, bool], tuple[Query, Query]] = {}
        self.steps: dict[Place, Steps] = {}

    def of(self, place: Place) -> Place:
        place = self._settled(place)
        if place.expr is not None and place.expr.state in _OF_SOURCES:
            return place._replace(made=_NONE)
        return self._outline(place, False)

    def _settled(self, place: Place) -> Place:
        """Behind a name that can be a column it is one; where FROM can be over, it is."""
        expr = place.expr
        if expr is not None:
            column = self._grammar.as_column(place) if expr.state in ("name", "quoted") else None
            return place if column is None else column
        if place.mode in ("source", "source end", "joined"):
            close = END if place.up is None else CLOSE
            done = None if self._grammar.read(place, close) is None else self._grammar.finished(place)
            return place if done is None else done._replace(mode="where")
        return place

    def _outline(self, query: Query, asked: bool) -> Query:
        """asked: a SELECT inside it may look for its columns here."""
        if query.mode in WRITES or query.mode in ENDS:
            return query  # the table and the columns that were given say what must come
        asks = asked or (query.core.open and bool(query.core.needs))
        up = query.up and self._up(query.up, asks)
        query = query._replace(up=up, expr=query.expr and _expression(self._grammar, query, query.expr), made=_NONE)
        return query._replace(core=self._open_core(query, asked)) if query.core.open else _closed(query, asked)

    def _open_core(self, query: Query, asked: bool) -> Core:
        core = query.core._replace(grouped=False)
        if query.role in _WITHOUT_NAMES:
            columns = [column if isinstance(column, Star) else _NAMELESS for column in core.columns]
            core = core._replace(columns=tuple(dict.fromkeys(columns) if query.width is None else columns))
        return self._named_alike(query, core) if core.sources and not asked else core

    def _named_alike(self, query: Query, core: Core) -> Core:
        """Names of sources that nothing waits for, and that no source to come would take, are left out."""
        starred = {column.of for column in core.columns if isinstance(column, Star)}
        there = {source.name for source in core.sources} - starred - {""}
        tables = self._grammar.tables_in(query)
        kept = {name for name in there if name in tables or SHORT.fullmatch(name)}
        needs = frozenset(need for need in core.needs if need.qualifier not in there)
        sources = [s if s.name in kept or s.name in starred else s._replace(name="") for s in core.sources]
        return core._replace(needs=needs, sources=tuple(sources))

    def _up(self, query: Query, asked: bool) -> Query:
        known = self._around.get((id(query), asked))
        if known is None:
            known = self._around[id(query), asked] = query, self._outline(query, asked)
        return known[1]


_OF_SOURCES = frozenset({"name", "quoted", "column"})  # what may come is asked of the sources
_WITHOUT_NAMES = frozenset({"top", "operand", "cte"})  # whose columns nobody needs by name


SHORT = re.compile(r"[a-z][0-9]{0,2}")  # as closing.py makes new names


def _expression(grammar: Grammar, query: Query, expr: Expr) -> Expr:
    named = query.role == "derived" and expr.what == "column"
    shape = expr.shape if named or expr.shape is None else ""
    return expr._replace(
        up=expr.up and _expression(grammar, query, expr.up),
        word=grammar.alike[expr.word] if expr.what == "call" else expr.word,
        depth=0,
        rank=LOGIC,
        left=None,
        name="",
        aggregate=False,
        shape=shape,
    )


def _closed(query: Query, asked: bool) -> Query:
    """All sources are known, and were checked against what was selected."""
    core = query.core._replace(grouped=False)
    if query.role in _WITHOUT_NAMES:
        core = core._replace(columns=_positions(query))
        query = query._replace(first=None if query.first is None else (_NAMELESS,))
    if not asked:
        core = core._replace(sources=())
    mode = "where" if query.expr is None and query.mode in _ENDING else query.mode
    return query._replace(core=core, ctes=(), join="", word="", depth=0, mode=mode)


def _positions(query: Query) -> tuple[Result, ...]:
    """Terms may be numbers of columns."""
    if query.mode not in ("group by", "group", "order by", "order"):
        return (_NAMELESS,)
    return tuple(Result("", aggregate=column.aggregate) for column in query.core.columns if isinstance(column, Result))


_ENDING = frozenset({"grouped", "having", "term", "directed", "ordered", "limited", "offset read"})


def strings_in(value: object) -> Iterator[str]:
    """All texts in a place, names that it knows among them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple | frozenset):
        for part in value:
            yield from strings_in(part)
