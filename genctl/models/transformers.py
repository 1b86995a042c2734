"""Causal language models of transformers, with a key/value cache that extends, repeats, drops and re-orders rows.

    model = load_transformers("HuggingFaceTB/SmolLM2-135M-Instruct")       # or a folder, or a .gguf file
    model = load_transformers(loaded_model, tokenizer=tokenizer)
    logits, state = model.prefill([model.encode("Once upon"), model.encode("A")])

Keys and values are stored once a token and shared by the rows that have it (`genctl.models.cache`). A call runs the
model on so many rows at a time that memory stays bounded.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np
import torch

from genctl.errors import ArgumentError, ModelError, VocabularyError
from genctl.kernels.records import I64
from genctl.models import gguf
from genctl.models.base import Prompt, Tokens
from genctl.models.cache import CacheState, Pass, empty_state, extended, joined, merged, selected
from genctl.models.hidden import HiddenModel
from genctl.models.linear import arrange, pack
from genctl.models.sets import Part, SetParts, SetPrompt, marked, parts_of
from genctl.vocabulary import Vocabulary

# Cache layers that hold nothing but keys and values by slot, or nothing at all because they use another layer's. A
# recurrent state has no slots to mask or to share.
SLOTTED = frozenset({"DynamicLayer", "DynamicSlidingWindowLayer", "DummyLayer"})

# Keyword arguments of `from_pretrained` that say where a model is, so that they say where its tokenizer is as well.
WHERE = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token", "trust_remote_code")

SHARED = 32  # tokens that reading a common beginning once must save: one more pass of the model costs as much


class Edits(Protocol):
    """What is changed in a model for a while (`genctl.steering.edits`), as far as a pass has to know."""

    @property
    def fingerprint(self) -> str:
        """Equal for edits that give equal keys and values."""
        ...

    def masks(self, one: Pass, dtype: torch.dtype, device: torch.device, /) -> Any:
        """What the model takes as attention_mask, or None for what it makes itself."""
        ...


# By the first decoder layer of the edited model: edits hold for whatever models share its layers.
EDITED: WeakKeyDictionary[torch.nn.Module, Edits] = WeakKeyDictionary()
TIMES_EDITED: WeakKeyDictionary[torch.nn.Module, int] = WeakKeyDictionary()


class TransformersModel:
    """A loaded `PreTrainedModel` and its tokenizer as a `LanguageModel`; logits in the model's dtype on its device.

    context: the most tokens a row may have, or None where the model states no limit. window: how many of the last
    tokens the layers attend to that attend to fewest, or None. layers: the decoder layers, none where they were not
    found.

    Raises ModelError for a model without a key/value cache that rows can be taken from (recurrent state, encoder), and
    VocabularyError for a tokenizer that does not belong to the model.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        config = model.config.get_text_config(decoder=True)
        parameters = _forward_parameters(model)
        _check_cache(model, config, parameters)
        _check_tokenizer(tokenizer)
        self.model, self.tokenizer = model.eval(), tokenizer
        self.context: int | None = getattr(config, "max_position_embeddings", None)
        self.window: int | None = min(filter(None, layer_windows(config)), default=None)
        self.layers = _decoder_layers(model, config)
        self._vocabulary = _vocabulary(model, config, tokenizer)
        self._unused = torch.tensor(sorted(self._vocabulary.unused), dtype=torch.long)
        self._single_bytes = frozenset(token[0] for token in self._vocabulary.tokens if len(token) == 1)
        self._keeps_logits = "logits_to_keep" in parameters
        self._seen: tuple[int, ...] = ()  # layers whose states are further columns of what a pass gives
        self._width = len(self._vocabulary)  # of what a pass gives for a row

    @property
    def vocabulary(self) -> Vocabulary:
        return self._vocabulary

    @property
    def edits(self) -> Edits | None:
        """Those that hold now."""
        return EDITED.get(self.layers[0]) if self.layers else None

    @property
    def _times_edited(self) -> int:
        return TIMES_EDITED.get(self.layers[0], 0) if self.layers else 0

    @property
    def fingerprint(self) -> str:
        """Of the edits that hold now; "" for none."""
        edits = self.edits
        return "" if edits is None else edits.fingerprint

    def encode(self, prompt: Prompt) -> list[int]:
        """Token ids of a text, of UTF-8 bytes or of chat messages, as the model was trained to see them.

        A text gets the special tokens that the tokenizer adds by itself, messages the chat template with the mark that
        opens the answer. An empty text becomes the begin-of-text token, or else the end-of-text token. A SetPrompt has
        marks around its members.

        Raises ArgumentError for bytes that are no UTF-8, malformed messages, characters the tokenizer has no token for
        and an empty prompt that nothing can begin; ModelError for messages without a chat template.
        """
        if isinstance(prompt, SetPrompt):
            return self._encode_set(prompt)
        if isinstance(prompt, bytes):
            prompt = _decoded(prompt)
        ids = self._encode_text(prompt) if isinstance(prompt, str) else self._encode_messages(prompt)
        self._check_ids(ids)
        return ids

    def prefill(self, prompts: Sequence[Sequence[int]]) -> tuple[torch.Tensor, CacheState]:
        """N prompts of at least one token each -> (N, V) logits of the next token, and the state.

        A row that has a set, as `encode` gives it, is read as models/sets.py says.

        Raises ArgumentError for an empty prompt, an id outside the vocabulary, a prompt longer than `context`, and a
        set that does not fit into the model's attention window.
        """
        rows = _rows(prompts)
        parts = {index: part for index, row in enumerate(rows) if (part := parts_of(row)) is not None}
        begun = [list(parts[index].prefix) if index in parts else row for index, row in enumerate(rows)]
        logits, state = self._read(begun)
        return self._with_sets(parts, logits, state) if parts else (logits, state)

    def _read(self, rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, CacheState]:
        """What rows begin with alike is read once."""
        self._check_rows(rows, np.array([len(row) for row in rows], np.int64), empty_state(len(rows)))
        heads = [row[:length] for row, length in zip(rows, _shared(rows), strict=True)]
        numbers = {head: number for number, head in enumerate(dict.fromkeys(map(tuple, heads)))}
        places = np.array([numbers[tuple(head)] for head in heads], np.int64)
        logits, state = self.extend(empty_state(len(numbers), self.fingerprint), list(numbers))
        longer = [index for index, row in enumerate(rows) if len(row) > len(heads[index])]
        if longer:
            more, behind = self.extend(self.select(state, places[longer]), [rows[i][len(heads[i]) :] for i in longer])
            places[longer] = len(numbers) + np.arange(len(longer))
            logits, state = torch.cat([logits, more]), self.join([state, behind])
        return self._arranged(logits, state, places)

    def _with_sets(
        self, parts: Mapping[int, SetParts], logits: torch.Tensor, state: CacheState
    ) -> tuple[torch.Tensor, CacheState]:
        """parts: of the rows that have a set, of which the state holds the prefix so far."""
        sets = {(one.prefix, one.members): row for row, one in parts.items()}  # equal ones are read once
        members = [(row, member) for (_, several), row in sets.items() for member in several]
        _, apart = self.extend(self.select(state, np.array([row for row, _ in members])), [m for _, m in members])
        ends = np.cumsum([len(several) for _, several in sets])
        joint = merged(
            apart,
            [
                (len(prefix), np.arange(end - len(several), end))
                for (prefix, several), end in zip(sets, ends, strict=True)
            ],
        )
        numbers = {one: number for number, one in enumerate(sets)}
        which = np.array([numbers[one.prefix, one.members] for one in parts.values()])
        more, behind = self.extend(self.select(joint, which), [one.rest for one in parts.values()])
        places = np.arange(len(state.lengths))
        places[list(parts)] = len(places) + np.arange(len(parts))
        return self._arranged(torch.cat([logits, more]), self.join([state, behind]), places)

    def _arranged(self, logits: torch.Tensor, state: CacheState, places: I64) -> tuple[torch.Tensor, CacheState]:
        if np.array_equal(places, np.arange(len(state.lengths))):
            return logits, state
        return logits[torch.from_numpy(places).to(logits.device)], self.select(state, places)

    def extend(self, state: CacheState, tokens: Tokens) -> tuple[torch.Tensor, CacheState]:
        """(N,) token ids, or N rows of at least one -> (N, V) logits of the next token, and the new state.

        Raises ArgumentError as `prefill`, and ModelError for a state that was made under other edits than hold now; the
        state that was given stays as it was.
        """
        rows = _rows(tokens)
        counts = np.array([len(row) for row in rows], np.int64)
        self._check_rows(rows, counts, state)
        edits = self.edits, self._times_edited
        _check_edits(state.store.edits, self.fingerprint)
        logits = torch.empty(len(rows), self._width, dtype=self.model.dtype, device=self.model.device)
        with state.store.lock:
            longer, passes = extended(state, counts)
            for one in passes:
                logits[torch.from_numpy(one.rows)] = self._run(one, [rows[i] for i in one.rows])
        if (self.edits, self._times_edited) != edits:
            raise ModelError("the model was edited while it was running, in another thread")
        return logits.index_fill_(1, self._unused.to(logits.device), -torch.inf), longer

    def select(self, state: CacheState, rows: I64) -> CacheState:
        """(M,) indices into the N rows -> the state of M rows; the given state stays as it was.

        Raises ArgumentError for an index outside the rows.
        """
        rows = np.asarray(rows, np.int64)
        count = len(state.lengths)
        if rows.ndim != 1 or np.any((rows < 0) | (rows >= count)):
            raise ArgumentError(f"rows {rows.tolist()} cannot be selected from {count} rows")
        return selected(state, rows)

    def join(self, states: Sequence[CacheState]) -> CacheState:
        """The rows of all states, which come from one prefill; the given states stay as they were.

        Raises ArgumentError for states that do not.
        """
        if any(state.store is not states[0].store for state in states):
            raise ArgumentError("states can only be joined if they come from one prefill")
        return joined(states)

    def with_hidden(self, layers: Sequence[int]) -> HiddenModel:
        """The same model, which answers Hidden: its states are behind the last token of each row.

        Raises ArgumentError for a layer that it does not have, ModelError where logits are more than a linear map of
        the last state.
        """
        return HiddenModel(self, layers)

    def seeing(self, layers: Sequence[int], size: int) -> TransformersModel:
        """The same model, whose logits have V + len(layers) size columns: behind them the states of these layers."""
        model = copy(self)
        model._seen, model._width = tuple(layers), len(self._vocabulary) + size * len(layers)
        return model

    def head(self, states: torch.Tensor) -> torch.Tensor:
        """(N, d) states behind the last norm -> (N, V) logits."""
        with torch.inference_mode():
            logits: torch.Tensor = self.model.get_output_embeddings()(states)
        return logits.index_fill(1, self._unused.to(logits.device), -torch.inf)

    def _run(self, one: Pass, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """n rows of new tokens -> (n, width) logits after the last of each, and the states of the layers seen."""
        output, last = self._forward(one, rows)
        every = torch.arange(len(last))
        logits: torch.Tensor = output.logits[every, last]
        if not self._seen:
            return logits
        ends = torch.from_numpy(one.counts - 1)
        states = [output.hidden_states[layer + 1][every, ends] for layer in self._seen]  # [0] are the embeddings
        return torch.cat([logits, *(state.to(logits.device) for state in states)], dim=1)

    def _forward(self, one: Pass, rows: Sequence[Sequence[int]]) -> tuple[Any, torch.Tensor]:
        """What the model gives, and where among its logits those behind the last token of each row are."""
        ids = np.zeros(one.positions.shape, np.int64)
        for row, tokens in zip(ids, rows, strict=True):
            row[: len(tokens)] = tokens
        arguments: dict[str, Any] = {"input_ids": ids, "position_ids": one.positions, "attention_mask": one.mask}
        last = one.counts - 1
        if self._keeps_logits:
            arguments["logits_to_keep"], last = np.unique(last, return_inverse=True)
        on_device = {name: torch.from_numpy(value).to(self.model.device) for name, value in arguments.items()}
        masks = None if self.edits is None else self.edits.masks(one, self.model.dtype, self.model.device)
        if masks is not None:
            on_device["attention_mask"] = masks
        wanted = {"output_hidden_states": True} if self._seen else {}
        with torch.inference_mode():
            output = self.model(**on_device, past_key_values=one.cache(), use_cache=True, **wanted)
        return output, torch.from_numpy(last)

    def _encode_text(self, text: str) -> list[int]:
        _check_unicode(text)
        ids = list(self.tokenizer.encode(text))
        self._check_nothing_lost(text, ids)
        return ids or self._opening()

    def _encode_set(self, prompt: SetPrompt) -> list[int]:
        """Token ids with marks around the members, which `prefill` reads."""
        prefix = self.encode(prompt.prefix) if isinstance(prompt.prefix, str | bytes) else self._inside(prompt.prefix)
        parts = [prefix or self._opening(), *map(self._inside, prompt.members), self._inside(prompt.suffix)]
        for part in parts:
            self._check_ids(part)
        return marked(parts[0], parts[1:-1], parts[-1])

    def _inside(self, part: Part) -> list[int]:
        """Token ids of a part that does not open a text."""
        if not isinstance(part, str | bytes):
            return [int(i) for i in part]
        text = _decoded(part) if isinstance(part, bytes) else part
        _check_unicode(text)
        ids = list(self.tokenizer.encode(text, add_special_tokens=False))
        self._check_nothing_lost(text, ids)
        return ids

    def _opening(self) -> list[int]:
        opening = self.tokenizer.bos_token_id
        if opening is None:
            opening = self.tokenizer.eos_token_id
        if opening is None:
            raise ArgumentError(
                "the prompt is empty and the tokenizer has no begin-of-text token\nhint: give at least one character"
            )
        return [opening]

    def _check_nothing_lost(self, text: str, ids: Sequence[int]) -> None:
        """Byte-level BPE drops a byte that has no token of its own; nobody would notice."""
        data, known = text.encode(), self._vocabulary.join(i for i in ids if i < len(self._vocabulary))
        for byte in sorted(set(data) - self._single_bytes):
            if known.count(byte) < data.count(byte):
                lost = next(character for character in text if byte in character.encode())
                raise ArgumentError(f"the tokenizer has no token for {lost!r} (U+{ord(lost):04X}) in the prompt")

    def _encode_messages(self, messages: Any) -> list[int]:
        _check_messages(messages)
        if not _has_chat_template(self.tokenizer):
            raise ModelError(
                "the tokenizer has no chat template, so messages cannot be encoded\n"
                "hint: give the prompt as text, or set tokenizer.chat_template"
            )
        try:
            ids = self.tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, return_dict=False)
        except Exception as error:  # whatever the template's author raises for an order of roles it does not know
            raise ArgumentError(f"the chat template refuses the messages: {error}") from error
        self._check_nothing_lost("".join(message["content"] for message in messages), ids)
        return list(ids)

    def _check_ids(self, ids: Sequence[int]) -> None:
        width = len(self._vocabulary)
        for i in ids:
            if not 0 <= i < width:
                raise ArgumentError(f"token id {i} is outside the vocabulary of {width} ids")

    def _check_rows(self, rows: Sequence[Sequence[int]], counts: I64, state: CacheState) -> None:
        lengths = state.lengths
        if len(rows) != len(lengths):
            raise ArgumentError(f"{len(rows)} rows of tokens were given for a state of {len(lengths)} rows")
        if np.any(counts == 0):
            raise ArgumentError(
                f"row {int(np.argmin(counts))} has no tokens\nhint: encode('') gives the token a text begins with"
            )
        for row in rows:
            self._check_ids(row)
        longest = int((lengths - state.shifts + counts).max(initial=0))
        if self.context is not None and longest > self.context:
            raise ArgumentError(f"a row of {longest} tokens does not fit into the model's context of {self.context}")
        behind_sets = int((lengths + counts)[state.shifts > 0].max(initial=0))
        if self.window is not None and behind_sets > self.window:
            raise ArgumentError(
                f"a row of {behind_sets} tokens with a set in it does not fit into the model's attention window of "
                f"{self.window}, and beyond that the order of the set would show"
            )


