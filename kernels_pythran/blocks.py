"""What every kernel does to a block of values in the L1 cache: read bit patterns, pack and unpack codes, add errors.

Not compiled by itself: the kernels import it and Pythran inlines it. Loops run from zero over local slices,
because only then does the compiler know that indices and pointers stay put, and vectorises them; README.md
has the figures.
"""

import numpy as np

BLOCK = 4096
INFINITY = 0x7F800000


def widen(source, is_half, patterns):
    """Decode a slice of float32 (uint32), bfloat16 or float16 (uint16) patterns to float32 patterns."""
    n = source.size
    p = patterns[:n]
    if is_half:
        v = patterns.view(np.float32)[:n]
        for i in range(n):
            p[i] = np.uint32(source[i] & 0x7FFF) << np.uint32(13)
        for i in range(n):
            # 2^112 moves float16's exponent bias to float32's and makes subnormals normal.
            v[i] = v[i] * np.float32(5.192296858534828e33)
        for i in range(n):
            special = np.uint32((source[i] & 0x7C00) == 0x7C00) * np.uint32(INFINITY)
            p[i] = p[i] | special | (np.uint32(source[i] & 0x8000) << np.uint32(16))
    else:
        shift = np.uint32(8 * (4 - source.itemsize))
        for i in range(n):
            p[i] = np.uint32(source[i]) << shift


def first_not_finite(patterns, n):
    """Index of the first Inf or NaN among n float32 patterns, or -1."""
    p = patterns[:n]
    worst = np.uint32(0)
    for i in range(n):
        worst = max(worst, p[i] & np.uint32(0x7FFFFFFF))
    if worst >= np.uint32(INFINITY):
        for i in range(n):
            if (p[i] & np.uint32(0x7FFFFFFF)) >= np.uint32(INFINITY):
                return i
    return -1


def pack(codes, n, bits, words):
    """Pack n codes (uint8, room for a multiple of 64) LSB first into 64-bit words; the tail is zero.

    The codes are destroyed, and must have no bits beyond their width.
    """
    end = (n + 63) // 64 * 64
    for i in range(n, end):
        codes[i] = np.uint8(0)
    count = end // 8
    runs = codes.view(np.uint64)[:count]
    one = np.uint64(bits)
    for i in range(count):
        # Eight codes become one run of 8·bits bits: neighbours join, then pairs, then fours.
        w = runs[i]
        w = (w & np.uint64(0x00FF00FF00FF00FF)) | ((w >> np.uint64(8)) & np.uint64(0x00FF00FF00FF00FF)) << one
        w = (w & np.uint64(0x0000FFFF0000FFFF)) | ((w >> np.uint64(16)) & np.uint64(0x0000FFFF0000FFFF)) << (one + one)
        runs[i] = (w & np.uint64(0xFFFFFFFF)) | (w >> np.uint64(32)) << (np.uint64(4) * one)
    if bits == 1:
        bytes_ = words.view(np.uint8)[:count]
        for i in range(count):
            bytes_[i] = np.uint8(runs[i])
    elif bits == 2:
        quarters = words.view(np.uint16)[:count]
        for i in range(count):
            quarters[i] = np.uint16(runs[i])
    elif bits == 4:
        halves = words.view(np.uint32)[:count]
        for i in range(count):
            halves[i] = np.uint32(runs[i])
    elif bits == 8:
        words[:count] = runs
    else:
        o = 0
        for j in range(0, count, 8):
            word = np.uint64(0)
            filled = 0
            for k in range(8):
                run = runs[j + k]
                word = word | (run << np.uint64(filled))
                filled += 8 * bits
                if filled >= 64:
                    words[o] = word
                    o += 1
                    filled -= 64
                    word = run >> np.uint64(8 * bits - filled)


