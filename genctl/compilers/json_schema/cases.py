"""anyOf and $ref: a node as the union of its cases, each a conjunction of places without further references.

    cases(node, document)       # {"anyOf": [A, B], "type": "object"} -> (("", "/anyOf/0"), ("", "/anyOf/1"))

A value obeys a recursive schema if there is a finite proof of it (the least fixed point), so a way that comes back to
the place it started from, without having read anything, is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from genctl.compilers.json_schema.context import Node, Pointer, refuse
from genctl.compilers.json_schema.document import Document
from genctl.compilers.json_schema.rules import check, hides_siblings, says_something

MAX_CASES = 2_000

Case: TypeAlias = tuple[Pointer, ...]  # places with keywords of their own; () admits every value
Path: TypeAlias = frozenset[Pointer]


class Cases(NamedTuple):
    cases: tuple[Case, ...]
    dropped: tuple[Pointer, str] | None  # where and why a way led nowhere


class _Way(NamedTuple):
    """One choice of branches so far: places still to visit, each with those it was reached from; and the case."""

    pending: tuple[tuple[Pointer, Path], ...]
    done: Path
    case: Case


def cases(node: Node, document: Document) -> Cases:
    """The cases of a node in order, each once."""
    if len(node) == 1 and isinstance(document.schema(node[0]), dict):
        place = document.place(node[0])
        if "$ref" not in place.schema and "anyOf" not in place.schema:  # as most are
            check(place)
            document.check_draft(place)
            return Cases((node if says_something(place) else (),), None)
    found: dict[Case, None] = {}
    dropped: tuple[Pointer, str] | None = None
    work = [_Way(tuple((pointer, frozenset()) for pointer in node), frozenset(), ())]
    while work:
        way = work.pop()
        if not way.pending:
            found[way.case] = None
            continue
        (pointer, above), *pending = way.pending
        if len(found) + len(work) > MAX_CASES:
            refuse(pointer, f"the alternatives here combine in more than {MAX_CASES:,} ways")
        if document.schema(pointer) is False:
            dropped = dropped or (pointer, "no value is valid: the schema is false")
        elif pointer in above:
            dropped = dropped or (pointer, "the schema refers to itself endlessly and admits no value")
        elif document.schema(pointer) is True or pointer in way.done:
            work.append(way._replace(pending=tuple(pending)))
        else:
            work += reversed(_visit(way, pointer, above | {pointer}, pending, document))
    return Cases(tuple(found), dropped)


def _visit(
    way: _Way, pointer: Pointer, above: Path, pending: list[tuple[Pointer, Path]], document: Document
) -> Sequence[_Way]:
    """The ways on: the reference of the place is another pending place, its alternatives are one way each."""
    place = document.place(pointer)
    check(place)
    document.check_draft(place)
    case = (*way.case, pointer) if says_something(place) else way.case
    done = way.done | {pointer}
    if "$ref" in place.schema:
        pending = [(document.target(place), above), *pending]
    if "anyOf" not in place.schema or hides_siblings(place):
        return [_Way(tuple(pending), done, case)]
    branches = place.get("anyOf", list, "a list of schemas") or place.wrong("anyOf", "a list with a schema or more")
    return [_Way(((place.at("anyOf", i), above), *pending), done, case) for i in range(len(branches))]
