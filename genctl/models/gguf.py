"""GGUF files, converted once to a folder that transformers loads in seconds.

    folder = converted(Path("SmolLM2-135M-Instruct.Q4_1.gguf"), progress=print)

The folder (weights unpacked to safetensors, config, tokenizer) is kept in `cache_folder()` under a name made from the
file's name, size and time. A GGUF file has no tokenizer.json: it names the way to cut text into words in its field
`tokenizer.ggml.pre`. A name that is not in `SPLITS` is refused, since another cut gives other tokens than the model
was trained on, and what was rebuilt is read back and checked before it is used.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from genctl.errors import ModelError
from genctl.vocabulary import SPACE

Progress: TypeAlias = Callable[[str, float], None]  # stage, fraction from 0 to 1

FORMAT = 1  # of the converted folder; a new number leaves the old folders unused
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5  # values of tokenizer.ggml.token_type


class Split(NamedTuple):
    """How a byte-level tokenizer cuts text into words before it merges bytes."""

    patterns: tuple[str, ...]  # each cuts the pieces that the one before left
    digits: int | None  # the most digits in a word; None: no limit
    whole_words: bool = False  # a word that is a token is taken whole, whatever the merges say
    begins: bool = False  # a begin-of-text token is added where the file does not say


_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_GPT4O = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_ENDINGS}"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_DEEPSEEK3 = (
    r"\p{N}{1,3}",
    r"[一-龥぀-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)
_DEFAULT = (r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]")

# The names of llama.cpp (src/llama-vocab.cpp), which defines them.
SPLITS: dict[str, Split] = {
    "default": Split(_DEFAULT, digits=3),
    "deepseek-v3": Split(_DEEPSEEK3, digits=3),
    "tekken": Split((_TEKKEN,), digits=1, whole_words=True),
    **dict.fromkeys(("gpt-2", "phi-2", "mpt", "olmo"), Split((_GPT2,), digits=None)),
    **dict.fromkeys(("gpt-4o", "llama4"), Split((_GPT4O,), digits=3)),
    **dict.fromkeys(
        ("llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"),
        Split((_LLAMA3,), digits=3, whole_words=True, begins=True),
    ),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "stablelm2", "megrez"), Split((_QWEN2,), digits=1)),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell"), Split((r"\p{N}", _GPT2), digits=1)),
}


# The cache.


def cache_folder() -> Path:
    """Where genctl keeps what it has converted: $GENCTL_CACHE, or else the user's cache folder."""
    from platformdirs import user_cache_path

    named = os.environ.get("GENCTL_CACHE")
    return Path(named).expanduser() if named else user_cache_path("genctl")


def clear_cache() -> int:
    """Delete the converted models -> the number of bytes that were freed."""
    models = cache_folder() / "models"
    freed = sum(file.stat().st_size for file in models.rglob("*") if file.is_file())
    shutil.rmtree(models, ignore_errors=True)
    return freed


def converted(path: Path, *, dtype: str = "float32", tokenizer: bool = True, progress: Progress | None = None) -> Path:
    """A .gguf file -> the folder of its conversion, made if it is not there.

    dtype: of the unpacked weights. tokenizer: whether the file's own tokenizer is wanted.
    progress: called with a stage, which says where the folder is, and the fraction of the work that is done.

    Raises ModelError for a file that is no GGUF or holds what cannot be converted exactly. A conversion that fails or
    is interrupted leaves nothing behind.
    """
    folder = _folder(path, dtype, tokenizer)
    if folder.is_dir():
        return folder
    partial = _partial(folder.parent)
    try:
        _convert(path, partial, dtype, tokenizer, _reporter(progress, folder))
        _publish(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _folder(path: Path, dtype: str, tokenizer: bool) -> Path:
    status = path.stat()
    identity = f"{path.name}:{status.st_size}:{status.st_mtime_ns}:{dtype}:{tokenizer}:{FORMAT}"
    return cache_folder() / "models" / f"{path.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"


def _partial(models: Path) -> Path:
    try:
        models.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=".partial-", dir=models))
    except OSError as error:
        raise ModelError(f"nothing can be kept in {models}: {error}\nhint: set GENCTL_CACHE to a folder") from error


def _publish(partial: Path, folder: Path) -> None:
    try:
        os.replace(partial, folder)
    except OSError:
        if not folder.is_dir():  # another process was faster: its folder is as good
            raise


def _reporter(progress: Progress | None, folder: Path) -> Progress:
    def report(stage: str, fraction: float) -> None:
        if progress is not None:
            progress(f"{stage} ({folder})", fraction)

    return report


# The conversion.


