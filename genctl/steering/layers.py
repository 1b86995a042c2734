"""Logits of earlier layers, mixed into those of the last one.

    lm.steered([LayerMix(range(18, 24), weight=0.3)])

Needs a model that gives hidden states (`with_hidden` and `head`: models/transformers.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from genctl.errors import ArgumentError
from genctl.kernels.records import F32
from genctl.models.base import host_logits
from genctl.steering.base import Hook, Slot, Step
from genctl.steering.checks import check_count, check_flag, check_within


@dataclass(frozen=True)
class LayerMix(Hook):
    """Self-logits augmentation (Li et al. 2025, VISTA): (1 - weight) z + weight * mean of head(h_l) over the layers.

    layers: 0 is the first block. norm: apply the model's last norm to the states of earlier layers. The paper's code
    does not, and has logits of another scale there; its weight is 0.3.
    """

    layers: Sequence[int] = ()
    weight: float = 0.3
    norm: bool = True
    slot = Slot.COMBINATION

    def __post_init__(self) -> None:
        check_within("weight", self.weight, 0, 1)
        check_flag("norm", self.norm)
        if isinstance(self.layers, str) or not isinstance(self.layers, Sequence) or not len(self.layers):
            raise ArgumentError(f"layers is {self.layers!r}, it must be a list of numbers of layers")
        for i, layer in enumerate(self.layers):
            check_count(f"layers[{i}]", layer, least=0)
        object.__setattr__(self, "layers", tuple(int(layer) for layer in self.layers))

    def __call__(self, step: Step, scores: F32, /) -> F32:
        if self.weight == 0:
            return scores
        heads = [host_logits(step.head(step.hidden[layer], layer, norm=self.norm)) for layer in self.layers]
        possible = scores > -np.inf
        mixed = (1 - self.weight) * np.where(possible, scores, 0) + self.weight * np.mean(
            heads, axis=0, dtype=np.float64
        )
        return np.where(possible, mixed, -np.inf).astype(np.float32)
