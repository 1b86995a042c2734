"""JSON Schema: the automaton accepts a text exactly when the trusted validator finds its value valid."""

from __future__ import annotations

import gzip
import json
import random
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import genctl
from genctl.automata.base import Automaton, accepts
from genctl.automata.expressions import Tracked
from genctl.automata.pushdown import GrammarAutomaton
from genctl.compilers.json_schema import RULES, compile_json_schema
from genctl.compilers.json_schema.decimals import above, below
from genctl.compilers.json_schema.strings import CONTENT
from genctl.compilers.json_schema.words import Names
from genctl.errors import ConstraintError, GenctlWarning, UnsatisfiableError
from tests.schema_order import schema_order, validator_of

DRAFT_4 = "http://json-schema.org/draft-04/schema#"
DRAFT_7 = "http://json-schema.org/draft-07/schema#"


def spellings(value: Any) -> Iterator[str]:
    """The ways json.dumps writes a value."""
    yield json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    yield json.dumps(value)
    yield json.dumps(value, ensure_ascii=False, indent=2)


def verdicts(automaton: Automaton, value: Any) -> list[bool]:
    return [accepts(automaton, text.encode()) for text in spellings(value)]


def accepted(schema: Any, text: str, **options: Any) -> bool:
    return accepts(compile_json_schema(schema, **options), text.encode())


# -- random schemas and instances: each schema comes with ways to make values that nearly obey it

TEXTS = st.text(alphabet='ab1 é"\\/😀\t', max_size=5)
NUMBERS = st.sampled_from(
    [0, 1, -1, 2, 3, 7, 10, 1.0, 0.5, -0.5, 2.25, 1e-7, 0.0, -0.0, 99, 100, 1000, 12345678901234567890]
)
PATTERNS = ["^a+$", "b", "^[ab]{2,3}$", "é|1", "^$", "^[^a]*$", "a.b"]
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES = st.recursive(
    SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.sampled_from("abcd"), v, max_size=3), max_leaves=6
)
NAMES = ["a", "b", "c", "d", 'é"']
COUNTS = st.integers(0, 3)


def keywords(**strategies: Any) -> Any:
    """A schema with any of these keywords."""
    return st.fixed_dictionaries({}, optional=strategies)


def schemas() -> Any:
    leaf = st.one_of(
        st.booleans(),
        st.sampled_from([{"$ref": "#"}, {"$ref": "#/$defs/x"}, {"$ref": "#/$defs/y"}]),
        st.builds(dict, const=VALUES),
        st.builds(dict, enum=st.lists(VALUES, min_size=1, max_size=4)),
        keywords(type=types(), minLength=COUNTS, maxLength=COUNTS, pattern=st.sampled_from(PATTERNS)),
        keywords(type=types(), minimum=NUMBERS, maximum=NUMBERS, exclusiveMinimum=NUMBERS, exclusiveMaximum=NUMBERS),
    )  # fmt: skip
    return st.recursive(leaf, _compound, max_leaves=8)


def types() -> Any:
    names = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])
    return names | st.lists(names, min_size=1, max_size=3, unique=True)


def _compound(inner: Any) -> Any:
    return st.one_of(
        keywords(
            type=types(), items=inner, prefixItems=st.lists(inner, min_size=1, max_size=2),
            minItems=COUNTS, maxItems=COUNTS,
        ),
        keywords(
            type=st.just("object"), properties=st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
            required=st.lists(st.sampled_from(NAMES), max_size=2, unique=True), additionalProperties=inner,
            anyOf=st.lists(inner, min_size=1, max_size=2),
        ),
        keywords(
            anyOf=st.lists(inner, min_size=1, max_size=3), type=types(), minimum=NUMBERS, maxLength=COUNTS,
            enum=st.lists(VALUES, min_size=3, max_size=6),
        ),
        keywords(
            **{"$ref": st.sampled_from(["#/$defs/x", "#/$defs/y"]), "required": st.just(["a"]), "maxItems": COUNTS}
        ),
    )  # fmt: skip


@st.composite
def documents(draw: Any) -> dict[str, Any]:
    root = draw(schemas())
    root = dict(root) if isinstance(root, dict) else {"anyOf": [root]}
    return root | {"$defs": {"x": draw(schemas()), "y": draw(schemas())}}


@st.composite
def near_instances(draw: Any, root: Any, schema: Any, depth: int = 0) -> Any:
    """A value made after the schema; often valid, never surely."""
    if not isinstance(schema, dict) or depth > 6 or draw(st.integers(0, 19)) == 0:
        return draw(VALUES)
    if "const" in schema or "enum" in schema:
        return draw(st.sampled_from(schema.get("enum") or [schema["const"]]))
    if "$ref" in schema:
        target = root if schema["$ref"] == "#" else root["$defs"][schema["$ref"][-1]]
        rest = {k: v for k, v in schema.items() if k != "$ref"}
        return draw(near_instances(root, {**rest, **target} if isinstance(target, dict) else rest, depth + 1))
    if "anyOf" in schema:
        branch = draw(st.sampled_from(schema["anyOf"]))
        rest = {k: v for k, v in schema.items() if k != "anyOf"}
        return draw(near_instances(root, {**rest, **branch} if isinstance(branch, dict) else rest, depth + 1))
    return draw(_of_type(root, schema, depth))


