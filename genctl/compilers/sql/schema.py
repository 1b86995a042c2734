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
from genctl.errors import ConstraintError, UnsatisfiableError, warn


class Table(NamedTuple):
    """name: as it is written; columns: (name, declared type); names: of the columns, in lower case.

    writes: the kinds of statement that may change it, of WRITES. required: columns that INSERT has to give, since they
    are NOT NULL without a default. generated: columns that nobody can give.
    """

    name: str
    columns: tuple[tuple[str, str], ...]
    names: tuple[str, ...]
    writes: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()
    generated: frozenset[str] = frozenset()

    def kind(self, column: str) -> str:
        """The kind of literal that goes with a column: NUMBER, TEXT, or "" for any."""
        return literal_kind(self.columns[self.names.index(column)][1])

    @staticmethod
    def of(name: str, columns: Iterable[tuple[str, str]]) -> Table:
        listed = tuple(columns)
        return Table(name, listed, tuple(lower(column) for column, _ in listed))


def literal_kind(declared: str) -> str:
    """By the affinity that SQLite gives to a declared type (https://sqlite.org/datatype3.html, 3.1).

    Of NUMERIC, which dates have too, only what is called a number is one.
    """
    kind = declared.upper()
    if "INT" in kind:
        return NUMBER
    if any(part in kind for part in ("CHAR", "CLOB", "TEXT")):
        return TEXT
    if "BLOB" in kind:
        return ""
    return NUMBER if any(part in kind for part in ("REAL", "FLOA", "DOUB", "NUMERIC", "DECIMAL", "NUMBER")) else ""


class Schema(NamedTuple):
    """Tables and views by their names in lower case, and functions. objects: names that no new table may have."""

    tables: Mapping[str, Table]
    functions: Mapping[str, Function]
    objects: frozenset[str] = frozenset()

    def only(self, names: Iterable[str]) -> Schema:
        """With these tables alone."""
        wanted = [lower(name) for name in names]
        for name in wanted:
            if name not in self.tables:
                raise ConstraintError(f"there is no table {name!r}", hint=f"there are {', '.join(self.tables)}")
        return self._replace(tables={name: self.tables[name] for name in wanted})


WRITES = ("insert", "update", "delete", "create table", "drop table")
NUMBER, TEXT = "number", "text"
_UPPER = {ord(c): c.lower() for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}


def lower(name: str) -> str:
    """As SQLite compares names: only the letters of ASCII have cases."""
    return name.translate(_UPPER)


def is_internal(table: str) -> bool:
    """Is it one of SQLite's own tables, which nothing can create?"""
    return lower(table).startswith("sqlite_")


def of_sqlite(connection: sqlite3.Connection) -> Schema:
    """Tables, views and functions of a database, those of attached ones and temporary ones too.

    What SQLite cannot read, such as a view of a table that is gone, is left out with a warning; so are the tables in
    which a virtual one keeps its content. Raises UnsatisfiableError if there is no table.
    """
    tables: dict[str, Table] = {}
    objects: set[str] = set()
    shadows = {name for (name,) in connection.execute(_SHADOWS)} if sqlite3.sqlite_version_info >= (3, 37) else set()
    for name, kind, definition in _objects(connection):
        objects.add(lower(name))
        if kind in ("table", "view") and lower(name) not in tables and name not in shadows:
            why_not = refusal(connection, f"SELECT * FROM {quoted(name)}")
            if why_not is None:
                plain = kind == "table" and not lower(definition or "").startswith("create virtual")
                tables[lower(name)] = _table(connection, name, plain)
            else:
                warn(f"{kind} {name!r} is left out, since it cannot be read: {why_not}")
    if not tables:
        raise UnsatisfiableError("the database has no tables", hint="give a database or a schema with one at least")
    return Schema(tables, _functions(connection), frozenset(objects))


_SHADOWS = "SELECT name FROM pragma_table_list WHERE type = 'shadow'"


def _objects(connection: sqlite3.Connection) -> list[tuple[str, str, str | None]]:
    """(name, type, definition) in the order in which SQLite looks a name up: temporary ones, the database, others."""
    databases = [name for _, name, _ in connection.execute("PRAGMA database_list")]
    found: list[tuple[str, str, str | None]] = []
    for database in sorted(databases, key=lambda name: (name != "temp", name != "main")):
        found += connection.execute(f"SELECT name, type, sql FROM {quoted(database)}.sqlite_master ORDER BY rowid")
    return [(name, kind, definition) for name, kind, definition in found if not is_internal(name)]


def refusal(connection: sqlite3.Connection, statement: str) -> str | None:
    """Why SQLite does not prepare a statement; None if it does."""
    try:
        connection.execute(f"EXPLAIN {statement}").close()
    except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
        return str(error)
    return None


def _table(connection: sqlite3.Connection, name: str, plain: bool) -> Table:
    rows = connection.execute(_COLUMNS, (name,)).fetchall()
    table = Table.of(name, [(column, kind) for column, kind, *_ in rows])
    if not plain:
        return table
    written, keys = quoted(name), [kind for _, kind, _, _, key, _ in rows if key]
    alias = keys if [kind.upper() for kind in keys] == ["INTEGER"] else []
    rowid = alias and refusal(connection, f"SELECT rowid FROM {written}") is None
    generated = frozenset(lower(column) for column, *_, hidden in rows if hidden)
    required = frozenset(
        lower(column)
        for column, _, not_null, default, key, hidden in rows
        if not_null and default is None and not hidden and not (key and rowid)
    )
    given = next((quoted(column) for column, *_, hidden in rows if not hidden), "")
    tries = {
        "insert": f"INSERT INTO {written} DEFAULT VALUES",
        "update": f"UPDATE {written} SET {given} = {given}",
        "delete": f"DELETE FROM {written}",
        "drop table": f"DROP TABLE {written}",
    }
    writes = frozenset(kind for kind, statement in tries.items() if refusal(connection, statement) is None)
    return table._replace(writes=writes, required=required, generated=generated)


_COLUMNS = 'SELECT name, type, "notnull", dflt_value, pk, hidden FROM pragma_table_xinfo(?) WHERE hidden <> 1'


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
        if not isinstance(name, str):
            raise ConstraintError(f"a table is named {name!r}", hint="give {table: {column: type}}, all of them texts")
        if is_internal(name):
            continue
        wrong = isinstance(columns, str) or not isinstance(columns, Iterable)
        listed = [] if wrong else [(c, "") for c in columns] if not isinstance(columns, Mapping) else [*columns.items()]
        if not listed or not all(isinstance(text, str) for pair in listed for text in pair):
            raise ConstraintError(
                f"the columns of {name!r} are {columns!r}", hint="give {column: type}, or a list of columns"
            )
        written = ", ".join(f"{quoted(column)} {kind}".rstrip() for column, kind in listed)
        statements.append(f"CREATE TABLE {quoted(name)} ({written})")
    return ";\n".join(statements)


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
