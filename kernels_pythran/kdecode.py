"""Decoders of GGML's block formats, and the error of stored blocks; `klayout` says what form, moves and scratch are."""

import numpy as np

from .blocks import BLOCK, first_not_finite, widen
from .kform import GROUPS, GROUP_SIZE, ZERO_CODE
from .klayout import (
    ROW, X, add_tile_error, decode_row, keep_codes, spread, unpack_tile,
)
from .kload import load_source


#pythran export ggml_decode(uint8[], int, int64[], int64[:,:] order(C), float32[], uint8[], uint8[], float32[:,:] order(C), uint32[:,:] order(C))
def ggml_decode(data, total, form, moves, decoded, integers, planes, single, bits):
    """Decode `total` blocks to float32 [total * weights a block]."""
    size = form[GROUP_SIZE]
    groups = form[GROUPS]
    width = size * groups
    blocks = BLOCK // width
    lanes = groups * blocks
    for first in range(0, total, blocks):
        count = min(blocks, total - first)
        unpack_tile(form, moves, integers, single, bits, planes, blocks, count, data, first)
        spread(form, integers, single, blocks)
        row = single[ROW]
        for k in range(size):
            decode_row(integers, k, lanes, single, form[ZERO_CODE])
            target = decoded[first * width + k :]
            for g in range(groups):
                r = row[g * blocks : (g + 1) * blocks]
                for b in range(count):
                    target[b * width + g * size] = r[b]


#pythran export ggml_error(uint16[], bool, uint8[], int, int, int64[], int64[:,:] order(C), uint8[], float64[:,:] order(C), float32[:,:] order(C), uint64[:,:] order(C), uint32[], uint8[], uint8[], float32[:,:] order(C), uint32[:,:] order(C))
#pythran export ggml_error(uint32[], bool, uint8[], int, int, int64[], int64[:,:] order(C), uint8[], float64[:,:] order(C), float32[:,:] order(C), uint64[:,:] order(C), uint32[], uint8[], uint8[], float32[:,:] order(C), uint32[:,:] order(C))
def ggml_error(source, is_half, data, rows, cols, form, moves, stored, sums, tiles, words, patterns, integers, planes, single, bits):
    """Add ‖δ‖², ‖w‖² and w·δ of stored blocks against their source to sums, row by row.

    Parameters and the result are those of `kblocks.ggml_encode`; the decoded weights are never kept.
    """
    width = form[GROUP_SIZE] * form[GROUPS]
    blocks = BLOCK // width
    per_row = cols // width
    total = rows * per_row
    per = 8 // source.itemsize
    stream = source.view(np.uint64)
    for first in range(0, total, blocks):
        count = min(blocks, total - first)
        n = count * width
        begin = first * width
        load_source(stream, per, is_half, form, blocks, begin, count, words, patterns)
        if first_not_finite(patterns, BLOCK) >= 0:
            widen(source[begin : begin + n], is_half, patterns)
            return begin + first_not_finite(patterns, n)
        unpack_tile(form, moves, integers, single, bits, planes, blocks, count, data, first)
        spread(form, integers, single, blocks)
        if stored.size > 0:
            keep_codes(integers, blocks, count, stored[begin : begin + n])
        add_tile_error(tiles[X], integers, single, form, blocks, count, sums, first, per_row)
    return -1
