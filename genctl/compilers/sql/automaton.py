"""The statements for a schema as an automaton over bytes: the grammar of parser.py, read letter by letter.

    automaton = SqlAutomaton(Grammar(schema))
    accepts(automaton, b"SELECT name FROM customers")       # True

A state is a place of the grammar, and what was read of the next token. It is dead as soon as no token that may come
next begins like that, and every place of the grammar can be finished, so the automaton is trim by construction. Its
`distance` is the length of one way to the end (closing.py), which each byte of this way shortens by one; there may be
a shorter one.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from itertools import chain
from typing import NamedTuple, TypeAlias

import numpy as np

from genctl.automata.base import UNREACHABLE
from genctl.automata.lazy import LazyAutomaton
from genctl.compilers.sql.closing import Closing
from genctl.compilers.sql.expressions import positions
from genctl.compilers.sql.outline import Outlines
from genctl.compilers.sql.parser import Grammar
from genctl.compilers.sql.places import ALIAS, END, Place, Token
from genctl.compilers.sql.schema import lower
from genctl.kernels.records import U8

LONGEST_INTEGER = 18  # digits in LIMIT


class Lexeme(NamedTuple):
    """The beginning of a token. kind: "word", "position", "integer" (with what was read as text), "number" (text: what
    part of it was read), "string", "quoted" (text: None where it can be no name), "closed" (behind the quote that may
    end a string; it is doubled to be part of it), "op". quote: its quotation mark. rest: bytes that a character lacks.
    """

    kind: str
    text: str | None = ""
    quote: str = ""
    rest: tuple[int, int, int] = (0, 0, 0)


class Key(NamedTuple):
    """place: its number. touching: "w" behind a word or number, which no other may follow without a blank; a quotation
    mark behind a name in quotes; "-" and "/", which begin comments.
    """

    place: int
    touching: str
    lexeme: Lexeme | None


class Opening(NamedTuple):
    """Where a word may go on or begin. begun: its letters so far, in lower case. tight: without a blank before the next
    letter; spaced: behind one.
    """

    place: int
    begun: str
    tight: bool
    spaced: bool


Words: TypeAlias = tuple[str, ...]

_BLANK = frozenset(b" \t\n\r\f")
_QUOTES = {'"': '"', "`": "`", "[": "]"}
_SHARED = frozenset(b"(),;.*+-~/%&")  # tokens of one character
_LONGER = {"<": ("<", "<=", "<>", "<<"), ">": (">", ">=", ">>"), "=": ("=", "=="), "!": ("!=",), "|": ("|", "||")}
_RESERVED_FOR_SQLITE = "sqlite_"
_FREE = {
    "name": re.compile(r"[a-z_][a-z0-9_$]*"),
    "alias": re.compile(r"[a-z]{1,3}[0-9]*"),
    "table": re.compile(r"(?!sqlite_)[a-z_][a-z0-9_$]*"),
    "": re.compile(r"(?!)"),
}


class Next:
    """What may come in a place, found when it is asked for."""

    def __init__(self, grammar: Grammar, place: Place) -> None:
        self._grammar, self.place = grammar, place

    @cached_property
    def words(self) -> Words:
        return tuple(sorted(self._grammar.words(self.place)))

    @cached_property
    def free(self) -> str:
        return self._grammar.free(self.place)

    @cached_property
    def quoted(self) -> Words:
        """Names that may come in quotes."""
        names = self._grammar.names(self.place)
        return tuple(sorted(name for name in names if self.after("quoted", name) is not None))

    @cached_property
    def double_quoted(self) -> Words:
        """Those that SQLite takes for a column, though they stand where a string may."""
        return tuple(sorted({*self.quoted, *self._grammar.taken(self.place)})) if self.string_in_quotes else self.quoted

    @cached_property
    def string_in_quotes(self) -> bool:
        return self._grammar.strings_in_double_quotes(self.place) and self.string

    @cached_property
    def string(self) -> bool:
        return self.after("string", "") is not None

    @cached_property
    def choices(self) -> Words | None:
        """The strings that may come as they are written behind the first quotation mark, if not all may."""
        values = self._grammar.choices(self.place)
        return None if values is None else tuple(sorted(_bytes_of(value.replace("'", "''")) + "'" for value in values))

    @cached_property
    def number(self) -> bool:
        return self.after("number", "") is not None

    @cached_property
    def integer(self) -> bool:
        return self.after("integer", "") is not None

    @cached_property
    def positions(self) -> Words:
        return tuple(sorted(map(str, positions(self.place))))

    def after(self, kind: str, text: str) -> Place | None:
        return self._grammar.read(self.place, Token(kind, text))

    def begins(self, words: Words, text: str) -> Words:
        """Of sorted words those that begin with a text."""
        low = bisect_left(words, text)
        return words[low : bisect_left(words, text + "\U0010ffff", low)]

    def may_be_word(self, text: str) -> bool:
        return bool(self.begins(self.words, text)) or _FREE[self.free].fullmatch(text) is not None


class SqlAutomaton(LazyAutomaton[Key]):
    """The statements of a grammar. Places are numbered as they are met."""

    exact_bound = False

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar
        self._places: list[Next] = []
        self._numbers: dict[Place, int] = {}
        self._begin_words: dict[Next, Words] = {}
        self.outlines = Outlines(grammar)
        self._closing = Closing(grammar, self.outlines, len)
        super().__init__(_classes(grammar), Key(self._number(grammar.start), "", None))

    def _number(self, place: Place) -> int:
        known = self._numbers.get(place)
        if known is None:
            known = self._numbers[place] = len(self._places)
            self._places.append(Next(self.grammar, place))
        return known

    # -- as LazyAutomaton has it; states are trim, and distances are found when they are asked for

    def _completable(self, state: int) -> int:
        return state

    def distance(self, state: int, /) -> int:
        known = self._distances[state]
        if known is None:
            key = self._keys[state]
            assert key is not None, "the dead state's distance is known"
            known = self._distances[state] = self._missing(key)
        return known

    def _accepts(self, key: Key) -> bool:
        place = self._ended(key)
        return place is not None and self.grammar.read(place, END) is not None

    def _bound(self, key: Key) -> int:
        return 1

    def place(self, state: int) -> Place | None:
        """The place of the grammar behind the last whole token of a state."""
        key = self._keys[state]
        return None if key is None else self._places[key.place].place

    def openings(self, state: int) -> list[Opening] | None:
        """Where the tokens that are (the beginning of) a word, with or without blanks before it, may go on.

        None where they may be something else as well.
        """
        key = self._keys[state]
        if key is None or (key.lexeme is not None and key.lexeme.kind not in _WORDS_OR_BEHIND):
            return None
        if key.lexeme is None:
            return self._simple([Opening(key.place, "", key.touching != "w", True)])
        place, is_word = self._ended(key), key.lexeme.kind == "word"
        out = [Opening(key.place, key.lexeme.text or "", True, False)] if is_word else []
        return self._simple(out if place is None else [*out, Opening(self._number(place), "", not is_word, True)])

    def _simple(self, openings: list[Opening]) -> list[Opening] | None:
        """None where a name may still turn out to begin as no new table's may."""
        tables = (opening for opening in openings if self._places[opening.place].free == "table")
        return None if any(_RESERVED_FOR_SQLITE.startswith(opening.begun) for opening in tables) else openings

    def place_of(self, opening: Opening) -> Place:
        return self._places[opening.place].place

    def may_be_word(self, opening: Opening, text: str) -> bool:
        """Does a word that may come there begin like this?"""
        return self._places[opening.place].may_be_word(text)

    def words(self, opening: Opening) -> Words:
        """The words that begin like the letters that were read and may come there; new names that are waited for."""
        what = self._places[opening.place]
        return what.begins(what.words, opening.begun) + what.begins(self._begun(what), opening.begun)

    def free(self, opening: Opening) -> str:
        """ "name": any name may come, or go on; "alias": any that looks like ALIAS; "": none."""
        free = self._places[opening.place].free
        free = "name" if free == "table" else free
        return free if not opening.begun or _FREE[free].fullmatch(opening.begun) else ""

    def ends(self, key: Key) -> Iterator[tuple[bytes, Place, bool]]:
        """What ends the token that was begun, the place behind it, and whether no word may follow without a blank."""
        what, lexeme = self._places[key.place], key.lexeme
        if lexeme is None:
            yield b"", what.place, key.touching == "w"
            return
        for rest, token in self._rests(what, lexeme):
            place = what.after(*token)
            if place is not None:
                yield rest.encode("latin-1"), place, token.kind in _WORDLIKE

    def key(self, state: int) -> Key | None:
        return self._keys[state]

    def _successor(self, key: Key, byte: int) -> Key | None:
        if key.lexeme is not None:
            longer = self._longer(key.place, key.lexeme, byte)
            if longer is not None:
                return longer if isinstance(longer, Key) else Key(key.place, "", longer)
            if key.lexeme.kind in _WORDLIKE and _joins(key.lexeme, byte):
                return None
            place = self._ended(key)
            if place is None:
                return None
            key = Key(self._number(place), _touching(key.lexeme), None)
        return self._begin(key, byte)

    def _read(self, number: int, kind: str, text: str, touching: str) -> Key | None:
        place = self._places[number].after(kind, text)
        return None if place is None else Key(self._number(place), touching, None)

    # -- the beginning of a token

    def _begin(self, key: Key, byte: int) -> Key | None:
        number, touching, _ = key
        if byte in _BLANK:
            return Key(number, "", None)
        mark, what = lower(chr(byte)), self._places[number]
        if byte >= 0x80 or mark == touching or (mark == "*" and touching == "/"):
            return None
        if mark.isalpha() or mark == "_":
            may = touching != "w" and what.may_be_word(mark)
            return Key(number, "", Lexeme("word", mark)) if may else None
        if mark.isdigit():
            return self._begin_number(number, touching, mark)
        if mark == "'" and what.choices is not None:
            return Key(number, "", Lexeme("value", "", "'")) if what.string and what.choices else None
        if mark == "'":
            return Key(number, "", Lexeme("string", quote="'")) if what.string else None
        if mark in _QUOTES:
            may = bool(what.quoted) or (mark == '"' and what.string_in_quotes)
            return Key(number, "", Lexeme("quoted", "", mark)) if may else None
        if mark in _LONGER:
            may = any(what.after("op", op) is not None for op in _LONGER[mark])
            return Key(number, "", Lexeme("op", mark)) if may else None
        after = self._read(number, "op", mark, mark if mark in "-/" else "") if byte in _SHARED else None
        if after is None and mark == "." and touching != "w" and what.number:
            return Key(number, "", Lexeme("number", "."))
        return after

    def _begin_number(self, number: int, touching: str, digit: str) -> Key | None:
        what = self._places[number]
        if touching == "w":
            return None
        if what.positions:
            return Key(number, "", Lexeme("position", digit)) if what.begins(what.positions, digit) else None
        if what.integer:
            return Key(number, "", Lexeme("integer", "1"))
        return Key(number, "", Lexeme("number", "1")) if what.number else None

    # -- more of a token

    def _longer(self, number: int, lexeme: Lexeme, byte: int) -> Lexeme | Key | None:
        """The token with one byte more, or a key where that ends it; None if the byte is no part of it."""
        return MORE[lexeme.kind](self, number, lexeme, byte)

    def _more_of_word(self, number: int, lexeme: Lexeme, byte: int) -> Lexeme | None:
        text = f"{lexeme.text}{lower(chr(byte))}"
        may = byte < 0x80 and (text[-1].isalnum() or text[-1] in "_$")
        return lexeme._replace(text=text) if may and self._places[number].may_be_word(text) else None

    def _more_of_position(self, number: int, lexeme: Lexeme, byte: int) -> Lexeme | None:
        text, what = f"{lexeme.text}{chr(byte)}", self._places[number]
        return lexeme._replace(text=text) if byte < 0x80 and what.begins(what.positions, text) else None

    def _more_of_integer(self, number: int, lexeme: Lexeme, byte: int) -> Lexeme | None:
        assert lexeme.text is not None
        may = chr(byte).isdigit() and byte < 0x80 and len(lexeme.text) < LONGEST_INTEGER
        return lexeme._replace(text=f"{lexeme.text}1") if may else None

    def _more_of_number(self, number: int, lexeme: Lexeme, byte: int) -> Lexeme | None:
        mark = "1" if 0x30 <= byte <= 0x39 else lower(chr(byte))
        after = _NUMBERS.get((lexeme.text or "", mark))
        return None if after is None else lexeme._replace(text=after)

    def _more_of_string(self, number: int, lexeme: Lexeme, byte: int) -> Lexeme | None:
        if byte == 0x27 and not lexeme.rest[0]:
            return lexeme._replace(kind="closed")
        rest = _more_of_character(lexeme.rest, byte)
        return None if rest is None else lexeme._replace(rest=rest)

    def _more_of_value(self, number: int, lexeme: Lexeme, byte: int) -> Lexeme | None:
        text, what = f"{lexeme.text}{chr(byte)}", self._places[number]
        return lexeme._replace(text=text) if what.begins(what.choices or (), text) else None

    def _more_of_closed(self, number: int, lexeme: Lexeme, byte: int) -> Lexeme | None:
        """A doubled quotation mark is a part of a string, and of no name."""
        if chr(byte) != lexeme.quote or (lexeme.quote == '"' and not self._places[number].string_in_quotes):
            return None
        return lexeme._replace(kind="string") if byte == 0x27 else lexeme._replace(kind="quoted", text=None)

    def _more_of_quoted(self, number: int, lexeme: Lexeme, byte: int) -> Lexeme | Key | None:
        what = self._places[number]
        if chr(byte) == _QUOTES[lexeme.quote] and not lexeme.rest[0]:
            if lexeme.quote == '"':
                ends = what.string_in_quotes or _name(lexeme.text or "", what.quoted) is not None
                return lexeme._replace(kind="closed") if ends else None
            name = _name(lexeme.text or "", what.quoted)
            return None if name is None else self._read(number, "quoted", name, "`" if lexeme.quote == "`" else "")
        rest = _more_of_character(lexeme.rest, byte)
        if rest is None:
            return None
        text = None if lexeme.text is None else lexeme.text + lower(chr(byte))
        names = what.double_quoted if lexeme.quote == '"' else what.quoted
        if text is None or not _begins_like(names, text):
            return lexeme._replace(text=None, rest=rest) if lexeme.quote == '"' and what.string_in_quotes else None
        return lexeme._replace(text=text, rest=rest)

    def _more_of_op(self, number: int, lexeme: Lexeme, byte: int) -> Key | None:
        text = f"{lexeme.text}{chr(byte)}"
        return self._read(number, "op", text, "") if text in _LONGER[text[0]] else None

    # -- the end of a token

    def _ended(self, key: Key) -> Place | None:
        """The place behind the token that was begun, if it may end here."""
        what, lexeme = self._places[key.place], key.lexeme
        if lexeme is None:
            return what.place
        token = _token(lexeme, what)
        if token is None:
            return None
        if token.kind == "word" and token.text not in what.words and not self.grammar.free_word(what.place, token.text):
            return None
        return what.after(*token)

    # -- ways to the end

    def completion(self, state: int) -> bytes:
        """A text that finishes the statement, `distance` bytes long; b"" from the dead state."""
        key = self._keys[state]
        return b"" if key is None else self._way(key)[1]

    def _missing(self, key: Key) -> int:
        return self._way(key)[0]

    def _way(self, key: Key) -> tuple[int, bytes]:
        """Bytes and text of a way to the end."""
        best, found = UNREACHABLE, b""
        for rest, place, touching in self.ends(key):
            length = len(rest) + self._closing.distance(place, touching)
            if length < best:
                best, found = length, rest + self._closing.text(place, touching).encode()
        return best, found

    def _begun(self, what: Next) -> Words:
        """Words that the way from a place may begin with: a new name has to be one that is waited for."""
        known = self._begin_words.get(what)
        if known is None:
            begins = self._closing.begins(what.place) if what.free else []
            known = self._begin_words[what] = tuple(sorted(text for kind, text in begins if kind == "word"))
        return known

    def _rests(self, what: Next, lexeme: Lexeme) -> Iterator[tuple[str, Token]]:
        """Texts that end a token that was begun, each byte as one character, and the token."""
        kind, text = lexeme.kind, lexeme.text or ""
        if kind == "word":
            words = chain(what.begins(what.words, text), what.begins(self._begun(what), text))
            if _FREE[what.free].fullmatch(text):
                more = (text, *(text + digit for digit in "0123456789"))
                words = chain(words, (word for word in more if self.grammar.free_word(what.place, word)))
            yield from ((word[len(text) :], Token("word", word)) for word in words)
        elif kind == "position":
            yield from ((word[len(text) :], Token(kind, word)) for word in what.begins(what.positions, text))
        elif kind in ("integer", "number"):
            yield "" if kind == "integer" or text in _WHOLE_NUMBERS else "1", Token(kind, text)
        elif kind == "op":
            for op in _LONGER[text]:
                yield op[1:], Token("op", op)
        elif kind == "closed":
            yield from [("", token)] if (token := _token(lexeme, what)) is not None else ()
            if lexeme.quote == '"' and what.string_in_quotes:
                yield '""', Token("string", "")
        elif kind == "value":
            yield from ((word[len(text) :], Token("string", "")) for word in what.begins(what.choices or (), text))
        elif kind == "string":
            yield _character_rest(lexeme.rest) + "'", Token("string", "")
        else:
            yield from self._rests_of_quoted(what, lexeme)

    def _rests_of_quoted(self, what: Next, lexeme: Lexeme) -> Iterator[tuple[str, Token]]:
        quote, text = _QUOTES[lexeme.quote], lexeme.text
        for name in what.quoted:
            if text is not None and (whole := _bytes_of(name)).startswith(text):
                yield whole[len(text) :] + quote, Token("quoted", name)
        if quote == '"' and what.string_in_quotes:
            clash = text is not None and _name(text, what.double_quoted) is not None
            yield _character_rest(lexeme.rest) + "a" * clash + quote, Token("string", "")


