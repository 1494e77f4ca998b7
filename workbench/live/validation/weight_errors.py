"""What a plan does to the weights of a checkpoint, as tensors."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workbench.calibration import CalibrationRecords, records_for
from workbench.checkpoint import Checkpoint, named_as, opened
from workbench.checkpoint.blocks import read_blocks
from workbench.errors import ValidationError
from workbench.formats import target_named
from workbench.plan import Plan
from workbench.quantize import Encodings
from workbench.work import Progress, ProgressCallback


def weight_errors(
    checkpoint: Checkpoint | str | os.PathLike[str],
    plan: Plan,
    records: CalibrationRecords | None = None,
    *,
    callback: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
) -> dict[str, Tensor]:
    """Ŵ − W of every layer that a plan quantizes, exactly as an export of it decodes.

    Parameters
    ----------
    checkpoint : Checkpoint or path-like
    plan : Plan
        Such as `Session.plan`.
    records : CalibrationRecords, optional
        Those that weigh the plan's codes, where it names some.
    callback, cancel
        Hear of the progress; stop the work with a `CancelledError`.

    Returns
    -------
    dict of str to torch.Tensor
        float32, in the shapes of the layers and by the plan's names of them: as much memory as the layers in float32.

    Raises
    ------
    ArgumentError
        If the plan names a calibration that is not given.
    ValidationError
        If a weight is NaN or Inf, or the plan was made for another checkpoint.
    """
    with opened(checkpoint) as found:
        working = checkpoint_for(found, plan)
        progress = progress_of(plan, working, callback, cancel)
        return dict(layer_errors(working, plan, records, progress))


def checkpoint_for(checkpoint: Checkpoint, plan: Plan, source: str | None = None) -> Checkpoint:
    """The checkpoint under the names that a plan uses: those of its files or those of the original checkpoint.

    Parameters
    ----------
    checkpoint : Checkpoint
        Under either.
    plan : Plan
    source : str, optional
        Of a plan for a folded checkpoint, the fingerprint of the checkpoint before it was folded.

    Raises
    ------
    ValidationError
        If the plan was made for another checkpoint.
    """
    stored = checkpoint.stored
    named = named_as(stored, plan.choices)
    for found in (checkpoint, stored, named):
        if found.fingerprint == plan.fingerprint:
            return found
    if source is not None and source in (stored.fingerprint, named.fingerprint):
        return named
    raise ValidationError(
        f"{checkpoint.path}: the plan was made for another checkpoint. Give the one that it was made from"
        + (
            f"; this one is the component {checkpoint.component!r} of a folder."
            if checkpoint.component
            else "."
        ),
        path=checkpoint.path,
    )


def progress_of(
    plan: Plan,
    checkpoint: Checkpoint,
    callback: ProgressCallback | None,
    cancel: threading.Event | None,
) -> Progress:
    """Progress in weights that a plan quantizes."""
    wanted = {name for name, option in plan.choices.items() if not option.is_kept}
    progress = Progress(
        sum(layer.params for layer in checkpoint.layers if layer.name in wanted), callback, cancel
    )
    progress.message = "decoding the plan's weights"
    return progress


def layer_errors(
    checkpoint: Checkpoint,
    plan: Plan,
    records: CalibrationRecords | None = None,
    progress: Progress | None = None,
) -> Iterator[tuple[str, Tensor]]:
    """The same as `weight_errors`, one layer after the other."""
    layers = {layer.name: layer for layer in checkpoint.layers}
    for name, errors in decoded_weights(checkpoint, plan, records, progress):
        for rows, weights in read_blocks(checkpoint, name):
            errors[rows] -= weights.astype(np.float32)
        yield name, torch.from_numpy(errors).reshape(layers[name].shape)


def decoded_weights(
    checkpoint: Checkpoint,
    plan: Plan,
    records: CalibrationRecords | None = None,
    progress: Progress | None = None,
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Name and Ŵ, [rows, cols], of every layer that a plan quantizes, exactly as an export of it decodes.

    Raises
    ------
    ArgumentError
        If the plan names a calibration and it is not the one given.
    ValidationError
        If a weight is NaN or Inf.
    """
    encodings = Encodings.of_plan(plan, None if records is None else records_for(records, checkpoint))
    encoder = target_named(plan.target).encoder(checkpoint, encodings)
    for layer in checkpoint.layers:
        option = plan.choices.get(layer.name)
        if option is None or option.is_kept:
            continue
        decoded = np.empty((layer.rows, layer.cols), np.float32)
        for rows, weights in read_blocks(checkpoint, layer.name):
            decoded[rows] = encoder.encode(layer, option, weights, int(rows[0]), measured=False).decoded
            if progress is not None:
                progress.advance(weights.size)
                progress.pump()
        yield layer.name, decoded
    if progress is not None:
        progress.pump(finished=True)
