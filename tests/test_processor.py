"""The processor inside `model.generate` of transformers, on a tiny random model with padded logits."""

from __future__ import annotations

import json
import re

import pytest

import genctl
from genctl.constraints.rules import Language

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"


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
