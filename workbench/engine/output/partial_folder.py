"""An output folder that appears whole or not at all, and the journal by which it can be resumed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Self

from workbench import system
from workbench.errors import ValidationError, setting
from workbench.text_file import require_absent

JOURNAL = "journal.jsonl"
LOCK = "lock"


class PartialOutput:
    """The folder beside the output in which an export is written until it is renamed.

    A context manager: left without `commit`, the folder is removed, or kept when the run is resumable.

    Parameters
    ----------
    output : Path
        The folder to be.
    resume : bool
        Take up what an interrupted run left, and leave what this one will leave if it fails.

    Raises
    ------
    ValidationError
        If the output exists already, its parent does not, or another run is writing it.
    """

    def __init__(self, output: Path, resume: bool) -> None:
        self.output = output
        self.folder = output.with_name(f".{output.name}.partial")
        self._resume = resume

    def __enter__(self) -> Self:
        refuse_existing(self.output)
        existed = self.folder.exists()
        self.folder.mkdir(exist_ok=True)
        self._lock = (self.folder / LOCK).open("w")
        if not system.lock(self._lock):
            self._lock.close()
            raise ValidationError(
                f"{self.output}: another run is writing it ({self.folder} is locked). Wait for it, or choose "
                "another output folder.",
                path=self.output,
            )
        if existed and not self._resume:
            # What a killed run left, whose owner did not ask to go on with it.
            remove_all(self.folder, keep=(LOCK,))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        self._lock.close()
        if kind is not None and not (self._resume and (self.folder / JOURNAL).exists()):
            shutil.rmtree(self.folder, ignore_errors=True)

    def commit(self) -> None:
        """Make the folder the output, in one step."""
        (self.folder / JOURNAL).unlink(missing_ok=True)
        (self.folder / LOCK).unlink()
        refuse_existing(self.output)
        system.rename_folder(self.folder, self.output)


class Journal:
    """What a run has finished, one JSON document a line, written to disk before it counts.

    The first line says what the run makes; a run that would make something else cannot go on with it.
    """

    def __init__(self, folder: Path, output: Path) -> None:
        self._path = folder / JOURNAL
        self._output = output
        self.lines: list[dict[str, Any]] = []
        if self._path.exists():
            whole, _, _ = self._path.read_bytes().rpartition(b"\n")
            self.lines = [json.loads(line) for line in whole.splitlines()]
            # A line that a kill cut short must not run into the next.
            with self._path.open("r+b") as file:
                file.truncate(len(whole) + 1 if whole else 0)

    def begin(self, header: Mapping[str, Any]) -> None:
        """State what this run makes, or make sure that an interrupted one made the same.

        Raises
        ------
        ValidationError
            If the interrupted run was of another checkpoint, configuration or version.
        """
        if not self.lines:
            self.append(header)
            return
        for key, value in header.items():
            if self.lines[0].get(key) != value:
                raise ValidationError(
                    f"{self._output}: the interrupted run had another {key}; it cannot be resumed with this one. "
                    f"Leave out {setting('resume')} to start over, or delete {self._path.parent}.",
                    path=self._output,
                    key=key,
                )

    def append(self, line: Mapping[str, Any]) -> None:
        """Add a line and put it on disk."""
        document = json.loads(json.dumps(line))
        with self._path.open("ab") as file:
            file.write(json.dumps(document).encode() + b"\n")
            file.flush()
            system.sync(file.fileno())
        self.lines.append(document)


def export_folder(path: str | os.PathLike[str]) -> Path:
    """The folder of an export as its user names it, with ``~`` at the beginning as the home.

    ``./~`` is a folder of that name, and is returned absolute, so that nobody who asks again takes it for the home. A
    `Path` has forgotten the ``./``; there ``~`` is the home unless such a folder is here.

    Raises
    ------
    ValidationError
        If there is no such user.
    """
    folder = Path(path)
    if not os.fspath(path).startswith("~") and str(folder).startswith("~"):
        return folder.absolute()
    if not os.fspath(path).startswith("~") or (isinstance(path, Path) and Path(folder.parts[0]).exists()):
        return folder
    try:
        return folder.expanduser()
    except RuntimeError as error:
        raise ValidationError(f"{path}: {error}", path=folder) from error


def refuse_existing(output: Path) -> None:
    """Raise if an output folder cannot be made: it exists, or its parent does not."""
    require_absent(output)
    if not output.parent.is_dir():
        raise ValidationError(
            f"{output.parent} is not a folder. Make it first, or choose another output.", path=output
        )


def remove_all(folder: Path, keep: Collection[str]) -> None:
    """Remove what is in a folder, but for some names."""
    for child in folder.iterdir():
        if child.name in keep:
            continue
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        else:
            child.unlink()