def _convert(path: Path, folder: Path, dtype: str, tokenizer: bool, report: Progress) -> None:
    report(f"reading {path.name}", 0.0)
    reader = _reader(path)
    fields = {name: reader.fields[name].contents() for name in FIELDS if name in reader.fields}
    if tokenizer:
        _convert_tokenizer(path, fields, folder)
    report(f"reading {path.name}", 0.2)
    model = _empty_model(path)
    tensors = _unpacked(reader, model, dtype, lambda done: report("unpacking weights", 0.4 + 0.5 * done))
    report("writing weights", 0.9)
    _write(model, tensors, fields, dtype, folder)
    report("writing weights", 1.0)


def _reader(path: Path) -> Any:
    from gguf import GGUFReader

    try:
        return GGUFReader(path)
    except (ValueError, OSError, IndexError) as error:
        raise ModelError(f"{path} is no GGUF file that can be read: {error}") from error


def _empty_model(path: Path) -> Any:
    """The model that the file describes, without weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config)
    except (ValueError, KeyError, NotImplementedError) as error:
        raise ModelError(f"transformers cannot read the model in {path}: {error}") from error


def _unpacked(reader: Any, model: Any, dtype: str, report: Callable[[float], None]) -> dict[str, Any]:
    """Tensors by the names that transformers gives them; every one of the model, and every one of the file."""
    import gguf
    import torch
    from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor, get_gguf_hf_weights_map

    architecture = reader.fields["general.architecture"].contents()
    processor = TENSOR_PROCESSORS.get(architecture, TensorProcessor)(config=model.config.to_dict())
    names = get_gguf_hf_weights_map(model, processor)
    tensors: dict[str, Any] = {}
    for count, packed in enumerate(reader.tensors, start=1):
        weights = gguf.dequantize(packed.data, packed.tensor_type)
        # Some processors merge several tensors of the file into one of `tensors` themselves; the name is then None.
        result = processor.process(
            weights=weights, name=packed.name, tensor_key_mapping=names, parsed_parameters={"tensors": tensors}
        )
        if result.name is not None:
            if result.name not in names:
                raise ModelError(f"the file holds {packed.name}, which transformers' {type(model).__name__} would drop")
            tensors[names[result.name]] = torch.from_numpy(result.weights.copy()).to(getattr(torch, dtype))
        report(count / len(reader.tensors))
    _check_complete(model, tensors)
    return tensors


def _check_complete(model: Any, tensors: Mapping[str, Any]) -> None:
    tied = set(model._tied_weights_keys or ()) if model.config.tie_word_embeddings else set()
    for name, weight in model.state_dict().items():
        if name not in tensors:
            if name not in tied:
                raise ModelError(f"the file has no weights for {name}")
        elif tensors[name].shape != weight.shape:
            raise ModelError(f"{name} has the shape {tuple(tensors[name].shape)}, expected {tuple(weight.shape)}")


def _write(model: Any, tensors: dict[str, Any], fields: Mapping[str, Any], dtype: str, folder: Path) -> None:
    from safetensors.torch import save_file
    from transformers import GenerationConfig

    model.config.architectures, model.config.dtype = [type(model).__name__], dtype
    model.config.save_pretrained(folder)
    ends = [fields[f"tokenizer.ggml.{name}_token_id"] for name in ENDS if f"tokenizer.ggml.{name}_token_id" in fields]
    begin = fields.get("tokenizer.ggml.bos_token_id")
    GenerationConfig(bos_token_id=begin, eos_token_id=sorted(set(ends)) or None).save_pretrained(folder)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


# The tokenizer.

ENDS = ("eos", "eot", "eom")  # end of text, of turn, of message
ROLES = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}  # transformers' word: the file's
FIELDS = (
    "tokenizer.ggml.model",
    "tokenizer.ggml.pre",
    "tokenizer.ggml.tokens",
    "tokenizer.ggml.token_type",
    "tokenizer.ggml.merges",
    "tokenizer.ggml.add_bos_token",
    "tokenizer.ggml.add_space_prefix",
    "tokenizer.chat_template",
    *(f"tokenizer.ggml.{name}_token_id" for name in (*ENDS, *ROLES.values())),
)


def _convert_tokenizer(path: Path, fields: Mapping[str, Any], folder: Path) -> None:
    from transformers import AutoTokenizer

    kind = fields.get("tokenizer.ggml.model")
    build = TOKENIZERS.get(str(kind))
    if build is None:
        raise ModelError(
            f"{path} has a tokenizer of kind {kind!r}, supported are {', '.join(TOKENIZERS)}\n"
            "hint: give the model's own tokenizer, tokenizer=..."
        )
    build(path, fields).save_pretrained(folder)
    _check_tokenizer(AutoTokenizer.from_pretrained(folder), fields)


def _byte_level(path: Path, fields: Mapping[str, Any]) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    split = _split(path, fields)
    tokens: list[str] = fields["tokenizer.ggml.tokens"]
    types = _token_types(fields)
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    vocabulary = {token: i for i, token in enumerate(tokens) if types[i] != UNUSED}
    backend = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=split.whole_words))
    backend.pre_tokenizer = _pre_tokenizer(split)
    backend.decoder = decoders.ByteLevel()
    backend.add_tokens(
        [
            AddedToken(token, special=kind == CONTROL, normalized=False)
            for token, kind in zip(tokens, types, strict=True)
            if kind in (CONTROL, USER_DEFINED)
        ]
    )
    roles = {f"{role}_token": _token(fields, name) for role, name in ROLES.items()}
    if roles["bos_token"] and fields.get("tokenizer.ggml.add_bos_token", split.begins):
        backend.post_processor = _begin_with(roles["bos_token"], backend)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, chat_template=fields.get("tokenizer.chat_template"), **roles
    )


def _split(path: Path, fields: Mapping[str, Any]) -> Split:
    pre = fields.get("tokenizer.ggml.pre")
    if pre not in SPLITS:
        raise ModelError(
            f"{path} cuts text in the way tokenizer.ggml.pre = {pre!r}; known are {', '.join(sorted(SPLITS))}\n"
            "hint: give the model's own tokenizer, tokenizer=..."
        )
    return SPLITS[pre]


def _pre_tokenizer(split: Split) -> Any:
    from tokenizers import Regex, pre_tokenizers

    cuts = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in split.patterns]
    return pre_tokenizers.Sequence([*cuts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _begin_with(token: str, backend: Any) -> Any:
    from tokenizers import processors

    return processors.TemplateProcessing(
        single=f"{token} $A", pair=f"{token} $A $B", special_tokens=[(token, backend.token_to_id(token))]
    )


def _token_types(fields: Mapping[str, Any]) -> Sequence[int]:
    types: Sequence[int] = fields.get("tokenizer.ggml.token_type", [NORMAL] * len(fields["tokenizer.ggml.tokens"]))
    return types


def _token(fields: Mapping[str, Any], name: str) -> str | None:
    i = fields.get(f"tokenizer.ggml.{name}_token_id")
    return None if i is None else fields["tokenizer.ggml.tokens"][i]


def _sentencepiece(path: Path, fields: Mapping[str, Any]) -> Any:
    """Pieces and merges by transformers, which knows the families of this kind; the leading space as the file says."""
    from tokenizers import normalizers
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    prefix = [normalizers.Prepend(SPACE)] if fields.get("tokenizer.ggml.add_space_prefix", True) else []
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence([*prefix, normalizers.Replace(" ", SPACE)])
    tokenizer.backend_tokenizer.pre_tokenizer = None
    return tokenizer


TOKENIZERS: dict[str, Callable[[Path, Mapping[str, Any]], Any]] = {"gpt2": _byte_level, "llama": _sentencepiece}


def _check_tokenizer(tokenizer: Any, fields: Mapping[str, Any]) -> None:
    """What was written and read back has the file's ids, chat template and cut of numbers."""
    tokens = fields["tokenizer.ggml.tokens"]
    rebuilt = tokenizer.convert_ids_to_tokens(range(len(tokens)))
    for i, (token, found, kind) in enumerate(zip(tokens, rebuilt, _token_types(fields), strict=True)):
        if kind == NORMAL and found != token:
            raise ModelError(f"the rebuilt tokenizer has {found!r} for id {i}, the file {token!r}")
    if tokenizer.chat_template != fields.get("tokenizer.chat_template"):
        raise ModelError("the rebuilt tokenizer has another chat template than the file")
    if fields["tokenizer.ggml.model"] == "gpt2":
        _check_digits(tokenizer, SPLITS[fields["tokenizer.ggml.pre"]].digits)


def _check_digits(tokenizer: Any, digits: int | None) -> None:
    """Numbers are where a lost pre-tokenizer shows: they get tokens with a space, or with too many digits."""
    text = "on 2026-11-22 at 09:30, 1234567 items"
    pieces = tokenizer.tokenize(text)
    if digits is not None and not all(
        re.fullmatch(rf"[0-9]{{1,{digits}}}", piece) for piece in pieces if re.search("[0-9]", piece)
    ):
        raise ModelError(f"the rebuilt tokenizer cuts {text!r} into {pieces}, expected at most {digits} digits a token")
