"""A model under a stack of hooks is a model: rules, samplers, particles, byte views and ensembles take it as any other.

    steered = Steered(model, [TopK(50)])                           # target: the hooks change the law
    steered = Steered(model, [lambda logits: logits + bias], "tilt")

With z the model's logits, S(z) those of the stack, p = softmax(z), and x a token:

| binding | the target gives each next token | it is drawn from |
| --- | --- | --- |
| target | softmax(S(z)) | the same |
| tilt | p(x) exp(S(z)(x) - z(x)), not normalised | its softmax |
| proposal | p(x) | softmax(S(z)) |

A sampler makes up for the difference by the particle's weight (models/base.py, Laws). The prompts of `prefill` are the
prompts that hooks know of, the tokens of `extend` are the text. A state has all that hooks need for each row, so that
`select` copies it with the particle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from genctl.errors import ArgumentError, ModelError
from genctl.kernels.records import F32, F64, I64
from genctl.models.base import (
    Hidden,
    LanguageModel,
    Laws,
    Logits,
    Prompt,
    Tokens,
    View,
    host_logits,
    refuse_weighted,
    unwrapped,
)
from genctl.models.ensemble import check_vocabularies
from genctl.models.fim import Ending
from genctl.models.logprobs import log_normalisers, log_softmax
from genctl.models.prompts import given, read_by, template_of, woven
from genctl.models.sets import SetPrompt
from genctl.steering.base import Auxiliary, Memo, Stack, Step

M = TypeVar("M")


class SteeredState(NamedTuple, Generic[M]):
    """N rows. base has those of the model, and behind them those of each auxiliary that is another prompt of it."""

    base: M
    others: tuple[Any, ...]  # the states of the auxiliaries that are other models
    contexts: tuple[I64, ...]
    prompt_lengths: I64  # (N,)
    memos: tuple[tuple[Memo, ...], ...]  # for each row one for each hook


class Steered(View[M]):
    """model: any LanguageModel. hooks: a Stack, or what it is made of. binding: "target", "tilt" or "proposal".

    Over a model that is weighted itself, a tilt or a global product, target and tilt are one: its scores are changed,
    and nothing is normalised.

    Raises ArgumentError for hooks that do not fit, VocabularyError for an auxiliary with other symbols.
    """

    def __init__(self, model: LanguageModel[M], hooks: Sequence[Any] | Stack, binding: str = "target") -> None:
        if not isinstance(binding, str) or binding not in BINDINGS:
            raise ArgumentError(f"binding is {binding!r}, it must be one of {', '.join(BINDINGS)}\nhint: {MEANINGS}")
        model = unwrapped(model)
        if getattr(model, "binding", None) == "proposal":
            raise ArgumentError(
                "the model is bound to a proposal already, which other hooks would not know of\n"
                'hint: change its law first, then bind the proposal: lm.steered(hooks).steered(q, binding="proposal")'
            )
        super().__init__(model)
        self.binding = binding
        self.stack = Stack(hooks).bind(model.vocabulary)
        check_meanings(self.stack, binding)
        if binding == "proposal":
            _check_covers(self.stack)
        auxiliaries = dict.fromkeys(one for hook in self.stack for one in hook.auxiliaries)
        ended = _ended(model)
        self._own = [one for one in auxiliaries if one.model is None or one.model is model or one.model is ended]
        self._foreign = [one for one in auxiliaries if one not in self._own]
        others = ((f"the one that a hook reads, {one!r},", one.model.vocabulary) for one in self._foreign)
        check_vocabularies([("the steered model", ended.vocabulary), *others])
        for one in self._foreign:
            refuse_weighted(one.model, "a hook", "give the models that it was made of")
        if self._own:
            refuse_weighted(model, "another prompt of it", "steer the models that it was made of")
        self._reader = _reader(model, self.stack)
        self._templates = [template_of(one.prompt, "prompt") for one in (*self._own, *self._foreign)]

    @property
    def weighted(self) -> bool:
        return self.binding != "target" or super().weighted

    @property
    def needs_prompt(self) -> str | None:
        hook = next((hook for hook in self.stack if hook.needs_prompt), None)
        if hook is not None:
            return f"the hook {hook!r} depends on where the prompt ends"
        return super().needs_prompt

    def encode(self, prompt: Prompt, /) -> list[int]:
        """The prompt as the model encodes it, and as each auxiliary does where that differs (models/prompts.py)."""
        if isinstance(prompt, SetPrompt) and self._changes_prompts:
            raise _one_set_alone("a hook reads the model behind a prompt of its own")
        ids = self.model.encode(prompt)
        spelled = [ids]
        for one, template in zip((*self._own, *self._foreign), self._templates, strict=True):
            model = self.model if one.model is None else one.model
            other = template(prompt)
            if isinstance(other, SetPrompt) and not isinstance(prompt, SetPrompt):
                raise _one_set_alone("a hook makes one of the prompt")
            spelled.append(model.encode(other))
        if len(spelled) == 1:
            return ids
        alike = all(other == ids for other in spelled) and max(ids, default=0) < len(self.vocabulary)
        if alike and not self._changes_prompts:
            return ids
        if isinstance(prompt, SetPrompt):
            raise _one_set_alone("a hook reads another model, which cuts it into other tokens")
        return woven(spelled, len(self.vocabulary))

    def prefill(self, prompts: Sequence[Sequence[int]], /) -> tuple[Logits | Laws, SteeredState[M]]:
        """N prompts of ids as `encode` gives them -> the answer and the state.

        Raises ArgumentError for token ids where an auxiliary has a prompt of its own, which is made of text.
        """
        self._check_prompts(prompts)
        members = 1 + len(self._own) + len(self._foreign)
        # Ids above the vocabulary may be the model's own, as those of an ensemble are: without auxiliaries all are.
        read = [
            [read_by(m, members, row, len(self.vocabulary)) for row in prompts] if members > 1 else list(prompts)
            for m in range(members)
        ]
        mine = 1 + len(self._own)
        answer, base = self._reader.prefill([row for rows in read[:mine] for row in rows])
        foreign = [one.model.prefill(rows) for one, rows in zip(self._foreign, read[mine:], strict=True)]
        contexts = [self._symbols(row) for row in read[0]]
        state = SteeredState(
            base,
            tuple(state for _, state in foreign),
            tuple(contexts),
            np.array([len(context) for context in contexts], np.int64),
            tuple(self.stack.begin(context) for context in contexts),
        )
        return self._answer(answer, [logits for logits, _ in foreign], state), state

    def extend(self, state: SteeredState[M], tokens: Tokens, /) -> tuple[Logits | Laws, SteeredState[M]]:
        more = [np.atleast_1d(np.asarray(row, np.int64)) for row in tokens]
        answer, base = self._reader.extend(state.base, _repeated(tokens, 1 + len(self._own)))
        foreign = [one.model.extend(held, tokens) for one, held in zip(self._foreign, state.others, strict=True)]
        longer = SteeredState(
            base,
            tuple(state for _, state in foreign),
            tuple(np.concatenate(pair) for pair in zip(state.contexts, more, strict=True)),
            state.prompt_lengths,
            tuple(self.stack.advance(memos, row.tolist()) for memos, row in zip(state.memos, more, strict=True)),
        )
        return self._answer(answer, [logits for logits, _ in foreign], longer), longer

    def select(self, state: SteeredState[M], rows: I64, /) -> SteeredState[M]:
        places, count = np.asarray(rows, np.int64), len(state.contexts)
        copies = np.arange(1 + len(self._own))[:, None] * count
        return SteeredState(
            self.model.select(state.base, (copies + places).ravel()),
            tuple(one.model.select(held, rows) for one, held in zip(self._foreign, state.others, strict=True)),
            tuple(state.contexts[row] for row in places.tolist()),
            state.prompt_lengths[places],
            tuple(state.memos[row] for row in places.tolist()),
        )

    def join(self, states: Sequence[SteeredState[M]], /) -> SteeredState[M]:
        base = self.model.join([state.base for state in states])
        if self._own:  # from all copies of one state after another, to all states of one copy after another
            base = self.model.select(base, _transposed([len(s.contexts) for s in states], 1 + len(self._own)))
        parts = zip(self._foreign, zip(*(state.others for state in states), strict=True), strict=False)
        return SteeredState(
            base,
            tuple(one.model.join(several) for one, several in parts),
            tuple(context for state in states for context in state.contexts),
            np.concatenate([state.prompt_lengths for state in states]),
            tuple(memos for state in states for memos in state.memos),
        )

    # -- the answer

    def _answer(self, answer: Logits, foreign: Iterable[Logits], state: SteeredState[M]) -> F32 | Laws:
        count, hidden = len(state.contexts), {}
        if isinstance(answer, Hidden):
            hidden = {layer: states[:count] for layer, states in answer.states.items()}
            answer = answer.logits
        device = getattr(answer, "device", None) if not isinstance(answer, np.ndarray | Laws) else None
        rows = answer.scores if isinstance(answer, Laws) else host_logits(answer)
        own = [rows[m * count : (m + 1) * count] for m in range(1, 1 + len(self._own))]
        laws: dict[Auxiliary, F64] = {
            one: log_softmax(host_logits(logits))
            for one, logits in zip((*self._own, *self._foreign), (*own, *foreign), strict=True)
        }
        step = Step(
            contexts=state.contexts,
            prompt_lengths=state.prompt_lengths,
            raw=rows[:count],
            laws=laws,
            hidden=hidden,
            head=getattr(self._reader, "head", None),
            memos=state.memos,
            device=device,
        )
        steered = self.stack(step)
        if isinstance(answer, Laws):
            return _again(answer, steered, self.binding, self.stack)
        return BINDINGS[self.binding](step.raw, steered, self.stack)

    # -- prompts

    @property
    def _changes_prompts(self) -> bool:
        return any(one.prompt is not None for one in (*self._own, *self._foreign))

    def _check_prompts(self, prompts: Sequence[Sequence[int]]) -> None:
        if not self._changes_prompts:
            return
        for row in prompts:
            if len(row) and not given(row, len(self.vocabulary)):
                raise ArgumentError(
                    "the prompt is token ids, but a hook reads the model behind a prompt that it makes of text"
                    "\nhint: give the prompt as text or messages"
                )

    def _symbols(self, row: Sequence[int]) -> I64:
        ids = np.array(row, np.int64)
        return ids[(ids >= 0) & (ids < len(self.vocabulary))]


def _one_set_alone(reason: str) -> ModelError:
    return ModelError(
        f"a SetPrompt is read by one model in one way, but {reason}\nhint: give text, or leave the hook out"
    )


def unsteered(model: LanguageModel[Any]) -> LanguageModel[Any]:
    """The model beneath its hooks."""
    while isinstance(model, Steered | Ending):  # which ids end a text says nothing about its law
        model = model.model
    return model


def _ended(model: LanguageModel[Any]) -> LanguageModel[Any]:
    """The model itself if it is one whose texts end with other tokens: its laws and states are the same."""
    return model.model if isinstance(model, Ending) else model


def _reader(model: LanguageModel[Any], stack: Stack) -> Any:
    """The model, or where hooks read hidden states the same one with them."""
    layers = list(dict.fromkeys(layer for hook in stack for layer in hook.layers))
    if not layers:
        return model
    reader: Any = _ended(model)
    if not hasattr(reader, "with_hidden"):
        hook = next(hook for hook in stack if hook.layers)
        raise ArgumentError(
            f"{hook!r} reads hidden states, which {type(reader).__name__} does not give"
            "\nhint: models of transformers do, unsteered and not as bytes"
        )
    return reader.with_hidden(layers)


def _repeated(tokens: Tokens, times: int) -> Tokens:
    if times == 1:
        return tokens
    return np.tile(tokens, times) if isinstance(tokens, np.ndarray) else list(tokens) * times


def _transposed(counts: Sequence[int], copies: int) -> I64:
    """From all copies of one state after another to all states of one copy after another: where each row was.

    counts: how many rows a copy of each state has.
    """
    begins = np.cumsum([0, *counts[:-1]]) * copies
    places = [
        begin + copy * count + np.arange(count, dtype=np.int64)
        for copy in range(copies)
        for begin, count in zip(begins.tolist(), counts, strict=True)
    ]
    return np.concatenate(places)


# -- bindings


def _target(raw: F32, steered: F32, stack: Stack) -> F32:
    return steered


def _tilt(raw: F32, steered: F32, stack: Stack) -> Laws:
    scores = (steered - log_normalisers(raw)).astype(np.float32)
    return Laws(raw, scores, scores)


def _proposal(raw: F32, steered: F32, stack: Stack) -> Laws:
    _check_support(raw, steered, stack)
    return Laws(raw, (raw - log_normalisers(raw)).astype(np.float32), steered)


BINDINGS: Mapping[str, Callable[[F32, F32, Stack], F32 | Laws]] = {
    "target": _target,
    "tilt": _tilt,
    "proposal": _proposal,
}
MEANINGS = (
    '"target" samples the steered model, normalised at each token, conditioned on the rule; "tilt" multiplies the '
    "probability of each text by what the hooks add to its tokens, so that their effect on later tokens counts; "
    '"proposal" only changes how texts of the unsteered model are found'
)


def _again(answer: Laws, steered: F32, binding: str, stack: Stack) -> Laws:
    if binding != "proposal":
        return Laws(steered, steered, steered)
    _check_support(answer.scores, steered, stack)
    return Laws(answer.law, answer.scores, steered)


def check_meanings(stack: Stack, binding: str) -> None:
    for hook in stack:
        if hook.binding not in (None, binding):
            raise ArgumentError(f"{hook!r} is bound as {hook.binding!r}, not as {binding!r}\nhint: {MEANINGS}")


def _check_covers(stack: Stack) -> None:
    for hook in stack:
        if hook.restricts_support:
            raise ArgumentError(
                f"{hook!r} takes tokens away, but a proposal has to find all that the target has"
                '\nhint: bind it as "target" or "tilt"'
            )


def _check_support(scores: F32, drawn: F32, stack: Stack) -> None:
    if ((drawn == -np.inf) & (scores > -np.inf)).any():
        raise ArgumentError(
            f"the proposal {stack!r} takes away tokens that the target has"
            '\nhint: bind hooks that filter tokens as "target" or "tilt"'
        )
