"""The two libraries of awrs.py behind one face; each works in a process of its own (workers.py).

engine = Worker("genctl", sys.executable, __file__, folder)     # starts the process
engine.ask("generate", task="date", particles=5, seed=0)        # a dict
"""

from __future__ import annotations

import asyncio
import gc
import json
import math
import sys
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from awrs_tasks import MASSES, PLACES, TASKS, Place, Task
from workers import Clock, serve

ESS_THRESHOLD = 0.5


class Genctl:
    def __init__(self, folder: Path) -> None:
        import torch

        torch.set_num_threads(1)
        self._folder = folder
        self._rng, self._method, self._packed = np.random.default_rng(0), "awrs", False

    def choose(self, method: str, packed: bool) -> None:
        self._method, self._packed = method, packed

    def versions(self) -> dict[str, str]:
        from importlib.metadata import version

        import genctl

        return {"genctl": genctl.__version__} | {name: version(name) for name in ("torch", "transformers", "numpy")}

    # The sampler alone.

    def write_vocabulary(self, name: str) -> int:
        """For both: the tokens, and rows of logits in which the tokens allowed at a place have a given mass."""
        from sampling import VOCABULARIES, logits_with_mass

        from genctl.constraints.base import unpack, words

        self.vocabulary = VOCABULARIES[name]()
        size, silent = len(self.vocabulary), [i for i, token in enumerate(self.vocabulary.tokens) if not token]
        tokens = [token.decode("latin-1") for token in self.vocabulary.tokens]
        Path(self._folder, "vocabulary.json").write_text(json.dumps([tokens, sorted(self.vocabulary.eos)]))
        rng = np.random.default_rng(0)
        for number, place in enumerate(PLACES.values()):
            constraint, start = self._constraint(place)
            mask = np.zeros(words(size), np.uint32)
            constraint.mask(start(next(place.texts())), mask)
            for mass in MASSES:
                row = logits_with_mass(rng, unpack(mask, size), mass)[0]
                row[[i for i in silent if i not in self.vocabulary.eos]] = -np.inf
                np.save(row_file(self._folder, number, mass), row)
        return size

    def begin_draws(self, place: str, mass: float) -> None:
        number = list(PLACES).index(place)
        self._row = np.load(row_file(self._folder, number, mass))[None]
        self._drawing, self._state = self._constraint(PLACES[place])
        self._texts = PLACES[place].texts()

    def draws(self, count: int) -> dict[str, float]:
        from sampling import draw

        states = [np.array([self._state(text)]) for text in islice(self._texts, count)]
        checks, clock = 0, Clock()
        for state in states:
            checks += int(draw(self._rng, self._row, self._drawing, state).checks[0])
        return {"checks": checks / count, "cpu": clock.cpu() / count, "wall": clock.wall() / count}

    def _constraint(self, place: Place) -> tuple[Any, Callable[[str], int]]:
        """(constraint, the state after a text)."""
        from genctl.automata.base import run
        from genctl.constraints.automaton import AutomatonConstraint

        automaton = self._rule(place).automaton
        return AutomatonConstraint(automaton, self.vocabulary), lambda text: run(
            automaton, automaton.start, text.encode()
        )

    # Whole texts.

    def load(self, model: str) -> dict[str, Any]:
        import genctl

        self._model = genctl.load(model, packed=self._packed)
        return {"eos": sorted(self._model.language_model.vocabulary.eos)}

    def prompt(self, task: str) -> list[int]:
        return self._model.language_model.encode(messages(TASKS[task]))

    def generate(self, task: str, particles: int, seed: int, resampling: str, cold: bool) -> dict[str, Any]:
        import genctl
        from genctl.constraints import store

        gc.collect()
        setup = Clock()
        if cold:
            store.clear()
        rule = self._rule(TASKS[task])
        seconds, clock = setup.wall(), Clock()
        try:
            generation = self._model.generate(
                messages(TASKS[task]),
                rule,
                max_new_tokens=TASKS[task].max_tokens,
                num_particles=particles,
                method=self._method,
                ess_threshold=ESS_THRESHOLD,
                seed=seed,
                **({"resampling": resampling} if resampling else {}),
            )
        except genctl.DeadEndError:
            return {**clock.read(), "setup": seconds, "tokens": 0, "log_evidence": -math.inf, "text": ""}
        ends = ("complete", "wrapped_up")
        return {
            **clock.read(),
            "setup": seconds,
            "tokens": sum(len(p.tokens) + (p.finish_reason in ends) for p in generation.particles),
            "log_evidence": generation.log_evidence,
            "text": generation.text,
        }

    def _rule(self, task: Task | Place) -> Any:
        import genctl

        if task.notation == "json":
            return genctl.json(task.rule, property_order="any")  # as the peer's rule
        makers = {"regex": genctl.regex, "predicate": partial(genctl.predicate, sees=bytes)}
        return makers[task.notation](task.rule)


