"""What the kernels take: weights as flat arrays of bit patterns, and room to work in."""

from __future__ import annotations

from typing import Any, NoReturn

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from workbench.errors import ValidationError, setting
from workbench.kernels import load_kernels

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


def check_finite(weights: NDArray[Any], tensor: str, rows: int | NDArray[np.int64] = 0) -> None:
    """Make sure that weights [rows, cols] of a tensor are finite.

    Kernels that encode find this out themselves; it is for what they do not see.

    Parameters
    ----------
    weights : ndarray
    tensor : str
        What an error names.
    rows : int or int64 [rows]
        The first row, or each.

    Raises
    ------
    ValidationError
        If a weight is NaN or Inf; it names the tensor and the first such weight.
    """
    if not weights.size:
        return
    patterns, is_half = patterns_of(weights)
    extremes = np.empty((2, -(-weights.size // BLOCK)), np.float32)
    bad = load_kernels().group_ranges(patterns, is_half, 1, weights.size, BLOCK, *extremes)
    if bad >= 0:
        row, col = divmod(bad, weights.shape[1])
        place = rows + row if isinstance(rows, int) else int(rows[row])
        raise_not_finite(weights[row : row + 1], col, tensor, place)


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
