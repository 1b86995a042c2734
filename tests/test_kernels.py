"""Kernels against their naive twins, and the whole suite's laws without the compiler."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genctl.automata.base import UNREACHABLE
from genctl.automata.engine import Engine
from genctl.automata.expressions import Tracked
from genctl.automata.pushdown import GrammarAutomaton
from genctl.compilers.json_schema.strings import CONTENT
from genctl.compilers.json_schema.words import Names
from genctl.compilers.regex import compile_regex
from genctl.constraints.base import pack
from genctl.kernels import configurations, rejection
from genctl.kernels.addresses import reading_places
from genctl.kernels.automaton import DEPTH, END, run_known, run_token
from genctl.kernels.cover import child, next_masses
from genctl.kernels.resampling import inverse_cdf
from genctl.models.bytes import ByteModel
from genctl.models.toy import ToyModel
from genctl.samplers.base import weigh
from genctl.samplers.streams import seeded
from genctl.trie import Tokens
from genctl.vocabulary import Vocabulary
from tests import naive

tokens = st.lists(st.binary(max_size=5), min_size=1, max_size=40).map(tuple)


@given(tokens, st.sets(st.integers(0, 39), max_size=3))
def test_the_trie_spells_exactly_the_readable_tokens(texts, eos):
    vocabulary = Vocabulary(texts, frozenset(i for i in eos if i < len(texts)))
    trie = Tokens.of(vocabulary).trie
    spelled: dict[int, bytes] = {}
    path = b""
    for byte, depth, _, token in trie.node[1:].tolist():
        path = path[: depth - 1] + bytes([byte])
        while token >= 0:
            spelled[token] = path
            token = int(trie.same[token])
    readable = {i: t for i, t in enumerate(texts) if t and i not in vocabulary.eos}
    assert spelled == readable


@given(tokens)
def test_the_end_of_a_trie_node_is_behind_its_subtree(texts):
    trie = Tokens.of(Vocabulary(texts, frozenset({0}))).trie
    depth, end = trie.node[:, DEPTH], trie.node[:, END]
    for node in range(len(trie.node)):
        below = [n for n in range(node + 1, len(trie.node)) if depth[n] <= depth[node]]
        assert end[node] == (below[0] if below and node else len(trie.node))


@given(tokens, st.integers(0, 2**16))
def test_next_masses_are_those_of_the_tokens_behind_each_byte(texts, seed):
    model = ToyModel.random(Vocabulary((*texts, b""), frozenset({len(texts)})), order=1, seed=seed)
    view, probabilities = ByteModel(model), np.exp(model.law(()).astype(np.float64))
    masses, at = np.zeros(257), 0
    for byte in max(texts, key=len)[:2]:
        at = child(view._trie, at, byte)
    before = max(texts, key=len)[:2]
    inside = view._order[view._rank[at + 1] : view._rank[view._trie[at, END]]]
    next_masses(view._trie, view._rank, at, probabilities[inside], masses)
    longer = [(token, text) for token, text in enumerate(texts) if text.startswith(before) and len(text) > len(before)]
    for byte in range(256):
        expected = sum(probabilities[token] for token, text in longer if text[len(before)] == byte)
        assert masses[byte] == pytest.approx(expected, rel=1e-12)
        spelled = any(text[len(before)] == byte for _, text in longer)
        assert (child(view._trie, at, byte) >= 0) == spelled


@given(tokens, st.sampled_from(["(ab)*", "[^a]{2,4}", "a.*b|é+", "\\x00+"]))
def test_running_a_token_is_stepping_through_its_bytes(texts, pattern):
    vocabulary = Vocabulary((*texts, b"ab", b"abab", "é".encode(), b""), frozenset({len(texts) + 3}))
    automaton, flat = compile_regex(pattern), Tokens.of(vocabulary).bytes
    for token in range(len(vocabulary)):
        state = run_token(automaton.machine, flat, automaton.start, token)
        while state < 0:
            automaton.extend(state)
            state = run_token(automaton.machine, flat, automaton.start, token)
        machine = automaton.machine
        assert run_known(reading_places(machine, flat), automaton.start, token) == state
        expected = automaton.start
        for byte in vocabulary.tokens[token]:
            expected = automaton.step(expected, byte)
        assert state == expected


weights = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=700).map(lambda w: np.array(w, np.float32))


@given(weights, st.floats(0, 1, exclude_max=True))
def test_a_draw_is_the_inverse_of_the_cumulated_weights(row, uniform):
    blocks = np.zeros((1, -(-len(row) // rejection.BLOCK)))
    rejection.block_sums(row[None], blocks)
    token = rejection.draw(row, blocks[0], uniform)
    if not row.any():
        assert token == -1
        return
    cumulated = np.cumsum(row.astype(np.float64))
    assert row[token] > 0
    tolerance = 1e-9 * cumulated[-1]
    assert cumulated[token] - row[token] - tolerance <= uniform * cumulated[-1] <= cumulated[token] + tolerance


@given(weights, st.data())
def test_removing_a_token_leaves_the_blocks_as_if_it_had_never_been(row, data):
    token = data.draw(st.integers(0, len(row) - 1))
    blocks = np.zeros((1, -(-len(row) // rejection.BLOCK)))
    rejection.block_sums(row[None], blocks)
    rejection.remove(row, blocks[0], token)
    afresh = np.zeros_like(blocks)
    rejection.block_sums(row[None], afresh)
    np.testing.assert_array_equal(blocks, afresh)
    assert row[token] == 0


@given(st.lists(st.floats(-120, 50, width=32) | st.just(-np.inf), min_size=1, max_size=700), st.integers(1, 3))
def test_weights_are_the_exponentials_of_logits_below_the_largest(row, rows):
    logits = np.tile(np.array(row, np.float32), (rows, 1))
    weights = weigh(logits)
    below = logits - np.float32(weights.top[:, None])  # in float32, as the kernel takes it
    exact = np.exp(below.astype(np.float64))
    np.testing.assert_allclose(weights.values, np.where(below > -87, exact, weights.values), rtol=3e-7)
    assert (weights.values[below < -88.1] == 0).all()
    np.testing.assert_allclose(weights.blocks.sum(axis=1), weights.values.astype(np.float64).sum(axis=1), rtol=1e-12)


@given(st.integers(0, 2**63), st.integers(0, 2**41))
def test_kernels_and_streams_count_the_same_numbers(seed, place):
    streams = seeded(seed, [(3,)])
    number = streams.uniforms(1, place)[0, 0]
    assert rejection.uniform_at(streams.keys[0], place) == streams.uniform(0, place) == number


LETTERS = Vocabulary((*(bytes((97 + i,)) for i in range(20)), b""), frozenset({20}))


@given(
    st.lists(st.integers(0, 50), min_size=20, max_size=20),
    st.sets(st.integers(0, 19), min_size=1),
    st.integers(0),
    st.integers(1, 6),
    st.none() | st.floats(0, 1, exclude_max=True),
)
def test_the_awrs_kernel_is_the_estimator_by_its_definition(raw, members, seed, tail, first):
    row = np.array([*raw, 0], np.float32)
    allowed = [token in members for token in range(21)]
    streams = seeded(seed, [(0,)])
    if first is not None:
        streams = streams._replace(spread=np.array([[first, 0.5]]))
    automaton, flat = compile_regex(f"[{''.join(chr(97 + i) for i in members)}]"), Tokens.of(LETTERS).bytes
    blocks = np.zeros((1, 1))
    rejection.block_sums(row[None], blocks)
    expected = naive.awrs(row.astype(float).tolist(), allowed, streams.uniforms(30)[0].tolist(), tail)
    work, mass, status = np.zeros((1, 9), np.int64), np.zeros((1, 7)), np.array([rejection.WAITING])
    work[0, rejection.CHOSEN], work[0, rejection.CUT_AT] = -1, rejection.NEVER
    mass[0, rejection.TOTAL] = total = row.sum()
    plan = np.array([0, tail, 2, rejection.NEVER, 0, 1, 0])
    asked, masses, states = np.zeros((1, 1, 2), np.int64), np.zeros((1, 1, 2)), np.array([automaton.start])
    rest = states, streams.keys, streams.spread, work, mass, asked, masses, plan, status, 0.5
    while lacking := rejection.awrs(row[None], blocks, automaton.machine, flat, *rest):
        automaton.extend(lacking)
    if expected[0] < 0:  # nothing allowed has a weight: the caller draws from the mask
        assert status[0] == rejection.CUT
    else:
        assert status[0] == rejection.DONE
        found = work[0, rejection.CHOSEN], total * np.exp(mass[0, rejection.LOG_WEIGHT])
        assert found == (expected[0], pytest.approx(expected[1]))


@given(st.lists(st.floats(-300, 30), min_size=1, max_size=30), st.data())
def test_a_masked_draw_knows_the_allowed_mass_however_small(row, data):
    logits = np.array(row, np.float32)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(row), max_size=len(row))))
    token, log_mass = rejection.masked_draw(logits, pack(mask), 0.5)
    if not mask.any():
        assert (token, log_mass) == (-1, -np.inf)
        return
    assert mask[token]
    assert log_mass == pytest.approx(np.logaddexp.reduce(logits[mask].astype(np.float64)), abs=1e-9)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20).filter(any), st.lists(st.floats(0, 1, exclude_max=True)))
def test_resampling_points_fall_to_the_particle_whose_share_they_hit(raw, points):
    shares = np.array(raw) / sum(raw)
    ancestors = np.empty(len(points), np.int64)
    inverse_cdf(shares, np.sort(points), ancestors)
    for point, ancestor in zip(sorted(points), ancestors, strict=True):
        assert shares[ancestor] > 0
        assert shares[:ancestor].sum() - 1e-12 <= point <= shares[: ancestor + 1].sum() + 1e-12


WORDS = st.lists(st.text('ab"\\/\0\x1f\né漢\ue000\uffff😀😁', max_size=3), max_size=4)
# One byte more can complete no other character than these, which begin alike.
BEGIN_ALIKE = st.sampled_from(['"\\/\b\f\n\r\t', *("".join(map(chr, range(a, b))) for a, b in ((96, 112), (128, 192)))])


@given(WORDS | st.tuples(BEGIN_ALIKE, WORDS).map(lambda both: [*both[0], *both[1]]), st.booleans())
def test_rows_of_words_are_those_of_their_naive_twin(words, inside):
    twin, names = naive.ReadAlong(words, inside), Names(words)
    engine = GrammarAutomaton(Tracked(CONTENT, names, inside)).engine
    assert engine is not None
    states, waiting = {("", b""): engine.start}, [("", b"")]
    while waiting:
        spelled = waiting.pop()
        assert engine.accepts(states[spelled]) == twin.leaves(spelled)
        row = row_of_words(engine, states[spelled])
        if row is None:  # there is no word to go on to
            assert twin.detour(spelled) == UNREACHABLE
        else:
            about = row[[configurations.LEAVES, configurations.DETOUR]].tolist()
            assert about == [twin.leaves(spelled), twin.detour(spelled)]
        for byte in [*names.alphabet, 0x7E]:
            state, after = engine.step(states[spelled], byte), twin.step(spelled, byte)
            if after is None:
                assert row_of_words(engine, state) is None
            elif after not in states:
                states[after] = state
                waiting.append(after)
            else:
                assert states[after] == state


def row_of_words(engine: Engine, state: int) -> np.ndarray | None:
    """The row of SIDE that the items of a state have in common; None if it is that of no words."""
    first, end = engine._row(configurations.STATE, state)[:2]
    sides = {int(engine._row(configurations.ITEM, item)[1]) for item in range(first, end)}
    return engine._row(configurations.SIDE, sides.pop()) if sides - {0} else None


def test_masks_over_a_large_vocabulary_are_allows_of_every_token():
    from genctl.constraints.automaton import AutomatonConstraint

    vocabulary = Vocabulary((*(f"{i:x}".encode() for i in range(5000)), b""), frozenset({5000}))
    constraint = AutomatonConstraint(compile_regex("(1[0-9a]*f?|c{2,3})?"), vocabulary)
    for state in (constraint.start(), constraint.advance(constraint.start(), 0x1A)):
        packed = np.zeros(157, np.uint32)
        constraint.mask(state, packed)
        allowed = np.unpackbits(packed.view(np.uint8), bitorder="little", count=5001).astype(bool)
        np.testing.assert_array_equal(allowed, naive.mask(constraint, state, 5001))


@pytest.mark.slow
def test_the_laws_of_kernels_hold_without_the_compiler():
    files = ["tests/test_kernels.py", "tests/laws/test_constraint.py", "tests/laws/test_automaton.py"]
    command = [sys.executable, "-m", "pytest", "-m", "not slow", "-p", "no:cacheprovider", *files]
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(
        command, env=environment, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]
