r"""Texts that match a pattern which no automaton holds: back-references, recursion, conditionals, atomic groups.

    lm.generate(prompt, matching(r"(\w+) \1"), num_particles=5)

The `regex` package can say that a text matches so far. Its answer for a beginning is right but where it asks whether
the text ends here, as `$` and `\b` do: (?!a$)a+ matches "aa", but "a" is refused as its beginning. So an optional
character is read before each such question: it changes nothing in a whole text, and a beginning that is asked "does it
end here?" passes, since whatever reads past its end passes. What refuses a beginning then has seen neither its end nor
what is behind it, so it refuses all that goes on from it. For the same reason it passes much behind a look-ahead that
runs to the end, like (?=.*x).
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import cache

import numpy as np
import regex

import genctl
from benchmarks.domains import Counted, Domain, Example, Oracle, chat, data_file
from genctl.constraints.rules import Rule
from genctl.errors import ConstraintError

SECONDS = 2.0  # after which backtracking is given up
LONGEST = 80  # characters of a pattern
SHOTS = [
    (r"^[A-Z][a-z]+$", "Lisbon"),
    (r"(\w)\1", "oo"),
    (r"^\d{4}-\d{2}-\d{2}$", "2021-03-14"),
    (r"^(?=.*\d)[a-z\d]{6,}$", "tiger42"),
]
QUESTION = "Write a text that matches this regular expression: {}"

# `$` and its kin may look past a line's end.
READS = r"(?=\s?\s?[\s\S]?)"
SET = r"\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\]"
SET_OF_SETS = r"(?<set>\[\^?\]?(?:\[:\^?\w+:\]|\\.|(?&set)|[^\[\]\\])*\])"
PIECES = r"""
    (?<copied>{sets}|\(\?\#[^)]*\)|\\[pPNg]\{{[^}}]*\}})
    |(?<asks>\$|\\[bBmMZz])  # does the text end here?
    |(?<takes>\\[XR])        # as many characters as there are
    |(?<flags>\(\?[a-zA-Z0-9-]*[rx][a-zA-Z0-9-]*[:)])
    |(?<fuzzy>\{{\s*(?:[eids]|\d+\s*[<eids]))
    |\\.|.
"""
OLD, NEW = (regex.compile(PIECES.format(sets=s), regex.VERBOSE | regex.DOTALL) for s in (SET, SET_OF_SETS))
REFUSED = {"flags": "the flags x and r", "fuzzy": "fuzzy matching"}


def full_match(pattern: str) -> Oracle:
    """Prefix oracle: can (done: does) the whole text match?

    Raises ConstraintError for what is no pattern, or has flags or parts for which beginnings cannot be judged;
    TimeoutError, when asked, where backtracking takes more than SECONDS.
    """
    try:
        whole = regex.compile(pattern)
    except regex.error as error:
        raise ConstraintError(f"{error.msg} at character {error.pos}", source=pattern) from None
    beginning = regex.compile(_reading(pattern, NEW if whole.flags & regex.VERSION1 else OLD))

    def full_match(text: str, done: bool) -> bool:
        if done:
            return whole.fullmatch(text, timeout=SECONDS) is not None
        return beginning.fullmatch(text, partial=True, timeout=SECONDS) is not None

    return full_match


def _reading(pattern: str, pieces: regex.Pattern[str]) -> str:
    """The pattern, with an optional character read before each question for the end."""

    def piece(found: regex.Match[str]) -> str:
        kind = found.lastgroup
        if kind in REFUSED:
            raise ConstraintError(
                f"{REFUSED[kind]} cannot be judged by beginnings, at character {found.start()}", source=pattern
            )
        if kind == "takes":
            return f"(?:{READS}{found[0]}{READS})"
        return READS + found[0] if kind == "asks" else found[0]

    return pieces.sub(piece, pattern)


@cache
def _ascii() -> Rule:
    return genctl.regex("[\t\n\r -~]*")


def matching(pattern: str, oracle: Counted | None = None) -> Rule:
    """Texts in ASCII that match: a function is not shown the first bytes of a character, so it cannot refuse them."""
    return _ascii() & genctl.predicate(oracle or full_match(pattern))


def examples(count: int, seed: int) -> Sequence[Example]:
    """Patterns of the data that can be judged by beginnings and that ASCII can match, as far as one character tells."""
    with data_file("patterns.csv").open(newline="", encoding="utf-8") as file:
        patterns = [row["regex"] for row in csv.DictReader(file)]
    patterns = [pattern for pattern in patterns if len(pattern) <= LONGEST and _is_usable(pattern)]
    order = np.random.default_rng(seed).permutation(len(patterns))
    return [_example(patterns[i]) for i in order[:count].tolist()]


def _is_usable(pattern: str) -> bool:
    try:
        oracle = full_match(pattern)
    except ConstraintError:
        return False
    return any(oracle(chr(code), False) for code in range(128)) or oracle("", True)


def _example(pattern: str) -> Example:
    oracle = Counted(full_match(pattern))
    prompt = chat([(QUESTION.format(p), answer) for p, answer in SHOTS], QUESTION.format(pattern))
    whole = regex.compile(pattern)

    def valid(text: str) -> bool:
        return whole.fullmatch(text, timeout=SECONDS) is not None

    return Example(pattern, prompt, matching(pattern, oracle), valid, lambda text: float(valid(text)), oracle)


DOMAIN = Domain("patterns", examples, 16, "full match")
