"""How the columns of a SELECT and its FROM are read.

SOURCES[place.mode](grammar, place, token)
"""

from __future__ import annotations

from genctl.compilers.sql.clauses import clause
from genctl.compilers.sql.names import Names, Step
from genctl.compilers.sql.places import (
    ALIAS,
    AS,
    CLOSE,
    COMMA,
    DERIVED,
    OPEN,
    Query,
    Token,
    begin,
    expr_of,
    fixed_star,
    is_new,
    is_roomy,
    is_tall,
)
from genctl.compilers.sql.scope import (
    MOST_SOURCES,
    Result,
    Source,
    Star,
    clashing,
    fits,
    found,
    qualifiers_needed,
    unqualified,
)
from genctl.compilers.sql.words import RESERVED

# -- the columns of a SELECT


def _end_column(grammar: Names, query: Query, token: Token) -> Query | None:
    expr = expr_of(query)
    column = Result(expr.shape or "", aggregate=expr.aggregate)
    core = query.core._replace(columns=(*query.core.columns, column))
    query = query._replace(core=core, expr=None, mode="result")
    if token == AS:
        return query._replace(mode="as")
    return None if column.name in query.forbid else _after_result(grammar, query, token)


def _as(grammar: Names, query: Query, token: Token) -> Query | None:
    known = token.kind == "quoted" and (token.text in grammar.columns or token.text in query.made)
    if not (known or is_new(token)) or token.text in query.forbid:
        return None
    *others, last = query.core.columns
    assert isinstance(last, Result)
    core = query.core._replace(columns=(*others, last._replace(name=token.text, alias=True)))
    return query._replace(core=core, made=query.made | {token.text}, mode="result")


def _after_result(grammar: Names, query: Query, token: Token) -> Query | None:
    columns = query.core.columns
    if token == COMMA:
        more = query.width is None or (len(columns) < query.width and not isinstance(columns[0], Star))
        return begin(query, "column", aggregates=True) if more else None
    if token == Token("word", "from"):
        if is_tall(query):
            return None
        starred = isinstance(columns[0], Star)
        if query.width is not None and not starred and len(columns) != query.width:
            return None
        return query._replace(mode="from", join="first")
    return clause(grammar, query, token)


# -- sources


def _table(query: Query, grammar: Names, name: str) -> Source | None:
    for cte in query.ctes:
        if cte.name == name:
            return cte._replace(name="")
    table = grammar.schema.tables.get(name)
    return None if table is None else Source("", table.names, name)


def _from(grammar: Names, query: Query, token: Token) -> Query | None:
    if token == OPEN:
        return _derived(query)
    if token.kind not in ("word", "quoted") or (token.kind == "word" and token.text in RESERVED):
        return None
    source = _table(query, grammar, token.text)
    if source is None:
        return None
    query = query._replace(word=token.text)
    here = [need for need in query.core.needs if need.name in source.columns and not need.qualifier]
    if not all(found(query.core, need.name) or grammar.suits(source, need) for need in here):
        return None
    if fixed_star(query):
        assert query.width is not None
        if sum(len(s.columns) for s in query.core.sources) + len(source.columns) > query.width:
            return None
    return waits(query, source)


def waits(query: Query, source: Source) -> Query | None:
    """A source was read, its name was not."""
    core = query.core
    if query.join == "natural":
        source = source._replace(using=frozenset(name for name in source.columns if name and found(core, name)))
    clash = clashing(core._replace(sources=(*core.sources, source)))
    if clash and (query.join != "join" or fixed_star(query)):
        return None
    return query._replace(mode="source", waiting=source, clash=clash)


def _derived(query: Query) -> Query | None:
    if not is_roomy(query):
        return None
    core, columns, forbid = query.core, None, frozenset[str]()
    if fixed_star(query):
        assert query.width is not None
        columns = query.width - sum(len(source.columns) for source in core.sources)
    if query.join == "comma" or (query.join == "join" and fixed_star(query)):
        forbid = frozenset(name for name in unqualified(core) if found(core, name))
    return Query(
        "derived",
        "select",
        query,
        query.depth + 1,
        width=columns,
        ctes=query.ctes,
        made=query.made,
        forbid=forbid,
        height=query.height + DERIVED,
    )


