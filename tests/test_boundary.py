"""Prompts taken as bytes: what comes behind them has the byte view's law, and what comes behind that the model's."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import genctl
from genctl.boundaries import at_boundaries
from genctl.models.base import host_logits
from genctl.models.boundary import Boundary, Opening
from genctl.models.bytes import STOP, ByteModel
from genctl.models.covers import Covers
from genctl.models.toy import ToyModel
from genctl.models.transformers import TransformersModel
from genctl.vocabulary import Vocabulary
from tests.statistics import assert_mean
from tests.tiny_models import tiny_causal_lm, tiny_tokenizer
from tests.toy_canonical import longest_match, random_canonical, toy

TARGETS: dict[str, Any] = {
    "all": lambda vocabulary: None,
    "random": lambda vocabulary: random_canonical(vocabulary, 5),
    "longest match": longest_match,
}
PROMPTS = st.lists(st.text("ab", max_size=5).map(str.encode), min_size=1, max_size=3, unique=True)


def opened(model: ToyModel, target: str, texts: list[bytes]) -> tuple[Boundary, list[list[int]]]:
    """The boundary model of those texts that anything covers; each text is known by its bytes as ids."""
    covers = Covers(model.vocabulary, TARGETS[target](model.vocabulary))
    found = {tuple(text): Opening.of(covers, model.vocabulary, [], text) for text in texts}
    openings = {key: opening for key, opening in found.items() if opening is not None}
    return Boundary(model, openings), [list(key) for key in openings]


@cache
def tiny() -> genctl.Model:
    return genctl.Model(TransformersModel(tiny_causal_lm("llama"), tiny_tokenizer()))


# -- the law


@given(seed=st.integers(0, 20), target=st.sampled_from(list(TARGETS)), texts=PROMPTS)
def test_the_first_piece_begins_with_each_byte_as_often_as_the_byte_view_says(seed, target, texts):
    model = toy(seed)
    boundary, prompts = opened(model, target, texts)
    if not prompts:
        return
    view = ByteModel(model, TARGETS[target](model.vocabulary))
    _, state = view.prefill(prompts)
    logits, _ = boundary.prefill(prompts)
    for row, exact in zip(np.exp(logits.astype(np.float64)), np.exp(view.logprobs(state)), strict=True):
        masses = np.zeros(257)
        for token, mass in enumerate(row.tolist()):
            if mass > 0:
                text = boundary.vocabulary.tokens[token]
                masses[STOP if token in boundary.vocabulary.eos else text[0]] += mass
        assert_allclose(masses, exact, atol=2e-6)


@given(seed=st.integers(0, 20), target=st.sampled_from(list(TARGETS)), texts=PROMPTS)
def test_each_symbol_stands_for_tokens_that_spell_the_prompt_and_what_it_adds(seed, target, texts):
    model = toy(seed)
    boundary, prompts = opened(model, target, texts)
    for prompt in prompts:
        logits, _ = boundary.prefill([prompt])
        possible = [t for t in np.flatnonzero(logits[0] > -np.inf).tolist() if t not in boundary.vocabulary.eos]
        trunk = boundary._openings[tuple(prompt)].plan.trunk
        spelled = {symbol: (*trunk, *boundary.spelled(prompt, [symbol])) for symbol in possible}
        assert len(set(spelled.values())) == len(possible)
        for symbol, tokens in spelled.items():
            assert model.vocabulary.join(tokens) == bytes(prompt) + boundary.vocabulary.tokens[symbol]


@given(seed=st.integers(0, 20), target=st.sampled_from(list(TARGETS)), texts=PROMPTS, data=st.data())
def test_behind_the_first_piece_the_law_is_the_model_s_own(seed, target, texts, data):
    model = toy(seed)
    boundary, prompts = opened(model, target, texts)
    if not prompts:
        return
    logits, state = boundary.prefill(prompts)
    order = data.draw(st.lists(st.integers(0, len(prompts) - 1), min_size=1, max_size=4))
    symbols = []
    for row in order:
        possible = np.flatnonzero(logits[row] > -np.inf)
        drawn = [t for t in possible.tolist() if t not in boundary.vocabulary.eos]
        if not drawn:
            return
        symbols.append(data.draw(st.sampled_from(drawn)))
    chosen = boundary.select(state, np.array(order))
    if data.draw(st.booleans()):
        parts = [boundary.select(chosen, np.array([i])) for i in range(len(order))]
        chosen = boundary.join(parts)
    after, _ = boundary.extend(chosen, np.array(symbols))
    for line, row, symbol in zip(after, order, symbols, strict=True):
        trunk = boundary._openings[tuple(prompts[row])].plan.trunk
        context = (*trunk, *boundary.spelled(prompts[row], [symbol]))
        size = len(model.vocabulary)
        assert_allclose(line[:size], model.prefill([context])[0][0], rtol=1e-6)
        assert (line[size:] == -np.inf).all()


def test_prompts_share_the_ids_of_equal_remainders():
    vocabulary = Vocabulary((b"a", b"b", b"ab", b"aba", b"bb", b"abb", b""), frozenset({6}))
    covers = Covers(vocabulary, None)
    model = ToyModel.random(vocabulary, order=1, seed=0)
    openings = {tuple(text): Opening.of(covers, vocabulary, [], text) for text in (b"ba", b"a")}
    alone = Boundary(model, {(97,): openings[97,]}).vocabulary
    assert Boundary(model, openings).vocabulary is alone
    assert len(alone) > len(vocabulary)


# -- whole texts


def test_texts_behind_a_prompt_begin_as_often_as_the_byte_view_says():
    lm, prompt = tiny(), "by da"
    view = lm.bytes(canonical=True).language_model
    law = np.exp(view.prefill([list(prompt.encode())])[0][0].astype(np.float64))
    drawn = lm.generate(prompt, exact_boundary=True, max_new_tokens=1, num_return_sequences=2000, seed=0)
    likely = [byte for byte in range(128) if law[byte] > 0.01]
    assert len(likely) > 1
    for byte in likely:
        assert_mean(np.array([float(g.text.startswith(chr(byte))) for g in drawn]), float(law[byte]))


@pytest.mark.parametrize("method", ["awrs", "masked"])
def test_the_evidence_of_a_rule_behind_a_cut_prompt_is_that_of_the_bytes(method):
    lm, prompt = tiny(), "the cat sat on th"
    rule = genctl.regex("e( .*)?")
    model, prompts = at_boundaries(lm.language_model, [prompt], True)
    logits, _ = model.prefill(prompts)
    constraint = rule.bind(model.vocabulary)
    allowed = [constraint.allows(constraint.start(), t) for t in range(len(model.vocabulary))]
    assert 0 < np.exp(logits[0].astype(np.float64))[allowed].sum() < 1
    g = lm.generate(prompt, rule, exact_boundary=True, num_particles=40, max_new_tokens=4, method=method, seed=0)
    assert rule.accepts(g.text)
    assert all(rule.accepts(particle.text) for particle in g.particles if particle.log_weight > -math.inf)
    joined = lm.language_model.vocabulary.join(g.tokens)
    assert (prompt + g.text).encode().endswith(joined)
    assert len(joined) > len(g.text)


# -- when


def test_by_default_only_prompts_that_end_inside_a_longer_token_are_taken_as_bytes():
    model = tiny().language_model
    opened_, prompts = at_boundaries(model, ["the cat sat on th", "the cat sat on the", b"the caf\xc3"], None)
    openings = opened_._openings
    laws = [host_logits(model.prefill([ids[:-1]])[0])[0].astype(np.float64) for ids in prompts]
    assert tuple(prompts[2]) in openings
    for ids, law in zip(prompts[:2], laws[:2], strict=True):
        law -= np.logaddexp.reduce(law)
        longer = Covers(model.vocabulary, None).longer(model.vocabulary.tokens[ids[-1]])
        if np.logaddexp.reduce(law[longer]) > law[ids[-1]]:
            assert tuple(ids) in openings


def test_what_was_read_to_decide_is_not_read_again():
    model = tiny().language_model
    boundary, prompts = at_boundaries(model, ["the dog sat on the log,"], None)
    assert not boundary._openings
    logits, state = boundary.prefill(prompts)
    assert_allclose(host_logits(logits), host_logits(model.prefill(prompts)[0]), rtol=1e-4, atol=1e-4)
    again, _ = boundary.prefill(prompts)
    boundary.extend(state, [[5]])
    assert_allclose(host_logits(again), host_logits(logits))


def test_a_model_of_bytes_needs_no_opening():
    view = tiny().bytes()
    assert at_boundaries(view.language_model, ["the c"], True)[0] is view.language_model


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ([{"role": "user", "content": "hi"}], "chat messages"),
        ([5, 6], "token ids are taken as they are"),
        ("the", "a single word with nothing before it"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_what_cannot_be_taken_as_bytes_is_refused(prompt, message):
    with pytest.raises(genctl.ArgumentError, match=message):
        tiny().generate(prompt, exact_boundary=True, max_new_tokens=2)


def test_a_model_without_a_tokenizer_is_refused_with_the_way_out():
    with pytest.raises(genctl.ArgumentError, match=r"no tokenizer(.|\n)*lm.bytes"):
        genctl.load("toy").generate("The d", exact_boundary=True)


def test_a_prompt_inside_a_character_goes_on_with_the_rest_of_it():
    lm = tiny()
    for g in lm.generate(b"the caf\xc3", max_new_tokens=2, num_return_sequences=20, seed=0):
        text = lm.language_model.vocabulary.join(g.tokens)  # the lead byte is among them if it is not sure
        assert 0x80 <= text[text.startswith(b"\xc3")] < 0xC0
    with pytest.raises(genctl.ArgumentError, match="not UTF-8"):
        lm.generate(b"the caf\xc3", max_new_tokens=2, exact_boundary=False)


def test_hooks_that_read_other_prompts_go_on_from_tokens():
    lm = tiny()
    biased = lm.steered([lambda step, logits: logits])  # nobody knows whether it reads where the prompt ends
    with pytest.raises(genctl.ArgumentError, match="depends on where the prompt ends"):
        biased.generate("the cat sat on th", exact_boundary=True, max_new_tokens=2)
    assert biased.generate("the cat sat on th", max_new_tokens=2, seed=0).tokens


def test_temperature_sharpens_the_law_of_the_first_piece():
    lm, prompt = tiny(), "by da"
    model, prompts = at_boundaries(lm.language_model, [prompt], True)
    likeliest = model.spelled(prompts[0], [int(np.argmax(model.prefill(prompts)[0][0]))])
    g = lm.generate(prompt, exact_boundary=True, temperature=0.01, max_new_tokens=1, seed=0)
    assert g.tokens == likeliest


def test_the_best_of_several_is_scored_behind_the_tokens_that_are_sure():
    lm, prompt = tiny(), "the cat sat on th"
    model, prompts = at_boundaries(lm.language_model, [prompt], True)
    several = lm.generate(
        prompt, exact_boundary=True, num_return_sequences=6, max_new_tokens=3, seed=0, select="confidence"
    )
    scores = []
    for g in several:
        context, means = [*model.sure(prompts[0])], []
        for token in g.tokens:
            law = host_logits(lm.language_model.prefill([context])[0])[0].astype(np.float64)
            means.append(math.exp(law[token] - np.logaddexp.reduce(law)))
            context.append(token)
        scores.append(np.mean(means))
    assert scores == sorted(scores, reverse=True)


def test_hooks_about_tokens_are_honoured_where_a_prompt_ends_inside_one():
    lm, prompt = tiny(), "the cat sat on th"
    opened_, prompts = at_boundaries(lm.language_model, [prompt], True)
    whole = opened_.spelled(prompts[0], [int(np.argmax(opened_.prefill(prompts)[0][0]))])[0]
    forbidden = genctl.steering.TokenBias({whole: -math.inf})
    several = lm.generate(prompt, steering=[forbidden], max_new_tokens=3, num_return_sequences=20, seed=0)
    assert all(whole not in g.tokens for g in several)
    with pytest.raises(genctl.ArgumentError, match="about the model's own tokens"):
        lm.generate(prompt, steering=[forbidden], exact_boundary=True, max_new_tokens=3)


def test_functions_of_logits_see_the_model_s_own_for_any_prompt():
    lm, seen = tiny(), []

    def look(logits):
        seen.append((type(logits).__name__, tuple(logits.shape)))
        return logits

    for prompt in ("the cat sat on th", "the cat sat on the"):
        lm.generate(prompt, steering=[look], max_new_tokens=2, seed=0)
    assert set(seen) == {("Tensor", (1, len(lm.language_model.vocabulary)))}


def test_filters_beneath_do_not_take_away_the_end_of_a_prompt():
    lm = tiny().steered([genctl.steering.TopK(1)])
    assert lm.generate("the cat sat on th", max_new_tokens=2, seed=0).tokens
    with pytest.raises(genctl.ArgumentError, match="may leave none that spell"):
        lm.generate("the cat sat on th", exact_boundary=True, max_new_tokens=2)
