"""`kernels_pythran.extremes` in NumPy."""

from __future__ import annotations

import numpy as np

from workbench.kernels.portable.tiles import Array, by_row, each_run, first_not_finite, tiles, widen

__all__ = ["group_ranges"]


def group_ranges(
    source: Array, is_half: bool, rows: int, cols: int, group: int, lows: Array, highs: Array
) -> int:
    """Least and greatest weight of each group."""
    weights = source.reshape(rows, cols)
    low, high = by_row(lows, rows), by_row(highs, rows)
    for r, c in tiles(rows, cols):
        values = widen(weights[r, c], is_half)
        bad = first_not_finite(values)
        if bad >= 0:
            return int(r.start * cols + c.start + bad)
        for at, v in each_run(c, group, values):
            # Adding zero makes −0 the same as 0.
            low[r, at] = v.min(axis=2) + np.float32(0.0)
            high[r, at] = v.max(axis=2) + np.float32(0.0)
    return -1
