"""`RowCache`: a reader with a cache of one block a thread, so that what is written is not read again to check it."""

from __future__ import annotations

import threading
from typing import Any

from numpy.typing import NDArray

from workbench.checkpoint.readers.reader import DerivedReader, TensorReader


class RowCache(DerivedReader):
    """A reader of which each thread keeps the rows that it read last; what it gives of them is read-only.

    Parameters
    ----------
    source : TensorReader
    whole : bool
        Read, and keep, the whole tensor that rows are asked of.
    """

    keeps_rows = True

    def __init__(self, source: TensorReader, *, whole: bool) -> None:
        super().__init__(source)
        self._whole = whole
        self._last = threading.local()

    def read_rows(self, name: str, start: int, stop: int, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Rows of a tensor, see `TensorReader.read_rows`; those read last are not read again."""
        if out is not None:
            return self.source.read_rows(name, start, stop, out)
        first, last = start, stop
        if self._whole:
            shape = self._info(name).shape
            rows_in_all = shape[0] if shape else 1
            if 0 <= start <= stop <= rows_in_all:  # else the source says what is wrong
                first, last = 0, rows_in_all
        if getattr(self._last, "place", None) != (name, first, last):
            # There is never room for both, nor for what cannot be read.
            self._last.rows = self._last.place = None
            self._last.rows = self.source.read_rows(name, first, last)
            self._last.rows.flags.writeable = False
            self._last.place = name, first, last
        rows: NDArray[Any] = self._last.rows[start - first : stop - first]
        return rows
