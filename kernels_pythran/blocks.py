"""What every kernel does to a block of values in the L1 cache: read bit patterns, pack and unpack codes.

Not compiled by itself: the kernels import it and Pythran inlines it.
"""

import numpy as np

BLOCK = 4096


def widen(source, is_half, bits):
    """Decode a slice of float32 (uint32), bfloat16 or float16 (uint16) patterns to float32 patterns."""
    n = source.size
    if is_half:
        values = bits.view(np.float32)
        for i in range(n):
            bits[i] = np.uint32(source[i] & 0x7FFF) << np.uint32(13)
        # 2^112 moves float16's exponent bias to float32's and makes subnormals normal.
        values[:n] = values[:n] * np.float32(5.192296858534828e33)
        for i in range(n):
            special = np.uint32((source[i] & 0x7C00) == 0x7C00) * np.uint32(0x7F800000)
            bits[i] = bits[i] | special | (np.uint32(source[i] & 0x8000) << np.uint32(16))
    else:
        shift = np.uint32(8 * (4 - source.itemsize))
        for i in range(n):
            bits[i] = np.uint32(source[i]) << shift


def first_not_finite(bits, n):
    """Index of the first Inf or NaN among n float32 patterns, or -1."""
    worst = np.uint32(0)
    for i in range(n):
        worst = max(worst, bits[i] & np.uint32(0x7FFFFFFF))
    if worst >= np.uint32(0x7F800000):
        for i in range(n):
            if (bits[i] & np.uint32(0x7FFFFFFF)) >= np.uint32(0x7F800000):
                return i
    return -1


def pack(codes, n, bits, packed):
    """Pack n codes (uint16, room for a multiple of 64) LSB first into 64-bit words; the tail is zero."""
    end = (n + 63) // 64 * 64
    for i in range(n, end):
        codes[i] = np.uint16(0)
    quads = codes.view(np.uint64)
    # Four codes in four 16-bit lanes become one run of 4·bits bits, by halves.
    even = np.uint64(0x0000FFFF0000FFFF)
    odd = np.uint64(((1 << bits) - 1) << bits)
    odd = odd | odd << np.uint64(32)
    for i in range(end // 4):
        w = quads[i]
        w = (w & even) | ((w >> np.uint64(16 - bits)) & odd)
        quads[i] = (w & np.uint64(0xFFFFFFFF)) | (w >> np.uint64(32) << np.uint64(2 * bits))
    if bits == 4:
        halves = packed.view(np.uint16)
        for i in range(end // 4):
            halves[i] = np.uint16(quads[i])
        return
    if bits == 8:
        singles = packed.view(np.uint32)
        for i in range(end // 4):
            singles[i] = np.uint32(quads[i])
        return
    o = 0
    for j in range(0, end // 4, 16):
        word = np.uint64(0)
        filled = 0
        for k in range(16):
            run = quads[j + k]
            word = word | (run << np.uint64(filled))
            filled += 4 * bits
            if filled >= 64:
                packed[o] = word
                o += 1
                filled -= 64
                word = run >> np.uint64(4 * bits - filled)


def unpack(packed, n, bits, codes):
    """Take n codes of the given width out of LSB-first 64-bit words (one word of room at the end)."""
    mask = np.uint64((1 << bits) - 1)
    for i in range(n):
        at = i * bits
        low = packed[at >> 6] >> np.uint64(at & 63)
        high = packed[(at >> 6) + 1] << np.uint64(1) << np.uint64(63 - (at & 63))
        codes[i] = np.uint32((low | high) & mask)


def dot(x, y, n):
    """Sum of x[:n]·y[:n], in four interleaved parts so that additions need not wait for each other."""
    q = n // 64 * 16
    even = np.sum(x[:q] * y[:q] + x[q : 2 * q] * y[q : 2 * q] + x[2 * q : 3 * q] * y[2 * q : 3 * q] + x[3 * q : 4 * q] * y[3 * q : 4 * q])
    return np.float64(even) + np.float64(np.sum(x[4 * q : n] * y[4 * q : n]))


def exact_dot(x, y, n):
    """`dot` in float64, for values whose products leave the range of float32."""
    total = 0.0
    for i in range(n):
        total += np.float64(x[i]) * np.float64(y[i])
    return total


def add_error(values, delta, n, sums, row):
    """Add ‖δ‖², ‖w‖² and w·δ of n values w with errors δ to sums[row]."""
    energy = dot(values, values, n)
    if energy > 1e-25 and energy < 1e35:
        sums[row, 0] += dot(delta, delta, n)
        sums[row, 1] += energy
        sums[row, 2] += dot(values, delta, n)
    else:
        sums[row, 0] += exact_dot(delta, delta, n)
        sums[row, 1] += exact_dot(values, values, n)
        sums[row, 2] += exact_dot(values, delta, n)
