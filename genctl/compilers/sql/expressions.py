"""How expressions are read: operands, operators, brackets, calls, CASE.

    EXPRESSIONS[place.expr.state](grammar, place, token)

A state says what may come next in the innermost open expression; what ends one is asked in ENDS, by what it is.
"""

from __future__ import annotations

from collections.abc import Callable

from genctl.compilers.sql.names import Names, Step, awaits, resolve
from genctl.compilers.sql.places import (
    AFTER_NOT,
    AFTER_SIGN,
    ARITHMETIC,
    AS,
    BEFORE_OPERAND,
    CASE,
    CLOSE,
    COMMA,
    COMPARISON,
    IS,
    LEAST_SELECT,
    LOGIC,
    OPERAND,
    SELECT,
    STACK,
    Expr,
    Query,
    Token,
    Want,
    begin,
    can_nest,
    can_operate,
    changed,
    closed,
    expr_of,
    is_fresh,
    is_roomy,
    is_tall,
    nested,
    operand_read,
    whole_term,
)
from genctl.compilers.sql.schema import NUMBER, TEXT
from genctl.compilers.sql.scope import MOST_SOURCES, Need, Result, Star, alias_of, found, qualifiers_needed
from genctl.compilers.sql.words import COLLATIONS, EITHER, RESERVED, TYPES, Function

TIGHT = frozenset({"+", "-", "*", "/", "%", "||", "&", "|", "<<", ">>"})
EQUAL = frozenset({"=", "==", "!=", "<>"})
LOOSE = frozenset({"=", "==", "!=", "<>", "<", "<=", ">", ">="})
MOST_ARGUMENTS = 127  # of a function, in SQLite
CONSTANTS = frozenset({"null", "current_date", "current_time", "current_timestamp"})


def _operand(grammar: Names, query: Query, token: Token) -> Query | None:
    expr, (kind, text) = expr_of(query), token
    if expr.what == "call" and grammar.schema.functions[expr.word].most == 0 and text != ")":
        return None
    if kind == "word":
        return _operand_word(grammar, query, text)
    if kind == "quoted":
        known = text in grammar.usable(query, expr) or text in grammar.qualifiers(query, expr)
        return changed(query, state="quoted", name=text) if known else None
    if kind == "string":
        return _literal(grammar, query, TEXT)
    if kind == "number":
        return None if expr.bare else _literal(grammar, query, NUMBER)
    if kind == "position":
        return _position(query, int(text))
    return _operand_mark(grammar, query, text)


def _literal(grammar: Names, query: Query, kind: str) -> Query | None:
    """A string or number, which what it is compared with may rule out."""
    want = expr_of(query).want
    if want is None or not grammar.typed:
        return operand_read(query)
    if want.need is None:
        return operand_read(query) if want.kind in ("", kind) else None
    after = resolve(grammar, query, want.need._replace(literal=kind))
    return None if after is None else operand_read(after)


def _operand_mark(grammar: Names, query: Query, text: str) -> Query | None:
    expr = expr_of(query)
    if text == "(":
        return nested(query, "paren", bare=expr.bare and is_fresh(expr))
    if text == "*" and is_fresh(expr):
        if expr.what == "column":
            return _star(query, Star())
        if expr.what == "returned":
            return query._replace(expr=None, mode="returned")
        return changed(query, state="counted") if (expr.what, expr.word) == ("call", "count") else None
    if text in ("+", "-", "~") and expr.state != AFTER_SIGN and not expr.bare:
        sole, rank = expr.sole and expr.what == "call", max(expr.rank, IS)
        return changed(query, state=AFTER_SIGN, sole=sole, shape=expr.shape or "", rank=rank)
    if text == ")" and is_fresh(expr) and expr.number == 0:
        if expr.what == "list":
            return closed(query)
        if expr.what == "call" and grammar.schema.functions[expr.word].least == 0:
            return closed(query)
    return None


