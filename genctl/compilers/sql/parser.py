"""A reader of statements, token by token, that knows what every name means.

    grammar = Grammar(schema)
    place = grammar.read(grammar.start, Token("word", "select"))    # None: no statement goes on like this
    grammar.words(place)                                            # the words that may come next

From every place some statement can be finished: what would lead to a dead end is refused at once. For columns that are
read before their FROM there is always a way, since `FROM (SELECT 1 AS a)` gives any column; what rules this out (a
second table with the same column, a sub-select whose column would clash) is refused where it is read.
"""

from __future__ import annotations

from collections.abc import Callable

from genctl.compilers.sql import clauses, expressions, sources, statements, writes
from genctl.compilers.sql.names import Names, Step, all_named, awaits, visible
from genctl.compilers.sql.places import ALIAS, BEFORE_OPERAND, Place, Query, Token, expr_of, is_bare
from genctl.compilers.sql.scope import Result
from genctl.compilers.sql.words import COLLATIONS, KEYWORDS, RESERVED, TYPES


class Grammar(Names):
    """The statements for one schema. forward: a column may be used before the sub-select that makes its name."""

    start = Query("top", "start", None, 0)

    def read(self, place: Place, token: Token) -> Place | None:
        """The place after a token; None where no statement goes on with it."""
        if place.expr is not None:
            return expressions.EXPRESSIONS[place.expr.state](self, place, token)
        return _MODES[place.mode](self, place, token)

    def ended(self, place: Place, token: Token) -> Place | None:
        """The place after a token that may end the expression which is open."""
        return _ENDS[expr_of(place).what](self, place, token)

    def returned(self, query: Query, names: tuple[str, ...]) -> Query | None:
        """The place behind a statement in brackets with these columns."""
        return statements.returned(query, names)

    def as_column(self, place: Place) -> Place | None:
        """Behind a name that was read: the place if it is a column; None if there is no such one."""
        return expressions.column(self, place)

    def finished(self, place: Place) -> Place | None:
        """Behind a source: the place if it is the last one; None if more must come."""
        named = sources.named(self, place, place.word) if place.mode == "source" else place
        return None if named is None else clauses.finish(self, named)

    # -- what may come

    def words(self, place: Place) -> frozenset[str]:
        """The words (in lower case) that may come next; free names are not among them."""
        names, expr = frozenset(filter(is_bare, self.names(place))), place.expr
        if expr is None or expr.state not in BEFORE_OPERAND:
            return self._readable(place, names.union(_GRAMMAR_WORDS))
        if expr.what == "call" and self.schema.functions[expr.word].most == 0:
            return frozenset()
        called = frozenset(name for name in self.schema.functions if self.callable(expr, name))
        return self._readable(place, frozenset(_GRAMMAR_WORDS)) | names | (called - RESERVED)

    def _readable(self, place: Place, words: frozenset[str]) -> frozenset[str]:
        return frozenset(word for word in words if self.read(place, Token("word", word)) is not None)

    def names(self, place: Place) -> frozenset[str]:
        """The names that may come next, and some that may not, where not every name may come."""
        expr = place.expr
        if expr is None:
            return _NAMES[place.mode](self, place) if place.mode in _NAMES else frozenset()
        if expr.state in BEFORE_OPERAND:
            return self.usable(place, expr) | self.qualifiers(place, expr)
        if expr.state == "column":
            return self.columns_of(place, expr, expr.name)
        if expr.state == "collation":
            return COLLATIONS
        return TYPES if expr.state == "type" else frozenset()

    def free(self, place: Place) -> str:
        """ "name": any name that is no keyword may come; "alias": any that looks like ALIAS; "table": any of a new
        table; "": none.
        """
        expr = place.expr
        if expr is None:
            return _FREE.get(place.mode, "")
        if expr.state in BEFORE_OPERAND and awaits(place, expr):
            return "name" if self.forward else "alias"
        return "name" if self.forward and expr.state == "column" and self.is_forward(place, expr) else ""

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
        known = all(not q.core.open and all_named(q.core) for q in visible(place))
        return known and self.choices(place) is None

    def taken(self, place: Place) -> frozenset[str]:
        """All names of columns that SQLite finds from here, whether they may be used or not."""
        names: set[str] = set()
        for query in visible(place):
            for source in query.core.sources:
                names.update(source.columns)
            names.update(c.name for c in query.core.columns if isinstance(c, Result) and c.alias)
        return frozenset(names)


_ENDS: dict[str, Step] = {**expressions.ENDS, **sources.ENDS, **clauses.ENDS, **writes.ENDS}
_MODES: dict[str, Step] = {**sources.SOURCES, **clauses.CLAUSES, **statements.STATEMENTS, **writes.WRITES}
_FREE = {
    "as": "name",
    "source": "alias",
    "source as": "name",
    "with": "name",
    "cte column": "name",
    "returned as": "name",
    "create table": "table",
    "create name": "table",
    "create column": "name",
}
_NAMES: dict[str, Callable[[Grammar, Query], frozenset[str]]] = {
    "as": lambda grammar, query: grammar.columns | query.made,
    "from": lambda grammar, query: grammar.tables_in(query),
    "source as": lambda grammar, query: grammar.tables_in(query),
    "using": lambda grammar, query: sources.common(query),
    "order name": lambda grammar, query: clauses.plain(query),
    "insert into": lambda grammar, query: grammar.targets("insert"),
    "update": lambda grammar, query: grammar.targets("update"),
    "delete from": lambda grammar, query: grammar.targets("delete"),
    "drop table": lambda grammar, query: grammar.targets("drop table"),
    "drop name": lambda grammar, query: grammar.targets("drop table"),
    "insert column": writes.not_given,
    "set column": writes.not_given,
    "new column": lambda grammar, query: TYPES,
}
_WORDS = """
all and as asc between by case cast collate create cross current_date current_time current_timestamp default delete
desc distinct drop else end except exists first from glob group having if in inner insert intersect into is isnull
join key last left like limit natural not notnull null nulls offset on or order outer primary returning select set
table then union unique update using values when where with
"""
_GRAMMAR_WORDS = _WORDS.split()
