"""What a GenerationConfig of transformers asks for: each of its fields is honoured, or refused by name.

    told = arguments_of({"temperature": 0.7, "repetition_penalty": 1.1}, vocabulary)
    print(table())                                              # the table of docs/transformers.md

A field that is None asks for nothing. A field that is in no table here is refused too, so that what a later version
of transformers adds is never lost.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from genctl.errors import ArgumentError
from genctl.steering.base import Hook, as_hook
from genctl.steering.basic import MinP, Temperature, TopK, TopP, TypicalP
from genctl.steering.bias import Forbidden
from genctl.steering.checks import check_count, check_flag, check_number, ids_of
from genctl.steering.penalties import NoRepeat, RepetitionPenalty
from genctl.vocabulary import Vocabulary

Eos = frozenset[int]


class Made(NamedTuple):
    """A field that becomes a hook. sampling: transformers uses it with do_sample=True only, and so is it used here."""

    neutral: tuple[Any, ...]
    how: str
    hook: Callable[[Any, Eos], Hook]
    sampling: bool = False


class Refused(NamedTuple):
    """neutral: the values, besides None, that ask for nothing."""

    neutral: tuple[Any, ...] = ()
    hint: str = ""


def _of_transformers(name: str) -> Callable[[Any, Eos], Hook]:
    def made(value: Any, _eos: Eos) -> Hook:
        import transformers

        return as_hook(getattr(transformers, name)(value))

    return made


def _warper(name: str) -> Callable[[Any, Eos], Hook]:
    """One that takes a number; some take NaN too, which does nothing."""
    made = _of_transformers(name)
    return lambda value, eos: made(check_number("it", value), eos)


def _bad_words(value: Any, eos: Eos) -> Hook:
    import transformers

    return as_hook(transformers.NoBadWordsLogitsProcessor(value, sorted(eos)))


def _no_end_before(count: Any, eos: Eos) -> Hook:
    check_count("it", count, least=0)
    return Forbidden(tuple(sorted(eos)), count)


OPTIONS = {
    "max_new_tokens": "the argument; the end of the text is not counted",
    "do_sample": "the argument; filters of the sampling law are not used with False",
    "num_return_sequences": "the argument",
    "max_time": "the argument, seconds",
}

# In the order in which transformers applies them.
HOOKS: dict[str, Made] = {
    "sequence_bias": Made((), "a hook, of transformers", _of_transformers("SequenceBiasLogitsProcessor")),
    "repetition_penalty": Made((1.0,), "a hook", lambda value, _: RepetitionPenalty(value)),
    "no_repeat_ngram_size": Made((0,), "a hook", lambda n, _: NoRepeat(n)),
    "bad_words_ids": Made((), "a hook, of transformers", _bad_words),
    "min_new_tokens": Made((0,), "a hook: no end before", _no_end_before),
    "suppress_tokens": Made((), "a hook", lambda ids, _: Forbidden(ids_of("it", ids))),
    "begin_suppress_tokens": Made((), "a hook: not as the first token", lambda ids, _: Forbidden(ids_of("it", ids), 1)),
    "temperature": Made((1.0,), "a hook", lambda value, _: Temperature(value), sampling=True),
    "top_h": Made((), "a hook, of transformers", _warper("TopHLogitsWarper"), sampling=True),
    "top_k": Made((0,), "a hook, before the rule", lambda value, _: TopK(value), sampling=True),
    "top_p": Made((1.0,), "a hook, before the rule", lambda value, _: TopP(value), sampling=True),
    "min_p": Made((0.0,), "a hook, before the rule", lambda value, _: MinP(value), sampling=True),
    "typical_p": Made((1.0,), "a hook", lambda value, _: TypicalP(value), sampling=True),
    "epsilon_cutoff": Made((0.0,), "a hook, of transformers", _warper("EpsilonLogitsWarper"), sampling=True),
    "eta_cutoff": Made((0.0,), "a hook, of transformers", _warper("EtaLogitsWarper"), sampling=True),
}

OTHERS = {
    "eos_token_id": "exactly these ids end a text; refused where one of them is text",
    "pad_token_id": "fills rows inside `model.generate`; elsewhere there is no padding",
    "bos_token_id": "refused where it is another than the tokenizer's, which opens an empty prompt",
    "renormalize_logits": "holds anyway: a law is normalised",
    "disable_compile": "holds anyway: nothing is compiled",
    "transformers_version": "says nothing about texts",
}

VALUES: dict[str, Callable[[str, Any], object]] = {
    "do_sample": check_flag,
    "renormalize_logits": check_flag,
    "disable_compile": check_flag,
    "pad_token_id": ids_of,
    "bos_token_id": ids_of,
}

INSIDE = {  # what `custom_generate` can honour
    "max_length": "inside `model.generate`: less the padded prompt; elsewhere refused, use max_new_tokens",
    "min_length": "inside `model.generate`: less the padded prompt; elsewhere refused, use min_new_tokens",
    "return_dict_in_generate": "inside `model.generate`: with log_weights and finish reasons; elsewhere refused",
}

_PARTICLES = "num_particles= explores more than one text"
_ASSISTANT = "there is no assistant"

REFUSED: dict[str, Refused] = {
    "max_length": Refused((), "use max_new_tokens"),
    "min_length": Refused((0,), "use min_new_tokens"),
    "return_dict_in_generate": Refused((False,), "`generate` returns a Generation"),
    "num_beams": Refused((1,), _PARTICLES),
    "num_beam_groups": Refused((1,), _PARTICLES),
    "diversity_penalty": Refused((0.0,), _PARTICLES),
    "early_stopping": Refused((False,), _PARTICLES),
    "length_penalty": Refused((1.0,), _PARTICLES),
    "low_memory": Refused((False,)),
    "penalty_alpha": Refused((0.0,)),
    "dola_layers": Refused(),
    "constraints": Refused((), "give a rule"),
    "force_words_ids": Refused((), "give a rule: genctl.substring"),
    "stop_strings": Refused((), "give a rule: genctl.until"),
    "forced_bos_token_id": Refused(),
    "forced_eos_token_id": Refused((), "a rule is complete within max_new_tokens"),
    "remove_invalid_values": Refused((False,), "NaN is an error here"),
    "exponential_decay_length_penalty": Refused(),
    "token_healing": Refused((False,), "lm.bytes() takes prompts that end anywhere"),
    "guidance_scale": Refused((1, 1.0), "see docs/steering.md for guidance"),
    "watermarking_config": Refused((), "give the processor: steering=[transformers.WatermarkLogitsProcessor(...)]"),
    "encoder_repetition_penalty": Refused((1.0,)),
    "encoder_no_repeat_ngram_size": Refused((0,)),
    "decoder_start_token_id": Refused(),
    "output_attentions": Refused((False,)),
    "output_hidden_states": Refused((False,)),
    "output_scores": Refused((False,), "a Generation has logprob and log_weight"),
    "output_logits": Refused((False,), "a Generation has logprob and log_weight"),
    "use_cache": Refused((True,), "genctl keeps a cache of its own"),
    "cache_implementation": Refused(("dynamic",), "genctl keeps a cache of its own"),
    "cache_config": Refused((), "genctl keeps a cache of its own"),
    "max_cache_len": Refused((), "genctl keeps a cache of its own"),
    "prefill_chunk_size": Refused(),
    "compile_config": Refused(),
    "continuous_batching_config": Refused(),
    "is_assistant": Refused((False,), _ASSISTANT),
    "num_assistant_tokens": Refused((20,), _ASSISTANT),
    "num_assistant_tokens_schedule": Refused(("constant",), _ASSISTANT),
    "assistant_confidence_threshold": Refused((0.4,), _ASSISTANT),
    "assistant_lookbehind": Refused((10,), _ASSISTANT),
    "target_lookbehind": Refused((10,), _ASSISTANT),
    "assistant_early_exit": Refused((), _ASSISTANT),
    "assistant_ensemble_weight": Refused((), _ASSISTANT),
    "prompt_lookup_num_tokens": Refused((), _ASSISTANT),
    "max_matching_ngram_size": Refused((), _ASSISTANT),
    "speculation_type": Refused((), _ASSISTANT),
    "use_mtp": Refused((False,), _ASSISTANT),
}


class Arguments(NamedTuple):
    """options: arguments of `generate`. names: of the fields that ask for something. eos: None as ever.

    penalties, filters: hooks in transformers' order; a user's own stand between them.
    """

    names: list[str]
    options: dict[str, Any]
    penalties: list[Hook]
    filters: list[Hook]
    eos: Eos | None

    @property
    def hooks(self) -> list[Hook]:
        return [*self.penalties, *self.filters]


def arguments_of(
    config: Any,
    vocabulary: Vocabulary,
    tokenizer: Any = None,
    *,
    do_sample: bool = True,
    also: Mapping[str, Hook] | None = None,
) -> Arguments:
    """What `generate` makes of a GenerationConfig, or of a dict with some of its fields.

    do_sample: the argument. also: hooks of arguments, by the name of the field: they take its place in the order.

    Raises ArgumentError for a field that cannot be honoured, with its name.
    """
    asked = asked_for(config)
    _check_values(asked)
    options = {name: asked[name] for name in OPTIONS if name in asked}
    eos = eos_of(asked.get("eos_token_id"), vocabulary)
    begin = getattr(tokenizer, "bos_token_id", None)
    if "bos_token_id" in asked and ids_of("it", asked["bos_token_id"]) != (begin,):
        hint = f"an empty prompt begins with the tokenizer's own, {begin}"
        raise _refusal("bos_token_id", asked["bos_token_id"], hint)
    ends, own = vocabulary.eos if eos is None else eos, also or {}
    penalties, filters = (made_of(asked, vocabulary, ends, sampling=sampling) for sampling in (False, True))
    if not asked.get("do_sample", do_sample):
        filters = {}  # but those of arguments hold, as they do without a config
    ordered = [own.get(name, filters.get(name)) for name in HOOKS]
    return Arguments(list(asked), options, [*penalties.values()], [hook for hook in ordered if hook], eos)


def asked_for(config: Any, inside: bool = False) -> dict[str, Any]:
    """The fields that ask for something. inside: `model.generate`, where INSIDE are honoured."""
    given = config if isinstance(config, Mapping) else _fields(config)
    asked = {}
    for name, value in given.items():
        if not isinstance(name, str):
            raise ArgumentError(f"generation_config has the field {name!r}, but fields have names")
        if value is None or (inside and name in REFUSED and name in INSIDE):
            asked.update({} if value is None else {name: value})
        elif name in REFUSED:
            if not _among(value, REFUSED[name].neutral):
                raise _refusal(name, value, REFUSED[name].hint)
        elif name in HOOKS:
            asked.update({} if _among(value, HOOKS[name].neutral) else {name: value})
        elif name in OPTIONS or name in OTHERS:
            asked[name] = value
        else:
            near = difflib.get_close_matches(name, [*OPTIONS, *HOOKS, *OTHERS, *REFUSED], 1)
            raise _refusal(name, value, f"did you mean {near[0]}?" if near else "genctl does not know this field")
    return asked


def made_of(asked: Mapping[str, Any], vocabulary: Vocabulary, eos: Eos, *, sampling: bool) -> dict[str, Hook]:
    """Hooks by field, in transformers' order. Raises ArgumentError for a value that transformers or genctl refuses."""
    hooks = {}
    for name, made in HOOKS.items():
        if name in asked and made.sampling == sampling:
            try:
                hooks[name] = made.hook(asked[name], eos).bind(vocabulary)
            except (TypeError, ValueError, LookupError, AttributeError, RuntimeError) as error:  # of transformers
                raise _refusal(name, asked[name], str(error)) from error
    return hooks


