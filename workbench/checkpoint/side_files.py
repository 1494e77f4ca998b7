"""The small files that a model needs beside its weights: configuration, tokenizer, scheduler, code."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

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
    allowed = _allowed_roots(root)
    found = []
    for folder in folders:
        for entry in folder.iterdir():
            if not _is_candidate(entry.name) or not entry.is_file():
                continue
            inside = any(entry.resolve().is_relative_to(place) for place in allowed)
            if inside and entry.stat().st_size <= MAX_SIDE_FILE_BYTES:
                found.append(SideFile(entry.relative_to(root).as_posix(), entry))
    return tuple(sorted(found, key=lambda file: file.relative))


def _is_candidate(name: str) -> bool:
    known = Path(name).suffix.lower() in _SUFFIXES or name in _NAMES
    return known and not name.startswith(".") and _INDEX.search(name) is None


def _allowed_roots(root: Path) -> list[Path]:
    resolved = root.resolve()
    # The cache: models--org--name/snapshots/<revision>/config.json -> ../../blobs/<hash>.
    snapshots = (parent for parent in resolved.parents if parent.name == "snapshots")
    return [resolved, *(parent.parent / "blobs" for parent in snapshots)]
