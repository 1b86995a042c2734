"""The document a schema stands in: its draft, its parts by JSON pointer, and what its references refer to.

    document = Document({"$ref": "#/$defs/a%20b", "$defs": {"a b": {"type": "null"}}})
    document.target(document.place(""))         # "/$defs/a b"

Only references into the document itself are followed; nothing is ever fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

from genctl.compilers.json_schema.context import DRAFTS, Draft, Place, Pointer, decimal, escaped, refuse
from genctl.errors import warn

MAX_DEPTH = 1_000
DIALECTS = {
    "http://json-schema.org/draft-04/schema": DRAFTS[4],
    "http://json-schema.org/draft-06/schema": DRAFTS[6],
    "http://json-schema.org/draft-07/schema": DRAFTS[7],
    "https://json-schema.org/draft/2019-09/schema": DRAFTS[2019],
    "https://json-schema.org/draft/2020-12/schema": DRAFTS[2020],
    "http://json-schema.org/schema": DRAFTS[2020],
}


class Document:
    """A whole schema document; `draft` is what its "$schema" says, 2020-12 if it says nothing."""

    def __init__(self, schema: Any, draft: Draft | None = None) -> None:
        """schema: plain JSON; draft: in place of what it says."""
        self._root = schema
        self._found: dict[Pointer, bool | dict[str, Any]] = {}
        self._places: dict[Pointer, Place] = {}
        self.draft = draft or self._draft()
        self._base = self._identifier(self._root)

    def schema(self, pointer: Pointer) -> bool | dict[str, Any]:
        """The schema at a pointer; refused if what is there is no schema."""
        found = self._found.get(pointer)
        if found is None:
            value = self._value(pointer)
            if not isinstance(value, bool | dict):
                refuse(pointer, f"a schema must be an object, true or false, not {type(value).__name__}")
            found = self._found[pointer] = value
        return found

    def place(self, pointer: Pointer) -> Place:
        place = self._places.get(pointer)
        if place is None:
            schema = self.schema(pointer)
            assert isinstance(schema, dict), "boolean schemas have no keywords"
            place = self._places[pointer] = Place(pointer, schema, self.draft)
        return place

    def target(self, place: Place) -> Pointer:
        """Where the "$ref" of a place points."""
        pointer = place.at("$ref")
        reference = place.get("$ref", str, "a string")
        assert reference is not None
        self._refuse_moved_base(place)
        absolute = (
            self._base.partition("#")[0] + reference if reference.startswith("#") else urljoin(self._base, reference)
        )
        url, fragment = urldefrag(absolute)
        if url != urldefrag(self._base).url:
            refuse(pointer, f"{reference!r} refers to another document", "only references into the schema itself work")
        steps = unquote(fragment)
        if steps and not steps.startswith("/"):
            refuse(pointer, f"{reference!r} refers to an anchor", "not supported yet; use a JSON pointer")
        target = "".join("/" + escaped(step) for step in _steps(steps))
        try:
            self._value(target)
        except LookupError:
            refuse(pointer, f"{reference!r} refers to nothing in this schema")
        return target

    def _value(self, pointer: Pointer) -> Any:
        value = self._root
        for step in _steps(pointer):
            if isinstance(value, list):
                if not step.isdecimal() or (step[0] == "0" and step != "0"):
                    raise KeyError(step)
                value = value[int(step)]
            elif isinstance(value, dict):
                value = value[step]
            else:
                raise KeyError(step)
        return value

    def check_draft(self, place: Place) -> None:
        """A part may name another version of JSON Schema only if it has an identifier; else the word says nothing."""
        dialect = place.schema.get("$schema")
        if not place.pointer or dialect is None or _dialect(dialect) is self.draft:
            return
        if self._identifier(place.schema):
            refuse(place.at("$schema"), "a part of the schema has a version of its own", "not supported yet")
        message = f'at {place.at("$schema")}: "$schema" means something at the root only; read as {self.draft.name}'
        warn(message)

    def _draft(self) -> Draft:
        dialect = self._root.get("$schema") if isinstance(self._root, dict) else None
        draft = DRAFTS[2020] if dialect is None else _dialect(dialect)
        if draft is None:
            known = "draft-04, draft-06, draft-07, 2019-09 and 2020-12"
            refuse("/$schema", f"{dialect!r} is no known version of JSON Schema", f"known are {known}")
        return draft

    def _identifier(self, schema: Any) -> str:
        """What the schema is called; in drafts up to 7 a "$ref" hides its siblings, the name among them."""
        if not isinstance(schema, dict) or ("$ref" in schema and self.draft.year <= 7):
            return ""
        name = schema.get(self.draft.identifier)
        return name if isinstance(name, str) else ""

    def _refuse_moved_base(self, place: Place) -> None:
        """A nested "$id" changes what references below it refer to."""
        value, pointer = self._root, ""
        for step in _steps(place.pointer):
            value = value[int(step)] if isinstance(value, list) else value[step]
            pointer += "/" + escaped(step)
            if self._identifier(value):
                keyword = self.draft.identifier
                refuse(f"{pointer}/{keyword}", f"`{keyword}` changes what the reference at {place.at('$ref')} means",
                       "not supported yet")  # fmt: skip


def _dialect(name: object) -> Draft | None:
    return DIALECTS.get(name.rstrip("#")) if isinstance(name, str) else None


def _steps(pointer: Pointer) -> list[str]:
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]


def plain_json(value: object) -> Any:
    """A copy out of dict, list, str, int, float, Decimal, bool and None; refused, with pointer, where it is no JSON."""
    top: list[Any] = [None]
    work: list[tuple[object, Any, Any, tuple[str | int, ...]]] = [(value, top, 0, ())]
    while work:
        item, holder, key, path = work.pop()
        if len(path) > MAX_DEPTH:
            refuse(_pointer(path), f"the schema is nested more than {MAX_DEPTH:,} levels deep")
        if isinstance(item, Mapping):
            _refuse_odd_names(item, path)
            holder[key] = dict.fromkeys(item)
            work += [(part, holder[key], name, (*path, name)) for name, part in item.items()]
        elif isinstance(item, list | tuple):
            holder[key] = [None] * len(item)
            work += [(part, holder[key], i, (*path, i)) for i, part in enumerate(item)]
        else:
            holder[key] = _scalar(item, path)
    return top[0]


def _pointer(path: tuple[str | int, ...]) -> Pointer:
    return "".join("/" + escaped(step) for step in path)


def _refuse_odd_names(item: Mapping[Any, object], path: tuple[str | int, ...]) -> None:
    for name in item:
        if not isinstance(name, str):
            refuse(_pointer(path), f"the name {name!r} is not a string")


def _scalar(item: object, path: tuple[str | int, ...]) -> object:
    if item is None or isinstance(item, bool | str):
        return item
    if not isinstance(item, int | float | Decimal):
        refuse(_pointer(path), f"{type(item).__name__} is not a JSON value")
    if decimal(item) is None:
        refuse(_pointer(path), f"{item} is not a JSON number")
    return item
