"""Calibration records of a folded checkpoint, computed from those of its source: it needs no second capture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from workbench.calibration import CalibrationRecords, LayerRecord, StepStatistics
from workbench.checkpoint.blocks import row_ranges
from workbench.folds.fold import SingleArray
from workbench.folds.folded import Change, FoldedCheckpoint

BLOCK_WEIGHTS = 2**20
"""Weights of a producer that are looked at together."""

FloatArray = NDArray[np.float64]


def fold_records(
    records: CalibrationRecords, folded: FoldedCheckpoint, fingerprint: str | None = None
) -> CalibrationRecords:
    """The records that a capture of a folded checkpoint would have made.

    The input moments of a consumer and its greatest values are exact: x_j is divided by s_j. The statistics by step,
    of all channels as one population, follow those of the bucket: least and greatest values are bounds, so that no
    table of activations clips, and percentiles and variance are scaled like the root mean square. The energy that a
    producer gives is scaled as its moments say, and every layer keeps its importance.

    Parameters
    ----------
    records : CalibrationRecords
        Of the source.
    folded : FoldedCheckpoint
    fingerprint : str, optional
        Of the files that the folded checkpoint was written to; by default its own.

    Raises
    ------
    ArrowQuantError
        If the records are not of the source, or a tensor cannot be read.
    """
    records.check_fit(folded.source)
    layers = {}
    for name, record in records.layers.items():
        change = folded.changes.get(name)
        if change is not None and change.rows is not None:
            record = _dividing(record, _share_left(record, folded, name, change))
        if change is not None and change.columns is not None:
            record = divided(record, change.columns, records)
        layers[name] = record
    return replace(
        records,
        fingerprint=folded.fingerprint if fingerprint is None else fingerprint,
        layers=layers,
        made_by={**records.made_by, "folded from": records.fingerprint},
    )


def divided(record: LayerRecord, factors: SingleArray, records: CalibrationRecords) -> LayerRecord:
    """The record, among others, of a layer whose input channels are divided by factors, see `fold_records`."""
    bucket_of = np.searchsorted(records.buckets[:, 0], records.steps[:, 0], side="right") - 1
    mean, absmax = record.mean / factors, record.absmax / factors
    second = record.second_moment / factors**2
    with np.errstate(invalid="ignore", divide="ignore"):  # a bucket without calls, or with zeros only
        power = np.nan_to_num(
            second.mean(axis=1, dtype=np.float64) / record.second_moment.mean(axis=1), posinf=0.0
        )
    steps = record.steps
    ratio = np.sqrt(power)[bucket_of]
    highest, factor = absmax.max(axis=1)[bucket_of], 1.0 / factors.astype(np.float64)
    maximum = np.minimum(_stretch(steps.maximum, factor), highest)
    minimum = np.maximum(-_stretch(-steps.minimum, factor), -highest)
    return replace(
        record,
        mean=mean,
        second_moment=second,
        absmax=absmax,
        steps=StepStatistics(
            count=steps.count,
            mean=np.clip(steps.mean * ratio, minimum, maximum),
            variance=steps.variance * ratio**2,
            minimum=minimum,
            maximum=maximum,
            absmax_p99=np.minimum(steps.absmax_p99 * ratio, highest),
            absmax_p999=np.minimum(steps.absmax_p999 * ratio, highest),
        ),
        sensitivity={key: values * power for key, values in record.sensitivity.items()},
    )


def _stretch(highs: FloatArray, factors: FloatArray) -> FloatArray:
    """The most that values of at most so much can become when each is multiplied by one of the factors."""
    stretched: FloatArray = np.where(highs > 0, highs * factors.max(), highs * factors.min())
    return stretched


def _dividing(record: LayerRecord, share: FloatArray) -> LayerRecord:
    """The record of a layer whose output keeps a share of its energy; a unit of relative error in it costs the same."""
    with np.errstate(divide="ignore", invalid="ignore"):
        cost = np.where(share > 0, 1.0 / share, 1.0)
    return replace(
        record,
        output_energy=record.output_energy * share,
        sensitivity={key: values * cost for key, values in record.sensitivity.items()},
    )


def _share_left(record: LayerRecord, folded: FoldedCheckpoint, name: str, change: Change) -> FloatArray:
    """Σ_i E[(W_i·x)²]/s_i² over Σ_i E[(W_i·x)²], for independent channels, in each bucket; 1 where it did not run."""
    assert change.rows is not None
    rows, channels = folded.source.tensors[name].shape
    mean = record.mean.astype(np.float64)
    variance = np.maximum(record.second_moment - mean**2, 0.0)
    before, after = np.zeros(len(mean)), np.zeros(len(mean))
    for start, stop in row_ranges(0, rows, channels, most=BLOCK_WEIGHTS):
        weights = folded.source.read_rows(name, start, stop).astype(np.float32)
        energy = np.square(weights) @ variance.T.astype(np.float32)
        energy += np.square(weights @ record.mean.T)
        before += energy.sum(axis=0, dtype=np.float64)
        after += (energy / change.rows[start:stop, None] ** 2).sum(axis=0, dtype=np.float64)
    return np.where(before > 0, after / np.maximum(before, np.finfo(np.float64).tiny), 1.0)
