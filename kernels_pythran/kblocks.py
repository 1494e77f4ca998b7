"""Encoder of GGML's block formats: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K and Q6_K.

A tile of 4096 weights is transposed, so that each group of 16 or 32 weights, which has a scale, is a lane of a vector;
every step is a loop over lanes without a branch. For each of a few inverse scales the codes are rounded, and the scale
(and minimum) that fit them best found by least squares. In a K-block the scales and minima of the groups are then
rounded to their few bits, the neighbours of each are tried with the codes rounded anew, and the two float16 factors of
the block are refitted. Weights of the columns make it all a weighted search.

Sums over a group are float32, in the order that `workbench.reference` repeats; what is computed once a group is
float64. `klayout` says what form, moves and scratch are.
"""

import numpy as np

from .blocks import BLOCK, first_not_finite, widen
from .klayout import (
    BEST_MIN, BEST_SCALE, COST, FACTOR, GAIN, HELD_SQ, HELD_SQQ, HELD_SQX, HIGH, INVERSE, LANE_FACTOR, LANE_MINIMUM,
    LANES, LOW, MIN, MINIMUM, NATURAL, NEW_FACTOR, NEW_MIN, NEW_MINIMUM, NEW_SCALE, OFFSET, REACH, SCALE, SLOPE, SQ,
    SQQ, SQX, SW, SX, TERMS, UNIT, VALUES, WEIGHTS, X, add_tile_error, keep_codes, load_tile, pack_tile, round_half,
    spread,
)

SLIGHT = np.float32(1e-12)  # no float16 scale reaches so low: such a range counts as none
VAST = np.float32(1e12)  # nor so high: weights are cut off there while codes are sought
MOST_CODE = np.float32(1073741824.0)  # 2^30: what codes are rounded from stays within an int32


def find_extremes(x, size, lanes, single):
    """Least, greatest and greatest absolute weight of each lane."""
    low = single[LOW]
    high = single[HIGH]
    reach = single[REACH]
    first = x[:lanes]
    for i in range(lanes):
        # Adding zero makes −0 the same as 0.
        low[i] = first[i] + np.float32(0.0)
        high[i] = first[i] + np.float32(0.0)
    for k in range(1, size):
        row = x[k * lanes : (k + 1) * lanes]
        for i in range(lanes):
            v = row[i] + np.float32(0.0)
            low[i] = v if v < low[i] else low[i]
            high[i] = v if v > high[i] else high[i]
    for i in range(lanes):
        below = -low[i]
        reach[i] = high[i] if high[i] > below else below


def sum_lanes(x, w, size, lanes, single):
    """Sums of the weights' weights w and of w·x of each lane."""
    a = single[SW]
    b = single[SX]
    for i in range(lanes):
        a[i] = np.float32(0.0)
        b[i] = np.float32(0.0)
    for k in range(size):
        xk = x[k * lanes : (k + 1) * lanes]
        wk = w[k * lanes : (k + 1) * lanes]
        for i in range(lanes):
            a[i] = a[i] + wk[i]
            b[i] = b[i] + wk[i] * xk[i]


def assign(x, w, form, lanes, single):
    """Codes q = (x − low)·inverse, rounded and cut off, and the sums of w·q, w·q² and w·q·x of each lane."""
    sq = single[SQ]
    sqq = single[SQQ]
    sqx = single[SQX]
    low = single[LOW]
    inverse = single[INVERSE]
    zero = np.float32(form[2])
    shift = zero + np.float32(0.5)
    least = np.int32(form[3])
    most = np.int32(form[4])
    for i in range(lanes):
        sq[i] = np.float32(0.0)
        sqq[i] = np.float32(0.0)
        sqx[i] = np.float32(0.0)
    for k in range(0, form[0], 4):
        at = k * lanes
        x0 = x[at : at + lanes]
        x1 = x[at + lanes : at + 2 * lanes]
        x2 = x[at + 2 * lanes : at + 3 * lanes]
        x3 = x[at + 3 * lanes : at + 4 * lanes]
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


def settle(x, form, lanes, single, integers):
    """The codes of `assign` as they are stored."""
    low = single[LOW]
    inverse = single[INVERSE]
    shift = np.float32(form[2]) + np.float32(0.5)
    least = np.int32(form[3])
    most = np.int32(form[4])
    for k in range(form[0]):
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


def search(x, w, form, lanes, levels, single, double):
    """Best scale, and minimum where there is one, of each lane, among those that the levels lead to."""
    has_minimum = form[5] > 0
    limit = 0.0
    if form[5] == 2:
        limit = 1e30
    begin_search(single, double, lanes, has_minimum, limit)
    unit = single[UNIT]
    inverse = single[INVERSE]
    for j in range(levels.size):
        level = levels[j]
        for i in range(lanes):
            inverse[i] = level * unit[i]
        assign(x, w, form, lanes, single)
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


