"""How a tokenizer cuts text into words, read from the left with decisions left open.

    cuts = WordCuts.of(spec["pre_tokenizer"])
    state = cuts.step(cuts.start, cuts.classes[ord("a")], cut=True)    # "a" begins a word
    cuts.ends(state)                                                   # may the text end here?

Where a word ends may depend on text that is not there yet (the last blank of a run belongs to the next word). So a
*guess* says of each place whether the text is cut there, and is kept as long as some text agrees with it: a state is
a set of guesses (all that agree with the cuts so far), hash-consed; 0 is the empty set.

A pattern of a tokenizer finds the leftmost match, of several the one whose alternatives come first. A guess that a
match ends at a place therefore holds the positions in the pattern that would have been preferred: none of them may ever
come to a match. The patterns are ordered lists of instructions, as Pike's. What a class of characters contains is
asked of the tokenizers' own engine, whose Unicode tables need not be Python's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from genctl.kernels.records import I32, U8, Bool
from genctl.vocabulary import SPACE

END = -1  # the class of the end of a piece
CODE_POINTS = 0x110000

# Stretches of code points of one kind each (unified ideographs, Hangul syllables, private use, unassigned), in which a
# class without a code point of its own there is alike. Only the first of each is asked.
STRETCHES = (
    (0x3400, 0x4DB6),
    (0x4E00, 0x9FA6),
    (0xAC00, 0xD7A4),
    (0xE000, 0xF900),
    (0x20000, 0x2A6D7),
    (0x2A700, 0x2B735),
    (0x2B820, 0x2CEA2),
    (0x2CEB0, 0x2EBE1),
    (0x30000, 0x3134B),
    (0x40000, 0xE0000),
    (0xE1000, 0xF0000),
    (0xF0000, 0xFFFFE),
    (0xFFFFE, 0x100000),
    (0x100000, 0x10FFFE),
    (0x10FFFE, CODE_POINTS),
)


class Unsupported(ValueError):
    """A pattern or a pre-tokenizer that cannot be read here; the message says what."""


@lru_cache(maxsize=64)
def members(atom: str) -> Bool:
    """(0x110000,) bool: the characters that match a pattern of one character."""
    literal = atom.removeprefix("\\")
    if len(literal) == 1 and (literal == atom or not literal.isalnum()):
        return _marked([ord(literal)])
    if re.fullmatch(r"\(\?i:[A-Za-z]\)", atom):
        letters = np.flatnonzero(members("(?i:[a-z])")).tolist()
        return _marked(_matching(atom, letters))
    stretches, points = _stretches(atom), asked(atom)
    found = _marked(_matching(atom, points))
    for begin, end in stretches:
        found[begin:end] = found[begin]
    return found


def _stretches(atom: str) -> list[tuple[int, int]]:
    """Those in which all characters are alike for this atom."""
    if re.search(r"\\[xu]", atom):
        return list(STRETCHES[9:])
    return [(begin, end) for begin, end in STRETCHES if not any(begin <= ord(c) < end for c in atom)]


def asked(atom: str) -> list[int]:
    """The code points to be asked about: all, but of each stretch the first."""
    wanted = np.ones(CODE_POINTS, np.bool_)
    wanted[0xD800:0xE000] = False
    for begin, end in _stretches(atom):
        wanted[begin + 1 : end] = False
    points: list[int] = np.flatnonzero(wanted).tolist()
    return points


def _matching(atom: str, points: Sequence[int]) -> list[int]:
    """Which of the code points match."""
    from tokenizers import Regex, pre_tokenizers

    text = "".join(map(chr, points))
    left = pre_tokenizers.Split(Regex(f"(?:{atom})+"), "removed").pre_tokenize_str(text)
    outside = {i for _, (begin, end) in left for i in range(begin, end)}
    return [point for i, point in enumerate(points) if i not in outside]


def _marked(points: Sequence[int]) -> Bool:
    found = np.zeros(CODE_POINTS, np.bool_)
    found[list(points)] = True
    return found


# -- patterns


class Char(NamedTuple):
    atom: str


class Look(NamedTuple):
    """What follows is, or is not (also the end is not), a character of the atom."""

    atom: str
    wanted: bool


class Fork(NamedTuple):
    """Go on at the first place, or else at the others."""

    to: tuple[int, ...]


class Found(NamedTuple):
    """The end of a match."""


Instruction: TypeAlias = Char | Look | Fork | Found
Program: TypeAlias = tuple[Instruction, ...]
NO_MATCH: Program = (Fork(()),)
Emit: TypeAlias = Callable[[list[Instruction]], None]  # appends the instructions of a part


class _Part(NamedTuple):
    emit: Emit
    empty: bool  # whether it can match nothing
    atom: str | None  # of a part that is one character


_ESCAPE = re.compile(r"\\[pP]\{\^?[A-Za-z_]+\}|\\x[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|\\[sSdDwW]|\\[rntfv]|\\[^A-Za-z0-9]")
LIGATURES = re.compile("ss|ff|fi|fl|st", re.IGNORECASE)  # ß, ﬀ, ﬁ, ﬂ, ﬆ
_COUNT = re.compile(r"\{(\d*)(,?)(\d*)\}")


def program(pattern: str) -> Program:
    """The instructions of a pattern, most preferred first. Raises Unsupported."""
    reader = _Reader(pattern)
    part = reader.alternatives("")
    if reader.rest:
        raise reader.unsupported()
    if part.empty:
        raise Unsupported(f"the pattern {pattern!r}, which matches an empty text")
    code: list[Instruction] = []
    part.emit(code)
    return (*code, Found())


class _Reader:
    """Reads a pattern; flags: "i" where the case of letters does not count."""

    def __init__(self, pattern: str) -> None:
        self.pattern, self.at = pattern, 0

    @property
    def rest(self) -> str:
        return self.pattern[self.at :]

    def take(self, text: str) -> bool:
        found = self.rest.startswith(text)
        self.at += len(text) if found else 0
        return found

    def unsupported(self) -> Unsupported:
        return Unsupported(
            f"the pattern {self.pattern!r}, which cannot be read from {self.rest[:1]!r} at character {self.at}"
        )

    def alternatives(self, flags: str) -> _Part:
        parts = [self.sequence(flags)]
        while self.take("|"):
            parts.append(self.sequence(flags))
        return parts[0] if len(parts) == 1 else _either(parts)

    def sequence(self, flags: str) -> _Part:
        parts, begin = [], self.at
        while self.rest and self.rest[0] not in "|)":
            parts.append(self.repeated(flags))
        if flags and LIGATURES.search(self.pattern, begin, self.at):
            raise Unsupported(f"two letters that may be one without regard to case, in the pattern {self.pattern!r}")
        return _Part(lambda code: _emit_all(parts, code), all(part.empty for part in parts), None)

    def repeated(self, flags: str) -> _Part:
        part = self.single(flags)
        while (bounds := self.bounds()) is not None:
            least, most, possessive = bounds
            if part.empty:
                raise Unsupported(f"a repeated part that may be empty, in the pattern {self.pattern!r}")
            if not possessive:
                lazy = self.take("?")
                if lazy and least == most:  # optional there, lazy elsewhere
                    raise self.unsupported()
                part = _repeat(part, least, most, not lazy)
            elif part.atom is not None and (most is None or (least, most) == (0, 1)):
                part = _possessive(part, least, most)
            else:
                raise self.unsupported()
        return part

    def bounds(self) -> tuple[int, int | None, bool] | None:
        for sign, (least, most) in {"*": (0, None), "+": (1, None), "?": (0, 1)}.items():
            if self.take(sign):
                return least, most, self.take("+")
        found = _COUNT.match(self.rest)
        if found is None or not (found[1] or found[3]):
            return None
        self.at += found.end()
        least = int(found[1] or 0)
        return least, int(found[3]) if found[3] else None if found[2] else least, False

    def single(self, flags: str) -> _Part:
        for opening, inner in {"(?:": flags, "(?i:": "i"}.items():
            if self.take(opening):
                part = self.alternatives(inner)
                return self.closed(part)
        for opening, wanted in {"(?!": False, "(?=": True}.items():
            if self.take(opening):
                look = Look(self.atom(flags), wanted)
                return self.closed(_one(look))
        if self.rest[0] == "(" and not self.rest.startswith("(?"):
            self.at += 1
            return self.closed(self.alternatives(flags))
        atom = self.atom(flags)
        return _one(Char(atom))

    def closed(self, part: _Part) -> _Part:
        if not self.take(")"):
            raise self.unsupported()
        return part

    def atom(self, flags: str) -> str:
        """The source of one character or class of characters."""
        begin, first = self.at, self.rest[:1]
        if first == "[":
            self.class_()
        elif first == "\\":
            self.escape()
        elif not first or first in "()|*+?{}^$.":
            raise self.unsupported()
        else:
            self.at += 1
        source = self.pattern[begin : self.at]
        if flags and not re.fullmatch(r"\\?[ -~]", source):  # a class may match two letters: ß for ss
            raise Unsupported(f"{source!r} without regard to case, in the pattern {self.pattern!r}")
        return f"(?i:{source})" if flags else source

    def escape(self) -> None:
        found = _ESCAPE.match(self.rest)
        if found is None:
            raise self.unsupported()
        self.at += found.end()

    def class_(self) -> None:
        self.at += 1
        self.take("^")
        self.take("]")
        while not self.take("]"):
            if not self.rest:
                raise self.unsupported()
            if self.rest[0] == "[":
                self.class_()
            elif self.rest[0] == "\\":
                self.escape()
            else:
                self.at += 1


def _one(instruction: Char | Look) -> _Part:
    reads = isinstance(instruction, Char)
    return _Part(lambda code: code.append(instruction), not reads, instruction.atom if reads else None)


def _emit_all(parts: Sequence[_Part], code: list[Instruction]) -> None:
    for part in parts:
        part.emit(code)


def _fork(code: list[Instruction]) -> int:
    """Room for a Fork whose targets are known later."""
    code.append(Fork(()))
    return len(code) - 1


def _either(parts: Sequence[_Part]) -> _Part:
    def emit(code: list[Instruction]) -> None:
        fork, starts, ends = _fork(code), [], []
        for part in parts:
            starts.append(len(code))
            part.emit(code)
            ends.append(_fork(code))
        code[fork] = Fork(tuple(starts))
        for end in ends:
            code[end] = Fork((len(code),))

    return _Part(emit, any(part.empty for part in parts), None)


def _repeat(part: _Part, least: int, most: int | None, greedy: bool) -> _Part:
    def choice(more: int, enough: int) -> Fork:
        return Fork((more, enough) if greedy else (enough, more))

    def emit(code: list[Instruction]) -> None:
        for _ in range(least):
            part.emit(code)
        if most is None:
            fork = _fork(code)
            part.emit(code)
            code.append(Fork((fork,)))
            code[fork] = choice(fork + 1, len(code))
            return
        forks = []
        for _ in range(least, most):
            forks.append(_fork(code))
            part.emit(code)
        for fork in forks:
            code[fork] = choice(fork + 1, len(code))

    return _Part(emit, least == 0, None)


def _possessive(part: _Part, least: int, most: int | None) -> _Part:
    """As many characters as there are, and none given back."""
    assert part.atom is not None
    none = _one(Look(part.atom, False))
    if most is None:
        many = _repeat(part, least, None, True)
        return _Part(lambda code: _emit_all([many, none], code), least == 0, None)
    return _either([part, none])


# -- one pattern applied to a piece


class Match(NamedTuple):
    """Inside a match: the positions in the pattern, most preferred first, and those that must not come to a match."""

    threads: tuple[int, ...]
    never: frozenset[int]


class Gap(NamedTuple):
    """Between matches."""

    never: frozenset[int]


class Fresh(NamedTuple):
    """Before a piece."""


Place: TypeAlias = Match | Gap | Fresh

# Whether the text is cut between two neighbouring parts of a piece; are they delimiters? None: delimiters are lost.
BEHAVIORS: dict[str, Callable[[bool, bool], bool] | None] = {
    "Isolated": lambda before, after: True,
    "Contiguous": lambda before, after: before != after,
    "MergedWithPrevious": lambda before, after: before or not after,
    "MergedWithNext": lambda before, after: not before or after,
    "Removed": None,
}


class Split:
    """One pattern: cuts a piece into matches and what is between them.

    inverted: what is between the matches are the delimiters. first: the atom that a piece must begin with.
    once: only the piece that a text begins with must, not one behind an added token.
    """

    def __init__(
        self,
        code: Program,
        behavior: str = "Isolated",
        inverted: bool = False,
        first: str | None = None,
        once: bool = False,
    ) -> None:
        self._code, self._first, self._once = code, first, once
        self._cut = BEHAVIORS[behavior]
        self._inverted = inverted
        self.atoms = {part.atom for part in code if isinstance(part, Char | Look)} | ({first} if first else set())
        self._read_by = [part.atom if isinstance(part, Char) else "" for part in code]
        self._inside: dict[str, frozenset[int]] = {}

    def bind(self, inside: Mapping[str, frozenset[int]]) -> None:
        """Which classes of characters each atom contains."""
        self._inside = {atom: inside[atom] for atom in self.atoms}

    def _closure(self, threads: Iterable[int], class_: int, ordered: bool = True) -> tuple[list[int], bool]:
        """The characters that may be read next, and whether a match ends here.

        ordered: what is less preferred than a match that ends here is left out.
        """
        seen: set[int] = set()
        reads: list[int] = []
        found = False
        waiting = list(threads)[::-1]
        while waiting:
            at = waiting.pop()
            if at in seen:
                continue
            seen.add(at)
            part = self._code[at]
            if isinstance(part, Char):
                reads.append(at)
            elif isinstance(part, Fork):
                waiting += part.to[::-1]
            elif isinstance(part, Look):
                if (class_ in self._inside[part.atom]) == part.wanted:
                    waiting.append(at + 1)
            else:
                found = True
                if ordered:
                    break
        return reads, found

    def _read(self, reads: Iterable[int], class_: int) -> tuple[int, ...]:
        return tuple(at + 1 for at in reads if class_ in self._inside[self._read_by[at]])

    def _begin(self, class_: int) -> tuple[int, ...]:
        return self._read(self._closure((0,), class_)[0], class_)

    def again(self) -> Place:
        """Before a piece behind an added token."""
        return Gap(frozenset()) if self._once else Fresh()

    def ends(self, place: Place) -> bool:
        """Whether a piece may end here."""
        if isinstance(place, Fresh):
            return True
        if self._closure(place.never, END, False)[1]:
            return False
        return isinstance(place, Gap) or self._closure(place.threads, END)[1]

    def step(self, place: Place, class_: int) -> Iterator[tuple[bool, Place]]:
        """The guesses after a character of the class; is the text cut before it?"""
        begin = self._begin(class_)
        if isinstance(place, Fresh):
            if self._first is None or class_ in self._inside[self._first]:
                yield from self._parts(begin, frozenset(), None)
            return
        never, broken = self._closure(place.never, class_, False)
        if broken:
            return
        rest = frozenset(self._read(never, class_))
        if isinstance(place, Gap):
            yield False, Gap(rest | frozenset(begin))
            yield from (part for part in self._parts(begin, rest, False) if isinstance(part[1], Match))
            return
        reads, found = self._closure(place.threads, class_)
        on = self._read(reads, class_)
        if on:
            yield False, Match(on, rest)
        if found:
            yield from self._parts(begin, rest | frozenset(on), True)

    def _parts(
        self, begin: tuple[int, ...], never: frozenset[int], before: bool | None
    ) -> Iterator[tuple[bool, Match | Gap]]:
        """A match or a gap that begins after a match (before) or a gap, each with whether the text is cut there."""
        for matches in (True, False):
            if matches and not begin:
                continue
            delimits = matches != self._inverted
            if self._cut is None and delimits:
                continue
            cut = True
            if before is not None and self._cut is not None:
                cut = self._cut(before != self._inverted, delimits)
            yield cut, Match(begin, never) if matches else Gap(never | frozenset(begin))


# -- all patterns, one inside the pieces of the other

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


BYTE_LEVEL, METASPACE = "ByteLevel", "Metaspace"


def _split(step: Mapping[str, Any]) -> list[Split]:
    pattern = step["pattern"]
    source = pattern["Regex"] if "Regex" in pattern else re.escape(pattern["String"])
    return [Split(program(source), step["behavior"], step["invert"])]


def _digits(step: Mapping[str, Any]) -> list[Split]:
    return [Split(program(r"\p{N}"), "Isolated" if step["individual_digits"] else "Contiguous")]


def _byte_level(step: Mapping[str, Any]) -> list[Split]:
    first = " " if step["add_prefix_space"] else None
    if step.get("use_regex", True):
        return [Split(program(GPT2), first=first)]
    return [Split(NO_MATCH, first=first)] if first else []


def _metaspace(step: Mapping[str, Any]) -> list[Split]:
    """Where a blank is U+2581: it begins a word, and may be put before the text, or before each piece."""
    if step["replacement"] != SPACE:
        raise Unsupported(f"the pre-tokenizer Metaspace, which writes a blank as {step['replacement']!r}")
    words = Split(program(SPACE), "MergedWithNext") if step["split"] else Split(NO_MATCH)
    scheme = step["prepend_scheme"]
    return [words] if scheme == "never" else [Split(NO_MATCH, first=SPACE, once=scheme == "first"), words]


def prepended() -> Split:
    """What a normalizer that puts U+2581 before a text leaves: a blank and at least one character more."""
    return Split(program(rf"{SPACE}[\s\S]+"), "Removed", inverted=True)


READERS: dict[str, Callable[[Mapping[str, Any]], list[Split]]] = {
    "Split": _split,
    "Digits": _digits,
    BYTE_LEVEL: _byte_level,
    METASPACE: _metaspace,
}


def byte_level_splits(steps: Sequence[Mapping[str, Any]]) -> list[Split]:
    """The steps of a byte-level pre-tokenizer, the last of which is ByteLevel. Raises Unsupported."""
    kinds = [step["type"] for step in steps]
    if BYTE_LEVEL not in kinds or kinds.index(BYTE_LEVEL) != len(kinds) - 1:
        raise Unsupported(f"the pre-tokenizer {kinds}, in which ByteLevel is not the last step")
    return _splits(steps, ("Split", "Digits", BYTE_LEVEL))


def metaspace_splits(steps: Sequence[Mapping[str, Any]]) -> list[Split]:
    """The steps of a pre-tokenizer of texts whose blanks are U+2581, or of Metaspace, which writes them so."""
    kinds = [step["type"] for step in steps]
    if METASPACE in kinds and len(kinds) > 1:
        raise Unsupported(f"the pre-tokenizer {kinds}, in which Metaspace is not the only step")
    return _splits(steps, ("Split", "Digits", METASPACE))


def _splits(steps: Sequence[Mapping[str, Any]], known: Sequence[str]) -> list[Split]:
    for step in steps:
        if step["type"] not in known:
            raise Unsupported(f"the pre-tokenizer {step['type']}; known are {', '.join(known)}")
    return [split for step in steps for split in READERS[step["type"]](step)] or [Split(NO_MATCH)]


Guess: TypeAlias = tuple[Place, ...]  # a place in each split


class WordCuts:
    """The cuts of a sequence of splits, as a deterministic automaton over classes of characters and cuts; lazily built.

    blank: the character that the patterns see where a text has a blank.
    classes: (0x110000,) class of each character; C of them.
    start: the state before a text. again: the state behind an added token.
    """

    def __init__(self, parts: Sequence[Split], blank: str = " ") -> None:
        self._splits = parts
        atoms = sorted(set().union(*(part.atoms for part in parts)))
        self.classes, inside = _partition({atom: _seen_as(blank, members(atom)) for atom in atoms})
        self.count = int(self.classes.max()) + 1
        for part in parts:
            part.bind(inside)
        self._guesses: list[Guess] = []
        self._guess_ids: dict[Guess, int] = {}
        self._after: dict[tuple[int, int], tuple[tuple[bool, int], ...]] = {}
        self._alive: dict[int, bool] = {}
        self._sets: list[tuple[int, ...]] = []
        self._set_ids: dict[tuple[int, ...], int] = {}
        self._next = np.full((2, 64, self.count), -1, np.int32)
        self._ends: list[bool] = []
        self._set([])
        self.start = self._set([self._guess(tuple(Fresh() for _ in parts))])
        self.again = self._set([self._guess(tuple(part.again() for part in parts))])

    def __len__(self) -> int:
        return len(self._sets)

    def _guess(self, guess: Guess) -> int:
        known = self._guess_ids.get(guess)
        if known is None:
            known = self._guess_ids[guess] = len(self._guesses)
            self._guesses.append(guess)
        return known

    def _set(self, guesses: Iterable[int]) -> int:
        key = tuple(sorted(set(guesses)))
        known = self._set_ids.get(key)
        if known is None:
            known = self._set_ids[key] = len(self._sets)
            self._sets.append(key)
            self._ends.append(any(map(self._guess_ends, key)))
            if len(self._sets) > self._next.shape[1]:
                self._next = np.concatenate([self._next, np.full_like(self._next, -1)], axis=1)
        return known

    def ends(self, state: int) -> bool:
        """Whether the text may end here."""
        return self._ends[state]

    @property
    def ending(self) -> Bool:
        """(states,) `ends` of each."""
        return np.array(self._ends)

    def step(self, state: int, class_: int, cut: bool) -> int:
        """The state after a character of the class, before which the text is cut or not."""
        known = int(self._next[int(cut), state, class_])
        if known < 0:
            known = self._set(
                after
                for guess in self._sets[state]
                for where, after in self._guesses_after(guess, class_)
                if where == cut and self._is_alive(after)
            )
            self._next[int(cut), state, class_] = known
        return known

    def step_each(self, states: I32, classes: U8, cut: bool) -> I32:
        """(K,) states and classes -> (K,) `step` of each pair."""
        found: I32 = self._next[int(cut), states, classes]
        unknown = np.flatnonzero(found < 0)
        if len(unknown):
            for pair in np.unique(states[unknown].astype(np.int64) * self.count + classes[unknown]).tolist():
                self.step(pair // self.count, pair % self.count, cut)
            found = self._next[int(cut), states, classes]
        return found

    def _guess_ends(self, guess: int) -> bool:
        return all(part.ends(place) for part, place in zip(self._splits, self._guesses[guess], strict=True))

    def _guesses_after(self, guess: int, class_: int) -> tuple[tuple[bool, int], ...]:
        known = self._after.get((guess, class_))
        if known is None:
            places = self._guesses[guess]
            found = {(cut, self._guess(after)) for cut, after in self._compose(places, class_, False)}
            known = self._after[guess, class_] = tuple(sorted(found))
        return known

    def _compose(self, places: Guess, class_: int, cut: bool) -> Iterator[tuple[bool, Guess]]:
        """Where a split cuts, the pieces of the next one end."""
        index = len(self._splits) - len(places)
        if not places:
            yield cut, ()
            return
        part, place = self._splits[index], places[0]
        if cut and not part.ends(place):
            return
        for own, after in part.step(Fresh() if cut else place, class_):
            yield from ((last, (after, *rest)) for last, rest in self._compose(places[1:], class_, own))

    def _is_alive(self, guess: int) -> bool:
        """Whether some text agrees with a guess."""
        seen, waiting = {guess}, [guess]
        while waiting:
            one = waiting.pop()
            if self._alive.get(one, self._guess_ends(one)):
                self._alive[guess] = True
                return True
            if one in self._alive:
                continue
            after = {g for class_ in range(self.count) for _, g in self._guesses_after(one, class_)} - seen
            seen |= after
            waiting += after
        self._alive.update(dict.fromkeys(seen, False))
        return False


def _seen_as(blank: str, found: Bool) -> Bool:
    """The members of a class where a blank is seen as another character."""
    if found[ord(" ")] != found[ord(blank)]:
        found = found.copy()
        found[ord(" ")] = found[ord(blank)]
    return found


def _partition(atoms: Mapping[str, Bool]) -> tuple[U8, dict[str, frozenset[int]]]:
    """The coarsest classes of characters of which every atom is a union, and these classes."""
    classes = np.zeros(CODE_POINTS, np.int64)
    for found in atoms.values():
        classes = 2 * classes + found
        present = np.bincount(classes) > 0
        classes = (np.cumsum(present) - 1)[classes]
    if int(classes.max()) > 255:
        raise Unsupported("patterns with more than 256 classes of characters")
    inside = {atom: frozenset(np.flatnonzero(np.bincount(classes[found])).tolist()) for atom, found in atoms.items()}
    return classes.astype(np.uint8), inside
