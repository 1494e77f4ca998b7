"""Writing Extended Parquet V2."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from workbench import system
from workbench.checkpoint import DTYPES, Checkpoint
from workbench.checkpoint.blocks import Block, divide
from workbench.formats.codec import Encoder
from workbench.formats.format import TargetSettings, Unit
from workbench.formats.parquet.schema import SCHEMA, export_metadata, part_metadata, part_name, stored_bytes
from workbench.plan import Plan

PART_BYTES = 64 * 2**20
"""Source bytes after which a part is closed."""

ROW_GROUP_BYTES = 4 * 2**20
"""Stored bytes after which a row group is closed: so many that what columns cost of themselves does not count, and so
few that there is memory for them, where a row group is whole while it is written or read."""

ROW_GROUP_OVERHEAD = 5_120
"""Upper bound of what a row group costs beside its rows: its columns' first pages, their metadata."""

ROW_OVERHEAD = 1_024
"""Upper bound of what a row costs beside data, scales and names."""

PART_OVERHEAD = 8_192
"""Upper bound of a part's own cost: the schema twice, the fixed metadata."""

_NONE = np.empty(0, np.float32)


@dataclass(frozen=True)
class Part(Unit):
    """A part file: consecutive blocks."""

    blocks: tuple[Block, ...]
    """The blocks, one row each."""


@dataclass(frozen=True, eq=False)
class ParquetLayout:
    """The part files of one export."""

    plan: Plan
    """What becomes of every layer."""
    modality: str
    """What the model generates."""
    units: Sequence[Part]
    """The parts."""

    @property
    def documents(self) -> Mapping[str, bytes]:
        """None: the parts say all."""
        return {}

    @property
    def notes(self) -> Sequence[str]:
        """None."""
        return ()

    @cached_property
    def metadata(self) -> dict[str, str]:
        """What every part says of the export."""
        return export_metadata(self.plan)

    @property
    def nbytes(self) -> int:
        """Upper bound of the bytes of all parts."""
        return sum(self.files.values())

    @property
    def files(self) -> Mapping[str, int]:
        """Upper bound of the bytes of each part: ZSTD may compress, and grows what it cannot by 1/256."""
        stated = sum(len(key) + len(value.encode()) for key, value in self.metadata.items())
        return {
            part_name(part.index): PART_OVERHEAD + stated + sum(map(self._most_bytes, self.row_groups(part)))
            for part in self.units
        }

    def _most_bytes(self, group: Sequence[Block]) -> int:
        most = ROW_GROUP_OVERHEAD
        for block in group:
            stored = self._stored_bytes(block)
            # The name stands in the data and twice in the statistics of two columns' pages and chunks.
            most += stored + stored // 256 + ROW_OVERHEAD + 8 * len(block.tensor.name.encode())
        return most

    def _stored_bytes(self, block: Block) -> int:
        option = self.plan.choices.get(block.tensor.name)
        if option is None or option.is_kept:
            return block.nbytes
        return stored_bytes(block.rows, block.cols, option.bits, option.group_size)

    def row_groups(self, part: Part) -> Iterator[list[Block]]:
        """The blocks of a part, divided into row groups."""
        group: list[Block] = []
        size = 0
        for block in part.blocks:
            group.append(block)
            size += self._stored_bytes(block)
            if size >= ROW_GROUP_BYTES:
                yield group
                group, size = [], 0
        if group:
            yield group


def layout_of(checkpoint: Checkpoint, plan: Plan, settings: TargetSettings) -> ParquetLayout:
    """The part files of a plan's export."""
    parts = [
        Part(index, sum(block.nbytes for block in blocks), tuple(blocks))
        for index, blocks in enumerate(divide(checkpoint, PART_BYTES))
    ]
    return ParquetLayout(plan, str(plan.made_by.get("modality", checkpoint.modality.value)), parts)


