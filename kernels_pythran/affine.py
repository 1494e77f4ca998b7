"""Group-wise affine quantization: w ≈ (q − z)·s, with one scale s and one real zero point z a group.

Weights arrive flat, as bit patterns: float32 as uint32, bfloat16 or float16 as uint16. Groups run along a row
of `cols` weights, the last of a row may be short; each row's codes are one LSB-first bitstream padded to a
whole byte. All arithmetic is float32 without fused multiply-add, in the order that `workbench.reference`
repeats; a group whose range is uncomfortable in float32 is computed in float64.
"""

import numpy as np

from .blocks import BLOCK, add_error, first_not_finite, pack, unpack, widen

MAGIC = np.float32(8388608.0)  # 2^23: adding it rounds half to even and leaves the integer in the low bits


def fit(low, high, levels, symmetric):
    """Scale, zero point and the value of code 0, of a group with the given extremes."""
    half = np.float32((levels + 1) // 2)
    if low == high:
        # A constant group: one code that decodes exactly.
        scale = abs(low)
        if scale == np.float32(0.0):
            scale = np.float32(1.0)
        zero = np.float32(0.0)
        if symmetric:
            zero = half
        elif low > np.float32(0.0):
            zero = np.float32(-1.0)
        elif low < np.float32(0.0):
            zero = np.float32(1.0)
        return scale, zero
    if symmetric:
        return np.float32(2.0) * max(-low, high) / np.float32(levels), half
    scale = (high - low) / np.float32(levels)
    # Not −low: the zero point of a group that begins at ±0 is +0.
    return scale, (np.float32(0.0) - low) / scale


def is_uncomfortable(low, high):
    """Whether a group that is not constant must be computed in float64."""
    if low == high:
        return False
    return max(-low, high) > np.float32(1e37) or high - low < np.float32(1e-30)


def fit_exactly(low, high, levels, symmetric):
    """`fit` in float64, for ranges that overflow float32 or whose scale is subnormal."""
    wide = np.float64(high) - np.float64(low)
    if symmetric:
        wide = 2.0 * max(-np.float64(low), np.float64(high))
    exact = wide / levels
    # Leaves room for the product (q − z)·s to round up without overflowing.
    if max(-low, high) > np.float32(1e37):
        exact = exact * (1.0 - 2.0**-20)
    scale = max(np.float32(exact), np.float32(1e-45))
    if np.float64(scale) * levels < wide and wide < 1e-30:
        scale = scale + np.float32(1e-45)
    if symmetric:
        return scale, np.float32((levels + 1) // 2)
    return scale, np.float32((0.0 - np.float64(low)) / np.float64(scale))


def encode_group(values, a, b, levels, symmetric, shifted):
    """Fit values[a:b]; leave code + 2^23 in shifted[a:b]; return scale and zero point."""
    v = values[a:b]
    low = np.min(v)
    high = np.max(v)
    top = MAGIC + np.float32(levels)
    if is_uncomfortable(low, high):
        scale, zero = fit_exactly(low, high, levels, symmetric)
        for i in range(a, b):
            x = np.float64(values[i]) / np.float64(scale) + np.float64(zero)
            if not symmetric:
                x = (np.float64(values[i]) - np.float64(low)) / np.float64(scale)
            shifted[i] = min(max(np.float32(max(x, 0.0)) + MAGIC, MAGIC), top)
    else:
        scale, zero = fit(low, high, levels, symmetric)
        inverse = np.float32(1.0) / scale
        origin = MAGIC + zero
        if low == high:
            # Code 0 or, for a symmetric group, the code one step from zero.
            code = MAGIC
            if symmetric:
                code = origin + np.float32(np.sign(low))
            shifted[a:b] = code
        elif symmetric:
            shifted[a:b] = np.minimum((v * inverse) + origin, top)
        else:
            shifted[a:b] = np.minimum((v - low) * inverse + MAGIC, top)
    return scale, zero


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
        ‖δ‖², ‖w‖² and w·δ of each row, where δ = w − ŵ.

    Returns
    -------
    int
        Index of the first Inf or NaN, at which the work stopped, or -1.
    """
    levels = (1 << bits) - 1
    mask = np.uint32(levels)
    row_bytes = (cols * bits + 7) // 8
    patterns = np.empty(BLOCK, np.uint32)
    values = patterns.view(np.float32)
    shifted = np.empty(BLOCK, np.float32)
    shifted_bits = shifted.view(np.uint32)
    narrow = np.empty(BLOCK, np.uint16)
    delta = np.empty(BLOCK, np.float32)
    words = np.empty(BLOCK // 8, np.uint64)
    stream = words.view(np.uint8)
    g = 0
    for row in range(rows):
        for start in range(0, cols, BLOCK):
            n = min(BLOCK, cols - start)
            first = row * cols + start
            widen(source[first : first + n], is_half, patterns)
            bad = first_not_finite(patterns, n)
            if bad >= 0:
                return first + bad
            for a in range(0, n, group):
                b = min(a + group, n)
                scale, zero = encode_group(values, a, b, levels, symmetric, shifted)
                scales[g] = scale
                zeros[g] = zero
                delta[a:b] = values[a:b] - (shifted[a:b] - MAGIC - zero) * scale
                g += 1
            add_error(values, delta, n, sums, row)
            for i in range(n):
                narrow[i] = np.uint16(shifted_bits[i] & mask)
            pack(narrow, n, bits, words)
            at = row * row_bytes + start * bits // 8
            size = (n * bits + 7) // 8
            codes[at : at + size] = stream[:size]
    return -1


def decode_block(codes, first_byte, n, bits, group, scales, zeros, g, words, integers, decoded):
    """Decode n codes that begin at a byte and with group g; returns the next group."""
    size = (n * bits + 7) // 8
    stream = words.view(np.uint8)
    stream[:size] = codes[first_byte : first_byte + size]
    unpack(words, n, bits, integers)
    for a in range(0, n, group):
        b = min(a + group, n)
        zero = zeros[g]
        scale = scales[g]
        for i in range(a, b):
            decoded[i] = (np.float32(np.int32(integers[i])) - zero) * scale
        g += 1
    return g


#pythran export affine_decode(uint8[], int, int, int, int, float32[], float32[], float32[])
def affine_decode(codes, rows, cols, bits, group, scales, zeros, decoded):
    """Decode what `affine_encode` wrote: decoded = (q − z)·s, float32 [rows * cols]."""
    row_bytes = (cols * bits + 7) // 8
    words = np.empty(BLOCK // 8 + 1, np.uint64)
    integers = np.empty(BLOCK, np.uint32)
    values = np.empty(BLOCK, np.float32)
    g = 0
    for row in range(rows):
        for start in range(0, cols, BLOCK):
            n = min(BLOCK, cols - start)
            at = row * row_bytes + start * bits // 8
            g = decode_block(codes, at, n, bits, group, scales, zeros, g, words, integers, values)
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
    integers = np.empty(BLOCK, np.uint32)
    delta = np.empty(BLOCK, np.float32)
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
            g = decode_block(codes, at, n, bits, group, scales, zeros, g, words, integers, delta)
            delta[:n] = values[:n] - delta[:n]
            add_error(values, delta, n, sums, row)
    return -1
