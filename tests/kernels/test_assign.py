"""Guards codes for given scales and origins: compiled and portable kernels agree to the bit on what is stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.kernels import Form, Kernels, load_kernels, load_portable
from workbench.quantize.affine.offset import fit_range
from workbench.quantize.affine.zero_point import fit_through_zero
from workbench.quantize.patterns import room

portable = load_portable("for comparison")

Patterns = Callable[[np.ndarray], tuple[np.ndarray, bool]]

SHAPES = [(1, 1), (3, 17), (2, 127), (4, 128), (2, 300), (1, 4096), (2, 4097), (1, 8492)]
"""One column; less than a group; groups with a tail; blocks of 4096 with and without one."""


def ranges(kernels: Any, source: np.ndarray, is_half: bool, shape: tuple[int, int], group: int) -> tuple:
    rows, cols = shape
    lows, highs = np.full((2, rows * -(-cols // group)), np.nan, np.float32)
    return kernels.group_ranges(source, is_half, rows, cols, group, lows, highs), lows, highs


def encode(
    kernels: Any, source: np.ndarray, is_half: bool, shape: tuple[int, int], bits: int, group: int,
    scales: np.ndarray, origins: np.ndarray, form: int = Form.OFFSET,
) -> tuple[np.ndarray, ...]:  # fmt: skip
    """Codes, decoded weights and both sums, in arrays that held rubbish before."""
    rows, cols = shape
    codes = np.full(rows * ((cols * bits + 7) // 8), 0xA5, np.uint8)
    decoded = np.full(rows * cols, np.nan, np.float32)
    sums, stored = np.zeros((rows, 3)), np.zeros((rows, 3))
    source_shape = source, is_half, rows, cols, bits, group
    kernels.affine_assign(*source_shape, int(form), scales, origins, codes, sums, *room())
    kernels.affine_decode(codes, rows, cols, bits, group, int(form), scales, origins, decoded, *room())
    bad = kernels.affine_error(
        source, is_half, codes, rows, cols, bits, group, int(form), scales, origins, stored, *room()
    )
    assert bad == -1
    unmeasured = np.full_like(codes, 0x5A)
    kernels.affine_assign(*source_shape, int(form), scales, origins, unmeasured, np.zeros((0, 3)), *room())
    assert unmeasured.tobytes() == codes.tobytes()
    return codes, decoded, sums, stored


@pytest.mark.parametrize(
    "is_narrow", [False, True], ids=["scales in float32", "scales in the source's dtype"]
)
def test_parity_on_hostile_values(
    compiled: Kernels, kind: str, dtype: np.dtype, make: Callable, patterns: Patterns, is_narrow: bool
) -> None:
    storage = dtype if is_narrow else np.float32
    generator = np.random.default_rng(1)
    for seed, shape in enumerate(SHAPES):
        bits, group = int(generator.integers(2, 9)), int(generator.choice([16, 32, 64, 128, 256]))
        source, is_half = patterns(make(kind, shape, dtype, seed))
        bad, lows, highs = ranges(compiled, source, is_half, shape, group)
        again = ranges(portable, source, is_half, shape, group)
        assert bad == again[0] == -1
        assert (lows.tobytes(), highs.tobytes()) == (again[1].tobytes(), again[2].tobytes())
        scales, offsets = (
            a.astype(np.float32) for a in fit_range(lows, highs, (1 << bits) - 1, np.dtype(storage))
        )
        ours = encode(compiled, source, is_half, shape, bits, group, scales, offsets)
        theirs = encode(portable, source, is_half, shape, bits, group, scales, offsets)
        assert np.isfinite(ours[1]).all()
        for a, b in zip(ours[:2], theirs[:2], strict=True):
            assert a.tobytes() == b.tobytes(), (shape, bits, group)
        for a, b in zip(ours[2:], theirs[2:], strict=True):
            np.testing.assert_allclose(a[:, :2], b[:, :2], rtol=2e-6, atol=1e-300 + 1e-13 * b[:, 1].max())


@pytest.mark.parametrize("form", [Form.ZERO, Form.FIXED, Form.WHOLE])
def test_parity_with_zero_points(
    compiled: Kernels, kind: str, dtype: np.dtype, make: Callable, patterns: Callable, form: Form
) -> None:
    generator = np.random.default_rng(2)
    for seed, shape in enumerate(SHAPES):
        bits, group = int(generator.integers(2, 9)), int(generator.choice([16, 32, 64, 128, 256]))
        source, is_half = patterns(make(kind, shape, dtype, seed))
        _, lows, highs = ranges(compiled, source, is_half, shape, group)
        scales, whole = fit_through_zero(lows, highs, bits, form == Form.FIXED, np.dtype(np.float32))
        zeros = whole.astype(np.float32)
        if form == Form.ZERO:
            zeros = (zeros + generator.random(zeros.size) - 0.5).astype(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            ours = encode(compiled, source, is_half, shape, bits, group, scales, zeros, form)
            theirs = encode(portable, source, is_half, shape, bits, group, scales, zeros, form)
        for a, b in zip(ours[:2], theirs[:2], strict=True):
            assert a.tobytes() == b.tobytes(), (shape, bits, group)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), bits=st.integers(2, 8), group=st.sampled_from([16, 32, 64, 128, 256]))
def test_every_code_is_the_nearest(data: st.DataObject, bits: int, group: int) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    shape = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 500))
    weights = rng.standard_normal(shape).astype(np.float32)
    source = weights.reshape(-1).view(np.uint32)
    kernels = load_kernels()
    _, lows, highs = ranges(kernels, source, False, shape, group)
    scales, offsets = (
        a.astype(np.float32) for a in fit_range(lows, highs, (1 << bits) - 1, np.dtype(ml_dtypes.bfloat16))
    )
    _, decoded, sums, stored = encode(kernels, source, False, shape, bits, group, scales, offsets)
    column = np.arange(shape[1]) // group
    s, m = (a.reshape(shape[0], -1)[:, column] for a in (scales, offsets))
    nearest = np.min([np.abs(q * s + m - weights) for q in range(1 << bits)], axis=0)
    error = np.abs(decoded.reshape(shape) - weights)
    np.testing.assert_allclose(error, nearest, atol=1e-6)
    noise = ((weights - decoded.reshape(shape)).astype(np.float64) ** 2).sum(axis=1)
    np.testing.assert_allclose(sums[:, 0], noise, rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(stored, sums, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_value_that_is_not_finite_is_found(
    kernels: Any, dtype: np.dtype, patterns: Patterns, value: float
) -> None:
    weights = np.ones((3, 5000), dtype)
    weights[1, 4321] = weights[2, 0] = value
    source, is_half = patterns(weights)
    assert ranges(kernels, source, is_half, weights.shape, 64)[0] == 9321
