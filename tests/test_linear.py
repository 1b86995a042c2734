"""Linear layers through oneDNN: what torch's own give, for all that a user may do with a model's weights."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genctl.models.linear import Linear, arrange

pytestmark = pytest.mark.skipif(not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="a torch without oneDNN")


def arranged(width: int = 7, out: int = 5, *, bias: bool = True) -> tuple[torch.nn.Linear, torch.nn.Linear]:
    """A layer, and the same as a loaded model has it."""
    torch.manual_seed(3)
    layer = torch.nn.Linear(width, out, bias=bias)
    same = deepcopy(layer)
    arrange(torch.nn.Sequential(same))
    assert isinstance(same, Linear)
    return layer, same


def same_products(first: torch.nn.Linear, second: torch.nn.Linear, given: torch.Tensor) -> None:
    with torch.inference_mode():
        torch.testing.assert_close(second(given), first(given), rtol=1e-4, atol=1e-5)


@given(st.data(), st.booleans(), st.integers(1, 40), st.integers(1, 40))
def test_products_are_those_of_torch(data: st.DataObject, bias: bool, width: int, out: int) -> None:
    layer, same = arranged(width, out, bias=bias)
    shape = data.draw(st.lists(st.integers(0, 5), max_size=3))
    same_products(layer, same, torch.randn(*shape, width))
    same_products(layer, same, torch.randn(3, 2 * width, 4).transpose(1, 2)[..., ::2])  # not side by side in memory
    same_products(layer, same, torch.randn(1, width).expand(6, width))
    for cut in (torch.randn(2 * out, 2 * width)[::2, 1::2], torch.randn(1, width).expand(out, width)):
        layer.weight, same.weight = torch.nn.Parameter(cut), torch.nn.Parameter(cut)
        same_products(layer, same, torch.randn(4, width))


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
    for each in (layer, same):
        torch.nn.utils.parametrize.register_parametrization(each, "weight", torch.nn.Tanh())
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
