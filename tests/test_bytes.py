"""The byte view of a model against enumeration. The laws of a model are in laws/test_model.py."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from genctl.compilers.regex import compile_regex
from genctl.constraints.automaton import AutomatonConstraint
from genctl.errors import ArgumentError
from genctl.models.bytes import ROWS, STOP, VOCABULARY, ByteModel
from genctl.models.toy import CORPUS, ToyModel, packaged_toy
from genctl.models.transformers import TransformersModel
from genctl.samplers import smc
from genctl.samplers.masked import masked
from genctl.samplers.rejection import AWRS
from genctl.samplers.resampling import SCHEMES
from genctl.samplers.streams import seeded
from genctl.views import byte_view
from genctl.vocabulary import Vocabulary
from tests import naive
from tests.statistics import assert_mean
from tests.test_bytes_real import TEXTS as PROMPTS
from tests.test_bytes_real import byte_by_byte, distance
from tests.tiny_models import tiny_causal_lm, tiny_fallback_tokenizer, tiny_model
from tests.toy_canonical import longest_match, random_canonical, toy

TEXTS = [bytes(text) for n in range(7) for text in itertools.product(b"ab", repeat=n)]
TARGETS: dict[str, Any] = {
    "all": lambda vocabulary: None,
    "random": lambda vocabulary: random_canonical(vocabulary, 5),
    "longest match": longest_match,
}


def exact_law(model: ToyModel, text: bytes, canonical: Any = None, fixed: Any = ()) -> np.ndarray | None:
    """(257,) probabilities of the next byte by enumeration, None where nothing covers the text."""
    masses = naive.byte_law(model, text, canonical, fixed)
    return masses / masses.sum() if masses.sum() > 0 else None


def walk(view: ByteModel, texts: list[bytes]) -> dict[bytes, np.ndarray]:
    """Every text's law in float64, each one byte behind the text before it, all of a length at once."""
    logits, state = view.prefill([view.encode(b"")])
    laws, rows = {b"": view.logprobs(state)[0]}, {b"": 0}
    for length in range(1, 1 + max(map(len, texts))):
        mine = [text for text in texts if len(text) == length]
        before = np.array([rows[text[:-1]] for text in mine])
        logits, state = view.extend(view.select(state, before), [[text[-1]] for text in mine])
        assert_allclose(logits, view.logprobs(state).astype(np.float32))
        laws |= dict(zip(mine, view.logprobs(state), strict=True))
        rows = {text: row for row, text in enumerate(mine)}
    return laws


class Counted(ToyModel):
    """Counts the calls, and the rows of each."""

    def __init__(self, model: ToyModel) -> None:
        super().__init__(model.vocabulary, model._laws)
        self.calls: list[int] = []

    def _answer(self, contexts: Any) -> Any:
        self.calls.append(len(contexts))
        return super()._answer(contexts)


# -- the law