# Rows of tokens.


def _rows(tokens: Any) -> list[Sequence[int]]:
    """(N,) ids or N rows of ids -> N rows of ids."""
    rows = tokens.tolist() if hasattr(tokens, "tolist") else list(tokens)
    return [[int(row)] if isinstance(row, int | np.integer) else [int(i) for i in row] for row in rows]


def _shared(rows: Sequence[Sequence[int]]) -> list[int]:
    """How many tokens of each row are read first, once for all rows that begin with them: all where few would be."""
    lengths = [len(row) for row in rows]
    order = sorted(range(len(rows)), key=lambda index: tuple(rows[index]))
    while order:
        group, common = [order[0]], len(rows[order[0]])
        for index in order[1:]:
            length = _common(rows[group[0]], rows[index])
            if 2 * min(length, common) < common:
                break
            group.append(index)
            common = min(length, common)
        if (len(group) - 1) * common >= SHARED:
            for index in group:
                lengths[index] = common
        order = order[len(group) :]
    return lengths


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two rows begin with alike."""
    different = (place for place, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
    return next(different, min(len(first), len(second)))


# What does not fit is refused when the model is made, not after wrong text.


def _forward_parameters(model: Any) -> frozenset[str]:
    base = model.get_base_model() if hasattr(model, "get_base_model") else model  # an adapter of peft
    return frozenset(inspect.signature(type(base).forward).parameters)


def _check_cache(model: Any, config: Any, parameters: frozenset[str]) -> None:
    """Refuse a model whose cache is not made of slots, or that cannot be told the position of a token."""
    missing = {"input_ids", "attention_mask", "position_ids", "past_key_values", "use_cache"} - parameters
    recurrent = _cache_layers(config) - SLOTTED
    reasons = {
        "it keeps a recurrent state": bool(getattr(model, "_is_stateful", False)),
        "it is an encoder-decoder model": bool(getattr(config, "is_encoder_decoder", False)),
        "it has no next-token logits": model.get_output_embeddings() is None,
        f"its forward takes no {', '.join(sorted(missing))}": bool(missing),
        f"it keeps its state in {', '.join(sorted(recurrent))}": bool(recurrent),
        "it attends in chunks": getattr(config, "attention_chunk_size", None) is not None,
    }
    reason = next((reason for reason, holds in reasons.items() if holds), None)
    if reason is not None:
        raise ModelError(
            f"{type(model).__name__} cannot be used: {reason}\n"
            "hint: give a causal language model with attention only, such as Llama, Qwen, Gemma, Mistral or GPT-2"
        )


def _cache_layers(config: Any) -> frozenset[str]:
    """The kinds of layer that transformers would put into a cache of this model."""
    from transformers import DynamicCache

    try:
        return frozenset(type(layer).__name__ for layer in DynamicCache(config=config).layers)
    except KeyError as error:
        return frozenset({f"layers of an unknown type {error}"})


def layer_windows(config: Any) -> list[int | None]:
    """For each layer how many of the last tokens it attends to, None for all."""
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * config.num_hidden_layers
    return [None if kind == "full_attention" else window for kind in kinds]


def _decoder_layers(model: Any, config: Any) -> list[torch.nn.Module]:
    """The decoder layers in order; none where not exactly one list of modules has as many."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    lists = [m for m in base.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == config.num_hidden_layers]
    return list(lists[0]) if len(lists) == 1 else []


