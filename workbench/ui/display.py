"""How a session shows itself in a notebook: as the panel, and as a table where no widget runs."""

from __future__ import annotations

from typing import Any

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


def mimebundle(session: Session, include: object = None, exclude: object = None) -> dict[str, Any]:
    """The panel, and for readers without a kernel the table in HTML and in plain text."""
    shown, _ = panel_of(session)._repr_mimebundle_()
    return {**shown, **session._repr_mimebundle_()}
