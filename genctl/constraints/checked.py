"""Checks of JSON texts that an automaton does not hold: no key twice in an object, and whole values.

    checks = Checks(repeats=True)                              # compile_json_schema says which ones a schema needs
    constraint = Checked(AutomatonConstraint(automaton, vocabulary), checks)
    constraint.allows(state, token)                            # no if the token's quote closes a key that was there

The automaton reads the text; beside it goes a *memory* of the text: which containers are open, with the keys of each,
and, where values are judged (compilers/json_schema/partial.py), what they hold. A token is refused as soon as what it
writes cannot become valid, and the text is complete only if every judge says that its value is valid.

Texts with the same keys in the same order share a memory, and most tokens leave it as it is: those without any of
`"\\{}[],`, unless they are a part of a key. Nothing is looked ahead at: where all ways out of a place are refused, the
text meets a dead end there (`{"a": 1,` where "a" is the only name that the rule allows), as it does under a predicate.
So with a budget of tokens: the automaton's texts end in time, and one whose last way to do so is refused here ends in a
dead end.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from itertools import count, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from genctl.compilers.json_schema.partial import UNKNOWN, AnyText, AskedError, OpenArray, OpenObject
from genctl.kernels.records import I64, U32, Bool, TokenBytes
from genctl.trie import Tokens

if TYPE_CHECKING:
    from genctl.constraints.automaton import AutomatonConstraint
    from genctl.constraints.budget import Budget

REFUSED = -1
PIECE = 256  # bytes of a text that are kept with each token of it
KEPT = 10_000  # verdicts of the judges


class Judge(Protocol):
    """Says what a JSON value may be; see partial.py."""

    def refuses(self, partial: Any, /) -> bool:
        """True only if no value that begins like this is valid."""
        ...

    def valid(self, value: Any, /) -> bool: ...


@dataclass(frozen=True)
class Checks:
    """What is to be checked beside an automaton. repeats: it may let a key come twice in an object. reasons: what the
    judges are there for, for messages.
    """

    repeats: bool = False
    judges: tuple[Judge, ...] = ()
    reasons: str = ""

    def __bool__(self) -> bool:
        return self.repeats or bool(self.judges)

    def __and__(self, other: Checks) -> Checks:
        reasons = "; ".join(filter(None, (self.reasons, other.reasons)))
        return Checks(self.repeats or other.repeats, self.judges + other.judges, reasons)

    def reads(self, text: bytes) -> int:
        """The number of bytes, of a beginning that the automaton can read, up to the first one that is refused."""
        scanner = Scanner(self)
        place = scanner.start
        for offset in range(len(text)):
            after = scanner.read(place, text[offset : offset + 1])
            if after is None:
                return offset
            place = after
        return len(text)

    def accepts(self, text: bytes) -> bool:
        """Of a text that the automaton accepts: does it pass?"""
        scanner = Scanner(self)
        place = scanner.read(scanner.start, text)
        return place is not None and scanner.complete(place)


# -- reading JSON


NO_CHECKS = Checks()


class Frame:
    """An open container, or (up None) the text itself. keys, as `written` has them, is None for an array.

    Where values are kept, values holds them by position, or by key; name is the key whose value is not closed yet.
    """

    __slots__ = ("keys", "name", "up", "values")

    def __init__(self, up: Frame | None, keys: frozenset[bytes] | None, values: tuple[Any, ...] = (), name: Any = None):
        self.up, self.keys, self.values, self.name = up, keys, values, name


# Where a text is: before a value; before a key; behind a value; in a string, a key, a number or literal; behind the
# backslash in a string, in a key.
VALUE, KEY_NEXT, BEHIND, STRING, KEY, SCALAR, ESCAPE, KEY_ESCAPE = range(8)
WATCHED = KEY, ESCAPE, KEY_ESCAPE  # where every token counts
BEHIND_BACKSLASH = {STRING: ESCAPE, KEY: KEY_ESCAPE}
BEFORE_BACKSLASH = {ESCAPE: STRING, KEY_ESCAPE: KEY}


class Place(NamedTuple):
    """text: of the key so far, or of the scalar where values are kept."""

    frame: Frame
    where: int
    text: bytes


class Scanner:
    """Reads texts whose JSON is well formed, since an automaton reads them too. Places are values, to be kept."""

    def __init__(self, checks: Checks) -> None:
        self._judges, self.keeps = checks.judges, bool(checks.judges)
        self._refused_at: dict[tuple[Frame, int], bool] = {}
        self._frames: dict[tuple[Frame, bytes | bool], Frame] = {}
        self.start = Place(Frame(None, None), VALUE, b"")

    def read(self, place: Place, data: bytes, said: str | None = None) -> Place | None:
        """The place after more of the text; None if it is refused. said: by the string that is open, in place of what
        has been read of it.
        """
        frame, where, text = place
        at, size, seen = 0, len(data), False
        while at < size:
            if where in (STRING, KEY):
                found = _STRING_END.search(data, at)
                end = size if found is None else found.start()
                if self.keeps or where == KEY:
                    text += data[at:end]
                at = end + 1
                if found is None:
                    break
                if data[end] == _BACKSLASH:
                    where, text = BEHIND_BACKSLASH[where], text + b"\\"
                    continue
                seen = True
                if where == STRING:
                    if self.keeps:
                        frame = self._with_value(frame, decoded(text) if said is None else said)
                    where, text, said = BEHIND, b"", None
                    continue
                key, text = written(text), b""
                if frame.keys and key in frame.keys:
                    return None
                frame, where = self.with_key(frame, key), VALUE
            elif where in BEFORE_BACKSLASH:
                where, text, at = BEFORE_BACKSLASH[where], text + data[at : at + 1], at + 1
            else:
                found = _MARK.search(data, at)
                end = size if found is None else found.start()
                more = data[at:end].strip(_BLANKS)
                if more and self.keeps and where in (VALUE, SCALAR):
                    where, text = SCALAR, text + more
                at = end + 1
                if found is None:
                    break
                seen = True
                if where == SCALAR:
                    frame, where = self._with_value(frame, _scalar(text)), BEHIND
                frame, where = self._marked(frame, where, data[end])
                text = b""
        after = Place(frame, where, text if self.keeps or where in (KEY, KEY_ESCAPE) else b"")
        return None if seen and self.keeps and self._refuses(after, frame is place.frame) else after

    def _marked(self, frame: Frame, where: int, mark: int) -> tuple[Frame, int]:
        if mark == _QUOTE:
            return frame, KEY if where == KEY_NEXT else STRING
        if mark == _COMMA:
            return frame, VALUE if frame.keys is None else KEY_NEXT
        if mark == _OPEN_OBJECT:
            return self.opened(frame, False), KEY_NEXT
        if mark == _OPEN_ARRAY:
            return self.opened(frame, True), VALUE
        if frame.up is None:
            return frame, BEHIND
        return self._with_value(frame.up, _closed(frame) if self.keeps else None), BEHIND

    # Where values are not kept, one frame is enough for all texts that come to it in the same way.

    def opened(self, frame: Frame, is_array: bool) -> Frame:
        if self.keeps:
            return Frame(frame, None if is_array else _NO_KEYS)
        known = self._frames.get((frame, is_array))
        if known is None:
            known = self._frames[frame, is_array] = Frame(frame, None if is_array else _NO_KEYS)
        return known

    def with_key(self, frame: Frame, key: bytes) -> Frame:
        if self.keeps:
            return Frame(frame.up, (frame.keys or _NO_KEYS) | {key}, frame.values, key.decode(errors="surrogatepass"))
        known = self._frames.get((frame, key))
        if known is None:
            known = self._frames[frame, key] = Frame(frame.up, (frame.keys or _NO_KEYS) | {key})
        return known

    def _with_value(self, frame: Frame, value: Any) -> Frame:
        if not self.keeps:
            return frame
        entry = value if frame.keys is None else (frame.name, value)
        return Frame(frame.up, frame.keys, (*frame.values, entry))

    # -- judging

    def _refuses(self, place: Place, again: bool) -> bool:
        """again: is it a frame that was read before, and likely more than once?"""
        known = self._refused_at.get((place.frame, place.where)) if again else None
        if known is None:
            partial = self.partial(place)
            known = any(judge.refuses(partial) for judge in self._judges)
            if again:
                if len(self._refused_at) >= KEPT:
                    self._refused_at.clear()
                self._refused_at[place.frame, place.where] = known
        return known

    def partial(self, place: Place) -> Any:
        """The text so far as a value; what is not closed is open, or UNKNOWN."""
        frame, where, _ = place
        begun = where in (STRING, SCALAR, ESCAPE) or (where == VALUE and (bool(frame.values) or frame.up is None))
        inner: Any = UNKNOWN if begun else None
        while frame.up is not None:
            if frame.keys is None:
                inner = OpenArray([*frame.values, inner] if begun else frame.values)
            elif frame.name is not None:
                inner = OpenObject(dict([*frame.values, (frame.name, inner if begun else UNKNOWN)]))
            else:
                pending = where in (KEY, KEY_ESCAPE) or (where == KEY_NEXT and bool(frame.values))
                inner = OpenObject(dict(frame.values), pending)
            frame, begun, where = frame.up, True, BEHIND
        return frame.values[0] if frame.values else inner

    def complete(self, place: Place) -> bool:
        """Of a text that is a whole value: is it valid?"""
        if not self.keeps:
            return True
        frame, where, text = place
        if where == SCALAR:
            frame = self._with_value(frame, _scalar(text))
        if frame.up is not None or not frame.values:
            return False
        return all(judge.valid(frame.values[0]) for judge in self._judges)


_NO_KEYS = frozenset[bytes]()
_QUOTE, _BACKSLASH, _COMMA, _OPEN_OBJECT, _OPEN_ARRAY = b'"\\,{['
_BLANKS = b" \t\r\n:"
_STRING_END = re.compile(rb'["\\]')
_MARK = re.compile(rb'["{}\[\],]')
_LITERALS = {b"true": True, b"false": False, b"null": None}


def decoded(text: bytes) -> str:
    """What is between the quotes of a JSON string, as a text."""
    if b"\\" in text:
        try:
            return str(json.loads(b'"' + text + b'"', strict=False))
        except ValueError:
            pass
    return text.decode(errors="surrogateescape")


def written(text: bytes) -> bytes:
    """A key without escapes, in UTF-8: equal for equal keys."""
    return decoded(text).encode(errors="surrogatepass") if b"\\" in text else text


def _scalar(text: bytes) -> Any:
    """A number, exactly, or a literal; UNKNOWN for what is neither."""
    if text in _LITERALS:
        return _LITERALS[text]
    try:
        return int(text) if len(text) < 4_000 and text.lstrip(b"-").isdigit() else Decimal(text.decode())
    except (ValueError, ArithmeticError):
        return UNKNOWN


def _closed(frame: Frame) -> Any:
    return list(frame.values) if frame.keys is None else dict(frame.values)


# -- in tokens


class Effect(NamedTuple):
    """What a token does to a place, in this order: the rest of the key that it closes (None: it closes none), how many
    containers it closes, whether those that it opens are arrays, where it leads to, and what it adds to the text there.
    """

    closes: bytes | None
    ups: int
    opens: tuple[bool, ...]
    where: int
    text: bytes


class Ending(NamedTuple):
    """Where strings end: up to `asked` characters it depends on what they say, from `told` on they pass or do not."""

    asked: int
    told: int
    passes: bool | None


class Marks:
    """The tokens of a vocabulary by what they can do to a memory.

    quiet (V,): no mark of JSON in it; first: of tokens with the same bytes as another one before them, that one.
    quoted: tokens with a quote; telling: those that begin or close a value, and the ends of the text. inside: tokens
    that close a key, by what they add to it; others: those with a backslash before the quote. opening: tokens that hold
    a key from where keys begin, by this key; and others. further: tokens that may close a key which they begin behind a
    mark of their own. ends: of those that may close a string by a quote without a backslash before it, the fewest
    characters that they have before the quote, and what they have from there on.
    """

    @staticmethod
    @lru_cache(maxsize=8)
    def of(tokens: Tokens) -> Marks:
        data, offset, eos = tokens.bytes
        whole, ends = data.tobytes(), offset.tolist()
        return Marks([whole[begin:end] for begin, end in pairwise(ends)], np.flatnonzero(eos).tolist())

    def __init__(self, tokens: Sequence[bytes], eos: Iterable[int]) -> None:
        ends = frozenset(eos)
        first: dict[bytes, int] = {}
        self.tokens = tokens
        self.first = {i: at for i, token in enumerate(tokens) if (at := first.setdefault(token, i)) != i}
        self.quiet = bytes(_ANY_MARK.search(token) is None for token in tokens)
        self.quoteless = bytes(b'"' not in token for token in tokens)
        readable = [i for i in range(len(tokens)) if i not in ends]
        self.quoted = [i for i in readable if not self.quoteless[i]]
        self.telling = np.array([i for i, token in enumerate(tokens) if i in ends or _MARK.search(token)], np.int64)
        self.ending = np.array(self.quoted, np.int64)
        self.further = frozenset(i for i in self.quoted if _FURTHER.search(tokens[i]))
        self._effects: dict[int, Effect | None] = {}  # by token, where, and the kinds of two containers
        self.ends: dict[int, tuple[int, bytes]] = {}
        self.inside: dict[bytes, list[int]] = {}
        self.inside_others: list[int] = []
        self.opening: dict[bytes, list[int]] = {}
        self.opening_others: list[int] = []
        for i in self.quoted:
            before = tokens[i].partition(b'"')[0]
            if b"\\" not in before:
                self.inside.setdefault(before, []).append(i)
                self.ends[i] = _least_characters(before), tokens[i][len(before) :]
            elif _KEY_REST.match(tokens[i]):
                self.inside_others.append(i)
            if (found := _OPENING.match(tokens[i])) and b"\\" not in found[1]:
                self.opening.setdefault(found[1], []).append(i)
            elif found:
                self.opening_others.append(i)

    def effect(self, token: int, place: Place) -> Effect | None:
        """Of a token on texts whose values are not kept; None where only reading it tells."""
        frame, where, _ = place
        up = frame.up
        in_array, up_in_array = frame.keys is None, up is None or up.keys is None
        key = ((token * 8 + where) * 2 + in_array) * 2 + up_in_array
        try:
            return self._effects[key]
        except KeyError:
            return self._effects.setdefault(key, self._work_out(self.tokens[token], where, in_array, up_in_array))

    def _work_out(self, token: bytes, where: int, in_array: bool, up_in_array: bool) -> Effect | None:
        """By reading it three containers deep, where no key is closed that it begins itself."""
        if where == KEY_ESCAPE or _FURTHER.search(token) or (where == KEY_NEXT and _OPENING.match(token)):
            return None
        outer = Frame(Frame(None, None), None)
        up = Frame(outer, None if up_in_array else frozenset())
        frame = Frame(up, None if in_array else frozenset())
        after = Scanner(NO_CHECKS).read(Place(frame, where, b""), token)
        if after is None:
            return None
        at, opens = after.frame, list[bool]()
        while at not in (frame, up, outer) and not at.keys and at.up is not None:
            opens.insert(0, at.keys is None)
            at = at.up
        if where == KEY and b'"' in token:
            rest = _KEY_REST.match(token)
            closed = rest is not None and at.up is up and at.keys is not None and len(at.keys) == 1
            return Effect(rest[1], 0, tuple(opens), after.where, after.text) if rest and closed else None
        ups = {id(frame): 0, id(up): 1, id(outer): 2}.get(id(at))
        if ups is None or (ups == 2 and (opens or after.where != BEHIND)):
            return None
        return Effect(None, ups, tuple(opens), after.where, after.text)


_KEY_REST = re.compile(rb'((?:[^"\\]|\\.)*)"', re.DOTALL)
_ANY_MARK = re.compile(rb'["\\{}\[\],]')
_OPENING = re.compile(rb'[ \t\r\n]*"((?:[^"\\]|\\.)*)"', re.DOTALL)
_FURTHER = re.compile(rb'[{,][ \t\r\n]*"(?:[^"\\]|\\.)*"', re.DOTALL)


_NOT_ASKED = Ending(-1, 2**31, None)


class Memory:
    """What the texts read so far have left behind, numbered. Odd numbers: every token counts, not only one with marks.

    Numbers stand for places. Until the place is asked for they stand, inside a key or a string that is kept, for (a
    number before, the text since); behind a key for (its object, the key, what the token does). Threads may share it:
    a number is known only when what it stands for is.
    """

    def __init__(self, checks: Checks, tokens: Tokens) -> None:
        self.marks = Marks.of(tokens)
        self.scanner = Scanner(checks)
        self.keeps = self.scanner.keeps
        self._size = len(self.marks.tokens)
        harmless = np.ones(self._size, np.bool_)
        harmless[self.marks.telling] = False
        self.harmless = harmless.tobytes() if self.keeps else self.marks.quoteless
        self._places: dict[int, Place] = {}
        self._lazy: dict[int, tuple[int, bytes]] = {}
        self._behind_keys: dict[int, tuple[Frame, bytes, Effect]] = {}
        self._numbers: dict[Place, int] = {}
        self._after: dict[int, int] = {}
        self._refused: dict[int, list[int]] = {}
        self._complete: dict[int, bool] = {}
        self._endings: dict[tuple[Frame, bytes], Ending] = {}  # by what a token has from its quote on
        self._counter = count()
        self.start = self._number(self.scanner.start)

    def passes(self, memory: int, token: int) -> bool:
        """May the token come? What is behind it need not be known for that, so it is not numbered."""
        known = self._after.get(memory * self._size + token)
        if known is not None:
            return known != REFUSED
        if self.keeps:
            passes = self._passes_whatever_it_says(memory, token)
            return self.after(memory, token) != REFUSED if passes is None else passes
        place = self.place(memory)
        if place.where in (KEY_NEXT, KEY, KEY_ESCAPE) or token in self.marks.further:
            effect = self.marks.effect(token, place)
            if effect is None:
                return self.after(memory, token) != REFUSED
            return effect.closes is None or written(place.text + effect.closes) not in (place.frame.keys or ())
        return True

    def _passes_whatever_it_says(self, memory: int, token: int) -> bool | None:
        """May the token end the string that is open? None where that depends on what it says, and for other tokens."""
        end = self.marks.ends.get(token)
        if end is None:
            return None
        (more, rest), (frame, where, text) = end, self.place(memory)
        if where != STRING:
            return None
        least = _least_characters(text) + more
        known = self._endings.get((frame, rest), _NOT_ASKED)
        if known.asked < least < known.told:
            known = self._endings[frame, rest] = self._end(known, frame, rest, least)
            if len(self._endings) > KEPT:
                self._endings.clear()
        return None if least <= known.asked else known.passes

    def _end(self, known: Ending, frame: Frame, rest: bytes, least: int) -> Ending:
        """What is known once that was asked as well."""
        try:
            passes = self.scanner.read(Place(frame, STRING, b""), rest, AnyText(least)) is not None
            return known._replace(told=least, passes=passes)
        except AskedError:
            return known._replace(asked=least)

    def after(self, memory: int, token: int) -> int:
        """The number after a token, REFUSED if it may not come."""
        known = self._after.get(memory * self._size + token)
        if known is None:
            known = self._after[memory * self._size + token] = self._build(memory, token)
        return known

    def _build(self, memory: int, token: int) -> int:
        marks = self.marks
        if token in marks.first:
            return self.after(memory, marks.first[token])
        begun = self._lazy.get(memory) if marks.quiet[token] else None
        if begun is None:
            place = self.place(memory)
            if not marks.quiet[token] or place.where not in (STRING, KEY):
                return self._read(place, token)
            begun = memory, b""
        at, since = begun if len(begun[1]) <= PIECE else (memory, b"")
        number = self._new(watchful=True)
        self._lazy[number] = at, since + marks.tokens[token]
        return number

    def _read(self, place: Place, token: int) -> int:
        effect = None if self.keeps else self.marks.effect(token, place)
        if effect is not None:
            return self._affect(place, effect)
        after = self.scanner.read(place, self.marks.tokens[token])
        return REFUSED if after is None else self._number(after)

    def _affect(self, place: Place, effect: Effect) -> int:
        """The number after an effect, without reading."""
        if effect.closes is None:
            return self._number(self._moved(place.frame, place.text, effect))
        key = written(place.text + effect.closes)
        if place.frame.keys and key in place.frame.keys:
            return REFUSED
        number = self._new(watchful=effect.where in WATCHED)
        self._behind_keys[number] = place.frame, key, effect
        return number

    def _moved(self, frame: Frame, text: bytes, effect: Effect) -> Place:
        """The place after an effect, the key that it closes apart."""
        for _ in range(effect.ups):
            frame = frame.up or frame
        for is_array in effect.opens:
            frame = self.scanner.opened(frame, is_array)
        return Place(frame, effect.where, text + effect.text)

    def _number(self, place: Place) -> int:
        known = self._numbers.get(place)
        if known is None:
            known = self._new(watchful=self.keeps or place.where in WATCHED)
            self._places[known] = place
            self._numbers[place] = known
        return known

    def _new(self, watchful: bool) -> int:
        return 2 * next(self._counter) + watchful

    def place(self, memory: int) -> Place:
        """The place that a number stands for."""
        known = self._places.get(memory)
        if known is None and memory in self._behind_keys:
            frame, key, effect = self._behind_keys[memory]
            known = self._places[memory] = self._moved(self.scanner.with_key(frame, key), b"", effect)
        elif known is None:
            at, since = self._lazy[memory]
            if at not in self._places:
                pieces = [since]
                while at not in self._places:
                    at, piece = self._lazy[at]
                    pieces.append(piece)
                since = b"".join(reversed(pieces))
            frame, where, text = self._places[at]
            known = self._places[memory] = Place(frame, where, text + since)
        return known

    def refused(self, memory: int) -> list[int]:
        """The tokens that would close a key which the object has; maybe some more that no text can go on with."""
        known = self._refused.get(memory)
        if known is None:
            suspects = set(self._suspects(self.place(memory)))
            known = self._refused[memory] = [i for i in sorted(suspects) if not self.passes(memory, i)]
        return known

    def suspects(self, memory: int) -> I64:
        """Tokens, where values are kept, that may be refused: inside a string only those that end it."""
        inside = self.place(memory).where in (STRING, KEY, ESCAPE, KEY_ESCAPE)
        return self.marks.ending if inside else self.marks.telling

    def _suspects(self, place: Place) -> Iterable[int]:
        marks, (frame, where, text) = self.marks, place
        yield from marks.further
        keys = frame.keys or ()
        if where == KEY_NEXT and keys:
            yield from marks.opening_others
            for key in keys:
                yield from marks.opening.get(key, ())
        elif where == KEY and keys and b"\\" in text:
            yield from marks.quoted
        elif where == KEY and keys:
            yield from marks.inside_others
            for key in keys:
                if key.startswith(text):
                    yield from marks.inside.get(key[len(text) :], ())
        elif where == KEY_ESCAPE and keys:
            yield from marks.quoted

    def complete(self, memory: int) -> bool:
        if not self.keeps:
            return True
        known = self._complete.get(memory)
        if known is None:
            known = self._complete[memory] = self.scanner.complete(self.place(memory))
        return known


def _least_characters(text: bytes) -> int:
    """Of a string of which so much is written."""
    return 0 if b"\\" in text else len(text.decode(errors="ignore"))


class Checked:
    """A compiled language, held to a budget or not, and checks.

    A state is the inner state and, in the bits above it, the number of the memory.
    """

    def __init__(self, constraint: AutomatonConstraint | Budget, checks: Checks, memory: Memory | None = None) -> None:
        """memory: of a constraint with the same tokens and checks, to be shared."""
        self.constraint, self.checks = constraint, checks
        self.memory = memory or Memory(checks, constraint.tokens)
        self._shift = constraint.state_bits
        self._inner = (1 << self._shift) - 1
        self._quiet, self._harmless, self._after = self.memory.marks.quiet, self.memory.harmless, self.memory.after
        self._eos = frozenset(np.flatnonzero(constraint.token_bytes.eos).tolist())
        self._refused_by_state: dict[int, list[int]] = {}

    @property
    def token_bytes(self) -> TokenBytes:
        return self.constraint.token_bytes

    def inner_states(self, states: I64) -> I64:
        """(N,) states -> (N,) states of the constraint."""
        return states & self._inner

    def start(self) -> int:
        inner = self.constraint.start()
        return inner and (self.memory.start << self._shift) | inner

    def allows(self, state: int, token: int, /) -> bool:
        if not self.constraint.allows(state & self._inner, token):
            return False
        return bool(self._harmless[token]) or self._passes(state >> self._shift, token)

    def _passes(self, memory: int, token: int) -> bool:
        """Of a token that the automaton allows."""
        if token in self._eos:
            return self.memory.complete(memory)
        return self.memory.passes(memory, token)

    def allows_each(self, states: I64, tokens: I64, /) -> Bool:
        """(K,) states, (K,) token ids -> (K,) `allows` of each pair; only tokens that can do harm are read here."""
        allowed = self.constraint.allows_each(self.inner_states(states), tokens)
        harmless = np.frombuffer(self._harmless, np.bool_)
        for at in np.flatnonzero(allowed & ~harmless[tokens]).tolist():
            allowed[at] = self._passes(int(states[at]) >> self._shift, int(tokens[at]))
        return allowed

    def advance(self, state: int, token: int, /) -> int:
        inner = state & self._inner
        target = self.constraint.advance(inner, token)
        if target == 0:
            return 0
        memory = state >> self._shift
        if self._quiet[token] and not memory & 1:
            return state - inner + target
        after = self._after(memory, token)
        return 0 if after == REFUSED else after << self._shift | target

    def complete(self, state: int, /) -> bool:
        return self.constraint.complete(state & self._inner) and self.memory.complete(state >> self._shift)

    def mask(self, state: int, out: U32, /) -> None:
        self.constraint.mask(state & self._inner, out)
        for token in self._refused(state):
            out[token >> 5] &= ~np.uint32(1 << (token & 31))

    def masks(self, states: I64, out: U32, /) -> None:
        """(N,) states -> out (N, ceil(V/32))."""
        for row, state in enumerate(states.tolist()):
            self.mask(state, out[row])

    def candidates(self, state: int, /) -> U32:
        """The mask itself, (ceil(V/32),), read-only."""
        known = self.constraint.candidates(state & self._inner)
        if not self._refused(state):
            return known
        out = known.copy()
        self.mask(state, out)
        out.flags.writeable = False
        return out

    def _refused(self, state: int) -> list[int]:
        """Tokens, all that are refused though the inner constraint allows them, and maybe others."""
        if state == 0:
            return []
        if not self.memory.keeps:
            return self.memory.refused(state >> self._shift)
        known = self._refused_by_state.get(state)
        if known is None:
            known = self._refused_by_state[state] = self._find_refused(state)
        return known

    def _find_refused(self, state: int) -> list[int]:
        mask = self.constraint.candidates(state & self._inner)
        tokens = self.memory.suspects(state >> self._shift)
        allowed = tokens[(mask[tokens >> 5] >> (tokens & 31).astype(np.uint32)) & 1 == 1]
        memory = state >> self._shift
        return [token for token in allowed.tolist() if not self._passes(memory, token)]

    def log_potential(self, state: int, /, *, done: bool) -> float:
        return 0.0
