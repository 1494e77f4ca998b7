"""Grouped affine codes: a group of weights shares a scale s and an origin, which its form says the meaning of.

With a zero point z weights decode to (q − z)·s, with an offset m to q·s + m; `forms` lists the forms. Scales and origins
are fitted to the extremes of each group, or given: then the caller has rounded them as they will be stored.

Weights arrive flat, as bit patterns: float32 as uint32, bfloat16 or float16 as uint16. Groups run along a row
of `cols` weights, the last of a row may be short; each row's codes are one LSB-first bitstream padded to a
whole byte. All arithmetic is float32 without fused multiply-add, in the order that `workbench.kernels.portable`
repeats; a group that is uncomfortable in float32 is computed in float64.

All functions take the same room to work in, as their last arguments: patterns uint32 [4096], ends int32 [2 * 4096], integers
uint8 [4096], inverses, delta and folded float32 [4096], words uint64 [4096 / 8 + 1]. Groups are rows of such an array seen as
[4096 / group, group].
"""

import numpy as np

from .blocks import BLOCK, add_error, first_not_finite, pack, take_from, unpack, widen
from .extremes import range_groups
from .forms import FIXED, OFFSET

MAGIC = np.float32(8388608.0)  # 2^23: adding it rounds half to even and leaves the integer
HUGE = np.float32(1e37)
LARGEST = 3.4028234663852886e38
SMALLEST = np.float32(1.401298464324817e-45)
MINUS_ZERO = np.float32(-0.0)  # the only number that leaves all others as they are when it is added


def is_narrow(low, high):
    """Whether a group is constant, or its range uncomfortable in float32."""
    return np.int32(low < -HUGE) | np.int32(high > HUGE) | np.int32(high - low < np.float32(1e-30))


def is_hard(scale, origin, most):
    """Whether codes for this scale and origin must be found in float64; an origin beyond `most` has too few digits."""
    return (
        np.int32(scale <= np.float32(1e-30)) | np.int32(scale >= np.float32(1e30)) | np.int32(abs(origin) >= most)
    )


