"""Which names mean what: the sources of a SELECT, and the columns that were written before its sources were.

    core = Core(sources=(Source("t1", ("id", "name")),))
    found(core, "name")                              # 1: in how many sources, joined columns counted once
    missing(core, "t1", "age")                       # True: t1 is there, and has no such column

Columns are read before FROM says where they are from. Until then they are *needs*: some source, or one of an enclosing
SELECT, has to have them. Names are in lower case here; "" is a column without a name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

MOST_SOURCES = 60  # SQLite joins 64 at most


class Source(NamedTuple):
    """What a FROM holds: a table, or a sub-select. name: its alias, "" without one; table: of the schema, or "".

    using: columns that are one with those of the sources before it.
    """

    name: str
    columns: tuple[str, ...]
    table: str = ""
    using: frozenset[str] = frozenset()


class Result(NamedTuple):
    """A column of a SELECT. alias: the name was given by AS; aggregate: its expression holds one; plain: ORDER BY of a
    compound may use the name.
    """

    name: str
    alias: bool = False
    aggregate: bool = False
    plain: bool = False


class Star(NamedTuple):
    """`*`, or `of.*`."""

    of: str = ""


class Need(NamedTuple):
    """A column that was used before its source was known. own: no enclosing SELECT can have it.

    literal: the kind of literal that it is compared with, "text" or "number"; "" for none.
    """

    qualifier: str
    name: str
    own: bool
    literal: str = ""


class Core(NamedTuple):
    """One SELECT, without what is around it. open: more sources may come.

    used: names without qualifier that were resolved while more sources could come: these must not have them too.
    """

    columns: tuple[Result | Star, ...] = ()
    needs: frozenset[Need] = frozenset()
    sources: tuple[Source, ...] = ()
    open: bool = True
    used: frozenset[str] = frozenset()
    grouped: bool = False

    @property
    def before_from(self) -> bool:
        return self.open and not self.sources


def found(core: Core, name: str) -> int:
    """In how many sources the column is; columns that USING or NATURAL made one count once."""
    count = 0
    for source in core.sources:
        if name in source.columns and not (count and name in source.using):
            count += 1
    return count


def source_of(core: Core, qualifier: str) -> Source | None:
    return next((source for source in core.sources if source.name == qualifier), None)


def first_with(core: Core, name: str) -> Source | None:
    """The first source that has the column."""
    return next((source for source in core.sources if name in source.columns), None)


def unqualified(core: Core) -> frozenset[str]:
    """Names that at most one source may have."""
    return core.used | {need.name for need in core.needs if not need.qualifier}


def clashing(core: Core) -> frozenset[str]:
    """Names in use that more than one source has."""
    return frozenset(name for name in unqualified(core) if found(core, name) > 1)


def fits(core: Core, source: Source) -> bool:
    """May the source stand under its name? It has what was asked of it, and no other has the name."""
    if source.name and source_of(core, source.name) is not None:
        return False
    return all(need.name in source.columns for need in core.needs if need.qualifier == source.name != "")


def alias_of(core: Core, name: str) -> Result | None:
    """The result column that AS gave this name."""
    return next((r for r in core.columns if isinstance(r, Result) and r.alias and r.name == name), None)


def width(core: Core) -> int | None:
    """The number of columns; None where a star stands for sources that are not all there."""
    total = 0
    for column in core.columns:
        if isinstance(column, Star):
            if core.open and not column.of:
                return None
            source = source_of(core, column.of)
            if column.of and source is None:
                return None
            total += len(_starred(core, column))
        else:
            total += 1
    return total


def _starred(core: Core, star: Star) -> list[str]:
    """The names that a star stands for, given the sources so far."""
    names: list[str] = []
    for source in core.sources:
        if star.of in ("", source.name):
            joined = source.using if not star.of else frozenset()
            names += [name for name in source.columns if name not in joined]
    return names


def results(core: Core) -> tuple[Result, ...]:
    """The columns with the stars written out, once all sources are there."""
    out: list[Result] = []
    for column in core.columns:
        if isinstance(column, Star):
            out += [Result(name, plain=True) for name in _starred(core, column)]
        else:
            out.append(column._replace(plain=column.alias or found(core, column.name) == 1))
    return tuple(out)


def names_of(columns: Iterable[Result]) -> tuple[str, ...]:
    """The columns of a sub-select as others see them: of equal names only the first can be named."""
    seen: set[str] = set()
    names = []
    for column in columns:
        names.append("" if column.name in seen else column.name)
        seen.add(column.name)
    return tuple(names)


def qualifiers_needed(core: Core) -> set[str]:
    """Names that sources which are still to come must have; "" if columns without a qualifier are waited for."""
    needed = {need.qualifier for need in core.needs}
    needed |= {column.of for column in core.columns if isinstance(column, Star)}
    return (needed - {source.name for source in core.sources}) | {""}
