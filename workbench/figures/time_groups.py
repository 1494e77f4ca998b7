"""Denoising time: how the layers' inputs change along it, and where in it the damage is done."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from workbench.calibration import TimeAwareQuantizer, second_moments
from workbench.figures.figure import Figure
from workbench.figures.tables import escape, shortened
from workbench.layer_names import natural_order
from workbench.session import Session

MOST_ROWS = 1600
"""Height of a heat map in pixels, at most."""


def activation_levels(time_aware: TimeAwareQuantizer, *, template: str = "simple_white") -> go.Figure:
    """How loud every layer's input is in each time group, against its own mean over the groups.

    Parameters
    ----------
    time_aware : TimeAwareQuantizer
    template : str
        Of plotly.

    Returns
    -------
    plotly.graph_objects.Figure
        A heat map, layers × time groups, of log2(v̄_g / geometric mean of v̄): 1 is twice the layer's usual second
        moment. Its variance along a row, in natural logarithms, is the heterogeneity V.
    """
    names, levels = second_moments(time_aware.records, time_aware.groups)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log2(levels)
    logs[~np.isfinite(logs)] = np.nan
    centred = logs - np.nanmean(logs, axis=1, keepdims=True) if logs.size else logs
    extent = float(np.nanmax(np.abs(centred), initial=0.0)) or 1.0
    return _heat_map(
        time_aware, names, centred, f"Second moment of the input by {time_aware.records.time}",
        colorscale="RdBu_r", zmin=-extent, zmax=extent,
        colorbar={"title": {"text": "log₂ of the level<br>against the layer's mean"}},
        hovertemplate="%{y}<br>%{x}: 2^%{z:.2f} of the usual level<extra></extra>", template=template,
    )  # fmt: skip


def damage_over_time(session: Session, *, template: str = "simple_white") -> go.Figure:
    """Where in denoising time the present plan does its damage.

    Parameters
    ----------
    session : Session
        With a calibration.
    template : str
        Of plotly.

    Returns
    -------
    plotly.graph_objects.Figure
        A heat map, layers × time groups, of the decimal logarithm of what a group adds to the layer's D.

    Raises
    ------
    ArgumentError
        If the session has no calibration.
    """
    damage, time_aware = session.damage_by_group, session.time_aware
    assert time_aware is not None  # else there would be no damage by group
    names = session.layers["name"].to_pylist()
    with np.errstate(divide="ignore"):
        logs = np.log10(damage)
    logs[~np.isfinite(logs)] = np.nan
    return _heat_map(
        time_aware, names, logs, f"Damage by {time_aware.records.time}",
        colorscale="Cividis", colorbar={"title": {"text": "log₁₀ of D<br>in the group"}},
        hovertemplate="%{y}<br>%{x}: 10^%{z:.2f}<extra></extra>", template=template,
    )  # fmt: skip


def range_over_time(
    time_aware: TimeAwareQuantizer, layer: str, *, smoothing: float = 0.0, template: str = "simple_white"
) -> go.Figure:
    """One layer's input along denoising time: its extremes, its spread, and what the 8-bit tables cover.

    Parameters
    ----------
    time_aware : TimeAwareQuantizer
    layer : str
    smoothing : float
        As for `TimeAwareQuantizer.ranges`.
    template : str
        Of plotly.

    Returns
    -------
    plotly.graph_objects.Figure
        Bands from least to greatest value and of mean ± σ over the steps; the range of each time group as steps, with
        its borders.

    Raises
    ------
    ValidationError
        If the layer has no record.
    """
    records, groups = time_aware.records, time_aware.groups
    steps = records.layer(layer).steps
    seen = steps.count > 0
    times = records.steps.mean(axis=1)[seen]
    sigma = np.sqrt(steps.variance[seen])
    figure = Figure()
    for name, low, high, colour in (
        ("least to greatest", steps.minimum[seen], steps.maximum[seen], "rgba(0, 114, 178, 0.3)"),
        ("mean ± σ", steps.mean[seen] - sigma, steps.mean[seen] + sigma, "rgba(0, 114, 178, 0.65)"),
    ):
        figure.add_scatter(
            x=[*times, *times[::-1]], y=[*high, *low[::-1]],
            name=name, fill="toself", fillcolor=colour, line={"width": 0}, mode="lines", hoverinfo="skip",
        )  # fmt: skip
    figure.add_scatter(
        x=times, y=steps.absmax_p999[seen],
        name="99.9 % of |x| below", mode="lines", line={"color": "#009e73", "dash": "dot"},
        hovertemplate="%{x:.4g}: %{y:.4g}",
    )  # fmt: skip
    borders = np.array(
        [records.steps[0, 0], *(groups.ranges[1:, 0] + groups.ranges[:-1, 1]) / 2, records.steps[-1, 1]]
    )
    ranges = time_aware.ranges(layer, smoothing)
    for place, side in enumerate(("least", "greatest")):
        figure.add_scatter(
            x=borders, y=[*ranges[:, place], ranges[-1, place]],
            name=f"8-bit table: {side}", mode="lines", line={"color": "#d55e00", "shape": "hv", "width": 2},
            hovertemplate="%{x:.4g}: %{y:.4g}",
        )  # fmt: skip
    for border in borders[1:-1]:
        figure.add_vline(x=float(border), line={"color": "#999999", "width": 1, "dash": "dash"})
    figure.update_layout(
        template=template,
        title=f"Input of {escape(layer)} over denoising time",
        xaxis={"title": {"text": records.time}, "autorange": "reversed"},
        yaxis={"title": {"text": "value"}},
    )
    return figure


def _heat_map(
    time_aware: TimeAwareQuantizer,
    names: Sequence[str],
    values: NDArray[np.float64],
    title: str,
    *,
    template: str,
    **heat: object,
) -> go.Figure:
    order = natural_order(names)
    names, values = [names[row] for row in order], values[order]
    figure = Figure()
    figure.add_heatmap(
        x=group_labels(time_aware),
        y=[escape(name) for name in names],
        z=values,
        **heat,
    )
    ticks = [escape(name) for name in names]
    figure.update_layout(
        template=template,
        title=title,
        height=max(400, min(160 + 15 * len(names), MOST_ROWS)),
        # Denoising runs from much noise to little: so does the axis.
        xaxis={"title": {"text": time_aware.records.time}, "type": "category", "autorange": "reversed"},
        yaxis={
            "type": "category", "autorange": "reversed", "automargin": True,
            "tickvals": ticks, "ticktext": [escape(shortened(name, None)) for name in names],
        },
    )  # fmt: skip
    return figure


def group_labels(time_aware: TimeAwareQuantizer) -> list[str]:
    """The times of each group as text, such as ``"51–201"``."""
    return [
        f"{low:.4g}" if low == high else f"{low:.4g}–{high:.4g}"
        for low, high in time_aware.groups.ranges.tolist()
    ]
