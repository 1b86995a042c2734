"""Types that pydantic cannot read, as types that it can: typing.TypedDict before Python 3.12, and attrs classes.

    readable(list[Trip])                       # Trip: an attrs class; list[Annotated[TypedDict of its fields, ...]]

Only the type itself and its arguments are looked into, and the fields of the dicts and classes that are rewritten.
"""

from __future__ import annotations

import sys
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

import typing_extensions

Known = dict[Any, Any]


def readable(type_: Any) -> Any:
    """The type, its values unchanged; the very same object if there is nothing to rewrite."""
    return _readable(type_, {}, {})


def _readable(type_: Any, known: Known, bound: dict[Any, Any]) -> Any:
    if isinstance(type_, TypeVar):
        return bound.get(type_, type_)
    origin, arguments = typing.get_origin(type_), typing.get_args(type_)
    if origin is Literal:
        return type_
    if origin is Annotated:
        return Annotated[(_readable(arguments[0], known, bound), *arguments[1:])]
    inner = tuple(_inner(argument, known, bound) for argument in arguments)
    whole = type_ if origin is None else origin
    if _is_old_dict(whole):
        return _typed_dict(whole, inner, known)
    if is_attrs(whole):
        return _attrs_class(whole, inner, known)
    return type_ if origin is None or inner == arguments else _rebuilt(type_, origin, inner)


def _inner(argument: Any, known: Known, bound: dict[Any, Any]) -> Any:
    """An argument of a generic type: a type, or a list of them, as in Callable[[int], str]."""
    return argument if isinstance(argument, list) else _readable(argument, known, bound)


def _rebuilt(type_: Any, origin: Any, arguments: tuple[Any, ...]) -> Any:
    if origin is typing.Union or not isinstance(type_, typing._GenericAlias | type(list[int])):  # type: ignore[attr-defined]
        return typing.Union[arguments]  # noqa: UP007
    return origin[arguments]


def dict_type(name: str, fields: dict[str, tuple[Any, bool]], doc: str | None = None) -> Any:
    """A TypedDict from name -> (type, is it required?)."""
    return _filled(_empty_dict(name), fields, doc)


def _empty_dict(name: str) -> Any:
    make: Any = typing_extensions.TypedDict
    return make(name, {})


def _filled(dict_: Any, fields: dict[str, tuple[Any, bool]], doc: str | None = None) -> Any:
    """Fields may refer to the dict itself, so it is made before them."""
    dict_.__annotations__ = {name: type_ for name, (type_, _) in fields.items()}
    dict_.__required_keys__ = frozenset(name for name, (_, required) in fields.items() if required)
    dict_.__optional_keys__ = frozenset(fields) - dict_.__required_keys__
    dict_.__doc__ = doc
    return dict_


def _is_old_dict(type_: Any) -> bool:
    return sys.version_info < (3, 12) and typing.is_typeddict(type_) and type(type_).__module__ == "typing"


def _typed_dict(type_: Any, arguments: tuple[Any, ...], known: Known) -> Any:
    key = type_, arguments
    if key not in known:
        known[key] = new = _empty_dict(type_.__name__)
        new.__module__, new.__qualname__ = type_.__module__, type_.__qualname__
        bound = dict(zip(getattr(type_, "__parameters__", ()), arguments, strict=False))
        fields = {}
        for name, hint in typing_extensions.get_type_hints(type_, include_extras=True).items():
            required, inner = _requirement(hint, name in type_.__required_keys__)
            fields[name] = _readable(inner, known, bound), required
        _filled(new, fields, type_.__doc__)
        config = getattr(type_, "__pydantic_config__", None)
        if config is not None:
            new.__pydantic_config__ = config
    return known[key]


def _requirement(hint: Any, required: bool) -> tuple[bool, Any]:
    """Whether a key is required, and its type without the words that say so."""
    wrappers = {typing.Required: True, typing.NotRequired: False}
    origin = typing.get_origin(hint)
    if origin in wrappers:
        return wrappers[origin], typing.get_args(hint)[0]
    return required, hint


# -- attrs


def is_attrs(type_: Any) -> bool:
    return isinstance(type_, type) and hasattr(type_, "__attrs_attrs__")


class _Builder:
    """Calls the class with the fields of a dict; what the class itself checks may refuse them."""

    def __init__(self, cls: Any, always_builds: bool) -> None:
        self.cls, self.always_builds = cls, always_builds
        self.__qualname__ = cls.__qualname__

    def __call__(self, fields: dict[str, Any]) -> Any:
        try:
            return self.cls(**fields)
        except TypeError as error:  # not an error of validation to pydantic
            raise ValueError(str(error)) from error


def _attrs_class(cls: Any, arguments: tuple[Any, ...], known: Known) -> Any:
    from pydantic import AfterValidator

    key = cls, arguments
    if key not in known:
        attributes = [attribute for attribute in cls.__attrs_attrs__ if attribute.init]
        own = hasattr(cls, "__attrs_post_init__") or any(a.validator or a.converter for a in attributes)
        new = _empty_dict(cls.__name__)
        new.__module__, new.__qualname__ = cls.__module__, cls.__qualname__
        build: Callable[[dict[str, Any]], Any] = _Builder(cls, not own)
        known[key] = Annotated[new, AfterValidator(build)]
        bound = dict(zip(getattr(cls, "__parameters__", ()), arguments, strict=False))
        hints = typing_extensions.get_type_hints(cls, include_extras=True)
        fields = {
            attribute.alias: (
                _readable(hints.get(attribute.name, attribute.type or Any), known, bound),
                attribute.default is _nothing(),
            )
            for attribute in attributes
        }
        _filled(new, fields, cls.__doc__)
    return known[key]


def _nothing() -> Any:
    import attr

    return attr.NOTHING
