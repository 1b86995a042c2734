"""Deterministic automata for expressions and grammars: subset construction over states and stacks.

    list_ = concat(Literal(b"["), optional(Call("list")), Literal(b"]"))
    automaton = GrammarAutomaton(Call("list"), {"list": list_})
    accepts(automaton, b"[[[]]]")                            # True

A configuration is a set of items, an item an NFA state with the stack to return to. Stacks are graph-structured
(Tomita 1985; Scott & Johnstone 2010): a stack is the set of its possible top frames, a frame is where to go on,
how many rounds of a loop are done, and the stack below it. Everything is hash-consed, so equal configurations are
one int. Without calls and counted loops this is the ordinary lazy determinisation of an NFA.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeAlias

from genctl.automata.base import DEAD, UNREACHABLE, Automaton
from genctl.automata.expressions import Expression
from genctl.automata.lazy import LazyAutomaton
from genctl.automata.nfa import NFA, Guard, Jump, Loop, Run
from genctl.errors import ConstraintError

# A demand on the rest of the text: (automaton, its state, negated).
Demands: TypeAlias = frozenset[tuple[Automaton, int, bool]]
NO_DEMANDS: Demands = frozenset()
BOTTOM = -1  # the frame below every stack: the text itself ends here


class Item(NamedTuple):
    """An NFA state, the state of the embedded automaton it runs (DEAD if none), and what the rest must obey."""

    state: int
    inner: int
    demands: Demands


class Configuration(NamedTuple):
    """items with their stacks, sorted; the states of the look-behind automata; may the text end here."""

    items: tuple[tuple[Item, int], ...]
    behind: tuple[int, ...]
    accepting: bool
    universal: bool


class _Call:
    """A stack node under construction: a body that is entered at the current position of the text."""

    __slots__ = ("ended", "frames", "frozen")

    def __init__(self) -> None:
        self.frames: dict[tuple[int, int], set[int | _Call]] = {}  # (NFA state, rounds) -> stacks below
        self.ended: set[Demands] = set()  # the body can be empty, with these demands
        self.frozen: int | None = None


_Stack: TypeAlias = "int | _Call"


class GrammarAutomaton(LazyAutomaton[Configuration]):
    """The language of an expression over the named rules, right recursion without growing stacks.

    Raises ConstraintError for an undefined rule and for left recursion.
    """

    def __init__(self, start: Expression, rules: Mapping[str, Expression] | None = None) -> None:
        self._nfa = NFA(start, rules or {})
        self.exact_bound = not self._nfa.guarded
        self._tail = [_is_tail(self._nfa, q) for q in range(len(self._nfa.moves))]
        self._stacks: list[dict[tuple[int, int], int]] = [{(BOTTOM, 0): 0}]
        self._stack_ids: dict[tuple[tuple[int, int, int], ...], int] = {((BOTTOM, 0, 0),): 0}
        self._stack_lengths = [0]
        _refuse_left_recursion(self._nfa)
        behind = tuple(automaton.start for automaton in self._nfa.behinds)
        entry = Item(self._nfa.entry, DEAD, NO_DEMANDS)
        super().__init__(self._nfa.byte_classes(), _Closure(self, behind).configuration([(entry, 0)]))

    # -- LazyAutomaton

    def _successor(self, key: Configuration, byte: int) -> Configuration | None:
        behind = tuple(a.step(s, byte) for a, s in zip(self._nfa.behinds, key.behind, strict=True))
        moved: list[tuple[Item, _Stack]] = []
        closure = _Closure(self, behind)
        for item, stack in key.items:
            demands = _step_demands(item.demands, byte)
            if demands is None:
                continue
            for membership, target in self._nfa.moves[item.state]:
                if membership[byte]:
                    moved.append((Item(target, DEAD, demands), stack))
            op = self._nfa.instructions[item.state]
            if isinstance(op, Run) and (inner := op.automaton.step(item.inner, byte)) != DEAD:
                moved.append((Item(item.state, inner, demands), stack))
        return closure.configuration(moved)

    def _accepts(self, key: Configuration) -> bool:
        return key.accepting

    def _universal(self, key: Configuration) -> bool:
        return key.universal

    def _bound(self, key: Configuration) -> int:
        if key.accepting:
            return 0
        return min((self._item_length(item, stack) for item, stack in key.items), default=UNREACHABLE)

    # -- lengths: fewest bytes to the end of the text

    def _item_length(self, item: Item, stack: int) -> int:
        """A lower bound; exact without look-around."""
        op = self._nfa.instructions[item.state]
        if isinstance(op, Run):
            here = op.automaton.distance(item.inner) + self._nfa.length[op.target]
        else:
            here = self._nfa.length[item.state]
        total = here + self._stack_lengths[stack]
        for automaton, state, negated in item.demands:
            if not negated:
                total = max(total, automaton.distance(state))
        return min(total, UNREACHABLE)

    def _frame_length(self, state: int, rounds: int, below: int) -> int:
        if state == BOTTOM:
            return 0
        op, lengths = self._nfa.instructions[state], self._nfa.length
        here = lengths[state]
        if isinstance(op, Loop):
            missing = max(op.least - rounds - 1, 0)
            here = (missing * lengths[op.entry] if missing else 0) + lengths[op.target]
        return min(here + self._stack_lengths[below], UNREACHABLE)

    # -- stacks

    def frames(self, stack: int) -> Iterable[tuple[int, int, int]]:
        """(NFA state, rounds done, stack below) of each top frame."""
        return ((state, rounds, below) for (state, rounds), below in self._stacks[stack].items())

    def join(self, stacks: Iterable[int]) -> int:
        """The stack whose top frames are those of any of the stacks."""
        different = set(stacks)
        if len(different) == 1:
            return different.pop()
        grouped: dict[tuple[int, int], set[int]] = {}
        for stack in different:
            for top, below in self._stacks[stack].items():
                grouped.setdefault(top, set()).add(below)
        return self.stack({top: self.join(below) for top, below in grouped.items()})

    def stack(self, frames: dict[tuple[int, int], int]) -> int:
        """The interned stack with these top frames, each over its stack below."""
        key = tuple(sorted((state, rounds, below) for (state, rounds), below in frames.items()))
        known = self._stack_ids.get(key)
        if known is None:
            known = self._stack_ids[key] = len(self._stacks)
            self._stacks.append(frames)
            self._stack_lengths.append(min(self._frame_length(*frame) for frame in key))
        return known

    def is_tail(self, state: int) -> bool:
        return self._tail[state]

    @property
    def nfa(self) -> NFA:
        return self._nfa


class _Closure:
    """All items reachable without reading a byte: Generalised LL's descriptors, for one position of the text."""

    def __init__(self, owner: GrammarAutomaton, behind: tuple[int, ...]) -> None:
        self._owner, self._nfa, self._behind = owner, owner.nfa, behind
        self._stacks: dict[Item, set[_Stack]] = {}
        self._work: list[tuple[Item, _Stack]] = []
        self._calls: dict[tuple[int, Demands], _Call] = {}
        self._ends: set[Demands] = set()

    def configuration(self, items: Iterable[tuple[Item, _Stack]]) -> Configuration | None:
        for item, stack in items:
            self._add(item, stack)
        while self._work:
            self._visit(*self._work.pop())
        return self._freeze()

    def _add(self, item: Item, stack: _Stack) -> None:
        if self._nfa.length[item.state] == UNREACHABLE:
            return
        stacks = self._stacks.setdefault(item, set())
        if stack not in stacks:
            stacks.add(stack)
            self._work.append((item, stack))

    def _visit(self, item: Item, stack: _Stack) -> None:
        q, demands = item.state, item.demands
        for target in self._nfa.empty[q]:
            self._add(Item(target, DEAD, demands), stack)
        if self._nfa.final[q]:
            self._end(stack, demands)
        match self._nfa.instructions[q]:
            case Jump(rule, target):
                entry = self._nfa.rules[rule]
                if self._owner.is_tail(target):
                    self._add(Item(entry, DEAD, demands), stack)
                else:
                    self._call(entry, (target, 0), stack, demands)
            case Loop() as loop:
                self._round(q, loop, 0, stack, demands)
            case Run(automaton, target):
                self._run(item, automaton, target, stack)
            case Guard() as guard:
                kept = self._guard(guard, demands)
                if kept is not None:
                    self._add(Item(guard.target, DEAD, kept), stack)

    def _round(self, q: int, loop: Loop, done: int, stack: _Stack, demands: Demands) -> None:
        """`done` rounds of the loop at q are read: leave it, or begin another round."""
        if done >= loop.least or q in self._nfa.nullable_loops:
            self._add(Item(loop.target, DEAD, demands), stack)
        if loop.most is None:
            self._call(loop.entry, (q, min(done, loop.least)), stack, demands)
        elif done < loop.most:
            self._call(loop.entry, (q, done), stack, demands)

    def _call(self, entry: int, top: tuple[int, int], below: _Stack, demands: Demands) -> None:
        call = self._calls.setdefault((entry, demands), _Call())
        stacks = call.frames.setdefault(top, set())
        if below in stacks:
            return
        stacks.add(below)
        self._add(Item(entry, DEAD, demands), call)
        for ended in list(call.ended):
            self._return(top, below, ended, empty=True)

    def _end(self, stack: _Stack, demands: Demands) -> None:
        """A body, a rule or the text itself ends here."""
        if isinstance(stack, _Call):
            if demands not in stack.ended:
                stack.ended.add(demands)
                for top, stacks in list(stack.frames.items()):
                    for below in list(stacks):
                        self._return(top, below, demands, empty=True)
            return
        for state, rounds, below in self._owner.frames(stack):
            if state == BOTTOM:
                self._ends.add(demands)
            else:
                self._return((state, rounds), below, demands, empty=False)

    def _return(self, top: tuple[int, int], below: _Stack, demands: Demands, *, empty: bool) -> None:
        q, rounds = top
        loop = self._nfa.instructions[q]
        if not isinstance(loop, Loop):
            self._add(Item(q, DEAD, demands), below)
        elif not empty:  # an empty round adds nothing: the loop could be left before it
            self._round(q, loop, rounds + 1, below, demands)

    def _run(self, item: Item, automaton: Automaton, target: int, stack: _Stack) -> None:
        inner = item.inner
        if inner == DEAD:
            if automaton.start != DEAD:
                self._add(item._replace(inner=automaton.start), stack)
        elif automaton.accepts(inner):
            self._add(Item(target, DEAD, item.demands), stack)

    def _guard(self, guard: Guard, demands: Demands) -> Demands | None:
        """The demands after passing the guard, None where it does not let pass."""
        automaton, negated = guard.automaton, guard.negated
        if guard.behind is not None:
            return demands if automaton.accepts(self._behind[guard.behind]) != negated else None
        return _demand(demands, automaton, automaton.start, negated)

    # -- from nodes under construction to interned stacks

    def _freeze(self) -> Configuration | None:
        owner, nfa = self._owner, self._nfa
        found: list[tuple[Item, int]] = []
        for item, stacks in self._stacks.items():
            running = isinstance(nfa.instructions[item.state], Run) and item.inner != DEAD
            if nfa.moves[item.state] or running:
                found.append((item, owner.join(self._frozen(stack) for stack in stacks)))
        ended = any(_satisfied_at_end(demands) for demands in self._ends)
        if ended and any(nfa.everything[i.state] and s == 0 and not i.demands for i, s in found):
            # From here on every text is accepted, whatever else is still possible.
            found = [(i, s) for i, s in found if nfa.everything[i.state] and s == 0 and not i.demands][:1]
            return Configuration(tuple(found), self._behind, True, True)
        if not found and not ended:
            return None
        found.sort(key=_order)
        return Configuration(tuple(found), self._behind, ended, False)

    def _frozen(self, stack: _Stack) -> int:
        if isinstance(stack, int):
            return stack
        if stack.frozen is None:
            frames = {top: self._owner.join(map(self._frozen, below)) for top, below in stack.frames.items()}
            stack.frozen = self._owner.stack(frames)
        return stack.frozen


