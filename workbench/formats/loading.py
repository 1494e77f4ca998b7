"""What loads an export: the target for a checkpoint's family, who reads it, and the lines that load it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from workbench.architectures import Reader
from workbench.checkpoint import Checkpoint
from workbench.formats.format import Format, Language, TargetSettings
from workbench.formats.model_classes import reader_lines
from workbench.formats.registry import formats, target_named
from workbench.plan import Plan

ARCHIVE = "parquet"
"""The target of a checkpoint that no runtime is known for: an archive that any Parquet reader opens."""


def best_target(checkpoint: Checkpoint) -> str:
    """The target whose files the usual runtime of a checkpoint's family loads; ``"parquet"`` where none is known.

    GGUF for what ComfyUI-GGUF, diffusers or llama.cpp load of it, tokenizer included; else the format of a program that
    its architecture names; compressed-tensors for the other models of transformers.

    Parameters
    ----------
    checkpoint : Checkpoint
        Under the names of its files or under the original ones.
    """
    records = formats().values()
    suiting = [one for one in records if one.loading.suits is not None and one.loading.suits(checkpoint)]
    found = [
        *(one for one in suiting if one.loading.depends_on_file),
        *(one for one in records if _named_readers(checkpoint, one)),
        *suiting,
    ]
    return found[0].name if found else ARCHIVE


def readers(
    checkpoint: Checkpoint, target_name: str, plan: Plan | None = None, scheme: str | None = None
) -> tuple[str, ...]:
    """Sentences on what is known to load an export of a checkpoint, or that nothing is.

    Parameters
    ----------
    checkpoint : Checkpoint
        Under the names that the export will have, see `workbench.formats.named`.
    target_name : str
    plan : Plan, optional
        What will be exported; by default 4 bits for every layer.
    scheme : str, optional
        The scheme of these 4 bits; by default the target's own.

    Raises
    ------
    ArrowQuantError
        If the target cannot hold the checkpoint, or there is no such target.
    """
    target = target_named(target_name, TargetSettings(scheme=scheme))
    plan = plan or _four_bits(checkpoint, target, scheme)
    own = tuple(f"Known to load it: {reader.program}." for reader in _named_readers(checkpoint, target))
    return (*(own or target.loading.readers(checkpoint, plan)), *target.layout(checkpoint, plan).notes)


def loading_lines(
    checkpoint: Checkpoint, target_name: str, folder: str | os.PathLike[str], plan: Plan | None = None
) -> str:
    """The lines that load an export in the runtime it is for, see `loading_language`.

    Parameters
    ----------
    checkpoint : Checkpoint
        Under the names that the export has.
    target_name : str
    folder : path-like
        The export; where it is there already, its own config.json is heeded.
    plan : Plan, optional
        What will be exported, where it is not there yet; by default 4 bits for every layer.
    """
    return "\n".join(_lines(checkpoint, target_name, Path(folder), plan)[1])


def loading_language(checkpoint: Checkpoint, target_name: str) -> Language:
    """Whether `loading_lines` are Python or for a shell."""
    return _lines(checkpoint, target_name, Path())[0]


def _lines(
    checkpoint: Checkpoint, target_name: str, folder: Path, plan: Plan | None = None
) -> tuple[Language, Sequence[str]]:
    target = target_named(target_name)
    for reader in _named_readers(checkpoint, target):
        if reader.lines:
            return reader.language, reader_lines(reader, folder)
    return target.loading.lines(checkpoint, folder, plan or _four_bits(checkpoint, target))


def _named_readers(checkpoint: Checkpoint, target: Format) -> tuple[Reader, ...]:
    """The programs that a checkpoint's architecture names for a format, where they load whatever it stores."""
    if checkpoint.family is None or target.loading.depends_on_file:
        return ()
    return checkpoint.family.readers_of(target.name)


def _four_bits(checkpoint: Checkpoint, target: Format, scheme: str | None = None) -> Plan:
    # In groups of 32: every row that divides by another group size divides by that too.
    choices = {
        layer.name: target.quantized(layer, 4, scheme or target.scheme, 32)
        for layer in checkpoint.layers
        if layer.params
    }
    return Plan(target.name, choices, checkpoint.fingerprint)
