"""Two entropies along the depth of a model: of the weights, and of the choice of their width."""

from __future__ import annotations

from collections import Counter

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.figures.figure import Figure
from workbench.figures.tables import escape, layers_by_depth
from workbench.figures.widths import colour_of, label_of, symbol_of
from workbench.session import Session

OUTSIDE = -1
"""Where layers outside the blocks stand."""

CROWD = 300
"""Of more layers the marks are small."""


def entropy_along_depth(session: Session, *, template: str = "simple_white") -> go.Figure:
    """The normalised entropy Ĥ of each layer and the thermodynamic entropy S of its width, along depth.

    Parameters
    ----------
    session : Session
    template : str
        Of plotly.

    Returns
    -------
    plotly.graph_objects.Figure
        Ĥ above (0 to 1), S below (nats), a mark a layer, coloured by its bits in the present plan. The layers of a
        block stand side by side, those outside the blocks on the left.
    """
    layers, heat = layers_by_depth(session), session.thermodynamics
    width, settled = (
        dict(zip(heat["name"].to_pylist(), heat[column].to_pylist(), strict=True))
        for column in ("bits", "entropy")
    )
    blocks = [OUTSIDE if row["depth"] is None else row["depth"] for row in layers]
    counts, seen, place = Counter(blocks), Counter[int](), {}
    for row, block in zip(layers, blocks, strict=True):
        place[row["name"]] = block + 0.8 * ((seen[block] + 0.5) / counts[block] - 0.5)
        seen[block] += 1
    # Of many marks a page draws those without an edge in half the time.
    is_crowded = len(layers) > CROWD
    look = {"size": 5 if is_crowded else 9, "line": {"width": 0 if is_crowded else 1, "color": "#333333"}}
    figure = make_subplots(figure=Figure(), rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.08)
    for bits in sorted(set(width.values())):
        shown = [row for row in layers if width[row["name"]] == bits]
        names = [row["name"] for row in shown]
        for subplot, (values, title) in enumerate(
            [
                (np.array([row["entropy"] for row in shown], np.float64), "Ĥ %{y:.3f}"),
                (np.array([settled[name] for name in names], np.float64), "S %{y:.3f} nats"),
            ],
            start=1,
        ):
            figure.add_scatter(
                x=np.array([place[name] for name in names]),
                y=values,
                name=label_of(bits),
                legendgroup=str(bits),
                showlegend=subplot == 1,
                mode="markers",
                marker={"color": colour_of(bits), "symbol": symbol_of(bits), **look},
                customdata=np.array([[escape(row["name"]), row["role"]] for row in shown], object),
                hovertemplate="%{customdata[0]}<br>%{customdata[1]}, " + title,
                row=subplot,
                col=1,
            )
    figure.update_yaxes(title={"text": "normalised entropy Ĥ<br>of the weights (0–1)"}, row=1, col=1)
    figure.update_yaxes(title={"text": "entropy S<br>of the choice (nats)"}, rangemode="tozero", row=2, col=1)
    blocks_shown = sorted(set(blocks))
    step = -(-len(blocks_shown) // 20)
    ticks = blocks_shown[::step]
    named = ["outside" if block == OUTSIDE else str(block) for block in ticks]
    figure.update_xaxes(tickvals=ticks, ticktext=named)
    figure.update_xaxes(title={"text": "depth (block)"}, row=2, col=1)
    figure.update_layout(
        template=template, title="Entropy along depth", legend={"title": {"text": "present width"}}
    )
    return figure
