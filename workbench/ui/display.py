"""How a session shows itself in a notebook: as the panel, and as a table where no widget runs."""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

from workbench.session import Session
from workbench.ui.panel import Panel

_panels: WeakSet[Panel] = WeakSet()


def panel_of(session: Session) -> Panel:
    """The session's panel, made on first use; the same one however often it is displayed."""
    for panel in _panels:
        if panel.session is session:
            return panel
    panel = Panel(session)
    _panels.add(panel)
    session.views.append(panel)
    return panel


def mimebundle(session: Session, include: object = None, exclude: object = None) -> dict[str, Any]:
    """The panel, and for readers without a kernel the table in HTML and in plain text."""
    shown = panel_of(session).widget._repr_mimebundle_()
    return {**shown, **session._repr_mimebundle_()}
