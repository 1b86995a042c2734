"""Linear layers in float32 on a CPU, laid out and multiplied for passes of few rows.

    model = AutoModelForCausalLM.from_pretrained(folder)
    arrange(model)                                            # what it gives stays the same but for the last digits

A pass of few rows reads every weight and does little with it. oneDNN reads them as they lie; the BLAS that torch takes
for float32 copies them into its own order first, which costs up to two thirds of such a pass. The weights stay the
module's own: whoever changes them changes what the next pass gives.
"""

from __future__ import annotations

from collections import Counter

import torch


class Linear(torch.nn.Linear):
    """A `torch.nn.Linear` whose product is oneDNN's wherever no gradient can be asked for."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - torch's name
        if torch.is_inference_mode_enabled() and _plain(input) and _plain(self.weight) and input.numel():
            product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(input, self.weight, self.bias, "none", [], "")
            return product
        return super().forward(input)


def arrange(model: torch.nn.Module) -> None:
    """Let the linear layers of a model use oneDNN, where torch has it, and what a row is multiplied with lie side by
    side in memory; weights that another module has too, as embeddings do, stay where they are.
    """
    uses = Counter(id(weight) for module in model.modules() for weight in module.parameters(recurse=False))
    for layer in model.modules():
        if type(layer) is torch.nn.Linear and _plain(layer.weight):
            if uses[id(layer.weight)] == 1:
                layer.weight.data = layer.weight.data.t().contiguous().t()
            if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
                layer.__class__ = Linear


def _plain(tensor: torch.Tensor) -> bool:
    """Whether it is float32 in the memory of a CPU, and no subclass that holds its numbers in another way."""
    return type(tensor) in PLAIN and tensor.dtype is torch.float32 and tensor.device.type == "cpu"


PLAIN = (torch.Tensor, torch.nn.Parameter)
