"""The profile of a checkpoint: how the weights of every layer are distributed, in one pass."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Collection
from concurrent.futures import Executor
from dataclasses import dataclass, fields
from typing import Any

import ml_dtypes
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from workbench.checkpoint import DTYPES, Checkpoint
from workbench.checkpoint.blocks import read_blocks
from workbench.errors import ConfigurationError, ValidationError
from workbench.kernels import load_kernels
from workbench.plan import Layer
from workbench.quantize import check_finite, count_weights
from workbench.quantize.patterns import patterns_of
from workbench.thermo.measurement.cache import Entry
from workbench.thermo.measurement.sampling import IntArray, RowSample, draw_rows
from workbench.thermo.measurement.statistics import (
    BINS,
    CELL_BITS,
    OUTLIER,
    PATTERNS,
    Frame,
    Statistics,
    Tally,
    frame_of,
    is_finite,
    jackknife,
    moments_of,
    tally_patterns,
)
from workbench.thermo.measurement.sweep import Rows, Step, sweep
from workbench.work import ProgressCallback

VERSION = 1
"""Changes with what a profile holds or how it is computed, so that older ones in the cache are not taken."""

PARTS = 16
"""Parts of a sample whose spread gives the standard errors."""


@dataclass(frozen=True)
class ThermodynamicMetrics:
    """How the weights of a layer are distributed: a row of a profile."""

    name: str
    """The layer."""
    role: str
    """What it is for."""
    depth: int | None
    """Index of its block; None outside the blocks."""
    shape: tuple[int, ...]
    """Its shape, output axis first."""
    dtype: str
    """Source dtype by its safetensors name."""
    params: int
    """Number of weights."""
    min: float
    """Least weight. Of a sample, the least in it: min, max, and what refers to them (crest, entropy), say nothing
    about the rows that were not measured and have no standard error."""
    max: float
    """Greatest weight."""
    sigma: float
    """Standard deviation σ."""
    crest: float | None
    """Crest factor max|w| / σ; None where σ is 0."""
    kurtosis: float | None
    """Fourth central moment over σ⁴, 3 for a normal distribution; None where σ is 0."""
    outlier_share: float
    """Share of the weights farther than 6σ from the mean."""
    entropy: float
    """Normalised histogram entropy Ĥ, 256 equal bins between min and max: 0 for a constant, at most 1."""
    differential_entropy: float
    """Differential entropy h in bits per weight, `Tally.statistics`; −inf for a constant."""
    exponent_entropy: float
    """Entropy of the exponent bits in bits per weight: what they cost a lossless coder."""
    measured_rows: int
    """Rows that were measured."""
    sigma_stderr: float
    """Standard error of σ; it and those below are 0 where all rows were measured."""
    kurtosis_stderr: float | None
    """Standard error of the kurtosis."""
    outlier_share_stderr: float
    """Standard error of the outlier share."""
    differential_entropy_stderr: float
    """Standard error of h; NaN where h is not finite."""
    exponent_entropy_stderr: float
    """Standard error of the exponent entropy."""


SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("role", pa.string(), nullable=False),
        pa.field("depth", pa.int32()),
        pa.field("shape", pa.list_(pa.int64()), nullable=False),
        pa.field("dtype", pa.string(), nullable=False),
        pa.field("params", pa.int64(), nullable=False),
        *(
            pa.field(field.name, pa.int64() if field.name == "measured_rows" else pa.float64())
            for field in fields(ThermodynamicMetrics)[6:]
        ),
    ]
)
"""Columns of a profile: the fields of `ThermodynamicMetrics`."""


def profile(
    checkpoint: Checkpoint,
    *,
    sample_rows: int | None = None,
    seed: int = 0,
    keep: Collection[str] = (),
    executor: Executor | None = None,
    callback: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
    cache: str | os.PathLike[str] | None = None,
) -> pa.Table:
    """How the weights of every layer are distributed.

    bfloat16, float16 and float8 are read once: the occurrences of the 65,536 bit patterns are counted, and every
    statistic is exact. float32 is read twice, first for its extremes, sums of powers and exponents, then for the
    bins between the extremes; float64 likewise, converted to float32.

    Parameters
    ----------
    checkpoint : Checkpoint
    sample_rows : int, optional
        Measure about so many rows of each layer (at least 64 and a multiple of 16; all where that is more than
        half of them), with standard errors. By default all rows.
    seed : int
        Which rows.
    keep : collection of str
        Layers that may have NaN or Inf, because they will not be quantized; their row is then null.
    executor : Executor, optional
        Threads to measure in; by default one for each core.
    callback : callable, optional
        Hears of the fraction done and a message, in this thread, at most 10 times a second. An exception in it
        ends the work.
    cancel : threading.Event, optional
        Set it to end the work with a `CancelledError`; what was measured is not measured again.
    cache : path-like, optional
        Where profiles are remembered; by default `cache_folder()`.

    Returns
    -------
    pyarrow.Table
        A row a layer that has weights, in the checkpoint's order, with the columns of `ThermodynamicMetrics`.

    Raises
    ------
    ValidationError
        If a weight of another layer is NaN or Inf; names the tensor and the first such weight.
    QuantizationError
        If the checkpoint changed since it was opened.
    CancelledError
        If the work was cancelled.
    """
    check_sample(sample_rows)
    parameters: dict[str, Any] = {"sample_rows": sample_rows, "seed": seed if sample_rows else None}
    if keep:
        parameters["keep"] = sorted(keep)
    entry = Entry.of(checkpoint, "profile", VERSION, parameters, SCHEMA, cache)

    def measure(layer: Layer, step: Step) -> Rows:
        sample = None if sample_rows is None else draw_rows(layer, sample_rows, PARTS, seed)
        try:
            return [_measure(checkpoint, layer, sample, step)]
        except ValidationError as error:
            if layer.name not in keep or "index" not in error.context:
                raise
            return [{**_known(layer), **dict.fromkeys(SCHEMA.names[6:])}]

    return sweep(checkpoint, measure, entry, "profiling layers", executor, callback, cancel)


def layer_entropy(checkpoint: Checkpoint, layer: Layer, step: Step) -> float:
    """Normalised histogram entropy Ĥ of all weights of a layer, as a profile has it.

    Parameters
    ----------
    checkpoint : Checkpoint
    layer : Layer
    step : callable
        Hears of a further share of the layer done; raises when the work is to stop.

    Raises
    ------
    ValidationError
        If a weight is NaN or Inf; names the tensor and the first such weight.
    """
    _, (tally,) = _tally(checkpoint, layer, [None], step)
    return tally.entropy


def known_entropies(table: pa.Table) -> dict[str, float]:
    """Ĥ of the layers of a profile, by name, but for those that are not finite."""
    pairs = zip(table["name"].to_pylist(), table["entropy"].to_pylist(), strict=True)
    return {name: entropy for name, entropy in pairs if entropy is not None}


def metrics(table: pa.Table) -> list[ThermodynamicMetrics]:
    """The rows of a profile as values."""
    return [
        ThermodynamicMetrics(**{**row, "shape": tuple(row["shape"])})
        for row in table.select(SCHEMA.names).to_pylist()
    ]


def check_sample(rows: int | None) -> None:
    """Make sure that a sample has enough rows for a standard error.

    Raises
    ------
    ConfigurationError
        If it has fewer than 64.
    """
    if rows is not None and rows < 64:
        raise ConfigurationError(
            f"sample_rows is {rows}; allowed: at least 64, or None.",
            key="sample_rows",
            value=rows,
            allowed="≥ 64",
        )


def _measure(checkpoint: Checkpoint, layer: Layer, sample: RowSample | None, step: Step) -> dict[str, Any]:
    parts: list[IntArray | None] = [None] if sample is None else list(sample.rows.T)
    frame, tallies = _tally(checkpoint, layer, parts, step)
    found = sum(tallies[1:], tallies[0]).statistics(frame)
    stderr = _columns(jackknife(tallies, frame, 1.0 if sample is None else sample.share))
    del stderr["entropy"]
    peak = max(abs(frame.low), abs(frame.high))
    return {
        **_known(layer),
        "min": frame.low,
        "max": frame.high,
        "crest": peak / found.sigma if found.sigma > 0 else None,
        "measured_rows": layer.rows if sample is None else sample.rows.size,
        **_columns(found),
        **{f"{name}_stderr": value for name, value in stderr.items()},
    }


def _known(layer: Layer) -> dict[str, Any]:
    """The columns that need no measuring."""
    return {
        "name": layer.name,
        "role": layer.role,
        "depth": layer.depth,
        "shape": list(layer.shape),
        "dtype": layer.dtype,
        "params": layer.params,
    }


def _columns(statistics: Statistics) -> dict[str, float | None]:
    values = {field.name: getattr(statistics, field.name) for field in fields(statistics)}
    if math.isnan(values["kurtosis"]):
        values["kurtosis"] = None
    return values


def _tally(
    checkpoint: Checkpoint, layer: Layer, parts: list[IntArray | None], step: Step
) -> tuple[Frame, list[Tally]]:
    """Tallies of the parts of a layer."""
    tally = _tally_halves if DTYPES[layer.dtype].itemsize <= 2 else _tally_singles
    return tally(checkpoint, layer, parts, step)


def _tally_halves(
    checkpoint: Checkpoint, layer: Layer, parts: list[IntArray | None], step: Step
) -> tuple[Frame, list[Tally]]:
    """Tallies of the parts of a layer of 16 bits or fewer, by one reading."""
    is_half = layer.dtype == "F16"
    counts = np.zeros((len(parts), PATTERNS), np.int64)
    for rows, count in zip(parts, counts, strict=True):
        for _, weights in read_blocks(checkpoint, layer.name, rows):
            if weights.itemsize == 1:
                weights = weights.astype(ml_dtypes.bfloat16)  # exact
            _count(weights, count)
            step(weights.size / layer.params)
    _require_finite(checkpoint, layer, parts, counts, is_half)
    whole = counts.sum(axis=0)
    frame = frame_of(whole, is_half, min(CELL_BITS, ml_dtypes.finfo(DTYPES[layer.dtype]).nmant))
    sigma = moments_of(tally_patterns(whole, frame).powers)[1]
    return frame, [tally_patterns(count, frame, sigma) for count in counts]


def _tally_singles(
    checkpoint: Checkpoint, layer: Layer, parts: list[IntArray | None], step: Step
) -> tuple[Frame, list[Tally]]:
    """Tallies of the parts of a layer of 32 or 64 bits, by two readings."""
    counts = np.zeros((len(parts), PATTERNS), np.int64)
    sums = np.zeros((len(parts), 6))
    sums[:, :2] = math.inf, -math.inf
    center: float | None = None
    for rows, count, sum_ in zip(parts, counts, sums, strict=True):
        for _, weights in read_blocks(checkpoint, layer.name, rows):
            if center is None:
                with np.errstate(invalid="ignore", over="ignore"):
                    center = float(weights.reshape(-1)[:4096].mean(dtype=np.float64))
            patterns = _count(weights, count)
            load_kernels().moments(patterns, False, center, 1.0, sum_)
            step(0.5 * weights.size / layer.params)
    _require_finite(checkpoint, layer, parts, counts, False)
    low, high = float(sums[:, 0].min()), float(sums[:, 1].max())
    frame = Frame(False, CELL_BITS, center or 0.0, low, high)
    powers = np.column_stack([counts.sum(axis=1), sums[:, 2:]]).astype(np.float64)
    offset, sigma = moments_of(powers.sum(axis=0))
    mean, edge = frame.center + offset, OUTLIER * sigma
    tallies = []
    for rows, count, power in zip(parts, counts, powers, strict=True):
        bins, thirds = np.zeros(BINS, np.int64), np.zeros(3, np.int64)
        for _, weights in read_blocks(checkpoint, layer.name, rows):
            count_weights(weights, low, high, bins)
            if max(mean - low, high - mean) > edge > 0.0:
                # Of three bins, the outer two hold the outliers.
                count_weights(weights, mean - 3 * edge, mean + 3 * edge, thirds)
            step(0.5 * weights.size / layer.params)
        tallies.append(Tally(power, bins, count, int(thirds[0] + thirds[2])))
    return frame, tallies


def _count(weights: NDArray[Any], counts: IntArray) -> NDArray[np.uint16 | np.uint32]:
    patterns, _ = patterns_of(weights)
    load_kernels().count_patterns(patterns, counts)
    return patterns


def _require_finite(
    checkpoint: Checkpoint, layer: Layer, parts: list[IntArray | None], counts: IntArray, is_half: bool
) -> None:
    """Name the first weight that is NaN or Inf, if the counts say that there is one."""
    if is_finite(counts.sum(axis=0), is_half):
        return
    drawn = [rows for rows in parts if rows is not None]
    for some, weights in read_blocks(
        checkpoint, layer.name, np.sort(np.concatenate(drawn)) if drawn else None
    ):
        check_finite(weights, layer.name, some)
