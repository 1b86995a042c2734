"""Laws of a LanguageModel (genctl/models/base.py), for every implementation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from genctl.models.base import Prompt
from genctl.models.bytes import ByteModel
from genctl.models.ensemble import OPERATIONS, Ensemble
from genctl.models.followed import HOLE, Followed
from genctl.models.toy import CORPUS, ToyModel, packaged_toy
from genctl.steering.base import Auxiliary, Hook, Step
from genctl.steering.model import BINDINGS, Steered
from genctl.vocabulary import Vocabulary
from tests.answers import scores_of
from tests.tiny_models import CONFIGS, tiny_model
from tests.toy_canonical import longest_match


def canonical_bytes() -> ByteModel:
    model = packaged_toy()
    return ByteModel(model, longest_match(model.vocabulary))


def all_bytes() -> ByteModel:
    """Few pieces, so that even a long text has few spellings."""
    return ByteModel(ToyModel.trained("the cat sat on the mat. ", order=3, pieces=2))


class Filling(Followed):
    """All rows of a test are middles: the hole begins in front of them."""

    def encode(self, prompt: Prompt, /) -> list[int]:
        return self.model.encode(prompt)

    def prefill(self, prompts: Sequence[Sequence[int]], /) -> Any:
        return super().prefill([[HOLE, *row] for row in prompts])


def followed_bytes() -> Followed:
    return Filling(canonical_bytes(), b" on", eps=1e-3)


TEXTS = ("the cat", "t", "the dog sat on the log, and all the cats sat on all the mats", "né 日本 🙂")


class Judging(Ensemble):
    """A Bayes mixture to which prompts are text, so that every row of a test moves the weights."""

    def encode(self, prompt: Prompt, /) -> list[int]:
        return self.members[0].encode(prompt)


def ensemble_of_toys(op: str) -> Ensemble:
    """Two models of bytes that were trained on different texts."""
    models = [ToyModel.trained(text, order, pieces=0) for text, order in ((CORPUS, 4), (TEXTS[2], 2))]
    return (Judging if op == "bayes" else Ensemble)(models, op=op)


def ensemble_of_transformers() -> Ensemble:
    return Ensemble([tiny_model("llama"), tiny_model("mistral")], weights=[1.5, -0.5], op="product")


class Blend(Hook):
    """Reads the context, the model itself once more, and another model."""

    def __init__(self, other: Any) -> None:
        self.laws = (Auxiliary(), Auxiliary(other))

    @property
    def auxiliaries(self) -> tuple[Auxiliary, ...]:
        return self.laws

    def __call__(self, step: Step, scores: Any, /) -> Any:
        seen = np.array([np.bincount(c, minlength=scores.shape[1]) for c in step.contexts]).reshape(scores.shape)
        with np.errstate(invalid="ignore"):
            blend = 2 * scores - 0.3 * step.laws[self.laws[0]] + 0.5 * step.laws[self.laws[1]] - 0.1 * seen
        return np.where(scores > -np.inf, blend, -np.inf).astype(np.float32)


def steered_toy(binding: str = "target") -> Steered:
    model = packaged_toy()
    return Steered(model, [Blend(ToyModel(model.vocabulary, {(): model.law([])}))], binding)


def steered_transformers() -> Steered:
    return Steered(tiny_model("llama"), [Blend(tiny_model("mistral"))])


# A new implementation goes here: its name and a function that builds it.
TOYS: dict[str, Callable[[], Any]] = {"toy": packaged_toy, "canonical bytes": canonical_bytes, "all bytes": all_bytes}
MODELS = dict(TOYS)
MODELS |= {name: partial(tiny_model, name) for name in CONFIGS}
MODELS |= {f"ensemble, {op}": partial(ensemble_of_toys, op) for op in OPERATIONS}
MODELS |= {"ensemble of transformers": ensemble_of_transformers, "followed": followed_bytes}
MODELS |= {f"steered toy, {binding}": partial(steered_toy, binding) for binding in BINDINGS}
MODELS |= {
    "steered transformers": steered_transformers,
    "steered bytes": lambda: Steered(all_bytes(), [lambda z: z / 2]),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> Any:
    return MODELS[request.param]()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def laws_of(logits: Any) -> np.ndarray:
    """(N, V) logits -> log-probabilities, whatever the constant of each row."""
    array = scores_of(logits).astype(np.float64)
    return array - np.logaddexp.reduce(array, axis=1, keepdims=True)


def from_scratch(model: Any, rows: Sequence[Sequence[int]]) -> np.ndarray:
    """(N, V) log-probabilities, each row prefilled alone."""
    return np.concatenate([laws_of(model.prefill([row])[0]) for row in rows])


def assert_same_laws(found: Any, expected: np.ndarray) -> None:
    assert_allclose(laws_of(found), expected, atol=1e-4, rtol=1e-5)


def text_tokens(vocabulary: Vocabulary) -> np.ndarray:
    return np.array([i for i, token in enumerate(vocabulary.tokens) if token])


def ragged(rng: np.random.Generator, vocabulary: Vocabulary, count: int, longest: int = 5) -> list[list[int]]:
    usable = text_tokens(vocabulary)
    return [rng.choice(usable, size=rng.integers(1, longest + 1)).tolist() for _ in range(count)]


def prompts_of(model: Any) -> list[list[int]]:
    return [model.encode(text) for text in TEXTS]


def test_the_tokens_of_a_text_join_to_it(model: Any) -> None:
    for text in TEXTS:
        assert model.vocabulary.join(model.encode(text)) == text.encode()


def test_bytes_of_utf8_encode_as_the_text_does(model: Any) -> None:
    for text in TEXTS:
        assert model.encode(text.encode()) == model.encode(text)


def test_logits_are_one_row_a_prompt_and_one_column_an_id(model: Any) -> None:
    logits, _ = model.prefill(prompts_of(model))
    assert scores_of(logits).shape == (len(TEXTS), len(model.vocabulary))


def test_unused_ids_are_never_drawn_and_others_have_a_finite_or_no_chance(model: Any) -> None:
    logits = scores_of(model.prefill(prompts_of(model))[0])
    assert np.all(logits[:, sorted(model.vocabulary.unused)] == -np.inf)
    assert not np.any(np.isnan(logits))
    assert not np.any(logits == np.inf)


def test_prompts_of_different_lengths_do_not_see_each_other(model: Any) -> None:
    prompts = prompts_of(model)
    assert_same_laws(model.prefill(prompts)[0], from_scratch(model, prompts))


def test_extending_by_one_token_a_row_equals_prefilling_the_whole(model: Any, rng: np.random.Generator) -> None:
    rows = prompts_of(model)
    _, state = model.prefill(rows)
    for _ in range(4):
        tokens = rng.choice(text_tokens(model.vocabulary), size=len(rows))
        logits, state = model.extend(state, tokens)
        rows = [[*row, int(token)] for row, token in zip(rows, tokens, strict=True)]
    assert_same_laws(logits, from_scratch(model, rows))


def test_extending_by_ragged_rows_equals_prefilling_the_whole(model: Any, rng: np.random.Generator) -> None:
    rows = prompts_of(model)
    _, state = model.prefill(rows)
    for _ in range(3):
        more = ragged(rng, model.vocabulary, len(rows))
        logits, state = model.extend(state, more)
        rows = [row + new for row, new in zip(rows, more, strict=True)]
        assert_same_laws(logits, from_scratch(model, rows))


@pytest.mark.parametrize("picked", [[0, 0, 0], [3, 2, 1, 0], [1], [1, 3], [2, 0, 2, 2, 1]])
def test_selected_rows_go_on_as_the_rows_they_came_from(
    model: Any, picked: list[int], rng: np.random.Generator
) -> None:
    prompts = prompts_of(model)
    _, state = model.prefill(prompts)
    state = model.select(state, np.array(picked))
    more = ragged(rng, model.vocabulary, len(picked))
    logits, _ = model.extend(state, more)
    rows = [prompts[i] + new for i, new in zip(picked, more, strict=True)]
    assert_same_laws(logits, from_scratch(model, rows))


def test_a_state_can_be_selected_from_more_than_once(model: Any) -> None:
    prompts = prompts_of(model)
    _, state = model.prefill(prompts)
    last = prompts[0][-1]
    for picked in ([2, 1], [0, 3, 3]):
        logits, _ = model.extend(model.select(state, np.array(picked)), np.full(len(picked), last))
        assert_same_laws(logits, from_scratch(model, [[*prompts[i], last] for i in picked]))


def test_joined_states_go_on_as_the_rows_they_have(model: Any, rng: np.random.Generator) -> None:
    prompts = prompts_of(model)
    _, state = model.prefill(prompts)
    more = ragged(rng, model.vocabulary, 3)
    _, longer = model.extend(model.select(state, np.array([2, 0, 2])), more)
    whole = model.join([model.select(state, np.array([1])), longer, state])
    rows = [prompts[1], *(prompts[i] + new for i, new in zip([2, 0, 2], more, strict=True)), *prompts]
    for _ in range(2):
        tokens = rng.choice(text_tokens(model.vocabulary), size=len(rows))
        logits, whole = model.extend(whole, tokens)
        rows = [[*row, int(token)] for row, token in zip(rows, tokens, strict=True)]
        assert_same_laws(logits, from_scratch(model, rows))


def test_selecting_no_rows_gives_a_state_that_goes_on_with_no_rows(model: Any) -> None:
    _, state = model.prefill(prompts_of(model))
    state = model.select(state, np.array([], np.int64))
    logits, state = model.extend(state, np.array([], np.int64))
    assert scores_of(logits).shape == (0, len(model.vocabulary))


@pytest.mark.parametrize("seed", range(4))
def test_any_order_of_extending_and_selecting_equals_prefilling_from_scratch(model: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = ragged(rng, model.vocabulary, 3)
    logits, state = model.prefill(rows)
    for _ in range(6):
        picked = rng.integers(0, len(rows), size=rng.integers(1, 5))
        more = ragged(rng, model.vocabulary, len(picked), longest=int(rng.integers(1, 7)))
        logits, state = model.extend(model.select(state, picked), more)
        rows = [rows[i] + new for i, new in zip(picked, more, strict=True)]
    assert_same_laws(logits, from_scratch(model, rows))
