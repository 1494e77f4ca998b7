"""The engine's entry: `DiffusionOrchestrator`."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager

from workbench.calibration import TimeAwareQuantizer
from workbench.checkpoint import Checkpoint, opened
from workbench.config import DiffusionQuantConfig
from workbench.engine.execution.execute import execute
from workbench.engine.output.finished import finished_report
from workbench.engine.output.partial_folder import Journal, PartialOutput, export_folder, refuse_existing
from workbench.engine.output.record import RECORD
from workbench.engine.output.side_files import write_errors_explained
from workbench.engine.preparation import balance, prepare, subject_of
from workbench.engine.report import Report
from workbench.engine.resolution.resolve import resolve, strategy_of
from workbench.engine.subject import Workers
from workbench.errors import ConfigurationError
from workbench.plan import Plan
from workbench.work import Progress, ProgressCallback, disk_workers

WORKER_BYTES = 96 * 10**6
"""Anonymous memory that a worker needs at most for a block and its encoding."""

BASE_BYTES = 200 * 10**6
"""Anonymous memory of the process without workers: the interpreter and its libraries."""

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
        model_path: Checkpoint | str | os.PathLike[str],
        output_path: str | os.PathLike[str],
        *,
        plan: Plan | None = None,
        time_aware: TimeAwareQuantizer | None = None,
        component: str | None = None,
        resume: bool = False,
        callback: ProgressCallback | None = None,
        cancel: threading.Event | None = None,
        notes: Sequence[str] = (),
        entropies: Mapping[str, float] | None = None,
    ) -> Report:
        """Quantize a checkpoint into a new folder, and measure what was written.

        Parameters
        ----------
        model_path : Checkpoint or path-like
            A checkpoint that is open, and stays so, or a path as `workbench.checkpoint.open_checkpoint` takes it.
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
            Called in this thread with the fraction done and a message; with 1.0 just before the folder appears.
            An exception in it ends the run.
        cancel : threading.Event, optional
            Set it to end the run with a `CancelledError`.
        notes : sequence of str
            Sentences for the report, before the engine's own.
        entropies : mapping of str to float, optional
            Ĥ of layers under a plan, where they were measured already; they are not measured again.

        Returns
        -------
        Report

        Raises
        ------
        ArrowQuantError
            Whatever is wrong with the input, the configuration or the disk; nothing is left half-written.
        """
        started = time.monotonic()
        output = export_folder(output_path).absolute()
        is_finished = resume and (output / RECORD).is_file()
        if not is_finished:
            refuse_existing(output)
        with (
            opened(model_path, component) as checkpoint,
            self._workers() as (executor, in_flight),
        ):
            request = prepare(self.config, checkpoint, plan, is_calibrated=time_aware is not None)
            if is_finished:
                return finished_report(output, request.config, request.plan, request.source, request.written)
            request, callback = balance(request, executor, callback, cancel)
            subject, remarks = subject_of(request, time_aware, entropies or {})
            strategy = strategy_of(subject.config, request.plan)
            progress = Progress(strategy.work(subject) + 2 * subject.checkpoint.nbytes, callback, cancel)
            workers = Workers(executor, in_flight, progress)
            with (
                write_errors_explained(output, progress),
                PartialOutput(output, resume) as place,
            ):
                journal = Journal(place.folder, output)
                resolution = resolve(strategy, subject, workers, journal)
                report = execute(
                    resolution, strategy, subject, place.folder, journal, workers,
                    started=started, notes=(*notes, *remarks),
                )  # fmt: skip
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
