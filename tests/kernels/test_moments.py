"""Guards extremes, power sums and errors against plain NumPy in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from workbench.kernels import Kernels, load_portable

portable = load_portable("for comparison")

Patterns = Callable[[np.ndarray], tuple[np.ndarray, bool]]


def moments(kernels: Any, source: np.ndarray, is_half: bool, center: float, scale: float) -> np.ndarray:
    results = np.array([np.inf, -np.inf, 0, 0, 0, 0])
    assert kernels.moments(source, is_half, center, scale, results) == -1
    return results


def test_hostile_values(kernels: Any, kind: str, dtype: np.dtype, make: Callable, patterns: Patterns) -> None:
    weights = make(kind, (3, 3001), dtype)
    values = weights.astype(np.float64)
    center, scale = values[0, 0], 1.0 / max(abs(values).max(), 1e-300)
    found = moments(kernels, *patterns(weights), center, scale)
    x = (values - center) * scale
    np.testing.assert_array_equal(found[:2], (values.min(), values.max()))
    for power, total in enumerate(found[2:], start=1):
        assert total == pytest.approx((x**power).sum(), rel=1e-9, abs=1e-9 * (abs(x) ** power).sum())


def test_sums_go_on_and_extremes_widen(kernels: Any, patterns: Patterns) -> None:
    values = np.random.default_rng(0).standard_normal(10_000, dtype=np.float32)
    whole = moments(kernels, *patterns(values), 0.0, 1.0)
    parts = np.array([np.inf, -np.inf, 0, 0, 0, 0])
    for part in np.split(values, [100, 5000]):
        kernels.moments(*patterns(part), 0.0, 1.0, parts)
    np.testing.assert_allclose(parts, whole, rtol=1e-12)
    assert kernels.moments(*patterns(values[:0]), 0.0, 1.0, parts) == -1


def test_error_sums_parity(
    compiled: Kernels, kind: str, dtype: np.dtype, make: Callable, patterns: Patterns
) -> None:
    for cols in (1, 3, 1000, 4099):
        weights = make(kind, (3, cols), dtype)
        decoded = (weights.astype(np.float64) * 0.99).astype(np.float32)
        ours, theirs = np.zeros((3, 3)), np.zeros((3, 3))
        compiled.error_sums(*patterns(weights), decoded.ravel(), cols, ours)
        portable.error_sums(*patterns(weights), decoded.ravel(), cols, theirs)
        np.testing.assert_allclose(ours, theirs, rtol=3e-6, atol=1e-300)


def test_error_sums_are_those_of_numpy(kernels: Any, dtype: np.dtype, patterns: Patterns) -> None:
    generator = np.random.default_rng(1)
    weights = generator.standard_normal((4, 5001)).astype(dtype)
    decoded = weights.astype(np.float32) + generator.standard_normal(
        (4, 5001), dtype=np.float32
    ) * np.float32(0.1)
    sums = np.zeros((4, 3))
    assert kernels.error_sums(*patterns(weights), decoded.ravel(), 5001, sums) == -1
    w = weights.astype(np.float64)
    delta = w - decoded
    np.testing.assert_allclose(sums[:, 0], (delta**2).sum(1), rtol=2e-6)
    np.testing.assert_allclose(sums[:, 1], (w**2).sum(1), rtol=2e-6)
    np.testing.assert_allclose(
        sums[:, 2], (w * delta).sum(1), atol=2e-6 * np.sqrt((delta**2).sum() * (w**2).sum())
    )


def test_the_first_value_that_is_not_finite_is_found(
    kernels: Any, dtype: np.dtype, patterns: Patterns
) -> None:
    weights = np.ones((2, 5000), dtype)
    weights[1, 7] = -np.inf
    weights[1, 9] = np.nan
    assert kernels.moments(*patterns(weights), 0.0, 1.0, np.zeros(6)) == 5007
    assert kernels.error_sums(*patterns(weights), np.ones(10_000, np.float32), 5000, np.zeros((2, 3))) == 5007
