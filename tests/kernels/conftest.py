"""Both sets of kernels, and values that quantizers and codecs meet at their worst."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from workbench.kernels import Kernels, load_kernels, load_portable

portable = load_portable("for comparison")

LARGEST: Any = np.finfo(np.float32).max
SMALLEST: Any = np.finfo(np.float32).smallest_subnormal
DTYPES = {"f32": np.dtype(np.float32), "f16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}

HOSTILE: dict[str, Callable[[np.random.Generator, tuple[int, int]], np.ndarray]] = {
    "normal": lambda g, shape: g.standard_normal(shape),
    "any exponent": lambda g, shape: g.standard_normal(shape) * 2.0 ** g.integers(-149, 126, (shape[0], 1)),
    "constant rows": lambda g, shape: np.repeat(g.standard_normal((shape[0], 1)), shape[1], axis=1),
    "zeros of both signs": lambda g, shape: g.choice([0.0, -0.0], shape),
    "zero and more": lambda g, shape: g.choice([0.0, -0.0, 1.0, 2.5], shape),
    "subnormal": lambda g, shape: g.integers(-300, 300, shape) * float(SMALLEST),
    "nearly subnormal": lambda g, shape: g.standard_normal(shape) * 1e-37,
    "ranges about 1e-30": lambda g, shape: g.standard_normal(shape) * 1e-30 * g.random((shape[0], 1)),
    "one step above 1e-24": lambda g, shape: np.nextafter(
        np.float32(1e-24), g.choice([0, 1], shape), dtype=np.float32
    ),
    "peaks about 1e37": lambda g, shape: g.standard_normal(shape) * 4e36,
    "largest": lambda g, shape: g.choice([LARGEST, -LARGEST, 0.0, 1.0], shape),
    "largest, one sign": lambda g, shape: -LARGEST * (1.0 - 1e-6 * g.random(shape)),
    "every size": lambda g, shape: g.choice([0.0, -0.0, SMALLEST, 1e-30, -1e-24, 1.0, 1e37, -LARGEST], shape),
    "far from zero": lambda g, shape: 1000.0 + 1e-4 * g.standard_normal(shape),
    "outliers": lambda g, shape: np.where(g.random(shape) < 0.01, 1e4, 1.0) * g.standard_normal(shape),
}
"""Makers of float64 arrays whose every value is finite in float32."""


@pytest.fixture(scope="session")
def compiled() -> Kernels:
    """The installed compiled kernels; that there are none is a failure, not a reason to skip."""
    kernels = load_kernels()
    assert kernels.name == "compiled", kernels.description
    return kernels


@pytest.fixture(scope="session", params=["compiled", "portable"])
def kernels(request: pytest.FixtureRequest, compiled: Kernels) -> object:
    """Each set of kernels in turn, for facts that hold of both."""
    return compiled if request.param == "compiled" else portable


@pytest.fixture(scope="session", params=HOSTILE)
def kind(request: pytest.FixtureRequest) -> str:
    """The name of a kind of hostile values."""
    return request.param


@pytest.fixture(scope="session", params=DTYPES)
def dtype(request: pytest.FixtureRequest) -> np.dtype:
    """A dtype that weights come in."""
    return DTYPES[request.param]


@pytest.fixture(scope="session")
def make() -> Callable[..., np.ndarray]:
    """Values of a kind, brought into the range of the dtype."""

    def make(kind: str, shape: tuple[int, int], dtype: np.dtype, seed: int = 0) -> np.ndarray:
        bound = float(min(ml_dtypes.finfo(dtype).max, LARGEST))
        values = HOSTILE[kind](np.random.default_rng(seed), shape)
        return np.clip(values, -bound, bound).astype(dtype)

    return make


@pytest.fixture(scope="session")
def patterns() -> Callable[[np.ndarray], tuple[np.ndarray, bool]]:
    """Weights as the kernels take them: flat bit patterns, and whether they are float16."""

    def patterns(weights: np.ndarray) -> tuple[np.ndarray, bool]:
        flat = np.ascontiguousarray(weights).reshape(-1)
        return flat.view(f"u{weights.itemsize}"), weights.dtype == np.float16

    return patterns
