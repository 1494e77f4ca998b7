"""Affine quantization of rows: w ≈ (q − z)·s, a scale and a real zero point a group."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.kernels import Form
from workbench.quantize.affine.groups import GroupCodes, assign_codes, codes_error, decode_codes, fit_codes
from workbench.quantize.affine.search import search_groups
from workbench.quantize.encoding import FAST, Encoding
from workbench.quantize.error import Error


def encode_affine(
    weights: NDArray[Any],
    bits: int,
    group_size: int,
    symmetric: bool,
    tensor: str = "weights",
    row_start: int = 0,
    by_row: bool = False,
    measured: bool = True,
    encoding: Encoding = FAST,
) -> GroupCodes:
    """Quantize rows between the extremes of each group or, by the encoding, a better range.

    Parameters
    ----------
    weights : bfloat16, float16, float32 (others are converted to float32) [rows, cols]
    bits : int, 2 to 8
    group_size : int, a divisor of 4096
    symmetric : bool
        Zero point 2^(bits−1) instead of a fitted one.
    tensor, row_start : str, int
        What an error names.
    by_row : bool
        Keep the sums of each row apart, which takes longer where rows are short.
    measured : bool
        Without it the sums are not taken, which is quicker.
    encoding : Encoding
        How hard to look for the range, and what errors count.

    Raises
    ------
    ValidationError
        If a weight is NaN or Inf: names the tensor and the first such weight.
    """
    rows, cols = weights.shape
    is_by_row = by_row or cols % group_size != 0
    sums = np.zeros(((rows if is_by_row else 1) if measured else 0, 3))
    form = Form.FIXED if symmetric else Form.ZERO
    if encoding.effort == "fast":
        return GroupCodes(*fit_codes(weights, bits, group_size, form, sums, tensor, row_start), sums)
    _, scales, zero_points = fit_codes(weights, bits, group_size, form, sums[:0], tensor, row_start)
    single = np.dtype(np.float32)
    search_groups(weights, bits, group_size, form, single, encoding, scales, zero_points, tensor, row_start)
    codes = assign_codes(weights, bits, group_size, form, scales, zero_points, sums)
    return GroupCodes(codes, scales, zero_points, sums)


def decode_affine(
    codes: NDArray[np.uint8],
    scales: NDArray[np.float32],
    zero_points: NDArray[np.float32],
    cols: int,
    bits: int,
    group_size: int,
) -> NDArray[np.float32]:
    """Weights of quantized rows, float32 [rows, cols]: the inverse of `encode_affine`."""
    return decode_codes(codes, cols, bits, group_size, Form.ZERO, scales, zero_points)


def affine_error(
    weights: NDArray[Any],
    codes: NDArray[np.uint8],
    scales: NDArray[np.float32],
    zero_points: NDArray[np.float32],
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
    return codes_error(weights, codes, bits, group_size, Form.ZERO, scales, zero_points, tensor, row_start)
