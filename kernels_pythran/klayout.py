"""What GGML's blocks look like in bytes, and the tile of 4096 weights in which they are made and read.

Not compiled by itself: `kblocks` and `kdecode` import it and Pythran inlines it.

In a tile, weight k of group g of block b is at (k·groups + g)·blocks + b, so that every group is a lane of a vector and
the same step for all blocks is one loop over neighbours. Byte j of block b is at j·blocks + b.

A form is the numbers by which the formats differ, `kform` names them.

Scratch arrays come from the caller, since Pythran's types of local arrays grow without bound when many functions
write to them: `single` float32 [25, 256] and `bits`, the same memory as uint32, hold the lanes' numbers, a row each;
`double` float64 [8, 256] likewise; `tiles` float32 [4, 4096], `words` uint64 [2, 2048], its first two rows, and
`patterns`, its last as uint32; `integers` uint8
[4608] the codes, then integer scales, then integer minima; `planes` uint8 [4608] the bytes.
"""

import numpy as np

from .blocks import BLOCK
from .kform import ADDED, FACTOR_BYTE, GROUPS, GROUP_SIZE, MINIMUM_BYTE, NBYTES, ZERO_CODE

LANES = 256
ROOM = BLOCK + 2 * LANES

# Rows of tiles; the first two are the words of `load_source`.
NATURAL = 0
WEIGHTS = 2
X = 3

# Rows of single.
LOW = 0
HIGH = 1
REACH = 2
INVERSE = 3
UNIT = 4
NEW_SCALE = 4
NEW_MIN = 5
SW = 6
SX = 7
SQ = 8
SQQ = 9
SQX = 10
HELD_SQ = 11
HELD_SQQ = 12
HELD_SQX = 13
SCALE = 14
MIN = 15
LANE_FACTOR = 16
LANE_MINIMUM = 17
SLOPE = 18
OFFSET = 19
FACTOR = 20
MINIMUM = 21
NEW_FACTOR = 22
NEW_MINIMUM = 23
ROW = 24

# Rows of double.
GAIN = 0
BEST_SCALE = 1
BEST_MIN = 2
COST = 0
TERMS = 3


def move_bits(moves, integers, planes, blocks, is_packing):
    """Pack the integers of a tile into the bytes of its blocks, or unpack them; the target begins as zeros.

    A move is where an integer is, its shift, the byte, its shift, a mask of bits, those that are inverted, and how many
    neighbours of both go the same way.
    """
    # Eight integers at a time, as whole words: no move takes bits across the end of a byte.
    every = np.uint64(0x0101010101010101)
    integer_words = integers.view(np.uint64)
    plane_words = planes.view(np.uint64)
    for m in range(moves.shape[0]):
        i = moves[m, 0] // 8
        integer_shift = np.uint64(moves[m, 1])
        j = moves[m, 2] * blocks // 8
        plane_shift = np.uint64(moves[m, 3])
        mask = np.uint64(moves[m, 4]) * every
        flip = np.uint64(moves[m, 5]) * every
        n = moves[m, 6] * blocks // 8
        v = integer_words[i : i + n]
        p = plane_words[j : j + n]
        if is_packing:
            for b in range(n):
                p[b] = p[b] | ((((v[b] >> integer_shift) & mask) ^ flip) << plane_shift)
        else:
            for b in range(n):
                v[b] = v[b] | ((((p[b] >> plane_shift) & mask) ^ flip) << integer_shift)


def round_half(single, bits, at, n):
    """Round n numbers of a row to float16, half to even; what is beyond its range becomes ±65504."""
    v = single[at]
    p = bits[at]
    r = single[ROW]
    rounded = bits[ROW]
    # Loops over one type each: what is seen as two types is not vectorised.
    for i in range(n):
        # Below 2^−14 the steps are 2^−24; 1.5·2^23 rounds to whole ones.
        r[i] = (v[i] * np.float32(16777216.0) + np.float32(12582912.0) - np.float32(12582912.0)) * np.float32(
            5.960464477539063e-08
        )
    for i in range(n):
        size = p[i] & np.uint32(0x7FFFFFFF)
        coarse = (size + np.uint32(0xFFF) + ((size >> np.uint32(13)) & np.uint32(1))) & np.uint32(0xFFFFE000)
        coarse = min(coarse, np.uint32(0x477FE000)) | (p[i] & np.uint32(0x80000000))
        p[i] = rounded[i] if size < np.uint32(0x38800000) else coarse