def fit_groups(least, greatest, count, levels, form, scales, origins, g, inverses):
    """Scales, zero points and inverse scales of groups by their extremes, which mean nothing for narrow groups.

    Returns whether there are such.
    """
    low = least[:count]
    high = greatest[:count]
    s = scales[g : g + count]
    z = origins[g : g + count]
    r = inverses[:count]
    # Pythran divides scalars in float64; rounding the quotient once more gives what float32 division does.
    if form == FIXED:
        half = np.float32((levels + 1) // 2)
        for j in range(count):
            s[j] = np.float32(np.float32(2.0) * np.maximum(-low[j], high[j]) / np.float32(levels))
            z[j] = half
    else:
        for j in range(count):
            s[j] = np.float32((high[j] - low[j]) / np.float32(levels))
        for j in range(count):
            # Not −low: the zero point of a group that begins at ±0 is +0.
            z[j] = np.float32((np.float32(0.0) - low[j]) / s[j])
    some = np.int32(0)
    for j in range(count):
        r[j] = np.float32(np.float32(1.0) / s[j])
        some |= is_narrow(low[j], high[j])
    return some != np.int32(0)


def invert_scales(count, scales, origins, g, most, inverses):
    """Inverses of scales that are given; returns whether some group is hard."""
    s = scales[g : g + count]
    o = origins[g : g + count]
    r = inverses[:count]
    some = np.int32(0)
    for j in range(count):
        r[j] = np.float32(np.float32(1.0) / s[j])
        some |= is_hard(s[j], o[j], most)
    return some != np.int32(0)


def fit_exactly(low, high, levels, form):
    """Scale and zero point of a narrow group, and by what its weights are multiplied so that all decode to finite ones."""
    bottom = np.float64(low)
    peak = max(-bottom, np.float64(high))
    half = (levels + 1) // 2
    wide = np.float64(high) - bottom
    if form == FIXED:
        wide = min(2.0 * peak, LARGEST / half * levels)
    shrink = 1.0
    if peak > np.float64(HUGE):
        shrink = 1.0 - 2.0**-20
    wide = wide * shrink
    scale = max(np.float32(wide / levels), SMALLEST)
    if wide < np.float64(np.float32(1e-30)) and np.float64(scale) * levels < wide:
        # A subnormal scale is coarse: rounded down, its levels would not reach the other end.
        scale = np.float32(scale + SMALLEST)
    zero = np.float32((0.0 - bottom * shrink) / np.float64(scale))
    if low == high:
        # A group of one value decodes to it exactly, from a code beside the zero point.
        shrink = 1.0
        scale = abs(low) if low != np.float32(0.0) else np.float32(1.0)
        zero = np.float32(low < np.float32(0.0)) - np.float32(low > np.float32(0.0))
    if form == FIXED:
        zero = np.float32(half)
    return scale, zero, shrink


def assign_exactly(v, start, factor, divisor, added, levels, scale, zero, base, c, d):
    """Codes of a group from (w − start)·factor / divisor + added in float64, and the errors w − ŵ."""
    for k in range(v.size):
        x = np.rint((np.float64(v[k]) - start) * factor / divisor + added)
        q = np.int32(min(max(x, 0.0), np.float64(levels)))
        c[k] = np.uint8(q)
        d[k] = v[k] - ((np.float32(q) - zero) * scale + base)


def encode_hard_group(v, low, high, form, is_fitted, levels, scales, origins, i, c, d):
    """Encode group i, fitted or given, in float64."""
    start = 0.0
    factor = 1.0
    added = 0.0
    if is_fitted:
        scale, zero, factor = fit_exactly(low, high, levels, form)
        scales[i] = scale
        origins[i] = zero
        if form == FIXED:
            added = np.float64(zero)
        else:
            start = np.float64(low)
    elif form != OFFSET:
        added = np.float64(origins[i])
    divisor = np.float64(scales[i])
    if form == OFFSET:
        start = np.float64(origins[i])
        # Without a scale a group is constant.
        factor = 1.0 / divisor if divisor > 0.0 else 0.0
        divisor = 1.0
        assign_exactly(v, start, factor, divisor, added, levels, scales[i], np.float32(0.0), origins[i], c, d)
    else:
        assign_exactly(v, start, factor, divisor, added, levels, scales[i], origins[i], MINUS_ZERO, c, d)


def encode_groups(values, count, levels, form, is_fitted, some_hard, measured, ends, inverses, codes, delta, scales, origins, g):
    """Codes of groups, the first being group g, halves to even; and if measured the errors w − ŵ."""
    limits = ends.view(np.float32)
    least = limits[:BLOCK]
    greatest = limits[BLOCK:]
    top = np.int32(levels)
    most = np.float32(1e30) if form == OFFSET else np.float32(4194304.0)
    half = np.float32((levels + 1) // 2)
    shift = MAGIC + half if is_fitted and form == FIXED else MAGIC
    group = values.shape[1]
    for j in range(count):
        v = values[j]
        c = codes[j]
        d = delta[j]
        low = least[j]
        is_exact = False
        if some_hard:
            hard = is_narrow(low, greatest[j]) if is_fitted else is_hard(scales[g + j], origins[g + j], most)
            is_exact = hard != np.int32(0)
        # Clamped as integers, because minima of floats do not vectorise.
        if is_exact:
            encode_hard_group(v, low, greatest[j], form, is_fitted, levels, scales, origins, g + j, c, d)
        elif is_fitted and not measured:
            # The usual case has a loop of its own, which is quicker: no weight is below the least, and nothing is added.
            start = np.float32(0.0) if form == FIXED else low
            inverse = inverses[j]
            for k in range(group):
                c[k] = np.uint8(min(np.int32((v[k] - start) * inverse + shift - MAGIC), top))
        else:
            # Code (w − start)·inverse + added, which decodes to (q − zero)·scale + base.
            scale = scales[g + j]
            inverse = inverses[j]
            start = np.float32(0.0)
            added = np.float32(0.0)
            zero = origins[g + j]
            base = MINUS_ZERO
            if form == OFFSET:
                start = zero
                base = zero
                zero = np.float32(0.0)
            elif not is_fitted:
                added = zero
            elif form != FIXED:
                start = low
            if measured:
                for k in range(group):
                    x = (v[k] - start) * inverse + added
                    q = min(max(np.int32(x + shift - MAGIC), np.int32(0)), top)
                    c[k] = np.uint8(q)
                    d[k] = v[k] - ((np.float32(q) - zero) * scale + base)
            else:
                for k in range(group):
                    x = (v[k] - start) * inverse + added
                    c[k] = np.uint8(min(max(np.int32(x + shift - MAGIC), np.int32(0)), top))


def encode_rows(
    source, is_half, rows, cols, bits, group, form, is_fitted, scales, origins, codes, sums,
    patterns, ends, integers, inverses, delta, folded, words,
):  # fmt: skip
    """Find scales and origins if they are to be fitted, then codes, and pack them; returns the index of the first Inf or NaN."""
    levels = (1 << bits) - 1
    measured = sums.shape[0] > 0
    most = np.float32(1e30) if form == OFFSET else np.float32(4194304.0)
    row_bytes = (cols * bits + 7) // 8
    values = patterns.view(np.float32)
    stream = words.view(np.uint8)
    limits = ends.view(np.float32)
    tiles = patterns.view(np.int32).reshape(BLOCK // group, group)
    weights = patterns.view(np.float32).reshape(BLOCK // group, group)
    code_tiles = integers.reshape(BLOCK // group, group)
    error_tiles = delta.reshape(BLOCK // group, group)
    g = 0
    for row in range(rows):
        for start in range(0, cols, BLOCK):
            n = min(BLOCK, cols - start)
            first = row * cols + start
            widen(source[first : first + n], is_half, patterns)
            count = (n + group - 1) // group
            for i in range(n, count * group):
                patterns[i] = patterns[n - 1]  # which changes no extremes
            # Groups pass each step together: the processor works on several at once, and vectors fit their scales.
            some_hard = False
            if is_fitted:
                if not range_groups(tiles, count, ends):
                    return first + first_not_finite(patterns, n)
                some_hard = fit_groups(
                    limits[:BLOCK], limits[BLOCK:], count, levels, form, scales, origins, g, inverses
                )
            else:
                some_hard = invert_scales(count, scales, origins, g, most, inverses)
            encode_groups(
                weights, count, levels, form, is_fitted, some_hard, measured, ends, inverses, code_tiles, error_tiles,
                scales, origins, g,
            )
            g += count
            if measured:
                add_error(values, delta, n, folded, sums, row)
            pack(integers, n, bits, words)
            at = row * row_bytes + start * bits // 8
            size = (n * bits + 7) // 8
            codes[at : at + size] = stream[:size]
    return -1


#pythran export affine_encode(uint16[], bool, int, int, int, int, int, float32[], float32[], uint8[], float64[:,:] order(C), uint32[], int32[], uint8[], float32[], float32[], float32[], uint64[])
#pythran export affine_encode(uint32[], bool, int, int, int, int, int, float32[], float32[], uint8[], float64[:,:] order(C), uint32[], int32[], uint8[], float32[], float32[], float32[], uint64[])
def affine_encode(
    source, is_half, rows, cols, bits, group, form, scales, origins, codes, sums,
    patterns, ends, integers, inverses, delta, folded, words,
):  # fmt: skip
    """Quantize by round-to-nearest between the extremes of each group, and pack.

    Parameters
    ----------
    source : uint16 or uint32 [rows * cols]
        Bit patterns of the weights.
    is_half : bool
        For 16-bit patterns: float16 rather than bfloat16.
    bits : int, 2 to 8
    group : int
        Weights a group; divides 4096.
    form : int
        What an origin is, see `forms`: a real zero point, or one fixed at 2^(bits−1).
    scales, origins : float32 [rows * groups], out
    codes : uint8 [rows * ceil(cols * bits / 8)], out
    sums : float64 [rows, 3], added to
        ‖δ‖², ‖w‖² and w·δ of each row, where δ = w − ŵ. With no rows nothing is measured, which is quicker.

    Returns
    -------
    int
        Index of the first Inf or NaN, at which the work stopped, or -1.
    """
    return encode_rows(
        source, is_half, rows, cols, bits, group, form, True, scales, origins, codes, sums,
        patterns, ends, integers, inverses, delta, folded, words,
    )


#pythran export affine_assign(uint16[], bool, int, int, int, int, int, float32[], float32[], uint8[], float64[:,:] order(C), uint32[], int32[], uint8[], float32[], float32[], float32[], uint64[])
#pythran export affine_assign(uint32[], bool, int, int, int, int, int, float32[], float32[], uint8[], float64[:,:] order(C), uint32[], int32[], uint8[], float32[], float32[], float32[], uint64[])
def affine_assign(
    source, is_half, rows, cols, bits, group, form, scales, origins, codes, sums,
    patterns, ends, integers, inverses, delta, folded, words,
):  # fmt: skip
    """Quantize with given scales and origins of any form, and pack; parameters are those of `affine_encode`.

    The weights must be finite, which finding the scales has checked.
    """
    encode_rows(
        source, is_half, rows, cols, bits, group, form, False, scales, origins, codes, sums,
        patterns, ends, integers, inverses, delta, folded, words,
    )


def decode_groups(codes, first_byte, n, bits, form, scales, origins, g, words, integers, code_tiles, decoded):
    """Decode n codes that begin at a byte and with group g; returns how many groups that were."""
    size = (n * bits + 7) // 8
    stream = words.view(np.uint8)
    stream[:size] = codes[first_byte : first_byte + size]
    unpack(words, n, bits, integers)
    group = code_tiles.shape[1]
    count = (n + group - 1) // group
    for j in range(count):
        c = code_tiles[j]
        d = decoded[j]
        scale = scales[g + j]
        zero = origins[g + j]
        base = MINUS_ZERO
        if form == OFFSET:
            base = zero
            zero = np.float32(0.0)
        for k in range(group):
            d[k] = (np.float32(np.int32(c[k])) - zero) * scale + base
    return count


#pythran export affine_decode(uint8[], int, int, int, int, int, float32[], float32[], float32[], uint32[], int32[], uint8[], float32[], float32[], float32[], uint64[])
def affine_decode(
    codes, rows, cols, bits, group, form, scales, origins, decoded,
    patterns, ends, integers, inverses, delta, folded, words,
):  # fmt: skip
    """Decode what `affine_encode` or `affine_assign` wrote, to float32 [rows * cols]."""
    row_bytes = (cols * bits + 7) // 8
    code_tiles = integers.reshape(BLOCK // group, group)
    tiles = delta.reshape(BLOCK // group, group)
    g = 0
    for row in range(rows):
        for start in range(0, cols, BLOCK):
            n = min(BLOCK, cols - start)
            at = row * row_bytes + start * bits // 8
            g += decode_groups(codes, at, n, bits, form, scales, origins, g, words, integers, code_tiles, tiles)
            first = row * cols + start
            decoded[first : first + n] = delta[:n]


#pythran export affine_error(uint16[], bool, uint8[], int, int, int, int, int, float32[], float32[], float64[:,:] order(C), uint32[], int32[], uint8[], float32[], float32[], float32[], uint64[])
#pythran export affine_error(uint32[], bool, uint8[], int, int, int, int, int, float32[], float32[], float64[:,:] order(C), uint32[], int32[], uint8[], float32[], float32[], float32[], uint64[])
def affine_error(
    source, is_half, codes, rows, cols, bits, group, form, scales, origins, sums,
    patterns, ends, integers, inverses, delta, folded, words,
):  # fmt: skip
    """Add ‖δ‖², ‖w‖² and w·δ of stored codes against their source to sums, row by row.

    Parameters and the result are those of `affine_encode`; the decoded weights are never kept.
    """
    row_bytes = (cols * bits + 7) // 8
    values = patterns.view(np.float32)
    code_tiles = integers.reshape(BLOCK // group, group)
    tiles = delta.reshape(BLOCK // group, group)
    g = 0
    for row in range(rows):
        for start in range(0, cols, BLOCK):
            n = min(BLOCK, cols - start)
            first = row * cols + start
            widen(source[first : first + n], is_half, patterns)
            bad = first_not_finite(patterns, n)
            if bad >= 0:
                return first + bad
            at = row * row_bytes + start * bits // 8
            g += decode_groups(codes, at, n, bits, form, scales, origins, g, words, integers, code_tiles, tiles)
            take_from(values, n, delta)
            add_error(values, delta, n, folded, sums, row)
    return -1
