"""Taking intervals of time together: sums of moments, and the merging of several runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.calibration.axis import Interval, TimeAxis
from workbench.calibration.layer_record import (
    MAX_BUCKETS,
    MAX_STEPS,
    FloatArray,
    IntArray,
    LayerRecord,
    StepStatistics,
)
from workbench.calibration.records import CalibrationRecords, require_same
from workbench.errors import ArgumentError, ShapeMismatchError


@dataclass(frozen=True, eq=False)
class Moments:
    """Moments of a layer's input in some intervals of time, and the energy of what it made of it.

    NaN where the layer did not run.
    """

    count: IntArray
    """Input vectors, [intervals]."""
    mean: FloatArray
    """[intervals, channels]."""
    second_moment: FloatArray
    """E[x²], [intervals, channels]."""
    absmax: FloatArray
    """Greatest |x|, [intervals, channels]."""
    output_energy: FloatArray
    """E‖Wx‖² without the bias, [intervals]."""

    @property
    def variance(self) -> FloatArray:
        """Variance of each channel, [intervals, channels]."""
        spread: FloatArray = np.maximum(self.second_moment - self.mean**2, 0.0)
        return spread


def pool(record: LayerRecord, into: IntArray, size: int) -> Moments:
    """Moments of a layer in coarser intervals: every vector counts alike.

    Parameters
    ----------
    record : LayerRecord
    into : int64 [buckets]
        The interval, 0 to size − 1, to which each bucket goes.
    size : int
        Number of intervals.
    """
    count = np.bincount(into, record.count, size)
    with np.errstate(invalid="ignore"):  # 0 / 0 where the layer did not run
        mean, second = (
            _sums(values, record.count, into, size) / count[:, None]
            for values in (record.mean, record.second_moment)
        )
        energy = np.bincount(into, _weighed(record.output_energy, record.count), size) / count
    absmax = np.zeros((size, record.channels))
    np.maximum.at(absmax, into, np.where(record.count[:, None] > 0, record.absmax, 0.0))
    absmax[count == 0] = np.nan
    return Moments(count.astype(np.int64), mean, second, absmax, energy)


def pool_steps(steps: StepStatistics, into: IntArray, size: int) -> StepStatistics:
    """Statistics in coarser steps. Percentiles become the means of those of the parts, weighted by their counts."""
    count = np.bincount(into, steps.count, size)
    low, high = np.full(size, np.inf), np.full(size, -np.inf)
    seen = steps.count > 0
    np.minimum.at(low, into[seen], steps.minimum[seen])
    np.maximum.at(high, into[seen], steps.maximum[seen])

    def average(values: FloatArray) -> FloatArray:
        found: FloatArray = np.bincount(into, _weighed(values, steps.count), size) / count
        return found

    with np.errstate(invalid="ignore"):
        mean = average(steps.mean)
        return StepStatistics(
            count=count.astype(np.int64),
            mean=mean,
            variance=average(steps.variance + (steps.mean - mean[into]) ** 2),
            minimum=np.where(count > 0, low, np.nan),
            maximum=np.where(count > 0, high, np.nan),
            absmax_p99=average(steps.absmax_p99),
            absmax_p999=average(steps.absmax_p999),
        )


def merge(*runs: CalibrationRecords) -> CalibrationRecords:
    """One record of several runs of the same model.

    Times seen in several runs are the same steps; what is in the same bucket is added up. The sensitivities of an
    estimator are averaged over the runs that measured it, weighted by their calls of the model.

    Raises
    ------
    ArgumentError
        If there is no run, or they are of other weights or clocks.
    ShapeMismatchError
        If a layer has other channels in another run.
    """
    if not runs:
        raise ArgumentError("There are no records to merge.", key="runs")
    for run in runs[1:]:
        require_same(runs[0], run)
    steps, into_steps = _common([run.steps for run in runs], [run.step_calls for run in runs], MAX_STEPS)
    buckets, into_buckets = _common(
        [run.buckets for run in runs], [run.bucket_calls for run in runs], MAX_BUCKETS
    )
    names = list(dict.fromkeys(name for run in runs for name in run.layers))
    return CalibrationRecords(
        fingerprint=runs[0].fingerprint,
        time=runs[0].time,
        steps=_ranges(steps),
        step_calls=np.array([interval.calls for interval in steps]),
        buckets=_ranges(buckets),
        bucket_calls=np.array([interval.calls for interval in buckets]),
        layers={
            name: _merge_layer(name, runs, into_steps, len(steps), into_buckets, len(buckets))
            for name in names
        },
        made_by={"merged": [dict(run.made_by) for run in runs]},
    )


def _merge_layer(
    name: str,
    runs: Sequence[CalibrationRecords],
    into_steps: Sequence[IntArray],
    steps: int,
    into_buckets: Sequence[IntArray],
    buckets: int,
) -> LayerRecord:
    with_it = [place for place, run in enumerate(runs) if name in run.layers]
    records = [runs[place].layers[name] for place in with_it]
    first = records[0]
    for record in records[1:]:
        if (record.kind, record.channels) != (first.kind, first.channels):
            raise ShapeMismatchError(
                f"{name!r} is a {first.kind} of {first.channels} input channels in one run, a {record.kind} of "
                f"{record.channels} in another; they cannot be merged.",
                tensor=name,
            )
    into = np.concatenate([into_buckets[place] for place in with_it])

    def joined(what: str) -> Any:
        return np.concatenate([getattr(record, what) for record in records])

    together = LayerRecord(
        kind=first.kind,
        steps=first.steps,
        count=joined("count"),
        mean=joined("mean"),
        second_moment=joined("second_moment"),
        absmax=joined("absmax"),
        output_energy=joined("output_energy"),
    )
    moments = pool(together, into, buckets)
    statistics = StepStatistics(
        *(
            np.concatenate([getattr(record.steps, what) for record in records])
            for what in StepStatistics.__dataclass_fields__
        )
    )
    return LayerRecord(
        kind=first.kind,
        steps=pool_steps(statistics, np.concatenate([into_steps[place] for place in with_it]), steps),
        count=moments.count,
        mean=np.nan_to_num(moments.mean).astype(np.float32),
        second_moment=np.nan_to_num(moments.second_moment).astype(np.float32),
        absmax=np.nan_to_num(moments.absmax).astype(np.float32),
        output_energy=np.nan_to_num(moments.output_energy),
        sensitivity={
            estimator: _average_sensitivity(estimator, name, runs, into_buckets, buckets)
            for estimator in sorted({key for record in records for key in record.sensitivity})
        },
    )


def _average_sensitivity(
    estimator: str, name: str, runs: Sequence[CalibrationRecords], into: Sequence[IntArray], size: int
) -> FloatArray:
    total, weight, measured = np.zeros(size), 0.0, np.zeros(size, bool)
    for run, places in zip(runs, into, strict=True):
        values = run.layers[name].sensitivity.get(estimator) if name in run.layers else None
        if values is None:
            continue
        calls = float(run.bucket_calls.sum())
        weight += calls
        known = np.isfinite(values)
        total += calls * np.bincount(places[known], values[known], size)
        measured[places[known]] = True
    return np.where(measured, total / weight, np.nan)


def _common(
    ranges: Sequence[FloatArray], calls: Sequence[FloatArray], capacity: int
) -> tuple[list[Interval], list[IntArray]]:
    """Intervals that hold all the ranges, and where those of each run went."""
    axis = TimeAxis(capacity)
    for some, counted in zip(ranges, calls, strict=True):
        for (low, high), count in zip(some.tolist(), counted.tolist(), strict=True):
            axis.place(low, high, count)
    starts = np.array([interval.low for interval in axis.intervals])
    return axis.intervals, [np.searchsorted(starts, some[:, 0], side="right") - 1 for some in ranges]


def _ranges(intervals: Sequence[Interval]) -> FloatArray:
    return np.array([[interval.low, interval.high] for interval in intervals]).reshape(-1, 2)


def _sums(values: NDArray[Any], count: IntArray, into: IntArray, size: int) -> FloatArray:
    sums = np.zeros((size, values.shape[1]))
    np.add.at(sums, into, _weighed(values, count[:, None]))
    return sums


def _weighed(values: NDArray[Any], count: IntArray) -> FloatArray:
    """Values times counts, 0 where nothing was counted whatever the value."""
    weighed: FloatArray = np.where(count > 0, values, 0.0) * count
    return weighed
