"""What a statement may name: the tables and columns of a database, and its functions.

schema = of_sqlite(sqlite3.connect("shop.db"))
schema.tables["orders"].names                    # ("id", "total"), in lower case
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import NamedTuple

from genctl.compilers.sql.words import EITHER, FUNCTIONS, Function
from genctl.errors import ConstraintError, UnsatisfiableError


class Table(NamedTuple):
    """name: as it is written; columns: (name, declared type); names: of the columns, in lower case."""

    name: str
    columns: tuple[tuple[str, str], ...]
    names: tuple[str, ...]

    @staticmethod
    def of(name: str, columns: Iterable[tuple[str, str]]) -> Table:
        listed = tuple(columns)
        return Table(name, listed, tuple(lower(column) for column, _ in listed))


class Schema(NamedTuple):
    """Tables and views by their names in lower case, and functions."""

    tables: Mapping[str, Table]
    functions: Mapping[str, Function]

    def only(self, names: Iterable[str]) -> Schema:
        """With these tables alone."""
        wanted = [lower(name) for name in names]
        for name in wanted:
            if name not in self.tables:
                raise ConstraintError(f"there is no table {name!r}", hint=f"there are {', '.join(self.tables)}")
        return self._replace(tables={name: self.tables[name] for name in wanted})


_UPPER = {ord(c): c.lower() for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}


def lower(name: str) -> str:
    """As SQLite compares names: only the letters of ASCII have cases."""
    return name.translate(_UPPER)


def is_internal(table: str) -> bool:
    """Is it one of SQLite's own tables, which nothing can create?"""
    return lower(table).startswith("sqlite_")


def of_sqlite(connection: sqlite3.Connection) -> Schema:
    """Tables, views and functions of a database. Raises UnsatisfiableError if there is no table."""
    found = connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view') ORDER BY rowid")
    names = [name for (name,) in found.fetchall() if not is_internal(name)]
    tables = {}
    for name in names:
        rows = connection.execute("SELECT name, type FROM pragma_table_xinfo(?) WHERE hidden <> 1", (name,)).fetchall()
        tables[lower(name)] = Table.of(name, rows)
    if not tables:
        raise UnsatisfiableError("the database has no tables", hint="give a database or a schema with one at least")
    return Schema(tables, _functions(connection))


# Functions that every connection has are taken from FUNCTIONS, which knows what SQLite itself does not tell: that
# coalesce takes two arguments at least. Those that a program made are taken as they are.
def _functions(connection: sqlite3.Connection) -> dict[str, Function]:
    with closing(sqlite3.connect(":memory:")) as plain:
        common = set(plain.execute(_LIST).fetchall())
    functions: dict[str, Function] = {}
    for name, kind, count in connection.execute(_LIST).fetchall():
        known = lower(name)
        if known in FUNCTIONS and (name, kind, count) in common:
            functions.setdefault(known, FUNCTIONS[known])
        elif (name, kind, count) not in common and known.isidentifier() and known not in EITHER:
            own = Function(0, None, kind != "s") if count < 0 else Function(count, count, kind != "s")
            functions[known] = _together(functions.get(known), own)
    return functions


_LIST = "SELECT name, type, narg FROM pragma_function_list"


def _together(known: Function | None, own: Function) -> Function:
    """One made for several numbers of arguments that follow each other."""
    if known is None or known.aggregate != own.aggregate or known.most is None or own.most is None:
        return own
    adjacent = own.least <= known.most + 1 and known.least <= own.most + 1
    return Function(min(known.least, own.least), max(known.most, own.most), own.aggregate) if adjacent else own


def ddl(tables: Mapping[str, Mapping[str, str] | Iterable[str]]) -> str:
    """CREATE TABLE statements for tables given as {table: {column: type}} or {table: [column, ...]}.

    SQLite's own tables (sqlite_sequence) are left out, as they are where a file is read.
    """
    statements = []
    for name, columns in tables.items():
        if is_internal(name):
            continue
        if isinstance(columns, str) or not all(isinstance(column, str) for column in columns):
            raise ConstraintError(
                f"the columns of {name!r} are {columns!r}", hint="give {column: type}, or a list of columns"
            )
        types = columns if isinstance(columns, Mapping) else dict.fromkeys(columns, "")
        listed = ", ".join(f"{quoted(column)} {kind}".rstrip() for column, kind in types.items())
        statements.append(f"CREATE TABLE {quoted(name)} ({listed})")
    return ";\n".join(statements)


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