def _source(grammar: Names, query: Query, token: Token) -> Query | None:
    """Behind a source."""
    if token == AS:
        return query._replace(mode="source as")
    if is_new(token) and ALIAS.fullmatch(token.text):
        return named(grammar, query, token.text)
    source = named(grammar, query, query.word)
    return None if source is None else _source_end(grammar, source, token)


def _source_as(grammar: Names, query: Query, token: Token) -> Query | None:
    known = token.kind == "quoted" and token.text in grammar.tables_in(query)
    return named(grammar, query, token.text) if known or is_new(token) else None


def named(grammar: Names, query: Query, name: str) -> Query | None:
    assert query.waiting is not None
    core, source = query.core, query.waiting._replace(name=name)
    if not fits(core, source) or not all(grammar.suits(source, n) for n in core.needs if n.qualifier == name != ""):
        return None
    if query.width is not None and core.columns == (Star(name),) and name and len(source.columns) != query.width:
        return None
    core = core._replace(sources=(*core.sources, source))
    if len(core.sources) + len(qualifiers_needed(core)) > MOST_SOURCES:
        return None
    return query._replace(mode="source end", core=core, waiting=None, word="")


def _source_end(grammar: Names, query: Query, token: Token) -> Query | None:
    if query.join == "join" and token.kind == "word":
        if token.text == "using":
            return query._replace(mode="using open") if common(query) and not fixed_star(query) else None
        if token.text == "on":
            return None if query.clash else begin(query, "on")
    return None if query.clash else _joined(grammar, query, token)


def common(query: Query) -> frozenset[str]:
    """Columns that the last source and those before it have, without those that USING already has."""
    *others, last = query.core.sources
    before = query.core._replace(sources=tuple(others))
    return frozenset(name for name in last.columns if name and found(before, name)) - last.using


def _using_open(grammar: Names, query: Query, token: Token) -> Query | None:
    return query._replace(mode="using") if token == OPEN else None


def _using(grammar: Names, query: Query, token: Token) -> Query | None:
    named = token.kind == "quoted" or (token.kind == "word" and token.text not in RESERVED)
    if not named or token.text not in common(query):
        return None
    *others, last = query.core.sources
    core = query.core._replace(sources=(*others, last._replace(using=last.using | {token.text})))
    return query._replace(mode="using next", core=core, clash=query.clash - {token.text})


def _using_next(grammar: Names, query: Query, token: Token) -> Query | None:
    if token == COMMA:
        return query._replace(mode="using") if common(query) else None
    return query._replace(mode="joined") if token == CLOSE and not query.clash else None


def _joined(grammar: Names, query: Query, token: Token) -> Query | None:
    """Another source, or another clause."""
    if token == COMMA:
        return _next_source(query, "from", "comma")
    if token.kind == "word" and token.text in _JOINS:
        if token.text == "natural" and fixed_star(query):
            return None
        mode, join = _JOINS[token.text]
        return _next_source(query, mode, join)
    return clause(grammar, query, token)


def _next_source(query: Query, mode: str, join: str) -> Query | None:
    core = query.core
    if not is_roomy(query) or len(core.sources) + len(qualifiers_needed(core)) >= MOST_SOURCES:
        return None
    if fixed_star(query) and sum(len(source.columns) for source in core.sources) == query.width:
        return None
    return query._replace(mode=mode, join=join)


_JOINS = {
    "join": ("from", "join"),
    "left": ("left", "join"),
    "inner": ("inner", "join"),
    "cross": ("inner", "join"),
    "natural": ("natural", "natural"),
}


def _left(grammar: Names, query: Query, token: Token) -> Query | None:
    return query._replace(mode="inner") if token == Token("word", "outer") else _inner(grammar, query, token)


def _inner(grammar: Names, query: Query, token: Token) -> Query | None:
    return query._replace(mode="from") if token == Token("word", "join") else None


def _natural(grammar: Names, query: Query, token: Token) -> Query | None:
    modes = {"left": "left", "inner": "inner", "join": "from"}
    return query._replace(mode=modes[token.text]) if token.kind == "word" and token.text in modes else None


ENDS: dict[str, Step] = {"column": _end_column}
SOURCES: dict[str, Step] = {
    "result": _after_result,
    "as": _as,
    "from": _from,
    "source": _source,
    "source as": _source_as,
    "source end": _source_end,
    "using open": _using_open,
    "using": _using,
    "using next": _using_next,
    "joined": _joined,
    "left": _left,
    "inner": _inner,
    "natural": _natural,
}
