"""Comparing what a runtime's own decoder makes of a layer with what ours does, and with the source."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.checkpoint import Checkpoint
from workbench.formats import Payload
from workbench.formats.blocks import blocks_of
from workbench.pipeline.referees import Referee
from workbench.plan import Layer
from workbench.quantize import Error, measure_error
from workbench.work import Progress

FOREIGN = (RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, OSError)
"""What another package raises for files or values that it cannot take."""


@dataclass(frozen=True)
class Judgement:
    """What a runtime's own decoder says of a layer."""

    layer: str
    """The layer."""
    max_difference: float
    """Greatest difference from our decoded weights, rounded to the dtype of the decoder's."""
    error: Error
    """What its weights lose against the source."""
    problem: str | None = None
    """What is wrong, in a sentence."""


class Judge:
    """Has layers decoded by a referee; safe to use from several threads.

    Parameters
    ----------
    referee : Referee
    payload : Payload
    checkpoint : Checkpoint
    progress : Progress
        Hears of bytes of source done.
    """

    def __init__(
        self, referee: Referee, payload: Payload, checkpoint: Checkpoint, progress: Progress
    ) -> None:
        self._referee = referee
        self._payload = payload
        self._checkpoint = checkpoint
        self._progress = progress
        self._lock = threading.Lock()  # not every package may be used from several threads

    def look(self, layer: Layer) -> Judgement:
        """Decode a layer by both, block by block."""
        greatest, error, is_close = 0.0, Error(), True
        problem: str | None = None
        for block in blocks_of(self._checkpoint.tensors[layer.name], 32):
            start, stop = block.row_start, block.row_start + block.rows
            try:
                with self._lock:
                    theirs = self._referee.decode(layer.name, start, stop).reshape(block.rows, block.cols)
            except FOREIGN as failure:
                problem = f"{self._referee.name} cannot decode {layer.name!r}: {failure!r}"
                return Judgement(layer.name, np.inf, error, problem)
            ours = self._payload.read_rows(layer.name, start, stop).reshape(block.rows, block.cols)
            difference, close = compare(ours, theirs)
            greatest, is_close = max(greatest, difference), is_close and close
            weights = self._checkpoint.read_rows(layer.name, start, stop)
            error += measure_error(weights, theirs.astype(np.float32), layer.name, start)
            self._progress.advance(weights.nbytes)
        if not is_close:
            problem = (
                f"Layer {layer.name!r}: {self._referee.name} decodes it to weights that differ from ours by up to "
                f"{greatest:.3g}, more than rounding explains."
            )
        return Judgement(layer.name, greatest, error, problem)


def compare(ours: NDArray[Any], theirs: NDArray[Any]) -> tuple[float, bool]:
    """Greatest difference of our weights, rounded to the dtype of theirs, and whether all are within one ulp of it."""
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = ours.astype(theirs.dtype)
        difference = np.abs(rounded.astype(np.float64) - theirs.astype(np.float64))
    if not difference.any():
        return 0.0, True
    if not np.isfinite(difference).all():
        return np.inf, False
    return float(difference.max()), bool((difference <= np.spacing(np.abs(theirs)).astype(np.float64)).all())
