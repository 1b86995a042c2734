"""The database behind a rule: its schema, whether it accepts a statement, and the rows that a statement gives.

    database = open_database("shop.db")
    database.rows("SELECT name FROM customers", limit=10, timeout=2.0)

Statements may come from a model: SQLite asks an authorizer about every table, function and action before it runs
anything, and a clock stops what takes too long. `rows` only reads, and the connection refuses to write; `execute` does
what it was allowed by name.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from threading import RLock
from typing import Any, Protocol

from genctl.compilers.sql.schema import Schema, Table, ddl, lower, of_sqlite, quoted, refusal
from genctl.compilers.sql.words import FUNCTIONS
from genctl.errors import ConstraintError, QueryError

CLOCK = 1_000  # instructions of SQLite's machine between two looks at the clock
MOST_LOOKS = 10_000  # at a schema: CREATE TABLE AS SELECT may take long
LONGEST_VALUE = 20_000_000  # bytes of one value that a statement makes: no clock is looked at while a function runs
READING = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE})
DEFINING = READING | {
    sqlite3.SQLITE_CREATE_TABLE,
    sqlite3.SQLITE_CREATE_VIEW,
    sqlite3.SQLITE_CREATE_INDEX,
    sqlite3.SQLITE_REINDEX,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_TRANSACTION,
}
CHANGES = {
    sqlite3.SQLITE_INSERT: "insert",
    sqlite3.SQLITE_UPDATE: "update",
    sqlite3.SQLITE_DELETE: "delete",
    sqlite3.SQLITE_CREATE_TABLE: "create table",
    sqlite3.SQLITE_DROP_TABLE: "drop table",
}
# What follows from a table's definition or its end, on the tables in which SQLite keeps the schema.
INDICES = frozenset({sqlite3.SQLITE_CREATE_INDEX, sqlite3.SQLITE_DROP_INDEX, sqlite3.SQLITE_DROP_TRIGGER})
SCHEMAS = frozenset({"sqlite_master", "sqlite_schema", "sqlite_temp_master", "sqlite_temp_schema"})
# Functions that reach beyond the database, where they are built in or were loaded.
OUTSIDE = frozenset({"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"})

Authorizer = Callable[[int, str | None, str | None, str | None, str | None], int]


class Rows(list[tuple[Any, ...]]):
    """Rows, and the names of their columns. changed: how many rows a statement wrote or deleted."""

    def __init__(self, rows: list[tuple[Any, ...]], columns: tuple[str, ...], changed: int = 0) -> None:
        super().__init__(rows)
        self.columns, self.changed = columns, changed


class Database(Protocol):
    @property
    def schema(self) -> Schema: ...

    def refuses(self, statement: str, allow: frozenset[str]) -> str | None:
        """Why the database does not accept a statement; None if it does. Nothing is run."""
        ...

    def rows(self, statement: str, limit: int | None, timeout: float | None) -> Rows:
        """The rows of a statement, at most `limit`; QueryError where it fails or takes more than `timeout` seconds."""
        ...

    def strings(self, table: str, column: str, most: int) -> list[str]:
        """The texts that a column has, each once, at most `most`; ConstraintError where there are no rows to read."""
        ...

    def execute(self, statement: str, allow: frozenset[str], timeout: float | None) -> Rows:
        """Run a statement that may write as far as its kind is allowed; QueryError as in `rows`."""
        ...


def authorizer(allow: frozenset[str]) -> Authorizer:
    """SQLite's question whether one statement may do something: to read, to call functions, and what `allow` names."""
    dropped: list[str | None] = []
    defines = bool(allow & {"create table", "drop table"})

    def answer(action: int, first: str | None, second: str | None, database: str | None, trigger: str | None) -> int:
        if action == sqlite3.SQLITE_FUNCTION:
            may = lower(second or "") not in OUTSIDE
        elif action == sqlite3.SQLITE_PRAGMA:
            may = first == "data_version" and second is None  # full-text tables ask whether another program wrote
        elif action in READING:
            may = True
        elif first in SCHEMAS or action in INDICES:
            may = defines
        else:
            # A trigger is a part of the database: it may do what its owner wrote.
            kind = CHANGES.get(action)
            may = kind in allow or (trigger is not None and kind is not None) or (bool(dropped) and kind == "delete")
            if kind == "drop table" and may:
                dropped.append(first)
        return sqlite3.SQLITE_OK if may else sqlite3.SQLITE_DENY

    return answer


READ = frozenset({"select"})


