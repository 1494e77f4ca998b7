"""What a plan does to the weights of a checkpoint, as tensors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workbench.calibration import CalibrationRecords
from workbench.checkpoint import Checkpoint
from workbench.formats import target_named
from workbench.plan import Plan
from workbench.quantize import Encodings
from workbench.thermo.sampling import read_blocks


def weight_errors(
    checkpoint: Checkpoint, plan: Plan, records: CalibrationRecords | None = None
) -> dict[str, Tensor]:
    """Ŵ − W of every layer that a plan quantizes, exactly as an export of it decodes.

    Parameters
    ----------
    checkpoint : Checkpoint
    plan : Plan
        Such as `Session.plan`.
    records : CalibrationRecords, optional
        Those that weigh the plan's codes, where it names some.

    Returns
    -------
    dict of str to torch.Tensor
        float32, in the shapes of the layers: as much memory as the layers in float32.

    Raises
    ------
    ConfigurationError
        If the plan names a calibration that is not given.
    ValidationError
        If a weight is NaN or Inf.
    """
    return dict(layer_errors(checkpoint, plan, records))


def layer_errors(
    checkpoint: Checkpoint, plan: Plan, records: CalibrationRecords | None = None
) -> Iterator[tuple[str, Tensor]]:
    """The same as `weight_errors`, one layer after the other."""
    layers = {layer.name: layer for layer in checkpoint.layers}
    for name, errors in decoded_weights(checkpoint, plan, records):
        for rows, weights in read_blocks(checkpoint, layers[name]):
            errors[rows] -= weights.astype(np.float32)
        yield name, torch.from_numpy(errors).reshape(layers[name].shape)


def decoded_weights(
    checkpoint: Checkpoint, plan: Plan, records: CalibrationRecords | None = None
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Name and Ŵ, [rows, cols], of every layer that a plan quantizes, exactly as an export of it decodes.

    Raises
    ------
    ConfigurationError
        If the plan names a calibration and it is not the one given.
    ValidationError
        If a weight is NaN or Inf.
    """
    target = target_named(plan.target)
    encodings = Encodings.of_plan(plan, records)
    for layer in checkpoint.layers:
        option = plan.choices.get(layer.name)
        if option is None or option.is_kept:
            continue
        encoding = encodings.of(layer.name, layer.shape)
        decoded = np.empty((layer.rows, layer.cols), np.float32)
        for rows, weights in read_blocks(checkpoint, layer):
            decoded[rows] = target.decoded(weights, option, layer.name, int(rows[0]), encoding)
        yield layer.name, decoded
