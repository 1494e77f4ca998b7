"""What a layer was given and what it gave: sums over the channels of activations, each in one pass.

Activations are [vectors, channels, places]: a vector's channels lie together, and so do a channel's places (the pixels
of a convolution; one otherwise). Eight vectors at a time are widened in the L1 cache and summed from there, so that
totals are loaded and stored once for eight values. Of wide vectors the next lanes follow before the next vectors, so
that memory is read in its order; totals stay in the L2 cache. Eight values are added as float32, everything beyond as
float64.
"""

import numpy as np

from .blocks import widen

LANES = 256
DEPTH = 8
BAND = 4096
SIGNLESS = np.int32(0x7FFFFFFF)


#pythran export channel_sums(uint16[], bool, int, float64[:,:], float64[], int64[], float32[], uint16[], uint32[], float32[], int32[], float64[], int32[], float32[])
#pythran export channel_sums(uint32[], bool, int, float64[:,:], float64[], int64[], float32[], uint32[], uint32[], float32[], int32[], float64[], int32[], float32[])
def channel_sums(
    source, is_half, places, sums, overall, spots, sample, strip, patterns, values, keys, totals, extremes, ends
):
    """Sums, sums of squares and greatest magnitude of each channel, and of all, and a sample of the magnitudes.

    Parameters
    ----------
    source : uint16 or uint32 [vectors * channels * places]
        Bit patterns of the activations.
    is_half : bool
        For 16-bit patterns: float16 rather than bfloat16.
    places : int
    sums : float64 [3, channels], filled
        Σx, Σx² and greatest |x| of each channel. Where an x is not finite or beyond 10¹⁸, Σx² may not be.
    overall : float64 [4], filled
        Σx, Σx², least and greatest x of all channels.
    spots : int64 [sample]
        Where in the source the sample is taken.
    sample : float32 [sample], filled
        |x| there.
    strip : like the source [2048], scratch
    patterns : uint32 [2048], scratch
    values, keys : float32 [2048] and int32 [2048]
        The same memory.
    totals : float64 [8192], scratch
    extremes : int32 [8192], scratch
    ends : float32 [8192]
        The same memory.
    """
    width = sums.shape[1] * places
    sums[:, :] = 0.0
    overall[2] = np.inf
    overall[3] = -np.inf
    for begin in range(0, width, BAND):
        size = min(BAND, width - begin)
        totals[:size] = 0.0
        totals[BAND : BAND + size] = 0.0
        extremes[:size] = SIGNLESS
        extremes[BAND : BAND + size] = -SIGNLESS
        for top in range(begin, source.size, DEPTH * width):
            for at in range(0, size, LANES):
                n = min(LANES, size - at)
                rows = load(source, top + at, width, n, is_half, strip, patterns)
                for k in range(rows, DEPTH):
                    copy_lanes(values, 0, n, values, k)
                fold_extremes(keys, at, n, extremes)
                for k in range(rows, DEPTH):
                    clear_lanes(n, values, k)
                add_powers(values, at, n, totals)
        sort_back(extremes, 0, size)
        sort_back(extremes, BAND, size)
        a = 0
        while a < size:
            channel = (begin + a) // places
            b = min(size, (channel + 1) * places - begin)
            sums[0, channel] += np.sum(totals[a:b])
            sums[1, channel] += np.sum(totals[BAND + a : BAND + b])
            low = np.float64(np.min(ends[a:b]))
            high = np.float64(np.max(ends[BAND + a : BAND + b]))
            sums[2, channel] = max(sums[2, channel], max(-low, high))
            overall[2] = min(overall[2], low)
            overall[3] = max(overall[3], high)
            a = b
    overall[0] = np.sum(sums[0])
    overall[1] = np.sum(sums[1])
    for first in range(0, spots.size, DEPTH * LANES):
        count = min(DEPTH * LANES, spots.size - first)
        for i in range(count):
            strip[i] = source[spots[first + i]]
        widen(strip[:count], is_half, patterns)
        for i in range(count):
            sample[first + i] = abs(values[i])


#pythran export output_energy(uint16[], bool, int, float32[], uint16[], uint32[], float32[], float64[], float32[])
#pythran export output_energy(uint32[], bool, int, float32[], uint32[], uint32[], float32[], float64[], float32[])
def output_energy(source, is_half, places, bias, strip, patterns, values, totals, middle):
    """Σ (y − bias)² over all values of an output.

    Parameters
    ----------
    source : uint16 or uint32 [vectors * channels * places]
        Bit patterns of the output y.
    is_half : bool
        For 16-bit patterns: float16 rather than bfloat16.
    places : int
    bias : float32 [channels]
    strip, patterns, values, totals : arrays
        As for `channel_sums`.
    middle : float32 [4096 or more], scratch

    Returns
    -------
    float
        Not finite where a value is not; values beyond 10¹⁸ may do that too.
    """
    width = bias.size * places
    totals[:LANES] = 0.0
    for begin in range(0, width, BAND):
        size = min(BAND, width - begin)
        a = 0
        while a < size:
            channel = (begin + a) // places
            b = min(size, (channel + 1) * places - begin)
            middle[a:b] = bias[channel]
            a = b
        for top in range(begin, source.size, DEPTH * width):
            for at in range(0, size, LANES):
                n = min(LANES, size - at)
                rows = load(source, top + at, width, n, is_half, strip, patterns)
                for k in range(rows, DEPTH):
                    copy_lanes(middle, at, n, values, k)
                add_deviations(values, middle, at, n, totals)
    return np.sum(totals[:LANES])


