"""Grammars as users give them: a text, a file, or the name of one that ships with genctl.

    given(Path("rules/sums.lark"))             # its text, and the folder for its relative imports
    given("arithmetic", shipped=True)          # grammars/arithmetic.lark

A name can be told from a text, since no grammar is a single word.
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from genctl.compilers.grammar.source import nearest
from genctl.errors import ConstraintError

_NAME = re.compile(r"[A-Za-z0-9]+(?:[_-][A-Za-z0-9]+)*")
_FILE_NAME = re.compile(r"[^\n:]*\.(?:lark|gbnf)")
_SHIPPED = (Path(str(resources.files("genctl"))) / "grammars", Path(__file__).parents[3] / "grammars")


class Given(NamedTuple):
    """The text of a grammar and the folder that it is from, if it is a file."""

    text: str
    folder: Path | None


def given(grammar: str | Path, *, shipped: bool = False) -> Given:
    """shipped: may a str be the name of a grammar that ships with genctl?

    Raises ConstraintError for a file that cannot be read, a name that is not known, and what is neither.
    """
    if isinstance(grammar, Path):
        return Given(_read(grammar), grammar.parent)
    if not isinstance(grammar, str):
        raise ConstraintError(f"a grammar must be str or pathlib.Path, not {type(grammar).__name__}")
    if _FILE_NAME.fullmatch(grammar.strip()):
        hint = f"give pathlib.Path({grammar.strip()!r}); a str is the grammar itself"
        raise ConstraintError("this is the name of a file, not a grammar", source=grammar, hint=hint)
    if shipped and _NAME.fullmatch(grammar):
        path = _shipped(grammar)
        return Given(_read(path), path.parent)
    return Given(grammar, None)


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        reason = f"cannot read {path}: {error.strerror}"
        raise ConstraintError(reason, source=str(path), hint="give the path of a grammar file") from None
    except UnicodeDecodeError as error:
        reason = f"cannot read {path}: it is no UTF-8 from byte {error.start} on"
        raise ConstraintError(reason, source=str(path), hint="save the file as UTF-8") from None


def _shipped(name: str) -> Path:
    """In a wheel the grammars are a folder of the package, in a checkout one of the repository."""
    files = {path.stem: path for folder in reversed(_SHIPPED) for path in sorted(folder.glob("*.lark"))}
    if name not in files:
        known = f"there are {', '.join(sorted(files))}" if files else "none is installed"
        hint = f"{nearest(name, files) or known}; a grammar needs at least one rule, name: ..."
        raise ConstraintError(f"no grammar {name!r} ships with genctl", source=name, hint=hint)
    return files[name]
