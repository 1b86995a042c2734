"""The table of states has a bound: what nobody holds is forgotten, and nothing that is held changes."""

from __future__ import annotations

import numpy as np

import genctl
from genctl.automata import engine
from genctl.compilers.json_schema import compile_json_schema
from genctl.constraints.automaton import AutomatonConstraint
from genctl.vocabulary import Vocabulary

PIECES = ["{", "}", "[", "]", ",", ":", '"', '",', '":', "a", "b", "ab", "1", "23", "true", " ", "\\", "u", "00", "é"]
WORDS = Vocabulary(
    (*(piece.encode() for piece in PIECES), *(bytes((b,)) for b in range(32, 127)), b""), frozenset({115})
)

SCHEMA = {"$ref": "#/$defs/v", "$defs": {"v": {"anyOf": [
    {"type": "array", "items": {"$ref": "#/$defs/v"}},
    {"type": "object", "properties": {"ab": {"$ref": "#/$defs/v"}}, "required": ["ab"]},
    {"type": "string", "maxLength": 300},
]}}}  # fmt: skip


def walk(constraint: AutomatonConstraint, rng: np.random.Generator, steps: int) -> list[tuple[bytes, int, bytes, bool]]:
    """A random text: of each step the bytes read, the token, the mask and whether the text may end."""
    state, read, seen = constraint.start(), b"", []
    for _ in range(steps):
        allowed = np.flatnonzero(constraint.allows_each(np.full(len(WORDS), state), np.arange(len(WORDS))))
        open_ = [t for t in allowed.tolist() if t not in WORDS.eos]
        if not open_:
            break
        token = int(rng.choice(open_))
        seen.append((read, token, constraint.candidates(state).tobytes(), constraint.complete(state)))
        state, read = constraint.advance(state, token), read + WORDS.tokens[token]
    return seen


def test_a_small_bound_changes_no_mask_and_keeps_the_memory_small(monkeypatch):
    free = AutomatonConstraint(compile_json_schema(SCHEMA), WORDS)
    expected = [walk(free, np.random.default_rng(seed), 60) for seed in range(40)]
    monkeypatch.setattr(engine, "STATE_BYTES", 2**17)
    bound = AutomatonConstraint(compile_json_schema(SCHEMA), WORDS)
    assert [walk(bound, np.random.default_rng(seed), 60) for seed in range(40)] == expected
    assert bound.automaton.generation > 0
    assert bound.automaton.engine.nbytes < 3 * 2**18


def test_states_that_are_held_stay_what_they_are(monkeypatch):
    monkeypatch.setattr(engine, "STATE_BYTES", 2**16)
    constraint = AutomatonConstraint(compile_json_schema(SCHEMA), WORDS)
    held = {constraint.start(): b""}
    state = constraint.start()
    for token in (0, PIECES.index('"'), PIECES.index("ab"), PIECES.index('":'), PIECES.index("[")):
        read = held[state] + WORDS.tokens[token]
        state = constraint.advance(state, token)
        held[state] = read
    masks = {state: constraint.candidates(state).copy() for state in held}
    for seed in range(30):
        walk(constraint, np.random.default_rng(seed), 80)
    assert constraint.automaton.generation > 0
    for state, mask in masks.items():
        constraint.forget(state)
        np.testing.assert_array_equal(constraint.candidates(state), mask)


def test_generation_goes_on_correctly_at_the_bound(monkeypatch):
    lm = genctl.load("toy")
    rule = genctl.json({"type": "array", "items": {"type": "string", "maxLength": 200}, "minItems": 3})
    expected = [lm.generate("JSON: ", rule, seed=seed, max_new_tokens=80).text for seed in range(4)]
    monkeypatch.setattr(engine, "STATE_BYTES", 2**16)
    again = genctl.json({"type": "array", "items": {"type": "string", "maxLength": 200}, "minItems": 3})
    assert [lm.generate("JSON: ", again, seed=seed, max_new_tokens=80).text for seed in range(4)] == expected
