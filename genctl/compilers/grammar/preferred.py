r"""Which texts a terminal takes: those that `re.match` reads to their end.

    preferred(r"/\*.*?\*/")            # one comment; not "/* a */ b */", though re.fullmatch would take it

A lexer asks `re.match` at a place of the text, and again for each shorter piece of what that found. So the order of
alternatives and the laziness of `*?` decide which texts a terminal has: t belongs to it if the first way through the
pattern that succeeds on t reads all of t. The ways are kept as a list of threads in the order in which a
backtracking matcher would try them, cut behind the first that has reached the end of the pattern (Pike 1987; Cox
2009); the lists that can occur are the states of a small automaton over classes of characters.

Look-around is honoured where it cannot see beyond the terminal itself, and refused elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from re import _constants as c  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple, NoReturn, TypeAlias

from genctl.automata.expressions import EMPTY, Call, Embedded, Expression, concat, union
from genctl.automata.pushdown import GrammarAutomaton
from genctl.compilers.characters import NONE, Characters, utf8
from genctl.compilers.regex import pattern_expression
from genctl.compilers.regex.classes import characters_of
from genctl.compilers.regex.sight import TEXT, Items, Scope, flagged, width
from genctl.errors import ConstraintError

MAX_NODES = 100_000
MAX_STATES = 20_000


def preferred(pattern: str) -> Expression:
    """The texts t (as UTF-8) with `re.match(pattern, t).end() == len(t)`.

    Raises ConstraintError for what `re` cannot parse, what is not regular, and what depends on the text around t.
    """
    plain = pattern_expression(pattern)  # also says what is malformed or not regular
    tree = _parser.parse(pattern)
    program = _Builder(pattern, tree.state).program(tree)
    if not program.looks and _order_is_irrelevant(program):
        return plain
    return _right_linear(program)


# -- programs


class Read(NamedTuple):
    """One character, then on to target."""

    characters: Characters
    target: int


class Split(NamedTuple):
    """On to any of the targets, the first one preferred."""

    targets: tuple[int, ...]


class Round(NamedTuple):
    """Read the body once more, or leave; lazy: rather leave."""

    body: int
    leave: int
    lazy: bool


class RoundEnd(NamedTuple):
    """Behind a body that may be empty: a round that has read nothing is the last one, as `re` has it."""

    round: int
    following: int


class Look(NamedTuple):
    """On to target if the body (not, if negated) matches just before here, or (ahead) from here on."""

    number: int  # of the look-behind; -1 for a look-ahead
    body: int
    negated: bool
    target: int


Operation: TypeAlias = Read | Split | Round | RoundEnd | Look | None
END = 0  # the node behind the pattern, and behind the body of a look-around


class Program(NamedTuple):
    operations: list[Operation]
    entry: int
    looks: list[Look]

    @property
    def behinds(self) -> list[int]:
        """The entries of the look-behinds, by number."""
        return [look.body for look in self.looks if look.number >= 0]


class _Builder:
    """From re's tree to a program, the last item first: each item is built towards what follows it."""

    def __init__(self, pattern: str, state: Any) -> None:
        self.pattern, self.state = pattern, state
        self.operations: list[Operation] = [None]
        self.looks: list[Look] = []
        self.around = False

    def program(self, tree: Any) -> Program:
        entry = self.sequence(tree, _Context(self.state.flags, 0, 0), END)
        return Program(self.operations, entry, self.looks)

    def add(self, operation: Operation) -> int:
        if len(self.operations) >= MAX_NODES:
            self.refuse("the terminal is too large", "move its counted repetition into a rule, with ~ n..m")
        self.operations.append(operation)
        return len(self.operations) - 1

    def sequence(self, items: Items, context: _Context, target: int) -> int:
        widths = [int(width(_parser.SubPattern(self.state, [item]))[0]) for item in items]
        before, after = sum(widths), 0
        for (op, av), least in zip(reversed(list(items)), reversed(widths), strict=True):
            before -= least
            here = context._replace(before=context.before + before, after=context.after + after)
            target = _RULES.get(op, _Builder.refused)(self, (op, av), here, target)
            after += least
        return target

    def character(self, node: tuple[Any, Any], context: _Context, target: int) -> int:
        return self.add(Read(characters_of(node, context.flags), target))

    def group(self, node: tuple[Any, Any], context: _Context, target: int) -> int:
        flags = flagged(Scope(context.flags, TEXT, TEXT), node[1]).flags
        return self.sequence(node[1][3], context._replace(flags=flags), target)

    def branch(self, node: tuple[Any, Any], context: _Context, target: int) -> int:
        return self.add(Split(tuple(self.sequence(part, context, target) for part in node[1][1])))

    def repetition(self, node: tuple[Any, Any], context: _Context, target: int) -> int:
        least, most, body = node[1]
        lazy, empty = node[0] is c.MIN_REPEAT, width(body)[0] == 0
        entry = target
        for _ in range(1 if most is c.MAXREPEAT else most - least):
            this = self.add(None)
            following = this if most is c.MAXREPEAT else entry
            end = self.add(RoundEnd(this, following)) if empty else following
            self.operations[this] = Round(self.sequence(body, context, end), target, lazy)
            entry = this
        for _ in range(least):
            entry = self.sequence(body, context, entry)
        return entry

    def look(self, node: tuple[Any, Any], context: _Context, target: int) -> int:
        op, (direction, body) = node
        behind = direction < 0
        if self.around:
            self.refuse("look-around inside look-around in a terminal", "write the inner one next to the outer one")
        if width(body)[1] > (context.before if behind else context.after):
            side = "before" if behind else "behind"
            reason = f"this look-around can see the text {side} the terminal, which no terminal here can"
            self.refuse(reason, "write what may stand there into the rules; for keywords, ask for keywords='reserved'")
        self.around = True
        entry = self.sequence(body, _Context(context.flags, 0, 0), END)
        self.around = False
        number = len([look for look in self.looks if look.number >= 0]) if behind else -1
        self.looks.append(Look(number, entry, op is c.ASSERT_NOT, target))
        return self.add(self.looks[-1])

    def anchor(self, node: tuple[Any, Any], context: _Context, target: int) -> NoReturn:
        reason = "an anchor or word boundary sees the text around the terminal, which no terminal here can"
        self.refuse(reason, "leave it out; for words that are no names, ask for keywords='reserved'")

    def refused(self, node: tuple[Any, Any], context: _Context, target: int) -> NoReturn:
        name = str(node[0]).lower().replace("_", " ")
        self.refuse(f"{name} is not supported in a terminal", "use plain groups and quantifiers")

    def refuse(self, reason: str, hint: str) -> NoReturn:
        raise ConstraintError(reason, source=self.pattern, hint=hint)


