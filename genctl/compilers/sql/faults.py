"""What keeps a text from being a statement: the name that does not exist, where it stands, what was meant.

print(find_fault(automaton, "SELECT nmae FROM customers"))
# line 1, column 8: no column "nmae"; did you mean "name"?
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NamedTuple, TypeAlias

from genctl.automata.base import DEAD
from genctl.compilers.sql.automaton import SqlAutomaton
from genctl.compilers.sql.places import BEFORE_OPERAND, Place, is_bare
from genctl.compilers.sql.schema import lower
from genctl.compilers.sql.scope import Core, Need, found, source_of
from genctl.compilers.sql.words import RESERVED


@dataclass(frozen=True)
class Fault:
    """offset: characters before the place; line, column: the same place, from 1. length: characters it is about.

    kind: "column", "table" (or another source), "function", "literal", "end" (the statement is not complete) or
    "syntax". name: what was written there. nearest: a name that exists and is written much like it, or None.
    reason: in words.
    """

    offset: int
    line: int
    column: int
    length: int
    kind: str
    name: str
    nearest: str | None
    reason: str

    def __str__(self) -> str:
        hint = f'; did you mean "{self.nearest}"?' if self.nearest else ""
        return f"line {self.line}, column {self.column}: {self.reason}{hint}"


Match: TypeAlias = "re.Match[str]"

_TOKENS = re.compile(
    r"""(?P<word>[^\W\d][\w$]*)|(?P<quoted>"(?:[^"]|"")*"|`[^`]*`|\[[^\]]*\])|'(?:[^']|'')*'"""
    r"""|(?P<open>["'`\[].*)|[0-9.]+|\S""",
    re.DOTALL,
)
_LITERAL = "'\"0123456789."
_TABLES = frozenset({"from", "insert into", "update", "delete from", "drop table", "drop name"})
_COLUMNS = frozenset({"using", "insert column", "set column"})
_LEFT_OUT = {"over": "window functions are not in this language", "filter": "FILTER is not in this language"}
_DONE = frozenset({"result", "source", "source as", "source end", "joined"})  # where FROM, or a SELECT without, may end


def find_fault(automaton: SqlAutomaton, text: str) -> Fault | None:
    """The first thing that is wrong; None if nothing is."""
    state, at = automaton.start, 0
    tokens = list(_TOKENS.finditer(text))
    for number, token in enumerate(tokens):
        after = _run(automaton, state, text[at : token.start()])
        reached = _run(automaton, after, text[token.start() : token.end()])
        if token["open"] and after != DEAD:
            return _fault(text, token.start(), 1, "end", "", (), "the quotation mark is not closed")
        if reached == DEAD or (token["word"] and _cannot_end(automaton, text, token, reached)):
            if (behind := _behind_call(tokens, number)) is not None:
                reason = _LEFT_OUT[lower(behind[0])]
                return _fault(text, behind.start(), len(behind[0]), "syntax", behind[0], (), reason)
            place = _ended(automaton, state) or automaton.place(state)
            return _Faults(automaton, text, tokens[:number], token).at(place)
        state, at = reached, token.end()
    state = _run(automaton, state, text[at:])
    if automaton.accepts(state):
        return None
    place = _ended(automaton, state)
    lost = None if place is None else _lost(place, place.word)
    if lost is not None:
        return _of_need(text, tokens, lost)
    return _fault(text, len(text), 0, "end", "", (), "the statement is not complete")


def _run(automaton: SqlAutomaton, state: int, text: str) -> int:
    for byte in text.encode(errors="surrogatepass"):
        state = automaton.step(state, byte)
    return state


def _ended(automaton: SqlAutomaton, state: int) -> Place | None:
    """The place behind the last token, if this may end here."""
    return automaton.place(automaton.step(state, 0x20))


def _cannot_end(automaton: SqlAutomaton, text: str, word: Match, state: int) -> bool:
    """Is the word only the beginning of those that may come?"""
    behind = _run(automaton, state, text[word.end() : word.end() + 1])
    return _ended(automaton, state) is None and not (automaton.accepts(state) or (behind != DEAD and behind != state))


def _behind_call(tokens: list[Match], refused: int) -> Match | None:
    """What is left out of the language, and stands behind the call that the refused token ends or begins."""
    at = refused
    if lower(tokens[at][0]) not in _LEFT_OUT:
        at = _behind_brackets(tokens, refused if tokens[refused][0] == "(" else refused + 1)
    found = tokens[at] if 0 < at < len(tokens) and tokens[at - 1][0] == ")" else None
    return found if found and lower(found[0]) in _LEFT_OUT else None


def _behind_brackets(tokens: list[Match], opening: int) -> int:
    """The place behind the arguments of a function, whose bracket opens there; 0 if it does not."""
    depth = 0
    if opening and tokens[opening - 1]["word"] and lower(tokens[opening - 1][0]) not in RESERVED:
        for place in range(opening, len(tokens)):
            depth += {"(": 1, ")": -1}.get(tokens[place][0], 0)
            if depth <= 0:
                return place + 1 if place > opening else 0
    return 0


