"""The grammars that ship, against their case files, against Lark, and against the parsers of the languages themselves.

    accepts(automaton("semver"), b"1.0.0-rc.1")             # a line of semver.accept.txt
    drawn("sql", 0)                                         # a text of the language: SQLite must parse it
    damaged("SELECT 1", Random(0), ["FROM"])                # "SELCT 1": accepted if and only if SQLite parses it

PARSERS maps each grammar to what decides about its texts. What such a parser takes and the grammar does not must be
something that the head of the grammar leaves out (LEFT_OUT).
"""

from __future__ import annotations

import ast
import csv
import gzip
import io
import json
import keyword
import re
import sqlite3
import string
import warnings
from calendar import isleap, monthrange
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, timedelta
from functools import cache
from ipaddress import AddressValueError, IPv6Address
from pathlib import Path
from random import Random
from typing import Any
from xml.etree import ElementTree

import lark
import numpy as np
import pytest

import genctl
from genctl.automata.base import Automaton, accepts, run
from genctl.compilers.grammar import compile_lark
from genctl.constraints.sentences import sample

FOLDER = Path(__file__).parents[1] / "grammars"
NAMES = sorted(path.stem for path in FOLDER.glob("*.lark"))
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}


def source(name: str) -> str:
    return (FOLDER / f"{name}.lark").read_text(encoding="utf-8")


@cache
def automaton(name: str) -> Automaton:
    return compile_lark(source(name))


def accepted(name: str, text: str) -> bool:
    return accepts(automaton(name), text.encode())


@cache
def lark_parser(name: str) -> lark.Lark:
    return lark.Lark(source(name), parser="earley", lexer="dynamic_complete", ambiguity="forest")


def accepted_by_lark(name: str, text: str) -> bool:
    try:
        lark_parser(name).parse(text)
    except lark.exceptions.LarkError:
        return False
    return True


@cache
def cases(name: str, kind: str) -> tuple[str, ...]:
    """The texts of a case file; grammars/README.md says how they are written."""
    lines = (FOLDER / f"{name}.{kind}.txt").read_text(encoding="utf-8").split("\n")
    return tuple("" if line == '""' else unescaped(line) for line in lines if line)


def unescaped(line: str) -> str:
    def character(match: re.Match[str]) -> str:
        return ESCAPES.get(match[1]) or chr(int(match[1][1:], 16))

    return re.sub(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)", character, line)


# -- texts of the language, and texts with a slip


def drawn(name: str, seed: int) -> str:
    """A random text of the language that begins as some line of the case file does."""
    rng, language = np.random.default_rng(seed), automaton(name)
    line = cases(name, "accept")[rng.integers(len(cases(name, "accept")))].encode()
    begun = line[: rng.integers(len(line) + 1)]
    rest = sample(language, rng, size=int(rng.integers(60)), state=run(language, language.start, begun))
    return (begun + rest).decode()


def words(text: str) -> list[str]:
    return re.findall(r"\w+|\s+|.", text, re.DOTALL)


def damaged(text: str, rng: Random, supply: Sequence[str]) -> str:
    """The text with one or two slips: characters or words are missing, swapped, or come from elsewhere."""
    by_word = rng.random() < 0.5
    parts = words(text) if by_word else list(text)
    for _ in range(rng.choice([1, 1, 2])):
        new = rng.choice(supply) if by_word else rng.choice(string.printable)
        at, other = sorted(rng.randrange(len(parts) + 1) for _ in range(2))
        match rng.randrange(4):
            case 0:
                del parts[at : at + 1]
            case 1:
                parts.insert(at, new)
            case 2:
                parts[at : at + 1] = [new]
            case 3:
                parts[at:other] = parts[other - 1 : other] + parts[at + 1 : other - 1] + parts[at : at + 1]
    return "".join(parts)


# -- parsers: is this a text of the language?


def json_parses(text: str) -> bool:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        json.loads(text, parse_constant=refuse)
    except ValueError:
        return False
    return True


# The pattern that semver.org gives.
SEMVER = (
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
    r"(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?"
)


def semver_parses(text: str) -> bool:
    return re.fullmatch(SEMVER, text, re.ASCII) is not None


def python_parses(text: str) -> bool:
    """Without anything that Python warns of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            ast.parse(text, mode="eval")
        except (SyntaxError, ValueError):
            return False
    return True


ARITHMETIC = (
    *(ast.Expression, ast.BinOp, ast.UnaryOp, ast.Constant, ast.UAdd, ast.USub),
    *(ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow),
)


def arithmetic_parses(text: str) -> bool:
    """Python's parser, kept to decimal numbers on one line."""
    text = text.strip(" \t")
    if not re.fullmatch(r"[0-9.eE+*/%() \t-]*", text) or not python_parses(text):
        return False
    nodes = list(ast.walk(ast.parse(text, mode="eval")))
    numbers = all(isinstance(node.value, int | float) for node in nodes if isinstance(node, ast.Constant))
    return numbers and all(isinstance(node, ARITHMETIC) for node in nodes)


