"""Verifying by the runtime's own package: it is said which decoded, and a disagreement is a problem."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import workbench as wb
from workbench.pipeline.judge import compare

NAMES = {
    "gguf": "gguf.dequantize (gguf ",
    "mlx": "mlx.core.dequantize (mlx ",
    "compressed-tensors": "compressed-tensors 0.",
    "safetensors": "safetensors 0.",
    "parquet": "ArrowQuant Workbench",
}


@pytest.fixture
def source(make_checkpoint: Callable[..., Path]) -> Path:
    return make_checkpoint()


@pytest.fixture
def export(source: Path, tmp_path: Path) -> Callable[..., Path]:
    def export(target: str, **settings: Any) -> Path:
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
    for layer in outcome.by_layer:
        is_judged = target != "parquet" and layer.scheme != "none"
        assert layer.max_difference == (0.0 if is_judged else None)
        # The package computes in the dtype of the scale; we do not round.
        assert layer.nsr == pytest.approx(reported[layer.name], rel=0.1, abs=2e-5)
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
    from workbench.pipeline import referees

    decode = referees.MlxReferee.decode
    name = "transformer_blocks.1.ff.net.2.weight"

    def differ(self: Any, layer: str, start: int, stop: int) -> Any:
        return decode(self, layer, start, stop) + (1e-3 if layer == name else 0.0)

    monkeypatch.setattr(referees.MlxReferee, "decode", differ)
    (problem,) = wb.verify(out, source).problems
    assert name in problem
    assert "differ from ours by up to 0.001" in problem


@pytest.mark.parametrize("target", ["mlx", "compressed-tensors"])
def test_a_wrong_config_is_a_problem(export: Callable[..., Path], source: Path, target: str) -> None:
    """The tensors may be sound, and a runtime still reads other weights, for config.json says so."""
    out = export(target)
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


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_one_unit_in_the_last_place_is_let_pass(dtype: Any) -> None:
    theirs = np.array([1.0, -3.0, 1e-3], dtype)
    ours = theirs.astype(np.float32)
    assert compare(ours, theirs) == (0.0, True)
    eps = float(ml_dtypes.finfo(dtype).eps)
    assert compare(ours + np.array([eps, 0, 0], np.float32), theirs) == (pytest.approx(eps), True)
    assert compare(ours + np.array([2 * eps, 0, 0], np.float32), theirs) == (pytest.approx(2 * eps), False)
    assert compare(ours * np.float32(np.inf), theirs) == (np.inf, False)
