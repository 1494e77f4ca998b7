"""Units of an export whose rows go straight to their final place: runs of blocks in the checkpoint's order."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

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
