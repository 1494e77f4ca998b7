"""Guards GGML's blocks: compiled and portable kernels agree to the bit, and `gguf.dequantize` reads what both mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.kernels import Kernels, load_kernels, load_portable
from workbench.quantize import Encoding
from workbench.quantize.ggml import FORMATS, Room, encode_ggml

portable = load_portable("for comparison")

Patterns = Callable[[np.ndarray], tuple[np.ndarray, bool]]

EFFORTS = ("fast", "normal", "best")


@pytest.fixture(scope="module", params=FORMATS)
def name(request: pytest.FixtureRequest) -> str:
    """The name of a format."""
    return request.param


def encode(
    kernels: Any, source: np.ndarray, is_half: bool, shape: tuple[int, int], name: str, effort: str,
    weights: np.ndarray | None = None,
) -> tuple[Any, ...]:  # fmt: skip
    """The first bad index, blocks, codes and sums, in arrays that held rubbish before."""
    chosen, (rows, cols), room = FORMATS[name], shape, Room()
    levels, rounds = chosen.search[effort]
    data = np.full(rows * chosen.row_bytes(cols), 0xA5, np.uint8)
    stored, sums = np.full(rows * cols, 0xA5, np.uint8), np.zeros((rows, 3))
    for scratch in (room.tiles, room.single, room.double):
        scratch[:] = np.nan
    bad = kernels.ggml_encode(
        source, is_half, rows, cols, chosen.layout.numbers, chosen.layout.moves,
        np.empty(0, np.float32) if weights is None else weights, np.array(levels, np.float32), rounds, data, stored,
        sums, room.tiles, room.words, room.patterns, room.integers, room.planes, room.single, room.bits, room.double,
    )  # fmt: skip
    return bad, data, stored, sums


def decode(kernels: Any, data: np.ndarray, name: str) -> np.ndarray:
    chosen, room = FORMATS[name], Room()
    total = data.size // chosen.nbytes
    decoded = np.full(total * chosen.block, np.nan, np.float32)
    kernels.ggml_decode(
        data,
        total,
        chosen.layout.numbers,
        chosen.layout.moves,
        decoded,
        room.integers,
        room.planes,
        room.single,
        room.bits,
    )
    return decoded


def error(
    kernels: Any, source: np.ndarray, is_half: bool, data: np.ndarray, shape: tuple[int, int], name: str
) -> tuple[np.ndarray, np.ndarray]:
    chosen, (rows, cols), room = FORMATS[name], shape, Room()
    stored, sums = np.zeros(rows * cols, np.uint8), np.zeros((rows, 3))
    bad = kernels.ggml_error(
        source, is_half, data, rows, cols, chosen.layout.numbers, chosen.layout.moves, stored, sums,
        room.tiles, room.words, room.patterns, room.integers, room.planes, room.single, room.bits,
    )  # fmt: skip
    assert bad == -1
    return stored, sums


def referee(data: np.ndarray, name: str) -> np.ndarray:
    """What the `gguf` package decodes."""
    blocks = data.reshape(-1, FORMATS[name].nbytes)
    with np.errstate(all="ignore"):
        return gguf.dequantize(blocks, gguf.GGMLQuantizationType[name]).reshape(-1)


def test_parity_on_hostile_values(
    compiled: Kernels, kind: str, dtype: np.dtype, name: str, make: Callable, patterns: Patterns
) -> None:
    block = FORMATS[name].block
    shapes = [(1, block), (3, 3 * block), (2, 4096), (1, 4096 + block)]
    for seed, shape in enumerate(shapes):
        effort = EFFORTS[seed % 3]
        source, is_half = patterns(make(kind, shape, dtype, seed))
        weights = None
        if seed % 2:
            weights = np.random.default_rng(seed).exponential(1.0, shape[1]).astype(np.float32) + np.float32(
                1e-4
            )
        ours = encode(compiled, source, is_half, shape, name, effort, weights)
        theirs = encode(portable, source, is_half, shape, name, effort, weights)
        assert ours[0] == theirs[0] == -1
        assert ours[1].tobytes() == theirs[1].tobytes(), (shape, effort)
        assert ours[2].tobytes() == theirs[2].tobytes(), (shape, effort)
        decoded = decode(compiled, ours[1], name)
        assert np.isfinite(decoded).all()
        assert decoded.tobytes() == decode(portable, ours[1], name).tobytes()
        np.testing.assert_array_equal(decoded, referee(ours[1], name))
        stored = [error(kernels, source, is_half, ours[1], shape, name) for kernels in (compiled, portable)]
        for codes, sums in stored:
            assert codes.tobytes() == ours[2].tobytes()
            np.testing.assert_allclose(sums[:, :2], ours[3][:, :2], rtol=2e-5, atol=1e-300)
        np.testing.assert_allclose(theirs[3][:, :2], ours[3][:, :2], rtol=2e-5, atol=1e-300)


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(list(FORMATS)), count=st.integers(1, 40), seed=st.integers(0, 2**32))
def test_any_bytes_decode_as_the_gguf_package_decodes_them(name: str, count: int, seed: int) -> None:
    data = np.random.default_rng(seed).integers(0, 256, count * FORMATS[name].nbytes, np.uint8)
    expected = referee(data, name)
    for kernels in (load_kernels(), portable):
        # Rubbish may have factors that are infinite or NaN; elsewhere nothing may differ.
        np.testing.assert_array_equal(decode(kernels, data, name), expected)


@settings(max_examples=100, deadline=None)
@given(
    name=st.sampled_from(list(FORMATS)),
    effort=st.sampled_from(EFFORTS),
    rows=st.integers(1, 5),
    blocks=st.integers(1, 20),
    scale=st.integers(-30, 20),
    outliers=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_a_search_loses_little_at_any_scale(
    name: str, effort: str, rows: int, blocks: int, scale: int, outliers: bool, seed: int
) -> None:
    chosen = FORMATS[name]
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((rows, blocks * chosen.block))
    if outliers:
        weights *= np.where(rng.random(weights.shape) < 0.01, 30.0, 1.0)
    weights = (weights * 2.0**scale).astype(np.float32)
    encoded = encode_ggml(weights, name, encoding=Encoding(effort))
    decoded = referee(encoded.data, name).reshape(weights.shape).astype(np.float64)
    noise = ((weights - decoded) ** 2).sum()
    np.testing.assert_allclose(encoded.error.noise, noise, rtol=1e-4)
    assert encoded.code_counts.sum() == weights.size
    # Where float16 can hold the scales, no error beyond that of equal steps across the range; else that of zero.
    width = float(np.ptp(weights, axis=None)) / (2**chosen.bits - 1)
    coarse = 2.0**-24 * 128 * 2**chosen.bits
    if float(np.abs(weights).max()) < 6e4:
        assert noise <= weights.size * (width + coarse) ** 2 / 3


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from([name for name in FORMATS if name not in ("Q4_1", "Q5_1")]),
    effort=st.sampled_from(EFFORTS),
    kind=st.sampled_from(["normal", "one sign", "steps", "sparse", "mixed"]),
    scale=st.integers(-140, 127),
    is_weighted=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_no_block_loses_more_than_it_holds(
    name: str, effort: str, kind: str, scale: int, is_weighted: bool, seed: int
) -> None:
    # Of weights near float16's least step, 6e-8, the minimum of Q4_1 and Q5_1 can be more than the weights.
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((8, 256))
    if kind == "one sign":
        weights = np.abs(weights) + rng.exponential(1.0)
    elif kind == "steps":
        weights = rng.integers(-3, 4, weights.shape).astype(np.float64)
    elif kind == "sparse":
        weights *= rng.random(weights.shape) < 0.02
    elif kind == "mixed":
        weights *= 2.0 ** rng.integers(-25, 3, (8, 16)).repeat(16, axis=1)
    top = float(np.finfo(np.float32).max)
    weights = np.clip(weights * 2.0**scale, -top, top).astype(np.float32)
    counts = rng.exponential(1.0, 256).astype(np.float32) + np.float32(1e-3) if is_weighted else None
    encoded = encode_ggml(weights, name, encoding=Encoding(effort, counts))
    decoded = referee(encoded.data, name).reshape(weights.shape).astype(np.float64)
    share = np.ones(256) if counts is None or effort == "fast" else counts.astype(np.float64)
    noise = (share * (weights - decoded) ** 2).reshape(-1, FORMATS[name].block).sum(axis=1)
    energy = (share * weights.astype(np.float64) ** 2).reshape(-1, FORMATS[name].block).sum(axis=1)
    assert (noise <= energy * (1 + 1e-6)).all()


def test_steps_of_float16_do_not_take_all_of_tiny_weights(name: str) -> None:
    # Scales of K-blocks are float16 numbers times integers: here only small integers are left of them.
    weights = (np.random.default_rng(7).standard_normal((16, 256)) * 2e-6).astype(np.float32)
    errors = [encode_ggml(weights, name, encoding=Encoding(effort)).error.nsr for effort in EFFORTS]
    assert max(errors) < {2: 0.1, 3: 0.03}.get(FORMATS[name].bits, 0.01)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_value_that_is_not_finite_is_found(
    kernels: Any, dtype: np.dtype, patterns: Patterns, name: str, value: float
) -> None:
    weights = np.ones((3, 5120), dtype)
    weights[1, 4321] = weights[2, 0] = value
    source, is_half = patterns(weights)
    data = encode(kernels, source, is_half, weights.shape, name, "fast")
    assert data[0] == 9441


def test_columns_that_count_more_lose_less(name: str) -> None:
    rng = np.random.default_rng(5)
    weights = rng.standard_normal((32, 1024)).astype(np.float32)
    counts = np.where(rng.random(1024) < 0.1, 50.0, 1.0).astype(np.float32)
    plain, weighted = (
        weights
        - referee(encode_ggml(weights, name, encoding=Encoding("normal", w)).data, name).reshape(
            weights.shape
        )
        for w in (None, counts)
    )
    assert (counts * weighted.astype(np.float64) ** 2).sum() < 0.97 * (
        counts * plain.astype(np.float64) ** 2
    ).sum()
    alike, none = (Encoding("normal", w) for w in (np.full(1024, 7.0, np.float32), None))
    assert encode_ggml(weights, name, encoding=alike).data.tobytes() == (
        encode_ggml(weights, name, encoding=none).data.tobytes()
    )


def test_more_effort_loses_less(name: str) -> None:
    weights = np.random.default_rng(6).standard_normal((64, 1024)).astype(np.float32)
    fast, normal, best = (
        encode_ggml(weights, name, encoding=Encoding(effort)).error.noise for effort in EFFORTS
    )
    assert best <= normal < fast


def test_weights_beyond_float16_are_cut_off_and_counted_as_lost(name: str) -> None:
    weights = np.full((1, 256), 1e30, np.float32)
    weights[0, ::2] = -1e30
    encoded = encode_ggml(weights, name)
    decoded = referee(encoded.data, name)
    assert np.isfinite(decoded).all()
    assert np.abs(decoded).max() > 65504
    assert 0.99 < encoded.error.nsr <= 1.0
