"""Affine quantization with an offset, w ≈ q·s + m, whose scale and offset are stored in a narrow dtype.

The codes are found for the scale and offset as they are stored, after rounding.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from workbench.kernels import Form
from workbench.quantize.affine.groups import GroupCodes, assign_codes, codes_error, decode_codes, range_groups
from workbench.quantize.affine.search import search_groups
from workbench.quantize.encoding import FAST, Encoding
from workbench.quantize.error import Error


def encode_offset(
    weights: NDArray[Any],
    bits: int,
    group_size: int,
    storage: np.dtype[Any],
    tensor: str = "weights",
    row_start: int = 0,
    encoding: Encoding = FAST,
    measured: bool = True,
) -> GroupCodes:
    """Quantize rows between the extremes of each group or, by the encoding, a better range, as a dtype stores it.

    Parameters
    ----------
    weights : bfloat16, float16, float32 (others are converted to float32) [rows, cols]
    bits : int, 2 to 8
    group_size : int, a divisor of 4096
    storage : dtype
        Of scales and offsets: bfloat16, float16 or float32. Each weight can be decoded in this dtype; of a group that
        spans more than float16 holds, both ends are cut off.
    tensor, row_start : str, int
        What an error names.
    encoding : Encoding
        How hard to look for the range, and what errors count.
    measured : bool
        Without it the sums are not taken, which is quicker.

    Raises
    ------
    ValidationError
        If a weight is NaN or Inf: names the tensor and the first such weight.
    """
    lows, highs = range_groups(weights, group_size, tensor, row_start)
    levels = (1 << bits) - 1
    stored = fit_range(lows, highs, levels, storage)
    scales, offsets = (values.astype(np.float32) for values in stored)
    search_groups(
        weights, bits, group_size, Form.OFFSET, storage, encoding, scales, offsets, tensor, row_start
    )
    if encoding.effort != "fast":
        beyond = ~is_decodable(scales, offsets, levels, storage)
        scales[beyond], offsets[beyond] = stored[0][beyond], stored[1][beyond]
    sums = np.zeros((len(weights) if measured else 0, 3))
    codes = assign_codes(weights, bits, group_size, Form.OFFSET, scales, offsets, sums)
    return GroupCodes(codes, scales.astype(storage), offsets.astype(storage), sums)


def decode_offset(
    codes: NDArray[np.uint8],
    scales: NDArray[Any],
    offsets: NDArray[Any],
    cols: int,
    bits: int,
    group_size: int,
) -> NDArray[np.float32]:
    """Weights of quantized rows, float32 [rows, cols]: the inverse of `encode_offset`."""
    return decode_codes(codes, cols, bits, group_size, Form.OFFSET, scales, offsets)


def offset_error(
    weights: NDArray[Any],
    codes: NDArray[np.uint8],
    scales: NDArray[Any],
    offsets: NDArray[Any],
    bits: int,
    group_size: int,
    tensor: str = "weights",
    row_start: int = 0,
) -> Error:
    """Error of quantized rows against their weights [rows, cols], without keeping what is decoded.

    Raises
    ------
    ValidationError
        If a weight is NaN or Inf.
    """
    return codes_error(weights, codes, bits, group_size, Form.OFFSET, scales, offsets, tensor, row_start)


def fit_range(
    lows: NDArray[np.float32], highs: NDArray[np.float32], levels: int, storage: np.dtype[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Scale and offset of groups with the given extremes, as they are stored."""
    largest = float(ml_dtypes.finfo(storage).max)
    if storage == np.float16:
        # A range wider than float16 is cut off at both ends alike.
        middle = (lows.astype(np.float64) + highs) / 2
        wide = highs.astype(np.float64) - lows > largest
        lows = np.where(wide, middle - largest / 2, lows).clip(-largest, largest).astype(np.float32)
    offsets = lows.astype(storage)
    with np.errstate(over="ignore"):
        exact = (highs.astype(np.float64) - offsets.astype(np.float64)) / levels
        # A product q·s must not overflow even where the range does.
        exact = np.clip(exact, 0.0, 0.98 * float(np.finfo(np.float32).max) / levels)
        if storage != np.float16:
            return exact.astype(storage), offsets
        most = np.minimum(largest, largest - offsets.astype(np.float64)) / levels
        return np.minimum(exact.astype(storage), rounded_down(most, storage)), offsets


def is_decodable(
    scales: NDArray[np.float32], offsets: NDArray[np.float32], levels: int, storage: np.dtype[Any]
) -> NDArray[np.bool_]:
    """Whether every code of each group decodes to a finite weight in the arithmetic of a dtype.

    A runtime multiplies before it adds: neither q·s nor q·s + m may be beyond the dtype.
    """
    largest = float(ml_dtypes.finfo(storage).max)
    top = levels * scales.astype(np.float64)
    found: NDArray[np.bool_] = (np.abs(offsets) <= largest) & (top <= largest) & (top + offsets <= largest)
    return found


def cut_groups(
    weights: NDArray[Any], scales: NDArray[Any], offsets: NDArray[Any], bits: int, group_size: int
) -> int:
    """Groups that span more than float16 decodes, and so lose more at their ends than rounding does."""
    if scales.dtype != np.float16:
        return 0
    levels = (1 << bits) - 1
    most = rounded_down(np.array([float(ml_dtypes.finfo(np.float16).max) / levels]), scales.dtype)
    count = 0
    for row, group in np.argwhere(scales == most):
        found = weights[row, group * group_size : (group + 1) * group_size].astype(np.float64)
        scale, low = float(scales[row, group]), float(offsets[row, group])
        beyond = max(low - found.min(), found.max() - (low + levels * scale))
        count += int(beyond > scale / 2)
    return count


def rounded_down(values: NDArray[np.float64], storage: np.dtype[Any]) -> NDArray[Any]:
    """Positive values in a dtype, none greater than it was."""
    found = values.astype(storage)
    pattern = found.view(f"u{storage.itemsize}")
    pattern -= (found.astype(np.float64) > values).astype(pattern.dtype)
    return found
