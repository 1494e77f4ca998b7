"""Reading whole tensors at once, for ``enable_streaming: false``."""

from __future__ import annotations

import threading
from typing import Any, cast

from numpy.typing import NDArray

from workbench.checkpoint import Checkpoint


class _WholeTensors:
    """A checkpoint that reads a tensor whole when its first rows are asked for; each thread keeps the last."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._last = threading.local()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._checkpoint, name)

    def read_rows(self, name: str, start: int, stop: int) -> NDArray[Any]:
        if getattr(self._last, "name", None) != name:
            shape = self._checkpoint.tensors[name].shape
            self._last.rows = self._checkpoint.read_rows(name, 0, shape[0] if shape else 1)
            self._last.name = name
        rows: NDArray[Any] = self._last.rows[start:stop]
        return rows


def read_whole_tensors(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint, but reading tensors whole."""
    return cast("Checkpoint", _WholeTensors(checkpoint))
