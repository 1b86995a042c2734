"""Grammars as languages of bytes: Lark's notation and GBNF; see lark_rules.py, gbnf.py and docs/grammars.md."""

from genctl.compilers.grammar.files import given
from genctl.compilers.grammar.gbnf import compile_gbnf, parse_gbnf
from genctl.compilers.grammar.lark_rules import Keywords, compile_lark, parse_lark

__all__ = ["Keywords", "compile_gbnf", "compile_lark", "given", "parse_gbnf", "parse_lark"]
