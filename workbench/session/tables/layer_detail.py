"""One layer from close by: what its weights look like, what its present option makes of them, and where it errs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.checkpoint import Checkpoint
from workbench.checkpoint.blocks import read_blocks
from workbench.formats import Format
from workbench.plan import Layer, Option
from workbench.quantize import Encodings
from workbench.thermo.measurement.sampling import draw_rows

FloatArray = NDArray[np.float64]

BINS = 120
SAMPLE_WEIGHTS = 2**18
SAMPLE_ROWS = 64
PER_STRATUM = 8
CHANNELS = 2048
"""Most channels told apart; of more, neighbours are taken together."""


@dataclass(frozen=True, eq=False)
class LayerDetail:
    """A layer and its present option, from a sample of its rows."""

    layer: Layer
    option: Option
    rows: int
    """Rows that were looked at."""
    edges: FloatArray
    """Borders of the bins, [bins + 1]."""
    weights: FloatArray
    """Share of the weights in each bin, [bins]."""
    decoded: FloatArray
    """The same of what they decode to: the levels of the codes, [bins]."""
    levels: FloatArray
    """What the weights of the group in the middle of the first row decode to, each value once, rising."""
    channels: FloatArray
    """First channel of each run of channels, [runs]."""
    channel_error: FloatArray
    """‖ΔW_:j‖² / ‖W_:j‖², of each run, [runs]; 0 where there are no weights but 0."""


def look_closely(
    checkpoint: Checkpoint, target: Format, layer: Layer, option: Option, encodings: Encodings
) -> LayerDetail:
    """Look at a layer's weights and at what an option makes of them.

    Raises
    ------
    ValidationError
        If a weight is NaN or Inf.
    QuantizationError
        If the checkpoint changed since it was opened.
    """
    count = max(SAMPLE_ROWS, min(SAMPLE_WEIGHTS // layer.cols, layer.rows))
    sample = draw_rows(layer, count, PER_STRATUM, seed=0)
    rows = np.arange(layer.rows) if sample is None else sample.rows.reshape(-1)
    rows = rows[: max(count, 1)]
    encoder = target.encoder(checkpoint, encodings)
    exact, decoded = [], []
    for some, weights in read_blocks(checkpoint, layer.name, rows):
        exact.append(weights.astype(np.float32))
        if option.is_kept:
            decoded.append(exact[-1])
        else:
            decoded.append(encoder.encode(layer, option, weights, int(some[0]), measured=False).decoded)
    true, found = np.concatenate(exact), np.concatenate(decoded)
    low, high = float(min(true.min(), found.min())), float(max(true.max(), found.max()))
    edges = np.linspace(low, high if high > low else low + 1.0, BINS + 1)
    start, error = _by_channel(true, found)
    group = option.group_size or layer.cols
    middle = (layer.cols // 2) // group * group
    return LayerDetail(
        layer=layer,
        option=option,
        rows=len(true),
        edges=edges,
        weights=np.histogram(true, edges)[0] / true.size,
        decoded=np.histogram(found, edges)[0] / true.size,
        levels=np.unique(found[0, middle : middle + group]).astype(np.float64),
        channels=start,
        channel_error=error,
    )


def _by_channel(true: NDArray[np.float32], found: NDArray[np.float32]) -> tuple[FloatArray, FloatArray]:
    run = -(-true.shape[1] // CHANNELS)
    starts = np.arange(0, true.shape[1], run)
    noise, signal = (
        np.add.reduceat(np.square(values, dtype=np.float64).sum(axis=0), starts)
        for values in (true - found, true)
    )
    return starts.astype(np.float64), np.divide(noise, signal, out=np.zeros(len(starts)), where=signal > 0)
