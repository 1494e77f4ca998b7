"""The integer scales and minima of K-blocks and their float16 factors: inlined into `kblocks`, which says how it goes."""

import numpy as np

from .blocks import BLOCK
from .kform import ADDED, GREATEST_SCALE, GROUPS, GROUP_SIZE, LEAST_SCALE, MINIMUM_KIND, NO_MINIMUM
from .klayout import (
    BEST_MIN, BEST_SCALE, COST, FACTOR, HELD_SQ, HELD_SQQ, HELD_SQX, LANE_FACTOR, LANE_MINIMUM, LANES, MIN, MINIMUM,
    NEW_FACTOR, NEW_MIN, NEW_MINIMUM, NEW_SCALE, OFFSET, SCALE, SLOPE, SQ, SQQ, SQX, SW, SX, TERMS, round_half,
)
from .ksearch import assign, invert


def find_factors(single, bits, double, form, blocks):
    """The float16 factors of each block, by which its largest scale becomes the largest integer."""
    scales = double[BEST_SCALE]
    minima = double[BEST_MIN]
    factor = single[FACTOR]
    minimum = single[MINIMUM]
    if form[GROUPS] == 1:
        for b in range(blocks):
            factor[b] = np.float32(scales[b])
            minimum[b] = np.float32(minima[b])
        if form[MINIMUM_KIND] == NO_MINIMUM:
            keep_steps(factor, blocks)
    else:
        # Without a minimum scales have signs, and negative integers reach one further.
        bound = np.float64(form[GREATEST_SCALE])
        if form[MINIMUM_KIND] == NO_MINIMUM:
            bound = np.float64(form[LEAST_SCALE])
        for b in range(blocks):
            peak = scales[b]
            depth = minima[b]
            for g in range(1, form[GROUPS]):
                s = scales[g * blocks + b]
                if abs(s) > abs(peak):
                    peak = s
                depth = min(depth, minima[g * blocks + b])
            factor[b] = np.float32(peak / bound)
            minimum[b] = np.float32(-depth / np.float64(form[GREATEST_SCALE]))
        widen_steps(factor, blocks)
        widen_steps(minimum, blocks)
    round_half(single, bits, FACTOR, blocks)
    if form[GROUPS] == 1 and form[MINIMUM_KIND] > NO_MINIMUM:
        sw = single[SW]
        sx = single[SX]
        for b in range(blocks):
            if factor[b] == np.float32(0.0):
                # The scale vanished: all that is left is the mean.
                minimum[b] = np.float32(sx[b] / sw[b])
    if form[MINIMUM_KIND] > NO_MINIMUM:
        round_half(single, bits, MINIMUM, blocks)


def widen_steps(factors, blocks):
    """Round factors away from zero where float16 has equal steps, else integers would not reach far enough."""
    for b in range(blocks):
        f = factors[b]
        if abs(f) < np.float32(2.0**-14):
            steps = np.float32(np.ceil(abs(f) * np.float32(2.0**24)))
            factors[b] = np.float32(2.0**-24) * (steps if f > np.float32(0.0) else -steps)


def keep_steps(factors, blocks):
    """Make scales below float16's smallest step that step: rounded to zero they would take the block with them."""
    for b in range(blocks):
        f = factors[b]
        if f != np.float32(0.0) and abs(f) < np.float32(2.0**-24):
            factors[b] = np.float32(2.0**-24) * (np.float32(1.0) if f > np.float32(0.0) else np.float32(-1.0))


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


def try_scales(x, w, form, lanes, has_weights, step, has_codes, single, double):
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
    least = np.float32(form[LEAST_SCALE])
    most = np.float32(form[GREATEST_SCALE])
    delta = np.float32(step)
    for i in range(lanes):
        t = scale[i] + delta
        t = t if t > least else least
        new_scale[i] = t if t < most else most
    for i in range(lanes):
        slope[i] = lane_d[i] * new_scale[i]
        new_min[i] = minimum[i]
    if form[MINIMUM_KIND] > NO_MINIMUM and has_codes:
        ceiling = np.float64(form[GREATEST_SCALE]) + 0.5
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
    assign(x, w, form, lanes, has_weights, single)
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
    for g in range(form[GROUPS]):
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


def forget_losses(x, w, form, blocks, has_weights, integers, single):
    """Make blocks zero that lose more than they hold.

    A minimum of tiny weights can be rounded up and the scale down, so that zero is no code's weight.
    """
    groups = form[GROUPS]
    lanes = groups * blocks
    slope = single[SLOPE]
    offset = single[OFFSET]
    loss = single[SQ]
    for i in range(lanes):
        loss[i] = np.float32(0.0)
    for k in range(form[GROUP_SIZE]):
        c = integers[k * lanes : (k + 1) * lanes]
        row = x[k * lanes : (k + 1) * lanes]
        if has_weights:
            v = w[k * lanes : (k + 1) * lanes]
            for i in range(lanes):
                d = slope[i] * np.float32(np.int32(c[i])) - offset[i]
                e = row[i] - d
                loss[i] = loss[i] + v[i] * (e * e - row[i] * row[i])
        else:
            for i in range(lanes):
                d = slope[i] * np.float32(np.int32(c[i])) - offset[i]
                e = row[i] - d
                loss[i] = loss[i] + (e * e - row[i] * row[i])
    for b in range(blocks):
        total = 0.0
        for g in range(groups):
            total += np.float64(loss[g * blocks + b])
        if total > 0.0:
            single[FACTOR][b] = np.float32(0.0)
            single[MINIMUM][b] = np.float32(0.0)
            for g in range(groups):
                i = g * blocks + b
                slope[i] = np.float32(0.0)
                offset[i] = np.float32(0.0)
                integers[BLOCK + i] = np.uint8(0)
                integers[BLOCK + LANES + i] = np.uint8(0)
                for k in range(form[GROUP_SIZE]):
                    integers[k * lanes + i] = np.uint8(0)


def fit_integers(x, w, form, blocks, has_weights, rounds, integers, single, bits, double):
    """The integer scales and minima of K-blocks."""
    groups = form[GROUPS]
    lanes = groups * blocks
    spread_factors(single, groups, blocks)
    round_integers(double[BEST_SCALE], single[LANE_FACTOR], 1.0, lanes, form[LEAST_SCALE], form[GREATEST_SCALE], single[SCALE])
    round_integers(double[BEST_MIN], single[LANE_MINIMUM], -1.0, lanes, 0, form[GREATEST_SCALE], single[MIN])
    costs = double[COST]
    for turn in range(rounds):
        for i in range(lanes):
            costs[i] = 1e300
        # As they are; with the minimum that fits; one lower; one higher.
        for trial in range(4):
            if trial != 1 or form[MINIMUM_KIND] > NO_MINIMUM:
                try_scales(x, w, form, lanes, has_weights, trial // 2 * (2 * trial - 5), trial > 0, single, double)
        refit_factors(single, bits, double, form, blocks)
        spread_factors(single, groups, blocks)
    scale = single[SCALE]
    minimum = single[MIN]
    scale_bytes = integers[BLOCK : BLOCK + lanes]
    min_bytes = integers[BLOCK + LANES : BLOCK + LANES + lanes]
    added = np.int32(form[ADDED])
    for i in range(lanes):
        scale_bytes[i] = np.uint8(np.int32(scale[i]) + added)
        min_bytes[i] = np.uint8(np.int32(minimum[i]))
