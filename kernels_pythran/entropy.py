"""Counts from which entropies follow: a histogram of weights and the occurrences of each code."""

import numpy as np

from .blocks import BLOCK, first_not_finite, unpack, widen


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
    # Halving both keeps the width finite over the whole range of float32.
    width = high / 2.0 - low / 2.0
    factor = 0.0
    if width > 0.0:
        factor = bins / 2.0 / width
    for start in range(0, source.size, BLOCK):
        n = min(BLOCK, source.size - start)
        widen(source[start : start + n], is_half, patterns)
        bad = first_not_finite(patterns, n)
        if bad >= 0:
            return start + bad
        for i in range(n):
            position = int((np.float64(values[i]) - low) * factor)
            counts[max(min(position, bins - 1), 0)] += 1
    return -1


#pythran export code_counts(uint8[], int, int, int, int64[])
def code_counts(packed, rows, cols, bits, counts):
    """Add the occurrences of each code in rows of packed codes to counts, int64 [2**bits]."""
    row_bytes = (cols * bits + 7) // 8
    words = np.empty(BLOCK // 8 + 1, np.uint64)
    stream = words.view(np.uint8)
    integers = np.empty(BLOCK, np.uint32)
    for row in range(rows):
        for start in range(0, cols, BLOCK):
            n = min(BLOCK, cols - start)
            at = row * row_bytes + start * bits // 8
            size = (n * bits + 7) // 8
            stream[:size] = packed[at : at + size]
            unpack(words, n, bits, integers)
            for i in range(n):
                counts[integers[i]] += 1
