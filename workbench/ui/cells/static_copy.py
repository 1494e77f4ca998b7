"""`StaticCopy`: what a notebook keeps of a view, for when no kernel stands behind it: the plan as it was last."""

from __future__ import annotations

import html
import threading
from collections.abc import Callable
from typing import Any

from workbench.session import Session
from workbench.ui.cells.pictures import entropy_picture, front_picture
from workbench.ui.debounce import Debouncer

PAUSE = 1.0
"""Seconds without an edit before the copy in the page follows."""

MOST = 8_000
"""Characters of the edits that are kept."""

_STYLE = """
.jp-OutputArea-child:has(> .jp-OutputArea-output:not([data-mime-type])):not(:has(.aq-view)):has(+
 .jp-OutputArea-child .aq-stored){display:none}
.jp-OutputArea-child:has(> .jp-OutputArea-output:not([data-mime-type])) + .jp-OutputArea-child
 .aq-stored{animation:aq-stored 0s 1s backwards}
@keyframes aq-stored{from{max-height:0;overflow:hidden}}
"""
"""Without a kernel JupyterLab says in the widget's output, which stands before the copy's, that there is no model: that
goes. While a page loads, the copy gives the widget a second to come."""


class StaticCopy:
    """A view's session as text and HTML, in a notebook's output of its own beside that of the widget.

    Notebooks keep what an output showed first, and JupyterLab shows nothing else where it finds a widget's output. So
    this one has no widget in it, is replaced as the plan changes, and is hidden by the widget where that one lives.

    Parameters
    ----------
    session : Session
    identity : str
        Of the view; the display id of its copies, and in the class of their HTML.
    opening : str
        The line of Python that opened the session.
    failed : callable
        Told of an error in making a copy.
    """

    def __init__(
        self, session: Session, identity: str, opening: str, failed: Callable[[BaseException], None]
    ) -> None:
        self._session, self._identity, self._opening = session, identity, opening
        self._guard = threading.Lock()
        self._version: int | None = None
        self._is_owed = False
        self._debouncer = Debouncer(self.update, PAUSE, failed)

    def show(self) -> None:
        """Display a copy, in the cell that runs."""
        from IPython.display import display

        display(self.bundle(), raw=True, display_id=self._identity)  # type: ignore[no-untyped-call]

    def ask(self, *, anew: bool = False) -> None:
        """Have the displayed copies follow the session soon; `anew` also if it is as it was."""
        if self._version is not None:
            self._is_owed |= anew
            self._debouncer.ask()

    def update(self) -> None:
        """Have the displayed copies follow the session now."""
        from IPython.display import update_display

        if self._version is None or (self._version == self._session.version and not self._is_owed):
            return
        self._is_owed = False
        update_display(self.bundle(), raw=True, display_id=self._identity)  # type: ignore[no-untyped-call]

    def end(self) -> None:
        """Leave the copies as they are."""
        self._version = None
        self._debouncer.end()

    def bundle(self) -> dict[str, Any]:
        """The copy, by MIME type."""
        with self._guard:
            session, now = self._session, self._session.snapshot
            self._version = now.version
            table = session._repr_mimebundle_()
            pictures = entropy_picture(session, now) + front_picture(session, now)
        lines = [self._opening, *session.script[: now.version]]
        return {
            "text/plain": table["text/plain"],
            "text/html": (
                f"<div class='aq-stored aq-stored-{self._identity}'><style>{_STYLE}</style>"
                "<p><b>The plan as it was last.</b> Run the cell again to edit.</p>"
                f"<div>{pictures}</div>{table['text/html']}{_edits(lines)}</div>"
            ),
        }


def _edits(lines: list[str]) -> str:
    text = "\n".join(lines)
    if len(text) > MOST:
        return f"<p>Its {len(lines) - 1:,} edits are too long to be kept here; a saved plan has their result.</p>"
    return f"<details><summary>Python that makes this plan</summary><pre>{html.escape(text)}</pre></details>"
