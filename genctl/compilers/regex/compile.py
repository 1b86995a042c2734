r"""Regular expressions, in the syntax and with the meaning of Python's `re`, as languages of bytes.

    date = compile_regex(r"\d{4}-[01]\d-[0-3]\d")           # a text is in it when re.fullmatch finds a match
    pattern_expression(r"^\p{Lu}", encode=json_string, search=True, dialect="ecma")

The standard library parses (so its syntax and its errors are ours) and says which characters a class holds (so its
Unicode tables and case folding are ours); here its tree becomes an expression. Laziness changes which match is found,
not whether there is one; back-references and atomic groups do change that, and are refused where no expression is
exactly as strict.

Look-around is a demand on all of the text before, or on all of the rest. Inside a look-ahead the text before its
start is out of sight, inside a look-behind the text after its end: `Side` keeps count, and what depends on the other
side of the edge is decided there, outside, once for each possible answer (`Facts`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from math import inf
from re import _constants as c  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple
from typing import Literal as Choice

from genctl.automata.base import DEAD, Automaton
from genctl.automata.expressions import (
    EMPTY,
    NOTHING,
    Ahead,
    Behind,
    Concat,
    Embedded,
    Everything,
    Expression,
    Literal,
    Union,
    concat,
    is_plain,
    optional,
    repeat,
    union,
)
from genctl.automata.pushdown import GrammarAutomaton
from genctl.automata.tabulated import intersection
from genctl.compilers.characters import ALL, Encoder, utf8
from genctl.compilers.regex import ecma
from genctl.compilers.regex.classes import NEWLINE, WORD_NODE, Node, characters_of
from genctl.compilers.regex.sight import (
    EDGE,
    END,
    LAST_LINE_END,
    LINE_END,
    LINE_START,
    START,
    TEXT,
    Beside,
    Facts,
    Far,
    Items,
    Look,
    Near,
    Scope,
    Side,
    answer,
    flagged,
    in_loop,
    ungrouped,
    width,
)
from genctl.compilers.regex.source import Refusal, constructs, printable
from genctl.errors import ArgumentError, ConstraintError, UnsatisfiableError

NO_NODE: Node = (None, None)

MAX_MET = 2**20  # transitions of a table of what look-around at the edges leaves
MAX_FACTS = 6  # things beyond one look-around's edge that may matter: each doubles the cases
_IGNORED_FLAGS = re.DEBUG | getattr(re, "TEMPLATE", 0)
_TOO_DEEP = ("the pattern is nested too deeply", None, "use fewer groups inside groups")


def compile_regex(pattern: str | re.Pattern[str], flags: int = 0) -> GrammarAutomaton:
    """The texts (as UTF-8) for which `re.fullmatch(pattern, text, flags)` finds a match.

    Raises ConstraintError with the span of what is malformed or not regular, UnsatisfiableError if there is no text.
    """
    if isinstance(pattern, re.Pattern):
        if flags:
            raise ArgumentError("a compiled pattern has its own flags: give flags to re.compile instead")
        flags, pattern = pattern.flags, pattern.pattern
    expression = pattern_expression(pattern, flags, alone=True)
    try:
        automaton = GrammarAutomaton(expression)
    except ConstraintError as error:  # too large or too deep; the automaton knows no places
        span = (0, len(pattern))
        raise ConstraintError(error.reason, source=printable(pattern), span=span, hint=error.hint) from None
    if automaton.start == DEAD:
        raise UnsatisfiableError(
            "no text matches the pattern",
            source=pattern,
            span=(0, len(pattern)),
            hint="look for anchors or look-around that contradict each other",
        )
    return automaton


def pattern_expression(
    pattern: str,
    flags: int = 0,
    *,
    encode: Encoder = utf8,
    search: bool = False,
    dialect: Choice["python", "ecma"] = "python",
    alone: bool = False,
) -> Expression:
    """The texts that match all of the pattern (search: that contain a match), each character written by `encode`.

    alone: does its look-around see nothing beyond these texts, whatever they become a part of? flags: those of `re`;
    none with the dialect "ecma" (ECMA-262 with the u flag, as in JSON Schema).
    Raises ConstraintError with the span in `pattern` for what is malformed or cannot be honoured exactly.
    """
    source = _source(pattern, flags, dialect)
    try:
        tree = _parse(source)
        translator = _Translator(encode, source.ecma, tree.state)
        rest = translator.anything if search else None
        whole = translator.framed(tree, Scope(tree.state.flags, TEXT, TEXT), translator.frame(rest, rest))
    except Refusal as refusal:
        raise _located(refusal, source, tree) from None
    except RecursionError:
        raise source.error(*_TOO_DEEP) from None
    try:
        return _met_at_once(whole) if alone else whole
    except ConstraintError as error:  # automata know no places
        raise source.error(error.reason, None, error.hint or "") from None


def _met_at_once(whole: Expression) -> Expression:
    """The same, where look-ahead at the very beginning and look-behind at the very end are demands on all of the text:
    intersections, which know where they can no longer be completed.
    """
    if isinstance(whole, Union):
        return union(*map(_met_at_once, whole.parts))
    parts = whole.parts if isinstance(whole, Concat) else (whole,)
    first = next((i for i, part in enumerate(parts) if not isinstance(part, Ahead)), len(parts))
    last = next((i for i in range(len(parts), first, -1) if not isinstance(parts[i - 1], Behind)), first)
    inside, around = concat(*parts[first:last]), (*parts[:first], *parts[last:])
    if not around or not is_plain(inside):
        return whole
    met: Automaton = GrammarAutomaton(inside)
    for part in around:
        assert isinstance(part, Ahead | Behind)
        met = intersection(met, part.automaton, difference=part.negated, limit=MAX_MET)
    return NOTHING if met.start == DEAD else Embedded(met)


# -- source text


class _Source(NamedTuple):
    """What was given, and the same in Python's syntax."""

    given: str
    python: str
    flags: int
    rewritten: ecma.Rewritten | None

    @property
    def ecma(self) -> bool:
        return self.rewritten is not None

    def error(self, reason: str, span: tuple[int, int] | None, hint: str) -> ConstraintError:
        """span: in the Python syntax."""
        if span is None:
            span = (0, len(self.given))
        elif self.rewritten is not None:
            span = self.rewritten.origin(span)
        return ConstraintError(reason, source=printable(self.given), span=span, hint=hint)


