"""Adding up what single calls of a layer saw, in memory that does not grow with their number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from workbench.calibration.axis import Interval
from workbench.calibration.layer_record import (
    MAX_BUCKETS,
    FloatArray,
    LayerRecord,
    SingleArray,
    StepStatistics,
)
from workbench.plan import LayerKind

SAMPLE = 4096
"""Most absolute values kept for the percentiles of a step."""

SAMPLES = MAX_BUCKETS * SAMPLE
"""Most kept for all the steps of a layer; where there are many, each keeps fewer."""


class CallSummary(NamedTuple):
    """What one call of a layer saw, or a part of it that belongs to one time."""

    vectors: int
    """Input vectors; of an Embedding, look-ups."""
    sums: FloatArray
    """Σx, Σx² and greatest |x| of each channel, [3, channels]; of an Embedding its look-ups by row, [1, rows]."""
    overall: FloatArray
    """Σx, Σx², least and greatest x of all channels, [4]; of an Embedding it says nothing."""
    sample: SingleArray
    """Some of the |x|."""
    share: float
    """Part of all values that the sample is."""
    energy: float
    """Mean ‖Wx‖² of an output vector, without the bias."""


class Sample:
    """A bounded sample of a stream, in which every value of the stream is there with the same likelihood."""

    def __init__(self) -> None:
        self.values: SingleArray = np.empty(0, np.float32)
        self.share = math.inf

    def add(self, values: SingleArray, share: float, most: int = SAMPLE) -> None:
        """Add values that are a given share of what they were drawn from, and keep at most so many."""
        if values.size:
            common = min(self.share, share)
            new = _thin(values, common / share)
            kept = _thin(self.values, common / self.share)
            self.values = np.concatenate([kept, new]) if kept.size else new
            self.share = common
        self.shrink(most)

    def shrink(self, most: int) -> None:
        """Keep at most so many values."""
        while self.values.size > most:
            self.values = self.values[::2]
            self.share /= 2


@dataclass(eq=False)
class StepTally:
    """Scalars of a layer at one step."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    low: float = math.inf
    high: float = -math.inf
    sample: Sample = field(default_factory=Sample)

    def add(self, summary: CallSummary, most: int) -> None:
        """Count a call, and keep at most so many values for percentiles."""
        total, squares, low, high = summary.overall.tolist()
        self.count += summary.vectors * summary.sums.shape[1]
        self.total += total
        self.squares += squares
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.sample.add(summary.sample, summary.share, most)

    def absorb(self, other: StepTally, most: int) -> None:
        """Take in another step, and keep at most so many values for percentiles."""
        self.count += other.count
        self.total += other.total
        self.squares += other.squares
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.sample.add(other.sample.values, other.sample.share, most)


@dataclass(eq=False)
class BucketTally:
    """Moments of the channels of a layer in one bucket."""

    sums: FloatArray
    """As `CallSummary.sums`, of all calls."""
    count: int = 0
    energy: float = 0.0
    """Σ over input vectors of the mean energy of the call's outputs."""

    def add(self, sums: FloatArray, count: int, energy: float) -> None:
        """Count a call, or another bucket."""
        absmax = np.maximum(self.sums[2:], sums[2:])
        self.sums += sums
        self.sums[2:] = absmax
        self.count += count
        self.energy += energy


