"""Capturing what the layers of a running model are given, step by step."""

from __future__ import annotations

import math
import os
import time as stopwatch
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from workbench.calibration import CalibrationRecords, TimeAxis
from workbench.calibration.axis import Interval
from workbench.calibration.layer_record import MAX_BUCKETS, MAX_STEPS
from workbench.calibration.tally import CallSummary, LayerTally
from workbench.checkpoint import Checkpoint, opened
from workbench.errors import ArgumentError, ValidationError
from workbench.live.capture.observer import Observer
from workbench.live.model.clock import Clock, Read, clock_for
from workbench.live.model.eager import run_uncompiled
from workbench.live.model.missing_layers import warn_of
from workbench.live.model.modules import WEIGHT, Match, channels_of, kind_of, match_layers
from workbench.live.model.weight_check import check_same_weights
from workbench.live.model.weights import value_of


def capture(
    module: nn.Module,
    checkpoint: Checkpoint | str | os.PathLike[str],
    *,
    time: Read | Clock | str | None = None,
    component: str | None = None,
    buckets: int = MAX_BUCKETS,
    check_weights: bool = True,
) -> Capture:
    """Watch the layers of a model while it generates.

    Parameters
    ----------
    module : torch.nn.Module
        The denoiser that an inference loop calls. Compiled code is not used while it is watched, for it does not run
        the hooks; wrappers of torch.compile, DataParallel, PEFT and accelerate's offloading are looked through.
    checkpoint : Checkpoint or path-like
        The checkpoint it was loaded from, whose layers are watched; ``"zoo:digits-dit"`` for one of the zoo. Under
        whatever names it is, the records are by the names in its files, and fit it under both.
    time : Clock, callable or str, optional
        Where a call's time comes from, see `clock_for`; found by itself for diffusers' models and for
        masked-diffusion language models.
    component : str, optional
        The component of a diffusers folder.
    buckets : int
        Intervals of time for which the moments of channels are kept, 1 to 64; more take more memory, see
        `Capture.planned_bytes`.
    check_weights : bool
        Make sure that the model has the checkpoint's weights, by a few rows of each layer. False for a finetune.

    Returns
    -------
    Capture
        To be used in a ``with`` statement around any inference loop.

    Raises
    ------
    ValidationError
        If the model has none of the checkpoint's layers, or other weights.
    ArgumentError
        If its time is not found, or there are too few or many buckets.

    Warns
    -----
    MissingLayersWarning
        At the end of the ``with`` statement, if some layers of the checkpoint have no record; `Capture.missing` and
        `CalibrationRecords.missing` list them.

    Examples
    --------
    >>> with wb.live.capture(pipe.transformer, checkpoint="path/to/model") as rec:  # doctest: +SKIP
    ...     pipe("a cat", num_inference_steps=50)
    >>> rec.records.save("calibration.parquet")  # doctest: +SKIP
    """
    if not 1 <= buckets <= MAX_BUCKETS:
        raise ArgumentError(
            f"buckets is {buckets}; allowed: 1 to {MAX_BUCKETS}.", key="buckets", value=buckets
        )
    with opened(checkpoint, component) as found:
        match = match_layers(module, found)
        unchecked = check_same_weights(match.modules, found.stored) if check_weights else tuple(match.modules)
        return Capture(match, found.stored, clock_for(match.root, found, time), buckets, unchecked)


