"""The database behind a rule: its schema, whether it accepts a statement, and the rows that a statement gives.

    database = open_database("shop.db")
    database.rows("SELECT name FROM customers", limit=10, timeout=2.0)

Statements may come from a model, so they run read-only: SQLite asks an authorizer about every table, function and
action before it runs anything, the connection refuses to write, and a clock stops what takes too long.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from threading import RLock
from typing import Any, Protocol

from genctl.compilers.sql.schema import Schema, Table, ddl, lower, of_sqlite
from genctl.compilers.sql.words import FUNCTIONS
from genctl.errors import ConstraintError, QueryError

CLOCK = 1_000  # instructions of SQLite's machine between two looks at the clock
READING = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE})
DEFINING = frozenset(
    {
        sqlite3.SQLITE_CREATE_TABLE,
        sqlite3.SQLITE_CREATE_VIEW,
        sqlite3.SQLITE_CREATE_INDEX,
        sqlite3.SQLITE_INSERT,
        sqlite3.SQLITE_UPDATE,
        sqlite3.SQLITE_REINDEX,
        sqlite3.SQLITE_FUNCTION,
        sqlite3.SQLITE_TRANSACTION,
    }
)
# Functions that reach beyond the database, where they are built in or were loaded.
OUTSIDE = frozenset({"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"})


class Rows(list[tuple[Any, ...]]):
    """Rows, and the names of their columns."""

    def __init__(self, rows: list[tuple[Any, ...]], columns: tuple[str, ...]) -> None:
        super().__init__(rows)
        self.columns = columns


class Database(Protocol):
    @property
    def schema(self) -> Schema: ...

    def refuses(self, statement: str) -> str | None:
        """Why the database does not accept a statement; None if it does. Nothing is run."""
        ...

    def rows(self, statement: str, limit: int | None, timeout: float | None) -> Rows:
        """The rows of a statement, at most `limit`; QueryError where it fails or takes more than `timeout` seconds."""
        ...


def authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    """SQLite's question whether a statement may do something: to read, and to call functions, is all."""
    if action == sqlite3.SQLITE_FUNCTION:
        return sqlite3.SQLITE_DENY if lower(second or "") in OUTSIDE else sqlite3.SQLITE_OK
    return sqlite3.SQLITE_OK if action in READING else sqlite3.SQLITE_DENY


class Sqlite:
    """A database in a file, or behind a connection.

    A file is opened anew for every statement, read-only. A connection is used as it is, so that what it has not
    committed yet and functions of its own are there; its authorizer and progress handler are taken off afterwards.
    empty: it has tables without rows, made from a schema.
    """

    def __init__(self, source: Path | sqlite3.Connection, *, empty: bool = False) -> None:
        self._source, self._empty, self._lock = source, empty, RLock()
        with self._connection() as connection:
            self.schema = of_sqlite(connection)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        if isinstance(self._source, sqlite3.Connection):
            with self._lock:
                yield self._source
            return
        with closing(sqlite3.connect(f"{self._source.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            yield connection

    @contextmanager
    def _reading(self, timeout: float | None) -> Iterator[sqlite3.Connection]:
        with self._connection() as connection:
            (before,) = connection.execute("PRAGMA query_only").fetchone()
            factory, connection.row_factory = connection.row_factory, None
            connection.execute("PRAGMA query_only = 1")
            try:
                connection.set_authorizer(authorize)
                if timeout is not None:
                    end = time.monotonic() + timeout
                    connection.set_progress_handler(lambda: time.monotonic() > end, CLOCK)
                yield connection
            finally:
                connection.set_progress_handler(None, 0)
                connection.set_authorizer(None)
                connection.row_factory = factory
                connection.execute(f"PRAGMA query_only = {int(before)}")

    def refuses(self, statement: str) -> str | None:
        try:
            with self._reading(None) as connection:
                connection.execute(f"EXPLAIN {statement}").close()
        except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
            return str(error)
        return None

    def rows(self, statement: str, limit: int | None, timeout: float | None) -> Rows:
        if self._empty:
            raise QueryError(f"the rule was made from a schema, which has no rows: {statement}")
        try:
            with self._reading(timeout) as connection, closing(connection.cursor()) as cursor:
                cursor.execute(statement)
                found = cursor.fetchall() if limit is None else cursor.fetchmany(limit) if limit else []
                return Rows(found, tuple(column for column, *_ in cursor.description or ()))
        except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
            if str(error) == "interrupted":
                raise QueryError(f"not done within {timeout} seconds: {statement}") from None
            raise QueryError(f"{error}: {statement}") from None


class Foreign:
    """Another database, whose schema is known and nothing else: it runs no statements of a model."""

    def __init__(self, schema: Schema, name: str) -> None:
        self.schema, self._name = schema, name
        self._twin = _empty(ddl({table.name: dict(table.columns) for table in schema.tables.values()}))

    def refuses(self, statement: str) -> str | None:
        return self._twin.refuses(statement)

    def rows(self, statement: str, limit: int | None, timeout: float | None) -> Rows:
        raise QueryError(f"only SQLite is known to run statements read-only, not {self._name}: {statement}")


def open_database(source: Any) -> Database:
    """A SQLite file, a connection (DB-API or SQLAlchemy), a dict of tables, or the text of CREATE TABLE statements.

    Raises ConstraintError for what is none of these, and for a file that is missing or no database.
    """
    if isinstance(source, sqlite3.Connection):
        return Sqlite(source)
    if isinstance(source, Mapping):
        return _empty(ddl(source))
    if isinstance(source, Path) or (isinstance(source, str) and "create" not in source.lower().split()):
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


def _of_file(path: Path) -> Sqlite:
    if not path.is_file():
        raise ConstraintError(f"there is no file {str(path)!r}", hint="give the path of a SQLite database")
    try:
        return Sqlite(path)
    except sqlite3.DatabaseError as error:
        raise ConstraintError(f"{str(path)!r} cannot be read as a SQLite database: {error}") from None


def _empty(definitions: str) -> Sqlite:
    """A database in memory with the tables that statements define."""
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    connection.set_authorizer(
        lambda action, *_: sqlite3.SQLITE_OK if action in DEFINING | READING else sqlite3.SQLITE_DENY
    )
    try:
        connection.executescript(definitions)
    except sqlite3.Error as error:
        raise ConstraintError(
            f"SQLite does not take this schema: {error}", source=definitions, hint="give CREATE TABLE statements"
        ) from None
    connection.set_authorizer(None)
    return Sqlite(connection, empty=True)


def _of_engine(engine: Any) -> Database:
    """Of SQLAlchemy's engines and connections; SQLite's own connection is used where it is one."""
    if engine.dialect.name == "sqlite":
        raw = engine.raw_connection() if hasattr(engine, "raw_connection") else engine.connection
        return Sqlite(getattr(raw, "driver_connection", raw))
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
