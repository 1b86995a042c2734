"""What both libraries of awrs.py are asked to do, in plain Python: neither of them is imported here."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

DIGITS, SUM = 6, 21


def digit_sum(text: bytes, done: bool) -> bool:
    """Six digits whose sum is 21. A beginning passes if some end makes it so."""
    if len(text) > DIGITS or not all(byte in b"0123456789" for byte in text):
        return False
    missing = SUM - sum(byte - ord("0") for byte in text)
    if done:
        return len(text) == DIGITS and missing == 0
    return 0 <= missing <= 9 * (DIGITS - len(text))


class Task(NamedTuple):
    """notation: "regex", "json" or "predicate", of the rule. max_tokens: of a text without its end."""

    notation: str
    rule: Any
    request: str
    max_tokens: int
    particles: tuple[int, ...] = (1, 5, 20)


DATE = r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
EMAIL = r"[a-z0-9._]{1,20}@[a-z0-9]{1,12}\.(com|org|net)"
STUDENT = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "city": {"type": "string", "maxLength": 20},
        "enrolled": {"type": "boolean"},
        "grade": {"enum": ["A", "B", "C"]},
    },
    "required": ["name", "age", "city", "enrolled", "grade"],
    "additionalProperties": False,
}
TASKS = {
    "date": Task("regex", DATE, "When did people first land on the moon? Answer with the date as YYYY-MM-DD.", 12),
    "digit sum": Task("predicate", digit_sum, "Write six digits whose sum is 21. Answer with the digits only.", 8),
    "JSON": Task(
        "json",
        STUDENT,
        "Describe a student as a JSON object with the fields name, age, city, enrolled and grade. JSON only.",
        64,
        (1, 5),
    ),
}


class Place(NamedTuple):
    """A rule after a text. before, behind: of four letters or digits that make a text of its own for each draw."""

    notation: str
    rule: Any
    before: str
    alphabet: str
    behind: str

    def texts(self) -> Iterator[str]:
        """Different texts, after all of which the same tokens are allowed."""
        for characters in product(self.alphabet, repeat=4):
            yield self.before + "".join(characters) + self.behind


PLACES = {
    "date": Place("regex", DATE, "", "0123456789", "-"),
    "email": Place("regex", EMAIL, "", "abcdefghij", ""),
    "JSON": Place("json", STUDENT, '{"name": "', "abcdefghij", '", "age": 3'),
}
MASSES = (0.99, 0.5, 0.1, 0.01)