def csv_parses(text: str) -> bool:
    """Field by field, as RFC 4180 defines them; where that works, the csv module must read the same rows."""
    rows, at = [[""]], 0
    while True:
        field = re.compile(r'"((?:[\r\n -!#-~\u0080-\U0010ffff]|"")*)"|([ !#-+\--~\u0080-\U0010ffff]*)').match(text, at)
        assert field
        at = field.end()
        rows[-1][-1] = field[2] if field[1] is None else field[1].replace('""', '"')
        if at == len(text):
            break
        if text[at] == ",":
            at += 1
            rows[-1].append("")
        elif text.startswith("\r\n", at):
            at += 2
            rows.append([""])
        else:
            return False
    read = csv.reader(io.StringIO(text, newline=""), strict=True)
    # The module has no fields where a line is empty.
    assert [row for row in read if row not in ([], [""])] == [row for row in rows if row != [""]]
    return True


SYNTAX_ERRORS = re.compile(
    "syntax error|incomplete input|unrecognized token|should come (before|after)|unknown join type|one statement"
    "|unknown table option|JOIN clause is required|NATURAL join may not"
)


EARLY_ERRORS = re.compile("unsupported frame|duplicate WITH table|variable number must|columns assigned|hex literal")
DEFINITION = re.compile(r"\s*(?:CREATE|ALTER|DROP)\b", re.IGNORECASE)


@cache
def databases() -> list[sqlite3.Connection]:
    """One that is empty, one with tables: some mistakes are only found behind a name that is new, or known."""
    empty, full = sqlite3.connect(":memory:"), sqlite3.connect(":memory:")
    full.executescript("CREATE TABLE t(a, b, c, d, id); CREATE TABLE u(a, b, c, id); CREATE TABLE v(a, id)")
    return [empty, full]


def sql_parses(text: str) -> bool | None:
    """SQLite has nothing to say but that something does not exist, or makes no sense where it stands.

    None where it stops for such a reason before it has seen the whole text.
    """
    if sqlite3.sqlite_version_info < (3, 39):
        pytest.skip(f"SQLite {sqlite3.sqlite_version} is older than the grammar")
    if "\0" in text:
        return False
    complaints = [complaint for connection in databases() if (complaint := complaint_of(connection, text))]
    if any(map(SYNTAX_ERRORS.search, complaints)):
        return False
    return None if any(map(EARLY_ERRORS.search, complaints)) or (complaints and DEFINITION.match(text)) else True


def complaint_of(connection: sqlite3.Connection, text: str) -> str:
    try:
        connection.execute("EXPLAIN/**/" + text)
    except sqlite3.Error as error:
        return str(error)
    return ""


# -- XML: a parser for the form, tables for what HTML elements hold

BLOCKS = "div section article header footer nav blockquote p pre h1 h2 h3 ul ol table hr"
INLINES = "span a em strong b i code sub sup br img"
EMPTY = "hr br img"
TEXTLESS = "ul ol table thead tbody tr"
CONTENTS = {
    "div section article header footer nav blockquote li td": f"{BLOCKS} {INLINES}",
    "p pre h1 h2 h3 caption th span a em strong b i code sub sup": INLINES,
    "ul ol": "li",
    "thead tbody": "tr",
    "table": "caption thead tbody",
    "tr": "td th",
    EMPTY: "",
}
HOLDS = {tag: set(content.split()) for tags, content in CONTENTS.items() for tag in tags.split()}
SPANS = "(colspan,)?(rowspan,)?"
OWN_ATTRIBUTES = {"a": "(href,)?(rel,)?", "img": "src,alt,(width,)?(height,)?", "td": SPANS, "th": SPANS}
START_TAG = re.compile(r"""<(\w+)(?:\s+\w+\s*=\s*(?:"[^"]*"|'[^']*'))*\s*(/?)>""")


def xml_parses(text: str) -> bool:
    try:
        root = ElementTree.fromstring(text.encode())
    except ElementTree.ParseError:
        return False
    bare = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    tags = START_TAG.findall(bare)  # not those with a colon in a name
    if re.search(r"<[?!]", bare) or re.search(r"<!--(>|->)", text) or len(tags) != len(list(root.iter())):
        return False
    closed = all((name in EMPTY.split()) == bool(slash) for name, slash in tags)
    return closed and root.tag in BLOCKS.split() and all(map(element_is_html, root.iter()))


def element_is_html(element: ElementTree.Element) -> bool:
    tag, children = element.tag, [child.tag for child in element]
    attributes = OWN_ATTRIBUTES.get(tag, "") + "(id,)?(class,)?(title,)?(lang,)?"
    return (
        set(children) <= HOLDS.get(tag, set())
        and (tag != "table" or re.fullmatch("(caption)?(thead)?(tbody)*", "".join(children)) is not None)
        and (
            tag not in TEXTLESS.split() or not "".join(filter(None, [element.text, *(c.tail for c in element)])).strip()
        )
        and re.fullmatch(attributes, "".join(f"{name}," for name in element.attrib)) is not None
    )


