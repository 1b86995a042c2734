"""Hooks: pure functions of a step that change the logits of the next token before it is drawn.

    stack = Stack([FrequencyPenalty(0.5), Temperature(0.8), lambda logits: logits])
    scores = stack(step)                                     # (N, V) float32, from step.raw

Laws (tests/laws/test_hook.py), of every hook:

1. A row depends on its own context, laws and hidden states only; a memo that followed the tokens equals one begun anew.
2. Permuting, repeating or leaving out rows does the same to the answer.
3. At neutral strength the scores come back bit by bit.
4. Nothing that was given is changed.
5. What is impossible (-inf) stays so.
6. Never NaN, also where the scores have -inf.

So a hook may be asked about particles that were copied, about prefixes that are only tried, and once more behind a
checkpoint.
"""

from __future__ import annotations

import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from itertools import pairwise
from typing import Any, ClassVar, TypeAlias

import numpy as np

from genctl.errors import ArgumentError
from genctl.kernels.records import F32, F64, I64
from genctl.models.base import Logits, Prompt, host_logits, unwrapped
from genctl.models.prompts import template_of
from genctl.steering.checks import check_flag
from genctl.vocabulary import Vocabulary

Memo: TypeAlias = Any  # an immutable value


class Slot(IntEnum):
    """The order of a stack. Behind all of it stands the mask of a constraint."""

    PENALTY = 0  # reads raw logits
    COMBINATION = 1  # of the laws of several models or prompts
    BIAS = 2
    TEMPERATURE = 3
    TRUNCATION = 4


@dataclass(frozen=True)
class Auxiliary:
    """Another law that a hook reads: of a model, behind a prompt, and the tokens that were generated.

    model: with the same vocabulary; None is the steered model itself, before any hook. prompt: what becomes of the
    prompt before it is encoded, a function or a text with {prompt} in it; None leaves it as it is.

    Raises ArgumentError for what is no model and no such prompt.
    """

    model: Any = None
    prompt: str | Callable[[Prompt], Prompt] | None = None

    def __post_init__(self) -> None:
        template_of(self.prompt, "prompt")
        if self.model is not None:
            object.__setattr__(self, "model", unwrapped(self.model))

    def __repr__(self) -> str:
        model = "" if self.model is None else type(self.model).__name__
        prompt = "" if self.prompt is None else name_of(self.prompt)
        return f"Auxiliary({', '.join(filter(None, (model, prompt)))})"


@dataclass(frozen=True)
class Step:
    """N rows, each a prefix whose next token is asked for; V tokens. Nothing in it may be changed.

    A hook that keeps a memo finds those of its rows in `memos`. laws: log-probabilities (nats, float64) of the
    auxiliaries that some hook of the stack reads. hidden: the states (N, d) of the layers that some hook reads, torch.
    """

    contexts: Sequence[I64]  # N, ids of prompt and text; ids that are no symbols of the vocabulary are left out
    prompt_lengths: I64  # (N,) of them so many are the prompt's
    raw: F32  # (N, V) logits of the model
    laws: Mapping[Auxiliary, F64] = field(default_factory=dict)
    hidden: Mapping[int, Any] = field(default_factory=dict)
    head: Any = None  # of hidden states: (states, layer, norm=) -> (N, V) logits, where there are any
    memos: Sequence[Memo] = ()
    device: Any = None  # the torch device that the model answers on; None where it answers numpy arrays

    def texts(self) -> list[I64]:
        """N, the ids that were generated."""
        return [c[n:] for c, n in zip(self.contexts, self.prompt_lengths.tolist(), strict=True)]

    @property
    def positions(self) -> I64:
        """(N,) how many tokens were generated."""
        return np.array([len(context) for context in self.contexts], np.int64) - self.prompt_lengths


class Hook(ABC):
    """The base of all hooks: frozen dataclasses that override what they need."""

    slot: Slot | None = None  # None fits anywhere
    remembers: ClassVar[bool] = False  # has a memo for each row: `begin` and `advance`
    layers: Sequence[int] = ()  # whose hidden states it reads, 0 being the first block's

    @property
    def restricts_support(self) -> bool:
        """May it make tokens impossible that the model finds possible?"""
        return False

    @property
    def needs_prompt(self) -> bool:
        """Does it matter where the prompt ends and the text begins?"""
        return self.remembers or any(auxiliary.prompt is not None for auxiliary in self.auxiliaries)

    @property
    def reads_tokens(self) -> bool:
        """Does it matter which tokens spell a text? Then a prompt is gone on from its tokens (genctl/boundaries.py)."""
        return True

    @property
    def binding(self) -> str | None:
        """The only binding that it has a meaning under; None for a hook that has one under each."""
        return None

    @property
    def auxiliaries(self) -> tuple[Auxiliary, ...]:
        return ()

    def bind(self, vocabulary: Vocabulary, /) -> Hook:
        """The hook for a model's tokens. Raises ArgumentError for tokens it does not have."""
        return self

    def begin(self, prompt: I64, /) -> Memo:
        """The memo behind a prompt. A hook that says it remembers has its own."""
        return None

    def advance(self, memo: Memo, token: int, /) -> Memo:
        """The memo behind one more token; the same as one begun anew would be there."""
        return memo

    @abstractmethod
    def __call__(self, step: Step, scores: F32, /) -> F32:
        """(N, V) -> new scores, or the same array where nothing changes."""


