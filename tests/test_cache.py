"""The key/value cache of the transformers backend: what is stored, shared, freed and run together."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from genctl.models import cache
from genctl.models.cache import CacheState, empty_state, extended, selected
from genctl.models.transformers import TransformersModel
from tests.laws.test_model import assert_same_laws, from_scratch, laws_of, ragged, text_tokens
from tests.tiny_models import CONFIGS, tiny_causal_lm, tiny_model, tiny_tokenizer

PROMPT = "the dog sat on the log, and all the cats"


@pytest.fixture(scope="module", params=CONFIGS)
def model(request: pytest.FixtureRequest) -> TransformersModel:
    return tiny_model(request.param)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def stored(state: CacheState) -> tuple[int, int]:
    """How many tokens the store has room for, and the bytes of its tensors."""
    pairs = [state.store.read(layer) for layer in range(state.store.layers)]
    return pairs[0][0].shape[1], sum(tensor.nbytes for pair in pairs for tensor in pair)


def wander(model: TransformersModel, rng: np.random.Generator, rows: list[list[int]], moves: int) -> tuple[Any, Any]:
    """Prefill, then select and extend at random -> the last logits, and the rows in full."""
    logits, state = model.prefill(rows)
    for _ in range(moves):
        picked = rng.integers(0, len(rows), size=len(rows))
        more = ragged(rng, model.vocabulary, len(rows), longest=3)
        logits, state = model.extend(model.select(state, picked), more)
        rows = [rows[i] + new for i, new in zip(picked, more, strict=True)]
    return logits, rows


# -- prompts that begin alike


def test_prompts_that_begin_alike_are_read_once_up_to_there(model: TransformersModel, rng: np.random.Generator) -> None:
    begun = model.encode(PROMPT)
    others = [[*begun, *more] for more in ragged(rng, model.vocabulary, 6)]
    prompts = [others[0], model.encode("an old oak"), begun, *others[1:], others[2], others[0][:-1]]
    logits, state = model.prefill(prompts)
    assert_same_laws(logits, from_scratch(model, prompts))
    assert stored(state)[0] < len(begun) + 60
    logits, _ = model.extend(state, np.full(len(prompts), begun[-1]))
    assert_same_laws(logits, from_scratch(model, [[*prompt, begun[-1]] for prompt in prompts]))


# -- memory


def test_a_prompt_is_stored_once_for_all_rows_that_begin_with_it(model: TransformersModel) -> None:
    prompt = model.encode(PROMPT)
    _, state = model.prefill([prompt])
    room, size = stored(state)
    assert room == len(prompt)
    state = model.select(state, np.zeros(200, np.int64))
    assert stored(state) == (room, size)
    _, state = model.extend(state, np.full(200, prompt[-1]))
    assert stored(state) == (room + 200, size // room * (room + 200))


def test_selecting_copies_no_keys_and_no_values(model: TransformersModel, rng: np.random.Generator) -> None:
    _, state = model.prefill(ragged(rng, model.vocabulary, 5))
    _, state = model.extend(state, ragged(rng, model.vocabulary, 5))
    before = [tensor.data_ptr() for layer in range(state.store.layers) for tensor in state.store.read(layer)]
    state = model.select(state, np.array([4, 4, 1, 0, 1, 1]))
    after = [tensor.data_ptr() for layer in range(state.store.layers) for tensor in state.store.read(layer)]
    assert before == after


def test_slots_that_no_state_names_are_used_again() -> None:
    state = empty_state(1)
    state, _ = extended(state, np.array([10]))
    for _ in range(200):
        state, _ = extended(selected(state, np.zeros(8, np.int64)), np.ones(8, np.int64))
    assert state.slots.max() < 10 + 200 + 2 * 8  # what is live, and the rows of the state before


def test_slots_are_not_used_again_while_a_state_names_them() -> None:
    kept, _ = extended(empty_state(3), np.array([4, 2, 7]))
    held = set(kept.slots.ravel())
    assert len(held) == 13
    for _ in range(50):
        other, _ = extended(selected(kept, np.array([1, 1])), np.array([5, 5]))
        assert not held & set(other.slots[:, 2:].ravel())


def test_one_row_is_read_where_it_is_stored() -> None:
    state, _ = extended(empty_state(1), np.array([6]))
    _, (one,) = extended(state, np.array([2]))
    tensor = torch.arange(20.0).reshape(2, 10, 1)
    assert one.gathered(tensor).data_ptr() == tensor.data_ptr()
    assert one.gathered(tensor).tolist() == [tensor[:, :8].tolist()]


# -- values


def test_forks_of_a_state_do_not_see_each_other(model: TransformersModel, rng: np.random.Generator) -> None:
    rows = ragged(rng, model.vocabulary, 3, longest=9)
    _, state = model.prefill(rows)
    forks = [ragged(rng, model.vocabulary, 3) for _ in range(3)]
    grown = [model.extend(state, more)[1] for more in forks]
    last = rng.choice(text_tokens(model.vocabulary), size=3)
    for more, fork in zip(forks, grown, strict=True):
        whole = [[*row, *new, int(token)] for row, new, token in zip(rows, more, last, strict=True)]
        assert_same_laws(model.extend(fork, last)[0], from_scratch(model, whole))


def test_a_state_that_is_kept_outlives_all_that_came_after(model: TransformersModel, rng: np.random.Generator) -> None:
    rows = ragged(rng, model.vocabulary, 4, longest=9)
    _, kept = model.prefill(rows)
    state = kept
    for _ in range(20):
        tokens = rng.choice(text_tokens(model.vocabulary), size=4)
        _, state = model.extend(model.select(state, rng.integers(0, 4, size=4)), tokens)
    more = ragged(rng, model.vocabulary, 4)
    assert_same_laws(
        model.extend(kept, more)[0], from_scratch(model, [row + new for row, new in zip(rows, more, strict=True)])
    )


def test_forks_may_be_extended_by_several_threads(model: TransformersModel) -> None:
    prompt = model.encode(PROMPT)
    _, state = model.prefill([prompt])

    def go_on(token: int) -> Any:
        fork, tokens = state, [token] * 12
        for one in tokens:
            logits, fork = model.extend(fork, np.array([one]))
        return logits

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(go_on, range(10, 18)))
    for token, logits in zip(range(10, 18), results, strict=True):
        assert_same_laws(logits, from_scratch(model, [prompt + [token] * 12]))


def test_256_ragged_rows_are_as_each_would_be_alone(model: TransformersModel, rng: np.random.Generator) -> None:
    rows = ragged(rng, model.vocabulary, 256, longest=20)
    logits, rows = wander(model, rng, rows, moves=1)
    some = rng.choice(256, size=8, replace=False)
    assert_same_laws(logits[some], from_scratch(model, [rows[i] for i in some]))


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("name", CONFIGS)
def test_every_implementation_of_attention_gives_the_same(
    name: str, implementation: str, rng: np.random.Generator
) -> None:
    inner = tiny_causal_lm(name, attn_implementation=implementation)
    assert inner.config._attn_implementation == implementation
    model = TransformersModel(inner, tiny_tokenizer())
    logits, rows = wander(model, rng, ragged(rng, model.vocabulary, 6, longest=12), moves=4)
    assert_same_laws(logits, from_scratch(model, rows))


@pytest.mark.parametrize("name", CONFIGS)
def test_half_precision_gives_the_same_up_to_its_rounding(name: str, rng: np.random.Generator) -> None:
    model = TransformersModel(tiny_causal_lm(name, initializer_range=0.1).to(torch.bfloat16), tiny_tokenizer())
    logits, rows = wander(model, rng, ragged(rng, model.vocabulary, 6, longest=12), moves=4)
    assert logits.dtype == torch.bfloat16
    assert_allclose(laws_of(logits), from_scratch(model, rows), atol=0.1)


# -- passes


@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 600)), max_size=80))
def test_every_row_is_in_one_pass_and_passes_are_bounded(rows: list[tuple[int, int]]) -> None:
    lengths = np.array([length for length, _ in rows], np.int64)
    counts = np.array([count for _, count in rows], np.int64)
    state, _ = extended(empty_state(len(rows)), lengths + 1)
    _, passes = extended(state, counts)
    assert sorted(row for one in passes for row in one.rows) == list(range(len(rows)))
    for one in passes:
        n, width = one.positions.shape
        assert (one.counts == counts[one.rows]).all()
        if n > 1:
            assert n * width <= cache.TOKENS
            assert one.slots.size <= cache.GATHERED
            assert one.slots.size * width <= cache.SCORES
            assert n * len(np.unique(one.counts)) <= cache.LOGITS