def unpack(words, n, bits, codes):
    """Take n codes of the given width out of LSB-first 64-bit words into uint8.

    Both need room: the words for one more, the codes for a multiple of 8.
    """
    count = (n + 7) // 8
    runs = codes.view(np.uint64)[:count]
    if bits == 1:
        bytes_ = words.view(np.uint8)[:count]
        for i in range(count):
            runs[i] = np.uint64(bytes_[i])
    elif bits == 2:
        quarters = words.view(np.uint16)[:count]
        for i in range(count):
            runs[i] = np.uint64(quarters[i])
    elif bits == 4:
        halves = words.view(np.uint32)[:count]
        for i in range(count):
            runs[i] = np.uint64(halves[i])
    elif bits == 8:
        runs[:] = words[:count]
    else:
        w = words[: count * bits // 8 + 2]
        mask = (np.uint64(1) << np.uint64(8 * bits)) - np.uint64(1)
        for i in range(count):
            shift = np.uint64(8 * (i * bits % 8))
            low = w[i * bits // 8] >> shift
            # Two shifts, because one by 64 is undefined.
            high = w[i * bits // 8 + 1] << np.uint64(1) << (np.uint64(63) - shift)
            runs[i] = (low | high) & mask
    one = np.uint64(bits)
    quad = (np.uint64(1) << (np.uint64(4) * one)) - np.uint64(1)
    pair = ((np.uint64(1) << (np.uint64(2) * one)) - np.uint64(1)) * np.uint64(0x0000000100000001)
    single = ((np.uint64(1) << one) - np.uint64(1)) * np.uint64(0x0001000100010001)
    for i in range(count):
        w8 = runs[i]
        w8 = (w8 & quad) | (w8 >> (np.uint64(4) * one)) << np.uint64(32)
        w8 = (w8 & pair) | ((w8 >> (np.uint64(2) * one)) & pair) << np.uint64(16)
        runs[i] = (w8 & single) | ((w8 >> one) & single) << np.uint64(8)


def take_from(values, n, decoded):
    """Turn n decoded values ŵ into errors w − ŵ."""
    w = values[:n]
    d = decoded[:n]
    for i in range(n):
        d[i] = w[i] - d[i]


def add_error(values, delta, n, folded, sums, row):
    """Add ‖δ‖², ‖w‖² and w·δ of n values w with errors δ to sums[row]; `folded` is float32 [BLOCK] of room."""
    # The block is folded in four before it is summed: one loop for all three sums, and no addition waits long.
    q = n // 4
    v0 = values[:q]
    v1 = values[q : 2 * q]
    v2 = values[2 * q : 3 * q]
    v3 = values[3 * q : 4 * q]
    d0 = delta[:q]
    d1 = delta[q : 2 * q]
    d2 = delta[2 * q : 3 * q]
    d3 = delta[3 * q : 4 * q]
    noise = folded[:q]
    energy = folded[q : 2 * q]
    product = folded[2 * q : 3 * q]
    for k in range(q):
        noise[k] = d0[k] * d0[k] + d1[k] * d1[k] + (d2[k] * d2[k] + d3[k] * d3[k])
        energy[k] = v0[k] * v0[k] + v1[k] * v1[k] + (v2[k] * v2[k] + v3[k] * v3[k])
        product[k] = v0[k] * d0[k] + v1[k] * d1[k] + (v2[k] * d2[k] + v3[k] * d3[k])
    error = np.sum(noise)
    total = np.sum(energy)
    start = 0
    if total > np.float32(1e-25) and total < np.float32(1e35) and error < np.float32(1e35):
        sums[row, 0] += np.float64(error)
        sums[row, 1] += np.float64(total)
        sums[row, 2] += np.float64(np.sum(product))
        start = 4 * q
    # The last few; or all of them, when the squares leave the range of float32.
    for i in range(start, n):
        w = np.float64(values[i])
        e = np.float64(delta[i])
        sums[row, 0] += e * e
        sums[row, 1] += w * w
        sums[row, 2] += w * e
