"""MLX multiplies by an exported layer as we do by its decoded weights."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from safetensors.numpy import load_file

import workbench as wb

LAYER = "transformer_blocks.1.ff.net.2"


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_a_quantized_matmul_is_ours(tmp_path: Path, bits: int) -> None:
    config = wb.DiffusionQuantConfig(target="mlx", bit_width=bits, group_size=64, min_accuracy=0.0)
    wb.DiffusionOrchestrator(config).run("zoo:digits-dit", tmp_path / "out")
    stored = load_file(tmp_path / "out" / "model.safetensors")
    weights = wb.load(tmp_path / "out")[f"{LAYER}.weight"]
    x = np.random.default_rng(0).standard_normal((5, weights.shape[1])).astype(np.float32)
    scales, biases = (mx.array(stored[f"{LAYER}.{part}"].astype(np.float32)) for part in ("scales", "biases"))
    theirs = mx.quantized_matmul(
        mx.array(x), mx.array(stored[f"{LAYER}.weight"]), scales, biases,
        transpose=True, group_size=64, bits=bits,
    )  # fmt: skip
    ours = x.astype(np.float64) @ weights.T.astype(np.float64)
    assert np.abs(np.array(theirs) - ours).max() <= 2e-6 * np.abs(x).max() * np.abs(weights).sum(axis=1).max()
