"""Reading Extended Parquet V2: nothing in a file is believed before it is checked."""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from workbench.checkpoint import DTYPES, Checkpoint
from workbench.checkpoint.blocks import Block, require_same
from workbench.errors import MetadataError
from workbench.formats.codec import BlockCheck, Encoder
from workbench.formats.format import Check, StoredTensor
from workbench.formats.parquet.codec import ParquetCodec
from workbench.formats.parquet.file import (
    MODEST_BYTES,
    UNREADABLE,
    bytes_of,
    check_columns,
    check_head,
    numbers_of,
    open_file,
)
from workbench.formats.parquet.schema import part_name, read_file_metadata
from workbench.plan import Option, Plan
from workbench.quantize import Encodings

_CODEC = ParquetCodec()

_HEAD = [
    "layer_name", "block_index", "row_start", "rows", "shape", "dtype", "quant_type", "bit_width", "group_size",
    "packing",
]  # fmt: skip
"""What is known of a block before it is read."""

_BODY = ["data", "scales", "zero_points", "sha256"]
"""What is read of a block."""


@dataclass(frozen=True)
class _Place:
    """Where a block stands, and what its row says of it."""

    part: int
    row_group: int
    row: int
    head: Mapping[str, Any]


@dataclass(frozen=True)
class StoredBlock:
    """A block as it is stored."""

    row_start: int
    """First row of the tensor."""
    rows: int
    """Number of rows."""
    option: Option | None
    """How it was quantized, or None."""
    data: NDArray[np.uint8]
    """[rows, bytes of a row's codes]; the source's bytes, flat, where it was not quantized."""
    scales: NDArray[np.float32]
    """[rows, groups]."""
    zero_points: NDArray[np.float32]
    """[rows, groups]."""

    @property
    def pieces(self) -> tuple[NDArray[Any], ...]:
        """What the codec stored of rows that were quantized."""
        return self.data, self.scales, self.zero_points


