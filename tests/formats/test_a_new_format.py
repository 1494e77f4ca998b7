"""A format is one module with one record: `toy_fp8` is registered, and everything that takes a target takes it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

import workbench as wb
from workbench.__main__ import run
from workbench.formats import registry, target_names
from workbench.ui.panel import Panel

Make = Callable[..., Path]
TOY = "toy-fp8"


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, registered as long as a test runs, and small blocks and units, so that a tensor has many."""
    spec = spec_from_file_location("toy_fp8", Path(__file__).parent / "toy_fp8.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "toy_fp8", module)
    monkeypatch.setattr(registry, "_FORMATS", dict(registry._FORMATS))
    monkeypatch.setattr("workbench.checkpoint.blocks.BLOCK_WEIGHTS", 2_048)
    monkeypatch.setattr("workbench.formats.placed.UNIT_BYTES", 4_096)
    spec.loader.exec_module(module)
    registry.register(module.FORMAT)
    return module


@pytest.fixture
def source(make_checkpoint: Make) -> Path:
    return make_checkpoint()


@pytest.fixture
def session(source: Path) -> Iterator[wb.Session]:
    with wb.open(source, target=TOY, exact=True) as found:
        yield found


def float8(weights: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What a tensor comes back as, told without the package: the nearest of the 253 numbers of e4m3, scaled."""
    patterns = np.array([code for code in range(128) if code != 127])
    exponent, mantissa = patterns >> 3, patterns & 7
    numbers = np.where(exponent > 0, (1 + mantissa / 8) * 2.0 ** (exponent - 7), mantissa / 8 * 2.0**-6)
    values = weights.astype(np.float32)
    scale = np.float32(np.abs(values).max() / 448)
    scaled = np.abs(values / scale).astype(np.float64)
    at = np.abs(scaled[..., None] - numbers).argmin(axis=-1)
    found: np.ndarray[Any, Any] = (np.sign(values) * numbers[at]).astype(np.float32) * scale
    return found


def test_a_session_opens_solves_and_exports_it(session: wb.Session, source: Path, tmp_path: Path) -> None:
    session.solve(bpw=12)
    assert {option.scheme for option in session.plan.choices.values()} == {"float8", "keep"}
    report = session.export(tmp_path / "out").result()
    assert report.actual_bytes == report.predicted_bytes == session.predict().nbytes
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        assert file.get_tensor("toy_fp8").numpy().tobytes() == b"e4m3", "the marker"
    weights, exported = load_file(source / "model.safetensors"), wb.load(tmp_path / "out")
    assert "toy_fp8" not in exported
    assert set(exported) == set(weights)
    for name, option in session.plan.choices.items():
        if option.is_kept:
            assert np.array_equal(exported[name], weights[name])
            continue
        step = 2.0**-3 * float(np.abs(weights[name].astype(np.float32)).max())
        difference = np.abs(exported[name] - float8(weights[name]))
        assert difference.max() <= step, name
        assert np.count_nonzero(difference > 1e-7) <= weights[name].size // 500, "halfway between two numbers"
    outcome = wb.verify(tmp_path / "out", source)
    assert outcome.ok, outcome.problems
    assert outcome.decoder == "torch.float8_e4m3fn"


def test_what_is_priced_is_what_is_exported(session: wb.Session, tmp_path: Path) -> None:
    session.set_bits("*", 8)
    planner = {row["layer"]: row["nsr"] for row in session.options.to_pylist() if row["scheme"] == "float8"}
    report = session.export(tmp_path / "out").result()
    for layer in report.layers:
        if layer.scheme == "float8":
            assert layer.nsr == pytest.approx(planner[layer.name], rel=1e-4)


def test_each_tensor_is_prepared_once(
    session: wb.Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, toy: Any
) -> None:
    """In an export: not for each block, and not again for what is read back."""
    session.set_bits("*", 8)
    plan, prepared = session.plan, []
    original = toy.Float8Codec.prepare
    monkeypatch.setattr(
        toy.Float8Codec, "prepare", lambda self, *of: prepared.append(of[0].name) or original(self, *of)
    )
    config = wb.DiffusionQuantConfig(target=TOY, min_accuracy=0.0)
    wb.DiffusionOrchestrator(config).run(session.checkpoint.path, tmp_path / "out", plan=plan)
    assert sorted(prepared) == sorted(name for name, one in plan.choices.items() if not one.is_kept)


def test_an_interrupted_export_is_resumed(
    session: wb.Session, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.set_bits("*", 8)
    config = wb.DiffusionQuantConfig(target=TOY, min_accuracy=0.0, num_threads=1)
    orchestrator = wb.DiffusionOrchestrator(config)
    orchestrator.run(source, tmp_path / "whole", plan=session.plan)
    journal = tmp_path / ".out.partial" / "journal.jsonl"

    def stop(fraction: float, message: str) -> None:
        if journal.is_file() and journal.read_text().count('"kind": "unit"') >= 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("workbench.work.REFRESH_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        orchestrator.run(source, tmp_path / "out", plan=session.plan, resume=True, callback=stop)
    assert journal.read_text().count('"kind": "unit"') >= 3
    orchestrator.run(source, tmp_path / "out", plan=session.plan, resume=True)
    whole, resumed = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "out"))
    assert resumed == whole


def test_a_wrong_marker_is_damage(session: wb.Session, source: Path, tmp_path: Path) -> None:
    session.export(tmp_path / "out").result()
    path = tmp_path / "out" / "model.safetensors"
    path.write_bytes(path.read_bytes().replace(b"e4m3", b"e5m2"))
    (problem,) = wb.verify(tmp_path / "out", source).problems
    assert "tensor 'toy_fp8' does not hold what it must" in problem


def test_the_panel_offers_it_and_a_session_switches_to_it(source: Path, tmp_path: Path) -> None:
    with wb.open(source, target="mlx", exact=True) as session:
        panel = Panel(session, folder=tmp_path, confined=True)
        assert panel.state()["header"]["targets"] == [*target_names()]
        assert TOY in target_names()
        session.retarget(TOY)
        assert session.target.title == "toy float8"
        assert TOY in session.script[-1]
        panel.close()


def test_its_plan_can_be_tried_as_dequantized_safetensors(
    session: wb.Session, source: Path, tmp_path: Path
) -> None:
    session.set_bits("*", 8)
    config = wb.DiffusionQuantConfig(target="safetensors", min_accuracy=0.0)
    wb.DiffusionOrchestrator(config).run(source, tmp_path / "tried", plan=session.plan)
    session.export(tmp_path / "out").result()
    tried, real = wb.load(tmp_path / "tried"), wb.load(tmp_path / "out")
    weights = load_file(source / "model.safetensors")
    for name in session.plan.choices:
        assert np.array_equal(tried[name].astype(weights[name].dtype), real[name].astype(weights[name].dtype))
    assert wb.verify(tmp_path / "tried", source).ok


def test_the_command_line_takes_it(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["quantize", "--help"]) == 0
    assert "toy-fp8(ofthetests)" in "".join(capsys.readouterr().out.split())
    assert run(["quantize", str(source), str(tmp_path / "out"), "--target", TOY, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["target"] == TOY
    assert run(["verify", str(tmp_path / "out"), "--source", str(source)]) == 0
    assert run(["quantize", str(source), str(tmp_path / "two"), "--target", "toyfp8"]) == 2
    assert "did you mean toy-fp8?" in capsys.readouterr().err
