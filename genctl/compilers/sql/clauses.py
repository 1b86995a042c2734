"""How what stands behind FROM is read: WHERE, GROUP BY, HAVING, ORDER BY, LIMIT, a further SELECT, the end.

CLAUSES[place.mode](grammar, place, token)
"""

from __future__ import annotations

from genctl.compilers.sql.expressions import positions
from genctl.compilers.sql.names import Names, Step, outwards
from genctl.compilers.sql.places import BY, CLOSE, COMMA, END, SECOND, SELECT, SEMICOLON, Query, Token, begin, is_tall
from genctl.compilers.sql.scope import Core, Need, Result, Star, clashing, found, names_of, results, source_of
from genctl.compilers.sql.words import RESERVED

COMPOUND = frozenset({"union", "intersect", "except"})
_CLAUSES = ("where", "group", "having", "order", "limit")
# What may follow in a SELECT, by what was read.
FOLLOWING = {
    "result": ("from", "order", "limit"),
    "source": _CLAUSES[:2] + _CLAUSES[3:],
    "where": _CLAUSES[1:2] + _CLAUSES[3:],
    "grouped": _CLAUSES[2:],
    "having": _CLAUSES[3:],
    "term": _CLAUSES[4:],
    "limit": (),
}


def clause(grammar: Names, query: Query, token: Token) -> Query | None:
    """What comes behind all columns, all sources, or a clause: another clause, another SELECT, or the end."""
    what = {"result": "result", "source end": "source", "joined": "source"}.get(query.mode, query.mode)
    if token.kind == "word":
        if is_tall(query):
            return None
        if token.text in COMPOUND and what in _BEFORE_COMPOUND:
            return _compound(grammar, query, token.text)
        if token.text not in FOLLOWING.get(what, ()):
            return None
        done = finish(grammar, query)
        return None if done is None else _begin_clause(done, token.text)
    done = finish(grammar, query)
    return None if done is None else close(grammar, done, token)


_BEFORE_COMPOUND = frozenset({"result", "source", "where", "grouped", "having"})


def _begin_clause(query: Query, clause: str) -> Query | None:
    if clause in ("group", "order"):
        return query._replace(mode=f"{clause} by")
    if clause == "limit":
        return query._replace(mode="limit")
    return begin(query, clause, aggregates=clause == "having")


def finish(grammar: Names, query: Query) -> Query | None:
    """All sources are there: every column must be in one of them, or in an enclosing SELECT."""
    core = query.core
    if not core.open:
        return query
    if query.clash or clashing(core):
        return None
    if any(isinstance(c, Star) and (not core.sources or (c.of and not source_of(core, c.of))) for c in core.columns):
        return None
    columns = results(core)
    if query.width is not None and len(columns) != query.width:
        return None
    after: Query | None = query._replace(core=core._replace(columns=columns, open=False, needs=_NO_NEEDS, used=_NONE))
    for need in sorted(core.needs):
        inside = source_of(core, need.qualifier) is not None if need.qualifier else found(core, need.name) == 1
        if not inside:
            after = None if need.own or after is None else outwards(grammar, after, need)
    return after


_NO_NEEDS: frozenset[Need] = frozenset()
_NONE: frozenset[str] = frozenset()


def _group_by(grammar: Names, query: Query, token: Token) -> Query | None:
    if token != BY:
        return None
    return begin(query._replace(core=query.core._replace(grouped=True)), "group", bare=True)


def _grouped(grammar: Names, query: Query, token: Token) -> Query | None:
    if token == COMMA:
        return begin(query, "group", bare=True)
    return clause(grammar, query, token)


def _order_by(grammar: Names, query: Query, token: Token) -> Query | None:
    return _term_begins(query) if token == BY else None


def _term_begins(query: Query) -> Query:
    if query.first is not None:
        return query._replace(mode="order name")
    columns = query.core.columns
    aggregates = query.core.grouped or any(isinstance(c, Result) and c.aggregate for c in columns)
    return begin(query, "order", aggregates=aggregates, bare=True)