class _Context(NamedTuple):
    """The flags that hold, and at least how many characters of the terminal stand before and behind here."""

    flags: int
    before: int
    after: int


_RULES: dict[Any, Callable[[_Builder, tuple[Any, Any], _Context, int], int]] = {
    **dict.fromkeys((c.LITERAL, c.NOT_LITERAL, c.ANY, c.IN), _Builder.character),
    c.SUBPATTERN: _Builder.group,
    c.BRANCH: _Builder.branch,
    c.MAX_REPEAT: _Builder.repetition,
    c.MIN_REPEAT: _Builder.repetition,
    c.ASSERT: _Builder.look,
    c.ASSERT_NOT: _Builder.look,
    c.AT: _Builder.anchor,
}


# -- reading: lists of threads, the preferred one first

Demand: TypeAlias = tuple[frozenset[int], bool]  # nodes of a look-ahead's body that wait for a character; negated
Demands: TypeAlias = frozenset[Demand]


class Thread(NamedTuple):
    """A node that waits for a character, and what the look-aheads on the way there still ask for."""

    node: int
    demands: Demands


class Body(NamedTuple):
    """The body of a look-around: the nodes that wait for a character, and does a match of it end here?"""

    nodes: frozenset[int]
    ended: bool


class State(NamedTuple):
    """The threads, preferred ones first; where each look-behind is; is the text so far one of the terminal's?"""

    threads: tuple[Thread, ...]
    behinds: tuple[Body, ...]
    accepting: bool