def find_factors(single, bits, double, form, blocks):
    """The float16 factors of each block, by which its largest scale becomes the largest integer."""
    scales = double[BEST_SCALE]
    minima = double[BEST_MIN]
    factor = single[FACTOR]
    minimum = single[MINIMUM]
    for b in range(blocks):
        peak = scales[b]
        depth = minima[b]
        for g in range(1, form[1]):
            s = scales[g * blocks + b]
            if abs(s) > abs(peak):
                peak = s
            depth = min(depth, minima[g * blocks + b])
        if form[1] > 1:
            # Without a minimum scales have signs, and negative integers reach one further.
            bound = np.float64(form[7])
            if form[5] == 0:
                bound = np.float64(form[6])
            peak = peak / bound
            depth = -depth / np.float64(form[7])
        factor[b] = np.float32(peak)
        minimum[b] = np.float32(depth)
    round_half(single, bits, FACTOR, blocks)
    round_half(single, bits, MINIMUM, blocks)


def spread_factors(single, groups, blocks):
    """The factors of each lane's block."""
    d = single[FACTOR]
    m = single[MINIMUM]
    lane_d = single[LANE_FACTOR]
    lane_m = single[LANE_MINIMUM]
    for g in range(groups):
        at = g * blocks
        for b in range(blocks):
            lane_d[at + b] = d[b]
            lane_m[at + b] = m[b]


def round_integers(values, factors, sign, lanes, least, most, out):
    """Integers whose products with the lane's factor are nearest to sign·values."""
    for i in range(lanes):
        d = np.float64(factors[i])
        some = np.float64(np.int64(d != 0.0))
        t = some * sign * values[i] / (d + (1.0 - some)) + 256.5
        # A sound integer is above −256, so that cutting off rounds down.
        out[i] = np.float32(min(max(np.int64(t) - np.int64(256), np.int64(least)), np.int64(most)))


def try_scales(x, w, form, lanes, step, has_codes, single, double):
    """Move each lane's integer scale by a step, refit its minimum and its codes, and keep what costs less.

    What is kept are the integers, the sums over their codes, and the cost; without codes the minimum stays.
    """
    slope = single[SLOPE]
    offset = single[OFFSET]
    sw = single[SW]
    sx = single[SX]
    lane_d = single[LANE_FACTOR]
    lane_m = single[LANE_MINIMUM]
    scale = single[SCALE]
    minimum = single[MIN]
    new_scale = single[NEW_SCALE]
    new_min = single[NEW_MIN]
    h1 = single[HELD_SQ]
    h2 = single[HELD_SQQ]
    hx = single[HELD_SQX]
    least = np.float32(form[6])
    most = np.float32(form[7])
    delta = np.float32(step)
    for i in range(lanes):
        t = scale[i] + delta
        t = t if t > least else least
        new_scale[i] = t if t < most else most
    for i in range(lanes):
        slope[i] = lane_d[i] * new_scale[i]
        new_min[i] = minimum[i]
    if form[5] > 0 and has_codes:
        ceiling = np.float64(form[7]) + 0.5
        for i in range(lanes):
            d = np.float64(sw[i]) * np.float64(lane_m[i])
            some = np.float64(np.int64(d > 0.0))
            t = some * (np.float64(slope[i]) * np.float64(h1[i]) - np.float64(sx[i])) / (d + (1.0 - some)) + 0.5
            t = t if t > 0.0 else 0.0
            t = t if t < ceiling else ceiling
            new_min[i] = np.float32(np.int64(t))
    for i in range(lanes):
        offset[i] = lane_m[i] * new_min[i]
    invert(single, lanes)
    assign(x, w, form, lanes, single)
    q1 = single[SQ]
    q2 = single[SQQ]
    qx = single[SQX]
    costs = double[COST]
    for i in range(lanes):
        k = np.float64(slope[i])
        m = np.float64(offset[i])
        cost = (
            k * k * np.float64(q2[i]) + m * m * np.float64(sw[i]) - 2.0 * k * np.float64(qx[i])
            + 2.0 * m * np.float64(sx[i]) - 2.0 * k * m * np.float64(q1[i])
        )
        before = costs[i]
        costs[i] = cost if cost < before else before
        scale[i] = new_scale[i] if cost < before else scale[i]
        minimum[i] = new_min[i] if cost < before else minimum[i]
        h1[i] = q1[i] if cost < before else h1[i]
        h2[i] = q2[i] if cost < before else h2[i]
        hx[i] = qx[i] if cost < before else hx[i]


