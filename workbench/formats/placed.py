"""Payloads in which every byte has its place before a weight is read: rows go straight there, in any order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from numpy.typing import NDArray

from workbench import system
from workbench.checkpoint import Checkpoint, TensorInfo
from workbench.checkpoint.blocks import Block, divide
from workbench.formats.codec import Encoder
from workbench.formats.format import Unit
from workbench.plan import Option

UNIT_BYTES = 64 * 2**20
"""Source bytes after which a unit is closed."""


@dataclass(frozen=True)
class BlockUnit(Unit):
    """A unit of consecutive blocks."""

    blocks: tuple[Block, ...]
    """The blocks."""


def units_of(checkpoint: Checkpoint, row_multiple: int = 1) -> list[BlockUnit]:
    """The division of a checkpoint into units, whose blocks of a layer are of a multiple of so many rows."""
    return [
        BlockUnit(index, sum(block.nbytes for block in blocks), tuple(blocks))
        for index, blocks in enumerate(divide(checkpoint, UNIT_BYTES, row_multiple))
    ]


@dataclass(frozen=True)
class Place:
    """Where a stored tensor is."""

    file: str
    """The file, relative to the folder of the export."""
    offset: int
    """Where its data begin there."""
    row_bytes: int
    """Bytes of one step along its first axis."""
    runs: Callable[[int, int], Iterable[tuple[slice, int]]] | None
    """Which of the rows that store some rows of the layer go together, and to which row of the stored tensor; None
    where it is of the whole layer, and written with each of its blocks, since any of them may be read back first."""


class PlacedLayout(Protocol):
    """A layout that knows the place of every row."""

    @property
    def units(self) -> Sequence[Unit]:
        """Runs of blocks, see `units_of`."""

    @property
    def choices(self) -> Mapping[str, Option]:
        """The options of the layers."""

    def create(self, folder: Path) -> None:
        """Create the files at their final size, with all that is known beforehand; what is there already stays."""

    def places(self, name: str) -> Sequence[Place]:
        """Of a tensor of the checkpoint: where each of its pieces is, see `workbench.quantize.Encoded.pieces`."""

    def convert(self, rows: NDArray[Any], tensor: TensorInfo) -> NDArray[Any]:
        """Rows of a kept tensor, as they are stored."""


class PlacedWriter:
    """Writes the payload of a `PlacedLayout`.

    Parameters
    ----------
    layout : PlacedLayout
    checkpoint : Checkpoint
    encoder : Encoder
        The plan's.
    """

    def __init__(self, layout: PlacedLayout, checkpoint: Checkpoint, encoder: Encoder) -> None:
        self._layout = layout
        self._checkpoint = checkpoint
        self._encoder = encoder

    def begin(self, folder: Path) -> None:
        """Create the files at their final size, with their headers."""
        self._layout.create(folder)

    def write(self, unit: Unit, folder: Path) -> Iterator[int]:
        """Write a unit's rows into their places; yields source bytes when they can be read back.

        Raises
        ------
        QuantizationError
            If the source changed.
        ValidationError
            If a weight to quantize is NaN or Inf.
        """
        assert isinstance(unit, BlockUnit)
        with PlacedRows() as files:
            for block in unit.blocks:
                first, stop = block.row_start, block.row_start + block.rows
                pieces = self._pieces(block)
                for place, piece in zip(self._layout.places(block.tensor.name), pieces, strict=True):
                    path = folder / place.file
                    if place.runs is None:
                        files.write(path, piece, place.offset)
                        continue
                    for rows, row in place.runs(first, stop):
                        files.write(path, piece[rows], place.offset + row * place.row_bytes)
                yield block.nbytes

    def _pieces(self, block: Block) -> Sequence[NDArray[Any]]:
        tensor = block.tensor
        weights = self._checkpoint.read_rows(tensor.name, block.row_start, block.row_start + block.rows)
        option = self._layout.choices.get(tensor.name)
        if option is None or option.is_kept:
            return (self._layout.convert(weights, tensor),)
        # What is read back will be measured.
        return self._encoder.encode(tensor, option, weights, block.row_start, measured=False).pieces


class PlacedRows:
    """Rows written into their places in files that exist.

    A context manager: left without an error, what was written is on the disk, and its memory let go, which the source
    needs more.
    """

    def __enter__(self) -> Self:
        self._files: dict[Path, int] = {}
        self._places: list[tuple[int, int, int]] = []
        return self

    def write(self, path: Path, rows: NDArray[Any], offset: int) -> None:
        """Write all bytes of an array to a place of a file."""
        if path not in self._files:
            self._files[path] = system.open_for_writing(path)
        system.write_at(self._files[path], rows, offset)
        self._places.append((self._files[path], offset, rows.nbytes))

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        try:
            if kind is None:
                for file in self._files.values():
                    system.sync(file)
                for place in self._places:
                    system.release(*place)
        finally:
            for file in self._files.values():
                system.close(file)
