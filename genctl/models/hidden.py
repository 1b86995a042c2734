"""A model of transformers that gives the hidden states of some layers with its logits.

hidden = model.with_hidden([18, 19])
answer, state = hidden.prefill([ids])
answer.states[18]                                  # (1, d), behind the last token
hidden.head(answer.states[18], 18, norm=True)      # (1, V), what the model would say there
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from genctl.errors import ArgumentError, ModelError
from genctl.models.base import Hidden, Tokens
from genctl.models.cache import CacheState

if TYPE_CHECKING:
    from genctl.models.transformers import TransformersModel

# What some models do to the logits of their head, by the name in their config; and the last norm's names.
AFTER_HEAD = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier")
LAST_NORMS = ("norm", "ln_f", "final_layernorm", "final_layer_norm")


class HiddenModel:
    """A model and the hidden states of some layers: they travel as more columns of its logits."""

    def __init__(self, model: TransformersModel, layers: Sequence[int]) -> None:
        config = model.model.config.get_text_config(decoder=True)
        count = int(config.num_hidden_layers)
        more = [name for name in AFTER_HEAD if getattr(config, name, None) not in (None, 1, 1.0)]
        if more:
            raise ModelError(f"this model's logits are its head's with {more[0]}, which hidden states do not have")
        for layer in layers:
            if isinstance(layer, bool) or not isinstance(layer, int | np.integer) or not 0 <= layer < count:
                raise ArgumentError(f"layer {layer!r} is none of the model's {count}, 0 to {count - 1}")
        self._layers, self._size = tuple(dict.fromkeys(int(layer) for layer in layers)), int(config.hidden_size)
        self._model, self._last = model.seeing(self._layers, self._size), count - 1
        self.tokenizer, self.vocabulary = model.tokenizer, model.vocabulary
        self.encode, self.select, self.join = model.encode, model.select, model.join

    def prefill(self, prompts: Sequence[Sequence[int]]) -> tuple[Hidden, CacheState]:
        wide, state = self._model.prefill(prompts)
        return self._split(wide), state

    def extend(self, state: CacheState, tokens: Tokens) -> tuple[Hidden, CacheState]:
        wide, longer = self._model.extend(state, tokens)
        return self._split(wide), longer

    def head(self, states: torch.Tensor, layer: int, *, norm: bool) -> torch.Tensor:
        """(N, d) states of a layer -> (N, V) logits. norm: apply the last norm first, where that was not done already.

        Raises ModelError where no norm is found.
        """
        if norm and layer < self._last:
            with torch.inference_mode():
                states = _last_norm(self._model.model)(states)
        return self._model.head(states)

    def _split(self, wide: torch.Tensor) -> Hidden:
        width = len(self.vocabulary)
        places = [width + i * self._size for i in range(len(self._layers))]
        states = [wide[:, place : place + self._size] for place in places]
        return Hidden(wide[:, :width], dict(zip(self._layers, states, strict=True)))


def _last_norm(model: Any) -> Any:
    """The norm between the last block and the head."""
    for module in (model, model.base_model):
        for name in LAST_NORMS:
            norm = getattr(getattr(module, "decoder", module), name, None)
            if norm is not None:
                return norm
    raise ModelError(f"{type(model).__name__} has no norm before its head under a known name: {', '.join(LAST_NORMS)}")
