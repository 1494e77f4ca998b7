"""`kernels_pythran.channels` in NumPy."""

from __future__ import annotations

import numpy as np

from workbench.kernels.portable.tiles import Array, tiles, widen

__all__ = ["channel_sums", "output_energy"]


def channel_sums(
    source: Array,
    is_half: bool,
    places: int,
    sums: Array,
    overall: Array,
    spots: Array,
    sample: Array,
    *scratch: Array,
) -> None:
    """Σx, Σx² and greatest |x| of each channel; Σx, Σx², least and greatest x of all; |x| at some spots."""
    sample[:] = np.abs(widen(source[spots], is_half))
    sums[:] = 0.0
    overall[2:] = np.inf, -np.inf
    width = sums.shape[1] * places
    vectors = source.reshape(-1, width)
    owner = np.arange(width) // places
    # A value that is not finite makes the sums so, which is all that is asked.
    with np.errstate(invalid="ignore", over="ignore"):
        for rows, columns in tiles(*vectors.shape):
            x = widen(vectors[rows, columns], is_half).astype(np.float64)
            np.add.at(sums[0], owner[columns], x.sum(axis=0))
            np.add.at(sums[1], owner[columns], np.square(x).sum(axis=0))
            np.maximum.at(sums[2], owner[columns], np.abs(x).max(axis=0))
            overall[2:] = min(overall[2], x.min()), max(overall[3], x.max())
        overall[:2] = sums[:2].sum(axis=1)


def output_energy(source: Array, is_half: bool, places: int, bias: Array, *scratch: Array) -> float:
    """Σ (y − bias)² over all values of an output."""
    middle = np.repeat(bias, places).astype(np.float64)
    vectors = source.reshape(-1, middle.size)
    total = 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        for rows, columns in tiles(*vectors.shape):
            deviations = widen(vectors[rows, columns], is_half) - middle[columns]
            total += float(np.square(deviations).sum())
    return total
