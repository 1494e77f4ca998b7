"""Writing and reading exports that are safetensors files: rows go straight to their final place."""

from __future__ import annotations

import json
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
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
from workbench.errors import ConfigurationError, MetadataError, QuantizationError
from workbench.formats.blocks import Block
from workbench.formats.safetensors_layout import Piece, lay_out
from workbench.formats.target import BlockCheck, StoredTensor, Unit
from workbench.formats.units import Run, units_of, write_all
from workbench.plan import Option, Plan
from workbench.quantize import Error

PLAN_KEY = "arrowquant.plan"
"""Key of ``__metadata__`` under which the plan is stored."""

SOURCE_KEY = "arrowquant.source"
"""Key under which the source's dtype and shape of each quantized layer are stored."""


class Scheme(ABC):
    """How a safetensors target stores a layer: as which tensors, and with which codes."""

    stem = "model"
    """What the files are called."""
    metadata: Mapping[str, str] = MappingProxyType({})
    """Goes into the files' ``__metadata__`` beside the plan."""

    @abstractmethod
    def pieces(self, tensor: TensorInfo, option: Option) -> Sequence[Piece]:
        """The tensors that store a layer, their first axes in step with its rows."""

    @abstractmethod
    def encode(
        self, weights: NDArray[Any], option: Option, tensor: str, row_start: int
    ) -> tuple[Sequence[NDArray[Any]], Error]:
        """Rows of each piece, and what they lose."""

    @abstractmethod
    def decode(self, rows: Sequence[NDArray[Any]], option: Option, cols: int) -> NDArray[np.float32]:
        """Weights [rows, cols] of rows of each piece."""

    @abstractmethod
    def check(
        self, weights: NDArray[Any], rows: Sequence[NDArray[Any]], option: Option, block: Block
    ) -> BlockCheck:
        """Compare stored rows with their source."""

    @abstractmethod
    def documents(self, checkpoint: Checkpoint, plan: Plan) -> Mapping[str, bytes]:
        """The target's own small files, such as config.json."""


def stored_pieces(scheme: Scheme, tensor: TensorInfo, option: Option | None) -> Sequence[Piece]:
    """The tensors that store a tensor of the checkpoint: itself, unless it is quantized."""
    if option is None or option.is_kept:
        return (Piece(tensor.name, tensor.dtype, tensor.shape),)
    return scheme.pieces(tensor, option)


class SafetensorsWriter:
    """Writes the safetensors files of one export.

    Parameters
    ----------
    scheme : Scheme
    checkpoint : Checkpoint
    plan : Plan
    """

    def __init__(self, scheme: Scheme, checkpoint: Checkpoint, plan: Plan) -> None:
        self._scheme = scheme
        self._checkpoint = checkpoint
        self._plan = plan
        sources = {
            name: [checkpoint.tensors[name].dtype, list(checkpoint.tensors[name].shape)]
            for name, option in plan.choices.items()
            if not option.is_kept
        }
        metadata = {PLAN_KEY: _compact(plan.recipe), SOURCE_KEY: _compact(sources)}
        self._pieces = {
            name: stored_pieces(scheme, tensor, plan.choices.get(name))
            for name, tensor in checkpoint.tensors.items()
        }
        self._layout = lay_out(self._pieces.values(), {**scheme.metadata, **metadata}, scheme.stem)
        self.units: Sequence[Unit] = units_of(checkpoint)
        self.documents = scheme.documents(checkpoint, plan)
        self.notes: Sequence[str] = ()

    @property
    def predicted_bytes(self) -> int:
        """Exact bytes of all files, headers and index included."""
        return self._layout.nbytes

    def begin(self, folder: Path) -> None:
        """Create the files at their final size, with their headers."""
        self._layout.create(folder)

    def write(self, unit: Unit, folder: Path) -> Iterator[int]:
        """Write a unit's rows into their places; yields source bytes done.

        Raises
        ------
        QuantizationError
            If the source changed.
        ValidationError
            If a weight to quantize is NaN or Inf.
        """
        assert isinstance(unit, Run)
        files: dict[int, int] = {}
        try:
            for block in unit.blocks:
                for piece, rows in zip(self._pieces[block.tensor.name], self._rows(block), strict=True):
                    shard, offset = self._layout.places[piece.name]
                    if shard not in files:
                        files[shard] = os.open(folder / self._layout.shards[shard].name, os.O_WRONLY)
                    write_all(files[shard], rows, offset + block.row_start * piece.row_bytes)
                yield block.nbytes
            for file in files.values():
                os.fsync(file)
        finally:
            for file in files.values():
                os.close(file)

    def _rows(self, block: Block) -> Sequence[NDArray[Any]]:
        name = block.tensor.name
        weights = self._checkpoint.read_rows(name, block.row_start, block.row_start + block.rows)
        option = self._plan.choices.get(name)
        if option is None or option.is_kept:
            return (weights,)
        return self._scheme.encode(weights, option, name, block.row_start)[0]