class Capture:
    """A model being watched. Made by `capture`.

    Attributes
    ----------
    unmatched : tuple of str
        Layers of the checkpoint that the model has no module for.
    unchecked : tuple of str
        Layers whose weights were not compared with the checkpoint's.
    planned_bytes : int
        Most memory that the moments will take.
    """

    def __init__(
        self, match: Match, checkpoint: Checkpoint, clock: Clock, buckets: int, unchecked: tuple[str, ...]
    ) -> None:
        self._model = match.root
        self._clock = clock
        self._fingerprint = checkpoint.fingerprint
        self._modules = match.modules
        self._not_in_model = match.missing
        self._biases = _biases(match.modules, checkpoint)
        self._end_uncompiled: Callable[[], None] | None = None
        self._tallies = {
            name: LayerTally(kind_of(found) or "linear", channels_of(found))
            for name, found in self._modules.items()
        }
        self._steps = TimeAxis(MAX_STEPS, partial(self._joined, LayerTally.join_steps))
        self._buckets = TimeAxis(buckets, partial(self._joined, LayerTally.join_buckets))
        self._observer = Observer()
        self._now: list[tuple[Interval, Interval, Tensor | None]] = []
        self._samples = 1
        self._handles: list[Any] = []
        self._entered = 0.0
        self._inside = 0.0
        self._outside = Counter[str]()
        self.seconds = 0.0
        self.unmatched = tuple(match.missing)
        self.unchecked = unchecked
        self.planned_bytes = sum(
            LayerTally.nbytes(tally.channels, buckets) for tally in self._tallies.values()
        )

    def __enter__(self) -> Self:
        self._end_uncompiled = run_uncompiled()
        self._handles = [
            self._model.register_forward_pre_hook(self._begin, with_kwargs=True),
            self._model.register_forward_hook(self._end, always_call=True),
        ]
        for name, module in self._modules.items():
            hook = partial(self._see, name)
            self._handles.append(module.register_forward_hook(hook, with_kwargs=True))
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._observer.forget()
        if self._end_uncompiled is not None:
            self._end_uncompiled()
            self._end_uncompiled = None
        missing = self.missing
        if missing and self._seen and not any(error):
            total = len(self._modules) + len(self.unmatched)
            warn_of(
                missing,
                f"No record of {len(missing)} of {total} layers, which will be judged by their weights alone",
            )

    @property
    def missing(self) -> dict[str, str]:
        """Layers of the checkpoint that have no record so far, and why."""
        seen = self._seen
        not_called = {
            name: "called only outside the model's own calls" if self._outside[name] else "never called"
            for name in self._tallies
            if name not in seen
        }
        return {**self._not_in_model, **not_called}

    @property
    def _seen(self) -> dict[str, LayerTally]:
        return {name: tally for name, tally in self._tallies.items() if tally.buckets}

    @property
    def steps(self) -> int:
        """Different times at which the model was called so far."""
        return len(self._steps.intervals)

    @property
    def overhead(self) -> float:
        """Time spent watching over the time of the model's own calls; NaN before the first."""
        own = self.seconds - self._inside
        return self._inside / own if own > 0 else float("nan")

    @property
    def records(self) -> CalibrationRecords:
        """What was seen so far.

        Raises
        ------
        ValidationError
            If the model was not called, or none of its layers was.
        """
        seen = self._seen
        if not seen:
            raise ValidationError(
                f"Nothing was captured: {type(self._model).__name__} was not called, or none of its "
                f"{len(self._tallies)} layers was. Run the inference loop inside the with statement."
            )
        steps, buckets = self._steps.intervals, self._buckets.intervals
        return CalibrationRecords(
            fingerprint=self._fingerprint,
            time=self._clock.name,
            steps=np.array([[step.low, step.high] for step in steps]),
            step_calls=np.array([step.calls for step in steps]),
            buckets=np.array([[bucket.low, bucket.high] for bucket in buckets]),
            bucket_calls=np.array([bucket.calls for bucket in buckets]),
            layers={name: tally.record(steps, buckets) for name, tally in seen.items()},
            made_by={
                "model": type(self._model).__name__,
                "torch": torch.__version__,
                "calls": float(sum(bucket.calls for bucket in buckets)),
                "not_in_model": list(self.unmatched),
                "not_called": [name for name in self._tallies if name not in seen],
                "called_outside": dict(self._outside),
                "missing": self.missing,
            },
        )

    def _begin(self, module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self._entered = stopwatch.perf_counter()
        times = self._clock.times(module, args, kwargs)
        self._samples = len(times)
        part = {value: times.count(value) / len(times) for value in dict.fromkeys(times)}
        for value, calls in part.items():
            self._steps.place(value, calls=calls)
            self._buckets.place(value, calls=calls)
        # Only now, when no further time of this call can join two intervals.
        everywhere = torch.tensor(times, dtype=torch.float64)
        self._now = [
            (
                self._steps.place(value),
                self._buckets.place(value),
                None if len(part) == 1 else torch.nonzero(everywhere == value)[:, 0],
            )
            for value in part
        ]
        self._inside += stopwatch.perf_counter() - self._entered

    def _end(self, module: nn.Module, args: Any, output: Any) -> None:
        self._now = []
        self._observer.forget()
        self.seconds += stopwatch.perf_counter() - self._entered

    def _see(
        self, name: str, module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], output: Tensor
    ) -> None:
        if not self._now:  # a layer called by itself, at no known time
            self._outside[name] += 1
            return
        started = stopwatch.perf_counter()
        tally = self._tallies[name]
        given = args[0] if args else kwargs["input"]
        if not given.numel():
            return
        parts = [part for _, _, part in self._now]
        try:
            summaries = self._observer.summarise(
                module, tally.kind, given, output, self._bias(name, module), parts, self._samples
            )
        except ValueError as error:
            raise ValidationError(
                f"The samples of this call have different times, and {name!r} mixes them: {error}. Capture calls whose "
                "samples share a time.",
                tensor=name,
            ) from error
        for (step, bucket, _), summary in zip(self._now, summaries, strict=True):
            _require_finite(name, summary)
            tally.add(step, bucket, summary)
        self._inside += stopwatch.perf_counter() - started

    def _bias(self, name: str, module: nn.Module) -> Tensor | None:
        held: Any = getattr(module, "bias", None)
        if not isinstance(held, Tensor):
            return None
        return self._biases.get(name) if held.is_meta else held

    def _joined(
        self, join: Callable[[LayerTally, Interval, Interval], None], stays: Interval, gone: Interval
    ) -> None:
        for tally in self._tallies.values():
            join(tally, stays, gone)

    def __repr__(self) -> str:
        calls = sum(bucket.calls for bucket in self._buckets.intervals)
        return (
            f"<Capture of {len(self._tallies)} layers: {calls:g} calls, at most {self.planned_bytes / 1e6:,.0f} MB, "
            f"overhead {self.overhead:.0%}>"
        )


def _biases(modules: Mapping[str, nn.Module], checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The biases that an offloaded model does not hold between calls: where it keeps them, or the checkpoint's."""
    biases = {}
    for name, module in modules.items():
        held: Any = getattr(module, "bias", None)
        if not isinstance(held, Tensor) or not held.is_meta:
            continue
        found = value_of(module, "bias")
        stored = name.removesuffix(WEIGHT) + ".bias"
        if found is None and stored not in checkpoint.tensors:
            raise ValidationError(
                f"The bias of {name!r} is on the meta device, and the checkpoint has none. Capture the model before it "
                "is offloaded.",
                tensor=name,
            )
        if found is None:
            found = torch.from_numpy(
                checkpoint.read_rows(stored, 0, held.shape[0]).reshape(-1).astype(np.float32)
            )
        biases[name] = found
    return biases


def _require_finite(name: str, summary: CallSummary) -> None:
    given = math.isfinite(summary.overall[1])  # Σx² tells of all x
    if not (given and math.isfinite(summary.energy)):
        raise ValidationError(
            f"The {'output' if given else 'input'} of {name!r} has a value that is NaN or Inf. Look for the step that "
            "overflows; float16 often does where bfloat16 does not.",
            tensor=name,
        )
