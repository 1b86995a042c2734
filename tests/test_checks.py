"""Checks beside the automaton: no key twice, and whole values, token by token."""

from __future__ import annotations

import gzip
import itertools
import json
import random
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import genctl
from genctl.automata.base import run
from genctl.compilers.json_schema import compile_json_schema
from genctl.compilers.json_schema.partial import UNKNOWN, OpenArray, OpenObject, WholeValues
from genctl.constraints.automaton import AutomatonConstraint
from genctl.constraints.base import unpack
from genctl.constraints.budget import within
from genctl.constraints.checked import REFUSED, Checked, Checks, Memory, Place, Scanner
from genctl.constraints.explain import explain
from genctl.constraints.forced import forced_tokens
from genctl.constraints.rules import Language
from genctl.constraints.sentences import sample
from genctl.errors import ConstraintError
from genctl.models.toy import ToyModel
from genctl.samplers.masked import masked
from genctl.samplers.rejection import awrs
from genctl.samplers.streams import of
from genctl.vocabulary import Vocabulary
from tests import naive
from tests.schema_order import validator_of
from tests.statistics import assert_mean

PIECES = [
    b'{"', b'":', b'","', b'",', b'"}', b"}}", b"],", b"]}", b", ", b': "', b'"a":', b'{"a":1,"', b'b":', b'"a":1',
    b"[[", b"1,1",
    b"\\u00", b"61", b'a"', b'\\"', b'a","a"', b'{"a":1,"a":', b"\xc3\xa9", b'":1,"', b"true", b"null", b",1",
]  # fmt: skip
JSON = Vocabulary((*(bytes((byte,)) for byte in range(256)), *PIECES, b""), eos=frozenset({256 + len(PIECES)}))
SIZE, END = len(JSON), len(JSON) - 1


@cache
def any_json() -> AutomatonConstraint:
    return AutomatonConstraint(compile_json_schema(True), JSON)


def checked(schema: Any = None, **options: Any) -> Checked:
    """Any JSON without keys that come twice, or (schema) its valid values."""
    judges = () if schema is None else (WholeValues(schema, **options),)
    return Checked(any_json(), Checks(True, judges))


def cut(rng: random.Random, text: bytes) -> list[int]:
    """The text in tokens, at random."""
    tokens, at = [], 0
    while at < len(text):
        fitting = [i for i, token in enumerate(JSON.tokens) if token and text.startswith(token, at)]
        tokens.append(rng.choice(fitting[-3:]))
        at += len(JSON.tokens[tokens[-1]])
    return tokens