class Sqlite:
    """A database in a file, or behind a connection.

    A file is opened anew for every statement. A connection is used as it is, so that what it has not committed yet and
    functions of its own are there; its authorizer and progress handler are taken off afterwards.
    empty: it has tables without rows, made from a schema.
    """

    def __init__(self, source: Path | sqlite3.Connection, *, empty: bool = False) -> None:
        self._source, self._empty, self._lock = source, empty, RLock()
        with self._connection("ro") as connection:
            self.schema = of_sqlite(connection)

    @contextmanager
    def _connection(self, mode: str) -> Iterator[sqlite3.Connection]:
        """With rows as tuples and texts as str. mode: "ro" or "rw", for a file."""
        if not isinstance(self._source, sqlite3.Connection):
            uri = f"{self._source.absolute().as_uri()}?mode={mode}"
            with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
                yield connection
            return
        with self._lock:
            connection = self._source
            factories = connection.row_factory, connection.text_factory
            connection.row_factory, connection.text_factory = None, str
            try:
                yield connection
            finally:
                connection.row_factory, connection.text_factory = factories

    @contextmanager
    def _guarded(self, allow: frozenset[str], timeout: float | None) -> Iterator[sqlite3.Connection]:
        """What runs inside does what is allowed. Where that is to read, the connection refuses to write as well."""
        with self._connection("ro" if allow == READ else "rw") as connection:
            (before,) = connection.execute("PRAGMA query_only").fetchone()
            length = connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH)
            if allow == READ:
                connection.execute("PRAGMA query_only = 1")
            try:
                connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, min(length, LONGEST_VALUE))
                connection.set_authorizer(authorizer(allow))
                with _clock(connection, timeout):
                    yield connection
            finally:
                connection.set_authorizer(None)
                connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, length)
                connection.execute(f"PRAGMA query_only = {int(before)}")

    def refuses(self, statement: str, allow: frozenset[str]) -> str | None:
        with _failing(statement, None), self._guarded(READ, None) as connection:
            connection.set_authorizer(authorizer(allow))
            return refusal(connection, statement)

    def rows(self, statement: str, limit: int | None, timeout: float | None) -> Rows:
        self._has_rows(statement)
        with _failing(statement, timeout), self._guarded(READ, timeout) as connection:
            return _run(connection, statement, limit)

    def strings(self, table: str, column: str, most: int) -> list[str]:
        if self._empty:
            raise ConstraintError("a schema has no rows to read values from", hint="give the database, or the values")
        name = quoted(column)
        statement = f"SELECT DISTINCT {name} FROM {quoted(table)} WHERE typeof({name}) = 'text' LIMIT {most}"
        try:
            return sorted(text for (text,) in self.rows(statement, None, None))
        except QueryError as error:
            raise ConstraintError(f"the values of {table}.{column} cannot be read: {error}") from None

    def execute(self, statement: str, allow: frozenset[str], timeout: float | None) -> Rows:
        self._has_rows(statement)
        with _failing(statement, timeout), self._guarded(allow, timeout) as connection, _transaction(connection, allow):
            return _run(connection, statement, None)

    def _has_rows(self, statement: str) -> None:
        if self._empty:
            raise QueryError(f"the rule was made from a schema, which has no rows: {statement}")


def _run(connection: sqlite3.Connection, statement: str, limit: int | None) -> Rows:
    before = connection.total_changes
    with closing(connection.cursor()) as cursor:
        cursor.execute(statement)
        found = cursor.fetchall() if limit is None else cursor.fetchmany(limit) if limit else []
        columns = tuple(column for column, *_ in cursor.description or ())
    # sqlite3 counts rows for statements whose first word is INSERT, UPDATE or DELETE alone, and not behind WITH.
    changed = connection.execute("SELECT changes()").fetchone()[0] if connection.total_changes > before else 0
    return Rows(found, columns, changed)


@contextmanager
def _clock(connection: sqlite3.Connection, timeout: float | None) -> Iterator[None]:
    """What runs inside is interrupted once the time is up; sqlite3.OperationalError."""
    if timeout is None:
        yield
        return
    end = time.monotonic() + timeout
    connection.set_progress_handler(lambda: time.monotonic() >= end, CLOCK)
    try:
        yield
    finally:
        connection.set_progress_handler(None, 0)
    if time.monotonic() >= end:
        raise sqlite3.OperationalError("interrupted")


@contextmanager
def _transaction(connection: sqlite3.Connection, allow: frozenset[str]) -> Iterator[None]:
    """Where the connection's owner commits: begin a transaction if none is open, and take it back on an error.

    Python would begin it by itself, under the authorizer, which allows no such thing.
    """
    if connection.isolation_level is None or connection.in_transaction:
        yield
        return
    connection.set_authorizer(None)
    connection.execute("BEGIN")
    connection.set_authorizer(authorizer(allow))
    try:
        yield
    except BaseException:
        connection.set_authorizer(None)
        connection.rollback()
        raise


@contextmanager
def _failing(statement: str, timeout: float | None) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
        reason = f"not done within {timeout} seconds" if str(error) == "interrupted" else str(error)
        raise QueryError(f"{reason}: {statement}") from None


