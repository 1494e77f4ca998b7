"""Guards what searching is for: less error in the same format, never more, whatever the weights."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import workbench as wb
from workbench.checkpoint import open_checkpoint
from workbench.quantize import FAST, Encoding, decode_affine, encode_affine
from workbench.quantize.affine.offset import decode_offset, encode_offset
from workbench.quantize.affine.search import TRIES

BF16 = np.dtype(ml_dtypes.bfloat16)
GOALS = {2: 0.110, 3: 0.0290, 4: 0.0072, 5: 0.0018}
"""NSR on N(0, 1), groups of 64, scales in 16 bits."""

elements = st.one_of(
    st.floats(-4, 4, width=32),
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 1e-45, 1e-40, 1e-30, 1000.0, 1e4, -1e30, 3.4e38]).map(np.float32),
)
rows = arrays.arrays(
    np.float32, st.tuples(st.integers(1, 3), st.integers(1, 150)), elements=elements, fill=elements
)


def offset(weights: np.ndarray, bits: int, group: int, storage: Any, encoding: Encoding) -> np.ndarray:
    found = encode_offset(weights, bits, group, storage, encoding=encoding)
    return decode_offset(found.codes, found.scales, found.origins, weights.shape[1], bits, group)


def affine(weights: np.ndarray, bits: int, group: int, is_symmetric: bool, encoding: Encoding) -> np.ndarray:
    found = encode_affine(weights, bits, group, is_symmetric, encoding=encoding)
    return decode_affine(found.codes, found.scales, found.origins, weights.shape[1], bits, group)


def noise(weights: np.ndarray, decoded: np.ndarray, importance: np.ndarray | None) -> np.ndarray:
    """Weighted squared error of each row, in float64."""
    squares = np.square(weights.astype(np.float64) - decoded.astype(np.float64))
    return (squares if importance is None else squares * importance).sum(axis=1)


@pytest.mark.parametrize("effort", TRIES)
@settings(max_examples=120, deadline=None)
@given(data=st.data(), bits=st.integers(2, 8), group=st.sampled_from([16, 32, 64, 128]))
def test_never_worse_than_fast(effort: str, data: st.DataObject, bits: int, group: int) -> None:
    weights = data.draw(rows)
    dtype = data.draw(st.sampled_from([np.dtype(np.float32), np.dtype(np.float16), BF16]))
    bound = min(float(ml_dtypes.finfo(dtype).max), 3.4e38)
    weights = np.clip(weights, -bound, bound).astype(dtype)
    importance = None
    if data.draw(st.booleans()):
        seed = data.draw(st.integers(0, 2**32))
        importance = np.random.default_rng(seed).exponential(size=weights.shape[1]).astype(np.float32)
        importance /= importance.max()
    searched = Encoding(effort, importance)
    for make, how in ((offset, dtype), (affine, False), (affine, True)):
        before, after = (
            noise(weights, make(weights, bits, group, how, encoding), importance)
            for encoding in (FAST, searched)
        )
        assert np.isfinite(after).all()
        # Nearest codes for the same scale may round otherwise, by a step of float32.
        peak = np.abs(weights.astype(np.float64)).max(axis=1)
        slack = 1e-6 * before + weights.shape[1] * np.square(2e-7 * peak)
        assert (after <= before + slack).all(), (make.__name__, how, before, after)


@pytest.mark.parametrize("value", [0.0, 1.5, -0.375, 1e-30, -3e4])
@pytest.mark.parametrize("effort", TRIES)
def test_constant_groups_are_exact(effort: str, value: float) -> None:
    weights = np.full((2, 100), value, np.float32)
    for bits in range(2, 9):
        for is_symmetric in (False, True):
            assert (affine(weights, bits, 32, is_symmetric, Encoding(effort)) == weights).all()
        assert (offset(weights, bits, 32, np.dtype(np.float32), Encoding(effort)) == weights).all()


@pytest.mark.parametrize("storage", [BF16, np.dtype(np.float16)], ids=str)
@pytest.mark.parametrize(("bits", "goal"), GOALS.items())
def test_noise_of_normal_weights(bits: int, goal: float, storage: np.dtype) -> None:
    weights = np.random.default_rng(0).standard_normal((64, 4096)).astype(storage)
    normal, best = (
        encode_offset(weights, bits, 64, storage, encoding=Encoding(effort)).error.nsr
        for effort in ("normal", "best")
    )
    assert best < normal < goal
    if bits == 4:
        assert -10 * np.log10(normal) >= 21.4


@pytest.mark.parametrize("effort", TRIES)
@pytest.mark.parametrize("model", ["zoo:digits-dit", "zoo:stdlib-mdlm"])
def test_a_fifth_less_noise_than_mlx_in_the_same_bytes(model: str, effort: str) -> None:
    with open_checkpoint(model) as checkpoint:
        layers = [layer for layer in checkpoint.layers if layer.kind != "conv" and layer.cols % 64 == 0]
        for bits in (2, 3, 4):
            ours, theirs = [], []
            for layer in layers:
                weights = checkpoint.read_rows(layer.name, 0, layer.rows)
                exact = weights.astype(np.float32)
                codes, scales, biases = mx.quantize(
                    mx.array(exact).astype(mx.bfloat16), group_size=64, bits=bits
                )
                decoded = mx.dequantize(
                    codes, scales.astype(mx.float32), biases.astype(mx.float32), group_size=64, bits=bits
                )
                signal = np.square(exact).sum()
                theirs.append(np.square(exact - np.array(decoded)).sum() / signal)
                found = encode_offset(weights, bits, 64, BF16, encoding=Encoding(effort))
                assert found.scales.nbytes == np.array(scales.astype(mx.float32)).nbytes / 2
                ours.append(found.error.nsr)
            assert sum(ours) <= 0.8 * sum(theirs), (bits, sum(ours) / sum(theirs))


def test_channels_that_count_more_get_less_noise() -> None:
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((64, 512)).astype(BF16)
    importance = np.exp(1.5 * rng.standard_normal(512)).astype(np.float32)
    importance /= importance.max()
    for bits in (2, 3, 4):
        plain, weighed = (
            noise(weights, offset(weights, bits, 64, BF16, Encoding("normal", given)), importance).sum()
            for given in (None, importance)
        )
        assert weighed < 0.95 * plain


@pytest.mark.parametrize("effort", TRIES)
def test_a_weight_that_is_not_finite_is_refused(effort: str) -> None:
    weights = np.ones((2, 64), np.float32)
    weights[1, 3] = np.inf
    ways: tuple[tuple[Any, Any], ...] = ((offset, np.dtype(np.float32)), (affine, False))
    for make, how in ways:
        with pytest.raises(wb.ValidationError, match="row 1, column 3"):
            make(weights, 4, 32, how, Encoding(effort))
