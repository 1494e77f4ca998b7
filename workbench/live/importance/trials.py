"""Importance by trial: what the output becomes when one layer after another is changed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from workbench.calibration import CalibrationRecords
from workbench.checkpoint import Checkpoint, opened
from workbench.errors import ArgumentError
from workbench.live.importance.backward import Sampler
from workbench.live.importance.sensitivity import (
    in_files,
    measured_layers,
    noting_calls,
    require_runs,
    warn_of_idle,
    with_sensitivity,
)
from workbench.live.model.eager import uncompiled
from workbench.live.model.weights import Slot, refuse_copies, require_weights
from workbench.work import Progress, ProgressCallback


def importance_by_trial(
    module: nn.Module,
    run: Sampler,
    checkpoint: Checkpoint | str | os.PathLike[str],
    records: CalibrationRecords,
    *,
    deltas: Mapping[str, Tensor] | None = None,
    level: float = 0.01,
    runs: int = 1,
    distance: Callable[[Tensor, Tensor], float] | None = None,
    seed: int = 0,
    component: str | None = None,
    check_weights: bool = True,
    callback: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
) -> CalibrationRecords:
    """Measure the sensitivity of every layer by changing one after another: no gradients, a run for each layer.

    It says nothing of time: what a layer's change does is shared out evenly over the calls in which it ran.

    Parameters
    ----------
    module, run, checkpoint, records, component, check_weights, callback, cancel
        As for `importance_by_gradients`; `run` need not be differentiable, but must be deterministic.
    deltas : mapping of str to torch.Tensor, optional
        The change of each layer's weights, such as what quantizing does to them; by default white noise.
    level : float
        Energy of the noise over that of the layer's weights.
    runs : int
        Runs a layer, each with noise of its own.
    distance : callable, optional
        Error power of an output beside the undisturbed one, by default ‖Δy‖² / ‖y‖².
    seed : int
        Of the noise.

    Returns
    -------
    CalibrationRecords
        The same, with the sensitivities as ``"noise"``, or ``"measured"`` where changes were given.

    Raises
    ------
    ArgumentError
        If `runs` or `level` are not allowed.
    ValidationError
        If a layer that is to change has no record.

    Warns
    -----
    MissingLayersWarning
        If layers that have a record are not in the model, or did not run.
    """
    require_runs(runs)
    if not level > 0:
        raise ArgumentError(f"level is {level}; allowed: above 0.", key="level", value=level)
    with opened(checkpoint, component) as found_checkpoint:
        deltas = None if deltas is None else in_files(found_checkpoint, deltas)
        match = measured_layers(module, found_checkpoint, records, deltas, check_weights)
    modules = match.modules
    refuse_copies(match.root)
    slots = require_weights(modules, "changed")
    apart = distance or relative_error
    progress = Progress(runs * len(modules), callback, cancel)
    progress.message = "trying layers"
    totals = dict.fromkeys(modules, 0.0)
    with torch.no_grad(), uncompiled(), noting_calls(modules) as called:
        for number in range(runs):
            undisturbed = run(number)
            for place, (name, slot) in enumerate(slots.items()):
                chance = torch.Generator().manual_seed(seed + number * len(modules) + place)
                delta = deltas[name] if deltas is not None else _white_noise(slot.read(), level, chance)
                power = float(delta.float().square().mean())
                if power > 0:
                    with changed(slot, delta):
                        totals[name] += apart(run(number), undisturbed) / power / runs
                progress.advance(1)
                progress.pump()
    progress.pump(finished=True)
    estimator = "noise" if deltas is None else "measured"
    # A weight may be used without a call of its module, as an embedding's is by a head that shares it.
    idle = [name for name, total in totals.items() if name not in called and total == 0]
    warn_of_idle(idle, len(modules))
    found = {}
    for name, total in totals.items():
        if name in idle:
            continue
        shares = np.where(records.layers[name].count > 0, records.shares, 0.0)
        found[name] = total * shares / shares.sum()
    return with_sensitivity(records, estimator, found)


def relative_error(output: Tensor, undisturbed: Tensor) -> float:
    """‖Δy‖² / ‖y‖²."""
    return float((output - undisturbed).float().square().sum() / undisturbed.float().square().sum())


def _white_noise(weight: Tensor, level: float, chance: torch.Generator) -> Tensor:
    noise = torch.randn(weight.shape, generator=chance).to(weight.device)
    return noise * (level * weight.detach().float().square().mean()).sqrt()


@contextmanager
def changed(slot: Slot, delta: Tensor) -> Iterator[None]:
    """A layer with ΔW added to its weight, in the weight's dtype; afterwards it is as it was."""
    weight = slot.read()
    undo = slot.replace(weight.float() + delta.to(weight.device).reshape(weight.shape))
    try:
        yield
    finally:
        undo()
