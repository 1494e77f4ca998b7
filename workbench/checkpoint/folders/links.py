"""Symbolic links: one that leads nowhere is not the same as a file that is absent."""

from __future__ import annotations

from pathlib import Path

from workbench.errors import MetadataError


def is_broken(path: Path) -> bool:
    """Whether a path is a symbolic link that leads nowhere."""
    return path.is_symlink() and not path.exists()


def is_there(path: Path) -> bool:
    """Whether a file or folder is there.

    Raises
    ------
    MetadataError
        If it is a symbolic link that leads nowhere.
    """
    if is_broken(path):
        raise MetadataError(
            f"{path}: this is a symbolic link that leads nowhere, to {path.readlink()}. Get the model again, or mend "
            "the link; without it the model would not be the one it was.",
            path=path,
        )
    return path.exists()