def _source(pattern: str, flags: int, dialect: str) -> _Source:
    if not isinstance(pattern, str):
        raise ConstraintError(f"a pattern must be str, not {type(pattern).__name__}", hint="decode a bytes pattern")
    if dialect == "python":
        if flags & re.LOCALE:
            raise ConstraintError("re.LOCALE is not supported", source=pattern, hint="use re.ASCII or no flag")
        return _Source(pattern, pattern, int(flags) & ~int(_IGNORED_FLAGS), None)
    if dialect != "ecma":
        raise ArgumentError(f"dialect must be 'python' or 'ecma', not {dialect!r}")
    if flags:
        raise ArgumentError("the dialect 'ecma' takes no flags")
    rewritten = ecma.rewrite(pattern)
    return _Source(pattern, rewritten.python, int(re.ASCII), rewritten)


# How to go on after an error of re's parser, by a part of its message.
_HINTS = {
    "unterminated character set": r"close the set with ], or write \[ for a bracket",
    "unterminated subpattern": r"close the group with ), or write \( for a parenthesis",
    "unbalanced parenthesis": r"write \) for a parenthesis",
    "nothing to repeat": r"put something before the quantifier, or write \* for the character",
    "multiple repeat": "group the first repetition: (?:a*){2}",
    "bad escape": r"write \\ for a backslash",
    "bad character range": r"write \- for a hyphen, and ranges from low to high",
    "min repeat greater": "write {least,most}",
    "global flags not at the start": "write (?i:...) for a part of the pattern",
    "unknown extension": r"write \( for a parenthesis",
    "repetition number is too large": "leave the upper bound out: {2,}",
    "incompatible": "give one of re.ASCII and re.UNICODE",
}


def _parse(source: _Source) -> Any:
    try:
        return _parser.parse(source.python, source.flags)
    except (re.error, OverflowError, ValueError) as error:
        reason = str(getattr(error, "msg", error))
        position = getattr(error, "pos", None)
        quoted = reason.rpartition(" ")[2]  # as in "bad escape \\q"
        length = len(quoted) if source.python.startswith(quoted, position) else 1
        span = None if position is None else (position, min(position + length, len(source.python)))
        hint = next((hint for part, hint in _HINTS.items() if part in reason), "see the syntax of Python's re module")
        raise source.error(reason, span, hint) from None


