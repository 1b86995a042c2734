"""Rules from what users write: patterns, schemas, types, grammars, functions.

regex(r"\\d{4}-\\d\\d-\\d\\d") & (lambda text, done: not done or int(text[:4]) > 1999)
json(Trip)                                # a pydantic model, a dataclass, list[int], a JSON Schema ...
tools([weather, search])                  # a call of one of the functions
lark("arithmetic"), gbnf(Path("chess.gbnf"))
"""

from __future__ import annotations

import builtins
import json as json_module
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, overload

from genctl.automata.expressions import Grammar
from genctl.automata.pushdown import GrammarAutomaton
from genctl.compilers.json_schema import PropertyOrder, compile_schema, schema_grammar
from genctl.compilers.json_schema.document import plain_json
from genctl.compilers.json_schema.formats import STANDARD
from genctl.compilers.json_schema.partial import WholeValues
from genctl.compilers.regex import compile_regex
from genctl.compilers.types import TypedSchema, schema_of, schema_of_tools
from genctl.constraints.checked import Checks
from genctl.constraints.predicate import JUDGES, BatchFunction, Judges, Manner, PredicateFunction, Shown
from genctl.constraints.rules import Language, Predicate, Rule
from genctl.constraints.store import compiled, fingerprint, key
from genctl.errors import ArgumentError, ConstraintError

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


@overload
def json(
    schema: Mapping[str, Any] | bool | str | Path,
    *,
    whitespace: Style = ...,
    property_order: PropertyOrder = ...,
    formats: bool = ...,
    registry: Mapping[str, Any] | None = ...,
) -> Language: ...
@overload
def json(
    schema: Any,
    *,
    whitespace: Style = ...,
    property_order: PropertyOrder = ...,
    formats: bool = ...,
    registry: Mapping[str, Any] | None = ...,
) -> Rule: ...
def json(
    schema: Any,
    *,
    whitespace: Style = "bounded",
    property_order: PropertyOrder = "declared",
    formats: bool = True,
    registry: Mapping[str, Any] | None = None,
) -> Rule:
    """JSON texts for a schema, for a type, or for a call of a function; the value is parsed.

    schema: a JSON Schema (a mapping, a bool, JSON text, or the pathlib.Path of a file), whose value is what
    `json.loads` gives; a type, whose value is of that type; a function, whose value is a ToolCall (see `tools`).
    whitespace: "bounded" (none, a blank, or a line break with indentation), "compact" (none), "spaced" (one blank
    behind each comma and colon), or the number of blanks to indent by. property_order: "declared" writes declared
    properties in the schema's order, "any" leaves the order to the model. formats: False makes `format` an annotation.
    registry: documents that references may lead to, by absolute URI (nothing is ever fetched).
    The rule is a Language, but for types with validators of their own and others that no schema describes exactly:
    their parser is asked about whole texts too.
    Raises ConstraintError with the JSON pointer of what is wrong or not supported.
    """
    options = Options(whitespace, property_order, formats, plain_json(dict(registry or {})))
    if isinstance(schema, Path):
        schema = schema.read_text("utf-8")
    if isinstance(schema, Mapping | bool | str):
        return _of_schema(schema, None, json_module.loads, options)
    return _of_type(schema_of(schema), getattr(schema, "__name__", str(schema)), options)


def tools(functions: Sequence[Any], *, whitespace: Style = "bounded") -> Rule:
    """JSON texts {"name": ..., "arguments": {...}} that call one of the functions; the value is a ToolCall.

    functions: functions, whose arguments are named and annotated, or types, whose fields are the arguments. The call
    has a name, arguments (name -> value of the annotated type; of a type, its value), and runs by `call()`.
    Arguments with a default may be left out; nothing is made for `*args` and `**kwargs`.
    """
    source = ", ".join(getattr(function, "__name__", str(function)) for function in functions)
    return _of_type(schema_of_tools(functions), source, Options(whitespace, "declared", True, {}))


def _of_type(typed: TypedSchema, source: str, options: Options) -> Rule:
    language = _of_schema(typed.schema, source, typed.parse, options)
    return language & _parses(typed.parse, typed.checked) if typed.checked else language


def _parses(parse: Callable[[str], Any], checked: Sequence[str]) -> PredicateFunction[str]:
    """Whether a whole text is read into its type."""

    def parses(text: str, done: bool) -> bool:
        try:
            return not done or parse(text) is not parses
        except ValueError:
            return False

    parses.__name__ = f"parses ({'; '.join(checked)})"
    return parses


class Options(NamedTuple):
    """How a schema is read, see `json`."""

    whitespace: Style
    property_order: PropertyOrder
    formats: bool
    registry: dict[str, Any]


def _of_schema(
    schema: Mapping[str, Any] | bool | str, source: str | None, parse: Callable[[str], Any], options: Options
) -> Language:
    """source: for messages, if not the schema. It is copied: what is kept must not change when the user's own does."""
    plain, form = (schema, "text") if isinstance(schema, str) else (plain_json(schema), "schema")
    text = schema if isinstance(schema, str) else _written(plain)
    known = None if text is None else key(form, text, *options)

    def grammar() -> Grammar:
        assert text is not None, "what has no text has no key"
        return schema_grammar(text if form == "text" else json_module.loads(text), **options._asdict())

    automaton = compiled(known, lambda: compile_schema(plain, **options._asdict()), grammar)
    source = source or text or str(plain)
    return Language(automaton, source, parse, _checks(plain, getattr(automaton, "notes", {}), options))


