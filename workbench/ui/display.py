"""How a session shows itself in a notebook: as the panel, and as a copy of its plan where no widget runs."""

from __future__ import annotations

from workbench.session import Session
from workbench.ui.panel import Panel


def panel_of(session: Session) -> Panel:
    """The session's panel, made on first use; the same one however often it is displayed, until it is closed."""
    for view in session.views:
        if isinstance(view, Panel):
            return view
    panel = Panel(session)
    session.views.append(panel)
    return panel


def show(session: Session) -> None:
    """Display the panel in the cell that runs, and beside it the copy of the plan that a notebook keeps."""
    panel_of(session)._ipython_display_()
