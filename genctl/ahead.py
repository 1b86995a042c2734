"""The first time that genctl runs on a machine, a second process compiles kernels ahead of the first one.

    begin()                                  # when kernels are imported: starts that process, if there is work for it

Numba looks for a kernel in its folder before it compiles one, and saves it there: the two go through the kernels in
different orders and share them (genctl/warm.py). A stamp beside numba's files says that all have been compiled. Nothing
depends on the second process: without it, or without its end, the first one compiles what it needs.

GENCTL_COMPILE_AHEAD=0 turns it off.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

SWITCH = "GENCTL_COMPILE_AHEAD"
LIMIT = 600.0  # seconds that the second process may take; a lock that is older was left behind
KERNELS = Path(__file__).parent / "kernels"
PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from genctl.warm import work_ahead; work_ahead()"


def begin() -> None:
    """Start the second process, unless kernels are compiled, it is at work, or it would be of no use."""
    if not wanted():
        return
    with suppress(OSError):  # a folder that cannot be written, a process that cannot be started
        done = stamp()
        if not done.exists() and _claim(lock(done)):
            try:
                _start()
            except OSError:
                lock(done).unlink()
                raise


def finish() -> None:
    """All kernels have been compiled. A second process that fails does not come here: its lock keeps others from it."""
    with suppress(OSError):
        done = stamp()
        done.parent.mkdir(parents=True, exist_ok=True)
        done.touch()
        lock(done).unlink(missing_ok=True)


def wanted() -> bool:
    """Is there a second processor, and is this a Python process of its own that may start another one?"""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    switched_off = os.environ.get(SWITCH) == "0" or os.environ.get("NUMBA_DISABLE_JIT", "0") != "0"
    return cpus > 1 and not switched_off and _is_python() and not _is_worker()


def _is_python() -> bool:
    """Programs that embed Python, and frozen ones, have their own executable."""
    return Path(sys.executable or "").name.lower().startswith("python") and not getattr(sys, "frozen", False)


def _is_worker() -> bool:
    """One of several processes (multiprocessing) that begin at the same time."""
    process = sys.modules.get("multiprocessing.process")
    return process is not None and process.parent_process() is not None


def stamp() -> Path:
    """The file that says that these kernels have been compiled, by this numba, for this processor."""
    return folder() / f"genctl-{hashlib.sha256(repr(list(_versions())).encode()).hexdigest()[:16]}.compiled"


def lock(done: Path) -> Path:
    return done.with_suffix(".lock")


def folder() -> Path:
    """Where numba keeps what it has compiled, so that the stamp goes when that goes."""
    named = os.environ.get("NUMBA_CACHE_DIR")
    if named:
        return Path(named)
    beside = KERNELS / "__pycache__"
    if os.access(beside if beside.exists() else KERNELS, os.W_OK):
        return beside
    from platformdirs import user_cache_path

    return user_cache_path("numba", appauthor=False)


def _versions() -> Iterator[object]:
    """What numba's files depend on; like numba, it takes a source for unchanged that has its time and size."""
    yield platform.python_version(), version("numba"), platform.machine(), _processor()
    for source in sorted(KERNELS.glob("*.py")):
        found = source.stat()
        yield str(source), found.st_size, found.st_mtime_ns


def _processor() -> str:
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as lines:
        return next((line for line in lines if line.startswith("model name")), "")
    return ""


def _claim(path: Path) -> bool:
    """Take the lock, also where one was left behind; False if another process has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        if time.time() - path.stat().st_mtime > LIMIT:
            path.unlink()
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _start() -> None:
    """With the path of this process, in a session of its own, so that it does not hear of Ctrl-C."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *sys.path],
        env=os.environ | {SWITCH: "0"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    process.returncode = 0  # else Python would warn that it still runs
