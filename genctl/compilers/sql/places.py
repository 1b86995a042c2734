"""Where a reader of statements is: what is open, as a value.

    Query("top", "start", None, 0)                   # nothing was read

A place is the innermost open statement, with the expressions that are open in it, and those around it. What is here
makes places from places, and knows no schema.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple, TypeAlias

from genctl.compilers.sql.scope import Core, Need, Result, Source, Star
from genctl.compilers.sql.words import KEYWORDS, RESERVED

DEEPEST = 6  # levels of brackets and sub-selects
ALIAS = re.compile(r"[a-z]{1,3}[0-9]*")  # of a table without AS, or before its FROM


class Token(NamedTuple):
    """kind: "word", "quoted" (a name), "string", "number", "position" (a whole number in ORDER BY or GROUP BY),
    "integer" (in LIMIT), "op", "end" (of the text). text: names and words in lower case.
    """

    kind: str
    text: str


END = Token("end", "")


class Want(NamedTuple):
    """What a literal must be. need: of the column's kind; else kind: "text" or "number", "" for any.

    equal: it is compared for equality, so that values of the column alone make sense.
    """

    need: Need | None = None
    kind: str = ""
    equal: bool = False


class Expr(NamedTuple):
    """An open expression. what: what it is part of; state: what may come next.

    up: the expression around it, in the same SELECT. aggregates: may it hold one? own: it stands in the arguments of an
    aggregate. word: the function whose arguments these are; the stage of a CASE. name: a name or qualifier that was
    read. tight: between BETWEEN and AND. aggregate: it holds one. shape: None at the beginning, the column if it is
    nothing else, else "". number: of arguments before this one. sole: behind SELECT, and behind the bracket of a call,
    where DISTINCT may come; elsewhere, no further argument may come. bare: it might still be just a number, which
    would be a position. rank: of the operator before, see WAITING. height: symbols below it on the stack of SQLite's
    parser. left: the column that the last operand is, if all that is left of the next operator. want: what the next
    operand is compared with; bound: the same, behind the AND of a BETWEEN.
    """

    what: str
    state: str
    up: Expr | None
    aggregates: bool
    depth: int
    height: int
    own: bool = False
    word: str = ""
    name: str = ""
    tight: bool = False
    aggregate: bool = False
    shape: str | None = None
    number: int = 0
    sole: bool = False
    bare: bool = False
    rank: int = 0
    left: Need | None = None
    want: Want | None = None
    bound: Want | None = None


class Query(NamedTuple):
    """An open statement of one or several SELECTs.

    role: what it is for; mode: what may come next outside expressions, the clause while one is open. up: the statement
    around it. first: the columns of the first SELECT, once a second one follows. width: the number of columns that it
    must have. ctes: tables that WITH made. made: names of columns that the text has given. word: a name that was read.
    join: how the next source is joined. waiting: a source without its name yet. clash: names that USING must have.
    columns: names in brackets. forbid: names that the columns must not have. height: as that of an Expr.
    marks: what was said of a new table's columns.
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
    height: int = 0
    marks: frozenset[str] = frozenset()


Place: TypeAlias = Query

OPERAND, AFTER_NOT, AFTER_SIGN, CASE = "operand", "operand after NOT", "operand after a sign", "operand or WHEN"
BEFORE_OPERAND = frozenset({OPERAND, AFTER_NOT, AFTER_SIGN, CASE})
SELECT, AS, BY = (Token("word", word) for word in ("select", "as", "by"))
OPEN, CLOSE, COMMA, SEMICOLON = (Token("op", mark) for mark in "(),;")


# -- the stack of SQLite's parser

# It holds 100 symbols (before SQLite 3.46, https://sqlite.org/releaselog/3_46_0.html), and a statement that needs more
# is not prepared. Numbers here were found by trying; a few symbols are spared for what needs no account, such as `a.b`.
STACK = 93
# Ranks of operators, and what may wait on the stack for the right side of one: no more than one operator of each rank
# below, with its left side (a sign counts as IS). A NOT behind a tighter operator, which would begin anew, is refused.
LOGIC, IS, COMPARISON, ARITHMETIC = range(4)
WAITING = (5, 9, 11, 19)
SIGNED = 2  # a sign, and an operand
BEFORE = {  # in front of a clause's expression
    **{"column": 4, "where": 5, "on": 9, "group": 9, "having": 7, "order": 11},
    **{"value": 10, "set": 10, "filter": 9, "returned": 13},
}
OPENING = {  # by what opens: symbols in front of what is inside, and those that this needs at least
    "paren": (1, 1),
    "list": (5, 1),
    "call": (5, 1),
    "case": (6, 1),
    "cast": (2, 1),
    "exists": (2, 8),
}
DERIVED, CTE, SECOND = 6, 7, 2  # in front of a SELECT in FROM, in WITH, behind UNION and behind WITH
INSERT = 6  # in front of the SELECT of an INSERT
LEAST_SELECT, WHOLE_SELECT = 8, 15  # SELECT 1 AS a; one that may have all clauses, and a sub-select in FROM


def _waiting(expr: Expr) -> int:
    return 1 if expr.shape is None else WAITING[expr.rank] + 1


def can_operate(expr: Expr, rank: int) -> bool:
    """Is there room for an operator, whatever waits for it?"""
    return expr.height + WAITING[rank] + SIGNED <= STACK


def is_tall(query: Query) -> bool:
    """Is there only room for a SELECT without FROM?"""
    return query.height + WHOLE_SELECT > STACK


def is_roomy(query: Query) -> bool:
    """Is there room for a sub-select in FROM?"""
    return query.depth <= DEEPEST and not is_tall(query)


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
    height = query.height + BEFORE[clause]
    return query._replace(mode=clause, expr=Expr(clause, OPERAND, None, aggregates, query.depth, height, **fields))


def nested(query: Query, what: str, **fields: Any) -> Query | None:
    """An expression begins inside the one that is open."""
    expr = expr_of(query)
    if not can_nest(expr, what):
        return None
    height = expr.height + _waiting(expr) + OPENING[what][0]
    inner = Expr(what, OPERAND, expr, expr.aggregates, expr.depth + 1, height, expr.own)
    return query._replace(expr=inner._replace(**fields))


def can_nest(expr: Expr, what: str) -> bool:
    return expr.depth < DEEPEST and expr.height + _waiting(expr) + sum(OPENING[what]) <= STACK


def expr_of(query: Query) -> Expr:
    assert query.expr is not None, "an expression is open"
    return query.expr


def changed(query: Query, **fields: Any) -> Query:
    return query._replace(expr=expr_of(query)._replace(**fields))


def operand_read(query: Query, *, aggregate: bool = False, shape: str = "", column: Need | None = None) -> Query:
    expr = expr_of(query)
    whole = expr.shape is None and expr.state in _WHOLE
    return changed(
        query,
        state="operator",
        name="",
        aggregate=expr.aggregate or aggregate,
        shape=shape if whole else "",
        bare=False,
        rank=LOGIC,
        left=column if expr.rank == LOGIC else None,
        want=None,
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
