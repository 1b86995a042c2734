"""The names that objects may have beside those with a place of their own, in classes by what their values obey.

    free_classes(facet, frozenset(["a", "b"]), context)       # [FreeClass((Strings(patterns=...),), node), ...]

A name's value obeys the nodes of all patterns that the name matches, and the rest of each place that does not cover the
name. Which patterns a name can match together is found out once, from all their automata side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, reduce
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from genctl.automata.base import DEAD, Automaton
from genctl.automata.expressions import NOTHING, Expression, repeat
from genctl.automata.pushdown import GrammarAutomaton
from genctl.automata.tabulated import Tabulated, tabulated
from genctl.compilers.characters import ALL, utf8
from genctl.compilers.json_schema.context import ANYTHING, Context, Node, meet_nodes
from genctl.compilers.json_schema.strings import Pattern, Strings
from genctl.kernels.records import I32

if TYPE_CHECKING:
    from genctl.compilers.json_schema.objects import Objects

MAX_JOINT_STATES = 4_096
MAX_SETS = 256  # of patterns that names match
MAX_UNSEEN = 3  # patterns: where their automata are too large, all their combinations are taken for possible

PatternSet = int  # bit i is set for pattern i


class Rest(NamedTuple):
    """Members whose name is none of these and matches no pattern have a value that obeys the node."""

    names: frozenset[str]
    patterns: tuple[Pattern, ...]
    node: Node

    def covers(self, name: str) -> bool:
        """Is it a name of which nothing is said?"""
        return name in self.names or any(pattern.holds(name) for pattern in self.patterns)


class FreeClass(NamedTuple):
    """Names that are in one or more of the facets; the values of their members obey the node."""

    names: tuple[Strings, ...]
    node: Node


def free_classes(facet: Objects, taken: frozenset[str], context: Context) -> list[FreeClass]:
    """Every name that is not taken and may have a member is in a class; values of a class are of one language."""
    node_of = facet.nodes()
    listed = frozenset().union(*(rest.names for rest in facet.rests)) - taken
    found = _Grouped(context)
    for name in sorted(listed):
        found.add(node_of(name), Strings(only=frozenset((name,))))
    patterns = tuple(dict.fromkeys([p for p, _ in facet.patterns] + [p for r in facet.rests for p in r.patterns]))
    others = Strings(excluded=taken | listed)
    for node, cubes in _by_patterns(facet, patterns, context):
        for cube in cubes:
            found.add(node, others.meet(cube))
    if facet.names == ANYTHING:
        return found.classes()
    allowed = [a for a in context.strings(facet.names) if isinstance(a, Strings)]
    met = [([n.meet(a) for n in names for a in allowed], node) for names, node in found.classes()]
    some = [(tuple(n for n in names if n.expression(context) != NOTHING), node) for names, node in met]
    return [FreeClass(names, node) for names, node in some if names]


class _Grouped:
    """Names grouped by the language of their values; those whose values have none are left out."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._found: dict[Expression, tuple[Node, list[Strings]]] = {}

    def add(self, node: Node, names: Strings) -> None:
        expression = self._context.expression(node)
        if expression != NOTHING:
            self._found.setdefault(expression, (node, []))[1].append(names)

    def classes(self) -> list[FreeClass]:
        return [FreeClass(tuple(_joined(names)), node) for node, names in self._found.values()]


def _joined(names: list[Strings]) -> Iterable[Strings]:
    """Single names as one set."""
    single = [facet for facet in names if facet.only is not None]
    if single:
        yield Strings(only=frozenset().union(*(facet.only or () for facet in single)))
    yield from (facet for facet in names if facet.only is None)


def _by_patterns(
    facet: Objects, patterns: tuple[Pattern, ...], context: Context
) -> Iterable[tuple[Node, Sequence[Strings]]]:
    """What values obey by the patterns that the name matches, with the names of which this is so."""
    if not patterns:
        return [(reduce(meet_nodes, (rest.node for rest in facet.rests), ANYTHING), [Strings()])]
    bits = {pattern: 1 << i for i, pattern in enumerate(patterns)}
    of_patterns = [(bits[pattern], node) for pattern, node in facet.patterns]
    of_rests = [(sum(bits[p] for p in set(rest.patterns)), rest.node) for rest in facet.rests]
    possible = pattern_sets(patterns)
    if possible is None:
        context.check(facet.pointer, "the patterns for names overlap in too many ways")
        return _roughly(patterns, facet, of_rests)
    groups: dict[Expression, tuple[Node, list[PatternSet]]] = {}
    for matched in possible:
        said = [node for bit, node in of_patterns if bit & matched]
        said += [node for covered, node in of_rests if not covered & matched]
        node = reduce(meet_nodes, said, ANYTHING)
        groups.setdefault(context.expression(node), (node, []))[1].append(matched)
    return [
        (node, [_names(patterns, *cube) for cube in _cubes(group, possible, len(patterns))])
        for expression, (node, group) in groups.items()
        if expression != NOTHING
    ]


