"""Runs of `generate`: batches, rounds, critics, time, interruption, going on; and what results tell."""

from __future__ import annotations

import json
import math
import signal
from collections import Counter

import numpy as np
import pytest

import genctl
from genctl.models.toy import ToyModel
from genctl.vocabulary import Vocabulary

LETTERS = Vocabulary((b"a", b"b", b"ab", b""), eos=frozenset({3}))
WORD = genctl.regex("[a-z]{3,9}")


@pytest.fixture(scope="module")
def lm() -> genctl.Model:
    return genctl.load("toy")


def told(g: genctl.Generation) -> list:
    return [(s.text, s.log_weight, s.finish_reason) for s in g.samples]


@pytest.mark.parametrize("batch_size", [1, 3, 8, 1000])
def test_results_do_not_depend_on_how_groups_are_batched(lm, batch_size):
    options = {"num_particles": 3, "num_return_sequences": 2, "seed": 4, "max_new_tokens": 8}
    whole = lm.generate(["the ", "a ", "the "], WORD, **options)
    split = lm.generate(["the ", "a ", "the "], WORD, **options, batch_size=batch_size)
    assert [[told(g) for g in several] for several in whole] == [[told(g) for g in several] for several in split]
    assert [g.text for several in whole for g in several] == [g.text for several in split for g in several]
    assert told(lm.generate("the ", WORD, **options)[1]) == told(whole[0][1])


class Counting(ToyModel):
    """Counts the rows that the model computes."""

    def prefill(self, prompts, /):
        self.rows = len(prompts)
        return super().prefill(prompts)

    def extend(self, state, tokens, /):
        self.rows += len(state)
        return super().extend(state, tokens)


def test_the_model_computes_each_different_prefix_once():
    model = Counting(LETTERS, {(): np.log(np.array([0.6, 0.3, 0.05, 0.05], np.float32))})
    g = genctl.load(model).generate("a", genctl.regex("[ab]{4}"), num_particles=200, max_new_tokens=4, seed=0)
    prefixes = {s.tokens[:i] for s in g.samples for i in range(len(s.tokens) + 1)}
    assert model.rows <= 2 * len(prefixes)  # those of particles that were resampled away come on top
    several = genctl.load(model).generate(["a", "a"], genctl.regex("a"), num_return_sequences=5, seed=0)
    assert len(several) == 2
    assert model.rows == 2


def test_min_ess_asks_for_more_particles_until_they_are_worth_enough(lm):
    options = {"num_particles": 4, "max_new_tokens": 9, "seed": 1}
    few = lm.generate("the ", WORD, **options)
    more = lm.generate("the ", WORD, **options, min_ess=20, max_particles=1024)
    assert few.ess < 20 <= more.ess
    assert len(more.particles) == 4 * 2 ** (len(more.traces) - 1)
    assert told(few) == told(more)[:4]
    bounded = lm.generate("the ", WORD, **options, min_ess=1000, max_particles=16)
    assert len(bounded.particles) == 16


def test_a_critic_changes_the_target_as_a_soft_predicate_does():
    model = ToyModel.random(LETTERS, order=2, seed=1)
    lm, rule = genctl.load(model), genctl.regex("[ab]{2,4}")

    def likes_a(text: str, done: bool) -> float:
        return 0.8 * text.count("a")

    options = {"max_new_tokens": 4, "num_particles": 2000}
    as_critic = lm.generate("a", rule, critic=likes_a, seed=0, **options)
    as_rule = lm.generate("a", rule & likes_a, seed=1, **options)
    assert as_critic.log_evidence == pytest.approx(as_rule.log_evidence, abs=0.15)
    assert as_critic.expectation(lambda text: text.count("a")) == pytest.approx(
        as_rule.expectation(lambda text: text.count("a")), abs=0.15
    )
    with_rule = lm.generate("a", rule, critic=genctl.regex("a.*"), seed=0, **options)
    assert all(s.text.startswith("a") for s in with_rule.samples if s.log_weight > -math.inf)


def test_a_run_out_of_time_says_so_and_goes_on_from_its_checkpoint(lm):
    rule = genctl.regex("[a-z]{30}")
    options = {"num_particles": 4, "max_new_tokens": 40, "seed": 7, "wrap_up": False}
    whole = lm.generate("the ", rule, **options)
    cut = lm.generate("the ", rule, max_time=0.0, **options)
    assert {s.finish_reason for s in cut.samples} == {"time"}
    with pytest.raises(genctl.IncompleteError, match="max_time"):
        _ = cut.value
    resumed = lm.generate("the ", rule, resume=json.loads(json.dumps(cut.checkpoint)), **options)
    assert told(resumed) == told(whole)
    assert whole.checkpoint is None
    without_rule = lm.generate("the ", max_time=0.0, seed=0)
    assert (without_rule.finish_reason, without_rule.log_weight) == ("time", 0.0)


