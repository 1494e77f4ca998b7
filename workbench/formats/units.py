"""Units of an export whose rows go straight to their final place: runs of blocks in the checkpoint's order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from numpy.typing import NDArray

from workbench import system
from workbench.checkpoint import Checkpoint
from workbench.checkpoint.blocks import Block, divide
from workbench.formats.target import Unit

UNIT_BYTES = 64 * 2**20
"""Source bytes after which a unit is closed."""


@dataclass(frozen=True)
class Run(Unit):
    """A unit of consecutive blocks."""

    blocks: tuple[Block, ...]
    """The blocks."""


def units_of(checkpoint: Checkpoint, row_multiple: int = 1) -> list[Run]:
    """The division of a checkpoint into units, whose blocks of a layer are of a multiple of so many rows."""
    return [
        Run(index, sum(block.nbytes for block in blocks), tuple(blocks))
        for index, blocks in enumerate(divide(checkpoint, UNIT_BYTES, row_multiple))
    ]


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
