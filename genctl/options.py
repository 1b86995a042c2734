"""The arguments of `generate`: what they are called, what is refused, and what becomes of them."""

from __future__ import annotations

import difflib
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypedDict, TypeGuard, cast

import numpy as np
from numpy.random import Generator

from genctl.constraints.notations import as_rule
from genctl.constraints.rules import Rule
from genctl.errors import ArgumentError
from genctl.models.base import LanguageModel, Messages, Prompt, is_weighted, refuse_weighted
from genctl.models.prompts import takes
from genctl.models.sets import SetPrompt
from genctl.samplers.base import TokenSampler, unconstrained
from genctl.samplers.masked import greedy, likeliest, masked
from genctl.samplers.rejection import awrs
from genctl.samplers.resampling import SCHEMES
from genctl.samplers.smc import Settings
from genctl.steering.base import Hook, Stack
from genctl.steering.basic import MinP, Temperature, TopK, TopP
from genctl.steering.checks import check_flag
from genctl.steering.model import BINDINGS, MEANINGS, Steered
from genctl.steering.observers import SELECTORS, Confidence, Divergence

Ids: TypeAlias = Sequence[int]
Batch: TypeAlias = list[str] | list[bytes] | list[Messages] | list[Ids] | list[SetPrompt]
Progress: TypeAlias = bool | Callable[[int, int], None]  # called with (tokens made, most tokens there may be)

SAMPLERS: dict[str, TokenSampler] = {"awrs": awrs, "smc": awrs, "masked": masked}
EXACT = {"exact": True, "rejection": False}  # do they learn from what was refuted?
SMC_PARTICLES = 16
MOST_TEXTS = 1_000_000  # of one prompt, which take gigabytes
LARGEST = sys.float_info.max  # integers may be larger


class Options(TypedDict, total=False):
    """The keyword arguments of `generate`, for type checkers."""

    max_new_tokens: int
    wrap_up: bool
    do_sample: bool
    temperature: float
    top_k: int | None
    top_p: float | None
    min_p: float | None
    num_particles: int | None
    method: str | TokenSampler
    steering: Sequence[Any] | None
    binding: str | None
    critic: Any
    select: str | Callable[[Any], float] | None
    resampling: str
    ess_threshold: float
    min_ess: float | None
    max_particles: int
    max_time: float | None
    max_tries: int
    batch_size: int
    exact_boundary: bool | None
    resume: Mapping[str, Any] | None
    seed: int | None
    generator: Any
    progress: Progress
    generation_config: Any


@dataclass(frozen=True, kw_only=True)
class Call:
    """The arguments of one call of `generate`. Raises ArgumentError for those that mean nothing."""

    prompt: Any
    constraint: Any
    max_new_tokens: int
    wrap_up: bool
    do_sample: bool
    temperature: float
    top_k: int | None
    top_p: float | None
    min_p: float | None
    num_return_sequences: int
    num_particles: int | None
    method: str | TokenSampler
    steering: Sequence[Any] | None
    binding: str | None
    critic: Any
    select: str | Callable[[Any], float] | None
    resampling: str
    ess_threshold: float
    min_ess: float | None
    max_particles: int
    max_time: float | None
    max_tries: int
    batch_size: int
    exact_boundary: bool | None
    resume: Mapping[str, Any] | None
    seed: int | None
    generator: Any
    progress: Progress
    generation_config: Any

    def __post_init__(self) -> None:
        sampler_of(self.method)
        check_counts(self.counts)
        if self.num_return_sequences * self.size > MOST_TEXTS:
            raise ArgumentError(
                f"num_return_sequences is {self.num_return_sequences}, num_particles {self.size}: more than "
                f"{MOST_TEXTS:,} texts\nhint: ask for less at a time"
            )
        check_flag("wrap_up", self.wrap_up)
        check_flag("do_sample", self.do_sample)
        check_flag("exact_boundary", False if self.exact_boundary is None else self.exact_boundary)
        if not callable(self.progress):
            check_flag("progress", self.progress)
        check_number("ess_threshold", self.ess_threshold, 0, 1)
        check_number("min_ess", 0.0 if self.min_ess is None else self.min_ess, 0, math.inf)
        check_number("max_time", 0.0 if self.max_time is None else self.max_time, 0, math.inf)

    @property
    def size(self) -> int:
        """Particles of a run."""
        return self.num_particles if self.num_particles is not None else SMC_PARTICLES if self.method == "smc" else 1

    @property
    def counts(self) -> dict[str, int]:
        return {
            "max_new_tokens": self.max_new_tokens,
            "num_return_sequences": self.num_return_sequences,
            "num_particles": self.size,
            "max_particles": self.max_particles,
            "max_tries": self.max_tries,
            "batch_size": self.batch_size,
        }

    @property
    def filters(self) -> dict[str, Hook]:
        """Temperature and filters."""
        return hooks_of(self.temperature, self.top_k, self.top_p, self.min_p)

    @property
    def has_weights(self) -> bool:
        """Do texts have weights, so that it matters how hooks are bound?"""
        ruled = self.constraint is not None or self.critic is not None
        return bool(ruled or self.size > 1 or self.min_ess or self.method in (*EXACT,))

    def settings(self) -> Settings:
        return Settings(
            sampler=sampler_of(self.method) if self.do_sample else greedy,
            free=unconstrained if self.do_sample else likeliest,
            resample=resampler_of(self.resampling),
            ess_threshold=self.ess_threshold,
            max_new_tokens=self.max_new_tokens,
        )

    def refuse_with_greedy(self, model: LanguageModel[Any]) -> None:
        """What do_sample=False would have to ignore. model: as steered."""
        given = {
            "num_particles": self.size > 1,
            "num_return_sequences": self.num_return_sequences > 1,
            "min_ess": self.min_ess,
            "binding": self.binding not in (None, "target"),
            "critic": self.critic is not None,
            "method": self.method not in ("awrs", "masked"),
            "a model of weighted texts": is_weighted(model),
        }
        names = [name for name, value in given.items() if value]
        if names and not self.do_sample:
            raise ArgumentError(
                "do_sample=False gives one text, the likeliest token at each step: it does not go with "
                f"{', '.join(names)}\nhint: it has one particle and one sequence, and takes tokens from masks"
            )


