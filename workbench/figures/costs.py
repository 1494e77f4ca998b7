"""What each width costs each layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
import pyarrow.compute as pc
from numpy.typing import NDArray

from workbench.figures.figure import Figure
from workbench.figures.tables import escape, layer_axis, layers_by_depth
from workbench.plan import KEEP
from workbench.session import Session


def option_costs(session: Session, *, template: str = "simple_white") -> go.Figure:
    """The damage of every layer at every width, and the width that it has in the present plan.

    Parameters
    ----------
    session : Session
    template : str
        Of plotly.

    Returns
    -------
    plotly.graph_objects.Figure
        A heat map, layers × nominal bits, of the damage's decimal logarithm. Of several options of a width the one
        of least damage counts, and of equal ones that of fewest bytes; the dots are the present plan's widths, none
        where the layer is kept.
    """
    layers, now = layers_by_depth(session), session.snapshot
    names = np.array([escape(row["name"]) for row in layers], object)
    widths, damage, text = _best(session, [row["name"] for row in layers])
    with np.errstate(divide="ignore"):
        logs = np.log10(damage)
    figure = Figure()
    figure.add_heatmap(
        x=[str(bits) for bits in widths],
        y=names,
        z=np.where(np.isfinite(logs), logs, np.nan),
        text=text,
        colorscale="Cividis",
        colorbar={"title": {"text": "log₁₀ D"}},
        hovertemplate="%{y}<br>%{x} bits: %{text}<extra></extra>",
    )
    bits, schemes = (
        dict(zip(now.present["name"].to_pylist(), now.present[column].to_pylist(), strict=True))
        for column in ("bits", "scheme")
    )
    quantized = [row["name"] for row in layers if schemes[row["name"]] != KEEP]
    figure.add_scatter(
        x=np.array([str(bits[name]) for name in quantized], object),
        y=np.array([escape(name) for name in quantized], object),
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


def _best(
    session: Session, names: Sequence[str]
) -> tuple[list[int], NDArray[np.float64], NDArray[np.object_]]:
    """The best option of each layer at each width.

    Returns
    -------
    widths : list of int
        Those that occur, rising.
    damage : float64 [layers, widths]
        NaN where there is no such option.
    text : object [layers, widths]
        The option in words.
    """
    option_table = session.options
    option_table = option_table.filter(pc.not_equal(option_table["scheme"], KEEP))
    row_of = {name: row for row, name in enumerate(names)}
    coded = option_table["layer"].combine_chunks().dictionary_encode()
    row = np.array([row_of[name] for name in coded.dictionary.to_pylist()], np.int64)[
        coded.indices.to_numpy()
    ]
    bits, errors, nbytes = (option_table[column].to_numpy() for column in ("bits", "damage", "nbytes"))
    widths, column = np.unique(bits, return_inverse=True)
    cell = row * len(widths) + column
    order = np.lexsort((nbytes, errors, cell))
    cells, first = np.unique(cell[order], return_index=True)
    found = order[first]
    damage = np.full(len(names) * len(widths), np.nan)
    damage[cells] = errors[found]
    text = np.full(len(damage), "no such option", object)
    best = option_table.take(found)
    columns = (best[name].to_pylist() for name in ("damage", "nbytes", "scheme", "group_size"))
    text[cells] = [
        f"damage {error:.3g}, {nbytes:,} bytes ({scheme}, groups of {group})"
        for error, nbytes, scheme, group in zip(*columns, strict=True)
    ]
    shape = len(names), len(widths)
    return widths.tolist(), damage.reshape(shape), text.reshape(shape)
