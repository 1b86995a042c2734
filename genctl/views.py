"""What a model is seen as: a model of bytes, one that fills a hole, several models as one.

view = byte_view(model, canonical=None, eps=0.0)
editable_model(view), fingerprints(view)            # the model of transformers behind it, and what edits it has
view, prompt = infill_view(model, "def f(x):\\n    ret", "\\n", order=None, canonical=None, eps=0.0)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

from genctl.constraints.canonical import CanonicalConstraint
from genctl.errors import ArgumentError, ModelError, VocabularyError
from genctl.models.base import LanguageModel, refuse_weighted
from genctl.models.bytes import FIXED, ByteModel
from genctl.models.fim import Ending, Order, find_style
from genctl.models.prompts import given
from genctl.steering.model import Steered

VIEWS = (ByteModel, Ending, Steered)  # have one model behind them
PROBES = ("", "a", "0")  # prompts that most models can read

# Takes seconds for a large vocabulary, so it is kept while the tokenizer is.
_CANONICAL: WeakKeyDictionary[Any, CanonicalConstraint] = WeakKeyDictionary()


def byte_view(model: LanguageModel[Any], *, canonical: bool | None, eps: float) -> ByteModel[Any]:
    """See `Model.bytes`."""
    if isinstance(model, ByteModel):
        raise ArgumentError("the model is one of bytes already\nhint: set canonical and eps where its view is made")
    _refuse_what_a_view_loses(model)
    if not hasattr(model, "join"):
        raise ModelError("the model's states cannot be joined, as models/base.py says they can: a byte view needs that")
    return ByteModel(model, _counted(model, canonical), eps=eps)


def _refuse_what_a_view_loses(model: LanguageModel[Any]) -> None:
    """A view asks the model about token sequences as if they were prompts, and adds up their probabilities."""
    refuse_weighted(
        model,
        "its view as bytes",
        "make the views first: genctl.ensemble([a.bytes(), b.bytes()], op=...), or lm.bytes().steered(...)",
    )
    reason = getattr(model, "needs_prompt", None)
    if reason:
        raise ArgumentError(
            f"{reason}, but a view as bytes reads tokens as prompts\nhint: steer the view: lm.bytes().steered(...)"
        )
    if any(given(ids, len(model.vocabulary)) for ids in _tried(model)):
        raise ArgumentError(
            "the models behind this one read a prompt each in its own tokens, which a view as bytes cannot give them"
            "\nhint: make the views first, a.bytes() and b.bytes(), then the ensemble or the hooks"
        )


def _tried(model: LanguageModel[Any]) -> Iterator[list[int]]:
    """The ids of a few prompts, as far as the model's tokens have their bytes."""
    for probe in PROBES:
        with suppress(ArgumentError):
            yield model.encode(probe)


def infill_view(
    model: LanguageModel[Any],
    prefix: str | bytes,
    suffix: str | bytes,
    *,
    order: Order | None,
    canonical: bool | None,
    eps: float,
) -> tuple[ByteModel[Any], list[int]]:
    """The view of a model that ends a text where a hole does, and its prompt. See `Model.infill`."""
    _refuse_what_a_view_loses(model)
    tokenizer: Any = getattr(model, "tokenizer", None)
    style = None if tokenizer is None else find_style(tokenizer)
    if style is None:
        raise ModelError(
            "the model has no control tokens for filling in\n"
            "hint: use one that was trained for it, such as Qwen2.5-Coder or StarCoder"
        )
    fixed, begun = style.prompt(prefix, suffix, lambda text: tokenizer.encode(text, add_special_tokens=False), order)
    view: ByteModel[Any] = ByteModel(
        Ending(model, model.vocabulary.eos | style.ends), _counted(model, canonical), eps=eps
    )
    return view, [FIXED + i for i in fixed] + list(begun)


def _counted(model: LanguageModel[Any], canonical: bool | None) -> CanonicalConstraint | None:
    """The token sequences that count in a byte view; None: all of them."""
    tokenizer = getattr(model, "tokenizer", None)
    if canonical is None:
        canonical = tokenizer is not None and CanonicalConstraint.why_not(tokenizer) is None
    if not canonical:
        return None
    if tokenizer is None:
        raise VocabularyError("the model has no tokenizer, so no token sequence is canonical\nhint: canonical=False")
    if tokenizer not in _CANONICAL:
        _CANONICAL[tokenizer] = CanonicalConstraint(model.vocabulary, tokenizer)
    return _CANONICAL[tokenizer]


def behind(model: LanguageModel[Any]) -> list[Any]:
    """The models that a view or an ensemble asks in the end: itself, where it is none."""
    inner = getattr(model, "members", None) or ([model.model] if isinstance(model, VIEWS) else [])
    return [one for part in inner for one in behind(part)] or [model]


def fingerprints(model: LanguageModel[Any]) -> list[str]:
    """Of the edits that hold in the models behind it, "" for none; those that hooks read come last."""
    hooks = model.stack if isinstance(model, Steered) else []
    read = [one.model for hook in hooks for one in hook.auxiliaries if one.model is not None]
    return [getattr(one, "fingerprint", "") for part in (model, *read) for one in behind(part)]


def editable_model(model: LanguageModel[Any]) -> Any:
    """The model of transformers behind a view. Raises ModelError where there is none, or not only one."""
    models = behind(model)
    if len(models) > 1:
        raise ModelError(
            f"the model is an ensemble of {len(models)}, and edits are of one\n"
            "hint: edit the member: `with a.edit(...): both.generate(...)`"
        )
    if not hasattr(models[0], "fingerprint"):
        raise ModelError(f"{type(models[0]).__name__} has no layers to edit: edits are of models of transformers")
    return models[0]
