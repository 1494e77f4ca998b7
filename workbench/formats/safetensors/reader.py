"""Reading exports that are safetensors files."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.checkpoint import (
    DTYPES,
    Checkpoint,
    SafeTensorsAdapter,
    ShardedSafeTensorsAdapter,
    TensorInfo,
)
from workbench.checkpoint.blocks import Block, require_same
from workbench.errors import MetadataError, UsageError
from workbench.formats.codec import BlockCheck, Encoder
from workbench.formats.format import Check, StoredTensor
from workbench.formats.placed import units_of
from workbench.formats.safetensors.codec import PLAN_KEY, SOURCE_KEY, SafetensorsCodec, stored_pieces
from workbench.formats.safetensors.layout import Piece
from workbench.plan import Plan


class SafetensorsPayload:
    """The safetensors files of an export, opened.

    Parameters
    ----------
    codec : SafetensorsCodec
    folder : Path
    watched : bool
        Without it, other units of it may be written while it is open.

    Raises
    ------
    MetadataError, ModelNotFoundError, ShapeMismatchError
        If a file is missing or malformed, or its tensors are not those of its plan.
    """

    def __init__(self, codec: SafetensorsCodec, folder: Path, *, watched: bool = True) -> None:
        self.folder = folder
        self._codec = codec
        path = codec.locate(folder)
        self._index = path if path.suffix == ".json" else None
        opening = ShardedSafeTensorsAdapter if self._index else SafeTensorsAdapter
        self._files = opening(path, watched=watched)
        for file, count in self._files.trailing.items():
            raise MetadataError(
                f"{file}: {count:,} bytes follow the last tensor, which the export did not have. Export again.",
                path=file,
            )
        self.plan, sources = self._read_metadata()
        self._parts: dict[str, list[Piece]] = {}
        self.tensors = MappingProxyType(self._match(sources))

    @property
    def nbytes(self) -> int:
        """Bytes of all files, the index included."""
        files = {info.path for info in self._files.tensors.values()}
        index = self._index.stat().st_size if self._index else 0
        return sum(path.stat().st_size for path in files) + index

    def read(self, name: str) -> NDArray[Any]:
        """The tensor: decoded to float32 where it was quantized, else in its own dtype."""
        shape = self.tensors[name].shape
        return self.read_rows(name, 0, shape[0] if shape else 1).reshape(shape)

    def read_rows(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """The same of some rows, [rows, ...]; the first must be a multiple of 32."""
        stored = self.tensors[name]
        if stored.option is None or stored.option.is_kept:
            return self._stored_rows(name, start, stop).astype(DTYPES[stored.dtype], copy=False)
        rows = self._parts_of(name, start, stop)
        return self._codec.decode(rows, stored.option, math.prod(stored.shape[1:]))

    def units(self, checkpoint: Checkpoint) -> int:
        """Number of units into which it is divided for checking."""
        return len(units_of(checkpoint, self._codec.row_multiple))

    def checker(self, checkpoint: Checkpoint, encoder: Encoder) -> Check:
        """What compares the blocks of a unit with their source, in any thread."""
        units = units_of(checkpoint, self._codec.row_multiple)

        def check(unit: int) -> Iterator[BlockCheck]:
            for block in units[unit].blocks:
                yield self._check_block(block, checkpoint, encoder)

        return check

    def _check_block(self, block: Block, checkpoint: Checkpoint, encoder: Encoder) -> BlockCheck:
        name, stop = block.tensor.name, block.row_start + block.rows
        weights = checkpoint.read_rows(name, block.row_start, stop)
        stored = self.tensors[name]
        if stored.option is None or stored.option.is_kept:
            expected = self._codec.converted(weights, stored.dtype, name)
            require_same(
                self._stored_rows(name, block.row_start, stop), expected, self.folder, name, block.row_start
            )
            return BlockCheck(name, weights.nbytes)
        rows = self._parts_of(name, block.row_start, stop)
        return self._codec.check(weights, rows, stored.option, block, encoder)

    def _match(self, sources: Mapping[str, TensorInfo]) -> dict[str, StoredTensor]:
        """The checkpoint's tensors, put together from the files' tensors, in their order."""
        owners: dict[str, str] = {}
        for name, source in sources.items():
            try:
                pieces = stored_pieces(self._codec, source, self.plan.choices.get(name))
            except (ValueError, ZeroDivisionError) as error:
                raise MetadataError(
                    f"{self.folder}: the files' metadata say of {name!r} what cannot be: shape {source.shape} as "
                    f"{self.plan.choices.get(name)}.",
                    path=self.folder,
                    tensor=name,
                ) from error
            for piece in pieces:
                self._check_piece(piece, name)
                owners[piece.name] = name
            self._parts[name] = [piece for piece in pieces if piece.content is None]
        extra = {piece.name for piece in self._codec.extra(self.plan)}
        for piece in self._codec.extra(self.plan):
            self._check_piece(piece, piece.name)
        tensors: dict[str, StoredTensor] = {}
        for stored, info in self._files.tensors.items():
            if stored in extra:
                continue
            name = owners.get(stored, stored)
            source = sources.get(name, info)
            option = self.plan.choices.get(name) if name in sources else None
            tensors[name] = StoredTensor(name, source.shape, source.dtype, option)
        missing = [name for name in self.plan.choices if name not in tensors]
        if missing:
            raise MetadataError(
                f"{self.folder}: tensor {missing[0]!r} is missing.", path=self.folder, tensor=missing[0]
            )
        return tensors

    def _check_piece(self, piece: Piece, name: str) -> None:
        """Make sure that a tensor of the files, which stores another, is there, and holds what is known of it."""
        found = self._files.tensors.get(piece.name)
        if found is None or (found.dtype, found.shape) != (piece.dtype, piece.shape):
            raise MetadataError(
                f"{self.folder}: tensor {piece.name!r}, which stores {name!r}, should be {piece.dtype} "
                f"{piece.shape}, and is {f'{found.dtype} {found.shape}' if found else 'missing'}.",
                path=self.folder,
                tensor=name,
            )
        if piece.content is not None and self._stored_rows(piece.name).tobytes() != piece.content:
            raise MetadataError(
                f"{self.folder}: tensor {piece.name!r} does not hold what it must for {name!r}: the file is "
                "damaged. Export again, or restore it.",
                path=self.folder,
                tensor=name,
            )

    def _parts_of(self, name: str, start: int, stop: int) -> list[NDArray[Any]]:
        """What stores rows of a layer."""
        return [
            self._stored_rows(piece.name, *(() if piece.is_whole else piece.rows_of(start, stop)))
            for piece in self._parts[name]
        ]

    def _stored_rows(self, stored: str, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Rows of a tensor of the files, read and not mapped, as [rows, ...]."""
        info = self._files.tensors[stored]
        if stop is None:
            stop = info.shape[0] if info.shape else 1
        out = np.empty((stop - start, *info.shape[1:]), DTYPES[info.dtype])
        row_bytes = out.nbytes // max(stop - start, 1)
        self._files.read_into(stored, start * row_bytes, out.reshape(-1).view(np.uint8))
        return out

    def _read_metadata(self) -> tuple[Plan, dict[str, TensorInfo]]:
        try:
            plan = Plan.from_dict(json.loads(self._files.metadata[PLAN_KEY]), f"{self.folder}: plan")
            sources = {}
            for name, (dtype, shape) in json.loads(self._files.metadata[SOURCE_KEY]).items():
                option = plan.choices.get(name)
                if option is None or option.is_kept:
                    sound = dtype in self._codec.replaced_dtypes and min(map(int, shape), default=0) >= 0
                else:
                    sound = dtype in DTYPES and min(map(int, shape)) >= 1
                if not sound:
                    raise ValueError(f"what it says of {name!r} is impossible")
                sources[name] = TensorInfo(name, dtype, tuple(map(int, shape)), self.folder, 0, 0)
        except (KeyError, ValueError, TypeError, AttributeError, RecursionError, UsageError) as error:
            raise MetadataError(
                f"{self.folder}: the files' metadata do not hold a sound plan: {error}", path=self.folder
            ) from error
        return plan, sources
