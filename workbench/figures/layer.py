"""One layer from close by: its weights and their codes, and where along its channels it errs."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from workbench.figures.figure import Figure
from workbench.figures.tables import escape
from workbench.session import LayerDetail


def weight_levels(detail: LayerDetail, *, template: str = "simple_white") -> go.Figure:
    """The histogram of a layer's weights, and of what its present option makes of them.

    Parameters
    ----------
    detail : LayerDetail
        Of `Session.detail`.
    template : str
        Of plotly.

    Returns
    -------
    plotly.graph_objects.Figure
        Shares of the weights by value; the ticks below are the levels of one group's codes.
    """
    middles = (detail.edges[:-1] + detail.edges[1:]) / 2
    figure = Figure()
    figure.add_bar(
        x=middles, y=detail.weights, name="weights", marker={"color": "#0072b2"}, opacity=0.7,
        hovertemplate="%{x:.4g}: %{y:.2%}",
    )  # fmt: skip
    figure.add_scatter(
        x=middles, y=detail.decoded, name="decoded", mode="lines",
        line={"color": "#d55e00", "width": 1.5, "shape": "hvh"}, hovertemplate="%{x:.4g}: %{y:.2%}",
    )  # fmt: skip
    figure.add_scatter(
        x=detail.levels, y=np.zeros(len(detail.levels)), name="levels of a group", mode="markers",
        marker={"symbol": "line-ns-open", "size": 10, "color": "#d55e00"}, hovertemplate="level %{x:.4g}",
    )  # fmt: skip
    figure.update_layout(
        template=template, title=f"Weights of {escape(detail.layer.name)}", bargap=0,
        xaxis={"title": {"text": "weight"}}, yaxis={"title": {"text": "share"}, "tickformat": "~%"},
    )  # fmt: skip
    return figure


def error_by_channel(detail: LayerDetail, *, template: str = "simple_white") -> go.Figure:
    """The relative error of a layer's weights along its input channels.

    Parameters
    ----------
    detail : LayerDetail
        Of `Session.detail`.
    template : str
        Of plotly.

    Returns
    -------
    plotly.graph_objects.Figure
        ‖ΔW_:j‖² / ‖W_:j‖² by channel.
    """
    figure = Figure()
    figure.add_scatter(
        x=detail.channels, y=detail.channel_error, name="error", mode="lines",
        line={"color": "#0072b2", "width": 1}, hovertemplate="channel %{x}: NSR %{y:.3g}",
    )  # fmt: skip
    figure.update_layout(
        template=template, title=f"Error along the channels of {escape(detail.layer.name)}",
        xaxis={"title": {"text": "input channel"}},
        yaxis={"title": {"text": "NSR"}, "rangemode": "tozero", "exponentformat": "power"},
    )  # fmt: skip
    return figure
