"""Python predicates: how they are asked, and that the way they are asked changes no answer."""

from __future__ import annotations

import gc
import math
import re
import signal
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import genctl
from genctl.compilers.regex import compile_regex
from genctl.constraints import predicate as module
from genctl.constraints.automaton import AutomatonConstraint
from genctl.constraints.both import Both
from genctl.constraints.predicate import JUDGES, Manner, PredicateConstraint
from genctl.models.toy import ToyModel
from genctl.samplers import smc
from genctl.samplers.rejection import awrs
from genctl.samplers.resampling import SCHEMES
from genctl.samplers.streams import seeded
from genctl.vocabulary import Vocabulary
from tests import naive
from tests.statistics import assert_posterior

# Blanks of two kinds (U+3000 is three bytes), tokens with several words and lines, split characters, a control token.
WORDS = ("a", "b", " ", "\n", "a b ", "b\n\na", "\u3000", " a", "é")
BYTES = (*(word.encode() for word in WORDS), b"\xc3", b"\xa9", b"\xe3\x80", b"\xff")
END, ALSO_END, CONTROL = range(len(BYTES), len(BYTES) + 3)
VOCABULARY = Vocabulary((*BYTES, b"", b"", b""), frozenset({END, ALSO_END}), frozenset({CONTROL}))
SIZE = len(VOCABULARY)

TEXTS = st.text("ab \n\u3000é", max_size=8)
PATHS = st.lists(st.integers(0, len(BYTES) - 1), max_size=5)


class Asked:
    """A random function of (text, done) that remembers what it was asked."""

    def __init__(self, seed: int, bias: float = 0.8) -> None:
        self.seed, self.bias = seed, bias
        self.calls: list[list[tuple[str, bool]]] = []

    def answer(self, text: str | bytes, done: bool) -> bool | float:
        shown = text if isinstance(text, bytes) else text.encode()
        rng = np.random.default_rng([self.seed, done, *shown])
        if rng.random() > self.bias:
            return False
        return True if rng.random() < 0.5 else float(rng.normal())

    def __call__(self, text: str, done: bool) -> bool | float:
        self.calls.append([(text, done)])
        return self.answer(text, done)

    def each(self, texts: list[str], done: list[bool]) -> list[bool | float]:
        assert isinstance(texts, list)
        assert isinstance(done, list)
        self.calls.append(list(zip(texts, done, strict=True)))
        return [self.answer(text, end) for text, end in zip(texts, done, strict=True)]

    @property
    def questions(self) -> list[tuple[str, bool]]:
        return [question for call in self.calls for question in call]


