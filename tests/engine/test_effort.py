"""Efforts through the engine: plans say them, exports need what they need, and what is predicted is what is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import workbench as wb
from workbench.calibration import CalibrationRecords
from workbench.cli import app
from workbench.engine import DiffusionOrchestrator, verify
from workbench.engine.output.record import read_record
from workbench.errors import ArgumentError, CancelledError, ValidationError
from workbench.plan import Plan

MODEL = "zoo:digits-dit"
DIGEST = CalibrationRecords.load(MODEL).digest


def run(output: Path, plan: Plan | None = None, resume: bool = False, **settings: object) -> wb.Report:
    # Folds would give the export a calibration of its own.
    fixed = {"min_accuracy": 0.0, "group_size": 64, "enable_spatial": False}
    config = wb.DiffusionQuantConfig.model_validate({**fixed, **settings})
    return DiffusionOrchestrator(config).run(MODEL, output, plan=plan, resume=resume)


@pytest.mark.parametrize("target", ["mlx", "parquet"])
def test_an_effort_gives_less_noise_in_the_same_format(target: str, tmp_path: Path) -> None:
    noise = {}
    for effort in ("fast", "normal", "best"):
        report = run(tmp_path / effort, target=target, effort=effort)
        noise[effort] = report.nsr
        assert verify(tmp_path / effort, MODEL).ok
        export = wb.load(tmp_path / effort)
        assert (export.plan.effort, export.plan.weighted_by) == (effort, None)
        sizes = {option.nbytes for option in export.plan.choices.values()}
        assert sizes == {option.nbytes for option in wb.load(tmp_path / "fast").plan.choices.values()}
    assert noise["best"] < noise["normal"] < 0.9 * noise["fast"]


def test_a_calibration_weighs_the_search_and_the_plan_says_so(tmp_path: Path) -> None:
    run(tmp_path / "plain", target="mlx", effort="normal")
    run(tmp_path / "weighed", target="mlx", effort="normal", calibration=MODEL)
    plain, weighed = wb.load(tmp_path / "plain"), wb.load(tmp_path / "weighed")
    assert plain.plan.weighted_by is None
    assert weighed.plan.weighted_by == weighed.payload.plan.weighted_by == DIGEST
    assert plain.plan.digest != weighed.plan.digest
    name = "transformer_blocks.0.attn1.to_q.weight"
    assert (plain[name] != weighed[name]).any()
    assert verify(tmp_path / "weighed", MODEL).ok


def test_a_plan_brings_its_effort_and_needs_its_calibration(tmp_path: Path) -> None:
    run(tmp_path / "first", target="mlx", effort="normal", calibration=MODEL)
    wb.load(tmp_path / "first").plan.save(tmp_path / "plan.yaml")
    plan = Plan.load(tmp_path / "plan.yaml")
    with pytest.raises(ArgumentError, match="calibration=…") as caught:
        run(tmp_path / "refused", plan)
    assert caught.value.key == "calibration"
    with pytest.raises(ValidationError, match="other weights"):
        run(tmp_path / "refused", plan, calibration="zoo:stdlib-mdlm")
    assert not (tmp_path / "refused").exists()
    report = run(tmp_path / "again", plan, calibration=MODEL, effort="best")
    assert "effort best is off: the plan says normal." in report.notes
    first, again = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("first", "again"))
    assert first == again


def test_gguf_searches_unless_told_otherwise(tmp_path: Path) -> None:
    for target, asked, effort in (("gguf", None, "normal"), ("gguf", "fast", "fast"), ("mlx", None, "fast")):
        name = f"{target}-{asked}"
        run(tmp_path / name, target=target, effort=asked)
        assert wb.load(tmp_path / name).plan.effort == effort
        report = run(tmp_path / f"{name}-again", wb.load(tmp_path / name).plan)
        assert not any("effort" in note for note in report.notes)
    with wb.open(MODEL, "gguf", cache=tmp_path / "cache") as session:
        assert session.plan.effort == "normal"
        session.retarget("mlx")
        assert session.plan.effort == "fast"


def test_decoded_weights_that_were_weighed_are_verified_with_the_calibration(tmp_path: Path) -> None:
    for name, folds in (("plain", False), ("folded", True)):
        settings: dict[str, Any] = {
            "target": "safetensors",
            "effort": "normal",
            "calibration": MODEL,
            "enable_spatial": folds,
        }
        run(tmp_path / name, **settings)
        assert (read_record(tmp_path / name).folds is not None) == folds
        assert verify(tmp_path / name, MODEL, calibration=MODEL).ok
        (problem, *_) = verify(tmp_path / name, MODEL).problems
        assert "calibration=…" in problem
    with pytest.raises(ArgumentError, match="the one given is"):
        verify(tmp_path / "plain", MODEL, calibration="zoo:stdlib-mdlm")
    done = CliRunner().invoke(
        app, ["verify", str(tmp_path / "plain"), "--source", MODEL, "--calibration", MODEL]
    )
    assert done.exit_code == 0, done.output
    assert CliRunner().invoke(app, ["verify", str(tmp_path / "plain"), "--source", MODEL]).exit_code == 1


def test_an_interrupted_run_is_resumed_with_the_same_effort_only(tmp_path: Path) -> None:
    def stop(fraction: float, message: str) -> None:
        if message.startswith("writing"):
            raise CancelledError("stop")

    config = wb.DiffusionQuantConfig(effort="normal", min_accuracy=0.0, group_size=64, enable_spatial=False)
    with pytest.raises(CancelledError):
        DiffusionOrchestrator(config).run(MODEL, tmp_path / "out", resume=True, callback=stop)
    with pytest.raises(ValidationError, match="another configuration"):
        run(tmp_path / "out", resume=True, effort="best")
    run(tmp_path / "out", resume=True, effort="normal")
    run(tmp_path / "whole", effort="normal")
    for part in (tmp_path / "whole").glob("*.parquet"):
        assert part.read_bytes() == (tmp_path / "out" / part.name).read_bytes()


def test_what_was_priced_is_what_is_written(tmp_path: Path) -> None:
    with wb.open(
        MODEL, "mlx", exact=True, effort="normal", calibration=MODEL, group_size=64, cache=tmp_path / "cache"
    ) as session:
        session.set_bits("*", 3)
        plan, options = session.plan, session.options.to_pylist()
        report = session.export(tmp_path / "out").result()
        assert session.predict().seconds > 0
    assert (plan.effort, plan.weighted_by) == ("normal", DIGEST)
    planner = {row["layer"]: row["nsr"] for row in options if row["bits"] == 3 and row["group_size"] == 64}
    written = {layer.name: layer.nsr for layer in report.layers if layer.bits == 3 and layer.group_size == 64}
    assert len(written) > 20
    assert written == pytest.approx({name: planner[name] for name in written}, rel=1e-6)


def test_mixed_precision_is_solved_at_the_effort_of_the_export(tmp_path: Path) -> None:
    report = run(
        tmp_path / "out", target="mlx", effort="normal", calibration=MODEL,
        enable_mixed_precision=True, target_model_size_mb=2.0,
    )  # fmt: skip
    plan = wb.load(tmp_path / "out").plan
    assert (plan.effort, plan.weighted_by) == ("normal", DIGEST)
    assert report.actual_bytes <= 2_000_000
