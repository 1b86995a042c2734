r"""ECMA-262 regular expressions with the `u` flag (JSON Schema's `pattern`), rewritten in Python's syntax.

    rewrite(r"^\p{Lu}\d$").python              # '\A[\U00000041-\U0000005a...][0-9]\Z', with a map of positions

Character sets are worked out here, group by group they keep their shape; what the two languages read differently
is refused with its span. Beyond the `u` grammar, an escaped or lone punctuation character (`\_`, `}`) stands for
itself, as browsers without `u` and Python agree.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

from genctl.compilers.characters import ALL, Characters, general_category
from genctl.compilers.regex.source import printable
from genctl.errors import ConstraintError

Token: TypeAlias = "re.Match[str]"

DIGIT = Characters.of([(0x30, 0x39)])
WORD = DIGIT | Characters.of([(0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)])
SPACE = Characters.of("\t\n\v\f\r \u00a0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff") | Characters.of([(0x2000, 0x200A)])
LINE_END = Characters.of("\n\r\u2028\u2029")
CLASS_ESCAPES = {"d": DIGIT, "w": WORD, "s": SPACE}
CONTROLS = {"t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r", "0": "\0"}

# Unicode's short and long names of the general categories, and what they stand for.
_CATEGORIES = """
C Other: Cc Cf Cn Co | Cc Control cntrl | Cf Format | Cn Unassigned | Co Private_Use | Cs Surrogate
L Letter: Lu Ll Lt Lm Lo | LC Cased_Letter: Lu Ll Lt | Ll Lowercase_Letter | Lm Modifier_Letter | Lo Other_Letter
Lt Titlecase_Letter | Lu Uppercase_Letter | M Mark Combining_Mark: Mc Me Mn | Mc Spacing_Mark | Me Enclosing_Mark
Mn Nonspacing_Mark | N Number: Nd Nl No | Nd Decimal_Number digit | Nl Letter_Number | No Other_Number
P Punctuation punct: Pc Pd Pe Pf Pi Po Ps | Pc Connector_Punctuation | Pd Dash_Punctuation | Pe Close_Punctuation
Pf Final_Punctuation | Pi Initial_Punctuation | Po Other_Punctuation | Ps Open_Punctuation | S Symbol: Sc Sk Sm So
Sc Currency_Symbol | Sk Modifier_Symbol | Sm Math_Symbol | So Other_Symbol | Z Separator: Zl Zp Zs
Zl Line_Separator | Zp Paragraph_Separator | Zs Space_Separator
"""


def _category_table() -> dict[str, tuple[str, ...]]:
    table: dict[str, tuple[str, ...]] = {}
    for entry in re.split(r"[|\n]", _CATEGORIES.strip()):
        names, _, members = entry.partition(":")
        short, *_ = names.split()
        table.update(dict.fromkeys(names.split(), tuple(members.split()) or (short,)))
    return table


CATEGORIES = _category_table()

_ESCAPE = r"""
    (?P<property>\\[pP]\{(?:(?:General_Category|gc)=)?(?P<name>\w+)\})
  | (?P<class_escape>\\[dDwWsS])
  | (?P<pair>\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})
  | (?P<code>\\u[0-9a-fA-F]{4}|\\u\{0*[0-9a-fA-F]{1,6}\}|\\x[0-9a-fA-F]{2})
  | (?P<letter>\\c[A-Za-z])
  | (?P<control>\\(?:[tnvfr]|0(?![0-9])))
  | (?P<identity>\\[^0-9A-Za-z])
"""
_BAD_ESCAPE = r"| (?P<bad_escape>\\(?:[pPu]\{[^}]*\}|[ux][0-9a-fA-F]*|.)?)"
_TOKEN = re.compile(
    _ESCAPE
    + r"""
  | (?P<boundary>\\[bB])
  | (?P<backreference>\\(?:[1-9][0-9]*|k<[^>]*>))