def texts(keys: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """JSON in which a key may come twice in an object."""
    blank = st.sampled_from(["", " ", "\n  "])

    def grow(inner):
        pairs = st.lists(
            st.tuples(keys, blank, inner).map(lambda kbv: f"{json.dumps(kbv[0])}:{kbv[1]}{kbv[2]}"), max_size=4
        )
        containers = st.tuples(st.just("{}"), pairs) | st.tuples(st.just("[]"), st.lists(inner, max_size=3))

        def written(container, gap):
            (opening, closing), parts = container
            return gap.join([opening, f",{gap}".join(parts), closing])

        return st.builds(written, containers, blank)

    scalars = st.sampled_from(["1", "-2.5e3", "true", "null"]) | st.text('a\\"é{,', max_size=3).map(json.dumps)
    return st.recursive(scalars, grow, max_leaves=8)


def shape(place: Place) -> tuple[Any, ...]:
    frame, open_ = place.frame, []
    while frame is not None:
        open_.append(frame.keys)
        frame = frame.up
    return place.where, place.text, open_


@given(texts(st.text('ab"\\é', max_size=2)), st.sets(st.integers(1, 80)))
@example('{"a":{"\\nb":1}}', {3, 8, 10})  # a token that closes a key, and one behind it, inside an escape
def test_what_tokens_do_to_a_memory_is_what_reading_them_does(text, cuts):
    data = text.encode()
    places = [0, *sorted(at for at in cuts if at < len(data)), len(data)]
    pieces = list(dict.fromkeys(data[a:b] for a, b in itertools.pairwise(places)))
    vocabulary = Vocabulary((*pieces, b"\xff", b""), eos=frozenset({len(pieces) + 1}))
    tokens = AutomatonConstraint(any_json().automaton, vocabulary).tokens
    memory, unasked = Memory(Checks(True), tokens), Memory(Checks(True), tokens)
    scanner = Scanner(Checks(True))
    place, number, silent = scanner.start, memory.start, unasked.start

    def read(memory: Memory, number: int, token: int) -> int:
        changes = number & 1 or not memory.marks.quiet[token]
        return memory.after(number, token) if changes else number

    for a, b in itertools.pairwise(places):
        token, after = pieces.index(data[a:b]), scanner.read(place, data[a:b])
        assert memory.passes(number, token) == (after is not None)
        number, silent = read(memory, number, token), read(unasked, silent, token)
        if after is None:
            assert number == silent == REFUSED
            return
        assert shape(memory.place(number)) == shape(after)
        place = after
    assert shape(unasked.place(silent)) == shape(place)


def accepts(constraint: Any, tokens: list[int]) -> bool:
    """By advance, with `allows` and the mask asked on the way."""
    state = constraint.start()
    for token in tokens:
        allowed = constraint.allows(state, token)
        assert bool(unpack(constraint.candidates(state), SIZE)[token]) == allowed
        target = constraint.advance(state, token)
        assert (target != 0) == allowed
        if not allowed:
            return False
        state = target
    assert constraint.complete(state) == constraint.allows(state, END)
    return constraint.complete(state)


def repeats(text: str) -> bool:
    """Does any object have a key twice?"""
    found = []
    json.loads(text, object_pairs_hook=lambda pairs: found.append(len(dict(pairs)) < len(pairs)) or dict(pairs))
    return any(found)


# -- random texts, with keys that come twice

KEYS = st.sampled_from(['"a"', '"b"', '"\\u0061"', '"ab"', '"é"', '"\\u00e9"', '""', '"\\""', '"\\u0022"', '"a\\n"'])
SCALARS = st.sampled_from(["1", "2", "1.0", "10", "true", "null", '"a"', '"\\u0061"', '"a,b"', '"{\\"a"', '""'])


def written(inner: Any) -> Any:
    commas = st.sampled_from([",", ", "])
    members = st.lists(st.tuples(KEYS, st.sampled_from([":", ": "]), inner).map("".join), max_size=4)
    return st.one_of(
        st.builds(lambda items, comma: f"[{comma.join(items)}]", st.lists(inner, max_size=4), commas),
        st.builds(lambda items, comma: f"{{{comma.join(items)}}}", members, commas),
    )


TEXTS = st.recursive(SCALARS, written, max_leaves=8)


@given(TEXTS, st.integers(0, 2**32))
@settings(max_examples=400, deadline=None)
def test_a_text_is_refused_exactly_if_a_key_comes_twice_in_an_object(text, seed):
    assert accepts(checked(), cut(random.Random(seed), text.encode())) == (not repeats(text))


@given(TEXTS, st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_a_token_is_refused_exactly_if_the_scanner_refuses_its_bytes(text, seed):
    constraint, scanner = checked(), Scanner(Checks(True))
    state, place = constraint.start(), scanner.start
    for token in cut(random.Random(seed), text.encode()):
        inner = constraint.inner_states(np.array([state]))[0]
        for other in np.flatnonzero(unpack(any_json().candidates(int(inner)), SIZE)[:END]).tolist():
            passes = scanner.read(place, JSON.tokens[other]) is not None
            assert constraint.allows(state, other) == passes
            assert (constraint.advance(state, other) != 0) == passes
        if not constraint.allows(state, token):
            return
        state, place = constraint.advance(state, token), scanner.read(place, JSON.tokens[token])


VALUES = st.sampled_from([1, 2, 10, "a", True, None, [1], {"a": 1}, []])
COUNT = st.integers(0, 3)


def schemas(inner: Any) -> Any:
    subschemas = st.lists(inner, min_size=1, max_size=3)
    names = st.sampled_from(["a", "b", "ab"])
    return st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["array", "object", "integer", ["string", "object"], ["array", "number"]]),
            "uniqueItems": st.booleans(), "contains": inner, "minContains": COUNT, "maxContains": COUNT,
            "items": inner, "prefixItems": subschemas, "minItems": COUNT, "maxItems": COUNT, "unevaluatedItems": inner,
            "properties": st.dictionaries(names, inner, max_size=2), "additionalProperties": inner,
            "patternProperties": st.dictionaries(st.sampled_from(["^a", "b$"]), inner, max_size=2),
            "required": st.lists(names, unique=True, max_size=2), "minProperties": COUNT, "maxProperties": COUNT,
            "propertyNames": inner, "dependentSchemas": st.dictionaries(names, inner, max_size=2),
            "dependentRequired": st.dictionaries(names, st.lists(names, unique=True, max_size=2), max_size=2),
            "unevaluatedProperties": inner, "enum": st.lists(VALUES, min_size=1, max_size=4), "const": VALUES,
            "minimum": COUNT, "multipleOf": st.sampled_from([2, 0.5, 0.1]), "minLength": COUNT,
            "pattern": st.sampled_from(["^a", "b"]),
            "allOf": subschemas, "anyOf": subschemas, "oneOf": subschemas, "not": inner, "if": inner, "then": inner,
            "else": inner, "$ref": st.sampled_from(["#/$defs/x", "#/$defs/y"]),
        },
    )  # fmt: skip


