"""Guards the search of scales and origins: both kernels find the same to the bit, and never anything worse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from workbench.kernels import Form, Kernels, Storage, load_portable
from workbench.quantize.affine.search import TRIES, clips_of

portable = load_portable("for comparison")

Patterns = Callable[[np.ndarray], tuple[np.ndarray, bool]]

SHAPES = [(1, 1), (3, 17), (2, 127), (5, 128), (2, 300), (40, 320), (1, 4097)]
"""One column; less than a group; tails; more groups than are taken at a time, and a row longer than a block."""


def begin(
    form: Form, storage: Any, weights: np.ndarray, group: int, bits: int
) -> tuple[np.ndarray, np.ndarray]:
    """Scale and origin between the extremes of each group, as one would store them."""
    cols = weights.shape[1]
    single = weights.astype(np.float32)
    starts = np.arange(0, cols, group)
    low, high = np.minimum.reduceat(single, starts, axis=1), np.maximum.reduceat(single, starts, axis=1)
    levels = np.float32((1 << bits) - 1)
    with np.errstate(all="ignore"):
        scale = ((high - low) / levels).astype(storage).astype(np.float32)
        if form == Form.FIXED:
            scale = (2 * np.maximum(-low, high) / levels).astype(storage).astype(np.float32)
            return scale.reshape(-1), np.full(scale.size, 1 << (bits - 1), np.float32)
        if form == Form.OFFSET:
            return scale.reshape(-1), low.astype(storage).astype(np.float32).reshape(-1)
        zero = (-low / scale).astype(np.float32)
    return scale.reshape(-1), (zero if form == Form.ZERO else np.clip(np.rint(zero), 0, levels)).reshape(-1)


@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize("storage", Storage)
def test_parity_on_hostile_values(
    compiled: Kernels, kind: str, dtype: np.dtype, make: Callable, patterns: Patterns,
    form: Form, storage: Storage,
) -> None:  # fmt: skip
    generator = np.random.default_rng([storage, form])
    for seed, shape in enumerate(SHAPES):
        effort = "best" if seed in (2, 4) else "normal"
        bits, group = int(generator.integers(2, 9)), int(generator.choice([16, 32, 64, 128, 256]))
        weights = make(kind, shape, dtype, seed)
        source, is_half = patterns(weights)
        importance = generator.random(shape[1] if seed % 2 else 0).astype(np.float32)
        tries = TRIES[effort]
        found = []
        for kernels in (compiled, portable):
            scales, origins = begin(form, storage.dtype, weights, group, bits)
            bad = kernels.improve_groups(
                source, is_half, *shape, bits, group, int(form), int(storage), importance, clips_of(effort, bits),
                tries.refits, np.array(tries.nudges, np.float32), scales, origins,
            )  # fmt: skip
            assert bad == -1
            found.append((scales.tobytes(), origins.tobytes()))
        assert found[0] == found[1], (shape, bits, group)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_value_that_is_not_finite_is_found(
    kernels: Any, dtype: np.dtype, patterns: Patterns, value: float
) -> None:
    weights = np.ones((3, 5000), dtype)
    weights[1, 4321] = weights[2, 0] = value
    source, is_half = patterns(weights)
    scales, origins = np.ones((2, 3 * 79), np.float32)
    bad = kernels.improve_groups(
        source, is_half, 3, 5000, 4, 64, 0, 0, np.empty(0, np.float32), clips_of("normal", 4), 1,
        np.ones(1, np.float32), scales, origins,
    )  # fmt: skip
    assert bad == 9321


@pytest.mark.parametrize("storage", [ml_dtypes.bfloat16, np.float16])
@pytest.mark.parametrize("form", Form)
def test_what_is_found_can_be_stored(compiled: Kernels, form: Form, storage: Any) -> None:
    weights = np.random.default_rng(0).standard_normal((8, 256)).astype(np.float32)
    scales, origins = begin(form, storage, weights, 32, 4)
    before = scales.copy()
    compiled.improve_groups(
        weights.reshape(-1).view(np.uint32), False, 8, 256, 4, 32, int(form), int(Storage.of(storage)),
        np.empty(0, np.float32), clips_of("best", 4), 3, np.array([1, 1.004], np.float32), scales, origins,
    )  # fmt: skip
    assert (scales != before).mean() > 0.9
    assert (scales == scales.astype(storage).astype(np.float32)).all()
    if form == Form.OFFSET:
        assert (origins == origins.astype(storage).astype(np.float32)).all()
    if form == Form.WHOLE:
        assert (origins == np.clip(np.rint(origins), 0, 15)).all()
    if form == Form.FIXED:
        assert (origins == 8).all()