_WORDS_OR_BEHIND = frozenset({"word", "closed", "op"})
_WORDLIKE = frozenset({"word", "number", "position", "integer"})

# Parts of a number: digits "1", a point with digits before it "1." or without ".", digits behind it ".1", an E, its
# sign, its digits.
_NUMBERS = {
    ("1", "1"): "1",
    ("1", "."): "1.",
    (".", "1"): ".1",
    ("1.", "1"): ".1",
    (".1", "1"): ".1",
    **{(part, "e"): "e" for part in ("1", "1.", ".1")},
    ("e", "+"): "e+",
    ("e", "-"): "e+",
    ("e", "1"): "e1",
    ("e+", "1"): "e1",
    ("e1", "1"): "e1",
}
_WHOLE_NUMBERS = frozenset({"1", "1.", ".1", "e1"})


def _token(lexeme: Lexeme, what: Next) -> Token | None:
    """The token, if it may end; whether it may come is asked elsewhere."""
    kind, text = lexeme.kind, lexeme.text
    if kind == "number":
        return Token("number", "") if text in _WHOLE_NUMBERS else None
    if kind in ("position",):
        return Token(kind, text or "") if text in what.positions else None
    if kind == "value":
        return Token("string", "") if text in (what.choices or ()) else None
    if kind in ("word", "integer", "op"):
        return Token(kind, text or "")
    if kind != "closed":
        return None
    if lexeme.quote == "'":
        return Token("string", "")
    if text is not None:
        name = _name(text, what.double_quoted)
        if name is not None:
            return Token("quoted", name) if name in what.quoted else None
    return Token("string", "") if what.string_in_quotes else None


