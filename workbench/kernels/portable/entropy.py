"""`kernels_pythran.entropy` in NumPy."""

from __future__ import annotations

import numpy as np

from workbench.kernels.portable.tiles import (
    TILE,
    Array,
    by_row,
    byte_range,
    first_not_finite,
    tiles,
    unpack,
    widen,
)

__all__ = ["code_counts", "histogram"]


def code_counts(packed: Array, rows: int, cols: int, bits: int, counts: Array) -> None:
    """Add the occurrences of each code in rows of packed codes to counts."""
    stream = by_row(packed, rows)
    for r, c in tiles(rows, cols):
        integers = unpack(stream[r, byte_range(c, bits)], c.stop - c.start, bits)
        counts += np.bincount(integers.ravel(), minlength=1 << bits)


def histogram(source: Array, is_half: bool, low: float, high: float, counts: Array) -> int:
    """Add the number of values in each of len(counts) equal bins between low and high to counts."""
    bins = counts.size
    width = high / 2.0 - low / 2.0
    factor = min(bins / 2.0 / width, float(np.finfo(np.float64).max)) if width > 0.0 else 0.0
    for start in range(0, source.size, TILE):
        values = widen(source[start : start + TILE], is_half)
        bad = first_not_finite(values)
        if bad >= 0:
            return start + bad
        with np.errstate(over="ignore", invalid="ignore"):
            position = (values.astype(np.float64) - low) * factor
        # fmax takes 0 for the NaN that bounds which are not finite would give.
        position = np.fmin(np.fmax(position, 0.0), bins - 1.0)
        counts += np.bincount(position.astype(np.int64), minlength=bins)
    return -1
