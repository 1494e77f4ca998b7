"""Which layers the output feels most."""

from __future__ import annotations

import plotly.graph_objects as go
import pyarrow as pa

from workbench.figures.figure import Figure
from workbench.figures.tables import escape, shortened

SHOWN = 25
"""Layers shown at most."""


def importance(table: pa.Table, *, template: str = "simple_white") -> go.Figure:
    """The layers with most importance for their size.

    Parameters
    ----------
    table : pyarrow.Table
        Of `Session.importance`.
    template : str
        Of plotly.

    Returns
    -------
    plotly.graph_objects.Figure
        Bars of κ, the relative error of the output for a unit of relative error of the layer's, on a logarithmic axis,
        the greatest on top; coloured by the number of weights.
    """
    rows = sorted(table.to_pylist(), key=lambda row: -row["kappa"])[:SHOWN]
    figure = Figure()
    figure.add_bar(
        x=[row["kappa"] for row in rows],
        y=[escape(row["layer"]) for row in rows],
        orientation="h",
        marker={
            "color": [row["params"] for row in rows], "colorscale": "Cividis",
            "colorbar": {"title": {"text": "weights"}},
        },
        customdata=[[escape(row["remark"])] for row in rows],
        hovertemplate="%{y}<br>κ %{x:.3g}<br>%{customdata[0]}<extra></extra>",
    )  # fmt: skip
    figure.update_layout(
        template=template,
        title="How strongly the output feels an error in each layer",
        height=max(400, 160 + 18 * len(rows)),
        xaxis={"title": {"text": "importance κ"}, "type": "log"},
        yaxis={
            "type": "category", "autorange": "reversed", "automargin": True,
            "tickvals": [escape(row["layer"]) for row in rows],
            "ticktext": [escape(shortened(row["layer"], None)) for row in rows],
        },
    )  # fmt: skip
    return figure
