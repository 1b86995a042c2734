"""A text as it is made: what of it is sure after each step.

    for text in sure_texts(run.steps(), vocabulary):
        print(text, end="", flush=True)

What is sure is what all particles that may still be chosen have in common: their tokens only grow, and a particle
without weight never comes back. Bytes are held back until their character is whole.
"""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import numpy as np

from genctl.results import Generation
from genctl.samplers.smc import Particles
from genctl.vocabulary import Vocabulary

T = TypeVar("T")


class Event(NamedTuple):
    """What `stream` tells. text: what has come; generation: with the last event, what `generate` returns."""

    text: str
    generation: Generation | None = None


def sure_texts(clouds: Iterable[Particles[Any]], vocabulary: Vocabulary) -> Iterator[str]:
    """What has become sure after each step of one group of particles, steps without anything new left out."""
    decode, told = codecs.getincrementaldecoder("utf-8")(errors="replace").decode, 0
    for cloud in clouds:
        sure = _sure(cloud, vocabulary)
        if text := decode(sure[told:]):
            yield text
        told = max(told, len(sure))


def _sure(cloud: Particles[Any], vocabulary: Vocabulary) -> bytes:
    """The bytes that all particles with weight begin with."""
    alive = np.flatnonzero(cloud.log_weights > -np.inf).tolist()
    texts = [vocabulary.join(tokens) for tokens in {cloud.tokens[particle] for particle in alive}] or [b""]
    first, last = min(texts), max(texts)
    return first[: next((i for i, pair in enumerate(zip(first, last, strict=False)) if len({*pair}) > 1), None)]


async def in_threads(items: Iterator[T]) -> AsyncIterator[T]:
    """The same items, each made in another thread, so that other tasks go on."""
    while next_one := await asyncio.to_thread(lambda: list(islice(items, 1))):
        yield next_one[0]
