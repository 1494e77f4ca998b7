"""Guards quantization with an integer zero point: compiled and portable kernels agree to the bit, rows too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from workbench.kernels import Kernels, load_portable, loading
from workbench.quantize.affine.zero_point import decode_zero_point, encode_zero_point, zero_point_error

portable = load_portable("for comparison")

SHAPES = [(1, 1), (3, 17), (2, 128), (4, 4096), (2, 4097), (1, 8492)]


@pytest.mark.parametrize("symmetric", [False, True], ids=["asymmetric", "symmetric"])
def test_parity_on_hostile_values(
    compiled: Kernels, kind: str, dtype: np.dtype, make: Callable, symmetric: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    generator = np.random.default_rng(2)
    for seed, shape in enumerate(SHAPES):
        bits = int(generator.integers(2, 9))
        sizes = [size for size in (32, 64, 128) if shape[1] % size == 0]
        for size in (*sizes, shape[1]):
            weights = make(kind, shape, dtype, seed)
            found: list[Any] = []
            for kernels in (compiled, portable):
                monkeypatch.setattr(loading, "_choose", lambda kernels=kernels: kernels)
                encoded = encode_zero_point(weights, bits, size, symmetric, dtype)
                stored = encoded.codes, encoded.scales, encoded.origins
                decoded = decode_zero_point(*stored, shape[1], bits, size)
                assert np.isfinite(decoded).all()
                with np.errstate(over="ignore"):
                    assert np.isfinite(decoded.astype(dtype)).all(), (
                        "the runtime rounds to the dtype of the scale"
                    )
                found.append([*stored, decoded])
                error = zero_point_error(weights, *stored, bits, size)
                # Encoding decodes as q·s − z·s, whose float32 roundings are not those of (q − z)·s.
                np.testing.assert_allclose(
                    encoded.error.noise, error.noise, rtol=1e-4, atol=1e-9 * error.signal
                )
            for a, b in zip(*found, strict=True):
                assert a.tobytes() == b.tobytes(), (shape, bits, size)
