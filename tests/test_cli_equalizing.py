"""``workbench equalize``: it writes a checkpoint that the other commands take, or says why not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from workbench.__main__ import run

Capture = pytest.CaptureFixture[str]


def test_a_checkpoint_is_written_and_taken(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out"
    command = ["equalize", "zoo:digits-dit", str(out), "--calibration", "zoo:digits-dit", "--bits", "3"]
    assert run([*command, "--group-size", "64", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["output"] == str(out)
    assert len(facts["sites"]) == 10
    assert (
        facts["summary"].endswith("of 10 exact folds were made, α from 0.1 to 0.4")
        or "exact folds" in facts["summary"]
    )
    calibration = facts["calibration"]
    assert (
        run(["plan", str(out), "--bpw", "3", "--calibration", calibration, "-o", str(tmp_path / "p.yaml")])
        == 0
    )
    assert run(["quantize", str(out), str(tmp_path / "q"), "--plan", str(tmp_path / "p.yaml")]) == 0
    assert run(["verify", str(tmp_path / "q"), "--source", str(out)]) == 0


def test_every_site_is_shown_with_its_verdict(tmp_path: Path, capsys: Capture) -> None:
    arguments = ["equalize", "zoo:digits-dit", str(tmp_path / "out"), "--calibration", "zoo:digits-dit"]
    assert run([*arguments, "--target", "mlx"]) == 0
    printed = capsys.readouterr().out
    assert "proj_out_1 → proj_out_2" in printed
    assert "refused, as no fold takes 5% off" in printed
    assert (
        f"Next: workbench analyze {tmp_path / 'out'} --calibration {tmp_path / 'out' / 'calibration.parquet'}"
        in printed
    )


def test_what_is_wrong_is_said(tmp_path: Path, capsys: Capture) -> None:
    def fails(*arguments: str) -> tuple[int, str]:
        code = run(["equalize", "zoo:digits-dit", str(tmp_path / "out"), *arguments])
        return code, capsys.readouterr().err

    assert fails()[0] == 2
    code, message = fails("--calibration", "zoo:digits-dit", "--alpha", "2")
    assert code == 2
    assert "alpha is 2.0; allowed: from 0 to 1" in message
    code, message = fails("--calibration", "zoo:digits-dit", "--bits", "9")
    assert code == 2
    assert "--bit-width is 9" in message
    code, message = fails("--calibration", "zoo:stdlib-mdlm")
    assert code == 1
    assert "other weights" in message
    code, message = fails("--calibration", "zoo:digits-dit", "--alpha", "0")
    assert code == 1
    assert "none of 10 exact folds was made" in message
    assert list(tmp_path.iterdir()) == []