_KINDS = {
    c.POSSESSIVE_REPEAT: "possessive",
    c.ATOMIC_GROUP: "atomic",
    c.ASSERT: "look",
    c.ASSERT_NOT: "look",
}


def _located(refusal: Refusal, source: _Source, tree: Any) -> ConstraintError:
    """The refusal with its span: the n-th construct of a kind in the tree is the n-th in the text."""
    spans = constructs(source.python, bool(tree.state.flags & re.VERBOSE)).get(refusal.kind, [])
    nodes = [av for op, av in _walk(tree) if _KINDS.get(op) == refusal.kind]
    index = next((i for i, av in enumerate(nodes) if av is refusal.node), 0)
    return source.error(refusal.reason, spans[index] if index < len(spans) else None, refusal.hint)


def _walk(items: Iterable[Node]) -> Iterator[Node]:
    """All nodes in the order of the text: groups where they open, possessive quantifiers where they stand."""
    for op, av in items:
        if op is not c.POSSESSIVE_REPEAT:
            yield op, av
        for child in _children(av):
            yield from _walk(child)
        if op is c.POSSESSIVE_REPEAT:
            yield op, av


def _children(argument: object) -> Iterator[Items]:
    if isinstance(argument, _parser.SubPattern):
        yield argument
    elif isinstance(argument, (tuple, list)):
        for part in argument:
            yield from _children(part)


class Frame(NamedTuple):
    """What stands before and after a whole pattern: the entry in use of two lists that get stricter downwards.

    A leading or trailing anchor of the pattern moves to a stricter entry instead of becoming a look-around. A list
    with one entry has no edge of the text at that side: there anchors stay where they are.
    """

    heads: tuple[Expression, ...]  # START, LINE, ANY
    tails: tuple[Expression, ...]
    head: int
    tail: int


# Anchors at the edge of a whole pattern: the entry of Frame.heads or Frame.tails that they allow at most.
_LEADING = {c.AT_BEGINNING: 0, c.AT_BEGINNING_STRING: 0, c.AT_BEGINNING_LINE: 1}
_TRAILING = {c.AT_END_STRING: 0, c.AT_END: 1, c.AT_END_LINE: 2}


