"""Edits of a model: what they compute, that they are causal, and that nothing of them is left behind."""

from __future__ import annotations

import copy
import signal
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

import genctl
from genctl.errors import ArgumentError, ModelError
from genctl.models.base import host_logits
from genctl.models.transformers import EDITED, TransformersModel
from genctl.steering.combine import contrastive
from genctl.steering.edits import AddVector, FirstTokenScale, _added, edited
from tests.laws.test_model import assert_same_laws, from_scratch, laws_of
from tests.test_cache import wander
from tests.tiny_models import CONFIGS, DEVICE, SIZES, batch, tiny_causal_lm, tiny_model, tiny_tokenizer

TEXT = "the dog sat on the mat and the log"
VECTOR = np.random.default_rng(5).normal(size=32)
EDITS: dict[str, list[Any]] = {
    "vector": [AddVector(0, VECTOR, 2.0)],
    "vector, same norm": [AddVector(1, VECTOR, 3.0, keep_norm=True)],
    "first token": [FirstTokenScale(4.0)],
    "first token, one head of one layer": [FirstTokenScale(0.2, layers=[0], heads=[1, 3])],
    "all together": [AddVector(1, VECTOR), FirstTokenScale(0.5), FirstTokenScale(3.0, heads=[0]), AddVector(0, VECTOR)],
}
CASES = [(name, which) for name in CONFIGS for which in EDITS if name != "gemma3n" or "first" in which]
NEUTRAL = [AddVector(0, VECTOR, 0.0), AddVector(1, VECTOR, 0.0, keep_norm=True), FirstTokenScale(1.0)]


@pytest.fixture(scope="module")
def lm() -> genctl.Model:
    return genctl.Model(tiny_model("llama"))


@pytest.fixture(scope="module")
def model(lm: genctl.Model) -> Any:
    return lm.language_model


def logits_of(model: Any, text: str = TEXT) -> Any:
    return host_logits(model.prefill([model.encode(text)])[0])


def hooks_of(model: Any) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.model.modules())


def with_vector(inner: Any, layer: int, vector: Any) -> Any:
    """A copy of the torch model that has the vector built in, by other means than an edit."""
    other = copy.deepcopy(inner)
    row = torch.tensor(vector, dtype=torch.float32, device=DEVICE)
    other.model.layers[layer].register_forward_hook(lambda _module, _arguments, output: output + row)
    return other


# -- causal: an edited model is a model


@pytest.mark.parametrize(("name", "which"), CASES)
def test_any_order_of_extending_and_selecting_equals_prefilling_under_the_same_edits(name: str, which: str) -> None:
    model, rng = tiny_model(name), np.random.default_rng(11)
    rows = [model.encode(text) for text in (TEXT, "a", "under an old oak tree", TEXT + " by day")]
    plain = logits_of(model)
    with edited(model, EDITS[which]):
        logits, rows = wander(model, rng, rows, moves=3)
        assert_same_laws(logits, from_scratch(model, rows))
        assert not np.allclose(logits_of(model), plain, atol=1e-3)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("name", CONFIGS)
def test_masks_of_floats_that_add_nothing_are_the_masks_the_model_makes(name: str, implementation: str) -> None:
    model = TransformersModel(tiny_causal_lm(name, attn_implementation=implementation), tiny_tokenizer())
    rows = [model.encode(text) for text in (TEXT, "a", "under an old oak tree")]
    expected, _ = wander(model, np.random.default_rng(2), rows, moves=3)
    with edited(model, [FirstTokenScale(2.0), FirstTokenScale(0.5)]):
        found, _ = wander(model, np.random.default_rng(2), rows, moves=3)
    assert_same_laws(found, laws_of(expected))


@pytest.mark.parametrize("edit", NEUTRAL, ids=repr)
def test_an_edit_of_neutral_strength_changes_no_bit(model: Any, edit: Any) -> None:
    before = logits_of(model)
    with edited(model, [edit]):
        np.testing.assert_array_equal(logits_of(model), before)


# -- what they compute


def test_a_vector_is_added_behind_its_layer_at_every_token(model: Any) -> None:
    expected = TransformersModel(with_vector(model.model, 1, 2 * VECTOR), model.tokenizer)
    with edited(model, [AddVector(1, VECTOR, 2.0)]):
        assert_same_laws(logits_of(model), laws_of(logits_of(expected)))


