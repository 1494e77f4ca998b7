"""Where GGML's block formats keep their bits, as the kernels take it: numbers of the form, and moves of bits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

TILE = 4096
LANES = 256

NO_MINIMUM, MINIMUM_BELOW_ZERO, ANY_MINIMUM = range(3)

# Weights a group, groups a block, zero, lowest and highest code, minimum, least and greatest integer scale, what is
# added to it in the file, bytes a block, places of the float16 factor and minimum.
_NUMBERS = {
    "Q4_0": (32, 1, 8, 0, 15, NO_MINIMUM, 0, 0, 0, 18, 0, -1),
    "Q4_1": (32, 1, 0, 0, 15, ANY_MINIMUM, 0, 0, 0, 20, 0, 2),
    "Q5_0": (32, 1, 16, 0, 31, NO_MINIMUM, 0, 0, 0, 22, 0, -1),
    "Q5_1": (32, 1, 0, 0, 31, ANY_MINIMUM, 0, 0, 0, 24, 0, 2),
    # An int8 of −128 is never written: products by signs, as on AVX, get it wrong.
    "Q8_0": (32, 1, 128, 1, 255, NO_MINIMUM, 0, 0, 0, 34, 0, -1),
    "Q2_K": (16, 16, 0, 0, 3, MINIMUM_BELOW_ZERO, 0, 15, 0, 84, 80, 82),
    "Q3_K": (16, 16, 4, 0, 7, NO_MINIMUM, -32, 31, 32, 110, 108, -1),
    "Q4_K": (32, 8, 0, 0, 15, MINIMUM_BELOW_ZERO, 0, 63, 0, 144, 0, 2),
    "Q5_K": (32, 8, 0, 0, 31, MINIMUM_BELOW_ZERO, 0, 63, 0, 176, 0, 2),
    "Q6_K": (16, 16, 32, 0, 63, NO_MINIMUM, -128, 127, 128, 210, 208, -1),
}

Move = tuple[str, int, int, int, int, int, int]
"""What is moved (code, scale or min), its index in the block, its shift, the byte, its shift, mask, inverted bits."""


@dataclass(frozen=True)
class Form:
    """A block format's layout."""

    numbers: NDArray[np.int64]
    """[12], as `kernels_pythran.klayout` lists them."""
    moves: NDArray[np.int64]
    """[n, 7]: where an integer is in the tile, its shift, the byte, its shift, a mask, the bits inverted, and how many
    neighbours of both go the same way."""

    @property
    def block(self) -> int:
        """Weights a block."""
        return int(self.numbers[0] * self.numbers[1])


@cache
def form_of(name: str) -> Form:
    """The layout of a format by its name."""
    numbers = np.array(_NUMBERS[name], np.int64)
    size, groups = int(numbers[0]), int(numbers[1])
    blocks = TILE // (size * groups)

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
    return Form(numbers, np.array(merged, np.int64))


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
