"""The layout of safetensors files that are to be written: every offset is known before the first byte is.

Format: an 8-byte little-endian header length, a JSON header padded with spaces to a multiple of 8 bytes, the
tensors' data end to end (https://github.com/huggingface/safetensors).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench import system
from workbench.checkpoint import DTYPES

FORMAT_KEY = "format"
"""Key of ``__metadata__`` that transformers and accelerate ask for."""

FORMAT = "pt"
"""Its value in files of PyTorch models."""


@dataclass(frozen=True)
class Piece:
    """A tensor of the file to be written."""

    name: str
    """Its name in the file."""
    dtype: str
    """Its safetensors dtype."""
    shape: tuple[int, ...]
    """Its shape."""
    column_bits: int = 0
    """For codes packed down the columns, the bits of each: 32 rows of the layer share so many rows of this tensor.
    0 where its first axis is the layer's."""
    content: bytes | None = None
    """What it holds, where that is known before a weight is read."""
    is_whole: bool = False
    """Whether it is of the layer as a whole, such as a tensor's scale, and its axes are none of the layer's."""

    @property
    def nbytes(self) -> int:
        """Bytes of its data."""
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize

    @property
    def row_bytes(self) -> int:
        """Bytes of one step along its first axis."""
        return math.prod(self.shape[1:]) * DTYPES[self.dtype].itemsize

    def rows_of(self, start: int, stop: int) -> tuple[int, int]:
        """The rows of this tensor that hold rows of the layer; those must begin at a multiple of 32 if it is packed."""
        if not self.column_bits:
            return start, stop
        return start * self.column_bits // 32, -(-stop * self.column_bits // 32)


@dataclass(frozen=True)
class Shard:
    """One file."""

    name: str
    """File name, relative to the folder of the export."""
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
    contents: Mapping[str, bytes]
    """Data of the tensors that are known beforehand."""
    index: Mapping[str, bytes]
    """Name and content of the index file; empty where there is none."""

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of all files by name, the index included."""
        index = {name: len(content) for name, content in self.index.items()}
        return {shard.name: shard.nbytes for shard in self.shards} | index

    @property
    def nbytes(self) -> int:
        """Bytes of all files, the index included."""
        return sum(self.sizes.values())

    def create(self, folder: Path) -> None:
        """Write headers, index and what is known, and give the files their size; what is there already stays."""
        for place, shard in enumerate(self.shards):
            path = folder / shard.name
            path.parent.mkdir(exist_ok=True)
            if not path.exists() or path.stat().st_size != shard.nbytes:
                with path.open("wb") as file:
                    file.write(shard.header)
                    system.reserve(file, shard.nbytes)
            with path.open("r+b") as file:
                for name, content in self.contents.items():
                    if self.places[name][0] == place:
                        file.seek(self.places[name][1])
                        file.write(content)
        for name, content in self.index.items():
            (folder / name).write_bytes(content)


def by_size(
    groups: Iterable[Sequence[Piece]], shard_bytes: int, stem: str = "model"
) -> dict[str, Sequence[Piece]]:
    """Divide tensors into files, each closed once it holds so many bytes.

    Parameters
    ----------
    groups : iterable of sequences of Piece
        Tensors in order; those of a group, such as the parts of one layer, share a file.
    shard_bytes : int
        Bytes of tensor data after which a file is closed.
    stem : str
        What the files are called: ``model.safetensors``, or ``model-00001-of-00002.safetensors`` and so on.

    Returns
    -------
    dict of str to sequence of Piece
        The tensors of each file, by its name.
    """
    files: list[list[Piece]] = [[]]
    size = 0
    for group in groups:
        if size >= shard_bytes:
            files.append([])
            size = 0
        files[-1].extend(group)
        size += sum(piece.nbytes for piece in group)
    if len(files) == 1:
        return {f"{stem}.safetensors": files[0]}
    return {
        f"{stem}-{number:05d}-of-{len(files):05d}.safetensors": pieces
        for number, pieces in enumerate(files, start=1)
    }


def lay_out(
    files: Mapping[str, Sequence[Piece]], metadata: Mapping[str, str], index_name: str | None
) -> FileLayout:
    """Find the place of every tensor.

    Parameters
    ----------
    files : mapping of str to sequence of Piece
        The tensors of each file, by its name.
    metadata : mapping of str to str
        Goes into the first file's ``__metadata__``; the others get its ``format`` only, which loaders ask of each.
    index_name : str or None
        What the index is called; None where there is to be none.
    """
    short = {key: value for key, value in metadata.items() if key == FORMAT_KEY}
    first = min(files, default=None)
    shards = [_shard(name, pieces, metadata if name == first else short) for name, pieces in files.items()]
    pieces = [piece for held in files.values() for piece in held]
    index = {}
    if index_name is not None:
        weight_map = {name: Path(shard.name).name for shard in shards for name in shard.offsets}
        document = {
            "metadata": {"total_size": sum(piece.nbytes for piece in pieces)},
            "weight_map": weight_map,
        }
        index[index_name] = (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
    places = {
        name: (place, offset) for place, shard in enumerate(shards) for name, offset in shard.offsets.items()
    }
    contents = {piece.name: piece.content for piece in pieces if piece.content is not None}
    return FileLayout(tuple(shards), places, contents, index)


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
