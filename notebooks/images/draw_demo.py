"""Draw the error of every layer of the demo at each width, from the numbers that the demo measures.

workbench demo --json | python notebooks/images/draw_demo.py > notebooks/images/demo.svg
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Iterator
from html import escape
from typing import Any

ROW, TOP, LEFT, PLOT, RIGHT = 15, 76, 300, 440, 150
DECADES = range(-6, 1)
"""Powers of ten on the axis of errors."""

STYLE = """
  text { font: 11px system-ui, sans-serif; fill: #1f2328 }
  .title { font-size: 15px; font-weight: 600 } .quiet { fill: #59636e }
  .name { font: 10px ui-monospace, monospace } .end { text-anchor: end } .middle { text-anchor: middle }
  .paper { fill: #ffffff } .grid { stroke: #d1d9e0 } .share { fill: #b6c2cf }
  .w8 { fill: #2a78b8 } .w4 { fill: #3a9a5b } .w2 { fill: #d1622b } .chosen { fill: none; stroke: #1f2328 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .quiet { fill: #9198a1 } .paper { fill: #0d1117 } .grid { stroke: #3d444d }
    .share { fill: #4b5764 } .chosen { stroke: #e6edf3 }
  }
"""


def place(nsr: float) -> float:
    """Horizontal place of an error, on a logarithmic axis."""
    return LEFT + PLOT * (math.log10(nsr) - DECADES[0]) / (DECADES[-1] - DECADES[0])


def short(name: str) -> str:
    """A layer's name as it fits beside its row."""
    return (
        name.removesuffix(".weight").replace("transformer_blocks.", "blocks.").replace(".norm1.emb.", ".emb.")
    )


def axis(bottom: int) -> Iterator[str]:
    """Lines of the powers of ten."""
    for power in DECADES:
        x = place(10.0**power)
        yield f'<line class="grid" x1="{x:.1f}" y1="{TOP - 8}" x2="{x:.1f}" y2="{bottom}"/>'
        label = "1" if power == 0 else f'10<tspan dy="-4" font-size="8">{power}</tspan>'
        yield f'<text class="quiet middle" x="{x:.1f}" y="{bottom + 15}">{label}</text>'


def rows(runs: dict[str, dict[str, Any]]) -> Iterator[str]:
    """A row a layer: its error at each width, a ring around what the mixed export took, its share of the bytes."""
    layers = {name: run["report"]["layers"] for name, run in runs.items()}
    most = max(layer["nbytes"] for layer in layers["mixed"])
    for index, mixed in enumerate(layers["mixed"]):
        y = TOP + ROW * index + 4
        yield f'<text class="name end" x="{LEFT - 8}" y="{y + 4}">{escape(short(mixed["name"]))}</text>'
        for width in (8, 4, 2):
            layer = layers[f"{width}-bit"][index]
            if layer["scheme"] == "keep":  # kept in the source's dtype: no error to show
                continue
            yield f'<circle class="w{width}" cx="{place(layer["nsr"]):.1f}" cy="{y}" r="3.6"/>'
        if mixed["scheme"] == "keep":
            yield f'<text class="quiet" x="{LEFT + 8}" y="{y + 4}">kept: nothing smaller for rows so short</text>'
        else:
            yield f'<circle class="chosen" cx="{place(mixed["nsr"]):.1f}" cy="{y}" r="5.6"/>'
        length = (RIGHT - 40) * mixed["nbytes"] / most
        yield f'<rect class="share" x="{LEFT + PLOT + 20}" y="{y - 4}" width="{length:.1f}" height="8"/>'


def legend() -> Iterator[str]:
    """What the marks mean."""
    x = LEFT
    for mark, meaning in (
        ('class="w8" r="3.6"', "8 bits"), ('class="w4" r="3.6"', "4 bits"), ('class="w2" r="3.6"', "2 bits"),
        ('class="chosen" r="5.6"', "the mixed export"),
    ):  # fmt: skip
        yield f'<circle {mark} cx="{x + 6}" cy="{TOP - 26}"/><text x="{x + 16}" y="{TOP - 22}">{meaning}</text>'
        x += 74
    yield f'<text class="quiet" x="{LEFT + PLOT + 20}" y="{TOP - 22}">bytes, mixed</text>'


def draw(document: dict[str, Any]) -> Iterable[str]:
    """The picture of a demo's JSON document."""
    runs = {run["name"]: run for run in document["runs"]}
    bottom = TOP + ROW * len(runs["mixed"]["report"]["layers"])
    width, height = LEFT + PLOT + RIGHT, bottom + 44
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    yield f"<style>{STYLE}</style>"
    yield f'<rect class="paper" width="{width}" height="{height}" rx="6"/>'
    yield f'<text class="title" x="16" y="26">What each layer of {document["model"]} loses</text>'
    yield from legend()
    yield from axis(bottom)
    yield from rows(runs)
    middle, meaning = LEFT + PLOT // 2, "noise-to-signal ratio ‖W − Ŵ‖² / ‖W‖²"
    yield f'<text class="quiet middle" x="{middle}" y="{bottom + 34}">{meaning}</text>'
    yield "</svg>"


if __name__ == "__main__":
    print("\n".join(draw(json.load(sys.stdin))))
