"""Extremes and power sums of weights, and the error between two tensors, each in one pass."""

import numpy as np

from .blocks import BLOCK, add_error, first_not_finite, widen


#pythran export moments(uint16[], bool, float64, float64, float64[])
#pythran export moments(uint32[], bool, float64, float64, float64[])
def moments(source, is_half, center, scale, results):
    """Extremes and the sums of the first four powers of (w − center)·scale.

    Centring at a value near the mean and scaling by one near the peak keeps the sums accurate and finite.

    Parameters
    ----------
    source : uint16 or uint32 [n]
        Bit patterns of the weights (bfloat16 or float16; float32).
    is_half : bool
        For 16-bit patterns: float16 rather than bfloat16.
    center, scale : float
    results : float64 [6], updated
        Minimum and maximum of the weights; then the four sums, added to.

    Returns
    -------
    int
        Index of the first Inf or NaN, at which the work stopped, or -1.
    """
    patterns = np.empty(BLOCK, np.uint32)
    values = patterns.view(np.float32)
    x = np.empty(BLOCK, np.float64)
    y = np.empty(BLOCK, np.float64)
    for start in range(0, source.size, BLOCK):
        n = min(BLOCK, source.size - start)
        widen(source[start : start + n], is_half, patterns)
        bad = first_not_finite(patterns, n)
        if bad >= 0:
            return start + bad
        v = values[:n]
        results[0] = min(results[0], np.float64(np.min(v)))
        results[1] = max(results[1], np.float64(np.max(v)))
        for i in range(n):
            x[i] = (np.float64(values[i]) - center) * scale
        y[:n] = x[:n] * x[:n]
        results[2] += np.sum(x[:n])
        results[3] += np.sum(y[:n])
        results[4] += np.sum(x[:n] * y[:n])
        results[5] += np.sum(y[:n] * y[:n])
    return -1


#pythran export error_sums(uint16[], bool, float32[], int, float64[:,:] order(C))
#pythran export error_sums(uint32[], bool, float32[], int, float64[:,:] order(C))
def error_sums(source, is_half, decoded, cols, sums):
    """Add ‖δ‖², ‖w‖² and w·δ of decoded weights against their source to sums, row by row.

    Parameters
    ----------
    source : uint16 or uint32 [rows * cols]
        Bit patterns of the weights w.
    is_half : bool
        For 16-bit patterns: float16 rather than bfloat16.
    decoded : float32 [rows * cols]
        ŵ; δ = w − ŵ.
    cols : int
    sums : float64 [rows, 3], added to

    Returns
    -------
    int
        Index of the first Inf or NaN in the source, at which the work stopped, or -1.
    """
    patterns = np.empty(BLOCK, np.uint32)
    values = patterns.view(np.float32)
    delta = np.empty(BLOCK, np.float32)
    folded = np.empty(BLOCK, np.float32)
    for row in range(sums.shape[0]):
        for start in range(0, cols, BLOCK):
            n = min(BLOCK, cols - start)
            first = row * cols + start
            widen(source[first : first + n], is_half, patterns)
            bad = first_not_finite(patterns, n)
            if bad >= 0:
                return first + bad
            delta[:n] = values[:n] - decoded[first : first + n]
            add_error(values, delta, n, folded, sums, row)
    return -1
