"""Counts from which entropies follow: a histogram of weights and the occurrences of each code."""

import numpy as np

from .blocks import BLOCK, first_not_finite, unpack, widen


def bin_factor(low, high, bins):
    """Bins a unit, or 0 where there is no width; never infinite, so that no position is NaN."""
    # Halving both keeps the width of any two floats finite.
    width = high / 2.0 - low / 2.0
    if width > 0.0:
        return min(bins / 2.0 / width, 1.7976931348623157e308)
    return 0.0


#pythran export histogram(uint16[], bool, float64, float64, int64[])
#pythran export histogram(uint32[], bool, float64, float64, int64[])
def histogram(source, is_half, low, high, counts):
    """Add the number of values in each of len(counts) equal bins between low and high to counts.

    As in `numpy.histogram`, a bin includes its lower edge and the last bin both. Values outside are put into
    the nearest bin; where low equals high, all fall into bin 0.

    Parameters
    ----------
    source : uint16 or uint32 [n]
        Bit patterns of the weights (bfloat16 or float16; float32).
    is_half : bool
        For 16-bit patterns: float16 rather than bfloat16.
    low, high : float
    counts : int64 [bins], added to

    Returns
    -------
    int
        Index of the first Inf or NaN, at which the work stopped, or -1.
    """
    bins = counts.size
    patterns = np.empty(BLOCK, np.uint32)
    values = patterns.view(np.float32)
    last = bins - 1.0
    factor = bin_factor(low, high, bins)
    positions = np.empty(BLOCK, np.int32)
    for start in range(0, source.size, BLOCK):
        n = min(BLOCK, source.size - start)
        widen(source[start : start + n], is_half, patterns)
        bad = first_not_finite(patterns, n)
        if bad >= 0:
            return start + bad
        v = values[:n]
        p = positions[:n]
        for i in range(n):
            # Clamped before it is an integer, which could not hold it; max takes 0 for NaN.
            p[i] = np.int32(min(max(0.0, (np.float64(v[i]) - low) * factor), last))
        for i in range(n):
            counts[p[i]] += 1
    return -1


#pythran export code_counts(uint8[], int, int, int, int64[])
def code_counts(packed, rows, cols, bits, counts):
    """Add the occurrences of each code in rows of packed codes to counts, int64 [2**bits]."""
    row_bytes = (cols * bits + 7) // 8
    if 8 % bits == 0 and cols * bits % 8 == 0:
        # Whole bytes are counted, and each tells of all its codes.
        # In turn in four tables, since an addition waits for one just before to the same place.
        found = np.zeros(4 * 256, np.int64)
        whole = packed.size // 4 * 4
        for i in range(0, whole, 4):
            found[np.int64(packed[i])] += 1
            found[np.int64(packed[i + 1]) + 256] += 1
            found[np.int64(packed[i + 2]) + 512] += 1
            found[np.int64(packed[i + 3]) + 768] += 1
        for i in range(whole, packed.size):
            found[np.int64(packed[i])] += 1
        for byte in range(256):
            rest = byte
            seen = found[byte] + found[byte + 256] + found[byte + 512] + found[byte + 768]
            for _ in range(8 // bits):
                counts[rest % (1 << bits)] += seen
                rest //= 1 << bits
        return
    words = np.empty(BLOCK // 8 + 1, np.uint64)
    stream = words.view(np.uint8)
    integers = np.empty(BLOCK, np.uint8)
    for row in range(rows):
        for start in range(0, cols, BLOCK):
            n = min(BLOCK, cols - start)
            at = row * row_bytes + start * bits // 8
            size = (n * bits + 7) // 8
            stream[:size] = packed[at : at + size]
            unpack(words, n, bits, integers)
            for i in range(n):
                counts[integers[i]] += 1
