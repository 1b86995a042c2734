"""Masks that are kept once, however many states have them.

digest(mask)                               # equal masks have the same
equal(mask, other)
"""

from __future__ import annotations

from genctl.kernels.compiled import kernel, wide, wrapping
from genctl.kernels.records import U32


@wrapping(kernel)
def digest(mask: U32) -> int:
    """A hash of a packed mask: a sum, so that the words are taken several at a time."""
    total = wide(0)
    for i in range(mask.shape[0]):
        word = (wide(mask[i]) + 0x632BE5AB * i) * 0x1E3779B97F4A7C15
        total += word ^ (word >> 31)
    return total


@kernel
def equal(mask: U32, other: U32) -> bool:
    """Of two masks with as many words."""
    differing = wide(0)
    for i in range(mask.shape[0]):
        differing |= wide(mask[i]) ^ wide(other[i])
    return differing == 0
