"""genctl: language-model output that obeys rules exactly, with weights that say what the rules cost.

    import genctl
    lm = genctl.load()
    lm.generate("The date is ", genctl.regex(r"\\d{4}-\\d\\d-\\d\\d"), seed=0).text

Names are loaded when they are first used (PEP 562): importing genctl loads no torch, transformers or numba.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genctl import steering
    from genctl.compilers.types import ToolCall
    from genctl.constraints.notations import gbnf, json, lark, predicate, regex, tools
    from genctl.constraints.operators import after, choice, substring, until
    from genctl.constraints.rules import Rule
    from genctl.constraints.sql import sql
    from genctl.constraints.template import template
    from genctl.errors import (
        ArgumentError,
        ConstraintError,
        DeadEndError,
        GenctlError,
        GenctlWarning,
        IncompleteError,
        ModelError,
        QueryError,
        UnsatisfiableError,
        VocabularyError,
    )
    from genctl.generate import Model, ensemble, load
    from genctl.integrations.custom_generate import custom_generate
    from genctl.integrations.transformers import processor
    from genctl.models.sets import SetPrompt
    from genctl.results import Generation, Generations
    from genctl.steering.edits import AddVector, FirstTokenScale
    from genctl.streaming import Event
    from genctl.vocabulary import Vocabulary

__version__ = "0.1.0"

_HOMES = {
    "genctl.compilers.types": ("ToolCall",),
    "genctl.constraints.notations": ("gbnf", "json", "lark", "predicate", "regex", "tools"),
    "genctl.constraints.operators": ("after", "choice", "substring", "until"),
    "genctl.constraints.rules": ("Rule",),
    "genctl.constraints.sql": ("sql",),
    "genctl.constraints.template": ("template",),
    "genctl.errors": (
        "ArgumentError",
        "ConstraintError",
        "DeadEndError",
        "GenctlError",
        "GenctlWarning",
        "IncompleteError",
        "Interrupted",
        "ModelError",
        "QueryError",
        "UnsatisfiableError",
        "VocabularyError",
    ),
    "genctl.generate": ("Model", "ensemble", "load"),
    "genctl.integrations.custom_generate": ("custom_generate",),
    "genctl.integrations.transformers": ("processor",),
    "genctl.models.sets": ("SetPrompt",),
    "genctl.results": ("Generation", "Generations"),
    "genctl.samplers.rejection": ("AWRS",),
    "genctl.steering.edits": ("AddVector", "FirstTokenScale"),
    "genctl.streaming": ("Event",),
    "genctl.vocabulary": ("Vocabulary",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AWRS",
    "AddVector",
    "ArgumentError",
    "ConstraintError",
    "DeadEndError",
    "Event",
    "FirstTokenScale",
    "GenctlError",
    "GenctlWarning",
    "Generation",
    "Generations",
    "IncompleteError",
    "Interrupted",
    "Model",
    "ModelError",
    "QueryError",
    "Rule",
    "SetPrompt",
    "ToolCall",
    "UnsatisfiableError",
    "Vocabulary",
    "VocabularyError",
    "__version__",
    "after",
    "choice",
    "custom_generate",
    "ensemble",
    "gbnf",
    "json",
    "lark",
    "load",
    "predicate",
    "processor",
    "regex",
    "sql",
    "steering",
    "substring",
    "template",
    "tools",
    "until",
]


def __getattr__(name: str) -> Any:
    if name == "steering":  # a module of many hooks
        return import_module("genctl.steering")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'genctl' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