@st.composite
def _of_type(draw: Any, root: Any, schema: dict[str, Any], depth: int) -> Any:
    kinds = schema.get("type", "object" if {"properties", "required"} & schema.keys() else None)
    kind = draw(st.sampled_from(kinds if isinstance(kinds, list) else [kinds]))
    if kind == "object":
        declared = schema.get("properties", {})
        names = [*schema.get("required", []), *draw(st.lists(st.sampled_from([*declared, "b", "free"]), max_size=3))]
        rest = schema.get("additionalProperties", True)
        return {n: draw(near_instances(root, declared.get(n, rest), depth + 1)) for n in names}
    if kind == "array":
        size = schema.get("minItems", 0) + draw(COUNTS)
        prefix = schema.get("prefixItems", [])
        parts = [*prefix, *[schema.get("items", True)] * size][:size]
        return [draw(near_instances(root, part, depth + 1)) for part in parts]
    return draw({"string": TEXTS, "null": st.none(), "boolean": st.booleans(), None: VALUES}.get(kind, NUMBERS))


@given(st.data(), documents())
def test_a_text_is_accepted_exactly_when_its_value_is_valid(data: Any, schema: dict[str, Any]) -> None:
    values = [data.draw(near_instances(schema, schema)) for _ in range(6)]
    check_against_validator(schema, values)


def check_against_validator(schema: Any, values: list[Any]) -> None:
    validator = validator_of(schema)
    try:
        valid = [validator.is_valid(value) for value in values]
    except RecursionError:
        assume(False)
    try:
        automaton = compile_json_schema(schema)
    except UnsatisfiableError:
        assert not any(valid)
        return
    for value, expected in zip(values, valid, strict=True):
        assert verdicts(automaton, schema_order(schema, value)) == [expected] * 3, (schema, value, expected)


@given(st.data(), documents())
def test_every_text_that_a_random_walk_writes_is_a_valid_instance(data: Any, schema: dict[str, Any]) -> None:
    try:
        automaton = compile_json_schema(schema)
    except UnsatisfiableError:
        return
    validator = validator_of(schema)
    for seed in range(3):
        text = random_text(automaton, random.Random(seed))
        value = json.loads(text, parse_float=exact)
        try:
            assert validator.is_valid(value), (schema, text)
        except RecursionError:
            assume(False)


def exact(digits: str) -> int | float:
    """A decimal number without the loss of a float where it is whole."""
    number = float(digits)
    if not 1 <= abs(number) < 1e30 or Decimal(digits) != Decimal(digits).to_integral_value():
        return number
    return int(Decimal(digits))


def random_text(automaton: Automaton, rng: random.Random, length: int = 60) -> bytes:
    """Random bytes for a while, then the shortest way to the end."""
    text, state = bytearray(), automaton.start
    while not (automaton.accepts(state) and (len(text) > length or rng.random() < 0.2)):
        ways = [(b, s) for b in range(256) if (s := automaton.step(state, b))]
        if not ways:
            break
        if len(text) > length:  # whatever the byte, lest the walk never ends
            ways = sorted(ways, key=lambda way: automaton.distance(way[1]))[:1]
        else:
            plain = [way for way in ways if chr(way[0]) in '{}[]",:0123456789abtnf\\ur.eE- ']
            ways = (ways if len(ways) < 9 else plain) or ways
        byte, state = rng.choice(ways)
        text.append(byte)
    return bytes(text)


# -- numbers

DIGITS = st.text("0123456789", max_size=4)
BOUNDS = st.one_of(
    st.integers(0, 1200).map(Decimal),
    st.decimals(0, 1100, places=3),
    st.sampled_from(["1e-7", "0.1", "1e16", "1.5e300", "2.50e-3", "9.99", "1000000000000000000000"]).map(Decimal),
)
PLAIN = st.builds(lambda w, f: (w.lstrip("0") or "0") + ("." + f if f else ""), DIGITS, DIGITS)
SCIENTIFIC = st.builds(
    lambda d, f, e, s, x: f"{d}{'.' + f if f else ''}{e}{s}{x}",
    st.sampled_from("123456789"), DIGITS, st.sampled_from("eE"), st.sampled_from(["", "+", "-"]),
    st.sampled_from(["0", "00", "1", "2", "02", "3", "7", "07", "16", "300", "301"]),
)  # fmt: skip


