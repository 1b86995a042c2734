"""How statements that write are read: INSERT, UPDATE, DELETE, CREATE TABLE, DROP TABLE.

    WRITES[place.mode](grammar, place, token)

Only kinds that the rule allows begin. The table that is written to is the one source of the statement; `columns` of a
place are the names of those that were given, `marks` what was said of a new table's column.
"""

from __future__ import annotations

import sqlite3

from genctl.compilers.sql.clauses import close, select
from genctl.compilers.sql.names import Names, Step
from genctl.compilers.sql.places import (
    AS,
    CLOSE,
    COMMA,
    INSERT,
    OPEN,
    SELECT,
    Query,
    Token,
    Want,
    begin,
    expr_of,
    is_new,
)
from genctl.compilers.sql.schema import Table
from genctl.compilers.sql.scope import Core, Source
from genctl.compilers.sql.words import RESERVED, TYPES


def word(text: str) -> Token:
    return Token("word", text)


INTO, FROM, TABLE, SET, VALUES, WHERE = map(word, ("into", "from", "table", "set", "values", "where"))
RETURNING, DEFAULT, NOT, KEY, NULL = map(word, ("returning", "default", "not", "key", "null"))
EQUALS = Token("op", "=")
KNOWS_RETURNING = sqlite3.sqlite_version_info >= (3, 35)
PRIMARY = "primary key"  # of the whole table; the other marks are those of one column
VERBS = frozenset({"insert", "update", "delete"})


def verb(grammar: Names, query: Query, token: Token) -> Query | None:
    """The word that says what is done, behind WITH or at the beginning."""
    if token == SELECT:
        return select(grammar, query, token) if "select" in grammar.allow else None
    return query._replace(mode=token.text) if token.kind == "word" and token.text in VERBS & grammar.allow else None


def defines(grammar: Names, query: Query, token: Token) -> Query | None:
    """CREATE or DROP."""
    may = token.kind == "word" and f"{token.text} table" in grammar.allow and token.text in ("create", "drop")
    return query._replace(mode=token.text) if may else verb(grammar, query, token)


def _expects(token: Token, mode: str) -> Step:
    def step(grammar: Names, query: Query, read: Token) -> Query | None:
        return query._replace(mode=mode) if read == token else None

    return step


def _is_name(token: Token) -> bool:
    return token.kind == "quoted" or (token.kind == "word" and token.text not in RESERVED)


def _target(kind: str, mode: str) -> Step:
    """The table that is written to."""

    def step(grammar: Names, query: Query, token: Token) -> Query | None:
        known = _is_name(token) and token.text in grammar.targets(kind)
        return query._replace(mode=mode, word=token.text, core=_core(grammar, token.text)) if known else None

    return step


def _core(grammar: Names, name: str) -> Core:
    table = grammar.schema.tables[name]
    return Core(sources=(Source(name, table.names, name),), open=False)


def target_of(grammar: Names, query: Query) -> Table:
    return grammar.schema.tables[query.word]


def givable(grammar: Names, query: Query) -> tuple[str, ...]:
    """Columns of the table that a value can be given for, in order."""
    table = target_of(grammar, query)
    return tuple(name for name in table.names if name not in table.generated)


def not_given(grammar: Names, query: Query) -> frozenset[str]:
    return frozenset(givable(grammar, query)) - set(query.columns)


def _column(mode: str) -> Step:
    def step(grammar: Names, query: Query, token: Token) -> Query | None:
        may = _is_name(token) and token.text in not_given(grammar, query)
        return query._replace(mode=mode, columns=(*query.columns, token.text)) if may else None

    return step


# -- INSERT


def _insert_target(grammar: Names, query: Query, token: Token) -> Query | None:
    """Behind the table."""
    if token == OPEN:
        return query._replace(mode="insert column")
    if token == DEFAULT:
        return None if target_of(grammar, query).required else query._replace(mode="insert default")
    return _content(grammar, query._replace(columns=givable(grammar, query)), token)


def _insert_next(grammar: Names, query: Query, token: Token) -> Query | None:
    if token == COMMA:
        return query._replace(mode="insert column") if not_given(grammar, query) else None
    complete = target_of(grammar, query).required <= set(query.columns)
    return query._replace(mode="insert listed") if token == CLOSE and complete else None


def _content(grammar: Names, query: Query, token: Token) -> Query | None:
    """VALUES, or a SELECT of as many columns."""
    if token == VALUES:
        return query._replace(mode="values")
    inner = query._replace(core=Core(), width=len(query.columns), columns=(), word="", height=query.height + INSERT)
    return select(grammar, inner, token)


def _values(grammar: Names, query: Query, token: Token) -> Query | None:
    return _value(grammar, query._replace(core=Core(open=False)), 0) if token == OPEN else None


def _value(grammar: Names, query: Query, number: int) -> Query:
    return begin(query, "value", number=number, want=_kind(grammar, query, query.columns[number]))


def _kind(grammar: Names, query: Query, column: str) -> Want | None:
    return Want(kind=target_of(grammar, query).kind(column)) if grammar.typed else None


def _end_value(grammar: Names, query: Query, token: Token) -> Query | None:
    count = expr_of(query).number + 1
    if token == COMMA:
        return _value(grammar, query, count) if count < len(query.columns) else None
    done = token == CLOSE and count == len(query.columns)
    return query._replace(mode="inserted", expr=None, core=_core(grammar, query.word)) if done else None