"""
    + _BAD_ESCAPE
    + r"""
  | (?P<named>\(\?<[A-Za-z_$][\w$]*>)
  | (?P<group>\((?:\?(?:[:=!]|<[=!]))?(?!\?))
  | (?P<bad_group>\(\?(?:P[<=>]|[a-zA-Z-]*[:)]|.)?)
  | (?P<double>(?:[*+?]|\{[0-9]+(?:,[0-9]*)?\})\??+(?:[*+?]|\{[0-9]+(?:,[0-9]*)?\}))
  | (?P<quantifier>(?:[*+?]|\{[0-9]+(?:,[0-9]*)?\})\??)
  | (?P<open_count>\{,[0-9]+\})
  | (?P<brace>[{}\]])
  | (?P<set>\[)
  | (?P<dot>\.) | (?P<anchor>[$^]) | (?P<structure>[|)])
  | (?P<literal>.)
""",
    re.VERBOSE | re.DOTALL,
)
_MEMBER = re.compile(
    _ESCAPE + r"| (?P<backspace>\\b)" + _BAD_ESCAPE + r"| (?P<literal>[^\]])",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class Rewritten:
    """A pattern in Python's syntax and where each piece of it comes from."""

    python: str
    starts: tuple[int, ...]  # where the pieces start in python, ascending
    spans: tuple[tuple[int, int], ...]  # what each piece was written for

    def origin(self, span: tuple[int, int]) -> tuple[int, int]:
        """The characters of the given pattern that a span of the Python pattern was written for."""
        if not self.spans:
            return (0, 0)
        first = max(bisect_right(self.starts, span[0]) - 1, 0)
        last = max(bisect_right(self.starts, max(span[1] - 1, span[0])) - 1, 0)
        return self.spans[first][0], self.spans[last][1]


def rewrite(pattern: str) -> Rewritten:
    """The pattern in Python's syntax, to be read with re.ASCII.

    Raises ConstraintError with the span for a back-reference, a flag, and what ECMA-262 does not define.
    """
    starts, spans, pieces = [], [], []
    length = 0
    for (start, end), piece in pieces_of(pattern, PIECES):
        starts.append(length)
        spans.append((start, end))
        pieces.append(piece)
        length += len(piece)
    return Rewritten("".join(pieces), tuple(starts), tuple(spans))


def pieces_of(pattern: str, pieces: Mapping[str, Callable[[Token], str]]) -> Iterator[tuple[tuple[int, int], str]]:
    """Each token's span in the pattern, and what a table of pieces says for it."""
    position = 0
    while position < len(pattern):
        token = _TOKEN.match(pattern, position)
        assert token is not None, "the last alternative matches any character"
        if token["set"]:
            characters, end = _set(pattern, position)
            piece = _python_set(characters)
        else:
            end = token.end()
            piece = pieces[token.lastgroup or ""](token)
        yield (position, end), piece
        position = end


def _set(pattern: str, start: int) -> tuple[Characters, int]:
    """The class that opens at start, and where it ends."""
    negated = pattern.startswith("^", start + 1)
    position = start + 1 + negated
    found: list[Characters] = []
    low: Token | None = None  # the left end of a range that is being read
    while not pattern.startswith("]", position):
        token = _MEMBER.match(pattern, position)
        if token is None:
            _refuse(pattern, (start, start + 1), "unterminated character class", r"close it with ], or write \[")
        position = token.end()
        characters = CHARACTERS[token.lastgroup or ""](token)
        if low is not None:
            found[-1] = _range(low, found[-1], token, characters)
            low = None
            continue
        found.append(characters)
        if pattern.startswith("-", position) and pattern[position + 1 : position + 2] not in ("]", ""):
            position += 1
            low = token
    members = Characters.of([r for part in found for r in part.ranges])
    return ~members if negated else members, position + 1


def _range(low: Token, first: Characters, high: Token, last: Characters) -> Characters:
    span = (low.start(), high.end())
    if first.only is None or last.only is None:
        _refuse(low.string, span, "a range needs a single character at both ends", r"write \- for a hyphen")
    if first.only > last.only:
        _refuse(low.string, span, "the range is in the wrong order", r"write \- for a hyphen")
    return Characters.of([(ord(first.only), ord(last.only))])


# -- characters


def _property(token: Token) -> Characters:
    name = token["name"]
    if name in _PROPERTIES and "=" not in token[0]:
        members = _PROPERTIES[name]()
    elif name in CATEGORIES:
        members = _categories(CATEGORIES[name])
    else:
        _bad_escape(token)
    return ~members if token[0][1] == "P" else members


def _categories(names: tuple[str, ...]) -> Characters:
    return Characters.of([r for name in names for r in general_category(name).ranges])


_PROPERTIES: dict[str, Callable[[], Characters]] = {
    "Any": lambda: ALL,
    "ASCII": lambda: Characters.of([(0, 0x7F)]),
    "Assigned": lambda: ~general_category("Cn"),
}


def _class_escape(token: Token) -> Characters:
    members = CLASS_ESCAPES[token[0][1].lower()]
    return ~members if token[0][1].isupper() else members


def _code(token: Token) -> Characters:
    code = int(token[0][2:].strip("{}"), 16)
    if code > 0x10FFFF:
        _refuse(token.string, token.span(), "there is no such character", "the last one is U+10FFFF")
    return _character(code, token)


def _pair(token: Token) -> Characters:
    high, low = int(token[0][2:6], 16), int(token[0][8:12], 16)
    return _character(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00), token)


