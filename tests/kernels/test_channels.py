"""Guards the sums over channels of activations, and the energy of outputs, against plain NumPy in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

Patterns = Callable[[np.ndarray], tuple[np.ndarray, bool]]

SHAPES = [
    (1, 1, 1),
    (1, 700, 1),
    (7, 5, 1),
    (9, 513, 1),
    (64, 256, 1),
    (3, 4, 9),
    (2, 3, 1025),
    (17, 40, 64),
    (9, 5000, 1),
    (2, 3, 4097),
]


def channel_sums(
    kernels: Any, patterns: np.ndarray, is_half: bool, places: int, sums: np.ndarray, overall: np.ndarray,
    spots: Sequence[int] = (),
) -> np.ndarray:  # fmt: skip
    """Call the kernel with scratch full of rubbish; what it sampled."""
    sample = np.full(len(spots), np.nan, np.float32)
    totals, scratch, memory = (
        np.full(8192, np.nan),
        np.full(2048, 0x7FC00000, np.uint32),
        np.full(8192, 7, np.int32),
    )
    kernels.channel_sums(
        patterns, is_half, places, sums, overall, np.array(spots, np.int64), sample, np.full(2048, 7, patterns.dtype),
        scratch, scratch.view(np.float32), scratch.view(np.int32), totals, memory, memory.view(np.float32),
    )  # fmt: skip
    return sample


def output_energy(kernels: Any, patterns: np.ndarray, is_half: bool, places: int, bias: np.ndarray) -> float:
    """Call the kernel with scratch full of rubbish."""
    scratch = np.full(2048, 0x7FC00000, np.uint32)
    found: float = kernels.output_energy(
        patterns, is_half, places, bias, np.full(2048, 7, patterns.dtype), scratch, scratch.view(np.float32),
        np.full(8192, np.nan), np.full(4096, np.nan, np.float32),
    )  # fmt: skip
    return found


@pytest.fixture(scope="module", params=SHAPES, ids=str)
def shape(request: pytest.FixtureRequest) -> tuple[int, int, int]:
    """Vectors, channels and places."""
    return request.param


def test_channel_sums(kernels: Any, shape: tuple[int, int, int], dtype: np.dtype, patterns: Patterns) -> None:
    values = (3 + np.random.default_rng(0).standard_normal(shape)).astype(dtype)
    found, overall = np.full((3, shape[1]), np.nan), np.full(4, np.nan)
    channel_sums(kernels, *patterns(values), shape[2], found, overall)
    x = values.astype(np.float64)
    np.testing.assert_allclose(found[0], x.sum((0, 2)), rtol=1e-6)
    np.testing.assert_allclose(found[1], np.square(x).sum((0, 2)), rtol=1e-6)
    np.testing.assert_array_equal(found[2], np.abs(x).max((0, 2)))
    np.testing.assert_allclose(overall[:2], [x.sum(), np.square(x).sum()], rtol=1e-6)
    assert overall[2:].tolist() == [x.min(), x.max()]


def test_a_sample_of_the_magnitudes(kernels: Any, dtype: np.dtype, patterns: Patterns) -> None:
    values = np.random.default_rng(4).standard_normal((90, 50)).astype(dtype)
    spots = np.random.default_rng(5).integers(0, values.size, 2500).tolist()
    found = channel_sums(kernels, *patterns(values), 1, np.empty((3, 50)), np.empty(4), spots)
    np.testing.assert_array_equal(found, np.abs(values.ravel()[spots].astype(np.float32)))


@pytest.mark.parametrize("shift", [-9, 9], ids=["all negative", "all positive"])
def test_the_extremes_of_values_of_one_sign(
    kernels: Any, shift: float, dtype: np.dtype, patterns: Patterns
) -> None:
    values = np.clip(
        shift + np.random.default_rng(3).standard_normal((11, 300)), shift - 5, shift + 5
    ).astype(dtype)
    overall = np.empty(4)
    channel_sums(kernels, *patterns(values), 1, np.empty((3, 300)), overall)
    assert overall[2:].tolist() == [values.min(), values.max()]


def test_output_energy(
    kernels: Any, shape: tuple[int, int, int], dtype: np.dtype, patterns: Patterns
) -> None:
    generator = np.random.default_rng(1)
    bias = generator.standard_normal(shape[1]).astype(np.float32) * 10
    values = (bias[:, None] + generator.standard_normal(shape)).astype(dtype)
    deviations = values.astype(np.float64) - bias[:, None]
    found = output_energy(kernels, *patterns(values), shape[2], bias)
    assert found == pytest.approx(np.square(deviations).sum(), rel=1e-6)


def test_a_large_mean_costs_no_digits_of_many_vectors(kernels: Any, patterns: Patterns) -> None:
    values = (100 + np.random.default_rng(2).standard_normal((20_000, 3))).astype(np.float32)
    found = np.empty((3, 3))
    channel_sums(kernels, *patterns(values), 1, found, np.empty(4))
    variance = found[1] / 20_000 - np.square(found[0] / 20_000)
    np.testing.assert_allclose(variance, values.astype(np.float64).var(axis=0), rtol=2e-3)


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_shows(
    kernels: Any, bad: float, dtype: np.dtype, patterns: Patterns
) -> None:
    values = np.ones((11, 600), dtype)
    values[9, 555] = bad
    found, overall = np.empty((3, 600)), np.empty(4)
    channel_sums(kernels, *patterns(values), 1, found, overall)
    assert np.flatnonzero(~np.isfinite(found[1])).tolist() == [555]
    assert not np.isfinite(overall[1])
    assert not np.isfinite(output_energy(kernels, *patterns(values), 1, np.zeros(600, np.float32)))