def pairs_of(constraint: PredicateConstraint, paths: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Every token behind the states along the paths, and behind the dead one."""
    states = {0, constraint.start()}
    for path in paths:
        state = constraint.start()
        for token in path:
            state = constraint.advance(state, token)
            states.add(state)
    grid = np.array([(state, token) for state in sorted(states) for token in range(SIZE)], np.int64)
    return grid[:, 0].copy(), grid[:, 1].copy()


# -- what is seen of a prefix, by definition


def words_seen(text: str) -> str | None:
    """Character by character: a white-space character behind another one ends a word."""
    seen = None
    for at, character in enumerate(text):
        if character.isspace() and at > 0 and not text[at - 1].isspace():
            seen = text[: at + 1]
    return seen


def lines_seen(text: str) -> str | None:
    whole = re.findall(r"[^\n]*\n", text)
    return "".join(whole) if whole else None


SEEN: dict[str, Callable[[str], str | None]] = {
    "prefix": lambda text: text,
    "words": words_seen,
    "lines": lines_seen,
    "text": lambda text: None,
}


def naive_weight(
    function: Callable[[str | bytes, bool], bool | float], judges: str, text: bytes, done: bool, sees: type = str
) -> float:
    try:
        readable = text.decode()
    except UnicodeDecodeError as error:
        begun = error.reason == "unexpected end of data"
        if done or not begun:
            return -math.inf
        readable = text[: error.start].decode()
    seen: str | bytes | None = readable if done else SEEN[judges](readable)
    if seen is None:
        return 0.0
    if sees is bytes:
        seen = text if done or judges == "prefix" else seen.encode()
    answer = function(seen, done)
    return (0.0 if answer else -math.inf) if isinstance(answer, bool) else answer


def test_every_way_to_judge_is_defined():
    assert set(SEEN) == set(JUDGES)


@given(TEXTS, st.sampled_from(sorted(JUDGES)))
def test_what_a_function_sees_of_a_prefix_is_as_defined(text, judges):
    assert JUDGES[judges](text) == SEEN[judges](text)


@given(st.text(max_size=12))
def test_every_character_of_white_space_ends_a_word(text):
    assert JUDGES["words"](text) == words_seen(text)


@given(TEXTS, TEXTS, st.sampled_from(["words", "lines"]))
def test_what_is_seen_only_grows_with_the_text(text, more, judges):
    before, after = JUDGES[judges](text) or "", JUDGES[judges](text + more) or ""
    assert after.startswith(before)
    assert text.startswith(before)


@given(st.integers(0, 10**6), st.sampled_from(sorted(JUDGES)), st.sampled_from([str, bytes]), PATHS)
def test_weights_along_a_path_are_those_of_the_definition(seed, judges, sees, path):
    function = Asked(seed, bias=0.95)
    constraint = PredicateConstraint(function, VOCABULARY, Manner(judges, sees=sees))
    state, text = constraint.start(), b""
    assert (state != 0) == (naive_weight(function.answer, judges, b"", False, sees) > -math.inf)
    for token in path:
        if state == 0:
            break
        for done in (False, True):
            expected = naive_weight(function.answer, judges, text, done, sees)
            assert constraint.log_potential(state, done=done) == expected
        assert constraint.complete(state) == (naive_weight(function.answer, judges, text, True, sees) > -math.inf)
        text += VOCABULARY.tokens[token]
        allowed = naive_weight(function.answer, judges, text, False, sees) > -math.inf
        assert constraint.allows(state, token) == allowed
        state = constraint.advance(state, token)
        assert (state != 0) == allowed


@given(st.integers(0, 10**6), st.sampled_from(sorted(JUDGES)), TEXTS)
def test_a_rule_accepts_a_text_whose_prefixes_and_whole_pass(seed, judges, text):
    function = Asked(seed, bias=0.9)
    prefixes = (naive_weight(function.answer, judges, text[:end].encode(), False) for end in range(len(text) + 1))
    expected = all(w > -math.inf for w in (*prefixes, naive_weight(function.answer, judges, text.encode(), True)))
    assert genctl.predicate(function, judges=judges).accepts(text) == expected
    assert genctl.predicate(function.each, judges=judges, batch=True).accepts(text) == expected


@given(st.integers(0, 10**6), st.sampled_from(sorted(JUDGES)), TEXTS)
def test_a_rule_that_sees_bytes_accepts_a_text_whose_bytes_pass(seed, judges, text):
    function, whole = Asked(seed, bias=0.9), text.encode()
    prefixes = (naive_weight(function.answer, judges, whole[:end], False, bytes) for end in range(len(whole) + 1))
    expected = all(w > -math.inf for w in (*prefixes, naive_weight(function.answer, judges, whole, True, bytes)))
    assert genctl.predicate(function, judges=judges, sees=bytes).accepts(text) == expected
    assert genctl.predicate(function.each, judges=judges, batch=True, sees=bytes).accepts(text) == expected


def test_a_function_that_sees_bytes_can_refuse_half_a_character():
    def plain(text: str | bytes, done: bool) -> bool:
        return text.isascii()

    half = BYTES.index(b"\xe3\x80")
    seen = {sees: PredicateConstraint(plain, VOCABULARY, Manner(sees=sees)) for sees in (str, bytes)}
    assert {sees: rule.allows(rule.start(), half) for sees, rule in seen.items()} == {str: True, bytes: False}


@pytest.mark.parametrize("sees", [str, bytes])
def test_a_text_that_has_no_utf_8_is_no_text(sees):
    assert not genctl.predicate(lambda text, done: True, sees=sees).accepts("a\ud800")


# -- the way of asking changes nothing


@given(st.integers(0, 10**6), st.sampled_from(sorted(JUDGES)), st.lists(PATHS, max_size=3), st.integers(1, 4))
def test_batch_threads_and_one_by_one_give_the_same_constraint(seed, judges, paths, threads):
    function = Asked(seed)
    plain = PredicateConstraint(function, VOCABULARY, Manner(judges))
    others = [
        PredicateConstraint(function.each, VOCABULARY, Manner(judges, batch=True)),
        PredicateConstraint(function, VOCABULARY, Manner(judges, threads=threads)),
    ]
    states, tokens = pairs_of(plain, paths)
    expected = [plain.allows(state, token) for state, token in zip(states.tolist(), tokens.tolist(), strict=True)]
    for other in others:
        assert [a.tolist() for a in pairs_of(other, paths)] == [states.tolist(), tokens.tolist()]
        assert other.allows_each(states, tokens).tolist() == expected
        for state in set(states.tolist()):
            for done in (False, True):
                assert other.log_potential(state, done=done) == plain.log_potential(state, done=done)


@pytest.mark.parametrize("judges", sorted(JUDGES))
def test_by_batch_there_is_one_call_for_all_that_is_new_with_each_text_once(judges):
    function = Asked(3, bias=1.0)
    constraint = PredicateConstraint(function.each, VOCABULARY, Manner(judges, batch=True))
    states, tokens = pairs_of(constraint, [[0, 2, 4], [5, 1, 3], [7]])
    known = set(function.questions)
    function.calls.clear()
    constraint.allows_each(states, tokens)
    assert len(function.calls) == 1
    assert len(set(function.questions)) == len(function.questions)
    assert not known & set(function.questions)
    constraint.allows_each(states, tokens)
    constraint.mask(int(states[-1]), np.zeros(1, np.uint32))
    assert len(function.calls) == 1


def test_a_mask_is_one_call():
    function = Asked(1, bias=1.0)
    constraint = PredicateConstraint(function.each, VOCABULARY, Manner("prefix", batch=True))
    start = constraint.start()
    function.calls.clear()
    constraint.mask(start, np.zeros(1, np.uint32))
    assert len(function.calls) == 1


def test_a_function_of_words_is_asked_once_for_each_word():
    function = Asked(2, bias=1.0)
    constraint = PredicateConstraint(function, VOCABULARY, Manner("words"))
    state = constraint.start()
    for character in "ab a  b":
        state = constraint.advance(state, VOCABULARY.tokens.index(character.encode()))
    assert function.questions == [("ab ", False), ("ab a ", False)]
    constraint.complete(state)
    assert function.questions[2:] == [("ab a  b", True)]


def test_a_function_of_whole_texts_is_not_asked_about_prefixes():
    function = Asked(2, bias=1.0)
    constraint = PredicateConstraint(function, VOCABULARY, Manner("text"))
    state = constraint.advance(constraint.advance(constraint.start(), 0), 3)
    assert function.questions == []
    constraint.allows_each(np.full(SIZE, state), np.arange(SIZE))
    assert function.questions == [("a\n", True)]


def test_later_parts_are_only_asked_about_what_earlier_ones_allow():
    first, second = Asked(4, bias=0.5), Asked(5, bias=0.5)
    language = AutomatonConstraint(compile_regex("[ab ]*"), VOCABULARY)
    parts = [PredicateConstraint(f.each, VOCABULARY, Manner("prefix", batch=True)) for f in (first, second)]
    both = Both([language, *parts])
    first.bias = second.bias = 1.0
    start = both.start()
    first.bias = second.bias = 0.5
    first.calls.clear()
    second.calls.clear()
    allowed = both.allows_each(np.full(SIZE, start), np.arange(SIZE))
    assert [len(first.calls), len(second.calls)] == [1, 1]
    assert {text for text, _ in first.questions} == {"a", "b", " ", "a b ", " a", ""}
    assert set(second.questions) == {q for q in first.questions if first.answer(*q) is not False}
    assert 0 < allowed.sum() < len(second.questions) + 2


def test_one_call_asks_about_all_particles():
    function = Asked(6, bias=1.0)
    constraint = PredicateConstraint(function.each, VOCABULARY, Manner("prefix", batch=True))
    states = [constraint.advance(constraint.start(), token) for token in (0, 1, 2)]
    function.calls.clear()
    constraint.allows_each(np.array(states), np.array([0, 1, END]))
    assert function.calls == [[("aa", False), ("bb", False), (" ", True)]]


# -- what is remembered


@given(st.integers(0, 10**6), st.lists(PATHS, min_size=1, max_size=4), st.sampled_from(sorted(JUDGES)))
def test_a_small_memory_changes_no_answer(seed, paths, judges):
    with pytest.MonkeyPatch.context() as patch:
        plain = PredicateConstraint(Asked(seed), VOCABULARY, Manner(judges))
        states, tokens = pairs_of(plain, paths)
        expected = plain.allows_each(states, tokens).tolist()
        patch.setattr(module, "MEMORY", 2 * module.OVERHEAD)
        for function, batch in ((Asked(seed), False), (Asked(seed).each, True)):
            small = PredicateConstraint(function, VOCABULARY, Manner(judges, batch))
            assert [a.tolist() for a in pairs_of(small, paths)] == [states.tolist(), tokens.tolist()]
            assert small.allows_each(states, tokens).tolist() == expected


def test_what_was_used_last_is_remembered_and_the_rest_asked_again(monkeypatch):
    monkeypatch.setattr(module, "MEMORY", 3 * (module.OVERHEAD + 2))
    function = Asked(0, bias=1.0)
    constraint = PredicateConstraint(function, VOCABULARY)
    start = constraint.start()
    for token in (0, 1, 2, 0, 3):  # the start is forgotten for " ", "b" for "\n"
        constraint.allows(start, token)
    function.calls.clear()
    for token in (0, 2, 3):
        constraint.allows(start, token)
    assert function.questions == []
    constraint.allows(start, 1)
    assert function.questions == [("b", False)]


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "MEMORY", 10_000)
    constraint = PredicateConstraint(lambda text, done: True, VOCABULARY)
    state = constraint.start()
    for _ in range(400):
        state = constraint.advance(state, 0)
    answers = constraint._answers._kept
    assert sum(len(text) + module.OVERHEAD for text, _ in answers) == constraint._answers._size <= 10_000
    assert len(answers) > 10


# -- threads


def test_threads_ask_at_the_same_time_and_answer_in_order():
    together = threading.Barrier(4, timeout=30)

    def waits(text: str, done: bool) -> float:
        if text:
            together.wait()
        return -float(ord(text[0])) if text else 0.0

    manner = Manner("prefix", threads=4)
    assert manner.ask(waits, [(text, False) for text in "abcd"]) == [-97.0, -98.0, -99.0, -100.0]


def test_threads_see_the_context_of_the_caller():
    language = ContextVar("language", default="none")
    language.set("English")
    manner = Manner("prefix", threads=3)
    assert manner.ask(lambda text, done: language.get() == "English", [(text, False) for text in "abc"]) == [0.0] * 3


def test_no_thread_is_left():
    gc.collect()
    before = threading.active_count()
    Manner("prefix", threads=4).ask(lambda text, done: True, [(str(i), False) for i in range(20)])
    for _ in range(500):
        if threading.active_count() <= before:
            break
        time.sleep(0.01)
    assert threading.active_count() <= before


@pytest.mark.parametrize("threads", [None, 3])
def test_an_exception_says_which_text_was_asked_about(threads):
    def fails(text: str, done: bool) -> bool:
        if text == "c":
            raise KeyError("no such word")
        return True

    with pytest.raises(KeyError, match="no such word") as caught:
        Manner("prefix", threads=threads).ask(fails, [(text, False) for text in "abcd"])
    assert caught.value.__notes__ == ["raised by the predicate fails for ('c', done=False)"]


def test_of_several_failures_the_first_in_order_is_raised():
    def fails(text: str, done: bool) -> bool:
        time.sleep(0.05 if text == "b" else 0)
        raise ValueError(text)

    with pytest.raises(ValueError, match="b"):
        Manner("prefix", threads=3).ask(fails, [(text, False) for text in "bcd"])


def test_an_interrupt_does_not_wait_for_threads_and_drops_what_is_not_begun():
    """The alarm is repeated: one that goes off just before the main thread begins to wait is not heard."""
    begun, release, armed = list[str](), threading.Event(), [True]

    def slow(text: str, done: bool) -> bool:
        begun.append(text)
        return release.wait(60)

    def interrupt(number: int, frame: object) -> None:
        if armed:
            armed.pop()
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3, 0.3)
        with pytest.raises(KeyboardInterrupt):
            Manner("prefix", threads=2).ask(slow, [(text, False) for text in "abcdef"])
    finally:
        armed.clear()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        release.set()
    time.sleep(0.05)
    assert set(begun) <= {"a", "b"}


# -- the public name


def test_it_is_a_decorator_with_arguments_and_without_and_a_call():
    @genctl.predicate
    def plain(text: str, done: bool) -> bool:
        return len(text) < 4

    @genctl.predicate(judges="words", threads=2)
    def of_words(text: str, done: bool) -> bool:
        return len(text) < 4

    @genctl.predicate(batch=True)
    def of_many(texts: list[str], done: list[bool]) -> list[bool]:
        return [len(text) < 4 for text in texts]

    assert repr(plain) == "Predicate(plain)"
    assert repr(of_words) == "Predicate(of_words, judges='words', threads=2)"
    assert repr(of_many) == "Predicate(of_many, batch=True)"
    assert repr(genctl.predicate(len, judges="text")) == "Predicate(len, judges='text')"
    for rule in (plain, of_words, of_many):
        assert isinstance(rule, genctl.Rule)
        assert rule.accepts("abc")
        assert not rule.accepts("abcd")


def test_it_is_joined_like_a_function():
    def short(text: str, done: bool) -> bool:
        return len(text) < 4

    @genctl.predicate(batch=True, judges="text")
    def even(texts: list[str], done: list[bool]) -> np.ndarray:
        return np.array([len(text) % 2 == 0 for text in texts])

    for rule in (genctl.regex("a*") & even & short, short & even & genctl.regex("a*"), even & short):
        assert [n for n in range(7) if rule.accepts("a" * n)] == [0, 2]


LETTERS = Vocabulary((b"a", b"b", b" ", b"\n", b"b a", b""), eos=frozenset({5}))
MODEL = ToyModel.random(LETTERS, order=2, seed=7)


@pytest.mark.parametrize("method", ["awrs", "masked"])
@pytest.mark.parametrize("judges", sorted(JUDGES))
def test_generation_is_the_same_however_the_function_is_asked(method, judges):
    def no_double(text: str, done: bool) -> bool | float:
        return "aa" not in text and -0.3 * text.count("b")

    def no_doubles(texts: list[str], done: list[bool]) -> list[bool | float]:
        return [no_double(text, end) for text, end in zip(texts, done, strict=True)]

    lm = genctl.load(MODEL)
    word = genctl.regex("[ab \\n]{2,6}")
    ways = [
        genctl.predicate(no_double, judges=judges),
        genctl.predicate(no_double, judges=judges, threads=3),
        genctl.predicate(no_doubles, judges=judges, batch=True),
    ]
    results = []
    for way in ways:
        g = lm.generate("a", word & way, num_particles=16, max_new_tokens=6, seed=3, method=method)
        results.append((sorted(g.posterior().items()), g.log_evidence))
    assert results[0] == results[1] == results[2]
    assert all("aa" not in text for text, _ in results[0][0])


@pytest.mark.parametrize("judges", sorted(JUDGES))
def test_the_evidence_and_the_posterior_are_those_of_the_definition(judges):
    """Of a potential that differs on prefixes and on whole texts, and rules words out that end in b."""

    def soft(text: str, done: bool) -> float:
        last = text.split()[-1] if text.split() else ""
        return -math.inf if last.endswith("b") else 0.6 * text.count("a") - 0.3 * len(text) * (not done)

    def soft_each(texts: list[str], done: list[bool]) -> np.ndarray:
        return np.array([soft(text, end) for text, end in zip(texts, done, strict=True)])

    def as_defined(text: str, done: bool) -> float:
        return naive_weight(soft, judges, text.encode(), done)

    runs, particles, longest = 1500, 4, 3
    language = AutomatonConstraint(compile_regex("[ab \n]{0,6}"), LETTERS)
    exact, log_evidence = naive.posterior(
        MODEL, Both([language, PredicateConstraint(as_defined, LETTERS)]), longest, given=[0]
    )
    constraint = Both([language, PredicateConstraint(soft_each, LETTERS, Manner(judges, batch=True))])
    streams = seeded(5, [(g, i) for g in range(runs) for i in range(particles)])
    begun = smc.start(streams, MODEL, [[0]] * runs, [constraint] * runs, particles)
    cloud = smc.run(begun, MODEL, [constraint] * runs, smc.Settings(awrs, SCHEMES["systematic"], 0.5, longest))
    assert_posterior(cloud, exact, log_evidence)


WRONG_ANSWERS = {
    "an int": (lambda texts, done: [1] * len(texts), "returned 1 for"),
    "None": (lambda texts, done: [None] * len(texts), "returned None for"),
    "NaN": (lambda texts, done: np.full(len(texts), np.nan), "returned nan for"),
    "infinity": (lambda texts, done: [math.inf] * len(texts), "returned inf for"),
    "a text": (lambda texts, done: "y" * len(texts), "returned 'y' for"),
    "a matrix": (lambda texts, done: np.ones((len(texts), 2), bool), r"returned \[True, True\] for"),
    "too few": (lambda texts, done: [True] * (len(texts) - 1), "returned 0 answers for 1 texts"),
    "too many": (lambda texts, done: np.ones(len(texts) + 1), "returned 2 answers for 1 texts"),
    "nothing": (lambda texts, done: None, "returned None for 1 texts"),
    "one for all": (lambda texts, done: True, "returned True for 1 texts"),
    "a scalar array": (lambda texts, done: np.array(True), "returned True for 1 texts"),
    "a generator": (lambda texts, done: (True for _ in texts), "returned <generator"),
}


@pytest.mark.parametrize("case", WRONG_ANSWERS)
def test_answers_that_are_no_answers_are_refused(case):
    function, message = WRONG_ANSWERS[case]
    with pytest.raises(genctl.ConstraintError, match=message) as caught:
        PredicateConstraint(function, VOCABULARY, Manner(batch=True)).start()
    assert caught.value.source == "<lambda>"
    assert caught.value.hint


@pytest.mark.parametrize("threads", [None, 2])
@pytest.mark.parametrize("answer", [1, None, math.nan, math.inf, "yes"])
def test_an_answer_that_is_none_is_refused_with_the_text(answer, threads):
    manner = Manner(threads=threads)
    with pytest.raises(genctl.ConstraintError, match=r"for \('b', done=False\)"):
        manner.ask(lambda text, done: text != "b" or answer, [(text, False) for text in "abc"])


@pytest.mark.parametrize("answers", [np.ones, np.zeros, lambda n: np.full(n, np.float32(-1.5)), lambda n: (True,) * n])
def test_arrays_and_tuples_are_answers(answers):
    expected = [0.0 if a is True else float(a) for a in answers(3)]
    assert Manner(batch=True).ask(lambda texts, done: answers(len(texts)), [(t, True) for t in "abc"]) == expected


WRONG_ARGUMENTS = {
    "a misspelt judge": (
        {"judges": "word"},
        "judges is 'word', .* prefix, words, lines, text\nhint: did you mean 'words'",
    ),
    "no judge": ({"judges": None}, "judges is None"),
    "a list of judges": ({"judges": ["words"]}, "judges is"),
    "no thread": ({"threads": 0}, "threads is 0, it must be an integer of at least 1"),
    "half a thread": ({"threads": 0.5}, "threads is 0.5"),
    "true threads": ({"threads": True}, "threads is True"),
    "a name for bytes": ({"sees": "bytes"}, "sees is 'bytes', it must be str or bytes"),
    "both": ({"threads": 2, "batch": True}, "batch and threads exclude each other"),
}


@pytest.mark.parametrize("case", WRONG_ARGUMENTS)
def test_wrong_arguments_are_refused_at_once(case):
    arguments, message = WRONG_ARGUMENTS[case]
    with pytest.raises(genctl.ArgumentError, match=message):
        genctl.predicate(**arguments)


@pytest.mark.parametrize("given", ["words", True, genctl.regex("a")])
def test_what_is_no_function_is_refused(given):
    with pytest.raises(genctl.ConstraintError, match="is no function"):
        genctl.predicate(given)
