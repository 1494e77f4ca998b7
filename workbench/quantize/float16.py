"""Weights as float16, for rows that no block format fits."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

FLOAT16: Final = "F16"
"""GGML's name of the type."""

LARGEST = 65504.0


def to_float16(weights: NDArray[Any]) -> NDArray[np.float16]:
    """Weights rounded to float16, half to even; what is beyond its range becomes ±65504."""
    wide = weights if weights.dtype.itemsize > 2 else weights.astype(np.float32)
    rounded: NDArray[np.float16] = np.clip(wide, -LARGEST, LARGEST).astype(np.float16)
    return rounded


def count_float16(values: NDArray[np.float16]) -> NDArray[np.int64]:
    """Occurrences of each pattern, int64 [2**16]."""
    return np.bincount(values.reshape(-1).view(np.uint16), minlength=1 << 16)
