"""Prompts with a set in them: the order cannot be seen, positions and masks are those of the literature."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

import genctl
from genctl import SetPrompt
from genctl.errors import ArgumentError, ModelError
from genctl.models.base import host_logits
from genctl.models.sets import CLOSE, MARKS, NEXT, OPEN, marked, parts_of
from genctl.models.transformers import TransformersModel
from genctl.steering.combine import contrastive, guidance
from genctl.steering.edits import AddVector, FirstTokenScale, edited
from genctl.steering.penalties import FrequencyPenalty
from genctl.steering.routing import Routed
from tests.laws.test_model import assert_same_laws, laws_of
from tests.tiny_models import DEVICE, batch, tiny_causal_lm, tiny_model, tiny_tokenizer

MEMBERS = [" cat sat", " log", " old oak tree by"]
FULL = ["llama", "gpt2"]  # full attention in every layer
WINDOWED = ["mistral", "gemma3", "gemma3n"]


def prompt_of(members: Any = MEMBERS, suffix: str = ", then all") -> SetPrompt:
    return SetPrompt("the dog and", members, suffix)


def plain_ids(row: list[int]) -> list[int]:
    """The tokens alone, members in the order given: what a hook may count."""
    return [i for i in row if i not in MARKS]


def logits_of(model: Any, *rows: list[int]) -> np.ndarray:
    return host_logits(model.prefill(rows)[0])


def by_mask(model: Any, row: list[int]) -> np.ndarray:
    """(1, V) log-probabilities by one pass with a four-dimensional mask and position ids, without a cache."""
    parts = parts_of(row)
    assert parts is not None
    start = len(parts.prefix)
    ids, positions, owner = list(parts.prefix), list(range(start)), [0] * start
    for number, member in enumerate(parts.members, 1):
        ids += member
        positions += range(start, start + len(member))
        owner += [number] * len(member)
    behind = start + max(map(len, parts.members))
    ids += parts.rest
    positions += range(behind, behind + len(parts.rest))
    owner += [0] * len(parts.rest)
    owners = batch(owner)[0]
    apart = (owners[:, None] != owners) & (owners[:, None] > 0) & (owners > 0)
    mask = torch.zeros(len(ids), len(ids), device=DEVICE).masked_fill(apart, torch.finfo(torch.float32).min)
    mask = mask + torch.full_like(mask, torch.finfo(torch.float32).min).triu(1)
    mask = mask.clamp_min(torch.finfo(torch.float32).min)
    with torch.no_grad():
        logits = model.model(
            batch(ids),
            position_ids=batch(positions),
            attention_mask=mask[None, None],
            use_cache=False,
        ).logits[:, -1]
    logits[:, sorted(model.vocabulary.unused)] = -torch.inf
    return laws_of(logits)


@pytest.mark.parametrize("name", FULL)
def test_the_law_is_that_of_a_four_dimensional_mask_with_shared_positions(name: str) -> None:
    model = tiny_model(name)
    row = model.encode(prompt_of())
    assert_allclose(laws_of(logits_of(model, row)), by_mask(model, row), atol=1e-4)


@pytest.mark.parametrize("name", FULL)
def test_the_order_of_the_members_does_not_show_as_it_does_in_a_plain_prompt(name: str) -> None:
    model = tiny_model(name)
    rows = [model.encode(prompt_of(list(order))) for order in permutations(MEMBERS)]
    laws = laws_of(logits_of(model, *rows))
    assert_allclose(laws, np.broadcast_to(laws[0], laws.shape), atol=1e-5)
    plain = laws_of(logits_of(model, *map(plain_ids, rows)))
    used = plain[0] > -np.inf
    assert np.abs(plain[1:, used] - plain[0, used]).max() > 1e-2


@pytest.mark.parametrize("name", FULL)
@pytest.mark.parametrize("edit", [AddVector(0, np.ones(32), 0.3), FirstTokenScale(3.0, heads=[1])], ids=repr)
def test_the_order_does_not_show_under_edits_either(name: str, edit: Any) -> None:
    model = tiny_model(name)
    with edited(model, [edit]):
        first, second = (logits_of(model, model.encode(prompt_of(m))) for m in (MEMBERS, MEMBERS[::-1]))
    used = first > -np.inf
    assert_allclose(first[used], second[used], atol=2e-5)


@pytest.mark.parametrize("name", [*FULL, *WINDOWED])
def test_a_set_of_one_is_the_plain_prompt_bit_by_bit(name: str) -> None:
    model = tiny_model(name)
    row = model.encode(prompt_of([" cat sat"]))
    assert row == model.encode("the dog and") + model.encode(" cat sat") + model.encode(", then all")
    assert_array_equal(logits_of(model, row), logits_of(model, plain_ids(row)))


@pytest.mark.parametrize("name", FULL)
def test_extending_and_forking_behind_a_set_equals_prefilling_the_whole(name: str) -> None:
    model, rng = tiny_model(name), np.random.default_rng(0)
    rows = [
        model.encode(prompt_of()),
        model.encode("the dog and"),
        model.encode(prompt_of(MEMBERS[:2], ".")),
        model.encode(prompt_of(MEMBERS, " by day")),
        model.encode("an old oak"),
    ]
    logits, state = model.prefill(rows)
    for picked in ([0, 0, 3, 1, 2, 4], [5, 2, 1, 1, 0], [0, 1, 2, 3, 4]):
        more = [rng.integers(3, 290, size=rng.integers(1, 4)).tolist() for _ in picked]
        logits, state = model.extend(model.select(state, np.array(picked)), more)
        rows = [rows[i] + new for i, new in zip(picked, more, strict=True)]
    assert_same_laws(logits, np.concatenate([laws_of(logits_of(model, row)) for row in rows]))
    for i, row in enumerate(rows):
        if parts_of(row) is not None:
            assert_allclose(laws_of(logits)[i : i + 1], by_mask(model, row), atol=1e-4)
    joined = model.join([state, model.select(state, np.array([0, 2]))])
    tokens = np.arange(len(rows) + 2) + 7
    rows = [[*row, int(t)] for row, t in zip([*rows, rows[0], rows[2]], tokens, strict=True)]
    logits, _ = model.extend(joined, tokens)
    assert_same_laws(logits, np.concatenate([laws_of(logits_of(model, row)) for row in rows]))


def test_equal_sets_and_what_they_share_with_plain_prompts_are_read_once() -> None:
    model = tiny_model("llama")
    row = model.encode(prompt_of())
    _, state = model.prefill([row, [*row, 9], [*row, 8]])
    assert len(np.unique(state.slots)) <= len(plain_ids(row)) + 2 * (len(model.encode(", then all")) + 1)


@pytest.mark.parametrize("name", WINDOWED)
def test_a_set_is_exact_within_an_attention_window_and_refused_beyond(name: str) -> None:
    model = tiny_model(name)
    rows = [marked([5], [[6], [7]], [8]), marked([5], [[7], [6]], [8])]
    first, second = laws_of(logits_of(model, *rows))
    assert_allclose(first, second, atol=1e-5)
    _, state = model.prefill(rows)
    _, state = model.extend(state, np.array([9, 9]))
    with pytest.raises(ArgumentError, match=r"row of 6 tokens with a set .* window of 5"):
        model.extend(state, np.array([9, 9]))
    with pytest.raises(ArgumentError, match="window of 5"):
        model.prefill([marked([5], [[6, 6], [7, 7]], [8])])


def test_a_set_may_have_more_tokens_than_the_context_has_positions() -> None:
    model = tiny_model("llama")
    row = marked([5], [[6] * 30, [7] * 30, [8] * 30], [9] * 33)
    assert_allclose(laws_of(logits_of(model, row)), by_mask(model, row), atol=1e-4)
    with pytest.raises(ArgumentError, match=r"65 tokens does not fit .* 64"):
        logits_of(model, [*row, 9])


# -- generate


def test_generating_behind_a_set_gives_the_same_text_in_every_order() -> None:
    lm, rule = genctl.Model(tiny_model("llama")), genctl.regex("[a-z ]{3,20}")
    options: dict[str, Any] = {"num_particles": 4, "max_new_tokens": 8, "seed": 1}
    runs = [lm.generate(prompt_of(list(order)), rule, **options) for order in permutations(MEMBERS)]
    assert len({g.text for g in runs}) == 1
    assert_allclose([g.log_evidence for g in runs], runs[0].log_evidence, atol=1e-4)
    several = lm.generate([prompt_of(), prompt_of(MEMBERS[::-1])], rule, max_new_tokens=8, seed=1)
    assert len(several) == 2


def test_a_run_behind_a_set_can_be_resumed() -> None:
    lm = genctl.Model(tiny_model("llama"))
    steps = iter(range(100))

    def interrupt(done: int, _of: int) -> None:
        if next(steps) == 3:
            raise KeyboardInterrupt

    options: dict[str, Any] = {"num_particles": 3, "max_new_tokens": 8, "seed": 1}
    whole = lm.generate(prompt_of(), **options)
    with pytest.raises(genctl.Interrupted) as caught:
        lm.generate(prompt_of(), progress=interrupt, **options)
    resumed = lm.generate(prompt_of(), resume=caught.value.checkpoint, **options)
    assert [p.tokens for p in resumed.particles] == [p.tokens for p in whole.particles]
    with pytest.raises(ArgumentError, match="another prompts"):
        lm.generate(prompt_of(MEMBERS[::-1]), resume=caught.value.checkpoint, **options)


def test_the_greedy_text_behind_a_set_is_that_of_full_passes_with_masks() -> None:
    model = tiny_model("llama")
    row = model.encode(prompt_of())
    tokens: list[int] = []
    for _ in range(6):
        tokens.append(int(by_mask(model, row + tokens)[0].argmax()))
    found = genctl.Model(model).generate(prompt_of(), do_sample=False, max_new_tokens=6)
    assert list(found.tokens) == tokens


# -- refusals


@pytest.mark.parametrize(
    ("members", "suffix", "message"),
    [
        ([], "x", "at least one"),
        ("abc", "x", "members of a SetPrompt are 'abc'"),
        (["a", ""], "x", "member 1 of a SetPrompt is empty"),
        (["a", []], "x", "member 1"),
        (["a", "b"], "", "suffix of a SetPrompt is empty"),
    ],
)
def test_a_set_that_has_no_meaning_is_refused_when_it_is_made(members: Any, suffix: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        SetPrompt("the", members, suffix)


def test_parts_may_be_text_bytes_or_ids_and_an_empty_prefix_is_the_opening_token() -> None:
    model = tiny_model("llama")
    assert model.encode(SetPrompt("", [[9], b" log"], [7])) == marked([0], [[9], model.encode(" log")], [7])
    with pytest.raises(ArgumentError, match="outside the vocabulary"):
        model.encode(SetPrompt("the", [[9], [100_000]], "x"))
    with pytest.raises(ArgumentError, match="outside the vocabulary"):
        model.encode(SetPrompt("the", [[9], [NEXT]], [CLOSE]))
    assert parts_of(model.encode("the")) is None


@pytest.mark.parametrize("part", [None, 7, ["a"], [1.5], [True], {"a": 1}, np.array([1.5])])
def test_parts_that_are_no_text_and_no_ids_are_refused_by_name(part: Any) -> None:
    for arguments, name in (
        ((part, ["a"], "b"), "prefix"),
        (("a", ["b", part], "c"), "member 1"),
        (("a", ["b"], part), "suffix"),
    ):
        with pytest.raises(ArgumentError, match=f"the {name} of a SetPrompt is .*expected text"):
            SetPrompt(*arguments)
    for members in (None, 7, {"a": 1}, {"a", "b"}, iter("ab")):
        with pytest.raises(ArgumentError, match="the members of a SetPrompt are"):
            SetPrompt("a", members, "b")


def test_ids_of_parts_may_be_arrays() -> None:
    ids = SetPrompt([5], [[7], [9, 10]], [8])
    assert SetPrompt(np.array([5]), [torch.tensor([7]), np.array([9, 10])], (np.int64(8),)) == ids


@pytest.mark.parametrize(
    "row",
    [[OPEN], [5, OPEN, 6, 7], [5, NEXT, 6], [5, OPEN, CLOSE, 6], [5, OPEN, 6, CLOSE], [OPEN, 5, NEXT, 6, CLOSE, 7]],
)
def test_marks_that_are_not_in_order_are_refused(row: list[int]) -> None:
    with pytest.raises(ArgumentError, match="set"):
        tiny_model("llama").prefill([row])


def test_models_that_cannot_read_a_set_are_refused_by_name() -> None:
    lm = genctl.Model(tiny_model("llama"))
    other = genctl.Model(TransformersModel(tiny_causal_lm("gpt2"), tiny_tokenizer()))
    for one, name in [
        (genctl.load("toy"), "ToyModel"),
        (lm.bytes(), "ByteModel"),
        (genctl.ensemble([lm, other]), "Ensemble"),
    ]:
        with pytest.raises(ModelError, match=f"a {name} cannot read a SetPrompt"):
            one.generate(prompt_of(), max_new_tokens=3)


# -- under hooks


def test_hooks_count_the_tokens_of_a_set_and_the_order_does_not_show() -> None:
    lm = genctl.Model(tiny_model("llama")).steered([FrequencyPenalty(1.5, prompt=True)])
    plain = tiny_model("llama")
    row = plain.encode(prompt_of())
    logits, _ = lm.language_model.prefill([row])
    expected = logits_of(plain, row)[0].copy()
    for token in plain_ids(row):
        expected[token] -= 1.5
    assert_allclose(logits[0], expected, atol=1e-4)
    runs = [lm.generate(prompt_of(list(m)), max_new_tokens=6, seed=2).tokens for m in permutations(MEMBERS)]
    assert len(set(runs)) == 1


def test_a_hook_that_reads_another_prompt_refuses_a_set_of_which_it_makes_another_prompt() -> None:
    lm = genctl.Model(tiny_model("llama"))
    for other in ("again: {prompt}", lambda prompt: "the cat"):
        with pytest.raises(ModelError, match=r"SetPrompt .* a hook reads the model behind a prompt of its own"):
            lm.steered([guidance(1.5, prompt=other)]).generate(prompt_of(), max_new_tokens=3)


class Elsewhere:
    """A model that cuts prompts into other tokens."""

    def __init__(self, model: Any) -> None:
        self.vocabulary, self.prefill, self.extend = model.vocabulary, model.prefill, model.extend
        self.select, self.join, self.model = model.select, model.join, model

    def encode(self, prompt: Any) -> list[int]:
        return [*self.model.encode(prompt), 9]


def test_models_that_cut_a_set_alike_read_it_together_and_others_are_refused_with_the_reason() -> None:
    model = tiny_model("llama")
    routed = genctl.load(Routed(model, model, lambda logits, active: 1))
    plain = genctl.load(model).generate(prompt_of(), max_new_tokens=4, seed=2)
    assert routed.generate(prompt_of(), max_new_tokens=4, seed=2).tokens == plain.tokens
    with pytest.raises(ModelError, match="the two models cut it into other tokens"):
        genctl.load(Routed(model, Elsewhere(model), lambda logits, active: 1)).generate(prompt_of())
    with pytest.raises(ModelError, match="a hook reads another model, which cuts it into other tokens"):
        genctl.load(model).steered([contrastive(Elsewhere(model))]).generate(prompt_of())


@pytest.mark.parametrize("method", ["exact", "masked", "smc"])
def test_every_method_samples_behind_a_set(method: str) -> None:
    lm, rule = genctl.Model(tiny_model("llama")), genctl.regex("[a-z]|[^a-z]{1,9}")
    runs = [
        lm.generate(prompt_of(list(m)), rule, method=method, max_new_tokens=4, seed=5) for m in permutations(MEMBERS)
    ]
    assert len({g.text for g in runs}) == 1
