"""`kernels_pythran.patterns` in NumPy."""

from __future__ import annotations

import numpy as np

from workbench.kernels.portable.tiles import TILE, Array

__all__ = ["count_patterns"]


def count_patterns(source: Array, counts: Array) -> None:
    """Add the occurrences of each 16-bit pattern, of float32 the upper half, to counts."""
    shift = 8 * (source.itemsize - 2)
    for start in range(0, source.size, TILE):
        counts += np.bincount(source[start : start + TILE] >> shift, minlength=counts.size)
