"""Edits of a model: for as long as a block runs, the model is another one.

    with lm.edit(AddVector(layer=12, vector=v, scale=4.0, keep_norm=True), FirstTokenScale(1.3, heads=[0, 5])):
        lm.generate(...)

Every edit here is causal: what a token's state becomes does not depend on tokens behind it. So extending equals
prefilling the whole, and rules, hooks and particles see nothing but another model's logits. A state of the key/value
cache knows under which edits it was made, and is refused under others. When the block is left, in whatever way, the
model computes what it did before, bit by bit: hooks act only while the edits are registered (EDITED of
models/transformers.py), and neither weights nor config are touched.
"""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch

from genctl.errors import ArgumentError, ModelError
from genctl.models.cache import Pass
from genctl.models.transformers import EDITED, TIMES_EDITED, TransformersModel, layer_windows
from genctl.steering.checks import check_count, check_finite, check_flag

MASKS = "genctl_layers"  # the attribute of a mask that has those of all layers
ADDITIVE = frozenset({"eager", "sdpa"})  # implementations of attention that add a mask of floats to the logits


@dataclass(frozen=True, eq=False)
class AddVector:
    """A steering vector: h + scale * vector behind a decoder layer, at every token (Turner et al. 2023).

    layer: from 0. vector: (d,) floats. keep_norm: give the sum the length that h had.
    """

    layer: int
    vector: Any
    scale: float = 1.0
    keep_norm: bool = False

    def __post_init__(self) -> None:
        check_count("layer", self.layer, least=0)
        check_finite("scale", self.scale)
        check_flag("keep_norm", self.keep_norm)
        vector = _vector(self.vector)
        if vector.ndim != 1 or not torch.isfinite(self.scale * vector).all():
            raise ArgumentError(f"scale * vector has shape {tuple(vector.shape)}, expected (d,) finite numbers")
        object.__setattr__(self, "vector", vector)
        object.__setattr__(self, "scale", float(self.scale))

    def __repr__(self) -> str:
        digest = hashlib.blake2b(self.vector.numpy().tobytes(), digest_size=8).hexdigest()
        return f"AddVector(layer={self.layer}, vector={digest}, scale={self.scale}, keep_norm={self.keep_norm})"

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """(..., d) -> (..., d)."""
        moved: torch.Tensor = hidden + (self.scale * self.vector).to(hidden)
        if not self.keep_norm:
            return moved
        before, after = (
            torch.linalg.vector_norm(h, dim=-1, keepdim=True, dtype=torch.float32) for h in (hidden, moved)
        )
        moved = moved * (before / after.clamp_min(torch.finfo(torch.float32).tiny))
        return moved.to(hidden.dtype)


def _vector(given: Any) -> torch.Tensor:
    """Real numbers as float32."""
    try:
        array = given.detach().cpu() if isinstance(given, torch.Tensor) else torch.from_numpy(np.array(given))
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"vector is {given!r}, expected numbers") from error
    if array.dtype.is_complex or array.dtype == torch.bool:
        raise ArgumentError(f"vector is of {array.dtype}, expected real numbers")
    return array.to(torch.float32, copy=True)


@dataclass(frozen=True)
class FirstTokenScale:
    """The attention that tokens pay to the first one, times gamma, and renormalised (ZeroTuning, Han et al. 2025).

    That is log gamma added to the first column of the attention logits: above 1 what a token sees besides weighs less,
    below 1 more. layers, heads: from 0, None for all; heads are those of the queries.
    """

    gamma: float
    layers: Sequence[int] | None = None
    heads: Sequence[int] | None = None

    def __post_init__(self) -> None:
        check_finite("gamma", self.gamma)
        if self.gamma <= 0:
            raise ArgumentError(f"gamma is {self.gamma}, it must be above 0: attention to the first token times gamma")
        object.__setattr__(self, "gamma", float(self.gamma))
        for name in ("layers", "heads"):
            given = getattr(self, name)
            if given is None:
                continue
            if not isinstance(given, Sequence) or not given:
                raise ArgumentError(f"{name} is {given!r}, expected a list of at least one, or None for all")
            for i in given:
                check_count(name, i, least=0)
            object.__setattr__(self, name, tuple(sorted(set(given))))


