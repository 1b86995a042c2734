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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

import numpy as np

from genctl.automata.base import DEAD, UNREACHABLE
from genctl.compilers.sql.automaton import SqlAutomaton
from genctl.compilers.sql.database import READ, Database, Rows, open_database
from genctl.compilers.sql.faults import Fault, find_fault
from genctl.compilers.sql.parser import Grammar
from genctl.compilers.sql.schema import WRITES, Schema
from genctl.constraints.automaton import AutomatonConstraint
from genctl.constraints.base import pack, unpack, words
from genctl.constraints.predicate import Manner
from genctl.constraints.rules import Conjunction, Language, Predicate, Rule
from genctl.errors import ArgumentError, ConstraintError, UnsatisfiableError
from genctl.kernels.records import I64, U32, Bool, TokenTrie
from genctl.trie import Tokens, trie_of
from genctl.vocabulary import Vocabulary

MOST_ROWS, MOST_SECONDS = 2**31 - 1, 1e9
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

    def bind(self, vocabulary: Vocabulary) -> SqlConstraint:
        """States are kept for the next call, unless there are too many."""
        assert isinstance(self.automaton, SqlAutomaton)
        if len(self.automaton) > MOST_STATES:
            self.automaton = SqlAutomaton(self.grammar)
        return SqlConstraint(self.automaton, vocabulary)

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
    forward: bool = False,
    explain: bool = False,
) -> Rule:
    """Statements over the tables and columns of a database; the value is a Query.

    source: the path of a SQLite file; a connection (sqlite3, SQLAlchemy, or DB-API with an information schema); tables
    as {name: {column: type}} or {name: [column, ...]}; the text of CREATE TABLE statements. It is read once.
    tables: those that may be used; None: all. allow: the kinds of statement, of "select", "insert", "update", "delete",
    "create table" and "drop table"; those that write are run by `execute`, never by `rows`.
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
    grammar = Grammar(schema, forward=forward, allow=kinds)
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


# -- in tokens


class SqlConstraint(AutomatonConstraint):
    """The statements in the tokens of a vocabulary.

    Where any name may come, the tokens that are just (a part of) a name are known without reading them.
    """

    automaton: SqlAutomaton

    def __init__(self, automaton: SqlAutomaton, vocabulary: Vocabulary) -> None:
        super().__init__(automaton, vocabulary)
        self.automaton = automaton
        self._vocabulary = vocabulary

    def _build_mask(self, state: int) -> U32:
        pattern = self.automaton.freedom(state)
        if pattern is None:
            return super()._build_mask(state)
        inside, others = _split(self._vocabulary, pattern)
        out = inside.copy()
        self._shared.count[0] = 0
        self._mark_from(others, state, 0, out)
        if self.complete(state):
            out |= self._shared.ends
        out.flags.writeable = False
        return out

    def free_tokens(self, state: int) -> Bool | None:
        """(V,) the tokens that go on with a name, where any may come; None elsewhere."""
        pattern = self.automaton.freedom(state)
        return None if pattern is None else unpack(_split(self._vocabulary, pattern)[0], len(self._vocabulary))


@lru_cache(maxsize=64)
def _split(vocabulary: Vocabulary, pattern: str) -> tuple[U32, TokenTrie]:
    """The tokens that match, packed, and a trie of the others."""
    tokens, match = Tokens.of(vocabulary), re.compile(pattern.encode()).fullmatch
    inside = np.zeros(len(vocabulary), np.bool_)
    inside[[i for i in tokens.order.tolist() if match(vocabulary.tokens[i])]] = True
    others = tokens.order[~inside[tokens.order]]
    return pack(inside), trie_of(tokens.bytes, others)


class SqlBudget:
    """Statements held to a number of tokens: one is refused where the way to the end that is known does not fit.

    Its state is the inner state times (max_new_tokens + 1), plus the number of tokens left; 0 is dead. The way is that
    of closing.py in the longest tokens that spell it; there may be one of fewer tokens, so a text that would just have
    fitted can be refused, but one that is let pass can be finished.
    """

    def __init__(self, constraint: SqlConstraint, max_new_tokens: int) -> None:
        self.constraint, self.max_new_tokens = constraint, max_new_tokens
        self._step = max_new_tokens + 1
        self._needs: dict[int, int] = {DEAD: UNREACHABLE}
        self._tokens = _by_bytes(constraint.tokens)
        self._refused: set[int] = set()

    def start(self) -> int:
        inner = self.constraint.start()
        return self._state(inner, self.max_new_tokens) if self._fits(inner, self.max_new_tokens) else 0

    def allows(self, state: int, token: int, /) -> bool:
        inner, left = divmod(state, self._step)
        if self.constraint.token_bytes.eos[token]:
            return self.constraint.complete(inner)
        target = self.constraint.advance(inner, token)
        if target == DEAD or self._fits(target, left - 1):
            return target != DEAD
        self._refused.add(state)
        return False

    def allows_each(self, states: I64, tokens: I64, /) -> Bool:
        """(K,) states, (K,) token ids -> (K,) `allows` of each pair; those the rule allows are looked ahead at."""
        allowed = self.constraint.allows_each(states // self._step, tokens)
        for at in np.flatnonzero(allowed).tolist():
            allowed[at] = self.allows(int(states[at]), int(tokens[at]))
        return allowed

    def advance(self, state: int, token: int, /) -> int:
        inner, left = divmod(state, self._step)
        target = self.constraint.advance(inner, token)
        return self._state(target, left - 1) if target != DEAD and self._fits(target, left - 1) else 0

    def complete(self, state: int, /) -> bool:
        return self.constraint.complete(state // self._step)

    def mask(self, state: int, out: U32, /) -> None:
        inner = state // self._step
        allowed = unpack(self.constraint.candidates(inner), len(self.constraint.token_bytes.eos))
        tokens = np.flatnonzero(allowed)
        out[:] = 0
        kept = np.zeros(32 * words(len(allowed)), np.bool_)
        kept[[token for token in tokens.tolist() if self.allows(state, token)]] = True
        out[:] = pack(kept)

    def candidates(self, state: int, /) -> U32 | None:
        """What the rule allows without the budget."""
        return self.constraint.candidates(state // self._step)

    def log_potential(self, state: int, /, *, done: bool) -> float:
        return 0.0

    def fewest(self) -> tuple[int, bool]:
        """Tokens of the shortest text that is known, UNREACHABLE (2**31 - 1) if the vocabulary cannot spell it; is that
        exact?
        """
        need = self._need(self.constraint.start())
        return need, need == UNREACHABLE

    def shortened(self, tokens: Iterable[int]) -> bool:
        """Did the budget refuse a token that the rule allows, on the way of this text? Of the tokens that were tried;
        behind the last token that it had, of all.
        """
        state = self.start()
        for token in tokens:
            if state in self._refused:
                return True
            state = self.advance(state, token)
        return state % self._step == 0 or state in self._refused

    def _state(self, inner: int, left: int) -> int:
        return inner * self._step + left if inner else 0

    def _fits(self, state: int, left: int) -> bool:
        return self._need(state) <= left

    def _need(self, state: int) -> int:
        """Tokens of the way to the end, each the longest that spells the next bytes of it.

        From behind the first of them the number is one less, by this definition: what fits can be finished.
        """
        passed: list[int] = []
        while state not in self._needs:
            if self.constraint.complete(state):
                self._needs[state] = 0
                break
            passed.append(state)
            token = self._first(self.constraint.automaton.completion(state))
            state = DEAD if token is None else self.constraint.advance(state, token)
        need = self._needs[state]
        for before in reversed(passed):
            need = self._needs[before] = min(need + 1, UNREACHABLE)
        return need

    def _first(self, text: bytes) -> int | None:
        """The longest token that a text begins with."""
        longest = min(len(text), self.constraint.tokens.depth)
        ends: Sequence[int] = range(longest, 0, -1)
        return next((self._tokens[text[:end]] for end in ends if text[:end] in self._tokens), None)


@lru_cache(maxsize=8)
def _by_bytes(tokens: Tokens) -> dict[bytes, int]:
    """Tokens by what they spell."""
    whole, offset = tokens.bytes.data.tobytes(), tokens.bytes.offset
    return {whole[offset[i] : offset[i + 1]]: i for i in tokens.order.tolist()}
