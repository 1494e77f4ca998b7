"""Guards the counts that profiles are made of: every pattern counted once, float32 by its upper half."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from workbench.kernels import Kernels, load_portable

portable = load_portable("for comparison")

Patterns = Callable[[np.ndarray], tuple[np.ndarray, bool]]


def count(kernels: Any, source: np.ndarray) -> np.ndarray:
    counts = np.zeros(1 << 16, np.int64)
    kernels.count_patterns(source, counts)
    return counts


def test_parity_on_hostile_values(
    compiled: Kernels, kind: str, dtype: np.dtype, make: Callable, patterns: Patterns
) -> None:
    for cols in (0, 1, 5000):
        source, _ = patterns(make(kind, (2, cols), dtype))
        counts = count(compiled, source)
        assert counts.sum() == source.size
        np.testing.assert_array_equal(counts, count(portable, source))


def test_every_pattern_has_its_place(kernels: Any) -> None:
    source = np.arange(1 << 16, dtype=np.uint16)
    np.testing.assert_array_equal(count(kernels, source), 1)
    wide = (source.astype(np.uint32) << 16) + np.random.default_rng(0).integers(
        0, 1 << 16, 1 << 16, np.uint32
    )
    np.testing.assert_array_equal(count(kernels, wide), 1)


@pytest.mark.parametrize("size", [1, 2**18 + 3])
def test_counts_add_up(kernels: Any, size: int) -> None:
    source = np.random.default_rng(size).integers(0, 1 << 16, size, np.uint16)
    counts = np.ones(1 << 16, np.int64)
    kernels.count_patterns(source, counts)
    kernels.count_patterns(source, counts)
    np.testing.assert_array_equal(counts - 1, 2 * np.bincount(source, minlength=1 << 16))
