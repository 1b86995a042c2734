"""The words of SQLite's SQL: keywords, functions with their arity, types, collations.

"order" in RESERVED, FUNCTIONS["substr"]         # True: no name as it stands; Function(2, 3)
"""

from __future__ import annotations

from typing import NamedTuple

# All keywords of SQLite (https://sqlite.org/lang_keywords.html), and those that are never names without quotes.
_KEYWORDS = """
abort action add after all alter always analyze and as asc attach autoincrement before begin between by cascade case
cast check collate column commit conflict constraint create cross current current_date current_time
current_timestamp database default deferrable deferred delete desc detach distinct do drop each else end escape
except exclude exclusive exists explain fail filter first following for foreign from full generated glob group
groups having if ignore immediate in index indexed initially inner insert instead intersect into is isnull join key
last left like limit match materialized natural no not nothing notnull null nulls of offset on or order others outer
over partition plan pragma preceding primary query raise range recursive references regexp reindex release rename
replace restrict returning right rollback row rows savepoint select set table temp temporary then ties to
transaction trigger unbounded union unique update using vacuum values view virtual when where window with without
"""
_RESERVED = """
add all alter and as autoincrement between case cast check collate commit constraint create cross current_date
current_time current_timestamp default deferrable delete distinct drop else escape except exists foreign from full
group having in index indexed inner insert intersect into is isnull join left limit natural not nothing notnull null
on or order outer primary raise references returning right select set table then to transaction union unique update
using values when where with
"""
KEYWORDS, RESERVED = frozenset(_KEYWORDS.split()), frozenset(_RESERVED.split())


class Function(NamedTuple):
    """least, most: numbers of arguments (None: any number). aggregate: it sums up rows; so do min and max of one."""

    least: int
    most: int | None
    aggregate: bool = False


FUNCTIONS = {
    "abs": Function(1, 1),
    "avg": Function(1, 1, True),
    "ceil": Function(1, 1),
    "char": Function(1, None),
    "coalesce": Function(2, None),
    "count": Function(1, 1, True),
    "date": Function(1, None),
    "datetime": Function(1, None),
    "exp": Function(1, 1),
    "floor": Function(1, 1),
    "format": Function(1, None),
    "group_concat": Function(1, 2, True),
    "hex": Function(1, 1),
    "ifnull": Function(2, 2),
    "iif": Function(3, 3),
    "instr": Function(2, 2),
    "json_extract": Function(2, None),
    "julianday": Function(1, None),
    "length": Function(1, 1),
    "ln": Function(1, 1),
    "log": Function(1, 2),
    "lower": Function(1, 1),
    "ltrim": Function(1, 2),
    "max": Function(1, None, True),
    "min": Function(1, None, True),
    "mod": Function(2, 2),
    "nullif": Function(2, 2),
    "pow": Function(2, 2),
    "power": Function(2, 2),
    "printf": Function(1, None),
    "quote": Function(1, 1),
    "random": Function(0, 0),
    "replace": Function(3, 3),
    "round": Function(1, 2),
    "rtrim": Function(1, 2),
    "sign": Function(1, 1),
    "sqrt": Function(1, 1),
    "strftime": Function(1, None),
    "substr": Function(2, 3),
    "substring": Function(2, 3),
    "sum": Function(1, 1, True),
    "time": Function(1, None),
    "total": Function(1, 1, True),
    "trim": Function(1, 2),
    "typeof": Function(1, 1),
    "unicode": Function(1, 1),
    "unixepoch": Function(1, None),
    "upper": Function(1, 1),
}
EITHER = frozenset({"max", "min"})  # aggregates with one argument, plain functions with more

_TYPES = """
bigint blob boolean char date datetime decimal double float int integer numeric real smallint text varchar
"""
TYPES = frozenset(_TYPES.split())
COLLATIONS = frozenset({"binary", "nocase", "rtrim"})