def refuse_unknown(unknown: Iterable[str], known: Sequence[str], function: str = "generate") -> None:
    for name in unknown:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}?" if near else "known are " + ", ".join(known)
        raise ArgumentError(f"{function}() has no argument {name!r}\nhint: {hint}")


def check_counts(counts: Mapping[str, object]) -> None:
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
            raise ArgumentError(f"{name} is {count!r}, it must be an integer of at least 1")


def check_number(name: str, number: Any, least: float, most: float) -> None:
    kinds = (int, float, np.floating, np.integer)
    if (
        isinstance(number, bool)
        or not isinstance(number, kinds)
        or not least <= number <= most
        or LARGEST < number < np.inf
    ):
        bounds = f"in [{least:g}, {most:g}]" if most < np.inf else f"a number of at least {least:g}"
        raise ArgumentError(f"{name} is {number!r}, it must be {bounds}")


def check_choice(name: str, choice: object, table: Mapping[str, Any], hint: str = "") -> None:
    if not isinstance(choice, str) or choice not in table:
        near = difflib.get_close_matches(str(choice), table, 1)
        hint = f"did you mean {near[0]!r}?" if near else hint
        raise ArgumentError(
            f"{name} is {choice!r}, it must be one of {', '.join(table)}" + (f"\nhint: {hint}" if hint else "")
        )


def sampler_of(method: str | TokenSampler) -> TokenSampler:
    if callable(method):
        return method
    check_choice("method", method, {**SAMPLERS, **EXACT})
    return SAMPLERS.get(method, awrs)


def exact_of(method: str | TokenSampler, model: LanguageModel[Any]) -> bool | None:
    """Does an exact method learn from what was refuted? None for one that goes symbol by symbol."""
    exact = EXACT.get(method) if isinstance(method, str) else None
    if exact is not None and is_weighted(model):
        raise ArgumentError(
            f"method={method!r} samples the model symbol by symbol, but the law of this model is one of whole texts"
            '\nhint: use method="smc"'
        )
    return exact


def resampler_of(resampling: str) -> Callable[[Generator, Any], Any]:
    check_choice("resampling", resampling, SCHEMES)
    return SCHEMES[resampling]


def hooks_of(temperature: float, top_k: int | None, top_p: float | None, min_p: float | None) -> dict[str, Hook]:
    """Of the arguments that ask for something, by their names. In the order of transformers: temperature, filters."""
    heat = Temperature(temperature)
    hooks: dict[str, Hook] = {} if heat.temperature == 1 else {"temperature": heat}
    if top_k is not None:
        hooks["top_k"] = TopK(top_k)
    if top_p is not None:
        hooks["top_p"] = TopP(top_p)
    if min_p is not None:
        hooks["min_p"] = MinP(min_p)
    return hooks


