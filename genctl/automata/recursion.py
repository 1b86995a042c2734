"""Left recursion out of a nondeterministic automaton, its language unchanged: the left-corner transform.

    remove_left_recursion(nfa, cycle)      # expr: expr "+" term | term   ->   expr: term ("+" term)*

A body that can enter itself before it reads a byte would need an endless stack. For each such body, the *goal*, new
states are made: what can begin the goal without recursion, and for each body of the cycle that is complete, how it
can go on as the left corner of a bigger one (Rosenkrantz & Lewis 1970; Moore 2000), until the goal itself is
complete. That last state loops: its language L(h) obeys L(h) L(h) = L(h), and every state of the goal ends by it,
which `absorbing` tells the kernels, so that `S: S S | "a"` does not pile up frames.
"""

from __future__ import annotations

from collections.abc import Iterable

from genctl.automata.nfa import NFA, Guard, Jump, Loop, Operation, Release, Track
from genctl.automata.program import Graph
from genctl.errors import ConstraintError
from genctl.kernels import closure


def cycles(calls: list[list[int]]) -> list[list[int]]:
    """The sets of bodies that can enter each other without reading a byte: Tarjan's components."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    path: list[int] = []
    on_path: set[int] = set()
    found: list[list[int]] = []
    for root in range(len(calls)):
        if root in index:
            continue
        work: list[tuple[int, int]] = [(root, 0)]
        while work:
            body, at = work.pop()
            if at == 0:
                index[body] = low[body] = len(index)
                path.append(body)
                on_path.add(body)
            for position in range(at, len(calls[body])):
                callee = calls[body][position]
                if callee not in index:
                    work += [(body, position + 1), (callee, 0)]
                    break
                if callee in on_path:
                    low[body] = min(low[body], index[callee])
            else:
                if low[body] == index[body]:
                    component = path[path.index(body) :]
                    del path[len(path) - len(component) :]
                    on_path.difference_update(component)
                    if len(component) > 1 or body in calls[body]:
                        found.append(component)
                if work:
                    caller = work[-1][0]
                    low[caller] = min(low[caller], low[body])
    return found


def remove_left_recursion(nfa: NFA, graph: Graph, cycle: list[int]) -> dict[int, int]:
    """Rewrite the bodies of one cycle; returns which states absorb which.

    Raises ConstraintError where look-around or a counted loop stands in the way.
    """
    return _Rewriting(nfa, graph, cycle).rewrite()


class _Rewriting:
    """The states of the bodies are copied once for each goal."""

    def __init__(self, nfa: NFA, graph: Graph, cycle: list[int]) -> None:
        self._nfa, self._cycle = nfa, cycle
        self._entry = {body: nfa.bodies[body] for body in cycle}
        self._nullable = graph.nullable
        self._moves: dict[int, list[tuple[int, int]]] = {}
        self._empty: dict[int, list[int]] = {}
        for source, set_, target in nfa.moves:
            self._moves.setdefault(source, []).append((set_, target))
        for source, target in nfa.empty:
            self._empty.setdefault(source, []).append(target)
        self._operations = {op.state: op for op in nfa.operations}
        self._skipped = {
            op.state
            for op, row in zip(nfa.operations, graph.operations, strict=True)
            if closure.skips(row, graph.entry, graph.nullable)
        }
        self._finals = set(nfa.finals)
        self._heads = {body: self._without_reading(self._entry[body]) for body in cycle}
        self._insides = {body: self._inside(self._entry[body]) for body in cycle}

    def rewrite(self) -> dict[int, int]:
        absorbing: dict[int, int] = {}
        entries: dict[int, int] = {}
        for goal in self._cycle:
            entries[goal], states, hub = self._goal(goal)
            absorbing.update(dict.fromkeys(states, hub))
        for goal, entry in entries.items():
            self._nfa.bodies[goal] = entry
            if self._nullable[self._entry[goal]]:
                self._nfa.finals.append(entry)
        return absorbing

    def _without_reading(self, entry: int) -> list[int]:
        """States reached from entry by empty moves and by operations that read nothing."""
        seen, work = {entry: None}, [entry]
        while work:
            state = work.pop()
            targets = list(self._empty.get(state, ()))
            if state in self._skipped:
                targets.append(self._operations[state].target)
            for target in targets:
                if target not in seen:
                    seen[target] = None
                    work.append(target)
        return list(seen)

    def _inside(self, entry: int) -> list[int]:
        """The states of a body."""
        seen, work = {entry: None}, [entry]
        while work:
            state = work.pop()
            targets = [target for _, target in self._moves.get(state, ())]
            targets += self._empty.get(state, ())
            if state in self._operations:
                targets.append(self._operations[state].target)
            for target in targets:
                if target not in seen:
                    seen[target] = None
                    work.append(target)
        return list(seen)

    def _goal(self, goal: int) -> tuple[int, Iterable[int], int]:
        """(entry, states that absorb, state in which the goal is complete) of the states made for one goal."""
        nfa = self._nfa
        entry = nfa.add_state()
        complete = {body: nfa.add_state() for body in self._cycle}
        copy = {state: nfa.add_state() for body in self._cycle for state in self._insides[body]}
        nfa.finals.append(complete[goal])
        for body in self._cycle:
            for state in self._insides[body]:
                self._copy_state(state, copy[state], copy)
                if state in self._finals:
                    nfa.empty.append((copy[state], complete[body]))
        for corner in self._corners(goal):
            for state in self._heads[corner]:
                self._begin(state, entry, corner, complete, copy)
        return entry, [*copy.values(), *complete.values()], complete[goal]

    def _copy_state(self, state: int, source: int, copy: dict[int, int]) -> None:
        nfa = self._nfa
        nfa.moves.extend((source, set_, copy[target]) for set_, target in self._moves.get(state, ()))
        nfa.empty.extend((source, copy[target]) for target in self._empty.get(state, ()))
        if state in self._operations:
            self._operate(self._operations[state], source, copy)

    def _operate(self, op: Operation, source: int, copy: dict[int, int]) -> None:
        holder = self._nfa.add_state()
        self._nfa.empty.append((source, holder))
        self._nfa.operations.append(op._replace(state=holder, target=copy[op.target]))

    def _corners(self, goal: int) -> list[int]:
        """The bodies of the cycle that the goal can begin with, itself included."""
        seen, work = {goal: None}, [goal]
        while work:
            for state in self._heads[work.pop()]:
                op = self._operations.get(state)
                if isinstance(op, Jump) and op.body in self._entry and op.body not in seen:
                    seen[op.body] = None
                    work.append(op.body)
        return list(seen)

    def _begin(self, state: int, entry: int, corner: int, complete: dict[int, int], copy: dict[int, int]) -> None:
        """What can be read first in a left corner; a recursive call there goes on once its body is complete."""
        nfa = self._nfa
        nfa.moves.extend((entry, set_, copy[target]) for set_, target in self._moves.get(state, ()))
        op = self._operations.get(state)
        if isinstance(op, Guard | Track | Release):
            raise ConstraintError("look-around stands at the left of a left-recursive rule")
        if isinstance(op, Jump) and op.body in self._entry:
            nfa.empty.append((complete[op.body], copy[op.target]))
        elif op is not None:
            self._operate(op._replace(solid=True), entry, copy)  # what it skips to is another head


def in_a_loop(nfa: NFA, cycle: list[int]) -> bool:
    """Does the cycle lead through a counted loop?"""
    looped = {op.body for op in nfa.operations if isinstance(op, Loop)}
    return not looped.isdisjoint(cycle)
