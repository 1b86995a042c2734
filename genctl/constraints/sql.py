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
from bisect import bisect_left
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property, lru_cache
from itertools import count
from typing import Any, NamedTuple

import numpy as np

from genctl.automata.base import UNREACHABLE
from genctl.compilers.sql.automaton import Key, Lexeme, Opening, SqlAutomaton
from genctl.compilers.sql.closing import Closing
from genctl.compilers.sql.database import READ, Database, Rows, open_database
from genctl.compilers.sql.faults import Fault, find_fault
from genctl.compilers.sql.outline import SHORT, strings_in
from genctl.compilers.sql.parser import Grammar
from genctl.compilers.sql.places import ALIAS, Token
from genctl.compilers.sql.schema import NUMBER, WRITES, Schema, lower
from genctl.compilers.sql.words import KEYWORDS
from genctl.constraints.automaton import AutomatonConstraint
from genctl.constraints.base import Constraint, pack
from genctl.constraints.fewest import FewestTokens
from genctl.constraints.predicate import Manner
from genctl.constraints.rules import Conjunction, Language, Predicate, Rule
from genctl.errors import ArgumentError, ConstraintError, UnsatisfiableError
from genctl.kernels.records import U32
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

    Which tokens that are a word, or its beginning, may come is looked up in the words that may: they are not read.
    """

    automaton: SqlAutomaton

    @cached_property
    def fewest(self) -> FewestTokens:
        return FewestSqlTokens(self.automaton, self._shared.tokens, self._shared.lock)

    def _build_mask(self, state: int) -> U32:
        openings = self.automaton.openings(state)
        if openings is None:
            return super()._build_mask(state)
        table = WordTokens.of(self.tokens)
        out = np.zeros(self._shared.words, np.uint32)
        self._shared.count[0] = 0
        self._mark_from(table.others, state, 0, out)
        for opening in openings:
            out |= table.free(self.automaton.free(opening), opening).packed
            for ids in table.beginnings(self.automaton.words(opening), opening).values():
                _mark(ids, out)
        if self.complete(state):
            out |= self._shared.ends
        out.flags.writeable = False
        return out


def _mark(tokens: Iterable[int], out: U32) -> None:
    for token in tokens:
        out[token >> 5] |= np.uint32(1 << (token & 31))


class Free(NamedTuple):
    """Tokens that go on with a name whatever it is: packed (ceil(V/32),), and how many letters one adds at most."""

    packed: U32
    longest: int


class WordTokens:
    """The tokens that are letters, digits, "_" and "$" behind blanks or none, beginning with no digit, by these letters
    (in lower case), and a trie of all others.
    """

    @staticmethod
    @lru_cache(maxsize=8)
    def of(tokens: Tokens) -> WordTokens:
        return WordTokens(tokens)

    def __init__(self, tokens: Tokens) -> None:
        match, spelled = re.compile(rb"([ \t\n\r\f]*)([A-Za-z_][A-Za-z0-9_$]*)").fullmatch, spelled_by(tokens)
        self._size = len(tokens.bytes.eos)
        self._tight, self._spaced = dict[str, list[int]](), dict[str, list[int]]()
        other = np.ones(self._size, np.bool_)
        for token in tokens.order.tolist():
            if found := match(spelled[token]):
                other[token] = False
                table = self._spaced if found[1] else self._tight
                table.setdefault(found[2].decode().lower(), []).append(token)
        self.others = trie_of(tokens.bytes, tokens.order[other[tokens.order]])
        self._free: dict[tuple[str, bool, bool], Free] = {}

    def ids(self, letters: str, opening: Opening) -> list[int]:
        """The tokens that add these letters there."""
        tight = self._tight.get(letters, []) if opening.tight else []
        return tight + self._spaced.get(letters, []) if opening.spaced else tight

    def beginnings(self, words: Iterable[str], opening: Opening) -> dict[str, list[int]]:
        """The tokens after which the letters of a word begin like one of these, by these letters."""
        begun, out = opening.begun, dict[str, list[int]]()
        for word in words:
            for end in range(len(begun) + 1, len(word) + 1):
                if word[:end] not in out and (ids := self.ids(word[len(begun) : end], opening)):
                    out[word[:end]] = ids
        return out

    def freely(self, free: str, opening: Opening) -> dict[str, list[int]]:
        """The tokens that go on with a free name (`SqlAutomaton.free`), by the letters they add."""
        match = re.compile(self._pattern(free, opening)).fullmatch
        letters = {text for text in (*self._tight, *self._spaced) if match(text)}
        return {text: ids for text in letters if (ids := self.ids(text, opening))}

    def free(self, free: str, opening: Opening) -> Free:
        """Those tokens."""
        key = self._pattern(free, opening), opening.tight, opening.spaced
        if key not in self._free:
            allowed, found = np.zeros(self._size, np.bool_), self.freely(free, opening)
            for ids in found.values():
                allowed[ids] = True
            self._free[key] = Free(pack(allowed), max(map(len, found), default=0))
        return self._free[key]

    def _pattern(self, free: str, opening: Opening) -> str:
        """Of letters that a token may add."""
        if free == "name":
            return "(?s:.*)"
        left = 3 - len(opening.begun) if free == "alias" and (not opening.begun or opening.begun.isalpha()) else 0
        return f"[a-z]{{1,{left}}}[0-9]*" if left > 0 else "(?!)"


@lru_cache(maxsize=8)
def spelled_by(tokens: Tokens) -> dict[int, bytes]:
    """The bytes of the tokens that have some."""
    whole, offset = tokens.bytes.data.tobytes(), tokens.bytes.offset
    return {i: whole[offset[i] : offset[i + 1]] for i in tokens.order.tolist()}


@lru_cache(maxsize=8)
def texts_of(tokens: Tokens) -> frozenset[bytes]:
    return frozenset(spelled_by(tokens).values())


class FewestSqlTokens(FewestTokens):
    """How many tokens a statement still needs along the ways of closing.py, each token of SQL in the longest tokens of
    the vocabulary that spell it.

    There may be a way of fewer tokens, so a text that would just have fitted can be refused. From a state that fits
    the first token of its way leads to one that fits with a token less: what is let pass can be finished.
    """

    def __init__(self, automaton: SqlAutomaton, tokens: Tokens, lock: AbstractContextManager[Any]) -> None:
        super().__init__(automaton, tokens, lock)
        self._sql, self._costs, self._texts = automaton, {b"": 0}, texts_of(tokens.later)
        self._closing = Closing(automaton.grammar, automaton.outlines, self._cost)
        self._most_costly = Closing(automaton.grammar, automaton.outlines, self._any_costs(len))
        self._least_costly = Closing(automaton.grammar, automaton.outlines, self._any_costs(lambda text: 1))
        self._common = KEYWORDS | automaton.grammar.names_of_schema | set("abcdefghijklmnopqrstuvwxyz")
        self._letters = all(bytes([byte]) in self._texts for byte in b" $0123456789_abcdefghijklmnopqrstuvwxyz")
        self._of_keys: dict[Key, tuple[int, int]] = {}  # an upper and a lower bound

    def fits(self, state: int, left: int) -> bool:
        if self._most.get(state, UNREACHABLE) <= left:
            return True
        key = self._sql.key(state)
        with self._lock:
            if key is None or not self._fits(key, left):
                return False
            self._most[state] = self._of_keys[key][0]
        return True

    def __call__(self, state: int) -> int:
        key = self._sql.key(state)
        with self._lock:
            return UNREACHABLE if key is None else self._least_of(key)

    def is_exact(self, state: int) -> bool:
        return self(state) == UNREACHABLE

    def tokens_within(self, state: int, left: int, out: U32) -> bool:
        with self._lock:
            openings, table = self._sql.openings(state), WordTokens.of(self._tokens)
            trie = self._tokens.trie if openings is None else table.others
            targets = self._targets(state, trie)
            fitting = [target for target in targets if self.fits(target, left)]
            self._mark(state, trie, fitting, out)
            refused = len(fitting) < len(targets)
            for opening in openings or ():
                refused |= self._mark_words(opening, table, left, out)
        return refused

    def _fits(self, key: Key, left: int) -> bool:
        most, least = self._of_keys.get(key, (UNREACHABLE, 0))
        if least <= left < most:
            upper, lower = self._bounds(key, left)
            most, least = self._of_keys[key] = min(most, upper), max(least, lower)
        return most <= left

    def _bounds(self, key: Key, left: int) -> tuple[int, int]:
        """The upper is at most `left`, or the lower is above it."""
        least = UNREACHABLE
        for rest, place, touching in self._sql.ends(key):
            cost = self._cost(rest)
            cost += self._closing.at_most(place, touching, left - cost) if cost <= left else 0
            if cost <= left:
                return cost, 0
            least = min(least, cost)
        return UNREACHABLE, least

    def _least_of(self, key: Key) -> int:
        ends = ((self._cost(rest), place, touching) for rest, place, touching in self._sql.ends(key))
        costs = (cost + self._closing.distance(place, touching) for cost, place, touching in ends)
        return min([UNREACHABLE, *costs])

    def _cost(self, text: bytes) -> int:
        """The number of tokens, each the longest that the rest begins with; UNREACHABLE if there is none."""
        known = self._costs.get(text)
        if known is None:
            ends = range(min(len(text), self._tokens.depth), 0, -1)
            end = next((end for end in ends if text[:end] in self._texts), 0)
            known = self._costs[text] = min(1 + self._cost(text[end:]), UNREACHABLE) if end else UNREACHABLE
        return known

    # -- tokens that are words

    def _mark_words(self, opening: Opening, table: WordTokens, left: int, out: U32) -> bool:
        """Set the bits of those that fit. Is one refused?"""
        words = table.beginnings(self._sql.words(opening), opening)
        free, refused = self._sql.free(opening), False
        if free:
            words |= self._meaning(opening, table)
            refused = self._mark_names(opening, free, table, words, left, out)
        for word, ids in words.items():
            if self._word_fits(opening, word, left):
                _mark(ids, out)
            else:
                refused |= bool(ids)
                for token in ids:
                    out[token >> 5] &= ~np.uint32(1 << (token & 31))
        return refused

    def _word_fits(self, opening: Opening, word: str, left: int) -> bool:
        return self._fits(Key(opening.place, "", Lexeme("word", word)), left)

    def _mark_names(
        self, opening: Opening, free: str, table: WordTokens, words: Container[str], left: int, out: U32
    ) -> bool:
        """Set the bits of tokens that make a free name which fits, if it is none of the words. Is one refused?"""
        fit = self._names_fit(opening, free, table.free(free, opening).longest, left)
        if fit:
            out |= table.free(free, opening).packed
        if fit is not None:
            return not fit
        known, verdicts = sorted({*strings_in(self._sql.place_of(opening))}), dict[object, bool]()
        for text, ids in table.freely(free, opening).items():
            name = opening.begun + text
            if name not in words:
                kind = self._kind(name, known)
                if kind not in verdicts:
                    verdicts[kind] = self._word_fits(opening, name, left)
                if verdicts[kind]:
                    _mark(ids, out)
        return not all(verdicts.values())

    def _kind(self, name: str, known: Sequence[str]) -> object:
        """What of a name that means nothing matters to the end: what it costs, with a digit more too, if it looks like
        an alias, and its place among the names that are known (sorted), since ways are tried in that order.
        """
        texts = (name, *(name + digit for digit in "0123456789"))
        costs = [
            (self._cost(text.encode()), self._cost(f" {text}".encode()), bisect_left(known, text)) for text in texts
        ]
        return tuple(costs), ALIAS.fullmatch(name) is not None, SHORT.fullmatch(name) and len(name)

    def _names_fit(self, opening: Opening, free: str, longest: int, left: int) -> bool | None:
        """Do all names fit, or none, but those that mean something here? None: that depends.

        What a name is called matters to the end by its length alone, and to the grammar only if it looks like ALIAS.
        """
        taken, place = self._taken(opening), self._sql.place_of(opening)

        def fit(closing: Closing, begin: str) -> bool:
            numbers = count(10 ** max(0, len(opening.begun) + longest - len(begin) - 1))
            name = next(name for number in numbers if (name := f"{begin}{number}") not in taken)
            after = self._sql.grammar.read(place, Token("word", name))
            return after is not None and closing.at_most(after, True, left) <= left

        if self._letters and fit(self._most_costly, _ANY + "_" * (free == "name")):
            return True
        return None if fit(self._least_costly, _ANY) else False

    def _meaning(self, opening: Opening, table: WordTokens) -> dict[str, list[int]]:
        """The tokens that make a name which means something here, or would with one digit more."""
        taken, begun = self._taken(opening), opening.begun
        names = {name for known in taken for name in (known, known.rstrip("0123456789"), known[:-1])}
        ids = {name: table.ids(name[len(begun) :], opening) for name in names if name.startswith(begun)}
        return {name: found for name, found in ids.items() if found and self._sql.may_be_word(opening, name)}

    def _taken(self, opening: Opening) -> set[str]:
        """The names that mean something here."""
        return {*self._common, *strings_in(self._sql.place_of(opening))}

    def _any_costs(self, each: Callable[[bytes], int]) -> Callable[[bytes], int]:
        """What texts cost where a name that stands for any costs something else."""
        return lambda text: each(text) if text.lstrip().startswith(_ANY.encode()) else self._cost(text)


_ANY = "zz"
