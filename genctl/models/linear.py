"""Linear layers on a CPU, laid out and multiplied for passes of few rows, which do little with each weight they read.

    arrange(model)      # float32: the weights lie as oneDNN reads them, and stay the module's own
    pack(model)         # float32 or bfloat16: the weights are in oneDNN's own order, and fixed

What a model gives stays the same but for the last digits. The BLAS that torch takes for float32 copies weights into an
order of its own at every pass, which can take two thirds of it. Where there is one thread, few rows are multiplied by
loops of our own (`genctl.kernels.products`), which fetch weights while they multiply.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from numba import config
from numba.core.codegen import get_host_cpu_features
from torch.nn import functional

from genctl.errors import ArgumentError, ModelError
from genctl.kernels.products import multiply_columns, multiply_columns_once, multiply_rows

ONEDNN = hasattr(torch.ops.mkldnn, "_linear_pointwise")  # may be left out where torch is built
PLAIN = (torch.Tensor, torch.nn.Parameter)  # and not a subclass that holds its numbers in another way
FIXED = "the weights are packed: they cannot be read, changed, moved or saved\nhint: load the model without packed=True"
# Rows that our own loops multiply in less time than oneDNN with one thread, measured with SmolLM2 and registers of 512
# bits; narrower ones do not hold what is multiplied at a time.
FEW = 24 if "+avx512f" in get_host_cpu_features() else 2


class Linear(torch.nn.Linear):
    """A `torch.nn.Linear` whose product is ours or oneDNN's wherever no gradient can be asked for."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - callers may pass it by torch's name
        own = self._parameters  # a tenth of the time of self.weight; without what is parametrized
        weight, bias = own.get("weight"), own.get("bias")
        if (
            torch.is_inference_mode_enabled()
            and not _followed()
            and _plain(input)
            and weight is not None
            and _plain(weight)
            and (_plain(bias) if bias is not None else "bias" in own)
            and input.shape[-1:] == weight.shape[1:]
            and _dense(weight)  # others take oneDNN a hundred times as long
            and (count := input.numel())
        ):
            ours = count <= FEW * input.shape[-1] and torch.get_num_threads() == 1 and not config.DISABLE_JIT
            return (_few_rows if ours else _product)(input, weight, bias)
        return super().forward(input)


class Fixed(torch.nn.Module):
    """A layer whose weights can be used, and nothing else: who wants more is told so."""

    def __getattr__(self, name: str) -> Any:
        if name == "weight":
            raise AttributeError(FIXED)
        return super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "weight":
            raise ModelError(FIXED)
        super().__setattr__(name, value)

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise ModelError(FIXED)

    register_parameter = _apply = _save_to_state_dict = _load_from_state_dict = _refuse


class PackedLinear(Fixed, torch.nn.Linear):
    """A linear layer whose weights are in oneDNN's order."""

    packed: torch.Tensor

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - callers may pass it by torch's name
        if torch.is_grad_enabled() and input.requires_grad:
            raise ModelError("packed weights give no gradients\nhint: load the model without packed=True")
        if not input.numel():
            return input.new_empty(*input.shape[:-1], self.out_features)
        return _product(input, self.packed, self.bias)


class FixedEmbedding(Fixed, torch.nn.Embedding):
    """Embeddings that a packed layer has a copy of, which a change of them would not reach."""

    table: torch.Tensor

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - callers may pass it by torch's name
        return functional.embedding(input, self.table, self.padding_idx, self.max_norm)


def arrange(model: torch.nn.Module) -> None:
    """Let the linear layers of a model use oneDNN, where torch has it, and what a row is multiplied with lie side by
    side in memory; weights that another module has too, as embeddings do, stay where they are.
    """
    uses = Counter(id(weight) for module in model.modules() for weight in module.parameters(recurse=False))
    for layer in model.modules():
        if type(layer) is torch.nn.Linear and _plain(layer.weight):
            if uses[id(layer.weight)] == 1:
                layer.weight.data = layer.weight.data.t().contiguous().t()
            if ONEDNN:
                layer.__class__ = Linear


def pack(model: torch.nn.Module) -> None:
    """Put the weights of the linear layers into oneDNN's own order. Embeddings that such a layer has too are fixed with
    it; what yet another kind of module has too stays as `arrange` leaves it.

    Raises ArgumentError where oneDNN has no such order: other dtypes and devices, a torch or a processor without it.
    """
    kinds: dict[int, set[type]] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            kinds.setdefault(id(parameter), set()).add(type(module))
    packable = {key for key, types in kinds.items() if types <= {torch.nn.Linear, torch.nn.Embedding}}
    layers = [layer for layer in model.modules() if type(layer) is torch.nn.Linear and id(layer.weight) in packable]
    if not layers:
        raise ArgumentError("packed=True: the model has no linear layers of its own")
    for layer in layers:
        _check_packable(layer.weight)
    ours = {id(layer.weight) for layer in layers}
    for module in model.modules():
        if type(module) is torch.nn.Embedding and id(module.weight) in ours:
            _replace(module, FixedEmbedding, "table", module.weight.detach())
    for layer in layers:
        _replace(layer, PackedLinear, "packed", torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach()))
    arrange(model)


def _replace(module: torch.nn.Module, kind: type[Fixed], name: str, value: torch.Tensor) -> None:
    """Make it a module of that kind, which has a tensor of that name in place of its weight."""
    del module.weight
    setattr(module, name, value)
    module.__class__ = kind


def _check_packable(weight: torch.Tensor) -> None:
    if not ONEDNN:
        raise ArgumentError("packed=True: this torch has no oneDNN")
    kinds = [torch.float32, *([torch.bfloat16] if torch.ops.mkldnn._is_mkldnn_bf16_supported() else [])]
    if type(weight) not in PLAIN or weight.dtype not in kinds or weight.device.type != "cpu":
        names = " or ".join(str(kind).removeprefix("torch.") for kind in kinds)
        raise ArgumentError(
            f"packed=True is for {names} weights on this CPU, these are {weight.dtype} on {weight.device}\n"
            "hint: give dtype=, or leave out packed=True"
        )


def _few_rows(given: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """For a weight whose rows, or whose columns, lie side by side.

    NumPy shapes arrays in half of the time, but torch begins them where a line of the cache begins.
    """
    rows, matrix = given.contiguous().numpy(), weight.detach().numpy()
    size, width = matrix.shape
    product = torch.empty(*rows.shape[:-1], size, dtype=torch.float32)
    rows = rows.reshape(-1, width)
    out = product.numpy().reshape(len(rows), size)
    if matrix.flags.c_contiguous:
        multiply_rows(rows, matrix, out)
    elif len(rows) == 1:
        multiply_columns_once(rows[0], matrix.T, out[0])
    else:
        multiply_columns(rows, matrix.T, out)
    return product if bias is None else product.add_(bias)


def _product(given: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise.default(given.contiguous(), weight, bias, "none", [], "")
    return product


def _dense(matrix: torch.Tensor) -> bool:
    """Whether its rows, or its columns, lie end to end in memory."""
    height, width = matrix.shape
    return matrix.stride() in ((width, 1), (1, height))


def _followed() -> bool:
    """Whether torch follows what becomes of tensors, to trace or to transform it."""
    return torch._C._get_tracing_state() is not None or torch._C._functorch.peek_interpreter_stack() is not None


def _plain(tensor: torch.Tensor) -> bool:
    """Whether it is float32 in the memory of a CPU."""
    return type(tensor) in PLAIN and tensor.dtype is torch.float32 and tensor.is_cpu
