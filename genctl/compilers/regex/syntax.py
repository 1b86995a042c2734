r"""Is a text a regular expression of ECMA-262 at all, whether or not it is regular?

    is_pattern(r"(?<a>.)\k<a>"), is_pattern(r"(?i)a")       # True, False

The dialect is that of ecma.py; what that module has to refuse although ECMA-262 defines it (back-references,
properties of characters, halves of surrogate pairs) is let pass here.
"""

from __future__ import annotations

import re
from re import _parser  # type: ignore[attr-defined]

from genctl.compilers.regex.ecma import CATEGORIES, PIECES, pieces_of
from genctl.errors import ConstraintError

_SYNTAX = {**PIECES, "backreference": lambda token: "(?:)"}
_LOOKS = {"(?=", "(?!", "(?<=", "(?<!"}
_REFERENCE = re.compile(r"\\(?:k<.*>|[1-9][0-9]*)")
_QUANTIFIER = re.compile(r"[*+?]|\{[0-9]")
_ESCAPE = re.compile(
    r"""
    \\[pP]\{(?P<property>[^}]*)\}
  | \\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}
  | (?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})
  | \\.
""",
    re.VERBOSE | re.DOTALL,
)
_SCRIPT = re.compile(r"(?:Script|sc|Script_Extensions|scx)=[A-Z][a-z]+(?:_[A-Z][a-z]+)*")
_PROPERTIES = """
AHex ASCII ASCII_Hex_Digit Alpha Alphabetic Any Assigned Bidi_C Bidi_Control Bidi_M Bidi_Mirrored CI CWCF CWCM CWKCF CWL
CWT CWU Case_Ignorable Cased Changes_When_Casefolded Changes_When_Casemapped Changes_When_Lowercased
Changes_When_NFKC_Casefolded Changes_When_Titlecased Changes_When_Uppercased DI Dash Default_Ignorable_Code_Point Dep
Deprecated Dia Diacritic EBase EComp EMod EPres Emoji Emoji_Component Emoji_Modifier Emoji_Modifier_Base
Emoji_Presentation Ext ExtPict Extended_Pictographic Extender Gr_Base Gr_Ext Grapheme_Base Grapheme_Extend Hex Hex_Digit
IDC IDS IDSB IDST IDS_Binary_Operator IDS_Trinary_Operator ID_Continue ID_Start Ideo Ideographic Join_C Join_Control LOE
Logical_Order_Exception Lower Lowercase Math NChar Noncharacter_Code_Point Pat_Syn Pat_WS Pattern_Syntax
Pattern_White_Space QMark Quotation_Mark RI Radical Regional_Indicator SD STerm Sentence_Terminal Soft_Dotted Term
Terminal_Punctuation UIdeo Unified_Ideograph Upper Uppercase VS Variation_Selector White_Space XIDC XIDS XID_Continue
XID_Start space
"""


def is_pattern(text: str) -> bool:
    """Names of scripts are not looked up."""
    plain = _ESCAPE.sub(_plain, text)
    try:
        pieces = list(pieces_of(plain, _SYNTAX))
        _parser.parse("".join(piece for _, piece in pieces))
    except (ConstraintError, re.error, OverflowError, RecursionError):
        return False
    return _is_sound([plain[start:end] for (start, end), _ in pieces])


def _plain(escape: re.Match[str]) -> str:
    """A property or half a pair as one that ecma.py reads."""
    if escape["half"]:
        return r"\ud7ff"
    name = escape["property"]
    if name is None or name.removeprefix("General_Category=").removeprefix("gc=") in CATEGORIES:
        return escape[0]
    return r"\p{L}" if name in _PROPERTIES.split() or _SCRIPT.fullmatch(name) else r"\a"


def _is_sound(tokens: list[str]) -> bool:
    """Has each group its own name, each reference a group, and is no look-around repeated?"""
    names = [token[3:-1] for token in tokens if token.startswith("(?<") and token[-1] == ">"]
    count = tokens.count("(") + len(names)
    if len(names) != len(set(names)):
        return False
    opened: list[bool] = []
    closed_look = False
    for token in tokens:
        if closed_look and _QUANTIFIER.match(token):
            return False
        closed_look = token == ")" and opened.pop()
        if token.startswith("("):
            opened.append(token in _LOOKS)
        elif _REFERENCE.fullmatch(token) and not (token[3:-1] in names if token[1] == "k" else int(token[1:]) <= count):
            return False
    return True
