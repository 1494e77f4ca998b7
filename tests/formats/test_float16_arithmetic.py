"""Weights near the end of float16: runtimes decode in the dtype of the scales, where a product may overflow."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationConfig
from safetensors.torch import load_file

import workbench as wb
from workbench.checkpoint import open_checkpoint
from workbench.formats import target_named

Make = Callable[..., Path]
LAYER = "blocks.0.fc1.weight"
LARGEST = 65504.0


def calm() -> np.ndarray[Any, Any]:
    return (np.random.default_rng(0).standard_normal((64, 256)) * 0.05).astype(np.float16)


def hot() -> np.ndarray[Any, Any]:
    """Rows with outliers of one sign, of both, and of both but no wider apart than float16 reaches."""
    weights = calm()
    weights[3, 70] = LARGEST
    weights[5, 130] = -LARGEST
    weights[7, [10, 20]] = LARGEST, 30000.0
    weights[9, [10, 20]] = 30000.0, -30000.0
    weights[11] = LARGEST
    return weights


def decode(out: Path, target: str) -> np.ndarray[Any, Any]:
    """What the runtime's own package makes of the files."""
    module, config = LAYER.removesuffix(".weight"), json.loads((out / "config.json").read_text())
    if target == "mlx":
        found: Any = mx.load(str(out / "model.safetensors"))
        own = config["quantization"].get(module, config["quantization"])
        if own is False:
            return np.array(found[LAYER])
        codes, scales, biases = (found[f"{module}.{part}"] for part in ("weight", "scales", "biases"))
        return np.array(mx.dequantize(codes, scales, biases, group_size=own["group_size"], bits=own["bits"]))
    stored = load_file(out / "model.safetensors")
    settings = QuantizationConfig(**config["quantization_config"])
    state = {
        name.removeprefix(f"{module}."): tensor for name, tensor in stored.items() if name.startswith(module)
    }
    packer = BaseCompressor.get_value_from_registry(settings.format)
    return np.asarray(packer.decompress(state, settings.config_groups["group_0"])["weight"].numpy())


@pytest.mark.parametrize("effort", ["fast", "normal", "best"])
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(
    ("target", "scheme"),
    [("mlx", "asymmetric"), ("compressed-tensors", "asymmetric"), ("compressed-tensors", "symmetric")],
)
def test_outliers_of_float16_are_decoded_to_finite_weights(
    make_checkpoint: Make, tmp_path: Path, target: str, scheme: str, bits: int, effort: str
) -> None:
    settings: dict[str, Any] = {"target": target, "scheme": scheme, "bit_width": bits, "effort": effort}
    config = wb.DiffusionQuantConfig(group_size=64, min_accuracy=0.0, **settings)
    groups = {}
    for name, weights in (("calm", calm()), ("hot", hot())):
        source = make_checkpoint({LAYER: weights}, name)
        wb.DiffusionOrchestrator(config).run(source, tmp_path / f"{name}-out")
        assert wb.verify(tmp_path / f"{name}-out", source).ok
        decoded = decode(tmp_path / f"{name}-out", target)
        assert decoded.dtype == np.float16
        groups[name] = decoded.reshape(-1, 64).astype(np.float64)
    weights = hot().reshape(-1, 64).astype(np.float64)
    is_struck = np.abs(weights).max(axis=1) > 1.0
    assert np.isfinite(groups["hot"]).all()
    assert (np.abs(groups["hot"]).max(axis=1) <= 2 * np.abs(weights).max(axis=1))[is_struck].all()
    assert np.array_equal(groups["hot"][~is_struck], groups["calm"][~is_struck])
    if (
        scheme == "asymmetric"
    ):  # a scale alone that reaches the largest weight would have the least decoded to -inf
        assert (groups["hot"][np.abs(weights) > 6e4] > 6e4).sum() == (weights > 6e4).sum()


def both_ends(make_checkpoint: Make) -> Path:
    weights = calm()
    weights[3, [70, 71]] = LARGEST, -LARGEST
    return make_checkpoint({LAYER: weights, "blocks.1.fc1.weight": calm()})


def test_a_layer_that_float16_cannot_decode_is_kept_and_named(make_checkpoint: Make, tmp_path: Path) -> None:
    source = both_ends(make_checkpoint)
    config = wb.DiffusionQuantConfig(target="mlx", bit_width=4, group_size=64)
    report = wb.DiffusionOrchestrator(config).run(source, tmp_path / "out")
    assert [layer.scheme for layer in report.layers] == ["keep", "affine"]
    assert any(LAYER in note and "kept" in note and "float16" in note for note in report.notes)
    assert report.actual_bytes == report.predicted_bytes
    assert float(np.abs(decode(tmp_path / "out", "mlx")).max()) == LARGEST
    assert wb.verify(tmp_path / "out", source).ok


def test_a_plan_that_quantizes_it_is_executed_and_told(make_checkpoint: Make, tmp_path: Path) -> None:
    source = both_ends(make_checkpoint)
    target = target_named("mlx")
    with open_checkpoint(source) as checkpoint:
        choices = {layer.name: target.quantized(layer, 8, "", 64) for layer in checkpoint.layers}
        plan = wb.Plan("mlx", choices, checkpoint.fingerprint)
    report = wb.DiffusionOrchestrator(wb.DiffusionQuantConfig(target="mlx")).run(
        source, tmp_path / "out", plan=plan
    )
    assert any(LAYER in note and "cut off" in note for note in report.notes)
    decoded = decode(tmp_path / "out", "mlx")
    assert np.isfinite(decoded).all()
    # Both ends alike.
    assert decoded[3].max() == pytest.approx(-decoded[3].min(), rel=0.01)
    assert wb.verify(tmp_path / "out", source).ok
