"""A library in a process of its own, so that each can have its own environment; one thread.

    engine = Worker("genctl", sys.executable, "bytes_engines.py", folder)   # python bytes_engines.py genctl folder
    engine.ask("load", model="...")                                         # what the method `load` returns

The process reads requests and writes answers, a line of JSON each; its script ends with `serve(engine)`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


class Clock:
    """Seconds since it was made: of all threads of this process, and elapsed."""

    def __init__(self) -> None:
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def cpu(self) -> float:
        return time.process_time() - self._cpu

    def wall(self) -> float:
        return time.perf_counter() - self._wall

    def read(self) -> dict[str, float]:
        return {"cpu": self.cpu(), "wall": self.wall()}


def serve(engine: Any) -> None:
    """Inside the process: call the engine's methods as they are asked for."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the libraries print is no answer
    for line in sys.stdin:
        operation, arguments = json.loads(line)
        try:
            answer = {"result": getattr(engine, operation)(**arguments)}
        except Exception as error:  # of any library; what fails is a result
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


class Worker:
    """Outside the process. genctl's compiled rules are kept in the folder, where they can be forgotten."""

    def __init__(self, name: str, python: str, script: str, folder: Path) -> None:
        self.name = name
        threads = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS", "NUMBA")}
        quiet = {
            "PYTHONWARNINGS": "ignore",
            "TRANSFORMERS_VERBOSITY": "error",
            "HF_HUB_OFFLINE": "1",
            "TQDM_DISABLE": "1",
        }
        self._process = subprocess.Popen(
            [python, "-u", script, name, str(folder)],
            env={**os.environ, **threads, **quiet, "GENCTL_CACHE": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, operation: str, **arguments: Any) -> Any:
        """The answer. Raises RuntimeError with the library's own message where it failed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([operation, arguments]), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process of {self.name} ended in {operation}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{self.name}, {operation}: {answer['error']}")
        return answer["result"]

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
