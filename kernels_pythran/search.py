"""Better scales and origins for groups of weights: clips of the range, each refitted by weighted least squares.

Groups are taken 64 at a time and turned on their side: weight k of all of them lies together, so that every step
is a loop over the groups, in full vectors, and no sum runs across one. What belongs to a group stands in one array,
a field of 64 after the other, because then the compiler knows that nothing overlaps.
"""

import numpy as np

from .blocks import first_not_finite, widen
from .forms import FIXED, OFFSET, WHOLE, ZERO
from .lanes import (
    CENTER,
    ERROR,
    FIELDS,
    FIRST,
    INVERSE,
    LANES,
    LEAST,
    LOSS,
    LOW,
    MEAN,
    MIDDLE,
    MOST,
    NEW,
    ORIGIN,
    PIVOT,
    PRODUCTS,
    SCALE,
    SECOND,
    SQUARES,
    STEP,
    STORED,
    STORED_ERROR,
    STORED_ORIGIN,
    SUM,
    UNIT,
    WEIGHT,
    clear,
    load,
    narrow,
    weigh,
)

MAGIC = np.float32(12582912.0)  # 1.5·2^23: adding it rounds half to even, below zero too
MARGIN = np.float32(1.0 - 2.0**-14)
"""A find must be better by more than float32 loses in a sum, so that it is never worse."""


def add_up(block, chunks, lanes, fields):
    """Σu, Σu·w and Σu·w² of each group."""
    f = fields[: FIELDS * LANES]
    for g in range(lanes):
        f[g + WEIGHT] = np.float32(0.0)
        f[g + FIRST] = np.float32(0.0)
        f[g + SECOND] = np.float32(0.0)
    for c in range(chunks):
        b = block[c * 8 * LANES : (c + 1) * 8 * LANES]
        for g in range(lanes):
            w0 = b[g]
            w1 = b[g + LANES]
            w2 = b[g + 2 * LANES]
            w3 = b[g + 3 * LANES]
            u0 = b[g + 4 * LANES]
            u1 = b[g + 5 * LANES]
            u2 = b[g + 6 * LANES]
            u3 = b[g + 7 * LANES]
            f[g + WEIGHT] = f[g + WEIGHT] + ((u0 + u1) + (u2 + u3))
            f[g + FIRST] = f[g + FIRST] + ((u0 * w0 + u1 * w1) + (u2 * w2 + u3 * w3))
            f[g + SECOND] = f[g + SECOND] + ((u0 * w0 * w0 + u1 * w1 * w1) + (u2 * w2 * w2 + u3 * w3 * w3))


def assign(block, chunks, lanes, bottom, top, fields):
    """Codes from bottom to top of what is tried, and their sums."""
    f = fields[: FIELDS * LANES]
    for g in range(lanes):
        f[g + SUM] = np.float32(0.0)
        f[g + SQUARES] = np.float32(0.0)
        f[g + PRODUCTS] = np.float32(0.0)
    for c in range(chunks):
        b = block[c * 8 * LANES : (c + 1) * 8 * LANES]
        for g in range(lanes):
            i = f[g + INVERSE]
            m = f[g + MIDDLE]
            w0 = b[g]
            w1 = b[g + LANES]
            w2 = b[g + 2 * LANES]
            w3 = b[g + 3 * LANES]
            q0 = np.minimum(np.maximum((w0 - m) * i + MAGIC - MAGIC, bottom), top)
            q1 = np.minimum(np.maximum((w1 - m) * i + MAGIC - MAGIC, bottom), top)
            q2 = np.minimum(np.maximum((w2 - m) * i + MAGIC - MAGIC, bottom), top)
            q3 = np.minimum(np.maximum((w3 - m) * i + MAGIC - MAGIC, bottom), top)
            p0 = q0 * b[g + 4 * LANES]
            p1 = q1 * b[g + 5 * LANES]
            p2 = q2 * b[g + 6 * LANES]
            p3 = q3 * b[g + 7 * LANES]
            f[g + SUM] = f[g + SUM] + ((p0 + p1) + (p2 + p3))
            f[g + SQUARES] = f[g + SQUARES] + ((p0 * q0 + p1 * q1) + (p2 * q2 + p3 * q3))
            f[g + PRODUCTS] = f[g + PRODUCTS] + ((p0 * w0 + p1 * w1) + (p2 * w2 + p3 * w3))


