"""Damage predicted from a calibration: D_l from moments of the input and importance, by time group."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from workbench.calibration import CalibrationRecords, Moments, TimeAwareQuantizer, pool, records_for
from workbench.calibration.layer_record import LayerRecord, check_channels
from workbench.checkpoint import Checkpoint
from workbench.errors import ArgumentError
from workbench.plan import Layer, LayerKind

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

PREFERRED = (
    "measured",
    "fisher:trajectory:toward",
    "fisher:trajectory",
    "fisher:step",
    "noise",
    "white:trajectory",
    "white:step",
)
"""Estimators of importance, the one that predicted best first (README, "Which estimator?")."""

UNWEIGHTED = "none"
"""The importance that counts every layer's relative output error alike: κ = 1."""


IMPORTANCE_SCHEMA = pa.schema(
    [
        pa.field("layer", pa.string(), nullable=False),
        pa.field("role", pa.string(), nullable=False),
        pa.field("params", pa.int64(), nullable=False),
        pa.field("kappa", pa.float64(), nullable=False),
        pa.field("by_group", pa.list_(pa.float64()), nullable=False),
        pa.field("remark", pa.string(), nullable=False),
    ]
)
"""Columns of `DamageModel.table`."""


@dataclass(frozen=True, eq=False)
class Stress:
    """What a layer's weight errors meet, by time group.

    N_g(ΔW) = Σ_j var_gj·‖ΔW_:j‖² + ‖ΔW·μ_g‖² for a Linear or a convolution, Σ_v p_gv·‖ΔW_v:‖² for an Embedding whose
    row v is looked up with probability p_gv: the mean energy that the errors give an output vector, if channels vary
    independently. D = Σ_g c_g·N_g with c = `damage_per_noise`.
    """

    kind: LayerKind
    mean: NDArray[np.float32]
    """μ_g of each channel, [groups, channels]; of an Embedding p_g, [groups, rows]. 0 where the layer did not run."""
    variance: NDArray[np.float32]
    """var_g of each channel, [groups, channels]; unused for an Embedding."""
    energy: FloatArray
    """E_g = E‖Wx‖² of an output vector, [groups]; NaN where the layer did not run or gave nothing but zeros."""
    damage_per_noise: FloatArray
    """D for a unit of N_g, [groups]; 0 where the layer did not run."""
    layer: Layer

    def noise(self, delta: NDArray[np.float32], rows: IntArray) -> FloatArray:
        """What each row's errors add to N_g.

        Parameters
        ----------
        delta : float32 [rows, cols]
            ΔW of some rows.
        rows : int64 [rows]
            Which they are.

        Returns
        -------
        float64 [rows, groups]
        """
        if self.kind == "embedding":
            energy = np.square(delta).sum(axis=1, dtype=np.float64)
            by_row: FloatArray = self.mean[:, rows].T.astype(np.float64) * energy[:, None]
            return by_row
        if self.kind == "linear":
            return _noise(delta, self.mean, self.variance)
        taps = self.layer.cols // self.layer.shape[1]
        parts = self.mean.shape[1] // self.layer.shape[1]
        part_of = (
            rows * parts // self.layer.rows
        )  # a grouped convolution's rows see their part of the channels
        found = np.empty((len(delta), len(self.mean)))
        for part in np.unique(part_of):
            channels = slice(part * self.layer.shape[1], (part + 1) * self.layer.shape[1])
            mean, variance = (
                np.repeat(values[:, channels], taps, axis=1) for values in (self.mean, self.variance)
            )
            found[part_of == part] = _noise(delta[part_of == part], mean, variance)
        return found


