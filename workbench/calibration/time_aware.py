"""`TimeAwareQuantizer`: time groups, and 8-bit activations with a scale and a zero point for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa

from workbench.calibration.activation_tables import LEVELS
from workbench.calibration.grouping import TimeGroups, group_steps
from workbench.calibration.layer_record import FloatArray
from workbench.calibration.pooling import pool_steps
from workbench.calibration.records import CalibrationRecords
from workbench.calibration.variance import group_of_steps, variance_table
from workbench.errors import ArgumentError
from workbench.table import Table

TABLE_SCHEMA = pa.schema(
    [
        pa.field("layer", pa.string(), nullable=False),
        pa.field("group", pa.int32(), nullable=False),
        pa.field("low", pa.float64(), nullable=False),
        pa.field("high", pa.float64(), nullable=False),
        pa.field("scale", pa.float64(), nullable=False),
        pa.field("zero_point", pa.int32(), nullable=False),
    ]
)
"""Columns of `TimeAwareQuantizer.activation_table`."""


@dataclass(frozen=True, eq=False)
class TimeAwareQuantizer:
    """What calibration records say when denoising steps are taken together in time groups; immutable."""

    records: CalibrationRecords
    """What was captured."""
    groups: TimeGroups
    """The steps taken together."""

    @classmethod
    def of(cls, records: CalibrationRecords, num_time_groups: int = 10, grouping: str = "optimal") -> Self:
        """The quantizer of a number of groups, see `group_steps`."""
        return cls(records, group_steps(records, num_time_groups, grouping))

    def variance_table(self) -> Table:
        """See `workbench.calibration.variance_table`."""
        return Table(variance_table(self.records, self.groups))

    def ranges(self, layer: str, smoothing: float = 0.0) -> FloatArray:
        """Range of a layer's input in each group, [groups, 2]; NaN where it did not run.

        A range always holds 0, so that zero is stored exactly.

        Parameters
        ----------
        smoothing : float
            From 0 to 1: how far a group's range is widened towards the mean of its own and its neighbours' ranges,
            so that the scale changes less at a border. It is never narrowed, which would clip, and all groups start
            from the ranges as they were recorded.

        Raises
        ------
        ArgumentError
            If the smoothing is not from 0 to 1.
        ValidationError
            If the layer has no record.
        """
        if not 0 <= smoothing <= 1:
            raise ArgumentError(
                f"smoothing is {smoothing}; allowed: from 0 to 1.", key="smoothing", value=smoothing
            )
        steps = pool_steps(
            self.records.layer(layer).steps, group_of_steps(self.records, self.groups), len(self.groups)
        )
        recorded = np.column_stack([np.minimum(steps.minimum, 0.0), np.maximum(steps.maximum, 0.0)])
        padded = np.pad(recorded, ((1, 1), (0, 0)), constant_values=np.nan)
        around = np.stack([padded[:-2], recorded, padded[2:]])
        known = np.isfinite(around)
        mean = np.where(known, around, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        moved = recorded + smoothing * (mean - recorded)
        return np.column_stack([np.fmin(recorded, moved)[:, 0], np.fmax(recorded, moved)[:, 1]])

    def activation_table(self, smoothing: float = 0.0) -> pa.Table:
        """Scale and zero point of 8-bit activations for every layer and group.

        x ≈ (q − zero_point)·scale, q from 0 to 255. A layer has no row for groups in which it did not run; an
        Embedding, whose input is no activation, has none.

        Parameters
        ----------
        smoothing : float
            See `ranges`.
        """
        rows: list[dict[str, Any]] = []
        for name, record in self.records.layers.items():
            if record.kind == "embedding":
                continue
            for group, (low, high) in enumerate(self.ranges(name, smoothing).tolist()):
                if np.isfinite(low):
                    scale = (high - low) / LEVELS or 1.0
                    zero = round(-low / scale)
                    rows.append(
                        {
                            "layer": name, "group": group, "low": low, "high": high,
                            "scale": scale, "zero_point": min(max(zero, 0), LEVELS),
                        }
                    )  # fmt: skip
        return pa.Table.from_pylist(rows, TABLE_SCHEMA)

    def to_dict(self, smoothing: float = 0.0) -> dict[str, Any]:
        """The activation tables as plain values, the way every export carries them in workbench.json."""
        table = self.activation_table(smoothing)
        layers: dict[str, dict[str, list[Any]]] = {}
        for row in table.to_pylist():
            entry = layers.setdefault(row["layer"], {"group": [], "scale": [], "zero_point": []})
            for key, values in entry.items():
                values.append(row[key])
        return {
            "time": self.records.time,
            "bits": 8,
            "grouping": self.groups.method,
            "smoothing": smoothing,
            "groups": [
                {"low": low, "high": high, "share": share}
                for (low, high), share in zip(
                    self.groups.ranges.tolist(), self.groups.shares.tolist(), strict=True
                )
            ],
            "layers": layers,
        }
