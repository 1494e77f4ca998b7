"""Arguments that several commands take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="A safetensors or GGUF file, an index, a folder, or zoo:NAME.")
]
Component = Annotated[
    str | None, typer.Option(help="Component of a diffusers folder, if not its denoiser.", metavar="NAME")
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document to stdout, an error too; all else to stderr.")
]


def parse_widths(texts: Sequence[str], option: str) -> dict[str, int]:
    """Bits by pattern, of texts such as ``*attn*=8``; a wrong one is the fault of the option named."""
    widths = {}
    for text in texts:
        pattern, _, bits = text.rpartition("=")
        if not pattern or not bits.isdecimal():
            raise typer.BadParameter(f"{text!r} is not PATTERN=BITS, such as '*attn*=8'.", param_hint=option)
        widths[pattern] = int(bits)
    return widths
