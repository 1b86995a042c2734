"""The processor inside `model.generate` of transformers, on a tiny random model with padded logits."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.testing import assert_allclose

import genctl
from genctl.constraints.rules import Language
from genctl.steering.base import Auxiliary, Hook
from genctl.steering.basic import Temperature
from genctl.steering.model import Steered

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"


@dataclass(frozen=True)
class Tired(Hook):
    """Of each token that was generated so often: its count times the strength less. The counts are a memo."""

    strength: float
    remembers = True

    def begin(self, prompt):
        return ()

    def advance(self, memo, token):
        return (*memo, token)

    def __call__(self, step, scores):
        after = scores.copy()
        for row, memo in zip(after, step.memos, strict=True):
            for token, count in Counter(memo).items():
                row[token] -= np.float32(self.strength * count)
        return after


@dataclass(frozen=True)
class ReadsAnother(Hook):
    @property
    def auxiliaries(self):
        return (Auxiliary(prompt="again: {prompt}"),)

    def __call__(self, step, scores):
        return scores


@pytest.fixture(scope="module")
def tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({"<eos>": 0, **{c: i + 1 for i, c in enumerate(alphabet)}}, []))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<eos>", pad_token="<eos>", padding_side="left"
    )


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=264, eos_token_id=0, bos_token_id=0, pad_token_id=0, hidden_size=16, intermediate_size=16,
        num_hidden_layers=1, num_attention_heads=2,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval()


def texts(model, tokenizer, processor, prompts=("The date is ",), **options) -> list[str]:
    inputs = tokenizer(list(prompts), return_tensors="pt", padding=True)
    ids = model.generate(**inputs, logits_processor=[processor], max_new_tokens=24, **options)
    return tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


WAYS = {
    "greedy": {"do_sample": False},
    "sampling": {"do_sample": True, "top_k": 0},
    "top-p behind the mask": {"do_sample": True, "top_p": 0.5},
    "beams": {"do_sample": False, "num_beams": 3},
    "beam sampling": {"do_sample": True, "num_beams": 2},
    "several sequences": {"do_sample": True, "num_return_sequences": 3},
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("prompts", [("The date is ",), ("The date is ", "x", "It ended on the day of ")])
def test_every_output_of_every_way_of_generating_obeys(model, tokenizer, way, prompts):
    torch.manual_seed(1)
    processor = genctl.processor(genctl.regex(DATE), tokenizer)
    for _ in range(2):  # the same processor again
        for text in texts(model, tokenizer, processor, prompts, **way):
            assert re.fullmatch(DATE, text)


def test_each_prompt_may_have_its_own_rule(model, tokenizer):
    torch.manual_seed(2)
    processor = genctl.processor([genctl.regex("[a-c]{3}"), bool], tokenizer)
    first, second = texts(model, tokenizer, processor, ("one", "two"), do_sample=True)
    assert re.fullmatch("[a-c]{3}", first)
    assert isinstance(json.loads(second), bool)


RULES = {  # for each of eight rows another one, with no text of more than 24 tokens
    "date": (genctl.regex(DATE), lambda text: re.fullmatch(DATE, text)),
    "bool": (bool, lambda text: isinstance(json.loads(text), bool)),
    "choice": (genctl.choice(["red", "green", "dark red"]), lambda text: text in ("red", "green", "dark red")),
    "word": (re.compile("[a-z]{1,20}"), lambda text: re.fullmatch("[a-z]{1,20}", text)),
    "nested": (genctl.regex(r"(\((a|b)\)){2,5}"), lambda text: re.fullmatch(r"(\([ab]\)){2,5}", text)),
    "schema": ({"enum": [1, "x", None]}, lambda text: json.loads(text) in (1, "x", None)),
    "number": (genctl.regex(r"-?[0-9]{1,6}\.[0-9]{2}"), lambda text: re.fullmatch(r"-?[0-9]{1,6}\.[0-9]{2}", text)),
    "utf-8": (genctl.regex("[äöü€]{1,7}"), lambda text: re.fullmatch("[äöü€]{1,7}", text)),
}
PROMPTS = ["The date is ", "yes?", "", "a b c", "x", "The number of all", "9", "é"]


@pytest.mark.slow
@pytest.mark.parametrize("steering", [None, [Tired(0.5), Temperature(0.7)]], ids=["plain", "steered"])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_in_200_runs_of_eight_rows_every_text_obeys_its_own_rule(model, tokenizer, way, steering):
    """One processor for all runs of a way; 12 ways, 17 runs each."""
    torch.manual_seed(3)
    rules, checks = zip(*RULES.values(), strict=True)
    processor = genctl.processor(list(rules), tokenizer, steering=steering)
    each = way.get("num_return_sequences", 1)
    for _ in range(17):
        for i, text in enumerate(texts(model, tokenizer, processor, [f"<{p}>" for p in PROMPTS], **way)):
            assert checks[i // each](text), (list(RULES)[i // each], text)


@pytest.mark.real
def test_a_real_model_obeys_eight_rules_at_once_greedily_in_beams_and_behind_top_p():
    lm = genctl.load().language_model
    lm.tokenizer.padding_side = "left"
    rules, checks = zip(*RULES.values(), strict=True)
    processor = genctl.processor(list(rules), lm.tokenizer, steering=[Tired(0.5)])
    for way in ("greedy", "beams", "top-p behind the mask"):
        for _ in range(2):
            found = texts(lm.model, lm.tokenizer, processor, [*PROMPTS[:2], "So ", *PROMPTS[3:]], **WAYS[way])
            assert all(check(text) for check, text in zip(checks, found, strict=True)), found


def test_steering_comes_before_the_rule_and_sees_rows_without_padding(model, tokenizer):
    """The law of each row is that of genctl's own steered model, of which the rule leaves some tokens."""
    lm = genctl.load(model, tokenizer=tokenizer).language_model
    stack = [transformers.RepetitionPenaltyLogitsProcessor(1.3), Tired(0.5), Temperature(0.6)]
    prompts = ["aab", "abcabcab"]
    seen = []

    class Spy(transformers.LogitsProcessor):
        def __call__(self, input_ids, scores):
            seen.append((input_ids.clone(), scores.clone()))
            return scores

    inputs = tokenizer(prompts, return_tensors="pt", padding=True)
    rule = genctl.regex("[abc]{5}")
    processor = genctl.processor(rule, tokenizer, steering=stack)
    model.generate(**inputs, logits_processor=[processor, Spy()], max_new_tokens=5, do_sample=True, top_k=0)
    length = inputs["input_ids"].shape[1]
    for ids, scores in seen:
        for row, prompt in enumerate(prompts):
            steered = Steered(lm, stack)
            logits, state = steered.prefill([tokenizer.encode(prompt)])
            if ids.shape[1] > length:
                logits, _ = steered.extend(state, [ids[row, length:].tolist()])
            allowed = scores[row] > -torch.inf
            assert allowed.sum() in (1, 3)
            assert_allclose(scores[row][allowed], logits[0][allowed.numpy()], atol=1e-4)


