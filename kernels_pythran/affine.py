"""Group-wise affine quantization: w ≈ (q − z)·s, with one scale s and one real zero point z a group.

Weights arrive flat, as bit patterns: float32 as uint32, bfloat16 or float16 as uint16. Groups run along a row
of `cols` weights, the last of a row may be short; each row's codes are one LSB-first bitstream padded to a
whole byte. All arithmetic is float32 without fused multiply-add, in the order that `workbench.reference`
repeats; a group whose range is uncomfortable in float32 is computed in float64.
"""

import numpy as np

from .blocks import BLOCK, INFINITY, add_error, first_not_finite, pack, unpack, widen

MAGIC = np.float32(8388608.0)  # 2^23: adding it rounds half to even and leaves the integer
HUGE = np.float32(1e37)
LARGEST = 3.4028234663852886e38
SMALLEST = np.float32(1.401298464324817e-45)


def fit(low, high, levels, symmetric):
    """Scale and zero point of a group with the given extremes; offset, inverse and origin of its codes.

    The code of a weight is (w − offset)·inverse + origin, rounded.
    """
    half = np.float32((levels + 1) // 2)
    if low == high:
        # A constant group decodes exactly, from code 0 or, when symmetric, from the code one step from zero.
        scale = abs(low) if low != np.float32(0.0) else np.float32(1.0)
        sign = np.float32(low > np.float32(0.0)) - np.float32(low < np.float32(0.0))
        if symmetric:
            return scale, half, low, np.float32(0.0), half + sign
        return scale, np.float32(0.0) - sign, low, np.float32(0.0), np.float32(0.0)
    # Pythran divides scalars in float64; rounding the quotient once more gives what float32 division does.
    if symmetric:
        scale = np.float32(np.float32(2.0) * max(-low, high) / np.float32(levels))
        return scale, half, np.float32(0.0), np.float32(np.float32(1.0) / scale), half
    scale = np.float32((high - low) / np.float32(levels))
    # Not −low: the zero point of a group that begins at ±0 is +0.
    zero = np.float32((np.float32(0.0) - low) / scale)
    return scale, zero, low, np.float32(np.float32(1.0) / scale), np.float32(0.0)


def is_uncomfortable(low, high):
    """Whether a group that is not constant must be computed in float64."""
    if low == high:
        return False
    return max(-low, high) > HUGE or high - low < np.float32(1e-30)


def encode_exactly(v, low, high, levels, symmetric, codes, delta):
    """`encode_group` in float64, for ranges that overflow float32 or whose scale is subnormal."""
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


def encode_block(patterns, n, group, levels, symmetric, measured, extremes, codes, delta, scales, zeros, g):
    """Encode n weights that begin with group g; leave their codes and, if measured, errors w − ŵ.

    Returns the index of the first Inf or NaN, or -1.
    """
    signed = patterns.view(np.int32)
    values = patterns.view(np.float32)
    limits = extremes.view(np.float32)
    top = np.int32(levels)
    for a in range(0, n, group):
        b = min(a + group, n)
        size = b - a
        p = signed[a:b]
        v = values[a:b]
        c = codes[a:b]
        d = delta[a:b]
        # As integers with the order of the floats, because minima of floats do not vectorise.
        least = np.int32(0x7FFFFFFF)
        most = np.int32(-0x7FFFFFFF)
        for k in range(size):
            key = p[k] ^ ((p[k] >> np.int32(31)) & np.int32(0x7FFFFFFF))
            least = min(least, key)
            most = max(most, key)
        if most >= np.int32(INFINITY) or least < np.int32(-INFINITY):
            return first_not_finite(patterns, n)
        extremes[0] = least ^ ((least >> np.int32(31)) & np.int32(0x7FFFFFFF))
        extremes[1] = most ^ ((most >> np.int32(31)) & np.int32(0x7FFFFFFF))
        low = limits[0]
        high = limits[1]
        if is_uncomfortable(low, high):
            scale, zero = encode_exactly(v, low, high, levels, symmetric, c, d)
        else:
            scale, zero, offset, inverse, origin = fit(low, high, levels, symmetric)
            shift = MAGIC + origin
            if measured:
                for k in range(size):
                    q = min(np.int32((v[k] - offset) * inverse + shift - MAGIC), top)
                    c[k] = np.uint8(q)
                    d[k] = v[k] - (np.float32(q) - zero) * scale
            else:
                for k in range(size):
                    c[k] = np.uint8(min(np.int32((v[k] - offset) * inverse + shift - MAGIC), top))
        scales[g] = scale
        zeros[g] = zero
        g += 1
    return -1


#pythran export affine_encode(uint16[], bool, int, int, int, int, bool, uint8[], float32[], float32[], float64[:,:] order(C))
#pythran export affine_encode(uint32[], bool, int, int, int, int, bool, uint8[], float32[], float32[], float64[:,:] order(C))
def affine_encode(source, is_half, rows, cols, bits, group, symmetric, codes, scales, zeros, sums):
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
    patterns = np.empty(BLOCK, np.uint32)
    values = patterns.view(np.float32)
    extremes = np.empty(2, np.int32)
    integers = np.empty(BLOCK, np.uint8)
    delta = np.empty(BLOCK, np.float32)
    folded = np.empty(BLOCK, np.float32)
    words = np.empty(BLOCK // 8, np.uint64)
    stream = words.view(np.uint8)
    g = 0
    for row in range(rows):
        for start in range(0, cols, BLOCK):
            n = min(BLOCK, cols - start)
            first = row * cols + start
            widen(source[first : first + n], is_half, patterns)
            bad = encode_block(
                patterns, n, group, levels, symmetric, measured, extremes, integers, delta, scales, zeros, g
            )
            if bad >= 0:
                return first + bad
            g += (n + group - 1) // group
            if measured:
                add_error(values, delta, n, folded, sums, row)
            pack(integers, n, bits, words)
            at = row * row_bytes + start * bits // 8
            size = (n * bits + 7) // 8
            codes[at : at + size] = stream[:size]
    return -1


def assign_group(v, size, scale, zero, levels, c, d):
    """Codes of a group, the nearest of 0 to levels with halves to even, and the errors w − ŵ."""
    if scale > np.float32(1e-30) and scale < np.float32(1e30) and abs(zero) < np.float32(4194304.0):
        inverse = np.float32(np.float32(1.0) / scale)
        for k in range(size):
            q = min(max(np.int32(v[k] * inverse + zero + MAGIC - MAGIC), np.int32(0)), np.int32(levels))
            c[k] = np.uint8(q)
            d[k] = v[k] - (np.float32(q) - zero) * scale
    else:
        # Where float32 would overflow, or the zero point is beyond its whole numbers.
        for k in range(size):
            x = np.rint(np.float64(v[k]) / np.float64(scale) + np.float64(zero))
            q = np.int32(min(max(x, 0.0), np.float64(levels)))
            c[k] = np.uint8(q)
            d[k] = v[k] - (np.float32(q) - zero) * scale


#pythran export affine_assign(uint16[], bool, int, int, int, int, float32[], float32[], uint8[], float64[:,:] order(C))
#pythran export affine_assign(uint32[], bool, int, int, int, int, float32[], float32[], uint8[], float64[:,:] order(C))
def affine_assign(source, is_half, rows, cols, bits, group, scales, zeros, codes, sums):
    """Quantize with given scales, above 0, and zero points, and pack; parameters are those of `affine_encode`.

    The weights are finite. With no rows of sums nothing is measured.
    """
    levels = (1 << bits) - 1
    measured = sums.shape[0] > 0
    row_bytes = (cols * bits + 7) // 8
    patterns = np.empty(BLOCK, np.uint32)
    values = patterns.view(np.float32)
    integers = np.empty(BLOCK, np.uint8)
    delta = np.empty(BLOCK, np.float32)
    folded = np.empty(BLOCK, np.float32)
    words = np.empty(BLOCK // 8, np.uint64)
    stream = words.view(np.uint8)
    g = 0
    for row in range(rows):
        for start in range(0, cols, BLOCK):
            n = min(BLOCK, cols - start)
            first = row * cols + start
            widen(source[first : first + n], is_half, patterns)
            for a in range(0, n, group):
                b = min(a + group, n)
                assign_group(values[a:b], b - a, scales[g], zeros[g], levels, integers[a:b], delta[a:b])
                g += 1
            if measured:
                add_error(values, delta, n, folded, sums, row)
            pack(integers, n, bits, words)
            at = row * row_bytes + start * bits // 8
            size = (n * bits + 7) // 8
            codes[at : at + size] = stream[:size]


def decode_block(codes, first_byte, n, bits, group, scales, zeros, g, words, integers, decoded):
    """Decode n codes that begin at a byte and with group g."""
    size = (n * bits + 7) // 8
    stream = words.view(np.uint8)
    stream[:size] = codes[first_byte : first_byte + size]
    unpack(words, n, bits, integers)
    for a in range(0, n, group):
        b = min(a + group, n)
        c = integers[a:b]
        d = decoded[a:b]
        zero = zeros[g]
        scale = scales[g]
        for k in range(b - a):
            d[k] = (np.float32(np.int32(c[k])) - zero) * scale
        g += 1


#pythran export affine_decode(uint8[], int, int, int, int, float32[], float32[], float32[])
def affine_decode(codes, rows, cols, bits, group, scales, zeros, decoded):
    """Decode what `affine_encode` wrote: decoded = (q − z)·s, float32 [rows * cols]."""
    row_bytes = (cols * bits + 7) // 8
    words = np.empty(BLOCK // 8 + 1, np.uint64)
    integers = np.empty(BLOCK, np.uint8)
    values = np.empty(BLOCK, np.float32)
    g = 0
    for row in range(rows):
        for start in range(0, cols, BLOCK):
            n = min(BLOCK, cols - start)
            at = row * row_bytes + start * bits // 8
            decode_block(codes, at, n, bits, group, scales, zeros, g, words, integers, values)
            g += (n + group - 1) // group
            first = row * cols + start
            decoded[first : first + n] = values[:n]


#pythran export affine_error(uint16[], bool, uint8[], int, int, int, int, float32[], float32[], float64[:,:] order(C))
#pythran export affine_error(uint32[], bool, uint8[], int, int, int, int, float32[], float32[], float64[:,:] order(C))
def affine_error(source, is_half, codes, rows, cols, bits, group, scales, zeros, sums):
    """Add ‖δ‖², ‖w‖² and w·δ of stored codes against their source to sums, row by row.

    Parameters and the result are those of `affine_encode`; the decoded weights are never kept.
    """
    row_bytes = (cols * bits + 7) // 8
    patterns = np.empty(BLOCK, np.uint32)
    values = patterns.view(np.float32)
    words = np.empty(BLOCK // 8 + 1, np.uint64)
    integers = np.empty(BLOCK, np.uint8)
    delta = np.empty(BLOCK, np.float32)
    folded = np.empty(BLOCK, np.float32)
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
            decode_block(codes, at, n, bits, group, scales, zeros, g, words, integers, delta)
            g += (n + group - 1) // group
            delta[:n] = values[:n] - delta[:n]
            add_error(values, delta, n, folded, sums, row)
    return -1