def move_halves(single, bits, at, planes, place, blocks, is_packing):
    """Store a row of float16 numbers in two bytes of each block, or fetch them."""
    v = single[at]
    p = bits[at]
    low = planes[place * blocks : (place + 1) * blocks]
    high = planes[(place + 1) * blocks : (place + 2) * blocks]
    for i in range(blocks):
        if is_packing:
            size = p[i] & np.uint32(0x7FFFFFFF)
            half = (p[i] >> np.uint32(16)) & np.uint32(0x8000)
            if size < np.uint32(0x38800000):
                half = half | np.uint32(np.int32(abs(v[i]) * np.float32(16777216.0)))
            else:
                half = half | ((size - np.uint32(0x38000000)) >> np.uint32(13))
            low[i] = np.uint8(half & np.uint32(255))
            high[i] = np.uint8(half >> np.uint32(8))
        else:
            half = np.uint32(low[i]) | (np.uint32(high[i]) << np.uint32(8))
            p[i] = (half & np.uint32(0x7FFF)) << np.uint32(13)
            # 2^112 moves float16's exponent bias to float32's and makes subnormals normal.
            v[i] = v[i] * np.float32(5.192296858534828e33)
            if (half & np.uint32(0x7C00)) == np.uint32(0x7C00):
                p[i] = p[i] | np.uint32(0x7F800000)
            p[i] = p[i] | ((half & np.uint32(0x8000)) << np.uint32(16))


