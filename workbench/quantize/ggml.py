"""Quantization into the block formats of GGML, which GGUF files hold: Q4_0 to Q8_0 and the K-quants.

A block is 32 weights with a float16 scale (and minimum), or 256 weights in groups of 16 or 32, whose own scales are
small integers times a float16 factor (https://github.com/ggml-org/ggml, ggml-common.h and ggml-quants.c).

A float16 scale cannot hold every weight: scales beyond it become ±65504, so that larger weights are cut off, and
weights far below its smallest step, 6e-8, become zero. Codes are always chosen for the scale as it is stored, nothing
stored is ever infinite or NaN, and the error that is measured says what was lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.kernels import load_kernels
from workbench.quantize.encoding import FAST, Encoding
from workbench.quantize.error import Error, error_of
from workbench.quantize.ggml_layout import Layout, layout_of
from workbench.quantize.patterns import patterns_of, raise_not_finite


@dataclass(frozen=True)
class BlockFormat:
    """A block format of GGML."""

    name: str
    """Such as ``"Q4_K"``."""
    number: int
    """Its ``ggml_type``."""
    bits: int
    """Nominal bits per weight: those of a code."""
    search: Mapping[str, tuple[tuple[float, ...], int]]
    """Of each effort, the levels that the encoder tries and its rounds over integer scales."""

    @cached_property
    def layout(self) -> Layout:
        """Where its bits are, as the kernels take it."""
        return layout_of(self.name)

    @property
    def block(self) -> int:
        """Weights a block."""
        return self.layout.form.block

    @property
    def group(self) -> int:
        """Weights that share a scale."""
        return self.layout.form.group_size

    @property
    def nbytes(self) -> int:
        """Bytes a block."""
        return self.layout.form.nbytes

    def row_bytes(self, cols: int) -> int:
        """Bytes of a row of a multiple of `block` weights."""
        return cols // self.block * self.nbytes


def _grid(start: float, stop: float, count: int) -> tuple[float, ...]:
    return tuple(np.linspace(start, stop, count).tolist())


FORMATS: Mapping[str, BlockFormat] = MappingProxyType(
    {
        name: BlockFormat(name, number, bits, {"fast": fast, "normal": normal, "best": best})
        for name, number, bits, fast, normal, best in (
            ("Q4_0", 2, 4, ((-8.0,), 0), ((-8.2,), 1), (_grid(-9.0, -6.0, 19), 1)),
            ("Q4_1", 3, 4, ((15.0,), 0), ((15.0,), 1), (_grid(13.0, 18.0, 26), 1)),
            ("Q5_0", 6, 5, ((-16.0,), 0), (_grid(-16.6, -14.8, 4), 1), (_grid(-18.0, -13.0, 21), 1)),
            ("Q5_1", 7, 5, ((31.0,), 0), ((30.4, 31.2), 1), (_grid(29.0, 34.0, 26), 1)),
            ("Q8_0", 8, 8, ((127.0,), 0), ((126.3, 127.0, 127.4), 1), (_grid(124.0, 127.4, 12), 1)),
            ("Q2_K", 10, 2, ((3.0,), 0), (_grid(2.1, 4.0, 8), 1), (_grid(1.8, 4.8, 25), 4)),
            ("Q3_K", 11, 3, ((-4.0,), 0), (_grid(-4.7, -2.9, 8), 1), (_grid(-5.4, -2.4, 25), 4)),
            ("Q4_K", 12, 4, ((15.0,), 0), (_grid(14.0, 16.4, 8), 1), (_grid(13.0, 18.0, 26), 4)),
            ("Q5_K", 13, 5, ((31.0,), 0), (_grid(30.0, 32.4, 8), 1), (_grid(29.0, 34.0, 26), 4)),
            ("Q6_K", 14, 6, ((-32.0,), 0), (_grid(-32.8, -30.4, 7), 1), (_grid(-34.0, -28.0, 25), 4)),
        )
    }
)
"""The block formats by name."""


@dataclass(frozen=True)
class GgmlEncoded:
    """Rows of a layer, quantized."""

    data: NDArray[np.uint8]
    """[rows, bytes of a row]: the blocks as they are stored."""
    sums: NDArray[np.float64]
    """‖δ‖², ‖w‖² and w·δ of each row, [rows, 3]; [0, 3] where not measured."""
    code_counts: NDArray[np.int64]
    """Occurrences of each code, [2**bits]; zeros where not measured."""

    @property
    def error(self) -> Error:
        """What the codes lose."""
        return error_of(self.sums)


def encode_ggml(
    weights: NDArray[Any],
    name: str,
    tensor: str = "weights",
    row_start: int = 0,
    encoding: Encoding = FAST,
    measured: bool = True,
) -> GgmlEncoded:
    """Quantize rows into blocks.

    Parameters
    ----------
    weights : bfloat16, float16, float32 (others are converted to float32) [rows, cols]
        cols is a multiple of the format's `BlockFormat.block`.
    name : str
        A key of `FORMATS`.
    tensor, row_start : str, int
        What an error names.
    encoding : Encoding
        ``fast`` takes a single good guess, ``normal`` searches, ``best`` widely. Of the weights of channels only the
        ratios matter, and those beyond 10⁻⁴ of the mean count as that.
    measured : bool
        Without it errors and codes are not summed up, which is quicker.

    Raises
    ------
    ValidationError
        If a weight is NaN or Inf: names the tensor and the first such weight.
    """
    chosen = FORMATS[name]
    rows, cols = weights.shape
    levels, rounds = chosen.search[encoding.effort]
    data = np.empty((rows, chosen.row_bytes(cols)), np.uint8)
    stored = np.empty(weights.size if measured else 0, np.uint8)
    sums = np.zeros((rows if measured else 0, 3))
    patterns, is_half = patterns_of(weights)
    room = Room()
    bad = load_kernels().ggml_encode(
        patterns, is_half, rows, cols, chosen.layout.numbers, chosen.layout.moves,
        _normalised(encoding.channel_weights, cols),
        np.array(levels, np.float32), rounds, data.reshape(-1), stored, sums,
        room.tiles, room.words, room.patterns, room.integers, room.planes, room.single, room.bits, room.double,
    )  # fmt: skip
    if bad >= 0:
        raise_not_finite(weights, bad, tensor, row_start)
    return GgmlEncoded(data, sums, _counts(stored, chosen))


def decode_ggml(data: NDArray[np.uint8], name: str, cols: int) -> NDArray[np.float32]:
    """Weights of stored rows [rows, bytes of a row], float32 [rows, cols], as `gguf.dequantize` gives them."""
    chosen = FORMATS[name]
    decoded = np.empty((len(data), cols), np.float32)
    room = Room()
    load_kernels().ggml_decode(
        np.ascontiguousarray(data).reshape(-1), decoded.size // chosen.block,
        chosen.layout.numbers, chosen.layout.moves, decoded.reshape(-1),
        room.integers, room.planes, room.single, room.bits,
    )  # fmt: skip
    return decoded


def ggml_error(
    weights: NDArray[Any], data: NDArray[np.uint8], name: str, tensor: str = "weights", row_start: int = 0
) -> tuple[Error, NDArray[np.int64]]:
    """Error of stored rows against their weights [rows, cols], and the occurrences of each code, [2**bits].

    Raises
    ------
    ValidationError
        If a weight is NaN or Inf.
    """
    chosen = FORMATS[name]
    rows, cols = weights.shape
    stored = np.empty(weights.size, np.uint8)
    sums = np.zeros((rows, 3))
    patterns, is_half = patterns_of(weights)
    room = Room()
    bad = load_kernels().ggml_error(
        patterns, is_half, np.ascontiguousarray(data).reshape(-1), rows, cols,
        chosen.layout.numbers, chosen.layout.moves, stored, sums, room.tiles, room.words, room.patterns,
        room.integers, room.planes, room.single, room.bits,
    )  # fmt: skip
    if bad >= 0:
        raise_not_finite(weights, bad, tensor, row_start)
    return error_of(sums), _counts(stored, chosen)


class Room:
    """The scratch arrays of a kernel's call; `kernels_pythran.klayout` says what they hold."""

    def __init__(self) -> None:
        self.tiles = np.zeros((4, 4096), np.float32)
        self.words = self.tiles[:2].view(np.uint64)
        self.patterns = self.tiles[3].view(np.uint32)
        self.integers = np.zeros(4096 + 2 * 256, np.uint8)
        self.planes = np.zeros(4608, np.uint8)
        self.single = np.zeros((25, 256), np.float32)
        self.bits = self.single.view(np.uint32)
        self.double = np.zeros((8, 256))


def _normalised(column_weights: NDArray[Any] | None, cols: int) -> NDArray[np.float32]:
    if column_weights is None:
        return np.empty(0, np.float32)
    values = np.asarray(column_weights, np.float64)
    mean = values.mean()
    if values.shape != (cols,) or not np.isfinite(mean) or values.min() < 0.0:
        raise ValueError(f"the weights of channels must be {cols} finite numbers from 0 up")
    if mean == 0.0:
        return np.empty(0, np.float32)
    relative: NDArray[np.float32] = np.clip(values / mean, 1e-4, 1e4).astype(np.float32)
    return relative


def _counts(stored: NDArray[np.uint8], chosen: BlockFormat) -> NDArray[np.int64]:
    counts = np.zeros(256, np.int64)
    if stored.size:
        load_kernels().code_counts(stored, 1, stored.size, 8, counts)
    return counts[: 1 << chosen.bits]
