"""Arrays by their addresses, for kernels that are called for every token: an array that Python hands over takes longer
than a step of an automaton.

places = addresses((*machine, *tokens))      # one array; whoever uses it holds the others meanwhile
machine, tokens = machine_at(places), tokens_at(places)       # in a kernel
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from typing import Any

import numpy as np
from numba import carray, config, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array
from numpy.typing import NDArray

from genctl.kernels.compiled import inlined
from genctl.kernels.records import I32, I64, Bool, Machine, TokenBytes, TokenTrie


def addresses(arrays: Iterable[NDArray[Any]]) -> I64:
    """(3 K,) address, length and width (1 of one that has none) of each array."""
    found = list[int]()
    for array in arrays:
        found += array.__array_interface__["data"][0], len(array), array.shape[1] if array.ndim == 2 else 1
    return np.array(found, np.int64)


def _array(kind: Any, plain: Any) -> Any:
    """A function of an address and a shape (L,), as `carray`, which numba compiles only where arrays are counted."""
    if config.DISABLE_JIT:
        return lambda address, shape: carray(ctypes.cast(int(address), ctypes.POINTER(plain)), shape)

    @intrinsic  # type: ignore[untyped-decorator]  # numba is not typed
    def array(typing: Any, address: Any, shape: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            made = context.make_array(signature.return_type)(context, builder)
            pointer = builder.inttoptr(arguments[0], context.get_data_type(kind).as_pointer())
            lengths = cgutils.unpack_tuple(builder, arguments[1])
            size = context.get_constant(types.intp, ctypes.sizeof(plain))
            strides = [size]
            for length in reversed(lengths[1:]):
                strides.insert(0, builder.mul(strides[0], length))
            populate_array(made, pointer, lengths, strides, size, None)
            return made._getvalue()

        return types.Array(kind, len(shape), "C")(address, shape), generate

    return array


u8, bool_ = _array(types.uint8, ctypes.c_uint8), _array(types.boolean, ctypes.c_bool)
i32, i64 = _array(types.int32, ctypes.c_int32), _array(types.int64, ctypes.c_int64)


@inlined
def machine_at(at: I64) -> Machine:
    """The first arrays of `at`."""
    return Machine(
        i32(at[0], (at[1], at[2])),
        u8(at[3], (at[4],)),
        bool_(at[6], (at[7],)),
        i32(at[9], (at[10],)),
        i32(at[12], (at[13],)),
        i64(at[15], (at[16],)),
    )


@inlined
def tokens_at(at: I64) -> TokenBytes:
    """The arrays behind a machine."""
    return TokenBytes(u8(at[18], (at[19],)), i64(at[21], (at[22],)), bool_(at[24], (at[25],)))


@inlined
def trie_at(at: I64) -> TokenTrie:
    """The first arrays of `at`."""
    return TokenTrie(i32(at[0], (at[1], at[2])), i32(at[3], (at[4],)), i32(at[6], (at[7],)))


@inlined
def scratch_at(at: I64) -> tuple[I32, I32, I64]:
    """The arrays behind a trie: what walks over it need (path, missed, count)."""
    return i32(at[9], (at[10],)), i32(at[12], (at[13], at[14])), i64(at[15], (at[16],))


@inlined
def sought_at(at: I64) -> tuple[Bool, I64, Bool, Bool]:
    """The arrays behind these: nothing skipped, the loop that is found, the bytes that settle."""
    return bool_(at[18], (at[19],)), i64(at[21], (at[22],)), bool_(at[24], (at[25],)), bool_(at[27], (at[28],))