# -- ISO 8601: the calendar of the standard library


def number_of_days(year: int) -> int:
    return 366 if isleap(year) else 365


def number_of_weeks(year: int) -> int:
    return date(year % 400 + 2000, 12, 28).isocalendar().week


def date_format(text: str) -> str | None:
    """ "-" or "" (extended, basic) for a complete date that exists, None for anything else."""
    if found := re.fullmatch(r"(\d{4})(-?)(\d\d)\2(\d\d)", text, re.ASCII):
        year, month, day = int(found[1]), int(found[3]), int(found[4])
        return found[2] if 1 <= month <= 12 and 1 <= day <= monthrange(year % 400 + 2000, month)[1] else None
    if found := re.fullmatch(r"(\d{4})(-?)W(\d\d)\2([1-7])", text, re.ASCII):
        return found[2] if 1 <= int(found[3]) <= number_of_weeks(int(found[1])) else None
    if found := re.fullmatch(r"(\d{4})(-?)(\d{3})", text, re.ASCII):
        return found[2] if 1 <= int(found[3]) <= number_of_days(int(found[1])) else None
    return None


def is_reduced_date(text: str) -> bool:
    if found := re.fullmatch(r"\d{4}(?:-(\d\d))?", text, re.ASCII):
        return found[1] is None or 1 <= int(found[1]) <= 12
    found = re.fullmatch(r"(\d{4})-?W(\d\d)", text, re.ASCII)
    return found is not None and 1 <= int(found[2]) <= number_of_weeks(int(found[1]))


def clock_format(text: str) -> set[str]:
    """The formats (":" extended, "" basic) in which this is a time of the day, perhaps with a zone."""
    found = re.fullmatch(
        r"(\d\d)(?:(:?)(\d\d)(?:\2(\d\d))?)?([.,]\d+)?(Z|([+-])(\d\d)(?:(:?)(\d\d))?)?", text, re.ASCII
    )
    if not found:
        return set()
    hour, minute, second, fraction = int(found[1]), int(found[3] or 0), int(found[4] or 0), (found[5] or "")[1:]
    end = hour == 24 and minute == second == 0 and not fraction.strip("0")
    zone_hour, zone_minute = int(found[8] or 0), int(found[10] or 0)
    no_zone = found[7] == "-" and zone_hour == zone_minute == 0
    if no_zone or zone_hour > 23 or zone_minute > 59 or not (end or (hour <= 23 and minute <= 59 and second <= 59)):
        return set()
    formats = {":", ""}
    formats &= {found[2]} if found[3] else formats
    return formats & {found[9]} if found[10] else formats


def is_duration(text: str) -> bool:
    number = r"\d+(?:[.,]\d+(?=[A-Z]$))?"
    date_part = rf"(?:{number}Y)?(?:{number}M)?(?:{number}D)?"
    time_part = rf"(?:T(?=\d)(?:{number}H)?(?:{number}M)?(?:{number}S)?)?"
    return re.fullmatch(rf"P(?:(?=[T\d]){date_part}{time_part}|{number}W)", text, re.ASCII) is not None


def date_time_format(text: str) -> str | None:
    day, _, clock = text.partition("T")
    form = date_format(day)
    return form if form is not None and {"-": ":", "": ""}[form] in clock_format(clock) else None


def is_interval(text: str) -> bool:
    if text.count("/") != 1:
        return False
    start, end = text.split("/")
    for form in (date_format, date_time_format):
        if form(start) is not None and (is_duration(end) or form(start) == form(end)):
            return True
    return is_duration(start) and (date_format(end) is not None or date_time_format(end) is not None)


def iso_parses(text: str) -> bool:
    repeated = re.fullmatch(r"R\d*/(.*)", text, re.ASCII)
    if repeated:
        return is_interval(repeated[1]) or is_duration(repeated[1])
    if text.startswith("T"):
        return bool(clock_format(text[1:]))
    points = date_format(text) is not None or is_reduced_date(text) or date_time_format(text) is not None
    return points or is_duration(text) or is_interval(text) or (text[2:3] == ":" and bool(clock_format(text)))


# -- addresses: the standard library knows IPv6


def is_ipv6(text: str, *, least_zeros: int) -> bool:
    """least_zeros: how many groups `::` stands for at least (RFC 3986 says one, RFC 5321 two)."""
    try:
        IPv6Address(text)
    except AddressValueError:
        return False
    written = re.sub(r"[\d.]+\.\d+", "0:0", text).replace("::", ":").strip(":")
    return "%" not in text and ("::" not in text or 8 - len(written.split(":")) * (written != "") >= least_zeros)