def few(schema: dict[str, Any]) -> dict[str, Any]:
    """At most four of the keywords, so that something is left that obeys."""
    words = sorted(schema)
    return {word: schema[word] for word in random.Random(len(str(schema))).sample(words, min(4, len(words)))}


LEAVES = st.sampled_from([True, False, {"type": "integer"}, {"type": "string"}, {"const": 1}, {"minLength": 1}])
SCHEMAS = st.recursive(LEAVES, lambda inner: schemas(inner).map(few), max_leaves=6)


@st.composite
def documents(draw: Any) -> dict[str, Any]:
    root = draw(schemas(SCHEMAS).map(few))
    return root | {"$defs": {"x": draw(SCHEMAS), "y": draw(LEAVES)}}


def verdict(schema: Any, text: str) -> bool:
    value = json.loads(text, parse_float=Decimal)
    plain = json.loads(text)
    whole = WholeValues(schema).verdict(value)
    trusted = validator_of(schema).is_valid(plain)
    assert whole is None or whole == trusted
    return trusted and not repeats(text)


@given(documents(), st.lists(TEXTS, min_size=1, max_size=3), st.integers(0, 2**32))
@settings(max_examples=300, deadline=None)
def test_a_text_is_accepted_token_by_token_exactly_if_its_value_is_valid(schema, texts, seed):
    constraint, rng = checked(schema), random.Random(seed)
    for text in texts:
        assert accepts(constraint, cut(rng, text.encode())) == verdict(schema, text)


OF_STRINGS: list[dict[str, Any]] = [
    {"pattern": "b"}, {"minLength": 2}, {"not": {"minLength": 1}}, {"enum": ["a", ["a"], {"a": "a,b"}]}, {"const": "a"},
    {"maxLength": 1, "type": "string"}, {"anyOf": [{"minLength": 2}, {"uniqueItems": True, "type": "array"}]},
]  # fmt: skip
inside = st.sampled_from(OF_STRINGS).flatmap(
    lambda one: st.sampled_from([
        one, {"items": one}, {"additionalProperties": one}, {"contains": one}, {"items": {"not": one}},
        {"uniqueItems": True, "items": one}, {"oneOf": [one, {"items": one}]}, {"items": {"additionalProperties": one}},
    ])
)  # fmt: skip


