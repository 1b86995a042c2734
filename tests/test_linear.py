"""Linear layers through oneDNN: what torch's own give, for all that a user may do with a model's weights."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genctl.errors import ArgumentError, ModelError
from genctl.kernels import products
from genctl.models import linear
from genctl.models.linear import Linear, PackedLinear, arrange, pack
from genctl.models.transformers import load_transformers
from tests.tiny_models import tiny_causal_lm, tiny_tokenizer

# Elsewhere layers stay torch's own, and packing is refused: both are tested everywhere.
needs_onednn = pytest.mark.skipif(not linear.ONEDNN, reason="this torch was built without oneDNN")


def arranged(width: int = 7, out: int = 5, *, bias: bool = True) -> tuple[torch.nn.Linear, torch.nn.Linear]:
    """A layer, and the same as a loaded model has it."""
    torch.manual_seed(3)
    layer = torch.nn.Linear(width, out, bias=bias)
    same = deepcopy(layer)
    arrange(torch.nn.Sequential(same))
    assert isinstance(same, Linear) == linear.ONEDNN
    return layer, same


def numbers_of_threads() -> Iterator[int]:
    """One, for which there are loops of our own, and several."""
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            yield threads
    finally:
        torch.set_num_threads(before)


def same_products(first: torch.nn.Linear, second: torch.nn.Linear, given: torch.Tensor) -> None:
    for _ in numbers_of_threads():
        with torch.inference_mode():
            torch.testing.assert_close(second(given), first(given), rtol=1e-4, atol=1e-5, equal_nan=True)


@given(st.data(), st.booleans(), st.integers(1, 40), st.integers(1, 40))
def test_products_are_those_of_torch(data: st.DataObject, bias: bool, width: int, out: int) -> None:
    layer, same = arranged(width, out, bias=bias)
    shape = data.draw(st.lists(st.integers(0, 5), max_size=3))
    same_products(layer, same, torch.randn(*shape, width))
    same_products(layer, same, torch.randn(3, 2 * width, 4).transpose(1, 2)[..., ::2])  # not side by side in memory
    same_products(layer, same, torch.randn(1, width).expand(6, width))
    with torch.inference_mode():
        torch.testing.assert_close(same(input=torch.ones(2, width)), layer(input=torch.ones(2, width)))
    for rows in (*range(1, 12), linear.FEW, linear.FEW + 1):
        same_products(layer, same, torch.randn(rows, width))
    same.weight = layer.weight  # its rows side by side, as where embeddings have it too
    for rows in (*range(1, 12), linear.FEW, linear.FEW + 1):
        same_products(layer, same, torch.randn(rows, width))
    for cut in (torch.randn(2 * out, 2 * width)[::2, 1::2], torch.randn(1, width).expand(out, width)):
        layer.weight, same.weight = torch.nn.Parameter(cut), torch.nn.Parameter(cut)
        same_products(layer, same, torch.randn(4, width))


@given(st.integers(1, 26), st.integers(1, 40), st.integers(1, 40) | st.sampled_from([639, 640, 656, 1300]))
def test_our_loops_give_what_numpy_gives(rows: int, width: int, size: int) -> None:
    rng = np.random.default_rng(size)
    rows_given = rng.normal(size=(rows, width)).astype(np.float32)
    matrix = rng.normal(size=(size, width)).astype(np.float32)
    exact, columns = rows_given @ matrix.T, np.ascontiguousarray(matrix.T)
    found = np.full((rows, size), np.nan, np.float32)
    products.multiply_rows(rows_given, matrix, found)
    np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-4)
    found[:] = np.nan
    products.multiply_columns(rows_given, columns, found)
    np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-4)
    found[0] = np.nan
    products.multiply_columns_once(rows_given[0], columns, found[0])
    np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("out", [640, 641, 1300])
def test_products_are_those_of_torch_where_columns_are_multiplied_in_parts(out: int) -> None:
    layer, same = arranged(19, out)
    for rows in (1, 2, 5, 16, 24):
        same_products(layer, same, torch.randn(rows, 19))


def test_numbers_that_are_none_go_on_as_in_torch() -> None:
    for weights in (arranged()[1].weight.data, arranged()[0].weight.data):
        layer, same = arranged()
        layer.weight.data, same.weight.data = weights, weights
        for at, value in enumerate([np.nan, np.inf, -np.inf, 1e38, 0.0]):
            given = torch.randn(1, 7)
            given[0, at] = value
            same_products(layer, same, given)
            same_products(layer, same, given.expand(5, 7))


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_a_layer_may_give_nothing() -> None:
    same_products(*arranged(7, 0), torch.randn(2, 3, 7))


def test_a_row_of_another_width_is_refused_as_by_torch() -> None:
    _, same = arranged()
    for width in (1, 6, 8):
        with torch.inference_mode(), pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            same(torch.randn(1, width))


def test_a_bias_of_another_dtype_is_refused_as_by_torch() -> None:
    _, same = arranged()
    same.bias = torch.nn.Parameter(same.bias.data.double())
    for _ in numbers_of_threads():
        with torch.inference_mode(), pytest.raises(RuntimeError, match="same dtype"):
            same(torch.randn(1, 7))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch names torch.export as what comes after tracing
def test_what_torch_traces_or_transforms_is_as_in_torch() -> None:
    layer, same = arranged()
    given = torch.randn(3, 1, 7)
    for _ in numbers_of_threads():
        with torch.inference_mode():
            expected = layer(given)
            torch.testing.assert_close(torch.func.vmap(same)(given), expected)
            torch.testing.assert_close(torch.jit.trace(same, given[0])(given[1]), expected[1])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_model_may_be_given_another_dtype(dtype: torch.dtype) -> None:
    layer, same = arranged()
    with torch.inference_mode():
        given = torch.randn(3, 7, dtype=dtype)
        torch.testing.assert_close(same.to(dtype)(given), layer.to(dtype)(given))
    with torch.inference_mode(), pytest.raises(RuntimeError, match="same dtype"):
        same(torch.randn(3, 7))


def test_weights_can_be_changed_in_every_way() -> None:
    layer, same = arranged()
    given = torch.randn(3, 7)
    with torch.no_grad():
        for each in (layer, same):
            each.weight[2] *= -3
    same_products(layer, same, given)
    for each in (layer, same):
        each.weight.data.mul_(0.5)
    same_products(layer, same, given)
    layer.weight = same.weight = torch.nn.Parameter(torch.randn(5, 7))
    same_products(layer, same, given)
    for name in ("bias", "weight"):
        for each in (layer, same):
            torch.nn.utils.parametrize.register_parametrization(each, name, torch.nn.Tanh())
        same_products(layer, same, given)


def test_gradients_are_those_of_torch() -> None:
    layer, same = arranged()
    given = torch.randn(3, 7, requires_grad=True)
    (expected,) = torch.autograd.grad(layer(given).square().sum(), [layer.weight])
    (found,) = torch.autograd.grad(same(given).square().sum(), [same.weight])
    torch.testing.assert_close(found, expected)


def test_weights_that_another_module_has_too_stay_where_they_are() -> None:
    embedding, head = torch.nn.Embedding(5, 7), torch.nn.Linear(7, 5, bias=False)
    head.weight = embedding.weight
    arrange(torch.nn.ModuleList([embedding, head]))
    assert head.weight is embedding.weight
    assert embedding.weight.stride() == (7, 1)


# -- packed


def packed(layer: torch.nn.Linear) -> PackedLinear:
    same = deepcopy(layer)
    pack(torch.nn.Sequential(same))
    assert isinstance(same, PackedLinear)
    return same


@needs_onednn
@given(st.lists(st.integers(0, 5), max_size=3), st.booleans(), st.integers(1, 40), st.integers(1, 40))
def test_packed_products_are_those_of_torch(shape: list[int], bias: bool, width: int, out: int) -> None:
    torch.manual_seed(3)
    layer = torch.nn.Linear(width, out, bias=bias)
    same_products(layer, packed(layer), torch.randn(*shape, width))
    same_products(layer, packed(layer), torch.randn(3, 2 * width, 4).transpose(1, 2)[..., ::2])
    with torch.no_grad():
        given = torch.randn(4, width)
        torch.testing.assert_close(packed(layer)(given), layer(given), rtol=1e-4, atol=1e-5)


@needs_onednn
def test_the_bias_beside_packed_weights_can_be_changed() -> None:
    layer = torch.nn.Linear(7, 5)
    same, given = packed(layer), torch.randn(2, 7)
    for each in (layer, same):
        torch.nn.utils.parametrize.register_parametrization(each, "bias", torch.nn.Tanh())
    same_products(layer, same, given)


@needs_onednn
def test_packed_weights_are_refused_to_who_would_read_change_move_or_save_them() -> None:
    layer = packed(torch.nn.Linear(7, 5))
    given = torch.randn(2, 7)
    before = layer(given)
    with pytest.raises(AttributeError, match="packed=True"):
        layer.weight.data.mul_(2)
    refused = [
        lambda: setattr(layer, "weight", torch.nn.Parameter(torch.ones(5, 7))),
        lambda: setattr(layer, "weight", torch.ones(5, 7)),
        lambda: layer.register_parameter("weight", torch.nn.Parameter(torch.ones(5, 7))),
        layer.half,
        layer.state_dict,
        lambda: torch.nn.Sequential(layer).state_dict(),
        lambda: layer.load_state_dict(torch.nn.Linear(7, 5).state_dict()),
        lambda: layer(given.clone().requires_grad_()),
    ]
    for attempt in refused:
        with pytest.raises(ModelError, match="load the model without packed=True"):
            attempt()
    torch.testing.assert_close(layer(given), before, rtol=0, atol=0)


@needs_onednn
@pytest.mark.parametrize("tied", [True, False])
def test_a_packed_model_gives_what_the_model_gives(tied: bool, tmp_path: Path) -> None:
    tiny_causal_lm("llama", tie_word_embeddings=tied).save_pretrained(tmp_path)
    plain, fast = (load_transformers(tmp_path, tokenizer=tiny_tokenizer(), packed=packed) for packed in (False, True))
    prompts = [plain.encode("the cat sat"), plain.encode("a")]
    for (first, state), (second, fast_state) in [(plain.prefill(prompts), fast.prefill(prompts))]:
        torch.testing.assert_close(second, first, rtol=1e-4, atol=1e-5)
        rows = np.array([10, 11])
        torch.testing.assert_close(fast.extend(fast_state, rows)[0], plain.extend(state, rows)[0], rtol=1e-4, atol=1e-5)
    if tied:  # a change would not reach the other use
        with pytest.raises(AttributeError, match="packed=True"):
            fast.model.get_input_embeddings().weight.data.mul_(2)
    with pytest.raises(ModelError, match="packed"):
        fast.model.save_pretrained(tmp_path / "again")


@needs_onednn
def test_weights_that_cannot_be_packed_are_refused() -> None:
    for dtype in (torch.float64, torch.float16):
        with pytest.raises(ArgumentError, match=f"these are {dtype} on cpu"):
            pack(torch.nn.Linear(3, 2).to(dtype))
    with pytest.raises(ArgumentError, match="no linear layers"):
        pack(torch.nn.Embedding(3, 2))


@needs_onednn
def test_weights_that_a_module_of_another_kind_has_too_are_not_packed() -> None:
    class Scaled(torch.nn.Embedding):
        """As some models have them."""

    body, head, embedding = torch.nn.Linear(7, 7), torch.nn.Linear(7, 5, bias=False), Scaled(5, 7)
    head.weight = embedding.weight
    pack(torch.nn.ModuleList([embedding, body, head]))
    assert isinstance(body, PackedLinear)
    assert isinstance(head, Linear)
    assert head.weight is embedding.weight


def test_without_onednn_layers_stay_as_they_are_and_packing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "ONEDNN", False)
    layer, same = arranged()
    assert type(same) is torch.nn.Linear
    same_products(layer, same, torch.randn(3, 7))
    with pytest.raises(ArgumentError, match="this torch has no oneDNN"):
        pack(layer)


def test_packing_what_is_there_already_is_refused() -> None:
    with pytest.raises(ArgumentError, match="packed would have no effect"):
        load_transformers(tiny_causal_lm("llama"), tokenizer=tiny_tokenizer(), packed=True)
