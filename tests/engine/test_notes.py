"""Guards the notes of a report: every layer of a note can be had, and what nobody set does not come first."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import workbench as wb
from workbench.__main__ import run

Make = Callable[..., Path]


def test_a_note_on_many_layers_keeps_the_whole_list(
    make_checkpoint: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"blocks.{block}.fc1.weight" for block in range(7)]
    source = make_checkpoint({name: np.ones((64, 60), np.float32) for name in names})  # no multiple of 32
    given = ["quantize", str(source), str(tmp_path / "out"), "--target", "mlx", "--json"]
    assert run(given) == 0
    report = json.loads(capsys.readouterr().out)
    (note,) = (note for note in report["notes"] if "and 4 more: kept in the source's dtype" in note)
    assert report["note_layers"] == {note: names}
    assert wb.load(tmp_path / "out").report["note_layers"] == {note: names}


def test_what_the_user_set_in_vain_is_said_with_the_rest(make_checkpoint: Make, tmp_path: Path) -> None:
    config = wb.DiffusionQuantConfig(enable_time_aware=True, keep=["*nothing*", "role:embedding"])
    report = wb.DiffusionOrchestrator(config).run(make_checkpoint(), tmp_path / "out")
    assert "keep: '*nothing*' matches no layer." in report.notes
    assert report.notes.index("enable_time_aware is off: there is no calibration.") < len(report.notes) - 1
    assert report.notes[-1] == "enable_spatial is off: there is no calibration."
    (kept,) = (layer for layer in report.layers if layer.role == "embedding")
    assert kept.scheme == "keep"