@st.composite
def bound_and_magnitude(draw: Any) -> tuple[Decimal, str]:
    bound = draw(BOUNDS)
    shift = draw(st.integers(-4, 4))
    plain = f"{bound:f}" if "." in f"{bound:f}" else f"{bound:f}.0"
    near = [f"{bound:f}", plain, plain + draw(st.sampled_from("019")), plain[:-1] + draw(st.sampled_from("019"))]
    if bound:
        digits = "".join(map(str, bound.as_tuple().digits)).lstrip("0")
        near += [f"{digits[0]}{'.' + digits[1:] if digits[1:] else ''}e{bound.adjusted() + d}" for d in (0, shift)]
    return bound, draw(PLAIN | SCIENTIFIC | st.sampled_from(near))


@given(bound_and_magnitude(), st.booleans())
def test_a_magnitude_is_above_or_below_a_bound_exactly_when_the_fractions_say_so(
    case: tuple[Decimal, str], strict: bool
) -> None:
    bound, text = case
    exact, limit = Fraction(text), Fraction(bound)
    larger = exact > limit or (exact == limit and not strict)
    smaller = exact < limit or (exact == limit and not strict)
    assert accepts(GrammarAutomaton(above(bound, strict=strict)), text.encode()) == larger
    assert accepts(GrammarAutomaton(below(bound, strict=strict)), text.encode()) == smaller


@given(
    st.tuples(BOUNDS, st.booleans()),
    st.tuples(BOUNDS, st.booleans()),
    PLAIN | SCIENTIFIC,
    st.sampled_from(["", "-"]),
    st.booleans(),
)
def test_a_number_is_accepted_exactly_when_it_lies_between_its_bounds(
    low: Any, high: Any, text: str, sign: str, integer: bool
) -> None:
    (low, low_negative), (high, high_negative), text = low, high, sign + text
    low, high = (-low if low_negative else low), (-high if high_negative else high)
    exact = Fraction(text)
    fits = Fraction(low) <= exact < Fraction(high)
    if integer:
        fits = fits and not ("e" in text or "E" in text) and exact.denominator == 1
    schema = {"type": "integer" if integer else "number", "minimum": low, "exclusiveMaximum": high}
    try:
        assert accepted(schema, text) == fits
    except UnsatisfiableError:
        assert not fits


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "integer"}, ["0", "-0", "12", "1.0", "-3.0"], ["01", "1.", "1.5", "+1", "1e2", ".5", "2.00"]),
        ({"type": "integer", "$schema": DRAFT_4}, ["0", "12"], ["1.0", "12.00"]),
        ({"type": "number"}, ["0", "-0.0", "1E5", "0.5e-3", "12e+07"], ["01", "1.", ".5", "NaN", "1e", "1e1000"]),
        ({"type": "number", "minimum": 1e-07}, ["1e-07", "0.0000001", "1e16", "5"], ["9e-08", "0", "-1"]),
        ({"type": "number", "minimum": 0}, ["-0", "-0.0", "0e5", "1e-300"], ["-1e-300", "-0.01"]),
        ({"type": "number", "exclusiveMinimum": 0}, ["1e-300", "0.01"], ["0", "-0", "0.00", "0e5"]),
        ({"minimum": 3, "exclusiveMinimum": True, "$schema": DRAFT_4, "type": "number"}, ["3.1"], ["3", "3.0"]),
        ({"maximum": 3, "exclusiveMaximum": False, "$schema": DRAFT_4, "type": "number"}, ["3"], ["3.1"]),
        ({"type": "number", "maximum": 1.5e300}, ["1.5e300", "1.5e+300", "-1e999"], ["1.6e300", "1e301"]),
    ],
)  # fmt: skip
def test_numbers_are_spelled_and_bounded_as_documented(schema: Any, good: list[str], bad: list[str]) -> None:
    automaton = compile_json_schema(schema)
    assert [text for text in good if not accepts(automaton, text.encode())] == []
    assert [text for text in bad if accepts(automaton, text.encode())] == []


# -- strings

WORDS = st.lists(st.text('ab"\\/é漢😀\n\x1f', max_size=4), max_size=5)
PLAINLY = ["a", "b", "/", "é", "漢", "😀"]
ESCAPED = ["\\u0061", "\\u00E9", "\\u6f22", "\\ud83d\\uDE00", "\\u001F", "\\uD83D", '\\"', "\\\\", "\\/", "\\n"]
SPELLED = st.lists(st.sampled_from(PLAINLY + ESCAPED), max_size=4)


@given(WORDS, SPELLED, st.booleans())
def test_a_spelling_is_accepted_exactly_when_it_decodes_to_a_word(words: list[str], parts: list[str], inside: bool):
    text = "".join(parts)
    automaton = GrammarAutomaton(Tracked(CONTENT, Names(words), inside))
    expected = (json.loads(f'"{text}"') in words) == inside and "\\uD83D" not in parts
    assert accepts(automaton, text.encode()) == expected


