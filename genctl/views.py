"""What a model is seen as: a model of bytes, one that fills a hole, several models as one.

view = byte_view(model, canonical=None, eps=0.0)
view, prompt = infill_view(model, "def f(x):\\n    ret", "\\n", order=None, canonical=None, eps=0.0)
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from genctl.constraints.canonical import CanonicalConstraint
from genctl.errors import ArgumentError, ModelError, VocabularyError
from genctl.models.base import LanguageModel
from genctl.models.bytes import FIXED, ByteModel
from genctl.models.fim import Ending, Order, find_style
from genctl.models.followed import HOLE, Followed

# Either takes seconds for a large vocabulary, so it is kept while the tokenizer is.
_CANONICAL: WeakKeyDictionary[Any, CanonicalConstraint] = WeakKeyDictionary()
_DECIDABLE: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def byte_view(model: LanguageModel[Any], *, canonical: bool | None, eps: float) -> ByteModel[Any]:
    """See `Model.bytes`."""
    if isinstance(model, ByteModel):
        raise ArgumentError("the model is one of bytes already\nhint: set canonical and eps where its view is made")
    if getattr(model, "tilts", ()):
        raise ArgumentError(
            "the law of this model is one of whole texts, which its view as bytes would not keep\n"
            "hint: make an ensemble of the members' views: genctl.ensemble([a.bytes(), b.bytes()], op=...)"
        )
    if not hasattr(model, "join"):
        raise ModelError("the model's states cannot be joined, as models/base.py says they can: a byte view needs that")
    return ByteModel(model, _counted(model, canonical), eps=eps)


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
    view = ByteModel(Ending(model, style.ends), _counted(model, canonical), eps=eps)
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
        canonical = tokenizer is not None and _decidable(tokenizer)
    if not canonical:
        return None
    if tokenizer is None:
        raise VocabularyError("the model has no tokenizer, so no token sequence is canonical\nhint: canonical=False")
    if tokenizer not in _CANONICAL:
        _CANONICAL[tokenizer] = CanonicalConstraint(model.vocabulary, tokenizer)
    return _CANONICAL[tokenizer]


def _decidable(tokenizer: Any) -> bool:
    if tokenizer not in _DECIDABLE:
        _DECIDABLE[tokenizer] = CanonicalConstraint.why_not(tokenizer) is None
    return _DECIDABLE[tokenizer]
