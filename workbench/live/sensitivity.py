"""What every way of measuring importance takes and gives: layers with records, and their sensitivities."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from workbench.calibration import CalibrationRecords
from workbench.checkpoint import Checkpoint
from workbench.errors import ConfigurationError, ValidationError
from workbench.live.modules import match_modules


def with_sensitivity(
    records: CalibrationRecords, estimator: str, found: Mapping[str, np.ndarray[Any, np.dtype[np.float64]]]
) -> CalibrationRecords:
    """The records with the sensitivities, [buckets], of some layers under an estimator's name.

    They are NaN where the layer did not run.

    Raises
    ------
    ValidationError
        If one is negative, NaN or Inf, or the layer has no record.
    """
    layers = dict(records.layers)
    for name, values in found.items():
        if not (np.isfinite(values).all() and (values >= 0).all()):
            raise ValidationError(
                f"The sensitivity of {name!r} came out as {values}. Look for steps that overflow; run the model in "
                "float32 or bfloat16.",
                tensor=name,
            )
        known = records.layer(name)
        seen = np.where(known.count > 0, values, np.nan)
        layers[name] = replace(known, sensitivity={**known.sensitivity, estimator: seen})
    return replace(records, layers=layers)


def require(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigurationError(
            f"{key} is {value!r}; allowed: {' or '.join(allowed)}.", key=key, value=value, allowed=allowed
        )


def require_runs(runs: int) -> None:
    if runs < 1:
        raise ConfigurationError(f"runs is {runs}; allowed: at least 1.", key="runs", value=runs)


def modules_of(
    module: nn.Module,
    checkpoint: Checkpoint,
    records: CalibrationRecords,
    wanted: Collection[str] | None = None,
) -> dict[str, nn.Module]:
    """The modules of the layers that have records, or of those of them that are wanted."""
    records.check_fit(checkpoint)
    modules = {
        name: found for name, found in match_modules(module, checkpoint).items() if name in records.layers
    }
    if wanted is None:
        return modules
    for name in wanted:
        if name not in modules:
            raise ValidationError(f"There is no record of the layer {name!r} to measure.", tensor=name)
    return {name: found for name, found in modules.items() if name in wanted}