class LayerTally:
    """All that was seen of one layer.

    Parameters
    ----------
    kind : str
    channels : int
        Of the input; of an Embedding, its rows.
    """

    def __init__(self, kind: LayerKind, channels: int) -> None:
        self.kind = kind
        self.channels = channels
        self.steps: dict[Interval, StepTally] = {}
        self.buckets: dict[Interval, BucketTally] = {}

    @staticmethod
    def nbytes(channels: int, buckets: int) -> int:
        """Most memory it takes for so many buckets, whatever the number of steps, in bytes."""
        return buckets * 3 * 8 * channels + 4 * SAMPLES

    def add(self, step: Interval, bucket: Interval, summary: CallSummary) -> None:
        """Count a call."""
        scalars, moments = self.steps.get(step), self.buckets.get(bucket)
        most = self._most
        if scalars is None:
            before = most
            scalars = self.steps[step] = StepTally()
            most = self._most
            if most < before:
                for tally in self.steps.values():
                    tally.sample.shrink(most)
        if self.kind != "embedding":
            scalars.add(summary, most)
        else:
            scalars.count += summary.vectors
        energy = summary.energy * summary.vectors
        if moments is None:  # a copy, since layers share what they were given
            self.buckets[bucket] = BucketTally(summary.sums.copy(), summary.vectors, energy)
        else:
            moments.add(summary.sums, summary.vectors, energy)

    def join_steps(self, stays: Interval, gone: Interval) -> None:
        """Two steps have become one."""
        if gone in self.steps:
            self.steps.setdefault(stays, StepTally()).absorb(self.steps.pop(gone), self._most)

    def join_buckets(self, stays: Interval, gone: Interval) -> None:
        """Two buckets have become one."""
        if gone in self.buckets:
            there = self.buckets.setdefault(stays, BucketTally(self._nothing()))
            other = self.buckets.pop(gone)
            there.add(other.sums, other.count, other.energy)

    def _nothing(self) -> FloatArray:
        return np.zeros((1 if self.kind == "embedding" else 3, self.channels))

    @property
    def _most(self) -> int:
        """Values kept for each step; changes when the number of steps passes a power of 2."""
        steps = 1 << (len(self.steps) - 1).bit_length()
        return SAMPLES // max(steps, MAX_BUCKETS)

    def record(self, steps: Sequence[Interval], buckets: Sequence[Interval]) -> LayerRecord:
        """The record of what was counted, on the given axes."""
        found = [self.buckets.get(bucket) for bucket in buckets]
        empty = BucketTally(self._nothing())
        tallies = [empty if tally is None else tally for tally in found]
        count = np.array([tally.count for tally in tallies], np.int64)
        vectors = np.maximum(count, 1)[:, None]
        total, *more = np.array([tally.sums for tally in tallies]).swapaxes(0, 1)
        mean = total / vectors
        if self.kind == "embedding":
            second, absmax = mean, (mean > 0).astype(np.float64)
        else:
            second, absmax = more[0] / vectors, more[1]
        return LayerRecord(
            kind=self.kind,
            steps=_statistics([self.steps.get(step) for step in steps], self.kind),
            count=count,
            mean=mean.astype(np.float32),
            second_moment=second.astype(np.float32),
            absmax=absmax.astype(np.float32),
            output_energy=np.array([tally.energy for tally in tallies]) / vectors[:, 0],
        )


def _statistics(tallies: Sequence[StepTally | None], kind: LayerKind) -> StepStatistics:
    rows = [_row(tally, kind) for tally in tallies]
    columns: Mapping[str, FloatArray] = {
        name: np.array([row[name] for row in rows], np.float64)
        for name in StepStatistics.__dataclass_fields__
        if name != "count"
    }
    return StepStatistics(np.array([row["count"] for row in rows], np.int64), *columns.values())


def _row(tally: StepTally | None, kind: LayerKind) -> dict[str, float]:
    row = dict.fromkeys(StepStatistics.__dataclass_fields__, math.nan)
    if tally is None:
        return row | {"count": 0}
    if kind == "embedding":  # token numbers are no activations
        return dict.fromkeys(row, 0.0) | {"count": tally.count}
    mean = tally.total / tally.count
    p99, p999 = np.quantile(tally.sample.values, [0.99, 0.999]).tolist()
    return {
        "count": tally.count,
        "mean": mean,
        "variance": max(tally.squares / tally.count - mean**2, 0.0),
        "minimum": tally.low,
        "maximum": tally.high,
        "absmax_p99": p99,
        "absmax_p999": p999,
    }


def _thin(values: SingleArray, part: float) -> SingleArray:
    """A part of the values, spread evenly over them."""
    if part >= 1:
        return values
    kept = np.floor(np.arange(math.floor(values.size * part)) / part).astype(np.int64)
    return values[kept]
