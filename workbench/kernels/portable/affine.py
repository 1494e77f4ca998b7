"""`kernels_pythran.affine` in NumPy."""

from __future__ import annotations

import numpy as np

from workbench.kernels.forms import Form
from workbench.kernels.portable.tiles import (
    Array,
    add_error,
    by_row,
    byte_range,
    each_run,
    first_not_finite,
    pack,
    tiles,
    unpack,
    widen,
)

__all__ = ["affine_assign", "affine_decode", "affine_encode", "affine_error"]

MAGIC = np.float32(1 << 23)
"""Adding it rounds half to even and leaves the integer in the low bits of the float32."""

HUGE = np.float32(1e37)
"""A group with a larger weight is fitted in float64."""

NARROW = np.float32(1e-30)
"""A group with a smaller range is fitted in float64."""

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
    form: int,
    scales: Array,
    origins: Array,
    codes: Array,
    sums: Array,
    *room: Array,
) -> int:
    """Quantize by round-to-nearest between the extremes of each group, and pack."""
    return _encode(source, is_half, rows, cols, bits, group, form, True, scales, origins, codes, sums)


def affine_assign(
    source: Array,
    is_half: bool,
    rows: int,
    cols: int,
    bits: int,
    group: int,
    form: int,
    scales: Array,
    origins: Array,
    codes: Array,
    sums: Array,
    *room: Array,
) -> None:
    """Quantize with given scales and origins, and pack."""
    _encode(source, is_half, rows, cols, bits, group, form, False, scales, origins, codes, sums)


def affine_decode(
    codes: Array,
    rows: int,
    cols: int,
    bits: int,
    group: int,
    form: int,
    scales: Array,
    origins: Array,
    decoded: Array,
    *room: Array,
) -> None:
    """Decode what `affine_encode` or `affine_assign` wrote."""
    packed, weights = by_row(codes, rows), decoded.reshape(rows, cols)
    scale, origin = by_row(scales, rows), by_row(origins, rows)
    for r, c in tiles(rows, cols):
        integers = unpack(packed[r, byte_range(c, bits)], c.stop - c.start, bits).astype(np.float32)
        weights[r, c] = _decoded(integers, r, c, group, form, scale, origin)


def affine_error(
    source: Array,
    is_half: bool,
    codes: Array,
    rows: int,
    cols: int,
    bits: int,
    group: int,
    form: int,
    scales: Array,
    origins: Array,
    sums: Array,
    *room: Array,
) -> int:
    """Add ‖δ‖², ‖w‖² and w·δ of stored codes against their source to sums, row by row."""
    packed, weights = by_row(codes, rows), source.reshape(rows, cols)
    scale, origin = by_row(scales, rows), by_row(origins, rows)
    for r, c in tiles(rows, cols):
        values = widen(weights[r, c], is_half)
        bad = first_not_finite(values)
        if bad >= 0:
            return int(r.start * cols + c.start + bad)
        integers = unpack(packed[r, byte_range(c, bits)], c.stop - c.start, bits).astype(np.float32)
        with np.errstate(over="ignore"):
            add_error(values, values - _decoded(integers, r, c, group, form, scale, origin), sums[r])
    return -1


def _encode(
    source: Array,
    is_half: bool,
    rows: int,
    cols: int,
    bits: int,
    group: int,
    form: int,
    is_fitted: bool,
    scales: Array,
    origins: Array,
    codes: Array,
    sums: Array,
) -> int:
    """Find scales and origins if they are to be fitted, then codes, and pack them."""
    levels = (1 << bits) - 1
    weights, packed = source.reshape(rows, cols), by_row(codes, rows)
    scale, origin = by_row(scales, rows), by_row(origins, rows)
    for r, c in tiles(rows, cols):
        values = widen(weights[r, c], is_half)
        bad = first_not_finite(values) if is_fitted else -1
        if bad >= 0:
            return int(r.start * cols + c.start + bad)
        shifted = np.empty_like(values)
        for at, v, t in each_run(c, group, values, shifted):
            if is_fitted:
                scale[r, at], origin[r, at] = _fit(v, levels, form, t)
            else:
                t[:] = _nearest(v, scale[r, at, None], origin[r, at, None], levels, form) + MAGIC
        if len(sums):
            with np.errstate(over="ignore", invalid="ignore"):
                decoded = _decoded(shifted - MAGIC, r, c, group, form, scale, origin)
                add_error(values, np.subtract(values, decoded, out=decoded), sums[r])
        integers = (shifted.view(np.uint32) & np.uint32(levels)).astype(np.uint8)
        packed[r, byte_range(c, bits)] = pack(integers, bits)
    return -1


