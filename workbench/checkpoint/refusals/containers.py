"""Weights in containers that are not read, recognised so that the error can say what they are."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from workbench.errors import ValidationError

PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
"""File name endings of weights that are stored as pickles."""

_CONVERT = (
    "Pickles run code when they are read, so this workbench never loads one. Convert it once, where you "
    "trust it: safetensors.torch.save_file(torch.load(FILE, weights_only=True), 'model.safetensors')."
)

_KINDS: tuple[tuple[bytes, str], ...] = (
    (b"GGUF", "this is a GGUF file by another name: let its name end in .gguf."),
    (b"PK\x03\x04", f"this is a zip archive, most likely a PyTorch pickle. {_CONVERT}"),
    *((bytes([0x80, protocol]), f"this is a pickle. {_CONVERT}") for protocol in range(2, 6)),
    (b"version ", "this is a Git LFS pointer, not the weights. Run `git lfs pull` in its repository."),
    (b"PAR1", "this is a Parquet file. Open the safetensors checkpoint that it was made from."),
)  # fmt: skip


def container_kind(prefix: bytes) -> str | None:
    """What kind of file begins like this, when it is no safetensors file.

    Parameters
    ----------
    prefix : bytes
        The first eight bytes of a file, known not to be a possible header length.

    Returns
    -------
    str or None
        What it is and what to do, or None for a kind that is not known here.
    """
    return next((kind for magic, kind in _KINDS if prefix.startswith(magic)), None)


def pickle_error(pickles: Iterable[Path], path: Path) -> ValidationError:
    """The error for weights that exist as pickles only.

    Parameters
    ----------
    pickles : iterable of Path
        The pickles.
    path : Path
        What was to be opened.

    Returns
    -------
    ValidationError
        To be raised by the caller.
    """
    names = ", ".join(sorted(pickle.name for pickle in pickles))
    return ValidationError(f"{path}: the weights are a pickle ({names}). {_CONVERT}", path=path)
