"""What every output folder needs besides its payload: room on the disk, the source's side files, errors explained."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from workbench import system
from workbench.checkpoint import Checkpoint, SideFile
from workbench.engine.output.partial_folder import JOURNAL, LOCK
from workbench.engine.output.record import RECORD
from workbench.errors import QuantizationError, ValidationError
from workbench.work import Progress


def place_side_files(
    checkpoint: Checkpoint, folder: Path, documents: Mapping[str, bytes], payload: Collection[str]
) -> None:
    """Write documents, and copy the checkpoint's side files of other names; what an interrupted run did is done again.

    Raises
    ------
    ValidationError
        If a side file cannot be read, or has the name of a file of the payload or of one that every folder has.
    """
    for name, content in documents.items():
        (folder / name).write_bytes(content)
    for side in checkpoint.side_files:
        if side.relative in documents:
            continue
        if side.relative in payload or side.relative in (RECORD, JOURNAL, LOCK):
            raise ValidationError(
                f"The side file {side.relative} of the checkpoint has the name of a file of the export. "
                "Rename it or move it out of the checkpoint's folder.",
                path=side.source,
            )
        destination = folder / side.relative
        destination.parent.mkdir(parents=True, exist_ok=True)
        with _readable(side) as source, destination.open("wb") as copy:
            shutil.copyfileobj(source, copy)


def require_readable(checkpoint: Checkpoint) -> None:
    """Raise if a side file cannot be read; to be asked before the work that would be lost.

    Raises
    ------
    ValidationError
        It names the file.
    """
    for side in checkpoint.side_files:
        _readable(side).close()


def _readable(side: SideFile) -> BinaryIO:
    try:
        return side.source.open("rb")
    except OSError as error:
        raise ValidationError(
            f"{side.source}: this file travels along into the export, and cannot be read: {error.strerror}. Let it be "
            "read, or move it out of the checkpoint's folder.",
            path=side.source,
        ) from error


def require_space(folder: Path, needed: int) -> None:
    """Raise if the disk has no room for so many bytes beside what the folder has already."""
    ahead = needed - sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    free = system.free_bytes(folder)
    if ahead > free:
        raise QuantizationError(
            f"{folder.parent} has {free / 1e6:,.0f} MB free, and the payload may need {ahead / 1e6:,.0f} MB. Free "
            "some space or choose another output folder.",
            path=folder.parent,
        )


@contextmanager
def write_errors_explained(output: Path, progress: Progress) -> Iterator[None]:
    """Turn what the disk refuses into a `QuantizationError`, but not what a callback raised."""
    try:
        yield
    except OSError as error:
        if error is progress.raised:
            raise
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        advice = "Free some space or choose" if is_full else "Choose"
        raise QuantizationError(
            f"{output} cannot be written: {error}. {advice} another output folder, then run again.",
            path=output,
        ) from error
