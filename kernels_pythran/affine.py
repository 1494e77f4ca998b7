"""Group-wise affine quantization: w ≈ (q − z)·s, with one scale s and one real zero point z a group.

Weights arrive flat, as bit patterns: float32 as uint32, bfloat16 or float16 as uint16. Groups run along a row
of `cols` weights, the last of a row may be short; each row's codes are one LSB-first bitstream padded to a
whole byte. All arithmetic is float32 without fused multiply-add, in the order that `workbench.kernels.portable`
repeats; a group whose range is uncomfortable in float32 is computed in float64.

All functions take the same room to work in, as their last arguments: patterns uint32 [4096], ends int32 [2 * 4096], integers
uint8 [4096], inverses, delta and folded float32 [4096], words uint64 [4096 / 8 + 1]. Groups are rows of such an array seen as
[4096 / group, group].
"""

import numpy as np

from .blocks import BLOCK, add_error, first_not_finite, pack, take_from, unpack, widen
from .extremes import range_groups

MAGIC = np.float32(8388608.0)  # 2^23: adding it rounds half to even and leaves the integer
HUGE = np.float32(1e37)
LARGEST = 3.4028234663852886e38
SMALLEST = np.float32(1.401298464324817e-45)


def fit_constant(low, levels, symmetric):
    """Scale and zero point of a group of one value, and the code that decodes exactly to it."""
    sign = np.float32(low > np.float32(0.0)) - np.float32(low < np.float32(0.0))
    scale = abs(low) if low != np.float32(0.0) else np.float32(1.0)
    if symmetric:
        half = np.float32((levels + 1) // 2)
        return scale, half, half + sign
    return scale, np.float32(0.0) - sign, np.float32(0.0)


def is_odd(low, high):
    """Whether a group is constant, or uncomfortable in float32."""
    return np.int32(low < -HUGE) | np.int32(high > HUGE) | np.int32(high - low < np.float32(1e-30))


def fit_groups(least, greatest, count, levels, symmetric, scales, zeros, g, inverses):
    """Scales, zero points and inverse scales of groups by their extremes, which mean nothing for odd groups.

    Returns whether there are such.
    """
    low = least[:count]
    high = greatest[:count]
    s = scales[g : g + count]
    z = zeros[g : g + count]
    r = inverses[:count]
    # Pythran divides scalars in float64; rounding the quotient once more gives what float32 division does.
    if symmetric:
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
    odd = np.int32(0)
    for j in range(count):
        r[j] = np.float32(np.float32(1.0) / s[j])
        odd |= is_odd(low[j], high[j])
    return odd != np.int32(0)


def encode_exactly(v, low, high, levels, symmetric, codes, delta):
    """`encode_groups` in float64, for ranges that overflow float32 or whose scale is subnormal."""
    bottom = np.float64(low)
    peak = max(-bottom, np.float64(high))
    half = (levels + 1) // 2
    wide = np.float64(high) - bottom
    if symmetric:
        wide = min(2.0 * peak, LARGEST / half * levels)
    shrink = 1.0
    if peak > np.float64(HUGE):
        # So that no decoded weight rounds to infinity.
        shrink = 1.0 - 2.0**-20
    wide = wide * shrink
    scale = max(np.float32(wide / levels), SMALLEST)
    if wide < np.float64(np.float32(1e-30)) and np.float64(scale) * levels < wide:
        # A subnormal scale is coarse: rounded down, its levels would not reach the other end.
        scale = np.float32(scale + SMALLEST)
    s = np.float64(scale)
    zero = np.float32((0.0 - bottom * shrink) / s)
    offset = bottom
    origin = 0.0
    if symmetric:
        zero = np.float32(half)
        offset = 0.0
        origin = np.float64(half)
    for k in range(v.size):
        q = min(max(np.rint((np.float64(v[k]) - offset) * shrink / s + origin), 0.0), np.float64(levels))
        codes[k] = np.uint8(q)
        delta[k] = v[k] - (np.float32(q) - zero) * scale
    return scale, zero


def encode_odd(v, low, high, levels, symmetric, c, d):
    """Encode a group that is constant, or uncomfortable in float32."""
    if low != high:
        return encode_exactly(v, low, high, levels, symmetric, c, d)
    scale, zero, code = fit_constant(low, levels, symmetric)
    for k in range(v.size):
        c[k] = np.uint8(code)
        d[k] = np.float32(0.0)
    return scale, zero


def encode_groups(values, count, levels, symmetric, measured, ends, inverses, codes, delta, scales, zeros, g):
    """Encode groups, the first being group g, by their extremes; leave codes and, if measured, errors w − ŵ."""
    limits = ends.view(np.float32)
    least = limits[:BLOCK]
    greatest = limits[BLOCK:]
    some_odd = fit_groups(least, greatest, count, levels, symmetric, scales, zeros, g, inverses)
    top = np.int32(levels)
    shift = MAGIC + np.float32((levels + 1) // 2) if symmetric else MAGIC
    group = values.shape[1]
    for j in range(count):
        v = values[j]
        c = codes[j]
        d = delta[j]
        low = least[j]
        if some_odd and is_odd(low, greatest[j]) != np.int32(0):
            scale, zero = encode_odd(v, low, greatest[j], levels, symmetric, c, d)
            scales[g + j] = scale
            zeros[g + j] = zero
        else:
            offset = np.float32(0.0) if symmetric else low
            inverse = inverses[j]
            if measured:
                scale = scales[g + j]
                zero = zeros[g + j]
                for k in range(group):
                    q = min(np.int32((v[k] - offset) * inverse + shift - MAGIC), top)
                    c[k] = np.uint8(q)
                    d[k] = v[k] - (np.float32(q) - zero) * scale
            else:
                for k in range(group):
                    c[k] = np.uint8(min(np.int32((v[k] - offset) * inverse + shift - MAGIC), top))


#pythran export affine_encode(uint16[], bool, int, int, int, int, bool, uint8[], float32[], float32[], float64[:,:] order(C), uint32[], int32[], uint8[], float32[], float32[], float32[], uint64[])
#pythran export affine_encode(uint32[], bool, int, int, int, int, bool, uint8[], float32[], float32[], float64[:,:] order(C), uint32[], int32[], uint8[], float32[], float32[], float32[], uint64[])
def affine_encode(
    source, is_half, rows, cols, bits, group, symmetric, codes, scales, zeros, sums,
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
    symmetric : bool
        Zero point fixed at 2^(bits−1).
    codes : uint8 [rows * ceil(cols * bits / 8)], out
    scales, zeros : float32 [rows * groups], out
    sums : float64 [rows, 3], added to
        ‖δ‖², ‖w‖² and w·δ of each row, where δ = w − ŵ. With no rows nothing is measured, which is quicker.

    Returns
    -------
    int
        Index of the first Inf or NaN, at which the work stopped, or -1.
    """
    levels = (1 << bits) - 1
    measured = sums.shape[0] > 0
    row_bytes = (cols * bits + 7) // 8
    values = patterns.view(np.float32)
    stream = words.view(np.uint8)
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
            if not range_groups(tiles, count, ends):
                return first + first_not_finite(patterns, n)
            encode_groups(
                weights, count, levels, symmetric, measured, ends, inverses, code_tiles, error_tiles, scales, zeros, g
            )
            g += count
            if measured:
                add_error(values, delta, n, folded, sums, row)
            pack(integers, n, bits, words)
            at = row * row_bytes + start * bits // 8
            size = (n * bits + 7) // 8
            codes[at : at + size] = stream[:size]
    return -1


def assign_exactly(v, scale, zero, levels, c, d):
    """Codes of a group, and its errors, where float32 would overflow, or the zero point is beyond its whole numbers."""
    for k in range(v.size):
        x = np.rint(np.float64(v[k]) / np.float64(scale) + np.float64(zero))
        q = np.int32(min(max(x, 0.0), np.float64(levels)))
        c[k] = np.uint8(q)
        d[k] = v[k] - (np.float32(q) - zero) * scale


def assign_groups(weights, count, levels, scales, zeros, g, codes, errors):
    """Codes of groups, the nearest of 0 to levels with halves to even, and the errors w − ŵ."""
    group = weights.shape[1]
    for j in range(count):
        v = weights[j]
        c = codes[j]
        d = errors[j]
        scale = scales[g + j]
        zero = zeros[g + j]
        if scale > np.float32(1e-30) and scale < np.float32(1e30) and abs(zero) < np.float32(4194304.0):
            inverse = np.float32(np.float32(1.0) / scale)
            for k in range(group):
                q = min(max(np.int32(v[k] * inverse + zero + MAGIC - MAGIC), np.int32(0)), np.int32(levels))
                c[k] = np.uint8(q)
                d[k] = v[k] - (np.float32(q) - zero) * scale
        else:
            assign_exactly(v, scale, zero, levels, c, d)


#pythran export affine_assign(uint16[], bool, int, int, int, int, float32[], float32[], uint8[], float64[:,:] order(C), uint32[], int32[], uint8[], float32[], float32[], float32[], uint64[])
#pythran export affine_assign(uint32[], bool, int, int, int, int, float32[], float32[], uint8[], float64[:,:] order(C), uint32[], int32[], uint8[], float32[], float32[], float32[], uint64[])
def affine_assign(
    source, is_half, rows, cols, bits, group, scales, zeros, codes, sums,
    patterns, ends, integers, inverses, delta, folded, words,
):  # fmt: skip
    """Quantize with given scales, above 0, and zero points, and pack; parameters are those of `affine_encode`.

    The weights are finite. With no rows of sums nothing is measured.
    """
    levels = (1 << bits) - 1
    measured = sums.shape[0] > 0
    row_bytes = (cols * bits + 7) // 8
    values = patterns.view(np.float32)
    weights = values.reshape(BLOCK // group, group)
    code_tiles = integers.reshape(BLOCK // group, group)
    error_tiles = delta.reshape(BLOCK // group, group)
    stream = words.view(np.uint8)
    g = 0
    for row in range(rows):
        for start in range(0, cols, BLOCK):
            n = min(BLOCK, cols - start)
            first = row * cols + start
            widen(source[first : first + n], is_half, patterns)
            count = (n + group - 1) // group
            for i in range(n, count * group):
                patterns[i] = np.uint32(0)
            assign_groups(weights, count, levels, scales, zeros, g, code_tiles, error_tiles)
            g += count
            if measured:
                add_error(values, delta, n, folded, sums, row)
            pack(integers, n, bits, words)
            at = row * row_bytes + start * bits // 8
            size = (n * bits + 7) // 8
            codes[at : at + size] = stream[:size]


def decode_groups(codes, first_byte, n, bits, scales, zeros, g, words, integers, code_tiles, decoded):
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
        zero = zeros[g + j]
        scale = scales[g + j]
        for k in range(group):
            d[k] = (np.float32(np.int32(c[k])) - zero) * scale
    return count


#pythran export affine_decode(uint8[], int, int, int, int, float32[], float32[], float32[], uint32[], int32[], uint8[], float32[], float32[], float32[], uint64[])
def affine_decode(
    codes, rows, cols, bits, group, scales, zeros, decoded,
    patterns, ends, integers, inverses, delta, folded, words,
):  # fmt: skip
    """Decode what `affine_encode` wrote: decoded = (q − z)·s, float32 [rows * cols]."""
    row_bytes = (cols * bits + 7) // 8
    code_tiles = integers.reshape(BLOCK // group, group)
    tiles = delta.reshape(BLOCK // group, group)
    g = 0
    for row in range(rows):
        for start in range(0, cols, BLOCK):
            n = min(BLOCK, cols - start)
            at = row * row_bytes + start * bits // 8
            g += decode_groups(codes, at, n, bits, scales, zeros, g, words, integers, code_tiles, tiles)
            first = row * cols + start
            decoded[first : first + n] = delta[:n]


#pythran export affine_error(uint16[], bool, uint8[], int, int, int, int, float32[], float32[], float64[:,:] order(C), uint32[], int32[], uint8[], float32[], float32[], float32[], uint64[])
#pythran export affine_error(uint32[], bool, uint8[], int, int, int, int, float32[], float32[], float64[:,:] order(C), uint32[], int32[], uint8[], float32[], float32[], float32[], uint64[])
def affine_error(
    source, is_half, codes, rows, cols, bits, group, scales, zeros, sums,
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
            g += decode_groups(codes, at, n, bits, scales, zeros, g, words, integers, code_tiles, tiles)
            take_from(values, n, delta)
            add_error(values, delta, n, folded, sums, row)
    return -1
