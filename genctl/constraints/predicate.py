"""A Python function of the text as a constraint and a potential.

    def palindrome(text: str, done: bool) -> bool | float:
        return not done or text == text[::-1]

    lm.generate(prompt, genctl.regex("[a-z]{3,9}") & palindrome, num_particles=32)

The function is asked about prefixes (done=False) and about whole texts (done=True). True lets pass, False rules
the text and all that goes on from it out; a float is a log-weight in nats (-inf: ruled out). A prefix that ends
inside a character is shown without that character's first bytes; a function that sees bytes is shown them too.

A *manner* says about which prefixes the function is asked (JUDGES), what it is shown of them, and whether it is asked
one by one, by threads or by batch.
Answers are remembered; the ones that were not used for longest are forgotten, and asked for again where needed.
"""

from __future__ import annotations

import codecs
import math
import re
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

import numpy as np

from genctl.constraints.base import pack
from genctl.errors import ConstraintError
from genctl.kernels.records import I64, U32, Bool
from genctl.vocabulary import Vocabulary

Shown = TypeVar("Shown", str, bytes)
PredicateFunction: TypeAlias = Callable[[Shown, bool], bool | float]
BatchFunction: TypeAlias = Callable[[list[Shown], list[bool]], Collection[Any]]
Judges: TypeAlias = Literal["prefix", "words", "lines", "text"]

Question: TypeAlias = tuple[str | bytes, bool]  # what is shown of a text; is it finished?

MEMORY = 2**23  # characters of the texts whose answers a constraint remembers, where each text
OVERHEAD = 128  # counts as so many more


# -- how a function is asked

_WHOLE_WORDS = re.compile(r".*\S\s", re.DOTALL)


def _whole_words(text: str) -> str | None:
    """The text up to the white space that ended its last whole word, this one character included."""
    found = _WHOLE_WORDS.match(text)
    return found and found[0]


def _whole_lines(text: str) -> str | None:
    """The text up to its last line feed, which is included."""
    return text[: text.rfind("\n") + 1] or None


# What a function is shown of a prefix; None: it is not asked, the prefix passes.
JUDGES: dict[str, Callable[[str], str | None]] = {
    "prefix": lambda text: text,
    "words": _whole_words,
    "lines": _whole_lines,
    "text": lambda text: None,
}


class Manner(NamedTuple):
    """How a function is asked: about which prefixes, all new questions in one call, or by so many threads; is it shown
    text or bytes?
    """

    judges: Judges = "prefix"
    batch: bool = False
    threads: int | None = None
    sees: type[str] | type[bytes] = str

    def question(self, text: bytes, done: bool) -> Question | float:
        """What is asked about a text, or its log-weight if nothing is. A finished text must be whole characters."""
        readable = _readable(text, done)
        if readable is None:
            return -math.inf
        shown = readable if done else JUDGES[self.judges](readable)
        if shown is None:
            return 0.0
        if self.sees is str:
            return shown, done
        return text if done or self.judges == "prefix" else shown.encode(), done

    def questions(self, text: str) -> Iterator[Question | float]:
        """What is asked about the prefixes of a finished text, and then about the text (see `question`)."""
        last, whole = None, text.encode(errors="surrogatepass")
        for end in range(len(whole) + 1):
            question = self.question(whole[:end], False)
            if question != last:
                yield question
                last = question
        yield self.question(whole, True)

    def ask(self, function: Callable[..., Any], questions: Sequence[Question]) -> list[float]:
        """The log-weight of each question, in nats."""
        if self.batch:
            return _ask_at_once(function, questions)
        threads = min(self.threads or 1, len(questions))
        if threads > 1:
            return _ask_by_threads(function, questions, threads)
        return [log_weight(function, *question) for question in questions]


ONE_BY_ONE = Manner()


def _ask_at_once(function: BatchFunction[Any], questions: Sequence[Question]) -> list[float]:
    answers = function([text for text, _ in questions], [done for _, done in questions])
    if hasattr(answers, "tolist"):  # an array or a tensor
        answers = answers.tolist()
    if not isinstance(answers, Sequence) or len(answers) != len(questions):
        given = f"{len(answers)} answers" if isinstance(answers, Sequence) else repr(answers)
        raise ConstraintError(
            f"the predicate {name_of(function)} returned {given} for {len(questions)} texts",
            source=name_of(function),
            hint="with batch=True, return one answer for each text, in their order: a list or a flat array",
        )
    return [_in_nats(answer, function, *question) for answer, question in zip(answers, questions, strict=True)]


def _ask_by_threads(function: PredicateFunction[Any], questions: Sequence[Question], threads: int) -> list[float]:
    """The first question that fails, in their order, fails them all; those that no thread has begun are dropped then.

    An interrupt does not wait for the threads. Each question sees the context variables of the caller.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix=name_of(function))
    try:
        asks = [partial(copy_context().run, log_weight, function, *question) for question in questions]
        waiting = [pool.submit(ask) for ask in asks]
        return [answer.result() for answer in waiting]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def log_weight(function: PredicateFunction[Any], text: str | bytes, done: bool) -> float:
    """The function's answer in nats; ConstraintError where it is neither a truth value nor a log-weight."""
    try:
        answer = function(text, done)
    except Exception as error:
        error.add_note(f"raised by the predicate {name_of(function)} for ({text!r}, done={done})")
        raise
    return _in_nats(answer, function, text, done)


