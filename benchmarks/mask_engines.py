"""The engines of masks.py behind one face, and the process that each of them works in.

    worker = Worker("genctl", words)                         # starts a process, loads and warms the engine
    worker.ask("compile", schema, limit=30)                  # First(nanoseconds, error)
    worker.ask("walk", instances, limit=60)                  # one Steps an instance

Only numpy is imported at the top, so that a process holds nothing but its own engine. Each engine is driven by its
quickest documented calls, with one thread and its defaults.
"""

from __future__ import annotations

import gc
import multiprocessing
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

U32 = NDArray[np.uint32]


class Words(NamedTuple):
    """A vocabulary as it is sent to the workers, and what llguidance builds its own tokenizer from."""

    tokens: tuple[bytes, ...]  # b"" for control tokens
    eos: tuple[int, ...]
    native: str | dict[str, Any]  # JSON of `tokenizers`, or the arguments of `LLTokenizer.from_tiktoken`


CHECKED = 50  # times that the tokens are checked in one call


class Instance(NamedTuple):
    """The tokens of a text with an end-of-text token behind them, and a token to probe at each of them."""

    tokens: list[int]
    probes: list[int]


class First(NamedTuple):
    """A compilation: nanoseconds of compiling, of a new session and of its first mask; why it was refused, or ""."""

    compile: int = 0
    session: int = 0
    mask: int = 0
    error: str = ""


class Steps(NamedTuple):
    """The walks over one instance, up to the first refused token. Nanoseconds by position."""

    mask: list[int]
    commit: list[int]  # behind a mask
    check: list[int]
    probe: list[int]
    commit_checked: list[int]  # behind a check
    accepted: bool
    differing: int  # positions where the mask and the check say different things of the instance's token
    error: str


class Look(NamedTuple):
    """One state looked at without a clock on the mask: its mask, the verdicts on the tokens asked about."""

    mask: bytes
    allowed: list[bool]
    kernel: float  # nanoseconds a check inside a kernel; 0 if the engine has none that can be called alone


class Session(Protocol):
    """One text that is being written."""

    out: U32  # (ceil(V/32),) written by mask

    def mask(self) -> object: ...
    def allows(self, token: int, /) -> bool: ...
    def advance(self, token: int, /) -> bool: ...


class Engine(Protocol):
    def compile(self, schema: str, /) -> Callable[[], Session]:
        """What starts a session; raises for a schema that the engine does not take."""
        ...


# The engines.


