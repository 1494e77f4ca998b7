"""A calibration named in the configuration: its tables travel with the export, and it decides mixed precision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from workbench.config import DiffusionQuantConfig
from workbench.engine import DiffusionOrchestrator
from workbench.errors import MetadataError


def record(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "workbench.json").read_text())
    return found


def test_the_configuration_brings_its_calibration_along(tmp_path: Path) -> None:
    config = DiffusionQuantConfig(calibration="zoo:digits-dit", num_time_groups=4)
    report = DiffusionOrchestrator(config).run("zoo:digits-dit", tmp_path / "out")
    tables = record(tmp_path / "out")["activation_tables"]
    assert len(tables["groups"]) == 4
    assert not any("time_aware" in note for note in report.notes)


def test_mixed_precision_is_priced_by_it(tmp_path: Path) -> None:
    plans = {}
    for name, calibration in {"weights": None, "image": "zoo:digits-dit"}.items():
        config = DiffusionQuantConfig(
            calibration=calibration, enable_mixed_precision=True, target_model_size_mb=2.0, min_accuracy=0
        )
        DiffusionOrchestrator(config).run("zoo:digits-dit", tmp_path / name)
        plans[name] = record(tmp_path / name)["plan"]
    assert plans["weights"]["layers"] != plans["image"]["layers"]
    assert plans["image"]["predicted"]["damage"] < 0.1 < plans["weights"]["predicted"]["damage"], (
        "images, and weights"
    )


def test_switched_off_it_is_said_to_be_off(tmp_path: Path) -> None:
    config = DiffusionQuantConfig(calibration="zoo:digits-dit", enable_time_aware=False, enable_spatial=False)
    report = DiffusionOrchestrator(config).run("zoo:digits-dit", tmp_path / "out")
    assert record(tmp_path / "out")["activation_tables"] is None
    assert "calibration is off: enable_time_aware and enable_spatial are false." in report.notes


def test_more_groups_than_buckets_are_capped_and_reported(tmp_path: Path) -> None:
    config = DiffusionQuantConfig(calibration="zoo:digits-dit", num_time_groups=100)
    report = DiffusionOrchestrator(config).run("zoo:digits-dit", tmp_path / "out")
    assert any("100 time groups were asked for" in note for note in report.notes)


def test_a_damaged_file_stops_the_run_before_anything_is_written(tmp_path: Path) -> None:
    broken = tmp_path / "records.parquet"
    broken.write_bytes(b"PAR1 and then nothing")
    with pytest.raises(MetadataError, match=r"records\.parquet"):
        DiffusionOrchestrator(DiffusionQuantConfig(calibration=str(broken))).run(
            "zoo:digits-dit", tmp_path / "out"
        )
    assert not (tmp_path / "out").exists()
