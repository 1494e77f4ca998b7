"""Guards the affine quantizer: compiled and portable kernels agree to the bit, and both mean what design.md says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.kernels import Form, Kernels, load_kernels, load_portable
from workbench.quantize.patterns import room

portable = load_portable("for comparison")

Patterns = Callable[[np.ndarray], tuple[np.ndarray, bool]]

SHAPES = [(1, 1), (3, 17), (2, 127), (4, 128), (2, 300), (1, 4096), (2, 4097), (1, 8492)]
"""One column; less than a group; groups with a tail; blocks of 4096 with and without one."""


@dataclass(frozen=True)
class Encoded:
    bad: int
    codes: np.ndarray
    scales: np.ndarray
    zeros: np.ndarray
    sums: np.ndarray
    decoded: np.ndarray
    stored_sums: np.ndarray
    """The error of the stored codes against the source, from `affine_error`."""


def form_of(symmetric: bool) -> int:
    """The form of a zero point, as kernels take it."""
    return int(Form.FIXED if symmetric else Form.ZERO)


def encode(
    kernels: Any,
    source: np.ndarray,
    is_half: bool,
    shape: tuple[int, int],
    bits: int,
    group: int,
    symmetric: bool,
) -> Encoded:
    """Encode, decode and measure, into arrays that hold rubbish before."""
    rows, cols = shape
    groups = -(-cols // group)
    codes = np.full(rows * ((cols * bits + 7) // 8), 0xA5, np.uint8)
    scales, zeros = np.full(rows * groups, np.nan, np.float32), np.full(rows * groups, np.nan, np.float32)
    decoded = np.full(rows * cols, np.nan, np.float32)
    sums, stored = np.zeros((rows, 3)), np.zeros((rows, 3))
    form = form_of(symmetric)
    bad = kernels.affine_encode(
        source, is_half, rows, cols, bits, group, form, scales, zeros, codes, sums, *room()
    )
    if bad < 0:
        kernels.affine_decode(codes, rows, cols, bits, group, form, scales, zeros, decoded, *room())
        kernels.affine_error(
            source, is_half, codes, rows, cols, bits, group, form, scales, zeros, stored, *room()
        )
    return Encoded(bad, codes, scales, zeros, sums, decoded, stored)


def assert_same(ours: Encoded, theirs: Encoded) -> None:
    assert ours.bad == theirs.bad
    if ours.bad >= 0:
        return
    for name in ("codes", "scales", "zeros", "decoded"):
        a, b = getattr(ours, name), getattr(theirs, name)
        assert a.tobytes() == b.tobytes(), (
            f"{name} differ at {np.flatnonzero(a.view(np.uint8) != b.view(np.uint8))[:8]}"
        )
    for a, b in ((ours.sums, theirs.sums), (ours.stored_sums, theirs.stored_sums)):
        assert_sums(a, b)


def assert_sums(a: np.ndarray, b: np.ndarray) -> None:
    """‖δ‖², ‖w‖² to 2e-6, or as much of ‖w‖² as float32 can tell; w·δ to as much of ‖w‖‖δ‖."""
    noise, energy, product = b.T
    floor = 1e-14 * energy
    np.testing.assert_array_less(abs(a[:, 0] - noise), 2e-6 * noise + floor + 1e-300)
    np.testing.assert_array_less(abs(a[:, 1] - energy), 2e-6 * energy + 1e-300)
    np.testing.assert_array_less(abs(a[:, 2] - product), 2e-6 * np.sqrt(noise * energy) + floor + 1e-300)


def choices(seed: int) -> Iterator[tuple[tuple[int, int], int, int, bool]]:
    """Every shape, each with a few of the widths, groups and schemes."""
    generator = np.random.default_rng(seed)
    for shape in SHAPES:
        for _ in range(3):
            bits, group = int(generator.integers(2, 9)), int(generator.choice([16, 32, 64, 128, 256]))
            yield shape, bits, group, bool(generator.integers(2))


def test_parity_on_hostile_values(
    compiled: Kernels, kind: str, dtype: np.dtype, make: Callable, patterns: Patterns
) -> None:
    for seed, (shape, bits, group, symmetric) in enumerate(choices(seed=1)):
        source, is_half = patterns(make(kind, shape, dtype, seed))
        ours = encode(compiled, source, is_half, shape, bits, group, symmetric)
        assert ours.bad == -1
        assert np.isfinite(ours.decoded).all(), (shape, bits, group, symmetric)
        assert_same(ours, encode(portable, source, is_half, shape, bits, group, symmetric))


def test_codes_are_the_same_without_sums(kernels: Any, kind: str, make: Callable, patterns: Patterns) -> None:
    shape, bits, group = (3, 4500), 5, 64
    source, is_half = patterns(make(kind, shape, np.dtype(np.float32)))
    measured = encode(kernels, source, is_half, shape, bits, group, False)
    codes, scales, zeros = (np.zeros_like(a) for a in (measured.codes, measured.scales, measured.zeros))
    bad = kernels.affine_encode(
        source, is_half, *shape, bits, group, form_of(False), scales, zeros, codes, np.zeros((0, 3)), *room()
    )
    assert bad == -1
    assert codes.tobytes() == measured.codes.tobytes()
    assert (scales.tobytes(), zeros.tobytes()) == (measured.scales.tobytes(), measured.zeros.tobytes())


@settings(max_examples=150, deadline=None)
@given(
    data=st.binary(min_size=4, max_size=4 * 600),
    dtype=st.sampled_from(["bf16", "f16", "f32"]),
    rows=st.integers(1, 3),
    bits=st.integers(2, 8),
    group=st.sampled_from([16, 32, 64, 128, 256]),
    symmetric=st.booleans(),
    finite=st.booleans(),
)
def test_parity_on_any_bytes(
    data: bytes, dtype: str, rows: int, bits: int, group: int, symmetric: bool, finite: bool
) -> None:
    source: Any = np.frombuffer(data[: len(data) // 4 * 4], np.uint32 if dtype == "f32" else np.uint16).copy()
    if finite:
        # One exponent bit less: neither Inf nor NaN.
        source &= {"f32": 0xBFFFFFFF, "f16": 0xBFFF, "bf16": 0xBFFF}[dtype]
    rows = min(rows, source.size)
    shape = rows, source.size // rows
    source = source[: shape[0] * shape[1]]
    ours = encode(load_kernels(), source, dtype == "f16", shape, bits, group, symmetric)
    assert_same(ours, encode(portable, source, dtype == "f16", shape, bits, group, symmetric))
    assert ours.bad >= 0 or np.isfinite(ours.decoded).all()


@pytest.mark.parametrize(
    ("bits", "nsr", "cosine"),
    [(2, 0.250, 0.896), (3, 0.0456, 0.978), (4, 0.0099, 0.995), (8, 3.4e-5, 0.99998)],
)
def test_published_figures(kernels: Any, bits: int, nsr: float, cosine: float, patterns: Patterns) -> None:
    weights = np.random.default_rng(0).standard_normal((256, 4096), dtype=np.float32)
    source, is_half = patterns(weights)
    encoded = encode(kernels, source, is_half, weights.shape, bits, 128, symmetric=False)
    noise, energy, product = encoded.sums.sum(axis=0)
    # ‖ŵ‖² and w·ŵ from the three sums.
    measured = (energy - product) / np.sqrt(energy * (energy - 2 * product + noise))
    assert noise / energy == pytest.approx(nsr, rel=0.03)
    assert measured == pytest.approx(cosine, abs=0.001 if bits < 8 else 1e-5)
    decoded = encoded.decoded.astype(np.float64)
    flat = weights.ravel().astype(np.float64)
    assert measured == pytest.approx(
        flat @ decoded / np.linalg.norm(flat) / np.linalg.norm(decoded), rel=1e-6
    )


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", range(2, 9))
def test_an_independent_decoder_agrees(kernels: Any, bits: int, symmetric: bool, patterns: Patterns) -> None:
    weights = np.random.default_rng(bits).standard_normal((5, 300)).astype(ml_dtypes.bfloat16)
    encoded = encode(kernels, *patterns(weights), weights.shape, bits, 64, symmetric)
    rows = encoded.codes.reshape(5, -1)
    stream = np.unpackbits(rows, axis=1, bitorder="little")[:, : 300 * bits].reshape(5, 300, bits)
    codes = stream @ (1 << np.arange(bits))
    group = np.arange(300) // 64
    scale, zero = encoded.scales.reshape(5, -1)[:, group], encoded.zeros.reshape(5, -1)[:, group]
    np.testing.assert_array_equal((codes.astype(np.float32) - zero) * scale, encoded.decoded.reshape(5, 300))
    # Nearest: no code is further than half a step from its weight, but for the two outermost when symmetric.
    error = abs(weights.astype(np.float32) - encoded.decoded.reshape(5, 300))
    assert (error <= scale * 0.5001).all()


def test_rounding_is_half_to_even(kernels: Any, patterns: Patterns) -> None:
    weights = np.array([[0, 15, 0.5, 1.5, 2.5, 3.5, 13.5, 14.5]], np.float32)
    encoded = encode(kernels, *patterns(weights), weights.shape, 4, 16, symmetric=False)
    assert encoded.decoded.tolist() == [0, 15, 0, 2, 2, 4, 14, 14]


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", range(2, 9))
def test_constant_groups_are_exact(kernels: Any, bits: int, symmetric: bool, patterns: Patterns) -> None:
    largest, smallest = np.finfo(np.float32).max, np.finfo(np.float32).smallest_subnormal
    values = np.array(
        [0.0, 1.0, -1.0, 1 / 3, 1e37, -3e38, largest, -largest, smallest, -smallest, 1e-30], np.float32
    )
    weights = np.repeat(values, 20).reshape(len(values), 20)
    encoded = encode(kernels, *patterns(weights), weights.shape, bits, 16, symmetric)
    np.testing.assert_array_equal(encoded.decoded.reshape(weights.shape), weights)
    assert not encoded.sums[:, 0].any()


def test_the_zero_point_of_a_group_from_zero_is_plus_zero(kernels: Any, patterns: Patterns) -> None:
    weights = np.array(
        [[0.0, -0.0, 3.0], [-0.0, 0.0, 1e38], [-0.0, -0.0, -0.0], [0.0, -0.0, 1e-44]], np.float32
    )
    for columns in ([0, 1, 2], [1, 0, 2]):
        encoded = encode(kernels, *patterns(weights[:, columns]), weights.shape, 4, 16, symmetric=False)
        assert encoded.zeros.tobytes() == bytes(16)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 63, 299, 300, 2 * 5000 - 1])
def test_the_first_value_that_is_not_finite_is_found(
    kernels: Any, at: int, value: float, dtype: np.dtype, patterns: Patterns
) -> None:
    weights = np.ones((2, 5000), dtype)
    weights.reshape(-1)[at:] = value
    assert encode(kernels, *patterns(weights), weights.shape, 4, 64, symmetric=False).bad == at
    codes, groups = np.zeros(2 * 2500, np.uint8), np.ones(2 * 79, np.float32)
    found = kernels.affine_error(
        *patterns(weights), codes, 2, 5000, 4, 64, form_of(False), groups, groups, np.zeros((2, 3)), *room()
    )
    assert found == at


def test_a_short_last_group_is_a_group(kernels: Any, patterns: Patterns) -> None:
    weights = np.random.default_rng(3).standard_normal((1, 4096 + 44), dtype=np.float32)
    whole = encode(kernels, *patterns(weights), weights.shape, 4, 128, symmetric=False)
    alone = encode(kernels, *patterns(weights[:, 4096:]), (1, 44), 4, 128, symmetric=False)
    np.testing.assert_array_equal(whole.decoded[4096:], alone.decoded)
    assert (whole.scales[-1], whole.zeros[-1]) == (alone.scales[0], alone.zeros[0])
    assert whole.codes[2048:].tobytes() == alone.codes.tobytes()


@pytest.mark.parametrize("shape", [(0, 0), (0, 7), (3, 0)])
def test_nothing_to_encode(kernels: Any, shape: tuple[int, int]) -> None:
    encoded = encode(kernels, np.zeros(0, np.uint16), False, shape, 4, 16, symmetric=False)
    assert encoded.bad == -1
    assert not encoded.sums.any()


def test_stored_codes_have_the_error_of_their_decoded_values(
    kernels: Any, dtype: np.dtype, patterns: Patterns
) -> None:
    weights = np.random.default_rng(4).standard_normal((3, 700)).astype(dtype)
    encoded = encode(kernels, *patterns(weights), weights.shape, 3, 32, symmetric=True)
    w = weights.astype(np.float64)
    delta = w - encoded.decoded.reshape(w.shape)
    truth = np.stack([(delta**2).sum(1), (w**2).sum(1), (w * delta).sum(1)], axis=1)
    assert_sums(encoded.sums, truth)
    assert_sums(encoded.stored_sums, truth)


def test_sources_may_be_read_only_and_sums_are_added(kernels: Any, patterns: Patterns) -> None:
    source, is_half = patterns(np.random.default_rng(5).standard_normal((2, 64), dtype=np.float32))
    source.setflags(write=False)
    first = encode(kernels, source, is_half, (2, 64), 4, 32, symmetric=False)
    codes, scales, zeros = first.codes.copy(), first.scales.copy(), first.zeros.copy()
    sums = first.sums.copy()
    kernels.affine_encode(source, is_half, 2, 64, 4, 32, form_of(False), scales, zeros, codes, sums, *room())
    np.testing.assert_allclose(sums, 2 * first.sums)


def test_threads_give_what_one_gives(kernels: Any, patterns: Patterns) -> None:
    weights = np.random.default_rng(6).standard_normal((64, 2048)).astype(ml_dtypes.bfloat16)
    whole = encode(kernels, *patterns(weights), weights.shape, 5, 128, symmetric=False)
    with ThreadPoolExecutor(4) as pool:
        parts = list(
            pool.map(
                lambda part: encode(kernels, *patterns(part), part.shape, 5, 128, False),
                np.split(weights, 16),
            )
        )
    assert b"".join(part.codes.tobytes() for part in parts) == whole.codes.tobytes()
    np.testing.assert_array_equal(np.concatenate([part.sums for part in parts]), whole.sums)
