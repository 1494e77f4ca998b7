"""The division of a checkpoint into blocks of rows, the unit in which everything is streamed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from workbench.checkpoint import Checkpoint, TensorInfo
from workbench.errors import QuantizationError

BLOCK_WEIGHTS = 2**21
"""Most weights a block holds, unless a single row has more."""


class RowReader(Protocol):
    """Reads rows of tensors, as a checkpoint does."""

    def read_rows(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Rows of a tensor, [rows, cols]."""


class Named(Protocol):
    """A layer, or a tensor of a checkpoint."""

    @property
    def name(self) -> str:
        """Its name in the checkpoint."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""


@dataclass(frozen=True)
class Block:
    """Consecutive rows of a tensor, seen as [out, in]."""

    tensor: TensorInfo
    """The tensor."""
    index: int
    """Place of the block in the tensor, from 0."""
    row_start: int
    """First row."""
    rows: int
    """Number of rows."""

    @property
    def cols(self) -> int:
        """Weights per row."""
        return math.prod(self.tensor.shape[1:])

    @property
    def nbytes(self) -> int:
        """Bytes in the source."""
        count = self.rows * self.cols
        return count * self.tensor.nbytes // max(math.prod(self.tensor.shape), 1)


def blocks_of(tensor: TensorInfo, multiple: int = 1) -> Iterator[Block]:
    """The blocks of a tensor, of a multiple of so many rows but for the last; one without rows where it is empty."""
    rows = tensor.shape[0] if tensor.shape else 1
    cols = math.prod(tensor.shape[1:])
    if rows * cols == 0:
        yield Block(tensor, 0, 0, rows)
        return
    step = max(BLOCK_WEIGHTS // cols // multiple, 1) * multiple
    for index, start in enumerate(range(0, rows, step)):
        yield Block(tensor, index, start, min(step, rows - start))


def read_in_blocks(tensor: Named, reader: RowReader) -> Iterator[NDArray[Any]]:
    """The weights of a tensor, [rows, cols], in blocks; none where it is empty."""
    cols = math.prod(tensor.shape[1:])
    step = max(BLOCK_WEIGHTS // max(cols, 1), 1)
    for start in range(0, tensor.shape[0] if cols else 0, step):
        yield reader.read_rows(tensor.name, start, min(start + step, tensor.shape[0]))


def divide(checkpoint: Checkpoint, most_bytes: int, multiple: int = 1) -> list[list[Block]]:
    """The blocks of all tensors, in the checkpoint's order, in runs that end once they hold so many source bytes.

    Blocks are of a multiple of so many rows, see `blocks_of`.
    """
    runs: list[list[Block]] = [[]]
    size = 0
    for tensor in checkpoint.tensors.values():
        for block in blocks_of(tensor, multiple):
            if size >= most_bytes:
                runs.append([])
                size = 0
            runs[-1].append(block)
            size += block.nbytes
    return runs


def require_same(
    stored: NDArray[Any], source: NDArray[Any], folder: Path, tensor: str, row_start: int
) -> None:
    """Make sure that rows which keep their dtype are the source's, byte for byte.

    Raises
    ------
    QuantizationError
        If they are not: names the rows.
    """
    if not np.array_equal(stored.reshape(-1).view(np.uint8), source.reshape(-1).view(np.uint8)):
        raise QuantizationError(
            f"{folder}: rows {row_start} to {row_start + len(source)} of {tensor!r} differ from the source.",
            path=folder,
            tensor=tensor,
        )
