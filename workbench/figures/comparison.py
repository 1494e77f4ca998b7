"""What a plan does to a running model, measured, beside what was predicted."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
from plotly import express

from workbench.errors import ArgumentError
from workbench.figures.figure import Figure
from workbench.figures.tables import escape
from workbench.figures.widths import colour_of, label_of, symbol_of

if TYPE_CHECKING:
    from workbench.live.validation.comparison import Comparison


def predicted_against_measured(comparison: Comparison, *, template: str = "simple_white") -> go.Figure:
    """A point a layer, on two logarithmic axes; on the dashed line the prediction is what was measured.

    Parameters
    ----------
    comparison : Comparison
        Of `workbench.live.compare`. Where it measured one layer at a time, the figure is of the final output, else of
        the layers' own outputs.
    template : str
        Of plotly.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    alone = comparison.alone
    points = {
        row["layer"]: alone.get(row["layer"], (0.0, 0.0))
        if alone
        else (row["predicted"], row["measured"] or 0.0)
        for row in comparison.layers.to_pylist()
    }
    points = {name: point for name, point in points.items() if min(point) > 0}
    by_bits: dict[int, list[str]] = defaultdict(list)
    for row in comparison.layers.to_pylist():
        if row["layer"] in points:
            by_bits[row["bits"]].append(row["layer"])
    figure = Figure()
    for bits, members in sorted(by_bits.items()):
        figure.add_scatter(
            x=[points[name][0] for name in members],
            y=[points[name][1] for name in members],
            mode="markers",
            name=label_of(bits),
            marker={"color": colour_of(bits), "symbol": symbol_of(bits), "size": 9},
            customdata=[[escape(name)] for name in members],
            hovertemplate="%{customdata[0]}<br>predicted %{x:.3g}, measured %{y:.3g}<extra></extra>",
        )
    values = [value for point in points.values() for value in point]
    if values:
        ends = [min(values) / 1.5, max(values) * 1.5]
        figure.add_scatter(
            x=ends,
            y=ends,
            mode="lines",
            name="as predicted",
            line={"dash": "dash", "color": "gray"},
            hoverinfo="skip",
        )
    found = comparison.rank_correlation_alone if alone else comparison.rank_correlation
    of_what = "the final output, one layer at a time" if alone else "the layers' own outputs"
    figure.update_layout(
        template=template,
        title=f"Error of {of_what}: rank correlation {found:.3f}",
        xaxis={"title": {"text": "predicted"}, "type": "log", "exponentformat": "power"},
        yaxis={"title": {"text": "measured"}, "type": "log", "exponentformat": "power"},
    )
    return figure


def error_growth(comparison: Comparison, *, template: str = "simple_white") -> go.Figure:
    """How the error of what the model gives grows along the denoising steps, a line a run.

    Parameters
    ----------
    comparison : Comparison
    template : str

    Returns
    -------
    plotly.graph_objects.Figure
        With the final output's measured and predicted error as points at the right.
    """
    by_run: dict[int, list[dict[str, float]]] = defaultdict(list)
    for row in comparison.calls.to_pylist():
        by_run[row["run"]].append(row)
    figure = Figure()
    for run, rows in sorted(by_run.items()):
        figure.add_scatter(
            x=[row["call"] + 1 for row in rows],
            y=[row["error"] for row in rows],
            mode="lines+markers",
            name=f"run {run}",
            customdata=[[row["time"]] for row in rows],
            hovertemplate="step %{x}, time %{customdata[0]:.4g}<br>error %{y:.3g}<extra></extra>",
        )
    last = max((len(rows) for rows in by_run.values()), default=0) + 1
    for name, value, symbol in (
        ("final output, measured", comparison.error, "circle"),
        ("final output, predicted", comparison.predicted_error, "x"),
    ):
        if value > 0:
            figure.add_scatter(
                x=[last],
                y=[value],
                mode="markers",
                name=name,
                marker={"symbol": symbol, "size": 11, "color": "black"},
            )
    figure.update_layout(
        template=template,
        title="Error along the steps",
        xaxis={"title": {"text": "step"}},
        yaxis={"title": {"text": "relative error power"}, "type": "log", "exponentformat": "power"},
    )
    return figure


