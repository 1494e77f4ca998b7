"""The front: how little damage any number of bytes can do, and where the plans stand beside it."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa

from workbench.figures.figure import Figure
from workbench.figures.tables import costs_of, locks_of
from workbench.session import Session
from workbench.thermo import Constraints, trace
from workbench.thermo.costs import CostTable
from workbench.thermo.policies import ABOUT

POLICIES = {
    "uniform": ("#0072b2", "square"),
    "threshold": ("#b97a00", "diamond"),
    "sorted_greedy": ("#009e73", "triangle-up"),
    "annealing": ("#b8608f", "triangle-down"),
    "entropy_rule": ("#d55e00", "cross"),
    "solver": ("#2a8fc4", "circle"),
}
"""Colour and symbol of each policy: the palette of Okabe and Ito, made for every kind of colour vision, with the light
ones darkened so that they stand out from white too."""

CORNERS = 1000
"""Corners of the front that are drawn at most; of more, those at nearly equal distances in size."""


def front(session: Session, policies: pa.Table | None = None, *, template: str = "simple_white") -> go.Figure:
    """Damage over size: the front of best plans, other policies, and the present plan.

    Parameters
    ----------
    session : Session
    policies : pyarrow.Table, optional
        Of `Session.compare`; by default at the bytes of the present plan.
    template : str
        Of plotly.

    Returns
    -------
    plotly.graph_objects.Figure
        Σ D over bits per layer weight, both exact, of at most `CORNERS` corners. The front is that without locks;
        where there are some, theirs is the dashed one. A policy's mark hangs from a line whose foot is the solver's
        plan within the same bytes. Plans without any damage have no place on a logarithmic axis and are left out.
    """
    costs, totals = costs_of(session), session.totals
    figure = Figure()
    _add_front(figure, costs, Constraints(), "front", "solid")
    if session.locked:
        _add_front(figure, costs, locks_of(session), f"front under {len(session.locked)} locks", "dash")
    for row in (session.compare() if policies is None else policies).to_pylist():
        colour, symbol = POLICIES[row["policy"]]
        figure.add_scatter(
            x=[row["bpw"]],
            y=[row["damage"]],
            name=row["policy"],
            mode="markers",
            marker={"color": colour, "symbol": symbol, "size": 11},
            error_y={
                "array": [0.0],
                "arrayminus": [row["damage"] - row["solver_damage"]],
                "symmetric": False,
                "thickness": 1,
                "width": 0,
            },
            customdata=[[row["nbytes"] / 1e6, row["solver_damage"], ABOUT[row["policy"]]]],
            hovertemplate="%{customdata[2]}<br>%{x:.3f} bits a weight, %{customdata[0]:,.3f} MB of layers<br>"
            "ΣD %{y:.4g}; the solver within these bytes: %{customdata[1]:.4g}",
        )
    figure.add_scatter(
        x=[totals.bpw],
        y=[totals.damage],
        name="you are here",
        mode="markers+text",
        text=["you are here"],
        textposition="top right",
        cliponaxis=False,
        marker={"color": "black", "symbol": "circle-open", "size": 24, "line": {"width": 2}},
        customdata=[[totals.nbytes / 1e6, totals.gap]],
        hovertemplate="%{x:.3f} bits a weight, payload %{customdata[0]:,.3f} MB<br>ΣD %{y:.4g}, "
        "gap at most %{customdata[1]:.2%}",
    )
    figure.update_layout(
        template=template,
        title="The front of best plans",
        xaxis={"title": {"text": "size of the layers (bits per weight)"}},
        yaxis={
            "title": {"text": "damage ΣD (sum over the layers)"},
            "type": "log",
            "dtick": 1,
            "exponentformat": "power",
        },
    )
    return figure


def _add_front(figure: go.Figure, costs: CostTable, constraints: Constraints, name: str, dash: str) -> None:
    found = trace(costs, constraints)
    damaged = np.flatnonzero(found.damage > 0)
    if len(damaged) > CORNERS:
        sizes = found.nbytes[damaged]
        wanted = np.linspace(sizes[0], sizes[-1], CORNERS)
        damaged = damaged[np.unique(np.searchsorted(sizes, wanted))]
    figure.add_scatter(
        x=8 * found.nbytes[damaged] / max(int(costs.params.sum()), 1),
        y=found.damage[damaged],
        name=name,
        mode="lines",
        line={"color": "#555555", "dash": dash, "width": 2},
        customdata=found.nbytes[damaged] / 1e6,
        hovertemplate="%{x:.3f} bits a weight, %{customdata:,.3f} MB of layers<br>ΣD %{y:.4g}",
    )
