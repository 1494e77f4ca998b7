"""The search for codes and scales of the groups of GGML's blocks: inlined into `kblocks`, which says how it goes.

Sums over a group are float32, in the order that `workbench.kernels.portable` repeats; what is computed once a group is
float64. `klayout` says what form and scratch are.
"""

import numpy as np

from .kform import (
    ANY_MINIMUM, GROUPS, GROUP_SIZE, HIGHEST_CODE, LOWEST_CODE, MINIMUM_KIND,
    NO_MINIMUM, ZERO_CODE,
)
from .klayout import (
    BEST_MIN, BEST_SCALE, GAIN, HIGH, INVERSE, LOW, OFFSET, REACH, SLOPE, SQ, SQQ, SQX, SW, SX, UNIT,
)

SLIGHT = np.float32(1e-12)  # no float16 scale reaches so low: such a range counts as none
MOST_CODE = np.float32(1073741824.0)  # 2^30: what codes are rounded from stays within an int32


def find_extremes(x, size, lanes, single):
    """Least, greatest and greatest absolute weight of each lane."""
    low = single[LOW]
    high = single[HIGH]
    reach = single[REACH]
    first = x[:lanes]
    for i in range(lanes):
        low[i] = first[i]
        high[i] = first[i]
    for k in range(0, size, 4):
        at = k * lanes
        x0 = x[at : at + lanes]
        x1 = x[at + lanes : at + 2 * lanes]
        x2 = x[at + 2 * lanes : at + 3 * lanes]
        x3 = x[at + 3 * lanes : at + 4 * lanes]
        for i in range(lanes):
            a = x0[i] if x0[i] < x1[i] else x1[i]
            b = x2[i] if x2[i] < x3[i] else x3[i]
            c = a if a < b else b
            low[i] = c if c < low[i] else low[i]
        for i in range(lanes):
            a = x0[i] if x0[i] > x1[i] else x1[i]
            b = x2[i] if x2[i] > x3[i] else x3[i]
            c = a if a > b else b
            high[i] = c if c > high[i] else high[i]
    for i in range(lanes):
        # Adding zero makes −0 the same as 0.
        low[i] = low[i] + np.float32(0.0)
        high[i] = high[i] + np.float32(0.0)
    for i in range(lanes):
        below = -low[i]
        reach[i] = high[i] if high[i] > below else below


def sum_lanes(x, w, size, lanes, has_weights, single):
    """Sums of the weights' weights w and of w·x of each lane."""
    a = single[SW]
    b = single[SX]
    for i in range(lanes):
        a[i] = np.float32(0.0)
        b[i] = np.float32(0.0)
    if not has_weights:
        for i in range(lanes):
            a[i] = np.float32(size)
    for k in range(0, size, 4):
        at = k * lanes
        x0 = x[at : at + lanes]
        x1 = x[at + lanes : at + 2 * lanes]
        x2 = x[at + 2 * lanes : at + 3 * lanes]
        x3 = x[at + 3 * lanes : at + 4 * lanes]
        if has_weights:
            w0 = w[at : at + lanes]
            w1 = w[at + lanes : at + 2 * lanes]
            w2 = w[at + 2 * lanes : at + 3 * lanes]
            w3 = w[at + 3 * lanes : at + 4 * lanes]
            for i in range(lanes):
                a[i] = a[i] + ((w0[i] + w1[i]) + (w2[i] + w3[i]))
                b[i] = b[i] + ((w0[i] * x0[i] + w1[i] * x1[i]) + (w2[i] * x2[i] + w3[i] * x3[i]))
        else:
            for i in range(lanes):
                b[i] = b[i] + ((x0[i] + x1[i]) + (x2[i] + x3[i]))


def clear_sums(lanes, single):
    """Zeros in the place of the sums of `sum_lanes`."""
    a = single[SW]
    b = single[SX]
    for i in range(lanes):
        a[i] = np.float32(0.0)
        b[i] = np.float32(0.0)


