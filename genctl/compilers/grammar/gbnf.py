r"""GBNF, the grammar notation of llama.cpp, as languages of bytes: sequences of code points in UTF-8.

    numbers = compile_gbnf('root ::= number ("," number)*\nnumber ::= [0-9]{1,9}')
    accepts(numbers, b"12,7")                                # True

A rule ends with its line, except inside parentheses, behind `::=` and beside `|`. What llama.cpp reads in a way that
hardly anyone means (a rule defined twice, an empty set, a line break inside quotes) is refused; so are tokens such as
`<think>`, since a language knows bytes only.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from genctl.automata.expressions import EMPTY, Call, Expression, Literal, concat, optional, repeat, union
from genctl.automata.pushdown import GrammarAutomaton
from genctl.compilers.characters import ALL, Characters, utf8
from genctl.compilers.grammar.source import Source, Span, build, nearest

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_BLANK = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_BLANK_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_ALTERNATIVE_BELOW = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*\|")
_LINE_END = re.compile(r"\r\n?|\n|\Z")
_TOKEN = re.compile(r"!?<[^>\r\n]*>?")
_RANGE = re.compile(r"-[^\]]")
_COUNTS = re.compile(r"\{\s*(?P<least>\d+)\s*(?P<open>,\s*(?P<most>\d+)?\s*)?\}")
_CODE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8}))")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "[": "[", "]": "]"}
_SIGNS: dict[str, Callable[[Expression], Expression]] = {
    "*": repeat,
    "+": partial(repeat, least=1),
    "?": optional,
}


def parse_gbnf(source: str, *, root: str = "root") -> tuple[Expression, dict[str, Expression]]:
    """The expression of the root rule and all rules by name.

    Raises ConstraintError with line, column and span of what is malformed, undefined or cannot be honoured.
    """
    return Call(root), _parsed(source, root).rules


def compile_gbnf(source: str, *, root: str = "root") -> GrammarAutomaton:
    """The texts of the root rule.

    Raises ConstraintError as `parse_gbnf` does, UnsatisfiableError if there is no finite text.
    """
    parser = _parsed(source, root)
    return build(parser.source, Call(root), parser.rules, parser.defined[root])


def _parsed(source: str, root: str) -> _Parser:
    parser = _Parser(Source(source))
    try:
        parser.grammar()
    except RecursionError:
        raise parser.source.too_deep() from None
    parser.check(root)
    return parser


class _Parser:
    """One pass from left to right; `at` is the character that is read next."""

    def __init__(self, source: Source) -> None:
        self.source, self.text, self.at = source, source.text, 0
        self.rules: dict[str, Expression] = {}
        self.defined: dict[str, Span] = {}
        self.used: dict[str, Span] = {}

    # -- rules

    def grammar(self) -> None:
        self.skip(_BLANK_LINES)
        while self.at < len(self.text):
            self.rule()
            self.skip(_BLANK_LINES)

    def rule(self) -> None:
        span = self.name("a rule: name ::= ...")
        name = self.text[slice(*span)]
        if name in self.defined:
            self.refuse(f"rule {name!r} is defined twice", span, "join the definitions with |, or rename one")
        self.defined[name] = span
        self.skip(_BLANK)
        if not self.text.startswith("::=", self.at):
            self.refuse(f"expected ::= behind the name {name!r}", self.here(), f"write {name} ::= ...")
        self.at += 3
        self.skip(_BLANK_LINES)
        self.rules[name] = self.alternatives(nested=False)
        if not _LINE_END.match(self.text, self.at):
            hints = {")": r'remove it, or write ")" for the character', "]": 'write "]" for the character'}
            hint = "put each rule on a line of its own, quote characters, and use parentheses for a rule of many lines"
            shown = self.text[self.at]
            self.refuse(f"unexpected {shown!r} in rule {name!r}", self.here(), hints.get(shown, hint))

    def check(self, root: str) -> None:
        """Are the root and everything that is used defined?"""
        for name, span in self.used.items():
            if name not in self.rules:
                hint = nearest(name, self.rules) or f'add a rule {name} ::= ..., or quote it: "{name}"'
                self.refuse(f"rule {name!r} is used but not defined", span, hint)
        if root not in self.rules:
            hint = nearest(root, self.rules) or f"add a rule {root} ::= ..., or name another one: root=..."
            self.refuse(f"the grammar has no rule {root!r}", self.source.whole, hint)

    # -- expressions

    def alternatives(self, *, nested: bool) -> Expression:
        found = [self.sequence(nested)]
        while self.text.startswith("|", self.at) or self.alternative_below():
            self.at += 1
            self.skip(_BLANK_LINES)
            found.append(self.sequence(nested))
        return union(*found)

    def alternative_below(self) -> bool:
        """Does one of the next lines begin with |, which no rule can begin with? Then go there."""
        below = _ALTERNATIVE_BELOW.match(self.text, self.at)
        if below:
            self.at = below.end() - 1
        return below is not None

    def sequence(self, nested: bool) -> Expression:
        parts: list[Expression] = []
        while self.at < len(self.text):
            item = _ITEMS.get(self.text[self.at])
            if item is None and not _NAME.match(self.text, self.at):
                break
            part = item(self) if item else self.reference()
            parts.append(self.repeated(part, nested))
        if not parts and self.text[self.at : self.at + 1] in ("*", "+", "?", "{"):
            self.refuse("nothing to repeat", self.here(), f'put something before it, or write "{self.text[self.at]}"')
        return concat(*parts)

    def repeated(self, part: Expression, nested: bool) -> Expression:
        """The part with the repetitions behind it; a second one repeats the first."""
        blank = _BLANK_LINES if nested else _BLANK
        self.skip(blank)
        while (sign := self.text[self.at : self.at + 1]) in ("*", "+", "?", "{"):
            if sign == "{":
                part = repeat(part, *self.counts())
            else:
                part = _SIGNS[sign](part)
                self.at += 1
            self.skip(blank)
        return part

    def counts(self) -> tuple[int, int | None]:
        counts = _COUNTS.match(self.text, self.at)
        if counts is None:
            span = self.at, self.line_end("}")
            self.refuse("this repetition has no counts", span, "write {2}, {2,} or {2,5}; {0,5} for at most five")
        least = int(counts["least"])
        most = int(counts["most"]) if counts["most"] else None if counts["open"] else least
        if most is not None and least > most:
            self.refuse(f"at least {least} and at most {most} times", counts.span(), "write {least,most}")
        self.at = counts.end()
        return least, most

    # -- items

    def reference(self) -> Expression:
        span = self.name("a rule name")
        name = self.text[slice(*span)]
        self.used.setdefault(name, span)
        return Call(name)

    def group(self) -> Expression:
        opening = self.here()
        self.at += 1
        self.skip(_BLANK_LINES)
        body = self.alternatives(nested=True)
        if self.at == len(self.text):
            self.refuse("this group is not closed", opening, 'close it with ), or write "(" for the character')
        if self.text[self.at] != ")":
            shown = f"unexpected {self.text[self.at]!r} in a group"
            self.refuse(shown, self.here(), "close the group with ), and quote characters")
        self.at += 1
        return body

    def literal(self) -> Expression:
        opening = self.at
        self.at += 1
        text = ""
        while not self.text.startswith('"', self.at):
            text += self.character(opening, "literal", 'close it with "; write \\n for a line break')
        self.at += 1
        return Literal(text.encode()) if text else EMPTY

    def character_set(self) -> Expression:
        opening = self.at
        hint = "close it with ]; write \\] for the bracket and \\n for a line break"
        self.at += 1
        negated = self.text.startswith("^", self.at)
        self.at += negated
        ranges: list[tuple[int, int]] = []
        while not self.text.startswith("]", self.at):
            start = self.at
            low = high = self.character(opening, "set", hint)
            if _RANGE.match(self.text, self.at):
                self.at += 1
                high = self.character(opening, "set", hint)
            if low > high:
                self.refuse(f"the range {low!r} to {high!r} is empty", (start, self.at), "write it from low to high")
            ranges.append((ord(low), ord(high)))
        self.at += 1
        if not ranges:
            self.refuse("a set without characters", (opening, self.at), "list characters, or write . for any one")
        characters = Characters.of(ranges)
        return utf8(~characters if negated else characters)

    def any_character(self) -> Expression:
        self.at += 1
        return utf8(ALL)

    def token(self) -> NoReturn:
        token = _TOKEN.match(self.text, self.at)
        if token is None:
            self.refuse("unexpected '!'", self.here(), 'quote it: "!"')
        reason = f"{token[0]} names a token of a model's vocabulary, and a language knows text only"
        self.refuse(reason, token.span(), 'write the text of the token as a literal, as in "<think>"')

    # -- characters

    def character(self, opening: int, kind: str, hint: str) -> str:
        """One character of a literal or a set that began at `opening`."""
        shown = self.text[self.at : self.at + 1]
        if shown in ("", "\n", "\r"):
            self.refuse(f"this {kind} is not closed on its line", (opening, self.at), hint)
        start = self.at
        self.at += 1
        if shown == "\\":
            shown = self.escaped(start)
        if 0xD800 <= ord(shown) <= 0xDFFF:
            self.refuse("a lone surrogate is not a character", (start, self.at), r"write the character: \U0001F600")
        return shown

    def escaped(self, start: int) -> str:
        code = _CODE.match(self.text, start)
        if code is None:
            letter = self.text[self.at : self.at + 1]
            if letter not in _ESCAPES:
                hint = r"there are \n \r \t \\ \" \[ \] \xHH \uHHHH \UHHHHHHHH; write \\ for a backslash"
                self.refuse(f"the escape \\{letter} is not in GBNF", (start, self.at + len(letter)), hint)
            self.at += 1
            return _ESCAPES[letter]
        self.at = code.end()
        value = int(code[1] or code[2] or code[3], 16)
        if value > 0x10FFFF:
            self.refuse(f"{code[0]} is beyond the last character", code.span(), r"the last one is \U0010FFFF")
        return chr(value)

    # -- places

    def name(self, expected: str) -> Span:
        name = _NAME.match(self.text, self.at)
        if name is None:
            shown = repr(self.text[self.at])
            self.refuse(f"expected {expected}, found {shown}", self.here(), "names have letters, digits, - and _")
        self.at = name.end()
        return name.span()

    def skip(self, blank: re.Pattern[str]) -> None:
        match = blank.match(self.text, self.at)
        assert match is not None, "blanks match the empty text"
        self.at = match.end()

    def here(self) -> Span:
        return self.at, min(self.at + 1, len(self.text))

    def line_end(self, last: str) -> int:
        """Behind the next `last` on this line, or the end of the line."""
        line = self.text[self.at :].partition("\n")[0]
        found = line.find(last)
        return self.at + (len(line) if found < 0 else found + 1)

    def refuse(self, reason: str, span: Span, hint: str) -> NoReturn:
        raise self.source.error(reason, span, hint)


_ITEMS: dict[str, Callable[[_Parser], Expression]] = {
    '"': _Parser.literal,
    "[": _Parser.character_set,
    "(": _Parser.group,
    ".": _Parser.any_character,
    "<": _Parser.token,
    "!": _Parser.token,
}
