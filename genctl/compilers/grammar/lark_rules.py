"""Lark grammars as languages of bytes: what Lark's Earley parser accepts with its lexer "dynamic_complete".

    pairs = compile_lark('start: pair ("," pair)*\\npair: NAME "=" /[0-9]+/\\nNAME: /[a-z]+/\\n%ignore " "')
    accepts(pairs, b"a = 1, b=22")                           # True

The text may be cut into terminals in any way that the rules allow: neither the longest match nor a priority forbids
a reading. Texts of ignored terminals may stand at the beginning and behind every terminal. Rules are translated from
the loader's trees, so repetition stays repetition.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from lark import Token, Tree
from lark.grammar import NonTerminal, Symbol
from lark.grammar import Terminal as TerminalSymbol

from genctl.automata.expressions import Call, Expression, concat, optional, repeat, union
from genctl.automata.pushdown import GrammarAutomaton
from genctl.compilers.grammar.lark_source import LarkGrammar, load
from genctl.compilers.grammar.source import Source, build, nearest
from genctl.compilers.grammar.terminals import Terminals
from genctl.errors import ArgumentError, ConstraintError

MAX_RULES = 100_000  # instances of templates among them
MAX_NESTED = 100  # templates as arguments of templates as arguments ...

Keywords = Literal["free", "reserved"]


def parse_lark(
    source: str,
    *,
    start: str = "start",
    keywords: Keywords = "free",
    import_paths: Sequence[Path] = (),
    folder: Path | None = None,
) -> tuple[Expression, dict[str, Expression]]:
    """The expression of the start rule, and the rules that its calls refer to.

    keywords: "reserved" takes the strings of the grammar out of its regexps where a lexer would prefer the string.
    import_paths: folders in which imports are looked for first. folder: the one that relative imports begin from.
    Raises ConstraintError with line, column and span of what is malformed, undefined or cannot be honoured.
    """
    grammar = load(Source(source), folder=folder, import_paths=import_paths)
    return _translated(grammar, start, keywords)


def compile_lark(
    source: str,
    *,
    start: str = "start",
    keywords: Keywords = "free",
    import_paths: Sequence[Path] = (),
    folder: Path | None = None,
) -> GrammarAutomaton:
    """The texts of the start rule; arguments and errors as in `parse_lark`.

    Raises UnsatisfiableError if there is no finite text.
    """
    grammar = load(Source(source), folder=folder, import_paths=import_paths)
    expression, rules = _translated(grammar, start, keywords)
    return build(grammar.source, expression, rules, grammar.places.definition(start))


def _translated(grammar: LarkGrammar, start: str, keywords: str) -> tuple[Expression, dict[str, Expression]]:
    if keywords not in ("free", "reserved"):
        raise ArgumentError(f"keywords is {keywords!r}, it must be 'free' or 'reserved'")
    if start not in grammar.rules:
        hint = nearest(start, grammar.rules) or "name a rule of the grammar: start=..."
        raise grammar.source.error(f"the grammar has no rule {start!r}", grammar.source.whole, hint)
    try:
        translator = _Translator(grammar)
        expression = concat(translator.terminals.gap, translator.rule(start, start))
        rules = translator.rules()
    except RecursionError:
        raise grammar.source.too_deep() from None
    return expression, {**rules, **translator.terminals.rules(reserved=keywords == "reserved")}


class _Translator:
    """Rules that can be reached from the start, each translated when it was called."""

    def __init__(self, grammar: LarkGrammar) -> None:
        self.grammar, self.terminals = grammar, Terminals(grammar)
        self.called: set[str] = set()
        self.waiting: deque[tuple[str, str, Tree[Any]]] = deque()

    def rules(self) -> dict[str, Expression]:
        """All rules that are called, directly or not."""
        found: dict[str, Expression] = {}
        while self.waiting:
            name, inside, tree = self.waiting.popleft()
            found[name] = self.expression(tree, inside)
        return found

    def call(self, name: str, inside: str, tree: Tree[Any]) -> Expression:
        """inside: the rule's name in the source, without arguments."""
        if name not in self.called:
            self.called.add(name)
            self.waiting.append((name, inside, tree))
        return Call(name)

    def expression(self, tree: Tree[Any], inside: str) -> Expression:
        return _TREES[tree.data](self, tree, inside)

    def parts(self, tree: Tree[Any], inside: str) -> list[Expression]:
        return [self.expression(child, inside) for child in tree.children]

    def first(self, tree: Tree[Any], inside: str) -> Expression:
        """An alias, or a value: the name of a branch of Lark's trees does not matter here."""
        child = tree.children[0]
        return self.symbol(child, inside) if isinstance(child, Symbol) else self.expression(child, inside)

    def repetition(self, tree: Tree[Any], inside: str) -> Expression:
        return repeat(self.expression(tree.children[0], inside), *self.grammar.counts(tree, inside))

    def symbol(self, symbol: Symbol, inside: str) -> Expression:
        if isinstance(symbol, TerminalSymbol):
            return self.terminals.named(symbol.name, inside)
        return self.rule(symbol.name, inside)

    def rule(self, name: str, inside: str) -> Expression:
        rule = self.grammar.rules[name]
        if rule.tree is None:
            raise self.error(f"rule {name} is declared without a definition", name, inside, f"define it: {name}: ...")
        if rule.parameters:
            shown = f"{name}{{{', '.join(rule.parameters)}}}"
            raise self.error(f"the template {shown} is used without arguments", name, inside, f"write {shown}")
        return self.call(name, name, rule.tree)

    # -- templates: a rule of its own for each list of arguments

    def instance(self, tree: Tree[Any], inside: str) -> Expression:
        symbol, *arguments = tree.children
        name = _written(symbol)
        template = self.grammar.rules.get(name)
        if template is None or template.tree is None or len(template.parameters) != len(arguments):
            hint = f"define it with one parameter for each of the {len(arguments)} arguments"
            raise self.error(f"{name} is no template for these arguments", name, inside, hint)
        full = f"{name}{{{','.join(map(_written, arguments))}}}"
        if full.count("{") > MAX_NESTED or len(self.called) > MAX_RULES:
            reason = f"there is no end to the arguments that the template {name} is used with"
            raise self.error(reason, name, inside, "do not let a template use itself with ever new arguments")
        bound = dict(zip(template.parameters, arguments, strict=True))
        return self.call(full, name, _substituted(template.tree, bound))

    def error(self, reason: str, name: str, inside: str, hint: str) -> ConstraintError:
        return self.grammar.source.error(reason, self.grammar.places.use(name, inside), hint)