def test_steering_without_a_rule_is_a_processor_too(model, tokenizer):
    quiet = genctl.processor(None, tokenizer, steering=[lambda logits: logits * 0.5])
    other = transformers.TemperatureLogitsWarper(2.0)
    runs = []
    for processor in (quiet, other):
        torch.manual_seed(0)
        runs.append(texts(model, tokenizer, processor, ("a", "bcd"), do_sample=True, top_k=0))
    assert runs[0] == runs[1]


def test_equal_prompts_may_have_different_rules(model, tokenizer):
    rules = [genctl.regex("[a-c]{3}"), genctl.regex("[0-9]{3}"), bool]
    processor = genctl.processor(rules, tokenizer)
    for way in WAYS.values():
        each = way.get("num_return_sequences", 1)
        for i, text in enumerate(texts(model, tokenizer, processor, ("x", "x", "x"), **way)):
            assert re.fullmatch(["[a-c]{3}", "[0-9]{3}", r"\s*(true|false)\s*"][i // each], text)


def test_some_rows_may_have_hooks_only(model, tokenizer):
    processor = genctl.processor([None, genctl.regex("[0-9]{3}")], tokenizer, steering=[Temperature(0.9)])
    _, second = texts(model, tokenizer, processor, ("a", "b"), do_sample=True)
    assert re.fullmatch("[0-9]{3}", second)


def test_memos_of_hooks_follow_beams_that_change_their_places(tokenizer):
    processor = genctl.processor(None, tokenizer, steering=[Tired(1.0)])
    a, b = (tokenizer.encode(c)[0] for c in "ab")
    scores = torch.zeros(2, 264)
    processor(torch.tensor([[5], [5]]), scores)
    processor(torch.tensor([[5, a], [5, b]]), scores)
    first = processor(torch.tensor([[5, b, b], [5, a, b]]), scores)  # the rows changed places, and went on
    assert first[0, [a, b]].tolist() == [0, -2]
    assert first[1, [a, b]].tolist() == [-1, -1]


def test_hooks_that_need_more_than_a_processor_sees_are_refused_by_name(tokenizer):
    with pytest.raises(genctl.ArgumentError, match=r"reads another model.*\n?hint: genctl.load"):
        genctl.processor(bool, tokenizer, steering=[ReadsAnother()])


def test_a_row_that_is_cut_is_a_prefix_of_the_language(model, tokenizer):
    rule = genctl.regex("(ab){40}c")
    assert isinstance(rule, Language)
    (text,) = texts(model, tokenizer, genctl.processor(rule, tokenizer), do_sample=False)
    assert text == "ab" * 12


def test_a_second_prompt_of_another_length_begins_anew(model, tokenizer):
    processor = genctl.processor(genctl.regex(DATE), tokenizer)
    lengths = [len(p) for p in ("a", "abc", "ab", "abcd")]
    for length in lengths:
        (text,) = texts(model, tokenizer, processor, ("x" * length,), do_sample=False)
        assert re.fullmatch(DATE, text)


def test_restart_begins_anew_even_behind_an_allowed_text(tokenizer):
    processor = genctl.processor(genctl.regex("[0-9]{2}"), tokenizer)
    ids = torch.tensor([tokenizer.encode("x")])
    digit = tokenizer.encode("7")[0]
    scores = torch.zeros(1, 264)
    processor(ids, scores)
    more = torch.cat([ids, torch.tensor([[digit]])], dim=1)
    longer = torch.cat([more, torch.tensor([[digit]])], dim=1)
    processor(more, scores)
    assert processor(longer, scores)[0, 0] == 0  # two digits: only the end is allowed
    processor.restart()
    assert processor(longer, scores)[0, 0] == -float("inf")


def test_the_scores_that_were_given_are_left_alone(tokenizer):
    scores = torch.zeros(1, 264)
    genctl.processor(genctl.regex("a"), tokenizer)(torch.tensor([[5]]), scores)
    assert (scores == 0).all()


@pytest.mark.parametrize(
    ("constraint", "given", "error"),
    [
        (None, None, genctl.ArgumentError),
        ("[a-z]", None, genctl.ConstraintError),
        (bool, "gpt2", genctl.VocabularyError),
        (bool, object(), genctl.VocabularyError),
    ],
)
def test_bad_input_is_refused_when_the_processor_is_made(tokenizer, constraint, given, error):
    with pytest.raises(error):
        genctl.processor(constraint, tokenizer if given is None else given)


@pytest.mark.parametrize("eos", ["x", {}, [1.5], True, ["a"], object()])
def test_ends_of_text_that_are_no_ids_are_refused(tokenizer, eos):
    with pytest.raises(genctl.ArgumentError, match=r"eos_token_id is .*token id"):
        genctl.processor(bool, tokenizer, eos_token_id=eos)
    with pytest.raises(genctl.VocabularyError, match="99999 is no token"):
        genctl.processor(bool, tokenizer, eos_token_id=[99999])


def test_an_end_of_text_may_be_a_number_of_numpy(tokenizer):
    plain = genctl.processor(bool, tokenizer, eos_token_id=7)._vocabulary
    assert 7 in plain.eos
    for eos in (np.int64(7), np.array([7]), torch.tensor(7), (7,)):
        assert genctl.processor(bool, tokenizer, eos_token_id=eos)._vocabulary.eos == plain.eos


@pytest.mark.parametrize("steering", ["", 0, "TopK", {}])
def test_steering_that_is_no_list_is_refused(tokenizer, steering):
    with pytest.raises(genctl.ArgumentError, match="a list of hooks"):
        genctl.processor(bool, tokenizer, steering=steering)


@pytest.mark.parametrize(
    ("ids", "scores"),
    [
        (torch.tensor([5, 6]), torch.zeros(1, 264)),
        (torch.tensor([[5], [6]]), torch.zeros(1, 264)),
        (torch.tensor([[5]]), torch.zeros(264)),
        (np.array([[5]]), np.zeros((1, 264))),
        ([[5]], None),
    ],
)
def test_what_is_no_call_of_a_processor_is_refused_with_its_shapes(tokenizer, ids, scores):
    with pytest.raises(genctl.ArgumentError, match=r"expected tensors of \(R, t\) and \(R, V\)"):
        genctl.processor(bool, tokenizer)(ids, scores)


def test_a_tokenizer_wider_than_the_model_is_refused(tokenizer):
    processor = genctl.processor(bool, tokenizer)
    with pytest.raises(genctl.VocabularyError, match="100 logits"):
        processor(torch.tensor([[5]]), torch.zeros(1, 100))


def test_a_dead_end_is_an_error_and_not_a_wrong_text(tokenizer):
    processor = genctl.processor(genctl.regex("a+") & (lambda text, done: not done and len(text) < 2), tokenizer)
    a = tokenizer.encode("a")[0]
    processor(torch.tensor([[5]]), torch.zeros(1, 264))
    with pytest.raises(genctl.DeadEndError):
        processor(torch.tensor([[5, a]]), torch.zeros(1, 264))
