"""Guards the bit stream: dense, least significant bit first, rows padded to whole bytes, at every width."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.kernels import Kernels, load_kernels, load_portable

portable = load_portable("for comparison")

COLUMNS = [1, 7, 8, 63, 64, 65, 4095, 4096, 4097, 9000]


def pack(kernels: Any, codes: np.ndarray, bits: int) -> np.ndarray:
    rows, cols = codes.shape
    packed = np.full(rows * ((cols * bits + 7) // 8), 0xA5, np.uint8)
    kernels.pack_bits(codes.ravel(), rows, cols, bits, packed)
    return packed.reshape(rows, -1)


def unpack(kernels: Any, packed: np.ndarray, cols: int, bits: int) -> np.ndarray:
    codes = np.full(len(packed) * cols, 0xA5, np.uint8)
    kernels.unpack_bits(packed.ravel(), len(packed), cols, bits, codes)
    return codes.reshape(len(packed), cols)


@pytest.mark.parametrize("cols", COLUMNS)
@pytest.mark.parametrize("bits", range(1, 9))
def test_the_bits_lie_where_numpy_puts_them(kernels: Any, bits: int, cols: int) -> None:
    codes = np.random.default_rng(bits).integers(0, 1 << bits, (3, cols), np.uint8)
    planes = (codes[..., None] >> np.arange(bits, dtype=np.uint8)) & 1
    truth = np.packbits(planes.reshape(3, -1), axis=1, bitorder="little")
    packed = pack(kernels, codes, bits)
    np.testing.assert_array_equal(packed, truth)
    np.testing.assert_array_equal(unpack(kernels, packed, cols, bits), codes)


@settings(max_examples=100, deadline=None)
@given(data=st.binary(min_size=1, max_size=300), bits=st.integers(1, 8), rows=st.integers(1, 3))
def test_higher_bits_are_ignored_and_packing_is_undone(data: bytes, bits: int, rows: int) -> None:
    codes = np.frombuffer(data, np.uint8)
    rows = min(rows, codes.size)
    codes = codes[: codes.size // rows * rows].reshape(rows, -1)
    packed = pack(load_kernels(), codes, bits)
    assert packed.tobytes() == pack(portable, codes, bits).tobytes()
    truth = codes & ((1 << bits) - 1)
    np.testing.assert_array_equal(unpack(load_kernels(), packed, codes.shape[1], bits), truth)
    np.testing.assert_array_equal(unpack(portable, packed, codes.shape[1], bits), truth)


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (4, 0)])
def test_nothing_to_pack(kernels: Any, shape: tuple[int, int]) -> None:
    nothing = np.zeros(0, np.uint8)
    kernels.pack_bits(nothing, *shape, 3, nothing.copy())
    kernels.unpack_bits(nothing, *shape, 3, nothing.copy())


def test_the_installed_kernels_are_compiled(compiled: Kernels) -> None:
    assert compiled.pack_bits is not portable.pack_bits
