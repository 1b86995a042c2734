"""SQL over a live database as a rule: the statements that its schema has, and their rows.

    rule = genctl.sql("shop.db")
    g = lm.generate("How many orders in May?\\nSQL: ", rule, max_new_tokens=60, num_particles=8)
    g.value.sql, g.value.rows(limit=10, timeout=2.0)
    rule.explain_text("SELECT nmae FROM customers")

Every text of the rule is one that SQLite accepts for this schema; docs/sql.md says which of its statements are in. What
a name means is decided where it is read: a token is refused as soon as no statement goes on like that, and nothing that
can be finished is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property, lru_cache
from itertools import count
from typing import Any, NamedTuple

import numpy as np

from genctl.automata.base import UNREACHABLE, run
from genctl.compilers.sql.automaton import SqlAutomaton
from genctl.compilers.sql.closing import Closing
from genctl.compilers.sql.database import READ, Database, Rows, open_database
from genctl.compilers.sql.faults import Fault, find_fault
from genctl.compilers.sql.outline import strings_in
from genctl.compilers.sql.parser import Grammar
from genctl.compilers.sql.places import Place, Token
from genctl.compilers.sql.schema import NUMBER, WRITES, Schema, lower
from genctl.compilers.sql.words import KEYWORDS
from genctl.constraints.automaton import AutomatonConstraint
from genctl.constraints.base import Constraint, pack
from genctl.constraints.fewest import FewestTokens
from genctl.constraints.predicate import Manner
from genctl.constraints.rules import Conjunction, Language, Predicate, Rule
from genctl.errors import ArgumentError, ConstraintError, UnsatisfiableError
from genctl.kernels.records import U32, TokenTrie
from genctl.trie import Tokens, trie_of
from genctl.vocabulary import Vocabulary

MOST_ROWS, MOST_SECONDS = 2**31 - 1, 1e9
MOST_VALUES = 10_000  # of a column
MOST_STATES = 200_000  # an automaton with more of them is not used for further generations


# -- what is generated


@dataclass(frozen=True)
class Query:
    """A statement, the database that it is for, and the kinds of statement that its rule allows."""

    sql: str
    database: Database = field(repr=False, compare=False)
    allow: frozenset[str] = field(default=READ, repr=False, compare=False)

    def rows(self, limit: int | None = None, timeout: float | None = None) -> Rows:
        """Run it, read-only -> at most `limit` rows, with `.columns`; stopped after `timeout` seconds.

        Raises QueryError where SQLite refuses it or the time is up.
        """
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
            raise ArgumentError(f"limit is {limit!r}, it must be a whole number of at least 0, or None")
        return self.database.rows(self.sql, limit and min(limit, MOST_ROWS), _seconds(timeout))

    def execute(self, timeout: float | None = None) -> Rows:
        """Run it, though it may write, as far as its rule allows -> rows of RETURNING, and `.changed`.

        In a file it is committed; on a connection it is a part of the open transaction, whose commit is yours. Raises
        QueryError where SQLite refuses it, it does what is not allowed, or the time is up; then nothing is written.
        """
        return self.database.execute(self.sql, self.allow, _seconds(timeout))

    def to(self, dialect: str) -> str:
        """The statement in another dialect ("postgres", "duckdb" ...), by sqlglot."""
        try:
            import sqlglot
        except ImportError:
            raise ArgumentError("dialects need sqlglot: pip install 'genctl[sql]'") from None
        try:
            return str(sqlglot.transpile(self.sql, read="sqlite", write=dialect)[0])
        except ValueError as error:
            raise ArgumentError(f"{dialect!r}: {error}") from None

    def __str__(self) -> str:
        return self.sql


def _seconds(timeout: float | None) -> float | None:
    wrong = isinstance(timeout, bool) or not isinstance(timeout, int | float)
    if timeout is not None and (wrong or not 0 <= timeout <= MOST_SECONDS):
        raise ArgumentError(f"timeout is {timeout!r}, it must be a number of seconds of at least 0, or None")
    return timeout


class SqlLanguage(Language):
    """The statements for the schema of a database; the value is a Query."""

    def __init__(self, database: Database, grammar: Grammar, source: str) -> None:
        super().__init__(SqlAutomaton(grammar), source, lambda text: Query(text, database, grammar.allow))
        self.database, self.grammar = database, grammar

    def bind(self, vocabulary: Vocabulary) -> Constraint:
        """States, masks and ways to the end are kept for the next call, unless there are too many states."""
        assert isinstance(self.automaton, SqlAutomaton)
        if len(self.automaton) > MOST_STATES:
            self.automaton, self._bound = SqlAutomaton(self.grammar), None
        if self._bound is None or self._bound[0] is not vocabulary:
            self._bound = vocabulary, SqlConstraint(self.automaton, vocabulary)
        return self._bound[1]

    def explain_text(self, text: str) -> Fault | None:
        """What keeps a text from being a statement of the rule, and where; None if nothing does."""
        if not isinstance(text, str):
            raise ArgumentError(f"text is {text!r}, it must be a str")
        assert isinstance(self.automaton, SqlAutomaton)
        return find_fault(self.automaton, text)


def sql(
    source: Any,
    *,
    tables: Iterable[str] | None = None,
    allow: Iterable[str] = ("select",),
    literals: str = "any",
    values: bool | Mapping[str, bool | Iterable[str]] = False,
    forward: bool = False,
    explain: bool = False,
) -> Rule:
    """Statements over the tables and columns of a database; the value is a Query.

    source: the path of a SQLite file; a connection (sqlite3, SQLAlchemy, or DB-API with an information schema); tables
    as {name: {column: type}} or {name: [column, ...]}; the text of CREATE TABLE statements. It is read once.
    tables: those that may be used; None: all. allow: the kinds of statement, of "select", "insert", "update", "delete",
    "create table" and "drop table"; those that write are run by `execute`, never by `rows`.
    literals: "typed": a literal right behind `column =`, <, IN (, BETWEEN and the like, or given to a column by INSERT
    or UPDATE, is a string for a column of texts, a number for one of numbers. values: True: a string behind `column =`,
    <> or IN ( is one that the column has, for all columns but those of numbers, read once; {"table.column": [...]}: for
    these columns, one of these (True: that it has). docs/sql.md says what exactly is looked at.
    forward: a column may be named before the sub-select that makes it, as in
    `SELECT n FROM (SELECT count(*) AS n FROM t)`; without it such a name must be a column of the database, so that
    invented columns are refused at once. explain: the database itself is asked about finished statements too (EXPLAIN).
    Raises ConstraintError for a source that cannot be read, UnsatisfiableError for one without tables.
    """
    for name, value in ("forward", forward), ("explain", explain):
        if not isinstance(value, bool):
            raise ConstraintError(f"{name} is {value!r}", hint="give True or False")
    database = open_database(source)
    schema = database.schema if tables is None else database.schema.only(_listed(tables))
    kinds = _allowed(allow, schema)
    if literals not in ("any", "typed"):
        raise ConstraintError(f"literals is {literals!r}", hint='give "any" or "typed"')
    known = _values(values, database, schema)
    grammar = Grammar(schema, forward=forward, allow=kinds, typed=literals == "typed", values=known)
    rule = SqlLanguage(database, grammar, f"sql({', '.join(schema.tables)})")
    if not explain:
        return rule

    def accepted_by_the_database(text: str, done: bool) -> bool:
        return not done or database.refuses(text, kinds) is None

    return Conjunction((rule, Predicate(accepted_by_the_database, Manner("text"))))


def _listed(tables: Iterable[str]) -> list[str]:
    names = [tables] if isinstance(tables, str) else list(tables) if isinstance(tables, Iterable) else []
    if not names or not all(isinstance(name, str) for name in names):
        raise ConstraintError(f"tables is {tables!r}", hint="give the names of one table or more, or None for all")
    return names


def _allowed(allow: Iterable[str], schema: Schema) -> frozenset[str]:
    known = ("select", *WRITES)
    names = [allow] if isinstance(allow, str) else list(allow) if isinstance(allow, Iterable) else []
    if not names:
        raise ConstraintError(f"allow is {allow!r}", hint=f"give one or more of {', '.join(known)}")
    for name in names:
        if name not in known:
            near = get_close_matches(str(name).lower(), known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
            raise ConstraintError(f"{name!r} is no kind of statement that can be allowed", hint=hint)
        if name not in ("select", "create table") and not any(name in table.writes for table in schema.tables.values()):
            raise UnsatisfiableError(
                f"no table can be changed by {name!r}",
                hint="views, virtual tables and other databases than SQLite cannot",
            )
    return frozenset(names)


def _values(values: Any, database: Database, schema: Schema) -> dict[tuple[str, str], tuple[str, ...]]:
    """The strings that columns may be compared with, by (table, column) in lower case."""
    columns = {f"{table}.{column}": (table, column) for table, of in schema.tables.items() for column in of.names}
    if values is True:
        wanted = {
            name: True for name, (table, column) in columns.items() if schema.tables[table].kind(column) != NUMBER
        }
    elif values is False:
        return {}
    elif isinstance(values, Mapping):
        wanted = {str(name): texts for name, texts in values.items()}
    else:
        raise ConstraintError(f"values is {values!r}", hint='give True, or {"table.column": [texts]}')
    return {_column(columns, name): _texts(name, texts, database, columns) for name, texts in wanted.items()}


def _column(columns: Mapping[str, tuple[str, str]], name: str) -> tuple[str, str]:
    if lower(name) not in columns:
        near = get_close_matches(lower(name), columns, 1)
        hint = f"did you mean {near[0]!r}?" if near else 'columns are written as "table.column"'
        raise ConstraintError(f"values has {name!r}, which is no column", hint=hint)
    return columns[lower(name)]


def _texts(name: str, texts: Any, database: Database, columns: Mapping[str, tuple[str, str]]) -> tuple[str, ...]:
    if texts is True:
        table, column = _column(columns, name)
        texts = database.strings(table, column, MOST_VALUES + 1)
        if len(texts) > MOST_VALUES:
            hint = 'name the columns with few values: values={"table.column": True}'
            raise ConstraintError(f"{name!r} has more than {MOST_VALUES:,} values", hint=hint)
        return tuple(text for text in texts if "\0" not in text)  # no statement can write the others
    listed = [] if isinstance(texts, str) or not isinstance(texts, Iterable) else list(texts)
    if not listed or not all(isinstance(text, str) and "\0" not in text for text in listed):
        raise ConstraintError(f"the values of {name!r} are {texts!r}", hint="give a list of texts, or True")
    return tuple(listed)


# -- in tokens


class SqlConstraint(AutomatonConstraint):
    """The statements in the tokens of a vocabulary.

    Where any name may come, the tokens that are just (a part of) a name are known without reading them.
    """

    automaton: SqlAutomaton

    @cached_property
    def fewest(self) -> FewestTokens:
        return FewestSqlTokens(self.automaton, self._shared.tokens, self._shared.lock)

    def _build_mask(self, state: int) -> U32:
        pattern = self.automaton.freedom(state)
        if pattern is None:
            return super()._build_mask(state)
        free = _free(self.tokens, pattern)
        out = free.inside.copy()
        self._shared.count[0] = 0
        self._mark_from(free.others, state, 0, out)
        if self.complete(state):
            out |= self._shared.ends
        out.flags.writeable = False
        return out


class _Free(NamedTuple):
    """Tokens that go on with a name whatever the name is. inside: these tokens, packed; others: a trie of all others.

    ids: of those inside, by what they add to the name, in lower case. longest: bytes that one of them adds at most.
    """

    inside: U32
    others: TokenTrie
    ids: Mapping[str, list[int]]
    longest: int


@lru_cache(maxsize=64)
def _free(tokens: Tokens, pattern: str) -> _Free:
    match, spelled = re.compile(pattern.encode()).fullmatch, _spelled(tokens)
    inside, ids = np.zeros(len(tokens.bytes.eos), np.bool_), dict[str, list[int]]()
    for token in tokens.order.tolist():
        if match(spelled[token]):
            inside[token] = True
            ids.setdefault(spelled[token].decode().strip().lower(), []).append(token)
    others = tokens.order[~inside[tokens.order]]
    return _Free(pack(inside), trie_of(tokens.bytes, others), ids, max(map(len, ids), default=0))


@lru_cache(maxsize=8)
def _spelled(tokens: Tokens) -> dict[int, bytes]:
    """The bytes of the tokens that have some."""
    whole, offset = tokens.bytes.data.tobytes(), tokens.bytes.offset
    return {i: whole[offset[i] : offset[i + 1]] for i in tokens.order.tolist()}


class FewestSqlTokens(FewestTokens):
    """How many tokens a statement still needs along the ways of closing.py, in the longest tokens of the vocabulary
    that spell each token of SQL.

    There may be a way of fewer tokens, so a text that would just have fitted can be refused. From a state that fits
    the first token of its way leads to one that fits with a token less: what is let pass can be finished.
    """

    def __init__(self, automaton: SqlAutomaton, tokens: Tokens, lock: AbstractContextManager[Any]) -> None:
        super().__init__(automaton, tokens, lock)
        self._sql, self._costs, self._texts = automaton, {b"": 0}, frozenset(_spelled(tokens).values())
        self._closing = Closing(automaton.grammar, automaton.outlines, self._cost)
        self._bounds = Closing(automaton.grammar, automaton.outlines, self._most_of)
        self._common = KEYWORDS | automaton.grammar.names_of_schema | set("abcdefghijklmnopqrstuvwxyz")
        self._letters = all(bytes([byte]) in self._texts for byte in b" $0123456789_abcdefghijklmnopqrstuvwxyz")

    def fits(self, state: int, left: int) -> bool:
        if self._most.get(state, UNREACHABLE) <= left:
            return True
        if self._least.get(state, 0) > left:
            return False
        with self._lock:
            most = UNREACHABLE
            for rest, place, touching in self._sql.ends(state):
                most = min(most, self._cost(rest) + self._closing.distance(place, touching))
                if most <= left:
                    break
            else:
                self._least[state] = most
            self._most[state] = min(most, self._most.get(state, UNREACHABLE))
            return most <= left

    def __call__(self, state: int) -> int:
        self.fits(state, -1)
        return self._most[state]

    def is_exact(self, state: int) -> bool:
        return self._most[state] == UNREACHABLE

    def tokens_within(self, state: int, left: int, out: U32) -> bool:
        with self._lock:
            free = self._free_within(state, left)
            trie = self._tokens.trie if free is None else free.others
            targets = np.flatnonzero(self._walk_next(state, trie)).tolist()
            fitting = [target for target in targets if self.fits(target, left)]
            lost = [] if free is None else self._lost(state, left, free)
            if len(fitting) == len(targets) and not lost:
                return False
            self._mark(state, trie, fitting, out)
            if free is not None:
                out |= free.inside
            for token in lost:
                out[token >> 5] &= ~np.uint32(1 << (token & 31))
        return True

    def _cost(self, text: bytes) -> int:
        """The number of tokens, each the longest that the rest begins with; UNREACHABLE if there is none."""
        known = self._costs.get(text)
        if known is None:
            ends = range(min(len(text), self._tokens.depth), 0, -1)
            end = next((end for end in ends if text[:end] in self._texts), 0)
            known = self._costs[text] = min(1 + self._cost(text[end:]), UNREACHABLE) if end else UNREACHABLE
        return known

    # -- names that are as good as any other

    def _most_of(self, text: bytes) -> int:
        """What a text costs, if the name that stands for many in it is written letter by letter."""
        return len(text) if text.lstrip().startswith(_ANY) else self._cost(text)

    def _free_within(self, state: int, left: int) -> _Free | None:
        """The tokens that go on with any name, if they fit: what it is called matters to the end only by its length."""
        pattern = self._sql.freedom(state)
        begun = "" if pattern is None else self._sql.begun(state)
        if pattern is None or not self._letters:
            return None
        free, place = _free(self._tokens, pattern), self._sql.place(state)
        assert place is not None, "a name may come"
        name = self._any_name(place, len(begun) + free.longest)
        after = self._sql.grammar.read(place, Token("word", name))
        return None if after is None or self._bounds.distance(after, True) > left else free

    def _any_name(self, place: Place, length: int) -> str:
        taken, alias = self._taken(place), self._sql.grammar.free(place) == "alias"
        begin = _ANY.decode()
        names = (f"{begin}{'' if alias else '_'}{number}" for number in count(10 ** max(0, length - 2 - (not alias))))
        return next(name for name in names if name not in taken)

    def _taken(self, place: Place) -> set[str]:
        """The names that mean something here."""
        return {*self._common, *strings_in(place)}

    def _lost(self, state: int, left: int, free: _Free) -> list[int]:
        """Of the tokens that go on with any name those that make one which means something, and do not fit."""
        begun, place = self._sql.begun(state), self._sql.place(state)
        assert place is not None, "a name may come"
        names = [name for name in self._taken(place) if name.startswith(begun)]
        ids = [token for name in names for token in free.ids.get(name[len(begun) :], ())]
        spelled = _spelled(self._tokens)
        return [token for token in ids if not self.fits(run(self._sql, state, spelled[token]), left)]


_ANY = b"zz"
