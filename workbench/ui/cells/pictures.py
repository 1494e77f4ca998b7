"""Small SVG pictures of a session for where nothing runs: no script, no font or file from elsewhere, any background."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from workbench.session import Session, Snapshot

WIDTH, HEIGHT = 520, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 512, 26, 190
_GRID = 2
"""Pixels within which marks of one colour are one mark: no eye tells them apart, and a picture stays small."""

CROWD = 300
"""Of more layers the marks are small."""

Points = NDArray[np.int64]
"""Pixels, [marks, 2]."""


def entropy_picture(session: Session, now: Snapshot) -> str:
    """The normalised entropy Ĥ of each layer along depth, coloured by the layer's bits; SVG."""
    from workbench.figures.widths import colour_of, label_of

    depth = session.layers["depth"].fill_null(-1).to_numpy()
    entropy = session.layers["entropy"].to_numpy().astype(np.float64)
    widths = now.present["bits"].to_numpy()
    place = np.empty(len(depth))
    place[np.argsort(depth, kind="stable")] = (np.arange(len(depth)) + 0.5) / max(len(depth), 1)
    known = np.isfinite(entropy)
    points = _pixels(place[known], entropy[known])
    size = 8 if len(points) <= CROWD else 4
    drawn = [_marks(points, "currentColor", size + 2, "opacity='.6'")]
    legend = []
    for bits in sorted(set(widths.tolist())):
        drawn.append(_marks(points[widths[known] == bits], colour_of(bits), size))
        legend.append((colour_of(bits), label_of(bits)))
    missing = int((~known).sum())
    note = f"; {missing:,} without an entropy are left out" if missing else ""
    return _picture(
        "Normalised entropy of the weights along depth, coloured by bits",
        [
            _axes(f"layers, from the first block to the last{note}", "Ĥ"),
            *(_tick_y(value, str(value)) for value in (0, 0.5, 1)),
            *drawn,
            _legend(legend),
        ],
    )


def front_picture(session: Session, now: Snapshot) -> str:
    """The front of best plans, damage over size, and the plan's place beside it; SVG."""
    found, totals, params = session.front, now.totals, max(int(session.costs.params.sum()), 1)
    damaged = found.damage > 0
    size, damage = 8 * found.nbytes[damaged] / params, found.damage[damaged]
    is_placed = totals.damage > 0
    sizes = np.append(size, totals.bpw) if is_placed else size
    damages = np.append(damage, totals.damage) if is_placed else damage
    if not len(sizes):
        return ""
    low, high = _whole_range(sizes)
    bottom, top = _whole_range(np.log10(damages))

    def across(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return (values - low) / (high - low)

    def up(values: NDArray[np.float64]) -> NDArray[np.float64]:
        powers: NDArray[np.float64] = np.log10(values)
        return (powers - bottom) / (top - bottom)

    line = _pixels(across(size), up(damage))
    steps = _line(line) if len(line) else ""
    here = ""
    if is_placed:
        ((x, y),) = _pixels(across(np.array([totals.bpw])), up(np.array([totals.damage]))).tolist()
        anchor = "end" if x > (_LEFT + _RIGHT) / 2 else "start"
        here = f"<circle cx='{x}' cy='{y}' r='7' fill='none' stroke='#d55e00' stroke-width='3'/>" + _text(
            x + (-12 if anchor == "end" else 12), y - 8, "this plan", anchor
        )
    note = "" if is_placed else " (this plan does none: it has no place on the axis)"
    step = max(1, (high - low) // 7)
    decades = range(bottom, top + 1, max(1, (top - bottom) // 5))
    return _picture(
        "Damage of the best plan of each size, and this plan",
        [
            _axes("size of the layers, bits per weight", f"damage ΣD{note}"),
            *(_tick_y((power - bottom) / (top - bottom), f"1e{power}") for power in decades),
            *(_tick_x((bits - low) / (high - low), str(bits)) for bits in range(low, high + 1, step)),
            steps,
            here,
        ],
    )


def _whole_range(values: NDArray[np.float64]) -> tuple[int, int]:
    """The whole numbers around values, never the same one."""
    return math.floor(float(values.min())), math.ceil(float(values.max()) + 0.01)


def _pixels(x: NDArray[np.float64], y: NDArray[np.float64]) -> Points:
    """Places from 0 to 1 as pixels of the picture."""
    across = _LEFT + np.round(x * (_RIGHT - _LEFT)).astype(np.int64)
    down = _BOTTOM - np.round(y * (_BOTTOM - _TOP)).astype(np.int64)
    return np.stack([across, down], axis=1)


def _marks(points: Points, colour: str, size: int, more: str = "") -> str:
    kept = np.unique(points // _GRID * _GRID, axis=0).tolist()
    path = "".join(f"M{x} {y}h0" for x, y in kept)
    return f"<path d='{path}' stroke='{colour}' stroke-width='{size}' stroke-linecap='round' {more}/>"


def _line(points: Points) -> str:
    _, first = np.unique(points[:, 0], return_index=True)
    path = "L".join(f"{x} {y}" for x, y in points[first].tolist())
    return f"<path d='M{path}' fill='none' stroke='currentColor' stroke-width='1.5' opacity='.75'/>"


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f"<text x='{x:g}' y='{y:g}' text-anchor='{anchor}'>{html.escape(text)}</text>"


def _axes(below: str, beside: str) -> str:
    frame = f"M{_LEFT} {_TOP}V{_BOTTOM}H{_RIGHT}"
    return (
        f"<path d='{frame}' fill='none' stroke='currentColor' opacity='.5'/>"
        + _text((_LEFT + _RIGHT) / 2, HEIGHT - 6, below)
        + _text(4, 12, beside, "start")
    )


def _tick_y(part: float, text: str) -> str:
    return _text(_LEFT - 6, _BOTTOM - part * (_BOTTOM - _TOP) + 4, text, "end")


def _tick_x(part: float, text: str) -> str:
    return _text(_LEFT + part * (_RIGHT - _LEFT), _BOTTOM + 16, text)


def _legend(entries: Sequence[tuple[str, str]]) -> str:
    shown, x = [], _LEFT + 40
    for colour, label in entries:
        shown.append(
            f"<circle cx='{x}' cy='8' r='4' fill='{colour}' stroke='currentColor' stroke-opacity='.6'/>"
            + _text(x + 8, 12, label, "start")
        )
        x += 24 + 6 * len(label)
    return "".join(shown)


def _picture(label: str, parts: Iterable[str]) -> str:
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' width='{WIDTH}' height='{HEIGHT}' "
        f"role='img' aria-label='{html.escape(label)}' font-family='sans-serif' font-size='11' fill='currentColor' "
        f"style='max-width:100%'>{''.join(parts)}</svg>"
    )