class Atom(NamedTuple):
    """Characters that the program cannot tell apart, and the character sets that they belong to."""

    characters: Characters
    sets: frozenset[Characters]


class _Reader:
    """Steps through a program, and remembers the steps."""

    def __init__(self, program: Program) -> None:
        self.operations, self.entries = program.operations, program.behinds
        self.atoms = _atoms(program)
        self.start = self._state([Thread(program.entry, frozenset())], [[] for _ in self.entries])
        self._steps: dict[tuple[State, Atom], State] = {}

    def step(self, state: State, atom: Atom) -> State:
        known = self._steps.get((state, atom))
        if known is None:
            known = self._steps[state, atom] = self._step(state, atom)
        return known

    def ways(self, nodes: Iterable[int], atom: Atom | None = None) -> Body:
        """All threads and ends that can be reached from the nodes (by a character of atom), whatever is preferred."""
        return self._body(nodes if atom is None else self._targets(nodes, atom))

    def _step(self, state: State, atom: Atom) -> State:
        seeds: list[Thread] = []
        for node, demands in state.threads:
            kept = self._kept(demands, atom)
            if kept is not None:
                seeds += [Thread(target, kept) for target in self._targets([node], atom)]
        return self._state(seeds, [self._targets(body.nodes, atom) for body in state.behinds])

    def _targets(self, nodes: Iterable[int], atom: Atom) -> list[int]:
        operations = (self.operations[node] for node in nodes)
        return [op.target for op in operations if isinstance(op, Read) and op.characters in atom.sets]

    def _state(self, seeds: list[Thread], behinds: list[list[int]]) -> State:
        """The closure of the threads. Each look-behind also begins anew at every place."""
        bodies = tuple(self._body([*nodes, entry]) for nodes, entry in zip(behinds, self.entries, strict=True))
        threads, accepting = self._closure(seeds, bodies, cut=True)
        return State(tuple(threads), bodies, accepting)

    def _body(self, nodes: Iterable[int]) -> Body:
        threads, ended = self._closure([Thread(node, frozenset()) for node in nodes], (), cut=False)
        return Body(frozenset(thread.node for thread in threads), ended)

    def _closure(self, seeds: list[Thread], bodies: tuple[Body, ...], *, cut: bool) -> tuple[list[Thread], bool]:
        """The threads that wait for a character, the preferred ones first, and was the end reached?

        cut: without those that are less preferred than a way that has reached the end.
        """
        threads: list[Thread] = []
        ended = False
        seen: set[Thread] = set()
        begun: set[int] = set()  # the rounds in which nothing was read yet, on the way to the thread at hand
        work: list[Thread | tuple[bool, int]] = list(reversed(seeds))
        while work:
            thread = work.pop()
            if not isinstance(thread, Thread):
                (begun.add if thread[0] else begun.discard)(thread[1])
                continue
            node, demands = thread
            op = self.operations[node]
            if isinstance(op, RoundEnd):
                leave = self._round(op.round).leave if op.round in begun else op.following
                work.append(Thread(leave, demands))
                continue
            if thread in seen:
                continue
            seen.add(thread)
            match op:
                case None:
                    ended = True
                    if cut:
                        break
                case Read():
                    threads.append(thread)
                case Split(targets):
                    work += [Thread(target, demands) for target in reversed(targets)]
                case Round(body, leave, lazy):
                    work += [] if lazy else [Thread(leave, demands)]
                    work += [(False, node), Thread(body, demands), (True, node)]
                    work += [Thread(leave, demands)] if lazy else []
                case Look(number, body, negated, target):
                    if number >= 0:
                        kept = demands if bodies[number].ended != negated else None
                    else:
                        kept = self._demanded(demands, self._body([body]), negated)
                    if kept is not None:
                        work.append(Thread(target, kept))
        return threads, ended

    def _round(self, node: int) -> Round:
        op = self.operations[node]
        assert isinstance(op, Round), "a round ends in its own body"
        return op

    def _kept(self, demands: Demands, atom: Atom) -> Demands | None:
        """The demands after one more character, None if one of them is not met."""
        kept: Demands | None = frozenset()
        for nodes, negated in demands:
            if kept is not None:
                kept = self._demanded(kept, self._body(self._targets(nodes, atom)), negated)
        return kept

    def _demanded(self, demands: Demands, body: Body, negated: bool) -> Demands | None:
        """The demands and one more, None if that can never be met, without it where it is met already."""
        if body.ended or not body.nodes:
            return demands if body.ended != negated else None
        return demands | {(body.nodes, negated)}


