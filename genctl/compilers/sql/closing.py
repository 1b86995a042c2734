"""How a statement can be finished: one way from every place of the grammar, short if not always the shortest.

    Closing(grammar, Outlines(grammar), len).distance(place, touching=False)     # bytes of this way

A rule for each kind of place names the next token. Where several ways are open (which table has the columns that are
waited for?) the lengths of a few of them are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush
from itertools import count
from typing import TypeAlias

from genctl.automata.base import UNREACHABLE
from genctl.compilers.sql.expressions import positions
from genctl.compilers.sql.outline import Outlines, Steps
from genctl.compilers.sql.parser import Grammar
from genctl.compilers.sql.places import (
    AFTER_NOT,
    AFTER_SIGN,
    ALIAS,
    CASE,
    END,
    OPERAND,
    Expr,
    Place,
    Query,
    Token,
    fixed_star,
    is_bare,
)
from genctl.compilers.sql.scope import Core, Result, Source, Star, found, source_of
from genctl.compilers.sql.words import KEYWORDS
from genctl.compilers.sql.writes import target_of

Spot: TypeAlias = tuple[Place, bool]

EFFORT = 16  # places from which a way is looked for depth-first


def _word(text: str) -> Token:
    return Token("word", text)


def _op(text: str) -> Token:
    return Token("op", text)


_NUMBER, _INTEGER = Token("number", ""), Token("integer", "1")


class Closing:
    """Lengths are remembered, by the outline of a place and by whether a word or number stands right before.

    cost: of a text that is written, for example in tokens; it is 0 for b"", and UNREACHABLE if it cannot be written.
    """

    def __init__(self, grammar: Grammar, outlines: Outlines, cost: Callable[[bytes], int]) -> None:
        self._grammar, self._outlines, self._cost = grammar, outlines, cost
        self._known: dict[Spot, int] = {}
        self._least: dict[Spot, int] = {}  # lower bounds
        self._some: dict[Spot, int] = {}  # of ways that were met, of which none need be the shortest
        self._next: dict[Spot, tuple[Token, Spot]] = {}
        self._prices: dict[tuple[Token, bool], int] = {}

    def text(self, place: Place, touching: bool) -> str:
        """The way itself, without blanks that may be left out."""
        spot, out = self._spot(place, touching), list[str]()
        self._distance(spot)
        while spot in self._next:
            token, after = self._next[spot]
            out.append(" " * (spot[1] and _is_word(token)) + _spelled(token))
            spot = after
        return "".join(out)

    def distance(self, place: Place, touching: bool) -> int:
        """What it costs to end the statement. touching: a word or number stands before, without a blank behind it.

        UNREACHABLE (2**31 - 1) if none of the ways can be written.
        """
        return self._distance(self._spot(place, touching))

    def at_most(self, place: Place, touching: bool, limit: int) -> int:
        """What one of the ways costs, if one that costs at most `limit` is met; else a lower bound above it."""
        spot = self._spot(place, touching)
        cost = self._descend(spot, limit, iter(range(EFFORT)))
        return cost if cost <= limit else self._distance(spot, limit)

    def begins(self, place: Place) -> list[Token]:
        """The tokens that a way may begin with."""
        return [token for token, _ in self._steps(self._outlines.of(place))]

    def _spot(self, place: Place, touching: bool) -> Spot:
        return self._outlines.of(place), touching

    def _distance(self, origin: Spot, limit: int = UNREACHABLE) -> int:
        """A* search over the tokens of `_options`; what it shows is entered for all places that were met.

        Where the distance is above the limit, it may be a lower bound above it.
        """
        known = self._known.get(origin, self._least.get(origin, 0))
        if known > limit or origin in self._known:
            return known
        best, before = {origin: 0}, dict[Spot, tuple[Spot, Token]]()
        heap = [(0, 0, 0, origin)]
        number = count()
        while heap:
            total, _, cost, spot = heappop(heap)
            if total > limit:
                self._enter_least(best, total)
                return total
            if spot in self._known or spot[0].mode == "finished":
                self._enter_least(best, total)
                return self._enter(origin, spot, before, best, total)
            if cost > best[spot]:
                continue
            for token, after in self._steps(spot[0]):
                behind = after, _is_word(token)
                reached = cost + self._price(token, spot[1])
                if reached < best.get(behind, UNREACHABLE):
                    best[behind], before[behind] = reached, (spot, token)
                    rest = self._known.get(behind, self._least.get(behind, 0))
                    heappush(heap, (reached + rest, -next(number), reached, behind))
        self._known[origin] = UNREACHABLE
        return UNREACHABLE

    def _descend(self, spot: Spot, limit: int, effort: Iterator[int]) -> int:
        """Depth-first."""
        if spot[0].mode == "finished":
            return 0
        cost = self._known.get(spot, self._some.get(spot, UNREACHABLE))
        if cost <= limit or spot in self._known or self._least.get(spot, 0) > limit or next(effort, None) is None:
            return cost
        for token, after in self._steps(spot[0]):
            price = self._price(token, spot[1])
            rest = self._descend((after, _is_word(token)), limit - price, effort) if price <= limit else UNREACHABLE
            if price + rest <= limit:
                self._some[spot] = price + rest
                return price + rest
        return UNREACHABLE

    def _enter_least(self, best: dict[Spot, int], total: int) -> None:
        """No way from the origin costs less than the total, so none from a place on it costs less than what is left."""
        for spot, cost in best.items():
            self._least[spot] = max(self._least.get(spot, 0), total - cost)

    def _enter(
        self, origin: Spot, end: Spot, before: dict[Spot, tuple[Spot, Token]], best: dict[Spot, int], total: int
    ) -> int:
        spot = end
        while spot != origin:
            self._known[spot] = total - best[spot]
            earlier, token = before[spot]
            self._next[earlier] = token, spot
            spot = earlier
        self._known[origin] = total
        return total

    def _price(self, token: Token, touching: bool) -> int:
        """A blank may stand before any token."""
        known = self._prices.get((token, touching))
        if known is None:
            text = _spelled(token).encode()
            apart = self._cost(b" " + text)
            known = apart if touching and _is_word(token) else min(apart, self._cost(text))
            self._prices[token, touching] = known
        return known

    def _steps(self, place: Place) -> Steps:
        known = self._outlines.steps.get(place)
        if known is None:
            known = self._outlines.steps[place] = self._find_steps(place)
        return known

    def _find_steps(self, place: Place) -> Steps:
        """Tokens to go on with, and the outlines of what comes then.

        There are none where all sources that SQLite takes are there, and none of them has what is waited for.
        """
        for tokens in self._options(place):
            found = [(token, after) for token in tokens if (after := self._read(place, token)) is not None]
            if found:
                return [(token, self._outlines.of(after)) for token, after in found]
        return []

    def _read(self, place: Place, token: Token) -> Place | None:
        return self._grammar.read(place, token)

    def _options(self, place: Place) -> Iterator[Sequence[Token]]:
        """Tokens to go on with: those of the first group of which one can be read."""
        expr = place.expr
        if expr is None:
            yield from self._outside(place)
        elif expr.state in (OPERAND, AFTER_NOT, AFTER_SIGN, CASE):
            yield self._operand(place, expr)
        elif expr.state == "operator":
            yield from [[_word("and")]] if expr.tight else self._behind_operand(place, expr)
        elif expr.state in ("name", "quoted"):
            yield from self._behind_operand(place, expr)
            yield _op("."), _op("("), _word("and")
        elif expr.state == "column":
            yield self._columns(place, expr)
        else:
            yield (_INSIDE[expr.state],)

    # -- in expressions

    def _operand(self, place: Place, expr: Expr) -> Sequence[Token]:
        if expr.what == "call" and self._grammar.schema.functions[expr.word].most == 0:
            return (_op(")"),)
        if expr.state == CASE:
            return (_word("when"),)
        if expr.bare:
            usable = positions(place)
            return (Token("position", str(min(usable))) if usable else Token("string", ""),)
        if expr.want is not None:
            string = Token("string", "")
            return (_NUMBER, string) if expr.want.need is None else (_NUMBER, _word("null"))
        fresh = expr.what == "column" and expr.shape is None and not _lacking(place) and place.width is None
        return (_NUMBER, _op("*")) if fresh else (_NUMBER,)

    def _behind_operand(self, place: Place, expr: Expr) -> Iterator[Sequence[Token]]:
        """The end of the expression, or what it lacks."""
        if expr.what == "case":
            yield (_word({"base": "when", "when": "then"}.get(expr.word, "end")),)
        elif expr.what == "cast":
            yield (_word("as"),)
        elif expr.what == "column":
            yield from self._behind_column(place)
        elif expr.what == "value" or expr.up is not None:
            yield (_op(")"),)
            yield (_op(","),)
        else:
            yield (_close(place),)
            yield _op(","), _word("join")

    def _columns(self, place: Place, expr: Expr) -> list[Token]:
        names = sorted(self._grammar.names(place), key=lambda name: (len(name), name))
        wanted = {need.name for need in place.core.needs if need.qualifier == expr.name}
        some = [name for name in names if name in wanted][:1] + names[:1]
        if not names and self._grammar.free(place):
            some = ["a"]
        return [_op("*"), *(_written(name) for name in dict.fromkeys(some))]

    # -- the columns of a SELECT

    def _behind_column(self, place: Place) -> Iterator[Sequence[Token]]:
        lacking = _lacking(place)
        if lacking and not _expr(place).shape:
            yield (_word("as"),)
        yield from self._after_result(place, len(place.core.columns) + 1, lacking)

    def _after_result(self, place: Place, number: int, lacking: list[str]) -> Iterator[Sequence[Token]]:
        if lacking or number < max(place.width or 0, _owed(place.up) if place.role == "derived" else 0):
            yield (_op(","),)
        yield (_close(place),)
        yield (_word("from"),)
        yield (_word("as"),)

    def _outside(self, place: Place) -> Iterator[Sequence[Token]]:
        mode = place.mode
        if mode == "result":
            yield from self._after_result(place, len(place.core.columns), _lacking(place))
        elif mode == "as":
            yield [_new(name) for name in _lacking(place)[:1]]
            yield (self._new_name(place),)
        elif mode == "from":
            yield from self._sources(place)
        elif mode == "source":
            yield from self._alias(place)
        elif mode == "source as":
            yield from ([_new(name)] for name in _wanted(place))
            yield (self._new_name(place),)
        elif mode in ("with", "cte column", "returned as", "create table", "create name", "create column"):
            yield (self._new_name(place),)
        elif mode in ("source end", "joined"):
            yield from self._behind_sources(place)
        elif mode == "using":
            yield (_written(min(place.clash or self._grammar.names(place), key=_shortest)),)
        elif mode == "using next":
            yield (_op(","),) if place.clash else (_op(")"),)
        elif mode in ("insert into", "update", "delete from", "drop table", "drop name"):
            yield [_written(name) for name in sorted(self._grammar.names(place), key=_shortest)][:3]
        elif mode in ("insert column", "set column"):
            yield (self._given(place),)
        elif mode == "insert next":
            yield (_op(")"),)
            yield (_op(","),)
        elif mode == "order name":
            yield (Token("position", "1"),)
        elif mode in ("start", "with next"):
            yield [_word(verb) for verb in ("select", "delete", "update", "insert", "drop", "create")]
        else:
            yield (_OUTSIDE[mode] if mode in _OUTSIDE else _close(place),)

    def _new_name(self, place: Place) -> Token:
        return next((_word(name) for name in _names() if self._read(place, _word(name)) is not None), _word("a"))

    def _given(self, place: Place) -> Token:
        """A column that INSERT has to give, or any."""
        names = self._grammar.names(place)
        required = names & target_of(self._grammar, place).required if place.mode == "insert column" else names
        return _written(min(required or names, key=_shortest))

    # -- sources

    def _sources(self, place: Place) -> Iterator[Sequence[Token]]:
        """A table that has all that is waited for, if there is one; else a sub-select makes it."""
        tables = {cte.name: cte.columns for cte in place.ctes}
        tables |= {name: table.names for name, table in self._grammar.schema.tables.items() if name not in tables}
        ranked = sorted(tables, key=_shortest)
        owed = _owed(place)
        fitting = (name for name in ranked if owed in (0, len(tables[name])) and _covers(place.core, tables[name]))
        yield [_written(name) for name in fitting][:3]
        yield (_op("("),)
        yield [_written(name) for name in ranked]

    def _alias(self, place: Place) -> Iterator[Sequence[Token]]:
        wanted = _wanted(place)
        yield from ([_word(name)] for name in wanted if ALIAS.fullmatch(name))
        yield (_word("as"),) if wanted else ()
        yield from self._behind_sources(place)
        yield (self._new_name(place),)

    def _behind_sources(self, place: Place) -> Iterator[Sequence[Token]]:
        yield (_close(place),)
        yield (_word("using"),) if place.clash else ()
        yield _op(","), _word("join")


def _expr(place: Place) -> Expr:
    assert place.expr is not None, "an expression is open"
    return place.expr


def _shortest(name: str) -> tuple[int, str]:
    return len(name), name


def _wanted(place: Place) -> list[str]:
    """Names that the source which was read should have, the one with the most columns first."""
    assert place.waiting is not None
    names = [name for name in sorted(_qualifiers(place.core)) if _has(place.core, name, place.waiting)]
    return sorted(names, key=lambda name: (-len(_needed(place.core, name)), _needed(place.core, name), len(name)))


def _spelled(token: Token) -> str:
    """The shortest text of a token."""
    kind, text = token
    if kind in _SAMPLES:
        return _SAMPLES[kind]
    return text if kind != "quoted" else f"`{text}`" if '"' in text else f'"{text}"'


_SAMPLES = {"number": "1", "integer": "1", "string": "''"}


def _is_word(token: Token) -> bool:
    return token.kind in ("word", "number", "integer", "position")


def _written(name: str) -> Token:
    return Token("word" if is_bare(name) else "quoted", name)


def _new(name: str) -> Token:
    """A name that is given."""
    return Token("word" if is_bare(name) and name not in KEYWORDS else "quoted", name)


def _close(query: Query) -> Token:
    return END if query.up is None else _op(")")


def _names() -> Iterator[str]:
    """a, b, c ... and longer ones, all of which can be names of tables without AS."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    yield from letters
    yield from (f"{letter}{digit}" for digit in range(100) for letter in letters)


