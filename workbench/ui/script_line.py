"""The Python that does again what was done last, to copy."""

from __future__ import annotations

import anywidget
import traitlets

from workbench.session import Session
from workbench.ui.module import joined, style


class ScriptLine(anywidget.AnyWidget):  # type: ignore[misc]
    """The last edits of a session as Python, with a button that copies the last one or all.

    Parameters
    ----------
    session : Session
    """

    _esm = joined("script_line.js")
    _css = style("script_line.css")

    last = traitlets.Unicode().tag(sync=True)
    """The line that repeats the last edit; empty before the first."""
    whole = traitlets.Unicode().tag(sync=True)
    """All edits so far, from opening the session on."""

    def __init__(self, session: Session) -> None:
        self._session = session
        super().__init__()
        self.follow()

    def follow(self) -> None:
        """Show the session's last edit."""
        lines = self._session.script
        opening = f"s = wb.open({str(self._session.checkpoint.path)!r}, target={self._session.opened_for!r})"
        with self.hold_trait_notifications():
            self.last = lines[-1] if lines else ""
            self.whole = "\n".join(["import workbench as wb", "", opening, *lines])