def _inserted(grammar: Names, query: Query, token: Token) -> Query | None:
    return query._replace(mode="values") if token == COMMA else _written(grammar, query, token)


# -- UPDATE, and what ends statements that write


def _set_equals(grammar: Names, query: Query, token: Token) -> Query | None:
    return begin(query, "set", want=_kind(grammar, query, query.columns[-1])) if token == EQUALS else None


def _end_set(grammar: Names, query: Query, token: Token) -> Query | None:
    query = query._replace(expr=None, mode="set end")
    if token == COMMA:
        return query._replace(mode="set column") if not_given(grammar, query) else None
    return _filtered(grammar, query, token)


def _filtered(grammar: Names, query: Query, token: Token) -> Query | None:
    """Behind the table of a DELETE, and what UPDATE sets: which rows?"""
    return begin(query, "filter") if token == WHERE else _written(grammar, query, token)


def _end_filter(grammar: Names, query: Query, token: Token) -> Query | None:
    return _written(grammar, query._replace(expr=None, mode="filtered"), token)


def _written(grammar: Names, query: Query, token: Token) -> Query | None:
    """Behind all else: RETURNING, or the end."""
    if token == RETURNING:
        return begin(query, "returned") if KNOWS_RETURNING else None
    return close(grammar, query, token)


def _end_returned(grammar: Names, query: Query, token: Token) -> Query | None:
    query = query._replace(expr=None, mode="returned")
    return query._replace(mode="returned as") if token == AS else _returned(grammar, query, token)


def _returned_as(grammar: Names, query: Query, token: Token) -> Query | None:
    return query._replace(mode="returned") if is_new(token) else None


def _returned(grammar: Names, query: Query, token: Token) -> Query | None:
    return begin(query, "returned") if token == COMMA else close(grammar, query, token)


# -- CREATE TABLE, DROP TABLE


def _create_name(grammar: Names, query: Query, token: Token) -> Query | None:
    if token == word("if") and query.mode == "create table":
        return query._replace(mode="create if")
    new = is_new(token) and token.text not in grammar.schema.objects and not token.text.startswith("sqlite_")
    return query._replace(mode="create open", word=token.text) if new else None


def _new_column(grammar: Names, query: Query, token: Token) -> Query | None:
    new = is_new(token) and token.text not in query.columns
    return query._replace(mode="new column", columns=(*query.columns, token.text)) if new else None


def _defined(grammar: Names, query: Query, token: Token) -> Query | None:
    """Behind a new column, and its type: what else is said of it, or the next one."""
    if query.mode == "new column" and token.kind == "word" and token.text in TYPES:
        return query._replace(mode="new type")
    if token == COMMA:
        return query._replace(mode="create column", marks=query.marks & {PRIMARY})
    if token == CLOSE:
        return query._replace(mode="created")
    mark, mode = _MARKS.get(token.text, ("", "")) if token.kind == "word" else ("", "")
    return query._replace(mode=mode, marks=query.marks | {mark}) if mark and mark not in query.marks else None


_MARKS = {
    "primary": (PRIMARY, "new primary"),
    "not": ("not null", "new not"),
    "unique": ("unique", "new type"),
    "default": ("default", "new default"),
}


def _new_default(grammar: Names, query: Query, token: Token) -> Query | None:
    return query._replace(mode="new type") if token.kind in ("number", "string") or token == NULL else None


def _drop_name(grammar: Names, query: Query, token: Token) -> Query | None:
    if token == word("if") and query.mode == "drop table":
        return query._replace(mode="drop if")
    return _target("drop table", "dropped")(grammar, query, token)


ENDS: dict[str, Step] = {
    "value": _end_value,
    "set": _end_set,
    "filter": _end_filter,
    "returned": _end_returned,
}
WRITES: dict[str, Step] = {
    "insert": _expects(INTO, "insert into"),
    "insert into": _target("insert", "insert target"),
    "insert target": _insert_target,
    "insert default": _expects(VALUES, "insert done"),
    "insert done": lambda grammar, query, token: _written(grammar, query, token),
    "insert column": _column("insert next"),
    "insert next": _insert_next,
    "insert listed": _content,
    "values": _values,
    "inserted": _inserted,
    "update": _target("update", "update set"),
    "update set": _expects(SET, "set column"),
    "set column": _column("set equals"),
    "set equals": _set_equals,
    "delete": _expects(FROM, "delete from"),
    "delete from": _target("delete", "delete target"),
    "delete target": _filtered,
    "returned": _returned,
    "returned as": _returned_as,
    "create": _expects(TABLE, "create table"),
    "create table": _create_name,
    "create if": _expects(NOT, "create if not"),
    "create if not": _expects(word("exists"), "create name"),
    "create name": _create_name,
    "create open": _expects(OPEN, "create column"),
    "create column": _new_column,
    "new column": _defined,
    "new type": _defined,
    "new primary": _expects(KEY, "new type"),
    "new not": _expects(NULL, "new type"),
    "new default": _new_default,
    "created": lambda grammar, query, token: close(grammar, query, token),
    "drop": _expects(TABLE, "drop table"),
    "drop table": _drop_name,
    "drop if": _expects(word("exists"), "drop name"),
    "drop name": _drop_name,
    "dropped": lambda grammar, query, token: close(grammar, query, token),
}
