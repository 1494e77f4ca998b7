"""`kernels_pythran.kblocks` in NumPy."""

from __future__ import annotations

import numpy as np

from workbench.kernels.forms import BlockForm, Minimum
from workbench.kernels.portable.klayout import (
    MOST_BLOCKS,
    decode,
    keep_codes,
    lanes_of,
    natural,
    pack,
    spread,
)
from workbench.kernels.portable.tiles import Array, add_error, first_not_finite, widen

__all__ = ["ggml_encode"]

SLIGHT = np.float32(1e-12)
VAST = np.float32(1e12)
MOST_CODE = np.float32(1 << 30)
ZERO, ONE, HALF = np.float32(0.0), np.float32(1.0), np.float32(0.5)

Sums = tuple[Array, Array, Array]
"""Σw·q, Σw·q² and Σw·q·x of each lane."""


def ggml_encode(
    source: Array,
    is_half: bool,
    rows: int,
    cols: int,
    form: Array,
    moves: Array,
    weights: Array,
    levels: Array,
    rounds: int,
    data: Array,
    stored: Array,
    sums: Array,
    *scratch: Array,
) -> int:
    """Quantize rows into blocks of a GGML format."""
    layout = BlockForm(*form.tolist())
    width = layout.block
    patterns, per_row = source.reshape(rows, cols), cols // width
    blocks = data.reshape(rows, per_row, -1)
    step = max(MOST_BLOCKS // max(per_row, 1), 1)
    for start in range(0, rows, step):
        r = slice(start, min(start + step, rows))
        values = widen(patterns[r], is_half)
        bad = first_not_finite(values)
        if bad >= 0:
            return start * cols + bad
        x = lanes_of(np.clip(values, -VAST, VAST), layout)
        if weights.size:
            w = lanes_of(np.ascontiguousarray(np.broadcast_to(weights, values.shape)), layout)
        else:
            w = np.ones_like(x)
        codes, scales, minima, factor, minimum = _encode(x, w, layout, levels, rounds)
        blocks[r] = pack(codes, scales, minima, factor, minimum, layout, moves).reshape(blocks[r].shape)
        if stored.size:
            keep_codes(codes, stored[r.start * cols : r.stop * cols])
        if len(sums):
            decoded = natural(
                decode(codes, *spread(layout, scales, minima, factor, minimum), layout.zero_code)
            )
            with np.errstate(over="ignore"):
                add_error(values, values - decoded.reshape(values.shape), sums[r])
    return -1


def round_half(values: Array) -> Array:
    """float32 rounded to float16; what is beyond its range becomes ±65504."""
    top = np.float32(65504.0)
    rounded: Array = np.clip(values, -top, top).astype(np.float16).astype(np.float32)
    return rounded + ZERO  # no −0


def _encode(x: Array, w: Array, form: BlockForm, levels: Array, rounds: int) -> tuple[Array, ...]:
    """Codes, stored scales and minima, factors and their minima of lanes [weights a group, groups, blocks]."""
    low, high = x.min(axis=0) + ZERO, x.max(axis=0) + ZERO
    reach = np.maximum(high, -low)
    sw, sx = np.zeros_like(low), np.zeros_like(low)
    for k in range(0, len(x), 4):
        p = [w[k + j] * x[k + j] for j in range(4)]
        sw += (w[k] + w[k + 1]) + (w[k + 2] + w[k + 3])
        sx += (p[0] + p[1]) + (p[2] + p[3])
    slope, depth = _search(x, w, form, levels, rounds, low, high, sw, sx)
    factor, minimum = _factors(slope, depth, form, sw, sx)
    scales, minima = np.zeros((2, *low.shape), np.uint8)
    if form.groups > 1:
        scales, minima, factor, minimum = _integers(
            x, w, form, rounds, slope, depth, factor, minimum, reach, sw, sx
        )
    lines = spread(form, scales, minima, factor, minimum)
    found, inverse = _invert(*lines, reach)
    codes = np.stack([_codes(xk, form, found, inverse) for xk in x]).astype(np.uint8)
    if form.minimum_kind == Minimum.MINIMUM_BELOW_ZERO:
        lost = _forget_losses(x, w, codes, *lines)
        for integers in (codes, scales, minima):
            integers[..., lost] = 0
        factor, minimum = np.where(lost, ZERO, factor), np.where(lost, ZERO, minimum)
    return codes, scales, minima, factor, minimum


def _codes(x: Array, form: BlockForm, low: Array, inverse: Array) -> Array:
    """Codes as they are stored, int32."""
    shift = np.float32(form.zero_code) + HALF
    return np.clip(((x - low) * inverse + shift).astype(np.int32), form.lowest_code, form.highest_code)


def _assign(x: Array, w: Array, form: BlockForm, low: Array, inverse: Array) -> Sums:
    zero = np.float32(form.zero_code)
    sq, sqq, sqx = np.zeros((3, *low.shape), np.float32)
    for k in range(0, len(x), 4):
        q = [_codes(x[k + j], form, low, inverse).astype(np.float32) - zero for j in range(4)]
        p = [w[k + j] * q[j] for j in range(4)]
        sq += (p[0] + p[1]) + (p[2] + p[3])
        sqq += (p[0] * q[0] + p[1] * q[1]) + (p[2] * q[2] + p[3] * q[3])
        sqx += (p[0] * x[k] + p[1] * x[k + 1]) + (p[2] * x[k + 2] + p[3] * x[k + 3])
    return sq, sqq, sqx


def _search(
    x: Array,
    w: Array,
    form: BlockForm,
    levels: Array,
    rounds: int,
    low: Array,
    high: Array,
    sw: Array,
    sx: Array,
) -> tuple[Array, Array]:
    """Best scale and minimum of each lane, float64."""
    n, y = sw.astype(np.float64), sx.astype(np.float64)
    limit = (None, 0.0, 1e30)[form.minimum_kind]
    if limit is None:
        span = np.where(high >= -low, high, low)
        low, best, gain = np.zeros_like(low), (np.zeros_like(n), np.zeros_like(n)), np.zeros_like(n)
    else:
        m = y / n
        m = (m < limit) * m
        gain, best = 2.0 * m * y - m * m * n, (np.zeros_like(n), m)
        low = np.minimum(low, np.float32(limit))
        span = high - low
    wide = (np.abs(span) > SLIGHT).astype(np.float32)
    unit = wide / (span + (ONE - wide))
    if form.groups == 1 and rounds == 0:
        u = unit.astype(np.float64) * float(levels[0])
        some = (u != 0.0).astype(np.float64)
        return some / (u + (1.0 - some)), low.astype(np.float64)
    for level in levels:
        fit = _assign(x, w, form, low, level * unit)
        b, a, c = (part.astype(np.float64) for part in fit)
        if limit is None:
            s, m = c / (a + (a <= 0.0)), best[1]
            new = s * c
        else:
            s, m, new = _line(a, b, c, n, y, limit)
        better = new > gain
        gain = np.where(better, new, gain)
        best = np.where(better, s, best[0]), np.where(better, m, best[1])
    return best


def _line(a: Array, b: Array, c: Array, n: Array, y: Array, limit: float) -> tuple[Array, Array, Array]:
    """The scale and minimum that fit codes best, and by how much they lower the squared error."""
    d = n * a - b * b
    good = (d > 1e-6 * n * a).astype(np.float64)
    s = good * (n * c - y * b) / (d + (1.0 - good))
    m = good * (a * y - b * c) / (d + (1.0 - good))
    free = (m < limit).astype(np.float64)
    m = free * m
    s = free * s + (1.0 - free) * (c / (a + (a <= 0.0)))
    s = (s > 0.0) * s
    return s, m, 2.0 * (s * c + m * y) - s * s * a - 2.0 * s * m * b - m * m * n


def _factors(slope: Array, depth: Array, form: BlockForm, sw: Array, sx: Array) -> tuple[Array, Array]:
    """The float16 factor and minimum of each block, as float32."""
    peak = np.take_along_axis(slope, np.abs(slope).argmax(axis=0)[None], axis=0)[0]
    lowest = depth.min(axis=0)
    if form.groups > 1:
        peak = peak / float(
            form.least_scale if form.minimum_kind == Minimum.NO_MINIMUM else form.greatest_scale
        )
        lowest = -lowest / float(form.greatest_scale)
    with np.errstate(over="ignore"):
        factor, minimum = peak.astype(np.float32), lowest.astype(np.float32)
    if form.groups > 1:
        factor, minimum = _widen_steps(factor), _widen_steps(minimum)
    elif form.minimum_kind == Minimum.NO_MINIMUM:
        step = np.float32(2.0**-24)
        factor = np.where((factor != 0) & (np.abs(factor) < step), np.copysign(step, factor), factor)
    factor = round_half(factor)
    if form.groups == 1 and form.minimum_kind > Minimum.NO_MINIMUM:
        # Where the scale vanished, all that is left is the mean.
        minimum = np.where(factor == 0, sx[0] / sw[0], minimum)
    return factor, round_half(minimum)


def _widen_steps(factors: Array) -> Array:
    """Factors in the range where float16 has equal steps, rounded away from zero."""
    step = np.float32(2.0**-24)
    fine = np.abs(factors) < np.float32(2.0**-14)
    wide = np.copysign(np.ceil(np.abs(np.where(fine, factors, ZERO)) / step) * step, factors)
    return np.where(fine, wide, factors)


def _forget_losses(x: Array, w: Array, codes: Array, slope: Array, offset: Array) -> Array:
    """Which blocks lose more than they hold."""
    loss = np.zeros_like(slope)
    for xk, wk, c in zip(x, w, codes, strict=True):
        e = xk - (slope * c.astype(np.float32) - offset)
        loss += wk * (e * e - xk * xk)
    total = np.zeros(slope.shape[1])
    for row in loss:
        total += row
    found: Array = total > 0.0
    return found


def _invert(slope: Array, offset: Array, reach: Array) -> tuple[Array, Array]:
    """The least weight and the inverse scale that codes are rounded with."""
    some = (slope != 0).astype(np.float32)
    steep = some / (slope + (ONE - some))
    most = MOST_CODE / (reach + np.abs(offset) + np.float32(1e-6))
    return ZERO - offset, np.clip(steep, -most, most)


def _integers(
    x: Array, w: Array, form: BlockForm, rounds: int, slope: Array, depth: Array, factor: Array, minimum: Array,
    reach: Array, sw: Array, sx: Array,
) -> tuple[Array, Array, Array, Array]:  # fmt: skip
    """Stored integer scales and minima of K-blocks, and their factors."""
    least, most = form.least_scale, form.greatest_scale
    scale = _round_integers(slope, factor, least, most)
    low = _round_integers(-1.0 * depth, minimum, 0, most)
    for _ in range(rounds):
        cost = np.full(scale.shape, 1e300)
        held: Sums = (np.zeros_like(scale),) * 3
        for trial, step in enumerate((0, 0, -1, 1)):
            if trial == 1 and form.minimum_kind == Minimum.NO_MINIMUM:
                continue
            new_scale = np.clip(scale + np.float32(step), np.float32(least), np.float32(most))
            s = factor * new_scale
            new_low = low
            if form.minimum_kind > Minimum.NO_MINIMUM and trial > 0:
                d = sw.astype(np.float64) * minimum.astype(np.float64)
                some = (d > 0.0).astype(np.float64)
                t = some * (s.astype(np.float64) * held[0].astype(np.float64) - sx.astype(np.float64))
                t = np.clip(t / (d + (1.0 - some)) + 0.5, 0.0, most + 0.5)
                new_low = t.astype(np.int64).astype(np.float32)
            m = minimum * new_low
            sums = _assign(x, w, form, *_invert(s, m, reach))
            new = _cost(sums, s, m, sw, sx)
            better = new < cost
            cost = np.where(better, new, cost)
            scale, low = np.where(better, new_scale, scale), np.where(better, new_low, low)
            held = tuple(np.where(better, new, old) for new, old in zip(sums, held, strict=True))  # type: ignore[assignment]
        factor, minimum = _refit(held, scale, low, sw, sx, factor, minimum)
    return (scale.astype(np.int32) + form.added).astype(np.uint8), low.astype(np.uint8), factor, minimum


def _round_integers(values: Array, factor: Array, least: int, most: int) -> Array:
    d = factor.astype(np.float64)
    some = (d != 0.0).astype(np.float64)
    t = some * values / (d + (1.0 - some)) + 256.5
    integers: Array = np.clip(t.astype(np.int64) - 256, least, most).astype(np.float32)
    return integers


def _cost(sums: Sums, slope: Array, offset: Array, sw: Array, sx: Array) -> Array:
    """Squared error less Σw·x², float64."""
    b, a, c, k, m, n, y = (part.astype(np.float64) for part in (*sums, slope, offset, sw, sx))
    return k * k * a + m * m * n - 2.0 * k * c + 2.0 * m * y - 2.0 * k * m * b


def _refit(
    held: Sums, scale: Array, low: Array, sw: Array, sx: Array, factor: Array, minimum: Array
) -> tuple[Array, Array]:
    """Factors of each block by least squares, where they cost less."""
    b, a, c, k, m, n, y = (part.astype(np.float64) for part in (*held, scale, low, sw, sx))
    aa, ab, bb, ax, bx = np.zeros((5, scale.shape[1]))
    for g in range(len(scale)):
        aa = aa + k[g] * k[g] * a[g]
        ab = ab + k[g] * m[g] * b[g]
        bb = bb + m[g] * m[g] * n[g]
        ax = ax + k[g] * c[g]
        bx = bx + m[g] * y[g]

    def cost(d: Array, e: Array) -> Array:
        return d * d * aa + e * e * bb - 2.0 * d * ax + 2.0 * e * bx - 2.0 * d * e * ab

    old_d, old_m = factor.astype(np.float64), minimum.astype(np.float64)
    det = aa * bb - ab * ab
    sound = det > 1e-6 * aa * bb
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        new_d = np.where(sound, (bb * ax - ab * bx) / det, np.where(aa > 0.0, (ax + old_m * ab) / aa, old_d))
        new_m = np.where(sound, (ab * ax - aa * bx) / det, old_m)
        new_factor = round_half(new_d.astype(np.float32))
        new_minimum = round_half(np.maximum(new_m, 0.0).astype(np.float32))
    better = cost(new_factor.astype(np.float64), new_minimum.astype(np.float64)) < cost(old_d, old_m)
    return np.where(better, new_factor, factor), np.where(better, new_minimum, minimum)