def _joins(lexeme: Lexeme, byte: int) -> bool:
    """Would SQLite read on? `x'` begins a blob."""
    return chr(byte) in "_$" or chr(byte).isalnum() or (byte == 0x27 and lexeme.text == "x")


def _touching(lexeme: Lexeme) -> str:
    if lexeme.kind in _WORDLIKE:
        return "w"
    if lexeme.kind == "value":
        return "'"
    return '"' if lexeme.kind == "closed" and lexeme.quote == '"' else ""


def _bytes_of(name: str) -> str:
    """The bytes of a name, each as one character: texts of lexemes are read byte by byte."""
    return name.encode().decode("latin-1")


def _begins_like(names: Words, text: str) -> bool:
    return any(_bytes_of(name).startswith(text) for name in names)


def _name(text: str, names: Words) -> str | None:
    return next((name for name in names if _bytes_of(name) == text), None)


def _character_rest(rest: tuple[int, int, int]) -> str:
    """Bytes that end a character."""
    missing, low, _ = rest
    return chr(low) + "\x80" * (missing - 1) if missing else ""


MORE: Mapping[str, Callable[[SqlAutomaton, int, Lexeme, int], Lexeme | Key | None]] = {
    "word": SqlAutomaton._more_of_word,
    "position": SqlAutomaton._more_of_position,
    "integer": SqlAutomaton._more_of_integer,
    "number": SqlAutomaton._more_of_number,
    "string": SqlAutomaton._more_of_string,
    "value": SqlAutomaton._more_of_value,
    "closed": SqlAutomaton._more_of_closed,
    "quoted": SqlAutomaton._more_of_quoted,
    "op": SqlAutomaton._more_of_op,
}