class _Faults(NamedTuple):
    """What is wrong at a token that was refused; it may be something before it that now cannot be right any more."""

    automaton: SqlAutomaton
    text: str
    before: list[Match]
    token: Match

    def at(self, place: Place | None) -> Fault:
        token, expr = self.token, place and place.expr
        named = token["word"] or token["quoted"]
        if place is None:
            return self._misplaced(place)
        if expr is not None and expr.state in ("name", "quoted") and self.before:
            # The name before was only right as something else: as the name of a table, or a function.
            known = self.automaton.grammar.columns_here(place)
            if expr.name not in known:
                return self._no_such_operand(self.before[-1], place, known)
        if expr is None and place.mode in _TABLES and named:
            return self._table(place)
        if expr is None and place.mode in _COLUMNS and named:
            names = self.automaton.grammar.names(place)
            return self._fault(token, "column", f'no column "{_bare(token[0])}" is left here', names)
        name = lower(_bare(token[0])) if named and token[0].lower() not in RESERVED else place.word
        lost = _lost(place, name if place.mode in ("source", "source as") else place.word)
        if lost is not None:
            return _of_need(self.text, self.before, lost)
        if expr is not None and named and expr.state in BEFORE_OPERAND | {"column"}:
            return self._no_such_operand(token, place, self.automaton.grammar.names(place))
        return self._misplaced(place)

    def _table(self, place: Place) -> Fault:
        name, names = _bare(self.token[0]), self.automaton.grammar.names(place)
        if lower(name) in names and place.mode == "from":
            typed = any(need.literal for need in place.core.needs)
            clash = "clash, or be compared with a literal of another type" if typed else "clash"
            return self._fault(self.token, "table", f'"{name}" cannot stand here: a column that is used would {clash}')
        return self._fault(self.token, "table", f'no table "{name}"', names)

    def _no_such_operand(self, token: Match, place: Place, columns: Iterable[str]) -> Fault:
        """What should be a column, a source before a point, or a function before a bracket."""
        name, functions = _bare(token[0]), self.automaton.grammar.schema.functions
        behind = self.text[token.end() :].lstrip()[:1]
        if token["word"] and lower(name) in RESERVED:
            return self._fault(token, "syntax", f"{name!r} cannot stand here")
        if behind == "(":
            if lower(name) in functions:
                return self._fault(token, "syntax", f'"{name}" cannot stand here')
            return self._fault(token, "function", f'no function "{name}"', functions)
        if behind == "." and place.expr is not None and place.expr.state != "column":
            return self._fault(token, "table", f'no source "{name}"', self.automaton.grammar.sources_here(place))
        return self._fault(token, "column", f'no column "{name}"', columns)

    def _misplaced(self, place: Place | None) -> Fault:
        if (
            place is not None
            and place.expr is not None
            and place.expr.want is not None
            and self.token[0][0] in _LITERAL
        ):
            choices = self.automaton.grammar.choices(place)
            why = "none of the values" if choices is not None and self.token[0][0] in "'\"" else "not of the type"
            near = {"'" + choice.replace("'", "''") + "'" for choice in choices or ()}
            return self._fault(self.token, "literal", f"{self.token[0]} is {why} of the column", near)
        words = frozenset[str]() if place is None else self.automaton.grammar.words(place)
        return self._fault(self.token, "syntax", f"{self.token[0]!r} cannot stand here", words)

    def _fault(self, token: Match, kind: str, reason: str, known: Iterable[str] = ()) -> Fault:
        name = _bare(token[0])
        if not token["quoted"] and lower(name) in known and not is_bare(lower(name)):
            known, reason = (), f'"{name}" has to be written in quotes'
        return _fault(self.text, token.start(), len(token[0]), kind, name, known, reason)


def _lost(place: Place, name: str) -> tuple[Core, Need] | None:
    """A column that was used and that no source has. name: of a source that was read, and has none yet."""
    core = place.core
    if not core.open or place.expr is not None or place.mode not in _DONE:
        return None
    waiting = place.waiting and place.waiting._replace(name=name)
    core = core._replace(sources=(*core.sources, waiting)) if waiting else core
    for need in sorted(core.needs):
        source = source_of(core, need.qualifier)
        there = need.name in source.columns if source else False
        if not (there if need.qualifier else found(core, need.name) == 1):
            return core, need
    return None


def _of_need(text: str, tokens: list[Match], lost: tuple[Core, Need]) -> Fault:
    core, need = lost
    at = next((i for i in range(len(tokens)) if _is_need(tokens, i, need)), 0)
    token, source = tokens[at], source_of(core, need.qualifier)
    if need.qualifier and source is None:
        names, reason = {source.name for source in core.sources}, f'no source "{need.qualifier}"'
        return _fault(text, tokens[at - 2].start(), len(tokens[at - 2][0]), "table", need.qualifier, names, reason)
    near = source.columns if source else {name for source in core.sources for name in source.columns}
    written = f"{need.qualifier}.{need.name}" if need.qualifier else need.name
    count = 0 if need.qualifier else found(core, need.name)
    reason = f'column "{written}" is in {count} sources' if count > 1 else f'no source has a column "{written}"'
    return _fault(text, token.start(), len(token[0]), "column", need.name, near, reason)


def _is_need(tokens: list[Match], at: int, need: Need) -> bool:
    """Is it the token that names the column?"""
    texts = [lower(_bare(token[0])) for token in tokens[max(0, at - 2) : at + 1]]
    qualified = texts[-2:-1] == ["."]
    if texts[-1] != need.name or not (tokens[at]["word"] or tokens[at]["quoted"]) or qualified != bool(need.qualifier):
        return False
    return not qualified or texts[0] == need.qualifier


def _bare(name: str) -> str:
    return name[1:-1] if name[0] in '"`[' and len(name) > 1 else name


def _fault(text: str, offset: int, length: int, kind: str, name: str, known: Iterable[str], reason: str) -> Fault:
    before = text[:offset]
    near = {lower(known_name): known_name for known_name in sorted(known)}
    nearest = get_close_matches(lower(name), sorted(near.keys() - {"", lower(name)}), 1) if name else []
    return Fault(
        offset,
        before.count("\n") + 1,
        len(before) - before.rfind("\n"),
        length,
        kind,
        name,
        near[nearest[0]] if nearest else None,
        reason,
    )