@dataclass(frozen=True, eq=False)
class DamageModel:
    """The damage that weight errors of each layer do, as a calibration predicts it."""

    time_aware: TimeAwareQuantizer
    """The records and their time groups."""
    estimator: str
    """The estimator of importance in use, or ``"none"``."""
    typical: float
    """Median κ over the layers that have records: what a unit of relative error in one that has none counts."""

    @classmethod
    def of(
        cls, time_aware: TimeAwareQuantizer, layers: Iterable[Layer], importance: str | None = None
    ) -> Self:
        """The damage model of the importance that was measured.

        Parameters
        ----------
        time_aware : TimeAwareQuantizer
        layers : iterable of Layer
            The checkpoint's.
        importance : str, optional
            The estimator; ``"none"`` for κ = 1. By default the best one that was run, `PREFERRED`, or none.

        Raises
        ------
        ArgumentError
            If the records have no such estimator.
        ShapeMismatchError
            If a record does not fit its layer.
        """
        known = time_aware.records.estimators
        if importance is None:
            importance = next((name for name in PREFERRED if name in known), UNWEIGHTED)
        if importance != UNWEIGHTED and importance not in known:
            raise ArgumentError(
                f"The calibration has no importance {importance!r}; it has {', '.join((*known, UNWEIGHTED))}. "
                "workbench.live.importance_by_gradients measures it.",
                key="importance",
                value=importance,
            )
        unset = cls(time_aware, importance, 1.0)
        kappas = [
            float(unset.kappa(layer).sum())
            for layer in layers
            if (record := time_aware.records.layers.get(layer.name))
            and (importance == UNWEIGHTED or importance in record.sensitivity)
        ]
        typical = float(np.median(kappas)) if kappas else 1.0
        return cls(time_aware, importance, typical)

    @classmethod
    def read(
        cls,
        calibration: CalibrationRecords | str | os.PathLike[str],
        checkpoint: Checkpoint,
        *,
        num_time_groups: int = 10,
        grouping: str = "optimal",
        importance: str | None = None,
    ) -> Self:
        """The damage model of calibration records, or of the file they are in.

        Raises
        ------
        ArrowQuantError
            If the file cannot be used, is of another checkpoint, or has no such importance.
        """
        records = (
            calibration
            if isinstance(calibration, CalibrationRecords)
            else CalibrationRecords.load(calibration)
        )
        records = records_for(records, checkpoint)
        records.check_fit(checkpoint)
        time_aware = TimeAwareQuantizer.of(records, num_time_groups, grouping)
        return cls.of(time_aware, checkpoint.layers, importance)

    @property
    def key(self) -> list[Any]:
        """Plain values that decide what it comes to."""
        groups = self.time_aware.groups
        return [self.time_aware.records.digest, list(groups.edges), self.estimator]

    def stress(self, layer: Layer) -> Stress | None:
        """What a layer's errors meet; None where it has no record."""
        record = self.time_aware.records.layers.get(layer.name)
        if record is None:
            return None
        check_channels(layer, record.kind, record.channels)
        moments = self._moments(record)
        ran = moments.count > 0
        energy = np.where(moments.output_energy > 0, moments.output_energy, np.nan)
        return Stress(
            kind=record.kind,
            mean=np.nan_to_num(moments.mean).astype(np.float32),
            variance=np.nan_to_num(moments.variance).astype(np.float32),
            energy=energy,
            damage_per_noise=np.where(ran, self._damage_per_noise(layer, record, moments, energy), 0.0),
            layer=layer,
        )

    def kappa(self, layer: Layer) -> FloatArray:
        """ω_g·κ_lg of a layer with a record: what a unit of relative output error in each group counts, [groups]."""
        record = self.time_aware.records.layer(layer.name)
        moments = self._moments(record)
        damage = self._damage_per_noise(layer, record, moments, moments.output_energy)
        return np.nan_to_num(damage * moments.output_energy)

    def table(self, layers: Iterable[Layer]) -> pa.Table:
        """The importance of every layer that has a record, explained.

        Returns
        -------
        pyarrow.Table
            layer, role, params; kappa: Σ_g ω_g·κ_lg, the relative error power of the output for a unit of relative
            error power in the layer's output, all steps long; by_group: ω_g·κ_lg; remark: a sentence.
        """
        rows = []
        for layer in layers:
            if layer.name in self.time_aware.records.layers:
                by_group = self.kappa(layer).tolist()
                kappa = sum(by_group)
                rows.append(
                    {
                        "layer": layer.name, "role": layer.role, "params": layer.params, "kappa": kappa,
                        "by_group": by_group, "remark": self._remark(layer, kappa),
                    }
                )  # fmt: skip
        return pa.Table.from_pylist(rows, IMPORTANCE_SCHEMA)

    def _remark(self, layer: Layer, kappa: float) -> str:
        times = kappa / self.typical if self.typical > 0 else 1.0
        size = f"{layer.params:,} weights"
        if times >= 2:
            return f"{size}, but an error in their output weighs {times:.1f} times a typical layer's"
        if times <= 0.5:
            return f"{size}, and an error in their output weighs {1 / times:.1f} times less than a typical layer's"
        return f"{size}, whose errors weigh about as much as a typical layer's"

    def _moments(self, record: LayerRecord) -> Moments:
        groups = self.time_aware.groups
        return pool(record, groups.group_of, len(groups))

    def _damage_per_noise(
        self, layer: Layer, record: LayerRecord, moments: Moments, energy: FloatArray
    ) -> FloatArray:
        groups = self.time_aware.groups
        measured = record.sensitivity.get(self.estimator)
        with np.errstate(invalid="ignore", divide="ignore"):  # a layer may give nothing but zeros
            if self.estimator == UNWEIGHTED:
                return np.nan_to_num(groups.shares / energy, posinf=0.0)
            if measured is None:  # one that this estimator left out counts as a typical one
                return np.nan_to_num(groups.shares * self.typical / energy, posinf=0.0)
            sensitivity = np.bincount(groups.group_of, np.nan_to_num(measured), len(groups))
            return np.nan_to_num(sensitivity / _white(layer, record.kind, moments), posinf=0.0)


def _white(layer: Layer, kind: LayerKind, moments: Moments) -> FloatArray:
    """N_g of white weight noise of unit variance, [groups]."""
    if kind == "embedding":
        return np.full(len(moments.count), float(layer.cols))
    power = moments.second_moment.mean(axis=1)  # a row sees as many inputs as it has weights
    found: FloatArray = layer.rows * layer.cols * power
    return found


def _noise(
    delta: NDArray[np.float32], mean: NDArray[np.float32], variance: NDArray[np.float32]
) -> FloatArray:
    spread = np.square(delta) @ variance.T
    shift = delta @ mean.T
    return spread.astype(np.float64) + np.square(shift.astype(np.float64))
