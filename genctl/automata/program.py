"""From a nondeterministic automaton to the program that kernels determinise.

    program = compile_program(nfa, graph, calls, {})
    program.code[kernels.NODES]            # how many nodes: what can be read from each, and what can be entered

Nodes are the states' closures over empty moves; equal closures are one node. Bodies get ranks: before it reads a
byte a body only enters bodies of higher rank. Left recursion, where that is impossible, has been rewritten before
(recursion.py).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from genctl.automata.base import DEAD, UNREACHABLE
from genctl.automata.nfa import NFA, Guard, Jump, Loop, Operation, Release, Run, Track
from genctl.errors import ConstraintError
from genctl.kernels import closure
from genctl.kernels import configurations as kernels
from genctl.kernels.records import I32, I64, U8, Bool

MOST = 2**31 - 2  # counts of rounds beyond it are never reached


class Graph(NamedTuple):
    """An NFA in arrays, with the lengths of its states; see kernels/closure.py."""

    moves: I64
    empty: I64
    operations: I64
    state_of: I64
    entry: I64
    length: I64
    nullable: Bool


def graph_of(nfa: NFA) -> Graph:
    """Raises ConstraintError for a rule that is empty only where a look-around lets it be."""
    moves = np.array(nfa.moves, np.int64).reshape(-1, 3)
    empty = np.array(nfa.empty, np.int64).reshape(-1, 2)
    operations = np.array([_row(op) for op in nfa.operations], np.int64).reshape(-1, 6)
    state_of = np.array([op.state for op in nfa.operations], np.int64)
    entry = np.array(nfa.bodies, np.int64)
    finals = np.array(nfa.finals, np.int64)
    arrays = moves, empty, operations, state_of, entry
    length = closure.shortest_lengths(*arrays, finals, nfa.size, True)
    nullable = length == 0
    if nfa.guarded:
        nullable = closure.shortest_lengths(*arrays, finals, nfa.size, False) == 0
        for name, body in nfa.rules.items():
            if length[entry[body]] == 0 and not nullable[entry[body]]:
                raise ConstraintError(f"rule {name!r} is empty where a look-around lets it be", hint="inline the rule")
    return Graph(*arrays, length, nullable)


def _row(op: Operation) -> tuple[int, int, int, int, int, int]:
    match op:
        case Jump(_, body, target, solid):
            return kernels.JUMP, body, 0, 0, target, solid
        case Loop(_, body, least, most, target, solid):
            return kernels.LOOP, body, min(least, MOST), -1 if most is None else min(most, MOST), target, solid
        case Run(_, automaton, target, solid):
            start = automaton.start
            after = {automaton.step(start, byte) for byte in range(256)} if solid else {start}
            return kernels.RUN, 0, 0, 0, target, min(solid + automaton.distance(state) for state in after)
        case Guard(_, automaton, negated, None, target) if not negated:
            dead = automaton.start == DEAD
            return kernels.GUARD, 0, 0, 0, target, UNREACHABLE if dead else automaton.distance(automaton.start)
        case Guard(target=target):
            return kernels.GUARD, 0, 0, 0, target, 0
        case Track(_, words, inside, target):
            return kernels.TRACK, 0, 0, 0, target, words.shortest(inside)
        case Release(target=target):
            return kernels.RELEASE, 0, 0, 0, target, 0


def first_calls(graph: Graph) -> list[list[int]]:
    """The bodies that each body can enter before it reads a byte."""
    roots = np.concatenate([graph.entry, graph.operations[:, closure.TARGET]])
    ends, _, uses, _ = closure.closures(*graph, roots)
    starts = [0, *ends[:-1, 1].tolist()]
    used = [uses[start:end].tolist() for start, end in zip(starts, ends[:, 1].tolist(), strict=True)]
    kinds = graph.operations[:, closure.KIND].tolist()
    bodies = graph.operations[:, closure.BODY].tolist()
    count = len(graph.entry)
    calls: list[list[int]] = []
    for body in range(count):
        found: dict[int, None] = {}
        work, seen = [body], {body}
        while work:
            for i in used[work.pop()]:
                if kinds[i] <= kernels.LOOP:
                    found[bodies[i]] = None
                elif kinds[i] >= kernels.GUARD and count + i not in seen:
                    seen.add(count + i)
                    work.append(count + i)
        calls.append(list(found))
    return calls


def ranks(calls: list[list[int]]) -> list[int]:
    """Each body before those that it enters; bodies that enter themselves must not be left."""
    order: list[int] = []
    done = bytearray(len(calls))
    for root in range(len(calls)):
        work = [(root, False)]
        while work:
            body, leaving = work.pop()
            if leaving:
                order.append(body)
            elif not done[body]:
                done[body] = 1
                work.append((body, True))
                work.extend((callee, False) for callee in calls[body])
    rank = [0] * len(calls)
    for place, body in enumerate(reversed(order)):
        rank[body] = place
    return rank


class Program(NamedTuple):
    """code: tables of int32, as kernels/configurations.py reads them; classes: (256,) class of each byte."""

    code: I32
    classes: U8

    def operation(self, number: int) -> I32:
        """The row of an operation."""
        at = self.code[kernels.OPERATION_AT] + kernels.OPERATION_WIDTH * number
        return self.code[at : at + kernels.OPERATION_WIDTH]


def compile_program(nfa: NFA, graph: Graph, calls: list[list[int]], absorbing: dict[int, int]) -> Program:
    """absorbing: state -> the state whose language it absorbs (recursion.py)."""
    hubs = np.array(list(absorbing.values()), np.int64)
    roots = np.unique(np.concatenate([graph.entry, graph.moves[:, 2], graph.operations[:, closure.TARGET], hubs]))
    ends, edges, uses, reached = closure.closures(*graph, roots)
    flags = _flags(nfa, ends, reached)
    firsts, node = closure.same_closures(ends, edges, uses, flags)
    node_of = np.full(nfa.size, -1, np.int64)
    node_of[roots] = node
    starts = np.concatenate([np.zeros((1, 3), np.int64), ends])[:-1]
    nodes = np.zeros((len(firsts) + 1, 5), np.int64)
    edge_rows, nodes[:, kernels.EDGES] = _chosen(starts[firsts, 0], ends[firsts, 0])
    use_rows, nodes[:, kernels.OPERATIONS] = _chosen(starts[firsts, 1], ends[firsts, 1])
    nodes[:-1, kernels.FLAGS] = flags[firsts]
    nodes[:-1, kernels.LENGTH] = graph.length[roots[firsts]]
    nodes[:, kernels.ABSORBS] = -1
    for state, absorbed in absorbing.items():
        if node_of[state] >= 0 and node_of[absorbed] >= 0:
            nodes[node_of[state], kernels.ABSORBS] = node_of[absorbed]
    edge = edges[edge_rows]
    edge[:, 1] = node_of[edge[:, 1]]
    classes, member = _byte_classes(nfa)
    head = np.zeros(kernels.CODE, np.int64)
    tables = [
        (kernels.NODE_AT, nodes),
        (kernels.EDGE_AT, edge),
        (kernels.USE_AT, uses[use_rows]),
        (kernels.OPERATION_AT, _operations(graph, nodes, node_of)),
        (kernels.BODY_AT, np.stack([node_of[graph.entry], np.array(ranks(calls))], axis=1)),
        (kernels.MEMBER_AT, member),
    ]
    at = kernels.CODE
    for place, table in tables:
        head[place] = at
        at += table.size
    head[kernels.NODES] = len(firsts)
    head[kernels.COLUMNS] = member.shape[1]
    head[kernels.GUARDS] = (graph.operations[:, closure.KIND] == kernels.GUARD).sum()
    head[kernels.BEHINDS] = len(nfa.behinds)
    return Program(np.concatenate([head, *(table.ravel() for _, table in tables)]).astype(np.int32), classes)


def _chosen(starts: I64, ends: I64) -> tuple[I64, I64]:
    """(all indices from each start to its end, where each range begins in them and where the last one ends)."""
    sizes = ends - starts
    first = np.concatenate([[0], np.cumsum(sizes)])
    return np.arange(first[-1]) + np.repeat(starts - first[:-1], sizes), first


def _flags(nfa: NFA, ends: I64, reached: I64) -> I64:
    state_flags = np.zeros(nfa.size, np.int64)
    state_flags[nfa.finals] |= kernels.FINAL
    state_flags[nfa.everything] |= kernels.EVERYTHING
    starts = np.concatenate([[0], ends[:-1, 2]])
    return np.bitwise_or.reduceat(state_flags[reached], starts)


def _operations(graph: Graph, nodes: I64, node_of: I64) -> I64:
    """(O, 5) kind and operands as kernels/configurations.py reads them."""
    rows = np.zeros((len(graph.operations), 5), np.int64)
    given = graph.operations
    kind, target = given[:, closure.KIND], node_of[given[:, closure.TARGET]]
    rows[:, 0] = kind
    rows[:, 1] = given[:, closure.BODY]
    sizes = np.diff(nodes[:, [kernels.EDGES, kernels.OPERATIONS]], axis=0).sum(axis=1)
    only_ends = (sizes == 0) & (nodes[:-1, kernels.FLAGS] == kernels.FINAL)
    jump, loop = kind == kernels.JUMP, kind == kernels.LOOP
    rows[jump, 2] = target[jump]
    rows[jump, 3] = only_ends[target[jump]]
    empty_rounds = loop.copy()
    empty_rounds[loop] = graph.nullable[graph.entry[given[loop, closure.BODY]]]
    rows[loop, 2] = given[loop, closure.LEAST]
    rows[empty_rounds, 2] = 0
    rows[loop, 3] = given[loop, closure.MOST]
    rows[loop, 4] = target[loop]
    run, guard = (kind == kernels.RUN) | (kind >= kernels.TRACK), kind == kernels.GUARD
    rows[run, 2] = target[run]
    rows[guard, 3] = target[guard]
    return rows


def _byte_classes(nfa: NFA) -> tuple[U8, U8]:
    """The coarsest partition of the bytes that nothing can tell apart, and (sets, C) which classes are in each set."""
    rows = [np.frombuffer(row, np.uint8) for row in nfa.sets]
    inner = [op.automaton.machine.classes for op in nfa.operations if isinstance(op, Run | Guard)]
    inner += [op.words.classes for op in nfa.operations if isinstance(op, Track)]
    if not rows and not inner:
        return np.zeros(256, np.uint8), np.zeros((1, 1), np.uint8)
    sets = np.stack(rows) if rows else np.zeros((1, 256), np.uint8)
    columns = np.ascontiguousarray(np.concatenate([np.packbits(sets, axis=0), *(row[None] for row in inner)]).T)
    known: dict[bytes, int] = {}
    classes = np.array([known.setdefault(column.tobytes(), len(known)) for column in columns], np.uint8)
    firsts = np.unique(classes, return_index=True)[1]
    return classes, np.ascontiguousarray(sets[:, firsts])