def _check_edits(then: str, now: str) -> None:
    if then != now:
        was, is_now = (f"under {text}" if text else "without edits" for text in (then, now))
        raise ModelError(
            f"the state was made {was}, and the model now runs {is_now}: its keys and values are another model's"
            "\nhint: prefill inside the same `with lm.edit(...)` as extend"
        )


def _check_tokenizer(tokenizer: Any) -> None:
    if not hasattr(tokenizer, "apply_chat_template"):
        raise ArgumentError(
            f"the tokenizer is a {type(tokenizer).__qualname__}, expected a tokenizer of transformers\n"
            "hint: transformers.PreTrainedTokenizerFast(tokenizer_object=...) wraps one of `tokenizers`"
        )


def _vocabulary(model: Any, config: Any, tokenizer: Any) -> Vocabulary:
    width = _logits_width(model, config)
    stated = _stated_ids(model, config)
    for name, i in stated:
        if not 0 <= i < width:
            raise VocabularyError(f"the model states {name} {i}, but has logits for {width} ids only")
    ends = [i for name, i in stated if name == "eos_token_id"]
    vocabulary = Vocabulary.from_tokenizer(tokenizer, width, eos=ends)
    for name, i in stated:
        _check_control(tokenizer, name, i)
    unused = len(vocabulary.unused)
    if unused > max(256, width // 10):  # rounding up a width for the hardware wastes far less
        raise VocabularyError(
            f"the tokenizer has {width - unused} ids, the model logits for {width}: it is another model's tokenizer\n"
            "hint: give the tokenizer that the model was trained with"
        )
    return vocabulary


def _logits_width(model: Any, config: Any) -> int:
    width = getattr(model.get_output_embeddings(), "out_features", None)
    return int(config.vocab_size if width is None else width)


def _stated_ids(model: Any, config: Any) -> list[tuple[str, int]]:
    """The begin- and end-of-text ids that the model's own files state, each with its name."""
    stated: dict[tuple[str, int], None] = {}
    for source in (config, getattr(model, "generation_config", None)):
        for name in ("bos_token_id", "eos_token_id"):
            value = getattr(source, name, None)
            ids = [] if value is None else [value] if isinstance(value, int) else value
            stated.update({(name, int(i)): None for i in ids})
    return list(stated)


def _check_control(tokenizer: Any, name: str, i: int) -> None:
    """Refuse a tokenizer in which the model's begin- or end-of-text id is an ordinary piece of text."""
    piece = tokenizer.convert_ids_to_tokens(i)
    if i in tokenizer.all_special_ids or piece in getattr(tokenizer, "added_tokens_encoder", {}):
        return
    raise VocabularyError(
        f"the model states {name} {i}, which is {piece!r} in this tokenizer, no control token\n"
        "hint: give the tokenizer that the model was trained with; or, if the config states a default that "
        f"means nothing, set model.config.{name} and model.generation_config.{name}"
    )


# Prompts.


def _decoded(prompt: bytes) -> str:
    try:
        return prompt.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ArgumentError(
            f"the prompt is not UTF-8: {error.reason}, {prompt[error.start]:#04x} at byte {error.start}"
        ) from error


def _check_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        lone = ord(text[error.start])
        raise ArgumentError(f"the prompt has half a surrogate pair, U+{lone:04X} at character {error.start}") from error


def _check_messages(messages: Any) -> None:
    if not isinstance(messages, Sequence) or not messages:
        raise ArgumentError(
            f"a prompt is a str, bytes, or a non-empty list of messages; given was {type(messages).__name__}"
        )
    for index, message in enumerate(messages):
        good = isinstance(message, Mapping) and all(isinstance(message.get(key), str) for key in ("role", "content"))
        if not good:
            raise ArgumentError(f'message {index} is {message!r}, expected {{"role": str, "content": str}}')
        _check_unicode(message["content"])


def _has_chat_template(tokenizer: Any) -> bool:
    in_code = hasattr(getattr(tokenizer, "tokenizer", None), "instruct_tokenizer")  # mistral-common
    return in_code or bool(getattr(tokenizer, "chat_template", None))


# Loading.


def load_transformers(
    source: Any,
    *,
    tokenizer: Any = None,
    packed: bool = False,
    progress: Callable[[str, float], None] | None = None,
    **kwargs: Any,
) -> TransformersModel:
    """A model of transformers, ready for genctl.

    source: a hub id, a folder, a .gguf file (converted once, see `genctl.models.gguf`), or a loaded model.
    tokenizer: a tokenizer, or where one is; needed for a loaded model, otherwise looked for beside the model.
    packed: put float32 or bfloat16 weights on a CPU into the order that oneDNN reads them in (`genctl.models.linear`).
    Passes take less time, and the weights cannot be read, changed or saved any more.
    progress: told the stage and its fraction, 0 to 1, while a .gguf file is converted.
    kwargs: for `AutoModelForCausalLM.from_pretrained`: dtype, device_map, revision, attn_implementation ...

    Raises ModelError where there is no such model, ArgumentError for arguments that would have no effect, and what
    `TransformersModel` raises.
    """
    if not isinstance(source, str | Path):
        return _from_loaded(source, tokenizer, [*kwargs, *(["packed"] if packed else [])])
    if "gguf_file" in kwargs:
        raise ArgumentError(
            "gguf_file= would give a tokenizer that cuts text in another way than the model's\n"
            "hint: give the path of the .gguf file itself"
        )
    where = _located(source)
    if where.endswith(".gguf"):
        dtype = str(kwargs.get("dtype") or "float32").removeprefix("torch.").replace("auto", "float32")
        folder = gguf.converted(Path(where), dtype=dtype, tokenizer=tokenizer is None, progress=progress)
        where = str(folder)
    return _from_pretrained(where, tokenizer, packed, kwargs)


def _from_loaded(model: Any, tokenizer: Any, options: Sequence[str]) -> TransformersModel:
    """options: names of those that a model is loaded with."""
    if not hasattr(model, "get_output_embeddings"):
        raise ArgumentError(
            f"a model is a hub id, a folder, a .gguf file or a loaded model of transformers; given was {type(model)}"
        )
    if tokenizer is None or isinstance(tokenizer, str | Path):
        raise ArgumentError(
            "a loaded model needs its loaded tokenizer\nhint: tokenizer=AutoTokenizer.from_pretrained(...)"
        )
    if options:
        raise ArgumentError(f"{', '.join(sorted(options))} would have no effect on a model that is loaded already")
    return TransformersModel(model, tokenizer)


def _located(source: str | Path) -> str:
    """The folder, the .gguf file or the hub id that the source names."""
    path = Path(source).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"the folder {path} holds no config.json\nhint: give what model.save_pretrained wrote")
        return str(path)
    if path.is_file():
        if path.suffix != ".gguf":
            raise ModelError(f"{path} is no model\nhint: give a folder with a config.json, or a .gguf file")
        return str(path)
    if isinstance(source, Path) or not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", source) or path.suffix == ".gguf":
        raise ModelError(f"there is no file or folder {path}\nhint: a hub id looks like name or organisation/name")
    return source


def _from_pretrained(where: str, tokenizer: Any, packed: bool, kwargs: Mapping[str, Any]) -> TransformersModel:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = {name: kwargs[name] for name in WHERE if name in kwargs}
    with _quiet():
        try:
            if tokenizer is None or isinstance(tokenizer, str | Path):
                tokenizer = AutoTokenizer.from_pretrained(tokenizer or where, **place)
            model, info = AutoModelForCausalLM.from_pretrained(where, output_loading_info=True, **kwargs)
        except TypeError as error:
            raise ArgumentError(
                f"{where} cannot be loaded with {', '.join(kwargs) or 'no options'}: {error}"
            ) from error
        except Exception as error:  # of the hub, of safetensors, of a model's own code
            raise ModelError(
                f"{where} cannot be loaded: {error}\nhint: give a hub id that can be reached, a folder or a .gguf file"
            ) from error
    missing = sorted(info["missing_keys"])
    if missing:  # transformers fills them with random numbers and says so in a log line
        raise ModelError(f"{where} has no weights for {missing[0]} and {len(missing) - 1} others of the model")
    (pack if packed else arrange)(model)
    return TransformersModel(model, tokenizer)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the bars and the chatter of transformers; its errors are raised all the same."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
