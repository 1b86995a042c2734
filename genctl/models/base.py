"""What a language model is to genctl: next-token logits for N sequences at once, with a state the caller owns.

    logits, state = model.prefill([model.encode("Once upon")])     # (1, V)
    state = model.select(state, np.array([0, 0, 0]))               # three rows that share the prompt
    logits, state = model.extend(state, np.array([5, 7, 7]))       # (3, V)

Laws (tests/laws/test_model.py): extending after selecting equals prefilling the whole sequence; a row does not
depend on the other rows; a state that was extended is not used again. A model with a reason in `needs_prompt` knows
where its prompts end: to it the first of these laws says that extending step by step equals extending at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import numpy as np

from genctl.errors import ArgumentError
from genctl.kernels.records import F32, I64
from genctl.models.sets import SetPrompt
from genctl.vocabulary import Vocabulary

Messages: TypeAlias = Sequence[Mapping[str, Any]]  # [{"role": "user", "content": "..."}]
Prompt: TypeAlias = str | bytes | Messages | SetPrompt
Logits: TypeAlias = Any  # (N, V): a torch tensor on the model's device, a numpy array of a model without torch; Laws
Tokens: TypeAlias = I64 | Sequence[Sequence[int]]  # (N,), one token a row, or N rows of at least one token each

M = TypeVar("M")


class LanguageModel(Protocol[M]):
    """Next-token logits, nats up to a constant per row, V = len(vocabulary). Ids in `vocabulary.unused` get -inf.

    M holds the key/value cache.
    """

    @property
    def vocabulary(self) -> Vocabulary: ...

    def encode(self, prompt: Prompt, /) -> list[int]:
        """Token ids of a prompt: begin-of-text and chat template included, as the model was trained.

        Raises ModelError for a SetPrompt where the model cannot read one.
        """
        ...

    def prefill(self, prompts: Sequence[Sequence[int]], /) -> tuple[Logits, M]:
        """N prompts of token ids, lengths may differ -> (N, V) logits of the next token, and the state."""
        ...

    def extend(self, state: M, tokens: Tokens, /) -> tuple[Logits, M]:
        """Append tokens to each of the N rows -> (N, V) logits of the next token, and the new state."""
        ...

    def select(self, state: M, rows: I64, /) -> M:
        """A state whose row i is row rows[i] of state; rows may repeat, be left out or change their order."""
        ...

    def join(self, states: Sequence[M], /) -> M:
        """The rows of all states, in order; the states come from one prefill, by whatever way."""
        ...


@dataclass(frozen=True)
class Laws:
    """What a model answers in place of logits where its texts are weighted: it has `weighted = True`. Each (N, V).

    A sampler draws from `drawn`, and multiplies a particle's weight so that the target is the product of exp(scores).
    """

    law: F32  # logits, of which the log-probabilities of tokens are reported
    scores: F32  # nats, no constant is free: log of what the target gives each next token
    drawn: F32  # logits, -inf only where the scores are

    def __len__(self) -> int:
        """N."""
        return len(self.law)


@dataclass(frozen=True)
class Hidden:
    """What a model answers that was asked for hidden states (`with_hidden(layers)`): they come with the logits."""

    logits: Logits
    states: Mapping[int, Any]  # layer -> (N, d) tensor behind the last token of each row; 0 is the first block


METHODS = ("vocabulary", "prefill", "extend", "select")  # by which a LanguageModel is known


def is_model(given: object) -> bool:
    return not isinstance(given, type) and all(hasattr(given, name) for name in METHODS)


def unwrapped(model: Any, name: str = "model") -> LanguageModel[Any]:
    """The LanguageModel in what `genctl.load` gives, or that was given as it is.

    Raises ArgumentError for anything else. name: of the argument.
    """
    inner: LanguageModel[Any] = getattr(model, "language_model", model)
    if not is_model(inner):
        raise ArgumentError(
            f"{name} is {type(model).__name__}, expected a model\nhint: genctl.load gives one, also of a model of "
            "transformers and its tokenizer"
        )
    return inner


class View(Generic[M]):
    """The base of models that ask another one: what they do not say themselves is what that one says."""

    def __init__(self, model: LanguageModel[M]) -> None:
        self.model = model

    @property
    def vocabulary(self) -> Vocabulary:
        return self.model.vocabulary

    @property
    def tokenizer(self) -> Any:
        return getattr(self.model, "tokenizer", None)

    @property
    def weighted(self) -> bool:
        return is_weighted(self.model)

    @property
    def needs_prompt(self) -> str | None:
        """Why prompts may not be mixed with text: a byte view does that. None if they may."""
        return getattr(self.model, "needs_prompt", None)

    def encode(self, prompt: Prompt, /) -> list[int]:
        return self.model.encode(prompt)


def is_weighted(model: object) -> bool:
    """Does the model answer Laws? Then only a sampler that weights its draws knows what it means."""
    return bool(getattr(model, "weighted", False))


def refuse_weighted(model: object, what: str, hint: str) -> None:
    if is_weighted(model):
        raise ArgumentError(f"the law of this model is one of whole texts, which {what} would not keep\nhint: {hint}")


def host_logits(logits: Logits) -> F32:
    """(N, V) logits on any device -> float32 array on the host, C-contiguous; no copy where none is needed."""
    if isinstance(logits, np.ndarray):
        return np.ascontiguousarray(logits, dtype=np.float32)
    array: F32 = logits.detach().float().cpu().contiguous().numpy()
    return array


def torch_seed(generator: Any) -> int:
    """A seed drawn from a torch.Generator, which moves on: equal generators give equal seeds."""
    import torch

    return int(torch.randint(2**63 - 1, (1,), generator=generator, device=generator.device).item())
