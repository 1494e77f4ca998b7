"""Records made from values that are kept, so that every figure in them can be computed again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest

from workbench.calibration import CalibrationRecords, TimeAxis
from workbench.calibration.layer_record import MAX_BUCKETS, MAX_STEPS
from workbench.calibration.tally import CallSummary, LayerTally

Array = np.ndarray[Any, Any]
Calls = Sequence[tuple[float, Mapping[str, Array]]]
"""Time and inputs by layer of each call: float [vectors, channels], or int look-ups of an Embedding of 8 rows."""

ROWS = 8


def summary_of(values: Array) -> CallSummary:
    if values.dtype.kind == "i":
        counts = np.bincount(values, minlength=ROWS).astype(np.float64)
        return CallSummary(
            values.size, counts[None], np.zeros(4), np.empty(0, np.float32), 1.0, float(values.mean()) + 1
        )
    wide = values.astype(np.float64)
    sums = np.stack([wide.sum(0), np.square(wide).sum(0), np.abs(wide).max(0)])
    overall = np.array([*sums[:2].sum(1), wide.min(), wide.max()])
    sample = np.abs(values).ravel().astype(np.float32)
    return CallSummary(len(values), sums, overall, sample, 1.0, float(np.square(wide).sum(1).mean() * 3))


def records_from(
    calls: Calls,
    buckets: int = MAX_BUCKETS,
    fingerprint: str = "f" * 64,
    time: str = "timestep",
    sensitivity: Mapping[str, Mapping[str, Array]] | None = None,
) -> CalibrationRecords:
    tallies: dict[str, LayerTally] = {}

    def joined(join: Any, stays: Any, gone: Any) -> None:
        for tally in tallies.values():
            join(tally, stays, gone)

    steps = TimeAxis(MAX_STEPS, partial(joined, LayerTally.join_steps))
    coarse = TimeAxis(buckets, partial(joined, LayerTally.join_buckets))
    for moment, layers in calls:
        step, bucket = steps.place(moment, calls=1), coarse.place(moment, calls=1)
        for name, values in layers.items():
            token = values.dtype.kind == "i"
            if name not in tallies:
                tallies[name] = LayerTally(
                    "embedding" if token else "linear", ROWS if token else values.shape[1]
                )
            tallies[name].add(step, bucket, summary_of(values))
    records = {name: tally.record(steps.intervals, coarse.intervals) for name, tally in tallies.items()}
    for name, found in (sensitivity or {}).items():
        object.__setattr__(records[name], "sensitivity", dict(found))
    return CalibrationRecords(
        fingerprint=fingerprint,
        time=time,
        steps=np.array([[step.low, step.high] for step in steps.intervals]),
        step_calls=np.array([step.calls for step in steps.intervals]),
        buckets=np.array([[bucket.low, bucket.high] for bucket in coarse.intervals]),
        bucket_calls=np.array([bucket.calls for bucket in coarse.intervals]),
        layers=records,
        made_by={"model": "Toy", "calls": len(calls)},
    )


def some_calls(seed: int = 0, times: Sequence[float] = (900, 700, 500, 300, 100), each: int = 3) -> Calls:
    """Calls of three layers: one whose level falls with time, one that runs only late, and an Embedding."""
    rng = np.random.default_rng(seed)
    calls = []
    for moment in times:
        for _ in range(each):
            layers: dict[str, np.ndarray] = {
                "steady.weight": rng.normal(0.3, 1, (5, 4)).astype(np.float32),
                "falling.weight": (rng.normal(0.1, 1, (4, 6)) * moment / 100).astype(np.float32),
                "tokens.weight": rng.integers(0, ROWS, 7),
            }
            if moment <= 500:
                layers["late.weight"] = rng.normal(-1, 0.5, (2, 3)).astype(np.float32)
            calls.append((float(moment), layers))
    return calls


@pytest.fixture(scope="session")
def calls_of() -> Callable[..., Calls]:
    return some_calls


@pytest.fixture(scope="session")
def build() -> Callable[..., CalibrationRecords]:
    return records_from


@pytest.fixture
def records() -> CalibrationRecords:
    rng = np.random.default_rng(7)
    measured = {"fisher:step": rng.uniform(0, 1, 5), "noise": np.array([0.5, np.nan, 0.25, 0.0, 1e-9])}
    return records_from(some_calls(), sensitivity={"steady.weight": measured})
