"""Calibration records: what the denoising steps did to the input of every layer."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Self

import numpy as np

from workbench.calibration.file import read_file, write_file
from workbench.calibration.layer_record import FloatArray, LayerRecord, SingleArray, check_channels
from workbench.checkpoint import Checkpoint
from workbench.errors import ArgumentError, ValidationError
from workbench.zoo import locate

SHIPPED = "calibration.parquet"
"""The file of records in the folder of a model of the zoo."""


UNKNOWN = "not captured"
"""Why a layer has no record, where nothing says why."""


@dataclass(frozen=True, eq=False)
class CalibrationRecords:
    """What the layers of a checkpoint were given while it generated; immutable.

    Two axes of time, both ascending: `steps` are fine, for scalars; `buckets` are at most 64, for channels.
    """

    fingerprint: str
    """Fingerprint of the checkpoint whose layers were watched."""
    time: str
    """What time means: ``"timestep"``, ``"mask ratio"``, or the user's own name of it."""
    steps: FloatArray
    """Least and greatest time of each step, [steps, 2]; the same twice unless steps had to be taken together."""
    step_calls: FloatArray
    """Calls of the model in each step, [steps]."""
    buckets: FloatArray
    """Least and greatest time of each bucket, [buckets, 2]."""
    bucket_calls: FloatArray
    """Calls of the model in each bucket, [buckets]."""
    layers: Mapping[str, LayerRecord]
    """By the layer's name in the checkpoint; layers that never ran are missing."""
    made_by: Mapping[str, Any] = field(default_factory=dict)
    """How it came about, in plain values, for people to read."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", MappingProxyType(dict(self.layers)))
        object.__setattr__(self, "made_by", MappingProxyType(dict(self.made_by)))

    def __repr__(self) -> str:
        span = f"{self.steps.min():g} to {self.steps.max():g}" if self.steps.size else "none"
        lost = len(self.not_recorded)
        return (
            f"<CalibrationRecords of {len(self.layers)} layers{f', {lost} not recorded' if lost else ''}: "
            f"{self.step_calls.sum():g} calls in {len(self.steps)} steps and {len(self.buckets)} buckets, "
            f"{self.time} {span}\n"
            f" importance: {', '.join(self.estimators) or 'not measured'}; checkpoint {self.fingerprint[:12]}…>"
        )

    @property
    def shares(self) -> FloatArray:
        """Share of each bucket in the calls of the model, [buckets]."""
        shares: FloatArray = self.bucket_calls / self.bucket_calls.sum()
        return shares

    @property
    def estimators(self) -> tuple[str, ...]:
        """Names of the estimators of importance that were run, in the order of the alphabet."""
        return tuple(sorted({name for record in self.layers.values() for name in record.sensitivity}))

    @property
    def not_recorded(self) -> Mapping[str, str]:
        """Layers that the capture could not record, by name, and why; what it knew of the checkpoint."""
        return {name: why for name, why in _reasons(self.made_by).items() if name not in self.layers}

    def missing(self, checkpoint: Checkpoint) -> dict[str, str]:
        """Layers of a checkpoint that have no record, by name, and why.

        Their damage is predicted from their weights alone, and their codes are not weighed.

        Parameters
        ----------
        checkpoint : Checkpoint
            Under the names that the records use.
        """
        reasons = _reasons(self.made_by)
        return {
            layer.name: reasons.get(layer.name, UNKNOWN)
            for layer in checkpoint.layers
            if layer.params and layer.name not in self.layers
        }

    def mean(self, layer: str) -> SingleArray:
        """Mean of each input channel, float32 [buckets, channels]; NaN where the layer did not run."""
        return self._observed(layer, "mean")

    def second_moment(self, layer: str) -> SingleArray:
        """E[x²] of each input channel, float32 [buckets, channels]; NaN where the layer did not run."""
        return self._observed(layer, "second_moment")

    def absmax(self, layer: str) -> SingleArray:
        """Greatest |x| of each input channel, float32 [buckets, channels]; NaN where the layer did not run."""
        return self._observed(layer, "absmax")

    def layer(self, name: str) -> LayerRecord:
        """The record of a layer.

        Raises
        ------
        ValidationError
            If the layer has none.
        """
        if name not in self.layers:
            raise ValidationError(
                f"The calibration has no record of {name!r}: it did not run while it was captured.",
                tensor=name,
            )
        return self.layers[name]

    def _observed(self, layer: str, what: str) -> SingleArray:
        record = self.layer(layer)
        values: SingleArray = getattr(record, what)
        return np.where(record.count[:, None] > 0, values, np.float32(np.nan))

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the records to one Parquet file, in one step; `workbench.calibration.file` describes it.

        Parameters
        ----------
        path : path-like
        overwrite : bool
            Replace the records that are there; a file of another kind is never replaced.

        Raises
        ------
        ValidationError
            If there is a file already that is not to be replaced, or it cannot be written; nothing is left
            half-written.
        """
        metadata = {"fingerprint": self.fingerprint, "time": self.time, "made_by": dict(self.made_by)}
        axes = {name: getattr(self, name) for name in ("steps", "step_calls", "buckets", "bucket_calls")}
        write_file(path, metadata, axes, self.layers, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read records that `save` wrote.

        Parameters
        ----------
        path : path-like
            The file, or a model of the zoo such as ``"zoo:digits-dit"`` for the records that ship with it.

        Raises
        ------
        ModelNotFoundError
            If there is no such file.
        MetadataError
            If it is no file of calibration records, of an unknown version, or inconsistent.
        ValidationError
            If a value in it is NaN or Inf, or negative where that cannot be.
        """
        shipped = isinstance(path, str) and path.startswith("zoo:")
        return cls(**read_file(locate(str(path)) / SHIPPED if shipped else path))

    @property
    def digest(self) -> str:
        """SHA-256, in hexadecimal, of everything that decides what options cost."""
        seen = hashlib.sha256(f"{self.fingerprint}\0{self.time}".encode())
        for array in (self.buckets, self.bucket_calls):
            seen.update(array.tobytes())
        for name, record in sorted(self.layers.items()):
            seen.update(f"\0{name}\0{record.kind}".encode())
            for values in (record.count, record.mean, record.second_moment, record.output_energy):
                seen.update(np.asarray(values).tobytes())
            for estimator, sensitivity in sorted(record.sensitivity.items()):
                seen.update(estimator.encode() + sensitivity.tobytes())
        return seen.hexdigest()

    def check_fit(self, checkpoint: Checkpoint) -> None:
        """Make sure that the records speak of a checkpoint.

        Raises
        ------
        ValidationError
            If they were made with other weights, or name a layer that it does not have.
        ShapeMismatchError
            If a layer's channels are not those of its input.
        """
        if self.fingerprint != checkpoint.fingerprint:
            raise ValidationError(
                f"{checkpoint.path}: the calibration was made with other weights (fingerprint "
                f"{self.fingerprint[:12]}…, this checkpoint has {checkpoint.fingerprint[:12]}…). Capture it again.",
                path=checkpoint.path,
            )
        layers = {layer.name: layer for layer in checkpoint.layers}
        for name, record in self.layers.items():
            if name not in layers:
                raise ValidationError(
                    f"{checkpoint.path}: the calibration has a layer {name!r} that the checkpoint has not.",
                    path=checkpoint.path,
                    tensor=name,
                )
            check_channels(layers[name], record.kind, record.channels)


def _reasons(made_by: Mapping[str, Any]) -> dict[str, str]:
    """Why layers have no record, by what the captures noted."""
    if "missing" in made_by:
        return dict(made_by["missing"])
    found: dict[str, str] = {}
    for run in made_by.get("merged", ()):
        found |= _reasons(run)
    found |= dict.fromkeys(made_by.get("not_in_model", ()), "not in the model")
    return found | dict.fromkeys(made_by.get("not_called", ()), "never called")


def require_same(ours: CalibrationRecords, theirs: CalibrationRecords) -> None:
    """Make sure that two records can become one.

    Raises
    ------
    ArgumentError
        If they are of other weights, or measure time by another clock.
    """
    for what in ("fingerprint", "time"):
        mine, other = getattr(ours, what), getattr(theirs, what)
        if mine != other:
            raise ArgumentError(
                f"Records with the {what} {mine!r} and {other!r} cannot be merged; capture both runs of one model "
                "in the same way.",
                key=what,
                value=other,
            )