_TREES: dict[str, Callable[[_Translator, Tree[Any], str], Expression]] = {
    "expansions": lambda self, tree, inside: union(*self.parts(tree, inside)),
    "expansion": lambda self, tree, inside: concat(*self.parts(tree, inside)),
    "maybe": lambda self, tree, inside: optional(self.first(tree, inside)),
    "alias": _Translator.first,
    "value": _Translator.first,
    "expr": _Translator.repetition,
    "literal": lambda self, tree, inside: self.terminals.anonymous(tree, inside),
    "range": lambda self, tree, inside: self.terminals.anonymous(tree, inside),
    "template_usage": _Translator.instance,
}


def _substituted(tree: Tree[Any], bound: Mapping[str, Tree[Any]]) -> Tree[Any]:
    """The tree with arguments in place of parameters. A parameter may also stand for a template."""
    children: list[Any] = []
    for child in tree.children:
        if isinstance(child, Tree):
            children.append(_substituted(child, bound))
        elif isinstance(child, NonTerminal) and child.name in bound:
            children.append(bound[child.name].children[0])
        else:
            children.append(child)
    return Tree(tree.data, children)


def _written(argument: Any) -> str:
    """A template's argument as it would be written, to tell instances apart."""
    if isinstance(argument, Tree):
        sign = {"range": "..", "template_usage": ","}.get(argument.data, "")
        name, *rest = map(_written, argument.children)
        return f"{name}{{{sign.join(rest)}}}" if argument.data == "template_usage" else sign.join([name, *rest])
    return str(argument) if isinstance(argument, Token) else str(argument.name)