def error_by_group(comparison: Comparison, *, template: str = "simple_white") -> go.Figure:
    """Errors by time group: what the layers' own outputs were predicted to have and had, and what the model gave.

    Parameters
    ----------
    comparison : Comparison
    template : str

    Returns
    -------
    plotly.graph_objects.Figure
        Of the layers' own outputs the medians over the layers, of the model's output the mean over its calls.
    """
    rows = comparison.by_group().to_pylist()
    figure = Figure()
    for key, name, colour, symbol in (
        ("predicted", "layers, predicted", "#0072b2", "x"),
        ("measured", "layers, measured", "#009e73", "circle"),
        ("output", "the model's output", "black", "diamond"),
    ):
        known = [row for row in rows if row[key] is not None and row[key] > 0]
        figure.add_scatter(
            x=[row["group"] for row in known],
            y=[row[key] for row in known],
            mode="lines+markers",
            name=name,
            marker={"color": colour, "symbol": symbol, "size": 8},
            line={"color": colour},
            hovertemplate="group %{x}: %{y:.3g}<extra></extra>",
        )
    figure.update_layout(
        template=template,
        title="Error by time group",
        xaxis={"title": {"text": "time group"}, "dtick": math.ceil(len(rows) / 10)},
        yaxis={"title": {"text": "relative error power"}, "type": "log", "exponentformat": "power"},
    )
    return figure


def samples(comparison: Comparison, *, side: int = 128, template: str = "simple_white") -> go.Figure:
    """Some final outputs as images: above of the model as it was, below of the plan.

    Parameters
    ----------
    comparison : Comparison
        Whose outputs are images, [samples, 1 or 3 channels, height, width].
    side : int
        Pixels of an image's longer side, at most; of larger ones every second, third, … pixel is shown.
    template : str

    Returns
    -------
    plotly.graph_objects.Figure
        One picture, on the scale of the model's own outputs.

    Raises
    ------
    ArgumentError
        If they are no images.
    """
    if not comparison.has_images:
        raise ArgumentError(
            f"The outputs are {comparison.samples[0].shape}, which are no images of 1 or 3 channels; let `run` return "
            "images.",
            key="samples",
        )
    own = comparison.samples[0]
    step = max(math.ceil(max(own.shape[2:]) / side), 1)
    low, high = float(own.min()), float(own.max())
    rows = []
    for images in comparison.samples:
        thinned = images[:, :, ::step, ::step]
        levels = np.clip((thinned - low) / max(high - low, 1e-12) * 255, 0, 255).round().astype(np.uint8)
        colours = np.broadcast_to(levels, (len(levels), 3, *levels.shape[2:]))
        solid = np.concatenate([colours, np.full_like(colours[:, :1], 255)], axis=1)
        # Nothing for a tenth of an image at its right and below it.
        gap = max(levels.shape[-1] // 10, 1)
        padded = np.pad(solid, ((0, 0), (0, 0), (0, gap), (0, gap)))
        rows.append(padded.transpose(2, 0, 3, 1).reshape(padded.shape[2], -1, 4))
    mosaic = np.concatenate(rows)
    figure = Figure(express.imshow(mosaic, binary_string=True).data)
    figure.update_traces(hoverinfo="skip", hovertemplate=None)
    height = mosaic.shape[0] / 2
    figure.update_xaxes(visible=False)
    figure.update_yaxes(
        tickvals=[height / 2, height * 1.5], ticktext=["as it was", "the plan"],
        ticks="", showline=False, showgrid=False, autorange="reversed", scaleanchor="x", constrain="domain",
    )  # fmt: skip
    figure.update_layout(template=template, title="Final outputs", height=320, margin={"t": 50, "b": 10})
    return figure
