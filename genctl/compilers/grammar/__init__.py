"""Grammars as languages of bytes: Lark's notation and GBNF; see lark_rules.py, gbnf.py and docs/grammars.md.

The names are loaded when they are first used (PEP 562): Lark itself is needed only where a grammar of its is compiled.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genctl.compilers.grammar.files import given
    from genctl.compilers.grammar.gbnf import compile_gbnf, parse_gbnf
    from genctl.compilers.grammar.lark_rules import Keywords, compile_lark, parse_lark

__all__ = ["Keywords", "compile_gbnf", "compile_lark", "given", "parse_gbnf", "parse_lark"]

_HOMES = {
    "Keywords": "lark_rules",
    "compile_gbnf": "gbnf",
    "compile_lark": "lark_rules",
    "given": "files",
    "parse_gbnf": "gbnf",
    "parse_lark": "lark_rules",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
