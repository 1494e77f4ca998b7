"""What the figures read from a session: its layers from end to end, their costs and its locks."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from workbench.layer_names import natural_order
from workbench.session import Session
from workbench.thermo import Constraints, CostTable, options_of

NAMED = 60
"""Layers whose names are written beside an axis, at most."""

LENGTH = 32
"""Letters of such a name, at most."""


def layers_by_depth(session: Session) -> list[dict[str, Any]]:
    """The rows of `Session.layers`: those outside the blocks first, then block by block, 2 before 10 in each."""
    layers = session.layers
    rows: list[dict[str, Any]] = layers.take(natural_order(layers["name"].to_pylist())).to_pylist()
    return sorted(rows, key=lambda row: -1 if row["depth"] is None else row["depth"])


def layer_axis(layers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Settings of a vertical axis of layer names, the first on top; at most `NAMED` of them are written."""
    ticks = layers[:: -(-len(layers) // NAMED) or 1]
    return {
        "title": {"text": "layer (block: name in it)"},
        "type": "category",
        "range": [len(layers) - 0.5, -0.5],
        "automargin": True,
        "tickvals": [escape(row["name"]) for row in ticks],
        "ticktext": [escape(shortened(row["name"], row["depth"])) for row in ticks],
    }


def shortened(name: str, depth: int | None) -> str:
    """A layer's name as it stands beside an axis: within its block, and at most `LENGTH` letters of it."""
    within = name.removesuffix(".weight")
    if depth is not None:
        within = within.split(f".{depth}.", 1)[-1]
    tail = within
    while len(tail) >= LENGTH and "." in tail:  # whole parts go, from the front
        tail = tail.partition(".")[2]
    if tail != within:
        tail = f"…{tail}"
    return tail if depth is None else f"{depth}: {tail}"


def costs_of(session: Session) -> CostTable:
    """Bytes and damage of every option of every layer."""
    return session.costs


def locks_of(session: Session) -> Constraints:
    """The session's locks, as places in `costs_of`."""
    plan, options = session.plan, options_of(session.options)
    return Constraints(
        locks=[
            found.index(plan.choices[name]) if name in plan.locks else -1 for name, found in options.items()
        ]
    )


def escape(name: str) -> str:
    """A checkpoint's text for plotly, which reads some HTML, links among it."""
    return html.escape(name, quote=False)