def email_parses(text: str) -> bool:
    atom, quoted = r"[\w!#$%&'*+/=?^`{|}~-]+", r'"(?:[ !#-\[\]-~]|\\[ -~])*"'
    found = re.fullmatch(rf"({atom}(?:\.{atom})*|{quoted})@(.+)", text, re.ASCII)
    if not found or len(found[1]) > 64:
        return False
    if literal := re.fullmatch(r"\[(?:(\d{1,3}(?:\.\d{1,3}){3})|IPv6:(.+))\]", found[2], re.ASCII | re.IGNORECASE):
        if literal[1]:
            return all(int(octet) <= 255 for octet in literal[1].split("."))
        head, _, last = literal[2].rpartition(":")
        if re.fullmatch(r"\d{1,3}(?:\.\d{1,3}){3}", last, re.ASCII):  # RFC 5321 allows leading zeros, Python does not
            last = ".".join(str(int(octet)) for octet in last.split("."))
        return is_ipv6(f"{head}:{last}", least_zeros=2)
    labels = found[2].split(".")
    return all(re.fullmatch(r"[^\W_](?:(?:[^\W_]|-){0,61}[^\W_])?", label, re.ASCII) for label in labels)


def url_parses(text: str) -> bool:
    """The parts as appendix B of RFC 3986 splits them, then each by its characters."""
    parts = re.fullmatch(r"([^:/?#]+):(//([^/?#]*))?([^?#]*)(\?([^#]*))?(#(.*))?", text, re.DOTALL)
    if not parts or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", parts[1]):
        return False
    if not all(spelled(part or "", ":@/?") for part in (parts[4], parts[6], parts[8])):
        return False
    if parts[2] and parts[4][:1] not in ("", "/"):
        return False
    return parts[3] is None or is_authority(parts[3])


def spelled(text: str, more: str) -> bool:
    """Only what any part of a URI may hold, and some characters more."""
    return re.fullmatch(rf"(?:[\w.~!$&'()*+,;={more}-]|%[0-9A-Fa-f]{{2}})*", text, re.ASCII) is not None


def is_authority(text: str) -> bool:
    user, _, address = text.rpartition("@")
    found = re.fullmatch(r"(\[(.*)\]|[^:\[\]]*)(?::\d*)?", address, re.ASCII)
    if not found or not spelled(user, ":"):
        return False
    if found[2] is None:
        return spelled(found[1], "")
    future = re.fullmatch(r"[vV][0-9a-fA-F]+\.(.+)", found[2])
    return bool(future and "%" not in future[1] and spelled(future[1], ":")) or is_ipv6(found[2], least_zeros=1)


# -- SMILES: atoms by a pattern, branches by folding them from the inside (rdkit knows more, see below)

ELEMENTS = """
    He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb Mo Tc
    Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb
    Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og
"""
NEIGHBOURS = {"TH": 2, "AL": 2, "SP": 3, "TB": 20, "OH": 30}
CHIRALITY = "|".join(["@@?", *(f"@{kind}{n}" for kind, most in NEIGHBOURS.items() for n in range(1, most + 1))])
BRACKETS = re.compile(
    rf"\[[0-9]{{0,3}}(?:H(?:{CHIRALITY})?|(?:{'|'.join(ELEMENTS.split())}|se|as|[bcnops*])(?:{CHIRALITY})?(?:H[0-9]?)?)"
    r"(?:\+\+|--|[+-][0-9]{0,2})?(?::[0-9]{1,3})?\]"
)
SMILES_TOKENS = {
    "a": re.compile(rf"{BRACKETS.pattern}|Br|Cl|[BCFINOPSbcnops*]"),
    "b": re.compile(r"[-=#$:/\\]"),
    "r": re.compile(r"[0-9]|%[0-9]{2}"),
    **{mark: re.compile(re.escape(mark)) for mark in "()."},
}


def smiles_parses(text: str) -> bool:
    kinds, at = "", 0
    while at < len(text):
        found = [(kind, match) for kind, token in SMILES_TOKENS.items() if (match := token.match(text, at))]
        if not found:
            return False
        kinds, at = kinds + found[0][0], found[0][1].end()
    folded = re.sub("a(b?r)+", "a", kinds)
    while (inner := re.sub(r"a(\([b.]?a([b.]?a)*\))+", "a", folded)) != folded:
        folded = inner
    return re.fullmatch(r"(a([b.]?a)*)?", folded) is not None


# -- PDDL: a reader of lists, then what each list may be

PDDL_WORDS = ["and", "or", "not", "imply", "exists", "forall", "when", "either"]
REQUIREMENTS = [":strips", ":typing", ":equality", ":adl", ":conditional-effects"] + [
    f":{kind}-preconditions" for kind in ("negative", "disjunctive", "existential", "universal", "quantified")
]


def pddl_parses(text: str) -> bool:
    code = re.sub(r";[^\n]*\n", "\n", text)
    trees: list[list[Any]] = [[]]
    for token in re.findall(r"[()]|[^ \t\r\n()]+", code.lower()):
        if token == "(":
            trees.append([])
        elif token != ")":
            trees[-1].append(token)
        elif len(trees) == 1:
            return False
        else:
            trees[-2].append(trees.pop())
    if ";" in code or not code.isascii() or len(trees) != 1 or len(trees[0]) != 1 or not isinstance(trees[0][0], list):
        return False
    (tree,) = trees[0]
    return any(form(tree) for form in (is_domain, is_problem, is_goal, is_condition))


