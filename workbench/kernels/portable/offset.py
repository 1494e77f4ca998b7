"""`kernels_pythran.offset` in NumPy."""

from __future__ import annotations

import numpy as np

from workbench.kernels.portable.tiles import (
    Array,
    add_error,
    by_row,
    byte_range,
    first_not_finite,
    grouped,
    pack,
    runs,
    tiles,
    unpack,
    widen,
)

COMFORT = np.float32(1e30)
"""Scales from 1/COMFORT to COMFORT, and offsets up to it, are computed in float32."""


def group_ranges(
    source: Array, is_half: bool, rows: int, cols: int, group: int, lows: Array, highs: Array
) -> int:
    """Least and greatest weight of each group."""
    weights = source.reshape(rows, cols)
    low, high = by_row(lows, rows), by_row(highs, rows)
    for r, c in tiles(rows, cols):
        values = widen(weights[r, c], is_half)
        bad = first_not_finite(values)
        if bad >= 0:
            return int(r.start * cols + c.start + bad)
        for inside, groups in runs(values.shape[1], group):
            at = slice(c.start // group + groups.start, c.start // group + groups.stop)
            v = grouped(values, inside, groups)
            # Adding zero makes −0 the same as 0.
            low[r, at] = v.min(axis=2) + np.float32(0.0)
            high[r, at] = v.max(axis=2) + np.float32(0.0)
    return -1


def offset_encode(
    source: Array,
    is_half: bool,
    rows: int,
    cols: int,
    bits: int,
    group: int,
    scales: Array,
    offsets: Array,
    packed: Array,
    sums: Array,
    *room: Array,
) -> None:
    """Quantize with given scales and offsets, and pack."""
    levels = (1 << bits) - 1
    weights, stream = source.reshape(rows, cols), by_row(packed, rows)
    scale, offset = by_row(scales, rows), by_row(offsets, rows)
    for r, c in tiles(rows, cols):
        values = widen(weights[r, c], is_half)
        codes, delta = np.empty_like(values), np.empty_like(values)
        for inside, groups in runs(values.shape[1], group):
            at = slice(c.start // group + groups.start, c.start // group + groups.stop)
            v, q, d = (grouped(x, inside, groups) for x in (values, codes, delta))
            s, m = scale[r, at, None], offset[r, at, None]
            q[:] = _nearest(v, s, m, levels)
            with np.errstate(over="ignore"):  # q·s may overflow where q·s + m does not
                np.multiply(q, s, out=d)
            d += m
        if len(sums):
            with np.errstate(over="ignore", invalid="ignore"):
                np.subtract(values, delta, out=delta)
                add_error(values, delta, sums[r])
        stream[r, byte_range(c, bits)] = pack(codes.astype(np.uint8), bits)


def offset_decode(
    packed: Array,
    rows: int,
    cols: int,
    bits: int,
    group: int,
    scales: Array,
    offsets: Array,
    decoded: Array,
    *room: Array,
) -> None:
    """Decode what `offset_encode` wrote: q·s + m in float32."""
    stream, weights = by_row(packed, rows), decoded.reshape(rows, cols)
    scale, offset = by_row(scales, rows), by_row(offsets, rows)
    for r, c in tiles(rows, cols):
        weights[r, c] = _decode_tile(stream, r, c, bits, group, scale, offset)


def offset_error(
    source: Array,
    is_half: bool,
    packed: Array,
    rows: int,
    cols: int,
    bits: int,
    group: int,
    scales: Array,
    offsets: Array,
    sums: Array,
    *room: Array,
) -> int:
    """Add ‖δ‖², ‖w‖² and w·δ of stored codes against their source to sums, row by row."""
    weights, stream = source.reshape(rows, cols), by_row(packed, rows)
    scale, offset = by_row(scales, rows), by_row(offsets, rows)
    for r, c in tiles(rows, cols):
        values = widen(weights[r, c], is_half)
        bad = first_not_finite(values)
        if bad >= 0:
            return int(r.start * cols + c.start + bad)
        with np.errstate(over="ignore"):
            delta = values - _decode_tile(stream, r, c, bits, group, scale, offset)
        add_error(values, delta, sums[r])
    return -1


def _nearest(v: Array, s: Array, m: Array, levels: int) -> Array:
    """Codes of groups v[r, g], as float32: halves to even, clamped to 0 to levels."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore", under="ignore"):
        q = (v - m) * (np.float32(1.0) / s)
        comfortable = (s > 1 / COMFORT) & (s < COMFORT) & (np.abs(m) < COMFORT)
        # Where float32 would overflow or lose the scale; a group without a scale is constant.
        if not comfortable.all():
            inverse = np.where(s > 0, 1.0 / s.astype(np.float64), 0.0)
            exact = (v.astype(np.float64) - m.astype(np.float64)) * inverse
            q = np.where(comfortable, q, np.clip(np.rint(exact), 0.0, levels))
    return np.clip(np.rint(q), np.float32(0.0), np.float32(levels)).astype(np.float32)


def _decode_tile(
    stream: Array, r: slice, c: slice, bits: int, group: int, scale: Array, offset: Array
) -> Array:
    """Weights of a tile, float32 [rows, cols]."""
    decoded = unpack(stream[r, byte_range(c, bits)], c.stop - c.start, bits).astype(np.float32)
    for inside, groups in runs(decoded.shape[1], group):
        at = slice(c.start // group + groups.start, c.start // group + groups.stop)
        d = grouped(decoded, inside, groups)
        d *= scale[r, at, None]
        d += offset[r, at, None]
    return decoded
