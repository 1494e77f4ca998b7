"""Group-wise affine quantization with scale and offset given: w ≈ q·s + m.

For formats that store s and m in a narrow dtype: the extremes of each group come first, the caller rounds
scale and offset as they will be stored, and the codes are found for the rounded ones. Sources, groups and bit
streams are those of `affine`, and so is the room to work in that the functions with codes take last.
"""

import numpy as np

from .blocks import BLOCK, add_error, first_not_finite, pack, take_from, unpack, widen
from .extremes import range_groups

MAGIC = np.float32(8388608.0)  # 2^23: adding it rounds half to even


#pythran export group_ranges(uint16[], bool, int, int, int, float32[], float32[])
#pythran export group_ranges(uint32[], bool, int, int, int, float32[], float32[])
def group_ranges(source, is_half, rows, cols, group, lows, highs):
    """Least and greatest weight of each group, float32 [rows * groups].

    Returns
    -------
    int
        Index of the first Inf or NaN, at which the work stopped, or -1.
    """
    patterns = np.empty(BLOCK, np.uint32)
    tiles = patterns.view(np.int32).reshape(BLOCK // group, group)
    ends = np.empty(2 * BLOCK, np.int32)
    limits = ends.view(np.float32)
    g = 0
    for row in range(rows):
        for start in range(0, cols, BLOCK):
            n = min(BLOCK, cols - start)
            first = row * cols + start
            widen(source[first : first + n], is_half, patterns)
            count = (n + group - 1) // group
            for i in range(n, count * group):
                patterns[i] = patterns[n - 1]  # which changes no extremes
            if not range_groups(tiles, count, ends):
                return first + first_not_finite(patterns, n)
            for j in range(count):
                # Adding zero makes −0 the same as 0.
                lows[g + j] = limits[j] + np.float32(0.0)
                highs[g + j] = limits[BLOCK + j] + np.float32(0.0)
            g += count
    return -1


def encode_exactly(v, scale, offset, levels, c, d):
    """Codes of a group, and its errors, where float32 would overflow or lose the scale; without a scale it is constant."""
    inverse = 0.0
    if scale > np.float32(0.0):
        inverse = 1.0 / np.float64(scale)
    for k in range(v.size):
        x = np.rint((np.float64(v[k]) - np.float64(offset)) * inverse)
        q = np.int32(min(max(x, 0.0), np.float64(levels)))
        c[k] = np.uint8(q)
        d[k] = v[k] - (np.float32(q) * scale + offset)


def encode_groups(weights, groups, levels, measured, scales, offsets, g, codes, errors):
    """Codes of groups, the nearest of 0 to levels with halves to even, and if measured the errors w − ŵ."""
    group = weights.shape[1]
    for j in range(groups):
        v = weights[j]
        c = codes[j]
        d = errors[j]
        scale = scales[g + j]
        offset = offsets[g + j]
        if scale > np.float32(1e-30) and scale < np.float32(1e30) and abs(offset) < np.float32(1e30):
            # Pythran divides scalars in float64.
            inverse = np.float32(np.float32(1.0) / scale)
            if measured:
                for k in range(group):
                    # Clamped as an integer, because minima of floats do not vectorise.
                    x = (v[k] - offset) * inverse
                    q = min(max(np.int32(x + MAGIC - MAGIC), np.int32(0)), np.int32(levels))
                    c[k] = np.uint8(q)
                    d[k] = v[k] - (np.float32(q) * scale + offset)
            else:
                for k in range(group):
                    x = (v[k] - offset) * inverse
                    c[k] = np.uint8(min(max(np.int32(x + MAGIC - MAGIC), np.int32(0)), np.int32(levels)))
        else:
            encode_exactly(v, scale, offset, levels, c, d)


#pythran export offset_encode(uint16[], bool, int, int, int, int, float32[], float32[], uint8[], float64[:,:] order(C), uint32[], int32[], uint8[], float32[], float32[], float32[], uint64[])
#pythran export offset_encode(uint32[], bool, int, int, int, int, float32[], float32[], uint8[], float64[:,:] order(C), uint32[], int32[], uint8[], float32[], float32[], float32[], uint64[])
def offset_encode(
    source, is_half, rows, cols, bits, group, scales, offsets, packed, sums,
    patterns, ends, integers, inverses, delta, folded, words,
):  # fmt: skip
    """Quantize with given scales and offsets, float32 [rows * groups], and pack.

    Parameters
    ----------
    source : uint16 or uint32 [rows * cols]
        Bit patterns of the weights, all finite (`group_ranges` has looked).
    is_half : bool
        For 16-bit patterns: float16 rather than bfloat16.
    bits : int, 2 to 8
    group : int
        Weights a group; divides 4096.
    packed : uint8 [rows * ceil(cols * bits / 8)], out
    sums : float64 [rows, 3], added to
        ‖δ‖², ‖w‖² and w·δ of each row, where δ = w − ŵ. With no rows nothing is measured, which is quicker.
    """
    levels = (1 << bits) - 1
    measured = sums.shape[0] > 0
    row_bytes = (cols * bits + 7) // 8
    values = patterns.view(np.float32)
    stream = words.view(np.uint8)
    weights = values.reshape(BLOCK // group, group)
    code_tiles = integers.reshape(BLOCK // group, group)
    error_tiles = delta.reshape(BLOCK // group, group)
    g = 0
    for row in range(rows):
        for start in range(0, cols, BLOCK):
            n = min(BLOCK, cols - start)
            first = row * cols + start
            widen(source[first : first + n], is_half, patterns)
            groups = (n + group - 1) // group
            for i in range(n, groups * group):
                patterns[i] = np.uint32(0)
            encode_groups(weights, groups, levels, measured, scales, offsets, g, code_tiles, error_tiles)
            g += groups
            if measured:
                add_error(values, delta, n, folded, sums, row)
            pack(integers, n, bits, words)
            at = row * row_bytes + start * bits // 8
            count = (n * bits + 7) // 8
            packed[at : at + count] = stream[:count]


def decode_groups(packed, at, n, bits, scales, offsets, g, words, integers, code_tiles, decoded):
    """Decode n codes that begin at a byte and with group g; returns how many groups that were."""
    count = (n * bits + 7) // 8
    stream = words.view(np.uint8)
    stream[:count] = packed[at : at + count]
    unpack(words, n, bits, integers)
    group = code_tiles.shape[1]
    groups = (n + group - 1) // group
    for j in range(groups):
        c = code_tiles[j]
        d = decoded[j]
        scale = scales[g + j]
        offset = offsets[g + j]
        for k in range(group):
            d[k] = np.float32(np.int32(c[k])) * scale + offset
    return groups


#pythran export offset_decode(uint8[], int, int, int, int, float32[], float32[], float32[], uint32[], int32[], uint8[], float32[], float32[], float32[], uint64[])
def offset_decode(
    packed, rows, cols, bits, group, scales, offsets, decoded,
    patterns, ends, integers, inverses, delta, folded, words,
):  # fmt: skip
    """Decode what `offset_encode` wrote: decoded = q·s + m, float32 [rows * cols]."""
    row_bytes = (cols * bits + 7) // 8
    code_tiles = integers.reshape(BLOCK // group, group)
    tiles = delta.reshape(BLOCK // group, group)
    g = 0
    for row in range(rows):
        for start in range(0, cols, BLOCK):
            n = min(BLOCK, cols - start)
            at = row * row_bytes + start * bits // 8
            g += decode_groups(packed, at, n, bits, scales, offsets, g, words, integers, code_tiles, tiles)
            first = row * cols + start
            decoded[first : first + n] = delta[:n]


#pythran export offset_error(uint16[], bool, uint8[], int, int, int, int, float32[], float32[], float64[:,:] order(C), uint32[], int32[], uint8[], float32[], float32[], float32[], uint64[])
#pythran export offset_error(uint32[], bool, uint8[], int, int, int, int, float32[], float32[], float64[:,:] order(C), uint32[], int32[], uint8[], float32[], float32[], float32[], uint64[])
def offset_error(
    source, is_half, packed, rows, cols, bits, group, scales, offsets, sums,
    patterns, ends, integers, inverses, delta, folded, words,
):  # fmt: skip
    """Add ‖δ‖², ‖w‖² and w·δ of stored codes against their source to sums, row by row.

    Returns
    -------
    int
        Index of the first Inf or NaN in the source, at which the work stopped, or -1.
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
            g += decode_groups(packed, at, n, bits, scales, offsets, g, words, integers, code_tiles, tiles)
            take_from(values, n, delta)
            add_error(values, delta, n, folded, sums, row)
    return -1
