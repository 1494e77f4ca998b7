"""Telling a notebook's kernel how sessions and comparisons are displayed, without loading plotly or a widget before."""

from __future__ import annotations

import json
import sys
from typing import Any


def register() -> None:
    """In a kernel that can show widgets, let sessions show themselves as the panel and comparisons
    with a figure; elsewhere do nothing."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is None or not hasattr(shell, "kernel"):
        return
    # By itself, for what it displays are two outputs: the panel, and what the notebook keeps of it.
    formatter = shell.display_formatter.ipython_display_formatter
    formatter.for_type_by_name("workbench.session.session", "Session", _show)
    formatter = shell.display_formatter.mimebundle_formatter
    formatter.for_type_by_name("workbench.live.comparison", "Comparison", _show_comparison)


def _show(session: Any) -> None:
    from workbench.ui.display import show

    show(session)


def _show_comparison(comparison: Any, include: object = None, exclude: object = None) -> dict[str, Any]:
    from workbench.figures import predicted_against_measured

    figure = predicted_against_measured(comparison).update_layout(height=420)
    return {
        **comparison._repr_mimebundle_(),
        "application/vnd.plotly.v1+json": json.loads(figure.to_display_json()),
    }
