"""The engine works on a checkpoint that is open: nothing is opened or measured twice, and a unit is a plain value."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import workbench as wb
from workbench.checkpoint import open_checkpoint
from workbench.checkpoint.readers.byte_source import LocalFile
from workbench.engine.resolution import surveys
from workbench.errors import ValidationError
from workbench.formats import target_named

Make = Callable[..., Path]

NAMES = ["parquet", "mlx", "compressed-tensors"]


@pytest.fixture
def opens(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are opened as checkpoints or payloads, one entry each time."""
    found: list[Path] = []
    original = LocalFile.__init__

    def count(self: LocalFile, path: Path, **more: Any) -> None:
        found.append(path)
        original(self, path, **more)

    monkeypatch.setattr(LocalFile, "__init__", count)
    return found


def test_a_session_and_its_exports_open_the_checkpoint_once(
    make_checkpoint: Make, tmp_path: Path, opens: list[Path]
) -> None:
    source = make_checkpoint()
    with wb.open(source, "parquet", cache=tmp_path / "cache") as session:
        session.export(tmp_path / "first").result(120)
        session.set_bits("*", 8)
        session.export(tmp_path / "second").result(120)
    assert opens == [source / "model.safetensors"]


def test_what_a_session_has_measured_is_not_measured_again(
    make_checkpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_checkpoint()
    with wb.open(source, cache=tmp_path / "cache") as session:
        session.plan.save(tmp_path / "plan.yaml")
        with monkeypatch.context() as patch:
            patch.setattr(surveys, "layer_entropy", lambda *_: pytest.fail("measured again"))
            report = session.export(tmp_path / "out").result(120)
    plan = wb.Plan.load(tmp_path / "plan.yaml")
    again = wb.DiffusionOrchestrator(wb.DiffusionQuantConfig.model_validate({"target": plan.target})).run(
        source, tmp_path / "again", plan=plan
    )
    assert [layer.entropy for layer in report.layers] == [layer.entropy for layer in again.layers]
    assert report.layers == again.layers


def test_a_session_that_is_closed_during_an_export_does_not_break_it(
    make_checkpoint: Make, tmp_path: Path
) -> None:
    with wb.open(make_checkpoint(), cache=tmp_path / "cache") as session:
        checkpoint = session.checkpoint
        job = session.export(tmp_path / "out")
    assert job.result(120).met
    with pytest.raises(ValidationError, match="was closed"):
        checkpoint.read_rows(checkpoint.layers[0].name, 0, 1)


def test_files_stay_open_until_the_last_holder_lets_go(make_checkpoint: Make) -> None:
    checkpoint = open_checkpoint(make_checkpoint())
    name = checkpoint.layers[0].name
    first, second = checkpoint.hold(), checkpoint.hold()
    checkpoint.close()
    with first:
        checkpoint.read_rows(name, 0, 1)
    with second:
        checkpoint.read_rows(name, 0, 1)
    with pytest.raises(ValidationError, match="was closed"):
        checkpoint.read_rows(name, 0, 1)


ELSEWHERE = """
import pickle, sys
from pathlib import Path
import workbench.checkpoint.blocks as blocks, workbench.formats.parquet.writer as parquet
from workbench.checkpoint import open_checkpoint
from workbench.engine.execution.units import write_unit
from workbench.formats import target_named

blocks.BLOCK_WEIGHTS, parquet.ROW_GROUP_BYTES, parquet.PART_BYTES = 2_048, 4_000, 16_384
source, folder, plan, units = pickle.loads(Path(sys.argv[1]).read_bytes())
target = target_named(plan.target)
with open_checkpoint(source) as checkpoint:
    writer = target.writer(target.layout(checkpoint, plan), checkpoint, target.encoder(checkpoint, plan=plan))
    with target.checker(checkpoint, folder, None) as check:
        for unit in units:
            checks = write_unit(unit, writer, check, folder, lambda nbytes: None)
            assert sum(found.nbytes for found in checks) == unit.nbytes
"""
"""Writes and checks units in a process that was told nothing but plain values."""


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("target", NAMES)
def test_another_process_writes_units_to_the_same_bytes(
    make_checkpoint: Make, tmp_path: Path, target: str
) -> None:
    source = make_checkpoint()
    config = wb.DiffusionQuantConfig.model_validate({"target": target, "min_accuracy": 0.0})
    wb.DiffusionOrchestrator(config).run(source, tmp_path / "here")
    plan = wb.load(tmp_path / "here").plan
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    with open_checkpoint(source) as checkpoint:
        found = target_named(target)
        layout = found.layout(checkpoint, plan)
        found.writer(layout, checkpoint, found.encoder(checkpoint, plan=plan)).begin(folder)
        units = list(layout.units)
    assert len(units) > 1 or target != "parquet"
    (tmp_path / "task").write_bytes(pickle.dumps((source, folder, plan, units)))
    subprocess.run([sys.executable, "-c", ELSEWHERE, str(tmp_path / "task")], cwd=tmp_path, check=True)
    written = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert written
    assert all((tmp_path / "here" / name).read_bytes() == content for name, content in written.items())