class _Translator:
    """From re's tree to an expression. Equal look-around is one automaton."""

    def __init__(self, encode: Encoder, ecma: bool, state: Any) -> None:
        self.encode, self.ecma, self.state = encode, ecma, state
        self.anything = repeat(encode(ALL))
        self._automata: dict[Expression, GrammarAutomaton] = {}
        self._around: list[Any] = []  # the bodies of the look-arounds that are being translated

    # -- whole patterns

    def frame(self, before: Expression | None, after: Expression | None) -> Frame:
        """The frame of a whole text: with any text before or after the match (None: without)."""
        newline = self.encode(NEWLINE)
        heads = [EMPTY, EMPTY if before is None else optional(concat(before, newline)), before or EMPTY]
        ends = EMPTY if after is None else optional(newline)
        lines = EMPTY if after is None else optional(concat(newline, after))
        tails = [EMPTY, ends, lines, after or EMPTY]
        return Frame(tuple(heads), tuple(tails), len(heads) - 1, len(tails) - 1)

    def framed(self, items: Items, scope: Scope, frame: Frame) -> Expression:
        """The items between head and tail of the frame."""
        bodies: dict[tuple[int, int], list[Expression]] = {}
        for part, inner, outer in self._branches(items, scope, frame):
            if len(frame.heads) > 1 and frame.heads[outer.head] == EMPTY:
                inner = inner._replace(before=EDGE)
            if len(frame.tails) > 1 and frame.tails[outer.tail] == EMPTY:
                inner = inner._replace(after=EDGE)
            bodies.setdefault((outer.head, outer.tail), []).append(self.sequence(part, inner))
        return union(*(concat(frame.heads[i], union(*b), frame.tails[j]) for (i, j), b in bodies.items()))

    def _branches(self, items: Items, scope: Scope, frame: Frame) -> Iterator[tuple[Items, Scope, Frame]]:
        """The alternatives of a whole pattern without the anchors at their edges."""
        head, tail = frame.head, frame.tail
        while (entry := _anchor(items[:1], scope, _LEADING, frame.heads)) is not None:
            items, head = items[1:], min(head, entry)
        while (entry := _anchor(items[-1:], scope, _TRAILING, frame.tails)) is not None:
            items, tail = items[:-1], min(tail, entry)
        frame = frame._replace(head=head, tail=tail)
        op, av = items[0] if len(items) == 1 else NO_NODE
        if op is c.BRANCH:
            for branch in av[1]:
                yield from self._branches(branch, scope, frame)
        elif op is c.SUBPATTERN:
            yield from self._branches(av[3], flagged(scope, av), frame)
        else:
            yield items, scope, frame

    # -- sequences and nodes

    def sequence(self, items: Items, scope: Scope) -> Expression:
        return _joined([RULES[op](self, (op, av), here) for (op, av), here in self._placed(items, scope)])

    def _placed(self, items: Items, scope: Scope) -> Iterator[tuple[Node, Scope]]:
        """Each item with the scope in which it stands: what can be seen grows with the items in between."""
        limited = scope.left.facts is not None or scope.right.facts is not None
        widths = [(0.0, 0.0), *(map(self._item_width, items) if limited else ()), (0.0, 0.0)]
        for i, item in enumerate(items):
            before = Beside(items, i, scope.flags, True, scope.before)
            after = Beside(items, i + 1, scope.flags, False, scope.after)
            here = scope._replace(before=before, after=after)
            if limited:
                left, right = (map(sum, zip(*side, strict=True)) for side in (widths[: i + 1], widths[i + 2 :]))
                here = here._replace(left=scope.left.moved(*left), right=scope.right.moved(*right))
            yield item, here

    def _item_width(self, node: Node) -> tuple[float, float]:
        return width(_parser.SubPattern(self.state, [node]))

    def character(self, node: Node, scope: Scope) -> Expression:
        return self.encode(characters_of(node, scope.flags))

    def group(self, node: Node, scope: Scope) -> Expression:
        return self.sequence(node[1][3], flagged(scope, node[1]))

    def branch(self, node: Node, scope: Scope) -> Expression:
        return union(*(self.sequence(part, scope) for part in node[1][1]))

    def repetition(self, node: Node, scope: Scope) -> Expression:
        least, most, body = node[1]
        inner = scope if most == 1 else in_loop(scope, body)
        return repeat(self.sequence(body, inner), least, None if most is c.MAXREPEAT else most)

    def possessive(self, node: Node, scope: Scope) -> Expression:
        """Rounds of one width: as many as there are, which is to say that no further round follows, or `most`."""
        least, most, body = node[1]
        low, high = width(body)
        if low != high:
            hint = "use a plain quantifier; a possessive one needs a body of fixed width"
            raise Refusal("possessive", node[1], "this possessive quantifier cannot be honoured exactly", hint)
        if least == most or high == 0:
            return self.repetition(node, scope)
        fewer = (c.MAX_REPEAT, (least, c.MAXREPEAT if most is c.MAXREPEAT else most - 1, body))
        before = Beside((fewer,), 1, scope.flags, True, scope.before)
        after = scope._replace(left=scope.left.moved(least * low, inf), before=before)
        stopped = self.look(Far(False, body, scope.flags, True), after)
        exhausted = NOTHING if most is c.MAXREPEAT else self.repetition((c.MAX_REPEAT, (most, most, body)), scope)
        return union(concat(self.repetition(fewer, scope), stopped), exhausted)

    def atomic(self, node: Node, scope: Scope) -> Expression:
        """Harmless where every match has one width, or all but a greedy last repetition has."""
        items = list(node[1])
        low, high = width(node[1])
        if low == high:
            return self.sequence(items, scope)
        *init, (op, av) = ungrouped(items)
        fixed = all(a == b for a, b in map(self._item_width, init))
        if not fixed or op not in (c.MAX_REPEAT, c.POSSESSIVE_REPEAT) or len(set(width(av[2]))) > 1:
            hint = "use (?:...); an atomic group needs a fixed width, or a greedy repetition at its end"
            raise Refusal("atomic", node[1], "this atomic group cannot be honoured exactly", hint)
        return self.sequence([*init, (c.POSSESSIVE_REPEAT, av)], scope)

    def back_reference(self, node: Node, scope: Scope) -> Expression:
        hint = "repeat the pattern of the group, or check the text with a predicate"
        raise Refusal("backreference", None, "a back-reference is not a regular language", hint)

    def conditional(self, node: Node, scope: Scope) -> Expression:
        raise Refusal("conditional", None, "a conditional group is not supported", "write both cases out: ab|c")

    def failure(self, node: Node, scope: Scope) -> Expression:
        return NOTHING

    # -- anchors and look-around

    def anchor(self, node: Node, scope: Scope) -> Expression:
        code = _at(node[1], scope.flags)
        rule = _BOUNDARIES.get(code)
        return self.look(_ANCHORS[code], scope) if rule is None else rule(self, scope)

    def boundary(self, scope: Scope) -> Expression:
        r"""\b: a word character on exactly one side."""
        before, after = self._word_sides(scope)
        return union(
            concat(self.look(before, scope), self.look(after.flip(), scope)),
            concat(self.look(before.flip(), scope), self.look(after, scope)),
        )

    def no_boundary(self, scope: Scope) -> Expression:
        r"""\B: a word character on both sides or on neither; not in the empty text where re has it so."""
        before, after = self._word_sides(scope)
        both = concat(self.look(before, scope), self.look(after, scope))
        neither = [self.look(before.flip(), scope), self.look(after.flip(), scope)]
        if not self.ecma and re.fullmatch(r"\B", "") is None:
            neither.append(union(self.look(START.flip(), scope), self.look(END.flip(), scope)))
        return union(both, concat(*neither))

    def _word_sides(self, scope: Scope) -> tuple[Near, Near]:
        word = characters_of(WORD_NODE, scope.flags & ~re.IGNORECASE)
        return Near(True, word, False), Near(False, word, False)

    def look_around(self, node: Node, scope: Scope) -> Expression:
        op, (direction, body) = node
        behind, negated = direction < 0, op is c.ASSERT_NOT
        low, high = width(body)
        if behind and low != high and not self.ecma:
            raise Refusal("look", node[1], "look-behind requires a fixed width", "use alternatives of one width")
        self._around.append(node[1])
        try:
            return self.look(_simplified(Far(behind, body, scope.flags, negated)), scope)
        finally:
            self._around.pop()

    def look(self, look: Look, scope: Scope) -> Expression:
        """The demand, with what lies beyond an edge taken from the facts."""
        side = scope.left if look.behind else scope.right
        known = answer(look, scope) if isinstance(look, Near) else None
        if known is not None:
            return EMPTY if known else NOTHING
        if side.facts is None or side.least >= look.depth:
            return self._near(look) if isinstance(look, Near) else self._far(look, scope)
        if side.most == 0:
            return EMPTY if side.facts.holds(look) else NOTHING
        if isinstance(look, Near):
            return self._near(replace(look, edge=side.facts.holds(look)))
        reason = "this look-around depends on text on both sides of its edge"
        raise Refusal("look", self._around[0], reason, "move what is inside of it to the outside, or use a predicate")

    def _near(self, look: Near) -> Expression:
        plain, negated = look.plain()
        one = self.encode(plain.characters)
        language = concat(self.anything, one) if look.behind else concat(one, Everything())
        return self._guard(look.behind, union(EMPTY, language) if plain.edge else language, negated)

    def _far(self, look: Far, scope: Scope) -> Expression:
        """One case for each possible answer to what the body asks about the other side of its edge."""
        facts = Facts()
        edge = Side(0, 0, facts)
        low, high = width(look.body)
        if look.behind:
            inner = Scope(look.flags, scope.left.shortened(low, high), edge, after=scope.after)
            frame = self.frame(self.anything, None)._replace(tails=(EMPTY,), tail=0)
        else:
            inner = Scope(look.flags, edge, scope.right.shortened(low, high), before=scope.before)
            frame = self.frame(None, Everything())._replace(heads=(EMPTY,), head=0)
        frame = _blinded(frame, inner)
        language = self.framed(look.body, inner, frame)
        if not facts:
            return self._guard(look.behind, language, look.negated)
        if len(facts) > MAX_FACTS:
            reason = f"this look-around depends on more than {MAX_FACTS} conditions beyond its edge"
            raise Refusal("look", self._around[-1], reason, "split it into several")
        cases = []
        questions = tuple(facts)
        for answers in product((False, True), repeat=len(questions)):
            facts.update(zip(questions, answers, strict=True))
            here = [self.look(q if yes else q.flip(), scope) for q, yes in zip(questions, answers, strict=True)]
            language = self.framed(look.body, inner, frame)
            cases.append(concat(*here, self._guard(look.behind, language, look.negated)))
        return union(*cases)

    def _guard(self, behind: bool, language: Expression, negated: bool) -> Expression:
        if language in (NOTHING, Everything(), self.anything):
            return EMPTY if (language == NOTHING) == negated else NOTHING
        automaton = self._automata.get(language)
        if automaton is None:
            automaton = self._automata[language] = GrammarAutomaton(language)
        return (Behind if behind else Ahead)(automaton, negated)


