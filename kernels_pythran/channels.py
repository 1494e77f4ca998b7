"""What a layer was given and what it gave: sums over the channels of activations, each in one pass.

Activations are [vectors, channels, places]: a vector's channels lie together, and so do a channel's places (the pixels
of a convolution; one otherwise). At most eight values are added as float32, everything beyond as float64.
"""

import numpy as np

from .blocks import widen

LANES = 512
DEPTH = 8
SIGNLESS = np.int32(0x7FFFFFFF)


#pythran export channel_sums(uint16[], bool, int, float64[:,:] order(C))
#pythran export channel_sums(uint32[], bool, int, float64[:,:] order(C))
def channel_sums(source, is_half, places, sums):
    """Sums, sums of squares and extremes of each channel.

    Parameters
    ----------
    source : uint16 or uint32 [vectors * channels * places]
        Bit patterns of the activations.
    is_half : bool
        For 16-bit patterns: float16 rather than bfloat16.
    places : int
    sums : float64 [4, channels], filled
        Σx, Σx², least and greatest x of each channel. Where an x is not finite or beyond 10¹⁸, Σx² may not be.
    """
    width = sums.shape[1] * places
    patterns = np.empty(LANES, np.uint32)
    keys = patterns.view(np.int32)
    values = patterns.view(np.float32)
    part = np.empty(LANES, np.float32)
    part_squares = np.empty(LANES, np.float32)
    total = np.empty(LANES, np.float64)
    squares = np.empty(LANES, np.float64)
    lows = np.empty(LANES, np.int32)
    highs = np.empty(LANES, np.int32)
    least = lows.view(np.float32)
    greatest = highs.view(np.float32)
    sums[:2] = 0.0
    sums[2] = np.inf
    sums[3] = -np.inf
    for begin in range(0, width, LANES):
        n = min(LANES, width - begin)
        total[:n] = 0.0
        squares[:n] = 0.0
        lows[:n] = SIGNLESS
        highs[:n] = -SIGNLESS
        for top in range(begin, source.size, DEPTH * width):
            part[:n] = np.float32(0.0)
            part_squares[:n] = np.float32(0.0)
            for first in range(top, min(top + DEPTH * width, source.size), width):
                widen(source[first : first + n], is_half, patterns)
                add_powers(values, n, part, part_squares)
                fold_extremes(keys, n, lows, highs)
            add_part(part, n, total)
            add_part(part_squares, n, squares)
        sort_back(lows, n)
        sort_back(highs, n)
        a = 0
        while a < n:
            channel = (begin + a) // places
            b = min(n, (channel + 1) * places - begin)
            sums[0, channel] += np.sum(total[a:b])
            sums[1, channel] += np.sum(squares[a:b])
            sums[2, channel] = min(sums[2, channel], np.float64(np.min(least[a:b])))
            sums[3, channel] = max(sums[3, channel], np.float64(np.max(greatest[a:b])))
            a = b


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
    patterns = np.empty(LANES, np.uint32)
    values = patterns.view(np.float32)
    middle = np.empty(LANES, np.float32)
    part = np.empty(LANES, np.float32)
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
            part[:n] = np.float32(0.0)
            for first in range(top, min(top + DEPTH * width, source.size), width):
                widen(source[first : first + n], is_half, patterns)
                add_deviations(values, middle, n, part)
            add_part(part, n, total)
    return np.sum(total)


def add_powers(values, n, part, part_squares):
    """Add values, and their squares."""
    v = values[:n]
    p = part[:n]
    q = part_squares[:n]
    for j in range(n):
        p[j] += v[j]
        q[j] += v[j] * v[j]


def add_deviations(values, middle, n, part):
    """Add squared distances from the middle."""
    v = values[:n]
    m = middle[:n]
    p = part[:n]
    for j in range(n):
        p[j] += (v[j] - m[j]) * (v[j] - m[j])


def add_part(part, n, total):
    """Add float32 to float64."""
    p = part[:n]
    t = total[:n]
    for j in range(n):
        t[j] += np.float64(p[j])


def fold_extremes(patterns, n, lows, highs):
    """Extremes of floats, taken over their patterns as integers that sort like them."""
    p = patterns[:n]
    low = lows[:n]
    high = highs[:n]
    for j in range(n):
        key = p[j] ^ ((p[j] >> np.int32(31)) & SIGNLESS)
        low[j] = min(low[j], key)
        high[j] = max(high[j], key)


def sort_back(keys, n):
    """Such integers to the patterns of their floats."""
    k = keys[:n]
    for j in range(n):
        k[j] = k[j] ^ ((k[j] >> np.int32(31)) & SIGNLESS)