def _atoms(program: Program) -> list[Atom]:
    """The coarsest partition of the characters that any set of the program is a union of."""
    sets = {op.characters for op in program.operations if isinstance(op, Read)}
    changes: dict[int, set[Characters]] = {}
    for characters in sets:
        for low, high in characters.ranges:
            changes.setdefault(low, set()).add(characters)
            changes.setdefault(high + 1, set()).add(characters)
    ranges: dict[frozenset[Characters], list[tuple[int, int]]] = {}
    inside: frozenset[Characters] = frozenset()
    for low, following in pairwise(sorted(changes)):
        inside ^= changes[low]
        ranges.setdefault(inside, []).append((low, following - 1))
    return [Atom(Characters.of(found), sets) for sets, found in ranges.items() if sets]


# -- automata


WHOLE = -1  # in place of a node: the state itself


def _order_is_irrelevant(program: Program) -> bool:
    """Does the preferred way read every text that any way reads?

    Each thread that a state has lost is followed beside it, alone, until it dies, or the state has it again.
    """
    reader = _Reader(program)
    work = [(reader.start, node) for node in [WHOLE, *_lost(reader.start, reader.ways([program.entry]))]]
    seen = set(work)
    while work:
        state, node = work.pop()
        for atom in reader.atoms:
            following = reader.step(state, atom)
            ways = reader.ways([thread.node for thread in state.threads] if node == WHOLE else [node], atom)
            if ways.ended and not following.accepting:
                return False
            for pair in ((following, lost) for lost in [WHOLE, *_lost(following, ways)]):
                if pair not in seen:
                    _check_size(len(seen))
                    seen.add(pair)
                    work.append(pair)
    return True


def _lost(state: State, ways: Body) -> frozenset[int]:
    return ways.nodes.difference(thread.node for thread in state.threads)


def _right_linear(program: Program) -> Expression:
    """The preferred texts: one rule for each list of threads that can occur."""
    reader = _Reader(program)
    numbers = {reader.start: 0}
    rules: dict[str, Expression] = {}
    work = [reader.start]
    while work:
        state = work.pop()
        leads: dict[State, Characters] = {}
        for atom in reader.atoms:
            following = reader.step(state, atom)
            leads[following] = leads.get(following, NONE) | atom.characters
        for following in leads:
            if following not in numbers:
                _check_size(len(numbers))
                numbers[following] = len(numbers)
                work.append(following)
        ways = [concat(utf8(characters), Call(str(numbers[to]))) for to, characters in leads.items()]
        rules[str(numbers[state])] = union(*([EMPTY] if state.accepting else []), *ways)
    return Embedded(GrammarAutomaton(Call("0"), rules))


def _check_size(states: int) -> None:
    if states > MAX_STATES:
        raise ConstraintError(
            f"to find out which texts the terminal prefers takes more than {MAX_STATES:,} states",
            hint="move its counted repetition into a rule, with ~ n..m",
        )