class ParquetPayload:
    """The parts of an export, opened.

    Parameters
    ----------
    folder : Path
        Holds the part files.
    only : int, optional
        Open a single part, whose tensors need not be whole.

    Raises
    ------
    MetadataError
        If a part or a block is missing, doubled or malformed, or of an unknown major version.
    """

    def __init__(self, folder: Path, only: int | None = None) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._open: tuple[int, pq.ParquetFile] | None = None
        self._read: tuple[int, int, pa.Table] | None = None
        self.plan, self._parts = self._read_metadata(only or 0)
        self._places: dict[str, dict[int, _Place]] = {}
        for part in range(self._parts) if only is None else [only]:
            self._index(part)
        if only is None:
            for name, places in self._places.items():
                self._check_cover(name, places)
            missing = [name for name in self.plan.choices if name not in self._places]
            if missing:
                raise MetadataError(
                    f"{folder}: no block of tensor {missing[0]!r} is there.", path=folder, tensor=missing[0]
                )
        self.tensors = MappingProxyType({name: self._stored(name) for name in self._places})

    @property
    def blocks(self) -> list[tuple[str, int]]:
        """Tensor and index of every block, in the order stored."""
        places = [
            (place.part, place.row_group, place.row, name, index)
            for name, indices in self._places.items()
            for index, place in indices.items()
        ]
        return [(name, index) for *_, name, index in sorted(places)]

    def units(self, checkpoint: Checkpoint) -> int:
        """Number of part files."""
        return self._parts

    @property
    def nbytes(self) -> int:
        """Bytes of all part files."""
        return sum((self.folder / part_name(part)).stat().st_size for part in range(self._parts))

    def read(self, name: str) -> NDArray[Any]:
        """The tensor: decoded to float32 where it was quantized, else in its own dtype.

        Raises
        ------
        MetadataError
            If a checksum is wrong or a block's data do not fit its shape.
        """
        shape = self.tensors[name].shape
        return self.read_rows(name, 0, shape[0] if shape else 1).reshape(shape)

    def read_rows(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """The same of some rows, [rows, cols]."""
        tensor = self.tensors[name]
        cols = math.prod(tensor.shape[1:])
        pieces = []
        for index in range(len(self._places[name])):
            head = self._places[name][index].head
            first, last = max(start - head["row_start"], 0), min(stop - head["row_start"], head["rows"])
            if first >= last and start < stop:
                continue
            block = self.stored_block(name, index)
            if block.option is None:
                rows = (
                    block.data.view(DTYPES[tensor.dtype]).reshape(-1, cols)
                    if cols
                    else block.data.reshape(0, 0)
                )
                pieces.append(rows[first:last])
            else:
                stored = tuple(piece[first:last] for piece in block.pieces)
                pieces.append(_CODEC.decode(stored, block.option, cols))
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def stored_block(self, name: str, index: int) -> StoredBlock:
        """A block of a tensor, its checksum and sizes checked."""
        place = self._places[name][index]
        tensor = self._stored(name)
        where = f"{self.folder / part_name(place.part)}: block {index} of {name!r}"
        try:
            row = self._row_group(place).slice(place.row, 1)
        except UNREADABLE as error:
            raise MetadataError(f"{where} cannot be read: {error}", path=self.folder, tensor=name) from error
        data = bytes_of(row["data"].combine_chunks())
        scales, zero_points = (numbers_of(row[key].combine_chunks()) for key in ("scales", "zero_points"))
        if hashlib.sha256(data.data).hexdigest() != row["sha256"][0].as_py():
            raise MetadataError(
                f"{where} has a wrong checksum: the file is damaged. Export again, or restore it.",
                path=self.folder,
                tensor=name,
            )
        rows, cols = place.head["rows"], math.prod(tensor.shape[1:])
        if tensor.option is None:
            expected = (rows * cols * DTYPES[tensor.dtype].itemsize, 0)
            shape: tuple[int, ...] = (data.size,)
            groups = 0
        else:
            groups = math.ceil(cols / tensor.option.group_size)
            shape = (rows, (cols * tensor.option.bits + 7) // 8)
            expected = (math.prod(shape), rows * groups)
        if (data.size, scales.size) != expected or scales.size != zero_points.size:
            raise MetadataError(
                f"{where} holds {data.size} bytes, {scales.size} scales and {zero_points.size} zero points; its "
                f"shape asks for {expected[0]}, {expected[1]} and {expected[1]}.",
                path=self.folder,
                tensor=name,
            )
        return StoredBlock(
            place.head["row_start"], rows, tensor.option, data.reshape(shape),
            scales.reshape(rows, groups), zero_points.reshape(rows, groups),
        )  # fmt: skip

    def _row_group(self, place: _Place) -> pa.Table:
        """The row group of a block; the last one is kept, for the next block is mostly there too."""
        with self._lock:
            if self._read is None or self._read[:2] != (place.part, place.row_group):
                self._read = None  # so that there is never room for both
                file = self._file(place.part)
                table = file.read_row_group(place.row_group, columns=_BODY, use_threads=False)
                self._read = place.part, place.row_group, table
            return self._read[2]

    def _file(self, part: int) -> pq.ParquetFile:
        """A part's file; the last one stays open. The lock must be held while it is read."""
        if self._open is None or self._open[0] != part:
            self._open = part, open_file(self.folder / part_name(part))
        return self._open[1]

    def _read_metadata(self, part: int) -> tuple[Plan, int]:
        path = self.folder / part_name(part)
        plan, stated, parts = read_file_metadata(self._file(part).metadata.metadata, str(path))
        if stated != part or not 0 <= part < parts:
            raise MetadataError(f"{path}: it says that it is part {stated} of {parts}.", path=path)
        return plan, parts

    def _index(self, part: int) -> None:
        path = self.folder / part_name(part)
        plan, stated_parts = self._read_metadata(part)
        if stated_parts != self._parts or plan.digest != self.plan.digest:
            raise MetadataError(f"{path}: this part belongs to another export.", path=path)
        file = self._file(part)
        check_columns(path, file.schema_arrow)
        try:
            # All columns, so that every page's checksum is checked, here or with its block. At once and in this thread:
            # of so few bytes each reading is mostly its own beginning and end.
            columns = [name for name in file.schema_arrow.names if name not in _BODY]
            heads = iter(file.read(columns, use_threads=False).select(_HEAD).to_pylist())
        except UNREADABLE as error:
            raise MetadataError(f"{path}: cannot be read: {error}", path=path) from error
        for row_group in range(file.num_row_groups):
            stated = file.metadata.row_group(row_group)
            left = max(stated.total_byte_size, MODEST_BYTES)
            for row, head in enumerate(islice(heads, stated.num_rows)):
                left -= self._add(path, head, _Place(part, row_group, row, head), left)

    def _add(self, path: Path, head: Mapping[str, Any], place: _Place, bytes_left: int) -> int:
        """Note a block, and return the bytes it needs, of those that its row group has left."""
        name = head["layer_name"]
        places = self._places.setdefault(name, {})
        if head["block_index"] in places:
            raise MetadataError(
                f"{path}: block {head['block_index']} of tensor {name!r} is there twice.",
                path=path,
                tensor=name,
            )
        needed = check_head(head, path, bytes_left)
        first = next(iter(places.values()), place).head
        for key in ("shape", "dtype", "quant_type", "bit_width", "group_size"):
            if head[key] != first[key]:
                raise MetadataError(
                    f"{path}: the blocks of tensor {name!r} disagree about its {key}.", path=path, tensor=name
                )
        places[head["block_index"]] = place
        return needed

    def _check_cover(self, name: str, places: Mapping[int, _Place]) -> None:
        """Make sure that the blocks of a tensor are all its rows, in order."""
        row = 0
        shape = next(iter(places.values())).head["shape"]
        for index in range(len(places)):
            if index not in places or places[index].head["row_start"] != row:
                raise MetadataError(
                    f"{self.folder}: block {index} of tensor {name!r}, from row {row} on, is missing.",
                    path=self.folder,
                    tensor=name,
                )
            row += places[index].head["rows"]
        rows = shape[0] if shape else 1
        if row != rows:
            raise MetadataError(
                f"{self.folder}: tensor {name!r} has {rows} rows, its blocks {row}: one is missing.",
                path=self.folder,
                tensor=name,
            )

    def _stored(self, name: str) -> StoredTensor:
        head = next(iter(self._places[name].values())).head
        option = None
        if head["quant_type"] != "none":
            option = self.plan.choices.get(name)
            if option is None or (option.bits, option.group_size) != (head["bit_width"], head["group_size"]):
                raise MetadataError(
                    f"{self.folder}: tensor {name!r} is stored with {head['bit_width']} bits in groups of "
                    f"{head['group_size']}, which is not what its plan says.",
                    path=self.folder,
                    tensor=name,
                )
        return StoredTensor(name, tuple(head["shape"]), head["dtype"], option)


@contextmanager
def checker(checkpoint: Checkpoint, folder: Path, encodings: Encodings | None) -> Iterator[Check]:
    """What reads parts back and compares each block with the source.

    It raises a `QuantizationError` if a tensor that keeps its dtype differs from the source, a `MetadataError` if the
    part is malformed or a checksum is wrong.
    """
    encoder = Encoder(_CODEC, checkpoint, encodings)

    def check(unit: int) -> Iterator[BlockCheck]:
        payload = ParquetPayload(folder, only=unit)
        for name, index in payload.blocks:
            yield _check_block(payload, name, index, checkpoint, encoder)

    yield check


def _check_block(
    payload: ParquetPayload, name: str, index: int, checkpoint: Checkpoint, encoder: Encoder
) -> BlockCheck:
    stored = payload.stored_block(name, index)
    source = checkpoint.read_rows(name, stored.row_start, stored.row_start + stored.rows)
    if stored.option is None:
        require_same(stored.data, source, payload.folder, name, stored.row_start)
        return BlockCheck(name, source.nbytes)
    block = Block(checkpoint.tensors[name], index, stored.row_start, stored.rows)
    return _CODEC.check(source, stored.pieces, stored.option, block, encoder)