def is_name(tree: Any) -> bool:
    return isinstance(tree, str) and tree not in PDDL_WORDS and re.fullmatch(r"[a-z][\w-]*", tree, re.ASCII) is not None


def is_term(tree: Any) -> bool:
    return is_name(tree) or is_variable(tree)


def is_variable(tree: Any) -> bool:
    return isinstance(tree, str) and re.fullmatch(r"\?[a-z][\w-]*", tree, re.ASCII) is not None


def is_typed(trees: Sequence[Any], kind: Callable[[Any], bool]) -> bool:
    """`a b - t c`: written with a letter for what each part can be, a name standing for a type only behind a dash."""
    shape = ""
    for tree in trees:
        either = isinstance(tree, list) and len(tree) > 1 and tree[0] == "either" and all(map(is_name, tree[1:]))
        typed = shape.endswith("-") and (either or is_name(tree))
        shape += "-" if tree == "-" else "t" if typed else "x" if kind(tree) else "?"
    return re.fullmatch("(x+-t)*x*", shape) is not None


def is_bound(tree: Any) -> bool:
    return isinstance(tree, list) and is_typed(tree, is_variable)


def is_atom(tree: Any, term: Callable[[Any], bool] = is_term) -> bool:
    return isinstance(tree, list) and tree != [] and is_name(tree[0]) and all(map(term, tree[1:]))


def is_literal(tree: Any, term: Callable[[Any], bool] = is_term) -> bool:
    return is_atom(tree, term) or (
        isinstance(tree, list) and tree[:1] == ["not"] and len(tree) == 2 and is_atom(tree[1], term)
    )


def is_condition(tree: Any) -> bool:
    match tree:
        case ["and" | "or", *parts]:
            return all(map(is_condition, parts))
        case ["not", part]:
            return is_condition(part)
        case ["imply", first, second]:
            return is_condition(first) and is_condition(second)
        case ["exists" | "forall", variables, part]:
            return is_bound(variables) and is_condition(part)
        case ["=", first, second]:
            return is_term(first) and is_term(second)
    return is_atom(tree)


def is_effect(tree: Any) -> bool:
    return all(map(is_change, tree[1:])) if isinstance(tree, list) and tree[:1] == ["and"] else is_change(tree)


def is_change(tree: Any) -> bool:
    match tree:
        case ["forall", variables, effect]:
            return is_bound(variables) and is_effect(effect)
        case ["when", condition, ["and", *parts]]:
            return is_condition(condition) and all(map(is_literal, parts))
        case ["when", condition, part]:
            return is_condition(condition) and is_literal(part)
    return is_literal(tree)


def is_action(tree: Any) -> bool:
    match tree:
        case [":action", name, ":parameters", variables, *rest]:
            conditions = [rest.pop(0), rest.pop(0)][1:] if rest[:1] == [":precondition"] and len(rest) > 1 else []
            effects = [rest.pop(0), rest.pop(0)][1:] if rest[:1] == [":effect"] and len(rest) > 1 else []
            valid = all(c == [] or is_condition(c) for c in conditions) and all(
                e == [] or is_effect(e) for e in effects
            )
            return is_name(name) and is_bound(variables) and valid and not rest
    return False


SECTIONS: dict[str, Callable[[list[Any]], bool]] = {
    ":domain": lambda rest: len(rest) == 1 and is_name(rest[0]),
    ":requirements": lambda rest: rest != [] and all(tree in REQUIREMENTS for tree in rest),
    ":types": lambda rest: is_typed(rest, is_name),
    ":constants": lambda rest: is_typed(rest, is_name),
    ":objects": lambda rest: is_typed(rest, is_name),
    ":predicates": lambda rest: rest != [] and all(is_predicate(tree) for tree in rest),
    ":init": lambda rest: all(is_literal(tree, is_name) for tree in rest),
    ":goal": lambda rest: len(rest) == 1 and is_condition(rest[0]),
}


def is_predicate(tree: Any) -> bool:
    return isinstance(tree, list) and tree != [] and is_name(tree[0]) and is_typed(tree[1:], is_variable)


def is_goal(tree: Any) -> bool:
    return tree[:1] == [":goal"] and SECTIONS[":goal"](tree[1:])


def is_file(tree: Any, kind: str, order: str) -> bool:
    """(define (kind name) ...) with sections in this order (a pattern of their names)."""
    match tree:
        case ["define", [word, name], *sections]:
            if word != kind or not is_name(name) or not all(isinstance(s, list) and s for s in sections):
                return False
            known = all(
                is_action(s) if s[0] == ":action" else s[0] in SECTIONS and SECTIONS[s[0]](s[1:])
                for s in sections
                if isinstance(s[0], str)
            )
            return known and re.fullmatch(order, "".join(map(str, (s[0] for s in sections)))) is not None
    return False