def _operand_word(grammar: Names, query: Query, word: str) -> Query | None:
    expr = expr_of(query)
    if word in CONSTANTS:
        return operand_read(query)
    if word == "not":
        can = expr.state in (OPERAND, CASE) and not expr.tight and expr.rank <= IS
        return changed(query, state=AFTER_NOT, bare=False, shape=expr.shape or "") if can else None
    if word in ("distinct", "all"):
        return _distinct(grammar, query, word)
    if word == "case":
        return nested(query, "case", state=CASE, word="base")
    if word == "when":
        return changed(query, state=OPERAND, word="when") if expr.state == CASE else None
    if word == "cast":
        return nested(query, "cast", state="opening")
    if word == "exists":
        return None if expr.own else nested(query, "exists", state="opening")
    if word == "select":
        return _sub_select(query) if expr.what in ("paren", "list") and is_fresh(expr) and not expr.number else None
    if word in RESERVED:
        return None
    known = (
        grammar.callable(expr, word) or word in grammar.usable(query, expr) or grammar.is_qualifier(query, expr, word)
    )
    return changed(query, state="name", name=word) if known else None


def _distinct(grammar: Names, query: Query, word: str) -> Query | None:
    expr = expr_of(query)
    if not is_fresh(expr) or expr.number or expr.sole:
        return None
    if expr.what == "column" and not query.core.columns:
        return changed(query, sole=True)
    if expr.what == "call" and word == "distinct":
        function = grammar.schema.functions[expr.word]
        may = function.aggregate and function.least <= 1 and _least(expr, function) <= 1
        return changed(query, sole=True) if may else None
    return None


def _sub_select(query: Query) -> Query | None:
    """The brackets that are open hold a SELECT."""
    expr = expr_of(query)
    if expr.own or expr.height + LEAST_SELECT > STACK:
        return None
    columns = None if expr.what == "exists" else 1
    inner = Query("operand", "start", query, expr.depth, width=columns, ctes=query.ctes, made=query.made)
    height = expr.height - (2 if expr.what == "list" else 0)  # no list of expressions waits with its comma
    return begin(inner._replace(height=height), "column", aggregates=True)


def _opening(grammar: Names, query: Query, token: Token) -> Query | None:
    if token.text != "(":
        return None
    return changed(query, state=OPERAND if expr_of(query).what == "cast" else "select")


def _select_only(grammar: Names, query: Query, token: Token) -> Query | None:
    return _sub_select(query) if token == SELECT else None


def _position(query: Query, number: int) -> Query | None:
    expr = expr_of(query)
    if not (expr.bare and is_fresh(expr) and expr.up is None) or number not in positions(query):
        return None
    return query._replace(expr=None, mode="term" if expr.what == "order" else "grouped")


def positions(query: Query) -> frozenset[int]:
    """The numbers of columns that a term of ORDER BY or GROUP BY may be."""
    if query.mode == "order name":
        return frozenset(range(1, len(query.first or ()) + 1))
    expr = query.expr
    if expr is None or not (expr.bare and is_fresh(expr) and expr.up is None):
        return frozenset()
    columns = [column for column in query.core.columns if isinstance(column, Result)]
    usable = [i for i, column in enumerate(columns, 1) if expr.what == "order" or not column.aggregate]
    return frozenset(usable)


def _name(grammar: Names, query: Query, token: Token) -> Query | None:
    """Behind a name, which is a column, a qualifier or a function."""
    expr = expr_of(query)
    if token.text == "." and token.kind == "op":
        known = grammar.is_qualifier(query, expr, expr.name)
        return changed(query, state="column") if known else None
    if token.text == "(" and token.kind == "op":
        may = expr.state == "name" and grammar.callable(expr, expr.name)
        return _call(grammar, query) if may else None
    after = column(grammar, query)
    return None if after is None else grammar.read(after, token)


def column(grammar: Names, query: Query) -> Query | None:
    """The name is a column, or an alias."""
    expr, core, name = expr_of(query), query.core, expr_of(query).name
    if core.before_from or expr.own or query.mode == "on":
        return _used(grammar, query, Need("", name, expr.own))
    count, alias = found(core, name), alias_of(core, name)
    if alias is not None and count != 1 and (count == 0 or whole_term(expr)):
        if count > 1:
            return query._replace(expr=None, mode="term")
        return operand_read(query, aggregate=alias.aggregate) if expr.aggregates or not alias.aggregate else None
    return _used(grammar, query, Need("", name, False))


