"""How a session shows itself in a notebook: as the panel, and as a copy of its plan where no widget runs."""

from __future__ import annotations

from weakref import WeakKeyDictionary, ref

from workbench.session import Session
from workbench.ui.panel import Panel

# A panel holds its session, and is itself held by ipywidgets until it is closed.
_panels: WeakKeyDictionary[Session, ref[Panel]] = WeakKeyDictionary()


def panel_of(session: Session) -> Panel:
    """The session's panel, made on first use; the same one however often it is displayed, until it is closed."""
    known = _panels.get(session)
    panel = None if known is None else known()
    if panel is None or panel.is_closed:
        panel = Panel(session)
        _panels[session] = ref(panel)
    return panel


def show(session: Session) -> None:
    """Display the panel in the cell that runs, and beside it the copy of the plan that a notebook keeps."""
    panel_of(session)._ipython_display_()