Edit: TypeAlias = AddVector | FirstTokenScale


@contextmanager
def edited(model: TransformersModel, edits: Sequence[Edit]) -> Iterator[None]:
    """The model with these edits, in order.

    Raises ArgumentError for what is no edit or does not fit the model, ModelError for a model that is edited already
    or that cannot be edited exactly.
    """
    config = model.model.config.get_text_config(decoder=True)
    _check_editable(model, config)
    for edit in edits:
        _check_edit(edit, model, config)
    if not edits:
        raise ArgumentError("edit() needs at least one edit")
    first = model.layers[0]
    if first in EDITED:
        raise ModelError(
            f"the model is edited already, by {EDITED[first].fingerprint}\nhint: give all edits to one `lm.edit(...)`"
        )
    applied = _Applied(edits, config)
    with ExitStack() as stack:
        for index, layer in enumerate(model.layers):
            applied.attach(stack, first, layer, index)
        stack.callback(EDITED.pop, first, None)  # comes first when the block is left: hooks do nothing from then on
        TIMES_EDITED[first] = TIMES_EDITED.get(first, 0) + 1
        EDITED[first] = applied
        yield


class _Applied:
    """Edits of one model while they hold."""

    def __init__(self, edits: Sequence[Edit], config: Any) -> None:
        self.fingerprint = ", ".join(map(repr, edits))
        self._vectors = [edit for edit in edits if isinstance(edit, AddVector) and edit.scale != 0]
        self._scales = [edit for edit in edits if isinstance(edit, FirstTokenScale) and edit.gamma != 1]
        self._windows = layer_windows(config)
        self._kinds = getattr(config, "layer_types", None) or ["all"] * len(self._windows)
        self._heads = config.num_attention_heads

    def attach(self, stack: ExitStack, first: torch.nn.Module, layer: torch.nn.Module, index: int) -> None:
        """Hooks on a layer, removed with the stack; they act as long as these edits are those of the first layer."""
        vectors = [edit for edit in self._vectors if edit.layer == index]
        parameters = inspect.signature(layer.forward)

        def add(_module: Any, _arguments: Any, output: Any) -> Any:
            return _added(vectors, output) if EDITED.get(first) is self else None

        def mask(_module: Any, arguments: Any, named: Any) -> Any:
            if EDITED.get(first) is not self:
                return None
            bound = parameters.bind(*arguments, **named)
            bound.arguments["attention_mask"] = _own_mask(bound.arguments.get("attention_mask"), index)
            return bound.args, bound.kwargs

        if vectors:
            # Before the hooks by which transformers keeps hidden states: these are to be the edited ones.
            stack.callback(layer.register_forward_hook(add, prepend=True).remove)
        if self._scales:
            stack.callback(layer.register_forward_pre_hook(mask, with_kwargs=True).remove)

    def masks(self, one: Pass, dtype: torch.dtype, device: torch.device) -> Any:
        """Masks of floats: one, or one for each kind of layer where there are several. They hold those of each layer.

        Models hand them to their layers as they are, where hooks take out the mask of their own layer. (A hook alone
        would not do: without padding a model may make no mask at all, and leave it to its kernel to be causal.)
        """
        if not self._scales:
            return None
        made: dict[tuple[int | None, tuple[int, ...]], torch.Tensor] = {}
        layers = []
        for index, window in enumerate(self._windows):
            scales = [i for i, edit in enumerate(self._scales) if edit.layers is None or index in edit.layers]
            key = window, tuple(scales)
            if key not in made:
                mask = _mask(one, window, self._column([self._scales[i] for i in scales]), torch.finfo(dtype).min)
                made[key] = mask.to(device, dtype)
            layers.append(made[key])
        given = {kind: _given(mask, layers) for kind, mask in zip(self._kinds, layers, strict=True)}
        return given if len(given) > 1 else next(iter(given.values()))

    def _column(self, scales: Sequence[FirstTokenScale]) -> torch.Tensor:
        """(1,) or (heads,) what is added to attention logits of the first token."""
        column = torch.zeros(self._heads if any(edit.heads is not None for edit in scales) else 1)
        for edit in scales:
            column[slice(None) if edit.heads is None else list(edit.heads)] += math.log(edit.gamma)
        return column


