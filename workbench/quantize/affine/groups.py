"""Rows of grouped affine codes, of any form: extremes of groups, codes, what they decode to, and their error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.kernels import Form, load_kernels
from workbench.quantize.error import Error, error_of
from workbench.quantize.patterns import patterns_of, raise_not_finite, room


@dataclass(frozen=True)
class GroupCodes:
    """Rows of a layer as grouped affine codes."""

    codes: NDArray[np.uint8]
    """[rows, ceil(cols·bits / 8)]: each row's codes as one LSB-first bitstream, padded to a whole byte."""
    scales: NDArray[Any]
    """[rows, groups] as they are stored; groups run along the row, the last may be short."""
    origins: NDArray[Any]
    """[rows, groups] as they are stored: offsets or zero points, see `workbench.kernels.Form`."""
    sums: NDArray[np.float64]
    """‖δ‖², ‖w‖² and w·δ: [rows, 3] by row, [1, 3] of all, or [0, 3] where not measured."""

    @property
    def error(self) -> Error:
        """What the codes lose."""
        return error_of(self.sums)


def range_groups(
    weights: NDArray[Any], group_size: int, tensor: str, row_start: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Least and greatest weight of each group, float32 [rows, groups] each.

    Raises
    ------
    ValidationError
        If a weight is NaN or Inf: names the tensor and the first such weight.
    """
    rows, cols = weights.shape
    lows, highs = np.empty((2, rows, -(-cols // group_size)), np.float32)
    patterns, is_half = patterns_of(weights)
    bad = load_kernels().group_ranges(
        patterns, is_half, rows, cols, group_size, lows.reshape(-1), highs.reshape(-1)
    )
    if bad >= 0:
        raise_not_finite(weights, bad, tensor, row_start)
    return lows, highs


def fit_codes(
    weights: NDArray[Any],
    bits: int,
    group_size: int,
    form: Form,
    sums: NDArray[np.float64],
    tensor: str,
    row_start: int,
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Packed codes, scales and origins of groups, rounded to nearest between their extremes.

    Parameters
    ----------
    weights : bfloat16, float16, float32 (others are converted to float32) [rows, cols]
    bits : int, 2 to 8
    group_size : int, a divisor of 4096
    form : Form
        `Form.ZERO` or `Form.FIXED`.
    sums : float64 [rows, 3], [1, 3] or [0, 3], added to
        ‖δ‖², ‖w‖² and w·δ of each row, or of all where no group is short, or not measured.
    tensor, row_start : str, int
        What an error names.

    Raises
    ------
    ValidationError
        If a weight is NaN or Inf: names the tensor and the first such weight.
    """
    codes = _room_for_codes(weights, bits)
    scales, origins = np.empty((2, len(weights), -(-weights.shape[1] // group_size)), np.float32)
    patterns, is_half = patterns_of(weights)
    if weights.size:
        bad = load_kernels().affine_encode(
            patterns, is_half, *_kernel_shape(weights, group_size, sums), bits, group_size, int(form),
            scales.reshape(-1), origins.reshape(-1), codes.reshape(-1), sums, *room(),
        )  # fmt: skip
        if bad >= 0:
            raise_not_finite(weights, bad, tensor, row_start)
    return codes, scales, origins


def assign_codes(
    weights: NDArray[Any],
    bits: int,
    group_size: int,
    form: Form,
    scales: NDArray[np.float32],
    origins: NDArray[np.float32],
    sums: NDArray[np.float64],
) -> NDArray[np.uint8]:
    """Packed codes, the nearest for given scales and origins [rows, groups]; parameters are those of `fit_codes`.

    The weights are finite: `range_groups` or `fit_codes` has looked.
    """
    codes = _room_for_codes(weights, bits)
    patterns, is_half = patterns_of(weights)
    if weights.size:
        load_kernels().affine_assign(
            patterns, is_half, *_kernel_shape(weights, group_size, sums), bits, group_size, int(form),
            scales.reshape(-1), origins.reshape(-1), codes.reshape(-1), sums, *room(),
        )  # fmt: skip
    return codes


def decode_codes(
    codes: NDArray[np.uint8],
    cols: int,
    bits: int,
    group_size: int,
    form: Form,
    scales: NDArray[Any],
    origins: NDArray[Any],
) -> NDArray[np.float32]:
    """Weights of packed codes, float32 [rows, cols]."""
    decoded = np.empty((len(codes), cols), np.float32)
    if decoded.size:
        load_kernels().affine_decode(
            codes.reshape(-1), len(codes), cols, bits, group_size, int(form),
            _single(scales), _single(origins), decoded.reshape(-1), *room(),
        )  # fmt: skip
    return decoded


def codes_error(
    weights: NDArray[Any],
    codes: NDArray[np.uint8],
    bits: int,
    group_size: int,
    form: Form,
    scales: NDArray[Any],
    origins: NDArray[Any],
    tensor: str,
    row_start: int,
) -> Error:
    """Error of packed codes against their weights [rows, cols], without keeping what is decoded.

    Raises
    ------
    ValidationError
        If a weight is NaN or Inf: names the tensor and the first such weight.
    """
    rows, cols = weights.shape
    sums = np.zeros((rows, 3))
    patterns, is_half = patterns_of(weights)
    if weights.size:
        bad = load_kernels().affine_error(
            patterns, is_half, codes.reshape(-1), rows, cols, bits, group_size, int(form),
            _single(scales), _single(origins), sums, *room(),
        )  # fmt: skip
        if bad >= 0:
            raise_not_finite(weights, bad, tensor, row_start)
    return error_of(sums)


def _room_for_codes(weights: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    rows, cols = weights.shape
    return np.empty((rows, (cols * bits + 7) // 8), np.uint8)


def _kernel_shape(weights: NDArray[Any], group_size: int, sums: NDArray[np.float64]) -> tuple[int, int]:
    """Rows and columns for the kernel: one long row, which is quicker, where that changes nothing."""
    rows, cols = weights.shape
    # No group crosses a row, no row ends within a byte, and nobody asks for sums by row.
    if cols % group_size == 0 and group_size % 8 == 0 and len(sums) < 2:
        return 1, rows * cols
    return rows, cols


def _single(values: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(values, np.float32).reshape(-1)