def is_domain(tree: Any) -> bool:
    return is_file(tree, "domain", "(:requirements)?(:types)?(:constants)?(:predicates)?(:action)*")


def is_problem(tree: Any) -> bool:
    return is_file(tree, "problem", ":domain(:requirements)?(:objects)?:init:goal")


PARSERS: dict[str, Callable[[str], bool | None]] = {
    "arithmetic": arithmetic_parses,
    "csv": csv_parses,
    "email": email_parses,
    "iso-8601": iso_parses,
    "json": json_parses,
    "pddl": pddl_parses,
    "python-expr": python_parses,
    "semver": semver_parses,
    "smiles": smiles_parses,
    "sql": sql_parses,
    "url": url_parses,
    "xml": xml_parses,
}

# What a text has in it that its parser takes and its grammar does not: as little of what the head of the grammar says
# as the texts below ask for.
LEFT_OUT = {
    "python-expr": r"\\[4-7N\r\n]|[^\x00-\x7f]|\b(async|await|yield)\b|\br?fr?['\"]",
    "sql": r"""
        ;.*\S                                                    # several statements
        | \# | [$@:]\w+(\(|::)                                   # parameters #a, @a(b), $a::b
        | /\*(?!.*\*/)                                           # a comment that the end of the text closes
        | \w' | \b0x[0-9a-f]+[g-z_]                              # an alias right behind a word or number
        | (over|filter|window)\b(?!\s*\()                         # such a word as an alias without AS, or as a new name
        | \b(table|view|index)\s+(glob|like|match|regexp|indexed|over|window|filter|column|range|rows|groups)\b
        | \bwith\b                                               # WITH as a name
        | \binsert\b.*\bselect\b.*\b(conflict|returning)\b       # INSERT ... SELECT ... ON CONFLICT
        | \b(cross|inner|left|natural|outer|right)\s+(cross|inner|left|natural|outer|right)\b    # LEFT LEFT JOIN
    """,
}


def left_out(name: str, text: str) -> bool:
    if name == "sql" and sqlite3.sqlite_version_info >= (3, 44):
        return True  # newer than the grammar: it may take anything more
    flags = re.DOTALL | re.IGNORECASE | re.VERBOSE
    return name in LEFT_OUT and re.search(LEFT_OUT[name], text, flags) is not None


# -- the case files


@pytest.mark.parametrize("name", NAMES)
def test_case_files_hold_many_texts_and_each_once(name: str) -> None:
    accept, reject = cases(name, "accept"), cases(name, "reject")
    assert len(accept) >= 25
    assert len(reject) >= 25
    assert len({*accept, *reject}) == len(accept) + len(reject)


@pytest.mark.parametrize("name", NAMES)
def test_the_grammar_accepts_and_rejects_the_lines_of_its_case_files(name: str) -> None:
    assert [text for text in cases(name, "accept") if not accepted(name, text)] == []
    assert [text for text in cases(name, "reject") if accepted(name, text)] == []


@pytest.mark.parametrize("name", NAMES)
def test_lark_accepts_and_rejects_the_lines_of_the_case_files(name: str) -> None:
    assert [text for text in cases(name, "accept") if not accepted_by_lark(name, text)] == []
    assert [text for text in cases(name, "reject") if accepted_by_lark(name, text)] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_parser_accepts_and_rejects_the_lines_of_the_case_files(name: str) -> None:
    assert [text for text in cases(name, "accept") if PARSERS[name](text) is False] == []
    assert [text for text in cases(name, "reject") if PARSERS[name](text) and not left_out(name, text)] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_grammar_is_known_by_its_name(name: str) -> None:
    rule = genctl.lark(name)
    assert all(map(rule.accepts, cases(name, "accept")))
    assert not any(map(rule.accepts, cases(name, "reject")))


# -- drawn and damaged texts

FEW_OR_MANY = pytest.mark.parametrize(
    "seeds", [range(40), pytest.param(range(40, 2000), marks=pytest.mark.slow)], ids=["few", "many"]
)


@FEW_OR_MANY
@pytest.mark.parametrize("name", NAMES)
def test_the_parser_accepts_what_the_grammar_generates(name: str, seeds: range) -> None:
    for text in (drawn(name, seed) for seed in seeds):
        assert PARSERS[name](text) is not False, text


def damaged_cases(name: str, seeds: range) -> Iterator[str]:
    texts = cases(name, "accept")
    supply = [word for kind in ("accept", "reject") for text in cases(name, kind) for word in words(text)]
    for seed in seeds:
        rng = Random(seed)
        yield damaged(rng.choice(texts), rng, supply)


@FEW_OR_MANY
@pytest.mark.parametrize("name", NAMES)
def test_grammar_and_parser_agree_on_damaged_texts(name: str, seeds: range) -> None:
    for text in damaged_cases(name, range(10 * seeds.start, 10 * seeds.stop)):
        right = PARSERS[name](text)
        assert right is None or accepted(name, text) == right or (right and left_out(name, text)), text


