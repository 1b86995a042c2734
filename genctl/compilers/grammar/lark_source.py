"""Lark grammars, read by Lark's own loader: imports, templates, overrides and extensions are what Lark says they are.

    grammar = load(Source('start: WORD\\n%import common.WORD'))
    grammar.rules["start"], grammar.terminals["WORD"]        # the loader's trees, before it expands repetition

The loader keeps few positions, so whatever it refuses is looked for in the text (places.py): the second definition of
a name, the place where an undefined one is used, the `%import` of a file that is at fault.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from lark import GrammarError, Token, Tree, UnexpectedCharacters, UnexpectedInput, UnexpectedToken
from lark.load_grammar import GrammarBuilder, stdlib_loader

from genctl.compilers.grammar.places import Import, Places
from genctl.compilers.grammar.source import Source, Span, nearest
from genctl.errors import ConstraintError

_NOWHERE = "<text>"  # the folder of a grammar that is no file
_INLINED = re.compile(r"^[ \t]*(?:%\w+[ \t]*)?!?\?!?(?P<name>_\w+)", re.MULTILINE)


@dataclass(frozen=True)
class RuleDefinition:
    """tree is None for a rule that is only declared."""

    parameters: tuple[str, ...]
    tree: Tree[Any] | None


@dataclass(frozen=True)
class TerminalDefinition:
    """tree is None for a terminal that is only declared."""

    tree: Tree[Any] | None
    priority: int


@dataclass(frozen=True)
class LarkGrammar:
    """Rules and terminals by name, names of the terminals to ignore, and where they are in the source."""

    source: Source
    places: Places
    rules: dict[str, RuleDefinition]
    terminals: dict[str, TerminalDefinition]
    ignored: tuple[str, ...]

    def counts(self, tree: Tree[Any], inside: str) -> tuple[int, int | None]:
        """How often `tree`, an item with ?, *, + or ~, is repeated in the definition of `inside`."""
        sign, *numbers = (token_of(tree, at) for at in range(1, len(tree.children)))
        if sign in _SIGNS:
            return _SIGNS[sign]
        least, most = int(numbers[0]), int(numbers[-1])
        if not 0 <= least <= most:
            span = self.places.token(numbers[0], inside)
            raise self.source.error(f"repeated {least} to {most} times", span, "write ~ least..most, with 0 or more")
        return least, most


_SIGNS: dict[str, tuple[int, int | None]] = {"?": (0, 1), "*": (0, None), "+": (1, None)}


def load(source: Source, *, folder: Path | None = None, import_paths: Sequence[Path] = ()) -> LarkGrammar:
    """folder: where relative imports are looked for; import_paths: where any import is looked for first.

    Raises ConstraintError with line, column and span of what Lark's loader refuses.
    """
    places = Places(source)
    _check_declared(places)
    _check_inlined(places)
    _check_folders(places)
    importer = _Importer(tuple(import_paths))
    builder = GrammarBuilder(False, [importer])
    try:
        builder.load_grammar(source.text, os.path.join(folder or _NOWHERE, "grammar.lark"))
        grammar = builder.build()
    except RecursionError:
        raise source.too_deep() from None
    except _ImportFailure as failure:
        span = places.import_of(reversed(importer.files))
        hint = "give a pathlib.Path (its folder is searched) or import_paths=[...]; Lark has common and unicode"
        raise source.error(str(failure), span, hint) from None
    except (GrammarError, UnexpectedInput, TypeError) as error:  # a TypeError where Lark fails to word a syntax error
        syntax = error if isinstance(error, UnexpectedInput) else error.__context__
        if isinstance(syntax, UnexpectedInput):
            raise _syntax_error(places, importer, syntax, str(error)) from None
        if isinstance(error, GrammarError):
            raise _loader_error(places, importer, str(error)) from None
        raise
    except AssertionError as error:
        span = places.import_of(reversed(importer.files))
        hint = "see whether an imported file makes a terminal of one that is only declared"
        raise source.error(f"Lark cannot load the grammar {error}".rstrip(), span, hint) from None
    rules = {name: RuleDefinition(tuple(parameters), tree) for name, parameters, tree, _ in grammar.rule_defs}
    terminals = {name: TerminalDefinition(tree, priority) for name, (tree, priority) in grammar.term_defs}
    _check_imports(places, {*rules, *terminals})
    return LarkGrammar(source, places, rules, terminals, tuple(dict.fromkeys(grammar.ignore)))


def token_of(tree: Tree[Any], at: int = 0) -> Token:
    """A child that the loader leaves as it is written."""
    token = tree.children[at]
    assert isinstance(token, Token), "strings, regexps, signs and numbers are tokens"
    return token


# -- what the loader does not say


def _check_declared(places: Places) -> None:
    """The loader has no words for a declared terminal as a part of another one."""
    for name in places.declared:
        for span in places.occurrences(name):
            inside = places.enclosing(span[0])
            if inside.isupper() and not inside.startswith("__") and inside != name:
                reason = f"terminal {name} is declared without a pattern, so {inside} cannot be made of it"
                raise places.source.error(reason, span, f"define it: {name}: /.../")


def _check_inlined(places: Places) -> None:
    """The loader says that there is such a rule, but not which."""
    match = _INLINED.search(places.bare)
    if match:
        reason = f"{match['name']} cannot be inlined both always (_) and where it has one child (?)"
        raise places.source.error(reason, match.span("name"), "remove the ? or the underscore")


def _check_folders(places: Places) -> None:
    """The loader gathers the imports of a file, so it takes one from one folder only."""
    relative: dict[str, bool] = {}
    for statement in places.imports:
        if relative.setdefault(statement.file, statement.relative) != statement.relative:
            reason = f"{statement.file} is imported both with and without a dot"
            raise places.source.error(reason, statement.span, "rename the file of your own")


def _check_imports(places: Places, defined: set[str]) -> None:
    """The loader leaves out in silence what the imported file does not have."""
    for statement in places.imports:
        for alias in statement.names.values():
            if alias not in defined:
                raise _not_in_file(places, statement, alias)


def _not_in_file(places: Places, statement: Import, alias: str) -> ConstraintError:
    name = next(name for name, here in statement.names.items() if here == alias)
    reason = f"{statement.file} has no {name}, or it is imported under another name too"
    return places.source.error(reason, statement.span, "import a name that the file defines, and only once")


# -- files


class _ImportFailure(Exception):
    """A file that cannot be imported; no OSError, which the loader would ignore."""


class _Importer:
    """Finds imported files, with the last word: the loader would go on to look in the current directory."""

    def __init__(self, folders: tuple[Path, ...]) -> None:
        self.folders = folders
        self.files: list[str] = []  # asked for so far

    def __call__(self, base: Any, file: str) -> tuple[Any, str]:
        """base: the folder of the importing file for a relative import (a str, or a place in Lark's package)."""
        self.files.append(file)
        folders = [*self.folders, *([Path(base)] if isinstance(base, str) and base != _NOWHERE else [])]
        path = next((folder / file for folder in folders if (folder / file).is_file()), None)
        try:
            if path is not None:
                return str(path), path.read_text("utf-8")
            found: tuple[Any, str] = stdlib_loader(base, file)
        except UnicodeDecodeError:
            raise _ImportFailure(f"cannot import {file}: it is no UTF-8") from None
        except OSError as error:
            reason = "there is no such file" if path is None else error.strerror
            raise _ImportFailure(f"cannot import {file}: {reason}") from None
        return found


# -- what the loader refuses


_SYNTAX_HINTS = {
    "Unclosed parenthesis": "close it with ) before the end of the line; only a line that begins with | goes on",
    "Unmatched closing parenthesis": 'remove it, or write ")" for the character',
    "missing colon": "write name: ...; names of rules are lower case, names of terminals upper case",
    "Illegal name": "names of rules are lower case, names of terminals upper case",
    "Alias expects lowercase name": "write -> name in lower case",
    "Unexpected colon": "begin each definition on a line of its own",
    "Misplaced operator": "put what is repeated before the operator, and group a repetition that is repeated",
    "dots": "write NAME.priority: ... with a number",
    "%import": "write %import common.NAME",
    "%ignore": "write %ignore NAME, or a string or regexp",
}


def _syntax_error(places: Places, importer: _Importer, error: UnexpectedInput, message: str) -> ConstraintError:
    """message: what Lark makes of the error, if it knows the mistake."""
    known = re.match(r"(?P<reason>.*), at line", message)
    start = error.pos_in_stream if isinstance(error.pos_in_stream, int) else len(places.bare)
    if importer.files:
        reason = f"cannot import {importer.files[-1]}: unexpected input in its line {error.line}, column {error.column}"
        return places.source.error(reason, places.import_of(reversed(importer.files)), "repair the imported file")
    bare, text = places.bare, places.source.text
    start = min(start, len(text))
    opening = _unclosed(bare, start)
    if opening is not None and bare[start : start + 1] in ("\n", ""):
        shown = text[opening]
        hint = _SYNTAX_HINTS["Unclosed parenthesis"].replace(")", {"(": ")", "[": "]", "{": "}"}[shown])
        return places.source.error(f"{shown} is not closed on its line", (opening, opening + 1), hint)
    if isinstance(error, UnexpectedCharacters) and text[start] in '"/':
        kind = "regexp" if text[start] == "/" else "string"
        end = (text + "\n").index("\n", start)
        return places.source.error(f"this {kind} is not closed", (start, end), f"close it with {text[start]}")
    shown = error.token if isinstance(error, UnexpectedToken) and error.token.strip() else text[start : start + 1]
    reason = known["reason"] if known else f"unexpected {str(shown)!r}"
    hint = next((hint for part, hint in _SYNTAX_HINTS.items() if part in reason), "see docs/grammars.md")
    return places.source.error(reason[:1].lower() + reason[1:], (start, start + len(shown)), hint)


def _unclosed(bare: str, end: int) -> int | None:
    """The last bracket before `end`, on its line, that is open there."""
    opened: list[int] = []
    for at in range(bare.rfind("\n", 0, end) + 1, end):
        if bare[at] in "([{":
            opened.append(at)
        elif bare[at] in ")]}" and opened:
            opened.pop()
    return opened[-1] if opened else None


class _Message(NamedTuple):
    """A message of the loader: what it reads like, what is said instead (None: the same), and a hint."""

    pattern: str
    reason: str | None
    hint: str


_MESSAGES = (
    _Message(
        r"(?:Rule|Terminal|Template) '(?P<name>\w+)' used but not defined \(in \w+ (?P<inside>[^)]+)\)",
        "{name} is used but not defined",
        "define it",
    ),
    _Message(r"Terminal used but not defined: (?P<name>\w+)", "{name} is used but not defined", "define it"),
    _Message(r"Terminals \{'(?P<name>\w+)'.*marked to ignore", "{name} is ignored but not defined", "define it"),
    _Message(
        r"Rules aren't allowed inside terminals \(\w+\('(?P<name>\w+)'\) in (?P<inside>__IGNORE\w+)\)",
        "{name} is a rule and cannot be ignored",
        "make it a terminal: upper case",
    ),
    _Message(
        r"Rules aren't allowed inside terminals \(\w+\('(?P<name>\w+)'\) in (?P<inside>\w+)\)",
        "{name} is a rule, so no part of terminal {inside}",
        "make it a terminal: upper case",
    ),
    _Message(
        r"Recursion in terminal '(?P<name>\w+)'",
        "terminal {name} contains itself",
        "only rules can: write it in lower case",
    ),
    _Message(
        r"\w+ '(?P<name>\w+)' defined more than once",
        "{name} is defined twice",
        "rename one, or write %override or %extend before the second",
    ),
    _Message(
        r"Cannot override a nonexisting \w+ (?P<name>\w+)",
        "{name} is overridden but not defined",
        "remove %override, or import it first",
    ),
    _Message(
        r"Can(?:'t|not) extend \w+ (?:with different parameters: )?(?P<name>\w+)",
        None,
        "extend what is imported, or defined above, with the same parameters",
    ),
    _Message(
        r"Names starting with double-underscore are reserved \(Error at (?P<name>\w+)\)",
        None,
        "begin it with one underscore",
    ),
    _Message(r"Nothing was imported from grammar `(?P<name>\w+)`", None, "write %import {name}.NAME"),
    _Message(
        r"Template Parameter conflicts with rule (?P<name>\w+) \(in template (?P<inside>\w+)\)",
        None,
        "rename the parameter",
    ),
    _Message(
        r"Duplicate Template Parameter (?P<name>\w+) \(in template (?P<inside>\w+)\)",
        None,
        "rename one of the parameters",
    ),
    _Message(
        r"Wrong number of template arguments used for (?P<name>\w+) .* \(in \w+ (?P<inside>\w+)\)",
        None,
        "give one argument for each parameter",
    ),
)


def _loader_error(places: Places, importer: _Importer, text: str) -> ConstraintError:
    """The place, in the grammar itself, of what the loader says in `text`."""
    for message in _MESSAGES:
        match = re.match(message.pattern, text)
        if match:
            groups = match.groupdict()
            name, inside = groups["name"], groups.get("inside")
            imported = [i for i in places.imports if name in i.names.values() and "not defined" in text]
            if imported:
                return _not_in_file(places, imported[0], name)
            span = places.use(name, inside) if inside else places.definition(name)
            reason = message.reason.format(**groups) if message.reason else match[0][:1].lower() + match[0][1:]
            return places.source.error(reason, span, _hint(places, message, name, span))
    hint = "see docs/grammars.md"
    return places.source.error(text.partition("\n")[0], places.import_of(reversed(importer.files)), hint)


def _hint(places: Places, message: _Message, name: str, span: Span) -> str:
    if places.source.text[span[0] - 1 : span[0]] == "/" and name.islower():
        return "the flags of a regexp are i, m, s, l, u and x; put a blank before a rule"
    known = {name for name, _, _ in places.definitions if name and not name.startswith("__")} - {name}
    similar = nearest(name, known) if message.hint == "define it" else ""
    return similar or message.hint.format(name=name)