def _in_nats(answer: object, function: Callable[..., Any], text: str | bytes, done: bool) -> float:
    if isinstance(answer, bool | np.bool_):
        return 0.0 if answer else -math.inf
    if isinstance(answer, float | np.floating) and not math.isnan(answer) and answer != math.inf:
        return float(answer)
    raise ConstraintError(
        f"the predicate {name_of(function)} returned {answer!r} for ({text!r}, done={done})",
        source=name_of(function),
        hint="return True, False, or a log-weight in nats (a float below +inf)",
    )


def name_of(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", function))


# -- the constraint


class _Answers:
    """The answers of a function; beyond MEMORY the ones that were not used for longest are forgotten."""

    def __init__(self, function: Callable[..., Any], manner: Manner) -> None:
        self._function, self._manner = function, manner
        self._kept: OrderedDict[Question, float] = OrderedDict()
        self._size = 0

    def to(self, question: Question) -> float:
        known = self._known(question)
        return self._ask([question])[question] if known is None else known

    def to_each(self, questions: Iterable[Question]) -> dict[Question, float]:
        """By question; all that are new are asked together, each once."""
        known = {question: self._known(question) for question in questions}
        new = self._ask([question for question, answer in known.items() if answer is None])
        return {question: new[question] if answer is None else answer for question, answer in known.items()}

    def _known(self, question: Question) -> float | None:
        known = self._kept.get(question)
        if known is not None:
            self._kept.move_to_end(question)
        return known

    def _ask(self, questions: list[Question]) -> dict[Question, float]:
        if not questions:
            return {}
        answers = dict(zip(questions, self._manner.ask(self._function, questions), strict=True))
        self._keep(answers)
        return answers

    def _keep(self, answers: dict[Question, float]) -> None:
        self._kept.update(answers)
        self._size += sum(len(text) + OVERHEAD for text, _ in answers)
        while self._size > MEMORY:
            (text, _), _ = self._kept.popitem(last=False)
            self._size -= len(text) + OVERHEAD


class PredicateConstraint:
    """One generation's view of a predicate: a state is a text, hash-consed."""

    def __init__(
        self, function: PredicateFunction[Any] | BatchFunction[Any], vocabulary: Vocabulary, manner: Manner = ONE_BY_ONE
    ) -> None:
        self._vocabulary, self._manner = vocabulary, manner
        self._texts: list[bytes] = [b"", b""]  # state 0 is dead, state 1 the empty text
        self._states: dict[bytes, int] = {b"": 1}
        self._answers = _Answers(function, manner)

    def start(self) -> int:
        return 1 if self.log_potential(1, done=False) > -math.inf else 0

    def allows(self, state: int, token: int, /) -> bool:
        return self._weight(self._after(state, token)) > -math.inf

    def allows_each(self, states: I64, tokens: I64, /) -> Bool:
        """(K,) states, (K,) token ids -> (K,) `allows` of each pair; what is new is asked all together."""
        asked = list(map(self._after, states.tolist(), tokens.tolist()))
        answers = self._answers.to_each(question for question in asked if isinstance(question, tuple))
        weights = [answers[question] if isinstance(question, tuple) else question for question in asked]
        allowed: Bool = np.array(weights, np.float64) > -math.inf
        return allowed

    def advance(self, state: int, token: int, /) -> int:
        if token in self._vocabulary.eos or not self.allows(state, token):
            return 0
        text = self._texts[state] + self._vocabulary.tokens[token]
        known = self._states.get(text)
        if known is None:
            known = self._states[text] = len(self._texts)
            self._texts.append(text)
        return known

    def complete(self, state: int, /) -> bool:
        return self.log_potential(state, done=True) > -math.inf

    def mask(self, state: int, out: U32, /) -> None:
        """The function is asked about every token of the vocabulary: AWRS needs a handful instead."""
        tokens = np.arange(len(self._vocabulary))
        out[:] = pack(self.allows_each(np.full(len(tokens), state), tokens))

    def candidates(self, state: int, /) -> U32 | None:
        return None

    def log_potential(self, state: int, /, *, done: bool) -> float:
        return self._weight(self._manner.question(self._texts[state], done)) if state else -math.inf

    def _weight(self, asked: Question | float) -> float:
        return self._answers.to(asked) if isinstance(asked, tuple) else asked

    def _after(self, state: int, token: int) -> Question | float:
        """What is asked about the text with the token behind it, or its log-weight if nothing is."""
        if state == 0:
            return -math.inf
        if token in self._vocabulary.eos:
            return self._manner.question(self._texts[state], True)
        more = self._vocabulary.tokens[token]
        return self._manner.question(self._texts[state] + more, False) if more else -math.inf


def _readable(text: bytes, done: bool) -> str | None:
    """The text without the beginning of an unfinished character; None if it can be no text."""
    try:
        return codecs.utf_8_decode(text, "strict", done)[0]
    except UnicodeDecodeError:
        return None