class Genlm:
    def __init__(self, folder: Path) -> None:
        import torch

        torch.set_num_threads(1)
        self._folder, self._loop = folder, asyncio.new_event_loop()
        self._held = ""  # the task whose texts are in the model's cache

    def versions(self) -> dict[str, str]:
        from importlib.metadata import version

        names = ("genlm-control", "genlm-backend", "torch", "transformers", "numpy")
        return {name: version(name) for name in names}

    # The sampler alone.

    def read_vocabulary(self) -> int:
        from genlm.backend.tokenization import Token

        tokens, self._eos = json.loads(Path(self._folder, "vocabulary.json").read_text())
        self._tokens = [Token(i, token.encode("latin-1")) for i, token in enumerate(tokens)]
        self._bytes = {token[0]: token for token in self._tokens if len(token) == 1}
        self._heard = [i for i, token in enumerate(tokens) if token]
        return len(tokens)

    def begin_draws(self, place: str, mass: float) -> None:
        import torch
        from genlm.control import AWRS
        from genlm.control.potential import Potential

        row = np.load(row_file(self._folder, list(PLACES).index(place), mass))
        end = np.logaddexp.reduce(row[self._eos].astype(np.float64))
        weights = torch.from_numpy(np.append(row[self._heard], np.float32(end)))

        class Prepared(Potential):
            """A language model whose next-token law is the row, whatever the text."""

            async def prefix(self, context: Any) -> float:
                return 0.0

            async def complete(self, context: Any) -> float:
                return 0.0

            async def logw_next(self, context: Any) -> Any:
                return self.make_lazy_weights(weights)

        model = Prepared([self._tokens[i] for i in self._heard])
        condition = self._condition(PLACES[place]).coerce(model, f=b"".join)
        self._texts, self._checks = PLACES[place].texts(), 0
        self._sampler = AWRS(model, condition, seed=0)
        accept = self._sampler._accept

        async def counted(*arguments: Any, **options: Any) -> Any:
            self._checks += 1
            return await accept(*arguments, **options)

        self._sampler._accept = counted

    def draws(self, count: int) -> dict[str, float]:
        contexts = [[self._bytes[byte] for byte in text.encode()] for text in islice(self._texts, count)]

        async def run() -> dict[str, float]:
            clock = Clock()
            for context in contexts:
                await self._sampler.sample(context)
            return {"cpu": clock.cpu() / count, "wall": clock.wall() / count}

        self._checks = 0
        return {**self._loop.run_until_complete(run()), "checks": self._checks / count}

    # Whole texts.

    def load(self, model: str) -> dict[str, Any]:
        from genlm.control import PromptedLLM

        ends = json.loads(Path(model, "generation_config.json").read_text())["eos_token_id"]
        vocabulary = PromptedLLM.from_name(model, backend="hf").model.byte_vocab
        self._ends = [vocabulary[i].byte_string for i in np.atleast_1d(ends)]
        self._model = PromptedLLM.from_name(model, backend="hf", eos_byte_strings=self._ends)
        return {"eos": sorted(self._model.token_maps.eos_idxs)}

    def prompt(self, task: str) -> list[int]:
        tokenizer = self._model.model.tokenizer
        return list(tokenizer.apply_chat_template(messages(TASKS[task]), add_generation_prompt=True, return_dict=False))

    def generate(self, task: str, particles: int, seed: int, resampling: str, cold: bool) -> dict[str, Any]:
        import torch
        from genlm.control import AWRS

        gc.collect()
        np.random.seed(seed)
        torch.manual_seed(seed)
        prompt = self._model.prompt_ids = self.prompt(task)
        fresh = cold or task != self._held
        setup = Clock()
        if fresh:
            self._model.model.clear_cache()
            self._held = task
        sampler = AWRS(self._model, self._condition(TASKS[task]).coerce(self._model, f=b"".join), seed=seed)
        seconds, clock = setup.wall(), Clock()
        if fresh:
            self._model.model.cache_kv(prompt)
        sequences = asyncio.run(
            sampler.smc(
                n_particles=particles,
                ess_threshold=ESS_THRESHOLD,
                max_tokens=TASKS[task].max_tokens + 1,  # it counts the end
                **({"resampling_method": resampling} if resampling else {}),
            )
        )
        return {
            **clock.read(),
            "setup": seconds,
            "tokens": sum(len(context) for context in sequences.contexts),
            "log_evidence": float(sequences.log_ml),
            "text": b"".join(t for t in sequences.contexts[0] if isinstance(t, bytes)).decode(errors="replace"),
        }

    def _condition(self, task: Task | Place) -> Any:
        """Over bytes."""
        from genlm.control import BoolFSA, JsonSchema
        from genlm.control.potential import Potential

        class Predicate(Potential):
            """A function (bytes, done) -> bool, as genctl takes it."""

            async def prefix(self, context: Any) -> float:
                return self._score(context, False)

            async def complete(self, context: Any) -> float:
                return self._score(context, True)

            def _score(self, context: Any, done: bool) -> float:
                return 0.0 if task.rule(bytes(context), done) else -math.inf

        makers = {
            "regex": BoolFSA.from_regex,
            "json": JsonSchema,
            "predicate": lambda function: Predicate(list(range(256))),
        }
        return makers[task.notation](task.rule)


ENGINES: dict[str, Callable[[Path], Any]] = {"genctl": Genctl, "genlm": Genlm}


def messages(task: Task) -> list[dict[str, str]]:
    return [{"role": "user", "content": task.request}]


def row_file(folder: Path, place: int, mass: float) -> Path:
    return folder / f"row-{place}-{mass}.npy"


if __name__ == "__main__":
    serve(ENGINES[sys.argv[1]](Path(sys.argv[2])))
