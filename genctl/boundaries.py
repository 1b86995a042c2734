"""Does a prompt end where its last token does? If not, the model should go on from its bytes.

    model, prompts = at_boundaries(model, ["The capital of France is Par", "Hello"], exact=None)

The first is taken as bytes (models/boundary.py), since the model would rather have read a longer token than `" Par"`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from genctl.errors import ArgumentError
from genctl.kernels.records import F64
from genctl.models.base import LanguageModel, Prompt, host_logits, is_weighted
from genctl.models.boundary import Boundary, Ids, Opening, Read
from genctl.models.bytes import ByteModel
from genctl.models.covers import Covers
from genctl.views import canonical_of, hooks_in, why_not_canonical

LAST = 4  # tokens of a prompt in whose place a longer one is looked for


class _Text(NamedTuple):
    """The tokens of a prompt; from `fixed` on, behind the last control token, they spell its text."""

    tokens: Ids
    fixed: int
    text: bytes
    cut: bool = False  # does it end inside a character?


def at_boundaries(
    model: LanguageModel[Any], prompts: Sequence[Prompt], exact: bool | None
) -> tuple[LanguageModel[Any], list[list[int]]]:
    """A model that goes on from the bytes of some prompts, and all of them in tokens. See `Model.generate`.

    exact: True, of all prompts; False, of none; None, of texts that end inside what the model would make one token.
    """
    reason = None if isinstance(model, ByteModel) else _why_tokens(model)
    if exact and reason:
        raise ArgumentError(f"exact_boundary is True, but {reason}\nhint: leave it out, or use lm.bytes()")
    if exact is False or reason or isinstance(model, ByteModel):
        return model, [model.encode(prompt) for prompt in prompts]
    if exact and not all(isinstance(prompt, str | bytes) for prompt in prompts):
        raise ArgumentError("exact_boundary is True, but a prompt is no text: chat messages and sets end where they do")
    encoded = [_text(model, one) if isinstance(one, str | bytes) else model.encode(one) for one in prompts]
    texts = [one for one in encoded if isinstance(one, _Text)]
    read = None
    if texts and exact is None:
        read, texts = _late(model, texts)
    openings = {text.tokens: opening for text in texts if (opening := _opening(model, text, bool(exact)))}
    return Boundary(model, openings, read), [list(one.tokens) if isinstance(one, _Text) else one for one in encoded]


def _why_tokens(model: LanguageModel[Any]) -> str | None:
    """Why prompts can only be taken as tokens."""
    if is_weighted(model):
        return "the law of this model is one of whole texts, which begin where its prompts' tokens end"
    if needed := getattr(model, "needs_prompt", None):
        return str(needed)
    if any(hook.restricts_support for hook in hooks_in(model)):
        return "hooks that take tokens away may leave none that spell the end of a prompt"
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None:
        return "the model has no tokenizer, which says how its texts are cut into tokens"
    reason = why_not_canonical(tokenizer)
    return f"its tokenizer has {reason}, so it cannot be told how texts are cut into tokens" if reason else None


def _text(model: LanguageModel[Any], prompt: str | bytes) -> _Text:
    """Bytes may end inside a character, whose bytes become tokens of one byte."""
    rest = _inside(prompt) if isinstance(prompt, bytes) else b""
    whole = prompt[: len(prompt) - len(rest)]
    tokens = (*model.encode(whole), *(_single(model, byte) for byte in rest))
    control = [place for place, token in enumerate(tokens) if not model.vocabulary.tokens[token]]
    fixed = 1 + max(control, default=-1)
    return _Text(tokens, fixed, model.vocabulary.join(tokens[fixed:]), bool(rest))


def _inside(prompt: bytes) -> bytes:
    """The bytes of a character that a text ends inside of."""
    for count in range(1, min(len(prompt), 3) + 1):
        first = prompt[-count]
        if first >= 0xC0:
            return prompt[-count:] if count < 2 + (first >= 0xE0) + (first >= 0xF0) else b""
    return b""


def _single(model: LanguageModel[Any], byte: int) -> int:
    try:
        return model.vocabulary.tokens.index(bytes([byte]))
    except ValueError:
        raise ArgumentError(
            f"the tokenizer has no token for byte {byte:#04x}, inside of which the prompt ends"
        ) from None


def _late(model: LanguageModel[Any], texts: Sequence[_Text]) -> tuple[Read[Any], list[_Text]]:
    """What the model says of the texts, and those that it would rather have read with a longer token near the end."""
    covers = Covers(model.vocabulary, None)
    cuts = {text: _cuts(model, covers, text) for text in texts}
    asked = {text.tokens[: len(text.tokens) - k] for text in texts for k in range(max(cuts[text], default=0) + 1)}
    rows = {tokens: row for row, tokens in enumerate(sorted(asked))}
    logits, state = model.prefill(list(rows))
    read = Read(rows, logits, state)
    return read, [text for text in texts if text.cut or any(_longer(model, covers, read, text, k) for k in cuts[text])]


def _cuts(model: LanguageModel[Any], covers: Covers, text: _Text) -> list[int]:
    """How many last tokens of a text are the beginning of a longer one."""
    most = min(LAST, len(text.tokens) - max(text.fixed, 1))
    return [k for k in range(1, most + 1) if len(covers.longer(model.vocabulary.join(text.tokens[-k:])))]


def _longer(model: LanguageModel[Any], covers: Covers, read: Read[Any], text: _Text, count: int) -> bool:
    """Is a token that goes on from the last ones likelier than these?"""
    before = [text.tokens[: len(text.tokens) - k] for k in range(count, 0, -1)]
    laws = host_logits(read.logits)[[read.rows[tokens] for tokens in before]].astype(np.float64)
    laws -= np.logaddexp.reduce(laws, axis=1, keepdims=True)
    own: F64 = laws[np.arange(count), text.tokens[-count:]]
    longer = covers.longer(model.vocabulary.join(text.tokens[-count:]))
    return float(np.logaddexp.reduce(laws[0, longer])) > float(own.sum())


def _opening(model: LanguageModel[Any], text: _Text, needed: bool) -> Opening | None:
    """None where the tokens of the prompt are all there is to go by; refused if that is not what was asked for."""
    covers = Covers(model.vocabulary, canonical_of(model))
    opening = Opening.of(covers, model.vocabulary, text.tokens[: text.fixed], text.text) if text.text else None
    reason = None
    if not text.text:
        reason = "it ends with a control token, behind which a text begins anew"
    elif opening is None:
        reason = "no token sequence that the tokenizer makes of texts covers it"
    elif not text.cut and list(text.tokens) not in opening.sequences():
        reason = "the tokens that the tokenizer makes of it are none that begin one of its texts"
    elif not opening.sequences()[0]:
        reason = "it is a single word with nothing before it, of which the model has no law"
    if reason is None or not (needed or text.cut):
        return opening if reason is None else None
    raise ArgumentError(f"the prompt cannot be taken as bytes: {reason}\nhint: exact_boundary=False takes its tokens")
