"""Writing Extended Parquet V2."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from workbench import system
from workbench.checkpoint import DTYPES, Checkpoint
from workbench.checkpoint.blocks import Block, divide
from workbench.formats.parquet.schema import SCHEMA, export_metadata, part_metadata, part_name, stored_bytes
from workbench.formats.target import Unit
from workbench.plan import Plan
from workbench.quantize import Encodings, encode_affine

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


class ParquetWriter:
    """Writes the part files of one export.

    Parameters
    ----------
    checkpoint : Checkpoint
    plan : Plan
    encodings : Encodings, optional
        Those of the plan; not needed where no calibration weighs it.
    """

    documents: Mapping[str, bytes] = MappingProxyType({})
    notes: Sequence[str] = ()

    def __init__(self, checkpoint: Checkpoint, plan: Plan, encodings: Encodings | None = None) -> None:
        self._checkpoint = checkpoint
        self._plan = plan
        self._given = encodings
        runs = divide(checkpoint, PART_BYTES)
        self._parts = len(runs)
        self.units = [
            Part(index, sum(block.nbytes for block in blocks), tuple(blocks))
            for index, blocks in enumerate(runs)
        ]

    @cached_property
    def _metadata(self) -> dict[str, str]:
        return export_metadata(self._plan)

    @cached_property
    def _encodings(self) -> Encodings:
        return self._given or Encodings.of_plan(self._plan)

    @property
    def predicted_bytes(self) -> int:
        """Upper bound of the bytes of all parts."""
        return sum(self.predicted_files.values())

    @property
    def predicted_files(self) -> Mapping[str, int]:
        """Upper bound of the bytes of each part: ZSTD may compress, and grows what it cannot by 1/256."""
        stated = sum(len(key) + len(value.encode()) for key, value in self._metadata.items())
        return {
            part_name(part.index): PART_OVERHEAD + stated + sum(map(self._most_bytes, self._row_groups(part)))
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
        option = self._plan.choices.get(block.tensor.name)
        if option is None or option.is_kept:
            return block.nbytes
        return stored_bytes(block.rows, block.cols, option.bits, option.group_size)

    def _row_groups(self, part: Part) -> Iterator[list[Block]]:
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
        path = folder / part_name(unit.index)
        temporary = path.with_suffix(".tmp")
        try:
            with pq.ParquetWriter(
                temporary, SCHEMA, version="2.6", compression="zstd", compression_level=1,
                use_dictionary=False, write_statistics=["layer_name", "block_index"],
                write_page_checksum=True,
            ) as writer:  # fmt: skip
                writer.add_key_value_metadata(self._metadata | part_metadata(unit.index, self._parts))
                for group in self._row_groups(self.units[unit.index]):
                    rows = [_row(block, self._checkpoint, self._plan, self._encodings) for block in group]
                    writer.write_table(_table(rows), row_group_size=len(rows))
                    yield 0
            with temporary.open("rb") as file:
                system.sync(file.fileno())
                system.replace_file(path, temporary)
                yield unit.nbytes
                system.release(file.fileno())
        finally:
            temporary.unlink(missing_ok=True)


def _row(block: Block, checkpoint: Checkpoint, plan: Plan, encodings: Encodings) -> dict[str, Any]:
    """A block as a row of the table, column by column."""
    tensor = block.tensor
    weights = checkpoint.read_rows(tensor.name, block.row_start, block.row_start + block.rows)
    option = plan.choices.get(tensor.name)
    described: dict[str, Any]
    if option is None or option.is_kept:
        data, scales, zero_points = weights.reshape(-1).view(np.uint8), _NONE, _NONE
        bits, described = 8 * DTYPES[tensor.dtype].itemsize, {"quant_type": "none"}
    else:
        encoding = encodings.of(tensor.name, tensor.shape)
        # What is read back will be measured.
        encoded = encode_affine(
            weights, option.bits, option.group_size, option.scheme == "symmetric", tensor.name, block.row_start,
            measured=False, encoding=encoding,
        )  # fmt: skip
        data = encoded.codes.reshape(-1)
        scales, zero_points = encoded.scales.reshape(-1), encoded.zero_points.reshape(-1)
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
        "modality": str(plan.made_by.get("modality", checkpoint.modality.value)),
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
