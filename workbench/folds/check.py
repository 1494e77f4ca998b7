"""Whether a fold keeps the function: computed in float32 from what would be stored, against the source in float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.calibration import CalibrationRecords
from workbench.checkpoint import Checkpoint
from workbench.checkpoint.blocks import row_ranges
from workbench.folds.fold import Divided, Fold
from workbench.folds.folded import FoldedCheckpoint

PROBES = 16
"""Inputs that a fold is tried with."""

BLOCK_WEIGHTS = 2**20
"""Weights that are looked at together."""

Array = NDArray[Any]
Step = Callable[[int], None]
"""Hears of source bytes done; raises when the work is to stop."""


def deviation(checkpoint: Checkpoint, fold: Fold, records: CalibrationRecords, step: Step) -> float:
    """How far a fold moves what its consumers give: the greatest ‖y' − y‖/‖y‖ among them.

    y is computed in float64 from the source, y' in float32 from the folded tensors, both for inputs drawn as the
    calibration saw them (those of a norm's gain are normal, as a norm makes them). Biases of consumers are left out,
    which would only hide a difference.

    Parameters
    ----------
    checkpoint : Checkpoint
        Without the fold.
    fold : Fold
    records : CalibrationRecords
        Of the source.
    step : callable
        Hears of source bytes done.
    """
    folded = FoldedCheckpoint(checkpoint, [fold])
    given = _Inputs(fold, records)
    exact = np.concatenate(list(_channels(checkpoint, fold, given, np.dtype(np.float64))))
    moved = np.concatenate(list(_channels(folded, fold, given, np.dtype(np.float32))))
    spread = fold.site.spread
    worst = 0.0
    for consumer in fold.site.consumers:
        noise = signal = 0.0
        blocks = zip(_rows(checkpoint, consumer), _rows(folded, consumer), strict=True)
        for before, after in blocks:
            step(before.nbytes)
            output = exact[:, spread] @ before.astype(np.float64).T
            with np.errstate(all="ignore"):  # what overflows is no fold that keeps the function
                noise += float(np.square(moved[:, spread] @ after.T - output).sum())
            signal += float(np.square(output).sum())
        worst = max(worst, math.sqrt(noise / signal) if signal > 0 else math.inf if noise > 0 else 0.0)
    return worst if math.isfinite(worst) else math.inf


class _Inputs:
    """Inputs of the producers, float64 [probes, channels], the same whenever they are asked for."""

    def __init__(self, fold: Fold, records: CalibrationRecords) -> None:
        self._records = records
        self._channels = fold.site.channels

    def normal(self) -> NDArray[np.float64]:
        return np.random.default_rng(0).standard_normal((PROBES, self._channels))

    def of(self, layer: str, channels: int) -> NDArray[np.float64]:
        drawn = np.random.default_rng(1).standard_normal((PROBES, channels))
        record = self._records.layers.get(layer)
        if record is None or record.channels != channels:
            return drawn
        # A probe belongs to a time, as its channels do in the running model.
        bucket = np.flatnonzero(record.count > 0)[np.arange(PROBES) % np.count_nonzero(record.count)]
        mean = record.mean.astype(np.float64)
        deviation = np.sqrt(np.maximum(record.second_moment - mean**2, 0.0))
        inputs: NDArray[np.float64] = mean[bucket] + deviation[bucket] * drawn
        return inputs


def _channels(checkpoint: Checkpoint, fold: Fold, given: _Inputs, dtype: np.dtype[Any]) -> Iterator[Array]:
    """What each producer makes of the inputs, computed in a dtype: [probes, channels].

    A bias is looked for where its weight is, whatever the fold says of it.
    """
    site = fold.site
    weights = [part for part in site.divided if part.tensor.endswith(".weight")]
    match site.producer:
        case "norm":
            [gain] = weights
            values = given.normal().astype(dtype) * _vector(checkpoint, gain.tensor, 0, site.channels, dtype)
            yield values + _bias(checkpoint, gain, site.channels, dtype)
        case "linear":
            for weight in weights:
                yield _affine(checkpoint, weight, site.channels, given, dtype)
        case "modulation":
            shift, scale = (_affine(checkpoint, weight, site.channels, given, dtype) for weight in weights)
            yield given.normal().astype(dtype) * (1 + scale) + shift


def _affine(
    checkpoint: Checkpoint, weight: Divided, channels: int, given: _Inputs, dtype: np.dtype[Any]
) -> Array:
    inputs = given.of(weight.tensor, math.prod(checkpoint.tensors[weight.tensor].shape[1:])).astype(dtype)
    rows = _rows(checkpoint, weight.tensor, weight.start, weight.start + channels)
    values = np.concatenate([inputs @ some.astype(dtype).T for some in rows], axis=1)
    found: Array = values + _bias(checkpoint, weight, channels, dtype)
    return found


def _bias(checkpoint: Checkpoint, weight: Divided, channels: int, dtype: np.dtype[Any]) -> Array:
    name = f"{weight.tensor.removesuffix('weight')}bias"
    if name not in checkpoint.tensors:
        return np.zeros(1, dtype)
    return _vector(checkpoint, name, weight.start, channels, dtype)


def _vector(checkpoint: Checkpoint, name: str, start: int, channels: int, dtype: np.dtype[Any]) -> Array:
    return checkpoint.read_rows(name, start, start + channels).astype(dtype)[:, 0]


def _rows(checkpoint: Checkpoint, name: str, start: int = 0, stop: int | None = None) -> Iterator[Array]:
    shape = checkpoint.tensors[name].shape
    rows = shape[0] if stop is None else stop
    for first, last in row_ranges(start, rows, math.prod(shape[1:]), most=BLOCK_WEIGHTS):
        yield checkpoint.read_rows(name, first, last)
