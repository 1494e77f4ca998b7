"""The layout of safetensors files that are to be written: every offset is known before the first byte is.

Format: an 8-byte little-endian header length, a JSON header padded with spaces to a multiple of 8 bytes, the
tensors' data end to end (https://github.com/huggingface/safetensors).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.checkpoint import DTYPES

SHARD_BYTES = 5 * 10**9
"""Tensor data after which a shard is closed."""


@dataclass(frozen=True)
class Piece:
    """A tensor of the file to be written."""

    name: str
    """Its name in the file."""
    dtype: str
    """Its safetensors dtype."""
    shape: tuple[int, ...]
    """Its shape."""

    @property
    def nbytes(self) -> int:
        """Bytes of its data."""
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize

    @property
    def row_bytes(self) -> int:
        """Bytes of one step along its first axis."""
        return math.prod(self.shape[1:]) * DTYPES[self.dtype].itemsize


@dataclass(frozen=True)
class Shard:
    """One file."""

    name: str
    """File name."""
    header: bytes
    """The header, its length before it and padding after it included."""
    offsets: Mapping[str, int]
    """Where each tensor's data begin in the file."""
    nbytes: int
    """Size of the file."""


@dataclass(frozen=True)
class FileLayout:
    """The files of a checkpoint to be written."""

    shards: tuple[Shard, ...]
    """The files."""
    places: Mapping[str, tuple[int, int]]
    """Shard and offset of each tensor."""
    index: bytes | None
    """Content of the index file; None for a single file."""
    index_name: str
    """Name of the index file."""

    @property
    def nbytes(self) -> int:
        """Bytes of all files, the index included."""
        return sum(shard.nbytes for shard in self.shards) + len(self.index or b"")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all files, the index included."""
        return tuple(shard.name for shard in self.shards) + ((self.index_name,) if self.index else ())

    def create(self, folder: Path) -> None:
        """Write headers and index, and give the files their size; what is there already stays."""
        for shard in self.shards:
            path = folder / shard.name
            if path.exists() and path.stat().st_size == shard.nbytes:
                continue
            with path.open("wb") as file:
                file.write(shard.header)
                file.truncate(shard.nbytes)
                if hasattr(os, "posix_fallocate"):  # not on macOS: there a full disk shows only while writing
                    os.posix_fallocate(file.fileno(), 0, shard.nbytes)
        if self.index is not None:
            (folder / self.index_name).write_bytes(self.index)


def lay_out(
    groups: Iterable[Sequence[Piece]], metadata: Mapping[str, str], stem: str = "model"
) -> FileLayout:
    """Divide tensors into files.

    Parameters
    ----------
    groups : iterable of sequences of Piece
        Tensors in order; those of a group, such as the parts of one layer, share a file.
    metadata : mapping of str to str
        Goes into each file's ``__metadata__``.
    stem : str
        What the files are called: ``model.safetensors``, or ``model-00001-of-00002.safetensors`` with an
        index.
    """
    files: list[list[Piece]] = [[]]
    size = 0
    for group in groups:
        if size >= SHARD_BYTES:
            files.append([])
            size = 0
        files[-1].extend(group)
        size += sum(piece.nbytes for piece in group)
    single = len(files) == 1
    shards = []
    for number, pieces in enumerate(files, start=1):
        name = f"{stem}.safetensors" if single else f"{stem}-{number:05d}-of-{len(files):05d}.safetensors"
        shards.append(_shard(name, pieces, metadata))
    index = None
    if not single:
        weight_map = {name: shard.name for shard in shards for name in shard.offsets}
        total = sum(piece.nbytes for pieces in files for piece in pieces)
        document = {"metadata": {"total_size": total}, "weight_map": weight_map}
        index = (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
    places = {
        name: (place, offset) for place, shard in enumerate(shards) for name, offset in shard.offsets.items()
    }
    return FileLayout(tuple(shards), places, index, f"{stem}.safetensors.index.json")


def write_at(file: int, rows: NDArray[Any], offset: int) -> None:
    """Write all bytes of an array to a place of an open file."""
    rest = np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data
    while len(rest):
        count = os.pwrite(file, rest, offset)
        offset, rest = offset + count, rest[count:]


def _shard(name: str, pieces: Sequence[Piece], metadata: Mapping[str, str]) -> Shard:
    entries: dict[str, object] = {"__metadata__": dict(metadata)}
    begins, at = {}, 0
    for piece in pieces:
        entries[piece.name] = {
            "dtype": piece.dtype,
            "shape": list(piece.shape),
            "data_offsets": [at, at + piece.nbytes],
        }
        begins[piece.name] = at
        at += piece.nbytes
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    header = len(text).to_bytes(8, "little") + text
    offsets = {tensor: len(header) + begin for tensor, begin in begins.items()}
    return Shard(name, header, offsets, len(header) + at)
