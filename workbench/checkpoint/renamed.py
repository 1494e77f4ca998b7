"""A checkpoint under other names, its tensors made of rows of those that it has."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from workbench.checkpoint.header import DTYPES, TensorInfo
from workbench.checkpoint.original_names import Part

WIDE = "F32"
"""What parts of different dtypes become."""


class Source(Protocol):
    """Tensors by name, read in bytes."""

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """The tensors."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """What their files say besides."""

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, that recognises the weights."""

    def view(self, name: str) -> NDArray[Any]:
        """A tensor, for looking."""

    def read_into(self, name: str, start_byte: int, buffer: Any) -> None:
        """Fill a buffer with bytes of a tensor."""

    def check_unchanged(self) -> None:
        """Raise `QuantizationError` when a file is not what it was when it was opened."""

    def close(self) -> None:
        """Close the files."""


class RenamedAdapter(Mapping[str, NDArray[Any]]):
    """Tensors made of rows of a checkpoint's tensors; nothing is copied before it is read.

    Parameters
    ----------
    source : Source
        A checkpoint.
    parts : mapping of str to tuple of Part
        What each tensor is made of, by its new name; the parts of one agree in all axes but the first. Where their
        dtypes differ, it is float32.
    """

    tensors: Mapping[str, TensorInfo]
    """The tensors by their new names, in the order of the parts. Each is said to lie where its first part does."""

    def __init__(self, source: Source, parts: Mapping[str, tuple[Part, ...]]) -> None:
        self.source = source
        self.parts = MappingProxyType(dict(parts))
        self.metadata = source.metadata
        self.tensors = MappingProxyType({name: self._info(name) for name in self.parts})

    def _info(self, name: str) -> TensorInfo:
        parts = self.parts[name]
        infos = [self.source.tensors[part.tensor] for part in parts]
        first = infos[0]
        dtype = first.dtype if all(info.dtype == first.dtype for info in infos) else WIDE
        shape = (sum(part.stop - part.start for part in parts), *first.shape[1:]) if first.shape else ()
        return TensorInfo(
            name, dtype, shape, first.path, first.offset, math.prod(shape) * DTYPES[dtype].itemsize
        )

    def __getitem__(self, name: str) -> NDArray[Any]:
        found = [self.source.view(part.tensor) for part in self.parts[name]]
        if len(found) == 1:
            return found[0]
        rows = [array[part.start : part.stop] for array, part in zip(found, self.parts[name], strict=True)]
        joined = np.concatenate([part.astype(DTYPES[self.tensors[name].dtype], copy=False) for part in rows])
        joined.flags.writeable = False
        return joined

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def read_into(self, name: str, start: int, buffer: NDArray[np.uint8]) -> None:
        """Fill a buffer with bytes of a tensor, part by part."""
        info = self.tensors[name]
        row_bytes = info.nbytes // max(info.shape[0] if info.shape else 1, 1)
        stop = start + buffer.size
        at = 0
        for part in self.parts[name]:
            size = (part.stop - part.start) * row_bytes
            first, last = max(start, at), min(stop, at + size)
            if first < last:
                self._read_part(
                    part, info, part.start * row_bytes + first - at, buffer[first - start : last - start]
                )
            at += size

    def _read_part(self, part: Part, info: TensorInfo, start: int, buffer: NDArray[np.uint8]) -> None:
        """Bytes of a source tensor, counted in the dtype of the whole."""
        own, whole = DTYPES[self.source.tensors[part.tensor].dtype], DTYPES[info.dtype]
        if own == whole:
            self.source.read_into(part.tensor, start, buffer)
            return
        first, last = start // whole.itemsize, -(-(start + buffer.size) // whole.itemsize)
        values = np.empty(last - first, own)
        self.source.read_into(part.tensor, first * own.itemsize, values.view(np.uint8))
        skipped = start - first * whole.itemsize
        buffer[:] = values.astype(whole).view(np.uint8)[skipped : skipped + buffer.size]

    def digest(self) -> bytes:
        """SHA-256 over the source's, and what the tensors are made of."""
        seen = hashlib.sha256(self.source.fingerprint.encode())
        for name, parts in self.parts.items():
            seen.update(f"\0{name}".encode())
            for part in parts:
                seen.update(f"\0{part.tensor}\0{part.start}\0{part.stop}".encode())
        return seen.digest()

    def check_unchanged(self) -> None:
        """Raise `QuantizationError` when a file is not what it was when it was opened."""
        self.source.check_unchanged()

    def close(self) -> None:
        """Close the source's files."""
        self.source.close()


def split_rows(parts: Sequence[Part], values: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """A tensor of a renamed checkpoint, taken apart into the tensors of the files.

    Parameters
    ----------
    parts : sequence of Part
        What the tensor is made of, see `Checkpoint.parts`.
    values : ndarray
        Its values; the first axis is the rows, unless it has no axes.

    Returns
    -------
    dict of str to ndarray
        By the name in the files.
    """
    if len(parts) == 1:
        return {parts[0].tensor: values}
    pieces: dict[str, list[tuple[int, NDArray[Any]]]] = {}
    at = 0
    for part in parts:
        stop = at + part.stop - part.start
        pieces.setdefault(part.tensor, []).append((part.start, values[at:stop]))
        at = stop
    return {
        name: found[0][1]
        if len(found) == 1
        else np.concatenate([rows for _, rows in sorted(found, key=itemgetter(0))])
        for name, found in pieces.items()
    }