@FEW_OR_MANY
@pytest.mark.parametrize("name", NAMES)
def test_lark_agrees_on_damaged_texts(name: str, seeds: range) -> None:
    for text in damaged_cases(name, seeds):
        assert accepted_by_lark(name, text) == accepted(name, text), text


# -- what is particular to one grammar


def test_every_year_has_its_own_days_and_weeks() -> None:
    for year in range(1, 10_000):
        leap, long = isleap(year), date(year, 12, 28).isocalendar().week == 53
        assert accepted("iso-8601", f"{year:04}-02-29") == accepted("iso-8601", f"{year:04}366") == leap
        assert accepted("iso-8601", f"{year:04}-W53") == accepted("iso-8601", f"{year:04}W531") == long


@pytest.mark.parametrize("year", [1, 1900, 2000, 2023, 2024, 9999])
def test_every_day_is_accepted_as_the_standard_library_writes_it(year: int) -> None:
    day = date(year, 1, 1)
    for _ in range(number_of_days(year)):
        week = day.isocalendar()
        when = datetime(day.year, day.month, day.day, 12, 30, 5, 250_000)
        texts = [
            day.isoformat(),
            f"{week.year:04}-W{week.week:02}-{week.weekday}",
            when.isoformat(),
            f"{when.isoformat()}Z",
        ]
        assert all(accepted("iso-8601", text) for text in [*texts, f"{day.year:04}-{day:%j}"])
        assert date.fromisoformat(texts[1]) == day
        day += timedelta(day.toordinal() < date.max.toordinal())


def test_the_standard_library_reads_the_dates_and_times_that_it_reaches() -> None:
    """It knows no days of the year, no 24:00, no fractions of minutes, no year 0."""
    for text in [*cases("iso-8601", "accept"), *(drawn("iso-8601", seed) for seed in range(500))]:
        day, mark, clock = text.partition("T")
        if (
            "/" not in text
            and (date_format(day) is not None and not re.fullmatch(r"\d{4}-?\d{3}|0000.*|9999-?W52-?[67]", day))
            and (not mark or re.fullmatch(r"(?!24)[\d:]*(\d\d:?\d\d[.,]\d+)?([Z+-].*)?", clock))
        ):
            assert datetime.fromisoformat(text)


# Where a word may be a name, as far as it depends on the word.
PLACES = """
    SELECT {} FROM t
    SELECT 1 + {}
    SELECT ({})
    SELECT {}.a FROM t
    SELECT t.{} FROM t
    SELECT {}.* FROM t
    SELECT {}(1)
    SELECT {}(*)
    SELECT {}()
    SELECT a, {}(b, c) FROM t
    SELECT a AS {} FROM t
    SELECT * FROM {}
    SELECT * FROM main.{}
    SELECT * FROM t AS {}
    SELECT a IN {} FROM t
    SELECT * FROM t JOIN u USING ({})
    SELECT 1 ORDER BY {}
    SELECT NOT {}
    WITH a({}) AS (SELECT 1) SELECT 1
    SELECT CASE {} WHEN 1 THEN {} END
    SELECT 1 WHERE a BETWEEN {} AND {}
    INSERT INTO {} VALUES (1)
    INSERT INTO t({}) VALUES (1)
    UPDATE {} SET a = 1
    UPDATE t SET {} = 1
    DELETE FROM {}
    CREATE TABLE n({})
    CREATE TABLE n(a, {})
    CREATE INDEX i ON {}(a)
    VALUES ({})
    DELETE FROM t RETURNING {}
    SELECT f(1, {})
    SELECT 1 LIMIT {}
    SELECT a LIKE {} FROM t
    SELECT -{}
"""
# Where a name may be new, or stand without AS: the grammar takes fewer keywords there than SQLite.
CLOSED_PLACES = """
    SELECT a {} FROM t
    SELECT (1) {}, 2
    SELECT * FROM t {}
    SELECT * FROM t {} JOIN u
    SELECT * FROM (SELECT 1) {}
    CREATE TABLE {}(a)
    CREATE VIEW {} AS SELECT 1
    CREATE INDEX {} ON t(a)
    WITH {} AS (SELECT 1) SELECT 1
    SELECT 1 FROM t WINDOW {} AS ()
    SELECT a() OVER {} FROM t
    SELECT a() OVER ({}) FROM t
    ALTER TABLE t RENAME {} TO z
    CREATE TABLE n(a {})
    SELECT a() OVER (ROWS {} PRECEDING) FROM t
    SELECT CAST(a AS {}) FROM t
    SELECT a COLLATE {} FROM t
"""
# https://sqlite.org/lang_keywords.html, as of SQLite 3.40
SQL_KEYWORDS = """
    abort action add after all alter always analyze and as asc attach autoincrement before begin between by cascade
    case cast check collate column commit conflict constraint create cross current current_date current_time
    current_timestamp database default deferrable deferred delete desc detach distinct do drop each else end escape
    except exclude exclusive exists explain fail filter first following for foreign from full generated glob group
    groups having if ignore immediate in index indexed initially inner insert instead intersect into is isnull join
    key last left like limit match materialized natural no not nothing notnull null nulls of offset on or order
    others outer over partition plan pragma preceding primary query raise range recursive references regexp reindex
    release rename replace restrict returning right rollback row rows savepoint select set table temp temporary then
    ties to transaction trigger unbounded union unique update using vacuum values view virtual when where window
    with without
"""


