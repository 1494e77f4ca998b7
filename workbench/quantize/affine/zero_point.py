"""Affine quantization with an integer zero point, w ≈ (q − z)·s, whose scale is stored in a narrow dtype.

Codes q and zero points z are unsigned, 0 to 2^bits − 1. As the zero point must lie among the codes, a group's range
reaches zero. The codes are found for the scale as it is stored, after rounding.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from workbench.kernels import Form
from workbench.quantize.affine.groups import GroupCodes, assign_codes, codes_error, decode_codes, range_groups
from workbench.quantize.affine.offset import rounded_down
from workbench.quantize.affine.search import search_groups
from workbench.quantize.encoding import FAST, Encoding
from workbench.quantize.error import Error

RUN = 4096
"""Weights that a kernel takes together at most: a longer group is a run of such groups that share a scale."""


def encode_zero_point(
    weights: NDArray[Any],
    bits: int,
    group_size: int,
    symmetric: bool,
    storage: np.dtype[Any],
    tensor: str = "weights",
    row_start: int = 0,
    encoding: Encoding = FAST,
    measured: bool = True,
) -> GroupCodes:
    """Quantize rows between the extremes of each group and zero or, by the encoding, a better range.

    Parameters
    ----------
    weights : bfloat16, float16, float32 (others are converted to float32) [rows, cols]
    bits : int, 2 to 8
    group_size : int
        A divisor of 4096, or `cols`: one group a row.
    symmetric : bool
        Zero point 2^(bits−1) instead of a fitted one.
    storage : dtype
        Of the scales: bfloat16, float16 or float32. No decoded weight overflows it.
    tensor, row_start : str, int
        What an error names.
    encoding : Encoding
        How hard to look for the range, and what errors count; groups of a whole long row are not searched.
    measured : bool
        Without it the sums are not taken, which is quicker.

    Raises
    ------
    ValidationError
        If a weight is NaN or Inf: names the tensor and the first such weight.
    """
    rows = len(weights)
    group, repeats = _runs(weights.shape[1], group_size)
    lows, highs = range_groups(weights, group, tensor, row_start)
    if repeats > 1:
        lows, highs = lows.min(axis=1, keepdims=True), highs.max(axis=1, keepdims=True)
    scales, zero_points = fit_through_zero(lows, highs, bits, symmetric, storage)
    single = scales.astype(np.float32)
    if repeats == 1:
        form = Form.FIXED if symmetric else Form.WHOLE
        origins = zero_points.astype(np.float32)
        search_groups(weights, bits, group, form, storage, encoding, single, origins, tensor, row_start)
        if encoding.effort != "fast":
            levels = (1 << bits) - 1
            farthest = np.maximum(origins, levels - origins) * single.astype(np.float64)
            # A code that no weight of a constant group has need not be finite.
            beyond = (farthest > float(ml_dtypes.finfo(storage).max)) & (single != scales.astype(np.float32))
            single[beyond], origins[beyond] = scales[beyond], zero_points[beyond]
        scales, zero_points = single.astype(storage), origins.astype(np.uint8)
    offsets = -zero_points.astype(np.float32) * single
    sums = np.zeros((rows if measured else 0, 3))
    codes = assign_codes(
        weights, bits, group, Form.OFFSET, _repeated(single, repeats), _repeated(offsets, repeats), sums
    )
    if not np.isfinite(sums).all():
        # The kernel decodes as q·s − z·s, whose parts may overflow where (q − z)·s does not.
        for row in range(rows):
            error = zero_point_error(
                weights[row : row + 1], codes[row : row + 1], single[row : row + 1],
                zero_points[row : row + 1], bits, group_size,
            )  # fmt: skip
            sums[row] = error.noise, error.signal, error.cross
    return GroupCodes(codes, scales, zero_points, sums)


def decode_zero_point(
    codes: NDArray[np.uint8],
    scales: NDArray[Any],
    zero_points: NDArray[np.uint8],
    cols: int,
    bits: int,
    group_size: int,
) -> NDArray[np.float32]:
    """Weights of quantized rows, float32 [rows, cols]: (q − z)·s, not rounded to the dtype of the scales."""
    group, repeats = _runs(cols, group_size)
    s, z = (_repeated(part.astype(np.float32), repeats) for part in (scales, zero_points))
    return decode_codes(codes, cols, bits, group, Form.WHOLE, s, z)


def zero_point_error(
    weights: NDArray[Any],
    codes: NDArray[np.uint8],
    scales: NDArray[Any],
    zero_points: NDArray[np.uint8],
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
    group, repeats = _runs(weights.shape[1], group_size)
    s, z = (_repeated(part.astype(np.float32), repeats) for part in (scales, zero_points))
    return codes_error(weights, codes, bits, group, Form.WHOLE, s, z, tensor, row_start)


def fit_through_zero(
    lows: NDArray[np.float32], highs: NDArray[np.float32], bits: int, symmetric: bool, storage: np.dtype[Any]
) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Scale, as it is stored, and zero point of groups with the given extremes.

    A constant group is exact: its scale is its magnitude. Elsewhere the scale is the range, which includes zero, over
    2^bits − 1; if symmetric, twice the magnitude over that.
    """
    levels, half = (1 << bits) - 1, 1 << (bits - 1)
    low, high = np.minimum(lows, 0).astype(np.float64), np.maximum(highs, 0).astype(np.float64)
    peak = np.maximum(-low, high)
    # The product of zero point and scale must be finite in float32.
    constant = (lows == highs) & (peak * (half if symmetric else 1) <= float(np.finfo(np.float32).max))
    width = 2 * peak if symmetric else high - low
    ideal = np.where(constant, np.where(peak > 0, peak, 1.0), width / levels)
    # A scale that rounds to zero would lose the group.
    finfo = ml_dtypes.finfo(storage)
    with np.errstate(over="ignore"):
        scales = np.maximum(ideal.astype(storage), finfo.smallest_subnormal)
    if symmetric:
        zero_points = np.full(scales.shape, half, np.uint8)
    else:
        found = np.clip(np.rint(-low / scales.astype(np.float64)), 0, levels)
        zero_points = np.where(constant, low < 0, found).astype(np.uint8)
    farthest = np.maximum(zero_points, levels - zero_points).astype(np.float64)
    farthest[constant] = 1
    # No code may decode to more than the dtype holds.
    return np.minimum(scales, rounded_down(float(finfo.max) / farthest, storage)), zero_points


def _runs(cols: int, group_size: int) -> tuple[int, int]:
    """The group size for the kernels, and how many of their groups share a scale."""
    if RUN % group_size == 0:
        return group_size, 1
    return RUN, -(-cols // RUN)


def _repeated(values: NDArray[np.float32], repeats: int) -> NDArray[np.float32]:
    return np.repeat(values, repeats, axis=1).reshape(-1) if repeats > 1 else values.reshape(-1)
