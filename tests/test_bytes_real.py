"""The byte view of SmolLM2 against all covers, found by plain search (covers.py), and against its own samples.

In float64 the two agree to 1e-6 in total variation: what is left is that logits are handed over in float32. In float32
the order in which a model adds alone is worth 5e-6.
"""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from collections.abc import Collection, Iterator
from functools import cache
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

import genctl
from genctl.constraints.canonical import CanonicalConstraint
from genctl.errors import ArgumentError
from genctl.models.bytes import FIXED, ByteModel
from genctl.models.ensemble import Ensemble
from genctl.models.packaged import load_packaged
from genctl.models.transformers import TransformersModel
from tests.covers import Covers
from tests.tiny_models import tiny_model

pytestmark = pytest.mark.real

EXACT = 1e-6  # total variation
SINGLE = 2e-5  # the same, where the model computes in float32
EPS = 1e-3

PROMPTS = {
    "words": [b"The capital of P", b"Hello, world! Th", b"supercalifragili", b"once upon a ti", b"e", b"Sat"],
    "code": [
        b"def f(x):\n    r",
        b"for (int i = 0;",
        b"x+=1;y",
        b"import numpy as ",
        b"if __name__ == '",
        b"#include <st",
    ],
    "numbers": [b"3.14159", b"x =  7", b"1,000,00", b"2026-11-2", b"12 34", b"0x1F"],
    "JSON": [b'{"key": "va', b'[1, 2, {"a":nul', b'{"a":\t[', b'"\\u00e'],
    "HTML": [b"<div class='a'>", b"<p>Tom &amp; J", b"<!-- x --", b"</b"],
    "addresses": [b"http://www.examp", b"a.b@c.or", b"../usr/li", b"C:\\Win"],
    "contractions": [b"don't", b"don'", b"We'll s", b"it's'", b"I'VE", b"'re"],
    "emoji": ["ok 🙂".encode(), b"\xf0\x9f", "👩\u200d💻".encode()[:9], "🙂🙂".encode()[:-1]],
    "other scripts": [
        "日本".encode(),
        "日本語".encode()[:-2],
        "привет м".encode(),
        "한".encode()[:2],
        "مرحبا".encode(),
    ],
    "accents": ["café".encode(), "naïv".encode(), b"caf\xc3", "e\u0301".encode(), "Ünïc".encode(), "مرح".encode()],
    "blanks in front": [b" the", b"   x", b"\tif", b"\n\n#"],
    "blanks behind": [b"The ", b"x  ", b"x   ", b"end.\n", b"a\n\n", b"a \n", b"tab\t\tx", b"\r\n", b"}\n\t"],
    "special tokens": [b"<|im_end|", b"<|im_", b"a<|im_start|", b"<|endoftext|", b"<|", b"<repo_na"],
    "inside a character": [b"\xe2\x82", b"a\xe2", b"\xc3", b"\xe6\x97\xa5\xe6"],
    "nothing": [b""],
}
TEXTS = [text for several in PROMPTS.values() for text in several]
FIRST = {several[0] for several in PROMPTS.values()}


def cases(quick: Collection[bytes] = ()) -> list[Any]:
    return [
        pytest.param(text, marks=() if text in quick else pytest.mark.nightly, id=repr(text)[2:-1]) for text in TEXTS
    ]


@cache
def model() -> TransformersModel:
    loaded = load_packaged()
    return TransformersModel(loaded.model.double(), loaded.tokenizer)


@cache
def covers() -> Covers:
    return Covers(model().model, model().tokenizer, model().encode(""))


@cache
def constraint() -> CanonicalConstraint:
    return CanonicalConstraint(model().vocabulary, model().tokenizer)


def view(canonical: bool, eps: float = 0.0) -> ByteModel:
    return ByteModel(model(), constraint() if canonical else None, eps=eps)


def distance(log_law: np.ndarray, exact: np.ndarray) -> float:
    """Total variation."""
    return float(np.abs(np.exp(log_law) - exact).sum() / 2)


def at_once(seen: ByteModel, text: bytes) -> tuple[np.ndarray, float]:
    """The law behind a text that was a prompt, and its bound."""
    _, state = seen.prefill([seen.encode(text)])
    return seen.logprobs(state)[0], float(seen.bounds(state)[0])


def byte_by_byte(seen: ByteModel, text: bytes) -> Iterator[tuple[bytes, np.ndarray, float]]:
    """Each beginning of a text, with the law behind it and its bound."""
    _, state = seen.prefill([seen.encode(b"")])
    for size in range(len(text) + 1):
        yield text[:size], seen.logprobs(state)[0], float(seen.bounds(state)[0])
        if size < len(text):
            _, state = seen.extend(state, np.array([text[size]]))


