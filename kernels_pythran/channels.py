"""What a layer was given and what it gave: sums over the channels of activations, each in one pass.

Activations are [vectors, channels, places]: a vector's channels lie together, and so do a channel's places (the pixels
of a convolution; one otherwise). Eight vectors at a time are widened in the L1 cache and summed from there, so that
totals are loaded and stored once for eight values. Eight values are added as float32, everything beyond as float64.
"""

import numpy as np

from .blocks import widen

LANES = 256
DEPTH = 8
SIGNLESS = np.int32(0x7FFFFFFF)


#pythran export channel_sums(uint16[], bool, int, float64[:,:] order(C), float64[])
#pythran export channel_sums(uint32[], bool, int, float64[:,:] order(C), float64[])
def channel_sums(source, is_half, places, sums, overall):
    """Sums, sums of squares and greatest magnitude of each channel, and of all.

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
    """
    width = sums.shape[1] * places
    strip = np.empty(DEPTH * LANES, source.dtype)
    patterns = np.empty(DEPTH * LANES, np.uint32)
    values = patterns.view(np.float32)
    keys = patterns.view(np.int32)
    total = np.empty(LANES, np.float64)
    squares = np.empty(LANES, np.float64)
    lows = np.empty(LANES, np.int32)
    highs = np.empty(LANES, np.int32)
    least = lows.view(np.float32)
    greatest = highs.view(np.float32)
    nothing = np.zeros(LANES, np.float32)
    sums[:, :] = 0.0
    overall[2] = np.inf
    overall[3] = -np.inf
    for begin in range(0, width, LANES):
        n = min(LANES, width - begin)
        total[:n] = 0.0
        squares[:n] = 0.0
        lows[:n] = SIGNLESS
        highs[:n] = -SIGNLESS
        for top in range(begin, source.size, DEPTH * width):
            rows = load(source, top, width, n, is_half, strip, patterns)
            for k in range(rows, DEPTH):
                copy_lanes(values[:n], n, values, k)
            fold_extremes(keys, n, lows, highs)
            for k in range(rows, DEPTH):
                copy_lanes(nothing[:n], n, values, k)
            add_powers(values, n, total, squares)
        sort_back(lows, n)
        sort_back(highs, n)
        a = 0
        while a < n:
            channel = (begin + a) // places
            b = min(n, (channel + 1) * places - begin)
            sums[0, channel] += np.sum(total[a:b])
            sums[1, channel] += np.sum(squares[a:b])
            low = np.float64(np.min(least[a:b]))
            high = np.float64(np.max(greatest[a:b]))
            sums[2, channel] = max(sums[2, channel], max(-low, high))
            overall[2] = min(overall[2], low)
            overall[3] = max(overall[3], high)
            a = b
    overall[0] = np.sum(sums[0])
    overall[1] = np.sum(sums[1])


#pythran export output_energy(uint16[], bool, int, float32[])
#pythran export output_energy(uint32[], bool, int, float32[])
def output_energy(source, is_half, places, bias):
    """Σ (y − bias)² over all values of an output.

    Parameters
    ----------
    source : uint16 or uint32 [vectors * channels * places]
        Bit patterns of the output y.
    is_half : bool
        For 16-bit patterns: float16 rather than bfloat16.
    places : int
    bias : float32 [channels]

    Returns
    -------
    float
        Not finite where a value is not; values beyond 10¹⁸ may do that too.
    """
    width = bias.size * places
    strip = np.empty(DEPTH * LANES, source.dtype)
    patterns = np.empty(DEPTH * LANES, np.uint32)
    values = patterns.view(np.float32)
    middle = np.empty(LANES, np.float32)
    total = np.zeros(LANES, np.float64)
    for begin in range(0, width, LANES):
        n = min(LANES, width - begin)
        a = 0
        while a < n:
            channel = (begin + a) // places
            b = min(n, (channel + 1) * places - begin)
            middle[a:b] = bias[channel]
            a = b
        for top in range(begin, source.size, DEPTH * width):
            rows = load(source, top, width, n, is_half, strip, patterns)
            for k in range(rows, DEPTH):
                copy_lanes(middle[:n], n, values, k)
            add_deviations(values, middle, n, total)
    return np.sum(total)


def load(source, top, width, n, is_half, strip, patterns):
    """Widen n lanes of up to eight vectors, and give how many there were."""
    rows = min(DEPTH, (source.size - top + width - 1) // width)
    if width == LANES:
        widen(source[top : top + rows * LANES], is_half, patterns)
    else:
        for k in range(rows):
            first = top + k * width
            strip[k * LANES : k * LANES + n] = source[first : first + n]
        widen(strip[: rows * LANES], is_half, patterns)
    return rows


def copy_lanes(vector, n, rows, k):
    """Make n lanes of a vector the k-th of some rows."""
    r = rows[k * LANES : k * LANES + n]
    for j in range(n):
        r[j] = vector[j]


def add_powers(values, n, total, squares):
    """Add eight rows of values, and their squares."""
    v = values[: DEPTH * LANES]
    t = total[:n]
    s = squares[:n]
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


def add_deviations(values, middle, n, total):
    """Add squared distances of eight rows from the middle."""
    v = values[: DEPTH * LANES]
    m = middle[:n]
    t = total[:n]
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


def fold_extremes(keys, n, lows, highs):
    """Extremes by lane of eight rows of floats, taken over their patterns as integers that sort like them."""
    p = keys[: DEPTH * LANES]
    low = lows[:n]
    high = highs[:n]
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


def sort_back(keys, n):
    """Such integers to the patterns of their floats."""
    k = keys[:n]
    for j in range(n):
        k[j] = sortable(k[j])