def _order(entry: tuple[Item, int]) -> tuple[int, int, list[tuple[int, int, bool]], int]:
    item, stack = entry
    demands = sorted((id(automaton), state, negated) for automaton, state, negated in item.demands)
    return item.state, item.inner, demands, stack


def _demand(demands: Demands, automaton: Automaton, state: int, negated: bool) -> Demands | None:
    """Add a demand; None if it can never be met, unchanged if it is met whatever follows."""
    if state == DEAD or automaton.universal(state):
        met = (state == DEAD) == negated
        return demands if met else None
    return demands | {(automaton, state, negated)}


def _step_demands(demands: Demands, byte: int) -> Demands | None:
    kept = NO_DEMANDS
    for automaton, state, negated in demands:
        stepped = _demand(kept, automaton, automaton.step(state, byte), negated)
        if stepped is None:
            return None
        kept = stepped
    return kept


def _satisfied_at_end(demands: Demands) -> bool:
    return all(automaton.accepts(state) != negated for automaton, state, negated in demands)


def _is_tail(nfa: NFA, q: int) -> bool:
    """Does q do nothing but end its body? Then a call that returns to q needs no frame."""
    seen: set[int] = set()
    while q not in seen:
        seen.add(q)
        if nfa.moves[q] or nfa.instructions[q] is not None or len(nfa.empty[q]) != (not nfa.final[q]):
            return False
        if nfa.final[q]:
            return True
        q = nfa.empty[q][0]
    return False