@given(WORDS, SPELLED, st.booleans())
def test_the_distance_to_a_word_is_the_length_of_its_shortest_spelling(words, parts, inside):
    automaton = GrammarAutomaton(Tracked(CONTENT, Names(words), inside))
    if inside:
        shortest = min((len(json.dumps(word, ensure_ascii=False).encode()) - 2 for word in words), default=2**31 - 1)
        assert automaton.distance(automaton.start) == shortest
    state = automaton.start
    for byte in "".join(parts).encode():
        if automaton.accepts(state):
            assert automaton.distance(state) == 0
        elif state != 0:
            nearest = min(automaton.distance(automaton.step(state, b)) for b in range(256))
            assert nearest == automaton.distance(state) - 1
        state = automaton.step(state, byte)


def test_lengths_count_code_points_and_patterns_are_searched_for() -> None:
    schema = {"type": "string", "minLength": 2, "maxLength": 3, "pattern": "[é😀]"}
    automaton = compile_json_schema(schema)
    good = ["é1", "😀😀", "ab😀", "\\u00e9a", "\\ud83d\\ude00a"]
    bad = ["é", "ab", "abcé", "\\ud83da", "\\ud83d\\ude00"]
    assert [accepts(automaton, f'"{text}"'.encode()) for text in good + bad] == [True] * 5 + [False] * 5


LONG = {
    "a pattern": ({"pattern": "^[a-z]+$", "minLength": 3_000}, "a" * 3_000, "a" * 2_999),
    "not a pattern": ({"not": {"pattern": "a"}, "minLength": 3_000}, "b" * 3_000, "b" * 2_999 + "a"),
    "two patterns": ({"allOf": [{"pattern": "a.*b"}, {"pattern": "b.*c"}], "minLength": 900}, "abc" * 300, "abb" * 300),
    "both bounds": ({"pattern": "^(ab)*$", "minLength": 1_001, "maxLength": 1_003}, "ab" * 501, "ab" * 500),
}


@pytest.mark.parametrize("case", LONG)
def test_patterns_of_long_strings_are_no_search_without_end(case: str) -> None:
    schema, good, bad = LONG[case]
    automaton = compile_json_schema({"type": "string", **schema})
    assert accepts(automaton, f'"{good}"'.encode())
    assert not accepts(automaton, f'"{bad}"'.encode())
    assert automaton.distance(automaton.start) == len(good) + 2


def test_a_pattern_that_no_length_goes_with_is_found_out() -> None:
    with pytest.raises(UnsatisfiableError, match=r"1001 to 1001 characters long, matches `\^\(ab\)\*\$`"):
        compile_json_schema({"type": "string", "pattern": "^(ab)*$", "minLength": 1_001, "maxLength": 1_001})


# -- objects, arrays, white space


def test_declared_properties_keep_their_order_and_never_come_twice() -> None:
    schema = {"properties": {"a": {}, "b": {}}, "required": ["r"]}
    good = ['{"r":1}', '{"a":1,"r":1}', '{"a":1,"b":1,"r":1,"x":1}']
    bad = ['{"r":1,"a":1}', '{"b":1,"a":1,"r":1}', '{"a":1,"a":1,"r":1}', '{"a":1,"r":1,"\\u0061":1}', '{"a":1}']
    assert [accepted(schema, text) for text in good + bad] == [True] * 3 + [False] * 5


@pytest.mark.parametrize("count", [15, 16, 17, 40, 300])
def test_any_choice_of_many_optional_properties_is_accepted(count: int) -> None:
    names = [f"p{i}" for i in range(count)]
    schema = {"properties": {name: {"const": i} for i, name in enumerate(names)}, "additionalProperties": False}
    automaton, rng = compile_json_schema(schema), random.Random(count)
    for _ in range(10):
        chosen = sorted(rng.sample(range(count), rng.randrange(min(count, 20))))
        assert accepts(automaton, json.dumps({names[i]: i for i in chosen}).encode())
        if len(chosen) > 1:
            assert not accepts(automaton, json.dumps({names[i]: i for i in reversed(chosen)}).encode())


@pytest.mark.parametrize("required", [0, 5, 19, 39])
def test_no_required_property_among_many_is_passed_over(required: int) -> None:
    names = [f"p{i}" for i in range(40)]
    automaton = compile_json_schema(
        {"type": "object", "properties": {name: {} for name in names}, "required": [names[required]]}
    )
    assert accepts(automaton, json.dumps({names[required]: 1}).encode())
    assert accepts(automaton, json.dumps(dict.fromkeys(names, 1)).encode())
    assert not accepts(automaton, json.dumps({n: 1 for n in names if n != names[required]}).encode())


TEXTS_IN_STYLE = {
    "compact": '{"a":[1,2],"b":{}}',
    "spaced": '{"a": [1, 2], "b": {}}',
    2: '{\n  "a": [\n    1,\n    2\n  ],\n  "b": {}\n}',
    4: '{\n    "a": [\n        1,\n        2\n    ],\n    "b": {}\n}',
}
WIDER = {"bounded": set(TEXTS_IN_STYLE), 2: {2, 4}}  # what a style accepts beside its own


