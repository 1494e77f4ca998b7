"""The pictures of the concept pages, drawn from what the workbench measures on `zoo:digits-dit`.

    python docs/images/draw_concepts.py docs/images

Two are the panel's own (`workbench.ui.cells.pictures`); the others are drawn here from the tables of a session.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

import workbench as wb
from workbench import thermo
from workbench.figures.widths import colour_of, label_of
from workbench.session import Session
from workbench.thermo import hull
from workbench.ui.cells.pictures import entropy_picture, front_picture

MODEL = "zoo:digits-dit"
MLP_OUT = "transformer_blocks.1.ff.net.2.weight"
INK, QUIET, GRID, PAPER = "#1f2328", "#59636e", "#d8dee4", "#ffffff"
BLUE, ORANGE, GREEN = "#157bca", "#d55e00", "#11964f"
WIDTH, LEFT, RIGHT, TOP = 560, 64, 16, 40

Parts = list[str]


class Axes:
    """A plot's frame: places of values, and the parts drawn so far."""

    def __init__(
        self, title: str, x: tuple[float, float], y: tuple[float, float], height: int = 250, left: int = LEFT
    ) -> None:
        self.title, self.x, self.y, self.height, self.left = title, x, y, height, left
        self.bottom = height - 44
        self.parts: Parts = []

    def at(self, x: float, y: float) -> tuple[int, int]:
        """The pixel of a pair of values."""
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return (
            round(self.left + across * (WIDTH - RIGHT - self.left)),
            round(self.bottom - up * (self.bottom - TOP)),
        )

    def ticks_x(self, ticks: Mapping[float, str], name: str) -> None:
        """Grid lines and numbers along the bottom, and what they are."""
        for value, label in ticks.items():
            px, _ = self.at(value, self.y[0])
            self.parts.append(f'<path d="M{px} {TOP}V{self.bottom}" stroke="{GRID}"/>')
            self.parts.append(text(px, self.bottom + 15, label, "middle", QUIET))
        self.parts.append(text((self.left + WIDTH - RIGHT) // 2, self.height - 8, name, "middle", INK))

    def ticks_y(self, ticks: Mapping[float, str], name: str) -> None:
        """Grid lines and numbers along the left side, and what they are."""
        for value, label in ticks.items():
            _, py = self.at(self.x[0], value)
            self.parts.append(f'<path d="M{self.left} {py}H{WIDTH - RIGHT}" stroke="{GRID}"/>')
            self.parts.append(text(self.left - 6, py + 4, label, "end", QUIET))
        self.parts.append(text(8, TOP - 6, name, "start", INK))

    def line(self, points: Iterable[tuple[float, float]], colour: str, dash: str = "") -> None:
        """A line through values."""
        path = "L".join("{} {}".format(*self.at(*point)) for point in points)
        more = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"{more}/>')

    def dot(self, x: float, y: float, colour: str, size: int = 5, is_filled: bool = True) -> None:
        """A mark at a pair of values."""
        px, py = self.at(x, y)
        fill = colour if is_filled else PAPER
        self.parts.append(
            f'<circle cx="{px}" cy="{py}" r="{size}" fill="{fill}" stroke="{colour}" stroke-width="1.5"/>'
        )

    def note(self, x: float, y: float, words: str, anchor: str = "start", colour: str = INK) -> None:
        """Words beside a pair of values."""
        px, py = self.at(x, y)
        self.parts.append(text(px, py, words, anchor, colour))

    def svg(self) -> str:
        """The picture."""
        return picture(self.title, self.parts, self.height)


def text(x: float, y: float, words: str, anchor: str, colour: str) -> str:
    """Words at a pixel."""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{colour}">{escape(words)}</text>'


def picture(title: str, parts: Sequence[str], height: int) -> str:
    """An SVG file on white paper, readable in a light and a dark page."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
            f'role="img" aria-label="{escape(title)}" font-family="system-ui, sans-serif" font-size="11">',
            f'<rect width="{WIDTH}" height="{height}" rx="6" fill="{PAPER}"/>',
            f'<text x="8" y="18" font-size="13" font-weight="600" fill="{INK}">{escape(title)}</text>',
            *parts,
            "</svg>\n",
        ]
    )


def of_panel(svg: str) -> str:
    """A picture of the panel as a file: on white paper, in the colours of a light page."""
    svg = svg.replace("currentColor", INK)
    head, _, rest = svg.partition(">")
    return f"{head}><rect width='100%' height='100%' fill='{PAPER}'/>{rest}\n"


def options_and_hull(session: Session) -> str:
    """Damage over bytes of one layer's options, and the lower convex hull."""
    row = session.layers["name"].to_pylist().index(MLP_OUT)
    costs = session.costs
    places = [
        place for place in np.flatnonzero(costs.legal[row]).tolist() if 3 <= costs.bits[row, place] <= 5
    ]
    kilobytes = costs.nbytes[row, places] / 1e3
    damage = costs.damage[row, places]
    top = 1.1 * float(damage.max())
    axes = Axes("The options of one layer: those on the hull are worth taking", (100, 205), (0, top))
    axes.ticks_x({value: str(value) for value in range(100, 201, 20)}, "bytes of the layer in the file, kB")
    step = 10.0 ** math.floor(math.log10(top))
    axes.ticks_y({step * k: f"{step * k:.0e}" for k in range(int(top / step) + 1)}, "damage D")
    corners = hull(costs.nbytes[row, places].tolist(), damage.tolist())
    axes.line([(kilobytes[corner], damage[corner]) for corner in corners], INK)
    for place, size, cost in zip(places, kilobytes, damage, strict=True):
        is_corner = places.index(place) in corners
        axes.dot(size, cost, colour_of(int(costs.bits[row, place])), is_filled=is_corner)
    for turn, bits in enumerate((3, 4, 5)):
        axes.dot(170, top * (0.93 - 0.09 * turn), colour_of(bits))
        axes.note(173, top * (0.915 - 0.09 * turn), label_of(bits))
    axes.note(168, top * 0.64, "hollow: above the hull", colour=QUIET)
    return axes.svg()


def width_by_temperature(session: Session) -> str:
    """Bits a weight of four layers as the temperature rises."""
    shown = {
        "proj_out_2.weight": (ORANGE, "head"),
        "transformer_blocks.1.attn1.to_v.weight": (GREEN, "attention v"),
        MLP_OUT: (BLUE, "MLP out"),
        "transformer_blocks.1.norm1.linear.weight": ("#b32dc0", "adaLN"),
    }
    names = session.layers["name"].to_pylist()
    front, costs = session.front, session.costs
    powers = np.linspace(-12, -7, 201)
    axes = Axes("A hotter plan gives up bits, layer by layer", (-12, -7), (0, 10), left=44)
    axes.ticks_x({power: f"1e{power}" for power in range(-12, -6)}, "temperature T, damage given up a bit")
    axes.ticks_y({bits: str(bits) for bits in range(0, 10, 2)}, "bits a weight")
    choices = [front.choice_at(front.corner_at(10.0**power)) for power in powers]
    for name, (colour, _) in shown.items():
        row = names.index(name)
        width = [8 * int(costs.nbytes[row, choice[row]]) / int(costs.params[row]) for choice in choices]
        axes.line(zip(powers.tolist(), np.minimum(width, 10).tolist(), strict=True), colour)
    now = math.log10(session.totals.temperature)
    axes.line([(now, 0), (now, 10)], QUIET, "4 4")
    axes.note(now + 0.04, 0.4, "the plan of 2 MB", colour=QUIET)
    for turn, (colour, words) in enumerate(shown.values()):
        px = axes.left + 116 + turn * 104
        axes.parts.append(f'<circle cx="{px}" cy="{TOP - 10}" r="4" fill="{colour}"/>')
        axes.parts.append(text(px + 8, TOP - 6, words, "start", INK))
    return axes.svg()


def frozen_and_toss_up(session: Session) -> str:
    """The Gibbs probabilities of the widths of two layers."""
    names = session.layers["name"].to_pylist()
    found = thermo.gibbs(session.costs, session.totals.temperature)
    widths = [width for width in found.widths if width <= 8]
    is_quantized = found.probability[:, : len(widths)].sum(axis=1) > 0.99
    order = [row for row in np.argsort(found.entropy, kind="stable").tolist() if is_quantized[row]]
    row_of = {"frozen": order[0], "a toss-up": order[-1]}
    axes = Axes("S says how settled a width is", (1.5, 17.5), (0, 1.15), left=44)
    axes.ticks_y({value / 4: f"{25 * value} %" for value in range(5)}, "probability of a width")
    for turn, (words, row) in enumerate(row_of.items()):
        for place, width in enumerate(widths):
            x = 2 + place + 8.5 * turn
            px, py = axes.at(x, float(found.probability[row, found.widths.index(width)]))
            axes.parts.append(
                f'<rect x="{px - 12}" y="{py}" width="24" height="{axes.bottom - py}" fill="{colour_of(width)}"/>'
            )
            axes.parts.append(text(px, axes.bottom + 15, str(width), "middle", QUIET))
        middle = 2 + 8.5 * turn + (len(widths) - 1) / 2
        px, _ = axes.at(middle, 0)
        name = names[row].removesuffix(".weight").replace("transformer_blocks.", "blocks.")
        axes.parts.append(text(px, axes.height - 10, f"{name.split('.norm1.emb.')[-1]}", "middle", QUIET))
        axes.note(middle, 1.05, f"{words}: S = {found.entropy[row]:.2f}", "middle")
    return axes.svg()


def importance(session: Session) -> str:
    """κ of the layers that the output feels most, and of those it feels least."""
    rows = sorted(session.importance.to_pylist(), key=lambda row: -row["kappa"])
    shown = [*rows[:6], *rows[-6:]]
    axes = Axes("κ: how strongly the image feels an error in a layer", (-3.5, 0.5), (0, 12.5), 310, 200)
    axes.ticks_x({power: f"1e{power}" for power in range(-3, 1)}, "importance κ, all steps together")
    for turn, row in enumerate(shown):
        y = 12 - turn - (0.5 if turn > 5 else 0)
        px, py = axes.at(math.log10(max(row["kappa"], 10**-3.4)), y)
        name = row["layer"].removesuffix(".weight").replace("transformer_blocks.", "blocks.")
        name = name.replace("norm1.emb.timestep_embedder", "time").replace(
            "norm1.emb.class_embedder", "class"
        )
        axes.parts.append(
            f'<rect x="{axes.left}" y="{py - 6}" width="{px - axes.left}" height="12" fill="{BLUE}"/>'
        )
        axes.parts.append(text(axes.left - 6, py + 4, name, "end", INK))
    return axes.svg()


def damage_by_group(session: Session) -> str:
    """Where along denoising time the damage of the layers arises."""
    shares = np.nan_to_num(session.damage_by_group)
    time = session.time_aware
    if time is None:
        raise ValueError("the session has no calibration")
    roles = session.layers["role"].to_pylist()
    kinds = sorted(set(roles))
    table = np.array([shares[[role == kind for role in roles]].sum(axis=0) for kind in kinds])
    most = float(table.max())
    height = 92 + 18 * len(kinds)
    parts: Parts = []
    cell = (WIDTH - RIGHT - 110) / table.shape[1]
    for line, kind in enumerate(kinds):
        y = TOP + 18 * line
        parts.append(text(104, y + 13, kind, "end", INK))
        for column, value in enumerate(table[line].tolist()):
            parts.append(
                f'<rect x="{110 + column * cell:.0f}" y="{y}" width="{cell - 1:.0f}" height="17" fill="{BLUE}" '
                f'fill-opacity="{value / most:.2f}" stroke="{GRID}" stroke-width=".5"/>'
            )
    for column, (low, _) in enumerate(time.groups.ranges.tolist()):
        x = 110 + (column + 0.5) * cell
        parts.append(text(x, TOP + 18 * len(kinds) + 14, f"{low:g}", "middle", QUIET))
    parts.append(
        text(
            (110 + WIDTH - RIGHT) // 2,
            height - 14,
            "time group, by its first timestep: image … noise",
            "middle",
            INK,
        )
    )
    return picture("Damage by role and time group: the darker, the more", parts, height)


def range_over_time(session: Session) -> str:
    """The range of one layer's input at each step, and that of each time group's activation table."""
    time = session.time_aware
    if time is None:
        raise ValueError("the session has no calibration")
    steps = time.records.layer(MLP_OUT).steps
    middle = time.records.steps.mean(axis=1)
    high = math.ceil(float(steps.maximum.max()))
    low = math.floor(float(steps.minimum.min()))
    axes = Axes(
        "One layer's input over denoising time, and the ranges of its time groups", (0, 1050), (low, high)
    )
    axes.ticks_x({value: str(value) for value in range(0, 1001, 200)}, "timestep: 999 is noise")
    axes.ticks_y({value: str(value) for value in range(low, high + 1, max(1, (high - low) // 5))}, "value")
    edges = time.groups.ranges
    for (start, end), (least, most) in zip(edges.tolist(), time.ranges(MLP_OUT).tolist(), strict=True):
        left, top = axes.at(start - 20, most)
        right, bottom = axes.at(end + 20, least)
        axes.parts.append(
            f'<rect x="{left}" y="{top}" width="{right - left}" height="{bottom - top}" fill="{ORANGE}" '
            'fill-opacity=".2"/>'
        )
    for values in (steps.minimum, steps.maximum):
        axes.line(zip(middle.tolist(), values.tolist(), strict=True), BLUE)
    return axes.svg()


def levels(session: Session) -> str:
    """The weights of a layer, and the levels that 2, 3 and 4 bits have for one group of them."""
    edges = session.detail(MLP_OUT).edges
    shares = session.detail(MLP_OUT).weights
    reach = float(np.abs(edges).max()) / 2.5
    axes = Axes(
        "Weights of one layer, and the levels of one group at 2, 3 and 4 bits",
        (-reach, reach),
        (-0.55, 1.05),
        left=44,
    )
    step = round(reach / 2, 2)
    axes.ticks_x({step * k: f"{step * k:g}" for k in (-2, -1, 0, 1, 2) if abs(step * k) <= reach}, "weight")
    middles = (edges[:-1] + edges[1:]) / 2
    inside = np.abs(middles) <= reach
    heights = shares / shares.max()
    axes.line(zip(middles[inside].tolist(), heights[inside].tolist(), strict=True), INK)
    for turn, bits in enumerate((4, 3, 2)):
        session.set_bits(MLP_OUT, bits, group_size=64)
        y = -0.16 - 0.17 * turn
        for level in session.detail(MLP_OUT).levels.tolist():
            if abs(level) <= reach:
                axes.dot(level, y, colour_of(bits), 3)
        axes.parts.append(text(axes.left - 6, axes.at(0, y)[1] + 4, f"{bits} bits", "end", colour_of(bits)))
        session.undo()
    return axes.svg()


def draw() -> dict[str, str]:
    """All pictures, by their files' names."""
    with wb.open(MODEL, target="mlx", calibration=MODEL) as session:
        session.solve("2MB")
        now = session.snapshot
        return {
            "entropy-along-depth.svg": of_panel(entropy_picture(session, now)),
            "front-of-plans.svg": of_panel(front_picture(session, now)),
            "options-and-hull.svg": options_and_hull(session),
            "width-by-temperature.svg": width_by_temperature(session),
            "frozen-and-toss-up.svg": frozen_and_toss_up(session),
            "importance.svg": importance(session),
            "damage-by-group.svg": damage_by_group(session),
            "range-over-time.svg": range_over_time(session),
            "levels.svg": levels(session),
        }


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for name, svg in draw().items():
        (folder / name).write_text(svg, encoding="utf-8")