def assign(x, w, form, lanes, has_weights, single):
    """Codes q = (x − low)·inverse, rounded and cut off, and the sums of w·q, w·q² and w·q·x of each lane.

    Without weights w they are all ones, and are not looked at.
    """
    sq = single[SQ]
    sqq = single[SQQ]
    sqx = single[SQX]
    low = single[LOW]
    inverse = single[INVERSE]
    zero = np.float32(form[ZERO_CODE])
    shift = zero + np.float32(0.5)
    least = np.int32(form[LOWEST_CODE])
    most = np.int32(form[HIGHEST_CODE])
    for i in range(lanes):
        sq[i] = np.float32(0.0)
        sqq[i] = np.float32(0.0)
        sqx[i] = np.float32(0.0)
    for k in range(0, form[GROUP_SIZE], 4):
        at = k * lanes
        x0 = x[at : at + lanes]
        x1 = x[at + lanes : at + 2 * lanes]
        x2 = x[at + 2 * lanes : at + 3 * lanes]
        x3 = x[at + 3 * lanes : at + 4 * lanes]
        if has_weights:
            w0 = w[at : at + lanes]
            w1 = w[at + lanes : at + 2 * lanes]
            w2 = w[at + 2 * lanes : at + 3 * lanes]
            w3 = w[at + 3 * lanes : at + 4 * lanes]
            for i in range(lanes):
                q0 = np.float32(min(max(np.int32((x0[i] - low[i]) * inverse[i] + shift), least), most)) - zero
                q1 = np.float32(min(max(np.int32((x1[i] - low[i]) * inverse[i] + shift), least), most)) - zero
                q2 = np.float32(min(max(np.int32((x2[i] - low[i]) * inverse[i] + shift), least), most)) - zero
                q3 = np.float32(min(max(np.int32((x3[i] - low[i]) * inverse[i] + shift), least), most)) - zero
                p0 = w0[i] * q0
                p1 = w1[i] * q1
                p2 = w2[i] * q2
                p3 = w3[i] * q3
                # Four at a time, for sums go to memory and back.
                sq[i] = sq[i] + ((p0 + p1) + (p2 + p3))
                sqq[i] = sqq[i] + ((p0 * q0 + p1 * q1) + (p2 * q2 + p3 * q3))
                sqx[i] = sqx[i] + ((p0 * x0[i] + p1 * x1[i]) + (p2 * x2[i] + p3 * x3[i]))
        elif form[MINIMUM_KIND] == NO_MINIMUM:
            # Without a minimum, low is zero and nobody asks for the sum of codes.
            for i in range(lanes):
                q0 = np.float32(min(max(np.int32(x0[i] * inverse[i] + shift), least), most)) - zero
                q1 = np.float32(min(max(np.int32(x1[i] * inverse[i] + shift), least), most)) - zero
                q2 = np.float32(min(max(np.int32(x2[i] * inverse[i] + shift), least), most)) - zero
                q3 = np.float32(min(max(np.int32(x3[i] * inverse[i] + shift), least), most)) - zero
                sqq[i] = sqq[i] + ((q0 * q0 + q1 * q1) + (q2 * q2 + q3 * q3))
                sqx[i] = sqx[i] + ((q0 * x0[i] + q1 * x1[i]) + (q2 * x2[i] + q3 * x3[i]))
        else:
            for i in range(lanes):
                q0 = np.float32(min(max(np.int32((x0[i] - low[i]) * inverse[i] + shift), least), most)) - zero
                q1 = np.float32(min(max(np.int32((x1[i] - low[i]) * inverse[i] + shift), least), most)) - zero
                q2 = np.float32(min(max(np.int32((x2[i] - low[i]) * inverse[i] + shift), least), most)) - zero
                q3 = np.float32(min(max(np.int32((x3[i] - low[i]) * inverse[i] + shift), least), most)) - zero
                sq[i] = sq[i] + ((q0 + q1) + (q2 + q3))
                sqq[i] = sqq[i] + ((q0 * q0 + q1 * q1) + (q2 * q2 + q3 * q3))
                sqx[i] = sqx[i] + ((q0 * x0[i] + q1 * x1[i]) + (q2 * x2[i] + q3 * x3[i]))


def settle(x, form, lanes, single, integers):
    """The codes of `assign` as they are stored."""
    low = single[LOW]
    inverse = single[INVERSE]
    shift = np.float32(form[ZERO_CODE]) + np.float32(0.5)
    least = np.int32(form[LOWEST_CODE])
    most = np.int32(form[HIGHEST_CODE])
    for k in range(form[GROUP_SIZE]):
        row = x[k * lanes : (k + 1) * lanes]
        c = integers[k * lanes : (k + 1) * lanes]
        for i in range(lanes):
            c[i] = np.uint8(min(max(np.int32((row[i] - low[i]) * inverse[i] + shift), least), most))


def fit_line(single, double, lanes, limit):
    """Keep the scale and minimum, under the limit, that fit the codes best, where they beat the lane's best so far."""
    q1 = single[SQ]
    q2 = single[SQQ]
    qx = single[SQX]
    sw = single[SW]
    sx = single[SX]
    gains = double[GAIN]
    scales = double[BEST_SCALE]
    minima = double[BEST_MIN]
    for i in range(lanes):
        a = np.float64(q2[i])
        b = np.float64(q1[i])
        c = np.float64(qx[i])
        n = np.float64(sw[i])
        y = np.float64(sx[i])
        d = n * a - b * b
        # No line goes through codes that are all alike. Only as integers do comparisons vectorise.
        good = np.float64(np.int64(d > 1e-6 * n * a))
        s = good * (n * c - y * b) / (d + (1.0 - good))
        m = good * (a * y - b * c) / (d + (1.0 - good))
        free = np.float64(np.int64(m < limit))
        m = free * m
        s = free * s + (1.0 - free) * (c / (a + np.float64(np.int64(a <= 0.0))))
        s = np.float64(np.int64(s > 0.0)) * s
        gain = 2.0 * (s * c + m * y) - s * s * a - 2.0 * s * m * b - m * m * n
        before = gains[i]
        gains[i] = gain if gain > before else before
        scales[i] = s if gain > before else scales[i]
        minima[i] = m if gain > before else minima[i]


