"""Extended Parquet V2, our archive and analysis format: what it can store, and the target.

A folder of part files that any Parquet reader opens; one row a block of consecutive rows of a tensor. Each row
of a quantized block is one LSB-first bitstream padded to a whole byte, and w = (q − zero_point)·scale.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.checkpoint import DTYPES, Checkpoint
from workbench.checkpoint.blocks import require_same
from workbench.config import GROUP_SIZES
from workbench.formats.parquet.reader import ParquetPayload
from workbench.formats.parquet.schema import stored_bytes
from workbench.formats.parquet.writer import ParquetWriter
from workbench.formats.target import BlockCheck, Check, Trial, kept, smaller
from workbench.plan import Layer, Option, Plan
from workbench.quantize import (
    FAST,
    Encoded,
    Encoding,
    Encodings,
    Error,
    affine_error,
    count_codes,
    decode_affine,
    encode_affine,
)


class ParquetTarget:
    """The export format Extended Parquet V2."""

    name = "parquet"
    is_exact = False

    def options(self, layer: Layer) -> Sequence[Option]:
        """Widths 2 to 8, both schemes, all group sizes; and the source dtype."""
        found = [
            _option(layer, bits, scheme, group)
            for bits in range(2, 9)
            for scheme in ("asymmetric", "symmetric")
            for group in GROUP_SIZES
        ]
        return sorted([*found, self.keep(layer)], key=lambda option: option.nbytes)

    def stores(self, layer: Layer, option: Option) -> bool:
        """Whether the option is offered."""
        return option in self.options(layer)

    def keep(self, layer: Layer) -> Option:
        """The option of leaving a layer in its source dtype."""
        return kept(layer, DTYPES[layer.dtype].itemsize)

    def quantized(self, layer: Layer, bits: int, scheme: str, group_size: int) -> Option:
        """The option wished for; the source dtype where that takes no more, as in rows of a few weights."""
        return smaller(_option(layer, bits, scheme, group_size), self.keep(layer))

    def error(
        self, weights: NDArray[Any], option: Option, tensor: str, row_start: int, encoding: Encoding = FAST
    ) -> Error:
        """What rows of a layer [rows, cols] lose when they are stored as an option."""
        return _encode(weights, option, tensor, row_start, encoding).error

    def measure(
        self, weights: NDArray[Any], option: Option, tensor: str, row_start: int, encoding: Encoding = FAST
    ) -> Trial:
        """What each row of a layer [rows, cols] loses, and the codes."""
        encoded = _encode(weights, option, tensor, row_start, encoding, by_row=True)
        return Trial(encoded.sums, count_codes(encoded.codes, weights.shape[1], option.bits))

    def decoded(
        self, weights: NDArray[Any], option: Option, tensor: str, row_start: int, encoding: Encoding = FAST
    ) -> NDArray[np.float32]:
        """What rows of a layer [rows, cols] come back as."""
        encoded = _encode(weights, option, tensor, row_start, encoding, measured=False)
        return decode_affine(
            encoded.codes,
            encoded.scales,
            encoded.zero_points,
            weights.shape[1],
            option.bits,
            option.group_size,
        )

    def writer(self, checkpoint: Checkpoint, plan: Plan, encodings: Encodings | None = None) -> ParquetWriter:
        """What writes a plan's part files."""
        return ParquetWriter(checkpoint, plan, encodings)

    @contextmanager
    def checker(
        self, checkpoint: Checkpoint, folder: Path, encodings: Encodings | None = None
    ) -> Iterator[Check]:
        """What reads parts back and compares each block with the source.

        It raises a `QuantizationError` if a tensor that keeps its dtype differs from the source, a `MetadataError` if
        the part is malformed or a checksum is wrong.
        """

        def check(unit: int) -> Iterator[BlockCheck]:
            payload = ParquetPayload(folder, only=unit)
            for name, index in payload.blocks:
                yield _check_block(payload, name, index, checkpoint)

        yield check

    def open(self, folder: Path) -> ParquetPayload:
        """Open the parts in a folder.

        Raises
        ------
        MetadataError
            If a part or a block is missing, doubled or malformed, or of an unknown major version.
        """
        return ParquetPayload(folder)


def _check_block(payload: ParquetPayload, name: str, index: int, checkpoint: Checkpoint) -> BlockCheck:
    block = payload.stored_block(name, index)
    stop = block.row_start + block.rows
    source = checkpoint.read_rows(name, block.row_start, stop)
    option = block.option
    if option is None:
        require_same(block.data, source, payload.folder, name, block.row_start)
        return BlockCheck(name, source.nbytes)
    error = affine_error(
        source,
        block.data,
        block.scales,
        block.zero_points,
        option.bits,
        option.group_size,
        name,
        block.row_start,
    )
    return BlockCheck(name, source.nbytes, error, count_codes(block.data, source.shape[1], option.bits))


def _option(layer: Layer, bits: int, scheme: str, group_size: int) -> Option:
    return Option(bits, scheme, group_size, stored_bytes(layer.rows, layer.cols, bits, group_size))


def _encode(
    weights: NDArray[Any], option: Option, tensor: str, row_start: int, encoding: Encoding, **what: bool
) -> Encoded:
    symmetric = option.scheme == "symmetric"
    return encode_affine(
        weights, option.bits, option.group_size, symmetric, tensor, row_start, encoding=encoding, **what
    )