def pack_tile(form, moves, integers, single, bits, planes, blocks, count, data, first):
    """Write the first `count` blocks of a tile as bytes of data, from block `first` on."""
    nbytes = form[NBYTES]
    clear = planes[: nbytes * blocks]
    for i in range(nbytes * blocks):
        clear[i] = np.uint8(0)
    move_bits(moves, integers, planes, blocks, True)
    move_halves(single, bits, FACTOR, planes, form[FACTOR_BYTE], blocks, True)
    if form[MINIMUM_BYTE] >= 0:
        move_halves(single, bits, MINIMUM, planes, form[MINIMUM_BYTE], blocks, True)
    # Two bytes at a time; all blocks have an even number.
    pairs = data.view(np.uint16)
    half = nbytes // 2
    if blocks > half:
        # Long loops inside; slices cost more than a few moves. Whole vectors first, then one store a block.
        row = planes.view(np.uint16)[ROOM // 2 - blocks : ROOM // 2]
        for j in range(half):
            low = planes[2 * j * blocks : (2 * j + 1) * blocks]
            high = planes[(2 * j + 1) * blocks : (2 * j + 2) * blocks]
            for b in range(blocks):
                row[b] = np.uint16(low[b]) | (np.uint16(high[b]) << np.uint16(8))
            column = pairs[first * half + j :: half]
            for b in range(count):
                column[b] = row[b]
    else:
        for b in range(count):
            out = pairs[(first + b) * half : (first + b + 1) * half]
            even = planes[b :: 2 * blocks]
            odd = planes[b + blocks :: 2 * blocks]
            for j in range(half):
                out[j] = np.uint16(even[j]) | (np.uint16(odd[j]) << np.uint16(8))


def unpack_tile(form, moves, integers, single, bits, planes, blocks, count, data, first):
    """Read `count` blocks of data, from block `first` on, into a tile; what is of other blocks is rubbish."""
    nbytes = form[NBYTES]
    for b in range(count):
        source = data[(first + b) * nbytes : (first + b + 1) * nbytes]
        column = planes[b:]
        for j in range(nbytes):
            column[j * blocks] = source[j]
    clear = integers[:ROOM]
    for i in range(ROOM):
        clear[i] = np.uint8(0)
    move_bits(moves, integers, planes, blocks, False)
    move_halves(single, bits, FACTOR, planes, form[FACTOR_BYTE], blocks, False)
    v = single[MINIMUM]
    for b in range(blocks):
        v[b] = np.float32(0.0)
    if form[MINIMUM_BYTE] >= 0:
        move_halves(single, bits, MINIMUM, planes, form[MINIMUM_BYTE], blocks, False)


def spread(form, integers, single, blocks):
    """What decodes each lane, w = slope·q − offset, of its block's integers and float16 numbers."""
    groups = form[GROUPS]
    d = single[FACTOR]
    m = single[MINIMUM]
    slope = single[SLOPE]
    offset = single[OFFSET]
    added = np.int32(form[ADDED])
    scales = integers[BLOCK : BLOCK + LANES]
    minima = integers[BLOCK + LANES : BLOCK + 2 * LANES]
    if groups > 1:
        for g in range(groups):
            at = g * blocks
            for b in range(blocks):
                slope[at + b] = d[b] * np.float32(np.int32(scales[at + b]) - added)
                offset[at + b] = m[b] * np.float32(np.int32(minima[at + b]))
    else:
        for b in range(blocks):
            slope[b] = d[b]
            offset[b] = np.float32(0.0) - m[b]


def decode_row(integers, k, lanes, single, origin):
    """Decode weight k of every lane."""
    c = integers[k * lanes : (k + 1) * lanes]
    s = single[SLOPE]
    o = single[OFFSET]
    r = single[ROW]
    zero = np.int32(origin)
    for i in range(lanes):
        r[i] = s[i] * np.float32(np.int32(c[i]) - zero) - o[i]


def add_tile_error(tile, integers, single, form, blocks, count, sums, first, per_row):
    """Add ‖δ‖², ‖w‖² and w·δ of the first `count` blocks to the sums of the rows that they belong to.

    The first block is number `first` of all, and a row has `per_row` blocks.
    """
    size = form[GROUP_SIZE]
    groups = form[GROUPS]
    lanes = groups * blocks
    slope = single[SLOPE]
    offset = single[OFFSET]
    noise = single[SQ]
    signal = single[SQQ]
    cross = single[SQX]
    r = single[ROW]
    for i in range(lanes):
        noise[i] = np.float32(0.0)
        signal[i] = np.float32(0.0)
        cross[i] = np.float32(0.0)
    for k in range(size):
        decode_row(integers, k, lanes, single, form[ZERO_CODE])
        x = tile[k * lanes : (k + 1) * lanes]
        for i in range(lanes):
            e = x[i] - r[i]
            noise[i] = noise[i] + e * e
            signal[i] = signal[i] + x[i] * x[i]
            cross[i] = cross[i] + x[i] * e
    for b in range(count):
        n = 0.0
        s = 0.0
        c = 0.0
        for g in range(groups):
            n += np.float64(noise[g * blocks + b])
            s += np.float64(signal[g * blocks + b])
            c += np.float64(cross[g * blocks + b])
        if not (s > 1e-25 and s < 1e35 and n < 1e35):
            # The squares leave the range of float32, or come near its end.
            n = 0.0
            s = 0.0
            c = 0.0
            for k in range(size):
                for g in range(groups):
                    i = g * blocks + b
                    w = np.float64(tile[k * lanes + i])
                    q = np.float32(np.int32(integers[k * lanes + i]) - np.int32(form[ZERO_CODE]))
                    e = w - np.float64(slope[i] * q - offset[i])
                    n += e * e
                    s += w * w
                    c += w * e
        at = (first + b) // per_row
        sums[at, 0] += n
        sums[at, 1] += s
        sums[at, 2] += c


def keep_codes(integers, blocks, count, stored):
    """Copy the codes of the first `count` blocks, in the tile's order."""
    at = 0
    for start in range(0, BLOCK, blocks):
        for b in range(count):
            stored[at] = integers[start + b]
            at += 1
