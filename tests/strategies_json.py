"""Random JSON Schemas of drafts 2020-12 and 7, with every keyword, and random instances that nearly obey them.

    @given(st.data(), schemas(2020))
    def test_...(data, schema):
        value = data.draw(instances(schema))            # valid about every second time

Schemas are small and valid by the metaschema. References point to `$defs` (draft 7: `definitions`) and to the root, and
may be recursive; those that would come back without having read anything are left out, so every validator ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from hypothesis import strategies as st

SCHEMA_OF = {2020: "https://json-schema.org/draft/2020-12/schema", 7: "http://json-schema.org/draft-07/schema#"}
DEFINITIONS = {2020: "$defs", 7: "definitions"}
DEFINED = ["x", "y", "tree"]

TYPES = ["null", "boolean", "integer", "number", "string", "array", "object"]
NAMES = ["a", "b", "ab", "c", 'é"']
PATTERNS = ["^a+$", "b", "^[ab]{1,3}$", "é|1", "^$", "^[^a]*$", "a.b", "^x-"]
TEXTS = st.sampled_from(["", "a", "b", "ab", "aab", "x-1", 'é"', "1", "😀b", "a\tb", "c/~"])
NUMBERS = st.sampled_from([0, 1, -1, 2, 3, 7, 10, 12, 1.0, 0.5, -0.5, 2.25, 1e-7, 0.0, 100, 1e16, 12345678901234567890])
STEPS = st.sampled_from([1, 2, 3, 0.5, 0.25, 10])
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
COUNTS = st.integers(0, 3)


def _compound(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)


VALUES = SCALARS | st.recursive(SCALARS, _compound, max_leaves=4)
KEYS = st.sampled_from([{"maxLength": 1}, {"pattern": "a"}, {"enum": NAMES[:2]}, {"not": {"const": "c"}}, True])


# -- schemas


@st.composite
def schemas(draw: st.DrawFn, draft: int = 2020, size: int = 5) -> dict[str, Any]:
    """A document with definitions. size: how many schemas may stand inside of the root, about."""
    maker = _Maker(draw, draft)
    root = maker.schema(size, consumed=False)
    while isinstance(root, bool):
        root = maker.schema(size, consumed=False)
    definitions = {name: maker.schema(2, consumed=False, references=False) for name in DEFINED[:2]}
    own = {"$ref": f"#/{DEFINITIONS[draft]}/tree"}
    tree = {"type": "object", "properties": {"a": own, "b": maker.schema(1, consumed=True)}}
    return {"$schema": SCHEMA_OF[draft], **root, DEFINITIONS[draft]: {**definitions, "tree": tree}}


class _Maker:
    """Draws schemas of bounded size. consumed: does a part of the value lie between here and the root?"""

    def __init__(self, draw: st.DrawFn, draft: int) -> None:
        self.draw, self.draft = draw, draft
        modern = draft == 2020
        self.families = {
            "scalars": self.scalars,
            "listed": self.listed,
            "arrays": self.modern_arrays if modern else self.old_arrays,
            "objects": self.objects,
            "combined": self.combined,
            "conditional": self.conditional,
            "dependent": self.dependent if modern else self.dependencies,
            "unevaluated": self.unevaluated if modern else self.combined,
        }

    def chance(self, one_in: int) -> bool:
        return self.draw(st.integers(1, one_in)) == one_in

    def schema(self, size: int, *, consumed: bool, references: bool = True) -> Any:
        if self.chance(16):
            return self.chance(3) is False
        if references and self.chance(5):
            targets = [f"#/{DEFINITIONS[self.draft]}/{name}" for name in DEFINED] + (["#"] if consumed else [])
            found: dict[str, Any] = {"$ref": self.draw(st.sampled_from(targets))}
            return found | self.scalars(0, consumed) if self.draft > 7 and self.chance(3) else found
        inner = ["arrays", "objects", "combined", "conditional", "dependent", "unevaluated"] if size > 0 else []
        family = self.draw(st.sampled_from([*inner, *inner, "scalars", "listed"]))
        found = self.families[family](size - 1, consumed)
        if self.chance(4):
            found = {**self.families[self.draw(st.sampled_from([*inner, "scalars"]))](size - 2, consumed), **found}
        return {key: value for key, value in found.items() if value is not None}

    def some(self, **makers: Any) -> dict[str, Any]:
        """One or more of the keywords, each made where it is taken."""
        names = self.draw(st.lists(st.sampled_from(list(makers)), min_size=1, max_size=3, unique=True))
        return {name: makers[name]() for name in makers if name in names}

    def child(self, size: int) -> Any:
        return self.schema(self.draw(st.integers(0, max(size, 0))), consumed=True)

    def branches(self, size: int, consumed: bool) -> list[Any]:
        count = self.draw(st.integers(1, 3))
        return [self.schema((size - 1) // count, consumed=consumed, references=consumed) for _ in range(count)]

    def branch(self, size: int, consumed: bool) -> Any:
        return self.schema(size - 1, consumed=consumed, references=consumed)

    # families of keywords

    def scalars(self, size: int, consumed: bool) -> dict[str, Any]:
        kind = self.draw(st.sampled_from(["number", "string", "any"]))
        bound, count = (lambda: self.draw(NUMBERS)), (lambda: self.draw(COUNTS))
        if kind == "number":
            said = self.some(
                type=lambda: self.draw(st.sampled_from(["number", "integer"])), minimum=bound, maximum=bound,
                exclusiveMinimum=bound, exclusiveMaximum=bound, multipleOf=lambda: self.draw(STEPS),
            )  # fmt: skip
        elif kind == "string":
            said = self.some(
                type=lambda: "string", minLength=count, maxLength=count,
                pattern=lambda: self.draw(st.sampled_from(PATTERNS)),
            )  # fmt: skip
        else:
            names = self.draw(st.lists(st.sampled_from(TYPES), min_size=1, max_size=3, unique=True))
            said = {"type": names if len(names) > 1 else names[0]}
        return said

    def listed(self, size: int, consumed: bool) -> dict[str, Any]:
        if self.chance(2):
            return {"const": self.draw(VALUES)}
        return {"enum": self.draw(st.lists(VALUES, min_size=1, max_size=4, unique_by=repr))}

    def arrays(self, size: int) -> dict[str, Any]:
        """Keywords for arrays that both drafts have."""
        count = partial(self.draw, COUNTS)
        return {
            "type": lambda: "array", "minItems": count, "maxItems": count, "contains": lambda: self.child(size - 1),
            "uniqueItems": lambda: True,
        }  # fmt: skip

    def modern_arrays(self, size: int, consumed: bool) -> dict[str, Any]:
        said = self.some(
            **self.arrays(size), items=lambda: self.child(size),
            prefixItems=lambda: [self.child(size // 2) for _ in range(self.draw(st.integers(1, 2)))],
        )  # fmt: skip
        if "contains" in said:
            said |= {key: self.draw(COUNTS) for key in ("minContains", "maxContains") if self.chance(2)}
        return said

    def old_arrays(self, size: int, consumed: bool) -> dict[str, Any]:
        def items() -> Any:
            return [self.child(size // 2) for _ in range(2)] if self.chance(2) else self.child(size)

        return self.some(**self.arrays(size), items=items, additionalItems=lambda: self.child(size - 1))

    def objects(self, size: int, consumed: bool) -> dict[str, Any]:
        names, count = st.sampled_from(NAMES), (lambda: self.draw(COUNTS))
        return self.some(
            type=lambda: "object",
            properties=lambda: {
                name: self.child(size // 2) for name in self.draw(st.lists(names, min_size=1, max_size=3, unique=True))
            },
            patternProperties=lambda: {self.draw(st.sampled_from(PATTERNS)): self.child(size - 1)},
            additionalProperties=lambda: self.child(size - 1),
            propertyNames=lambda: self.draw(KEYS),
            required=lambda: self.draw(st.lists(names, max_size=2, unique=True)),
            minProperties=count,
            maxProperties=count,
        )

    def combined(self, size: int, consumed: bool) -> dict[str, Any]:
        branches, negated = partial(self.branches, size, consumed), partial(self.branch, size, consumed)
        return self.some(**{"allOf": branches, "anyOf": branches, "oneOf": branches, "not": negated})

    def conditional(self, size: int, consumed: bool) -> dict[str, Any]:
        parts = {key: self.branch(size // 2, consumed) for key in ("if", "then", "else")}
        for key in ("then", "else"):
            if self.chance(3):
                del parts[key]
        return parts

    def dependent(self, size: int, consumed: bool) -> dict[str, Any]:
        return self.some(
            dependentRequired=lambda: {self._name(): self._names()},
            dependentSchemas=lambda: {self._name(): self.branch(size, consumed)},
        )

    def dependencies(self, size: int, consumed: bool) -> dict[str, Any]:
        return {"dependencies": {self._name(): self._names() if self.chance(2) else self.branch(size, consumed)}}

    def unevaluated(self, size: int, consumed: bool) -> dict[str, Any]:
        beside = self.draw(st.sampled_from([self.combined, self.conditional, self.objects, self.modern_arrays]))
        said = self.some(
            unevaluatedItems=lambda: self.child(size // 2), unevaluatedProperties=lambda: self.child(size // 2)
        )
        return {**beside(size, consumed), **said}

    def _name(self) -> str:
        return self.draw(st.sampled_from(NAMES))

    def _names(self) -> list[str]:
        return self.draw(st.lists(st.sampled_from(NAMES), max_size=2, unique=True))


# -- instances


def instances(root: Any) -> st.SearchStrategy[Any]:
    """Values made after the schema, most of them slightly changed or not at all: some are valid, some nearly."""
    return _instances(root)


@st.composite
def _instances(draw: st.DrawFn, root: Any) -> Any:
    value = _Made(draw, root).value(root, 0)
    changes = draw(st.sampled_from([0, 0, 1]))
    constants = list(_constants(root))
    for _ in range(changes):
        value = _changed(draw, value, constants)
    return value


class _Made:
    """Draws values that try to obey a schema."""

    def __init__(self, draw: st.DrawFn, root: Any) -> None:
        self.draw, self.root = draw, root

    def value(self, schema: Any, depth: int) -> Any:
        said = self.gathered(schema, 0)
        if said.get("never") or depth > 4:
            return self.draw(SCALARS)
        listed = said["enum"]
        if listed is not None:
            return self.draw(st.sampled_from(listed or [None]))
        makers = {"number": self.number, "integer": self.number, "string": self.string, "array": self.array,
                  "object": self.object}  # fmt: skip
        kind = self.draw(st.sampled_from(self.kinds(said)))
        if kind == "null":
            return None
        return self.draw(st.booleans()) if kind == "boolean" else makers[kind](said, depth, kind)

    def kinds(self, said: dict[str, Any]) -> list[str]:
        """Types that are allowed; if all are, those that keywords are about come first."""
        if said["type"] is not None:
            return sorted(said["type"]) or ["null"]
        about = {
            "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
            "string": {"minLength", "maxLength", "pattern"},
            "array": {"items", "prefixItems", "contains", "minItems", "maxItems", "uniqueItems", "unevaluatedItems"},
            "object": {
                "properties", "patternProperties", "required", "propertyNames", "minProperties", "maxProperties",
                "additionalProperties", "dependentRequired", "dependentSchemas", "dependencies",
                "unevaluatedProperties",
            },
        }  # fmt: skip
        words = said["words"]
        return [kind for kind, own in about.items() if own & words] or ["null", "boolean", "number", "string", "object"]

    def gathered(self, schema: Any, depth: int) -> dict[str, Any]:
        """What a schema, its references and a choice of its branches say together, roughly."""
        said: dict[str, Any] = {"type": None, "enum": None, "words": set(), "parts": [], "never": schema is False}
        work = [(schema, 0)]
        while work:
            part, depth = work.pop()
            if not isinstance(part, dict) or depth > 6:
                said["never"] |= part is False
                continue
            if "$ref" in part:
                work.append((self.target(part["$ref"]), depth + 1))
                if "definitions" in self.root:  # what stands beside a reference says nothing in draft 7
                    continue
            said["parts"].append(part)
            said["words"].update(part)
            self._narrow(said, part)
            work += [(branch, depth + 1) for branch in part.get("allOf", [])]
            for key in ("anyOf", "oneOf"):
                if key in part:
                    work.append((self.draw(st.sampled_from(part[key])), depth + 1))
            if "if" in part:
                way = self.draw(st.booleans())
                work += [(part["if"], depth + 1)] if way else []
                work.append((part.get("then" if way else "else", True), depth + 1))
        return said

    def _narrow(self, said: dict[str, Any], part: dict[str, Any]) -> None:
        if "type" in part:
            kinds = {part["type"]} if isinstance(part["type"], str) else set(part["type"])
            both = said["type"] & kinds if said["type"] is not None else kinds
            said["type"] = both or kinds
        listed = [part["const"]] if "const" in part else part.get("enum")
        if listed is not None:
            both = listed if said["enum"] is None else [value for value in listed if value in said["enum"]]
            said["enum"] = both or listed

    def target(self, reference: str) -> Any:
        found = self.root
        for step in reference.split("/")[1:]:
            found = found[step]
        return found

    def all(self, said: dict[str, Any], word: str) -> list[Any]:
        return [part[word] for part in said["parts"] if word in part]

    def number(self, said: dict[str, Any], depth: int, kind: str) -> Any:
        low = max(self.all(said, "minimum") + self.all(said, "exclusiveMinimum"), default=None)
        high = min(self.all(said, "maximum") + self.all(said, "exclusiveMaximum"), default=None)
        step = max([*self.all(said, "multipleOf"), *([1] if kind == "integer" else [])], default=0.5)
        start = low if low is not None else high if high is not None else 0
        away = self.draw(st.integers(-1, 4)) * (-1 if low is None and high is not None else 1)
        if start > 1e15:
            return start + int(away * step)
        return (start // step + away) * step if self.draw(st.booleans()) else start + away * step

    def string(self, said: dict[str, Any], depth: int, kind: str) -> str:
        samples = {
            "^a+$": ["a", "aaa"], "b": ["b", "aab"], "^[ab]{1,3}$": ["ab", "b", "aaa"], "é|1": ["é", "a1"], "^$": [""],
            "^[^a]*$": ["", "bc", "é"], "a.b": ["a-b", "aab"], "^x-": ["x-", "x-1"],
        }  # fmt: skip
        patterns = self.all(said, "pattern")
        text = self.draw(st.sampled_from(samples[patterns[0]])) if patterns else self.draw(TEXTS)
        least, most = max(self.all(said, "minLength"), default=0), min(self.all(said, "maxLength"), default=9)
        return (text if len(text) >= least else text.ljust(least, text[-1:] or "b"))[: max(most, least)]

    def array(self, said: dict[str, Any], depth: int, kind: str) -> list[Any]:
        least, most = max(self.all(said, "minItems"), default=0), min(self.all(said, "maxItems"), default=4)
        size = self.draw(st.integers(least, max(least, min(most, least + 3))))
        found = [self.value(self._item(said, index), depth + 1) for index in range(size)]
        for part in said["parts"]:
            for index in range(min(part.get("minContains", 1), len(found)) if "contains" in part else 0):
                found[-1 - index] = self.value(part["contains"], depth + 1)
        return found

    def _item(self, said: dict[str, Any], index: int) -> Any:
        schemas = []
        for part in said["parts"]:
            items = part.get("items", True)
            prefix = items if isinstance(items, list) else part.get("prefixItems", [])
            rest = part.get("additionalItems", True) if isinstance(items, list) else items
            rest = part.get("unevaluatedItems", True) if rest is True else rest
            schemas.append(prefix[index] if index < len(prefix) else rest)
        return {"allOf": schemas}

    def object(self, said: dict[str, Any], depth: int, kind: str) -> dict[str, Any]:
        declared = [name for properties in self.all(said, "properties") for name in properties]
        names = [name for required in self.all(said, "required") for name in required]
        most = min(self.all(said, "maxProperties"), default=9)
        least = max(self.all(said, "minProperties"), default=0)
        extra = self.draw(st.lists(st.sampled_from([*declared, *declared, *NAMES]), min_size=least, max_size=least + 2))
        free = [name for name in dict.fromkeys(extra) if name not in names]
        found = [*dict.fromkeys(names), *free[: max(most - len(names), 0)]]
        return {name: self.value(self._member(said, name), depth + 1) for name in found}

    def _member(self, said: dict[str, Any], name: str) -> Any:
        schemas = [properties[name] for properties in self.all(said, "properties") if name in properties]
        if not schemas:
            schemas = self.all(said, "additionalProperties") + self.all(said, "unevaluatedProperties")
        return {"allOf": schemas}


def _constants(schema: Any) -> Iterator[Any]:
    """Values, bounds and names that stand in a schema."""
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key in ("const", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"):
                yield value
            elif key == "enum":
                yield from value
            elif key != "$schema":
                yield from _constants(value)
    elif isinstance(schema, list):
        for item in schema:
            yield from _constants(item)


def _changed(draw: st.DrawFn, value: Any, constants: list[Any]) -> Any:
    """The value with one change, somewhere."""
    other = st.sampled_from(constants) if constants else SCALARS
    if isinstance(value, list) and value and draw(st.booleans()):
        at = draw(st.integers(0, len(value) - 1))
        way = draw(st.sampled_from(["change", "drop", "double"]))
        middle = {"drop": [], "double": [value[at]] * 2}.get(way)
        return value[:at] + ([_changed(draw, value[at], constants)] if middle is None else middle) + value[at + 1 :]
    if isinstance(value, dict) and draw(st.booleans()):
        name = draw(st.sampled_from([*value, *NAMES]))
        if name in value and draw(st.booleans()):
            return {other_name: item for other_name, item in value.items() if other_name != name}
        return {**value, name: _changed(draw, value.get(name), constants)}
    if isinstance(value, int | float) and not isinstance(value, bool) and draw(st.booleans()):
        return value + draw(st.sampled_from([1, -1, 0.5]))
    if isinstance(value, str) and draw(st.booleans()):
        return draw(st.sampled_from([value + "a", value[1:], value + "é"]))
    return draw(other | SCALARS)
