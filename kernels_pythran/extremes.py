"""The least and the greatest of some weights, and of groups of them."""

import numpy as np

from .blocks import BLOCK, INFINITY, first_not_finite, widen


def find_extremes(signed, size, extremes):
    """Bit patterns of the extremes of float32 weights, all finite, seen as int32; into extremes, int32 [2].

    They are taken over integers with the order of the floats, because minima of floats do not vectorise.
    """
    least = np.int32(0x7FFFFFFF)
    most = np.int32(-0x7FFFFFFF)
    for k in range(size):
        key = signed[k] ^ ((signed[k] >> np.int32(31)) & np.int32(0x7FFFFFFF))
        least = min(least, key)
        most = max(most, key)
    extremes[0] = least ^ ((least >> np.int32(31)) & np.int32(0x7FFFFFFF))
    extremes[1] = most ^ ((most >> np.int32(31)) & np.int32(0x7FFFFFFF))


def range_groups(keys, count, ends):
    """Bit patterns of the extremes of groups, the rows of keys; returns whether all weights are finite.

    Parameters
    ----------
    keys : int32 [groups, weights a group]
        Bit patterns of float32 weights.
    count : int
        Groups to look at.
    ends : int32 [2 * 4096], out
        The least of each group, and from 4096 on the greatest.

    Notes
    -----
    The loop is that of `find_extremes`, which would be half as fast for a row that is handed on as an argument.
    """
    bottom = np.int32(0x7FFFFFFF)
    peak = np.int32(-0x7FFFFFFF)
    group = keys.shape[1]
    for j in range(count):
        p = keys[j]
        # As integers with the order of the floats, because minima of floats do not vectorise.
        least = np.int32(0x7FFFFFFF)
        most = np.int32(-0x7FFFFFFF)
        for k in range(group):
            key = p[k] ^ ((p[k] >> np.int32(31)) & np.int32(0x7FFFFFFF))
            least = min(least, key)
            most = max(most, key)
        ends[j] = least ^ ((least >> np.int32(31)) & np.int32(0x7FFFFFFF))
        ends[BLOCK + j] = most ^ ((most >> np.int32(31)) & np.int32(0x7FFFFFFF))
        bottom = min(bottom, least)
        peak = max(peak, most)
    return peak < np.int32(INFINITY) and bottom >= np.int32(-INFINITY)


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
