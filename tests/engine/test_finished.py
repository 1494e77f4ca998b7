"""Guards what happens around an output folder: a finished one, ``~`` in its name, side files that are unreadable."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import workbench as wb
from workbench.__main__ import run
from workbench.checkpoint import Checkpoint, SideFile, open_checkpoint
from workbench.engine.output.partial_folder import export_folder
from workbench.engine.output.side_files import place_side_files, require_readable
from workbench.plan import KEEP

Make = Callable[..., Path]
Capture = pytest.CaptureFixture[str]


def test_a_finished_export_is_left_as_it_is(make_checkpoint: Make, tmp_path: Path) -> None:
    source, out = make_checkpoint(), tmp_path / "out"
    engine = wb.DiffusionOrchestrator(wb.DiffusionQuantConfig(bit_width=3))
    first = engine.run(source, out)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert engine.run(source, out, resume=True) == first
    more_threads = wb.DiffusionQuantConfig(bit_width=3, num_threads=1)
    assert wb.DiffusionOrchestrator(more_threads).run(source, out, resume=True) == first
    plan = wb.load(out).plan
    assert engine.run(source, out, plan=plan, resume=True) == first

    with pytest.raises(wb.ValidationError, match="exists already"):
        engine.run(source, out)
    with pytest.raises(wb.ValidationError, match="with another bit_width"):
        wb.DiffusionOrchestrator(wb.DiffusionQuantConfig(bit_width=4)).run(source, out, resume=True)
    elsewhere = make_checkpoint({"a.fc1.weight": np.ones((8, 64), np.float32)}, "elsewhere")
    with pytest.raises(wb.ValidationError, match="with another checkpoint"):
        engine.run(elsewhere, out, resume=True)
    name = "proj_out.weight"
    kept = wb.Option(32, KEEP, 0, 4 * 12 * 48)
    other = replace(plan, choices={**plan.choices, name: kept})
    with pytest.raises(wb.ValidationError, match="with another plan"):
        engine.run(source, out, plan=other, resume=True)
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_resuming_what_is_finished_is_no_error_on_the_command_line(
    make_checkpoint: Make, tmp_path: Path, capsys: Capture
) -> None:
    given = ["quantize", str(make_checkpoint()), str(tmp_path / "out"), "--resume", "--json"]
    assert run(given) == 0
    first = json.loads(capsys.readouterr().out)
    assert run(given) == 0
    assert json.loads(capsys.readouterr().out) == first
    assert run(given[:-1]) == 0
    assert "was finished before" in capsys.readouterr().err


def test_a_home_is_told_from_a_folder_of_that_name(
    make_checkpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, work = tmp_path / "home", tmp_path / "work"
    (work / "~").mkdir(parents=True)
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(work)
    source = str(make_checkpoint())
    assert run(["quantize", source, "~/quoted", "--json"]) == 0
    assert (home / "quoted" / "workbench.json").is_file()
    assert run(["inspect", "~/quoted", "--json"]) == 0
    assert run(["verify", "~/quoted", "--source", source, "--json"]) == 0
    assert run(["quantize", source, "./~/here", "--json"]) == 0
    assert (work / "~" / "here" / "workbench.json").is_file()
    (work / "~").rename(work / "other")
    assert run(["quantize", source, "./~", "--json"]) == 0
    assert (work / "~" / "workbench.json").is_file()
    assert run(["verify", "./~", "--source", source, "--json"]) == 0
    shutil.rmtree(work / "~")
    wb.DiffusionOrchestrator().run(source, "./~")
    assert (work / "~" / "workbench.json").is_file()
    shutil.rmtree(work / "~")
    (work / "other").rename(work / "~")
    wb.DiffusionOrchestrator().run(source, "~/python")
    assert wb.load("~/python").path == home / "python"
    assert export_folder(Path("~/in a folder of that name")) == Path("~/in a folder of that name")
    (work / "~" / "here").rename(work / "here")
    (work / "~").rmdir()
    assert export_folder(Path("~/at home")) == home / "at home"


@pytest.fixture
def with_unreadable(make_checkpoint: Make, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint beside which lies a README.md that cannot be read; root reads everything, so a folder stands in."""
    source = make_checkpoint()
    (source / "README.md").mkdir()
    beside = Checkpoint.side_files.func  # type: ignore[attr-defined]
    broken = SideFile("README.md", source / "README.md")
    monkeypatch.setattr(Checkpoint, "side_files", property(lambda self: (*beside(self), broken)))
    return source


def test_an_unreadable_side_file_is_named_before_work(with_unreadable: Path, tmp_path: Path) -> None:
    with pytest.raises(wb.ValidationError, match="cannot be read") as caught:
        wb.DiffusionOrchestrator().run(with_unreadable, tmp_path / "out")
    assert caught.value.path == with_unreadable / "README.md"
    assert "Free some space" not in str(caught.value)
    assert not list(tmp_path.glob("*out*"))
    with open_checkpoint(with_unreadable) as checkpoint:
        with pytest.raises(wb.ValidationError, match=r"README\.md"):
            require_readable(checkpoint)
        with pytest.raises(wb.ValidationError, match=r"README\.md"):
            place_side_files(checkpoint, tmp_path, {}, ())
