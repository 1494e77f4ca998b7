"""Guards what targets promise of the error of a weight before any is encoded."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.formats import target_named
from workbench.plan import Layer

DTYPES = {"BF16": np.dtype(ml_dtypes.bfloat16), "F16": np.dtype(np.float16), "F32": np.dtype(np.float32)}


@given(
    st.sampled_from(["parquet", "mlx", "compressed-tensors"]),
    st.sampled_from(sorted(DTYPES)),
    st.sampled_from([2, 3, 4, 5, 6, 8]),
    st.sampled_from(["asymmetric", "symmetric"]),
    st.sampled_from([32, 64, 128]),
    st.integers(0, 2**32 - 1),
    st.floats(-30, 30),
    st.floats(-3, 3),
    st.floats(0, 3),
)
@settings(max_examples=300)
def test_no_weight_is_farther_off_than_promised(
    name: str,
    dtype: str,
    bits: int,
    scheme: str,
    group: int,
    seed: int,
    size: float,
    shift: float,
    tail: float,
) -> None:
    chance = np.random.default_rng(seed)
    values = chance.standard_normal((6, 256)) * np.exp(tail * chance.standard_normal((6, 256))) + 10 * shift
    with np.errstate(over="ignore"):
        weights = (values * 2.0 ** (size if dtype != "F16" else size / 3)).astype(DTYPES[dtype])
    weights = np.where(np.isfinite(weights.astype(np.float32)), weights, DTYPES[dtype].type(1))
    target = target_named(name)
    option = target.quantized(Layer("w", "other", "linear", None, weights.shape, dtype), bits, scheme, group)
    wide = weights.astype(np.float64)
    worst = target.worst_error(option, float(wide.min()), float(wide.max()))
    assert np.abs(target.decoded(weights, option, "w", 0) - wide).max() <= worst


@pytest.mark.parametrize("name", ["parquet", "mlx", "compressed-tensors"])
def test_the_promise_is_worth_something(name: str) -> None:
    """Within a half more than half a step of a normal layer."""
    target = target_named(name)
    option = target.quantized(Layer("w", "other", "linear", None, (64, 256), "BF16"), 4, "asymmetric", 64)
    assert target.worst_error(option, -0.1, 0.1) < 1.5 * 0.2 / 15 / 2


@pytest.mark.parametrize("name", ["gguf", "safetensors"])
def test_nothing_is_promised_of_others(name: str) -> None:
    target = target_named(name)
    option = target.quantized(Layer("w", "other", "linear", None, (64, 256), "BF16"), 4, "asymmetric", 64)
    assert target.worst_error(option, -0.1, 0.1) == math.inf