RULES: dict[Any, Callable[[_Translator, Node, Scope], Expression]] = {
    c.LITERAL: _Translator.character,
    c.NOT_LITERAL: _Translator.character,
    c.ANY: _Translator.character,
    c.IN: _Translator.character,
    c.BRANCH: _Translator.branch,
    c.SUBPATTERN: _Translator.group,
    c.MAX_REPEAT: _Translator.repetition,
    c.MIN_REPEAT: _Translator.repetition,
    c.POSSESSIVE_REPEAT: _Translator.possessive,
    c.ATOMIC_GROUP: _Translator.atomic,
    c.AT: _Translator.anchor,
    c.ASSERT: _Translator.look_around,
    c.ASSERT_NOT: _Translator.look_around,
    c.GROUPREF: _Translator.back_reference,
    c.GROUPREF_EXISTS: _Translator.conditional,
    c.FAILURE: _Translator.failure,
}
_BOUNDARIES: dict[Any, Callable[[_Translator, Scope], Expression]] = {
    c.AT_BOUNDARY: _Translator.boundary,
    c.AT_NON_BOUNDARY: _Translator.no_boundary,
}
_ANCHORS: dict[Any, Look] = {
    c.AT_BEGINNING: START,
    c.AT_BEGINNING_STRING: START,
    c.AT_BEGINNING_LINE: LINE_START,
    c.AT_END: LAST_LINE_END,
    c.AT_END_STRING: END,
    c.AT_END_LINE: LINE_END,
}


