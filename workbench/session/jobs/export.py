"""The job that writes a plan's export."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from workbench.config import DiffusionQuantConfig
from workbench.engine import DiffusionOrchestrator, Report
from workbench.session.jobs.job import Job
from workbench.session.snapshot import Snapshot
from workbench.thermo.measurement.profile import known_entropies
from workbench.work import ProgressCallback


def export_job(
    now: Snapshot, output: Path, config: DiffusionQuantConfig | None, resume: bool, done: Callable[[], None]
) -> Job[Report]:
    """Write the export of a snapshot's plan in the background; `done` is called in the job's thread.

    Parameters as for `Session.export`.
    """
    plan, checkpoint = now.plan, now.measurements.checkpoint
    settings = config or DiffusionQuantConfig.model_validate({"target": plan.target})
    entropies = known_entropies(now.measurements.profile.to_arrow())
    held = checkpoint.hold()

    def work(callback: ProgressCallback, cancel: threading.Event) -> Report:
        with held:
            report = DiffusionOrchestrator(settings).run(
                checkpoint, output, plan=plan, time_aware=now.time_aware, entropies=entropies,
                resume=resume, callback=callback, cancel=cancel,
            )  # fmt: skip
        done()
        return report

    return Job(f"export to {output.name}", work)
