"""Five tasks in which a rule matters: molecules, planning goals, patterns, JSON, SQL.

    examples = molecules.DOMAIN.examples(50, seed=0)
    g = lm.generate(examples[0].prompt, examples[0].rule, max_new_tokens=molecules.DOMAIN.max_new_tokens)
    examples[0].valid(g.text), examples[0].score(g.text)

They are those of "Fast Controlled Generation from Language Models with Adaptive Weighted Rejection Sampling" (arXiv
2504.05410), rebuilt from data and checkers that can be had freely, so figures are not to be compared with the paper's.

A *prefix oracle* is a function (text, done) of the kit. Its law: no prefix of a text that it accepts is refused. So it
can be asked about beginnings without changing which texts are allowed (tests/test_domains.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from genctl.constraints.rules import Rule

Messages = list[dict[str, str]]
Oracle = Callable[[str, bool], bool]


class Counted:
    """An oracle that counts its calls."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle, self.__name__ = oracle, getattr(oracle, "__name__", "oracle")
        self.calls = 0

    def __call__(self, text: str, done: bool) -> bool:
        self.calls += 1
        return self._oracle(text, done)


class Example(NamedTuple):
    """valid: does a text obey, says a checker that is not the rule's? score: of a valid text, from 0 to 1.

    oracle: the part of the rule that Python is asked about, if any. reference: a good answer, if one is known.
    """

    name: str
    prompt: Messages
    rule: Rule
    valid: Callable[[str], bool]
    score: Callable[[str], float]
    oracle: Counted | None = None
    reference: str | None = None


class Domain(NamedTuple):
    """examples: (count, seed) -> as many, or all there are. scored: what the score is."""

    name: str
    examples: Callable[[int, int], Sequence[Example]]
    max_new_tokens: int
    scored: str


def chat(shots: Sequence[tuple[str, str]], question: str) -> Messages:
    """Questions with their answers, and one without: a model in chat form knows where an answer ends."""
    turns = [
        message
        for asked, answered in shots
        for message in ({"role": "user", "content": asked}, {"role": "assistant", "content": answered})
    ]
    return [*turns, {"role": "user", "content": question}]


def data_file(name: str) -> Path:
    """A file of the folder that GENCTL_DATA names; FileNotFoundError says where it was looked for."""
    folder = Path(os.environ.get("GENCTL_DATA", Path(__file__).parents[3] / "shared" / "data"))
    path = folder / name
    if not path.is_file():
        raise FileNotFoundError(f"no file {path} (GENCTL_DATA names another folder)")
    return path
