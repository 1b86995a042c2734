"""Regular expressions of Python and of ECMA-262 as languages of bytes; see compile.py."""

from genctl.compilers.regex.compile import compile_regex, pattern_expression

__all__ = ["compile_regex", "pattern_expression"]
