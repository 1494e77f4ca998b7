"""`FusedReader`: tensors under other names, made of rows of those that another reader has."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from operator import itemgetter
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.checkpoint.original_names import Part
from workbench.checkpoint.readers.reader import DerivedReader, TensorReader
from workbench.checkpoint.tensors import DTYPES, TensorInfo

WIDE = "F32"
"""What parts of different dtypes become."""


class FusedReader(DerivedReader):
    """Tensors made of rows of a reader's tensors; nothing is copied before it is read.

    Parameters
    ----------
    source : TensorReader
    parts : mapping of str to tuple of Part
        What each tensor is made of, by its new name; the parts of one agree in all axes but the first. Where their
        dtypes differ, it is float32.
    """

    tensors: Mapping[str, TensorInfo]
    """The tensors by their new names, in the order of the parts. Each is said to lie where its first part does."""

    def __init__(self, source: TensorReader, parts: Mapping[str, tuple[Part, ...]]) -> None:
        super().__init__(source)
        self.parts = MappingProxyType(dict(parts))
        self.tensors = MappingProxyType({name: self._made(name) for name in self.parts})

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, over the source's fingerprint and what the tensors are made of."""
        seen = hashlib.sha256(self.source.fingerprint.encode())
        for name, parts in self.parts.items():
            seen.update(f"\0{name}".encode())
            for part in parts:
                seen.update(f"\0{part.tensor}\0{part.start}\0{part.stop}".encode())
        return seen.hexdigest()

    def _fill(self, info: TensorInfo, start: int, target: NDArray[np.uint8]) -> None:
        row_bytes = info.nbytes // max(info.shape[0] if info.shape else 1, 1)
        stop = start + target.size
        at = 0
        for part in self.parts[info.name]:
            size = (part.stop - part.start) * row_bytes
            first, last = max(start, at), min(stop, at + size)
            if first < last:
                self._fill_part(
                    part, info, part.start * row_bytes + first - at, target[first - start : last - start]
                )
            at += size

    def _fill_part(self, part: Part, info: TensorInfo, start: int, target: NDArray[np.uint8]) -> None:
        """Bytes of a source tensor, counted in the dtype of the whole."""
        own, whole = DTYPES[self.source.tensors[part.tensor].dtype], DTYPES[info.dtype]
        if own == whole:
            self.source.read_into(part.tensor, start, target)
            return
        first, last = start // whole.itemsize, -(-(start + target.size) // whole.itemsize)
        values = np.empty(last - first, own)
        self.source.read_into(part.tensor, first * own.itemsize, values.view(np.uint8))
        skipped = start - first * whole.itemsize
        target[:] = values.astype(whole).view(np.uint8)[skipped : skipped + target.size]

    def _view(self, info: TensorInfo) -> NDArray[Any]:
        found = [self.source.view(part.tensor) for part in self.parts[info.name]]
        if len(found) == 1:
            return found[0]
        rows = [
            array[part.start : part.stop] for array, part in zip(found, self.parts[info.name], strict=True)
        ]
        joined = np.concatenate([part.astype(DTYPES[info.dtype], copy=False) for part in rows])
        joined.flags.writeable = False
        return joined

    def _made(self, name: str) -> TensorInfo:
        parts = self.parts[name]
        infos = [self.source.tensors[part.tensor] for part in parts]
        first = infos[0]
        dtype = first.dtype if all(info.dtype == first.dtype for info in infos) else WIDE
        shape = (sum(part.stop - part.start for part in parts), *first.shape[1:]) if first.shape else ()
        return TensorInfo(
            name, dtype, shape, first.path, first.offset, math.prod(shape) * DTYPES[dtype].itemsize
        )


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
