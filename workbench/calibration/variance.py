"""How a layer's activations vary over denoising time."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa

from workbench.calibration.grouping import TimeGroups
from workbench.calibration.layer_record import FloatArray, IntArray, LayerRecord
from workbench.calibration.pooling import pool, pool_steps
from workbench.calibration.records import CalibrationRecords

SCHEMA = pa.schema(
    [
        pa.field("layer", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("steps", pa.int64(), nullable=False),
        pa.field("within", pa.float64()),
        pa.field("between", pa.float64()),
        pa.field("between_groups", pa.float64()),
        pa.field("eta_squared", pa.float64()),
        pa.field("heterogeneity", pa.float64()),
        pa.field("scale_jump", pa.float64()),
    ]
)
"""Columns of `variance_table`."""


def variance_table(records: CalibrationRecords, groups: TimeGroups) -> pa.Table:
    """The variance of every layer's input, split by denoising time.

    Returns
    -------
    pyarrow.Table
        A row a layer. `steps`: those at which it ran. By the law of total variance, over all N = Σ n_t values:
        `within` W = Σ n_t·v_t / N, `between` B = Σ n_t·(m_t − m)² / N, `between_groups` B_G = Σ n_g·(m_g − m)² / N,
        and `eta_squared` η² = B_G / (W + B), the share of the variance that the groups explain.
        `heterogeneity` V = Var_g(log v̄_g), v̄_g the second moment in a group averaged over channels: how unlike
        the groups' levels are, whatever their means. `scale_jump`: the greatest |log2| of the ratio of neighbouring
        groups' greatest |x|, so that 1 is a doubling or halving at a border.
        Null where it is not defined: of an Embedding, whose input is no activation, or of a constant.
    """
    step_group = group_of_steps(records, groups)
    rows = []
    for name, record in records.layers.items():
        row = dict.fromkeys(SCHEMA.names) | {
            "layer": name,
            "kind": record.kind,
            "steps": int((record.steps.count > 0).sum()),
        }
        if record.kind != "embedding":
            row |= _split(record, step_group, len(groups)) | _levels(record, groups)
        rows.append(row)
    return pa.Table.from_pylist(rows, SCHEMA)


def group_of_steps(records: CalibrationRecords, groups: TimeGroups) -> IntArray:
    """The group of each step, [steps], by the middle of its range."""
    middle = records.steps.mean(axis=1)
    # Between two groups' ranges there is no time; the border is put halfway.
    borders = (groups.ranges[:-1, 1] + groups.ranges[1:, 0]) / 2
    group: IntArray = np.searchsorted(borders, middle, side="right")
    return group


def second_moments(records: CalibrationRecords, groups: TimeGroups) -> tuple[list[str], FloatArray]:
    """v̄ of each layer in each group: the layers' names and float64 [layers, groups]; NaN where it did not run."""
    names = [name for name, record in records.layers.items() if record.kind != "embedding"]
    levels = np.full((len(names), len(groups)), np.nan)
    for row, name in zip(levels, names, strict=True):
        row[:] = pool(records.layers[name], groups.group_of, len(groups)).second_moment.mean(axis=1)
    return names, levels


def _split(record: LayerRecord, step_group: IntArray, groups: int) -> dict[str, float | None]:
    steps = record.steps
    seen = steps.count > 0
    total = steps.count.sum()
    mean = float(steps.mean[seen] @ steps.count[seen]) / total
    within = float(steps.variance[seen] @ steps.count[seen]) / total
    between = float((steps.mean[seen] - mean) ** 2 @ steps.count[seen]) / total
    grouped = pool_steps(steps, step_group, groups)
    there = grouped.count > 0
    explained = float((grouped.mean[there] - mean) ** 2 @ grouped.count[there]) / total
    return {
        "within": within,
        "between": between,
        "between_groups": explained,
        "eta_squared": explained / (within + between) if within + between > 0 else None,
    }


def _levels(record: LayerRecord, groups: TimeGroups) -> dict[str, float | None]:
    moments = pool(record, groups.group_of, len(groups))
    level = moments.second_moment.mean(axis=1)
    peak = moments.absmax.max(axis=1, initial=0.0)
    there = (moments.count > 0) & (level > 0)
    if not there.any():
        return {}
    jumps = np.abs(np.diff(np.log2(peak[there])))
    return {
        "heterogeneity": float(np.var(np.log(level[there]))),
        "scale_jump": float(jumps.max(initial=0.0)) if math.isfinite(jumps.sum()) else None,
    }