def load(source, top, width, n, is_half, strip, patterns):
    """Widen n lanes of up to eight vectors of this width, the first at top, and give how many there were."""
    rows = min(DEPTH, (source.size - top + width - 1) // width)
    if is_half:
        for k in range(rows):
            first = top + k * width
            strip[k * LANES : k * LANES + n] = source[first : first + n]
        widen(strip[: rows * LANES], is_half, patterns)
        return rows
    shift = np.uint32(8 * (4 - source.itemsize))
    joined = width == LANES
    count = rows * LANES if joined else n
    for k in range(1 if joined else rows):
        first = top + k * width
        v = source[first : first + count]
        p = patterns[k * LANES : k * LANES + count]
        for i in range(count):
            p[i] = np.uint32(v[i]) << shift
    return rows


def copy_lanes(vector, at, n, rows, k):
    """Make n lanes of a vector the k-th of some rows."""
    v = vector[at : at + n]
    r = rows[k * LANES : k * LANES + n]
    for j in range(n):
        r[j] = v[j]


def clear_lanes(n, rows, k):
    """Make n lanes of the k-th of some rows zero."""
    r = rows[k * LANES : k * LANES + n]
    for j in range(n):
        r[j] = np.float32(0)


def add_powers(values, at, n, totals):
    """Add eight rows of values, and their squares, to n lanes."""
    v = values[: DEPTH * LANES]
    t = totals[at : at + n]
    s = totals[BAND + at : BAND + at + n]
    for j in range(n):
        a = v[j]
        b = v[j + LANES]
        c = v[j + 2 * LANES]
        d = v[j + 3 * LANES]
        e = v[j + 4 * LANES]
        f = v[j + 5 * LANES]
        g = v[j + 6 * LANES]
        h = v[j + 7 * LANES]
        t[j] += np.float64(add8(a, b, c, d, e, f, g, h))
        s[j] += np.float64(add8(a * a, b * b, c * c, d * d, e * e, f * f, g * g, h * h))


def add_deviations(values, middle, at, n, totals):
    """Add squared distances of eight rows from n lanes of the middle."""
    v = values[: DEPTH * LANES]
    m = middle[at : at + n]
    t = totals[:n]
    for j in range(n):
        a = v[j] - m[j]
        b = v[j + LANES] - m[j]
        c = v[j + 2 * LANES] - m[j]
        d = v[j + 3 * LANES] - m[j]
        e = v[j + 4 * LANES] - m[j]
        f = v[j + 5 * LANES] - m[j]
        g = v[j + 6 * LANES] - m[j]
        h = v[j + 7 * LANES] - m[j]
        t[j] += np.float64(add8(a * a, b * b, c * c, d * d, e * e, f * f, g * g, h * h))


def fold_extremes(keys, at, n, extremes):
    """Extremes of n lanes of eight rows of floats, taken over their patterns as integers that sort like them."""
    p = keys[: DEPTH * LANES]
    low = extremes[at : at + n]
    high = extremes[BAND + at : BAND + at + n]
    for j in range(n):
        a = sortable(p[j])
        b = sortable(p[j + LANES])
        c = sortable(p[j + 2 * LANES])
        d = sortable(p[j + 3 * LANES])
        e = sortable(p[j + 4 * LANES])
        f = sortable(p[j + 5 * LANES])
        g = sortable(p[j + 6 * LANES])
        h = sortable(p[j + 7 * LANES])
        low[j] = min(low[j], a, b, c, d, e, f, g, h)
        high[j] = max(high[j], a, b, c, d, e, f, g, h)


def add8(a, b, c, d, e, f, g, h):
    """Their sum, by halves."""
    return ((a + b) + (c + d)) + ((e + f) + (g + h))


def sortable(pattern):
    """The pattern of a float as an integer that sorts like it, and back."""
    return pattern ^ ((pattern >> np.int32(31)) & SIGNLESS)


def sort_back(keys, at, n):
    """Such integers to the patterns of their floats."""
    k = keys[at : at + n]
    for j in range(n):
        k[j] = sortable(k[j])
