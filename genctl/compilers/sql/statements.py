"""How statements begin and end: WITH before them, and what a statement in brackets is for.

STATEMENTS[place.mode](grammar, place, token)
"""

from __future__ import annotations

from collections.abc import Callable

from genctl.compilers.sql.names import Names, Step
from genctl.compilers.sql.places import AS, CLOSE, COMMA, CTE, END, OPEN, SECOND, Query, Token, closed, is_new
from genctl.compilers.sql.scope import Source
from genctl.compilers.sql.sources import waits
from genctl.compilers.sql.writes import defines, verb


def _return_operand(query: Query, names: tuple[str, ...]) -> Query | None:
    return closed(query)


def _return_source(query: Query, names: tuple[str, ...]) -> Query | None:
    return waits(query._replace(word=""), Source("", names))


def _return_cte(query: Query, names: tuple[str, ...]) -> Query | None:
    columns = query.columns or names
    made = query.made | (set(columns) - {""})
    return query._replace(
        mode="with next", ctes=(*query.ctes, Source(query.word, columns)), made=made, columns=(), word=""
    )


def _start(grammar: Names, query: Query, token: Token) -> Query | None:
    if token == Token("word", "with"):
        return query._replace(mode="with", height=SECOND) if grammar.allow - {"create table", "drop table"} else None
    return defines(grammar, query, token)


def _with_name(grammar: Names, query: Query, token: Token) -> Query | None:
    taken = {*grammar.schema.tables, *(cte.name for cte in query.ctes)}
    return query._replace(mode="cte", word=token.text) if is_new(token) and token.text not in taken else None


def _cte(grammar: Names, query: Query, token: Token) -> Query | None:
    return query._replace(mode="cte column") if token == OPEN else _cte_as(grammar, query, token)


def _cte_column(grammar: Names, query: Query, token: Token) -> Query | None:
    new = is_new(token) and token.text not in query.columns
    return query._replace(mode="cte next", columns=(*query.columns, token.text)) if new else None


def _cte_next(grammar: Names, query: Query, token: Token) -> Query | None:
    modes = {COMMA: "cte column", CLOSE: "cte as"}
    return query._replace(mode=modes[token]) if token in modes else None


def _cte_as(grammar: Names, query: Query, token: Token) -> Query | None:
    return query._replace(mode="cte open") if token == AS else None


def _cte_open(grammar: Names, query: Query, token: Token) -> Query | None:
    if token != OPEN:
        return None
    columns = len(query.columns) or None
    inner = Query("cte", "select", query, query.depth + 1, width=columns, ctes=query.ctes, made=query.made)
    return inner._replace(height=CTE)


def _with_next(grammar: Names, query: Query, token: Token) -> Query | None:
    return query._replace(mode="with") if token == COMMA else verb(grammar, query, token)


def _closed_statement(grammar: Names, query: Query, token: Token) -> Query | None:
    return query._replace(mode="finished") if token == END else None


def _finished(grammar: Names, query: Query, token: Token) -> Query | None:
    return None


def returned(query: Query, names: tuple[str, ...]) -> Query | None:
    assert query.up is not None, "it stands in brackets"
    return _RETURNS[query.role](query.up._replace(made=query.made), names)


_RETURNS: dict[str, Callable[[Query, tuple[str, ...]], Query | None]] = {
    "operand": _return_operand,
    "derived": _return_source,
    "cte": _return_cte,
}
STATEMENTS: dict[str, Step] = {
    "start": _start,
    "with": _with_name,
    "cte": _cte,
    "cte column": _cte_column,
    "cte next": _cte_next,
    "cte as": _cte_as,
    "cte open": _cte_open,
    "with next": _with_next,
    "closed": _closed_statement,
    "finished": _finished,
}
