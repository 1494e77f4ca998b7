"""Under which names a checkpoint is worked on: those of its files, or those of the original checkpoint."""

from __future__ import annotations

from collections.abc import Iterable

from workbench.architectures import architecture_of_config
from workbench.checkpoint.checkpoint import Checkpoint
from workbench.checkpoint.original_names import OriginalTensors, original_tensors
from workbench.checkpoint.readers.fusion import FusedReader
from workbench.config import NAMES
from workbench.errors import ArgumentError, ValidationError, setting

NAMED = 3
"""How many tensors a sentence names."""


def originally_named(checkpoint: Checkpoint) -> Checkpoint | None:
    """A diffusers checkpoint under the names, and with the fused tensors, of the original single-file checkpoint.

    Nothing is copied, and the files are shared: closing one closes both. Tensors that have no place in the original
    checkpoint keep their names.

    Returns
    -------
    Checkpoint or None
        None for an architecture whose original names are not known.

    Raises
    ------
    ValidationError
        If no tensor has a place in the original checkpoint, or tensors that go together do not fit.
    """
    found = _original_tensors(checkpoint)
    return None if found is None else checkpoint.over(FusedReader(checkpoint, found.parts))


def _original_tensors(checkpoint: Checkpoint) -> OriginalTensors | None:
    if checkpoint.parts is not None or checkpoint.gguf is not None:
        return None
    return original_tensors(architecture_of_config(checkpoint.config), checkpoint.tensors)


def _unplaced(checkpoint: Checkpoint) -> str:
    """A sentence on the tensors that have no place in the original checkpoint; empty where all have."""
    found = _original_tensors(checkpoint)
    if found is None or not found.unplaced:
        return ""
    listed = ", ".join(map(repr, found.unplaced[:NAMED]))
    more = f" and {len(found.unplaced) - NAMED} more" if len(found.unplaced) > NAMED else ""
    have = "has no place in an original checkpoint and keeps its name"
    if len(found.unplaced) > 1:
        have = "have no place in an original checkpoint and keep their names"
    return f"{listed}{more} {have}; a program that reads the original names may pass over or refuse such tensors."


def under_names(checkpoint: Checkpoint, names: str | None, usual: str) -> tuple[Checkpoint, tuple[str, ...]]:
    """A checkpoint under the names that a user asks for, and sentences on it.

    Parameters
    ----------
    checkpoint : Checkpoint
    names : str, optional
        One of `workbench.config.NAMES`; by default the usual ones, where they are known.
    usual : str
        One of them too.

    Raises
    ------
    ArgumentError
        If there is no such choice of names, or the original names are asked for and cannot be had.
    """
    if names is not None and names not in NAMES:
        allowed = " or ".join(NAMES)
        raise ArgumentError(
            f"There are no names {names!r}; allowed: {allowed}.", key="names", value=names, allowed=NAMES
        )
    if names == "checkpoint" or (names is None and usual == "checkpoint"):
        return checkpoint, ()
    try:
        found = originally_named(checkpoint)
        why = f"those of {checkpoint.architecture or 'this architecture'} are not known"
    except ValidationError as error:
        found, why = None, str(error)
        if names is None:
            return checkpoint, (f"The tensors keep diffusers' names: {error}",)
    if found is not None:
        fused = sum(len({part.tensor for part in parts}) > 1 for parts in (found.parts or {}).values())
        several = f", and {fused} tensors are fused from several" if fused else ""
        return found, (
            f"Layers are called as in the original checkpoint, which ComfyUI reads{several}; with "
            "names='checkpoint' (--names checkpoint) they keep diffusers' names.",
            *filter(None, [_unplaced(checkpoint)]),
        )
    if names is None or checkpoint.parts is not None:
        return checkpoint, ()
    raise ArgumentError(
        f"{checkpoint.path}: the original names cannot be had: {why.rstrip('.')}. Use "
        f"{setting('names', 'checkpoint')}.",
        key="names",
        value=names,
    )


def named_as(checkpoint: Checkpoint, layers: Iterable[str]) -> Checkpoint:
    """A checkpoint under the names by which a plan calls its layers; as it is where neither fits."""
    wanted = set(layers)
    if wanted == {layer.name for layer in checkpoint.layers if layer.params}:
        return checkpoint
    try:
        found = originally_named(checkpoint)
    except ValidationError:
        return checkpoint
    fits = found is not None and wanted == {layer.name for layer in found.layers if layer.params}
    return found if found is not None and fits else checkpoint
