"""The terminals of a Lark grammar as expressions: strings, regexps, and what Lark makes of their combinations.

    terminals = Terminals(load(Source("start: NAME\\nNAME: LETTER+\\nLETTER: /[a-z]/")))
    terminals.named("NAME", inside="start")                  # what stands for it in a rule: Call("NAME")
    terminals.rules(reserved=False)                          # the rules that such calls refer to

A terminal is one Python regexp, which Lark itself puts together, and its texts are those that `re.match` reads to
their end (preferred.py). Behind each terminal the ignored ones may follow: a rule of their own, that all of them call.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

from lark import GrammarError, Tree
from lark.lexer import Pattern, PatternRE, PatternStr
from lark.load_grammar import Grammar

from genctl.automata.base import DEAD, Automaton, accepts
from genctl.automata.expressions import EMPTY, NOTHING, Call, Embedded, Expression, Literal, concat, repeat, union
from genctl.automata.product import Product
from genctl.automata.pushdown import GrammarAutomaton
from genctl.compilers.grammar.lark_source import LarkGrammar, token_of
from genctl.compilers.grammar.preferred import preferred
from genctl.compilers.grammar.source import Span
from genctl.compilers.regex import pattern_expression
from genctl.errors import ConstraintError

IGNORED = "%ignore"  # the name of the rule for what is ignored
_REGEXP_TOKENS = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|(?P<open>\()|(?P<close>\))|(?P<bar>\|)|.", re.DOTALL)


class Terminal(NamedTuple):
    """A terminal's texts, the pattern they come from, and its priority among the terminals."""

    texts: Expression
    pattern: Pattern
    priority: int


