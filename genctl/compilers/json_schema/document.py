"""Schema documents: their drafts and resources, their parts by pointer, and what their references refer to.

    documents = Documents({"$ref": "#/$defs/a%20b", "$defs": {"a b": {"type": "null"}}})
    documents.target(documents.place(Part("")))         # Part("/$defs/a b")

A pointer into another document has the document's name and `~:` before it, which no JSON pointer contains. Documents
come from the registry that the user gives, and from the published metaschemas; nothing is ever fetched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import cached_property
from typing import Any, NamedTuple
from urllib.parse import unquote, urldefrag, urljoin

from genctl.compilers.json_schema.context import (
    DRAFTS,
    FALSE,
    INSIDE,
    Draft,
    Part,
    Place,
    Pointer,
    decimal,
    escaped,
    refuse,
    shown,
)
from genctl.compilers.json_schema.equal import equal_places
from genctl.compilers.json_schema.rules import NAMES, check, subschemas, telling
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
VALIDATION = tuple(f"https://json-schema.org/draft/{year}/vocab/validation" for year in ("2019-09", "2020-12"))


class Resource(NamedTuple):
    """A schema with an identifier of its own, or a whole document; a part of it may be of another draft."""

    uri: str
    pointer: Pointer
    draft: Draft


class Documents:
    """The schema, and the documents that it refers to. formats: is `format` enforced, or an annotation?"""

    def __init__(
        self,
        schema: Any,
        draft: Draft | None = None,
        *,
        formats: bool = True,
        registry: Mapping[str, Any] | None = None,
        merged: bool = True,
    ) -> None:
        """schema: plain JSON; draft: in place of what it says; registry: documents by absolute URI. merged: do places
        that say the same stand for each other?
        """
        self._roots: dict[str, Any] = {"": schema}
        self._merges = merged
        self._registry = {urldefrag(uri).url: document for uri, document in (registry or {}).items()}
        self._formats = formats
        self._found: dict[Pointer, bool | dict[str, Any]] = {FALSE: False}
        self._places: dict[Part, Place] = {}
        self._resources: dict[str, Resource] = {}  # by URI
        self._by_pointer: dict[Pointer, Resource] = {}
        self._anchors: dict[tuple[str, str], Pointer] = {}  # by URI and name
        self._dynamic: dict[tuple[str, str], Pointer] = {}
        self._scanned = False
        self._warned: set[Pointer] = set()
        self.draft = draft or self._draft_of(schema, "") or DRAFTS[2020]
        uri = self._identifier(schema, self.draft)
        self._main = Resource(urldefrag(uri).url, "", self.draft)
        self._add(self._main)

    @cached_property
    def _equal(self) -> Mapping[Pointer, Pointer]:
        """The places that stand for others. Who asks for the draft alone does without."""
        return equal_places(self._roots[""]) if self._merges else {}

    @cached_property
    def _others(self) -> Mapping[Pointer, list[Pointer]]:
        """What a place stands for."""
        others: dict[Pointer, list[Pointer]] = {}
        for pointer, first in self._equal.items():
            others.setdefault(first, []).append(pointer)
        return others

    @property
    def merged(self) -> bool:
        """Does a place stand for another?"""
        return bool(self._equal)

    # -- places

    def schema(self, pointer: Pointer) -> bool | dict[str, Any]:
        """The schema at a pointer; refused if what is there is no schema."""
        found = self._found.get(pointer)
        if found is None:
            value = self._value(pointer)
            if not isinstance(value, bool | dict):
                refuse(pointer, f"a schema must be an object, true or false, not {type(value).__name__}")
            found = self._found[pointer] = value
        return found

    def place(self, part: Part) -> Place:
        """The place of a part, with the keywords that say something there."""
        place = self._places.get(part)
        if place is None:
            schema = self.schema(part.pointer)
            assert isinstance(schema, dict), "boolean schemas have no keywords"
            self._scan_main()
            resource = self._resource(part.pointer)
            if part.pointer not in self._warned:
                self._warned.add(part.pointer)
                for pointer in (part.pointer, *self._others.get(part.pointer, ())):
                    written = self.schema(pointer)
                    assert isinstance(written, dict), "places that say the same are of one type"
                    check(pointer, written, resource.draft)
            words = telling(schema, resource.draft)
            known = {word: value for word, value in schema.items() if word in words}
            scope = part.scope
            if resource.uri not in scope and self._is_dynamic(resource):
                scope = (*scope, resource.uri)
            place = self._places[part] = Place(part.pointer, known, resource.draft, scope, self._formats, self._equal)
        return place

    def synthetic(self, origin: Pointer, schema: dict[str, Any]) -> Pointer:
        """Where a schema stands that the compiler made for something at the origin (2020-12)."""
        label = f"{origin}~={len(self._roots)}"
        self._roots[label] = schema
        pointer = label + INSIDE
        self._by_pointer[pointer] = Resource(label, pointer, DRAFTS[2020]._replace(year=max(self.draft.year, 2020)))
        return pointer

    def _value(self, pointer: Pointer) -> Any:
        label, _, steps = pointer.rpartition(INSIDE)
        value = self._roots[label]
        for step in _steps(steps):
            if isinstance(value, list):
                if not step.isdecimal() or (step[0] == "0" and step != "0"):
                    raise KeyError(step)
                value = value[int(step)]
            elif isinstance(value, dict):
                value = value[step]
            else:
                raise KeyError(step)
        return value

    # -- references

    def target(self, place: Place) -> Part:
        """What the "$ref" of a place refers to."""
        reference = place.get("$ref", str, "a string")
        assert reference is not None
        pointer = self._resolve(place, "$ref", reference)[0]
        return Part(self._equal.get(pointer, pointer), scope=place.scope)

    def dynamic_target(self, place: Place) -> Part:
        """What the "$dynamicRef" or "$recursiveRef" of a place refers to: the outermost namesake on the way here."""
        word = "$dynamicRef" if "$dynamicRef" in place.schema else "$recursiveRef"
        reference = place.get(word, str, "a string")
        assert reference is not None
        pointer, uri, name = self._resolve(place, word, reference)
        if (uri, name) in self._dynamic:
            pointer = next(
                (self._dynamic[outer, name] for outer in place.scope if (outer, name) in self._dynamic), pointer
            )
        return Part(pointer, scope=place.scope)

    def _resolve(self, place: Place, word: str, reference: str) -> tuple[Pointer, str, str]:
        """(pointer, resource, fragment) of a reference."""
        self._scan_main()
        base = self._resource(place.pointer)
        if reference.startswith("#"):
            url, fragment = base.uri, reference[1:]
        else:
            url, fragment = urldefrag(urljoin(base.uri, reference))
        resource = base if url == base.uri else self._find(url)
        if resource is None:
            known = "documents come from the registry only, they are never fetched"
            refuse(
                place.at(word),
                f"{reference!r} refers to a document that is not known",
                f'{known}: registry={{"{url}": ...}}',
            )
        fragment = unquote(fragment)
        if fragment and not fragment.startswith("/"):
            pointer = self._anchors.get((resource.uri, fragment))
            if pointer is None:
                refuse(place.at(word), f"{reference!r} refers to an anchor that does not exist")
            return pointer, resource.uri, fragment
        pointer = resource.pointer + "".join("/" + escaped(step) for step in _steps(fragment))
        if pointer not in self._found:
            try:
                self._value(pointer)
            except LookupError:
                refuse(place.at(word), f"{reference!r} refers to nothing")
        return pointer, resource.uri, fragment

    def _find(self, url: str) -> Resource | None:
        """A resource by its URI, its document being taken in if it is not known yet."""
        found = self._resources.get(url)
        if found is None and (document := self._document(url)) is not None:
            self._roots[url] = document
            found = Resource(url, url + INSIDE, self._draft_of(document, url + INSIDE) or self.draft)
            self._add(found)
            self._scan(found)
            found = self._resources.get(url, found)
        return found

    def _document(self, url: str) -> Any:
        if url in self._registry:
            return plain_json(self._registry[url])
        from jsonschema_specifications import REGISTRY

        known = REGISTRY.get(url) or REGISTRY.get(url + "#")
        return None if known is None else known.contents

    # -- resources

    def _resource(self, pointer: Pointer) -> Resource:
        """The innermost resource that a place lies in."""
        if len(self._by_pointer) == 1:
            return self._main
        steps = pointer
        while steps not in self._by_pointer:
            steps = steps[: steps.rindex("/")] if "/" in steps.rpartition(INSIDE)[2] else steps.rpartition(INSIDE)[0]
        return self._by_pointer[steps]

    def _is_dynamic(self, resource: Resource) -> bool:
        return any(uri == resource.uri for uri, _ in self._dynamic)

    def _add(self, resource: Resource) -> None:
        self._resources.setdefault(resource.uri, resource)
        self._by_pointer[resource.pointer] = resource

    def _scan_main(self) -> None:
        if not self._scanned:
            self._scanned = True
            self._scan(self._main)

    def _scan(self, document: Resource) -> None:
        """Find the resources and anchors of a document."""
        work: list[tuple[Pointer, Any, Resource]] = [(document.pointer, self._value(document.pointer), document)]
        while work:
            pointer, schema, resource = work.pop()
            if not isinstance(schema, dict):
                continue
            self._found[pointer] = schema
            if not NAMES.isdisjoint(schema):
                resource = self._note(pointer, schema, resource)
            if not ("$ref" in schema and resource.draft.year <= 7):
                work += [(f"{pointer}{steps}", part, resource) for steps, part in subschemas(schema)]
            else:
                work += [
                    (f"{pointer}{steps}", part, resource)
                    for steps, part in subschemas(schema)
                    if steps.startswith(("/definitions/", "/$defs/"))
                ]

    def _note(self, pointer: Pointer, schema: dict[str, Any], resource: Resource) -> Resource:
        """The resource that a schema is in; its identifier and anchors are remembered."""
        draft = resource.draft
        if pointer != resource.pointer and "$schema" in schema:
            draft = self._inner_draft(schema, pointer, draft)
        identifier = self._identifier(schema, draft)
        name, fragment = urldefrag(identifier) if identifier else ("", "")
        if name and (pointer != resource.pointer or resource.uri != name):
            resource = Resource(urljoin(resource.uri, name), pointer, draft)
            self._add(resource)
        elif draft is not resource.draft:
            resource = self._by_pointer[pointer] = resource._replace(draft=draft)
        if fragment and draft.year <= 7:
            self._anchors[resource.uri, fragment] = pointer
        for word, tables in (
            ("$anchor", (self._anchors,)),
            ("$dynamicAnchor", (self._anchors, self._dynamic)),
        ):
            if isinstance(schema.get(word), str):
                for table in tables:
                    table[resource.uri, schema[word]] = pointer
        if schema.get("$recursiveAnchor") is True:
            self._dynamic[resource.uri, ""] = pointer
        return resource

    def _draft_of(self, schema: Any, pointer: Pointer) -> Draft | None:
        """The draft that a schema names, None if it names none."""
        dialect = schema.get("$schema") if isinstance(schema, dict) else None
        if dialect is None:
            return None
        draft = self._known_draft(dialect)
        if draft is None:
            known = "draft-04, draft-06, draft-07, 2019-09 and 2020-12, and metaschemas in the registry"
            refuse(f"{pointer}/$schema", f"{dialect!r} is no known version of JSON Schema", f"known are {known}")
        return draft

    def _inner_draft(self, schema: dict[str, Any], pointer: Pointer, draft: Draft) -> Draft:
        """The draft of a schema inside one of this draft. Versions are only named where a resource begins, by the
        specification: elsewhere one that is not known says nothing.
        """
        if self._identifier(schema, draft) or not isinstance(schema["$schema"], str):
            return self._draft_of(schema, pointer) or draft
        inner = self._known_draft(schema["$schema"])
        if inner is None:
            at = shown(f"{pointer}/$schema")
            warn(f"at {at}: {schema['$schema']!r} is no known version of JSON Schema; it is read as {draft.name}")
        return inner or draft

    def _known_draft(self, dialect: object) -> Draft | None:
        name = urldefrag(dialect).url if isinstance(dialect, str) else ""
        return DIALECTS.get(name) or self._dialect(name, frozenset())

    def _dialect(self, name: str, seen: frozenset[str]) -> Draft | None:
        """A version of JSON Schema that a metaschema in the registry describes."""
        metaschema = self._registry.get(name)
        if name in seen or not isinstance(metaschema, dict) or not isinstance(metaschema.get("$schema"), str):
            return None
        above = urldefrag(metaschema["$schema"]).url
        draft = DIALECTS.get(above) or self._dialect(above, seen | {name})
        vocabularies = metaschema.get("$vocabulary")
        if draft is None or not isinstance(vocabularies, dict):
            return draft
        for uri, needed in vocabularies.items():
            if needed and "json-schema.org/draft/" not in uri:
                refuse("/$schema", f"the vocabulary {uri!r} is required by {name!r} and not known")
        return draft._replace(validates=any(uri in vocabularies for uri in VALIDATION))

    def _identifier(self, schema: Any, draft: Draft) -> str:
        """What a schema is called; in drafts up to 7 a "$ref" hides its siblings, the name among them."""
        if not isinstance(schema, dict) or ("$ref" in schema and draft.year <= 7):
            return ""
        name = schema.get(draft.identifier)
        return name if isinstance(name, str) else ""


def _steps(pointer: Pointer) -> Iterator[str]:
    return (step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:])


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
            members = holder[key] = dict(item)
            work += [(part, members, name, (*path, name)) for name, part in members.items() if type(part) is not str]
        elif isinstance(item, list | tuple):
            items = holder[key] = list(item)
            work += [(part, items, i, (*path, i)) for i, part in enumerate(items) if type(part) is not str]
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
