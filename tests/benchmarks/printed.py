"""Tables as the benchmarks print them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows that have the same keys; what is not known is a dash."""
    cells = [
        list(rows[0]),
        *(
            ["–" if v is None else f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()]
            for row in rows
        ),
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    for line in cells:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip(),
            flush=True,
        )