def _used(grammar: Names, query: Query, need: Need) -> Query | None:
    if not grammar.known(query, need.name) and awaits(query, expr_of(query)):
        known = need.name in grammar.usable(query, expr_of(query))
        if not known:
            return None
    after = resolve(grammar, query, need)
    return None if after is None else operand_read(after, shape=need.name, column=_compared(grammar, need))


def _compared(grammar: Names, need: Need) -> Need | None:
    """The column, if it matters what it is compared with."""
    return need if grammar.typed or grammar.values else None


def _qualified(grammar: Names, query: Query, token: Token) -> Query | None:
    """Behind the dot of a qualifier."""
    expr = expr_of(query)
    if token.kind == "op":
        alone = expr.what == "column" and expr.shape is None
        return _star(query, Star(expr.name)) if token.text == "*" and alone else None
    if token.kind not in ("word", "quoted") or (token.kind == "word" and token.text in RESERVED):
        return None
    known = token.text in grammar.columns_of(query, expr, expr.name)
    if not known and not (grammar.is_forward(query, expr) and grammar.known(query, token.text)):
        return None
    need = Need(expr.name, token.text, expr.own)
    after = resolve(grammar, query, need)
    return None if after is None else operand_read(after, shape=token.text, column=_compared(grammar, need))


# -- operators


def _operator(grammar: Names, query: Query, token: Token) -> Query | None:
    """Behind an operand."""
    expr, (kind, text) = expr_of(query), token
    if kind == "op" and (text in TIGHT or (text in LOOSE and not expr.tight)):
        if text in TIGHT:
            return _operates(query, ARITHMETIC)
        return _operates(query, COMPARISON, want=_wanted(query, equal=text in EQUAL))
    if kind == "word" and text in _OPERATOR_WORDS:
        return _OPERATOR_WORDS[text](query) if not expr.tight or text in ("and", "collate") else None
    return None if expr.tight else grammar.ended(query, token)


def _operates(query: Query, rank: int, *, want: Want | None = None) -> Query | None:
    """An operand follows."""
    if not can_operate(expr_of(query), rank):
        return None
    return changed(query, state=OPERAND, shape="", rank=rank, left=None, want=want)


def _wanted(query: Query, *, equal: bool) -> Want | None:
    """The column that stands on the left side."""
    left = expr_of(query).left
    return left and Want(left, equal=equal)


def _like(query: Query) -> Query | None:
    """A pattern is a string, whatever the column is."""
    return _operates(query, COMPARISON, want=expr_of(query).left and Want(kind=TEXT))


def _between(query: Query) -> Query | None:
    want = _wanted(query, equal=False)
    after = _operates(query, COMPARISON, want=want)
    return None if after is None else changed(after, tight=True, bound=want)


def _and(query: Query) -> Query | None:
    expr = expr_of(query)
    if not expr.tight:
        return _operates(query, LOGIC)
    after = _operates(query, COMPARISON, want=expr.bound)
    return None if after is None else changed(after, tight=False, bound=None)


def _in(query: Query) -> Query | None:
    after = changed(query, state="in", shape="", left=None, want=_wanted(query, equal=True))
    return after if can_nest(expr_of(after), "list") else None


def _not(query: Query) -> Query | None:
    return changed(query, state="not", shape="") if can_operate(expr_of(query), COMPARISON) else None


_OPERATOR_WORDS: dict[str, Callable[[Query], Query | None]] = {
    "and": _and,
    "or": lambda query: _operates(query, LOGIC),
    "is": lambda query: _operates(query, IS, want=_wanted(query, equal=True)),
    **dict.fromkeys(("like", "glob"), _like),
    **dict.fromkeys(("isnull", "notnull"), lambda query: changed(query, shape="", left=None)),
    "between": _between,
    "in": _in,
    "not": _not,
    "collate": lambda query: changed(query, state="collation"),
}