def _roughly(
    patterns: tuple[Pattern, ...], facet: Objects, of_rests: list[tuple[PatternSet, Node]]
) -> list[tuple[Node, list[Strings]]]:
    """More than what is so: of the patterns that a name matches any one is obeyed."""
    found = [(node, [Strings(patterns=(pattern,))]) for pattern, node in facet.patterns]
    mentioned = {pattern for pattern, _ in facet.patterns}
    found += [(ANYTHING, [Strings(patterns=(p,))]) for p in patterns if p not in mentioned]
    rest = reduce(meet_nodes, (node for _, node in of_rests), ANYTHING)
    return [*found, (rest, [Strings(without=patterns)])]


def _names(patterns: tuple[Pattern, ...], matched: PatternSet, missed: PatternSet) -> Strings:
    return Strings(
        patterns=tuple(p for i, p in enumerate(patterns) if matched >> i & 1),
        without=tuple(p for i, p in enumerate(patterns) if missed >> i & 1),
    )


def _cubes(
    group: list[PatternSet], possible: Sequence[PatternSet], count: int
) -> Iterable[tuple[PatternSet, PatternSet]]:
    """(patterns to match, patterns not to match), as few as may be, that among the possible sets leave the group."""
    wanted, uncovered = set(group), dict.fromkeys(group)

    def fits(matched: PatternSet, missed: PatternSet) -> bool:
        return all(s in wanted for s in possible if s & matched == matched and not s & missed)

    while uncovered:
        matched = next(iter(uncovered))
        missed = ((1 << count) - 1) & ~matched
        for i in range(count):
            missed = missed & ~(1 << i) if fits(matched, missed & ~(1 << i)) else missed
        for i in range(count):
            matched = matched & ~(1 << i) if fits(matched & ~(1 << i), missed) else matched
        yield matched, missed
        uncovered = {s: None for s in uncovered if s & matched != matched or s & missed}


@lru_cache(512)
def pattern_sets(patterns: tuple[Pattern, ...]) -> tuple[PatternSet, ...] | None:
    """The sets of patterns that some name matches while it matches no other, perhaps more; None: too many to tell."""
    if len(patterns) == 1:
        return (0,) if patterns[0].automaton(utf8).start == DEAD else (0, 1)
    tables = [tabulated(automaton) for automaton in (_any_text(), *(p.automaton(utf8) for p in patterns))]
    found = _side_by_side([table for table in tables if isinstance(table, Tabulated)])
    if found is None or len(found) > MAX_SETS or not all(isinstance(table, Tabulated) for table in tables):
        return tuple(range(1 << len(patterns))) if len(patterns) <= MAX_UNSEEN else None
    return found


@lru_cache(1)
def _any_text() -> Automaton:
    return GrammarAutomaton(repeat(utf8(ALL)))


def _side_by_side(tables: Sequence[Tabulated]) -> tuple[PatternSet, ...] | None:
    """Which tables but the first accept a text together, for the texts of the first; None: too many states.

    All states that can be reached at once are followed, a byte a round.
    """
    classes = np.stack([table.machine.classes for table in tables])
    _, columns = np.unique(classes, axis=1, return_index=True)
    steps = [table.machine.next[:, table.machine.classes[columns]] for table in tables]
    front: I32 = np.array([[table.start for table in tables]], np.int32)
    seen = {front[0].tobytes()}
    found: set[PatternSet] = set()
    while len(front):
        accepting = np.stack([table.machine.accepting[front[:, i]] for i, table in enumerate(tables)], axis=1)
        for row in np.unique(accepting[accepting[:, 0], 1:], axis=0):
            found.add(sum(1 << i for i, yes in enumerate(row.tolist()) if yes))
        after = np.stack([step[front[:, i]] for i, step in enumerate(steps)], axis=2).reshape(-1, len(tables))
        after = np.unique(after[after[:, 0] != DEAD], axis=0).astype(np.int32)
        new = [i for i, row in enumerate(after) if row.tobytes() not in seen]
        front = after[new]
        seen.update(row.tobytes() for row in front)
        if len(seen) > MAX_JOINT_STATES:
            return None
    return tuple(sorted(found))


NodeOf = Callable[[str], Node]
