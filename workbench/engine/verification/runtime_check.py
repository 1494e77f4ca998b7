"""Comparing what a runtime's own decoder makes of a layer with what ours does, and with the source."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from workbench.checkpoint import Checkpoint
from workbench.checkpoint.blocks import blocks_of
from workbench.engine.referees import Referee
from workbench.formats import Payload
from workbench.plan import Layer
from workbench.quantize import Error, measure_error
from workbench.work import Progress

PACKAGE_ERRORS = (RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, OSError)
"""What another package raises for files or values that it cannot take."""


@dataclass(frozen=True)
class RuntimeFinding:
    """What a runtime's own package makes of a layer, or of a tensor that was kept."""

    layer: str
    """The layer or tensor."""
    max_difference: float
    """Greatest difference from our decoded weights, rounded to the dtype of the decoder's."""
    error: Error
    """What its weights lose against the source."""
    arithmetic: str = ""
    """The dtype in which it decodes; empty where it does not."""
    problem: str | None = None
    """What is wrong, in a sentence."""


class RuntimeCheck:
    """Has tensors loaded and decoded by a referee; safe to use from several threads.

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

    def check_layer(self, layer: Layer) -> RuntimeFinding:
        """Decode a layer by both, block by block."""
        greatest, error, is_close = 0.0, Error(), True
        problem: str | None = None
        arithmetic = ""
        for block in blocks_of(self._checkpoint.tensors[layer.name], 32):
            start, stop = block.row_start, block.row_start + block.rows
            try:
                with self._lock:
                    found = self._referee.decode(layer.name, start, stop)
                theirs = found.weights.reshape(block.rows, block.cols)
            except PACKAGE_ERRORS as failure:
                problem = f"{self._referee.name} cannot decode {layer.name!r}: {failure!r}"
                return RuntimeFinding(layer.name, np.inf, error, problem=problem)
            if not np.isfinite(theirs.astype(np.float32)).all():
                problem = (
                    f"Layer {layer.name!r}: {self._referee.name} decodes rows {start} to {stop} to weights that are "
                    f"not finite in {theirs.dtype.name}, in which it computes."
                )
                return RuntimeFinding(layer.name, np.inf, error, problem=problem)
            arithmetic = theirs.dtype.name
            ours = self._payload.read_rows(layer.name, start, stop).reshape(block.rows, block.cols)
            difference, close = compare(ours, theirs, found.summands)
            greatest, is_close = max(greatest, difference), is_close and close
            weights = self._checkpoint.read_rows(layer.name, start, stop)
            error += measure_error(weights, theirs.astype(np.float32), layer.name, start)
            self._progress.advance(weights.nbytes)
        if not is_close:
            problem = (
                f"Layer {layer.name!r}: {self._referee.name} decodes it to weights that differ from ours by up to "
                f"{greatest:.3g}, more than rounding explains."
            )
        return RuntimeFinding(layer.name, greatest, error, arithmetic, problem)

    def check_kept(self, name: str) -> RuntimeFinding:
        """Make sure that the runtime gives the values of a tensor that was kept."""
        for block in blocks_of(self._checkpoint.tensors[name]):
            start, stop = block.row_start, block.row_start + block.rows
            if block.rows * block.cols == 0:
                continue
            try:
                with self._lock:
                    theirs = self._referee.read(name, start, stop).reshape(block.rows, block.cols)
            except PACKAGE_ERRORS as failure:
                problem = f"{self._referee.name} cannot load {name!r}: {failure!r}"
                return RuntimeFinding(name, np.inf, Error(), problem=problem)
            ours = self._payload.read_rows(name, start, stop).reshape(block.rows, block.cols)
            if not same_values(ours, theirs):
                problem = (
                    f"Tensor {name!r}: {self._referee.name} gives other values, as {theirs.dtype.name}, than the "
                    f"source's in {ours.dtype.name}."
                )
                return RuntimeFinding(name, np.inf, Error(), problem=problem)
            self._progress.advance(ours.nbytes)
        return RuntimeFinding(name, 0.0, Error())


def same_values(ours: NDArray[Any], theirs: NDArray[Any]) -> bool:
    """Whether both are floats or both are integers, and their values the same in the dtype of theirs."""
    ours_is_whole, theirs_is_whole = (values.dtype.kind in "biu" for values in (ours, theirs))
    if ours_is_whole or theirs_is_whole:
        return ours_is_whole and theirs_is_whole and np.array_equal(ours, theirs)
    with np.errstate(over="ignore", invalid="ignore"):
        values = ours.astype(theirs.dtype).astype(np.float64)
    return np.array_equal(values, theirs.astype(np.float64), equal_nan=True)


def compare(
    ours: NDArray[Any], theirs: NDArray[Any], summands: NDArray[np.float32] | None = None
) -> tuple[float, bool]:
    """Greatest difference of our weights, rounded to the dtype of theirs, and whether rounding explains all of them.

    It explains one unit in the last place of their dtype at the summands, which are what was rounded on the way; at
    their weights where none are given.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = ours.astype(theirs.dtype)
        difference = np.abs(rounded.astype(np.float64) - theirs.astype(np.float64))
    if not difference.any():
        return 0.0, True
    if not np.isfinite(difference).all():
        return np.inf, False
    magnitude = np.abs(theirs) if summands is None else summands.reshape(theirs.shape).astype(theirs.dtype)
    # The spacing above the greatest number overflows; it is that of its whole binade.
    most = np.asarray(0.75 * float(ml_dtypes.finfo(theirs.dtype).max), theirs.dtype)
    unit = np.spacing(np.minimum(magnitude, most)).astype(np.float64)
    return float(difference.max()), bool((difference <= unit).all())