def neighbours(word: str) -> list[str]:
    """Words that a keyword must not be taken for, with the keyword itself."""
    return [word, word.upper(), word[:-1], word + "s", word + "_", "x" + word, word[:-1] + "0"]


@pytest.mark.parametrize("keyword", SQL_KEYWORDS.split())
def test_a_keyword_of_sql_is_a_name_where_sqlite_says_so(keyword: str) -> None:
    for word in neighbours(keyword):
        for place in PLACES.strip().splitlines():
            text = place.replace("{}", word)
            assert accepted("sql", text) == (sql_parses(text) is not False) or word.lower() == "with", text
        for place in CLOSED_PLACES.strip().splitlines():
            text = place.replace("{}", word)
            assert not accepted("sql", text) or sql_parses(text) is not False, text
            assert accepted("sql", text) or word.lower() in SQL_KEYWORDS.split() or not sql_parses(text), text


@pytest.mark.parametrize("word", keyword.kwlist)
def test_a_keyword_of_python_is_no_name(word: str) -> None:
    for near in neighbours(word):
        for place in ("{}", "x.{}", "({}, x)", "f({}=1)", "lambda {}: 0", "[x for {} in y]", "({} := 1)"):
            text = place.format(near)
            assert accepted("python-expr", text) == python_parses(text), text


@pytest.mark.parametrize("word", PDDL_WORDS)
def test_a_word_of_pddl_is_no_name(word: str) -> None:
    for near in [*neighbours(word), f"{word}-x"]:
        assert accepted("pddl", f"({near} a)") == accepted("pddl", f"(p {near})") == (near.lower() not in PDDL_WORDS)


def test_every_element_has_a_symbol() -> None:
    assert len(ELEMENTS.split()) == 117  # all but hydrogen
    for first in string.ascii_letters:
        for second in ["", *string.ascii_lowercase]:
            assert accepted("smiles", f"[{first}{second}]") == (BRACKETS.fullmatch(f"[{first}{second}]") is not None)


def test_rdkit_reads_molecules_without_ring_bonds() -> None:
    """All that the specification has but branches that begin with a dot, numbers that begin with 0, and a chiral H."""
    chem = pytest.importorskip("rdkit.Chem")
    for text in [*cases("smiles", "accept"), *(drawn("smiles", seed) for seed in range(500))]:
        ring_bonds = re.search(r"\d", re.sub(r"\[[^]]*\]", "", text))
        if not ring_bonds and not re.search(r"\(\.|[+:-]0\d|\[\d*H@", text):
            assert chem.MolFromSmiles(text, sanitize=False) is not None, text


def test_a_character_reference_names_a_character_of_xml() -> None:
    edges = [
        range(0x120),
        range(0xD7F0, 0xD810),
        range(0xDFF0, 0xE010),
        range(0xFFF0, 0x10010),
        range(0x10FFF0, 0x110010),
    ]
    for number in (number for edge in edges for number in edge):
        for reference in (f"&#{number};", f"&#00{number};", f"&#x{number:x};", f"&#x0{number:X};"):
            text = f"<p>{reference}</p>"
            assert accepted("xml", text) == xml_parses(text), text


def test_expressions_of_this_project_are_accepted() -> None:
    """Those on one line: across lines, many need the brackets around them."""
    for path in Path(genctl.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        lines = [line.encode() for line in text.split("\n")]
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.expr) and node.lineno == node.end_lineno:
                expression = lines[node.lineno - 1][node.col_offset : node.end_col_offset].decode()
                if python_parses(expression) and not left_out("python-expr", expression):
                    assert accepted("python-expr", expression), expression


def test_sqlite_queries_that_others_wrote_are_accepted(data: Path) -> None:
    questions = json.loads(gzip.decompress((data / "spider-dev.json.gz").read_bytes()))["questions"]
    assert [q["query"] for q in questions if not accepted("sql", q["query"])] == []


@FEW_OR_MANY
def test_sqlite_rejects_what_the_grammar_rejects_of_damaged_queries(data: Path, seeds: range) -> None:
    questions = json.loads(gzip.decompress((data / "spider-dev.json.gz").read_bytes()))["questions"]
    queries = [question["query"] for question in questions]
    supply = [word for query in queries for word in words(query)]
    for seed in range(10 * seeds.start, 10 * seeds.stop):
        rng = Random(seed)
        text = damaged(rng.choice(queries), rng, supply)
        right = sql_parses(text)
        assert right is None or accepted("sql", text) == right or (right and left_out("sql", text)), text
