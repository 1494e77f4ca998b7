"""`kernels_pythran.kdecode` in NumPy."""

from __future__ import annotations

import numpy as np

from workbench.kernels.forms import BlockForm
from workbench.kernels.portable.klayout import MOST_BLOCKS, decode, keep_codes, natural, unpack
from workbench.kernels.portable.tiles import Array, add_error, first_not_finite, widen

__all__ = ["ggml_decode", "ggml_error"]


def ggml_decode(data: Array, total: int, form: Array, moves: Array, decoded: Array, *scratch: Array) -> None:
    """Decode stored blocks."""
    layout = BlockForm(*form.tolist())
    width = layout.block
    weights = decoded.reshape(total, width)
    for first in range(0, total, MOST_BLOCKS):
        blocks = slice(first, min(first + MOST_BLOCKS, total))
        codes, slope, offset = unpack(data.reshape(total, -1)[blocks], layout, moves)
        weights[blocks] = natural(decode(codes, slope, offset, layout.zero_code))


def ggml_error(
    source: Array,
    is_half: bool,
    data: Array,
    rows: int,
    cols: int,
    form: Array,
    moves: Array,
    stored: Array,
    sums: Array,
    *scratch: Array,
) -> int:
    """Add ‖δ‖², ‖w‖² and w·δ of stored blocks against their source to sums, row by row."""
    layout = BlockForm(*form.tolist())
    width = layout.block
    weights, per_row = source.reshape(rows, cols), cols // width
    blocks = data.reshape(rows, per_row, -1)
    step = max(MOST_BLOCKS // max(per_row, 1), 1)
    for start in range(0, rows, step):
        r = slice(start, min(start + step, rows))
        values = widen(weights[r], is_half)
        bad = first_not_finite(values)
        if bad >= 0:
            return start * cols + bad
        codes, slope, offset = unpack(blocks[r].reshape(-1, blocks.shape[2]), layout, moves)
        decoded = natural(decode(codes, slope, offset, layout.zero_code))
        with np.errstate(over="ignore", invalid="ignore"):
            add_error(values, values - decoded.reshape(values.shape), sums[r])
        if stored.size:
            keep_codes(codes, stored[r.start * cols : r.stop * cols])
    return -1
