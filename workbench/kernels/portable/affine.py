"""`kernels_pythran.affine` in NumPy."""

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

MAGIC = np.float32(1 << 23)
"""Adding it rounds half to even and leaves the integer in the low bits of the float32."""

HUGE = np.float32(1e37)
"""A group with a larger weight is computed in float64."""

NARROW = np.float32(1e-30)
"""A group with a smaller range is computed in float64."""

SHRINK = 1.0 - 2.0**-20
"""Applied to huge groups, so that no decoded weight rounds to infinity."""

COMFORT = np.float32(1e-30), np.float32(1e30)
"""Scales between these are used in float32 where scales are given."""

LARGEST = float(np.finfo(np.float32).max)

SMALLEST = np.finfo(np.float32).smallest_subnormal


def affine_encode(
    source: Array,
    is_half: bool,
    rows: int,
    cols: int,
    bits: int,
    group: int,
    symmetric: bool,
    codes: Array,
    scales: Array,
    zeros: Array,
    sums: Array,
    *room: Array,
) -> int:
    """Quantize by round-to-nearest between the extremes of each group, and pack."""
    levels = (1 << bits) - 1
    weights = source.reshape(rows, cols)
    packed = by_row(codes, rows)
    scale, zero = by_row(scales, rows), by_row(zeros, rows)
    for r, c in tiles(rows, cols):
        values = widen(weights[r, c], is_half)
        bad = first_not_finite(values)
        if bad >= 0:
            return int(r.start * cols + c.start + bad)
        shifted = np.empty_like(values)
        for inside, groups in runs(values.shape[1], group):
            at = slice(c.start // group + groups.start, c.start // group + groups.stop)
            v, t = (grouped(x, inside, groups) for x in (values, shifted))
            scale[r, at], zero[r, at] = _encode_groups(v, levels, symmetric, t)
        if len(sums):
            delta = shifted - MAGIC
            for inside, groups in runs(values.shape[1], group):
                at = slice(c.start // group + groups.start, c.start // group + groups.stop)
                d = grouped(delta, inside, groups)
                d -= zero[r, at, None]
                d *= scale[r, at, None]
            np.subtract(values, delta, out=delta)
            add_error(values, delta, sums[r])
        integers = (shifted.view(np.uint32) & np.uint32(levels)).astype(np.uint8)
        packed[r, byte_range(c, bits)] = pack(integers, bits)
    return -1


def affine_assign(
    source: Array,
    is_half: bool,
    rows: int,
    cols: int,
    bits: int,
    group: int,
    scales: Array,
    zeros: Array,
    codes: Array,
    sums: Array,
    *room: Array,
) -> None:
    """Quantize with given scales and zero points, and pack."""
    levels = (1 << bits) - 1
    weights, packed = source.reshape(rows, cols), by_row(codes, rows)
    scale, zero = by_row(scales, rows), by_row(zeros, rows)
    for r, c in tiles(rows, cols):
        values = widen(weights[r, c], is_half)
        integers, delta = np.empty_like(values), np.empty_like(values)
        for inside, groups in runs(values.shape[1], group):
            at = slice(c.start // group + groups.start, c.start // group + groups.stop)
            v, q, d = (grouped(x, inside, groups) for x in (values, integers, delta))
            s, z = scale[r, at, None], zero[r, at, None]
            q[:] = _nearest(v, s, z, levels)
            np.subtract(q, z, out=d)
            d *= s
        if len(sums):
            np.subtract(values, delta, out=delta)
            add_error(values, delta, sums[r])
        packed[r, byte_range(c, bits)] = pack(integers.astype(np.uint8), bits)


def affine_decode(
    codes: Array,
    rows: int,
    cols: int,
    bits: int,
    group: int,
    scales: Array,
    zeros: Array,
    decoded: Array,
    *room: Array,
) -> None:
    """Decode what `affine_encode` wrote: (q − z)·s in float32."""
    packed = by_row(codes, rows)
    scale, zero = by_row(scales, rows), by_row(zeros, rows)
    weights = decoded.reshape(rows, cols)
    for r, c in tiles(rows, cols):
        weights[r, c] = _decode_tile(packed, r, c, bits, group, scale, zero)


def affine_error(
    source: Array,
    is_half: bool,
    codes: Array,
    rows: int,
    cols: int,
    bits: int,
    group: int,
    scales: Array,
    zeros: Array,
    sums: Array,
    *room: Array,
) -> int:
    """Add ‖δ‖², ‖w‖² and w·δ of stored codes against their source to sums, row by row."""
    packed = by_row(codes, rows)
    scale, zero = by_row(scales, rows), by_row(zeros, rows)
    weights = source.reshape(rows, cols)
    for r, c in tiles(rows, cols):
        values = widen(weights[r, c], is_half)
        bad = first_not_finite(values)
        if bad >= 0:
            return int(r.start * cols + c.start + bad)
        add_error(values, values - _decode_tile(packed, r, c, bits, group, scale, zero), sums[r])
    return -1


def _encode_groups(v: Array, levels: int, symmetric: bool, shifted: Array) -> tuple[Array, Array]:
    """Fit each group v[r, g]; leave code + 2^23 in shifted; return scales and zero points."""
    low, high = v.min(axis=2), v.max(axis=2)
    peak = np.maximum(-low, high)
    half = np.float32((levels + 1) // 2)
    constant = low == high
    # Ranges that float32 cannot hold belong to groups that _encode_exactly computes again.
    with np.errstate(over="ignore", divide="ignore", invalid="ignore", under="ignore"):
        if symmetric:
            scale = np.float32(2.0) * peak / np.float32(levels)
            zero = np.full_like(scale, half)
            inverse = np.where(constant, np.float32(0.0), np.float32(1.0) / scale)
            np.multiply(v, inverse[..., None], out=shifted)
            shifted += MAGIC + np.where(constant, half + np.sign(low), half)[..., None]
        else:
            scale = (high - low) / np.float32(levels)
            # Not −low: the zero point of a group that begins at ±0 is +0.
            zero = (np.float32(0.0) - low) / scale
            inverse = np.where(constant, np.float32(0.0), np.float32(1.0) / scale)
            np.subtract(v, low[..., None], out=shifted)
            shifted *= inverse[..., None]
            shifted += MAGIC
            zero = np.where(constant, np.float32(0.0) - np.sign(low), zero)
        uncomfortable = ~constant & ((peak > HUGE) | (high - low < NARROW))
    np.minimum(shifted, MAGIC + np.float32(levels), out=shifted)
    # A constant group decodes exactly, from code 0 or, when symmetric, from the code one step from zero.
    scale = np.where(constant, np.where(low == 0, np.float32(1.0), np.abs(low)), scale)
    if uncomfortable.any():
        at = np.nonzero(uncomfortable)
        shifted[at], scale[at], zero[at] = _encode_exactly(v[at], low[at], high[at], levels, symmetric)
    return scale, zero


def _encode_exactly(v: Array, low: Array, high: Array, levels: int, symmetric: bool) -> tuple[Array, ...]:
    """Code + 2^23, scale and zero point of groups v[n, group], by way of float64."""
    x, low, high = (a.astype(np.float64) for a in (v, low, high))
    peak = np.maximum(-low, high)
    shrink = np.where(peak > HUGE, SHRINK, 1.0)
    half = (levels + 1) // 2
    wide = (np.minimum(2.0 * peak, LARGEST / half * levels) if symmetric else high - low) * shrink
    scale = np.maximum((wide / levels).astype(np.float32), SMALLEST)
    # A subnormal scale is coarse: rounded down, its levels would not reach the other end.
    scale = np.where((wide < NARROW) & (scale * np.float64(levels) < wide), scale + SMALLEST, scale)
    s = scale.astype(np.float64)
    if symmetric:
        zero = np.full_like(scale, half)
        q = x * shrink[:, None] / s[:, None] + half
    else:
        zero = ((0.0 - low * shrink) / s).astype(np.float32)
        q = (x - low[:, None]) * shrink[:, None] / s[:, None]
    return np.clip(np.rint(q), 0.0, levels).astype(np.float32) + MAGIC, scale, zero


def _nearest(v: Array, s: Array, z: Array, levels: int) -> Array:
    """Codes of groups v[r, g], as float32: halves to even, clamped to 0 to levels."""
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        q = v * (np.float32(1.0) / s) + z
        comfortable = (s > COMFORT[0]) & (s < COMFORT[1]) & (np.abs(z) < MAGIC / 2)
        # Where float32 would overflow, or the zero point is beyond its whole numbers.
        if not comfortable.all():
            q = np.where(comfortable, q, np.rint(v / s.astype(np.float64) + z))
    return np.clip(np.rint(q), 0.0, levels).astype(np.float32)


def _decode_tile(
    packed: Array, r: slice, c: slice, bits: int, group: int, scale: Array, zero: Array
) -> Array:
    """Weights of a tile, float32 [rows, cols]."""
    decoded = unpack(packed[r, byte_range(c, bits)], c.stop - c.start, bits).astype(np.float32)
    for inside, groups in runs(decoded.shape[1], group):
        at = slice(c.start // group + groups.start, c.start // group + groups.stop)
        d = grouped(decoded, inside, groups)
        d -= zero[r, at, None]
        d *= scale[r, at, None]
    return decoded
