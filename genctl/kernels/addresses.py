"""Arrays by their addresses, for kernels that are called for every token: an array that Python hands over takes longer
than a step of an automaton.

places = reading_places(machine, tokens)     # one array; whoever uses it holds the others meanwhile
machine, tokens = machine_at(places), tokens_at(places)       # in a kernel
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, config, types
from numba.np.arrayobj import populate_array
from numpy.typing import NDArray

from genctl.kernels.compiled import inlined, intrinsic
from genctl.kernels.records import I32, I64, Bool, Machine, TokenBytes, TokenTrie

FIELDS = 3  # address, length and width (1 of one that has none) of each array


def reading_places(machine: Machine, tokens: TokenBytes) -> I64:
    """For `machine_at` and `tokens_at`."""
    return _addresses(*machine, *tokens)


def walking_places(
    trie: TokenTrie, path: I32, missed: I32, count: I64, nothing: Bool, found: I64, enters: Bool, stays: Bool
) -> I64:
    """For `trie_at`, `scratch_at` and `sought_at`."""
    return _addresses(*trie, path, missed, count, nothing, found, enters, stays)


def _addresses(*arrays: NDArray[Any]) -> I64:
    fields = list[int]()
    for array in arrays:
        fields += array.__array_interface__["data"][0], len(array), array.shape[1] if array.ndim == 2 else 1
    return np.array(fields, np.int64)


def _array(kind: Any, plain: Any, dimensions: int = 1) -> Any:
    """A function (places, number) that gives an array: `carray`, which numba compiles only where arrays are counted."""
    if config.DISABLE_JIT:

        def view(places: I64, number: int) -> NDArray[Any]:
            address, *shape = places[FIELDS * number : FIELDS * (number + 1)].tolist()
            found: NDArray[Any] = carray(ctypes.cast(address, ctypes.POINTER(plain)), tuple(shape[:dimensions]))
            return found

        return view

    @intrinsic
    def array(typing: Any, places: Any, number: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            fields = context.make_array(signature.args[0])(context, builder, arguments[0]).data
            begin = builder.mul(arguments[1], ir.IntType(64)(FIELDS))
            address, *shape = (
                builder.load(builder.gep(fields, [builder.add(begin, ir.IntType(64)(i))]))
                for i in range(1 + dimensions)
            )
            pointer = builder.inttoptr(address, context.get_data_type(kind).as_pointer())
            size = context.get_constant(types.intp, ctypes.sizeof(plain))
            strides = [builder.mul(size, shape[1]), size] if dimensions == 2 else [size]
            made = context.make_array(signature.return_type)(context, builder)
            populate_array(made, pointer, shape, strides, size, None)
            return made._getvalue()

        return types.Array(kind, dimensions, "C")(places, types.int64), generate

    return array


_u8, _bool = _array(types.uint8, ctypes.c_uint8), _array(types.boolean, ctypes.c_bool)
_i32, _i64 = _array(types.int32, ctypes.c_int32), _array(types.int64, ctypes.c_int64)
_table = _array(types.int32, ctypes.c_int32, 2)


@inlined
def machine_at(at: I64) -> Machine:
    return Machine(_table(at, 0), _u8(at, 1), _bool(at, 2), _i32(at, 3), _i32(at, 4), _i64(at, 5))


@inlined
def tokens_at(at: I64) -> TokenBytes:
    return TokenBytes(_u8(at, 6), _i64(at, 7), _bool(at, 8))


@inlined
def trie_at(at: I64) -> TokenTrie:
    return TokenTrie(_table(at, 0), _i32(at, 1), _i32(at, 2))


@inlined
def scratch_at(at: I64) -> tuple[I32, I32, I64]:
    """What walks over a trie need: (path, missed, count)."""
    return _i32(at, 3), _table(at, 4), _i64(at, 5)


@inlined
def sought_at(at: I64) -> tuple[Bool, I64, Bool, Bool]:
    """(nothing is skipped, the loop that is found, the bytes that enter and those that stay where all is settled)."""
    return _bool(at, 6), _i64(at, 7), _bool(at, 8), _bool(at, 9)
