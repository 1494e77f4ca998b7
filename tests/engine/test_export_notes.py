"""What a report says where an export is larger than hoped, or a layer is not what was asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import workbench as wb

Make = Callable[..., Path]


def write_float8(path: Path, names: list[str]) -> Path:
    """A file of layers in 8-bit floats."""
    rng = np.random.default_rng(0)
    header: dict[str, Any] = {}
    data = b""
    for name in names:
        raw = rng.standard_normal((256, 256)).astype(ml_dtypes.float8_e4m3fn).tobytes()
        offsets = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": "F8_E4M3", "shape": [256, 256], "data_offsets": offsets}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def notes(source: Path, output: Path, **settings: Any) -> tuple[wb.Report, str]:
    config = wb.DiffusionQuantConfig(**{"min_accuracy": 0.0, **settings})
    report = wb.DiffusionOrchestrator(config).run(source, output)
    return report, "\n".join(report.notes)


@pytest.mark.parametrize("target", ["gguf", "mlx"])
def test_an_export_that_is_larger_than_its_source_says_so(tmp_path: Path, target: str) -> None:
    source = write_float8(tmp_path / "model.safetensors", [f"blocks.{i}.fc1.weight" for i in range(4)])
    report, told = notes(source, tmp_path / "wide", target=target, bit_width=8)
    assert report.actual_bytes > report.source_bytes
    assert f"larger than its source, by {report.actual_bytes / report.source_bytes - 1:.1%}" in told
    _, told = notes(source, tmp_path / "narrow", target=target, bit_width=4)
    assert "larger than its source" not in told


def test_what_is_kept_for_its_dtype_is_not_said_to_be_kept_for_its_shape(tmp_path: Path) -> None:
    source = write_float8(tmp_path / "model.safetensors", ["blocks.0.fc1.weight"])
    report, told = notes(source, tmp_path / "out", target="compressed-tensors", bit_width=8)
    assert report.layers[0].scheme == "keep"
    assert "would take no fewer bytes in compressed-tensors than F8_E4M3" in told
    assert "such a shape" not in told


def test_what_is_kept_for_its_shape_says_so(make_checkpoint: Make, tmp_path: Path) -> None:
    source = make_checkpoint({"blocks.0.fc1.weight": np.random.default_rng(0).standard_normal((64, 50))})
    _, told = notes(source, tmp_path / "out", target="mlx")
    assert "nothing smaller for such a shape" in told


def test_layers_that_fall_back_are_counted_in_the_notes(make_checkpoint: Make, tmp_path: Path) -> None:
    weights = np.random.default_rng(0).standard_normal((64, 256)).astype(np.float32)
    calm = np.where(weights > 0, np.float32(1.0), np.float32(-1.0))
    source = make_checkpoint({"blocks.0.fc1.weight": calm, "blocks.1.fc1.weight": weights})
    report, told = notes(source, tmp_path / "out", target="mlx", bit_width=2, min_accuracy=0.98)
    assert [bool(layer.fallback) for layer in report.layers] == [False, True]
    assert (
        "1 layers are under min_accuracy 0.98 at the width asked for: 0 of them are kept, 1 have more bits"
        in told
    )
    assert "blocks.1.fc1.weight" in told


def test_under_a_plan_no_width_counts_as_missed(make_checkpoint: Make, tmp_path: Path) -> None:
    """The configuration's 4 bits, which nobody asked for here, would be Q5_0 for rows of 96."""
    rng = np.random.default_rng(0)
    source = make_checkpoint({f"blocks.{i}.fc1.weight": rng.standard_normal((64, 96)) for i in range(2)})
    with wb.open(source, target="gguf") as session:
        session.solve(bpw=4.5)
        report = session.export(tmp_path / "session").result()
    assert {layer.scheme for layer in report.layers} == {"Q4_0"}
    assert "instead of" not in "\n".join(report.notes)
    planned = wb.DiffusionOrchestrator(wb.DiffusionQuantConfig(min_accuracy=0.0)).run(
        source, tmp_path / "planned", plan=wb.load(tmp_path / "session").plan
    )
    assert "instead of" not in "\n".join(planned.notes)
    _, told = notes(source, tmp_path / "asked", target="gguf", bit_width=4)
    assert "Q5_0 instead of 4 bits" in told