class Stack(Sequence[Hook]):
    """Hooks that are applied from first to last.

    any_order: keep an order that is no ascending order of slots, as it is.
    Raises ArgumentError for two hooks in the wrong order, and for what is no hook.
    """

    def __init__(self, hooks: Sequence[Any] | Stack, *, any_order: bool = False) -> None:
        if isinstance(hooks, str) or not isinstance(hooks, Sequence):
            raise ArgumentError(f"steering is {hooks!r}, it must be a list of hooks")
        check_flag("any_order", any_order)
        self._hooks = tuple(as_hook(hook) for hook in hooks)
        self.any_order: bool = any_order or (isinstance(hooks, Stack) and hooks.any_order)
        if not self.any_order:
            _check_order(self._hooks)

    def __getitem__(self, index: Any) -> Any:
        return self._hooks[index]

    def __len__(self) -> int:
        return len(self._hooks)

    def __iter__(self) -> Iterator[Hook]:
        return iter(self._hooks)

    def __repr__(self) -> str:
        return repr(list(self._hooks))

    def bind(self, vocabulary: Vocabulary) -> Stack:
        return Stack([_bound(hook, vocabulary) for hook in self._hooks], any_order=True)

    def begin(self, prompt: I64) -> tuple[Memo, ...]:
        """One memo for each hook."""
        return tuple(hook.begin(prompt) for hook in self._hooks)

    def advance(self, memos: Sequence[Memo], tokens: Sequence[int]) -> tuple[Memo, ...]:
        after = []
        for hook, memo in zip(self._hooks, memos, strict=True):
            for token in tokens if hook.remembers else ():
                memo = hook.advance(memo, token)
            after.append(memo)
        return tuple(after)

    def __call__(self, step: Step) -> F32:
        """step.memos: for each row one for each hook -> (N, V) float32 scores.

        Raises ArgumentError for what a hook that is not genctl's may not answer (`checked`).
        """
        scores = step.raw
        for h, hook in enumerate(self._hooks):
            mine = replace(step, memos=[memos[h] for memos in step.memos]) if hook.remembers else step
            scores = hook(mine, scores) if _is_own(hook) else _asked(hook, mine, scores)
        return scores


def _is_own(hook: Hook) -> bool:
    """Is it one of genctl's, which keeps the laws (tests/laws/test_hook.py)? Those that wrap something check it."""
    return type(hook).__module__.partition(".")[0] == "genctl"


def _asked(hook: Hook, step: Step, scores: F32) -> F32:
    """What a hook of the user's answers, who may write into the scores."""
    return checked(hook, scores, hook(guarded(step), scores.copy()))


def _bound(hook: Hook, vocabulary: Vocabulary) -> Hook:
    bound = hook.bind(vocabulary)
    if not isinstance(bound, Hook):
        raise ArgumentError(f"{hook!r} was bound to a vocabulary as {bound!r}\nhint: return the hook from bind")
    return bound


def _check_declared(hook: Hook) -> None:
    """What a class says of itself."""
    told = {
        "slot": (hook.slot is None or isinstance(hook.slot, Slot), "a Slot or None"),
        "auxiliaries": (_all_are(hook.auxiliaries, Auxiliary), "a tuple of Auxiliary(...)"),
        "layers": (_all_are(hook.layers, int | np.integer), "a list of numbers of layers"),
    }
    for name, (holds, expected) in told.items():
        if not holds:
            raise ArgumentError(f"{hook!r} has the {name} {getattr(hook, name)!r}, expected {expected}")
    for name in ("begin", "advance") if hook.remembers else ():
        if getattr(type(hook), name) is getattr(Hook, name):
            raise ArgumentError(f"{hook!r} says that it remembers, but has no {name} of its own")


def _all_are(given: Any, kind: Any) -> bool:
    return isinstance(given, Sequence) and all(isinstance(one, kind) for one in given)


def _check_order(hooks: Sequence[Hook]) -> None:
    slotted = [hook for hook in hooks if hook.slot is not None]
    for first, second in pairwise(slotted):
        if first.slot is not None and second.slot is not None and first.slot > second.slot:
            order = ", ".join(slot.name.lower() for slot in Slot)
            raise ArgumentError(
                f"{first!r} ({first.slot.name.lower()}) stands before {second!r} ({second.slot.name.lower()}), "
                f"but the order is {order}\nhint: change their places, or keep yours with Stack(hooks, any_order=True)"
            )