def measure(block, chunks, lanes, form, top, fields):
    """Weighted squared error of NEW and ORIGIN, in the arithmetic of the decoders; into SUM."""
    f = fields[: FIELDS * LANES]
    for g in range(lanes):
        # A scale may have become 0 when it was rounded.
        f[g + INVERSE] = np.float32(np.float32(1.0) / f[g + NEW]) if f[g + NEW] > np.float32(0.0) else np.float32(0.0)
        f[g + SUM] = np.float32(0.0)
    for c in range(chunks):
        b = block[c * 8 * LANES : (c + 1) * 8 * LANES]
        if form == OFFSET:
            for g in range(lanes):
                i = f[g + INVERSE]
                s = f[g + NEW]
                o = f[g + ORIGIN]
                q0 = np.minimum(np.maximum((b[g] - o) * i + MAGIC - MAGIC, np.float32(0.0)), top)
                q1 = np.minimum(np.maximum((b[g + LANES] - o) * i + MAGIC - MAGIC, np.float32(0.0)), top)
                q2 = np.minimum(np.maximum((b[g + 2 * LANES] - o) * i + MAGIC - MAGIC, np.float32(0.0)), top)
                q3 = np.minimum(np.maximum((b[g + 3 * LANES] - o) * i + MAGIC - MAGIC, np.float32(0.0)), top)
                d0 = b[g] - (q0 * s + o)
                d1 = b[g + LANES] - (q1 * s + o)
                d2 = b[g + 2 * LANES] - (q2 * s + o)
                d3 = b[g + 3 * LANES] - (q3 * s + o)
                e0 = d0 * d0 * b[g + 4 * LANES] + d1 * d1 * b[g + 5 * LANES]
                e1 = d2 * d2 * b[g + 6 * LANES] + d3 * d3 * b[g + 7 * LANES]
                f[g + SUM] = f[g + SUM] + (e0 + e1)
        else:
            for g in range(lanes):
                i = f[g + INVERSE]
                s = f[g + NEW]
                z = f[g + ORIGIN]
                q0 = np.minimum(np.maximum(b[g] * i + z + MAGIC - MAGIC, np.float32(0.0)), top)
                q1 = np.minimum(np.maximum(b[g + LANES] * i + z + MAGIC - MAGIC, np.float32(0.0)), top)
                q2 = np.minimum(np.maximum(b[g + 2 * LANES] * i + z + MAGIC - MAGIC, np.float32(0.0)), top)
                q3 = np.minimum(np.maximum(b[g + 3 * LANES] * i + z + MAGIC - MAGIC, np.float32(0.0)), top)
                d0 = b[g] - (q0 - z) * s
                d1 = b[g + LANES] - (q1 - z) * s
                d2 = b[g + 2 * LANES] - (q2 - z) * s
                d3 = b[g + 3 * LANES] - (q3 - z) * s
                e0 = d0 * d0 * b[g + 4 * LANES] + d1 * d1 * b[g + 5 * LANES]
                e1 = d2 * d2 * b[g + 6 * LANES] + d3 * d3 * b[g + 7 * LANES]
                f[g + SUM] = f[g + SUM] + (e0 + e1)


def propose(lanes, form, half, levels, below, above, fields):
    """Try the range without so many steps below and above."""
    f = fields[: FIELDS * LANES]
    part = np.float32(np.float32(1.0) - np.float32((below + above) / levels))
    for g in range(lanes):
        s = f[g + STEP] * part
        i = np.float32(np.float32(1.0) / s)
        f[g + NEW] = s
        f[g + INVERSE] = i
        f[g + MIDDLE] = f[g + LOW] + below * f[g + STEP] + half * s
        f[g + PIVOT] = np.float32(0.0)
    if form == FIXED:
        for g in range(lanes):
            f[g + MIDDLE] = np.float32(0.0)
    elif form == WHOLE:
        for g in range(lanes):
            z = half - f[g + MIDDLE] * f[g + INVERSE] + MAGIC - MAGIC
            z = np.minimum(np.maximum(z, np.float32(0.0)), levels) - half
            f[g + PIVOT] = z
            f[g + MIDDLE] = np.float32(0.0) - z * f[g + NEW]