def steered(
    model: LanguageModel[Any],
    hooks: Sequence[Hook],
    steering: Sequence[Any] | None,
    binding: str | None,
    weighted: bool,
) -> LanguageModel[Any]:
    """The model under its hooks. hooks: temperature and filters, which change the law whatever the binding of the
    others. weighted: are there weights, so that it matters how they are bound?
    """
    if binding is not None:
        check_choice("binding", binding, BINDINGS, MEANINGS)
    if steering is None and binding is not None:
        raise ArgumentError(f"binding={binding!r} says how steering is bound, but no steering is given")
    if not steering:  # a list without hooks may be bound, which says nothing
        return Steered(model, hooks) if hooks else model
    if binding is None:
        if weighted:
            raise ArgumentError(
                "steering with a rule, a critic, particles, min_ess or an exact method needs binding=, since its "
                f"meanings differ\nhint: {MEANINGS}"
            )
        binding = "target"
    stack = Stack(steering)
    if binding == "target":
        return Steered(model, Stack([*stack, *hooks], any_order=stack.any_order))
    return Steered(Steered(model, hooks) if hooks else model, stack, binding)


def selector_of(select: object, sequences: int, model: LanguageModel[Any]) -> Any:
    """A selector (steering/observers.py), a function of a Generation, or None. model: what selectors score by."""
    if select is None:
        return None
    if sequences == 1:
        raise ArgumentError("select= ranks several texts\nhint: num_return_sequences=8, say")
    if callable(select) and not isinstance(select, Confidence | Divergence):
        if isinstance(select, type) or not takes(select, 1):
            raise ArgumentError(f"select is {select!r:.60}, it must be a function of one Generation")
        return select
    refuse_weighted(model, "scores of its tokens", "give a function of a Generation")
    if isinstance(select, Confidence | Divergence):
        return select
    check_choice("select", select, SELECTORS)
    return SELECTORS[cast(str, select)]


def prompts_of(prompt: Prompt | Ids | Batch) -> tuple[list[Prompt | Ids], bool]:
    """The prompts, and whether a list of them was given, as against one text, list of messages or of token ids."""
    if isinstance(prompt, SetPrompt):
        return [prompt], False
    if not isinstance(prompt, Sequence):
        kinds = "text, bytes, chat messages, a list of token ids, a SetPrompt, or a list of those"
        raise ArgumentError(f"prompt is {type(prompt).__name__}; give {kinds}")
    if isinstance(prompt, str | bytes) or are_ids(prompt) or are_messages(prompt):
        return [cast(Prompt, prompt)], False
    if not prompt:
        raise ArgumentError("prompt is an empty list")
    for i, one in enumerate(prompt):
        if not isinstance(one, str | bytes | SetPrompt) and not are_ids(one) and not are_messages(one):
            raise ArgumentError(
                f"prompt[{i}] is {one!r:.60}, expected text, bytes, chat messages, token ids or a SetPrompt"
            )
    return list(cast(Batch, prompt)), True


def are_ids(prompt: Any) -> TypeGuard[Ids]:
    """Token ids, which are taken as they are."""
    return _all(prompt, lambda item: isinstance(item, int | np.integer) and not isinstance(item, bool))


def are_messages(prompt: Any) -> bool:
    return _all(prompt, lambda item: isinstance(item, Mapping))


def _all(prompt: Any, holds: Callable[[Any], bool]) -> bool:
    """Is it a list of such things, and not empty?"""
    return (
        isinstance(prompt, Sequence)
        and not isinstance(prompt, str | bytes)
        and bool(prompt)
        and all(map(holds, prompt))
    )


def rules_of(constraint: Any, prompts: Sequence[Prompt | Ids], batched: bool) -> list[Rule | None]:
    """A rule for each prompt."""
    if isinstance(constraint, list):
        if not batched or len(constraint) != len(prompts):
            raise ArgumentError(f"{len(constraint)} constraints for {len(prompts) if batched else 'a single'} prompts")
        return [as_rule(one) for one in constraint]
    return [as_rule(constraint)] * len(prompts)


def seed_of(seed: int | None, generator: Any) -> int:
    """A seed: the given one, the next number of numpy's or torch's generator, or a fresh one."""
    if generator is None:
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0):
            raise ArgumentError(f"seed is {seed!r}, it must be an integer of at least 0")
        return int(np.random.SeedSequence().generate_state(1, np.uint64)[0]) if seed is None else int(seed)
    if seed is not None:
        raise ArgumentError("give either seed or generator, not both")
    if isinstance(generator, Generator):
        return int(generator.integers(2**63))
    if hasattr(generator, "initial_seed"):
        from genctl.models.base import torch_seed

        return torch_seed(generator)
    raise ArgumentError(f"generator is {generator!r}, it must be a numpy.random.Generator or a torch.Generator")
