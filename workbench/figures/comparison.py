"""What a plan does to a running model, measured, beside what was predicted."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.errors import ConfigurationError
from workbench.figures.tables import escape
from workbench.figures.widths import colour_of, label_of, symbol_of

if TYPE_CHECKING:
    from workbench.live.comparison import Comparison


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
    suffix = "_alone" if comparison.is_alone else ""
    rows = [
        row
        for row in comparison.layers.to_pylist()
        if row[f"predicted{suffix}"] > 0 and (row[f"measured{suffix}"] or 0) > 0
    ]
    by_bits: dict[int, list[dict[str, float]]] = defaultdict(list)
    for row in rows:
        by_bits[row["bits"]].append(row)
    figure = go.Figure()
    for bits, members in sorted(by_bits.items()):
        figure.add_scatter(
            x=[row[f"predicted{suffix}"] for row in members],
            y=[row[f"measured{suffix}"] for row in members],
            mode="markers",
            name=label_of(bits),
            marker={"color": colour_of(bits), "symbol": symbol_of(bits), "size": 9},
            customdata=[[escape(str(row["layer"]))] for row in members],
            hovertemplate="%{customdata[0]}<br>predicted %{x:.3g}, measured %{y:.3g}<extra></extra>",
        )
    values = [row[key + suffix] for row in rows for key in ("predicted", "measured")]
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
    found = comparison.rank_correlation_alone if comparison.is_alone else comparison.rank_correlation
    of_what = "the final output, one layer at a time" if comparison.is_alone else "the layers' own outputs"
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
    figure = go.Figure()
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


def samples(comparison: Comparison, *, template: str = "simple_white") -> go.Figure:
    """Some final outputs as images: above of the model as it was, below of the plan.

    Parameters
    ----------
    comparison : Comparison
        Whose outputs are images, [samples, 1 or 3 channels, height, width].
    template : str

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    ConfigurationError
        If they are no images.
    """
    own, plan = comparison.samples
    if own.ndim != 4 or own.shape[1] not in (1, 3):
        raise ConfigurationError(
            f"The outputs are {own.shape}, which are no images of 1 or 3 channels; let `run` return images.",
            key="samples",
        )
    low, high = float(own.min()), float(own.max())
    figure = make_subplots(
        2, len(own), row_titles=["as it was", "the plan"], horizontal_spacing=0.01, vertical_spacing=0.02
    )
    for row, images in enumerate((own, plan), start=1):
        for col, image in enumerate(images, start=1):
            levels = np.clip((image - low) / max(high - low, 1e-12) * 255, 0, 255).astype(np.uint8)
            pixels = np.broadcast_to(levels, (3, *levels.shape[1:])).transpose(1, 2, 0)
            figure.add_image(z=pixels, row=row, col=col, hoverinfo="skip")
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    figure.update_layout(template=template, title="Final outputs", height=320, margin={"t": 50, "b": 10})
    return figure