def as_hook(given: Any) -> Hook:
    """A hook, a transformers LogitsProcessor, or a function of (logits) or of (step, logits).

    Raises ArgumentError for anything else.
    """
    if isinstance(given, Hook):
        _check_declared(given)
        return given
    if isinstance(given, Stack):
        raise ArgumentError("a stack is no hook\nhint: give its hooks: [*stack, another]")
    if isinstance(given, type) or not callable(given):
        hint = "call the class with its arguments" if isinstance(given, type) else "see docs/steering.md"
        raise ArgumentError(f"{given!r} is no hook\nhint: {hint}")
    if any(cls.__name__ == "LogitsProcessor" and "transformers" in cls.__module__ for cls in type(given).__mro__):
        from genctl.steering.processors import from_processor

        return from_processor(given)
    count, named = _required(given)
    if count not in (1, 2) or named:
        told = f"{count} arguments" + (f" and has to be given {', '.join(named)}" if named else "")
        raise ArgumentError(
            f"{name_of(given)} takes {told}\nhint: a hook is a function of (logits) or of (step, logits)"
        )
    return Function(given, of_step=count == 2)


def _required(function: Callable[..., Any]) -> tuple[int, list[str]]:
    """How many arguments have no default, 1 for a function that does not say; and those that go by name alone."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # of one that is not written in Python
        return 1, []
    missing = [one for one in parameters if one.default is one.empty and one.kind is not one.VAR_KEYWORD]
    named = [one.name for one in missing if one.kind is one.KEYWORD_ONLY]
    if any(one.kind is one.VAR_POSITIONAL for one in missing):
        return 1, named
    return len(missing) - len(named), named


@dataclass(frozen=True)
class Function(Hook):
    """A function of the (N, V) logits, torch where the model answers torch, or of the step and the logits.

    It gets a copy, and what it returns is checked: a pure function, row by row, that makes nothing possible.
    """

    function: Callable[..., Any]
    of_step: bool = False

    @property
    def needs_prompt(self) -> bool:
        """Nobody knows what it reads of a step."""
        return self.of_step

    def __repr__(self) -> str:
        return f"Function({name_of(self.function)})"

    def __call__(self, step: Step, scores: F32, /) -> F32:
        given = like_the_model(step, scores.copy())
        answer = self.function(guarded(step), given) if self.of_step else self.function(given)
        return checked(name_of(self.function), scores, answer)


def like_the_model(step: Step, scores: F32) -> Any:
    """A tensor on the model's device where it answers tensors; on the CPU it shares the array's memory."""
    if step.device is None:
        return scores
    import torch

    return torch.from_numpy(scores).to(step.device)


def guarded(step: Step) -> Step:
    """The step for those who might write into it: they cannot, or it is a copy."""
    return replace(
        step,
        contexts=[_read_only(context) for context in step.contexts],
        prompt_lengths=_read_only(step.prompt_lengths),
        raw=_read_only(step.raw),
        laws={auxiliary: _read_only(law) for auxiliary, law in step.laws.items()},
        hidden={layer: states.clone() for layer, states in step.hidden.items()},
    )


def _read_only(array: Any) -> Any:
    view = array.view()
    view.flags.writeable = False
    return view


def checked(name: object, scores: F32, answer: Logits) -> F32:
    """The new scores. name: of the hook, or itself, whose text is made in errors alone.

    Raises ArgumentError for what are no numbers or of a wrong shape, NaN, +inf, or what makes the impossible possible.
    """
    if not hasattr(answer, "shape") or tuple(answer.shape) != scores.shape:
        found = tuple(answer.shape) if hasattr(answer, "shape") else type(answer).__name__
        raise ArgumentError(f"the hook {name} returned {found}, expected logits of the shape {scores.shape}")
    if not NUMBERS.match(str(getattr(answer, "dtype", None))):
        kind = f"{type(answer).__name__} of {getattr(answer, 'dtype', None)}"
        raise ArgumentError(f"the hook {name} returned {kind}, expected an array or tensor of floats")
    with np.errstate(over="ignore"):  # +inf is looked for below; less than float32 can say is impossible
        after = host_logits(answer)
    if not (after < np.inf).all():  # NaN is not below either
        raise ArgumentError(f"the hook {name} returned NaN or +inf\nhint: -inf less -inf is NaN; leave -inf as it is")
    grown = (scores == -np.inf) & (after > -np.inf)
    if grown.any():
        token = int(np.argwhere(grown)[0, 1])
        raise ArgumentError(f"the hook {name} gives token {token} a logit, which was impossible before (-inf)")
    return after


NUMBERS = re.compile(r"(torch\.)?(b?float|u?int)\d+\Z")  # names of dtypes, of arrays and tensors


def name_of(given: Any) -> str:
    """A text that tells it from others: where it was defined if it has a name there, else its repr."""
    name = getattr(given, "__qualname__", None)
    return repr(given) if name is None or "<" in name else f"{given.__module__}.{name}"
