"""Where names stand in the text of a Lark grammar, of which Lark's loader keeps no positions.

    places = Places(Source('start: word\\nword: "a" | "b"'))
    places.definition("word"), places.use("word", inside="start")      # (12, 16), (7, 11)

Strings, regexps and comments are blanked out first, so what is left can be read by a few expressions.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections.abc import Iterable
from typing import NamedTuple

from lark import Token

from genctl.compilers.grammar.source import Source, Span

_HIDDEN = re.compile(r'//[^\n]*|#[^\n]*|"(?:\\"|\\\\|[^"\n])*?"i?|/(?!/)(?:\\/|\\\\|[^/])*?/[imslux]*')
_DEFINITION = re.compile(
    r"^[ \t]*(?:%(?:override|extend)[ \t]*)?[!?]*(?P<name>\w+)[ \t]*(?:\{[^}\n]*\})?[ \t]*(?:\.[ \t]*[+-]?\d+)?[ \t]*:",
    re.MULTILINE,
)
_IMPORT = re.compile(
    r"%import[ \t]*(?P<dot>\.)?[ \t]*(?P<path>\w+(?:[ \t]*\.[ \t]*\w+)*)"
    r"[ \t]*(?:\((?P<names>[^)\n]*)\)|->[ \t]*(?P<alias>\w+))?"
)
_IGNORE = re.compile(r"%ignore")
_OTHER = re.compile(r"%(?:import|declare)")
_DECLARE = re.compile(r"%declare[ \t]*(?P<names>[\w \t]+)")


class Import(NamedTuple):
    span: Span
    file: str  # as the loader asks for it: "common.lark"
    relative: bool
    names: dict[str, str]  # of the file -> here


class Places:
    """Where names stand in a grammar's text."""

    def __init__(self, source: Source) -> None:
        self.source = source
        # Comments, strings and regexps blanked out, so that what is left are names and punctuation.
        self.bare = _HIDDEN.sub(lambda hidden: re.sub(r"[^\n]", " ", hidden[0]), source.text)
        found = [(m["name"], m.span("name"), m.start()) for m in _DEFINITION.finditer(self.bare)]
        found += [(f"__IGNORE_{i}", m.span(), m.start()) for i, m in enumerate(_IGNORE.finditer(self.bare))]
        found += [("", m.span(), m.start()) for m in _OTHER.finditer(self.bare)]  # where a definition has ended
        self.definitions = sorted(found, key=lambda definition: definition[2])
        self.imports = list(map(_import, _IMPORT.finditer(self.bare)))
        self.declared = [name for m in _DECLARE.finditer(self.bare) for name in m["names"].split()]

    def definition(self, name: str) -> Span:
        """The last definition of a name, or the import that brings it here, or else where it occurs first."""
        found = [span for known, span, _ in reversed(self.definitions) if known == name]
        found += [i.span for i in self.imports if name in i.names.values()]
        found += [i.span for i in self.imports if name.lstrip("_").startswith(_prefix(i.file))]
        found += self.occurrences(name)
        return found[0] if found else self.source.whole

    def use(self, name: str, inside: str) -> Span:
        """The first place in the definition of `inside` where a name is used."""
        heads = {span for _, span, _ in self.definitions}
        found = (s for s in self.occurrences(name) if s not in heads and self.enclosing(s[0]) == inside)
        return next(found, self.definition(inside))

    def enclosing(self, at: int) -> str:
        """The name whose definition a place is in, "" outside of any."""
        index = bisect_right(self.definitions, at, key=lambda definition: definition[2])
        return self.definitions[index - 1][0] if index else ""

    def occurrences(self, name: str) -> list[Span]:
        return [m.span() for m in re.finditer(rf"(?<!\w){re.escape(name)}(?!\w)", self.bare)]

    def token(self, token: Token, inside: str) -> Span:
        """A token of the definition of `inside`; that definition if the token is in another file."""
        start = token.start_pos
        here = inside in {name for name, _, _ in self.definitions}
        if here and start is not None and self.source.text.startswith(token, start):
            return start, start + len(token)
        return self.definition(inside)

    def import_of(self, files: Iterable[str]) -> Span:
        """The import of the first of the files that the grammar itself imports."""
        for file in files:
            for statement in self.imports:
                if statement.file == file:
                    return statement.span
        return self.source.whole


def _import(match: re.Match[str]) -> Import:
    path = re.split(r"[ \t]*\.[ \t]*", match["path"])
    if match["names"] is None:
        names = {path[-1]: match["alias"] or path[-1]}
        path = path[:-1]
    else:
        names = {name: name for name in re.findall(r"\w+", match["names"])}
    file = os.path.join(*path) + ".lark" if path else ""
    return Import(match.span(), file, match["dot"] is not None, names)


def _prefix(file: str) -> str:
    """How the loader names what a file has and the import does not name."""
    return file.removesuffix(".lark").replace(os.sep, "__") + "__"
