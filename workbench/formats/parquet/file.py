"""A part file of Extended Parquet V2, not believed: what it may hold, before anything is made of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from workbench.checkpoint import DTYPES
from workbench.config import GROUP_SIZES
from workbench.errors import MetadataError
from workbench.formats.parquet.schema import SCHEMA

MODEST_BYTES = 64 * 2**20
"""What a row group may hold though the file says it is less, as where equal blocks are stored once."""

UNREADABLE = (pa.ArrowException, OSError, ValueError)
"""What pyarrow raises for a damaged file; ValueError where text is not UTF-8."""


def check_columns(path: Path, schema: pa.Schema) -> None:
    """Make sure that a file has the format's columns."""
    for field in SCHEMA:
        index = schema.get_field_index(field.name)
        if index < 0:
            raise MetadataError(f"{path}: the column {field.name!r} is missing.", path=path)
        found = schema.field(index).type
        if found != field.type:
            raise MetadataError(
                f"{path}: the column {field.name!r} is of the type {found}, not {field.type}.", path=path
            )


def check_head(head: Mapping[str, Any], path: Path, bytes_left: int) -> int:
    """Make sure that what a row says is possible, before anything is allocated for it; the bytes of its data."""
    for key, value in head.items():
        if value is None and not SCHEMA.field(key).nullable:
            raise MetadataError(f"{path}: a row has no {key!r}.", path=path)
    name, shape, rows = head["layer_name"], head["shape"], head["rows"]

    def refuse(what: str) -> MetadataError:
        return MetadataError(f"{path}: tensor {name!r}: {what}.", path=path, tensor=name)

    if head["dtype"] not in DTYPES:
        raise refuse(f"its dtype {head['dtype']!r} is unknown")
    if any(size is None or size < 0 for size in shape):
        raise refuse(f"its shape {shape} is impossible")
    if not 0 <= rows <= (shape[0] if shape else 1) or not head["row_start"] >= 0:
        raise refuse(
            f"rows {head['row_start']} to {head['row_start'] + rows} are not within its shape {shape}"
        )
    cols = math.prod(shape[1:])
    if head["quant_type"] == "none":
        needed: int = rows * cols * DTYPES[head["dtype"]].itemsize
    else:
        bits = head["bit_width"]
        if head["quant_type"] != f"int{bits}" or not 2 <= bits <= 8:
            raise refuse(f"its quantization {head['quant_type']!r} with {bits} bits is unknown")
        if head["packing"] != "lsb" or head["group_size"] not in GROUP_SIZES:
            raise refuse(f"its packing {head['packing']!r} in groups of {head['group_size']} is unknown")
        needed = rows * ((cols * bits + 7) // 8)
    if needed > bytes_left:
        raise refuse(
            f"a block of it needs {needed} bytes, and its row group has no room for more than {bytes_left}"
        )
    return needed


def bytes_of(column: pa.LargeBinaryArray) -> NDArray[np.uint8]:
    """The bytes of an array of one element, without copying them; none where it is null."""
    _, offsets, data = column.buffers()
    first, last = np.frombuffer(offsets, np.int64)[column.offset : column.offset + 2]
    return np.frombuffer(data or b"", np.uint8)[first:last]


def numbers_of(column: pa.ListArray) -> NDArray[np.float32]:
    """The numbers of an array of one list, without copying them; NaN where one is null."""
    numbers: NDArray[np.float32] = column.flatten().to_numpy(zero_copy_only=False)
    return numbers


def open_file(path: Path) -> pq.ParquetFile:
    """Open a part file.

    Raises
    ------
    MetadataError
        If it is missing or no Parquet file.
    """
    try:
        return pq.ParquetFile(path, page_checksum_verification=True)
    except FileNotFoundError as error:
        raise MetadataError(f"{path} is missing: the export is not whole.", path=path) from error
    except UNREADABLE as error:
        raise MetadataError(f"{path} is not a Parquet file: {error}", path=path) from error