@pytest.mark.parametrize("whitespace", [*TEXTS_IN_STYLE, "bounded"])
def test_each_style_of_white_space_accepts_its_own_texts_only(whitespace: str | int) -> None:
    automaton = compile_json_schema(True, whitespace=whitespace)
    found = {style for style, text in TEXTS_IN_STYLE.items() if accepts(automaton, text.encode())}
    assert found == WIDER.get(whitespace, {whitespace})


@pytest.mark.parametrize("whitespace", ["wide", -1, 100, True, None])
def test_a_style_of_white_space_that_does_not_exist_is_refused(whitespace: Any) -> None:
    with pytest.raises(ConstraintError, match="whitespace must be"):
        compile_json_schema(True, whitespace=whitespace)


@pytest.mark.parametrize(
    "text", [" 1", "1 ", '{"a":  1}', "[1,   2]", "[ 1]", '{"a" :1}', "[\t1]", "[\n" + " " * 21 + "1]", "{\n}"]
)
def test_white_space_is_bounded_and_nowhere_else(text: str) -> None:
    assert not accepted(True, text)


# -- references and alternatives

LIST = {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}, "required": ["next"]}
EVEN = {
    "$ref": "#/$defs/even",
    "$defs": {
        "even": {"anyOf": [{"type": "null"}, {"type": "array", "items": {"$ref": "#/$defs/odd"}, "minItems": 1}]},
        "odd": {"type": "array", "items": {"$ref": "#/$defs/even"}, "minItems": 1},
    },
}


def test_recursion_goes_as_deep_as_the_text() -> None:
    automaton = compile_json_schema({**LIST, "additionalProperties": False})
    value: Any = None
    for _ in range(60):
        value = {"next": value}
        assert accepts(automaton, json.dumps(value).encode())
    assert not accepts(automaton, json.dumps(value).replace("null", "1").encode())


@pytest.mark.parametrize("depth", range(6))
def test_mutual_recursion_is_exact(depth: int) -> None:
    assert accepted(EVEN, "[" * depth + "null" + "]" * depth) == (depth % 2 == 0)


@pytest.mark.parametrize(
    "schema",
    [
        {"anyOf": [{"$ref": "#"}, {"type": "string"}]},
        {
            "anyOf": [{"$ref": "#/$defs/a"}, {"type": "string"}],
            "$defs": {"a": {"anyOf": [{"$ref": "#"}, {"$ref": "#/$defs/a"}]}},
        },
        {"anyOf": [{"anyOf": [{"$ref": "#"}], "minimum": 3}, {"type": "string"}]},
    ],
)  # fmt: skip
def test_an_alternative_that_leads_back_to_itself_adds_nothing(schema: Any) -> None:
    automaton = compile_json_schema(schema)
    assert accepts(automaton, b'"x"')
    assert not accepts(automaton, b"5")


@pytest.mark.parametrize(
    ("reference", "name"),
    [("a%20b", "a b"), ("t~0d", "t~d"), ("s~1h", "s/h"), ("p%25c", "p%c"), ("%C3%A9", "é")],
)
def test_references_are_decoded(reference: str, name: str) -> None:
    assert accepted({"$ref": "#/$defs/" + reference, "$defs": {name: {"type": "null"}}}, "null")


@pytest.mark.parametrize("identifier", ["http://example.com/root.json", "urn:uuid:1-2", "root.json"])
def test_a_reference_to_the_documents_own_name_is_local(identifier: str) -> None:
    schema = {
        "$id": identifier,
        "$defs": {"n": {"type": "null"}},
        "items": {"$ref": f"{identifier}#/$defs/n"},
        "prefixItems": [{"$ref": "#/$defs/n"}],
    }
    assert accepted(schema, "[null,null]")
    assert not accepted(schema, "[null,1]")


def test_siblings_of_a_reference_count_since_2019_and_not_before() -> None:
    schema = {"$ref": "#/definitions/s", "maxLength": 1, "definitions": {"s": {"type": "string"}}}
    assert not accepted(schema, '"ab"')
    assert accepted({"$schema": DRAFT_7, **schema}, '"ab"')
    assert not accepted({"$schema": "https://json-schema.org/draft/2019-09/schema", **schema}, '"ab"')


def test_a_list_of_items_is_read_in_the_drafts_that_have_it() -> None:
    schema = {"$schema": DRAFT_7, "type": "array", "items": [{"type": "null"}], "additionalItems": {"type": "string"}}
    assert [accepted(schema, text) for text in ("[]", '[null,"a"]', "[1]", "[null,1]")] == [True, True, False, False]


