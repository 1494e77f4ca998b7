"""What each width costs each layer."""

from __future__ import annotations

import math
from typing import Any

import plotly.graph_objects as go

from workbench.figures.tables import escape, layer_axis, layers_by_depth
from workbench.plan import KEEP
from workbench.session import Session


def option_costs(session: Session, *, template: str = "simple_white") -> go.Figure:
    """The NSR of every layer at every width, and the width that it has in the present plan.

    Parameters
    ----------
    session : Session
    template : str
        Of plotly.

    Returns
    -------
    plotly.graph_objects.Figure
        A heat map, layers × nominal bits, of the NSR's decimal logarithm. Of several options of a width the one of
        least NSR counts, and of equal ones that of fewest bytes; the dots are the present plan's widths, none where
        the layer is kept.
    """
    layers, plan = layers_by_depth(session), session.plan
    best: dict[tuple[str, int], dict[str, Any]] = {}
    for row in session.options.to_pylist():
        if row["scheme"] != KEEP:
            key = row["layer"], row["bits"]
            best[key] = min(best.get(key, row), row, key=lambda one: (one["nsr"], one["nbytes"]))
    widths = sorted({bits for _, bits in best})
    cells = [[best.get((row["name"], bits)) for bits in widths] for row in layers]
    names = [escape(row["name"]) for row in layers]
    figure = go.Figure()
    figure.add_heatmap(
        x=[str(bits) for bits in widths],
        y=names,
        z=[[_logarithm(cell) for cell in line] for line in cells],
        text=[[_described(cell) for cell in line] for line in cells],
        colorscale="Cividis",
        colorbar={"title": {"text": "log₁₀ NSR"}},
        hovertemplate="%{y}<br>%{x} bits: %{text}<extra></extra>",
    )
    quantized = [row["name"] for row in layers if not plan.choices[row["name"]].is_kept]
    figure.add_scatter(
        x=[str(plan.choices[name].bits) for name in quantized],
        y=[escape(name) for name in quantized],
        name="present width",
        mode="markers",
        marker={"color": "white", "size": 7, "line": {"width": 1.5, "color": "black"}},
        hovertemplate="%{y}<br>present width: %{x} bits<extra></extra>",
    )
    figure.update_layout(
        template=template,
        title="What each width costs each layer",
        height=max(400, min(160 + 15 * len(layers), 1600)),
        xaxis={"title": {"text": "width (nominal bits)"}, "type": "category"},
        yaxis=layer_axis(layers),
    )
    return figure


def _logarithm(cell: dict[str, Any] | None) -> float | None:
    return math.log10(cell["nsr"]) if cell and cell["nsr"] > 0 else None


def _described(cell: dict[str, Any] | None) -> str:
    if cell is None:
        return "no such option"
    return (
        f"NSR {cell['nsr']:.3g}, {cell['nbytes']:,} bytes ({cell['scheme']}, groups of {cell['group_size']})"
    )