@given(inside | documents(), TEXTS, st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_what_is_known_of_other_tokens_and_texts_is_what_reading_each_one_afresh_says(schema, text, seed):
    constraint, checks = checked(schema), Checks(True, (WholeValues(schema),))
    state, place = constraint.start(), Scanner(checks).start
    for token in cut(random.Random(seed), text.encode()):
        inner = int(constraint.inner_states(np.array([state]))[0])
        readable = np.flatnonzero(unpack(any_json().candidates(inner), SIZE)[:END]).tolist()
        passes = [Scanner(checks).read(place, JSON.tokens[other]) is not None for other in readable]
        assert [constraint.allows(state, other) for other in readable] == passes
        assert unpack(constraint.candidates(state), SIZE)[readable].tolist() == passes
        assert [constraint.advance(state, other) != 0 for other in readable] == passes
        state, place = constraint.advance(state, token), Scanner(checks).read(place, JSON.tokens[token])
        if place is None:
            return


@given(documents(), TEXTS)
@settings(max_examples=300, deadline=None)
def test_what_is_said_of_a_beginning_holds_for_the_whole_text(schema, text):
    whole, scanner, raw = WholeValues(schema), Scanner(Checks(True, (WholeValues(True),))), text.encode()
    if repeats(text):
        return
    place, said = scanner.start, []
    for at in range(len(raw)):
        place = scanner.read(place, raw[at : at + 1])
        said.append(whole.verdict(scanner.partial(place)))
    final = whole.verdict(json.loads(text, parse_float=Decimal))
    assert {one for one in said if one is not None} <= {final}


# -- single cases


@pytest.mark.parametrize(
    ("schema", "read", "refused"),
    [
        ({"uniqueItems": True}, b'["a", "b", "a', b'"'),
        ({"uniqueItems": True}, b"[1, 2, 1", b","),
        ({"uniqueItems": True}, b"[[1], [1", b"]"),
        ({"contains": {"const": 1}, "maxContains": 1}, b"[1, 1", b","),
        ({"maxItems": 1}, b"[1", b","),
        ({"maxProperties": 1}, b'{"a": 1', b","),
        ({"required": ["b"]}, b'{"a": 1', b"}"),
        ({"not": {"required": ["a"]}}, b'{"a', b'"'),
        ({"dependentRequired": {"a": ["b"]}}, b'{"a": 1', b"}"),
        ({"additionalProperties": {"uniqueItems": True}}, b'{"x": [true, true', b"]"),
        ({"const": [1, {"a": 2}]}, b"[1, {", b'"b"'),
        ({"enum": [[], [1]]}, b"", b"{"),
    ],
)
def test_a_token_is_refused_as_soon_as_nothing_valid_can_follow(schema, read, refused):
    constraint = checked(schema)
    state = constraint.start()
    for byte in read:
        state = constraint.advance(state, byte)
    assert state
    for byte in refused[:-1]:
        state = constraint.advance(state, byte)
    assert not constraint.allows(state, refused[-1])
    assert any_json().allows(constraint.inner_states(np.array([state]))[0], refused[-1])


def test_verdicts_on_parts():
    whole = WholeValues({"type": "array", "uniqueItems": True, "maxItems": 3})
    assert whole.verdict(OpenArray([1, 2, UNKNOWN])) is None
    assert whole.verdict(OpenArray([1, OpenArray([1]), 1])) is False
    assert whole.verdict([1, Decimal("1.5")]) is True
    assert WholeValues({"required": ["a"]}).verdict(OpenObject({"a": UNKNOWN})) is True
    assert WholeValues({"maxProperties": 1}).verdict(OpenObject({"a": 1}, pending=True)) is False


@pytest.mark.parametrize("document", [True, {"allOf": [True]}, {"definitions": {"a": False}}, {"items": True}])
def test_a_registry_may_have_boolean_schemas_beside_a_schema_of_draft_4(document):
    schema = {"$schema": "http://json-schema.org/draft-04/schema#", "uniqueItems": True, "items": {"$ref": "urn:n"}}
    whole = WholeValues(schema, registry={"urn:n": {"type": "integer"}, "urn:other": document})
    assert [whole.valid(value) for value in ([1, 2], [1, 1], ["a"])] == [True, False, False]


def test_references_lead_to_the_registry_and_nowhere_else():
    whole = WholeValues({"$ref": "urn:other#/$defs/n"}, registry={"urn:other": {"$defs": {"n": {"maximum": 3}}}})
    assert whole.valid(3)
    assert not whole.valid(4)


def test_formats_are_what_their_table_says():
    schema = {"items": {"format": "even"}}
    whole = WholeValues(schema, formats={"even": lambda text: len(text) % 2 == 0})
    assert whole.valid(["ab", 1])
    assert not whole.valid(["a"])
    assert WholeValues(schema).valid(["a"])


def test_numbers_lose_nothing():
    whole = WholeValues({"multipleOf": 0.01, "maximum": 9007199254740993})
    assert whole.valid(Decimal("0.29"))
    assert not whole.valid(Decimal("0.295"))
    assert not whole.valid(9007199254740994)


# -- as a part of everything else

MODEL = ToyModel.random(JSON, order=1, seed=1)
FREE = {"type": "object", "additionalProperties": {"type": "integer"}}


def test_rules_whose_names_cannot_come_twice_are_plain_automata():
    closed = genctl.json({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False})
    assert isinstance(closed.bind(JSON), AutomatonConstraint)
    assert isinstance(genctl.json(FREE).bind(JSON), Checked)
    assert isinstance(genctl.json({"items": {"properties": {"a": {}}}}).bind(JSON), Checked)


def test_what_repeats_is_known_of_a_rule_that_comes_from_the_disk(tmp_path, monkeypatch):
    from genctl.constraints import store

    monkeypatch.setenv("GENCTL_CACHE", str(tmp_path))
    monkeypatch.setattr(store, "SLOW", 0.0)
    for _ in range(2):
        store._memory.clear()
        assert not genctl.json(FREE).accepts('{"a":1,"a":2}')
    assert list(tmp_path.rglob("*"))
    store._memory.clear()


def test_explain_says_where_the_key_ends_that_was_there():
    rule = genctl.json(FREE)
    said = explain(rule.automaton, '{"a": 1, "a": 2}', rule.checks)
    assert (said.status, said.offset, said.found) == ("rejected", 11, '"')
    assert rule.accepts('{"a": 1, "a' + said.completion)
    assert explain(rule.automaton, '{"a": 1, "b": 2}', rule.checks).status == "accepted"


def judged(schema: Any) -> Language:
    return Language(any_json().automaton, "any", json.loads, Checks(True, (WholeValues(schema),)))


def test_explain_and_sentences_respect_judges():
    rule = judged({"type": "array", "uniqueItems": True, "minItems": 2, "items": {"type": "integer"}})
    assert explain(rule.automaton, "[1, 2]", rule.checks).status == "accepted"
    said = explain(rule.automaton, "[1, 1]", rule.checks)
    assert (said.status, said.offset) == ("rejected", 5)
    rng = np.random.default_rng(0)
    for _ in range(10):
        begun = b"[1, "
        state = run(rule.automaton, rule.automaton.start, begun)
        text = sample(rule.automaton, rng, state=state, checks=rule.checks, begun=begun)
        assert text is not None
        assert rule.accepts((begun + text).decode())


def test_operators_carry_checks_or_refuse_them():
    unique = judged({"uniqueItems": True})
    both = unique & genctl.regex(r"\[.*\]")
    assert both.accepts("[1,2]")
    assert not both.accepts("[1,1]")
    assert not (genctl.json(FREE) - "{}").accepts('{"a":1,"a":1}')
    with pytest.raises(ConstraintError, match="whole values"):
        unique | "x"


def test_forced_tokens_are_what_checks_leave():
    vocabulary = Vocabulary((b'{"', b"a", b"b", b'":1', b',"', b"}", b""), eos=frozenset({6}))
    schema = {"propertyNames": {"maxLength": 1}, "additionalProperties": {"const": 1}}
    automaton = compile_json_schema({"type": "object", "additionalProperties": {"const": 1}})
    constraint = Checked(AutomatonConstraint(automaton, vocabulary), Checks(True, (WholeValues(schema),)))
    state = constraint.start()
    assert forced_tokens(constraint, state, 7)[:1] == [0]


@pytest.mark.parametrize("limit", [None, 14])
def test_awrs_and_masks_have_the_same_law_under_checks(limit):
    constraint = checked({"type": ["object", "array"], "uniqueItems": True})
    state_of = constraint
    if limit is not None:
        state_of, budget = within(constraint, limit)
        assert budget is not None
    state = state_of.start()
    for token in b'{"a":1,"':
        state = state_of.advance(state, token)
    assert state
    logits = np.full((1, SIZE), -4.0, np.float32)
    logits[0, [ord("a"), 256 + PIECES.index(b'a"'), 256 + PIECES.index(b'b":'), ord('"')]] = [1.0, 3.0, 0.5, 0.0]
    rng = np.random.default_rng(0)
    exact = masked(of(rng, 1), logits, state_of, np.array([state])).log_weights[0]
    states = np.full(4_000, state)
    draws = awrs(of(rng, len(states)), np.repeat(logits, len(states), axis=0), state_of, states)
    assert set(draws.tokens.tolist()) <= set(np.flatnonzero(naive.mask(state_of, state, SIZE)).tolist())
    assert_mean(np.exp(draws.log_weights), np.exp(exact))


def test_texts_under_checks_and_a_budget_end_complete_and_valid():
    model = genctl.load(MODEL)
    rule = genctl.json(FREE, whitespace="compact")
    results = model.generate("", rule, max_new_tokens=12, num_return_sequences=20, seed=0)
    complete = [g for g in results if g.finish_reason in ("complete", "wrapped_up")]
    assert len(complete) > 10
    assert all(rule.accepts(g.text) for g in complete)


# -- the official suite


def plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=float))


