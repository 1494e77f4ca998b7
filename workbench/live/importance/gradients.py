"""Importance: how much the output of a denoiser feels an error in each of its layers, step by step.

The *sensitivity* a_lb of a layer in a bucket of time is the relative error power of the output (as the probe measures
it) that white noise of unit variance on each of the layer's weights would cause during the calls of that bucket, to
first order: E[‖∂s/∂W_l‖²] over a probe's scalar s. Those of all buckets add up to the whole, so that an option with
the weight error ΔW costs about ‖ΔW‖²·Σ_b a_lb; `workbench.thermo.options.damage_model` refines this by the moments
of the input.
κ_lg of the design follows from it: κ = a·E‖Wx‖² / (ω·out·E‖x‖²).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
from torch import Tensor, nn

from workbench.calibration import CalibrationRecords
from workbench.checkpoint import Checkpoint, opened
from workbench.live.importance.backward import Hand, Path, Sampler, go_back, single_steps, trajectories
from workbench.live.importance.probes import Probe, gaussian
from workbench.live.importance.sensitivity import (
    in_files,
    measured_layers,
    noting_calls,
    require,
    require_runs,
    warn_of_idle,
    with_sensitivity,
)
from workbench.live.importance.squared_gradients import OutputGradients, WeightGradients
from workbench.live.model.clock import Clock, Read, clock_for
from workbench.work import ProgressCallback

Span = Literal["trajectory", "step"]
Method = Literal["fisher", "white"]


def importance_by_gradients(
    module: nn.Module,
    run: Sampler,
    checkpoint: Checkpoint | str | os.PathLike[str],
    records: CalibrationRecords,
    *,
    span: Span = "trajectory",
    method: Method = "fisher",
    toward: Mapping[str, Tensor] | None = None,
    probe: Probe = gaussian,
    runs: int = 8,
    coherent: bool = True,
    recompute: bool = False,
    time: Read | Clock | str | None = None,
    seed: int = 0,
    component: str | None = None,
    check_weights: bool = True,
    callback: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
) -> CalibrationRecords:
    """Measure the sensitivity of every layer by going back through the model, all layers at once.

    Parameters
    ----------
    module : torch.nn.Module
        The denoiser.
    run : callable
        Generates with it: called with 0, 1, 2, …
    checkpoint : Checkpoint or path-like
        What it was loaded from; names the layers.
    records : CalibrationRecords
        Those of a capture; they say which buckets of time there are.
    span : str
        ``"trajectory"`` goes back through all the steps of a run, guidance and scheduler included. ``"step"`` goes
        through one call of the model at a time, replayed with the inputs it had in a run; it needs less memory, no
        differentiable loop, and misses what later steps do with an error.
    method : str
        ``"fisher"``: squared gradients of the weights, which know how errors at different positions, samples and
        steps add up. ``"white"``: squared gradients of the layers' outputs times the mean power of their inputs, as
        if errors at different positions were independent.
    toward : mapping of str to torch.Tensor, optional
        Changes of the layers' weights, such as `weight_errors` of a plan. The runs then stand at different places on
        the way from the model to the changed one, since ‖y(W+ΔW) − y(W)‖² = ‖∫J(W+u·ΔW)·ΔW du‖²
        ≤ ∫‖J(W+u·ΔW)·ΔW‖² du: small errors do not tell what large ones do, and all layers have theirs at once.
    probe : callable
        `gaussian`, or `categorical` for logits.
    runs : int
        How many, at least 1. The error of the estimate falls with the root of the runs times the batch.
    coherent : bool
        With ``"fisher"`` along a trajectory: count that a layer's error is the same in every step. Takes as much
        memory as the model in float32.
    recompute : bool
        Along a trajectory, keep only the inputs of each step and compute it again on the way back: the memory of one
        step instead of all, for a third more time.
    time : Clock, callable or str, optional
        As for `workbench.live.capture`.
    seed : int
        Of the probes.
    component : str, optional
        The component of a diffusers folder.
    check_weights : bool
        Make sure that the model has the checkpoint's weights.
    callback, cancel
        Hear of the progress; stop the work with a `CancelledError`.

    Returns
    -------
    CalibrationRecords
        The same, with the sensitivities under the estimator's name, such as ``"fisher:trajectory"``, or
        ``"fisher:trajectory:toward"``.

    Raises
    ------
    ArgumentError
        If `span`, `method` or `runs` are not allowed, or `time` is not that of the records.
    ValidationError
        If the output of a run does not depend on the model in a differentiable way, the model has other weights
        than the checkpoint, or weights that are computed or offloaded.

    Warns
    -----
    MissingLayersWarning
        If layers that have a record are not in the model, or did not run.
    """
    require("span", span, get_args(Span))
    require("method", method, get_args(Method))
    require_runs(runs)
    with opened(checkpoint, component) as found_checkpoint:
        match = measured_layers(module, found_checkpoint, records, check_weights=check_weights)
        clock = clock_for(match.root, found_checkpoint, time)
        toward = in_files(found_checkpoint, toward) if toward else None
    module, modules = match.root, match.modules
    buckets = len(records.buckets)
    whole = span == "trajectory"
    squares: WeightGradients | OutputGradients
    if method == "fisher":
        squares = WeightGradients(modules, buckets, coherent and whole)
    else:
        squares = OutputGradients(modules, buckets)
    now = Hand(module, clock, records)
    path = Path(modules, toward)
    objective = trajectories(run, runs, path) if whole else single_steps(module, run, runs, path)
    with noting_calls(modules) as called:
        count = go_back(
            module, objective, squares, now, probe, seed, recompute and whole, runs, callback, cancel
        )
    # A weight may be used without a call of its module, as an embedding's is by a head that shares it.
    idle = [name for name, sums in squares.by_call.items() if name not in called and not any(sums)]
    warn_of_idle(idle, len(modules))
    found = {}
    for name, sums in squares.by_call.items():
        if name in idle:
            continue
        values = np.array(sums) / count
        if isinstance(squares, WeightGradients) and squares.by_run[name] > 0:
            values *= squares.by_run[name] / sum(sums)
        found[name] = values
    return with_sensitivity(records, f"{method}:{span}{':toward' if toward else ''}", found)


def directional(
    module: nn.Module,
    run: Sampler,
    checkpoint: Checkpoint | str | os.PathLike[str],
    records: CalibrationRecords,
    deltas: Mapping[tuple[str, Any], Tensor],
    *,
    span: Span = "trajectory",
    probe: Probe = gaussian,
    runs: int = 8,
    time: Read | Clock | str | None = None,
    seed: int = 0,
    component: str | None = None,
    check_weights: bool = True,
    callback: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
) -> dict[tuple[str, Any], float]:
    """The error power of the output for given changes of weights, to first order: E[⟨∂s/∂W, ΔW⟩²].

    It knows the very direction of each change, and is the noisier for it: with n probes its relative standard error
    is √(2/n).

    Parameters
    ----------
    deltas : mapping of (layer, key) to torch.Tensor
        ΔW, in the shape of the weight; the keys are the caller's.

    Returns
    -------
    dict of (layer, key) to float

    Raises
    ------
    ArgumentError
        If `span` or `runs` are not allowed, or `time` is not that of the records.
    ValidationError
        If a layer has no record, or the output of a run does not depend on the model in a differentiable way.
    """
    require("span", span, get_args(Span))
    require_runs(runs)
    with opened(checkpoint, component) as found_checkpoint:
        # A fused layer is several of the model's: their shares in a change belong together.
        parts = {
            (part, asked): change
            for asked, delta in deltas.items()
            for part, change in in_files(found_checkpoint, {asked[0]: delta}).items()
        }
        names = {name for name, _ in parts}
        match = measured_layers(module, found_checkpoint, records, names, check_weights)
        clock = clock_for(match.root, found_checkpoint, time)
    module, modules = match.root, match.modules
    squares = WeightGradients(modules, len(records.buckets), coherent=False, deltas=parts)
    now = Hand(module, clock, records)
    path = Path(modules, None)
    objective = (
        trajectories(run, runs, path) if span == "trajectory" else single_steps(module, run, runs, path)
    )
    count = go_back(module, objective, squares, now, probe, seed, False, runs, callback, cancel)
    return {key: value / count for key, value in squares.along.items()}
