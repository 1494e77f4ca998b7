"""What the kernels share: weights in tiles that fit the cache, codes in bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

TILE = 1 << 18
"""Weights handled at a time: they and their temporaries stay in the cache; a multiple of every group."""


def tiles(rows: int, cols: int) -> Iterator[tuple[slice, slice]]:
    """Row and column ranges of at most TILE weights, in the order of the flat index."""
    height = max(TILE // max(cols, 1), 1)
    for row in range(0, rows, height):
        for col in range(0, cols, TILE):
            yield slice(row, min(row + height, rows)), slice(col, min(col + TILE, cols))


def each_run(columns: slice, group: int, *arrays: Array) -> Iterator[tuple[Any, ...]]:
    """Equal groups of a tile, the whole ones and then the short one at the end.

    Yields their place among the groups of a row and, of each array, a view [rows, groups, weights a group].
    """
    first, cols = columns.start // group, columns.stop - columns.start
    whole = cols // group
    for inside, groups in (
        (slice(0, whole * group), slice(0, whole)),
        (slice(whole * group, cols), slice(whole, -(-cols // group))),
    ):
        count = groups.stop - groups.start
        if count:
            # Splitting the last axis of a slice never copies.
            views = (x[:, inside].reshape(x.shape[0], count, -1) for x in arrays)
            yield slice(first + groups.start, first + groups.stop), *views


def byte_range(columns: slice, bits: int) -> slice:
    """Bytes of a row that hold the codes of the given columns; a tile begins at a whole byte."""
    return slice(columns.start * bits // 8, (columns.stop * bits + 7) // 8)


def by_row(x: Array, rows: int) -> Array:
    """A flat array as [rows, whatever that leaves]; NumPy's −1 does not know for no rows."""
    return x.reshape(rows, x.size // max(rows, 1))


def widen(source: Array, is_half: bool) -> Array:
    """Decode float32 (uint32), bfloat16 or float16 (uint16) patterns to a C-order float32 array."""
    source = np.ascontiguousarray(source)
    if source.itemsize == 4:
        return source.view(np.float32)
    if is_half:
        return source.view(np.float16).astype(np.float32)
    wide = source.astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)


def first_not_finite(values: Array) -> int:
    """The place of the first NaN or Inf; −1 where there is none."""
    finite = np.isfinite(values)
    return -1 if finite.all() else int(np.argmin(finite))


def add_error(values: Array, delta: Array, sums: Array) -> None:
    """Add ‖δ‖², ‖w‖² and w·δ of each row to sums, a view of as many rows."""
    w, d = values.astype(np.float64), delta.astype(np.float64)
    sums[:, 0] += np.einsum("rc,rc->r", d, d)
    sums[:, 1] += np.einsum("rc,rc->r", w, w)
    sums[:, 2] += np.einsum("rc,rc->r", w, d)


def pack(codes: Array, bits: int) -> Array:
    """Pack uint8 codes [rows, cols] LSB first into bytes [rows, ceil(cols · bits / 8)]."""
    rows, cols = codes.shape
    eights = np.zeros((rows, -(-cols // 8), 8), np.uint8)
    eights.reshape(rows, -1)[:, :cols] = codes
    # Eight codes become `bits` bytes: as one integer, by joining neighbours, pairs and fours.
    word = eights.view("<u8")
    for lane, filled in ((8, bits), (16, 2 * bits), (32, 4 * bits)):
        mask = lanes(lane, filled)
        word = (word & mask) | ((word >> np.uint64(lane)) & mask) << np.uint64(filled)
    stream = word.view(np.uint8)[..., :bits].reshape(rows, -1)
    return stream[:, : (cols * bits + 7) // 8]


def unpack(stream: Array, cols: int, bits: int) -> Array:
    """Undo `pack`."""
    rows = len(stream)
    eights = np.zeros((rows, -(-cols // 8) * bits), np.uint8)
    eights[:, : stream.shape[1]] = stream
    wide = np.zeros((rows, -(-cols // 8), 8), np.uint8)
    wide[..., :bits] = eights.reshape(rows, -1, bits)
    word = wide.view("<u8")
    for lane, filled in ((32, 4 * bits), (16, 2 * bits), (8, bits)):
        mask = lanes(lane, filled)
        word = (word & mask) | ((word >> np.uint64(filled)) & mask) << np.uint64(lane)
    return word.view(np.uint8).reshape(rows, -1)[:, :cols]


def lanes(lane: int, filled: int) -> np.uint64:
    """A mask of the low `filled` bits in every other lane of a 64-bit word."""
    return np.uint64(sum(((1 << filled) - 1) << at for at in range(0, 64, 2 * lane)))
