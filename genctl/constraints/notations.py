"""Rules from what users write: patterns, schemas, types, grammars, functions.

regex(r"\\d{4}-\\d\\d-\\d\\d") & (lambda text, done: not done or int(text[:4]) > 1999)
json(Trip)                                # a pydantic model, a dataclass, list[int], a JSON Schema ...
lark("arithmetic"), gbnf(Path("chess.gbnf"))
"""

from __future__ import annotations

import builtins
import json as json_module
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from genctl.automata.base import Automaton
from genctl.automata.pushdown import GrammarAutomaton
from genctl.compilers.json_schema import compile_json_schema
from genctl.compilers.json_schema.document import plain_json
from genctl.compilers.regex import compile_regex
from genctl.compilers.types import schema_of
from genctl.constraints.predicate import PredicateFunction
from genctl.constraints.rules import Language, Predicate, Rule
from genctl.constraints.store import compiled, fingerprint, key
from genctl.errors import ConstraintError

if TYPE_CHECKING:
    from genctl.compilers.grammar import Keywords

Style: TypeAlias = Literal["bounded", "compact", "spaced"] | int


def regex(pattern: str | re.Pattern[str], flags: int = 0) -> Language:
    """Texts that `re.fullmatch(pattern, text, flags)` matches; the value is the text.

    Raises ConstraintError with the span of what is wrong or cannot be honoured (back-references and the like).
    """
    source = pattern.pattern if isinstance(pattern, re.Pattern) else pattern
    known = key("regex", source, pattern.flags if isinstance(pattern, re.Pattern) else None, flags)
    return Language(compiled(known, lambda: compile_regex(pattern, flags)), source)


def json(schema: Any, *, whitespace: Style = "bounded") -> Language:
    """JSON texts for a schema (a mapping, a bool, or JSON text) or for a type; the value is parsed.

    A type gives a value of that type, a schema what `json.loads` gives. whitespace: "bounded" (none, a blank, or a
    line break with indentation), "compact" (none), "spaced" (one blank behind each comma and colon), or the number of
    blanks to indent by.
    Raises ConstraintError with the JSON pointer of what is wrong or not supported.
    """
    if isinstance(schema, Mapping | bool | str):
        automaton = _of_schema(schema, whitespace)
        source = schema if isinstance(schema, str) else json_module.dumps(schema, default=str)
        return Language(automaton, source, json_module.loads)
    plain, parse = schema_of(schema)
    return Language(_of_schema(plain, whitespace), getattr(schema, "__name__", str(schema)), parse)


def _of_schema(schema: Mapping[str, Any] | bool | str, whitespace: Style) -> Automaton:
    """The schema is copied: what is kept must not change when the user's own does."""
    plain = schema if isinstance(schema, str) else plain_json(schema)
    known = key("text" if isinstance(schema, str) else "schema", plain, whitespace)
    return compiled(known, lambda: compile_json_schema(plain, whitespace=whitespace))


def lark(
    grammar: str | Path,
    *,
    start: str = "start",
    keywords: Keywords = "free",
    import_paths: Sequence[str | Path] = (),
) -> Language:
    """Texts of a grammar in Lark's notation, as Lark's Earley parser with the lexer "dynamic_complete" reads them.

    grammar: the grammar itself, a pathlib.Path, or the name of one that ships with genctl ("arithmetic").
    keywords: "reserved" takes the strings of the grammar out of its regexps, as a lexer would. import_paths: folders
    in which `%import` looks first. The value is the text; see docs/grammars.md.
    Raises ConstraintError with line, column and span of what is wrong or cannot be honoured.
    """
    from genctl.compilers.grammar import given

    text, folder = given(grammar, shipped=True)
    paths = [Path(path) for path in import_paths]

    def make() -> GrammarAutomaton:
        from genctl.compilers.grammar import compile_lark

        return compile_lark(text, start=start, keywords=keywords, import_paths=paths, folder=folder)

    alone = not paths and not _FROM_FILES.search(text)
    return Language(compiled(key("lark", text, start, keywords, _lark()) if alone else None, make), text)


# An import from anywhere but the grammars that Lark itself ships; whatever is not plainly one of these.
_FROM_FILES = re.compile(r"%import(?![ \t]+[A-Za-z])")


@cache
def _lark() -> str:
    """The version of Lark, its own grammars included, without importing it."""
    spec = find_spec("lark")
    assert spec is not None, "genctl depends on it"
    return fingerprint(Path(spec.origin or "").parent)


def gbnf(grammar: str | Path, *, root: str = "root") -> Language:
    """Texts of a grammar in the notation of llama.cpp, given as a str or a pathlib.Path; the value is the text.

    Raises ConstraintError with line, column and span of what is wrong or cannot be honoured (tokens such as <think>).
    """
    from genctl.compilers.grammar import compile_gbnf, given

    text, _ = given(grammar)
    return Language(compiled(key("gbnf", text, root), lambda: compile_gbnf(text, root=root)), text)


def predicate(function: PredicateFunction) -> Predicate:
    """A rule from a function (text, done) -> bool | float; usable as a decorator."""
    return Predicate(function)


def as_rule(constraint: Any) -> Rule | None:
    """What `generate` accepts: a rule, a compiled pattern, a type or a JSON Schema, a function, or None.

    Raises ConstraintError for anything else; a bare string could mean too many things.
    """
    if constraint is None or isinstance(constraint, Rule):
        return constraint
    if isinstance(constraint, str):
        raise ConstraintError(
            f"a string is not a rule: {constraint[:60]!r}",
            hint="say what it is: genctl.regex(...) for a pattern, genctl.json(...) for a JSON Schema",
        )
    if isinstance(constraint, re.Pattern):
        return regex(constraint)
    if isinstance(constraint, Mapping | bool) or _is_type(constraint):
        return json(constraint)
    if callable(constraint):
        return predicate(constraint)
    raise ConstraintError(
        f"{constraint!r} is not a rule",
        hint="give a rule, a re.Pattern, a type, a JSON Schema as a dict, or a function (text, done) -> bool | float",
    )


def _is_type(constraint: Any) -> bool:
    """Classes, generic aliases such as list[int] or int | None, Literal and the like, and pydantic adapters."""
    if isinstance(constraint, builtins.type) or type(constraint).__name__ == "TypeAdapter":
        return True
    return hasattr(constraint, "__origin__") or type(constraint).__name__ == "UnionType"
