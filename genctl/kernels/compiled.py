"""How kernels are compiled: once, kept on disk, without the interpreter lock.

@kernel
def total(values): ...
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile in nopython mode."""
    return cast(F, njit(cache=True, nogil=True)(function))


def summing_kernel(function: F) -> F:
    """The same, and additions may be reordered so that sums use vector instructions."""
    return cast(F, njit(cache=True, nogil=True, fastmath={"reassoc"})(function))