class ParquetWriter:
    """Writes the part files of one export.

    Parameters
    ----------
    layout : ParquetLayout
    checkpoint : Checkpoint
    encoder : Encoder
        The plan's.
    """

    def __init__(self, layout: ParquetLayout, checkpoint: Checkpoint, encoder: Encoder) -> None:
        self._layout = layout
        self._checkpoint = checkpoint
        self._encoder = encoder

    def begin(self, folder: Path) -> None:
        """Nothing to prepare: each part is a file of its own."""

    def write(self, unit: Unit, folder: Path) -> Iterator[int]:
        """Write a part file; yields 0 now and then, and its source bytes when it is whole and can be read.

        Raises
        ------
        QuantizationError
            If the source changed or the file cannot be written.
        ValidationError
            If a weight to quantize is NaN or Inf.
        """
        layout, part = self._layout, self._layout.units[unit.index]
        path = folder / part_name(unit.index)
        temporary = path.with_suffix(".tmp")
        try:
            with pq.ParquetWriter(
                temporary, SCHEMA, version="2.6", compression="zstd", compression_level=1,
                use_dictionary=False, write_statistics=["layer_name", "block_index"],
                write_page_checksum=True,
            ) as writer:  # fmt: skip
                writer.add_key_value_metadata(layout.metadata | part_metadata(unit.index, len(layout.units)))
                for group in layout.row_groups(part):
                    rows = [self._row(block) for block in group]
                    writer.write_table(_table(rows), row_group_size=len(rows))
                    yield 0
            with temporary.open("rb") as file:
                system.sync(file.fileno())
                system.replace_file(path, temporary)
                yield unit.nbytes
                system.release(file.fileno())
        finally:
            temporary.unlink(missing_ok=True)

    def _row(self, block: Block) -> dict[str, Any]:
        """A block as a row of the table, column by column."""
        tensor = block.tensor
        weights = self._checkpoint.read_rows(tensor.name, block.row_start, block.row_start + block.rows)
        option = self._layout.plan.choices.get(tensor.name)
        described: dict[str, Any]
        if option is None or option.is_kept:
            data, scales, zero_points = weights.reshape(-1).view(np.uint8), _NONE, _NONE
            bits, described = 8 * DTYPES[tensor.dtype].itemsize, {"quant_type": "none"}
        else:
            # What is read back will be measured.
            encoded = self._encoder.encode(tensor, option, weights, block.row_start, measured=False)
            data, scales, zero_points = (piece.reshape(-1) for piece in encoded.pieces)
            bits = option.bits
            described = {
                "quant_type": f"int{bits}", "quant_axis": 1, "group_size": option.group_size, "packing": "lsb"
            }  # fmt: skip
        return described | {
            "layer_name": tensor.name,
            "block_index": block.index,
            "row_start": block.row_start,
            "rows": block.rows,
            "shape": list(tensor.shape),
            "dtype": tensor.dtype,
            "num_params": block.rows * block.cols,
            "bit_width": bits,
            "data": _one(data, pa.large_binary()),
            "scales": _one(scales, pa.list_(pa.float32())),
            "zero_points": _one(zero_points, pa.list_(pa.float32())),
            "sha256": hashlib.sha256(data.data).hexdigest(),
            "is_diffusion_model": True,
            "modality": self._layout.modality,
        }


def _table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as a table; what holds a block's data is not copied."""
    columns = []
    for field in SCHEMA:
        values = [row.get(field.name) for row in rows]
        is_whole = isinstance(values[0], pa.Array)
        columns.append(pa.chunked_array(values) if is_whole else pa.array(values, field.type))
    return pa.table(columns, schema=SCHEMA)


def _one(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
    """An Arrow array of one element that holds all the values, without copying them."""
    if pa.types.is_large_binary(kind):
        offsets = pa.py_buffer(np.array([0, values.size], np.int64))
        return pa.LargeBinaryArray.from_buffers(kind, 1, [None, offsets, pa.py_buffer(values)])
    return pa.ListArray.from_arrays(pa.array([0, values.size], pa.int32()), pa.array(values, pa.float32()))
