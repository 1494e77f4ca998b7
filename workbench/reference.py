"""The kernels in NumPy: the same names, arguments and results as the compiled ones in `kernels_pythran`.

They run where nothing could be compiled, and they say what the compiled kernels must compute. Codes, scales,
zero points, decoded weights and counts are equal bit for bit, because every float32 operation happens here in
the same order; sums are taken in float64 and agree to about 1e-6. The docstrings of `kernels_pythran` say
what the arguments are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

TILE = 1 << 18
"""Weights handled at a time: they and their temporaries stay in the cache; a multiple of every group."""

MAGIC = np.float32(1 << 23)
"""Adding it rounds half to even and leaves the integer in the low bits of the float32."""

HUGE = np.float32(1e37)
"""A group with a larger weight is computed in float64."""

NARROW = np.float32(1e-30)
"""A group with a smaller range is computed in float64."""

SHRINK = 1.0 - 2.0**-20
"""Applied to huge groups, so that no decoded weight rounds to infinity."""

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
) -> int:
    """Quantize by round-to-nearest between the extremes of each group, and pack."""
    levels = (1 << bits) - 1
    weights = source.reshape(rows, cols)
    packed = codes.reshape(rows, -1)
    scale, zero = scales.reshape(rows, -1), zeros.reshape(rows, -1)
    for r, c in _tiles(rows, cols):
        values = _widen(weights[r, c], is_half)
        bad = _first_not_finite(values)
        if bad >= 0:
            return int(r.start * cols + c.start + bad)
        shifted = np.empty_like(values)
        delta = np.empty_like(values)
        for inside, groups in _runs(values.shape[1], group):
            at = slice(c.start // group + groups.start, c.start // group + groups.stop)
            v, t, d = (_grouped(x, inside, groups) for x in (values, shifted, delta))
            scale[r, at], zero[r, at] = _encode_groups(v, levels, symmetric, t)
            np.subtract(t, MAGIC, out=d)
            d -= zero[r, at, None]
            d *= scale[r, at, None]
        np.subtract(values, delta, out=delta)
        _add_error(values, delta, sums[r])
        integers = (shifted.view(np.uint32) & np.uint32(levels)).astype(np.uint8)
        packed[r, _byte_range(c, bits)] = _pack(integers, bits)
    return -1


def affine_decode(
    codes: Array, rows: int, cols: int, bits: int, group: int, scales: Array, zeros: Array, decoded: Array
) -> None:
    """Decode what `affine_encode` wrote: (q − z)·s in float32."""
    packed = codes.reshape(rows, -1)
    scale, zero = scales.reshape(rows, -1), zeros.reshape(rows, -1)
    weights = decoded.reshape(rows, cols)
    for r, c in _tiles(rows, cols):
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
) -> int:
    """Add ‖δ‖², ‖w‖² and w·δ of stored codes against their source to sums, row by row."""
    packed = codes.reshape(rows, -1)
    scale, zero = scales.reshape(rows, -1), zeros.reshape(rows, -1)
    weights = source.reshape(rows, cols)
    for r, c in _tiles(rows, cols):
        values = _widen(weights[r, c], is_half)
        bad = _first_not_finite(values)
        if bad >= 0:
            return int(r.start * cols + c.start + bad)
        _add_error(values, values - _decode_tile(packed, r, c, bits, group, scale, zero), sums[r])
    return -1


def pack_bits(codes: Array, rows: int, cols: int, bits: int, packed: Array) -> None:
    """Pack each row of codes into ceil(cols · bits / 8) bytes; higher bits of a code are ignored."""
    integers = codes.reshape(rows, cols)
    stream = packed.reshape(rows, -1)
    for r, c in _tiles(rows, cols):
        stream[r, _byte_range(c, bits)] = _pack(integers[r, c] & np.uint8((1 << bits) - 1), bits)


def unpack_bits(packed: Array, rows: int, cols: int, bits: int, codes: Array) -> None:
    """Undo `pack_bits`."""
    stream = packed.reshape(rows, -1)
    integers = codes.reshape(rows, cols)
    for r, c in _tiles(rows, cols):
        integers[r, c] = _unpack(stream[r, _byte_range(c, bits)], c.stop - c.start, bits)


def code_counts(packed: Array, rows: int, cols: int, bits: int, counts: Array) -> None:
    """Add the occurrences of each code in rows of packed codes to counts."""
    stream = packed.reshape(rows, -1)
    for r, c in _tiles(rows, cols):
        integers = _unpack(stream[r, _byte_range(c, bits)], c.stop - c.start, bits)
        counts += np.bincount(integers.ravel(), minlength=1 << bits)


def histogram(source: Array, is_half: bool, low: float, high: float, counts: Array) -> int:
    """Add the number of values in each of len(counts) equal bins between low and high to counts."""
    bins = counts.size
    width = high / 2.0 - low / 2.0
    factor = min(bins / 2.0 / width, float(np.finfo(np.float64).max)) if width > 0.0 else 0.0
    for start in range(0, source.size, TILE):
        values = _widen(source[start : start + TILE], is_half)
        bad = _first_not_finite(values)
        if bad >= 0:
            return start + bad
        with np.errstate(over="ignore"):
            position = (values.astype(np.float64) - low) * factor
        np.clip(position, 0.0, bins - 1, out=position)
        counts += np.bincount(position.astype(np.int64), minlength=bins)
    return -1


def moments(source: Array, is_half: bool, center: float, scale: float, results: Array) -> int:
    """Extremes and the sums of the first four powers of (w − center)·scale."""
    for start in range(0, source.size, TILE):
        values = _widen(source[start : start + TILE], is_half)
        bad = _first_not_finite(values)
        if bad >= 0:
            return start + bad
        results[0] = min(results[0], values.min())
        results[1] = max(results[1], values.max())
        x = (values.astype(np.float64) - center) * scale
        y = x * x
        results[2:] += x.sum(), y.sum(), x @ y, y @ y
    return -1


def error_sums(source: Array, is_half: bool, decoded: Array, cols: int, sums: Array) -> int:
    """Add ‖δ‖², ‖w‖² and w·δ of decoded weights against their source to sums, row by row."""
    rows = len(sums)
    weights, other = source.reshape(rows, cols), decoded.reshape(rows, cols)
    for r, c in _tiles(rows, cols):
        values = _widen(weights[r, c], is_half)
        bad = _first_not_finite(values)
        if bad >= 0:
            return int(r.start * cols + c.start + bad)
        _add_error(values, values - other[r, c], sums[r])
    return -1


def _tiles(rows: int, cols: int) -> Iterator[tuple[slice, slice]]:
    """Row and column ranges of at most TILE weights, in the order of the flat index."""
    height = max(TILE // max(cols, 1), 1)
    for row in range(0, rows, height):
        for col in range(0, cols, TILE):
            yield slice(row, min(row + height, rows)), slice(col, min(col + TILE, cols))


def _runs(cols: int, group: int) -> Iterator[tuple[slice, slice]]:
    """Column and group ranges of equal groups: the whole ones, then the short one at the end."""
    whole = cols // group
    if whole:
        yield slice(0, whole * group), slice(0, whole)
    if cols % group:
        yield slice(whole * group, cols), slice(whole, whole + 1)


def _grouped(x: Array, inside: slice, groups: slice) -> Array:
    """A view [rows, groups, weights of a group] of the columns inside."""
    # Splitting the last axis of a slice never copies.
    return x[:, inside].reshape(x.shape[0], groups.stop - groups.start, -1)


def _byte_range(columns: slice, bits: int) -> slice:
    """Bytes of a row that hold the codes of the given columns; a tile begins at a whole byte."""
    return slice(columns.start * bits // 8, (columns.stop * bits + 7) // 8)


def _widen(source: Array, is_half: bool) -> Array:
    """Decode float32 (uint32), bfloat16 or float16 (uint16) patterns to a C-order float32 array."""
    source = np.ascontiguousarray(source)
    if source.itemsize == 4:
        return source.view(np.float32)
    if is_half:
        return source.view(np.float16).astype(np.float32)
    wide = source.astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)


def _first_not_finite(values: Array) -> int:
    finite = np.isfinite(values)
    return -1 if finite.all() else int(np.argmin(finite))


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


def _decode_tile(
    packed: Array, r: slice, c: slice, bits: int, group: int, scale: Array, zero: Array
) -> Array:
    """Weights of a tile, float32 [rows, cols]."""
    decoded = _unpack(packed[r, _byte_range(c, bits)], c.stop - c.start, bits).astype(np.float32)
    for inside, groups in _runs(decoded.shape[1], group):
        at = slice(c.start // group + groups.start, c.start // group + groups.stop)
        d = _grouped(decoded, inside, groups)
        d -= zero[r, at, None]
        d *= scale[r, at, None]
    return decoded


def _add_error(values: Array, delta: Array, sums: Array) -> None:
    """Add ‖δ‖², ‖w‖² and w·δ of each row to sums, a view of as many rows."""
    w, d = values.astype(np.float64), delta.astype(np.float64)
    sums[:, 0] += np.einsum("rc,rc->r", d, d)
    sums[:, 1] += np.einsum("rc,rc->r", w, w)
    sums[:, 2] += np.einsum("rc,rc->r", w, d)


def _pack(codes: Array, bits: int) -> Array:
    """Pack uint8 codes [rows, cols] LSB first into bytes [rows, ceil(cols · bits / 8)]."""
    rows, cols = codes.shape
    eights = np.zeros((rows, -(-cols // 8), 8), np.uint8)
    eights.reshape(rows, -1)[:, :cols] = codes
    # Eight codes become `bits` bytes: as one integer, by joining neighbours, pairs and fours.
    word = eights.view("<u8")
    for lane, filled in ((8, bits), (16, 2 * bits), (32, 4 * bits)):
        mask = _lanes(lane, filled)
        word = (word & mask) | ((word >> np.uint64(lane)) & mask) << np.uint64(filled)
    stream = word.view(np.uint8)[..., :bits].reshape(rows, -1)
    return stream[:, : (cols * bits + 7) // 8]


def _unpack(stream: Array, cols: int, bits: int) -> Array:
    """Undo `_pack`."""
    rows = len(stream)
    eights = np.zeros((rows, -(-cols // 8) * bits), np.uint8)
    eights[:, : stream.shape[1]] = stream
    wide = np.zeros((rows, -(-cols // 8), 8), np.uint8)
    wide[..., :bits] = eights.reshape(rows, -1, bits)
    word = wide.view("<u8")
    for lane, filled in ((32, 4 * bits), (16, 2 * bits), (8, bits)):
        mask = _lanes(lane, filled)
        word = (word & mask) | ((word >> np.uint64(filled)) & mask) << np.uint64(lane)
    return word.view(np.uint8).reshape(rows, -1)[:, :cols]


def _lanes(lane: int, filled: int) -> np.uint64:
    """A mask of the low `filled` bits in every other lane of a 64-bit word."""
    return np.uint64(sum(((1 << filled) - 1) << at for at in range(0, 64, 2 * lane)))