def block_cost(aa, ab, bb, ax, bx, d, m):
    """Squared error of a block less Σw·x², from the sums of `refit_factors`."""
    return d * d * aa + m * m * bb - 2.0 * d * ax + 2.0 * m * bx - 2.0 * d * m * ab


def refit_factors(single, bits, double, form, blocks):
    """Least squares for the factors of each block, its integers and codes given; kept where they cost less."""
    factor = single[FACTOR]
    minimum = single[MINIMUM]
    new_factor = single[NEW_FACTOR]
    new_minimum = single[NEW_MINIMUM]
    scale = single[SCALE]
    low = single[MIN]
    h1 = single[HELD_SQ]
    h2 = single[HELD_SQQ]
    hx = single[HELD_SQX]
    sw = single[SW]
    sx = single[SX]
    aa = double[TERMS]
    ab = double[TERMS + 1]
    bb = double[TERMS + 2]
    ax = double[TERMS + 3]
    bx = double[TERMS + 4]
    for b in range(blocks):
        aa[b] = 0.0
        ab[b] = 0.0
        bb[b] = 0.0
        ax[b] = 0.0
        bx[b] = 0.0
    for g in range(form[1]):
        for b in range(blocks):
            i = g * blocks + b
            k = np.float64(scale[i])
            m = np.float64(low[i])
            aa[b] = aa[b] + k * k * np.float64(h2[i])
            ab[b] = ab[b] + k * m * np.float64(h1[i])
            bb[b] = bb[b] + m * m * np.float64(sw[i])
            ax[b] = ax[b] + k * np.float64(hx[i])
            bx[b] = bx[b] + m * np.float64(sx[i])
    for b in range(blocks):
        d = np.float64(factor[b])
        m = np.float64(minimum[b])
        det = aa[b] * bb[b] - ab[b] * ab[b]
        if det > 1e-6 * aa[b] * bb[b]:
            d = (bb[b] * ax[b] - ab[b] * bx[b]) / det
            m = (ab[b] * ax[b] - aa[b] * bx[b]) / det
        elif aa[b] > 0.0:
            d = (ax[b] + m * ab[b]) / aa[b]
        new_factor[b] = np.float32(d)
        new_minimum[b] = np.float32(max(m, 0.0))
    round_half(single, bits, NEW_FACTOR, blocks)
    round_half(single, bits, NEW_MINIMUM, blocks)
    for b in range(blocks):
        d = np.float64(factor[b])
        m = np.float64(minimum[b])
        old = block_cost(aa[b], ab[b], bb[b], ax[b], bx[b], d, m)
        d = np.float64(new_factor[b])
        m = np.float64(new_minimum[b])
        if block_cost(aa[b], ab[b], bb[b], ax[b], bx[b], d, m) < old:
            factor[b] = new_factor[b]
            minimum[b] = new_minimum[b]


