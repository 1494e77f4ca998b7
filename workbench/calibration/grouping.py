"""Time groups: denoising steps taken together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from workbench.calibration.layer_record import FloatArray, IntArray
from workbench.calibration.records import CalibrationRecords
from workbench.errors import ArgumentError

Method = Literal["uniform", "optimal"]


@dataclass(frozen=True, eq=False)
class TimeGroups:
    """A division of the recorded buckets into runs of neighbours."""

    method: str
    """How the borders were found."""
    asked: int
    """Groups asked for; there are fewer where fewer buckets were recorded."""
    edges: tuple[int, ...]
    """Bucket at which each group begins, and the number of buckets; ascending."""
    ranges: FloatArray
    """Least and greatest time of each group, [groups, 2]."""
    shares: FloatArray
    """Share of each group in the calls of the model: ω_g, [groups]."""

    def __len__(self) -> int:
        return len(self.edges) - 1

    @property
    def group_of(self) -> IntArray:
        """The group of each bucket, [buckets]."""
        return np.repeat(np.arange(len(self)), np.diff(self.edges))

    @property
    def note(self) -> str | None:
        """A sentence for the user where there are fewer groups than asked for."""
        if len(self) == self.asked:
            return None
        return (
            f"{self.asked} time groups were asked for; the calibration has {self.edges[-1]} buckets of time, so there "
            f"are {len(self)}."
        )


def group_steps(records: CalibrationRecords, groups: int, method: str = "optimal") -> TimeGroups:
    """Divide the recorded buckets into time groups.

    Parameters
    ----------
    records : CalibrationRecords
    groups : int
        How many, at least 1; capped at the number of buckets.
    method : str
        ``"uniform"``: equal shares of the calls, as nearly as the buckets allow. ``"optimal"``: the division of
        least within-group sum of squares of the layers' log second moments, see `scatter`.

    Raises
    ------
    ArgumentError
        If there are no groups, or the method is unknown.
    """
    if groups < 1:
        raise ArgumentError(
            f"num_time_groups is {groups}; allowed: at least 1.", key="num_time_groups", value=groups
        )
    buckets = len(records.buckets)
    number = min(groups, buckets)
    match method:
        case "uniform":
            edges = _even_edges(records.bucket_calls, number)
        case "optimal":
            edges = _best_edges(_scatter_table(records), number)
        case _:
            allowed = " or ".join(get_args(Method))
            raise ArgumentError(
                f"The grouping is {method!r}; allowed: {allowed}.",
                key="grouping",
                value=method,
                allowed=allowed,
            )
    return groups_at(records, edges, method, groups)


def groups_at(
    records: CalibrationRecords, edges: Iterable[int], method: str = "by hand", asked: int | None = None
) -> TimeGroups:
    """The groups that begin at the given buckets.

    Parameters
    ----------
    edges : iterable of int
        From 0 to the number of buckets, ascending.

    Raises
    ------
    ArgumentError
        If they are not.
    """
    found = tuple(int(edge) for edge in edges)
    buckets = len(records.buckets)
    if len(found) < 2 or found[0] != 0 or found[-1] != buckets or sorted(set(found)) != list(found):
        raise ArgumentError(
            f"The borders of time groups must ascend from 0 to {buckets}, the number of buckets, not {found}.",
            key="edges",
            value=found,
        )
    starts = np.array(found[:-1])
    return TimeGroups(
        method=method,
        asked=len(found) - 1 if asked is None else asked,
        edges=found,
        ranges=np.column_stack([records.buckets[starts, 0], records.buckets[np.array(found[1:]) - 1, 1]]),
        shares=np.add.reduceat(records.shares, starts),
    )


def scatter(records: CalibrationRecords, groups: TimeGroups) -> float:
    """What `optimal` minimises: Σ over layers and groups of the squared deviations of log v̄ from the group's mean.

    v̄ is the second moment of a layer's input in a bucket, averaged over channels; a bucket weighs as many calls as
    it has.
    """
    table = _scatter_table(records)
    return float(sum(table[start, stop] for start, stop in zip(groups.edges, groups.edges[1:], strict=False)))


def log_second_moments(records: CalibrationRecords) -> FloatArray:
    """Logarithm of v̄ of every layer in every bucket, [layers, buckets]; NaN where it did not run, or had only zeros.

    Embeddings, whose input is no activation, are NaN throughout.
    """
    found = np.full((len(records.layers), len(records.buckets)), np.nan)
    for row, record in zip(found, records.layers.values(), strict=True):
        level = record.second_moment.mean(axis=1, dtype=np.float64)
        known = (record.count > 0) & (level > 0) & (record.kind != "embedding")
        row[known] = np.log(level[known])
    return found


def _scatter_table(records: CalibrationRecords) -> FloatArray:
    """Within-group sum of squares of the group from bucket i up to bucket j, [buckets + 1, buckets + 1]."""
    logs = log_second_moments(records)
    known = np.isfinite(logs)
    logs = np.where(known, logs, 0.0)
    # Deviations from the layer's own mean, which does not change the sums of squares but keeps their digits.
    logs -= np.where(
        known, logs.sum(axis=1, keepdims=True) / np.maximum(known.sum(axis=1, keepdims=True), 1), 0.0
    )
    weight = known * records.bucket_calls

    def sums(values: FloatArray) -> FloatArray:
        running = np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1)], axis=1)
        between: FloatArray = running[:, None, :] - running[:, :, None]
        return between

    count, total, squares = sums(weight), sums(weight * logs), sums(weight * logs**2)
    mean_part = np.divide(total**2, count, out=np.zeros_like(total), where=count > 0)
    table: FloatArray = np.maximum(squares - mean_part, 0.0).sum(axis=0)
    return table


def _best_edges(cost: FloatArray, groups: int) -> list[int]:
    """Borders of least total cost, by dynamic programming over the last border.

    References
    ----------
    W. D. Fisher, "On grouping for maximum homogeneity", Journal of the American Statistical Association 53, 1958.
    """
    buckets = len(cost) - 1
    best = np.full((groups + 1, buckets + 1), np.inf)
    best[0, 0] = 0.0
    last = np.zeros((groups + 1, buckets + 1), np.int64)
    for number in range(1, groups + 1):
        for stop in range(number, buckets + 1):
            totals = best[number - 1, :stop] + cost[:stop, stop]
            last[number, stop] = totals.argmin()
            best[number, stop] = totals[last[number, stop]]
    edges = [buckets]
    for number in range(groups, 0, -1):
        edges.append(int(last[number, edges[-1]]))
    return edges[::-1]


def _even_edges(calls: FloatArray, groups: int) -> list[int]:
    """Borders nearest to equal shares of the calls, with at least one bucket in each group."""
    reached = np.concatenate([[0.0], np.cumsum(calls)])
    edges = [0]
    for number in range(1, groups):
        wanted = reached[-1] * number / groups
        nearest = int(np.abs(reached - wanted).argmin())
        edges.append(min(max(nearest, edges[-1] + 1), len(calls) - groups + number))
    return [*edges, len(calls)]
