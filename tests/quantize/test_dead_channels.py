"""Channels that a calibration never saw fire: their weights must not be given up for those of the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import workbench as wb
from workbench.calibration import CalibrationRecords, LayerRecord, StepStatistics
from workbench.checkpoint import open_checkpoint
from workbench.formats import TargetSettings, target_named
from workbench.quantize import Encodings

Array = np.ndarray[Any, Any]
Make = Callable[..., Path]
DEAD = {"proj_in.weight": range(12, 16), "blocks.0.ff.net.2.weight": range(0, 256, 3)}
NEVER_CALLED = "proj_aux.weight"


@pytest.fixture
def source(make_checkpoint: Make) -> Path:
    rng = np.random.default_rng(0)
    shapes = {"proj_in.weight": (64, 16), "blocks.0.ff.net.2.weight": (64, 256), NEVER_CALLED: (32, 64)}
    return make_checkpoint(
        {name: (rng.standard_normal(shape) * 0.1).astype(np.float32) for name, shape in shapes.items()}
    )


def records_of(source: Path, quiet: float = 0.0) -> CalibrationRecords:
    """Inputs of unit power, but for the channels that are dead, or as good as dead."""
    layers = {}
    with open_checkpoint(source) as checkpoint:
        for name, dead in DEAD.items():
            cols = checkpoint.tensors[name].shape[1]
            power = np.random.default_rng(1).uniform(0.3, 3.0, (1, cols)).astype(np.float32)
            power[:, list(dead)] = quiet
            layers[name] = LayerRecord(
                kind="linear",
                steps=StepStatistics(np.full(1, 10), *np.ones((6, 1))),
                count=np.array([10], np.int64),
                mean=np.zeros((1, cols), np.float32),
                second_moment=power,
                absmax=np.sqrt(power),
                output_energy=np.array([1.0]),
                sensitivity={},
            )
        axis, shares = np.zeros((1, 2)), np.ones(1)
        return CalibrationRecords(checkpoint.fingerprint, "timestep", axis, shares, axis, shares, layers)


@pytest.mark.parametrize("quiet", [0.0, 1e-6])
@pytest.mark.parametrize("target", ["parquet", "gguf", "mlx", "compressed-tensors"])
def test_dead_channels_come_back_as_without_the_calibration(source: Path, target: str, quiet: float) -> None:
    """By less than four times the noise, at every width, scheme and effort; and never as badly as zeros would."""
    records = records_of(source, quiet)
    found = target_named(target, TargetSettings(all_widths=True, scheme="asymmetric"))
    with open_checkpoint(source) as checkpoint:
        layers = {layer.name: layer for layer in checkpoint.layers}
        for name, dead in DEAD.items():
            layer, weights = layers[name], np.array(checkpoint.view(name))
            for effort in ("normal", "best"):
                for option in found.options(layer):
                    if option.is_kept or option.group_size not in (16, 64, 256, 32):
                        continue
                    noise = []
                    for given in (records, None):
                        encoder = found.encoder(checkpoint, Encodings(effort, given))
                        decoded = encoder.encode(layer, option, weights).decoded
                        lost, signal = (decoded - weights)[:, list(dead)], weights[:, list(dead)]
                        noise.append(float(np.square(lost).sum() / np.square(signal).sum()))
                    assert noise[0] < 1.0, option
                    assert noise[0] <= 4 * noise[1], option


def test_a_layer_that_never_ran_is_named(source: Path, tmp_path: Path) -> None:
    records = records_of(source)
    records.save(tmp_path / "records.parquet")
    config = wb.DiffusionQuantConfig(
        target="mlx", effort="best", calibration=str(tmp_path / "records.parquet"), min_accuracy=0.0
    )
    report = wb.DiffusionOrchestrator(config).run(source, tmp_path / "out")
    (note,) = [note for note in report.notes if NEVER_CALLED in note]
    assert "no record of 1 of 3 layers" in note
    assert "judged by its weights" in note
