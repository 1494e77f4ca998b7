"""`Panel`: the workbench of one session, in a notebook."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import traitlets

from workbench.errors import ArrowQuantError
from workbench.formats import target_names
from workbench.session import Session, Snapshot
from workbench.session.commands import POLICIES
from workbench.thermo.policies import ABOUT
from workbench.ui.actions import Actions
from workbench.ui.debounce import Debouncer
from workbench.ui.jobs import Jobs
from workbench.ui.message_bar import MessageBar
from workbench.ui.module import bundle
from workbench.ui.table.layer_table import LayerTable
from workbench.ui.table.packing import pack

PAUSE = 0.15
"""Seconds without an edit before the figures follow; the table and the toolbar follow each."""

START = 0.05
"""Seconds that the table gets to be on its way before the first figures are drawn."""


class Panel(LayerTable):
    """See, tune, solve and export a session: the layer table with a toolbar, figures and jobs around it.

    Panels follow the session, never one another. Displaying one twice shows the same one twice.

    Parameters
    ----------
    session : Session
    folder : path-like
        Where exports and plans go whose paths are not absolute.
    confined : bool
        Whether they may go nowhere else.
    **traits
        As for `LayerTable`.

    Notes
    -----
    `workbench.ui.messages` states the messages both ways. What the toolbar asks for, a `Do`, is answered by one
    `PlanChanged`, which also brings the script since its base.
    """

    _esm = bundle("panel.js")
    _css = bundle("panel.css")

    overview = traitlets.Dict().tag(sync=True)
    """The figures beside the table, see `workbench.ui.charts.figures.overview`; empty before they are drawn."""
    closeup = traitlets.Dict().tag(sync=True)
    """The figures of the layer under the cursor, see `workbench.ui.charts.figures.closeup`."""
    validation = traitlets.Dict().tag(sync=True)
    """The validation tab, see `workbench.ui.charts.validation_tab.shown`; empty before it is drawn."""
    steps = traitlets.Any(None).tag(sync=True)
    """The way along the hulls, see `Columns.steps`: a layout and a buffer, for the budget while it is dragged."""

    def __init__(
        self,
        session: Session,
        *,
        folder: str | os.PathLike[str] = ".",
        confined: bool = False,
        **traits: Any,
    ) -> None:
        self.message_bar = MessageBar(self._tell_message, " ".join(session.checkpoint.notes))
        self.jobs = Jobs(self.message_bar, self._tell_job)
        self.actions = Actions(
            session, self.message_bar, self.jobs, Path(folder), confined, self._tell_exported
        )
        self.is_kept = not confined  # a page that is served alone is no notebook that is saved
        self._drawn: tuple[int, int] = (-1, -1)
        self._debouncer = Debouncer(self.draw, PAUSE, self.message_bar.error)
        super().__init__(session, **traits)
        self._end_drawing = session.observe(lambda _: self._debouncer.ask())
        self.observe(lambda _: self._debouncer.ask(), "current")
        self._debouncer.ask(START)

    def close(self) -> None:
        """Stop following the session; what is displayed goes."""
        self._end_drawing()
        self._debouncer.end()
        super().close()

    def draw(self) -> None:
        """Draw the figures of what is the case now, in one message to the browser."""
        # plotly takes a while to load: not before the table is on its way
        from workbench.ui.charts import figures, validation_tab
        from workbench.ui.charts.plotly_library import library

        library()
        session, columns, (version, current) = self.session, self._columns, self._drawn
        at = session.version, self.current
        found: dict[str, Any] = {}
        if self.steps is None:
            layout, blob = pack(columns.steps(session.front))
            found["steps"] = {"layout": layout, "blob": blob}
        if at[0] != version:
            found["overview"] = figures.overview(session)
            found["validation"] = validation_tab.shown(session)
        if at[1] >= 0 and at != (version, current):
            found["closeup"] = figures.closeup(session, self.names[at[1]])
        with self._guard, self.hold_sync():
            if columns is not self._columns or self.comm is None:  # another target came between, or the end
                return
            for name, value in found.items():
                setattr(self, name, value)
            self._drawn = at

    # ---- to the browser ---------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """The value of `data`: that of the table, and what the toolbar needs."""
        found = super().state()
        session = self.session
        found["header"] |= {
            "model": session.checkpoint.path.name,
            "targets": list(target_names()),
            "policies": list(POLICIES),
            "about_policies": {name: ABOUT[name] for name in POLICIES},
            "opening": self._opening,
            "message_bar": {"text": self.message_bar.text, "kind": self.message_bar.kind},
            "job": self.jobs.shown,
            "possible_names": list(session.possible_names),
            "exported": self.actions.exported,
            "has_time": session.time_aware is not None,
        }
        return found

    def _beside(self, now: Snapshot, base: int) -> dict[str, Any]:
        # Each version has its line.
        return {
            "target": self.session.target.name,
            "naming": self.session.names,
            "script": list(self.session.script[base : now.version]),
        }

    def _renew(self) -> None:
        self.steps = None
        super()._renew()

    def _tell_message(self) -> None:
        self.send({"type": "message_bar", "text": self.message_bar.text, "kind": self.message_bar.kind})

    def _tell_exported(self) -> None:
        self.send({"type": "exported", "exported": self.actions.exported})

    def _tell_job(self) -> None:
        self.send({"type": "job", "job": self.jobs.shown})

    # ---- from the browser -------------------------------------------------------------------------------------

    def _answer(self, message: Any, ack: str | None) -> None:
        match message:
            case {"type": "do"}:
                self.message_bar.clear()
                self._make(lambda: self.actions.do(message), ack)
            case {"type": "edit"}:
                self.message_bar.clear()
                super()._answer(message, ack)
            case {"type": "predict"}:
                try:
                    found = self.actions.ahead(str(message.get("folder", "export")))
                except (ArrowQuantError, OSError) as error:
                    found = {"error": str(error)}
                self.send({"type": "predicted", "ack": ack, **found})
            case {"type": "dismiss"}:
                self.message_bar.clear()
            case _:
                super()._answer(message, ack)
