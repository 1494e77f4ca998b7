"""The division of a checkpoint into blocks of rows, the unit in which everything is streamed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.checkpoint.readers.reader import TensorReader
from workbench.checkpoint.tensors import DTYPES, TensorInfo
from workbench.errors import QuantizationError

IntArray = NDArray[np.int64]

BLOCK_WEIGHTS = 2**21
"""Most weights a block holds, unless a single row has more."""


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


def row_ranges(
    start: int, stop: int, cols: int, *, multiple: int = 1, most: int | None = None
) -> Iterator[tuple[int, int]]:
    """The division of rows into blocks: the first row of each, and the one after its last.

    Parameters
    ----------
    start, stop : int
        The rows to divide.
    cols : int
        Weights in each.
    multiple : int
        Blocks are of a multiple of so many rows, but for the last.
    most : int, optional
        Most weights in a block, unless so few rows have more; by default `BLOCK_WEIGHTS`.
    """
    step = max((BLOCK_WEIGHTS if most is None else most) // max(cols, 1) // multiple, 1) * multiple
    for first in range(start, stop, step):
        yield first, min(first + step, stop)


def blocks_of(tensor: TensorInfo, multiple: int = 1) -> Iterator[Block]:
    """The blocks of a tensor, of a multiple of so many rows but for the last; one without rows where it is empty."""
    rows = tensor.shape[0] if tensor.shape else 1
    cols = math.prod(tensor.shape[1:])
    if rows * cols == 0:
        yield Block(tensor, 0, 0, rows)
        return
    for index, (start, stop) in enumerate(row_ranges(0, rows, cols, multiple=multiple)):
        yield Block(tensor, index, start, stop - start)


def read_blocks(
    reader: TensorReader,
    name: str,
    rows: IntArray | None = None,
    *,
    most: int | None = None,
) -> Iterator[tuple[IntArray, NDArray[Any]]]:
    """Blocks of some rows of a tensor, or of all: the rows' indices and their weights [rows, cols].

    The weights are good until the next block is asked for, which may overwrite them.

    Parameters
    ----------
    reader : TensorReader
    name : str
        The tensor, which is not empty.
    rows : int64 [rows], optional
        Which; by default all.
    most : int, optional
        Most weights in a block; by default `BLOCK_WEIGHTS`.
    """
    info = reader.tensors[name]
    cols = math.prod(info.shape[1:])
    every = np.arange(info.shape[0] if info.shape else 1) if rows is None else rows
    buffer: NDArray[Any] | None = None
    for start, stop in row_ranges(0, len(every), cols, most=most):
        some = every[start:stop]
        if rows is None and reader.keeps_rows:
            yield some, reader.read_rows(name, start, stop)
            continue
        if buffer is None:  # the first block is the largest
            buffer = np.empty((stop - start, cols), DTYPES[info.dtype])
        weights = buffer[: stop - start]
        if rows is None:
            reader.read_rows(name, start, stop, weights)
        else:
            for place, row in enumerate(some.tolist()):
                reader.read_rows(name, row, row + 1, weights[place : place + 1])
        yield some, weights


def divide(checkpoint: TensorReader, most_bytes: int, multiple: int = 1) -> list[list[Block]]:
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
