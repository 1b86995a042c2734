"""Vectors of LANES float32 as values of kernels, where what the compiler makes of a loop is not enough.

    sums = spread(zero)
    for i in range(0, width, LANES):
        sums = multiply_add(load(first, i), load(second, i), sums)
    total(sums)

Places in arrays, which lie in one piece, are counted in the order of memory, and not checked. `prefetch` fetches a
place for later.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.cgutils import get_or_insert_function
from numba.extending import models, register_model

from genctl.kernels.compiled import intrinsic

LANES = 16  # as many as the widest registers hold; narrower ones are taken several at a time

FLOAT, INT = ir.FloatType(), ir.IntType(32)
VECTOR = ir.VectorType(FLOAT, LANES)
UNDEFINED = ir.Constant(VECTOR, ir.Undefined)


class _Lanes(types.Type):  # type: ignore[misc]  # numba is not typed, and takes no other types
    def __init__(self) -> None:
        super().__init__("Lanes")


LANES_TYPE = _Lanes()
register_model(_Lanes)(lambda manager, kind: models.PrimitiveModel(manager, kind, VECTOR))


@intrinsic
def load(typing: Any, array: Any, place: Any) -> Any:
    """The LANES entries from a place of an array on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        found = builder.load(_pointer(context, builder, signature, arguments, VECTOR))
        found.align = 4
        return found

    return LANES_TYPE(array, types.intp), generate


@intrinsic
def store(typing: Any, array: Any, place: Any, value: Any) -> Any:
    """Write the LANES entries from a place of an array on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[2], _pointer(context, builder, signature, arguments, VECTOR)).align = 4
        return context.get_dummy_value()

    return types.void(array, types.intp, LANES_TYPE), generate


@intrinsic
def spread(typing: Any, value: Any) -> Any:
    """A float32 in all lanes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        first = builder.insert_element(UNDEFINED, arguments[0], INT(0))
        return builder.shuffle_vector(first, UNDEFINED, ir.Constant(ir.VectorType(INT, LANES), [0] * LANES))

    return LANES_TYPE(types.float32), generate


@intrinsic
def multiply_add(typing: Any, first: Any, second: Any, third: Any) -> Any:
    """first second + third, lane by lane; rounded once where the processor can."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _call(builder, f"llvm.fmuladd.v{LANES}f32", VECTOR, arguments)

    return LANES_TYPE(LANES_TYPE, LANES_TYPE, LANES_TYPE), generate


@intrinsic
def total(typing: Any, value: Any) -> Any:
    """The sum of the lanes, in whatever order is fastest."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        given = [ir.Constant(FLOAT, 0.0), *arguments]
        return _call(builder, f"llvm.vector.reduce.fadd.v{LANES}f32", FLOAT, given, fastmath=("reassoc",))

    return types.float32(LANES_TYPE), generate


@intrinsic
def prefetch(typing: Any, array: Any, place: Any) -> Any:
    """Fetch the line of a cache that holds an entry; a place may be out of bounds."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _pointer(context, builder, signature, arguments, ir.IntType(8))
        # To be read, into all caches, data.
        _call(builder, "llvm.prefetch.p0i8", ir.VoidType(), [pointer, INT(0), INT(3), INT(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


def _pointer(context: Any, builder: Any, signature: Any, arguments: Any, kind: Any) -> Any:
    """To what is at the place of the array, the first two arguments."""
    data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
    return builder.bitcast(builder.gep(data, [arguments[1]]), kind.as_pointer())


def _call(builder: Any, name: str, result: Any, arguments: Sequence[Any], fastmath: Sequence[str] = ()) -> Any:
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(get_or_insert_function(builder.module, kind, name), arguments, fastmath=fastmath)