def _simplified(look: Far) -> Look:
    """A look at one character is a Near."""
    if len(look.body) != 1 or RULES[look.body[0][0]] is not _Translator.character:
        return look
    near = Near(look.behind, characters_of(look.body[0], look.flags), False)
    return near.flip() if look.negated else near


def _at(code: Any, flags: int) -> Any:
    return c.AT_MULTILINE.get(code, code) if flags & re.MULTILINE else code


def _anchor(edge: Items, scope: Scope, table: dict[Any, int], entries: Sequence[Expression]) -> int | None:
    """The entry that the one node at the edge allows, if it is an anchor and the text may have its edge there."""
    if len(edge) == 0 or edge[0][0] is not c.AT or len(entries) == 1:
        return None
    return table.get(_at(edge[0][1], scope.flags))


def _blinded(frame: Frame, scope: Scope) -> Frame:
    """No edge of the text where the scope cannot see that far."""
    if scope.left.facts is not None:
        frame = frame._replace(heads=frame.heads[-1:], head=0)
    if scope.right.facts is not None:
        frame = frame._replace(tails=frame.tails[-1:], tail=0)
    return frame


def _joined(parts: Sequence[Expression]) -> Expression:
    """The parts one after the other, neighbouring literals as one."""
    whole = concat(*parts)
    if not isinstance(whole, Concat):
        return whole
    joined: list[Expression] = []
    for part in whole.parts:
        if joined and isinstance(joined[-1], Literal) and isinstance(part, Literal):
            joined[-1] = Literal(joined[-1].text + part.text)
        else:
            joined.append(part)
    return concat(*joined)