def _order_name(grammar: Names, query: Query, token: Token) -> Query | None:
    """A term behind a compound: a column of the first SELECT, by name or number."""
    if token.kind == "position":
        return query._replace(mode="term") if int(token.text) in positions(query) else None
    if token.kind == "word" and token.text in RESERVED:
        return None
    return query._replace(mode="term") if token.kind in ("word", "quoted") and token.text in plain(query) else None


def plain(query: Query) -> frozenset[str]:
    return frozenset(column.name for column in query.first or () if column.plain) - {""}


def _term(grammar: Names, query: Query, token: Token) -> Query | None:
    """Behind a term of ORDER BY."""
    if token.kind == "word" and token.text in ("asc", "desc"):
        return query._replace(mode="directed")
    return _directed(grammar, query, token)


def _directed(grammar: Names, query: Query, token: Token) -> Query | None:
    return query._replace(mode="nulls") if token == Token("word", "nulls") else _term_end(grammar, query, token)


def _nulls(grammar: Names, query: Query, token: Token) -> Query | None:
    may = token.kind == "word" and token.text in ("first", "last")
    return query._replace(mode="ordered") if may else None


def _term_end(grammar: Names, query: Query, token: Token) -> Query | None:
    return _term_begins(query) if token == COMMA else clause(grammar, query._replace(mode="term"), token)


def _limit(grammar: Names, query: Query, token: Token) -> Query | None:
    return query._replace(mode="limited") if token.kind == "integer" else None


def _limited(grammar: Names, query: Query, token: Token) -> Query | None:
    if token in (COMMA, Token("word", "offset")):
        return query._replace(mode="offset")
    return clause(grammar, query._replace(mode="limit"), token)


def _offset(grammar: Names, query: Query, token: Token) -> Query | None:
    return query._replace(mode="offset read") if token.kind == "integer" else None


def _offset_read(grammar: Names, query: Query, token: Token) -> Query | None:
    return clause(grammar, query._replace(mode="limit"), token)


def _ended(mode: str) -> Step:
    """The expression of a clause ends."""

    def step(grammar: Names, query: Query, token: Token) -> Query | None:
        return grammar.read(query._replace(expr=None, mode=mode), token)

    return step


def _compound(grammar: Names, query: Query, word: str) -> Query | None:
    done = finish(grammar, query)
    if done is None:
        return None
    columns = tuple(c for c in done.core.columns if isinstance(c, Result))
    first = done.first if done.first is not None else columns
    mode = "union" if word == "union" else "select"
    height = query.height + (SECOND if query.first is None else 0)
    return done._replace(mode=mode, core=Core(), first=first, width=len(columns), forbid=_NONE, height=height)


def _union(grammar: Names, query: Query, token: Token) -> Query | None:
    return query._replace(mode="select") if token == Token("word", "all") else select(grammar, query, token)


def select(grammar: Names, query: Query, token: Token) -> Query | None:
    return begin(query, "column", aggregates=True) if token == SELECT else None


def close(grammar: Names, query: Query, token: Token) -> Query | None:
    if query.up is None:
        modes = {END: "finished", SEMICOLON: "closed"}
        return query._replace(mode=modes[token]) if token in modes else None
    if token != CLOSE:
        return None
    columns = query.first if query.first is not None else query.core.columns
    names = names_of(c for c in columns if isinstance(c, Result))
    return grammar.returned(query, names)


ENDS: dict[str, Step] = {
    "where": _ended("where"),
    "on": _ended("joined"),
    "group": _ended("grouped"),
    "having": _ended("having"),
    "order": _ended("term"),
}
CLAUSES: dict[str, Step] = {
    "select": select,
    "union": _union,
    "where": clause,
    "group by": _group_by,
    "grouped": _grouped,
    "having": clause,
    "order by": _order_by,
    "order name": _order_name,
    "term": _term,
    "directed": _directed,
    "nulls": _nulls,
    "ordered": _term_end,
    "limit": _limit,
    "limited": _limited,
    "offset": _offset,
    "offset read": _offset_read,
}