DRAFT_2020 = "https://json-schema.org/draft/2020-12/schema"
OF_ANOTHER_DRAFT: dict[str, tuple[Any, Any, list[str], list[str]]] = {
    "an old bound": (None, {"$schema": DRAFT_4, "minimum": 1, "exclusiveMinimum": True}, ["2"], ["1"]),
    "a new word": (DRAFT_7, {"$schema": DRAFT_2020, "prefixItems": [{"const": 1}]}, ["[1]"], ["[2]"]),
    "a new word, not known": (DRAFT_7, {"items": {"prefixItems": [{"const": 1}]}}, ["[[2]]"], []),
    "inside it": (DRAFT_2020, {"$schema": DRAFT_7, "not": {"items": [{"const": 1}]}}, ["[2]"], ["[1]", "1"]),
    "its references": (None, {"$schema": DRAFT_7, "items": [{"$ref": "#/$defs/a"}]}, ["[1]"], ["[2]"]),
    "no version": (DRAFT_7, {"$schema": "http://example.com/mine", "const": 1}, ["1"], ["2"]),
}


@pytest.mark.filterwarnings("ignore::genctl.errors.GenctlWarning")
@pytest.mark.parametrize("case", OF_ANOTHER_DRAFT)
def test_a_part_may_be_of_another_draft(case: str) -> None:
    draft, part, good, bad = OF_ANOTHER_DRAFT[case]
    schema = {"type": "array", "items": part, "$defs": {"a": {"const": 1}}} | ({"$schema": draft} if draft else {})
    validator = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)(schema)
    for text in good + bad:
        assert accepted(schema, f"[{text}]") == validator.is_valid([json.loads(text)]) == (text in good), text


def test_a_version_that_is_not_known_is_warned_of_inside_and_refused_where_a_resource_begins() -> None:
    part = {"$schema": "http://example.com/mine", "const": 1}
    with pytest.warns(GenctlWarning, match="at /items/.schema: 'http://example.com/mine' is no known version"):
        compile_json_schema({"items": part})
    with pytest.raises(ConstraintError) as caught:
        compile_json_schema({"items": {"$id": "http://example.com/part", **part}})
    assert caught.value.pointer == "/items/$schema"


# -- refusals

REFUSED = [
    ({"properties": {"a": {"format": 1}}}, "/properties/a/format"),
    ({"properties": {"a/b": {"items": {"uniqueItems": True}}}}, "/properties/a~1b/items/uniqueItems"),
    ({"properties": {"~": {"uniqueItems": True}}}, "/properties/~0/uniqueItems"),
    ({"$ref": "#/nowhere"}, "/$ref"),
    ({"$ref": "#/$defs/x/y", "$defs": {"x": {"const": 1}}}, "/$ref"),
    ({"$ref": "http://example.com/other.json"}, "/$ref"),
    ({"$ref": "#anchor"}, "/$ref"),
    ({"$ref": 3}, "/$ref"),
    ({"$ref": "#/title", "title": "t"}, "/title"),
    ({"minLength": -1}, "/minLength"),
    ({"minLength": "3"}, "/minLength"),
    ({"maxItems": 1.5}, "/maxItems"),
    ({"maxItems": True}, "/maxItems"),
    ({"required": "a"}, "/required"),
    ({"required": [1]}, "/required"),
    ({"minimum": "1"}, "/minimum"),
    ({"minimum": float("nan")}, "/minimum"),
    ({"minimum": float("inf")}, "/minimum"),
    ({"enum": [1, {"a": float("nan")}]}, "/enum/1/a"),
    ({"enum": 1}, "/enum"),
    ({"enum": ["\ud800"]}, "/enum"),
    ({"const": {"a": {1}}}, "/const/a"),
    ({"exclusiveMinimum": True}, "/exclusiveMinimum"),
    ({"exclusiveMinimum": 1, "$schema": DRAFT_4}, "/exclusiveMinimum"),
    ({"items": [{}]}, "/items"),
    ({"type": "str"}, "/type"),
    ({"type": [["string"]]}, "/type"),
    ({"anyOf": []}, "/anyOf"),
    ({"anyOf": {}}, "/anyOf"),
    ({"properties": []}, "/properties"),
    ({"properties": {"a": 1}}, "/properties/a"),
    ({"items": "string"}, "/items"),
    ({"pattern": "(a"}, "/pattern"),
    ({"properties": {"a": {"pattern": r"(a)\1"}}}, "/properties/a/pattern"),
    ({"pattern": 1}, "/pattern"),
    ({"$schema": "http://example.com/mine"}, "/$schema"),
    ({1: {}}, ""),
    (3, ""),
    (None, ""),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "pointer"), REFUSED)
def test_what_cannot_be_enforced_is_refused_with_its_pointer(schema: Any, pointer: str) -> None:
    with pytest.raises(ConstraintError) as caught:
        compile_json_schema(schema)
    assert caught.value.pointer == pointer
    assert not isinstance(caught.value, UnsatisfiableError)


@pytest.mark.parametrize("keyword", [word for word, rule in RULES.items() if rule.handling == "refused"])
def test_every_keyword_that_is_not_supported_is_refused_with_a_hint(keyword: str) -> None:
    with pytest.raises(ConstraintError, match="not supported yet") as caught:
        compile_json_schema({"items": {keyword: {}}})
    assert caught.value.pointer == f"/items/{keyword}"


