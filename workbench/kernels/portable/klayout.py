"""`kernels_pythran.klayout` in NumPy."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from workbench.kernels.forms import BlockForm
from workbench.kernels.portable.tiles import Array

TILE = 4096
LANES = 256
MOST_BLOCKS = 2048
"""Blocks of 256 weights handled at a time."""


def lanes_of(values: Array, form: BlockForm) -> Array:
    """Values [blocks, weights] as [weights a group, groups, blocks]."""
    return np.ascontiguousarray(values.reshape(-1, form.groups, form.group_size).transpose(2, 1, 0))


def natural(lanes: Array) -> Array:
    """Undo `lanes_of`: [blocks, weights]."""
    return np.ascontiguousarray(lanes.transpose(2, 1, 0)).reshape(lanes.shape[2], -1)


def decode(codes: Array, slope: Array, offset: Array, zero: int) -> Array:
    """Decoded w = slope·q − offset in float32, [weights a group, groups, blocks]."""
    with np.errstate(over="ignore", invalid="ignore"):
        return slope * (codes.astype(np.int32) - zero).astype(np.float32) - offset


def spread(
    form: BlockForm, scales: Array, minima: Array, factor: Array, minimum: Array
) -> tuple[Array, Array]:
    """Slope and offset of each lane, [groups, blocks], of stored integers and float16 numbers."""
    # Bytes that nobody encoded may hold any number.
    with np.errstate(over="ignore", invalid="ignore"):
        if form.groups == 1:
            return factor[None], np.float32(0.0) - minimum[None]
        slope = factor * (scales.astype(np.int32) - form.added).astype(np.float32)
        return slope, minimum * minima.astype(np.float32)


def pack(
    codes: Array, scales: Array, minima: Array, factor: Array, minimum: Array, form: BlockForm, moves: Array
) -> Array:
    """Bytes of blocks, [blocks, bytes]."""
    count = codes.shape[2]
    data = np.zeros((form.nbytes, count), np.uint8)
    for at, shift, byte, byte_shift, mask, flip in _each(moves, form):
        integers = _integers(at, form, codes, scales, minima)
        data[byte] |= (((integers >> shift) & mask) ^ flip).astype(np.uint8) << np.uint8(byte_shift)
    for place, numbers in ((form.factor_byte, factor), (form.minimum_byte, minimum)):
        if place >= 0:
            data[place : place + 2] = numbers.astype("<f2").view(np.uint8).reshape(count, 2).T
    return np.ascontiguousarray(data.T)


def unpack(data: Array, form: BlockForm, moves: Array) -> tuple[Array, Array, Array]:
    """Codes, and the slope and offset of each lane, of the bytes of blocks."""
    count, groups = len(data), form.groups
    columns = np.ascontiguousarray(data.T)
    codes = np.zeros((form.group_size, groups, count), np.uint8)
    scales, minima = np.zeros((2, groups, count), np.uint8)
    for at, shift, byte, byte_shift, mask, flip in _each(moves, form):
        bits = ((columns[byte] >> np.uint8(byte_shift)) & np.uint8(mask)) ^ np.uint8(flip)
        integers = _integers(at, form, codes, scales, minima)
        integers |= bits << np.uint8(shift)
    with np.errstate(invalid="ignore"):
        numbers = [
            np.ascontiguousarray(data[:, place : place + 2]).view("<f2")[:, 0].astype(np.float32)
            if place >= 0
            else np.zeros(count, np.float32)
            for place in (form.factor_byte, form.minimum_byte)
        ]
    return codes, *spread(form, scales, minima, *numbers)


def _each(moves: Array, form: BlockForm) -> Iterator[tuple[int, ...]]:
    """The moves of single integers."""
    blocks = TILE // form.block
    for at, shift, byte, *rest, run in moves.tolist():
        for k in range(run):
            yield at + k * blocks, shift, byte + k, *rest


def _integers(at: int, form: BlockForm, codes: Array, scales: Array, minima: Array) -> Array:
    """The integer of all blocks that a move speaks of."""
    blocks = TILE // form.block
    if at < TILE:
        k, g = divmod(at // blocks, form.groups)
        found: Array = codes[k, g]
        return found
    which, lane = divmod(at - TILE, LANES)
    row: Array = (minima if which else scales)[lane // blocks]
    return row


def keep_codes(codes: Array, stored: Array) -> None:
    """Copy the codes, in the order of tiles."""
    count = codes.shape[2]
    blocks = TILE // (codes.shape[0] * codes.shape[1])
    at = 0
    for first in range(0, count, blocks):
        tile = codes[:, :, first : first + blocks].ravel()
        stored[at : at + tile.size] = tile
        at += tile.size
