"""Weights as float16, for rows that no block format fits."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from workbench.quantize.patterns import raise_not_finite

HALF: Final = "F16"
LARGEST = 65504.0


def to_half(weights: NDArray[Any]) -> NDArray[np.float16]:
    """Weights rounded to float16, half to even; what is beyond its range becomes ±65504."""
    wide = weights if weights.dtype.itemsize > 2 else weights.astype(np.float32)
    rounded: NDArray[np.float16] = np.clip(wide, -LARGEST, LARGEST).astype(np.float16)
    return rounded


def half_trial(
    weights: NDArray[Any], tensor: str, row_start: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """‖δ‖², ‖w‖² and w·δ of each row as float16, [rows, 3], and the occurrences of each pattern, [2**16].

    Raises
    ------
    ValidationError
        If a weight is NaN or Inf.
    """
    half = to_half(weights)
    values = weights.astype(np.float64)
    finite = np.isfinite(values)
    if not finite.all():
        raise_not_finite(weights, int(np.argmin(finite)), tensor, row_start)
    delta = values - half.astype(np.float64)
    sums = np.stack([(delta**2).sum(axis=1), (values**2).sum(axis=1), (values * delta).sum(axis=1)], axis=1)
    return sums, np.bincount(half.reshape(-1).view(np.uint16), minlength=1 << 16)
