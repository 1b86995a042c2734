"""How kernels are compiled: once, kept on disk, without the interpreter lock.

@kernel
def total(values): ...
"""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable
from threading import current_thread, main_thread
from typing import Any, TypeVar, cast

import numpy as np
from numba import config, extending, njit
from numba.core import event

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile in nopython mode, for functions that make no arrays: theirs need not be counted, which costs more
    than many a kernel does."""
    return cast(F, njit(cache=True, nogil=True, _nrt=False, no_cfunc_wrapper=True)(function))


def making_kernel(function: F) -> F:
    """The same for functions that make arrays."""
    return cast(F, njit(cache=True, nogil=True)(function))


def inlined(function: F) -> F:
    """A few lines that are written into each kernel that calls them."""
    return cast(F, njit(inline="always")(function))


def summing_kernel(function: F) -> F:
    """The same, and additions may be reordered so that sums use vector instructions."""
    return cast(F, njit(cache=True, nogil=True, fastmath={"reassoc"})(function))


def contracting_kernel(function: F) -> F:
    """The same, where products are added: each such pair may be one instruction, which rounds once."""
    return cast(F, njit(cache=True, nogil=True, fastmath={"contract"})(function))


def wrapping(decorate: Callable[[F], F]) -> Callable[[F], F]:
    """For sums and products of integers that go around; without a compiler numpy would warn of them."""
    return np.errstate(over="ignore") if config.DISABLE_JIT else decorate


def intrinsic(function: Callable[..., Any]) -> Any:
    """What kernels call and numba has no word for: a function of types, which writes it in LLVM's terms."""
    return extending.intrinsic(function)


# An int64, whatever int or constant was given: kernels are then compiled for one type each.
wide = cast(Callable[[Any], int], np.int64)


class _Undisturbed(event.Listener):  # type: ignore[misc]  # numba is not typed, and takes no other listeners
    """While a kernel is compiled Ctrl-C waits, and the garbage collector rests.

    LLVM calls Python back, where an interrupt would be lost, and with it what numba is told there. The collector would
    take a tenth of the time and find little. Kernels are compiled within each other, by one thread at a time (numba's
    lock); the interrupt comes when the innermost of them is done.
    """

    def __init__(self) -> None:
        self.depth, self.collects, self.interrupted = 0, False, False
        self.handler: Any = None  # of interrupts, while they wait

    def on_start(self, compiling: event.Event) -> None:
        if _ours(compiling):
            if self.depth == 0:
                self.collects = gc.isenabled()
                gc.disable()
                handler = signal.getsignal(signal.SIGINT)
                if callable(handler) and current_thread() is main_thread():
                    self.handler = handler
                    signal.signal(signal.SIGINT, self._wait)
            self.depth += 1

    def on_end(self, compiling: event.Event) -> None:
        if _ours(compiling):
            self.depth -= 1
            handler = self.handler
            if self.depth == 0:
                if self.collects:
                    gc.enable()
                if handler is not None:
                    signal.signal(signal.SIGINT, handler)
                    self.handler = None
            if self.interrupted:
                self.interrupted = False
                handler(signal.SIGINT, None)

    def _wait(self, signum: int, frame: Any) -> None:
        self.interrupted = True


def _ours(compiling: event.Event) -> bool:
    function = getattr(compiling.data["dispatcher"], "py_func", None)
    module = getattr(function, "__module__", None)  # None where a user's function was made by `exec`
    return isinstance(module, str) and module.startswith("genctl.kernels.")


event.register("numba:compile", _Undisturbed())
