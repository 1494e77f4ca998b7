"""Importance: how much the output of a denoiser feels an error in each of its layers, step by step.

The *sensitivity* a_lb of a layer in a bucket of time is the relative error power of the output (as the probe measures
it) that white noise of unit variance on each of the layer's weights would cause during the calls of that bucket, to
first order: E[‖∂s/∂W_l‖²] over a probe's scalar s. Those of all buckets add up to the whole, so that an option with
the weight error ΔW costs about ‖ΔW‖²·Σ_b a_lb; `workbench.thermo.distortion` refines this by the moments of the input.
κ_lg of the design follows from it: κ = a·E‖Wx‖² / (ω·out·E‖x‖²).
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from workbench.calibration import CalibrationRecords
from workbench.checkpoint import Checkpoint
from workbench.errors import ConfigurationError, ValidationError
from workbench.live.clock import Clock, Read, clock_for
from workbench.live.gradients import OutputGradients, WeightGradients, checkpointed, frozen
from workbench.live.modules import match_modules
from workbench.live.probes import Probe, gaussian
from workbench.work import Progress, ProgressCallback

Run = Callable[[int], Tensor]
"""Generates with the model, differently for each number it is given, and gives the final output. For the whole
trajectory it must be differentiable: not under torch.no_grad."""

Span = Literal["trajectory", "step"]
Method = Literal["fisher", "white"]


def importance_by_gradients(
    module: nn.Module,
    run: Run,
    checkpoint: Checkpoint,
    records: CalibrationRecords,
    *,
    span: Span = "trajectory",
    method: Method = "fisher",
    probe: Probe = gaussian,
    runs: int = 8,
    coherent: bool = True,
    recompute: bool = False,
    time: Read | Clock | str | None = None,
    seed: int = 0,
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
    checkpoint : Checkpoint
        Names the layers.
    records : CalibrationRecords
        Say which buckets of time there are.
    span : str
        ``"trajectory"`` goes back through all the steps of a run, guidance and scheduler included. ``"step"`` goes
        through one call of the model at a time, replayed with the inputs it had in a run; it needs less memory, no
        differentiable loop, and misses what later steps do with an error.
    method : str
        ``"fisher"``: squared gradients of the weights, which know how errors at different positions, samples and
        steps add up. ``"white"``: squared gradients of the layers' outputs times the mean power of their inputs, as
        if errors at different positions were independent.
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
    callback, cancel
        Hear of the progress; stop the work with a `CancelledError`.

    Returns
    -------
    CalibrationRecords
        The same, with the sensitivities under the estimator's name, such as ``"fisher:trajectory"``.

    Raises
    ------
    ConfigurationError
        If `span`, `method` or `runs` are not allowed.
    ValidationError
        If the output of a run does not depend on the model in a differentiable way.
    """
    if span not in ("trajectory", "step") or method not in ("fisher", "white") or runs < 1:
        raise ConfigurationError(
            f"span={span!r}, method={method!r}, runs={runs}; allowed: trajectory or step, fisher or white, 1 or more.",
            key="span",
        )
    modules = {
        name: found for name, found in match_modules(module, checkpoint).items() if name in records.layers
    }
    buckets = len(records.buckets)
    whole = span == "trajectory"
    squares: WeightGradients | OutputGradients
    if method == "fisher":
        squares = WeightGradients(modules, buckets, coherent and whole)
    else:
        squares = OutputGradients(modules, buckets)
    now = _Hand(module, clock_for(module, checkpoint, time), records)
    objective = _trajectories(run, runs) if whole else _single_steps(module, run, runs)
    count = _go_back(
        module, objective, squares, now, probe, seed, recompute and whole, runs, callback, cancel
    )
    found = {}
    for name, sums in squares.by_call.items():
        values = np.array(sums) / count
        if isinstance(squares, WeightGradients) and squares.by_run[name] > 0:
            values *= squares.by_run[name] / sum(sums)
        found[name] = values
    return with_sensitivity(records, f"{method}:{span}", found)