def _qualifiers(core: Core) -> set[str]:
    """Names that a source must still have."""
    needed = {need.qualifier for need in core.needs}
    needed |= {column.of for column in core.columns if not isinstance(column, Result)}
    return needed - {source.name for source in core.sources} - {""}


def _needed(core: Core, qualifier: str) -> list[str]:
    """Columns that are waited for under this name."""
    return sorted({need.name for need in core.needs if need.qualifier == qualifier})


def _unmet(core: Core) -> set[str]:
    """Columns without qualifier that no source has yet."""
    return {need.name for need in core.needs if not need.qualifier and not found(core, need.name)}


def _owed(query: Query | None) -> int:
    """Columns that a source must have, since a star stands for them and their number is given; 0: any number.

    Where `*` does, sums of tables are not searched for: one source has all that are missing.
    """
    if query is None or query.width is None:
        return 0
    if fixed_star(query):
        return query.width - sum(len(source.columns) for source in query.core.sources)
    waiting = (c for c in query.core.columns if isinstance(c, Star) and c.of and source_of(query.core, c.of) is None)
    return query.width if next(waiting, None) else 0


def _has(core: Core, qualifier: str, source: Source) -> bool:
    return all(need.name in source.columns for need in core.needs if need.qualifier == qualifier)


def _covers(core: Core, columns: tuple[str, ...]) -> bool:
    """Would a source with these columns, under the right name, be all that is waited for, or one of several?"""
    qualifiers = _qualifiers(core)
    if len(qualifiers) > 1:
        return any(set(columns).issuperset(_needed(core, qualifier)) for qualifier in qualifiers)
    wanted = _unmet(core) | {need.name for need in core.needs if need.qualifier in qualifiers}
    return wanted <= set(columns)


