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

import numpy as np

from genctl.constraints.canonical import CanonicalConstraint
from genctl.errors import ArgumentError, ModelError, VocabularyError
from genctl.models.base import LanguageModel, View, host_logits, refuse_weighted
from genctl.models.bytes import FIXED, VOCABULARY, ByteModel
from genctl.models.fim import Ending, Order, find_style
from genctl.models.followed import HOLE, Followed
from genctl.models.prompts import given
from genctl.steering.base import Hook
from genctl.steering.model import Steered

PROBES = ("", "a", "0")  # prompts that most models can read

# Either takes seconds for a large vocabulary, so it is kept while the tokenizer is.
_CANONICAL: WeakKeyDictionary[Any, CanonicalConstraint] = WeakKeyDictionary()
_REASONS: WeakKeyDictionary[Any, str | None] = WeakKeyDictionary()


def byte_view(model: LanguageModel[Any], *, canonical: bool | None, eps: float) -> ByteModel[Any]:
    """See `Model.bytes`."""
    if _is_of_bytes(model):
        raise ArgumentError("the model is one of bytes already\nhint: set canonical and eps where its view is made")
    _refuse_what_a_view_loses(model)
    if not hasattr(model, "join"):
        raise ModelError("the model's states cannot be joined, as models/base.py says they can: a byte view needs that")
    return ByteModel(model, _counted(model, canonical), eps=eps)


def byte_logprob(
    model: LanguageModel[Any], text: bytes, given: bytes, *, canonical: bool | None, eps: float | None
) -> float:
    """See `Model.logprob`."""
    refuse_weighted(model, "a log-probability", "ask the models that it was made of")
    if not _is_of_bytes(model) or canonical is not None or eps is not None:
        model = byte_view(model, canonical=canonical, eps=eps or 0.0)
    if isinstance(model, ByteModel):
        return model.logprob(text, given)
    return sum(_steps(model, text, given))


def _steps(model: LanguageModel[Any], text: bytes, given: bytes) -> Iterator[float]:
    """The log-probability of each byte of a text by an ensemble of models of bytes, up to the first impossible one."""
    logits, state = model.prefill([model.encode(given)])
    for place, byte in enumerate(text):
        if place:
            logits, state = model.extend(state, np.array([text[place - 1]]))
        step = float(host_logits(logits)[0, byte])
        yield step
        if step == -np.inf:
            return


def _is_of_bytes(model: LanguageModel[Any]) -> bool:
    symbols = model.vocabulary
    return symbols.tokens == VOCABULARY.tokens and symbols.eos == VOCABULARY.eos


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
    stop_at_suffix: bool,
    longest: int,
) -> tuple[ByteModel[Any] | Followed, list[int]]:
    """The view of a model that ends a text where a hole does, and its prompt. See `Model.infill`."""
    _refuse_what_a_view_loses(model)
    follows = suffix.encode() if isinstance(suffix, str) else suffix
    tokenizer: Any = getattr(model, "tokenizer", None)
    style = None if tokenizer is None else find_style(tokenizer)
    view: ByteModel[Any]
    if style is None:
        if order is not None:
            raise _no_order(order)
        view = byte_view(model, canonical=canonical, eps=eps)
        ended = Followed(view, follows, eps=eps, longest=longest) if follows else view
        return ended, ended.encode(prefix)
    fixed, begun = style.prompt(prefix, suffix, lambda text: tokenizer.encode(text, add_special_tokens=False), order)
    view = ByteModel(Ending(model, model.vocabulary.eos | style.ends), _counted(model, canonical), eps=eps)
    prompt = [FIXED + i for i in fixed] + list(begun)
    if stop_at_suffix and follows:
        return Followed(view, follows, eps=eps, or_ended=True, longest=longest), [*prompt, HOLE]
    return view, prompt


def _no_order(order: Order) -> ArgumentError:
    return ArgumentError(
        f"order is {order!r}, but the model has no control tokens for filling in, so its prompt has no order of parts\n"
        "hint: leave order out, or use a model that was trained to fill in, such as Qwen2.5-Coder or StarCoder"
    )


def _counted(model: LanguageModel[Any], canonical: bool | None) -> CanonicalConstraint | None:
    """The token sequences that count in a byte view; None: all of them."""
    tokenizer = getattr(model, "tokenizer", None)
    if canonical is None:
        canonical = tokenizer is not None and why_not_canonical(tokenizer) is None
    if not canonical:
        return None
    if tokenizer is None:
        raise VocabularyError("the model has no tokenizer, so no token sequence is canonical\nhint: canonical=False")
    return canonical_of(model)


def why_not_canonical(tokenizer: Any) -> str | None:
    """See `CanonicalConstraint.why_not`, which reads all of a tokenizer."""
    if tokenizer not in _REASONS:
        _REASONS[tokenizer] = CanonicalConstraint.why_not(tokenizer)
    return _REASONS[tokenizer]


def canonical_of(model: Any) -> CanonicalConstraint:
    """The beginnings of what the model's tokenizer makes of texts."""
    if model.tokenizer not in _CANONICAL:
        _CANONICAL[model.tokenizer] = CanonicalConstraint(model.vocabulary, model.tokenizer)
    return _CANONICAL[model.tokenizer]


def layers(model: LanguageModel[Any]) -> Iterator[Any]:
    """The model, and all that it asks in the end if it is a view or an ensemble."""
    yield model
    for part in getattr(model, "members", None) or ([model.model] if isinstance(model, View) else []):
        yield from layers(part)


def behind(model: LanguageModel[Any]) -> list[Any]:
    """Those of its layers that are no views and no ensembles."""
    return [one for one in layers(model) if not isinstance(one, View) and not getattr(one, "members", None)]


def hooks_in(model: LanguageModel[Any]) -> list[Hook]:
    """Those of its layers."""
    return [hook for one in layers(model) if isinstance(one, Steered) for hook in one.stack]


def fingerprints(model: LanguageModel[Any]) -> list[str]:
    """Of the edits that hold in the models behind it, "" for none; those that hooks read come last."""
    read = [one.model for hook in hooks_in(model) for one in hook.auxiliaries if one.model is not None]
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