def _more_of_character(rest: tuple[int, int, int], byte: int) -> tuple[int, int, int] | None:
    """How many bytes a character of valid UTF-8 lacks after one more, and the range of the next one."""
    missing, low, high = rest
    if missing:
        return (missing - 1, 0x80, 0xBF) if low <= byte <= high else None
    if 0 < byte < 0x80:
        return 0, 0, 0
    for first, last, count, low, high in _LEADS:
        if first <= byte <= last:
            return count, low, high
    return None


_LEADS = (
    (0xC2, 0xDF, 1, 0x80, 0xBF),
    (0xE0, 0xE0, 2, 0xA0, 0xBF),
    (0xE1, 0xEC, 2, 0x80, 0xBF),
    (0xED, 0xED, 2, 0x80, 0x9F),
    (0xEE, 0xEF, 2, 0x80, 0xBF),
    (0xF0, 0xF0, 3, 0x90, 0xBF),
    (0xF1, 0xF3, 3, 0x80, 0xBF),
    (0xF4, 0xF4, 3, 0x80, 0x8F),
)


def _classes(grammar: Grammar) -> U8:
    """Letters without case; bytes beyond ASCII by what they can be in a character, unless names have them.

    Where not all strings may come, every byte matters.
    """
    if grammar.values:
        return np.arange(256).astype(np.uint8)
    names = {name for table in grammar.schema.tables.values() for name in (lower(table.name), *table.names)}
    kinds: dict[object, int] = {}
    beyond = any(not name.isascii() for name in names)
    return np.array([kinds.setdefault(_kind(byte, beyond), len(kinds)) for byte in range(256)], np.uint8)


def _kind(byte: int, beyond: bool) -> object:
    if byte >= 0x80 and not beyond:
        lead = next((i for i, (first, last, *_) in enumerate(_LEADS) if first <= byte <= last), None)
        return ("lead", lead) if lead is not None else ("rest", byte >> 4 if byte < 0xC0 else 0)
    if byte < 0x20 and byte not in _BLANK and byte:
        return "control"
    return lower(chr(byte)) if byte < 0x80 else byte


assert ALIAS.pattern == _FREE["alias"].pattern