def _fit(v: Array, levels: int, form: int, shifted: Array) -> tuple[Array, Array]:
    """Fit each group v[r, g]; leave code + 2^23 in shifted; return scales and zero points."""
    low, high = v.min(axis=2), v.max(axis=2)
    peak = np.maximum(-low, high)
    half = np.float32((levels + 1) // 2)
    constant = low == high
    # Ranges that float32 cannot hold belong to groups that _fit_exactly computes again.
    with np.errstate(over="ignore", divide="ignore", invalid="ignore", under="ignore"):
        if form == Form.FIXED:
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
        shifted[at], scale[at], zero[at] = _fit_exactly(v[at], low[at], high[at], levels, form)
    return scale, zero


def _fit_exactly(v: Array, low: Array, high: Array, levels: int, form: int) -> tuple[Array, ...]:
    """Code + 2^23, scale and zero point of groups v[n, group], by way of float64."""
    x, low, high = (a.astype(np.float64) for a in (v, low, high))
    peak = np.maximum(-low, high)
    shrink = np.where(peak > HUGE, SHRINK, 1.0)
    half = (levels + 1) // 2
    wide = (np.minimum(2.0 * peak, LARGEST / half * levels) if form == Form.FIXED else high - low) * shrink
    scale = np.maximum((wide / levels).astype(np.float32), SMALLEST)
    # A subnormal scale is coarse: rounded down, its levels would not reach the other end.
    scale = np.where((wide < NARROW) & (scale * np.float64(levels) < wide), scale + SMALLEST, scale)
    s = scale.astype(np.float64)
    if form == Form.FIXED:
        zero = np.full_like(scale, half)
        q = x * shrink[:, None] / s[:, None] + half
    else:
        zero = ((0.0 - low * shrink) / s).astype(np.float32)
        q = (x - low[:, None]) * shrink[:, None] / s[:, None]
    return np.clip(np.rint(q), 0.0, levels).astype(np.float32) + MAGIC, scale, zero


def _nearest(v: Array, s: Array, origin: Array, levels: int, form: int) -> Array:
    """Codes of groups v[r, g] for given scales, as float32: halves to even, clamped to 0 to levels."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore", under="ignore"):
        inverse = np.float32(1.0) / s
        if form == Form.OFFSET:
            q, most = (v - origin) * inverse, COMFORT[1]
        else:
            q, most = v * inverse + origin, MAGIC / 2
        comfortable = (s > COMFORT[0]) & (s < COMFORT[1]) & (np.abs(origin) < most)
        # Where float32 would overflow, lose the scale, or lack digits for the origin.
        if not comfortable.all():
            wide = s.astype(np.float64)
            if form == Form.OFFSET:  # a group without a scale is constant
                exact = (v.astype(np.float64) - origin) * np.where(s > 0, 1.0 / wide, 0.0)
            else:
                exact = v / wide + origin
            q = np.where(comfortable, q, np.clip(np.rint(exact), 0.0, levels))
    return np.clip(np.rint(q), np.float32(0.0), np.float32(levels)).astype(np.float32)


def _decoded(
    integers: Array, r: slice, c: slice, group: int, form: int, scale: Array, origin: Array
) -> Array:
    """Weights of a tile of codes, float32 [rows, cols], in place of these."""
    for at, d in each_run(c, group, integers):
        s, o = scale[r, at, None], origin[r, at, None]
        if form == Form.OFFSET:
            with np.errstate(over="ignore"):  # q·s may overflow where q·s + m does not
                d *= s
            d += o
        else:
            d -= o
            d *= s
    return integers
