"""How widths look in every figure: a colour and a symbol each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

COLOURS = {
    2: "#440154", 3: "#443983", 4: "#31688e", 5: "#21918c", 6: "#35b779", 7: "#90d743", 8: "#fde725",
}  # fmt: skip
"""Viridis, whose lightness rises with the bits: it reads alike with any colour vision, and in grey."""

KEPT_COLOUR = "#b3b3b3"
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
