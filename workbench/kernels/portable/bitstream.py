"""`kernels_pythran.bitstream` in NumPy."""

from __future__ import annotations

import numpy as np

from workbench.kernels.portable.tiles import Array, by_row, byte_range, pack, tiles, unpack

__all__ = ["pack_bits", "unpack_bits"]


def pack_bits(codes: Array, rows: int, cols: int, bits: int, packed: Array) -> None:
    """Pack each row of codes into ceil(cols · bits / 8) bytes; higher bits of a code are ignored."""
    integers = codes.reshape(rows, cols)
    stream = by_row(packed, rows)
    for r, c in tiles(rows, cols):
        stream[r, byte_range(c, bits)] = pack(integers[r, c] & np.uint8((1 << bits) - 1), bits)


def unpack_bits(packed: Array, rows: int, cols: int, bits: int, codes: Array) -> None:
    """Undo `pack_bits`."""
    stream = by_row(packed, rows)
    integers = codes.reshape(rows, cols)
    for r, c in tiles(rows, cols):
        integers[r, c] = unpack(stream[r, byte_range(c, bits)], c.stop - c.start, bits)