def _given(mask: torch.Tensor, layers: Sequence[torch.Tensor]) -> torch.Tensor:
    """The mask, with those of all layers written on it."""
    given = mask[:]  # a tensor of its own, as the list holds the mask itself
    setattr(given, MASKS, layers)
    return given


def _own_mask(given: Any, index: int) -> torch.Tensor:
    layers: Sequence[torch.Tensor] | None = getattr(given, MASKS, None)
    if layers is None:
        raise ModelError(
            "FirstTokenScale needs the mask that genctl gave to reach every layer, which got another one\n"
            "hint: inside the block use `lm.generate`; `model.generate` of transformers makes masks of its own"
        )
    return layers[index]


def _added(vectors: Sequence[AddVector], output: Any) -> Any:
    """output: (n, k, d), or a tuple that begins with it."""
    hidden = output[0] if isinstance(output, tuple) else output
    for edit in vectors:
        if hidden.ndim != 3 or hidden.shape[2] != len(edit.vector):
            raise ModelError(f"layer {edit.layer} gives {tuple(hidden.shape)}, not (rows, tokens, {len(edit.vector)})")
        hidden = edit(hidden)
    return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


def _mask(one: Pass, window: int | None, column: torch.Tensor, least: float) -> torch.Tensor:
    """(n, 1 or heads, k, p + k) added to attention logits: the column to the first token's, least to hidden ones."""
    real = torch.from_numpy(one.mask).bool()
    places = torch.arange(real.shape[1])
    queries = places[one.past :, None]
    seen = real[:, None] & (places <= queries)
    if window is not None:
        seen &= places > queries - window
    first = places == real.int().argmax(dim=1, keepdim=True)
    added = first[:, None, None] * column[:, None, None]
    return torch.where(seen[:, None], added, least)


# What cannot be honoured exactly is refused before anything is changed.


def _check_editable(model: TransformersModel, config: Any) -> None:
    if not model.layers:
        raise ModelError(
            f"{type(model.model).__name__} has not one list of {config.num_hidden_layers} layers, so it is not known "
            "which are its decoder layers"
        )
    if any(
        getattr(module, "_compiled_call_impl", None) or hasattr(module, "_orig_mod") for module in model.model.modules()
    ):
        raise ModelError("the model is compiled: a graph that was captured before does not run the edits")


def _check_edit(edit: Any, model: TransformersModel, config: Any) -> None:
    if isinstance(edit, AddVector):
        _check_below("layer", [edit.layer], len(model.layers))
        if len(edit.vector) != config.hidden_size:
            raise ArgumentError(
                f"the vector has {len(edit.vector)} numbers, the model's hidden states {config.hidden_size}"
            )
    elif isinstance(edit, FirstTokenScale):
        _check_below("layers", edit.layers or (), len(model.layers))
        _check_below("heads", edit.heads or (), config.num_attention_heads)
        _check_masks(model, config)
    else:
        raise ArgumentError(
            f"{edit!r} is no edit: there are AddVector and FirstTokenScale. Of others it is not known whether they are "
            "causal, and one that looks ahead would give a prefix another probability once it goes on"
        )


def _check_masks(model: TransformersModel, config: Any) -> None:
    implementation = getattr(config, "_attn_implementation", None)
    others = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    deaf = [layer for layer in model.layers if "attention_mask" not in inspect.signature(layer.forward).parameters]
    reasons = {
        f"its attention is {implementation!r}, which takes no mask of floats": implementation not in ADDITIVE,
        f"it has layers of the kind {', '.join(sorted(others))}": bool(others),
        "its layers take no attention_mask": bool(deaf),
    }
    reason = next((reason for reason, holds in reasons.items() if holds), None)
    if reason is not None:
        raise ModelError(
            f"FirstTokenScale cannot be used with {type(model.model).__name__}: {reason}\n"
            'hint: load the model with attn_implementation="sdpa" or "eager"'
        )


def _check_below(name: str, given: Sequence[int], count: int) -> None:
    if any(i >= count for i in given):
        raise ArgumentError(f"{name} is {max(given)}, but the model has {count}, counted from 0")