def directional(
    module: nn.Module,
    run: Run,
    checkpoint: Checkpoint,
    records: CalibrationRecords,
    deltas: Mapping[tuple[str, Any], Tensor],
    *,
    span: Span = "trajectory",
    probe: Probe = gaussian,
    runs: int = 8,
    time: Read | Clock | str | None = None,
    seed: int = 0,
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
    """
    modules = {
        name: found for name, found in match_modules(module, checkpoint).items() if name in records.layers
    }
    squares = WeightGradients(modules, len(records.buckets), coherent=False, deltas=deltas)
    now = _Hand(module, clock_for(module, checkpoint, time), records)
    objective = _trajectories(run, runs) if span == "trajectory" else _single_steps(module, run, runs)
    count = _go_back(module, objective, squares, now, probe, seed, False, runs, None, None)
    return {key: value / count for key, value in squares.along.items()}


def importance_by_trial(
    module: nn.Module,
    run: Run,
    checkpoint: Checkpoint,
    records: CalibrationRecords,
    *,
    deltas: Mapping[str, Tensor] | None = None,
    level: float = 0.01,
    runs: int = 1,
    distance: Callable[[Tensor, Tensor], float] | None = None,
    seed: int = 0,
    callback: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
) -> CalibrationRecords:
    """Measure the sensitivity of every layer by changing one after another: no gradients, a run for each layer.

    It says nothing of time: what a layer's change does is shared out evenly over the calls.

    Parameters
    ----------
    module, run, checkpoint, records, callback, cancel
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
    """
    modules = {
        name: found for name, found in match_modules(module, checkpoint).items() if name in records.layers
    }
    if deltas is not None:
        modules = {name: found for name, found in modules.items() if name in deltas}
    apart = distance or _relative_error
    progress = Progress(runs * len(modules), callback, cancel)
    progress.message = "trying layers"
    totals = dict.fromkeys(modules, 0.0)
    with torch.no_grad():
        for number in range(runs):
            undisturbed = run(number)
            for place, (name, layer) in enumerate(modules.items()):
                chance = torch.Generator().manual_seed(seed + number * len(modules) + place)
                delta = deltas[name] if deltas is not None else _white_noise(layer.weight, level, chance)
                power = float(delta.float().square().mean())
                if power > 0:
                    with changed(layer, delta):
                        totals[name] += apart(run(number), undisturbed) / power / runs
                progress.advance(1)
                progress.pump()
    progress.pump(finished=True)
    estimator = "noise" if deltas is None else "measured"
    return with_sensitivity(
        records, estimator, {name: total * records.shares for name, total in totals.items()}
    )


def with_sensitivity(
    records: CalibrationRecords, estimator: str, found: Mapping[str, np.ndarray[Any, np.dtype[np.float64]]]
) -> CalibrationRecords:
    """The records with the sensitivities, [buckets], of some layers under an estimator's name.

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
        layers[name] = replace(known, sensitivity={**known.sensitivity, estimator: values})
    return replace(records, layers=layers)


class _Hand:
    """The hand of the clock: the bucket of the call under way."""

    def __init__(self, model: nn.Module, clock: Clock, records: CalibrationRecords) -> None:
        self._clock = clock
        self._model = model
        # Between two buckets there was no time; the border is put halfway.
        self._borders = (records.buckets[:-1, 1] + records.buckets[1:, 0]) / 2
        self._bucket = 0

    def __call__(self) -> int:
        return self._bucket

    @contextmanager
    def ticking(self) -> Iterator[None]:
        def tick(module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
            time = float(np.mean(self._clock.times(module, args, kwargs)))
            self._bucket = int(np.searchsorted(self._borders, time, side="right"))

        handle = self._model.register_forward_pre_hook(tick, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()


def _go_back(
    module: nn.Module,
    objective: Iterator[Tensor],
    squares: WeightGradients | OutputGradients,
    now: _Hand,
    probe: Probe,
    seed: int,
    recompute: bool,
    runs: int,
    callback: ProgressCallback | None,
    cancel: threading.Event | None,
) -> int:
    """Go back from a probe of each output; returns how many there were."""
    chance = torch.Generator().manual_seed(seed)
    progress = Progress(runs, callback, cancel)
    progress.message = "measuring importance"
    count = 0
    with (
        frozen(module),
        torch.enable_grad(),
        now.ticking(),
        squares.watching(module, now),
        checkpointed(module) if recompute else nullcontext(),
    ):
        for output in objective:
            if not output.requires_grad:
                raise ValidationError(
                    "The output of a run does not depend on the model in a way that can be differentiated. Run the "
                    "loop without torch.no_grad (of a diffusers pipeline: pipe.__call__.__wrapped__(pipe, …)), or use "
                    "span='step' or importance_by_noise."
                )
            probe(output, chance).backward()
            squares.end_run()
            count += 1
            progress.advance(0)
            progress.pump()
    progress.pump(finished=True)
    return count


def _trajectories(run: Run, runs: int) -> Iterator[Tensor]:
    for number in range(runs):
        yield run(number)


def _single_steps(module: nn.Module, run: Run, runs: int) -> Iterator[Tensor]:
    """The output of every call that some runs make, each computed again by itself."""
    for number in range(runs):
        calls: list[tuple[Any, Any]] = []

        def note(_: nn.Module, args: Any, kwargs: Any, calls: list[tuple[Any, Any]] = calls) -> None:
            calls.append((_detached(args), _detached(kwargs)))

        handle = module.register_forward_pre_hook(note, with_kwargs=True)
        try:
            with torch.no_grad():
                run(number)
        finally:
            handle.remove()
        for args, kwargs in calls:
            yield _tensor_of(module(*args, **kwargs))


def _detached(value: Any) -> Any:
    match value:
        case Tensor():
            return value.detach()
        case tuple() | list():
            return type(value)(map(_detached, value))
        case dict():
            return {key: _detached(item) for key, item in value.items()}
        case _:
            return value


def _tensor_of(output: Any) -> Tensor:
    """The tensor in what a model gives: itself, the first of a tuple, or the field that diffusers and transformers
    give it."""
    if isinstance(output, Tensor):
        return output
    for name in ("sample", "logits"):
        if isinstance(found := inspect.getattr_static(output, name, None), Tensor) or isinstance(
            found := getattr(output, name, None), Tensor
        ):
            return found
    if isinstance(output, tuple | list) and output and isinstance(output[0], Tensor):
        return output[0]
    raise ValidationError(
        f"The model gives a {type(output).__name__}, in which no tensor is known. Wrap it so that it gives one."
    )


def _relative_error(output: Tensor, undisturbed: Tensor) -> float:
    return float((output - undisturbed).float().square().sum() / undisturbed.float().square().sum())


def _white_noise(weight: Tensor, level: float, chance: torch.Generator) -> Tensor:
    noise = torch.randn(weight.shape, generator=chance).to(weight.device)
    return noise * (level * weight.detach().float().square().mean()).sqrt()


@contextmanager
def changed(layer: Any, delta: Tensor) -> Iterator[None]:
    """A layer with ΔW added to its weight, in the weight's dtype; afterwards it is as it was."""
    weight = layer.weight.data
    layer.weight.data = (weight.float() + delta.to(weight.device).reshape(weight.shape)).to(weight.dtype)
    try:
        yield
    finally:
        layer.weight.data = weight
