"""Left recursion out of a nondeterministic automaton, its language unchanged: the left-corner transform.

    remove_left_recursion(nfa, cycle)      # expr: expr "+" term | term   ->   expr: term ("+" term)*

A body that can enter itself before it reads a byte would need an endless stack. For each such body, the *goal*, new
nodes are made: what can begin the goal without recursion, and for each body of the cycle that is complete, how it
can go on as the left corner of a bigger one (Rosenkrantz & Lewis 1970; Moore 2000), until the goal itself is
complete. That last node loops: its language L(h) obeys L(h) L(h) = L(h), and every node of the goal ends by it,
which `absorbing` tells the kernels, so that `S: S S | "a"` does not pile up frames.
"""

from __future__ import annotations

from collections.abc import Iterable

from genctl.automata.nfa import END_NUMBER, NFA, Guard, Jump, Loop, Node, Release, Track, either
from genctl.errors import ConstraintError
from genctl.kernels.configurations import FINAL


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


def remove_left_recursion(nfa: NFA, cycle: list[int]) -> dict[int, int]:
    """Rewrite the bodies of one cycle; returns which nodes absorb which.

    Raises ConstraintError where look-around or a counted loop stands in the way.
    """
    return _Rewriting(nfa, cycle).rewrite()


class _Rewriting:
    """The nodes of the bodies are copied once for each goal."""

    def __init__(self, nfa: NFA, cycle: list[int]) -> None:
        self._nfa, self._cycle = nfa, cycle
        self._entry = {body: nfa.bodies[body] for body in cycle}
        self._insides = {body: self._inside(self._entry[body]) for body in cycle}

    def rewrite(self) -> dict[int, int]:
        first = len(self._nfa.nodes)
        absorbing: dict[int, int] = {}
        entries: dict[int, int] = {}
        for goal in self._cycle:
            entries[goal], nodes, hub = self._goal(goal)
            absorbing.update(dict.fromkeys(nodes, hub))
        for goal, entry in entries.items():
            self._nfa.bodies[goal] = entry
        self._nfa.settle(range(first, len(self._nfa.nodes)))
        return absorbing

    def _inside(self, entry: int) -> list[int]:
        """The nodes of a body."""
        seen, work = {entry: None}, [entry]
        while work:
            moves, operations, _, _ = self._nfa.nodes[work.pop()]
            targets = [target for target, _ in moves]
            targets += [self._nfa.operations[number].target for number in operations]
            for target in targets:
                if target not in seen:
                    seen[target] = None
                    work.append(target)
        return list(seen)

    def _goal(self, goal: int) -> tuple[int, Iterable[int], int]:
        """(entry, nodes that absorb, node in which the goal is complete) of the nodes made for one goal."""
        nfa = self._nfa
        entry = nfa.reserve()
        complete = {body: nfa.reserve() for body in self._cycle}
        copy = {body: self._reserved(body, complete[body]) for body in self._cycle}
        for body in self._cycle:
            for node, made in copy[body].items():
                if node == END_NUMBER:
                    continue
                moves, operations, flags, _ = nfa.nodes[node]
                moved = tuple((copy[body][target], bytes_) for target, bytes_ in moves)
                used = self._copied(operations, copy[body])
                nfa.nodes[made] = moved, used, 0, (complete[body],) if flags & FINAL else ()
        begun, corners = {body: list[int]() for body in self._cycle}, list[Node]()
        for corner in self._corners(goal):
            corners.append(self._begin(corner, begun, copy))
        for body, waits in begun.items():
            nfa.nodes[complete[body]] = (), (), FINAL if body == goal else 0, tuple(waits)
        empty = nfa.nodes[self._entry[goal]][2] & FINAL
        nfa.nodes[entry] = either(*corners, ((), (), empty, ()))
        absorbing = {node for copies in copy.values() for node in copies.values()} | set(complete.values())
        return entry, absorbing, complete[goal]

    def _reserved(self, body: int, complete: int) -> dict[int, int]:
        """A copy of each node of a body; for its end the node in which it is complete."""
        return {node: complete if node == END_NUMBER else self._nfa.reserve() for node in self._insides[body]}

    def _copied(self, operations: Iterable[int], copy: dict[int, int]) -> tuple[int, ...]:
        """The same operations, going on in the copy."""
        found: list[int] = []
        for number in operations:
            op = self._nfa.operations[number]
            found += self._nfa.operation(op._replace(target=copy[op.target]))[1]
        return tuple(found)

    def _corners(self, goal: int) -> list[int]:
        """The bodies of the cycle that the goal can begin with, itself included."""
        seen, work = {goal: None}, [goal]
        while work:
            for number in self._nfa.nodes[self._entry[work.pop()]][1]:
                op = self._nfa.operations[number]
                if isinstance(op, Jump) and op.body in self._entry and op.body not in seen:
                    seen[op.body] = None
                    work.append(op.body)
        return list(seen)

    def _begin(self, corner: int, begun: dict[int, list[int]], copy: dict[int, dict[int, int]]) -> Node:
        """What can come first in a left corner; a recursive call there goes on once its body is complete."""
        moves, operations, _, _ = self._nfa.nodes[self._entry[corner]]
        others: list[int] = []
        for number in operations:
            op = self._nfa.operations[number]
            if isinstance(op, Guard | Track | Release):
                raise ConstraintError("look-around stands at the left of a left-recursive rule")
            if isinstance(op, Jump) and op.body in self._entry:
                begun[op.body].append(copy[corner][op.target])
            else:
                others.append(number)
        moved = tuple((copy[corner][target], bytes_) for target, bytes_ in moves)
        return moved, self._copied(others, copy[corner]), 0, ()


def in_a_loop(nfa: NFA, cycle: list[int]) -> bool:
    """Does the cycle lead through a counted loop?"""
    looped = {op.body for op in nfa.operations if isinstance(op, Loop)}
    return not looped.isdisjoint(cycle)
