"""Affine quantization of rows: w ≈ (q − z)·s, a scale and a real zero point a group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.kernels import load_kernels
from workbench.quantize.encoding import FAST, Encoding
from workbench.quantize.error import Error, error_of
from workbench.quantize.patterns import patterns_of, raise_not_finite, room
from workbench.quantize.search import Form, search_groups


@dataclass(frozen=True)
class Encoded:
    """Rows of a layer, quantized."""

    codes: NDArray[np.uint8]
    """[rows, ceil(cols·bits / 8)]: each row's codes as one LSB-first bitstream, padded to a whole byte."""
    scales: NDArray[np.float32]
    """[rows, groups]; groups run along the row, the last may be short."""
    zero_points: NDArray[np.float32]
    """[rows, groups]; real numbers, not rounded."""
    sums: NDArray[np.float64]
    """‖δ‖², ‖w‖² and w·δ: [rows, 3] where asked for by row, or [1, 3]; [0, 3] where not measured."""

    @property
    def error(self) -> Error:
        """What the codes lose."""
        return error_of(self.sums)


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
) -> Encoded:
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
    groups = -(-cols // group_size)
    codes = np.empty((rows, (cols * bits + 7) // 8), np.uint8)
    scales = np.empty((rows, groups), np.float32)
    zero_points = np.empty((rows, groups), np.float32)
    sums = np.zeros((1, 3))
    patterns, is_half = patterns_of(weights)
    bad = -1
    if cols % group_size == 0 and not by_row:
        # No group crosses a row and no row ends within a byte, so the rows can be taken as a single long one.
        kernel_rows, kernel_cols = 1, rows * cols
    else:
        kernel_rows, kernel_cols = rows, cols
        sums = np.zeros((rows, 3))
    if not measured:
        sums = np.zeros((0, 3))
    is_searched = encoding.effort != "fast"
    if weights.size:
        bad = load_kernels().affine_encode(
            patterns, is_half, kernel_rows, kernel_cols, bits, group_size, symmetric,
            codes.reshape(-1), scales.reshape(-1), zero_points.reshape(-1), sums[: 0 if is_searched else None], *room(),
        )  # fmt: skip
    if bad >= 0:
        raise_not_finite(weights, bad, tensor, row_start)
    if weights.size and is_searched:
        form = Form.FIXED if symmetric else Form.ZERO
        single = np.dtype(np.float32)
        search_groups(
            weights, bits, group_size, form, single, encoding, scales, zero_points, tensor, row_start
        )
        load_kernels().affine_assign(
            patterns, is_half, kernel_rows, kernel_cols, bits, group_size,
            scales.reshape(-1), zero_points.reshape(-1), codes.reshape(-1), sums, *room(),
        )  # fmt: skip
    return Encoded(codes, scales, zero_points, sums)


def decode_affine(
    codes: NDArray[np.uint8],
    scales: NDArray[np.float32],
    zero_points: NDArray[np.float32],
    cols: int,
    bits: int,
    group_size: int,
) -> NDArray[np.float32]:
    """Weights of quantized rows, float32 [rows, cols]: the inverse of `encode_affine`."""
    rows = len(codes)
    decoded = np.empty((rows, cols), np.float32)
    if decoded.size:
        load_kernels().affine_decode(
            codes.reshape(-1), rows, cols, bits, group_size,
            scales.reshape(-1), zero_points.reshape(-1), decoded.reshape(-1), *room(),
        )  # fmt: skip
    return decoded


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
    rows, cols = weights.shape
    sums = np.zeros((rows, 3))
    patterns, is_half = patterns_of(weights)
    bad = -1
    if weights.size:
        bad = load_kernels().affine_error(
            patterns, is_half, codes.reshape(-1), rows, cols, bits, group_size,
            scales.reshape(-1), zero_points.reshape(-1), sums, *room(),
        )  # fmt: skip
    if bad >= 0:
        raise_not_finite(weights, bad, tensor, row_start)
    return error_of(sums)