class Terminals:
    """Terminals by name, compiled when they are first used. A string or regexp in a rule is named by its own text."""

    def __init__(self, grammar: LarkGrammar) -> None:
        self.grammar, self.places = grammar, grammar.places
        self.known: dict[str, Terminal] = {}
        self.called: dict[str, None] = {}
        for name in grammar.ignored:
            self._define(name, name)
        self.gap: Expression = Call(IGNORED) if grammar.ignored else EMPTY

    def named(self, name: str, inside: str) -> Expression:
        """What stands for a terminal in the definition of the rule `inside`."""
        self._define(name, inside)
        return self._reference(name)

    def anonymous(self, tree: Tree[Any], inside: str) -> Expression:
        """What stands for a string, a regexp or a range in the definition of the rule `inside`."""
        name = "..".join(token_of(tree, at) for at in range(len(tree.children)))
        if name not in self.known:
            terminal = self._compiled(name, _alone(tree), 0, inside)
            self.known[name] = terminal._replace(priority=self._priorities.get(terminal.pattern, 0))
        return self._reference(name)

    def rules(self, *, reserved: bool) -> dict[str, Expression]:
        """The rules that references call. reserved: the strings are taken out of the regexps."""
        texts = {name: terminal.texts for name, terminal in self.known.items()}
        if reserved:
            texts = {name: _without_keywords(terminal, self.known) for name, terminal in self.known.items()}
        rules = {name: concat(texts[name], self.gap) for name in self.called}
        if self.grammar.ignored:
            rules[IGNORED] = repeat(union(*(texts[name] for name in self.grammar.ignored)))
        return rules

    def _reference(self, name: str) -> Expression:
        texts = self.known[name].texts
        if isinstance(texts, Literal):
            return concat(texts, self.gap)
        self.called[name] = None
        return Call(name)

    # -- from Lark's trees to patterns

    def _define(self, name: str, inside: str) -> None:
        if name in self.known:
            return
        definition = self.grammar.terminals[name]
        if definition.tree is None:
            reason = f"terminal {name} is declared without a pattern"
            raise self._error(reason, self.places.use(name, inside), f"define it: {name}: /.../")
        self.known[name] = self._compiled(name, definition.tree, definition.priority, name)

    def _compiled(self, name: str, tree: Tree[Any], priority: int, inside: str) -> Terminal:
        checked = self._checked(tree, inside)
        try:
            pattern = _pattern(checked)
        except GrammarError:  # all other mistakes are found by now
            raise self._error(f"terminal {name} is empty", self.places.definition(inside), "write a pattern") from None
        try:
            texts = _texts(pattern)
        except ConstraintError as error:
            quoted = "" if error.span is None or error.source is None else f": {error.source[slice(*error.span)]}"
            reason, place = f"{error.reason}{quoted} (in terminal {name})", self._culprit(tree, inside)
            raise self._error(reason, place, error.hint or "use a simpler pattern") from None
        if pattern.min_width == 0:
            hint = "let it take at least one character, and make it optional where it is used"
            raise self._error(f"terminal {name} matches the empty text", self._culprit(tree, inside), hint)
        return Terminal(texts, pattern, priority)

    @cached_property
    def _priorities(self) -> dict[Pattern, int]:
        """The priorities of terminals that are one string or regexp: Lark uses them for the same one in a rule."""
        found: dict[Pattern, int] = {}
        for name, definition in self.grammar.terminals.items():
            literal = None if definition.tree is None else _only_literal(definition.tree)
            if literal is not None:
                found[_pattern(self._checked(literal, name))] = definition.priority
        return found

    def _checked(self, tree: Tree[Any], inside: str) -> Tree[Any]:
        """The tree with ranges as patterns, and without anything that Lark would read otherwise than it is meant."""
        check = _CHECKS.get(tree.data)
        if check is not None:
            check(self, tree, inside)
        if tree.data == "range":
            return self._range(tree, inside)
        children = [self._checked(child, inside) if isinstance(child, Tree) else child for child in tree.children]
        return Tree(tree.data, children)

    def _range(self, tree: Tree[Any], inside: str) -> Tree[Any]:
        """As it is, or as a pattern where Lark would misread it: "^".."z" would become a negated set."""
        patterns = [self._literal(Tree("literal", [token_of(tree, at)]), inside) for at in (0, 1)]
        place = self.places.token(token_of(tree), inside)
        if any(pattern.flags or len(pattern.value) != 1 for pattern in patterns):
            raise self._error("a range needs one character on each side", place, 'write "a".."z"')
        low, high = (pattern.value for pattern in patterns)
        if low > high:
            raise self._error(f"the range {low!r} to {high!r} is empty", place, "write it from low to high")
        if not {low, high}.intersection("^]-[\\"):
            return tree
        return Tree("pattern", [PatternRE(f"[{re.escape(low)}-{re.escape(high)}]")])

    def _literal(self, tree: Tree[Any], inside: str) -> Pattern:
        place = self.places.token(token_of(tree), inside)
        try:
            pattern = _pattern(tree)
            re.compile(pattern.to_regexp())
        except (re.error, OverflowError) as error:
            hint = r"regexps are those of Python's re; write \( for a parenthesis"
            raise self._error(f"malformed regexp: {getattr(error, 'msg', error)}", place, hint) from None
        except (GrammarError, ValueError) as error:
            reason = "malformed escape" if len(error.args) > 1 else str(error).partition("\n")[0]
            raise self._error(reason, place, r"escapes are those of Python; write \\ for a backslash") from None
        return pattern

    def _sequence(self, tree: Tree[Any], inside: str) -> None:
        """Lark puts neighbours together as they are: /a|b/ "c" would read as /a|bc/."""
        for part in tree.children if len(tree.children) > 1 else ():
            literal = _only_literal(part)
            if literal is None:
                continue
            token = token_of(literal)
            if token.endswith("/") and _has_bar(token):
                reason = f"Lark would take what stands next to {token} for a part of its first or last alternative"
                raise self._error(reason, self.places.token(token, inside), f"write /(?:{token[1:-1]})/")

    def _template(self, tree: Tree[Any], inside: str) -> None:
        name = tree.children[0].name
        place = self.places.use(name, inside)
        raise self._error(f"the template {name} cannot be part of a terminal", place, "write it out, or use a rule")

    def _alias(self, tree: Tree[Any], inside: str) -> None:
        raise self._error(f"-> in the terminal {inside}", self.places.definition(inside), "aliases are for rules")

    def _counts(self, tree: Tree[Any], inside: str) -> None:
        self.grammar.counts(tree, inside)

    # -- places

    def _culprit(self, tree: Tree[Any], inside: str) -> Span:
        """The string or regexp that is refused on its own too, or the only one, or else the whole definition."""
        literals = list(tree.find_data("literal"))
        for literal in literals if len(literals) > 1 else ():
            try:
                _texts(_pattern(literal))
            except ConstraintError:
                return self.places.token(token_of(literal), inside)
        only = literals[0] if len(literals) == 1 else None
        return self.places.definition(inside) if only is None else self.places.token(token_of(only), inside)

    def _error(self, reason: str, span: Span, hint: str) -> ConstraintError:
        return self.grammar.source.error(reason, span, hint)


