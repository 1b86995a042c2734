"""Where a reader of statements is: what is open, as a value.

    Query("top", "start", None, 0)                   # nothing was read

A place is the innermost open statement, with the expressions that are open in it, and those around it. What is here
makes places from places, and knows no schema.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple, TypeAlias

from genctl.compilers.sql.scope import Core, Result, Source, Star
from genctl.compilers.sql.words import KEYWORDS, RESERVED

DEEPEST = 6  # levels of brackets and sub-selects; SQLite's parser has a stack of 100 symbols, see docs/sql.md
ALIAS = re.compile(r"[a-z]{1,3}[0-9]*")  # of a table without AS, or before its FROM


class Token(NamedTuple):
    """kind: "word", "quoted" (a name), "string", "number", "position" (a whole number in ORDER BY or GROUP BY),
    "integer" (in LIMIT), "op", "end" (of the text). text: names and words in lower case.
    """

    kind: str
    text: str


END = Token("end", "")


class Expr(NamedTuple):
    """An open expression. what: what it is part of; state: what may come next.

    up: the expression around it, in the same SELECT. aggregates: may it hold one? own: it stands in the arguments of an
    aggregate. word: the function whose arguments these are; the stage of a CASE. name: a name or qualifier that was
    read. tight: between BETWEEN and AND. aggregate: it holds one. shape: None at the beginning, the column if it is
    nothing else, else "". number: of arguments before this one. sole: behind SELECT, and behind the bracket of a call,
    where DISTINCT may come; elsewhere, no further argument may come. bare: it might still be just a number, which
    would be a position.
    """

    what: str
    state: str
    up: Expr | None
    aggregates: bool
    depth: int
    own: bool = False
    word: str = ""
    name: str = ""
    tight: bool = False
    aggregate: bool = False
    shape: str | None = None
    number: int = 0
    sole: bool = False
    bare: bool = False


class Query(NamedTuple):
    """An open statement of one or several SELECTs.

    role: what it is for; mode: what may come next outside expressions, the clause while one is open. up: the statement
    around it. first: the columns of the first SELECT, once a second one follows. width: the number of columns that it
    must have. ctes: tables that WITH made. made: names of columns that the text has given. word: a name that was read.
    join: how the next source is joined. waiting: a source without its name yet. clash: names that USING must have.
    columns: names in brackets. forbid: names that the columns must not have.
    """

    role: str
    mode: str
    up: Query | None
    depth: int
    core: Core = Core()
    expr: Expr | None = None
    first: tuple[Result, ...] | None = None
    width: int | None = None
    ctes: tuple[Source, ...] = ()
    made: frozenset[str] = frozenset()
    word: str = ""
    join: str = ""
    waiting: Source | None = None
    clash: frozenset[str] = frozenset()
    columns: tuple[str, ...] = ()
    forbid: frozenset[str] = frozenset()


Place: TypeAlias = Query

OPERAND, AFTER_NOT, AFTER_SIGN, CASE = "operand", "operand after NOT", "operand after a sign", "operand or WHEN"
BEFORE_OPERAND = frozenset({OPERAND, AFTER_NOT, AFTER_SIGN, CASE})
SELECT, AS, BY = (Token("word", word) for word in ("select", "as", "by"))
OPEN, CLOSE, COMMA, SEMICOLON = (Token("op", mark) for mark in "(),;")


def is_bare(name: str) -> bool:
    """May the name be written without quotes?"""
    return _BARE.fullmatch(name) is not None and name not in RESERVED


_BARE = re.compile(r"[a-z_][a-z0-9_$]*")


def is_new(token: Token) -> bool:
    return token.kind == "word" and token.text not in KEYWORDS


def fixed_star(query: Query) -> bool:
    """Is `*` all that is selected, where the number of columns is given?"""
    return query.width is not None and query.core.columns == (Star(),)


# -- expressions


def begin(query: Query, clause: str, *, aggregates: bool = False, **fields: Any) -> Query:
    """An expression begins that is a part of the SELECT itself."""
    return query._replace(mode=clause, expr=Expr(clause, OPERAND, None, aggregates, query.depth, **fields))


def nested(query: Query, what: str, **fields: Any) -> Query | None:
    """An expression begins inside the one that is open."""
    expr = expr_of(query)
    if expr.depth >= DEEPEST:
        return None
    inner = Expr(what, OPERAND, expr, expr.aggregates, expr.depth + 1, expr.own)
    return query._replace(expr=inner._replace(**fields))


def expr_of(query: Query) -> Expr:
    assert query.expr is not None, "an expression is open"
    return query.expr


def changed(query: Query, **fields: Any) -> Query:
    return query._replace(expr=expr_of(query)._replace(**fields))


def operand_read(query: Query, *, aggregate: bool = False, shape: str = "") -> Query:
    expr = expr_of(query)
    whole = expr.shape is None and expr.state in _WHOLE
    return changed(
        query,
        state="operator",
        name="",
        aggregate=expr.aggregate or aggregate,
        shape=shape if whole else "",
        bare=False,
        sole=expr.sole and expr.what == "call",
    )


def closed(query: Query, shape: str = "", aggregate: bool = False) -> Query:
    """The innermost expression is an operand of the one around it."""
    expr = expr_of(query)
    return operand_read(query._replace(expr=expr.up), aggregate=expr.aggregate or aggregate, shape=shape)


def is_fresh(expr: Expr) -> bool:
    return expr.shape is None and expr.state == OPERAND


def whole_term(expr: Expr) -> bool:
    """Is it the beginning of a term of ORDER BY, which may be an alias although several columns have the name?"""
    return expr.what == "order" and expr.shape is None and expr.state in (OPERAND, "name")


_WHOLE = frozenset({OPERAND, "name", "quoted", "column"})  # states from which an operand may be the whole expression
