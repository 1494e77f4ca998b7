"""A checkpoint under other names, its tensors made of rows of those that the files have."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from workbench.checkpoint.header import DTYPES, TensorInfo
from workbench.checkpoint.original_names import Part


class Source(Protocol):
    """The tensors of some files."""

    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]

    def __getitem__(self, name: str) -> NDArray[Any]:
        """A tensor, for looking."""

    def read_into(self, name: str, start: int, buffer: NDArray[np.uint8]) -> None:
        """Fill a buffer with bytes of a tensor."""

    def digest(self) -> bytes:
        """SHA-256 that recognises the weights."""

    def check_unchanged(self) -> None:
        """Raise `QuantizationError` when a file is not what it was when it was opened."""

    def close(self) -> None:
        """Close the files."""


class RenamedAdapter(Mapping[str, NDArray[Any]]):
    """Tensors made of rows of a source's tensors; nothing is copied before it is read.

    Parameters
    ----------
    source : Source
    parts : mapping of str to tuple of Part
        What each tensor is made of, by its new name; the parts of one agree in dtype and all axes but the first.
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
        first = self.source.tensors[parts[0].tensor]
        rows = sum(part.stop - part.start for part in parts)
        shape = (rows, *first.shape[1:]) if first.shape else ()
        nbytes = math.prod(shape) * DTYPES[first.dtype].itemsize
        return TensorInfo(name, first.dtype, shape, first.path, first.offset, nbytes)

    def __getitem__(self, name: str) -> NDArray[Any]:
        found = [self.source[part.tensor] for part in self.parts[name]]
        if len(found) == 1:
            return found[0]
        rows = [array[part.start : part.stop] for array, part in zip(found, self.parts[name], strict=True)]
        joined = np.concatenate(rows)
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
                self.source.read_into(
                    part.tensor, part.start * row_bytes + first - at, buffer[first - start : last - start]
                )
            at += size

    def digest(self) -> bytes:
        """SHA-256 over the source's, and what the tensors are made of."""
        seen = hashlib.sha256(self.source.digest())
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
