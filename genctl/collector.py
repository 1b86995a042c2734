"""Python's garbage collector at rest, while many objects are made that are no garbage.

@uncollected
def compiled(schema): ...
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def uncollected(function: Callable[P, R]) -> Callable[P, R]:
    """It would look at every new object again and again, which takes a tenth of the time of a compilation and more: its
    objects are in use until its end, and not in circles. Meanwhile nothing is collected for other threads either.
    """

    @wraps(function)
    def resting(*args: P.args, **kwargs: P.kwargs) -> R:
        collects = gc.isenabled()
        gc.disable()
        try:
            return function(*args, **kwargs)
        finally:
            if collects:
                gc.enable()

    return resting
