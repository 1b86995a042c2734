"""Slow, obviously right twins of kernels and engines, and exact answers by enumeration."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np

from genctl.automata.base import UNREACHABLE, Automaton
from genctl.automata.expressions import (
    Bytes,
    Call,
    Concat,
    Expression,
    Literal,
    Repeat,
    Row,
    Union,
)
from genctl.constraints.base import Constraint, unpack, words
from genctl.models.toy import ToyModel
from genctl.vocabulary import Vocabulary


def language(start: Expression, rules: Mapping[str, Expression], text: bytes) -> bool:
    """Is text in the language of the expression? By the definition of each operator, over sets of end positions.

    `known` grows to the least fixed point of where each rule can end (what Earley's items say, without an agenda), so
    recursion of every kind is fine.
    """
    known: dict[tuple[str, int], frozenset[int]] = {}

    def ends(part: Expression, at: int) -> frozenset[int]:
        match part:
            case Literal(word):
                return frozenset({at + len(word)} if text.startswith(word, at) else ())
            case Bytes(ranges):
                inside = at < len(text) and any(low <= text[at] <= high for low, high in ranges)
                return frozenset({at + 1} if inside else ())
            case Concat(parts):
                here = frozenset({at})
                for one in parts:
                    here = frozenset().union(*(ends(one, middle) for middle in here))
                return here
            case Union(parts):
                return frozenset().union(*(ends(one, at) for one in parts))
            case Repeat(body, least, most):
                return repeated(body, least, most, at)
            case Row(()):
                return ends(part.rest, at)
            case Row(((words, value, may_end, required), *others), between, apart, rest):
                later = Row(tuple(others), between, apart, rest)
                here = ends(Concat((Union(tuple(map(Literal, words))), between, value)), at)
                found = frozenset().union(*(ends(Concat((apart, later)), middle) for middle in here))
                return found | (here if may_end else frozenset()) | (frozenset() if required else ends(later, at))
            case Call(rule):
                return known.setdefault((rule, at), frozenset())
        raise TypeError(part)

    def repeated(body: Expression, least: int, most: int | None, at: int) -> frozenset[int]:
        layer, found = frozenset({at}), frozenset()
        # An empty round can be repeated at will, so len(text) + least rounds show all there is.
        for count in range((len(text) + least + 1 if most is None else most) + 1):
            if count >= least:
                found |= layer
            layer = frozenset().union(*(ends(body, middle) for middle in layer))
            if not layer:
                break
        return found

    while True:
        result = len(text) in ends(start, 0)
        before = known.copy()
        for rule, at in before:
            known[rule, at] = ends(rules[rule], at)
        if known == before:  # nor was anything else asked for
            return result


def mask(constraint: Constraint, state: int, size: int) -> np.ndarray:
    """(V,) bool: `allows` of every token."""
    return np.array([constraint.allows(state, token) for token in range(size)])


def distances(automaton: Automaton, states: Iterable[int], limit: int) -> dict[int, int]:
    """Fewest bytes to acceptance, by breadth-first search from each state, up to limit."""
    return {state: _distance(automaton, state, limit) for state in states}


def _distance(automaton: Automaton, state: int, limit: int) -> int:
    front, seen = {state}, {state}
    for length in range(limit + 1):
        if any(automaton.accepts(s) for s in front):
            return length
        front = {automaton.step(s, byte) for s in front for byte in range(256)} - seen - {0}
        seen |= front
    return 2**31 - 1


class ReadAlong:
    """Words that a JSON string spells (or, not inside, must not), by definition: a state is what was spelled so far and
    the beginning of one more character.
    """

    def __init__(self, words: Iterable[str], inside: bool) -> None:
        self._words, self._inside = set(words), inside

    def step(self, state: tuple[str, bytes], byte: int) -> tuple[str, bytes] | None:
        """None where no word goes on like that."""
        spelled, begun = state
        begun += bytes([byte]).lower() if begun.startswith(b"\\u") else bytes([byte])
        found = [(character, spelling) for character, spelling in self._next(spelled) if spelling.startswith(begun)]
        for character, spelling in found:
            if spelling == begun:
                return spelled + character, b""
        return (spelled, begun) if found else None

    def leaves(self, state: tuple[str, bytes]) -> bool:
        """May the string end here?"""
        spelled, begun = state
        return not begun and (spelled in self._words) == self._inside

    def detour(self, state: tuple[str, bytes]) -> int:
        """Bytes to the nearest word (or string that is none) beyond those that complete any character, at least one."""
        spelled, begun = state
        if not self._inside:
            ends = {a for a, spelling in self._next(spelled) if spelling[:-1] == begun and spelled + a in self._words}
            return int(begun != b"" and len(ends) == _choices(begun))
        ways = [(a, spelling) for a, spelling in self._next(spelled) if spelling.startswith(begun)]
        nearest = min((len(spelling) - len(begun) + self._rest(spelled + a) for a, spelling in ways), default=None)
        return UNREACHABLE if nearest is None else nearest - _missing(begun)

    def _next(self, spelled: str) -> list[tuple[str, bytes]]:
        """The characters by which words go on, in all their spellings."""
        characters = {word[len(spelled)] for word in self._words if word.startswith(spelled) and word != spelled}
        return [(character, spelling) for character in characters for spelling in spellings(character)]

    def _rest(self, spelled: str) -> int:
        """Fewest bytes to the end of a word."""
        rests = [word.removeprefix(spelled) for word in self._words if word.startswith(spelled)]
        return min(sum(len(spellings(character)[0]) for character in rest) for rest in rests)


def _choices(begun: bytes) -> int:
    """How many characters can be completed by one more byte."""
    if begun == b"\\":
        return len(SHORT_ESCAPES)
    return 16 if begun.startswith(b"\\u") else 64


def _missing(begun: bytes) -> int:
    """Fewest bytes that complete any character that begins like this."""
    if begun in (b"", b"\\"):
        return 1
    if begun.startswith(b"\\"):
        paired = begun[2:3] == b"d" and begun[3:4] > b"7"  # a high surrogate needs a low one
        return (12 if paired else 6) - len(begun)
    return (2 if begun[0] < 0xE0 else 3 if begun[0] < 0xF0 else 4) - len(begun)


SHORT_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}


def spellings(character: str) -> list[bytes]:
    r"""How a character can stand in a JSON string, the shortest first, `\u` with lower-case digits."""
    found = [] if character in '"\\' or character < " " else [character.encode()]
    if character in SHORT_ESCAPES:
        found.append(b"\\" + SHORT_ESCAPES[character].encode())
    units = character.encode("utf-16-be").hex()
    found.append("".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4)).encode())
    return found


def texts(constraint: Constraint, vocabulary: Vocabulary, longest: int) -> Iterator[tuple[int, ...]]:
    """All complete token sequences of at most `longest` tokens, end-of-text not included."""
    stack: list[tuple[tuple[int, ...], int]] = [((), constraint.start())]
    while stack:
        tokens, state = stack.pop()
        if state and constraint.complete(state):
            yield tokens
        if state and len(tokens) < longest:
            for token in range(len(vocabulary)):
                if token not in vocabulary.eos and constraint.allows(state, token):
                    stack.append(((*tokens, token), constraint.advance(state, token)))


def posterior(
    model: ToyModel, constraint: Constraint, longest: int, given: Sequence[int] = ()
) -> tuple[dict[tuple[int, ...], float], float]:
    """(token sequence -> probability, log evidence): the model conditioned on the constraint, by enumeration.

    Texts have at most `longest` tokens; each counts with the probability of its tokens and of its end, times the
    constraint's potential.
    """
    vocabulary, mass = model.vocabulary, {}
    for tokens in texts(constraint, vocabulary, longest):
        state = constraint.start()
        for token in tokens:
            state = constraint.advance(state, token)
        law = model.law([*given, *tokens])
        end = np.logaddexp.reduce([float(law[e]) for e in vocabulary.eos])
        potential = constraint.log_potential(state, done=True)
        mass[tokens] = math.exp(model.logprob(tokens, given) + end + potential)
    total = sum(mass.values())
    return {tokens: m / total for tokens, m in mass.items()}, math.log(total) if total else -math.inf


def awrs(weights: Sequence[float], allowed: Sequence[bool], uniforms: Iterable[float], tail: int) -> tuple[int, float]:
    """(token, estimate of the allowed mass), with so many draws behind the accepted one; (-1, 0) if nothing is."""
    left = dict(enumerate(weights))
    accepted, seen, values, shares = -1, 0.0, [], []
    for uniform in uniforms:
        left = {token: weight for token, weight in left.items() if weight > 0}
        total = math.fsum(left.values())
        if accepted >= 0:
            behind, rest = len(values) + 1, 1 - math.fsum(shares)
            last = behind == tail or not left or total <= 0.05 * seen
            shares.append(rest if last else rest * behind / sum(range(behind, tail + 1)))
        if left:
            token = _inverse_cdf(left, uniform * total)
            del left[token]
            if accepted >= 0:
                values.append(seen + total * allowed[token])
            elif allowed[token]:
                accepted = token
            seen += weights[token] * allowed[token]
        elif accepted < 0:
            return -1, 0.0
        else:
            values.append(seen)
        if accepted >= 0 and shares and last:
            return accepted, math.fsum(s * v for s, v in zip(shares, values, strict=True))
    raise AssertionError("too few uniforms")


def _inverse_cdf(weights: Mapping[int, float], point: float) -> int:
    for token, weight in weights.items():
        point -= weight
        if point < 0:
            return token
    return token


def fewest_tokens(constraint: Constraint, vocabulary: Vocabulary, state: int, limit: int) -> int:
    """Fewest tokens to a complete text by breadth-first search, up to limit; 2**31 - 1 if no state is left to try."""
    front, seen = {state}, {state}
    for count in range(limit + 1):
        if any(map(constraint.complete, front)):
            return count
        front = {constraint.advance(s, t) for s in front for t in allowed_tokens(constraint, vocabulary, s)} - seen
        seen |= front
        if not front:
            return 2**31 - 1
    return limit + 1


def allowed_tokens(constraint: Constraint, vocabulary: Vocabulary, state: int) -> list[int]:
    """The tokens that a state allows, the end left out; by the mask, since vocabularies may be real ones."""
    packed = np.zeros(words(len(vocabulary)), np.uint32)
    constraint.mask(state, packed)
    return [token for token in np.flatnonzero(unpack(packed, len(vocabulary))).tolist() if token not in vocabulary.eos]


def byte_law(
    model: ToyModel, text: bytes, canonical: Constraint | None = None, given: Sequence[int] = ()
) -> np.ndarray:
    """(257,) probabilities of text with each byte behind it, and of text as a whole: sums over all covers."""
    masses = np.zeros(257)
    for tokens, weight, spelled in spellings_of(model, text, canonical, given):
        for token, p in allowed_probabilities(model, tokens, canonical, given).items():
            piece = model.vocabulary.tokens[token]
            covered = spelled + piece
            if token in model.vocabulary.eos and spelled == text:
                masses[256] += weight * p
            elif piece and len(covered) > len(text) and covered.startswith(text):
                masses[covered[len(text)]] += weight * p
    return masses


def cover_mass(model: ToyModel, text: bytes, canonical: Constraint | None, given: Sequence[int]) -> float:
    """The probability of the token sequences whose last token is the first to reach or pass the end of text."""
    if not text:
        return 1.0
    return math.fsum(
        weight * p
        for tokens, weight, spelled in spellings_of(model, text, canonical, given)
        for token, p in allowed_probabilities(model, tokens, canonical, given).items()
        if model.vocabulary.tokens[token] and spelled != text
        if (spelled + model.vocabulary.tokens[token]).startswith(text)
    )


def end_mass(model: ToyModel, text: bytes, canonical: Constraint | None, given: Sequence[int]) -> float:
    """The probability of the token sequences that spell text and then end."""
    return math.fsum(
        weight * p
        for tokens, weight, spelled in spellings_of(model, text, canonical, given)
        for token, p in allowed_probabilities(model, tokens, canonical, given).items()
        if token in model.vocabulary.eos and spelled == text
    )


def spellings_of(
    model: ToyModel, text: bytes, canonical: Constraint | None, given: Sequence[int]
) -> Iterator[tuple[tuple[int, ...], float, bytes]]:
    """(tokens, probability, bytes) of all token sequences that spell a beginning of text."""
    stack: list[tuple[tuple[int, ...], float, bytes]] = [((), 1.0, b"")]
    while stack:
        tokens, weight, spelled = stack.pop()
        yield tokens, weight, spelled
        for token, p in allowed_probabilities(model, tokens, canonical, given).items():
            piece = model.vocabulary.tokens[token]
            if piece and token not in model.vocabulary.eos and text.startswith(piece, len(spelled)) and p > 0:
                stack.append(((*tokens, token), weight * p, spelled + piece))


def allowed_probabilities(
    model: ToyModel, tokens: Sequence[int], canonical: Constraint | None, given: Sequence[int]
) -> dict[int, float]:
    """Of the tokens that may come next, not made to sum to 1 again."""
    law = np.exp(model.law([*given, *tokens]).astype(np.float64))
    law /= law.sum()
    if canonical is None:
        return dict(enumerate(law.tolist()))
    state = canonical.start()
    for token in tokens:
        state = canonical.advance(state, token)
    packed = np.zeros(words(len(law)), np.uint32)
    canonical.mask(state, packed)
    return dict(enumerate((law * unpack(packed, len(law))).tolist()))


def merged(word: Sequence[bytes], merges: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
    """Byte-pair merges: the lowest rank first, leftmost first, until none is left."""
    word = list(word)
    while True:
        pairs = [(merges.index(pair), i) for i, pair in enumerate(pairwise(word)) if pair in merges]
        if not pairs:
            return word
        i = min(pairs)[1]
        word[i : i + 2] = [word[i] + word[i + 1]]
