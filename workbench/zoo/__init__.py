"""Small real models that come with the package, each a plain folder in the layout of its library."""

from __future__ import annotations

from pathlib import Path

from workbench.errors import ModelNotFoundError

__all__ = ["locate", "names"]

_MODELS = Path(__file__).parent / "models"


def names() -> tuple[str, ...]:
    """Names of the models that come with the package, in alphabetical order.

    Returns
    -------
    tuple of str
        Each without the ``zoo:`` prefix.
    """
    if not _MODELS.is_dir():
        return ()
    return tuple(sorted(entry.name for entry in _MODELS.iterdir() if entry.is_dir()))


def locate(name: str) -> Path:
    """Find the folder of a model that comes with the package.

    Parameters
    ----------
    name : str
        Such as ``"digits-dit"`` or ``"zoo:digits-dit"``.

    Returns
    -------
    Path
        The model's folder.

    Raises
    ------
    ModelNotFoundError
        If no such model comes with the package; the message lists those that do.
    """
    bare = name.removeprefix("zoo:")
    known = names()
    if bare not in known:
        shipped = ", ".join(known) if known else "none"
        raise ModelNotFoundError(f"The zoo has no model {bare!r}. It has: {shipped}.", name=bare, known=known)
    return _MODELS / bare
