"""The engine's entry: `DiffusionOrchestrator`."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

from workbench.calibration import TimeAwareQuantizer, records_for
from workbench.checkpoint import Checkpoint, named_as, open_checkpoint
from workbench.config import DiffusionQuantConfig
from workbench.engine.export import RECORD
from workbench.engine.finished import finished_report
from workbench.engine.mixed_precision import pricing_of, solve_plan
from workbench.engine.notes import note_on_solved, note_on_unrecorded, notes_on_plan
from workbench.engine.output_folder import require_readable, write_errors_explained
from workbench.engine.partial import Journal, PartialOutput, export_folder, refuse_existing
from workbench.engine.report import Report
from workbench.engine.run import Run
from workbench.engine.spatial import balance_channels
from workbench.errors import ConfigurationError, ValidationError
from workbench.formats import (
    check_target,
    exported,
    named,
    plan_for,
    require_storable,
    settings_of,
    target_named,
)
from workbench.formats.loading import best_target
from workbench.plan import Plan
from workbench.quantize import Encodings
from workbench.work import Progress, ProgressCallback, disk_workers

WORKER_BYTES = 96 * 10**6
"""Anonymous memory that a worker needs at most for a block and its encoding."""

BASE_BYTES = 200 * 10**6
"""Anonymous memory of the process without workers: the interpreter and its libraries."""

SPATIAL = 0.2
"""Fraction of a run that the balancing of channels counts for, where there is any."""

DEFAULT_LIMIT = 10**9
"""Bound of the memory where the configuration names none."""


class DiffusionOrchestrator:
    """Quantizes checkpoints: the one engine behind the command line, the facade and the panel.

    Parameters
    ----------
    config : DiffusionQuantConfig, optional
        Settings; the defaults where left out.
    executor : concurrent.futures.Executor, optional
        Runs the work; by default threads of its own, as many as the configuration says.
    """

    def __init__(
        self, config: DiffusionQuantConfig | None = None, *, executor: Executor | None = None
    ) -> None:
        self.config = config or DiffusionQuantConfig()
        self._executor = executor

    def run(
        self,
        model_path: str | os.PathLike[str],
        output_path: str | os.PathLike[str],
        *,
        plan: Plan | None = None,
        time_aware: TimeAwareQuantizer | None = None,
        component: str | None = None,
        resume: bool = False,
        callback: ProgressCallback | None = None,
        cancel: threading.Event | None = None,
        notes: Sequence[str] = (),
    ) -> Report:
        """Quantize a checkpoint into a new folder, and measure what was written.

        Parameters
        ----------
        model_path : path-like
            A checkpoint, as `workbench.checkpoint.open_checkpoint` takes it.
        output_path : path-like
            A folder that does not exist; it appears when all is done.
        plan : Plan, optional
            Executed as it is; where the configuration's target is ``safetensors`` and the plan's another, by writing
            what its export would decode to. Without one the configuration decides: the solver where it says
            ``enable_mixed_precision``, else its widths, with fallback.
        time_aware : TimeAwareQuantizer, optional
            Gives the export its activation tables, and the records that weigh a plan's codes; by default that of the
            configuration's calibration.
        component : str, optional
            The component of a diffusers folder; its denoiser by default.
        resume : bool
            Go on with what a killed run of the same inputs left; keep what this one leaves if it fails. Where it had
            finished, nothing is done, and its report returned.
        callback : callable, optional
            Hears of the fraction done and a message, in this thread; of 1.0 just before the folder appears. An
            exception in it ends the run.
        cancel : threading.Event, optional
            Set it to end the run with a `CancelledError`.
        notes : sequence of str
            Sentences for the report, before the engine's own.

        Returns
        -------
        Report

        Raises
        ------
        ArrowQuantError
            Whatever is wrong with the input, the configuration or the disk; nothing is left half-written.
        """
        started = time.monotonic()
        check_target(self.config)
        output = export_folder(output_path).absolute()
        is_finished = resume and (output / RECORD).is_file()
        if not is_finished:
            refuse_existing(output)
        with (
            open_checkpoint(os.fspath(model_path), component) as opened,
            self._workers() as (executor, in_flight),
        ):
            name = self.config.target or (plan.target if plan else best_target(opened))
            scheme = self.config.scheme or target_named(name).scheme
            config = self.config.model_copy(update={"target": name, "scheme": scheme})
            checkpoint, spatial = opened, None
            if plan is not None:
                checkpoint = named_as(opened, plan.choices)
                check_fit(plan, checkpoint)
                is_calibrated = config.calibration is not None or time_aware is not None
                notes = (*notes, *notes_on_plan(config, plan, is_calibrated))
                plan = plan_for(name, plan, checkpoint.layers)
            target = target_named(plan.target if plan else name, settings_of(config))
            opened, checkpoint = exported(opened, target.name), exported(checkpoint, target.name)
            to_write = checkpoint if plan else named(opened, config.names, target.name)[0]
            require_storable(to_write, target)
            require_readable(opened)
            if is_finished:
                return finished_report(output, config, plan, opened, to_write)
            if plan is None and config.enable_spatial and config.calibration is not None:
                spatial = balance_channels(
                    config,
                    opened,
                    target,
                    executor=executor,
                    callback=_part(callback, 0.0, SPATIAL),
                    cancel=cancel,
                )
                callback = _part(callback, SPATIAL, 1.0)
                notes = (*notes, f"enable_spatial: {spatial.summary}.", *spatial.remarks)
                spatial = spatial if spatial.checkpoint.folds else None
            if spatial is not None:
                checkpoint = spatial.checkpoint
            if plan is None:
                checkpoint, named_so = named(checkpoint, config.names, target.name)
                notes = (*notes, *named_so)
            pricing = pricing_of(config, checkpoint, spatial.records if spatial else None)
            if pricing is not None:
                time_aware = time_aware or pricing.time_aware
                notes = (*notes, *filter(None, [pricing.time_aware.groups.note]))
            if time_aware is not None:
                time_aware = replace(time_aware, records=records_for(time_aware.records, checkpoint))
            records = None if time_aware is None else time_aware.records
            notes = (*notes, *note_on_unrecorded(records, checkpoint.layers))
            encodings = (
                Encodings(config.effort or target.effort, records)
                if plan is None
                else Encodings.of_plan(plan, records)
            )
            layers = sum(checkpoint.tensors[layer.name].nbytes for layer in checkpoint.layers)
            is_solved = plan is None and config.enable_mixed_precision
            work = (2 if is_solved else 1) * layers + 2 * checkpoint.nbytes
            progress = Progress(work, callback, cancel)
            if is_solved:
                plan = solve_plan(
                    config, checkpoint, target, pricing, encodings,
                    executor=executor, callback=progress.follow(layers), cancel=cancel,
                )  # fmt: skip
                notes = (*notes, note_on_solved(plan))
            with (
                write_errors_explained(output, progress),
                PartialOutput(output, resume) as place,
            ):
                run = Run(
                    config, checkpoint, target, place.folder, executor, in_flight, progress, encodings,
                    time_aware, spatial,
                )  # fmt: skip
                report = run.export(Journal(place.folder, output), plan, started, notes)
                progress.pump(finished=True)
                place.commit()
        return report

    @contextmanager
    def _workers(self) -> Iterator[tuple[Executor, int]]:
        threads = self.config.num_threads or disk_workers()
        limit = DEFAULT_LIMIT
        if self.config.max_memory_limit_mb is not None:
            limit = int(self.config.max_memory_limit_mb * 1e6)
        affordable = (limit - BASE_BYTES) // WORKER_BYTES
        if affordable < 1:
            floor = (BASE_BYTES + WORKER_BYTES) / 1e6
            raise ConfigurationError(
                f"max_memory_limit_mb is {limit / 1e6:g}; one worker needs {floor:g} MB in all.",
                key="max_memory_limit_mb",
                value=self.config.max_memory_limit_mb,
                allowed=f"at least {floor:g}",
            )
        in_flight = min(threads, affordable)
        if self._executor is not None:
            yield self._executor, in_flight
            return
        with ThreadPoolExecutor(in_flight, thread_name_prefix="workbench") as executor:
            yield executor, in_flight


def check_fit(plan: Plan, checkpoint: Checkpoint) -> None:
    """Make sure that a plan is for a checkpoint: the same layers, each with a legal option.

    Raises
    ------
    ValidationError
        If it was made for another checkpoint, or a layer is missing, unknown or has an option that the target
        does not offer.
    """
    layers = {layer.name: layer for layer in checkpoint.layers if layer.params}
    for name in sorted(set(layers) ^ set(plan.choices)):
        what = "the plan lacks the layer" if name in layers else "the checkpoint lacks the plan's layer"
        raise ValidationError(
            f"{checkpoint.path}: {what} {name!r}. Make a plan for this checkpoint.",
            path=checkpoint.path,
            tensor=name,
        )
    if plan.fingerprint != checkpoint.fingerprint:
        raise ValidationError(
            f"{checkpoint.path}: the plan was made for a checkpoint with other contents (fingerprint "
            f"{plan.fingerprint[:12]}…, this one has {checkpoint.fingerprint[:12]}…). Make it again.",
            path=checkpoint.path,
        )
    target = target_named(plan.target)
    for name, option in plan.choices.items():
        if not target.stores(layers[name], option):
            raise ValidationError(
                f"The plan's option for {name!r}, {option}, is not one that {plan.target} offers for it. Make the plan "
                "again.",
                tensor=name,
                option=option,
            )


def _part(callback: ProgressCallback | None, start: float, stop: float) -> ProgressCallback | None:
    """A callback for a part of the work."""
    if callback is None:
        return None
    return lambda fraction, message: callback(start + (stop - start) * fraction, message)