def refit(lanes, form, fields):
    """The best scale and middle for the codes of what was tried, and their error."""
    f = fields[: FIELDS * LANES]
    if form == OFFSET or form == ZERO:
        for g in range(lanes):
            spread = f[g + WEIGHT] * f[g + SQUARES] - f[g + SUM] * f[g + SUM]
            along = f[g + WEIGHT] * f[g + PRODUCTS] - f[g + SUM] * f[g + FIRST]
            f[g + NEW] = np.float32(along / spread)
        for g in range(lanes):
            f[g + MIDDLE] = np.float32((f[g + FIRST] - f[g + NEW] * f[g + SUM]) / f[g + WEIGHT])
            f[g + PIVOT] = np.float32(f[g + SUM] / f[g + WEIGHT])
        for g in range(lanes):
            f[g + LOSS] = f[g + SECOND] - (f[g + MIDDLE] * f[g + FIRST] + f[g + NEW] * f[g + PRODUCTS])
    else:
        for g in range(lanes):
            z = f[g + PIVOT]
            spread = f[g + SQUARES] - z * (f[g + SUM] + f[g + SUM] - z * f[g + WEIGHT])
            along = f[g + PRODUCTS] - z * f[g + FIRST]
            f[g + NEW] = np.float32(along / spread)
            f[g + LOSS] = along
        for g in range(lanes):
            f[g + MIDDLE] = np.float32(0.0) - f[g + PIVOT] * f[g + NEW]
            f[g + LOSS] = f[g + SECOND] - f[g + NEW] * f[g + LOSS]


def keep(lanes, fields):
    """Keep what was tried where its error is the least so far."""
    f = fields[: FIELDS * LANES]
    for g in range(lanes):
        is_usual = (f[g + NEW] > f[g + STEP] * LEAST) & (f[g + NEW] < f[g + STEP] * MOST)
        is_better = is_usual & (f[g + LOSS] < f[g + ERROR])
        f[g + ERROR] = f[g + LOSS] if is_better else f[g + ERROR]
        f[g + SCALE] = f[g + NEW] if is_better else f[g + SCALE]
        f[g + CENTER] = f[g + MIDDLE] if is_better else f[g + CENTER]
        f[g + MEAN] = f[g + PIVOT] if is_better else f[g + MEAN]


def retry(lanes, form, fields):
    """Try the best once more: its codes may be others."""
    f = fields[: FIELDS * LANES]
    for g in range(lanes):
        f[g + INVERSE] = np.float32(np.float32(1.0) / f[g + SCALE])
        f[g + MIDDLE] = f[g + CENTER]
        f[g + PIVOT] = f[g + MEAN] if form == WHOLE else np.float32(0.0)


def settle(lanes, form, storage, half, nudge, fields):
    """The best as it would be stored, its scale times nudge, into NEW and ORIGIN."""
    f = fields[: FIELDS * LANES]
    for g in range(lanes):
        f[g + NEW] = f[g + SCALE] * nudge * f[g + UNIT]
    narrow(lanes, storage, NEW, fields)
    for g in range(lanes):
        # Exact, as UNIT is a power of two.
        f[g + NEW] = np.float32(f[g + NEW] / f[g + UNIT])
    if form == OFFSET:
        for g in range(lanes):
            m = np.float32(f[g + FIRST] / f[g + WEIGHT]) - f[g + MEAN] * f[g + NEW]
            f[g + ORIGIN] = (m - half * f[g + NEW]) * f[g + UNIT]
        narrow(lanes, storage, ORIGIN, fields)
        for g in range(lanes):
            f[g + ORIGIN] = np.float32(f[g + ORIGIN] / f[g + UNIT])
    elif form == ZERO:
        for g in range(lanes):
            m = np.float32(f[g + FIRST] / f[g + WEIGHT]) - f[g + MEAN] * f[g + NEW]
            f[g + ORIGIN] = half - np.float32(m / f[g + NEW])
    else:
        for g in range(lanes):
            f[g + ORIGIN] = half + f[g + MEAN]


def take(lanes, fields):
    """Keep NEW and ORIGIN where their error is less than that of what is stored."""
    f = fields[: FIELDS * LANES]
    for g in range(lanes):
        is_better = f[g + SUM] < f[g + STORED_ERROR] * MARGIN
        f[g + STORED_ERROR] = f[g + SUM] if is_better else f[g + STORED_ERROR]
        f[g + STORED] = f[g + NEW] if is_better else f[g + STORED]
        f[g + STORED_ORIGIN] = f[g + ORIGIN] if is_better else f[g + STORED_ORIGIN]


