"""Encoder of GGML's block formats: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K and Q6_K.

A tile of 4096 weights is transposed, so that each group of 16 or 32 weights, which has a scale, is a lane of a vector;
every step is a loop over lanes without a branch. For each of a few inverse scales the codes are rounded, and the scale
(and minimum) that fit them best found by least squares. In a K-block the scales and minima of the groups are then
rounded to their few bits, the neighbours of each are tried with the codes rounded anew, and the two float16 factors of
the block are refitted. Weights of the columns make it all a weighted search.

Sums over a group are float32, in the order that `workbench.kernels.portable` repeats; what is computed once a group is
float64. `klayout` says what form, moves and scratch are.
"""

import numpy as np

from .blocks import BLOCK, first_not_finite, widen
from .kform import GROUPS, GROUP_SIZE, MINIMUM_BELOW_ZERO, MINIMUM_KIND, NO_MINIMUM
from .kintegers import find_factors, fit_integers, forget_losses
from .klayout import (
    NATURAL, REACH, WEIGHTS, X, add_tile_error, keep_codes, pack_tile, spread,
)
from .kload import load_source, load_tile
from .ksearch import clear_sums, find_extremes, invert, search, settle, sum_lanes

VAST = np.float32(1e12)  # no float16 scale reaches so high: weights are cut off there while codes are sought


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
    x = tiles[X]
    for i in range(BLOCK):
        x[i] = min(max(x[i], -VAST), VAST)
    find_extremes(tiles[X], form[GROUP_SIZE], form[GROUPS] * blocks, single)


#pythran export ggml_encode(uint16[], bool, int, int, int64[], int64[:,:] order(C), float32[], float32[], int, uint8[], uint8[], float64[:,:] order(C), float32[:,:] order(C), uint64[:,:] order(C), uint32[], uint8[], uint8[], float32[:,:] order(C), uint32[:,:] order(C), float64[:,:] order(C))
#pythran export ggml_encode(uint32[], bool, int, int, int64[], int64[:,:] order(C), float32[], float32[], int, uint8[], uint8[], float64[:,:] order(C), float32[:,:] order(C), uint64[:,:] order(C), uint32[], uint8[], uint8[], float32[:,:] order(C), uint32[:,:] order(C), float64[:,:] order(C))
def ggml_encode(
    source, is_half, rows, cols, form, moves, weights, levels, rounds, data, stored, sums, tiles, words, patterns,
    integers, planes, single, bits, double,
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
    form : int64 [12], see `kform`
    moves : int64 [n, 7]
    weights : float32 [cols] or [0]
        How much the squared error of a column counts, above 0 and about 1; with none, all alike.
    levels : float32 [n]
        Codes, not rounded, to which the range of a group (its peak, where there is no minimum) is stretched: the
        candidates of the search.
    rounds : int
        How often the integer scales of K-blocks are moved and their float16 factors refitted. In other blocks 0 takes
        the scale of the first level, unfitted.
    data : uint8 [rows * cols / weights a block * bytes a block], out
    stored : uint8 [rows * cols] or [0], out
        The codes of the weights, tile by tile.
    sums : float64 [rows, 3], added to
        ‖δ‖², ‖w‖² and w·δ of each row, where δ = w − ŵ. With no rows nothing is measured, which is quicker.
    tiles, words, patterns, integers, planes, single, bits, double
        Scratch.

    Returns
    -------
    int
        Index of the first Inf or NaN, at which the work stopped, or -1.
    """
    width = form[GROUP_SIZE] * form[GROUPS]
    blocks = BLOCK // width
    lanes = form[GROUPS] * blocks
    per_row = cols // width
    total = rows * per_row
    load_weights(weights, 0, form, blocks, tiles)
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
        if weights.size > 0 and BLOCK % cols != 0:
            load_weights(weights, begin % cols, form, blocks, tiles)
        find_extremes(tiles[X], form[GROUP_SIZE], lanes, single)
        is_vast = np.max(single[REACH, :lanes]) > VAST
        if is_vast:
            cut_off(form, blocks, tiles, single)
        if form[MINIMUM_KIND] > NO_MINIMUM:
            sum_lanes(tiles[X], tiles[WEIGHTS], form[GROUP_SIZE], lanes, weights.size > 0, single)
        elif first == 0:
            # Without a minimum the sums of w and w·x come in by factors of zero.
            clear_sums(lanes, single)
        search(tiles[X], tiles[WEIGHTS], form, lanes, weights.size > 0, levels, rounds, single, double)
        find_factors(single, bits, double, form, blocks)
        if form[GROUPS] > 1:
            fit_integers(
                tiles[X], tiles[WEIGHTS], form, blocks, weights.size > 0, rounds, integers, single, bits, double,
            )
        spread(form, integers, single, blocks)
        invert(single, lanes)
        settle(tiles[X], form, lanes, single, integers)
        if form[MINIMUM_KIND] == MINIMUM_BELOW_ZERO:
            forget_losses(tiles[X], tiles[WEIGHTS], form, blocks, weights.size > 0, integers, single)
        pack_tile(form, moves, integers, single, bits, planes, blocks, count, data, first)
        if stored.size > 0:
            keep_codes(integers, blocks, count, stored[begin : begin + n])
        if sums.shape[0] > 0:
            if is_vast:
                load_source(stream, per, is_half, form, blocks, begin, count, words, patterns)
            add_tile_error(tiles[X], integers, single, form, blocks, count, sums, first, per_row)
    return -1