UNSATISFIABLE = [
    (False, "", "false"),
    ({"$ref": "#"}, "", "itself"),
    ({"anyOf": [{"$ref": "#"}, False]}, "", "itself"),
    ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "", "cannot end"),
    ({"type": "array", "items": {"$ref": "#"}, "minItems": 1}, "", "cannot end"),
    ({"type": "integer", "minimum": 3, "maximum": 2}, "", "at least 3 and at most 2"),
    ({"type": "integer", "minimum": 1.2, "maximum": 1.8}, "", "no integer"),
    ({"type": "number", "minimum": 1, "exclusiveMaximum": 1}, "", "no number"),
    ({"type": "string", "minLength": 3, "maxLength": 2}, "", "at least 3"),
    ({"type": "string", "pattern": "^ab?$", "minLength": 3}, "", "matches"),
    ({"type": "array", "minItems": 3, "maxItems": 2}, "", "at least 3"),
    ({"type": "array", "prefixItems": [{}, False], "minItems": 2}, "/prefixItems/1", "item 1"),
    ({"type": "object", "required": ["a"], "properties": {"a": False}}, "/properties/a", "'a'"),
    ({"type": "object", "required": ["a"], "additionalProperties": False}, "/additionalProperties", "'a'"),
    ({"items": {"type": "integer", "enum": ["x"]}, "minItems": 1, "type": "array"}, "/items", "none of the listed"),
    ({"enum": []}, "", "no value is listed"),
    ({"type": "string", "anyOf": [{"type": "integer"}]}, "/anyOf/0", "exclude"),
    ({"const": 1, "enum": [2]}, "", "no value is listed"),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "pointer", "reason"), UNSATISFIABLE)
def test_a_schema_that_admits_nothing_is_refused_with_the_place_and_reason(
    schema: Any, pointer: str, reason: str
) -> None:
    with pytest.raises(UnsatisfiableError) as caught:
        compile_json_schema(schema)
    assert caught.value.pointer == pointer
    assert reason in caught.value.reason


def test_parts_that_admit_nothing_are_never_begun() -> None:
    endless = {"type": "array", "items": {"$ref": "#/$defs/endless"}, "minItems": 1}
    properties = {"a": False, "b": {"$ref": "#/$defs/endless"}, "c": {}}
    closed = {"type": "object", "additionalProperties": False}
    automaton = compile_json_schema({**closed, "properties": properties, "$defs": {"endless": endless}})
    state = automaton.step(automaton.step(automaton.start, ord("{")), ord('"'))
    assert [chr(byte) for byte in range(256) if automaton.step(state, byte)] == ["c"]


def test_long_numbers_are_listed_digit_by_digit() -> None:
    number = 10**40 + 1
    assert accepted({"enum": [number, -number]}, f"-{number}.0")
    assert not accepted({"enum": [number]}, str(number - 1))
    with pytest.raises(ConstraintError, match="digits") as caught:
        compile_json_schema('{"items": {"const": [1e999999]}}')
    assert caught.value.pointer == "/items/const"


@pytest.mark.parametrize("text", ["{", '{"const": 1e' + "9" * 40 + "}", "[" * 100_000, ""])
def test_broken_json_text_is_refused(text: str) -> None:
    with pytest.raises(ConstraintError, match="not JSON"):
        compile_json_schema(text)


def test_a_schema_may_be_json_text_with_exact_decimals() -> None:
    automaton = compile_json_schema('{"type": "number", "maximum": 0.10000000000000000001}')
    assert accepts(automaton, b"0.10000000000000000001")
    assert not accepts(automaton, b"0.10000000000000000002")


@pytest.mark.parametrize(
    ("word", "keyword"),
    [("propertees", "properties"), ("additonalProperties", "additionalProperties"), ("minlength", "minLength")],
)
def test_a_misspelt_keyword_is_warned_of_with_the_nearest_name(word: str, keyword: str) -> None:
    with pytest.warns(GenctlWarning, match=f"at /items/{word}: .*`{keyword}`"):
        compile_json_schema({"items": {word: {}}})


def test_other_unknown_words_are_annotations_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert accepted({"x-order": 1, "javaType": "T", "type": "null", "title": "t", "$comment": "c"}, "null")


# -- size


def test_schemas_many_levels_deep_compile() -> None:
    schema: Any = {"type": "integer"}
    value: Any = 1
    for _ in range(150):
        schema = {
            "type": "array",
            "items": {"type": "object", "properties": {"a": schema}, "required": ["a"]},
            "minItems": 1,
        }
        value = [{"a": value}]
    assert accepted(schema, json.dumps(value))
    listed: Any = 1
    for _ in range(200):
        listed = [listed]
        schema = {"anyOf": [schema, {"type": "null"}]}
    assert accepted(schema, "null")
    assert accepted({"const": listed}, json.dumps(listed))


