"""Columns that a calibration gives the layers: variance over denoising time, importance, damage by time group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from workbench.calibration import variance_table
from workbench.checkpoint import Checkpoint
from workbench.table import Table
from workbench.thermo import DamageModel

VARIANCE = ("eta_squared", "heterogeneity", "scale_jump")
"""Columns that a profile gets of `workbench.calibration.variance_table`."""


def with_time(profile: pa.Table, damage_model: DamageModel, checkpoint: Checkpoint) -> pa.Table:
    """A profile with what the denoising steps do to each layer.

    Returns
    -------
    pyarrow.Table
        The profile's columns, and eta_squared (η²), heterogeneity (V) and scale_jump, see
        `workbench.calibration.variance_table`, and importance (κ of all steps, see `DamageModel.table`); null for a
        layer without a record.
    """
    time_aware = damage_model.time_aware
    spread = {row["layer"]: row for row in variance_table(time_aware.records, time_aware.groups).to_pylist()}
    kappa = {row["layer"]: row["kappa"] for row in damage_model.table(checkpoint.layers).to_pylist()}
    names = profile["name"].to_pylist()
    nothing: Mapping[str, Any] = {}
    for column in VARIANCE:
        values = [spread.get(name, nothing).get(column) for name in names]
        profile = profile.append_column(column, pa.array(values, pa.float64()))
    return profile.append_column("importance", pa.array(map(kappa.get, names), pa.float64()))


def damage_by_group(present: Table, damage_model: DamageModel, checkpoint: Checkpoint) -> NDArray[np.float64]:
    """What each time group adds to the D of each layer, [layers, groups]; NaN for layers without a record.

    Parameters
    ----------
    present : Table
        A row a layer with the ``error_by_group`` of its present option.
    """
    kappa = {row["layer"]: row["by_group"] for row in damage_model.table(checkpoint.layers).to_pylist()}
    damage = np.full((present.num_rows, len(damage_model.time_aware.groups)), np.nan)
    for place, row in enumerate(present.select(["name", "error_by_group"]).to_pylist()):
        if row["error_by_group"] is not None and row["name"] in kappa:
            relative = [0.0 if value is None else value for value in row["error_by_group"]]
            damage[place] = np.array(relative) * kappa[row["name"]]
    return damage
