"""The codec of Extended Parquet V2, our archive and analysis format, and what it can store.

A folder of part files that any Parquet reader opens; one row a block of consecutive rows of a tensor. Each row
of a quantized block is one LSB-first bitstream padded to a whole byte, and w = (q − zero_point)·scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.checkpoint import DTYPES
from workbench.checkpoint.blocks import Block
from workbench.config import GROUP_SIZES
from workbench.formats.codec import BlockCheck, Codec, Encoder
from workbench.formats.format import TargetSettings, kept, smaller
from workbench.formats.parquet.schema import stored_bytes
from workbench.plan import Layer, Option
from workbench.quantize import Encoded, Rows, affine_error, count_codes, decode_affine, encode_affine


def options(layer: Layer, settings: TargetSettings) -> Sequence[Option]:
    """Widths 2 to 8, both schemes, all group sizes; and the source dtype."""
    found = [
        _option(layer, bits, scheme, group)
        for bits in range(2, 9)
        for scheme in ("asymmetric", "symmetric")
        for group in GROUP_SIZES
    ]
    return sorted([*found, _kept(layer)], key=lambda option: option.nbytes)


def nearest(layer: Layer, bits: int, scheme: str, group_size: int, settings: TargetSettings) -> Option:
    """The option that is asked for; the source dtype where that takes no more, as in rows of a few weights."""
    return smaller(_option(layer, bits, scheme, group_size), _kept(layer))


class ParquetCodec(Codec):
    """Codes, scales and zero points."""

    def encode(self, rows: Rows, option: Option) -> Encoded:
        found = encode_affine(
            rows.weights, option.bits, option.group_size, option.scheme == "symmetric", rows.tensor, rows.row_start,
            by_row=rows.measured, measured=rows.measured, encoding=rows.encoding,
        )  # fmt: skip
        count = partial(count_codes, found.codes, rows.weights.shape[1], option.bits)
        return self.encoded(rows, option, (found.codes, found.scales, found.origins), count, found.sums)

    def decode(self, pieces: Sequence[NDArray[Any]], option: Option, cols: int) -> NDArray[np.float32]:
        codes, scales, zero_points = pieces
        return decode_affine(codes, scales, zero_points, cols, option.bits, option.group_size)

    def check(
        self,
        weights: NDArray[Any],
        pieces: Sequence[NDArray[Any]],
        option: Option,
        block: Block,
        encoder: Encoder,
    ) -> BlockCheck:
        codes, scales, zero_points = pieces
        name = block.tensor.name
        error = affine_error(
            weights, codes, scales, zero_points, option.bits, option.group_size, name, block.row_start
        )
        return BlockCheck(name, weights.nbytes, error, count_codes(codes, weights.shape[1], option.bits))


def _kept(layer: Layer) -> Option:
    return kept(layer, DTYPES[layer.dtype].itemsize)


def _option(layer: Layer, bits: int, scheme: str, group_size: int) -> Option:
    return Option(bits, scheme, group_size, stored_bytes(layer.rows, layer.cols, bits, group_size))
