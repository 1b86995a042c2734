"""All kernels, compiled now: `genctl warm`, and what the second process of a first start does (genctl/ahead.py).

warm()
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

import genctl
from genctl import ahead
from genctl.automata.tabulated import intersection
from genctl.compilers.regex import compile_regex
from genctl.constraints.merges import TokenPairs
from genctl.errors import ArgumentError
from genctl.generate import Model
from genctl.kernels import budget, configurations, loops, products, rejection
from genctl.kernels.records import Machine, TokenBytes, TokenTrie

# In this order a second process meets the first one half way. The first follows a text from its beginning, through
# `explore`, to `step`, the draws and masks that are built on it, and the checks of what is left. Here come first the
# other things that `step` needs, then what does not need it, and what is built on it from the end.
OTHERS_FIRST = (
    configurations.called_stack,
    configurations.spell_children,
    configurations.moves,
    configurations.quick_moves,
    rejection.judged,
    rejection.draw,
    rejection.masked_sums,
    loops.next_loop,
    configurations.same_moves,
    configurations.rehash_states,
    configurations.rehash_joins,
    configurations.forget,
    rejection.check_tokens,
    budget.next_states,
)
# For long texts, whose tables grow and are forgotten, and for masses that float32 does not hold.
SELDOM = (
    configurations.rehash_states,
    configurations.rehash_joins,
    configurations.forget,
    rejection.masked_draw,
)


# The types of a kernel's arguments by their annotations, where all arrays have one dimension and masks are only read.
def _read_only(kind: Any) -> Any:
    return numba.types.Array(kind, 1, "C", readonly=True)


TYPES = {
    "U8": numba.uint8[::1],
    "I32": numba.int32[::1],
    "I64": numba.int64[::1],
    "U32": _read_only(numba.uint32),
    "F32": numba.float32[::1],
    "F64": numba.float64[::1],
    "Bool": numba.boolean[::1],
    "int": numba.int64,
    "float": numba.float64,
    "bool": numba.boolean,
}
TABLE = numba.int32[:, ::1]
RECORDS = {
    Machine: (TABLE, TYPES["U8"], TYPES["Bool"], TYPES["I32"], TYPES["I32"], TYPES["I64"]),
    TokenBytes: (_read_only(numba.uint8), TYPES["I64"], TYPES["Bool"]),
    TokenTrie: (TABLE, TYPES["I32"], TYPES["I32"]),
}
TYPES |= {record.__name__: numba.types.NamedTuple(fields, record) for record, fields in RECORDS.items()}


def warm() -> None:
    """Compile every kernel that is not in numba's folder, by generating a little in every way that has its own.

    Raises ArgumentError where numba compiles nothing.
    """
    if numba.config.DISABLE_JIT:
        raise ArgumentError("NUMBA_DISABLE_JIT is set, so that kernels are not compiled\nhint: unset it")
    model = genctl.load("toy")
    for work in WORK:
        work(model)
    for kernel in SELDOM:
        compile_kernel(kernel)
    ahead.finish()


def work_ahead() -> None:
    """The second process: begins elsewhere than the first, and gives way to others. It ends when it is done, or after
    ahead.LIMIT seconds.
    """
    if hasattr(os, "nice"):
        os.nice(10)
    limit = threading.Timer(ahead.LIMIT, os._exit, (1,))
    limit.daemon = True
    limit.start()
    for kernel in OTHERS_FIRST:
        compile_kernel(kernel)
    warm()


def compile_kernel(kernel: Any) -> None:
    """Compile it for the types that its annotations name."""
    annotations = dict(kernel.py_func.__annotations__)
    annotations.pop("return")
    kernel.compile(tuple(TYPES[name] for name in annotations.values()))


# -- a little of everything


def _masks(model: Model) -> None:
    model.generate("JSON: ", genctl.json(SCHEMA), method="masked", max_new_tokens=40, seed=0)
    model.generate("", genctl.regex("[a-z]{0,99}[.]"), method="masked", max_new_tokens=120, seed=0)
    model.generate("", genctl.regex("(?:[^b]|b[^a])*ba"), method="masked", max_new_tokens=9, seed=0)  # stays in a state
    model.generate("", genctl.substring("the cat"), method="masked", max_new_tokens=9, seed=0)  # built by Python


def _particles(model: Model) -> None:
    model.generate("JSON: ", genctl.json(SCHEMA), method="smc", max_new_tokens=40, seed=0)


def _checks(model: Model) -> None:
    """Rules that are functions, weights by the geometric estimator, greedy decoding."""
    unlikely = genctl.regex("[0-9]{4}") & (lambda text, done: "0" not in text)
    model.generate("the cat ", unlikely, num_particles=4, max_new_tokens=9, seed=0)
    model.generate("", genctl.regex("[0-9]{4}"), method=genctl.AWRS("geometric"), max_new_tokens=9, seed=0)


def _languages(model: Model) -> None:
    """A product of automata, which no store has; and a text that is followed without having been checked."""
    intersection(compile_regex("a+"), compile_regex("[ab]{2}"))
    fresh = genctl.regex("[a-z]+followed").bind(model.language_model.vocabulary)
    fresh.advance(fresh.start(), ord("a"))


def _bytes(model: Model) -> None:
    model.bytes().generate("The da", genctl.regex("[a-z ]{1,9}"), max_new_tokens=20, seed=0)


def _merges(model: Model) -> None:
    """Canonical texts, whose merges only real tokenizers have."""
    pairs = TokenPairs(["a", "b", "ab"], [(0, 1, 2)])
    pairs.encoding(2)
    pairs.stable(0, 1)
    pairs.any_stable(0, np.array([1], np.int32))
    pairs.unstable_after(0)


def _products(model: Model) -> None:
    """Of float32 weights, which toys do not have."""
    row, matrix = np.ones((1, 1), np.float32), np.ones((1, 1), np.float32)
    products.multiply_rows(row, matrix, np.empty((1, 1), np.float32))
    products.multiply_columns(row, matrix, np.empty((1, 1), np.float32))
    products.multiply_columns_once(row[0], matrix, np.empty(1, np.float32))


SCHEMA = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 9}, "days": {"type": "integer"}}}
WORK: tuple[Callable[[Model], None], ...] = (_masks, _particles, _checks, _languages, _bytes, _merges, _products)
