"""What every way of measuring importance takes and gives: layers with records, and their sensitivities."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from workbench.calibration import CalibrationRecords
from workbench.checkpoint import Checkpoint, split_rows
from workbench.errors import ArgumentError, ValidationError
from workbench.live.model.missing_layers import warn_of
from workbench.live.model.modules import Match, match_layers
from workbench.live.model.weight_check import check_same_weights


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
    """Refuse a value that is not one of those allowed."""
    if value not in allowed:
        raise ArgumentError(
            f"{key} is {value!r}; allowed: {' or '.join(allowed)}.", key=key, value=value, allowed=allowed
        )


def require_runs(runs: int) -> None:
    """Refuse a number of runs below 1."""
    if runs < 1:
        raise ArgumentError(f"runs is {runs}; allowed: at least 1.", key="runs", value=runs)


def measured_layers(
    module: nn.Module,
    checkpoint: Checkpoint,
    records: CalibrationRecords,
    wanted: Collection[str] | None = None,
    check_weights: bool = True,
) -> Match:
    """The model with the layers that have records, or those of them that are wanted.

    Warns of layers that have a record and no module.
    """
    stored = checkpoint.stored
    records.check_fit(stored)
    match = match_layers(module, stored)
    if check_weights:
        check_same_weights(match.modules, stored)
    for name in wanted or ():
        if name not in records.layers:
            raise ValidationError(f"There is no record of the layer {name!r} to measure.", tensor=name)
        if name in match.missing:
            raise ValidationError(
                f"The layer {name!r} cannot be measured: {match.missing[name]}.", tensor=name
            )
    names = records.layers if wanted is None else wanted
    missing = {name: why for name, why in match.missing.items() if name in names}
    if missing:
        warn_of(
            missing, f"Not measured, and counted like typical layers: {len(missing)} of {len(names)} layers"
        )
    return replace(match, modules={name: found for name, found in match.modules.items() if name in names})


@contextmanager
def noting_calls(modules: Mapping[str, nn.Module]) -> Iterator[set[str]]:
    """The names of the layers that are called, filled in while the block runs."""
    called: set[str] = set()

    def note(name: str, *_: Any) -> None:
        called.add(name)

    handles = [module.register_forward_pre_hook(partial(note, name)) for name, module in modules.items()]
    try:
        yield called
    finally:
        for handle in handles:
            handle.remove()


def warn_of_idle(idle: Collection[str], layers: int) -> None:
    """Warn of layers that did not run: nothing was measured of them, which is not a sensitivity of 0."""
    if idle:
        warn_of(
            dict.fromkeys(idle, "did not run, though the calibration has a record of it"),
            f"Not measured, and counted like typical layers: {len(idle)} of {layers} layers",
        )


def in_files(checkpoint: Checkpoint, deltas: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Changes of layers, taken apart into those of the files' layers where the checkpoint is renamed."""
    found = {}
    for name, delta in deltas.items():
        parts = (checkpoint.parts or {}).get(name)
        if parts is None:
            found[name] = delta
        else:
            pieces = split_rows(parts, delta.detach().float().cpu().numpy())
            found.update({part: torch.from_numpy(values) for part, values in pieces.items()})
    return found
