"""`kernels_pythran.moments` in NumPy."""

from __future__ import annotations

import numpy as np

from workbench.kernels.portable.tiles import TILE, Array, add_error, first_not_finite, tiles, widen

__all__ = ["error_sums", "moments"]


def moments(source: Array, is_half: bool, center: float, scale: float, results: Array) -> int:
    """Extremes and the sums of the first four powers of (w − center)·scale."""
    for start in range(0, source.size, TILE):
        values = widen(source[start : start + TILE], is_half)
        bad = first_not_finite(values)
        if bad >= 0:
            return start + bad
        results[0] = min(results[0], values.min())
        results[1] = max(results[1], values.max())
        x = (values.astype(np.float64) - center) * scale
        y = x * x
        results[2:] += x.sum(), y.sum(), x @ y, y @ y
    return -1


def error_sums(source: Array, is_half: bool, decoded: Array, cols: int, sums: Array) -> int:
    """Add ‖δ‖², ‖w‖² and w·δ of decoded weights against their source to sums, row by row."""
    rows = len(sums)
    weights, other = source.reshape(rows, cols), decoded.reshape(rows, cols)
    for r, c in tiles(rows, cols):
        values = widen(weights[r, c], is_half)
        bad = first_not_finite(values)
        if bad >= 0:
            return int(r.start * cols + c.start + bad)
        # Decoded weights of another's making may be infinite; then so is their error.
        with np.errstate(over="ignore"):
            delta = values - other[r, c]
        add_error(values, delta, sums[r])
    return -1
