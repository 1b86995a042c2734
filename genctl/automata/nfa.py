"""Nondeterministic automata over bytes, built from expressions back to front.

    nfa = NFA(Repeat(Bytes(((0x61, 0x7A),)), 1, 5), rules={})
    nfa.nodes[nfa.bodies[0]]               # what can happen where texts begin

A *node* is all that can happen at a place of a text before its next byte is read: byte moves to other nodes,
*operations* (enter a rule or a counted loop, run an embedded automaton, check a look-around), the end. An expression
is built from the node that follows it, so places with the same future are one node and there are no empty moves.
Rules and loops are *bodies* that put a frame on a stack (pushdown.py), so `.{0,10000}` is a handful of nodes, and the
same nodes serve every caller of a rule.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, reduce
from operator import or_
from typing import Any, NamedTuple, TypeAlias, cast

from genctl.automata.base import Automaton
from genctl.automata.expressions import (
    ANY_BYTE,
    EMPTY,
    NOTHING,
    Ahead,
    Behind,
    Bytes,
    Call,
    Concat,
    Embedded,
    Everything,
    Expression,
    Literal,
    Repeat,
    Row,
    Tracked,
    Union,
    Words,
)
from genctl.errors import ConstraintError
from genctl.kernels.configurations import EVERYTHING, FINAL

DEPTH = 4_000  # Python calls: a group inside a group takes a few
PIECE = 16  # bytes of a literal that are built at once
INLINE_PARTS = 64  # a counted loop whose rounds have at most so many parts together is written out
GUARDED_COPIES = 2_000  # rounds of a body with look-around are always written out: empty ones are not all alike
MAX_NODES = 2_200_000
WIDE = 64  # different first bytes
MAX_OVERLAID = 20  # bytes that alternatives begin with alike


class Jump(NamedTuple):
    """Read a text of the body, then go on at the node target."""

    body: int
    target: int


class Loop(NamedTuple):
    """Read the body least to most times (None: without bound), then go on at target."""

    body: int
    least: int
    most: int | None
    target: int


class Run(NamedTuple):
    """Read a text of the automaton, then go on at target."""

    automaton: Automaton
    target: int


class Guard(NamedTuple):
    """Go on at target if the automaton (not, if negated) accepts the rest of the text, or the text so far."""

    automaton: Automaton
    negated: bool
    behind: int | None  # number of the look-behind automaton; None for a look-ahead
    target: int


class Track(NamedTuple):
    """Go on at target, the words reading along from here."""

    words: Words
    inside: bool
    target: int


class Release(NamedTuple):
    """Go on at target if a word (or, not inside, none) has just been spelled; the words read no further."""

    target: int


Operation: TypeAlias = Jump | Loop | Run | Guard | Track | Release
ByteSet: TypeAlias = int  # bit b is set for byte b
# Moves (node, the bytes that lead there), operations, flags, and further nodes whose content this one has too: loops
# that are still being built.
Node: TypeAlias = tuple[tuple[tuple[int, ByteSet], ...], tuple[int, ...], int, tuple[int, ...]]

_BYTE: list[ByteSet] = [1 << byte for byte in range(256)]
END: Node = (), (), FINAL, ()
END_NUMBER = 0
DEAD_END: Node = (), (), 0, ()


class Base:
    """Rules that many grammars begin with: their nodes are built once."""

    def __init__(self, rules: Mapping[str, Expression]) -> None:
        self.rules = dict(rules)
        self.nfa = nfa = NFA(EMPTY, rules)
        nfa.rules |= {f"%{body}": body for body in range(1 + len(rules), len(nfa.bodies))}  # its loops


class LayeredRules(dict[str, Expression]):
    """The rules of a base, then further ones."""

    def __init__(self, base: Base, own: dict[str, Expression]) -> None:
        super().__init__(base.rules | own)
        self.base = base


class NFA:
    """nodes by number; bodies: the node where each begins, the whole text being body 0."""

    nodes: list[Node]
    operations: list[Operation]
    behinds: list[Automaton]  # of look-behind
    bodies: list[int]
    rules: dict[str, int]  # the bodies of the named rules
    empty_rules: set[str]  # those that have the empty text, which no look-around need let through
    _numbers: dict[Node, int]
    _operation_numbers: dict[Operation, int]
    # What became of expressions, by their identity; the expressions themselves are kept so that it stays theirs.
    _unions: dict[tuple[int, Node], tuple[Expression, Node]]
    _pieces: dict[tuple[bytes, int], int]
    _loops: dict[int, tuple[Expression, int]]
    _traits: dict[int, tuple[Expression, bool, bool]]

    def __init__(self, start: Expression, rules: Mapping[str, Expression], *, spread: bool = False) -> None:
        """spread: write counted loops out, so that no body is called from inside a loop."""
        self._spread = spread
        self.base = rules.base if isinstance(rules, LayeredRules) and not spread else None
        begun = _BLANK if self.base is None else vars(self.base.nfa)
        vars(self).update({name: begun[name].copy() for name in _BLANK})
        self._unsettled: list[int] = []
        self._begun: set[str] = set()  # rules that are being built
        self._open_hubs: set[int] = set()  # whose content is not known yet
        own = {name: rule for name, rule in rules.items() if name not in self.rules}
        self.rules |= {name: body for body, name in enumerate(own, start=len(self.bodies))}
        self.bodies += [END_NUMBER] * len(own)
        depth = sys.getrecursionlimit()
        sys.setrecursionlimit(max(depth, DEPTH))
        try:
            self._find_empty_rules(own)
            self._waiting = own  # rules that are not begun yet
            for name in list(own):
                self._build_rule(name)
            self.bodies[0] = self._number(self._build(start, END))
        except RecursionError:
            raise ConstraintError("the rule is nested too deeply", hint="use fewer groups inside groups") from None
        finally:
            sys.setrecursionlimit(depth)
        self.settle(self._unsettled)

    @property
    def guarded(self) -> bool:
        """Does it use look-around? Then lengths are only lower bounds."""
        return any(isinstance(op, Guard) for op in self.operations)

    @property
    def loop_bodies(self) -> dict[int, Expression]:
        """What the bodies of loops were built from."""
        return {body: expression for expression, body in self._loops.values()}

    def _find_empty_rules(self, rules: Mapping[str, Expression]) -> None:
        """The rules that have the empty text (which no look-around need let through)."""
        waiting = list(rules)
        while True:
            before = len(self.empty_rules)
            waiting.reverse()  # callees mostly come later
            for name in waiting:
                if has_empty(rules[name], self.empty_rules):
                    self.empty_rules.add(name)
            if len(self.empty_rules) == before:
                return
            waiting = [name for name in waiting if name not in self.empty_rules]

    # -- nodes

    def reserve(self) -> int:
        """A node of its own, whose content is set later."""
        return self._new(DEAD_END)

    def settle(self, waiting: Iterable[int]) -> None:
        """Give these nodes the content of those whose content they have too."""
        waiting = [number for number in waiting if self.nodes[number][3]]
        whole = []
        for number in waiting:
            found = [number]
            for other in found:  # it grows
                found += [further for further in self.nodes[other][3] if further not in found]
            moves, operations, flags, _ = either(*(self.nodes[other] for other in found))
            whole.append((moves, operations, flags, ()))
        for number, node in zip(waiting, whole, strict=True):
            self.nodes[number] = node

    def operation(self, operation: Operation) -> Node:
        """The node where just this can happen."""
        number = self._operation_numbers.get(operation)
        if number is None:
            number = self._operation_numbers[operation] = len(self.operations)
            self.operations.append(operation)
        return (), (number,), 0, ()

    def _number(self, node: Node) -> int:
        known = self._numbers.get(node)
        if known is None:
            known = self._numbers[node] = self._new(node)
        return known

    def _new(self, node: Node) -> int:
        number = len(self.nodes)
        if number >= MAX_NODES:
            raise _too_large()
        self.nodes.append(node)
        if node[3]:
            self._unsettled.append(number)
        return number

    def _hub(self) -> tuple[int, Node]:
        """A node to which its own content leads back: its number, and what stands for it until it is closed."""
        number = self.reserve()
        self._open_hubs.add(number)
        node = (), (), 0, (number,)
        self._numbers[node] = number
        return number, node

    def _close(self, hub: int, node: Node) -> Node:
        self._open_hubs.remove(hub)
        moves, operations, flags, waits = node
        waits = tuple(number for number in waits if number != hub)
        node = self.nodes[hub] = moves, operations, flags, waits
        if waits:
            self._unsettled.append(hub)
            return (), (), 0, (hub,)
        self._numbers.setdefault(node, hub)
        return node

    def _build_rule(self, name: str) -> None:
        expression = self._waiting.pop(name, None)
        if expression is not None:
            self._begun.add(name)
            self.bodies[self.rules[name]] = self._number(self._build(expression, END))
            self._begun.remove(name)

    # -- `_build(expression, after)` is the node that reads the expression and goes on like the node after

    def _build(self, expression: Expression, after: Node) -> Node:
        build = _BUILD.get(type(expression))
        if build is None:
            raise TypeError(f"{expression!r} is not an expression")
        return build(self, expression, after)

    def _bytes(self, expression: Bytes, after: Node) -> Node:
        return ((self._number(after), byte_set(expression.ranges)),), (), 0, ()

    def _literal(self, expression: Literal, after: Node) -> Node:
        """Texts that end alike share the nodes of whole pieces."""
        text = expression.text
        if not text:
            return after
        target, end = self._number(after), len(text)
        while end > 1:
            begin = max(end - PIECE, 1)
            piece = text[begin:end], target
            known = self._pieces.get(piece)
            if known is None:
                known = self._pieces[piece] = self._piece(*piece)
            target, end = known, begin
        return ((target, _BYTE[text[0]]),), (), 0, ()

    def _piece(self, text: bytes, target: int) -> int:
        """The node that reads the text and goes on at target."""
        nodes, number = self.nodes, len(self.nodes)
        for byte in reversed(text):
            nodes.append((((target, _BYTE[byte]),), (), 0, ()))
            target, number = number, number + 1
        if number > MAX_NODES:
            raise _too_large()
        return target

    def _concat(self, expression: Concat, after: Node) -> Node:
        for part in reversed(expression.parts):
            after = self._build(part, after)
        return after

    def _union(self, expression: Union, after: Node) -> Node:
        """Known where the same object comes before the same node again, as the tails of characters often do."""
        known = self._unions.get((id(expression), after))
        if known is None:
            known = self._unions[id(expression), after] = expression, self._new_union(expression, after)
        return known[1]

    def _new_union(self, expression: Union, after: Node) -> Node:
        texts = [part.text for part in expression.parts if type(part) is Literal]
        found = [self._build(part, after) for part in expression.parts if type(part) is not Literal]
        found += self._texts(texts, after)
        if any(type(part) is Call and part.here for part in expression.parts):
            return reduce(self._overlaid, found)
        return either(*found)

    def _overlaid(self, first: Node, second: Node, depth: int = 0) -> Node:
        """What can happen at either of the nodes; bytes with which both begin are read once."""
        if first[3] or second[3] or depth == MAX_OVERLAID:
            return either(first, second)
        moves = list(second[0])
        for move in first[0]:
            target, bytes_ = move
            for at, (other, read) in enumerate(moves):
                if read == bytes_ and self._open_hubs.isdisjoint((target, other)):
                    both = self._overlaid(self.nodes[target], self.nodes[other], depth + 1)
                    moves[at] = self._number(both), bytes_
                    break
            else:
                moves.append(move)
        return _moving(moves), _sorted(first[1] + second[1]), first[2] | second[2], ()

    def _texts(self, texts: list[bytes], after: Node) -> list[Node]:
        """Alternatives that share their beginnings: 10,000 words cost one node a byte of their prefix tree."""
        if len(texts) <= 1:
            return [self._literal(Literal(text), after) for text in texts]
        tree: list[dict[int, int]] = [{}]
        ends: set[int] = set()
        for text in texts:
            place = 0
            for byte in text:
                child = tree[place].get(byte)
                if child is None:
                    child = tree[place][byte] = len(tree)
                    tree.append({})
                place = child
            ends.add(place)
        nodes = [after] * len(tree)
        for place in range(len(tree) - 1, -1, -1):  # children come after their parents
            ways: list[Node] = [
                (((self._number(nodes[child]), _BYTE[byte]),), (), 0, ()) for byte, child in tree[place].items()
            ]
            if ways:
                nodes[place] = either(*ways, after) if place in ends else either(*ways)
        return nodes[:1]

    def _repeat(self, expression: Repeat, after: Node) -> Node:
        body, least, most = expression.body, expression.least, expression.most
        if self._spread or not self._is_loop(body, least, most):
            return self._rounds(body, least, most, after)
        known = self._loops.get(id(body))
        if known is None:
            known = self._loops[id(body)] = body, len(self.bodies)
            self.bodies.append(END_NUMBER)
            self.bodies[known[1]] = self._number(self._build(body, END))
        if least and has_empty(body, self.empty_rules):
            least = 0
        loop = self.operation(Loop(known[1], least, most, self._number(after)))
        return either(loop, after) if least == 0 else loop

    def _is_loop(self, body: Expression, least: int, most: int | None) -> bool:
        """Is it a body of its own, instead of being written out?"""
        copies = least if most is None else most
        traits = self._traits.get(id(body))
        if traits is None:
            traits = self._traits[id(body)] = body, _looks_around(body), first_bytes(body).bit_count() >= WIDE
        _, around, wide = traits
        if around:
            return False
        if wide and most != 1:  # its masks are worth sharing
            return True
        return copies > 1 and (copies > INLINE_PARTS or not _parts(body, INLINE_PARTS // copies))

    def _rounds(self, body: Expression, least: int, most: int | None, after: Node) -> Node:
        """The loop written out, from the last round to the first."""
        if max(least, most or 0) > GUARDED_COPIES:
            what = "that is left-recursive" if self._spread else "with look-around"
            raise ConstraintError(
                f"a part {what} is repeated more than {GUARDED_COPIES:,} times",
                hint="take it out of the repeated part, or lower the bound",
            )
        if most is None:
            hub, again = self._hub()
            first = self._build(body, again)
            here = self._close(hub, either(first, after))
            for count in range(least):
                here = self._build(body, here) if count else first
            return here
        here = after
        for count in range(most - 1, -1, -1):
            here = self._build(body, here)
            if count >= least:
                here = either(here, after)
        return here

    def _call(self, expression: Call, after: Node) -> Node:
        if expression.rule not in self.rules:
            raise ConstraintError(f"rule {expression.rule!r} is used but not defined")
        if expression.here and after == END and expression.rule not in self._begun:
            self._build_rule(expression.rule)
            return self.nodes[self.bodies[self.rules[expression.rule]]]
        call = self.operation(Jump(self.rules[expression.rule], self._number(after)))
        return either(call, after) if expression.rule in self.empty_rules else call

    def _row(self, expression: Row, after: Node) -> Node:
        """From the last item to the first: what can come in the place of each."""
        here = None if expression.rest == NOTHING else self._build(expression.rest, after)
        for texts, value, ends, required in reversed(expression.items):
            ways = [after] if ends else []
            if here is not None:
                ways.append(self._build(expression.apart, here))
            inside = self._build(expression.between, self._build(value, either(*ways)))
            item = either(*(self._literal(Literal(text), inside) for text in texts))
            here = item if required or here is None else self._overlaid(item, here)
        return DEAD_END if here is None else here

    def _embedded(self, expression: Embedded, after: Node) -> Node:
        run = self.operation(Run(expression.automaton, self._number(after)))
        return either(run, after) if has_empty(expression, self.empty_rules) else run

    def _tracked(self, expression: Tracked, after: Node) -> Node:
        inside = self._build(expression.body, self.operation(Release(self._number(after))))
        return self.operation(Track(expression.words, expression.inside, self._number(inside)))

    def _ahead(self, expression: Ahead, after: Node) -> Node:
        return self.operation(Guard(expression.automaton, expression.negated, None, self._number(after)))

    def _behind(self, expression: Behind, after: Node) -> Node:
        if expression.automaton not in self.behinds:
            self.behinds.append(expression.automaton)
        column = self.behinds.index(expression.automaton)
        return self.operation(Guard(expression.automaton, expression.negated, column, self._number(after)))

    def _all(self, expression: Everything, after: Node) -> Node:
        hub, _ = self._hub()
        return self._close(hub, either((((hub, byte_set(ANY_BYTE.ranges)),), (), EVERYTHING, ()), after))


_BLANK: dict[str, Any] = {
    "nodes": [END],
    "operations": [],
    "behinds": [],
    "bodies": [END_NUMBER],
    "rules": {},
    "empty_rules": set(),
    "_numbers": {END: END_NUMBER},
    "_operation_numbers": {},
    "_unions": {},
    "_pieces": {},
    "_loops": {},
    "_traits": {},
}
_BUILD = cast(
    "dict[type, Callable[[NFA, Any, Node], Node]]",
    {
        Bytes: NFA._bytes,
        Literal: NFA._literal,
        Concat: NFA._concat,
        Union: NFA._union,
        Repeat: NFA._repeat,
        Call: NFA._call,
        Row: NFA._row,
        Embedded: NFA._embedded,
        Tracked: NFA._tracked,
        Ahead: NFA._ahead,
        Behind: NFA._behind,
        Everything: NFA._all,
    },
)


def either(*nodes: Node) -> Node:
    """The node where all can happen that can happen at any of the nodes."""
    if len(nodes) == 1:
        return nodes[0]
    if len(nodes) == 2 and not (nodes[0][0] and nodes[1][0]):  # most often one of them reads nothing
        first, second = nodes
        operations = _sorted(first[1] + second[1])
        return first[0] or second[0], operations, first[2] | second[2], _sorted(first[3] + second[3])
    all_moves: list[tuple[int, ByteSet]] = []
    all_operations: tuple[int, ...] = ()
    all_flags = 0
    all_waits: tuple[int, ...] = ()
    for moves, operations, flags, waits in nodes:
        all_moves += moves
        all_operations += operations
        all_flags |= flags
        all_waits += waits
    return _moving(all_moves), _sorted(all_operations), all_flags, _sorted(all_waits)


def _moving(moves: list[tuple[int, ByteSet]]) -> tuple[tuple[int, ByteSet], ...]:
    """In order of their targets, each of which is moved to once."""
    if len(moves) == 1:
        return (moves[0],)
    found: dict[int, ByteSet] = {}
    for target, bytes_ in moves:
        found[target] = found.get(target, 0) | bytes_
    return tuple(sorted(found.items()))


def _sorted(numbers: tuple[int, ...]) -> tuple[int, ...]:
    """In order and each once."""
    return tuple(sorted(set(numbers))) if len(numbers) > 1 else numbers


def _too_large() -> ConstraintError:
    return ConstraintError(f"the rule needs more than {MAX_NODES:,} states", hint="use a simpler rule")


@lru_cache(4096)
def byte_set(ranges: tuple[tuple[int, int], ...]) -> ByteSet:
    return sum((1 << (high + 1)) - (1 << low) for low, high in ranges)


# -- what expressions are like


def has_empty(expression: Expression, empty_rules: set[str]) -> bool:
    """Has it the empty text, as far as is known of the rules? (Look-around may let through at most.)"""
    match expression:
        case Call(rule):
            return rule in empty_rules
        case Literal(text):
            return not text
        case Concat(parts):
            return all(has_empty(part, empty_rules) for part in parts)
        case Union(parts):
            return any(has_empty(part, empty_rules) for part in parts)
        case Repeat(body, least):
            return least == 0 or has_empty(body, empty_rules)
        case Row(items, _, _, rest):
            return not any(item.required for item in items) and has_empty(rest, empty_rules)
        case Bytes():
            return False
        case Embedded(automaton):
            return automaton.distance(automaton.start) == 0
        case Tracked(body, words, inside):
            return words.shortest(inside) == 0 and has_empty(body, empty_rules)
    return isinstance(expression, Everything)


def first_bytes(expression: Expression) -> ByteSet:
    """Bytes that a text can begin with; none where that is not seen at once."""
    match expression:
        case Bytes(ranges):
            return byte_set(ranges)
        case Literal(text) if text:
            return 1 << text[0]
        case Concat(parts) if parts:
            return first_bytes(parts[0])
        case Union(parts):
            return reduce(or_, map(first_bytes, parts), 0)
    return 0


def _looks_around(expression: Expression) -> bool:
    match expression:
        case Ahead() | Behind():
            return True
        case Concat(parts) | Union(parts):
            return any(map(_looks_around, parts))
        case Repeat(body, _, _):
            return _looks_around(body)
    return False


def _parts(expression: Expression, limit: int) -> bool:
    """Has the expression at most limit parts (bytes, calls, ...)? Looks at no more than that many."""
    work, seen = [expression], 0
    while work and seen <= limit:
        match work.pop():
            case Concat(parts) | Union(parts):
                seen += 1
                work.extend(parts)
            case Repeat(body, least, most):
                work.append(body)
                seen += max(least, most or 0)
            case Literal(text):
                seen += len(text)
            case Row(items):
                seen += sum(len(text) for item in items for text in item.texts)
            case _:
                seen += 1
    return seen <= limit