def search(block, chunks, lanes, bits, form, storage, clips, refits, nudges, fields):
    """Look for better scales and origins of the groups in a block, from STORED and STORED_ORIGIN."""
    f = fields[: FIELDS * LANES]
    levels = np.float32((1 << bits) - 1)
    half = np.float32(1 << (bits - 1))
    bottom = np.float32(0.0) - half
    top = levels - half
    for g in range(lanes):
        f[g + NEW] = f[g + STORED]
        f[g + ORIGIN] = f[g + STORED_ORIGIN]
        f[g + ERROR] = np.float32(3e38)
        f[g + SCALE] = f[g + STORED]
        f[g + CENTER] = np.float32(0.0)
        f[g + MEAN] = np.float32(0.0)
    measure(block, chunks, lanes, form, levels, fields)
    for g in range(lanes):
        f[g + STORED_ERROR] = f[g + SUM]
    add_up(block, chunks, lanes, fields)
    for c in range(clips.shape[0]):
        propose(lanes, form, half, levels, clips[c, 0], clips[c, 1], fields)
        assign(block, chunks, lanes, bottom, top, fields)
        refit(lanes, form, fields)
        keep(lanes, fields)
    for c in range(refits):
        retry(lanes, form, fields)
        assign(block, chunks, lanes, bottom, top, fields)
        refit(lanes, form, fields)
        keep(lanes, fields)
    for c in range(nudges.size):
        settle(lanes, form, storage, half, nudges[c], fields)
        measure(block, chunks, lanes, form, levels, fields)
        take(lanes, fields)


#pythran export improve_groups(uint16[], bool, int, int, int, int, int, int, float32[], float32[:,:] order(C), int, float32[], float32[], float32[])
#pythran export improve_groups(uint32[], bool, int, int, int, int, int, int, float32[], float32[:,:] order(C), int, float32[], float32[], float32[])
def improve_groups(
    source, is_half, rows, cols, bits, group, form, storage, weights, clips, refits, nudges, scales, origins
):
    """Replace the scale and origin of each group by better ones where there are any.

    The error is Σu·(w − ŵ)² over the group, with codes that are nearest for the scale and origin as they are
    stored; ŵ = q·s + o for an offset o, (q − o)·s for a zero point o. What is tried: the range without so many
    steps at its ends, refitted by weighted least squares to the codes that it gives; then the best of these, refitted
    again; then that as it is stored. Groups that are constant, or whose values float32 is too narrow for, stay.

    Parameters
    ----------
    source : uint16 or uint32 [rows * cols]
        Bit patterns of the weights w.
    is_half : bool
        For 16-bit patterns: float16 rather than bfloat16.
    bits : int, 2 to 8
    group : int
        Weights a group; a multiple of 4.
    form : int
        What an origin is, see `forms`.
    storage : int
        The dtype of scales and offsets, see `forms`.
    weights : float32 [cols], or empty
        The importance u of each column, 0 to 1; of all alike where empty.
    clips : float32 [n, 2]
        Steps left out below and above, in all less than the levels.
    refits : int
    nudges : float32 [n]
        The scale is stored times each of these, and the best taken.
    scales, origins : float32 [rows * groups], updated
        As they are stored.

    Returns
    -------
    int
        Index of the first Inf or NaN, at which the work stopped, or -1.
    """
    levels = np.float32((1 << bits) - 1)
    per_row = (cols + group - 1) // group
    total = rows * per_row
    chunks = (min(group, cols) + 3) // 4
    block = np.zeros(chunks * 8 * LANES, np.float32)
    fields = np.ones(FIELDS * LANES, np.float32)
    patterns = np.empty(LANES * group, np.uint32)
    extremes = np.empty(2, np.int32)
    fit = np.zeros(LANES, np.int32)
    lanes = fit.size
    lying = -1
    for start in range(0, total, LANES):
        count = min(LANES, total - start)
        first = start // per_row * cols + start % per_row * group
        last = start + count
        end = last // per_row * cols + last % per_row * group
        widen(source[first:end], is_half, patterns)
        bad = first_not_finite(patterns, end - first)
        if bad >= 0:
            return first + bad
        is_regular = count == LANES and end - first == LANES * group
        # Importances lie there already where the groups before had the same columns.
        kind = start % per_row if weights.size else 0
        is_weighed = is_regular and lying == kind
        lying = kind if is_regular else -1
        at = 0
        for lane in range(count):
            column = (start + lane) % per_row * group
            size = min(group, cols - column)
            g = start + lane
            fit[lane] = 0
            if not is_regular:
                clear(block, chunks, lane)
            if load(patterns, at, size, lane, form, levels, scales[g], origins[g], extremes, block, fields):
                fit[lane] = 1
            if not is_weighed:
                weigh(weights, column, size, lane, block)
            at += size
        search(block, chunks, lanes, bits, form, storage, clips, refits, nudges, fields)
        f = fields[: FIELDS * LANES]
        for lane in range(count):
            if fit[lane] == 1:
                g = start + lane
                scales[g] = f[lane + STORED] * f[lane + UNIT]
                origins[g] = f[lane + STORED_ORIGIN] * f[lane + UNIT] if form == OFFSET else f[lane + STORED_ORIGIN]
    return -1
