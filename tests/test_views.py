"""A model as one of bytes, by the methods of `Model`: generating, scoring, filling in, ensembles of such views."""

from __future__ import annotations

import math

import numpy as np
import pytest

import genctl
from genctl.models.bytes import FIXED, STOP, ByteModel
from genctl.models.fim import find_style
from genctl.models.toy import ToyModel
from genctl.models.transformers import TransformersModel
from tests.tiny_models import tiny_causal_lm, tiny_tokenizer

FIM = ["<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<fim_pad>"]


@pytest.fixture(scope="module")
def toy() -> genctl.Model:
    return genctl.load("toy")


@pytest.fixture(scope="module")
def filler() -> genctl.Model:
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": FIM})
    return genctl.Model(TransformersModel(tiny_causal_lm("llama"), tokenizer))


def test_a_byte_view_generates_under_rules_from_prompts_that_end_anywhere(toy):
    rule = genctl.regex("[0-9]{2}-[0-9]{2}-[0-9]{2}")
    g = toy.bytes().generate("The date is 20", rule, num_particles=8, max_new_tokens=12, seed=0)
    assert rule.accepts(g.text)
    assert g.finish_reason == "complete"
    assert g.ess > 1


def test_a_text_s_log_probability_is_the_sum_of_its_parts(toy):
    whole = toy.logprob("yes", given="the answer is ")
    parts = toy.logprob("y", given="the answer is ") + toy.logprob(b"es", given=b"the answer is y")
    assert whole == pytest.approx(parts, abs=1e-9)
    assert toy.bytes().logprob("yes", "the answer is ") == pytest.approx(whole, abs=1e-12)
    with pytest.raises(genctl.ArgumentError, match="bytes already"):
        toy.bytes().logprob("yes", "the answer is ", eps=1e-2)
    lossy = toy.logprob("yes", given="the answer is ", eps=1e-2)
    assert lossy == pytest.approx(whole, abs=0.1)


def test_without_a_rule_next_bytes_have_the_law_of_the_view(toy):
    model = toy.bytes().language_model
    logits, _ = model.prefill([model.encode("the answer is ")])
    drawn = toy.bytes().generate("the answer is ", num_return_sequences=3000, max_new_tokens=1, seed=0)
    for letter in "yn":
        p = math.exp(logits[0, ord(letter)])
        share = np.mean([g.text == letter for g in drawn])
        assert abs(share - p) < 4 * math.sqrt(p * (1 - p) / 3000)


def test_canonical_sequences_are_counted_where_that_can_be_decided(toy, filler):
    assert isinstance(filler.bytes().language_model, ByteModel)
    canonical, all_ = filler.logprob("cat", given="the "), filler.logprob("cat", given="the ", canonical=False)
    assert canonical != pytest.approx(all_, abs=1e-6)
    with pytest.raises(genctl.VocabularyError, match="no tokenizer"):
        toy.bytes(canonical=True)
    with pytest.raises(genctl.ArgumentError, match="eps is 2"):
        toy.bytes(eps=2)


@pytest.mark.parametrize("order", ["psm", "spm"])
def test_a_hole_is_filled_behind_the_very_last_byte_of_the_prefix(filler, order):
    style = find_style(filler.language_model.tokenizer)
    assert style is not None
    fixed, begun = style.prompt("the cat s", " on the mat", lambda text: list(text.encode()), order)
    assert begun == (b" s" if order == "psm" else b"the cat s")
    control = [filler.language_model.tokenizer.convert_tokens_to_ids(name) for name in FIM[:3]]
    assert [i for i in fixed if i in control] == control
    rule = genctl.regex("[a-z]{1,5}")
    options = {"order": order, "max_new_tokens": 6, "num_particles": 4, "seed": 0}
    g = filler.infill("the cat s", " on the mat", rule, **options)
    assert rule.accepts(g.text)
    assert g.text == filler.infill("the cat s", " on the mat", rule, **options).text
    half = filler.infill("né".encode()[:2], "!", max_new_tokens=3, order=order, seed=0)
    assert half.particles


def test_the_law_of_a_hole_s_first_byte_is_that_of_the_view(filler):
    """By hand: control tokens and suffix as they are, then the prefix byte by byte."""
    tokenizer = filler.language_model.tokenizer
    begin, hole, end = (tokenizer.convert_tokens_to_ids(name) for name in FIM[:3])
    suffix = tokenizer.encode(" mat", add_special_tokens=False)
    prompt = [FIXED + i for i in (begin, hole, *suffix, end)] + list(b"the c")
    view = filler.bytes().language_model
    logits, _ = view.prefill([prompt])
    drawn = filler.infill("the c", " mat", order="spm", max_new_tokens=1, num_return_sequences=2000, seed=1)
    counts = np.bincount([g.tokens[0] if g.tokens else STOP for g in drawn], minlength=257) / 2000
    law = np.exp(logits[0].astype(float))
    assert np.abs(counts - law)[:256].max() < 4 * math.sqrt(law[:256].max() / 2000)