def _refuse_left_recursion(nfa: NFA) -> None:
    """A rule that can call itself before it reads a byte would need an endless stack."""
    names = {entry: name for name, entry in nfa.rules.items()}
    calls = {name: _first_calls(nfa, entry) for name, entry in nfa.rules.items()}
    done: set[str] = set()
    for root in calls:
        path: list[str] = []
        work: list[tuple[str, bool]] = [(root, False)]
        while work:
            name, leaving = work.pop()
            if leaving:
                path.remove(name)
                done.add(name)
            elif name in path:
                raise ConstraintError(
                    f"rule {name!r} is left-recursive: " + " -> ".join([*path[path.index(name) :], name])
                )
            elif name not in done:
                path.append(name)
                work.append((name, True))
                work.extend((names[entry], False) for entry in calls[name])


def _first_calls(nfa: NFA, entry: int) -> set[int]:
    """Entries of the rules that can be called from entry before a byte is read."""
    seen, work, found = {entry}, [entry], set()
    while work:
        q = work.pop()
        targets = list(nfa.empty[q])
        match nfa.instructions[q]:
            case Jump(rule, target):
                found.add(nfa.rules[rule])
                targets += [target] if nfa.length[nfa.rules[rule]] == 0 else []
            case Loop(body, least, _, target):
                targets += [body] + ([target] if least == 0 or nfa.length[body] == 0 else [])
            case Run(automaton, target):
                targets += [target] if automaton.accepts(automaton.start) else []
            case Guard(target=target):
                targets.append(target)
        for target in targets:
            if target not in seen:
                seen.add(target)
                work.append(target)
    return found
