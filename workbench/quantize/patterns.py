"""What the kernels take: weights as flat arrays of bit patterns, and room to work in."""

from __future__ import annotations

from typing import Any, NoReturn

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from workbench.errors import ValidationError, setting

BLOCK = 4096
"""Weights that a kernel takes at once."""


def room() -> tuple[NDArray[Any], ...]:
    """What the kernels `affine` and `offset` work in, in the order they take it; theirs alone as long as they run."""
    single = np.empty((3, BLOCK), np.float32)
    return (
        np.empty(BLOCK, np.uint32),
        np.empty(2 * BLOCK, np.int32),
        np.empty(BLOCK, np.uint8),
        *single,
        np.empty(BLOCK // 8 + 1, np.uint64),
    )


def patterns_of(weights: NDArray[Any]) -> tuple[NDArray[np.uint16 | np.uint32], bool]:
    """Bit patterns of weights for a kernel.

    Parameters
    ----------
    weights : ndarray
        bfloat16, float16 or float32, C-contiguous: seen without copying. Other floating dtypes (float64, float8)
        are converted to float32.

    Returns
    -------
    patterns : uint16 or uint32, flat
    is_half : bool
        Whether uint16 patterns are float16.
    """
    if weights.dtype == ml_dtypes.bfloat16:
        return weights.reshape(-1).view(np.uint16), False
    if weights.dtype == np.float16:
        return weights.reshape(-1).view(np.uint16), True
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes Inf, which the kernel reports
        single = np.ascontiguousarray(weights, np.float32)
    return single.reshape(-1).view(np.uint32), False


def raise_not_finite(weights: NDArray[Any], index: int, tensor: str, row_start: int) -> NoReturn:
    """Raise the error that the weight at a flat index of some rows of a tensor is NaN or Inf."""
    row, col = divmod(index, weights.shape[1])
    value = float(weights[row, col])
    beyond = "" if not np.isfinite(value) else " (beyond float32, in which weights are quantized)"
    raise ValidationError(
        f"Tensor {tensor!r} has {value}{beyond} at row {row_start + row}, column {col}. A weight that is not "
        "finite cannot be quantized: repair the checkpoint, or keep this layer in its dtype: "
        f"{setting('keep', tensor)}.",
        tensor=tensor,
        index=(row_start + row, col),
        value=value,
    )
