"""kill -9 in the middle, then resume: the same bytes, and finished parts are not written again."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import workbench as wb
from workbench.checkpoint.folders.side_files import SideFile

KILLED = """
import os, signal, sys
import workbench.checkpoint.blocks as blocks, workbench.formats.parquet.writer as parquet, workbench.work as work
import workbench as wb
blocks.BLOCK_WEIGHTS, parquet.ROW_GROUP_BYTES, parquet.PART_BYTES = 2_048, 4_000, 16_384
work.REFRESH_SECONDS = 0.0
source, output, after = sys.argv[1], sys.argv[2], sys.argv[3]

def kill(fraction, message):
    folder = os.path.join(os.path.dirname(output), "." + os.path.basename(output) + ".partial")
    journal = os.path.join(folder, "journal.jsonl")
    lines = open(journal).read() if os.path.exists(journal) else ""
    if lines.count('"kind": "' + after + '"') >= 3:
        os.kill(os.getpid(), signal.SIGKILL)

config = wb.DiffusionQuantConfig(min_accuracy=0.0, num_threads=2)
wb.DiffusionOrchestrator(config).run(source, output, callback=kill)
"""


def parts(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("part-*.parquet")}


def kill_after(stage: str, source: Path, output: Path) -> Path:
    """Run in a process of its own that kills itself after three of the stage; the folder that is left."""
    command = [sys.executable, "-c", KILLED, str(source), str(output), stage]
    done = subprocess.run(command, capture_output=True, text=True, cwd=output.parent, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not output.exists()
    partial = output.with_name(f".{output.name}.partial")
    assert partial.is_dir()
    return partial


def orchestrator(**settings: object) -> wb.DiffusionOrchestrator:
    return wb.DiffusionOrchestrator(wb.DiffusionQuantConfig(**{"min_accuracy": 0.0, **settings}))


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("stage", ["survey", "unit"])
def test_resuming_gives_the_uninterrupted_bytes(
    make_checkpoint: Callable[..., Path], tmp_path: Path, stage: str
) -> None:
    source = make_checkpoint()
    whole = orchestrator().run(source, tmp_path / "whole")
    partial = kill_after(stage, source, tmp_path / "out")
    finished = {path.name: path.stat() for path in partial.glob("part-*.parquet")}
    if stage == "unit":
        assert len(finished) >= 3
        with (partial / "journal.jsonl").open("a") as journal:
            journal.write('{"kind": "un')  # as a kill in mid-line would leave it
    report = orchestrator().run(source, tmp_path / "out", resume=True)
    assert parts(tmp_path / "out") == parts(tmp_path / "whole")
    assert report.layers == whole.layers
    journalled = [
        name for name, before in finished.items() if before.st_ino == inode(tmp_path / "out" / name)
    ]
    if stage == "unit":
        assert len(journalled) >= 3
        for name in journalled:
            assert (tmp_path / "out" / name).stat().st_mtime_ns == finished[name].st_mtime_ns
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "out", "whole"]


def inode(path: Path) -> int:
    return path.stat().st_ino


@pytest.mark.usefixtures("small_parts")
def test_without_resume_it_starts_over(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    source = make_checkpoint()
    kill_after("unit", source, tmp_path / "out")
    orchestrator(bit_width=2).run(source, tmp_path / "out")
    assert {option.bits for option in wb.load(tmp_path / "out").plan.choices.values()} == {2}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "out"]


@pytest.mark.usefixtures("small_parts")
def test_another_run_cannot_be_resumed(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    source = make_checkpoint()
    partial = kill_after("unit", source, tmp_path / "out")
    before = parts(partial)
    with pytest.raises(wb.ValidationError, match="had another configuration"):
        orchestrator(bit_width=2).run(source, tmp_path / "out", resume=True)
    other = make_checkpoint({"blocks.0.fc.weight": np.eye(64, dtype=np.float32)}, "other")
    with pytest.raises(wb.ValidationError, match="had another checkpoint"):
        orchestrator().run(other, tmp_path / "out", resume=True)
    assert parts(partial) == before


@pytest.mark.usefixtures("small_parts")
def test_a_damaged_finished_part_is_noticed(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    source = make_checkpoint()
    partial = kill_after("unit", source, tmp_path / "out")
    part = sorted(partial.glob("part-*.parquet"))[-1]  # the last is written first
    part.write_bytes(part.read_bytes()[:-10])
    with pytest.raises(wb.MetadataError, match=part.name):
        orchestrator().run(source, tmp_path / "out", resume=True)
    assert not (tmp_path / "out").exists()


def test_a_run_stopped_at_its_last_step_goes_on(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    """The side files are there already, which is no conflict."""
    source = make_checkpoint()

    def stop(fraction: float, message: str) -> None:
        if fraction == 1.0:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        orchestrator().run(source, tmp_path / "out", resume=True, callback=stop)
    assert (tmp_path / ".out.partial" / "config.json").exists()
    orchestrator().run(source, tmp_path / "out", resume=True)
    assert wb.verify(tmp_path / "out", source).ok


@pytest.mark.parametrize("name", ["part-00000.parquet", "journal.jsonl", "lock"])
def test_a_side_file_takes_no_other_files_place(
    make_checkpoint: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    source = make_checkpoint()
    (source / name).write_text("mine")
    side = SideFile(name, source / name)
    monkeypatch.setattr("workbench.checkpoint.checkpoint.find_side_files", lambda *_: (side,))
    with pytest.raises(wb.ValidationError, match=f"side file {name}"):
        orchestrator().run(source, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