@pytest.mark.parametrize("vector", [VECTOR, VECTOR.tolist(), torch.tensor(VECTOR, dtype=torch.bfloat16)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_norm_is_kept_over_the_last_axis_and_the_type_too(vector: Any, dtype: torch.dtype) -> None:
    hidden = torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(0)).to(dtype)
    moved = AddVector(0, vector, 5.0, keep_norm=True)(hidden)
    assert moved.dtype == dtype
    assert_allclose(
        moved.float().norm(dim=-1), hidden.float().norm(dim=-1), rtol=1e-5 if dtype == torch.float32 else 1e-2
    )
    assert not torch.allclose(moved, hidden, atol=0.1)


def test_a_sum_of_nothing_is_nothing_and_no_nan() -> None:
    moved = AddVector(0, [1.0, 0.0], -1.0, keep_norm=True)(torch.tensor([[[1.0, 0.0]]]))
    assert moved.tolist() == [[[0.0, 0.0]]]


def test_layers_that_give_a_tuple_are_edited_in_its_first_part() -> None:
    hidden, rest = torch.zeros(2, 3, 2), object()
    found = _added([AddVector(0, [1.0, 2.0])], (hidden, rest))
    assert found[1] is rest
    assert found[0].shape == hidden.shape
    assert (found[0] == torch.tensor([1.0, 2.0])).all()


def test_vectors_of_one_layer_are_added_in_order(model: Any) -> None:
    with edited(model, [AddVector(0, VECTOR, 1.5), AddVector(0, VECTOR, 0.5)]):
        found = logits_of(model)
    with edited(model, [AddVector(0, VECTOR, 2.0)]):
        assert_allclose(found[found > -np.inf], logits_of(model)[found > -np.inf], atol=1e-4)


@pytest.mark.parametrize("gamma", [0.25, 3.0])
def test_attention_to_the_first_token_is_scaled_and_the_rest_keeps_its_ratios(gamma: float) -> None:
    """a0' = g a0 / D and aj' = aj / D with D = 1 + (g - 1) a0, in the layer whose input is the same."""
    model = TransformersModel(tiny_causal_lm("llama", attn_implementation="eager"), tiny_tokenizer())
    seen: list[torch.Tensor] = []
    handle = model.layers[0].self_attn.register_forward_hook(lambda _m, _a, output: seen.append(output[1]))
    rows = [model.encode(TEXT), model.encode("a cat")]
    for edits in ([], [FirstTokenScale(gamma, heads=[0, 2])]):
        if edits:
            with edited(model, edits):
                model.prefill([rows[0]])
        else:
            model.prefill([rows[0]])
    handle.remove()
    plain, scaled = (weights.cpu() for weights in seen)
    first = plain[..., :1]
    expected = torch.cat([gamma * first, plain[..., 1:]], dim=-1) / (1 + (gamma - 1) * first)
    assert_allclose(scaled[:, [0, 2]], expected[:, [0, 2]], atol=1e-6)
    assert_allclose(scaled[:, [1, 3]], plain[:, [1, 3]], atol=1e-6)


def test_the_scale_is_that_of_a_four_dimensional_mask_without_a_cache(model: Any) -> None:
    ids = model.encode(TEXT)
    mask = torch.full((len(ids), len(ids)), torch.finfo(torch.float32).min, device=DEVICE).triu(1)
    mask[:, 0] += np.log(3.0)
    with torch.inference_mode():
        expected = model.model(batch(ids), attention_mask=mask[None, None], use_cache=False).logits[:, -1]
    with edited(model, [FirstTokenScale(3.0)]):
        found = logits_of(model)
    used = found > -np.inf
    assert_allclose(found[used], expected.cpu().numpy()[used], atol=1e-5)


# -- nothing is left behind


def stop_in_a_layer(model: Any) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    handle = model.layers[1].register_forward_hook(stop)
    try:
        logits_of(model)
    finally:
        handle.remove()


def fail(_model: Any) -> None:
    raise ZeroDivisionError


def press_ctrl_c(model: Any) -> None:
    """With Python's own handler, which a process that was started in the background does not have."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


WAYS = {
    "an exception": fail,
    "Ctrl-C": press_ctrl_c,
    "Ctrl-C while a layer runs": stop_in_a_layer,
    "an edit of what is edited": lambda model: edited(model, NEUTRAL).__enter__(),
    "an end": lambda model: None,
}


@pytest.mark.parametrize("which", EDITS)
@pytest.mark.parametrize("way", WAYS)
def test_the_model_is_what_it_was_bit_by_bit_however_the_block_is_left(model: Any, which: str, way: str) -> None:
    before, hooks = logits_of(model), hooks_of(model)
    left = []
    try:
        with edited(model, EDITS[which]):
            assert not np.array_equal(logits_of(model), before)
            WAYS[way](model)
    except (ZeroDivisionError, KeyboardInterrupt, ModelError) as error:
        left.append(error)
    assert bool(left) == (way != "an end")
    np.testing.assert_array_equal(logits_of(model), before)
    assert hooks_of(model) == hooks
    assert not EDITED


def test_a_hook_that_was_left_behind_does_nothing(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = TransformersModel(copy.deepcopy(model.model), model.tokenizer)  # that nobody else has
    before = logits_of(model)
    with monkeypatch.context() as patch:  # as if Ctrl-C had come between registering a hook and writing that down
        patch.setattr(torch.utils.hooks.RemovableHandle, "remove", lambda self: None)
        with edited(model, EDITS["all together"]):
            assert not np.array_equal(logits_of(model), before)
    np.testing.assert_array_equal(logits_of(model), before)


def test_two_models_that_share_a_config_do_not_share_edits() -> None:
    first = TransformersModel(tiny_causal_lm("llama"), tiny_tokenizer())
    second = TransformersModel(type(first.model)(first.model.config).eval(), tiny_tokenizer())
    assert second.model.config is first.model.config
    saved = copy.deepcopy(first.model.config.to_dict())
    plain = logits_of(second)
    _, state = second.prefill([second.encode("the")])
    with edited(first, EDITS["all together"]):
        np.testing.assert_array_equal(logits_of(second), plain)
        second.extend(state, np.array([9]))
        with edited(second, [AddVector(0, VECTOR)]):
            assert not np.array_equal(logits_of(second), plain)
    np.testing.assert_array_equal(logits_of(second), plain)
    assert first.model.config.to_dict() == saved


# -- states know under which edits they were made


def test_a_state_is_refused_under_other_edits_with_both_named(model: Any) -> None:
    ids, more = model.encode(TEXT), np.array([9])
    _, plain = model.prefill([ids])
    with edited(model, [AddVector(0, VECTOR)]):
        with pytest.raises(ModelError, match=r"without edits, .* under AddVector\(layer=0"):
            model.extend(plain, more)
        logits, state = model.prefill([ids])
        state = model.join([model.select(state, np.array([0, 0])), state])
    with pytest.raises(ModelError, match=r"under AddVector\(layer=0.* without edits"):
        model.extend(state, np.array([9, 9, 9]))
    with edited(model, [AddVector(0, 2 * VECTOR)]), pytest.raises(ModelError, match="hint: prefill inside"):
        model.extend(state, np.array([9, 9, 9]))
    with edited(model, [AddVector(0, VECTOR)]):  # equal edits are the same model
        logits, _ = model.extend(state, np.array([9, 9, 9]))
        assert_same_laws(logits, from_scratch(model, [[*ids, 9]] * 3))
    model.extend(plain, more)


@pytest.mark.parametrize("leave", [True, False], ids=["and are left again", "and stay"])
def test_edits_that_begin_while_the_model_runs_are_an_error(model: Any, leave: bool) -> None:
    """As another thread might."""
    manager = edited(model, [AddVector(2, VECTOR)])

    def enter(*_: Any) -> None:
        manager.__enter__()
        if leave:
            manager.__exit__(None, None, None)

    handle = model.layers[0].register_forward_hook(enter)
    try:
        with pytest.raises(ModelError, match="while it was running"):
            logits_of(model)
    finally:
        handle.remove()
        if not leave:
            manager.__exit__(None, None, None)
    assert not EDITED


@pytest.mark.parametrize("which", EDITS)
def test_hidden_states_that_hooks_read_are_those_of_the_edited_model(model: Any, which: str) -> None:
    ids, layers = model.encode(TEXT), [0, 1, 2]
    plain, _ = model.with_hidden(layers).prefill([ids])
    with edited(model, EDITS[which]):
        found, state = model.with_hidden(layers).prefill([ids])
        assert_same_laws(found.logits, laws_of(logits_of(model)))
        for layer in (1, 2):
            assert not torch.allclose(found.states[layer], plain.states[layer], atol=1e-3)
    with pytest.raises(ModelError, match="another model's"):
        model.with_hidden(layers).extend(state, np.array([9]))


def test_hidden_states_of_an_edited_layer_have_the_vector(model: Any) -> None:
    plain, _ = model.with_hidden([0, 2]).prefill([model.encode(TEXT)])
    with edited(model, [AddVector(0, VECTOR, 2.0)]):
        found, _ = model.with_hidden([0, 2]).prefill([model.encode(TEXT)])
    added = (found.states[0] - plain.states[0]).cpu()
    assert_allclose(added, 2 * torch.tensor(VECTOR[None], dtype=torch.float32), atol=1e-5)


def test_every_difference_between_edits_shows_in_their_fingerprints() -> None:
    edits: list[Any] = [
        AddVector(0, VECTOR),
        AddVector(1, VECTOR),
        AddVector(0, VECTOR, 2.0),
        AddVector(0, VECTOR, 2.0000001),
        AddVector(0, VECTOR, keep_norm=True),
        AddVector(0, np.nextafter(VECTOR.astype(np.float32), np.float32(9))),
        FirstTokenScale(2.0),
        FirstTokenScale(2.0000001),
        FirstTokenScale(2.0, heads=[0]),
        FirstTokenScale(2.0, layers=[0]),
    ]
    assert len(set(map(repr, edits))) == len(edits)
    assert repr(FirstTokenScale(2, heads=[3, 1])) == repr(FirstTokenScale(2.0, heads=(1, 3, 3)))


# -- through Model


def test_edits_reach_the_model_behind_a_view_as_bytes(lm: genctl.Model, model: Any) -> None:
    view = lm.bytes()
    expected = genctl.Model(TransformersModel(with_vector(model.model, 0, VECTOR), model.tokenizer)).bytes()
    with view.edit(AddVector(0, VECTOR)) as same:
        assert same is view
        assert view.logprob("mat", "the ") == pytest.approx(expected.logprob("mat", "the "), abs=1e-4)
        with pytest.raises(ModelError, match="edited already"), lm.edit(AddVector(1, VECTOR)):
            pass
    assert view.logprob("mat", "the ") != pytest.approx(expected.logprob("mat", "the "), abs=1e-2)


def test_edits_reach_the_model_under_hooks_and_a_checkpoint_knows_those_of_models_that_hooks_read(
    lm: genctl.Model, model: Any
) -> None:
    other = TransformersModel(tiny_causal_lm("llama", initializer_range=0.3), tiny_tokenizer())
    steered = lm.steered([contrastive(other, plausible=0.0)])
    before = host_logits(steered.language_model.prefill([model.encode(TEXT)])[0])
    with steered.edit(AddVector(0, VECTOR)):
        assert not np.allclose(host_logits(steered.language_model.prefill([model.encode(TEXT)])[0]), before, atol=1e-3)
        with pytest.raises(ModelError, match="edited already"), lm.edit(AddVector(0, VECTOR)):
            pass
    with edited(other, [AddVector(0, VECTOR)]):
        cut = steered.generate("the ", max_time=0.0, seed=0, max_new_tokens=3)
    with pytest.raises(ArgumentError, match="another edits"):
        steered.generate("the ", resume=cut.checkpoint, max_new_tokens=3)


def test_a_second_wrapper_of_the_same_model_knows_of_the_edits(lm: genctl.Model, model: Any) -> None:
    other = TransformersModel(model.model, model.tokenizer)
    _, state = other.prefill([[5, 6]])
    with lm.edit(AddVector(0, VECTOR)):
        with pytest.raises(ModelError, match="another model's"):
            other.extend(state, np.array([7]))
        with pytest.raises(ModelError, match="edited already"), edited(other, NEUTRAL):
            pass


def test_a_member_of_an_ensemble_can_be_edited_and_the_ensemble_not(lm: genctl.Model) -> None:
    other = genctl.Model(TransformersModel(tiny_causal_lm("gpt2"), tiny_tokenizer()))
    both = genctl.ensemble([lm, other])
    ids = both.language_model.encode(TEXT)
    before = host_logits(both.language_model.prefill([ids])[0])
    with pytest.raises(ModelError, match="hint: edit the member"), both.edit(AddVector(0, VECTOR)):
        pass
    with lm.edit(AddVector(0, VECTOR)):
        assert not np.allclose(host_logits(both.language_model.prefill([ids])[0]), before, atol=1e-3)


def test_a_model_without_layers_cannot_be_edited() -> None:
    toy = genctl.load("toy")
    for one in (toy, toy.bytes()):
        with pytest.raises(ModelError, match="ToyModel has no layers to edit"), one.edit(AddVector(0, VECTOR)):
            pass


def test_generating_under_a_rule_goes_by_the_edited_model(lm: genctl.Model, model: Any) -> None:
    built_in = genctl.Model(TransformersModel(with_vector(model.model, 0, 3 * VECTOR), model.tokenizer))
    rule, options = genctl.regex("[a-z ]{4,12}"), {"num_particles": 8, "max_new_tokens": 9, "seed": 3}
    with lm.edit(AddVector(0, VECTOR, 3.0)):
        found = lm.generate("the ", rule, **options)
    expected = built_in.generate("the ", rule, **options)
    assert found.text == expected.text
    assert found.log_evidence == pytest.approx(expected.log_evidence, abs=1e-3)
    assert found.log_evidence != pytest.approx(lm.generate("the ", rule, **options).log_evidence, abs=1e-2)


def test_a_run_goes_on_under_the_edits_it_began_with(lm: genctl.Model) -> None:
    options: dict[str, Any] = {"num_particles": 4, "max_new_tokens": 9, "seed": 3}
    edits = [AddVector(0, VECTOR), FirstTokenScale(2.0)]
    with lm.edit(*edits):
        cut = lm.generate("the ", max_time=0.0, **options)
        whole = lm.generate("the ", **options)
    with pytest.raises(ArgumentError, match="another edits"):
        lm.generate("the ", resume=cut.checkpoint, **options)
    with lm.edit(*edits):
        assert lm.generate("the ", resume=cut.checkpoint, **options).text == whole.text


def test_masks_cannot_be_edited_where_transformers_makes_them_and_vectors_can(model: Any) -> None:
    inner, ids = model.model, batch(model.encode(TEXT))
    options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 2}
    with edited(model, [FirstTokenScale(2.0)]), pytest.raises(ModelError, match=r"hint: .*lm.generate"):
        inner.generate(ids, **options)
    expected = with_vector(inner, 0, 3 * VECTOR).generate(ids, **options)
    with edited(model, [AddVector(0, VECTOR, 3.0)]):
        assert inner.generate(ids, **options).tolist() == expected.tolist()


# -- refusals


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AddVector(-1, VECTOR), "layer is -1"),
        (lambda: AddVector(True, VECTOR), "layer is True"),
        (lambda: AddVector(0, [[1.0]]), r"shape \(1, 1\)"),
        (lambda: AddVector(0, [np.nan]), "finite"),
        (lambda: AddVector(0, "abc"), "expected numbers"),
        (lambda: AddVector(0, ["1", "2"]), "expected numbers"),
        (lambda: AddVector(0, [None]), "expected numbers"),
        (lambda: AddVector(0, [[1.0], [1.0, 2.0]]), "expected numbers"),
        (lambda: AddVector(0, VECTOR + 1j), "complex128, expected real numbers"),
        (lambda: AddVector(0, torch.tensor(VECTOR + 1j)), "complex128, expected real numbers"),
        (lambda: AddVector(0, VECTOR > 0), "bool, expected real numbers"),
        (lambda: AddVector(0, [1e30], 1e30), "finite numbers"),
        (lambda: AddVector(0, VECTOR, "2"), "scale is '2'"),
        (lambda: AddVector(0, VECTOR, keep_norm="yes"), "keep_norm is 'yes'"),
        (lambda: AddVector(0, VECTOR, np.inf), "scale is inf"),
        (lambda: FirstTokenScale(0.0), "gamma is 0.0, it must be above 0"),
        (lambda: FirstTokenScale(-1), "gamma is -1"),
        (lambda: FirstTokenScale("2"), "gamma is '2'"),
        (lambda: FirstTokenScale(2.0, heads=[1.5]), "heads is 1.5"),
        (lambda: FirstTokenScale(2.0, heads=[]), "at least one"),
        (lambda: FirstTokenScale(2.0, layers=3), "layers is 3, expected a list"),
    ],
)
def test_edits_that_mean_nothing_are_refused_when_they_are_made(make: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ([], "at least one"),
        ([AddVector(3, VECTOR)], "layer is 3, but the model has 3"),
        ([AddVector(0, VECTOR[:8])], "8 numbers, the model's hidden states 32"),
        ([FirstTokenScale(2.0, layers=[0, 7])], "layers is 7, but the model has 3"),
        ([FirstTokenScale(2.0, heads=[4])], "heads is 4, but the model has 4"),
        ([lambda hidden: hidden.mean(dim=1, keepdim=True)], "is no edit.*causal"),
    ],
)
def test_edits_that_do_not_fit_or_may_look_ahead_are_refused_before_anything_changes(
    model: Any, edits: Any, message: str
) -> None:
    hooks = hooks_of(model)
    with pytest.raises(ArgumentError, match=message), edited(model, edits):
        pass
    assert not EDITED
    assert hooks_of(model) == hooks


def test_attention_that_takes_no_masks_of_floats_is_refused_by_name() -> None:
    inner = tiny_causal_lm("llama")
    inner.config._attn_implementation = "flex_attention"
    model = TransformersModel(inner, tiny_tokenizer())
    with pytest.raises(ModelError, match=r"'flex_attention'.*\nhint: .*sdpa"), edited(model, [FirstTokenScale(2.0)]):
        pass


def test_a_compiled_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tiny_causal_lm("llama")
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)  # the real one takes long to load
    inner.model.layers[0].compile()
    model = TransformersModel(inner, tiny_tokenizer())
    with pytest.raises(ModelError, match="compiled"), edited(model, [AddVector(0, VECTOR)]):
        pass


def test_a_model_whose_layers_give_several_streams_is_refused_for_vectors() -> None:
    model = tiny_model("gemma3n")
    with edited(model, [AddVector(1, VECTOR)]), pytest.raises(ModelError, match=r"layer 1 gives \(4, 1, .*\)"):
        logits_of(model)


def test_a_model_with_two_lists_of_as_many_layers_is_refused() -> None:
    inner = tiny_causal_lm("llama")
    inner.other = torch.nn.ModuleList(torch.nn.Linear(1, 1) for _ in range(SIZES["num_hidden_layers"]))
    model = TransformersModel(inner, tiny_tokenizer())
    with pytest.raises(ModelError, match="not one list of 3 layers"), edited(model, [AddVector(0, VECTOR)]):
        pass
    logits_of(model)


# -- the packaged model


@pytest.mark.real
def test_the_packaged_model_is_edited_and_left_as_it_was() -> None:
    lm = genctl.load()
    model, rng = lm.language_model, np.random.default_rng(0)
    vector = rng.normal(size=model.model.config.hidden_size)
    before = logits_of(model, "The sky is")
    edits = [AddVector(12, vector, 4.0, keep_norm=True), FirstTokenScale(0.5, layers=range(10), heads=[0, 3])]

    def work() -> None:
        ids = model.encode("The sky is blue, and the sea")
        whole, _ = model.prefill([ids])
        _, state = model.prefill([ids[:3]])
        step, _ = model.extend(state, [ids[3:]])
        assert_same_laws(step, laws_of(whole))
        assert not np.allclose(logits_of(model, "The sky is"), before, atol=0.1)
        press_ctrl_c(model)

    with pytest.raises(KeyboardInterrupt), lm.edit(*edits):
        work()
    np.testing.assert_array_equal(logits_of(model, "The sky is"), before)


@pytest.mark.real
def test_the_packaged_model_does_not_see_the_order_of_a_set() -> None:
    model = genctl.load().language_model
    members = [" red and warm", " green", " blue as the sea"]
    prompts = [genctl.SetPrompt("Colours:", order, " The sky is") for order in (members, members[::-1])]
    first, second = (laws_of(model.prefill([model.encode(prompt)])[0]) for prompt in prompts)
    assert_allclose(first, second, atol=2e-4)
