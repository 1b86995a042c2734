"""The second process of a first start: when it is started, and that it leaves all kernels compiled."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from threading import Thread
from typing import Any

import numba
import numpy as np
import pytest

from genctl import ahead, kernels
from genctl.kernels.compiled import _Undisturbed

NOTE = "import sys; open(sys.argv[-1], 'a').write('started ')"


@pytest.fixture
def folder(monkeypatch, tmp_path) -> Path:
    """A folder without compiled kernels, two processors, and a second process that only writes `started`."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "numba"))
    monkeypatch.delenv(ahead.SWITCH, raising=False)
    monkeypatch.delenv("NUMBA_DISABLE_JIT", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "notes")])
    monkeypatch.setattr(ahead, "PROGRAM", NOTE)
    return tmp_path


def starts(folder: Path, patience: float = 20.0) -> int:
    """How many processes began, after one that was started has had its time."""
    until = time.monotonic() + patience
    while not (folder / "notes").exists() and time.monotonic() < until:
        time.sleep(0.02)
    return (folder / "notes").read_text().count("started") if (folder / "notes").exists() else 0


def test_a_second_process_is_started_once_where_kernels_are_not_compiled(folder):
    ahead.begin()
    ahead.begin()
    assert starts(folder) == 1
    assert [path.suffix for path in (folder / "numba").iterdir()] == [".lock"]


def test_when_it_is_done_no_other_one_is_started(folder):
    ahead.begin()
    assert starts(folder) == 1
    ahead.finish()
    assert [path.suffix for path in (folder / "numba").iterdir()] == [".compiled"]
    (folder / "notes").unlink()
    ahead.begin()
    assert starts(folder, patience=0.5) == 0


@pytest.mark.parametrize(("age", "number"), [(0.5, 0), (2.0, 1)])
def test_the_lock_of_one_that_died_counts_for_its_time_only(folder, age, number):
    left = ahead.lock(ahead.stamp())
    left.parent.mkdir()
    left.touch()
    then = time.time() - age * ahead.LIMIT
    os.utime(left, (then, then))
    ahead.begin()
    assert starts(folder, patience=20.0 if number else 0.5) == number


def one_processor(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0}, raising=False)


def switched_off(monkeypatch):
    monkeypatch.setenv(ahead.SWITCH, "0")


def interpreted(monkeypatch):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")


def no_executable(monkeypatch):
    monkeypatch.setattr(sys, "executable", None)


def embedded(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/usr/sbin/uwsgi")


def frozen(monkeypatch):
    monkeypatch.setattr(sys, "frozen", True, raising=False)


def worker(monkeypatch):
    monkeypatch.setattr("multiprocessing.process._parent_process", object())


def folder_that_is_a_file(monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", __file__)


REASONS = [one_processor, switched_off, interpreted, no_executable, embedded, frozen, worker, folder_that_is_a_file]


@pytest.mark.parametrize("reason", REASONS, ids=lambda reason: reason.__name__)
def test_no_second_process_where_it_is_of_no_use(folder, monkeypatch, reason):
    reason(monkeypatch)
    ahead.begin()
    assert starts(folder, patience=0.3) == 0
    assert not (folder / "numba").exists()


def test_a_process_that_cannot_be_started_leaves_no_lock(folder, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    ahead.begin()
    assert list((folder / "numba").iterdir()) == []


def test_a_changed_source_another_numba_and_another_folder_have_stamps_of_their_own(folder, monkeypatch):
    stamps = {ahead.stamp()}
    monkeypatch.setattr(ahead, "version", lambda package: "0.0")
    stamps.add(ahead.stamp())
    sources = folder / "kernels"
    sources.mkdir()
    monkeypatch.setattr(ahead, "KERNELS", sources)
    stamps.add(ahead.stamp())
    for text in ("x = 1", "x = 10"):
        (sources / "a.py").write_text(text)
        stamps.add(ahead.stamp())
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(folder / "other"))
    stamps.add(ahead.stamp())
    assert len(stamps) == 6


def test_stamps_stand_beside_what_numba_keeps(folder, monkeypatch):
    assert ahead.folder() == folder / "numba"
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.setattr(ahead, "KERNELS", folder)
    assert ahead.folder() == folder / "__pycache__"
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "user"))
    assert ahead.folder().name == "numba"


