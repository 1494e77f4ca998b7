"""Units of an export whose rows go straight to their final place: runs of blocks in the checkpoint's order."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from workbench.checkpoint import Checkpoint
from workbench.formats.blocks import Block, divide
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


def write_at(file: int, rows: NDArray[Any], offset: int) -> None:
    """Write all bytes of an array to a place of an open file."""
    rest = np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data
    while len(rest):
        count = os.pwrite(file, rest, offset)
        offset, rest = offset + count, rest[count:]


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
            self._files[path] = os.open(path, os.O_WRONLY)
        write_at(self._files[path], rows, offset)
        self._places.append((self._files[path], offset, rows.nbytes))

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        try:
            if kind is None:
                for file in self._files.values():
                    os.fsync(file)
                for place in self._places:
                    let_go(*place)
        finally:
            for file in self._files.values():
                os.close(file)


def let_go(file: int, offset: int = 0, size: int = 0) -> None:
    """Let the memory go that holds a part of an open file, or all of it; what is on the disk stays there."""
    if hasattr(os, "posix_fadvise"):  # macOS has not
        os.posix_fadvise(file, offset, size, os.POSIX_FADV_DONTNEED)
