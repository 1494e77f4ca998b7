"""Capturing a diffusers pipeline in one call."""

from __future__ import annotations

import inspect
import os
import threading
from typing import Any

import torch
from torch import nn

from workbench.calibration import CalibrationRecords
from workbench.checkpoint import Checkpoint
from workbench.errors import ArgumentError
from workbench.live.capture.capture import capture
from workbench.live.model.clock import Clock, Read
from workbench.live.model.modules import unwrapped
from workbench.work import Progress, ProgressCallback

DENOISERS = ("transformer", "unet", "prior", "transformer_2")
"""What diffusers' pipelines call their denoiser."""


def capture_pipeline(
    pipe: Any,
    *,
    checkpoint: Checkpoint | str | os.PathLike[str],
    steps: int = 50,
    component: str | None = None,
    time: Read | Clock | str | None = None,
    seed: int = 0,
    check_weights: bool = True,
    callback: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
    **arguments: Any,
) -> CalibrationRecords:
    """Generate with a diffusers pipeline, and record what the layers of its denoiser are given.

    Parameters
    ----------
    pipe : diffusers.DiffusionPipeline
    checkpoint : Checkpoint or path-like
        What the pipeline, or its denoiser, was loaded from.
    steps : int
        Denoising steps.
    component : str, optional
        The part of the pipeline to watch; by default its denoiser: `transformer`, `unet` or `prior`.
    time : Clock, callable or str, optional
        As for `workbench.live.capture`.
    seed : int
        Of the noise.
    check_weights : bool
        As for `workbench.live.capture`.
    callback, cancel
        Hear of the progress; stop the work with a `CancelledError`.
    **arguments
        What else the pipeline is called with, such as a prompt, class labels or a batch size.

    Returns
    -------
    CalibrationRecords

    Raises
    ------
    ArgumentError
        If the pipeline has no such component, or does not take an argument.
    """
    module = getattr(pipe, component, None) if component else _denoiser(pipe)
    if not isinstance(module, nn.Module):
        raise ArgumentError(
            f"{type(pipe).__name__} has no {component or 'denoiser'}; its components are "
            f"{', '.join(getattr(pipe, 'components', {}))}. Name one: component=….",
            key="component",
            value=component,
        )
    given = {"num_inference_steps": steps, "generator": torch.Generator().manual_seed(seed), **arguments}
    taken = inspect.signature(pipe.__call__).parameters
    unknown = [name for name in given if name not in taken]
    if unknown and not any(one.kind is one.VAR_KEYWORD for one in taken.values()):
        raise ArgumentError(
            f"{type(pipe).__name__} takes no argument {unknown[0]!r}; it takes {', '.join(taken)}.",
            key=unknown[0],
        )
    progress = Progress(steps, callback, cancel)
    progress.message = "generating"
    done = 0

    def count(*_: Any) -> None:
        nonlocal done
        seen = min(rec.steps, steps)
        progress.advance(seen - done)
        done = seen
        progress.pump()

    rec = capture(module, checkpoint, time=time, component=component, check_weights=check_weights)
    with rec:
        handle = unwrapped(module).register_forward_hook(count)
        try:
            pipe(**given)
        finally:
            handle.remove()
    progress.pump(finished=True)
    return rec.records


def _denoiser(pipe: Any) -> Any:
    return next((found for name in DENOISERS if (found := getattr(pipe, name, None)) is not None), None)
