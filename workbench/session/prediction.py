"""What an export will take, before it is made."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from workbench.checkpoint import Checkpoint
from workbench.checkpoint.blocks import read_blocks
from workbench.engine.orchestrator import BASE_BYTES, WORKER_BYTES
from workbench.formats import Format
from workbench.plan import Plan
from workbench.quantize import Encodings
from workbench.system import load_average, usable_cores
from workbench.work import disk_workers

PASSES = 3
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
    files: Mapping[str, int]
    """Bytes of each file of the payload, by its name in the folder; they add up to `nbytes`."""
    side_files: Mapping[str, int]
    """Bytes of the files that travel along, exact: configuration, tokenizer, scheduler. Beside them there will be
    workbench.json, which holds what is measured."""
    seconds: float
    """Roughly, by the time that a piece of the largest layer takes on this machine, and how busy it is now."""
    peak_bytes: int
    """Anonymous memory at most: the process, and a block in work for each core."""


def predict(
    checkpoint: Checkpoint, target: Format, plan: Plan, encodings: Encodings | None = None
) -> Prediction:
    """Predict an export of a plan: sizes by arithmetic, time by trying a piece of the largest layer."""
    layout = target.layout(checkpoint, plan)
    encodings = encodings or Encodings(plan.effort)
    beside = {side.relative: side.source.stat().st_size for side in checkpoint.side_files}
    beside |= {name: len(content) for name, content in layout.documents.items()}
    layers = [layer for layer in checkpoint.layers if layer.params and not plan.choices[layer.name].is_kept]
    pace = 0.0
    if layers:
        layer = max(layers, key=lambda one: one.params)
        rows, weights = next(read_blocks(checkpoint, layer.name))
        weights = weights[: max(TRIED // layer.cols, 1)]

        def seconds(encodings: Encodings) -> float:
            encoder = target.encoder(checkpoint, encodings)
            encoder.prepared(layer)  # which is not done again for every piece
            started = time.perf_counter()
            encoder.encode(layer, plan.choices[layer.name], weights, int(rows[0])).error  # noqa: B018
            return (time.perf_counter() - started) / weights.nbytes

        # All passes take about as long as encoding does in the fastest way; only one of them searches.
        pace = PASSES * seconds(Encodings())
        if encodings.effort != "fast":
            pace += seconds(encodings)
    return Prediction(
        nbytes=layout.nbytes,
        is_exact=target.is_exact,
        files=dict(layout.files),
        side_files=dict(sorted(beside.items())),
        seconds=(0.2 + pace * checkpoint.nbytes / usable_cores()) * _crowd(),
        peak_bytes=BASE_BYTES + disk_workers() * WORKER_BYTES,
    )


def _crowd() -> float:
    """How many want a core that there is; a piece is tried too quickly to have to wait for one."""
    return max(1.0, load_average() / usable_cores())