def _lacking(query: Query) -> list[str]:
    """Names that the columns of a sub-select in FROM should have for the SELECT around it, and have not."""
    if query.role != "derived" or query.first is not None or query.up is None:
        return []
    core = query.up.core
    wanted = _unmet(core)
    if not wanted and (qualifiers := _qualifiers(core)):
        wanted = set(min(_needed(core, qualifier) for qualifier in qualifiers))
    there = {column.name for column in query.core.columns if isinstance(column, Result)}
    if query.expr is not None and query.expr.shape:
        there.add(query.expr.shape)
    return sorted(wanted - there - query.forbid)


_INSIDE = {
    "not": _word("null"),
    "in": _op("("),
    "collation": _word("rtrim"),
    "counted": _op(")"),
    "opening": _op("("),
    "select": _word("select"),
    "type": _word("int"),
    "typed": _op(")"),
}
_OUTSIDE = {
    **dict.fromkeys(("select", "union"), _word("select")),
    **dict.fromkeys(("left", "inner", "natural"), _word("join")),
    **dict.fromkeys(("group by", "order by"), _word("by")),
    **dict.fromkeys(("limit", "offset"), _INTEGER),
    "using open": _op("("),
    "nulls": _word("last"),
    "cte": _word("as"),
    "cte as": _word("as"),
    "cte open": _op("("),
    "cte next": _op(")"),
    "closed": END,
    "insert": _word("into"),
    **dict.fromkeys(("insert target", "insert default", "insert listed"), _word("values")),
    **dict.fromkeys(("values", "create open"), _op("(")),
    "update set": _word("set"),
    "set equals": _op("="),
    "delete": _word("from"),
    **dict.fromkeys(("create", "drop"), _word("table")),
    "create if": _word("not"),
    **dict.fromkeys(("create if not", "drop if"), _word("exists")),
    **dict.fromkeys(("new column", "new type"), _op(")")),
    "new primary": _word("key"),
    "new not": _word("null"),
    "new default": _NUMBER,
}
_JOIN_ON = (_op(","), _word("join"))
