"""Where GGML's block formats keep their bits, as the kernels take it: numbers of the form, and moves of bits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from workbench.kernels.forms import BlockForm, Minimum

TILE = 4096
LANES = 256

_FORMS = {
    "Q4_0": BlockForm(group_size=32, zero_code=8, highest_code=15, nbytes=18),
    "Q4_1": BlockForm(
        group_size=32, highest_code=15, minimum_kind=Minimum.ANY_MINIMUM, nbytes=20, minimum_byte=2
    ),
    "Q5_0": BlockForm(group_size=32, zero_code=16, highest_code=31, nbytes=22),
    "Q5_1": BlockForm(
        group_size=32, highest_code=31, minimum_kind=Minimum.ANY_MINIMUM, nbytes=24, minimum_byte=2
    ),
    # An int8 of −128 is never written: products by signs, as on AVX, get it wrong.
    "Q8_0": BlockForm(group_size=32, zero_code=128, lowest_code=1, highest_code=255, nbytes=34),
    "Q2_K": BlockForm(
        group_size=16,
        groups=16,
        highest_code=3,
        minimum_kind=Minimum.MINIMUM_BELOW_ZERO,
        greatest_scale=15,
        nbytes=84,
        factor_byte=80,
        minimum_byte=82,
    ),
    "Q3_K": BlockForm(
        group_size=16,
        groups=16,
        zero_code=4,
        highest_code=7,
        least_scale=-32,
        greatest_scale=31,
        added=32,
        nbytes=110,
        factor_byte=108,
    ),
    "Q4_K": BlockForm(
        group_size=32,
        groups=8,
        highest_code=15,
        minimum_kind=Minimum.MINIMUM_BELOW_ZERO,
        greatest_scale=63,
        nbytes=144,
        minimum_byte=2,
    ),
    "Q5_K": BlockForm(
        group_size=32,
        groups=8,
        highest_code=31,
        minimum_kind=Minimum.MINIMUM_BELOW_ZERO,
        greatest_scale=63,
        nbytes=176,
        minimum_byte=2,
    ),
    "Q6_K": BlockForm(
        group_size=16,
        groups=16,
        zero_code=32,
        highest_code=63,
        least_scale=-128,
        greatest_scale=127,
        added=128,
        nbytes=210,
        factor_byte=208,
    ),
}

Move = tuple[str, int, int, int, int, int, int]
"""What is moved (code, scale or min), its index in the block, its shift, the byte, its shift, mask, inverted bits."""


@dataclass(frozen=True)
class Layout:
    """A block format's layout."""

    form: BlockForm
    """Its numbers."""
    moves: NDArray[np.int64]
    """[n, 7]: where an integer is in the tile, its shift, the byte, its shift, a mask, the bits inverted, and how many
    neighbours of both go the same way."""

    @property
    def numbers(self) -> NDArray[np.int64]:
        """[12], the form as the kernels take it."""
        return np.array(self.form, np.int64)


@cache
def layout_of(name: str) -> Layout:
    """The layout of a format by its name."""
    form = _FORMS[name]
    size, groups = form.group_size, form.groups
    blocks = TILE // form.block

    def place(kind: str, index: int) -> int:
        if kind == "code":
            return ((index % size) * groups + index // size) * blocks
        return TILE + index * blocks + (LANES if kind == "min" else 0)

    moves = [(place(kind, index), *rest) for kind, index, *rest in _moves(name)]
    moves.sort(key=lambda move: (move[3], move[1], move[2]))
    merged: list[list[int]] = []
    for at, shift, byte, *rest in moves:
        last = merged[-1] if merged else [0] * 7
        run = last[6]
        if run and [last[0] + run * blocks, last[1], last[2] + run, *last[3:6]] == [at, shift, byte, *rest]:
            last[6] += 1
        else:
            merged.append([at, shift, byte, *rest, 1])
    return Layout(form, np.array(merged, np.int64))


def _moves(name: str) -> Iterator[Move]:
    if name == "Q8_0":
        for i in range(32):
            yield "code", i, 0, 2 + i, 0, 255, 128  # a code is unsigned, int8 in the file
    elif name in ("Q4_0", "Q4_1", "Q5_0", "Q5_1"):
        base = 4 if name.endswith("1") else 2
        if name.startswith("Q5"):
            for i in range(32):
                yield "code", i, 4, base + i // 8, i % 8, 1, 0
            base += 4
        for i in range(32):
            yield "code", i, 0, base + i % 16, i // 16 * 4, 15, 0
    elif name == "Q2_K":
        for g in range(16):
            yield "scale", g, 0, g, 0, 15, 0
            yield "min", g, 0, g, 4, 15, 0
        yield from _two_bits(16)
    elif name == "Q3_K":
        for i in range(256):
            yield "code", i, 2, i % 32, i // 32, 1, 0
        yield from _two_bits(32)
        for g in range(16):
            yield "scale", g, 0, 96 + g % 8, g // 8 * 4, 15, 0
            yield "scale", g, 4, 104 + g % 4, g // 4 * 2, 3, 0
    elif name in ("Q4_K", "Q5_K"):
        for g in range(4):
            yield "scale", g, 0, 4 + g, 0, 63, 0
            yield "min", g, 0, 8 + g, 0, 63, 0
            yield "scale", 4 + g, 0, 12 + g, 0, 15, 0
            yield "min", 4 + g, 0, 12 + g, 4, 15, 0
            yield "scale", 4 + g, 4, 4 + g, 6, 3, 0
            yield "min", 4 + g, 4, 8 + g, 6, 3, 0
        if name == "Q5_K":
            for i in range(256):
                yield "code", i, 4, 16 + i % 32, i // 32, 1, 0
        base = 48 if name == "Q5_K" else 16
        for i in range(256):
            yield "code", i, 0, base + i // 64 * 32 + i % 32, i // 32 % 2 * 4, 15, 0
    else:
        for i in range(256):
            yield "code", i, 0, i // 128 * 64 + i % 64, i // 64 % 2 * 4, 15, 0
            yield "code", i, 4, 128 + i // 128 * 32 + i % 32, i // 32 % 4 * 2, 3, 0
        for g in range(16):
            yield "scale", g, 0, 192 + g, 0, 255, 128  # int8 in the file


def _two_bits(base: int) -> Iterator[Move]:
    for i in range(256):
        yield "code", i, 0, base + i // 128 * 32 + i % 32, i // 32 % 4 * 2, 3, 0
