"""Guards the README: its commands run, its code runs, and its figures are those that the commands print."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import duckdb
import pytest

import workbench as wb
from workbench.__main__ import run

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+\.?\d*(?:e[+-]\d+)?", text)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the demo was run with ``--out exports``."""
    folder = tmp_path_factory.mktemp("readme")
    assert run(["demo", "--out", str(folder / "exports")]) == 0
    return folder


@pytest.fixture(scope="module")
def reports(demo: Path) -> dict[str, Any]:
    return {folder.name: wb.load(folder).report for folder in (demo / "exports").iterdir()}


def test_the_table_of_the_demo_is_what_it_prints(reports: dict[str, Any]) -> None:
    (table,) = blocks("text")
    rows = {line.split()[0]: line.split()[1:] for line in table.splitlines() if " yes " in line}
    assert rows.keys() == reports.keys()
    for name, (size, ratio, bpw, nsr, cosine, *_) in rows.items():
        report = reports[name]
        assert float(size) == pytest.approx(report["model_size_mb"], rel=0.002)
        assert float(ratio) == pytest.approx(report["compression_ratio"], rel=0.003)
        assert float(bpw) == pytest.approx(report["bpw"], rel=0.001)
        assert float(nsr) == pytest.approx(report["nsr"], rel=0.01)
        assert float(cosine) == pytest.approx(report["cosine_similarity"], abs=2e-5)
    first = reports["8-bit"]
    facts = f"{len(first['layers'])} layers", f"{first['source_bytes'] / 1e6:.3f} MB"
    assert all(fact in table for fact in facts)


def test_what_it_says_of_the_mixed_export_is_so(reports: dict[str, Any]) -> None:
    assert "three\ntimes the NSR of `4-bit` and is smaller" in README
    assert round(reports["mixed"]["nsr"] / reports["4-bit"]["nsr"]) == 3
    assert reports["mixed"]["actual_bytes"] < reports["4-bit"]["actual_bytes"]


def test_the_picture_is_drawn_from_these_numbers(reports: dict[str, Any]) -> None:
    place = REPOSITORY / "notebooks" / "images"
    spec = importlib.util.spec_from_file_location("draw_demo", place / "draw_demo.py")
    assert spec
    assert spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    runs = [{"name": name, "report": report} for name, report in reports.items()]
    drawn = "\n".join(script.draw({"model": "zoo:digits-dit", "runs": runs})) + "\n"
    shipped = (place / "demo.svg").read_text(encoding="utf-8")
    assert re.sub(r"\d+\.\d+", "#", drawn) == re.sub(r"\d+\.\d+", "#", shipped)
    assert numbers(drawn) == pytest.approx(numbers(shipped), abs=0.5)  # half a pixel


def test_the_query_gives_the_table_below_it(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(demo)
    (query,) = blocks("sql")
    found = duckdb.execute(query).fetchall()
    shown = re.findall(r"^\| ((?:int\d|none) \|.*) \|$", README, re.MULTILINE)
    assert [tuple(map(str, row)) for row in found] == [tuple(row.split(" | ")) for row in shown]


def test_the_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = blocks("python")
    assert len(code) == 5
    for block in code:
        exec(compile(block, "README.md", "exec"), {})


def test_the_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("workbench ")]
    assert len(lines) == 7
    for line in lines:
        assert run(shlex.split(line)[1:]) == 0


def test_the_table_of_settings_is_that_of_the_profiles() -> None:
    profiles = {name: wb.DiffusionQuantConfig.from_profile(name) for name in ("edge", "local", "cloud")}
    section = README.split("\n## Configuration\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \| (.*?) \|", section, re.MULTILINE)
    assert len(rows) == 12
    for key, *shown in rows:
        values = [getattr(config, key) for config in profiles.values()]
        assert shown == [json.dumps(value) for value in values]


def test_every_key_it_names_exists() -> None:
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", README))
    assert named - {"group_size"} <= set(wb.DiffusionQuantConfig.model_fields)


def test_ci_runs_the_two_commands_of_the_readme() -> None:
    script = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
    function = re.search(r"^readme_commands\(\) \{.*?^\}", script, re.MULTILINE | re.DOTALL)
    assert function
    done = subprocess.run(
        ["bash", "-c", f"{function[0]}\nreadme_commands"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    first, second = done.stdout.split("\0")[1:]
    assert first == "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/workbench demo\n"
    assert second == ".venv/bin/pip install '.[test]' && .venv/bin/pytest\n"