def _character(code: int, token: Token) -> Characters:
    if 0xD800 <= code <= 0xDFFF:
        _refuse(token.string, token.span(), "a lone surrogate is not a character", "write the whole character")
    return Characters.of([(code, code)])


CHARACTERS: dict[str, Callable[[Token], Characters]] = {
    "property": _property,
    "class_escape": _class_escape,
    "pair": _pair,
    "code": _code,
    "letter": lambda token: Characters.of(chr(ord(token[0][2]) % 32)),
    "control": lambda token: Characters.of(CONTROLS[token[0][1]]),
    "identity": lambda token: _character(ord(token[0][1]), token),
    "backspace": lambda token: Characters.of("\b"),
    "literal": lambda token: _character(ord(token[0]), token),
    "brace": lambda token: Characters.of(token[0]),
    "dot": lambda token: ~LINE_END,
    "bad_escape": lambda token: _bad_escape(token),
}


def _python_set(characters: Characters) -> str:
    if not characters:
        return r"[^\x00-\U0010ffff]"
    return "[" + "".join(rf"\U{low:08x}-\U{high:08x}" for low, high in characters.ranges) + "]"


# -- tokens -> Python


def _refuse(pattern: str, span: tuple[int, int], reason: str, hint: str) -> NoReturn:
    raise ConstraintError(reason, source=printable(pattern), span=span, hint=hint)


def _bad_escape(token: Token) -> NoReturn:
    reason = f"the escape {token[0]} is not supported"
    if token[0][1:2] in ("p", "P"):
        hint = r"general categories can be used, as in \p{L} or \p{Lu}; list other sets as ranges"
    else:
        hint = r"ECMA-262 has \d \w \s \b \p{..} \uXXXX \xXX \cX \t \n \v \f \r; write \\ for a backslash"
    _refuse(token.string, token.span(), reason, hint)


def _refusal(reason: str, hint: str) -> Callable[[Token], str]:
    def refuse(token: Token) -> str:
        _refuse(token.string, token.span(), reason, hint)

    return refuse


def _set_piece(token: Token) -> str:
    characters = CHARACTERS[token.lastgroup or ""](token)
    return re.escape(characters.only) if characters.only is not None else _python_set(characters)


PIECES: dict[str, Callable[[Token], str]] = {
    **dict.fromkeys(CHARACTERS, _set_piece),
    "boundary": lambda token: token[0],
    "named": lambda token: "(",
    "group": lambda token: token[0],
    "quantifier": lambda token: token[0],
    "structure": lambda token: token[0],
    "anchor": lambda token: {"^": r"\A", "$": r"\Z"}[token[0]],
    "backreference": _refusal("a back-reference is not a regular language", "repeat the pattern of the group"),
    "bad_group": _refusal("this kind of group is not in ECMA-262", "use (?:..), (?<name>..), (?=..), (?!..), (?<=..)"),
    "double": _refusal("a quantifier after a quantifier", "group it: (?:a*){2}"),
    "open_count": _refusal("a count needs a least number", "write {0,5} for at most five"),
}