@pytest.mark.slow
def test_the_judge_and_what_it_says_of_beginnings_are_right_on_the_official_suite(data: Path) -> None:
    with gzip.open(data / "json-schema-remotes.json.gz", "rt", encoding="utf-8") as file:
        registry = {f"http://localhost:1234/{name}": schema for name, schema in json.load(file).items()}
    wrong = []
    with gzip.open(data / "json-schema-test-suite.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line, parse_float=Decimal) for line in file]
    for row in rows:
        if row["kind"] != "required":
            continue
        dialect = "http://json-schema.org/draft-07/schema#" if row["draft"] == "draft7" else None
        schema = row["schema"]
        if dialect and isinstance(schema, dict):
            schema = {"$schema": dialect, **schema}
        whole = WholeValues(schema, registry=registry)
        for test in row["tests"]:
            scanner = Scanner(Checks(True, (whole,)))
            place = scanner.read(scanner.start, json.dumps(plain(test["data"])).encode())
            passed = place is not None and scanner.complete(place)
            if {whole.verdict(test["data"]), whole.valid(test["data"]), passed} != {test["valid"]}:
                wrong.append((row["draft"], row["file"], row["description"], test["description"]))
    assert not wrong


def test_a_judge_reads_a_schema_by_the_draft_and_vocabularies_of_its_metaschema():
    mine, plain = "http://example.com/mine", "http://example.com/plain"
    draft_7, latest = "http://json-schema.org/draft-07/schema#", "https://json-schema.org/draft/2020-12/schema"
    applicators = {"https://json-schema.org/draft/2020-12/vocab/applicator": True}
    registry = {mine: {"$schema": draft_7}, plain: {"$schema": latest, "$vocabulary": applicators}}
    listed = WholeValues({"$schema": mine, "items": [{"type": "integer"}]}, registry=registry)
    assert (listed.valid(["a"]), listed.valid([1, "a"])) == (False, True)
    bounded = WholeValues({"$schema": plain, "minimum": 3, "not": {"items": False}}, registry=registry)
    assert (bounded.valid(1), bounded.valid([1]), bounded.valid([])) == (False, True, False)