def _written(plain: Any) -> str | None:
    """A schema as JSON text; None if there are things in it that Python does not write, such as Decimal numbers."""
    try:
        return json_module.dumps(plain)
    except (TypeError, ValueError, RecursionError):
        return None


def _checks(schema: Any, notes: Mapping[str, Any], options: Options) -> Checks:
    """What the compiler noted that the automaton of a schema does not hold."""
    if not notes.get("checks"):
        return Checks(notes.get("repeats", False))
    plain = json_module.loads(schema, parse_float=Decimal) if isinstance(schema, str) else schema
    reasons = "; ".join(f"{reason} at {pointer}" for pointer, reason in notes["checks"])
    verdicts = {name: standard.holds for name, standard in STANDARD.items()} if options.formats else {}
    judge = WholeValues(plain, registry=options.registry, formats=verdicts)
    return Checks(notes.get("repeats", False), (judge,), reasons)


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


@overload
def predicate(
    function: BatchFunction[Shown], *, judges: Judges = ..., batch: Literal[True], sees: type[Shown] = ...
) -> Predicate: ...
@overload
def predicate(
    function: PredicateFunction[Shown],
    *,
    judges: Judges = ...,
    batch: Literal[False] = ...,
    threads: int | None = ...,
    sees: type[Shown] = ...,
) -> Predicate: ...
@overload
def predicate(
    *, judges: Judges = ..., batch: Literal[True], sees: type[Shown] = ...
) -> Callable[[BatchFunction[Shown]], Predicate]: ...
@overload
def predicate(
    *, judges: Judges = ..., batch: Literal[False] = ..., threads: int | None = ..., sees: type[Shown] = ...
) -> Callable[[PredicateFunction[Shown]], Predicate]: ...
def predicate(
    function: PredicateFunction[Any] | BatchFunction[Any] | None = None,
    *,
    judges: Judges = "prefix",
    batch: bool = False,
    threads: int | None = None,
    sees: type[Any] = str,
) -> Predicate | Callable[..., Predicate]:
    """A rule from a function (text, done) -> bool | float; a decorator, with arguments or without.

        @genctl.predicate(judges="words", batch=True)
        def polite(texts: list[str], done: list[bool]) -> list[bool]:
            return [score < 0.5 for score in classifier(texts)]

    The function is asked about prefixes (done=False) and about finished texts (done=True). True lets pass, False rules
    the text and all that goes on from it out; a float is a log-weight in nats, -inf rules out. The same text must get
    the same answer always: answers are remembered, up to a bound (constraints/predicate.py, MEMORY).

    judges: about which prefixes it is asked. A finished text is always asked about, and shown whole.
        "prefix": about every one.
        "words": when a word has been completed. It sees the text up to the character of white space (in Unicode's
            sense, `str.isspace`) that ended its last whole word, that character included. Until the next word ends,
            the verdict of that text stands; before the first one ends, prefixes pass.
        "lines": when a line has been completed. It sees the text up to its last "\\n", included; in the same way.
        "text": about none, all prefixes pass.
        A token that completes several words, or lines, is asked about once, behind the last of them.
    batch: the function takes lists, the texts and whether each is done, and returns one answer for each: a list or an
        array. It is called once for all texts that are new at a time, with each of them once.
    threads: of several new texts as many are asked about at the same time, for functions that wait (for a server, say).
    sees: `str`, or `bytes`: the UTF-8 of what it would see, and of a prefix that ends inside a character these first
        bytes too ("prefix"). A function that sees text cannot say no to half a character, only to what it becomes.

    Raises ArgumentError for an unknown value.
    """
    if judges not in list(JUDGES):
        near = get_close_matches(str(judges), JUDGES, 1)
        hint = f"\nhint: did you mean {near[0]!r}?" if near else ""
        raise ArgumentError(f"judges is {judges!r}, it must be one of {', '.join(JUDGES)}{hint}")
    if threads is not None and (not isinstance(threads, int) or isinstance(threads, bool) or threads < 1):
        raise ArgumentError(f"threads is {threads!r}, it must be an integer of at least 1, or None")
    if batch and threads is not None:
        raise ArgumentError("batch and threads exclude each other: with batch=True one call asks about all texts")
    if sees is not str and sees is not bytes:
        raise ArgumentError(f"sees is {sees!r}, it must be str or bytes")
    manner = Manner(judges, bool(batch), threads, sees)
    if function is None:
        return lambda function: _predicate(function, manner)
    return _predicate(function, manner)


def _predicate(function: PredicateFunction[Any] | BatchFunction[Any], manner: Manner) -> Predicate:
    if not callable(function):
        raise ConstraintError(
            f"{function!r} is no function",
            hint="give a function (text, done) -> bool | float; judges, batch and threads are named",
        )
    return Predicate(function, manner)


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
        rule: Rule = json(constraint)
        return rule
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
    named = type(constraint).__name__ in ("UnionType", "NewType", "TypeAliasType")
    return named or hasattr(constraint, "__origin__")
