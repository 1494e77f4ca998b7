"""``enable_entropy_adaptation``: ArrowQuant V2's rule chooses the width that each layer is to have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import workbench as wb
from workbench.checkpoint import open_checkpoint
from workbench.thermo import entropy_widths, profile

Make = Callable[..., Path]


def layers(seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """Four layers whose Ĥ falls from near 1 to near 0: even, normal, and with ever larger outliers."""
    rng = np.random.default_rng(seed)

    def with_outliers(size: float) -> np.ndarray[Any, Any]:
        weights = rng.standard_normal((96, 256))
        weights[::8, 0] *= size
        return weights.astype(np.float32)

    return {
        "blocks.0.attn.to_q.weight": rng.uniform(-1, 1, (96, 256)).astype(np.float32),
        "blocks.0.attn.to_k.weight": rng.standard_normal((96, 256)).astype(np.float32),
        "blocks.0.attn.to_v.weight": with_outliers(16),
        "blocks.0.attn.to_out.0.weight": with_outliers(600),
    }


def run(source: str | Path, output: Path, **settings: Any) -> wb.Report:
    config = wb.DiffusionQuantConfig(**{"enable_entropy_adaptation": True, "min_accuracy": 0.0, **settings})
    return wb.DiffusionOrchestrator(config).run(source, output)


@pytest.mark.parametrize("streaming", [True, False])
def test_the_width_follows_from_the_entropy_in_the_report(
    make_checkpoint: Make, tmp_path: Path, streaming: bool
) -> None:
    report = run(make_checkpoint(layers()), tmp_path / "out", bit_width=6, enable_streaming=streaming)
    found = [(layer.entropy, layer.bits) for layer in report.layers if layer.entropy is not None]
    assert len(found) == len(report.layers)
    for entropy, bits in found:
        assert bits == (8 if entropy < 0.5 else 4 if entropy < 0.7 else 2)
    assert [bits for _, bits in sorted(found, reverse=True)] == [2, 2, 4, 8]
    assert wb.load(tmp_path / "out").plan.made_by["method"] == "entropy rule"


def test_on_a_trained_model_it_is_the_policy_of_that_name(tmp_path: Path) -> None:
    report = run("zoo:digits-dit", tmp_path / "out")
    with open_checkpoint("zoo:digits-dit") as checkpoint:
        entropy = profile(checkpoint)["entropy"].to_numpy()
    assert [layer.entropy for layer in report.layers] == pytest.approx(entropy, rel=1e-9)
    widths = {layer.bits: width for layer, width in zip(report.layers, entropy_widths(entropy), strict=True)}
    assert widths == {2: 2, 16: 2}, "no layer of this model is below 0.7; one of 4 columns is kept"


def test_named_and_sensitive_layers_come_first(make_checkpoint: Make, tmp_path: Path) -> None:
    tensors = layers()
    tensors["blocks.0.attn.to_v.weight"][3, 5] = np.nan  # kept: nobody measures it
    report = run(
        make_checkpoint(tensors),
        tmp_path / "out",
        layer_bit_widths={"*to_q*": 5},
        skip_sensitive_layers=True,
        sensitive_layer_names=["blocks.0.attn.to_v.weight"],
    )
    bits = {layer.name.split(".")[3]: layer.bits for layer in report.layers}
    assert bits == {"to_q": 5, "to_k": 2, "to_v": 32, "to_out": 8}


def test_a_layer_under_the_floor_falls_back(make_checkpoint: Make, tmp_path: Path) -> None:
    source = make_checkpoint(layers())
    report = run(source, tmp_path / "out", min_accuracy=0.94)
    by_name = {layer.name.split(".")[3]: layer for layer in report.layers}
    assert by_name["to_q"].bits == 2, "evenly spread weights need no more"
    assert by_name["to_k"].fallback[0].startswith("int2 (0.8")
    assert by_name["to_k"].bits == 4
    assert report.met
    with pytest.raises(wb.QuantizationError, match="at 2 bits, under min_accuracy"):
        run(source, tmp_path / "strict", min_accuracy=0.94, fail_fast=True)


def test_not_finite_weights_are_named(make_checkpoint: Make, tmp_path: Path) -> None:
    tensors = layers()
    tensors["blocks.0.attn.to_k.weight"][3, 5] = np.inf
    with pytest.raises(wb.ValidationError, match="row 3, column 5") as caught:
        run(make_checkpoint(tensors), tmp_path / "out")
    assert caught.value.tensor == "blocks.0.attn.to_k.weight"


def test_a_plan_goes_before_the_rule(make_checkpoint: Make, tmp_path: Path) -> None:
    source = make_checkpoint(layers())
    run(source, tmp_path / "first", enable_entropy_adaptation=False)
    plan = wb.load(tmp_path / "first").plan
    config = wb.DiffusionQuantConfig(enable_entropy_adaptation=True)
    report = wb.DiffusionOrchestrator(config).run(source, tmp_path / "out", plan=plan)
    assert "enable_entropy_adaptation is off: a plan is executed as it is." in report.notes
    assert {layer.bits for layer in report.layers} == {4}
