"""`Chart`: a plotly figure in the panel, drawn by the page's one plotly.js."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import anywidget
import plotly.graph_objects as go
import traitlets

from workbench.ui.module import joined, style


class Chart(anywidget.AnyWidget):  # type: ignore[misc]
    """A figure that is replaced in one message, and tells what was clicked.

    Parameters
    ----------
    label : str
        Says what it shows, to those who cannot see it.
    height : int
        Pixels.

    Notes
    -----
    plotly's own FigureWidget brings plotly.js along with every figure; here `PlotlyLibrary` brings it once.
    """

    _esm = joined("chart.js")
    _css = style("chart.css")

    spec = traitlets.Unicode().tag(sync=True)
    """The figure as JSON, with ``data`` and ``layout``; empty before there is one."""
    label = traitlets.Unicode().tag(sync=True)
    """What it shows, in words."""
    height = traitlets.Int(300).tag(sync=True)
    """Pixels."""

    chosen = traitlets.List(traitlets.Unicode()).tag(sync=True)
    """Names of layers to stand out."""

    def __init__(self, label: str, height: int = 300) -> None:
        super().__init__(label=label, height=height)

    def show(self, figure: go.Figure) -> None:
        """Show a figure; its own size, margins and title give way to the chart's."""
        figure.update_layout(
            height=None, width=None, title=None, template="none", margin={"l": 44, "r": 8, "t": 8, "b": 40},
            legend={"orientation": "h", "x": 0, "y": 1.01, "yanchor": "bottom", "title": None},
        )  # fmt: skip
        figure.update_xaxes(automargin=True, title={"standoff": 6})
        figure.update_yaxes(automargin=True, title={"standoff": 4, "font": {"size": 10}})
        self.spec = figure.to_json()

    def on_click(self, callback: Callable[[Mapping[str, Any]], None]) -> None:
        """Call a function with ``x``, ``y``, ``customdata`` and the trace's ``name`` of what is clicked."""

        def hear(_: Chart, content: Mapping[str, Any], buffers: object) -> None:
            if content.get("type") == "click":
                callback(content)

        self.on_msg(hear)