def fit_integers(x, w, form, blocks, rounds, integers, single, bits, double):
    """The integer scales and minima of K-blocks."""
    groups = form[1]
    lanes = groups * blocks
    spread_factors(single, groups, blocks)
    round_integers(double[BEST_SCALE], single[LANE_FACTOR], 1.0, lanes, form[6], form[7], single[SCALE])
    round_integers(double[BEST_MIN], single[LANE_MINIMUM], -1.0, lanes, 0, form[7], single[MIN])
    costs = double[COST]
    for turn in range(rounds):
        for i in range(lanes):
            costs[i] = 1e300
        # As they are; with the minimum that fits; one lower; one higher.
        for trial in range(4):
            if trial != 1 or form[5] > 0:
                try_scales(x, w, form, lanes, trial // 2 * (2 * trial - 5), trial > 0, single, double)
        refit_factors(single, bits, double, form, blocks)
        spread_factors(single, groups, blocks)
    scale = single[SCALE]
    minimum = single[MIN]
    scale_bytes = integers[BLOCK : BLOCK + lanes]
    min_bytes = integers[BLOCK + LANES : BLOCK + LANES + lanes]
    added = np.int32(form[8])
    for i in range(lanes):
        scale_bytes[i] = np.uint8(np.int32(scale[i]) + added)
        min_bytes[i] = np.uint8(np.int32(minimum[i]))


def load_weights(weights, col, form, blocks, tiles):
    """The weights of a tile's columns; ones where there are none."""
    natural = tiles[NATURAL]
    if weights.size == 0:
        for i in range(BLOCK):
            natural[i] = np.float32(1.0)
    else:
        at = col
        for i in range(BLOCK):
            natural[i] = weights[at]
            at += 1
            if at == weights.size:
                at = 0
    load_tile(natural, form, blocks, tiles[WEIGHTS])


def cut_off(form, blocks, tiles, single):
    """Cut vast weights off, whose squares would not be finite; they are beyond every scale anyway."""
    values = tiles[VALUES]
    natural = tiles[NATURAL]
    for i in range(BLOCK):
        natural[i] = min(max(values[i], -VAST), VAST)
    load_tile(natural, form, blocks, tiles[X])
    find_extremes(tiles[X], form[0], form[1] * blocks, single)


#pythran export ggml_encode(uint16[], bool, int, int, int64[], int64[:,:] order(C), float32[], float32[], int, uint8[], uint8[], float64[:,:] order(C), float32[:,:] order(C), uint32[], uint8[], uint8[], float32[:,:] order(C), uint32[:,:] order(C), float64[:,:] order(C))
#pythran export ggml_encode(uint32[], bool, int, int, int64[], int64[:,:] order(C), float32[], float32[], int, uint8[], uint8[], float64[:,:] order(C), float32[:,:] order(C), uint32[], uint8[], uint8[], float32[:,:] order(C), uint32[:,:] order(C), float64[:,:] order(C))
def ggml_encode(
    source, is_half, rows, cols, form, moves, weights, levels, rounds, data, stored, sums, tiles, patterns, integers,
    planes, single, bits, double,
):
    """Quantize rows into blocks of a GGML format.

    Parameters
    ----------
    source : uint16 or uint32 [rows * cols]
        Bit patterns of the weights.
    is_half : bool
        For 16-bit patterns: float16 rather than bfloat16.
    cols : int
        A multiple of the block's weights: 32, or 256 for a K-block.
    form : int64 [12]
    moves : int64 [n, 6]
    weights : float32 [cols] or [0]
        How much the squared error of a column counts, above 0 and about 1; with none, all alike.
    levels : float32 [n]
        Codes, not rounded, to which the range of a group (its peak, where there is no minimum) is stretched: the
        candidates of the search.
    rounds : int
        How often the integer scales of K-blocks are moved and their float16 factors refitted.
    data : uint8 [rows * cols / weights a block * bytes a block], out
    stored : uint8 [rows * cols] or [0], out
        The codes of the weights, tile by tile.
    sums : float64 [rows, 3], added to
        ‖δ‖², ‖w‖² and w·δ of each row, where δ = w − ŵ. With no rows nothing is measured, which is quicker.
    tiles, patterns, integers, planes, single, bits, double
        Scratch.

    Returns
    -------
    int
        Index of the first Inf or NaN, at which the work stopped, or -1.
    """
    width = form[0] * form[1]
    blocks = BLOCK // width
    lanes = form[1] * blocks
    per_row = cols // width
    total = rows * per_row
    load_weights(weights, 0, form, blocks, tiles)
    for first in range(0, total, blocks):
        count = min(blocks, total - first)
        n = count * width
        begin = first * width
        widen(source[begin : begin + n], is_half, patterns)
        bad = first_not_finite(patterns, n)
        if bad >= 0:
            return begin + bad
        for i in range(n, BLOCK):
            patterns[i] = np.uint32(0)
        if weights.size > 0 and BLOCK % cols != 0:
            load_weights(weights, begin % cols, form, blocks, tiles)
        load_tile(tiles[VALUES], form, blocks, tiles[X])
        find_extremes(tiles[X], form[0], lanes, single)
        is_vast = np.max(single[REACH, :lanes]) > VAST
        if is_vast:
            cut_off(form, blocks, tiles, single)
        sum_lanes(tiles[X], tiles[WEIGHTS], form[0], lanes, single)
        search(tiles[X], tiles[WEIGHTS], form, lanes, levels, single, double)
        find_factors(single, bits, double, form, blocks)
        if form[1] > 1:
            fit_integers(tiles[X], tiles[WEIGHTS], form, blocks, rounds, integers, single, bits, double)
        spread(form, integers, single, blocks)
        invert(single, lanes)
        settle(tiles[X], form, lanes, single, integers)
        pack_tile(form, moves, integers, single, bits, planes, blocks, count, data, first)
        if stored.size > 0:
            keep_codes(integers, blocks, count, stored[begin : begin + n])
        if sums.shape[0] > 0:
            if is_vast:
                load_tile(tiles[VALUES], form, blocks, tiles[X])
            add_tile_error(tiles[X], integers, single, form, blocks, count, sums, first, per_row)
    return -1
