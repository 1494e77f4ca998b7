"""Weights of GGML's blocks put into the tile of 4096 whose order `klayout` describes.

Not compiled by itself: `kblocks` and `kdecode` import it and Pythran inlines it.
"""

import numpy as np

from .blocks import BLOCK, INFINITY
from .kform import GROUPS, GROUP_SIZE


def load_tile(values, form, blocks, tile):
    """Transpose the natural order of 4096 values into lanes."""
    size = form[GROUP_SIZE]
    groups = form[GROUPS]
    lanes = groups * blocks
    for b in range(blocks):
        for g in range(groups):
            at = (b * groups + g) * size
            source = values[at : at + size]
            target = tile[g * blocks + b :]
            for k in range(size):
                target[k * lanes] = source[k]


def part(words, n, parted):
    """Put the words at even places first, then those at odd ones."""
    half = n // 2
    even = parted[:half]
    odd = parted[half:n]
    for i in range(half):
        even[i] = words[2 * i]
        odd[i] = words[2 * i + 1]


def move_words(stream, start, size, groups, blocks, count, words):
    """Put word k of group g of block b at (k·groups + g)·blocks + b; words of blocks that are not there are zero.

    Returns which of the two rows of words holds them.
    """
    first = words[0]
    second = words[1]
    total = size * groups * blocks
    if count < blocks or groups > 1:
        for i in range(total):
            first[i] = np.uint64(0)
    if groups > 1:
        lanes = groups * blocks
        for b in range(count):
            for g in range(groups):
                at = start + (b * groups + g) * size
                chunk = stream[at : at + size]
                target = first[g * blocks + b :]
                for k in range(size):
                    target[k * lanes] = chunk[k]
        return 0
    # Each step takes the lowest bit of a word's index to the top, in whole vectors; three or four are all.
    if count < blocks:
        chunk = stream[start : start + size * count]
        for i in range(size * count):
            first[i] = chunk[i]
        part(first, total, second)
    else:
        part(stream[start : start + total], total, second)
    part(second, total, first)
    part(first, total, second)
    if size == 8:
        return 1
    part(second, total, first)
    return 0


def load_source(stream, per, is_half, form, blocks, begin, count, words, patterns):
    """Transpose the first `count` blocks from weight `begin` on into lanes of float32 patterns; the rest is zero.

    Words of 64 bits are moved, and then split: two or four weights at the price of one.
    """
    size = form[GROUP_SIZE] // per
    lanes = form[GROUPS] * blocks
    moved = words[move_words(stream, begin // per, size, form[GROUPS], blocks, count, words)]
    width = np.uint64(64 // per)
    for k in range(size):
        row = moved[k * lanes : (k + 1) * lanes]
        for j in range(per):
            at = (k * per + j) * lanes
            p = patterns[at : at + lanes]
            down = np.uint64(j) * width
            if per == 2:
                for i in range(lanes):
                    p[i] = np.uint32(row[i] >> down)
            elif is_half:
                for i in range(lanes):
                    p[i] = np.uint32(row[i] >> down) & np.uint32(0xFFFF)
            else:
                # A bfloat16 is the upper half of a float32.
                for i in range(lanes):
                    p[i] = np.uint32(row[i] >> down) << np.uint32(16)
    if is_half:
        widen_halves(patterns)


def widen_halves(patterns):
    """Make 4096 float16 patterns float32 patterns."""
    p = patterns[:BLOCK]
    v = patterns.view(np.float32)[:BLOCK]
    for i in range(BLOCK):
        h = p[i]
        special = np.uint32((h & np.uint32(0x7C00)) == np.uint32(0x7C00)) * np.uint32(INFINITY)
        # 2^112 moves float16's exponent bias to float32's and makes subnormals normal.
        p[i] = (h & np.uint32(0x7FFF)) << np.uint32(13)
        v[i] = v[i] * np.float32(5.192296858534828e33)
        p[i] = p[i] | special | ((h & np.uint32(0x8000)) << np.uint32(16))
