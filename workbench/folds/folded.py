"""`FoldedReader`: tensors as they are with folds made, read in blocks like any other; a checkpoint of them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.checkpoint import Checkpoint, TensorInfo
from workbench.checkpoint.readers.reader import DerivedReader, TensorReader
from workbench.folds.fold import Divided, Fold, SingleArray

DTYPE = "F32"
"""What a tensor that a fold has changed is stored as."""


class Change:
    """What folds make of one tensor: w[i, j] → (w[i, j] + one_i) · columns_j / rows_i − one_i."""

    def __init__(self, info: TensorInfo) -> None:
        self._rows = info.shape[0]
        self._cols = math.prod(info.shape[1:])
        self.rows: SingleArray | None = None
        """s by which each row is divided, [rows]."""
        self.columns: SingleArray | None = None
        """s by which each column is multiplied, [columns]."""
        self.ones: NDArray[np.bool_] | None = None
        """Rows to which the model adds 1, [rows]."""

    def divide(self, part: Divided, factors: SingleArray) -> None:
        where = slice(part.start, part.start + len(factors))
        if self.rows is None:
            self.rows = np.ones(self._rows, np.float32)
        self.rows[where] = factors
        if part.adds_one:
            if self.ones is None:
                self.ones = np.zeros(self._rows, np.bool_)
            self.ones[where] = True

    def multiply(self, factors: SingleArray) -> None:
        self.columns = factors

    def apply(self, values: NDArray[Any], start: int) -> SingleArray:
        """Rows of the tensor, [rows, columns], from a row on, with the folds made."""
        found = values.astype(np.float32)
        if self.columns is not None:
            found *= self.columns
        if self.rows is not None:
            divisors = self.rows[start : start + len(found), None]
            if self.ones is not None and (ones := self.ones[start : start + len(found)]).any():
                # 1/s − 1 would lose the digits of b where s is far from 1; a bias is short, so float64 costs nothing.
                exact = (1.0 + values[ones].astype(np.float64)) / divisors[ones] - 1.0
                found /= divisors
                found[ones] = exact
            else:
                found /= divisors
        return found


class FoldedReader(DerivedReader):
    """Another reader's tensors as they are with folds made; those that a fold changes are float32.

    They are read from the source in blocks, and changed on the way.

    Parameters
    ----------
    source : TensorReader
    folds : sequence of Fold
        At different sites.
    """

    def __init__(self, source: TensorReader, folds: Sequence[Fold]) -> None:
        super().__init__(source)
        self.folds = tuple(folds)
        changes: dict[str, Change] = {}

        def change(tensor: str) -> Change:
            return changes.setdefault(tensor, Change(source.tensors[tensor]))

        for fold in self.folds:
            for part in fold.site.divided:
                change(part.tensor).divide(part, fold.factors)
            for consumer in fold.site.consumers:
                change(consumer).multiply(fold.factors[fold.site.spread])
        self.changes = MappingProxyType(changes)
        self.tensors = MappingProxyType(
            {
                name: replace(info, dtype=DTYPE, nbytes=4 * math.prod(info.shape))
                if name in changes
                else info
                for name, info in source.tensors.items()
            }
        )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, over the source's fingerprint and the folds.

        It is not that of the files which the folded checkpoint may be written to.
        """
        seen = hashlib.sha256(self.source.fingerprint.encode())
        for fold in sorted(self.folds, key=lambda fold: fold.site.name):
            seen.update(f"\0{fold.site.name}\0".encode() + fold.factors.astype("<f4").tobytes())
        return seen.hexdigest()

    def read_rows(self, name: str, start: int, stop: int, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Rows of a tensor, see `TensorReader.read_rows`; float32 where a fold has changed it."""
        change = self.changes.get(name)
        if change is None:
            return self.source.read_rows(name, start, stop, out)
        if out is None:
            return change.apply(self.source.read_rows(name, start, stop), start)
        return super().read_rows(name, start, stop, out)

    def _fill(self, info: TensorInfo, start: int, target: NDArray[np.uint8]) -> None:
        if info.name not in self.changes:
            self.source.read_into(info.name, start, target)
            return
        row_bytes = info.nbytes // max(info.shape[0], 1)
        first, last = start // row_bytes, -(-(start + target.size) // row_bytes)
        within = start - first * row_bytes
        rows = self.read_rows(info.name, first, last).reshape(-1).view(np.uint8)
        target[...] = rows[within : within + target.size]

    def _view(self, info: TensorInfo) -> NDArray[Any]:
        if info.name not in self.changes:
            return self.source.view(info.name)
        found = self.read_rows(info.name, 0, info.shape[0]).reshape(info.shape)
        found.flags.writeable = False
        return found


class FoldedCheckpoint(Checkpoint):
    """A checkpoint with folds made: the same function in float32, under the same names, see `FoldedReader`.

    The source must stay open.

    Parameters
    ----------
    source : Checkpoint
    folds : sequence of Fold
        At different sites of the checkpoint.
    """

    source: Checkpoint
    """The checkpoint without the folds."""
    folds: tuple[Fold, ...]
    """What was folded."""
    changes: Mapping[str, Change]
    """What that makes of the tensors, by name; those that stay as they are have none."""

    def __init__(self, source: Checkpoint, folds: Sequence[Fold]) -> None:
        reader = FoldedReader(source, folds)
        super().__init__(source.description, reader, opened=source.opened)
        self.source = source
        self.folds = reader.folds
        self.changes = reader.changes
