"""Writing a file: whole or not at all, and never over something else.

Everything that the workbench writes goes by one rule. What exists already is not replaced, unless it is asked for
(``overwrite=True``) and what exists is of the same kind: a plan may replace a plan, never a model. Folders are never
replaced. Writing what is there already, to the byte, is no replacement and always allowed.
"""

from __future__ import annotations

import filecmp
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from workbench import system
from workbench.config_sources import error_at
from workbench.errors import ArgumentError, UsageError, ValidationError

LARGEST_TEXT = 64 * 2**20
"""Bytes; a larger file is not read to find out whether it is a text of ours."""


@dataclass(frozen=True)
class FileKind:
    """A kind of file that the workbench writes."""

    name: str
    """With its article, for messages: ``"a plan"``."""
    holds: Callable[[Path], bool]
    """Whether a file is one; asked only of files that exist and are not larger than `largest`."""
    largest: int = LARGEST_TEXT
    """Bytes."""
    error: type[UsageError] = ArgumentError
    """Raised where one cannot be written."""

    def found_at(self, path: str | os.PathLike[str]) -> bool:
        """Whether there is a file of this kind at a path."""
        path = Path(path)
        try:
            return path.is_file() and path.stat().st_size <= self.largest and self.holds(path)
        except OSError:
            return False


class ExistingFileError(ValidationError):
    """There is a file already where one is to be written; `replaceable` is whether it is of the same kind."""


def require_absent(path: str | os.PathLike[str]) -> None:
    """Make sure that nothing is at a path yet.

    Raises
    ------
    ValidationError
        If something is.
    """
    path = Path(path)
    if path.exists() or path.is_symlink():
        raise ValidationError(
            f"{path} exists already, and nothing is ever overwritten. Choose another name, or move it away.",
            path=path,
        )


@contextmanager
def new_file(path: str | os.PathLike[str], kind: FileKind, *, overwrite: bool = False) -> Iterator[Path]:
    """A temporary file beside a path, which takes the path's place when the block ends without an error.

    Parameters
    ----------
    path : path-like
    kind : FileKind
        What is written.
    overwrite : bool
        Replace what is there, if it is of the same kind.

    Raises
    ------
    ExistingFileError
        If there is something at the path that is not to be replaced; carries ``replaceable``.
    OSError
        If the file cannot be put there; what was there stays.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(21, "Is a directory", str(path))
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        if path.exists() or path.is_symlink():
            if path.is_file() and filecmp.cmp(temporary, path, shallow=False):
                return
            _require_replaceable(path, kind, overwrite)
        system.replace_file(path, temporary)
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_text(path: str | os.PathLike[str], text: str, kind: FileKind, *, overwrite: bool = False) -> None:
    """Write a text file in one step, see `new_file`.

    Raises
    ------
    ExistingFileError
        If there is something at the path that is not to be replaced; carries ``replaceable``.
    UsageError
        `FileKind.error`, if it cannot be written; the file that was there stays.
    """
    path = Path(path)
    try:
        with new_file(path, kind, overwrite=overwrite) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise error_at(
            f"cannot be written: {error.strerror}; choose another place", path=path, kind=kind.error
        ) from error


def _require_replaceable(path: Path, kind: FileKind, overwrite: bool) -> None:
    same = kind.found_at(path)
    if same and overwrite:
        return
    problem = (
        f"{path} is {kind.name} already. Choose another name, or replace it with overwrite=True."
        if same
        else f"{path} exists already and is not {kind.name}; only {kind.name} is ever replaced by one. Choose another "
        "name."
    )
    raise ExistingFileError(problem, path=path, replaceable=same)
