"""Texts told as they are made: what has been told is the beginning of the text, whatever comes."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

import genctl
from genctl.errors import ArgumentError, DeadEndError, Interrupted

WORDS = genctl.regex("[a-z ]{4,30}")
CALLS: dict[str, dict[str, Any]] = {
    "one particle": {},
    "without a rule": {"constraint": None},
    "likeliest tokens": {"do_sample": False},
    "masks, filters": {"method": "masked", "top_k": 5, "temperature": 0.7},
    "particles": {"num_particles": 4},
    "particles, a critic": {"num_particles": 4, "critic": lambda text, done: -text.count("a") / 2},
    "whole texts": {"method": "exact"},
    "a budget": {"max_new_tokens": 5},
    "a generation config": {"generation_config": {"top_p": 0.8, "max_new_tokens": 9}},
    "steering": {"steering": [lambda logits: logits / 2], "binding": "tilt", "num_particles": 3},
}


@pytest.fixture(scope="module")
def lm() -> genctl.Model:
    return genctl.load("toy")


def told(events: Any) -> tuple[str, genctl.Generation]:
    """The joined text, and the result."""
    listed = list(events)
    assert all(event.generation is None for event in listed[:-1])
    assert all(event.text for event in listed[:-1])
    assert listed[-1].generation is not None
    return "".join(event.text for event in listed), listed[-1].generation


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("seed", range(4))
def test_a_stream_tells_the_text_that_generate_returns(lm: genctl.Model, name: str, seed: int) -> None:
    options = {"constraint": WORDS, "max_new_tokens": 16, "seed": seed} | CALLS[name]
    if "generation_config" in options:
        del options["max_new_tokens"]
    text, generation = told(lm.stream("the cat ", **options))
    expected = lm.generate("the cat ", **options)
    assert text == generation.text == expected.text
    assert (generation.tokens, generation.log_weight) == (expected.tokens, expected.log_weight)
    assert [one.text for one in generation.particles] == [one.text for one in expected.particles]


@pytest.mark.parametrize("prompt", ["the cat sat on th", "né 日", b"\xe6\x97"])
def test_bytes_are_held_back_until_their_character_is_whole(lm: genctl.Model, prompt: Any) -> None:
    rule = genctl.regex("[日本né🙂]{3,6}")
    for seed in range(5):
        for model in (lm, lm.bytes(eps=1e-2)):
            if model is lm and isinstance(prompt, bytes):
                continue
            events = list(model.stream(prompt, rule, max_new_tokens=30, seed=seed))
            assert "\ufffd" not in "".join(event.text for event in events)
            assert "".join(event.text for event in events) == events[-1].generation.text
            assert len(events) > 2


def test_every_token_of_a_single_particle_is_told_at_once(lm: genctl.Model) -> None:
    vocabulary = lm.language_model.vocabulary
    events = list(lm.stream("the cat ", max_new_tokens=12, seed=3))
    pieces = [vocabulary.tokens[token].decode() for token in events[-1].generation.tokens]
    assert [event.text for event in events[:-1]] == pieces


def test_particles_that_have_met_are_told_before_the_end(lm: genctl.Model) -> None:
    rule = genctl.regex("(cat|dog) sat on the (mat|log) and [a-z ]{20}")
    counts = [len(list(lm.stream("the ", rule, num_particles=4, max_new_tokens=60, seed=seed))) for seed in range(5)]
    assert max(counts) > 2


def test_a_stream_that_is_closed_early_leaves_everything_usable(lm: genctl.Model) -> None:
    whole = lm.generate("the cat ", WORDS, max_new_tokens=16, seed=1)
    stream = lm.stream("the cat ", WORDS, max_new_tokens=16, seed=1)
    next(stream)
    stream.close()
    assert told(lm.stream("the cat ", WORDS, max_new_tokens=16, seed=1))[1] == whole


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        (["the"], {}, "a list of prompts"),
        ("the", {"num_return_sequences": 2}, "num_return_sequences"),
        ("the", {"generation_config": {"num_return_sequences": 2}}, "num_return_sequences"),
        ("the", {"min_ess": 3.0}, "min_ess"),
        ("the", {"max_tokens": 3}, r"stream\(\) has no argument 'max_tokens'\nhint: did you mean max_new_tokens"),
        ("the", {"max_new_tokens": 0}, "max_new_tokens is 0"),
        ("the", {"constraint": genctl.regex("[0-9]{9}"), "max_new_tokens": 2}, "fewest|has 9 tokens"),
    ],
)
def test_what_a_stream_cannot_do_is_refused_before_it_begins(
    lm: genctl.Model, prompt: Any, options: Any, message: str
) -> None:
    with pytest.raises(ArgumentError, match=message):
        lm.stream(prompt, **options)


def test_a_stream_ends_with_the_error_of_generate(lm: genctl.Model) -> None:
    rule = genctl.regex("[a-z]{4,9}") & (lambda text, done: len(text) < 3)
    with pytest.raises(DeadEndError, match="no token is allowed after"):
        list(lm.stream("the ", rule, seed=0))


def test_an_interrupted_stream_can_be_gone_on_with(lm: genctl.Model) -> None:
    steps = itertools.count()

    def interrupt(done: int, of: int) -> None:
        if next(steps) == 3:
            raise KeyboardInterrupt

    options: dict[str, Any] = {"max_new_tokens": 16, "seed": 1}
    whole = lm.generate("the cat ", WORDS, **options)
    with pytest.raises(Interrupted, match="after 4 of at most 16 tokens") as caught:
        list(lm.stream("the cat ", WORDS, progress=interrupt, **options))
    text, generation = told(lm.stream("the cat ", WORDS, resume=caught.value.checkpoint, **options))
    assert text == generation.text == whole.text


# -- beside other tasks


def test_tasks_run_side_by_side_and_give_what_generate_gives(lm: genctl.Model) -> None:
    options: dict[str, Any] = {"num_particles": 4, "max_new_tokens": 16}

    async def all_together() -> list[Any]:
        return await asyncio.gather(*(lm.agenerate("the ", WORDS, seed=seed, **options) for seed in range(6)))

    found = asyncio.run(all_together())
    assert found == [lm.generate("the ", WORDS, seed=seed, **options) for seed in range(6)]
    several = asyncio.run(lm.agenerate(["the ", "a "], WORDS, num_return_sequences=2, seed=0, **options))
    expected = lm.generate(["the ", "a "], WORDS, num_return_sequences=2, seed=0, **options)
    assert [[g.text for g in one] for one in several] == [[g.text for g in one] for one in expected]


def test_an_asynchronous_stream_is_the_stream(lm: genctl.Model) -> None:
    async def events() -> list[Any]:
        return [event async for event in lm.astream("the cat ", WORDS, max_new_tokens=16, seed=2)]

    assert asyncio.run(events()) == list(lm.stream("the cat ", WORDS, max_new_tokens=16, seed=2))


def test_a_cancelled_task_stops(lm: genctl.Model) -> None:
    steps: list[int] = []

    async def cancelled() -> None:
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()

        def note(done: int, of: int) -> None:
            steps.append(done)
            loop.call_soon_threadsafe(begun.set)

        task = asyncio.create_task(lm.agenerate("the ", WORDS.repeat(9), max_new_tokens=200, seed=0, progress=note))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert len(steps) < 100


def test_arguments_of_tasks_are_looked_at_too(lm: genctl.Model) -> None:
    with pytest.raises(ArgumentError, match=r"agenerate\(\) has no argument 'max_tokens'"):
        asyncio.run(lm.agenerate("the", max_tokens=3))

    async def stream() -> None:
        async for _ in lm.astream("the", num_return_sequences=2):
            pass

    with pytest.raises(ArgumentError, match=r"astream\(\) tells one text"):
        asyncio.run(stream())