def test_ten_thousand_strings_compile_and_are_told_apart() -> None:
    words = [f"word {i * 7919}é" for i in range(10_000)]
    automaton = compile_json_schema({"type": "string", "minLength": 5, "enum": words})
    assert accepts(automaton, json.dumps(words[77]).encode())
    assert not accepts(automaton, b'"word 1"')


def test_a_pattern_that_is_too_large_for_the_automaton_is_refused_with_its_pointer() -> None:
    with pytest.raises(ConstraintError, match="repeated more than") as caught:
        compile_json_schema({"properties": {"a": {"pattern": "^(?:(?!ab)[ab]){1,9000}$"}}})
    assert caught.value.pointer == "/properties/a/pattern"


def test_thousands_of_properties_compile() -> None:
    names = [f"property {i}" for i in range(2_000)]
    automaton = compile_json_schema({"type": "object", "properties": {name: {"type": "integer"} for name in names}})
    assert accepts(automaton, json.dumps({names[i]: i for i in range(0, 2_000, 100)}).encode())


# -- real cases


def lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        pytest.skip(f"{path} is absent")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


OTHER_DRAFTS = [
    ({"const": 1, "$schema": DRAFT_4}, "/const"),
    ({"prefixItems": [{"type": "string"}], "$schema": DRAFT_7}, "/prefixItems"),
    ({"additionalItems": False}, "/additionalItems"),
]


@pytest.mark.parametrize(("schema", "pointer"), OTHER_DRAFTS)
def test_a_keyword_of_another_draft_constrains_nothing_and_is_warned_of(schema: Any, pointer: str) -> None:
    with pytest.warns(GenctlWarning, match=f"at {pointer}: .* constrains nothing"):
        assert accepts(compile_json_schema(schema), b"[2]")


DIALECTS = {"draft7": DRAFT_7, "draft2020-12": "https://json-schema.org/draft/2020-12/schema"}
REMOTE = "http://localhost:1234/"


@pytest.mark.filterwarnings("ignore::genctl.errors.GenctlWarning")
@pytest.mark.parametrize(("kind", "formats"), [("required", False), ("optional", True)])
def test_every_test_of_the_official_suite_gets_its_verdict(data: Path, kind: str, formats: bool) -> None:
    """Optional: those of the formats."""
    with gzip.open(data / "json-schema-remotes.json.gz", "rt", encoding="utf-8") as file:
        registry = {REMOTE + path: document for path, document in json.load(file).items()}
    seen = 0
    for group in lines(data / "json-schema-test-suite.jsonl.gz"):
        if group["kind"] != kind or (kind == "optional" and "format" not in group["file"]):
            continue
        schema = group["schema"]
        if isinstance(schema, dict):
            schema = {"$schema": DIALECTS[group["draft"]], **schema}
        verdict = _judging(schema, property_order="any", formats=formats, registry=registry)
        for test in group["tests"]:
            seen += 1
            where = group["draft"], group["file"], group["description"], test
            assert [verdict(text) for text in texts(test["data"])] == [test["valid"]] * 2, where
    assert seen > 1_000


def texts(value: Any) -> list[str]:
    return [json.dumps(value, ensure_ascii=False, separators=marks) for marks in ((",", ":"), (", ", ": "))]


def _judging(schema: Any, **options: Any) -> Callable[[str], bool]:
    """The verdict of a schema on texts. One that no value obeys is refused as such."""
    try:
        return genctl.json(schema, **options).accepts
    except UnsatisfiableError:
        return lambda text: False


def _check_real(rows: list[dict[str, Any]]) -> Counter[str]:
    """Every valid instance is accepted in the order of the schema's properties, or else in any order; no invalid is."""
    counts: Counter[str] = Counter()
    for row in rows:
        try:
            verdict = _judging(row["schema"])
        except ConstraintError as error:
            counts["refused"] += bool(error.pointer)
            print(row["name"], error)
            continue
        counts["compiled"] += 1
        in_any_order = verdict
        for test in row["tests"]:
            found = [verdict(text) for text in texts(test["data"])]
            if test["valid"] and not all(found):
                if in_any_order is verdict:
                    in_any_order = _judging(row["schema"], property_order="any")
                found = [in_any_order(text) for text in texts(test["data"])]
            assert found == [test["valid"]] * 2, (row["name"], test)
    return counts


@pytest.mark.filterwarnings("ignore::genctl.errors.GenctlWarning")
def test_two_hundred_real_schemas_are_enforced_exactly(data: Path) -> None:
    counts = _check_real(lines(data / "json-schemas.jsonl.gz")[::10])
    assert counts["refused"] <= 1, counts


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::genctl.errors.GenctlWarning")
def test_all_real_schemas_are_enforced_exactly_or_refused_with_a_pointer(data: Path) -> None:
    counts = _check_real(lines(data / "json-schemas.jsonl.gz"))
    print(counts)
    assert counts["refused"] <= 10