def check_lazy(law: np.ndarray, bound: float, exact: np.ndarray) -> None:
    assert distance(law, exact) <= bound + EXACT
    assert bound <= EPS


def test_there_are_prompts_of_many_kinds() -> None:
    assert len(set(TEXTS)) == len(TEXTS) >= 60
    assert max(map(len, TEXTS)) == 16


# -- canonical covers


@pytest.mark.parametrize("text", cases(FIRST))
def test_the_canonical_view_is_the_law_of_all_covers_that_the_tokenizer_writes(text: bytes) -> None:
    exact = covers().law(text, canonical=True)
    *_, (_, law, bound) = byte_by_byte(view(True), text)
    assert bound == 0
    assert distance(law, exact) <= EXACT
    law, bound = at_once(view(True), text)
    assert bound == 0
    assert distance(law, exact) <= EXACT
    check_lazy(*at_once(view(True, EPS), text), exact)
    *_, (_, law, bound) = byte_by_byte(view(True, EPS), text)
    check_lazy(law, bound, exact)


STEPS = [b"The capital of P", b"don't", b"x =  7", b"a \n", b"<|im_end|", "日本".encode()]


@pytest.mark.parametrize("text", [b"3.1", *(pytest.param(text, marks=pytest.mark.nightly) for text in STEPS)])
def test_the_canonical_view_is_exact_behind_every_byte(text: bytes) -> None:
    nodes = covers().inner(text, canonical=True)
    assert nodes is not None
    weighed = covers().weighed(nodes)
    exact, lazy = byte_by_byte(view(True), text), byte_by_byte(view(True, EPS), text)
    for (beginning, law, _), (_, other, bound) in zip(exact, lazy, strict=True):
        expected = covers().law_of(beginning, weighed, canonical=True)
        assert distance(law, expected) <= EXACT
        check_lazy(other, bound, expected)


# -- all covers, whose number grows exponentially


def beginning(text: bytes, most: int) -> tuple[bytes, Any]:
    """The longest beginning with so few inner nodes, and these."""
    found = (covers().inner(text[:size], canonical=False, most=most) for size in range(len(text), -1, -1))
    nodes = next(nodes for nodes in found if nodes is not None)
    return text[: max(len(covers().text(node)) for node in nodes)], nodes


def check_all_covers(text: bytes, most: int) -> None:
    text, nodes = beginning(text, most)
    weighed = covers().weighed(nodes)
    exact, lazy = byte_by_byte(view(False), text), byte_by_byte(view(False, EPS), text)
    for (prefix, law, bound), (_, other, allowed) in zip(exact, lazy, strict=True):
        expected = covers().law_of(prefix, weighed, canonical=False)
        assert bound == 0
        assert distance(law, expected) <= EXACT
        check_lazy(other, allowed, expected)
    assert distance(at_once(view(False), text)[0], expected) <= EXACT
    check_lazy(*at_once(view(False, EPS), text), expected)


@pytest.mark.parametrize("text", sorted(FIRST))
def test_the_view_of_all_sequences_is_the_law_of_all_covers_behind_every_byte(text: bytes) -> None:
    check_all_covers(text, most=16)


@pytest.mark.parametrize("text", cases())
def test_the_view_of_all_sequences_is_the_law_of_all_covers_where_they_are_many(text: bytes) -> None:
    check_all_covers(text, most=200)


# -- in single precision, and what is impossible


def test_in_single_precision_the_views_are_as_near_as_it_allows() -> None:
    single = load_packaged()
    for text in ["Par", "don't", " the", "x = 1", "7,5", "日", "www."]:
        exact = covers().law(text.encode(), canonical=False)
        assert distance(at_once(ByteModel(single), text.encode())[0], exact) <= SINGLE


WITHOUT_TOKEN = [*b"\x04\x06\x13\x14\x16\x1d\xc0\xc1\xf1\xf2", *range(0xF5, 0x100)]


@pytest.mark.parametrize("canonical", [False, True])
def test_bytes_that_the_model_has_no_token_for_are_impossible_and_refused(canonical: bool) -> None:
    spelled = set().union(*covers().spelled.values())
    assert sorted(set(range(256)) - spelled) == WITHOUT_TOKEN
    law, _ = at_once(view(canonical), b"a")
    assert_array_equal(law[WITHOUT_TOKEN], -np.inf)
    for byte in WITHOUT_TOKEN[::4]:
        with pytest.raises(ArgumentError, match=r"prompt 0 is impossible from byte 2 on"):
            at_once(view(canonical), b"ab" + bytes([byte]))
    with pytest.raises(ArgumentError, match=r"impossible from byte 1 on, b'\\xf1'"):
        at_once(view(canonical), "a\U00040000".encode())