class Foreign:
    """Another database, whose schema is known and nothing else: it runs no statements of a model."""

    def __init__(self, schema: Schema, name: str) -> None:
        self.schema, self._name = schema, name
        self._twin = _empty(ddl({table.name: dict(table.columns) for table in schema.tables.values()}))

    def refuses(self, statement: str, allow: frozenset[str]) -> str | None:
        return self._twin.refuses(statement, allow)

    def rows(self, statement: str, limit: int | None, timeout: float | None) -> Rows:
        raise QueryError(f"only SQLite is known to run statements read-only, not {self._name}: {statement}")

    def strings(self, table: str, column: str, most: int) -> list[str]:
        raise ConstraintError(f"values are read from SQLite only, not from {self._name}", hint="give the values")

    def execute(self, statement: str, allow: frozenset[str], timeout: float | None) -> Rows:
        raise QueryError(f"only SQLite is known to run what is allowed and nothing else, not {self._name}: {statement}")


def open_database(source: Any) -> Database:
    """A SQLite file, a connection (DB-API or SQLAlchemy), a dict of tables, or the text of CREATE TABLE statements.

    Raises ConstraintError for what is none of these, and for what is missing, closed, or no database.
    """
    if isinstance(source, sqlite3.Connection):
        return _of_connection(source)
    if isinstance(source, Mapping):
        return _empty(ddl(source))
    if isinstance(source, Path) or (isinstance(source, str) and (_is_file(source) or not _DEFINES.search(source))):
        return _of_file(Path(source))
    if isinstance(source, str):
        return _empty(source)
    if hasattr(source, "dialect") and hasattr(source, "connect"):
        return _of_engine(source)
    if hasattr(source, "cursor"):
        return Foreign(_of_standard(source), type(source).__module__.split(".")[0])
    raise ConstraintError(
        f"{source!r} is no database",
        hint="give the path of a SQLite file, a connection, {table: {column: type}}, or CREATE TABLE statements",
    )


_DEFINES = re.compile(r"(?i)\bcreate\s+(temp|temporary|table|view|virtual|unique|index|trigger)\b")


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except OSError:  # too long a name, as the text of a schema is
        return False


def _of_file(path: Path) -> Sqlite:
    if not path.is_file():
        what = "is a directory" if path.is_dir() else "is no file"
        raise ConstraintError(f"{str(path)!r} {what}", hint="give the path of a SQLite database")
    try:
        return Sqlite(path)
    except sqlite3.Error as error:
        raise ConstraintError(f"{str(path)!r} cannot be read as a SQLite database: {error}") from None


def _of_connection(connection: sqlite3.Connection) -> Sqlite:
    try:
        return Sqlite(connection)
    except sqlite3.Error as error:
        raise ConstraintError(f"the connection cannot be read: {error}", hint="give one that is open") from None


def _empty(definitions: str) -> Sqlite:
    """A database in memory with the tables that statements define."""
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    looks = count()
    connection.set_authorizer(_defining)
    connection.set_progress_handler(lambda: next(looks) > MOST_LOOKS, CLOCK)
    try:
        connection.executescript(definitions)
    except (sqlite3.Error, ValueError) as error:
        raise ConstraintError(
            f"SQLite does not take this schema: {error}", source=definitions, hint="give CREATE TABLE statements"
        ) from None
    connection.set_progress_handler(None, 0)
    connection.set_authorizer(None)
    return Sqlite(connection, empty=True)


def _defining(action: int, first: str | None, *_: str | None) -> int:
    may = action in DEFINING or (action in CHANGES and first in SCHEMAS)
    return sqlite3.SQLITE_OK if may else sqlite3.SQLITE_DENY


def _of_engine(engine: Any) -> Database:
    """Of SQLAlchemy's engines and connections; SQLite's own connection is used where it is one."""
    if engine.dialect.name == "sqlite":
        raw = engine.raw_connection() if hasattr(engine, "raw_connection") else engine.connection
        return _of_connection(getattr(raw, "driver_connection", raw))
    from sqlalchemy import inspect

    inspector = inspect(engine)
    tables = {}
    for name in [*inspector.get_table_names(), *inspector.get_view_names()]:
        tables[lower(name)] = Table.of(name, [(c["name"], str(c["type"])) for c in inspector.get_columns(name)])
    return Foreign(Schema(tables, FUNCTIONS), engine.dialect.name)


def _of_standard(connection: Any) -> Schema:
    """Of a DB-API connection to a database that has the information schema of the SQL standard (DuckDB, Postgres)."""
    cursor = connection.cursor()
    cursor.execute(
        "SELECT table_name, column_name, data_type FROM information_schema.columns "
        "WHERE table_schema NOT IN ('information_schema', 'pg_catalog') ORDER BY table_name, ordinal_position"
    )
    columns: dict[str, list[tuple[str, str]]] = {}
    for table, column, kind in cursor.fetchall():
        columns.setdefault(table, []).append((column, kind))
    return Schema({lower(name): Table.of(name, listed) for name, listed in columns.items()}, FUNCTIONS)