def fit_slope(single, double, lanes):
    """Keep the scale that fits the codes best, where it beats the lane's best so far."""
    q2 = single[SQQ]
    qx = single[SQX]
    gains = double[GAIN]
    scales = double[BEST_SCALE]
    for i in range(lanes):
        a = np.float64(q2[i])
        c = np.float64(qx[i])
        s = c / (a + np.float64(np.int64(a <= 0.0)))
        gain = s * c
        before = gains[i]
        gains[i] = gain if gain > before else before
        scales[i] = s if gain > before else scales[i]


def begin_search(single, double, lanes, has_minimum, limit):
    """Set the best of each lane to all codes zero, and find its range, or its peak where there is no minimum."""
    gains = double[GAIN]
    scales = double[BEST_SCALE]
    minima = double[BEST_MIN]
    unit = single[UNIT]
    low = single[LOW]
    high = single[HIGH]
    sw = single[SW]
    sx = single[SX]
    if has_minimum:
        for i in range(lanes):
            n = np.float64(sw[i])
            y = np.float64(sx[i])
            m = y / n
            m = np.float64(np.int64(m < limit)) * m
            gains[i] = 2.0 * m * y - m * m * n
            scales[i] = 0.0
            minima[i] = m
        top = np.float32(limit)
        for i in range(lanes):
            v = low[i]
            low[i] = v if v < top else top
        for i in range(lanes):
            unit[i] = high[i] - low[i]
    else:
        for i in range(lanes):
            gains[i] = 0.0
            scales[i] = 0.0
            minima[i] = 0.0
        for i in range(lanes):
            below = -low[i]
            unit[i] = high[i] if high[i] >= below else low[i]
        for i in range(lanes):
            low[i] = np.float32(0.0)
    for i in range(lanes):
        wide = np.float32(np.int32(abs(unit[i]) > SLIGHT))
        unit[i] = np.float32(wide / (unit[i] + (np.float32(1.0) - wide)))


def guess(single, double, lanes, level):
    """The scale and minimum by which a lane's range reaches from zero to the level."""
    unit = single[UNIT]
    low = single[LOW]
    scales = double[BEST_SCALE]
    minima = double[BEST_MIN]
    for i in range(lanes):
        u = np.float64(unit[i]) * level
        some = np.float64(np.int64(u != 0.0))
        scales[i] = some / (u + (1.0 - some))
        minima[i] = np.float64(low[i])


def search(x, w, form, lanes, has_weights, levels, rounds, single, double):
    """Best scale, and minimum where there is one, of each lane, among those that the levels lead to.

    Without rounds, a block of one group takes the scale of its level as it is.
    """
    has_minimum = form[MINIMUM_KIND] > NO_MINIMUM
    limit = 0.0
    if form[MINIMUM_KIND] == ANY_MINIMUM:
        limit = 1e30
    begin_search(single, double, lanes, has_minimum, limit)
    unit = single[UNIT]
    inverse = single[INVERSE]
    if form[GROUPS] == 1 and rounds == 0:
        guess(single, double, lanes, np.float64(levels[0]))
        return
    for j in range(levels.size):
        level = levels[j]
        for i in range(lanes):
            inverse[i] = level * unit[i]
        assign(x, w, form, lanes, has_weights, single)
        if has_minimum:
            fit_line(single, double, lanes, limit)
        else:
            fit_slope(single, double, lanes)


def invert(single, lanes):
    """What rounds to the codes of w = slope·q − offset: the least weight and the inverse scale."""
    s = single[SLOPE]
    o = single[OFFSET]
    reach = single[REACH]
    low = single[LOW]
    inverse = single[INVERSE]
    for i in range(lanes):
        low[i] = np.float32(0.0) - o[i]
    for i in range(lanes):
        some = np.float32(np.int32(s[i] != np.float32(0.0)))
        steep = np.float32(some / (s[i] + (np.float32(1.0) - some)))
        most = np.float32(MOST_CODE / (reach[i] + abs(o[i]) + np.float32(1e-6)))
        steep = steep if steep < most else most
        inverse[i] = steep if steep > -most else -most