def test_a_canonical_text_never_spells_a_special_token() -> None:
    law, _ = at_once(view(True), b"<|im_end|")
    assert law[ord(">")] == -np.inf
    with pytest.raises(ArgumentError, match="impossible from byte 9 on, b'>'"):
        at_once(view(True), b"<|im_end|>")
    law, _ = at_once(view(False), b"<|im_end|")
    assert law[ord(">")] > -np.inf


# -- whole texts

WORD = re.compile(r" ?[A-Za-z]*[^A-Za-z]?")
LENGTH, SAMPLES = 4, 1500


def words(lm: genctl.Model, prompt: list[int]) -> Counter[str]:
    """The next words of independent texts, their first bytes only; so many tokens have at least as many bytes."""
    texts = lm.generate(prompt, max_new_tokens=LENGTH, num_return_sequences=SAMPLES, seed=3)
    found = [WORD.match(one.text.encode()[:LENGTH].decode(errors="replace")) for one in texts]
    return Counter(word.group() for word in found if word)


@pytest.mark.nightly
def test_words_have_the_same_law_by_tokens_and_by_bytes() -> None:
    """Both go on behind the same tokens: had the prompt been text, the view would weigh other spellings of it as well.

    A word is a function of the text, so that its law is that of the token model where all sequences count.
    """
    lm = genctl.load()
    read = lm.language_model.encode("Once upon a time, there was a")
    by_tokens = words(lm, read)
    by_bytes = words(lm.bytes(canonical=False), [FIXED + token for token in read])
    assert by_tokens.total() == by_bytes.total() == SAMPLES
    both = by_tokens + by_bytes
    often = [word for word, count in both.items() if count >= 20]
    assert len(often) > 10
    table = np.array([[counts[word] for word in often] for counts in (by_tokens, by_bytes)])
    table = np.column_stack([table, SAMPLES - table.sum(axis=1)])
    assert chi_square(table) > 1e-4


def chi_square(table: np.ndarray) -> float:
    """(2, K) counts of two samples -> the probability that samples of one law differ as much or more."""
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    statistic = float(((table - expected) ** 2 / expected).sum())
    half = [torch.tensor(value / 2, dtype=torch.float64) for value in (table.shape[1] - 1, statistic)]
    return float(torch.special.gammaincc(*half))


def test_the_chi_square_test_finds_two_laws_that_differ() -> None:
    assert chi_square(np.array([[100, 200, 300], [103, 195, 302]])) > 0.9
    assert chi_square(np.array([[100, 200, 300], [150, 200, 250]])) < 1e-3


# -- with a model of other tokens


@cache
def other() -> TransformersModel:
    """A random model of a few thousand weights; its tokenizer was trained on the spot."""
    loaded = tiny_model("llama")
    return TransformersModel(copy.deepcopy(loaded.model).double(), loaded.tokenizer)


FORMULAS = {
    "mixture": lambda laws, weights: weights @ laws,
    "bayes": lambda laws, weights: weights @ laws,
    "product": lambda laws, weights: np.prod(laws ** weights[:, None], axis=0),
    "min": lambda laws, weights: laws.min(axis=0),
    "max": lambda laws, weights: laws.max(axis=0),
}


@pytest.mark.parametrize("op", FORMULAS)
def test_the_law_of_an_ensemble_is_the_formula_of_the_exact_laws_of_its_members(op: str) -> None:
    other_covers = Covers(other().model, other().tokenizer, other().encode(""))
    weights = np.array([0.6, 0.4])
    given = None if op in ("min", "max") else weights.tolist()
    ensemble = Ensemble([view(False), ByteModel(other())], given, op)
    logits, state = ensemble.prefill([ensemble.encode(b"the")])
    text = b"the"
    for byte in b" c\xc3":
        laws = np.array([one.law(text, canonical=False) for one in (covers(), other_covers)])
        expected = FORMULAS[op](laws, weights)
        assert distance(logits[0].astype(np.float64), expected / expected.sum()) <= EXACT
        if op == "bayes":
            weights = weights * laws[:, byte] / (weights @ laws[:, byte])
        logits, state = ensemble.extend(state, np.array([byte]))
        text += bytes([byte])


def test_an_ensemble_of_models_with_different_tokens_obeys_a_schema() -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"enum": ["Rome", "Oslo"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
        "required": ["city", "days"],
        "additionalProperties": False,
    }
    lm = genctl.ensemble([genctl.load().bytes(eps=EPS), genctl.load(tiny_model("llama")).bytes(canonical=False)])
    for seed in range(3):
        text = lm.generate("A trip:", genctl.json(schema), max_new_tokens=40, num_particles=4, seed=seed).text
        jsonschema.validate(json.loads(text), schema)
