"""The loop of genctl inside `model.generate` of transformers: samples of the model conditioned on a rule.

    loop = genctl.custom_generate(Trip, tokenizer, num_particles=8)
    ids = model.generate(**inputs, custom_generate=loop, do_sample=True, max_new_tokens=80)

What `model.generate` is told holds here too, field by field (integrations/generation_config.py), or is refused.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from genctl.constraints.notations import as_rule
from genctl.errors import ArgumentError
from genctl.generate import KNOWN, Model
from genctl.integrations.generation_config import HOOKS, OPTIONS, asked_for, eos_of
from genctl.models.fim import Ending
from genctl.options import Ids, check_choice, check_counts, refuse_unknown, sampler_of, seed_of
from genctl.results import Generation
from genctl.steering.base import Hook, Stack, as_hook
from genctl.steering.bias import Forbidden
from genctl.steering.checks import ids_of
from genctl.steering.model import BINDINGS, MEANINGS
from genctl.steering.penalties import RepetitionPenalty

if TYPE_CHECKING:
    import torch

SAID_THERE = {*OPTIONS, *HOOKS, "prompt", "constraint", "generation_config"}  # by `model.generate`
UNSAID = {"resume", "select", "exact_boundary"}  # nothing is resumed, ranked, or known of the prompt but its tokens
SAID_HERE = [name for name in KNOWN if name not in SAID_THERE | UNSAID]
EXPECTED = {"attention_mask", "position_ids", "use_cache", "logits_to_keep", "past_key_values", "synced_gpus"}


def custom_generate(constraint: Any, tokenizer: Any, **options: Any) -> RuleLoop:
    """For `model.generate(..., custom_generate=...)`: texts that obey the rule, weighted as those of `generate`.

    constraint: as in `generate`, or a list with one rule for each prompt of the batch. options: of `generate`, those
    that `model.generate` has no word for: num_particles, method, critic, steering, binding, seed ... Without a seed
    torch's generator is asked, so torch.manual_seed holds. `return_dict_in_generate=True` gives the weights too.

    Raises ConstraintError or ArgumentError when it is made; VocabularyError or ModelError where it is used with a model
    that does not go with the tokenizer, or that genctl cannot run; ArgumentError for what it cannot honour.
    """
    refuse_unknown([name for name in options if name not in SAID_HERE], SAID_HERE, "custom_generate")
    _check_options(**options)
    rules = constraint if isinstance(constraint, list) else [constraint]
    if not rules:
        raise ArgumentError("constraint is an empty list\nhint: give a rule for each prompt, or one for all, or None")
    return RuleLoop([as_rule(one) for one in rules], tokenizer, options)


def _check_options(
    *,
    steering: Any = None,
    binding: Any = None,
    method: Any = "awrs",
    seed: Any = None,
    generator: Any = None,
    **others: Any,
) -> None:
    """What can be told before there is a model."""
    Stack([] if steering is None else steering)
    if binding is not None:
        check_choice("binding", binding, BINDINGS, MEANINGS)
    sampler_of(method)
    if generator is None:
        seed_of(seed, None)
    counts = ("num_particles", "max_particles", "max_tries", "batch_size")
    check_counts({name: others[name] for name in counts if others.get(name) is not None})


class RuleLoop:
    """What `model.generate` calls in place of its own decoding."""

    def __init__(self, rules: Sequence[Any], tokenizer: Any, options: dict[str, Any]) -> None:
        self._rules, self._tokenizer, self._options = rules, tokenizer, options
        self._last: Any = None  # the model that came last, as genctl sees it

    def __call__(
        self,
        model: Any,
        input_ids: torch.Tensor,
        logits_processor: Iterable[Any] = (),
        stopping_criteria: Iterable[Any] = (),
        generation_config: Any = None,
        **model_kwargs: Any,
    ) -> Any:
        """input_ids (R, t) -> (R, t') with what was generated behind them, or a ModelOutput."""
        _refuse_what_is_not_passed_on(sys._getframe(1))
        asked = asked_for(generation_config, inside=True)
        prompts, length = _prompts(input_ids, model_kwargs), input_ids.shape[1]
        limits = _limits(stopping_criteria, length)
        language_model = self._model(model)
        eos = eos_of(limits.eos, language_model.vocabulary)
        lm = Model(language_model if eos is None else Ending(language_model, eos))
        hooks = [_hook(one, length) for one in logits_processor]
        if hooks:
            lm = lm.steered(Stack(hooks, any_order=True))
        found = lm.generate(
            prompts,
            self._constraints(len(prompts)),
            max_new_tokens=limits.tokens,
            max_time=limits.seconds,
            do_sample=bool(asked.get("do_sample")),
            **self._drawn(),
        )
        return _answer(input_ids, found, asked, sorted(lm.language_model.vocabulary.eos))

    def _model(self, model: Any) -> Any:
        if self._last is None or self._last.model is not model:
            from genctl.models.transformers import TransformersModel

            self._last = TransformersModel(model, self._tokenizer)
        return self._last

    def _constraints(self, count: int) -> list[Any]:
        if count % len(self._rules):
            raise ArgumentError(f"{len(self._rules)} rules for {count} rows of input_ids")
        each = count // len(self._rules)  # returned sequences of a prompt are neighbours
        return [rule for rule in self._rules for _ in range(each)]

    def _drawn(self) -> dict[str, Any]:
        if self._options.get("seed") is not None or self._options.get("generator") is not None:
            return self._options
        import torch

        return {**self._options, "generator": torch.default_generator}


# -- what transformers says


def _refuse_what_is_not_passed_on(frame: Any) -> None:
    """transformers keeps these arguments of `model.generate` from a custom_generate, which would so ignore them."""
    if frame.f_code.co_name != "generate":
        return
    for name in ("streamer", "assistant_model", "negative_prompt_ids"):
        if frame.f_locals.get(name) is not None:
            raise ArgumentError(f"model.generate(..., {name}=...) cannot be honoured by genctl.custom_generate")


def _prompts(input_ids: torch.Tensor, given: dict[str, Any]) -> list[Ids]:
    """The rows without their padding."""
    for name, value in given.items():
        if name not in EXPECTED and value is not None:
            raise ArgumentError(f"genctl.custom_generate has no use for the model's argument {name}")
    held = given.get("past_key_values")
    if held is not None and held.get_seq_length():
        raise ArgumentError("genctl.custom_generate reads the whole prompt itself: past_key_values must be empty")
    mask = given.get("attention_mask")
    kept = np.ones(input_ids.shape, np.bool_) if mask is None else mask.cpu().numpy().astype(np.bool_)
    if (np.abs(np.diff(kept, axis=1)).sum(axis=1) > 1).any():
        raise ArgumentError("attention_mask hides tokens within a prompt\nhint: padding stands before or behind it")
    _check_positions(given.get("position_ids"), kept)
    return [row[keep].tolist() for row, keep in zip(input_ids.cpu().numpy(), kept, strict=True)]


def _check_positions(positions: torch.Tensor | None, kept: np.ndarray[Any, Any]) -> None:
    """Tokens that are no padding are counted from 0."""
    if positions is None:
        return
    counted = np.broadcast_to(positions.cpu().numpy(), kept.shape)
    if (counted[kept] != (kept.cumsum(axis=1) - 1)[kept]).any():
        raise ArgumentError("position_ids are not those of the prompts, counted from 0")


class _Limits(NamedTuple):
    tokens: int
    seconds: float | None
    eos: list[int] | None


def _limits(criteria: Iterable[Any], length: int) -> _Limits:
    """What stops a generation. Raises ArgumentError for criteria that genctl does not know."""
    tokens: list[int] = []
    seconds: list[float] = []
    eos: list[int] = []
    for one in criteria:
        name = type(one).__name__
        if name == "MaxLengthCriteria":
            tokens.append(int(one.max_length) - length)
        elif name == "MaxTimeCriteria":
            seconds.append(one.initial_timestamp + one.max_time - time.time())
        elif name == "EosTokenCriteria":
            eos += one.eos_token_id.reshape(-1).tolist()
        else:
            raise ArgumentError(
                f"genctl.custom_generate cannot stop by {name}\nhint: give a rule (genctl.until), or max_new_tokens"
            )
    return _Limits(min(tokens), max(min(seconds), 0.0) if seconds else None, eos or None)


def _hook(processor: Any, length: int) -> Hook:
    """A processor as a hook. What counts from the padded length of the prompts is counted from each row's own."""
    name = type(processor).__name__
    if name == "MinLengthLogitsProcessor":
        return Forbidden(ids_of("eos_token_id", processor.eos_token_id), processor.min_length - length)
    if name == "MinNewTokensLengthLogitsProcessor":
        return Forbidden(ids_of("eos_token_id", processor.eos_token_id), processor.min_new_tokens)
    if name == "SuppressTokensAtBeginLogitsProcessor":
        ids = ids_of("begin_suppress_tokens", processor.begin_suppress_tokens)
        return Forbidden(ids, processor.begin_index - length + 1)
    if name == "RepetitionPenaltyLogitsProcessor" and not isinstance(processor.prompt_ignore_length, int):
        return RepetitionPenalty(processor.penalty)  # without how much of each row is padding
    return as_hook(processor)


# -- what transformers gets


def _answer(input_ids: torch.Tensor, found: Sequence[Generation], asked: dict[str, Any], eos: list[int]) -> Any:
    """Rows as transformers returns them: the end where there is room for it, then padding."""
    import torch

    ends, limit = asked.get("eos_token_id", eos), asked["max_length"] - input_ids.shape[1]
    end = int(np.atleast_1d(np.asarray(ends))[0])
    pad = asked.get("pad_token_id", end)
    texts = [[*g.tokens, end][:limit] if g.finish_reason in ("complete", "wrapped_up") else [*g.tokens] for g in found]
    more = input_ids.new_full((len(texts), max(map(len, texts))), int(pad))
    for row, text in zip(more, texts, strict=True):
        row[: len(text)] = torch.tensor(text, dtype=more.dtype)
    sequences = torch.cat([input_ids, more], dim=1)
    if not asked.get("return_dict_in_generate"):
        return sequences
    return _output()(
        sequences=sequences,
        log_weights=torch.tensor([g.log_weight for g in found], dtype=torch.float64),
        logprobs=torch.tensor([g.logprob for g in found], dtype=torch.float64),
        log_evidence=torch.tensor([g.log_evidence for g in found], dtype=torch.float64),
        finish_reasons=[g.finish_reason for g in found],
    )


@cache
def _output() -> Callable[..., Any]:
    """Made late, since its base is transformers'."""
    from transformers.generation.utils import GenerateDecoderOnlyOutput

    @dataclass
    class RuleLoopOutput(GenerateDecoderOnlyOutput):  # type: ignore[misc]  # transformers is untyped
        """log_weights, logprobs, log_evidence: (R,) float64, nats, as those of a Generation."""

        log_weights: Any = None
        logprobs: Any = None
        log_evidence: Any = None
        finish_reasons: Any = None

    return RuleLoopOutput
