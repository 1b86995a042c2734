"""What keeps a text from being a statement: the name that does not exist, where it stands, what was meant.

print(find_fault(automaton, "SELECT nmae FROM customers"))
# line 1, column 8: no column "nmae"; did you mean "name"?
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from genctl.automata.base import DEAD
from genctl.compilers.sql.automaton import SqlAutomaton
from genctl.compilers.sql.places import BEFORE_OPERAND, Place
from genctl.compilers.sql.schema import lower
from genctl.compilers.sql.scope import Core, Need, found, source_of


@dataclass(frozen=True)
class Fault:
    """offset: characters before the place; line, column: the same place, from 1. length: characters it is about.

    kind: "column", "table", "end" (the statement is not complete) or "syntax". name: what was written there.
    nearest: a name that exists and is written much like it, or None. reason: in words.
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


_TOKENS = re.compile(
    r"""(?P<word>[A-Za-z_][A-Za-z0-9_$]*)|(?P<quoted>"(?:[^"]|"")*"|`[^`]*`|\[[^\]]*\])|'(?:[^']|'')*'|[0-9.]+|\S"""
)


def find_fault(automaton: SqlAutomaton, text: str) -> Fault | None:
    """The first thing that is wrong; None if nothing is."""
    state, at = automaton.start, 0
    tokens = list(_TOKENS.finditer(text))
    for token in tokens:
        begin, behind = token.start(), token.end()
        after = _run(automaton, state, text[at:begin])
        reached = _run(automaton, after, text[begin:behind])
        if reached == DEAD:
            return _at_token(automaton, text, tokens, token, _ended(automaton, state) or automaton.place(state))
        state, at = reached, behind
    state = _run(automaton, state, text[at:])
    if automaton.accepts(state):
        return None
    place = _ended(automaton, state)
    lost = None if place is None else _lost(automaton, place)
    if lost is not None:
        return _of_need(text, tokens, lost)
    last = tokens[-1] if tokens else None
    if last is not None and last["word"] and place is None:
        return _of_name(automaton, text, last, automaton.place(state))
    return _fault(text, len(text), 0, "end", "", (), "the statement is not complete")


def _run(automaton: SqlAutomaton, state: int, text: str) -> int:
    for byte in text.encode(errors="surrogatepass"):
        state = automaton.step(state, byte)
    return state


def _ended(automaton: SqlAutomaton, state: int) -> Place | None:
    """The place behind the last token, if this may end here."""
    return automaton.place(automaton.step(state, 0x20))


def _at_token(
    automaton: SqlAutomaton, text: str, tokens: list[re.Match[str]], token: re.Match[str], place: Place | None
) -> Fault:
    """What is wrong at a token that was refused; it may be something before it that now cannot be right any more."""
    at = tokens.index(token)
    before = tokens[at - 1] if at else None
    if place is not None and place.expr is not None and place.expr.state in ("name", "quoted") and before is not None:
        # The name before was only right as something else: as the name of a table, or a function.
        known = automaton.grammar.columns_here(place)
        if place.expr.name not in known:
            return _column(text, before, known)
    if place is not None and place.expr is None and place.mode == "from" and (token["word"] or token["quoted"]):
        return _of_table(automaton, text, token, place)
    lost = None if place is None else _lost(automaton, place)
    if lost is not None:
        return _of_need(text, tokens[:at], lost)
    if token["word"] or token["quoted"]:
        return _of_name(automaton, text, token, place)
    return _fault(text, token.start(), len(token[0]), "syntax", token[0], (), f"{token[0]!r} cannot stand here")


def _of_table(automaton: SqlAutomaton, text: str, token: re.Match[str], place: Place) -> Fault:
    name, names = _bare(token[0]), automaton.grammar.names(place)
    if lower(name) in names:
        reason = f'"{name}" cannot stand here: a column that is used would be in two sources'
        return _fault(text, token.start(), len(token[0]), "table", name, (), reason)
    return _fault(text, token.start(), len(token[0]), "table", name, names, f'no table "{name}"')


def _of_name(automaton: SqlAutomaton, text: str, token: re.Match[str], place: Place | None) -> Fault:
    grammar = automaton.grammar
    if place is not None and place.expr is not None and place.expr.state in BEFORE_OPERAND | {"column"}:
        return _column(text, token, grammar.names(place))
    words = grammar.words(place) if place is not None else frozenset[str]()
    return _fault(text, token.start(), len(token[0]), "syntax", token[0], words, f"{token[0]!r} cannot stand here")


def _column(text: str, token: re.Match[str], known: Iterable[str]) -> Fault:
    name = _bare(token[0])
    return _fault(text, token.start(), len(token[0]), "column", name, known, f'no column "{name}"')


def _lost(automaton: SqlAutomaton, place: Place) -> tuple[Core, Need] | None:
    """A column that was used and that no source has."""
    core = place.core
    if not core.open:
        return None
    waiting = place.waiting and place.waiting._replace(name=place.word)
    core = core._replace(sources=(*core.sources, waiting)) if waiting else core
    for need in sorted(core.needs):
        source = source_of(core, need.qualifier)
        there = need.name in source.columns if source else False
        if not (there if need.qualifier else found(core, need.name) == 1):
            return core, need
    return None


def _of_need(text: str, tokens: list[re.Match[str]], lost: tuple[Core, Need]) -> Fault:
    core, need = lost
    token = next((t for t in tokens if (t["word"] or t["quoted"]) and lower(_bare(t[0])) == need.name), tokens[0])
    source = source_of(core, need.qualifier)
    near = source.columns if source else {name for source in core.sources for name in source.columns}
    written = f"{need.qualifier}.{need.name}" if need.qualifier else need.name
    count = 0 if need.qualifier else found(core, need.name)
    reason = f'column "{written}" is in {count} sources' if count > 1 else f'no source has a column "{written}"'
    return _fault(text, token.start(), len(token[0]), "column", need.name, set(near) - {need.name}, reason)


def _bare(name: str) -> str:
    return name[1:-1] if name[0] in '"`[' else name


def _fault(text: str, offset: int, length: int, kind: str, name: str, known: Iterable[str], reason: str) -> Fault:
    before = text[:offset]
    nearest = get_close_matches(lower(name), sorted(set(known) - {""}), 1) if name else []
    return Fault(
        offset,
        before.count("\n") + 1,
        len(before) - before.rfind("\n"),
        length,
        kind,
        name,
        nearest[0] if nearest else None,
        reason,
    )
