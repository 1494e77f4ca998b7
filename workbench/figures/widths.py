"""How widths look in every figure: a colour and a symbol each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

COLOURS = {
    2: "#b32dc0", 3: "#5361f3", 4: "#157bca", 5: "#1289a1", 6: "#11964f", 7: "#8a8e0b", 8: "#e8680b",
}  # fmt: skip
"""Lightness and hue from purple over blue and green to orange rise with the bits; each stands out from white and from
dark grounds by a contrast of 3 or more."""

KEPT_COLOUR = "#808080"
"""Of layers that stay in their source dtype."""

SYMBOLS = {
    2: "circle", 3: "square", 4: "diamond", 5: "triangle-up", 6: "triangle-down", 7: "pentagon", 8: "star",
}  # fmt: skip
"""So that neighbouring widths differ by more than their colour."""


def colour_of(bits: int) -> str:
    """The colour of a nominal width; one for all that are wider than 8."""
    return COLOURS.get(bits, KEPT_COLOUR)


def symbol_of(bits: int) -> str:
    """The symbol of a nominal width; one for all that are wider than 8."""
    return SYMBOLS.get(bits, "x")


def label_of(bits: int) -> str:
    """The width in words."""
    return f"{bits} bits" if bits in COLOURS else f"kept ({bits} bits)"


def colour_scale(widths: Sequence[int]) -> dict[str, Any]:
    """Settings of a heat map whose values are places in `widths`: one flat colour each, named beside it."""
    count = len(widths)
    steps = [
        [edge / count, colour_of(bits)] for place, bits in enumerate(widths) for edge in (place, place + 1)
    ]
    return {
        "colorscale": steps,
        "zmin": -0.5,
        "zmax": count - 0.5,
        "colorbar": {
            "title": {"text": "width"},
            "tickvals": list(range(count)),
            "ticktext": [label_of(bits) for bits in widths],
        },
    }
