"""Compiled inner loops: arrays and records of arrays in, arrays out.

Kernels are compiled on first use and kept on disk by numba (next to the source, or in the user's cache folder
where that is read-only; NUMBA_CACHE_DIR overrides). tests/test_kernels.py compares each with the slow, obvious way, and
runs them uncompiled too, under NUMBA_DISABLE_JIT=1. The first process that imports them starts another
one that compiles ahead of it (genctl/ahead.py).
"""

from genctl import ahead

ahead.begin()
