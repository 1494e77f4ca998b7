"""The browser's side of the panel: bundles that esbuild made of `frontend/`, so that an install needs no Node."""

from __future__ import annotations

from functools import cache
from pathlib import Path

STATIC = Path(__file__).parent / "static"


@cache
def bundle(name: str) -> str:
    """The text of a bundle, as a widget carries it.

    Parameters
    ----------
    name : str
        Its file, such as ``"panel.js"`` or ``"panel.css"``.
    """
    return (STATIC / name).read_text(encoding="utf-8")
