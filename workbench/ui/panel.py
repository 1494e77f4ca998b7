"""`Panel`: the workbench of one session, in a notebook."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from workbench.session import Change, Session
from workbench.ui.charts import Charts, Detail
from workbench.ui.job_bar import JobBar
from workbench.ui.script_line import ScriptLine
from workbench.ui.strip import Strip
from workbench.ui.table import LayerTable
from workbench.ui.toolbar import Toolbar


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
        self.strip = Strip()
        self.jobs = JobBar(self.strip)
        # The table first: its message must be the first on the wire.
        self.table = LayerTable(session)
        self.toolbar = Toolbar(session, self.strip, self.jobs, self._retargeted, Path(folder), confined)
        self.charts = Charts(session, self.strip, self._choose)
        self.detail = Detail(session, self.strip)
        self.script = ScriptLine(session)
        self._middle = widgets.GridBox(
            [self.table, self.charts.widget],
            layout=widgets.Layout(grid_template_columns="minmax(0, 3fr) minmax(0, 2fr)", grid_gap="10px"),
        )
        self.widget = widgets.VBox(
            [
                self.toolbar.widget, self.strip.widget, self._middle,
                self.detail.widget, self.jobs.widget, self.script,
            ]
        )  # fmt: skip
        self.widget.add_class("aq-panel")
        self._watch(self.table)
        self._unobserve = session.observe(self._on_change)
        self.charts.follow()

    def close(self) -> None:
        """Stop following the session; what is displayed goes."""
        self._unobserve()
        self.charts.end()
        self.detail.end()
        self.table.close()
        self.widget.close()

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.widget._repr_mimebundle_(**options)

    def _on_change(self, change: Change) -> None:
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

    def _retargeted(self) -> None:
        """Another target has other options: the table is made anew, all else follows."""
        old, self.table = self.table, LayerTable(self.session)
        self._watch(self.table)
        self._middle.children = [self.table, self.charts.widget]
        old.close()