@pytest.mark.parametrize("leaky", [False, True])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("seed", range(3))
def test_the_next_byte_law_is_that_of_all_covers(seed: int, target: str, leaky: bool) -> None:
    model = toy(seed, leaky=leaky)
    canonical = TARGETS[target](model.vocabulary)
    view = ByteModel(model, canonical)
    for text, law in walk(view, TEXTS).items():
        exact = exact_law(model, text, canonical)
        if exact is None:
            assert (law == -np.inf).all()
            with pytest.raises(ArgumentError, match="impossible from byte"):
                view.prefill([view.encode(text)])
            continue
        assert_allclose(np.exp(law), exact, rtol=1e-11, atol=1e-14)
        _, state = view.prefill([view.encode(text)])
        assert_allclose(np.exp(view.logprobs(state)[0]), exact, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("seed", range(3))
def test_a_text_has_the_mass_of_its_covers_and_shares_it_among_its_outcomes(seed: int) -> None:
    model = toy(seed)
    view = ByteModel(model)
    for text in TEXTS:
        masses, mass = naive.byte_law(model, text), naive.cover_mass(model, text, None, ())
        assert_allclose(masses.sum(), mass, rtol=1e-12)
        for byte in b"abz":
            assert_allclose(masses[byte], naive.cover_mass(model, text + bytes([byte]), None, ()), rtol=1e-12)
        assert_allclose(view.logprob(text), math.log(mass) if mass else -np.inf, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("target", TARGETS)
def test_the_log_probability_of_a_text_is_the_sum_of_its_steps(target: str) -> None:
    model = toy(4, leaky=True)
    view = ByteModel(model, TARGETS[target](model.vocabulary))
    laws = walk(view, TEXTS)
    for text in TEXTS:
        steps = [laws[text[:i]][text[i]] for i in range(len(text))]
        for cut in range(len(text)):
            if np.isfinite(sum(steps[:cut])):
                assert_allclose(view.logprob(text[cut:], text[:cut]), sum(steps[cut:]), rtol=1e-11, atol=1e-12)


def test_whole_texts_have_the_token_model_s_law() -> None:
    model = toy(2)
    view = ByteModel(model)
    for text, law in walk(view, TEXTS).items():
        expected = naive.end_mass(model, text, None, ())
        assert_allclose(math.exp(view.logprob(text) + law[STOP]), expected, rtol=1e-11)


def test_fixed_tokens_condition_the_law_and_are_no_text() -> None:
    model = toy(1)
    view = ByteModel(model)
    for fixed, text in itertools.product([(0,), (2, 1), (5, 3, 4)], [b"", b"a", b"abba"]):
        _, state = view.prefill([[257 + token for token in fixed] + list(text)])
        assert_allclose(np.exp(view.logprobs(state)[0]), exact_law(model, text, None, fixed), rtol=1e-11, atol=1e-14)


def test_a_small_mass_is_as_exact_as_a_large_one() -> None:
    vocabulary = Vocabulary((b"a", b"b", b"ab", b"ac", b"acd", b""), frozenset({5}))
    law = np.array([0, -45, -50, -60, -70, -2], np.float32)
    model = ToyModel(vocabulary, {(): law})
    for text in (b"", b"a", b"ab", b"ac", b"abac"):
        _, state = ByteModel(model).prefill([list(text)])
        assert_allclose(np.exp(ByteModel(model).logprobs(state)[0]), exact_law(model, text), rtol=1e-12)


@given(st.integers(0, 2**16), st.booleans(), st.sampled_from([b"ab", b"abc"]), st.data())
def test_any_way_to_a_text_gives_the_law_of_all_covers(seed: int, leaky: bool, letters: bytes, data: Any) -> None:
    model = toy(seed, letters, leaky=leaky, order=2)
    canonical = TARGETS[data.draw(st.sampled_from(sorted(TARGETS)))](model.vocabulary)
    view = ByteModel(model, canonical)
    text = bytes(data.draw(st.lists(st.sampled_from([*letters, *letters, ord("z")]), max_size=6)))
    exact = exact_law(model, text, canonical)
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=3))), len(text)]
    if exact is None:
        with pytest.raises(ArgumentError):
            view.prefill([view.encode(text)])
        return
    _, state = view.prefill([view.encode(text[: cuts[1]]), view.encode(b"")])
    for start, end in itertools.pairwise(cuts[1:]):
        state = view.select(state, np.array(data.draw(st.sampled_from([[0, 0], [0]]))))
        _, state = view.extend(state, [text[start:end]] * len(state.rows))
    assert_allclose(np.exp(view.logprobs(state)[0]), exact, rtol=1e-10, atol=1e-14)


# -- lazily


@pytest.mark.parametrize("eps", [1e-4, 1e-2, 0.3])
@pytest.mark.parametrize("target", TARGETS)
def test_what_is_left_out_is_bounded_by_eps_and_by_what_is_told(target: str, eps: float) -> None:
    saved = 0
    for seed in range(3):
        model = Counted(toy(seed, spread=3.0))
        canonical = TARGETS[target](model.vocabulary)
        lazy = ByteModel(model, canonical, eps=eps)
        for text in TEXTS[1::3]:
            exact = exact_law(model, text, canonical)
            if exact is None:
                continue
            _, state = lazy.prefill([lazy.encode(text[:2])])
            for byte in text[2:]:
                _, state = lazy.extend(state, np.array([byte]))
            bound = float(lazy.bounds(state)[0])
            distance = np.abs(np.exp(lazy.logprobs(state)[0]) - exact).sum() / 2
            assert distance <= bound + 1e-12
            assert bound <= eps
            saved += bound > 0
    assert saved


def test_with_eps_0_nothing_is_left_out() -> None:
    view = ByteModel(toy(0))
    _, state = view.prefill([view.encode(b"ab"), view.encode(b"")])
    assert view.bounds(state).tolist() == [0.0, 0.0]


# -- cost


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("seed", range(3))
def test_a_prompt_is_one_call_of_the_model(seed: int, target: str) -> None:
    model = Counted(toy(seed))
    view = ByteModel(model, TARGETS[target](model.vocabulary))
    for text in (b"a", b"ab", b"abab", b"abbaab"):
        if exact_law(model, text, view._canonical) is None:
            continue
        model.calls.clear()
        view.prefill([view.encode(text), view.encode(b"")])
        assert len(model.calls) == 1


