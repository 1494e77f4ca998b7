"""Guards the counts that entropies are made of: histograms like NumPy's, every value in a bin, codes counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from workbench.kernels import Kernels, load_portable

portable = load_portable("for comparison")

Patterns = Callable[[np.ndarray], tuple[np.ndarray, bool]]

LARGEST = float(np.finfo(np.float32).max)


def histogram(
    kernels: Any, source: np.ndarray, is_half: bool, low: float, high: float, bins: int = 256
) -> np.ndarray:
    counts = np.zeros(bins, np.int64)
    assert kernels.histogram(source, is_half, low, high, counts) == -1
    return counts


def test_parity_on_hostile_values(
    compiled: Kernels, kind: str, dtype: np.dtype, make: Callable, patterns: Patterns
) -> None:
    for cols in (1, 100, 5000):
        weights = make(kind, (2, cols), dtype)
        values = weights.astype(np.float64)
        for low, high in (
            (values.min(), values.max()),
            (-1.0, 1.0),
            (0.0, 0.0),
            (-LARGEST, LARGEST),
            (0.0, 1e-45),
        ):
            counts = histogram(compiled, *patterns(weights), low, high)
            assert counts.sum() == weights.size
            np.testing.assert_array_equal(counts, histogram(portable, *patterns(weights), low, high))


@pytest.mark.parametrize("bins", [1, 10, 256])
def test_numpy_counts_the_same(kernels: Any, dtype: np.dtype, bins: int, patterns: Patterns) -> None:
    weights = np.random.default_rng(0).uniform(-2.0, 2.0, 20_000).astype(dtype)
    weights[:4] = -2.0, 2.0, 0.0, 1.0
    values = weights.astype(np.float64)
    np.testing.assert_array_equal(
        histogram(kernels, *patterns(weights), -2.0, 2.0, bins), np.histogram(values, bins, (-2.0, 2.0))[0]
    )


def test_values_outside_fall_into_the_nearest_bin(kernels: Any, patterns: Patterns) -> None:
    source, is_half = patterns(np.array([-LARGEST, -3.0, 0.1, 0.9, 1.0, 7.0, LARGEST], np.float32))
    assert histogram(kernels, source, is_half, 0.0, 1.0, 2).tolist() == [3, 4]
    tiny = float(np.finfo(np.float32).smallest_subnormal)
    assert histogram(kernels, source, is_half, 0.0, tiny, 2).tolist() == [2, 5]


@pytest.mark.parametrize(
    ("low", "high"), [(0.5, 0.5), (1.0, -1.0), (np.nan, 1.0), (-np.inf, np.inf), (-1.0, np.inf)]
)
def test_bounds_without_a_width_or_an_end_put_all_into_one_bin(
    kernels: Any, low: float, high: float, patterns: Patterns
) -> None:
    source, is_half = patterns(np.linspace(-0.5, 0.5, 100, dtype=np.float32))
    counts = histogram(kernels, source, is_half, low, high, 8)
    assert counts.max() == counts.sum() == 100


def test_the_first_value_that_is_not_finite_is_found(
    kernels: Any, dtype: np.dtype, patterns: Patterns
) -> None:
    weights = np.ones(6000, dtype)
    weights[5000] = np.nan
    weights[5500] = np.inf
    assert kernels.histogram(*patterns(weights), 0.0, 2.0, np.zeros(4, np.int64)) == 5000
    assert kernels.histogram(*patterns(weights[:0]), 0.0, 2.0, np.zeros(4, np.int64)) == -1


@pytest.mark.parametrize("bits", range(1, 9))
def test_codes_are_counted_and_padding_is_not(kernels: Any, bits: int) -> None:
    codes = np.random.default_rng(bits).integers(0, 1 << bits, (3, 4999), np.uint8)
    packed = np.zeros(3 * ((4999 * bits + 7) // 8), np.uint8)
    kernels.pack_bits(codes.ravel(), 3, 4999, bits, packed)
    counts = np.ones(1 << bits, np.int64)
    kernels.code_counts(packed, 3, 4999, bits, counts)
    np.testing.assert_array_equal(counts - 1, np.bincount(codes.ravel(), minlength=1 << bits))
