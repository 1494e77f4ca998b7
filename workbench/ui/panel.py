"""`Panel`: the workbench of one session, in a notebook."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from workbench.session import Change, Session
from workbench.ui.charts import Charts, Detail
from workbench.ui.job_bar import JobBar
from workbench.ui.later import Later
from workbench.ui.script_line import ScriptLine
from workbench.ui.strip import Strip
from workbench.ui.table import LayerTable
from workbench.ui.toolbar import Toolbar

PAUSE = 0.05
"""Seconds without an edit before the controls follow; the table follows each."""


class Panel:
    """See, tune, solve and export a session.

    The views follow the session, never one another. Displaying it twice shows the same one twice.

    Parameters
    ----------
    session : Session
    folder : path-like
        Where exports and plans go whose paths are not absolute.
    confined : bool
        Whether they may go nowhere else.

    Attributes
    ----------
    widget : ipywidgets.VBox
        What is displayed.
    table : LayerTable
    """

    def __init__(
        self, session: Session, *, folder: str | os.PathLike[str] = ".", confined: bool = False
    ) -> None:
        self.session = session
        self._target = session.target
        self.strip = Strip()
        self.jobs = JobBar(self.strip)
        # Before the table hears of another target, which it cannot show.
        self._unobserve = [session.observe(self.strip.guard(self._on_target))]
        # The table before the toolbar: its message must be the first on the wire.
        self.table = LayerTable(session)
        self.toolbar = Toolbar(session, self.strip, self.jobs, Path(folder), confined)
        self.charts = Charts(session, self.strip, self._choose)
        self.detail = Detail(session, self.strip)
        self.script = ScriptLine(session)
        # Side by side where both have room; else the figures go below, in a row.
        self._left = widgets.VBox(
            [self.table, self.detail.widget], layout=widgets.Layout(flex="1000 1 1080px", min_width="0")
        )
        middle = widgets.Box(
            [self._left, self.charts.widget],
            layout=widgets.Layout(flex_flow="row wrap", grid_gap="10px", align_items="flex-start"),
        )
        self.widget = widgets.VBox(
            [
                self.toolbar.widget, self.strip.widget, middle, self.jobs.widget, self.script,
            ]
        )  # fmt: skip
        self.widget.add_class("aq-panel")
        self._watch(self.table)
        self._later = Later(self.follow, PAUSE, self.strip.error)
        self._unobserve.append(session.observe(lambda _: self._later.ask()))
        self.charts.follow()

    def close(self) -> None:
        """Stop following the session; what is displayed goes."""
        for end in self._unobserve:
            end()
        self._later.end()
        self.charts.end()
        self.detail.end()
        close(self.widget)
        if self in self.session.views:
            self.session.views.remove(self)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.widget._repr_mimebundle_(**options)

    def follow(self) -> None:
        """Show what is the case now; what takes longer follows a little later."""
        for view in (self.toolbar, self.script, self.charts, self.detail):
            self.strip.guard(view.follow)()

    def _watch(self, table: LayerTable) -> None:
        table.observe(self.strip.guard(lambda change: self.charts.mark(list(table.selection))), "selected")
        table.observe(self.strip.guard(self._on_current), "current")

    def _on_current(self, change: dict[str, Any]) -> None:
        row = change["new"]
        self.detail.show(self.table.names[row] if row >= 0 else None)

    def _choose(self, layer: str) -> None:
        self.table.select([layer])
        self.table.focus_layer(layer)

    def _on_target(self, _: Change) -> None:
        """Another target has other options: the table is made anew, all else follows."""
        if self.session.target is self._target:
            return
        self._target, old = self.session.target, self.table
        old.close()
        kept = {name: getattr(old, name) for name in ("selected", "current", "filter", "sort", "widths")}
        self.table = LayerTable(self.session, min_cosine=old.min_cosine, height=old.height, **kept)
        for column in old.extra_columns:
            self.table.add_column(column.title, column.expression)
        self._watch(self.table)
        self._left.children = [self.table, self.detail.widget]


def close(widget: widgets.Widget) -> None:
    """Close a widget and all within it."""
    for inner in getattr(widget, "children", ()):
        close(inner)
    widget.close()
