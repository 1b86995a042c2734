"""A reader of SELECT statements, token by token, that knows what every name means.

    grammar = Grammar(schema)
    place = grammar.read(grammar.start, Token("word", "select"))    # None: no statement goes on like this
    grammar.words(place)                                            # the words that may come next

A place is a value: the open SELECTs, innermost first, each with the expressions that are open in it. From every place
some statement can be finished: what would lead to a dead end is refused at once. For columns that are read before
their FROM there is always a way, since `FROM (SELECT 1 AS a)` gives any column; what rules this out (a second table
with the same column, a sub-select whose column would clash) is refused where it is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from genctl.compilers.sql.schema import Schema
from genctl.compilers.sql.scope import (
    MOST_SOURCES,
    Core,
    Need,
    Result,
    Source,
    Star,
    alias_of,
    clashing,
    fits,
    found,
    names_of,
    results,
    source_of,
    unqualified,
)
from genctl.compilers.sql.words import COLLATIONS, EITHER, KEYWORDS, RESERVED, TYPES, Function

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
Step: TypeAlias = Callable[["Grammar", Query, Token], "Query | None"]

OPERAND, AFTER_NOT, AFTER_SIGN, CASE = "operand", "operand after NOT", "operand after a sign", "operand or WHEN"
BEFORE_OPERAND = frozenset({OPERAND, AFTER_NOT, AFTER_SIGN, CASE})
TIGHT = frozenset({"+", "-", "*", "/", "%", "||", "&", "|", "<<", ">>"})
LOOSE = frozenset({"=", "==", "!=", "<>", "<", "<=", ">", ">="})
CONSTANTS = frozenset({"null", "current_date", "current_time", "current_timestamp"})
COMPOUND = frozenset({"union", "intersect", "except"})
CLAUSES = ("where", "group", "having", "order", "limit")
# What may follow in a SELECT, by what was read.
FOLLOWING = {
    "result": ("from", "order", "limit"),
    "source": CLAUSES[:2] + CLAUSES[3:],
    "where": CLAUSES[1:2] + CLAUSES[3:],
    "grouped": CLAUSES[2:],
    "having": CLAUSES[3:],
    "term": CLAUSES[4:],
    "limit": (),
}


class Grammar:
    """The statements for one schema. forward: a column may be used before the sub-select that makes its name."""

    def __init__(self, schema: Schema, *, forward: bool = False) -> None:
        self.schema, self.forward = schema, forward
        self.columns = frozenset(name for table in schema.tables.values() for name in table.names)
        self.start = Query("top", "start", None, 0)
        first: dict[tuple[Function, bool], str] = {}
        calls = {name: (function, name in EITHER) for name, function in schema.functions.items()}
        self.alike = {name: first.setdefault(call, name) for name, call in calls.items()}  # takes the same arguments
        self.names_of_schema = self.columns | {*schema.tables, *schema.functions}

    def read(self, place: Place, token: Token) -> Place | None:
        """The place after a token; None where no statement goes on with it."""
        if place.expr is not None:
            return _EXPRESSIONS[place.expr.state](self, place, token)
        return _MODES[place.mode](self, place, token)

    def as_column(self, place: Place) -> Place | None:
        """Behind a name that was read: the place if it is a column; None if there is no such one."""
        return _column(self, place)

    def finished(self, place: Place) -> Place | None:
        """Behind a source: the place if it is the last one; None if more must come."""
        named = _named(place, place.word) if place.mode == "source" else place
        return None if named is None else _finish(named)

    # -- what may come

    def words(self, place: Place) -> frozenset[str]:
        """The words (in lower case) that may come next; free names are not among them."""
        names, expr = frozenset(filter(is_bare, self.names(place))), place.expr
        if expr is None or expr.state not in BEFORE_OPERAND:
            return self._readable(place, names.union(_GRAMMAR_WORDS))
        if expr.what == "call" and self.schema.functions[expr.word].most == 0:
            return frozenset()
        called = frozenset(name for name in self.schema.functions if self._callable(expr, name))
        return self._readable(place, frozenset(_GRAMMAR_WORDS)) | names | (called - RESERVED)

    def _readable(self, place: Place, words: frozenset[str]) -> frozenset[str]:
        return frozenset(word for word in words if self.read(place, Token("word", word)) is not None)

    def names(self, place: Place) -> frozenset[str]:
        """The names that may come next, and some that may not, where not every name may come."""
        expr = place.expr
        if expr is None:
            return _NAMES[place.mode](self, place) if place.mode in _NAMES else frozenset()
        if expr.state in BEFORE_OPERAND:
            return self._columns(place, expr) | self._qualifiers(place, expr)
        if expr.state == "column":
            return self._columns_of(place, expr, expr.name)
        if expr.state == "collation":
            return COLLATIONS
        return TYPES if expr.state == "type" else frozenset()

    def free(self, place: Place) -> str:
        """ "name": any name that is no keyword may come; "alias": any that looks like ALIAS; "": none."""
        expr = place.expr
        if expr is None:
            return _FREE.get(place.mode, "")
        if expr.state in BEFORE_OPERAND and _awaits(place, expr):
            return "name" if self.forward else "alias"
        return "name" if self.forward and expr.state == "column" and self._is_forward(place, expr) else ""

    def free_word(self, place: Place, word: str) -> bool:
        """Is this one of the free names?"""
        kind = self.free(place)
        if not kind or word in KEYWORDS or (kind == "alias" and not ALIAS.fullmatch(word)):
            return False
        return self.read(place, Token("word", word)) is not None

    def strings_in_double_quotes(self, place: Place) -> bool:
        """May an operand in double quotes be a string? SQLite takes it as a column wherever it finds one."""
        expr = place.expr
        if expr is None or expr.state not in BEFORE_OPERAND or expr.bare:
            return False
        return all(not q.core.open and _all_named(q.core) for q in _visible(place))

    def taken(self, place: Place) -> frozenset[str]:
        """All names of columns that SQLite finds from here, whether they may be used or not."""
        names: set[str] = set()
        for query in _visible(place):
            for source in query.core.sources:
                names.update(source.columns)
            names.update(c.name for c in query.core.columns if isinstance(c, Result) and c.alias)
        return frozenset(names)

    # -- names in expressions

    def columns_here(self, place: Place) -> frozenset[str]:
        """Columns that may be used without a qualifier where an expression is open."""
        return frozenset() if place.expr is None else self._columns(place, place.expr)

    def _columns(self, query: Query, expr: Expr) -> frozenset[str]:
        """Columns that may be used here without a qualifier."""
        names: set[str] = set()
        hidden: set[str] = set()
        for scope in _visible(query):
            core = scope.core
            if core.before_from:
                known = self.columns | query.made if scope.depth <= DEEPEST else frozenset()
                return frozenset(names | (known - hidden))
            for name in {name for source in core.sources for name in source.columns if name} - hidden:
                if found(core, name) == 1:
                    names.add(name)
                hidden.add(name)
            aliases = {c.name for c in core.columns if isinstance(c, Result) and c.alias}
            if scope is query and not expr.own and query.mode != "on":
                names |= {name for name in aliases - hidden if self._alias_fits(core, name, expr)}
                names |= {name for name in aliases if _whole_term(expr)}
            hidden |= aliases
            if expr.own:
                break
        return frozenset(names)

    def _alias_fits(self, core: Core, name: str, expr: Expr) -> bool:
        alias = alias_of(core, name)
        return alias is not None and (expr.aggregates or not alias.aggregate)

    def _qualifiers(self, query: Query, expr: Expr) -> frozenset[str]:
        """Names that a dot may follow, as far as they are known."""
        names: set[str] = set()
        hidden = {""}
        for scope in _visible(query):
            if scope.core.before_from:
                return frozenset(names | (self.tables_in(query) - hidden if scope.depth <= DEEPEST else set()))
            names |= {source.name for source in scope.core.sources if any(source.columns)} - hidden
            hidden |= {source.name for source in scope.core.sources}
            if expr.own:
                break
        return frozenset(names)

    def _columns_of(self, query: Query, expr: Expr, qualifier: str) -> frozenset[str]:
        for scope in _visible(query):
            if scope.core.before_from:
                return self.columns | query.made
            source = source_of(scope.core, qualifier)
            if source is not None:
                return frozenset(source.columns) - {""}
            if expr.own:
                break
        return frozenset()

    def _is_qualifier(self, query: Query, expr: Expr, name: str) -> bool:
        for scope in _visible(query):
            if scope.core.before_from:
                free = name not in KEYWORDS and (self.forward or ALIAS.fullmatch(name) is not None)
                return scope.depth <= DEEPEST and (free or name in self._qualifiers(query, expr))
            source = source_of(scope.core, name)
            if source is not None:
                return any(source.columns)
            if expr.own:
                break
        return False

    def _is_forward(self, query: Query, expr: Expr) -> bool:
        for scope in _visible(query):
            if scope.core.before_from:
                return True
            if source_of(scope.core, expr.name) is not None or expr.own:
                return False
        return False

    def _callable(self, expr: Expr, name: str) -> bool:
        function = self.schema.functions.get(name)
        if function is None or expr.depth >= DEEPEST:
            return False
        return expr.aggregates or not function.aggregate or name in EITHER

    def tables_in(self, query: Query) -> frozenset[str]:
        return frozenset({*self.schema.tables, *(cte.name for cte in query.ctes)})

    def known(self, query: Query, name: str) -> bool:
        """May a source that is still to come have such a column? A keyword can be no new name."""
        return name in self.columns or name in query.made or (self.forward and name not in KEYWORDS)


def is_bare(name: str) -> bool:
    """May the name be written without quotes?"""
    return _BARE.fullmatch(name) is not None and name not in RESERVED


_BARE = re.compile(r"[a-z_][a-z0-9_$]*")


# -- scopes


def _visible(query: Query) -> list[Query]:
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


def _awaits(query: Query, expr: Expr) -> bool:
    """Can a column belong to a source that is not known yet?"""
    scopes = _visible(query)[:1] if expr.own else _visible(query)
    return any(scope.core.before_from and scope.depth <= DEEPEST for scope in scopes)


def _all_named(core: Core) -> bool:
    return all(name for source in core.sources for name in source.columns)


def _outwards(query: Query, need: Need) -> Query | None:
    """The query with the need handed to what it can see outside; None if nothing there has it."""
    if query.up is None or query.role == "cte" or query.mode in _ALONE:
        return None
    up = _outwards(query.up, need) if query.role == "derived" else _resolve(query.up, need._replace(own=False))
    return None if up is None else query._replace(up=up)


def _resolve(query: Query, need: Need) -> Query | None:
    """The query with a column used in it; None if there is no such column."""
    core = query.core
    if core.before_from:
        return query._replace(core=core._replace(needs=core.needs | {need}))
    if need.qualifier:
        source = source_of(core, need.qualifier)
        if source is not None:
            return query if need.name in source.columns else None
        return None if need.own else _outwards(query, need)
    count = found(core, need.name)
    if count > 1:
        return None
    if core.open:
        query = query._replace(core=core._replace(used=core.used | {need.name}))
    if count == 1:
        return query
    return None if need.own or alias_of(core, need.name) else _outwards(query, need)


# -- expressions


def _begin(query: Query, clause: str, *, aggregates: bool = False, **fields: Any) -> Query:
    """An expression begins that is a part of the SELECT itself."""
    return query._replace(mode=clause, expr=Expr(clause, OPERAND, None, aggregates, query.depth, **fields))


def _nested(query: Query, what: str, **fields: Any) -> Query | None:
    """An expression begins inside the one that is open."""
    expr = _expr(query)
    if expr.depth >= DEEPEST:
        return None
    inner = Expr(what, OPERAND, expr, expr.aggregates, expr.depth + 1, expr.own)
    return query._replace(expr=inner._replace(**fields))


def _expr(query: Query) -> Expr:
    assert query.expr is not None, "an expression is open"
    return query.expr


def _with(query: Query, **fields: Any) -> Query:
    return query._replace(expr=_expr(query)._replace(**fields))


def _operand_read(query: Query, *, aggregate: bool = False, shape: str = "") -> Query:
    expr = _expr(query)
    whole = expr.shape is None and expr.state in _WHOLE
    return _with(
        query,
        state="operator",
        name="",
        aggregate=expr.aggregate or aggregate,
        shape=shape if whole else "",
        bare=False,
        sole=expr.sole and expr.what == "call",
    )


def _closed(query: Query, shape: str = "", aggregate: bool = False) -> Query:
    """The innermost expression is an operand of the one around it."""
    expr = _expr(query)
    return _operand_read(query._replace(expr=expr.up), aggregate=expr.aggregate or aggregate, shape=shape)


def _is_fresh(expr: Expr) -> bool:
    return expr.shape is None and expr.state == OPERAND


def _whole_term(expr: Expr) -> bool:
    """Is it the beginning of a term of ORDER BY, which may be an alias although several columns have the name?"""
    return expr.what == "order" and expr.shape is None and expr.state in (OPERAND, "name")


def _operand(grammar: Grammar, query: Query, token: Token) -> Query | None:
    expr, (kind, text) = _expr(query), token
    if expr.what == "call" and grammar.schema.functions[expr.word].most == 0 and text != ")":
        return None
    if kind == "word":
        return _operand_word(grammar, query, text)
    if kind == "quoted":
        known = text in grammar._columns(query, expr) or text in grammar._qualifiers(query, expr)
        return _with(query, state="quoted", name=text) if known else None
    if kind == "string":
        return _operand_read(query)
    if kind == "number":
        return None if expr.bare else _operand_read(query)
    if kind == "position":
        return _position(query, int(text))
    return _operand_mark(grammar, query, text)


def _operand_mark(grammar: Grammar, query: Query, text: str) -> Query | None:
    expr = _expr(query)
    if text == "(":
        return _nested(query, "paren", bare=expr.bare and _is_fresh(expr))
    if text == "*" and _is_fresh(expr):
        if expr.what == "column":
            return _star(query, Star())
        return _with(query, state="counted") if (expr.what, expr.word) == ("call", "count") else None
    if text in ("+", "-", "~") and expr.state != AFTER_SIGN and not expr.bare:
        return _with(query, state=AFTER_SIGN, sole=expr.sole and expr.what == "call", shape=expr.shape or "")
    if text == ")" and _is_fresh(expr) and expr.number == 0:
        if expr.what == "list":
            return _closed(query)
        if expr.what == "call" and grammar.schema.functions[expr.word].least == 0:
            return _closed(query)
    return None


def _operand_word(grammar: Grammar, query: Query, word: str) -> Query | None:
    expr = _expr(query)
    if word in CONSTANTS:
        return _operand_read(query)
    if word == "not":
        can = expr.state in (OPERAND, CASE) and not expr.tight
        return _with(query, state=AFTER_NOT, bare=False, shape=expr.shape or "") if can else None
    if word in ("distinct", "all"):
        return _distinct(grammar, query, word)
    if word == "case":
        return _nested(query, "case", state=CASE, word="base")
    if word == "when":
        return _with(query, state=OPERAND, word="when") if expr.state == CASE else None
    if word == "cast":
        return _nested(query, "cast", state="opening")
    if word == "exists":
        return None if expr.own else _nested(query, "exists", state="opening")
    if word == "select":
        return _sub_select(query) if expr.what in ("paren", "list") and _is_fresh(expr) and not expr.number else None
    if word in RESERVED:
        return None
    known = (
        grammar._callable(expr, word)
        or word in grammar._columns(query, expr)
        or grammar._is_qualifier(query, expr, word)
    )
    return _with(query, state="name", name=word) if known else None


def _distinct(grammar: Grammar, query: Query, word: str) -> Query | None:
    expr = _expr(query)
    if not _is_fresh(expr) or expr.number or expr.sole:
        return None
    if expr.what == "column" and not query.core.columns:
        return _with(query, sole=True)
    if expr.what == "call" and word == "distinct":
        function = grammar.schema.functions[expr.word]
        may = function.aggregate and function.least <= 1 and _least(expr, function) <= 1
        return _with(query, sole=True) if may else None
    return None


def _sub_select(query: Query) -> Query | None:
    """The brackets that are open hold a SELECT."""
    expr = _expr(query)
    if expr.own:
        return None
    columns = None if expr.what == "exists" else 1
    inner = Query("operand", "start", query, expr.depth, width=columns, ctes=query.ctes, made=query.made)
    return _begin(inner, "column", aggregates=True)


def _opening(grammar: Grammar, query: Query, token: Token) -> Query | None:
    if token.text != "(":
        return None
    return _with(query, state=OPERAND if _expr(query).what == "cast" else "select")


def _select_only(grammar: Grammar, query: Query, token: Token) -> Query | None:
    return _sub_select(query) if token == SELECT else None


def _position(query: Query, number: int) -> Query | None:
    expr = _expr(query)
    if not (expr.bare and _is_fresh(expr) and expr.up is None) or number not in positions(query):
        return None
    return query._replace(expr=None, mode="term" if expr.what == "order" else "grouped")


def positions(query: Query) -> frozenset[int]:
    """The numbers of columns that a term of ORDER BY or GROUP BY may be."""
    if query.mode == "order name":
        return frozenset(range(1, len(query.first or ()) + 1))
    expr = query.expr
    if expr is None or not (expr.bare and _is_fresh(expr) and expr.up is None):
        return frozenset()
    columns = [column for column in query.core.columns if isinstance(column, Result)]
    usable = [i for i, column in enumerate(columns, 1) if expr.what == "order" or not column.aggregate]
    return frozenset(usable)


def _name(grammar: Grammar, query: Query, token: Token) -> Query | None:
    """Behind a name, which is a column, a qualifier or a function."""
    expr = _expr(query)
    if token.text == "." and token.kind == "op":
        known = grammar._is_qualifier(query, expr, expr.name)
        return _with(query, state="column") if known else None
    if token.text == "(" and token.kind == "op":
        may = expr.state == "name" and grammar._callable(expr, expr.name)
        return _call(grammar, query) if may else None
    after = _column(grammar, query)
    return None if after is None else grammar.read(after, token)


def _column(grammar: Grammar, query: Query) -> Query | None:
    """The name is a column, or an alias."""
    expr, core, name = _expr(query), query.core, _expr(query).name
    if core.before_from or expr.own or query.mode == "on":
        return _used(grammar, query, Need("", name, expr.own))
    count, alias = found(core, name), alias_of(core, name)
    if alias is not None and count != 1 and (count == 0 or _whole_term(expr)):
        if count > 1:
            return query._replace(expr=None, mode="term")
        return _operand_read(query, aggregate=alias.aggregate) if expr.aggregates or not alias.aggregate else None
    return _used(grammar, query, Need("", name, False))


def _used(grammar: Grammar, query: Query, need: Need) -> Query | None:
    if not grammar.known(query, need.name) and _awaits(query, _expr(query)):
        known = need.name in grammar._columns(query, _expr(query))
        if not known:
            return None
    after = _resolve(query, need)
    return None if after is None else _operand_read(after, shape=need.name)


def _qualified(grammar: Grammar, query: Query, token: Token) -> Query | None:
    """Behind the dot of a qualifier."""
    expr = _expr(query)
    if token.kind == "op":
        alone = expr.what == "column" and expr.shape is None
        return _star(query, Star(expr.name)) if token.text == "*" and alone else None
    if token.kind not in ("word", "quoted") or (token.kind == "word" and token.text in RESERVED):
        return None
    known = token.text in grammar._columns_of(query, expr, expr.name)
    if not known and not (grammar._is_forward(query, expr) and grammar.known(query, token.text)):
        return None
    after = _resolve(query, Need(expr.name, token.text, expr.own))
    return None if after is None else _operand_read(after, shape=token.text)


# -- operators


def _operator(grammar: Grammar, query: Query, token: Token) -> Query | None:
    """Behind an operand."""
    expr, (kind, text) = _expr(query), token
    if kind == "op" and (text in TIGHT or (text in LOOSE and not expr.tight)):
        return _with(query, state=OPERAND, shape="")
    if kind == "word" and text in _OPERATOR_WORDS:
        if text == "in" and expr.depth >= DEEPEST:
            return None
        if not expr.tight or text in ("and", "collate"):
            return _OPERATOR_WORDS[text](query)
        return None
    return None if expr.tight else _ENDS[expr.what](grammar, query, token)


def _goes_on(query: Query) -> Query:
    return _with(query, state=OPERAND, shape="", tight=False)


def _between(query: Query) -> Query:
    return _with(query, state=OPERAND, shape="", tight=True)


_OPERATOR_WORDS: dict[str, Callable[[Query], Query]] = {
    **dict.fromkeys(("and", "or", "is", "like", "glob"), _goes_on),
    **dict.fromkeys(("isnull", "notnull"), lambda query: _with(query, shape="")),
    "between": _between,
    "in": lambda query: _with(query, state="in", shape=""),
    "not": lambda query: _with(query, state="not", shape=""),
    "collate": lambda query: _with(query, state="collation"),
}


def _behind_not(grammar: Grammar, query: Query, token: Token) -> Query | None:
    if token == Token("word", "null"):
        return _with(query, state="operator")
    may = token.kind == "word" and token.text in ("in", "like", "glob", "between")
    may = may and (token.text != "in" or _expr(query).depth < DEEPEST)
    return _OPERATOR_WORDS[token.text](query) if may else None


def _behind_in(grammar: Grammar, query: Query, token: Token) -> Query | None:
    return _nested(query, "list") if token == Token("op", "(") else None


def _collation(grammar: Grammar, query: Query, token: Token) -> Query | None:
    return _with(query, state="operator") if token.kind == "word" and token.text in COLLATIONS else None


# -- brackets and CASE


def _end_paren(grammar: Grammar, query: Query, token: Token) -> Query | None:
    return _closed(query, _expr(query).shape or "") if token == CLOSE else None


def _end_list(grammar: Grammar, query: Query, token: Token) -> Query | None:
    if token == COMMA:
        return _with(query, state=OPERAND, shape=None, number=1)
    return _closed(query) if token == CLOSE else None


def _call(grammar: Grammar, query: Query) -> Query | None:
    expr = _expr(query)
    name = expr.name
    function = grammar.schema.functions[name]
    inner = _nested(_with(query, state=OPERAND, name=""), "call", word=name)
    if inner is not None and function.aggregate and (expr.aggregates or name not in EITHER):
        return _with(inner, aggregates=False, own=True)
    return inner


def _least(expr: Expr, function: Function) -> int:
    """Fewest arguments of the call: min and max take two where no aggregate may stand."""
    assert expr.up is not None
    return 2 if expr.word in EITHER and not expr.up.aggregates else function.least


def _end_call(grammar: Grammar, query: Query, token: Token) -> Query | None:
    expr = _expr(query)
    function, count = grammar.schema.functions[expr.word], expr.number + 1
    if token == COMMA:
        more = not expr.sole and (function.most is None or count < function.most)
        return _with(query, state=OPERAND, shape=None, number=count) if more else None
    if token == CLOSE and count >= _least(expr, function):
        return _closed(query, aggregate=function.aggregate and (expr.word not in EITHER or count == 1))
    return None


def _counted(grammar: Grammar, query: Query, token: Token) -> Query | None:
    """Behind the star of count(*)."""
    return _closed(query, aggregate=True) if token == CLOSE else None


_STAGES = {
    "base": {"when": "when"},
    "when": {"then": "then"},
    "then": {"when": "when", "else": "else"},
    "else": dict[str, str](),
}


def _end_case(grammar: Grammar, query: Query, token: Token) -> Query | None:
    stage = _expr(query).word
    if token.kind == "word" and token.text in _STAGES[stage]:
        return _with(query, state=OPERAND, shape=None, word=_STAGES[stage][token.text])
    return _closed(query) if token == Token("word", "end") and stage in ("then", "else") else None


def _end_cast(grammar: Grammar, query: Query, token: Token) -> Query | None:
    return _with(query, state="type") if token == AS else None


def _type(grammar: Grammar, query: Query, token: Token) -> Query | None:
    return _with(query, state="typed") if token.kind == "word" and token.text in TYPES else None


def _typed(grammar: Grammar, query: Query, token: Token) -> Query | None:
    return _closed(query) if token == CLOSE else None


_EXPRESSIONS: dict[str, Step] = {
    **dict.fromkeys(BEFORE_OPERAND, _operand),
    "operator": _operator,
    "name": _name,
    "quoted": _name,
    "column": _qualified,
    "not": _behind_not,
    "in": _behind_in,
    "collation": _collation,
    "counted": _counted,
    "opening": _opening,
    "select": _select_only,
    "type": _type,
    "typed": _typed,
}
_WHOLE = frozenset({OPERAND, "name", "quoted", "column"})  # states from which an operand may be the whole expression


# -- the columns of a SELECT


def _fixed_star(query: Query) -> bool:
    """Is `*` all that is selected, where the number of columns is given?"""
    return query.width is not None and query.core.columns == (Star(),)


def _star(query: Query, star: Star) -> Query | None:
    if query.forbid or (query.width is not None and (query.core.columns or query.depth > DEEPEST)):
        return None  # a sub-select must be able to make up the number of columns
    if star.of and len(_qualifiers_needed(query.core) | {star.of}) >= MOST_SOURCES:
        return None
    core = query.core._replace(columns=(*query.core.columns, star))
    return query._replace(core=core, expr=None, mode="result")


def _end_column(grammar: Grammar, query: Query, token: Token) -> Query | None:
    expr = _expr(query)
    column = Result(expr.shape or "", aggregate=expr.aggregate)
    core = query.core._replace(columns=(*query.core.columns, column))
    query = query._replace(core=core, expr=None, mode="result")
    if token == AS:
        return query._replace(mode="as")
    return None if column.name in query.forbid else _after_result(grammar, query, token)


def _as(grammar: Grammar, query: Query, token: Token) -> Query | None:
    known = token.kind == "quoted" and (token.text in grammar.columns or token.text in query.made)
    if not (known or _is_new(token)) or token.text in query.forbid:
        return None
    *others, last = query.core.columns
    assert isinstance(last, Result)
    core = query.core._replace(columns=(*others, last._replace(name=token.text, alias=True)))
    return query._replace(core=core, made=query.made | {token.text}, mode="result")


def _is_new(token: Token) -> bool:
    return token.kind == "word" and token.text not in KEYWORDS


def _after_result(grammar: Grammar, query: Query, token: Token) -> Query | None:
    columns = query.core.columns
    if token == COMMA:
        more = query.width is None or (len(columns) < query.width and not isinstance(columns[0], Star))
        return _begin(query, "column", aggregates=True) if more else None
    if token == Token("word", "from"):
        starred = isinstance(columns[0], Star)
        if query.width is not None and not starred and len(columns) != query.width:
            return None
        return query._replace(mode="from", join="first")
    return _clause(grammar, query, token)


# -- sources


def _table(query: Query, grammar: Grammar, name: str) -> Source | None:
    for cte in query.ctes:
        if cte.name == name:
            return cte._replace(name="")
    table = grammar.schema.tables.get(name)
    return None if table is None else Source("", table.names, name)


def _from(grammar: Grammar, query: Query, token: Token) -> Query | None:
    if token == OPEN:
        return _derived(query)
    if token.kind not in ("word", "quoted") or (token.kind == "word" and token.text in RESERVED):
        return None
    source = _table(query, grammar, token.text)
    if source is None:
        return None
    query = query._replace(word=token.text)
    if _fixed_star(query):
        assert query.width is not None
        if sum(len(s.columns) for s in query.core.sources) + len(source.columns) > query.width:
            return None
    return _waits(query, source)


def _waits(query: Query, source: Source) -> Query | None:
    """A source was read, its name was not."""
    core = query.core
    if query.join == "natural":
        source = source._replace(using=frozenset(name for name in source.columns if name and found(core, name)))
    clash = clashing(core._replace(sources=(*core.sources, source)))
    if clash and (query.join != "join" or _fixed_star(query)):
        return None
    return query._replace(mode="source", waiting=source, clash=clash)


def _derived(query: Query) -> Query | None:
    if query.depth > DEEPEST:
        return None
    core, columns, forbid = query.core, None, frozenset[str]()
    if _fixed_star(query):
        assert query.width is not None
        columns = query.width - sum(len(source.columns) for source in core.sources)
    if query.join == "comma" or (query.join == "join" and _fixed_star(query)):
        forbid = frozenset(name for name in unqualified(core) if found(core, name))
    return Query(
        "derived", "select", query, query.depth + 1, width=columns, ctes=query.ctes, made=query.made, forbid=forbid
    )


def _source(grammar: Grammar, query: Query, token: Token) -> Query | None:
    """Behind a source."""
    if token == AS:
        return query._replace(mode="source as")
    if _is_new(token) and ALIAS.fullmatch(token.text):
        return _named(query, token.text)
    named = _named(query, query.word)
    return None if named is None else _source_end(grammar, named, token)


def _source_as(grammar: Grammar, query: Query, token: Token) -> Query | None:
    known = token.kind == "quoted" and token.text in grammar.tables_in(query)
    return _named(query, token.text) if known or _is_new(token) else None


def _named(query: Query, name: str) -> Query | None:
    assert query.waiting is not None
    core, source = query.core, query.waiting._replace(name=name)
    if not fits(core, source):
        return None
    if query.width is not None and core.columns == (Star(name),) and name and len(source.columns) != query.width:
        return None
    core = core._replace(sources=(*core.sources, source))
    if len(core.sources) + len(_qualifiers_needed(core)) > MOST_SOURCES:
        return None
    return query._replace(mode="source end", core=core, waiting=None, word="")


def _qualifiers_needed(core: Core) -> set[str]:
    """Names that sources which are still to come must have; "" if columns without a qualifier are waited for."""
    needed = {need.qualifier for need in core.needs}
    needed |= {column.of for column in core.columns if isinstance(column, Star)}
    return (needed - {source.name for source in core.sources}) | {""}


def _source_end(grammar: Grammar, query: Query, token: Token) -> Query | None:
    if query.join == "join" and token.kind == "word":
        if token.text == "using":
            return query._replace(mode="using open") if _common(query) and not _fixed_star(query) else None
        if token.text == "on":
            return None if query.clash else _begin(query, "on")
    return None if query.clash else _joined(grammar, query, token)


def _common(query: Query) -> frozenset[str]:
    """Columns that the last source and those before it have, without those that USING already has."""
    *others, last = query.core.sources
    before = query.core._replace(sources=tuple(others))
    return frozenset(name for name in last.columns if name and found(before, name)) - last.using


def _using_open(grammar: Grammar, query: Query, token: Token) -> Query | None:
    return query._replace(mode="using") if token == OPEN else None


def _using(grammar: Grammar, query: Query, token: Token) -> Query | None:
    named = token.kind == "quoted" or (token.kind == "word" and token.text not in RESERVED)
    if not named or token.text not in _common(query):
        return None
    *others, last = query.core.sources
    core = query.core._replace(sources=(*others, last._replace(using=last.using | {token.text})))
    return query._replace(mode="using next", core=core, clash=query.clash - {token.text})


def _using_next(grammar: Grammar, query: Query, token: Token) -> Query | None:
    if token == COMMA:
        return query._replace(mode="using") if _common(query) else None
    return query._replace(mode="joined") if token == CLOSE and not query.clash else None


def _joined(grammar: Grammar, query: Query, token: Token) -> Query | None:
    """Another source, or another clause."""
    if token == COMMA:
        return _next_source(query, "from", "comma")
    if token.kind == "word" and token.text in _JOINS:
        if token.text == "natural" and _fixed_star(query):
            return None
        mode, join = _JOINS[token.text]
        return _next_source(query, mode, join)
    return _clause(grammar, query, token)


def _next_source(query: Query, mode: str, join: str) -> Query | None:
    core = query.core
    if query.depth > DEEPEST or len(core.sources) + len(_qualifiers_needed(core)) >= MOST_SOURCES:
        return None
    if _fixed_star(query) and sum(len(source.columns) for source in core.sources) == query.width:
        return None
    return query._replace(mode=mode, join=join)


_JOINS = {
    "join": ("from", "join"),
    "left": ("left", "join"),
    "inner": ("inner", "join"),
    "cross": ("inner", "join"),
    "natural": ("natural", "natural"),
}


def _left(grammar: Grammar, query: Query, token: Token) -> Query | None:
    return query._replace(mode="inner") if token == Token("word", "outer") else _inner(grammar, query, token)


def _inner(grammar: Grammar, query: Query, token: Token) -> Query | None:
    return query._replace(mode="from") if token == Token("word", "join") else None


def _natural(grammar: Grammar, query: Query, token: Token) -> Query | None:
    modes = {"left": "left", "inner": "inner", "join": "from"}
    return query._replace(mode=modes[token.text]) if token.kind == "word" and token.text in modes else None


# -- clauses


def _clause(grammar: Grammar, query: Query, token: Token) -> Query | None:
    """What comes behind all columns, all sources, or a clause: another clause, another SELECT, or the end."""
    what = {"result": "result", "source end": "source", "joined": "source"}.get(query.mode, query.mode)
    if token.kind == "word":
        if token.text in COMPOUND and what in _BEFORE_COMPOUND:
            return _compound(query, token.text)
        if token.text not in FOLLOWING.get(what, ()):
            return None
        done = _finish(query)
        return None if done is None else _begin_clause(done, token.text)
    done = _finish(query)
    return None if done is None else _close(done, token)


_BEFORE_COMPOUND = frozenset({"result", "source", "where", "grouped", "having"})


def _begin_clause(query: Query, clause: str) -> Query | None:
    if clause in ("group", "order"):
        return query._replace(mode=f"{clause} by")
    if clause == "limit":
        return query._replace(mode="limit")
    return _begin(query, clause, aggregates=clause == "having")


def _finish(query: Query) -> Query | None:
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
            after = None if need.own or after is None else _outwards(after, need)
    return after


_NO_NEEDS: frozenset[Need] = frozenset()
_NONE: frozenset[str] = frozenset()


def _group_by(grammar: Grammar, query: Query, token: Token) -> Query | None:
    if token != BY:
        return None
    return _begin(query._replace(core=query.core._replace(grouped=True)), "group", bare=True)


def _grouped(grammar: Grammar, query: Query, token: Token) -> Query | None:
    if token == COMMA:
        return _begin(query, "group", bare=True)
    return _clause(grammar, query, token)


def _order_by(grammar: Grammar, query: Query, token: Token) -> Query | None:
    return _term_begins(query) if token == BY else None


def _term_begins(query: Query) -> Query:
    if query.first is not None:
        return query._replace(mode="order name")
    columns = query.core.columns
    aggregates = query.core.grouped or any(isinstance(c, Result) and c.aggregate for c in columns)
    return _begin(query, "order", aggregates=aggregates, bare=True)


def _order_name(grammar: Grammar, query: Query, token: Token) -> Query | None:
    """A term behind a compound: a column of the first SELECT, by name or number."""
    if token.kind == "position":
        return query._replace(mode="term") if int(token.text) in positions(query) else None
    if token.kind == "word" and token.text in RESERVED:
        return None
    return query._replace(mode="term") if token.kind in ("word", "quoted") and token.text in _plain(query) else None


def _plain(query: Query) -> frozenset[str]:
    return frozenset(column.name for column in query.first or () if column.plain) - {""}


def _term(grammar: Grammar, query: Query, token: Token) -> Query | None:
    """Behind a term of ORDER BY."""
    if token.kind == "word" and token.text in ("asc", "desc"):
        return query._replace(mode="directed")
    return _directed(grammar, query, token)


def _directed(grammar: Grammar, query: Query, token: Token) -> Query | None:
    return query._replace(mode="nulls") if token == Token("word", "nulls") else _term_end(grammar, query, token)


def _nulls(grammar: Grammar, query: Query, token: Token) -> Query | None:
    may = token.kind == "word" and token.text in ("first", "last")
    return query._replace(mode="ordered") if may else None


def _term_end(grammar: Grammar, query: Query, token: Token) -> Query | None:
    return _term_begins(query) if token == COMMA else _clause(grammar, query._replace(mode="term"), token)


def _limit(grammar: Grammar, query: Query, token: Token) -> Query | None:
    return query._replace(mode="limited") if token.kind == "integer" else None


def _limited(grammar: Grammar, query: Query, token: Token) -> Query | None:
    if token in (COMMA, Token("word", "offset")):
        return query._replace(mode="offset")
    return _clause(grammar, query._replace(mode="limit"), token)


def _offset(grammar: Grammar, query: Query, token: Token) -> Query | None:
    return query._replace(mode="offset read") if token.kind == "integer" else None


def _offset_read(grammar: Grammar, query: Query, token: Token) -> Query | None:
    return _clause(grammar, query._replace(mode="limit"), token)


def _ended(mode: str) -> Step:
    """The expression of a clause ends."""

    def step(grammar: Grammar, query: Query, token: Token) -> Query | None:
        return grammar.read(query._replace(expr=None, mode=mode), token)

    return step


def _compound(query: Query, word: str) -> Query | None:
    done = _finish(query)
    if done is None:
        return None
    columns = tuple(c for c in done.core.columns if isinstance(c, Result))
    first = done.first if done.first is not None else columns
    mode = "union" if word == "union" else "select"
    return done._replace(mode=mode, core=Core(), first=first, width=len(columns), forbid=_NONE)


def _union(grammar: Grammar, query: Query, token: Token) -> Query | None:
    return query._replace(mode="select") if token == Token("word", "all") else _select(grammar, query, token)


def _select(grammar: Grammar, query: Query, token: Token) -> Query | None:
    return _begin(query, "column", aggregates=True) if token == SELECT else None


# -- the ends of statements


def _close(query: Query, token: Token) -> Query | None:
    if query.up is None:
        modes = {END: "finished", SEMICOLON: "closed"}
        return query._replace(mode=modes[token]) if token in modes else None
    if token != CLOSE:
        return None
    columns = query.first if query.first is not None else query.core.columns
    names = names_of(c for c in columns if isinstance(c, Result))
    return _RETURNS[query.role](query.up._replace(made=query.made), names)


def _return_operand(query: Query, names: tuple[str, ...]) -> Query | None:
    return _closed(query)


def _return_source(query: Query, names: tuple[str, ...]) -> Query | None:
    return _waits(query._replace(word=""), Source("", names))


def _return_cte(query: Query, names: tuple[str, ...]) -> Query | None:
    columns = query.columns or names
    made = query.made | (set(columns) - {""})
    return query._replace(
        mode="with next", ctes=(*query.ctes, Source(query.word, columns)), made=made, columns=(), word=""
    )


_RETURNS: dict[str, Callable[[Query, tuple[str, ...]], Query | None]] = {
    "operand": _return_operand,
    "derived": _return_source,
    "cte": _return_cte,
}


def _start(grammar: Grammar, query: Query, token: Token) -> Query | None:
    return query._replace(mode="with") if token == Token("word", "with") else _select(grammar, query, token)


def _with_name(grammar: Grammar, query: Query, token: Token) -> Query | None:
    taken = {*grammar.schema.tables, *(cte.name for cte in query.ctes)}
    return query._replace(mode="cte", word=token.text) if _is_new(token) and token.text not in taken else None


def _cte(grammar: Grammar, query: Query, token: Token) -> Query | None:
    return query._replace(mode="cte column") if token == OPEN else _cte_as(grammar, query, token)


def _cte_column(grammar: Grammar, query: Query, token: Token) -> Query | None:
    new = _is_new(token) and token.text not in query.columns
    return query._replace(mode="cte next", columns=(*query.columns, token.text)) if new else None


def _cte_next(grammar: Grammar, query: Query, token: Token) -> Query | None:
    modes = {COMMA: "cte column", CLOSE: "cte as"}
    return query._replace(mode=modes[token]) if token in modes else None


def _cte_as(grammar: Grammar, query: Query, token: Token) -> Query | None:
    return query._replace(mode="cte open") if token == AS else None


def _cte_open(grammar: Grammar, query: Query, token: Token) -> Query | None:
    if token != OPEN:
        return None
    columns = len(query.columns) or None
    return Query("cte", "select", query, query.depth + 1, width=columns, ctes=query.ctes, made=query.made)


def _with_next(grammar: Grammar, query: Query, token: Token) -> Query | None:
    return query._replace(mode="with") if token == COMMA else _select(grammar, query, token)


def _closed_statement(grammar: Grammar, query: Query, token: Token) -> Query | None:
    return query._replace(mode="finished") if token == END else None


def _finished(grammar: Grammar, query: Query, token: Token) -> Query | None:
    return None


SELECT, AS, BY = (Token("word", word) for word in ("select", "as", "by"))
OPEN, CLOSE, COMMA, SEMICOLON = (Token("op", mark) for mark in "(),;")

_ENDS: dict[str, Step] = {
    "column": _end_column,
    "where": _ended("where"),
    "on": _ended("joined"),
    "group": _ended("grouped"),
    "having": _ended("having"),
    "order": _ended("term"),
    "paren": _end_paren,
    "list": _end_list,
    "call": _end_call,
    "case": _end_case,
    "cast": _end_cast,
}
_MODES: dict[str, Step] = {
    "start": _start,
    "select": _select,
    "union": _union,
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
    "where": _clause,
    "group by": _group_by,
    "grouped": _grouped,
    "having": _clause,
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
_FREE = {
    "as": "name",
    "source": "alias",
    "source as": "name",
    "with": "name",
    "cte column": "name",
}
_NAMES: dict[str, Callable[[Grammar, Query], frozenset[str]]] = {
    "as": lambda grammar, query: grammar.columns | query.made,
    "from": lambda grammar, query: grammar.tables_in(query),
    "source as": lambda grammar, query: grammar.tables_in(query),
    "using": lambda grammar, query: _common(query),
    "order name": lambda grammar, query: _plain(query),
}
_WORDS = """
all and as asc between by case cast collate cross current_date current_time current_timestamp desc distinct else end
except exists first from glob group having in inner intersect is isnull join last left like limit natural not
notnull null nulls offset on or order outer select then union using when where with
"""
_GRAMMAR_WORDS = _WORDS.split()
