"""Products of few rows with a matrix that no cache holds, about as fast as one core reads the matrix.

multiply_rows(given, matrix, out)            # out = given @ matrix.T
multiply_columns(given, columns, out)        # out = given @ columns; multiply_columns_once for one row

A core waits where it asks for more of the memory than is on its way. So what is multiplied next is fetched bit by bit,
while what is there is multiplied for all rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from genctl.kernels.compiled import contracting_kernel, inlined, kernel, wide
from genctl.kernels.lanes import LANES, load, multiply_add, prefetch, spread, store, total
from genctl.kernels.records import F32

PART = 640  # columns whose eight rows, the next ones and the sums a first cache holds
ZERO = np.float32(0)


@kernel
def multiply_rows(given: F32, matrix: F32, out: F32) -> None:
    """(M, K), (N, K) -> (M, N): four rows of the matrix with four of those given at a time.

    Where there are not four, the last one takes the place of those that are missing.
    """
    rows, (size, width) = given.shape[0], matrix.shape
    whole, groups = width // LANES * LANES, (rows + 3) // 4
    for n in range(0, size, 4):
        if rows == 1:
            multiply_four_with_one(given, matrix, out, n, whole)
        else:
            for group in range(groups):
                fetched = 4 * group // groups, 4 * (group + 1) // groups
                multiply_fours(given, matrix, out, 4 * group, n, whole, fetched)
    if whole < width:
        for row in range(rows):
            for n in range(size):
                for k in range(whole, width):
                    out[row, n] += given[row, k] * matrix[n, k]


@inlined
def multiply_fours(given: F32, matrix: F32, out: F32, row: int, n: int, whole: int, fetched: tuple[int, int]) -> None:
    """Sixteen sums; while they are made, some of the next four rows of the matrix are fetched."""
    width = matrix.shape[1]
    i, j = four_from(row, given.shape[0]), four_from(n, matrix.shape[0])
    none = spread(ZERO)
    a, b = (none, none, none, none), (none, none, none, none)
    c, d = (none, none, none, none), (none, none, none, none)
    for k in range(0, whole, LANES):
        fetch(matrix, (n + 4 + fetched[0]) * width + k, width, fetched[1] - fetched[0])
        factors = load_four(matrix, j, k)
        a = add_four(load(given, i[0] * width + k), factors, a)
        b = add_four(load(given, i[1] * width + k), factors, b)
        c = add_four(load(given, i[2] * width + k), factors, c)
        d = add_four(load(given, i[3] * width + k), factors, d)
    store_totals(out, i[0], j, a)
    store_totals(out, i[1], j, b)
    store_totals(out, i[2], j, c)
    store_totals(out, i[3], j, d)


@inlined
def multiply_four_with_one(given: F32, matrix: F32, out: F32, n: int, whole: int) -> None:
    """Four sums of the only row."""
    j, none = four_from(n, matrix.shape[0]), spread(ZERO)
    sums = none, none, none, none
    for k in range(0, whole, LANES):
        fetch(matrix, (n + 4) * matrix.shape[1] + k, matrix.shape[1], 4)
        sums = add_four(load(given, k), load_four(matrix, j, k), sums)
    store_totals(out, 0, j, sums)


@inlined
def four_from(first: int, count: int) -> tuple[int, int, int, int]:
    """Four numbers below the count."""
    last = count - 1
    return first, min(first + 1, last), min(first + 2, last), min(first + 3, last)


@inlined
def load_four(matrix: F32, rows: tuple[int, int, int, int], k: int) -> Any:
    width = matrix.shape[1]
    first, second = load(matrix, rows[0] * width + k), load(matrix, rows[1] * width + k)
    return first, second, load(matrix, rows[2] * width + k), load(matrix, rows[3] * width + k)


@inlined
def add_four(factor: Any, factors: Any, sums: Any) -> Any:
    first, second = multiply_add(factor, factors[0], sums[0]), multiply_add(factor, factors[1], sums[1])
    return first, second, multiply_add(factor, factors[2], sums[2]), multiply_add(factor, factors[3], sums[3])


@inlined
def store_totals(out: F32, row: int, columns: tuple[int, int, int, int], sums: Any) -> None:
    out[row, columns[0]], out[row, columns[1]] = total(sums[0]), total(sums[1])
    out[row, columns[2]], out[row, columns[3]] = total(sums[2]), total(sums[3])


@inlined
def fetch(matrix: F32, place: int, width: int, count: int) -> None:
    """An entry and those below it; as a loop, one or two would take as long as the products between."""
    if count == 1:
        prefetch(matrix, place)
    elif count == 2:
        prefetch(matrix, place)
        prefetch(matrix, place + width)
    elif count > 0:
        for below in range(count):
            prefetch(matrix, place + below * width)


@kernel
def multiply_columns(given: F32, columns: F32, out: F32) -> None:
    """(M, K), (K, N) -> (M, N): eight rows of some columns with two of those given at a time.

    Of an odd number the last one is multiplied twice.
    """
    out[:] = 0
    rows, (width, size) = given.shape[0], columns.shape
    eights, whole, pairs = width // 8 * 8, size // LANES * LANES, (rows + 1) // 2
    parts = (whole + PART - 1) // PART
    for part in range(parts):
        first, end = part * whole // parts // LANES * LANES, (part + 1) * whole // parts // LANES * LANES
        for k in range(0, eights, 8):
            for pair in range(pairs):
                fetched = 8 * pair // pairs, 8 * (pair + 1) // pairs
                add_eights(given, columns, out, 2 * pair, k, first, end, fetched)
    add_products(given, columns, out, wide(0), wide(eights), wide(whole))
    add_products(given, columns, out, wide(eights), wide(width), wide(0))


@inlined
def add_eights(
    given: F32, columns: F32, out: F32, row: int, k: int, first: int, end: int, fetched: tuple[int, int]
) -> None:
    """For two rows; while they are multiplied, some of the next eight rows of the columns are fetched."""
    size, other = columns.shape[1], min(row + 1, given.shape[0] - 1)
    a, b, c, d = spread_four(given, row, k)
    e, f, g, h = spread_four(given, row, k + 4)
    p, q, r, s = spread_four(given, other, k)
    t, u, v, w = spread_four(given, other, k + 4)
    ahead = (k + 8 + fetched[0]) * size
    count = fetched[1] - fetched[0]
    for i in range(first, end, LANES):
        fetch(columns, ahead + i, size, count)
        place = k * size + i
        x, y = load(out, row * size + i), load(out, other * size + i)
        factor = load(columns, place)
        x, y = multiply_add(a, factor, x), multiply_add(p, factor, y)
        factor = load(columns, place + size)
        x, y = multiply_add(b, factor, x), multiply_add(q, factor, y)
        factor = load(columns, place + 2 * size)
        x, y = multiply_add(c, factor, x), multiply_add(r, factor, y)
        factor = load(columns, place + 3 * size)
        x, y = multiply_add(d, factor, x), multiply_add(s, factor, y)
        factor = load(columns, place + 4 * size)
        x, y = multiply_add(e, factor, x), multiply_add(t, factor, y)
        factor = load(columns, place + 5 * size)
        x, y = multiply_add(f, factor, x), multiply_add(u, factor, y)
        factor = load(columns, place + 6 * size)
        x, y = multiply_add(g, factor, x), multiply_add(v, factor, y)
        factor = load(columns, place + 7 * size)
        x, y = multiply_add(h, factor, x), multiply_add(w, factor, y)
        store(out, row * size + i, x)
        store(out, other * size + i, y)


@inlined
def spread_four(given: F32, row: int, k: int) -> Any:
    first, second = spread(given[row, k]), spread(given[row, k + 1])
    return first, second, spread(given[row, k + 2]), spread(given[row, k + 3])


@contracting_kernel
def add_products(given: F32, columns: F32, out: F32, first: int, end: int, column: int) -> None:
    """Of some rows of the columns, from a column on."""
    for row in range(given.shape[0]):
        for k in range(first, end):
            for i in range(column, columns.shape[1]):
                out[row, i] += given[row, k] * columns[k, i]


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
