"""A session as a table, where no widget runs."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence

import numpy as np

from workbench.layer_names import natural_order
from workbench.session.state import State

SHOWN = 40
"""Layers shown at most: of more, those with the most damage under the plan."""

_HEADINGS = ("layer", "role", "shape", "weights", "Ĥ", "bits", "scheme", "bpw", "damage", "")


def _rows(state: State) -> list[Sequence[str]]:
    """The layers by name, block 2 before block 10; of many, those with the most damage, worst first."""
    measured = state.measurements
    damage = measured.option_table["damage"].to_numpy()[state.option_rows]
    shown = (
        natural_order([layer.name for layer in measured.layers])
        if len(damage) <= SHOWN
        else np.argsort(-damage, kind="stable")[:SHOWN].tolist()
    )
    layers = measured.profile.take(shown).to_pylist()
    rows: list[Sequence[str]] = []
    for row, layer in zip(shown, layers, strict=True):
        option = state.option(row)
        entropy = layer["entropy"]
        rows.append(
            (
                layer["name"],
                layer["role"],
                "×".join(map(str, layer["shape"])),
                f"{layer['params']:,}",
                "" if entropy is None else f"{entropy:.3f}",
                str(option.bits),
                option.scheme if option.is_kept else f"{option.scheme} g{option.group_size}",
                f"{8 * option.nbytes / layer['params']:.3f}",
                f"{damage[row]:.2e}",
                "locked" if row in state.locks else "",
            )
        )
    return rows


def _caption(state: State) -> str:
    measured, totals = state.measurements, state.totals
    return (
        f"{measured.checkpoint.path.name} → {measured.target.name}: {totals.nbytes / 1e6:,.3f} MB "
        f"({totals.ratio:.2f}× smaller), {totals.bpw:.3f} bits a weight, ΣD {totals.damage:.4g}, "
        f"at most {totals.gap:.2%} from the best plan of these bytes"
    )


def _widths(state: State) -> str:
    """How many layers have which width, all layers counted."""
    options = [state.option(row) for row in range(len(state.choice))]
    counts = Counter("kept" if option.is_kept else f"{option.bits} bits" for option in options)
    parts = (f"{name}: {count:,}" for name, count in sorted(counts.items()))
    return f"{len(options):,} layers, {', '.join(parts)}"


def _rest(state: State) -> str:
    hidden = len(state.choice) - SHOWN
    return (
        f"The {SHOWN} layers with the most damage are shown, {hidden:,} more are not." if hidden > 0 else ""
    )


def text_table(state: State) -> str:
    """The session in plain text."""
    rows = [_HEADINGS, *_rows(state)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join(filter(None, [_caption(state), _widths(state), *lines, _rest(state)]))


def html_table(state: State) -> str:
    """The session as an HTML table; every text of the checkpoint is escaped."""

    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line(row, "td") for row in _rows(state))
    return (
        f"<p>{html.escape(_caption(state))}<br>{_widths(state)}</p>"
        f"<table><thead>{line(_HEADINGS, 'th')}</thead><tbody>{body}</tbody></table>"
        + (f"<p>{_rest(state)}</p>" if _rest(state) else "")
    )