class SafetensorsPayload:
    """The safetensors files of an export, opened.

    Parameters
    ----------
    scheme : Scheme
    folder : Path
    may_change : bool
        Other units of it are being written.

    Raises
    ------
    MetadataError, ModelNotFoundError, ShapeMismatchError
        If a file is missing or malformed, or its tensors are not those of its plan.
    """

    def __init__(self, scheme: Scheme, folder: Path, *, may_change: bool = False) -> None:
        self.folder = folder
        self._scheme = scheme
        index = folder / f"{scheme.stem}.safetensors.index.json"
        single = folder / f"{scheme.stem}.safetensors"
        self._index = index if index.exists() else None
        self._files = (
            ShardedSafeTensorsAdapter(index, may_change=may_change)
            if self._index
            else SafeTensorsAdapter(single, may_change=may_change)
        )
        self.plan, sources = self._read_metadata()
        self._parts: dict[str, list[str]] = {}
        self.tensors = MappingProxyType(self._match(sources))

    @property
    def nbytes(self) -> int:
        """Bytes of all files, the index included."""
        files = {info.path for info in self._files.tensors.values()}
        index = self._index.stat().st_size if self._index else 0
        return sum(path.stat().st_size for path in files) + index

    def read(self, name: str) -> NDArray[Any]:
        """The tensor: decoded to float32 where it was quantized, else in its own dtype."""
        stored = self.tensors[name]
        if stored.option is None or stored.option.is_kept:
            return self._rows(name, None).reshape(stored.shape)
        rows = [self._rows(piece, None) for piece in self._parts[name]]
        return self._scheme.decode(rows, stored.option, math.prod(stored.shape[1:])).reshape(stored.shape)

    def units(self, checkpoint: Checkpoint) -> int:
        """Number of units into which it is divided for checking."""
        return len(units_of(checkpoint))

    def check(self, unit: int, checkpoint: Checkpoint) -> Iterator[BlockCheck]:
        """Compare the blocks of a unit with their source."""
        for block in units_of(checkpoint)[unit].blocks:
            yield self._check_block(block, checkpoint)

    def _check_block(self, block: Block, checkpoint: Checkpoint) -> BlockCheck:
        name, stop = block.tensor.name, block.row_start + block.rows
        weights = checkpoint.read_rows(name, block.row_start, stop)
        stored = self.tensors[name]
        where = slice(block.row_start, stop)
        if stored.option is None or stored.option.is_kept:
            if self._rows(name, where).tobytes() != weights.tobytes():
                raise QuantizationError(
                    f"{self.folder}: rows {block.row_start} to {stop} of {name!r} differ from the source.",
                    path=self.folder,
                    tensor=name,
                )
            return BlockCheck(name, weights.nbytes)
        rows = [self._rows(piece, where) for piece in self._parts[name]]
        return self._scheme.check(weights, rows, stored.option, block)

    def _match(self, sources: Mapping[str, TensorInfo]) -> dict[str, StoredTensor]:
        """The checkpoint's tensors, put together from the files' tensors, in their order."""
        owners: dict[str, str] = {}
        for name, source in sources.items():
            pieces = self._scheme.pieces(source, self.plan.choices[name])
            for piece in pieces:
                found = self._files.tensors.get(piece.name)
                if found is None or (found.dtype, found.shape) != (piece.dtype, piece.shape):
                    raise MetadataError(
                        f"{self.folder}: tensor {piece.name!r}, which stores {name!r}, should be {piece.dtype} "
                        f"{piece.shape}, and is {f'{found.dtype} {found.shape}' if found else 'missing'}.",
                        path=self.folder,
                        tensor=name,
                    )
                owners[piece.name] = name
            self._parts[name] = [piece.name for piece in pieces]
        tensors: dict[str, StoredTensor] = {}
        for stored, info in self._files.tensors.items():
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

    def _rows(self, piece: str, where: slice | None) -> NDArray[Any]:
        """Rows of a stored tensor, read and not mapped, as [rows, ...]."""
        info = self._files.tensors[piece]
        rows = info.shape[0] if info.shape else 1
        start, stop = (0, rows) if where is None else (where.start, where.stop)
        shape = (stop - start, *info.shape[1:])
        out = np.empty(shape, DTYPES[info.dtype])
        row_bytes = out.nbytes // max(stop - start, 1)
        self._files.read_into(piece, start * row_bytes, out.reshape(-1).view(np.uint8))
        return out

    def _read_metadata(self) -> tuple[Plan, dict[str, TensorInfo]]:
        try:
            plan = Plan.from_dict(json.loads(self._files.metadata[PLAN_KEY]), f"{self.folder}: plan")
            sources = {}
            for name, (dtype, shape) in json.loads(self._files.metadata[SOURCE_KEY]).items():
                if dtype not in DTYPES or plan.choices[name].is_kept or min(map(int, shape)) < 1:
                    raise ValueError(f"what it says of {name!r} is impossible")
                sources[name] = TensorInfo(name, dtype, tuple(map(int, shape)), self.folder, 0, 0)
        except (KeyError, ValueError, TypeError, AttributeError, RecursionError, ConfigurationError) as error:
            raise MetadataError(
                f"{self.folder}: the files' metadata do not hold a sound plan: {error}", path=self.folder
            ) from error
        return plan, sources


def _compact(document: object) -> str:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)