def interrupted(lm, stop: int, **options) -> genctl.Interrupted:
    def interrupt(done: int, of: int) -> None:
        if done == stop:
            raise KeyboardInterrupt

    with pytest.raises(genctl.Interrupted) as caught:
        lm.generate(["the ", "a "], WORD, progress=interrupt, **options)
    return caught.value


@pytest.mark.parametrize("stop", [1, 5, 14])
def test_an_interrupted_run_says_what_was_done_and_goes_on(lm, stop):
    options = {"num_particles": 3, "max_new_tokens": 9, "batch_size": 3, "seed": 2}
    error = interrupted(lm, stop, **options)
    assert "of at most 9 tokens" in str(error)
    saved = json.loads(json.dumps(error.checkpoint))
    resumed = genctl.load("toy").generate(["the ", "a "], WORD, resume=saved, **options)
    whole = lm.generate(["the ", "a "], WORD, **options)
    assert [told(g) for g in resumed] == [told(g) for g in whole]
    assert [g.traces for g in resumed] == [g.traces for g in whole]


def test_a_checkpoint_of_another_call_is_refused(lm):
    error = interrupted(lm, 3, num_particles=3, max_new_tokens=9, seed=2)
    for arguments, what in [
        ({"num_particles": 4, "max_new_tokens": 9}, "num_particles"),
        ({"num_particles": 3, "max_new_tokens": 9, "seed": 3}, "seed"),
        ({"num_particles": 3, "max_new_tokens": 9, "temperature": 0.5}, "options"),
    ]:
        with pytest.raises(genctl.ArgumentError, match=f"another {what}"):
            lm.generate(["the ", "a "], WORD, resume=error.checkpoint, **arguments)
    with pytest.raises(genctl.ArgumentError, match="another rules"):
        lm.generate(["the ", "a "], bool, resume=error.checkpoint, num_particles=3, max_new_tokens=9)
    with pytest.raises(genctl.ArgumentError, match="no checkpoint"):
        lm.generate("the ", WORD, resume={"steps": 3})


@pytest.mark.parametrize(
    "damage",
    [
        lambda saved: saved.pop("clouds"),
        lambda saved: saved.update(plan=3),
        lambda saved: saved["clouds"][0].pop("tokens"),
        lambda saved: saved["clouds"][0]["tokens"].pop(),
        lambda saved: saved["clouds"][0].update(status=["x"] * 6),
        lambda saved: saved["clouds"][0]["trace"].update(more=[]),
    ],
)
def test_a_damaged_checkpoint_is_refused(lm, damage):
    saved = json.loads(json.dumps(interrupted(lm, 3, num_particles=3, max_new_tokens=9, seed=2).checkpoint))
    damage(saved)
    with pytest.raises(genctl.ArgumentError, match="resume is damaged"):
        lm.generate(["the ", "a "], WORD, resume=saved, num_particles=3, max_new_tokens=9)


def test_a_run_that_is_interrupted_while_prompts_are_read_has_a_checkpoint_too(lm):
    class Interrupting(ToyModel):
        def prefill(self, prompts, /):
            raise KeyboardInterrupt

    model = Interrupting(LETTERS, {(): np.log(np.array([0.6, 0.3, 0.05, 0.05], np.float32))})
    with pytest.raises(genctl.Interrupted, match="0 of at most") as caught:
        genctl.load(model).generate("a", genctl.regex("a"), max_new_tokens=2, seed=0)
    assert caught.value.checkpoint["clouds"] == []


@pytest.mark.parametrize("given", [{"method": "exact"}, {"method": genctl.AWRS()}, {"critic": lambda text, done: 0.0}])
def test_what_greedy_decoding_would_ignore_is_refused(lm, given):
    with pytest.raises(genctl.ArgumentError, match=f"does not go with {next(iter(given))}"):
        lm.generate("the ", WORD, do_sample=False, **given)


def test_ctrl_c_at_any_moment_leaves_rules_and_models_usable(lm):
    rule = genctl.json({"type": "array", "items": {"type": "string", "maxLength": 12}, "maxItems": 3})
    options = {"num_particles": 8, "max_new_tokens": 20, "seed": 3}
    expected = told(lm.generate("JSON: ", rule, **options))

    armed = False

    def interrupt(number: int, frame: object) -> None:
        if armed:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for delay in np.linspace(0.001, 0.03, 12):
            fresh = genctl.json({"type": "array", "items": {"type": "string", "maxLength": 12}, "maxItems": 3})
            try:
                armed = True
                signal.setitimer(signal.ITIMER_REAL, delay)
                lm.generate("JSON: ", fresh, **options)
                armed = False
            except KeyboardInterrupt:
                armed = False
            assert told(lm.generate("JSON: ", fresh, **options)) == expected
    finally:
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_equal_values_are_merged_however_they_are_spelled(lm):
    g = lm.generate("the answer is ", bool, num_particles=64, max_new_tokens=6, seed=0)
    values = g.values()
    assert {type(value) for value, _ in values} == {bool}
    assert sum(p for _, p in values) == pytest.approx(1.0)
    assert [p for _, p in values] == sorted((p for _, p in values), reverse=True)
    assert g.expectation(float) == pytest.approx(dict(values).get(True, 0.0))
    assert Counter(dict(values)) == Counter({json.loads(t): p for t, p in g.posterior().items()})


