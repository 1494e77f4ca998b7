"""An export that is there already: its report, where it is what a resumed run would make."""

from __future__ import annotations

from pathlib import Path

from workbench.checkpoint import Checkpoint
from workbench.config import DiffusionQuantConfig
from workbench.engine.output.record import read_record
from workbench.engine.report import Report
from workbench.errors import MetadataError, ValidationError
from workbench.plan import Plan

NO_MATTER = ("num_threads", "max_memory_limit_mb")
"""Settings that change nothing in what is written."""


def finished_report(
    output: Path, config: DiffusionQuantConfig, plan: Plan | None, source: Checkpoint, written: Checkpoint
) -> Report:
    """The report of a finished export.

    Parameters
    ----------
    output : Path
        Its folder.
    config, plan
        Those of the run that would make it.
    source, written : Checkpoint
        What is read, under its own names and under those of the export.

    Raises
    ------
    ValidationError
        If it was made of something else, or with other settings; the message says which.
    MetadataError, ModelNotFoundError
        If its record cannot be read.
    """
    record = read_record(output)
    asked = config.model_dump(mode="json")
    if record.folds is None:
        is_same = record.plan.fingerprint == written.fingerprint
    else:
        is_same = record.folds.get("source") == source.fingerprint
    unlike = "" if is_same else "checkpoint"
    if plan is not None and record.plan.recipe != plan.recipe:
        unlike = unlike or "plan"
    for key, value in asked.items():
        if key not in NO_MATTER and record.config.get(key) != value:
            unlike = unlike or key
    if unlike:
        raise ValidationError(
            f"{output} exists already, and was made with another {unlike}. Choose another output, or move it away.",
            path=output,
            key=unlike,
        )
    try:
        return Report.from_dict(record.report)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise MetadataError(
            f"{output}: the report in it is malformed ({error!r}). Export again.", path=output
        ) from error
