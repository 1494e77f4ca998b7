"""Whether a running model has the weights of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from workbench.checkpoint import Checkpoint
from workbench.errors import ValidationError
from workbench.live.model.weights import value_of

ROWS = 3
"""Rows of a layer that are compared: the first, the middle one and the last."""

TOLERANCE = 0.02
"""Energy of the difference over that of the weights: more than casts and quantization to 4 bits make, less than
another model has."""


def check_same_weights(modules: Mapping[str, nn.Module], checkpoint: Checkpoint) -> tuple[str, ...]:
    """Make sure that the layers of a running model hold the weights of a checkpoint, by a few rows of each.

    Parameters
    ----------
    modules : mapping of str to torch.nn.Module
        By the layer's name in the checkpoint.
    checkpoint : Checkpoint

    Returns
    -------
    tuple of str
        Layers whose weights are not known between calls, because the model is offloaded.

    Raises
    ------
    ValidationError
        If some differ: names the first.
    """
    differing: dict[str, float] = {}
    unknown = []
    for name, module in modules.items():
        weight = value_of(module, "weight")
        if weight is None:
            unknown.append(name)
            continue
        difference = _difference(checkpoint, name, weight)
        if difference > TOLERANCE:
            differing[name] = difference
    if differing:
        first, difference = next(iter(differing.items()))
        part = f" The checkpoint is the component {checkpoint.component!r}." if checkpoint.component else ""
        raise ValidationError(
            f"{checkpoint.path}: the running model has other weights: {len(differing)} of {len(modules)} layers "
            f"differ, the first is {first!r} (‖ΔW‖²/‖W‖² = {difference:.2g}).{part} Give the model that was loaded "
            "from this checkpoint; for a finetune of it, check_weights=False.",
            path=checkpoint.path,
            tensor=first,
        )
    return tuple(unknown)


def _difference(checkpoint: Checkpoint, name: str, weight: Tensor) -> float:
    """‖ΔW‖²/‖W‖² of some rows, with the checkpoint's cast to the dtype of the model."""
    rows = weight.shape[0]
    places = sorted({round(place * (rows - 1) / (ROWS - 1)) for place in range(ROWS)})
    ours = np.concatenate([_row(checkpoint, name, place) for place in places])
    wanted = torch.from_numpy(ours).to(weight.dtype).double()
    found = weight[places].reshape(-1).to("cpu").double()
    known = torch.isfinite(wanted) & torch.isfinite(found)
    delta = torch.where(known, found - wanted, 0.0).square().sum()
    energy = torch.where(known, wanted, 0.0).square().sum()
    if energy == 0:
        return float("inf") if delta > 0 else 0.0
    return float(delta / energy)


def _row(checkpoint: Checkpoint, name: str, row: int) -> NDArray[np.float32]:
    with np.errstate(over="ignore", invalid="ignore"):
        return checkpoint.read_rows(name, row, row + 1).reshape(-1).astype(np.float32)
