"""What the best plan does as the price of a bit rises."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.figures.figure import Figure
from workbench.figures.tables import costs_of, escape, layer_axis, layers_by_depth, locks_of
from workbench.figures.widths import colour_scale
from workbench.session import Session
from workbench.thermo import Front, trace
from workbench.thermo.costs import FloatArray


def temperature_sweep(
    session: Session, temperatures: Sequence[float] | None = None, *, template: str = "simple_white"
) -> go.Figure:
    """The bits of every layer in the best plan, as the temperature T rises; locked layers stay.

    Parameters
    ----------
    session : Session
    temperatures : sequence of float, optional
        In damage per bit, each above 0; by default 80 in equal ratios over the range where widths change.
    template : str
        Of plotly.

    Returns
    -------
    plotly.graph_objects.Figure
        Above the bits per weight of the whole plan, below a heat map, layers × temperatures, of nominal bits.
        The vertical line is the temperature of the present plan.

    Raises
    ------
    ValueError
        If a temperature is not above 0.
    """
    costs = costs_of(session)
    found = trace(costs, locks_of(session))
    asked = _range(found) if temperatures is None else np.sort(np.asarray(temperatures, np.float64))
    if not (asked > 0).all():
        raise ValueError("Temperatures on a logarithmic axis must be above 0.")
    corners = [found.corner_at(temperature) for temperature in asked.tolist()]
    bits = np.array([costs.bits[np.arange(len(costs)), found.choice_at(corner)] for corner in corners])
    widths, places = np.unique(bits, return_inverse=True)
    row_of = {name: row for row, name in enumerate(costs.names)}
    layers = layers_by_depth(session)
    order = [row_of[row["name"]] for row in layers]
    # A heat map's cells are even only on a linear axis, so its exponents are drawn.
    exponents = np.log10(asked)
    figure = make_subplots(
        figure=Figure(), rows=2, cols=1, shared_xaxes=True, row_heights=[0.2, 0.8], vertical_spacing=0.03
    )
    figure.add_scatter(
        x=exponents.tolist(),
        y=[costs.bpw(int(found.nbytes[corner])) for corner in corners],
        name="bits per weight",
        mode="lines",
        line={"color": "#555555", "shape": "hv"},
        showlegend=False,
        customdata=np.column_stack([asked, found.damage[corners]]).tolist(),
        hovertemplate="T %{customdata[0]:.3g}: %{y:.3f} bits a weight, ΣD %{customdata[1]:.4g}<extra></extra>",
        row=1,
        col=1,
    )
    figure.add_heatmap(
        x=exponents.tolist(),
        y=[escape(row["name"]) for row in layers],
        z=places.reshape(bits.shape).T[order].tolist(),
        customdata=bits.T[order].tolist(),
        hovertemplate="%{y}<br>T 10<sup>%{x:.2f}</sup>: %{customdata} bits<extra></extra>",
        **colour_scale(widths.tolist()),
        row=2,
        col=1,
    )
    now = session.totals.temperature
    if 0 < now < np.inf:
        figure.add_vline(np.log10(now), opacity=1, line={"color": "#d55e00", "dash": "dot", "width": 2})
    decades = np.arange(np.ceil(exponents.min()), np.floor(exponents.max()) + 1).astype(int).tolist()
    figure.update_xaxes(tickvals=decades, ticktext=[f"10<sup>{power}</sup>" for power in decades])
    figure.update_xaxes(title={"text": "temperature T (damage per bit)"}, row=2, col=1)
    figure.update_yaxes(title={"text": "bits per weight"}, rangemode="tozero", row=1, col=1)
    figure.update_yaxes(layer_axis(layers), row=2, col=1)
    figure.update_layout(
        template=template,
        title="What the best plan does as the temperature rises",
        height=max(500, min(260 + 15 * len(layers), 1700)),
    )
    return figure


def _range(found: Front) -> FloatArray:
    """From below the coldest to above the hottest step; any range where no step is."""
    steps = found.temperature[found.temperature > 0]
    if not steps.size:
        return np.array([1.0])
    return np.geomspace(float(steps[-1]) / 2, float(steps[0]) * 2, 80)