def test_a_byte_is_at_most_one_call_for_all_rows_and_equal_rows_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genctl.models.bytes.ROWS", 0)
    model = Counted(toy(0))
    view = ByteModel(model)
    _, state = view.prefill([view.encode(b"ab")])
    state = view.select(state, np.zeros(50, np.int64))
    model.calls.clear()
    _, state = view.extend(state, np.array([ord("a")] * 25 + [ord("b")] * 25))
    assert len(model.calls) == 1
    alone = Counted(model)
    view = ByteModel(alone)
    for text in (b"aba", b"abb"):
        _, state = view.prefill([view.encode(b"ab")])
        alone.calls.clear()
        view.extend(state, np.array([text[-1]]))
        model.calls[0] -= sum(alone.calls)
    assert model.calls == [0]


@pytest.mark.parametrize("eps", [0.0, 1e-3])
def test_guessing_what_comes_next_saves_calls_and_changes_no_law(eps: float, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Counted(ToyModel.trained(CORPUS, 4, pieces=400))
    text = b"the cat sat on the log and all the cats, then the dog sat on the mat"
    laws, calls = {}, {}
    for rows in (0, ROWS):
        monkeypatch.setattr("genctl.models.bytes.ROWS", rows)
        view = ByteModel(model, longest_match(model.vocabulary), eps=eps)
        _, state = view.prefill([view.encode("the ")])
        model.calls.clear()
        laws[rows] = []
        for byte in text[4:]:
            if byte == ord(" "):  # with what another row had guessed
                _, other = view.extend(state, np.array([ord("x")]))
                state = view.select(view.join([other, state]), np.array([1]))
            _, state = view.extend(state, np.array([byte]))
            laws[rows].append(view.logprobs(state)[0])
            assert view.bounds(state) <= eps
        calls[rows] = list(model.calls)
    assert_allclose(np.exp(laws[ROWS]), np.exp(laws[0]), atol=2 * eps + 1e-12)
    assert len(calls[ROWS]) < 0.9 * len(calls[0])
    assert sum(calls[ROWS]) < 3 * sum(calls[0])


@pytest.mark.parametrize("eps", [0.0, 1e-3])
def test_memory_is_bounded_over_a_long_text(eps: float) -> None:
    model = packaged_toy()
    view = ByteModel(model, longest_match(model.vocabulary), eps=eps)
    rng = np.random.default_rng(1)
    logits, state = view.prefill([view.encode("the ")])
    held = []
    for _ in range(2000):
        law = np.exp(logits[0, :STOP].astype(np.float64))
        logits, state = view.extend(state, [[rng.choice(STOP, p=law / law.sum())]])
        held.append((len(state.cache.state), len(state.rows[0].nodes), len(state.rows[0].pending)))
    early, late = np.max(held[:500], axis=0), np.max(held[500:], axis=0)
    assert (late <= 2 * early + 8).all()


# -- as any model


@pytest.mark.parametrize("way", ["awrs", "masked"])
@pytest.mark.parametrize("pattern", ["a*(ba){0,2}b?", "(ab|b){2,}"])
def test_particles_follow_the_enumerated_posterior_of_texts(pattern: str, way: str) -> None:
    model, longest = toy(3), 5
    view, constraint = ByteModel(model), AutomatonConstraint(compile_regex(pattern), VOCABULARY)
    automaton, mass = compile_regex(pattern), {}
    for text in TEXTS:
        state = automaton.start
        for byte in text:
            state = automaton.step(state, byte)
        if len(text) <= longest and state and automaton.accepts(state):
            mass[text] = naive.end_mass(model, text, None, ())
    evidence = sum(mass.values())
    runs, size = 400, 3
    streams = seeded(1, [(g, i) for g in range(runs) for i in range(size)])
    settings = smc.Settings(AWRS() if way == "awrs" else masked, SCHEMES["systematic"], 0.5, longest)
    begun = smc.start(streams, view, [view.encode(b"")] * runs, [constraint] * runs, size)
    cloud = smc.run(begun, view, [constraint] * runs, settings)
    weights = np.exp(cloud.log_weights - math.log(evidence))
    assert_mean(weights.reshape(runs, size).mean(axis=1), 1.0)
    for text, share in mass.items():
        hits = np.array([VOCABULARY.join(tokens) == text for tokens in cloud.tokens])
        estimates = np.where(hits, weights, 0.0).reshape(runs, size).mean(axis=1)
        assert_mean(estimates, share / evidence, largest=weights.max() / size)


def test_a_view_of_a_transformer_is_that_of_its_token_probabilities() -> None:
    model = tiny_model("llama")
    view = ByteModel(model)
    assert view.encode("the") == [257, *b"the"]
    assert view.encode([{"role": "user", "content": "hi"}]) == [
        257 + token for token in model.encode([{"role": "user", "content": "hi"}])
    ]
    table = Table(model)
    for text in (b"", b"the", b"sat on", b"\xe2\x82"):
        _, state = view.prefill([view.encode(text)])
        assert_allclose(np.exp(view.logprobs(state)[0]), exact_law(table, text, None, [0]), atol=1e-5)


@pytest.mark.parametrize(
    ("scheme", "leads"),
    [("first", [b" the", b" the", b"  the"]), ("normalizer", [b" the", b"  the", b"   the"]), ("never", None)],
)
def test_a_view_of_a_transformer_with_byte_fallback_counts_what_its_tokenizer_writes(scheme: str, leads: Any) -> None:
    tokenizer = tiny_fallback_tokenizer(scheme)
    model = TransformersModel(tiny_causal_lm("llama").double(), tokenizer)
    view = byte_view(model, canonical=True, eps=0.0)
    assert byte_view(model, canonical=None, eps=0.0)._canonical is view._canonical
    texts = [b"the", b" the", b"  the"]
    assert [bytes(view.encode(text)[1:]) for text in texts] == (leads or texts)
    for text in texts:  # a view reads what the tokenizer writes
        assert bytes(view.encode(text)[1:]) == model.vocabulary.join(tokenizer.encode(text.decode()))
    table = Table(model)
    for prompt in (b"", b"the", b"\xe6\x97", "é\n".encode()):
        text = bytes(view.encode(prompt)[1:])
        _, state = view.prefill([view.encode(prompt)])
        exact = exact_law(table, text, view._canonical, [0])
        assert_allclose(np.exp(view.logprobs(state)[0]), exact, atol=1e-6)
        if prompt == b"\xe6\x97":
            assert exact[0x80:0xC0].sum() == pytest.approx(1)
        assert view.bounds(state).tolist() == [0.0]


@pytest.mark.slow
@pytest.mark.parametrize(("canonical", "longest"), [(True, 16), (False, 6)])
def test_a_view_with_byte_fallback_is_exact_behind_every_byte(canonical: bool, longest: int) -> None:
    """longest: of all covers there are too many to be listed behind more bytes."""
    model = TransformersModel(tiny_causal_lm("llama").double(), tiny_fallback_tokenizer("never"))
    view, table = byte_view(model, canonical=canonical, eps=0.0), Table(model)
    for text in {prompt[:longest] for prompt in PROMPTS}:
        for begun, law, bound in byte_by_byte(view, text):
            exact = exact_law(table, begun, view._canonical, [0])
            assert exact is not None
            assert distance(law, exact) <= 1e-9
            assert bound == 0


class Table(ToyModel):
    """A real model as a toy: each law by a forward pass of its own."""

    def __init__(self, model: Any) -> None:
        self._model, self._seen = model, {}
        self._vocabulary = model.vocabulary

    def law(self, context: Any) -> Any:
        key = tuple(context)
        if key not in self._seen:
            self._seen[key] = self._model.prefill([list(key)])[0][0].float().cpu().numpy()
        return self._seen[key]


# -- refusals


def test_a_text_that_nothing_covers_is_refused_with_the_byte() -> None:
    view = ByteModel(toy(0))
    with pytest.raises(ArgumentError, match=r"prompt 1 is impossible from byte 3 on, b'x'"):
        view.prefill([view.encode(b"ab"), view.encode(b"abaxab")])


def test_a_row_that_goes_on_impossibly_is_dead_and_the_others_live() -> None:
    view = ByteModel(toy(0))
    _, state = view.prefill([view.encode(b"ab"), view.encode(b"ab")])
    logits, state = view.extend(state, np.array([ord("x"), ord("a")]))
    assert (logits[0] == -np.inf).all()
    assert np.isfinite(logits[1]).any()
    logits, _ = view.extend(state, np.array([ord("a"), ord("a")]))
    assert (logits[0] == -np.inf).all()


@pytest.mark.parametrize(
    ("prompt", "kind"), [([97, 256], "the end of text"), ([97, 258], "a fixed token"), ([-1], "no")]
)
def test_what_is_no_byte_is_refused_with_its_place(prompt: list[int], kind: str) -> None:
    with pytest.raises(ArgumentError, match=f"place {len(prompt) - 1} is {kind}"):
        ByteModel(toy(0)).prefill([prompt])


def test_too_many_token_sequences_are_refused_where_none_may_be_left_out() -> None:
    view = ByteModel(toy(0))
    with pytest.raises(ArgumentError, match="canonical="):
        view.prefill([view.encode(b"ab" * 40)])


@pytest.mark.parametrize("eps", [-0.1, 1.0, math.nan])
def test_an_eps_that_is_no_total_variation_is_refused(eps: float) -> None:
    with pytest.raises(ArgumentError, match="eps"):
        ByteModel(toy(0), eps=eps)
