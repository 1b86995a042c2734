"""Products of few rows with a matrix that no cache holds, about as fast as one core reads the matrix.

multiply_rows(given, matrix, out)            # out = given @ matrix.T
multiply_columns(given, columns, out)        # out = given @ columns; multiply_columns_once for one row
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.cgutils import get_or_insert_function

from genctl.kernels.compiled import contracting_kernel, intrinsic, summing_kernel
from genctl.kernels.records import F32

LINE = 16  # float32 in a line of the cache


@summing_kernel
def multiply_rows(given: F32, matrix: F32, out: F32) -> None:
    """(M, K), (N, K) -> (M, N): a row of the matrix is read once for five of those given, or two, or one."""
    rows, width = given.shape
    for at in range(matrix.shape[0]):
        row = 0
        while row + 5 <= rows:
            a, b, c, d, e = np.float32(0), np.float32(0), np.float32(0), np.float32(0), np.float32(0)
            for i in range(width):
                factor = matrix[at, i]
                a += factor * given[row, i]
                b += factor * given[row + 1, i]
                c += factor * given[row + 2, i]
                d += factor * given[row + 3, i]
                e += factor * given[row + 4, i]
            out[row, at], out[row + 1, at], out[row + 2, at], out[row + 3, at], out[row + 4, at] = a, b, c, d, e
            row += 5
        while row + 2 <= rows:
            a, b = np.float32(0), np.float32(0)
            for i in range(width):
                factor = matrix[at, i]
                a += factor * given[row, i]
                b += factor * given[row + 1, i]
            out[row, at], out[row + 1, at] = a, b
            row += 2
        if row < rows:
            a = np.float32(0)
            for i in range(width):
                a += matrix[at, i] * given[row, i]
            out[row, at] = a


@contracting_kernel
def multiply_columns(given: F32, columns: F32, out: F32) -> None:
    """(M, K), (K, N) -> (M, N): a sum, which a cache holds, is read once for eight rows of columns; while they are
    multiplied, the next eight are fetched.
    """
    out[:] = 0
    width, size = columns.shape
    eights = width // 8 * 8
    for at in range(0, eights, 8):
        for i in range(0, 8 * size, LINE):
            prefetch(columns, (at + 8) * size + i)
        for row in range(given.shape[0]):
            a, b, c, d = given[row, at], given[row, at + 1], given[row, at + 2], given[row, at + 3]
            e, f, g, h = given[row, at + 4], given[row, at + 5], given[row, at + 6], given[row, at + 7]
            for i in range(size):
                out[row, i] += (
                    a * columns[at, i]
                    + b * columns[at + 1, i]
                    + c * columns[at + 2, i]
                    + d * columns[at + 3, i]
                    + e * columns[at + 4, i]
                    + f * columns[at + 5, i]
                    + g * columns[at + 6, i]
                    + h * columns[at + 7, i]
                )
    for at in range(eights, width):
        for row in range(given.shape[0]):
            for i in range(size):
                out[row, i] += given[row, at] * columns[at, i]


@contracting_kernel
def multiply_columns_once(given: F32, columns: F32, out: F32) -> None:
    """(K,), (K, N) -> (N,): for one row there is nothing to do but to read the columns, which a core does ahead."""
    out[:] = 0
    fours = len(given) // 4 * 4
    for at in range(0, fours, 4):
        a, b, c, d = given[at], given[at + 1], given[at + 2], given[at + 3]
        for i in range(len(out)):
            out[i] += a * columns[at, i] + b * columns[at + 1, i] + c * columns[at + 2, i] + d * columns[at + 3, i]
    for at in range(fours, len(given)):
        for i in range(len(out)):
            out[i] += given[at] * columns[at, i]


@intrinsic
def prefetch(typing: Any, array: Any, index: Any) -> Any:
    """Fetch the line of a cache that holds an entry, counted in the order of memory; an index may be out of bounds."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        place = builder.bitcast(builder.gep(data, [arguments[1]]), pointer)
        function = get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [pointer, number, number, number]), "llvm.prefetch.p0i8"
        )
        builder.call(function, [place, number(0), number(3), number(1)])  # to be read, into all caches, data
        return context.get_dummy_value()

    return types.void(array, types.intp), generate
