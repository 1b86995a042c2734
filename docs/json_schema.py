"""Writes json-schema.md from the table of rules: `make docs`. A test holds the page against the table."""

from __future__ import annotations

from pathlib import Path

from genctl.compilers.json_schema.context import DRAFTS
from genctl.compilers.json_schema.rules import RULES

HEAD = """# JSON Schema

```python
genctl.json(schema)  # a mapping, JSON text, a path, or a type
genctl.json(schema, property_order="any", formats=False, registry={"https://example.com/a.json": {...}})
```

Drafts 2020-12 (default), 2019-09, 7, 6 and 4, by `$schema`, also by that of a part; a metaschema in the registry may
choose vocabularies. Every keyword is enforced, or the schema is refused with the keyword's JSON pointer. How:

- **automaton**: a byte that cannot be continued to a valid value is never allowed.
- **cases**: a schema is resolved into cases that together are exactly what it says: `not` becomes the union of the ways
  to violate a schema, `oneOf` "this one and none of the others"; the automaton enforces the keywords of each case.
- **check**: the automaton admits more than the schema does. Whole values are judged as they close (an item, a member,
  an object, the text) inside the constraint, so that masks, samplers and `allows` see it; `jsonschema` has the final
  word. Duplicate keys are refused in the same way, whatever the schema says.
- **annotation**: constrains nothing, as the specification says.

What the automaton of a rule leaves to the check is in `rule.automaton.notes["checks"]`, with pointer and reason. A
check refuses as soon as no continuation can be valid, but it does not look ahead as the automaton does: behind
`{"a": 1, "b":` it may find that no value of `b` goes with that of `a`, and the text is then a dead end.

Declared properties come in the schema's order, then required names that it does not declare (up to three of them
anywhere among the free ones), then free names. Numbers are exact decimals; an integer is written without exponent.
Strings may be spelled in every way that JSON allows, declared names as `json.dumps` does.

"""
WORDS = {
    "automaton": "automaton",
    "checked": "check",
    "cases": "cases",
    "reference": "followed",
    "container": "holds schemas",
}
# What there is to say of a keyword beyond its handling.
NOTES = {
    "enum": "strings and numbers in every spelling; the members of an object of up to six in any order",
    "const": "as `enum`",
    "uniqueItems": "in the automaton where the items have few possible values",
    "contains": "a check where thousands of items would have to be counted",
    "format": "`hostname`, `idn-hostname`, `regex` by a check too; unknown ones are annotations",
    "pattern": "ECMA-262; back-references are refused",
    "oneOf": "a check where the cases get too many",
    "not": "a check where the cases get too many",
    "if": "a check where the cases get too many",
    "properties": 'written in this order; `property_order="any"` leaves it to the model (a check beyond six)',
    "minProperties": "a check where hundreds of properties would have to be counted",
    "maxProperties": "as `minProperties`",
    "$dynamicRef": "resolved along the way that the value is reached by",
    "$ref": "into the schema, embedded resources, the registry and the published metaschemas; nothing is fetched",
}


def page() -> str:
    names = {draft.year: draft.name.removeprefix("draft ") for draft in DRAFTS.values()}
    lines = ["| keyword | drafts | how | |", "| --- | --- | --- | --- |"]
    for word, rule in RULES.items():
        drafts = "all" if (rule.since, rule.until) == (4, 2020) else f"{names[rule.since]} to {names[rule.until]}"
        if rule.since == rule.until:
            drafts = names[rule.since]
        lines.append(f"| `{word}` | {drafts} | {WORDS.get(rule.handling, rule.handling)} | {NOTES.get(word, '')} |")
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("json-schema.md").write_text(page(), encoding="utf-8")
