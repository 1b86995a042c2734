"""From a nondeterministic automaton to the program that kernels determinise.

    nfa, program = compile_program(expression, rules)
    program.code[kernels.NODES]            # how many nodes: what can be read from each, and what can be entered

Bodies get ranks: before it reads a byte a body only enters bodies of higher rank. Left recursion, where that is
impossible, is rewritten before (recursion.py). What can never be finished is left out.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence, Sized
from functools import lru_cache
from itertools import accumulate, chain
from typing import Any, NamedTuple

import numpy as np

from genctl.automata.base import DEAD, UNREACHABLE
from genctl.automata.expressions import Expression
from genctl.automata.nfa import END_NUMBER, NFA, Base, ByteSet, Guard, Jump, Loop, Node, Operation, Release, Run, Track
from genctl.automata.recursion import cycles, in_a_loop, remove_left_recursion
from genctl.collector import uncollected
from genctl.errors import ConstraintError
from genctl.kernels import configurations as kernels
from genctl.kernels.program import operation_length, settle_lengths, tell_apart
from genctl.kernels.records import I32, I64, U8

LISTED = 10_000  # nodes that are listed at once
MOST = 2**31 - 2  # counts of rounds beyond it are never reached


class Program(NamedTuple):
    """code: tables of int32, as kernels/configurations.py reads them; classes: (256,) class of each byte; byte_of: a
    byte of each class.
    """

    code: I32
    classes: U8
    byte_of: list[int]

    def operation(self, number: int) -> I32:
        """The row of an operation."""
        at = self.code[kernels.OPERATION_AT] + kernels.OPERATION_WIDTH * number
        return self.code[at : at + kernels.OPERATION_WIDTH]

    def length(self, node: int) -> int:
        """Fewest bytes from a node to the end of its body."""
        return int(self.code[self.code[kernels.NODE_AT] + kernels.NODE_WIDTH * node + kernels.LENGTH])


@uncollected
def compile_program(start: Expression, rules: Mapping[str, Expression]) -> tuple[NFA, Program]:
    """Raises ConstraintError for an undefined rule, and for one that is empty only where a look-around lets it be."""
    nfa, absorbing = NFA(start, rules), dict[int, int]()
    tables = _finished(nfa)
    calls = first_calls(nfa)
    while (ranks := ranks_of(calls)) is None:
        cycle = cycles(calls)[0]
        if in_a_loop(nfa, cycle):
            nfa, absorbing = NFA(start, rules, spread=True), {}
        else:
            absorbing |= remove_left_recursion(nfa, cycle)
        tables = _finished(nfa)
        calls = first_calls(nfa)
    code, sets = tables
    code[code[kernels.BODY_AT] + 1 : code[kernels.MEMBER_AT] : 2] = ranks
    for node, absorbed in absorbing.items():
        code[code[kernels.NODE_AT] + kernels.NODE_WIDTH * node + kernels.ABSORBS] = absorbed
    classes, byte_of, members = _byte_classes(nfa, sets)
    code[kernels.COLUMNS] = len(byte_of)
    code[kernels.CLASS_AT] = len(code) + members.size
    return nfa, Program(np.concatenate([code, members.ravel(), classes], dtype=np.int32), classes, byte_of)


# -- tables


class _Tables(NamedTuple):
    """The program without the table of members; the byte sets in the order of their numbers."""

    code: I32
    sets: list[ByteSet]


def _finished(nfa: NFA) -> _Tables:
    """The tables with the lengths of the nodes; what can never be finished is taken out of the automaton."""
    code, sets = _written(nfa, nfa.base)
    own = np.array([_own_length(op) for op in nfa.operations], np.int64)
    nodes, edges = int(code[kernels.NODES]), (code[kernels.USE_AT] - code[kernels.EDGE_AT]) // 2
    uses = code[kernels.OPERATION_AT] - code[kernels.USE_AT]
    settle_lengths(
        code,
        own,
        np.zeros(nodes + 1, np.int64),
        np.empty(edges + 2 * uses, np.int64),
        np.empty(nodes, np.int64),
        np.zeros(nodes, np.uint8),
    )
    lengths = _lengths(code)
    _check_empty_rules(nfa, lengths)
    if (lengths == UNREACHABLE).any():
        code = _pruned(nfa, code, np.array([operation_length(code, own, i) for i in range(len(own))], np.int64))
    return _Tables(code, sets)


def _lengths(code: I32) -> I32:
    return _heads(code)[:-1, kernels.LENGTH]


def _heads(code: I32) -> I32:
    """The table of nodes with the row behind it, which says where the last one ends."""
    return code[code[kernels.NODE_AT] : code[kernels.EDGE_AT]].reshape(-1, kernels.NODE_WIDTH)


class _Lists(NamedTuple):
    """Tables that grow: row after row, see kernels/configurations.py."""

    nodes: array[int]
    edges: array[int]
    uses: array[int]
    operations: array[int]
    sets: dict[ByteSet, int]

    def copy(self) -> _Lists:
        return _Lists(self.nodes[:], self.edges[:], self.uses[:], self.operations[:], self.sets.copy())

    def extend(self, nfa: NFA) -> None:
        """Append the nodes and operations that are not listed yet."""
        for begin in range(len(self.nodes) // kernels.NODE_WIDTH, len(nfa.nodes), LISTED):
            self._list(nfa.nodes[begin : begin + LISTED])
        new = nfa.operations[len(self.operations) // kernels.OPERATION_WIDTH :]
        self.operations.extend(chain.from_iterable(_ROWS[type(op)](op) for op in new))

    def _list(self, new: list[Node]) -> None:
        moves, operations, flags, _ = zip(*new, strict=True)
        width = kernels.NODE_WIDTH
        heads = array("i", (UNREACHABLE,)) * (width * len(new))
        heads[kernels.EDGES :: width] = _starts(moves, len(self.edges) // 2)
        heads[kernels.OPERATIONS :: width] = _starts(operations, len(self.uses))
        heads[kernels.FLAGS :: width] = array("i", flags)
        heads[kernels.ABSORBS :: width] = array("i", (-1,)) * len(new)
        self.nodes.extend(heads)
        self.uses.extend(chain.from_iterable(operations))
        if any(moves):
            targets, read = zip(*chain.from_iterable(moves), strict=True)
            for bytes_ in dict.fromkeys(read):
                self.sets.setdefault(bytes_, len(self.sets))
            self.edges.extend(chain.from_iterable(zip(map(self.sets.__getitem__, read), targets, strict=True)))


def _starts(lists: Sequence[Sized], first: int) -> array[int]:
    """Where each list begins, if they stand end to end from `first` on."""
    return array("i", [*accumulate(map(len, lists[:-1]), initial=first)])


@lru_cache(32)
def _listed(base: Base) -> _Lists:
    lists = _Lists(array("i"), array("i"), array("i"), array("i"), {})
    lists.extend(base.nfa)
    return lists


_NO_BASE = Base({})


def _written(nfa: NFA, base: Base | None) -> _Tables:
    """base: what the automaton begins with, if no more was done to it."""
    lists = _listed(base or _NO_BASE).copy()
    lists.extend(nfa)
    nodes, edges, uses, rows, sets = lists
    nodes.extend((len(edges) // 2, len(uses), 0, 0, -1))
    bodies = array("i", bytes(8 * len(nfa.bodies)))
    bodies[::2] = array("i", nfa.bodies)
    head = array("i", (len(nfa.nodes),))
    at = kernels.CODE
    for table in (nodes, edges, uses, rows, bodies):
        head.append(at)
        at += len(table)
    head.extend((at, 0, 0, len(nfa.behinds), 0))
    code = np.frombuffer(head + nodes + edges + uses + rows + bodies, np.int32)
    code[kernels.GUARDS] = _number_guards(nfa, code)
    return _Tables(code, list(sets))


# Kind and operands of an operation.
_ROWS: dict[type, Callable[[Any], tuple[int, int, int, int, int]]] = {
    Jump: lambda op: (kernels.JUMP, op.body, op.target, op.target == END_NUMBER, 0),
    Loop: lambda op: (
        kernels.LOOP, op.body, min(op.least, MOST), -1 if op.most is None else min(op.most, MOST), op.target
    ),
    Run: lambda op: (kernels.RUN, 0, op.target, 0, 0),
    Guard: lambda op: (kernels.GUARD, 0, op.behind is not None, op.target, 0),
    Track: lambda op: (kernels.TRACK, 0, op.target, 0, 0),
    Release: lambda op: (kernels.RELEASE, 0, op.target, 0, 0),
}  # fmt: skip


def _number_guards(nfa: NFA, code: I32) -> int:
    """Tell each guard the column of its verdict; returns how many there are."""
    guards = [number for number, op in enumerate(nfa.operations) if isinstance(op, Guard)]
    for column, number in enumerate(guards):
        code[code[kernels.OPERATION_AT] + kernels.OPERATION_WIDTH * number + 1] = column
    return len(guards)


def _own_length(op: Operation) -> int:
    """Fewest bytes of a run, of words, or that a guard demands."""
    match op:
        case Run(automaton):
            return automaton.distance(automaton.start)
        case Guard(automaton, False, None):
            return UNREACHABLE if automaton.start == DEAD else automaton.distance(automaton.start)
        case Track(words, inside):
            return words.shortest(inside)
    return 0


def _check_empty_rules(nfa: NFA, lengths: I32) -> None:
    if nfa.guarded:
        for name, body in nfa.rules.items():
            if lengths[nfa.bodies[body]] == 0 and name not in nfa.empty_rules:
                raise ConstraintError(f"rule {name!r} is empty where a look-around lets it be", hint="inline the rule")


def _pruned(nfa: NFA, code: I32, operation_lengths: I64) -> I32:
    """The tables without moves and operations that lead nowhere, which are left out of the nodes too."""
    heads, lengths = _heads(code).copy(), _lengths(code)
    edges = code[code[kernels.EDGE_AT] : code[kernels.USE_AT]].reshape(-1, 2)
    uses = code[code[kernels.USE_AT] : code[kernels.OPERATION_AT]]
    kept = lengths[edges[:, 1]] < UNREACHABLE, operation_lengths[uses] < UNREACHABLE
    for column, keep in zip((kernels.EDGES, kernels.OPERATIONS), kept, strict=True):
        dropped_at = np.searchsorted(heads[:, column], np.flatnonzero(~keep), side="right") - 1
        for number in np.unique(dropped_at).tolist():
            moves, operations, flags, _ = nfa.nodes[number]
            moves = tuple(move for move in moves if lengths[move[0]] < UNREACHABLE)
            operations = tuple(op for op in operations if operation_lengths[op] < UNREACHABLE)
            nfa.nodes[number] = moves, operations, flags, ()
        heads[:, column] = np.concatenate([[0], np.cumsum(keep)])[heads[:, column]]
    edges, uses = edges[kept[0]], uses[kept[1]]
    head, rest = code[: kernels.CODE].copy(), code[code[kernels.OPERATION_AT] :]
    head[kernels.USE_AT] = head[kernels.EDGE_AT] + edges.size
    shift = head[kernels.USE_AT] + uses.size - head[kernels.OPERATION_AT]
    head[kernels.OPERATION_AT : kernels.MEMBER_AT + 1] += shift
    return np.concatenate([head, heads.ravel(), edges.ravel(), uses, rest])


def _byte_classes(nfa: NFA, sets: list[ByteSet]) -> tuple[U8, list[int], U8]:
    """The coarsest partition of the bytes that nothing can tell apart: (class of each byte, a byte of each class,
    (sets, C) which classes are in each set).
    """
    packed = np.frombuffer(b"".join(set_.to_bytes(32, "little") for set_ in sets), np.uint8).reshape(len(sets), 32)
    inner = [op.automaton.machine.classes for op in nfa.operations if isinstance(op, Run | Guard)]
    planes = [np.packbits(np.unpackbits(row[:, None], axis=1).T, axis=1, bitorder="little") for row in inner]
    alone = np.zeros(256, np.uint8)
    for op in nfa.operations:
        if isinstance(op, Track):
            alone[op.words.alphabet] = 1
    classes, ids = np.empty(256, np.uint8), np.empty(512, np.int64)
    first = ids[: tell_apart(alone, np.concatenate([packed, *planes]) if planes else packed, classes, ids)]
    return classes, first.tolist(), np.unpackbits(packed, axis=1, bitorder="little")[:, first]


# -- the order of bodies


def first_calls(nfa: NFA) -> list[list[int]]:
    """The bodies that each body can enter before it reads a byte."""
    calls: list[list[int]] = []
    for entry in nfa.bodies:
        found: dict[int, None] = {}
        work, seen = [entry], {entry}
        while work:
            for number in nfa.nodes[work.pop()][1]:
                op = nfa.operations[number]
                if isinstance(op, Jump | Loop):
                    found[op.body] = None
                elif not isinstance(op, Run) and op.target not in seen:
                    seen.add(op.target)
                    work.append(op.target)
        calls.append(list(found))
    return calls


def ranks_of(calls: list[list[int]]) -> list[int] | None:
    """Each body before those that it enters; None if bodies enter themselves."""
    order: list[int] = []
    entered, left = bytearray(len(calls)), bytearray(len(calls))
    for root in range(len(calls)):
        work = [root]
        while work:
            body = work[-1]
            if left[body] or entered[body]:
                work.pop()
                if not left[body]:
                    left[body] = 1
                    order.append(body)
                continue
            entered[body] = 1
            for callee in calls[body]:
                if entered[callee] and not left[callee]:
                    return None
                work.append(callee)
    ranks = [0] * len(calls)
    for place, body in enumerate(reversed(order)):
        ranks[body] = place
    return ranks
