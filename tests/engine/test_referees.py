"""Verifying by the runtime's own package: it is said which decoded, and a disagreement is a problem."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import ml_dtypes
import mlx.core as mx
import numpy as np
import pytest

import workbench as wb
from workbench.checkpoint import DTYPES, open_checkpoint
from workbench.engine.verification.runtime_check import compare
from workbench.formats import target_named

NAMES = {
    "gguf": "gguf.dequantize (gguf ",
    "mlx": "mlx.core.load and mlx.core.dequantize (mlx ",
    "compressed-tensors": "compressed-tensors 0.",
    "safetensors": "safetensors 0.",
    "parquet": "ArrowQuant Workbench",
}


@pytest.fixture
def source(make_checkpoint: Callable[..., Path]) -> Path:
    return make_checkpoint()


@pytest.fixture
def export(source: Path, tmp_path: Path) -> Callable[..., Path]:
    def export(target: Any, **settings: Any) -> Path:
        config = wb.DiffusionQuantConfig(target=target, min_accuracy=0.0, group_size=32, **settings)
        wb.DiffusionOrchestrator(config).run(source, tmp_path / "out")
        return tmp_path / "out"

    return export


@pytest.mark.parametrize("target", NAMES)
@pytest.mark.parametrize("bits", [3, 8])
def test_the_runtimes_decoder_agrees_and_is_named(
    export: Callable[..., Path], source: Path, target: str, bits: int, small_parts: None
) -> None:
    out = export(target, bit_width=bits, all_widths=True)
    outcome = wb.verify(out, source)
    assert outcome.ok
    assert outcome.decoder.startswith(NAMES[target])
    choices = wb.load(out).plan.choices
    assert [layer.name for layer in outcome.by_layer] == list(choices)
    reported = {layer["name"]: layer["nsr"] for layer in wb.load(out).report["layers"]}
    with open_checkpoint(source) as checkpoint:
        dtypes = {name: DTYPES[info.dtype].name for name, info in checkpoint.tensors.items()}
    for layer in outcome.by_layer:
        is_judged = target != "parquet" and layer.scheme != "keep"
        # Most packages decode in one step, of which only the result is rounded; MLX rounds a product before it adds.
        is_exact = target != "mlx" or layer.arithmetic == "float32"
        assert (layer.max_difference is None) == (not is_judged)
        assert not is_judged or not is_exact or layer.max_difference == 0.0
        assert layer.arithmetic is None or target != "mlx" or layer.arithmetic == dtypes[layer.name]
        # The package computes in the dtype of the scale; we do not round, and neither does the report.
        assert layer.exact_nsr == pytest.approx(reported[layer.name], rel=1e-4)
        assert layer.nsr == pytest.approx(reported[layer.name], rel=0.1, abs=4e-5)
    document = outcome.to_dict()["by_layer"]
    assert [entry["max_difference"] for entry in document] == [x.max_difference for x in outcome.by_layer]
    json.dumps(document, allow_nan=False)


def test_without_the_package_we_decode_and_say_so(
    export: Callable[..., Path], source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = export("mlx")
    monkeypatch.setitem(sys.modules, "mlx.core", None)
    outcome = wb.verify(out, source)
    assert outcome.ok
    assert outcome.decoder == "ArrowQuant Workbench (mlx is not installed)"
    assert all(layer.max_difference is None for layer in outcome.by_layer)


def test_a_disagreement_is_a_problem(
    export: Callable[..., Path], source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = export("mlx")
    from workbench.engine import referees

    decode = referees.MlxReferee.decode
    name = "transformer_blocks.1.ff.net.2.weight"

    def differ(self: Any, layer: str, start: int, stop: int) -> Any:
        found = decode(self, layer, start, stop)
        return replace(found, weights=found.weights + np.float16(1e-3)) if layer == name else found

    monkeypatch.setattr(referees.MlxReferee, "decode", differ)
    (problem,) = wb.verify(out, source).problems
    assert name in problem
    assert "differ from ours by up to 0.00" in problem


@pytest.mark.parametrize("target", ["mlx", "compressed-tensors"])
def test_a_wrong_config_is_a_problem(export: Callable[..., Path], source: Path, target: str) -> None:
    """The tensors may be sound, and a runtime still reads other weights, for config.json says so."""
    out = export(target, scheme="asymmetric")
    config = json.loads((out / "config.json").read_text())
    if target == "mlx":
        config["quantization"]["bits"] = 2
    else:
        config["quantization_config"]["config_groups"]["group_0"]["weights"]["symmetric"] = True
    (out / "config.json").write_text(json.dumps(config))
    outcome = wb.verify(out, source)
    assert not outcome.ok
    assert any("transformer_blocks" in problem for problem in outcome.problems)
    (out / "config.json").write_text("{}")
    assert "cannot read the export" in wb.verify(out, source).problems[0]


@pytest.mark.parametrize("target", ["gguf", "mlx", "compressed-tensors", "safetensors"])
def test_a_kept_tensor_that_the_runtime_gives_otherwise_is_a_problem(
    export: Callable[..., Path], source: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    out = export(target)
    module, _, name = str(target_named(target).referee).partition(":")
    referee = getattr(import_module(module), name)
    read = referee.read

    def as_bytes(self: Any, name: str, start: int, stop: int) -> Any:
        found = read(self, name, start, stop)
        return found.view(np.uint8) if name == "proj_out.bias" else found

    monkeypatch.setattr(referee, "read", as_bytes)
    outcome = wb.verify(out, source)
    assert not outcome.ok
    assert any("proj_out.bias" in problem for problem in outcome.problems)


def test_what_mlx_decodes_in_half_precision_is_what_verify_states(
    make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    """At 8 bits the arithmetic of bfloat16 loses more than the codes."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((64, 256)).astype(ml_dtypes.bfloat16)
    source = make_checkpoint({"blocks.0.fc1.weight": weights})
    config = wb.DiffusionQuantConfig(target="mlx", bit_width=8, group_size=64)
    wb.DiffusionOrchestrator(config).run(source, tmp_path / "out")
    found: Any = mx.load(str(tmp_path / "out" / "model.safetensors"))
    codes, scales, biases = (found[f"blocks.0.fc1.{part}"] for part in ("weight", "scales", "biases"))
    decoded = mx.dequantize(codes, scales, biases, group_size=64, bits=8)
    exact = weights.astype(np.float64)
    lost = np.array(decoded.astype(mx.float32)).astype(np.float64) - exact
    expected = (lost**2).sum() / (exact**2).sum()
    outcome = wb.verify(tmp_path / "out", source)
    (layer,) = outcome.by_layer
    assert layer.nsr == outcome.nsr == pytest.approx(expected, rel=1e-5)
    assert layer.exact_nsr == outcome.exact_nsr < 0.7 * layer.nsr
    assert layer.arithmetic == "bfloat16"
    assert layer.max_difference is not None
    assert layer.max_difference > 0.0


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_one_unit_in_the_last_place_is_let_pass(dtype: Any) -> None:
    theirs = np.array([1.0, -3.0, 1e-3], dtype)
    ours = theirs.astype(np.float32)
    assert compare(ours, theirs) == (0.0, True)
    eps = float(ml_dtypes.finfo(dtype).eps)
    assert compare(ours + np.array([eps, 0, 0], np.float32), theirs) == (pytest.approx(eps), True)
    assert compare(ours + np.array([2 * eps, 0, 0], np.float32), theirs) == (pytest.approx(2 * eps), False)
    assert compare(ours * np.float32(np.inf), theirs) == (np.inf, False)
    # A unit of what was rounded on the way, however small the difference that is left of it.
    summands = np.array([1.0, 3.0, 8.0], np.float32)
    assert compare(ours + np.array([0, 0, 8 * eps], np.float32), theirs, summands)[1]
    assert not compare(ours + np.array([0, 0, 17 * eps], np.float32), theirs, summands)[1]
