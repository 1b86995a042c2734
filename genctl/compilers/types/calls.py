"""Functions as tools: a call as a JSON text {"name": ..., "arguments": {...}}, and as a value that can be run.

    tool, type_ = call_types([weather, Trip])["weather"]   # def weather(city: str, days: int = 1) -> str
    ToolCall("weather", {"city": "Rome"}, tool).call()     # weather(city="Rome")

Arguments are those that have a name: what `*args` and `**kwargs` would take is never produced. The docstring becomes
the description; lines such as `city: where to look` or `:param city: where to look` describe the arguments.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import typing_extensions

from genctl.errors import ConstraintError


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool. arguments: name -> value, of the annotated types; of a tool that is a type, its value."""

    name: str
    arguments: Any
    tool: Any = field(repr=False, compare=False)

    def call(self) -> Any:
        """What the function returns for the arguments; of a tool that is a type, its value."""
        if not is_function(self.tool):
            return self.arguments
        signature = inspect.signature(self.tool)
        given, positional = dict(self.arguments), []
        for parameter in signature.parameters.values():
            if parameter.kind is parameter.POSITIONAL_ONLY:
                positional.append(given.pop(parameter.name, parameter.default))
        return self.tool(*positional, **given)


def is_function(tool: Any) -> bool:
    """Functions, methods, built-in ones, and what functools.partial makes of them."""
    return inspect.isroutine(tool) or isinstance(tool, functools.partial)


def call_types(tools: Sequence[Any]) -> dict[str, tuple[Any, Any]]:
    """Name -> the tool, and the type of a call of it: a dict with its name and arguments."""
    by_name: dict[str, Any] = {}
    for tool in tools:
        if by_name.setdefault(tool_name(tool), tool) is not tool:
            raise ConstraintError(f"two tools have the name {tool_name(tool)}", hint="rename one of them")
    if not by_name:
        raise ConstraintError("no tool is given", hint="give functions or types")
    return {name: (tool, _one_call(name, tool)) for name, tool in by_name.items()}


def tool_name(tool: Any) -> str:
    inner = tool.func if isinstance(tool, functools.partial) else tool
    name = getattr(inner, "__name__", None)
    if not isinstance(name, str) or name == "<lambda>":
        raise ConstraintError(f"the tool {tool!r} has no name", hint="give a function made by def, or a class")
    return name


def _one_call(name: str, tool: Any) -> Any:
    from genctl.compilers.types.readable import dict_type

    arguments = _arguments(name, tool) if is_function(tool) else tool
    fields = {"name": (Literal[name], True), "arguments": (arguments, True)}
    return dict_type(name, fields, inspect.getdoc(tool) if is_function(tool) else None)


def _arguments(name: str, function: Any) -> Any:
    """A TypedDict of the parameters; those with a default may be left out."""
    from pydantic import Field

    from genctl.compilers.types.readable import dict_type

    try:
        signature = inspect.signature(function)
        hints = typing_extensions.get_type_hints(_plain(function), include_extras=True)
    except (TypeError, ValueError, NameError) as error:
        raise ConstraintError(f"the parameters of {name} cannot be read: {error}", source=name,
                              hint="annotate them with types that can be found") from error  # fmt: skip
    described = descriptions(inspect.getdoc(function) or "")
    fields = {}
    for parameter in signature.parameters.values():
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            type_ = hints.get(parameter.name, Any)
            if parameter.name in described:
                type_ = Annotated[type_, Field(description=described[parameter.name])]
            fields[parameter.name] = type_, parameter.default is parameter.empty
    return dict_type(f"{name}_arguments", fields)


def _plain(function: Any) -> Callable[..., Any]:
    """The function whose annotations count."""
    inner = function.func if isinstance(function, functools.partial) else function
    plain: Callable[..., Any] = inspect.unwrap(getattr(inner, "__func__", inner))
    return plain


_DESCRIBED = re.compile(
    r"^[ \t]*(?::param[ \t]+)?(?:[\w.\[\]]+[ \t]+)?(\w+)[ \t]*(?:\([^)\n]*\))?:[ \t]*(\S.*)$", re.MULTILINE
)


def descriptions(doc: str) -> dict[str, str]:
    """Parameter -> what the docstring says of it, in the styles of Google and Sphinx."""
    return {match[1]: match[2].strip() for match in _DESCRIBED.finditer(doc)}
