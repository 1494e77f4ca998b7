"""A checkpoint that each thread remembers the last of, so that what is written is not read again to check it."""

from __future__ import annotations

import threading
from typing import Any, cast

from numpy.typing import NDArray

from workbench.checkpoint import Checkpoint


class _Remembered:
    def __init__(self, checkpoint: Checkpoint, whole: bool) -> None:
        self._checkpoint = checkpoint
        self._whole = whole
        self._last = threading.local()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._checkpoint, name)

    def read_rows(self, name: str, start: int, stop: int) -> NDArray[Any]:
        first, last = start, stop
        if self._whole:
            shape = self._checkpoint.tensors[name].shape
            first, last = 0, shape[0] if shape else 1
        if getattr(self._last, "place", None) != (name, first, last):
            self._last.rows = self._last.place = (
                None  # there is never room for both, nor for what cannot be read
            )
            self._last.rows = self._checkpoint.read_rows(name, first, last)
            self._last.rows.flags.writeable = False
            self._last.place = name, first, last
        rows: NDArray[Any] = self._last.rows[start - first : stop - first]
        return rows


def remembered(checkpoint: Checkpoint, whole: bool) -> Checkpoint:
    """The checkpoint, but each thread keeps the rows that it read last, which are read-only.

    Parameters
    ----------
    checkpoint : Checkpoint
    whole : bool
        Read, and keep, the whole tensor that rows are asked of: for ``enable_streaming: false``.
    """
    return cast("Checkpoint", _Remembered(checkpoint, whole))
