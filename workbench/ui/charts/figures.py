"""The figures of the panel, as plotly's JSON: those beside the table, and those of the chosen layer below it."""

from __future__ import annotations

from typing import Any

from workbench import figures
from workbench.errors import ConfigurationError
from workbench.session import Session

HEIGHT = 320
"""Pixels of a figure beside the table."""

QUICK = ("uniform", "threshold", "sorted_greedy", "entropy_rule")
"""Policies whose marks the front shows; annealing takes too long to follow every edit."""


def overview(session: Session) -> dict[str, str]:
    """The figures of all layers: ``front``, ``depth`` (entropies along it) and ``heat`` (a map of the layers)."""
    try:
        policies = session.compare(only=QUICK)
    except ConfigurationError:  # no uniform plan is as small as this one
        policies = session.compare(only=[name for name in QUICK if name != "uniform"])
    draw = figures.option_costs if session.time_aware is None else figures.damage_over_time
    heat = draw(session)
    # The names are under the pointer, and in the table.
    heat.update_yaxes(tickvals=[], ticktext=[], automargin=False, title={"text": "layers"})
    size = HEIGHT / max(len(session.layers), 1)
    mark: dict[str, Any] = {"size": min(7.0, size), "line": {"width": min(7.0, size) / 6}}
    if size < 3:  # no room for an edge, which would also take long to draw so often
        mark = {"size": 3, "symbol": "square", "color": "#d55e00", "line": {"width": 0}}
    heat.update_traces(marker=mark, selector={"type": "scatter"})
    front = figures.front(session, policies)
    # The legend says what the mark is; beside it there is no room for a text.
    front.update_traces(mode="markers", selector={"mode": "markers+text"})
    return {
        "front": spec(front),
        "depth": spec(figures.entropy_along_depth(session)),
        "heat": spec(heat),
    }


def closeup(session: Session, layer: str) -> dict[str, str]:
    """A layer from close by: its name as ``layer``, ``text`` about it, and the figures ``weights`` and ``channels``.

    With a calibration that has a record of the layer also ``time``, its input's range over denoising time.
    """
    detail = session.detail(layer)
    option = detail.option
    stored = (
        "kept as it is"
        if option.is_kept
        else f"{option.bits} bits, {option.scheme}, groups of {option.group_size}"
    )
    found = {
        "layer": layer,
        "text": f"{stored}, {detail.rows:,} rows looked at",
        "weights": spec(figures.weight_levels(detail)),
        "channels": spec(figures.error_by_channel(detail)),
    }
    time_aware = session.time_aware
    if time_aware and detail.layer.kind != "embedding" and layer in time_aware.records.layers:
        found["time"] = spec(figures.range_over_time(time_aware, layer))
    return found


def spec(figure: figures.Figure) -> str:
    """A figure as JSON; its own size, margins and title give way to the panel's."""
    figure.update_layout(
        height=None, width=None, title=None, template="none", margin={"l": 44, "r": 8, "t": 8, "b": 40},
        legend={"orientation": "h", "x": 0, "y": 1.01, "yanchor": "bottom", "title": None},
    )  # fmt: skip
    figure.update_xaxes(automargin=True, title={"standoff": 6})
    figure.update_yaxes(automargin=True, title={"standoff": 4, "font": {"size": 10}})
    return figure.to_display_json()
