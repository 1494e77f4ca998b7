"""Who loads Parquet: an archive, which any Parquet reader opens."""

from __future__ import annotations

from pathlib import Path

from workbench.checkpoint import Checkpoint
from workbench.formats.format import Language, Loading
from workbench.formats.model_classes import workbench_lines
from workbench.plan import Plan


def _readers(checkpoint: Checkpoint, plan: Plan) -> tuple[str, ...]:
    return (
        "Parquet is an archive: workbench.load and any Parquet reader open it, no runtime runs the model from it.",
    )


def _lines(checkpoint: Checkpoint, folder: Path, plan: Plan) -> tuple[Language, list[str]]:
    return "python", workbench_lines(folder)


LOADING = Loading(_readers, _lines)
"""Who loads it."""
