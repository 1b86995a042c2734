r"""The formats of JSON Schema: date-time, email, hostname, uri and the others, as languages of JSON strings.

    STANDARD["ipv4"].holds("127.0.0.1")                     # True
    STANDARD["date"].expression(json_string)                # the dates, in every way a JSON string spells them

A format is a regular expression, written from the grammar of its RFC out of named pieces, and exactly that. Three have
rules that no automaton can hold (internationalised host names, also in their ASCII form, and regular expressions): for
these the automaton is a superset, and `holds` has the last word. Drafts differ in which formats they list, not in what
one is, so each is enforced in all of them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import cache, lru_cache, partial
from typing import Any, NamedTuple, TypeVar, cast

import idna

from genctl.automata.base import Automaton
from genctl.automata.expressions import Call, Embedded, Expression, concat, optional, repeat, union
from genctl.automata.product import Product
from genctl.automata.pushdown import GrammarAutomaton
from genctl.automata.tabulated import tabulated
from genctl.compilers.characters import Characters, Encoder, general_category
from genctl.compilers.json_schema.leap_seconds import LeapSeconds, is_leap_second
from genctl.compilers.regex import pattern_expression
from genctl.compilers.regex.syntax import is_pattern
from genctl.kernels.configurations import NODES

T = TypeVar("T")

NAME, LABEL = 253, 63  # most characters of a host name, and of a label of it
DOTS = ".\u3002\uff0e\uff61"  # what may stand between labels
# Pieces that are long and rare have a character of their own, which no format asks for by itself.
MARKS = {"address": "\U0010ffff", "address_literal": "\U0010fffe"}
SMALL = 500  # nodes of an expression that may be a table

# RFC 5892: letters and digits; its exceptions, and what is allowed in some contexts
IDN_CATEGORIES = "Ll Lo Lm Mn Mc Nd"
IDN_EXCEPTIONS = "-\u06fd\u06fe\u0f0b\u3007\u00b7\u0375\u05f3\u05f4\u30fb\u200c\u200d"

# -- the grammars: <name> stands for the piece of that name, in a group of its own

UTF8 = r"\u0080-\U0010ffff"
UCS = r"\u00a0-\ud7ff\uf900-\ufdcf\ufdf0-\uffef" + "".join(
    rf"\U{plane:04x}{'1000' if plane == 14 else '0000'}-\U{plane:04x}fffd" for plane in range(1, 15)
)  # ucschar of RFC 3987
PRIVATE = r"\ue000-\uf8ff\U000f0000-\U000ffffd\U00100000-\U0010fffd"  # iprivate


def _row(count: int) -> str:
    """So many groups of an IPv6 address."""
    return rf"<h16>(?::<h16>){{{count - 1}}}" if count else ""


def _locators(prefix: str, letters: str, private: str) -> dict[str, str]:
    """The grammar of RFC 3986, or with its further letters that of RFC 3987."""
    kept = rf"A-Za-z0-9._~!$&'()*+,;={letters}-"
    names = {
        "pchar": rf"[:@{kept}]|<pct>",
        "host": rf"<address>|(?:[{kept}]|<pct>)*",
        "authority": rf"(?:(?:[:{kept}]|<pct>)*@)?<host>(?::[0-9]*)?",
        "path": r"(?:/<pchar>*)*",
        "rooted": r"//<authority><path>|/(?:<pchar>+<path>)?",
        "tail": rf"(?:\?(?:[/?{private}]|<pchar>)*)?(?:#(?:[/?]|<pchar>)*)?",
        "absolute": r"<scheme>:(?:<rooted>|<pchar>+<path>)?<tail>",
        "reference": rf"<absolute>|(?:<rooted>|(?:[@{kept}]|<pct>)+<path>)?<tail>",
    }
    return {prefix + name: re.sub(rf"<({'|'.join(names)})>", rf"<{prefix}\1>", text) for name, text in names.items()}


PIECES: dict[str, str] = {
    # RFC 3339, with the days that a month of that year has
    "day28": r"0[1-9]|1[0-9]|2[0-8]",
    "long_month": r"0[13578]|1[02]",
    "leap_year": r"[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00",
    "date": r"[0-9]{4}-(?:(?:0[1-9]|1[0-2])-<day28>|(?:0[13-9]|1[0-2])-(?:29|30)|<long_month>-31)|<leap_year>-02-29",
    "hour": r"[01][0-9]|2[0-3]",
    "minute": r"[0-5][0-9]",
    "fraction": r"(?:\.[0-9]+)?",
    "plain_time": r"<hour>:<minute>:<minute><fraction>(?:[Zz]|[+-]<hour>:<minute>)",
    "digits": r"[0-9]+",
    # ISO 8601 collected ABNF, in RFC 3339; in capitals alone, as ISO 8601 has it
    "duration_time": r"T(?:<digits>H(?:<digits>M(?:<digits>S)?)?|<digits>M(?:<digits>S)?|<digits>S)",
    "duration_date": r"<digits>Y(?:<digits>M(?:<digits>D)?)?|<digits>M(?:<digits>D)?|<digits>D",
    "duration": r"P(?:<duration_date><duration_time>?|<duration_time>|<digits>W)",
    # RFC 5321 and RFC 6531: Mailbox
    "atext": r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]",
    "quoted": r'"(?:[ !#-\[\]-~]|\\[ -~])*"',
    "domain": r"<sub_domain>(?:\.<sub_domain>)*",
    "sub_domain": r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?",
    "email": r"(?:<atext>+(?:\.<atext>+)*|<quoted>)@(?:<domain>|<address_literal>)",
    "idn_atext": rf"[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~{UTF8}-]",
    "idn_quoted": rf'"(?:[ !#-\[\]-~{UTF8}]|\\[ -~])*"',
    "idn_sub_domain": rf"[A-Za-z0-9{UTF8}](?:[A-Za-z0-9{UTF8}-]*[A-Za-z0-9{UTF8}])?",
    "idn_email": r"(?:<idn_atext>+(?:\.<idn_atext>+)*|<idn_quoted>)"
    r"@(?:<idn_sub_domain>(?:\.<idn_sub_domain>)*|<address_literal>)",
    "snum": r"25[0-5]|2[0-4][0-9]|[01]?[0-9]?[0-9]",
    "address_literal": r"\[(?:<mail_ipv4>|[Ii][Pp][Vv]6:<mail_ipv6>)\]",
    # RFC 2673, RFC 4291
    "octet": r"25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9]",
    "ipv4": r"<octet>(?:\.<octet>){3}",
    "h16": r"[0-9A-Fa-f]{1,4}",
    "ls32": r"<h16>:<h16>|<ipv4>",
    "uuid": r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}",
    "ipv6": "|".join(
        [r"(?:<h16>:){6}<ls32>", r"::(?:<h16>:){5}<ls32>"]
        + [rf"(?:(?:<h16>:){{0,{n}}}<h16>)?::(?:<h16>:){{{4 - n}}}<ls32>" for n in range(5)]
        + [r"(?:(?:<h16>:){0,5}<h16>)?::<h16>", r"(?:(?:<h16>:){0,6}<h16>)?::"]
    ),
    # RFC 5321 has :: stand for two groups or more
    "mail_ipv4": r"<snum>(?:\.<snum>){3}",
    "mail_ipv6": "|".join(
        [r"<h16>(?::<h16>){7}", r"<h16>(?::<h16>){5}:<mail_ipv4>"]
        + [rf"{_row(n)}::(?:<h16>(?::<h16>){{0,{5 - n}}})?" for n in range(6)]
        + [rf"{_row(n)}::(?:<h16>:){{0,{4 - n}}}<mail_ipv4>" for n in range(5)]
        + [rf"{_row(6)}::"]
    ),
    # RFC 3986 and RFC 3987
    "pct": r"%[0-9A-Fa-f]{2}",
    "scheme": r"[A-Za-z][A-Za-z0-9+.-]*",
    "address": r"\[(?:<ipv6>|[vV][0-9A-Fa-f]+\.[A-Za-z0-9._~!$&'()*+,;=:-]+)\]",
    **_locators("uri_", "", ""),
    **_locators("iri_", UCS, PRIVATE),
    # RFC 6570
    "literal": rf"[!#$&-;=?-\[\]_a-z~{UCS}{PRIVATE}]|<pct>",
    "varchar": r"[A-Za-z0-9_]|<pct>",
    "varspec": r"<varchar>(?:\.?<varchar>)*(?::[1-9][0-9]{0,3}|\*)?",
    "uri_template": r"(?:<literal>|\{[+#./;?&=,!@|]?<varspec>(?:,<varspec>)*\})*",
    # RFC 6901
    "json_pointer": r"(?:/(?:[^/~]|~[01])*)*",
    "relative_json_pointer": r"(?:0|[1-9][0-9]*)(?:#|<json_pointer>)",
    # ECMA-262: one character of a regular expression, however it is written
    "pattern_escape": r"\\(?:[dDwWsSbBtnvfr0]|[1-9][0-9]*|c[A-Za-z]|x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|u\{[0-9A-Fa-f]+\}"
    r"|k<[A-Za-z_][A-Za-z0-9_]*>|[pP]\{[A-Za-z_=]+\}|[^0-9A-Za-z])",
    "pattern_opening": r"\((?:\?(?:[:=!]|<[=!]|<[A-Za-z_][A-Za-z0-9_]*>))?",
    "pattern_closing": r"\)",
    "pattern_quantifier": r"(?:[*+?]|\{[0-9]+(?:,[0-9]*)?\})\??",
    "pattern_plain": r"[|^$]",
    "pattern_atom": r"[^\\*+?()\[|^$]|<pattern_escape>|\[(?:[^\]\\]|<pattern_escape>)*\]",
    # RFC 1123
    "names": r"<label>(?:\.<label>)*",
    "label": r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?",
}


@cache
def _expanded(piece: str, marked: bool = False) -> str:
    """A piece of the grammars with all its pieces put in; marked: but those in MARKS, which it has a character for."""
    marks = MARKS if marked else {}

    def text(name: re.Match[str]) -> str:
        return marks.get(name[1]) or f"(?:{_expanded(PIECES[name[1]], marked)})"

    return re.sub(r"<(\w+)>", text, piece)


@cache
def _matcher(piece: str) -> re.Pattern[str]:
    return re.compile(_expanded(piece), re.DOTALL)


def _obeys(piece: str, text: str) -> bool:
    return _matcher(piece).fullmatch(text) is not None


def _language(piece: str, encode: Encoder) -> Embedded:
    """The texts of a piece. What is compiled is kept; states are built for each user anew, who may be a thread."""
    kept = _compiled(piece, cast(Any, encode))
    if isinstance(kept, GrammarAutomaton) and kept.engine is not None:
        return Embedded(GrammarAutomaton.of(kept.engine.compiled, lambda: kept.grammar))
    return Embedded(kept)


@lru_cache(128)
def _compiled(piece: str, encode: Any) -> Automaton:
    return _tabulated(GrammarAutomaton(_expression(piece, encode)))


def _expression(piece: str, encode: Encoder) -> Expression:
    """Written out, but for the pieces in MARKS: what is long and rare stands in it once, as an automaton."""
    marks = {mark: name for name, mark in MARKS.items()}

    def write(characters: Characters) -> Expression:
        name = marks.get(characters.only or "")
        return _language(PIECES[name], encode) if name else encode(characters)

    return pattern_expression(_expanded(piece, marked=True), re.DOTALL, encode=write)


def _tabulated(automaton: GrammarAutomaton) -> Automaton:
    """As a table, which is the fastest, where it is small and holds no other automaton."""
    engine = automaton.engine
    small = engine is not None and automaton.machine.code[NODES] <= SMALL and not any(engine.compiled.runs)
    return tabulated(automaton) if small else automaton


# -- time: a leap second has rules of its own


def _times(encode: Encoder) -> Expression:
    return union(_language("<plain_time>", encode), Embedded(LeapSeconds()))


def _date_times(encode: Encoder) -> Expression:
    return concat(_language("<date>", encode), encode(Characters.of("Tt")), _times(encode))


def _is_time(text: str) -> bool:
    return _obeys("<plain_time>", text) or is_leap_second(text)


def _is_date_time(text: str) -> bool:
    return text[10:11] in ("T", "t") and _obeys("<date>", text[:10]) and _is_time(text[11:])


# -- host names


def _host_names(encode: Encoder) -> Expression:
    names, short = (_language(piece, encode).automaton for piece in ("<names>", f"[!-~]{{1,{NAME}}}"))
    return Embedded(Product(names, short))


def _own(kept: GrammarAutomaton) -> Expression:
    """What is compiled once for all schemas, with states of its own for each: automata grow as they are used."""
    assert kept.engine is not None, "nothing in it looks around"
    return Embedded(GrammarAutomaton.of(kept.engine.compiled, lambda: kept.grammar))


def _is_host_name(text: str) -> bool:
    """Labels in Punycode must stand for labels of IDNA 2008."""
    if len(text) > NAME or not _obeys("<names>", text):
        return False
    return all(_ascii_label(label) is not None for label in text.split(".") if label[:4].lower() == "xn--")


def _idn_host_names(encode: Encoder) -> Expression:
    """More than the rules of IDNA 2008 let pass: of the characters, the categories alone are kept apart."""
    return _own(_idn_compiled(cast(Any, encode)))


@lru_cache(8)
def _idn_compiled(encode: Any) -> GrammarAutomaton:
    letters = Characters.of([r for name in IDN_CATEGORIES.split() for r in general_category(name).ranges])
    edges = letters | Characters.of(IDN_EXCEPTIONS) | Characters.of([(0x41, 0x5A)])  # capitals in ASCII labels alone
    edge, inner, dot = map(encode, (edges, edges | Characters.of("-"), Characters.of(DOTS)))
    label = concat(edge, optional(concat(repeat(inner, 0, LABEL - 2), edge)))
    return GrammarAutomaton(concat(label, repeat(concat(dot, label))))


def _is_idn_host_name(text: str) -> bool:
    labels = [ascii_ for label in re.split(f"[{DOTS}]", text) if (ascii_ := _ascii_label(label)) is not None]
    if len(labels) <= len(re.findall(f"[{DOTS}]", text)) or len(".".join(labels)) > NAME:
        return False
    spoken = [idna.ulabel(label) for label in labels]
    if not any(unicodedata.bidirectional(c) in ("R", "AL", "AN") for label in spoken for c in label):
        return True
    return all(_answer(partial(idna.check_bidi, label, check_ltr=True)) for label in spoken)


def _ascii_label(label: str) -> str | None:
    """A label as IDNA 2008 writes it in ASCII; None for one that it does not allow."""
    if not label.isascii():
        return _answer(lambda: idna.alabel(label).decode())
    if not _obeys("<label>", label) or (label[2:4] == "--" and label[:4].lower() != "xn--"):
        return None
    canonical = _answer(lambda: idna.alabel(idna.ulabel(label.lower())).decode())
    return canonical if canonical == label.lower() else None


def _answer(ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except UnicodeError:
        return None


# -- regular expressions: a grammar of brackets, and Python's verdict on the rest


def _patterns(encode: Encoder) -> Expression:
    return _own(_patterns_compiled(cast(Any, encode)))


@lru_cache(8)
def _patterns_compiled(encode: Any) -> GrammarAutomaton:
    atom, opening, closing, quantifier, plain = (
        _expression(f"<pattern_{name}>", encode) for name in ("atom", "opening", "closing", "quantifier", "plain")
    )
    repeated = concat(union(atom, concat(opening, Call("pattern"), closing)), optional(quantifier))
    return GrammarAutomaton(Call("pattern"), {"pattern": repeat(union(plain, repeated))})


# -- the table


class Standard(NamedTuple):
    """A format. expression: in every spelling, without quotes; more: what it does not know, None where it is exact."""

    holds: Callable[[str], bool]
    expression: Callable[[Encoder], Expression]
    more: str | None = None


def _exact(piece: str) -> Standard:
    return Standard(partial(_obeys, piece), partial(_language, piece))


STANDARD: Mapping[str, Standard] = {
    "date-time": Standard(_is_date_time, _date_times),
    "date": _exact("<date>"),
    "time": Standard(_is_time, _times),
    "duration": _exact("<duration>"),
    "email": _exact("<email>"),
    "idn-email": _exact("<idn_email>"),
    "hostname": Standard(_is_host_name, _host_names, "labels in Punycode have to stand for names that IDNA allows"),
    "idn-hostname": Standard(_is_idn_host_name, _idn_host_names, "IDNA has rules on which characters go together"),
    "ipv4": _exact("<ipv4>"),
    "ipv6": _exact("<ipv6>"),
    "uri": _exact("<uri_absolute>"),
    "uri-reference": _exact("<uri_reference>"),
    "iri": _exact("<iri_absolute>"),
    "iri-reference": _exact("<iri_reference>"),
    "uuid": _exact("<uuid>"),
    "uri-template": _exact("<uri_template>"),
    "json-pointer": _exact("<json_pointer>"),
    "relative-json-pointer": _exact("<relative_json_pointer>"),
    "regex": Standard(is_pattern, _patterns, "groups, references and counts of a regular expression belong together"),
}


@lru_cache(1024)
def nearest(name: str) -> str | None:
    """The format that an unknown name looks like."""
    return next(iter(get_close_matches(name, STANDARD, n=1, cutoff=0.8)), None)