def _check_values(asked: Mapping[str, Any]) -> None:
    """Of fields that become no hooks and no other argument of `generate`."""
    for name, check in VALUES.items():
        if name in asked:
            try:
                check("it", asked[name])
            except ArgumentError as error:
                raise _refusal(name, asked[name], str(error)) from error


def eos_of(value: Any, vocabulary: Vocabulary) -> Eos | None:
    """The ids that end a text, None for those of the vocabulary. Raises ArgumentError for an id that is text."""
    if value is None:
        return None
    try:
        eos = frozenset(ids_of("it", value))
    except ArgumentError as error:
        raise _refusal("eos_token_id", value, str(error)) from error
    if not eos:
        raise _refusal("eos_token_id", value, "some id has to end a text; genctl.until ends one behind some text")
    for i in eos:
        if not 0 <= i < len(vocabulary) or vocabulary.tokens[i]:
            what = f"the text {vocabulary.tokens[i]!r}" if 0 <= i < len(vocabulary) else "outside the vocabulary"
            raise _refusal("eos_token_id", value, f"id {i} is {what}; genctl.until ends a text behind some text")
    return None if eos == vocabulary.eos else eos


def table() -> str:
    """Markdown: every field, and what becomes of it."""
    rows = {name: ("honoured", how) for name, how in {**OPTIONS, **OTHERS}.items()}
    rows |= {name: ("honoured", made.how) for name, made in HOOKS.items()}
    for name, refused in REFUSED.items():
        besides = f" but {', '.join(f'`{value!r}`' for value in refused.neutral)}" if refused.neutral else ""
        rows[name] = (f"refused{besides}", refused.hint)
    rows |= {name: ("in part", how) for name, how in INSIDE.items()}
    lines = [f"| `{name}` | {verdict} | {how} |" for name, (verdict, how) in sorted(rows.items())]
    return "\n".join(["| field | | how, or what instead |", "| --- | --- | --- |", *lines])


def _fields(config: Any) -> dict[str, Any]:
    try:
        return {name: value for name, value in vars(config).items() if not name.startswith("_")}
    except TypeError as error:
        raise ArgumentError(
            f"generation_config is {config!r}, expected a transformers.GenerationConfig or a dict of its fields"
        ) from error


def _among(value: Any, neutral: Sequence[Any]) -> bool:
    return any(type(value) in (type(one), int, float) and value == one for one in neutral)


def _refusal(name: str, value: Any, hint: str) -> ArgumentError:
    shown = repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "..."
    return ArgumentError(
        f"generation_config.{name} is {shown}, which cannot be honoured" + (f"\nhint: {hint}" if hint else "")
    )