def test_to_decide_needs_neither_numba_nor_torch():
    program = "import sys; from genctl import ahead; ahead.stamp(), ahead.wanted(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numba", "numpy", "torch"} & set(loaded)


class Compiling:
    """What numba tells its listeners."""

    def __init__(self, module: str) -> None:
        function = type("function", (), {"__module__": module})
        self.data = {"dispatcher": type("dispatcher", (), {"py_func": function})}


OURS, FOREIGN = Compiling("genctl.kernels.cover"), Compiling("somebody.else")


def test_while_a_kernel_is_compiled_the_garbage_collector_rests_and_then_goes_on():
    listener = _Undisturbed()
    listener.on_start(FOREIGN)
    assert gc.isenabled()
    listener.on_start(OURS)
    listener.on_start(OURS)
    listener.on_end(OURS)
    listener.on_end(FOREIGN)
    assert not gc.isenabled()
    listener.on_end(OURS)
    assert gc.isenabled()


def test_functions_of_others_are_compiled_whatever_they_are():
    """One made by `exec` has no module, and numba tells of the compiling of every function."""
    made: dict[str, Any] = {"__builtins__": {}}
    exec("def double(x): return x + x", made)
    assert made["double"].__module__ is None
    assert numba.njit(made["double"])(2) == 4
    assert numba.vectorize(lambda x: x + 1)(np.arange(2)).tolist() == [1, 2]


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Processes that a shell starts in the background ignore interrupts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("inside", [False, True])
def test_an_interrupt_waits_for_the_kernel_that_is_being_compiled(inside, interruptible):
    listener, handler = _Undisturbed(), signal.getsignal(signal.SIGINT)
    listener.on_start(OURS)
    if inside:
        listener.on_start(OURS)
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        listener.on_end(OURS)
    if inside:
        listener.on_end(OURS)
    assert signal.getsignal(signal.SIGINT) is handler
    assert gc.isenabled()
    assert listener.handler is None


def test_an_interrupt_that_is_ignored_stays_ignored_and_threads_leave_it_alone(interruptible):
    def compile_one() -> None:
        listener.on_start(OURS)
        seen.append(signal.getsignal(signal.SIGINT))
        listener.on_end(OURS)

    listener, seen, handler = _Undisturbed(), list[object](), signal.getsignal(signal.SIGINT)
    thread = Thread(target=compile_one)
    thread.start()
    thread.join()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        compile_one()
    finally:
        signal.signal(signal.SIGINT, handler)
    assert seen == [handler, signal.SIG_IGN]


def dispatchers():
    """All kernels but those that are written into others."""
    for module in iter_modules(kernels.__path__, "genctl.kernels."):
        for value in vars(import_module(module.name)).values():
            options = getattr(value, "targetoptions", None)
            if options is not None and value.py_func.__module__ == module.name and options.get("inline") != "always":
                yield value


WARM = """
import genctl.warm
from tests.test_ahead import dispatchers
{work}
print(sum(sum(kernel.stats.cache_misses.values()) for kernel in dispatchers()))
print(*(kernel.__name__ for kernel in dispatchers() if len(kernel.signatures) != 1))
"""


@pytest.mark.slow
def test_each_kernel_is_compiled_for_one_type_and_then_never_again(tmp_path):
    """One type, since two processes that keep the same kernel for two types at one time could mix them up."""
    switches = {"NUMBA_CACHE_DIR": str(tmp_path), ahead.SWITCH: "0"}

    def run(work: str) -> list[str]:
        command = [sys.executable, "-c", WARM.format(work=work)]
        done = subprocess.run(command, env=os.environ | switches, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    compiled, others = run("genctl.warm.work_ahead()")
    assert int(compiled) > 60
    assert others == ""
    assert ahead.lock(Path("x.compiled")) == Path("x.lock")
    assert [path.suffix for path in tmp_path.glob("genctl-*")] == [".compiled"]
    assert run("genctl.warm.warm()")[0] == "0"
