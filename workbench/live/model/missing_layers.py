"""Layers that were left out: said by name and reason, wherever a result is not of all layers."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping

PACKAGE = "workbench."

SHOWN = 3
"""Names a reason that a message gives; the rest is counted."""


class MissingLayersWarning(UserWarning):
    """A result that is not of all layers.

    Attributes
    ----------
    layers : mapping of str to str
        The layers that are missing, and why each is.
    """

    def __init__(self, message: str, layers: Mapping[str, str]) -> None:
        super().__init__(message)
        self.layers = dict(layers)


def warn_of(missing: Mapping[str, str], what: str) -> None:
    """Warn, where the user's own code called, that some layers are missing.

    Parameters
    ----------
    missing : mapping of str to str
        The layers, and why each is missing.
    what : str
        What that means for the result; the names follow.
    """
    message = f"{what}: {listed(missing)}."
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(MissingLayersWarning(message, missing), stacklevel=level)


def listed(reasons: Mapping[str, str]) -> str:
    """Layers by the reasons why they are missing, a few names each."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        by_reason.setdefault(reason, []).append(name)
    return "; ".join(f"{_some(names)} ({reason})" for reason, names in by_reason.items())


def _some(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
