"""Telling a notebook's kernel how a session is displayed, without loading a widget before one is."""

from __future__ import annotations

import sys
from typing import Any


def register() -> None:
    """In a kernel that can show widgets, let sessions show themselves as the panel; elsewhere do nothing."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is None or not hasattr(shell, "kernel"):
        return
    formatter = shell.display_formatter.mimebundle_formatter
    formatter.for_type_by_name("workbench.session.session", "Session", _show)


def _show(session: Any, include: object = None, exclude: object = None) -> dict[str, Any]:
    from workbench.ui.display import mimebundle

    return mimebundle(session, include, exclude)
