"""Groups of weights on their side, 64 at a time. Not compiled by itself: `search` imports it and Pythran inlines it.

Weight k of all groups lies together in a block: for every four k, four rows of 64 weights, then of their importances.
What belongs to a group stands in one array, a field of 64 after the other.
"""

import numpy as np

from .extremes import find_extremes
from .forms import BRAIN, FIXED, HALF, OFFSET

LANES = 64
"""Groups at a time."""
LEAST = np.float32(1.0 / 64.0)
MOST = np.float32(256.0)
"""Scales stay between these multiples of the one that spans the range."""

# Fields of the groups: what is known of them,
LOW = 0  # their least weight; all that is in units of weights is times UNIT⁻¹
STEP = LANES  # the scale that spans their range
UNIT = 2 * LANES  # a power of two near their peak
WEIGHT = 3 * LANES  # Σu, of the importances u
FIRST = 4 * LANES  # Σu·w
SECOND = 5 * LANES  # Σu·w²
# what is tried, and its sums over codes q,
INVERSE = 6 * LANES
MIDDLE = 7 * LANES  # what the code in the middle decodes to
PIVOT = 8 * LANES  # the mean of the codes or, where they are fixed or whole, the zero point
SUM = 9 * LANES  # Σu·q
SQUARES = 10 * LANES  # Σu·q²
PRODUCTS = 11 * LANES  # Σu·q·w
# the best so far,
ERROR = 12 * LANES
SCALE = 13 * LANES
CENTER = 14 * LANES
MEAN = 15 * LANES  # its pivot
# and what may become stored.
NEW = 16 * LANES  # the scale, also of what is tried
ORIGIN = 17 * LANES
STORED_ERROR = 18 * LANES
STORED = 19 * LANES
STORED_ORIGIN = 20 * LANES
LOSS = 21 * LANES  # the error of what is tried
FIELDS = 22


def load(patterns, at, size, lane, form, levels, scale, origin, extremes, block, fields):
    """Put a group into its lane; whether its values are such that float32 serves."""
    f = fields[: FIELDS * LANES]
    p = fields.view(np.uint32)[: FIELDS * LANES]
    v = patterns.view(np.float32)[at : at + size]
    find_extremes(patterns.view(np.int32)[at : at + size], size, extremes)
    limits = extremes.view(np.float32)
    low = limits[0] + np.float32(0.0)
    high = limits[1] + np.float32(0.0)
    peak = max(np.float32(0.0) - low, high)
    wide = high - low
    # The range must be far from the ends of float32, and no smaller than its steps at the peak.
    is_fit = wide > np.float32(1e-27) and peak < np.float32(1e29) and wide * np.float32(64.0) >= peak
    step = np.float32(wide / levels)
    if form == FIXED:
        step = np.float32((peak + peak) / levels)
    is_fit = is_fit and scale > step * LEAST and scale * LEAST < step
    if not is_fit:
        return False
    f[lane + UNIT] = peak
    p[lane + UNIT] = p[lane + UNIT] & np.uint32(0x7F800000)
    unit = f[lane + UNIT]
    shrink = np.float32(np.float32(1.0) / unit)
    f[lane + LOW] = low * shrink
    f[lane + STEP] = step * shrink
    f[lane + STORED] = scale * shrink
    f[lane + STORED_ORIGIN] = origin * shrink if form == OFFSET else origin
    b = block[lane : block.size]
    whole = size // 4
    for c in range(whole):
        b[c * 8 * LANES] = v[4 * c] * shrink
        b[c * 8 * LANES + LANES] = v[4 * c + 1] * shrink
        b[c * 8 * LANES + 2 * LANES] = v[4 * c + 2] * shrink
        b[c * 8 * LANES + 3 * LANES] = v[4 * c + 3] * shrink
    for k in range(size - 4 * whole):
        b[(8 * whole + k) * LANES] = v[4 * whole + k] * shrink
    return True


def clear(block, chunks, lane):
    """Make a lane empty."""
    b = block[lane : block.size]
    for k in range(8 * chunks):
        b[k * LANES] = np.float32(0.0)


def weigh(weights, first, size, lane, block):
    """Put the importances of a group's weights into its lane; nothing counts beyond its end."""
    b = block[lane : block.size]
    if weights.size:
        u = weights[first : first + size]
        for k in range(size):
            b[(k // 4 * 8 + k % 4 + 4) * LANES] = u[k]
    else:
        for k in range(size):
            b[(k // 4 * 8 + k % 4 + 4) * LANES] = np.float32(1.0)


def narrow(lanes, storage, field, fields):
    """Round a field as it will be stored."""
    f = fields[: FIELDS * LANES]
    p = fields.view(np.uint32)[: FIELDS * LANES]
    if storage == BRAIN:
        for g in range(lanes):
            u = p[g + field]
            p[g + field] = (u + np.uint32(0x7FFF) + ((u >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
    elif storage == HALF:
        for g in range(lanes):
            # Below 2^-14 the steps are 2^-24, those of float32 about 0.75.
            if abs(f[g + field]) < np.float32(2.0**-14):
                f[g + field] = f[g + field] + np.float32(0.75) - np.float32(0.75)
            else:
                u = p[g + field]
                p[g + field] = (u + np.uint32(0xFFF) + ((u >> np.uint32(13)) & np.uint32(1))) & np.uint32(0xFFFFE000)
                if abs(f[g + field]) > np.float32(65504.0):
                    p[g + field] = (u & np.uint32(0x80000000)) | np.uint32(0x7F800000)