def test_traces_tell_the_effective_sample_sizes_and_who_goes_on_from_whom(lm):
    rule = genctl.regex("[a-z]{6}") & (lambda text, done: 0.9 * text.count("e"))
    g = lm.generate("the ", rule, num_particles=8, max_new_tokens=6, seed=0, ess_threshold=0.9)
    (trace,) = g.traces
    assert len(trace.ess) == len(trace.ancestors) == len(trace.checks)
    assert all(1 <= ess <= 8 for (ess,) in trace.ess)
    resampled = [line for line in trace.ancestors if line != tuple(range(8))]
    assert len(resampled) == g.resamplings > 0
    assert all(0 <= a < 8 for line in trace.ancestors for a in line)
    assert 0 < sum(trace.accepted) <= g.checks
    assert all(v >= 0 for v in trace.variances)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_ess": -1}, "min_ess is -1"),
        ({"min_ess": math.nan}, "min_ess is nan"),
        ({"max_time": "soon"}, "max_time is 'soon'"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"max_particles": 2.5}, "max_particles is 2.5"),
        ({"method": 3}, "method is 3"),
    ],
)
def test_bad_arguments_are_refused(lm, arguments, message):
    with pytest.raises(genctl.ArgumentError, match=message):
        lm.generate("the ", WORD, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"estimator": "magic"}, "estimator is 'magic'"),
        ({"tail": 0}, "tail is 0"),
        ({"max_accepts": 1}, "max_accepts is 1"),
        ({"max_rejects": 2.5}, "max_rejects is 2.5"),
    ],
)
def test_bad_settings_of_awrs_are_refused(arguments, message):
    with pytest.raises(genctl.ArgumentError, match=message):
        genctl.AWRS(**arguments)


def test_a_sampler_may_be_given_in_place_of_a_method_s_name(lm):
    drawn = lm.generate("the ", WORD, method=genctl.AWRS("geometric", max_accepts=4), num_particles=4, seed=0)
    assert WORD.accepts(drawn.text)
    assert len(lm.generate("the ", WORD, method="smc", seed=0).particles) == 16


@pytest.mark.parametrize("method", ["exact", "rejection"])
def test_exact_methods_give_independent_samples_of_equal_weight(lm, method):
    rule = genctl.regex("yes|no|maybe")
    g = lm.generate("the answer is ", rule, method=method, num_particles=300, seed=0)
    assert len(set(g.log_weights.tolist())) == 1
    assert g.ess == pytest.approx(300)
    smc = lm.generate("the answer is ", rule, num_particles=2000, seed=1)
    assert g.log_evidence == pytest.approx(smc.log_evidence, abs=0.4)
    assert g.posterior()["yes"] == pytest.approx(smc.posterior()["yes"], abs=0.12)
    several = lm.generate(["the answer is ", "yes or "], rule, method=method, num_return_sequences=3, seed=0)
    assert all(rule.accepts(one.text) for each in several for one in each)


def test_exact_methods_say_when_they_give_up(lm):
    with pytest.raises(genctl.DeadEndError, match=r"none of 20 texts obeyed the rule.*at most"):
        lm.generate("the ", genctl.regex("[q-z]{9}"), method="rejection", max_tries=20, seed=0)
    found = lm.generate("the ", genctl.regex("[a-z ]{1,40}"), method="exact", num_particles=30, max_tries=12, seed=0)
    assert {s.finish_reason for s in found.samples} == {"complete", "gave_up"}
    assert all((s.log_weight > -math.inf) == (s.finish_reason == "complete") for s in found.samples)
    out_of_time = lm.generate("the ", genctl.regex("[a-z ]{9}"), method="exact", num_particles=9, max_time=0.0, seed=0)
    assert "time" in {s.finish_reason for s in out_of_time.samples}
    model = genctl.load(ToyModel(LETTERS, {(): np.log(np.array([0.5, 1e-300, 1e-300, 0.5]))}))
    with pytest.raises(genctl.DeadEndError, match="any probability"):
        model.generate("a", lambda text, done: not done and len(text) < 3, method="exact", seed=0)


def test_a_critic_of_an_exact_method_is_a_chance_to_be_kept():
    model = ToyModel.random(LETTERS, order=2, seed=1)
    lm, rule = genctl.load(model), genctl.regex("[ab]{2,4}")

    def dislikes_a(text: str, done: bool) -> float:
        return -0.8 * text.count("a")

    options = {"max_new_tokens": 4, "num_particles": 2000, "critic": dislikes_a}
    exact, smc = (lm.generate("a", rule, method=method, seed=0, **options) for method in ("exact", "awrs"))
    assert exact.log_evidence == pytest.approx(smc.log_evidence, abs=0.15)
    with pytest.raises(genctl.ArgumentError, match="at most 0"):
        lm.generate("a", rule, method="exact", critic=lambda text, done: 1.0, seed=0)