_CHECKS: dict[str, Callable[[Terminals, Tree[Any], str], object]] = {
    "literal": Terminals._literal,
    "expansion": Terminals._sequence,
    "expr": Terminals._counts,
    "template_usage": Terminals._template,
    "alias": Terminals._alias,
}


def _pattern(tree: Tree[Any]) -> Pattern:
    """The regexp or string that Lark makes of a terminal's tree."""
    whole = tree if tree.data == "expansions" else _alone(tree)
    terminals, _, _ = Grammar([], [("TERMINAL", (whole, 0))], []).compile([], "*")
    return terminals[0].pattern


def _alone(tree: Tree[Any]) -> Tree[Any]:
    """The tree of a terminal that is one string, regexp or range."""
    return Tree("expansions", [Tree("expansion", [Tree("value", [tree])])])


def _only_literal(tree: Tree[Any]) -> Tree[Any] | None:
    """The string or regexp that a tree consists of, if there is nothing else."""
    while tree.data in ("expansions", "expansion", "value") and len(tree.children) == 1:
        if not isinstance(tree.children[0], Tree):
            return None
        tree = tree.children[0]
    return tree if tree.data == "literal" else None


def _has_bar(regexp: str) -> bool:
    """Does a regexp between slashes have alternatives outside of any group?"""
    depth = 0
    for token in _REGEXP_TOKENS.finditer(regexp):
        depth += (token["open"] is not None) - (token["close"] is not None)
        if token["bar"] and depth == 0:
            return True
    return False


def _texts(pattern: Pattern) -> Expression:
    regexp = pattern.to_regexp()
    return pattern_expression(regexp) if isinstance(pattern, PatternStr) else preferred(regexp)


# -- reserved keywords


def _without_keywords(terminal: Terminal, known: Mapping[str, Terminal]) -> Expression:
    """The texts of a regexp that are no string of the same or a higher priority, as a lexer would have it."""
    if isinstance(terminal.pattern, PatternStr):
        return terminal.texts
    automaton = _automaton(terminal.texts)
    strings = (k for k in known.values() if isinstance(k.pattern, PatternStr) and k.priority >= terminal.priority)
    taken = [string.texts for string in strings if _meet(automaton, string.texts)]
    if not taken:
        return terminal.texts
    left = Product(automaton, GrammarAutomaton(union(*taken)), difference=True)
    return NOTHING if left.start == DEAD else Embedded(left)


def _automaton(texts: Expression) -> Automaton:
    return texts.automaton if isinstance(texts, Embedded) else GrammarAutomaton(texts)


def _meet(automaton: Automaton, texts: Expression) -> bool:
    if isinstance(texts, Literal):
        return accepts(automaton, texts.text)
    return Product(automaton, GrammarAutomaton(texts)).start != DEAD