def test_models_that_cannot_fill_in_are_refused(toy, filler):
    with pytest.raises(genctl.ModelError, match="no control tokens"):
        toy.infill("a", "b")
    with pytest.raises(genctl.ArgumentError, match="order is 'mid'"):
        filler.infill("a", "b", order="mid")
    with pytest.raises(genctl.ArgumentError, match="suffix is not UTF-8"):
        filler.infill("a", "é".encode()[1:])


def test_a_view_that_would_not_keep_a_law_is_refused(toy):
    with pytest.raises(genctl.ArgumentError, match="bytes already"):
        toy.bytes().bytes()
    both = genctl.ensemble([toy, toy], op="global_product")
    with pytest.raises(genctl.ArgumentError, match="one of whole texts"):
        both.bytes()
    with pytest.raises(genctl.ArgumentError, match="one of whole texts"):
        genctl.ensemble([toy.bytes(), toy.bytes()], op="global_product").logprob("a")
    with pytest.raises(genctl.ArgumentError, match="bytes already\nhint"):
        genctl.ensemble([toy.bytes(), toy.bytes()]).bytes()


def test_an_ensemble_whose_members_read_prompts_in_their_own_tokens_is_refused_as_a_view(toy):
    shaped = genctl.ensemble([toy, toy], prompts=[None, "Answer: {prompt}"])
    with pytest.raises(genctl.ArgumentError, match="make the views first"):
        shaped.bytes()


@pytest.mark.parametrize("op", ["mixture", "bayes", "product", "min"])
def test_an_ensemble_of_byte_views_scores_a_text_by_the_steps_of_its_formula(toy, filler, op):
    """The members read the prompt in their own ways: one has a begin-of-text token."""
    views = [toy.bytes(), filler.bytes()]
    text, given = b"yes", b"the "
    steps = []
    for place in range(len(text)):
        laws = []
        for view in views:
            model = view.language_model
            _, state = model.prefill([[*model.encode(given), *text[:place]]])
            laws.append(model.logprobs(state)[0])
        law = {
            "mixture": np.logaddexp(*laws) - math.log(2),
            "bayes": np.zeros(257),
            "product": (laws[0] + laws[1]) / 2,
            "min": np.minimum(*laws),
        }[op]
        steps.append(law[text[place]] - np.logaddexp.reduce(law))
    if op == "bayes":
        expected = np.logaddexp(*(view.logprob(text, given) for view in views)) - math.log(2)
    else:
        expected = sum(steps)
    assert genctl.ensemble(views, op=op).logprob(text, given) == pytest.approx(expected, abs=1e-5)


def test_a_text_that_is_impossible_to_an_ensemble_has_no_probability(toy):
    other = genctl.load(ToyModel(toy.language_model.vocabulary, never_a(toy)))
    both = genctl.ensemble([toy.bytes(), other.bytes()], op="product")
    assert both.logprob("bat") == -math.inf
    assert math.isfinite(both.logprob("b"))


def never_a(toy):
    vocabulary = toy.language_model.vocabulary
    law = np.array([-np.inf if b"a" in token else 0.0 for token in vocabulary.tokens], np.float32)
    return {(): law}


def test_an_ensemble_of_byte_views_has_the_law_of_its_formula():
    texts = ("the cat sat on the mat. the dog", "a cat and a dog, the mat")
    views = [genctl.load(ToyModel.trained(text, order=3, pieces=6)).bytes() for text in texts]
    laws = []
    for view in views:
        logits, _ = view.language_model.prefill([view.language_model.encode("the ")])
        laws.append(logits[0].astype(float) - np.logaddexp.reduce(logits[0].astype(float)))
    formulas = {
        "mixture": np.logaddexp(laws[0] + math.log(0.7), laws[1] + math.log(0.3)),
        "product": 0.7 * laws[0] + 0.3 * laws[1],
    }
    for op, expected in formulas.items():
        both = genctl.ensemble(views, weights=[0.7, 0.3], op=op)
        logits, _ = both.language_model.prefill([both.language_model.encode("the ")])
        found = logits[0].astype(float) - np.logaddexp.reduce(logits[0].astype(float))
        np.testing.assert_allclose(np.exp(found), np.exp(expected - np.logaddexp.reduce(expected)), atol=1e-6)
        g = both.generate("the ", genctl.json({"enum": ["cat", "dog"]}), max_new_tokens=7, num_particles=4, seed=0)
        assert g.value in ("cat", "dog")
