"""What an export will take, before it is made."""

from __future__ import annotations

import time
from dataclasses import dataclass

from workbench.checkpoint import Checkpoint
from workbench.formats import Target
from workbench.pipeline.orchestrator import BASE_BYTES, WORKER_BYTES
from workbench.plan import Plan
from workbench.quantize import FAST, Encoding, Encodings
from workbench.thermo.sampling import read_blocks
from workbench.work import usable_cores

PASSES = 4
"""Times that the source goes through the engine: its survey, encoding, reading back, and what writing costs."""


TRIED = 2**20
"""Weights that are tried."""


@dataclass(frozen=True)
class Prediction:
    """What an export will take."""

    nbytes: int
    """Bytes of the payload: exact, or an upper bound where the target compresses."""
    is_exact: bool
    """Which of the two."""
    seconds: float
    """Roughly, by the time that a piece of the largest layer takes now on this machine."""
    peak_bytes: int
    """Anonymous memory at most: the process, and a block in work for each core."""


def predict(checkpoint: Checkpoint, target: Target, plan: Plan, encodings: Encodings) -> Prediction:
    """Predict an export of a plan: sizes by reckoning, time by trying a piece of the largest layer."""
    nbytes = target.writer(checkpoint, plan).predicted_bytes
    layers = [layer for layer in checkpoint.layers if layer.params and not plan.choices[layer.name].is_kept]
    pace = 0.0
    if layers:
        layer = max(layers, key=lambda one: one.params)
        rows, weights = next(read_blocks(checkpoint, layer))
        weights = weights[: max(TRIED // layer.cols, 1)]

        def seconds(encoding: Encoding) -> float:
            started = time.perf_counter()
            target.error(weights, plan.choices[layer.name], layer.name, int(rows[0]), encoding)
            return (time.perf_counter() - started) / weights.nbytes

        # All passes take about as long as encoding does in the fastest way; only one of them searches.
        pace = PASSES * seconds(FAST)
        if encodings.effort != "fast":
            pace += seconds(encodings.of(layer.name, layer.shape))
    cores = usable_cores()
    return Prediction(
        nbytes=nbytes,
        is_exact=target.is_exact,
        seconds=0.2 + pace * checkpoint.nbytes / cores,
        peak_bytes=BASE_BYTES + cores * WORKER_BYTES,
    )
