"""Text to SQL: questions of Spider, answered by one SELECT over the tables of their database.

    lm.generate(prompt, query(schema), num_particles=5)

The data has schemas and no rows, so a database is filled with generated ones, in which the values that Spider's queries
ask for are frequent. An answer is right if it returns what the gold query returns: in that order, if that one orders.
A wrong one may do so by chance; questions whose gold query returns nothing are left out, since nothing is easily right.

The rule is `genctl.sql` over the schema (what it leaves out: docs/sql.md).
"""

from __future__ import annotations

import gzip
import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

import genctl
from benchmarks.domains import Domain, Example, chat, data_file
from genctl.constraints.rules import Rule

Schema = Mapping[str, Any]  # of Spider's tables.json
Rows = list[tuple[Any, ...]]

ROWS = 30  # of each table
STEPS = 2_000_000  # of SQLite's machine, after which a query is given up
LONGEST = 100  # characters of a gold query
TYPES = {"number": "INTEGER", "boolean": "INTEGER"}  # any other: TEXT
NUMBERS, WORDS = list(range(1, 21)), ["red", "green", "blue", "north", "south"]
QUESTION = "Tables: {}\nQuestion: {}"
SHOP = "city(ID, Name, Population, Code), country(Code, Name, Continent)"
SHOTS = [
    ("How many cities are there?", "SELECT COUNT(*) FROM city"),
    ("Show the names of cities in Europe by population.", "SELECT T1.Name FROM city AS T1 JOIN country AS T2 ON "
     "T1.Code = T2.Code WHERE T2.Continent = 'Europe' ORDER BY T1.Population"),
    ("Which continents have more than 3 countries?", "SELECT Continent FROM country GROUP BY Continent "
     "HAVING COUNT(*) > 3"),
]  # fmt: skip


# -- the schema


def tables(schema: Schema) -> list[tuple[str, list[int]]]:
    """(name, numbers of its columns); without the tables that SQLite keeps for itself."""
    columns = schema["column_names_original"]
    return [
        (name, [c for c, (table, _) in enumerate(columns) if table == t])
        for t, name in enumerate(schema["table_names_original"])
        if not name.startswith("sqlite_")
    ]


def name_of(schema: Schema, column: int) -> str:
    return str(schema["column_names_original"][column][1])


def described(schema: Schema) -> str:
    return ", ".join(f"{name}({', '.join(name_of(schema, c) for c in columns)})" for name, columns in tables(schema))


def ddl(schema: Schema) -> str:
    """CREATE TABLE for each table."""
    types = schema["column_types"]
    return "\n".join(
        f"CREATE TABLE {_quoted(name)} ("
        + ", ".join(f"{_quoted(name_of(schema, c))} {TYPES.get(types[c], 'TEXT')}" for c in columns)
        + ");"
        for name, columns in tables(schema)
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


# -- the rule


def query(schema: Schema) -> Rule:
    """SELECTs over the schema that SQLite can run."""
    return genctl.sql(ddl(schema))


# -- the database


def filled(schema: Schema, gold: Sequence[str]) -> sqlite3.Connection:
    """The tables with generated rows; among their values are the literals of the gold queries."""
    rng = np.random.default_rng(list(schema["db_id"].encode()))
    found = [literal for text in gold for literal in re.findall(r"'([^']*)'|\"([^\"]*)\"", text)]
    words = WORDS + [(one or other).strip("%") for one, other in found]
    numbers = NUMBERS + [int(n) for text in gold for n in re.findall(r"\b\d{1,9}\b", text)]
    database = sqlite3.connect(":memory:")
    database.executescript(ddl(schema))
    keys = {int(c) for key in schema["primary_keys"] for c in (key if isinstance(key, list) else [key])}
    keys |= {int(c) for pair in schema["foreign_keys"] for c in pair}
    for name, columns in tables(schema):
        number = {c: schema["column_types"][c] in TYPES for c in columns}
        drawn = [
            (
                rng.permutation(ROWS) + 1 if c in schema["primary_keys"]
                else rng.integers(1, ROWS // 2, ROWS) if c in keys
                else rng.choice(numbers if number[c] else words, ROWS)
            ).tolist()
            for c in columns
        ]  # fmt: skip
        places = ", ".join("?" * len(columns))
        database.executemany(f"INSERT INTO {_quoted(name)} VALUES ({places})", list(zip(*drawn, strict=True)))
    return database


def rows_of(database: sqlite3.Connection, text: str) -> Rows | None:
    """What a query returns; None if it is none, or takes too long."""
    steps = iter(range(STEPS // 1000))
    database.set_progress_handler(lambda: next(steps, None) is None, 1000)
    try:
        return database.execute(text).fetchall()
    except (sqlite3.Error, sqlite3.Warning):
        return None
    finally:
        database.set_progress_handler(None, 0)


def same(database: sqlite3.Connection, gold: str, text: str) -> bool:
    """Does a query return what the gold one does?"""
    wanted, found = rows_of(database, gold), rows_of(database, text)
    if wanted is None or found is None:
        return False
    in_order = re.search(r"(?i)\border\s+by\b", gold) is not None
    return wanted == found if in_order else Counter(wanted) == Counter(found)


# -- the tasks


@cache
def _data() -> dict[str, Any]:
    with gzip.open(data_file("spider-dev.json.gz"), "rt", encoding="utf-8") as file:
        return json.load(file)


def databases() -> Iterator[tuple[Schema, list[dict[str, str]], sqlite3.Connection]]:
    """(schema, its questions, the filled database)."""
    for schema in _data()["schemas"]:
        mine = [q for q in _data()["questions"] if q["db_id"] == schema["db_id"]]
        if mine:
            yield schema, mine, filled(schema, [q["query"] for q in mine])


def examples(count: int, seed: int) -> Sequence[Example]:
    """Questions of all databases with short gold queries that return something."""
    tasks = [
        (schema, question, database)
        for schema, questions, database in databases()
        for question in questions
        if len(question["query"]) <= LONGEST and rows_of(database, question["query"])
    ]
    order = np.random.default_rng(seed).permutation(len(tasks))
    return [_example(*tasks[i]) for i in order[:count].tolist()]


def _example(schema: Schema, question: dict[str, str], database: sqlite3.Connection) -> Example:
    gold = question["query"]
    shots = [(QUESTION.format(SHOP, asked), answered) for asked, answered in SHOTS]

    def valid(text: str) -> bool:
        return text.strip().upper().startswith("SELECT") and rows_of(database, text) is not None

    def score(text: str) -> float:
        return float(same(database, gold, text))

    prompt = chat(shots, QUESTION.format(described(schema), question["question"]))
    name = f"{schema['db_id']}: {question['question']}"
    return Example(name, prompt, query(schema), valid, score, reference=gold)


DOMAIN = Domain("sql", examples, 48, "same rows")
