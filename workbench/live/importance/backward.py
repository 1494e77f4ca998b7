"""Going back through a model from probes of what it gave, run by run or call by call."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from workbench.calibration import CalibrationRecords
from workbench.errors import ArgumentError, ValidationError
from workbench.live.importance.probes import Probe
from workbench.live.importance.squared_gradients import OutputGradients, WeightGradients, checkpointed, frozen
from workbench.live.model.clock import Clock
from workbench.live.model.eager import uncompiled
from workbench.live.model.weights import require_weights
from workbench.work import Progress, ProgressCallback

Sampler = Callable[[int], Tensor]
"""Generates with the model, differently for each number it is given, and gives the final output. For the whole
trajectory it must be differentiable: not under torch.no_grad."""

PARTS = 1000
"""Parts of a run in which progress is counted."""


class Hand:
    """The hand of the clock: the bucket of the call under way.

    Raises
    ------
    ArgumentError
        If the records were made by another clock.
    """

    def __init__(self, model: nn.Module, clock: Clock, records: CalibrationRecords) -> None:
        if clock.name != records.time:
            raise ArgumentError(
                f"The calibration measures time as {records.time!r}, this clock as {clock.name!r}. Give the same "
                "time= as to the capture.",
                key="time",
                value=clock.name,
            )
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


def go_back(
    module: nn.Module,
    objective: Iterator[tuple[Tensor, float]],
    squares: WeightGradients | OutputGradients,
    now: Hand,
    probe: Probe,
    seed: int,
    recompute: bool,
    runs: int,
    callback: ProgressCallback | None,
    cancel: threading.Event | None,
) -> int:
    """Go back from a probe of each output; returns how many there were."""
    chance = torch.Generator().manual_seed(seed)
    progress = Progress(PARTS * runs, callback, cancel)
    progress.message = "measuring importance"
    count = 0
    with (
        uncompiled(),
        frozen(module),
        torch.enable_grad(),
        now.ticking(),
        squares.watching(module, now),
        checkpointed(module) if recompute else nullcontext(),
    ):
        for output, share in objective:
            if not output.requires_grad:
                raise ValidationError(
                    "The output of a run does not depend on the model in a way that can be differentiated. Run the "
                    "loop without torch.no_grad (of a diffusers pipeline: pipe.__call__.__wrapped__(pipe, …)), or use "
                    "span='step' or importance_by_trial."
                )
            probe(output, chance).backward()
            squares.end_run()
            count += 1
            progress.advance(round(PARTS * share))
            progress.pump()
    progress.pump(finished=True)
    return count


class Path:
    """The way from a model's weights to changed ones, on which runs stand at different places.

    Parameters
    ----------
    modules : mapping of str to torch.nn.Module
    deltas : mapping of str to torch.Tensor, optional
        The changes of their weights at the end of the way; without any, all runs stand at its beginning.
    """

    def __init__(self, modules: Mapping[str, nn.Module], deltas: Mapping[str, Tensor] | None) -> None:
        wanted = {name: modules[name] for name in deltas or {} if name in modules}
        slots = require_weights(wanted, "changed")
        self._changes = [(slot, (deltas or {})[name]) for name, slot in slots.items()]

    @contextmanager
    def at(self, fraction: float) -> Iterator[None]:
        """Put the weights at a fraction of the way; afterwards they are as they were."""
        with ExitStack() as undo:
            for slot, delta in self._changes:
                data = slot.read()
                moved = data.float() + fraction * delta.to(data.device).reshape(data.shape)
                undo.callback(slot.replace(moved))
            yield

    def spread(self, runs: int) -> Iterator[tuple[int, AbstractContextManager[None]]]:
        """Some runs and the places where they stand, evenly along the way."""
        for number in range(runs):
            yield number, self.at((number + 0.5) / runs)


def trajectories(run: Sampler, runs: int, path: Path) -> Iterator[tuple[Tensor, float]]:
    """The output of some runs, and how much of a run each is."""
    for number, place in path.spread(runs):
        with place:  # until the way back has been gone
            yield run(number), 1.0


def single_steps(module: nn.Module, run: Sampler, runs: int, path: Path) -> Iterator[tuple[Tensor, float]]:
    """The output of every call that some runs make, each computed again by itself, and its part of a run."""
    for number, place in path.spread(runs):
        calls: list[tuple[Any, Any]] = []

        def note(_: nn.Module, args: Any, kwargs: Any, calls: list[tuple[Any, Any]] = calls) -> None:
            with torch.inference_mode(
                False
            ):  # copies that can be differentiated, and that the loop cannot change
                calls.append((_copied(args), _copied(kwargs)))

        with place:
            handle = module.register_forward_pre_hook(note, with_kwargs=True)
            try:
                with torch.no_grad():
                    run(number)
            finally:
                handle.remove()
            for args, kwargs in calls:
                yield _tensor_of(module(*args, **kwargs)), 1 / len(calls)


def _copied(value: Any) -> Any:
    match value:
        case Tensor():
            return value.detach().clone()
        case tuple() | list():
            return type(value)(map(_copied, value))
        case dict():
            return {key: _copied(item) for key, item in value.items()}
        case _:
            return value


def _tensor_of(output: Any) -> Tensor:
    """The tensor in what a model gives.

    It is that itself, the first of a tuple, or the field that diffusers and transformers give it.
    """
    if isinstance(output, Tensor):
        return output
    for name in ("sample", "logits"):
        if isinstance(found := getattr(output, name, None), Tensor):
            return found
    if isinstance(output, tuple | list) and output and isinstance(output[0], Tensor):
        return output[0]
    raise ValidationError(
        f"The model gives a {type(output).__name__}, in which no tensor is known. Wrap it so that it gives one."
    )
