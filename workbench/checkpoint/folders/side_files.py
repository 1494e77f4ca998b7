"""The small files that a model needs beside its weights: configuration, tokenizer, scheduler, code."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from workbench.checkpoint.folders.links import is_broken

MAX_SIDE_FILE_BYTES = 64 * 2**20
"""Larger files are not side files."""

_SUFFIXES = frozenset(
    {
        ".json",
        ".txt",
        ".model",
        ".jinja",
        ".yaml",
        ".yml",
        ".md",
        ".py",
        ".tiktoken",
        ".bpe",
        ".vocab",
        ".spm",
    }
)
_NAMES = frozenset({"LICENSE", "NOTICE"})
_INDEX = re.compile(r"\.index(\.[^.]+)?\.json$")


@dataclass(frozen=True)
class SideFile:
    """A file that travels along into an export."""

    relative: str
    """Its path in the export, with ``/``, the same as in the source."""
    source: Path
    """Where it is now."""


@dataclass(frozen=True)
class LeftFile:
    """A file beside the weights that does not travel along, though its name is that of a side file."""

    relative: str
    """Its path in the model's folder."""
    reason: str
    """Why not, such as ``"a link that leads nowhere, to ../blobs/1f3a"``."""


def find_side_files(root: Path, folders: Iterable[Path]) -> tuple[SideFile, ...]:
    """The side files of a model.

    They are the regular files with the endings of configurations, tokenizers, schedulers, model code (.py,
    which LLaDA and Dream need), licences and model cards, of at most `MAX_SIDE_FILE_BYTES`. Never weights,
    their indexes, pickles or hidden files; and no symbolic link that leads out of `root`, except into the
    blobs of the Hugging Face cache that `root` belongs to.

    Parameters
    ----------
    root : Path
        The model's folder.
    folders : iterable of Path
        The folders to look in, `root` or directly below it; their own subfolders are not searched.

    Returns
    -------
    tuple of SideFile
        Sorted by relative path.
    """
    return tuple(
        SideFile(relative, entry) for relative, entry, reason in _candidates(root, folders) if reason is None
    )


def find_left_files(root: Path, folders: Iterable[Path]) -> tuple[LeftFile, ...]:
    """The files that `find_side_files` leaves where they are, with the reason.

    Parameters
    ----------
    root, folders
        As for `find_side_files`.
    """
    return tuple(
        LeftFile(relative, reason) for relative, _, reason in _candidates(root, folders) if reason is not None
    )


def _candidates(root: Path, folders: Iterable[Path]) -> list[tuple[str, Path, str | None]]:
    """Files by the names of side files, sorted by relative path, each with the reason why it is none."""
    allowed = _allowed_roots(root)
    entries = [entry for folder in folders for entry in folder.iterdir() if _is_candidate(entry.name)]
    return sorted(
        (entry.relative_to(root).as_posix(), entry, _reason_against(entry, allowed))
        for entry in entries
        if entry.is_file() or is_broken(entry)
    )


def _reason_against(entry: Path, allowed: Iterable[Path]) -> str | None:
    if is_broken(entry):
        return f"a link that leads nowhere, to {entry.readlink()}"
    target = entry.resolve()
    if not any(target.is_relative_to(place) for place in allowed):
        return f"a link that leads out of the folder, to {target}"
    if not os.access(entry, os.R_OK):
        return "a file that this user may not read"
    size = entry.stat().st_size
    if size > MAX_SIDE_FILE_BYTES:
        return f"a file of {size:,} bytes, more than the {MAX_SIDE_FILE_BYTES:,} of a side file"
    return None


def _is_candidate(name: str) -> bool:
    known = Path(name).suffix.lower() in _SUFFIXES or name in _NAMES
    return known and not name.startswith(".") and _INDEX.search(name) is None


def _allowed_roots(root: Path) -> list[Path]:
    resolved = root.resolve()
    # The cache: models--org--name/snapshots/<revision>/config.json -> ../../blobs/<hash>.
    snapshots = (parent for parent in resolved.parents if parent.name == "snapshots")
    return [resolved, *(parent.parent / "blobs" for parent in snapshots)]