def _behind_not(grammar: Names, query: Query, token: Token) -> Query | None:
    if token == Token("word", "null"):
        return changed(query, state="operator", left=None)
    may = token.kind == "word" and token.text in ("in", "like", "glob", "between")
    return _OPERATOR_WORDS[token.text](query) if may else None


def _behind_in(grammar: Names, query: Query, token: Token) -> Query | None:
    return nested(query, "list", want=expr_of(query).want) if token == Token("op", "(") else None


def _collation(grammar: Names, query: Query, token: Token) -> Query | None:
    return changed(query, state="operator") if token.kind == "word" and token.text in COLLATIONS else None


# -- brackets and CASE


def _end_paren(grammar: Names, query: Query, token: Token) -> Query | None:
    return closed(query, expr_of(query).shape or "") if token == CLOSE else None


def _end_list(grammar: Names, query: Query, token: Token) -> Query | None:
    expr = expr_of(query)
    if token == COMMA:
        return changed(query, state=OPERAND, shape=None, number=1, left=None, want=expr.up and expr.up.want)
    return closed(query) if token == CLOSE else None


def _call(grammar: Names, query: Query) -> Query | None:
    expr = expr_of(query)
    name = expr.name
    function = grammar.schema.functions[name]
    inner = nested(changed(query, state=OPERAND, name=""), "call", word=name)
    if inner is not None and function.aggregate and (expr.aggregates or name not in EITHER):
        return changed(inner, aggregates=False, own=True)
    return inner


def _least(expr: Expr, function: Function) -> int:
    """Fewest arguments of the call: min and max take two where no aggregate may stand."""
    assert expr.up is not None
    return 2 if expr.word in EITHER and not expr.up.aggregates else function.least


def _end_call(grammar: Names, query: Query, token: Token) -> Query | None:
    expr = expr_of(query)
    function, count = grammar.schema.functions[expr.word], expr.number + 1
    if token == COMMA:
        more = not expr.sole and count < (function.most or MOST_ARGUMENTS)
        return changed(query, state=OPERAND, shape=None, number=count, left=None) if more else None
    if token == CLOSE and count >= _least(expr, function):
        return closed(query, aggregate=function.aggregate and (expr.word not in EITHER or count == 1))
    return None


def _counted(grammar: Names, query: Query, token: Token) -> Query | None:
    """Behind the star of count(*)."""
    return closed(query, aggregate=True) if token == CLOSE else None


_STAGES = {
    "base": {"when": "when"},
    "when": {"then": "then"},
    "then": {"when": "when", "else": "else"},
    "else": dict[str, str](),
}


def _end_case(grammar: Names, query: Query, token: Token) -> Query | None:
    stage = expr_of(query).word
    if token.kind == "word" and token.text in _STAGES[stage]:
        return changed(query, state=OPERAND, shape=None, word=_STAGES[stage][token.text], left=None)
    return closed(query) if token == Token("word", "end") and stage in ("then", "else") else None


def _end_cast(grammar: Names, query: Query, token: Token) -> Query | None:
    return changed(query, state="type") if token == AS else None


def _type(grammar: Names, query: Query, token: Token) -> Query | None:
    return changed(query, state="typed") if token.kind == "word" and token.text in TYPES else None


def _typed(grammar: Names, query: Query, token: Token) -> Query | None:
    return closed(query) if token == CLOSE else None


EXPRESSIONS: dict[str, Step] = {
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


# -- stars


def _star(query: Query, star: Star) -> Query | None:
    if query.forbid or (query.width is not None and query.core.columns):
        return None
    if star.of and len(qualifiers_needed(query.core) | {star.of}) >= MOST_SOURCES:
        return None
    if is_tall(query) or not (query.width is None or is_roomy(query)):
        return None
    core = query.core._replace(columns=(*query.core.columns, star))
    return query._replace(core=core, expr=None, mode="result")


ENDS: dict[str, Step] = {
    "paren": _end_paren,
    "list": _end_list,
    "call": _end_call,
    "case": _end_case,
    "cast": _end_cast,
}
