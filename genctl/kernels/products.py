"""Products of few rows with a matrix that no cache holds, about as fast as one core reads the matrix.

multiply_rows(given, matrix, out)            # out = given @ matrix.T
multiply_columns(given, columns, out)        # out = given @ columns, for one row
"""

from __future__ import annotations

import numpy as np

from genctl.kernels.compiled import contracting_kernel, summing_kernel
from genctl.kernels.records import F32


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
    """(K,), (K, N) -> (N,): what has been summed, which a cache holds, is read once for four rows of columns."""
    out[:] = 0
    fours = len(given) // 4 * 4
    for at in range(0, fours, 4):
        a, b, c, d = given[at], given[at + 1], given[at + 2], given[at + 3]
        for i in range(len(out)):
            out[i] += a * columns[at, i] + b * columns[at + 1, i] + c * columns[at + 2, i] + d * columns[at + 3, i]
    for at in range(fours, len(given)):
        for i in range(len(out)):
            out[i] += given[at] * columns[at, i]