class GenctlSession:
    def __init__(self, constraint: Any, size: int) -> None:
        self.constraint, self.state = constraint, constraint.start()
        self.out = np.zeros((size + 31) // 32, np.uint32)

    def mask(self) -> object:
        return self.constraint.mask(self.state, self.out)

    def allows(self, token: int, /) -> bool:
        return bool(self.constraint.allows(self.state, token))

    def advance(self, token: int, /) -> bool:
        self.state = self.constraint.advance(self.state, token)
        return bool(self.state != 0)

    def kernel(self, tokens: list[int]) -> float:
        """Nanoseconds a check, many checks to a call from Python."""
        for token in tokens:
            self.allows(token)  # builds the transitions that are missing
        return kernel_check(self.constraint, self.state, np.array(tokens))


class Genctl:
    def __init__(self, words: Words) -> None:
        import warnings

        import genctl

        warnings.simplefilter("ignore", genctl.GenctlWarning)  # misspelt keywords in the data
        self._json = genctl.json
        self._vocabulary = genctl.Vocabulary(words.tokens, frozenset(words.eos))

    def compile(self, schema: str, /) -> Callable[[], Session]:
        constraint = self._json(schema).bind(self._vocabulary)
        return lambda: GenctlSession(constraint, len(self._vocabulary))


def kernel_check(constraint: Any, state: int, tokens: NDArray[np.int64], rounds: int = 20) -> float:
    """Nanoseconds that the check inside the AWRS kernel takes, without draws and without the call from Python, which
    takes as long as hundreds of checks; the best of the rounds.

    The only place that knows how genctl's kernels are called.
    """
    check = _check_loop()
    if hasattr(constraint, "inner_states"):  # keys or values are checked beside the automaton
        constraint, state = constraint.constraint, int(constraint.inner_states(np.array([state]))[0])
    machine, flat = constraint.automaton.machine, constraint.token_bytes
    many = np.tile(tokens, CHECKED)
    return min(timed(check, machine, flat, state, many)[1] for _ in range(rounds)) / len(many)


@cache
def _check_loop() -> Any:
    from genctl.kernels.compiled import kernel
    from genctl.kernels.rejection import ALLOWED, check_token

    @kernel  # as the AWRS kernel is compiled: without it arrays are counted, which takes ten times as long
    def check_all(machine, flat, state, tokens):
        allowed = 0
        for token in tokens:
            allowed += check_token(machine, flat, state, token) == ALLOWED
        return allowed

    return check_all


class LlguidanceSession:
    def __init__(self, matcher: Any, size: int, eos: frozenset[int]) -> None:
        self._matcher, self._eos = matcher, eos
        self.out = np.zeros((size + 31) // 32, np.uint32)
        self._place = self.out.ctypes.data, self.out.nbytes

    def mask(self) -> object:
        return self._matcher.unsafe_compute_mask_ptr(*self._place)

    def allows(self, token: int, /) -> bool:
        if token in self._eos:  # validate_tokens says no to these
            return bool(self._matcher.is_accepting())
        return bool(self._matcher.validate_tokens([token]) == 1)

    def advance(self, token: int, /) -> bool:
        return bool(self._matcher.consume_token(token))


class Llguidance:
    def __init__(self, words: Words) -> None:
        import llguidance

        self._matcher, self._size, self._eos = llguidance.LLMatcher, len(words.tokens), frozenset(words.eos)
        ends = {"n_vocab": self._size, "eos_token": list(words.eos)}
        if isinstance(words.native, str):
            self._tokenizer = llguidance.LLTokenizer(words.native, **ends)
        else:
            self._tokenizer = llguidance.LLTokenizer.from_tiktoken(**words.native, **ends)
        for i, text in enumerate(words.tokens):
            if text not in (b"", b"\xff") and self._tokenizer.decode_bytes([i]) != text:  # it marks control by \xff
                raise ValueError(f"token {i} is {self._tokenizer.decode_bytes([i])!r} for llguidance, not {text!r}")

    def compile(self, schema: str, /) -> Callable[[], Session]:
        grammar = self._matcher.grammar_from_json_schema(schema)
        matcher = self._matcher(self._tokenizer, grammar, log_level=0)
        if matcher.is_error():
            raise ValueError(matcher.get_error())
        return lambda: LlguidanceSession(matcher.deep_copy(), self._size, self._eos)


class XgrammarSession:
    def __init__(self, matcher: Any, size: int) -> None:
        self._matcher = matcher
        self._bits = np.zeros((1, (size + 31) // 32), np.int32)
        self.out = self._bits[0].view(np.uint32)

    def mask(self) -> object:
        return self._matcher.fill_next_token_bitmask(self._bits)

    def allows(self, token: int, /) -> bool:
        if not self._matcher.accept_token(token):
            return False
        self._matcher.rollback(1)
        return True

    def advance(self, token: int, /) -> bool:
        return bool(self._matcher.accept_token(token))


class Xgrammar:
    def __init__(self, words: Words) -> None:
        import xgrammar

        self._xgrammar, self._size = xgrammar, len(words.tokens)
        info = xgrammar.TokenizerInfo(list(words.tokens), vocab_size=self._size, stop_token_ids=list(words.eos))
        self._compiler = xgrammar.GrammarCompiler(info, max_threads=1)

    def compile(self, schema: str, /) -> Callable[[], Session]:
        compiled = self._compiler.compile_json_schema(schema)
        return lambda: XgrammarSession(self._xgrammar.GrammarMatcher(compiled), self._size)


ENGINES: dict[str, Callable[[Words], Engine]] = {"genctl": Genctl, "llguidance": Llguidance, "xgrammar": Xgrammar}


# The clock.


def timed(call: Callable[..., Any], *arguments: Any) -> tuple[Any, int]:
    """(result, nanoseconds): the lesser of elapsed time and CPU time, so that other processes do not count."""
    cpu = time.process_time_ns()
    begun = time.perf_counter_ns()
    result = call(*arguments)
    elapsed = time.perf_counter_ns() - begun
    return result, min(elapsed, time.process_time_ns() - cpu)


# Inside the process.


class Host:
    """An engine, what it compiled last, and the requests that it answers (its public methods)."""

    def __init__(self, name: str, words: Words) -> None:
        self._eos = frozenset(words.eos)
        self._before = _resident("VmRSS")
        self._engine = ENGINES[name](words)
        self._session: Callable[[], Session] | None = None

    def clock(self) -> float:
        """Nanoseconds that the clock itself adds to each figure (median)."""
        return float(np.median([timed(int)[1] for _ in range(10_000)]))

    def settle(self) -> tuple[int, int]:
        """(kB before the engine was loaded, kB now): what follows is the engine's own use of memory."""
        gc.collect()
        gc.freeze()  # modules that happen to be loaded (torch) should not be traversed in timed calls
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the peak starts anew
        return self._before, _resident("VmRSS")

    def peak(self) -> int:
        """kB, since settle."""
        return _resident("VmHWM")

    def compile(self, schema: str) -> First:
        self._session = None
        try:
            self._session, compiling = timed(self._engine.compile, schema)
            session, beginning = timed(self._session)
            masking = timed(session.mask)[1]
        except Exception as error:  # each engine has its own classes, and the refusals are a result
            return First(error=f"{type(error).__name__}: {error}")
        return First(compiling, beginning, masking)

    def walk(self, instances: list[Instance], first: str, limit: float) -> list[Steps]:
        """first: the walk that is made first, "check" or "mask"; the other one finds more built."""
        return [self._both_walks(instance, first, time.monotonic() + limit) for instance in instances]

    def look(self, instances: list[Instance], places: list[tuple[int, int]], tokens: list[int]) -> list[Look]:
        """The states of some (instance, position)."""
        looks = []
        for number, position in places:
            session = self._begin()
            for token in instances[number].tokens[:position]:
                session.advance(token)
            session.mask()
            kernel = session.kernel(instances[number].probes) if isinstance(session, GenctlSession) else 0.0
            looks.append(Look(session.out.tobytes(), [session.allows(token) for token in tokens], kernel))
        return looks

    def _begin(self) -> Session:
        assert self._session is not None, "nothing is compiled"
        return self._session()

    def _both_walks(self, instance: Instance, first: str, deadline: float) -> Steps:
        steps = Steps([], [], [], [], [], False, 0, "")
        verdicts: list[bool] = []
        bits: list[bool] = []
        walks: list[Callable[[], None]] = [
            lambda: self._walk_checks(instance, steps, verdicts, deadline),
            lambda: self._walk_masks(instance.tokens, steps, bits, deadline),
        ]
        error = ""
        try:
            for walk in walks if first == "check" else reversed(walks):
                walk()
        except Exception as problem:  # of any engine; what was measured before it is kept
            error = f"{type(problem).__name__}: {problem}"
        accepted = not error and len(verdicts) == len(instance.tokens) and verdicts[-1]
        differing = sum(a != b for a, b in zip(verdicts, bits, strict=False))
        return steps._replace(accepted=accepted, differing=differing, error=error)

    def _walk_checks(self, instance: Instance, steps: Steps, verdicts: list[bool], deadline: float) -> None:
        session = self._begin()
        for token, probe in zip(instance.tokens, instance.probes, strict=True):
            allowed, took = timed(session.allows, token)
            verdicts.append(allowed)
            steps.check.append(took)
            steps.probe.append(timed(session.allows, probe)[1])
            if not allowed or token in self._eos:
                return
            steps.commit_checked.append(timed(session.advance, token)[1])
            _in_time(deadline)

    def _walk_masks(self, tokens: list[int], steps: Steps, bits: list[bool], deadline: float) -> None:
        session = self._begin()
        for token in tokens:
            steps.mask.append(timed(session.mask)[1])
            bits.append(bool(session.out[token >> 5] >> (token & 31) & 1))
            if token in self._eos:
                return
            moved, took = timed(session.advance, token)
            if not moved:
                return
            steps.commit.append(took)
            _in_time(deadline)


def _in_time(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError("the limit for one instance")


def _resident(field: str) -> int:
    """VmRSS or VmHWM of this process, kB (Linux)."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field))


def _serve(connection: Any, name: str, words: Words) -> None:
    host = Host(name, words)
    connection.send(None)
    while (request := connection.recv()) is not None:
        operation, arguments = request
        connection.send(getattr(host, operation)(*arguments))


# Outside the process.


class Worker:
    """A process with one engine. It is started anew where it crashed or did not answer in time."""

    def __init__(self, name: str, words: Words, warm_up: Callable[[Worker], None] = lambda worker: None) -> None:
        self.name, self.words, self._warm_up = name, words, warm_up
        self.peak = 0  # kB of its own, the largest of all processes so far
        self._start()

    def ask(self, operation: str, *arguments: Any, limit: float = 600) -> Any:
        """The answer; raises TimeoutError or EOFError (a crash), and has a fresh process then."""
        try:
            self._connection.send((operation, arguments))
            return self._answer(limit)
        except (TimeoutError, EOFError, BrokenPipeError, ConnectionResetError) as error:
            self._process.kill()
            self._process.join()
            self._start()
            raise TimeoutError(operation) if isinstance(error, TimeoutError) else EOFError(operation) from error

    def stop(self) -> None:
        self.note_peak()
        self._connection.send(None)
        self._process.join()

    def note_peak(self) -> None:
        self.peak = max(self.peak, self.ask("peak") - self.memory[1])

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self.name, self.words), daemon=True)
        self._process.start()
        theirs.close()
        self._answer(600)
        self._warm_up(self)
        self.memory: tuple[int, int] = self.ask("settle")

    def _answer(self, limit: float) -> Any:
        if not self._connection.poll(limit):
            raise TimeoutError
        return self._connection.recv()


def reach(steps: Sequence[Steps]) -> int:
    """Positions of an instance that all of the walks over it came to."""
    return min(min(len(walk.mask), len(walk.check)) for walk in steps)
